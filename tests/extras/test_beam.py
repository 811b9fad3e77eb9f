"""Beam search finds what a slow loop finds, and what trying every text finds where there are enough beams."""

import itertools
import math
import warnings

import numpy as np
import pytest
from helpers import SMALL, lively_params, passes

import gpt2
from extras import beam, sampling, scoring

N_HEAD, N_VOCAB = SMALL["n_head"], SMALL["n_vocab"]
PROMPT = [3, 1, 4]


def found(params, n, n_beams, prompt=PROMPT, **options):
    return list(beam.stream(prompt, params, N_HEAD, n, n_beams, **options))


def log_p(params, text, filters=()):
    """The log-probabilities of the token after a text, computed without a cache."""
    return sampling.filtered(scoring.log_softmax(gpt2.gpt2(text, **params, n_head=N_HEAD)[-1]), text, filters)


def slowly(params, prompt, n, n_beams, length_penalty=1.0, stop_ids=(), filters=()):
    """The search as a plain loop over every beam and every token; also: did it stop before n steps?"""
    beams, finished = [(0.0, list(prompt))], []
    for length in range(1, n + 1):
        candidates = []
        for total, text in beams:
            for i, more in enumerate(log_p(params, text, filters).astype(float)):
                candidates.append((total + more, [*text, i]))
        candidates.sort(key=lambda pair: -pair[0])
        for total, text in candidates[:n_beams]:
            if text[-1] in stop_ids or length == n:
                finished.append((total / length**length_penalty, text))
        finished.sort(key=lambda pair: -pair[0])
        del finished[n_beams:]
        beams = [(total, text) for total, text in candidates if text[-1] not in stop_ids][:n_beams]
        if len(finished) == n_beams and not beams[0][0] / length**length_penalty > finished[-1][0]:
            break
    return finished[0][1][len(prompt) :], length < n


def random_case(i):
    """A model, and settings that often end the text: stop_ids are among what is found without them."""
    rng = np.random.default_rng(i)
    params = lively_params(SMALL | {"n_vocab": int(rng.integers(7, 60))}, seed=i, std=rng.choice([0.2, 0.5]))
    n_vocab, n, n_beams = len(params["wte"]), int(rng.integers(1, 12)), int(rng.integers(1, 7))
    prompt = rng.integers(0, n_vocab, int(rng.integers(1, 9))).tolist()
    options = {"length_penalty": float(rng.choice([-1, 0, 0.5, 1, 2]))}
    settings = {"no_repeat_ngram": rng.choice([None, 2, 3]), "repetition_penalty": rng.choice([None, 1.3])}
    options["filters"] = sampling.filters(**settings).values()
    plain = found(params, n, n_beams, prompt, **options)
    return (
        params,
        prompt,
        n,
        n_beams,
        options | {"stop_ids": rng.choice(plain, int(rng.integers(3))).tolist()},
    )


def test_the_search_finds_what_a_slow_loop_without_a_cache_finds(n_fuzz):
    n_cases = max(40, n_fuzz // 5)
    n_ended = n_early = n_unlike_greedy = 0
    for i in range(n_cases):
        params, prompt, n, n_beams, options = random_case(i)
        ours = found(params, n, n_beams, prompt, **options)
        wanted, early = slowly(params, prompt, n, n_beams, **options)
        assert ours == wanted, f"case {i}"
        n_ended += len(ours) < n
        n_early += early
        n_unlike_greedy += ours != found(params, n, 1, prompt, **options)
    print(f"{n_cases} cases: {n_ended} ended, {n_early} early, {n_unlike_greedy} not as greedy")
    assert min(n_ended, n_early, n_unlike_greedy) > n_cases / 5


# ---- the best of all texts ---------------------------------------------------------------------------------


def every_text(tokens, end, n):
    """All texts of n tokens, and all shorter ones that the end ends."""
    for length in range(1, n + 1):
        last = [*tokens, end] if length == n else [end]
        for text in itertools.product(*[tokens] * (length - 1), last):
            yield list(text)


ALLOWED = [5, 17, 40, 77, 96]  # the last is the end


def only_allowed(log_p, ids):
    """A filter that leaves five tokens, with the end more likely than the model has it."""
    left = np.full_like(log_p, -np.inf)
    left[ALLOWED] = scoring.log_softmax(log_p[ALLOWED] + np.float32([0, 0, 0, 0, 1.5]))
    return left


def test_with_enough_beams_the_search_finds_the_best_of_all_texts(params):
    *tokens, end = ALLOWED
    lengths = set()
    for prompt in ([1], [2, 3], [4, 5, 6], [7], [8], [9]):
        sums = {}
        for text in every_text(tokens, end, 4):
            whole = [*prompt, *text]
            log_ps = [
                log_p(params, whole[:i], [only_allowed])[whole[i]] for i in range(len(prompt), len(whole))
            ]
            sums[tuple(text)] = sum(map(float, log_ps))
        for length_penalty in (-1, 0, 0.5, 1, 3):
            best = max(sums, key=lambda text: sums[text] / len(text) ** length_penalty)
            options = {"length_penalty": length_penalty, "stop_ids": [end], "filters": [only_allowed]}
            assert found(params, 4, N_VOCAB, prompt, **options) == [*best]
            lengths.add(len(best))
    assert len(lengths) > 2


# ---- texts with known probabilities ------------------------------------------------------------------------

A, B, END = 0, 1, 2


def told(probabilities):
    """A filter that replaces the log-probabilities after the prompt: {"ab": {A: 0.9, B: 0.1}, ...}."""

    def replace(log_p, ids):
        left = np.full_like(log_p, -np.inf)
        text = "".join("ab."[i] for i in ids[len(PROMPT) :])
        for i, p in probabilities[text].items():
            left[i] = math.log(p)
        return left

    return replace


GREEDY_MISSES = told(
    {"": {A: 0.6, B: 0.4}, "a": {A: 0.5, B: 0.4, END: 0.1}, "b": {A: 0.05, B: 0.9, END: 0.05}}
)


def test_a_less_likely_first_token_may_begin_the_likelier_text(params):
    assert found(params, 2, 1, filters=[GREEDY_MISSES]) == [A, A]  # 0.30
    assert found(params, 2, 2, filters=[GREEDY_MISSES]) == [B, B]  # 0.36


ONE_OR_THREE = told(  # "." has probability 0.3, "aaa" 0.125
    {"": {A: 0.5, END: 0.3, B: 0.2}, "a": {A: 0.5, B: 0.5}, "b": {A: 0.9, B: 0.1}}
    | {"aa": {A: 0.5, B: 0.5}, "ab": {A: 0.5, B: 0.5}, "ba": {A: 0.6, B: 0.4}, "bb": {A: 1}}
)


@pytest.mark.parametrize(
    "length_penalty, wanted",
    [
        (-1, [END]),
        (0, [END]),
        (0.4, [END]),  # ln 0.125 / 3**0.4 = -1.34, below ln 0.3 = -1.20
        (0.6, [A, A, A]),  # -1.08
        (1, [A, A, A]),
        (1e308, [A, A, A]),
        (-1e308, [END]),
    ],
)
def test_length_penalty_divides_the_sum_by_a_power_of_the_length(params, length_penalty, wanted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"length_penalty": length_penalty, "stop_ids": [END], "filters": [ONE_OR_THREE]}
        assert found(params, 3, 3, **options) == wanted


def test_an_end_that_is_not_among_the_best_candidates_does_not_finish_a_text(params):
    table = told({"": {A: 0.5, B: 0.3, END: 0.2}, "a": {A: 0.5, B: 0.5}, "b": {A: 0.5, B: 0.5}})
    options = {"length_penalty": 0, "stop_ids": [END], "filters": [table]}
    assert found(params, 2, 2, **options) == [A, A]  # 0.25
    assert found(params, 2, 3, **options) == [A, A]
    options["length_penalty"] = -1  # now any text of one token scores higher: ln 0.2 above 2 ln 0.25
    assert found(params, 2, 2, **options) == [A, A]
    assert found(params, 2, 3, **options) == [END]


def test_an_end_takes_no_place_among_the_beams(params):
    table = told(  # with one place less, "b" would be lost
        {"": {END: 0.4, A: 0.35, B: 0.25}, "a": {A: 0.5, B: 0.5}, "b": {B: 1}}
    )
    assert found(params, 2, 2, length_penalty=2, stop_ids=[END], filters=[table]) == [B, B]


def test_with_two_ends_there_are_still_as_many_beams(params):
    end = 7
    table = told(  # after two steps, "aa" is first, "bb" only sixth, and four texts between them end
        {"": {A: 0.51, B: 0.49}, "a": {A: 0.45, END: 0.3, end: 0.25}, "b": {END: 0.38, end: 0.37, B: 0.25}}
        | {"aa": {A: 0.5, B: 0.5}, "bb": {B: 1}}
    )
    assert found(params, 3, 2, length_penalty=2, stop_ids=[END, end], filters=[table]) == [B, B, B]


# ---- one id at a time --------------------------------------------------------------------------------------


def when_yielded(shapes, ids):
    """Each id, and how many passes there were before it came."""
    return [(i, len(shapes)) for i in ids]


def test_an_id_is_yielded_as_soon_as_all_beams_have_it(params, monkeypatch):
    table = told(
        {"": {A: 0.9, B: 0.1}, "a": {A: 0.6, B: 0.4}, "b": {A: 0.5, B: 0.5}}  # then "aa" and "ab" are best
        | {"aa": {A: 0.9, B: 0.1}, "ab": {A: 0.1, B: 0.9}}
    )
    shapes = passes(monkeypatch)
    assert when_yielded(shapes, beam.stream(PROMPT, params, N_HEAD, 3, 2, filters=[table])) == [
        (A, 2),
        (A, 3),
        (A, 3),
    ]


BETTER_THAN_BEAMS = {"": {A: 0.6, B: 0.4}, "a": {A: 0.5, B: 0.5}, "b": {A: 0.1, B: 0.1, END: 0.8}}


@pytest.mark.parametrize(
    "n, length_penalty, wanted",
    [
        (4, 1, [(A, 4), (A, 4), (A, 4), (B, 4)]),  # ln 0.27 / 4, above ln 0.32 / 2
        (4, 0, [(B, 4), (END, 4)]),
    ],
)
def test_no_id_is_yielded_that_the_best_finished_text_does_not_have(
    params, monkeypatch, n, length_penalty, wanted
):
    table = told(  # after two steps the beams are "aa" and "ab", and "b." is finished
        BETTER_THAN_BEAMS
        | {"aa": {A: 0.9, B: 0.1}, "ab": {A: 0.6, B: 0.4}}
        | {"aaa": {B: 1}, "aab": {B: 1}, "aba": {B: 1}}
    )
    shapes = passes(monkeypatch)
    options = {"length_penalty": length_penalty, "stop_ids": [END], "filters": [table]}
    assert when_yielded(shapes, beam.stream(PROMPT, params, N_HEAD, n, 2, **options)) == wanted


def test_the_search_stops_once_no_beam_is_better_than_the_worst_finished_text(params, monkeypatch):
    table = told({"": {END: 0.5, A: 0.3, B: 0.2}, "a": {END: 0.9, A: 0.1}, "b": {END: 0.5, A: 0.5}})
    shapes = passes(monkeypatch)
    assert found(params, 9, 2, stop_ids=[END], filters=[table]) == [A, END]  # ln 0.27 / 2, above ln 0.5
    assert len(shapes) == 2


def test_a_beam_that_is_as_good_as_the_worst_finished_text_does_not_prolong_the_search(params):
    assert found(params, 9, 1, stop_ids=[A], filters=[told({"": {A: 0.5, B: 0.5}})]) == [A]


def test_one_beam_yields_each_id_at_once(params, monkeypatch):
    shapes = passes(monkeypatch)
    assert [n for _, n in when_yielded(shapes, beam.stream(PROMPT, params, N_HEAD, 9, 1))] == [*range(1, 10)]


# ---- one beam ----------------------------------------------------------------------------------------------


def test_one_beam_is_greedy(params, tiny):
    for prompt in ([1], [2, 3, 4], [96] * 20):
        greedy = gpt2.generate(prompt, params, N_HEAD, 12)
        assert found(params, 12, 1, prompt) == greedy
        end = greedy[7]
        assert found(params, 12, 1, prompt, stop_ids=[end]) == greedy[: greedy.index(end) + 1]
    encoder, hparams, params = tiny
    ids = encoder.encode("Once upon a time there was a king")
    greedy = gpt2.generate(ids, params, hparams["n_head"], 40)
    assert [*beam.stream(ids, params, hparams["n_head"], 40, 1)] == greedy


def test_more_beams_find_likelier_texts_than_one_with_the_bundled_model(tiny):
    encoder, hparams, params = tiny
    n_head, n_likelier = hparams["n_head"], 0
    for text in ("The little fox", "Once upon a time", "The king said", "I", "There was a man who"):
        ids = encoder.encode(text)
        sums = []
        for n_beams in (1, 4):
            new_ids = [*beam.stream(ids, params, n_head, 20, n_beams)]
            sums.append(scoring.log_probability(ids, new_ids, params, n_head))
        n_likelier += sums[1] > sums[0]
    assert n_likelier >= 4


# ---- filters -----------------------------------------------------------------------------------------------


def test_filters_are_given_the_log_probabilities_and_all_ids_of_each_beam(params):
    calls = []

    def note(log_p, ids):
        calls.append((ids, log_p.copy()))
        return log_p

    found(params, 3, 2, filters=[note])
    assert [len(ids) for ids, _ in calls] == [3, 4, 4, 5, 5]
    for ids, given in calls:
        assert ids[:3] == PROMPT and all(type(i) is int for i in ids)
        assert np.allclose(given, log_p(params, ids), atol=1e-4) and given.dtype == np.float32


def test_no_beam_repeats_a_run_that_came_before(params):
    options = {"filters": sampling.filters(no_repeat_ngram=2).values()}
    for n_beams in (1, 3):
        text = PROMPT + found(params, 28, n_beams, **options)
        assert len({*zip(text, text[1:])}) == len(text) - 1


def stopped_after(*stopped):
    """A filter that leaves only A and B, and nothing after these texts."""

    def stop(log_p, ids):
        if "".join("ab"[i] for i in ids[len(PROMPT) :]) in stopped:
            raise sampling.NothingLeft("nothing is left")
        left = np.full_like(log_p, -np.inf)
        left[[A, B]] = np.log(np.float32([0.7, 0.3]))
        return left

    return stop


def test_a_beam_to_which_the_filters_leave_nothing_is_given_up_and_the_others_continue(params):
    assert found(params, 3, 2, filters=[stopped_after("a")]) == [B, A, A]
    assert found(params, 3, 4, filters=[stopped_after("aa", "ab", "ba")]) == [B, B, A]


def test_beams_come_back_after_some_were_given_up(params):
    """The cache's rows are filled again where there are fewer beams and then more."""
    calls = []

    def note(log_p, ids):
        calls.append((ids, log_p.copy()))
        return log_p

    found(params, 5, 4, filters=[note, stopped_after("aa", "ab", "ba")])
    n_rows = [sum(len(ids) == length for ids, _ in calls) for length in range(3, 8)]
    assert n_rows == [1, 2, 4, 2, 4]
    for ids, given in calls:
        assert np.allclose(given, log_p(params, ids), atol=1e-4)


def test_if_the_filters_stop_all_beams_the_best_finished_text_is_the_result_if_there_is_one(params):
    filters = [stopped_after("aa", "ab", "ba", "bb")]
    with pytest.raises(sampling.NothingLeft, match="the filters leave no token to any beam: ask for fewer"):
        found(params, 3, 2, filters=filters)
    assert found(params, 3, 2, filters=filters, stop_ids=[B]) == [A, B]


# ---- passes, the cache, errors -----------------------------------------------------------------------------


def test_the_prompt_is_read_once_and_each_step_is_one_pass(params, monkeypatch):
    shapes = passes(monkeypatch)
    found(params, 4, 3)
    assert shapes == [(1, 3), (3, 1), (3, 1), (3, 1)]


def test_rows_of_the_cache_are_rearranged_at_once_and_only_where_their_texts_differ():
    rng = np.random.default_rng(0)
    texts = [[1, 2, 3, 4], [1, 2, 4, 4], [1, 2, 5, 5]]
    for parents in ([0, 1, 2], [1, 0, 2], [2, 2, 0], [1, 2], [2], [0, 0, 0, 1], [1, 1, 0, 2, 2]):
        kv_cache = rng.normal(size=(2, 2, 5, 3, 6, 4))
        before = kv_cache.copy()
        beam.rearrange(kv_cache, texts, parents)
        n_same = 2 if len(parents) <= 3 else 0
        for row in range(5):
            parent = parents[row] if row < len(parents) else row
            wanted = before[:, :, row].copy()
            if parent != row:
                wanted[..., n_same:4, :] = before[:, :, parent, :, n_same:4]
            assert np.array_equal(kv_cache[:, :, row], wanted)


def test_inputs_may_be_an_array_and_do_not_change(params):
    prompt = np.array(PROMPT)
    ids = found(params, np.int64(5), np.int64(3), prompt, stop_ids=np.array([96]))
    assert prompt.tolist() == PROMPT and ids == found(params, 5, 3, stop_ids=[96])
    assert all(type(i) is int for i in ids)


def test_no_new_tokens_are_no_ids(params):
    assert found(params, 0, 3) == []


def test_there_may_be_as_many_beams_as_tokens():
    hparams = SMALL | {"n_vocab": 3}
    params = lively_params(hparams, seed=0)
    for n_beams, n_ends in itertools.product((1, 2, 3), range(3)):
        options = {"stop_ids": [2, 1][:n_ends]}
        assert found(params, 5, n_beams, [0], **options) == slowly(params, [0], 5, n_beams, **options)[0]
    alone = lively_params(SMALL | {"n_vocab": 1}, seed=0)
    assert found(alone, 3, 1, [0]) == [0, 0, 0] and found(alone, 3, 1, [0], stop_ids=[0]) == [0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_beams": 0}, "n_beams is 0: it must be a whole number from 1 to 97, the size of the vocabulary"),
        ({"n_beams": 98}, "n_beams is 98: it must be a whole number from 1 to 97"),
        ({"n_beams": 2.0}, "n_beams is 2.0"),
        ({"n_beams": True}, "n_beams is True"),
        ({"length_penalty": math.inf}, "length_penalty is inf: it must be a finite number"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [97]}, "97 is not an id"),
        ({"n": 30}, "3 prompt tokens and 30 new ones, but the model sees 32: at most 29 new ones fit"),
    ],
)
def test_what_cannot_be_searched_is_refused(params, options, message):
    with pytest.raises(ValueError, match=message):
        found(params, **{"n": 3, "n_beams": 2} | options)


def test_damaged_weights_are_refused(params):
    params["wte"][:] = np.nan
    with pytest.raises(FloatingPointError, match="the weights are damaged"):
        found(params, 3, 2)
