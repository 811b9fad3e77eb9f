"""NF4, the four bits of QLoRA, as bitsandbytes computes them: the same numbers, bit for bit.

(Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3 and appendix E;
functional.py of bitsandbytes, and its C++ for the CPU)

Trained weights are roughly normally distributed. So the 16 levels lie close together near 0, where most
weights are, and far apart towards ±1: each level serves about as many weights. A block of 64 weights is
divided by its scale, the largest magnitude in it, and each weight becomes the nearest level.

The scales are then quantized to eight bits: their mean is subtracted, a block of 256 of them is divided by
its largest magnitude, and each becomes the nearest of 256 numbers from -1 to 1. bitsandbytes keeps the codes
to save memory; here they are widened again at once, and only the rounding remains.
"""

import numpy as np

N_SCALES = 256  # in a block
LEVELS = np.array(  # quantiles of the normal distribution, from the paper's appendix; one level is 0
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635]
    + [-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725]
    + [0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941]
    + [0.7229568362236023, 1.0],
    dtype=np.float32,
)


def midpoints(numbers):  # [n], ascending -> [n - 1]
    """The numbers halfway between neighbours."""
    return (numbers[:-1] + numbers[1:]) / 2


def to_codes(blocks, scales):  # [..., 64], [...] -> [..., 64] of uint8
    """The number of the nearest level of each weight; halfway between two, the lower.

    Weights are multiplied by 1 / scale: dividing by the scale would round differently.
    """
    inverse = 1 / np.maximum(scales, np.float32(1e-38))
    weights = np.clip(blocks * inverse[..., None], -1, 1)
    codes = np.zeros(weights.shape, dtype=np.uint8)
    for midpoint in midpoints(LEVELS):
        codes += weights > midpoint
    return codes


def rounded_scales(scales, offset=None):  # [n] -> [n]
    """Scales, quantized to eight bits and widened again. offset: subtracted first; by default their mean."""
    offset = np.mean(scales) if offset is None else offset
    n = len(scales)
    blocks = np.pad(scales - offset, (0, -n % N_SCALES)).reshape(-1, N_SCALES)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    inverse = 1 / np.maximum(largest, np.float32(1e-38))
    codes = nearest_in_table(np.clip(blocks * inverse, -1, 1))
    return ((SCALE_LEVELS[codes] * largest).ravel()[:n] + offset).astype(np.float32)


def scale_levels():  # -> [256], ascending
    """The 256 numbers for scales: seven decades, each with twice as many numbers as the one below.

    (Dettmers et al. 2021, "8-bit Optimizers via Block-wise Quantization": dynamic tree quantization)
    """
    numbers = [0.0, 1.0]
    for decade in range(7):
        positive = midpoints(linspace(2**decade + 1)) * np.float32(10.0 ** (decade - 6))
        numbers += [*positive, *-positive]
    return np.sort(np.array(numbers, dtype=np.float32))


def linspace(n):  # -> [n]
    """n numbers from 0.1 to 1 as PyTorch has them: it counts from both ends, in float32."""
    first, last = np.float32(0.1), np.float32(1)
    step = float((last - first) / np.float32(n - 1))
    rising = float(first) + step * np.arange(n // 2)
    falling = float(last) - step * np.arange(n - n // 2)[::-1]
    return np.concatenate([rising, falling]).astype(np.float32)


SCALE_LEVELS = scale_levels()
# for each of 65,536 numbers from -1 to 1, the code of the nearest level: bitsandbytes looks up codes here
STEPS = -1 + np.arange(65536, dtype=np.float32) * np.float32(2 / 65535)
TABLE = np.searchsorted(midpoints(SCALE_LEVELS), STEPS, side="left").astype(np.uint8)


def nearest_in_table(numbers):  # any shape, from -1 to 1 -> same shape, of uint8
    """The codes that TABLE gives for numbers; close to a midpoint, not always that of the nearest level."""
    steps = (numbers + 1) * np.float32(0.5) * np.float32(65535) + np.float32(0.5)
    return TABLE[steps.astype(np.int32)]
