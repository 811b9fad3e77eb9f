"""The checks of notebook 04: one query, all queries, and a head that looks back by one."""

# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
    "attend": {
        "the query scaled": "return softmax((q / math.sqrt(len(q))) @ k.T) @ v",
        "added by sum": """
            weights = softmax((k * q).sum(axis=1) / k.shape[1] ** 0.5)
            return (weights[:, None] * v).sum(axis=0)
            """,
        "by a loop": """
            weights = [np.exp(np.dot(q, key) / len(q) ** 0.5) for key in k]
            return sum(weight * value for weight, value in zip(weights, v)) / sum(weights)
            """,
    },
    "attention": {
        "the package's": "return gpt2.attention(q, k, v, gpt2.causal_mask(len(q), len(k)))",
        "a mask to add": """
            mask = np.triu(np.full((len(q), len(q)), -1e10, dtype=np.float32), k=1)
            return softmax(q @ k.T / math.sqrt(q.shape[-1]) + mask) @ v
            """,
        "masked after exp": """
            exps = np.tril(np.exp(q @ k.T / q.shape[1] ** 0.5))
            return exps / exps.sum(axis=1, keepdims=True) @ v
            """,
        "query by query": """
            d_head = q.shape[1]
            return np.array([softmax(k[:i + 1] @ q[i] / d_head**0.5) @ v[:i + 1] for i in range(len(q))])
            """,
        "by loops": """
            out = np.zeros_like(v)
            for i in range(len(q)):
                exps = [np.exp(sum(q[i] * k[j]) / math.sqrt(q.shape[1])) for j in range(i + 1)]
                for j in range(i + 1):
                    out[i] += exps[j] / sum(exps) * v[j]
            return out
            """,
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
        "infinite": ("return np.inf * np.eye(n_seq, k=-1), np.eye(n_seq)", "large, not infinite"),
        "one array": ("return np.eye(n_seq)", "but it returned array"),
        "three arrays": ("return np.eye(n_seq), np.eye(n_seq), np.eye(n_seq)", "It should return two arrays"),
        "five tokens": (
            "return 100 * np.eye(5, k=-1), np.eye(5)",
            "For 3 tokens q and k should both be [3, d_head]",
        ),
        "of two widths": ("return np.eye(n_seq), np.eye(n_seq, 2)", "they are [3, 3] and [3, 2]"),
    },
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("attend", "no scale", "q         [3]"),
    ("attention", "no mask", "q         [3, 2]"),
    ("look_back", "at itself", "weights of token 1  [2]  [0. 1.]"),
    ("look_back", "at the first", "weights of token 2  [3]  [1. 0. 0.]"),
]
