"""adapter_config.json: which matrices an adapter changes, how much, and what is refused by name."""

import json
import re

import pytest

from extras.huggingface.adapter_config import (
    ALLOWED,
    FIELDS,
    IGNORED,
    is_target,
    is_trained_whole,
    rank_and_scale,
    read_adapter_config,
)
from files import ModelError

MODULES = ["transformer.wte", "transformer.wpe", "lm_head"]
MODULES += [
    f"transformer.h.{i}.{m}"
    for i in range(12)
    for m in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
]


def read(folder, **fields):
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | fields))
    return read_adapter_config(folder)


def targets(folder, **fields):  # -> {"0.c_attn", "wte", ...}
    """The short names of the matrices that are adapted."""
    config = read(folder, **fields)
    return {m.replace("transformer.", "").replace("h.", "") for m in MODULES if is_target(m, config)}


def of_layers(*modules, layers=range(12)):
    return {f"{layer}.{module}" for layer in layers for module in modules}


def test_a_missing_field_means_what_it_means_in_peft(tmp_path):
    config = read(tmp_path)
    assert config == {field: usual for field, (usual, *_) in FIELDS.items()}
    assert rank_and_scale("transformer.h.0.attn.c_attn", config) == (8, 1.0)
    assert targets(tmp_path) == of_layers("attn.c_attn")


# ---- which matrices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, wanted",
    [
        ({"target_modules": ["c_fc", "wte"]}, of_layers("mlp.c_fc") | {"wte"}),
        ({"target_modules": ["c_proj"]}, of_layers("attn.c_proj", "mlp.c_proj")),
        ({"target_modules": ["attn.c_proj"]}, of_layers("attn.c_proj")),
        ({"target_modules": ["transformer.h.3.mlp.c_fc"]}, {"3.mlp.c_fc"}),
        ({"target_modules": ["proj"]}, set()),  # a part of a name is no name
        ({"target_modules": "All-Linear"}, of_layers("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
        ({"target_modules": r".*\.h\.[01]\.attn.*"}, of_layers("attn.c_attn", "attn.c_proj", layers=[0, 1])),
        ({"target_modules": r"h\.1\.attn.*"}, set()),  # the whole name must match
        ({"target_modules": ["c_fc"], "layers_to_transform": 11}, of_layers("mlp.c_fc", layers=[11])),
        ({"target_modules": ["c_fc"], "layers_to_transform": [1, 10]}, of_layers("mlp.c_fc", layers=[1, 10])),
        ({"target_modules": ["c_fc"], "layers_to_transform": []}, of_layers("mlp.c_fc")),
        (
            {"target_modules": ["c_fc", "wte"], "layers_to_transform": [2], "layers_pattern": "h"},
            {"2.mlp.c_fc"},
        ),
        (
            {"target_modules": ["c_fc"], "layers_to_transform": [2], "layers_pattern": ["layers", "h"]},
            {"2.mlp.c_fc"},
        ),
        ({"target_modules": ["c_fc"], "layers_to_transform": [2], "layers_pattern": ["layers"]}, set()),
        (
            {"target_modules": ["c_fc", "transformer.h.5.attn.c_attn"], "layers_to_transform": [2]},
            {"2.mlp.c_fc", "5.attn.c_attn"},
        ),
        ({"target_modules": ["c_proj"], "exclude_modules": ["mlp.c_proj"]}, of_layers("attn.c_proj")),
        ({"target_modules": ["c_proj"], "exclude_modules": r".*\.\d+\.mlp.*"}, of_layers("attn.c_proj")),
        ({"target_modules": ["c_proj"], "modules_to_save": ["mlp"]}, of_layers("attn.c_proj")),
        ({"target_modules": ["wte", "wpe", "lm_head"]}, {"wte", "wpe", "lm_head"}),
        ({"target_modules": []}, set()),
    ],
)
def test_the_matrices_are_those_that_peft_finds(tmp_path, fields, wanted):
    assert targets(tmp_path, **fields) == wanted


def test_rank_and_scale_follow_the_first_pattern_that_fits(tmp_path):
    ranks, alphas = {"h.0.mlp.c_fc": 2, "c_fc": 4}, {r"^transformer\.h\.\d\.mlp.*": 16, "c_attn": 0.5}
    config = read(tmp_path, r=8, lora_alpha=32, rank_pattern=ranks, alpha_pattern=alphas)
    for module, wanted in (
        ("h.0.mlp.c_fc", (2, 8)),
        ("h.1.mlp.c_fc", (4, 4)),
        ("h.11.mlp.c_fc", (4, 8)),  # \d is one digit
        ("h.1.attn.c_attn", (8, 0.0625)),
        ("h.1.attn.c_proj", (8, 4)),
    ):
        assert rank_and_scale(f"transformer.{module}", config) == wanted
    config = read(tmp_path, r=16, lora_alpha=8, use_rslora=True)
    assert rank_and_scale("transformer.h.0.attn.c_attn", config) == (16, 2)


@pytest.mark.parametrize(
    "fields, wanted",
    [
        ({}, set()),
        ({"bias": "all"}, {"ln_f.bias", "h.0.mlp.c_fc.bias", "h.0.attn.c_attn.bias"}),
        ({"bias": "lora_only", "target_modules": ["c_fc"]}, {"h.0.mlp.c_fc.bias"}),
        ({"modules_to_save": ["ln_f", "wte"]}, {"ln_f.bias", "ln_f.weight", "wte.weight"}),
        ({"modules_to_save": ["mlp"]}, {"h.0.mlp.c_fc.bias", "h.0.mlp.c_fc.weight"}),
    ],
)
def test_what_is_trained_whole_is_named_by_bias_and_modules_to_save(tmp_path, fields, wanted):
    config, names = read(tmp_path, **fields), []
    for name in ("wte", "ln_f", "h.0.mlp.c_fc", "h.0.attn.c_attn"):
        names += [f"{name}.weight"] + ([f"{name}.bias"] if name != "wte" else [])
    assert {name for name in names if is_trained_whole(f"transformer.{name}", config)} == wanted


# ---- what is refused ---------------------------------------------------------------------------------------

KINDS = ["DORA", "VERA", "ADALORA", "IA3", "PROMPT_TUNING", "PREFIX_TUNING", "LOHA", "lora", None, 1]
OTHERS = {
    "use_dora": True,
    "lora_bias": True,
    "use_qalora": True,
    "target_parameters": ["c_attn.weight"],
    "trainable_token_indices": [1, 2],
    "layer_replication": [[0, 2]],
    "alora_invocation_tokens": [5],
    "megatron_config": {"a": 1},
    "use_bdlora": {"nblocks": 2},
    "arrow_config": {"top_k": 3},
    "kasa_config": {"beta": 1},
    "monteclora_config": {"num_samples": 8},
    "velora_config": {"num_groups": 64},
    "enable_lora": [True, False, True],  # of peft before 0.3
    "a_new_idea": "yes",
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_adapter_is_refused_by_name(tmp_path, kind):
    advice = "merge it into its base with peft"
    if "TUNING" in str(kind):
        advice = "it changes the prompt, not the weights, so only peft can run it"
    said = f"adapter_config.json: peft_type is {kind!r}, and only 'LORA' is supported; {advice}"
    with pytest.raises(ModelError, match=said):
        read(tmp_path, peft_type=kind)


@pytest.mark.parametrize("field, value", OTHERS.items(), ids=OTHERS)
def test_what_is_not_lora_as_in_its_paper_is_refused_by_name(tmp_path, field, value):
    with pytest.raises(ModelError, match=f"{field} is .*, and only plain LoRA is supported; merge it into"):
        read(tmp_path, **{field: value})
    for unused in (None, False, {}, []):
        read(tmp_path, **{field: unused})


@pytest.mark.parametrize("way", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"])
def test_an_adapter_that_changed_its_base_is_refused(tmp_path, way):
    with pytest.raises(ModelError, match=f"init_lora_weights is '{way}'; it changed its base"):
        read(tmp_path, init_lora_weights=way)


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "SEQ_2_SEQ_LM"])
def test_an_adapter_for_another_task_is_refused(tmp_path, task):
    with pytest.raises(ModelError, match=f"task_type is '{task}'; supported: None or 'CAUSAL_LM'"):
        read(tmp_path, task_type=task)


@pytest.mark.parametrize("field", sorted(IGNORED - {"peft_type"}))
def test_a_field_without_influence_may_be_anything(tmp_path, field):
    for value in (None, True, 0.5, "x", {"a": 1}):
        assert read(tmp_path, **{field: value}) == read(tmp_path)


WRONG = {  # values of a type that the field never has
    "base_model_name_or_path": [3, ["gpt2"]],
    "revision": [0],
    "r": [8.0, "8", True, [8]],
    "lora_alpha": ["16", True, [16]],
    "use_rslora": [1, "true"],
    "rank_pattern": [[], {"c_attn": 1.5}, {"c_attn": "2"}],
    "alpha_pattern": [[], {"c_attn": "2"}, {"c_attn": None}],
    "target_modules": [3, [3], {"c_attn": 1}],
    "exclude_modules": [3, [None]],
    "layers_to_transform": [1.0, ["1"], "1", True],
    "layers_pattern": [3, [3]],
    "bias": [True, "some"],
    "modules_to_save": ["ln_f", [1]],
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_another_type_is_refused(tmp_path, field):
    for value in WRONG[field]:
        with pytest.raises(ModelError, match=f"adapter_config.json: {field} is "):
            read(tmp_path, **{field: value})


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"r": 0}, "a rank in it is 0, expected from 1 to 100,000"),
        ({"rank_pattern": {"c_attn": -1}}, "a rank in it is -1"),
        ({"lora_alpha": float("nan")}, "an alpha in it is nan, expected from -1,000,000 to 1,000,000"),
        ({"lora_alpha": 10**400}, "an alpha in it is 1000"),
        ({"alpha_pattern": {"c_attn": -1e9}}, "an alpha in it is -1000000000.0"),
        ({"r": True}, "r is True: peft saves no such value"),
        ({"r": 10**400, "use_rslora": True}, "a rank in it is 1000"),
        (
            {"modules_to_save": ["x"] * 1001},
            "modules_to_save is too long: expected at most 250 names of 1,000 ",
        ),
        ({"target_modules": "x" * 1001}, "target_modules is too long"),
        ({"rank_pattern": {"x" * 1001: 2}}, "rank_pattern is too long"),
    ],
)
def test_a_number_that_no_adapter_has_is_refused(tmp_path, fields, message):
    with pytest.raises(ModelError, match=message):
        read(tmp_path, **fields)


BAD = ["(", "*", "[a", "(?P<x>a)(?P<x>b)(", "(?R)", r"\p{L}+", "(" * 400 + ")" * 400]
BAD += ["((((a{99}){99}){99}){99})", "(a{9999,}){9999,}", "(a{0}b{9000}){9000}", "a{4294967296}"]
BAD += [
    "[a--b]",
    "c_attn{i}",
    "(?:c_attn){e<=1}",
    "[[:alpha:]]_attn",
]  # of the regex library, with another meaning


@pytest.mark.parametrize("pattern", BAD)
def test_a_pattern_that_is_wrong_or_larger_than_memory_is_refused(tmp_path, pattern):
    for field, value in (
        ("target_modules", pattern),
        ("exclude_modules", pattern),
        ("rank_pattern", {pattern: 2}),
        ("modules_to_save", [pattern]),
        ("layers_pattern", [pattern]),
    ):
        with pytest.raises(
            ModelError, match=f"adapter_config.json: {field} has the pattern .*, which cannot"
        ):
            read(tmp_path, **{field: value})


def test_a_pattern_that_takes_for_ever_or_is_no_part_of_another_is_refused(tmp_path):
    for pattern in (r"(a|t|r|n|s|.|..)+[A-Z]{2}", "(?i)c_attn"):
        config = read(tmp_path, rank_pattern={pattern: 2})
        with pytest.raises(ModelError, match="adapter_config.json: its pattern .* cannot be used: "):
            rank_and_scale(MODULES[-1], config)


@pytest.mark.parametrize(
    "pattern", [r".*\.h\.\d{1,2}\..*c_(attn|fc)$", "(?i:.*C_ATTN)", r".*[.]c_attn", r".*attn(?!x)"]
)
def test_a_pattern_means_what_it_means_to_peft(tmp_path, pattern):
    config = read(tmp_path, target_modules=pattern)
    for module in MODULES:
        assert is_target(module, config) == bool(re.fullmatch(pattern, module))


def test_null_means_that_a_field_is_missing(tmp_path):
    assert read(tmp_path, **dict.fromkeys(FIELDS)) == read(tmp_path)


def test_the_tables_do_not_overlap():
    assert not IGNORED & (FIELDS.keys() | ALLOWED.keys())
