"""How an answer is judged: `checks.softmax(softmax)` tries your function and says what it finds.

A check tries small inputs first, and stops at the first that fails: it prints that input, what was expected,
what came, and what is likely the cause. It never raises, so that the notebook below it still runs.
"""

import copy
import functools
import traceback
import warnings

import numpy as np

import checkpoint


class NotYet(Exception):
    """What is wrong with an answer, in words for the one who gave it."""


def check(judge):  # a function that raises NotYet -> one that prints
    """Make a check: judge(f, ...) raises NotYet if the answer f is not right."""

    @functools.wraps(judge)
    def checked(f, *model, **weights):
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():  # the check says it in words
                warnings.simplefilter("ignore")
                judge(f, *model, **weights)
        except NotImplementedError:
            print(f"{judge.__name__}: not tried yet.")
        except NotYet as found:
            print(f"{judge.__name__}: not yet. {found}")
        except Exception as error:
            raised = f"{type(error).__name__}: {error}".removesuffix(": ")
            print(f"{judge.__name__}: your code raised {raised}{line_of(f, error)}")
        else:
            print(f"{judge.__name__}: passes.")

    return checked


def line_of(f, error):  # -> str
    """The line of f in which an error arose; others may be named like it, as gpt2.softmax is like softmax."""
    code, frames = getattr(f, "__code__", None), traceback.extract_tb(error.__traceback__)
    own = code and (code.co_filename, code.co_name)
    lines = [frame.line for frame in frames if (frame.filename, frame.name) == own]
    return f"\n  in your line   {lines[-1]}" if lines and lines[-1] else ""


def compare(f, cases, tolerance=1e-5):
    """Raise NotYet unless f gives what is expected in every case, to `tolerance` of its largest number.

    A case is ({name: argument}, expected, {why: what a wrong function gives}); the last is for a cause. A
    list is of several that have one cause, None is whatever else comes.
    """
    dtypes = [compare_one(f, *case, tolerance) for case in cases]
    wide = [dtype for dtype in dtypes if dtype.itemsize > 4]
    if wide:  # float32 was given
        found = f"The numbers are right, but {wide[0]}, from float32: something widens them, and what follows"
        cause = "np.sqrt(2), np.zeros(3), np.full and a list of numbers are float64"
        raise NotYet(f"{found}. {cause}; 2**0.5 and np.zeros_like(x) are not.")


def compare_one(f, given, expected, traps, tolerance):  # -> dtype
    """Raise NotYet unless f(*given.values()) is what is expected; the dtype of what it gives."""
    arguments = copy.deepcopy(given)
    got = f(*arguments.values())
    for name, argument in given.items():
        if not np.array_equal(argument, arguments[name]):
            raise NotYet(f"Your function changes its argument {name}: a caller would not expect that.")
    expected, found = np.asarray(expected), as_array(got)
    if not close(found, expected, tolerance):
        traps = {f"That is {name}, as it was given.": value for name, value in given.items()} | traps
        causes = [why for why, wrong in traps.items() if is_one(found, wrong, tolerance)]
        shown_case = {**given, "expected": expected, "got": found}
        lines = [f"\n  {name:9} {shown(value)}" for name, value in shown_case.items()]
        raise NotYet((causes or [usual_cause(found, expected)])[0] + "".join(lines))
    return found.dtype


def as_array(got):  # -> array
    """What came, if it can be compared with numbers."""
    if got is None:
        raise NotYet("It returned None: is there a return?")
    try:
        array = np.asarray(got)
    except Exception as error:  # rows of several lengths
        raise NotYet(
            f"It should return an array, it returned {short(got)}, which NumPy cannot make one of."
        ) from error
    if array.dtype.kind not in "biuf":
        raise NotYet(f"It should return an array of real numbers, it returned {short(got)}.")
    return array


def is_one(found, wrong, tolerance):  # -> bool
    """Whether this is what a wrong function gives; for the meaning of wrong see `compare`."""
    wrongs = wrong if isinstance(wrong, list) else [wrong]
    return any(wrong is None or close(found, np.asarray(wrong), tolerance) for wrong in wrongs)


def close(a, b, tolerance):  # -> bool
    """Of one shape, NaN and infinity at the same places, and apart by little of the largest."""
    if a.shape != b.shape:
        return False
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    scale = np.abs(b[finite]).max(initial=0)
    return bool(np.all(np.abs(a[finite] - b[finite]) <= tolerance * max(scale, 1e-30)))


def usual_cause(found, expected):  # -> str
    """What can be told from the result alone."""
    if found.shape != expected.shape:
        return f"The shape should be {list(expected.shape)}, it is {list(found.shape)}."
    if np.isnan(found).any():
        return "There is NaN: 0 / 0, 0 * inf, inf - inf or inf / inf on the way."
    if not np.isfinite(found).all():
        return "There is infinity: a large exp, a division by 0 or ln 0 on the way."
    if not found.any():
        return "All numbers are 0: is the result written into the array that is returned?"
    if found.dtype == np.float16:
        return "The numbers are float16, which has three digits: keep the dtype of what is given."
    return "The numbers differ."


def shown(value):  # -> str
    """A value in one or a few lines, with its shape."""
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array:.6g}"
    text = np.array2string(
        array, precision=4, threshold=40, edgeitems=2, suppress_small=True, max_line_width=80
    )
    return f"{list(array.shape)}  {text}".replace("\n", "\n" + " " * (14 + len(str(list(array.shape)))))


def short(value):  # -> str
    """The beginning of how Python writes a value, in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def small_model(seed=2075):  # -> params, n_head
    """A small model in which every number is random and counts; the seed is one whose next id varies."""
    hparams = {"n_vocab": 11, "n_ctx": 16, "n_embd": 6, "n_head": 2, "n_layer": 2}
    rng = np.random.default_rng(seed)
    arrays = {
        name: rng.normal(0, 0.5, s).astype(np.float32) for name, s in checkpoint.shapes(hparams).items()
    }
    return checkpoint.nest(arrays), hparams["n_head"]


def float32(values):
    return np.array(values, dtype=np.float32)
