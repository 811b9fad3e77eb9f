"""Other projects' tensors become those of transformers, with the same numbers: `pytest -m parity`."""

import copy
import json

import numpy as np
import pytest
from foreign_models import (
    IDS,
    N_CTX,
    N_EMBD,
    N_HEAD,
    N_VOCAB,
    TINY,
    assert_same_model,
    build_nanogpt,
    instance,
    lightning,
    lively_model,
    llms_from_scratch,
    logits_of,
    lora,
    mingpt,
    nanogpt,
    run,
    save,
    save_transformers,
    tensor,
)
from helpers import assert_same_logits
from safetensors.numpy import load_file

import gpt2
from extras import huggingface
from extras.huggingface import convert, other_projects
from files import ModelError

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("transformers")]


# ---- what training puts before names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["model.", "gpt.", "net.model.", "module.pretrained_model.", "_orig_mod.", "transformer.", "h."]
)
@pytest.mark.parametrize("has_transformer", [True, False])
def test_a_prefix_is_taken_off(tmp_path, tiny, prefix, has_transformer):
    model = lively_model()
    state = {name: t for name, t in model.state_dict().items() if has_transformer or name != "lm_head.weight"}
    state = {name if has_transformer else name.removeprefix("transformer."): t for name, t in state.items()}
    content = lightning(model, prefix) | {"state_dict": {prefix + name: t for name, t in state.items()}}
    save_transformers(tmp_path, model, tiny[0]).unlink()
    convert.convert(save(content, tmp_path / "last.ckpt"), tmp_path / "out")
    assert_same_model(tmp_path / "out", model)


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_what_pytorch_puts_into_names_is_taken_out(tmp_path, tiny, wrapper):
    model = lively_model()
    state = {name.replace(".h.0.", f".h.0.{wrapper}"): t for name, t in model.state_dict().items()}
    assert state.keys() != model.state_dict().keys()
    convert.convert(save_transformers(tmp_path, model, tiny[0], state), tmp_path / "out")
    assert_same_model(tmp_path / "out", model)


def test_two_models_in_one_file_are_refused(tmp_path):
    state = lively_model().state_dict()
    state = {f"{prefix}.{name}": t.clone() for name, t in state.items() for prefix in ("model", "teacher")}
    with pytest.raises(ModelError, match="it holds more than one model: under 'model.' and 'teacher.'"):
        convert.convert(save(state, tmp_path / "f.pt"), tmp_path / "out")


def test_names_that_would_become_the_same_are_refused(tmp_path):
    state = lively_model().state_dict()
    state |= {f"_orig_mod.{name}": t + 1 for name, t in state.items()}
    with pytest.raises(ModelError, match="two of its names differ only in what training put before them"):
        convert.convert(save(state, tmp_path / "f.pt"), tmp_path / "out")


def test_a_tensor_that_nobody_knows_is_refused_under_a_prefix_too(tmp_path, tiny):
    model = lively_model()
    state = {f"model.{name}": t for name, t in model.state_dict().items()}
    for name in ("model.transformer.h.0.adapter.weight", "model.transformer.score.weight", "loss.weight"):
        file = save_transformers(tmp_path / "in", model, tiny[0], state | {name: tensor(4)})
        unknown = name.removeprefix("model.").replace(".", "[.]")
        with pytest.raises(ModelError, match=f"according to config.json, {unknown} is unknown"):
            convert.convert(file, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# ---- heads beside the language model -----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("head", ["v_head.summary", "score", "classifier", "qa_outputs"])
def test_another_head_is_left_out_and_said(tmp_path, capsys, tiny, head, prefix):
    model, heads = lively_model(), {f"{prefix}{head}.{leaf}": tensor(1) for leaf in ("weight", "bias")}
    inner = f"{prefix}pretrained_model." if prefix else ""
    state = {inner + name: t for name, t in model.state_dict().items()} | heads
    file = save_transformers(tmp_path, model, tiny[0], state)
    status, out, err = run(capsys, file, tmp_path / "out")
    assert (status, out) == (0, f"a model of transformers: {file} -> {tmp_path / 'out'}\n")
    heads = f"{head}.bias, {head}.weight"
    assert err == f"{file}: a head beside the language model is left out: {heads}\n"
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if head in name]
    assert_same_model(tmp_path / "out", model)


def test_a_value_head_beside_a_nanogpt_is_left_out_too(tmp_path, capsys):
    model = lively_model(activation_function="gelu")
    content = nanogpt(model)
    content["model"]["v_head.summary.weight"] = tensor(1, N_EMBD)
    status, _, err = run(capsys, save(content, tmp_path / "ckpt.pt"), tmp_path / "out", *TINY)
    assert status == 0 and err.endswith("the language model is left out: v_head.summary.weight\n")
    assert_same_model(tmp_path / "out", model)


# ---- nanoGPT's names, by others ----------------------------------------------------------------------------


def config_of(monkeypatch, model, name="train_gpt2.GPTConfig"):
    sizes = {name: getattr(model.config, name) for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    return instance(monkeypatch, name, block_size=N_CTX, **sizes)


@pytest.mark.parametrize("vocab_size", [N_VOCAB, 4032])
@pytest.mark.parametrize("way", ["as it is", "as model_args"])
def test_a_checkpoint_of_build_nanogpt_has_its_heads_and_its_gelu(tmp_path, monkeypatch, vocab_size, way):
    model = lively_model(vocab_size=vocab_size, activation_function="gelu_new")
    content = {"model": build_nanogpt(model), "config": config_of(monkeypatch, model), "step": 9}
    if way == "as model_args":
        content = {"model": content["model"], "model_args": vars(content["config"])}
    file = save(content, tmp_path / "model_19072.pt")
    monkeypatch.undo()  # the class is unknown from here on
    said = convert.convert(file, tmp_path / "out", "tiny")
    assert said == f"a build-nanogpt, {N_HEAD} heads, gelu_new: {file}"
    assert_same_model(tmp_path / "out", model)


def test_sizes_in_a_gptconfig_that_contradict_the_tensors_are_refused(tmp_path, monkeypatch):
    model = lively_model()
    config = config_of(monkeypatch, model)
    config.n_layer = 3
    file = save({"model": build_nanogpt(model), "config": config}, tmp_path / "f.pt")
    with pytest.raises(ModelError, match="it records n_layer as 3, but its tensors have 2"):
        convert.convert(file, tmp_path / "out", "tiny")


@pytest.mark.parametrize("gelu", ["gelu", "gelu_new"])
def test_tensors_alone_do_not_say_which_gelu_it_was(tmp_path, gelu):
    model = lively_model(activation_function=gelu)
    state = {f"model.{name}": t for name, t in build_nanogpt(model).items()}
    file = save({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="does not say which gelu it was trained with: give --activation"):
        convert.convert(file, tmp_path / "out", "tiny", n_head=N_HEAD)
    convert.convert(file, tmp_path / "out", "tiny", n_head=N_HEAD, activation=gelu)
    assert_same_model(tmp_path / "out", model)


def test_a_classifier_in_place_of_the_head_is_refused(tmp_path):
    state = mingpt(lively_model()) | {"lm_head.weight": tensor(2, N_EMBD)}
    with pytest.raises(ModelError, match="its head has 2 rows, its vocabulary 4,000: it is a classifier"):
        convert.convert(save(state, tmp_path / "f.pt"), tmp_path / "out", "tiny", n_head=N_HEAD)


# ---- LLMs-from-scratch -------------------------------------------------------------------------------------


def greedy_ids(model, ids, n):  # -> list of n ids
    import torch

    with torch.no_grad():
        for _ in range(n):
            ids = [*ids, int(model(torch.tensor([ids]))[0, -1].argmax())]
    return ids[-n:]


@pytest.mark.parametrize("is_fast", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("is_alone", [False, True])
def test_a_model_of_llms_from_scratch_keeps_its_numbers(tmp_path, qkv_bias, is_fast, is_alone):
    model = llms_from_scratch(qkv_bias, is_fast=is_fast)
    state = model.state_dict()
    state = state if is_alone else {"model_state_dict": state, "optimizer_state_dict": {"state": {}}}
    file = save(state, tmp_path / "model.pth")
    said = convert.convert(file, tmp_path / "out", "tiny", n_head=N_HEAD)
    assert said == f"a model of LLMs-from-scratch, {N_HEAD} heads, gelu_new: {file}"
    assert_same_model(tmp_path / "out", model)
    ids, (_, _, params) = IDS[:8].tolist(), huggingface.load(tmp_path / "out")
    assert gpt2.generate(ids, params, N_HEAD, 12) == greedy_ids(model, ids, 12)


def test_a_head_that_is_tied_in_llms_from_scratch_stays_tied(tmp_path):
    model = llms_from_scratch()
    model.out_head.weight = model.tok_emb.weight
    file = save(model.state_dict(), tmp_path / "model.pth")
    convert.convert(file, tmp_path / "out", "tiny", n_head=N_HEAD)
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert_same_model(tmp_path / "out", model)


@pytest.mark.parametrize("n_embd, usual", [(768, 12), (1024, 16), (1280, 20), (1600, 25), (48, None)])
def test_a_missing_number_of_heads_is_asked_for_with_the_usual_one(n_embd, usual):
    with pytest.raises(ValueError) as error:
        other_projects.choose_n_head({}, None, n_embd, "f.pth")
    hint = f" ({usual} is usual for n_embd {n_embd})" if usual else ""
    assert str(error.value) == f"f.pth does not say how many heads a layer has: give --n_head{hint}"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"trf_blocks.0.att.W_key.weight": None}, "W_value.weight are not three of the same shape"),
        ({"trf_blocks.1.att.W_key.weight": (12, N_EMBD)}, "W_value.weight are not three of the same shape"),
        ({"trf_blocks.1.att.W_key.bias": None}, "W_value.bias are not three of the same shape"),
        ({"trf_blocks.0.att.W_query.lora.A": (N_EMBD, 4)}, "att.W_query.lora.A"),
        ({"trf_blocks.0.ff.layers.0.bias": None}, "h.0.mlp.c_fc.bias is missing"),
        ({"trf_blocks.0.norm1.shift": None, "trf_blocks.1.norm1.shift": None}, "h.0.ln_1.bias is missing"),
        ({"out_head.weight": (2, N_EMBD), "out_head.bias": (2,)}, "it is a classifier"),
        ({"out_head.bias": (N_VOCAB,)}, "lm_head.bias is unknown"),
    ],
)
def test_what_differs_from_a_gpt2_in_llms_from_scratch_is_refused(tmp_path, change, message):
    state = dict(llms_from_scratch().state_dict())
    for name, shape in change.items():
        state[name] = tensor(*shape) if shape else None
    with pytest.raises(ModelError, match=message):
        convert.convert(save(state, tmp_path / "f.pth"), tmp_path / "out", "tiny", n_head=N_HEAD)
    assert not (tmp_path / "out").exists()


# ---- Microsoft's LoRA --------------------------------------------------------------------------------------


def delta(a, b, rank, scale):  # [2 rank, n_embd], [2 n_embd, rank] -> [n_embd, 3 n_embd], float64
    """What Microsoft's LoRA adds to a c_attn of transformers."""
    import torch

    a, b = a.double(), b.double()
    queries, values = b[:N_EMBD] @ a[:rank], b[N_EMBD:] @ a[rank:]
    theirs = torch.nn.functional.conv1d(a[None], b[..., None], groups=2)[0]  # as loralib writes it
    torch.testing.assert_close(torch.cat([queries, values]), theirs)
    return torch.cat([queries, torch.zeros_like(queries), values]).T * scale


@pytest.fixture(params=[(4, 32, ""), (3, 5, "module.")])
def adapter(request, tmp_path):
    """What is to be added to each of two layers, and the folder that a checkpoint of Microsoft's became."""
    rank, alpha, prefix = request.param
    content, folder = lora((rank, rank), prefix), tmp_path / "out"
    file = save(content, tmp_path / "model.pt")
    assert f"rank {rank}:" in convert.convert(file, folder, lora_alpha=alpha)
    a0, b0, a1, b1 = content["model_state_dict"].values()
    return [delta(a0, b0, rank, alpha / rank), delta(a1, b1, rank, alpha / rank)], folder


def test_an_adapter_of_microsofts_is_two_matrices_with_the_same_product(adapter):
    wanted, folder = adapter
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert len(tensors) == 4
    for layer in range(2):
        name = f"base_model.model.transformer.h.{layer}.attn.c_attn.lora_"
        a, b = (tensors[f"{name}{letter}.weight"].astype(float) for letter in "AB")
        found = (b @ a).T * config["lora_alpha"] / config["r"]
        np.testing.assert_allclose(found, wanted[layer], rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # of transformers, to peft
@pytest.mark.filterwarnings("error::UserWarning")  # peft warns of what it mends
def test_peft_adds_what_microsofts_lora_adds(adapter):
    peft = pytest.importorskip("peft", reason="peft, the judge of adapters, is not installed")
    import torch

    model = lively_model()
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(model), adapter[1])
    for block, added in zip(model.transformer.h, adapter[0]):
        block.attn.c_attn.weight.data += added
    assert_same_logits(logits_of(adapted), logits_of(model))
    for name, merged in adapted.merge_and_unload().state_dict().items():
        torch.testing.assert_close(merged, model.state_dict()[name], rtol=1e-5, atol=1e-6)
