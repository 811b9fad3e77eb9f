"""The checks of the exercises: right answers pass, wrong ones are told their cause, none breaks a check."""

import importlib
import inspect
import linecache
import math
import textwrap
import warnings

import numpy as np
import pytest
from helpers import ROOT

import checkpoint
import gpt2
from extras import inside
from tools import bugs, judging, reference

pytestmark = pytest.mark.filterwarnings("error")
TEXT = "The little fox looked at the old wolf, and the old"


def functions(file):  # -> {name: function} of what a file of notebooks/ defines
    module = importlib.import_module(f"{file.parent.name}.{file.stem}")
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: f for name, f in found if f.__module__ == module.__name__}


def checks(file):  # -> {name: check}
    return {name: f for name, f in functions(file).items() if hasattr(f, "__wrapped__")}  # by judging.check


CHECK_FILES = sorted(ROOT.glob("notebooks/tools/checks[0-9][0-9].py"))
SOLUTION_FILES = sorted(ROOT.glob("notebooks/solutions/ex[0-9][0-9].py"))
CHECKS = {name: f for file in CHECK_FILES for name, f in checks(file).items()}
SOLUTIONS = {name: f for file in SOLUTION_FILES for name, f in functions(file).items()}
OF_ARRAYS = ["softmax", "cross_entropy", "layer_norm", "attend", "attention"]


def written(name, body):  # -> the function that a learner who writes this in a notebook has
    head = f"def {name}{inspect.signature(SOLUTIONS[name])}:\n"
    source = head + textwrap.indent(textwrap.dedent(body), "    ")
    file = f"<cell {hash(source)}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # as IPython does
    names = dict(np=np, math=math, gpt2=gpt2, softmax=gpt2.softmax, checkpoint=checkpoint, bugs=bugs)
    exec(compile(source, file, "exec"), names)
    return names[name]


@pytest.fixture(scope="module")
def models_own(tiny):
    """What the notebooks give to a check besides the answer."""
    encoder, hparams, params = tiny
    ids, n_head = encoder.encode(TEXT), hparams["n_head"]
    *_, last = inside.steps(ids, **params, n_head=n_head)
    return {
        "generate": (ids, params, n_head),
        "layer_norm": (last["x"], *params["blocks"][-1]["ln_1"].values()),
        "attention": tuple(last[name][0] for name in "qkv"),
        "same": (gpt2.gpt2(ids, **params, n_head=n_head), reference.forward(ids, params, n_head)[0]),
    }


@pytest.fixture
def told(capsys, models_own):
    """Ask a check as a notebook does; what it says, in one message."""

    def ask(name, f):
        assert CHECKS[name](f, *models_own.get(name, ())) is None
        out, err = capsys.readouterr()
        first, *others = out.splitlines()
        assert err == "" and first.startswith(f"{name}: ") and all(line.startswith("  ") for line in others)
        labels = [line.split()[0] for line in others if line[2] != " "]
        assert len(labels) == len(set(labels))
        return out.removeprefix(f"{name}: ")

    return ask


def cases(table):  # {name: {case: ...}} -> (name, case) of all, with an id for each
    return [pytest.param(name, case, id=f"{name}-{case}") for name, found in table.items() for case in found]


# ---- right answers -----------------------------------------------------------------------------------------


def test_every_check_has_a_solution_of_its_name_and_every_solution_a_check():
    for judged, answered in zip(CHECK_FILES, SOLUTION_FILES, strict=True):
        assert judged.stem[-2:] == answered.stem[-2:]
        assert checks(judged).keys() == functions(answered).keys() != set()


@pytest.mark.parametrize("name", CHECKS)
def test_every_solution_passes(told, name):
    assert told(name, SOLUTIONS[name]) == "passes.\n"


@pytest.mark.parametrize("name", CHECKS)
def test_a_stub_is_not_tried_yet(told, name):
    assert told(name, written(name, "raise NotImplementedError")) == "not tried yet.\n"


RIGHT = {
    "generate": {
        "the package's": "return gpt2.generate(ids, params, n_head, n_tokens)",
        "ids of NumPy": "return [np.int32(i) for i in gpt2.stream(ids, params, n_head, n_tokens)]",
        "an array": "return np.array([*gpt2.stream(ids, params, n_head, n_tokens)], dtype=int)",
        "a tuple, cut off": """
            text = tuple(ids)
            for _ in range(n_tokens):
                text += (np.argmax(gpt2.gpt2(text, **params, n_head=n_head), axis=-1)[-1],)
            return text[len(ids):]
            """,
        "with a cache": """
            kv_cache = gpt2.new_kv_cache(params, n_head, len(ids) + n_tokens)
            fed, n_past, new = list(ids), 0, []
            while len(new) < n_tokens:
                logits = gpt2.gpt2(fed, **params, n_head=n_head, kv_cache=kv_cache, n_past=n_past)
                n_past, fed = n_past + len(fed), [logits[-1].argmax()]
                new += fed
            return new
            """,
        "by recursion": """
            if n_tokens == 0:
                return []
            new = int(np.argsort(gpt2.gpt2(ids, **params, n_head=n_head)[-1])[-1])
            return [new, *generate([*ids, new], params, n_head, n_tokens - 1)]
            """,
    },
    "count_parameters": {
        "in one formula": "return (n_vocab + n_ctx + 2 + n_layer * (12 * n_embd + 13)) * n_embd",
        "from the table": "return checkpoint.count({**locals(), 'n_head': 1})",
        "a number of NumPy": """
            inner = 4 * n_embd
            weights = n_embd * 3 * n_embd + n_embd * n_embd + 2 * n_embd * inner
            biases = 3 * n_embd + n_embd + inner + n_embd
            blocks = n_layer * [weights + biases + 4 * n_embd]
            return np.sum([n_vocab * n_embd, n_ctx * n_embd, *blocks, 2 * n_embd])
            """,
    },
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
    },
    "attend": {
        "the query scaled": "return softmax((q / math.sqrt(len(q))) @ k.T) @ v",
        "added by sum": """
            weights = softmax((k * q).sum(axis=1) / k.shape[1] ** 0.5)
            return (weights[:, None] * v).sum(axis=0)
            """,
        "by a loop": """
            weights = [np.exp(np.dot(q, key) / len(q) ** 0.5) for key in k]
            return sum(weight * value for weight, value in zip(weights, v)) / sum(weights)
            """,
    },
    "attention": {
        "the package's": "return gpt2.attention(q, k, v, gpt2.causal_mask(len(q), len(k)))",
        "a mask to add": """
            mask = np.triu(np.full((len(q), len(q)), -1e10, dtype=np.float32), k=1)
            return softmax(q @ k.T / math.sqrt(q.shape[-1]) + mask) @ v
            """,
        "masked after exp": """
            exps = np.tril(np.exp(q @ k.T / q.shape[1] ** 0.5))
            return exps / exps.sum(axis=1, keepdims=True) @ v
            """,
        "query by query": """
            d_head = q.shape[1]
            return np.array([softmax(k[:i + 1] @ q[i] / d_head**0.5) @ v[:i + 1] for i in range(len(q))])
            """,
        "by loops": """
            out = np.zeros_like(v)
            for i in range(len(q)):
                exps = [np.exp(sum(q[i] * k[j]) / math.sqrt(q.shape[1])) for j in range(i + 1)]
                for j in range(i + 1):
                    out[i] += exps[j] / sum(exps) * v[j]
            return out
            """,
    },
    "look_back": {
        "other numbers": "return np.eye(n_seq, k=-1, dtype=int) * 1000, np.eye(n_seq, dtype=int)",
        "one array, the keys shifted": """
            q = np.eye(n_seq, n_seq + 1)
            return np.float32([40 * q, np.roll(q, 1, axis=1)])
            """,
        "points on a circle": """
            angles = 2 * np.pi * np.arange(n_seq) / n_seq
            k = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            return 1000 * np.roll(k, 1, axis=0), k
            """,
        "points on a parabola": """
            j = np.arange(n_seq)
            return [(20 * (i - 1), -10) for i in range(n_seq)], np.stack([j, j**2], axis=1)
            """,
    },
    "same": {
        "tolerance 4e-6": """
            if got.shape != expected.shape:
                return False
            return np.all(abs(got - expected) < 4e-6 * np.max(abs(expected)))
            """,
        "tolerance 4e-5": """
            if got.shape != expected.shape or np.isnan(got).any():
                return False
            return not abs(got - expected).max() / abs(expected).max() > 4e-5
            """,
        "by np.allclose": """
            limit = 1e-5 * abs(expected).max()
            return got.shape == expected.shape and np.allclose(got, expected, rtol=0, atol=limit)
            """,
        "by a loop": """
            limit = 2e-5 * max(map(abs, expected.flat))
            if np.shape(got) != np.shape(expected):
                return False
            return all(abs(a - b) <= limit for a, b in zip(got.flat, expected.flat))
            """,
    },
    "diagnose": {
        "from a dict": "return dict(bugs.ANONYMOUS).get(letter)",
        "by questions": """
            if letter in "AD":
                return "mask off by one" if letter == "A" else "mask after softmax"
            if letter == "C":
                return np.str_("no scale")
            return "projection transposed" if letter < "C" else "heads merged by reshape"
            """,
    },
}


@pytest.mark.parametrize("name, way", cases(RIGHT))
def test_an_answer_that_is_right_in_another_way_passes(told, name, way):
    assert told(name, written(name, RIGHT[name][way])) == "passes.\n"


# ---- wrong answers: what a learner writes, and what must be said of it -------------------------------------

LOOP = """
    ids, new_ids = list(ids), []
    for _ in range(n_tokens):
        logits = gpt2.gpt2(ids, **params, n_head=n_head)
        new_ids.append(int(np.argmax(logits[-1])))
        ids.append(new_ids[-1])
    return new_ids
    """
ROWS = "i = range(len(targets)); "
SAME = "alike = got.shape == expected.shape; limit = 1e-5 * abs(expected).max(); "
NORM = "m = x.mean(-1, keepdims=True); v = ((x - m)**2).mean(-1, keepdims=True); "
SCORES = "n, d = q.shape; s = q @ k.T / d**0.5; "


def but(source, line, instead):  # -> source
    assert source.count(line) == 1
    return source.replace(line, instead)


WRONG = {
    "generate": {
        "never appends": (but(LOOP, "ids.append(new_ids[-1])", "pass"), "must join the ids"),
        "changes the list": (but(LOOP, "list(ids), []", "ids, []"), "append to a copy"),
        "the prompt too": (but(LOOP, "return new_ids", "return ids"), "The prompt is in it"),
        "all rows": (but(LOOP, "logits[-1]", "logits"), "argmax counted through all rows"),
        "first row": (but(LOOP, "logits[-1]", "logits[0]"), "what follows the first token"),
        "all rows, each its own": (
            but(LOOP, "int(np.argmax(logits[-1]))", "np.argmax(logits, axis=-1)"),
            "one for each new token",
        ),
        "the least likely": (but(LOOP, "argmax", "argmin"), "That is the least likely token"),
        "one too many": (but(LOOP, "range(n_tokens)", "range(n_tokens + 1)"), "should be 1, it is 2"),
        "one too few": (but(LOOP, "range(n_tokens)", "range(1, n_tokens)"), "should be 1, it is 0"),
        "counts the prompt": (
            but(LOOP, "for _ in range(n_tokens)", "while len(ids) < n_tokens"),
            "should be 1, it is 0",
        ),
        "one at least": (but(LOOP, "range(n_tokens)", "range(max(1, n_tokens))"), "should be 0, it is 1"),
        "forgets the text": (
            but(LOOP, "ids.append(new_ids[-1])", "ids = new_ids[-1:]"),
            "Feed the model all ids",
        ),
        "feeds the last only": (but(LOOP, "gpt2(ids,", "gpt2(ids[-1:],"), "Feed the model all ids"),
        "keeps the last two": (
            but(LOOP, "gpt2(ids,", "gpt2(ids if not new_ids else [*ids[:-len(new_ids)], new_ids[-1]],"),
            "Feed the model all ids: the prompt, then each new one in order",
        ),
        "puts it in front": (but(LOOP, "ids.append(new_ids[-1])", "ids.insert(0, new_ids[-1])"), "in order"),
        "the second best": (but(LOOP, "argmax(logits[-1])", "argsort(logits[-1])[-2]"), "The likeliest id"),
        "only the last id": (but(LOOP, "return new_ids", "return ids[-1]"), "a list of whole numbers"),
        "yields": (but(LOOP, "return new_ids", "yield from new_ids"), "a list of whole numbers"),
        "n_head of its own": (
            but(LOOP, "n_head=n_head", "n_head=2"),
            "use the params and n_head that are given",
        ),
        "floats": (but(LOOP, "return new_ids", "return np.append([], new_ids)"), "a list of whole numbers"),
    },
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
            "maximum is that of each column",
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
        "the logarithm": ("return x - np.logaddexp.reduce(x, -1, keepdims=True)", "That is its logarithm"),
        "clipped": ("return gpt2.softmax(np.clip(x, -80, 80))", "clip nothing"),
        "NaN made 0": (
            "e = np.exp(x); return np.nan_to_num(e / e.sum(-1, keepdims=True))",
            "right for small numbers only",
        ),
        "unchanged": ("return x", "That is x, as it was given"),
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
            "It is right for a matrix, not for three axes",
        ),
        "axis 1": ("e = np.exp(x); return e / e.sum(axis=1)", "raised AxisError: axis 1 is out of bounds"),
    },
    "cross_entropy": {
        "ln of softmax": (
            ROWS + "p = softmax(logits); return -np.log(p[i, targets])",
            "begin with the logits, not with their softmax",
        ),
        "ln of a softmax that overflows": (
            ROWS + "e = np.exp(logits); return -np.log((e / e.sum(1, keepdims=True))[i, targets])",
            "begin with the logits, not with their softmax",
        ),
        "one-hot": (
            "return -(np.eye(logits.shape[1])[targets] * np.log(softmax(logits))).sum(1)",
            "begin with the logits, not with their softmax",
        ),
        "overflows": (
            ROWS + "return np.log(np.exp(logits).sum(-1)) - logits[i, targets]",
            "exp(logits) overflows: subtract the maximum",
        ),
        "one maximum for all": (
            ROWS + "z = logits - logits.max(); return np.log(np.exp(z).sum(-1)) - z[i, targets]",
            "take each row's own",
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
        "all tokens": ("return -np.log(softmax(logits))", "take the target's only"),
        "targets as rows": ("return -np.log(softmax(logits)[targets])", "Rows and columns are exchanged"),
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
            "The ln of the sum is to be taken",
        ),
        "no keepdims in the maximum": (
            ROWS + "z = logits - logits.max(-1); return np.log(np.exp(z).sum(-1)) - z[i, targets]",
            "for each column: keepdims=True",
        ),
        "no keepdims in the sum": (
            ROWS + "e = np.exp(logits); return -np.log((e / e.sum(-1))[i, targets])",
            "for each column: keepdims=True",
        ),
        "minus the logit": (ROWS + "return -logits[i, targets]", "the logit with a minus"),
        "no sum": (
            ROWS + "z = logits - logits.max(-1, keepdims=True); return -z[i, targets]",
            "the ln of the sum is missing",
        ),
        "the likeliest": ("return -np.log(softmax(logits).max(-1))", "likeliest token, not of the target"),
        "clipped": (
            ROWS + "p = softmax(logits)[i, targets]; return -np.log(np.clip(p, 1e-12, 1))",
            "a probability is not to be clipped",
        ),
        "1e-9 added": (
            ROWS + "p = softmax(logits)[i, targets]; return -np.log(p + 1e-9)",
            "nor 1e-9 added to it",
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
        "a larger eps": (NORM + "return g * (x - m) / np.sqrt(v + 2e-5) + b", "so that eps counts"),
        "no root": (NORM + "return g * (x - m) / (v + eps) + b", "The root is missing"),
        "only centred": (NORM + "return g * (x - m) + b", "Only the mean is taken away"),
        "not centred": (NORM + "return g * x / np.sqrt(v + eps) + b", "The mean is still in it"),
        "RMS": (
            "return g * x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) + b",
            "The mean is still in it",
        ),
        "mean - x": (NORM + "return g * (m - x) / np.sqrt(v + eps) + b", "x - mean, not mean - x"),
        "no g, no b": (NORM + "return (x - m) / np.sqrt(v + eps)", "g and b are not used"),
        "no g": (NORM + "return (x - m) / np.sqrt(v + eps) + b", "g is not used"),
        "no b": (NORM + "return g * (x - m) / np.sqrt(v + eps)", "b is not used"),
        "g and b exchanged": (NORM + "return b * (x - m) / np.sqrt(v + eps) + g", "g and b are exchanged"),
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
            "It is right for a matrix, not for three axes",
        ),
        "in place": ("x -= x.mean(-1, keepdims=True); " + NORM + "return x", "changes its argument x"),
    },
    "attend": {
        "no scale": ("return softmax(k @ q) @ v", "not divided by √d_head"),
        "divided by d_head": ("return softmax(k @ q / len(q)) @ v", "divided by d_head, not by its root"),
        "divided by the root of n_k": ("return softmax(k @ q / len(k) ** 0.5) @ v", "it is √d_head"),
        "multiplied": ("return softmax(k @ q * len(q) ** 0.5) @ v", "multiplied by √d_head: divide"),
        "divided after softmax": ("return softmax(k @ q) / len(q) ** 0.5 @ v", "before softmax"),
        "no softmax": ("return k @ q / len(q) ** 0.5 @ v", "softmax is missing"),
        "no softmax, no scale": ("return (k @ q) @ v", "softmax is missing"),
        "the scores": ("return k @ q / len(q) ** 0.5", "These are the scores"),
        "the bare scores": ("return np.array([key @ q for key in k])", "These are the scores"),
        "the weights": ("return softmax(k @ q / len(q) ** 0.5)", "These are the weights"),
        "not added up": ("return softmax(k @ q / len(q) ** 0.5)[:, None] * v", "to be summed"),
        "the best alone": ("return v[np.argmax(k @ q)]", "all count, each by its weight"),
        "all alike": ("return v.mean(axis=0)", "they count by their weights"),
        "the keys": ("return softmax(k @ q / len(q) ** 0.5) @ k", "the values v, not the keys k"),
        "keys and values exchanged": ("return softmax(v @ q / len(q) ** 0.5) @ k", "k and v are exchanged"),
        "not divided by the sum": ("return np.exp(k @ q / len(q) ** 0.5) @ v", "do not sum to one"),
        "a row too many": (
            "return softmax(q[None] @ k.T / len(q) ** 0.5) @ v",
            "should be [3], it is [1, 3]",
        ),
        "the keys turned": ("return softmax(k.T @ q / len(q) ** 0.5) @ v", "raised ValueError: matmul"),
        "in place": ("q /= len(q) ** 0.5; return softmax(k @ q) @ v", "changes its argument q"),
    },
    "attention": {
        "mask after softmax": (SCORES + "return np.tril(softmax(s)) @ v", "The mask comes after softmax"),
        "minus infinity after softmax": (
            SCORES + "w = softmax(s); w[np.triu_indices(n, 1)] = -np.inf; return w @ v",
            "The mask comes after softmax",
        ),
        "-1e10 added after softmax": (
            SCORES + "return (softmax(s) + np.triu(np.full((n, n), np.float32(-1e10)), 1)) @ v",
            "The mask comes after softmax",
        ),
        "mask with 0": (SCORES + "return softmax(np.tril(s)) @ v", "exp(0) is 1: give them -∞"),
        "mask with -10": (
            SCORES + "s[np.arange(n) > np.arange(n)[:, None]] = -10; return softmax(s) @ v",
            "exp(-10) still counts",
        ),
        "no mask": (SCORES + "return softmax(s) @ v", "There is no mask"),
        "not itself": (
            SCORES + "return softmax(np.where(np.tri(n, k=-1), s, np.float32(-np.inf))) @ v",
            "No token sees itself",
        ),
        "not itself, -1e9": (
            SCORES + "s[np.triu_indices(n)] = -1e9; return softmax(s) @ v",
            "No token sees itself",
        ),
        "not itself, by a loop": (
            """
            out = np.zeros_like(v)
            for i in range(1, len(q)):
                out[i] = softmax(k[:i] @ q[i] / q.shape[1] ** 0.5) @ v[:i]
            return out
            """,
            "No token sees itself",
        ),
        "the next too": (
            SCORES + "return softmax(np.where(np.tri(n, k=1), s, np.float32(-np.inf))) @ v",
            "sees the next one too",
        ),
        "upside down": (
            SCORES + "return softmax(np.where(np.tri(n), np.float32(-np.inf), s)) @ v",
            "The mask is upside down",
        ),
        "upside down, -1e10": (
            SCORES + "s[np.tri(n) > 0] = -1e10; return softmax(s) @ v",
            "The mask is upside down",
        ),
        "upside down, with itself": (
            SCORES + "s[np.tril_indices(n, -1)] = -np.inf; return softmax(s) @ v",
            "The mask is upside down",
        ),
        "no scale": (
            "s = q @ k.T; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "not divided by √d_head",
        ),
        "divided by d_head": (
            "s = q @ k.T / q.shape[1]; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "divided by d_head, not by its root",
        ),
        "divided by the root of n_seq": (
            "s = q @ k.T / len(q) ** 0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "the number of tokens: it is √d_head",
        ),
        "softmax down the columns": (
            SCORES + "e = np.tril(np.exp(s)); return e / e.sum(axis=0) @ v",
            "softmax goes down the columns",
        ),
        "softmax of all rows": (
            SCORES + "e = np.tril(np.exp(s)); return e / e.sum() @ v",
            "softmax goes over all rows at once",
        ),
        "no keepdims": (SCORES + "e = np.tril(np.exp(s)); return e / e.sum(axis=1) @ v", "keepdims=True"),
        "transposed": (
            "s = k @ q.T / q.shape[1] ** 0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "The scores are transposed",
        ),
        "the weights": (
            SCORES + "s[np.triu_indices(n, 1)] = -np.inf; return softmax(s)",
            "These are the weights",
        ),
        "no softmax": (SCORES + "return np.tril(s) @ v", "softmax is missing"),
        "the keys": (SCORES + "s[np.triu_indices(n, 1)] = -np.inf; return softmax(s) @ k", "not the keys k"),
        "keys and values exchanged": (
            "s = q @ v.T / q.shape[1] ** 0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ k",
            "k and v are exchanged",
        ),
        "not divided by the sum": (SCORES + "return np.tril(np.exp(s)) @ v", "do not sum to one"),
        "0 times infinity": (
            SCORES + "sees = np.tri(n); return softmax(s * sees - np.inf * (1 - sees)) @ v",
            "There is NaN: 0 / 0, 0 * inf",
        ),
        "the last row": ("return softmax(k @ q[-1] / q.shape[1] ** 0.5) @ v", "should be [3, 2], it is [2]"),
        "the values": ("return v", "That is v, as it was given"),
        "in place": ("q /= q.shape[1] ** 0.5; return softmax(q @ k.T) @ v", "changes its argument q"),
    },
    "look_back": {
        "at itself": (
            "return 100 * np.eye(n_seq), np.eye(n_seq)",
            "Token 1 looks at itself: its query should meet the key of token 0, not its own",
        ),
        "too soft": (
            "return np.eye(n_seq, k=-1), np.eye(n_seq)",
            "Token 1 gives the one before it most, but only 0.6405: make its score larger",
        ),
        "strong enough without the root": (
            "return 5 * np.eye(n_seq, k=-1), np.eye(n_seq)",
            "but only 0.9472: make its score larger",
        ),
        "nearly": (
            "return 7.75 * np.eye(n_seq, k=-1), np.eye(n_seq)",
            "but only 0.9887: make its score larger",
        ),
        "too soft for five": ("return 10 * np.eye(n_seq, k=-1), np.eye(n_seq)", "make its score larger"),
        "too soft for twenty": ("return 14 * np.eye(n_seq, k=-1), np.eye(n_seq)", "make its score larger"),
        "not for two": (
            "return 100 * np.eye(n_seq, k=-1) / (n_seq - 2), np.eye(n_seq)",
            "large, not infinite",
        ),
        "at the next": (
            "return 100 * np.eye(n_seq, k=1), np.eye(n_seq)",
            "Token 1 looks for token 2, which comes later",
        ),
        "at the next, rolled": (
            "k = 100 * np.eye(n_seq); return np.roll(k, 1, axis=1), k",
            "which comes later and is masked: its query should meet the key of token 0",
        ),
        "q and k exchanged": ("return np.eye(n_seq), 100 * np.eye(n_seq, k=-1)", "comes later and is masked"),
        "at the first": ("return np.full((n_seq, 1), 50), np.eye(n_seq, 1)", "Token 2 looks at token 0"),
        "two back": (
            "k = np.eye(n_seq); return 99 * k[np.maximum(np.arange(n_seq) - 2, 0)], k",
            "Token 2 looks at token 0",
        ),
        "at all": ("return np.zeros((n_seq, 4)), np.eye(n_seq, 4)", "Token 1 looks at all alike"),
        "infinite": ("return np.inf * np.eye(n_seq, k=-1), np.eye(n_seq)", "large, not infinite"),
        "one array": ("return np.eye(n_seq)", "it returned array"),
        "three arrays": ("return np.eye(n_seq), np.eye(n_seq), np.eye(n_seq)", "It should return two arrays"),
        "five tokens": (
            "return 100 * np.eye(5, k=-1), np.eye(5)",
            "For 3 tokens q and k should both be [3, d_head]",
        ),
        "of two widths": ("return np.eye(n_seq), np.eye(n_seq, 2)", "they are [3, 3] and [3, 2]"),
    },
    "same": {
        "equal": ("return np.array_equal(got, expected)", "rejects float32's noise, which"),
        "too strict": (SAME + "return alike and abs(got - expected).max() < 1e-9", "float32's noise"),
        "too near to noise": (
            "return got.shape == expected.shape and abs(got - expected).max() <= 1e-6 * abs(expected).max()",
            "which is larger on other machines: leave some room",
        ),
        "too near to a bug": (
            "return got.shape == expected.shape and abs(got - expected).max() <= 8e-5 * abs(expected).max()",
            "other models show erf GELU less",
        ),
        "np.allclose": ("return np.allclose(got, expected)", "where a number is 0: measure it as a share"),
        "np.allclose, larger rtol": (
            "return np.allclose(got, expected, rtol=1e-2, atol=1e-9)",
            "where a number is 0: measure it as a share",
        ),
        "share of each number": (
            "return bool((abs(got - expected) / abs(expected)).max() < 1e-3)",
            "share of the largest number, not of each",
        ),
        "np.allclose, larger atol": ("return np.allclose(got, expected, atol=1e-3)", "all numbers are large"),
        "absolute": (
            SAME + "return alike and abs(got - expected).max() < 1e-4",
            "where all numbers are large: measure it as a share",
        ),
        "absolute and small": (SAME + "return alike and abs(got - expected).max() < 3e-6", "in this model"),
        "absolute and large": (
            SAME + "return alike and abs(got - expected).max() < 0.2",
            "It accepts erf GELU",
        ),
        "signed largest": (
            "return bool(abs(got - expected).max() < 1e-5 * abs(expected.max()))",
            "where all numbers are negative",
        ),
        "broadcast": (SAME + "return bool(abs(got - expected).max() < limit)", "It accepts another shape"),
        "NaN": (SAME + "return alike and not abs(got - expected).max() > limit", "It accepts NaN"),
        "np.nanmax": (
            SAME + "d = abs(got - expected); return d.shape == got.shape and np.nanmax(d) < limit",
            "It accepts NaN",
        ),
        "argmax": (
            SAME + "a, b = got.argmax(-1), expected.argmax(-1); return bool(alike and not (a != b).any())",
            "the same best token is not enough",
        ),
        "correlation": (
            SAME + "return alike and np.corrcoef(got.flat, expected.flat)[0, 1] > 0.999999",
            "twice as large",
        ),
        "mean of differences": (
            SAME + "return alike and abs(got - expected).mean() <= limit",
            "the largest difference counts, not the mean",
        ),
        "last row": (
            SAME
            + "d = abs(got - expected)[-1].max(); return alike and d <= limit and not np.isnan(got).any()",
            "wrong numbers that are few",
        ),
        "mean of squares": (
            SAME + "d = np.sqrt(((got - expected) ** 2).mean()); return alike and d <= limit",
            "the largest difference counts, not the mean of squares",
        ),
        "signed": (
            SAME + "return alike and (got - expected).max() <= limit",
            "a number that is too small: a difference has a sign",
        ),
        "signed the other way": (
            SAME + "return alike and (expected - got).max() <= limit",
            "a number that is too large: a difference has a sign",
        ),
        "too loose": (
            SAME + "return alike and abs(got - expected).max() <= 1e-2 * abs(expected).max()",
            "It accepts erf GELU in place of",
        ),
        "a limit of at least 1e-5": (
            SAME + "limit = max(1e-5, limit); return alike and abs(got - expected).max() <= limit",
            "erf GELU where all numbers are small",
        ),
        "divided by a negative number": (
            SAME + "return alike and bool(abs(got - expected).max() / expected.max() <= 1e-4)",
            "erf GELU where all numbers are negative",
        ),
        "always": ("return True", "It accepts another shape"),
        "never": ("return False", "It rejects two arrays that are equal"),
        "the difference": ("return abs(got - expected[:len(got)]).max()", "It should return True or False"),
        "an array": (
            "return abs(got - expected) < 1e-5",
            "It should return True or False, it returned array",
        ),
        "in place": (SAME + "got -= expected; return abs(got).max() < limit", "changes its arguments"),
    },
}

COUNT = """
    norm = 2 * n_embd
    c_attn, attn_c_proj = 3 * n_embd * (n_embd + 1), n_embd * (n_embd + 1)
    c_fc, mlp_c_proj = 4 * n_embd * (n_embd + 1), n_embd * (4 * n_embd + 1)
    block = norm + c_attn + attn_c_proj + norm + c_fc + mlp_c_proj
    return n_vocab * n_embd + n_ctx * n_embd + n_layer * block + norm
    """
WRONG["count_parameters"] = {
    "no biases": (COUNT.replace("+ 1)", "+ 0)"), "It lacks 135, as many as the biases of the four matrices"),
    "no biases in the MLP": (
        but(COUNT, "4 * n_embd * (n_embd + 1), n_embd * (4 * n_embd + 1)", "4 * n_embd**2, 4 * n_embd**2"),
        "the biases of the MLP",
    ),
    "no biases in attention": (
        but(COUNT, "3 * n_embd * (n_embd + 1), n_embd * (n_embd + 1)", "3 * n_embd**2, n_embd**2"),
        "or the biases of attention",
    ),
    "no norms": (but(COUNT, "2 * n_embd", "0"), "as many as all norms"),
    "no biases, no norms": (
        but(COUNT, "2 * n_embd", "0").replace("+ 1)", "+ 0)"),
        "as many as all biases and norms",
    ),
    "nothing called b": (
        but(COUNT, "2 * n_embd", "n_embd").replace("+ 1)", "+ 0)"),
        "as many as all that is called b",
    ),
    "a norm without b": (but(COUNT, "2 * n_embd", "n_embd"), "one of g and b of each norm"),
    "no positions": (but(COUNT, " + n_ctx * n_embd", ""), "as many as wpe"),
    "blocks only": (but(COUNT, "n_vocab * n_embd + n_ctx * n_embd + ", ""), "as many as wte and wpe"),
    "wte twice": (
        but(COUNT, "n_vocab * n_embd", "2 * n_vocab * n_embd"),
        "55 too many, as many as the output matrix",
    ),
    "an output bias": (but(COUNT, "+ n_layer", "+ n_vocab + n_layer"), "GPT-2's output has no bias"),
    "no ln_f": (but(COUNT, "block + norm", "block"), "as many as ln_f"),
    "no norms in blocks": (
        but(COUNT, "norm + c_attn + attn_c_proj + norm", "c_attn + attn_c_proj"),
        "ln_1 and ln_2",
    ),
    "one norm in a block": (but(COUNT, "norm + c_attn", "c_attn"), "one of the two norms of each block"),
    "one block": (but(COUNT, "n_layer * block", "block"), "all blocks but one"),
    "no blocks": (but(COUNT, " + n_layer * block", ""), "as many as all blocks"),
    "q alone": (but(COUNT, "3 * n_embd * (n", "n_embd * (n"), "two thirds of c_attn, which makes q, k and v"),
    "w of q alone": (
        but(COUNT, "3 * n_embd * (n_embd + 1)", "n_embd * n_embd + 3 * n_embd"),
        "two thirds of c_attn's w, which makes q, k and v",
    ),
    "no attention": (but(COUNT, "norm + c_attn + attn_c_proj + norm", "norm + norm"), "attention, or c_fc"),
    "no c_attn": (but(COUNT, "c_attn + attn_c_proj + norm", "attn_c_proj + norm"), "as many as c_attn"),
    "no c_proj in attention": (but(COUNT, "c_attn + attn_c_proj +", "c_attn +"), "attn/c_proj"),
    "no MLP": (but(COUNT, " + c_fc + mlp_c_proj", ""), "as many as the MLP"),
    "no c_proj in the MLP": (but(COUNT, " + mlp_c_proj", ""), "mlp/c_proj"),
    "an MLP of width n_embd": (
        but(
            COUNT,
            "4 * n_embd * (n_embd + 1), n_embd * (4 * n_embd",
            "n_embd * (n_embd + 1), n_embd * (n_embd",
        ),
        "of width 4 n_embd",
    ),
    "a text": ("return '1,185'", "It should return a number, it returned '1,185'"),
    "nothing": ("return 0", "which no one part explains"),
    "three layers always": (but(COUNT, "n_layer", "3"), "It is off by -1,334,592"),
}
SEEN = {  # by what each bug could have been told from the right one
    "positions from one": "wrong before the first block",
    "erf GELU": "alike at all positions",
    "projection transposed": "all blocks before the middle one are right",
    "no scale": "position 0 is right",
    "mask after softmax": "sum to less than 1",
    "no mask": "the weights of all sum to 1",
    "mask off by one": "wrong at every position",
    "heads merged by reshape": "attn is wrong already there",
}
ANSWERS = {letter: SOLUTIONS["diagnose"](letter) for letter in "ABCDE"}
WRONG["diagnose"] = {
    f"{letter} is {bug}": (
        f"return {ANSWERS | {letter: bug}}[letter]",
        f"{letter} is not {bug!r}: with that, ",
    )
    for letter, right in ANSWERS.items()
    for bug in SEEN
    if bug != right
}
WRONG["diagnose"] |= {
    "another name": (
        "return 'A bug'",
        "'A bug', for A, is none of the eight (0 right so far): positions from one, erf GELU",
    ),
    "all letters": (f"return {[*ANSWERS.values()]}", "for A, is none of the eight"),
    "nothing for B": (
        f"return {ANSWERS}[letter] if letter == 'A' else None",
        "None, for B, is none of the eight (1 right so far)",
    ),
}


@pytest.mark.parametrize("name, mistake", cases(WRONG))
def test_a_wrong_answer_is_told_its_cause(told, name, mistake):
    body, words = WRONG[name][mistake]
    said = told(name, written(name, body))
    assert said.startswith("your code " if words.startswith("raised") else "not yet. ")
    assert words in said.splitlines()[0]


def test_a_wrong_diagnosis_is_told_its_sign_and_how_many_are_right(told):
    for mistake, (body, words) in WRONG["diagnose"].items():
        if words.endswith("with that, "):
            letter, bug = mistake.split(" is ")
            said = told("diagnose", written("diagnose", body))
            assert SEEN[bug] in said and said.endswith(
                f"Look at its pictures again ({'ABCDE'.index(letter)} right so far).\n"
            )


def test_every_check_is_tried_with_many_wrong_answers_and_some_other_right_ones():
    assert RIGHT.keys() == WRONG.keys() == CHECKS.keys()
    assert all(len(RIGHT[name]) >= 2 and len(WRONG[name]) >= 6 for name in CHECKS)


# ---- what is shown -----------------------------------------------------------------------------------------


def test_the_smallest_input_that_fails_is_shown_with_what_was_expected_and_what_came(told):
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
        first, *shown = told("softmax", written("softmax", body)).splitlines()
        assert textwrap.dedent("\n".join(shown)) == textwrap.dedent(lines).strip("\n")


@pytest.mark.parametrize(
    "name, mistake, shown",
    [
        ("layer_norm", "ddof=1", "x         [3, 3]"),
        ("layer_norm", "no g", "x         [2, 3]"),
        ("layer_norm", "no eps", "x         [1, 3]"),
        ("layer_norm", "axis 1", "x         [2, 3, 4]"),
        ("cross_entropy", "mean", "logits    [2, 2]  [[0. 1.]"),
        ("cross_entropy", "one maximum for all", "logits    [2, 2]  [[  0.   1.]"),
        ("attend", "no scale", "q         [3]"),
        ("attention", "no mask", "q         [3, 2]"),
        ("look_back", "at itself", "weights of token 1  [2]  [0. 1.]"),
        ("look_back", "at the first", "weights of token 2  [3]  [1. 0. 0.]"),
        ("count_parameters", "no positions", "n_vocab   11"),
        ("count_parameters", "three layers always", "n_vocab   4,000"),
        ("same", "too loose", "got is [7, 11], expected is [7, 11], the largest difference is 4.6e-04 of"),
        ("same", "broadcast", "got is [1, 11], expected is [7, 11]"),
    ],
)
def test_the_first_case_that_fails_is_shown(told, name, mistake, shown):
    body, _ = WRONG[name][mistake]
    assert told(name, written(name, body)).splitlines()[1].startswith(f"  {shown}")


def test_the_smallest_prompt_that_fails_is_shown(told):
    for mistake, ids, n_tokens in (
        ("one too many", "[3]", 1),
        ("first row", "[1, 4, 1, 5]", 1),
        ("never appends", "[3]", 5),
    ):
        body, _ = WRONG["generate"][mistake]
        lines = told("generate", written("generate", body)).splitlines()
        assert lines[1:3] == [f"  ids       {ids}", f"  n_tokens  {n_tokens}"]
        assert [line.split()[0] for line in lines[3:]] == ["expected", "got"]


@pytest.mark.parametrize("name", ["layer_norm", "attention"])
def test_numbers_of_a_model_are_tried_and_shown_in_a_few_lines(told, models_own, name):
    def right_for_few_tokens(first, *others):
        return SOLUTIONS[name](first, *others) + (len(first) > 5)

    lines = told(name, right_for_few_tokens).splitlines()
    n_seq, n = models_own[name][0].shape
    assert f"  got       [{n_seq}, {n}]  [[" in "\n".join(lines) and any("..." in line for line in lines)
    assert len(lines) <= 30 and max(map(len, lines)) <= 110


def test_long_rows_are_continued_under_their_beginning():
    lines = judging.shown(np.arange(30) + 1000).splitlines()
    assert len(lines) == 2 and lines[0].startswith("[30]  [1000 ")
    assert (" " * len("  got       ") + lines[0]).index("1000") == lines[1].index("10")


def test_what_is_said_of_a_large_answer_is_short(told):
    for name, value in (
        ("same", "np.arange(999)"),
        ("look_back", "[np.eye(9)] * 9"),
        ("diagnose", "'a bug ' * 99"),
        ("attend", "{'a': ['weight'] * 99}"),
        ("generate", "np.zeros((99, 99))"),
    ):
        said = told(name, written(name, f"return {value}"))
        assert "..." in said and len(said) < 270
        assert len(said.splitlines()) == (5 if name == "generate" else 1)


# ---- whatever comes ----------------------------------------------------------------------------------------

ODD = {
    "None": "None",
    "a word": "'softmax'",
    "bytes": "b'1'",
    "rows of two lengths": "[[1, 2], [3]]",
    "an empty array": "np.zeros(0)",
    "seven axes": "np.zeros([1] * 7)",
    "complex numbers": "np.ones(2) * 1j",
    "words": "np.array(['a', 'b'])",
    "objects": "np.array([None, {}])",
    "a dict": "{'q': 1, 'k': 2}",
    "a set": "{1, 2}",
    "a function": "np.exp",
    "a type": "np.float32",
    "a generator": "(i for i in range(2))",
    "NaN": "np.nan",
    "infinity": "-np.inf",
    "a number": "np.float32(0.5)",
    "an array without axes": "np.array(3)",
    "dates": "np.array(['2019-02-14'], dtype='datetime64[D]')",
}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_whatever_is_returned_the_check_says_in_one_message_what_is_wrong(told, name, value):
    said = told(name, written(name, f"return {value}"))
    assert said.startswith("not yet. ") and "numbers differ" not in said.lower()


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_what_is_no_array_of_numbers_is_called_so(told, name):
    for value in ("a word", "complex numbers", "objects", "a dict", "a generator", "dates"):
        said = told(name, written(name, f"return {ODD[value]}"))
        assert said.startswith("not yet. It should return an array of real numbers, it returned ")
    said = told(name, written(name, "return [[1, 2], [3]]"))
    assert "should return an array, it returned [[1, 2], [3]], which NumPy cannot make one of." in said


@pytest.mark.parametrize("name", [*OF_ARRAYS, "generate", "count_parameters"])
def test_an_answer_without_a_return_is_told_so(told, name):
    assert told(name, written(name, "pass")) == "not yet. It returned None: is there a return?\n"


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_what_can_be_told_from_the_numbers_alone_is_told(told, name):
    for factor, words in ((np.nan, "There is NaN"), (np.inf, "There is"), (0, "All numbers are 0")):
        said = told(name, lambda *given, factor=factor: SOLUTIONS[name](*given) * np.float32(factor))
        assert said.startswith(f"not yet. {words}")
    assert told(name, lambda *given: np.abs(SOLUTIONS[name](*given)) / 0).startswith(
        "not yet. There is infinity"
    )
    assert "The shape should be" in told(name, lambda *given: SOLUTIONS[name](*given)[None])


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_a_right_answer_in_float64_is_named_as_such(told, name):
    for dtype in ("float64", np.dtype(np.longdouble).name):
        said = told(name, lambda *given, dtype=dtype: SOLUTIONS[name](*given).astype(dtype))
        assert said.startswith(f"not yet. The numbers are right, but {dtype}, from float32: something widens")
        assert said.endswith("a list of numbers are float64; 2**0.5 and np.zeros_like(x) are not.\n")
    said = told(name, lambda *given: SOLUTIONS[name](*given).tolist())
    assert said.startswith("not yet. The numbers are right, but float64") and len(said.splitlines()) == 1


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_a_wrong_answer_in_float64_is_told_what_is_wrong_first(told, name):
    said = told(name, lambda *given: SOLUTIONS[name](*given).astype(float) + 0.01)
    assert "expected" in said and "float64" not in said


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_a_small_error_is_not_taken_for_noise(told, name):
    for error, verdict in ((3e-5, "not yet. The numbers differ.\n"), (3e-7, "passes.\n")):
        factor = np.float32(1 + error)
        said = told(name, lambda *given, factor=factor: SOLUTIONS[name](*given) * factor)
        assert said.startswith(verdict)


@pytest.mark.parametrize("name", CHECKS)
def test_an_error_in_the_answer_is_shown_with_its_line(told, name):
    body = "numbers = [1, 2]\nif numbers:\n    return numbers[2]  # one too far"
    assert told(name, written(name, body)) == (
        "your code raised IndexError: list index out of range\n"
        "  in your line   return numbers[2]  # one too far\n"
    )


def test_an_error_further_inside_is_shown_with_the_line_of_the_answer(told):
    said = told("attend", written("attend", "weights = softmax(q @ k)\nreturn gpt2.linear(weights, v)"))
    assert said.startswith("your code raised ValueError: matmul")
    assert said.endswith("\n  in your line   weights = softmax(q @ k)\n")


def test_the_line_is_that_of_the_answer_where_the_package_has_a_function_of_its_name(told):
    said = told("softmax", written("softmax", "return gpt2.softmax(list(x) + [None])"))
    assert said.startswith("your code raised TypeError: ")
    assert said.endswith("\n  in your line   return gpt2.softmax(list(x) + [None])\n")


def test_an_error_without_words_or_without_a_source_is_shown_without(told):
    names = {}
    exec("def softmax(x):\n    assert False", names)
    assert told("softmax", names["softmax"]) == "your code raised AssertionError\n"


def test_what_is_no_function_is_told_so(told):
    said = told("softmax", np.zeros(3))
    assert said == "your code raised TypeError: 'numpy.ndarray' object is not callable\n"
    assert "missing 1 required positional argument: 'axis'" in told("softmax", lambda x, axis: x)


@pytest.mark.parametrize("name", CHECKS)
def test_an_answer_without_an_end_is_stopped(told, name):
    line = f"return {name}({', '.join(inspect.signature(SOLUTIONS[name]).parameters)})"
    said = told(name, written(name, line))
    assert said.startswith("your code raised RecursionError: ")
    assert said.endswith(f"\n  in your line   {line}\n") and len(said.splitlines()) == 2


@pytest.mark.parametrize("name", CHECKS)
def test_a_reader_can_interrupt(capsys, models_own, name):
    with pytest.raises(KeyboardInterrupt):
        CHECKS[name](written(name, "raise KeyboardInterrupt"), *models_own.get(name, ()))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", CHECKS)
def test_no_warning_comes_out_of_a_check(told, name):
    def warned(*given):
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
        return np.mean([]) + np.float32(0) / np.float32(0) + np.exp(np.float32(1000)) + np.log(np.zeros(2))

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert told(name, warned).startswith("not yet. ")
        assert told(name, SOLUTIONS[name]) == "passes.\n"
        body, _ = next(iter(WRONG[name].values()))
        told(name, written(name, body))
    assert seen == []


def test_a_check_leaves_the_settings_of_others_alone(told):
    before = np.geterr(), list(warnings.filters)
    with np.errstate(all="raise"):
        assert told("softmax", SOLUTIONS["softmax"]) == "passes.\n"
        assert "overflows" in told("softmax", written("softmax", WRONG["softmax"]["overflows"][0]))
    told("softmax", lambda x: np.seterr(all="raise") and warnings.simplefilter("always"))
    assert (np.geterr(), list(warnings.filters)) == before


@pytest.mark.parametrize("name", [*OF_ARRAYS, "generate", "same"])
def test_what_is_given_to_an_answer_is_a_copy(told, models_own, name):
    given = inspect.signature(SOLUTIONS[name]).parameters
    own = [np.array(array) for array in models_own.get(name, ()) if np.ndim(array)]
    for changed in list(given)[:1] if name == "generate" else list(given):
        if changed != "eps":
            answer = written(name, f"{changed}[0] = {changed}[0] + 1\nreturn {changed}")
            assert "changes" in told(name, answer).split(":")[0]
    kept = [np.array(array) for array in models_own.get(name, ()) if np.ndim(array)]
    assert all(map(np.array_equal, own, kept))


# ---- what the checks stand on ------------------------------------------------------------------------------


def test_close_means_one_shape_and_near_as_a_share_of_the_largest():
    a = np.float32([1, -100, 0])
    assert judging.close(a, a, 0)
    for difference, near in ((9e-4, True), (-9e-4, True), (2e-3, False), (-2e-3, False)):
        assert judging.close(a + np.float32(difference), a, 1e-5) is near
    assert not judging.close(a[None], a, 1e-5) and not judging.close(a[:1], a, 1)
    assert not judging.close(a, np.float32([1, -100, np.nan]), 1e-5)
    assert not judging.close(np.float32([1, np.nan, 0]), a, 1e-5)
    odd = np.float32([np.nan, np.inf, -np.inf, 1])
    assert judging.close(odd, odd, 1e-5) and not judging.close(odd, odd[[1, 0, 2, 3]], 1e-5)
    assert not judging.close(odd, odd[[0, 2, 1, 3]], 1e-5) and not judging.close(odd + 1, odd, 1e-5)


def test_in_the_small_model_the_next_id_tells_what_was_read():
    params, n_head = judging.small_model()
    for prompt in ([3], [1, 4, 1, 5]):
        ids = [*prompt, *gpt2.stream(prompt, params, n_head, 5)]
        logits = gpt2.gpt2(ids, **params, n_head=n_head)[len(prompt) - 1 :]
        best, second = np.sort(logits, axis=-1)[:, ::-1][:, :2].T
        assert len(set(ids[len(prompt) :])) >= 3 and (best - second).min() > 1e-3
