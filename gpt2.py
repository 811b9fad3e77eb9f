"""GPT-2 in NumPy: pure functions of arrays, from token ids to scores for the next token.

The model is that of Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners": the decoder of Vaswani et al. 2017, "Attention Is All You Need", without an
encoder, and with each layer norm at the input of its sub-layer (pre-norm). Weights are
named as in OpenAI's checkpoints, so `f(x, **weights)` puts each where it belongs:

    params    wte, wpe (token and position embeddings), blocks (a list), ln_f
    block     ln_1, attn, ln_2, mlp: norm and attention, norm and feed-forward network
    attn      c_attn (queries, keys and values side by side), c_proj
    mlp       c_fc, c_proj
    matrices  w and b, weights and biases; norms have g and b, scale and shift

The sizes, with 124M's in parentheses:

    n_vocab   tokens in the vocabulary (50,257)
    n_ctx     tokens that the model can see at once (1,024)
    n_embd    numbers in a token's vector (768)
    n_layer   blocks, one after another (12)
    n_head    attention heads in a block (12)
    d_head    numbers in a head's query, key or value, n_embd / n_head (64)
    n_seq     tokens in the sequence
    n_q, n_k  queries (tokens that look), keys (tokens that are looked at)

From gelu to gpt2, functions accept extra leading axes, such as a batch, and keep them.
Arrays are float32. The square root of a Python number is written ** 0.5, because
np.sqrt(2) is a float64 and would widen every array it meets.
The math checks nothing: files are checked when they are read, ids when `stream` begins.
"""

if __name__ == "__main__":  # first, so that Ctrl-C or a missing NumPy is handled there
    from program import run

    raise SystemExit(run("cli", program="gpt2.py"))

import numpy as np

# ---- small functions -------------------------------------------------------------------


def gelu(x):  # any shape -> same shape
    """x Φ(x), a smooth version of max(x, 0); tanh approximates Φ, the normal CDF.

    (Hendrycks & Gimpel 2016, "Gaussian Error Linear Units")
    """
    cubic = x + 0.044715 * x * x * x
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * cubic))


def softmax(x):  # [n] -> [n]
    """exp(x_i) / Σ_j exp(x_j): turn scores into weights from 0 to 1 that sum to 1."""
    largest = np.max(x, axis=-1, keepdims=True)
    exp_x = np.exp(x - largest)  # softmax stays the same, and exp cannot overflow
    exp_x /= np.sum(exp_x, axis=-1, keepdims=True)
    return exp_x


def layer_norm(x, g, b, eps=1e-5):  # [n_embd] -> [n_embd]
    """g (x - mean) / √(variance + eps) + b: standardize, then a learned scale and shift.

    (Ba et al. 2016, "Layer Normalization")
    """
    n_embd = x.shape[-1]
    # np.sum, because np.mean and np.var take nearly twice as long for a single row
    mean = np.sum(x, axis=-1, keepdims=True) / n_embd
    x = x - mean
    variance = np.sum(x * x, axis=-1, keepdims=True) / n_embd
    return g * x / np.sqrt(variance + eps) + b


def linear(x, w, b):  # [n_in], [n_in, n_out], [n_out] -> [n_out]
    """x w + b: every output is a weighted sum of all inputs, plus a bias."""
    rows = x.reshape(-1, x.shape[-1])  # stack a batch into one matrix, for one product
    y = rows @ w + b
    return y.reshape(*x.shape[:-1], len(b))


def ffn(x, c_fc, c_proj, act=gelu):  # [n_seq, n_embd] -> [n_seq, n_embd]
    """gelu(x w₁ + b₁) w₂ + b₂, each token on its own; w₁ widens n_embd to 4 n_embd.

    (Vaswani et al. 2017, 3.3) A variant of GPT-2 may have another act in its weights.
    """
    hidden = act(linear(x, **c_fc))
    return linear(hidden, **c_proj)


# ---- attention -------------------------------------------------------------------------


def split_heads(x, n_head):  # [n_seq, n_embd] -> [n_head, n_seq, d_head]
    """Split every token's vector into n_head parts, one for each head."""
    x = x.reshape(*x.shape[:-1], n_head, -1)  # [n_seq, n_head, d_head]
    return np.swapaxes(x, -2, -3)


def merge_heads(x):  # [n_head, n_seq, d_head] -> [n_seq, n_embd]
    """Join the parts of every token's vector again: the inverse of split_heads."""
    x = np.swapaxes(x, -2, -3)  # [n_seq, n_head, d_head]
    return x.reshape(*x.shape[:-2], -1)


def causal_mask(n_q, n_k):  # -> [n_q, n_k]
    """0 where a query may look at a key, -∞ where the key comes later.

    The last query is at the position of the last key.
    """
    keys = np.arange(n_k)  # positions
    queries = np.arange(n_k - n_q, n_k)
    return np.where(keys <= queries[:, None], np.float32(0), np.float32(-np.inf))


def queries_keys_values(x, c_attn, n_head):  # -> three of [n_head, n_seq, d_head]
    """x w + b, split in three: what each token looks for, is found by, and passes on."""
    q, k, v = np.split(linear(x, **c_attn), 3, axis=-1)
    return split_heads(q, n_head), split_heads(k, n_head), split_heads(v, n_head)


def attention_weights(q, k, mask):  # [n_q, d_head], [n_k, d_head] -> [n_q, n_k]
    """softmax(q kᵀ / √d_head + mask): how much each query looks at each key.

    (Vaswani et al. 2017, 3.2.1)
    """
    q = q / q.shape[-1] ** 0.5  # scaling q is the same as scaling q kᵀ, and cheaper
    return softmax(q @ np.swapaxes(k, -1, -2) + mask)


def attention(q, k, v, mask):  # -> [n_q, d_head]
    """softmax(q kᵀ / √d_head + mask) v: for each query, a weighted mean of the values."""
    return attention_weights(q, k, mask) @ v


def remembered(k, v, kv_cache, n_past):  # -> two of [n_head, n_k, d_head]
    """The keys and values of all tokens so far: those in the cache, then k and v.

    kv_cache, [2, (n_batch,) n_head, n_ctx, d_head], holds those of the n_past earlier
    tokens; k and v are written after them, in place. Without a cache, it is just k and v.
    """
    if kv_cache is None:
        return k, v
    keys, values = kv_cache  # two views: writing to them fills the cache
    n_k = n_past + k.shape[-2]
    new = range(n_past, n_k)  # not a slice, which would silently stop at n_ctx
    keys[..., new, :] = k
    values[..., new, :] = v
    return keys[..., :n_k, :], values[..., :n_k, :]


def mha(x, c_attn, c_proj, n_head, kv_cache=None, n_past=0):  # -> [n_seq, n_embd]
    """concat(head₁, head₂, ...) w + b: look back in n_head ways at once.

    (Vaswani et al. 2017, 3.2.2: multi-head attention)
    """
    q, k, v = queries_keys_values(x, c_attn, n_head)
    k, v = remembered(k, v, kv_cache, n_past)  # now those of all tokens so far
    n_q, n_k = q.shape[-2], k.shape[-2]
    mask = 0  # a single query is the last token: it may look at every key
    if n_q > 1:
        mask = causal_mask(n_q, n_k)
    heads = attention(q, k, v, mask)
    return linear(merge_heads(heads), **c_proj)


# ---- the model -------------------------------------------------------------------------


def transformer_block(
    x, mlp, attn, ln_1, ln_2, n_head, kv_cache=None, n_past=0
):  # [n_seq, n_embd] -> [n_seq, n_embd]
    """x + mha(norm(x)), then x + ffn(norm(x)): each norm before its sub-layer.

    (Radford et al. 2019, 2.3)
    """
    normed = layer_norm(x, **ln_1)
    x = x + mha(normed, **attn, n_head=n_head, kv_cache=kv_cache, n_past=n_past)
    normed = layer_norm(x, **ln_2)
    return x + ffn(normed, **mlp)


def transformer(
    inputs, wte, wpe, blocks, ln_f, n_head, kv_cache=None, n_past=0
):  # [n_seq] -> [n_seq, n_embd]
    """wte[id] + wpe[position], through every block and the final norm: hidden states."""
    inputs = np.asarray(inputs)
    n_seq = inputs.shape[-1]
    x = wte[inputs] + wpe[range(n_past, n_past + n_seq)]  # not a slice: see `remembered`
    caches = [None] * len(blocks) if kv_cache is None else kv_cache
    for block, cache in zip(blocks, caches):
        x = transformer_block(x, **block, n_head=n_head, kv_cache=cache, n_past=n_past)
    return layer_norm(x, **ln_f)


def gpt2(
    inputs, wte, wpe, blocks, ln_f, n_head, kv_cache=None, n_past=0
):  # [n_seq] -> [n_seq, n_vocab]
    """transformer(inputs) wteᵀ: at each position, a score (logit) for each next token.

    The embedding is the output matrix too: the two are tied.
    """
    hidden = transformer(inputs, wte, wpe, blocks, ln_f, n_head, kv_cache, n_past)
    return hidden @ wte.T


# ---- generating ------------------------------------------------------------------------


def new_kv_cache(params, n_head, n_ctx, n_batch=None):  # -> array of float32
    """An empty cache for n_ctx tokens, [n_layer, 2, (n_batch,) n_head, n_ctx, d_head].

    The caller's n_past counts the tokens whose keys and values are in it.
    """
    keep_freed_memory()
    n_layer, n_embd = len(params["blocks"]), params["wpe"].shape[-1]
    batch = () if n_batch is None else (n_batch,)
    shape = (n_layer, 2, *batch, n_head, n_ctx, n_embd // n_head)
    return np.zeros(shape, dtype=np.float32)


def keep_freed_memory():
    """On Linux, let malloc keep the memory of large arrays for the next ones.

    At first it returns it to the system, and the next array pays for fresh, zeroed pages:
    a quarter of a long prompt's time. After one array of 16 MB has been freed, it keeps
    that of smaller ones (man mallopt).
    """
    np.empty(2**24, dtype=np.uint8)


def prefill(
    inputs, params, n_head, kv_cache, n_past=0, n_chunk=128
):  # [n_seq] -> [n_seq, n_embd]
    """The hidden states of ids, whose keys and values go into the cache from n_past on.

    The ids are read in chunks, which is faster than all at once.
    """
    inputs = np.asarray(inputs)
    hidden = []
    for start in range(0, inputs.shape[-1], n_chunk):
        chunk = inputs[..., start : start + n_chunk]
        states = transformer(
            chunk, **params, n_head=n_head, kv_cache=kv_cache, n_past=n_past + start
        )
        hidden.append(states)
    return np.concatenate(hidden, axis=-2)


def next_logits(hidden, params):  # [n_embd] -> [n_vocab]
    """hidden wteᵀ, the last step of `gpt2`, for the positions that are needed.

    Raises FloatingPointError if one of them is NaN or ∞.
    """
    logits = hidden @ params["wte"].T
    if not np.isfinite(np.max(logits)):  # NaN counts as the largest
        raise FloatingPointError(
            "the logits are not finite numbers: the weights are damaged or too large"
        )
    return logits


def stream(inputs, params, n_head, n_tokens_to_generate, pick=np.argmax):  # -> ids
    """Pick an id from the last logits, yield it, repeat. pick: logits [n_vocab] -> id.

    Raises what `check_inputs` and `next_logits` raise.
    """
    n_vocab, n_ctx = len(params["wte"]), len(params["wpe"])
    check_inputs(inputs, n_tokens_to_generate, n_vocab, n_ctx)
    ids = [int(i) for i in inputs]
    kv_cache = new_kv_cache(params, n_head, len(ids) + int(n_tokens_to_generate))
    n_past = 0
    for _ in range(n_tokens_to_generate):
        new = ids[n_past:]  # first the prompt, later the id just picked
        hidden = prefill(new, params, n_head, kv_cache, n_past)
        n_past = len(ids)
        logits = next_logits(hidden[-1], params)
        ids.append(int(pick(logits)))
        yield ids[-1]


def generate(inputs, params, n_head, n_tokens_to_generate, pick=np.argmax):  # -> list
    """Exactly n_tokens_to_generate new ids, by default the likeliest; see `stream`."""
    from tqdm import tqdm

    new_ids = []
    ids = stream(inputs, params, n_head, n_tokens_to_generate, pick)
    for new_id in tqdm(ids, "generating", n_tokens_to_generate, disable=None):
        new_ids.append(new_id)
    return new_ids


def check_inputs(inputs, n_tokens_to_generate, n_vocab, n_ctx):
    """Raise ValueError unless these ids can be continued this far; say what would fit."""
    n_seq, n_new = len(inputs), n_tokens_to_generate
    if n_seq == 0:
        raise ValueError("the prompt is empty: give at least one token to continue")
    if not is_whole(n_new) or n_new < 0:
        problem = "it must be a whole number, 0 or more"
        raise ValueError(f"n_tokens_to_generate is {n_new!r}: {problem}")
    if n_seq + int(n_new) > n_ctx:
        fits = f"at most {n_ctx - n_seq} new ones fit"
        advice = fits if n_seq <= n_ctx else "shorten the prompt"
        asked = f"{n_seq} prompt tokens and {n_new} new ones"
        raise ValueError(f"{asked}, but the model sees {n_ctx}: {advice}")
    for i in inputs:
        if not is_whole(i) or not 0 <= i < n_vocab:
            allowed = f"its ids run from 0 to {n_vocab - 1}"
            raise ValueError(f"{i!r} is not an id of this model: {allowed}")


def is_whole(number):  # -> bool
    """Whether this is a whole number, Python's or NumPy's; True and False are not."""
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def main(
    prompt, n_tokens_to_generate=40, model_size="124M", models_dir="models"
):  # str -> str
    """A model's continuation of the prompt, to its end of text: the command's own steps.

    `utils.find_model` lists the models. Raises what `utils.open_model` and `stream` do.
    """
    from itertools import takewhile

    from utils import open_model

    # the model's tokenizer and sizes, and a function that loads its weights
    encoder, hparams, load_params = open_model(model_size, models_dir)

    # text becomes ids
    ids = encoder.encode(prompt, n_most=hparams["n_ctx"])
    check_inputs(ids, n_tokens_to_generate, hparams["n_vocab"], hparams["n_ctx"])

    # the weights, half a gigabyte for 124M, are not needed until now
    params = load_params()

    # new ids, one at a time, until the text ends
    new_ids = stream(ids, params, hparams["n_head"], n_tokens_to_generate)
    new_ids = takewhile(lambda new_id: new_id not in encoder.stop_ids, new_ids)

    # ids become text
    return encoder.decode(new_ids)
