"""tools/judging.py: what holds for every check of the course, whatever the exercise."""

import importlib
import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
from checking import (
    CHECK_FILES,
    CHECKS,
    SOLUTION_FILES,
    SOLUTIONS,
    cases,
    checks,
    functions,
    warnings_out_of,
    written,
)

import gpt2
from tools import judging

pytestmark = pytest.mark.filterwarnings("error")

# ---- right answers -----------------------------------------------------------------------------------------


def test_every_check_has_a_solution_of_the_same_name_and_every_solution_a_check():
    for judged, answered in zip(CHECK_FILES, SOLUTION_FILES, strict=True):
        assert judged.stem[-2:] == answered.stem[-2:]
        assert checks(judged).keys() == functions(answered).keys() != set()


def test_no_two_exercises_of_the_course_have_the_same_name():
    names = [name for file in CHECK_FILES for name in checks(file)]
    assert sorted(names) == sorted(set(names))


def test_every_file_of_checks_has_a_file_of_tests():
    tests = sorted(path.name for path in Path(__file__).parent.glob("test_checks*.py"))
    assert tests == [f"test_{file.name}" for file in CHECK_FILES] != []


TABLES = [importlib.import_module(f"test_{file.stem}") for file in CHECK_FILES]  # the answers of each
RIGHT = {name: answers for table in TABLES for name, answers in table.RIGHT.items()}
WRONG = {name: answers for table in TABLES for name, answers in table.WRONG.items()}
OF_ARRAYS = [name for table in TABLES for name in getattr(table, "OF_ARRAYS", [])]


def test_every_check_is_tried_with_many_wrong_answers_and_several_right_ones():
    for table, file in zip(TABLES, CHECK_FILES):
        assert table.RIGHT.keys() == table.WRONG.keys() == checks(file).keys()
    assert all(len(RIGHT[name]) >= 2 and len(WRONG[name]) >= 6 for name in RIGHT)


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_a_different_right_answer_passes(verdict, name, body):
    assert verdict(name, written(name, body)).startswith("passes.\n")


@pytest.mark.parametrize("name, body, words", cases(WRONG))
def test_a_wrong_answer_is_given_its_cause(verdict, name, body, words):
    said = verdict(name, written(name, body))
    assert said.startswith("your code " if words.startswith("raised") else "not yet. ")
    assert words in said.splitlines()[0]


@pytest.mark.parametrize("name, mistake, shown", [case for table in TABLES for case in table.FIRST_SHOWN])
def test_the_first_case_that_fails_is_shown(verdict, name, mistake, shown):
    body, _ = WRONG[name][mistake]
    assert verdict(name, written(name, body)).splitlines()[1].startswith(f"  {shown}")


@pytest.mark.parametrize("name", WRONG)
def test_a_check_shows_no_warnings(verdict, name):
    body, _ = next(iter(WRONG[name].values()))
    assert warnings_out_of(verdict, name, written(name, body)) == []


@pytest.mark.parametrize("name", CHECKS)
def test_every_solution_passes(verdict, name):
    assert verdict(name, SOLUTIONS[name]).startswith("passes.\n") and judging.passed(SOLUTIONS[name])


@pytest.mark.parametrize("name", CHECKS)
def test_a_stub_is_not_tried_yet(verdict, name):
    assert verdict(name, written(name, "raise NotImplementedError")) == "not tried yet.\n"


# ---- what is shown -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer_norm", "attention"])
def test_the_models_numbers_are_tried_too_and_shown_in_a_few_lines(verdict, models_own, name):
    def right_for_few_tokens(first, *others):
        return SOLUTIONS[name](first, *others) + (len(first) > 5)

    lines = verdict(name, right_for_few_tokens).splitlines()
    n_seq, n = models_own[name][0].shape
    assert f"  got       [{n_seq}, {n}]  [[" in "\n".join(lines) and any("..." in line for line in lines)
    assert len(lines) <= 30 and max(map(len, lines)) <= 110


def test_long_rows_continue_below_their_first_number():
    lines = judging.shown(np.arange(30) + 1000).splitlines()
    assert len(lines) == 2 and lines[0].startswith("[30]  [1000 ")
    assert (" " * len("  got       ") + lines[0]).index("1000") == lines[1].index("10")


def test_the_message_about_a_large_answer_is_short(verdict):
    for name, value in (
        ("same", "np.arange(999)"),
        ("look_back", "[np.eye(9)] * 9"),
        ("diagnose", "'a bug ' * 99"),
        ("attend", "{'a': ['weight'] * 99}"),
        ("generate", "np.zeros((99, 99))"),
    ):
        said = verdict(name, written(name, f"return {value}"))
        assert "..." in said and len(said) < 270
        assert len(said.splitlines()) == (5 if name == "generate" else 1)


# ---- unexpected answers ------------------------------------------------------------------------------------

ODD = {
    "None": "None",
    "a word": "'softmax'",
    "bytes": "b'1'",
    "rows of two lengths": "[[1, 2], [3]]",
    "an empty array": "np.zeros(0)",
    "seven axes": "np.zeros([1] * 7)",
    "complex numbers": "np.ones(2) * 1j",
    "words": "np.array(['a', 'b'])",
    "objects": "np.array([None, {}])",
    "a dict": "{'q': 1, 'k': 2}",
    "a set": "{1, 2}",
    "a function": "np.exp",
    "a type": "np.float32",
    "a generator": "(i for i in range(2))",
    "NaN": "np.nan",
    "infinity": "-np.inf",
    "a number": "np.float32(0.5)",
    "an array without axes": "np.array(3)",
    "dates": "np.array(['2019-02-14'], dtype='datetime64[D]')",
}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_whatever_is_returned_one_message_says_what_is_wrong(verdict, name, value):
    said = verdict(name, written(name, f"return {value}"))
    assert said.startswith("not yet. ") and "numbers differ" not in said.lower()


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_anything_that_is_not_an_array_of_numbers_is_reported_as_such(verdict, name):
    for value in ("a word", "complex numbers", "objects", "a dict", "a generator", "dates"):
        said = verdict(name, written(name, f"return {ODD[value]}"))
        assert said.startswith("not yet. It should return an array of real numbers, but it returned ")
    said = verdict(name, written(name, "return [[1, 2], [3]]"))
    assert "should return an array, but it returned [[1, 2], [3]], which NumPy cannot turn into one." in said


@pytest.mark.parametrize("name", [*OF_ARRAYS, "generate", "count_parameters"])
def test_a_missing_return_is_reported_as_such(verdict, name):
    assert verdict(name, written(name, "pass")) == "not yet. It returned None: is a return missing?\n"


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_causes_that_the_result_alone_shows_are_reported(verdict, name):
    for factor, words in (
        (np.nan, "The result has NaN in it"),
        (np.inf, "The result has"),
        (0, "All numbers are 0"),
    ):
        said = verdict(name, lambda *given, factor=factor: SOLUTIONS[name](*given) * np.float32(factor))
        assert said.startswith(f"not yet. {words}")
    assert verdict(name, lambda *given: np.abs(SOLUTIONS[name](*given)) / 0).startswith(
        "not yet. The result has infinity in it"
    )
    assert "The shape should be" in verdict(name, lambda *given: SOLUTIONS[name](*given)[None])


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_a_right_answer_in_float64_is_reported_as_such(verdict, name):
    for dtype in ("float64", np.dtype(np.longdouble).name):
        said = verdict(name, lambda *given, dtype=dtype: SOLUTIONS[name](*given).astype(dtype))
        assert said.startswith(f"not yet. The numbers are right, but in {dtype}: something widens float32")
        assert said.endswith("a list of numbers are float64; 2**0.5 and np.zeros_like(x) are not.\n")
    said = verdict(name, lambda *given: SOLUTIONS[name](*given).tolist())
    assert said.startswith("not yet. The numbers are right, but in float64") and len(said.splitlines()) == 1


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_for_a_wrong_answer_in_float64_the_mistake_is_reported_first(verdict, name):
    said = verdict(name, lambda *given: SOLUTIONS[name](*given).astype(float) + 0.01)
    assert "expected" in said and "float64" not in said


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_a_small_error_is_not_taken_for_noise(verdict, name):
    for error, words in ((3e-5, "not yet. The numbers differ.\n"), (3e-7, "passes.\n")):
        factor = np.float32(1 + error)
        said = verdict(name, lambda *given, factor=factor: SOLUTIONS[name](*given) * factor)
        assert said.startswith(words)


@pytest.mark.parametrize("name", CHECKS)
def test_an_error_in_the_answer_is_shown_with_its_line(verdict, name):
    body = "numbers = [1, 2]\nif numbers:\n    return numbers[2]  # one too far"
    assert verdict(name, written(name, body)).startswith(
        "your code raised IndexError: list index out of range\n"
        "  in your line   return numbers[2]  # one too far\n"
    )


def test_of_several_lines_the_one_that_failed_is_shown(verdict):
    said = verdict("attend", written("attend", "weights = softmax(q @ k)\nreturn gpt2.linear(weights, v)"))
    assert said.startswith("your code raised ValueError: matmul")
    assert "\n  in your line   weights = softmax(q @ k)\n" in said


def test_an_error_of_numpys_is_shown_with_the_shapes_that_were_passed(verdict):
    said = verdict("attend", written("attend", "return softmax(q @ k) @ v"))
    assert said.endswith("\n  it was given   q [3], k [2, 3], v [2, 3]\n")


def test_the_line_shown_is_the_answers_even_if_gpt2_has_a_function_of_the_same_name(verdict):
    said = verdict("softmax", written("softmax", "return gpt2.softmax(list(x) + [None])"))
    assert said.startswith("your code raised TypeError: ")
    assert "\n  in your line   return gpt2.softmax(list(x) + [None])\n" in said


def test_an_error_without_a_message_or_a_source_line_is_shown_without_them(verdict):
    names = {}
    exec("def softmax(x):\n    assert False", names)
    assert verdict("softmax", names["softmax"]) == "your code raised AssertionError\n  it was given   x [2]\n"


def test_anything_that_is_not_a_function_gets_pythons_own_error(verdict):
    said = verdict("softmax", np.zeros(3))
    assert said.startswith("your code raised TypeError: 'numpy.ndarray' object is not callable\n")
    assert "missing 1 required positional argument: 'axis'" in verdict("softmax", lambda x, axis: x)


@pytest.mark.parametrize("name", CHECKS)
def test_an_answer_that_calls_itself_forever_is_reported(verdict, name):
    line = f"return {name}({', '.join(inspect.signature(SOLUTIONS[name]).parameters)})"
    said = verdict(name, written(name, line))
    assert said.startswith("your code raised RecursionError: ")
    assert f"\n  in your line   {line}\n" in said and len(said.splitlines()) <= 3


@pytest.mark.parametrize("name", CHECKS)
def test_a_reader_can_interrupt(capsys, models_own, name):
    with pytest.raises(KeyboardInterrupt):
        CHECKS[name](written(name, "raise KeyboardInterrupt"), *models_own.get(name, ()))
    assert capsys.readouterr() == ("", "")


def test_a_check_leaves_numpys_and_pythons_settings_as_they_were(verdict):
    before = np.geterr(), list(warnings.filters)
    with np.errstate(all="raise"):
        assert verdict("softmax", SOLUTIONS["softmax"]) == "passes.\n"
        overflowing = written("softmax", "e = np.exp(x); return e / e.sum(-1, keepdims=True)")
        assert "overflows" in verdict("softmax", overflowing)
    verdict("softmax", lambda x: np.seterr(all="raise") and warnings.simplefilter("always"))
    assert (np.geterr(), list(warnings.filters)) == before


@pytest.mark.parametrize("name", [*OF_ARRAYS, "generate", "same"])
def test_an_answer_is_given_copies(verdict, models_own, name):
    given = inspect.signature(SOLUTIONS[name]).parameters
    own = [np.array(array) for array in models_own.get(name, ()) if np.ndim(array)]
    for changed in list(given)[:1] if name == "generate" else list(given):
        if changed != "eps":
            answer = written(name, f"{changed}[0] = {changed}[0] + 1\nreturn {changed}")
            assert "changes" in verdict(name, answer).split(":")[0]
    kept = [np.array(array) for array in models_own.get(name, ()) if np.ndim(array)]
    assert all(map(np.array_equal, own, kept))


# ---- what the checks rely on -------------------------------------------------------------------------------


def test_close_means_the_same_shape_and_a_small_difference_as_a_share_of_the_largest():
    a = np.float32([1, -100, 0])
    assert judging.close(a, a, 0)
    for difference, near in ((9e-4, True), (-9e-4, True), (2e-3, False), (-2e-3, False)):
        assert judging.close(a + np.float32(difference), a, 1e-5) is near
    assert not judging.close(a[None], a, 1e-5) and not judging.close(a[:1], a, 1)
    assert not judging.close(a, np.float32([1, -100, np.nan]), 1e-5)
    assert not judging.close(np.float32([1, np.nan, 0]), a, 1e-5)
    odd = np.float32([np.nan, np.inf, -np.inf, 1])
    assert judging.close(odd, odd, 1e-5) and not judging.close(odd, odd[[1, 0, 2, 3]], 1e-5)
    assert not judging.close(odd, odd[[0, 2, 1, 3]], 1e-5) and not judging.close(odd + 1, odd, 1e-5)


def test_in_the_small_model_the_next_id_depends_on_the_ids_before_it():
    params, n_head = judging.small_model()
    for prompt in ([3], [1, 4, 1, 5]):
        ids = [*prompt, *gpt2.stream(prompt, params, n_head, 5)]
        logits = gpt2.gpt2(ids, **params, n_head=n_head)[len(prompt) - 1 :]
        best, second = np.sort(logits, axis=-1)[:, ::-1][:, :2].T
        assert len(set(ids[len(prompt) :])) >= 3 and (best - second).min() > 1e-3
