"""LoRA: a fine-tune as a small change to some matrices, in a file of a few megabytes.

Fine-tuning moves every weight of a model. LoRA (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language
Models") leaves a matrix w, [n_in, n_out], as it is, and learns two thin ones, a, [n_in, r], and b,
[r, n_out], with a rank r of 4 to 64. Their product has the shape of w, and is added to it:

    x (w + (alpha / r) a b)  =  x w + (alpha / r) (x a) b

`merge` makes the matrix on the left once: the model is then as fast as its base. `attach` keeps what is on
the right: w is not copied, so many adapted models share one base. Both return new params, and leave the
base's arrays as they are. Adapters are read from files by extras/huggingface/adapters.py:

    style = adapters.load("FOLDER", hparams)
    params = lora.merge(params, style)
"""

from typing import NamedTuple

import numpy as np

from extras.untied import apart, together


class Update(NamedTuple):
    """What is added to one matrix: scale a b, where scale is the paper's alpha / r."""

    a: np.ndarray  # [n_in, r]
    b: np.ndarray  # [r, n_out]
    scale: float


class Adapter(NamedTuple):
    """What a fine-tune changes, by the names in `weights.shapes`, and "lm_head", the head, [n_vocab, n_embd].

    "wte" is the embedding alone: a change of it unties it from the head, unless both get the same array.
    """

    updates: dict  # {name: Update}
    arrays: dict  # {name: array}: trained whole, such as biases; they replace the base's


def merge(params, adapter, strength=1.0):  # -> params
    """w + strength (alpha / r) a b in place of each adapted w; what is not adapted is shared with the base.

    If w is not an array, because it is quantized or has an adapter attached, the change is attached to it.

    strength multiplies the products only: arrays that were trained whole replace the base's even at 0. To use
    several adapters, merge one after the other; if a later one has arrays, let `replaced` put them in first.
    """

    def merged(w, update):
        if not isinstance(w, np.ndarray):
            return attached(w, update, strength)
        return w + float(strength * update.scale) * (update.a @ update.b)

    return changed(params, adapter, merged)


def attach(params, adapter, strength=1.0):  # -> params
    """The model that `merge` makes, but each w stays the base's own array, and its a and b stay beside it."""
    return changed(params, adapter, lambda w, update: attached(w, update, strength))


def attached(w, update, strength):  # -> LowRank
    """w, with an update beside it."""
    return LowRank(w, update.a, float(strength * update.scale) * update.b)


class LowRank:
    """w + a b, never computed whole: x @ LowRank(w, a, b) is x w + (x a) b.

    w is an array, or another object that answers x @ w. In place of wte it also answers [ids], len and .T.
    """

    __array_ufunc__ = None  # NumPy then leaves x @ self to __rmatmul__

    def __init__(self, w, a, b):  # [n_in, n_out], [n_in, r], [r, n_out]
        self.w, self.a, self.b = w, a, b
        self.shape = w.shape

    def __rmatmul__(self, x):  # [..., n_in] -> [..., n_out]
        return x @ self.w + (x @ self.a) @ self.b

    def __getitem__(self, ids):
        return self.w[ids] + self.a[ids] @ self.b

    def __len__(self):
        return len(self.w)

    @property
    def T(self):
        return LowRank(self.w.T, self.b.T, self.a.T)


def changed(params, adapter, change):  # -> params
    """New params: an adapter's arrays in place of the base's, then change(w, update) in place of each w."""
    leaves = apart(replaced(params, adapter))
    for name, update in adapter.updates.items():
        leaves[name] = change(leaves[name], update)
    return together(leaves)


def replaced(params, adapter):  # -> params
    """New params: an adapter's arrays in place of the base's, and no product added."""
    leaves = apart(params)
    is_tied = leaves["wte"] is leaves["lm_head"]
    leaves |= adapter.arrays
    for name, other in (("wte", "lm_head"), ("lm_head", "wte")):
        is_shared = is_tied and name in adapter.updates and other not in adapter.arrays
        if is_shared and name in adapter.arrays:  # peft saves the one matrix of both beside its change
            leaves[other] = adapter.arrays[name]
    return together(leaves)
