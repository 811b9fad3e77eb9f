"""Models in the layout of transformers: how each variant is read, what is refused; without the library."""

import json
import os
import re

import numpy as np
import pytest
from helpers import (
    assert_same_logits,
    command,
    lively_params,
    run_python,
    write_huggingface,
    write_model,
)

import gpt2
import utils
import weights
from checkpoint import in_openai_layout
from extras import huggingface
from extras.huggingface import export, loading
from extras.huggingface.config import read_config
from extras.huggingface.variants import exact_gelu
from files import ModelError

HPARAMS = {"n_vocab": 4000, "n_ctx": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}
IDS = np.random.default_rng(0).integers(0, HPARAMS["n_vocab"], 20)
BLOCK = {  # OpenAI's name: theirs, in a block
    "ln_1/g": "ln_1.weight",
    "ln_1/b": "ln_1.bias",
    "ln_2/g": "ln_2.weight",
    "ln_2/b": "ln_2.bias",
    "attn/c_attn/w": "attn.c_attn.weight",
    "attn/c_attn/b": "attn.c_attn.bias",
    "attn/c_proj/w": "attn.c_proj.weight",
    "attn/c_proj/b": "attn.c_proj.bias",
    "mlp/c_fc/w": "mlp.c_fc.weight",
    "mlp/c_fc/b": "mlp.c_fc.bias",
    "mlp/c_proj/w": "mlp.c_proj.weight",
    "mlp/c_proj/b": "mlp.c_proj.bias",
}
NAMES = {"wte": "wte.weight", "wpe": "wpe.weight", "ln_f/g": "ln_f.weight", "ln_f/b": "ln_f.bias"} | {
    f"h{layer}/{ours}": f"h.{layer}.{theirs}" for layer in range(2) for ours, theirs in BLOCK.items()
}


@pytest.fixture(scope="module")
def arrays():
    """A model by OpenAI's names, every number of it random."""
    return weights.flatten(lively_params(HPARAMS, seed=3, std=0.3))


@pytest.fixture
def tensors(arrays):
    """The same by the names of transformers."""
    return {NAMES[name]: array for name, array in arrays.items()}


def load_params(folder):
    return loading.load_params(folder, read_config(folder))


def logits_of(params):
    return gpt2.gpt2(IDS, **params, n_head=HPARAMS["n_head"])


def prefixed(tensors):
    return {f"transformer.{name}": array for name, array in tensors.items()}


# ---- what is read ------------------------------------------------------------------------------------------


def test_names_are_those_of_a_table_written_by_hand():
    assert {name: loading.huggingface_name(name) for name in weights.shapes(HPARAMS)} == NAMES


@pytest.mark.parametrize("prefix", [dict, prefixed])
def test_a_model_is_the_same_dict_as_in_openais_layout(tmp_path, arrays, tensors, prefix):
    encoder, hparams, params = huggingface.load(write_huggingface(tmp_path, prefix(tensors), HPARAMS))
    assert hparams == HPARAMS and len(encoder.encoder) == HPARAMS["n_vocab"]
    ours = write_model(tmp_path / "openai", in_openai_layout(arrays), HPARAMS)
    _, _, wanted = utils.load_encoder_hparams_and_params(str(ours), "models")
    read, wanted = weights.flatten(params), weights.flatten(wanted)
    assert read.keys() == wanted.keys()
    assert all(np.array_equal(read[name], wanted[name]) for name in wanted)


def test_every_function_of_the_loader_knows_such_a_folder(tmp_path, tensors):
    folder = write_huggingface(tmp_path, tensors, HPARAMS)
    encoder, hparams, params = utils.load_encoder_hparams_and_params(folder, "models")
    assert utils.open_model(str(folder), "models")[1] == hparams == HPARAMS
    new_ids = gpt2.generate(IDS, params, hparams["n_head"], 5)
    done = command(encoder.decode(IDS[:3]), "3", "--model_size", str(folder))
    assert len(new_ids) == 5 and done.returncode == 0 and done.stderr == b""


@pytest.mark.parametrize("prefix", [dict, prefixed])
def test_masks_are_passed_over(tmp_path, arrays, tensors, prefix):
    mask = np.tril(np.ones((1, 1, 32, 32), dtype=np.float32))
    for layer in range(2):
        tensors |= {f"h.{layer}.attn.bias": mask > 0 if layer else mask}
        tensors |= {f"h.{layer}.attn.masked_bias": np.float32(-1e4).reshape(())}
    params = load_params(write_huggingface(tmp_path, prefix(tensors), HPARAMS))
    assert weights.flatten(params).keys() == arrays.keys()


VALUE_HEAD = {"v_head.summary.weight": (1, 24), "v_head.summary.bias": (1,)}
OTHER_HEADS = [
    VALUE_HEAD,
    {"v_head.0.weight": (48, 24), "v_head.2.bias": (1,)},
    {"score.weight": (2, 24)},
    {"classifier.weight": (5, 24), "classifier.bias": (5,)},
    {"qa_outputs.weight": (2, 24), "qa_outputs.bias": (2,)},
    {"multiple_choice_head.summary.weight": (1, 24), "multiple_choice_head.summary.bias": (1,)},
]


@pytest.mark.parametrize("head", OTHER_HEADS)
@pytest.mark.parametrize("prefix", [dict, prefixed])
def test_a_head_beside_the_language_model_is_left_out_as_one_line_says(
    tmp_path, capsys, arrays, tensors, prefix, head
):
    beside = {name: np.ones(shape, dtype=np.float32) for name, shape in head.items()}
    folder = write_huggingface(tmp_path, prefix(tensors) | beside, HPARAMS)
    read = weights.flatten(load_params(folder))
    assert read.keys() == arrays.keys() and all(np.array_equal(read[name], arrays[name]) for name in arrays)
    left_out = f"a head beside the language model is left out: {', '.join(sorted(head))}"
    assert capsys.readouterr().err == f"{folder}: {left_out}\n"


def test_a_model_with_a_value_head_writes_and_says_so_once(tmp_path, tiny):
    from safetensors.numpy import load_file, save_file

    export.save(tmp_path / "out", *tiny)
    path = tmp_path / "out" / "model.safetensors"
    head = {name: np.ones((1, 192), dtype=np.float32) for name in VALUE_HEAD}
    save_file(load_file(path) | head, path)
    done = command("The little fox", "5", str(tmp_path / "out"))
    assert done.stdout.decode() == gpt2.main("The little fox", 5, "tiny") + "\n"
    assert done.stderr.count(b"\n") == 1 and b"v_head.summary.bias, v_head.summary.weight" in done.stderr


@pytest.mark.parametrize("kind", sorted(loading.LANGUAGE_MODELS))
def test_a_language_model_may_be_of_a_class_with_another_head(tmp_path, arrays, tensors, kind):
    folder = write_huggingface(tmp_path, prefixed(tensors), HPARAMS, architectures=[kind])
    assert weights.flatten(load_params(folder)).keys() == arrays.keys()


def test_code_that_comes_with_an_ordinary_model_is_not_needed(tmp_path, arrays, tensors):
    code = {"AutoConfig": "configuration.MyConfig", "AutoModelForCausalLM": "modeling.MyModel"}
    config = {"auto_map": code, "attention_head_type": "multihead", "architectures": ["GPT2LMHeadModel"]}
    _, hparams, params = huggingface.load(write_huggingface(tmp_path, tensors, HPARAMS, **config))
    assert hparams == HPARAMS and weights.flatten(params).keys() == arrays.keys()


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"attention_head_type": "multiquery"},
            "attention_head_type is 'multiquery'; supported: None or 'mu",
        ),
        (
            {"architectures": ["GPT2LMHeadCustomModel"]},
            "it is a GPT2LMHeadCustomModel, not a GPT2LMHeadModel",
        ),
    ],
)
def test_a_santacoder_is_refused_by_what_tells_it_apart(tmp_path, tensors, config, message):
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_gpt2_mq.GPT2LMHeadCustomModel"}}
    assert_refused(write_huggingface(tmp_path, tensors, HPARAMS, **config), message)


@pytest.mark.parametrize("kind", ["BertTokenizer", "T5Tokenizer", "GPT2Tokenizer", "", 5, ["x"], None])
def test_the_weights_are_read_whatever_the_tokenizer_is(tmp_path, arrays, tensors, kind):
    folder = write_huggingface(
        tmp_path, tensors, HPARAMS, tokenizer_class=kind, tokenizer="x", tokenizer_type=3
    )
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "vocab.json").write_text("no vocabulary")
    assert weights.flatten(load_params(folder)).keys() == arrays.keys()


def test_an_unknown_tokenizer_is_refused_by_the_tokenizer_alone(tmp_path, tensors):
    folder = write_huggingface(tmp_path, tensors, HPARAMS, tokenizer_class="BertTokenizer")
    config = read_config(folder)
    with pytest.raises(ModelError) as of_tokenizer:
        loading.load_encoder(folder, config)
    with pytest.raises(ModelError, match="tokenizer") as of_model:
        huggingface.open_model(folder)
    assert str(of_model.value) == str(of_tokenizer.value)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')  # it decides
    assert huggingface.open_model(folder)[1] == HPARAMS


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_float16_is_widened(tmp_path, tensors, dtype):
    tensors = {name: array.astype(dtype) for name, array in tensors.items()}
    params = load_params(write_huggingface(tmp_path, tensors, HPARAMS))
    wanted = weights.flatten(params)
    assert {array.dtype for array in wanted.values()} == {np.dtype(np.float32)}
    assert np.array_equal(wanted["h1/mlp/c_fc/w"], tensors["h.1.mlp.c_fc.weight"])


def test_a_head_that_equals_the_embedding_is_tied(tmp_path, tensors):
    tensors = prefixed(tensors) | {"lm_head.weight": tensors["wte.weight"].copy()}
    params = load_params(write_huggingface(tmp_path, tensors, HPARAMS))
    assert type(params["wte"]) is np.ndarray


@pytest.mark.parametrize("tied", [True, False])
def test_another_head_is_honoured_whatever_the_config_says(tmp_path, tensors, tied):
    head = np.random.default_rng(5).normal(size=(4000, 24)).astype(np.float32)
    plain = logits_of(load_params(write_huggingface(tmp_path / "plain", tensors, HPARAMS)))
    tensors = tensors | {"lm_head.weight": head}
    folder = write_huggingface(tmp_path / "untied", tensors, HPARAMS, tie_word_embeddings=tied)
    params = load_params(folder)
    hidden = gpt2.transformer(IDS, **params, n_head=3)
    assert_same_logits(logits_of(params), hidden @ head.T)
    assert np.abs(logits_of(params) - plain).max() > 0.1
    assert len(gpt2.generate(IDS, params, 3, 4)) == 4


def test_variants_are_leaves_of_the_weights_and_only_where_they_differ(tmp_path, tensors):
    config = {"layer_norm_epsilon": 1e-6, "activation_function": "gelu", "reorder_and_upcast_attn": True}
    params = load_params(write_huggingface(tmp_path / "a", tensors, HPARAMS, **config))
    added = weights.flatten(params).keys() - NAMES.keys()
    norms = {"ln_f/eps"} | {f"h{layer}/ln_{n}/eps" for layer in (0, 1) for n in (1, 2)}
    assert added == norms | {"h0/mlp/act", "h1/mlp/act"}
    assert params["ln_f"]["eps"] == 1e-6 and params["blocks"][1]["mlp"]["act"] is exact_gelu
    usual = {
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_pytorch_tanh",
        "n_inner": 96,
        "n_ctx": 9,
    }
    params = load_params(write_huggingface(tmp_path / "b", tensors, HPARAMS, **usual))
    assert weights.flatten(params).keys() == NAMES.keys()


@pytest.mark.parametrize("scaled, by_layer", [(True, True), (False, True), (False, False)])
def test_the_scale_of_attention_is_in_what_makes_the_queries(tmp_path, arrays, tensors, scaled, by_layer):
    config = {"scale_attn_weights": scaled, "scale_attn_by_inverse_layer_idx": by_layer}
    params = load_params(write_huggingface(tmp_path, tensors, HPARAMS, **config))
    for layer in range(2):
        scale = (1 if scaled else 8**0.5) / (layer + 1 if by_layer else 1)
        for leaf in "wb":
            read = params["blocks"][layer]["attn"]["c_attn"][leaf]
            array = arrays[f"h{layer}/attn/c_attn/{leaf}"]
            assert np.allclose(read[..., :24], array[..., :24] * scale, rtol=1e-6)
            assert np.array_equal(read[..., 24:], array[..., 24:])


def test_another_width_of_ffn_is_among_the_sizes(tmp_path, arrays):
    hparams = HPARAMS | {"n_inner": 40}
    arrays = weights.flatten(lively_params(hparams, seed=4))
    tensors = {NAMES[name]: array for name, array in arrays.items()}
    _, read, params = huggingface.load(write_huggingface(tmp_path, tensors, HPARAMS, n_inner=40))
    assert read == hparams and params["blocks"][0]["mlp"]["c_fc"]["w"].shape == (24, 40)
    assert_same_logits(logits_of(params), logits_of(weights.nest(arrays)))


@pytest.mark.parametrize(
    "config, generation, wanted",
    [
        ({"eos_token_id": 7}, None, {7}),
        ({}, None, {3999}),
        ({"eos_token_id": None}, None, set()),
        ({"eos_token_id": [7, 8]}, None, {7, 8}),
        ({"eos_token_id": 7}, {}, set()),
        ({"eos_token_id": 7}, {"eos_token_id": [3999, 5]}, {5, 3999}),
    ],
)
def test_a_text_ends_where_it_ends_for_transformers(tmp_path, tensors, config, generation, wanted):
    folder = write_huggingface(tmp_path, tensors, HPARAMS, **config)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert huggingface.open_model(folder)[0].stop_ids == wanted


def test_the_command_stops_at_each_of_several_ends(tmp_path, tiny):
    encoder, hparams, params = tiny
    export.save(tmp_path / "out", encoder, hparams, params)
    new_ids = gpt2.generate(encoder.encode("The little fox"), params, hparams["n_head"], 12)
    config = json.loads((tmp_path / "out" / "config.json").read_text()) | {"eos_token_id": [3999, new_ids[6]]}
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    text = gpt2.main("The little fox", 12, str(tmp_path / "out"))
    assert text == encoder.decode(new_ids[: new_ids.index(new_ids[6])]) != ""


def test_a_folder_is_read_without_the_libraries_that_wrote_it(tmp_path, tensors):
    folder = write_huggingface(tmp_path, tensors, HPARAMS)
    names = ["torch", "tensorflow", "transformers", "tokenizers", "huggingface_hub", "safetensors"]
    code = (
        f"import sys, gpt2 as g; g.main('a', 1, {str(folder)!r}); print([*filter(sys.modules.get, {names})])"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stdout) == (0, b"['safetensors']\n"), done.stderr


def test_an_adapter_beside_the_weights_is_not_left_out_silently(tmp_path, tensors):
    folder = write_huggingface(tmp_path, tensors, HPARAMS)
    (folder / "adapter_config.json").write_text("{}")
    assert_refused(folder, "has an adapter, adapter_config.json, beside a model; if it is merged already")


def test_weights_without_a_config_are_known_for_what_they_are(tmp_path, tensors):
    folder = write_huggingface(tmp_path, tensors, HPARAMS)
    (folder / "config.json").unlink()
    with pytest.raises(
        ModelError, match="it has no config.json, so it is not a model of Hugging Face transformers"
    ):
        utils.load_encoder_hparams_and_params(folder, "models")


# ---- what is refused ---------------------------------------------------------------------------------------


def assert_refused(folder, message):
    with pytest.raises(ModelError, match=message) as caught:
        huggingface.load(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES.values())
@pytest.mark.parametrize("prefix", [dict, prefixed])
def test_each_tensor_must_be_there(tmp_path, tensors, prefix, name):
    del tensors[name]
    folder = write_huggingface(tmp_path, prefix(tensors), HPARAMS)
    assert_refused(
        folder, rf": according to config.json, (transformer\.)?{re.escape(name)} is missing \(1 in all\)"
    )


@pytest.mark.parametrize(
    "name, shape",
    [
        ("h.2.ln_1.weight", (24,)),
        ("h.0.attn.c_attn.bias2", (72,)),
        ("h.0.attn.bias", (32, 32)),
        ("h.0.crossattention.bias", (1, 1, 32, 32)),
        ("score.weight2", (2, 24)),
        ("h.0.score.weight", (2, 24)),
        ("head.weight", (2, 24)),
        ("lm_head.bias", (4000,)),
        ("wte", (4000, 24)),
    ],
)
def test_no_other_tensor_may_be_there(tmp_path, tensors, name, shape):
    tensors[name] = np.zeros(shape, dtype=np.float32)
    folder = write_huggingface(tmp_path, tensors, HPARAMS)
    assert_refused(
        folder, rf": according to config.json, {re.escape(name)} is unknown \(1 in all\); one of the two"
    )


def test_names_with_and_without_the_prefix_do_not_mix(tmp_path, tensors):
    tensors["transformer.ln_f.bias"] = tensors.pop("ln_f.bias")
    assert_refused(write_huggingface(tmp_path, tensors, HPARAMS), r"is unknown \(27 in all\)")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda t: t | {"wpe.weight": t["wpe.weight"].T},
            r"wpe.weight has shape \[24, 32\], but \[32, 24\] according to config.json",
        ),
        (
            lambda t: t | {"h.1.attn.c_attn.weight": t["h.1.attn.c_attn.weight"].T},
            r"h.1.attn.c_attn.weight has shape \[72, 24\], but \[24, 72\] according to config.json",
        ),
        (
            lambda t: t | {"ln_f.bias": np.zeros((1,), np.float32)},
            r"ln_f.bias has shape \[1\], but \[24\] according to config.json",
        ),
        (lambda t: t | {"ln_f.bias": np.zeros(24)}, "ln_f.bias is float64, not float32 or float16"),
        (lambda t: t | {"ln_f.bias": np.full(24, np.nan, np.float32)}, "ln_f.bias holds NaN or infinity"),
        (
            lambda t: t | {"lm_head.weight": np.zeros((3, 24), np.float32)},
            r"lm_head.weight has shape \[3, 24\], but \[4000, 24\] according to config.json",
        ),
        (
            lambda t: t | {"lm_head.weight": np.full((4000, 24), np.inf, np.float32)},
            "lm_head.weight holds NaN",
        ),
    ],
)
def test_every_tensor_must_be_right(tmp_path, tensors, spoil, message):
    assert_refused(write_huggingface(tmp_path, spoil(tensors), HPARAMS), message)


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"architectures": ["GPT2ForSequenceClassification"]},
            "is a GPT2ForSequenceClassification.*extras.huggingface.task_heads.load",
        ),
        ({"architectures": ["MyGPT2"]}, "is a MyGPT2, not a GPT2LMHeadModel"),
        (
            {"tie_word_embeddings": False},
            "it has no lm_head.weight, but config.json says that the head is not tied to wte",
        ),
        ({"n_layer": 3}, r"h.2.attn.c_attn.bias is missing \(12 in all\)"),
        ({"n_layer": 1}, r"h.1.attn.c_attn.bias is unknown \(12 in all\)"),
        (
            {"n_inner": 48},
            r"h.0.mlp.c_fc.(bias|weight) has shape .*48\] according to config.json",
        ),
        ({"n_positions": 64}, r"wpe.weight has shape \[32, 24\], but \[64, 24\] according to config.json"),
        (
            {"vocab_size": 5000},
            r"wte.weight has shape \[4000, 24\], but \[5000, 24\] according to config.json",
        ),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(tmp_path, tensors, config, message):
    assert_refused(write_huggingface(tmp_path, tensors, HPARAMS, **config), message)


def test_a_folder_in_both_layouts_is_refused(tmp_path, tensors):
    folder = write_huggingface(tmp_path, tensors, HPARAMS)
    (folder / "hparams.json").write_text(json.dumps(HPARAMS))
    both = (
        "it has hparams.json, from OpenAI's layout, and config.json, from .*give each model a folder of its"
    )
    with pytest.raises(ModelError, match=both):
        utils.load_encoder_hparams_and_params(folder, "models")


def test_a_missing_library_says_what_to_install(tmp_path, tensors):
    (tmp_path / "safetensors.py").write_text("raise ImportError('No module named safetensors')")
    folder = write_huggingface(tmp_path / "model", tensors, HPARAMS)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = command("hi", "3", "--model_size", str(folder), env=environment)
    wanted = b"gpt2.py: No module named safetensors: pip install -r requirements-extras.txt\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", wanted)
