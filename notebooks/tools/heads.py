"""How heads are measured: random tokens that come twice, and how much a head looks at what came next."""

import numpy as np


def twice(n_vocab, n, n_draws):  # -> ids, [n_draws, 2 n]
    """Random tokens, and the same ones again: nothing but the first copy predicts the second."""
    draws = [np.random.default_rng(seed).integers(n_vocab, size=n) for seed in range(n_draws)]
    return np.concatenate([draws, draws], axis=1)


def induction(maps):  # [..., 2 n, 2 n] -> [...]
    """How much a head looks from a token of the second copy at the one that came next in the first.

    Averaged over the second copy. Such a head is an induction head (Olsson et al. 2022, "In-context Learning
    and Induction Heads").
    """
    n = maps.shape[-1] // 2
    second = np.arange(n, 2 * n)
    return maps[..., second, second - (n - 1)].mean(axis=-1)


def cut_rows(w, head, d_head):  # [n_embd, n_embd], int, int -> [n_embd, n_embd]
    """The matrix of c_proj to which one head gives nothing."""
    return np.where((np.arange(len(w)) // d_head == head)[:, None], np.float32(0), w)
