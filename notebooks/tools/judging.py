"""How an answer is checked: `checks.softmax(softmax)` tries your function and says what it finds.

A check tries small inputs first, and stops at the first that fails: it prints that input, what was expected,
what came back, and the likely cause. It never raises, so that the cells below it still run. An answer that
passed is remembered, so that `tools.yours` can put it into the model.
"""

import copy
import functools
import traceback
import warnings
import weakref
from numbers import Real

import numpy as np

import weights

PASSED = weakref.WeakSet()  # the answers that passed their checks


class NotYet(Exception):
    """What is wrong with an answer, in words for the learner who wrote it."""


def passed(f):  # -> bool
    """Whether this answer has passed its check; one that is written again must be checked again."""
    return f in PASSED


def check(judge):  # a function that raises NotYet -> one that prints
    """Make a check: judge(f, ...) raises NotYet if the answer f is not right.

    It may return more that a learner with the right answer should know: lines of text.
    """

    @functools.wraps(judge)
    def checked(f, *given, **named):
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():  # the verdict says it in plain words
                warnings.simplefilter("ignore")
                more = judge(f, *given, **named)
        except NotImplementedError:
            print(f"{judge.__name__}: not tried yet.")
        except NotYet as found:
            print(f"{judge.__name__}: not yet. {found}")
        except Exception as error:
            raised = f"{type(error).__name__}: {error}".removesuffix(": ")
            print(f"{judge.__name__}: your code raised {raised}{line_of(f, error)}{shapes_at(error)}")
        else:
            PASSED.add(f)
            print("\n  ".join([f"{judge.__name__}: passes.", *(more or "").splitlines()]))

    return checked


def line_of(f, error):  # -> str
    """The line of f in which an error arose; gpt2 may have a function of the same name, such as softmax."""
    code, frames = getattr(f, "__code__", None), traceback.extract_tb(error.__traceback__)
    own = code and (code.co_filename, code.co_name)
    lines = [frame.line for frame in frames if (frame.filename, frame.name) == own]
    return f"\n  in your line   {lines[-1]}" if lines and lines[-1] else ""


def shapes_at(error):  # -> str
    """The shapes of the arrays with which the answer was called when it raised this."""
    shapes = [f"{name} {list(np.shape(value))}" for name, value in getattr(error, "given", {}).items()]
    return f"\n  it was given   {', '.join(shapes)}" if shapes else ""


# ---- arrays ------------------------------------------------------------------------------------------------


def compare(f, cases, tolerance=1e-5):
    """Raise NotYet unless f returns what is expected in every case, within `tolerance` of the largest number.

    A case is ({name: argument}, expected, {why: what a wrong function returns}). Instead of one wrong result
    there may be a list of several that one mistake gives, or None, which matches any other wrong result.
    """
    dtypes = [compare_one(f, *case, tolerance) for case in cases]
    wide = [dtype for dtype in dtypes if dtype.itemsize > 4]
    if wide:  # float32 was given
        found = f"The numbers are right, but in {wide[0]}: something widens float32, and all that follows it"
        cause = "np.sqrt(2), np.zeros(3), np.full and a list of numbers are float64"
        raise NotYet(f"{found}. {cause}; 2**0.5 and np.zeros_like(x) are not.")


def compare_one(f, given, expected, traps, tolerance):  # -> dtype
    """Raise NotYet unless f(*given.values()) is what is expected; return its dtype."""
    arguments = copy.deepcopy(given)
    try:
        got = f(*arguments.values())
    except Exception as error:
        error.given = {name: value for name, value in given.items() if np.ndim(value)}
        raise
    for name, argument in given.items():
        if not np.array_equal(argument, arguments[name]):
            raise NotYet(f"Your function changes its argument {name}: a caller would not expect that.")
    expected, found = np.asarray(expected), as_array(got)
    if not close(found, expected, tolerance):
        traps = {f"That is {name}, unchanged.": value for name, value in given.items()} | traps
        causes = [why for why, wrong in traps.items() if is_one(found, wrong, tolerance)]
        shown_case = {**given, "expected": expected, "got": found}
        if shown(found) == shown(expected):  # the difference is in later digits
            shown_case["apart"] = float(f"{np.abs(found - expected.astype(float)).max():.1g}")
        lines = [f"\n  {name:9} {shown(value)}" for name, value in shown_case.items()]
        raise NotYet((causes or [usual_cause(found, expected)])[0] + "".join(lines))
    return found.dtype


def as_array(got):  # -> array
    """What f returned, as an array of numbers that can be compared."""
    if got is None:
        raise NotYet("It returned None: is a return missing?")
    try:
        array = np.asarray(got)
    except Exception as error:  # rows of several lengths
        raise NotYet(
            f"It should return an array, but it returned {short(got)}, which NumPy cannot turn into one."
        ) from error
    if array.dtype.kind not in "biuf":
        raise NotYet(f"It should return an array of real numbers, but it returned {short(got)}.")
    return array


def is_one(found, wrong, tolerance):  # -> bool
    """Whether this is what a wrong function returns; `compare` says what `wrong` may be."""
    wrongs = wrong if isinstance(wrong, list) else [wrong]
    return any(wrong is None or close(found, np.asarray(wrong), tolerance) for wrong in wrongs)


def close(a, b, tolerance):  # -> bool
    """Same shape, NaN and infinity in the same places, and differing by a small share of the largest."""
    if a.shape != b.shape:
        return False
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    scale = np.abs(b[finite]).max(initial=0)
    return bool(np.all(np.abs(a[finite] - b[finite]) <= tolerance * max(scale, 1e-30)))


def usual_cause(found, expected):  # -> str
    """The cause that the result alone shows, if any."""
    if found.shape != expected.shape:
        return f"The shape should be {list(expected.shape)}, but it is {list(found.shape)}."
    if np.isnan(found).any():
        return "The result has NaN in it: 0 / 0, 0 * inf, inf - inf or inf / inf on the way."
    if not np.isfinite(found).all():
        return "The result has infinity in it: a large exp, a division by 0 or ln 0 on the way."
    if not found.any():
        return "All numbers are 0: is the result written into the array that is returned?"
    if found.dtype == np.float16:
        return "The numbers are float16, which has three digits: keep the dtype that is given."
    return "The numbers differ."


# ---- sentences and numbers ---------------------------------------------------------------------------------


def choose(f, right, why):  # -> str
    """Raise NotYet unless f() is the letter of the true sentence; return why the others are false.

    why: {letter: why it is false}, for all but the right one.
    """
    answer, letters = f(), sorted([right, *why])
    letter = answer.lower().strip(" ().") if isinstance(answer, str) else None
    if letter not in letters:
        raise NotYet(f"Return one of the letters {', '.join(letters)}; it returned {short(answer)}.")
    if letter != right:
        raise NotYet(f"{letter}) is false. {why[letter]}")
    return "\n".join(f"{letter}) {words}" for letter, words in why.items())


def estimate(f, truth, factor, unit="", low="", high=""):  # -> str
    """Raise NotYet unless f() is within a factor of truth, which is positive; return both in words.

    low, high: the likely cause of an estimate that is too low or too high.
    """
    answer, unit = f(), f" {unit}".rstrip()
    if isinstance(answer, (np.generic, np.ndarray)) and answer.ndim == 0:
        answer = answer.item()
    if not isinstance(answer, Real) or isinstance(answer, bool) or not 0 < answer < float("inf"):
        raise NotYet(f"Return a positive number{' of' * bool(unit)}{unit}; it returned {short(answer)}.")
    for far, direction, why in ((truth / answer, "low", low), (answer / truth, "high", high)):
        if far > factor:
            found = f"{short_number(answer)}{unit} is too {direction}"
            raise NotYet(f"{found}, by more than a factor of {factor}. {why}".rstrip())
    return f"You said {short_number(answer)}{unit}; it is {short_number(truth)}."


def short_number(value):  # -> str
    """Four digits, and all that stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


# ---- values in words ---------------------------------------------------------------------------------------


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
    """The beginning of a value's repr, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def small_model(seed=2075):  # -> params, n_head
    """A small model in which every number is random and matters; with this seed its greedy ids vary."""
    hparams = {"n_vocab": 11, "n_ctx": 16, "n_embd": 6, "n_head": 2, "n_layer": 2}
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(0, 0.5, s).astype(np.float32) for name, s in weights.shapes(hparams).items()}
    return weights.nest(arrays), hparams["n_head"]


def float32(values):
    return np.array(values, dtype=np.float32)
