"""What a folder or a file is that is not a model, and where the model is: a line for each kind."""

import os
import re

from files import PICKLES, ModelError, convert_advice, convert_command, quoted, read_json, shown
from layouts import SHARD, SIZES, THEIRS, entries_in
from names import ALLOWED

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"  # of transformers
PICKLE_SHARD = re.compile(r"pytorch_model-\d+-of-\d+\.bin")
OF_TRAINING = re.compile(  # files that look like pickles of a model, and lie beside it
    r"(optimizer|scheduler|scaler|sampler|dl_state_dict|training_args|training|random_states|rng_state"
    r"|custom_checkpoint)(_\d+)*\.(bin|pt|pth|pkl)|(train|val)\.bin|meta\.pkl"
)
OLD = "transformers 4 converts it: GPT2LMHeadModel.from_pretrained(FOLDER, {}=True).save_pretrained(FOLDER)"
GET = "get the model's safetensors instead"
FORMATS = (  # by the name of a file: what it is, and what to do
    (r"flax_model.*\.msgpack", "is in transformers' format for Flax", OLD.format("from_flax")),
    (r"tf_model.*\.h5", "is in transformers' format for TensorFlow", OLD.format("from_tf")),
    (r".*\.gguf|ggml.*\.bin", "is in llama.cpp's format", GET),
    (r".*\.onnx", "is in the format of ONNX", GET),
    (r"openvino_model\.(bin|xml)", "is in OpenVINO's format", GET),
    (r".*\.npz", "is in NumPy's format", GET),
    (r"adapter_model\.\w+", "is an adapter of peft, not a model", "merge it into its base with peft"),
    (r".*\.(zip|tar|gz|tgz|7z|rar)", "is an archive", "unpack it, and give the folder"),
)
TOKENIZER = ("tokenizer.json", "vocab.json", "encoder.json", "vocab.txt", "spiece.model", "tokenizer.model")
WEIGHTS = (SIZES, "model.ckpt.index", *THEIRS[1:], PICKLE, PICKLE_INDEX, "ckpt.pt")
A_MODEL = (
    "a model is a folder with hparams.json, encoder.json, vocab.bpe and model.ckpt, as OpenAI released it, "
    "or with config.json, model.safetensors and a tokenizer, as transformers saves it"
)
MOST = 100  # folders in a folder that are looked into


def not_a_model(folder):  # Path -> ModelError
    """What is in a folder that is not a model, and where the model is if it is near."""
    found = adapter(folder) or cache_of_hub(folder) or model_inside(folder) or other_weights(folder)
    return ModelError(folder, *(found or contents(folder)))


def not_a_folder(path):  # -> ValueError
    """What a file is that was given in place of a model's folder, and what to do with it."""
    kind = "a text" if str(path).endswith((".txt", ".md")) else "a file"
    advice = file_advice(path) or ALLOWED
    return ValueError(f"model_size is '{shown(path)}', {kind}, but a model is a folder: {advice}")


# ---- weights in another form -------------------------------------------------------------------------------


def other_weights(folder):  # Path -> (problem, advice), or None
    """What a folder has in place of model.safetensors, and what to do."""
    names = [entry.name for entry in entries_in(folder) if entry.is_file()]
    pickles = [name for name in (PICKLE_INDEX, PICKLE) if name in names][:1]
    pickles = pickles or [name for name in names if is_pickle(name)]
    if len(pickles) > 1 and not all(map(PICKLE_SHARD.fullmatch, pickles)):
        problem = f"it has several pickles, {names_of(pickles)}, which could run any code, so none is read"
        return problem, f"convert the model's: {convert_command('FILE')}"
    others = [name for name in names if is_tensors(name)] or [name for name in names if format_of(name)]
    if not pickles and not others:
        return None
    name = (pickles or others)[0]
    why = ", a pickle, which could run any code, so it is not read" if pickles else ""
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
    if OF_TRAINING.fullmatch(name):
        return "it belongs to a training, and holds no model"
    if name == PICKLE_INDEX or is_pickle(name):
        lacks = name.startswith("pytorch_model") and not os.path.isfile(os.path.join(folder, "config.json"))
        first = "get its config.json and the files of its tokenizer too; then, " if lacks else ""
        return first + convert_advice(path)
    if SHARD.fullmatch(name):
        return "get model.safetensors.index.json and all that it names"
    if is_tensors(name):
        return "if it is a whole model, name it model.safetensors, with config.json and a tokenizer beside it"
    kind = format_of(name)
    return f"it {kind[0]}; {kind[1]}" if kind else None


# ---- folders -----------------------------------------------------------------------------------------------


def adapter(folder):  # Path -> (problem, advice), or None
    """What an adapter of peft is, and its base."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    try:
        config = read_json(path)
    except ModelError:
        config = {}
    kind = "a LoRA adapter" if config.get("peft_type") == "LORA" else "an adapter"
    base = config.get("base_model_name_or_path")
    base = f"; its base is {shown(base)}" if isinstance(base, str) else ""
    return f"it is {kind} of peft, not a model{base}", "merge the two with peft, and save the result"


def cache_of_hub(folder):  # Path -> (problem, advice), or None
    """Which model's cache a folder is, and where its files are."""
    repo = repo_of(os.path.basename(os.path.abspath(folder)))
    if repo and (folder / "snapshots").is_dir():
        found = [each for each in folders_in(folder / "snapshots")[:MOST] if holds(each, WEIGHTS)]
        main = folder / "refs" / "main"
        commit = main.read_text("utf-8", "replace") if main.is_file() else ""
        found = [each for each in found if os.path.basename(each) == commit] or found
        advice = f"give {quoted(found[0])}" if found else f"give its name, {quoted(repo)}"
        return f"it is the hub's cache of {shown(repo)}", advice
    repos = [repo for repo in map(repo_of, map(os.path.basename, folders_in(folder))) if repo]
    return ("it is a cache of the hub", f"give a model's name, such as {quoted(repos[0])}") if repos else None


def repo_of(name):  # "models--owner--name" -> "owner/name"
    """The model whose cache has this name, or None."""
    return name.removeprefix("models--").replace("--", "/") if name.startswith("models--") else None


def model_inside(folder):  # Path -> (problem, advice), or None
    """Where a model is that lies one folder deeper."""
    folders = folders_in(folder)
    steps = [each for each in folders if re.fullmatch(r"checkpoint-\d+", os.path.basename(each))][-MOST:]
    for step in reversed(steps):
        if holds(step, (*WEIGHTS, "adapter_config.json")):
            problem = f"not a model, but a training's checkpoints, {names_of(steps)}"
            return tokenizer_apart(folder, step) or (problem, f"give the latest, {quoted(step)}")
    inside = [each for each in folders[:MOST] if holds(each, WEIGHTS)]
    if len(inside) > 1:
        return f"it holds several models, {names_of(inside)}", f"give one, such as {quoted(inside[0])}"
    if inside:
        found = "its model is one folder deeper", f"give {quoted(inside[0])}"
        return tokenizer_apart(folder, inside[0]) or found
    return None


def tokenizer_apart(folder, model):  # Path, str -> (problem, advice), or None
    """Where the tokenizer of a model is, if it is not beside the weights."""
    if holds(model, (*TOKENIZER, SIZES, "adapter_config.json", "ckpt.pt")):
        return None
    homes = [home for home in (str(folder), *folders_in(folder)[:MOST]) if holds(home, TOKENIZER)]
    if not homes:
        return None
    problem = f"its model is in {names_of([model])}, its tokenizer in {shown(homes[0])}"
    return problem, f"copy the tokenizer's files from {quoted(homes[0])} to {quoted(model)}, and give that"


def contents(folder):  # Path -> (problem, advice)
    """What a folder holds that nothing else is known of."""
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
    return [os.path.join(folder, entry.name) for entry in entries_in(folder) if entry.is_dir()]


def holds(folder, names):  # -> bool
    """Whether a folder has one of these files."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def names_of(paths):  # -> str
    """The names of some files or folders; of many, the first three and the last."""
    names = [os.path.basename(path) for path in paths]
    return shown(", ".join(names if len(names) < 6 else [*names[:3], "...", names[-1]]))
