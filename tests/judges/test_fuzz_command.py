"""Random words after `python gpt2.py` and its kin: a text, or one line that says what is wrong."""

import inspect
import io
import re
import sys
from collections import Counter
from functools import partial

import numpy as np
import pytest
from helpers import TINY

import cli
import program
import utils
from extras import finetune, quantize, scoring
from extras.corpus import command as corpus
from extras.corpus import workers
from extras.huggingface import convert, export, gguf_files, hub
from extras.page import command as page
from files import ModelError

pytestmark = pytest.mark.faults
COMMANDS = {
    "cli": cli.command,
    "extras.scoring": scoring.command,
    "extras.corpus.command": corpus.command,
    "extras.finetune": finetune.command,
    "extras.quantize": quantize.command,
    "extras.page.command": page.command,
    "extras.huggingface.convert": convert.command,
    "extras.huggingface.export": export.command,
    "extras.huggingface.gguf_files": gguf_files.command,
}
LINE = b'{"prompt": "Once", "n": 3}\n{"prompt": ""}\n'
CUT = b"Once<|endoftext|>The end<|endoftext|>\n"
NOTES = "^looking for|^downloading|^prompt .* tokens|(is|are) left out|(read|taken) as|forgotten|skipped$"
# fmt: off
WORDS = (
    "", " ", "-", "--", "---", "-h", "--help", "-5", "-5 degrees", "— Bonjour", "a b", "Once upon a time",
    "🦊", "0", "1", "2", "3", "007", "40", "257", "1e5", "-1", "0.5", ".5", "1.", "nan", "inf", "1" * 400,
    "0x10", "True", "None", "[1, 2]", "{}", "'", '"', "`", "$HOME", ";ls", "\\", "a=b", "=", "--=",
    "-=", "a" * 5000, "--separator=x", "\udcff", "\x1b[31m", "\n", "\t", "\ufeff", "\u202e", "é",
    "<|endoftext|>", "one<|endoftext|><|endoftext|>two<|end", "word " * 400, "tiny", "124M", "117M", "gpt2",
    "owner/name", "a/b/c", "../tiny", "int4", ".", "/", "/dev/null/none", "/dev/null",
    str(TINY), str(TINY / "hparams.json"), str(TINY / "README.md"), "readme.md", "--yes", "--no",
)
# fmt: on


def option(names, rng):
    """An option, now and then misspelled, with a value after a = or none."""
    name = names[rng.integers(len(names))]
    if rng.random() < 0.15:
        at = rng.integers(len(name))
        name = name[:at] + name[at + 1 :]
    if rng.random() < 0.3:
        name = name.replace("_", "-")
    word = ("-" if rng.random() < 0.1 else "--") + name
    return f"{word}={WORDS[rng.integers(len(WORDS))]}" if rng.random() < 0.4 else word


def words_of(names, rng):
    """Up to ten words; most command lines name the small model, so that many come as far as writing."""
    words = []
    for _ in range(rng.integers(6)):
        if rng.random() < 0.55:
            words.append(option(names, rng))
        if rng.random() < 0.75:
            words.append(WORDS[rng.integers(len(WORDS))])
    if "action_and_files" in names and rng.random() < 0.8:
        words = [str(rng.choice(["score", "generate"])), "-", *words, "--out", f"out{rng.integers(9)}"]
    if rng.random() < 0.6:
        words += ["--model_size", "tiny"]
    if rng.random() < 0.6 and "n_tokens_to_generate" in names:
        words += ["--n_tokens_to_generate", "3"]
    return words


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and a folder of its own."""

    def refuse(what, *arguments, **options):
        raise ModelError(what, "no network")

    monkeypatch.setattr(utils, "download_file", refuse)
    monkeypatch.setattr(hub, "download", refuse)
    monkeypatch.setattr(hub, "within", partial(refuse, "the hub"))
    for command in COMMANDS.values():
        monkeypatch.setitem(command.__kwdefaults__, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(corpus, "opened", lambda n_workers, scheduler: workers.opened())
    monkeypatch.setitem(finetune.command.__kwdefaults__, "n_steps", 1)
    monkeypatch.setitem(finetune.command.__kwdefaults__, "window", 8)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_any_words_give_a_text_or_one_line(name, offline, monkeypatch, capsys, n_fuzz):
    names = list(inspect.signature(COMMANDS[name]).parameters)
    statuses, reasons = Counter(), Counter()
    for seed in range(n_fuzz):
        rng = np.random.default_rng(seed)
        words = words_of(names, rng)
        stdin = rng.choice(
            [b"", b"Once upon a time\n", b"\xff", "Füchse\r\n".encode(), b"\xef\xbb\xbfOnce", CUT, LINE]
        )
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        status = program.run(name, argv=words)
        out, err = capsys.readouterr()
        statuses[status] += 1
        case = f"seed {seed}: {words}: {err[:500]!r}"
        assert status in (0, 1, 2) and "Traceback" not in err, case
        if status:
            line = err.splitlines()[-1]
            assert err.endswith("\n") and len(line) < 1600 and line.startswith(f"{name}: "), case
            notes = err.splitlines()[:-1]
            assert all(re.search(NOTES, note) for note in notes), case
            assert line.isprintable() and "(--debug shows where)" not in line, case
            assert out == "" or {*map(program.option_name, words)} & {"check", "models"}, case
            reasons[re.sub(r"[^a-z ]+", " ", line)[:60]] += 1
        else:
            assert out, case
    print(f"{name}, {n_fuzz} command lines: {dict(statuses)}, {len(reasons)} kinds of refusal")
    assert statuses[2] > 0.2 * n_fuzz and len(reasons) > 5
    assert statuses[0] > 0.02 * n_fuzz or name.endswith(
        ("convert", "export", "gguf_files", "quantize", "finetune")
    )
