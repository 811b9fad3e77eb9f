"""The checks of notebook 00: the loop of generation, and the number of parameters."""

from numbers import Integral, Real

import numpy as np

import gpt2
import weights
from tools.judging import NotYet, check, short, small_model


@check
def generate(f, ids, params, n_head):
    """f(ids, params, n_head, n_tokens): greedy, as gpt2.generate. ids, params, n_head: the notebook's."""
    for n_tokens in (1, 5, 0):
        for prompt in ([3], [1, 4, 1, 5]):
            generate_once(f, prompt, *small_model(), n_tokens)
    why = "It is right for a small model but not for this one: does it use the params and n_head it is given?"
    generate_once(f, list(ids), params, n_head, 5, why)


def generate_once(f, ids, params, n_head, n_tokens, why=None):
    """Check one prompt and one number of tokens. why: the cause of wrong ids, where only one is possible."""
    expected, given = [*gpt2.stream(ids, params, n_head, n_tokens)], list(ids)
    got = f(given, params, n_head, n_tokens)
    if given != ids:
        raise NotYet(f"Your loop changes the list that it is given, {ids}, to {given}: append to a copy.")
    if got is None:
        raise NotYet("It returned None: is a return missing?")
    got = got.tolist() if isinstance(got, np.ndarray) else got
    case = f"\n  ids       {ids}\n  n_tokens  {n_tokens}\n  expected  {expected}\n  got       {short(got)}"
    if not isinstance(got, (list, tuple)) or not all(isinstance(i, Integral) for i in got):
        raise NotYet(f"It should return a list of whole numbers, one for each new token.{case}")
    got = [int(i) for i in got]
    if got[: len(ids)] == ids and len(got) == len(ids) + n_tokens:
        raise NotYet(f"The prompt is in the result: return only the new ids.{case}")
    if len(got) != n_tokens:
        raise NotYet(f"The number of new ids should be {n_tokens}, but it is {len(got)}.{case}")
    if n_tokens > 1 and got == expected[:1] * n_tokens != expected:
        raise NotYet(f"It repeats its first id: each new id must join the ids before the next round.{case}")
    if got != expected:
        raise NotYet(f"{why or why_another(got, expected, ids, params, n_head)}{case}")


def why_another(got, expected, ids, params, n_head):  # three of [n], params, n_head -> str
    """Why the first wrong id may have been chosen."""

    def logits(ids):
        return gpt2.gpt2(ids, **params, n_head=n_head)

    n_right = [a == b for a, b in zip(got, expected)].index(False)
    new = expected[:n_right]
    rows = logits([*ids, *new])
    causes = {
        np.argmax(rows): "argmax ran over all rows at once: apply it to the last one, logits[-1].",
        np.argmax(rows[0]): "That is what follows the first token: take the last row, logits[-1].",
        np.argmin(rows[-1]): "That is the least likely token.",
    }
    for fed in ([*ids, *new][-1:], [*ids, *new[-1:]], [*new[::-1], *ids]):
        causes[np.argmax(logits(fed)[-1])] = "Feed the model all ids: the prompt, then each new one in order."
    return causes.get(got[n_right], "The likeliest id in the last row of the logits is a different one.")


@check
def count_parameters(f):
    """f(n_vocab, n_ctx, n_embd, n_layer), as weights.count."""
    small = {"n_vocab": 11, "n_ctx": 5, "n_embd": 5, "n_layer": 3}  # no two parts are of the same size
    for sizes in (small, *weights.PRESETS.values()):
        sizes = {name: sizes[name] for name in small}
        expected, got = weights.count(sizes | {"n_head": 1}), f(*sizes.values())
        if got is None:
            raise NotYet("It returned None: is a return missing?")
        if not isinstance(got, Real):
            raise NotYet(f"It should return a number, but it returned {short(got)}.")
        if got != expected:
            why = what_is_missing(got, expected, **sizes)
            case = "".join(f"\n  {name:9} {value:,}" for name, value in sizes.items())
            raise NotYet(f"{why}{case}\n  expected  {expected:,}\n  got       {got:,}")


def what_is_missing(got, expected, n_vocab, n_ctx, n_embd, n_layer):  # -> str
    """The part of the model that was left out or counted twice, if that explains the difference."""
    parts = {
        "wpe": n_ctx * n_embd,
        "the output matrix, which is wte again": n_vocab * n_embd,
        "wte and wpe": (n_vocab + n_ctx) * n_embd,
        "an output bias, one number for each token: GPT-2 has none": n_vocab,
        "ln_f": 2 * n_embd,
        "one of the two norms of each block": 2 * n_embd * n_layer,
        "ln_1 and ln_2, or the biases of attention": 4 * n_embd * n_layer,
        "all norms": (4 * n_layer + 2) * n_embd,
        "either g or b of every norm": (2 * n_layer + 1) * n_embd,
        "the biases of the four matrices": 9 * n_embd * n_layer,
        "the biases of the MLP": 5 * n_embd * n_layer,
        "all biases and norms": (13 * n_layer + 2) * n_embd,
        "everything called b": (11 * n_layer + 1) * n_embd,
        "all blocks but one": (12 * n_embd**2 + 13 * n_embd) * (n_layer - 1),
        "all blocks": (12 * n_embd**2 + 13 * n_embd) * n_layer,
        "two thirds of c_attn, which makes q, k and v": 2 * (n_embd**2 + n_embd) * n_layer,
        "two thirds of c_attn's w, which makes q, k and v": 2 * n_embd**2 * n_layer,
        "attn/c_proj": (n_embd**2 + n_embd) * n_layer,
        "c_attn": (3 * n_embd**2 + 3 * n_embd) * n_layer,
        "attention, or c_fc": (4 * n_embd**2 + 4 * n_embd) * n_layer,
        "mlp/c_proj": (4 * n_embd**2 + n_embd) * n_layer,
        "the MLP": (8 * n_embd**2 + 5 * n_embd) * n_layer,
        "three quarters of the MLP's width, 4 n_embd": (6 * n_embd**2 + 3 * n_embd) * n_layer,
    }
    for part, n in parts.items():
        if got == expected - n:
            return f"Your count is {n:,} too low: the size of {part}."
        if got == expected + n:
            return f"Your count is {n:,} too high: the size of {part}."
    return f"Your count is off by {got - expected:+,}, which no single part explains."
