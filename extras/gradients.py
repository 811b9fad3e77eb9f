"""The backward pass: how the loss changes with each weight, so that a model can learn from a text.

A forward pass computes y from x, step by step, up to one number, the loss. A backward pass starts from that
number and goes through the same steps from last to first. For each array it finds the gradient: an array of
the same shape that says how fast the loss grows as each number in it grows. d_y stands for the gradient of y.
A step y = f(x) turns d_y into d_x by the chain rule, and that is all there is to it (Rumelhart et al. 1986,
"Learning representations by back-propagating errors"):

    y = x + f(x)    d_x = d_y + (d_y through f)      a residual stream passes d_y on, and adds to it
    y = x w         d_x = d_y wᵀ,  d_w = xᵀ d_y      d_w is a sum over the rows of x
    y = f(x)        d_x = d_y f'(x)                  for each number separately
    y = x[ids]      d_x[id] = the sum of d_y over all places where the id occurs

The forward pass is `inside.steps`, which keeps all that it computes. Learning then moves each weight a little
against its gradient: see extras/optimizers.py.

    loss, gradients = loss_and_gradients(ids[:, :-1], ids[:, 1:], params, n_head)
    for name, array in leaves(params).items():
        array -= 0.1 * gradients[name]
"""

import numpy as np

import gpt2
from extras import inside
from extras.huggingface import variants
from extras.lora import LowRank
from extras.scoring import check_ids
from extras.untied import apart, is_tied
from files import shown

AT_ONCE = 512  # tokens in a pass: a larger batch goes some texts at a time, so that arrays stay in the cache

# ---- small functions, each the way back through one of gpt2.py ---------------------------------------------


def gelu_slope(x):  # any shape -> same shape
    """The derivative of 0.5 x (1 + t), t = tanh(u): 0.5 (1 + t) + 0.5 x (1 - t²) u'.

    There u = √(2/π) (x + 0.044715 x³), so u' = √(2/π) (1 + 3 · 0.044715 x²).
    """
    x2, scale = x * x, (2 / np.pi) ** 0.5
    t = np.tanh(scale * x * (1 + 0.044715 * x2))
    u_slope = scale * (1 + 3 * 0.044715 * x2)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * u_slope


def exact_gelu_slope(x):  # any shape -> same shape
    """The derivative of x Φ(x): Φ(x) + x φ(x), where φ(x) = exp(-x² / 2) / √(2π) is the normal density."""
    return 0.5 * (1 + variants.erf(x / 2**0.5)) + x * np.exp(-0.5 * x * x) / (2 * np.pi) ** 0.5


def silu_slope(x):  # any shape -> same shape
    """The derivative of x s, where s = 1 / (1 + exp(-x)) and s' = s (1 - s): s + x s (1 - s)."""
    s = 0.5 * (1 + np.tanh(0.5 * x))
    return s + x * s * (1 - s)


SLOPES = {  # of each activation function that a GPT-2 may have
    gpt2.gelu: gelu_slope,
    variants.exact_gelu: exact_gelu_slope,
    variants.silu: silu_slope,
    variants.relu: lambda x: (x > 0).astype(x.dtype),
    np.tanh: lambda x: 1 - np.tanh(x) ** 2,
}


def softmax_backward(d_y, y):  # two of [n] -> [n]
    """y (d_y - Σ d_y y), where y = softmax(x): raising one score takes weight from all others."""
    return y * (d_y - np.sum(d_y * y, axis=-1, keepdims=True))


def standardized(x, eps):  # [n_embd] -> [n_embd], [1]
    """(x - mean) / std, what `gpt2.layer_norm` makes of x before it scales and shifts; and std itself.

    std = √(variance + eps).
    """
    n_embd = x.shape[-1]
    x = x - np.sum(x, axis=-1, keepdims=True) / n_embd
    std = np.sqrt(np.sum(x * x, axis=-1, keepdims=True) / n_embd + eps)
    return x / std, std


def layer_norm_backward(d_y, x, g, b, eps=1e-5):  # two of [n_embd] -> [n_embd]
    """(d - mean(d) - z mean(d z)) / std, where d = g d_y, and z and std are those of `standardized`.

    A norm ignores the mean and the scale of its input: the part of d that would change either is taken out.
    """
    n_embd = x.shape[-1]
    z, std = standardized(x, eps)
    d = g * d_y
    mean = np.sum(d, axis=-1, keepdims=True) / n_embd
    along_z = np.sum(d * z, axis=-1, keepdims=True) / n_embd
    return (d - mean - z * along_z) / std


def attention_backward(d_heads, q, k, v, weights):  # -> three of [n_head, n_seq, d_head]
    """From the gradient of heads = weights v, weights = softmax(q kᵀ / √d_head + mask), to those of q, k, v.

    Where the mask hid a key, its weight is 0, and so is the gradient that `softmax_backward` gives. d_heads,
    q, k and v are [n_head, n_seq, d_head], weights [n_head, n_seq, n_seq].
    """
    d_v = np.swapaxes(weights, -1, -2) @ d_heads
    d_weights = d_heads @ np.swapaxes(v, -1, -2)
    d_products = softmax_backward(d_weights, weights) / q.shape[-1] ** 0.5  # the gradient of q kᵀ
    d_q = d_products @ k
    d_k = np.swapaxes(d_products, -1, -2) @ q
    return d_q, d_k, d_v


# ---- the gradients of weights: {name: a function that computes it} -----------------------------------------


def rows(x):  # [..., n] -> [n_rows, n]
    """The rows of all leading axes, in one matrix."""
    return x.reshape(-1, x.shape[-1])


def of_linear(name, d_y, x, w, b):  # [..., n_out], [..., n_in] -> {name: () -> array}
    """Of y = x w + b: for w xᵀ d_y, for b the sum of d_y over all rows.

    With an adapter, a `LowRank` w that makes x w + (x a) b, for its a and b instead of w.
    """
    x, d_y = rows(x), rows(d_y)
    found = {f"{name}/b": lambda: d_y.sum(axis=0)}
    if not isinstance(w, LowRank):
        return found | {f"{name}/w": lambda: x.T @ d_y}
    return found | {
        f"{name}/w/a": lambda: x.T @ (d_y @ w.b.T),
        f"{name}/w/b": lambda: (x @ w.a).T @ d_y,
    }


def of_layer_norm(name, d_y, x, g, b, eps=1e-5):  # two of [..., n_embd] -> {name: () -> array}
    """Of y = g z + b, where z is x standardized: for g the sum of d_y z over all rows, for b that of d_y."""
    return {
        f"{name}/g": lambda: rows(d_y * standardized(x, eps)[0]).sum(axis=0),
        f"{name}/b": lambda: rows(d_y).sum(axis=0),
    }


def of_embedding(name, d_y, ids, table):  # [..., n_embd], [...], [n, n_embd] -> {name: () -> array}
    """Of y = table[ids]: at each id, the sum of d_y over the places where it occurs."""

    def compute():
        d_table = np.zeros(table.shape, d_y.dtype)
        np.add.at(d_table, ids, d_y)
        return d_table

    return {name: compute}


# ---- the model, from last step to first --------------------------------------------------------------------


def block_backward(d, step, name, mlp, attn, ln_1, ln_2):  # yields {name: () -> array}; returns the new d
    """Back through `inside.block_steps`, line by line: from the gradient of its output to that of its input.

    d, [n_batch, n_seq, n_embd], is the gradient of the residual stream: what comes back through a sub-layer
    and its norm is added to it. name: the block's, such as "h0".
    """
    yield of_linear(f"{name}/mlp/c_proj", d, step["act"], **mlp["c_proj"])
    d_act = d @ mlp["c_proj"]["w"].T
    d_c_fc = d_act * SLOPES[mlp.get("act", gpt2.gelu)](step["c_fc"])
    yield of_linear(f"{name}/mlp/c_fc", d_c_fc, step["ln_2"], **mlp["c_fc"])
    d_ln_2 = d_c_fc @ mlp["c_fc"]["w"].T
    yield of_layer_norm(f"{name}/ln_2", d_ln_2, step["x + attn"], **ln_2)
    d = d + layer_norm_backward(d_ln_2, step["x + attn"], **ln_2)

    yield of_linear(f"{name}/attn/c_proj", d, gpt2.merge_heads(step["heads"]), **attn["c_proj"])
    d_heads = gpt2.split_heads(d @ attn["c_proj"]["w"].T, n_head=step["q"].shape[-3])
    d_q_k_v = attention_backward(d_heads, step["q"], step["k"], step["v"], step["weights"])
    d_c_attn = np.concatenate([gpt2.merge_heads(part) for part in d_q_k_v], axis=-1)
    yield of_linear(f"{name}/attn/c_attn", d_c_attn, step["ln_1"], **attn["c_attn"])
    d_ln_1 = d_c_attn @ attn["c_attn"]["w"].T
    yield of_layer_norm(f"{name}/ln_1", d_ln_1, step["x"], **ln_1)
    return d + layer_norm_backward(d_ln_1, step["x"], **ln_1)


def backward(d_logits, inputs, hidden, steps, params):  # yields {name: () -> array}
    """Back through `gpt2.gpt2`, from the gradient of the logits, [n_batch, n_seq, n_vocab], to the ids.

    A gradient is computed when its function is called; the pass goes on when the next dict is asked for.
    steps: a list of what `inside.steps` yields, which is emptied on the way, so that memory becomes free.
    hidden: the final hidden states, [n_batch, n_seq, n_embd].
    """
    ln_f, blocks, x = params["ln_f"], params["blocks"], steps[-1]["x + mlp"]
    arrays = apart(params)  # with "wte" as the embedding alone, and "lm_head" as the head
    yield {"lm_head": lambda: rows(d_logits).T @ rows(hidden)}
    d_hidden = d_logits @ arrays["lm_head"]
    yield of_layer_norm("ln_f", d_hidden, x, **ln_f)
    d = layer_norm_backward(d_hidden, x, **ln_f)
    for layer in reversed(range(len(blocks))):
        d = yield from block_backward(d, steps.pop(), f"h{layer}", **blocks[layer])
    yield of_embedding("wte", d, inputs, arrays["wte"])
    positions = np.arange(d.shape[-2])
    yield of_embedding("wpe", d.sum(axis=0), positions, arrays["wpe"])  # all texts have the same positions


def loss_backward(logits, targets, shares, label_smoothing):  # -> loss, d_logits
    """Σ share · surprise, over all targets, and its gradient: share · (softmax(logits) - what was wanted).

    Wanted is 1 at the target, 0 elsewhere; label_smoothing is the part of the 1 that is spread evenly over
    all tokens. shares: [n_batch, n_seq], the weight of each target in the mean.
    """
    n_vocab = logits.shape[-1]
    shares = shares.astype(logits.dtype)
    at_targets = (*np.indices(targets.shape), targets)
    logits = logits - np.max(logits, axis=-1, keepdims=True)
    d_logits = np.exp(logits)
    total = np.sum(d_logits, axis=-1)
    surprises = np.log(total) - (1 - label_smoothing) * logits[at_targets]
    if label_smoothing:
        surprises -= label_smoothing * np.mean(logits, axis=-1)
    d_logits *= (shares / total)[..., None]  # share · softmax(logits)
    if label_smoothing:
        d_logits -= shares[..., None] * (label_smoothing / n_vocab)
    d_logits[at_targets] -= shares * (1 - label_smoothing)
    return float(np.sum(shares * surprises)), d_logits


# ---- the whole ---------------------------------------------------------------------------------------------


def loss_and_gradients(
    inputs, targets, params, n_head, mask=None, label_smoothing=0.0, trainable=None
):  # two of [n_batch, n_seq] -> nats a token, {name: array}
    """The mean surprise at the targets, which are the next ids, and its gradient for each array of params.

    The gradients have the names and shapes of `leaves(params)`. trainable: the names that are wanted, by
    default all; nothing is computed for the others. mask: [n_batch, n_seq], true for targets that count.
    label_smoothing: as in `scoring.loss`. Raises ValueError for what does not fit, FloatingPointError as
    `gpt2.next_logits` does.
    """
    wanted = wanted_names(params, trainable)
    inputs, targets, shares = checked(inputs, targets, params, mask, label_smoothing)
    gpt2.keep_freed_memory()
    n_at_once = max(AT_ONCE // inputs.shape[1], 1)
    loss, gradients = 0.0, {}
    for first in range(0, len(inputs), n_at_once):  # the gradient of a sum is the sum of the gradients
        texts = slice(first, first + n_at_once)
        steps = list(inside.steps(inputs[texts], **params, n_head=n_head))
        hidden = gpt2.layer_norm(steps[-1]["x + mlp"], **params["ln_f"])
        part, d_logits = loss_backward(
            gpt2.next_logits(hidden, params), targets[texts], shares[texts], label_smoothing
        )
        loss += part
        add_wanted(gradients, wanted, backward(d_logits, inputs[texts], hidden, steps, params))
    if "wte" in wanted and is_tied(params):  # one matrix, used twice
        gradients["wte"] += gradients.pop("lm_head")
    return loss, gradients


def add_wanted(gradients, wanted, found):
    """Compute the wanted gradients and add them to gradients, in place; then stop.

    found: what `backward` yields. No step of the backward pass is taken after the last wanted one.
    """
    missing = set(wanted)
    for functions in found:
        for name in functions:
            if name in missing:
                missing.remove(name)
                gradient = functions[name]()
                if name in gradients:
                    gradients[name] += gradient
                else:
                    gradients[name] = gradient
        if not missing:
            return


def leaves(params):  # -> {name: array}
    """All arrays that can learn, by OpenAI's names; "lm_head" only if it is not tied.

    A block's matrix with an adapter attached has two, such as "h0/attn/c_attn/w/a" and "h0/attn/c_attn/w/b";
    the matrix itself cannot learn. Nor can quantized weights, or an adapter of the embeddings or the head.
    """
    found = {}
    for name, leaf in apart(params).items():
        if isinstance(leaf, np.ndarray) and not (name == "lm_head" and is_tied(params)):
            found[name] = leaf
        elif isinstance(leaf, LowRank) and name.startswith("h"):
            found |= {f"{name}/a": leaf.a, f"{name}/b": leaf.b}
    return found


def checked(inputs, targets, params, mask, label_smoothing):  # -> inputs, targets, shares
    """The arguments as arrays, and each target's weight in the mean. Raises ValueError for a wrong one."""
    try:
        inputs, targets, n_ctx = np.asarray(inputs), np.asarray(targets), len(params["wpe"])
    except ValueError:
        raise ValueError("inputs and targets must be texts of the same length") from None
    if inputs.ndim != 2 or inputs.shape != targets.shape or inputs.size == 0:
        shapes = f"{list(inputs.shape)} and {list(targets.shape)}"
        raise ValueError(f"inputs and targets are {shapes}: both must be [n_batch, n_seq], and not empty")
    if inputs.shape[1] > n_ctx:
        raise ValueError(f"a text of {inputs.shape[1]} tokens: the model sees {n_ctx}")
    for ids in (inputs, targets):
        check_ids(ids.reshape(-1), params)
    counts = np.ones(inputs.shape, bool) if mask is None else np.asarray(mask, dtype=bool)
    if counts.shape != inputs.shape:
        raise ValueError(f"mask is {list(counts.shape)}, but inputs are {list(inputs.shape)}")
    if not counts.any():
        raise ValueError("no token counts: the mask leaves none")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}: it must be from 0 to 1, and less than 1")
    return inputs, targets, counts / counts.sum()


def wanted_names(params, trainable):  # -> set of names
    """The names of the gradients to compute. Raises ValueError for one that no array has."""
    names = leaves(params).keys()
    wanted = set(names if trainable is None else trainable)
    for name in sorted(wanted - names):
        found = ", ".join([*names][:3])
        raise ValueError(f"{shown(name)} is not an array that can learn: this model has {found}, ...")
    if "wte" in wanted and is_tied(params):
        wanted.add("lm_head")  # the head's part of the gradient
    return wanted
