"""extras/learning.py: a run that was stopped continues to the same bits, and its folder has what was best."""

import contextlib
import functools
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import (
    ROOT,
    SMALL,
    run_python,
    without_unbuffered,
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
    one_line,
    save_model,
    snapshot,
    start,
    story,
    write_vocabulary,
)

from extras import finetune as program_under_test
from extras import gradients, learners, optimizers
from extras import learning as learning_loop
from extras.huggingface import adapter_export, adapters

# ---- the same again ----------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_arrays_again_and_another_seed_others(finished, words, tmp_path):
    assert start(words, tmp_path / "again") == 0 and start(words, tmp_path / "other", "--seed", "1") == 0
    assert_same_run(tmp_path / "again", finished)
    assert arrays_in(tmp_path / "other") != arrays_in(finished)


def test_on_one_core_the_adapter_is_nearly_that_of_two(words, model, tmp_path, monkeypatch):
    for n_cores in (1, 2):
        monkeypatch.setattr("extras.parallel.usable_cores", lambda n=n_cores: n)
        assert start(words, tmp_path / f"{n_cores}") == 0
    ours, theirs = (logits(model, tmp_path / name) for name in "12")
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()  # parts differ in the last bits


@pytest.mark.parametrize("full", [[], ["--full"]])
def test_ctrl_c_ends_after_a_step_and_the_same_command_continues_to_the_same_bits(
    words, tmp_path, monkeypatch, capsys, full
):
    assert start(words, tmp_path / "whole", *full) == 0
    step, out = program_under_test.Run.step, tmp_path / "out"
    for n_taken in (1, 7, 8):
        capsys.readouterr()

        def stopped(self, *arguments, n_taken=n_taken):
            if self.n_steps == n_taken - 1:
                signal.raise_signal(signal.SIGINT)
            return step(self, *arguments)

        monkeypatch.setattr(program_under_test.Run, "step", stopped)
        assert start(words, out, *full) == 130
        assert steps_in(out) == n_taken and arrays_in(out)
        out_, err = capsys.readouterr()
        assert err.splitlines()[0] == "stopping after this step"
        assert err.splitlines()[-1] == (
            f"{out} keeps what was best, after {n_taken} steps; the same command continues"
        )
        assert "Traceback" not in err and re.search(rf"step {n_taken}: loss [\d.]+, held out", out_)
    monkeypatch.setattr(program_under_test.Run, "step", step)
    assert start(words, out, *full) == 0
    assert_same_run(out, tmp_path / "whole")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def steps_in(folder):
    with np.load(folder / STATE) as found:
        return json.loads(found["run.json"])["n_steps"]


@pytest.mark.parametrize("at", ["sample", "write", "step"])
def test_a_second_ctrl_c_does_not_wait_and_a_started_run_still_continues(
    finished, words, tmp_path, monkeypatch, capsys, at
):
    """Anywhere: while a continuation is drawn, an adapter is written, or gradients are computed."""
    place, name = {
        "sample": (program_under_test, "sample"),
        "write": (adapter_export, "write_tensors"),
        "step": (optimizers, "clip"),
    }[at]
    work, n_calls = getattr(place, name), itertools.count()

    def interrupted(*arguments):
        if next(n_calls) == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return work(*arguments)

    monkeypatch.setattr(place, name, interrupted)
    assert start(words, tmp_path / "out") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert adapters.load(tmp_path / "out", HPARAMS).updates
    assert start(words, tmp_path / "out") == 0
    assert_same_run(tmp_path / "out", finished)


@pytest.mark.parametrize("n_signals", [1, 2])
def test_ctrl_c_during_the_first_measurement(finished, words, tmp_path, monkeypatch, n_signals):
    even, report, n_calls = program_under_test.even_windows, program_under_test.report, itertools.count()

    def interrupted(*arguments):
        if next(n_calls) == 0:
            for _ in range(n_signals):
                signal.raise_signal(signal.SIGINT)
        return report(*arguments)

    monkeypatch.setattr(program_under_test, "report", interrupted)
    assert start(words, tmp_path / "out") == 130
    assert (n_signals == 2) != (tmp_path / "out" / STATE).exists()
    assert start(words, tmp_path / "out") == 0
    assert_same_run(tmp_path / "out", finished)
    assert even is program_under_test.even_windows


def test_ctrl_c_between_two_steps_loses_neither(words, tmp_path, monkeypatch):
    """It comes right after the loop asked whether it did: the next step is taken, and both are saved."""
    answers = itertools.chain([False], itertools.repeat(True))
    monkeypatch.setattr(learning_loop, "N_MEASURES", 1)
    monkeypatch.setattr(learning_loop, "stopping", lambda: contextlib.nullcontext(lambda: next(answers)))
    assert start(words, tmp_path / "out") == 130
    assert steps_in(tmp_path / "out") == 2


def child(words, folder, *options, code="pass"):
    """The program in a process of its own; each step is measured and saved. code: what is run before."""
    main = "from program import run; import extras.learning as l; l.N_MEASURES = 10**6"
    main += f"; {code}; raise SystemExit(run('extras.finetune', 'requirements-extras.txt'))"
    argv = [sys.executable, "-c", main, str(words[0]), str(folder), *map(str, words[1:]), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(argv, cwd=ROOT, env=without_unbuffered(), **pipes)


@pytest.fixture(scope="module")
def long(words, tmp_path_factory):
    """A command line of more steps, and the folder of its run, each step of which was measured and saved."""
    words = [*words[:3], "--n_steps=60", "--window=16", "--learning_rate=0.02"]
    folder = tmp_path_factory.mktemp("long") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning_loop, "N_MEASURES", 10**6)
        assert start(words, folder) == 0
    return words, folder


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_a_signal_to_the_process_is_status_130_and_it_continues(long, tmp_path):
    words, whole = long
    with child(words, tmp_path / "out") as process:
        for line in process.stdout:
            if line.startswith(b"step 3:"):
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.startswith(b"stopping after this step\n"), err
    assert err.endswith(b"the same command continues\n") and err.count(b"\n") == 2, err
    assert 3 <= steps_in(tmp_path / "out") < 60
    with child(words, tmp_path / "out") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == b"" and b"step 0:" not in out
    assert_same_run(tmp_path / "out", whole)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_at_random_moments_a_run_keeps_an_adapter_and_ends_equal(long, tmp_path):
    (words, whole), out, rng = long, tmp_path / "out", np.random.default_rng(0)
    for _ in range(5):
        with child(words, out) as process:
            process.stdout.readline()
            time.sleep(rng.random() * 0.1)
            process.kill()
        if (out / "adapter_model.safetensors").exists():
            assert adapters.load(out, HPARAMS).updates
        assert not out.exists() or {path.name for path in out.iterdir()} & {STATE, "training.part"}
    with child(words, out) as process:
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and err == b""
    assert_same_run(out, whole)
    left = [path for path in out.iterdir() if path.name not in FILES]
    assert not any(file for path in left for file in path.iterdir())  # killed before it could lock its folder


@pytest.mark.parametrize("n_renamed", range(5))
def test_killed_before_any_renaming_a_run_starts_and_continues(long, tmp_path, n_renamed):
    """os.replace is what makes a change visible: it is killed at the first, the second ..."""
    (words, whole), out = long, tmp_path / "out"
    kill = (
        f"import os, itertools as i; n = i.count(); r = os.replace; kill = lambda: os._exit(9); "
        f"os.replace = lambda *x: kill() if next(n) == {n_renamed} else r(*x)"
    )
    with child(words, out, code=kill) as process:
        process.communicate(timeout=60)
    assert process.returncode == 9
    if (out / "adapter_model.safetensors").exists() and (out / "adapter_config.json").exists():
        assert adapters.load(out, HPARAMS).updates
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning_loop, "N_MEASURES", 10**6)
        assert start(words, out) == 0
    assert_same_run(out, whole)
    assert {path.name for path in out.iterdir()} == FILES


OTHERS = {
    "rank": ["--rank", "4"],
    "alpha": ["--alpha", "8"],
    "seed": ["--seed", "1"],
    "matrices": ["--matrices", "all"],
    "dropout": ["--dropout", "0"],
    "batch": ["--batch", "2"],
    "window": ["--window", "17"],
    "rate": ["--learning_rate", "0.01"],
    "full": ["--full"],
    "weights": ["--weights", "int8"],
    "special": ["--special"],
    "held out": ["--held_out", "other.txt"],
    "text": ["text", "other.txt"],
    "more text": ["text", "more.txt"],
    "model": ["-m", "same"],
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_text_model_or_setting_does_not_continue_a_run(
    finished, words, model, text, tmp_path, monkeypatch, capsys, what
):
    out = shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "other.txt").write_text(story(120, seed=3))
    (tmp_path / "more.txt").write_text(text.read_text() + "The end.\n")
    shutil.copytree(model, tmp_path / "same")
    monkeypatch.chdir(tmp_path)
    option, *value = OTHERS[what]
    options = {"-m": str(model), "--window": "16", "--n_steps": "20", "--learning_rate": "0.02"}
    path = value[0] if option == "text" else text
    options |= {} if option == "text" else {option: value[0] if value else None}
    line = [word for pair in options.items() for word in pair if word is not None]
    before = snapshot(tmp_path)
    assert finetune(path, out, *line) == 2
    one_line(capsys, 2, "was begun with")
    assert snapshot(tmp_path) == before


def test_the_vocabulary_is_part_of_a_run(text, tmp_path, capsys):
    """The same name, another vocabulary: other ids."""
    own = save_model(tmp_path / "model", n_vocab=258, merge="t h")
    assert finetune(text, tmp_path / "out", "-m", own, *FAST) == 0
    write_vocabulary(own, merge="h e")
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert finetune(text, tmp_path / "out", "-m", own, *FAST) == 2
    one_line(capsys, 2, "was begun with another text or vocabulary")
    assert snapshot(tmp_path) == before


def test_a_finished_run_says_so_and_changes_nothing_and_more_steps_continue(
    finished, words, tmp_path, capsys
):
    out = shutil.copytree(finished, tmp_path / "out")
    before = snapshot(out)
    assert start(words, out) == 0
    printed, err = capsys.readouterr()
    assert err == "" and "from step 20: held out" in printed and "step 0:" not in printed
    assert snapshot(out) == before
    assert finetune(*words[:1], out, *words[1:3], "--n_steps=30", *FAST[2:]) == 0
    printed = capsys.readouterr().out
    assert re.match(r"step 21: loss [\d.]+, held out", printed) and steps_in(out) == 30
    assert arrays_in(out) != arrays_in(finished)


# ---- the best ----------------------------------------------------------------------------------------------


def test_the_folder_has_what_was_best_and_not_what_was_last(words, model, tmp_path, monkeypatch, capsys):
    """Learning one text makes one of another kind likelier at first, and then less likely again."""
    other, out = tmp_path / "other.txt", tmp_path / "out"
    other.write_text("\x7f" * 200)
    seen, write, step = {}, learners.LowRankAdapter.write, program_under_test.Run.step
    taken = [0]

    def counted(self, *arguments):
        taken[0] += 1
        return step(self, *arguments)

    def noted(self, *arguments):
        write(self, *arguments)
        seen[taken[0]] = arrays_in(out)

    monkeypatch.setattr(program_under_test.Run, "step", counted)
    monkeypatch.setattr(learners.LowRankAdapter, "write", noted)
    options = ["--n_steps=40", "--window=16", "--learning_rate=0.02", "--matrices=all", "--held_out", other]
    assert finetune(*words[:1], out, *words[1:3], *options) == 0
    printed = capsys.readouterr().out
    measured = {
        int(n): float(loss)
        for n, loss in re.findall(r"step (\d+): (?:loss [\d.]+, )?held out ([\d.]+)", printed)
    }
    best = min(measured, key=measured.get)
    assert 0 < best < 40 and measured[40] > measured[best] + 0.01, measured
    assert max(seen) == best and arrays_in(out) == seen[best] and len(seen) > 1
    assert (
        f"from step {best}: held out {measured[best]:.3f} nats a token, {measured[0]:.3f} before" in printed
    )
    with np.load(out / STATE) as state:
        last = state["leaf/h0/attn/c_attn/w/a"]
    assert not np.array_equal(adapters.load(out, HPARAMS).updates["h0/attn/c_attn/w"].a, last)


def test_where_nothing_helps_it_is_said_and_the_folder_has_what_was_there_before(
    words, model, tmp_path, capsys
):
    options = ["--n_steps=10", "--window=16", "--learning_rate=10", "--full"]
    assert finetune(*words[:1], tmp_path / "out", *words[1:3], *options) == 0
    printed = capsys.readouterr().out
    assert "nothing learned helps with the held-out text" in printed.splitlines()[-1], printed
    np.testing.assert_array_equal(logits(tmp_path / "out"), logits(model))


@pytest.mark.parametrize("full", [[], ["--full"]])
def test_numbers_that_grow_too_large_are_one_line_and_the_best_before_is_kept(
    words, model, tmp_path, monkeypatch, capsys, full
):
    step, out = program_under_test.Run.step, tmp_path / "out"

    def too_far(self, *arguments):
        loss = step(self, *arguments)
        if self.n_steps == 7:
            for array in self.learner.leaves.values():
                array[...] = np.where(np.arange(array.size).reshape(array.shape) % 2, 1e38, -1e38)
        return loss

    assert start(words, tmp_path / "whole", *full) == 0
    monkeypatch.setattr(program_under_test.Run, "step", too_far)
    capsys.readouterr()
    assert start(words, out, *full) == 1
    printed, err = capsys.readouterr()
    wanted = (
        r"extras.finetune: step 8: .*: try a --learning_rate lower than 0.02, and a new folder; .* keeps what"
    )
    assert re.match(wanted, err) and err.count("\n") == 1 and "step 6: loss" in printed, err
    assert steps_in(out) == 6 and np.isfinite(logits(*([out] if full else [model, out]))).all()
    monkeypatch.setattr(program_under_test.Run, "step", step)
    assert start(words, out, *full) == 0
    assert_same_run(out, tmp_path / "whole")


def test_where_numbers_overflow_and_are_finite_again_numpy_says_nothing(model, text, tmp_path):
    options = [
        "--learning_rate=10",
        "--alpha=1e6",
        "--rank=1",
        "--matrices=all",
        "--dropout=0",
        "--n_steps=60",
    ]
    done = run_python("-m", "extras.finetune", str(text), str(tmp_path / "out"), "-m", str(model), *options)
    assert (done.returncode, done.stderr) == (0, b"")
    assert np.isfinite(logits(model, tmp_path / "out")).all()


# ---- the bar -----------------------------------------------------------------------------------------------


def test_the_bar_shows_losses_tokens_a_second_and_the_time_left(words, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    bar = functools.partial(learning_loop.tqdm, file=terminal, mininterval=0, ncols=120)
    monkeypatch.setattr(learning_loop, "tqdm", bar)
    assert start(words, tmp_path / "out") == 0
    lines = terminal.getvalue().split("\r")
    wanted = r"\d+%\|.*\| [\d.k]+/[\d.]+k \[\d\d:\d\d<\d\d:\d\d, .* tokens/s, "
    wanted += r"loss [\d.]+, held out [\d.]+, best [\d.]+\]"
    assert any(re.search(wanted, line) for line in lines), lines


# ---- steps -------------------------------------------------------------------------------------------------

IDS, N_HEAD = np.random.default_rng(0).integers(0, SMALL["n_vocab"], 60), SMALL["n_head"]
SETTINGS = {"batch": 2, "window": 8, "learning_rate": 0.02, "seed": 0}


def new_run(params, folder):
    learner = learners.LowRankAdapter(params, SMALL, "all", 2, 4, 0.1, seed=0)
    return learning_loop.Run(learner, folder, SETTINGS, "digest")


def copied(run):  # -> {name: array}
    return {name: array.copy() for name, array in run.arrays.items()} | {"n_steps": run.n_steps}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_step_with_numbers_that_are_not_finite_changes_nothing(params, tmp_path):
    run, rng = new_run(params, tmp_path), np.random.default_rng(0)
    windows = learning_loop.random_windows(IDS, 2, 8, rng)
    run.step(gradients.loss_and_gradients, windows, N_HEAD, rng, 0.01)
    before = copied(run)

    def too_large(*arguments, **options):
        loss, found = gradients.loss_and_gradients(*arguments, **options)
        found[run.learner.trainable[-1]][0, 0] = np.nan
        return loss, found

    with pytest.raises(FloatingPointError, match="the gradients are not finite"):
        run.step(too_large, windows, N_HEAD, rng, 0.01)
    assert_same(copied(run), before)


def test_a_saved_run_is_read_again_and_takes_the_same_steps(params, tmp_path):
    run, reports = new_run(params, tmp_path), []
    held_out = learning_loop.even_windows(IDS, 8)

    def report(loss, held_out_loss):
        reports.append((run.n_steps, loss, held_out_loss))
        run.save()

    learning_loop.learn(run, IDS, held_out, N_HEAD, 20, report)
    assert [n for n, _, _ in reports] == [*range(0, 21, 2)] and reports[0][1] is None
    assert all(loss > 0 for _, loss, _ in reports[1:]) and reports[-1][2] != reports[0][2]
    again = new_run(params, tmp_path)
    assert_same(copied(again), copied(run))
    for each in (run, again):
        learning_loop.learn(each, IDS, held_out, N_HEAD, 25, lambda *_: None)
    assert again.n_steps == 25
    assert_same(copied(again), copied(run))


def test_the_first_ctrl_c_is_noted_the_second_is_one_and_then_all_is_as_before(capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), learning_loop.stopping() as is_stopped:
        assert not is_stopped()
        signal.raise_signal(signal.SIGINT)
        assert is_stopped() and capsys.readouterr().err == "stopping after this step\n"
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with learning_loop.stopping():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
