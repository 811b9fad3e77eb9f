"""The slow reference agrees with gpt2, and each planted bug shows up first where its sign says."""

import ast
import contextlib
import inspect

import numpy as np
import pytest
from helpers import SMALL, as_transformers, lively_params

import gpt2
from extras import inside, style
from extras.huggingface.variants import exact_gelu
from tools import bugs, checks09, pictures09, reference
from weights import flatten, nest

TEXT = "The little fox looked at the old wolf, and the old"
SAME = 1e-5


def difference(found, expected, axes=None):
    """The largest difference, over these axes, as a share of the largest number expected."""
    assert np.shape(found) == np.shape(expected)
    return np.abs(found - expected).max(axis=axes) / np.abs(expected).max()


@pytest.fixture(scope="module", params=["tiny", "lively"])
def model(request, tiny):
    """ids, params, hparams"""
    if request.param == "tiny":
        return tiny[0].encode(TEXT), tiny[2], tiny[1]
    return [5, 9, 5, 80, 3, 11, 0], lively_params(SMALL, seed=0), SMALL


def widened(params):
    return nest({name: array.astype(float) for name, array in flatten(params).items()})


@pytest.mark.parametrize("change, tolerance", [(dict, SAME), (widened, 1e-12)])
def test_gpt2_agrees_with_the_reference_and_in_float64_to_twelve_digits(model, change, tolerance):
    ids, params, hparams = model
    logits, blocks = reference.forward(ids, params, hparams["n_head"])
    assert logits.dtype == np.float64
    weights = change(params) | {"n_head": hparams["n_head"]}
    assert difference(gpt2.gpt2(ids, **weights), logits) <= tolerance
    for ours, wanted in zip(inside.steps(ids, **weights), blocks, strict=True):
        assert list(ours) == list(wanted)
        for name, array in wanted.items():
            assert array.dtype == np.float64 and difference(ours[name], array) <= tolerance, name


@pytest.mark.parity
def test_transformers_agrees_with_the_reference_in_float64_to_nine_digits(transformers, model):
    import torch

    ids, params, hparams = model
    judge = as_transformers(flatten(params), hparams).double()
    with torch.no_grad():
        wanted = judge(torch.tensor([ids])).logits[0].numpy()
    assert wanted.dtype == np.float64
    assert difference(reference.forward(ids, params, hparams["n_head"])[0], wanted) <= 1e-9


def test_the_reference_shares_nothing_with_what_it_judges():
    nodes = list(ast.walk(ast.parse(inspect.getsource(reference))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"math", "numpy"} and not any(isinstance(node, ast.ImportFrom) for node in nodes)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_error_is_the_largest_difference_as_a_share_of_the_largest_number_expected(shape):
    expected = np.random.default_rng(0).normal(size=shape)
    found, expected[..., 2, 3] = expected + np.random.default_rng(1).normal(size=shape), -8
    wanted = [0.0] * shape[-2]
    for place in np.ndindex(*shape):
        wanted[place[-2]] = max(wanted[place[-2]], abs(found[place] - expected[place]) / 8)
    assert np.allclose(reference.error_by_position(found, expected), wanted, rtol=1e-12)
    assert np.isclose(reference.error(found, expected), max(wanted), rtol=1e-12)


# ---- the bugs ----------------------------------------------------------------------------------------------

MIDDLE, LAST = 3, 11
EVERY = list(range(LAST + 1))
SIGNS = {  # the first wrong block and step, the positions at which it is wrong, and what is changed
    "positions from one": ((0, "x"), EVERY, {"wpe"}),
    "erf GELU": ((0, "act"), EVERY, {f"h{i}/mlp/act" for i in range(6)}),
    "projection transposed": ((MIDDLE, "attn"), EVERY, {f"h{MIDDLE}/attn/c_proj/w"}),
    "no scale": ((0, "weights"), EVERY[1:], {"attention_weights"}),
    "mask after softmax": ((0, "weights"), EVERY[:-1], {"attention_weights"}),
    "no mask": ((0, "weights"), EVERY[:-1], {"causal_mask"}),
    "mask off by one": ((0, "weights"), EVERY, {"causal_mask"}),
    "heads merged by reshape": ((0, "attn"), EVERY, {"merge_heads"}),
}


@pytest.fixture(scope="module")
def right(tiny):
    """Logits, and the steps of each block."""
    return reference.forward(tiny[0].encode(TEXT), tiny[2], tiny[1]["n_head"])


@pytest.fixture(scope="module")
def wrong(tiny):
    """The same for the models with a bug, by name and by letter."""
    found = {}
    for name in [*bugs.BUGS, *bugs.ANONYMOUS]:
        with bugs.planted(name, tiny[2]) as params:
            ids, weights = tiny[0].encode(TEXT), params | {"n_head": tiny[1]["n_head"]}
            found[name] = gpt2.gpt2(ids, **weights), list(inside.steps(ids, **weights))
    return found


def test_there_are_eight_bugs_each_with_a_sign_and_five_with_a_letter(wrong):
    assert len(bugs.BUGS) == 8 and bugs.BUGS.keys() == checks09.SIGNS.keys() == SIGNS.keys()
    assert list(bugs.ANONYMOUS) == list("ABCDE") and len({*bugs.ANONYMOUS.values()} & {*bugs.BUGS}) == 5
    for letter, name in bugs.ANONYMOUS.items():
        assert np.array_equal(wrong[letter][0], wrong[name][0])


@pytest.mark.parametrize("name", SIGNS)
def test_a_bug_gives_wrong_logits_and_shows_up_first_at_its_step_and_positions(right, wrong, name):
    assert difference(wrong[name][0], right[0]) > SAME
    first, positions, _ = SIGNS[name]
    for i, step in ((i, step) for i, block in enumerate(right[1]) for step in block):
        found, expected = wrong[name][1][i][step], right[1][i][step]
        if (i, step) == first:
            break
        assert difference(found, expected) <= SAME, (i, step)
    axes = (0, 2) if expected.ndim == 3 else 1
    assert np.flatnonzero(difference(found, expected, axes) > SAME).tolist() == positions


def test_each_bug_computes_what_its_name_says(tiny, right, wrong):
    ids, params, steps = tiny[0].encode(TEXT), tiny[2], {name: found[1] for name, found in wrong.items()}
    scores, seen = right[1][0]["q"] @ np.swapaxes(right[1][0]["k"], -1, -2), np.tri(LAST + 1)
    scaled, earlier = scores / 32**0.5, np.where(np.tri(LAST + 1, k=-1), 0, -1e10)
    for name, weights in {
        "no scale": gpt2.softmax(np.where(seen, scores, -np.inf)),
        "mask after softmax": gpt2.softmax(scaled) * seen,
        "no mask": gpt2.softmax(scaled),
        "mask off by one": gpt2.softmax(
            np.float32(scaled) + np.float32(earlier)
        ),  # the first sees all equally
    }.items():
        assert difference(steps[name][0]["weights"], weights) <= SAME, name
    assert np.array_equal(
        steps["positions from one"][0]["x"], params["wte"][ids] + params["wpe"][1 : LAST + 2]
    )
    transposed, merged = steps["projection transposed"][MIDDLE], steps["heads merged by reshape"][0]
    c_proj, first = (params["blocks"][i]["attn"]["c_proj"] for i in (MIDDLE, 0))
    side_by_side = np.concatenate(list(transposed["heads"]), axis=-1)
    assert difference(transposed["attn"], side_by_side @ c_proj["w"].T + c_proj["b"]) <= SAME
    reshaped = merged["heads"].reshape(LAST + 1, -1)
    assert difference(merged["attn"], reshaped @ first["w"] + first["b"]) <= SAME


def test_erf_gelu_is_slightly_and_equally_wrong_at_all_positions(right, wrong):
    logits, blocks = wrong["erf GELU"]
    at = difference(blocks[0]["act"], right[1][0]["act"], 1)
    assert at.max() < 2 * at.min() and difference(logits, right[0]) < 1e-3
    assert all(np.array_equal(block["act"], exact_gelu(block["c_fc"])) for block in blocks)


def test_row_sums_distinguish_a_missing_mask_from_a_late_one(wrong):
    missing, late = (wrong[name][1][0]["weights"].sum(axis=-1) for name in ("no mask", "mask after softmax"))
    assert np.allclose(missing, 1, atol=1e-6) and np.allclose(late[:, LAST], 1, atol=1e-6)
    assert late[:, :LAST].max() < 0.999


@pytest.mark.parametrize("name", SIGNS)
def test_a_bug_changes_one_thing_only_while_its_with_lasts_and_no_array_in_place(tiny, name):
    functions = {f: getattr(gpt2, f) for f in dir(gpt2) if callable(getattr(gpt2, f))}
    arrays = flatten(tiny[2])
    copies = {path: array.copy() for path, array in arrays.items()}
    for error in (None, KeyError):
        with contextlib.suppress(KeyError), bugs.planted(name, tiny[2]) as params:
            changed = {f for f in functions if getattr(gpt2, f) is not functions[f]}
            changed |= {path for path, array in flatten(params).items() if array is not arrays.get(path)}
            if error:
                raise error
        assert changed == SIGNS[name][2]
        assert all(getattr(gpt2, f) is functions[f] for f in functions)
    assert flatten(tiny[2]).keys() == arrays.keys()
    for path, array in flatten(tiny[2]).items():
        assert array is arrays[path] and np.array_equal(array, copies[path]), path


# ---- two at once, and every step judged by its own inputs --------------------------------------------------

OWN = {  # the steps that each bug makes wrong by themselves, in the blocks that have it
    "positions from one": [],  # it is before the first block
    "erf GELU": ["act"],
    "projection transposed": ["attn"],
    "no scale": ["weights"],
    "mask after softmax": ["weights"],
    "no mask": ["weights"],
    "mask off by one": ["weights"],
    "heads merged by reshape": ["attn"],
}


@pytest.mark.parametrize("name", ["clean", *OWN, *bugs.TWO_AT_ONCE])
def test_from_a_models_own_inputs_only_the_steps_with_a_bug_are_wrong(tiny, name):
    with bugs.planted(name, tiny[2]) as params:
        weights = params | {"n_head": tiny[1]["n_head"]}
        found = list(inside.steps(tiny[0].encode(TEXT), **weights))
    for i, (steps, block) in enumerate(zip(found, tiny[2]["blocks"], strict=True)):
        here = [bug for bug in bugs.bugs_of(name) if bug != "projection transposed" or i == MIDDLE]
        named = {step for bug in here for step in OWN[bug]}
        assert reference.faults(steps, block, tiny[1]["n_head"]) == [s for s in reference.STEPS if s in named]


def test_a_step_with_a_nan_in_it_is_wrong(tiny):
    n_head = tiny[1]["n_head"]
    steps = next(inside.steps(tiny[0].encode(TEXT), **tiny[2], n_head=n_head))
    steps["act"] = steps["act"].copy()
    steps["act"][0, 0] = np.nan
    assert "act" in reference.faults(steps, tiny[2]["blocks"][0], n_head)


def test_a_bug_is_named_alone_or_with_others():
    assert bugs.title("no mask") == "no mask" and bugs.title(["A", "no mask"]) == "A + no mask"
    assert bugs.listed("no mask") == ["no mask"] and bugs.listed(("A", "F")) == ["A", "F"]


def test_several_bugs_are_planted_at_once_and_taken_out_again(tiny):
    ids, n_head = tiny[0].encode(TEXT), tiny[1]["n_head"]
    names = ["erf GELU", "no mask", "projection transposed"]
    before = gpt2.causal_mask
    with bugs.planted(names, tiny[2]) as params:
        assert gpt2.causal_mask is bugs.mask_of_nothing
        arrays = flatten(params)
        assert arrays["h0/mlp/act"] is exact_gelu
        assert np.array_equal(
            arrays[f"h{MIDDLE}/attn/c_proj/w"], tiny[2]["blocks"][MIDDLE]["attn"]["c_proj"]["w"].T
        )
        at_once = gpt2.gpt2(ids, **params, n_head=n_head)
    assert gpt2.causal_mask is before
    for name in names:
        with bugs.planted(name, tiny[2]) as params:
            assert difference(gpt2.gpt2(ids, **params, n_head=n_head), at_once) > SAME
    assert bugs.bugs_of("F") == bugs.TWO_AT_ONCE["F"] and bugs.bugs_of(["A", "F"])[1:] == bugs.bugs_of("F")


@pytest.mark.parametrize("name", ["Z", "no  scale", ["no scale", "nothing"], 3])
def test_a_bug_that_does_not_exist_is_an_error_that_lists_those_that_do(tiny, name):
    with pytest.raises(ValueError, match="it must be one of positions from one, erf GELU"):
        with bugs.planted(name, tiny[2]):
            pass


def test_a_step_that_does_not_exist_is_an_error_that_lists_those_that_do(tiny, right):
    with pytest.raises(ValueError, match="'x' is not a step: it must be one of ln_1, q, k"):
        reference.step("x", right[1][0], tiny[2]["blocks"][0], tiny[1]["n_head"])


def test_same_is_a_matter_of_the_largest_difference_the_shape_and_no_nan():
    a = np.float32([[1, -100], [0, 3]])
    assert reference.same(a, a) and reference.same(a + np.float32(9e-4), a)
    assert not reference.same(a + np.float32(2e-3), a) and not reference.same(a[:1], a)
    assert not reference.same(np.where(a == 0, np.nan, a), a)


# ---- the pictures of the bugs ------------------------------------------------------------------------------


def test_a_small_map_begins_two_steps_before_the_first_wrong_one_and_says_where_it_is_wrong():
    errors = {step: np.zeros(30) for step in ["x", *reference.STEPS]}
    _, alt = pictures09.evidence({"clean · block 5": errors}, ["a"] * 30)
    assert alt.startswith("1 small map of errors by step and position; 30 columns") and "noise only" in alt
    for step, start in (("x", "x"), ("ln_1", "x"), ("weights", "k"), ("x + mlp", "act")):
        found = errors | {step: np.arange(30) / 100}
        names, values, first = pictures09.around_the_first(found)
        assert names[0] == start and names[first] == step and len(values) == len(names) <= 6
        figure, alt = pictures09.evidence({"A": found, "B": errors, "C": found}, [" word"] * 30)
        assert f"A: the first wrong step is '{step}', wrong at all positions but 0, up to 0.3." in alt


def test_what_a_tolerance_lets_through_is_said():
    panel = pictures09.tolerances(
        {"clean": 1e-6, "bug": 0.5, "other": 1e-3}, {"clean": 0, "bug": 1, "other": 1}
    )
    for tolerance, words in ((1e-3, "clean, other"), (1e-5, "clean"), (1e-7, "nothing")):
        axes = style.new_figure(style.WIDTH, 2)[1]
        assert panel(axes, tolerance) == f"lets through {words}."
