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
    """One block, step after step. "x" is what it starts from."""
    steps = {"x": x}
    for name in STEPS:
        steps[name] = step(name, steps, block, n_head)
    return steps


STEPS = "ln_1", "q", "k", "v", "weights", "heads", "attn", "x + attn", "ln_2", "c_fc", "act", "mlp", "x + mlp"


def step(name, found, block, n_head):  # {name: array} -> array
    """One step of a block, from those arrays in `found` that it starts from."""
    found = {name: np.asarray(array, dtype=float) for name, array in found.items()}
    attn, mlp = block["attn"], block["mlp"]
    match name:
        case "ln_1":
            return norm(found["x"], block["ln_1"])
        case "q" | "k" | "v":
            return part("qkv".index(name), dense(found["ln_1"], attn["c_attn"]), n_head)
        case "weights":
            return look(found["q"], found["k"])
        case "heads":
            return mix(found["weights"], found["v"])
        case "attn":
            side_by_side = np.concatenate(list(found["heads"]), axis=-1)
            return dense(side_by_side, attn["c_proj"])
        case "x + attn":
            return found["x"] + found["attn"]
        case "ln_2":
            return norm(found["x + attn"], block["ln_2"])
        case "c_fc":
            return dense(found["ln_2"], mlp["c_fc"])
        case "act":
            return gelu(found["c_fc"])
        case "mlp":
            return dense(found["act"], mlp["c_proj"])
        case "x + mlp":
            return found["x + attn"] + found["mlp"]
    raise ValueError(f"{name!r} is not a step: it must be one of {', '.join(STEPS)}")


def part(which, wide, n_head):  # [n_seq, 3 n_embd] -> [n_head, n_seq, d_head]
    """The queries (0), keys (1) or values (2), head by head: `wide` has all queries first, then all keys."""
    n_embd = wide.shape[-1] // 3
    d_head = n_embd // n_head
    starts = [which * n_embd + head * d_head for head in range(n_head)]
    return np.array([wide[:, start : start + d_head] for start in starts])


def look(q, k):  # two of [n_head, n_seq, d_head] -> [n_head, n_seq, n_seq]
    """The weights: each head, and each token in it, on its own."""
    n_head, n_seq, d_head = q.shape
    weights = np.zeros((n_head, n_seq, n_seq))
    for head in range(n_head):
        for i in range(n_seq):
            scores = [q[head, i] @ k[head, j] / math.sqrt(d_head) for j in range(i + 1)]
            exps = [math.exp(score - max(scores)) for score in scores]
            for j in range(i + 1):
                weights[head, i, j] = exps[j] / sum(exps)
    return weights


def mix(weights, v):  # [n_head, n_seq, n_seq], [n_head, n_seq, d_head] -> [n_head, n_seq, d_head]
    """Each token's mean of the values, with its weights."""
    heads = np.zeros(v.shape)
    for head, i, j in np.ndindex(weights.shape):
        heads[head, i] += weights[head, i, j] * v[head, j]
    return heads


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


NOISE = 1e-5  # two right programs in float32 differ by less


def same(got, expected):  # -> True or False
    """Whether two arrays are the same except for float32's noise."""
    return got.shape == expected.shape and bool(error(got, expected) <= NOISE)


def own_errors(found, block, n_head):  # {name: array} -> {name: number}
    """For each step of a block, how far it is from what the reference makes of the same inputs."""
    return {name: error(found[name], step(name, found, block, n_head)) for name in STEPS}


def faults(found, block, n_head):  # {name: array} -> list of names
    """The steps that are wrong by themselves, not because of what they were given."""
    own = own_errors(found, block, n_head)
    return [name for name, share in own.items() if not share <= NOISE]  # so that NaN is wrong too
