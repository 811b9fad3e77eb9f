"""Random lines for `python -m extras.corpus generate`: each gives a text, or a line that says why not."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from corpora import corpus

from extras.corpus import texts

pytestmark = pytest.mark.faults
OTHERS = ("prompt", "id", "n", "t", "m", "top-k", "line", "text", "stats", "", "🦊", "\ud83e")
NAMES = (*texts.PARAMETERS, *OTHERS)
# fmt: off
VALUES = (  # as they stand in a line
    "0", "1", "2", "3", "5", "-1", "0.5", "2.0", "1e2", "1e17", "1e18", "1e999", "-0.0", "9" * 18, "9" * 400,
    "true", "false", "null", "NaN", "{}", "[]", '[1, "a"]', '{"a": {}}', "[" * 999 + "]" * 999, '""', '"a"',
    '"tiny"', '"\\ud83e"', '"\\u0000"', '"<|endoftext|>"', '"é🦊"', '"/"', '"int8"', '"' + "a b " * 300 + '"',
)
# fmt: on
MODELS = ("model_size", "lora", "weights", "models_dir", "draft", "m")


def line_of(rng):  # -> str
    """An object with options at random, now and then damaged; most give a text if their options allow."""
    given = {"prompt": '"Once"'} if rng.random() < 0.9 else {}
    for _ in range(rng.integers(4)):
        name = NAMES[rng.integers(len(NAMES))]
        if name not in MODELS or rng.random() < 0.2:
            given[name] = VALUES[rng.integers(len(VALUES))]
    if not {"n", "n_tokens_to_generate"} & {*given}:
        given["n"] = "3"
    line = "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in given.items()) + "}"
    if rng.random() < 0.1:
        at = rng.integers(len(line))
        line = line[:at] + line[at + 1 :]
    return line


def test_any_line_gives_a_row_or_a_message_and_the_next_run_nothing_new(tmp_path, capsys, n_fuzz):
    rng, n_lines, counts = np.random.default_rng(0), 10 * n_fuzz, Counter()
    (tmp_path / "prompts").write_text("".join(line_of(rng) + "\n" for _ in range(n_lines)))
    words = ["generate", tmp_path / "prompts", "--out", tmp_path / "out", "-m", "tiny"]
    assert corpus(*words) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("line ")]
    skipped = [int(re.match(r"line (\d+): .*; it is skipped$", line)[1]) for line in said]
    assert sorted([*skipped, *(row["line"] for row in rows)]) == list(range(1, n_lines + 1))
    assert all(len(line) < 1000 and line.isprintable() for line in said)
    counts.update(re.sub(r"[^a-z ]+", " ", line.partition(":")[2])[:40] for line in said)
    print(f"{n_lines} lines: {len(rows)} texts, {len(counts)} kinds of refusal")
    assert len(rows) > n_lines / 4 and len(counts) > 20
    before = (tmp_path / "out").read_bytes()
    assert corpus(*words) == 0 and (tmp_path / "out").read_bytes() == before
