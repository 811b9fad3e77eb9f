"""Where a Hugging Face model differs from OpenAI's GPT-2, its params differ; the model's code stays the same.

A norm may have an "eps", and a block's mlp an "act", the activation function to use instead of gelu; a scale
of attention is multiplied into the weights that make the queries; an untied head is the `.T` of a wte that is
an `UntiedEmbedding` (extras/untied.py).

GPT-2's gelu is itself an approximation of the exact one, x Φ(x) = x (1 + erf(x / √2)) / 2, in which a tanh of
two terms, √(2/π) (x + 0.044715 x³), takes the place of erf. Five more terms make it exact in float32.
"""

import numpy as np

import gpt2

# ---- activation functions ----------------------------------------------------------------------------------

# erf(x) = tanh(c₀ x + c₁ x³ + ...): fitted, with an error of at most 6e-8
ERF = (1.12837971, 0.102765481, -1.84383749e-4, -6.2571953e-4, 8.9712572e-5, -5.98568835e-6, 1.58960103e-7)


def erf(x):  # any shape -> same shape
    """2/√π ∫₀ˣ exp(-t²) dt, with an error of at most 2e-7 in float32."""
    x = np.clip(x, -5, 5)  # beyond, it is ±1
    x2 = x * x
    series = ERF[-1]
    for coefficient in ERF[-2::-1]:
        series = series * x2 + coefficient
    return np.tanh(x * series)


def exact_gelu(x):  # any shape -> same shape
    """x Φ(x), Φ the normal distribution's CDF (Hendrycks & Gimpel 2016): what PyTorch calls GELU."""
    return 0.5 * x * (1 + erf(x / 2**0.5))


def relu(x):  # any shape -> same shape
    """max(x, 0)."""
    return np.maximum(x, 0)


def silu(x):  # any shape -> same shape
    """x / (1 + exp(-x)), also called swish (Hendrycks & Gimpel 2016); with tanh it does not overflow."""
    return 0.5 * x * (1 + np.tanh(0.5 * x))


ACTIVATIONS = {  # by name in transformers; of several names for one function, export writes the first
    "gelu_new": gpt2.gelu,
    "gelu_pytorch_tanh": gpt2.gelu,
    "gelu_python_tanh": gpt2.gelu,
    "gelu_fast": gpt2.gelu,
    "gelu_accurate": gpt2.gelu,
    "gelu": exact_gelu,
    "gelu_python": exact_gelu,
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": np.tanh,
}


# ---- all variants ------------------------------------------------------------------------------------------


def query_scales(config):  # -> [n_layer]
    """By how much each layer's queries are multiplied, beside what `gpt2.attention_weights` does."""
    d_head = config["n_embd"] // config["n_head"]
    scale = 1 if config["scale_attn_weights"] else d_head**0.5  # gpt2.attention_weights divides by it
    by_layer = config["scale_attn_by_inverse_layer_idx"]
    return [scale / (layer + 1) if by_layer else scale for layer in range(config["n_layer"])]


def scale_queries(array, scale):  # [..., 3 n_embd]
    """Multiply the columns that make queries, in place."""
    array[..., : array.shape[-1] // 3] *= scale


def set_variants(params, config):
    """Change params in place wherever this model differs from OpenAI's."""
    act, epsilon = ACTIVATIONS[config["activation_function"]], config["layer_norm_epsilon"]
    for block, scale in zip(params["blocks"], query_scales(config)):
        if scale != 1:
            for array in block["attn"]["c_attn"].values():
                scale_queries(array, scale)
        if act is not gpt2.gelu:
            block["mlp"]["act"] = act
    if epsilon != 1e-5:
        norms = [block[name] for block in params["blocks"] for name in ("ln_1", "ln_2")]
        for norm in [params["ln_f"], *norms]:
            norm["eps"] = epsilon
