"""Activations: exact to float32, and float32."""

import math

import numpy as np
import pytest
from helpers import assert_same_logits

import gpt2
from extras.huggingface.variants import ACTIVATIONS, erf, exact_gelu, relu, silu

X = np.concatenate([np.linspace(-9, 9, 200_001), np.logspace(-30, 0, 1001)]).astype(np.float32)


def test_erf_is_off_by_two_units_in_the_seventh_place_at_most():
    wanted = [math.erf(x) for x in X]
    assert erf(X).dtype == np.float32 and np.abs(erf(X) - wanted).max() <= 2e-7


def test_erf_is_odd_and_goes_to_one():
    assert np.array_equal(erf(-X), -erf(X))
    assert erf(np.float32([-np.inf, -7, 7, np.inf])).tolist() == [-1, -1, 1, 1]
    assert np.isnan(erf(np.float32(np.nan)))


@pytest.mark.parametrize(
    "act, wanted",
    [
        (exact_gelu, lambda x: x * math.erfc(-x / 2**0.5) / 2),
        (gpt2.gelu, lambda x: x / 2 * (1 + math.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))),
        (silu, lambda x: x / (1 + math.exp(-x))),
        (relu, lambda x: max(x, 0)),
        (np.tanh, math.tanh),
    ],
)
def test_each_is_its_formula_on_single_numbers(act, wanted):
    ours, theirs = act(X), np.array([wanted(float(x)) for x in X])
    assert ours.dtype == np.float32
    assert np.abs((ours - theirs) / np.maximum(1, np.abs(X))).max() <= 2e-7


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_far_from_zero_nothing_overflows(name):
    with np.errstate(all="raise", under="ignore"):
        values = ACTIVATIONS[name](np.float32([-1e4, 0, 1e4]))
    assert values[1] == 0 and abs(values[0]) <= 1 and values[2] in (1, 1e4)


def test_the_two_gelus_differ_where_it_counts():
    difference = np.abs(exact_gelu(X) - gpt2.gelu(X))
    assert 4e-4 < difference.max() < 5e-4


@pytest.mark.parity
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_transformers_means_the_same_by_these_names(transformers, name):
    import torch
    from transformers.activations import ACT2FN

    assert_same_logits(ACTIVATIONS[name](X), ACT2FN[name](torch.from_numpy(X)).numpy())
