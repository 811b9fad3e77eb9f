"""GGUF, the file format of llama.cpp: what lies where in a file, whatever model it holds.

After the letters GGUF come counts, then named fields: numbers, texts, or lists of them. Then each tensor's
name, shape, type and place, then the numbers. There are no checksums. All that a header says is compared with
the length of the file, so that damage is found before it costs time or memory.

(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)
"""

import math
import struct
from typing import NamedTuple

import numpy as np

from extras.huggingface.tensors import recognise_file
from extras.recognise import GET
from files import AGAIN, LARGEST_TEXT, ModelError, needs, shown

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9  # the two other types of fields
MOST_ENTRIES = 2 * 10**6  # in a list, such as that of the tokens
MOST_DIMENSIONS = 4  # of a tensor


class Tensor(NamedTuple):
    """A tensor in a file: the type of its numbers by llama.cpp's name, its shape, and its bytes."""

    kind: str  # "F32", "Q8_0"
    shape: tuple  # as in NumPy: the last dimension is that of the rows
    data: np.ndarray  # of uint8, memory-mapped copy-on-write


class Cursor:
    """Takes numbers and texts from bytes, one after another. Raises ValueError where they end too early."""

    def __init__(self, content):
        self.content, self.place = memoryview(content)[:LARGEST_TEXT], 0

    def take(self, n_bytes):  # -> memoryview
        """The next bytes."""
        start, end = self.place, self.place + n_bytes
        if end > len(self.content):
            raise ValueError(f"its header ends too early, or byte {start:,} is wrong")
        self.place = end
        return self.content[start:end]

    def number(self, kind):  # "I" -> int
        """The next number, of one of struct's kinds."""
        kind = f"<{kind}"
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def text(self):  # -> str
        """The next text, which follows its length. Raises UnicodeDecodeError if it is not UTF-8."""
        return bytes(self.take(self.number("Q"))).decode()

    def value(self, kind):  # number of a type -> int, float, bool, str, or list of them
        """The next value of a field."""
        if kind == TEXT:
            return self.text()
        if kind == LIST:
            return self.values(self.number("I"), self.number("Q"))
        if kind not in NUMBERS:
            raise ValueError(f"a field is of type {kind}, which is unknown")
        return self.number(NUMBERS[kind])

    def values(self, kind, n_values):  # -> list
        """The next n_values values of one type."""
        if n_values > MOST_ENTRIES:
            raise ValueError(f"a list has {n_values:,} entries, at most {MOST_ENTRIES:,} are expected")
        if kind == TEXT:
            return [self.text() for _ in range(n_values)]
        if kind not in NUMBERS:
            raise ValueError(f"a list has entries of type {kind}, which is not supported")
        number = np.dtype(f"<{NUMBERS[kind]}")
        return np.frombuffer(self.take(n_values * number.itemsize), number).tolist()


def gguf_library():  # -> module
    """llama.cpp's own library, which knows the types of numbers; imported late, as only GGUF needs it."""
    with needs("requirements-extras.txt"):
        import gguf
    return gguf


def read_gguf(path):  # -> {field: value}, {name: Tensor}
    """What a file holds. Raises ModelError for one that is damaged, or of another format."""
    gguf_library()
    with open(path, "rb") as file:
        is_gguf = file.read(4) == b"GGUF"
        content = np.asarray(np.memmap(file, mode="c")) if is_gguf else None
    if not is_gguf:
        problem = "it does not begin with the letters GGUF, so it is not a file of llama.cpp"
        raise ModelError(path, *(recognise_file(path) or (problem, AGAIN)))
    try:
        return parse(content)
    except NotImplementedError as error:
        raise ModelError(path, error, GET) from None
    except (ValueError, OverflowError) as error:
        raise ModelError(path, error, AGAIN) from None


def parse(content):  # bytes of a file -> {field: value}, {name: Tensor}
    """What `read_gguf` returns.

    Raises ValueError, or OverflowError for a huge length, where it is damaged; NotImplementedError for a
    version of the format, or a type of numbers, that is not supported.
    """
    cursor = Cursor(content)
    cursor.take(4)
    check_version(cursor.number("I"))
    n_tensors, n_fields = cursor.number("Q"), cursor.number("Q")
    fields, entries = {}, {}
    for _ in range(n_fields):
        add(fields, cursor.text(), cursor.value(kind=cursor.number("I")))
    for _ in range(n_tensors):
        add(entries, cursor.text(), entry(cursor))
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment is {shown(alignment)}, expected a power of two")
    return fields, place(content[padded(cursor.place, alignment) :], entries, alignment)


def check_version(version):
    """Raise NotImplementedError unless this is version 2 or 3, which differ only in what they allow."""
    if version & 0xFFFF == 0:
        raise NotImplementedError("its numbers are big-endian: only little-endian files are read")
    if version not in (2, 3):
        raise NotImplementedError(f"it is of version {version} of the format, expected 2 or 3")


def add(found, name, value):
    """Add a name and its value to a dict. Raises ValueError if the name is there already."""
    if name in found:
        raise ValueError(f"{shown(name)} is given twice")
    found[name] = value


def entry(cursor):  # -> shape, number of a type, offset
    """What the header says of a tensor. There, the last dimension of NumPy comes first."""
    n_dims = cursor.number("I")
    if n_dims > MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {n_dims} dimensions, at most {MOST_DIMENSIONS} are expected")
    shape = [cursor.number("Q") for _ in range(n_dims)]
    return tuple(shape[::-1]), cursor.number("I"), cursor.number("Q")


def place(data, entries, alignment):  # bytes of all tensors, {name: what entry returns} -> {name: Tensor}
    """Each tensor with its bytes. Raises ValueError unless they lie one after another, within the file."""
    tensors, start = {}, 0  # start: of the next tensor
    for name, (shape, number, offset) in entries.items():
        kind, n_bytes = storage(name, shape, number)
        if offset != start:
            raise ValueError(f"{shown(name)} begins at byte {offset:,} of the tensors, expected {start:,}")
        if offset + n_bytes > len(data):
            found = f"it is incomplete: {shown(name)} ends at byte {offset + n_bytes:,} of the tensors"
            raise ValueError(f"{found}, which have {len(data):,}")
        tensors[name] = Tensor(kind, shape, data[offset : offset + n_bytes])
        start = padded(offset + n_bytes, alignment)
    return tensors


def storage(name, shape, number):  # -> name of its type, number of bytes
    """How the numbers of a tensor are stored: in blocks, of which each row has a whole number.

    number: that of the type in the header. Raises NotImplementedError for a type that the library does not
    know, ValueError for a wrong shape.
    """
    gguf = gguf_library()
    try:
        kind = gguf.GGMLQuantizationType(number)
        n_numbers, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        found = f"{shown(name)} is of type {number}, which the library gguf does not know"
        raise NotImplementedError(found) from None
    if not shape or shape[-1] % n_numbers:
        raise ValueError(f"{shown(name)} has shape {list(shape)}, which {kind.name} does not allow")
    return kind.name, math.prod(shape) // n_numbers * n_bytes


def padded(place, alignment):  # int -> int
    """The next place that is a multiple of alignment."""
    return -(-place // alignment) * alignment


def to_array(tensor):  # Tensor -> array of float32, memory-mapped if it is stored so
    """The numbers of a tensor. Raises NotImplementedError for a type that the library cannot read."""
    gguf = gguf_library()
    if tensor.kind == "F32":
        return np.require(tensor.data.view("<f4").reshape(tensor.shape), requirements="A")
    rows = tensor.data.reshape(*tensor.shape[:-1], -1)
    with np.errstate(all="ignore"):  # damaged scales; whether all is finite is checked later
        return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[tensor.kind])
