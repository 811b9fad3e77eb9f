"""The checks of notebook 09: a tolerance, and five diagnoses."""

import pytest
from checking import SOLUTIONS, written

pytestmark = pytest.mark.filterwarnings("error")

# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
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

# ---- wrong answers: what a learner writes, and what must be said about it ----------------------------------

SAME = "alike = got.shape == expected.shape; limit = 1e-5 * abs(expected).max(); "
SEEN = {  # how each bug could have been told from the right one
    "positions from one": "wrong before the first block",
    "erf GELU": "equally at all positions",
    "projection transposed": "all blocks before the middle one are right",
    "no scale": "position 0 is right",
    "mask after softmax": "sum to less than 1",
    "no mask": "all rows of weights sum to 1",
    "mask off by one": "wrong at every position",
    "heads merged by reshape": "attn is already wrong there",
}
ANSWERS = {letter: SOLUTIONS["diagnose"](letter) for letter in "ABCDE"}

WRONG = {
    "same": {
        "equal": ("return np.array_equal(got, expected)", "rejects float32's noise, which"),
        "too strict": (SAME + "return alike and abs(got - expected).max() < 1e-9", "float32's noise"),
        "too near to noise": (
            "return got.shape == expected.shape and abs(got - expected).max() <= 1e-6 * abs(expected).max()",
            "which is larger on other machines: leave some room",
        ),
        "too near to a bug": (
            "return got.shape == expected.shape and abs(got - expected).max() <= 8e-5 * abs(expected).max()",
            "erf GELU changes less in other models",
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
        "broadcast": (
            SAME + "return bool(abs(got - expected).max() < limit)",
            "It accepts a different shape",
        ),
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
            "a few wrong numbers",
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
            "It accepts erf GELU instead of",
        ),
        "a limit of at least 1e-5": (
            SAME + "limit = max(1e-5, limit); return alike and abs(got - expected).max() <= limit",
            "erf GELU where all numbers are small",
        ),
        "divided by a negative number": (
            SAME + "return alike and bool(abs(got - expected).max() / expected.max() <= 1e-4)",
            "erf GELU where all numbers are negative",
        ),
        "always": ("return True", "It accepts a different shape"),
        "never": ("return False", "It rejects two arrays that are equal"),
        "the difference": ("return abs(got - expected[:len(got)]).max()", "It should return True or False"),
        "an array": (
            "return abs(got - expected) < 1e-5",
            "It should return True or False, but it returned array",
        ),
        "in place": (SAME + "got -= expected; return abs(got).max() < limit", "changes its arguments"),
    },
}
WRONG["diagnose"] = {
    f"{letter} is {bug}": (
        f"return {ANSWERS | {letter: bug}}[letter]",
        f"{letter} is not {bug!r}: with that bug, ",
    )
    for letter, right in ANSWERS.items()
    for bug in SEEN
    if bug != right
}
WRONG["diagnose"] |= {
    "another name": (
        "return 'A bug'",
        "'A bug', for A, is not one of the eight (0 right so far): positions from one, erf GELU",
    ),
    "all letters": (f"return {[*ANSWERS.values()]}", "for A, is not one of the eight"),
    "nothing for B": (
        f"return {ANSWERS}[letter] if letter == 'A' else None",
        "None, for B, is not one of the eight (1 right so far)",
    ),
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("same", "too loose", "got is [7, 11], expected is [7, 11], the largest difference is 4.6e-04 of"),
    ("same", "broadcast", "got is [1, 11], expected is [7, 11]"),
]

# ---- the claims --------------------------------------------------------------------------------------------


def test_a_wrong_diagnosis_is_given_that_bugs_sign_and_the_number_right(verdict):
    for mistake, (body, words) in WRONG["diagnose"].items():
        if words.endswith("with that bug, "):
            letter, bug = mistake.split(" is ")
            said = verdict("diagnose", written("diagnose", body))
            assert SEEN[bug] in said and said.endswith(
                f"Look at its pictures again ({'ABCDE'.index(letter)} right so far).\n"
            )
