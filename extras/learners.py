"""What learns in a fine-tune: a small adapter beside frozen weights (LoRA), or all weights.

One loop serves both. A learner has `leaves`, the arrays that learn, {name: array}; `params`, the model that
they make now; `trainable`, the names of the gradients that are needed of that model, None for all;
`gradients`, which turns those into the gradients of the leaves; and `write`, which puts what was learned into
a folder.
"""

import os
import re
from pathlib import Path

import numpy as np

from extras import gradients
from extras.huggingface import adapter_export, export
from extras.lora import Adapter, Update, attach
from extras.untied import apart
from layouts import ADAPTER_WEIGHTS
from weights import shapes

MATRICES = ("c_attn", "c_proj", "c_fc")  # of a block; c_proj is there twice
QUERIES_AND_VALUES = "qv"
NAMES = (*MATRICES, QUERIES_AND_VALUES, "all")


class AllWeights:
    """Every array of a model learns; the model is changed in place. Raises ValueError if one is quantized."""

    file = "model"  # what is written has a temporary name, made of this one, until it is complete

    def __init__(self, params):
        self.model = params
        for name, leaf in apart(params).items():
            if hasattr(leaf, "shape") and not isinstance(leaf, np.ndarray):
                raise ValueError(f"{name} is quantized: all weights learn only as float32; leave out --full")
        self.leaves = gradients.leaves(params)  # {name: array}
        self.trainable = None

    def params(self, rng=None):  # -> params
        return self.model

    def gradients(self, found):  # {name: array} -> {name: array}
        return found

    def write(self, folder, encoder, hparams, base):
        """Write a model in Hugging Face's layout, in place of an older one; its weights come last."""
        with export.temporary_name(Path(folder).resolve() / self.file) as unnamed:
            export.save(unnamed, encoder, hparams, self.model)
            for path in sorted(unnamed.iterdir(), key=lambda path: path.suffix == ".safetensors"):
                os.replace(path, Path(folder) / path.name)


class LowRankAdapter:
    """LoRA (see extras/lora.py): of each chosen matrix, a and b learn. At first b is 0, and changes nothing.

    matrices: names in NAMES, with commas between them. "qv" is the choice of LoRA's paper, queries and
    values: one a and b for each of the two, side by side in arrays of twice the rank, with zeros where b
    would change the keys. dropout: the share of a matrix's inputs that an adapter does not see in a step, the
    same ones at every token (Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in
    Recurrent Neural Networks"); the others are divided by 1 - dropout, so that the mean stays the same.
    Raises ValueError for an unknown name.
    """

    file = ADAPTER_WEIGHTS

    def __init__(self, params, hparams, matrices, rank, alpha, dropout, seed):
        self.base, self.scale, self.dropout = params, alpha / rank, dropout
        self.names = adapted(hparams, matrices)
        self.leaves, self.seen = {}, {}
        is_split = matrices.strip() == QUERIES_AND_VALUES
        table, rng = shapes(hparams), np.random.default_rng(seed)
        for name in self.names:
            n_in, n_out = table[name]
            r = 2 * rank if is_split else rank
            self.leaves[f"{name}/a"] = rng.uniform(-1, 1, (n_in, r)).astype(np.float32) / n_in**0.5
            self.leaves[f"{name}/b"] = np.zeros((r, n_out), np.float32)
        self.trainable = [*self.leaves]
        # 1 for the numbers of b that learn, 0 for those that stay 0
        self.b_mask = queries_and_values((2 * rank, 3 * hparams["n_embd"])) if is_split else 1

    def params(self, rng=None):  # -> params
        """The base with the adapter beside it; with rng, for a step of learning, some inputs are dropped."""
        self.seen = {} if rng is None or not self.dropout else self.draw(rng)
        return attach(self.base, self.adapter(self.seen))

    def draw(self, rng):  # -> {name of an a: [n_in, 1]}
        """Factors for the rows of each a: 0 for inputs that it does not see, 1 / (1 - dropout) for others."""
        seen = {}
        for name in self.names:
            is_seen = rng.random((len(self.leaves[f"{name}/a"]), 1), np.float32) >= self.dropout
            seen[f"{name}/a"] = is_seen / np.float32(1 - self.dropout)
        return seen

    def adapter(self, seen):  # {name of an a: factors} -> lora.Adapter
        """What has been learned, or what dropout leaves of it."""
        updates = {}
        for name in self.names:
            a = self.leaves[f"{name}/a"] * seen.get(f"{name}/a", 1)
            updates[name] = Update(a, self.leaves[f"{name}/b"], self.scale)
        return Adapter(updates, {})

    def gradients(self, found):  # {name: array} -> {name: array}
        """By the chain rule: in the model that `params` last returned, a is seen · a, and b is scale · b."""
        learned = {}
        for name in self.names:
            learned[f"{name}/a"] = found[f"{name}/a"] * self.seen.get(f"{name}/a", 1)
            learned[f"{name}/b"] = found[f"{name}/b"] * (self.scale * self.b_mask)
        return learned

    def write(self, folder, encoder, hparams, base):
        """Write an adapter as peft does, in place of an older one."""
        adapter_export.save(folder, self.adapter({}), hparams, base, self.dropout)


def adapted(hparams, matrices):  # -> names, such as "h0/attn/c_attn/w"
    """The arrays that an adapter of these matrices changes. Raises ValueError for an unknown name."""
    chosen = [name.strip() for name in matrices.split(",")]
    for name in chosen:
        if name not in NAMES or (name == QUERIES_AND_VALUES and len(chosen) > 1):
            allowed = "c_attn, c_proj, c_fc (or several, with commas between them), all, or qv alone"
            raise ValueError(f"matrices is {matrices!r:.50}: it must be {allowed}")
    if "all" in chosen:
        chosen = MATRICES
    elif QUERIES_AND_VALUES in chosen:
        chosen = ["c_attn"]
    return [name for name in shapes(hparams) if re.fullmatch(rf"h\d+/\w+/({'|'.join(chosen)})/w", name)]


def queries_and_values(shape):  # [2 rank, 3 n_embd] -> mask of the same shape
    """1 for the numbers of b that learn: the first half of its rows changes queries, the second values."""
    mask = np.zeros(shape, np.float32)
    rank, n_embd = shape[0] // 2, shape[1] // 3
    mask[:rank, :n_embd] = 1
    mask[rank:, 2 * n_embd :] = 1
    return mask
