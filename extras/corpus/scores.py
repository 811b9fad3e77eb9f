"""How well a model predicts each of many texts, as extras/scoring.py measures it.

A document is split into windows that the model can see at once. Each window is a piece of work of its own:
short documents share a batch, and long ones are spread over workers.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

import gpt2
from extras import scoring
from extras.corpus.models import Result, loaded, opened
from extras.corpus.reading import documents
from files import say_once
from text import plain_note

AT_ONCE = 512  # tokens in a batch: fewer are slower, more are not faster

# ---- from a document to its row ----------------------------------------------------------------------------


class Scores:
    """The job of `score`: a row for each document, and the sums over all rows (see command.py)."""

    key = "document"
    task_size = 2048  # tokens: ten seconds of work for 124M on a core, half a second for tiny

    def __init__(self, model, paths, stride, special, defaults):
        if defaults is not None:
            raise ValueError("--defaults is for generate: leave it out")
        self.model, self.special = model, special
        self.encoder, hparams, _ = opened(model)
        scoring.say_if_not_begun(self.encoder)
        self.scores_all_bytes = not special and self.encoder.begin_id is not None
        self.n_ctx = hparams["n_ctx"]
        self.stride = self.n_ctx if stride is None else stride
        scoring.check_stride(self.stride, self.n_ctx)
        self.function = partial(sums_of, model)
        self.n_documents = self.n_skipped = self.n_tokens = self.nats = self.n_bytes = 0

    def settings(self):  # -> {name: JSON value}
        """What must be the same when a run is continued."""
        return {"action": "score", "model": self.model.name, "stride": self.stride, "special": self.special}

    def texts(self, paths):  # yields Texts
        """The documents in files."""
        return documents(paths)

    def name(self, text):  # -> str
        """What the row of a document calls it."""
        return f"{text.path}:{text.number}"

    label = name  # what an error calls it

    def prepare(self, text):  # -> Document
        """The ids of a document, in windows. Raises what `scoring.scored_ids` raises."""
        ids = np.array(scoring.scored_ids(text.text, self.encoder, self.special), dtype=np.int32)
        if note := plain_note(text.text, self.encoder, self.special, "a document"):
            say_once(note)
        scored_text = text.text if self.scores_all_bytes else scoring.after_first(ids, self.encoder)
        windows = scoring.windows(len(ids), self.n_ctx, self.stride)
        pieces = [(ids[start:end], n_scored) for start, end, n_scored in windows]
        return Document(pieces, [len(piece) for piece, _ in pieces], len(scored_text.encode()))

    def check_same(self, row, text):
        """Raise ValueError if an earlier row is not of this text."""
        if self.scores_all_bytes and row.get("n_bytes") != len(text.text.encode()):
            raise ValueError(f"{self.name(text)} has changed since its row was written: give another --out")

    def count(self, row):
        """Add a row to the sums."""
        self.n_documents += 1
        self.n_tokens += row["n_tokens"]
        self.nats += row["nats"]
        self.n_bytes += row["n_bytes"]

    def summary(self):  # -> str
        """The sums, in five lines, and one more if documents were skipped."""
        skipped = f"skipped        {self.n_skipped:,}\n" if self.n_skipped else ""
        sums = scoring.summary(self.n_tokens, self.nats, self.n_bytes)
        return f"documents      {self.n_documents:,}\n{skipped}{sums}"


class Document(NamedTuple):
    """A document in pieces, (ids, n_scored): the last n_scored of these ids are scored."""

    pieces: list
    sizes: list  # tokens of each piece
    n_bytes: int

    def row(self, name, nats):  # str, surprise at each piece -> dict
        """The row of a document."""
        n_nats = sum(nats)
        n_tokens = sum(n_scored for _, n_scored in self.pieces)
        bits = scoring.to_bits_per_byte(n_nats, self.n_bytes)
        row = {"document": name, "n_tokens": n_tokens, "nats": round(n_nats, 4), "n_bytes": self.n_bytes}
        return row | {"bits_per_byte": round(bits, 5) if self.n_bytes else None}


# ---- in a worker -------------------------------------------------------------------------------------------


def sums_of(model, pieces):  # -> list of Results
    """The surprise at each piece, in nats; pieces of similar length are read side by side."""
    params, n_head, fingerprint = loaded(model)
    results = [None] * len(pieces)
    for batch in batches(pieces):
        for i, surprises in zip(batch, surprises_at([pieces[i] for i in batch], params, n_head)):
            n_nats = float(surprises.sum(dtype=float))
            results[i] = Result(n_nats, len(surprises), model.name, fingerprint)
    return results


def batches(pieces):  # yields lists of indices
    """Batches of pieces of similar length, each of AT_ONCE tokens at most, or of one piece."""
    batch = []
    for i in sorted(range(len(pieces)), key=lambda i: len(pieces[i][0])):
        if batch and (len(batch) + 1) * len(pieces[i][0]) > AT_ONCE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def surprises_at(pieces, params, n_head):  # -> [n_pieces] of [n_scored]
    """The surprise at the scored ids of a batch; zeros after a short piece change nothing before them."""
    lengths = [len(ids) - 1 for ids, _ in pieces]  # nothing follows the last id, so it is not read
    inputs = np.zeros((len(pieces), max(lengths)), dtype=int)
    for row, length, (ids, _) in zip(inputs, lengths, pieces):
        row[:length] = ids[:-1]
    kv_cache = gpt2.new_kv_cache(params, n_head, *inputs.shape[::-1])
    hidden = gpt2.prefill(inputs, params, n_head, kv_cache)
    before = [states[n - n_scored : n] for states, n, (_, n_scored) in zip(hidden, lengths, pieces)]
    targets = [ids[-n_scored:] for ids, n_scored in pieces]
    chunks = scoring.surprises_and_ranks(np.concatenate(before), np.concatenate(targets), params)
    surprises = np.concatenate([chunk for chunk, _ in chunks])
    ends = np.cumsum([n_scored for _, n_scored in pieces])
    return np.split(surprises, ends[:-1])
