"""Look inside a forward pass: what each block computes, and how to change one of the weights.

Stateless functions need no hooks. `steps` is gpt2.transformer written out, a line for each step, down to
layer_norm, linear, attention_weights, causal_mask, split_heads and merge_heads. It calls these by their
dotted names, so a function that is replaced in gpt2, as by unittest.mock.patch.object(gpt2, "merge_heads",
...), is replaced here too.
"""

import numpy as np

import gpt2
from weights import flatten, nest

AT_ONCE = 2048  # tokens that go through the layers together, in texts without one head or another


def block_steps(x, mlp, attn, ln_1, ln_2, n_head):  # [n_seq, n_embd] -> {name: array}
    """Everything that `gpt2.transformer_block` computes, by name, in order.

    q, k, v and heads are [n_head, n_seq, d_head], weights [n_head, n_seq, n_seq], c_fc and act
    [n_seq, n_inner], the others [n_seq, n_embd]. "x + attn" and "x + mlp" are the residual stream after each
    write. A batch adds leading axes.
    """
    n_seq, step = x.shape[-2], {}
    step["ln_1"] = gpt2.layer_norm(x, **ln_1)
    q, k, v = gpt2.queries_keys_values(step["ln_1"], attn["c_attn"], n_head)
    step |= {"q": q, "k": k, "v": v}
    step["weights"] = gpt2.attention_weights(q, k, gpt2.causal_mask(n_seq, n_seq))
    step["heads"] = step["weights"] @ v
    step["attn"] = gpt2.linear(gpt2.merge_heads(step["heads"]), **attn["c_proj"])
    step["x + attn"] = x + step["attn"]
    step["ln_2"] = gpt2.layer_norm(step["x + attn"], **ln_2)
    step["c_fc"] = gpt2.linear(step["ln_2"], **mlp["c_fc"])
    step["act"] = mlp.get("act", gpt2.gelu)(step["c_fc"])
    step["mlp"] = gpt2.linear(step["act"], **mlp["c_proj"])
    step["x + mlp"] = step["x + attn"] + step["mlp"]
    return step


def steps(inputs, wte, wpe, blocks, ln_f, n_head):  # [n_seq] -> yields {name: array} for each block
    """The `block_steps` of every block, in order; "x" is what the block starts from."""
    inputs = np.asarray(inputs)
    x = wte[inputs] + wpe[range(inputs.shape[-1])]
    for block in blocks:
        step = {"x": x, **block_steps(x, **block, n_head=n_head)}
        yield step
        x = step["x + mlp"]


def attention_maps(inputs, **weights):  # [n_seq] -> yields [n_head, n_seq, n_seq] for each layer
    """Who looks at whom: for each token that looks, a row of weights that sum to one."""
    for step in steps(inputs, **weights):
        yield step["weights"]


def residual_stream(inputs, **weights):  # [n_seq] -> [1 + 2 n_layer, n_seq, n_embd]
    """The residual stream after the embeddings, and after each write: attention, MLP, attention, ..."""
    stream = []
    for step in steps(inputs, **weights):
        stream += [step["x"], step["x + attn"]]
    return np.array([*stream, step["x + mlp"]])


def without_each_head(inputs, wte, wpe, blocks, ln_f, n_head):  # yields [n_head, n_embd] for each layer
    """The last token's final hidden state if one head adds nothing: for each head of each layer.

    The layers below the head are not run again. The heads of a layer go through those above as a batch; where
    the text is long, as several, to save memory.
    """
    n_cut = max(AT_ONCE // len(inputs), 1)
    for layer, step in enumerate(steps(inputs, wte, wpe, blocks, ln_f, n_head)):
        hidden = []
        for first in range(0, n_head, n_cut):
            group = range(n_head)[first : first + n_cut]
            heads = np.repeat(step["heads"][None], len(group), axis=0)  # [n_cut, n_head, n_seq, d_head]
            heads[range(len(group)), group] = 0
            x = step["x"] + gpt2.linear(gpt2.merge_heads(heads), **blocks[layer]["attn"]["c_proj"])
            x = x + gpt2.ffn(gpt2.layer_norm(x, **blocks[layer]["ln_2"]), **blocks[layer]["mlp"])
            for later in blocks[layer + 1 :]:
                x = gpt2.transformer_block(x, **later, n_head=n_head)
            hidden.append(gpt2.layer_norm(x[:, -1], **ln_f))
        yield np.concatenate(hidden)


def probability(next_id, ids, params, n_head):  # -> from 0 to 1
    """How likely next_id is after these ids. Raises FloatingPointError as `gpt2.next_logits` does."""
    hidden = gpt2.transformer(ids, **params, n_head=n_head)
    return float(gpt2.softmax(gpt2.next_logits(hidden[-1], params))[next_id])


def probability_without_heads(next_id, ids, params, n_head):  # -> [n_layer, n_head]
    """The same if one head adds nothing, for each head; a bar on stderr shows the progress."""
    from tqdm import tqdm

    cuts = without_each_head(ids, **params, n_head=n_head)
    cuts = tqdm(cuts, "cutting heads", len(params["blocks"]), unit="layer", disable=None)
    return np.array([gpt2.softmax(gpt2.next_logits(hidden, params))[:, next_id] for hidden in cuts])


def with_activation(params, act):  # -> params
    """The same model with another activation function in each MLP, such as np.tanh."""
    blocks = [block | {"mlp": block["mlp"] | {"act": act}} for block in params["blocks"]]
    return params | {"blocks": blocks}


def without_head(params, n_head, layer, head):  # -> params
    """The same model, in which a head adds nothing: the rows of c_proj that take in its output are 0."""
    w = params["blocks"][layer]["attn"]["c_proj"]["w"]
    w = np.array(w[:])  # a copy, and float32 if it is quantized
    d_head = len(w) // n_head
    w[head * d_head : (head + 1) * d_head] = 0
    return replace(params, f"h{layer}/attn/c_proj/w", w)


def replace(params, path, array):  # -> params
    """The same model except for one array, named as in the checkpoint: "wpe", "h0/attn/c_attn/w".

    All other arrays are shared: none is copied or changed. Raises ValueError for an unknown name or a wrong
    shape.
    """
    arrays = flatten(params)
    if not hasattr(arrays.get(path), "shape"):
        raise ValueError(f"{path!r} is not an array of this model: it has {', '.join(arrays)[:60]}, ...")
    if np.shape(array) != np.shape(arrays[path]):
        wanted, given = list(np.shape(arrays[path])), list(np.shape(array))
        raise ValueError(f"{path} is {wanted}, but the array given is {given}")
    return nest(arrays | {path: np.asarray(array, dtype=np.float32)})
