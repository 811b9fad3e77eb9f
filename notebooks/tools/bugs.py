"""Eight bugs that leave a GPT-2 running, five models with one bug each, and one with two.

A bug changes weights, or one function of gpt2 while `planted` lasts; nothing else changes.
"""

import contextlib
from unittest import mock

import numpy as np

import gpt2
from extras.huggingface.variants import exact_gelu
from extras.inside import replace, with_activation


def positions_from_one(params):
    """The first token gets the position of the second, and so on."""
    return replace(params, "wpe", np.roll(params["wpe"], -1, axis=0))


def erf_gelu(params):
    """The exact GELU instead of OpenAI's tanh formula, in every block."""
    return with_activation(params, exact_gelu)


def transposed_projection(params):
    """One square matrix in the middle of the model, transposed: PyTorch's Linear stores [n_out, n_in]."""
    middle = len(params["blocks"]) // 2
    return replace(params, f"h{middle}/attn/c_proj/w", params["blocks"][middle]["attn"]["c_proj"]["w"].T)


def weights_without_scale(q, k, mask):  # as gpt2.attention_weights
    """The scores are not divided by √d_head."""
    return gpt2.softmax(q @ np.swapaxes(k, -1, -2) + mask)


def weights_masked_too_late(q, k, mask):  # as gpt2.attention_weights
    """Later tokens are masked after the softmax, which has already given them their share."""
    return np.where(mask < 0, np.float32(0), gpt2.softmax(q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5))


def mask_of_nothing(n_q, n_k):  # as gpt2.causal_mask
    """Every token sees the later ones too."""
    return np.zeros((n_q, n_k), dtype=np.float32)


def mask_off_by_one(n_q, n_k):  # as gpt2.causal_mask
    """No token sees itself. -1e10, because with -∞ the first row, all masked, would become NaN."""
    return np.where(np.tri(n_q, n_k, n_k - n_q - 1), np.float32(0), np.float32(-1e10))


def merge_by_reshape(x):  # as gpt2.merge_heads
    """The shape is right, but the numbers of one token do not end up side by side."""
    *batch, n_head, n_seq, d_head = x.shape
    return x.reshape(*batch, n_seq, n_head * d_head)


BUGS = {  # name: a function params -> params, or the name of a function of gpt2 and its replacement
    "positions from one": positions_from_one,
    "erf GELU": erf_gelu,
    "projection transposed": transposed_projection,
    "no scale": ("attention_weights", weights_without_scale),
    "mask after softmax": ("attention_weights", weights_masked_too_late),
    "no mask": ("causal_mask", mask_of_nothing),
    "mask off by one": ("causal_mask", mask_off_by_one),
    "heads merged by reshape": ("merge_heads", merge_by_reshape),
}
ANONYMOUS = {  # the answers to "five models without a name" in notebook 09
    "A": "mask off by one",
    "B": "projection transposed",
    "C": "no scale",
    "D": "mask after softmax",
    "E": "heads merged by reshape",
}
TWO_AT_ONCE = {"F": ["erf GELU", "no mask"]}  # and to "two bugs at once"


@contextlib.contextmanager
def planted(name, params):  # -> params
    """A model with a bug while the `with` lasts.

    name: of one in BUGS, a letter in ANONYMOUS or TWO_AT_ONCE, a list of them, or "clean", for none.
    """
    with contextlib.ExitStack() as stack:
        for bug in bugs_of(name):
            if callable(BUGS[bug]):
                params = BUGS[bug](params)
            else:
                stack.enter_context(mock.patch.object(gpt2, *BUGS[bug]))
        yield params


def title(name):  # as in `planted` -> str
    """A name as it is; several at once, joined."""
    return name if isinstance(name, str) else " + ".join(map(title, name))


def listed(names):  # a name or several -> list of names
    """So that one name alone need not be in a list."""
    return [names] if isinstance(names, str) else list(names)


def bugs_of(name):  # as in `planted` -> list of names in BUGS
    """The bugs that a name stands for. Raises ValueError for an unknown one."""
    if isinstance(name, (list, tuple)):
        return [bug for one in name for bug in bugs_of(one)]
    known = {"clean": [], **TWO_AT_ONCE, **{letter: [bug] for letter, bug in ANONYMOUS.items()}}
    if name not in BUGS and name not in known:
        raise ValueError(f"there is no bug {name!r}: it must be one of {', '.join([*BUGS, *known])}")
    return known.get(name, [name])
