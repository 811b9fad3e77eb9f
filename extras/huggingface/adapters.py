"""LoRA adapters as peft saves them: from a folder, or from the hub, by name.

An adapter is adapter_config.json, adapter_model.safetensors, and often the tokenizer that it was trained
with. Its base is the model that it is put on. adapter_config.py says which matrices it changes,
adapter_tensors.py compares that with its tensors and with the base, and lora.py does the math.
"""

import os
import re
from typing import NamedTuple

import numpy as np

from extras import lora
from extras.huggingface import adapter_tensors, vocabulary
from extras.huggingface.adapter_config import read_adapter_config
from extras.huggingface.hub import download_command, find_file, how_again, parse_name
from extras.huggingface.tensors import read_safetensors, safetensors_library
from extras.recognise import unknown_adapter
from extras.untied import apart
from files import AGAIN, MIXED_UP, ModelError, convert_advice, fresh_copy, say, shown
from layouts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CHECKPOINT, TOKENS, gguf_of
from names import is_hub_name
from weights import to_float32

PICKLE = "adapter_model.bin"
GIVE = "give --model_size"
STRONGEST = 100  # times what was trained
SCALED = re.compile(r"(.+):([+-]?(?:\d+\.?\d*|\.\d+))")  # a name and a strength
ON_THE_HUB = {"124M": "gpt2", "355M": "gpt2-medium", "774M": "gpt2-large", "1558M": "gpt2-xl"}

# ---- what is asked for -------------------------------------------------------------------------------------


class Chosen(NamedTuple):
    """An adapter that is asked for, before its tensors are read."""

    place: str  # its folder, or "owner/name@revision"
    strength: float
    config: dict  # see `read_adapter_config`


def choose(names, find_place=None):  # "style:0.5,owner/facts" -> list of Chosen
    """The adapters that a word of --lora names. find_place: name -> place, by default `place_of`.

    Raises ValueError for what cannot be one, ModelError for what is not LoRA.
    """
    names = str(names)
    is_one = os.path.exists(name_and_strength(names)[0])  # a folder may have a comma in its name
    chosen = []
    for word in [names] if is_one else names.split(","):
        name, strength = name_and_strength(word.strip())
        if abs(strength) > STRONGEST:
            allowed = f"expected from {-STRONGEST} to {STRONGEST}"
            raise ValueError(f"lora is '{shown(name)}' with a strength of {strength:g}: {allowed}")
        place = (find_place or place_of)(name)
        chosen.append(Chosen(place, strength, read_adapter_config(place)))
    return chosen


def name_and_strength(word):  # "style:0.5" -> "style", 0.5
    """A word of --lora in its two parts; "style:0.5" may also be the name of a folder."""
    scaled = None if os.path.exists(word) else SCALED.fullmatch(word)
    return (scaled[1], float(scaled[2])) if scaled else (word, 1.0)


def place_of(name):  # -> folder, or "owner/name@revision"
    """Where an adapter is: its folder, also if a file in it is given, or its name on the hub."""
    folder = os.path.dirname(name) or "."
    if os.path.isfile(name) and os.path.isfile(os.path.join(folder, ADAPTER_CONFIG)):
        return folder
    if os.path.isdir(name) or is_hub_name(name):
        return name
    raise unknown_adapter(name)


def base_of(chosen, models_dir=None):  # list of Chosen -> str
    """The model that adapters were made for, as they say themselves.

    models_dir: where OpenAI's models may lie; one that does is not downloaded again from the hub.
    Raises ModelError if one does not say it, and for a model that is neither on the hub nor here; ValueError
    if they disagree.
    """
    first, base = chosen[0].place, own_base(chosen[0].config)
    for place, _, config in chosen:
        its_base = own_base(config)
        if not its_base:
            raise ModelError(place, f"{ADAPTER_CONFIG} does not say which model it was made for", GIVE)
        if full_name(its_base) != full_name(base):
            raise ValueError(f"{first} was made for {shown(base)}, {place} for {shown(its_base)}: {GIVE}")
    if os.path.isdir(base) or gguf_of(base):
        return os.path.join(".", base)  # a folder, even if it has the name of a model
    if base == "tiny":
        return base
    if not is_hub_name(base):
        raise ModelError(first, f"it was made for {shown(base)}, which is not here", GIVE)
    size = release_of(base, models_dir)
    used = f"which is here as {size}, and is" if size else "which is"
    say(f"{shown(first)} was made for {shown(base)}, {used} used unless --model_size names another")
    return size or base


def release_of(base, models_dir):  # "gpt2" -> "124M", or None
    """OpenAI's own name for a model on the hub, if its files are in models_dir: the weights are the same."""
    for size, name in ON_THE_HUB.items():
        if models_dir and full_name(name) == full_name(base):
            index = os.path.join(models_dir, size, f"{CHECKPOINT}.index")
            return size if os.path.isfile(os.path.expanduser(index)) else None
    return None


def own_base(config):  # -> "owner/name@revision", a folder, or ""
    """What adapter_config.json names as the base."""
    base, revision = config["base_model_name_or_path"], config["revision"]
    return f"{base}@{revision}" if base and revision and not os.path.isdir(base) else base


def full_name(base):  # -> str
    """One name for one model: "gpt2" and "openai-community/gpt2" are the same on the hub."""
    if os.path.isdir(base) or not is_hub_name(base):
        return os.path.normpath(base)
    return "@".join(parse_name(base))


def say_if_another(place, base, model_size):
    """Say on stderr if an adapter was made for another model than the one that is used, if both are known."""
    used = ON_THE_HUB.get(model_size, str(model_size))
    known = [name for name in (base, used) if name == "tiny" or (name and is_hub_name(name))]
    if len({parse_name(name)[0] for name in known}) > 1:
        say(f"{shown(place)} was made for {shown(base)}, not for {shown(model_size)}")


# ---- a model with adapters ---------------------------------------------------------------------------------


def adapted(chosen, model_size, encoder, hparams, load_params):  # -> Encoder, hparams, () -> params
    """An opened model with adapters merged into it. chosen: a list of Chosen; the rest: of the model.

    The files of the adapters are read at once, the weights of the model only when the function that is
    returned is called. The tokenizer of an adapter takes the place of the model's. Raises what `load` raises,
    and ModelError for adapters that do not go together.
    """
    adapters, n_vocab = [], hparams["n_vocab"]
    for place, strength, config in chosen:
        say_if_another(place, own_base(config), model_size)
        adapter = load(place, hparams, config)
        check_beside(place, adapter, adapters)
        rows = [len(adapter.arrays[name]) for name in ("wte", "lm_head") if name in adapter.arrays]
        if rows:
            hparams = hparams | {"n_vocab": rows[0]}
        if rows or hparams["n_vocab"] == n_vocab:  # else an earlier one added tokens
            encoder = tokenizer_of(place, encoder, hparams["n_vocab"])
        adapters.append((place, adapter, strength))
    return encoder, hparams, lambda: merged(load_params(), adapters)


def merged(params, adapters):  # params, [(place, Adapter, strength), ...] -> params
    """A model with several adapters merged into it. Raises ModelError for weights that become too large."""
    for _, adapter, _ in adapters:
        params = lora.replaced(params, adapter)  # first, so that none replaces a product
    for place, adapter, strength in adapters:
        params = lora.merge(params, adapter._replace(arrays={}), strength)
        check_merged(place, adapter, params)
    return params


def check_beside(place, adapter, others):
    """Raise ModelError if this adapter and an earlier one change the same array, and one of them replaces it.

    Only products add up. But both may bring the same array: beside a changed head, peft saves the base's own.
    """
    for other_place, other, _ in others:
        replaced = adapter.arrays.keys() | other.arrays.keys()
        for name in sorted(touched(adapter) & touched(other) & replaced):
            mine, theirs = adapter.arrays.get(name), other.arrays.get(name)
            if not np.array_equal(mine, theirs):  # one that adds a product has None, equal to no array
                problem = f"it and {shown(other_place)} both change {name}, and one of them replaces it whole"
                raise ModelError(place, problem, "use one of the two")


def touched(adapter):  # -> set of names
    """The arrays that an adapter changes."""
    return adapter.arrays.keys() | adapter.updates.keys()


def check_merged(place, adapter, params):
    """Raise ModelError if an adapter makes weights too large, as a wrong alpha or strength does.

    And if the rows that it adds are missing in embedding or head, because the base does not tie the two.
    """
    leaves = apart(params)
    for name in sorted(adapter.updates):
        with fresh_copy("give a lower strength, such as FOLDER:0.1, or another adapter"):
            whole = leaves[name][:]  # of a quantized matrix, what it stands for
            to_float32(whole, whole.shape, f"{name}, once merged,", place, ADAPTER_CONFIG)
    rows, rows_of_head = len(leaves["wte"]), len(leaves["lm_head"])
    if rows != rows_of_head:
        problem = f"the embedding would have {rows:,} rows, the head {rows_of_head:,}"
        raise ModelError(place, problem, "it was made for a model whose head is tied to the embedding")


def tokenizer_of(adapter, encoder, n_vocab):  # -> Encoder
    """The adapter's own tokenizer, if it has one; otherwise the given one.

    Raises ModelError if that does not have one token for each of n_vocab rows.
    """
    if any(find_file(adapter, name) for name in TOKENS):
        stops, begin = sorted(encoder.stop_ids), encoder.begin_id
        with fresh_copy(how_again(adapter)):
            return vocabulary.load_encoder(adapter, n_vocab, stops, begin_id=begin)
    if len(encoder.encoder) != n_vocab:
        problem = f"its embedding has {n_vocab:,} rows, but there is no tokenizer with as many tokens"
        raise ModelError(adapter, problem, "add the tokenizer that it was trained with: tokenizer.json")
    return encoder


# ---- one adapter -------------------------------------------------------------------------------------------


def load(adapter, hparams, config=None):  # -> lora.Adapter
    """An adapter for a base of these sizes, to be put on it by `lora.merge` or `lora.attach`.

    adapter: a folder, or "owner/name" or "owner/name@revision" on the hub. hparams: of the base, as
    `utils.load_encoder_hparams_and_params` returns them. config: what `read_adapter_config` returned, if it
    was called before. Raises ModelError, which names the file and the field or tensor, for what cannot be
    fetched, is incomplete, does not fit, or is not LoRA.
    """
    adapter = place_of(str(adapter))
    with fresh_copy(how_again(adapter)):
        config = read_adapter_config(adapter) if config is None else config
        safetensors_library()  # if it is missing, say so before anything is downloaded
        path = find_file(adapter, ADAPTER_WEIGHTS)
        if path is None:
            raise without_weights(adapter)
        try:
            return adapter_tensors.to_adapter(read_safetensors(path), config, hparams, path)
        except ModelError as error:
            base = config["base_model_name_or_path"]
            if error.advice != MIXED_UP or not base:
                raise
            advice = f"it was made for {shown(base)}; if that is this model, {how_again(adapter)}"
            raise ModelError(error.what, error.problem, advice) from None


def without_weights(adapter):  # -> ModelError
    """What is wrong with an adapter that has no safetensors: usually it has a pickle."""
    pickle = find_file(adapter, PICKLE)
    if pickle is None:
        return ModelError(adapter, f"it has no {ADAPTER_WEIGHTS}", AGAIN)
    why = "a pickle, which could run any code, so it is not read"
    problem = f"it has no {ADAPTER_WEIGHTS}, but {PICKLE}, {why}"
    if os.path.isdir(adapter):
        return ModelError(adapter, problem, convert_advice(pickle))
    get = download_command(adapter, "--local-dir FOLDER")
    return ModelError(adapter, problem, f"run {get}; {convert_advice(f'FOLDER/{PICKLE}')}")
