"""What others saved becomes safetensors with the same numbers: `pytest -m parity`."""

import json
import os
import re

import helpers
import numpy as np
import pytest
from adapter_files import write_adapter
from foreign_models import (
    ALPHA,
    LORA,
    MASKS,
    N_CTX,
    N_EMBD,
    N_HEAD,
    N_VOCAB,
    NEW,
    OLD,
    TINY,
    assert_same_model,
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
from helpers import command, run_python
from safetensors.numpy import load_file

import gpt2
from extras.huggingface import adapters, convert
from files import ModelError
from program import END_OF_HELP

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("transformers")]


# ---- transformers, nanoGPT, minGPT -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("n_shards", [1, 3])
def test_a_pickle_of_transformers_keeps_its_numbers(tmp_path, tiny, dtype, n_shards):
    import torch

    model = lively_model(n_layer=3, activation_function="gelu", layer_norm_epsilon=1e-3)
    state = model.to(getattr(torch, dtype)).state_dict()
    file = save_transformers(tmp_path, model, tiny[0])
    if n_shards > 1:
        file.unlink()
        weight_map = {name: f"pytorch_model-{i % n_shards}.bin" for i, name in enumerate(state)}
        for shard in set(weight_map.values()):
            save({name: state[name] for name in state if weight_map[name] == shard}, tmp_path / shard)
        file = tmp_path / "pytorch_model.bin.index.json"
        file.write_text(json.dumps({"metadata": {"total_size": 9}, "weight_map": weight_map}))
    convert.convert(file, tmp_path / "out")
    assert_same_model(tmp_path / "out", model.float())


def test_the_first_pickles_of_transformers_have_masks_no_prefix_and_no_head(tmp_path, tiny):
    model = lively_model()
    state = model.state_dict() | {name: tensor(1, 1, N_CTX, N_CTX).tril().byte() for name in MASKS}
    del state["lm_head.weight"]
    state = {name.removeprefix("transformer."): t for name, t in state.items()}
    convert.convert(save_transformers(tmp_path, model, tiny[0], state), tmp_path / "out")
    assert_same_model(tmp_path / "out", model)


def test_tensors_stored_by_columns_keep_their_numbers(tmp_path, tiny):
    model = lively_model()
    state = {n: t.T.contiguous().T if t.ndim == 2 else t for n, t in model.state_dict().items()}
    convert.convert(save_transformers(tmp_path, model, tiny[0], state), tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.array_equal(saved[name], state[name]) for name in state)


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vocab_size", [N_VOCAB, 4032, 4096])
def test_a_checkpoint_of_nanogpt_keeps_its_numbers(tmp_path, prefix, bias, vocab_size):
    model = lively_model(bias, vocab_size=vocab_size, activation_function="gelu")
    convert.convert(save(nanogpt(model, prefix, bias), tmp_path / "ckpt.pt"), tmp_path / "out", "tiny")
    assert_same_model(tmp_path / "out", model)


@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_of_mingpt_keeps_its_numbers(tmp_path, tied):
    model = lively_model(tie_word_embeddings=tied)
    convert.convert(save(mingpt(model), tmp_path / "model.pt"), tmp_path / "out", "tiny", n_head=N_HEAD)
    assert_same_model(tmp_path / "out", model)


@pytest.mark.parametrize(
    "form, date, activation, wanted",
    [
        (nanogpt, OLD, None, "gelu_new"),
        (nanogpt, NEW, None, "gelu"),
        (nanogpt, OLD, "gelu", "gelu"),
        (nanogpt, NEW, "gelu_new", "gelu_new"),
        (mingpt, NEW, None, "gelu_new"),
        (mingpt, NEW, "gelu", "gelu"),
    ],
)
def test_the_gelu_is_that_of_the_date_unless_it_is_given(tmp_path, form, date, activation, wanted):
    model = lively_model(activation_function=wanted)
    file = save(form(model), tmp_path / "ckpt.pt", date)
    said = convert.convert(file, tmp_path / "out", "tiny", activation=activation, n_head=N_HEAD)
    by_date = " by its date (--activation overrides that)" if form is nanogpt and activation is None else ""
    assert f", {N_HEAD} heads, {wanted}{by_date}: " in said
    assert_same_model(tmp_path / "out", model)


def test_the_two_gelus_differ_by_far_more_than_two_libraries():
    exact, by_tanh = (logits_of(lively_model(activation_function=name)) for name in ("gelu", "gelu_new"))
    assert np.abs(exact - by_tanh).max() > 20 * 1e-5 * np.abs(exact).max()


# ---- refusals ----------------------------------------------------------------------------------------------


HEADS, WPE = [*TINY, "--n_head", "4"], "transformer.wpe.weight"
C_ATTN, MLP = "transformer.h.0.attn.c_attn.", "transformer.h.0.mlp.c_fc.lora_"


@pytest.mark.parametrize(
    "content, words, status, message",
    [
        (lambda: b"", [], 1, "cannot read it"),
        (lambda: b"PK\3\4" + b"junk" * 99, [], 1, "cannot read it"),
        (lambda: b"<html>" * 99, [], 1, "not a PyTorch pickle, or one that holds more"),
        (lambda: [tensor(3)], [], 1, "holds a list"),
        (lambda: {"conv1.weight": tensor(64, 3, 7, 7)}, [], 1, "holds no GPT-2"),
        (lambda: {C_ATTN + "weight": tensor(3)}, [], 1, "f.pt"),
        (lambda: lively_model().state_dict(), [], 2, "config.json"),
        (lambda: mingpt(lively_model()), TINY, 2, "--n_head"),
        (lambda: mingpt(lively_model()), [*TINY, "--n_head", "5"], 2, "not a multiple of n_head 5"),
        (lambda: mingpt(lively_model()), [*TINY, "--n_head", "four"], 2, "n_head is 'four'"),
        (lambda: nanogpt(lively_model(vocab_size=301)), TINY, 2, "--tokenizer"),
        (lambda: nanogpt(lively_model(vocab_size=50304)), TINY, 2, "--tokenizer"),
        (lambda: nanogpt(lively_model()), ["--tokenizer", "124m"], 2, "expected tiny, 124M"),
        (lambda: nanogpt(lively_model()), [*TINY, "--activation", "gelo"], 2, "activation"),
        (
            lambda: nanogpt(lively_model()),
            [*TINY, "--n_heads", "4"],
            2,
            "no option '--n_heads': did you mean --n_head",
        ),
        (lambda: nanogpt(lively_model()), [*TINY, "more"], 2, "'more' is one word too many"),
        (lambda: mingpt(lively_model()) | {"score": tensor(3)}, [*TINY, "--n_head", "4"], 1, "score"),
        (lambda: lora(), [], 2, "--lora_alpha"),
        (lambda: lora(), ["--lora_alpha", "0"], 2, "lora_alpha is 0: it must be 1 or more"),
        (lambda: lora(others={"lm_head.weight": (9, 48)}), ALPHA, 1, "lm_head"),
        (lambda: lora(others={MLP + "A": (6, 48), MLP + "B": (96, 3)}), ALPHA, 1, MLP),
        (lambda: lora(others={LORA + "A": (3, 48)}), ALPHA, 1, LORA),
        (lambda: lora(others={LORA + "B": (144, 3)}), ALPHA, 1, LORA),
        (lambda: lora((), others={LORA + "A": (6, 48)}), ALPHA, 1, LORA),
        (lambda: lora(others={C_ATTN + "bias": (144,)}), ALPHA, 1, C_ATTN + "bias"),
        (lambda: lora((3, 4)), ALPHA, 1, "r the same in all layers"),
        (lambda: {LORA + "A": tensor(6, 48) * np.nan, LORA + "B": tensor(96, 3)}, ALPHA, 1, "holds NaN"),
        (lambda: {LORA + "A": tensor(6, 48) * 1e9, LORA + "B": tensor(96, 3)}, ALPHA, 1, "A holds 1e+09"),
        (lambda: {LORA + "A": tensor(6, 48).int(), LORA + "B": tensor(96, 3)}, ALPHA, 1, "A is int32"),
        (lambda: nanogpt(lively_model()), [*TINY, "--n_head", "2"], 2, "has 4 heads, but --n_head says 2"),
        (lambda: nanogpt(lively_model()) | {"model_args": [4]}, TINY, 2, "does not say how many heads"),
        (
            lambda: mingpt(lively_model()) | {WPE: tensor(64)},
            HEADS,
            1,
            "f.pt: it has no matrix transformer.wpe.weight",
        ),
        (
            lambda: mingpt(lively_model()) | {WPE: None},
            HEADS,
            1,
            "f.pt: it has no matrix transformer.wpe.weight",
        ),
        (
            lambda: mingpt(lively_model()) | {"transformer.wte.weight": tensor(9)},
            HEADS,
            1,
            "f.pt: it has no matrix transformer.wte.weight",
        ),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(tmp_path, capsys, content, words, status, message):
    file = save(content(), tmp_path / "f.pt")
    found, out, err = run(capsys, file, tmp_path / "out", *words)
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert err.startswith("extras.huggingface.convert: ") and message in err
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "weight_map, message",
    [
        ([], "no weight_map, from tensors to files"),
        ({"a": "../f.bin"}, "names the file '../f.bin', expected a .bin file in its own folder"),
        ({"a": "f.bin.index.json"}, "names the file 'f.bin.index.json', expected a .bin file"),
        ({"a": "gone.bin"}, "gone.bin"),
        ({"a": "f.bin", "b": "f.bin"}, "disagree about b"),
    ],
)
def test_shards_that_do_not_fit_their_index_are_refused(tmp_path, capsys, weight_map, message):
    save({"a": tensor(2)}, tmp_path / "f.bin")
    index = tmp_path / "f.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    status, out, err = run(capsys, index, tmp_path / "out")
    assert (status, out, err.count("\n")) == (1, "", 1) and message in err
    assert set(tmp_path.iterdir()) == {index, tmp_path / "f.bin"}


def test_what_is_no_whole_model_afterwards_is_not_written(tmp_path, tiny):
    model = lively_model()
    content = lightning(model)
    del content["state_dict"]["model.transformer.ln_f.bias"]
    file = save_transformers(tmp_path / "in", model, tiny[0], content)
    with pytest.raises(ModelError, match="transformer.ln_f.bias is missing"):
        convert.convert(file, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_refusal_names_the_file_beside_the_pickle_that_is_at_fault(tmp_path, tiny):
    file = save_transformers(tmp_path, lively_model(), tiny[0])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=f"{tmp_path / 'config.json'}: Expecting property name"):
        convert.convert(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("vocab_size", [4001, 4003, 4031, 4033, 4095, 4097, 4101, 4127, 4160])
def test_a_vocabulary_is_padded_to_a_multiple_of_64_or_128_or_it_is_another(tmp_path, vocab_size):
    file = save(nanogpt(lively_model(vocab_size=vocab_size)), tmp_path / "ckpt.pt")
    found = rf"vocabulary of {vocab_size:,}, but the tokenizer has 4,000 tokens \(4,032 or 4,096 if padded\)"
    with pytest.raises(ValueError, match=f"{found}: use --tokenizer"):
        convert.convert(file, tmp_path / "out", "tiny")
    assert list(tmp_path.iterdir()) == [file]


def test_a_model_with_a_task_head_keeps_its_tensors_and_one_without_its_head_is_refused(tmp_path, tiny):
    import transformers

    config = transformers.GPT2Config(
        vocab_size=N_VOCAB, n_positions=N_CTX, n_embd=N_EMBD, n_layer=2, n_head=4
    )
    model = transformers.GPT2ForSequenceClassification(config)
    config.architectures = ["GPT2ForSequenceClassification"]
    state = model.state_dict()
    convert.convert(save_transformers(tmp_path / "in", model, tiny[0]), tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert saved.keys() == state.keys() and all(np.array_equal(saved[name], state[name]) for name in state)
    del state["score.weight"]
    file = save_transformers(tmp_path / "in", model, tiny[0], state)
    with pytest.raises(
        ModelError, match="it has no score.weight, the head of a GPT2ForSequenceClassification"
    ):
        convert.convert(file, tmp_path / "out_2")


def test_a_scale_of_attention_is_left_to_config_json(tmp_path, tiny):
    model = lively_model(scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False)
    convert.convert(save_transformers(tmp_path / "in", model, tiny[0]), tmp_path / "out")
    assert_same_model(tmp_path / "out", model)


def test_nothing_is_written_before_all_names_and_shapes_are_right(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(convert, "new_folder", None)
    model = lively_model()
    for name in ("transformer.h.1.ln_1.bias", "transformer.wte.weight"):
        file = save_transformers(tmp_path, model, tiny[0], model.state_dict() | {name: tensor(N_EMBD + 1)})
        with pytest.raises(ModelError, match=rf"{name} has shape \[49\], but .* according to config.json"):
            convert.convert(file, tmp_path / "out")


def test_parameters_that_still_have_gradients_are_read(tmp_path, tiny):
    model = lively_model()
    convert.convert(
        save_transformers(tmp_path, model, tiny[0], dict(model.named_parameters())), tmp_path / "out"
    )
    assert_same_model(tmp_path / "out", model)


@pytest.mark.parametrize("words, status", [([], 2), (["a.pt"], 2), (["{}/a.pt", "{}/out"], 1)])
def test_a_command_without_its_file_or_folder_is_refused(tmp_path, capsys, words, status):
    found, out, err = run(capsys, *[word.format(tmp_path) for word in words])
    assert (found, out, err.count("\n")) == (status, "", 1) and not any(tmp_path.iterdir())


@pytest.mark.parametrize("form, words", [(lambda: nanogpt(lively_model()), TINY), (lora, ALPHA)])
def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path, capsys, form, words):
    file, folder = save(form(), tmp_path / "f.pt"), tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_text("kept")
    status, out, err = run(capsys, file, folder, *words)
    assert (status, out, err.count("\n")) == (2, "", 1) and str(folder) in err
    assert os.listdir(folder) == ["mine"] and (folder / "mine").read_text() == "kept"
    assert set(tmp_path.iterdir()) == {file, folder}


@pytest.mark.parametrize("given", ["the folder", "the file"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "ckpt.pt"])
def test_gpt2_refuses_a_pickle_and_prints_what_converts_it(tmp_path, capsys, tiny, name, given):
    if name == "pytorch_model.bin":
        save_transformers(tmp_path, lively_model(), tiny[0])
    file = save(b"\x80\2.", tmp_path / name)
    model_size = tmp_path if given == "the folder" else file
    status = 2 if (given, name) == ("the file", "ckpt.pt") else 1  # the other means its folder
    assert helpers.run(["The", "4", "--model_size", str(model_size)]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == (
        "",
        1,
    ) and f"python -m extras.huggingface.convert {file} OUT_FOLDER" in err


# ---- adapters of peft --------------------------------------------------------------------------------------


def save_adapter(folder, before="base_model.model.", inside=""):
    """An adapter as peft saves it, but as a pickle; and its tensors."""
    import torch

    write_adapter(folder, SIZES, ("c_attn", "c_fc"))
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    state = {name.replace("base_model.model.", before, 1): torch.from_numpy(t) for name, t in tensors.items()}
    state = {re.sub(r"(lora_[AB])", rf"\1{inside}", name): t for name, t in state.items()}
    return save(state, folder / "adapter_model.bin"), tensors


SIZES = {"n_vocab": N_VOCAB, "n_ctx": N_CTX, "n_embd": N_EMBD, "n_head": N_HEAD, "n_layer": 2}


@pytest.mark.parametrize("before", ["base_model.model.", "base_model.model._orig_mod.", "module.", ""])
@pytest.mark.parametrize("inside", ["", ".default"])
@pytest.mark.parametrize("given", ["the folder", "the file"])
def test_an_adapters_pickle_becomes_an_adapter_of_the_same_numbers(tmp_path, capsys, before, inside, given):
    file, tensors = save_adapter(tmp_path / "theirs", before, inside)
    (tmp_path / "theirs" / "tokenizer.json").write_text("{}")
    (tmp_path / "theirs" / "config.json").write_text("{}")
    out = tmp_path / "out"
    status, said, err = run(capsys, file.parent if given == "the folder" else file, out)
    assert (status, said, err) == (0, f"an adapter of peft: {file} -> {out}\n", "")
    found = load_file(out / "adapter_model.safetensors")
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
    names = {path.name for path in out.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    assert (out / "adapter_config.json").read_text() == (file.parent / "adapter_config.json").read_text()
    adapters.load(out, SIZES)


def test_an_adapters_pickle_needs_its_config_and_no_option(tmp_path, capsys):
    file, _ = save_adapter(tmp_path / "theirs")
    for words in (ALPHA, TINY, HEADS):
        status, _, err = run(capsys, file, tmp_path / "out", *words)
        assert status == 2 and "has no meaning for an adapter of peft: leave it out" in err
    twice = {name: tensor(3, N_EMBD) for name in (f"{LORA}A.default.weight", f"{LORA}A.weight")}
    status, _, err = run(capsys, save(twice, file), tmp_path / "out")
    assert status == 1 and "it holds a tensor twice, by names that differ only in .default" in err
    (file.parent / "adapter_config.json").unlink()
    status, _, err = run(capsys, file, tmp_path / "out")
    assert status == 2 and f"{file} needs its adapter_config.json beside it, which has the scale" in err
    (file.parent / "adapter_config.json").write_text('{"peft_type": "LORA", "use_dora": true}')
    status, _, err = run(capsys, file, tmp_path / "out")
    assert status == 1 and "use_dora is True" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, said",
    [
        ({f"{LORA}B.weight": None}, "lora_A.weight, but not transformer.h.0.attn.c_attn.lora_B.weight"),
        ({f"{LORA}A.weight": (4, N_EMBD)}, "lora_A.weight has shape [4, 48], but rank 3 according to"),
        ({f"{LORA}B.weight": (3, 3 * N_EMBD)}, "lora_B.weight has shape [3, 144], but rank 3 according to"),
        ({f"{LORA}A.weight": (N_EMBD,)}, "lora_A.weight has shape [48], but rank 3"),
        ({f"{LORA}A.weight": (0, N_EMBD)}, "lora_A.weight is empty"),
        ({"transformer.h.0.ln_1.weight": (N_EMBD,)}, "transformer.h.0.ln_1.weight is unknown"),
    ],
)
def test_an_adapter_that_no_model_can_use_is_not_written(tmp_path, capsys, change, said):
    file, tensors = save_adapter(tmp_path / "theirs")
    state = {name: tensor(*array.shape) for name, array in tensors.items()}
    for name, shape in change.items():
        state.pop(f"base_model.model.{name}", None)
        state |= {f"base_model.model.{name}": tensor(*shape)} if shape else {}
    status, _, err = run(capsys, save(state, file), tmp_path / "out")
    assert status == 1 and said in err and err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_adapter_of_a_model_without_a_head_is_converted(tmp_path, capsys):
    file, tensors = save_adapter(tmp_path / "theirs")
    state = {name.replace("transformer.", ""): tensor(*array.shape) for name, array in tensors.items()}
    save(state | {"base_model.model.wte.weight": tensor(N_VOCAB, N_EMBD)}, file)
    assert run(capsys, file, tmp_path / "out")[0] == 0
    assert adapters.load(tmp_path / "out", SIZES).arrays.keys() == {"wte"}


def test_an_adapter_that_runs_needs_no_conversion(tmp_path, capsys):
    write_adapter(tmp_path / "mine", SIZES)
    for given in ("", "adapter_model.safetensors"):
        status, _, err = run(capsys, tmp_path / "mine" / given, tmp_path / "out")
    said = f"needs no conversion: use its folder, --lora {tmp_path / 'mine'}"
    assert status == 2 and said in err and not (tmp_path / "out").exists()


# ---- safetensors -------------------------------------------------------------------------------------------


def save_safetensors(folder, model, encoder, prefix="", n_shards=1):
    """Write a model of transformers as safetensors, with a prefix in front of its names."""
    from safetensors.torch import save_file

    save_transformers(folder, model, encoder).unlink()
    state = {prefix + name: t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    names = ["model.safetensors"] if n_shards == 1 else [f"model-{i}.safetensors" for i in range(n_shards)]
    weight_map = {name: names[i % n_shards] for i, name in enumerate(state)}
    for shard in names:
        save_file({name: state[name] for name in state if weight_map[name] == shard}, folder / shard)
    if n_shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder / ("model.safetensors" if n_shards == 1 else "model.safetensors.index.json")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "module.pretrained_model."])
@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_prefix_in_safetensors_is_taken_off_without_pytorch(tmp_path, tiny, prefix, n_shards, dtype):
    import torch

    model = lively_model().to(getattr(torch, dtype))
    file = save_safetensors(tmp_path / "in", model, tiny[0], prefix, n_shards)
    without = "import sys, program; sys.modules['torch'] = None; sys.exit(program.run("
    without += "'extras.huggingface.convert', program='convert'))"
    done = run_python("-c", without, str(file), str(tmp_path / "out"))
    said = f"a model of transformers: {file} -> {tmp_path / 'out'}\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, said, b"")
    assert_same_model(tmp_path / "out", model.float())


@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("given", ["the file", "the folder"])
def test_safetensors_that_need_no_conversion_are_named_as_such(tmp_path, capsys, tiny, n_shards, given):
    file = save_safetensors(tmp_path / "in", lively_model(), tiny[0], n_shards=n_shards)
    status, out, err = run(capsys, file if given == "the file" else file.parent, tmp_path / "out")
    assert (status, out) == (2, "")
    assert err.endswith(f"{file} needs no conversion: use its folder, --model_size {file.parent}\n")
    assert_same_model(file.parent, lively_model())


def test_safetensors_of_llms_from_scratch_keep_their_numbers(tmp_path):
    from safetensors.torch import save_file

    model = llms_from_scratch()
    save_file(model.state_dict(), tmp_path / "gpt2-small-124M.safetensors")
    convert.convert(tmp_path / "gpt2-small-124M.safetensors", tmp_path / "out", "tiny", n_head=N_HEAD)
    assert_same_model(tmp_path / "out", model)


def test_safetensors_beside_a_tokenizer_under_another_name_are_written_under_the_usual_one(tmp_path, tiny):
    file = save_safetensors(tmp_path / "in", lively_model(), tiny[0])
    file = file.rename(file.with_name("best.safetensors"))
    convert.convert(file, tmp_path / "out")
    assert_same_model(tmp_path / "out", lively_model())


def test_a_pickle_that_is_named_safetensors_is_read_as_a_pickle(tmp_path, tiny):
    file = save_transformers(tmp_path / "in", lively_model(), tiny[0])
    file = file.rename(file.with_name("model.safetensors"))
    convert.convert(file, tmp_path / "out")
    assert_same_model(tmp_path / "out", lively_model())


@pytest.mark.parametrize("content", [b"", b"<html>" * 99, b"version https://git-lfs.github.com/spec/v1"])
def test_what_is_no_safetensors_file_is_named(tmp_path, capsys, content):
    file = save(content, tmp_path / "model.safetensors")
    status, out, err = run(capsys, file, tmp_path / "out")
    assert (status, out, err.count("\n")) == (1, "", 1) and str(file) in err
    assert list(tmp_path.iterdir()) == [file]


# ---- a folder ----------------------------------------------------------------------------------------------

LEFT = (  # by training
    *("optimizer.pt", "scheduler.pt", "scaler.pt"),
    *("training_args.bin", "rng_state.pth", "rng_state_0.pth"),
)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "epoch=3-step=900.ckpt"])
def test_the_model_in_a_folder_is_found_among_what_training_left(tmp_path, capsys, tiny, name):
    model = lively_model()
    save_transformers(tmp_path / "in", model, tiny[0]).rename(tmp_path / "in" / name)
    for other in LEFT:
        save({"state": {}}, tmp_path / "in" / other)
    if name == "pytorch_model.bin":
        save({"w": tensor(1)}, tmp_path / "in" / "a.bin")
        (tmp_path / "in" / "pytorch_model.bin.index.json").write_text("left by an earlier run")
    status, out, err = run(capsys, tmp_path / "in", tmp_path / "out")
    assert (status, err) == (0, "")
    assert out == f"a model of transformers: {tmp_path / 'in' / name} -> {tmp_path / 'out'}\n"
    assert_same_model(tmp_path / "out", model)


def test_the_index_of_shards_in_a_folder_is_found(tmp_path, capsys, tiny):
    model = lively_model()
    save_transformers(tmp_path / "in", model, tiny[0]).rename(tmp_path / "in" / "pytorch_model-1.bin")
    weight_map = dict.fromkeys(model.state_dict(), "pytorch_model-1.bin")
    save({"w": tensor(1)}, tmp_path / "in" / "another.bin")
    (tmp_path / "in" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    status, _, err = run(capsys, tmp_path / "in", tmp_path / "out")
    assert (status, err) == (0, "")
    assert_same_model(tmp_path / "out", model)


@pytest.mark.parametrize(
    "names, message",
    [
        ([], ": it is empty; a model is a folder with"),
        (LEFT, ": not a model: it holds "),
        (["meta.pkl", "README.md"], ": not a model: it holds README.md, meta.pkl; a model is"),
        (["b.pt", "a.pth"], " has several files to convert: give one of a.pth, b.pt"),
    ],
)
def test_a_folder_that_leaves_the_model_uncertain_is_refused(tmp_path, capsys, names, message):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"\x80\2}.")
    status, out, err = run(capsys, tmp_path / "in", tmp_path / "out")
    assert (status, out) == (2 if "several" in message else 1, "") and err.count("\n") == 1
    assert err.startswith(f"extras.huggingface.convert: {tmp_path / 'in'}{message}")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_folder_of_checkpoints_names_the_latest(tmp_path, capsys, tiny):
    for step in (500, 1000):
        save_transformers(tmp_path / "in" / f"checkpoint-{step}", lively_model(), tiny[0])
    status, out, err = run(capsys, tmp_path / "in", tmp_path / "out")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.endswith(f"give the latest, {tmp_path / 'in' / 'checkpoint-1000'}\n")


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_says_in_one_line_what_it_made_and_gpt2_runs_it(tmp_path):
    file, folder = save(nanogpt(lively_model()), tmp_path / "ckpt.pt"), str(tmp_path / "out")
    done = run_python("-m", "extras.huggingface.convert", str(file), folder, *TINY)
    by_date = "gelu by its date (--activation overrides that)"
    wanted = f"a nanoGPT, 4 heads, {by_date}: {file} -> {folder}\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, wanted, b"")
    done = command("The", "4", "--model_size", folder)
    wanted = gpt2.main("The", 4, folder) + "\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, wanted, b"")


def test_help_is_printed():
    done = run_python("-m", "extras.huggingface.convert", "--help")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, convert.HELP + END_OF_HELP, b"")


@pytest.mark.parametrize("name", ["n_layer", "n_embd", "block_size"])
def test_sizes_that_contradict_the_tensors_are_refused(tmp_path, name):
    import torch

    content = nanogpt(lively_model())
    content["model_args"][name] += 1
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(ModelError, match=f"it records {name} as .*, but its tensors have "):
        convert.convert(tmp_path / "ckpt.pt", tmp_path / "out", tokenizer="tiny")
    assert not (tmp_path / "out").exists()
