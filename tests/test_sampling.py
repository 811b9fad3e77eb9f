"""Filters by slow loops, and picks by their seeds; transformers judges in the parity lane."""

import math
from functools import partial

import numpy as np
import pytest
from helpers import SMALL

import gpt2
from extras import batching, sampling, speculative

RNG = np.random.default_rng(0)
ROWS = [np.float32(RNG.normal(0, std, n)) for std in (0.5, 2, 6) for n in (1, 7, 300)]
ROWS += [np.float32(RNG.integers(0, 3, 300)), np.float32([1, 1, 1, 1]), np.float32([3, -np.inf, 3, 2, -1, 2])]
IDS = [0, 2, 2]


def slowly(logits, ids, name, x):
    """What a filter keeps and changes, one token at a time."""
    logits = [float(logit) for logit in logits]
    p = [math.exp(logit - max(logits)) for logit in logits]
    p = [weight / sum(p) for weight in p]
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if name == "repetition_penalty":
        return [(z / x if z > 0 else z * x) if i in ids else z for i, z in enumerate(logits)]
    if name == "temperature" and x > 0:
        return [logit / x for logit in logits]
    if name == "temperature":
        kept = order[:1]
    if name == "top_k":
        kept = order[:x]
    if name == "top_p":
        kept = [i for n, i in enumerate(order) if sum(p[j] for j in order[:n]) < x]
    if name == "min_p":
        kept = [i for i in order if p[i] >= x * max(p) * (1 - 1e-9)]
    return [logit if i in kept else -math.inf for i, logit in enumerate(logits)]


@pytest.mark.parametrize(
    "name, x",
    [
        *[("repetition_penalty", x) for x in (1.3, 0.5, 1)],
        *[("temperature", x) for x in (0, 0.3, 1, 2.5)],
        *[("top_k", x) for x in (1, 2, 3, 40, 10**6)],
        *[("top_p", x) for x in (1e-9, 0.5, 0.9, 0.999, 1)],
        *[("min_p", x) for x in (0, 0.05, 0.5, 1)],
    ],
)
def test_each_filter_is_that_of_a_slow_loop_and_leaves_its_argument_alone(name, x):
    (apply,) = sampling.filters(**{name: x}).values()
    for logits in ROWS:
        ids, before = [i for i in IDS if i < len(logits)], logits.copy()
        filtered = apply(logits, ids)
        assert filtered.dtype == np.float32 and np.array_equal(logits, before)
        assert np.allclose(filtered, slowly(logits, ids, name, x), rtol=1e-6)


def test_top_k_keeps_exactly_k_and_of_equals_the_lower_ids():
    (apply,) = sampling.filters(top_k=3).values()
    assert apply(np.float32([1, 2, 1, 5, 1]), []).tolist() == [1, 2, -np.inf, 5, -np.inf]


def test_top_p_keeps_the_token_that_crosses_p():
    logits = np.log(np.float32([0.5, 0.3, 0.2]))
    for p, n_kept in ((0.4, 1), (0.6, 2), (0.79, 2), (0.81, 3), (1, 3)):
        (apply,) = sampling.filters(top_p=p).values()
        assert np.isfinite(apply(logits, [])).sum() == n_kept


def test_filters_come_in_one_order_whatever_the_order_of_the_words():
    names = list(sampling.filters(min_p=0.1, top_p=0.9, top_k=5, temperature=2, repetition_penalty=1.1))
    assert names == ["repetition_penalty", "temperature", "top_k", "top_p", "min_p"]
    assert sampling.filters(top_k=None) == {}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": -0.1}, "temperature is -0.1, it must be 0 or more"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0, it must be a whole number from 1 on"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_p": 0}, "top_p is 0, it must be above 0, at most 1"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"min_p": 1.5}, "min_p is 1.5, it must be from 0 to 1"),
        ({"min_p": -1}, "min_p is -1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0, it must be above 0"),
        ({"topk": 3}, "topk is no filter: there are repetition_penalty, temperature, top_k, top_p, min_p"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sampling.filters(**settings)


def test_probabilities_are_the_softmax_of_what_is_left():
    logits = np.float32([2, 1, 0, -1])
    chain = sampling.filters(temperature=2, top_k=2).values()
    p = sampling.probabilities(logits, [], chain)
    odds = math.exp(0.5)
    assert np.allclose(p, [odds / (1 + odds), 1 / (1 + odds), 0, 0])


def test_draws_have_their_probabilities():
    p, rng = np.float32([0.5, 0, 0.2, 0.3]), np.random.default_rng(0)
    counts = np.bincount([sampling.draw(p, rng) for _ in range(20_000)], minlength=4)
    assert np.abs(counts / 20_000 - p).max() < 0.015 and counts[1] == 0


class Extreme:
    """A generator at the ends of its range."""

    def __init__(self, number):
        self.number = number

    def random(self):
        return self.number


@pytest.mark.parametrize("number, wanted", [(0.0, 1), (1 - 2**-53, 3)])
def test_a_draw_never_takes_what_has_no_probability(number, wanted):
    assert sampling.draw(np.float32([0, 0.1, 0.2, 0.7, 0]), Extreme(number)) == wanted


def pick_of(prompt, i, **settings):
    return sampling.picker(prompt, rng=np.random.default_rng([7, i]), **settings)


SETTINGS = {"temperature": 2, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.2}


def test_one_seed_gives_one_text_alone_or_among_others_or_guessed(params):
    n_head, prompts = SMALL["n_head"], [[1, 2, 3], [4, 5, 6, 7], [8]]
    picks = [pick_of(prompt, i, **SETTINGS) for i, prompt in enumerate(prompts)]
    together = batching.generate(prompts, params, n_head, 20, picks)
    for i, prompt in enumerate(prompts):
        alone = gpt2.generate(prompt, params, n_head, 20, pick_of(prompt, i, **SETTINGS))
        guessed = speculative.stream(prompt, params, n_head, 20, pick_of(prompt, i, **SETTINGS))
        assert alone == together[i] == list(guessed)
    assert len(set(map(tuple, together))) == 3


def test_another_seed_gives_another_text(params):
    texts = [gpt2.generate([1], params, 3, 20, pick_of([1], i, temperature=2)) for i in range(5)]
    assert len(set(map(tuple, texts))) == 5


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 1}, {"min_p": 1}, {"top_p": 1e-9}])
def test_one_choice_is_the_greedy_one(params, settings):
    greedy = gpt2.generate([1, 2], params, SMALL["n_head"], 15)
    assert gpt2.generate([1, 2], params, SMALL["n_head"], 15, pick_of([1, 2], 0, **settings)) == greedy


def test_a_penalty_counts_the_prompt_and_what_was_chosen():
    pick = sampling.picker([0], temperature=0, repetition_penalty=10, rng=np.random.default_rng(0))
    assert [pick(np.float32([5, 4, 3, 0.1])) for _ in range(4)] == [1, 2, 0, 0]


def test_a_draft_draws_with_the_same_filters(params):
    probabilities = partial(sampling.probabilities, chain=sampling.filters(top_k=3).values())
    guess, pick = speculative.draft_sampler(params, 3, probabilities, np.random.default_rng(0))
    ids = list(speculative.stream([1, 2], params, 3, 20, pick, guess))
    for n, new_id in enumerate(ids):
        logits = gpt2.gpt2([1, 2, *ids[:n]], **params, n_head=3)[-1]
        assert new_id in np.argsort(-logits)[:3]


@pytest.mark.parity
def test_transformers_filters_alike(transformers):
    import torch
    from transformers.generation import logits_process as theirs

    processors = {
        "repetition_penalty": theirs.RepetitionPenaltyLogitsProcessor,
        "temperature": theirs.TemperatureLogitsWarper,
        "top_k": theirs.TopKLogitsWarper,
        "top_p": theirs.TopPLogitsWarper,
        "min_p": theirs.MinPLogitsWarper,
    }
    rng = np.random.default_rng(1)
    for _ in range(100):
        n = int(rng.integers(5, 3000))
        row = np.float32(rng.normal(0, rng.choice([0.5, 2, 6]), n))
        ids, p = rng.integers(0, n, 20), float(rng.uniform(0.01, 0.99))
        settings = {"repetition_penalty": 1 + p, "temperature": 2 * p, "top_k": int(rng.integers(1, n))}
        settings |= {"top_p": p, "min_p": p / 2}
        ours, judged = row, torch.from_numpy(row[None])
        for name, apply in sampling.filters(**settings).items():
            ours = apply(ours, ids)
            judged = processors[name](settings[name])(torch.from_numpy(ids[None]), judged)
            assert np.array_equal(np.isfinite(ours), np.isfinite(judged[0].numpy())), name
            assert np.allclose(ours, judged[0].numpy(), rtol=1e-5)
