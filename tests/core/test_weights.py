"""What a GPT-2 holds: sizes, shapes, random weights, nesting, and the checks of arrays from outside."""

import json

import numpy as np
import pytest
from helpers import SMALL, TINY

import weights
from files import ModelError
from weights import flatten, to_params

SIZES = {
    "124M": (12, 12, 768, 124_439_808),
    "355M": (24, 16, 1024, 354_823_168),
    "774M": (36, 20, 1280, 774_030_080),
    "1558M": (48, 25, 1600, 1_557_611_200),
}


def hparams_of(size):
    n_layer, n_head, n_embd, _ = SIZES[size]
    return {"n_vocab": 50257, "n_ctx": 1024, "n_embd": n_embd, "n_head": n_head, "n_layer": n_layer}


@pytest.mark.parametrize("size", SIZES)
def test_shapes_add_up_to_the_known_number_of_parameters(size):
    assert weights.count(hparams_of(size)) == SIZES[size][3]


def test_presets_are_the_bundled_model_and_the_released_ones():
    tiny = json.loads((TINY / "hparams.json").read_text())
    assert weights.PRESETS == {"tiny": tiny} | {size: hparams_of(size) for size in SIZES}


def test_the_width_of_ffn_is_four_times_n_embd_unless_n_inner_says_otherwise():
    usual, narrow = weights.shapes(SMALL), weights.shapes(SMALL | {"n_inner": 40})
    assert weights.shapes(SMALL | {"n_inner": 96}) == usual
    assert {name: narrow[name] for name in usual if narrow[name] != usual[name]} == {
        f"h{layer}/mlp/{name}": shape
        for layer in range(2)
        for name, shape in (("c_fc/w", (24, 40)), ("c_fc/b", (40,)), ("c_proj/w", (40, 24)))
    }


@pytest.mark.parametrize(
    "hparams, message",
    [
        (SMALL | {"n_head": 5}, "n_embd 24 is not a multiple of n_head 5"),
        (SMALL | {"n_layer": 0}, "n_layer is 0, expected a whole number from 1 to 1,000"),
        (SMALL | {"n_layer": True}, "n_layer is True"),
        (SMALL | {"n_ctx": 32.0}, "n_ctx is 32.0"),
        (SMALL | {"n_embd": 10**6}, "n_embd is 1000000"),
        (SMALL | {"n_inner": 0}, "n_inner is 0"),
        ({"n_layer": 2}, "n_vocab is None"),
        ("124M", "the sizes of a model are a dict of n_vocab, n_ctx, n_embd, n_head, n_layer, not '124M'"),
    ],
)
def test_sizes_that_make_no_model_are_refused(hparams, message):
    with pytest.raises(ValueError, match=message):
        weights.random_params(hparams, np.random.default_rng(0))


def test_random_params_are_drawn_as_gpt2_was_initialised():
    hparams = {"n_vocab": 300, "n_ctx": 200, "n_embd": 128, "n_head": 4, "n_layer": 8}
    arrays = flatten(weights.random_params(hparams, np.random.default_rng(0)))
    assert {name: array.shape for name, array in arrays.items()} == weights.shapes(hparams)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        if name.endswith("/g"):
            assert np.all(array == 1)
        elif name.endswith("/b"):
            assert np.all(array == 0)
        else:
            std = 0.01 if name == "wpe" else 0.02 / 4 if "c_proj" in name else 0.02
            assert array.std() == pytest.approx(std, rel=0.03) and abs(array.mean()) < std / 20


def test_random_params_are_the_same_for_the_same_seed_and_differ_for_another():
    a, b, c = (weights.random_params(SMALL, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a["wte"], b["wte"]) and not np.array_equal(a["wte"], c["wte"])


def test_blocks_are_nested_in_the_order_of_their_numbers():
    params = weights.nest({f"h{layer}/ln_1/g": layer for layer in (10, 2, 0, 1, 9, 3, 4, 5, 6, 7, 8)})
    assert [block["ln_1"]["g"] for block in params["blocks"]] == list(range(11))


def test_float16_is_widened_and_float32_is_not_copied():
    arrays = flatten(weights.random_params(SMALL, np.random.default_rng(0)))
    assert flatten(to_params(arrays, SMALL, "here"))["h0/mlp/c_fc/w"] is arrays["h0/mlp/c_fc/w"]
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    for name, array in flatten(to_params(halves, SMALL, "here")).items():
        assert array.dtype == np.float32 and np.array_equal(array, halves[name])


def test_the_largest_weight_is_far_above_those_of_a_trained_model_and_far_below_overflow(tiny):
    largest = max(np.abs(array).max() for array in flatten(tiny[2]).values())
    assert 1000 * largest < weights.LARGEST_WEIGHT < np.finfo(np.float32).max ** 0.5 / 1000
    arrays = flatten(weights.random_params(SMALL, np.random.default_rng(0)))
    arrays["wte"][0, :2] = weights.LARGEST_WEIGHT, -weights.LARGEST_WEIGHT
    assert to_params(arrays, SMALL, "here")["wte"] is arrays["wte"]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda a: a.pop("wpe"),
            r"^here: according to hparams.json, wpe is missing \(1 in all\); .*use complete files of one ",
        ),
        (lambda a: a.update({"h2/ln_1/g": a["ln_f/g"]}), r"here: .* h2/ln_1/g is unknown \(1 in all\)"),
        (
            lambda a: a.update({"h0/attn/c_attn/w": a["h0/attn/c_attn/w"].T}),
            r"h0/attn/c_attn/w has shape \[72, 24\], but \[24, 72\] according to hparams.json",
        ),
        (
            lambda a: a.update({"ln_f/g": a["ln_f/g"][:1]}),
            r"ln_f/g has shape \[1\], but \[24\] according to hparams.json",
        ),
        (
            lambda a: a.update({"wte": a["wte"].astype(np.float64)}),
            "wte is float64, not float32 or float16; save it as float32",
        ),
        (lambda a: a.update({"wte": a["wte"].astype(np.int8)}), "wte is int8"),
        (lambda a: np.put(a["h1/mlp/c_proj/w"], 50, np.nan), "h1/mlp/c_proj/w holds NaN or infinity"),
        (lambda a: np.put(a["wte"], 0, np.inf), "wte holds NaN or infinity"),
        (lambda a: np.put(a["wte"], 0, -np.inf), "wte holds NaN or infinity"),
        (lambda a: np.put(a["wpe"], 9, 1e25), "wpe holds 1e.25, but no trained weight is above 10,000; get"),
        (lambda a: np.put(a["ln_f/b"], 3, -10001), "ln_f/b holds -1e.04, but no trained weight is above"),
        (lambda a: a.update({"ln_f/g": np.full(24, 6e4, np.float16)}), "ln_f/g holds 6e.04, but no trained"),
    ],
)
def test_params_that_are_not_those_of_hparams_are_refused(change, message):
    arrays = flatten(weights.random_params(SMALL, np.random.default_rng(0)))
    change(arrays)
    with pytest.raises(ModelError, match=message):
        to_params(arrays, SMALL, "here")
