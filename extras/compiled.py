"""Products with the matrices of quantized.py: plain loops, compiled by Numba. Nothing else here is compiled.

For each output, a loop adds up x times w over all inputs, as a student would, and widens each code on the
way. With int8 and int4 that is faster than BLAS with float32 weights, which are four or seven times as large:
the processor mostly waits for weights to arrive from memory. The outputs are divided among the cores.
`fastmath` lets the compiler add in another order, and so do up to sixteen products at once.

Compiling takes about a second, when a function is first called; the result is kept in __pycache__.
"""

import functools
import os
import pickle
import threading

# How long GNU OpenMP's threads spin before they sleep: for most of the 50 µs between two loops. Any longer,
# and a token takes five times as long while another program, or OpenBLAS's threads, use a core.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import numba
import numpy as np
from numba import prange

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set")

one_at_a_time = threading.Lock()  # for parallel loops: some of Numba's threading layers cannot run two


def jit(parallel):  # -> decorator
    """Compile a function when it is first called, and keep the result on disk if it may be written there."""

    def decorator(function):
        options = {"parallel": parallel, "fastmath": True}
        try:
            kept = numba.njit(function, cache=True, **options)
        except RuntimeError:  # neither this folder nor the user's cache is writable
            return numba.njit(function, **options)
        anew = numba.njit(function, **options)
        found = [kept]

        @functools.wraps(function)
        def loop(*arrays):
            try:
                found[0](*arrays)
            except (OSError, EOFError, pickle.UnpicklingError):  # the disk is full, or a kept result damaged
                found[0] = anew
                anew(*arrays)

        return loop

    return decorator


# ---- multiplying -------------------------------------------------------------------------------------------


@jit(parallel=True)
def float32_products(x, w, y):  # [n, n_in], [n_out, n_in]; y, to be filled: [n, n_out]
    """y = x wᵀ."""
    n_out, n_in = w.shape
    for output in prange(n_out):
        for row in range(len(x)):
            total = np.float32(0)
            for i in range(n_in):
                total += x[row, i] * w[output, i]
            y[row, output] = total


@jit(parallel=True)
def int8_products(x, codes, scales, y):  # [n, n_in], [n_out, n_in], [n_out]; y, to be filled: [n, n_out]
    """y = x (codes · scales)ᵀ."""
    n_out, n_in = codes.shape
    for output in prange(n_out):
        for row in range(len(x)):
            total = np.float32(0)
            for i in range(n_in):
                total += x[row, i] * np.float32(codes[output, i])
            y[row, output] = total * scales[output]


@jit(parallel=True)
def int4_products(x, codes, scales, y):  # [n, n_pairs, 2, 64], [n_out, n_pairs, 64], [n_out, n_pairs, 2]
    """The same for codes of four bits: a byte holds a weight of each of two blocks, which have two scales."""
    n_out, n_pairs, n_block = codes.shape
    for output in prange(n_out):
        for row in range(len(x)):
            total = np.float32(0)
            for pair in range(n_pairs):
                first, second = np.float32(0), np.float32(0)
                for i in range(n_block):
                    byte = codes[output, pair, i]
                    # Numba makes an int64 of a code minus 8; an int8 is widened faster
                    first += x[row, pair, 0, i] * np.float32(np.int8((byte & 15) - 8))
                    second += x[row, pair, 1, i] * np.float32(np.int8((byte >> 4) - 8))
                total += first * scales[output, pair, 0] + second * scales[output, pair, 1]
            y[row, output] = total


@jit(parallel=True)
def nf4_products(x, codes, scales, levels, y):
    """The same for codes that are looked up in a table of 16 levels."""
    n_out, n_pairs, n_block = codes.shape
    for output in prange(n_out):
        for row in range(len(x)):
            total = np.float32(0)
            for pair in range(n_pairs):
                first, second = np.float32(0), np.float32(0)
                for i in range(n_block):
                    byte = codes[output, pair, i]
                    first += x[row, pair, 0, i] * levels[byte & 15]
                    second += x[row, pair, 1, i] * levels[byte >> 4]
                total += first * scales[output, pair, 0] + second * scales[output, pair, 1]
            y[row, output] = total


# ---- widening ----------------------------------------------------------------------------------------------

# For many rows of x, which BLAS multiplies faster. On one core: Numba's threads would disturb those of BLAS.
# Two loops, one for each half of a byte, are compiled to better code than one.


@jit(parallel=False)
def int8_widen(codes, scales, w):  # [n_out, n_in], [n_out]; w, to be filled: [n_out, n_in]
    """w = codes · scales."""
    n_out, n_in = codes.shape
    for output in range(n_out):
        scale = scales[output]
        for i in range(n_in):
            w[output, i] = np.float32(codes[output, i]) * scale


@jit(parallel=False)
def int4_widen(codes, scales, w):  # [n_out, n_pairs, 64], [n_out, n_pairs, 2]; w, [n_out, n_pairs, 2, 64]
    """The same for codes of four bits."""
    n_out, n_pairs, n_block = codes.shape
    for output in range(n_out):
        for pair in range(n_pairs):
            first, second = scales[output, pair, 0], scales[output, pair, 1]
            for i in range(n_block):
                code = codes[output, pair, i] & 15
                w[output, pair, 0, i] = np.float32(np.int8(code - 8)) * first
            for i in range(n_block):
                code = codes[output, pair, i] >> 4
                w[output, pair, 1, i] = np.float32(np.int8(code - 8)) * second


@jit(parallel=False)
def nf4_widen(codes, scales, levels, w):
    """The same for codes that are looked up in a table of 16 levels."""
    n_out, n_pairs, n_block = codes.shape
    for output in range(n_out):
        for pair in range(n_pairs):
            first, second = scales[output, pair, 0], scales[output, pair, 1]
            for i in range(n_block):
                w[output, pair, 0, i] = levels[codes[output, pair, i] & 15] * first
            for i in range(n_block):
                w[output, pair, 1, i] = levels[codes[output, pair, i] >> 4] * second
