"""The checks of notebook 00: a prompt, a sentence, the loop of generation, and the number of parameters."""

import numpy as np
import pytest
from checking import CHECKS, SOLUTIONS, but, written

import gpt2
import weights

pytestmark = pytest.mark.filterwarnings("error")


def given_to_checks(prompt, encoder, hparams, params):  # -> {name: arguments}
    """What the notebook gives to a check besides the answer."""
    n_head = hparams["n_head"]
    return {
        "make_it_sure": (encoder, params, n_head),
        "generate": (encoder.encode(prompt), params, n_head),
    }


# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
    "make_it_sure": {
        "a habit of speech": "return 'He nodded his'",
        "more of the story": "return 'There were three of them. Once upon a'",
        "a word that happens to be in another": "return 'My mother went first, one after the'",
        "a short word, which is part of others": "return 'Atlas knew it. Once upon'",
        "put together": "words = ['He', 'nodded', 'his']\nreturn ' '.join(words)",
    },
    "which_rows_change": {"a capital": "return 'C'", "with its bracket": "return ' c) '"},
    "numbers_in_gpt3": {
        "a round number": "return 175e9",
        "all of it": "return 96 * (12 * 12288**2 + 13 * 12288) + (50257 + 2048) * 12288",
        "rounded on the way": "return 100 * 12 * 12_000**2",
        "a number of NumPy": "return np.float64(96) * 12 * 12288**2",
    },
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
        "from the table": "return weights.count({**locals(), 'n_head': 1})",
        "a number of NumPy": """
            inner = 4 * n_embd
            weights = n_embd * 3 * n_embd + n_embd * n_embd + 2 * n_embd * inner
            biases = 3 * n_embd + n_embd + inner + n_embd
            blocks = n_layer * [weights + biases + 4 * n_embd]
            return np.sum([n_vocab * n_embd, n_ctx * n_embd, *blocks, 2 * n_embd])
            """,
    },
}

# ---- wrong answers: what a learner writes, and what must be said about it ----------------------------------

LOOP = """
    ids, new_ids = list(ids), []
    for _ in range(n_tokens):
        logits = gpt2.gpt2(ids, **params, n_head=n_head)
        new_ids.append(int(np.argmax(logits[-1])))
        ids.append(new_ids[-1])
    return new_ids
    """
COUNT = """
    norm = 2 * n_embd
    c_attn, attn_c_proj = 3 * n_embd * (n_embd + 1), n_embd * (n_embd + 1)
    c_fc, mlp_c_proj = 4 * n_embd * (n_embd + 1), n_embd * (4 * n_embd + 1)
    block = norm + c_attn + attn_c_proj + norm + c_fc + mlp_c_proj
    return n_vocab * n_embd + n_ctx * n_embd + n_layer * block + norm
    """

WRONG = {
    "make_it_sure": {
        "nothing": ("return ''", "should have 1 to 40 tokens, but it has 0"),
        "not sure": ("return 'The little fox'", "More than 90 % are asked for"),
        "nearly": ("return 'She shook her'", "More than 90 % are asked for"),
        "the prompt of the notebook": (
            "return 'The little fox looked at the old wolf, and the old'",
            "More than 90 % are asked for",
        ),
        "copied": ("return 'He nodded his head and nodded his'", "That word may be copied, because"),
        "copied, in capitals": ("return 'HEAD. He nodded his'", "That word may be copied, because"),
        "its plural": ("return 'Times! Once upon a'", "because 'Times' is in the prompt"),
        "its plural, in capitals": ("return 'HEADS! He nodded his'", "because 'HEADS' is in the prompt"),
        "a word with it inside": ("return 'Overhead he nodded his'", "because 'Overhead' is in the prompt"),
        "a space at the end": ("return 'Once upon a '", "ends in a space"),
        "a line break": ("return 'said:\\n'", "ends in a space"),
        "a line break is next": (
            "return 'The little fox looked at the old wolf, and the old wolf said:'",
            "a space or a line break",
        ),
        "the rest of a word": ("return 'I beg your p'", "a sign or a piece of a word"),
        "too long": ("return 'Once upon a time, ' * 20 + 'once upon a'", "1 to 40 tokens, but it has"),
        "the probability": ("return 0.92", "should return a prompt"),
        "the ids": ("return [1, 2, 3]", "should return a prompt"),
        "printed": ("'Once upon a'", "returned None"),
        "half a character": ("return '\\ud800'", "not yet"),
    },
    "which_rows_change": {
        "its own row": ("return 'a'", "a) is false. Later tokens look back"),
        "the row that predicts it": ("return 'b'", "b) is false. Row 1 is computed from tokens 0 and 1"),
        "all": ("return 'd'", "d) is false. Attention looks back only"),
        "a fifth": ("return 'e'", "one of the letters a, b, c, d"),
        "two": ("return 'a, c'", "one of the letters a, b, c, d"),
        "the rows": ("return [2, 3, 4]", "one of the letters a, b, c, d"),
        "a number": ("return 3", "one of the letters a, b, c, d"),
        "nothing": ("pass", "one of the letters a, b, c, d"),
    },
    "numbers_in_gpt3": {
        "one block": ("return 12 * 12288**2", "too low, by more than a factor of 1.05. Are all four"),
        "the MLPs": ("return 96 * 8 * 12288**2", "Are all four matrices"),
        "attention": ("return 96 * 4 * 12288**2", "Are all four matrices"),
        "three squares": ("return 96 * 3 * 12288**2", "too low"),
        "the tables": ("return (50257 + 2048) * 12288", "too low"),
        "no square": ("return 96 * 12 * 12288", "too low"),
        "no c_proj": ("return 96 * 11 * 12288**2", "too low"),
        "a square c_attn": ("return 96 * 10 * 12288**2", "too low"),
        "13 squares": ("return 96 * 13 * 12288**2", "Is one of the four matrices narrower"),
        "14 squares": ("return 96 * 14 * 12288**2", "too high"),
        "15 squares": ("return 96 * 15 * 12288**2", "too high"),
        "a quarter off": ("return 215e9", "too high"),
        "in billions": ("return 175", "In billions?"),
        "bytes": ("return 4 * 96 * 12 * 12288**2", "And count numbers, not bytes"),
        "16 squares": ("return 96 * 16 * 12288**2", "too high"),
        "in words": ("return '175 billion'", "Return a positive number of parameters"),
        "nothing": ("pass", "Return a positive number of parameters"),
    },
    "generate": {
        "never appends": (but(LOOP, "ids.append(new_ids[-1])", "pass"), "must join the ids"),
        "changes the list": (but(LOOP, "list(ids), []", "ids, []"), "append to a copy"),
        "the prompt too": (but(LOOP, "return new_ids", "return ids"), "The prompt is in the result"),
        "all rows": (but(LOOP, "logits[-1]", "logits"), "argmax ran over all rows"),
        "first row": (but(LOOP, "logits[-1]", "logits[0]"), "what follows the first token"),
        "all rows, each its own": (
            but(LOOP, "int(np.argmax(logits[-1]))", "np.argmax(logits, axis=-1)"),
            "one for each new token",
        ),
        "the least likely": (but(LOOP, "argmax", "argmin"), "That is the least likely token"),
        "one too many": (but(LOOP, "range(n_tokens)", "range(n_tokens + 1)"), "should be 1, but it is 2"),
        "one too few": (but(LOOP, "range(n_tokens)", "range(1, n_tokens)"), "should be 1, but it is 0"),
        "counts the prompt": (
            but(LOOP, "for _ in range(n_tokens)", "while len(ids) < n_tokens"),
            "should be 1, but it is 0",
        ),
        "one at least": (but(LOOP, "range(n_tokens)", "range(max(1, n_tokens))"), "should be 0, but it is 1"),
        "forgets the text": (
            but(LOOP, "ids.append(new_ids[-1])", "ids = new_ids[-1:]"),
            "Feed the model all ids",
        ),
        "feeds the last only": (but(LOOP, "gpt2(ids,", "gpt2(ids[-1:],"), "Feed the model all ids"),
        "keeps the last two": (
            but(LOOP, "gpt2(ids,", "gpt2(ids if not new_ids else [*ids[:-len(new_ids)], new_ids[-1]],"),
            "Feed the model all ids: the prompt, then each new one once, in order",
        ),
        "puts it in front": (but(LOOP, "ids.append(new_ids[-1])", "ids.insert(0, new_ids[-1])"), "in order"),
        "the second best": (but(LOOP, "argmax(logits[-1])", "argsort(logits[-1])[-2]"), "The likeliest id"),
        "only the last id": (but(LOOP, "return new_ids", "return ids[-1]"), "a list of whole numbers"),
        "yields": (but(LOOP, "return new_ids", "yield from new_ids"), "a list of whole numbers"),
        "the end of the text": (but(LOOP, "gpt2(ids,", "gpt2(ids[-13:],"), "not for 59"),
        "its last 17 tokens": (but(LOOP, "gpt2(ids,", "gpt2(ids[-17:],"), "not for 59"),
        "its last 40 tokens": (but(LOOP, "gpt2(ids,", "gpt2(ids[-40:],"), "see the whole text"),
        "its last 60 tokens": (but(LOOP, "gpt2(ids,", "gpt2(ids[-60:],"), "from its start"),
        "rounded logits": (but(LOOP, "logits[-1]", "logits[-1].round(1)"), "not yet"),
        "the end of the list": (
            but(LOOP, "return new_ids", "return ids[-n_tokens:]"),
            "For 0 tokens, the list should be empty; ids[-0:] is the whole list",
        ),
        "stops after the first": (
            but(LOOP, "for _ in range(n_tokens):", "while len(new_ids) != n_tokens or not new_ids:"),
            "before the first one if n_tokens is 0",
        ),
        "n_head of its own": (
            but(LOOP, "n_head=n_head", "n_head=2"),
            "use the params and n_head it is given",
        ),
        "weights without stars": (
            but(LOOP, "**params, n_head=n_head", "params, n_head"),
            "takes the weights and n_head by name",
        ),
        "no n_head": (but(LOOP, ", n_head=n_head", ""), "takes the weights and n_head by name"),
        "the file itself": (but(LOOP, "gpt2.gpt2(", "gpt2("), "its function is gpt2.gpt2"),
        "keeps what append returns": (
            but(
                LOOP,
                "new_ids.append(int(np.argmax(logits[-1])))",
                "new_ids = new_ids.append(int(np.argmax(logits[-1])))",
            ),
            "list.append changes the list and returns None",
        ),
        "loses the list": (
            but(LOOP, "ids.append(new_ids[-1])", "ids = ids.append(new_ids[-1])"),
            "list.append changes the list and returns None",
        ),
        "a list in the list": (
            but(LOOP, "ids.append(new_ids[-1])", "ids.append(new_ids)"),
            "append one id at a time",
        ),
        "an array": (but(LOOP, "list(ids), []", "np.array(ids), []"), "begin with list(ids)"),
        "all new ids, every round": (
            but(LOOP, "ids.append(new_ids[-1])", "ids += new_ids"),
            "each new one once, in order",
        ),
        "the last column": (but(LOOP, "logits[-1]", "logits[:, -1]"), "That is the last column"),
        "never the first token": (
            but(LOOP, "int(np.argmax(logits[-1]))", "1 + int(np.argmax(logits[-1][1:]))"),
            "The likeliest id",
        ),
        "never ends": (
            but(LOOP, "for _ in range(n_tokens)", "for _ in ids"),
            "outgrown the model's 16 positions",
        ),
        "floats": (but(LOOP, "return new_ids", "return np.append([], new_ids)"), "a list of whole numbers"),
    },
    "count_parameters": {
        "no biases": (
            COUNT.replace("+ 1)", "+ 0)"),
            "Your count is 135 too low: the size of the biases of the four matrices",
        ),
        "no biases in the MLP": (
            but(
                COUNT, "4 * n_embd * (n_embd + 1), n_embd * (4 * n_embd + 1)", "4 * n_embd**2, 4 * n_embd**2"
            ),
            "the biases of the MLP",
        ),
        "no biases in attention": (
            but(COUNT, "3 * n_embd * (n_embd + 1), n_embd * (n_embd + 1)", "3 * n_embd**2, n_embd**2"),
            "ln_1 and ln_2, or of c_fc's bias, or of the biases of attention",
        ),
        "c_attn's bias as for c_proj": (
            but(COUNT, "3 * n_embd * (n_embd + 1)", "3 * n_embd**2 + n_embd"),
            "two thirds of c_attn's bias, which has 3 n_embd numbers",
        ),
        "no bias in c_attn": (but(COUNT, "3 * n_embd * (n_embd + 1)", "3 * n_embd**2"), "c_attn's bias"),
        "no bias in c_fc": (but(COUNT, "4 * n_embd * (n_embd + 1)", "4 * n_embd**2"), "c_fc's bias"),
        "no bias in one c_proj": (
            but(COUNT, "n_embd * (4 * n_embd + 1)", "4 * n_embd**2"),
            "the bias of one of the two c_proj",
        ),
        "no norms": (but(COUNT, "2 * n_embd", "0"), "the size of all norms"),
        "no biases, no norms": (
            but(COUNT, "2 * n_embd", "0").replace("+ 1)", "+ 0)"),
            "the size of all biases and norms",
        ),
        "nothing called b": (
            but(COUNT, "2 * n_embd", "n_embd").replace("+ 1)", "+ 0)"),
            "the size of everything called b",
        ),
        "a norm without b": (but(COUNT, "2 * n_embd", "n_embd"), "either g or b of every norm"),
        "no positions": (but(COUNT, " + n_ctx * n_embd", ""), "the size of wpe"),
        "blocks only": (but(COUNT, "n_vocab * n_embd + n_ctx * n_embd + ", ""), "the size of wte and wpe"),
        "wte twice": (
            but(COUNT, "n_vocab * n_embd", "2 * n_vocab * n_embd"),
            "55 too high: the size of the output matrix",
        ),
        "an output bias": (
            but(COUNT, "+ n_layer", "+ n_vocab + n_layer"),
            "an output bias, one number for each token: GPT-2 has none",
        ),
        "no ln_f": (but(COUNT, "block + norm", "block"), "the size of ln_f"),
        "no norms in blocks": (
            but(COUNT, "norm + c_attn + attn_c_proj + norm", "c_attn + attn_c_proj"),
            "ln_1 and ln_2",
        ),
        "one norm in a block": (but(COUNT, "norm + c_attn", "c_attn"), "one of the two norms of each block"),
        "one block": (but(COUNT, "n_layer * block", "block"), "all blocks but one"),
        "no blocks": (but(COUNT, " + n_layer * block", ""), "the size of all blocks"),
        "q alone": (
            but(COUNT, "3 * n_embd * (n", "n_embd * (n"),
            "two thirds of c_attn, which makes q, k and v",
        ),
        "w of q alone": (
            but(COUNT, "3 * n_embd * (n_embd + 1)", "n_embd * n_embd + 3 * n_embd"),
            "two thirds of c_attn's w, which makes q, k and v",
        ),
        "no attention": (
            but(COUNT, "norm + c_attn + attn_c_proj + norm", "norm + norm"),
            "attention, or of c_fc",
        ),
        "no c_attn": (but(COUNT, "c_attn + attn_c_proj + norm", "attn_c_proj + norm"), "the size of c_attn"),
        "no c_proj in attention": (but(COUNT, "c_attn + attn_c_proj +", "c_attn +"), "attn/c_proj"),
        "no MLP": (but(COUNT, " + c_fc + mlp_c_proj", ""), "the size of the MLP"),
        "no c_proj in the MLP": (but(COUNT, " + mlp_c_proj", ""), "mlp/c_proj"),
        "an MLP of width n_embd": (
            but(
                COUNT,
                "4 * n_embd * (n_embd + 1), n_embd * (4 * n_embd",
                "n_embd * (n_embd + 1), n_embd * (n_embd",
            ),
            "the MLP's width, 4 n_embd",
        ),
        "a text": ("return '1,185'", "It should return a number, but it returned '1,185'"),
        "nothing": ("return 0", "which no single part explains"),
        "three layers always": (but(COUNT, "n_layer", "3"), "Your count is off by -1,334,592"),
    },
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("make_it_sure", "not sure", "prompt    'The little fox'"),
    ("make_it_sure", "a space at the end", "prompt    'Once upon a '"),
    ("count_parameters", "no positions", "n_vocab   11"),
    ("count_parameters", "three layers always", "n_vocab   4,000"),
]

# ---- the claims --------------------------------------------------------------------------------------------


def test_the_smallest_prompt_that_fails_is_shown(verdict):
    for mistake, ids, n_tokens in (
        ("one too many", "[3]", 1),
        ("first row", "[1, 4, 1, 5]", 1),
        ("never appends", "[3]", 5),
    ):
        body, _ = WRONG["generate"][mistake]
        lines = verdict("generate", written("generate", body)).splitlines()
        assert lines[1:3] == [f"  ids       {ids}", f"  n_tokens  {n_tokens}"]
        assert [line.split()[0] for line in lines[3:]] == ["expected", "got"]


def test_a_prompt_without_its_function_is_said_to_need_one(capsys, models_own):
    CHECKS["make_it_sure"]("Once upon a", *models_own["make_it_sure"])
    assert "not yet. Write it as a function" in capsys.readouterr().out


def test_a_model_that_has_learned_nothing_is_said_to_be_sure_of_nothing(capsys, tiny):
    encoder, hparams, _ = tiny
    twin = weights.random_params(hparams, np.random.default_rng(0))
    CHECKS["make_it_sure"](SOLUTIONS["make_it_sure"], encoder, twin, hparams["n_head"])
    first, more = capsys.readouterr().out.splitlines()
    assert first == "make_it_sure: passes." and more.startswith("  This model has learned too little")


def test_the_sentence_about_a_changed_token_is_true(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode("The little fox looked at the old wolf, and the old")
    other = [*ids[:2], ids[2] + 1, *ids[3:]]
    rows = [gpt2.gpt2(text, **params, n_head=hparams["n_head"]) for text in (ids, other)]
    changed = np.abs(rows[1] - rows[0]).max(axis=-1) > 1e-3
    assert changed.tolist() == [False] * 2 + [True] * (len(ids) - 2)


def test_gpt3_is_as_large_as_its_authors_say():
    assert round(SOLUTIONS["count_parameters"](50257, 2048, 12288, 96) / 1e9) == 175
