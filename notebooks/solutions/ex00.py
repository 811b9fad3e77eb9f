"""Solutions to the exercises of notebook 00."""

import numpy as np

import gpt2


def make_it_sure():
    return "Once upon a"  # or "He nodded his": words that nearly always come together


def which_rows_change():
    return "c"  # a token sees itself and those before it, so a change shows there and later


def generate(ids, params, n_head, n_tokens):
    ids, new_ids = list(ids), []
    for _ in range(n_tokens):
        logits = gpt2.gpt2(ids, **params, n_head=n_head)
        new_ids.append(int(np.argmax(logits[-1])))
        ids.append(new_ids[-1])
    return new_ids


def numbers_in_gpt3():
    return 96 * 12 * 12_288**2  # blocks; in each 4 n_embd² of attention and 8 n_embd² of the MLP


def count_parameters(n_vocab, n_ctx, n_embd, n_layer):
    norm = 2 * n_embd  # g and b
    attention = n_embd * 3 * n_embd + 3 * n_embd + n_embd * n_embd + n_embd
    mlp = n_embd * 4 * n_embd + 4 * n_embd + 4 * n_embd * n_embd + n_embd
    block = norm + attention + norm + mlp
    return n_vocab * n_embd + n_ctx * n_embd + n_layer * block + norm
