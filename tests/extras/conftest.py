"""What several test files of the extras start from."""

import pytest
from learning import FAST, finetune, save_model, story

from names import KINDS_OF_WEIGHTS


@pytest.fixture(scope="session")
def saved(tmp_path_factory, tiny):
    """The bundled model, saved in each kind of quantized weights."""
    from extras import quantize  # here, as it loads Numba, which most of these tests do without

    folders = {kind: tmp_path_factory.mktemp("saved") / kind for kind in KINDS_OF_WEIGHTS}
    for kind, folder in folders.items():
        quantize.save(folder, *tiny[:2], quantize.quantize(tiny[2], kind))
    return folders


# ---- a small model, a story, and a run that learns it ------------------------------------------------------


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "story.txt"
    path.write_text(story(120))
    return path


@pytest.fixture(scope="session")
def words(model, text):
    """A command line without its folder."""
    return [text, "-m", model, *FAST]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, words):
    """The folder of a run that was not stopped; no test changes it."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    assert finetune(words[0], folder, *words[1:]) == 0
    return folder
