"""The checks of notebook 00: a prompt, a sentence, the loop of generation, and the number of parameters."""

import re
from numbers import Integral, Real

import numpy as np

import gpt2
import weights
from tools.judging import NotYet, check, choose, estimate, line_of, short, small_model

GPT3 = {"n_vocab": 50257, "n_ctx": 2048, "n_embd": 12288, "n_head": 96, "n_layer": 96}  # Brown et al. 2020


@check
def make_it_sure(f, encoder, params, n_head):
    """f() -> a text after which one word has more than 90 %. The others are the notebook's."""
    if not callable(f):
        raise NotYet(
            "Write it as a function: def make_it_sure(), and below it, indented, return and a prompt."
        )
    text = f()
    if text is None:
        raise NotYet("It returned None: is a return missing?")
    if not isinstance(text, str):
        raise NotYet(f"It should return a prompt, a text in quotes, but it returned {short(text)}.")
    ids, n_most = encoder.encode(text), 40
    if not 1 <= len(ids) <= n_most:
        raise NotYet(f"The prompt should have 1 to {n_most} tokens, but it has {len(ids)}.")
    p = gpt2.softmax(gpt2.gpt2(ids, **params, n_head=n_head)[-1])
    word, most = encoder.decode([p.argmax()]), p.max()
    found = f"\n  prompt    {short(text)}\n  next      {word!r}, {most:.1%}"
    if is_never_sure(encoder, params, n_head):
        return f"This model has learned too little to be sure of a word: {word!r} has {most:.1%}."
    if text[-1].isspace():
        raise NotYet(f"The prompt ends in a space, but a space belongs to the word after it.{found}")
    if not re.fullmatch(r" [^\W\d_]+", word):
        what = "a sign or a piece of a word" if word.strip() else "a space or a line break"
        raise NotYet(f"The likeliest token is {what}: look for a whole word, with its space.{found}")
    if most <= 0.9:
        raise NotYet(f"More than 90 % are asked for.{found}")
    for copied in re.findall(r"[^\W\d_]+", text):
        if are_related(copied.lower(), word.strip().lower()):
            cause = f"That word may be copied, because {copied!r} is in the prompt: look for one that is new"
            raise NotYet(f"{cause}.{found}")


def are_related(word, other):  # two words in small letters -> bool
    """Whether they are the same, or look it: time and times, head and overhead; not other and mother."""
    fewer, more = sorted([word, other], key=len)
    return fewer == more or (len(fewer) > 3 and fewer in more and more.find(fewer) not in (1, 2))


def is_never_sure(encoder, params, n_head):  # -> bool
    """Whether even after the best known beginning of all, every next token is unlikely."""
    return gpt2.softmax(gpt2.gpt2(encoder.encode("Once upon a"), **params, n_head=n_head)[-1]).max() < 0.5


@check
def which_rows_change(f):
    """f() -> the letter of the true sentence about what a changed token changes."""
    return choose(
        f,
        "c",
        {
            "a": "Later tokens look back at it. If its vector stayed its own, no word could be copied.",
            "b": "Row 1 is computed from tokens 0 and 1: it predicts the third token without having seen it.",
            "d": "Attention looks back only. If it looked ahead, a row could see the token it predicts.",
        },
    )


@check
def numbers_in_gpt3(f):
    """f() -> about the number of parameters of a GPT with the sizes of GPT-3."""
    answer = f()
    tiny = isinstance(answer, Real) and 0 < answer < 1e6
    return estimate(
        lambda: answer,
        weights.count(GPT3),
        1.05,
        "parameters",
        low="In billions? Return the number itself."
        if tiny
        else "Are all four matrices of a block in it, each as wide as the list says, and all 96 blocks?",
        high="Is one of the four matrices narrower than you took it to be? (And count numbers, not bytes.)",
    )


RAISED = {  # what Python or NumPy says: what it means here
    r"gpt2\(\) (missing|takes|got)": "gpt2.gpt2 takes the weights and n_head by name: "
    "gpt2.gpt2(ids, **params, n_head=n_head).",
    "out of bounds for axis 0 with size 16": "The text has outgrown the model's 16 positions: does your "
    "loop end after n_tokens rounds, and before the first one if n_tokens is 0?",
    "'module' object is not callable": "gpt2 is the file; its function is gpt2.gpt2.",
    "^tuple index out of range|'NoneType' object": "One of your lists has become something else: list.append "
    "changes the list and returns None, and ids.copy without () copies nothing.",
    "inhomogeneous": "There is a list among your ids: append one id at a time.",
    "no attribute 'append'": "Only lists have append: begin with list(ids).",
}


@check
def generate(f, ids, params, n_head):
    """f(ids, params, n_head, n_tokens): greedy, as gpt2.generate. ids, params, n_head: the notebook's."""
    for n_tokens in (1, 5, 0):
        for prompt in ([3], [4], [1, 4, 1, 5]):  # after 4 comes id 0
            generate_once(f, prompt, *small_model(), n_tokens)
    long = np.random.default_rng(77).integers(0, 11, 59).tolist()  # its end alone is continued differently
    why = "It is right for a few tokens but not for 59: does the model see the whole text, from its start?"
    generate_once(f, long, *model_of_64_positions(), 5, why)
    why = "It is right for a small model but not for this one: does it use the params and n_head it is given?"
    generate_once(f, list(ids), params, n_head, 5, why)


def model_of_64_positions():  # -> params, n_head
    """The small model, which has 16, with a longer table of positions."""
    params, n_head = small_model()
    rows = np.random.default_rng(0).normal(0, 0.5, (64, params["wpe"].shape[-1]))
    return params | {"wpe": rows.astype(np.float32)}, n_head


def generate_once(f, ids, params, n_head, n_tokens, why=None):
    """Check one prompt and one number of tokens. why: the cause of wrong ids, where only one is possible."""
    expected, given = [*gpt2.stream(ids, params, n_head, n_tokens)], list(ids)
    try:
        got = f(given, params, n_head, n_tokens)
    except Exception as error:
        for what, cause in RAISED.items():
            if re.search(what, str(error)):
                raise NotYet(f"{cause}{line_of(f, error)}") from None
        raise
    if given != ids:
        raise NotYet(f"Your loop changes the list that it is given, {ids}, to {given}: append to a copy.")
    if got is None:
        raise NotYet("It returned None: is a return missing?")
    got = got.tolist() if isinstance(got, np.ndarray) else got
    case = f"\n  ids       {short(ids)}\n  n_tokens  {n_tokens}"
    case += f"\n  expected  {expected}\n  got       {short(got)}"
    if not isinstance(got, (list, tuple)) or not all(isinstance(i, Integral) for i in got):
        raise NotYet(f"It should return a list of whole numbers, one for each new token.{case}")
    got = [int(i) for i in got]
    if got == ids and n_tokens == 0:
        raise NotYet(
            f"For 0 tokens, the list should be empty; ids[-0:] is the whole list, not its end.{case}"
        )
    if got[: len(ids)] == ids and len(got) == len(ids) + n_tokens:
        raise NotYet(f"The prompt is in the result: return only the new ids.{case}")
    if len(got) != n_tokens:
        raise NotYet(f"The number of new ids should be {n_tokens}, but it is {len(got)}.{case}")
    if n_tokens > 1 and got == expected[:1] * n_tokens != expected:
        raise NotYet(f"It repeats its first id: each new id must join the ids before the next round.{case}")
    if got != expected:
        raise NotYet(f"{why or why_another(got, expected, ids, params, n_head)}{case}")


def why_another(got, expected, ids, params, n_head):  # three of [n], params, n_head -> str
    """Why the first wrong id may have been chosen."""

    def logits(ids):
        return gpt2.gpt2(ids, **params, n_head=n_head)

    n_right = [a == b for a, b in zip(got, expected)].index(False)
    new = expected[:n_right]
    rows = logits([*ids, *new])
    causes = {
        np.argmax(rows): "argmax ran over all rows at once: apply it to the last one, logits[-1].",
        np.argmax(rows[0]): "That is what follows the first token: take the last row, logits[-1].",
        np.argmin(rows[-1]): "That is the least likely token.",
    }
    twice = [i for n in range(len(new)) for i in new[: n + 1]]  # all new ids are added in every round
    for fed in ([*ids, *new][-1:], [*ids, *new[-1:]], [*new[::-1], *ids], [*ids, *twice]):
        if fed != [*ids, *new] and len(fed) <= len(params["wpe"]):
            why = "Feed the model all ids: the prompt, then each new one once, in order."
            causes.setdefault(np.argmax(logits(fed)[-1]), why)
    causes.setdefault(
        np.argmax(rows[:, -1]), "That is the last column: each token has a row, so take logits[-1]."
    )
    return causes.get(got[n_right], "The likeliest id in the last row of the logits is a different one.")


@check
def count_parameters(f):
    """f(n_vocab, n_ctx, n_embd, n_layer), as weights.count."""
    small = {"n_vocab": 11, "n_ctx": 5, "n_embd": 5, "n_layer": 3}  # no two sizes are the same by chance
    for sizes in (small, *weights.PRESETS.values()):
        sizes = {name: sizes[name] for name in small}
        expected, got = weights.count(sizes | {"n_head": 1}), f(*sizes.values())
        if got is None:
            raise NotYet("It returned None: is a return missing?")
        if not isinstance(got, Real):
            raise NotYet(f"It should return a number, but it returned {short(got)}.")
        if got != expected:
            why = what_is_missing(got, expected, **sizes)
            case = "".join(f"\n  {name:9} {value:,}" for name, value in sizes.items())
            raise NotYet(f"{why}{case}\n  expected  {expected:,}\n  got       {got:,}")


def what_is_missing(got, expected, n_vocab, n_ctx, n_embd, n_layer):  # -> str
    """The part of the model that was left out or counted twice, if that explains the difference."""
    weights, bias = n_embd**2 * n_layer, n_embd * n_layer  # of a matrix as small as c_proj, in all blocks
    parts = {
        "wpe": n_ctx * n_embd,
        "the output matrix, which is wte again": n_vocab * n_embd,
        "wte and wpe": (n_vocab + n_ctx) * n_embd,
        "an output bias, one number for each token: GPT-2 has none": n_vocab,
        "ln_f": 2 * n_embd,
        "one of the two norms of each block": 2 * bias,
        "ln_1 and ln_2": 4 * bias,
        "all norms": 4 * bias + 2 * n_embd,
        "either g or b of every norm": 2 * bias + n_embd,
        "the bias of one of the two c_proj": bias,
        "the biases of both c_proj": 2 * bias,
        "two thirds of c_attn's bias, which has 3 n_embd numbers": 2 * bias,
        "c_attn's bias": 3 * bias,
        "three quarters of c_fc's bias, which has 4 n_embd numbers": 3 * bias,
        "c_fc's bias": 4 * bias,
        "the biases of attention": 4 * bias,
        "the biases of the MLP": 5 * bias,
        "the biases of c_attn and c_fc": 7 * bias,
        "the biases of the four matrices": 9 * bias,
        "all biases and norms": 13 * bias + 2 * n_embd,
        "everything called b": 11 * bias + n_embd,
        "all blocks but one": (12 * n_embd**2 + 13 * n_embd) * (n_layer - 1),
        "all blocks": 12 * weights + 13 * bias,
        "two thirds of c_attn, which makes q, k and v": 2 * (weights + bias),
        "two thirds of c_attn's w, which makes q, k and v": 2 * weights,
        "attn/c_proj": weights + bias,
        "c_attn": 3 * (weights + bias),
        "attention": 4 * (weights + bias),
        "c_fc": 4 * (weights + bias),
        "mlp/c_proj": 4 * weights + bias,
        "the MLP": 8 * weights + 5 * bias,
        "three quarters of the MLP's width, 4 n_embd": 6 * weights + 3 * bias,
    }
    n = abs(got - expected)
    found = [part for part, size in parts.items() if size == n]
    if found:
        direction = "low" if got < expected else "high"
        return f"Your count is {n:,} too {direction}: the size of {', or of '.join(found)}."
    return f"Your count is off by {got - expected:+,}, which no single part explains."
