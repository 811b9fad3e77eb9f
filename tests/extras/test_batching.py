"""Many texts at once: each is what it would be on its own, and they share forward passes."""

from functools import partial

import numpy as np
import pytest
from helpers import SMALL, assert_same_ids, lively_params, passes, sampler
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2
from extras import batching

N_HEAD, N_VOCAB, N_CTX = SMALL["n_head"], SMALL["n_vocab"], SMALL["n_ctx"]
MODEL = lively_params(SMALL, seed=1)


def alone(prompts, params, n, picks=None):
    picks = picks or [np.argmax] * len(prompts)
    return [gpt2.generate(prompt, params, N_HEAD, n, pick) for prompt, pick in zip(prompts, picks)]


@pytest.mark.parametrize("n", [0, 1, 12])
@pytest.mark.parametrize(
    "lengths", [[], [1], [5, 5], [1, 20], [20, 1], [3, 9, 3, 14, 1], [20] * 8, [2, 3, 4, 5, 6, 7, 8, 9]]
)
def test_every_text_gets_the_ids_that_it_would_get_on_its_own(params, lengths, n):
    rng = np.random.default_rng(len(lengths))
    prompts = [rng.integers(0, N_VOCAB, length).tolist() for length in lengths]
    assert batching.generate(prompts, params, N_HEAD, n) == alone(prompts, params, n)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), max_size=5), st.integers(0, 6))
def test_texts_that_begin_alike_get_the_ids_that_they_would_get_on_their_own(prompts, n):
    assert batching.generate(prompts, MODEL, N_HEAD, n) == alone(prompts, MODEL, n)


def test_long_prompts_are_read_in_chunks(tiny, monkeypatch):
    encoder, hparams, params = tiny
    n_head, model = hparams["n_head"], {**params, "n_head": hparams["n_head"]}
    story = encoder.encode(
        "The King rode to the wood, and there he met an old woman who gave him a ring. " * 9
    )
    prompts = [story[:5], story[2:200], story[3:180]]
    wanted = [gpt2.generate(prompt, params, n_head, 20) for prompt in prompts]
    shapes = passes(monkeypatch)
    ours = batching.generate(prompts, params, n_head, 20)
    assert (2, 128) in shapes and len(shapes) < 70
    for prompt, new_ids, plain in zip(prompts, ours, wanted):
        assert_same_ids(new_ids, plain, lambda ids, p=prompt: gpt2.gpt2([*p, *ids], **model)[-1])


def test_the_bundled_model_continues_real_prompts_as_it_would_one_at_a_time(tiny):
    encoder, hparams, params = tiny
    texts = ["The little fox", "Once upon a time there was a king who had three sons", "Once upon", "I"]
    prompts = [encoder.encode(text) for text in texts]
    ours = batching.generate(prompts, params, hparams["n_head"], 60)
    for prompt, new_ids in zip(prompts, ours):
        wanted = gpt2.generate(prompt, params, hparams["n_head"], 60)
        model = {**params, "n_head": hparams["n_head"]}
        assert_same_ids(new_ids, wanted, lambda ids, p=prompt, m=model: gpt2.gpt2([*p, *ids], **m)[-1])


def test_samples_of_one_prompt_are_the_same_as_alone_with_the_same_seeds(params):
    prompts = [[3, 1, 4, 1, 5]] * 8
    ours = batching.generate(prompts, params, N_HEAD, 12, [sampler(seed) for seed in range(8)])
    assert ours == alone(prompts, params, 12, [sampler(seed) for seed in range(8)])
    assert len(set(map(tuple, ours))) == 8


def test_each_prompt_keeps_its_own_pick_whatever_the_order_of_lengths(params):
    prompts = [[1], [2] * 9, [3] * 4]
    picks = [np.argmin, np.argmax, lambda logits: np.argsort(logits)[-2]]
    assert batching.generate(prompts, params, N_HEAD, 6, picks) == alone(prompts, params, 6, picks)


def test_a_prefix_that_all_prompts_share_is_read_once(params, monkeypatch):
    shapes = passes(monkeypatch)
    batching.generate([[3, 1, 4, 1, 5]] * 8, params, N_HEAD, 3)
    assert shapes == [(4,), (8, 1), (8, 1), (8, 1)]
    shapes.clear()
    batching.generate([[3, 1, 4, 1, 5], [3, 1, 9, 9, 9, 9]], params, N_HEAD, 2)
    assert shapes == [(2,), (2, 3), (2, 1), (1, 1)]


def test_a_finished_text_leaves_the_batch_and_the_others_continue_together(params, monkeypatch):
    shapes = passes(monkeypatch)
    batching.generate([[1] * 2, [2] * 20, [3] * 20], params, N_HEAD, 3)
    assert shapes == [(3, 2), (3, 1), (3, 1), (2, 16), (2, 1), (2, 1)]


def test_ids_are_yielded_as_they_are_picked(params):
    came = list(batching.stream([[1, 2], [5]], params, N_HEAD, 2))
    assert [i for i, _ in came] == [1, 0, 1, 0]
    assert all(type(new_id) is int for _, new_id in came)


def test_prompts_may_be_arrays_and_do_not_change(params):
    prompts = [np.array([1, 2, 3]), (4, 5)]
    ours = batching.generate(prompts, params, N_HEAD, 3)
    assert prompts[0].tolist() == [1, 2, 3] and ours == alone([[1, 2, 3], [4, 5]], params, 3)


@pytest.mark.parametrize(
    "prompts, n, picks, message",
    [
        ([[1], []], 1, None, "the prompt is empty"),
        ([[1], [2] * 30], 3, None, "30 prompt tokens and 3 new ones.*at most 2 new ones fit"),
        ([[1], [97]], 1, None, "97 is not an id"),
        ([[1]], -1, None, "n_tokens_to_generate is -1"),
        ([[1], [2]], 1, [np.argmax], "1 picks for 2 prompts: give one for each, or none"),
    ],
)
def test_prompts_that_cannot_be_continued_are_refused(params, prompts, n, picks, message):
    with pytest.raises(ValueError, match=message):
        batching.generate(prompts, params, N_HEAD, n, picks)


def test_damaged_weights_are_refused(params):
    params["wte"][:] = np.nan
    with pytest.raises(FloatingPointError, match="the weights are damaged"):
        batching.generate([[1], [2]], params, N_HEAD, 3)


def test_samples_are_separate_streams_that_may_be_read_in_any_order(params):
    picks = [sampler(seed) for seed in range(3)]
    wanted = batching.generate([[1, 2, 3]] * 3, params, SMALL["n_head"], 10, picks)
    for order in ([0, 1, 2], [2, 0, 1]):
        streams = batching.samples(
            [1, 2, 3], params, SMALL["n_head"], 10, [sampler(seed) for seed in range(3)]
        )
        assert {i: list(streams[i]) for i in order} == dict(enumerate(wanted))
    first, second, _ = batching.samples(
        [1, 2, 3], params, SMALL["n_head"], 10, [sampler(seed) for seed in range(3)]
    )
    assert [next(first) for _ in range(4)] == wanted[0][:4] and list(second) == wanted[1]


@pytest.mark.parametrize("seed", range(20))
def test_each_text_may_have_its_own_number_of_new_tokens(params, seed):
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, SMALL["n_vocab"], rng.integers(1, 15)).tolist() for _ in range(5)]
    n_new = rng.integers(0, 16, 5).tolist()
    wanted = [gpt2.generate(prompt, params, N_HEAD, n) for prompt, n in zip(prompts, n_new)]
    model = partial(gpt2.gpt2, **params, n_head=N_HEAD)
    for ours, plain, prompt in zip(batching.generate(prompts, params, N_HEAD, n_new), wanted, prompts):
        assert_same_ids(ours, plain, lambda ids, start=prompt: model([*start, *ids])[-1])


def test_numbers_of_new_tokens_that_are_not_one_for_each_prompt_are_refused(params):
    with pytest.raises(ValueError):
        batching.generate([[1], [2]], params, N_HEAD, [3])
