"""Solutions to the exercises of notebook 03."""

import numpy as np


def where_float16_ends():
    # 65,504 is about 2 to the 16, and 2 is about e to the 0.7
    return 16 * 0.7


def softmax(x):
    exps = np.exp(x - x.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def cross_entropy(logits, targets):
    logits = logits - logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits).sum(axis=-1))
    return log_sum - logits[np.arange(len(targets)), targets]


def why_the_digits_go():
    return "c"


def layer_norm(x, g, b, eps):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    # np.sqrt of a float32 array is a float32 array
    return g * (x - mean) / np.sqrt(variance + eps) + b


def another_vector(x):
    # the mean takes away what is added, the division takes away a positive factor
    return 3 * x + 5
