"""What several test files of extras/corpus start from."""

import os

import pytest
from corpora import DOCUMENTS, LINES, SEPARATOR, corpus, write_lines
from learning import save_model
from local_cluster import LocalCluster

from extras.corpus import models


@pytest.fixture(autouse=True)
def nothing_loaded_before():
    """Let each test see files as they are, and count what is loaded."""
    models.opened.cache_clear()
    models.loaded.cache_clear()


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A random model of bytes that sees 32 tokens: texts are soon too long for it."""
    return save_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(params=["score", "generate"])
def words(request, small, tmp_path):
    """A command without --out: its action, the file, and the model."""
    (tmp_path / "texts").write_text(SEPARATOR.join(DOCUMENTS))
    write_lines(tmp_path / "prompts", *LINES)
    name = {"score": "texts", "generate": "prompts"}[request.param]
    return [request.param, str(tmp_path / name), "-m", str(small)]


@pytest.fixture
def whole(words, tmp_path, capsys):
    """What a run that was not stopped writes, and what it prints."""
    assert corpus(*words, "--out", tmp_path / "whole.jsonl") == 0
    return (tmp_path / "whole.jsonl").read_bytes(), capsys.readouterr().out


@pytest.fixture
def dask(tmp_path):
    """A scheduler without workers."""
    if os.name == "nt":
        pytest.skip("these clusters are killed with signals that Windows lacks")
    pytest.importorskip("distributed", reason="Dask is not installed: see requirements-cluster.txt")
    cluster = LocalCluster(tmp_path)
    try:
        cluster.begin()
        yield cluster
    finally:
        cluster.stop()
