"""The checks of notebook 03: softmax, cross-entropy and layer norm, and what floating point does to them."""

from functools import partial

import numpy as np

import gpt2
from tools.judging import NotYet, as_array, check, choose, compare, estimate, float32, shown

# ---- slow and plain ----------------------------------------------------------------------------------------


def each_row(f, x):  # [..., n] -> [..., n]
    return np.array([f(row) for row in x.reshape(-1, x.shape[-1])], dtype=np.float32).reshape(x.shape)


def slow_softmax(row):  # [n] -> [n]
    """Number by number, with twice the digits."""
    largest = float(max(row))
    exps = [np.exp(float(x) - largest) for x in row]
    return float32([e / sum(exps) for e in exps])


def slow_surprise(row, target):  # [n], id -> number
    """ln of the sum of exp(x), less the target's x, all with the maximum subtracted: never ln 0."""
    row = [float(x) - float(max(row)) for x in row]
    return np.log(sum(np.exp(row))) - row[target]


def slow_layer_norm(row, weights):  # [n_embd] -> [n_embd]
    """Number by number, with twice the digits; weights: g, b, eps."""
    g, b, eps = weights
    row = [float(x) for x in row]
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    return [g_i * (x - mean) / (variance + eps) ** 0.5 + b_i for x, g_i, b_i in zip(row, g, b)]


OTHER_ROWS = (
    "Each row was shifted or divided by other rows' maxima or sums, one for each column: keepdims=True."
)
FAR_BELOW = (
    "Every exp became 0. Subtract the row's own maximum also where it is negative: then one exp is always 1."
)
ONE_EACH = "take one number from each, by two lists of indices, z[np.arange(n_seq), targets]."
LAST = (
    "It is right for a matrix but not for three axes: the last axis is axis=-1, and axis=1 only in a matrix."
)

# ---- the checks --------------------------------------------------------------------------------------------


@check
def softmax(f):
    """f(x), over the last axis, for numbers of any size."""
    random = np.random.default_rng(0).normal(0, 3, (2, 3, 5)).astype(np.float32)
    rows = [[1, 3], [1, 2, 3], [[1, 2], [3, 5]], [0, 1000], [[0, 1], [1000, 2000]], [-2000, -1000]]
    many = np.random.default_rng(1).normal(0, 1, 300).astype(np.float32)
    many[::2] -= 20
    sure, masked = float32([0, 1000]), float32([0, -np.inf, 1])
    inputs = [*map(float32, rows), random, masked, many]
    cases = [({"x": x}, each_row(slow_softmax, x), wrong_softmaxes(x)) for x in inputs]
    compare(f, cases)
    if as_array(f(masked))[1] != 0:
        raise NotYet("A masked score is -∞, and its share is exactly 0: do not clip.")
    if abs(as_array(f(sure))[1] - 1) > 5e-7:
        raise NotYet("The shares of [0, 1000] are 0 and 1: add nothing to the sum, which is never 0.")


def wrong_softmaxes(x):  # -> {why: what a wrong function returns}
    if x.max() < 0:
        return {FAR_BELOW: None}
    if np.isinf(x).any():
        return {
            "A masked score is -∞: exp(-∞) is 0, so its share is 0, and the others share as before.": None
        }
    if x.size > 100:
        return {"It is right for a few scores, but not for 300: do not clip, and do not round.": None}
    exps, by_all, by_column = np.exp(x), np.exp(x - x.max()), np.exp(x - x.max(0))
    by_row = np.exp(x - x.max(-1, keepdims=True))
    traps = {
        "exp(x) overflows: first subtract something that does not change the result.": (
            exps / exps.sum(-1, keepdims=True)
        ),
        "The sum goes over all rows, but each row is a distribution of its own: axis=-1.": (
            [e / e.sum() for e in (exps, by_all, by_row, by_column)]
        ),
        "The sum goes down the columns, but it is the rows that should sum to one: axis=-1.": (
            [e / e.sum(0) for e in (exps, by_all, by_row)]
        ),
        "The maximum is taken over all rows, and a row far below it underflows: take each row's own.": (
            by_all / by_all.sum(-1, keepdims=True)
        ),
        "The maximum is taken down the columns, but each row needs one number to subtract: axis=-1.": (
            by_column / by_column.sum(-1, keepdims=True)
        ),
        "The shares do not sum to one: divide by the sum.": [exps, by_row],
        "Each number is divided by itself: the sum goes along a row, axis=-1.": np.ones_like(x),
        "The shares sum to one, but exp is missing.": x / x.sum(-1, keepdims=True),
        "The base is e: exp(x).": [each_row(slow_softmax, x * np.log(base)) for base in (2, 10)],
        "The largest takes everything, but softmax gives each its share.": (by_row == 1).astype(float),
        "The largest number gets the smallest share: it is exp(x), not exp(-x).": each_row(slow_softmax, -x),
        "That is the logarithm of softmax.": np.log(each_row(slow_softmax, x)),
    }
    if x.shape == (2, 2):  # only here does it broadcast
        by_other = np.exp(x - x.max(-1))
        traps[OTHER_ROWS] = [e / e.sum(-1) for e in (exps, by_all, by_row, by_other)]
        traps[OTHER_ROWS].append(by_other / by_other.sum(-1, keepdims=True))
    if np.abs(x).max() > 100:
        why = (
            "It is right for small numbers only: subtract each row's maximum before exp, "
            "do not clip, and add nothing to the sum."
        )
        traps[why] = None
    if x.ndim > 2:
        traps[LAST] = None
    return traps


@check
def cross_entropy(f):
    """f(logits, targets): -ln of the probability of each target, [n_seq]."""
    random = np.random.default_rng(1).normal(0, 3, (4, 6))
    cases = []
    for logits, targets in (
        ([[0, 1], [2, 0]], [1, 1]),
        ([[1, 2, 3]], [0]),
        ([[0, 1000], [0, 1000]], [0, 1]),
        ([[0, 1], [1000, 2000]], [0, 1]),
        ([[-2000, -1000]], [0]),
        ([[0, 1e5]], [1]),
        ([[0, 1e5]], [0]),
        (random, [5, 0, 2, 2]),
    ):
        logits, targets = float32(logits), np.array(targets)
        expected = float32([*map(slow_surprise, logits, targets)])
        given = {"logits": logits, "targets": targets}
        cases.append((given, expected, wrong_surprises(logits, targets, expected)))
    compare(f, cases)


def wrong_surprises(logits, targets, expected):  # -> {why: what a wrong function returns}
    if logits.max() < 0:
        return {FAR_BELOW: None}
    if logits.max() == 1e5:
        return {"Do not clip, and add nothing to the sum: one exp is always 1, so its ln is finite.": None}
    rows, exps, p = np.arange(len(targets)), np.exp(logits), each_row(slow_softmax, logits)
    picked, log_sum, by_all = logits[rows, targets], np.log(exps.sum(-1)), np.exp(logits - logits.max())
    by_row = np.exp(logits - logits.max(-1, keepdims=True))
    z = logits - logits.max(-1, keepdims=True)
    log_sum_z = np.log(by_row.sum(-1))
    traps = {
        "A share became 0 before its ln, or an exp became ∞: start from the logits, not from their softmax, "
        "and subtract the maximum of each row.": (
            [-np.log(p[rows, targets]), -np.log((exps / exps.sum(-1, keepdims=True))[rows, targets])]
        ),
        "exp(logits) overflows: subtract the maximum of each row first.": log_sum - picked,
        "The maximum is taken over all rows, and a row far below it underflows: take each row's own.": (
            [
                np.log(by_all.sum(-1)) + logits.max() - picked,
                -np.log(by_all / by_all.sum(-1, keepdims=True))[rows, targets],
            ]
        ),
        "The maximum is subtracted in the sum but not from the target's logit: subtract it from both.": (
            [expected - logits.max(-1), expected - logits.max()]
        ),
        "The maximum is subtracted from the target's logit but not in the sum: subtract it from both.": (
            [expected + logits.max(-1), expected + logits.max()]
        ),
        "The sign is wrong: ln of a probability is negative, a surprise is positive.": -expected,
        "That uses log2 or log10: this course counts in nats (np.log).": (
            [expected / np.log(2), expected / np.log(10)]
        ),
        "That is the mean: return the surprise at each position.": expected.mean(),
        "That is the sum: return the surprise at each position.": expected.sum(),
        f"logits[:, targets] takes every target from every row: {ONE_EACH}": (
            [-np.log(p[:, targets]), log_sum - logits[:, targets], log_sum_z - z[:, targets]]
        ),
        "[n_seq, 1] and [n_seq] broadcast to a square: take this sum without keepdims.": (
            log_sum[:, None] - picked
        ),
        "That is the surprise of every token: take only the target's.": -np.log(p),
        "The sum goes over all rows, but each row is a distribution of its own: axis=-1.": (
            np.log(exps.sum()) - picked
        ),
        "The sum goes down the columns, but each row is a distribution of its own: axis=-1.": (
            np.log(exps.sum(0))[targets] - picked
        ),
        "That is the probability itself: its -ln is the surprise.": [p[rows, targets], -p[rows, targets]],
        "Take the ln of the sum, not the sum itself.": (
            [exps.sum(-1) - picked, by_row.sum(-1) - picked + logits.max(-1)]
        ),
        "That is minus the logit: it means nothing until it is compared with the others.": -picked,
        "That is how far the target is below the likeliest token: the ln of the sum is missing.": (
            logits.max(-1) - picked
        ),
        "That is the surprise of the likeliest token, not of the target.": -np.log(p.max(-1)),
    }
    if logits.shape == (2, 2):  # where targets can be rows
        why = "Rows and columns are swapped: the first index is the position, the second the target."
        traps[why] = [-np.log(p[targets, rows]), log_sum - logits[targets, rows]]
        sums = (log_sum - logits[targets], log_sum[:, None] - logits[targets])
        sums += (log_sum_z - z[targets], log_sum_z[:, None] - z[targets])
        traps[f"logits[targets] takes whole rows: {ONE_EACH}"] = [-np.log(p[targets]), *sums]
        by_other = np.exp(logits - logits.max(-1))
        shares = [e / e.sum(-1) for e in (exps, by_row, by_other)] + [
            by_other / by_other.sum(-1, keepdims=True)
        ]
        traps[OTHER_ROWS] = [-np.log(share[rows, targets]) for share in shares]
    if logits.max() > 100:
        why = "It is right for small numbers only: do not clip a probability, or add 1e-9 to it."
        traps[why] = None
    return traps


@check
def layer_norm(f, x, g, b):
    """f(x, g, b, eps): over the last axis. x, g, b: the notebook's."""
    ones, zeros = float32([1, 1, 1]), float32([0, 0, 0])
    random = np.random.default_rng(2).normal(0, 2, (2, 3, 4)).astype(np.float32)
    square = float32([[1, 2, 6], [10, 30, 5], [5, 0, 1]])
    inputs = (
        (square, ones, zeros, 1e-5),
        (square[:2], float32([1, 2, 3]), float32([0, 1, -1]), 1e-5),
        (float32([[0.01, 0.02, 0.03]]), ones, zeros, 1e-4),
        (float32([[10001, 10002, 10006]]), ones, zeros, 1e-5),
        (random, random[0, 0], random[1, 1], 1e-5),
        (x, g, b, 1e-5),
    )
    cases = []
    for x, *weights in inputs:
        expected = each_row(partial(slow_layer_norm, weights=weights), x)
        given = dict(zip(("x", "g", "b", "eps"), (x, *weights)))
        cases.append((given, expected, wrong_layer_norms(x, *weights)))
    compare(f, cases, tolerance=2e-5)


def wrong_layer_norms(x, g, b, eps):  # -> {why: what a wrong function returns}
    if x.min() > 10000:
        return {
            "It is right near 0, but not for numbers that are large and close together: a late subtraction "
            "leaves only rounding error. Of mean(x²) - mean(x)² both terms are near 100,000,000, where "
            "float32 counts in eights; x g / std and mean g / std are large too. "
            "Subtract the mean first, then square, divide and scale.": None
        }
    mean, variance, n = x.mean(-1, keepdims=True), x.var(-1, keepdims=True), x.shape[-1]
    squares, centred, std = (x**2).mean(-1, keepdims=True), x - mean, np.sqrt(variance + eps)

    def normed(centred=centred, variance=variance, eps=eps):
        return g * centred / np.sqrt(variance + eps) + b

    traps = {
        "The variance is divided by n - 1 (ddof=1, as in statistics): here, divide by n.": (
            normed(variance=variance * n / (n - 1))
        ),
        "The variance is a mean: divide the sum of squares by n.": normed(variance=variance * n),
        "The variance is the mean of (x - mean)², not of x².": normed(variance=squares),
        "eps is added outside the root: it belongs inside, √(variance + eps).": (
            g * centred / (np.sqrt(variance) + eps) + b
        ),
        "eps is missing, or far too small: √(variance + eps).": normed(eps=0),
        "eps is an argument, and not always 1e-5.": normed(eps=1e-5),
        "The root is missing: that divides by the variance.": g * centred / (variance + eps) + b,
        "Only the mean is subtracted: divide by √(variance + eps) too.": g * centred + b,
        "The mean is still in it.": [normed(x), normed(x, squares)],
        "The sign is wrong: x - mean, not mean - x.": normed(-centred),
        "g and b are not used.": centred / std,
        "g is not used.": centred / std + b,
        "b is not used.": g * centred / std,
        "g and b are swapped.": b * centred / std + g,
        "b belongs outside, added last.": g * (centred / std + b),
        "Mean and variance are those of the columns, but each token is normalized on its own: axis=-1.": (
            normed(x - x.mean(0), x.var(0))
        ),
        "Mean and variance are those of the whole array, but each token is normalized on its own: axis=-1.": (
            normed(x - x.mean(), x.var())
        ),
    }
    if x.shape == (3, 3):  # only here does it broadcast
        other = x - x.mean(-1)
        variances = (x.var(-1), variance, (other**2).mean(-1), (other**2).mean(-1, keepdims=True))
        why = "Each row is normalized by other rows' means or variances, one for each column: keepdims=True."
        traps[why] = [normed(offset, square) for offset in (centred, other) for square in variances]
    if x.ndim > 2:
        traps[LAST] = None
    if n == 3 and np.abs(x).max() < 1:
        traps["The numbers are small here, so eps matters: √(variance + eps)."] = None
    return traps


# ---- the numbers that a float can hold ---------------------------------------------------------------------


@check
def where_float16_ends(f):
    """f(): the x above which exp(x) is infinite in float16."""
    low = "e^5 is only about 150, and e^10 about 22,000. (65,504 is nearly 10^5, but exp has the base e.)"
    high = "Asked is the x for which exp(x) is 65,504. 2^16 is about that, and e is larger than 2."
    return estimate(f, float(np.log(65504)), 1.3, low=low, high=high)


@check
def why_the_digits_go(f):
    """f(): the letter of the sentence that says why mean(x²) - mean(x)² is 0 for [10001, 10002, 10006]."""
    return choose(
        f,
        "c",
        {
            "a": "x² is about 100,000,000; a float32 can hold numbers up to 3.4e38.",
            "b": "The mean is 10,003 exactly. The first formula uses x - mean too, and is right.",
            "d": "Multiply (x - mean)² out: on paper the two are equal. In float64 both give 4.667.",
        },
    )


@check
def another_vector(f):
    """f(x): another vector that layer norm turns into the same."""
    for x in map(float32, ([2, 6, 1], [4, 0, 3, 1], [30.5, -8.1, -22.3, 4.2], [-9, -1, -2])):
        given = x.copy()
        found = as_array(f(given))
        if not np.array_equal(given, x):
            raise NotYet("Your function changes its argument x: a caller would not expect that.")
        why = not_another(x, found)
        if why:
            lines = {"x": x, "yours": found}
            if found.shape == x.shape:
                lines |= {"its norm": normed(x), "your norm": normed(found)}
            raise NotYet(why + "".join(f"\n  {name:10} {shown(value)}" for name, value in lines.items()))


def normed(x):  # [n] -> [n]
    return gpt2.layer_norm(np.asarray(x, dtype=np.float32), 1, 0)


def not_another(x, found):  # -> str, empty if the vector found is another that becomes the same
    if found.shape != x.shape:
        return f"The shape should be {list(x.shape)}, but it is {list(found.shape)}."
    with_eps, exact = normed(found), found.astype(float)
    if not np.isfinite(exact).all():
        return "The result has NaN or infinity in it."
    apart = np.abs(exact - x).mean() / x.std()
    if apart < 0.25:
        away = f"{apart:.2g} of its standard deviation away on average"
        return f"That is too near to x, the strips would look the same: {away}, and 0.25 or more is asked."
    if np.abs(with_eps - normed(x)).max() < 1e-4:
        return ""
    std = exact.std()
    if std == 0:
        return "All its numbers are the same: once the mean is subtracted, nothing is left."
    if np.abs(exact - exact.mean() + (x - x.mean()) * std / x.std()).max() < 0.01 * std:
        return "The norm is the same with the signs turned around: a negative factor survives the division."
    same_shape = np.abs((exact - exact.mean()) / std - (x - x.mean()) / x.std()).max() < 0.01
    if std**2 < 0.1 and same_shape:
        return f"Its variance is only {std**2:.1g}: beside that, eps = 1e-5 is no longer negligible."
    if np.abs(exact).max() > 1e3 * std:
        return "The numbers are so large, and so close together, that float32 has lost what sets them apart."
    if np.allclose(np.sort(exact), np.sort(x)):
        return "The same numbers in another order: layer norm keeps the order, so the norm has it too."
    return "Layer norm turns it into something else. What can you do to all the numbers alike that it undoes?"
