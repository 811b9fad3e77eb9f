"""Solutions to the exercises of notebook 02."""

import numpy as np


def lookup(ids, wte):
    one_hot = np.zeros((len(ids), len(wte)), dtype=np.float32)
    one_hot[np.arange(len(ids)), ids] = 1  # row i: 1 at its own id, 0 elsewhere
    return one_hot @ wte


def nearest(token_id, table, n):
    norms = np.linalg.norm(table, axis=1)
    norms[norms == 0] = 1  # a row of zeros: 0 / 1
    cosines = table @ table[token_id] / (norms * norms[token_id])
    cosines[token_id] = -2  # below every cosine: never its own neighbour
    return np.argsort(-cosines)[:n]


def random_cosine():
    return 192**0.5 / 192  # products of either sign: √n of them are left; the norms give n


def islands(table):
    unit = table / (np.linalg.norm(table, axis=1, keepdims=True) + 1e-6)
    unit = unit - unit.mean(axis=0)  # what all share would make all alike
    groups, seed, free = [], 0, np.ones(len(table))
    for _ in range(3):
        group = np.argsort(-(unit @ unit[seed]) * free)[:6]  # a token and its neighbours
        groups.append(group.tolist())
        free[group] = 0
        seeds = [group[0] for group in groups]
        like = np.abs(unit @ unit[seeds].T).max(axis=1)
        seed = np.argmin(like + 2 * (free == 0))  # the next: like none of those before
    return groups


def same_again():
    return "c"
