"""Which models run here and now: each line is a model that runs, and each model that runs has a line."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, lively_params, write_huggingface, write_model

import utils
import weights
from checkpoint import in_openai_layout
from extras import available
from extras.huggingface.loading import huggingface_name

HPARAMS = {"n_vocab": 4000, "n_ctx": 16, "n_embd": 4, "n_head": 2, "n_layer": 1}
COMMIT = "0123456789" * 4


def listed(models_dir="none"):  # -> {name: (size, Path)}
    """The lines, taken apart."""
    rows = [line.split(maxsplit=3) for line in available.lines(models_dir)]
    return {name: (f"{n} {unit}", Path(place)) for name, n, unit, place in rows}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder, an empty cache of the hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail("asked the network"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def arrays():
    return weights.flatten(lively_params(HPARAMS, seed=0))


def openai(folder):
    """A small model in OpenAI's layout."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return write_model(folder, in_openai_layout(arrays()), HPARAMS)


def tensors():
    return {f"transformer.{huggingface_name(name)}": array for name, array in arrays().items()}


def huggingface(folder, **config):
    """A small model in the layout of transformers."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return write_huggingface(folder, tensors(), HPARAMS, **config)


def in_cache(repo, model, revision="main", commit=COMMIT):  # -> Path
    """Put a folder into the hub's cache, as if it had been downloaded."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    (cache / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
    (cache / "refs" / revision).write_text(commit)
    return Path(shutil.copytree(model, cache / "snapshots" / commit))


# ---- what is listed ----------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_read_hides_no_model(tmp_path, monkeypatch):
    def refuse(path, pattern):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.rglob", refuse)
    assert available.files_below(tmp_path) == []


def test_the_bundled_model_is_always_there():
    assert list(available.lines("none")) == [f"tiny     7 MB  {TINY}"]
    assert listed(TINY.parent)["tiny"] == ("7 MB", TINY)


def test_one_of_openais_is_listed_once_it_is_complete(here):
    folder = openai(here / "models" / "124M")
    assert listed("models")["124M"][1] == folder
    assert "124M" not in listed("elsewhere") and len(listed("models")) == 2
    for name in utils.FILES:
        content = (folder / name).read_bytes()
        (folder / name).rename(folder / f"{name}.tag.part")
        assert [*listed("models")] == ["tiny"], name
        (folder / name).write_bytes(content[: len(content) // 2])
        assert [*listed("models")] == ["tiny"], name
        (folder / name).write_bytes(content)
    assert "124M" in listed("models")


def test_columns_are_aligned(here):
    openai(here / "models" / "124M")
    openai(here / "models" / "a longer name")
    huggingface(here / "models" / "b")
    places = [TINY, *(here / "models" / name for name in ("124M", "a longer name", "b"))]
    lines = list(available.lines("models"))
    assert len(lines) == len(places)
    assert {line.index(str(place)) for line, place in zip(lines, places)} == {
        len("'models/a longer name'") + 11
    }
    assert lines[2].startswith("'models/a longer name'")  # as a shell wants it


@pytest.mark.parametrize("make", [openai, huggingface])
def test_other_folders_go_by_the_shorter_of_two_paths(here, monkeypatch, make):
    folder = make(here / "models" / "mine")
    assert listed("models")["models/mine"][1] == folder
    (here / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.chdir(here / "a" / "b" / "c")
    shorter = min("../../../models/mine", folder.as_posix(), key=len)
    assert listed(here / "models")[shorter][1] == folder
    monkeypatch.chdir(here / "models")
    assert listed(".")["mine"][1] == folder


def test_a_folder_with_one_of_our_names_gets_a_name_of_its_own(here):
    folder = openai(here / "tiny")
    names = listed(".")
    assert names["tiny"][1] == TINY and names["./tiny"][1] == folder
    assert utils.find_model("./tiny", ".")[1] == Path("tiny")


def test_a_model_in_shards_is_listed_if_all_are_there(here):
    from safetensors.numpy import load_file, save_file

    folder = huggingface(here / "models" / "sharded")
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {f"{i}.safetensors": dict(list(whole.items())[i::2]) for i in range(2)}
    for name, part in shards.items():
        save_file(part, folder / name)
    index = {"weight_map": {tensor: name for name, part in shards.items() for tensor in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    size, place = listed("models")["models/sharded"]
    assert place == folder and size == "65 KB"  # 4 (4000 · 4 + …) bytes, however they lie in files
    (folder / "1.safetensors").unlink()
    assert [*listed("models")] == ["tiny"]


def test_what_is_no_model_is_left_out(here):
    models = here / "models"
    (models / "empty").mkdir(parents=True)
    (models / "file").touch()
    if os.name != "nt":
        (models / "gone").symlink_to("nowhere")
    pickle = huggingface(models / "pickle")
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    huggingface(models / "bert", model_type="bert")
    huggingface(models / "head", architectures=["GPT2ForSequenceClassification"])
    (huggingface(models / "adapter") / "adapter_config.json").write_text("{}")
    (huggingface(models / "deep") / "config.json").write_text("[" * 100_000)
    (huggingface(models / "both") / "hparams.json").write_text("{}")
    assert [*listed("models")] == ["tiny"]
    assert [*listed(models / "file")] == ["tiny"]


def test_a_folder_that_cannot_be_read_is_left_out(here, monkeypatch):
    openai(here / "models" / "mine")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert [*listed("models")] == ["tiny"]


def test_no_weight_is_read(here, monkeypatch):
    openai(here / "models" / "124M")
    in_cache("me/mine", huggingface(here / "model"))
    monkeypatch.setattr(weights, "to_float32", lambda *arguments: pytest.fail("read a weight"))
    assert {*listed("models")} == {"tiny", "124M", "me/mine"}


# ---- the cache of the hub ----------------------------------------------------------------------------------


def test_of_the_hubs_cache_what_is_complete_is_listed_by_its_name(here):
    from huggingface_hub import constants

    model = huggingface(here / "model")
    place = in_cache("openai-community/gpt2", model)
    other = in_cache("me/mine", model, "refs/pr/2", "a" * 40)
    in_cache("google/bert", huggingface(here / "bert", model_type="bert"))
    (in_cache("me/half", model) / "model.safetensors").unlink()
    (in_cache("me/wordless", model) / "merges.txt").unlink()
    Path(constants.HF_HUB_CACHE, "models--me--lost").mkdir()
    Path(constants.HF_HUB_CACHE, "CACHEDIR.TAG").touch()
    data = in_cache("me/data", model).parent.parent
    data.rename(data.with_name("datasets--me--data"))
    assert {name: found[1] for name, found in listed().items()} == {
        "tiny": TINY,
        "me/mine@refs/pr/2": other,
        "openai-community/gpt2": place,
    }


def test_a_name_without_an_owner_is_left_out_if_it_would_not_run(here):
    model = huggingface(here / "model")
    in_cache("gpt2", model)  # by an old program: --model_size gpt2 means openai-community/gpt2
    in_cache("mygpt", model)
    assert [*listed()] == ["tiny"]


def test_a_damaged_cache_costs_only_what_is_damaged(here):
    model = huggingface(here / "model")
    in_cache("me/whole", model)
    (in_cache("me/lost", model).parent.parent / "refs" / "main").write_text("b" * 40)
    (in_cache("me/noise", model).parent.parent / "refs" / "main").write_bytes(b"\xff\0")
    (in_cache("me/empty", model).parent.parent / "refs" / "main").write_text("")
    linked = in_cache("me/linked", model) / "config.json"
    linked.unlink()
    if os.name != "nt":  # there, links need a privilege
        linked.symlink_to("nowhere")
    shutil.rmtree(in_cache("me/flat", model))
    assert [*listed()] == ["tiny", "me/whole"]


def test_without_the_hubs_library_its_names_are_left_out(here, monkeypatch):
    in_cache("me/mine", huggingface(here / "models" / "mine"))
    mine = "models/mine"
    assert [*listed("models")] == ["tiny", mine, "me/mine"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert [*listed("models")] == ["tiny", mine]
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert [*listed("models")] == ["tiny"]


# ---- whatever happens to a file ----------------------------------------------------------------------------


def damage(folder, rng):  # -> kind
    """Do one thing to one file of a model."""
    path = folder / rng.choice(sorted(os.listdir(folder)))
    content = path.read_bytes()
    kind = rng.choice(["nothing", "deleted", "cut", "another's", "folder", "noise"])
    if kind == "cut":
        path.write_bytes(content[: rng.integers(len(content))])
    elif kind == "another's":
        path.write_bytes((folder / rng.choice(sorted(os.listdir(folder)))).read_bytes())
    elif kind == "noise" and path.suffix in (".json", ".txt", ".bpe"):
        at = rng.integers(len(content))
        path.write_bytes(content[:at] + rng.bytes(3) + content[at + 3 :])
    elif kind in ("deleted", "folder"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
    return str(kind)


def test_a_model_is_listed_if_and_only_if_it_loads(here, n_fuzz):
    sources = [openai(here / "openai"), huggingface(here / "huggingface")]
    counts = {"listed": 0, "left out": 0}
    for i in range(n_fuzz):
        rng = np.random.default_rng(i)
        folder = Path(shutil.copytree(sources[i % 2], here / "models" / "mine"))
        kind = damage(folder, rng)
        try:
            utils.load_encoder_hparams_and_params(str(folder), "models")
            loads = True
        except (ValueError, OSError):
            loads = False
        names = [*available.candidates("models")]
        assert names[-1] == "models/mine"
        found = [line for line in available.lines("models") if "mine" in line]
        assert len(found) == loads, (i, kind)
        counts["listed" if loads else "left out"] += 1
        counts[kind] = counts.get(kind, 0) + 1
        shutil.rmtree(folder)
    print(counts)
    assert len(counts) == 8 and min(counts.values()) >= n_fuzz / 20
