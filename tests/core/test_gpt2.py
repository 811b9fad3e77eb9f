"""The model: slow loops, float32, the cache equal to no cache, and what generate promises."""

import inspect
import platform
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, SMALL, assert_same_logits, run_python

import gpt2
import weights

N_HEAD, N_VOCAB, N_CTX = SMALL["n_head"], SMALL["n_vocab"], SMALL["n_ctx"]
IDS = np.random.default_rng(1).integers(0, N_VOCAB, N_CTX).tolist()


def normal(*shape, seed=2, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def test_signatures_are_those_promised():
    promised = {
        "gelu": "(x)",
        "softmax": "(x)",
        "layer_norm": "(x, g, b, eps=1e-05)",
        "linear": "(x, w, b)",
        "ffn": "(x, c_fc, c_proj",
        "queries_keys_values": "(x, c_attn, n_head)",
        "attention_weights": "(q, k, mask)",
        "attention": "(q, k, v, mask)",
        "mha": "(x, c_attn, c_proj, n_head, kv_cache=None, n_past=0)",
        "transformer_block": "(x, mlp, attn, ln_1, ln_2, n_head, kv_cache=None, n_past=0)",
        "transformer": "(inputs, wte, wpe, blocks, ln_f, n_head, kv_cache=None, n_past=0)",
        "gpt2": "(inputs, wte, wpe, blocks, ln_f, n_head, kv_cache=None, n_past=0)",
        "new_kv_cache": "(params, n_head, n_ctx, n_batch=None)",
        "stream": "(inputs, params, n_head, n_tokens_to_generate, pick=",
        "generate": "(inputs, params, n_head, n_tokens_to_generate, pick=",
        "main": "(prompt, n_tokens_to_generate=40, model_size='124M', models_dir='models')",
    }
    for name, signature in promised.items():
        assert str(inspect.signature(getattr(gpt2, name))).startswith(signature), name
    for function in (gpt2.stream, gpt2.generate):
        assert inspect.signature(function).parameters["pick"].default is np.argmax


def test_import_needs_numpy_and_nothing_else():
    code = "import numpy, sys; before = set(sys.modules); import gpt2; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["gpt2"]


# ---- the small functions, against slow loops ---------------------------------------------------------------


def test_gelu_is_x_times_the_normal_distribution_to_a_thousandth():
    from statistics import NormalDist

    x = np.linspace(-6, 6, 101, dtype=np.float32)
    assert np.allclose(gpt2.gelu(x), [float(v) * NormalDist().cdf(float(v)) for v in x], atol=1e-3)
    assert gpt2.gelu(np.float32([-1, 0, 1])) == pytest.approx(
        [-0.15880801, 0, 0.84119199], abs=1e-7
    )  # by tanh


def test_softmax_is_exp_over_the_sum_of_exps():
    x = normal(3, 5)
    for row, ours in zip(x.astype(float), gpt2.softmax(x)):
        exps = [np.exp(v) for v in row]
        assert ours == pytest.approx([e / sum(exps) for e in exps], rel=1e-6)


def test_softmax_neither_overflows_nor_minds_minus_infinity():
    with np.errstate(all="raise", under="ignore"):
        assert gpt2.softmax(np.float32([1e30, 1e30, -np.inf])).tolist() == [0.5, 0.5, 0]


def test_layer_norm_gives_mean_b_and_deviation_g():
    out = gpt2.layer_norm(normal(4, 1000, scale=7) + 3, g=np.float32(2), b=np.float32(5))
    assert out.mean(axis=-1) == pytest.approx([5] * 4, abs=1e-4)
    assert out.std(axis=-1) == pytest.approx([2] * 4, abs=1e-4)


def test_layer_norm_adds_eps_to_the_variance_and_scales_each_column():
    x, g, b = np.float32([1, 2, 3]), np.float32([1, 2, 3]), np.float32([0, 0, 1])
    wanted = [(v - 2) / (2 / 3 + 0.5) ** 0.5 for v in (1, 2, 3)] * g + b
    assert gpt2.layer_norm(x, g, b, eps=0.5) == pytest.approx(wanted, rel=1e-6)
    assert np.all(gpt2.layer_norm(np.zeros(3, np.float32), g, b) == b)  # no division by zero


def test_linear_sums_inputs_times_weights():
    x, w, b = normal(2, 3), normal(3, 4), normal(4)
    wanted = [[sum(x[i, k] * w[k, j] for k in range(3)) + b[j] for j in range(4)] for i in range(2)]
    assert gpt2.linear(x, w, b) == pytest.approx(np.array(wanted), rel=1e-5)


def test_ffn_treats_each_token_by_itself(params):
    mlp, x = params["blocks"][0]["mlp"], normal(5, SMALL["n_embd"])
    for token, together in zip(x, gpt2.ffn(x, **mlp)):
        assert gpt2.ffn(token, **mlp) == pytest.approx(together, rel=1e-4, abs=1e-4)
        hidden = gpt2.gelu(token @ mlp["c_fc"]["w"] + mlp["c_fc"]["b"])
        assert hidden @ mlp["c_proj"]["w"] + mlp["c_proj"]["b"] == pytest.approx(together, rel=1e-4, abs=1e-4)


def test_ffn_takes_another_activation_from_the_weights(params):
    mlp, x = params["blocks"][0]["mlp"], normal(5, SMALL["n_embd"])
    out = gpt2.ffn(x, **mlp, act=np.abs)
    assert not np.allclose(out, gpt2.ffn(x, **mlp))
    assert_same_logits(out, gpt2.linear(np.abs(gpt2.linear(x, **mlp["c_fc"])), **mlp["c_proj"]))


def test_heads_are_neighbouring_columns_and_merge_undoes_split():
    x = normal(2, 5, 24)
    heads = gpt2.split_heads(x, n_head=3)
    assert heads.shape == (2, 3, 5, 8)
    assert np.array_equal(heads[1, 2], x[1, :, 16:24])
    assert np.array_equal(gpt2.merge_heads(heads), x)


def test_causal_mask_hides_what_comes_after():
    hidden = -np.inf
    assert gpt2.causal_mask(3, 3).tolist() == [[0, hidden, hidden], [0, 0, hidden], [0, 0, 0]]
    assert gpt2.causal_mask(2, 4).tolist() == [[0, 0, 0, hidden], [0, 0, 0, 0]]
    assert gpt2.causal_mask(1, 3).tolist() == [[0, 0, 0]]


def test_attention_weights_are_shares_of_the_scaled_products():
    q, k = normal(2, 4, seed=3), normal(3, 4, seed=4)
    weights = gpt2.attention_weights(q, k, gpt2.causal_mask(2, 3))
    for i in range(2):
        visible = range(i + 2)  # the last query stands at the last key
        exps = [np.exp(sum(float(q[i, c]) * float(k[j, c]) for c in range(4)) / 2) for j in visible]
        assert weights[i, : i + 2] == pytest.approx([e / sum(exps) for e in exps], rel=1e-5)
        assert not weights[i, i + 2 :].any()
    assert weights.sum(axis=-1) == pytest.approx([1, 1], rel=1e-6)


def test_mha_is_one_attention_a_head_side_by_side(params):
    attn, x = params["blocks"][0]["attn"], normal(6, 24)
    q, k, v = np.split(x @ attn["c_attn"]["w"] + attn["c_attn"]["b"], 3, axis=-1)
    mask, columns = gpt2.causal_mask(6, 6), [slice(8 * head, 8 * head + 8) for head in range(3)]
    heads = [gpt2.attention(q[:, c], k[:, c], v[:, c], mask) for c in columns]
    wanted = np.concatenate(heads, axis=-1) @ attn["c_proj"]["w"] + attn["c_proj"]["b"]
    assert_same_logits(gpt2.mha(x, **attn, n_head=3), wanted)


def test_block_adds_what_its_two_parts_say(params):
    block, x = params["blocks"][0], normal(6, 24)
    middle = x + gpt2.mha(gpt2.layer_norm(x, **block["ln_1"]), **block["attn"], n_head=3)
    wanted = middle + gpt2.ffn(gpt2.layer_norm(middle, **block["ln_2"]), **block["mlp"])
    assert_same_logits(gpt2.transformer_block(x, **block, n_head=3), wanted)


def test_every_function_keeps_float32(params):
    x, block = normal(6, 24), params["blocks"][0]
    q, k, v = gpt2.queries_keys_values(x, block["attn"]["c_attn"], 3)
    mask = gpt2.causal_mask(6, 6)
    results = {
        "gelu": gpt2.gelu(x),
        "gelu of one number": gpt2.gelu(x[0, 0]),
        "softmax": gpt2.softmax(x),
        "split_heads": gpt2.split_heads(x, 3),
        "merge_heads": gpt2.merge_heads(q),
        "layer_norm": gpt2.layer_norm(x, **block["ln_1"]),
        "layer_norm of one vector": gpt2.layer_norm(x[0], **block["ln_1"]),
        "linear": gpt2.linear(x, **block["mlp"]["c_fc"]),
        "ffn": gpt2.ffn(x, **block["mlp"]),
        "queries": q,
        "keys": k,
        "values": v,
        "causal_mask": mask,
        "attention_weights": gpt2.attention_weights(q, k, mask),
        "attention": gpt2.attention(q, k, v, mask),
        "mha": gpt2.mha(x, **block["attn"], n_head=3),
        "transformer_block": gpt2.transformer_block(x, **block, n_head=3),
        "transformer": gpt2.transformer(IDS, **params, n_head=3),
        "gpt2": gpt2.gpt2(IDS, **params, n_head=3),
        "new_kv_cache": gpt2.new_kv_cache(params, 3, 5),
    }
    assert {name: result.dtype for name, result in results.items() if result.dtype != np.float32} == {}


# ---- the whole model ---------------------------------------------------------------------------------------


def test_gpt2_scores_every_token_at_every_position(params):
    assert gpt2.gpt2(IDS[:7], **params, n_head=N_HEAD).shape == (7, N_VOCAB)
    assert gpt2.transformer(IDS[:7], **params, n_head=N_HEAD).shape == (7, SMALL["n_embd"])


def test_future_tokens_do_not_change_past_logits(params):
    logits = gpt2.gpt2(IDS, **params, n_head=N_HEAD)
    for n in (1, 2, 9, N_CTX - 1):
        changed = IDS[:n] + [(i + 1) % N_VOCAB for i in IDS[n:]]
        assert_same_logits(gpt2.gpt2(changed, **params, n_head=N_HEAD)[:n], logits[:n])
        assert not np.allclose(gpt2.gpt2(changed, **params, n_head=N_HEAD)[n:], logits[n:], rtol=0.01)


def test_every_weight_matters(params):
    logits = gpt2.gpt2(IDS, **params, n_head=N_HEAD)
    for name, array in weights.flatten(params).items():
        kept = array.copy()
        array += np.linspace(0.5, 1.5, array.size, dtype=np.float32).reshape(array.shape)
        assert not np.allclose(gpt2.gpt2(IDS, **params, n_head=N_HEAD), logits, rtol=1e-3), name
        array[...] = kept


@pytest.mark.parametrize("shape", [(1, 6), (4, 6), (2, 3, 6)])
def test_a_batch_is_its_rows(params, shape):
    batch = np.random.default_rng(5).integers(0, N_VOCAB, shape)
    logits = gpt2.gpt2(batch, **params, n_head=N_HEAD)
    for row in np.ndindex(shape[:-1]):
        assert_same_logits(logits[row], gpt2.gpt2(batch[row], **params, n_head=N_HEAD))


@pytest.mark.parametrize("sizes", [[32], [1] * 32, [10, 1, 1, 20], [31, 1], [5, 27]])
def test_a_cache_changes_nothing(params, sizes):
    cache, n_past, rows = gpt2.new_kv_cache(params, N_HEAD, N_CTX), 0, []
    for size in sizes:
        rows.append(
            gpt2.gpt2(IDS[n_past : n_past + size], **params, n_head=N_HEAD, kv_cache=cache, n_past=n_past)
        )
        n_past += size
    assert_same_logits(np.concatenate(rows), gpt2.gpt2(IDS, **params, n_head=N_HEAD))


def test_a_cache_has_the_promised_shape_and_keeps_keys_and_values(params):
    assert gpt2.new_kv_cache(params, N_HEAD, 11).shape == (2, 2, N_HEAD, 11, 8)
    cache = gpt2.new_kv_cache(params, N_HEAD, 11, n_batch=4)
    assert cache.shape == (2, 2, 4, N_HEAD, 11, 8)
    gpt2.gpt2(np.reshape(IDS, (4, 8)), **params, n_head=N_HEAD, kv_cache=cache)
    assert np.all(np.any(cache[..., :8, :] != 0, axis=-1)) and not cache[..., 8:, :].any()


def test_a_cache_of_a_batch_is_rolled_back_by_a_smaller_n_past_and_forked_by_copy(params):
    batch = np.reshape(IDS, (2, 16))
    cache = gpt2.new_kv_cache(params, N_HEAD, 16, n_batch=2)
    gpt2.gpt2(batch[:, :10], **params, n_head=N_HEAD, kv_cache=cache)
    fork = cache.copy()
    gpt2.gpt2(batch[:, :6], **params, n_head=N_HEAD, kv_cache=fork, n_past=10)  # a wrong turn
    for turn in (cache, fork):
        logits = gpt2.gpt2(batch[:, 10:], **params, n_head=N_HEAD, kv_cache=turn, n_past=10)
        assert_same_logits(logits, gpt2.gpt2(batch, **params, n_head=N_HEAD)[:, 10:])


def test_positions_past_the_context_are_refused_not_repeated(params):
    with pytest.raises(IndexError, match="out of bounds"):
        gpt2.gpt2([*IDS, 0], **params, n_head=N_HEAD)
    with pytest.raises(IndexError, match="out of bounds"):
        gpt2.gpt2([0], **params, n_head=N_HEAD, n_past=N_CTX)


def test_a_full_cache_is_refused_not_forgotten(params):
    cache = gpt2.new_kv_cache(params, N_HEAD, 10)
    with pytest.raises(IndexError, match="out of bounds"):
        gpt2.gpt2(IDS[:11], **params, n_head=N_HEAD, kv_cache=cache)
    gpt2.gpt2(IDS[:10], **params, n_head=N_HEAD, kv_cache=cache)
    with pytest.raises(IndexError, match="out of bounds"):
        gpt2.gpt2(IDS[10:11], **params, n_head=N_HEAD, kv_cache=cache, n_past=10)


def test_ids_may_come_in_any_sequence(params):
    logits = gpt2.gpt2([5, 7], **params, n_head=N_HEAD)
    for ids in ((5, 7), np.array([5, 7]), np.array([5, 7], np.uint8), range(5, 8, 2)):
        assert np.array_equal(gpt2.gpt2(ids, **params, n_head=N_HEAD), logits)


# ---- generating --------------------------------------------------------------------------------------------


def greedy(ids, params, n_head, n):
    """The plain way: the whole text through the whole model for every token."""
    ids = list(ids)
    for _ in range(n):
        ids.append(int(np.argmax(gpt2.gpt2(ids, **params, n_head=n_head)[-1])))
    return ids[len(ids) - n :]


@pytest.mark.parametrize("n_prompt, n", [(1, 31), (5, 10), (31, 1), (32, 0)])
def test_generate_is_greedy(params, n_prompt, n):
    assert gpt2.generate(IDS[:n_prompt], params, N_HEAD, n) == greedy(IDS[:n_prompt], params, N_HEAD, n)


@pytest.mark.parametrize("n_chunk", [1, 3, 10, 99])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_prefill_gives_the_hidden_states_of_every_position_whatever_the_chunks(params, n_chunk, batch):
    ids = np.random.default_rng(5).integers(0, N_VOCAB, (*batch, 20))
    cache = gpt2.new_kv_cache(params, N_HEAD, 20, *batch)
    first = gpt2.prefill(ids[..., :8], params, N_HEAD, cache, n_chunk=n_chunk)
    rest = gpt2.prefill(ids[..., 8:], params, N_HEAD, cache, n_past=8, n_chunk=n_chunk)
    hidden = np.concatenate([first, rest], axis=-2)
    assert_same_logits(hidden, gpt2.transformer(ids, **params, n_head=N_HEAD))
    assert_same_logits(gpt2.next_logits(hidden, params), gpt2.gpt2(ids, **params, n_head=N_HEAD))


def test_next_logits_refuses_what_is_no_number(params):
    hidden = normal(3, 24)
    for damage in (np.nan, np.inf):
        params["wte"][5, 0] = damage
        with pytest.raises(FloatingPointError, match="not finite numbers"):
            gpt2.next_logits(hidden, params)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is the memory of Linux's C library")
def test_once_there_is_a_cache_large_arrays_use_the_memory_of_those_before_them():
    code = """if True:
        import resource, gpt2, utils
        _, hparams, params = utils.load_encoder_hparams_and_params("tiny", "models")
        gpt2.new_kv_cache(params, hparams["n_head"], 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        gpt2.gpt2([range(256)] * 4, **params, n_head=hparams["n_head"])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"""
    assert int(run_python("-c", code).stdout) < 10_000  # pages that came cleared: 4,400, or else 34,600


def test_a_long_prompt_gives_what_it_gives_at_once(tiny):
    encoder, hparams, params = tiny
    story = "The King rode to the wood, and there he met an old woman who gave him a ring. "
    ids = encoder.encode(story * 12)[: hparams["n_ctx"] - 40]
    assert len(ids) > 200  # two chunks
    assert gpt2.generate(ids, params, hparams["n_head"], 40) == greedy(ids, params, hparams["n_head"], 40)


def test_generate_leaves_its_argument_and_returns_exactly_n_ints(params):
    for inputs in (IDS[:4], tuple(IDS[:4]), np.array(IDS[:4])):
        before = list(inputs)
        new = gpt2.generate(inputs, params, N_HEAD, 6)
        assert list(inputs) == before and len(new) == 6 and all(type(i) is int for i in new)


def test_the_number_of_tokens_may_be_numpys(params):
    wanted = gpt2.generate(IDS[:10], params, N_HEAD, 20)
    for dtype in (np.int8, np.uint8, np.int64):
        assert gpt2.generate(IDS[:10], params, N_HEAD, dtype(20)) == wanted
        with pytest.raises(ValueError, match="at most 22 new ones fit"):
            gpt2.generate(IDS[:10], params, N_HEAD, np.iinfo(dtype).max)


def test_stream_yields_ids_as_they_are_picked_from_one_row_of_logits(params):
    rows = []

    def second(logits):
        rows.append(logits)
        return np.argsort(logits)[-2]

    ids = gpt2.stream(IDS[:4], params, N_HEAD, 3, pick=second)
    first = next(ids)
    assert len(rows) == 1 and rows[0].shape == (N_VOCAB,)
    assert_same_logits(rows[0], gpt2.gpt2(IDS[:4], **params, n_head=N_HEAD)[-1])
    assert first == np.argsort(rows[0])[-2] and type(first) is int
    assert [first, *ids] == gpt2.generate(IDS[:4], params, N_HEAD, 3, pick=second)


@pytest.mark.parametrize(
    "inputs, n, message",
    [
        ([], 1, "the prompt is empty"),
        (IDS, 1, "32 prompt tokens and 1 new ones.* sees 32: at most 0 new ones fit"),
        (IDS[:30], 7, "at most 2 new ones fit"),
        ([*IDS, 1], 0, "33 prompt tokens.*shorten the prompt"),
        (IDS[:3], -1, "n_tokens_to_generate is -1: it must be a whole number, 0 or more"),
        (IDS[:3], 2.5, "n_tokens_to_generate is 2.5"),
        (IDS[:3], True, "n_tokens_to_generate is True"),
        (IDS[:3], "3", "n_tokens_to_generate is '3'"),
        ([1, -1], 1, "-1 is not an id of this model: its ids run from 0 to 96"),
        ([1, 97], 1, "97 is not an id"),
        ([1, 2.0], 1, "2.0 is not an id"),
    ],
)
def test_what_cannot_be_continued_is_refused_and_told_what_fits(params, inputs, n, message):
    for function in (gpt2.generate, lambda *arguments: next(gpt2.stream(*arguments))):
        with pytest.raises(ValueError, match=message):
            function(inputs, params, N_HEAD, n)


def test_main_returns_the_text_and_prints_nothing(tiny, capsys):
    encoder, hparams, params = tiny
    ids = encoder.encode("Once upon a time")
    wanted = encoder.decode(gpt2.generate(ids, params, hparams["n_head"], 12))
    capsys.readouterr()
    assert gpt2.main("Once upon a time", 12, "tiny") == wanted
    assert capsys.readouterr().out == ""


def test_main_stops_at_the_end_of_the_text_which_generate_does_not(tiny, monkeypatch):
    encoder, _, _ = tiny
    ids = [*encoder.encode("one two"), encoder.encoder["<|endoftext|>"], *encoder.encode("three")]
    monkeypatch.setattr(gpt2, "stream", lambda *arguments, **options: iter(ids))
    assert gpt2.main("Once", 9, "tiny") == "one two"


def test_a_model_of_any_sizes_runs():
    for hparams in (SMALL | {"n_layer": 1, "n_head": 1}, SMALL | {"n_head": 24}, SMALL | {"n_ctx": 1}):
        params = weights.random_params(hparams, np.random.default_rng(0))
        assert gpt2.gpt2([3], **params, n_head=hparams["n_head"]).shape == (1, N_VOCAB)
