"""The checks of notebook 09: a tolerance, and five diagnoses."""

import numpy as np

import gpt2
from tools import bugs, reference
from tools.judging import NotYet, check, short, small_model


@check
def same(f, logits, expected):
    """f(got, expected): true for float32's noise, false for a bug. logits, expected: the notebook's."""
    alike, apart = cases_of_same(logits, expected)
    for why, (got, wanted) in (alike | apart).items():
        given = got.copy(), wanted.copy()
        answer = f(*given)
        if not all(map(np.array_equal, given, (got, wanted), (True, True))):
            raise NotYet("Your function changes its arguments: a caller would not expect that.")
        if not isinstance(answer, (bool, np.bool_)):
            raise NotYet(f"It should return True or False, but it returned {short(answer)}.")
        if bool(answer) != (why in alike):
            shapes = f"\n  got is {list(got.shape)}, expected is {list(wanted.shape)}"
            if got.shape == wanted.shape and np.isfinite(got).all():
                found = reference.error(got, wanted)
                shapes += f", the largest difference is {found:.1e} of the largest number"
            raise NotYet(why + shapes)


def cases_of_same(logits, expected):  # -> pairs to accept, pairs to reject: two of {why: (got, expected)}
    """Noise and bugs. why: what is wrong with an answer that takes one for the other."""
    params, n_head = small_model()
    ids = [1, 4, 1, 5, 9, 2, 6]
    right, clean = reference.forward(ids, params, n_head)[0], gpt2.gpt2(ids, **params, n_head=n_head)
    with bugs.planted("erf GELU", params) as broken:
        erf = gpt2.gpt2(ids, **broken, n_head=n_head)
    zero, noise = right.copy(), clean.copy()
    zero[3, 4], noise[3, 4] = 0, 1e-7 * right.max()
    rejects, share = "It rejects float32's noise", "measure it as a share of the largest number"
    alike = {
        "It rejects two arrays that are equal.": (right, right),
        f"{rejects}, which makes even right logits differ a little.": ((1 + 1e-7) * right, right),
        f"{rejects} where a number is 0: {share}, not of each.": (noise, zero),
        f"{rejects} in this model: {share}, not of each.": (logits, expected),
        f"{rejects}, which is larger on other machines: leave some room.": (nudged(right, 3e-6), right),
        f"{rejects} where all numbers are large: {share}.": (1e4 * noise, 1e4 * zero),
        f"{rejects} where all numbers are negative: take the largest of np.abs.": (
            -abs(clean),
            -abs(right),
        ),
    }
    few = "It accepts a few wrong numbers: the largest difference counts, not the mean"
    sign = "It accepts a number that is too {}: a difference has a sign, so take np.abs."
    apart = {
        "It accepts a different shape, which NumPy broadcasts: compare the shapes.": (
            right[-1:],
            right[[-1] * 7],
        ),
        "It accepts NaN, for which <, > and == are False: ask for what should hold.": (
            nudged(expected, np.nan),
            expected,
        ),
        "It accepts logits that are twice as large: the same best token is not enough.": (2 * right, right),
        f"{few}.": (nudged(expected, 0.1, -0.1), expected),
        sign.format("large"): (nudged(expected, 0.1), expected),
        sign.format("small"): (nudged(expected, -0.1), expected),
        "It accepts erf GELU instead of OpenAI's formula.": (erf, right),
        f"It accepts erf GELU where all numbers are small: {share}.": (1e-4 * erf, 1e-4 * right),
        "It accepts erf GELU where all numbers are negative: take np.abs.": (-abs(erf), -abs(right)),
        f"{few} of squares.": (nudged(expected, 1e-3), expected),
        "It accepts what may be a bug: erf GELU changes less in other models.": (nudged(right, 5e-5), right),
    }
    return alike, apart


def nudged(expected, *shares):  # [n_seq, n_vocab], numbers -> [n_seq, n_vocab]
    """expected, but with the first numbers off by these shares of the largest."""
    got = expected.copy()
    got[0, : len(shares)] += np.array(shares) * np.abs(expected).max()
    return got


SIGNS = {  # what a bug does, whatever the model
    "positions from one": "the vectors are wrong before the first block",
    "erf GELU": "the first wrong step is act, slightly, and equally at all positions",
    "projection transposed": "all blocks before the middle one are right",
    "no scale": "position 0 is right in block 0, because it has only itself to look at",
    "mask after softmax": "the last position is right in block 0; other rows of weights sum to less than 1",
    "no mask": "the last position is right in block 0, and all rows of weights sum to 1",
    "mask off by one": "the weights in block 0 are wrong at every position, even the last",
    "heads merged by reshape": "weights and heads of block 0 are right, and attn is already wrong there",
}


@check
def diagnose(f):
    """f(letter) -> the name of that model's bug."""
    for n_right, (letter, bug) in enumerate(bugs.ANONYMOUS.items()):
        answer = f(letter)
        if not isinstance(answer, str) or answer not in bugs.BUGS:
            which = f"{short(answer)}, for {letter}, is not one of the eight ({n_right} right so far)"
            raise NotYet(f"{which}: {', '.join(bugs.BUGS)}.")
        if answer != bug:
            sign = f"{letter} is not {answer!r}: with that bug, {SIGNS[answer]}. Look at its pictures again"
            raise NotYet(f"{sign} ({n_right} right so far).")
