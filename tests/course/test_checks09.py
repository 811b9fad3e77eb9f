"""The checks of notebook 09: noise, a tolerance, a blind prompt, five diagnoses, two bugs at once."""

import numpy as np
import pytest
from checking import SOLUTIONS, but, written

import gpt2
from extras import inside
from tools import bugs, checks09, reference

pytestmark = pytest.mark.filterwarnings("error")


def given_to_checks(prompt, encoder, hparams, params):  # -> {name: arguments}
    """What the notebook gives to a check besides the answer."""
    ids, n_head = encoder.encode(prompt), hparams["n_head"]
    logits, expected = gpt2.gpt2(ids, **params, n_head=n_head), reference.forward(ids, params, n_head)[0]
    with bugs.planted("F", params) as broken:
        steps = list(inside.steps(ids, **broken, n_head=n_head))
    return {
        "float32_noise": (reference.error(logits, expected),),
        "same": (logits, expected),
        "blind_prompt": (encoder, params, n_head),
        "faults": (steps, params["blocks"], n_head),
    }


# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
    "float32_noise": {
        "a millionth": "return 1e-6",
        "a few roundings": "return 5 * np.finfo(np.float32).eps",
        "a whole number of roundings": "return np.float32(2.0**-22)",
    },
    "right_somewhere": {"a capital": "return 'C'", "with a bracket": "return 'c) '"},
    "blind_prompt": {
        "a word": "return 'The'",
        "a space and a word": "return ' old'",
        "a digit": "return '7'",
        "a line": r"return '\n'",
    },
    "faults": {
        "in one line, a tolerance between": """
            from tools import reference
            own = reference.own_errors(found, block, n_head)
            return [name for name in own if not own[name] < 2e-5]
            """,
        "by np.allclose, step by step": """
            from tools import reference
            def right(name):
                expected = reference.step(name, found, block, n_head)
                return np.allclose(found[name], expected, rtol=0, atol=1e-5 * abs(expected).max())
            return [name for name in found if name != "x" and not right(name)]
            """,
        "step by step, in a tuple": """
            from tools import reference
            pairs = ((name, reference.step(name, found, block, n_head)) for name in reference.STEPS)
            return tuple(name for name, expected in pairs if not reference.same(found[name], expected))
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
        "in capitals": "return bugs.ANONYMOUS[letter].upper()",
        "with underscores": "return bugs.ANONYMOUS[letter].replace(' ', '_')",
        "with hyphens and spaces around": "return ' ' + bugs.ANONYMOUS[letter].replace(' ', '-') + ' '",
        "without spaces": "return bugs.ANONYMOUS[letter].title().replace(' ', '')",
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
        "a norm": (
            "return got.shape == expected.shape and bool(np.linalg.norm(got - expected)"
            " <= 1e-5 * np.linalg.norm(expected))",
            "not the mean of squares, nor a norm",
        ),
        "a share of the largest number got": (
            "return bool(got.shape == expected.shape and abs(got - expected).max() <= 1e-5 * abs(got).max())",
            "the scale is the largest of |expected|",
        ),
        "the same size": (
            SAME + "return bool(got.size == expected.size and abs(got - expected).max() <= limit)",
            "of the same size: compare the shapes",
        ),
        "as many rows": (
            SAME + "return bool(len(got) == len(expected) and got.ndim == expected.ndim"
            " and abs(got - expected).max() <= limit)",
            "with one number in each row: compare the shapes",
        ),
        "Python's max": (
            "return got.shape == expected.shape"
            " and bool(max(abs(got - expected).flat) <= 1e-5 * max(abs(expected).flat))",
            "It accepts NaN in the last place: Python's max",
        ),
        "a return inside the loop": (
            """
            limit = 1e-5 * abs(expected).max()
            if got.shape != expected.shape:
                return False
            for a, b in zip(got.flat, expected.flat):
                if not abs(a - b) <= limit:
                    return False
                return True
            """,
            "It accepts a wrong number in the last place",
        ),
        "first row": (
            SAME + "return alike and abs(got - expected)[0].max() <= limit",
            "It accepts a wrong number in the last place",
        ),
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
        "their range": (
            SAME + "return alike and not np.isnan(got).any() and np.ptp(got - expected) <= limit",
            "all too large by the same amount",
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
    f"{letter} is {bug}": (f"return {ANSWERS | {letter: bug}}[letter]", "4 of 5 are right.")
    for letter, right in ANSWERS.items()
    for bug in SEEN
    if bug != right
}
WRONG["diagnose"] |= {
    "another name": (
        "return 'A bug'",
        "'A bug', for A, is not one of the eight: positions from one, erf GELU",
    ),
    "all letters": (f"return {[*ANSWERS.values()]}", "for A, is not one of the eight"),
    "two names in one": (f"return {ANSWERS}[letter] + ' or no mask'", "for A, is not one of the eight"),
    "nothing for any": ("return ''", "It has named none of the bugs."),
    "spaces for all but one": (f"return {ANSWERS}[letter] if letter == 'A' else ' '", "1 of 5 are right."),
    "nothing for B": (f"return {ANSWERS | {'B': ''}}[letter]", "4 of 5 are right."),
    "None for B": (f"return {ANSWERS | {'B': None}}[letter]", "4 of 5 are right."),
    "B is left out": (
        f"return {{k: v for k, v in {ANSWERS}.items() if k != 'B'}}[letter]",
        "4 of 5 are right.",
    ),
    "the same for all": ("return 'no scale'", "1 of 5 are right."),
    "one letter further": (f"return {ANSWERS}[chr(65 + (ord(letter) - 64) % 5)]", "0 of 5 are right."),
    "a letter": ("return letter", "'A', for A, is not one of the eight"),
    "a number": ("return 'ABCDE'.index(letter)", "0, for A, is not one of the eight"),
}
OWN = """
    from tools import reference
    names = []
    for name in reference.STEPS:
        expected = reference.step(name, found, block, n_head)
        if not abs(found[name] - expected).max() <= 1e-5 * abs(expected).max():
            names.append(name)
    return names
"""
LIMIT = "1e-5 * abs(expected).max()"
LOOP = "for name in reference.STEPS:\n        expected = "
WRONG["faults"] = {
    "the reference's own inputs": (
        but(
            OWN,
            LOOP + "reference.step(name, found, block, n_head)",
            """right = reference.block_steps(found["x"], block, n_head)
    for name in reference.STEPS:
        expected = right[name]""",
        ),
        "even those that only pass on what they were given",
    ),
    "the first": (but(OWN, "return names", "return names[:1]"), "only the first step that is wrong"),
    "the first, as a name": (
        but(OWN, "return names", "return ''.join(names[:1])"),
        "It should return a list",
    ),
    "the last": (but(OWN, "return names", "return names[-1:]"), "It misses weights"),
    "equal": (but(OWN, LIMIT, "0"), "which is noise"),
    "too strict": (but(OWN, LIMIT, "1e-8 * abs(expected).max()"), "which is noise"),
    "absolute": (but(OWN, LIMIT, "1e-5"), "which is noise"),
    "absolute and large": (but(OWN, LIMIT, "0.3"), "It misses act"),
    "too loose": (but(OWN, LIMIT, "1e-2 * abs(expected).max()"), "It misses act"),
    "the mean": (but(OWN, ").max() <= 1e-5", ").mean() <= 1e-4"), "It misses act"),
    "signed": (but(OWN, "abs(found[name] - expected).max()", "(found[name] - expected).max()"), "It misses"),
    "last position": (
        but(OWN, "abs(found[name] - expected).max()", "abs(found[name] - expected)[..., -1, :].max()"),
        "It misses weights",
    ),
    "backwards": (but(OWN, "return names", "return names[::-1]"), "not in the order of the steps"),
    "a set": (but(OWN, "return names", "return set(names)"), "It should return a list of names"),
    "all that are right": (but(OWN, "if not", "if"), "It names ln_1, which is right"),
    "with x": (but(OWN, "names = []", "names = ['x']"), "'x' is not one of reference.STEPS"),
    "x too": (but(OWN, "in reference.STEPS", "in found"), "raised ValueError: 'x' is not a step"),
    "none": ("return []", "It misses act"),
    "weights": ("return ['weights']", "It names weights, which is right"),
    "pairs": (but(OWN, "names.append(name)", "names.append((name, 1))"), "It should return a list of names"),
    "changed": (
        but(OWN, "names = []", "names = []\n    found['q'] = found['q'] + 1"),
        "changes its argument found",
    ),
    "NaN": (
        but(OWN, "not abs(found[name] - expected).max() <=", "abs(found[name] - expected).max() >"),
        "which has a NaN: ask for what should hold",
    ),
    "a share of what was found": (
        but(OWN, LIMIT, "1e-5 * abs(found[name]).max()"),
        "infinite: the scale is the largest of |expected|",
    ),
    "a norm": (
        but(
            OWN,
            f"abs(found[name] - expected).max() <= {LIMIT}",
            "np.linalg.norm(found[name] - expected) <= 1e-5 * np.linalg.norm(expected)",
        ),
        "It misses c_fc",
    ),
    "limit 1e-4": (but(OWN, LIMIT, "1e-4 * abs(expected).max()"), "let nothing above 1e-5 pass"),
    "what the bugs have": (
        but(OWN, "in reference.STEPS", "in ('weights', 'attn', 'act')"),
        "It misses ln_1, off by 1e-02 of its largest number: judge every step",
    ),
    "without q, k and v": (
        but(OWN, "in reference.STEPS", "in [s for s in reference.STEPS if s not in ('q', 'k', 'v')]"),
        "It misses q",
    ),
    "the first two": (but(OWN, "return names", "return names[:2]"), "It misses mlp"),
    "only what F has": (
        but(OWN, "in reference.STEPS", "in ('weights', 'act')"),
        "It misses attn",
    ),
}
WRONG["float32_noise"] = {
    "one rounding": ("return 2**-24", "is too low, by more than a factor of 10. One rounding"),
    "the spacing": ("return 1e-8", "One rounding is off by up to 6e-8"),
    "float64": ("return np.finfo(float).eps", "is too low"),
    "a thousandth": ("return 1e-3", "is too high, by more than a factor of 10. A rounding goes up"),
    "the limit": ("return 1e-5", "A rounding goes up as often as down"),
    "a step for each number": ("return 2**-24 * 80 * 192", "nearly cancel"),
    "none": ("return 0", "Return a positive number"),
    "an exponent": ("return -6", "Return a positive number"),
    "words": ("return '1e-6'", "Return a positive number"),
}
WRONG["right_somewhere"] = {
    "a": ("return 'a'", "from block 1 on it reads the vectors of the other tokens"),
    "b": ("return 'b'", "a little wrong for every token"),
    "d": ("return 'd'", "Its own share goes to the others"),
    "e": ("return 'e'", "one of the letters a, b, c, d"),
    "the sentence": ("return 'no scale, at the first position'", "one of the letters"),
    "two": ("return 'ac'", "one of the letters"),
    "a list": ("return ['c']", "one of the letters"),
}
WRONG["blind_prompt"] = {
    "the standing one": (
        "return 'The little fox looked at the old wolf, and the old'",
        "12 tokens long, 0 of the",
    ),
    "two words": ("return 'The fox'", "It should be at least 5. Which position"),
    "a word twice": ("return 'the the'", "It should be at least 5"),
    "a letter many times": ("return 20 * ' a'", "It should be at least 5"),
    "a long word": ("return 'antidisestablishmentarianism'", "It should be at least 5"),
    "nothing": ("return ''", "has 0 tokens: it must have at least 1"),
    "too long": ("return 2000 * ' a'", "tokens: it must have at least 1, and fewer than"),
    "ids": ("return [464]", "a prompt, which is a str"),
    "bytes": ("return b'a'", "a prompt, which is a str"),
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("same", "too loose", "got is [7, 11], expected is [7, 11], the largest difference is 4.6e-04 of"),
    ("same", "broadcast", "got is [1, 11], expected is [7, 11]"),
    ("diagnose", "A is no mask", "A  not no mask: with that bug, the last position is right in block 0"),
    ("diagnose", "nothing for B", "A  mask off by one: right."),
    ("faults", "the first", "planted   no scale and projection transposed, block 1"),
    ("faults", "absolute", "planted   no bug, large numbers, block 0"),
]


@pytest.mark.parametrize("estimate", ["80 * 2**-24", "80**0.5 * 2**-24"])
def test_an_estimate_that_passes_is_told_that_roundings_cancel(verdict, estimate):
    answer = written("float32_noise", f"return {estimate}")
    assert "the root of the number of steps, not that number" in verdict("float32_noise", answer)


# ---- the claims --------------------------------------------------------------------------------------------


def test_a_wrong_diagnosis_is_given_that_bugs_sign_and_the_others_are_judged(verdict):
    for letter, right in ANSWERS.items():
        for bug, sign in SEEN.items():
            if bug != right:
                said = verdict("diagnose", written("diagnose", f"return {ANSWERS | {letter: bug}}[letter]"))
                lines = {line[2]: line[5:] for line in said.splitlines()[1:]}
                assert lines.keys() == ANSWERS.keys() and sign in lines.pop(letter)
                assert lines == {other: f"{ANSWERS[other]}: right." for other in lines}


@pytest.mark.parametrize("mistake", ["nothing for B", "None for B", "B is left out"])
def test_an_answer_that_is_missing_does_not_hide_the_others(verdict, mistake):
    said = verdict("diagnose", written("diagnose", WRONG["diagnose"][mistake][0])).splitlines()
    assert said[2] in ("  B  no answer yet.", "  B  your code raised an error for this letter.")
    assert [line.endswith(": right.") for line in said[1:]] == [True, False, True, True, True]


def test_a_name_outside_the_list_is_shown_beside_the_others(verdict):
    said = verdict("diagnose", written("diagnose", f"return {ANSWERS | {'C': 'scale'}}[letter]"))
    assert "  C  'scale' is not one of the eight.\n" in said


def test_the_models_with_two_bugs_are_tried_and_those_with_none(verdict):
    cases = checks09.cases_of_faults()
    found = {title: [reference.faults(*one) for one in given] for title, given in cases.items()}
    assert found["no bug"] == found["no bug, large numbers"] == [[], []]
    assert found["projection transposed, tiny numbers"] == [[], ["attn"]]
    assert found["erf GELU and no mask"] == [["weights", "act"]] * 2
    assert found["no scale and projection transposed"] == [["weights"], ["weights", "attn"]]


def test_one_token_hides_five_bugs_in_any_model(tiny):
    encoder, hparams, params = tiny
    for token_id in np.random.default_rng(0).integers(hparams["n_vocab"], size=20):
        expected = reference.forward([token_id], params, hparams["n_head"])[0]
        silent = []
        for bug in bugs.BUGS:
            with bugs.planted(bug, params) as broken:
                if reference.same(gpt2.gpt2([token_id], **broken, n_head=hparams["n_head"]), expected):
                    silent.append(bug)
        assert silent == [*bugs.BUGS][3:]
