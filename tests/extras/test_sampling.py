"""Filters agree with slow loops and with transformers, draws with probabilities; a seed gives one text."""

import json
import math
import os
import signal
import sys
import warnings
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from helpers import ROOT, SMALL, run_python

import gpt2
import utils
from extras import batching, sampling, scoring, speculative

RNG = np.random.default_rng(0)
ROWS = [np.float32(RNG.normal(0, std, n)) for std in (0.5, 2, 6) for n in (1, 7, 300)]
ROWS += [np.float32(RNG.integers(0, 3, 300)), np.float32([1, 1, 1, 1]), np.float32([3, -np.inf, 3, 2, -1, 2])]
IDS = [0, 2, 2]


def repeats(text, n):
    """Does the text end with a run of n tokens that it has before?"""
    runs = [tuple(text[end - n : end]) for end in range(n, len(text) + 1)]
    return runs[-1:] != [] and runs[-1] in runs[:-1]


def slowly(logits, ids, name, x):
    """What a filter keeps and changes, one token at a time."""
    logits = [float(logit) for logit in logits]
    p = [math.exp(logit - max(logits)) for logit in logits]
    p = [weight / sum(p) for weight in p]
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if name == "repetition_penalty":
        return [(z / x if z > 0 else z * x) if i in ids else z for i, z in enumerate(logits)]
    if name == "no_repeat_ngram":
        kept = [i for i in order if not repeats([*ids, i], x)]
    if name == "temperature" and x > 0:
        return [(logit - max(logits)) / x for logit in logits]
    if name == "temperature":
        kept = order[:1]
    if name == "top_k":
        kept = order[: x or None]
    if name == "top_p":
        kept = [i for n, i in enumerate(order) if sum(p[j] for j in order[:n]) < x]
    if name == "min_p":
        kept = [i for i in order if p[i] >= x * max(p) * (1 - 1e-9)]
    return [logit if i in kept else -math.inf for i, logit in enumerate(logits)]


@pytest.mark.parametrize(
    "name, x",
    [
        *[("repetition_penalty", x) for x in (1.3, 0.5, 1)],
        *[("no_repeat_ngram", x) for x in (2, 3, 10**6)],
        *[("temperature", x) for x in (0, 0.3, 1, 2.5)],
        *[("top_k", x) for x in (0, 1, 2, 3, 40, 10**6)],
        *[("top_p", x) for x in (1e-9, 0.5, 0.9, 0.999, 1)],
        *[("min_p", x) for x in (0, 0.05, 0.5, 1)],
    ],
)
def test_each_filter_does_what_a_slow_loop_does_and_does_not_change_its_argument(name, x):
    (apply,) = sampling.filters(**{name: x}).values()
    for logits in ROWS:
        ids, before = [i for i in IDS if i < len(logits)], logits.copy()
        filtered = apply(logits, ids)
        assert filtered.dtype == np.float32 and np.array_equal(logits, before)
        assert np.allclose(filtered, slowly(logits, ids, name, x), rtol=1e-6)


def test_top_k_keeps_exactly_k_tokens_and_among_ties_the_lower_ids():
    (apply,) = sampling.filters(top_k=3).values()
    assert apply(np.float32([1, 2, 1, 5, 1]), []).tolist() == [1, 2, -np.inf, 5, -np.inf]


def test_top_p_keeps_among_ties_the_lower_ids():
    (apply,) = sampling.filters(top_p=0.5).values()
    assert np.isfinite(apply(np.zeros(4, dtype=np.float32), [])).tolist() == [True, True, False, False]


def test_top_p_keeps_the_token_that_crosses_p():
    logits = np.log(np.float32([0.5, 0.3, 0.2]))
    for p, n_kept in ((0.4, 1), (0.6, 2), (0.79, 2), (0.81, 3), (1, 3)):
        (apply,) = sampling.filters(top_p=p).values()
        assert np.isfinite(apply(logits, [])).sum() == n_kept


def test_top_p_sorts_only_likely_tokens_and_keeps_the_same_as_if_it_sorted_all():
    rng = np.random.default_rng(2)
    for _ in range(500):
        n, p = int(rng.integers(1, 3000)), float(rng.uniform())
        logits = np.float32(rng.normal(0, rng.choice([0.1, 2, 6]), n).round(int(rng.integers(4))))
        order = np.argsort(-logits, kind="stable")
        sums = np.cumsum(gpt2.softmax(logits[order].astype(float)))
        (apply,) = sampling.filters(top_p=p).values()
        kept = np.flatnonzero(np.isfinite(apply(logits, [])))
        assert np.array_equal(kept, np.sort(order[: np.searchsorted(sums, p) + 1]))


def test_filters_are_applied_in_one_order_whatever_the_order_of_the_settings():
    settings = {"min_p": 0.1, "top_p": 0.9, "top_k": 5, "temperature": 2}
    names = list(sampling.filters(**settings, no_repeat_ngram=3, repetition_penalty=1.1))
    assert names == ["repetition_penalty", "no_repeat_ngram", "temperature", "top_k", "top_p", "min_p"]
    assert sampling.filters(top_k=None) == {}


# ---- runs that came before ---------------------------------------------------------------------------------


def test_no_repeat_ngram_removes_the_tokens_that_would_repeat_a_run():
    n_removed = 0
    for i in range(300):
        rng = np.random.default_rng(i)
        n, ids = int(rng.integers(1, 6)), rng.integers(0, 4, int(rng.integers(0, 40)))
        logits = np.float32(rng.normal(0, 2, 9))  # five tokens are never in the text
        (apply,) = sampling.filters(no_repeat_ngram=n).values()
        for text in (ids, ids.tolist(), tuple(ids)):
            left = apply(logits, text)
            removed = [token for token in range(9) if repeats([*ids, token], n)]
            assert np.flatnonzero(left == -np.inf).tolist() == removed and left.dtype == np.float32
            assert np.array_equal(left[left > -np.inf], np.delete(logits, removed))
        n_removed += len(removed)
    assert n_removed > 300


def test_a_text_drawn_without_repeated_runs_has_none(params):
    for n in (1, 2, 3):
        pick = pick_of([5, 6, 5], 0, temperature=0.1, no_repeat_ngram=n)
        text = [5, 6, 5, *gpt2.generate([5, 6, 5], params, SMALL["n_head"], 29, pick)]
        runs = [*zip(*(text[i:] for i in range(n)))]
        assert len(runs) - len({*runs}) == (n == 1)  # the prompt itself repeats one token
    greedy = gpt2.generate([5, 6, 5], params, SMALL["n_head"], 29)
    assert len({*greedy}) < 20


def test_where_no_token_is_left_that_would_not_repeat_a_run_an_error_says_what_to_do(params):
    picks = [sampling.picker([0, 1, 2], no_repeat_ngram=1, **more) for more in LEFT_TO_CHOOSE]
    for pick in picks:
        assert pick(np.float32([1, 2, 3, 4])) == 3
        message = "^no_repeat_ngram 1 leaves no token after 4: ask for fewer new tokens, or a longer run$"
        with pytest.raises(ValueError, match=message):
            pick(np.float32([1, 2, 3, 4]))


LEFT_TO_CHOOSE = [
    {"rng": None},
    {"rng": np.random.default_rng(0)},
    {"rng": np.random.default_rng(0), "temperature": 2, "top_k": 2, "top_p": 0.9, "min_p": 0.1},
]


# ---- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": -0.1}, "temperature is -0.1: it must be 0 or more"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1: it must be a whole number, 0 or more"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_k": math.inf}, "top_k is inf: it must be a whole number, 0 or more"),
        ({"top_p": 0}, "top_p is 0: it must be above 0 and at most 1"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"min_p": 1.5}, "min_p is 1.5: it must be from 0 to 1"),
        ({"min_p": -1}, "min_p is -1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0: it must be above 0"),
        ({"no_repeat_ngram": 0}, "no_repeat_ngram is 0: it must be a whole number, 1 or more"),
        ({"no_repeat_ngram": 2.5}, "no_repeat_ngram is 2.5"),
        ({"no_repeat_ngram": math.inf}, "no_repeat_ngram is inf"),
        (
            {"topk": 3},
            "topk is not a filter: the filters are repetition_penalty, no_repeat_ngram, temperature, top_k, "
            "top_p, min_p",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sampling.filters(**settings)


def test_a_number_of_numpy_keeps_float32_and_a_whole_float_is_a_whole_number():
    for settings in ({"temperature": np.float64(0.8)}, {"repetition_penalty": np.float64(1.2)}):
        (apply,) = sampling.filters(**settings).values()
        assert apply(np.float32([1, 2]), [0]).dtype == np.float32
    (apply,) = sampling.filters(top_k=2.0).values()
    assert apply(np.float32([1, 3, 2]), []).tolist() == [-np.inf, 3, 2]


# ---- extremes ----------------------------------------------------------------------------------------------

EXTREMES = [1e-320, 1e-46, 1e-40, 1e-38, 1e-20, 1e-9, 1e-5, 0.01, 1.2, 100, 1e9, 1e20, 1e38, 1e39, 1e300]
SPREADS = [0, 1e-3, 3, 100, 1e9]  # of logits: all equal, usual ones, more than any model gives


def extreme_case(i):  # -> logits, ids so far, a generator
    """A row of logits, some tied and some removed, and a text."""
    rng = np.random.default_rng(i)
    n = int(rng.integers(1, 60))
    logits = np.float32(rng.normal(rng.integers(-1, 2), 1, n).round(int(rng.integers(0, 6))))
    logits *= np.float32(rng.choice(SPREADS))
    logits[rng.random(n) < rng.choice([0, 0, 0.3])] = -np.inf
    logits[rng.integers(n)] = rng.normal() * 3
    return logits, rng.integers(0, n, int(rng.integers(0, 2 * n))), rng


def exactly(logits, ids, name, x):  # -> list of Fraction, None for a token that was removed
    """The penalty and the temperature in exact numbers."""
    exact, x = [None if logit == -np.inf else Fraction(float(logit)) for logit in logits], Fraction(x)
    if name == "temperature":
        return [None if z is None else z / x for z in exact]
    seen = {*ids.tolist()}
    return [z if z is None or i not in seen else z / x if z > 0 else z * x for i, z in enumerate(exact)]


def test_extreme_settings_do_what_exact_numbers_do(n_fuzz):
    """Tokens that can be chosen, those within 50 nats of the likeliest, have the same gaps to it."""
    n_overflows = n_ties = 0
    for i in range(n_fuzz):
        logits, ids, rng = extreme_case(i)
        name, x = ("temperature", "repetition_penalty")[i % 2], float(rng.choice(EXTREMES))
        (apply,) = sampling.filters(**{name: x}).values()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            changed = apply(logits, ids)
        assert changed.dtype == np.float32 and np.isfinite(changed.max()), (i, name, x)
        exact = exactly(logits, ids, name, x)
        best = max(z for z in exact if z is not None)
        wanted = np.array([np.inf if z is None or best - z > 10**4 else float(best - z) for z in exact])
        gaps = (changed.max() - changed).astype(float)
        likely = wanted < 50
        rounding = 1e-9 + np.abs(changed[np.isfinite(changed)]).max() * 2.0**-23
        assert np.allclose(gaps[likely], wanted[likely], rtol=1e-6, atol=rounding), (i, name, x)
        assert (gaps[~likely] > 49).all(), (i, name, x)
        n_overflows += best > Fraction(float(np.finfo(np.float32).max))
        n_ties += likely.sum() > 1
    print(f"{n_fuzz} cases: the largest overflows in {n_overflows}, {n_ties} with a choice")
    assert n_overflows > n_fuzz / 20 and n_ties > n_fuzz / 10


def test_extreme_settings_together_choose_an_id_that_is_left_without_a_warning(n_fuzz):
    near_limits = {"top_k": [1, 3.0, 10**9], "top_p": [1e-320, 1e-9, 0.9, 1 - 2**-53, 1]}
    near_limits |= {"min_p": [0, 1e-320, 0.1, 1 - 2**-53, 1]}
    near_limits |= {"temperature": [0, *EXTREMES], "repetition_penalty": EXTREMES}
    n_alone = 0
    for i in range(n_fuzz):
        logits, ids, rng = extreme_case(i)
        names = [name for name in near_limits if rng.random() < 0.6]
        settings = {name: near_limits[name][rng.integers(len(near_limits[name]))] for name in names}
        before = logits.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            left = sampling.filtered(logits, ids, sampling.filters(**settings).values())
            chosen = sampling.picker(ids, rng=rng, **settings)(logits)
            p = sampling.probabilities(logits, ids, sampling.filters(**settings).values())
        assert left.dtype == p.dtype == np.float32 and np.array_equal(logits, before), (i, settings)
        assert type(chosen) is int and 0 <= chosen < len(logits) and np.isfinite(left[chosen]), (i, settings)
        assert p.sum() == pytest.approx(1, abs=1e-5) and left.max() - left[chosen] < 50, (i, settings)
        n_alone += np.isfinite(left).sum() == 1
    print(f"{n_fuzz} cases: {n_alone} leave one token")
    assert n_fuzz / 10 < n_alone < 0.9 * n_fuzz


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1e-20},
        {"temperature": 1e-40},
        {"temperature": 1e-320},
        {"temperature": 1e-40, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_a_temperature_of_next_to_nothing_is_greedy(params, settings):
    greedy = gpt2.generate([1, 2], params, SMALL["n_head"], 15)
    assert gpt2.generate([1, 2], params, SMALL["n_head"], 15, pick_of([1, 2], 0, **settings)) == greedy


def test_a_temperature_of_next_to_nothing_leaves_a_tie_a_tie():
    (apply,) = sampling.filters(temperature=1e-30).values()
    left, rng = apply(np.float32([7, 9, 8, 9]), []), np.random.default_rng(0)
    assert {sampling.noisy_argmax(left, rng) for _ in range(40)} == {1, 3}


def test_a_tiny_penalty_and_a_tiny_temperature_choose_as_without_the_temperature():
    logits = np.float32([5, 4, 3, -1, -2])
    for penalty, wanted in ((1e-20, 1), (1e-40, 1), (1e20, 0), (1e300, 0)):
        for degree in (0, 1e-20, 1e-40):
            pick = sampling.picker(
                [1, 2, 3], repetition_penalty=penalty, temperature=degree, rng=np.random.default_rng(0)
            )
            assert pick(logits) == wanted


def test_probabilities_are_the_softmax_of_the_filtered_logits():
    logits = np.float32([2, 1, 0, -1])
    chain = sampling.filters(temperature=2, top_k=2).values()
    p = sampling.probabilities(logits, [], chain)
    odds = math.exp(0.5)
    assert np.allclose(p, [odds / (1 + odds), 1 / (1 + odds), 0, 0])


# ---- drawing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        *[{"temperature": x} for x in (0.5, 2)],
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"repetition_penalty": 1.5},
        {"temperature": 1.5, "top_k": 8, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2},
    ],
)
def test_ids_are_drawn_as_often_as_their_probabilities_say(settings):
    n_draws, rng = 20_000, np.random.default_rng(1)
    logits, ids = np.float32(np.random.default_rng(0).normal(0, 2, 12)), [3, 5, 5]
    chain = sampling.filters(**settings).values()
    p = sampling.probabilities(logits, ids, chain).astype(float)
    left = sampling.filtered(logits, ids, chain)
    counts = np.bincount([sampling.noisy_argmax(left, rng) for _ in range(n_draws)], minlength=12)
    deviation = (n_draws * p * (1 - p)) ** 0.5
    assert np.all(np.abs(counts - n_draws * p) <= 5 * deviation) and counts[p == 0].sum() == 0


def test_rare_tokens_are_drawn_as_rarely_as_they_should_be():
    """A thousand tokens share one draw in ten; three thousand others share one in three trillion."""
    p = np.repeat([0.9, 1e-4, 1e-16], [1, 1000, 3000])
    logits, rng, n_draws = np.log(p).astype(np.float32), np.random.default_rng(2), 20_000
    drawn = np.array([sampling.noisy_argmax(logits, rng) for _ in range(n_draws)])
    assert abs((drawn > 0).sum() - n_draws * 0.1) <= 5 * (n_draws * 0.1 * 0.9) ** 0.5
    assert drawn.max() <= 1000 and len(np.unique(drawn)) > 800


class Extreme:
    """A generator whose exponential noise is always this number."""

    def __init__(self, number):
        self.number = number

    def standard_exponential(self, size):
        return np.full(size, self.number)


@pytest.mark.parametrize("number", [0.0, 2.0**-60, 50.0])
def test_a_removed_token_is_never_drawn(number):
    logits = np.float32([-np.inf, -20, -90, -5, -np.inf])
    assert np.isfinite(sampling.noisy(logits, Extreme(number))[1:4]).all()
    assert sampling.noisy_argmax(logits, Extreme(number)) == 3


def test_every_token_gets_the_same_noise_whatever_the_filters_remove():
    logits, rng = np.float32(np.random.default_rng(0).normal(0, 2, 50)), np.random.default_rng(1)
    plain = sampling.noisy(logits, rng)
    for settings in ({"top_k": 7}, {"top_p": 0.5}, {"min_p": 0.2}, {"temperature": 0}):
        left = sampling.filtered(logits, [], sampling.filters(**settings).values())
        same = np.random.default_rng(1)
        scores, kept = sampling.noisy(left, same), np.isfinite(left)
        assert 0 < kept.sum() < 50 and np.array_equal(np.isfinite(scores), kept)
        assert np.array_equal(scores[kept], plain[kept])
        assert same.bit_generator.state == rng.bit_generator.state, "the next draw would have other noise"


# ---- one seed, one text ------------------------------------------------------------------------------------


def pick_of(prompt, i, **settings):
    return sampling.picker(prompt, rng=np.random.default_rng([7, i]), **settings)


SETTINGS = {"temperature": 2, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.2}


def test_a_seed_gives_the_same_text_alone_in_a_batch_and_with_guesses(params):
    n_head, prompts = SMALL["n_head"], [[1, 2, 3], [4, 5, 6, 7], [8]]
    picks = [pick_of(prompt, i, **SETTINGS) for i, prompt in enumerate(prompts)]
    together = batching.generate(prompts, params, n_head, 20, picks)
    for i, prompt in enumerate(prompts):
        alone = gpt2.generate(prompt, params, n_head, 20, pick_of(prompt, i, **SETTINGS))
        guessed = speculative.stream(prompt, params, n_head, 20, pick_of(prompt, i, **SETTINGS))
        assert alone == together[i] == list(guessed)
    assert len(set(map(tuple, together))) == 3


def test_different_seeds_give_different_texts(params):
    texts = [gpt2.generate([1], params, 3, 20, pick_of([1], i, temperature=2)) for i in range(5)]
    assert len(set(map(tuple, texts))) == 5


N_NEW = 60  # tokens in each
MIXED = [
    {"temperature": 1},
    {"temperature": 0.8, "top_k": 40},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 1.2, "min_p": 0.02, "repetition_penalty": 1.2},
]
CORES = ["Nehalem", "Haswell", "SkylakeX"]  # kernels of OpenBLAS with vectors of 4, 8 and 16 numbers


def beginnings(encoder, n_texts):  # -> n_texts lists of ids
    """Random pieces of the stories, of 5 to 40 tokens."""
    stories = scoring.split_documents((ROOT / "tests" / "stories.txt").read_text(encoding="utf-8"))
    rng, ids = np.random.default_rng(0), encoder.encode("".join(stories))
    starts, lengths = rng.integers(len(ids) - 40, size=n_texts), rng.integers(5, 41, size=n_texts)
    return [ids[start : start + length] for start, length in zip(starts, lengths)]


def drawn(ids, n, params, n_head, stream=gpt2.stream):
    """Text n: sample n mod 3 of seed n, with each of the settings in turn."""
    pick = sampling.pick_maker(n, **MIXED[n % 4])(ids, n % 3)
    return list(stream(ids, params, n_head, N_NEW, pick))


def drawn_among_three(ids, n, params, n_head):
    new_pick = sampling.pick_maker(n, **MIXED[n % 4])
    samples = batching.samples(ids, params, n_head, N_NEW, [new_pick(ids, i) for i in range(3)])
    return list(samples[n % 3])


def drawn_alone(n_texts):
    """All texts, one after the other; a process with other kernels runs this too."""
    encoder, hparams, params = utils.load_encoder_hparams_and_params("tiny", "models")
    return [drawn(ids, n, params, hparams["n_head"]) for n, ids in enumerate(beginnings(encoder, n_texts))]


def drawn_with_core(core, n_texts):
    """All texts, drawn with the OpenBLAS kernels of this name; skip where they cannot run."""
    program = f"import json, test_sampling as t; print(json.dumps(t.drawn_alone({n_texts})))"
    env = os.environ | {"OPENBLAS_CORETYPE": core, "OPENBLAS_VERBOSE": "2"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    done = run_python("-c", program, env=env)
    if f"Core: {core}".encode() not in done.stdout + done.stderr:
        pytest.skip(f"this NumPy has no OpenBLAS with kernels named {core}")
    if done.returncode in (-signal.SIGILL, 0xC000001D):  # the latter on Windows
        pytest.skip(f"this processor lacks instructions that OpenBLAS's {core} kernels use")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone(n_fuzz):
    return drawn_alone(max(12, n_fuzz // 10))


def gap(ids, n, place, a, b, params, n_head):
    """The gap between the two best noisy scores, which must be those of a and b, over the largest logit."""
    logits = gpt2.gpt2(ids, **params, n_head=n_head)[-1]
    chain, rng = sampling.filters(**MIXED[n % 4]).values(), np.random.default_rng([n, n % 3])
    for _ in range(place + 1):  # the noise of every token before, and of this one
        scores = sampling.noisy(sampling.filtered(logits, ids, chain), rng)
    assert {a, b} == set(np.argsort(scores)[-2:].tolist()), f"text {n}, id {place}: {a}, not {b}"
    return np.ptp(np.sort(scores)[-2:]) / np.abs(logits).max()


def assert_same_draws(ours, alone, tiny):  # -> the gap at the first difference of each text that differs
    """Equal, or different for the first time where the two best noisy scores are too close to tell apart."""
    encoder, hparams, params = tiny
    gaps = []
    for n, ids in enumerate(beginnings(encoder, len(alone))):
        assert len(ours[n]) == len(alone[n]) == N_NEW
        places = [place for place, (a, b) in enumerate(zip(ours[n], alone[n])) if a != b]
        if places:
            a, b, so_far = ours[n][places[0]], alone[n][places[0]], ids + alone[n][: places[0]]
            gaps.append(gap(so_far, n, places[0], a, b, params, hparams["n_head"]))
            assert gaps[-1] <= 1e-5, f"text {n}, id {places[0]}: {a}, not {b}; gap {gaps[-1]:.1e}"
    return gaps


def with_many_guesses(*words):
    """`speculative.stream`, but a match of one id is enough for a guess: drawn texts seldom match longer."""
    return speculative.stream(*words, guess=partial(speculative.lookup, n_gram=1))


WAYS = {
    "among three": drawn_among_three,
    "lookup": partial(drawn, stream=with_many_guesses),
    "chunks of 7": drawn,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_seed_draws_the_same_text_however_it_is_computed(tiny, alone, way, monkeypatch):
    encoder, hparams, params = tiny
    draw, n_head = WAYS[way], hparams["n_head"]
    if way == "chunks of 7":
        monkeypatch.setattr(gpt2, "prefill", partial(gpt2.prefill, n_chunk=7))
    ours = [draw(ids, n, params, n_head) for n, ids in enumerate(beginnings(encoder, len(alone)))]
    assert_same_draws(ours, alone, tiny)


@pytest.mark.parametrize("core", CORES)
def test_a_seed_draws_the_same_text_with_other_kernels(tiny, alone, core):
    assert_same_draws(drawn_with_core(core, len(alone)), alone, tiny)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 1}, {"min_p": 1}, {"top_p": 1e-9}])
def test_settings_that_leave_one_token_are_greedy(params, settings):
    greedy = gpt2.generate([1, 2], params, SMALL["n_head"], 15)
    assert gpt2.generate([1, 2], params, SMALL["n_head"], 15, pick_of([1, 2], 0, **settings)) == greedy


def test_a_penalty_applies_to_the_prompt_and_to_what_was_chosen():
    pick = sampling.picker([0], temperature=0, repetition_penalty=10, rng=np.random.default_rng(0))
    assert [pick(np.float32([5, 4, 3, 0.1])) for _ in range(4)] == [1, 2, 0, 0]


def test_a_draft_draws_with_the_same_filters(params):
    probabilities = partial(sampling.probabilities, chain=sampling.filters(top_k=3).values())
    draft = speculative.DraftSampler(params, 3, probabilities, np.random.default_rng(0))
    ids = list(speculative.stream([1, 2], params, 3, 20, draft.pick, draft.guess))
    for n, new_id in enumerate(ids):
        logits = gpt2.gpt2([1, 2, *ids[:n]], **params, n_head=3)[-1]
        assert new_id in np.argsort(-logits)[:3]


@pytest.mark.parity
def test_the_filters_of_transformers_do_the_same(transformers):
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
            assert np.allclose(gpt2.softmax(ours), gpt2.softmax(judged[0].numpy()), rtol=1e-5, atol=1e-30)


@pytest.mark.parity
def test_transformers_removes_the_same_tokens_that_would_repeat_a_run(transformers):
    import torch
    from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

    rng, n_removed = np.random.default_rng(2), 0
    for _ in range(300):
        n, n_vocab = int(rng.integers(1, 6)), int(rng.integers(30, 300))
        row, ids = np.float32(rng.normal(0, 2, n_vocab)), rng.integers(0, 4, int(rng.integers(1, 60)))
        (apply,) = sampling.filters(no_repeat_ngram=n).values()
        ours = apply(row, ids.tolist())
        theirs = NoRepeatNGramLogitsProcessor(n)(torch.from_numpy(ids[None]), torch.from_numpy(row[None]))
        assert np.array_equal(ours, theirs[0].numpy())
        n_removed += np.isinf(ours).any()
    assert n_removed > 150
