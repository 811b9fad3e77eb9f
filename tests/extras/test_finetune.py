"""extras/finetune.py: a model learns from a text, and says what it does and what goes wrong."""

import errno
import inspect
import itertools
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    ROOT,
    assert_same_logits,
    command,
)
from learning import (
    FAST,
    FILES,
    HPARAMS,
    STATE,
    arrays_in,
    assert_same_run,
    finetune,
    logits,
    loss_of,
    loss_of_ids,
    one_line,
    save_beginless,
    save_model,
    snapshot,
    start,
    story,
)

import gpt2
import program
import utils
from extras import finetune as program_under_test
from extras import gradients, learners, quantize, resume, scoring
from extras import learning as learning_loop
from extras.huggingface import adapter_export, adapters, export
from weights import flatten


def documents_in(*paths):  # -> list of str
    return [document for path in paths for document in scoring.read_documents(path)]


# ---- what it learns ----------------------------------------------------------------------------------------


def test_the_loss_of_the_text_and_of_a_new_one_of_its_kind_is_lower(finished, words, text, model, tmp_path):
    new = tmp_path / "new.txt"
    new.write_text(story(30, seed=9))
    for path in (text, new):
        assert loss_of(path, model, finished) < loss_of(path, model) - 0.05
    assert {path.name for path in finished.iterdir()} == FILES


def test_lora_gives_the_logits_of_what_has_learned(words, model, tmp_path, monkeypatch):
    seen, write = [], learners.LowRankAdapter.write

    def noted(self, *arguments):
        write(self, *arguments)
        seen.append(self)

    monkeypatch.setattr(learners.LowRankAdapter, "write", noted)
    assert start(words, tmp_path / "out") == 0
    encoder, hparams, _ = utils.open_model(str(model), None)
    params = seen[-1].params()
    ours = gpt2.gpt2(encoder.encode("The fox met a hen."), **params, n_head=hparams["n_head"])
    assert_same_logits(logits(model, tmp_path / "out"), ours)
    assert np.abs(ours - logits(model)).max() > 1e-3 * np.abs(ours).max()
    done = command("The fox", "-n", "5", "-m", str(model), "--lora", str(tmp_path / "out"))
    assert done.returncode == 0 and done.stderr == b"" and len(done.stdout) > 5


def test_full_writes_a_model_that_runs_in_which_every_array_has_learned(words, text, model, tmp_path):
    out = tmp_path / "out"
    assert start(words, out, "--full") == 0
    assert loss_of(text, out) < loss_of(text, model) - 1
    _, hparams, params = utils.load_encoder_hparams_and_params(str(out), None)
    base = flatten(utils.load_encoder_hparams_and_params(str(model), None)[2])
    assert flatten(params).keys() == base.keys()
    for name, array in flatten(params).items():
        assert array.shape == base[name].shape and not np.array_equal(array, base[name]), name
    done = command("The fox", "-n", "5", "-m", str(out))
    assert done.returncode == 0 and done.stderr == b"" and len(done.stdout) > 5
    before = snapshot(out)
    assert start(words, out, "--full") == 0 and snapshot(out) == before


@pytest.mark.parametrize("matrices", ["all", "c_proj", "c_fc,c_attn", "c_attn, c_fc", "qv"])
def test_other_matrices_learn_too(words, model, tmp_path, matrices):
    assert start(words, tmp_path / "out", "--matrices", matrices) == 0
    found = adapters.load(tmp_path / "out", utils.open_model(str(model), None)[1])
    assert sorted(found.updates) == sorted(learners.adapted(HPARAMS, matrices))
    assert np.abs(logits(model, tmp_path / "out") - logits(model)).max() > 1e-4


def test_an_adapter_learned_beside_int8_weights_helps_the_float32_model_too(words, text, model, tmp_path):
    assert start(words, tmp_path / "out", "--weights", "int8") == 0
    assert loss_of(text, model, tmp_path / "out") < loss_of(text, model) - 0.05
    close = logits(model, tmp_path / "out", "int8") - logits(model, tmp_path / "out")
    assert 0 < np.abs(close).max() < 0.1 * np.abs(logits(model)).max()


def test_the_bundled_model_learns_as_the_page_of_help_says(tmp_path):
    example = (
        inspect.getdoc(program_under_test).split("python -m extras.finetune ")[1].splitlines()[0].split()
    )
    words = [tmp_path / "log" if word == "out/log" else word for word in example]
    words = [ROOT / word if word == "training/ships-log.txt" else word for word in words]
    assert finetune(*words, "--n_steps=3", "--batch=2", "--window=64", "--learning_rate=0.01") == 0
    held_out = ROOT / "training" / "ships-log-held-out.txt"
    assert loss_of(held_out, "tiny", tmp_path / "log") < loss_of(held_out, "tiny") - 0.05


# ---- texts -------------------------------------------------------------------------------------------------


def test_several_texts_are_read_end_to_end_and_documents_apart(words, text, tmp_path, monkeypatch):
    encoder = utils.open_model(str(words[2]), None)[0]
    parts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    parts[0].write_text("One.\n<|endoftext|>\nTwo.\n")
    parts[1].write_text("Three.\n")
    ids = program_under_test.to_ids(documents_in(*parts), encoder, special=False)
    assert encoder.decode(ids.tolist()) == "<|endoftext|>One.\n<|endoftext|>Two.\n<|endoftext|>Three.\n"
    assert ids.dtype == int
    parts[1].write_text(story(60, seed=2))
    assert finetune(text, *parts, tmp_path / "out", *words[1:]) == 0


def test_a_tenth_of_the_text_is_held_out_and_nothing_is_learned_from_it():
    ids = np.arange(1000)
    learned, held_out = program_under_test.split(ids)
    assert learned.tolist() == list(range(900)) and held_out.tolist() == list(range(900, 1000))
    assert [len(part) for part in program_under_test.split(np.arange(5))] == [3, 2]


def test_windows_lie_in_the_text_and_targets_are_the_next_ids():
    ids, rng = np.arange(100, 150), np.random.default_rng(0)
    firsts = set()
    for _ in range(100):
        inputs, targets = learning_loop.random_windows(ids, 4, 16, rng)
        assert inputs.shape == targets.shape == (4, 16) and (targets == inputs + 1).all()
        assert (np.diff(inputs) == 1).all() and inputs.min() >= 100 and targets.max() <= 149
        firsts |= {*inputs[:, 0]}
    assert firsts == {*range(100, 134)}  # each place at which a window fits
    for n_seq, n in ((16, 3), (49, 1), (300, 1), (1, 16)):
        inputs, targets = program_under_test.even_windows(ids, n_seq)
        assert inputs.shape == (n, min(n_seq, 49)) and (targets == inputs + 1).all()
        assert inputs[0, 0] == 100 and (n == 1 or targets[-1, -1] == 149)


def test_another_text_is_held_out_if_it_is_given(words, text, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text(story(40, seed=5))
    assert start(words, tmp_path / "out", "--held_out", other) == 0
    first = re.search(r"step 0: held out ([\d.]+)", capsys.readouterr().out)[1]
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(words[2]), None)
    ids = np.array(scoring.document_ids(other.read_text(), encoder))
    inputs, targets = program_under_test.even_windows(ids, 16)
    loss, _ = gradients.loss_and_gradients(inputs, targets, params, hparams["n_head"], trainable=())
    assert float(first) == pytest.approx(loss, abs=6e-4)


def test_the_same_ids_held_out_differently_are_another_run(words, tmp_path, capsys):
    """Five documents and one held out, or six documents: the ids are the same, what is held out is not."""
    documents = [story(12, seed=seed) for seed in range(6)]
    whole, most, last = (tmp_path / name for name in ("whole", "most", "last"))
    whole.write_text("<|endoftext|>\n".join(documents))
    most.write_text("<|endoftext|>\n".join(documents[:5]))
    last.write_text(documents[5])
    assert finetune(most, tmp_path / "out", *words[1:], "--held_out", last) == 0
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert finetune(whole, tmp_path / "out", *words[1:]) == 2
    one_line(capsys, 2, "was begun with another text or vocabulary")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("n_sentences, window", [(4, "16"), (4, "300"), (12, "31"), (120, "300")])
def test_short_texts_and_long_windows_fit(words, tmp_path, n_sentences, window, capsys):
    short = tmp_path / "short.txt"
    short.write_text(story(n_sentences))
    more = ["--n_steps", "3", "--window", window, "--batch", "3"]
    assert finetune(short, tmp_path / "out", *words[1:3], *more) == 0, capsys.readouterr().err
    assert arrays_in(tmp_path / "out")


def test_a_model_that_sees_8_tokens_learns(text, tmp_path):
    model = save_model(tmp_path / "model", n_ctx=8)
    assert finetune(text, tmp_path / "out", "-m", model, "--n_steps=20", "--learning_rate=0.02") == 0
    assert loss_of(text, model, tmp_path / "out") < loss_of(text, model)


def test_a_model_without_a_token_that_begins_a_document_learns(text, tmp_path):
    model = save_beginless(tmp_path / "model")
    encoder = utils.open_model(str(model), None)[0]
    ids = program_under_test.to_ids(documents_in(text), encoder, special=False)
    assert encoder.begin_id is None and encoder.decode(ids.tolist()) == text.read_text()
    assert finetune(text, tmp_path / "out", "-m", model, *FAST) == 0
    assert loss_of_ids(ids, model, tmp_path / "out") < loss_of_ids(ids, model) - 0.02


def test_what_is_written_like_a_special_token_is_said_and_read_as_one_with_special(words, tmp_path, capsys):
    text = tmp_path / "chat.txt"
    text.write_text("".join(f"Hen: {line}<|endoftext|>" for line in story(60).splitlines()) + "\n")
    assert start([text, *words[1:]], tmp_path / "out") == 0
    assert "special" in capsys.readouterr().err
    assert start([text, *words[1:]], tmp_path / "special", "--special") == 0
    assert capsys.readouterr().err == ""
    assert arrays_in(tmp_path / "out") != arrays_in(tmp_path / "special")


def test_line_ends_of_windows_are_said(words, text, tmp_path, capsys):
    other = tmp_path / "windows.txt"
    other.write_bytes(text.read_bytes().replace(b"\n", b"\r\n"))
    assert start([other, *words[1:]], tmp_path / "out") == 0
    assert re.search(r"(?i)windows|\\r|line end", capsys.readouterr().err)


# ---- what goes wrong ---------------------------------------------------------------------------------------

USAGE = "give a text, or several, and a folder: python -m extras.finetune TEXT... OUT_FOLDER"
FEW = "tokens to learn from are too few: 64 are needed"
CHOICES = "it must be c_attn, c_proj, c_fc"
WRONG = [
    ([], 2, USAGE),
    (["text.txt"], 2, USAGE),
    (["--n_steps", "3"], 2, USAGE),
    (["nowhere.txt", "out"], 1, "nowhere.txt"),
    (["text.txt", "nowhere.txt", "out"], 1, "nowhere.txt"),
    (["folder", "out"], 1, "folder"),
    (["latin.txt", "out"], 2, "latin.txt.*UTF-8"),
    (["empty.txt", "out"], 2, "empty.txt is empty"),
    (["text.txt", "empty.txt", "out"], 2, "empty.txt is empty"),
    (["short.txt", "out"], 2, f"short.txt: 63 {FEW}"),
    (["text.txt", "file"], 2, "file is a file"),
    (["text.txt", "file/out"], 1, "file/out"),
    (["text.txt", "folder"], 2, "folder holds note: give an empty folder, or a new one"),
    (["text.txt", "."], 2, "holds .*: give an empty folder, or a new one"),
    (["text.txt", "model"], 2, "model holds .*: give an empty folder"),
    (["text.txt", "/proc/out"], 1, "/proc"),
    (["text.txt", "a" * 300], 1, "too long"),
    (["text.txt", "out", "--n_steps", "0"], 2, "n_steps is 0: it must be from 1 to"),
    (["text.txt", "out", "--n_steps", "1.5"], 2, "n_steps is '1.5': it must be a whole number"),
    (["text.txt", "out", "--dropout", "1"], 2, "dropout is 1.0: it must be from 0 to 0.9"),
    (["text.txt", "out", "--dropout", "-0.1"], 2, "dropout is -0.1: it must be from 0"),
    (["text.txt", "out", "--rank", "0"], 2, "rank is 0: it must be from 1 to"),
    (["text.txt", "out", "--alpha", "0"], 2, "alpha is 0.0: it must be from"),
    (["text.txt", "out", "--alpha", "-16"], 2, "alpha is -16.0: it must be from"),
    (["text.txt", "out", "--batch", "0"], 2, "batch is 0: it must be from 1 to"),
    (["text.txt", "out", "--window", "1"], 2, "window is 1: it must be from 2 to"),
    (["text.txt", "out", "--learning_rate", "-1"], 2, "learning_rate is -1.0: it must be from"),
    (["text.txt", "out", "--learning_rate", "0"], 2, "learning_rate is 0.0: it must be from"),
    (["text.txt", "out", "--learning_rate", "11"], 2, "learning_rate is 11.0: it must be from"),
    (["text.txt", "out", "--learning_rate", "nan"], 2, "learning_rate is 'nan': it must be a number"),
    (["text.txt", "out", "--matrices", "attention"], 2, f"matrices is 'attention': {CHOICES}"),
    (["text.txt", "out", "--matrices", "qv,c_fc"], 2, f"matrices is 'qv,c_fc': {CHOICES}"),
    (["text.txt", "out", "--matrices", ""], 2, f"matrices is '': {CHOICES}"),
    (["text.txt", "out", "--full", "--weights", "int8"], 2, "leave out --full, or --weights"),
    (["text.txt", "out", "--weights", "int5"], 2, "weights is 'int5', expected int8, int4, nf4"),
    (["text.txt", "out", "-m", "nothing"], 2, "model_size is 'nothing', expected tiny"),
    (["text.txt", "out", "-m", "quantized", "--full"], 2, "quantized"),
    (["text.txt", "out", "--held_out", "nowhere.txt"], 1, "nowhere.txt"),
    (["text.txt", "out", "--held_out", "empty.txt"], 2, "empty.txt is empty"),
    (
        ["text.txt", "out", "--held_out", "one.txt", "-m", "beginless"],
        2,
        "the held-out text has 1 tokens?: 2",
    ),
    (["text.txt", "damaged"], 1, "damaged/training.npz: damaged, or not the state of a run; start again"),
    (["text.txt", "cut"], 1, "cut/training.npz: damaged, or not the state of a run; start again"),
    (["text.txt", "out", "--steps", "3"], 2, "there is no option '--steps': did you mean --n_steps"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, model, text, finished):
    """A folder with all that can be wrong."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(model, place / "model")
    save_beginless(place / "beginless")
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(model), None)
    quantize.save(place / "quantized", encoder, hparams, quantize.quantize(params, "int8"))
    (place / "text.txt").write_text(text.read_text())
    (place / "latin.txt").write_bytes("Füchse. ".encode("latin-1") * 50)
    (place / "empty.txt").touch()
    (place / "one.txt").write_text("a")
    (place / "short.txt").write_text("a" * 69)  # 70 tokens, of which 7 are held out
    (place / "file").touch()
    (place / "folder").mkdir()
    (place / "folder" / "note").touch()
    for name, spoil in (
        ("damaged", lambda data: b"x" * len(data)),
        ("cut", lambda data: data[: len(data) // 2]),
    ):
        (place / name).mkdir()
        (place / name / STATE).write_bytes(spoil((finished / STATE).read_bytes()))
    return place


@pytest.mark.parametrize("argv, status, message", WRONG)
def test_what_goes_wrong_is_one_line_and_changes_nothing(place, monkeypatch, capsys, argv, status, message):
    monkeypatch.chdir(place)
    before = snapshot(place)
    own = {"-m": "model", "--n_steps": "3", "--window": "16"}
    usual = [word for option, value in own.items() if option not in argv for word in (option, value)]
    assert finetune(*argv, *usual) == status
    one_line(capsys, status, message)
    assert snapshot(place) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_without_the_right_to_write_is_one_line(words, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o555)
    assert start(words, tmp_path / "locked" / "out") == 1
    one_line(capsys, 1, "Permission")


def test_numbers_of_the_text_may_begin_with_a_dash_nowhere(words, tmp_path, capsys):
    assert start(words, tmp_path / "out", "-5 degrees") == 2
    assert "begins with a dash" in capsys.readouterr().err and not (tmp_path / "out").exists()


WRITES = (
    (resume.npy, "write_array"),
    (adapter_export, "write_json"),
    (adapter_export, "write_tensors"),
    (os, "replace"),
)


def test_without_room_on_the_disk_the_older_adapter_stays_whole_and_the_run_continues(
    finished, words, tmp_path, monkeypatch, capsys
):
    """Every write of the first three measurements fails once, half done."""
    good, n_writes, fails_at = set(), 0, None

    def failing(work):
        def fails(*arguments, **options):
            nonlocal n_writes
            n_writes += 1
            if n_writes - 1 == fails_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return work(*arguments, **options)

        return fails

    for owner, name in WRITES:
        monkeypatch.setattr(owner, name, failing(getattr(owner, name)))
    write = learners.LowRankAdapter.write

    def noted(self, folder, *arguments):
        write(self, folder, *arguments)
        good.add(tuple(arrays_in(Path(folder)).items()))

    monkeypatch.setattr(learners.LowRankAdapter, "write", noted)
    failed = 0
    for fails_at in (12, 13, 14, 15, 16, 17, 18, 24, 31, 32, 33, 34, 50, 52):
        out, n_writes = tmp_path / f"{fails_at}", 0
        assert start(words, out) == 1
        printed, err = capsys.readouterr()
        assert err == "extras.finetune: [Errno 28] No space left on device\n", err
        failed += 1
        n_writes, at, fails_at = 0, fails_at, None
        left = {path.name for path in out.iterdir()}
        assert left <= FILES, left  # nothing unfinished
        if (out / "adapter_config.json").exists():
            assert tuple(arrays_in(out).items()) in good, at
        if at in (13, 16, 34):
            assert start(words, out) == 0
            assert_same_run(out, finished)
            capsys.readouterr()
    assert failed == 14


def test_without_room_for_a_whole_model_the_older_one_stays_whole(words, tmp_path, monkeypatch, capsys):
    write, n_calls = export.write_tensors, itertools.count()

    def fails(path, *arguments):
        if next(n_calls) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *arguments)

    monkeypatch.setattr(export, "write_tensors", fails)
    assert start(words, tmp_path / "out", "--full") == 1
    one_line(capsys, 1, "No space left")
    assert np.isfinite(logits(tmp_path / "out")).all()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


# ---- what it says ------------------------------------------------------------------------------------------


def test_the_help_gives_the_true_defaults_and_fits_a_terminal():
    parameters = inspect.signature(program_under_test.command).parameters
    said = dict(re.findall(r"(?m)^(?:-\w, )?--(\w+) (\S+) ", program_under_test.HELP))
    defaults = {name: p.default for name, p in parameters.items() if type(p.default) in (int, float, str)}
    del defaults["models_dir"]
    for name, value in defaults.items():
        assert said[name] == (f"{value:g}" if isinstance(value, float) else str(value)), name
    assert float(said["learning_rate"]) == program_under_test.RATE
    assert f"{program_under_test.FULL_RATE:g} with --full" in program_under_test.HELP
    named = {*re.findall(r"(?m)^(?:-\w, )?--(\w+)", program_under_test.HELP)}
    assert named == parameters.keys() - {"texts_and_folder"}
    assert max(map(len, (program_under_test.HELP + program.END_OF_HELP).splitlines())) <= 80


def test_the_command_it_advises_runs(finished, words, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "a folder")
    assert start(words, out) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith('try it: python gpt2.py "PROMPT" --model_size ')
    import shlex

    done = command(*shlex.split(line.split("gpt2.py ")[1]), "-n", "3")
    assert done.returncode == 0 and done.stderr == b""


def test_each_measurement_is_said_with_a_continuation_of_the_held_out_text(words, tmp_path, capsys):
    assert start(words, tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"step (\d+): ", line)[1] for line in lines[:-2:2]] == [str(n) for n in range(0, 21, 2)]
    ids = program_under_test.to_ids(documents_in(words[0]), utils.open_model(str(words[2]), None)[0], False)
    begin = utils.open_model(str(words[2]), None)[0].decode(program_under_test.split(ids)[1][:16].tolist())
    for line in lines[1:-2:2]:
        assert line.startswith(f"    {begin.encode('unicode_escape').decode()} | "), line
    assert all(line.isprintable() for line in lines)


def test_in_a_thread_it_runs_without_a_signal_handler(words, tmp_path):
    import threading

    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(start(words, tmp_path / "out")))
    thread.start()
    thread.join()
    assert statuses == [0]
