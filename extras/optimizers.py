"""Optimizers: how far each weight moves, given its gradient. AdamW, Muon, clipping, and a schedule.

The loss falls if each weight moves a little against its gradient. But gradients are noisy, as a step sees
only a few texts, and those of one array may be thousands of times as large as those of another. AdamW and
Muon average the gradients of past steps, and the length of their steps does not depend on the scale of the
gradients. In the formulas, g is the gradient, θ the array that learns, η the learning rate, and λ the weight
decay.

Arrays, gradients and memory are flat dicts, {name: array}; arrays and memory change in place, and only where
there is a gradient. So the matrices can have one optimizer, and all other arrays another:

    memory = muon_memory(matrices) | adamw_memory(others)
    for step in range(n_steps):
        ...  # gradients of the matrices, and of the others: extras/gradients.py
        clip(gradients_of_matrices | gradients_of_others, 1.0)
        share = warmup_and_decay(step, n_steps)
        muon(matrices, gradients_of_matrices, memory, 6e-3 * share)
        adamw(others, gradients_of_others, memory, step + 1, 3e-3 * share)
"""

import math

import numpy as np

AT_ONCE = 2**16  # numbers in a part of an array: with gradient and memory they stay in the processor's cache


def parts(*arrays):  # [n, ...] each -> yields lists of views, one of each array
    """The same few rows of each array, then the next few: long formulas are then up to four times as fast."""
    n_rows = max(1, AT_ONCE // math.prod(arrays[0].shape[1:]))
    for first in range(0, len(arrays[0]), n_rows):
        yield [array[first : first + n_rows] for array in arrays]


def zeros(kind, arrays):  # -> {"kind/NAME": zeros}
    """Memory before the first step."""
    return {f"{kind}/{name}": np.zeros(array.shape, np.float32) for name, array in arrays.items()}


def adamw_memory(arrays):  # -> {"mean/NAME": zeros, "square/NAME": zeros}
    """What `adamw` remembers: running means of the gradients, and of their squares."""
    return zeros("mean", arrays) | zeros("square", arrays)


def adamw(arrays, gradients, memory, step, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Divide each number's mean gradient by its usual size, so that every number moves by about η at most.

    (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2; but λ is multiplied by η,
    as in PyTorch)

        m ← β₁ m + (1 - β₁) g          the mean; "first moment" in the paper
        v ← β₂ v + (1 - β₂) g²         the square; "second moment"
        θ ← θ - η λ θ - η m̂ / (√v̂ + ε)

    Where gradients agree, m / √v is near ±1; where they are mostly noise, it is near 0. Both begin at 0 and
    are too small at first, so m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ), where t is step, which counts from 1
    (Kingma & Ba 2015, "Adam", section 3). The decay shrinks all weights by the same share, so a weight that
    the loss does not need becomes small. As a term of the loss it would be divided by √v̂ too, and be weakest
    where gradients are large.
    """
    beta_1, beta_2 = betas
    # m̂ / (√v̂ + ε) = m / (1 - β₁ᵗ) · c / (√v + ε c), where c = √v / √v̂: this corrects two numbers, not arrays
    correction = (1 - beta_2**step) ** 0.5
    rate = learning_rate * correction / (1 - beta_1**step)
    eps = eps * correction
    for name, gradient in gradients.items():
        whole = arrays[name], gradient, memory[f"mean/{name}"], memory[f"square/{name}"]
        for array, g, mean, square in parts(*whole):
            mean *= beta_1
            mean += (1 - beta_1) * g
            square *= beta_2
            square += (1 - beta_2) * g * g
            array *= 1 - learning_rate * weight_decay
            array -= rate * mean / (np.sqrt(square) + eps)


def muon_memory(arrays):  # -> {"momentum/NAME": zeros}
    """What `muon` remembers: running means of the gradients. Raises ValueError unless arrays are matrices."""
    for name, array in arrays.items():
        if array.ndim != 2:
            raise ValueError(f"Muon is for matrices: {name} has shape {list(array.shape)}, use adamw for it")
    return zeros("momentum", arrays)


def muon(arrays, gradients, memory, learning_rate, momentum=0.95, weight_decay=0.1):
    """Move each matrix equally far in all directions of its mean gradient: along an orthogonal matrix.

    (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; μ is momentum)

        m ← μ m + (1 - μ) g            the momentum
        u = μ m + (1 - μ) g            Nesterov's variant: the newest gradient counts once more
        θ ← θ - η λ θ - η 0.2 √max(n_in, n_out) orthogonal(u)

    The gradient of a matrix is a sum of a few large directions, along which most texts push, and many small
    ones. `orthogonal` makes all equally large, so that what is rare is learned too. The root mean square of
    an orthogonal matrix's numbers is 1 / √max(n_in, n_out). The factor makes that 0.2, as is usual for steps
    of AdamW, so a learning rate for AdamW suits Muon (Liu et al. 2025, "Muon is Scalable for LLM Training").
    """
    for name, gradient in gradients.items():
        array, mean = arrays[name], memory[f"momentum/{name}"]
        mean *= momentum
        mean += (1 - momentum) * gradient
        ahead = momentum * mean + (1 - momentum) * gradient
        array *= 1 - learning_rate * weight_decay
        for matrix, direction in zip(matrices(name, array), matrices(name, ahead)):
            matrix -= learning_rate * 0.2 * max(matrix.shape) ** 0.5 * orthogonal(direction)


def matrices(name, array):  # [n_in, n_out] -> list of views
    """The matrices in an array: c_attn/w holds three, for queries, keys and values; Muon takes each alone."""
    return np.split(array, 3, axis=1) if name.endswith("c_attn/w") else [array]


def orthogonal(x):  # [n_in, n_out] -> same shape
    """About U Vᵀ, where U S Vᵀ is the singular value decomposition of x: five Newton-Schulz steps.

    A step, x ← a x + b (x xᵀ) x + c (x xᵀ)² x, leaves U and V as they are, and changes each singular value s
    to a s + b s³ + c s⁵. Divided by the norm of x, each is from 0 to 1; with Jordan's a, b and c, five steps
    bring all from 0.002 up to between 0.68 and 1.21. That is near enough to 1, and only multiplies matrices.
    """
    if x.shape[0] > x.shape[1]:
        return orthogonal(x.T).T  # so that x xᵀ is the smaller product
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / max(float(np.linalg.norm(x)), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def clip(gradients, largest):  # -> norm
    """Scale all gradients by largest / norm, in place, if the norm, √Σ g² over all their numbers, is larger.

    A batch may have a gradient so large that one step undoes what was learned: its direction is kept, its
    length is not (Pascanu et al. 2013, "On the difficulty of training recurrent neural networks"). The norm
    before clipping is returned. It is computed from the norms of parts, because one float32 sum of 38 million
    squares is wrong in the fourth digit.
    """
    norm = math.hypot(*(float(np.linalg.norm(part)) for g in gradients.values() for (part,) in parts(g)))
    if norm > largest:
        for gradient in gradients.values():
            gradient *= largest / norm
    return norm


def warmup_and_decay(step, n_steps):  # -> share of the full rate
    """Linear warm-up to 1, constant until a third of the run is over, then a linear decay to 0.

    Warm-up takes 100 steps, or a tenth of the run if that is shorter: at first, the optimizers' means are
    those of few gradients, and may point anywhere. During the decay, ever smaller steps let the noise of
    single batches average out. step counts from 0.
    """
    warm_up = (step + 1) / min(100, n_steps / 10)
    decay = (n_steps - step) / (n_steps * 2 / 3)
    return float(min(warm_up, 1, decay))
