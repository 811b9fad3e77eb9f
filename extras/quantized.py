"""Matrices with eight or four bits a weight, which answer x @ w like the float32 matrix that they stand for.

To generate a token, every weight is read from memory once. The fewer bytes a weight takes, the faster that
is, and the larger the model that fits in memory. So each weight becomes a small whole number, its code, and
shares a scale with others:

    int8   w ≈ code · scale           codes from -127 to 127, a scale for each output
    int4   w ≈ (code - 8) · scale     codes from 0 to 15, a scale for 64 weights that make the same output
    nf4    w ≈ LEVELS[code] · scale   codes from 0 to 15, a scale for 64 weights; see nf4.py

The weights that make one output, a column of w, are stored side by side: they are a row of an object such as
`Int8`, which stands for wᵀ. In place of wte, this object answers [ids], len and .T. Its transpose, a
`Transposed`, answers x @ w; a backward pass, x @ wᵀ.

NumPy cannot multiply floats by codes: it has to widen them to floats first. So a matrix is widened and
multiplied one tile, some of its rows, at a time. For a few rows of x, the loops in compiled.py do both at
once, which is much faster.

(int8: "weight-only" in PyTorch, "vector-wise absmax" in bitsandbytes, Dettmers et al. 2022, "LLM.int8()";
int4: Q4_0 in llama.cpp, but with larger blocks and float32 scales)
"""

import os

import numpy as np

from extras.nf4 import LEVELS, rounded_scales, to_codes
from files import how_to_install, say

try:
    from extras import compiled
except Exception as error:  # Numba is missing, or does not work here
    compiled = None
    say(f"{error}: quantized weights are slow without it; {how_to_install('requirements-extras.txt')}")

BLOCK = 64  # weights that share a scale, in four bits
TILE = 1024  # rows that are widened at once


def forget_compiled():
    """Do without the compiled loops: GNU OpenMP kills a forked process that uses them if its parent did."""
    global compiled
    compiled = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_compiled)

# ---- what all kinds share ----------------------------------------------------------------------------------


class Rows:
    """A matrix of codes, [n_rows, n_columns].

    Each kind has `encoded`, which turns float32 rows into codes and scales; `widened`, which turns these into
    float32 again; and two methods that call compiled.py, `widened_by_loop` and `products_by_loop`.
    """

    __array_ufunc__ = None  # NumPy then leaves x @ self to __rmatmul__
    n_few = 16  # for more rows of x, widening and BLAS are faster than the compiled loop

    def __init__(self, shape, codes, scales):
        self.shape, self.codes, self.scales = shape, codes, scales

    @classmethod
    def of(cls, matrix):  # [n_rows, n_columns] -> Rows
        """The nearest codes and scales for a matrix of float32; made tile by tile, in little memory."""
        tiles = [matrix[start : start + TILE] for start in range(0, len(matrix), TILE)]
        encoded = [cls.encoded(np.ascontiguousarray(tile, dtype=np.float32)) for tile in tiles]
        codes, scales = (np.concatenate(parts) for parts in zip(*encoded))
        return cls(matrix.shape, codes, scales)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, ids):  # -> array of float32
        return self.widened(slice(None))[ids] if isinstance(ids, tuple) else self.widened(ids)

    def __array__(self, dtype=None, copy=None):  # as np.asarray asks
        return self[:].astype(dtype or np.float32, copy=False)

    @property
    def T(self):
        return Transposed(self)

    def products(self, x):  # [n, n_columns] -> [n, n_rows]
        """x times the transpose of this matrix."""
        y = np.empty((len(x), len(self)), dtype=np.float32)
        if compiled and len(x) <= self.n_few:
            with compiled.one_at_a_time:
                self.products_by_loop(x, y)
            return y
        for start in range(0, len(self), TILE):
            rows = slice(start, start + TILE)
            y[:, rows] = x @ self.tile(rows).T
        return y

    def __rmatmul__(self, x):  # [..., n_rows] -> [..., n_columns]
        """x times this matrix: the way back through the model, when an adapter beside it learns."""
        starts = range(0, len(self), TILE)
        return sum(x[..., start : start + TILE] @ self.tile(slice(start, start + TILE)) for start in starts)

    def tile(self, rows):  # slice -> [n, n_columns]
        """What `widened` returns, faster if there is Numba."""
        return self.widened_by_loop(rows) if compiled else self.widened(rows)


class Transposed:
    """The transpose of `Rows`: it stands for a matrix w, [n_in, n_out], and answers x @ w."""

    __array_ufunc__ = None  # NumPy then leaves x @ self to __rmatmul__

    def __init__(self, rows):
        self.T = rows
        self.shape = rows.shape[::-1]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, ids):  # -> array of float32
        return self.T[:].T[ids]

    def __array__(self, dtype=None, copy=None):  # as np.asarray asks
        return self[:].astype(dtype or np.float32, copy=False)

    def __rmatmul__(self, x):  # [..., n_in] -> [..., n_out]
        n_in, n_out = self.shape
        x = np.asarray(x)
        if x.shape[-1] != n_in:
            raise ValueError(f"x has rows of {x.shape[-1]} numbers, but w is {list(self.shape)}")
        rows = np.ascontiguousarray(x, dtype=np.float32).reshape(-1, n_in)
        return self.T.products(rows).reshape(*x.shape[:-1], n_out)


class Float32(Rows):
    """A matrix of float32, in place of wte in nf4.

    It has a compiled loop only because the other matrices have: after a product by NumPy, OpenBLAS's threads
    would spin for 20 ms, and slow down the loops that follow.
    """

    def __init__(self, matrix):  # [n_rows, n_columns]
        self.shape, self.matrix = matrix.shape, matrix

    @classmethod
    def of(cls, matrix):
        return cls(matrix)

    def widened(self, rows):
        return self.matrix[rows]

    widened_by_loop = widened

    def products_by_loop(self, x, y):  # y is filled
        compiled.float32_products(x, self.matrix, y)


# ---- eight bits --------------------------------------------------------------------------------------------


class Int8(Rows):
    """codes: [n_rows, n_columns] of int8; scales: [n_rows]. The largest weight of a row becomes ±127."""

    n_few = 32
    largest = 127  # times the scale

    @staticmethod
    def parts(n_rows, n_columns):  # -> {name: (type, shape)}
        return {"codes": (np.int8, (n_rows, n_columns)), "scales": (np.float32, (n_rows,))}

    @staticmethod
    def encoded(rows):  # [n, n_columns] -> codes, scales
        scales = np.abs(rows).max(axis=1) / 127
        codes = np.rint(rows / nonzero(scales)[:, None])
        return np.clip(codes, -127, 127).astype(np.int8), scales  # near 1e-45, scales are coarse

    def widened(self, rows):  # -> [n, n_columns]
        return self.codes[rows] * self.scales[rows][..., None]

    def widened_by_loop(self, rows):
        codes = self.codes[rows]
        w = np.empty(codes.shape, dtype=np.float32)
        compiled.int8_widen(codes, self.scales[rows], w)
        return w

    def products_by_loop(self, x, y):  # y is filled
        compiled.int8_products(x, self.codes, self.scales, y)


def nonzero(scales):  # any shape -> same shape
    """Scales to divide by: 1 in place of 0, which a block of zeros has."""
    return np.where(scales == 0, np.float32(1), scales)


# ---- four bits ---------------------------------------------------------------------------------------------


class FourBits(Rows):
    """codes: [n_rows, n_pairs, 64] of uint8; scales: [n_rows, n_pairs, 2].

    A row is cut into blocks of 64 weights, padded with zeros at its end, and blocks are paired. Byte i of a
    pair holds weight i of the first block in its low four bits, and weight i of the second in its high four.
    A compiled loop takes 64 bytes at once, so one pair.
    """

    @staticmethod
    def parts(n_rows, n_columns):  # -> {name: (type, shape)}
        n_pairs = -(-n_columns // (2 * BLOCK))
        return {"codes": (np.uint8, (n_rows, n_pairs, BLOCK)), "scales": (np.float32, (n_rows, n_pairs, 2))}

    def widened(self, rows):  # -> [n, n_columns]
        pairs = self.levels(unpacked(self.codes[rows]))
        pairs *= self.scales[rows][..., None]
        return self.joined(pairs)

    def empty_pairs(self, rows):  # slice -> [n, n_pairs, 2, 64]
        """Room for the weights of some rows."""
        return np.empty((*self.scales[rows].shape, BLOCK), dtype=np.float32)

    def joined(self, pairs):  # [n, n_pairs, 2, 64] -> [n, n_columns]
        """The inverse of `in_pairs`."""
        *leading, n_pairs, _, _ = pairs.shape
        return pairs.reshape(*leading, n_pairs * 2 * BLOCK)[..., : self.shape[1]]


class Int4(FourBits):
    """A block's weight of largest magnitude becomes -8, code 0; if it is positive, the scale is negative."""

    largest = 8  # times the scale

    @staticmethod
    def encoded(rows):  # [n, n_columns] -> codes, scales
        pairs = in_pairs(rows)
        largest = np.abs(pairs).argmax(axis=-1)[..., None]
        scales = np.take_along_axis(pairs, largest, axis=-1) / -8
        codes = np.rint(pairs / nonzero(scales)) + 8
        return packed(np.clip(codes, 0, 15)), scales[..., 0]

    @staticmethod
    def levels(codes):  # any shape -> same shape, of float32
        return np.subtract(codes, 8, dtype=np.float32)

    def widened_by_loop(self, rows):
        pairs = self.empty_pairs(rows)
        compiled.int4_widen(self.codes[rows], self.scales[rows], pairs)
        return self.joined(pairs)

    def products_by_loop(self, x, y):  # y is filled
        compiled.int4_products(in_pairs(x), self.codes, self.scales, y)


class NF4(FourBits):
    """The largest weight of a block becomes ±1, before its scale is rounded to eight bits."""

    n_few = 2  # looking up levels takes longer than multiplying
    largest = 1  # times the scale

    @staticmethod
    def encoded(rows):  # [n, n_columns] -> codes, scales
        pairs = in_pairs(rows)
        scales = np.abs(pairs).max(axis=-1)
        return packed(to_codes(pairs, scales)), scales

    @classmethod
    def of(cls, matrix, offset=None):  # [n_rows, n_columns] -> NF4
        """offset: what `rounded_scales` subtracts; by default it is their mean."""
        whole = super().of(matrix)
        n_blocks = -(-matrix.shape[1] // BLOCK)
        scales = whole.scales.reshape(len(matrix), -1)
        exact = scales[:, :n_blocks]  # without those of a block that only completes a pair
        scales[:, :n_blocks] = rounded_scales(exact.ravel(), offset).reshape(exact.shape)
        return whole

    @staticmethod
    def levels(codes):  # any shape -> same shape, of float32
        return LEVELS[codes]

    def widened_by_loop(self, rows):
        pairs = self.empty_pairs(rows)
        compiled.nf4_widen(self.codes[rows], self.scales[rows], LEVELS, pairs)
        return self.joined(pairs)

    def products_by_loop(self, x, y):  # y is filled
        compiled.nf4_products(in_pairs(x), self.codes, self.scales, LEVELS, y)


def in_pairs(rows):  # [n, n_columns] -> [n, n_pairs, 2, 64]
    """Rows cut into pairs of blocks, padded with zeros at the end."""
    missing = -rows.shape[1] % (2 * BLOCK)
    if missing:
        rows = np.pad(rows, ((0, 0), (0, missing)))
    return rows.reshape(len(rows), rows.shape[1] // (2 * BLOCK), 2, BLOCK)


def packed(codes):  # [..., 2, 64] -> [..., 64] of uint8
    """Two codes from 0 to 15 in each byte."""
    codes = codes.astype(np.uint8)
    return codes[..., 0, :] | codes[..., 1, :] << 4


def unpacked(codes):  # [..., 64] -> [..., 2, 64]
    """The inverse of `packed`."""
    return np.stack([codes & 15, codes >> 4], axis=-2)


KINDS = {"int8": Int8, "int4": Int4, "nf4": NF4}


def class_for(name, kind):  # "h0/attn/c_attn/w", "int8" -> a subclass of Rows, or None
    """What an array of this name becomes. None: norms, biases and wpe stay arrays.

    With "nf4", wte and the head keep their float32 weights, in a `Float32`.
    """
    if name in ("wte", "lm_head"):
        return Float32 if kind == "nf4" else KINDS[kind]
    return KINDS[kind] if name.endswith("/w") else None


def kind_of_weights(params):  # -> "int8", "int4", "nf4", or None for weights that are not quantized
    """What the first matrix of the first block is."""
    w = params["blocks"][0]["attn"]["c_attn"]["w"]
    return next((kind for kind, rows in KINDS.items() if isinstance(w.T, rows)), None)
