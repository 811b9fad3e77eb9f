"""The checks of notebook 02: rows by matrix product, nearest tokens, and vectors of many numbers."""

import numpy as np

import weights

OF_ARRAYS = ["lookup"]  # what these checks compare


def given_to_checks(prompt, encoder, hparams, params):  # -> {name: arguments}
    """What the notebook gives to a check besides the answer."""
    ids, wte = encoder.encode(prompt), params["wte"]
    twin = weights.random_params(hparams, np.random.default_rng(0))
    return {"lookup": (ids, wte), "nearest": (ids[-1], wte), "islands": (wte, twin["wte"])}


# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
    "lookup": {
        "by equality": "return (np.asarray(ids)[:, None] == np.arange(len(wte))) @ wte",
        "rows of the identity": "return np.eye(len(wte), dtype=wte.dtype)[ids] @ wte",
        "by a loop": """
            one_hot = np.zeros((len(ids), wte.shape[0]), np.float32)
            for i, token_id in enumerate(ids):
                one_hot[i, token_id] = 1
            return np.matmul(one_hot, wte)
            """,
        "row by row": """
            rows = []
            for token_id in ids:
                one_hot = np.zeros(len(wte), dtype=np.float32)
                one_hot[token_id] = 1
                rows.append(one_hot @ wte)
            return np.stack(rows)
            """,
        "dot, transposed on purpose": """
            one_hot = np.zeros((len(wte), len(ids)), dtype=np.float32)
            one_hot[ids, range(len(ids))] = 1
            return np.dot(one_hot.T, wte)
            """,
        "einsum": """
            one_hot = np.float32(np.arange(len(wte)) == np.reshape(ids, (-1, 1)))
            return np.einsum("sv,ve->se", one_hot, wte)
            """,
    },
    "nearest": {
        "directions first": """
            norms = np.linalg.norm(table, axis=1, keepdims=True)
            unit = table / np.maximum(norms, 1e-9)
            order = np.argsort(-(unit @ unit[token_id]))
            return [i for i in order if i != token_id][:n]
            """,
        "a list, sorted by a key": """
            def cosine(i):
                a, b = table[i], table[token_id]
                norms = math.sqrt(a @ a) * math.sqrt(b @ b)
                return a @ b / norms if norms else 0
            others = [i for i in range(len(table)) if i != token_id]
            return sorted(others, key=cosine, reverse=True)[:n]
            """,
        "the token's own norm left out": """
            with np.errstate(all="ignore"):
                score = np.nan_to_num(table @ table[token_id] / np.linalg.norm(table, axis=-1))
            order = np.argsort(score)[::-1]
            return order[order != token_id][:n]
            """,
        "eps below": """
            score = table @ table[token_id] / (np.sqrt((table**2).sum(axis=1)) + 1e-8)
            score[token_id] = -np.inf
            return np.argsort(-score)[:n].tolist()
            """,
    },
    "random_cosine": {
        "measured": """
            a, b = np.random.default_rng(0).normal(size=(2, 1000, 192))
            cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
            return np.abs(cosine).mean()
            """,
        "rounded": "return 0.1",
        "as a root": "return 1 / math.sqrt(192)",
    },
    "islands": {
        "three tokens at random, and their neighbours": """
            rng, used, groups = np.random.default_rng(1), set(), []
            mean = table.mean(axis=0)
            unit = (table - mean) / np.linalg.norm(table - mean, axis=1, keepdims=True)
            for seed in rng.choice(len(table), 3, replace=False):
                group = [i for i in np.argsort(-(unit @ unit[seed])) if i not in used][:6]
                used |= {*group}
                groups.append(group)
            return groups
            """,
        "the ends of two axes": """
            x = table - table.mean(axis=0)
            along = x @ np.linalg.svd(x, full_matrices=False)[2][:2].T
            ends = [along @ [np.cos(a), np.sin(a)] for a in (0, 2, 4)]
            return [np.argsort(-end)[:6] for end in ends]
            """,
        "by the pseudo-code, from a late token": """
            unit = table - table.mean(axis=0)
            unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            seed, seeds, taken, groups = 999, [], [], []
            for _ in range(3):
                order = np.argsort(-(unit @ unit[seed]))
                groups.append([i for i in order if i not in taken][:6])
                taken += groups[-1]
                seeds.append(seed)
                like = np.abs(unit @ unit[seeds].T).max(axis=1)
                like[taken] = 9
                seed = like.argmin()
            return groups
            """,
        "an array": """
            unit = table - table.mean(axis=0)
            unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            order = np.argsort(unit @ unit[0])
            middle = order[len(order) // 2]
            beside = [i for i in np.argsort(-(unit @ unit[middle])) if i not in [*order[:6], *order[-6:]]][:6]
            return np.array([order[:6], order[-6:], beside])
            """,
    },
    "same_again": {"a capital": "return 'C'", "with its bracket": "return 'c)'"},
}

# ---- wrong answers: what a learner writes, and what must be said about it ----------------------------------

ONE_HOT = "one_hot = np.zeros((len(ids), len(wte)), dtype=np.float32); "
NORMS = "norms = np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9); "
UNIT = NORMS + "unit = table / norms; s = unit @ unit[token_id]; "
DOT = "s = table @ table[token_id]; "
OTHERS = "return [i for i in np.argsort(-s) if i != token_id][:n]"

WRONG = {
    "lookup": {
        "float64": (
            "x = np.zeros((len(ids), len(wte))); x[range(len(ids)), ids] = 1; return x @ wte",
            "The numbers are right, but in float64",
        ),
        "float64, the identity": ("return np.eye(len(wte))[ids] @ wte", "right, but in float64"),
        "whole numbers": (
            "one_hot = np.zeros((len(ids), len(wte)), int); one_hot[range(len(ids)), ids] = 1; "
            "return one_hot @ wte",
            "right, but in float64",
        ),
        "transposed": (
            """
            one_hot = np.zeros((len(wte), len(ids)), dtype=np.float32)
            one_hot[ids, range(len(ids))] = 1
            return one_hot @ wte
            """,
            "The one-hot matrix is transposed: row i, of n_vocab numbers",
        ),
        "transposed by .T": (
            "return np.eye(len(wte), dtype=np.float32)[ids].T @ wte",
            "The one-hot matrix is transposed",
        ),
        "every column of the ids": (ONE_HOT + "one_hot[:, ids] = 1; return one_hot @ wte", "a single 1"),
        "every row": (ONE_HOT + "one_hot[ids] = 1; return one_hot @ wte", "A whole row is 1"),
        "one vector for all": (
            "hot = np.zeros(len(wte), dtype=np.float32); hot[ids] = 1; return hot @ wte",
            "each token has a row of its own",
        ),
        "one vector, counted": (
            "return np.bincount(ids, minlength=len(wte)).astype(np.float32) @ wte",
            "each token has a row of its own",
        ),
        "not multiplied": (
            ONE_HOT + "one_hot[range(len(ids)), ids] = 1; return one_hot",
            "That is the one-hot matrix: multiply it by wte",
        ),
        "by index": ("return wte[ids]", "The rows are right, but they are taken by index"),
        "by index, in a loop": ("return np.array([wte[i] for i in ids])", "taken by index"),
        "by take": ("return np.take(wte, ids, axis=0)", "taken by index"),
        "by iterating": ("rows = [*wte]; return np.array([rows[i] for i in ids])", "taken by index"),
        "every id once": (
            "return np.eye(len(wte), dtype=np.float32)[np.unique(ids)] @ wte",
            "Only different ids are looked up",
        ),
        "every id once, as a set": (
            "return np.stack([np.float32(np.arange(len(wte)) == i) @ wte for i in sorted(set(ids))])",
            "Only different ids are looked up",
        ),
        "in place": (
            "wte *= 2; return np.eye(len(wte), dtype=np.float32)[ids] @ wte",
            "changes its argument wte",
        ),
        "in place, and by index": ("wte *= 1; return wte[ids]", "taken by index"),
        "one too far": (
            ONE_HOT + "one_hot[range(len(ids)), np.array(ids) - 1] = 1; return one_hot @ wte",
            "ids count from 0",
        ),
        "a square matrix": (
            "one_hot = np.eye(len(ids), dtype=np.float32)[ids]; return one_hot @ wte",
            "raised IndexError",
        ),
        "float16": (
            "return (np.asarray(ids)[:, None] == np.arange(len(wte))).astype(np.float16) "
            "@ np.asarray(wte, np.float16)",
            "float16, which has three digits",
        ),
        "as many ones as there are tokens": (
            "return np.ones((len(ids), len(wte)), np.float32) @ wte",
            "A whole row is 1",
        ),
        "sorted": (
            ONE_HOT + "one_hot[range(len(ids)), sorted(ids)] = 1; return one_hot @ wte",
            "The rows are taken in another order",
        ),
    },
    "nearest": {
        "by dot product": (DOT + OTHERS, "ordered by dot product: divide by the norm of each row"),
        "the own norm only": (
            "s = table @ (table[token_id] / np.linalg.norm(table[token_id])); " + OTHERS,
            "ordered by dot product",
        ),
        "by distance": (
            "s = -np.linalg.norm(table - table[token_id], axis=1); " + OTHERS,
            "ordered by distance, which depends on the norms",
        ),
        "by the squared norm": (
            DOT + "s = s / np.maximum((table**2).sum(1), 1e-9); " + OTHERS,
            "squared norm: divide by the norm",
        ),
        "itself": (UNIT + "return np.argsort(-s)[:n]", "Token 0 is among its own neighbours: leave it out"),
        "itself cut off by place": (
            UNIT + "return np.argsort(-s, kind='stable')[1:n + 1]",
            "another row points the same way, so the first of the order need not be the token",
        ),
        "the last place cut off": (UNIT + "return np.argsort(s)[::-1][1:n + 1]", "Leave it out by its id"),
        "the farthest": (
            UNIT + "return [i for i in np.argsort(s) if i != token_id][:n]",
            "These are the farthest",
        ),
        "smallest first": (
            UNIT + "return [i for i in np.argsort(s) if i != token_id][-n:]",
            "in the wrong order: the largest cosine comes first",
        ),
        "smallest first, cut off": (
            UNIT + "s[token_id] = -2; return np.argsort(s)[-n:]",
            "in the wrong order: the largest cosine comes first",
        ),
        "the nearest, but unordered": (
            UNIT + "s[token_id] = -2; return np.argpartition(-s, n)[:n]",
            "in the wrong order: the largest cosine comes first",
        ),
        "norms of 1 at least": (
            DOT + "s = s / np.maximum(np.linalg.norm(table, axis=1), 1); " + OTHERS,
            "Short rows get a norm that is not theirs",
        ),
        "a tenth added": (
            DOT + "s = s / (np.linalg.norm(table, axis=1) + .1); " + OTHERS,
            "Short rows get a norm that is not theirs",
        ),
        "a hundredth added": (
            DOT + "s = s / (np.linalg.norm(table, axis=1) + 1e-2); " + OTHERS,
            "Short rows get a norm that is not theirs",
        ),
        "a hundredth at least": (
            DOT
            + "s = s / np.clip(np.linalg.norm(table, axis=1) * np.linalg.norm(table[token_id]), 1e-2, None); "
            + OTHERS,
            "Short rows get a norm that is not theirs",
        ),
        "zeros": (
            "s = table @ table[token_id] / np.linalg.norm(table, axis=1); " + OTHERS,
            "A row of zeros has no direction",
        ),
        "zeros first": (
            "s = np.nan_to_num(table @ table[token_id] / np.linalg.norm(table, axis=1), nan=9); " + OTHERS,
            "A row of zeros has no direction",
        ),
        "the sign lost": (UNIT + "s = abs(s); " + OTHERS, "The sign of the cosine is lost"),
        "the mean subtracted": (
            """
            x = table - table.mean(axis=0)
            s = x @ x[token_id] / np.linalg.norm(x, axis=1)
            return [i for i in np.argsort(-s) if i != token_id][:n]
            """,
            "The mean of all rows is subtracted first",
        ),
        "the cosines": (UNIT + "return np.sort(s)[::-1][1:n + 1]", "Are these the cosines?"),
        "one too many": (
            UNIT + "return [i for i in np.argsort(-s) if i != token_id][:n + 1]",
            "It should return 2, but it returned 3",
        ),
        "all of them": (UNIT + "return [i for i in np.argsort(-s) if i != token_id]", "should return 2, but"),
        "the rows": (UNIT + "return table[np.argsort(-s)[:n]]", "It should return the ids"),
        "one id": (UNIT + "return np.argsort(-s)[1]", "It should return the ids"),
        "norms of columns": (
            "s = (table / np.linalg.norm(table, axis=0)) @ table[token_id]; " + OTHERS,
            "divide by the norm of each row",
        ),
        "in place": (
            "table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9); "
            "s = table @ table[token_id]; " + OTHERS,
            "changes its argument table",
        ),
        "alike rows left out too": (
            UNIT + "return [i for i in np.argsort(-s) if s[i] < 0.9999][:n]",
            "Other rows have a larger cosine",
        ),
        "itself at 0": (UNIT + "s[token_id] = 0; return np.argsort(-s)[:n]", "leave it out"),
        "itself at -1": (
            UNIT + "s[token_id] = -1; return np.argsort(-s, kind='stable')[:n]",
            "Token 0 is among its own neighbours: leave it out",
        ),
        "the same one": ("return [(token_id + 1) % len(table)] * n", "An id comes twice"),
        "no such row": ("return [len(table)] * n", "There is no such row"),
    },
    "random_cosine": {
        "one over n": (
            "return 1 / 192",
            "too low, by more than a factor of 2. The products are of both signs",
        ),
        "one over n squared": ("return 192**-2", "too low"),
        "a half": ("return 0.5", "too high, by more than a factor of 2. In many dimensions"),
        "as in two dimensions": ("return 2 / np.pi", "too high"),
        "the root": ("return math.sqrt(192)", "too high"),
        "nothing": ("return 0", "Return a positive number"),
        "negative": ("return -0.07", "Return a positive number"),
        "a list": ("return [0.07]", "Return a positive number"),
    },
    "islands": {
        "at random": (
            "return np.random.default_rng(0).choice(len(table), 18, replace=False).reshape(3, 6)",
            "take each one's neighbours, by all numbers",
        ),
        "the first": ("return [range(6), range(6, 12), range(12, 18)]", "hardly alike"),
        "the neighbours of one": (
            """
            unit = table / np.linalg.norm(table, axis=1, keepdims=True)
            return np.argsort(-(unit @ unit[0]))[:18].reshape(3, 6)
            """,
            "The islands are alike: begin with three tokens at right angles to each other",
        ),
        "one island": (
            "x = np.argsort(-(table @ table[0]))[:6]; return [x, x, x]",
            "on two islands, or twice on one",
        ),
        "six times the same": ("return [[0] * 6, [1] * 6, [2] * 6]", "twice on one"),
        "two of each on the next": (
            """
            unit = table - table.mean(axis=0)
            unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            like, (a, b, c) = unit @ unit[:3].T, [[], [], []]
            for i, group in enumerate((a, b, c)):
                group += [k for k in np.argsort(-like[:, i]) if k not in a + b][:6]
            return [a[:4] + b[4:], b[:4] + c[4:], c[:4] + a[4:]]
            """,
            "begin with another token, or try several",
        ),
        "the longest": (
            "return np.argsort(-np.linalg.norm(table, axis=1))[:18].reshape(3, 6)",
            "hardly alike",
        ),
        "four": ("return np.arange(24).reshape(4, 6)", "three lists of six ids"),
        "five each": ("return np.arange(15).reshape(3, 5)", "three lists of six ids"),
        "one list": ("return [*range(18)]", "three lists of six ids"),
        "the vectors": ("return table[:18].reshape(3, 6, -1)", "The ids should be whole numbers"),
        "floats": ("return np.arange(18.0).reshape(3, 6)", "The ids should be whole numbers"),
        "past the end": ("return np.arange(18).reshape(3, 6) + len(table)", "There is no such token"),
        "in place": ("table -= table.mean(axis=0); return [[1] * 6] * 3", "changes its argument table"),
        "words": ("return [['fox'] * 6] * 3", "The ids should be whole numbers"),
    },
    "same_again": {
        "a": ("return 'a'", "a) is false. The twin says it again as well"),
        "b": ("return 'b'", "b) is false. With all positions at zero"),
        "d": ("return 'd'", "d) is false. With another matrix at the end"),
        "e": ("return 'e'", "one of the letters a, b, c, d"),
        "a number": ("return 3", "one of the letters a, b, c, d"),
        "two": ("return 'a', 'c'", "one of the letters a, b, c, d"),
        "a sentence": ("return 'the rows are used twice'", "one of the letters a, b, c, d"),
    },
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("lookup", "transposed", "ids       [4]  [2 0 3 0]"),
    ("nearest", "by dot product", "token_id  0"),
    ("nearest", "zeros", "token_id  1"),
]
