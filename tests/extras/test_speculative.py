"""Speculative decoding: the ids of the plain loop, in fewer passes; and draws from the right distribution."""

import itertools

import numpy as np
import pytest
from helpers import SMALL, assert_same_ids, lively_params, passes, sampler
from hypothesis import given
from hypothesis import strategies as st

import gpt2
from extras import speculative

N_HEAD, N_VOCAB, N_CTX = SMALL["n_head"], SMALL["n_vocab"], SMALL["n_ctx"]
PROMPT = [3, 1, 4, 1, 5]


def another(seed=1, **hparams):
    """Another model of the same vocabulary."""
    return lively_params({**SMALL, **hparams}, seed)


def right(params, n_most=4):
    """Guesses that are always right: from the plain loop."""
    return lambda ids, n: gpt2.generate(ids, params, N_HEAD, min(n, n_most))


def half_right(params):
    """Guesses of which the third in each pass is wrong."""

    def guess(ids, n):
        guesses = right(params)(ids, n)
        return [(g + 1) % N_VOCAB if i == 2 else g for i, g in enumerate(guesses)]

    return guess


# ---- the same ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 27])
@pytest.mark.parametrize(
    "guess",
    [
        lambda params: speculative.lookup,
        lambda params: lambda ids, n: [],
        lambda params: lambda ids, n: [0] * n,
        lambda params: lambda ids, n: np.zeros(n, dtype=int),
        lambda params: lambda ids, n: right(params, n_most=99)(ids, n) + [0] * 9,  # too many
        right,
        half_right,
        lambda params: speculative.draft_model(params, N_HEAD),
        lambda params: speculative.draft_model(another(), N_HEAD),
        lambda params: speculative.draft_model(another(n_ctx=12), N_HEAD, n_most=9),
    ],
)
def test_guesses_do_not_change_the_ids(params, guess, n):
    wanted = gpt2.generate(PROMPT, params, N_HEAD, n)
    assert list(speculative.stream(PROMPT, params, N_HEAD, n, guess=guess(params))) == wanted


@pytest.mark.parametrize(
    "prompt", ["Once upon a time", "The little fox", "One fish, two fish. One fish, two"]
)
def test_lookup_gives_the_plain_text_of_the_bundled_model(tiny, prompt, monkeypatch):
    encoder, hparams, params = tiny
    ids, n_head = encoder.encode(prompt), hparams["n_head"]
    wanted = gpt2.generate(ids, params, n_head, 200)
    shapes = passes(monkeypatch)
    ours = list(speculative.stream(ids, params, n_head, 200))
    assert len(shapes) < 120, "a greedy text goes in circles, and lookup should save passes"
    assert_same_ids(ours, wanted, lambda new: gpt2.gpt2([*ids, *new], **params, n_head=n_head)[-1])


def test_a_long_prompt_is_read_in_chunks_and_guesses_may_span_two(tiny, monkeypatch):
    encoder, hparams, params = tiny
    ids, n_head = encoder.encode("One fish, two fish, red fish, blue fish. " * 20)[:127], hparams["n_head"]
    wanted = gpt2.generate(ids, params, n_head, 60)
    shapes = passes(monkeypatch)
    ours = list(speculative.stream(ids, params, n_head, 60))
    assert len(ids) == 127 and shapes[0] == (128,) and shapes[1][0] > 1, (
        "the guesses should need a second chunk"
    )
    assert_same_ids(ours, wanted, lambda new: gpt2.gpt2([*ids, *new], **params, n_head=n_head)[-1])


def test_a_seed_draws_the_same_ids_with_and_without_guesses(params):
    wanted = gpt2.generate(PROMPT, params, N_HEAD, 27, sampler(7))
    for guess in (speculative.lookup, right(params), half_right(params)):
        assert list(speculative.stream(PROMPT, params, N_HEAD, 27, sampler(7), guess)) == wanted
    assert len(set(wanted)) > 5


def test_ids_are_yielded_as_ints_one_at_a_time_and_the_prompt_does_not_change(params):
    prompt = list(PROMPT)
    ids = speculative.stream(prompt, params, N_HEAD, 9, guess=right(params))
    assert type(next(ids)) is int and len(list(ids)) == 8 and prompt == PROMPT


# ---- in fewer passes ---------------------------------------------------------------------------------------


def test_a_pass_yields_the_right_guesses_and_one_more_id(params, monkeypatch):
    guess = {n: gpt2.generate(PROMPT, params, N_HEAD, 22)[n:] for n in range(23)}
    shapes = passes(monkeypatch)
    known = speculative.stream(
        PROMPT, params, N_HEAD, 22, guess=lambda ids, n: guess[len(ids) - 5][: min(n, 4)]
    )
    assert len(list(known)) == 22
    assert shapes == [(5 + 4,), (5,), (5,), (5,), (2,)]  # 5 + 5 + 5 + 5 + 2 ids


def test_without_guesses_the_passes_are_those_of_the_plain_loop(params, monkeypatch):
    shapes = passes(monkeypatch)
    list(speculative.stream(PROMPT, params, N_HEAD, 9, guess=lambda ids, n: []))
    speculating = shapes.copy()
    shapes.clear()
    gpt2.generate(PROMPT, params, N_HEAD, 9)
    assert speculating == shapes == [(5,)] + [(1,)] * 8


# ---- lookup ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids, n, wanted",
    [
        ([], 9, []),
        ([1], 9, []),
        ([1, 2, 3, 4, 5, 6, 7], 9, []),  # never seen
        ([1, 2, 9, 1, 2], 9, []),  # two alike may be coincidence
        ([1, 2, 3, 9, 8, 7, 6, 5, 4, 1, 2, 3], 9, [9, 8, 7, 6, 5, 4]),  # three alike: six follow
        ([1, 2, 3, 9, 8, 7, 6, 5, 4, 1, 2, 3], 2, [9, 8]),  # no more than wanted
        ([1, 2, 3, 9, 8, 7, 6, 5, 4, 1, 2, 3], 0, []),
        ([1, 2, 3, 9, 1, 2, 3, 8, 7, 6, 5, 4, 1, 2, 3], 3, [8, 7, 6]),  # the latest
        ([5, 5, 5, 5], 9, [5, 5, 5, 5, 5, 5]),  # in circles
        ([1, 2, 1, 2, 1, 2], 9, [1, 2, 1, 2, 1, 2, 1, 2]),  # four alike, eight follow
    ],
)
def test_lookup_by_example(ids, n, wanted):
    assert speculative.lookup(ids, n, n_gram=3) == wanted


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(0, 12), st.integers(1, 4), st.integers(1, 9))
def test_lookup_does_what_its_docstring_says(ids, n, n_gram, n_most):
    alike = [  # for every earlier place in the text: how many ids before it match those at the end
        next(k for k in range(end + 1) if k == end or ids[end - 1 - k] != ids[-1 - k])
        for end in range(len(ids))
    ]
    places = [end for end in range(1, len(ids)) if alike[end] >= n_gram]
    guesses = []
    if places:
        text = ids.copy()
        for i in range(min(n, n_most, 2 * alike[places[-1]])):
            guesses.append(text[places[-1] + i])
            text.append(guesses[-1])
    assert speculative.lookup(ids, n, n_gram, n_most) == guesses


# ---- a draft model -----------------------------------------------------------------------------------------


def test_a_draft_model_guesses_its_own_greedy_ids_even_after_the_text_diverged():
    draft = another()
    guess = speculative.draft_model(draft, N_HEAD, n_most=3)
    texts = [PROMPT, [*PROMPT, 9], [*PROMPT, 9, 8], [*PROMPT, 9, 7, 7], [9], PROMPT, PROMPT]
    for ids in texts:
        before = list(ids)
        assert guess(ids, 5) == gpt2.generate(ids, draft, N_HEAD, 3) and ids == before
        assert guess(ids, 2) == gpt2.generate(ids, draft, N_HEAD, 2)
        assert guess(ids, 0) == []


def test_a_draft_model_reads_only_what_is_new(monkeypatch):
    guess = speculative.draft_model(another(), N_HEAD, n_most=3)
    shapes = passes(monkeypatch)
    guessed = guess(PROMPT, 3)
    assert shapes == [(5,), (1,), (1,)]
    guess([*PROMPT, *guessed, 9], 3)
    assert shapes[3:] == [(2,), (1,), (1,)]  # its last guess had not been read yet


def test_a_draft_model_stops_guessing_where_its_context_is_full():
    guess = speculative.draft_model(another(n_ctx=8), N_HEAD)
    assert [len(guess([1] * n, 9)) for n in range(4, 11)] == [4, 3, 2, 1, 0, 0, 0]


def test_a_good_draft_saves_passes(params, monkeypatch):
    draft = speculative.draft_model(params, N_HEAD)  # as good as a draft can be
    calls = []

    def guess(ids, n):
        calls.append(n)
        return draft(ids, n)

    list(speculative.stream(PROMPT, params, N_HEAD, 25, guess=guess))
    assert len(calls) == 5


# ---- drawing with a draft model ----------------------------------------------------------------------------

FEW = {"n_vocab": 4, "n_ctx": 8, "n_embd": 8, "n_head": 2, "n_layer": 1}


def warm(logits, ids):
    """Probabilities that also depend on the text so far: an id that was used becomes less likely."""
    return gpt2.softmax(logits - np.float32(0.3) * np.bincount(ids, minlength=len(logits)).astype(np.float32))


def chi_square(draw, large, n_draws):
    """How far texts of three drawn ids are from the large model's probabilities; about 63 if they agree."""
    expected = {}
    for text in itertools.product(range(4), repeat=3):
        ids, share = [0], 1.0
        for i in text:
            share *= float(warm(gpt2.gpt2(ids, **large, n_head=2)[-1], ids)[i])
            ids.append(i)
        expected[text] = share * n_draws
    seen = dict.fromkeys(expected, 0)
    for _ in range(n_draws):
        seen[draw()] += 1
    return sum((seen[text] - n) ** 2 / n for text, n in expected.items())


def test_ids_drawn_with_a_draft_have_the_large_models_distribution():
    large, small, rng = lively_params(FEW, 1), lively_params(FEW, 2), np.random.default_rng(3)

    def plainly():
        ids = [0]

        def pick(logits):
            p = warm(logits, ids).astype(float)
            ids.append(int(rng.choice(4, p=p / p.sum())))
            return ids[-1]

        return tuple(gpt2.generate([0], large, 2, 3, pick))

    def speculating():
        draft = speculative.DraftSampler(small, 2, warm, rng, n_most=2)
        return tuple(speculative.stream([0], large, 2, 3, draft.pick, draft.guess))

    def trusting():
        return tuple(speculative.DraftSampler(small, 2, warm, rng).guess([0], 3))

    high = 63 + 5 * (2 * 63) ** 0.5  # five standard deviations
    assert chi_square(plainly, large, 3000) < high
    assert chi_square(speculating, large, 3000) < high
    assert chi_square(trusting, large, 3000) > 5 * high, "the draft is too good to prove anything"


def test_a_draft_that_is_the_same_model_is_always_accepted(params):
    def by_text(logits, ids):  # so that the text so far counts, and guesses are part of it
        return gpt2.softmax(logits) / 9 + np.eye(N_VOCAB, dtype=np.float32)[sum(ids) % N_VOCAB]

    draft = speculative.DraftSampler(params, N_HEAD, by_text, np.random.default_rng(0), n_most=4)
    calls = []

    def counted(ids, n):
        calls.append(n)
        return draft.guess(ids, n)

    ids = list(speculative.stream(PROMPT, params, N_HEAD, 25, draft.pick, counted))
    assert len(ids) == 25 and len(calls) <= 6  # rounding may reject one


def test_an_id_with_probability_one_is_picked_whatever_the_draft(params):
    def best(logits, ids):
        return (logits == logits.max()).astype(np.float32)

    wanted = gpt2.generate(PROMPT, params, N_HEAD, 27)
    for small in (params, another(), another(n_ctx=12)):  # the last is full before the text ends
        draft = speculative.DraftSampler(small, N_HEAD, best, np.random.default_rng(0))
        assert list(speculative.stream(PROMPT, params, N_HEAD, 27, draft.pick, draft.guess)) == wanted


# ---- wrong use ---------------------------------------------------------------------------------------------


def test_what_the_plain_loop_refuses_is_refused(params):
    with pytest.raises(ValueError, match="the prompt is empty"):
        next(speculative.stream([], params, N_HEAD, 3))
    with pytest.raises(ValueError, match="at most 27 new ones fit"):
        next(speculative.stream(PROMPT, params, N_HEAD, 28))
    params["wte"][:] = np.nan
    with pytest.raises(FloatingPointError, match="the weights are damaged"):
        next(speculative.stream(PROMPT, params, N_HEAD, 3))


def test_guesses_from_another_vocabulary_are_refused(params):
    for guesses in ([5, 97], [-1]):
        with pytest.raises(
            ValueError, match=r"the guesses \[.*\] are not all ids of this model, from 0 to 96"
        ):
            list(speculative.stream(PROMPT, params, N_HEAD, 9, guess=lambda ids, n, g=guesses: g))
