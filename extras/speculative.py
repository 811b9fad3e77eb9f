"""Speculative decoding: guess the next few ids cheaply, check them in one pass, keep those that are right.

A token costs one reading of all weights, half a gigabyte for 124M; ten read together cost far less than ten
readings. A pass over the last id and n guesses gives n + 1 rows of logits, and row i is what the plain loop
would see, as long as the guesses before it are right. `pick` chooses from row after row, as in that loop; a
wrong guess ends the pass. So the ids are those of `gpt2.stream` with the same `pick`, but for ties within
rounding; guesses only decide how many of them a pass brings. What wrong guesses left in the cache lies past
n_past, and is overwritten.

(Leviathan, Kalman & Matias 2023, "Fast Inference from Transformers via Speculative Decoding")
"""

import numpy as np

import gpt2


def lookup(ids, n, n_gram=5, n_most=64):  # [n_seq] -> at most n ids
    """Guess that the last n_gram ids are followed by what followed them when they last occurred.

    The longer the match, the longer the guess: twice the match, at most n_most. A guess that reaches the end
    of the text starts over, as a text in a loop does. (Saxena 2023, "Prompt Lookup Decoding")
    """
    last = ids[-n_gram:]
    for end in range(len(ids) - 1, n_gram - 1, -1):  # the latest first
        if ids[end - n_gram : end] == last:
            n_alike = n_gram
            while n_alike < end and ids[end - n_alike - 1] == ids[-n_alike - 1]:
                n_alike += 1
            return [ids[end + i % (len(ids) - end)] for i in range(min(n, 2 * n_alike, n_most))]
    return []


def stream(inputs, params, n_head, n_tokens_to_generate, pick=np.argmax, guess=lookup):  # [n_seq] -> ids
    """The ids of `gpt2.stream`, sooner. guess: ids so far and n -> at most n ids that may come next.

    Raises as `gpt2.stream`, and ValueError for a guess that is no id of this model.
    """
    n_vocab = len(params["wte"])
    gpt2.check_inputs(inputs, n_tokens_to_generate, n_vocab, n_ctx=len(params["wpe"]))
    ids, n_past, n_whole = [int(i) for i in inputs], 0, len(inputs) + int(n_tokens_to_generate)
    kv_cache = gpt2.new_kv_cache(params, n_head, n_whole)
    while len(ids) < n_whole:
        n_useful = n_whole - len(ids) - 1  # a pass brings one id more than was guessed
        guesses = [int(i) for i in guess(ids, n_useful)][:n_useful]
        if guesses and not 0 <= min(guesses) <= max(guesses) < n_vocab:
            raise ValueError(f"the guesses {guesses} are not all ids of this model, from 0 to {n_vocab - 1}")
        hidden = gpt2.prefill(ids[n_past:] + guesses, params, n_head, kv_cache, n_past)
        rows = gpt2.next_logits(hidden[-len(guesses) - 1 :], params)
        for logits, guessed in zip(rows, [*guesses, None]):
            ids.append(int(pick(logits)))
            yield ids[-1]
            if ids[-1] != guessed:
                break
        n_past = len(ids) - 1  # all but the last have been read


def draft_model(params, n_head, pick=np.argmax, n_most=4):  # -> guess
    """Let a smaller model of the same vocabulary guess, n_most ids at a time. It keeps a cache of its own."""
    kv_cache, cached_ids = gpt2.new_kv_cache(params, n_head, n_ctx=len(params["wpe"])), []

    def guess(ids, n):
        ids, n_wanted = list(ids), min(n, n_most, kv_cache.shape[-2] - len(ids))
        n_past = 0  # the cache is valid up to where the texts part; the last id is read for its logits
        while n_past < min(len(cached_ids), len(ids) - 1) and cached_ids[n_past] == ids[n_past]:
            n_past += 1
        for _ in range(n_wanted):
            hidden = gpt2.prefill(ids[n_past:], params, n_head, kv_cache, n_past)
            cached_ids[:], n_past = ids, len(ids)
            ids.append(int(pick(gpt2.next_logits(hidden[-1], params))))
        return ids[-n_wanted:] if n_wanted > 0 else []

    return guess


def draft_sampler(params, n_head, probabilities, rng, n_most=4):  # -> guess, pick
    """Let a smaller model draw the guesses; ids come out as if drawn from the larger one's probabilities.

    probabilities: logits [n_vocab], ids so far -> [n_vocab], for both models. A guess drawn with probability
    q, where the larger model has p, is kept with probability min(1, p / q); in place of a refused one, an id
    is drawn from the part of p that exceeds q (Leviathan et al. 2023, algorithm 1). Use a pair for one text.
    """
    ids, drawn = [], []  # the text so far; (guess, its q) still to be judged

    def draw(p):
        return int(rng.choice(len(p), p=p / p.sum()))

    def draw_guess(logits):
        q = distribution(logits, ids + [guessed for guessed, _ in drawn])
        drawn.append((draw(q), q))
        return drawn[-1][0]

    def distribution(logits, ids):
        p = probabilities(logits, ids).astype(np.float64)
        return p / p.sum()

    draft = draft_model(params, n_head, draw_guess, n_most)

    def guess(so_far, n):
        ids[:], drawn[:] = so_far, []
        return draft(so_far, n)

    def pick(logits):
        p = distribution(logits, ids)
        if drawn:
            guessed, q = drawn.pop(0)
            if rng.random() < p[guessed] / q[guessed]:
                ids.append(guessed)
                return guessed
            p = np.maximum(p - q, 0)
        ids.append(draw(p))
        return ids[-1]

    return guess, pick
