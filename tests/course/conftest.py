"""The fixtures of the course's tests: the bundled model's own numbers, and the verdict of a check."""

import importlib

import pytest
from checking import CHECK_FILES, CHECKS

TEXT = "The little fox looked at the old wolf, and the old"  # the prompt of every notebook


@pytest.fixture(scope="module")
def models_own(tiny):
    """What the notebooks give to a check besides the answer: {name: arguments}.

    Each file test_checksNN.py may say it for its own, in a function given_to_checks(prompt, encoder, hparams,
    params).
    """
    found = {}
    for file in CHECK_FILES:
        table = importlib.import_module(f"test_{file.stem}")
        if hasattr(table, "given_to_checks"):
            found |= table.given_to_checks(TEXT, *tiny)
    return found


@pytest.fixture
def verdict(capsys, models_own):
    """Run a check as a notebook does; it returns what the check says, in one message."""

    def run(name, f):
        assert CHECKS[name](f, *models_own.get(name, ())) is None
        out, err = capsys.readouterr()
        first, *others = out.splitlines()
        assert err == "" and first.startswith(f"{name}: ") and all(line.startswith("  ") for line in others)
        labels = [line.split()[0] for line in others if line[2] != " "]
        assert len(labels) == len(set(labels))
        return out.removeprefix(f"{name}: ")

    return run
