"""Pickles of PyTorch become safetensors with the same numbers, and are not run: `pytest -m parity`."""

import contextlib
import copy
import json
import os
import pickle
import zipfile
from datetime import datetime

import helpers
import numpy as np
import pytest
from helpers import assert_same_logits, command, run_python
from safetensors.numpy import load_file

import gpt2
from extras import huggingface
from extras.huggingface import convert, export
from files import ModelError
from program import END_OF_HELP

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("transformers")]

N_VOCAB, N_CTX, N_EMBD, N_HEAD = 4000, 64, 48, 4
IDS = np.random.default_rng(7).integers(0, N_VOCAB, N_CTX)
OLD, NEW = datetime(2023, 5, 31), datetime(2023, 7, 1)  # before and after nanoGPT's change of gelu


def lively_model(bias=True, **fields):
    """A GPT2LMHeadModel in which every number is random and counts; without bias, those are zero."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    usual = {"vocab_size": N_VOCAB, "n_positions": N_CTX, "n_embd": N_EMBD, "n_head": N_HEAD, "n_layer": 2}
    usual |= {"bos_token_id": N_VOCAB - 1, "eos_token_id": N_VOCAB - 1}
    model, rng = GPT2LMHeadModel(GPT2Config(**usual | fields)).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "ln_" in name and name.endswith("weight")
            parameter.normal_(float(norm), 0.15 if bias or not name.endswith("bias") else 0, generator=rng)
    return model


def logits_of(model):  # -> [n_ctx, n_vocab]
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(IDS)[None]).logits[0, :, :N_VOCAB].numpy()


def assert_same_model(folder, model):
    encoder, hparams, params = huggingface.load(folder)
    assert hparams["n_vocab"] == N_VOCAB and encoder.stop_ids == {N_VOCAB - 1}
    assert_same_logits(gpt2.gpt2(IDS, **params, n_head=hparams["n_head"]), logits_of(model))


def tensor(*shape):
    import torch

    return torch.ones(shape)


MASKS = [f"transformer.h.{layer}.attn.bias" for layer in range(2)]
MATRICES = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def mingpt(model, bias=True):
    """A model's tensors as minGPT saved them: matrices [n_out, n_in], and masks."""
    state = {n: t for n, t in model.state_dict().items() if bias or not n.endswith("bias")}
    state = {n: t.T.contiguous() if n.endswith(MATRICES) else t for n, t in state.items()}
    return state | {name: tensor(1, 1, N_CTX, N_CTX).tril() for name in MASKS}


def nanogpt(model, prefix="", bias=True):
    """A model as nanoGPT saved it."""
    args = {name: getattr(model.config, name) for name in ("n_layer", "n_head", "n_embd", "vocab_size")}
    args |= {"block_size": N_CTX, "bias": bias, "dropout": 0.0}
    state = {prefix + name: t for name, t in mingpt(model, bias).items()}
    return {"model": state, "optimizer": {"state": {}}, "model_args": args, "config": {"device": "cuda"}}


def save(content, file, date=NEW):
    """Write a pickle, or bytes, as of a date."""
    import torch

    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    os.utime(file, (date.timestamp(), date.timestamp()))
    return file


def save_transformers(folder, model, encoder, state=None):
    """Write a model as transformers did before safetensors."""
    model.config.save_pretrained(folder)
    export.write_tokenizer(folder, encoder, N_CTX)
    return save(state or model.state_dict(), folder / "pytorch_model.bin")


def run(capsys, *words):  # -> exit status, stdout, stderr
    words = [str(word) for word in words]
    status = helpers.run(words, "extras.huggingface.convert")
    return status, *capsys.readouterr()


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


# ---- Microsoft's LoRA --------------------------------------------------------------------------------------

LORA = "transformer.h.0.attn.c_attn.lora_"


def lora(ranks=(3, 3), prefix="", others=None):
    """A checkpoint of Microsoft's: in A and in B, the queries' adapter stands above the values'."""
    import torch

    rng, state = torch.Generator().manual_seed(0), {}
    for layer, rank in enumerate(ranks):
        for letter, shape in {"A": (2 * rank, N_EMBD), "B": (2 * N_EMBD, rank)}.items():
            name = prefix + LORA.replace("0", str(layer)) + letter
            state[name] = torch.randn(shape, generator=rng) * 0.1
    return {"model_state_dict": state | {name: tensor(*shape) for name, shape in (others or {}).items()}}


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


# ---- refusals ----------------------------------------------------------------------------------------------


class Bomb:
    """Pickled, it is a program that makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("raw", [True, False])
def test_what_a_pickle_would_do_is_not_done(tmp_path, capsys, raw):
    import torch

    bomb = Bomb(tmp_path / "made")
    content = pickle.dumps(bomb) if raw else nanogpt(lively_model()) | {"config": bomb}
    file = save(content, tmp_path / "ckpt.pt")
    status, out, err = run(capsys, file, tmp_path / "out", *TINY)
    assert (status, out, err.count("\n")) == (1, "", 1) and "is not run" in err
    assert list(tmp_path.iterdir()) == [file]
    with contextlib.suppress(Exception):
        torch.load(file, weights_only=False)
    assert bomb.folder.exists(), "this pickle would have done nothing"


TINY, ALPHA = ["--tokenizer", "tiny"], ["--lora_alpha", "32"]
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
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}  # as Lightning saves
    file = save_transformers(tmp_path / "in", model, tiny[0], state)
    with pytest.raises(ModelError, match="model.lm_head.weight is unknown|is missing"):
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


# ---- small files that would grow ---------------------------------------------------------------------------


def spread(*shape):
    """A tensor of which one number is stored."""
    return tensor(1).expand(*shape)


def spread_model():
    return {name: spread(*t.shape) for name, t in lively_model(n_layer=9).state_dict().items()}


GROWING = {
    "nanoGPT": (
        lambda: nanogpt(lively_model()) | {"model": {C_ATTN + "weight": spread(90_000, 30_000)}},
        TINY,
    ),
    "LoRA": (lambda: {LORA + "A": spread(6, 10**8), LORA + "B": spread(2 * 10**8, 3)}, ALPHA),
    "one tensor for all": (spread_model, []),
}


@pytest.mark.parametrize("kind", GROWING)
def test_a_tensor_larger_than_its_file_takes_no_memory_and_no_disk(tmp_path, tiny, kind):
    pytest.importorskip("resource", reason="this system has no limits on memory")
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("this system does not say how much memory a process has")
    content, words = GROWING[kind]
    file = save_transformers(tmp_path / "in", lively_model(), tiny[0], content())
    limit = (
        "import resource, sys, torch, program; from extras.huggingface import convert;"
        "n = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + 300_000_000;"
        "resource.setrlimit(resource.RLIMIT_AS, (n, n));"
        "sys.exit(program.run('extras.huggingface.convert', program='convert'))"
    )
    done = run_python("-c", limit, str(file), str(tmp_path / "out"), *words)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"bytes, far more than the file has; get a fresh copy" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_compressed_pickle_is_not_unpacked(tmp_path, monkeypatch):
    import torch

    file, packed = save({"wte": torch.zeros(10**6)}, tmp_path / "f.pt"), tmp_path / "packed.pt"
    with zipfile.ZipFile(file) as parts, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as small:
        for part in parts.infolist():
            small.writestr(part.filename, parts.read(part))
    assert torch.load(packed, weights_only=True)["wte"].shape == (10**6,)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ModelError, match=r"packed.pt: it is compressed, and would grow to 4,000,\d+ bytes"):
        convert.convert(packed, tmp_path / "out")


def test_an_old_pytorch_reads_no_pickle(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ImportError, match="can make PyTorch 2.9.1.cpu run code: pip install 'torch>=2.10'"):
        convert.convert(tmp_path / "f.pt", tmp_path / "out")


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
    model_size, status = (tmp_path, 1) if given == "the folder" else (file, 2)
    assert helpers.run(["The", "4", "--model_size", str(model_size)]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == (
        "",
        1,
    ) and f"python -m extras.huggingface.convert {file} OUT_FOLDER" in err


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


@pytest.mark.parametrize("n_bytes", [100, 5000, 20_000])
def test_a_cut_pickle_is_named(tmp_path, n_bytes):
    file = tmp_path / "pytorch_model.bin"
    import torch

    torch.save({"h.0.attn.c_attn.weight": torch.zeros(64, 192)}, file)
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: "):
        convert.convert(file, tmp_path / "out")


def test_a_bit_of_a_pickle_that_pytorch_does_not_see_is_found(tmp_path):
    file = tmp_path / "pytorch_model.bin"
    import torch

    torch.save({"h.0.attn.c_attn.weight": torch.zeros(64, 192)}, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["h.0.attn.c_attn.weight"].any()
    with pytest.raises(ModelError, match="damaged: .* does not match its checksum"):
        convert.convert(file, tmp_path / "out")


@pytest.mark.parametrize("name", ["n_layer", "n_embd", "block_size"])
def test_sizes_that_contradict_the_tensors_are_refused(tmp_path, name):
    import torch

    content = nanogpt(lively_model())
    content["model_args"][name] += 1
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(ModelError, match=f"its model_args say that {name} is .*, its tensors "):
        convert.convert(tmp_path / "ckpt.pt", tmp_path / "out", tokenizer="tiny")
    assert not (tmp_path / "out").exists()
