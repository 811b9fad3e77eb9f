"""Gradients have the type of their arrays; only what is wanted is computed; bad arguments are refused."""

from unittest import mock

import numpy as np
import pytest
from slopes import EVERYTHING, IDS, MASK, MATRICES, N_HEAD, OUTER, SIZES, assert_close, gradients_of, model

from extras import gradients, inside
from weights import flatten, nest, shapes

# ---- in any type and in any groups -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, EVERYTHING])
def test_float32_gives_float32_of_the_same_numbers_and_changes_no_argument(kind):
    params = model(**kind, dtype=np.float32)
    leaves = gradients.leaves(params)
    before = {name: array.copy() for name, array in leaves.items()}
    given = IDS[:, :-1].copy(), IDS[:, 1:].copy(), params, N_HEAD, MASK.copy()
    loss, found = gradients.loss_and_gradients(*given)
    wanted_loss, wanted = gradients_of(IDS, model(**kind), MASK)
    assert type(loss) is float and loss == pytest.approx(wanted_loss, rel=1e-5)
    assert found.keys() == wanted.keys() == leaves.keys()
    for name, gradient in found.items():
        assert gradient.dtype == np.float32 and gradient.shape == leaves[name].shape
        assert wanted[name].dtype == np.float64
        assert np.abs(gradient - wanted[name]).max() <= 1e-5 * np.abs(wanted[name]).max(), name
        assert np.array_equal(leaves[name], before[name]), name
        others = [*leaves.values(), *(found[other] for other in found if other != name)]
        assert not any(np.shares_memory(gradient, array) for array in others), name
    for array, kept in zip((*given[:2], given[-1]), (IDS[:, :-1], IDS[:, 1:], MASK)):
        assert np.array_equal(array, kept)


@pytest.mark.parametrize("at_once, n_passes", [(1, 3), (6, 3), (11, 3), (12, 2), (18, 1)])
def test_texts_in_smaller_groups_have_the_same_gradients(at_once, n_passes):
    mask = MASK.copy()
    mask[1] = False  # a text in which no token counts
    for kind in ({}, EVERYTHING):
        params = model(**kind)
        whole_loss, whole = gradients_of(IDS, params, mask, smoothing=0.2)
        with (
            mock.patch.object(gradients, "AT_ONCE", at_once),
            mock.patch.object(inside, "steps", wraps=inside.steps) as steps,
        ):
            loss, found = gradients_of(IDS, params, mask, smoothing=0.2)
        assert steps.call_count == n_passes
        assert loss == pytest.approx(whole_loss, rel=1e-12)
        for name, gradient in whole.items():
            assert_close(found[name], gradient)


# ---- only what is wanted -----------------------------------------------------------------------------------


class ForwardOnly(np.ndarray):
    """A matrix through which no gradient may go back."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return getattr(ufunc, method)(*map(np.asarray, inputs), **options)

    @property
    def T(self):
        raise AssertionError("a gradient went back through a layer below what is wanted")


def open_above(n):  # -> params
    """A model of which only the last n matrices can be gone back through."""
    leaves = flatten(model())
    return nest(leaves | {name: leaves[name].view(ForwardOnly) for name in MATRICES[: len(MATRICES) - n]})


def test_names_of_what_can_learn():
    names = shapes(SIZES).keys()
    for options, wanted in (
        ({}, names),
        ({"untied": True}, names | {"lm_head"}),
        ({"adapted": MATRICES[:1]}, names - {MATRICES[0]} | {f"{MATRICES[0]}/a", f"{MATRICES[0]}/b"}),
        ({"adapted": OUTER}, names - {"wte", "wpe"}),
        ({"layer_norm_epsilon": 0.1, "activation_function": "silu"}, names),
    ):
        found = gradients.leaves(model(**options))
        assert found.keys() == wanted
        assert all(type(array) is np.ndarray for array in found.values())
    adapted = model(adapted=MATRICES[:1])
    c_attn = adapted["blocks"][0]["attn"]["c_attn"]
    found = gradients.leaves(adapted)
    assert found["wte"] is adapted["wte"] and found["h0/attn/c_attn/b"] is c_attn["b"]
    assert found["h0/attn/c_attn/w/a"] is c_attn["w"].a and found["h0/attn/c_attn/w/b"] is c_attn["w"].b


@pytest.mark.parametrize("kind", [{}, {"untied": True}, {"adapted": MATRICES}])
def test_each_array_alone_has_the_gradient_that_it_has_among_all(kind):
    params = model(**kind)
    loss, whole = gradients_of(IDS, params)
    for name in gradients.leaves(params):
        alone_loss, alone = gradients_of(IDS, params, trainable=[name])
        assert alone_loss == loss and alone.keys() == {name}
        assert np.array_equal(alone[name], whole[name]), name
    pair = "h1/ln_2/b", "wpe"
    found = gradients_of(IDS, params, trainable=(name for name in pair))[1]
    assert found.keys() == {*pair} and all(np.array_equal(found[name], whole[name]) for name in pair)
    assert gradients_of(IDS, params, trainable=[]) == (loss, {})


ABOVE = {"mlp/c_proj": 0, "mlp/c_fc": 1, "ln_2": 2, "attn/c_proj": 2, "attn/c_attn": 3, "ln_1": 4}
N_ABOVE = {"ln_f": 0} | {f"h1/{part}": n for part, n in ABOVE.items()}  # matrices above each layer
N_ABOVE |= {f"h0/{part}": 4 + n for part, n in ABOVE.items()} | {"wpe": 8, "wte": 8}


@pytest.mark.parametrize("layer", N_ABOVE)
def test_nothing_below_what_is_wanted_is_gone_back_through(layer):
    whole, n = gradients_of(IDS, model())[1], N_ABOVE[layer]
    attention_backward = gradients.attention_backward
    for name in (name for name in whole if name.startswith(layer)):
        with mock.patch.object(gradients, "attention_backward", wraps=attention_backward) as attention:
            found = gradients_of(IDS, open_above(n), trainable=[name])[1]
        assert np.array_equal(found[name], whole[name])
        assert attention.call_count == (n + 1) // 4
        if n > 0:
            with pytest.raises(AssertionError, match="below what is wanted"):
                gradients_of(IDS, open_above(n - 1), trainable=[name])


def test_adapters_learn_alone():
    params = model(adapted=MATRICES)
    names = [f"{name}/{leaf}" for name in MATRICES for leaf in "ab"]
    whole = gradients_of(IDS, params)[1]
    found = gradients_of(IDS, params, trainable=names)[1]
    assert found.keys() == {*names}
    assert all(np.array_equal(found[name], whole[name]) for name in names)


# ---- bad input ---------------------------------------------------------------------------------------------


def changed(to, dtype=int):
    ids = IDS[:, :-1].astype(dtype)
    ids[1, 2] = to
    return ids


REFUSED = [
    ({"inputs": changed(50)}, "50.* is not an id of this model"),
    ({"inputs": changed(-1)}, "-1.* is not an id of this model"),
    ({"targets": changed(50)}, "50.* is not an id of this model"),
    ({"targets": changed(-100)}, "-100.* is not an id of this model"),
    ({"inputs": changed(2, float)}, "is not an id of this model"),
    ({"inputs": IDS[:, :3]}, r"\[3, 3\] and \[3, 6\]"),
    ({"targets": IDS[:2, 1:]}, r"\[3, 6\] and \[2, 6\]"),
    ({"inputs": IDS[0, :-1], "targets": IDS[0, 1:]}, r"must be \[n_batch, n_seq\]"),
    ({"inputs": IDS[:0], "targets": IDS[:0]}, "empty"),
    ({"inputs": IDS[:, :0], "targets": IDS[:, :0]}, "empty"),
    ({"inputs": [[1] * 9], "targets": [[2] * 9]}, "9 tokens: the model sees 8"),
    ({"mask": MASK[:, 1:]}, r"mask is \[3, 5\], but inputs are \[3, 6\]"),
    ({"mask": MASK[0]}, r"mask is \[6\], but inputs are \[3, 6\]"),
    ({"mask": MASK & False}, "no token counts"),
    ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
    ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
    ({"label_smoothing": np.nan}, "label_smoothing is nan"),
    ({"trainable": ["wte", "h7/ln_1/g"]}, "h7/ln_1/g is not"),
    ({"trainable": ["lm_head"]}, "lm_head is not"),  # a tied head is wte
    ({"trainable": [f"{MATRICES[0]}/a"]}, "h0/attn/c_attn/w/a is not"),  # no adapter is attached
]


@pytest.mark.parametrize("wrong, message", REFUSED)
def test_bad_arguments_are_refused_in_one_line(wrong, message):
    right = {"inputs": IDS[:, :-1], "targets": IDS[:, 1:], "params": model(), "n_head": N_HEAD}
    gradients.loss_and_gradients(**right)
    with pytest.raises(ValueError, match=message) as refusal:
        gradients.loss_and_gradients(**right | wrong)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 160


def test_what_is_below_an_adapter_cannot_learn():
    with pytest.raises(ValueError, match=f"{MATRICES[0]} is not"):
        gradients_of(IDS, model(adapted=MATRICES), trainable=MATRICES[:1])


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(damage):
    params = model()
    params["ln_f"]["b"][3] = damage
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError):
        gradients_of(IDS, params)
