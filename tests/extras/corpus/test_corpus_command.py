"""python -m extras.corpus: what is wrong is one line, and what is right is shown."""

import inspect
import io
import os
import re
import sys

import pytest
from corpora import DOCUMENTS, KEPT, LINES, SEPARATOR, corpus, refusal, rows_in, stopped_after, write_lines
from helpers import passes, run_python
from learning import story

import program
from extras.corpus import command, scores
from extras.corpus.models import Model
from extras.corpus.reading import Text

# ---- texts that cannot be used -----------------------------------------------------------------------------


def test_strict_stops_at_the_first_bad_text_with_the_rows_before_it_and_continues_when_it_is_mended(
    words, whole, tmp_path, capsys
):
    action, path, *model = words
    good = open(path, "rb").read()
    name, wrong = ("line 4", b"{") if action == "generate" else (f"{path}:4", b"\xff")
    cut = SEPARATOR.encode() if action == "score" else b"\n"
    parts = good.split(cut)
    open(path, "wb").write(cut.join([*parts[:3], wrong + b"\n" * (action == "score"), *parts[4:]]))
    assert corpus(*words, "--strict", "--out", tmp_path / "out") == 2
    assert refusal(capsys).startswith(f"{name}: ")
    assert (tmp_path / "out").read_bytes() == b"".join(whole[0].splitlines(keepends=True)[:3])
    assert corpus(*words, "--strict", "--out", tmp_path / "out") == 2
    capsys.readouterr()
    open(path, "wb").write(good)
    assert corpus(*words, "--strict", "--out", tmp_path / "out") == 0
    assert ((tmp_path / "out").read_bytes(), capsys.readouterr().out) == whole


def test_what_is_skipped_stays_skipped_when_a_run_continues(small, tmp_path, monkeypatch, capsys):
    path = write_lines(tmp_path / "prompts", "{", *LINES[:3], "[]", *LINES[3:], "{}")
    words, notes = ["generate", path, "-m", small], []
    for name, n_rows in (("whole", None), ("out", 1), ("out", 4), ("out", None), ("out", None)):
        with monkeypatch.context() as patched:
            if n_rows:
                stopped_after(patched, n_rows)
            assert corpus(*words, "--out", tmp_path / name) == (130 if n_rows else 0)
        said = capsys.readouterr().err.replace(f"{tmp_path / name}{KEPT}", "")
        notes.append([line.split(":")[0] for line in said.splitlines()])
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    all_three = ["line 1", "line 5", "line 10"]  # a run that continues says it again
    assert notes == [all_three, all_three[:1], all_three[:2], all_three, all_three]
    assert [row["line"] for row in rows_in(tmp_path / "out")] == [2, 3, 4, 6, 7, 8, 9]


def test_a_line_that_is_mended_later_gets_no_row_between_others_and_is_told_of(small, tmp_path, capsys):
    path, words = write_lines(tmp_path / "prompts", LINES[0], "{", LINES[1]), ["-m", small]
    assert corpus("generate", path, "--out", tmp_path / "out", *words) == 0
    before = (tmp_path / "out").read_bytes()
    assert capsys.readouterr().out == "2 texts, 1 skipped\n"
    write_lines(tmp_path / "prompts", LINES[0], LINES[2], LINES[1])
    assert corpus("generate", path, "--out", tmp_path / "out", *words) == 0
    out, err = capsys.readouterr()
    wanted = "line 2: it has no row, and none is added between others; it is skipped\n"
    assert (out, err) == ("2 texts, 1 skipped\n", wanted) and (tmp_path / "out").read_bytes() == before


def test_a_file_that_comes_before_those_with_rows_is_told_of(small, tmp_path, capsys):
    for name in ("b", "a"):
        (tmp_path / name).write_text(DOCUMENTS[0])
    words = ["-m", small, "--out", tmp_path / "out"]
    assert corpus("score", tmp_path / "b", *words) == 0
    capsys.readouterr()
    assert corpus("score", tmp_path / "a", tmp_path / "b", *words) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"{tmp_path / 'a'}:1: it has no row") and "\nskipped        1\n" in out


def test_a_file_of_which_no_line_can_be_used_is_an_error(small, tmp_path, capsys):
    path = write_lines(tmp_path / "prompts", "Once upon a time", "there was")
    assert corpus("generate", path, "--out", tmp_path / "out", "-m", small) == 2
    assert capsys.readouterr().err.endswith("none of 2 lines could be used\n")


class Refusing:
    """A job that can use no text, or only some."""

    key, task_size, n_skipped = "line", 2048, 0

    def __init__(self, n_good=0):
        self.n_good, self.function = n_good, list

    def prepare(self, text):
        if text.number > self.n_good:
            raise ValueError("no")
        return scores.Document([text.number], [10], 0)


@pytest.mark.parametrize("n_good", [0, 5, 10**9])
def test_only_some_texts_are_read_ahead_whatever_is_wrong_with_them(n_good):
    from extras.corpus.workers import opened

    n_read, job = [0], Refusing(n_good)

    def texts():
        for n_read[0] in range(1, 30_000):
            yield Text("a", n_read[0], "", None, 0)

    most = 0
    prepared = (command.prepare(job, text) for text in texts())
    with opened() as pool:
        for i, (text, results) in enumerate(command.finished(job, pool, prepared), 1):
            assert text.source.number == i and results == ([i] if i <= n_good else [])
            most = max(most, n_read[0] - i)
    assert i == 29_999 and most <= 2 * job.task_size


def test_a_long_document_becomes_several_tasks(small):
    job = scores.Scores(Model(str(small)), [], None, False, None)
    waiting = []
    text = command.prepare(job, Text("a", 1, story(3000), None, 0))
    sizes = [len(task) for task in command.tasks([text], job.task_size, waiting)]
    assert len(sizes) > 10 and max(sizes) < 200 and sum(sizes) == len(text.pieces) and len(waiting) == 1


# ---- what is printed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [1000, None])
def test_progress_shows_tokens_a_second_and_the_time_left_where_the_size_is_known(monkeypatch, n_bytes):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(command.time, "perf_counter", lambda: next(clock))
    with command.Progress(n_bytes) as progress:
        progress.update(250, 300)
        progress.update(500, 700)
        assert progress.bar.n == 500 and progress.bar.postfix == "1,000 tokens, 50 a second"
        progress.bar.refresh()
        command.tell("line 3: it is skipped")
    shown = screen.getvalue()
    assert "1,000 tokens, 50 a second" in shown and "line 3: it is skipped\n" in shown
    assert (" 50%|" in shown and re.search(r"\d\d:\d\d left", shown) is not None) == bool(n_bytes)


def test_progress_reaches_the_size_of_all_files(words, tmp_path, monkeypatch):
    bars = []

    class Noted(command.Progress):
        def __exit__(self, *error):
            bars.append((self.n_tokens, self.read, self.bar.total))
            super().__exit__(*error)

        def update(self, n_read, n_tokens):
            self.read = n_read
            super().update(n_read, n_tokens)

    monkeypatch.setattr(command, "Progress", Noted)
    assert corpus(*words, "--out", tmp_path / "out") == 0
    rows, ((n_tokens, n_read, _),) = rows_in(tmp_path / "out"), bars
    assert n_read == os.path.getsize(words[1])
    made = sum(row["n_tokens"] if words[0] == "score" else row["n"] for row in rows)
    assert n_tokens == made or (words[0] == "generate" and 0 < n_tokens < made)  # some texts end sooner


def test_the_number_of_texts_is_printed(small, tmp_path, capsys):
    for n, wanted in ((0, "0 texts\n"), (1, "1 text\n"), (7, "7 texts\n")):
        path = write_lines(tmp_path / "prompts", *LINES[:n])
        assert corpus("generate", path, "--out", tmp_path / str(n), "-m", small) == 0
        assert capsys.readouterr().out == wanted


# ---- a wrong command ---------------------------------------------------------------------------------------

USAGE = "python -m extras.corpus score FILE... --out scores.jsonl, or generate FILE --out texts.jsonl"


@pytest.mark.parametrize(
    "words, status, message",
    [
        ([], 2, f"no file is given: {USAGE} (see --help)"),
        (["score"], 2, f"no file is given: {USAGE} (see --help)"),
        (["--out", "out"], 2, f"no file is given: {USAGE} (see --help)"),
        (
            ["texts", "--out", "out"],
            2,
            f"the first word is 'texts', not score or generate: {USAGE} (see --help)",
        ),
        (
            ["scores", "texts", "--out", "out"],
            2,
            f"the first word is 'scores', not score or generate: {USAGE} (see --help)",
        ),
        (["", "texts", "--out", "out"], 2, None),
        (["score", "texts"], 2, "give a file for the rows, such as --out score.jsonl"),
        (["generate", "prompts"], 2, "give a file for the rows, such as --out generate.jsonl"),
        (["score", "texts", "--out", "texts"], 2, "texts is both read and written: give another --out"),
        (["score", "texts", "--out", "./folder/../texts"], 2, "./folder/../texts is both read and written"),
        (["score", "link", "--out", "texts"], 2, "texts is both read and written: give another --out"),
        (["score", "prompts", "texts", "--out", "texts"], 2, "texts is both read and written"),
        (["score", "none", "--out", "out"], 1, "[Errno 2] No such file or directory: 'none'"),
        (["score", "texts", "none", "--out", "out"], 1, "[Errno 2] No such file or directory: 'none'"),
        (["generate", "none", "--out", "out"], 1, "[Errno 2] No such file or directory: 'none'"),
        (["score", "texts", "--out", "folder"], 2, "out is 'folder': give the name of a file for rows"),
        (["score", "texts", "--out", "out.gz"], 2, "out is 'out.gz': give the name of a file for rows"),
        (["score", "texts", "--out", "/dev/stdout"], 2, "out is '/dev/stdout': give the name of a file"),
        (["score", "texts", "--out", "-"], 2, "out is '-': give the name of a file for rows"),
        (["score", "texts", "--out", ""], 2, "out is '.': give the name of a file for rows"),
        (
            ["score", "texts", "--out", "prompts"],
            2,
            "prompts exists, but not .prompts.run, which says how",
        ),
        (["score", "texts", "--out", "texts/out"], 1, "[Errno "),
        (
            ["score", "texts", "--out", "out", "--defaults", "{}"],
            2,
            "--defaults is for generate: leave it out",
        ),
        (["score", "texts", "--out", "out", "--stride", "0"], 2, "stride is 0: it must be from 1 to the 32"),
        (
            ["score", "texts", "--out", "out", "--stride", "33"],
            2,
            "stride is 33: it must be from 1 to the 32",
        ),
        (["score", "texts", "--out", "out", "--lookup"], 2, "there is no option '--lookup'"),
        (["score", "texts", "--out"], 2, "--out has no value"),
    ],
)
def test_a_wrong_command_is_one_line_and_leaves_no_file(
    small, tmp_path, monkeypatch, capsys, words, status, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "texts").write_text(SEPARATOR.join(DOCUMENTS))
    (tmp_path / "link").symlink_to("texts")
    write_lines(tmp_path / "prompts", *LINES)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    is_right_so_far = words[:1] in (["score"], ["generate"]) and words[-1] != "--out"
    assert corpus(*words, *(["-m", small] if is_right_so_far else [])) == status
    assert (message or "") in refusal(capsys)
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    assert {path: after[path] for path in after if not path.name.startswith(".")} == before


def test_a_folder_for_rows_is_made(small, tmp_path):
    path = write_lines(tmp_path / "prompts", *LINES)
    assert corpus("generate", path, "--out", tmp_path / "a" / "b" / "out", "-m", small) == 0
    assert len(rows_in(tmp_path / "a" / "b" / "out")) == 7


def test_a_file_that_turns_out_to_be_damaged_is_one_line_and_keeps_the_rows_before(small, tmp_path, capsys):
    import gzip

    documents = [story(4, seed=i) for i in range(300)]
    whole = gzip.compress(SEPARATOR.join(documents).encode())
    (tmp_path / "a.gz").write_bytes(whole[: len(whole) * 3 // 4])
    assert corpus("score", tmp_path / "a.gz", "--out", tmp_path / "out", "-m", small) == 1
    assert re.search("a.gz: damaged: .*; pack it again$", refusal(capsys))
    n_rows = len(rows_in(tmp_path / "out"))
    assert n_rows > 30
    (tmp_path / "a.gz").write_bytes(whole)
    assert corpus("score", tmp_path / "a.gz", "--out", tmp_path / "out", "-m", small) == 0
    assert len(rows_in(tmp_path / "out")) == 300


def test_the_help_names_every_option_in_80_columns(capsys):
    assert corpus("--help") == 0
    out = capsys.readouterr().out
    assert out.startswith("python -m extras.corpus score FILE...")
    assert all(len(line) <= 80 for line in out.splitlines())
    named = {*re.findall(r"^(?:-\w, )?--(\w+)", command.HELP, re.MULTILINE)}
    assert named == {*inspect.signature(command.command).parameters} - {"action_and_files"}
    assert all(program.SHORT[name] in named for name in re.findall(r"^-(\w),", command.HELP, re.MULTILINE))


WITHOUT = """
import sys
for name in ("torch", "transformers", "tensorflow", "tokenizers", "safetensors", "huggingface_hub", "numba",
             "distributed", "dask", "matplotlib", "scipy", "PIL", "multiprocessing.pool"):
    sys.modules[name] = None
from program import run
for action, path in (("score", sys.argv[1]), ("generate", sys.argv[2])):
    status = run("extras.corpus.command", argv=[action, path, "--out", path + ".out", "-m", "tiny"])
    assert status == 0, status
"""


def test_a_plain_run_needs_only_what_the_command_needs(tmp_path):
    (tmp_path / "texts").write_text(SEPARATOR.join(DOCUMENTS))
    write_lines(tmp_path / "prompts", *LINES, {"prompt": "a", "lookup": True, "top_p": 0.9, "n": 3})
    done = run_python("-c", WITHOUT, str(tmp_path / "texts"), str(tmp_path / "prompts"))
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.endswith(b"\n8 texts\n")


def test_passes_are_shared_by_the_texts_of_a_run(small, tmp_path, monkeypatch):
    shapes = passes(monkeypatch)
    path = write_lines(tmp_path / "prompts", *[{"prompt": "a fox", "n": 6}] * 320)
    assert corpus("generate", path, "--out", tmp_path / "out", "-m", small) == 0
    assert len(shapes) < 320
