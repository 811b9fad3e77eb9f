"""peft reads the adapters that we write, and has our logits with them: `pytest -m parity`."""

import json
import warnings

import numpy as np
import pytest
from adapted_models import compare, logits_of, ours, randomize, read_base, save_base
from adapter_files import CONFIG, WEIGHTS, matrices, queries_and_values, random_adapter
from helpers import SMALL, as_transformers, assert_same_logits, run

from extras import lora
from extras.huggingface import adapter_export, adapters
from weights import flatten, shapes

STD = 0.05  # of the numbers that are drawn: with larger ones, float32 alone makes logits differ
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # peft warns of much

BASES = {
    "plain": {},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "untied": {"tie_word_embeddings": False},
    "all": {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False, "n_inner": 20}
    | {"tie_word_embeddings": False, "activation_function": "silu"},
    "twelve layers": {"n_layer": 12},
}


@pytest.fixture(scope="module")
def bases(transformers, tmp_path_factory):
    """Small models that transformers saved: {name: (folder, hparams, params)}."""
    return {name: save_base(tmp_path_factory.mktemp("base"), **fields) for name, fields in BASES.items()}


def in_peft(peft, base, folder):
    """A model with our adapter, in which peft missed nothing: it would warn of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(read_base(base), folder)
    words = ("missing", "unexpected", "match", "fan_in_fan_out")
    said = [str(warning.message) for warning in caught]
    assert not [line for line in said if any(word in line.lower() for word in words)], said
    return model.eval()


def assert_same_for_peft(peft, base, adapter, folder):  # -> modules that peft changes
    """The logits are those of peft, and they are not the base's own."""
    base, hparams, params = base
    adapter_export.save(folder, adapter, hparams, str(base))
    model = in_peft(peft, base, folder)
    ends = "base_model.model.", ".lora_A.default.weight"
    names = [name for name, _ in model.named_parameters() if name.endswith(ends[1])]
    compare(model, params, adapter)
    wanted = logits_of(read_base(base))
    assert np.abs(ours(lora.merge(params, adapter)) - wanted).max() > 1e-3 * np.abs(wanted).max()
    return [name.removeprefix(ends[0]).removesuffix(ends[1]) for name in names]


@pytest.mark.parametrize("name", BASES)
def test_with_every_matrix_changed_peft_has_our_logits(peft, bases, tmp_path, name):
    hparams = bases[name][1]
    modules = assert_same_for_peft(peft, bases[name], random_adapter(hparams, std=STD), tmp_path)
    assert len(modules) == 4 * hparams["n_layer"]


@pytest.mark.parametrize("name", BASES)
def test_with_queries_and_values_alone_changed_peft_has_our_logits(peft, bases, tmp_path, name):
    adapter = queries_and_values(bases[name][1], std=STD)
    assert_same_for_peft(peft, bases[name], adapter, tmp_path)


@pytest.mark.parametrize("module", ["attn/c_attn", "mlp/c_fc"])
def test_peft_changes_layer_1_and_not_layer_11(peft, bases, tmp_path, module):
    adapter = random_adapter(bases["twelve layers"][1], [f"h1/{module}/w"], std=STD)
    found = assert_same_for_peft(peft, bases["twelve layers"], adapter, tmp_path)
    assert found == [f"transformer.h.1.{module.replace('/', '.')}"]


@pytest.mark.parametrize("module", ["attn", "mlp"])
def test_of_two_kinds_of_projection_peft_changes_only_one(peft, bases, tmp_path, module):
    names = [f"h{layer}/{module}/c_proj/w" for layer in range(3)]
    adapter = random_adapter(bases["plain"][1], names, std=STD)
    found = assert_same_for_peft(peft, bases["plain"], adapter, tmp_path)
    assert found == [f"transformer.h.{layer}.{module}.c_proj" for layer in range(3)]


def test_peft_finds_many_names_that_it_would_shorten(peft, bases, tmp_path):
    names = [name for name in matrices(bases["twelve layers"][1]) if not name.startswith("h5/")]
    adapter = random_adapter(bases["twelve layers"][1], names, std=STD)
    assert len(assert_same_for_peft(peft, bases["twelve layers"], adapter, tmp_path)) == 44


def random_updates(rng, hparams):  # -> lora.Adapter
    """Some matrices, each of a rank and a scale of its own, or most of them alike."""
    names = matrices(hparams)
    names = rng.choice(names, rng.integers(1, len(names) + 1), replace=False)
    p, updates = rng.random(), {}
    for name in names:
        r, alpha = (3, 6) if rng.random() < p else (int(rng.integers(1, 9)), int(rng.integers(1, 33)))
        updates |= random_adapter(hparams, [name], rng, r, alpha / r, STD).updates
    return lora.Adapter(updates, {})


def test_peft_has_our_logits_with_random_matrices_ranks_and_scales(peft, bases, tmp_path, n_fuzz):
    for seed in range(max(20, n_fuzz // 10)):
        rng = np.random.default_rng(seed)
        base = bases[sorted(bases)[seed % len(bases)]]
        try:
            assert_same_for_peft(peft, base, random_updates(rng, base[1]), tmp_path / str(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_what_peft_saved_is_the_same_to_peft_once_we_have_written_it(peft, bases, tmp_path):
    from safetensors.numpy import load_file

    base, hparams, _ = bases["plain"]
    fields = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["c_attn", "mlp.c_proj"]}
    fields |= {"rank_pattern": {"mlp.c_proj": 2}, "alpha_pattern": {"c_attn": 7.5}, "bias": "none"}
    model = peft.get_peft_model(read_base(base), peft.LoraConfig(task_type="CAUSAL_LM", **fields))
    randomize(model, 0)
    model.save_pretrained(tmp_path / "theirs")
    adapter = adapters.load(tmp_path / "theirs", hparams)
    adapter_export.save(tmp_path / "ours", adapter, hparams, str(base), dropout=0.1)
    tensors, wanted = (load_file(tmp_path / name / WEIGHTS) for name in ("ours", "theirs"))
    assert tensors.keys() == wanted.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, wanted[name])
    again = in_peft(peft, base, tmp_path / "ours")
    again.save_pretrained(tmp_path / "again")
    fields, wanted = (json.loads((tmp_path / name / CONFIG).read_text()) for name in ("again", "theirs"))
    apart = {"target_modules", "rank_pattern", "alpha_pattern", "r", "lora_alpha"}  # said in other words
    assert {name for name in fields if fields[name] != wanted[name]} <= apart
    for name, array in load_file(tmp_path / "again" / WEIGHTS).items():
        np.testing.assert_array_equal(array, tensors[name])


def test_peft_goes_on_training_what_we_wrote_with_its_dropout(peft, bases, tmp_path):
    import torch

    base, hparams, _ = bases["plain"]
    adapter_export.save(tmp_path, random_adapter(hparams), hparams, dropout=0.25)
    model = peft.PeftModel.from_pretrained(read_base(base), tmp_path, is_trainable=True)
    learned = [name for name, each in model.named_parameters() if each.requires_grad]
    assert len(learned) == 2 * len(matrices(hparams)) and all(".lora_" in name for name in learned)
    rates = {
        each.p
        for name, each in model.named_modules()
        if isinstance(each, torch.nn.Dropout) and "lora" in name
    }
    assert rates == {0.25}


def test_peft_takes_a_model_that_no_file_has(peft, params, tmp_path):
    adapter = random_adapter(SMALL, std=STD)
    adapter_export.save(tmp_path, adapter, SMALL)
    model = peft.PeftModel.from_pretrained(as_transformers(flatten(params), SMALL), tmp_path).eval()
    ids = np.random.default_rng(0).integers(0, SMALL["n_vocab"], (2, SMALL["n_ctx"]))
    found = ours(lora.merge(params, adapter), ids, SMALL["n_head"])
    assert_same_logits(found, logits_of(model, ids))
    assert np.abs(found - ours(params, ids, SMALL["n_head"])).max() > 1e-3 * np.abs(found).max()


# ---- the bundled model -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(transformers, tmp_path_factory):
    """The bundled model in the layout of transformers."""
    folder = tmp_path_factory.mktemp("models") / "exported"
    assert run(["tiny", str(folder)], "extras.huggingface.export") == 0
    return folder


def test_of_the_bundled_model_with_our_adapter_peft_has_the_logits_and_the_text(
    peft, exported, tiny, tmp_path, capsys
):
    import torch

    encoder, hparams, params = tiny
    rng = np.random.default_rng(0)
    adapter = random_adapter(hparams, rng=rng, r=8, scale=0.5)
    adapter_export.save(tmp_path, adapter, hparams, str(exported))
    model = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path).eval()  # it finds the base
    ids = encoder.encode("The little fox was a baker.")
    found = ours(lora.merge(params, adapter), [ids], hparams["n_head"])
    assert_same_logits(found, logits_of(model, [ids]))
    with torch.no_grad():
        new = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
    capsys.readouterr()
    assert run(["The little fox was a baker.", "-n", "12", "--lora", str(tmp_path)]) == 0
    assert capsys.readouterr().out == encoder.decode(new.tolist()) + "\n"


def test_peft_saves_again_what_was_written_for_tiny(peft, exported, tiny, tmp_path, monkeypatch):
    """It looks for the base's config, in a folder or on the hub, and does without."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    adapter_export.save(tmp_path / "ours", random_adapter(tiny[1]), tiny[1], "tiny")
    in_peft(peft, exported, tmp_path / "ours").save_pretrained(tmp_path / "again")
    found, wanted = (adapters.load(tmp_path / name, tiny[1]) for name in ("again", "ours"))
    for name in shapes(tiny[1]):
        if name in wanted.updates:
            np.testing.assert_array_equal(found.updates[name].b, wanted.updates[name].b)
    assert json.loads((tmp_path / "again" / CONFIG).read_text())["base_model_name_or_path"] == "tiny"
