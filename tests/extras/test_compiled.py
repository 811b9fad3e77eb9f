"""The compiled loops beside NumPy; where they may be kept; and the threads that run them."""

import os
import shutil

import numpy as np
import pytest
from helpers import ROOT, assert_same_logits, run_python, without_unbuffered

pytest.importorskip("numba", reason="Numba, which compiles the loops, is not installed")

from extras import compiled  # noqa: E402

rng = np.random.default_rng(0)
LEVELS = np.sort(rng.normal(size=16)).astype(np.float32)
SIZES = [(1, 1, 1), (1, 7, 1), (2, 64, 3), (3, 65, 2), (8, 129, 1), (8, 10, 5)]  # rows of x, outputs, pairs


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def filled(loop, n, n_out, *arguments):
    """What a loop leaves in y: each number is written, whatever was there."""
    y = np.full((n, n_out), np.nan, dtype=np.float32)
    loop(*arguments, y)
    return y


def four_bits(n_out, n_pairs):
    """Random bytes, each of the 256, if there are as many; their two codes; and scales."""
    codes = rng.permutation(np.arange(n_out * n_pairs * 64) % 256).astype(np.uint8)
    codes = codes.reshape(n_out, n_pairs, 64)
    return codes, np.stack([codes % 16, codes // 16], axis=2), normal(n_out, n_pairs, 2)


@pytest.mark.parametrize("n, n_out, n_pairs", SIZES)
def test_float32_products_are_numpys(n, n_out, n_pairs):
    x, w = normal(n, 50 * n_pairs), normal(n_out, 50 * n_pairs)
    assert_same_logits(filled(compiled.float32_products, n, n_out, x, w), x @ w.T)


@pytest.mark.parametrize("n, n_out, n_pairs", SIZES)
def test_int8_products_are_numpys(n, n_out, n_pairs):
    x, scales = normal(n, 50 * n_pairs), normal(n_out)
    codes = rng.integers(-127, 128, (n_out, 50 * n_pairs), dtype=np.int8)
    wanted = x @ (codes * scales[:, None]).T
    assert_same_logits(filled(compiled.int8_products, n, n_out, x, codes, scales), wanted)


@pytest.mark.parametrize("n, n_out, n_pairs", SIZES)
def test_int4_products_are_numpys(n, n_out, n_pairs):
    codes, apart, scales = four_bits(n_out, n_pairs)
    w = (apart - np.float32(8)) * scales[..., None]
    x = normal(n, n_pairs, 2, 64)
    wanted = x.reshape(n, -1) @ w.reshape(n_out, -1).T
    assert_same_logits(filled(compiled.int4_products, n, n_out, x, codes, scales), wanted)


@pytest.mark.parametrize("n, n_out, n_pairs", SIZES)
def test_nf4_products_are_numpys(n, n_out, n_pairs):
    codes, apart, scales = four_bits(n_out, n_pairs)
    w = LEVELS[apart] * scales[..., None]
    x = normal(n, n_pairs, 2, 64)
    wanted = x.reshape(n, -1) @ w.reshape(n_out, -1).T
    assert_same_logits(filled(compiled.nf4_products, n, n_out, x, codes, scales, LEVELS), wanted)


@pytest.mark.parametrize("n_out, n_pairs", [(1, 1), (9, 1), (5, 3)])
def test_widened_codes_are_numpys_bit_for_bit(n_out, n_pairs):
    codes, apart, scales = four_bits(n_out, n_pairs)
    found = np.full((2, *apart.shape), np.nan, dtype=np.float32)
    compiled.nf4_widen(codes, scales, LEVELS, found[0])
    compiled.int4_widen(codes, scales, found[1])
    np.testing.assert_array_equal(found[0], LEVELS[apart] * scales[..., None])
    np.testing.assert_array_equal(found[1], (apart - np.float32(8)) * scales[..., None])
    codes, scales = rng.integers(-127, 128, (n_out, 300), dtype=np.int8), normal(n_out)
    w = np.full(codes.shape, np.nan, dtype=np.float32)
    compiled.int8_widen(codes, scales, w)
    np.testing.assert_array_equal(w, codes * scales[:, None])


# ---- where the compiled loops are kept ---------------------------------------------------------------------

USE = """
import numpy as np
from extras import compiled
y = np.empty((1, 2), np.float32)
compiled.float32_products(np.ones((1, 3), np.float32), np.ones((2, 3), np.float32), y)
print(compiled.__file__, y.tolist())
"""


def use(project, home, before=""):
    """Multiply in a copy of the loops, with this folder as the user's. before: code to run first."""
    environment = {name: text for name, text in without_unbuffered().items() if name != "NUMBA_CACHE_DIR"}
    environment |= {name: str(home) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME")}
    done = run_python("-c", before + USE, cwd=project, env=environment | {"PYTHONDONTWRITEBYTECODE": "1"})
    wanted = f"{project / 'extras' / 'compiled.py'} [[3.0, 3.0]]\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, wanted, b"")


@pytest.fixture
def project(tmp_path):
    """A copy of the loops, in a folder of their own."""
    (tmp_path / "project" / "extras").mkdir(parents=True)
    shutil.copy(ROOT / "extras" / "compiled.py", tmp_path / "project" / "extras")
    return tmp_path / "project"


def test_they_are_kept_beside_the_program(tmp_path, project):
    (tmp_path / "home").mkdir()
    use(project, tmp_path / "home")
    assert any(path.suffix == ".nbi" for path in (project / "extras" / "__pycache__").iterdir())
    assert list((tmp_path / "home").rglob("*.nbi")) == []


@pytest.mark.skipif(os.name == "nt", reason="the user's folder there is not that of the environment")
def test_or_else_in_the_folder_of_the_user(tmp_path, project):
    (tmp_path / "home").mkdir()
    (project / "extras" / "__pycache__").touch()  # a file, where even root can make no folder
    use(project, tmp_path / "home")
    assert list((tmp_path / "home").rglob("*.nbi")) != []


@pytest.mark.skipif(os.name == "nt", reason="the user's folder there is not that of the environment")
def test_or_nowhere_if_neither_may_be_written(tmp_path, project):
    (project / "extras" / "__pycache__").touch()
    (tmp_path / "home").touch()
    use(project, tmp_path / "home")
    assert list(tmp_path.rglob("*.nbi")) == []


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("content", [b"", b"\x80\x05"])
def test_kept_loops_that_are_damaged_are_compiled_again(tmp_path, project, suffix, content):
    (tmp_path / "home").mkdir()
    use(project, tmp_path / "home")
    damaged = [path for path in (project / "extras" / "__pycache__").iterdir() if path.suffix == suffix]
    for path in damaged:
        path.write_bytes(content)
    assert damaged
    use(project, tmp_path / "home")


FULL = """
import errno
import numba.core.caching as caching

def full(self, *arguments):
    raise OSError(errno.ENOSPC, "No space left on device")

caching.IndexDataCacheFile.save = full
"""


def test_on_a_full_disk_they_run_without_being_kept(tmp_path, project):
    (tmp_path / "home").mkdir()
    use(project, tmp_path / "home", FULL)
    assert list(tmp_path.rglob("*.nbi")) == []


@pytest.mark.parametrize("error", ["ImportError", "OSError", "AttributeError", "SystemError"])
def test_where_numba_does_not_work_numpy_does_the_same_and_a_line_says_so(tmp_path, error):
    (tmp_path / "numba.py").write_text(f"raise {error}('broken')")
    words = ["gpt2.py", "The little fox", "5", "tiny", "--weights", "int8"]
    environment = without_unbuffered() | {"PYTHONPATH": str(tmp_path)}
    done, wanted = run_python(*words, env=environment, check=True), run_python(*words, check=True)
    assert done.stdout == wanted.stdout
    assert done.stderr.startswith(b"broken: quantized weights are slow without it; ")
    assert done.stderr.count(b"\n") == 1


def test_loops_that_numba_is_told_not_to_compile_are_not_used():
    environment = without_unbuffered() | {"NUMBA_DISABLE_JIT": "1"}
    words = ["gpt2.py", "The little fox", "5", "tiny", "--weights", "int4"]
    done = run_python(*words, env=environment, check=True)
    assert done.stderr.startswith(b"NUMBA_DISABLE_JIT is set: quantized weights are slow without it; ")


# ---- threads -----------------------------------------------------------------------------------------------

WHEN = """
import os, sys

def note(event, arguments):
    if event == "import" and arguments[0] == "numba":
        print(os.environ.get("GOMP_SPINCOUNT"))

sys.addaudithook(note)
import extras.compiled
"""


@pytest.mark.parametrize("users, wanted", [(None, b"5000"), ("5", b"5"), ("infinite", b"infinite")])
def test_threads_are_told_to_sleep_before_numba_is_imported_unless_the_user_says_otherwise(users, wanted):
    environment = {name: text for name, text in without_unbuffered().items() if name != "GOMP_SPINCOUNT"}
    environment |= {"GOMP_SPINCOUNT": users} if users else {}
    done = run_python("-c", WHEN, env=environment, check=True)
    assert done.stdout.split()[:1] == [wanted]


TWO_THREADS = """
import threading
import numba
import numpy as np
from extras.quantized import Int8

rows, x, wrong = Int8.of(np.eye(500, dtype=np.float32)), np.arange(500, dtype=np.float32), []

def work():
    for _ in range(200):
        if not np.allclose(x @ rows.T, x, rtol=1e-5):
            wrong.append("wrong")

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(numba.threading_layer(), wrong)
"""


def test_two_threads_at_once_survive_numbas_simplest_kind_of_threads():
    """It ends the process where two loops run in parallel, so they must wait for each other."""
    environment = without_unbuffered() | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    done = run_python("-c", TWO_THREADS, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, b"workqueue []"), done.stderr.decode()
