"""Checkpoints of TensorFlow: read and written as TensorFlow does, and refused where they are damaged."""

import itertools
import json
import mmap
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, save_with_tensorflow

import checkpoint
import weights
from checkpoint import in_openai_layout, read_checkpoint, read_index, write_checkpoint
from checksum import masked_crc32c
from files import ModelError
from weights import to_params

VARIABLES = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/long/name/that/shares": np.ones((1, 2, 3, 4), np.float16),
    "a/long/name/that/shares/more": np.array(7, dtype=np.int64),
    "b": np.linspace(0, 1, 1000),
    "flags": np.array([True, False, True]),
    "none": np.zeros((0, 4), np.float32),
    "z": np.arange(-4, 4, dtype=np.int8),
}


# ---- how TensorFlow stores it ------------------------------------------------------------------------------


def assert_same_variables(ours, theirs):
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype and ours[name].shape == array.shape, name
        assert np.array_equal(ours[name], array), name


def save_at_once(tf, folder, tensors, slices=None):
    """Let TensorFlow write {name: tensor} in one operation, which is quick for many; return the prefix."""
    prefix = str(folder / "model.ckpt")
    slices = slices or [""] * len(tensors)
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=[*tensors], shape_and_slices=slices, tensors=[*tensors.values()]
    )
    return prefix


@pytest.mark.parametrize("names", [list(VARIABLES), ["a"], ["b", "z"]])
def test_what_tensorflow_writes_both_read_alike(tf, tmp_path, names):
    variables = {name: VARIABLES[name] for name in names}
    save_with_tensorflow(tf, tmp_path / "model.ckpt", variables)
    theirs = tf.train.load_checkpoint(str(tmp_path / "model.ckpt"))
    assert_same_variables(
        read_checkpoint(tmp_path / "model.ckpt"), {name: theirs.get_tensor(name) for name in names}
    )
    assert_same_variables(read_checkpoint(tmp_path / "model.ckpt"), variables)


def test_what_tensorflow_writes_of_every_type_that_numpy_has_is_read(tf, tmp_path):
    arrays = {dtype: np.arange(8).reshape(2, 4).astype(dtype) for dtype in checkpoint.DTYPES.values()}
    prefix = save_at_once(tf, tmp_path, {name: tf.constant(array) for name, array in arrays.items()})
    assert_same_variables(read_checkpoint(prefix), arrays)


def test_a_table_of_many_blocks_is_read(tf, tmp_path):
    arrays = {f"{'layer/' * (i % 7)}{i:05}": np.full(i % 3, i, np.float32) for i in range(12_000)}
    prefix = save_at_once(tf, tmp_path, {name: tf.constant(array) for name, array in arrays.items()})
    assert (tmp_path / "model.ckpt.index").stat().st_size > 262_144  # what a block takes
    assert_same_variables(read_checkpoint(prefix), arrays)


@pytest.mark.parametrize("dtype", ["bfloat16", "string"])
def test_types_that_numpy_lacks_are_refused_by_name(tf, tmp_path, dtype):
    value = tf.constant("text") if dtype == "string" else tf.constant(1, tf.bfloat16)
    prefix = save_at_once(tf, tmp_path, {"odd": value})
    with pytest.raises(ModelError, match="odd is of TensorFlow's type"):
        read_checkpoint(prefix)


def test_a_variable_in_slices_is_refused(tf, tmp_path):
    prefix = save_at_once(tf, tmp_path, {"part": tf.ones((2, 2))}, ["4 2 0,2:0,2"])
    with pytest.raises(ModelError, match="part is in slices.*save it"):
        read_checkpoint(prefix)


def test_every_name_shape_and_offset_of_the_real_index(released):
    if not (released / "model.ckpt.index").exists():
        pytest.skip("no model.ckpt.index in models/124M: `python gpt2.py Hello` downloads it")
    index, offset = read_index(released / "model.ckpt.index"), 0
    table = in_openai_layout(
        {
            name: np.broadcast_to(np.float32(0), shape)
            for name, shape in weights.shapes(weights.PRESETS["124M"]).items()
        }
    )
    assert list(index) == sorted(table) and len(index) == 148
    for name in sorted(table):
        assert index[name][:4] == (np.float32, table[name].shape, offset, table[name].nbytes), name
        offset += table[name].nbytes
    assert offset == 497_759_232


def test_the_index_of_the_bundled_model_is_read_as_tensorflow_reads_it(tf):
    theirs = tf.train.load_checkpoint(str(TINY / "model.ckpt"))
    names = theirs.get_variable_to_shape_map()
    assert_same_variables(
        read_checkpoint(TINY / "model.ckpt"), {name: theirs.get_tensor(name) for name in names}
    )


def test_tensorflow_reads_what_is_written(tf, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", VARIABLES)
    theirs = tf.train.load_checkpoint(str(tmp_path / "model.ckpt"))
    assert sorted(theirs.get_variable_to_shape_map()) == sorted(VARIABLES)
    assert_same_variables({name: theirs.get_tensor(name) for name in VARIABLES}, VARIABLES)
    assert_same_variables(read_checkpoint(tmp_path / "model.ckpt"), VARIABLES)


def test_arrays_are_plain_mapped_and_writing_to_them_leaves_the_file(tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", {"a": np.ones((3, 4), np.float32)})
    array = read_checkpoint(tmp_path / "model.ckpt")["a"]
    assert type(array) is np.ndarray
    root = array
    while isinstance(root, np.ndarray):
        root = root.base
    assert isinstance(root, mmap.mmap)
    array += 1
    assert np.all(array == 2) and np.all(read_checkpoint(tmp_path / "model.ckpt")["a"] == 1)


def test_kinds_of_checkpoints_that_are_not_supported_are_named(tmp_path, monkeypatch):
    kinds = {
        "big-endian": ("HEADER", {1: 1, 2: 1}),
        "data in 2 files": ("HEADER", {1: 2}),
        "newer version": ("HEADER", {1: 1, 3: b"\x10\2"}),
        "compressed": ("UNCOMPRESSED", b"\1"),
    }
    for message, (name, value) in kinds.items():
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, value)
            write_checkpoint(tmp_path / "model.ckpt", VARIABLES)
        with pytest.raises(ModelError, match=rf"model\.ckpt\.index: .*{message}.* not supported; save it"):
            read_checkpoint(tmp_path / "model.ckpt")


def test_data_shorter_or_longer_than_the_index_says_are_refused(tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", VARIABLES)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    for wrong in (whole[:-1], b"", whole + b"\0"):
        data.write_bytes(wrong)
        with pytest.raises(
            ModelError,
            match=rf"data-00000-of-00001: {len(wrong):,} bytes, but its index promises {len(whole):,}",
        ):
            read_checkpoint(tmp_path / "model.ckpt")


def test_variables_that_overlap_or_leave_a_hole_are_refused(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "model.ckpt", {"a": np.ones(4, np.float32), "b": np.zeros(4, np.float32)})
    right = read_index(tmp_path / "model.ckpt.index")
    for offset in (0, 12, 20):
        wrong = right | {"b": (*right["b"][:2], offset, 16, b"")}
        monkeypatch.setattr(checkpoint, "read_index", lambda path, wrong=wrong: wrong)
        with pytest.raises(ModelError, match=f"b begins at byte {offset}, but the one before it ends at 16"):
            read_checkpoint(tmp_path / "model.ckpt")


def write_index(folder, **fields):
    """A checkpoint of one variable, whose entry has these fields: {f1: int or bytes, ...}."""
    entry = b"".join(checkpoint.encode_field(int(name[1:]), value) for name, value in fields.items())
    return write_entries(folder, {b"": b"\x08\x01", b"odd": entry})


def write_entries(folder, entries):
    (folder / "model.ckpt.index").write_bytes(checkpoint.encode_index(entries))
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(bytes(4))
    return folder / "model.ckpt"


DIM = checkpoint.encode_field(2, checkpoint.encode_field(1, 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"f1": 1, "f2": DIM * 65, "f5": 4},
        {"f1": 1, "f2": checkpoint.encode_field(2, checkpoint.encode_field(1, 2**63)), "f5": 0},
        {"f1": 1, "f2": 7, "f5": 4},
        {"f1": 1, "f2": checkpoint.encode_field(2, 1), "f5": 4},
        {"f1": 1, "f2": DIM, "f4": b"x", "f5": 4},
        {"f1": 1, "f2": DIM, "f4": 10**5000, "f5": 4},
        {"f1": 1, "f2": DIM, "f5": b"xx" * 3000},
        {"f1": b"x" * 5000, "f2": DIM, "f5": 4},
        {"f1": 1, "f2": DIM * 5000, "f5": 0},
        {"f1": 1, "f2": DIM, "f3": 1, "f5": 4},  # in a second data file
        {"f1": 1, "f2": DIM, "f3": b"x", "f5": 4},
    ],
)
def test_an_entry_with_a_field_out_of_place_is_refused_in_one_short_line(tmp_path, fields):
    with pytest.raises(ModelError, match=r"model\.ckpt\.index: ") as caught:
        read_checkpoint(write_index(tmp_path, **fields))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "more, found",
    [
        (b"\x08\x01", "field 1 is given twice"),
        (b"\x0b", "field 1 is out of place"),
        (b"\x00\x01", "field 0 is out of place"),
        (b"\x50\x01", "field 10 is out of place"),
        (b"\x32\x04sums", "field 6 is out of place"),  # a checksum that is stored as text is
        (b"\x20" + b"\xff" * 8 + b"\x80\x01", "a number is too large"),
        (b"\x20\x80", "cut short"),
    ],
)
def test_an_entry_that_no_protocol_buffer_can_be_is_refused(tmp_path, more, found):
    entry = b"\x08\x01\x12\x04" + DIM + b"\x28\x04"
    read_checkpoint(write_entries(tmp_path, {b"": b"\x08\x01", b"odd": entry}))
    with pytest.raises(ModelError, match=rf"model\.ckpt\.index: .*{found}"):
        read_checkpoint(write_entries(tmp_path, {b"": b"\x08\x01", b"odd": entry + more}))


def place(offset, block):
    return checkpoint.encode_varint(offset) + checkpoint.encode_varint(len(block) - 5)


def write_blocks(path, block, offsets):
    """An index whose blocks lie at these offsets: all of them this one."""
    listed = {str(1000 + i).encode(): place(offset, block) for i, offset in enumerate(offsets)}
    index_block = checkpoint.encode_block(listed)
    footer = bytes(2) + place(len(block), index_block)
    path.write_bytes(block + index_block + footer.ljust(40, b"\0") + checkpoint.MAGIC)


def test_a_small_index_that_would_unfold_without_end_is_refused(tmp_path):
    """Blocks listed over and over, and names that share a megabyte with the one before."""
    path = tmp_path / "model.ckpt.index"
    block = checkpoint.encode_block({b"": b"\x08\x01"})
    write_blocks(path, block, [0])
    assert read_index(path) == {}
    write_blocks(path, block, [0] * 400)
    with pytest.raises(ModelError, match="its blocks overlap"):
        read_index(path)

    number = checkpoint.encode_varint
    long = b"a" * 2**20
    entries = bytes(1) + number(len(long)) + bytes(1) + long
    entries += b"".join(number(len(long) + i) + b"\1\0b" for i in range(10**4))
    content = entries + (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\0"
    write_blocks(path, content + masked_crc32c(content), [0])
    assert path.stat().st_size < 2**21
    with pytest.raises(ModelError, match="ten times as long"):
        read_index(path)


ENTRY = checkpoint.encode_entry(np.zeros(1, np.float32), bytes(4), 0)


def test_names_out_of_order_are_refused(tmp_path):
    with pytest.raises(ModelError, match="not in order"):
        read_checkpoint(write_entries(tmp_path, {b"": b"\x08\x01", b"b": ENTRY, b"a": ENTRY}))


@pytest.mark.parametrize(
    "blocks, is_right",
    [
        ([(b"a", {b"": b"\x08\x01", b"a": ENTRY}), (b"b", {b"b": ENTRY})], True),
        ([(b"a", {b"": b"\x08\x01", b"a": ENTRY}), (b"b", {b"a": ENTRY})], False),
        ([(b"b", {b"": b"\x08\x01", b"b": ENTRY}), (b"c", {b"a": ENTRY})], False),
        ([(b"", {b"": b"\x08\x01", b"a": ENTRY}), (b"b", {b"b": ENTRY})], False),
    ],
)
def test_names_ascend_from_block_to_block_or_are_refused(tmp_path, blocks, is_right):
    """Otherwise TensorFlow, which searches for a name, finds another entry or none."""
    path, content, places = tmp_path / "model.ckpt.index", b"", {}
    for last_name, entries in blocks:
        block = checkpoint.encode_block(entries)
        places[last_name] = place(len(content), block)
        content += block
    index_block = checkpoint.encode_block(places)
    footer = bytes(2) + place(len(content), index_block)
    path.write_bytes(content + index_block + footer.ljust(40, b"\0") + checkpoint.MAGIC)
    if is_right:
        assert [*read_index(path)] == ["a", "b"]
    else:
        with pytest.raises(ModelError, match="its names are not in order"):
            read_index(path)


def test_a_block_without_a_restart_point_is_refused(tmp_path):
    content = b"\0\0\2\x08\1" + bytes(4) + b"\0"
    write_blocks(tmp_path / "model.ckpt.index", content + masked_crc32c(content), [0])
    with pytest.raises(ModelError, match="a block without a restart point"):
        read_index(tmp_path / "model.ckpt.index")


def test_every_bit_of_the_data_is_under_a_checksum(tmp_path):
    variables = {"a": np.ones((3, 4), np.float32), "b": np.zeros(5, np.float16), "c": np.float32(2)}
    write_checkpoint(tmp_path / "model.ckpt", variables)
    index, data = checkpoint.file_paths(tmp_path / "model.ckpt")
    table, whole = read_index(index), Path(data).read_bytes()
    checkpoint.compare_checksums(table, data)
    owners = "a" * 48 + "b" * 10 + "c" * 4
    for i, bit in itertools.product(range(len(whole)), range(8)):
        Path(data).write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
        with pytest.raises(ModelError, match=f"the numbers of {owners[i]} do not match their checksum"):
            checkpoint.compare_checksums(table, data)


def test_checksums_that_tensorflow_wrote_are_found_right(tf, tmp_path):
    arrays = {name: np.random.default_rng(0).normal(size=n) for name, n in (("a", 1), ("b", 1000), ("c", 0))}
    prefix = save_at_once(tf, tmp_path, {name: tf.constant(array) for name, array in arrays.items()})
    index, data = checkpoint.file_paths(prefix)
    checkpoint.compare_checksums(read_index(index), data)


def test_arrays_of_no_bytes_come_back(tmp_path):
    for variables in ({}, {"none": np.zeros((0, 4), np.float32)}):
        write_checkpoint(tmp_path / "model.ckpt", variables)
        assert_same_variables(read_checkpoint(tmp_path / "model.ckpt"), variables)


@pytest.mark.parametrize("variables", [{"": np.zeros(1)}, {"a": np.zeros(1), "b": np.array(["text"])}])
def test_what_cannot_be_written_is_refused_before_a_file_is_made(tmp_path, variables):
    with pytest.raises(ValueError, match="cannot be written: give it a name, and save it as float32"):
        write_checkpoint(tmp_path / "model.ckpt", variables)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.ckpt\.index"):
        read_checkpoint(tmp_path / "model.ckpt")


def damaged(index):
    """The bundled index cut at every length, and with every byte changed in two ways."""
    yield from (index[:n] for n in range(len(index)))
    for i, bit in itertools.product(range(len(index)), (1, 128)):
        yield index[:i] + bytes([index[i] ^ bit]) + index[i + 1 :]


def test_an_index_that_gives_a_variable_another_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(checkpoint.DTYPES, 1, "float64")
    monkeypatch.delitem(checkpoint.DTYPES, 2)
    write_checkpoint(tmp_path / "model.ckpt", {"a": np.ones((3, 4), np.float64)})
    monkeypatch.setitem(checkpoint.DTYPES, 1, "float32")
    with pytest.raises(ModelError, match=r"a of shape \[3, 4\] and type float32 does not take 96 bytes"):
        read_checkpoint(tmp_path / "model.ckpt")


@pytest.mark.faults
def test_a_damaged_index_is_refused_or_read_right(tmp_path):
    path = tmp_path / "model.ckpt.index"
    index = (TINY / "model.ckpt.index").read_bytes()
    right, n_refused, n_cases = read_index(TINY / "model.ckpt.index"), 0, 0
    for wrong in damaged(index):
        path.write_bytes(wrong)
        n_cases += 1
        try:
            assert read_index(path) == right
        except ModelError as error:
            assert str(path) in str(error)
            n_refused += 1
    n_unread = 48 + 13  # the footer has room to spare, and names a block of 13 bytes that says nothing
    assert n_cases - n_refused <= 2 * n_unread


@pytest.mark.faults
@pytest.mark.parametrize(
    "text", [b"", b"<html>Not found</html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_what_is_no_index_at_all_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "model.ckpt.index").write_bytes(text)
    (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(b"0")
    with pytest.raises(
        ModelError, match=r"^.+model\.ckpt\.index: not the index of a TensorFlow checkpoint, or cut"
    ):
        read_checkpoint(tmp_path / "model.ckpt")


@pytest.mark.faults
def test_each_variable_of_the_bundled_model_lost_renamed_or_broken_is_named(tmp_path):
    hparams = json.loads((TINY / "hparams.json").read_text())
    arrays = {
        name.removeprefix("model/"): array[0] if array.ndim == 3 else array
        for name, array in read_checkpoint(TINY / "model.ckpt").items()
    }
    for name, array in arrays.items():
        others = {other: value for other, value in arrays.items() if other != name}
        poisoned = array.copy()
        poisoned.flat[-1] = np.nan
        for wrong in (
            {},
            {f"{name}_": array},
            {name: poisoned},
            {name: array[..., :-1]},
            {name: array[None]},
        ):
            with pytest.raises(ModelError, match=name):
                to_params(others | wrong, hparams, "here")
