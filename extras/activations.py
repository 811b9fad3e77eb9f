"""What may stand between the two matrices of an ffn besides gelu: the "act" of a block's mlp, if it has one.

GPT-2's gelu is itself a short form of the exact one, x Φ(x) = x (1 + erf(x / √2)) / 2, in which a tanh of two
terms, √(2/π) (x + 0.044715 x³), takes the place of erf. With five terms more it is exact to float32.
"""

import numpy as np

import gpt2

# erf(x) = tanh(c₀ x + c₁ x³ + c₂ x⁵ + ...): fitted to be off by 6e-8 at most
ERF = (1.12837971, 0.102765481, -1.84383749e-4, -6.2571953e-4, 8.9712572e-5, -5.98568835e-6, 1.58960103e-7)


def erf(x):  # any shape, kept
    """2/√π ∫₀ˣ exp(-t²) dt, off by 2e-7 at most in float32."""
    x = np.clip(x, -5, 5)  # beyond, it is ±1
    x2 = x * x
    series = ERF[-1]
    for coefficient in ERF[-2::-1]:
        series = series * x2 + coefficient
    return np.tanh(x * series)


def exact_gelu(x):  # any shape, kept
    """x Φ(x), Φ the normal distribution's CDF (Hendrycks & Gimpel 2016): what PyTorch calls GELU."""
    return 0.5 * x * (1 + erf(x / 2**0.5))


def relu(x):  # any shape, kept
    """max(x, 0)."""
    return np.maximum(x, 0)


def silu(x):  # any shape, kept
    """x / (1 + exp(-x)), also called swish (Hendrycks & Gimpel 2016); by tanh, which does not overflow."""
    return 0.5 * x * (1 + np.tanh(0.5 * x))


ACTIVATIONS = {  # by their names in Hugging Face transformers; the first of several is the usual one
    "gelu_new": gpt2.gelu,
    "gelu_pytorch_tanh": gpt2.gelu,
    "gelu_python_tanh": gpt2.gelu,
    "gelu_fast": gpt2.gelu,
    "gelu": exact_gelu,
    "gelu_python": exact_gelu,
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": np.tanh,
}
