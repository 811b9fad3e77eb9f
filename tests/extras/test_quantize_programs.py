"""Weights of few bits in every program: saving, --check, --models, export, scores, pages; errors."""

import re
import shutil

import numpy as np
import pytest
from helpers import assert_same_logits, data_of, run, run_python, write_model
from safetensors.numpy import load_file

import files
import gpt2
import utils
from checkpoint import in_openai_layout
from extras import available, check, huggingface, quantize, scoring
from extras.huggingface import export
from extras.quantized import KINDS
from extras.untied import apart
from files import ModelError
from layouts import QUANTIZED
from weights import flatten

FOX = ["The little fox", "-n", "12"]
STORY = "The King rode to the wood, and there he met an old woman who gave him a ring.\n"
OTHERS = {"config.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"}


@pytest.fixture
def copy(saved, tmp_path):
    """A folder to spoil."""
    return shutil.copytree(saved["int4"], tmp_path / "models" / "copy")


def started(capsys, name, *words):  # -> status, stdout, stderr
    status = run([str(word) for word in words], name)
    return status, *capsys.readouterr()


def text_of(capsys, name, *words):
    status, out, err = started(capsys, name, *words)
    assert status == 0, err
    return out


def assert_same_files(folder, other):
    """The same content; of quantized.safetensors, the same tensors: its notes are in any order."""
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}
    assert {path.name for path in folder.iterdir()} == {*OTHERS, QUANTIZED}
    for name in OTHERS:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    tensors, others = (load_file(place / QUANTIZED) for place in (folder, other))
    assert tensors.keys() == others.keys()
    for name, array in tensors.items():
        assert array.dtype == others[name].dtype and np.array_equal(array, others[name]), name


# ---- the program that saves --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, size", [("int8", "3.7 MB"), ("int4", "2.7 MB"), ("nf4", "5.2 MB")])
def test_the_program_saves_what_save_does_and_says_how_large_it_is(saved, tmp_path, capsys, kind, size):
    out = text_of(capsys, "extras.quantize", "tiny", tmp_path / "out", "--weights", kind)
    n_bytes = (tmp_path / "out" / QUANTIZED).stat().st_size
    assert out == f"tiny -> {tmp_path / 'out'}, {kind}, {size}\n" and files.shown_size(n_bytes) == size
    assert_same_files(tmp_path / "out", saved[kind])


def test_it_runs_as_a_module_and_a_saved_model_can_be_saved_again(saved, tmp_path):
    words = ("-m", "extras.quantize", str(saved["nf4"]), str(tmp_path / "out"), "--weights", "nf4")
    done = run_python(*words)
    assert (done.returncode, done.stderr) == (0, b"")
    assert_same_files(tmp_path / "out", saved["nf4"])
    assert run_python("-m", "extras.quantize", "--help").stdout.decode().startswith(quantize.HELP)


def test_what_takes_long_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "LARGE", 10**6)
    status, _, err = started(capsys, "extras.quantize", "tiny", tmp_path / "out", "--weights", "int8")
    assert (status, err) == (0, "checking tiny, then quantizing it: 14 MB\n")


USAGE = "give a model, a folder and the kind of weights: python -m extras.quantize MODEL OUT_FOLDER"


@pytest.mark.parametrize(
    "words, status, message",
    [
        ([], 2, USAGE),
        (["tiny"], 2, USAGE),
        (["tiny", "out"], 2, USAGE),
        (["tiny", "--weights", "int4"], 2, USAGE),
        (
            ["tiny", "out", "--weights", "int5"],
            2,
            "weights is 'int5', expected int8, int4, nf4; did you mean",
        ),
        (["tiny", "out", "--weights", "Q4_0"], 2, "weights is 'Q4_0', expected int8, int4, nf4"),
        (["tiny", "out", "int4"], 2, "'int4' is one word too many"),
        (["tiny", "full", "--weights", "int4"], 2, "full exists: name a new or an empty folder"),
        (["tiny", "file", "--weights", "int4"], 2, "file exists: name a new or an empty folder"),
        (["tiny", ".", "--weights", "int4"], 2, "exists: name a new or an empty folder"),
        (["nothing", "out", "--weights", "int4"], 2, "model_size is 'nothing', expected tiny"),
        (["damaged", "out", "--weights", "int4"], 1, "do not match their checksum"),
        (["copy", "out", "--weights", "int8"], 2, "weights is 'int8', but the model's are int4 already"),
        (["tiny", "out", "--weights", "int4", "--lora", "nowhere"], 2, "lora is 'nowhere'"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(
    saved, tiny, tmp_path, monkeypatch, capsys, words, status, message
):
    folder = write_model(tmp_path / "damaged", in_openai_layout(flatten(tiny[2])), tiny[1])
    data = folder / "model.ckpt.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    shutil.copytree(saved["int4"], tmp_path / "copy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    found, out, err = started(capsys, "extras.quantize", *words)
    assert (found, out, err.count("\n")) == (status, "", 1) and message in err, err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_empty_is_refused_before_a_model_is_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "note").touch()
    monkeypatch.setattr(export, "load_encoder_hparams_and_params", lambda *arguments: pytest.fail("read"))
    status, _, err = started(capsys, "extras.quantize", "124M", tmp_path, "--weights", "int8")
    assert status == 2 and err.endswith(f"{tmp_path} exists: name a new or an empty folder\n")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    status, _, err = started(capsys, "extras.quantize", "tiny", tmp_path / "out", "--weights", "int8")
    assert status == 1 and "No space left" in err and list(tmp_path.iterdir()) == []


# ---- --check and --models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_says_that_the_checksums_are_right(saved, kind):
    folder = saved[kind]
    sizes, vocabulary, arrays, unknown, end = check.check(str(folder), "none")
    assert sizes.startswith(f"{folder / 'config.json'}: n_vocab 4,000, n_ctx 256, n_embd 192, n_head 6")
    assert vocabulary == f"{folder}: a vocabulary of 4,000 tokens, the same in both of its forms"
    shaped = "finite, with the shapes that config.json gives"
    assert arrays == f"{folder}: 76 arrays: {shaped}; each matches its checksum"
    assert unknown.startswith(f"no digest is known for {', '.join(sorted(OTHERS))}: ")
    assert end == "nothing wrong was found"


def test_a_flipped_bit_is_found_by_a_check_and_by_every_run(copy, capsys):
    path = copy / QUANTIZED
    content = bytearray(path.read_bytes())
    content[-5000] ^= 4
    path.write_bytes(content)
    for words in (["--check", "-m", copy], [*FOX, "-m", copy]):
        status, _, err = started(capsys, "cli", *words)
        assert status == 1 and err.count("\n") == 1
        assert re.search(rf"{path}: damaged: \S+ does not match its checksum; get a fresh copy", err)


def test_a_saved_model_is_listed_if_it_loads(saved, copy, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def is_listed():
        rows = [line.split(maxsplit=3) for line in available.lines(copy.parent)]
        found = {place: f"{n} {unit}" for _, n, unit, place in rows}
        try:
            utils.load_encoder_hparams_and_params(str(copy), "none")
        except ModelError:
            assert str(copy) not in found
            return False
        assert found[str(copy)] == files.shown_size((copy / QUANTIZED).stat().st_size)
        return True

    assert is_listed()
    content = (copy / QUANTIZED).read_bytes()
    for wrong in (content[:1000], content[:-1], content + b"0", b"", (copy / "vocab.json").read_bytes()):
        (copy / QUANTIZED).write_bytes(wrong)
        assert not is_listed()
    (copy / QUANTIZED).write_bytes(content)
    for beside in ("model.safetensors", "model.safetensors.index.json", "adapter_config.json"):
        (copy / beside).write_text("{}")
        assert not is_listed()
        (copy / beside).unlink()
    (copy / "vocab.json").unlink()
    assert is_listed()  # tokenizer.json has the same
    (copy / "tokenizer.json").unlink()
    assert not is_listed()


# ---- other programs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside", ["model.safetensors", "model.safetensors.index.json", "adapter_config.json"]
)
def test_two_kinds_of_weights_in_one_folder_are_refused(copy, capsys, beside):
    (copy / beside).write_text("{}")
    line = f"gpt2.py: {copy}: it has {QUANTIZED}, and {beside} beside it; give each a folder of its own\n"
    assert started(capsys, "cli", *FOX, "-m", copy) == (1, "", line)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_the_float32_model_that_it_stands_for(saved, tiny, tmp_path, capsys, kind):
    text_of(capsys, "extras.huggingface.export", saved[kind], tmp_path / "out")
    text_of(capsys, "extras.huggingface.export", "tiny", tmp_path / "other", "--weights", kind)
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name
    encoder, hparams, params = huggingface.load(tmp_path / "out")
    quantized = apart(quantize.quantize(tiny[2], kind))
    for name, array in apart(params).items():
        assert type(array) is np.ndarray and array.dtype == np.float32
        np.testing.assert_array_equal(array, quantized[name][:], err_msg=name)
    ids = encoder.encode(STORY)
    wanted = gpt2.gpt2(ids, **huggingface.load(saved[kind])[2], n_head=6)
    assert_same_logits(gpt2.gpt2(ids, **params, n_head=hparams["n_head"]), wanted)
    again = quantize.quantize(params, kind)
    difference = max(np.abs(leaf[:] - quantized[name][:]).max() for name, leaf in apart(again).items())
    assert difference < (1e-6 if kind == "int8" else 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_of_the_weights_asked_for(saved, tiny, tmp_path, capsys, kind):
    (tmp_path / "story.txt").write_text(STORY)
    encoder, hparams, params = tiny
    surprises = scoring.nats(
        scoring.document_ids(STORY, encoder), quantize.quantize(params, kind), hparams["n_head"]
    )
    score = text_of(capsys, "extras.scoring", tmp_path / "story.txt", "-m", "tiny", "--weights", kind)
    assert f"nats a token   {surprises.astype(float).mean():.3f}\n" in score
    assert text_of(capsys, "extras.scoring", tmp_path / "story.txt", "-m", saved[kind]) == score
    plain = text_of(capsys, "extras.scoring", tmp_path / "story.txt", "-m", "tiny")
    assert plain != score


def test_a_picture_is_of_the_weights_asked_for(saved, tmp_path, capsys):
    pictures = [tmp_path / f"{i}.svg" for i in range(3)]
    options = (["-m", "tiny", "--weights", "int4"], ["-m", saved["int4"]], ["-m", "tiny"])
    texts = []
    for path, its in zip(pictures, options):
        text = text_of(capsys, "extras.picture", STORY[:30], path, "-n", "2", *its)
        texts.append(text.replace(path.name, ""))
    assert texts[0] == texts[1] != texts[2]


def test_a_page_is_of_the_weights_asked_for(saved, tmp_path, capsys):
    pages = [tmp_path / f"{i}.html" for i in range(3)]
    options = (["-m", "tiny", "--weights", "int4"], ["-m", saved["int4"]], ["-m", "tiny"])
    for path, its in zip(pages, options):
        text_of(capsys, "extras.page.command", STORY[:30], "--out", path, "-n", "2", *its)
    first, second, plain = ([data_of(path.read_text("utf-8"))[n] for n in PARTS] for path in pages)
    assert first == second != plain


PARTS = ("ids", "arrays", "twin", "cuts")
PROGRAMS = {
    "cli": FOX,
    "extras.scoring": ["story.txt", "-m", "124M"],
    "extras.picture": ["a fox", "fox.svg", "-m", "124M"],
    "extras.page.command": ["a fox", "--out", "fox.html", "-m", "124M"],
    "extras.huggingface.export": ["124M", "out"],
    "extras.huggingface.gguf_files": ["124M", "out.gguf"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unknown_kind_of_weights_is_refused_before_anything_is_done(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "story.txt").write_text(STORY)
    monkeypatch.chdir(tmp_path)
    words = [*PROGRAMS[name], "--models_dir", "none", "--weights", "int2"]
    status, out, err = started(capsys, name, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "weights is 'int2', expected int8, int4, nf4; did you mean int" in err
    assert [path.name for path in tmp_path.iterdir()] == ["story.txt"]


@pytest.mark.parametrize("option", ["--check", "--models", "--version"])
def test_a_report_has_no_use_for_weights(capsys, option):
    status, out, err = started(capsys, "cli", option, "--weights", "int8")
    assert (status, out) == (2, "") and f"{option} and --weights cannot be used together" in err
