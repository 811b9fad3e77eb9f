"""Optimizers beside a slow loop over numbers, and in the parity lane beside those of PyTorch."""

import math
from functools import partial
from itertools import cycle

import numpy as np
import pytest
from helpers import SMALL, lively_params

from extras import optimizers
from extras.gradients import leaves, loss_and_gradients
from extras.optimizers import adamw, adamw_memory, clip, muon, muon_memory, orthogonal, warmup_and_decay
from weights import PRESETS, shapes

SMALL_TABLE = {"wte": (7, 4), "b": (5,), "w": (4, 6)}


def draw(table, seed=0, scale=1.0, dtype=np.float32):  # {name: shape} -> {name: array}
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, scale, shape).astype(dtype) for name, shape in table.items()}


def copied(arrays):
    return {name: array.copy() for name, array in arrays.items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


# ---- AdamW -------------------------------------------------------------------------------------------------


def test_adamw_is_a_slow_loop_over_numbers():
    arrays = draw(SMALL_TABLE)
    memory = adamw_memory(arrays)
    slow = {name: array.astype(float) for name, array in arrays.items()}
    means, squares = ({name: np.zeros(shape) for name, shape in SMALL_TABLE.items()} for _ in range(2))
    for step in range(1, 8):
        gradients = draw(SMALL_TABLE, seed=step)
        adamw(arrays, gradients, memory, step, 0.03, (0.8, 0.95), 1e-2, 0.2)
        for name, gradient in gradients.items():
            for i in np.ndindex(gradient.shape):
                g = float(gradient[i])
                means[name][i] = 0.8 * means[name][i] + 0.2 * g
                squares[name][i] = 0.95 * squares[name][i] + 0.05 * g**2
                mean, square = means[name][i] / (1 - 0.8**step), squares[name][i] / (1 - 0.95**step)
                slow[name][i] -= 0.03 * (0.2 * slow[name][i] + mean / (square**0.5 + 1e-2))
    for name in SMALL_TABLE:
        np.testing.assert_allclose(arrays[name], slow[name], rtol=0, atol=1e-6)
        np.testing.assert_allclose(memory[f"mean/{name}"], means[name], rtol=0, atol=1e-6)
        np.testing.assert_allclose(memory[f"square/{name}"], squares[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e8])
def test_the_first_step_of_adamw_has_the_learning_rate_as_its_length_for_every_number(scale):
    arrays = {"w": np.zeros((3, 5), np.float32)}
    gradients = draw({"w": (3, 5)}, scale=scale)
    adamw(arrays, gradients, adamw_memory(arrays), 1, 0.25)
    np.testing.assert_allclose(arrays["w"], -0.25 * np.sign(gradients["w"]), rtol=1e-3)


def test_gradients_that_agree_move_a_number_further_than_noise_does():
    arrays = {"agreed": np.zeros(100, np.float32), "noise": np.zeros(100, np.float32)}
    memory, rng = adamw_memory(arrays), np.random.default_rng(0)
    for step in range(1, 101):
        noise = rng.choice([-1, 1], 100).astype(np.float32)
        adamw(arrays, {"agreed": np.ones(100, np.float32), "noise": noise}, memory, step, 0.01)
    assert np.abs(arrays["agreed"]).min() > 0.9 > 3 * np.abs(arrays["noise"]).mean()


# ---- Muon --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(48, 48), (20, 80), (80, 20), (1, 9), (9, 1)])
def test_an_orthogonal_matrix_keeps_directions_and_has_singular_values_near_1(shape):
    matrix = draw({"w": shape})["w"]
    found = orthogonal(matrix)
    u, s, v = np.linalg.svd(matrix.astype(float), full_matrices=False)
    assert s[-1] / np.linalg.norm(s) > 0.002  # else the steps do not reach 1
    along = u.T @ found @ v.T
    assert found.shape == shape and found.dtype == np.float32
    assert np.diag(along).min() > 0.68 and np.diag(along).max() < 1.21
    np.testing.assert_allclose(along, np.diag(np.diag(along)), rtol=0, atol=1e-4)
    np.testing.assert_allclose(found, u @ np.diag(np.diag(along)) @ v, rtol=0, atol=1e-4)


def five_times(s):
    """What Newton-Schulz steps make of singular values."""
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


def test_five_steps_bring_singular_values_from_0_002_to_1_near_1():
    found = five_times(np.linspace(0.002, 1, 100_001))
    assert 0.68 < found.min() and found.max() < 1.21


def test_muon_is_its_paper_with_a_singular_value_decomposition():
    """Jordan's own form: the momentum is a sum of gradients, not a mean, which does not matter to U and V."""
    table = {"tall": (9, 5), "wide": (4, 11)}
    arrays = draw(table)
    memory, slow = muon_memory(arrays), {name: array.astype(float) for name, array in arrays.items()}
    sums = {name: np.zeros(shape) for name, shape in table.items()}
    for step in range(6):
        gradients = draw(table, seed=step)
        muon(arrays, gradients, memory, 0.03, 0.8, 0.2)
        for name, gradient in gradients.items():
            sums[name] = 0.8 * sums[name] + gradient
            u, s, v = np.linalg.svd(gradient + 0.8 * sums[name], full_matrices=False)
            update = 0.2 * max(gradient.shape) ** 0.5 * (u * five_times(s / np.sqrt(np.sum(s**2)))) @ v
            slow[name] -= 0.03 * (0.2 * slow[name] + update)
    for name in table:
        np.testing.assert_allclose(arrays[name], slow[name], rtol=0, atol=2e-6)
        np.testing.assert_allclose(memory[f"momentum/{name}"], 0.2 * sums[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (32, 128), (128, 32)])
def test_the_step_of_muon_has_the_root_mean_square_that_is_usual_for_adamw(shape):
    """0.2 of the learning rate, times about 0.9, which is what five steps make of 1."""
    arrays = {"w": np.zeros(shape, np.float32)}
    muon(arrays, draw({"w": shape}), muon_memory(arrays), 0.5)
    assert 0.15 < np.sqrt(np.mean(arrays["w"] ** 2)) / 0.5 < 0.21


def test_the_scale_of_gradients_does_not_matter_to_muon():
    found = {}
    for scale in (1e-5, 1.0, 1e8):
        arrays = {"w": np.zeros((12, 20), np.float32)}
        memory = muon_memory(arrays)
        for step in range(3):
            muon(arrays, draw({"w": (12, 20)}, step, scale), memory, 0.1)
        found[scale] = arrays["w"]
    for scale in (1e-5, 1e8):
        np.testing.assert_allclose(found[scale], found[1.0], rtol=0, atol=1e-5)


def test_queries_keys_and_values_are_three_matrices_to_muon():
    name, other = "h0/attn/c_attn/w", "h0/mlp/c_fc/w"
    whole = draw({name: (8, 24), other: (8, 24)})
    whole[other][:] = whole[name]
    split = {part: array.copy() for part, array in zip("qkv", np.split(whole[name], 3, axis=1))}
    memory, split_memory = muon_memory(whole), muon_memory(split)
    for step in range(4):
        gradient = draw({name: (8, 24)}, step)[name]
        muon(whole, {name: gradient, other: gradient}, memory, 0.1)
        muon(split, dict(zip("qkv", np.split(gradient, 3, axis=1))), split_memory, 0.1)
    np.testing.assert_allclose(whole[name], np.hstack([*split.values()]), rtol=0, atol=1e-6)
    assert np.abs(whole[name] - whole[other]).max() > 0.01


def test_muon_refuses_what_is_not_a_matrix():
    with pytest.raises(ValueError, match=r"h0/ln_1/g has shape \[4\], use adamw"):
        muon_memory({"w": np.zeros((2, 3)), "h0/ln_1/g": np.zeros(4)})


# ---- both --------------------------------------------------------------------------------------------------

BOTH = {"adamw": adamw_memory, "muon": muon_memory}
TWO = {"v": (6, 9), "h0/attn/c_attn/w": (6, 18)}


def updated(optimizer, arrays, gradients, memory, step, learning_rate, **options):
    """Take a step, by the name of the optimizer."""
    if optimizer == "adamw":
        adamw(arrays, gradients, memory, step, learning_rate, **options)
    else:
        muon(arrays, gradients, memory, learning_rate, **options)


@pytest.mark.parametrize("optimizer", BOTH)
def test_a_quadratic_is_minimised(optimizer):
    """Σ (x - wanted)² over all numbers; the rate falls to 0, as both take steps of one length."""
    arrays, wanted = draw(TWO), draw(TWO, seed=1)
    memory = BOTH[optimizer](arrays)
    for step in range(400):
        gradients = {name: 2 * (arrays[name] - wanted[name]) for name in arrays}
        updated(optimizer, arrays, gradients, memory, step + 1, 0.1 * (1 - step / 400), weight_decay=0)
    for name in arrays:
        np.testing.assert_allclose(arrays[name], wanted[name], rtol=0, atol=0.01)


@pytest.mark.parametrize("optimizer", BOTH)
def test_without_gradients_only_the_decay_shrinks_arrays(optimizer):
    arrays = draw(TWO)
    expected, memory = copied(arrays), BOTH[optimizer](arrays)
    zero = {name: np.zeros_like(array) for name, array in arrays.items()}
    for step in range(1, 6):
        updated(optimizer, arrays, zero, memory, step, 0.1 * step, weight_decay=0.3)
        expected = {name: array * (1 - 0.1 * step * 0.3) for name, array in expected.items()}
    assert_same(arrays, expected)
    assert all((array == 0).all() for array in memory.values())


@pytest.mark.parametrize("optimizer", BOTH)
def test_the_decay_is_not_part_of_the_gradient(optimizer):
    """It is decoupled: the memory is the same with it and without, and the steps differ by it alone."""
    with_decay, without = draw(TWO), draw(TWO)
    memories, expected = [BOTH[optimizer](with_decay) for _ in range(2)], draw(TWO)
    for step in range(1, 6):
        gradients, before = draw(TWO, seed=step), copied(without)
        updated(optimizer, without, gradients, memories[0], step, 0.1, weight_decay=0)
        updated(optimizer, with_decay, gradients, memories[1], step, 0.1, weight_decay=0.5)
        for name in expected:
            expected[name] = expected[name] * 0.95 + (without[name] - before[name])
    assert_same(*memories)
    for name in expected:
        np.testing.assert_allclose(with_decay[name], expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", BOTH)
def test_what_has_no_gradient_does_not_change_nor_what_is_remembered_of_it(optimizer):
    arrays = draw(TWO)
    memory = {name: array + 1 for name, array in BOTH[optimizer](arrays).items()}
    before, remembered = copied(arrays), copied(memory)
    gradients = draw({"v": TWO["v"]}, seed=1)
    given = copied(gradients)
    updated(optimizer, arrays, gradients, memory, 3, 0.1)
    changed = {name for name in arrays if (arrays[name] != before[name]).any()}
    forgotten = {name for name in memory if (memory[name] != remembered[name]).any()}
    assert changed == {"v"} and forgotten == {name for name in memory if name.endswith("/v")}
    assert_same(gradients, given)


def test_no_two_arrays_of_a_model_and_of_what_is_remembered_of_it_share_a_name():
    model = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes(PRESETS["tiny"]).items()}
    matrices = {name: array for name, array in model.items() if array.ndim == 2}
    remembered = [adamw_memory(model), muon_memory(matrices)]
    assert len(model | remembered[0] | remembered[1]) == 3 * len(model) + len(matrices)
    for kind, arrays in (("mean", model), ("square", model), ("momentum", matrices)):
        for name, array in arrays.items():
            found = (remembered[0] | remembered[1])[f"{kind}/{name}"]
            assert found.shape == array.shape and found.dtype == np.float32 and not found.any()


@pytest.mark.parametrize("optimizer", BOTH)
@pytest.mark.parametrize("at_once", [1, 17, 40])
def test_in_how_many_parts_an_array_is_updated_does_not_matter(optimizer, at_once, monkeypatch):
    found = []
    for size in (optimizers.AT_ONCE, at_once):
        monkeypatch.setattr(optimizers, "AT_ONCE", size)
        arrays = draw(TWO)
        memory = BOTH[optimizer](arrays)
        for step in range(1, 4):
            updated(optimizer, arrays, draw(TWO, seed=step), memory, step, 0.1)
        found.append(arrays | memory)
    assert_same(*found)


@pytest.mark.parametrize("optimizer", BOTH)
def test_arrays_change_in_place_also_where_they_are_views_of_others(optimizer):
    whole = {name: np.zeros((2 * shape[1], shape[0]), np.float32) for name, shape in TWO.items()}
    views = {name: array[::2].T for name, array in whole.items()}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in TWO.items()}
    gradients = draw(TWO)
    transposed = {name: np.asfortranarray(gradient) for name, gradient in gradients.items()}
    updated(optimizer, arrays, gradients, BOTH[optimizer](arrays), 1, 0.1)
    updated(optimizer, views, transposed, BOTH[optimizer](arrays), 1, 0.1)
    for name, array in arrays.items():
        assert array.any()
        np.testing.assert_allclose(whole[name][::2].T, array, rtol=0, atol=1e-6)
        assert not whole[name][1::2].any()


@pytest.mark.parametrize("optimizer", BOTH)
def test_float32_stays_float32_in_every_step_of_a_formula(optimizer):
    seen = set()

    class Watched(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
            plain = [x.view(np.ndarray) if isinstance(x, np.ndarray) else x for x in inputs]
            if out:
                options["out"] = tuple(x.view(np.ndarray) for x in out)
            result = getattr(ufunc, method)(*plain, **options)
            seen.add((getattr(ufunc(*plain), "dtype", None), np.result_type(*plain)))
            return out[0] if out else result.view(Watched)

    arrays, gradients = draw(TWO), draw(TWO, seed=1)
    memory = BOTH[optimizer](arrays)
    watched = [{name: a.view(Watched) for name, a in group.items()} for group in (arrays, gradients, memory)]
    updated(optimizer, *watched, 3, 0.1 * warmup_and_decay(0, 100))
    assert seen == {(np.dtype(np.float32), np.dtype(np.float32))}
    assert {array.dtype for array in (arrays | memory).values()} == {np.dtype(np.float32)}


def test_a_model_learns_a_text_by_heart():
    params = lively_params(SMALL, seed=0, std=0.1)
    ids = np.arange(33)[None] * 5 % SMALL["n_vocab"]
    matrices = {n: a for n, a in leaves(params).items() if n.startswith("h") and a.ndim == 2}
    others = {n: a for n, a in leaves(params).items() if n not in matrices}
    memory, losses = muon_memory(matrices) | adamw_memory(others), []
    for step in range(40):
        loss, gradients = loss_and_gradients(ids[:, :-1], ids[:, 1:], params, SMALL["n_head"])
        clip(gradients, 1.0)
        rate = 0.03 * warmup_and_decay(step, 40)
        muon(matrices, {name: gradients[name] for name in matrices}, memory, rate)
        adamw(others, {name: gradients[name] for name in others}, memory, step + 1, rate)
        losses.append(loss)
    assert losses[0] > 4 and losses[-1] < 0.1


# ---- clipping and the schedule -----------------------------------------------------------------------------


def test_clipping_scales_all_gradients_to_the_largest_norm():
    gradients = {"large": np.float32([[30, 0], [0, 0]]), "small": np.float32([0, 0.4, 0])}
    gradients["large"][1, 1] = 40
    norm = clip(gradients, 10)
    assert type(norm) is float and norm == pytest.approx(2500.16**0.5, rel=1e-7)
    np.testing.assert_allclose(gradients["large"], [[300 / norm, 0], [0, 400 / norm]], rtol=1e-6)
    np.testing.assert_allclose(gradients["small"], [0, 4 / norm, 0], rtol=1e-6)
    assert clip(gradients, 10) == pytest.approx(10, rel=1e-6)
    assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("largest", [5, 5.5, 1e9, float("inf")])
def test_gradients_whose_norm_is_not_larger_stay_as_they_are(largest):
    gradients = {"w": np.float32([[3, 0], [0, 4]]), "b": np.zeros(3, np.float32)}
    before = copied(gradients)
    assert clip(gradients, largest) == 5
    assert_same(gradients, before)
    assert clip({"b": gradients["b"]}, 0) == 0 and clip({}, 1) == 0


def test_the_norm_of_many_numbers_is_exact():
    """Their squares summed in float32 are not: each is rounded to the precision of the sum so far."""
    gradients = draw({"wte": (4001, 1000)}, scale=1e-3)
    exact = np.sqrt(np.sum(np.square(gradients["wte"], dtype=float)))
    plain = np.linalg.norm(gradients["wte"])
    assert clip(gradients, 1e9) == pytest.approx(exact, rel=1e-7)
    assert abs(clip(gradients, 1e9) - exact) < abs(plain - exact)


def test_a_gradient_that_is_not_a_number_shows_in_the_norm():
    assert np.isnan(clip({"w": np.float32([1, np.nan])}, 1))
    assert clip({"w": np.float32([1, 2]), "b": np.float32([np.inf])}, float("inf")) == float("inf")


def test_the_rate_rises_for_100_steps_stays_to_a_third_and_falls_to_zero():
    """As the bundled model was trained (models/tiny/README.md)."""
    shares = [warmup_and_decay(step, 3000) for step in range(3001)]
    assert shares[:100] == [pytest.approx((step + 1) / 100) for step in range(100)]
    assert set(shares[99:1001]) == {1.0}
    assert shares[1000:] == [pytest.approx(1 - step / 2000, abs=1e-12) for step in range(2001)]
    assert {type(share) for share in shares} == {float}


def test_a_short_run_warms_up_for_a_tenth_of_it():
    found = [warmup_and_decay(step, 50) for step in range(50)]
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert found[16] == 1 > found[17] and found[-1] == pytest.approx(0.03)
    assert warmup_and_decay(0, 1) == 1 and type(warmup_and_decay(np.int64(0), np.int64(1))) is float


# ---- the judge: PyTorch ------------------------------------------------------------------------------------

N_STEPS = 20
LIKE_TRAINED, MIXED = [1.0, 0.3, 0.01], [1.0, 0.0, 1e-8, 1e8, 1e-8, 0.0, 1.0]
CASES = {  # the scales of gradients, from step to step; learning rate, weight decay
    "as tiny was trained": (LIKE_TRAINED, 6e-3, 0.1),
    "no decay": (LIKE_TRAINED, 3e-3, 0.0),
    "slow": (LIKE_TRAINED, 1e-4, 0.01),
    "fast": (LIKE_TRAINED, 0.1, 0.5),
    "zero": ([0.0], 6e-3, 0.1),
    "tiny": ([1e-8], 3e-3, 0.0),
    "tiny and zero": ([0.0, 1e-10, 1e-8], 1e-4, 0.01),
    "huge": ([1e8], 0.1, 0.5),
    "mixed": (MIXED, 6e-3, 0.1),
}
TINY = shapes(PRESETS["tiny"] | {"n_layer": 1})  # all its layers have the same shapes
NARROW = shapes(PRESETS["tiny"] | {"n_layer": 1, "n_embd": 48})  # for float64, which is slower
in_every_case = pytest.mark.parametrize("scales, learning_rate, weight_decay", CASES.values(), ids=CASES)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: see tests/requirements-parity.txt")


@pytest.fixture(scope="module")
def noise():
    """Random numbers, of which every gradient takes some: drawing them anew would take most of the time."""
    return np.random.default_rng(0).standard_normal(3_000_000)


def gradients_at(step, scale, noise, table, dtype):  # -> {name: array}
    starts = {name: 7919 * step + 104_729 * i for i, name in enumerate(table)}
    taken = {name: noise[start : start + math.prod(table[name])] for name, start in starts.items()}
    return {name: (scale * part).astype(dtype).reshape(table[name]) for name, part in taken.items()}


def side_by_side(torch, noise, optimizer, table, scales, learning_rate, make, dtype, **options):
    """Take steps beside an optimizer of PyTorch, from the same arrays, at rates that change with each step.

    make: a function that makes it of tensors. For Muon, queries, keys and values are three tensors. Arrays
    begin at 0 in float32, where the rounding of large weights would hide small steps. Returned is the largest
    difference that any array had after any step, as a share of its largest change until then.
    """
    arrays = draw(table, scale=0.02 if dtype is np.float64 else 0, dtype=dtype)
    start, worst = copied(arrays), 0.0
    memory = {name: array.astype(dtype) for name, array in BOTH[optimizer](arrays).items()}
    split = optimizers.matrices if optimizer == "muon" else lambda name, array: [array]
    tensors = {name: [torch.tensor(part) for part in split(name, array)] for name, array in arrays.items()}
    judge = make([tensor for some in tensors.values() for tensor in some])
    for step, scale in zip(range(N_STEPS), cycle(scales)):
        gradients = gradients_at(step, scale, noise, table, dtype)
        rate = learning_rate * warmup_and_decay(step, N_STEPS)
        for name, some in tensors.items():
            for tensor, gradient in zip(some, split(name, gradients[name])):
                tensor.grad = torch.tensor(gradient)
        judge.param_groups[0]["lr"] = rate
        judge.step()
        updated(optimizer, arrays, gradients, memory, step + 1, rate, **options)
        for name, array in arrays.items():
            theirs = np.hstack([tensor.numpy() for tensor in tensors[name]])
            assert np.isfinite(array).all() and array.dtype == theirs.dtype == dtype
            change, difference = np.abs(theirs - start[name]).max(), np.abs(array - theirs).max()
            worst = max(worst, difference / change if change else difference)
    return worst


def blocks(table):
    """The shapes of the matrices in its blocks."""
    return {name: shape for name, shape in table.items() if name.startswith("h") and len(shape) == 2}


@pytest.mark.parity
@pytest.mark.parametrize("table, dtype, close", [(TINY, np.float32, 2e-6), (NARROW, np.float64, 1e-11)])
@in_every_case
def test_adamw_takes_the_steps_of_pytorch(
    torch, noise, scales, learning_rate, weight_decay, table, dtype, close
):
    """Both of its implementations; with the betas of most trainings, and those of the bundled model's."""
    for options in ({"betas": (0.9, 0.999)}, {"betas": (0.9, 0.95), "eps": 1e-6}):
        options |= {"weight_decay": weight_decay}
        make = partial(torch.optim.AdamW, **options, fused="eps" in options)
        worst = side_by_side(torch, noise, "adamw", table, scales, learning_rate, make, dtype, **options)
        assert worst <= close


@pytest.mark.parity
@pytest.mark.parametrize("table, dtype, close", [(TINY, np.float32, 1e-5), (NARROW, np.float64, 1e-11)])
@in_every_case
def test_muon_takes_the_steps_of_pytorch(
    torch, noise, scales, learning_rate, weight_decay, table, dtype, close, monkeypatch
):
    """Its Newton-Schulz steps are in bfloat16; here, it is made to take them in full precision."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor)
    options = {"momentum": 0.95 if weight_decay else 0.8, "weight_decay": weight_decay}
    make = partial(torch.optim.Muon, **options, adjust_lr_fn="match_rms_adamw")
    worst = side_by_side(torch, noise, "muon", blocks(table), scales, learning_rate, make, dtype, **options)
    assert worst <= close


@pytest.mark.parity
def test_muon_is_near_that_of_pytorch_in_bfloat16(torch, noise):
    options = {"momentum": 0.95, "weight_decay": 0.1}
    make = partial(torch.optim.Muon, **options, adjust_lr_fn="match_rms_adamw")
    worst = side_by_side(torch, noise, "muon", blocks(TINY), LIKE_TRAINED, 6e-3, make, np.float32, **options)
    assert 1e-4 < worst < 0.04  # the first: else it was not in bfloat16


@pytest.mark.parity
@pytest.mark.parametrize("largest", [0.0, 1.0, 500.0, 1e4])
@pytest.mark.parametrize("scale", [0.01, 1.0, 1e8])
def test_clipping_is_that_of_pytorch(torch, scale, largest):
    """In float64: in float32, its norm of 768,000 numbers is not exact. It divides by the norm + 1e-6."""
    gradients = draw(TINY, scale=scale, dtype=np.float64)
    tensors = [torch.zeros(array.shape, dtype=torch.float64) for array in gradients.values()]
    for tensor, gradient in zip(tensors, gradients.values()):
        tensor.grad = torch.from_numpy(gradient.copy())
    theirs = float(torch.nn.utils.clip_grad_norm_(tensors, largest))
    rounded = {name: gradient.astype(np.float32) for name, gradient in gradients.items()}
    for ours, close in ((gradients, 1e-12), (rounded, 1e-6)):
        assert clip(ours, largest) == pytest.approx(theirs, rel=close)
        for tensor, gradient in zip(tensors, ours.values()):
            np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-6 / theirs + close)
