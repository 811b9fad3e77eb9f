"""The checkpoint format: names and shapes over raw numbers, checked and memory-mapped, without TensorFlow.

TensorFlow saves variables in two files. `model.ckpt.data-00000-of-00001` holds all numbers of all variables,
end to end. `model.ckpt.index` is a sorted table that says which variable lies where:

    block of variables ...   name -> dtype, shape, offset, size; the name "" -> how the file was made
    index block              last name of a block -> where that block lies
    footer                   where the index block lies, and eight bytes that mark the format

Sources: TensorFlow's tensor_bundle.proto (the entries) and table_format.txt, which is LevelDB's (the table);
Protocol Buffers' "Encoding" (the values); RFC 3720, B.4 (the checksum).
"""

import io
import math
import os
import re

import numpy as np

MIXED_UP = "one of the two is of another model, delete both and get them again"


class ModelError(ValueError):
    """A file or a download that cannot be used: which one, why, and what to do, in one line."""


# ---- what a GPT-2 holds ------------------------------------------------------------------------------------

PRESETS = {  # hparams of models by name: the one included here, and OpenAI's (Radford et al. 2019, table 2)
    "tiny": {"n_vocab": 4000, "n_ctx": 256, "n_embd": 192, "n_head": 6, "n_layer": 6},
    "124M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12},
    "355M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1024, "n_head": 16, "n_layer": 24},
    "774M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1280, "n_head": 20, "n_layer": 36},
    "1558M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1600, "n_head": 25, "n_layer": 48},
}
LARGEST = {"n_vocab": 10**6, "n_ctx": 10**6, "n_embd": 10**5, "n_head": 10**3, "n_layer": 10**3}


def check_hparams(hparams):
    """Raise ValueError unless these are the sizes of a GPT-2; n_inner, ffn's width, may be among them."""
    if not isinstance(hparams, dict):
        raise ValueError(f"the sizes of a model are a dict of {', '.join(LARGEST)}, not {hparams!r}")
    wanted = LARGEST | ({"n_inner": 10**6} if "n_inner" in hparams else {})
    for name, largest in wanted.items():
        value = hparams.get(name)
        if type(value) is not int or not 0 < value <= largest:
            raise ValueError(f"{name} is {value!r}, expected a whole number from 1 to {largest:,}")
    if hparams["n_embd"] % hparams["n_head"] != 0:
        raise ValueError(f"n_embd {hparams['n_embd']} is not a multiple of n_head {hparams['n_head']}")


def shapes(hparams):  # -> {name: shape}
    """Every array that a GPT-2 of these sizes holds, by OpenAI's name. Raises as `check_hparams`."""
    check_hparams(hparams)
    n_vocab, n_ctx, n_embd = hparams["n_vocab"], hparams["n_ctx"], hparams["n_embd"]
    n_inner = hparams.get("n_inner", 4 * n_embd)
    table = {"wte": (n_vocab, n_embd), "wpe": (n_ctx, n_embd), "ln_f/g": (n_embd,), "ln_f/b": (n_embd,)}
    for layer in range(hparams["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            table |= {f"h{layer}/{norm}/g": (n_embd,), f"h{layer}/{norm}/b": (n_embd,)}
        for name, n_in, n_out in (
            ("attn/c_attn", n_embd, 3 * n_embd),
            ("attn/c_proj", n_embd, n_embd),
            ("mlp/c_fc", n_embd, n_inner),
            ("mlp/c_proj", n_inner, n_embd),
        ):
            table |= {f"h{layer}/{name}/w": (n_in, n_out), f"h{layer}/{name}/b": (n_out,)}
    return table


def count(hparams):  # -> int
    """How many numbers a GPT-2 of these sizes has: 124,439,808 for PRESETS["124M"]."""
    return sum(math.prod(shape) for shape in shapes(hparams).values())


def random_params(hparams, rng):  # -> params
    """An untrained GPT-2, drawn with rng, a np.random.Generator (Radford et al. 2019, 2.3, and their code).

    hparams: such as PRESETS["355M"], or sizes of your own. Raises as `check_hparams`.
    Matrices are normal with std 0.02, positions with 0.01; the two of each block that write into the residual
    stream are divided by √(2 n_layer), so that their sum does not grow with depth.
    """

    def draw(name, shape):
        if len(shape) == 1:
            return np.full(shape, name.endswith("/g"), dtype=np.float32)  # scales are one, offsets zero
        std = 0.01 if name == "wpe" else 0.02
        if "c_proj" in name:
            std /= (2 * hparams["n_layer"]) ** 0.5
        return rng.standard_normal(shape, dtype=np.float32) * std

    return nest({name: draw(name, shape) for name, shape in shapes(hparams).items()})


def nest(arrays):  # {"h0/mlp/c_fc/w": array, ...} -> {"blocks": [{"mlp": {"c_fc": {"w": array, ...}}}], ...}
    """Arrange named arrays into the dicts and the list that `gpt2.gpt2` takes as keyword arguments."""
    params, blocks = {}, {}
    for name, array in arrays.items():
        *path, leaf = name.split("/")
        node = params
        for step in path:
            block = re.fullmatch(r"h(\d+)", step)
            node = blocks.setdefault(int(block[1]), {}) if block else node.setdefault(step, {})
        node[leaf] = array
    return params | {"blocks": [blocks[layer] for layer in sorted(blocks)]}


def flatten(params):  # -> {"h0/mlp/c_fc/w": array, ...}
    """`nest` undone."""
    blocks = {f"h{layer}": block for layer, block in enumerate(params.get("blocks", []))}
    arrays = {}
    for name, node in (params | blocks).items():
        if isinstance(node, dict):
            arrays |= {f"{name}/{path}": array for path, array in flatten(node).items()}
        elif name != "blocks":
            arrays[name] = node
    return arrays


def to_params(arrays, hparams, source, hparams_file="hparams.json", original_name=str):  # -> params
    """Check arrays, whoever made them, against `shapes(hparams)`, widen float16 to float32, and nest them.

    arrays: {OpenAI's name: array}. Raises ModelError for a name too few or too many, a shape, a dtype, NaN or
    ∞, in words that name the source, the hparams_file, and each array by its original_name in the source.
    """
    table = shapes(hparams)
    lacking, unknown = table.keys() - arrays.keys(), arrays.keys() - table.keys()
    for verb, names in (("lacks", lacking), ("has unknown", unknown)):
        if names:
            found = (
                f"by {hparams_file}, {source} {verb} {min(map(original_name, names))} ({len(names)} in all)"
            )
            raise ModelError(f"{found}: {MIXED_UP}")
    return nest(
        {
            name: to_float32(arrays[name], shape, original_name(name), source, hparams_file)
            for name, shape in table.items()
        }
    )


def to_float32(array, shape, name, source, hparams_file):  # -> array of float32
    """Check one array, and widen it if it is float16. Raises ModelError, in the words of `to_params`."""
    if array.shape != shape:
        found = f"by {hparams_file}, {name} is {list(shape)}, in {source} it is {list(array.shape)}"
        raise ModelError(f"{found}: {MIXED_UP}")
    if array.dtype not in (np.float32, np.float16):
        raise ModelError(f"{source}: {name} is {array.dtype}, not float32 or float16: save it as float32")
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise ModelError(f"{source}: {name} holds NaN or infinity: delete the model and get it again")
    return array.astype(np.float32, copy=False)


# ---- how TensorFlow stores it ------------------------------------------------------------------------------

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
# fmt: off
DTYPES = {  # TensorFlow's numbers for its types, as far as NumPy has them
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64",
    10: "bool", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
}
# fmt: on


def read_checkpoint(prefix):  # "models/124M/model.ckpt" -> {name: array}
    """All variables of a TensorFlow checkpoint, mapped copy-on-write: nothing is read before it is used.

    Raises ModelError, naming the file, for what is damaged, incomplete, or of a kind that is not read here.
    """
    index_path, data_path = f"{prefix}.index", f"{prefix}.data-00000-of-00001"
    try:
        variables = read_index(index_path)
    except (ValueError, LookupError) as error:
        raise ModelError(f"{index_path}: {error}") from None
    n_expected = 0
    for name, (_, _, offset, size) in sorted(variables.items(), key=lambda item: item[1][2:]):
        if offset != n_expected:
            found = f"{name} begins at byte {offset:,}, the one before it ends at {n_expected:,}"
            raise ModelError(f"{index_path}: {found}: delete it and get it again")
        n_expected += size
    n_bytes = os.path.getsize(data_path)
    if n_bytes == 0 or n_bytes != n_expected:
        raise ModelError(
            f"{data_path}: {n_bytes:,} bytes, by its index {n_expected:,}: delete both and get them again"
        )
    data = np.asarray(np.memmap(data_path, mode="c"))
    return {
        name: data[offset : offset + size].view(dtype).reshape(shape)
        for name, (dtype, shape, offset, size) in variables.items()
    }


def read_index(path):  # "models/124M/model.ckpt.index" -> {name: (dtype, shape, offset, size)}
    """Where each variable lies in the data file. Raises ValueError or LookupError for any other file."""
    with open(path, "rb") as file:
        table = file.read()
    if not table.endswith(MAGIC):
        raise ValueError("not the index of a TensorFlow checkpoint, or cut short: delete it and get it again")
    footer = io.BytesIO(table[-48:])
    _, _, *index_block = (varint(footer) for _ in range(4))
    entries = {}
    for where in read_block(table, *index_block).values():
        where = io.BytesIO(where)
        entries |= read_block(table, varint(where), varint(where))
    header = dict(fields(entries.pop(b"", b"")))
    if header.get(2, 0) != 0:
        raise ValueError("big-endian numbers are not read here: save it on another machine")
    if header.get(1) != 1:
        raise ValueError(f"data in {header.get(1)} files are not read here: save it in one")
    names = [key.decode(errors="backslashreplace") for key in entries]
    return {name: read_entry(name, message) for name, message in zip(names, entries.values())}


def read_entry(name, message):  # -> dtype, shape, offset, size
    """What a variable is, and where it lies: a BundleEntryProto."""
    entry = dict(fields(message))
    if entry.get(1) not in DTYPES or 7 in entry:
        kind = "in slices" if 7 in entry else f"of TensorFlow's type {entry.get(1)}"
        raise ValueError(f"{name} is {kind}, which is not read here: save it whole, as float32")
    dtype, offset, size = np.dtype(DTYPES[entry[1]]).newbyteorder("<"), entry.get(4, 0), entry.get(5, 0)
    shape = tuple(dict(fields(dim)).get(1, 0) for _, dim in fields(entry.get(2, b"")))
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(
            f"{name} of shape {list(shape)} and type {dtype} does not take {size:,} bytes: get it again"
        )
    return dtype, shape, offset, size


def read_block(table, offset, size):  # -> {key: value}
    """The entries of a block of the table, all bytes; a key omits what it shares with the key before it."""
    end = offset + size
    block, compression, checksum = table[offset:end], table[end : end + 1], table[end + 1 : end + 5]
    crc = crc32c(block + compression)
    masked = (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF  # TensorFlow stores it in this form
    if checksum != masked.to_bytes(4, "little"):
        raise ValueError("damaged, a block does not match its checksum: delete it and get it again")
    if compression != b"\0":
        raise ValueError("a compressed index is not read here: save it uncompressed")
    n_restarts = int.from_bytes(block[-4:], "little")  # where a binary search could begin: not needed here
    stream, entries, key = io.BytesIO(block[: -4 * (n_restarts + 1)]), {}, b""
    while stream.tell() < len(stream.getbuffer()):
        n_shared, n_new, n_value = varint(stream), varint(stream), varint(stream)
        key = key[:n_shared] + stream.read(n_new)
        entries[key] = stream.read(n_value)
    return entries


def fields(message):  # -> yields (number, value)
    """The fields of a protocol buffer: int where it is a varint, else bytes."""
    stream = io.BytesIO(message)
    while stream.tell() < len(message):
        number, kind = divmod(varint(stream), 8)
        yield number, varint(stream) if kind == 0 else stream.read({5: 4, 1: 8}.get(kind) or varint(stream))


def varint(stream):  # -> int
    """A whole number: seven bits a byte, the lowest first; the eighth says that another byte follows."""
    number = shift = 0
    while True:
        byte = stream.read(1)[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number


def crc32c(data):  # bytes -> int
    """The CRC-32C checksum: what remains when the data, as one polynomial, are divided by Castagnoli's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
