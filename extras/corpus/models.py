"""The models of a run: each process loads a model once, however many texts it gets."""

import contextlib
import ctypes
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from extras import scoring
from names import MODELS_DIR
from utils import DEFAULT, open_model


class Model(NamedTuple):
    """The options that say which model is meant; any process can load it."""

    model_size: str | None = None
    models_dir: str | None = None  # None: where a process has its models by default
    lora: str | None = None
    weights: str | None = None

    @property
    def name(self):
        """What errors and files call it."""
        size = self.model_size or (None if self.lora else DEFAULT)
        lora = self.lora and f"--lora {self.lora}"
        return " ".join(filter(None, [size, lora, self.weights]))


class Loaded(NamedTuple):
    """The weights of a model."""

    params: dict
    n_head: int
    fingerprint: float  # a number that other weights would change: the surprise at the first ids, in nats


class Result(NamedTuple):
    """What a worker finds out about a piece of a text."""

    value: object  # the surprise at it, or the texts that continue it
    n_tokens: int  # scored, or written
    model: str  # the name and the fingerprint of the model that did it
    fingerprint: float


@lru_cache(maxsize=8)  # vocabularies: small
def opened(model):  # -> encoder, hparams, () -> params
    """A model, as `utils.open_model` returns it."""
    return open_model(model.model_size, model.models_dir or MODELS_DIR, model.lora, model.weights)


@lru_cache(maxsize=2)  # a model, and one that drafts for it
def loaded(model):  # -> Loaded
    """The weights of a model."""
    keep_freed_memory()
    _, hparams, load_params = opened(model)
    params, n_head = load_params(), hparams["n_head"]
    n_ids = min(16, hparams["n_ctx"], hparams["n_vocab"])
    fingerprint = scoring.nats(np.arange(n_ids), params, n_head).sum(dtype=float)
    return Loaded(params, n_head, float(fingerprint))


def keep_freed_memory():
    """Let malloc keep freed memory in a worker of Dask too, where `gpt2.keep_freed_memory` has no effect.

    Dask sets MALLOC_TRIM_THRESHOLD_. Then malloc no longer adapts, and returns each large array to the
    system: tiny takes three times as long (man mallopt).
    """
    mmap_threshold, trim_threshold = -3, -1
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another system, or another malloc
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 2**25)
        libc.mallopt(trim_threshold, 2**30)
