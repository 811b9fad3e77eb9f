"""python -m extras.corpus: a run that was stopped continues, and gives the same in the end."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from corpora import DOCUMENTS, KEPT, LINES, SEPARATOR, corpus, refusal, rows_in, stopped_after, write_lines
from helpers import ROOT, without_unbuffered
from learning import save_model

from extras.corpus import command

PROGRAM = [sys.executable, "-m", "extras.corpus"]


@pytest.mark.parametrize("torn", [b"", b"{", '{"line": 1, "text": "é'.encode()[:-1]])
def test_a_run_that_is_stopped_between_any_two_rows_gives_the_same_in_the_end(
    words, whole, tmp_path, monkeypatch, capsys, torn
):
    for n_rows in range(7):
        out = tmp_path / f"{n_rows}.jsonl"
        with monkeypatch.context() as patched:
            stopped_after(patched, n_rows, torn)
            assert corpus(*words, "--out", out) == 130
        assert len(out.read_bytes().splitlines()) == n_rows + bool(torn)
        assert capsys.readouterr() == ("", f"{out}{KEPT}")
        assert corpus(*words, "--out", out) == 0
        assert (out.read_bytes(), capsys.readouterr().out) == whole, n_rows


def test_a_run_that_is_stopped_again_and_again_gives_the_same_in_the_end(
    words, whole, tmp_path, monkeypatch, capsys
):
    for _ in range(6):
        with monkeypatch.context() as patched:
            stopped_after(patched, 1, b'{"')
            assert corpus(*words, "--out", tmp_path / "out") == 130
    assert corpus(*words, "--out", tmp_path / "out") == 0
    assert ((tmp_path / "out").read_bytes(), capsys.readouterr().out) == whole


def test_a_finished_run_that_is_started_again_changes_nothing_and_prints_the_same(
    words, whole, tmp_path, capsys
):
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert corpus(*words, "--out", tmp_path / "whole.jsonl") == 0
    assert capsys.readouterr() == (whole[1], "")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_text_is_done_twice(words, whole, tmp_path, monkeypatch):
    content, out = whole[0], tmp_path / "whole.jsonl"
    out.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    done, append = [], command.rows.Rows.append
    monkeypatch.setattr(command.rows.Rows, "append", lambda rows, row: done.append(row) or append(rows, row))
    assert corpus(*words, "--out", out) == 0 and len(done) == 1 and out.read_bytes() == content


def test_a_file_of_texts_that_grows_is_continued(words, whole, tmp_path):
    action, path, *model = words
    shorter, out = tmp_path / "shorter", tmp_path / "out"
    content = open(path, "rb").read()
    n_bytes = content.index(SEPARATOR.encode(), 200) if action == "score" else content.index(b"\n", 200) + 1
    shorter.write_bytes(content[:n_bytes])
    assert corpus(action, shorter, *model, "--out", out) == 0
    assert 0 < len(rows_in(out)) < 7
    shorter.write_bytes(content)
    assert corpus(action, shorter, *model, "--out", out) == 0
    assert out.read_bytes().replace(str(shorter).encode(), path.encode()) == whole[0]


def wait_for_rows(process, path, n_before=0):
    """Until a process has written rows after these bytes, or has ended."""
    while process.poll() is None and (not path.exists() or path.stat().st_size == n_before):
        time.sleep(0.01)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")
def test_a_killed_run_gives_the_same_in_the_end(small, tmp_path):
    lines = [{"prompt": f"a fox {i}", "n": 12 + i % 5, "seed": i} for i in range(2000)]
    path, out = write_lines(tmp_path / "prompts", *lines), tmp_path / "out"
    words = ["generate", str(path), "-m", str(small), "--out"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": ROOT}
    rng, sizes = random.Random(0), []
    for _ in range(3):
        going = subprocess.Popen([*PROGRAM, *words, str(out)], **streams)
        wait_for_rows(going, out, n_before=out.stat().st_size if out.exists() else 0)
        time.sleep(rng.random() / 3)
        going.kill()
        assert going.communicate()[1] == b""
        sizes.append(out.stat().st_size)
    assert 0 < sizes[0] and sizes == sorted(sizes)
    for place in (out, tmp_path / "whole"):
        assert corpus(*words, place) == 0
    assert out.read_bytes() == (tmp_path / "whole").read_bytes() and len(rows_in(out)) == 2000


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_ctrl_c_gives_130_and_keeps_rows(tmp_path):
    lines = "".join(json.dumps({"prompt": "Once", "n": 40, "id": i}) + "\n" for i in range(300))
    out = tmp_path / "out"
    words = [*PROGRAM, "generate", "-", "-m", "tiny", "--out", str(out)]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    hear = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # where the tests do not
    going = subprocess.Popen(words, cwd=ROOT, env=without_unbuffered(), preexec_fn=hear, **streams)
    try:
        going.stdin.write(lines.encode())
        going.stdin.flush()  # and it stays open: more may come
        wait_for_rows(going, out)
        going.send_signal(signal.SIGINT)
        assert going.wait(60) == 130
        assert (going.stdout.read(), going.stderr.read().decode()) == (b"", f"{out}{KEPT}")
    finally:
        going.kill()
        going.communicate()
    ids = [row["id"] for row in rows_in(out)]
    assert ids == list(range(len(ids)))


# ---- what has changed --------------------------------------------------------------------------------------


def begun(words, out, monkeypatch, n_rows=4):
    with monkeypatch.context() as patched:
        stopped_after(patched, n_rows)
        assert corpus(*words, "--out", out) == 130
    return out.read_bytes()


CHANGED_LINES = {  # what is done to the third line, and what is said
    "another prompt": {"prompt": "a hen", "n": 3, "seed": 2, "id": "éé"},
    "another option": {"prompt": "a fox", "n": 4, "seed": 2, "id": "éé"},
    "an option more": {"prompt": "a fox", "n": 3, "seed": 2, "id": "éé", "lookup": True},
    "an option less": {"prompt": "a fox", "seed": 2, "id": "éé"},
    "another seed": {"prompt": "a fox", "n": 3, "seed": 3, "id": "éé"},
    "another id": {"prompt": "a fox", "n": 3, "seed": 2, "id": "é"},
    "no id": {"prompt": "a fox", "n": 3, "seed": 2},
    "not an object": [],
    "not JSON": "{",
    "too many brackets": "[" * 10**5,
}


@pytest.mark.parametrize("name", CHANGED_LINES)
def test_a_line_that_has_changed_since_its_row_is_one_line(small, tmp_path, monkeypatch, capsys, name):
    path = write_lines(tmp_path / "prompts", *LINES)
    words = ["generate", path, "-m", small]
    before = begun(words, tmp_path / "out", monkeypatch)
    write_lines(path, *LINES[:2], CHANGED_LINES[name], *LINES[3:])
    assert corpus(*words, "--out", tmp_path / "out") == 2
    assert refusal(capsys) == "line 3 has changed since its row was written: give another --out"
    assert (tmp_path / "out").read_bytes() == before


def test_a_line_that_says_the_same_otherwise_is_the_same(small, tmp_path, monkeypatch):
    lines = [
        {"prompt": "a", "n": 2},
        {"prompt": "a", "t": 1.0, "n": 2},
        {"prompt": "b", "n": 2, "seed": None, "t": 1},
    ]
    path = write_lines(tmp_path / "prompts", *lines, *LINES)
    words = ["generate", path, "-m", small]
    before = begun(words, tmp_path / "out", monkeypatch, 5)
    content = path.read_text("utf-8").replace('", "', '"  ,"').replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert corpus(*words, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes().startswith(before) and len(rows_in(tmp_path / "out")) == 10


def test_a_document_that_has_changed_since_its_row_is_one_line(small, tmp_path, monkeypatch, capsys):
    path = tmp_path / "texts"
    path.write_text(SEPARATOR.join(DOCUMENTS))
    words = ["score", path, "-m", small]
    before = begun(words, tmp_path / "out", monkeypatch)
    for other in ("longer " + DOCUMENTS[2], DOCUMENTS[2] + "\udcff"):
        content = SEPARATOR.join([*DOCUMENTS[:2], other, *DOCUMENTS[3:]])
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert corpus(*words, "--out", tmp_path / "out") == 2
        message = f"{path}:3 has changed since its row was written: give another --out"
        assert refusal(capsys) == message and (tmp_path / "out").read_bytes() == before


def test_texts_that_are_gone_or_have_another_name_are_one_line(words, tmp_path, monkeypatch, capsys):
    before, (action, path, *model) = begun(words, tmp_path / "out", monkeypatch), words
    shutil.copy(path, tmp_path / "other")
    os.truncate(tmp_path / "other", 70)
    assert corpus(action, tmp_path / "other", *model, "--out", tmp_path / "out") == 2
    said = refusal(capsys)
    assert re.match(
        "there is a row of (document .*:1|line [2-4]), which is not among the texts now", said
    ) or (said == "line 2 has changed since its row was written: give another --out")
    assert (tmp_path / "out").read_bytes() == before


def test_other_options_or_another_action_are_one_line(small, tmp_path, monkeypatch, capsys):
    texts, prompts = tmp_path / "texts", write_lines(tmp_path / "prompts", *LINES)
    texts.write_text(SEPARATOR.join(DOCUMENTS))
    for words, others in (
        (["score", texts], [["--stride", "5"], ["--special"], ["--weights", "int8"], ["-m", "tiny"]]),
        (["generate", prompts], [["--defaults", '{"n": 3}'], ["--weights", "int8"], ["-m", "tiny"]]),
    ):
        out = tmp_path / f"{words[0]}.jsonl"
        before = begun([*words, "-m", small], out, monkeypatch)
        for other in [*others, "another action"]:
            more = other if "-m" in other else ["-m", small, *other]
            changed = [*words, *more]
            if other == "another action":
                changed = [{"score": "generate", "generate": "score"}[words[0]], prompts, "-m", small]
            assert corpus(*changed, "--out", out) == 2, other
            said = refusal(capsys)
            assert re.match(f"{out} was begun with .*: give the same command, or another --out", said)
            assert out.read_bytes() == before


def test_a_model_of_the_same_name_with_other_weights_is_one_line(tmp_path, monkeypatch, capsys):
    save_model(tmp_path / "model")
    path = write_lines(tmp_path / "prompts", *LINES)
    words = ["generate", path, "-m", tmp_path / "model"]
    before = begun(words, tmp_path / "out", monkeypatch)
    save_model(tmp_path / "model", seed=1)
    command_caches_cleared()
    assert corpus(*words, "--out", tmp_path / "out") == 1
    assert "its weights are not those that the rows before were made with; use the same" in refusal(capsys)
    assert (tmp_path / "out").read_bytes() == before


def command_caches_cleared():
    """As in a new process."""
    from extras.corpus import models

    models.opened.cache_clear()
    models.loaded.cache_clear()
