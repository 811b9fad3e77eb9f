"""What notebooks use besides the checks: predictions, sliders, the learner's function, and the prompt."""

import sys

import numpy as np
import pytest

import gpt2
from extras import plots
from tools import judging, play, prompts
from tools.predict import predicted
from tools.yours import yours, yours_or

# ---- predictions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guess, truth, words",
    [
        (0.5, 0.25, "too high, by a factor of 2"),
        (0.25, 0.5, "too low, by a factor of 2"),
        (3, 3, "right"),
        (4.1, 4.09, "right, or nearly"),
        (5, 3, "2 too high"),
        (5, np.int64(3), "2 too high"),
        (-1, 2.0, "3 too low"),
        (0, 0.5, "0.5 too low"),
        ("Wolf", " wolf", "right"),
        ("␣wolf", " wolf", "right"),
        ("dog", " wolf", "not this time"),
        (["a", "b", "c"], ["b", "a", "c"], "1 of 3 in the right place"),
        (("a", "b"), ["a", "b"], "2 of 2 in the right place"),
        ("a", ["a", "b"], "a list of 2 was asked for"),
        (["a", "b", "c"], ["a", "b"], "a list of 2 was asked for"),
        ("many", 3, "a number was asked for"),
        (np.float32(2), np.float32(4), "too low, by a factor of 2"),
    ],
)
def test_a_prediction_is_compared_with_what_is_true(capsys, guess, truth, words):
    predicted(guess, truth)
    assert capsys.readouterr().out.splitlines()[2].strip() == words


def test_without_a_prediction_it_says_how_to_make_one_and_shows_what_is_true(capsys):
    predicted(None, 1234, "tokens")
    asked, truth = capsys.readouterr().out.splitlines()
    assert "write it after `guess =`" in asked and truth.split()[-2:] == ["1,234", "tokens"]


# ---- the learner's function in the model -------------------------------------------------------------------


@judging.check
def softmax(f):
    judging.compare(f, [({"x": judging.float32([0, 0])}, judging.float32([0.5, 0.5]), {})])


def test_an_answer_that_passed_is_used_by_the_model_and_only_inside_the_with(capsys):
    def halves(x):
        return np.full_like(x, 0.5)

    with yours(halves, name="softmax"):
        assert gpt2.softmax is not halves
    softmax(halves)
    before = gpt2.softmax
    with yours(halves, name="softmax"):
        assert gpt2.softmax is halves
    assert gpt2.softmax is before
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "softmax is the package's: yours has not passed yet.",
        "softmax: passes.",
        "softmax is yours.",
    ]


def test_an_answer_with_other_parameters_is_used_as_it_was_adapted():
    def halves(x):
        return np.full_like(x, 0.5)

    softmax(halves)
    with yours(halves, adapted=lambda x: halves(x) + 1, name="softmax"):
        assert gpt2.softmax(np.zeros(2)).tolist() == [1.5, 1.5]


def test_an_answer_that_failed_or_was_written_again_is_not_used():
    def wrong(x):
        return x

    def halves(x):
        return np.full_like(x, 0.5)

    softmax(wrong)
    softmax(halves)
    assert judging.passed(halves) and not judging.passed(wrong)

    def halves(x):
        return x / 2

    assert not judging.passed(halves)


def test_a_name_that_gpt2_lacks_is_an_error():
    with pytest.raises(AttributeError), yours(lambda x: x, name="no_such_function"):
        pass


def test_where_the_model_has_no_such_function_yours_is_returned_if_it_passed(capsys):
    def halves(x):
        return np.full_like(x, 0.5)

    assert yours_or(halves, gpt2.softmax) is gpt2.softmax
    softmax(halves)
    assert yours_or(halves, gpt2.softmax) is halves
    said = capsys.readouterr().out.splitlines()
    assert said == ["halves: yours has not passed yet.", "softmax: passes.", "halves is yours."]


# ---- sentences and numbers ---------------------------------------------------------------------------------


@judging.check
def chosen(f):
    return judging.choose(f, "b", {"a": "It is not a.", "c": "It is not c."})


@judging.check
def estimated(f):
    return judging.estimate(f, 1000, 2, "bytes", low="Count both.", high="Count once.")


@pytest.mark.parametrize("answer", ["b", "B", " b) ", "(b)", "b."])
def test_the_true_sentence_passes_and_the_others_are_said_to_be_false(capsys, answer):
    chosen(lambda: answer)
    assert capsys.readouterr().out == "chosen: passes.\n  a) It is not a.\n  c) It is not c.\n"


def test_a_false_sentence_is_told_why_and_anything_else_which_letters_there_are(capsys):
    for answer in ("c", "d", 2, None, "", ["b"]):
        chosen(lambda answer=answer: answer)
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "chosen: not yet. c) is false. It is not c."
    assert len(others) == 5 and all("one of the letters a, b, c" in line for line in others)


@pytest.mark.parametrize("answer", [500, 2000, 1000.0, np.float32(1500), np.array(1500)])
def test_an_estimate_within_the_factor_passes_and_is_shown_beside_the_truth(capsys, answer):
    estimated(lambda: answer)
    said = capsys.readouterr().out
    assert said.startswith("estimated: passes.\n  You said ") and "it is 1,000" in said


def test_an_estimate_that_is_too_far_off_is_told_in_which_direction(capsys):
    for answer in (499.0123456, 2001, 0, -1000, np.nan, np.inf, True, "1000", None, [1000]):
        estimated(lambda answer=answer: answer)
    low, high, *others = capsys.readouterr().out.splitlines()
    assert low == "estimated: not yet. 499 bytes is too low, by more than a factor of 2. Count both."
    assert high.endswith("too high, by more than a factor of 2. Count once.")
    assert len(others) == 8 and all("Return a positive number of bytes" in line for line in others)


# ---- sliders -----------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(play, "show", lambda figure, alt: found.append((figure, alt)))
    return found


def panel(axes, value):
    axes.plot([0, value])
    return f"up to {value}"


@pytest.mark.parametrize("still", [True, False])
def test_without_sliders_a_few_states_stand_side_by_side(monkeypatch, shown, still):
    if still:
        monkeypatch.setenv("PLAINGPT_STILL", "1")
    else:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    play.slide(panel, "layer", range(10))
    play.slide(panel, "layer", range(10), few=[2, 5])
    play.slide(panel, "layer", [7])
    (_, four), (figure, two), (_, one) = shown
    assert four == "layer 0: up to 0 layer 3: up to 3 layer 6: up to 6 layer 9: up to 9"
    assert two == "layer 2: up to 2 layer 5: up to 5" and one == "layer 7: up to 7"
    assert len(figure.axes) == 2 and figure.get_size_inches()[0] == plots.WIDTH


def test_in_a_live_notebook_the_slider_draws_one_state(monkeypatch, shown):
    widgets = pytest.importorskip(
        "ipywidgets", reason="ipywidgets is not installed: see requirements-course.txt"
    )
    monkeypatch.delenv("PLAINGPT_STILL", raising=False)
    made = []
    monkeypatch.setattr(widgets, "interact", lambda f, value: made.append((f, value)))
    play.slide(panel, "layer", range(10))
    ((draw, slider),) = made
    assert [*slider.options] == [*range(10)] and slider.description == "layer"
    draw(4)
    assert [alt for _, alt in shown] == ["layer 4: up to 4"]


# ---- the prompt --------------------------------------------------------------------------------------------


def test_a_prompt_is_encoded_if_there_is_room_for_it(tiny):
    encoder = tiny[0]
    assert prompts.ids_of("The little fox", encoder) == encoder.encode("The little fox")
    for prompt, words in (
        ("", "0 tokens, but 2 to 5 are needed here: write a longer one"),
        ("fox " * 30, "shorten it"),
    ):
        with pytest.raises(ValueError, match=words):
            prompts.ids_of(prompt, encoder, at_most=5)


class Letters:
    """A vocabulary of the alphabet."""

    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


@pytest.mark.parametrize(
    "text, places, words",
    [
        ("abcdb", (4, 2), ""),
        ("ababa", (4, 3), ""),  # of two earlier ones, the later
        ("abcbd", (3, 2), "The last repeated one is 'b', token 3"),
        ("abcd", (3, 0), "No token of this prompt is repeated"),
        ("abb", (2, 0), "No token of this prompt is repeated"),  # nothing stands between
        ("a", (0, 0), "No token of this prompt is repeated"),
    ],
)
def test_the_repeated_token_and_what_came_after_it_are_found(capsys, text, places, words):
    ids = [ord(character) - 97 for character in text]
    assert prompts.came_before(ids, Letters()) == places
    said = capsys.readouterr().out
    assert words in said and bool(said) == bool(words)
