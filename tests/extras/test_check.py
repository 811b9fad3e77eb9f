"""`--check`: a whole model is said to be whole, file by file; a wrong bit that decides something is found."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, command, lively_params, write_huggingface, write_model

import utils
import weights
from checkpoint import in_openai_layout
from extras.check import check
from files import ModelError

HPARAMS = {"n_vocab": 4000, "n_ctx": 8, "n_embd": 4, "n_head": 2, "n_layer": 1}


@pytest.fixture
def folder(tmp_path):
    arrays = weights.flatten(lively_params(HPARAMS, seed=0))
    return write_model(tmp_path / "model", in_openai_layout(arrays), HPARAMS)


def flip(path, at, bit=0):
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1 << bit
    path.write_bytes(whole)


def lines(model, models_dir="models"):
    return [line.replace(os.sep, "/") for line in check(model and str(model), models_dir)]


def test_the_bundled_model_is_whole():
    done = command("--check", "--model_size", "tiny")
    assert (done.returncode, done.stderr) == (0, b"")
    found = done.stdout.decode().splitlines()
    assert len(found) == 10 and all(line.startswith(str(TINY)) for line in found[:-1])
    assert found[0].endswith("n_vocab 4,000, n_ctx 256, n_embd 192, n_head 6, n_layer 6")
    assert (
        "4,000 tokens: the 256 bytes, 3,743 merges, <|endoftext|>" in found[1] and "76 variables" in found[2]
    )
    assert found[3].endswith("6,973,440 bytes; the checksum of each variable is right")
    assert all("SHA-256 is right" in line for line in found[4:9]) and found[9] == "nothing wrong was found"


def test_a_bit_of_the_weights_that_loading_accepts_is_found(folder):
    data = folder / utils.DATA
    rng = np.random.default_rng(0)
    n_loaded = 0
    for at, bit in zip(rng.integers(data.stat().st_size, size=50), rng.integers(8, size=50)):
        flip(data, at, bit)
        try:
            utils.load_encoder_hparams_and_params(str(folder), "models")
            n_loaded += 1
        except ModelError:
            pass
        with pytest.raises(ModelError, match=r"model\.ckpt.*: .*(checksum|NaN|no trained weight)"):
            lines(folder)
        flip(data, at, bit)
    assert n_loaded > 40 and len(lines(folder)) == 5


def test_what_was_right_is_printed_before_what_is_wrong(folder):
    flip(folder / utils.DATA, 5)
    done = command("--check", "--model_size", str(folder))
    assert done.returncode == 1 and done.stdout.count(b"\n") == 3
    assert (
        done.stderr.count(b"\n") == 1
        and b"do not match their checksum in the index; get a fresh copy" in done.stderr
    )


def test_heads_are_compared_where_the_name_tells_their_number(folder, monkeypatch):
    assert lines(folder)[0].endswith("; n_head stands only here, so nothing confirms it")
    models_dir = folder.parent / "models"
    shutil.copytree(folder, models_dir / "355M")
    monkeypatch.setitem(weights.PRESETS, "355M", HPARAMS)
    monkeypatch.setattr(utils, "KNOWN", {})
    assert lines("355M", models_dir)[0].endswith("n_head 2, n_layer 1")
    (models_dir / "355M" / "hparams.json").write_text(json.dumps(HPARAMS | {"n_head": 4}))
    with pytest.raises(ModelError, match="n_head 4, .*: these are not the sizes of 355M; move it away, and"):
        lines("355M", models_dir)


def test_digests_are_compared_where_they_are_known(folder, monkeypatch):
    models_dir = folder.parent / "models"
    shutil.copytree(folder, models_dir / "124M")
    monkeypatch.setitem(weights.PRESETS, "124M", HPARAMS)
    known = {"124M/hparams.json": (None, "0" * 64)}
    monkeypatch.setattr(utils, "KNOWN", known)
    with pytest.raises(
        ModelError, match="hparams.json: SHA-256 .*, expected 0*: not the released file; move it"
    ):
        lines("124M", models_dir)
    digest = hashlib.sha256((models_dir / "124M" / "hparams.json").read_bytes()).hexdigest()
    known["124M/hparams.json"] = (None, digest)
    assert lines("124M", models_dir)[-2].endswith(f"124M/hparams.json: SHA-256 is right, {digest}")
    assert lines(None, models_dir) == lines("124M", models_dir)  # the default


def test_what_loading_refuses_is_refused_although_its_checksums_are_right(folder):
    arrays = weights.flatten(lively_params(HPARAMS, seed=0))
    arrays["ln_f/b"][0] = np.nan
    write_model(folder, in_openai_layout(arrays), HPARAMS)
    with pytest.raises(ModelError, match="ln_f/b holds NaN"):
        lines(folder)


@pytest.mark.parametrize(
    "model, status, message",
    [
        (
            "124M",
            1,
            b"not downloaded yet, or only in part; python gpt2.py Hello --model_size 124M --models_dir /",
        ),
        ("none", 2, b"model_size is 'none', expected tiny, 124M"),
        ("tests", 1, b"tests: not a model: it holds README.md, "),
    ],
)
def test_what_is_not_there_is_said_and_nothing_is_downloaded(tmp_path, model, status, message):
    done = command("--check", "--model_size", model, "--models_dir", str(tmp_path / "models"))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (status, b"", 1)
    assert message in done.stderr and list(tmp_path.iterdir()) == []


def test_a_prompt_is_refused():
    done = command("Hello", "--check", "--model_size", "tiny")
    assert done.returncode == 2 and b"--check takes no prompt, but 'Hello' is given" in done.stderr


# ---- Hugging Face's layout ---------------------------------------------------------------------------------


def tensors():
    from extras.huggingface.loading import huggingface_name

    arrays = weights.flatten(lively_params(HPARAMS, seed=0))
    return {f"transformer.{huggingface_name(name)}": array for name, array in arrays.items()}


def test_a_folder_of_transformers_is_whole_or_names_what_is_not(tmp_path):
    folder = write_huggingface(tmp_path / "model", tensors(), HPARAMS)
    found = lines(folder)
    assert len(found) == 5 and found[0].endswith(
        "n_head 2, n_layer 1; n_head stands only here, so nothing confirms it"
    )
    unknown = "no digest is known for config.json, merges.txt, model.safetensors, vocab.json"
    assert found[3] == f"{unknown}: a changed number in them would not be found"
    assert "4,000 tokens" in found[1] and "16 arrays: finite" in found[2] and "no checksums" in found[2]
    flip(folder / "model.safetensors", 0)
    with pytest.raises(ModelError, match=r"model\.safetensors: "):
        lines(folder)


def test_a_model_with_a_task_head_is_checked_with_its_head(tmp_path):
    head = {"score.weight": np.ones((2, 4), np.float32)}
    kind = {"architectures": ["GPT2ForSequenceClassification"]}
    folder = write_huggingface(tmp_path / "model", tensors() | head, HPARAMS, **kind)
    assert len(lines(folder)) == 5
    folder = write_huggingface(tmp_path / "headless", tensors(), HPARAMS, **kind)
    with pytest.raises(ModelError, match="it has no score.weight"):
        lines(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="it has an adapter, adapter_config.json, beside a model"):
        lines(folder)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_file_from_the_hub_is_compared_with_its_digest(tmp_path, monkeypatch):
    """The cache names content after its digest: git's for a small file, SHA-256 for a large one."""
    from huggingface_hub import constants

    commit = "0123456789" * 4
    made = write_huggingface(tmp_path / "made", tensors(), HPARAMS)
    repo = tmp_path / "cache" / "models--owner--name"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    for path in made.iterdir():
        content = path.read_bytes()
        small = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        digest = hashlib.sha256(content).hexdigest() if path.suffix == ".safetensors" else small
        (repo / "blobs" / digest).write_bytes(content)
        (snapshot / path.name).symlink_to(repo / "blobs" / digest)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(repo.parent))

    found = lines("owner/name")
    assert sum("git's SHA-1 is right" in line for line in found) == 3
    assert sum("SHA-256 is right" in line for line in found) == 1
    flip(Path(os.path.realpath(snapshot / "model.safetensors")), -1, 4)
    again = "get a fresh copy: hf download owner/name --revision main --force-download"
    with pytest.raises(ModelError, match=f"SHA-256 .*, expected .*: not the released file; {again}"):
        lines("owner/name")
    with pytest.raises(ModelError, match="other/name: not a folder here, and not downloaded yet"):
        lines("other/name")


def test_digests_that_a_download_to_a_folder_leaves_are_compared(tmp_path):
    folder = write_huggingface(tmp_path / "model", tensors(), HPARAMS)
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    weights_file = folder / "model.safetensors"
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    (notes / "model.safetensors.metadata").write_text(f"{'0' * 40}\n{digest}\n1764.5\n")
    assert f"{weights_file}: SHA-256 is right, {digest}" in list(check(str(folder), "models"))
    flip(weights_file, -3)
    with pytest.raises(ModelError, match=r"model\.safetensors: SHA-256 .*, expected .*: not the released"):
        lines(folder)


def test_two_forms_of_a_vocabulary_must_be_the_same(tmp_path, tiny):
    from extras.huggingface import export

    export.save(tmp_path / "model", *tiny)
    assert "4,000 tokens, the same in both of its forms" in lines(tmp_path / "model")[1]
    ids = tmp_path / "model" / "vocab.json"
    right = ids.read_text(encoding="utf-8")
    ids.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json: its tokens and merges are not those of vocab"):
        lines(tmp_path / "model")
    ids.write_text(right, encoding="utf-8")
    path = tmp_path / "model" / "merges.txt"
    first, second, *others = path.read_text(encoding="utf-8").splitlines()[1:]
    path.write_text("\n".join(["#version: 0.2", second, first, *others]), encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json: its tokens and merges are not those of vocab"):
        lines(tmp_path / "model")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_that_leads_nowhere_is_not_taken_for_a_missing_file(tmp_path):
    folder = write_huggingface(tmp_path / "model", tensors(), HPARAMS)
    (folder / "generation_config.json").symlink_to("gone")
    with pytest.raises(ModelError, match=r"generation_config\.json: not a file, or a link that leads now"):
        lines(folder)


def test_the_known_digests_of_the_bundled_model_are_right():
    for name in utils.FILES:
        content = (TINY / name).read_bytes()
        assert utils.KNOWN[f"tiny/{name}"] == (len(content), hashlib.sha256(content).hexdigest())
