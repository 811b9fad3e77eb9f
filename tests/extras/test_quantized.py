"""Matrices of few bits: codes beside slow loops, products beside those of the matrices they stand for."""

import os
import threading

import numpy as np
import pytest
from helpers import assert_same_logits, run_python

from extras import quantized
from extras.quantized import KINDS, Float32, Int4, Int8

ALL = {**KINDS, "float32": Float32}
SHAPES = [(1, 64), (5, 24), (3, 100), (2, 128), (300, 200), (1030, 70)]  # [n_rows, n_columns]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def blocks_of(row):
    return [row[start : start + 64] for start in range(0, len(row), 64)]


@pytest.fixture(params=["compiled", "plain"])
def way(request, monkeypatch):
    """With Numba and without."""
    if request.param == "plain":
        monkeypatch.setattr(quantized, "compiled", None)
    elif quantized.compiled is None:
        pytest.skip("Numba is not installed")
    return request.param


# ---- codes and scales --------------------------------------------------------------------------------------


def int8_row(row):  # -> codes, scale, widened
    """A row in eight bits, number by number."""
    scale = max(abs(weight) for weight in row) / np.float32(127)
    codes = [round(float(weight / scale)) if scale else 0 for weight in row]
    return codes, scale, [np.float32(code) * scale for code in codes]


def int4_block(block):  # -> codes, scale, widened
    """A block in four bits, number by number."""
    largest = max(block, key=abs)
    scale = largest / np.float32(-8)
    codes = [min(round(float(weight / scale)) + 8, 15) if scale else 8 for weight in block]
    return codes, scale, [np.float32(code - 8) * scale for code in codes]


def with_zeros(shape):
    """A random matrix in which the first block of the first row is zero, and all of the last row."""
    matrix = draw(*shape)
    matrix[0, :64] = matrix[-1] = 0
    return matrix


@pytest.mark.parametrize("make", [draw, lambda *shape: with_zeros(shape)])
@pytest.mark.parametrize("shape", SHAPES)
def test_eight_bits_are_those_of_a_slow_loop(shape, make):
    matrix = make(*shape)
    found = Int8.of(matrix)
    assert found.codes.dtype == np.int8 and found.scales.dtype == found[:].dtype == np.float32
    for codes, scale, widened, row in zip(found.codes, found.scales, found[:], matrix):
        assert (codes.tolist(), scale, widened.tolist()) == int8_row(row)
        assert np.abs(widened - row).max() <= 0.5001 * scale


@pytest.mark.parametrize("make", [draw, lambda *shape: with_zeros(shape)])
@pytest.mark.parametrize("shape", SHAPES)
def test_four_bits_are_those_of_a_slow_loop(shape, make):
    matrix = make(*shape)
    found = Int4.of(matrix)
    n_pairs = -(-shape[1] // 128)
    assert found.codes.shape == (shape[0], n_pairs, 64) and found.codes.dtype == np.uint8
    assert found.scales.shape == (shape[0], n_pairs, 2) and found.scales.dtype == np.float32
    for bytes_, scales, widened, row in zip(found.codes, found.scales, found[:], matrix):
        codes = [half for pair in bytes_ for half in (pair & 15, pair >> 4)]  # the low halves come first
        for block, its_codes, scale, numbers in zip(
            blocks_of(row), codes, scales.ravel(), blocks_of(widened)
        ):
            n = len(block)  # the last block may be shorter
            assert (its_codes[:n].tolist(), scale, numbers.tolist()) == int4_block(block)
            assert np.abs(numbers - block).max() <= 1.0001 * abs(scale)


def test_the_largest_weight_of_a_block_is_kept_exactly_whatever_its_sign():
    matrix = draw(50, 128)
    for kind, n in ((Int4, 64), (Int8, 128)):
        blocks, widened = matrix.reshape(-1, n), kind.of(matrix)[:].reshape(-1, n)
        largest = np.abs(blocks).argmax(axis=1)[:, None]
        found, wanted = (np.take_along_axis(each, largest, axis=1) for each in (widened, blocks))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert (wanted > 0).any() and (wanted < 0).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_too_small_for_an_exact_scale_change_no_other(sign):
    """Numbers near 1e-45 have few digits: so has their scale, and codes could leave their range."""
    numbers = sign * np.arange(400, dtype=np.float32) * np.float32(1e-45)
    for first, second in ((slice(0, 64), slice(64, 128)), (slice(64, 128), slice(0, 64))):
        matrix = np.tile(draw(1, 128), (400, 1))
        matrix[:, first] = numbers[:, None]
        found = Int4.of(matrix)[:]
        assert np.abs(found[:, first] - matrix[:, first]).max() <= 1e-42
        np.testing.assert_array_equal(found[:, second], np.tile(found[:1, second], (400, 1)))
    small = np.tile(numbers[:, None], (1, 100))
    assert np.abs(Int8.of(small)[:] - small).max() <= 1e-42
    assert (sign * Int8.of(small).codes >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_codes_do_not_depend_on_how_the_matrix_lies_in_memory(kind):
    matrix = draw(70, 100).astype(np.float16).astype(np.float32)
    wanted = KINDS[kind].of(matrix)
    others = [matrix.astype(np.float16), np.asfortranarray(matrix), np.repeat(matrix, 2, axis=1)[:, ::2]]
    others += [matrix.astype(np.float64), matrix[::-1].copy()[::-1]]
    for other in others:
        found = KINDS[kind].of(other)
        assert np.array_equal(found.codes, wanted.codes) and np.array_equal(found.scales, wanted.scales)
        assert found.shape == wanted.shape


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_takes_a_quarter_or_an_eighth_of_the_bytes(kind):
    matrix = draw(256, 1024)
    found = KINDS[kind].of(matrix)
    assert found.codes.nbytes == matrix.nbytes // (4 if kind == "int8" else 8)
    assert found.scales.nbytes <= matrix.nbytes / 64


# ---- products ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_that_with_the_float32_matrix_that_it_stands_for(kind, shape, way):
    rows = ALL[kind].of(draw(*shape) if shape[0] == 1 else with_zeros(shape))
    for n in (1, 2, 3, 8, 9, 16, 17, 32, 33, 300):  # few go to the loops, more to BLAS
        x = draw(n, shape[1], seed=n)
        assert_same_logits(x @ rows.T, x @ rows[:].T)
        assert_same_logits(x @ rows.T, (x.astype(float) @ rows[:].T.astype(float)).astype(np.float32))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 3), (2, 1, 20), (0,), (3, 0), (0, 3)])
def test_x_may_have_any_leading_axes(kind, leading, way):
    rows, x = ALL[kind].of(draw(40, 100)), draw(*leading, 100, seed=1)
    found = x @ rows.T
    assert found.shape == (*leading, 40) and found.dtype == np.float32
    np.testing.assert_allclose(found, x @ rows[:].T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ALL)
def test_with_numba_and_without_the_numbers_are_the_same(kind, monkeypatch):
    rows, few, many = ALL[kind].of(draw(1100, 200)), draw(2, 200, seed=1), draw(40, 200, seed=2)
    compiled = few @ rows.T, many @ rows.T, rows[:], rows[3:250:2], rows.tile(slice(1024, 2048))
    monkeypatch.setattr(quantized, "compiled", None)
    assert_same_logits(compiled[0], few @ rows.T)
    plain = many @ rows.T, rows[:], rows[3:250:2], rows[1024:]
    for found, wanted in zip(compiled[1:], plain):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ALL)
def test_x_of_another_type_or_order_gives_the_same_in_float32(kind, way):
    rows, x = ALL[kind].of(draw(40, 100)), draw(2, 3, 100, seed=1).astype(np.float16)
    wanted = x.astype(np.float32) @ rows.T
    wide = np.repeat(x.astype(np.float32), 2, axis=-1)[..., ::2]
    for other in (x, x.astype(float), np.asfortranarray(x.astype(np.float32)), wide):
        found = other @ rows.T
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ALL)
def test_it_answers_what_an_embedding_answers(kind, way):
    rows = ALL[kind].of(draw(300, 100))
    whole = rows[:]
    assert (len(rows), rows.shape, rows.T.shape, len(rows.T)) == (300, (300, 100), (100, 300), 100)
    assert rows.T.T is rows and whole.shape == (300, 100) and whole.dtype == np.float32
    for ids in (
        5,
        -1,
        [3, 1, 299],
        np.array([[7, 7], [0, 2]]),
        range(3, 9),
        slice(250, 280),
        np.zeros(0, int),
    ):
        found = rows[ids]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, whole[ids])
        np.testing.assert_array_equal(rows.T[:][:, ids], whole.T[:, ids])


@pytest.mark.parametrize("kind", ALL)
def test_x_of_another_width_is_an_error(kind):
    for shape in ((2, 50), (50,), (0, 50), (2, 0)):
        line = rf"x has rows of {shape[-1]} numbers, but w is \[100, 40\]"
        with pytest.raises(ValueError, match=line):
            draw(*shape) @ ALL[kind].of(draw(40, 100)).T


@pytest.mark.parametrize("kind", ALL)
def test_quantizing_and_multiplying_leave_their_arguments_unchanged(kind, way):
    matrix = draw(40, 100)
    before = matrix.copy()
    rows = ALL[kind].of(matrix)
    parts = [np.array(part) for part in vars(rows).values()]
    for n in (2, 40):
        x = draw(n, 100, seed=1)
        x @ rows.T
        assert np.array_equal(x, draw(n, 100, seed=1))
    looked_up = rows[[1, 2]]
    looked_up += 1
    np.testing.assert_array_equal(matrix, before)
    for part, wanted in zip(vars(rows).values(), parts):
        np.testing.assert_array_equal(part, wanted)


# ---- threads and processes ---------------------------------------------------------------------------------


def test_two_threads_at_once_get_right_numbers():
    all_rows = [kind.of(draw(300, 200)) for kind in ALL.values()]
    xs = [draw(n, 200, seed=n) for n in (1, 2, 40)]
    wanted, wrong = [[x @ rows[:].T for x in xs] for rows in all_rows], []

    def work():
        for _ in range(30):
            for rows, answers in zip(all_rows, wanted):
                for x, answer in zip(xs, answers):
                    if not np.allclose(x @ rows.T, answer, rtol=1e-4, atol=1e-4):
                        wrong.append(type(rows).__name__)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


IN_ANOTHER_PROCESS = """
import multiprocessing, sys
import numpy as np
from extras.quantized import KINDS

def errors(rows_of_kinds):
    x = np.random.default_rng(1).normal(size=(2, 200)).astype(np.float32)
    return [float(np.abs(x @ rows.T - x @ rows[:].T).max()) for rows in rows_of_kinds]

if __name__ == "__main__":
    matrix = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)
    rows = [kind.of(matrix) for kind in KINDS.values()]
    here = errors(rows)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        there = pool.map(errors, [rows] * 4)
    assert max(map(max, [here, *there])) < 1e-4, (here, there)
    print(len(there), max(errors(rows)) < 1e-4)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_that_is_started_after_use_gets_right_numbers(tmp_path, method):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    (tmp_path / "program.py").write_text(IN_ANOTHER_PROCESS)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = run_python(str(tmp_path / "program.py"), method, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, b"4 True"), done.stderr.decode()


@pytest.mark.parametrize("kind", ALL)
def test_it_is_indexed_and_read_as_an_array_like_the_matrix_that_it_stands_for(kind, way):
    rows = ALL[kind].of(draw(40, 100))
    whole = rows[:]
    for index in (np.s_[:, 1], np.s_[:, :70], np.s_[3, 5], np.s_[..., 3], ([0, 1], [2, 3]), np.s_[3:9, ::2]):
        np.testing.assert_array_equal(rows[index], whole[index])
        np.testing.assert_array_equal(rows.T[index], whole.T[index])
    for matrix, wanted in ((rows, whole), (rows.T, whole.T)):
        found = np.asarray(matrix)
        assert found.dtype == np.float32 and np.array_equal(found, wanted)
    assert_same_logits([1.0] * 100 @ rows.T, np.ones(100, np.float32) @ whole.T)


@pytest.mark.parametrize("n_rows", [70, 1024, 2500])
@pytest.mark.parametrize("kind", KINDS)
def test_x_times_the_rows_is_x_times_what_they_stand_for(kind, n_rows):
    rng = np.random.default_rng(0)
    rows = KINDS[kind].of(rng.normal(size=(n_rows, 66)).astype(np.float32))
    x = rng.normal(size=(2, 3, n_rows)).astype(np.float32)
    found, wanted = x @ rows, x @ rows[:]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
