"""GPT-2 in NumPy: pure functions of arrays, from token ids to a score for every token that could come next.

The model is that of Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": the decoder
of Vaswani et al. 2017, "Attention Is All You Need", without an encoder, and with each norm before its part.
Weights are named as in OpenAI's checkpoints, so `f(x, **weights)` wires the model. Sizes (of 124M):

    n_seq     tokens in the sequence                n_vocab   tokens in the vocabulary (50,257)
    n_ctx     most tokens it can see (1,024)        n_q, n_k  tokens that look, tokens looked at
    n_embd    numbers that stand for a token (768)  n_head    heads in a layer (12)
    n_layer   blocks, one after the other (12)      d_head    numbers in a head, n_embd / n_head (64)

From gelu to gpt2, functions keep axes before those named, such as a batch. Arrays are float32: the root of a
plain number is written ** 0.5, because np.sqrt(2) is a float64 and would widen every array that it meets.
The math checks nothing: files are checked when they are read, ids when `stream` begins.
"""

import numpy as np


def gelu(x):  # any shape, kept
    """x Φ(x), a smooth max(x, 0); Φ, the normal CDF, by a tanh formula (Hendrycks & Gimpel 2016)."""
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


def softmax(x):  # [n] -> [n]
    """exp(x_i) / Σ_j exp(x_j): turn scores into weights that are never negative and sum to one."""
    exp_x = np.exp(x - np.max(x, axis=-1, keepdims=True))  # minus the maximum: same result, no overflow
    exp_x /= np.sum(exp_x, axis=-1, keepdims=True)
    return exp_x


def layer_norm(x, g, b, eps=1e-5):  # [n_embd] -> [n_embd]
    """g (x - mean) / √(variance + eps) + b: standardize, then a learned scale and offset (Ba et al. 2016)."""
    n_embd = x.shape[-1]
    x = x - np.sum(x, axis=-1, keepdims=True) / n_embd  # np.mean takes twice as long for a single row
    variance = np.sum(x * x, axis=-1, keepdims=True) / n_embd
    return g * x / np.sqrt(variance + eps) + b


def linear(x, w, b):  # [n_in], [n_in, n_out], [n_out] -> [n_out]
    """x w + b: every output is a weighted sum of all inputs, plus a bias."""
    rows = x.reshape(-1, x.shape[-1])  # a batch as one matrix: one product for all, not one for each text
    return (rows @ w + b).reshape(*x.shape[:-1], len(b))


def ffn(x, c_fc, c_proj, act=gelu):  # [n_seq, n_embd] -> [n_seq, n_embd]
    """gelu(x w₁ + b₁) w₂ + b₂, for each token alone; w₁ widens to 4 n_embd (Vaswani et al. 2017, 3.3)."""
    return linear(act(linear(x, **c_fc)), **c_proj)


def split_heads(x, n_head):  # [n_seq, n_embd] -> [n_head, n_seq, d_head]
    """Cut every token's vector into n_head parts, one for each head."""
    x = x.reshape(*x.shape[:-1], n_head, -1)  # [n_seq, n_head, d_head]
    return np.swapaxes(x, -2, -3)


def merge_heads(x):  # [n_head, n_seq, d_head] -> [n_seq, n_embd]
    """Put the parts of every token's vector side by side again: the inverse of split_heads."""
    x = np.swapaxes(x, -2, -3)  # [n_seq, n_head, d_head]
    return x.reshape(*x.shape[:-2], -1)


def causal_mask(n_q, n_k):  # -> [n_q, n_k]
    """0 where a query may look at a key, -∞ where the key comes later. The last query is at the last key."""
    keys, queries = np.arange(n_k), np.arange(n_k - n_q, n_k)  # their positions
    return np.where(keys <= queries[:, None], np.float32(0), np.float32(-np.inf))


def queries_keys_values(x, c_attn, n_head):  # [n_seq, n_embd] -> three of [n_head, n_seq, d_head]
    """x w + b, cut in three: what each token looks for, what it is found by, and what it passes on."""
    return [split_heads(part, n_head) for part in np.split(linear(x, **c_attn), 3, axis=-1)]


def attention_weights(q, k, mask):  # [n_q, d_head], [n_k, d_head], [n_q, n_k] -> [n_q, n_k]
    """softmax(q kᵀ / √d_head + mask): how much each query looks at each key (Vaswani et al. 2017, 3.2.1)."""
    q = q / q.shape[-1] ** 0.5  # here rather than on the product: the same, and less to divide
    return softmax(q @ np.swapaxes(k, -1, -2) + mask)


def attention(q, k, v, mask):  # [n_q, d_head], two of [n_k, d_head], [n_q, n_k] -> [n_q, d_head]
    """softmax(q kᵀ / √d_head + mask) v: for each query, the average of the values by these weights."""
    return attention_weights(q, k, mask) @ v


def mha(x, c_attn, c_proj, n_head, kv_cache=None, n_past=0):  # [n_seq, n_embd] -> [n_seq, n_embd]
    """concat(head₁, head₂, ...) w + b: look back in n_head ways at once (Vaswani et al. 2017, 3.2.2).

    kv_cache, [2, (n_batch,) n_head, n_ctx, d_head], holds the keys and values of the n_past tokens before x;
    those of x are written behind them, in place.
    """
    n_seq = x.shape[-2]
    q, k, v = queries_keys_values(x, c_attn, n_head)
    if kv_cache is not None:
        kv_cache[..., range(n_past, n_past + n_seq), :] = k, v  # remember these keys and values
        k, v = kv_cache[..., : n_past + n_seq, :]  # attend to all of them
    mask = causal_mask(n_seq, k.shape[-2]) if n_seq > 1 else 0  # one alone is the last: it may look at all
    return linear(merge_heads(attention(q, k, v, mask)), **c_proj)


def transformer_block(x, mlp, attn, ln_1, ln_2, n_head, kv_cache=None, n_past=0):  # [n_seq, n_embd] kept
    """x + mha(norm(x)), then x + ffn(norm(x)): each norm before its part (Radford et al. 2019, 2.3)."""
    x = x + mha(layer_norm(x, **ln_1), **attn, n_head=n_head, kv_cache=kv_cache, n_past=n_past)
    return x + ffn(layer_norm(x, **ln_2), **mlp)


def transformer(inputs, wte, wpe, blocks, ln_f, n_head, kv_cache=None, n_past=0):  # ids -> [n_seq, n_embd]
    """wte[id] + wpe[position], through every block and a last norm: ids become hidden states."""
    inputs = np.asarray(inputs)
    x = wte[inputs] + wpe[range(n_past, n_past + inputs.shape[-1])]  # a slice would stop at n_ctx, unnoticed
    caches = [None] * len(blocks) if kv_cache is None else kv_cache
    for block, cache in zip(blocks, caches):
        x = transformer_block(x, **block, n_head=n_head, kv_cache=cache, n_past=n_past)
    return layer_norm(x, **ln_f)


def gpt2(inputs, wte, wpe, blocks, ln_f, n_head, kv_cache=None, n_past=0):  # [n_seq] -> [n_seq, n_vocab]
    """transformer(inputs) wteᵀ: at every position, a score (logit) for each token that could come next."""
    return transformer(inputs, wte, wpe, blocks, ln_f, n_head, kv_cache, n_past) @ wte.T


def new_kv_cache(params, n_head, n_ctx, n_batch=None):  # -> [n_layer, 2, (n_batch,) n_head, n_ctx, d_head]
    """Room for the keys and values of n_ctx tokens, each computed once; n_past says how many it holds."""
    batch = () if n_batch is None else (n_batch,)
    d_head = params["wpe"].shape[-1] // n_head
    return np.zeros((len(params["blocks"]), 2, *batch, n_head, n_ctx, d_head), dtype=np.float32)


def check_inputs(inputs, n_tokens_to_generate, n_vocab, n_ctx):
    """Raise ValueError if a model of these sizes cannot continue these ids that far; say what would fit."""
    n_seq, n_new, whole = len(inputs), n_tokens_to_generate, (int, np.integer)
    if n_seq == 0:
        raise ValueError("the prompt is empty: give at least one token to continue")
    if not isinstance(n_new, whole) or isinstance(n_new, bool) or n_new < 0:
        raise ValueError(f"n_tokens_to_generate is {n_new!r}: it must be a whole number, 0 or more")
    if int(n_new) > n_ctx - n_seq:
        advice = f"at most {n_ctx - n_seq} new ones fit" if n_seq <= n_ctx else "shorten the prompt"
        raise ValueError(f"{n_seq} prompt tokens and {n_new} new ones, the model sees {n_ctx}: {advice}")
    for i in inputs:
        if not isinstance(i, whole) or not 0 <= i < n_vocab:
            raise ValueError(f"{i!r} is not an id of this model: its ids run from 0 to {n_vocab - 1}")


# Linux's malloc gives back the memory of a freed large array, and the next one costs fresh, cleared pages: a
# quarter of a long prompt's time. Once one of 16 MB has been freed, it keeps smaller ones (man mallopt).
np.empty(2**24, dtype=np.uint8)


def prefill(inputs, params, n_head, kv_cache, n_past=0, n_chunk=128):  # [n_seq] -> [n_seq, n_embd]
    """Read ids in chunks, faster than all at once; keep their keys and values in kv_cache from n_past on."""
    inputs, hidden = np.asarray(inputs), []
    for start in range(0, inputs.shape[-1], n_chunk):
        chunk = inputs[..., start : start + n_chunk]
        hidden.append(transformer(chunk, **params, n_head=n_head, kv_cache=kv_cache, n_past=n_past + start))
    return np.concatenate(hidden, axis=-2)


def next_logits(hidden, params):  # [n_embd] -> [n_vocab]
    """hidden wteᵀ: scores of what comes next. Raises FloatingPointError for NaN or infinite ones."""
    logits = hidden @ params["wte"].T
    if not np.isfinite(np.max(logits)):  # NaN counts as the largest
        raise FloatingPointError("the logits are not finite numbers: the weights are damaged")
    return logits


def stream(inputs, params, n_head, n_tokens_to_generate, pick=np.argmax):  # [n_seq] -> ids, one at a time
    """Pick an id by the last logits, yield it, repeat. pick: [n_vocab] -> id.

    Raises as `check_inputs` and `next_logits`.
    """
    check_inputs(inputs, n_tokens_to_generate, n_vocab=len(params["wte"]), n_ctx=len(params["wpe"]))
    ids, n_past = [int(i) for i in inputs], 0
    kv_cache = new_kv_cache(params, n_head, len(ids) + int(n_tokens_to_generate))
    for _ in range(n_tokens_to_generate):
        hidden = prefill(ids[n_past:], params, n_head, kv_cache, n_past)  # the prompt, then each new id
        n_past = len(ids)
        ids.append(int(pick(next_logits(hidden[-1], params))))  # only the last position's are needed
        yield ids[-1]


def generate(inputs, params, n_head, n_tokens_to_generate, pick=np.argmax):  # [n_seq] -> list of new ids
    """Return exactly n_tokens_to_generate new ids, greedy unless `pick` says otherwise; see `stream`."""
    from tqdm import tqdm

    new_ids = stream(inputs, params, n_head, n_tokens_to_generate, pick)
    # not list(tqdm(...)), which would ask for its length before the arguments are checked
    return [new_id for new_id in tqdm(new_ids, "generating", n_tokens_to_generate, disable=None)]


def main(prompt, n_tokens_to_generate=40, model_size="124M", models_dir="models"):  # str -> str
    """Return the text that a model adds, up to <|endoftext|>; `utils.find_model` lists the models."""
    from cli import stream_text

    return "".join(stream_text(prompt, n_tokens_to_generate, model_size, models_dir))


if __name__ == "__main__":
    from cli import run

    raise SystemExit(run())
