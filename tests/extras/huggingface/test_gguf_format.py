"""The container of llama.cpp: read as its own library reads it; what is damaged is refused, at once."""

import struct
import time

import numpy as np
import pytest
from gguf_makers import LIST, TEXT, put_together, taken_apart

from extras.huggingface import gguf_format
from extras.huggingface.gguf_files import save
from extras.huggingface.gguf_format import read_gguf
from files import ModelError

gguf = pytest.importorskip("gguf")
F32, Q8_0 = 0, 8
NUMBERS = np.arange(12, dtype="<f4").reshape(3, 4)
TENSORS = {"a": ([3, 4], F32, NUMBERS.tobytes()), "b": ([5], F32, NUMBERS.tobytes()[:20])}
FIELDS = {"general.architecture": (TEXT, "gpt2")}


def refusal(path):
    with pytest.raises(ModelError) as caught:
        read_gguf(path)
    assert str(caught.value).isprintable() and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.gguf"


def test_a_file_is_read_as_the_library_reads_it(path, tiny):
    save(path, *tiny, "Q8_0")
    (fields, tensors), (theirs, their_tensors) = read_gguf(path), taken_apart(path)
    assert fields == {name: value for name, (_, value) in theirs.items()} and len(fields) > 15
    assert [*tensors] == [*their_tensors]
    for name, (shape, kind, content) in their_tensors.items():
        found = tensors[name]
        assert (found.shape, gguf.GGMLQuantizationType[found.kind]) == (tuple(shape), kind)
        assert found.data.tobytes() == content


@pytest.mark.parametrize("version, alignment", [(2, 32), (3, 64), (3, 8), (3, 1)])
def test_other_versions_and_alignments_are_read(path, version, alignment):
    fields = FIELDS | {"general.alignment": (4, alignment)}
    put_together(path, fields, TENSORS, version, alignment)
    found = read_gguf(path)[1]
    assert np.array_equal(gguf_format.to_array(found["a"]), NUMBERS)
    assert gguf_format.to_array(found["b"]).tolist() == [0, 1, 2, 3, 4]


def test_fields_of_every_type_are_read(path):
    values = {0: 255, 1: -1, 2: 65535, 3: -2, 4: 2**32 - 1, 5: -3, 6: 0.5, 7: True, 10: 2**64 - 1, 11: -4}
    values |= {12: 0.1, TEXT: "é\n🦊"}
    fields = {f"f{kind}": (kind, value) for kind, value in values.items()}
    fields |= {f"l{kind}": ((LIST, kind), [value, value]) for kind, value in values.items()}
    found = read_gguf(put_together(path, fields, {}))[0]
    assert found == {name: value for name, (_, value) in fields.items()}
    assert type(found["f7"]) is bool and type(found["l7"][0]) is bool and type(found["l4"][0]) is int


@pytest.mark.parametrize(
    "fields, tensors, message",
    [
        ({"x": ((LIST, LIST), [])}, {}, "entries of type 9, which is not supported; get a fresh copy"),
        ({"x": ((LIST, 99), [])}, {}, "entries of type 99, which is not supported; get a fresh copy"),
        ({"x": (TEXT, b"\xff")}, {}, "'utf-8' codec can't decode byte 0xff"),
        ({"general.alignment": (4, 0)}, {}, "general.alignment is 0, expected a power of two"),
        ({"general.alignment": (4, 24)}, {}, "general.alignment is 24, expected a power of two"),
        ({"general.alignment": (TEXT, "8")}, {}, "general.alignment is 8, expected a power of two"),
        ({}, {"a": ([1] * 5, F32, bytes(4))}, "a tensor has 5 dimensions, at most 4 are expected"),
        ({}, {"a": ([], F32, bytes(4))}, "a has shape [], which F32 does not allow"),
        ({}, {"a": ([4, 33], Q8_0, bytes(136))}, "a has shape [4, 33], which Q8_0 does not allow"),
        (
            {},
            {"a": ([1], 4, bytes(4))},
            "a is of type 4, which the library gguf does not know; get the model",
        ),
        ({}, {"a": ([1], 999, bytes(4))}, "a is of type 999, which the library gguf does not know; get th"),
        ({}, {"a": ([1], F32, bytes(4), 32)}, "a begins at byte 32 of the tensors, expected 0"),
        ({}, TENSORS | {"b": ([5], F32, bytes(20), 0)}, "b begins at byte 0 of the tensors, expected 64"),
        (
            {},
            {"a": ([99], F32, bytes(4))},
            "it is incomplete: a ends at byte 396 of the tensors, which have 32",
        ),
        ({}, {"a": ([2**62, 2**62], F32, b"")}, "it is incomplete: a ends at byte"),
    ],
)
def test_what_no_program_writes_is_refused(path, fields, tensors, message):
    assert message in refusal(put_together(path, fields, tensors))


@pytest.mark.parametrize(
    "version, message",
    [
        (1, "it is of version 1 of the format, expected 2 or 3"),
        (4, "it is of version 4 of the format, expected 2 or 3"),
        (3 << 24, "its numbers are big-endian: only little-endian files are read"),
    ],
)
def test_other_versions_are_refused(path, version, message):
    assert message in refusal(put_together(path, FIELDS, TENSORS, version))


def test_a_name_that_is_given_twice_is_refused(path):
    two = {"aa": (4, 1), "ab": (4, 2)}
    content = put_together(path, two, {}).read_bytes()
    path.write_bytes(content.replace(b"ab", b"aa"))
    assert "aa is given twice" in refusal(path)
    content = put_together(path, {}, {"aa": TENSORS["a"], "ab": TENSORS["b"]}).read_bytes()
    path.write_bytes(content.replace(b"ab", b"aa"))
    assert "aa is given twice" in refusal(path)


def test_a_file_cut_anywhere_is_refused(path):
    content = put_together(path, FIELDS | {"x": ((LIST, TEXT), ["a", "b"])}, TENSORS).read_bytes()
    read_gguf(path)
    end = len(content) - (-20 % 32)  # what follows is padding
    for n_bytes in range(end):
        path.write_bytes(content[:n_bytes])
        refusal(path)
    path.write_bytes(content[:end])
    read_gguf(path)


@pytest.mark.parametrize("at", [8, 16, 24])  # the numbers of tensors, of fields, the length of a name
@pytest.mark.parametrize("number", [2**20, 2**40, 2**63, 2**64 - 1])
def test_a_huge_number_in_the_header_takes_no_time(path, at, number):
    content = bytearray(put_together(path, FIELDS, TENSORS).read_bytes())
    content[at : at + 8] = struct.pack("<Q", number)
    path.write_bytes(content)
    start = time.perf_counter()
    refusal(path)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("kind", [0, 7, TEXT])
def test_a_huge_list_takes_no_time(path, kind):
    content = put_together(path, {"x": ((LIST, kind), [])}, {}).read_bytes()
    for n in (2**21, 2**62):
        path.write_bytes(
            content.replace(struct.pack("<IIQ", LIST, kind, 0), struct.pack("<IIQ", LIST, kind, n))
        )
        start = time.perf_counter()
        assert f"a list has {n:,} entries, at most 2,000,000 are expected" in refusal(path)
        assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "it does not begin with the letters GGUF, so it is not a file of llama.cpp"),
        (b"GGUF", "its header ends too early, or byte 4 is wrong"),
        (b"version https://git-lfs.github.com/spec/v1\n", "only a pointer to the file"),
        (b"<!DOCTYPE html>", "a web page, not the file"),
        (b"PK\3\4", "a pickle under another name, which could run any code"),
    ],
)
def test_another_file_is_named_as_what_it_is(path, content, message):
    path.write_bytes(content)
    assert message in refusal(path)


def test_without_the_library_one_line_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ImportError, match="gguf.*: pip install -r requirements-extras.txt|activate"):
        read_gguf(path)
