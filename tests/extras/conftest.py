"""What several test files of the extras start from."""

import pytest

from names import KINDS_OF_WEIGHTS


@pytest.fixture(scope="session")
def saved(tmp_path_factory, tiny):
    """The bundled model, saved in each kind of quantized weights."""
    from extras import quantize  # here, as it loads Numba, which most of these tests do without

    folders = {kind: tmp_path_factory.mktemp("saved") / kind for kind in KINDS_OF_WEIGHTS}
    for kind, folder in folders.items():
        quantize.save(folder, *tiny[:2], quantize.quantize(tiny[2], kind))
    return folders
