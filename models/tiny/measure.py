"""The numbers of the model card in this folder: how well a model tells what comes next in a text.

python models/tiny/measure.py TEXT          of the model in this folder
python models/tiny/measure.py TEXT MODEL    of another, named as for gpt2.py: a folder, 124M
"""

import argparse
import gzip
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the program's own modules

import gpt2
from extras.inside import attention_maps
from extras.scoring import bits_per_byte, cross_entropy, document_ids, nats, read_documents
from utils import find_model, load_encoder_hparams_and_params

# ---- what only counts --------------------------------------------------------------------------------------


def unigram_nats(ids, counts):  # [n_seq] -> [n_seq - 1]
    """The surprise of a model that knows only how frequent each token is."""
    return -np.log(unigrams(counts)[ids[1:]])


def unigrams(counts):  # -> [n_vocab]
    """How probable each token is: each counts once more than it was seen, so that none is impossible."""
    return (counts["unigrams"] + 1) / (counts["unigrams"] + 1).sum()


def bigram_nats(ids, counts):  # [n_seq] -> [n_seq - 1]
    """The surprise of a model that knows only how often a token follows another.

    0.9 of its probability is that share; the rest, and that of pairs not counted, goes as in `unigrams`.
    """
    ids, n_vocab = np.asarray(ids), len(counts["unigrams"])
    first, second = counts["bigrams"].T.astype(int)
    shares = counts["bigram_counts"] / counts["unigrams"][first]
    counted = np.bincount(first, weights=shares, minlength=n_vocab)  # of what follows a token
    keys, wanted = first * n_vocab + second, ids[:-1] * n_vocab + ids[1:]
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)  # the counts are sorted by pair
    share = np.where(keys[at] == wanted, shares[at], 0)
    return -np.log(0.9 * share + (1 - 0.9 * counted[ids[:-1]]) * unigrams(counts)[ids[1:]])


# ---- induction ---------------------------------------------------------------------------------------------


def induction(params, n_head, rng, n_draws=20):  # -> nats, [n_layer, n_head]
    """How much easier random tokens are the second time, and how far each head is an induction head.

    Nothing but the first time can tell the second. The score of a head: how much it looks from a token of the
    second time at the one that came next the first time (Olsson et al. 2022, "In-context Learning and
    Induction Heads"). Both are averages over n_draws draws.
    """
    n_vocab, n = len(params["wte"]), min(100, len(params["wpe"]) // 2)
    ids = rng.integers(n_vocab - 1, size=(n_draws, n))
    ids = np.concatenate([np.full((n_draws, 1), n_vocab - 1), ids, ids], axis=1)  # behind <|endoftext|>
    surprise = cross_entropy(gpt2.gpt2(ids[:, :-1], **params, n_head=n_head), ids[:, 1:])
    first, again = surprise[:, 1:n], surprise[:, n + 1 :]  # less the span's first token: nothing foretells it
    second = np.arange(n + 1, 2 * n)
    scores = [
        weights[..., second, second - n + 1].mean(axis=(0, -1))
        for weights in attention_maps(ids[:, :-1], **params, n_head=n_head)
    ]
    return first.mean() - again.mean(), np.array(scores)


# ---- all together ------------------------------------------------------------------------------------------


def loss_by_position(texts, encoder, surprise, n_ctx):  # -> [n_ctx], nats
    """How much the token at each position of a window surprises a model, averaged over full windows.

    Raises ValueError if no document fills one.
    """
    surprises = [surprise(document_ids(text, encoder)) for text in texts]
    windows = np.concatenate([nats[: len(nats) // n_ctx * n_ctx].reshape(-1, n_ctx) for nats in surprises])
    if len(windows) == 0:
        raise ValueError(f"no document is longer than the {n_ctx} tokens that the model sees")
    return windows.mean(axis=0)


def by_chance(rng, temperature=0.8, top_k=40):  # -> pick
    """A `pick` for `gpt2.generate`: one of the top_k best tokens, the better the likelier."""

    def pick(logits):
        best = np.argsort(-logits, kind="stable")[:top_k]
        return rng.choice(best, p=gpt2.softmax(logits[best].astype(float) / temperature))

    return pick


def report(texts, model_size):
    """Print, in Markdown, what a model knows of documents that it has not seen."""
    encoder, hparams, params = load_encoder_hparams_and_params(model_size, models_dir="models")
    n_head, n_ctx, whole = hparams["n_head"], hparams["n_ctx"], "".join(texts).encode()
    surprises = {"this model": partial(nats, params=params, n_head=n_head)}
    counts_path = find_model(model_size, "models") / "counts.npz"
    if counts_path.exists():
        counts = dict(np.load(counts_path))
        surprises["bigram"] = partial(bigram_nats, counts=counts)
        surprises["unigram"] = partial(unigram_nats, counts=counts)
    print(f"| {len(texts)} documents, {len(whole):,} bytes | bits per byte |\n|---|---|")
    for name, surprise in surprises.items():
        print(f"| {name} | {bits_per_byte(texts, encoder, surprise):.3f} |")
    print(f"| gzip -9 | {8 * len(gzip.compress(whole, 9)) / len(whole):.3f} |")

    losses = loss_by_position(texts, encoder, surprises["this model"], n_ctx)
    ranges = list(pairwise(n for n in sorted({0, 1, 4, 16, 64, n_ctx // 2, n_ctx}) if n <= n_ctx))
    print("\n| position |", *(f"{a + 1} to {b} |" for a, b in ranges))
    print("|---" * (len(ranges) + 1) + "|")
    print("| nats a token |", *(f"{losses[a:b].mean():.2f} |" for a, b in ranges))

    gain, scores = induction(params, n_head, np.random.default_rng(0))
    print(f"\nRandom tokens are {gain:.2f} nats easier the second time.\n")
    print("| score |", *(f"head {head} |" for head in range(n_head)))
    print("|---" * (n_head + 1) + "|")
    for layer, row in enumerate(scores):
        print(f"| layer {layer} |", *(f"{score:.2f} |" for score in row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print how well a model tells what comes next in a text.")
    parser.add_argument("text", metavar="TEXT", help="a UTF-8 file; a line <|endoftext|> ends a document")
    parser.add_argument(
        "model_size", metavar="MODEL", nargs="?", default="tiny", help="as for gpt2.py (tiny)"
    )
    options = parser.parse_args()
    try:
        report(read_documents(options.text), options.model_size)
    except (ValueError, OSError) as error:
        raise SystemExit(f"measure.py: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
