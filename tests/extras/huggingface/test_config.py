"""config.json: what is read, what a missing field means, and what is refused by name."""

import json

import pytest

from extras.huggingface.config import ALIASES, ALLOWED, IGNORED, read_config, to_hparams
from files import ModelError
from weights import PRESETS


def read(folder, config):
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text)
    return read_config(folder)


def test_an_empty_one_means_the_smallest_model_of_openai(tmp_path):
    config = read(tmp_path, {})
    assert to_hparams(config) == PRESETS["124M"]
    assert config["activation_function"] == "gelu_new" and config["layer_norm_epsilon"] == 1e-5


def test_fields_that_do_not_matter_may_be_anything(tmp_path):
    config = {"n_ctx": 9, "resid_pdrop": 0.5, "summary_type": "x", "use_cache": False, "n_special": 3}
    config |= {"reorder_and_upcast_attn": True, "task_specific_params": {"a": 1}, "torch_dtype": "float16"}
    assert to_hparams(read(tmp_path, config)) == PRESETS["124M"]


@pytest.mark.parametrize("field", sorted(IGNORED))
def test_a_field_that_is_ignored_may_be_anything(tmp_path, field):
    for value in (None, True, -1, 0.5, "x", [], {"a": 1}):
        assert to_hparams(read(tmp_path, {field: value})) == PRESETS["124M"]


def test_each_field_is_in_one_table():
    assert not ALLOWED.keys() & IGNORED and not {*ALIASES, *ALIASES.values()} & {*ALLOWED, *IGNORED}


@pytest.mark.parametrize("field", ALLOWED)
def test_each_supported_value_is_accepted_and_one_that_only_looks_like_it_is_not(tmp_path, field):
    for value in ALLOWED[field]:
        assert read(tmp_path, {field: value})[field] == value
    for value in (0, 1, 1.0, 0.0, "", "true", "None", [[]], {"": 0}):
        with pytest.raises(ModelError, match=f"config.json: {field} is .*; supported: "):
            read(tmp_path, {field: value})


def test_the_names_that_all_models_of_transformers_share_are_known(tmp_path):
    aliases = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2}
    aliases["max_position_embeddings"] = 32
    wanted = {"n_vocab": 50257, "n_ctx": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}
    assert to_hparams(read(tmp_path, aliases)) == wanted
    assert to_hparams(read(tmp_path, aliases | {"n_head": 3})) == wanted
    with pytest.raises(ModelError, match="n_head is 6, but num_attention_heads is 3"):
        read(tmp_path, aliases | {"n_head": 6})


@pytest.mark.parametrize("n_inner, wanted", [(None, {}), (3072, {}), (40, {"n_inner": 40})])
def test_the_width_of_ffn_is_among_the_sizes_if_it_is_another(tmp_path, n_inner, wanted):
    assert to_hparams(read(tmp_path, {"n_inner": n_inner})) == PRESETS["124M"] | wanted


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"attention_head_type": "multiquery", "auto_map": {"AutoModelForCausalLM": "own.Model"}},
            "attention_head_type is 'multiquery'; supported: None or 'multihead'",
        ),
        (
            {"architectures": "GPT2LMHeadModel"},
            "architectures is 'GPT2LMHeadModel', expected a list of names",
        ),
        ({"architectures": [["GPT2LMHeadModel"]]}, "expected a list of names"),
        ({"architectures": 5}, "architectures is 5"),
        (
            {"transformers_weights": "other.safetensors"},
            "transformers_weights is .*; supported: a model without",
        ),
        ({"model_type": "llama"}, "model_type is 'llama'; supported: 'gpt2'"),
        ({"activation_function": "gelu_10"}, "activation_function is 'gelu_10'; supported: 'gelu_new' or "),
        ({"activation_function": ["gelu"]}, "activation_function is"),
        ({"scale_attn_weights": "yes"}, "scale_attn_weights is 'yes'; supported: True or False"),
        ({"scale_attn_by_inverse_layer_idx": None}, "scale_attn_by_inverse_layer_idx is None"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'"),
        ({"scale_attn_weights": 0}, "scale_attn_weights is 0; supported: True or False"),
        ({"is_causal": False}, "is_causal is False; supported: True"),
        ({"is_causal": None}, "is_causal is None"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is True; supported: False or None"),
        ({"sliding_window": 4}, "sliding_window is 4; supported: a model without it"),
        ({"attention_chunk_size": 4}, "attention_chunk_size is 4"),
        ({"layer_types": ["sliding_attention"]}, "layer_types is"),
        ({"per_layer_config": {"1": {"n_head": 1}}}, "per_layer_config is .*; supported: a model without it"),
        (
            {"configuration_files": ["config.4.0.json"]},
            "configuration_files is .*; supported: a model without",
        ),
        ({"add_cross_attention": True}, "add_cross_attention is True; supported: False"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is .*; supported: a model without it"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon is 0, expected a number between 0 and 1"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5'"),
        ({"layer_norm_epsilon": True}, "layer_norm_epsilon is True"),
        ({"vocab_size": "x"}, "config.json: vocab_size is 'x', expected a whole number"),
        ({"n_positions": 0}, "config.json: n_positions is 0"),
        ({"n_head": 5}, "n_embd 768 is not a multiple of n_head 5"),
        ({"n_head": 0}, "n_head is 0, expected a whole number from 1"),
        ({"n_embd": None}, "n_embd is None"),
        ({"n_embd": 24.0}, "n_embd is 24.0"),
        ({"n_embd": {}, "n_inner": 96}, "n_embd is {}, expected a whole number"),
        ({"n_layer": 10**9}, "n_layer is 1000000000"),
        ({"n_inner": "48"}, "n_inner is '48'"),
        ("", "get a fresh copy"),
        ("[]", r"expected a JSON object, not \[\]; get a fresh copy"),
        ("{", "get a fresh copy"),
        ('{"n_embd": 24, "n_embd": 24}', "n_embd is given twice; get a fresh copy"),
        ("<html>", "get a fresh copy"),
        ("[" * 100_000, "get a fresh copy"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, config, message):
    with pytest.raises(ModelError, match=message) as caught:
        read(tmp_path, config)
    assert str(tmp_path / "config.json") in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_one_is_no_model_of_transformers(tmp_path):
    with pytest.raises(
        ModelError, match="it has no config.json, so it is not a model of Hugging Face transformers"
    ):
        read_config(tmp_path)
