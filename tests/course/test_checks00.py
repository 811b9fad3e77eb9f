"""The checks of notebook 00: the loop of generation, and the number of parameters."""

import pytest
from checking import but, written

pytestmark = pytest.mark.filterwarnings("error")

# ---- right answers, written in other ways ------------------------------------------------------------------

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
            "Feed the model all ids: the prompt, then each new one in order",
        ),
        "puts it in front": (but(LOOP, "ids.append(new_ids[-1])", "ids.insert(0, new_ids[-1])"), "in order"),
        "the second best": (but(LOOP, "argmax(logits[-1])", "argsort(logits[-1])[-2]"), "The likeliest id"),
        "only the last id": (but(LOOP, "return new_ids", "return ids[-1]"), "a list of whole numbers"),
        "yields": (but(LOOP, "return new_ids", "yield from new_ids"), "a list of whole numbers"),
        "n_head of its own": (
            but(LOOP, "n_head=n_head", "n_head=2"),
            "use the params and n_head it is given",
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
            "or the biases of attention",
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
            "attention, or c_fc",
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
