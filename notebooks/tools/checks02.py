"""The checks of notebook 02: rows by matrix product, nearest tokens, and vectors of many numbers."""

from numbers import Integral

import numpy as np

from tools.judging import NotYet, check, choose, compare, estimate, short, shown
from tools.pictures02 import at_home, flat_map

# ---- rows by matrix product --------------------------------------------------------------------------------


class Table(np.ndarray):
    """An array that notes whether its rows were taken by index, and is else like any other."""

    taken = False

    def __getitem__(self, index):
        Table.taken = True
        return np.asarray(self)[index]

    def take(self, *index, **options):
        Table.taken = True
        return np.asarray(self).take(*index, **options)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        into = options.pop("out", ())  # of wte *= 2
        if into:
            options["out"] = tuple(map(np.asarray, into))
        plain = [np.asarray(x) if isinstance(x, Table) else x for x in inputs]
        result = getattr(ufunc, method)(*plain, **options)
        return into[0] if into else result


@check
def lookup(f, ids, wte):
    """f(ids, wte): the rows of ids, as a product with a one-hot matrix. ids, wte: the notebook's."""
    rng = np.random.default_rng(0)
    cases = []
    for some_ids, table in (
        ([2, 0, 3, 0], rng.integers(1, 9, (4, 2)).astype(np.float32)),  # as many ids as rows
        ([1, 1, 3], rng.integers(1, 9, (4, 2)).astype(np.float32)),
        ([3, 0, 3, 2, 0], rng.normal(0, 1, (4, 3)).astype(np.float32)),
        (ids, wte),
    ):
        expected, traps = np.array([table[i] for i in some_ids]), wrong_lookups(np.array(some_ids), table)
        some_ids = some_ids if some_ids is ids else np.array(some_ids)
        cases.append(({"ids": some_ids, "wte": table.view(Table)}, expected, traps))
    Table.taken = False
    compare(f, cases)
    if Table.taken:
        raise NotYet(
            "The rows are right, but they are taken by index: make them by one product, one_hot @ wte."
        )


def wrong_lookups(ids, wte):  # -> {why: what a wrong function returns}
    n_vocab = len(wte)
    one_hot = (ids[:, None] == np.arange(n_vocab)).astype(np.float32)
    everyone = np.tile(wte[np.unique(ids)].sum(axis=0), (len(ids), 1))
    traps = {
        "Every row has a 1 for each of the ids: row i has a single 1, at ids[i].": everyone,
        "That is the sum of the rows: each token has a row of its own, [n_seq, n_embd].": [
            wte[ids].sum(axis=0),
            everyone[0],
        ],
        "That is the one-hot matrix: multiply it by wte.": one_hot,
        "Only different ids are looked up: a token that comes twice has its row twice.": wte[np.unique(ids)],
        "The 1 is one place too far to the left: ids count from 0.": wte[ids - 1],
        "The rows are taken in another order: row i belongs to ids[i].": [wte[np.sort(ids)], wte[ids[::-1]]],
    }
    if n_vocab == len(ids):
        swapped = "The one-hot matrix is transposed: row i, of n_vocab numbers, has its 1 at ids[i]."
        traps = {swapped: one_hot.T @ wte} | traps
    if n_vocab < 5:  # whole rows of ones
        every = np.tile(wte.sum(axis=0), (len(ids), 1))
        every = [every, every * np.isin(range(len(ids)), ids)[:, None]]
        traps["A whole row is 1: set a single number of it, one_hot[i, ids[i]]."] = every
    return traps


# ---- nearest tokens ----------------------------------------------------------------------------------------


@check
def nearest(f, token_id, table):
    """f(token_id, table, n): the ids of the n rows with the largest cosine. The first two: the notebook's."""
    toy = [[3, 4], [4, 3], [12, 0], [-4, -3], [0, 5]]
    telling = [[1, 3], [-2, -2], [-3, 5], [-1, 2], [-3, 7], [4, 0]]  # each mistake finds another row
    with_zeros = [[0, 0], [3, 1], [-1, 2], [-3, -1], [2, 0]]
    twins = [[2, 4], [9, 9], [1, 2], [4, 8], [-1, 0]]  # rows 0, 2 and 3 point the same way
    opposite = [[2, 0], [-3, 0], [0, 5]]
    random = np.random.default_rng(4).normal(0, 1, (30, 3)) * np.arange(1, 31)[:, None]
    many = np.random.default_rng(5).normal(0, 1, (2000, 8))
    for given in (
        (0, telling, 2),
        (0, telling, 4),
        (0, np.divide(telling, 100), 2),  # what is added to the norms would outweigh them
        (0, toy, 4),
        (1, with_zeros, 2),
        (1, with_zeros, 4),
        (0, opposite, 2),
        (2, twins, 2),
        (0, twins, 3),
        (7, random, 5),
        (29, random, 1),
        (0, many, 900),  # so many that np.argpartition does not sort them by chance
    ):
        token, rows, n = given
        one_nearest(f, token, np.array(rows, dtype=np.float32), n)
    one_nearest(f, token_id, table, 5)


def one_nearest(f, token_id, table, n):
    """Check one token and one number of neighbours."""
    given = table.copy()
    got = f(token_id, given, n)
    if not np.array_equal(given, table):
        raise NotYet("Your function changes its argument table: a caller would not expect that.")
    if got is None:
        raise NotYet("It returned None: is a return missing?")
    try:
        answer = np.asarray(got)
    except Exception:  # rows of several lengths
        answer = np.empty((0, 0))
    lines = {"token_id": token_id, "table": shown(table), "n": n}
    case = "".join(f"\n  {name:9} {value}" for name, value in lines.items())
    if answer.ndim != 1 or answer.dtype.kind not in "iu":
        hint = ""
        if answer.ndim == 1 and answer.dtype.kind == "f" and answer.size:
            hint = " Are these the cosines? np.argsort gives their order."
        raise NotYet(
            f"It should return the ids, a list of whole numbers, but it returned {short(got)}.{hint}"
        )
    answer = answer.tolist()
    scores = true_cosines(token_id, table)
    order = [i for i in np.argsort(-scores, kind="stable") if i != token_id]
    expected = [int(i) for i in order[:n]]
    case += f"\n  expected  {short(expected)}\n  got       {short(answer)}"
    if any(not 0 <= i < len(table) for i in answer):
        raise NotYet(f"There is no such row: the ids go from 0 to {len(table) - 1}.{case}")
    if token_id in answer:
        raise NotYet(f"{why_itself(token_id, table)}{case}")
    if len(answer) != n:
        raise NotYet(f"It should return {n}, but it returned {len(answer)}.{case}")
    if len({*answer}) < n:
        raise NotYet(f"An id comes twice.{case}")
    # equal to rounding is equal
    if not np.allclose(scores[answer], scores[expected], atol=1e-5):
        raise NotYet(f"{why_others(token_id, table, n, answer, scores)}{case}")


def true_cosines(token_id, table):  # -> [n_rows]
    """The cosine of each row with that of token_id, in float64; 0 for a row of zeros."""
    rows = table.astype(float)
    norms = np.linalg.norm(rows, axis=1)
    norms[norms == 0] = 1
    return rows @ rows[token_id] / (norms * norms[token_id])


def why_itself(token_id, table):  # -> str
    """Why a token is among its own neighbours."""
    others = np.delete(true_cosines(token_id, table), token_id)
    if others.max() < 1 - 1e-6:
        return f"Token {token_id} is among its own neighbours: leave it out."
    found = f"Token {token_id} is among its own neighbours: another row points the same way"
    return f"{found}, so the first of the order need not be the token. Leave it out by its id."


def why_others(token_id, table, n, answer, cosines):  # -> str
    """The mistake that gives these neighbours."""
    rows = table.astype(float)
    row, norms = rows[token_id], np.linalg.norm(rows, axis=1)
    safe = np.where(norms == 0, 1, norms)

    def gives(scores):  # whether these scores, largest first, give the answer
        best = [i for i in np.argsort(-scores, kind="stable") if i != token_id][:n]
        return np.array_equal(scores[answer], scores[best])

    if (norms == 0).any() and any(gives(np.where(norms == 0, end, cosines)) for end in (-9, 9)):
        zeros = "A row of zeros has no direction, and 0 / 0 is NaN, which np.argsort puts last"
        return f"{zeros}: let its cosine be 0, above the negative ones."
    if n > 1 and np.allclose(cosines[answer], np.sort(np.delete(cosines, token_id))[-n:]):
        order = "the largest cosine comes first, but np.argsort begins with the smallest"
        return f"They are in the wrong order: {order}."
    if np.allclose(np.sort(cosines[answer]), np.sort(np.delete(cosines, token_id))[-n:], atol=1e-5):
        return "They are the right rows in the wrong order: the largest cosine comes first."
    if norms.max() < 0.5 and any(gives(rows @ row / d) for d in enlarged(norms)):
        return "Short rows get a norm that is not theirs: replace a norm of 0, and leave the others."
    wrong = {
        "They are ordered by dot product: divide by the norm of each row.": rows @ row,
        "The mean of all rows is subtracted first: here the rows are compared as they are.": (
            true_cosines(token_id, rows - rows.mean(axis=0))
        ),
        "They are ordered by distance, which depends on the norms: use the cosine.": (
            -np.linalg.norm(rows - row, axis=1)
        ),
        "The dot product is divided by each row's squared norm: divide by the norm.": rows @ row / safe**2,
        "The sign of the cosine is lost: a row that points the opposite way is the farthest.": np.abs(
            cosines
        ),
    }
    causes = [why for why, scores in wrong.items() if gives(scores)]
    if causes:
        return causes[0]
    if gives(-cosines):
        return "These are the farthest: np.argsort begins with the smallest; order by minus the cosine."
    return "Other rows have a larger cosine."


def enlarged(norms):  # -> list of norms
    """What keeps a division by 0 away, but is too large for short rows."""
    return [d for least in (1, 0.1, 0.01) for d in (np.maximum(norms, least), norms + least)]


# ---- a number, a map, a sentence ---------------------------------------------------------------------------


@check
def random_cosine(f):
    """f(): the size of the cosine of two random vectors of 192 numbers."""
    low = "The products are of both signs, but they do not cancel so well: a sum of n grows as the root of n."
    high = "In many dimensions there is far more room than in two or three: most of the 192 products cancel."
    return estimate(f, 192**-0.5, 2, low=low, high=high)


@check
def islands(f, *tables):
    """f(table): three groups of six ids that lie apart on the map. tables: the model's and the twin's wte."""
    n_rows = len(tables[0]) if tables else 4000
    shares = [island_share(f, random_table(n_rows), "a table of random numbers")]
    for table, name in zip(tables, ("the model's wte", "the twin's wte")):
        shares.append(island_share(f, table, name))
    said = ", ".join(f"{share:.2f}" for share in shares[-2:])
    return f"At home on the map, in the model and in the twin: {said}." if len(tables) == 2 else ""


def random_table(n_rows):  # -> [n_rows, 64]
    return np.random.default_rng(3).standard_normal((n_rows, 64), dtype=np.float32)


def island_share(f, table, name):  # -> share of the tokens that are at home on the map
    """Check one table."""
    given = table.copy()
    answer = f(given)
    if not np.array_equal(given, table):
        raise NotYet("Your function changes its argument table: a caller would not expect that.")
    if answer is None:
        raise NotYet("It returned None: is a return missing?")
    try:
        groups = [[*group] for group in answer]
    except TypeError:
        raise NotYet(f"It should return three lists of six ids, but it returned {short(answer)}.") from None
    sizes = [len(group) for group in groups]
    if sizes != [6, 6, 6]:
        found = f"{len(sizes)} of {', '.join(map(str, sizes[:5]))}" if sizes else "none"
        raise NotYet(f"It should return three lists of six ids, but it returned {short(answer)}: {found}.")
    chosen = [i for group in groups for i in group]
    if not all(isinstance(i, (Integral, np.integer)) and not isinstance(i, bool) for i in chosen):
        raise NotYet(f"The ids should be whole numbers, but one is {short(chosen[0])}.")
    if not all(0 <= i < len(table) for i in chosen):
        raise NotYet(f"There is no such token: the ids go from 0 to {len(table) - 1}; got {short(groups)}.")
    if len({*chosen}) < 18:
        raise NotYet(
            f"A token stands on two islands, or twice on one: take 18 different ones. {short(groups)}"
        )
    share = at_home(flat_map(table[chosen])[0], np.repeat(range(3), 6))
    if share < 14 / 18:
        raise NotYet(
            f"In {name}, only {round(18 * share)} of the 18 tokens have one of their own island nearest on "
            f"the map: make it 14. {why_no_islands(table[chosen])}"
        )
    return share


def why_no_islands(vectors):  # [18, n_embd] -> str
    """What keeps these three groups from lying apart, or what to try next."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    like = (unit @ unit.T).reshape(3, 6, 3, 6).sum(axis=(1, 3))
    inside = (np.diagonal(like) - 6).mean() / 30  # not with itself
    between = like[~np.eye(3, dtype=bool)].mean() / 36
    if inside < 0.1:
        found = f"The tokens of an island are hardly alike (mean cosine {round(float(inside), 2) + 0:.2f})"
        return f"{found}: take each one's neighbours, by all numbers and not only by two axes."
    if between > 0.5 * inside:
        return "The islands are alike: begin with three tokens at right angles to each other."
    return "Almost: begin with another token, or try several and keep the best."


@check
def same_again(f):
    """f() -> the letter of the true sentence."""
    return choose(
        f,
        "c",
        {
            "a": "The twin says it again as well, and it has learned nothing; and in the story a token is "
            "seldom followed by itself.",
            "b": "With all positions at zero the model still says the same token again.",
            "d": "With another matrix at the end, the same vectors and the same ln_f, it never does.",
        },
    )
