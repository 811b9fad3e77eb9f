"""Adapters as peft saves them, written by hand, with the matrices that they add worked out separately."""

import json

import numpy as np
from safetensors.numpy import save_file

from extras import lora
from weights import shapes

MODULES = {
    "c_attn": "attn.c_attn",
    "c_fc": "mlp.c_fc",
    "attn/c_proj": "attn.c_proj",
    "mlp/c_proj": "mlp.c_proj",
}


def write_adapter(folder, hparams, modules=("c_attn",), arrays=None, rng=None, **fields):
    """Write an adapter of rank 3 and alpha 6 for these matrices of every layer.

    arrays: {name in transformers: array}, trained whole. Returns {our name: what is added to the matrix}.
    """
    rng = rng or np.random.default_rng(0)
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": [MODULES[m] for m in modules]}
    tensors = {f"base_model.model.transformer.{name}": array for name, array in (arrays or {}).items()}
    added = {}
    for layer in range(hparams["n_layer"]):
        for module in modules:
            ours = f"h{layer}/{MODULES[module].replace('.', '/')}/w"
            n_in, n_out = shapes(hparams)[ours]
            a, b = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((3, n_in), (n_out, 3)))
            theirs = f"base_model.model.transformer.h.{layer}.{MODULES[module]}"
            tensors |= {f"{theirs}.lora_A.weight": a, f"{theirs}.lora_B.weight": b}
            added[ours] = 2 * (b @ a).T
    save(folder, tensors, config | fields)
    return added


def random_adapter(hparams, names=None, rng=None, r=3, scale=2.0, std=0.3):
    """A lora.Adapter of these matrices, by default all matrices of blocks."""
    rng, updates = rng or np.random.default_rng(0), {}
    for name in matrices(hparams) if names is None else names:
        a, b = (rng.normal(0, std, shape).astype(np.float32) for shape in zip(shapes(hparams)[name], (r, r)))
        updates[name] = lora.Update(a, b.T, scale)
    return lora.Adapter(updates, {})


def matrices(hparams):  # -> list of names
    return [name for name, shape in shapes(hparams).items() if name.startswith("h") and len(shape) == 2]


def queries_and_values(hparams, r=2, **options):
    """A lora.Adapter of rank 2 r that changes queries and values as two of rank r would, and no key."""
    names = [f"h{layer}/attn/c_attn/w" for layer in range(hparams["n_layer"])]
    both, n_embd = random_adapter(hparams, names, r=2 * r, **options), hparams["n_embd"]
    for update in both.updates.values():
        update.b[r:, :n_embd] = update.b[:, n_embd : 2 * n_embd] = update.b[:r, 2 * n_embd :] = 0
    return both


def save(folder, tensors, config):
    folder.mkdir(exist_ok=True, parents=True)
    save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
