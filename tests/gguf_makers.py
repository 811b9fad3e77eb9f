"""Files of llama.cpp as the tests want them: taken apart by its own library, changed, put together."""

import struct

import numpy as np

from extras.untied import UntiedEmbedding
from weights import flatten

TEXT, LIST = 8, 9
KINDS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def taken_apart(path):  # -> {field: (type, value)}, {name: (shape, type, bytes)}
    """A file as the library gguf reads it; the type of a list is (LIST, type of its entries)."""
    import gguf

    reader, fields = gguf.GGUFReader(path), {}
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            types = [int(kind) for kind in field.types]
            kind = (LIST, types[1]) if types[0] == LIST else types[0]
            fields[name] = (kind, field.contents())
    tensors = {
        tensor.name: (tensor.shape.tolist()[::-1], int(tensor.tensor_type), tensor.data.tobytes())
        for tensor in reader.tensors
    }
    return fields, tensors


def packed(kind, value):  # -> bytes
    """A value of a field."""
    if isinstance(kind, tuple):
        head = struct.pack("<IQ", kind[1], len(value))
        return head + b"".join(packed(kind[1], each) for each in value)
    if kind == TEXT:
        text = value if isinstance(value, bytes) else value.encode()
        return struct.pack("<Q", len(text)) + text
    return struct.pack(f"<{KINDS[kind]}", value)


def put_together(path, fields, tensors, version=3, alignment=32):  # -> path
    """Write a file, byte by byte; a tensor may have an offset of its own as a fourth part."""
    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(fields))]
    for name, (kind, value) in fields.items():
        number = kind[0] if isinstance(kind, tuple) else kind
        parts += [packed(TEXT, name), struct.pack("<I", number), packed(kind, value)]
    data = b""
    for name, (shape, kind, content, *offset) in tensors.items():
        numbers = (len(shape), *shape[::-1], kind, *(offset or [len(data)]))
        parts += [packed(TEXT, name), struct.pack(f"<I{len(shape)}QIQ", *numbers)]
        data += content + bytes(-len(content) % alignment)
    header = b"".join(parts)
    path.write_bytes(header + bytes(-len(header) % alignment) + data)
    return path


def assert_same_model(ours, theirs):
    """Encoder, hparams and params, equal to the last bit."""
    (encoder, hparams, params), (encoder_2, hparams_2, params_2) = ours, theirs
    assert encoder_2.encoder == encoder.encoder and encoder_2.bpe_ranks == encoder.bpe_ranks
    assert encoder_2.special_tokens == encoder.special_tokens
    assert encoder_2.added_tokens == encoder.added_tokens
    assert (encoder_2.stop_ids, encoder_2.begin_id) == (encoder.stop_ids, encoder.begin_id)
    assert hparams_2 == hparams
    leaves, leaves_2 = flatten(params), flatten(params_2)
    assert leaves_2.keys() == leaves.keys()
    for name, leaf in leaves.items():
        if isinstance(leaf, UntiedEmbedding):
            assert np.array_equal(leaves_2[name].T, leaf.T) and np.array_equal(leaves_2[name][:], leaf[:])
        elif isinstance(leaf, np.ndarray):
            assert np.array_equal(leaves_2[name], leaf) and leaves_2[name].dtype == np.float32, name
        else:
            assert leaves_2[name] == leaf
