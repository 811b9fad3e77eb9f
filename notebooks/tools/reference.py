"""GPT-2 again, slow and plain, in float64: the reference that models are compared with.

It shares nothing with gpt2.py: it loops over heads and tokens; a token looks only at itself and those before
it, so no mask is needed; and every number has twice the digits. It is OpenAI's GPT-2 and no other: a model's
own activation or eps is ignored.
"""

import math

import numpy as np


def forward(ids, params, n_head):  # [n_seq] -> [n_seq, n_vocab], {name: array} of each block
    """Logits, and what every block computes, under the names of `extras.inside.block_steps`."""
    wte, wpe = params["wte"], params["wpe"]
    x = np.array([wte[token_id].astype(float) + wpe[position] for position, token_id in enumerate(ids)])
    blocks = []
    for block in params["blocks"]:
        blocks.append(block_steps(x, block, n_head))
        x = blocks[-1]["x + mlp"]
    return norm(x, params["ln_f"]) @ wte.T.astype(float), blocks


def block_steps(x, block, n_head):  # [n_seq, n_embd] -> {name: array}
    """One block. "x" is what it starts from."""
    steps = {"x": x, "ln_1": norm(x, block["ln_1"])}
    steps |= attend(steps["ln_1"], block["attn"], n_head)
    steps["x + attn"] = x + steps["attn"]
    steps["ln_2"] = norm(steps["x + attn"], block["ln_2"])
    steps["c_fc"] = dense(steps["ln_2"], block["mlp"]["c_fc"])
    steps["act"] = gelu(steps["c_fc"])
    steps["mlp"] = dense(steps["act"], block["mlp"]["c_proj"])
    steps["x + mlp"] = steps["x + attn"] + steps["mlp"]
    return steps


def attend(x, attn, n_head):  # [n_seq, n_embd] -> {name: array}
    """Each head, and each token in it, on its own."""
    n_seq, n_embd = x.shape
    d_head = n_embd // n_head
    wide = dense(x, attn["c_attn"])  # all queries, then all keys, then all values
    q, k, v = np.zeros((3, n_head, n_seq, d_head))
    weights, heads = np.zeros((n_head, n_seq, n_seq)), np.zeros((n_head, n_seq, d_head))
    for head in range(n_head):
        for part, start in ((q, 0), (k, n_embd), (v, 2 * n_embd)):
            part[head] = wide[:, start + head * d_head : start + (head + 1) * d_head]
        for i in range(n_seq):
            scores = [q[head, i] @ k[head, j] / math.sqrt(d_head) for j in range(i + 1)]
            exps = [math.exp(score - max(scores)) for score in scores]
            for j in range(i + 1):
                weights[head, i, j] = exps[j] / sum(exps)
                heads[head, i] += weights[head, i, j] * v[head, j]
    side_by_side = np.concatenate(list(heads), axis=-1)
    attn = dense(side_by_side, attn["c_proj"])
    return {"q": q, "k": k, "v": v, "weights": weights, "heads": heads, "attn": attn}


def dense(x, layer):  # [n_in] -> [n_out]
    """Every output is a weighted sum of all inputs, plus a bias."""
    return x @ layer["w"].astype(float) + layer["b"]


def norm(x, layer):  # [n_embd] -> [n_embd]
    """Mean 0 and variance 1 over the numbers of each token, then scale and offset."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * layer["g"] + layer["b"]


def gelu(x):
    """OpenAI's formula."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# ---- distance from it --------------------------------------------------------------------------------------


def error(found, expected):  # -> number
    """The largest difference, as a share of the largest number expected."""
    return np.abs(found - expected).max() / np.abs(expected).max()


def error_by_position(found, expected):  # [..., n_seq, n] -> [n_seq]
    """The same, token by token."""
    largest = (np.abs(found - expected) / np.abs(expected).max()).max(axis=-1)  # [..., n_seq]
    return largest.reshape(-1, largest.shape[-1]).max(axis=0)
