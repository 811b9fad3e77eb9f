"""The checks of notebook 05: split and merged heads, the induction head, and what is left without it."""

import numpy as np

from extras import inside
from tools import heads

OF_ARRAYS = ["merge_heads"]  # what these checks compare


def given_to_checks(prompt, encoder, hparams, params):  # -> {name: arguments}
    """What the notebook gives to a check besides the answer."""
    n_head = hparams["n_head"]
    ids, again = encoder.encode(prompt), heads.twice(hparams["n_vocab"], 25, 8)
    maps, maps_again = (
        np.array(list(inside.attention_maps(i, **params, n_head=n_head))) for i in (ids, again)
    )
    return {
        "induction_scores": (maps_again.mean(axis=1),),
        "loss_without_them": (params, n_head),
        "past_the_first": (maps,),
    }


# ---- right answers, written in other ways ------------------------------------------------------------------

RIGHT = {
    "split_heads": {
        "the package's": "return gpt2.split_heads(x, n_head)",
        "by split and stack": "return np.stack(np.split(x, n_head, axis=1))",
        "by slices": """
            d = x.shape[1] // n_head
            return np.array([x[:, h * d : (h + 1) * d] for h in range(n_head)])
            """,
        "by einsum": "return np.einsum('shd->hsd', x.reshape(len(x), n_head, -1))",
        "from the transpose": "return x.T.reshape(n_head, -1, len(x)).swapaxes(1, 2)",
    },
    "merge_heads": {
        "the package's": "return gpt2.merge_heads(x)",
        "by concatenate": "return np.concatenate(list(x), axis=1)",
        "by hstack": "return np.hstack(x)",
        "by loops": """
            n_head, n_seq, d = x.shape
            out = np.zeros((n_seq, n_head * d), dtype=x.dtype)
            for h in range(n_head):
                out[:, h * d : (h + 1) * d] = x[h]
            return out
            """,
    },
    "induction_scores": {
        "by indices": """
            n = maps.shape[-1] // 2
            i = np.arange(n, 2 * n)
            return maps[:, :, i, i - n + 1].mean(-1)
            """,
        "by loops": """
            n_layer, n_head, n_seq, _ = maps.shape
            n, scores = n_seq // 2, np.zeros((n_layer, n_head), dtype=np.float32)
            for layer in range(n_layer):
                for head in range(n_head):
                    scores[layer, head] = np.mean([maps[layer, head, n + i, i + 1] for i in range(n)])
            return scores
            """,
        "by trace": """
            n = maps.shape[-1] // 2
            return np.trace(maps[..., n:, 1:n + 1], axis1=-2, axis2=-1) / n
            """,
    },
    "cut_head": {
        "by a mask": """
            keep = np.arange(len(w)) // d_head != head
            return np.where(keep[:, None], w, np.float32(0))
            """,
        "by concatenate": """
            none = np.zeros_like(w[:d_head])
            return np.concatenate([w[:head * d_head], none, w[(head + 1) * d_head:]])
            """,
        "by reshape": """
            heads = w.reshape(-1, d_head, w.shape[1]).copy()
            heads[head] = 0
            return heads.reshape(w.shape)
            """,
    },
    "what_was_lost": {"a capital": "return 'C'", "with its bracket": "return 'c)'"},
    "loss_without_them": {
        "minus the log of the share": "return -np.log(1 / n_vocab)",
        "from log2": "return math.log2(n_vocab) * math.log(2)",
        "as a loss": "return -np.log(softmax(np.zeros(n_vocab)))[0]",
    },
    "past_the_first": {
        "by divide": """
            rest = np.array(maps)
            rest[:, :, :, 0] = 0
            total = rest.sum(-1, keepdims=True)
            return np.divide(rest, total, out=np.zeros_like(rest), where=total != 0)
            """,
        "by nan_to_num": """
            rest = maps * (np.arange(maps.shape[-1]) > 0).astype(maps.dtype)
            return np.nan_to_num(rest / rest.sum(axis=-1, keepdims=True))
            """,
        "all rows but the first": """
            rest = np.zeros_like(maps)
            rest[..., 1:, 1:] = maps[..., 1:, 1:] / maps[..., 1:, 1:].sum(axis=-1, keepdims=True)
            return rest
            """,
    },
}

# ---- wrong answers: what a learner writes, and what must be said about it ----------------------------------

HALF = "n = maps.shape[-1] // 2; "
REST = "r = maps.copy(); r[..., 0] = 0; "

WRONG = {
    "split_heads": {
        "reshape alone": ("return x.reshape(n_head, len(x), -1)", "That is reshape alone"),
        "not swapped": ("return x.reshape(len(x), n_head, -1)", "the heads should come first"),
        "every n-th": (
            "return x.reshape(len(x), -1, n_head).transpose(2, 0, 1)",
            "side by side, not every n_head-th",
        ),
        "every n-th, sliced": (
            "return np.array([x[:, h::n_head] for h in range(n_head)])",
            "side by side, not every n_head-th",
        ),
        "cut along the tokens": ("return np.array_split(x, n_head)", "It returned a list of 2 arrays"),
        "a list": ("return np.split(x, n_head, axis=1)", "It returned a list of 2 arrays"),
        "a tuple": ("return tuple(np.split(x, n_head, axis=1))", "It returned a tuple of 2 arrays"),
        "tokens last": (
            "return x.T.reshape(n_head, -1, len(x))",
            "The tokens and the numbers are swapped",
        ),
        "tokens last, transposed": (
            "return x.reshape(len(x), n_head, -1).transpose(1, 2, 0)",
            "The tokens and the numbers are swapped",
        ),
        "the transpose, cut": ("return x.T.reshape(n_head, len(x), -1)", "different tokens are mixed"),
        "the reverse": ("return gpt2.split_heads(x, n_head)[::-1]", "in the reverse order"),
        "the first part for all": (
            "d = x.shape[1] // n_head; return np.array([x[:, :d] for h in range(n_head)])",
            "head h begins at number h * d_head",
        ),
        "one head": ("return x[:, :x.shape[1] // n_head]", "That is one head alone"),
        "unchanged": ("return x", "That is x, unchanged"),
        "d_head and n_head confused": (
            "return x.reshape(len(x), x.shape[1] // n_head, n_head).swapaxes(0, 1)",
            "The shape should be [2, 4, 3], but it is [3, 4, 2]",
        ),
        "true division": (
            "return x.reshape(len(x), n_head, x.shape[1] / n_head)",
            "raised TypeError",
        ),
        "in float64": ("return gpt2.split_heads(x, n_head).astype(float)", "in float64"),
        "in place": ("x *= 2; return gpt2.split_heads(x, n_head)", "changes its argument x"),
    },
    "merge_heads": {
        "reshape alone": ("return x.reshape(x.shape[1], -1)", "That is reshape alone"),
        "not joined": ("return x.swapaxes(0, 1)", "not yet joined"),
        "taking turns": (
            "return x.transpose(1, 2, 0).reshape(x.shape[1], -1)",
            "The numbers of the heads take turns",
        ),
        "taking turns, stacked": (
            "return np.stack(x, axis=-1).reshape(x.shape[1], -1)",
            "The numbers of the heads take turns",
        ),
        "one below the other": ("return np.concatenate(x)", "one below the other"),
        "one below the other, vstack": ("return np.vstack(x)", "one below the other"),
        "added": ("return x.sum(axis=0)", "The heads are added up"),
        "mean": ("return x.mean(axis=0)", "The heads are added up"),
        "transposed": ("return gpt2.merge_heads(x).T", "numbers and tokens are swapped"),
        "the wrong axes": (
            "return x.transpose(2, 0, 1).reshape(x.shape[1], -1)",
            "different tokens are mixed",
        ),
        "the last two axes": (
            "return np.swapaxes(x, 1, 2).reshape(x.shape[1], -1)",
            "different tokens are mixed",
        ),
        "the reverse": ("return gpt2.merge_heads(x[::-1])", "in the reverse order"),
        "unchanged": ("return x", "That is x, unchanged"),
        "a list": ("return list(gpt2.merge_heads(x))", "It returned a list of 4 arrays"),
        "flat": ("return x.ravel()", "The shape should be [4, 6], but it is [24]"),
        "in place": ("x *= 2; return gpt2.merge_heads(x)", "changes its argument x"),
    },
    "induction_scores": {
        "the copy of the token itself": (
            HALF + "return np.diagonal(maps, -n, axis1=-2, axis2=-1).mean(-1)",
            "the copy of the token itself",
        ),
        "the token before": (
            HALF + "return np.diagonal(maps, -n - 1, axis1=-2, axis2=-1).mean(-1)",
            "the token before the earlier copy",
        ),
        "the whole diagonal": (
            HALF + "return np.diagonal(maps, 1 - n, axis1=-2, axis2=-1).mean(-1)",
            "One query too many",
        ),
        "the whole diagonal, over n": (
            HALF + "return np.diagonal(maps, 1 - n, axis1=-2, axis2=-1).sum(-1) / n",
            "One query too many",
        ),
        "over all queries": (
            HALF + "return np.diagonal(maps, 1 - n, axis1=-2, axis2=-1)[..., 1:].sum(-1) / (2 * n)",
            "The first copy is averaged in",
        ),
        "over all queries, by indices": (
            HALF + "i = np.arange(2 * n); return maps[..., i, i - n + 1].mean(-1)",
            "The first copy is averaged in",
        ),
        "the first copy": (
            HALF + "i = np.arange(n); return maps[..., i, i - n + 1].mean(-1)",
            "the queries of the first copy",
        ),
        "without the last": (
            HALF + "i = np.arange(n, 2 * n - 1); return maps[..., i, i - n + 1].mean(-1)",
            "The last query of the second copy",
        ),
        "without the first": (
            HALF + "i = np.arange(n + 1, 2 * n); return maps[..., i, i - n + 1].mean(-1)",
            "The first query of the second copy",
        ),
        "the previous token": (
            "return np.diagonal(maps, -1, axis1=-2, axis2=-1).mean(-1)",
            "the previous token",
        ),
        "above the diagonal": (
            HALF + "return np.diagonal(maps, n - 1, axis1=-2, axis2=-1)[..., 1:].mean(-1)",
            "Rows and columns are swapped",
        ),
        "swapped": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i - n + 1, i].mean(-1)",
            "Rows and columns are swapped",
        ),
        "n for the whole": (
            "n = maps.shape[-1]; return np.diagonal(maps, 1 - n, axis1=-2, axis2=-1).mean(-1)",
            "n is half of the n_seq tokens",
        ),
        "sum": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i, i - n + 1].sum(-1)",
            "divide by their number, n",
        ),
        "largest": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i, i - n + 1].max(-1)",
            "the mean over the n queries",
        ),
        "not averaged": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i, i - n + 1]",
            "These are the weights of every query",
        ),
        "one number": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i, i - n + 1].mean()",
            "All heads are averaged into one number",
        ),
        "a number a layer": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i, i - n + 1].mean(axis=(1, 2))",
            "or the heads of a layer, are averaged",
        ),
        "over the layers": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i, i - n + 1].mean(axis=(0, 2))",
            "The layers, or the heads of a layer, are averaged",
        ),
        "the best": (
            HALF + "i = np.arange(n, 2 * n); s = maps[..., i, i - n + 1].mean(-1); "
            "return np.unravel_index(s.argmax(), s.shape)",
            "return all the scores",
        ),
        "the mean of all": ("return maps.mean(axis=(-2, -1))", "the mean over all pairs"),
        "the default axes": (
            HALF + "return np.diagonal(maps, 1 - n)[..., 1:].mean(-1)",
            "The shape should be [1, 1]",
        ),
        "in float64": (
            HALF + "i = np.arange(n, 2 * n); return maps[..., i, i - n + 1].astype(float).mean(-1)",
            "in float64",
        ),
        "in place": ("maps[..., 0] = 0; return maps.mean(axis=(-2, -1))", "changes its argument maps"),
        "a column fixed": (
            HALF + "return maps[..., n:, 1].mean(-1)",
            "takes pairs",
        ),
        "a block": (
            HALF + "return maps[..., n:, 1:n + 1].mean((-2, -1))",
            "the mean over all pairs",
        ),
        "the notebook's n": (
            "n = 25; i = np.arange(n, 2 * n); return maps[:, :, i, i - n + 1].mean(-1)",
            "raised IndexError",
        ),
    },
    "cut_head": {
        "columns": (
            "w = w.copy(); w[:, head * d_head:(head + 1) * d_head] = 0; return w",
            "Those are columns",
        ),
        "in place": ("w[head * d_head:(head + 1) * d_head] = 0; return w", "changes its argument w"),
        "one row": ("w = w.copy(); w[head] = 0; return w", "The rows begin at number head"),
        "from head on": (
            "w = w.copy(); w[head:head + d_head] = 0; return w",
            "The rows begin at number head",
        ),
        "one too few": (
            "w = w.copy(); w[head * d_head:(head + 1) * d_head - 1] = 0; return w",
            "One row of the head is left",
        ),
        "one too many": (
            "w = w.copy(); w[head * d_head:(head + 1) * d_head + 1] = 0; return w",
            "One row too many",
        ),
        "the others": (
            "n = np.zeros_like(w); i = slice(head * d_head, (head + 1) * d_head); n[i] = w[i]; return n",
            "Everything but this head is cut",
        ),
        "all from there": ("w = w.copy(); w[head * d_head:] = 0; return w", "All heads from this one on"),
        "all before": (
            "w = w.copy(); w[:(head + 1) * d_head] = 0; return w",
            "All heads before this one are cut too",
        ),
        "deleted": (
            "return np.delete(w, range(head * d_head, (head + 1) * d_head), axis=0)",
            "The rows are taken out",
        ),
        "the rows themselves": (
            "return w[head * d_head:(head + 1) * d_head]",
            "return the whole matrix",
        ),
        "every n-th": (
            "w = w.copy(); w[head::len(w) // d_head] = 0; return w",
            "stand side by side",
        ),
        "nothing": ("return w", "That is w, unchanged"),
        "all": ("return np.zeros_like(w)", "All numbers are 0"),
        "the sizes confused": (
            "n = len(w) // d_head; w = w.copy(); w[head * n:(head + 1) * n] = 0; return w",
            "but n_head rows are cut",
        ),
        "one behind": (
            "w = w.copy(); w[(head - 1) * d_head:head * d_head] = 0; return w",
            "heads are counted from 0",
        ),
        "nearly 0": (
            "w = w.copy(); w[head * d_head:(head + 1) * d_head] = 1e-5; return w",
            "exactly 0",
        ),
        "very nearly 0": (
            "w = w.copy(); w[head * d_head:(head + 1) * d_head] *= 1e-9; return w",
            "exactly 0",
        ),
        "in float64": (
            "w = w.astype(float); w[head * d_head:(head + 1) * d_head] = 0; return w",
            "in float64",
        ),
    },
    "what_was_lost": {
        "softmax": ("return 'a'", "a) is false. Softmax is taken over the keys of one head"),
        "queries": ("return 'b'", "b) is false. A token's own vector says which token it is"),
        "values": ("return 'd'", "d) is false. The score says where a head looks"),
        "none of them": ("return 'e'", "one of the letters a, b, c, d"),
        "a number": ("return 3", "one of the letters a, b, c, d"),
        "a sentence": ("return 'its keys'", "one of the letters a, b, c, d"),
    },
    "loss_without_them": {
        "nothing changes": ("return 1.3", "too low"),
        "the sum of single cuts": ("return 1.34 + 2.39 + 0.45 + 0.62 + 0.71", "something must find it"),
        "in bits": ("return math.log2(n_vocab)", "Loss is a natural logarithm"),
        "in tens": ("return math.log10(n_vocab)", "too low"),
        "the perplexity": ("return n_vocab", "which costs ln n_vocab"),
        "the probability": ("return 1 / n_vocab", "too low"),
        "minus": ("return math.log(1 / n_vocab)", "Return a positive number of nats a token"),
        "half": ("return math.log(n_vocab) / 2", "too low"),
        "nothing": ("return None", "Return a positive number of nats a token"),
        "infinity": ("return np.inf", "Return a positive number of nats a token"),
        "this model's": ("return 8.29", "For a model of 10 tokens: 8.29 nats a token is too high"),
        "a round number": ("return 9", "For a model of 10 tokens"),
        "a root": ("return n_vocab ** .25", "For a model of 100 tokens"),
        "digits": ("return len(str(n_vocab)) * 2", "For a model of 10 tokens"),
        "two nats more": ("return math.log(n_vocab) + 2", "For a model of 10 tokens"),
        "the notebook's size": ("return math.log(4000)", "For a model of 10 tokens"),
    },
    "past_the_first": {
        "not divided": (REST + "return r", "the rows no longer sum to one"),
        "divided before": (
            "r = maps / maps.sum(-1, keepdims=True); r[..., 0] = 0; return r",
            "the rows no longer sum to one",
        ),
        "0 / 0": (REST + "return r / r.sum(-1, keepdims=True)", "Row 0 is NaN"),
        "row 0 kept": (
            REST + "r[..., 0, 0] = 1; return r / r.sum(-1, keepdims=True)",
            "Row 0 saw only token 0",
        ),
        "row 0 evenly": (
            REST + "r[..., 0, :] = 1; return r / r.sum(-1, keepdims=True)",
            "Row 0 saw only token 0",
        ),
        "by 1 - the first": (
            REST + "left = 1 - maps[..., :1]; return r / np.where(left > 0, left, 1)",
            "0 in float32 where nearly all went there",
        ),
        "by 1 - the first, a floor": (
            REST + "return r / np.maximum(1 - maps[..., :1], 1e-9)",
            "0 in float32 where nearly all went there",
        ),
        "a column less": (
            "r = maps[..., 1:]; return np.nan_to_num(r / r.sum(-1, keepdims=True))",
            "keeps its shape",
        ),
        "a row and a column less": (
            "r = maps[..., 1:, 1:]; return r / r.sum(-1, keepdims=True)",
            "keeps its shape",
        ),
        "row 0 in its place": ("r = maps.copy(); r[..., 0, :] = 0; return r", "That is row 0"),
        "the columns' sums": (
            REST + "return np.nan_to_num(r / r.sum(-2, keepdims=True))",
            "these are the columns' sums",
        ),
        "one number": (REST + "return r / r.sum()", "All rows are divided by one number"),
        "the largest is 1": (
            REST + "return np.nan_to_num(r / r.max(-1, keepdims=True))",
            "The largest of each row is 1",
        ),
        "multiplied": (REST + "return r * (1 - maps[..., :1])", "divide by it"),
        "softmax again": (REST + "return softmax(r)", "That is softmax of the weights"),
        "no keepdims": (REST + "return np.nan_to_num(r / r.sum(-1))", "axis=-1 with keepdims"),
        "in place": (
            "maps[..., 0] = 0; t = maps.sum(-1, keepdims=True); return maps / np.where(t > 0, t, 1)",
            "changes its argument maps",
        ),
        "unchanged": ("return maps", "That is maps, unchanged"),
        "a first column that is nearly 0": (
            REST + "r[..., 0] = 1e-9; return r / r.sum(-1, keepdims=True) * (r > 1e-8) + 1e-9",
            "exactly 0",
        ),
        "the first head alone": (
            REST + "r = r[0, 0]; return np.nan_to_num(r / r.sum(-1, keepdims=True))",
            "The shape should be",
        ),
        "a small number added": (
            REST + "return r / (r.sum(-1, keepdims=True) + 1e-9)",
            "replace only a sum that is 0",
        ),
        "a floor": (
            REST + "return r / np.maximum(r.sum(-1, keepdims=True), 1e-6)",
            "replace only a sum that is 0",
        ),
        "a lower floor": (
            REST + "return r / np.maximum(r.sum(-1, keepdims=True), 1e-9)",
            "replace only a sum that is 0",
        ),
        "a floor of 1e-12": (
            REST + "return r / np.maximum(r.sum(-1, keepdims=True), 1e-12)",
            "replace only a sum that is 0",
        ),
        "1e-15 added": (
            REST + "return r / (r.sum(-1, keepdims=True) + 1e-15)",
            "replace only a sum that is 0",
        ),
        "above a threshold": (
            REST + "t = r.sum(-1, keepdims=True); return r / np.where(t > 1e-6, t, 1)",
            "replace only a sum that is 0",
        ),
        "in float64": (
            REST + "t = r.sum(-1, keepdims=True).astype(float); return r / np.where(t > 0, t, 1)",
            "in float64",
        ),
    },
}

# what is shown of the first case that fails
FIRST_SHOWN = [
    ("split_heads", "reshape alone", "x         [4, 6]"),
    ("merge_heads", "reshape alone", "x         [2, 4, 3]"),
    ("induction_scores", "the copy of the token itself", "maps      [1, 1, 6, 6]"),
    ("cut_head", "columns", "w         [6, 6]"),
    ("past_the_first", "not divided", "maps      [1, 1, 3, 3]"),
]
