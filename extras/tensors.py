"""The tensors of a model in the layout of Hugging Face transformers: model.safetensors, whole or in shards.

A safetensors file is eight bytes that give the length of a header, the header, which is JSON and says where
each tensor lies, and the raw numbers. There is nothing in it to run. A pickle (pytorch_model.bin, .pt) may
run any code when it is read: it is refused here, and `extras/convert.py` makes safetensors of it.
"""

import json
import re
from pathlib import Path

import numpy as np

from checkpoint import ModelError
from extras.hub import INSTALL, find_file, parse_name
from utils import convert_advice, read_json

try:
    from safetensors import SafetensorError, safe_open
except ImportError as error:
    raise ImportError(f"{error}: {INSTALL}") from None

DTYPES = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F64": "<f8",
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I64": "<i8",
}


def read_tensors(name):  # -> {name: array}
    """All tensors of a model, from one file or from its shards. Raises ModelError if they are in a pickle."""
    path = find_file(name, "model.safetensors")
    if path is not None:
        return read_safetensors(path)
    index = find_file(name, "model.safetensors.index.json")
    if index is None:
        refuse_pickles(name)
    return read_shards(index, "safetensors", lambda shard: find_file(name, shard), read_safetensors)


def read_shards(index, suffix, find, read):  # -> {name: tensor}
    """The tensors of several files, each from the one that an index, a JSON file, names for it.

    find: name of a file -> Path, or None; read: Path -> {name: tensor}. Raises ModelError unless all are
    there, and no others.
    """
    shards, tensors = read_json(index).get("weight_map"), {}
    if not (isinstance(shards, dict) and all(isinstance(shard, str) for shard in shards.values())):
        raise ModelError(f"{index} has no weight_map, from tensors to files: delete it and get it again")
    for shard in sorted(set(shards.values())):
        if not re.fullmatch(rf"[\w.-]+\.{suffix}", shard):
            raise ModelError(f"{index} names the file {shard!r}, which is not one of its folder")
        path = find(shard)
        if path is None:
            raise ModelError(f"{shard} is missing, which {index} names: get it again")
        found, promised = read(path), {tensor for tensor in shards if shards[tensor] == shard}
        if found.keys() != promised:
            differing = min(map(str, found.keys() ^ promised))
            raise ModelError(f"{path} and {index.name} differ in {differing}: get both again")
        tensors |= found
    return tensors


def refuse_pickles(name):
    """Raise ModelError for a model without safetensors: what it may have instead, and what to do."""
    lacking = f"{name} has no model.safetensors; a pickle could run any code and is not read"
    if Path(name).is_dir():
        pickles = sorted(path for path in Path(name).iterdir() if path.suffix in (".bin", ".pt", ".pth"))
        raise ModelError(f"{lacking}: {convert_advice(pickles[0] if pickles else 'FILE')}")
    repo, revision = parse_name(name)
    get = f"hf download {repo} --revision {revision} --local-dir FOLDER"
    raise ModelError(f"{lacking}: if it has one, {get}, then {convert_advice('FOLDER/pytorch_model.bin')}")


def read_safetensors(path):  # -> {name: array}
    """The tensors of a file, mapped copy-on-write; bfloat16, which NumPy has not, as float32.

    The file is eight bytes that give the length of a header, the header, in JSON, and raw numbers. The
    library checks it all; it has no way to map what it checked.
    """
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ModelError(
            f"{path}: {recognise_file(path) or f'{error}: delete it and get it again'}"
        ) from None
    with open(path, "rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        header, tensors = json.loads(file.read(n_header)), {}
    if n_header % 4 == 0:
        data = np.asarray(np.memmap(path, mode="c"))[8 + n_header :]
    else:  # mapped, no number of it would lie as processors want it
        data = np.fromfile(path, dtype=np.uint8, offset=8 + n_header)
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise ModelError(f"{path}: {name} is of type {entry['dtype']}: save it as float32")
        start, end = entry["data_offsets"]
        array = data[start:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        # copied, if it lies behind an odd number of bytes
        tensors[name] = np.require(array, requirements="A")
    return tensors


def recognise_file(path):  # -> str, or None
    """What else a file is that should be safetensors."""
    with open(path, "rb") as file:
        beginning = file.read(64)
    if beginning.startswith(b"version https://git-lfs"):
        return "only a pointer to the file, as git leaves it without LFS: run git lfs pull"
    if beginning.startswith((b"PK\3\4", b"\x80\2")):
        return f"a pickle under another name, which could run any code: {convert_advice(path)}"
    if re.match(rb"\s*<", beginning):
        return "a web page, not the file: delete it and get it again"
    return None
