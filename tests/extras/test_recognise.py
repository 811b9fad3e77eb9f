"""What is said of folders and files that are not models; following the advice must lead to a model."""

import json
import os
import re
import shlex

import numpy as np
import pytest
from helpers import command, lively_params, run, write_huggingface, write_model

import utils
import weights
from checkpoint import in_openai_layout
from extras import recognise
from extras.huggingface.loading import huggingface_name
from files import ModelError, quoted

HPARAMS = {"n_vocab": 4000, "n_ctx": 8, "n_embd": 4, "n_head": 2, "n_layer": 1}
ARRAYS = weights.flatten(lively_params(HPARAMS, seed=0))
TENSORS = {f"transformer.{huggingface_name(name)}": array for name, array in ARRAYS.items()}
PICKLE = ", a pickle, which could run any code, so it is not read; "
CONVERT = "python -m extras.huggingface.convert"


def touch(folder, *names):
    """Empty files, and the folders that they lie in."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def huggingface(folder, *lacking):
    """A model of transformers, without some of its files."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_huggingface(folder, TENSORS, HPARAMS)
    for name in lacking:
        (folder / name).unlink()
    return folder


def refusal(model):
    """What is said of a folder or file that is refused, in one line."""
    with pytest.raises(ValueError) as caught:
        utils.load_encoder_hparams_and_params(str(model), "models")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1500
    return str(caught.value)


# ---- which pickle is named ---------------------------------------------------------------------------------

BESIDE = (
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "rng_state_0.pth",
    "scaler.pt",
    "training_args.bin",
)
ACCELERATE = (
    "optimizer.bin",
    "random_states_0.pkl",
    "sampler.bin",
    "custom_checkpoint_0.pkl",
    "scheduler.bin",
)
SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


@pytest.mark.parametrize(
    "names, named",
    [
        ([*BESIDE, "pytorch_model.bin", "trainer_state.json"], "pytorch_model.bin"),
        ([*BESIDE, *SHARDS, "pytorch_model.bin.index.json"], "pytorch_model.bin.index.json"),
        (["pytorch_model.bin", "pytorch_model.bin.index.json", *SHARDS], "pytorch_model.bin.index.json"),
        (["a.pt", "pytorch_model.bin", "z.bin"], "pytorch_model.bin"),
        ([*ACCELERATE, "model.bin"], "model.bin"),
        (["optimizer.pt", "ckpt.pt"], "ckpt.pt"),
        (["epoch=3-step=100.ckpt", "hparams.yaml"], "epoch=3-step=100.ckpt"),
        (["model.pkl"], "model.pkl"),
        (["gpt2.pth", "train.bin", "val.bin", "meta.pkl"], "gpt2.pth"),
        (["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot"], "pytorch_model.bin"),
    ],
)
def test_the_pickle_that_holds_the_model_is_named(tmp_path, names, named):
    folder = touch(huggingface(tmp_path / "model", "model.safetensors"), *names)
    path = quoted(folder / named)
    advice = f"to convert a PyTorch checkpoint, run {CONVERT} {path} OUT_FOLDER"
    kind = PICKLE.replace("a pickle", "an index of pickles") if named.endswith(".json") else PICKLE
    assert refusal(folder) == f"{folder}: it has no model.safetensors, but {named}{kind}{advice}"
    assert advice in refusal(folder / named)


@pytest.mark.parametrize("names", [["a.pt", "b.pt"], ["last.ckpt", "best.ckpt", *BESIDE]])
def test_where_several_pickles_may_be_the_model_all_are_named(tmp_path, names):
    found = refusal(touch(tmp_path / "out", *names))
    listed = ", ".join(sorted(name for name in names if name not in BESIDE))
    assert f"it has several pickles, {listed}, which could run any code, so none is read; " in found
    assert found.endswith(f"convert the model's: {CONVERT} FILE OUT_FOLDER")


def test_a_pickle_of_transformers_needs_its_config(tmp_path):
    found = refusal(touch(tmp_path / "out", "pytorch_model.bin"))
    first = (
        "get its config.json and the files of its tokenizer too; then, to convert a PyTorch checkpoint, run"
    )
    assert found.endswith(f"; {first} {CONVERT} {tmp_path}/out/pytorch_model.bin OUT_FOLDER")
    assert "config.json" not in refusal(touch(tmp_path / "nano", "ckpt.pt"))


def test_of_shards_without_their_index_the_index_is_named(tmp_path):
    folder = touch(tmp_path / "out", *SHARDS, "config.json")
    (folder / "config.json").unlink()
    found = refusal(folder)
    assert found.endswith("; get pytorch_model.bin.index.json and all that it names") and SHARDS[0] in found
    touch(folder, "pytorch_model.bin.index.json", "config.json")
    assert f"{CONVERT} {folder}/pytorch_model.bin.index.json" in refusal(folder / SHARDS[1])
    shard = "model-00001-of-00002.safetensors"
    folder = touch(huggingface(tmp_path / "theirs", "model.safetensors"), shard)
    wanted = f"no model.safetensors, but {shard}; get model.safetensors.index.json and all that it names"
    assert wanted in refusal(folder)


@pytest.mark.parametrize(
    "name, what",
    [
        ("tf_model.h5", "it is in transformers' format for TensorFlow; transformers 4 converts it: "),
        ("flax_model.msgpack", "it is in transformers' format for Flax; transformers 4 converts it: "),
        ("ggml-model-f16.bin", "it is in an old format of llama.cpp; get the model's safetensors instead"),
        ("decoder_model.onnx", "it is in the format of ONNX; get the model's safetensors instead"),
        ("gpt2.npz", "it is in NumPy's format; get the model's safetensors instead"),
        ("openvino_model.bin", "it is in OpenVINO's format; get the model's safetensors instead"),
        ("adapter_model.safetensors", "it is an adapter of peft, not a model; give its folder as --lora"),
        ("run1.tar.gz", "it is an archive; unpack it, and give the folder"),
        ("my.safetensors", "if it is a whole model, name it model.safetensors, with config.json and a tok"),
    ],
)
@pytest.mark.parametrize("with_config", [True, False])
def test_what_is_no_pickle_is_named_as_what_it_is(tmp_path, name, what, with_config):
    folder = tmp_path / "model"
    if with_config:
        huggingface(folder, "model.safetensors")
    touch(folder, name, *BESIDE)
    assert f"{folder}: it has no model.safetensors, but {name}; {what}" in refusal(folder)
    said = refusal(folder / name)
    a_file = f"model_size is '{folder / name}', a file, but a model is a folder: "
    assert what in said and said.startswith((a_file, f"{folder}: it has no model.safetensors, but {name}; "))


def test_of_files_of_llama_cpp_one_is_named(tmp_path):
    folder = touch(huggingface(tmp_path / "model", "model.safetensors"), "gpt2.Q8_0.gguf")
    assert refusal(folder).startswith(f"{folder}/gpt2.Q8_0.gguf: it does not begin with the letters GGUF")
    folder = touch(tmp_path / "several", "a.gguf", "b.gguf", "README.md")
    problem = "it has several models of llama.cpp, a.gguf, b.gguf"
    assert refusal(folder) == f"{folder}: {problem}; give one, such as {folder}/a.gguf"


def test_a_file_of_llama_cpp_by_another_name_is_known_by_its_content(tmp_path):
    path = tmp_path / "tiny.bin"
    path.write_bytes(b"GGUF" + bytes(20))
    assert refusal(path) == f"model_size is '{path}', a file of llama.cpp: let its name end in .gguf"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["pipe", "pipe.gguf", "folder/pipe.gguf"])
def test_a_named_pipe_is_not_waited_for(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / name)
    given = tmp_path / name.split("/")[0]
    words = (
        "neither a folder nor a file" if given.name.startswith("pipe") else "not a model: it holds pipe.gguf"
    )
    assert words in refusal(given)


@pytest.mark.parametrize("name", [*BESIDE, *ACCELERATE, "train.bin", "training.pt", "training.npz"])
def test_a_file_that_training_leaves_is_not_sent_to_convert(tmp_path, name):
    assert refusal(touch(tmp_path, name) / name).endswith("it belongs to a training run, and holds no model")
    assert "convert" not in refusal(tmp_path)


# ---- folders -----------------------------------------------------------------------------------------------


def test_of_a_trainers_folder_the_latest_checkpoint_is_given(tmp_path):
    out = touch(
        tmp_path / "out", "checkpoint-500/x", "checkpoint-1000/x", "checkpoint-1500/x", "training_args.bin"
    )
    touch(out / "runs", "events.out")
    for n in (500, 1000):
        huggingface(out / f"checkpoint-{n}")
    (out / "checkpoint-2000.txt").touch()
    found = (
        "not a model, but the checkpoints of a training run, checkpoint-500, checkpoint-1000, checkpoint-1500"
    )
    assert (
        refusal(out) == f"{out}: {found}; give the latest, {out / 'checkpoint-1000'}"
    )  # 1500 is not complete
    huggingface(out / "model")
    assert f"give the latest, {out / 'checkpoint-1000'}" in refusal(out)


def test_a_trainers_checkpoints_may_be_adapters_or_pickles(tmp_path):
    touch(tmp_path / "a", "checkpoint-5/adapter_config.json")
    touch(tmp_path / "b", "checkpoint-5/pytorch_model.bin", "checkpoint-5/tokenizer.json")
    assert refusal(tmp_path / "a").endswith(f"give the latest, as --lora {tmp_path / 'a' / 'checkpoint-5'}")
    assert refusal(tmp_path / "b").endswith(f"give the latest, {tmp_path / 'b' / 'checkpoint-5'}")


COMMIT, OTHER = "a1" * 20, "0" * 40


@pytest.mark.parametrize(
    "folder, repo", [("models--gpt2", "gpt2"), ("models--owner--my-name", "owner/my-name")]
)
def test_of_a_cache_of_the_hub_its_model_and_files_are_named(tmp_path, monkeypatch, folder, repo):
    root = touch(tmp_path / folder, "refs/main", "blobs/x")
    (root / "snapshots").mkdir()
    assert refusal(root) == f"{root}: it is the hub's cache of {repo}; give the model's name, {repo}"
    huggingface(root / "snapshots" / OTHER)
    place = root / "snapshots" / OTHER
    assert refusal(root) == f"{root}: it is the hub's cache of {repo}; give {place}"
    (root / "refs" / "main").write_text(COMMIT)
    place = huggingface(root / "snapshots" / COMMIT)
    assert refusal(root).endswith(f"; give {place}")
    monkeypatch.chdir(root)
    assert refusal(".") == f".: it is the hub's cache of {repo}; give snapshots/{COMMIT}"
    assert refusal(tmp_path) == f"{tmp_path}: it is a cache of the hub; give a model's name, such as {repo}"


def test_where_model_and_tokenizer_lie_side_by_side_it_is_said_what_to_copy(tmp_path):
    out = tmp_path / "out"
    huggingface(out / "model", "vocab.json", "merges.txt")
    touch(out, "tokenizer/tokenizer.json", "logs/x.txt")
    found = f"its model is in {out}/model, its tokenizer in {out}/tokenizer; copy the tokenizer's files from "
    wanted = f"{out}: {found}{out}/tokenizer to {out}/model, and give that"
    assert refusal(out) == wanted
    (out / "tokenizer" / "tokenizer.json").rename(out / "vocab.json")  # the tokenizer beside the folder
    found = f"its model is in {out}/model, its tokenizer in {out}; copy the tokenizer's files from {out} to "
    assert refusal(out) == f"{out}: {found}{out}/model, and give that"


@pytest.mark.parametrize(
    "config, what",
    [
        (
            {"peft_type": "LORA", "base_model_name_or_path": "openai-community/gpt2"},
            "a LoRA adapter of peft, not a model; it was made for openai-community/gpt2",
        ),
        ({"peft_type": "PREFIX_TUNING", "base_model_name_or_path": None}, "an adapter of peft, not a model"),
        (None, "an adapter of peft, not a model"),
    ],
)
@pytest.mark.parametrize("given", ["", "adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_is_named_with_its_base(tmp_path, config, what, given):
    folder = touch(tmp_path / "lora", "adapter_model.safetensors", "tokenizer.json", "README.md")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    advice = f"give it as --lora {folder}"
    if "PREFIX" in str(config):
        advice = "it changes the prompt, not the weights, so only peft can run it"
    assert refusal(folder / given) == f"{folder}: it is {what}; {advice}"


def test_a_model_one_folder_deeper_is_given(tmp_path, monkeypatch):
    for make in (
        lambda folder: write_model(folder, in_openai_layout(ARRAYS), HPARAMS),
        huggingface,
        lambda folder: touch(folder, "ckpt.pt"),
    ):
        out = tmp_path / make(tmp_path / "x").name
        outer = tmp_path / f"outer{len(list(tmp_path.iterdir()))}"
        outer.mkdir()
        out.rename(outer / "gpt2 out")
        touch(outer, "notes.txt", "gpt2-out.zip", "logs/x")
        path = quoted(outer / "gpt2 out")
        assert refusal(outer) == f"{outer}: its model is one folder deeper; give {path}"
    monkeypatch.chdir(outer)
    (outer / "gpt2 out").rename("tiny")
    assert refusal(".") == ".: its model is one folder deeper; give ./tiny"  # tiny would be ours


def test_several_models_one_folder_deeper_are_named(tmp_path):
    touch(tmp_path, *(f"m{i}/hparams.json" for i in range(9)))
    found = "it holds several models, m0, m1, m2, ..., m8"
    assert refusal(tmp_path) == f"{tmp_path}: {found}; give one, such as {tmp_path / 'm0'}"


@pytest.mark.parametrize(
    "names, problem, advice",
    [
        ([], "it is empty", "a model is a folder with hparams.json, "),
        ([".DS_Store", ".git/config"], "it is empty", "a model is a folder with "),
        (
            ["tokenizer.json", "tokenizer_config.json"],
            "it has a tokenizer, but no model",
            "add the model's config",
        ),
        (
            ["vocab.json", "merges.txt"],
            "it has a tokenizer, but no model",
            "add the model's config.json and mo",
        ),
        (
            ["encoder.json", "vocab.bpe"],
            "it has a tokenizer, but no model",
            "add the model's hparams.json and ",
        ),
        (["a.txt", "b.txt"], "not a model: it holds a.txt, b.txt", "a model is a folder with hparams.json, "),
        (
            [f"{i}.txt" for i in range(20)],
            "not a model: it holds 0.txt, 1.txt, 2.txt, ..., 19.txt",
            "a model is",
        ),
        (["a/b/hparams.json"], "not a model: it holds a", "a model is a folder with"),  # two folders deeper
    ],
)
def test_of_any_other_folder_it_is_said_what_it_holds(tmp_path, names, problem, advice):
    folder = tmp_path / "x"
    folder.mkdir()
    assert refusal(touch(folder, *names)).startswith(f"{folder}: {problem}; {advice}")


def test_config_and_tokenizer_without_weights_are_incomplete(tmp_path):
    folder = huggingface(tmp_path / "model", "model.safetensors")
    assert refusal(folder) == f"{folder}: it has no model.safetensors; get a fresh copy"
    huggingface(folder / "checkpoint-7")
    assert refusal(folder).endswith(f"give the latest, {folder / 'checkpoint-7'}")


def test_the_command_says_it_in_one_line(tmp_path):
    done = command("hi", "3", str(touch(tmp_path, "a.txt")))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(f"gpt2.py: {tmp_path}: not a model: it holds a.txt; a model is ".encode())


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_names_of_files_cannot_break_the_line(tmp_path):
    touch(tmp_path, "\x1b[31m\n", "x" * 200, "y\n.pt")
    assert "'./y\\n.pt'" not in refusal(tmp_path) and "FILE OUT_FOLDER" in refusal(tmp_path)
    (tmp_path / "y\n.pt").unlink()
    assert "\\x1b[31m\\n" in refusal(tmp_path)


def test_a_folder_that_may_not_be_read_is_said_to_be_so(tmp_path):
    tmp_path.chmod(0)
    try:
        if os.access(tmp_path, os.R_OK):
            pytest.skip("this user may read every folder")
        with pytest.raises(PermissionError):
            utils.find_model(str(tmp_path), "models")
    finally:
        tmp_path.chmod(0o755)


# ---- large folders, and any --------------------------------------------------------------------------------


def test_no_folder_inside_is_listed_and_of_many_only_some_are_looked_into(tmp_path, monkeypatch):
    touch(tmp_path, *(f"f{i}/a/b.txt" for i in range(300)), *(f"{i}.txt" for i in range(50)))
    listed, asked, scandir, isfile = [], [], os.scandir, os.path.isfile
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(str(path)) or isfile(path))
    assert "not a model: it holds 0.txt, " in refusal(tmp_path)
    assert {*listed} == {str(tmp_path)}
    assert (
        len({os.path.dirname(path) for path in asked} - {str(tmp_path), str(tmp_path.parent)})
        <= recognise.MOST
    )


POOL = (
    *("hparams.json", "model.ckpt.index", "encoder.json", "vocab.bpe", "config.json", "model.safetensors"),
    *("tokenizer.json", "adapter_config.json", "adapter_model.safetensors", "pytorch_model.bin", "ckpt.pt"),
    *("pytorch_model.bin.index.json", *SHARDS, "optimizer.pt", "training_args.bin", "tf_model.h5", "x.gguf"),
    *("my.safetensors", "model-00001-of-00002.safetensors", "a.txt", "b.txt", "x.zip", "checkpoint"),
)
INSIDE = (
    "",
    "checkpoint-9/",
    "checkpoint-10/",
    "model/",
    "tokenizer/",
    "models--me--mine/",
    "snapshots/abc/",
)


def follow(advice):  # -> path, or None
    """The folder that an advice says to give."""
    words = advice.split()  # no path of these tests has a space
    for start in ("give", "give the latest,", "give one, such as"):
        if advice.startswith(f"{start} ") and "--lora" not in advice and os.path.isdir(words[-1]):
            return words[-1]
    return None


def test_of_any_folder_one_line_is_said_and_what_it_says_to_give_is_nearer_to_a_model(tmp_path, n_fuzz):
    counts = {"a layout": 0, "a folder given": 0, "a command": 0, "other": 0}
    for seed in range(n_fuzz):
        rng = np.random.default_rng(seed)
        root = tmp_path / f"{seed}{rng.choice(['', '/models--me--mine'])}"
        for _ in range(rng.integers(1, 6)):
            touch(root, f"{rng.choice(INSIDE)}{rng.choice(POOL)}")
        folder, before = str(root), []
        while folder:
            before.append(folder)
            try:
                layout, place = utils.find_model(folder, "models")
                assert str(place) == (folder if layout in ("openai", "huggingface") else f"{folder}/x.gguf")
                counts["a layout"] += 1
                break
            except ModelError as error:
                said, advice = str(error), error.advice
            assert said.isprintable() and folder in said and advice, seed
            folder, command = follow(advice), re.search(f"{CONVERT} (.*) OUT_FOLDER", advice)
            assert folder not in before, seed
            counts["a folder given" if folder else "a command" if command else "other"] += 1
            if command and command[1] != "FILE":
                assert os.path.isfile(shlex.split(command[1])[0]), seed
    print(counts)
    assert min(counts.values()) > n_fuzz / 40


# ---- the advice works --------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("form", ["whole", "shards", "nanoGPT"])
def test_the_command_that_is_named_makes_a_folder_that_runs(transformers, tmp_path, form):
    import torch

    folder = huggingface(tmp_path / "out", "model.safetensors")
    state = {name: torch.from_numpy(array.copy()) for name, array in TENSORS.items()}
    options = []
    if form == "shards":
        halves = dict(zip(SHARDS, ([*state][::2], [*state][1::2])))
        for shard, names in halves.items():
            torch.save({name: state[name] for name in names}, folder / shard)
        index = {"weight_map": {name: shard for shard, names in halves.items() for name in names}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    elif form == "whole":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        (folder / "config.json").unlink()
        wide = re.compile(r".*(c_attn|c_proj|c_fc)\.weight")
        state = {name: t.T.contiguous() if wide.fullmatch(name) else t for name, t in state.items()}
        state["lm_head.weight"] = state["transformer.wte.weight"]
        torch.save({"model": state, "model_args": {"n_head": 2}}, folder / "ckpt.pt")
        options = ["--tokenizer", "tiny", "--activation", "gelu_new"]
    for name in BESIDE:
        torch.save({"state": torch.zeros(9)}, folder / name)
    words = shlex.split(refusal(folder).partition("run python -m ")[2])
    assert run([*words[1:-1], str(tmp_path / "new"), *options], words[0]) == 0
    read = weights.flatten(utils.load_encoder_hparams_and_params(str(tmp_path / "new"), "models")[2])
    assert all(np.array_equal(read[name], array) for name, array in ARRAYS.items())
