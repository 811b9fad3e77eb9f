"""extras.inside: its steps are those of gpt2, and it replaces one array without touching the others."""

from unittest import mock

import numpy as np
import pytest
from helpers import SMALL, assert_same_logits, lively_params, run_python

import gpt2
from extras import inside
from extras.huggingface.variants import relu
from extras.quantize import quantize
from weights import flatten

N_HEAD, N_EMBD, N_SEQ = SMALL["n_head"], SMALL["n_embd"], 7
IDS = [5, 9, 5, 80, 3, 11, 5]
BATCH = [IDS, IDS[::-1], range(N_SEQ)]
STEPS = ["ln_1", "q", "k", "v", "weights", "heads", "attn", "x + attn"]
STEPS += ["ln_2", "c_fc", "act", "mlp", "x + mlp"]


def logits_of(x, params):
    return gpt2.layer_norm(x, **params["ln_f"]) @ params["wte"].T


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("n_seq", [1, N_SEQ])
def test_the_last_step_of_a_block_is_its_result(params, batch, n_seq):
    x = np.random.default_rng(1).normal(size=(*batch, n_seq, N_EMBD)).astype(np.float32)
    before = x.copy()
    steps = inside.block_steps(x, **params["blocks"][1], n_head=N_HEAD)
    assert np.array_equal(x, before)
    assert_same_logits(steps["x + mlp"], gpt2.transformer_block(x, **params["blocks"][1], n_head=N_HEAD))
    shapes = dict.fromkeys(("q", "k", "v", "heads"), (N_HEAD, n_seq, N_EMBD // N_HEAD))
    shapes |= dict.fromkeys(("c_fc", "act"), (n_seq, 4 * N_EMBD)) | {"weights": (N_HEAD, n_seq, n_seq)}
    assert list(steps) == STEPS
    for name, array in steps.items():
        assert array.shape == (*batch, *shapes.get(name, (n_seq, N_EMBD))) and array.dtype == np.float32, name


def test_the_residual_stream_goes_from_the_embeddings_to_the_logits_one_write_at_a_time(params):
    stream = inside.residual_stream(IDS, **params, n_head=N_HEAD)
    assert stream.shape == (5, N_SEQ, N_EMBD) and stream.dtype == np.float32
    assert np.array_equal(stream[0], params["wte"][IDS] + params["wpe"][:N_SEQ])
    for i, block in enumerate(params["blocks"]):
        x, after_attention, after_mlp = stream[2 * i : 2 * i + 3]
        attn = gpt2.mha(gpt2.layer_norm(x, **block["ln_1"]), **block["attn"], n_head=N_HEAD)
        assert_same_logits(after_attention, x + attn)
        assert_same_logits(after_mlp, gpt2.transformer_block(x, **block, n_head=N_HEAD))
    assert_same_logits(logits_of(stream[-1], params), gpt2.gpt2(IDS, **params, n_head=N_HEAD))


def test_rows_of_attention_sum_to_one_and_see_no_later_token(tiny):
    maps = np.array(list(inside.attention_maps(IDS, **tiny[2], n_head=6)))
    assert maps.shape == (6, 6, N_SEQ, N_SEQ) and np.allclose(maps.sum(axis=-1), 1, atol=1e-6)
    assert np.all(maps[..., np.tri(N_SEQ) == 0] == 0) and np.all(maps[..., np.tri(N_SEQ) == 1] > 0)


def test_a_batch_gives_the_same_as_its_rows_one_at_a_time(params):
    maps = list(inside.attention_maps(BATCH, **params, n_head=N_HEAD))
    stream = inside.residual_stream(BATCH, **params, n_head=N_HEAD)
    for i, ids in enumerate(BATCH):
        assert_same_logits(stream[:, i], inside.residual_stream(ids, **params, n_head=N_HEAD))
        for together, alone in zip(maps, inside.attention_maps(ids, **params, n_head=N_HEAD), strict=True):
            assert_same_logits(together[i], alone)


@pytest.mark.parametrize(
    "name", "layer_norm linear split_heads merge_heads causal_mask attention_weights softmax".split()
)
def test_a_function_replaced_in_gpt2_is_replaced_in_the_steps(params, name):
    before, f = inside.residual_stream(IDS, **params, n_head=N_HEAD)[-1], getattr(gpt2, name)
    with mock.patch.object(gpt2, name, lambda *args, **options: np.arctan(f(*args, **options))):
        patched = inside.residual_stream(IDS, **params, n_head=N_HEAD)[-1]
        assert_same_logits(logits_of(patched, params), gpt2.gpt2(IDS, **params, n_head=N_HEAD))
    assert np.abs(patched - before).max() > 0.1


def test_a_block_may_carry_its_own_activation_and_epsilons(params):
    x, block = np.float32(np.random.default_rng(1).normal(size=(N_SEQ, N_EMBD))), params["blocks"][0]
    plain = inside.block_steps(x, **block, n_head=N_HEAD)["x + mlp"]
    for part, own in (("mlp", {"act": relu}), ("ln_1", {"eps": 0.5}), ("ln_2", {"eps": 0.5})):
        changed = block | {part: block[part] | own}
        found = inside.block_steps(x, **changed, n_head=N_HEAD)["x + mlp"]
        assert_same_logits(found, gpt2.transformer_block(x, **changed, n_head=N_HEAD))
        assert np.abs(found - plain).max() > 0.1


@pytest.mark.parametrize("path", ["wpe", "ln_f/g", "h1/attn/c_proj/w"])
def test_replace_changes_one_array_shares_the_others_and_leaves_its_arguments_alone(params, path):
    params["blocks"][0]["mlp"]["act"] = relu
    arrays = flatten(params)
    copies = {name: np.copy(array) for name, array in arrays.items()}
    given = np.random.default_rng(2).normal(size=arrays[path].shape)
    kept = given.copy()
    replaced = flatten(inside.replace(params, path, given))
    assert np.array_equal(given, kept) and list(replaced) == list(arrays) == list(flatten(params))
    assert replaced[path].dtype == np.float32 and np.array_equal(replaced[path], given.astype(np.float32))
    for name, array in flatten(params).items():
        assert array is arrays[name] and np.array_equal(array, copies[name]), name
        assert name == path or replaced[name] is array, name


@pytest.mark.parametrize(
    "path, shape, message",
    [
        ("h2/attn/c_proj/w", (24, 24), "'h2/attn/c_proj/w' is not an array of this model: it has wte, wpe, "),
        ("wpe", (31, 24), r"wpe is \[32, 24\], but the array given is \[31, 24\]"),
        ("h0/mlp/c_fc/w", (96, 24), r"h0/mlp/c_fc/w is \[24, 96\], but the array given is \[96, 24\]"),
        ("ln_f/b", (1, 24), r"ln_f/b is \[24\], but the array given is \[1, 24\]"),
        ("ln_f/b", (), r"ln_f/b is \[24\], but the array given is \[\]"),
    ],
)
def test_replace_refuses_unknown_names_and_wrong_shapes_in_one_line(params, path, shape, message):
    with pytest.raises(ValueError, match=message) as refusal:
        inside.replace(params, path, np.zeros(shape, dtype=np.float32))
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 140


@pytest.mark.parametrize("layer, head", [(0, 0), (1, 2)])
def test_without_a_head_the_others_add_what_they_added_and_no_array_is_changed(params, layer, head):
    before = {name: np.copy(array) for name, array in flatten(params).items()}
    cut, *step = inside.without_head(params, N_HEAD, layer, head), *inside.steps(IDS, **params, n_head=N_HEAD)
    changed = {name for name, array in flatten(cut).items() if not np.array_equal(array, before[name])}
    assert changed == {f"h{layer}/attn/c_proj/w"}
    heads = step[layer]["heads"].copy()
    heads[head] = 0
    wanted = gpt2.linear(gpt2.merge_heads(heads), **params["blocks"][layer]["attn"]["c_proj"])
    (*_, found) = [*inside.steps(IDS, **cut, n_head=N_HEAD)][: layer + 1]
    assert_same_logits(found["attn"], wanted)
    assert all(np.array_equal(array, before[name]) for name, array in flatten(params).items())


def variant(params, name):
    """The same model with another activation, epsilon or kind of weights."""
    if name == "act":
        return inside.with_activation(params, np.tanh)
    if name == "eps":
        norms = {norm: params["blocks"][1][norm] | {"eps": 0.5} for norm in ("ln_1", "ln_2")}
        blocks = [params["blocks"][0], params["blocks"][1] | norms]
        return params | {"blocks": blocks, "ln_f": params["ln_f"] | {"eps": 0.5}}
    return quantize(params, name) if name else params


@pytest.mark.parametrize("n_seq", [1, 2, N_SEQ])
@pytest.mark.parametrize("name", ["", "act", "eps", "int8", "int4", "nf4"])
def test_without_each_head_is_without_one_head_at_a_time(params, name, n_seq):
    model, ids = variant(params, name), IDS[:n_seq]
    cuts = list(inside.without_each_head(ids, **model, n_head=N_HEAD))
    assert [cut.shape for cut in cuts] == [(N_HEAD, N_EMBD)] * 2
    for layer, head in np.ndindex(2, N_HEAD):
        one = inside.without_head(model, N_HEAD, layer, head)
        assert_same_logits(cuts[layer][head], gpt2.transformer(ids, **one, n_head=N_HEAD)[-1])
    assert len({cut.tobytes() for layer in cuts for cut in layer}) == 2 * N_HEAD


def test_without_each_head_the_layers_below_are_not_run_again():
    params = lively_params(SMALL | {"n_layer": 4}, seed=0)
    n_texts, plain = [], gpt2.attention_weights

    def counted(q, k, mask):
        n_texts.append(len(q) if q.ndim == 4 else 1)
        return plain(q, k, mask)

    with mock.patch.object(gpt2, "attention_weights", counted):
        assert len(list(inside.without_each_head(IDS, **params, n_head=N_HEAD))) == 4
    once, cut = n_texts.count(1), n_texts.count(N_HEAD)
    assert (once, cut) == (4, 3 + 2 + 1) and len(n_texts) == 10


@pytest.mark.parametrize("at_once, n_batches", [(1, 3), (2 * N_SEQ, 2), (3 * N_SEQ, 1)])
def test_without_each_head_is_the_same_in_smaller_batches(params, monkeypatch, at_once, n_batches):
    whole = list(inside.without_each_head(IDS, **params, n_head=N_HEAD))
    monkeypatch.setattr(inside, "AT_ONCE", at_once)
    with mock.patch.object(gpt2, "ffn", wraps=gpt2.ffn) as ffn:
        parts = list(inside.without_each_head(IDS, **params, n_head=N_HEAD))
    assert ffn.call_count == n_batches * (2 + 1)
    for one, other in zip(whole, parts, strict=True):
        assert_same_logits(one, other)


def test_without_each_head_no_array_is_changed(params):
    before = {name: np.copy(array) for name, array in flatten(params).items()}
    ids = np.array(IDS)
    list(inside.without_each_head(ids, **params, n_head=N_HEAD))
    assert ids.tolist() == IDS
    assert all(np.array_equal(array, before[name]) for name, array in flatten(params).items())


def test_inside_does_not_import_matplotlib():
    done = run_python("-c", "import extras.inside, sys; print('matplotlib' in sys.modules)")
    assert done.stdout == b"False\n"


def test_replace_refuses_a_leaf_that_is_not_an_array(params):
    blocks = [block | {"mlp": block["mlp"] | {"act": np.tanh}} for block in params["blocks"]]
    with pytest.raises(ValueError, match="'h0/mlp/act' is not an array"):
        inside.replace(params | {"blocks": blocks}, "h0/mlp/act", np.tanh)
