"""LoRA: w + (alpha / r) a b, merged or kept apart; what the base shares, and what it never loses."""

import numpy as np
import pytest
from helpers import SMALL, assert_same_logits, lively_params

import gpt2
from extras import batching, lora, speculative
from extras.untied import UntiedEmbedding
from weights import flatten, shapes

IDS = np.random.default_rng(0).integers(0, SMALL["n_vocab"], 20)
MATRICES = [name for name, shape in shapes(SMALL).items() if len(shape) == 2 and name != "wte"]
WAYS = [lora.merge, lora.attach]


def draw(names, seed=1, r=3, scale=1.5):
    """A random adapter of these matrices."""
    rng, updates = np.random.default_rng(seed), {}
    for name in names:
        n_in, n_out = shapes(SMALL)["wte" if name == "lm_head" else name]
        a, b = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((n_in, r), (r, n_out)))
        updates[name] = lora.Update(a, b, scale)
    return lora.Adapter(updates, {})


def logits_of(params):
    return gpt2.gpt2(IDS, **params, n_head=SMALL["n_head"])


def added(params, adapter):
    """The same model, with each matrix summed element by element, in float64."""
    leaves = flatten(params)
    for name, (a, b, scale) in adapter.updates.items():
        w = leaves[name].astype(float)
        for i, row in enumerate(a):
            for j, column in enumerate(b.T):
                w[i, j] += scale * sum(x * y for x, y in zip(row.tolist(), column.tolist()))
        leaves[name] = w.astype(np.float32)
    return leaves


def test_merging_adds_the_scaled_product_to_each_matrix(params):
    adapter = draw(["h0/attn/c_attn/w", "h1/mlp/c_proj/w"])
    merged, wanted = flatten(lora.merge(params, adapter)), added(params, adapter)
    assert merged.keys() == wanted.keys()
    for name, array in merged.items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-6)
        assert array.dtype == np.float32


def test_kept_apart_it_is_the_same_model(params):
    for adapter in (draw(MATRICES), draw(["wte"]), draw(["lm_head"]), draw([*MATRICES, "wte", "lm_head"])):
        merged, attached = (way(params, adapter) for way in WAYS)
        assert_same_logits(logits_of(attached), logits_of(merged))
        assert np.abs(logits_of(merged) - logits_of(params)).max() > 0.1
        ids = list(IDS[:5])
        picked = gpt2.generate(ids, attached, SMALL["n_head"], 12)  # with a cache
        assert picked == gpt2.generate(ids, merged, SMALL["n_head"], 12)
        assert picked == list(speculative.stream(ids, attached, SMALL["n_head"], 12))
        texts = batching.generate([ids, ids[:2]], attached, SMALL["n_head"], 12)
        assert texts[0] == picked


@pytest.mark.parametrize("way", WAYS)
def test_the_base_keeps_its_arrays_and_what_is_not_adapted_is_shared(params, way):
    before = {name: array.copy() for name, array in flatten(params).items()}
    adapter = draw(["h0/attn/c_attn/w", "wte"])._replace(arrays={"ln_f/b": np.ones(24, np.float32)})
    found = way(params, adapter)
    logits_of(found)
    for name, array in flatten(params).items():
        np.testing.assert_array_equal(array, before[name])
    shared = {name for name, array in flatten(found).items() if array is flatten(params)[name]}
    assert shared == before.keys() - {"h0/attn/c_attn/w", "wte", "ln_f/b"}


def test_adapters_that_are_kept_apart_share_one_base(params):
    one, two = draw(MATRICES, seed=1), draw(MATRICES, seed=2)
    first, second = lora.attach(params, one), lora.attach(params, two)
    for name in MATRICES:
        assert flatten(first)[name].w is flatten(second)[name].w is flatten(params)[name]
    for found, adapter in ((first, one), (second, two), (first, one)):  # switched to and fro
        assert_same_logits(logits_of(found), logits_of(lora.merge(params, adapter)))


def test_of_several_adapters_all_products_are_added_in_any_order(params):
    one, two = draw(MATRICES, seed=1), draw(MATRICES[:3], seed=2)
    wanted = logits_of(lora.merge(lora.merge(params, one), two))
    for first in WAYS:
        for second in WAYS:
            assert_same_logits(logits_of(second(first(params, one), two)), wanted)
            assert_same_logits(logits_of(second(first(params, two), one)), wanted)


@pytest.mark.parametrize("way", WAYS)
def test_strength_multiplies_the_products_and_leaves_whole_arrays_alone(params, way):
    adapter = draw(MATRICES)
    halved = lora.Adapter({name: u._replace(a=u.a / 2) for name, u in adapter.updates.items()}, {})
    assert_same_logits(logits_of(way(params, adapter, strength=0.5)), logits_of(way(params, halved)))
    assert_same_logits(logits_of(way(params, adapter, strength=0)), logits_of(params))
    assert logits_of(way(params, adapter, strength=np.float64(0.5))).dtype == np.float32
    bias = {"ln_f/b": np.ones(24, np.float32)}
    none = way(params, adapter._replace(arrays=bias), strength=0)
    assert_same_logits(logits_of(none), logits_of(way(params, lora.Adapter({}, bias))))


def test_a_change_of_the_embedding_unties_the_head_from_it(params):
    rows = np.random.default_rng(5).normal(0, 0.5, (97, 24)).astype(np.float32)
    for changed in (draw(["wte"]), draw(["lm_head"]), lora.Adapter({}, {"wte": rows})):
        wte = lora.merge(params, changed)["wte"]
        assert isinstance(wte, UntiedEmbedding)
        assert (wte.embedding is params["wte"]) == ("lm_head" in changed.updates)
        assert (wte.head is params["wte"]) == ("lm_head" not in changed.updates)
    tied = lora.merge(params, lora.Adapter({}, {"wte": rows, "lm_head": rows}))
    assert tied["wte"] is rows


def test_the_matrix_of_both_comes_beside_its_change_unless_the_other_has_its_own(params):
    rng, adapter = np.random.default_rng(8), draw(["lm_head"])
    mine, own = (rng.normal(0, 0.5, (97, 24)).astype(np.float32) for _ in range(2))
    a, b, scale = adapter.updates["lm_head"]
    shared = lora.merge(params, adapter._replace(arrays={"lm_head": mine}))["wte"]
    apart = lora.merge(params, adapter._replace(arrays={"lm_head": mine, "wte": own}))["wte"]
    assert shared.embedding is mine and apart.embedding is own
    for wte in (shared, apart):
        np.testing.assert_allclose(wte.head, mine + scale * (a @ b), rtol=1e-5, atol=1e-6)
    untied = params | {"wte": UntiedEmbedding(params["wte"], own)}
    assert lora.merge(untied, adapter._replace(arrays={"lm_head": mine}))["wte"].embedding is params["wte"]


def test_a_head_of_its_own_is_changed_alone(params):
    head = np.random.default_rng(6).normal(0, 0.5, (97, 24)).astype(np.float32)
    base = params | {"wte": UntiedEmbedding(params["wte"], head)}
    adapter = draw(["lm_head"])
    a, b, scale = adapter.updates["lm_head"]
    hidden = gpt2.transformer(IDS, **base, n_head=SMALL["n_head"])
    for way in WAYS:
        assert_same_logits(logits_of(way(base, adapter)), hidden @ (head + scale * (a @ b)).T)


def test_a_matrix_that_is_kept_apart_answers_what_an_embedding_answers(params):
    (a, b, scale), wte = draw(["wte"]).updates["wte"], params["wte"]
    matrix, whole = lora.LowRank(wte, a, scale * b), wte + scale * (a @ b)
    x = np.random.default_rng(7).normal(size=(3, 24)).astype(np.float32)
    assert len(matrix) == len(whole) and matrix.shape == whole.shape and matrix.T.shape == whole.T.shape
    for found, wanted in (
        (matrix[IDS], whole[IDS]),
        (matrix[5], whole[5]),
        (matrix[range(3, 9)], whole[3:9]),
        (x @ matrix.T, x @ whole.T),
        (x[0] @ matrix.T, x[0] @ whole.T),
        (whole[:2] @ matrix.T, whole[:2] @ whole.T),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
        assert found.dtype == np.float32


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_is_its_rows(way):
    params = way(lively_params(SMALL, seed=4), draw([*MATRICES, "wte"]))
    batch = np.stack([IDS, IDS[::-1]])
    rows = [gpt2.gpt2(row, **params, n_head=SMALL["n_head"]) for row in batch]
    assert_same_logits(gpt2.gpt2(batch, **params, n_head=SMALL["n_head"]), np.stack(rows))
