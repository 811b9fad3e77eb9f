"""safetensors: what is read, what is refused, and in which words."""

import json
import os
import sys

import numpy as np
import pytest
from helpers import command, without_unbuffered, write_huggingface
from safetensors.numpy import save_file

from extras.huggingface.tensors import read_safetensors, read_tensors
from files import ModelError
from weights import to_float32

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float16([0.5, -2])}


def write(path, header, data=b"", n_header=None):
    """A file of this format, written by hand, right or wrong."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(header) if n_header is None else n_header).to_bytes(8, "little") + header + data)
    return path


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_what_the_library_writes_is_read(tmp_path):
    save_file(ARRAYS, tmp_path / "x", metadata={"format": "pt"})
    read = read_safetensors(tmp_path / "x")
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array)


def test_bfloat16_becomes_the_float32_of_the_same_value(tmp_path):
    values = np.float32([1, -2.5, 0.15625, 8e3, 1e-30, 0])
    upper_halves = (values.view(np.uint32) >> 16).astype("<u2")
    path = write(tmp_path / "x", {"w": entry("BF16", [2, 3], 0, 12)}, upper_halves.tobytes())
    read = to_float32(read_safetensors(path)["w"], (2, 3), "w", path, "config.json")
    assert read.dtype == np.float32 and read.shape == (2, 3)
    assert np.allclose(read.ravel(), values, rtol=2**-8)  # a bfloat16 has eight significant bits
    assert np.array_equal(read.ravel().view(np.uint32) & 0xFFFF, np.zeros(6))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a program's memory in this way")
def test_unknown_tensors_are_refused_before_they_are_widened(tmp_path, tiny):
    """A gigabyte of bfloat16, all zeros, which take no room on the disk."""
    import resource

    folder = write_huggingface(tmp_path / "model", {"a": np.zeros(2, np.float32)}, tiny[1])
    n_bytes = 2**30
    path = write(folder / "model.safetensors", {"a": entry("BF16", [n_bytes // 2], 0, n_bytes)}, b"")
    os.truncate(path, path.stat().st_size + n_bytes)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))  # with the file itself, mapped

    one_thread = without_unbuffered() | {"OMP_NUM_THREADS": "1"}
    done = command("Once", "3", str(folder), preexec_fn=limit, env=one_thread)
    assert done.returncode == 1 and b"according to config.json, a is unknown" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_weights_that_may_not_be_read_are_said_to_be_so(tmp_path):
    path = write(tmp_path / "x", {"w": entry("F32", [1], 0, 4)}, bytes(4))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(PermissionError, match="Permission denied"):
        read_safetensors(path)


@pytest.mark.parametrize("n_spaces", range(8))
def test_numbers_may_begin_anywhere(tmp_path, n_spaces):
    header = json.dumps({"a": entry("F32", [2, 3], 0, 24)}).encode() + b" " * n_spaces
    read = read_safetensors(write(tmp_path / "x", header, ARRAYS["a"].tobytes()))["a"]
    assert np.array_equal(read, ARRAYS["a"]) and read.flags.aligned


@pytest.mark.parametrize("n_spaces", range(4))
def test_numbers_behind_an_odd_number_of_bytes_are_read(tmp_path, n_spaces):
    header = json.dumps({"flags": entry("BOOL", [3], 0, 3), "a": entry("F32", [2, 3], 3, 27)})
    content = b"\1\0\1" + ARRAYS["a"].tobytes()
    read = read_safetensors(write(tmp_path / "x", header.encode() + b" " * n_spaces, content))
    assert read["flags"].tolist() == [True, False, True]
    assert np.array_equal(read["a"], ARRAYS["a"]) and read["a"].flags.aligned


def test_editing_an_array_leaves_the_file_alone(tmp_path):
    save_file(ARRAYS, tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    read_safetensors(tmp_path / "x")["a"][:] = 7
    assert (tmp_path / "x").read_bytes() == before


@pytest.mark.parametrize(
    "header, data, n_header, message",
    [
        (b"", b"", None, "get a fresh copy"),
        (b"{}", b"", 2**63, "(?i)header ?too ?large"),
        (b"{}", b"", 2**64 - 1, "(?i)header ?too ?large"),
        (b"{}", b"", 10**6, "; get a fresh copy"),
        (b"{", b"", None, "; get a fresh copy"),
        (b"[]", b"", None, "; get a fresh copy"),
        (b"\xff\xfe", b"", None, "; get a fresh copy"),
        ({"a": entry("F32", [2], 0, 8)}, bytes(7), None, "; get a fresh copy"),
        ({"a": entry("F32", [2], 0, 8)}, bytes(9), None, "; get a fresh copy"),
        ({"a": entry("F32", [3], 0, 8)}, bytes(8), None, "; get a fresh copy"),
        ({"a": entry("F32", [-2], 0, 8)}, bytes(8), None, "; get a fresh copy"),
        ({"a": entry("F32", [2**40, 2**40], 0, 0)}, b"", None, "; get a fresh copy"),
        ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 2, 6)}, bytes(6), None, "; get a fresh copy"),
        (
            {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)},
            bytes(12),
            None,
            "; get a fresh copy",
        ),
        ({"a": entry("F32", [1], 4, 8)}, bytes(8), None, "; get a fresh copy"),
        ({"a": entry("Q4", [1], 0, 4)}, bytes(4), None, "; get a fresh copy"),
        ({"a": entry("F8_E4M3", [4], 0, 4)}, bytes(4), None, "a is of type F8_E4M3; save it as float32"),
        (
            {"a": ["F32", [1], [0, 4]]},
            bytes(4),
            None,
            r"a is described by \['F32', \[1\], \[0, 4\]\]; get a fr",
        ),
        (
            b'{"a": %s, "a": %s}' % tuple(json.dumps(entry("F32", s, 0, 4)).encode() for s in ([1], [1, 1])),
            bytes(4),
            None,
            "a is given twice; get a fresh copy",
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, header, data, n_header, message):
    path = write(tmp_path / "model.safetensors", header, data, n_header)
    with pytest.raises(ModelError, match=message) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("n_header", [60, 15_392, 60 + 256 * ord("h")])  # of which the first byte is "<"
def test_a_damaged_file_is_not_taken_for_a_web_page(tmp_path, n_header):
    header = json.dumps({"a": entry("F32", [2, 3], 0, 24)}).replace(" ", "").encode().ljust(n_header)
    path = write(tmp_path / "x", header, ARRAYS["a"].tobytes())
    assert path.read_bytes().lstrip()[:1] == b"<" and np.array_equal(read_safetensors(path)["a"], ARRAYS["a"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="Error while deserializing header: .*; get a fresh copy"):
        read_safetensors(path)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n", "run git lfs pull"),
        (b"<!doctype html><title>Log in</title>", "a web page, not the file"),
        (b"\n<HTML><head><title>Log in</title>", "a web page, not the file"),
        (b"PK\3\4" + bytes(100), "a pickle under another name.*python -m extras.huggingface.convert"),
        (b"\x80\2}q\0." + bytes(100), "a pickle under another name.*python -m extras.huggingface.convert"),
        (b"1234567", "get a fresh copy"),
        (b"", "get a fresh copy"),
    ],
)
def test_a_file_of_another_kind_is_recognised(tmp_path, content, message):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_tensors(tmp_path)


# ---- shards ------------------------------------------------------------------------------------------------


def write_shards(folder, weight_map, shards):
    """An index, and the files that it should name."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for shard, names in shards.items():
        save_file({name: ARRAYS[name] for name in names}, folder / shard)


def test_shards_are_read_as_one(tmp_path):
    write_shards(
        tmp_path, {"a": "1.safetensors", "b": "2.safetensors"}, {"1.safetensors": "a", "2.safetensors": "b"}
    )
    read = read_tensors(tmp_path)
    assert read.keys() == {"a", "b"} and np.array_equal(read["a"], ARRAYS["a"])


@pytest.mark.parametrize(
    "weight_map, shards, message",
    [
        (
            {"a": "1.safetensors", "b": "2.safetensors"},
            {"1.safetensors": "a"},
            "index.json: it names the file 2.safetensors, which is missing; get a fresh copy",
        ),
        (
            {"a": "1.safetensors"},
            {"1.safetensors": "ab"},
            "1.safetensors: it and .* disagree about b; get a fresh copy",
        ),
        ({"a": "1.safetensors", "b": "1.safetensors"}, {"1.safetensors": "a"}, "disagree about b"),
        (
            {"a": "1.safetensors", "b": "2.safetensors"},
            {"1.safetensors": "ab", "2.safetensors": "b"},
            "1.safetensors: it and .* disagree about b",
        ),
        ({"a": "../1.safetensors"}, {}, "names the file '../1.safetensors', expected a .safetensors file"),
        ({"a": "/etc/1.safetensors"}, {}, "expected a .safetensors file in its own folder"),
        ({"a": "x\\1.safetensors"}, {}, "expected a .safetensors file in its own folder"),
        ({"a": "pytorch_model.bin"}, {}, "names the file 'pytorch_model.bin', expected a .safetensors file"),
        ({"a": 1}, {}, "no weight_map, from tensors to files"),
        (None, {}, "no weight_map, from tensors to files"),
    ],
)
def test_shards_that_do_not_fit_their_index_are_refused(tmp_path, weight_map, shards, message):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(ARRAYS, tmp_path / "1.safetensors")  # not to be found by any name
    write_shards(folder, weight_map, shards)
    with pytest.raises(ModelError, match=message):
        read_tensors(folder)


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module.", "model.", "pretrained_model.", "module._orig_mod.", "gpt.", "model._orig_mod."],
)
@pytest.mark.parametrize("head", [[], ["v_head.summary.weight"]])
def test_what_a_wrapper_puts_before_all_names_is_named_with_the_command_that_strips_it(
    tmp_path, prefix, head
):
    names = ["transformer.wte.weight", "transformer.h.0.ln_1.bias", "lm_head.weight"]
    tensors = dict.fromkeys([f"{prefix}{name}" for name in names] + head, ARRAYS["a"])
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    found = f"{path}: the names of its tensors begin with {prefix}, which training put before them; "
    command = f"to strip it, run python -m extras.huggingface.convert {path} OUT_FOLDER"
    with pytest.raises(ModelError) as caught:
        read_tensors(tmp_path)
    assert str(caught.value) == found + command
    if prefix in ("model.", "gpt."):
        save_file(tensors | {"wte.weight": ARRAYS["a"]}, path)  # not all names begin with it
        assert read_tensors(tmp_path).keys() == {*tensors, "wte.weight"}


@pytest.mark.parametrize(
    "names",
    [
        ["transformer._orig_mod.wte.weight", "lm_head.weight"],
        ["transformer.wte.weight", "transformer.h.0._checkpoint_wrapped_module.ln_1.bias"],
        ["module.pretrained_model.transformer.wte.weight", "module.v_head.summary.weight"],
    ],
)
def test_what_a_wrapper_puts_into_some_names_is_named_with_the_command_that_strips_it(tmp_path, names):
    save_file(dict.fromkeys(names, ARRAYS["a"]), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="which training put|that training put into them, such as") as caught:
        read_tensors(tmp_path)
    assert str(caught.value).endswith(f"convert {tmp_path / 'model.safetensors'} OUT_FOLDER")


def test_of_shards_with_a_wrappers_names_the_index_is_what_to_convert(tmp_path):
    shards = {"1.safetensors": "module.wte.weight", "2.safetensors": "module.wpe.weight"}
    for shard, name in shards.items():
        save_file({name: ARRAYS["a"]}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: shard for shard, name in shards.items()}}))
    with pytest.raises(ModelError, match=f"begin with module., .*convert {index} OUT_FOLDER"):
        read_tensors(tmp_path)


def test_a_pickle_is_not_read_and_the_way_out_is_named(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    command = f"python -m extras.huggingface.convert {tmp_path / 'pytorch_model.bin'} OUT_FOLDER"
    with pytest.raises(ModelError, match="could run any code, so it is not read") as caught:
        read_tensors(tmp_path)
    assert command in str(caught.value)
