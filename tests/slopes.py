"""Slopes by central differences, (f(w + h) - f(w - h)) / 2h, and small models of every kind."""

import numpy as np
from helpers import lively_params

from extras import gradients, lora
from extras.huggingface.variants import set_variants
from extras.untied import UntiedEmbedding
from weights import flatten, nest, shapes

SIZES = {"n_vocab": 50, "n_ctx": 8, "n_embd": 12, "n_head": 3, "n_layer": 2}
N_HEAD = SIZES["n_head"]
MATRICES = [name for name, shape in shapes(SIZES).items() if name[0] == "h" and len(shape) == 2]
OUTER = ["wte", "wpe", "lm_head"]
PLAIN = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}  # as in a config.json
PLAIN |= {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
EVERYTHING = {"untied": True, "adapted": MATRICES[1::2], "activation_function": "silu", "n_inner": 20}
EVERYTHING |= {"layer_norm_epsilon": 0.1, "scale_attn_by_inverse_layer_idx": True, "n_layer": 3}
IDS = np.random.default_rng(0).integers(0, 12, (3, 7))  # few tokens, so that they come again
MASK = np.random.default_rng(1).random((3, 6)) < 0.6
CLOSE = 1e-6  # of an array's largest gradient


def model(adapted=(), untied=False, dtype=float, **fields):  # -> params
    """A lively model with other sizes or variants, and with an adapter beside these matrices."""
    config = PLAIN | SIZES | fields
    hparams = {name: config[name] for name in [*SIZES, "n_inner"] if name in config}
    arrays = flatten(lively_params(hparams, seed=0))
    params = nest({name: array.astype(dtype) for name, array in arrays.items()})
    set_variants(params, config)
    if untied:
        head = lively_params(hparams, seed=1)["wte"].astype(dtype)
        params["wte"] = UntiedEmbedding(params["wte"], head)
    return lora.attach(params, adapter(adapted, hparams, dtype))


def adapter(names, hparams=SIZES, dtype=float):
    """A random adapter; peft's b begins as 0, in this one all numbers count."""
    rng, updates = np.random.default_rng(2), {}
    for name in names:
        n_in, n_out = shapes(hparams)["wte" if name == "lm_head" else name]
        a, b = (rng.normal(0, 0.3, shape).astype(dtype) for shape in ((n_in, 3), (3, n_out)))
        updates[name] = lora.Update(a, b, scale=1.5)
    return lora.Adapter(updates, {})


def gradients_of(ids, params, mask=None, smoothing=0.0, **options):  # -> loss, {name: array}
    """Those of a text's loss: each id is predicted from those before it."""
    return gradients.loss_and_gradients(ids[:, :-1], ids[:, 1:], params, N_HEAD, mask, smoothing, **options)


def slope(f, array, at, h=1e-5):
    """By how much f() grows if one number of an array grows, which is changed in place, and back."""
    kept = array[at]
    array[at] = kept + h
    above = f()
    array[at] = kept - h
    below = f()
    array[at] = kept
    return (above - below) / (2 * h)


def slopes(f, x, d_y):  # -> array shaped like x
    """The gradient of Σ d_y f(x) for each number of x."""
    found = [slope(lambda: np.sum(d_y * f(x)), x, at) for at in np.ndindex(x.shape)]
    return np.reshape(found, x.shape)


def errors(found, params, loss, n=12):  # -> {name: share of the array's largest gradient}
    """How far gradients are from the slopes of loss(), at the largest of each array and n random others."""
    errors, rng = {}, np.random.default_rng(3)
    for name, array in gradients.leaves(params).items():
        places = rng.choice(array.size, min(n, array.size), replace=False)
        largest = np.abs(found[name]).max()
        for place in {*places.tolist(), int(np.abs(found[name]).argmax())}:
            at = np.unravel_index(place, array.shape)
            error = abs(found[name][at] - slope(loss, array, at)) / largest
            errors[name] = max(error, errors.get(name, 0))
    return errors


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= CLOSE * np.abs(wanted).max()
