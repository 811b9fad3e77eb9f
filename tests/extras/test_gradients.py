"""The gradient of each weight is the slope of the loss, by central differences in float64."""

from unittest import mock

import numpy as np
import pytest
from slopes import (
    CLOSE,
    EVERYTHING,
    IDS,
    MASK,
    MATRICES,
    N_HEAD,
    OUTER,
    adapter,
    assert_close,
    errors,
    gradients_of,
    model,
    slopes,
)

import gpt2
from extras import gradients, inside, lora, scoring
from extras.huggingface.variants import ACTIVATIONS

# ---- each function on its own ------------------------------------------------------------------------------

ACTS = [pytest.param(act, id=act.__name__) for act in {act: 0 for act in ACTIVATIONS.values()}]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape)


@pytest.mark.parametrize("act", ACTS)
def test_the_slope_of_every_activation_is_known(act):
    x = np.linspace(-6.01, 6, 200).reshape(4, 50)  # none is 0, where relu has a kink
    d_y = draw(4, 50)
    assert_close(d_y * gradients.SLOPES[act](x), slopes(act, x, d_y))
    assert gradients.SLOPES[act](np.float32(x)).dtype == np.float32


@pytest.mark.parametrize("act", ACTS)
def test_far_from_0_a_slope_is_that_of_a_line(act):
    far = np.float32([20, 1e4])
    with np.errstate(all="raise", under="ignore"):
        above, below = gradients.SLOPES[act](far), gradients.SLOPES[act](-far)
    np.testing.assert_allclose(above, 0 if act is np.tanh else 1, atol=1e-6)
    np.testing.assert_allclose(below, 0, atol=1e-6)


def test_at_its_kink_relu_has_the_slope_0():
    assert gradients.SLOPES[ACTIVATIONS["relu"]](np.float32([-1, 0, 1])).tolist() == [0, 0, 1]


def test_back_through_softmax():
    x, d_y = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    assert_close(gradients.softmax_backward(d_y, gpt2.softmax(x)), slopes(gpt2.softmax, x, d_y))


@pytest.mark.parametrize("options", [{}, {"eps": 0.3}])
def test_back_through_layer_norm(options):
    x = 0.1 * draw(2, 3, 12)  # so small that eps counts
    d_y, g, b = draw(2, 3, 12, seed=1), draw(12, seed=2), draw(12, seed=3)
    norm = {"g": g, "b": b, **options}
    assert_close(
        gradients.layer_norm_backward(d_y, x, **norm), slopes(lambda x: gpt2.layer_norm(x, **norm), x, d_y)
    )
    found = gradients.of_layer_norm("ln", d_y, x, **norm)
    assert found.keys() == {"ln/g", "ln/b"}
    for leaf in "gb":
        wanted = slopes(lambda _: gpt2.layer_norm(x, **norm), norm[leaf], d_y)
        assert_close(found[f"ln/{leaf}"](), wanted)


def test_of_a_matrix_and_of_an_adapter_beside_it():
    x, d_y, w, b = draw(2, 3, 4), draw(2, 3, 5, seed=1), draw(4, 5, seed=2), draw(5, seed=3)
    adapted = lora.LowRank(w, draw(4, 2, seed=4), draw(2, 5, seed=5))
    for matrix, arrays in (
        (w, {"c/w": w, "c/b": b}),
        (adapted, {"c/w/a": adapted.a, "c/w/b": adapted.b, "c/b": b}),
    ):
        found = gradients.of_linear("c", d_y, x, matrix, b)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert_close(found[name](), slopes(lambda _, w=matrix: gpt2.linear(x, w, b), array, d_y))


def test_of_a_table_in_which_ids_come_again():
    table, ids, d_y = draw(6, 4), np.array([[1, 1, 3], [3, 1, 5]]), draw(2, 3, 4, seed=1)
    found = gradients.of_embedding("wte", d_y, ids, table)["wte"]()
    assert_close(found, slopes(lambda table: table[ids], table, d_y))
    assert not found[[0, 2, 4]].any()


def test_back_through_attention():
    q, k, v, d_heads = (draw(2, 3, 5, 4, seed=seed) for seed in range(4))
    mask = gpt2.causal_mask(5, 5)
    found = gradients.attention_backward(d_heads, q, k, v, gpt2.attention_weights(q, k, mask))
    for array, gradient in zip((q, k, v), found, strict=True):
        assert_close(gradient, slopes(lambda _: gpt2.attention(q, k, v, mask), array, d_heads))


@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_back_from_the_loss_to_the_logits(smoothing):
    logits, targets, shares = draw(2, 3, 5), np.array([[4, 4, 0], [1, 2, 0]]), draw(2, 3, seed=1)
    loss, found = gradients.loss_backward(logits, targets, shares, smoothing)

    def wanted(logits):
        return gradients.loss_backward(logits, targets, shares, smoothing)[0]

    assert_close(found, slopes(wanted, logits, 1))
    assert loss == pytest.approx(np.sum(shares * surprises(logits, targets, smoothing)), rel=1e-12)


def surprises(logits, targets, smoothing):  # as a student would write it
    found = np.zeros(targets.shape)
    for at in np.ndindex(targets.shape):
        for token, p in enumerate(gpt2.softmax(logits[at])):
            wanted = smoothing / logits.shape[-1] + (1 - smoothing) * (token == targets[at])
            found[at] -= wanted * np.log(p)
    return found


# ---- the model ---------------------------------------------------------------------------------------------

MODELS = {
    "tied": {},
    "untied": {"untied": True},
    **{f"adapter of {name}": {"adapted": [name]} for name in MATRICES[:4]},
    "adapters of all matrices": {"adapted": MATRICES},
    "adapters that do not learn": {"adapted": OUTER, "untied": True},
    "another eps": {"layer_norm_epsilon": 0.1},
    "queries scaled by layer": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    **{f"act {name}": {"activation_function": name} for name in ("gelu", "relu", "silu", "tanh")},
    "everything": EVERYTHING,
}
TEXTS = {
    "one text": {"ids": IDS[:1]},
    "texts of one token": {"ids": IDS[:, :2]},
    "as many tokens as the model sees": {"ids": np.random.default_rng(4).integers(0, 50, (2, 9))},
    "mask": {"mask": MASK},
    "smoothing": {"smoothing": 0.2},
    "mask and smoothing": {"mask": MASK, "smoothing": 0.2},
}


def errors_of(ids, params, mask=None, smoothing=0.0, n=12):  # -> {name: share}
    """The loss that `scoring.loss` computes is the judge; its mask has a column for the first id, too."""
    whole_mask = None if mask is None else np.pad(mask, ((0, 0), (1, 0)))

    def loss():
        return scoring.loss(ids, params, N_HEAD, whole_mask, smoothing)[0]

    found_loss, found = gradients_of(ids, params, mask, smoothing)
    assert found_loss == pytest.approx(loss(), rel=1e-12)
    assert found.keys() == gradients.leaves(params).keys()
    return errors(found, params, loss, n)


def test_four_matrices_and_four_activations_are_all():
    assert [name.removeprefix("h0/") for name in MATRICES[:4]] == [
        "attn/c_attn/w", "attn/c_proj/w", "mlp/c_fc/w", "mlp/c_proj/w"
    ]  # fmt: skip
    tried = {ACTIVATIONS[name] for name in ("gelu", "relu", "silu", "tanh")}
    assert {*ACTIVATIONS.values()} == tried | {gpt2.gelu}


@pytest.mark.parametrize("kind", MODELS)
def test_every_gradient_is_the_slope_of_the_loss(kind):
    found = errors_of(IDS, model(**MODELS[kind]))
    assert max(found.values()) <= CLOSE, max(found, key=found.get)


@pytest.mark.parametrize("kind", TEXTS)
def test_every_gradient_is_the_slope_of_the_loss_of_any_texts(kind):
    found = errors_of(**{"ids": IDS} | TEXTS[kind], params=model())
    assert max(found.values()) <= CLOSE, max(found, key=found.get)


def test_each_single_number_of_a_model_with_everything_has_its_slope():
    params = model(**EVERYTHING | {"n_vocab": 13, "n_embd": 6, "n_inner": 10})
    found = errors_of(IDS, params, MASK, smoothing=0.2, n=10**6)
    assert max(found.values()) <= CLOSE, max(found, key=found.get)


def test_an_adapter_beside_another_learns_and_the_other_does_not():
    below = model(adapted=MATRICES)
    params = lora.attach(below, adapter(MATRICES[::2]))
    leaves = gradients.leaves(params)
    assert leaves[f"{MATRICES[0]}/a"] is not gradients.leaves(below)[f"{MATRICES[0]}/a"]
    assert leaves[f"{MATRICES[1]}/a"] is gradients.leaves(below)[f"{MATRICES[1]}/a"]
    found = errors_of(IDS, params, n=3)
    assert max(found.values()) <= CLOSE, max(found, key=found.get)


def test_no_activation_is_at_its_kink():
    """relu's slope changes at 0: a central difference that reaches over it would be of neither side."""
    params = model(activation_function="relu")
    steps = inside.steps(IDS[:, :-1], **params, n_head=N_HEAD)
    assert min(np.abs(step["c_fc"]).min() for step in steps) > 1e-3


@pytest.mark.parametrize("untied", [False, True])
def test_targets_need_not_be_the_next_inputs(untied):
    params, inputs = model(untied=untied), IDS[:, :-1]
    targets = np.random.default_rng(5).integers(0, 50, inputs.shape)

    def loss():
        found = surprises(gpt2.gpt2(inputs, **params, n_head=N_HEAD), targets, 0.1)
        return found[MASK].mean()

    found_loss, found = gradients.loss_and_gradients(inputs, targets, params, N_HEAD, MASK, 0.1)
    assert found_loss == pytest.approx(loss(), rel=1e-12)
    found = errors(found, params, loss, n=1)
    assert max(found.values()) <= CLOSE, max(found, key=found.get)


def test_what_cannot_change_the_loss_has_no_gradient():
    mask = np.ones((3, 6), bool)
    mask[:, 4:] = False
    _, found = gradients_of(IDS, model(untied=True), mask)
    read = [*{*IDS[:, :4].flat}]
    never = [token for token in range(50) if token not in read]
    assert not found["wte"][never].any() and found["wte"][read].all()
    assert not found["wpe"][4:].any() and found["wpe"][:4].all()
    assert found["lm_head"].all()  # raising any logit lowers the others' probabilities
    np.testing.assert_allclose(found["lm_head"].sum(axis=0), 0, atol=1e-12)  # of all, nothing changes


def test_what_follows_the_last_target_that_counts_is_never_seen():
    mask = np.ones((3, 6), bool)
    mask[:, 3:] = False
    other = IDS.copy()
    other[:, 4:] = (other[:, 4:] + 1) % 50
    (loss, found), (other_loss, others) = (gradients_of(ids, model(), mask) for ids in (IDS, other))
    assert loss == pytest.approx(other_loss, rel=1e-12)
    for name, gradient in found.items():
        assert_close(others[name], gradient)


# ---- a planted bug is found --------------------------------------------------------------------------------


def norm_without_mean(d_y, x, g, b, eps=1e-5):
    z, std = gradients.standardized(x, eps)
    d = g * d_y
    return (d - z * np.mean(d * z, axis=-1, keepdims=True)) / std


def norm_of_given_scale(d_y, x, g, b, eps=1e-5):
    d = g * d_y
    return (d - np.mean(d, axis=-1, keepdims=True)) / gradients.standardized(x, eps)[1]


def attention_without_scale(d_heads, q, k, v, weights):
    d_q, d_k, d_v = ATTENTION_BACKWARD(d_heads, q, k, v, weights)
    return d_q * q.shape[-1] ** 0.5, d_k * q.shape[-1] ** 0.5, d_v


def ids_counted_once(name, d_y, ids, table):
    found = np.zeros(table.shape)
    found[ids] = d_y
    return {name: lambda: found}


def wte_as_head_only(name, d_y, ids, table):
    return OF_EMBEDDING(name, d_y * (name != "wte"), ids, table)


def wte_as_embedding_only(*arguments):
    for functions in BACKWARD(*arguments):
        yield {name: (lambda f=f: 0 * f()) if name == "lm_head" else f for name, f in functions.items()}


def loss_without_smoothing(logits, targets, shares, label_smoothing):
    smoothed, _ = LOSS_BACKWARD(logits, targets, shares, label_smoothing)
    return smoothed, LOSS_BACKWARD(logits, targets, shares, 0)[1]


ATTENTION_BACKWARD, BACKWARD = gradients.attention_backward, gradients.backward
OF_EMBEDDING, LOSS_BACKWARD = gradients.of_embedding, gradients.loss_backward
BUGS = {
    "layer_norm_backward": [norm_without_mean, norm_of_given_scale],
    "attention_backward": [attention_without_scale],
    "softmax_backward": [lambda d_y, y: y * d_y, lambda d_y, y: y * (1 - y) * d_y],
    "of_embedding": [ids_counted_once, wte_as_head_only],
    "backward": [wte_as_embedding_only],
    "loss_backward": [loss_without_smoothing],
}


@pytest.mark.parametrize("name, bug", [(name, bug) for name, bugs in BUGS.items() for bug in bugs])
def test_a_planted_bug_is_found(name, bug):
    with mock.patch.object(gradients, name, bug):
        assert max(errors_of(IDS, model(), smoothing=0.2, n=6).values()) > 1000 * CLOSE
