"""Beam search finds the ids that transformers' finds, from the same weights: `pytest -m parity`."""

from functools import partial

import numpy as np
import pytest
from helpers import as_transformers, assert_same_ids, lively_params

import gpt2
import weights
from extras import beam, sampling

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("transformers")]

N_CASES, N_HEAD = 50, 3


def random_model(i, rng):
    """hparams and params with 7 to 300 tokens, and the same model in transformers."""
    n_vocab = int(7 * (301 / 7) ** rng.random())  # small ones as often as large ones
    hparams = {"n_vocab": n_vocab, "n_ctx": 64, "n_embd": 24, "n_head": N_HEAD, "n_layer": 2}
    params = lively_params(hparams, seed=i, std=rng.choice([0.15, 0.3, 0.5]))
    model = as_transformers(weights.flatten(params), hparams)
    model.generation_config.eos_token_id = None  # by default <|endoftext|> of the 124M
    return params, model


def random_case(i):
    """A model in both forms, a prompt, and settings under their names in transformers."""
    rng = np.random.default_rng(i)
    params, model = random_model(i, rng)
    prompt = rng.integers(0, len(params["wte"]), int(rng.integers(1, 30))).tolist()
    settings = {
        "max_new_tokens": int(rng.integers(1, 31)),
        "num_beams": int(rng.integers(2, 7)),
        "length_penalty": float(rng.choice([-1, 0, 0.5, 1, 2])),
        "no_repeat_ngram_size": int(rng.integers(0, 4)),
        "repetition_penalty": float(rng.choice([1, 1, 1.2, 0.8])),
    }
    return params, model, prompt, settings | {"eos_token_id": some_ends(params, prompt, settings, rng)}


def some_ends(params, prompt, settings, rng):
    """One or two ids, usually of what is found without ends, but not of its beginning."""
    n = int(rng.integers(1, 3))
    try:
        plain = ours(params, prompt, settings)
    except sampling.NothingLeft:
        plain = []
    first, late = plain[: len(plain) // 3], plain[len(plain) // 3 :]
    late = [i for i in late if i not in first]
    if not late or rng.random() < 0.3:
        late = range(len(params["wte"]))
    return sorted({int(i) for i in rng.choice(late, n)})


def ours(params, prompt, settings):
    filters = sampling.filters(
        repetition_penalty=settings["repetition_penalty"],
        no_repeat_ngram=settings["no_repeat_ngram_size"] or None,
    )
    ids = beam.stream(
        prompt,
        params,
        N_HEAD,
        settings["max_new_tokens"],
        settings["num_beams"],
        settings["length_penalty"],
        settings.get("eos_token_id", ()),
        filters.values(),
    )
    return list(ids)


def theirs(model, prompt, settings):  # -> ids, score
    import torch

    ids = torch.tensor([prompt])
    options = {"do_sample": False, "early_stopping": False, "pad_token_id": 0, "output_scores": True}
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True, **options | settings
        )
    return out.sequences[0, len(prompt) :].tolist(), float(out.sequences_scores[0])


def found_within_rounding(params, prompt, settings, monkeypatch):
    """What the search finds if each logit is changed at random, by at most 1e-5 of the largest."""
    rng, exact = np.random.default_rng(0), gpt2.next_logits

    def rounded(hidden, params):
        logits = exact(hidden, params)
        return logits + np.float32(rng.uniform(-1e-5, 1e-5, logits.shape)) * np.abs(logits).max()

    with monkeypatch.context() as patch:
        patch.setattr(gpt2, "next_logits", rounded)
        return [ours(params, prompt, settings) for _ in range(100)]


def test_the_same_ids_are_found_whatever_the_settings(monkeypatch):
    n_ended = n_long = n_unlike_greedy = n_stopped = n_ties = 0
    for i in range(N_CASES):
        params, model, prompt, settings = random_case(i)
        wanted, score = theirs(model, prompt, settings)
        try:
            new_ids = ours(params, prompt, settings)
        except sampling.NothingLeft:
            assert not score > -1e8, f"case {i}: transformers finds {wanted}"  # what it gives to no real text
            n_stopped += 1
            continue
        if new_ids != wanted:
            n_ties += 1
            near = found_within_rounding(params, prompt, settings, monkeypatch)
            assert wanted in near, f"case {i}: {new_ids}, not {wanted}; no tie within rounding"
        n_ended += new_ids[-1] in settings["eos_token_id"]
        n_long += len(new_ids) > 4
        n_unlike_greedy += new_ids != ours(params, prompt, settings | {"num_beams": 1})
    print(
        f"{N_CASES} cases: {n_ended} ended, {n_long} of 5 ids or more, {n_unlike_greedy} unlike greedy, ",
        end="",
    )
    print(f"{n_stopped} without a token left, {n_ties} with a tie")
    assert min(n_ended, n_long, n_unlike_greedy) >= N_CASES / 3
    assert n_stopped < N_CASES / 10 and n_ties < N_CASES / 10


def test_what_rounding_cannot_explain_is_not_taken_for_a_tie(monkeypatch):
    """Ids found with other settings are not among those that are found within rounding."""
    n_other = 0
    for i in range(20):
        params, _, prompt, settings = random_case(i)
        settings |= {"no_repeat_ngram_size": 0, "length_penalty": 2.0}
        other = ours(params, prompt, settings | {"num_beams": settings["num_beams"] - 1})
        if other != ours(params, prompt, settings):
            n_other += 1
            assert other not in found_within_rounding(params, prompt, settings, monkeypatch)
    assert n_other > 2


def test_without_beams_runs_are_not_repeated_in_the_same_way():
    import torch

    for i in range(20):
        rng = np.random.default_rng(i)
        params, model = random_model(i, rng)
        n, prompt = 1 + i % 3, rng.integers(0, len(params["wte"]), 5).tolist()
        n_new = 30 if n > 1 else min(30, len(params["wte"]) - 5)
        with torch.no_grad():
            wanted = model.generate(
                torch.tensor([prompt]), max_new_tokens=n_new, do_sample=False, no_repeat_ngram_size=n
            )
        pick = sampling.picker(prompt, no_repeat_ngram=n, rng=None)
        new_ids = gpt2.generate(prompt, params, N_HEAD, n_new, pick)
        next_logits = partial(left, params, prompt, n)
        assert_same_ids(new_ids, wanted[0, 5:].tolist(), next_logits)


def left(params, prompt, n, ids):
    """The logits after a text, without those that would repeat a run, for comparing two best ones."""
    text = [*prompt, *ids]
    logits = gpt2.gpt2(text, **params, n_head=N_HEAD)[-1]
    (apply,) = sampling.filters(no_repeat_ngram=n).values()
    kept = apply(logits, text)
    return kept[kept > -np.inf]
