"""Beam search: continue several texts at once, and keep the one that is the likeliest as a whole.

Greedy decoding takes the likeliest token at each step, and so can miss a likelier text that begins with a
less likely token. Beam search keeps the n_beams best texts so far, the beams. At each step, every token of
the vocabulary is tried after every beam, and the n_beams best of these candidates become the new beams: those
with the highest sum of log-probabilities, which is the log-probability of the whole text.

A candidate that ends with one of stop_ids cannot become a beam. If it is among the n_beams best, it is
finished. At the last step, the n_beams best are finished anyway. Each token adds a log-probability of at
most 0, so longer texts have lower sums. To compare texts of different lengths, the score of a finished one is

    sum of log-probabilities / length ** length_penalty

where length counts its new tokens. At 0 the sum decides, at 1 the mean; more favours long texts, less than 0
short ones. The search ends early once n_beams texts are finished and the best beam, scored at its present
length, is no better than the worst of them. The finished text with the best score is the result. These are
the rules, and so the ids, of `generate(num_beams=..., early_stopping=False)` in transformers.

The beams are a batch: one pass reads a token of each. A new beam may continue the text of another row, so
first the rows of the cache are rearranged.

(Lowerre 1976, "The HARPY Speech Recognition System"; for neural networks, Sutskever et al. 2014, "Sequence to
Sequence Learning with Neural Networks". The length penalty of Wu et al. 2016 is another formula: they divide
by ((5 + length) / 6) ** length_penalty.)
"""

import math
from os.path import commonprefix
from typing import NamedTuple

import numpy as np

import gpt2
from extras import sampling
from extras.scoring import log_softmax


class Beam(NamedTuple):
    """A text so far, the prompt included."""

    total: float  # the sum of the log-probabilities of its new ids
    text: list  # of ids
    parent: int  # the number of the beam that it continues


class Finished(NamedTuple):
    """A text that is complete."""

    score: float
    text: list


def stream(
    inputs, params, n_head, n_tokens_to_generate, n_beams, length_penalty=1.0, stop_ids=(), filters=()
):  # [n_seq] -> ids
    """Yield the best text's new ids, each as soon as all texts that may still win agree on it.

    The last one may be one of stop_ids. filters: functions that change the log-probabilities [n_vocab] after
    a beam, such as sampling.filters(no_repeat_ngram=3).values(). Raises what `gpt2.stream` raises, ValueError
    for n_beams or length_penalty out of range, and sampling.NothingLeft if the filters stop all beams.
    """
    check(inputs, params, n_tokens_to_generate, n_beams, length_penalty)
    n_beams, n_new = int(n_beams), int(n_tokens_to_generate)
    stop_ids, filters = {*stop_ids}, [*filters]
    read = reader(params, n_head, len(inputs) + n_new, n_beams)
    beams = [Beam(0.0, [int(i) for i in inputs], 0)]
    finished = []  # the best first
    n_yielded = len(inputs)
    for length in range(1, n_new + 1):
        candidates = best_candidates(read(beams), beams, filters, n_beams * (1 + len(stop_ids)))
        beams, ended = split(candidates, n_beams, stop_ids, is_last=length == n_new)
        finished += [Finished(score(beam.total, length, length_penalty), beam.text) for beam in ended]
        finished = sorted(finished, key=lambda text: -text.score)[:n_beams]  # among ties, the earlier first
        if beams and len(finished) == n_beams:
            if score(beams[0].total, length, length_penalty) <= finished[-1].score:
                beams = []
        agreed = common_beginning(beams, finished)
        yield from agreed[n_yielded:]
        n_yielded = len(agreed)
        if not beams:
            return


def check(inputs, params, n_tokens_to_generate, n_beams, length_penalty):
    """Raise ValueError for arguments out of range."""
    n_vocab, n_ctx = len(params["wte"]), len(params["wpe"])
    gpt2.check_inputs(inputs, n_tokens_to_generate, n_vocab, n_ctx)
    if not gpt2.is_whole(n_beams) or not 1 <= n_beams <= n_vocab:
        allowed = f"a whole number from 1 to {n_vocab}, the size of the vocabulary"
        raise ValueError(f"n_beams is {n_beams!r}: it must be {allowed}")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty is {length_penalty!r}: it must be a finite number")


def best_candidates(logits, beams, filters, n):  # [n_beams, n_vocab], Beams -> at most n Beams
    """The n likeliest texts that are a beam and one token more, the best first."""
    log_p = log_softmax(logits)
    for row, beam in enumerate(beams):
        try:
            log_p[row] = sampling.filtered(log_p[row], beam.text, filters)
        except sampling.NothingLeft:  # a dead end, but for this beam only
            log_p[row] = -np.inf
    before = np.array([beam.total for beam in beams])  # float64: for a long text, float32 is too coarse
    totals = before[:, None] + log_p
    candidates = []
    for place in largest(totals.ravel(), n):
        row, new_id = divmod(int(place), logits.shape[-1])
        candidates.append(Beam(float(totals[row, new_id]), [*beams[row].text, new_id], row))
    return candidates


def largest(numbers, n):  # [n_numbers] -> at most n indices
    """Where the n largest numbers are, the largest first, and of equal ones the earlier; never a -∞."""
    n = min(n, len(numbers))
    nth = np.partition(numbers, -n)[-n]
    found = np.flatnonzero((numbers >= nth) & (numbers > -np.inf))
    return found[np.argsort(-numbers[found], kind="stable")][:n]


def split(candidates, n_beams, stop_ids, is_last):  # Beams -> Beams, those that have ended
    """The n_beams best candidates that can go on, and those among the n_beams best that cannot.

    A beam has at most one candidate for each of stop_ids. So n_beams * (1 + len(stop_ids)) candidates are
    enough to find n_beams that can go on.
    """

    def has_ended(candidate):
        return is_last or candidate.text[-1] in stop_ids

    beams = [candidate for candidate in candidates if not has_ended(candidate)]
    ended = [candidate for candidate in candidates[:n_beams] if has_ended(candidate)]
    return beams[:n_beams], ended


def score(total, length, length_penalty):  # -> number
    """A sum of log-probabilities / length ** length_penalty."""
    with np.errstate(over="ignore", under="ignore"):
        divisor = np.float64(length) ** length_penalty
    return float(total / np.clip(divisor, 1e-300, 1e300))  # not 0 or ∞, however large the penalty


def common_beginning(beams, finished):  # -> ids
    """The ids with which all texts begin that may still win: the beams, and the best finished one."""
    texts = [each.text for each in [*beams, *finished[:1]]]
    if not texts:
        raise sampling.NothingLeft("the filters leave no token to any beam: ask for fewer new tokens")
    return commonprefix(texts)


# ---- the cache ---------------------------------------------------------------------------------------------


def reader(params, n_head, n_ctx, n_beams):  # -> read
    """A function that reads the new ids of all beams, and keeps the keys and values of each in a row."""
    kv_cache = gpt2.new_kv_cache(params, n_head, n_ctx, n_batch=n_beams)
    texts = [[]]  # the ids in each row

    def read(beams):  # Beams -> [n_beams, n_vocab]
        """The logits of the token after each beam."""
        n_past = len(texts[0])
        rearrange(kv_cache, texts, [beam.parent for beam in beams])
        texts[:] = [beam.text for beam in beams]
        new_ids = [text[n_past:] for text in texts]  # first the prompt, later one id
        hidden = gpt2.prefill(new_ids, params, n_head, kv_cache[:, :, : len(texts)], n_past)
        return gpt2.next_logits(hidden[:, -1], params)

    return read


def rearrange(kv_cache, texts, parents):
    """Copy row parents[i] of the cache to row i, for all i at once: only from where the texts differ.

    If there are more beams than before, all of it.
    """
    n_same = len(commonprefix(texts)) if len(parents) <= len(texts) else 0
    moved = [row for row, parent in enumerate(parents) if row != parent]
    for layer in kv_cache if moved else ():
        part = layer[..., n_same : len(texts[0]), :]  # [2, n_beams, n_head, n_differing, d_head]
        part[:, moved] = part[:, [parents[row] for row in moved]]
