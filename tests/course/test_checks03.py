"""The checks of notebook 03: softmax, cross-entropy and layer norm, and what floating point does to them."""

import textwrap

import pytest
from checking import written

from extras import inside

pytestmark = pytest.mark.filterwarnings("error")
OF_ARRAYS = ["softmax", "cross_entropy", "layer_norm"]  # what these checks compare


def given_to_checks(prompt, encoder, hparams, params):  # -> {name: arguments}
    """What the notebook gives to a check besides the answer."""
    *_, last = inside.steps(encoder.encode(prompt), **params, n_head=hparams["n_head"])
    return {"layer_norm": (last["x"], *params["blocks"][-1]["ln_1"].values())}


# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
    "softmax": {
        "by the log of the sum": "return np.exp(x - np.logaddexp.reduce(x, axis=-1, keepdims=True))",
        "in float64 and back": "return gpt2.softmax(x.astype(float)).astype(np.float32)",
        "without keepdims": """
            e = np.exp(x - np.max(x, axis=-1)[..., None])
            return e / np.expand_dims(np.sum(e, axis=-1), -1)
            """,
        "by loops": """
            rows = []
            for row in x.reshape(-1, x.shape[-1]):
                exps = [np.exp(number - max(row)) for number in row]
                rows.append([e / sum(exps) for e in exps])
            return np.array(rows, dtype=np.float32).reshape(x.shape)
            """,
    },
    "cross_entropy": {
        "by logaddexp": "return np.logaddexp.reduce(logits, axis=1) - logits[range(len(targets)), targets]",
        "by differences": """
            found = np.take_along_axis(logits, targets[:, None], axis=1)
            return np.logaddexp.reduce(logits - found, axis=-1)
            """,
        "one-hot": """
            z = logits - logits.max(axis=-1, keepdims=True)
            log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
            return -(np.eye(logits.shape[1], dtype=np.float32)[targets] * log_p).sum(axis=-1)
            """,
        "a list, by loops": """
            surprises = []
            for row, target in zip(logits.tolist(), targets):
                log_sum = max(row) + math.log(sum(math.exp(x - max(row)) for x in row))
                surprises.append(np.float32(log_sum - row[target]))
            return surprises
            """,
    },
    "layer_norm": {
        "the package's": "return gpt2.layer_norm(x, g, b, eps)",
        "by np.var": """
            factor = (x.var(axis=-1, keepdims=True) + eps) ** -0.5
            return (x - np.mean(x, axis=-1, keepdims=True)) * factor * g + b
            """,
        "by np.std": """
            std = np.sqrt(np.std(x, axis=-1) ** 2 + eps)
            return ((x - x.mean(-1)[..., None]) / std[..., None]) * g + b
            """,
        "by loops": """
            out = np.empty_like(x)
            for place in np.ndindex(*x.shape[:-1]):
                row = [float(number) for number in x[place]]
                mean = sum(row) / len(row)
                std = math.sqrt(sum((number - mean) ** 2 for number in row) / len(row) + eps)
                out[place] = [(number - mean) / std for number in row] * g + b
            return out
            """,
        "mean(x²) - mean(x)², but with enough digits": """
            y = x.astype(float)
            mean, squares = y.mean(-1, keepdims=True), (y * y).mean(-1, keepdims=True)
            return (g * (y - mean) / np.sqrt(squares - mean**2 + eps) + b).astype(np.float32)
            """,
    },
    "where_float16_ends": {
        "by logarithm": "return math.log(65504)",
        "a whole number": "return 11",
        "a number of NumPy's": "return np.float32(12)",
    },
    "why_the_digits_go": {"a capital": "return 'C'", "with its bracket": "return ' c)'"},
    "another_vector": {
        "only shifted": "return x + 40",
        "half of it": "return 0.5 * x",
        "only scaled": "return x * np.float32(4)",
        "in thousands": "return 1000 * x + 5000",
        "a list": "return [3 * float(number) - 7 for number in x]",
        "its norm, larger": "return 10 * gpt2.layer_norm(x, 1, 0) + 10",
    },
}

# ---- wrong answers: what a learner writes, and what must be said about it ----------------------------------

ROWS = "i = range(len(targets)); "
NORM = "m = x.mean(-1, keepdims=True); v = ((x - m)**2).mean(-1, keepdims=True); "

WRONG = {
    "softmax": {
        "overflows": ("e = np.exp(x); return e / e.sum(-1, keepdims=True)", "exp(x) overflows"),
        "sum of all": ("e = np.exp(x - x.max()); return e / e.sum()", "sum goes over all rows"),
        "sum of all, no maximum": ("e = np.exp(x); return e / np.sum(e)", "sum goes over all rows"),
        "sum of all, maximum of each row": (
            "e = np.exp(x - x.max(-1, keepdims=True)); return e / e.sum()",
            "sum goes over all rows",
        ),
        "columns": ("e = np.exp(x - x.max(0)); return e / e.sum(0)", "sum goes down the columns"),
        "columns, no maximum": ("e = np.exp(x); return e / e.sum(axis=0)", "sum goes down the columns"),
        "columns, maximum of each row": (
            "e = np.exp(x - x.max(-1, keepdims=True)); return e / e.sum(0)",
            "sum goes down the columns",
        ),
        "maximum of each column": (
            "e = np.exp(x - x.max(0)); return e / e.sum(-1, keepdims=True)",
            "maximum is taken down the columns",
        ),
        "no keepdims": ("e = np.exp(x - x.max(-1)); return e / e.sum(-1)", "keepdims=True"),
        "no keepdims, no maximum": ("e = np.exp(x); return e / e.sum(-1)", "keepdims=True"),
        "no keepdims in the maximum": (
            "e = np.exp(x - x.max(-1)); return e / e.sum(-1, keepdims=True)",
            "keepdims=True",
        ),
        "no keepdims in the sum": (
            "e = np.exp(x - x.max(-1, keepdims=True)); return e / e.sum(-1)",
            "keepdims=True",
        ),
        "one maximum for all": (
            "e = np.exp(x - x.max()); return e / e.sum(-1, keepdims=True)",
            "a row far below it underflows",
        ),
        "not divided": ("return np.exp(x)", "divide by the sum"),
        "not divided, maximum taken": ("return np.exp(x - x.max(-1, keepdims=True))", "divide by the sum"),
        "no exp": ("return x / x.sum(-1, keepdims=True)", "exp is missing"),
        "powers of 2": ("return 2**x / (2**x).sum(-1, keepdims=True)", "The base is e"),
        "the largest alone": ("return x == x.max(-1, keepdims=True)", "softmax gives each its share"),
        "the sign": ("return gpt2.softmax(-x)", "not exp(-x)"),
        "the logarithm": (
            "return x - np.logaddexp.reduce(x, -1, keepdims=True)",
            "That is the logarithm of softmax",
        ),
        "clipped": ("return gpt2.softmax(np.clip(x, -80, 80))", "do not clip"),
        "clipped below the maximum": (
            "z = np.maximum(x - x.max(-1, keepdims=True), -12); return gpt2.softmax(z)",
            "right for a few scores, but not for 300",
        ),
        "clipped far below the maximum": (
            "z = np.maximum(x - x.max(-1, keepdims=True), -30); return gpt2.softmax(z)",
            "its share is exactly 0: do not clip",
        ),
        "rounded": ("return np.round(gpt2.softmax(x), 5)", "do not round"),
        "1e-5 added to the sum": (
            "e = np.exp(x - x.max(-1, keepdims=True)); return e / (e.sum(-1, keepdims=True) + 1e-5)",
            "do not clip, and add nothing to the sum.",
        ),
        "1e-6 added to the sum": (
            "e = np.exp(x - x.max(-1, keepdims=True)); return e / (e.sum(-1, keepdims=True) + 1e-6)",
            "add nothing to the sum, which is never 0",
        ),
        "the largest size instead of the maximum": (
            "e = np.exp(x - np.abs(x).max(-1, keepdims=True)); return e / e.sum(-1, keepdims=True)",
            "Every exp became 0",
        ),
        "only a positive maximum": (
            "e = np.exp(x - np.maximum(x.max(-1, keepdims=True), 0)); return e / e.sum(-1, keepdims=True)",
            "Every exp became 0",
        ),
        "one maximum for all, in float64": (
            "e = np.exp(x.astype(float) - x.max()); return (e / e.sum(-1, keepdims=True)).astype(np.float32)",
            "a row far below it underflows",
        ),
        "in float64, no maximum": (
            "e = np.exp(x.astype(float)); return (e / e.sum(-1, keepdims=True)).astype(np.float32)",
            "exp(x) overflows",
        ),
        "-∞ replaced": (
            "m = np.nan_to_num(x, neginf=0).max(-1, keepdims=True); x = np.where(np.isinf(x), m, x); "
            "return gpt2.softmax(x)",
            "A masked score is -∞",
        ),
        "NaN made 0": (
            "e = np.exp(x); return np.nan_to_num(e / e.sum(-1, keepdims=True))",
            "right for small numbers only",
        ),
        "unchanged": ("return x", "That is x, unchanged"),
        "written nowhere": (
            """
            out = np.zeros_like(x)
            for row in out:
                row = np.exp(row)
            return out
            """,
            "All numbers are 0: is the result written",
        ),
        "float16": ("return gpt2.softmax(x).astype(np.float16)", "float16, which has three digits"),
        "in place": (
            "x -= x.max(-1, keepdims=True); return gpt2.softmax(x)",
            "argument x: a caller would not expect that",
        ),
        "row by row of a matrix": (
            "return np.array([np.exp(row) / np.exp(row).sum() for row in x])",
            "the sum goes along a row",
        ),
        "axis 1 of three": (
            "e = np.exp(x - x.max(-1, keepdims=True)); return e / e.sum(min(1, x.ndim - 1), keepdims=True)",
            "It is right for a matrix but not for three axes",
        ),
        "axis 1": ("e = np.exp(x); return e / e.sum(axis=1)", "raised AxisError: axis 1 is out of bounds"),
    },
    "cross_entropy": {
        "ln of softmax": (
            ROWS + "p = softmax(logits); return -np.log(p[i, targets])",
            "start from the logits, not from their softmax",
        ),
        "ln of a softmax that overflows": (
            ROWS + "e = np.exp(logits); return -np.log((e / e.sum(1, keepdims=True))[i, targets])",
            "start from the logits, not from their softmax",
        ),
        "one-hot": (
            "return -(np.eye(logits.shape[1])[targets] * np.log(softmax(logits))).sum(1)",
            "start from the logits, not from their softmax",
        ),
        "overflows": (
            ROWS + "return np.log(np.exp(logits).sum(-1)) - logits[i, targets]",
            "exp(logits) overflows: subtract the maximum",
        ),
        "one maximum for all": (
            ROWS + "z = logits - logits.max(); return np.log(np.exp(z).sum(-1)) - z[i, targets]",
            "take each row's own",
        ),
        "the maximum not taken from the target": (
            ROWS
            + "z = logits - logits.max(-1, keepdims=True); "
            + "return np.log(np.exp(z).sum(-1)) - logits[i, targets]",
            "subtracted in the sum but not from the target's logit",
        ),
        "one maximum for all, not taken from the target": (
            ROWS + "return np.log(np.exp(logits - logits.max()).sum(-1)) - logits[i, targets]",
            "subtracted in the sum but not from the target's logit",
        ),
        "the maximum taken from the target only": (
            ROWS
            + "z = logits - logits.max(-1, keepdims=True); "
            + "return np.log(np.exp(logits).sum(-1)) - z[i, targets]",
            "subtracted from the target's logit but not in the sum",
        ),
        "overflows, in float64": (
            ROWS
            + "z = logits.astype(float); s = np.log(np.exp(z).sum(-1)); "
            + "return (s - z[i, targets]).astype(np.float32)",
            "exp(logits) overflows: subtract the maximum",
        ),
        "one maximum for all, in float64": (
            ROWS
            + "z = logits.astype(float) - logits.max(); "
            + "return (np.log(np.exp(z).sum(-1)) - z[i, targets]).astype(np.float32)",
            "take each row's own",
        ),
        "the largest size instead of the maximum": (
            ROWS
            + "z = logits - np.abs(logits).max(-1, keepdims=True); "
            + "return np.log(np.exp(z).sum(-1)) - z[i, targets]",
            "Every exp became 0",
        ),
        "no minus": (ROWS + "return np.log(softmax(logits)[i, targets])", "The sign"),
        "bits": (ROWS + "return -np.log2(softmax(logits)[i, targets])", "in nats (np.log)"),
        "log10": (ROWS + "return -np.log10(softmax(logits)[i, targets])", "in nats (np.log)"),
        "mean": (ROWS + "return -np.log(softmax(logits)[i, targets]).mean()", "That is the mean"),
        "sum": (ROWS + "return -np.log(softmax(logits)[i, targets]).sum()", "That is the sum"),
        "all targets of all rows": (
            "return -np.log(softmax(logits)[:, targets])",
            "takes every target from every row",
        ),
        "all targets, by the log of the sum": (
            "return np.log(np.exp(logits).sum(-1, keepdims=True)) - logits[:, targets]",
            "takes every target from every row",
        ),
        "all targets, no keepdims": (
            "return np.log(np.exp(logits).sum(-1)) - logits[:, targets]",
            "takes every target from every row",
        ),
        "keepdims": (
            ROWS + "s = np.exp(logits).sum(-1, keepdims=True); return np.log(s) - logits[i, targets]",
            "without keepdims",
        ),
        "all tokens": ("return -np.log(softmax(logits))", "take only the target's"),
        "targets as rows": ("return -np.log(softmax(logits)[targets])", "takes whole rows"),
        "targets as rows, by the log of the sum": (
            "z = logits - logits.max(-1, keepdims=True); return np.log(np.exp(z).sum(-1)) - z[targets]",
            "z[np.arange(n_seq), targets]",
        ),
        "all targets, the maximum taken": (
            "z = logits - logits.max(-1, keepdims=True); return np.log(np.exp(z).sum(-1)) - z[:, targets]",
            "takes every target from every row",
        ),
        "the target's logit subtracted instead of the maximum": (
            ROWS + "z = logits - logits[i, targets][:, None]; return np.log(np.exp(z).sum(-1))",
            "or an exp became ∞",
        ),
        "1e-5 added to the sum": (
            ROWS
            + "z = logits - logits.max(-1, keepdims=True); "
            + "return np.log(np.exp(z).sum(-1) + 1e-5) - z[i, targets]",
            "add nothing to the sum",
        ),
        "clipped below the maximum": (
            ROWS
            + "z = np.maximum(logits - logits.max(-1, keepdims=True), -1000); "
            + "return np.log(np.exp(z).sum(-1)) - z[i, targets]",
            "Do not clip",
        ),
        "indices exchanged": (
            ROWS + "return -np.log(softmax(logits)[targets, i])",
            "the first index is the position, the second the target",
        ),
        "softmax of all rows": (
            ROWS + "e = np.exp(logits); return -np.log((e / e.sum())[i, targets])",
            "sum goes over all rows",
        ),
        "softmax of columns": (
            ROWS + "return -np.log(softmax(logits.T).T[i, targets])",
            "sum goes down the columns",
        ),
        "the probability": (ROWS + "return softmax(logits)[i, targets]", "probability itself"),
        "minus the probability": (ROWS + "return -softmax(logits)[i, targets]", "probability itself"),
        "no ln": (
            ROWS + "z = logits - logits.max(-1, keepdims=True); return np.exp(z).sum(-1) - z[i, targets]",
            "Take the ln of the sum, not the sum itself",
        ),
        "no keepdims in the maximum": (
            ROWS + "z = logits - logits.max(-1); return np.log(np.exp(z).sum(-1)) - z[i, targets]",
            "for each column: keepdims=True",
        ),
        "no keepdims in the sum": (
            ROWS + "e = np.exp(logits); return -np.log((e / e.sum(-1))[i, targets])",
            "for each column: keepdims=True",
        ),
        "minus the logit": (ROWS + "return -logits[i, targets]", "minus the logit"),
        "no sum": (
            ROWS + "z = logits - logits.max(-1, keepdims=True); return -z[i, targets]",
            "the ln of the sum is missing",
        ),
        "the likeliest": ("return -np.log(softmax(logits).max(-1))", "likeliest token, not of the target"),
        "clipped": (
            ROWS + "p = softmax(logits)[i, targets]; return -np.log(np.clip(p, 1e-12, 1))",
            "do not clip a probability",
        ),
        "1e-9 added": (
            ROWS + "p = softmax(logits)[i, targets]; return -np.log(p + 1e-9)",
            "or add 1e-9 to it",
        ),
        "in place": (
            ROWS + "logits -= logits.max(); return -np.log(softmax(logits)[i, targets])",
            "changes its argument logits",
        ),
    },
    "layer_norm": {
        "ddof=1": (
            "m = x.mean(-1, keepdims=True); v = x.var(-1, keepdims=True, ddof=1); "
            "return g * (x - m) / np.sqrt(v + eps) + b",
            "ddof=1",
        ),
        "sum of squares": (
            NORM + "v = ((x - m)**2).sum(-1, keepdims=True); return g * (x - m) / np.sqrt(v + eps) + b",
            "divide the sum of squares by n",
        ),
        "mean of x squared": (
            "m = x.mean(-1, keepdims=True); v = (x**2).mean(-1, keepdims=True); "
            "return g * (x - m) / np.sqrt(v + eps) + b",
            "not of x²",
        ),
        "eps outside the root": (NORM + "return g * (x - m) / (np.sqrt(v) + eps) + b", "it belongs inside"),
        "eps added to np.std": (
            "d = x - x.mean(-1, keepdims=True); return g * d / (x.std(-1, keepdims=True) + eps) + b",
            "it belongs inside",
        ),
        "no eps": (NORM + "return g * (x - m) / np.sqrt(v) + b", "eps is missing"),
        "its own eps": (NORM + "return g * (x - m) / np.sqrt(v + 1e-5) + b", "eps is an argument"),
        "another eps": (NORM + "return g * (x - m) / np.sqrt(v + 1e-12) + b", "or far too small"),
        "a larger eps": (NORM + "return g * (x - m) / np.sqrt(v + 2e-5) + b", "so eps matters"),
        "no root": (NORM + "return g * (x - m) / (v + eps) + b", "The root is missing"),
        "only centred": (NORM + "return g * (x - m) + b", "Only the mean is subtracted"),
        "not centred": (NORM + "return g * x / np.sqrt(v + eps) + b", "The mean is still in it"),
        "RMS": (
            "return g * x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) + b",
            "The mean is still in it",
        ),
        "mean - x": (NORM + "return g * (m - x) / np.sqrt(v + eps) + b", "x - mean, not mean - x"),
        "no g, no b": (NORM + "return (x - m) / np.sqrt(v + eps)", "g and b are not used"),
        "no g": (NORM + "return (x - m) / np.sqrt(v + eps) + b", "g is not used"),
        "no b": (NORM + "return g * (x - m) / np.sqrt(v + eps)", "b is not used"),
        "g and b exchanged": (NORM + "return b * (x - m) / np.sqrt(v + eps) + g", "g and b are swapped"),
        "b inside": (NORM + "return g * ((x - m) / np.sqrt(v + eps) + b)", "b belongs outside"),
        "columns": ("return g * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + b", "those of the columns"),
        "whole array": ("return g * (x - x.mean()) / np.sqrt(x.var() + eps) + b", "those of the whole array"),
        "no keepdims": (
            "d = x - x.mean(-1); return g * d / np.sqrt((d * d).mean(-1) + eps) + b",
            "keepdims=True",
        ),
        "no keepdims, by np.var": (
            "return g * (x - x.mean(-1)) / np.sqrt(x.var(-1) + eps) + b",
            "keepdims=True",
        ),
        "no keepdims in the mean": (
            "d = x - x.mean(-1); return g * d / np.sqrt(x.var(-1, keepdims=True) + eps) + b",
            "keepdims=True",
        ),
        "no keepdims in the variance": (
            "d = x - x.mean(-1, keepdims=True); return g * d / np.sqrt(x.var(-1) + eps) + b",
            "keepdims=True",
        ),
        "axis 1": (
            "return g * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps) + b",
            "It is right for a matrix but not for three axes",
        ),
        "in place": ("x -= x.mean(-1, keepdims=True); " + NORM + "return x", "changes its argument x"),
        "mean of the squares less the squared mean": (
            "m = x.mean(-1, keepdims=True); v = (x**2).mean(-1, keepdims=True) - m**2; "
            "return g * (x - m) / np.sqrt(v + eps) + b",
            "leaves only rounding error",
        ),
        "the mean subtracted last": (
            "m = x.mean(-1, keepdims=True); s = np.sqrt(x.var(-1, keepdims=True) + eps); "
            "return x * (g / s) + (b - m * g / s)",
            "Subtract the mean first, then square, divide and scale.",
        ),
        "the same by sums": (
            "n = x.shape[-1]; m = np.sum(x, -1, keepdims=True) / n; "
            "v = np.maximum(np.sum(x * x, -1, keepdims=True) / n - m * m, 0); "
            "return (x - m) / (v + eps) ** 0.5 * g + b",
            "float32 counts in eights",
        ),
        "a root that widens": (
            NORM + "return g * (x - m) / (np.sqrt(2) * np.sqrt((v + eps) / 2)) + b",
            "The numbers are right, but in float64",
        ),
    },
    "where_float16_ends": {
        "the number itself": ("return 65504", "is too high"),
        "the power of 2": ("return 16", "2^16 is about that, and e is larger than 2"),
        "the power of 10": ("return math.log10(65504)", "e^5 is only about 150"),
        "float32's": ("return 88.7", "is too high"),
        "a little too low": ("return 8", "is too low"),
        "minus": ("return -11", "Return a positive number"),
        "in words": ("return 'eleven'", "Return a positive number"),
        "infinity": ("return np.inf", "Return a positive number"),
    },
    "why_the_digits_go": {
        "a": ("return 'a'", "a) is false. x² is about 100,000,000"),
        "b": ("return 'b'", "b) is false. The mean is 10,003"),
        "d": ("return 'D'", "d) is false. Multiply (x - mean)² out"),
        "e": ("return 'e'", "Return one of the letters a, b, c, d"),
        "a number": ("return 3", "Return one of the letters"),
        "two": ("return 'a', 'c'", "Return one of the letters"),
        "nothing": ("pass", "Return one of the letters"),
    },
    "another_vector": {
        "unchanged": ("return x", "too near to x"),
        "hardly changed": ("return x + 0.001", "too near to x"),
        "too near to be seen": ("return x + 1", "the strips would look the same: 0.05"),
        "one number is off": ("y = 2 * x; y[0] += 0.03; return y", "turns it into something else"),
        "sorted": ("return np.sort(x)", "The same numbers in another order"),
        "negative": ("return 5 - 3 * x", "a negative factor survives"),
        "divided by its largest, which may be negative": (
            "return x / x.max()",
            "a negative factor survives",
        ),
        "times its sum": ("return x * x.sum()", "a negative factor survives"),
        "shuffled": ("return x[::-1] + 0", "The same numbers in another order"),
        "all alike": ("return 0 * x + 9", "once the mean is subtracted, nothing is left"),
        "too small": ("return 0.0001 * x + 5", "eps = 1e-5 is no longer negligible"),
        "too far": ("return x + np.float32(1e7)", "float32 has lost what sets them apart"),
        "squared": ("return x * x + 3", "Layer norm turns it into something else"),
        "random": ("return np.random.default_rng(0).normal(0, 3, len(x))", "turns it into something else"),
        "another for each place": ("return x + 3 * np.arange(len(x))", "turns it into something else"),
        "too long": ("return np.append(x, 0)", "The shape should be [3]"),
        "infinite": ("return x / 0", "NaN or infinity"),
        "in place": ("x *= 3; return x", "changes its argument x"),
        "for three numbers only": ("return np.array([4, 12, 2])", "The shape should be [4]"),
    },
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("layer_norm", "ddof=1", "x         [3, 3]"),
    ("layer_norm", "no g", "x         [2, 3]"),
    ("layer_norm", "no eps", "x         [1, 3]"),
    ("layer_norm", "axis 1", "x         [2, 3, 4]"),
    ("cross_entropy", "mean", "logits    [2, 2]  [[0. 1.]"),
    ("cross_entropy", "one maximum for all", "logits    [2, 2]  [[   0.    1.]"),
    ("layer_norm", "mean of the squares less the squared mean", "x         [1, 3]  [[10001. 10002. 10006.]]"),
    ("another_vector", "negative", "x          [3]  [2. 6. 1.]"),
]

# ---- the claims --------------------------------------------------------------------------------------------


def test_the_smallest_input_that_fails_is_shown_with_what_was_expected_and_returned(verdict):
    for mistake, lines in (
        (
            "overflows",
            """
              x         [2]  [   0. 1000.]
              expected  [2]  [0. 1.]
              got       [2]  [ 0. nan]
            """,
        ),
        (
            "1e-5 added to the sum",
            """
              x         [2]  [   0. 1000.]
              expected  [2]  [0. 1.]
              got       [2]  [0. 1.]
              apart     1e-05
            """,
        ),
        (
            "not divided, maximum taken",
            """
              x         [2]  [1. 3.]
              expected  [2]  [0.1192 0.8808]
              got       [2]  [0.1353 1.    ]
            """,
        ),
        (
            "sum of all",
            """
              x         [2, 2]  [[1. 2.]
                                 [3. 5.]]
              expected  [2, 2]  [[0.2689 0.7311]
                                 [0.1192 0.8808]]
              got       [2, 2]  [[0.0152 0.0414]
                                 [0.1125 0.831 ]]
            """,
        ),
    ):
        body, _ = WRONG["softmax"][mistake]
        first, *shown = verdict("softmax", written("softmax", body)).splitlines()
        assert textwrap.dedent("\n".join(shown)) == textwrap.dedent(lines).strip("\n")
