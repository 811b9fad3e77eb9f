"""TensorFlow's checkpoints, read and written without TensorFlow.

TensorFlow saves variables in two files. `model.ckpt.data-00000-of-00001` holds the numbers of all variables,
end to end. `model.ckpt.index` is a sorted table that says which variable lies where:

    block of variables ...   name -> dtype, shape, offset, size; the name "" -> how the file was made
    index block              last name in a block -> where that block lies
    footer                   where the index block lies, and eight bytes that mark the format

Every block of the index has a checksum, compared whenever it is read. So has every variable's data, but
reading half a gigabyte for it at each start would take longer than starting: `read_checkpoint` compares only
the length of the data, and `compare_checksums` the rest, after a download and where a user asks.

Sources: TensorFlow's tensor_bundle.proto (the entries) and table_format.txt, which is LevelDB's (the table);
Protocol Buffers' "Encoding" (the values).
"""

import io
import math
import os

import numpy as np

from checksum import masked_crc32c
from files import AGAIN, ModelError, shown

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
HEADER = {1: 1}  # a BundleHeaderProto: field 1 is the number of data files; 2 would say big-endian
UNCOMPRESSED = b"\0"
# how a protocol buffer stores a field: as a varint, as a length and that many bytes, as four bytes
VARINT, BYTES, FOUR_BYTES = 0, 2, 5
HEADER_FIELDS = {1: VARINT, 2: VARINT, 3: BYTES}  # number of data files, big-endian, versions
# dtype, shape, number of the data file, offset, size, checksum, slices
ENTRY_FIELDS = {1: VARINT, 2: BYTES, 3: VARINT, 4: VARINT, 5: VARINT, 6: FOUR_BYTES, 7: BYTES}
# fmt: off
DTYPES = {  # TensorFlow's numbers for the types that NumPy has too
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64",
    10: "bool", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
}
# fmt: on

# ---- reading -----------------------------------------------------------------------------------------------


def read_checkpoint(prefix):  # "models/124M/model.ckpt" -> {name: array}
    """All variables of a TensorFlow checkpoint, memory-mapped copy-on-write: each is read when it is used.

    Raises ModelError, naming the file, for anything damaged, incomplete, or not supported.
    """
    index_path, data_path = file_paths(prefix)
    variables = read_index(index_path)
    n_expected = 0
    for name, (_, _, offset, size, _) in sorted(variables.items(), key=lambda item: item[1][2:4]):
        if offset != n_expected:
            found = f"{shown(name)} begins at byte {offset:,}, but the one before it ends at {n_expected:,}"
            raise ModelError(index_path, found, AGAIN)
        n_expected += size
    data = mapped(data_path)
    if len(data) != n_expected:
        raise ModelError(data_path, f"{len(data):,} bytes, but its index promises {n_expected:,}", AGAIN)
    arrays = {}
    for name, (dtype, shape, offset, size, _) in variables.items():
        try:
            arrays[name] = data[offset : offset + size].view(dtype).reshape(shape)
        except ValueError as error:  # more dimensions than NumPy has
            raise ModelError(index_path, f"{shown(name)}: {error}", AGAIN) from None
    return arrays


def file_paths(prefix):  # -> path of the index, path of the data
    """The names of a checkpoint's two files."""
    return f"{prefix}.index", f"{prefix}.data-00000-of-00001"


def compare_checksums(variables, data_path):
    """Raise ModelError unless the data of each variable, as `read_index` lists them, matches its checksum."""
    from tqdm import tqdm

    data = mapped(data_path)
    with tqdm(desc="comparing checksums", total=len(data), unit="B", unit_scale=True, disable=None) as bar:
        for name, (_, _, offset, size, checksum) in variables.items():
            if masked_crc32c(data[offset : offset + size]) != checksum:
                found = f"damaged: the numbers of {shown(name)} do not match their checksum in the index"
                raise ModelError(data_path, found, AGAIN)
            bar.update(size)


def mapped(path):  # -> array of uint8
    """The bytes of a file, memory-mapped copy-on-write."""
    return np.asarray(np.memmap(path, mode="c")) if os.path.getsize(path) else np.zeros(0, np.uint8)


def read_index(path):  # "models/124M/model.ckpt.index" -> {name: (dtype, shape, offset, size, checksum)}
    """What each variable is, and where it lies in the data file. Raises ModelError."""
    with open(path, "rb") as file:
        table = file.read()
    try:
        return read_table(table)
    except ValueError as error:
        raise ModelError(path, *error.args) from None


def read_table(table):  # bytes -> {name: (dtype, shape, offset, size, checksum)}
    """The content of an index. Raises ValueError(problem, advice)."""
    if not table.endswith(MAGIC):
        raise ValueError("not the index of a TensorFlow checkpoint, or cut short", AGAIN)
    footer = io.BytesIO(table[-48:])
    read_place(footer)  # of the metaindex block, which TensorFlow leaves empty
    entries, end, last = {}, 0, None
    for last_name, place in read_block(table, *read_place(footer)).items():
        offset, size = read_place(io.BytesIO(place))
        if offset < end:
            raise ValueError("damaged: its blocks overlap", AGAIN)
        block = read_block(table, offset, size)
        if block and ((last is not None and min(block) <= last) or max(block) > last_name):
            raise ValueError("damaged: its names are not in order", AGAIN)
        entries |= block
        end, last = offset + size, last_name
    check_header(read_message(entries.pop(b"", b""), HEADER_FIELDS))
    # not strict yet: the keys of slices are not UTF-8, and read_entry refuses slices by name
    names = [key.decode(errors="backslashreplace") for key in entries]
    variables = {name: read_entry(name, message) for name, message in zip(names, entries.values())}
    if [name.encode() for name in names] != [*entries]:
        raise ValueError("damaged: the name of a variable is not UTF-8", AGAIN)
    return variables


def check_header(header):
    """Raise ValueError for another kind of checkpoint than one file of little-endian numbers."""
    if header.get(2, 0) != 0:
        raise ValueError("big-endian numbers are not supported", "save it on a little-endian machine")
    if header.get(1) != 1:
        raise ValueError(f"data in {header.get(1)} files is not supported", "save it in one")
    versions = read_message(header.get(3, b""), {1: VARINT, 2: VARINT})  # its own, and the oldest reader's
    if versions.get(2, 0) > 1:
        raise ValueError("a newer version of the format is not supported", "save it with TensorFlow 2")


def read_entry(name, message):  # -> dtype, shape, offset, size, checksum
    """What a variable is, where it lies, and the checksum of its data: a BundleEntryProto."""
    entry = read_message(message, ENTRY_FIELDS)
    if entry.get(1) not in DTYPES or 7 in entry:
        kind = "in slices" if 7 in entry else f"of TensorFlow's type {entry.get(1)}"
        raise ValueError(f"{shown(name)} is {kind}, which is not supported", "save it whole, as float32")
    dtype = np.dtype(DTYPES[entry[1]]).newbyteorder("<")
    shape = read_shape(entry.get(2, b""))
    n_file, offset, size = (entry.get(number, 0) for number in (3, 4, 5))
    if n_file != 0:
        raise ValueError(f"{shown(name)} is said to lie in another data file than the only one", AGAIN)
    if math.prod(shape) * dtype.itemsize != size:
        found = f"{shown(name)} of shape {shown(list(shape))} and type {dtype} does not take {size:,} bytes"
        raise ValueError(found, AGAIN)
    return dtype, shape, offset, size, entry.get(6)


def read_shape(message):  # -> (n, ...)
    """The shape of a variable: a TensorShapeProto, one field for each dimension."""
    shape = []
    for _, dim in read_fields(message, {2: BYTES}):
        shape.append(read_message(dim, {1: VARINT, 2: BYTES}).get(1, 0))  # its size, and a name
        if len(shape) > 64:
            raise ValueError("damaged: more than the 64 dimensions that NumPy has", AGAIN)
    return tuple(shape)


def read_block(table, offset, size):  # -> {key: value}
    """The entries of a block, as bytes; each key omits the prefix that it shares with the key before it.

    Raises ValueError for keys that do not ascend, and for keys far longer than the block: each may repeat
    most of the one before.
    """
    end = offset + size
    block, compression, checksum = table[offset:end], table[end : end + 1], table[end + 1 : end + 5]
    if checksum != masked_crc32c(block + compression):
        raise ValueError("damaged: a block does not match its checksum", AGAIN)
    if compression != UNCOMPRESSED:
        raise ValueError("a compressed index is not supported", "save it uncompressed")
    n_restarts = int.from_bytes(block[-4:], "little")  # restart points, for binary search: not needed here
    if n_restarts == 0:
        raise ValueError("damaged: a block without a restart point", AGAIN)
    stream, entries = io.BytesIO(block[: -4 * (n_restarts + 1)]), {}
    key, n_key_bytes = b"", 0
    while stream.tell() < len(stream.getbuffer()):
        n_shared, n_new, n_value = read_varint(stream), read_varint(stream), read_varint(stream)
        before, key = key, key[:n_shared] + read_exactly(stream, n_new)
        if n_shared > len(before) or (entries and key <= before):
            raise ValueError("damaged: its names are not in order", AGAIN)
        n_key_bytes += len(key)
        if n_key_bytes > 10 * size:
            raise ValueError("damaged: its names are ten times as long as the block that holds them", AGAIN)
        entries[key] = read_exactly(stream, n_value)
    return entries


def read_place(stream):  # -> offset, size
    """Where a block lies in the table."""
    return read_varint(stream), read_varint(stream)


def read_message(message, kinds):  # -> {number: value}
    """The fields of a protocol buffer; see `read_fields`. Raises ValueError for a repeated one."""
    found = {}
    for number, value in read_fields(message, kinds):
        if number in found:
            raise ValueError(f"damaged: field {number} is given twice", AGAIN)
        found[number] = value
    return found


def read_fields(message, kinds):  # yields (number, value)
    """The fields of a protocol buffer, in which kinds says how each number is stored: as an int, or as bytes.

    Raises ValueError for any other field.
    """
    stream = io.BytesIO(message)
    while stream.tell() < len(message):
        number, kind = divmod(read_varint(stream), 8)
        if kinds.get(number) != kind:
            raise ValueError(f"damaged: field {number} is out of place", AGAIN)
        if kind == VARINT:
            yield number, read_varint(stream)
        else:
            yield number, read_exactly(stream, 4 if kind == FOUR_BYTES else read_varint(stream))


def read_varint(stream):  # -> int
    """A whole number: seven bits a byte, the lowest first; the eighth says that another byte follows."""
    number = 0
    for shift in range(0, 63, 7):
        byte = read_exactly(stream, 1)[0]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise ValueError("damaged: a number is too large", AGAIN)


def read_exactly(stream, n):  # -> n bytes
    """The next n bytes. Raises ValueError if there are fewer."""
    if n > len(stream.getbuffer()) - stream.tell():
        raise ValueError("cut short, or damaged", AGAIN)
    return stream.read(n)


# ---- writing: encode_entry undoes read_entry, and so on ----------------------------------------------------


def write_checkpoint(prefix, variables):
    """Write {name: array} as TensorFlow does: both it and `read_checkpoint` can read the two files.

    The files get their names only once both are complete. Raises ValueError for a dtype not in DTYPES, and
    for an array without a name.
    """
    for name, array in variables.items():
        if not name or str(array.dtype) not in DTYPES.values():
            problem = f"{name!r} of type {array.dtype} cannot be written"
            raise ValueError(f"{problem}: give it a name, and save it as float32")
    index_path, data_path = file_paths(prefix)
    entries, n_bytes = {b"": b"".join(encode_field(number, value) for number, value in HEADER.items())}, 0
    with open(f"{data_path}.part", "wb") as data:
        for name, array in sorted(variables.items()):
            content = array.tobytes()
            data.write(content)
            entries[name.encode()] = encode_entry(array, content, offset=n_bytes)
            n_bytes += len(content)
    with open(f"{index_path}.part", "wb") as index:
        index.write(encode_index(entries))
    # a crash between the two steps leaves the old index: its length, or a checksum, will not match
    os.replace(f"{data_path}.part", data_path)
    os.replace(f"{index_path}.part", index_path)


def in_openai_layout(arrays):  # {"wte": array, ...} -> {"model/wte": array, ...}
    """Names and shapes as OpenAI saved them: under model/, and matrices as convolutions of width one."""
    return {f"model/{name}": array[None] if name.endswith("/w") else array for name, array in arrays.items()}


def encode_index(entries):  # {key: value}, bytes -> bytes
    """The whole index: one block of entries, the index block, and the footer."""
    entries_block = encode_block(entries)
    index_block = encode_block({max(entries): encode_place(0, entries_block)})
    footer = encode_varint(0) + encode_varint(0) + encode_place(len(entries_block), index_block)
    return entries_block + index_block + footer.ljust(40, b"\0") + MAGIC


def encode_entry(array, content, offset):  # array, its bytes -> bytes
    """A BundleEntryProto: dtype, shape, offset, size, and a checksum, which TensorFlow requires."""
    numbers = {dtype: number for number, dtype in DTYPES.items()}
    shape = b"".join(encode_field(2, encode_field(1, n)) for n in array.shape)
    what = encode_field(1, numbers[str(array.dtype)]) + encode_field(2, shape)
    where = encode_field(4, offset) + encode_field(5, len(content))
    return what + where + encode_varint(8 * 6 + FOUR_BYTES) + masked_crc32c(content)


def encode_block(entries):  # {key: value}, bytes -> bytes
    """A block of the table, with its checksum. Every key is written in full."""
    content = b""
    for key, value in entries.items():
        content += encode_varint(0) + encode_varint(len(key)) + encode_varint(len(value)) + key + value
    content += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")  # one restart point, at byte 0
    return content + UNCOMPRESSED + masked_crc32c(content + UNCOMPRESSED)


def encode_place(offset, block):  # -> bytes
    """Where a block lies. Its size does not count its last five bytes, compression and checksum."""
    return encode_varint(offset) + encode_varint(len(block) - 5)


def encode_field(number, value):  # int or bytes -> bytes
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return encode_varint(8 * number + VARINT) + encode_varint(value)
    return encode_varint(8 * number + BYTES) + encode_varint(len(value)) + value


def encode_varint(number):  # int -> bytes
    """Seven bits a byte, the lowest first; the eighth says that another byte follows."""
    content = b""
    while number >= 0x80:
        content += bytes([number & 0x7F | 0x80])
        number >>= 7
    return content + bytes([number])
