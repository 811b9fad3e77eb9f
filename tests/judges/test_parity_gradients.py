"""Gradients are those of PyTorch's autograd, and of peft for adapters: `pytest -m parity`."""

import numpy as np
import pytest
from adapted_models import IDS, randomize, read_base, save_base
from foreign_models import N_HEAD
from helpers import ROOT, as_transformers

import weights
from extras import gradients, lora
from extras.huggingface import adapters
from extras.huggingface.loading import huggingface_name
from extras.huggingface.variants import scale_queries
from weights import PRESETS, flatten

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # peft warns of much

CLOSE = 1e-4  # of an array's largest gradient, in float32
MASK = np.random.default_rng(1).random((2, 15)) < 0.6
UNSCALED = {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}
VARIANTS = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "silu": {"activation_function": "silu"},
    "tanh": {"activation_function": "tanh"},
    "eps": {"layer_norm_epsilon": 1e-2},
    "attention scaled by layer": UNSCALED,
    "narrow ffn": {"n_inner": 40},
}
LOSSES = {"mask": {"mask": MASK}, "smoothing": {"smoothing": 0.1}, "both": {"mask": MASK, "smoothing": 0.1}}
TARGETS = {
    "c_attn": ["c_attn"],
    "attn.c_proj": ["attn.c_proj"],
    "c_fc": ["c_fc"],
    "mlp.c_proj": ["mlp.c_proj"],
    "all": ["c_attn", "c_proj", "c_fc"],
}


def by_autograd(model, inputs, targets, mask=None, smoothing=0.0):  # -> loss, {name: array}
    """The loss of PyTorch, which ignores targets of -100, and the gradients by the names of transformers."""
    import torch

    if mask is not None:
        targets = np.where(mask, targets, -100)
    logits = model(torch.from_numpy(inputs)).logits.flatten(0, 1)
    labels = torch.from_numpy(targets).flatten()
    loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    model.zero_grad()
    loss.backward()
    return loss.item(), {name: array.grad.numpy() for name, array in model.named_parameters()}


def renamed(found):  # {our name: array} -> {name in transformers: array}
    names = {name: f"transformer.{huggingface_name(name)}" for name in found if name != "lm_head"}
    return {(names | {"lm_head": "lm_head.weight"})[name]: array for name, array in found.items()}


def unscaled(found, hparams):  # -> {name: array}
    """Where we multiplied the weights of queries by c, a gradient of theirs is c times ours."""
    found = {name: array.copy() for name, array in found.items()}
    for layer, scale in enumerate(hparams.get("query_scales", ())):
        for leaf in ("w", "b", "w/b"):
            if (name := f"h{layer}/attn/c_attn/{leaf}") in found:
                scale_queries(found[name], scale)
    return found


def assert_same_gradients(found, wanted, what):
    differences = {}
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == np.float32 and found[name].shape == array.shape
        differences[name] = np.abs(found[name] - array).max() / np.abs(array).max()
    worst = max(differences, key=differences.get)
    print(f"{what}: gradients differ by at most {differences[worst]:.1e} of the largest, in {worst}")
    assert differences[worst] <= CLOSE, worst


def compare(model, hparams, params, inputs, targets, what, **options):
    loss, found = gradients.loss_and_gradients(
        inputs, targets, params, hparams["n_head"], options.get("mask"), options.get("smoothing", 0.0)
    )
    wanted_loss, wanted = by_autograd(model, inputs, targets, **options)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert_same_gradients(renamed(unscaled(found, hparams)), wanted, what)


# ---- models of transformers --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bases(transformers, tmp_path_factory):
    """Small models that transformers saved: {name: (folder, hparams, params)}."""
    return {name: save_base(tmp_path_factory.mktemp("base"), **fields) for name, fields in VARIANTS.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_gradients_of_autograd(bases, variant):
    folder, hparams, params = bases[variant]
    compare(read_base(folder), hparams, params, IDS[:, :-1], IDS[:, 1:], variant)


@pytest.mark.parametrize("variant", ["plain", "untied"])
@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_has_the_gradients_of_autograd(bases, variant, kind):
    folder, hparams, params = bases[variant]
    compare(read_base(folder), hparams, params, IDS[:, :-1], IDS[:, 1:], f"{variant}, {kind}", **LOSSES[kind])


def test_texts_of_one_token_and_targets_of_any_kind_have_the_gradients_of_autograd(bases):
    folder, hparams, params = bases["plain"]
    targets = np.random.default_rng(2).integers(0, hparams["n_vocab"], IDS.shape)
    for inputs, wanted in ((IDS[:, :1], targets[:, :1]), (IDS, targets), (IDS[:1, :5], targets[:1, :5])):
        compare(read_base(folder), hparams, params, inputs, wanted, f"targets of any kind, {inputs.shape}")


def test_the_loss_that_transformers_computes_has_the_same_gradients(bases):
    import torch

    folder, hparams, params = bases["plain"]
    model, ids = read_base(folder), torch.from_numpy(IDS)
    labels = ids.clone()
    labels[:, 1:][torch.from_numpy(~MASK)] = -100
    model(ids, labels=labels).loss.backward()
    wanted = {name: array.grad.numpy() for name, array in model.named_parameters()}
    _, found = gradients.loss_and_gradients(IDS[:, :-1], IDS[:, 1:], params, N_HEAD, MASK)
    assert_same_gradients(renamed(found), wanted, "loss of transformers")


def test_tiny_has_the_gradients_of_autograd_on_stories(transformers, tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode((ROOT / "tests" / "stories.txt").read_text("utf-8"))[: 4 * 257]
    ids = np.reshape(ids, (4, 257))
    model = as_transformers(flatten(params), hparams)
    compare(model, hparams, params, ids[:, :-1], ids[:, 1:], "tiny")


def test_the_shape_of_124m_has_the_gradients_of_autograd(transformers):
    hparams, rng = PRESETS["124M"], np.random.default_rng(0)
    params = weights.random_params(hparams, rng)
    ids = rng.integers(0, hparams["n_vocab"], (1, 65))
    model = as_transformers(flatten(params), hparams)
    compare(model, hparams, params, ids[:, :-1], ids[:, 1:], "124M's shape")


# ---- adapters of peft --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["plain", "attention scaled by layer", "untied"])
@pytest.mark.parametrize("targets", TARGETS)
def test_an_adapter_has_the_gradients_that_peft_computes(peft, bases, tmp_path, variant, targets):
    """b of ours holds the scale s = alpha / r, so what peft's B gets is s times what ours gets."""
    folder, hparams, params = bases[variant]
    config = peft.LoraConfig(r=4, lora_alpha=10, target_modules=TARGETS[targets])
    model = peft.get_peft_model(read_base(folder), config).eval()
    randomize(model, 0)
    model.save_pretrained(tmp_path)
    adapter = adapters.load(tmp_path, hparams)
    assert all(update.scale == 2.5 for update in adapter.updates.values())

    learns = {name for name, array in model.named_parameters() if array.requires_grad}
    model.requires_grad_(True)
    loss, wanted = by_autograd(model, IDS[:, :-1], IDS[:, 1:], MASK)
    params = lora.attach(params, adapter)
    found_loss, found = gradients.loss_and_gradients(IDS[:, :-1], IDS[:, 1:], params, N_HEAD, MASK)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    wanted = {name: array for name, array in wanted.items() if not name.endswith("base_layer.weight")}
    found = of_peft(unscaled(found, hparams), adapter)
    assert_same_gradients(found, wanted, f"{variant}, adapters of {targets}")
    assert learns == {name for name in found if "lora_" in name}


def of_peft(found, adapter):  # {our name: array} -> {peft's: array}
    """The gradients by peft's names, and those of a and b as peft has them: transposed, and b not scaled."""
    learnt = {}
    for name, (_, _, scale) in adapter.updates.items():
        module = "transformer." + huggingface_name(name).removesuffix(".weight")
        learnt[f"{module}.lora_A.default.weight"] = found.pop(f"{name}/a").T
        learnt[f"{module}.lora_B.default.weight"] = scale * found.pop(f"{name}/b").T
    adapted = {huggingface_name(name).removesuffix("weight") for name in adapter.updates}
    for name, array in renamed(found).items():
        is_adapted = name.removeprefix("transformer.").removesuffix("bias") in adapted
        learnt[name.replace(".bias", ".base_layer.bias") if is_adapted else name] = array
    return {f"base_model.model.{name}": array for name, array in learnt.items()}
