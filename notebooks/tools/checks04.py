"""The checks of notebook 04: one query, a mask that comes late, all queries, a score, two heads by hand."""

import numpy as np

import gpt2
from tools.checks03 import slow_softmax
from tools.judging import NotYet, as_array, check, choose, compare, estimate, float32, short, shown


def slow_attention(q, k, v):  # three of [n_seq, d_head] -> [n_seq, d_head]
    """Query by query, each over the keys up to its own."""
    rows = []
    for i, query in enumerate(q):
        scores = [float(query @ k[j]) / len(query) ** 0.5 for j in range(i + 1)]
        rows.append(slow_softmax(scores) @ v[: i + 1])
    return np.array(rows, dtype=np.float32)


def random_head(n_seq, d_head):  # -> q, k, v
    return np.random.default_rng(n_seq).normal(0, 1.5, (3, n_seq, d_head)).astype(np.float32)


def columns(*numbers):  # lists -> arrays of one column: heads with d_head 1, where √d_head changes nothing
    return tuple(float32(column)[:, None] for column in numbers)


# what goes wrong where only exp and a sum are wrong
OVERFLOWS = (
    "exp(200) is infinite in float32, exp(1000) in float64 too: use softmax, which subtracts the largest "
    "score first."
)
VANISHES = "All exps are 0, so 0 / 0: subtract the largest score first, also where it is below 0."
CUT_OFF = "Large scores are cut off and count the same: subtract the largest score first instead."
FLIPPED = "The sign is flipped: the best match should have the largest share."


def own_size(d_head):  # -> str
    return f"The scores are divided by √{d_head}, this model's d_head: take it from q."


# ---- one query ---------------------------------------------------------------------------------------------


@check
def attend(f, own):
    """f(q, k, v): one query, [d_head], over all the keys that it is given. own: d_head in the notebook."""
    cases = []
    for n_k, d_head in ((2, 3), (1, 2), (6, 5)):
        queries, k, v = random_head(n_k, d_head)
        q = queries[-1]
        cases.append(({"q": q, "k": k, "v": v}, *right_and_wrong(q, k, v, own)))
    for keys, best in (([0, 200], 1), ([2000, 1000], 0), ([-1000, -2000], 0)):
        k, v = columns(keys, [3, 5])
        traps = {OVERFLOWS if max(keys) > 0 else VANISHES: float32([np.nan]), CUT_OFF: v.mean(0)}
        cases.append(({"q": float32([1]), "k": k, "v": v}, v[best], traps))
    compare(f, cases)


def right_and_wrong(q, k, v, own):  # -> what a right function returns, {why: what a wrong one does}
    n_k, d_head = k.shape
    scores = k @ q
    scaled = scores / d_head**0.5
    weights, unscaled = slow_softmax(scaled), slow_softmax(scores)
    return weights @ v, {
        "The scores are not divided by √d_head.": unscaled @ v,
        "The scores are divided by d_head, not by its root.": slow_softmax(scores / d_head) @ v,
        "The scores are divided by the root of the number of keys: it should be √d_head.": (
            slow_softmax(scores / n_k**0.5) @ v
        ),
        own_size(own): slow_softmax(scores / own**0.5) @ v,
        FLIPPED: [slow_softmax(-s) @ v for s in (scaled, scores)],
        "The scores are multiplied by √d_head: divide instead.": slow_softmax(scores * d_head**0.5) @ v,
        "The weights are divided by √d_head: divide the scores by it, before softmax.": (
            unscaled / d_head**0.5 @ v
        ),
        "These are the scores: softmax turns them into weights, with which the values are averaged.": (
            [scores, scaled]
        ),
        "These are the weights: use them to average the values.": weights,
        "The weighted values are not yet summed: weights @ v.": weights[:, None] * v,
        "The weighted values are summed over the wrong axis: one number for each key is left.": (
            (weights[:, None] * v).sum(axis=1)
        ),
        "The values are averaged by their number as well: the weights already sum to one.": (
            (weights[:, None] * v).mean(axis=0)
        ),
        "That is the value of the best key alone: every value counts, by its weight.": v[scores.argmax()],
        "That is the plain mean of the values: each should count by its weight.": v.mean(0),
        "softmax is missing: the raw scores weight the values.": [scaled @ v, scores @ v],
        "The scores are divided by their sum, without exp: softmax does both.": (
            [scores / scores.sum() @ v, np.abs(scores) / np.abs(scores).sum() @ v]
        ),
        "The sign of the scores is lost: a product below zero is a bad match.": (
            slow_softmax(np.abs(scaled)) @ v
        ),
        "The scores should be products of q and k; these are products of q and v.": (
            slow_softmax(v @ q / d_head**0.5) @ v
        ),
        "The weights should average the values v, not the keys k.": weights @ k,
        "k and v are swapped.": slow_softmax(v @ q / d_head**0.5) @ k,
        "The weights do not sum to one: divide them by their sum.": (
            [np.exp(s) @ v for s in (scores, scaled, (scores - scores.max()) / d_head**0.5)]
        ),
    }


# ---- the mask ----------------------------------------------------------------------------------------------


@check
def late_mask(f):
    return choose(
        f,
        "c",
        {
            "a": "A token whose own score is 0, where a later one is 200, is left with 0 in float32: 0 / 0.",
            "b": "Nothing comes after the last token, so its row is the one that cannot go wrong.",
            "d": "On paper, dividing again cancels whatever the later keys took.",
        },
    )


@check
def attention(f, q, k, v):
    """f(q, k, v): all queries at once, causal. q, k, v: those of a head in the notebook."""
    # three tokens first: with two, to see the next token is to see all
    heads, own = (random_head(3, 2), random_head(1, 2), random_head(5, 4)), q.shape[1]
    cases = [case(*head, wrong_attentions(*head, own)) for head in heads]
    for head in SPECIAL:
        cases.append(case(*head(), wrong_here(*head())))
    compare(f, [*cases, case(q, k, v, wrong_attentions(q, k, v, own))])


# two tokens, and then three, with one number each
SPECIAL = (
    lambda: columns([1, 1], [0, 1], [3, 5]),  # a score of 0 that counts
    lambda: columns([0, 1], [0, 200], [3, 5]),  # row 1 has far larger scores than row 0
    lambda: columns([1, 1], [0, 1000], [3, 5]),  # in row 0, the later key has; in float64 too
    lambda: columns([1, 1], [2000, 1000], [3, 5]),  # both are large
    lambda: columns([1, 1], [-150, 0], [3, 5]),  # a token that hardly matches itself
    lambda: columns([1, 1], [-3e9, 0], [3, 5]),  # and yet more than -1e10, which OpenAI's code masks with
    lambda: columns([1, 1, 0], [0, 1, 1000], [3, 5, 8]),  # the last key, in row 1 too, which sees two
)


def case(q, k, v, traps):
    return {"q": q, "k": k, "v": v}, slow_attention(q, k, v), traps


def wrong_here(q, k, v):  # d_head 1 -> {why: what a wrong function returns}
    scores, sees = q @ k.T, np.tri(len(q), dtype=bool)
    late = gpt2.softmax(scores) * sees
    exps, total = np.exp(np.where(sees, scores, -np.inf)), late.sum(-1, keepdims=True)
    of_all = np.exp(np.where(sees, scores, -np.inf) - scores[sees].max())
    of_all /= of_all.sum(-1, keepdims=True)
    taken = "The mask comes after softmax: a later key took everything, and nothing is left to divide"
    gone = [late / total @ v, np.nan_to_num(late / total) @ v, late / (total + 1e-9) @ v]
    gone += [late / np.maximum(total, 1e-30) @ v, np.where(total > 0, late / total, late) @ v]
    itself = np.where(total > 0, late / total, np.eye(len(q)))
    gone += [itself @ v, np.where(np.arange(len(q))[:, None] > 0, late / total, itself) @ v]
    not_zero = np.where(scores == 0, -np.inf, np.where(sees, scores, -np.inf))
    finite = [gpt2.softmax(np.where(sees, scores, float32(-(10**n)))) @ v for n in range(2, 10)]
    cut = np.where(sees, np.clip(scores, -80, 80), -np.inf)
    return {
        OVERFLOWS if scores.max() > 0 else VANISHES: exps / exps.sum(-1, keepdims=True) @ v,
        CUT_OFF: gpt2.softmax(cut) @ v,
        f"{taken} (0 / 0). Set the scores to -∞ before.": gone,
        "Each row is shifted by the largest of all scores: take the largest of the row.": (
            [of_all @ v, np.nan_to_num(of_all) @ v]
        ),
        "A score that is really 0 is masked too: decide by the position, not by the score.": (
            [gpt2.softmax(not_zero) @ v, np.nan_to_num(gpt2.softmax(not_zero)) @ v]
        ),
        "Masked scores are a finite number, and a token's own may be less: set them to -∞.": finite,
    }


def wrong_attentions(q, k, v, own):  # -> {why: what a wrong function returns}
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
        own_size(own): gpt2.softmax(masked(raw / own**0.5)) @ v,
        FLIPPED: [gpt2.softmax(masked(-s)) @ v for s in (scores, raw)],
        "The scores are multiplied by √d_head: divide instead.": (
            gpt2.softmax(masked(raw * d_head**0.5)) @ v
        ),
        "softmax goes down the columns, but each row is one query's.": gpt2.softmax(masked(scores).T).T @ v,
        "softmax goes over all rows at once, but each row is one query's.": exps / exps.sum() @ v,
        "Each row is divided by other rows' sums, one for each column: keepdims=True.": (
            exps / exps.sum(-1) @ v
        ),
        "The scores are transposed: a row should be one query's, q @ k.T.": (
            gpt2.softmax(masked(scores.T)) @ v
        ),
        "The weights are transposed: a row should be one query's.": weights.T @ v,
        "These are the weights: use them to average the values.": weights,
        "softmax is missing: the raw scores weight the values.": masked(scores, instead=0) @ v,
        "The weights should average the values v, not the keys k.": weights @ k,
        "The scores should be products of q and k; these are products of q and v.": (
            gpt2.softmax(masked(q @ v.T / d_head**0.5)) @ v
        ),
        "The scores should be products of q and k; these are of q with itself.": (
            gpt2.softmax(masked(q @ q.T / d_head**0.5)) @ v
        ),
        "k and v are swapped.": gpt2.softmax(masked(q @ v.T / d_head**0.5)) @ k,
        "The weights do not sum to one: divide each row by its sum.": (
            [exps @ v, np.exp(masked(scores) - scores.max(-1, keepdims=True)) @ v]
        ),
    }


# ---- heads by hand -----------------------------------------------------------------------------------------


@check
def score_for_99(f):
    """f() -> the score that gives one key of 20 a share of 99 %, where the others have a score of 0."""
    return estimate(
        f,
        float(np.log(99 * 19)),
        1.1,
        low="Each of the 19 others has exp(0) = 1: together they get more than 1 %.",
        high="It would be enough, but far less is: exp(10) is 22,026.",
    )


@check
def look_back(f):
    """f(n_seq) -> q, k: each token but the first puts 99 % of its attention on the one before it."""
    for n_seq in (3, 2, 5, 20):  # three first: with two, no checked token has one after it
        answer = f(n_seq)
        try:
            q, k = answer
        except (TypeError, ValueError):
            raise NotYet(f"It should return two arrays, q and k, but it returned {short(answer)}.") from None
        q, k = as_array(q).astype(np.float32), as_array(k).astype(np.float32)  # as the notebook uses them
        if q.ndim != 2 or q.shape != k.shape or len(q) != n_seq:
            shapes = f"they are {list(q.shape)} and {list(k.shape)}"
            raise NotYet(f"For {n_seq} tokens q and k should both be [{n_seq}, d_head]; {shapes}.")
        weights = gpt2.attention_weights(q, k, gpt2.causal_mask(n_seq, n_seq))
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


@check
def aim(f, k):
    """f(k, place) -> a query that gives over 90 % of its attention to this place.

    k: the keys of a head in the notebook; each has d_head numbers, and no more than as many are tried.
    """
    for keys in (LONGER, random_head(4, 6)[1], k[-k.shape[1] :]):
        for place in range(len(keys)):
            before = keys.copy()
            query = as_array(query_of(f, before, place))
            if not np.array_equal(before, keys):
                raise NotYet("Your function changes its argument k: a caller would not expect that.")
            if query.shape != keys.shape[1:]:
                wanted, found = list(keys.shape[1:]), list(query.shape)
                raise NotYet(f"A query should be [d_head], here {wanted}, but it is {found}.")
            scores = keys.astype(float) @ query / keys.shape[1] ** 0.5
            if not np.isfinite(scores).all():
                raise NotYet("The scores are not finite: make the numbers large, not infinite.")
            weights = slow_softmax(scores)
            if weights[place] <= 0.9:
                shown_case = {"k": keys, "query": query, "weights": weights}
                lines = [f"\n  {name:9} {shown(value)}" for name, value in shown_case.items()]
                raise NotYet(why_missed(place, weights, scores) + "".join(lines))


def query_of(f, k, place):  # -> f(k, place)
    try:
        return f(k, place)
    except np.linalg.LinAlgError as error:
        if "square" not in str(error):
            raise
        cause = "k has more numbers than tokens, and solve and inv need as many: try np.linalg.pinv"
        raise NotYet(f"{error}: {cause}.") from None


LONGER = float32([[1, 0, 0], [3, 1, 0], [-4, 0, 1]])  # the second points like the first, and is longer


def why_missed(place, weights, scores):  # -> str
    """Why a query does not look at this place; scores: divided by √d_head."""
    most, share = weights.argmax(), f"place {place} gets {weights[place]:.2f} of the attention"
    if np.ptp(scores) < 1e-6:
        return f"All keys get the same score, so {share}: the query should match one key and not the others."
    if most == place:
        return f"The query matches place {place} best, but {share}: make the query larger."
    if np.delete(scores, place).min() - scores[place] > 1e-3:
        return f"The query matches place {place} worst, and {share}: is a sign wrong?"
    why = "choose the scores of all keys, not only of this one"
    return f"The query matches place {most} better than place {place}, and {share}: {why}."
