"""What learns in a fine-tune: its gradients are those of the model it stands for, dropout included."""

import numpy as np
import pytest
from helpers import SMALL, assert_same_logits, lively_params
from learning import save_model

import gpt2
import utils
from extras import gradients, lora, optimizers, quantize
from extras.huggingface import adapters
from extras.learners import AllWeights, LowRankAdapter, adapted, queries_and_values
from extras.untied import apart, together
from weights import flatten, shapes

IDS = np.random.default_rng(0).integers(0, SMALL["n_vocab"], (3, 12))
N_HEAD, N_EMBD = SMALL["n_head"], SMALL["n_embd"]
CHOICES = {
    "c_attn": ["attn/c_attn"],
    "c_proj": ["attn/c_proj", "mlp/c_proj"],
    "c_fc": ["mlp/c_fc"],
    "c_attn,c_fc": ["attn/c_attn", "mlp/c_fc"],
    "c_fc, c_attn": ["attn/c_attn", "mlp/c_fc"],
    "all": ["attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj"],
    "all,c_fc": ["attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj"],
    "qv": ["attn/c_attn"],
    " qv ": ["attn/c_attn"],
}


def adapter(params, matrices="all", rank=3, alpha=7.0, dropout=0.0, seed=0, std=0.1):
    """An adapter in which b is random too, as it is after some steps."""
    learner = LowRankAdapter(params, SMALL, matrices, rank, alpha, dropout, seed)
    rng = np.random.default_rng(1)
    for name, array in learner.leaves.items():
        if name.endswith("/b"):
            array[...] = rng.normal(0, std, array.shape)
            if matrices.strip() == "qv":
                array *= queries_and_values(array.shape)
    return learner


def seen_gradients(learner, rng=None):  # -> params, loss, {name: array}
    params = learner.params(rng)
    loss, found = gradients.loss_and_gradients(
        IDS[:, :-1], IDS[:, 1:], params, N_HEAD, trainable=learner.trainable
    )
    return params, loss, learner.gradients(found)


def merged_gradients(learner, params):  # -> {name: array}
    """Those of the whole matrices, in a model without adapters that has the same logits."""
    merged = together(
        {n: leaf.w + leaf.a @ leaf.b if is_adapted(leaf) else leaf for n, leaf in apart(params).items()}
    )
    assert_same_logits(gpt2.gpt2(IDS, **params, n_head=N_HEAD), gpt2.gpt2(IDS, **merged, n_head=N_HEAD))
    return gradients.loss_and_gradients(IDS[:, :-1], IDS[:, 1:], merged, N_HEAD)[1]


def is_adapted(leaf):
    return isinstance(leaf, lora.LowRank)


def assert_close(found, wanted, name):
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max(), name


# ---- low-rank adapters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrices", CHOICES)
def test_the_matrices_of_each_name_learn_in_every_layer_and_no_other(params, matrices):
    names = [f"h{layer}/{name}/w" for layer in range(2) for name in CHOICES[matrices]]
    assert sorted(adapted(SMALL, matrices)) == sorted(names)
    learner, before = adapter(params, matrices), {n: np.array(a) for n, a in flatten(params).items()}
    found = {name for name, leaf in apart(learner.params()).items() if is_adapted(leaf)}
    assert found == set(names)
    for name, array in flatten(learner.base).items():
        assert array is flatten(params)[name] and np.array_equal(array, before[name])


@pytest.mark.parametrize(
    "matrices", ["", ",", "qv,c_fc", "qv,qv", "c_attn,", "c_attn;c_fc", "wte", "C_ATTN", "h0"]
)
def test_other_names_are_refused(matrices):
    with pytest.raises(ValueError, match="^matrices is '.*': it must be c_attn, c_proj, c_fc"):
        adapted(SMALL, matrices)


@pytest.mark.parametrize("matrices", CHOICES)
def test_a_new_adapter_changes_nothing_and_has_the_rank_that_was_asked_for(params, matrices):
    learner = LowRankAdapter(params, SMALL, matrices, 3, 6, 0.0, seed=0)
    plain = gpt2.gpt2(IDS, **params, n_head=N_HEAD)
    np.testing.assert_array_equal(gpt2.gpt2(IDS, **learner.params(), n_head=N_HEAD), plain)
    r = 6 if matrices.strip() == "qv" else 3
    for name in adapted(SMALL, matrices):
        n_in, n_out = shapes(SMALL)[name]
        a, b = learner.leaves[f"{name}/a"], learner.leaves[f"{name}/b"]
        assert (a.shape, b.shape, a.dtype, b.dtype) == ((n_in, r), (r, n_out), np.float32, np.float32)
        assert np.abs(a).max() <= n_in**-0.5 and 0.4 < a.std() * (3 * n_in) ** 0.5 < 1.6 and not b.any()


def test_a_seed_gives_the_same_adapter_again_and_another_seed_another(params):
    first, again, other = (LowRankAdapter(params, SMALL, "all", 2, 4, 0, seed).leaves for seed in (0, 0, 1))
    for name, array in first.items():
        assert np.array_equal(array, again[name])
        assert name.endswith("/b") or not np.array_equal(array, other[name])


@pytest.mark.parametrize("matrices", ["c_attn", "c_proj", "c_fc", "all", "qv"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_the_merged_matrices_by_the_chain_rule(params, matrices, dropout):
    """W = w + s m a b, with rows of a that a mask m hides: dL/da = s m (dL/dW bᵀ), dL/db = s (m a)ᵀ dL/dW."""
    learner = adapter(params, matrices, dropout=dropout)
    changed, _, found = seen_gradients(learner, np.random.default_rng(5))
    whole = merged_gradients(learner, changed)
    assert found.keys() == learner.leaves.keys()
    for name in adapted(SMALL, matrices):
        a, b, d_w, scale = learner.leaves[f"{name}/a"], learner.leaves[f"{name}/b"], whole[name], 7 / 3
        mask = learner.seen.get(f"{name}/a", np.ones((len(a), 1), np.float32))
        assert (dropout > 0) == (mask.min() == 0)
        assert_close(found[f"{name}/a"], scale * mask * (d_w @ b.T), f"{name}/a")
        d_b = scale * (mask * a).T @ d_w
        assert_close(found[f"{name}/b"], d_b * queries_and_values(b.shape) if matrices == "qv" else d_b, name)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_say_how_the_loss_changes_with_what_learns(dropout):
    """Central differences through `params`, along the gradient of each array: its norm is the slope."""
    learner = adapter(lively_params(SMALL, 0, std=0.2), "all", dropout=dropout)
    _, _, found = seen_gradients(learner, np.random.default_rng(5))
    for name, array in learner.leaves.items():
        norm = np.linalg.norm(found[name])
        step, before, losses = 0.02 * found[name] / norm, array.copy(), []
        for sign in (1, -1):
            array[...] = before + sign * step
            losses.append(seen_gradients(learner, np.random.default_rng(5))[1])
        array[...] = before
        assert (losses[0] - losses[1]) / 0.04 == pytest.approx(norm, rel=0.02, abs=2e-4), name


# ---- queries and values ------------------------------------------------------------------------------------


def taken(learner, n_steps, rate=0.05):
    """Some steps of AdamW, without clipping."""
    memory = optimizers.adamw_memory(learner.leaves)
    for step in range(n_steps):
        found = seen_gradients(learner)[2]
        optimizers.adamw(learner.leaves, found, memory, step + 1, rate)
    return learner


@pytest.mark.parametrize("matrices", ["qv", " qv "])
def test_with_qv_the_keys_never_change_and_queries_and_values_do(params, matrices):
    learner = taken(LowRankAdapter(params, SMALL, matrices, 2, 4, 0, seed=0), 5)
    x = np.random.default_rng(3).normal(size=(7, N_EMBD)).astype(np.float32)
    for block, base in zip(learner.params()["blocks"], params["blocks"]):
        plain, changed = (np.split(x @ each["attn"]["c_attn"]["w"], 3, axis=-1) for each in (base, block))
        np.testing.assert_array_equal(changed[1], plain[1])
        for i in (0, 2):
            assert np.abs(changed[i] - plain[i]).max() > 0.1


def test_qv_is_an_adapter_of_the_queries_and_one_of_the_values(params):
    """Two adapters of rank 2, one with b for the queries alone and one for the values, learn the same."""
    learner = LowRankAdapter(params, SMALL, "qv", 2, 4, 0, seed=0)
    names = [f"h{layer}/attn/c_attn/w" for layer in range(2)]
    parts = {"queries": (slice(0, 2), slice(0, N_EMBD)), "values": (slice(2, 4), slice(2 * N_EMBD, None))}
    leaves = {}
    for part, (rows, _) in parts.items():
        for name in names:
            leaves[f"{part} {name} a"] = learner.leaves[f"{name}/a"][:, rows].copy()
            leaves[f"{part} {name} b"] = np.zeros((2, N_EMBD), np.float32)
    memory = optimizers.adamw_memory(leaves)
    for step in range(5):
        whole = {}
        for name in names:
            whole[name] = np.array(apart(params)[name])
            for part, (_, columns) in parts.items():
                whole[name][:, columns] += 2 * leaves[f"{part} {name} a"] @ leaves[f"{part} {name} b"]
        merged = together(apart(params) | whole)
        d_whole = gradients.loss_and_gradients(IDS[:, :-1], IDS[:, 1:], merged, N_HEAD, trainable=names)[1]
        found = {}
        for part, (_, columns) in parts.items():
            for name in names:
                a, b, d_w = leaves[f"{part} {name} a"], leaves[f"{part} {name} b"], d_whole[name][:, columns]
                found |= {f"{part} {name} a": 2 * d_w @ b.T, f"{part} {name} b": 2 * a.T @ d_w}
        optimizers.adamw(leaves, found, memory, step + 1, 0.05)
    taken(learner, 5)
    for part, (rows, columns) in parts.items():
        for name in names:
            ours, theirs = learner.leaves[f"{name}/a"][:, rows], leaves[f"{part} {name} a"]
            assert np.abs(ours - theirs).max() <= 1e-3, name
            ours, theirs = learner.leaves[f"{name}/b"][rows, columns], leaves[f"{part} {name} b"]
            assert np.abs(ours - theirs).max() <= 1e-3 and np.abs(theirs).max() > 0.1, name


# ---- dropout -----------------------------------------------------------------------------------------------


def test_a_dropped_input_has_no_influence_and_no_gradient(params):
    learner = adapter(params, "c_fc", dropout=0.5)
    first, loss, found = seen_gradients(learner, np.random.default_rng(0))
    n_dropped = 0
    for name, seen in learner.seen.items():
        is_dropped = seen[:, 0] == 0
        n_dropped += is_dropped.sum()
        assert not found[name][is_dropped].any() and found[name][~is_dropped].any(axis=1).all()
        learner.leaves[name][is_dropped] = 1e6
    _, again, _ = seen_gradients(learner, np.random.default_rng(0))
    assert again == loss and 10 < n_dropped < 38  # of 48


def test_the_mean_over_many_draws_is_the_adapter_without_dropout(params):
    learner, rng = adapter(params, "c_attn", dropout=0.3), np.random.default_rng(0)
    name, n_draws, total = "h1/attn/c_attn/w", 4000, 0
    shares = []
    for _ in range(n_draws):
        leaf = apart(learner.params(rng))[name]
        total = total + leaf.a
        shares.append((learner.seen[f"{name}/a"] == 0).mean())
    wanted = apart(learner.params())[name].a
    # each number of the mean has a standard error of 0.65 / √4000, or 1 %, of what it is
    assert np.abs(total / n_draws / wanted - 1).max() < 0.06
    assert np.mean(shares) == pytest.approx(0.3, abs=0.01)


def test_each_matrix_and_each_step_drops_other_inputs(params):
    learner, rng = adapter(params, "all", dropout=0.5), np.random.default_rng(0)
    draws = []
    for _ in range(2):
        learner.params(rng)
        draws += [seen.tobytes() for seen in learner.seen.values()]
    assert len({*draws}) == len(draws) == 16


def test_nothing_is_dropped_without_dropout_or_when_the_model_is_measured(params):
    for learner, rng in (
        (adapter(params, dropout=0.0), np.random.default_rng(0)),
        (adapter(params, dropout=0.5), None),
    ):
        learner.params(np.random.default_rng(1))
        found = apart(learner.params(rng))
        for name in adapted(SMALL, "all"):
            np.testing.assert_array_equal(found[name].a, learner.leaves[f"{name}/a"])
            np.testing.assert_allclose(found[name].b, 7 / 3 * learner.leaves[f"{name}/b"], rtol=1e-6)
        assert learner.seen == {}


# ---- all weights, and files --------------------------------------------------------------------------------


def test_all_weights_are_the_arrays_of_the_model_and_change_in_place(params):
    learner = AllWeights(params)
    assert learner.leaves.keys() == flatten(params).keys() and learner.params() is params
    changed, loss, found = seen_gradients(learner)
    wanted = gradients.loss_and_gradients(IDS[:, :-1], IDS[:, 1:], params, N_HEAD)[1]
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    for name, array in learner.leaves.items():
        array -= 1e-3 * found[name] / max(np.linalg.norm(found[name]), 1e-9)
    assert seen_gradients(learner)[1] < loss and flatten(learner.params()).keys() == found.keys()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "model")


@pytest.mark.parametrize("matrices", ["c_attn", "all", "qv"])
def test_a_written_adapter_is_read_as_the_same_arrays(model, tmp_path, matrices):
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(model), None)
    learner = LowRankAdapter(params, hparams, matrices, 3, 7, 0.2, seed=0)
    rng = np.random.default_rng(1)
    for array in learner.leaves.values():
        array[...] = rng.normal(0, 0.1, array.shape)
        if matrices == "qv" and array.shape[1] == 3 * N_EMBD:
            array *= queries_and_values(array.shape)
    tmp_path.joinpath("note").touch()
    learner.write(tmp_path, encoder, hparams, str(model))
    found, wanted = adapters.load(tmp_path, hparams), learner.adapter({})
    assert found.arrays == {} and found.updates.keys() == wanted.updates.keys()
    for name, update in wanted.updates.items():
        assert np.array_equal(found.updates[name].a, update.a) and found.updates[name].scale == update.scale
        assert np.array_equal(found.updates[name].b, update.b)
    assert (tmp_path / "note").exists()
    ids = np.arange(20)[None] * 7 % 257
    ours = gpt2.gpt2(ids, **learner.params(), n_head=N_HEAD)
    read = utils.load_encoder_hparams_and_params(str(model), None, str(tmp_path))[2]
    assert_same_logits(gpt2.gpt2(ids, **read, n_head=N_HEAD), ours)


def test_a_written_model_is_read_as_the_same_arrays_also_in_place_of_an_older_one(model, tmp_path):
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(model), None)
    learner = AllWeights(params)
    for _ in range(2):
        for array in learner.leaves.values():
            array *= 1.5
        learner.write(tmp_path, encoder, hparams, str(model))
        read = utils.load_encoder_hparams_and_params(str(tmp_path), None)
        assert read[1] == hparams and read[0].encode("The fox") == encoder.encode("The fox")
        for name, array in flatten(read[2]).items():
            np.testing.assert_array_equal(array, learner.leaves[name])
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".txt", ".safetensors"}


def test_all_weights_of_a_quantized_model_cannot_learn(model):
    params = utils.load_encoder_hparams_and_params(str(model), None)[2]
    with pytest.raises(ValueError, match="float32"):
        AllWeights(quantize.quantize(params, "int8"))


def test_an_adapter_learns_beside_quantized_weights(model):
    _, hparams, params = utils.load_encoder_hparams_and_params(str(model), None)
    learner = LowRankAdapter(quantize.quantize(params, "int8"), hparams, "all", 2, 4, 0.0, seed=0)
    ids = IDS % 97
    before = gradients.loss_and_gradients(ids[:, :-1], ids[:, 1:], learner.params(), N_HEAD, trainable=())[0]
    assert seen_gradients(taken(learner, 5, 0.02))[1] < before - 0.01
