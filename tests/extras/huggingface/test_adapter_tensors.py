"""The tensors of an adapter: turned our way, and compared with adapter_config.json and the base."""

import numpy as np
import pytest
from adapter_files import CONFIG, WEIGHTS, save, write_adapter
from helpers import SMALL, assert_same_logits
from safetensors.numpy import load_file

import gpt2
from extras import lora
from extras.huggingface import adapters
from files import ModelError, read_json
from weights import flatten, nest

IDS = np.random.default_rng(0).integers(0, SMALL["n_vocab"], 20)
ALL = ("c_attn", "c_fc", "attn/c_proj", "mlp/c_proj")
BEFORE = "base_model.model.transformer."
rng = np.random.default_rng(3)


def draw(*shape):
    return rng.normal(0, 0.3, shape).astype(np.float32)


def logits_of(params):
    return gpt2.gpt2(IDS, **params, n_head=SMALL["n_head"])


def changed(folder, config=None, **tensors):
    """Write an adapter again with other fields; and tensors replaced, added, or, where None, removed."""
    found = load_file(folder / WEIGHTS) | tensors
    found = {name: array for name, array in found.items() if array is not None}
    save(folder, found, read_json(folder / CONFIG) | (config or {}))


# ---- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modules", [("c_attn",), ("mlp/c_proj", "c_fc"), ALL])
def test_b_a_of_peft_transposed_and_scaled_is_added_to_each_matrix(tmp_path, params, modules):
    added = write_adapter(tmp_path, SMALL, modules)
    leaves = flatten(params)
    leaves |= {name: leaves[name] + product for name, product in added.items()}
    adapter = adapters.load(tmp_path, SMALL)
    assert adapter.updates.keys() == added.keys() and adapter.arrays == {}
    for way in (lora.merge, lora.attach):
        assert_same_logits(logits_of(way(params, adapter)), logits_of(nest(leaves)))


@pytest.mark.parametrize("module", ["wte", "wpe"])
def test_an_embedding_has_its_own_names(tmp_path, params, module):
    n_rows = SMALL["n_vocab"] if module == "wte" else SMALL["n_ctx"]
    a, b = draw(3, n_rows), draw(24, 3)
    tensors = {f"{BEFORE}{module}.lora_embedding_A": a, f"{BEFORE}{module}.lora_embedding_B": b}
    save(tmp_path, tensors, {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": [module]})
    merged = lora.merge(params, adapters.load(tmp_path, SMALL))[module]
    rows = merged.embedding if module == "wte" else merged
    np.testing.assert_allclose(rows, params[module] + 2 * (b @ a).T, rtol=1e-5, atol=1e-6)


def test_a_head_is_the_other_way_round(tmp_path, params):
    a, b = draw(3, 24), draw(97, 3)
    tensors = {"base_model.model.lm_head.lora_A.weight": a, "base_model.model.lm_head.lora_B.weight": b}
    save(tmp_path, tensors, {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": ["lm_head"]})
    wte = lora.merge(params, adapters.load(tmp_path, SMALL))["wte"]
    assert wte.embedding is params["wte"]
    np.testing.assert_allclose(wte.head, params["wte"] + 2 * b @ a, rtol=1e-5, atol=1e-6)


def test_what_was_trained_whole_takes_the_place_of_the_bases(tmp_path):
    arrays = {"ln_f.weight": draw(24), "ln_f.bias": draw(24), "h.0.attn.c_attn.base_layer.bias": draw(72)}
    arrays |= {"h.1.attn.c_attn.base_layer.bias": draw(72)}
    more = {"modules_to_save": ["ln_f"], "bias": "lora_only"}
    write_adapter(tmp_path, SMALL, arrays=arrays, **more)
    found = adapters.load(tmp_path, SMALL).arrays
    assert found.keys() == {"ln_f/g", "ln_f/b", "h0/attn/c_attn/b", "h1/attn/c_attn/b"}
    np.testing.assert_array_equal(found["ln_f/g"], arrays["ln_f.weight"])
    np.testing.assert_array_equal(found["h1/attn/c_attn/b"], arrays["h.1.attn.c_attn.base_layer.bias"])


def test_copies_that_peft_saves_beside_a_module_are_left_out(tmp_path):
    arrays = {"ln_f.weight": draw(24), "ln_f.bias": draw(24)}
    copies = {"ln_f.modules_to_save.bias": arrays["ln_f.bias"], "ln_f.original_module.bias": draw(24)}
    write_adapter(tmp_path, SMALL, arrays=arrays | copies, modules_to_save=["ln_f"])
    np.testing.assert_array_equal(adapters.load(tmp_path, SMALL).arrays["ln_f/b"], arrays["ln_f.bias"])


def test_equal_rows_for_embedding_and_head_are_one_matrix(tmp_path, params):
    rows = draw(SMALL["n_vocab"], 24)
    write_adapter(tmp_path, SMALL, arrays={"wte.weight": rows})
    changed(tmp_path, **{"base_model.model.lm_head.weight": rows})
    wte = lora.merge(params, adapters.load(tmp_path, SMALL))["wte"]
    assert isinstance(wte, np.ndarray)
    np.testing.assert_array_equal(wte, rows)


@pytest.mark.parametrize("prefix", ["base_model.model.", "transformer.", ""])
def test_names_may_lack_what_peft_or_the_language_model_puts_before_them(tmp_path, prefix):
    added = write_adapter(tmp_path, SMALL)
    tensors = load_file(tmp_path / WEIGHTS)
    names = {name: prefix + name.removeprefix(BEFORE) for name in tensors}
    save(tmp_path, {names[name]: tensors[name] for name in tensors}, read_json(tmp_path / CONFIG))
    assert adapters.load(tmp_path, SMALL).updates.keys() == added.keys()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_numbers_are_float32_whatever_the_file_has(tmp_path, dtype):
    write_adapter(tmp_path, SMALL, ALL)
    halves = {name: array.astype(dtype) for name, array in load_file(tmp_path / WEIGHTS).items()}
    changed(tmp_path, **halves)
    for update in adapters.load(tmp_path, SMALL).updates.values():
        assert update.a.dtype == update.b.dtype == np.float32


def test_where_queries_are_scaled_the_adapters_are_too(tmp_path, params):
    arrays = {f"h.{i}.attn.c_attn.base_layer.bias": draw(72) for i in range(2)}
    added = write_adapter(tmp_path, SMALL, arrays=arrays, bias="lora_only")
    leaves = flatten(params)
    leaves |= {name: leaves[name] + product for name, product in added.items()}
    leaves |= {f"h{i}/attn/c_attn/b": arrays[f"h.{i}.attn.c_attn.base_layer.bias"].copy() for i in range(2)}
    base = {name: array.copy() for name, array in flatten(params).items()}
    for each in (leaves, base):
        for leaf in ("w", "b"):
            each[f"h1/attn/c_attn/{leaf}"][..., :24] *= 0.5
    adapter = adapters.load(tmp_path, SMALL | {"query_scales": [1, 0.5]})
    assert_same_logits(logits_of(lora.merge(nest(base), adapter)), logits_of(nest(leaves)))
    again = adapters.load(tmp_path, SMALL)  # the file was not changed
    np.testing.assert_array_equal(again.arrays["h1/attn/c_attn/b"], arrays["h.1.attn.c_attn.base_layer.bias"])


# ---- what does not fit -------------------------------------------------------------------------------------


def refusal(folder, hparams=SMALL):
    with pytest.raises(ModelError) as caught:
        adapters.load(folder, hparams)
    return str(caught.value)


def test_every_tensor_is_needed_and_no_other(tmp_path):
    write_adapter(
        tmp_path,
        SMALL,
        ALL,
        arrays={"ln_f.weight": draw(24), "ln_f.bias": draw(24)},
        modules_to_save=["ln_f"],
    )
    tensors = load_file(tmp_path / WEIGHTS)
    assert len(tensors) == 18
    for name in tensors:
        changed(tmp_path, **{name: None})
        assert f"{name.removeprefix('base_model.model.')} is missing" in refusal(tmp_path)
        changed(tmp_path, **{name: tensors[name], "base_model.model.x.weight": draw(2)})
        assert "x.weight is unknown (1 in all)" in refusal(tmp_path)
        changed(tmp_path, **{"base_model.model.x.weight": None, name: tensors[name][..., :-1]})
        assert f"{name.removeprefix('base_model.model.')} has shape" in refusal(tmp_path)
        wrong = tensors[name].copy()
        wrong[..., 0] = np.nan
        changed(tmp_path, **{name: wrong})
        assert "holds NaN or infinity" in refusal(tmp_path)
        changed(tmp_path, **{name: tensors[name].astype(float)})
        assert "is float64, not float32 or float16" in refusal(tmp_path)
        changed(tmp_path, **{name: tensors[name]})
    adapters.load(tmp_path, SMALL)


@pytest.mark.parametrize(
    "sizes, found",
    [
        ({"n_embd": 27}, "lora_A.weight has shape [3, 24], but [3, 27]"),
        ({"n_layer": 3}, "h.2.attn.c_attn.lora_A.weight is missing"),
        ({"n_layer": 1}, "transformer.h.1.attn.c_attn.lora_A.weight is unknown (2 in all)"),
    ],
)
def test_a_base_of_other_sizes_is_refused_and_both_are_named(tmp_path, sizes, found):
    write_adapter(tmp_path, SMALL, base_model_name_or_path="me/small")
    hparams, said = SMALL | sizes, refusal(tmp_path, SMALL | sizes)
    base = f"n_vocab 97, n_embd {hparams['n_embd']}, n_layer {hparams['n_layer']}"
    assert said.startswith(f"{tmp_path / WEIGHTS}: ") and found in said
    assert f"according to adapter_config.json and the base ({base})" in said
    assert said.endswith("; it was made for me/small; if that is this model, get a fresh copy")


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        f"{BEFORE}h.0.attn.c_attn.lora_magnitude_vector",
        f"{BEFORE}h.0.attn.c_attn.lora_B.bias",
        f"{BEFORE}h.0.attn.c_attn.lora_E",
        f"{BEFORE}h.0.attn.c_proj.lora_A.weight",  # not among target_modules
        f"{BEFORE}h.0.attn.c_attn.lora_A.default.weight",
        f"{BEFORE}ln_f.weight",  # not among modules_to_save
        "v_head.summary.weight",
    ],
)
def test_a_tensor_that_is_not_expected_is_refused_by_name(tmp_path, name):
    write_adapter(tmp_path, SMALL)
    changed(tmp_path, **{name: draw(24)})
    assert f"{name.removeprefix('base_model.model.')} is unknown" in refusal(tmp_path)


def test_a_name_that_stands_for_another_one_too_is_refused(tmp_path):
    write_adapter(tmp_path, SMALL)
    changed(tmp_path, **{"transformer.h.0.attn.c_attn.lora_A.weight": draw(3, 24)})
    assert "it has transformer.h.0.attn.c_attn.lora_A.weight twice" in refusal(tmp_path)


def test_what_the_config_says_of_the_rank_must_be_true_of_the_tensors(tmp_path):
    write_adapter(tmp_path, SMALL, r=4)
    assert "lora_A.weight has shape [3, 24], but [4, 24]" in refusal(tmp_path)
    changed(tmp_path, config={"r": 3, "rank_pattern": {"h.1.attn.c_attn": 2}})
    assert "h.1.attn.c_attn.lora_A.weight has shape [3, 24], but [2, 24]" in refusal(tmp_path)


# ---- other numbers of tokens -------------------------------------------------------------------------------


def test_an_embedding_may_have_more_rows_than_the_bases(tmp_path, params):
    rows = draw(99, 24)
    write_adapter(tmp_path, SMALL, arrays={"wte.weight": rows})
    changed(tmp_path, **{"base_model.model.lm_head.weight": rows})
    merged = lora.merge(params, adapters.load(tmp_path, SMALL))
    assert logits_of(merged).shape == (20, 99) and merged["wpe"] is params["wpe"]


def test_an_embedding_or_a_head_that_is_saved_alone_must_be_named_by_modules_to_save(tmp_path):
    for name in (f"{BEFORE}wte.weight", "base_model.model.lm_head.weight"):
        write_adapter(tmp_path, SMALL)
        changed(tmp_path, **{name: draw(97, 24)})
        short = name.removeprefix("base_model.model.")
        assert f"it has {short} alone, which modules_to_save does not name" in refusal(tmp_path)
        changed(tmp_path, config={"modules_to_save": [short.split(".")[-2]]})
        assert len(adapters.load(tmp_path, SMALL).arrays) == 1


def test_new_tokens_need_a_head(tmp_path):
    write_adapter(tmp_path, SMALL)
    tensors = {name.removeprefix(BEFORE): array for name, array in load_file(tmp_path / WEIGHTS).items()}
    save(tmp_path, tensors | {"wte.weight": draw(99, 24)}, read_json(tmp_path / CONFIG))
    said = "wte.weight has 99 rows, but the base has 97 tokens; it was trained without a head, which new"
    assert said in refusal(tmp_path)


def test_a_number_of_rows_that_no_model_has_is_refused(tmp_path):
    write_adapter(tmp_path, SMALL)
    none = np.zeros((0, 24), np.float32)
    changed(tmp_path, **{f"{BEFORE}wte.weight": none, "base_model.model.lm_head.weight": none})
    assert refusal(tmp_path).startswith(f"{tmp_path / WEIGHTS}: n_vocab is 0, expected a whole number")


@pytest.mark.parametrize(
    "wte, head, counts",
    [
        (99, None, "transformer.wte.weight has 99 rows"),
        (None, 99, "lm_head.weight has 99 rows"),
        (99, 98, "transformer.wte.weight has 99 rows, lm_head.weight has 98 rows"),
    ],
)
def test_embedding_and_head_have_the_same_number_of_rows(tmp_path, wte, head, counts):
    write_adapter(tmp_path, SMALL)
    more = {
        f"{BEFORE}wte.weight": wte and draw(wte, 24),
        "base_model.model.lm_head.weight": head and draw(head, 24),
    }
    changed(tmp_path, **more)
    said = (
        f"{counts}, but the base has 97 tokens; it needs both wte and lm_head, with the same number of rows"
    )
    assert said in refusal(tmp_path)
