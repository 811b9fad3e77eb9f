"""Whole models, small and random, with tokenizers of other kinds in the files of real ones."""

import json

import numpy as np
from helpers import lively_params
from other_tokenizer_layouts import LAYOUTS

from extras.huggingface import export

SIZES = {"n_ctx": 64, "n_embd": 48, "n_head": 4, "n_layer": 2}
MODELS = {  # kinds of which the programs are tried: each writes and reads a text in another way
    "Chinese": "uer",
    "Japanese": "rinna",
    "Swedish": "gpt-sw3",
    "Korean": "kogpt2, class named",
    "English": "BERT, clean-up",
    "bytes": "Llama's",
    "words": "words of music",
}


def write_other_model(folder, name, seed=3):  # -> layout
    """A model with the tokenizer of one of the layouts."""
    layout = LAYOUTS[name]()
    layout.write(folder)
    hparams = SIZES | {"n_vocab": layout.n_vocab}
    config = json.loads((folder / "config.json").read_text()) | SIZES | {"n_positions": SIZES["n_ctx"]}
    config |= {"bos_token_id": layout.begin_id, "eos_token_id": layout.stop_ids[0]}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = export.to_tensors(hparams, lively_params(hparams, seed))
    export.write_tensors(folder / "model.safetensors", tensors)
    return layout


def same_arrays(a, b):  # -> bool
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
