"""The tensors of a LoRA adapter, compared with what adapter_config.json says and with the base's sizes.

    base_model.model.transformer.h.0.attn.c_attn.lora_A.weight    [r, n_in]: our a, transposed
    base_model.model.transformer.h.0.attn.c_attn.lora_B.weight    [n_out, r]: our b, transposed
    base_model.model.transformer.wte.lora_embedding_A, ..._B      [r, n_vocab], [n_embd, r]: the same
    base_model.model.lm_head.lora_A.weight, ...                   [r, n_embd], [n_vocab, r]
    base_model.model.transformer.ln_f.weight                      as it is: trained whole
    base_model.model.transformer.wte.base_layer.weight            the same; the product is added to it

(utils/save_and_load.py and tuners/lora/layer.py of peft)
"""

import re
from functools import partial

import numpy as np

from extras import lora
from extras.huggingface.adapter_config import PEFT_PREFIX, is_target, is_trained_whole, rank_and_scale
from extras.huggingface.loading import huggingface_name
from extras.huggingface.variants import scale_queries
from files import AGAIN, MIXED_UP, ModelError, shown
from layouts import ADAPTER_CONFIG
from weights import shapes, to_float32

LM_HEAD, WTE = "lm_head.weight", "wte.weight"


def named(tensors, path):  # {name: array} -> {name: array}
    """The tensors by the names of transformers, without what peft adds to a name."""
    found = {}
    for name, array in tensors.items():
        if ".original_module." in name or ".modules_to_save." in name:
            continue  # with bias="all", peft saves the biases of such modules three times
        name = name.removeprefix(PEFT_PREFIX).replace(".base_layer.", ".")
        if name in found:
            raise ModelError(path, f"it has {shown(name)} twice", AGAIN)
        found[name] = array
    return found


def to_adapter(tensors, config, hparams, path):  # {name: array}, fields, base's sizes -> lora.Adapter
    """Check the tensors of a file, give them our names, and transpose them where ours are.

    Raises ModelError for one that is missing, unknown, or of another shape.
    """
    tensors = named(tensors, path)
    take = partial(take_out, tensors, path, hparams)
    updates, arrays = {}, {}
    for full_name, (name, shape) in names_and_shapes(tensors, config, hparams, path).items():
        module = full_name.rpartition(".")[0]
        if len(shape) == 2 and is_target(module, config):
            updates[name] = update_of(module, shape, config, take)
        # whatever the fields say, peft saves both where one is a target or the vocabulary was resized
        if is_trained_whole(full_name, config) or (full_name in tensors and name in ("wte", "lm_head")):
            arrays[name] = take(full_name, shape)
    if tensors:
        found = f"according to {wanted_by(hparams)}, {shown(min(tensors))} is unknown ({len(tensors)} in all)"
        raise ModelError(path, found, MIXED_UP)
    if "lm_head" in arrays and np.array_equal(arrays["lm_head"], arrays.get("wte")):
        arrays["lm_head"] = arrays["wte"]  # the two are tied
    adapter = lora.Adapter(updates, arrays)
    scale_like_base(adapter, hparams)
    return adapter


def check_without_base(tensors, config, path):
    """Raise ModelError for a tensor that no adapter with these fields has, whatever its base."""
    tensors = named(tensors, path)
    for name, array in tensors.items():
        module = re.sub(r"\.lora_([AB]\.weight|embedding_[AB])$", "", name)
        is_whole = is_trained_whole(name, config) or name.endswith((WTE, LM_HEAD))
        if not (is_whole if module == name else is_target(module, config)):
            advice = "save the adapter alone, with peft's save_pretrained"
            raise ModelError(path, f"according to {ADAPTER_CONFIG}, {shown(name)} is unknown", advice)
        if 0 in array.shape:
            raise ModelError(path, f"{shown(name)} is empty", AGAIN)
        to_float32(array, array.shape, name, path, ADAPTER_CONFIG)
        if module != name:
            check_rank(name, module, tensors, config, path)


def check_rank(name, module, tensors, config, path):
    """Raise ModelError unless a tensor has its partner, and both have the rank that the fields give."""
    r, _ = rank_and_scale(module, config)
    is_a = name.removesuffix(".weight").endswith("A")
    partner = name.replace("_A", "_B") if is_a else name.replace("_B", "_A")
    shape = tensors[name].shape
    if partner not in tensors:
        raise ModelError(path, f"it has {shown(name)}, but not {shown(partner)}", AGAIN)
    if len(shape) != 2 or shape[0 if is_a else 1] != r:
        found = f"{shown(name)} has shape {list(shape)}, but rank {r} according to {ADAPTER_CONFIG}"
        raise ModelError(path, found, MIXED_UP)


def names_and_shapes(tensors, config, hparams, path):  # -> {name in transformers: (our name, shape)}
    """All that an adapter can change. A GPT2Model has no head, and no name there begins with transformer."""
    has_head = not any(re.match(r"h\.|wte\.|wpe\.", name) for name in tensors)
    prefix = "transformer." if has_head else ""
    try:
        table = shapes(resized(tensors, prefix, config, hparams, path))
    except ValueError as error:
        raise error if isinstance(error, ModelError) else ModelError(path, error) from None
    found = {prefix + huggingface_name(name): (name, shape) for name, shape in table.items()}
    return found | {LM_HEAD: ("lm_head", table["wte"])} if has_head else found


def take_out(tensors, path, hparams, name, shape):  # -> array
    """Remove a tensor from the dict, checked. Raises ModelError if it is missing or does not fit."""
    if name not in tensors:
        raise ModelError(path, f"according to {wanted_by(hparams)}, {name} is missing", MIXED_UP)
    return to_float32(tensors.pop(name), shape, name, path, wanted_by(hparams))


def wanted_by(hparams):  # -> str
    """What the tensors must agree with, for a message."""
    sizes = ", ".join(f"{size} {hparams[size]}" for size in ("n_vocab", "n_embd", "n_layer"))
    return f"{ADAPTER_CONFIG} and the base ({sizes})"


def update_of(module, shape, config, take):  # -> lora.Update
    """The a and b of one matrix of this shape, and their scale; take: name, shape -> array."""
    n_in, n_out = shape
    r, scale = rank_and_scale(module, config)
    if module == "lm_head":  # the head is [n_vocab, n_embd], its layer [n_embd, n_vocab]
        b, a = take(f"{module}.lora_A.weight", (r, n_out)), take(f"{module}.lora_B.weight", (n_in, r))
        return lora.Update(a, b, scale)
    names = ("lora_A.weight", "lora_B.weight")
    if module.endswith(("wte", "wpe")):
        names = ("lora_embedding_A", "lora_embedding_B")
    a, b = take(f"{module}.{names[0]}", (r, n_in)), take(f"{module}.{names[1]}", (n_out, r))
    return lora.Update(a.T, b.T, scale)


def resized(tensors, prefix, config, hparams, path):  # -> hparams
    """The base's sizes, with one token for each row of the adapter's own embedding and head, if it has them.

    peft saves both; or one, if the other stays as it is, or if a product changes it and the two are tied.
    Raises ModelError for anything else: the rows of the other are not known.
    """
    brought = {name: tensors.get(name) for name in (prefix + WTE, LM_HEAD)}
    rows = {name: len(array) for name, array in brought.items() if np.ndim(array) == 2}
    are_more = any(n != hparams["n_vocab"] for n in rows.values())
    found = ", ".join(f"{name} has {n:,} rows" for name, n in rows.items())
    problem = f"{found}, but the base has {hparams['n_vocab']:,} tokens"
    if are_more and not prefix:
        raise ModelError(path, problem, "it was trained without a head, which new tokens need")
    if len({*rows.values()}) > 1:
        raise ModelError(path, problem, "it needs both wte and lm_head, with the same number of rows")
    if len(rows) == 1 and prefix:
        (name,) = rows
        is_changed = any(each.startswith(name.replace("weight", "lora_")) for each in tensors)
        if not is_changed and (are_more or not is_trained_whole(name, config)):
            problem = problem if are_more else f"it has {name} alone, which modules_to_save does not name"
            raise ModelError(path, problem, "it needs both wte and lm_head, with the same number of rows")
    return hparams | {"n_vocab": max(rows.values())} if are_more else hparams


def scale_like_base(adapter, hparams):
    """Scale the queries of an adapter, in place, as those of its base were.

    Where attention is scaled by c, the loader multiplied the columns of w that make queries, and those of b
    must follow: (w + s a b) c = w c + s a (b c).
    """
    for layer, scale in enumerate(hparams.get("query_scales", ())):
        name = f"h{layer}/attn/c_attn"
        found = [adapter.updates[f"{name}/w"].b] if f"{name}/w" in adapter.updates else []
        found += [adapter.arrays[f"{name}/{leaf}"] for leaf in "wb" if f"{name}/{leaf}" in adapter.arrays]
        for array in found:
            scale_queries(array, scale)
