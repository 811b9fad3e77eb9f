"""A folder or a file that is not a model: what it is instead, and where the model is, in one line."""

import contextlib
import os
import re
from pathlib import Path

from files import PICKLES, ModelError, convert_advice, convert_command, quoted, read_json, shown
from layouts import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    GGUF,
    QUANTIZED,
    SAFETENSORS,
    SHARD,
    SIZES,
    TOKENS,
    entries_in,
    layout_of,
)
from names import ALLOWED

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"  # of transformers
PICKLE_SHARD = re.compile(r"pytorch_model-\d+-of-\d+\.bin")
OF_TRAINING = re.compile(  # files beside a model that look like its pickles
    r"(optimizer|scheduler|scaler|sampler|dl_state_dict|training_args|training|random_states|rng_state"
    r"|custom_checkpoint)(_\d+)*\.(bin|pt|pth|pkl)|(train|val)\.bin|meta\.pkl|training\.npz"
)
OLD = "transformers 4 converts it: GPT2LMHeadModel.from_pretrained(FOLDER, {}=True).save_pretrained(FOLDER)"
GET = "get the model's safetensors instead"
FORMATS = (  # by the name of a file: what it is, and what to do
    (r"flax_model.*\.msgpack", "is in transformers' format for Flax", OLD.format("from_flax")),
    (r"tf_model.*\.h5", "is in transformers' format for TensorFlow", OLD.format("from_tf")),
    (r".*\.gguf", "is in llama.cpp's format", "give it as --model_size"),
    (r"ggml.*\.bin", "is in an old format of llama.cpp", GET),
    (r".*\.onnx", "is in the format of ONNX", GET),
    (r"openvino_model\.(bin|xml)", "is in OpenVINO's format", GET),
    (r".*\.npz", "is in NumPy's format", GET),
    (r"quantized\.safetensors", "is of extras/quantize.py", "give its folder as --model_size"),
    (r"adapter_model\.safetensors", "is an adapter of peft, not a model", "give its folder as --lora"),
    (r".*\.(zip|tar|gz|tgz|7z|rar)", "is an archive", "unpack it, and give the folder"),
)
TOKENIZER = (*TOKENS, "tokenizer.model", "encoder.json")
WEIGHTS = (SIZES, "model.ckpt.index", *SAFETENSORS, QUANTIZED, PICKLE, PICKLE_INDEX, "ckpt.pt")
A_MODEL = (
    "a model is a folder with hparams.json, encoder.json, vocab.bpe and model.ckpt, as OpenAI released it, "
    "or with config.json, model.safetensors and a tokenizer, as transformers saves it"
)
MOST = 100  # of a folder's folders are looked into


def not_a_model(folder):  # Path -> ModelError
    """The error for a folder that is not a model: what it holds, and where the model is, if that is near."""
    found = adapter(folder) or cache_of_hub(folder) or model_inside(folder) or other_weights(folder)
    return ModelError(folder, *(found or contents(folder)))


def not_a_folder(path):  # -> ValueError
    """The error for a file given in place of a model's folder: what it is, and what to do with it."""
    kind = "a text" if str(path).endswith((".txt", ".md")) else "a file"
    if not os.path.isfile(path):  # such as a pipe, whose end may never come
        return ValueError(f"model_size is '{shown(path)}', neither a folder nor a file: {ALLOWED}")
    with open(path, "rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if is_gguf:
        return ValueError(f"model_size is '{shown(path)}', a file of llama.cpp: let its name end in {GGUF}")
    advice = file_advice(path) or ALLOWED
    return ValueError(f"model_size is '{shown(path)}', {kind}, but a model is a folder: {advice}")


# ---- weights in another form -------------------------------------------------------------------------------


def other_weights(folder):  # Path -> (problem, advice), or None
    """What a folder has in place of model.safetensors, and what to do."""
    names = [entry.name for entry in entries_in(folder) if os.path.isfile(entry.path)]
    pickles = [name for name in (PICKLE_INDEX, PICKLE) if name in names][:1]
    pickles = pickles or [name for name in names if is_pickle(name)]
    if len(pickles) > 1 and not all(map(PICKLE_SHARD.fullmatch, pickles)):
        problem = f"it has several pickles, {names_of(pickles)}, which could run any code, so none is read"
        return problem, f"convert the model's: {convert_command('FILE')}"
    others = [name for name in names if is_tensors(name)] or [name for name in names if format_of(name)]
    if not pickles and not others:
        return None
    if not pickles and len(others) > 1 and all(name.lower().endswith(GGUF) for name in others):
        problem = f"it has several models of llama.cpp, {names_of(others)}"
        return problem, f"give one, such as {quoted(folder / others[0])}"
    name = (pickles or others)[0]
    kind = "an index of pickles" if name == PICKLE_INDEX else "a pickle"
    why = f", {kind}, which could run any code, so it is not read" if pickles else ""
    return f"it has no model.safetensors, but {shown(name)}{why}", file_advice(folder / name)


def is_pickle(name):  # -> bool
    """Whether a file may be a pickle that holds a model, judged by its name."""
    return name.endswith(PICKLES) and not OF_TRAINING.fullmatch(name) and not format_of(name)


def is_tensors(name):  # -> bool
    """Whether a file holds tensors as safetensors, and is not an adapter."""
    return name.endswith(".safetensors") and not format_of(name)


def format_of(name):  # -> (what it is, what to do), or None
    """Another format for models, if the name of a file shows it."""
    return next((kind for pattern, *kind in FORMATS if re.fullmatch(pattern, name)), None)


def file_advice(path):  # -> str, or None
    """What to do with a file that is not read, if its name shows what it is."""
    folder, name = os.path.split(path)
    if PICKLE_SHARD.fullmatch(name):
        index = os.path.join(folder, PICKLE_INDEX)
        return file_advice(index) if os.path.isfile(index) else f"get {PICKLE_INDEX} and all that it names"
    if name.lower().endswith(GGUF):
        return f"it is in llama.cpp's format; give it as --model_size {quoted(path)}"
    if found := not_weights(name):
        return found
    if name == PICKLE_INDEX or is_pickle(name):
        lacks = name.startswith("pytorch_model") and not os.path.isfile(os.path.join(folder, "config.json"))
        first = "get its config.json and the files of its tokenizer too; then, " if lacks else ""
        return first + convert_advice(path)
    if SHARD.fullmatch(name):
        return "get model.safetensors.index.json and all that it names"
    if is_tensors(name):
        return "if it is a whole model, name it model.safetensors, with config.json and a tokenizer beside it"
    return None


def not_weights(name):  # -> str, or None
    """What a file is instead of a model's weights that can be read or converted, if its name shows it."""
    if name == "meta.pkl":
        return "it holds the characters of a nanoGPT, not its weights"
    if OF_TRAINING.fullmatch(name):
        return "it belongs to a training run, and holds no model"
    kind = format_of(name)
    return f"it {kind[0]}; {kind[1]}" if kind else None


# ---- folders -----------------------------------------------------------------------------------------------


def adapter(folder):  # Path -> (problem, advice), or None
    """What an adapter in a folder is."""
    path = folder / ADAPTER_CONFIG
    return what_an_adapter_is(path, folder) if path.is_file() else None


def what_an_adapter_is(path, place):  # Path of adapter_config.json, folder or name -> problem, advice
    """What an adapter that is given as a model is, and how to give it."""
    try:
        config = read_json(path)
    except ModelError:
        config = {}
    kind = "a LoRA adapter" if config.get("peft_type") == "LORA" else "an adapter"
    base = config.get("base_model_name_or_path")
    base = f"; it was made for {shown(base)}" if isinstance(base, str) and base else ""
    of_peft = config.get("peft_type", "LORA")
    advice = f"give it as --lora {quoted(place)}" if of_peft == "LORA" else without_lora(of_peft)
    return f"it is {kind} of peft, not a model{base}", advice


def without_lora(kind):  # -> str
    """What to do with another kind of adapter: most can be merged; one that changes the prompt cannot."""
    if re.search("PROMPT|PREFIX|P_TUNING|CPT|CARTRIDGE", str(kind)):
        return "it changes the prompt, not the weights, so only peft can run it"
    return "merge it into its base with peft, by merge_and_unload, and give that as --model_size"


def not_an_adapter(place):  # folder, or name on the hub -> ModelError
    """The error for a place that is not an adapter of peft: what it is instead, and where the adapter is."""
    problem, folder = f"it has no {ADAPTER_CONFIG}, so it is not an adapter of peft", Path(place)
    if not folder.is_dir():
        return ModelError(place, problem, f"a model is given as --model_size {quoted(place)}")
    if layout_of(folder):
        return ModelError(place, "it is a model, not an adapter", f"give it as --model_size {quoted(place)}")
    inside = [each for each in folders_in(folder) if holds(each, [ADAPTER_CONFIG])]
    if inside:
        return ModelError(place, problem, f"give a folder inside it, such as {quoted(inside[-1])}")
    pickles = [entry.path for entry in entries_in(folder) if is_pickle(entry.name)]
    advice = file_advice(pickles[0]) if pickles else f"an adapter is a folder with it and {ADAPTER_WEIGHTS}"
    return ModelError(place, problem, advice)


def unknown_adapter(name):  # -> ValueError
    """The error for a name that is neither a folder with an adapter nor one on the hub."""
    advice = file_advice(name) if os.path.isfile(name) else None
    if advice is None:
        missing = "" if os.path.exists(name) else "there is no such folder; "
        allowed = f"a folder with {ADAPTER_CONFIG}, or a name on the Hugging Face hub, owner/name"
        advice = f"{missing}expected {allowed}; FOLDER:0.5 adds half of it, A,B adds two"
    return ValueError(f"lora is '{shown(name)}': {advice}")


def cache_of_hub(folder):  # Path -> (problem, advice), or None
    """Which model's cache a folder is, and where its files are."""
    repo = repo_of(os.path.basename(os.path.abspath(folder)))
    if repo and (folder / "snapshots").is_dir():
        there = folders_in(folder / "snapshots")[:MOST]
        main = folder / "refs" / "main"
        commit = main.read_text("utf-8", "replace") if main.is_file() else ""
        found = [each for each in there if os.path.basename(each) == commit and holds(each, ["config.json"])]
        found = found or [each for each in there if holds(each, WEIGHTS)]
        advice = f"give {quoted(found[0])}" if found else f"give the model's name, {quoted(repo)}"
        return f"it is the hub's cache of {shown(repo)}", advice
    caches = [each for each in folders_in(folder)[:MOST] if repo_of(os.path.basename(each))]
    caches = [each for each in caches if is_gpt2_cache(each)] or caches
    repos = [repo_of(os.path.basename(each)) for each in caches]
    return ("it is a cache of the hub", f"give a model's name, such as {quoted(repos[0])}") if repos else None


def is_gpt2_cache(folder):  # str -> bool
    """Whether a folder is the hub's cache of a model whose config.json says that it is a GPT-2."""
    snapshots = os.path.join(folder, "snapshots")
    for snapshot in folders_in(snapshots) if os.path.isdir(snapshots) else []:
        with contextlib.suppress(ModelError, OSError):
            return read_json(os.path.join(snapshot, "config.json")).get("model_type") == "gpt2"
    return False


def repo_of(name):  # "models--owner--name" -> "owner/name"
    """The model whose cache has this name, or None."""
    return name.removeprefix("models--").replace("--", "/") if name.startswith("models--") else None


def model_inside(folder):  # Path -> (problem, advice), or None
    """The models one folder deeper, or the checkpoints of a training run there."""
    folders = folders_in(folder)
    steps = [each for each in folders if re.fullmatch(r"checkpoint-\d+", os.path.basename(each))][-MOST:]
    for step in reversed(steps):
        if holds(step, (*WEIGHTS, ADAPTER_CONFIG)):
            problem = f"not a model, but the checkpoints of a training run, {names_of(steps)}"
            latest = f"as --lora {quoted(step)}" if holds(step, [ADAPTER_CONFIG]) else quoted(step)
            return tokenizer_apart(folder, step) or (problem, f"give the latest, {latest}")
    inside = [each for each in folders[:MOST] if holds(each, WEIGHTS)]
    if len(inside) > 1:
        return f"it holds several models, {names_of(inside)}", f"give one, such as {quoted(inside[0])}"
    if inside:
        found = "its model is one folder deeper", f"give {quoted(inside[0])}"
        return tokenizer_apart(folder, inside[0]) or found
    return None


def tokenizer_apart(folder, model):  # Path, str -> (problem, advice), or None
    """Where the tokenizer of a model is, if it is not beside the weights."""
    if holds(model, (*TOKENIZER, SIZES, ADAPTER_CONFIG, "ckpt.pt")):
        return None
    homes = [home for home in (str(folder), *folders_in(folder)[:MOST]) if holds(home, TOKENIZER)]
    if not homes:
        return None
    problem = f"its model is in {shown(model)}, its tokenizer in {shown(homes[0])}"
    return problem, f"copy the tokenizer's files from {quoted(homes[0])} to {quoted(model)}, and give that"


def contents(folder):  # Path -> (problem, advice)
    """What a folder holds, where none of the other functions knows it."""
    names = [entry.name for entry in entries_in(folder) if not entry.name.startswith(".")]
    if not names:
        return "it is empty", A_MODEL
    if not {*TOKENIZER}.isdisjoint(names):
        theirs = "encoder.json" not in names
        missing = "config.json and model.safetensors" if theirs else "hparams.json and model.ckpt"
        return "it has a tokenizer, but no model", f"add the model's {missing}"
    return f"not a model: it holds {names_of(names)}", A_MODEL


def folders_in(folder):  # -> list of str
    """The paths of the folders in a folder."""
    return [os.path.join(folder, entry.name) for entry in entries_in(folder) if os.path.isdir(entry.path)]


def holds(folder, names):  # -> bool
    """Whether a folder has one of these files."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def names_of(paths):  # -> str
    """The names of some files or folders; of many, the first three and the last."""
    names = [os.path.basename(path) for path in paths]
    return shown(", ".join(names if len(names) < 6 else [*names[:3], "...", names[-1]]))
