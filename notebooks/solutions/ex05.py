"""Solutions to the exercises of notebook 05."""

import numpy as np


def split_heads(x, n_head):
    n_seq, n_embd = x.shape
    x = x.reshape(n_seq, n_head, n_embd // n_head)  # cut each token's row
    return x.transpose(1, 0, 2)  # heads first


def merge_heads(x):
    n_head, n_seq, d_head = x.shape
    x = x.transpose(1, 0, 2)  # tokens first
    return x.reshape(n_seq, n_head * d_head)


def induction_scores(maps):
    n = maps.shape[-1] // 2
    stripe = np.diagonal(maps, -(n - 1), axis1=-2, axis2=-1)  # query i at key i - (n - 1)
    return stripe[..., 1:].mean(axis=-1)  # its first query is still in the first copy


def cut_head(w, head, d_head):
    w = w.copy()
    w[head * d_head : (head + 1) * d_head] = 0
    return w


def what_was_lost():
    return "c"


def loss_without_them(n_vocab):
    return np.log(n_vocab)


def past_the_first(maps):
    rest = maps.copy()
    rest[..., 0] = 0
    total = rest.sum(axis=-1, keepdims=True)
    return rest / np.where(total > 0, total, 1)
