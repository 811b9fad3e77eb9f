"""quantized.safetensors: the weights of a model that extras/quantize.py has quantized.

Arrays have the names of `weights.shapes`. A matrix of codes has two parts, such as h0/attn/c_attn/w/codes and
h0/attn/c_attn/w/scales, and each of its rows makes one output. Beside the file are config.json and a
tokenizer, as in any model of Hugging Face.

Any code is a valid weight, so damage would go unnoticed. So the file holds a checksum of each tensor, which
is compared at every load; this takes less time than reading the file from a disk.
"""

import json
import zlib

import numpy as np

from extras.huggingface.tensors import read_with_notes
from extras.quantized import KINDS, Float32, Rows, Transposed, class_for, kind_of_weights
from extras.untied import apart, together
from files import AGAIN, MIXED_UP, ModelError
from weights import check_names, say_if_many, shapes, to_float32

KIND, CHECKSUMS = "weights", "crc32"  # in the header, among the notes that safetensors allows

# ---- the tensors -------------------------------------------------------------------------------------------


def shapes_of_leaves(hparams, is_untied):  # -> {name: shape}
    """The shapes of all arrays, with the head if it is not wte."""
    table = shapes(hparams)
    return table | {"lm_head": table["wte"]} if is_untied else table


def expected_parts(hparams, kind, is_untied):  # -> {tensor: (type, shape)}
    """All tensors of a model of these sizes."""
    parts = {}
    for name, shape in shapes_of_leaves(hparams, is_untied).items():
        stored = class_for(name, kind)
        if stored in (None, Float32):
            parts[name] = (np.float32, shape)
        else:
            own = stored.parts(*shape_of_rows(name, shape))
            parts |= {f"{name}/{part}": own[part] for part in own}
    return parts


def is_transposed(name):  # -> bool
    """Whether a matrix is stored transposed, with a row for each output; wte has a row for each anyway."""
    return name.endswith("/w")


def shape_of_rows(name, shape):  # -> n_rows, n_columns
    """The shape in which a matrix is stored."""
    return shape[::-1] if is_transposed(name) else shape


def has_head(tensors):  # -> bool
    """Whether there is a head beside wte."""
    return any(name.split("/")[0] == "lm_head" for name in tensors)


def checksum(array):  # -> int
    """The CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array))


# ---- reading -----------------------------------------------------------------------------------------------


def read_quantized(path, hparams):  # -> params
    """The weights in a file, memory-mapped. Raises ModelError unless all is there and of these sizes."""
    say_if_many(hparams)
    kind, tensors, notes = read_parts(path, hparams)
    compare_checksums(tensors, notes, path)
    for name, array in tensors.items():
        if array.dtype == np.float32:
            largest = array * np.float32(KINDS[kind].largest) if name.endswith("/scales") else array
            to_float32(largest, array.shape, name, path, "config.json")
    table = shapes_of_leaves(hparams, has_head(tensors))
    leaves = {name: to_leaf(name, shape, kind, tensors) for name, shape in table.items()}
    return together({"lm_head": leaves["wte"]} | leaves)


def read_parts(path, hparams):  # -> kind, {tensor: array}, {note: str}
    """The content of a file, whose numbers are not looked at yet. Raises what `read_quantized` raises."""
    tensors, notes = read_with_notes(path)
    kind = notes.get(KIND)
    if kind not in KINDS:
        problem = f"it does not say which kind its weights are: {', '.join(KINDS)}"
        raise ModelError(path, problem, AGAIN)
    check_parts(tensors, expected_parts(hparams, kind, has_head(tensors)), path)
    return kind, tensors, notes


def check_parts(tensors, expected, path):
    """Raise ModelError unless these are the tensors that are expected, by name, type and shape."""
    check_names(tensors, expected, path, "config.json")
    for name, (dtype, shape) in expected.items():
        array = tensors[name]
        if (array.dtype, array.shape) != (dtype, shape):
            found = f"{name} is {array.dtype} of shape {list(array.shape)}"
            wanted = f"{np.dtype(dtype)} of shape {list(shape)}"
            raise ModelError(path, f"{found}, but {wanted} according to config.json", MIXED_UP)


def compare_checksums(tensors, notes, path):
    """Raise ModelError unless each tensor matches its checksum."""
    try:
        checksums = dict(json.loads(notes.get(CHECKSUMS, "")))
    except (ValueError, TypeError, RecursionError):
        raise ModelError(path, "it has no checksums of its tensors", AGAIN) from None
    for name, array in tensors.items():
        if checksums.get(name) != checksum(array):
            raise ModelError(path, f"damaged: {name} does not match its checksum", AGAIN)


def to_leaf(name, shape, kind, tensors):  # -> array, Rows or Transposed
    """What stands for an array in params."""
    stored = class_for(name, kind)
    if stored is None:
        return tensors[name]
    if stored is Float32:
        return Float32.of(tensors[name])
    rows = stored(shape_of_rows(name, shape), tensors[f"{name}/codes"], tensors[f"{name}/scales"])
    return rows.T if is_transposed(name) else rows


# ---- writing -----------------------------------------------------------------------------------------------


def to_tensors(hparams, params):  # -> {name: array}, {note: str}
    """The content of the file. Raises ValueError for params that are not quantized, or do not fit hparams."""
    leaves = apart(params)
    if leaves["lm_head"] is leaves["wte"]:
        del leaves["lm_head"]
    tensors = {}
    for name, leaf in leaves.items():
        if not name.endswith(("/eps", "/act")):
            tensors |= parts_of(name, leaf)
    kind = kind_of_weights(params)
    if kind is None:
        raise ValueError("these weights are not quantized: call quantize first")
    parts = expected_parts(hparams, kind, has_head(tensors))
    expected = {name: f"{np.dtype(dtype)} {shape}" for name, (dtype, shape) in parts.items()}
    found = {name: f"{array.dtype} {array.shape}" for name, array in tensors.items()}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            given, wanted = found.get(name), expected.get(name)
            raise ValueError(f"{name} is {given} in params, {wanted} according to hparams")
    return tensors, {KIND: kind, CHECKSUMS: json.dumps({name: checksum(tensors[name]) for name in tensors})}


def parts_of(name, leaf):  # -> {tensor: array}
    """The tensors in which a leaf of params is stored. Raises ValueError for one that cannot be."""
    rows = leaf.T if isinstance(leaf, Transposed) else leaf
    if isinstance(rows, Float32):
        return {name: rows.matrix}
    if isinstance(rows, Rows):
        return {f"{name}/codes": rows.codes, f"{name}/scales": rows.scales}
    if not isinstance(leaf, np.ndarray):
        raise ValueError(f"{name} is a {type(leaf).__name__}: merge adapters before you quantize")
    return {name: leaf}
