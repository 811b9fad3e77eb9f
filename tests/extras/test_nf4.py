"""NF4: its numbers beside the formulas of the papers, and in the parity lane beside those of bitsandbytes."""

from statistics import NormalDist

import numpy as np
import pytest
from helpers import assert_same_logits

import gpt2
from extras import nf4
from extras.huggingface import export
from extras.nf4 import LEVELS, SCALE_LEVELS, midpoints, nearest_in_table, rounded_scales, to_codes
from extras.quantize import quantize
from extras.quantized import NF4
from weights import flatten


def draw(*shape, seed=0, std=0.1):
    return np.random.default_rng(seed).normal(0, std, shape).astype(np.float32)


# ---- levels ------------------------------------------------------------------------------------------------


def test_the_levels_are_quantiles_of_the_normal_distribution():
    """Eight steps down from 0 and seven up, between the same two quantiles; divided by the largest."""
    last = (2 - 1 / 30 - 1 / 32) / 2
    quantile = NormalDist().inv_cdf
    above = [quantile(last - (last - 0.5) * i / 8) for i in range(8)]
    below = [-quantile(last - (last - 0.5) * i / 7) for i in range(7)]
    wanted = np.sort([*above, 0, *below]) / max(above)
    np.testing.assert_allclose(LEVELS, wanted, atol=2e-6)
    assert LEVELS.dtype == np.float32 and {-1, 0, 1} <= {*LEVELS.tolist()}


def test_each_weight_goes_to_the_nearest_level_and_halfway_to_the_lower():
    halfway, up = midpoints(LEVELS), np.float32(2)
    assert to_codes(LEVELS, np.float32(1)).tolist() == [*range(16)]
    assert to_codes(halfway, np.float32(1)).tolist() == [*range(15)]
    assert to_codes(np.nextafter(halfway, up), np.float32(1)).tolist() == [*range(1, 16)]
    weights = draw(20, 64)
    scales = np.abs(weights).max(axis=1)
    for block, scale, codes in zip(weights, scales, to_codes(weights, scales)):
        for weight, code in zip(block, codes):
            assert abs(weight - LEVELS[code] * scale) <= np.abs(weight - LEVELS * scale).min() + 1e-7


def test_blocks_of_zeros_and_of_the_smallest_numbers_stay_what_they_are():
    matrix = draw(3, 128)
    matrix[0, :64], matrix[1, 64:] = 0, 1e-44
    found = NF4.of(matrix, offset=np.float32(0))[:]
    assert (found[0, :64] == 0).all() and np.abs(found[1, 64:]).max() <= 1e-37
    assert np.abs(found - matrix).max() <= 0.16 * np.abs(matrix).max()


# ---- scales ------------------------------------------------------------------------------------------------


def test_the_numbers_for_scales_are_seven_decades_of_twice_as_many_each():
    """The midpoints of 2, 4, 8 ... equal steps from a tenth of a power of ten to that power, and 0, and 1."""
    wanted = [0.0, 1.0]
    for decade in range(7):
        n = 2**decade
        for step in range(n):
            middle = (0.1 + 0.9 * (step + 0.5) / n) * 10.0 ** (decade - 6)
            wanted += [middle, -middle]
    assert len(wanted) == len(SCALE_LEVELS) == 256 and SCALE_LEVELS.dtype == np.float32
    np.testing.assert_allclose(SCALE_LEVELS, np.sort(wanted), rtol=3e-7)


def test_a_number_is_rounded_to_the_nearest_or_its_neighbour_within_a_step_of_the_table():
    numbers = np.concatenate([np.linspace(-1, 1, 100_001), SCALE_LEVELS, midpoints(SCALE_LEVELS)]).astype(
        np.float32
    )
    found = SCALE_LEVELS[nearest_in_table(numbers)]
    nearest = np.abs(SCALE_LEVELS - numbers[:, None]).min(axis=1)
    assert (np.abs(found - numbers) <= nearest + 2.1 / 65535).all()
    assert nearest_in_table(np.float32([-1, 1])).tolist() == [0, 255]


@pytest.mark.parametrize("n", [1, 255, 256, 257, 600])
def test_scales_are_rounded_in_blocks_of_256_about_their_mean(n):
    scales = np.abs(draw(n, seed=n)) + np.float32(0.1)
    found, mean = rounded_scales(scales), np.mean(scales)
    assert found.shape == (n,) and found.dtype == np.float32
    for start in range(0, n, 256):
        apart = [float(scale - mean) for scale in scales[start : start + 256]]
        largest = max(map(abs, apart)) or 1.0
        for scale, rounded in zip(apart, found[start : start + 256]):
            nearest = min(abs(number * largest - scale) for number in SCALE_LEVELS.tolist())
            assert abs(rounded - mean - scale) <= nearest + 2.2 / 65535 * largest + 1e-7
    np.testing.assert_array_equal(rounded_scales(scales, mean), found)
    assert not np.array_equal(rounded_scales(scales, np.float32(0)), found) or n == 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 24), (5, 64), (4, 100), (2, 128), (7, 200)])
def test_any_width_is_the_plain_formula(shape):
    """A last block may be shorter; the block that completes a pair is of no weight, and counts in no mean."""
    matrix, width = draw(*shape), shape[1]
    blocks = [(row, start) for row in range(len(matrix)) for start in range(0, width, 64)]
    exact = [np.abs(matrix[row, start : start + 64]).max() for row, start in blocks]
    wanted = np.zeros_like(matrix)
    for (row, start), scale, rounded in zip(blocks, exact, rounded_scales(np.array(exact))):
        codes = to_codes(matrix[row, start : start + 64], scale)
        wanted[row, start : start + 64] = LEVELS[codes] * rounded
    np.testing.assert_array_equal(NF4.of(matrix)[:], wanted)


# ---- the judge ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge(transformers):
    """The library that made these numbers."""
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes, the judge of nf4, is not installed")


def theirs(judge, matrix):  # -> widened, offset
    """What bitsandbytes makes of a matrix on the CPU, and the mean of scales that it subtracted."""
    import torch

    options = {"blocksize": 64, "compress_statistics": True, "quant_type": "nf4"}
    tensor = torch.from_numpy(np.ascontiguousarray(matrix))
    codes, state = judge.functional.quantize_4bit(tensor, **options)
    return judge.functional.dequantize_4bit(codes, state).numpy(), np.float32(state.offset)


def matrices(tiny):
    """All of the bundled model, as rows that make an output each; random ones; and difficult ones."""
    yield from (leaf.T for name, leaf in flatten(tiny[2]).items() if name.endswith("/w"))
    rng = np.random.default_rng(0)
    for seed in range(30):
        shape = rng.integers(1, 200), 64 * rng.integers(1, 9)
        yield draw(*shape, seed=seed, std=10.0 ** rng.integers(-6, 3))
    yield np.random.default_rng(1).standard_t(2, (100, 256)).astype(np.float32)  # with outliers
    zeros = draw(40, 128)
    zeros[::3, :64] = 0
    yield zeros
    yield np.round(draw(100, 256, std=3))  # with many ties
    yield np.ones((300, 64), np.float32)


@pytest.mark.parity
def test_all_weights_are_those_of_bitsandbytes_bit_for_bit(tiny, judge):
    for i, matrix in enumerate(matrices(tiny)):
        wanted, offset = theirs(judge, matrix)
        np.testing.assert_array_equal(NF4.of(matrix, offset)[:], wanted, err_msg=f"matrix {i}")


@pytest.mark.parity
def test_our_own_mean_of_the_scales_is_theirs_within_two_units_in_the_last_place(tiny, judge):
    """Theirs depends on how many threads add up."""
    for i, matrix in enumerate(matrices(tiny)):
        wanted, offset = theirs(judge, matrix)
        scales = np.abs(matrix.reshape(-1, 64)).max(axis=1)
        assert abs(np.mean(scales) - offset) <= 2 * np.spacing(offset), f"matrix {i}"
        if np.mean(scales) == offset:
            np.testing.assert_array_equal(NF4.of(matrix)[:], wanted, err_msg=f"matrix {i}")


@pytest.mark.parity
def test_the_numbers_of_both_tables_are_theirs(judge):
    np.testing.assert_array_equal(judge.functional.create_dynamic_map().numpy(), SCALE_LEVELS)
    np.testing.assert_array_equal(judge.functional.get_4bit_type("nf4", device="cpu").numpy(), nf4.LEVELS)


@pytest.mark.parity
def test_the_bundled_model_has_the_logits_that_transformers_gives_it_in_nf4(tiny, judge, tmp_path):
    import torch
    from transformers import BitsAndBytesConfig, GPT2LMHeadModel

    encoder, hparams, params = tiny
    export.save(tmp_path / "out", *tiny)
    options = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **options)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "out", quantization_config=config, device_map="cpu")
    for module in model.eval().modules():
        if isinstance(module, judge.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False  # else scales and products are rounded to bfloat16
    ids = np.random.default_rng(0).integers(0, hparams["n_vocab"], (2, 50))
    with torch.no_grad():
        wanted = model(torch.from_numpy(ids)).logits.numpy()
    n_head = hparams["n_head"]
    assert_same_logits(gpt2.gpt2(ids, **quantize(params, "nf4"), n_head=n_head), wanted)
    plain = gpt2.gpt2(ids, **params, n_head=n_head)
    assert np.abs(plain - wanted).max() > 0.01 * np.abs(wanted).max()
