"""Everything that the page shows, as arrays: what a model computes between a text and its next token.

n_shown   tokens that the page shows: the last ones of the text, at most N_SHOWN
n_keys    the same, and before them one more for all earlier tokens together, if there are any
"""

import numpy as np

import gpt2
from extras import inside, scoring
from extras.untied import apart

N_SHOWN = 60  # tokens: a map of more would be too small to read
N_NEAREST = 8
N_LIKELIEST = 256  # tokens whose logits the page has, at each position
LOOKS = 0.3  # an attention weight that can be seen at a glance
N_BINS = 256  # the other logits are counted in bins of equal width

# ---- a forward pass ----------------------------------------------------------------------------------------


def of_text(ids, params, n_head, pairs=None):  # [n_seq] -> {name: array}
    """What the page shows of a forward pass; see each function below.

    pairs: [n_shown, 2], two tokens at each position whose logits are split up, by default `likely_pairs`.
    Raises FloatingPointError as `gpt2.next_logits` does.
    """
    first = max(len(ids) - N_SHOWN, 0)
    stream, scores, heads = forward(ids, params, n_head, first)
    logits = gpt2.next_logits(gpt2.layer_norm(stream[-1], **params["ln_f"]), params)
    pairs = likely_pairs(logits, ids[first + 1 :]) if pairs is None else pairs
    towards = directions(stream[-1], pairs, params)
    return {
        "nats": scoring.cross_entropy(logits[:-1], np.asarray(ids[first + 1 :], dtype=int)),
        "wte": params["wte"][np.asarray(ids[first:])],
        "wpe": params["wpe"][first : len(ids)],
        **nearest_tokens(ids[first:], params["wte"]),
        "scores": scores,
        "lengths": np.linalg.norm(stream, axis=-1),
        "pairs": pairs,
        "pair_logits": np.take_along_axis(logits, pairs, axis=-1),
        "pair_likely": np.take_along_axis(gpt2.softmax(logits), pairs, axis=-1),
        "attribution": attribution(stream, towards, pairs, params),
        "head_attribution": head_attribution(heads, towards, params),
        **lens(stream[0::2], params),
        **likeliest(logits),
    }


def forward(ids, params, n_head, first):  # [n_seq] -> three arrays, of the tokens from `first` on
    """The residual stream, the scores, and the output of each head.

    [1 + 2 n_layer, n_shown, n_embd], [n_layer, n_head, n_shown, n_keys], [n_layer, n_head, n_shown, d_head]
    """
    stream, scores, heads = [], [], []
    for step in inside.steps(ids, **params, n_head=n_head):
        stream += [step["x"][first:], step["x + attn"][first:]]
        scores.append(shown_scores(step["q"], step["k"], first))
        heads.append(step["heads"][:, first:])
    return np.array([*stream, step["x + mlp"][first:]]), np.array(scores), np.array(heads)


def shown_scores(q, k, first):  # two of [n_head, n_seq, d_head] -> [n_head, n_shown, n_keys]
    """q kᵀ / √d_head from position `first` on; the weights are softmax(scores + mask).

    All earlier tokens are one key, with the score whose weight is the sum of theirs.
    """
    scores = (q / q.shape[-1] ** 0.5)[:, first:] @ np.swapaxes(k, -1, -2)
    if first == 0:
        return scores
    earlier = np.logaddexp.reduce(scores[..., :first], axis=-1, keepdims=True)
    return np.concatenate([earlier, scores[..., first:]], axis=-1)


def weights(scores):  # [..., n_shown, n_keys] -> the same shape
    """How much each token looks at each."""
    return gpt2.softmax(scores + gpt2.causal_mask(*scores.shape[-2:]))


def nearest_tokens(ids, wte):  # [n_shown] -> {"nearest": ids, "cosines": two of [n_shown, N_NEAREST]}
    """The tokens whose rows of wte point most nearly the same way, by cosine, the nearest first."""
    ids, wte = np.asarray(ids), wte[:]
    lengths = np.maximum(np.linalg.norm(wte, axis=-1), np.finfo(np.float32).tiny)
    cosines = wte[ids] @ wte.T / lengths / lengths[ids, None]
    cosines[range(len(ids)), ids] = -np.inf  # not itself
    order = np.argsort(-cosines, axis=-1, kind="stable")[:, : min(N_NEAREST, len(wte) - 1)]
    return {"nearest": order, "cosines": np.take_along_axis(cosines, order, axis=-1)}


def likely_pairs(logits, next_ids):  # [n_shown, n_vocab], [n_shown - 1] -> [n_shown, 2]
    """At each position the token that came next, and its rival, the likeliest other one. Nothing came after
    the last position: the likeliest token stands in.
    """
    came = np.array([*next_ids, np.argmax(logits[-1])])
    others = logits.copy()
    others[range(len(came)), came] = -np.inf
    return np.stack([came, np.argmax(others, axis=-1)], axis=-1)


def directions(x, pairs, params):  # [n_shown, n_embd], [n_shown, 2] -> [n_shown, 2, n_embd]
    """At each position, a vector for each token: its product with a write into x is added to the logit.

    The final norm subtracts the mean, divides by the standard deviation, multiplies by g, and adds b. All of
    this is linear but for the standard deviation; taken as the fixed number that it is at each position, it
    lets the logit be a sum: "direct logit attribution". Only that of b is left.
    """
    g, eps = params["ln_f"]["g"], params["ln_f"].get("eps", 1e-5)
    std = np.sqrt(np.var(x, axis=-1) + eps)[:, None, None]
    rows = g * apart(params)["lm_head"][pairs]
    rows -= np.mean(rows, axis=-1, keepdims=True)  # rather than the mean of each write
    return rows / std


def attribution(stream, towards, pairs, params):  # -> [2 + 2 n_layer, n_shown, 2]
    """What the embedding, each attention, each MLP, and last b, added to the logits of two tokens.

    stream: [1 + 2 n_layer, n_shown, n_embd]; towards: their `directions`.
    """
    writes = np.concatenate([stream[:1], np.diff(stream, axis=0)])
    parts = np.einsum("psd,std->pst", writes, towards)
    of_b = apart(params)["lm_head"][pairs] @ params["ln_f"]["b"]
    return np.concatenate([parts, of_b[None]])


def head_attribution(heads, towards, params):  # [n_layer, n_head, n_shown, d_head] -> [n_layer, n_shown, ...]
    """What each head added to the two, [..., n_head, 2]; an attention is its heads and the bias of c_proj."""
    found = []
    for head, block in zip(heads, params["blocks"]):
        w = block["attn"]["c_proj"]["w"][:]
        w = w.reshape(len(head), -1, w.shape[-1])  # [n_head, d_head, n_embd]
        found.append(np.einsum("hsd,hde,ste->sht", head, w, towards, optimize=True))
    return np.array(found)


def lens(stream, params):  # [1 + n_layer, n_shown, n_embd] -> {name: [1 + n_layer, n_shown]}
    """If the model stopped after a layer: the likeliest next id, its probability (nostalgebraist 2020)."""
    ids, likely = [], []
    for x in stream:
        logits = gpt2.layer_norm(x, **params["ln_f"]) @ params["wte"].T
        ids.append(np.argmax(logits, axis=-1))  # of probabilities, two may be equal where logits are not
        likely.append(np.max(gpt2.softmax(logits), axis=-1))
    return {"lens": np.array(ids), "lens_likely": np.array(likely)}


# ---- the next token ----------------------------------------------------------------------------------------


def likeliest(logits):  # [n_shown, n_vocab] -> {"likeliest", "logits": [n_shown, N_LIKELIEST], "bins": ...}
    """The likeliest next ids, the likeliest first, their logits, and all other logits in `bins`."""
    order = np.argsort(-logits, axis=-1, kind="stable")
    ranked = np.take_along_axis(logits, order, axis=-1)
    others = np.array([bins(row[N_LIKELIEST:]) for row in ranked])
    return {"likeliest": order[:, :N_LIKELIEST], "logits": ranked[:, :N_LIKELIEST], "bins": others}


def bins(logits):  # [n], the largest first -> [3, N_BINS]
    """How many logits are in each bin of equal width, their mean, and their variance; the highest bin first.

    With them, Σ exp(logit / T) is Σ n exp(mean / T) (1 + variance / 2 T²) to a few parts in ten million.
    """
    if len(logits) == 0:
        return np.zeros((3, N_BINS), np.float32)
    below = (logits[0] - logits) / max(logits[0] - logits[-1], np.finfo(np.float32).tiny)
    places = np.minimum((below * N_BINS).astype(int), N_BINS - 1)
    n = np.bincount(places, minlength=N_BINS)
    mean = np.bincount(places, logits, N_BINS) / np.maximum(n, 1)
    variance = np.bincount(places, (logits - mean[places]) ** 2, N_BINS) / np.maximum(n, 1)
    return np.array([n, mean, variance], dtype=np.float32)


# ---- comparisons -------------------------------------------------------------------------------------------


def telling_head(scores, position, left=None):  # [n_layer, n_head, n_shown, n_keys] -> layer, head
    """The head to show first: one that looks at one earlier token, other than the first, and matters.

    left: [n_layer, n_head], what `inside.probability_without_heads` returns. Of the heads whose weight is at
    least LOOKS, it is the one without which least is left. Without left, or such heads, it is the one that
    looks most.
    """
    n_earlier = scores.shape[-1] - scores.shape[-2]
    looks = np.max(weights(scores)[:, :, position, 1 : position + n_earlier], axis=-1, initial=0)
    if left is None:
        return np.unravel_index(np.argmax(looks), looks.shape)
    telling = looks >= min(LOOKS, np.max(looks))
    return np.unravel_index(np.argmin(np.where(telling, left, np.inf)), left.shape)


def of_twin(ids, twin, n_head, pairs):  # -> {name: array}
    """The control: the same numbers from a model that has learned nothing."""
    found = of_text(ids, twin, n_head, pairs)
    names = ("nats", "lengths", "pair_likely", "attribution", "lens", "lens_likely")
    n_earlier = found["scores"].shape[-1] - found["scores"].shape[-2]
    looks = weights(found["scores"])[..., n_earlier:]  # at one token each
    return {name: found[name] for name in names} | {
        "cosines": found["cosines"][:, :1],
        "largest_weights": np.max(looks, axis=-1),  # [n_layer, n_head, n_shown]
    }
