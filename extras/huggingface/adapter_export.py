"""A LoRA adapter as peft saves it, so that peft and --lora read it: the way back from adapters.py.

    adapter_export.save("FOLDER", style, hparams, base="tiny")

The docstring of adapter_tensors.py has the names of the tensors.

(peft_model.py and tuners/lora/config.py of peft, `save_pretrained`)
"""

import os
from collections import Counter
from pathlib import Path

from extras.huggingface.adapter_config import LARGEST_ALPHA, LARGEST_RANK, PEFT_PREFIX
from extras.huggingface.adapters import ON_THE_HUB
from extras.huggingface.export import temporary_name, write_json, write_tensors
from extras.huggingface.loading import huggingface_name
from extras.huggingface.other_projects import PEFT
from extras.huggingface.variants import scale_queries
from files import ModelError, shown
from layouts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, folder_of, gguf_of, layout_of
from weights import shapes, to_float32


def save(folder, adapter, hparams, base="", dropout=0.0):
    """Write an adapter into a folder, in place of an older one; other files there stay as they are.

    adapter: a `lora.Adapter` that changes matrices of blocks, and nothing else. hparams: of its base. base:
    the name of that model, as for --model_size, so that --lora finds it. dropout: what it was trained with, a
    note for peft. Raises ValueError for what `adapters.load` would refuse, and for a folder with a model;
    OSError where the system says no, as when the disk is full. The older adapter then stays.
    """
    folder = Path(folder)
    refuse_model(folder)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}, expected at least 0 and less than 1")
    table = matrices(adapter, hparams)
    fields = to_fields(table, hparams["n_layer"]) | fields_of_base(str(base))
    tensors = to_tensors(table, hparams)
    with temporary_name(folder / ADAPTER_WEIGHTS) as weights:
        config = weights.with_name(ADAPTER_CONFIG)
        write_json(config, fields | {"lora_dropout": float(dropout)})
        write_tensors(weights, tensors)
        put_in_place(config, weights, folder)


def refuse_model(folder):
    """Raise ValueError for a folder with a model: with an adapter in it, it would no longer load as one."""
    if os.path.isdir(folder) and layout_of(Path(folder)):
        raise ValueError(f"{shown(folder)} holds a model: give the adapter a folder of its own")


def put_in_place(config, weights, folder):
    """Rename the two new files to what they replace; weights are never beside the fields of other weights.

    If the fields change, there are none for a moment: a crash then leaves a folder that is not an adapter. An
    error or Ctrl-C leaves the old adapter or the new one.
    """
    path, before = folder / ADAPTER_CONFIG, config.with_name("before.json")
    try:
        if path.exists() and path.read_bytes() != config.read_bytes():
            os.replace(path, before)
        os.replace(weights, folder / ADAPTER_WEIGHTS)
    finally:
        belonging = before if weights.exists() else config
        if belonging.exists():
            os.replace(belonging, path)


def matrices(adapter, hparams):  # -> {"transformer.h.0.attn.c_attn": (our name, shape, Update)}
    """What an adapter changes, by peft's names of the modules, in the order of the model.

    Raises ValueError for anything other than matrices of blocks.
    """
    table = {name: shape for name, shape in shapes(hparams).items() if name[0] == "h" and len(shape) == 2}
    others = sorted((adapter.updates.keys() - table.keys()) | adapter.arrays.keys())
    if others or not adapter.updates:
        found = f"this one changes {shown(others[0])}" if others else "this one changes nothing"
        raise ValueError(f"an adapter is written if it changes matrices of blocks alone: {found}")
    found = {}
    for name, shape in table.items():
        if name in adapter.updates:
            module = f"transformer.{huggingface_name(name)}".removesuffix(".weight")
            found[module] = (name, shape, adapter.updates[name])
    return found


# ---- adapter_config.json -----------------------------------------------------------------------------------


def to_fields(table, n_layer):  # -> {field: value}
    """The fields of adapter_config.json: the most common rank and alpha, and patterns for any others."""
    pairs = {module: rank_and_alpha(name, update) for module, (name, _, update) in table.items()}
    r, alpha = Counter(pairs.values()).most_common(1)[0][0]
    return PEFT | {
        "r": r,
        "lora_alpha": alpha,
        "target_modules": targets(table, n_layer),
        "rank_pattern": {module: own for module, (own, _) in pairs.items() if own != r},
        "alpha_pattern": {module: own for module, (_, own) in pairs.items() if own != alpha},
    }


def rank_and_alpha(name, update):  # -> r, alpha
    """The rank r of an update, and the alpha for which alpha / r is its scale: as an int if it is whole.

    Raises ValueError for a rank or a scale that `adapters.load` would refuse.
    """
    r, scale = update.a.shape[-1], float(update.scale)
    if not 1 <= r <= LARGEST_RANK:
        raise ValueError(f"{name} has a change of rank {r}, expected from 1 to {LARGEST_RANK:,}")
    if not abs(scale * r) <= LARGEST_ALPHA:  # or NaN
        raise ValueError(f"{name} has a change of scale {scale}, too large for its rank, {r}")
    whole = round(scale * r)
    return r, whole if whole / r == scale else scale * r


def targets(modules, n_layer):  # -> list of str
    """The names by which peft finds these modules: an end, such as "attn.c_attn", if every layer has it.

    Otherwise whole names: "1.attn.c_attn" would be the end of a name in layer 11 too.
    """
    ends = Counter(module.split(".", 3)[3] for module in modules)
    common = sorted(end for end, n in ends.items() if n == n_layer)
    return common + [module for module in modules if module.split(".", 3)[3] not in common]


def fields_of_base(base):  # "124M" -> {"base_model_name_or_path": "gpt2", "revision": None}
    """The base by a name that is the same in any folder; OpenAI's by those on the hub, which peft knows."""
    is_name = base in ("", "tiny", *ON_THE_HUB)
    if not is_name and (place := folder_of(base) or gguf_of(base)):
        return {"base_model_name_or_path": os.path.abspath(place), "revision": None}
    name, _, revision = ON_THE_HUB.get(base, base).partition("@")
    return {"base_model_name_or_path": name or None, "revision": revision or None}


# ---- adapter_model.safetensors -----------------------------------------------------------------------------


def to_tensors(table, hparams):  # -> {name: array}
    """The a and b of every module, transposed. Raises ValueError for an array that would not be read."""
    tensors = {}
    for module, (name, (n_in, n_out), update) in table.items():
        a, b, r = update.a, unscaled(name, update.b, hparams), update.a.shape[-1]
        for letter, array, shape in (("A", a, (n_in, r)), ("B", b, (r, n_out))):
            array = checked(array, shape, f"the {letter.lower()} of {name}")
            tensors[f"{PEFT_PREFIX}{module}.lora_{letter}.weight"] = array.T
    return tensors


def checked(array, shape, name):  # -> array of float32
    """An array, if the loader would accept it; ValueError otherwise."""
    try:
        return to_float32(array, shape, name, ADAPTER_WEIGHTS, "hparams and its rank")
    except ModelError as error:
        raise ValueError(f"an adapter cannot be written: {error.problem}") from None


def unscaled(name, b, hparams):  # -> array
    """The b for the base as it is in its file, where the queries are not scaled (see `scale_like_base`)."""
    scales = {f"h{layer}/attn/c_attn/w": x for layer, x in enumerate(hparams.get("query_scales", ()))}
    scale = scales.get(name, 1)
    if scale != 1:
        b = b.copy()
        scale_queries(b, 1 / scale)
    return b
