"""Look inside a pass through the model: what each block computes, and how to change one of its weights.

Stateless functions need no hooks. `steps` is gpt2.transformer written out, a line for each step, down to
layer_norm, linear, attention_weights, causal_mask, split_heads and merge_heads. It calls these by their
dotted names: one that is replaced there, as by unittest.mock.patch.object(gpt2, "merge_heads", ...), is
replaced here too.
"""

import numpy as np

import gpt2
from checkpoint import flatten, nest


def block_steps(x, mlp, attn, ln_1, ln_2, n_head):  # [n_seq, n_embd] -> {name: array}
    """All that `gpt2.transformer_block` computes on its way, by name, in order.

    q, k, v and heads are [n_head, n_seq, d_head], weights [n_head, n_seq, n_seq], c_fc and act [n_seq,
    n_inner], the others [n_seq, n_embd]; "x + attn" and "x + mlp" are the residual stream after each write.
    """
    n_seq, steps = x.shape[-2], {}
    steps["ln_1"] = gpt2.layer_norm(x, **ln_1)
    q, k, v = gpt2.queries_keys_values(steps["ln_1"], attn["c_attn"], n_head)
    steps |= {"q": q, "k": k, "v": v}
    steps["weights"] = gpt2.attention_weights(q, k, gpt2.causal_mask(n_seq, n_seq))
    steps["heads"] = steps["weights"] @ v
    steps["attn"] = gpt2.linear(gpt2.merge_heads(steps["heads"]), **attn["c_proj"])
    steps["x + attn"] = x + steps["attn"]
    steps["ln_2"] = gpt2.layer_norm(steps["x + attn"], **ln_2)
    steps["c_fc"] = gpt2.linear(steps["ln_2"], **mlp["c_fc"])
    steps["act"] = mlp.get("act", gpt2.gelu)(steps["c_fc"])
    steps["mlp"] = gpt2.linear(steps["act"], **mlp["c_proj"])
    steps["x + mlp"] = steps["x + attn"] + steps["mlp"]
    return steps


def steps(inputs, wte, wpe, blocks, ln_f, n_head):  # [n_seq] -> yields {name: array} for each block
    """The `block_steps` of every block, the first first; "x" is what the block starts from."""
    inputs = np.asarray(inputs)
    x = wte[inputs] + wpe[range(inputs.shape[-1])]
    for block in blocks:
        found = {"x": x, **block_steps(x, **block, n_head=n_head)}
        yield found
        x = found["x + mlp"]


def attention_maps(inputs, **weights):  # [n_seq] -> yields [n_head, n_seq, n_seq] for each layer
    """Who looks at whom: a row for each token that looks, and in it its weights, which sum to one."""
    for found in steps(inputs, **weights):
        yield found["weights"]


def residual_stream(inputs, **weights):  # [n_seq] -> [1 + 2 n_layer, n_seq, n_embd]
    """The residual stream after the embeddings, and after each write: attention, MLP, attention, ..."""
    stream = []
    for found in steps(inputs, **weights):
        stream += [found["x"], found["x + attn"]]
    return np.array([*stream, found["x + mlp"]])


def with_activation(params, act):  # -> params
    """The same model with another function between the two matrices of each MLP, such as np.tanh."""
    blocks = [block | {"mlp": block["mlp"] | {"act": act}} for block in params["blocks"]]
    return params | {"blocks": blocks}


def replace(params, path, array):  # -> params
    """The same model but for one array, named as in the checkpoint: "wpe", "h0/attn/c_attn/w".

    All others are shared, none is copied or changed. Raises ValueError for another name or shape.
    """
    arrays = flatten(params)
    if not isinstance(arrays.get(path), np.ndarray):
        raise ValueError(f"{path!r} is not an array of this model: it has {', '.join(arrays)[:60]}, ...")
    if np.shape(array) != np.shape(arrays[path]):
        wanted, given = list(np.shape(arrays[path])), list(np.shape(array))
        raise ValueError(f"{path} is {wanted}, the array given is {given}")
    return nest(arrays | {path: np.asarray(array, dtype=np.float32)})
