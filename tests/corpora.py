"""Runs of extras/corpus in this process, the files that they read, and what they leave."""

import gzip
import io
import json
import sys

from helpers import run
from learning import story

SEPARATOR = "<|endoftext|>\n"
DOCUMENTS = [story(1 + i % 4, seed=i) for i in range(7)]
LINES = [{"prompt": "a fox", "n": 3 + i % 2, "seed": i, "id": "é" * i} for i in range(7)]


def corpus(*words):  # -> exit status
    return run([str(word) for word in words], "extras.corpus.command")


def rows_in(path):  # -> list of dicts
    return [json.loads(line) for line in path.read_bytes().splitlines()]  # text may have other line ends


def write_lines(path, *lines):  # -> path
    """Objects as JSON, one a line; a str is a line as it stands."""
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), "utf-8")
    return path


def generate(folder, lines, *words, model="tiny"):  # -> rows
    path, out = write_lines(folder / "prompts.jsonl", *lines), folder / "texts.jsonl"
    assert corpus("generate", path, "--out", out, "-m", model, *words) == 0
    return rows_in(out)


def packed(path, content):  # -> path
    path.write_bytes(gzip.compress(content))
    return path


def pipe_in(monkeypatch, content):
    """Let standard input be these bytes, as a program gets them."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))


KEPT = " keeps its rows; the same command continues\n"  # what Ctrl-C makes a run say


def refusal(capsys):  # -> str
    """The one line that a run has printed."""
    out, err = capsys.readouterr()
    err = err.rpartition(KEPT)[2]  # of runs before
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err and "--debug" not in err, (out, err)
    assert err.startswith("extras.corpus.command: ")
    return err.removeprefix("extras.corpus.command: ").rstrip("\n")


def stopped_after(monkeypatch, n_rows, torn=b""):
    """Let a run end as by Ctrl-C once it has written so many rows, and then a part of one."""
    from extras.corpus.rows import Rows

    append, written = Rows.append, []

    def counted(rows, row):
        if len(written) == n_rows:
            rows.file.write(torn)
            raise KeyboardInterrupt
        written.append(row)
        append(rows, row)

    monkeypatch.setattr(Rows, "append", counted)
