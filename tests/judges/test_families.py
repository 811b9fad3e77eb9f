"""The README's tables of models: each family that runs is built here in its layout, the rest is refused."""

import json
import re

import numpy as np
import pytest
from foreign_models import (
    IDS,
    N_CTX,
    N_HEAD,
    build_nanogpt,
    lightning,
    lively_model,
    llms_from_scratch,
    logits_of,
    mingpt,
    nanogpt,
    save,
    save_transformers,
)
from gguf_makers import TEXT, put_together
from helpers import ROOT, assert_same_logits, run, save_with_tensorflow
from local_hub import pull_request, serve_hub, without
from local_hub import run as run_on_hub
from safetensors.numpy import load_file, save_file

import gpt2
import utils
from checkpoint import in_openai_layout
from encoder import write_encoder
from extras.huggingface import export, gguf_files, loading, task_heads
from extras.huggingface.config import read_config
from weights import flatten

README = (ROOT / "README.md").read_text("utf-8")


def table(last):  # -> {models: how}
    """The table of the README whose third column has this name."""
    head = rf"^\| models \| for example \| {last} \|\n\|[-|]+\|\n((?:\|.*\n)+)"
    rows = re.search(head, README, re.MULTILINE)[1].splitlines()
    return {row.split("|")[1].strip(): row.split("|")[3].strip() for row in rows}


# ---- what runs: each writes a family's files into a folder, and returns what to give as --model_size -------


def saved(folder, model, encoder):
    model.save_pretrained(folder)
    export.write_tokenizer(folder, encoder, N_CTX)
    return folder


def converted(file, *words):
    out = file.parent / "out"
    assert run([str(file), str(out), *words], "extras.huggingface.convert") == 0
    return out


def as_released(folder, model, encoder, tf):
    """gpt-2-simple's: TensorFlow's Saver, a step in the name, slots of the optimizer."""
    hparams, params = loading.load(saved(folder / "theirs", model, encoder))[1:]
    variables = in_openai_layout(flatten(params))
    variables |= {f"{name}/Adam": np.zeros_like(array) for name, array in variables.items()}
    home = folder / "checkpoint" / "run1"
    home.mkdir(parents=True)
    save_with_tensorflow(tf, home / "model-1000", variables)
    (home / "checkpoint").write_text(
        'model_checkpoint_path: "model-1000"\nall_model_checkpoint_paths: "model-1000"\n'
    )
    (home / "hparams.json").write_text(json.dumps(hparams))
    write_encoder(home, encoder)
    return home


def with_value_head(folder, model, encoder):
    """A Trainer's step, saved by TRL."""
    step = saved(folder / "checkpoint-1000", model, encoder)
    tensors = load_file(step / "model.safetensors")
    tensors["v_head.summary.weight"] = np.ones((1, model.config.n_embd), np.float32)
    save_file(tensors, step / "model.safetensors", metadata={"format": "pt"})
    return step


def wrapped(folder, model, encoder):
    """A model that was saved while torch.compile or DataParallel held it."""
    tensors = load_file(saved(folder, model, encoder) / "model.safetensors")
    names = {f"module._orig_mod.{name}": array for name, array in tensors.items()}
    save_file(names, folder / "model.safetensors", metadata={"format": "pt"})
    return converted(folder / "model.safetensors")


def in_lightning(folder, model, encoder):
    save_transformers(folder, model, encoder).unlink()
    return converted(save(lightning(model), folder / "last.ckpt"))


OTHER, N_HEADS = ["--tokenizer=tiny", "--activation=gelu_new"], f"--n_head={N_HEAD}"


def in_pickle(folder, model, encoder):
    return converted(save_transformers(folder, model, encoder))


def of_nanogpt(folder, model, encoder):
    return converted(save(nanogpt(model), folder / "ckpt.pt"), *OTHER)


def of_build_nanogpt(folder, model, encoder):
    return converted(save(build_nanogpt(model), folder / "model.pt"), *OTHER, N_HEADS)


def of_mingpt(folder, model, encoder):
    return converted(save(mingpt(model), folder / "model.pt"), "--tokenizer=tiny", N_HEADS)


def of_llama_cpp(folder, model, encoder):
    pytest.importorskip("gguf")
    gguf_files.save(folder / "model.gguf", *loading.load(saved(folder / "saved", model, encoder)))
    return folder / "model.gguf"


RUNS = {
    "a fine-tune in OpenAI's layout": [as_released],
    "a folder that transformers saved": [saved, with_value_head],
    "a pickle of transformers": [in_pickle, in_lightning],
    "a pickle of another project": [of_nanogpt, of_build_nanogpt, of_mingpt],
    "safetensors that training wrapped": [wrapped],
    "a file of llama.cpp": [of_llama_cpp],
}
BUILDERS = [(family, build) for family, builders in RUNS.items() for build in builders]


def assert_runs(place, model, capfd):
    """The command writes what PyTorch's model writes, and the logits are equal."""
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(place), "models")
    assert_same_logits(gpt2.gpt2(IDS, **params, n_head=hparams["n_head"]), logits_of(model))
    ids, capfd = encoder.encode("The little fox"), capfd.readouterr() and capfd
    new_ids = gpt2.generate(ids, params, hparams["n_head"], 6)
    assert run(["The little fox", "-n=6", f"--model_size={place}"]) == 0
    assert capfd.readouterr().out.rstrip("\n") == encoder.decode(new_ids).rstrip("\n")


@pytest.mark.parity
@pytest.mark.parametrize("family, build", BUILDERS)
def test_a_family_that_runs_runs(transformers, tiny, tmp_path, capfd, request, family, build):
    model, more = lively_model(), {"tf": request.getfixturevalue("tf")} if build is as_released else {}
    place = build(tmp_path, model, tiny[0], **more)
    assert_runs(place, model, capfd)


@pytest.mark.parity
def test_the_book_llms_from_scratch_runs(transformers, tiny, tmp_path, capfd):
    model = llms_from_scratch()
    place = converted(save(model.state_dict(), tmp_path / "model.pth"), "--tokenizer=tiny", N_HEADS)
    assert_runs(place, model, capfd)


VARIANTS = {
    "cerebras/Cerebras-GPT-111M": {"activation_function": "gelu"},
    "stanford-crfm/alias-gpt2-small-x21": {
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
    },
    "another norm": {"layer_norm_epsilon": 1e-3},
}


@pytest.mark.parity
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_with_another_activation_norm_or_scale_of_attention_it_runs(
    transformers, tiny, tmp_path, capfd, fields
):
    model = lively_model(**fields)
    assert_runs(saved(tmp_path, model, tiny[0]), model, capfd)


@pytest.mark.parity
@pytest.mark.parametrize("has_pickle", [False, True])
def test_on_the_hub_it_runs_even_with_only_a_pickle(transformers, tiny, tmp_path, has_pickle):
    model, encoder = lively_model(), tiny[0]
    files = {path.name: path.read_bytes() for path in saved(tmp_path / "saved", model, encoder).iterdir()}
    pulls = (
        {"me/model": [pull_request({"model.safetensors": files["model.safetensors"]})]} if has_pickle else {}
    )
    files = without(files, "model.safetensors") | {"pytorch_model.bin": b""} if has_pickle else files
    with serve_hub({"me/model": files}, pulls) as (address, _):
        done = run_on_hub("me/model", address, tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    here = loading.load(tmp_path / "saved")
    new_ids = gpt2.generate(here[0].encode("The little fox"), here[2], here[1]["n_head"], 8)
    assert done.stdout.decode().rstrip("\n") == here[0].decode(new_ids).rstrip("\n")


@pytest.mark.parity
@pytest.mark.parametrize("end", ["</s>", "<|endoftext|>"])
def test_with_a_byte_level_vocabulary_of_its_own_it_runs(transformers, tmp_path, capfd, end):
    import tokenizers

    theirs = tokenizers.ByteLevelBPETokenizer()
    theirs.train([str(ROOT / "tests" / "stories.txt")], vocab_size=600, special_tokens=["<s>", end, "<pad>"])
    theirs.save_model(str(tmp_path))
    names = {"bos_token": "<s>", "eos_token": end, "unk_token": end, "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"} | names))
    model = lively_model(vocab_size=600, bos_token_id=0, eos_token_id=1)
    model.save_pretrained(tmp_path)
    encoder, hparams, params = loading.load(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = encoder.encode("The little fox <s>", "all")
    assert ids == tokenizer("The little fox <s>", add_special_tokens=False).input_ids
    assert (encoder.begin_id, encoder.stop_ids) == (0, {1})
    assert run(["The little fox", "-n=6", f"--model_size={tmp_path}"]) == 0


@pytest.mark.parity
@pytest.mark.parametrize("name", ["uer", "rinna", "gpt-sw3", "kogpt2, class named", "olm"])
def test_with_another_kind_of_tokenizer_it_writes_what_transformers_writes(
    transformers, tmp_path, capfd, name
):
    pytest.importorskip("sentencepiece", reason="sentencepiece, which trains tokenizers, is not installed")
    from other_tokenizer_layouts import LAYOUTS

    layout = LAYOUTS[name]()
    model = lively_model(vocab_size=layout.n_vocab, bos_token_id=None, eos_token_id=None)
    model.save_pretrained(layout.write(tmp_path))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = layout.texts[0][:20]
    ids = theirs(text, add_special_tokens=False, return_tensors="pt").input_ids
    written = model.generate(ids, max_new_tokens=8, do_sample=False)[0]
    before, after = (theirs.decode(each, skip_special_tokens=True) for each in (ids[0], written))
    capfd.readouterr()
    assert run([text, "-n=8", f"--model_size={tmp_path}"]) == 0
    assert capfd.readouterr().out == after[len(before) :] + "\n"


@pytest.mark.parity
def test_with_a_task_head_it_runs_from_python(transformers, tiny, tmp_path):
    config = lively_model().config
    model = transformers.GPT2ForSequenceClassification(config).eval()
    encoder, hparams, params, head = task_heads.load(saved(tmp_path, model, tiny[0]))
    scores = task_heads.score_text(encoder.encode("What a fine evening!"), params, hparams["n_head"], head)
    assert scores.shape == (2,)


def save_adapter(folder, model, encoder, **fields):  # -> the model with it, the words that name both
    """An adapter as peft saves it, every number of which counts, and the model that it is for."""
    import peft

    base = saved(folder / "base", model, encoder)
    config = peft.LoraConfig(target_modules=["c_attn", "c_fc"], init_lora_weights=False, **fields)
    adapted = peft.get_peft_model(type(model).from_pretrained(base), config).eval()
    adapted.save_pretrained(folder / "adapter")
    return adapted, [f"--model_size={base}", f"--lora={folder / 'adapter'}"]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::UserWarning")  # of peft, on what it mends
@pytest.mark.parametrize("is_named", [True, False])
def test_an_adapter_runs(transformers, tiny, tmp_path, capfd, is_named):
    pytest.importorskip("peft", reason="peft, the judge of adapters, is not installed")
    adapted, words = save_adapter(tmp_path, lively_model(), tiny[0])
    words = words if is_named else words[1:]  # it names its base
    name = words[-1].removeprefix("--lora=")
    _, hparams, params = utils.load_encoder_hparams_and_params(None, "models", name)
    assert_same_logits(gpt2.gpt2(IDS, **params, n_head=hparams["n_head"]), logits_of(adapted))
    new_ids = gpt2.generate(tiny[0].encode("The little fox"), params, hparams["n_head"], 6)
    capfd.readouterr()
    assert run(["The little fox", "-n=6", *words]) == 0
    assert capfd.readouterr().out.rstrip("\n") == tiny[0].decode(new_ids).rstrip("\n")


# ---- what does not run -------------------------------------------------------------------------------------


def other_class(folder, model, encoder):
    """Words that another program cuts out, as in cl-tohoku's models."""
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n中\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer"}))
    params = loading.load_params(folder, read_config(folder))
    assert_same_logits(gpt2.gpt2(IDS, **params, n_head=N_HEAD), logits_of(model))


def dora(folder, model, encoder):
    return save_adapter(folder, model, encoder, use_dora=True)[1]


def other_format(folder, model, encoder):
    (folder / "model.onnx").write_bytes(b"ONNX")


def quantized(folder, model, encoder):
    saved(folder, model, encoder)
    fields = json.loads((folder / "config.json").read_text())
    fields["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(fields))


def other_architecture(folder, model, encoder):
    saved(folder, model, encoder)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {"model_type": "gpt_neo"}))


def santacoder(folder, model, encoder):
    saved(folder, model, encoder)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {"attention_head_type": "multiquery"}))


def llama_in_gguf(folder, model, encoder):
    path = put_together(folder / "x.gguf", {"general.architecture": (TEXT, "llama")}, {})
    return [f"--model_size={path}"]


REFUSED = {
    "one whose tokenizer is a class of its own": [
        (other_class, "is 'BertJapaneseTokenizer', expected one of")
    ],
    "another kind of adapter": [(dora, "use_dora is True, and only plain LoRA is supported; merge it into")],
    "another format": [(other_format, "it is in the format of ONNX"), (quantized, "quantization_config is")],
    "another architecture": [
        (other_architecture, "model_type is 'gpt_neo'; supported: 'gpt2'"),
        (santacoder, "attention_head_type is 'multiquery'"),
        (llama_in_gguf, "its architecture is llama, expected gpt2; llama.cpp runs other models"),
    ],
}


@pytest.mark.parity
@pytest.mark.parametrize("build, words", [case for cases in REFUSED.values() for case in cases])
def test_what_does_not_run_is_refused_in_one_line_that_says_what_it_is(
    transformers, tiny, tmp_path, capfd, build, words
):
    words_given = build(tmp_path, lively_model(), tiny[0]) or [f"--model_size={tmp_path}"]
    capfd.readouterr()
    assert run(["The little fox", *words_given]) == 1
    out, err = capfd.readouterr()
    assert out == "" and words in err and err.count("\n") == 1


# ---- the tables --------------------------------------------------------------------------------------------

ALSO = {  # families with a test of their own, above
    "a LoRA adapter",
    "a GPT-2 on the hub",
    "one with a byte-level vocabulary of its own",
    "one with another kind of tokenizer",
    "one with another activation, norm or scale of attention",
    "one that is only a pickle on the hub",
    "one with a task head",
}


def test_every_family_in_the_tables_is_tried_here():
    assert table("how").keys() == RUNS.keys() | ALSO and table("what to do").keys() == REFUSED.keys()
