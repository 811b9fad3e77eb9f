"""An embedding and a head of its own, in place of the one matrix that is both."""

import numpy as np
from helpers import SMALL, lively_params

import gpt2
from extras.quantize import quantize
from extras.untied import UntiedEmbedding, apart, together
from weights import flatten

IDS = np.random.default_rng(0).integers(0, SMALL["n_vocab"], 20)


def untied(params):
    return params | {"wte": UntiedEmbedding(params["wte"], lively_params(SMALL, seed=1)["wte"])}


def test_rows_are_of_the_embedding_and_the_transpose_is_of_the_head(params):
    embedding, head = params["wte"], lively_params(SMALL, seed=1)["wte"]
    wte = UntiedEmbedding(embedding, head)
    assert len(wte) == SMALL["n_vocab"]
    for ids in (5, [3, 1], IDS, IDS.reshape(2, 10), slice(2, 9)):
        np.testing.assert_array_equal(wte[ids], embedding[ids])
    np.testing.assert_array_equal(wte.T, head.T)
    assert wte.embedding is embedding and wte.head is head


def test_the_model_reads_with_the_one_and_predicts_with_the_other(params):
    model = untied(params)
    hidden = gpt2.transformer(IDS, **params, n_head=SMALL["n_head"])
    logits = gpt2.gpt2(IDS, **model, n_head=SMALL["n_head"])
    np.testing.assert_array_equal(logits, hidden @ model["wte"].head.T)
    assert np.abs(logits - hidden @ params["wte"].T).max() > 0.1


def test_apart_names_all_arrays_and_the_head_too(params):
    tied, leaves = apart(params), apart(untied(params))
    assert tied.keys() == leaves.keys() == flatten(params).keys() | {"lm_head"}
    assert tied["lm_head"] is tied["wte"] is params["wte"]
    assert leaves["wte"] is params["wte"] and leaves["lm_head"] is not params["wte"]
    for name, array in flatten(params).items():
        assert tied[name] is leaves[name] is array


def test_together_is_its_inverse_and_shares_every_array(params):
    for model in (params, untied(params), quantize(params, "int8"), quantize(untied(params), "nf4")):
        again = together(apart(model))
        assert isinstance(again["wte"], UntiedEmbedding) == isinstance(model["wte"], UntiedEmbedding)
        leaves = apart(again)
        assert leaves.keys() == apart(model).keys()
        for name, leaf in apart(model).items():
            assert leaves[name] is leaf, name
        assert again is not model and again["blocks"] is not model["blocks"]


def test_without_an_embedding_there_is_none(params):
    """A caller may ask before anything was checked: it says what is missing."""
    del params["wte"]
    leaves = apart(params)
    assert leaves["wte"] is None and leaves["lm_head"] is None
