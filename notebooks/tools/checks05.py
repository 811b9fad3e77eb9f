"""The checks of notebook 05: split and merged heads, the induction head, and what is left without it."""

import numpy as np

import gpt2
from extras import inside, scoring
from tools import heads
from tools.judging import NotYet, check, choose, compare, estimate, float32

# ---- split and merge ---------------------------------------------------------------------------------------

# n_seq, n_head, d_head: all different, so that no two axes can be taken for each other; then others
SIZES = ((4, 2, 3), (1, 3, 2), (3, 1, 4), (2, 5, 5), (7, 4, 6))


def one_array(f):  # -> f, which may not return a list of arrays
    """A list of heads would be compared as if it were an array, and fail only in the model."""

    def checked(*given):
        got = f(*given)
        if isinstance(got, (list, tuple)) and any(isinstance(part, np.ndarray) for part in got):
            raise NotYet(
                f"It returned a {type(got).__name__} of {len(got)} arrays: np.array(...) makes one of them."
            )
        return got

    return checked


def numbered(*shape):  # -> float32, 1 2 3 ...
    """Numbers that show where each came from."""
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def slow_split(x, n_head):  # [n_seq, n_embd] -> [n_head, n_seq, d_head]
    """Number by number."""
    d_head = x.shape[1] // n_head
    parts = np.empty((n_head, len(x), d_head), dtype=x.dtype)
    for head, token, number in np.ndindex(parts.shape):
        parts[head, token, number] = x[token, head * d_head + number]
    return parts


@check
def split_heads(f):
    """f(x, n_head): [n_seq, n_embd] -> [n_head, n_seq, d_head]."""
    cases = []
    for n_seq, n_head, d_head in SIZES:
        x = numbered(n_seq, n_head * d_head)
        right = slow_split(x, n_head)
        traps = {
            "That is reshape alone: it cuts the table of numbers in reading order, so that a head gets whole "
            "tokens, not a part of each. Cut each row first, [n_seq, n_head, d_head], then swap two axes.": (
                x.reshape(n_head, n_seq, d_head)
            ),
            "That is [n_seq, n_head, d_head]: each row is cut, but the heads should come first. Swap the "
            "first two axes.": x.reshape(n_seq, n_head, d_head),
            "A head should get d_head numbers that stand side by side, not every n_head-th: the row is cut "
            "as [d_head, n_head], and should be as [n_head, d_head].": [
                np.moveaxis(x.reshape(n_seq, d_head, n_head), -1, 0),
                x.T.reshape(d_head, n_head, n_seq).transpose(1, 2, 0),
            ],
            "The tokens and the numbers are swapped: each head should be [n_seq, d_head].": (
                [np.swapaxes(right, 1, 2), x.T.reshape(n_head, d_head, n_seq)]
            ),
            "The result has the right shape, but the numbers of different tokens are mixed: cut each row, "
            "then swap axes; reshape does not swap.": [
                order.reshape(n_head, n_seq, d_head)
                for order in (
                    x.T,
                    x.reshape(n_seq, n_head, d_head).transpose(2, 1, 0),
                    right.transpose(1, 2, 0),
                )
            ],
            "The heads are in the reverse order.": right[::-1],
            "Every head gets the first numbers: head h begins at number h * d_head.": (
                np.array([right[0]] * n_head)
            ),
            "That is one head alone: all of them are asked for.": [*right],
        }
        cases.append(({"x": x, "n_head": n_head}, right, traps))
    compare(one_array(f), cases)


@check
def merge_heads(f):
    """f(x): [n_head, n_seq, d_head] -> [n_seq, n_embd]."""
    cases = []
    for n_seq, n_head, d_head in SIZES:
        x = numbered(n_head, n_seq, d_head)
        right = np.array([[number for head in x for number in head[token]] for token in range(n_seq)])
        by_token = np.swapaxes(x, 0, 1)  # [n_seq, n_head, d_head]
        traps = {
            "That is reshape alone: a row then holds numbers of several tokens. Bring the tokens to the "
            "front first: [n_seq, n_head, d_head].": x.reshape(n_seq, -1),
            "That is [n_seq, n_head, d_head]: the tokens are in front, but the parts of a token are not "
            "yet joined. Reshape to [n_seq, n_embd].": by_token,
            "The numbers of the heads take turns: a row should hold all of head 0, then all of head 1.": (
                x.transpose(1, 2, 0).reshape(n_seq, -1)
            ),
            "The heads are stacked, one below the other: join them side by side, the parts of one token in "
            "one row.": x.reshape(-1, d_head),
            "The heads are added up: each should keep numbers of its own, side by side.": (
                [x.sum(axis=0), x.mean(axis=0)]
            ),
            "The numbers are there, but numbers and tokens are swapped: a row should be one token.": (
                [right.T, np.concatenate([head.T for head in x]), x.T.reshape(-1, n_seq)]
            ),
            "The result has the right shape, but the numbers of different tokens are mixed: swap axes, and "
            "only then reshape.": [
                np.transpose(x, order).reshape(n_seq, -1) for order in ((2, 0, 1), (2, 1, 0), (0, 2, 1))
            ],
            "The heads are in the reverse order.": by_token[:, ::-1].reshape(n_seq, -1),
        }
        cases.append(({"x": x}, right, traps))
    compare(one_array(f), cases)


# ---- find and cut ------------------------------------------------------------------------------------------


def random_maps(n_layer, n_head, n_seq):  # -> causal attention weights
    scores = np.random.default_rng(n_seq).normal(0, 1.5, (n_layer, n_head, n_seq, n_seq)).astype(np.float32)
    return gpt2.softmax(scores + gpt2.causal_mask(n_seq, n_seq))


def slow_scores(maps):  # [n_layer, n_head, 2 n, 2 n] -> [n_layer, n_head]
    """Token by token of the second copy."""
    n = maps.shape[-1] // 2
    looks = [maps[..., query, query - n + 1] for query in range(n, 2 * n)]
    return np.array(sum(looks) / n, dtype=np.float32)


@check
def induction_scores(f, maps):
    """f(maps): [n_layer, n_head, 2 n, 2 n] -> [n_layer, n_head]. maps: those of the notebook."""
    cases = []
    for given in (random_maps(1, 1, 6), random_maps(3, 2, 8), random_maps(2, 4, 14), np.asarray(maps)):
        cases.append(({"maps": given}, slow_scores(given), wrong_scores(given)))
    compare(f, cases)


def wrong_scores(maps):  # -> {why: what a wrong function returns}
    n = maps.shape[-1] // 2
    right, second = slow_scores(maps), np.arange(n, 2 * n)

    def mean(queries, keys):
        return maps[..., queries, keys].mean(axis=-1)

    def diagonal(below):
        return np.diagonal(maps, -below, axis1=-2, axis2=-1)

    stripe = maps[..., second, second - n + 1]
    return {
        "That is the copy of the token itself, n back: look at the token after it, n - 1 back.": (
            [mean(second, second - n), diagonal(n).sum(axis=-1) / (2 * n)]
        ),
        "That is the token before the earlier copy, n + 1 back: look at the one after it, n - 1 back.": (
            [mean(second[1:], second[1:] - n - 1), mean(second, second - n - 1)]
        ),
        "One query too many: the diagonal n - 1 below the main one begins at query n - 1, which is still in "
        "the first copy. Leave it out.": [diagonal(n - 1).mean(axis=-1), diagonal(n - 1).sum(axis=-1) / n],
        "The first copy is averaged in: there is nothing to find yet. Average over the n queries of the "
        "second copy only.": [
            stripe.sum(axis=-1) / (2 * n),
            diagonal(n - 1).sum(axis=-1) / (2 * n),
            mean(np.arange(2 * n), np.arange(2 * n) - n + 1),
        ],
        "Those are the queries of the first copy: the second copy is at n to 2n - 1.": (
            [
                mean(np.arange(n), np.arange(n) - n + 1),
                mean(np.arange(1, n), np.arange(n - 1)),
                mean(second - n, 1),
            ]
        ),
        "The last query of the second copy is left out.": mean(second[:-1], second[:-1] - n + 1),
        "The first query of the second copy is left out: the diagonal n - 1 below the main one has n + 1 "
        "numbers, and only its first is in the first copy.": mean(second[1:], second[1:] - n + 1),
        "That is one step back, the previous token: look n - 1 back.": (
            [diagonal(1).mean(axis=-1), mean(second, second - 1)]
        ),
        "Rows and columns are swapped: the row is the token that looks, the column the one that is looked "
        "at. What is above the diagonal is 0.": [
            mean(second - n + 1, second),
            np.diagonal(maps, n - 1, axis1=-2, axis2=-1).mean(axis=-1),
        ],
        "That goes back nearly the whole text: n is half of the n_seq tokens.": maps[..., -1, 0],
        "These are added up: divide by their number, n.": stripe.sum(axis=-1),
        "That is the largest of them: take the mean over the n queries.": stripe.max(axis=-1),
        "That is the smallest of them: take the mean over the n queries.": stripe.min(axis=-1),
        "That is only the last query: take the mean over the n queries of the second copy.": stripe[..., -1],
        "These are the weights of every query: take their mean.": [stripe, diagonal(n - 1)],
        "All heads are averaged into one number: keep one for each head, axis=-1.": stripe.mean(),
        "The layers, or the heads of a layer, are averaged: keep one number for each layer and head.": (
            [right.mean(axis=-1), right.mean(axis=0)]
        ),
        "That is the place of the best head: return all the scores, [n_layer, n_head].": (
            [right.argmax(), np.unravel_index(right.argmax(), right.shape)]
        ),
        "Those are whole rows and columns: each query of the second copy counts with one key, its own. "
        "maps[..., queries, keys] with two arrays takes pairs.": (
            [maps[..., n:, 1].mean(axis=-1), maps[..., n:, n].mean(axis=-1)]
        ),
        "That is the mean over all pairs of tokens: only the stripe n - 1 below the diagonal counts.": (
            [
                maps.mean(axis=(-2, -1)),
                maps[..., n:, :].mean(axis=(-2, -1)),
                maps[..., n:, :n].mean(axis=(-2, -1)),
                maps[..., n:, 1 : n + 1].mean(axis=(-2, -1)),
            ]
        ),
    }


def exactly_zero(f, zeros):
    """f, which must return 0 itself at zeros(*given), a mask; a small number there would pass for 0."""

    def checked(*given):
        got = f(*given)
        where = zeros(*given)
        if isinstance(got, np.ndarray) and got.shape == where.shape:
            left = np.abs(got[where]).max(initial=0)
            if 0 < left < 0.01:
                raise NotYet(f"There should be exactly 0, but a small number is left there, {left:.2g}.")
        return got

    return checked


def rows_of_head(w, head, d_head):  # -> mask
    return np.broadcast_to((np.arange(len(w)) // d_head == head)[:, None], w.shape)


@check
def cut_head(f):
    """f(w, head, d_head): c_proj's matrix without the rows of one head."""
    cases = []
    for n_head, d_head, head in ((3, 2, 1), (2, 3, 1), (4, 1, 2), (3, 4, 0), (4, 5, 3)):
        before = slice((head - 1) * d_head, head * d_head)
        w = numbered(n_head * d_head, n_head * d_head)
        own = np.arange(n_head * d_head) // d_head == head

        def cut(rows, w=w):
            changed = w.copy()
            changed[rows] = 0
            return changed

        traps = {
            "Those are columns: a head's numbers meet the rows of w, because heads @ w. Columns are what all "
            "heads write to.": cut(own, w.T.copy()).T,
            "Everything but this head is cut: cut its own rows only.": cut(~own),
            "The rows begin at number head: d_head rows for each head before it come first, head * d_head.": (
                [cut(slice(head, head + d_head)), cut(slice(head, head + 1))]
            ),
            "One row of the head is left: a slice ends before its second number.": (
                cut(slice(head * d_head, (head + 1) * d_head - 1))
            ),
            "One row too many, the next head's.": cut(slice(head * d_head, (head + 1) * d_head + 1)),
            "Only one row is cut: a head has d_head of them.": cut(slice(head * d_head, head * d_head + 1)),
            "All heads from this one on are cut: the slice should end after d_head rows.": (
                cut(slice(head * d_head, None))
            ),
            "All heads before this one are cut too.": cut(slice(0, (head + 1) * d_head)),
            "The rows are taken out: set them to 0, so that the matrix keeps its shape.": w[~own],
            "These are the rows of the head: return the whole matrix with 0 there.": w[own],
            "That is the head before: heads are counted from 0, and head h begins at row h * d_head.": (
                cut(before)
            ),
            "A head has d_head rows, but n_head rows are cut.": cut(
                slice(head * n_head, (head + 1) * n_head)
            ),
            "Every n_head-th row is cut: a head's rows stand side by side.": cut(slice(head, None, n_head)),
        }
        cases.append(({"w": w, "head": head, "d_head": d_head}, cut(own), traps))
    compare(exactly_zero(f, rows_of_head), cases)


# ---- what is left ------------------------------------------------------------------------------------------


@check
def what_was_lost(f):
    """f() -> the letter of what the cut head had given to the induction heads."""
    return choose(
        f,
        "c",
        {
            "a": "Softmax is taken over the keys of one head: a head has weights of its own that sum to one, "
            "whatever the other heads do.",
            "b": "A token's own vector says which token it is, and no head is needed for that. Which of the "
            "two tokens needs to be told what stood before it?",
            "d": "The score says where a head looks, not what it finds there: values are read only after the "
            "weights are made.",
        },
    )


def second_copy_without(params, n_head, n=25, n_draws=8):  # -> nats
    """The loss on the second copy of random tokens when every induction head is cut."""
    ids = heads.twice(len(params["wte"]), n, n_draws)
    maps = np.array(list(inside.attention_maps(ids, **params, n_head=n_head))).mean(axis=1)
    for layer, head in np.argwhere(heads.induction(maps) > 0.5):
        params = inside.without_head(params, n_head, layer, head)
    logits = gpt2.gpt2(ids[:, :-1], **params, n_head=n_head)
    return float(scoring.cross_entropy(logits, ids[:, 1:])[:, n:].mean())


@check
def loss_without_them(f, params, n_head):
    """f(n_vocab) -> nats a token, about the loss on the second copy without induction heads.

    Tried on the model, then on others that know nothing, so that one number or its like does not pass.
    """
    causes = dict(
        low="To predict a token of the second copy, something must find it in the first. With nothing that "
        "does, what does a model know about a random token?",
        high="Loss is a natural logarithm: to know nothing is to give each of n_vocab tokens the probability "
        "1 / n_vocab, which costs ln n_vocab.",
    )
    measured = estimate(
        lambda: f(len(params["wte"])), second_copy_without(params, n_head), 1.3, "nats a token", **causes
    )
    for n_vocab in (10, 100, 50257):
        try:
            estimate(lambda n_vocab=n_vocab: f(n_vocab), np.log(n_vocab), 1.3, "nats a token", **causes)
        except NotYet as found:
            raise NotYet(f"For a model of {n_vocab:,} tokens: {found}") from found
    return measured


# ---- past the first token ----------------------------------------------------------------------------------


def slow_past(maps):  # [..., n_seq, n_seq] -> the same shape
    """Row by row: what is left without key 0, as shares of what is left."""
    rest = np.zeros_like(maps)
    for place in np.ndindex(maps.shape[:-1]):
        total = sum(maps[place][1:].astype(float))
        if total > 0:
            rest[place][1:] = maps[place][1:] / total
    return rest


@check
def past_the_first(f, maps):
    """f(maps): attention weights without the first token, each row again of sum 1. maps: the notebook's."""
    nearly_all = float32([[[[1, 0, 0], [1, 2e-8, 0], [0.9999999, 4e-8, 6e-8]]]])  # of sum 1 in float32
    tiny = float32([[[[1, 0, 0], [1, 2e-30, 0], [1, 4e-30, 6e-30]]]])  # less than any floor
    cases = [
        ({"maps": given}, slow_past(given), wrong_pasts(given))
        for given in (random_maps(1, 1, 3), random_maps(2, 3, 5), np.asarray(maps), nearly_all, tiny)
    ]
    compare(exactly_zero(f, first_key_and_row), cases)


def first_key_and_row(maps):  # -> mask
    mask = np.zeros(maps.shape, dtype=bool)
    mask[..., 0] = mask[..., 0, :] = True
    return mask


def wrong_pasts(maps):  # -> {why: what a wrong function returns}
    rest, right = maps.copy(), slow_past(maps)
    rest[..., 0] = 0
    total, own = rest.sum(axis=-1, keepdims=True), maps.sum(axis=-1, keepdims=True)
    one_row, undefined, equal, no_row = (right.copy() for _ in range(4))
    one_row[..., 0, :] = maps[..., 0, :]
    undefined[..., 0, :] = np.nan
    equal[..., 0, :] = 1 / maps.shape[-1]
    no_row = maps.copy()
    no_row[..., 0, :] = 0
    by_hand = 1 - maps[..., :1]
    return {
        "Row 0 is NaN: it saw only token 0, nothing is left of it, and 0 / 0 is NaN. Leave that row at 0.": [
            undefined,
            rest / total,
        ],
        "A floor under the sums, or a number added to them, leaves a row of which little is left with a sum "
        "below one: replace only a sum that is 0.": [
            rest / wrong
            for eps in (1e-30, 1e-20, 1e-15, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
            for wrong in (total + eps, np.maximum(total, eps), np.where(total > eps, total, 1))
        ],
        "That divides by 1 - the first weight, which is 0 in float32 where nearly all went there. Divide by "
        "the sum of what is left.": [
            rest / by_hand,
            np.nan_to_num(rest / by_hand),
            rest / np.where(by_hand > 0, by_hand, 1),
            rest / np.maximum(by_hand, 1e-9),
        ],
        "Column 0 is 0, but the rows no longer sum to one: divide each by what is left of it.": (
            [rest, rest / own]
        ),
        "Row 0 saw only token 0: nothing is left of it. Leave it at 0.": [one_row, equal],
        "The first column is taken out: set it to 0, so that every picture keeps its shape.": [
            maps[..., 1:],
            right[..., 1:],
            maps[..., 1:, 1:],
            right[..., 1:, 1:],
        ],
        "That is row 0, the token that looks: take out column 0, the token that is looked at.": (
            [no_row, no_row / np.where(own > 0, own, 1)]
        ),
        "Each row should be divided by its own sum, axis=-1 with keepdims: these are the columns' sums.": [
            np.nan_to_num(rest / rest.sum(axis=-2, keepdims=True)),
            rest / rest.sum(axis=-2, keepdims=True),
        ],
        "Each row is divided by other rows' sums, one for each column: axis=-1 with keepdims=True.": (
            [np.nan_to_num(rest / total.swapaxes(-1, -2)), rest / total.swapaxes(-1, -2)]
        ),
        "All rows are divided by one number: each should be divided by its own sum.": (
            [
                rest / rest.sum(),
                rest / np.where(rest.sum((-2, -1), keepdims=True) > 0, rest.sum((-2, -1), keepdims=True), 1),
            ]
        ),
        "The largest of each row is 1: divide by the row's sum, so that shares stay shares.": (
            [np.nan_to_num(rest / rest.max(axis=-1, keepdims=True)), rest / rest.max(axis=-1, keepdims=True)]
        ),
        "Each row is multiplied by what is left of it: divide by it.": [rest * total, rest * by_hand],
        "That is softmax of the weights: they are shares already, divide each by the row's sum.": (
            [gpt2.softmax(rest), gpt2.softmax(maps)]
        ),
    }
