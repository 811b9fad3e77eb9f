"""What the page shows, as arrays: each is what a slow computation on the whole model gives."""

import math

import numpy as np
import pytest
from helpers import SMALL, assert_same_logits, attention_seen, lively_params

import gpt2
from extras import inside, lora
from extras.page import arrays
from extras.quantize import quantize
from extras.untied import UntiedEmbedding, apart, together
from weights import random_params

N_HEAD, N_VOCAB = SMALL["n_head"], SMALL["n_vocab"]
IDS = [5, 9, 5, 80, 3, 11, 5]
MANY = SMALL | {"n_vocab": 5_000}
KINDS = ("int8", "int4", "nf4")
STORY = (
    "The little fox looked at the old wolf, and the old wolf looked at the fox. They went into the wood, "
    "and there they met a King, who had lost his ring. The fox said that he had seen it in the nest of a "
    "raven, and the wolf ran to the tree, but the raven had long gone away with the ring to the sea, "
    "where the King's daughter lived."
)


def untied(params):
    return params | {"wte": UntiedEmbedding(params["wte"], lively_params(SMALL, seed=1)["wte"])}


def adapted(params, names=("h1/attn/c_attn/w", "h0/attn/c_proj/w", "wte", "lm_head")):
    """With an adapter of these matrices attached, which stays apart from them."""
    rng, leaves, updates = np.random.default_rng(2), apart(params), {}
    for name in names:
        n_in, n_out = leaves[name].shape
        a, b = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((n_in, 2), (2, n_out)))
        updates[name] = lora.Update(a, b, 1.5)
    return lora.attach(params, lora.Adapter(updates, {}))


def with_eps(params):
    blocks = [block | {"ln_1": block["ln_1"] | {"eps": 0.3}} for block in params["blocks"]]
    return params | {"blocks": blocks, "ln_f": params["ln_f"] | {"eps": 0.7}}


FORMS = {
    "plain": lambda params: params,
    "eps": with_eps,
    "act": lambda params: inside.with_activation(params, np.tanh),
    "untied": untied,
    "adapted": adapted,
    **{kind: lambda params, kind=kind: quantize(params, kind) for kind in KINDS},
    "int4, untied": lambda params: quantize(untied(params), "int4"),
    "int8, adapted": lambda params: adapted(quantize(params, "int8"), ["h1/attn/c_attn/w", "h0/mlp/c_fc/w"]),
}
QUANTIZED = [name for name in FORMS if name.startswith(KINDS)]


@pytest.fixture(params=FORMS)
def model(request, params):
    """A small random model in each form in which the page may meet one."""
    return FORMS[request.param](params)


@pytest.fixture(scope="module")
def long_text(tiny):
    """More tokens than the page shows: ids, first, and the arrays."""
    ids = tiny[0].encode(STORY)
    assert arrays.N_SHOWN + 20 < len(ids) <= tiny[1]["n_ctx"]
    return ids, len(ids) - arrays.N_SHOWN, arrays.of_text(ids, tiny[2], tiny[1]["n_head"])


def found_of(model, ids=IDS):
    return arrays.of_text(ids, model, N_HEAD)


def logits_of(model, ids=IDS, n_head=N_HEAD):
    return gpt2.gpt2(ids, **model, n_head=n_head)


def plain_softmax(logits):
    e = np.exp(logits.astype(float) - logits.max())
    return e / e.sum()


def plain_stream(ids, params, n_head):  # -> [1 + 2 n_layer, n_seq, n_embd]
    """The residual stream, a line for each write."""
    x = params["wte"][np.asarray(ids)] + params["wpe"][: len(ids)]
    stream = [x]
    for block in params["blocks"]:
        x = x + gpt2.mha(gpt2.layer_norm(x, **block["ln_1"]), **block["attn"], n_head=n_head)
        stream.append(x)
        x = x + gpt2.ffn(gpt2.layer_norm(x, **block["ln_2"]), **block["mlp"])
        stream.append(x)
    return np.array(stream)


def wide(leaf):
    """The float32 array that a leaf stands for; an adapter beside a matrix is added to it."""
    if isinstance(leaf, lora.LowRank):
        return leaf.w[:] + leaf.a @ leaf.b
    return leaf if isinstance(leaf, np.ndarray) else leaf[:]


def widened(params):
    """The float32 model that one with quantized or adapted matrices stands for."""
    leaves = apart(params)
    arrays_of = {name: wide(leaf) for name, leaf in leaves.items()}
    if leaves["wte"] is leaves["lm_head"]:
        arrays_of["lm_head"] = arrays_of["wte"]
    assert all(type(array) is np.ndarray for array in arrays_of.values())
    return together(arrays_of)


def assert_same_arrays(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        if array.dtype.kind == "i":
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
        elif name != "bins":
            assert_same_logits(array, wanted[name])


# ---- who looks at whom -------------------------------------------------------------------------------------


def test_the_weights_of_the_scores_are_those_of_a_plain_forward_pass(model):
    found = arrays.weights(found_of(model)["scores"])
    assert found.shape == (2, N_HEAD, 7, 7)
    np.testing.assert_allclose(found, attention_seen(IDS, model, N_HEAD), atol=1e-6)
    np.testing.assert_allclose(found, [*inside.attention_maps(IDS, **model, n_head=N_HEAD)], atol=1e-6)


def test_the_scores_of_later_tokens_are_there_too(params):
    scores = found_of(params)["scores"]
    for layer, step in enumerate(inside.steps(IDS, **params, n_head=N_HEAD)):
        for head in range(N_HEAD):
            q, k = step["q"][head].tolist(), step["k"][head].tolist()
            for i, j in np.ndindex(7, 7):
                score = sum(x * y for x, y in zip(q[i], k[j])) / math.sqrt(len(q[i]))
                assert scores[layer, head, i, j] == pytest.approx(score, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("n", [59, 60, 61, 62, 80])
def test_all_tokens_before_those_shown_are_one_key_with_the_sum_of_their_weights(tiny, n):
    ids = tiny[0].encode(STORY)[:n]
    first = max(n - 60, 0)
    found = arrays.weights(arrays.of_text(ids, tiny[2], 6)["scores"])
    true = attention_seen(ids, tiny[2], 6)[..., first:, :]
    assert found.shape == (6, 6, min(n, 60), min(n, 61))
    if first:
        np.testing.assert_allclose(found[..., 0], true[..., :first].sum(axis=-1), atol=1e-6)
        found = found[..., 1:]
    np.testing.assert_allclose(found, true[..., first:], atol=1e-6)


# ---- the rest of the page ----------------------------------------------------------------------------------


def test_each_token_is_as_likely_as_a_plain_softmax_says(model):
    p = [plain_softmax(row)[i] for row, i in zip(logits_of(model), IDS[1:])]
    np.testing.assert_allclose(np.exp(-found_of(model)["nats"]), p, rtol=2e-5, atol=1e-9)


def test_the_two_vectors_of_each_token_are_rows_of_the_embeddings(model):
    found = found_of(model)
    for i, token_id in enumerate(IDS):
        np.testing.assert_allclose(found["wte"][i], model["wte"][[token_id]][0], atol=1e-6)
        np.testing.assert_array_equal(found["wpe"][i], model["wpe"][i])


def test_lengths_are_those_of_the_stream_after_each_write(model):
    stream = plain_stream(IDS, model, N_HEAD).astype(float)
    wanted = [[math.sqrt(sum(x * x)) for x in vectors] for vectors in stream]
    np.testing.assert_allclose(found_of(model)["lengths"], wanted, rtol=1e-5)


def test_the_lens_is_the_answer_of_the_model_without_the_layers_above(model):
    found = found_of(model)
    assert found["lens"].shape == found["lens_likely"].shape == (3, 7)
    for n_layer in range(3):
        logits = logits_of(model | {"blocks": model["blocks"][:n_layer]})
        assert found["lens"][n_layer].tolist() == [int(np.argmax(row)) for row in logits]
        p = [plain_softmax(row).max() for row in logits]
        np.testing.assert_allclose(found["lens_likely"][n_layer], p, rtol=2e-5)
    assert found["lens"][-1].tolist() == found["likeliest"][:, 0].tolist()


def test_the_lens_tells_apart_what_probabilities_can_not():
    logits = np.float32([0.01, np.nextafter(np.float32(0.01), np.float32(1))])
    assert gpt2.softmax(logits)[0] == gpt2.softmax(logits)[1] and logits[0] < logits[1]
    norm = {"g": np.zeros(2, np.float32), "b": np.float32([1, 0])}
    params = {"ln_f": norm, "wte": np.stack([logits, logits], axis=-1)}
    assert arrays.lens(np.ones((1, 1, 2), np.float32), params)["lens"] == [[1]]


def test_a_pair_is_the_token_that_came_and_the_likeliest_other(model):
    found, logits = found_of(model), logits_of(model)
    came = [*IDS[1:], int(np.argmax(logits[-1]))]
    for row, token, (one, rival) in zip(logits, came, found["pairs"].tolist(), strict=True):
        others = [i for i in range(N_VOCAB) if i != token]
        assert (one, rival) == (token, max(others, key=lambda i: row[i]))
    for i, pair in enumerate(found["pairs"]):
        np.testing.assert_allclose(found["pair_logits"][i], logits[i][pair], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found["pair_likely"][i], plain_softmax(logits[i])[pair], rtol=2e-5)


def test_the_rival_of_the_likeliest_is_the_second_and_of_others_the_likeliest():
    logits = np.float32([[1, 3, 2, 0], [1, 3, 2, 0], [3, 1, 3, 0], [3, 1, 3, 0], [0, 0, 0, 0]])
    pairs = arrays.likely_pairs(logits, [1, 0, 2, 0])
    assert pairs.tolist() == [[1, 2], [0, 1], [2, 0], [0, 2], [0, 1]]  # the lower id where two are equal
    assert arrays.likely_pairs(logits[:1], []).tolist() == [[1, 2]]


def test_other_pairs_may_be_asked_for(params):
    pairs = np.random.default_rng(0).integers(0, N_VOCAB, (7, 2))
    found = arrays.of_text(IDS, params, N_HEAD, pairs)
    np.testing.assert_array_equal(found["pairs"], pairs)
    for i, pair in enumerate(pairs):
        np.testing.assert_allclose(found["pair_logits"][i], logits_of(params)[i][pair], rtol=1e-5, atol=1e-4)
    assert_same_logits(found["attribution"].sum(axis=0), found["pair_logits"])


def test_the_parts_of_a_logit_add_up_to_it(model):
    found = found_of(model)
    assert found["attribution"].shape == (6, 7, 2)  # the embedding, two layers of two writes, and b
    assert_same_logits(found["attribution"].sum(axis=0), found["pair_logits"])


def test_each_part_of_a_logit_is_what_its_write_adds_if_the_scale_of_the_norm_is_fixed(model):
    found, stream = found_of(model), plain_stream(IDS, model, N_HEAD).astype(float)
    head = wide(apart(model)["lm_head"])
    g, b, eps = (model["ln_f"].get(name, 1e-5) for name in ("g", "b", "eps"))
    for i, j in np.ndindex(7, 2):
        row = head[found["pairs"][i, j]].astype(float)
        std = math.sqrt(np.var(stream[-1, i]) + eps)
        writes = [stream[0, i], *np.diff(stream[:, i], axis=0)]
        wanted = [sum(row * g * (write - write.mean()) / std) for write in writes] + [sum(row * b)]
        largest = np.abs(wanted).max()
        np.testing.assert_allclose(found["attribution"][:, i, j], wanted, rtol=0, atol=1e-5 * largest)


def test_what_a_head_added_is_what_its_attention_adds_less_without_it(model):
    found, stream = found_of(model), plain_stream(IDS, model, N_HEAD).astype(float)
    head_rows = wide(apart(model)["lm_head"])
    g, eps = model["ln_f"]["g"], model["ln_f"].get("eps", 1e-5)
    assert found["head_attribution"].shape == (2, 7, N_HEAD, 2)
    for layer, head in np.ndindex(2, N_HEAD):
        steps = list(inside.steps(IDS, **model, n_head=N_HEAD))
        cut = list(inside.steps(IDS, **inside.without_head(model, N_HEAD, layer, head), n_head=N_HEAD))
        writes = (steps[layer]["attn"] - cut[layer]["attn"]).astype(float)
        for i, j in np.ndindex(7, 2):
            row, std = head_rows[found["pairs"][i, j]].astype(float), math.sqrt(np.var(stream[-1, i]) + eps)
            wanted = sum(row * g * (writes[i] - writes[i].mean()) / std)
            largest = np.abs(found["attribution"][:, i, j]).max()
            assert abs(found["head_attribution"][layer, i, head, j] - wanted) <= 1e-5 * largest


def test_of_a_long_text_every_array_is_about_the_last_tokens_of_the_whole(tiny, long_text):
    (ids, first, found), params = long_text, tiny[2]
    logits = logits_of(params, ids, 6)
    p = np.array([plain_softmax(row) for row in logits])
    np.testing.assert_allclose(
        np.exp(-found["nats"]), [p[i - 1, ids[i]] for i in range(first + 1, len(ids))], rtol=2e-5
    )
    np.testing.assert_array_equal(found["wte"], params["wte"][ids[first:]])
    np.testing.assert_array_equal(found["wpe"], params["wpe"][first : len(ids)])
    assert_same_logits(found["lengths"], np.linalg.norm(plain_stream(ids, params, 6)[:, first:], axis=-1))
    assert found["pairs"][:, 0].tolist() == [*ids[first + 1 :], logits[-1].argmax()]
    for i, pair in enumerate(found["pairs"], first):
        np.testing.assert_allclose(found["pair_likely"][i - first], p[i, pair], rtol=2e-5, atol=1e-9)
    assert_same_logits(found["attribution"].sum(axis=0), found["pair_logits"])
    for n_layer in (0, 3, 6):
        answers = logits_of(params | {"blocks": params["blocks"][:n_layer]}, ids, 6)[first:]
        np.testing.assert_array_equal(found["lens"][n_layer], answers.argmax(axis=-1))
    ranked = -np.sort(-logits[first:], axis=-1)
    assert_same_logits(found["logits"], ranked[:, :256])
    assert len(found["nearest"]) == len(found["bins"]) == len(found["likeliest"]) == 60


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_weights_give_what_the_float_model_gives_that_they_stand_for(params, name):
    model = FORMS[name](params)
    assert_same_arrays(found_of(model), found_of(widened(model)))
    cuts = [inside.probability_without_heads(3, IDS, each, N_HEAD) for each in (model, widened(model))]
    np.testing.assert_allclose(*cuts, rtol=1e-4, atol=1e-9)


def test_an_adapter_that_is_attached_gives_what_it_gives_merged(params):
    assert_same_arrays(found_of(adapted(params)), found_of(widened(adapted(params))))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_array_is_float32_or_ids_and_finite(model, n):
    found = found_of(model, IDS[:n])
    twin = random_params(SMALL, np.random.default_rng(0))
    control = arrays.of_twin(IDS[:n], twin, N_HEAD, found["pairs"])
    cuts = {"likely": inside.probability_without_heads(3, IDS[:n], model, N_HEAD)}
    for name, array in [*found.items(), *control.items(), *cuts.items()]:
        assert array.dtype == np.float32 or array.dtype.kind == "i", name
        assert np.isfinite(array).all(), name
        assert array.dtype == np.float32 or (0 <= array.min() and array.max() < N_VOCAB), name
    assert found["nats"].shape == (n - 1,) and found["scores"].shape == (2, N_HEAD, n, n)
    assert found["pairs"].shape == (n, 2) and found["likeliest"].shape == (n, N_VOCAB)


def test_no_argument_is_changed(params):
    ids = np.array(IDS)
    before = {name: np.copy(array) for name, array in apart(params).items()}
    arrays.of_text(ids, params, N_HEAD)
    assert ids.tolist() == IDS
    assert all(np.array_equal(array, before[name]) for name, array in apart(params).items())


def test_weights_that_make_no_numbers_are_refused(params):
    params["ln_f"]["b"][3] = np.nan
    with pytest.raises(FloatingPointError, match="the logits are not finite numbers"):
        found_of(params)


# ---- the nearest tokens ------------------------------------------------------------------------------------


def cosine(one, other):
    dot = sum(x * y for x, y in zip(one, other))
    return dot / math.sqrt(sum(x * x for x in one)) / math.sqrt(sum(x * x for x in other))


def test_the_nearest_tokens_are_those_with_the_largest_cosines_without_the_token_itself(params):
    found, rows = arrays.nearest_tokens(IDS, params["wte"]), params["wte"].astype(float).tolist()
    assert found["nearest"].shape == found["cosines"].shape == (7, 8)
    for token, nearest, cosines in zip(IDS, found["nearest"].tolist(), found["cosines"]):
        by_loop = {i: cosine(rows[token], rows[i]) for i in range(N_VOCAB) if i != token}
        assert nearest == sorted(by_loop, key=by_loop.get, reverse=True)[:8]
        np.testing.assert_allclose(cosines, [by_loop[i] for i in nearest], atol=1e-6)


def test_of_tokens_that_are_equally_near_the_lower_id_comes_first():
    wte = np.float32([[0, 1], [2, 0], [4, 0], [1, 0], [0, 3], [-1, 0], [8, 0]])
    found = arrays.nearest_tokens([1, 5], wte)
    assert found["nearest"].tolist() == [[2, 3, 6, 0, 4, 5], [0, 4, 1, 2, 3, 6]]
    assert found["cosines"].tolist() == [[1, 1, 1, 0, 0, -1], [0, 0, -1, -1, -1, -1]]


def test_a_row_of_zeros_is_near_to_nothing_and_far_from_nothing():
    wte = np.float32(np.random.default_rng(0).normal(size=(20, 4)))
    wte[[3, 7]] = 0
    found = arrays.nearest_tokens([3, 0], wte)
    assert found["nearest"][0].tolist() == [0, 1, 2, 4, 5, 6, 7, 8] and not found["cosines"][0].any()
    assert np.isfinite(found["cosines"]).all() and np.abs(found["cosines"]).max() <= 1 + 1e-6


# ---- the next token ----------------------------------------------------------------------------------------


def test_the_likeliest_are_ranked_and_of_equal_ones_the_lower_id_comes_first():
    logits = np.random.default_rng(0).integers(-20, 20, (3, 700)).astype(np.float32)
    found = arrays.likeliest(logits)
    for i, row in enumerate(logits.tolist()):
        ranked = sorted(range(700), key=lambda token: (-row[token], token))
        assert found["likeliest"][i].tolist() == ranked[:256]
        assert found["logits"][i].tolist() == [row[token] for token in ranked[:256]]


def test_the_other_logits_are_counted_in_bins_of_equal_width():
    logits = np.sort(np.random.default_rng(0).normal(0, 3, 2_000))[::-1].astype(np.float32)
    n, mean, variance = arrays.bins(logits)
    width, in_bins = (logits[0] - logits[-1]) / 256, [[] for _ in range(256)]
    for logit in logits:
        in_bins[min(int((logits[0] - logit) / width), 255)].append(float(logit))
    for i, those in enumerate(in_bins):
        assert n[i] == pytest.approx(len(those), abs=1)  # one on the border may be in either
        if n[i] == len(those) > 0:
            assert mean[i] == pytest.approx(np.mean(those), abs=1e-5)
            assert variance[i] == pytest.approx(np.var(those), abs=1e-6)
    assert n.sum() == 2_000 and n.dtype == np.float32


def test_logits_that_are_all_equal_are_in_one_bin():
    n, mean, variance = arrays.bins(np.full(300, -2.5, np.float32))
    assert n[0] == n.sum() == 300 and mean[0] == -2.5 and not variance.any()


@pytest.mark.parametrize("n_vocab, n_others", [(97, 0), (256, 0), (257, 1), (300, 44)])
def test_a_vocabulary_that_is_shown_whole_has_empty_bins(n_vocab, n_others):
    logits = np.random.default_rng(0).normal(size=(2, n_vocab)).astype(np.float32)
    found = arrays.likeliest(logits)
    assert found["likeliest"].shape == found["logits"].shape == (2, min(n_vocab, 256))
    assert found["bins"].shape == (2, 3, 256)
    assert found["bins"][:, 0].sum(axis=-1).tolist() == [n_others] * 2
    assert n_others or not found["bins"].any()


def from_bins(logits, bins, temperature):  # [256], [3, 256] -> [256]
    """Probabilities as the page computes them."""
    n, mean, variance = bins.astype(float)
    top, logits = float(logits[0]), logits.astype(float)
    shares = np.exp((logits - top) / temperature)
    others = n * np.exp((mean - top) / temperature) * (1 + variance / 2 / temperature**2)
    return shares / (shares.sum() + others.sum())


@pytest.mark.parametrize("name", ["tiny", "random", "untrained"])
@pytest.mark.parametrize("temperature", [0.2, 0.5, 0.7, 1, 1.3, 2])
def test_the_bins_are_enough_for_the_probabilities_at_any_temperature(tiny, name, temperature):
    models = {
        "tiny": lambda: (tiny[2], 6, tiny[0].encode(STORY)[:60]),
        "random": lambda: (lively_params(MANY, seed=0), N_HEAD, IDS),
        "untrained": lambda: (random_params(MANY, np.random.default_rng(0)), N_HEAD, IDS),
    }
    params, n_head, ids = models[name]()
    found, logits = arrays.of_text(ids, params, n_head), logits_of(params, ids, n_head)
    for i, row in enumerate(logits):
        wanted = gpt2.softmax(row.astype(float) / temperature)[found["likeliest"][i, :20]]
        p = from_bins(found["logits"][i], found["bins"][i], temperature)[:20]
        np.testing.assert_allclose(p, wanted, rtol=0, atol=1e-6)


# ---- what would be without; the control --------------------------------------------------------------------


def test_without_heads_is_a_plain_forward_pass_without_each(model):
    found = inside.probability_without_heads(3, IDS, model, N_HEAD)
    assert found.shape == (2, N_HEAD)
    for layer, head in np.ndindex(2, N_HEAD):
        p = plain_softmax(logits_of(inside.without_head(model, N_HEAD, layer, head))[-1])[3]
        assert found[layer, head] == pytest.approx(p, rel=1e-4, abs=1e-9)


def test_without_heads_of_the_bundled_model(tiny):
    ids = tiny[0].encode(STORY)[:12]
    found = inside.probability_without_heads(612, ids, tiny[2], 6)
    for layer, head in [(0, 0), (2, 5), (5, 4)]:
        p = plain_softmax(logits_of(inside.without_head(tiny[2], 6, layer, head), ids, 6)[-1])[612]
        assert found[layer, head] == pytest.approx(p, rel=1e-4)


def test_the_control_has_the_same_numbers_of_another_model(tiny, long_text):
    ids, first, found = long_text
    twin = random_params(tiny[1], np.random.default_rng(0))
    control, whole = (of(ids, twin, 6, found["pairs"]) for of in (arrays.of_twin, arrays.of_text))
    maps = attention_seen(ids, twin, 6)[..., first:, :]
    largest = maps[..., first:].max(axis=-1)  # on one token: not on all earlier ones together
    np.testing.assert_allclose(control.pop("largest_weights"), largest, atol=1e-6)
    np.testing.assert_array_equal(control.pop("cosines")[:, 0], whole["cosines"][:, 0])
    assert {*control} == {"nats", "lengths", "pair_likely", "attribution", "lens", "lens_likely"}
    for name, array in control.items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)
    assert not np.array_equal(control["pair_likely"], found["pair_likely"])


# ---- the head to show first --------------------------------------------------------------------------------


def scored(weights):  # [n_layer, n_head, n_shown, n_keys] -> scores whose softmax they are
    return np.log(np.maximum(weights, 1e-9)).astype(np.float32)


def looking(*targets, n=4, n_earlier=0):
    """One layer, a head for each target: from position 2, it looks at that key with the weight given."""
    weights = np.full((1, len(targets), n, n + n_earlier), 1e-9)
    for head, (key, weight) in enumerate(targets):
        weights[0, head, :, 0] = 1 - weight
        weights[0, head, :, key] += weight
    return scored(weights)


def test_the_head_to_show_first_looks_at_an_earlier_token_and_matters_most():
    scores = looking((1, 0.9), (1, 0.5), (2, 0.9), (0, 1.0), (1, 0.2))
    left = np.array([[0.8, 0.3, 0.1, 0.1, 0.1]])  # heads 2, 3 and 4 matter more, but look at nothing else
    assert arrays.telling_head(scores, 2, left) == (0, 1)
    assert arrays.telling_head(scores, 2) == (0, 0)
    assert arrays.telling_head(scores[:, 2:], 2, left[:, 2:]) == (0, 2)  # none does: the one that looks most


def test_the_first_key_counts_for_nothing_even_if_it_is_all_earlier_tokens():
    scores = looking((0, 1.0), (2, 0.6), (3, 0.9), n_earlier=1)  # key 3 is the token at position 2
    assert arrays.telling_head(scores, 2) == (0, 1)


def test_of_one_token_any_head_may_be_shown(params):
    found = arrays.of_text(IDS[:1], params, N_HEAD)
    assert arrays.telling_head(found["scores"], 0) == (0, 0)
    left = np.array([[0.5, 0.2, 0.3], [0.4, 0.1, 0.6]])
    assert arrays.telling_head(found["scores"], 0, left) == (1, 1)
