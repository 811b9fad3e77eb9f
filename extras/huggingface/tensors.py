"""The tensors of a model in the layout of Hugging Face transformers: model.safetensors, whole or in shards.

A safetensors file has three parts: the length of the header, in eight bytes; the header, JSON that says
where each tensor lies; the raw numbers. It contains no code. A pickle (pytorch_model.bin, .pt) may run any
code when it is read: it is refused here, and `convert.py` converts it to safetensors.
"""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np

from extras.huggingface.conversion_bot import read_converted
from extras.huggingface.hub import download_command, find_file
from extras.recognise import PICKLE, PICKLE_INDEX, model_inside, other_weights
from files import (
    AGAIN,
    ModelError,
    begins_as_pickle,
    convert_advice,
    convert_command,
    is_web_page,
    needs,
    read_json,
    shown,
    unique,
)
from layouts import ADAPTER_CONFIG
from weights import BFLOAT16

DTYPES = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": BFLOAT16,
    "F64": "<f8",
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I64": "<i8",
}
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # PyTorch's own
# beside a language model: a value head of TRL, and the task heads of transformers
HEADS = re.compile(r"v_head\..+|(score|classifier|qa_outputs|multiple_choice_head\.summary)\.(weight|bias)")


def read_tensors(model):  # -> {name: array}
    """All tensors of a model, from one file or from its shards.

    Raises ModelError if there are none (a pickle counts only if the hub's conversion bot has converted it),
    if there is an adapter too, and for what `read_safetensors`, `read_shards` and `check_names` refuse.
    """
    safetensors_library()  # if it is missing, say so before half a gigabyte is downloaded
    if find_file(model, ADAPTER_CONFIG):
        advice = "if it is merged already, delete that file; if not, put the two into folders of their own"
        raise ModelError(model, f"it has an adapter, {ADAPTER_CONFIG}, beside a model", advice)
    tensors = read_weights(partial(find_file, model))
    if tensors is None:
        tensors, why = read_converted(model, read_weights)
        if tensors is None:
            refuse_pickles(model, why)
    return tensors


def read_weights(find):  # -> {name: array}, or None if there are none
    """The tensors of model.safetensors, or of its shards. find: name of a file -> Path, or None."""
    if path := find("model.safetensors"):
        tensors = read_safetensors(path)
    elif path := find("model.safetensors.index.json"):
        tensors = read_shards(path, "safetensors", find, read_safetensors)
    else:
        return None
    check_names(tensors, path)
    return tensors


def read_shards(index, suffix, find, read):  # -> {name: tensor}
    """The tensors of several files, found through a JSON file, their index.

    find: name of a file -> Path, or None; read: Path -> {name: tensor}. Raises ModelError unless each file
    has exactly the tensors that the index lists for it.
    """
    shards, tensors = read_json(index).get("weight_map"), {}
    if not (isinstance(shards, dict) and all(isinstance(shard, str) for shard in shards.values())):
        raise ModelError(index, "it has no weight_map, from tensors to files", AGAIN)
    for shard in sorted(set(shards.values())):
        if not re.fullmatch(rf"[\w.-]+\.{suffix}", shard):
            found = f"it names the file {shown(repr(shard))}"
            raise ModelError(index, f"{found}, expected a .{suffix} file in its own folder")
        path = find(shard)
        if path is None:
            raise ModelError(index, f"it names the file {shown(shard)}, which is missing", AGAIN)
        tensors_here = read(path)
        promised = {tensor for tensor in shards if shards[tensor] == shard}
        if tensors_here.keys() != promised:
            differing = min(map(str, tensors_here.keys() ^ promised))
            found = f"it and {index.name} disagree about {shown(differing)}"
            raise ModelError(path, found, AGAIN)
        tensors |= tensors_here
    return tensors


def check_names(tensors, path):
    """Raise ModelError for names with parts from training, which transformers does not expect.

    Before every name, such as model. from Lightning; or before some, or inside, as _orig_mod. from
    torch.compile, module. from DataParallel, pretrained_model. from TRL. path: of the file, or of its index.
    """
    names = [name for name in tensors if not HEADS.fullmatch(name)]
    wte = next((name for name in names if name.endswith(".wte.weight")), "wte.weight")
    prefix = wte.removesuffix("wte.weight").removesuffix("transformer.")
    wrappers = (*WRAPPERS, "module", "pretrained_model")
    is_wrapped = any(f".{wrapper}." in f".{name}" for name in names for wrapper in wrappers)
    if prefix and (is_wrapped or all(name.startswith(prefix) for name in names)):
        problem = f"the names of its tensors begin with {shown(prefix)}, which training put before them"
        raise ModelError(path, problem, f"to strip it, run {convert_command(path)}")
    if is_wrapped:
        problem = "the names of its tensors have parts that training put into them, such as _orig_mod"
        raise ModelError(path, problem, f"to strip them, run {convert_command(path)}")


def refuse_pickles(model, why=""):
    """Raise ModelError for a model without safetensors; say what it may have instead, and what to do."""
    if Path(model).is_dir():
        found = other_weights(Path(model)) or model_inside(Path(model))
        raise ModelError(model, *(found or ("it has no model.safetensors", AGAIN)))
    problem = "it has no model.safetensors; a pickle could run any code, so it is not read"
    get = download_command(model, "--local-dir FOLDER")
    advice = f"if it has a pickle, run {get}; {convert_advice(f'FOLDER/{pickle_on_hub(model)}')}"
    raise ModelError(model, f"{problem}; {why}" if why else problem, advice)


def pickle_on_hub(model):  # -> str
    """The pickle that a model on the hub probably has: in several files, where it has their index."""
    try:
        return PICKLE_INDEX if find_file(model, PICKLE_INDEX) else PICKLE
    except ModelError:  # no network
        return PICKLE


def read_safetensors(path):  # -> {name: array}
    """The tensors of a file; see `read_with_notes`."""
    return read_with_notes(path)[0]


def read_with_notes(path):  # -> {name: array}, {note: str}
    """The tensors of a file, memory-mapped copy-on-write, and its notes; bfloat16 as `weights.BFLOAT16`.

    The safetensors library is used only to check the file: it cannot map it.
    """
    safetensors = safetensors_library()
    with open(path, "rb") as file:
        try:
            with safetensors.safe_open(path, framework="numpy"):
                pass
        except safetensors.SafetensorError as error:
            problem, advice = recognise_file(path) or (shown(error), AGAIN)
            raise ModelError(path, problem, advice) from None
        n_header = int.from_bytes(file.read(8), "little")
        (header, notes), tensors = parse_header(path, file.read(n_header)), {}
        data = np.asarray(np.memmap(file, mode="c"))[8 + n_header :]
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        array = data[start:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = np.require(array, requirements="A")  # copied if it is not aligned
    return tensors, notes


def parse_header(path, text):  # -> {name: {"dtype", "shape", "data_offsets"}}, {note: str}
    """The entries and notes of a header that the library has checked; it accepts lists and repeated names."""
    try:
        header = json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        raise ModelError(path, error, AGAIN) from None
    notes = header.pop("__metadata__", None) or {}  # the library accepts null
    for name, entry in header.items():
        if not isinstance(entry, dict):
            raise ModelError(path, f"{shown(name)} is described by {shown(entry, 50)}", AGAIN)
        if entry["dtype"] not in DTYPES:
            found = f"{shown(name)} is of type {shown(entry['dtype'])}"
            raise ModelError(path, found, "save it as float32")
    return header, notes


def safetensors_library():  # -> module
    """The library, imported late: other parts of this package do without it."""
    with needs("requirements-extras.txt"):
        import safetensors
    return safetensors


def recognise_file(path):  # -> (what it is, what to do), or None
    """What a file that should be safetensors is instead, if it can be recognised."""
    with open(path, "rb") as file:
        beginning = file.read(64)
    if beginning.startswith(b"version https://git-lfs"):
        return "only a pointer to the file, as git leaves it without LFS", "run git lfs pull"
    if begins_as_pickle(beginning):
        return "a pickle under another name, which could run any code", convert_advice(path)
    if is_web_page(beginning):
        return "a web page, not the file", AGAIN
    return None
