"""Speculative decoding: guess a few ids cheaply, check them in one forward pass, keep those that are right.

A pass reads all the weights, half a gigabyte for 124M, and reading them takes most of its time: a pass over
ten tokens costs far less than ten passes. A pass over the last id and n guesses gives n + 1 rows of logits,
and row i is what the plain loop would see, as long as the guesses before it are right. `pick` chooses from
one row after another, as in that loop; a wrong guess ends the pass. So the ids are those of `gpt2.stream`
with the same `pick`, except for ties within rounding error; guesses only decide how many ids one pass yields.
What wrong guesses leave in the cache lies after n_past, and is overwritten.

(Leviathan, Kalman & Matias 2023, "Fast Inference from Transformers via Speculative Decoding")
"""

import numpy as np

import gpt2


def lookup(ids, n, n_gram=5, n_most=64):  # [n_seq] -> at most n ids
    """Guess what followed the last n_gram ids at their previous occurrence.

    The longer the match, the longer the guess: twice the match, at most n_most. A guess that reaches the end
    of the text starts over, as a text that repeats itself does. (Saxena 2023, "Prompt Lookup Decoding")
    """
    last = ids[-n_gram:]
    for end in range(len(ids) - 1, n_gram - 1, -1):  # the latest first
        if ids[end - n_gram : end] == last:
            n_match = n_gram
            while n_match < end and ids[end - n_match - 1] == ids[-n_match - 1]:
                n_match += 1
            return [ids[end + i % (len(ids) - end)] for i in range(min(n, 2 * n_match, n_most))]
    return []


def stream(inputs, params, n_head, n_tokens_to_generate, pick=np.argmax, guess=lookup):  # [n_seq] -> ids
    """The ids of `gpt2.stream`, faster. guess: ids so far and n -> at most n ids that may come next.

    Raises what `gpt2.stream` raises, and ValueError for a guess that is not an id of this model.
    """
    n_vocab = len(params["wte"])
    gpt2.check_inputs(inputs, n_tokens_to_generate, n_vocab, n_ctx=len(params["wpe"]))
    ids, n_past, n_whole = [int(i) for i in inputs], 0, len(inputs) + int(n_tokens_to_generate)
    kv_cache = gpt2.new_kv_cache(params, n_head, n_whole)
    while len(ids) < n_whole:
        n_useful = n_whole - len(ids) - 1  # a pass yields one id more than was guessed
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
    """Let a smaller model with the same vocabulary guess at most n_most ids, using its own cache."""
    kv_cache, cached_ids = gpt2.new_kv_cache(params, n_head, n_ctx=len(params["wpe"])), []

    def guess(ids, n):
        ids, n_wanted = list(ids), min(n, n_most, kv_cache.shape[-2] - len(ids))
        n_past = 0  # the cache is valid up to where the texts diverge; the last id is read for its logits
        while n_past < min(len(cached_ids), len(ids) - 1) and cached_ids[n_past] == ids[n_past]:
            n_past += 1
        for _ in range(n_wanted):
            hidden = gpt2.prefill(ids[n_past:], params, n_head, kv_cache, n_past)
            cached_ids[:], n_past = ids, len(ids)
            ids.append(int(pick(gpt2.next_logits(hidden[-1], params))))
        return ids[-n_wanted:] if n_wanted > 0 else []

    return guess


class DraftSampler:
    """Let a smaller model draw the guesses; ids come out as if drawn from the larger model's probabilities.

    In each pass `stream` calls guess once, then pick for one row of logits after another:

        sampler = DraftSampler(small_params, n_head, probabilities, np.random.default_rng(0))
        new_ids = stream(ids, params, n_head, 40, sampler.pick, sampler.guess)

    probabilities: logits [n_vocab], ids so far -> [n_vocab], for both models. A guess drawn with probability
    q, where the larger model has p, is accepted with probability min(1, p / q); in place of a rejected one,
    an id is drawn from the part of p that exceeds q (Leviathan et al. 2023, algorithm 1). Make a new sampler
    for each text.
    """

    def __init__(self, params, n_head, probabilities, rng, n_most=4):
        self.probabilities, self.rng = probabilities, rng
        self.draft = draft_model(params, n_head, self.draw_guess, n_most)
        self.ids = []  # the text so far
        self.guesses = []  # (id, the q that it was drawn from), not yet judged

    def guess(self, ids, n):  # [n_seq] -> at most n ids
        """First: draw guesses from the smaller model."""
        self.ids, self.guesses = list(ids), []
        return self.draft(ids, n)

    def draw_guess(self, logits):  # the smaller model's [n_vocab] -> id
        """Draw one guess, to follow those already drawn."""
        q = self.distribution(logits, self.ids + [guessed for guessed, _ in self.guesses])
        self.guesses.append((self.draw_from(q), q))
        return self.guesses[-1][0]

    def pick(self, logits):  # the larger model's [n_vocab] -> id
        """Then, row after row: accept the next guess, or draw an id in its place."""
        p = self.distribution(logits, self.ids)
        if self.guesses:
            guessed, q = self.guesses.pop(0)
            if self.rng.random() < p[guessed] / q[guessed]:  # always, where p >= q
                self.ids.append(guessed)
                return guessed
            p = np.maximum(p - q, 0)
        self.ids.append(self.draw_from(p))
        return self.ids[-1]

    def distribution(self, logits, ids):  # -> [n_vocab]
        """A model's probabilities in float64, made to sum to one, so that q and p can be compared."""
        p = self.probabilities(logits, ids).astype(np.float64)
        return p / p.sum()

    def draw_from(self, p):  # [n_vocab] -> id
        """Draw an id with probability p / sum(p)."""
        from extras.sampling import noisy_argmax  # imported here: the other ways to guess need no sampling

        with np.errstate(divide="ignore"):  # the log of 0 is -∞, which is never drawn
            return noisy_argmax(np.log(p), self.rng)
