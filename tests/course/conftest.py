"""The fixtures of the course's tests: the bundled model's own numbers, and the verdict of a check."""

import pytest
from checking import CHECKS

import gpt2
from extras import inside
from tools import reference

TEXT = "The little fox looked at the old wolf, and the old"


@pytest.fixture(scope="module")
def models_own(tiny):
    """What the notebooks give to a check besides the answer."""
    encoder, hparams, params = tiny
    ids, n_head = encoder.encode(TEXT), hparams["n_head"]
    *_, last = inside.steps(ids, **params, n_head=n_head)
    return {
        "generate": (ids, params, n_head),
        "layer_norm": (last["x"], *params["blocks"][-1]["ln_1"].values()),
        "attention": tuple(last[name][0] for name in "qkv"),
        "same": (gpt2.gpt2(ids, **params, n_head=n_head), reference.forward(ids, params, n_head)[0]),
    }


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
