"""Choosing the next token by chance: filters that change logits, and a pick that draws from what is left.

A filter is a function, logits [n_vocab] and the ids so far -> logits [n_vocab]; what it gives -∞ cannot be
chosen. Several are applied one after the other, in the order in which `filters` lists them.

    pick = sampling.picker(ids, temperature=0.8, top_k=40, rng=np.random.default_rng([seed, 0]))
    new_ids = gpt2.generate(ids, params, n_head, 40, pick)
"""

import math

import numpy as np

import gpt2


def repetition_penalty(penalty):  # -> filter
    """Divide positive logits of tokens in the text by penalty, multiply others by it (Keskar et al. 2019)."""

    def penalise(logits, ids):
        logits, seen = logits.copy(), np.unique(np.asarray(ids, dtype=np.intp))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        return logits

    return penalise


def temperature(degree):  # -> filter
    """Divide all logits: below 1 the likely become likelier, above 1 less so. 0 keeps the likeliest alone."""
    return top_k(1) if degree == 0 else lambda logits, ids: logits / degree


def top_k(k):  # -> filter
    """Keep the k likeliest; of equals, those with the lower ids (Fan et al. 2018, 5.1)."""

    def keep_k(logits, ids):
        if k >= len(logits):
            return logits
        least = np.partition(logits, -k)[-k]
        kept = logits > least
        kept[np.flatnonzero(logits == least)[: k - np.count_nonzero(kept)]] = True
        return np.where(kept, logits, -np.inf)

    return keep_k


def top_p(p):  # -> filter
    """Keep the likeliest until their probabilities sum to p, the last included (Holtzman et al. 2020)."""

    def keep_p(logits, ids):
        order = np.argsort(-logits, kind="stable")  # of equals, the lower id first
        sums = np.cumsum(gpt2.softmax(logits[order].astype(np.float64)))
        kept = order[: np.searchsorted(sums, p) + 1]
        filtered = np.full_like(logits, -np.inf)
        filtered[kept] = logits[kept]
        return filtered

    return keep_p


def min_p(p):  # -> filter
    """Keep what is at least p times as likely as the likeliest (Nguyen et al. 2024)."""
    least = math.log(p) if p > 0 else -math.inf
    return lambda logits, ids: np.where(logits >= np.max(logits) + least, logits, -np.inf)


FILTERS = {  # in their order: the filter, what its number may be, in words and as a test
    "repetition_penalty": (repetition_penalty, "above 0", lambda x: 0 < x < math.inf),
    "temperature": (temperature, "0 or more", lambda x: 0 <= x < math.inf),
    "top_k": (top_k, "a whole number from 1 on", lambda x: x >= 1 and x == int(x)),
    "top_p": (top_p, "above 0, at most 1", lambda x: 0 < x <= 1),
    "min_p": (min_p, "from 0 to 1", lambda x: 0 <= x <= 1),
}


def filters(**settings):  # temperature=0.8, top_k=40, ... -> {name: filter}
    """The filters that are asked for, in their order; None asks for none. Raises ValueError out of range."""
    unknown = settings.keys() - FILTERS.keys()
    if unknown:
        raise ValueError(f"{min(unknown)} is no filter: there are {', '.join(FILTERS)}")
    chain = {}
    for name, (make, allowed, is_allowed) in FILTERS.items():
        value = settings.get(name)
        if value is not None:
            if not is_allowed(value):
                raise ValueError(f"{name} is {value!r}, it must be {allowed}")
            chain[name] = make(value)
    return chain


def probabilities(logits, ids, chain=()):  # [n_vocab], ids so far, filters -> [n_vocab]
    """softmax of what the filters leave. With functools.partial(..., chain=...), for draft_sampler."""
    for apply in chain:
        logits = apply(logits, ids)
    return gpt2.softmax(logits)


def draw(p, rng):  # [n_vocab] -> id
    """An id with its probability: where one random number falls among the sums of all up to each."""
    sums = np.cumsum(p, dtype=np.float64)
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))


def picker(ids, *, rng, **settings):  # -> pick
    """A `pick` for one text that begins with ids. rng: a np.random.Generator; settings: as for `filters`."""
    ids, chain = [int(i) for i in ids], filters(**settings).values()

    def pick(logits):
        ids.append(draw(probabilities(logits, ids, chain), rng))
        return ids[-1]

    return pick


def pick_maker(seed, **settings):  # -> (ids, i) -> pick
    """What makes the pick for sample i of a text; settings are those of `filters`, and it raises the same.

    Each sample has a generator of its own, of [seed, i]: so it draws the same, alone or among others.
    """
    filters(**settings)
    return lambda ids, i: picker(ids, rng=np.random.default_rng([seed, i]), **settings)
