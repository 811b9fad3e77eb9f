"""Choosing the next token at random: filters that change the logits, and a pick that draws from what is left.

A filter is a function: logits [n_vocab] and the ids so far -> logits [n_vocab]. A token whose logit becomes
-∞ cannot be chosen. Filters are applied one after another, in the order of FILTERS.

    pick = sampling.picker(ids, temperature=0.8, top_k=40, rng=np.random.default_rng([seed, 0]))
    new_ids = gpt2.generate(ids, params, n_head, 40, pick)
"""

import math

import numpy as np

import gpt2

EXTREME = 1e20  # a divisor beyond it, or below 1 / EXTREME, is set to that limit: float32 would overflow


def repetition_penalty(penalty):  # -> filter
    """For tokens already in the text: divide a positive logit by penalty, multiply a negative one by it.

    (after Keskar et al. 2019, who only divide)
    """
    penalty = clipped(penalty)

    def penalise(logits, ids):
        logits, seen = logits.copy(), np.unique(np.asarray(ids, dtype=np.intp))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        return logits

    return penalise


class NothingLeft(ValueError):
    """A filter removed every token."""


def no_repeat_ngram(n):  # -> filter
    """Remove tokens that would complete a run of n tokens that came before (Paulus et al. 2017, 2.5).

    The filter raises NothingLeft where no token is left.
    """
    n = int(n)

    def remove(logits, ids):
        ids = [int(i) for i in ids]
        n_before = n - 1  # how many ids of a run come before the one to choose
        last = ids[max(len(ids) - n_before, 0) :]
        ends = range(n_before, len(ids))
        repeating = [ids[end] for end in ends if ids[end - n_before : end] == last]
        left = logits.copy()
        left[repeating] = -np.inf
        if np.max(left) == -np.inf:
            advice = "ask for fewer new tokens, or a longer run"
            raise NothingLeft(f"no_repeat_ngram {n} leaves no token after {len(ids)}: {advice}")
        return left

    return remove


def temperature(degree):  # -> filter
    """Divide all logits: below 1, likely tokens become likelier; above 1, less so; 0 keeps the likeliest.

    The largest is subtracted first, which changes no probability, so that no quotient is too large.
    """
    if degree == 0:
        return top_k(1)
    degree = clipped(degree)

    def divide(logits, ids):
        below = logits - np.max(logits)
        with np.errstate(over="ignore"):  # a token that is far less likely becomes -∞
            return below / degree

    return divide


def clipped(divisor):  # -> float
    """The divisor, a Python float: NumPy's would widen float32 logits."""
    return min(max(float(divisor), 1 / EXTREME), EXTREME)


def top_k(k):  # -> filter
    """Keep the k likeliest tokens; among ties, the lower ids; 0 keeps all (Fan et al. 2018, 5.1)."""
    k = int(k)

    def keep_k(logits, ids):
        if not 0 < k < len(logits):
            return logits
        kth = np.partition(logits, -k)[-k]
        kept = logits > kth
        kept[np.flatnonzero(logits == kth)[: k - np.count_nonzero(kept)]] = True
        return np.where(kept, logits, -np.inf)

    return keep_k


def top_p(p):  # -> filter
    """Keep the fewest likeliest tokens whose probabilities sum to at least p (Holtzman et al. 2020)."""

    def keep_p(logits, ids):
        if p == 1:  # keep all: rounded sums may reach 1 too early
            return logits
        shares = gpt2.softmax(logits.astype(np.float64))
        likely = np.flatnonzero(shares >= (1 - p) / len(logits))  # all others together have less than 1 - p
        order = likely[np.argsort(-logits[likely], kind="stable")]  # among ties, the lower id first
        kept = np.zeros(len(logits), dtype=bool)
        kept[order[: np.searchsorted(np.cumsum(shares[order]), p) + 1]] = True
        return np.where(kept, logits, -np.inf)

    return keep_p


def min_p(p):  # -> filter
    """Keep tokens that are at least p times as likely as the likeliest (Nguyen et al. 2024)."""
    log_p = math.log(p) if p > 0 else -math.inf
    return lambda logits, ids: np.where(logits >= np.max(logits) + log_p, logits, -np.inf)


FILTERS = {  # in order of use: the filter, and the numbers it allows, in words and as a test
    "repetition_penalty": (repetition_penalty, "above 0", lambda x: 0 < x < math.inf),
    "no_repeat_ngram": (
        no_repeat_ngram,
        "a whole number, 1 or more",
        lambda x: 1 <= x < math.inf and x == int(x),
    ),
    "temperature": (temperature, "0 or more", lambda x: 0 <= x < math.inf),
    "top_k": (top_k, "a whole number, 0 or more", lambda x: 0 <= x < math.inf and x == int(x)),
    "top_p": (top_p, "above 0 and at most 1; leave it out to draw from all tokens", lambda x: 0 < x <= 1),
    "min_p": (min_p, "from 0 to 1", lambda x: 0 <= x <= 1),
}


def filters(**settings):  # temperature=0.8, top_k=40, ... -> {name: filter}
    """The filters for these settings, in order of use; a setting of None adds no filter.

    Raises ValueError for an unknown name, and for a number out of range.
    """
    unknown = settings.keys() - FILTERS.keys()
    if unknown:
        raise ValueError(f"{min(unknown)} is not a filter: the filters are {', '.join(FILTERS)}")
    chain = {}
    for name, (make, allowed, is_allowed) in FILTERS.items():
        value = settings.get(name)
        if value is not None:
            if not is_allowed(value):
                raise ValueError(f"{name} is {value!r}: it must be {allowed}")
            chain[name] = make(value)
    return chain


def filtered(logits, ids, chain):  # [n_vocab], ids so far, filters -> [n_vocab]
    """The logits after each filter in turn."""
    for apply in chain:
        logits = apply(logits, ids)
    return logits


def probabilities(logits, ids, chain=()):  # [n_vocab], ids so far, filters -> [n_vocab]
    """softmax of the filtered logits.

    functools.partial(probabilities, chain=...) is what `speculative.DraftSampler` takes.
    """
    return gpt2.softmax(filtered(logits, ids, chain))


def noisy_argmax(logits, rng):  # [n_vocab] -> id
    """Draw an id from softmax(logits): the argmax after noise is added."""
    return int(np.argmax(noisy(logits, rng)))


def noisy(logits, rng):  # [n_vocab] -> [n_vocab]
    """logits + Gumbel noise: entry i is largest with probability softmax(logits)[i] (Maddison et al. 2014).

    Every token gets noise of its own, even one that cannot be chosen. So the last bits of the logits, which
    depend on the processor and on the batch, change a draw only where two tokens nearly tie. They would
    change far more draws if one random number were looked up among cumulative probabilities.
    """
    exponential = rng.standard_exponential(len(logits))  # drawn as float32, small ones would be too coarse
    exponential = np.maximum(exponential.astype(np.float32), np.finfo(np.float32).tiny)  # never 0
    return logits - np.log(exponential)  # minus the log of exponential noise is Gumbel noise


def picker(ids, *, rng, **settings):  # -> pick
    """A `pick` for one text that begins with ids. settings: as for `filters`.

    rng: a np.random.Generator, or None to take the likeliest of what the filters leave.
    """
    ids, chain = [int(i) for i in ids], filters(**settings).values()

    def pick(logits):
        left = filtered(logits, ids, chain)
        ids.append(int(np.argmax(left)) if rng is None else noisy_argmax(left, rng))
        return ids[-1]

    return pick


def pick_maker(seed, **settings):  # -> (ids, i) -> pick
    """A function that makes the pick for sample i of a text. settings: as for `filters`.

    Each sample has its own generator, seeded with [seed, i], so it is the same alone or among others; where
    seed is None, all of them take the likeliest. Raises what `filters` raises.
    """
    filters(**settings)

    def new_pick(ids, i):
        rng = None if seed is None else np.random.default_rng([seed, i])
        return picker(ids, rng=rng, **settings)

    return new_pick
