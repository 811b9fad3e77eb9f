"""What several test files start from."""

import os
import sys

import pytest
from helpers import ROOT, SMALL, differences, lively_params

import files
import utils

os.environ["NO_PROXY"] = "127.0.0.1"  # the tests' own servers are asked directly


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=200, metavar="N", help="random cases for each fuzzer (200)")
    parser.addoption("--pictures", action="store_true", help="make docs/page/*.png again (lane: browser)")


@pytest.fixture(autouse=True)
def nothing_said_before():
    """Let each test see what is said only once in a process."""
    files.say_once.cache_clear()


@pytest.fixture(scope="session")
def n_fuzz(request):
    """How many random cases each fuzzer tries; case i is made from seed i."""
    return request.config.getoption("--fuzz")


@pytest.fixture(scope="session")
def tiny():
    """The bundled model: encoder, hparams, params."""
    return utils.load_encoder_hparams_and_params("tiny", "models")


@pytest.fixture
def params():
    """A small model in which every number is random, so that no term of the sum can be lost unnoticed."""
    return lively_params(SMALL, seed=0)


@pytest.fixture(scope="session")
def released():
    """The folder of the 124M, if its vocabulary is there."""
    folder = ROOT / "models" / "124M"
    if not (folder / "encoder.json").exists() or not (folder / "vocab.bpe").exists():
        pytest.skip("no released vocabulary in models/124M: `python gpt2.py Hello` downloads it")
    return folder


@pytest.fixture(scope="session")
def tf():
    """TensorFlow, the judge of checkpoints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("tensorflow", reason="TensorFlow, the judge of checkpoints, is not installed")


@pytest.fixture(scope="session")
def transformers():
    """The judge of numbers, with PyTorch; imported here, so that other lanes need not wait for it."""
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason=f"{name} is not installed: see tests/requirements-parity.txt")
    from transformers.utils import logging

    logging.set_verbosity_error()
    return sys.modules["transformers"]


@pytest.fixture(scope="session")
def peft(transformers):
    """The judge of adapters."""
    return pytest.importorskip("peft", reason="peft, the judge of adapters, is not installed")


def pytest_terminal_summary(terminalreporter):
    if differences:
        n, largest = len(differences), max(differences)
        terminalreporter.write_line(
            f"{n} comparisons of logits: they differ by at most {largest:.1e} of the largest"
        )
