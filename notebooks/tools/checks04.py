"""The checks of notebook 04: one query, all queries, and a head that looks back by one."""

import numpy as np

import gpt2
from tools.checks03 import slow_softmax
from tools.judging import NotYet, as_array, check, compare, short, shown


def slow_attention(q, k, v):  # three of [n_seq, d_head] -> [n_seq, d_head]
    """Query by query, each over the keys up to its own."""
    rows = []
    for i, query in enumerate(q):
        scores = [float(query @ k[j]) / len(query) ** 0.5 for j in range(i + 1)]
        rows.append(slow_softmax(scores) @ v[: i + 1])
    return np.array(rows, dtype=np.float32)


def random_head(n_seq, d_head):  # -> q, k, v
    return np.random.default_rng(n_seq).normal(0, 1.5, (3, n_seq, d_head)).astype(np.float32)


@check
def attend(f):
    """f(q, k, v): one query, [d_head], over all the keys that it is given."""
    cases = []
    for n_k, d_head in ((2, 3), (1, 2), (6, 5)):
        queries, k, v = random_head(n_k, d_head)
        q = queries[-1]
        scores = k @ q
        weights = slow_softmax(scores / d_head**0.5)
        traps = {
            "The scores are not divided by √d_head.": slow_softmax(scores) @ v,
            "The scores are divided by d_head, not by its root.": slow_softmax(scores / d_head) @ v,
            "The scores are divided by the root of the number of keys: it should be √d_head.": (
                slow_softmax(scores / n_k**0.5) @ v
            ),
            "The scores are multiplied by √d_head: divide instead.": slow_softmax(scores * d_head**0.5) @ v,
            "The weights are divided by √d_head: divide the scores by it, before softmax.": (
                slow_softmax(scores) / d_head**0.5 @ v
            ),
            "These are the scores: softmax turns them into weights, with which the values are averaged.": (
                [scores, scores / d_head**0.5]
            ),
            "These are the weights: use them to average the values.": weights,
            "The weighted values are not yet summed: weights @ v.": weights[:, None] * v,
            "That is the value of the best key alone: every value counts, by its weight.": v[scores.argmax()],
            "That is the plain mean of the values: each should count by its weight.": v.mean(0),
            "softmax is missing: the raw scores weight the values.": [scores / d_head**0.5 @ v, scores @ v],
            "The weights should average the values v, not the keys k.": weights @ k,
            "k and v are swapped.": slow_softmax(v @ q / d_head**0.5) @ k,
            "The weights do not sum to one: divide them by their sum.": (
                [np.exp(s) @ v for s in (scores, scores / d_head**0.5, (scores - scores.max()) / d_head**0.5)]
            ),
        }
        cases.append(({"q": q, "k": k, "v": v}, weights @ v, traps))
    compare(f, cases)


@check
def attention(f, q, k, v):
    """f(q, k, v): all queries at once, causal. q, k, v: those of a head in the notebook."""
    # three tokens first: with two, to see the next token is to see all
    heads = (random_head(3, 2), random_head(1, 2), random_head(5, 4), (q, k, v))
    compare(f, [(dict(zip("qkv", head)), slow_attention(*head), wrong_attentions(*head)) for head in heads])


def wrong_attentions(q, k, v):  # -> {why: what a wrong function returns}
    n_seq, d_head = q.shape
    raw, sees = q @ k.T, np.tri(n_seq, dtype=bool)
    scores = raw / d_head**0.5

    def masked(scores, sees=sees, instead=-np.inf):
        return np.where(sees, scores, instead)

    by_one, too_many = np.tri(n_seq, k=-1, dtype=bool), np.tri(n_seq, k=1, dtype=bool)
    weights, all_weights, exps = gpt2.softmax(masked(scores)), gpt2.softmax(scores), np.exp(masked(scores))
    without_self = gpt2.softmax(masked(scores, by_one))
    return {
        "There is no mask: a token sees what comes later.": all_weights @ v,
        "The mask comes after softmax: the later tokens have already had their share, so rows do not sum "
        "to one. Set their scores to -∞ before.": [
            masked(all_weights, instead=n) @ v for n in (0, -np.inf, -1e10)
        ],
        "Masked scores are 0, and exp(0) is 1: set them to -∞.": gpt2.softmax(masked(scores, instead=0)) @ v,
        "Masked scores are too large, and exp(-10) still counts: set them to -∞.": (
            [gpt2.softmax(masked(scores, instead=n)) @ v for n in (-1, -10)]
        ),
        "No token sees itself: row i may see the keys 0 to i.": [
            without_self @ v,
            np.nan_to_num(without_self) @ v,
            gpt2.softmax(masked(scores, by_one, -1e10)) @ v,
        ],
        "A token sees the next one too: row i may see the keys 0 to i.": (
            gpt2.softmax(masked(scores, too_many)) @ v
        ),
        "The mask is upside down: a token sees the later tokens, not the earlier ones.": [
            gpt2.softmax(masked(scores, visible, instead)) @ v
            for visible in (sees.T, ~sees)
            for instead in (-np.inf, -1e10)
        ],
        "The scores are not divided by √d_head.": gpt2.softmax(masked(raw)) @ v,
        "The scores are divided by d_head, not by its root.": gpt2.softmax(masked(raw / d_head)) @ v,
        "The scores are divided by the root of the number of tokens: it should be √d_head.": (
            gpt2.softmax(masked(raw / n_seq**0.5)) @ v
        ),
        "softmax goes down the columns, but each row is one query's.": gpt2.softmax(masked(scores).T).T @ v,
        "softmax goes over all rows at once, but each row is one query's.": exps / exps.sum() @ v,
        "Each row is divided by other rows' sums, one for each column: keepdims=True.": (
            exps / exps.sum(-1) @ v
        ),
        "The scores are transposed: a row should be one query's, q @ k.T.": (
            gpt2.softmax(masked(scores.T)) @ v
        ),
        "These are the weights: use them to average the values.": weights,
        "softmax is missing: the raw scores weight the values.": masked(scores, instead=0) @ v,
        "The weights should average the values v, not the keys k.": weights @ k,
        "k and v are swapped.": gpt2.softmax(masked(q @ v.T / d_head**0.5)) @ k,
        "The weights do not sum to one: divide each row by its sum.": (
            [exps @ v, np.exp(masked(scores) - scores.max(-1, keepdims=True)) @ v]
        ),
    }


@check
def look_back(f):
    """f(n_seq) -> q, k: each token but the first puts 99 % of its attention on the one before it."""
    for n_seq in (3, 2, 5, 20):  # three first: with two, no checked token has one after it
        answer = f(n_seq)
        try:
            q, k = answer
        except (TypeError, ValueError):
            raise NotYet(f"It should return two arrays, q and k, but it returned {short(answer)}.") from None
        q, k = as_array(q).astype(float), as_array(k).astype(float)
        if q.ndim != 2 or q.shape != k.shape or len(q) != n_seq:
            shapes = f"they are {list(q.shape)} and {list(k.shape)}"
            raise NotYet(f"For {n_seq} tokens q and k should both be [{n_seq}, d_head]; {shapes}.")
        weights = gpt2.attention_weights(q, k, gpt2.causal_mask(n_seq, n_seq).astype(float))
        if not np.isfinite(weights).all():
            raise NotYet("The weights are not finite: make the numbers large, not infinite.")
        for i in range(1, n_seq):
            if weights[i, i - 1] < 0.99:
                row = weights[i, : i + 1]
                raise NotYet(f"{why_not(i, row, k @ q[i])}\n  weights of token {i}  {shown(row)}")


def why_not(i, row, scores):  # index of a token, [i + 1], [n_seq] -> str
    """Why token i does not look back by one. row: its weights; scores: also those of later keys, masked."""
    most, before = row.argmax(), f"the key of token {i - 1}"
    if scores.max() > scores[: i + 1].max():
        later = f"Token {i} looks for token {scores.argmax()}, which comes later and is masked"
        return f"{later}: its query should match {before}."
    if np.ptp(row) < 1e-6:
        return f"Token {i} looks at all keys equally: its query should match {before} best."
    if most == i - 1:
        return f"Token {i} looks most at the one before it, but only {row[i - 1]:.4f}: make its score larger."
    if most == i:
        return f"Token {i} looks at itself: its query should match {before}, not its own."
    return f"Token {i} looks at token {most}: its query should match {before}."
