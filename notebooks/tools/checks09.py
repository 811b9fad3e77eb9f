"""The checks of notebook 09: noise, a tolerance, a blind prompt, five diagnoses, two bugs at once."""

import copy

import numpy as np

import gpt2
from extras import inside
from tools import bugs, reference
from tools.judging import NotYet, check, choose, estimate, short, small_model

IDS = [1, 4, 1, 5, 9, 2, 6]  # what the small model reads


@check
def float32_noise(f, noise):
    """f() -> the error of right logits in float32, as a share of the largest; noise: the notebook's."""
    low = "One rounding is off by up to 6e-8, but dozens of steps follow one another, and each rounds again."
    high = "A rounding goes up as often as down, so the many of them nearly cancel."
    said = estimate(f, float(noise), 10, low=low, high=high)
    return f"{said} Roundings cancel in part: 6e-8 times the root of the number of steps, not that number."


@check
def right_somewhere(f):
    """f() -> the letter of the true sentence about the bug that leaves one position right."""
    later = "but from block 1 on it reads the vectors of the other tokens, and those are wrong"
    why = {
        "a": f"In block 0 its weights are right, {later}.",
        "b": "The formula is a little wrong for every token, also for one that has met no other.",
        "d": "Its own share goes to the others, so the mixture is a different one.",
    }
    return choose(f, "c", why)


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
    right, clean = reference.forward(IDS, params, n_head)[0], gpt2.gpt2(IDS, **params, n_head=n_head)
    with bugs.planted("erf GELU", params) as broken:
        erf = gpt2.gpt2(IDS, **broken, n_head=n_head)
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
        "It accepts a different shape of the same size: compare the shapes.": (right[None], right),
        "It accepts a different shape, with one number in each row: compare the shapes.": (
            right[:, :1],
            right[:, [0] * 11],
        ),
        "It accepts logits that are twice as large: the same best token is not enough.": (2 * right, right),
        f"{few}.": (nudged(expected, 0.1, -0.1), expected),
        sign.format("large"): (nudged(expected, 0.1), expected),
        sign.format("small"): (nudged(expected, -0.1), expected),
        "It accepts erf GELU instead of OpenAI's formula.": (erf, right),
        f"It accepts erf GELU where all numbers are small: {share}.": (1e-4 * erf, 1e-4 * right),
        "It accepts erf GELU where all numbers are negative: take np.abs.": (-abs(erf), -abs(right)),
        f"{few} of squares, nor a norm.": (nudged(expected, 1e-4), expected),
        "It accepts what may be a bug: erf GELU changes less in other models.": (nudged(right, 5e-5), right),
        "It accepts an infinite number: the scale is the largest of |expected|, not of |got|.": (
            nudged(expected, np.inf),
            expected,
        ),
        "It accepts logits that are all too large by the same amount: take np.abs, not the range.": (
            expected + 0.1 * np.abs(expected).max(),
            expected,
        ),
        "It accepts a wrong number in the last place: compare all of them, not only the first.": (
            nudged(expected[::-1, ::-1], 0.1)[::-1, ::-1],
            expected,
        ),
        "It accepts NaN in the last place: Python's max passes over it, np.max does not.": (
            nudged(expected[::-1, ::-1], np.nan)[::-1, ::-1],
            expected,
        ),
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


N_SILENT = 5  # of the eight bugs, on the prompt that is asked for


@check
def blind_prompt(f, encoder, params, n_head):
    """f() -> a prompt on which at least five of the eight bugs leave all logits as they should be."""
    prompt = f()
    if not isinstance(prompt, str):
        raise NotYet(f"It should return a prompt, which is a str, but it returned {short(prompt)}.")
    ids, room = encoder.encode(prompt), len(params["wpe"])
    if not 1 <= len(ids) < room:  # "positions from one" reads one position more
        size = f"{short(prompt)} has {len(ids)} tokens"
        raise NotYet(f"{size}: it must have at least 1, and fewer than {room}.")
    expected, silent = reference.forward(ids, params, n_head)[0], []
    for bug in bugs.BUGS:
        with bugs.planted(bug, params) as broken:
            if reference.same(gpt2.gpt2(ids, **broken, n_head=n_head), expected):
                silent.append(bug)
    found = f"{len(silent)} of the eight are silent{': ' * bool(silent)}{', '.join(silent)}"
    if len(silent) < N_SILENT:
        tokens = "1 token" if len(ids) == 1 else f"{len(ids)} tokens"
        asked = f"It should be at least {N_SILENT}. Which position do several of them leave right?"
        raise NotYet(f"On {short(prompt)}, {tokens} long, {found}. {asked}")
    return f"On {short(prompt)} {found}."


@check
def diagnose(f):
    """f(letter) -> the name of that model's bug; each of the five is judged, whatever the others are."""
    answers, errors = {}, []
    for letter in bugs.ANONYMOUS:
        try:
            answers[letter] = f(letter)
        except Exception as error:  # such as a KeyError: the others are judged all the same
            errors.append(error)
    if not answers:
        raise errors[0]
    named = {letter: name_of(answer) for letter, answer in answers.items()}
    if not any(named.values()):
        unknown = [letter for letter, answer in answers.items() if not is_empty(answer)]
        if not unknown:
            raise NotYet("It has named none of the bugs. Return the name of one of the eight.")
        first = f"{short(answers[unknown[0]])}, for {unknown[0]}, is not one of the eight"
        raise NotYet(f"{first}: {', '.join(bugs.BUGS)}.")
    n_right = sum(named.get(letter) == bug for letter, bug in bugs.ANONYMOUS.items())
    if n_right < len(bugs.ANONYMOUS):
        lines = [f"\n  {letter}  {verdict(letter, answers, named)}" for letter in bugs.ANONYMOUS]
        raise NotYet(f"{n_right} of {len(lines)} are right.{''.join(lines)}")


def name_of(answer):  # -> a name in BUGS, or None
    """The bug that was meant: capitals, spaces, underscores and hyphens do not count."""
    spelled = {"".join(filter(str.isalnum, name.lower())): name for name in bugs.BUGS}
    return spelled.get("".join(filter(str.isalnum, answer.lower()))) if isinstance(answer, str) else None


def is_empty(answer):  # -> True or False
    return answer is None or isinstance(answer, str) and not answer.strip()


def verdict(letter, answers, named):  # -> str
    """What is said about one of the five."""
    if letter not in answers:
        return "your code raised an error for this letter."
    if is_empty(answers[letter]):
        return "no answer yet."
    if named[letter] is None:
        return f"{short(answers[letter])} is not one of the eight."
    if named[letter] == bugs.ANONYMOUS[letter]:
        return f"{named[letter]}: right."
    return f"not {named[letter]}: with that bug, {SIGNS[named[letter]]}."


# ---- two bugs at once --------------------------------------------------------------------------------------


@check
def faults(f, found, blocks, n_head):
    """f(found, block, n_head) -> the steps that are wrong by themselves; found, blocks: those of model F."""
    cases = cases_of_faults()
    cases["model F"] = [(*pair, n_head) for pair in zip(found, blocks)]
    for title, given in cases.items():
        for layer, (steps, block, n_head) in enumerate(given):
            judge_faults(f, f"{title}, block {layer}", steps, block, n_head)


def cases_of_faults():  # -> {title: a list of (found, block, n_head) for each block}
    """The small model with no bug, with one and with two; with large and with tiny numbers in it; and blocks
    in which one number of a step is wrong, whichever the step, or of three steps; or is NaN,
    infinite or only slightly off.
    """
    params, n_head = small_model()
    large, tiny = params, params
    for layer, block in enumerate(params["blocks"]):
        for name, array in block["attn"]["c_proj"].items():
            path = f"h{layer}/attn/c_proj/{name}"
            large, tiny = inside.replace(large, path, 1e4 * array), inside.replace(tiny, path, 1e-6 * array)
    pairs = [("no scale", "projection transposed"), ("erf GELU", "no mask"), ("erf GELU", "mask off by one")]
    models = {"no bug": ([], params), "no bug, large numbers": ([], large)}
    models |= {bug: ([bug], params) for bug in bugs.BUGS}
    models["projection transposed, tiny numbers"] = (["projection transposed"], tiny)
    models |= {" and ".join(pair): (pair, params) for pair in pairs}
    cases = {}
    for title, (names, model) in models.items():
        with bugs.planted(names, model) as broken:
            steps = list(inside.steps(IDS, **broken, n_head=n_head))
        cases[title] = [(*pair, n_head) for pair in zip(steps, model["blocks"])]
    x, block = cases["no bug"][0][0]["x"], params["blocks"][0]
    for wrong in [*([name] for name in reference.STEPS), ["q", "heads", "mlp"]]:
        cases[f"a wrong {' and a wrong '.join(wrong)}"] = [(spoilt(x, block, n_head, wrong), block, n_head)]
    cases["a NaN in x + mlp"] = [(spoilt(x, block, n_head, ["x + mlp"], np.nan), block, n_head)]
    cases["infinity in x + mlp"] = [(spoilt(x, block, n_head, ["x + mlp"], np.inf), block, n_head)]
    cases["one number of c_fc, slightly"] = [(spoilt(x, block, n_head, ["c_fc"], 2.5e-5), block, n_head)]
    return cases


def spoilt(x, block, n_head, wrong, share=0.01):  # -> {name: array}
    """A right block but for one number in each of the steps in `wrong`: off by a share of the largest."""
    found = {"x": x}
    for name in reference.STEPS:
        found[name] = np.float32(reference.step(name, found, block, n_head))
        if name in wrong:
            found[name][..., 3, 1] += share * np.abs(found[name]).max()
    return found


def judge_faults(f, title, found, block, n_head):
    """Raise NotYet unless f names the faulty steps of this block, in order."""
    given = copy.deepcopy(found)
    answer = f(given, block, n_head)
    if any(not np.array_equal(given.get(name), array, equal_nan=True) for name, array in found.items()):
        raise NotYet("Your function changes its argument found: a caller would not expect that.")
    if not isinstance(answer, (list, tuple)) or not all(isinstance(name, str) for name in answer):
        raise NotYet(f"It should return a list of names of steps, but it returned {short(answer)}.")
    if list(answer) != (expected := reference.faults(found, block, n_head)):
        shown = f"\n  planted   {title}\n  expected  {expected}\n  got       {short(list(answer))}"
        raise NotYet(cause_of_faults(list(answer), expected, found, block, n_head) + shown)


def cause_of_faults(answer, expected, found, block, n_head):  # -> str
    """Why these are not the faulty steps, as far as can be said."""
    wanted = reference.block_steps(found["x"], block, n_head)
    wrong = [name for name in reference.STEPS if not reference.same(found[name], wanted[name])]
    unknown = [name for name in answer if name not in reference.STEPS]
    if unknown:
        return f"{short(unknown[0])} is not one of reference.STEPS."
    if answer == wrong:
        return (
            "Those are all steps that are wrong, even those that only pass on what they were given. Give the "
            "reference the same inputs that the step had."
        )
    own = reference.own_errors(found, block, n_head)
    extra, missed = ([n for n in a if n not in b] for a, b in ((answer, expected), (expected, answer)))
    slight = [name for name in missed if own[name] < 1e-3]
    if answer == wrong[:1] and not slight:
        return "That is only the first step that is wrong. After it, each step needs its own inputs judged."
    if sorted(answer) == sorted(expected):
        return "The names are right, but not in the order of the steps."
    if extra:
        noise = own[extra[0]]
        least = f"it differs by {noise:.0e} of its largest number"
        return (
            f"It names {extra[0]}, which is right: {least}, which is noise."
            if noise
            else (f"It names {extra[0]}, which is right.")
        )
    if np.isnan(own[missed[0]]):
        return f"It misses {missed[0]}, which has a NaN: ask for what should hold, as `not error <= 1e-5`."
    if np.isinf(own[missed[0]]):
        return f"It misses {missed[0]}, infinite: the scale is the largest of |expected|, not of |found|."
    off = f"It misses {(slight or missed)[0]}, off by {own[(slight or missed)[0]]:.0e} of its largest number"
    if slight:
        return f"{off}: compare as shares of the largest number, and let nothing above 1e-5 pass."
    return f"{off}: judge every step in reference.STEPS, and every number in it."
