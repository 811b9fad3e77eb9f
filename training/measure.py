"""The numbers of models/tiny/README.md: how well a model predicts a text.

    python -m training.measure others.txt my-model

If no model is named, it measures the bundled one.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("training.measure"))

import gzip
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

import gpt2
from extras.inside import attention_maps
from extras.scoring import bits_per_byte, cross_entropy, document_ids, nats, read_documents
from files import ModelError
from names import MODELS_DIR
from utils import find_model, load_encoder_hparams_and_params

HELP = """\
python -m training.measure TEXT [MODEL]    how well a model predicts a text

TEXT     a file in UTF-8; a line <|endoftext|> ends a document
MODEL    as --model_size of gpt2.py: 124M, a folder ...; by default tiny
"""

# ---- models that only count --------------------------------------------------------------------------------


def read_counts(path, n_vocab):  # -> {name: array}
    """What `train.write_counts` wrote: unigrams [n_vocab], bigrams [n_pairs, 2], bigram_counts [n_pairs].

    Raises ModelError for any other file, and for other vocabularies.
    """
    with open(path, "rb") as file:
        try:
            arrays = np.load(file)
            counts = {name: arrays[name] for name in ("unigrams", "bigrams", "bigram_counts")}
        except Exception:  # whatever bad bytes make NumPy and zipfile raise
            counts = None
    if counts is None or not are_counts(**counts, n_vocab=n_vocab):
        problem = f"it is damaged, or not the counts of a text in this vocabulary of {n_vocab} tokens"
        raise ModelError(path, problem, "delete it to measure the model alone")
    return counts


def are_counts(unigrams, bigrams, bigram_counts, n_vocab):  # -> bool
    """Whether these can be the counts of one text: `bigram_nats` relies on all of it."""
    n_pairs = len(bigram_counts) if bigram_counts.ndim == 1 else 0
    if unigrams.shape != (n_vocab,) or bigrams.shape != (n_pairs, 2) or n_pairs == 0:
        return False
    if not all(np.issubdtype(array.dtype, np.integer) for array in (unigrams, bigrams, bigram_counts)):
        return False
    if unigrams.min() < 0 or bigrams.min() < 0 or bigrams.max() >= n_vocab or bigram_counts.min() < 1:
        return False
    first, second = bigrams.T.astype(int)
    in_order = np.all(np.diff(first * n_vocab + second) > 0)
    followed = np.bincount(first, weights=bigram_counts, minlength=n_vocab)
    return bool(in_order and np.all(followed <= unigrams))


def unigram_nats(ids, counts):  # [n_seq] -> [n_seq - 1]
    """The surprise of a model that knows only how frequent each token is."""
    return -np.log(unigrams(counts)[ids[1:]])


def unigrams(counts):  # -> [n_vocab]
    """The probability of each token; every count is raised by one, so that no token is impossible."""
    return (counts["unigrams"] + 1) / (counts["unigrams"] + 1).sum()


def bigram_nats(ids, counts):  # [n_seq] -> [n_seq - 1]
    """The surprise of a model that knows only how often one token follows another.

    A pair's share has weight 0.9; the rest of the probability is spread over all tokens as in `unigrams`.
    """
    ids, n_vocab = np.asarray(ids), len(counts["unigrams"])
    first, second = counts["bigrams"].T.astype(int)
    shares = counts["bigram_counts"] / counts["unigrams"][first]
    counted = np.bincount(first, weights=shares, minlength=n_vocab)  # shares of a token's pairs, added up
    keys, wanted = first * n_vocab + second, ids[:-1] * n_vocab + ids[1:]
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)  # the counts are sorted by pair
    share = np.where(keys[at] == wanted, shares[at], 0)
    return -np.log(0.9 * share + (1 - 0.9 * counted[ids[:-1]]) * unigrams(counts)[ids[1:]])


# ---- induction ---------------------------------------------------------------------------------------------


def induction(params, n_head, rng, n_draws=20):  # -> nats, [n_layer, n_head]
    """How much easier random tokens are the second time, and how far each head is an induction head.

    Only the first occurrence predicts the second. A head's score is how much it looks, from a token of the
    second occurrence, at the one that came next in the first (Olsson et al. 2022, "In-context Learning and
    Induction Heads"). Both are averages over n_draws draws. Raises ValueError if no span fits twice.
    """
    n_vocab, n = len(params["wte"]), min(100, len(params["wpe"]) // 2)
    if n < 2:
        raise ValueError(f"the model sees {len(params['wpe'])} tokens: induction needs 4, two spans of 2")
    ids = rng.integers(n_vocab - 1, size=(n_draws, n))
    ids = np.concatenate([np.full((n_draws, 1), n_vocab - 1), ids, ids], axis=1)  # after <|endoftext|>
    surprise = cross_entropy(gpt2.gpt2(ids[:, :-1], **params, n_head=n_head), ids[:, 1:])
    first, again = surprise[:, 1:n], surprise[:, n + 1 :]  # nothing predicts the first token of the span
    second = np.arange(n + 1, 2 * n)
    scores = [
        weights[..., second, second - n + 1].mean(axis=(0, -1))
        for weights in attention_maps(ids[:, :-1], **params, n_head=n_head)
    ]
    return first.mean() - again.mean(), np.array(scores)


# ---- all together ------------------------------------------------------------------------------------------


def loss_by_position(texts, encoder, surprise, n_ctx):  # -> [n_ctx], nats
    """The surprise at each position of a window, averaged over all full windows.

    Raises ValueError if no document fills one.
    """
    windows = []
    for text in texts:
        surprises = surprise(document_ids(text, encoder))
        for end in range(n_ctx, len(surprises) + 1, n_ctx):
            windows.append(surprises[end - n_ctx : end])
    if not windows:
        problem = f"every document is shorter than the {n_ctx} tokens that the model can see"
        raise ValueError(f"{problem}: python -m extras.scoring measures shorter ones")
    return np.mean(windows, axis=0)


def command(text: str = "", model_size: str = "tiny"):
    """Print, in Markdown, how well a model predicts documents that are new to it."""
    if not text:
        raise ValueError("give a text: python -m training.measure TEXT [MODEL] (see --help)")
    texts = read_documents(text)
    encoder, hparams, params = load_encoder_hparams_and_params(model_size, MODELS_DIR)
    n_head, n_ctx, whole = hparams["n_head"], hparams["n_ctx"], "".join(texts).encode()
    surprises = {"this model": partial(nats, params=params, n_head=n_head)}
    _, place = find_model(model_size, MODELS_DIR)
    counts_path = Path(place) / "counts.npz"  # of a model that training.train made
    if counts_path.exists():
        counts = read_counts(counts_path, hparams["n_vocab"])
        surprises["bigram"] = partial(bigram_nats, counts=counts)
        surprises["unigram"] = partial(unigram_nats, counts=counts)
    losses = loss_by_position(texts, encoder, surprises["this model"], n_ctx)
    bits = {name: bits_per_byte(texts, encoder, surprise) for name, surprise in surprises.items()}
    gain, scores = induction(params, n_head, np.random.default_rng(0))
    bits["gzip -9"] = 8 * len(gzip.compress(whole, 9)) / len(whole)
    report(f"{len(texts)} documents, {len(whole):,} bytes", bits, losses, gain, scores)


def report(title, bits, losses, gain, scores):
    """Print the tables of the model card."""
    print(f"| {title} | bits per byte |\n|---|---|")
    for name, number in bits.items():
        print(f"| {name} | {number:.3f} |")

    n_ctx, n_head = len(losses), scores.shape[1]
    ranges = list(pairwise(n for n in sorted({0, 1, 4, 16, 64, n_ctx // 2, n_ctx}) if n <= n_ctx))
    print("\n| position |", *(f"{a + 1} to {b} |" if b > a + 1 else f"{b} |" for a, b in ranges))
    print("|---" * (len(ranges) + 1) + "|")
    print("| nats a token |", *(f"{losses[a:b].mean():.2f} |" for a, b in ranges))

    print(f"\nRandom tokens are {gain:.2f} nats easier the second time.\n")
    print("| score |", *(f"head {head} |" for head in range(n_head)))
    print("|---" * (n_head + 1) + "|")
    for layer, row in enumerate(scores):
        print(f"| layer {layer} |", *(f"{score:.2f} |" for score in row))
