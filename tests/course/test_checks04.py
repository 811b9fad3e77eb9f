"""The checks of notebook 04: one query, a mask that comes late, all queries, a score, two heads by hand."""

from extras import inside

OF_ARRAYS = ["attend", "attention"]  # what these checks compare


def given_to_checks(prompt, encoder, hparams, params):  # -> {name: arguments}
    """What the notebook gives to a check besides the answer."""
    *_, last = inside.steps(encoder.encode(prompt), **params, n_head=hparams["n_head"])
    q, k, v = (last[name][0] for name in "qkv")
    return {"attend": (q.shape[1],), "attention": (q, k, v), "aim": (k,)}


# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
    "attend": {
        "the query scaled": "return softmax((q / math.sqrt(len(q))) @ k.T) @ v",
        "added by sum": """
            weights = softmax((k * q).sum(axis=1) / k.shape[1] ** 0.5)
            return (weights[:, None] * v).sum(axis=0)
            """,
        "by a loop": """
            scores = [np.dot(q, key) / len(q) ** 0.5 for key in k]
            weights = [np.exp(score - max(scores)) for score in scores]
            return sum(weight * value for weight, value in zip(weights, v)) / sum(weights)
            """,
        "one row of many": "return (softmax(q[None] @ k.T / len(q) ** 0.5) @ v)[0]",
    },
    "attention": {
        "the package's": "return gpt2.attention(q, k, v, gpt2.causal_mask(len(q), len(k)))",
        "a mask to add": """
            mask = np.triu(np.full((len(q), len(q)), -1e10, dtype=np.float32), k=1)
            return softmax(q @ k.T / math.sqrt(q.shape[-1]) + mask) @ v
            """,
        "exp by hand": """
            s = np.where(np.tri(len(q)), q @ k.T / q.shape[1] ** 0.5, np.float32(-np.inf))
            exps = np.exp(s - s.max(axis=1, keepdims=True))
            return exps / exps.sum(axis=1, keepdims=True) @ v
            """,
        "the lowest float32": """
            s = q @ k.T / q.shape[1] ** 0.5
            s[np.triu_indices(len(q), 1)] = np.finfo(np.float32).min
            return softmax(s) @ v
            """,
        "query by query": """
            d_head = q.shape[1]
            return np.array([softmax(k[:i + 1] @ q[i] / d_head**0.5) @ v[:i + 1] for i in range(len(q))])
            """,
        "by loops": """
            out = np.zeros_like(v)
            for i in range(len(q)):
                scores = [sum(q[i] * k[j]) / math.sqrt(q.shape[1]) for j in range(i + 1)]
                exps = [np.exp(score - max(scores)) for score in scores]
                for j in range(i + 1):
                    out[i] += exps[j] / sum(exps) * v[j]
            return out
            """,
    },
    "late_mask": {"a capital": "return 'C'", "as it stands": "return 'c)'"},
    "score_for_99": {
        "to two digits": "return 7.5",
        "computed": "return np.log(99 * 19)",
        "a whole number": "return 8",
        "the 99 alone, and the 20": "return math.log(100) + math.log(20)",
    },
    "look_back": {
        "other numbers": "return np.eye(n_seq, k=-1, dtype=int) * 1000, np.eye(n_seq, dtype=int)",
        "one array, the keys shifted": """
            q = np.eye(n_seq, n_seq + 1)
            return np.float32([40 * q, np.roll(q, 1, axis=1)])
            """,
        "points on a circle": """
            angles = 2 * np.pi * np.arange(n_seq) / n_seq
            k = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            return 1000 * np.roll(k, 1, axis=0), k
            """,
        "points on a parabola": """
            j = np.arange(n_seq)
            return [(20 * (i - 1), -10) for i in range(n_seq)], np.stack([j, j**2], axis=1)
            """,
    },
    "aim": {
        "by the products of the keys": """
            score = 100 * (np.arange(len(k)) == place)
            return np.linalg.solve(k @ k.T, score) @ k
            """,
        "least squares": """
            return np.linalg.lstsq(k, 100 * (np.arange(len(k)) == place), rcond=None)[0]
            """,
        "away from all others": """
            q = np.zeros(k.shape[1])
            for _ in range(3000):  # up the slope of the share, step by step
                w = softmax(k @ q / len(q) ** 0.5)
                q = q + k[place] - w @ k
            return q
            """,
    },
}

# ---- wrong answers: what a learner writes, and what must be said about it ----------------------------------

SCORES = "n, d = q.shape; s = q @ k.T / d**0.5; "

WRONG = {
    "attend": {
        "no scale": ("return softmax(k @ q) @ v", "not divided by √d_head"),
        "divided by d_head": ("return softmax(k @ q / len(q)) @ v", "divided by d_head, not by its root"),
        "divided by the root of n_k": ("return softmax(k @ q / len(k) ** 0.5) @ v", "it should be √d_head"),
        "multiplied": ("return softmax(k @ q * len(q) ** 0.5) @ v", "multiplied by √d_head: divide"),
        "divided after softmax": ("return softmax(k @ q) / len(q) ** 0.5 @ v", "before softmax"),
        "no softmax": ("return k @ q / len(q) ** 0.5 @ v", "softmax is missing"),
        "no softmax, no scale": ("return (k @ q) @ v", "softmax is missing"),
        "the scores": ("return k @ q / len(q) ** 0.5", "These are the scores"),
        "the bare scores": ("return np.array([key @ q for key in k])", "These are the scores"),
        "the weights": ("return softmax(k @ q / len(q) ** 0.5)", "These are the weights"),
        "not added up": ("return softmax(k @ q / len(q) ** 0.5)[:, None] * v", "not yet summed"),
        "the best alone": ("return v[np.argmax(k @ q)]", "every value counts, by its weight"),
        "all alike": ("return v.mean(axis=0)", "each should count by its weight"),
        "the keys": ("return softmax(k @ q / len(q) ** 0.5) @ k", "the values v, not the keys k"),
        "keys and values exchanged": ("return softmax(v @ q / len(q) ** 0.5) @ k", "k and v are swapped"),
        "not divided by the sum": ("return np.exp(k @ q / len(q) ** 0.5) @ v", "do not sum to one"),
        "exp without the largest": (
            "e = np.exp(k @ q / len(q) ** 0.5); return e / e.sum() @ v",
            "exp(200) is infinite in float32",
        ),
        "exp without the largest, in float64": (
            "e = np.exp((k @ q / len(q) ** 0.5).astype(float)); return (e / e.sum() @ v).astype(np.float32)",
            "exp(1000) in float64 too: use softmax, which subtracts the largest score first",
        ),
        "exp of the clipped": (
            "e = np.exp(np.clip(k @ q / len(q) ** 0.5, -80, 80)); return e / e.sum() @ v",
            "Large scores are cut off and count the same",
        ),
        "the last subtracted": (
            "s = k @ q / len(q) ** 0.5; e = np.exp(s - s[-1]); return e / e.sum() @ v",
            "which subtracts the largest score first",
        ),
        "the first subtracted": (
            "s = k @ q / len(q) ** 0.5; e = np.exp(s - s[0]); return e / e.sum() @ v",
            "which subtracts the largest score first",
        ),
        "the mean subtracted": (
            "s = k @ q / len(q) ** 0.5; e = np.exp(s - s.mean()); return e / e.sum() @ v",
            "which subtracts the largest score first",
        ),
        "the largest, or 0": (
            "s = k @ q / len(q) ** 0.5; e = np.exp(s - max(s.max(), 0)); return e / e.sum() @ v",
            "subtract the largest score first, also where it is below 0",
        ),
        "the largest without its sign": (
            "s = k @ q / len(q) ** 0.5; e = np.exp(s - abs(s).max()); return e / e.sum() @ v",
            "subtract the largest score first, also where it is below 0",
        ),
        "the notebook's d_head": (
            "return softmax(k @ q / 32 ** 0.5) @ v",
            "divided by √32, this model's d_head: take it from q",
        ),
        "minus the scores": ("return softmax(-(k @ q) / len(q) ** 0.5) @ v", "The sign is flipped"),
        "exp without the largest, by a loop": (
            """
            weights = [np.exp(np.dot(q, key) / len(q) ** 0.5) for key in k]
            return sum(weight * value for weight, value in zip(weights, v)) / sum(weights)
            """,
            "exp(200) is infinite in float32",
        ),
        "the mean of the weighted": (
            "return (softmax(k @ q / len(q) ** 0.5)[:, None] * v).mean(axis=0)",
            "averaged by their number as well",
        ),
        "summed along the values": (
            "return (softmax(k @ q / len(q) ** 0.5)[:, None] * v).sum(axis=1)",
            "over the wrong axis",
        ),
        "divided by the sum, no exp": (
            "s = k @ q / len(q) ** 0.5; return s / s.sum() @ v",
            "divided by their sum, without exp",
        ),
        "no sign": ("return softmax(abs(k @ q) / len(q) ** 0.5) @ v", "The sign of the scores is lost"),
        "scores with the values": (
            "return softmax(v @ q / len(q) ** 0.5) @ v",
            "these are products of q and v",
        ),
        "a row too many": (
            "return softmax(q[None] @ k.T / len(q) ** 0.5) @ v",
            "should be [3], but it is [1, 3]",
        ),
        "the keys turned": ("return softmax(k.T @ q / len(q) ** 0.5) @ v", "raised ValueError: matmul"),
        "in place": ("q /= len(q) ** 0.5; return softmax(k @ q) @ v", "changes its argument q"),
    },
    "attention": {
        "mask after softmax": (SCORES + "return np.tril(softmax(s)) @ v", "The mask comes after softmax"),
        "minus infinity after softmax": (
            SCORES + "w = softmax(s); w[np.triu_indices(n, 1)] = -np.inf; return w @ v",
            "The mask comes after softmax",
        ),
        "after softmax, divided again": (
            SCORES + "w = np.tril(softmax(s)); return w / w.sum(-1, keepdims=True) @ v",
            "a later key took everything, and nothing is left to divide",
        ),
        "after softmax, divided again, no NaN": (
            SCORES + "w = np.tril(softmax(s)); return np.nan_to_num(w / w.sum(-1, keepdims=True)) @ v",
            "a later key took everything, and nothing is left to divide",
        ),
        "after softmax, divided by a little more": (
            SCORES + "w = np.tril(softmax(s)); return w / (w.sum(-1, keepdims=True) + np.float32(1e-9)) @ v",
            "a later key took everything, and nothing is left to divide",
        ),
        "after exp, the largest of all keys": (
            SCORES + "e = np.tril(np.exp(s - s.max(-1, keepdims=True))); "
            "return e / e.sum(-1, keepdims=True) @ v",
            "a later key took everything, and nothing is left to divide",
        ),
        "exp without the largest": (
            SCORES + "e = np.tril(np.exp(s)); return e / e.sum(-1, keepdims=True) @ v",
            "exp(200) is infinite in float32",
        ),
        "after softmax, divided again, in float64": (
            """
            w = np.tril(softmax(q.astype(float) @ k.T / q.shape[1] ** 0.5))
            return (w / w.sum(-1, keepdims=True) @ v).astype(np.float32)
            """,
            "a later key took everything, and nothing is left to divide",
        ),
        "after softmax, divided again, row 0 by hand": (
            SCORES + "w = np.tril(softmax(s)); o = w / w.sum(-1, keepdims=True) @ v; o[0] = v[0]; return o",
            "a later key took everything, and nothing is left to divide",
        ),
        "after softmax, or itself": (
            SCORES + "w = np.tril(softmax(s)); t = w.sum(-1, keepdims=True); "
            "return np.where(t > 0, w / t, np.eye(n, dtype=s.dtype)) @ v",
            "a later key took everything, and nothing is left to divide",
        ),
        "exp without the largest, in float64": (
            """
            e = np.tril(np.exp(q.astype(float) @ k.T / q.shape[1] ** 0.5))
            return (e / e.sum(-1, keepdims=True) @ v).astype(np.float32)
            """,
            "exp(1000) in float64 too: use softmax",
        ),
        "exp of the clipped": (
            SCORES + "e = np.tril(np.exp(np.clip(s, -80, 80))); return e / e.sum(-1, keepdims=True) @ v",
            "Large scores are cut off and count the same",
        ),
        "the largest, or 0": (
            SCORES + "e = np.tril(np.exp(s - np.maximum(np.tril(s).max(-1, keepdims=True), 0))); "
            "return e / e.sum(-1, keepdims=True) @ v",
            "subtract the largest score first, also where it is below 0",
        ),
        "the notebook's d_head": (
            "s = q @ k.T / 32**0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "divided by √32, this model's d_head: take it from q",
        ),
        "minus the scores": (
            SCORES + "s = -s; s[np.triu_indices(n, 1)] = -np.inf; return softmax(s) @ v",
            "The sign is flipped",
        ),
        "exp without the largest, by loops": (
            """
            out = np.zeros_like(v)
            for i in range(len(q)):
                exps = [np.exp(sum(q[i] * k[j]) / math.sqrt(q.shape[1])) for j in range(i + 1)]
                for j in range(i + 1):
                    out[i] += exps[j] / sum(exps) * v[j]
            return out
            """,
            "exp(200) is infinite in float32",
        ),
        "the largest of all rows": (
            SCORES + "e = np.tril(np.exp(s - np.tril(s).max())); return e / e.sum(-1, keepdims=True) @ v",
            "take the largest of the row",
        ),
        "zeros masked": (
            SCORES + "s = np.tril(s); s[s == 0] = -np.inf; return softmax(s) @ v",
            "A score that is really 0 is masked too: decide by the position",
        ),
        "mask with -100": (
            SCORES + "s[np.triu_indices(n, 1)] = -100; return softmax(s) @ v",
            "Masked scores are a finite number",
        ),
        "mask with -1e4": (
            SCORES + "s[np.triu_indices(n, 1)] = -1e4; return softmax(s) @ v",
            "Masked scores are a finite number",
        ),
        "mask with -1e6": (
            SCORES + "s[np.triu_indices(n, 1)] = -1e6; return softmax(s) @ v",
            "Masked scores are a finite number",
        ),
        "-1e9 added": (
            SCORES + "return softmax(s + np.triu(np.full((n, n), np.float32(-1e9)), 1)) @ v",
            "Masked scores are a finite number",
        ),
        "-1e4 added": (
            SCORES + "return softmax(s + np.triu(np.full((n, n), np.float32(-1e4)), 1)) @ v",
            "Masked scores are a finite number",
        ),
        "-1e10 added after softmax": (
            SCORES + "return (softmax(s) + np.triu(np.full((n, n), np.float32(-1e10)), 1)) @ v",
            "The mask comes after softmax",
        ),
        "mask with 0": (SCORES + "return softmax(np.tril(s)) @ v", "exp(0) is 1: set them to -∞"),
        "mask with -10": (
            SCORES + "s[np.arange(n) > np.arange(n)[:, None]] = -10; return softmax(s) @ v",
            "exp(-10) still counts",
        ),
        "no mask": (SCORES + "return softmax(s) @ v", "There is no mask"),
        "not itself": (
            SCORES + "return softmax(np.where(np.tri(n, k=-1), s, np.float32(-np.inf))) @ v",
            "No token sees itself",
        ),
        "not itself, -1e9": (
            SCORES + "s[np.triu_indices(n)] = -1e9; return softmax(s) @ v",
            "No token sees itself",
        ),
        "not itself, by a loop": (
            """
            out = np.zeros_like(v)
            for i in range(1, len(q)):
                out[i] = softmax(k[:i] @ q[i] / q.shape[1] ** 0.5) @ v[:i]
            return out
            """,
            "No token sees itself",
        ),
        "the next too": (
            SCORES + "return softmax(np.where(np.tri(n, k=1), s, np.float32(-np.inf))) @ v",
            "sees the next one too",
        ),
        "upside down": (
            SCORES + "return softmax(np.where(np.tri(n), np.float32(-np.inf), s)) @ v",
            "The mask is upside down",
        ),
        "upside down, -1e10": (
            SCORES + "s[np.tri(n) > 0] = -1e10; return softmax(s) @ v",
            "The mask is upside down",
        ),
        "upside down, with itself": (
            SCORES + "s[np.tril_indices(n, -1)] = -np.inf; return softmax(s) @ v",
            "The mask is upside down",
        ),
        "no scale": (
            "s = q @ k.T; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "not divided by √d_head",
        ),
        "divided by d_head": (
            "s = q @ k.T / q.shape[1]; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "divided by d_head, not by its root",
        ),
        "divided by the root of n_seq": (
            "s = q @ k.T / len(q) ** 0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "the number of tokens: it should be √d_head",
        ),
        "multiplied": (
            "s = q @ k.T * q.shape[1]**0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "multiplied by √d_head: divide",
        ),
        "the weights turned": (
            SCORES + "s[np.triu_indices(n, 1)] = -np.inf; return softmax(s).T @ v",
            "The weights are transposed",
        ),
        "queries with themselves": (
            "s = q @ q.T / q.shape[1]**0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "these are of q with itself",
        ),
        "scores with the values": (
            "s = q @ v.T / q.shape[1]**0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "these are products of q and v",
        ),
        "softmax down the columns": (
            SCORES + "e = np.tril(np.exp(s)); return e / e.sum(axis=0) @ v",
            "softmax goes down the columns",
        ),
        "softmax of all rows": (
            SCORES + "e = np.tril(np.exp(s)); return e / e.sum() @ v",
            "softmax goes over all rows at once",
        ),
        "no keepdims": (SCORES + "e = np.tril(np.exp(s)); return e / e.sum(axis=1) @ v", "keepdims=True"),
        "transposed": (
            "s = k @ q.T / q.shape[1] ** 0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ v",
            "The scores are transposed",
        ),
        "the weights": (
            SCORES + "s[np.triu_indices(n, 1)] = -np.inf; return softmax(s)",
            "These are the weights",
        ),
        "no softmax": (SCORES + "return np.tril(s) @ v", "softmax is missing"),
        "the keys": (SCORES + "s[np.triu_indices(n, 1)] = -np.inf; return softmax(s) @ k", "not the keys k"),
        "keys and values exchanged": (
            "s = q @ v.T / q.shape[1] ** 0.5; s[np.triu_indices(len(q), 1)] = -np.inf; return softmax(s) @ k",
            "k and v are swapped",
        ),
        "not divided by the sum": (SCORES + "return np.tril(np.exp(s)) @ v", "do not sum to one"),
        "0 times infinity": (
            SCORES + "sees = np.tri(n); return softmax(s * sees - np.inf * (1 - sees)) @ v",
            "The result has NaN in it: 0 / 0, 0 * inf",
        ),
        "the last row": (
            "return softmax(k @ q[-1] / q.shape[1] ** 0.5) @ v",
            "should be [3, 2], but it is [2]",
        ),
        "the values": ("return v", "That is v, unchanged"),
        "in place": ("q /= q.shape[1] ** 0.5; return softmax(q @ k.T) @ v", "changes its argument q"),
    },
    "late_mask": {
        "always the same": ("return 'a'", "a) is false. A token whose own score is 0"),
        "the last row": ("return 'b'", "b) is false. Nothing comes after the last token"),
        "an influence": ("return 'd'", "d) is false. On paper, dividing again cancels"),
        "another letter": ("return 'e'", "one of the letters a, b, c, d"),
        "the sentence": ("return 'On paper it is the same'", "one of the letters a, b, c, d"),
        "a place": ("return 2", "one of the letters a, b, c, d; it returned 2"),
        "no return": ("'c'", "it returned None"),
    },
    "score_for_99": {
        "the share": ("return 0.99", "too low, by more than a factor of 1.1. Each of the 19 others"),
        "96 % of the attention": ("return 6.05", "together they get more than 1 %"),
        "one other": ("return math.log(99)", "too low"),
        "99 times in all": ("return 99", "too high, by more than a factor of 1.1. It would be enough"),
        "before the division": ("return 7.54 * 20**0.5", "too high"),
        "in powers of two": ("return np.log2(99 * 19)", "too high"),
        "below zero": ("return -7.5", "Return a positive number"),
        "a word": ("return 'seven'", "Return a positive number"),
        "no return": ("7.5", "it returned None"),
    },
    "look_back": {
        "at itself": (
            "return 100 * np.eye(n_seq), np.eye(n_seq)",
            "Token 1 looks at itself: its query should match the key of token 0, not its own",
        ),
        "too soft": (
            "return np.eye(n_seq, k=-1), np.eye(n_seq)",
            "Token 1 looks most at the one before it, but only 0.6405: make its score larger",
        ),
        "strong enough without the root": (
            "return 5 * np.eye(n_seq, k=-1), np.eye(n_seq)",
            "but only 0.9472: make its score larger",
        ),
        "nearly": (
            "return 7.75 * np.eye(n_seq, k=-1), np.eye(n_seq)",
            "but only 0.9887: make its score larger",
        ),
        "too soft for five": ("return 10 * np.eye(n_seq, k=-1), np.eye(n_seq)", "make its score larger"),
        "too soft for twenty": ("return 14 * np.eye(n_seq, k=-1), np.eye(n_seq)", "make its score larger"),
        "not for two": (
            "return 100 * np.eye(n_seq, k=-1) / (n_seq - 2), np.eye(n_seq)",
            "large, not infinite",
        ),
        "at the next": (
            "return 100 * np.eye(n_seq, k=1), np.eye(n_seq)",
            "Token 1 looks for token 2, which comes later",
        ),
        "at the next, rolled": (
            "k = 100 * np.eye(n_seq); return np.roll(k, 1, axis=1), k",
            "which comes later and is masked: its query should match the key of token 0",
        ),
        "q and k exchanged": ("return np.eye(n_seq), 100 * np.eye(n_seq, k=-1)", "comes later and is masked"),
        "at the first": ("return np.full((n_seq, 1), 50), np.eye(n_seq, 1)", "Token 2 looks at token 0"),
        "two back": (
            "k = np.eye(n_seq); return 99 * k[np.maximum(np.arange(n_seq) - 2, 0)], k",
            "Token 2 looks at token 0",
        ),
        "at all": ("return np.zeros((n_seq, 4)), np.eye(n_seq, 4)", "Token 1 looks at all keys equally"),
        "more than float32 holds": ("return 1e39 * np.eye(n_seq, k=-1), np.eye(n_seq)", "not infinite"),
        "infinite": ("return np.inf * np.eye(n_seq, k=-1), np.eye(n_seq)", "large, not infinite"),
        "one array": ("return np.eye(n_seq)", "but it returned array"),
        "three arrays": ("return np.eye(n_seq), np.eye(n_seq), np.eye(n_seq)", "It should return two arrays"),
        "five tokens": (
            "return 100 * np.eye(5, k=-1), np.eye(5)",
            "For 3 tokens q and k should both be [3, d_head]",
        ),
        "of two widths": ("return np.eye(n_seq), np.eye(n_seq, 2)", "they are [3, 3] and [3, 2]"),
        "nothing": ("np.eye(n_seq)", "but it returned None"),
    },
    "aim": {
        "the key": ("return k[place]", "matches place 1 better than place 0, and place 0 gets 0.24"),
        "the key, large": ("return 1000 * k[place]", "choose the scores of all keys, not only of this one"),
        "the key, of length one": (
            "return 1000 * k[place] / np.linalg.norm(k[place])",
            "matches place 1 better than place 0",
        ),
        "without what the keys have in common": (
            "return 1000 * (k - k.mean(axis=0))[place]",
            "matches place 1 better than place 0",
        ),
        "away from the others": (
            "return 1000 * (k[place] - np.delete(k, place, axis=0).mean(axis=0))",
            "matches place 1 better than place 0",
        ),
        "too small": ("return np.linalg.pinv(k)[:, place]", "place 0 best, but place 0 gets 0.47"),
        "without the root": ("return 2.5 * np.linalg.pinv(k)[:, place]", "make the query larger"),
        "the other way": ("return -100 * np.linalg.pinv(k)[:, place]", "is a sign wrong?"),
        "a row of the inverse": ("return 100 * np.linalg.pinv(k)[place]", "better than place"),
        "zeros": ("return np.zeros(k.shape[1])", "All keys get the same score"),
        "one number for each key": ("return np.eye(len(k), len(k) + 1)[place]", "here [3], but it is [4]"),
        "all keys": ("return 100 * k", "here [3], but it is [3, 3]"),
        "infinite": ("return np.inf * k[place]", "large, not infinite"),
        "always place 0": ("return 100 * np.linalg.pinv(k)[:, 0]", "matches place 0 better than place 1"),
        "in place": ("k -= k.mean(axis=0); return 1000 * k[place]", "changes its argument k"),
        "solve, as if square": (
            "return np.linalg.solve(k, 100.0 * (np.arange(len(k)) == place))",
            "k has more numbers than tokens, and solve and inv need as many: try np.linalg.pinv",
        ),
        "inv, as if square": ("return 100 * np.linalg.inv(k)[:, place]", "try np.linalg.pinv"),
        "nothing": ("k[place]", "It returned None"),
    },
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("attend", "no scale", "q         [3]"),
    ("attention", "no mask", "q         [3, 2]"),
    ("look_back", "at itself", "weights of token 1  [2]  [0. 1.]"),
    ("look_back", "at the first", "weights of token 2  [3]  [1. 0. 0.]"),
    ("attention", "after softmax, divided again", "q         [2, 1]"),
    ("attention", "mask with -100", "q         [2, 1]"),
    ("aim", "the key", "k         [3, 3]"),
]
