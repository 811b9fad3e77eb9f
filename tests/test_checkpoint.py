import itertools
import json
import mmap

import numpy as np
import pytest
from helpers import SMALL, TINY, in_openai_layout, save_with_tensorflow, write_checkpoint

import checkpoint
from checkpoint import ModelError, flatten, read_checkpoint, read_index, to_params

SIZES = {
    "124M": (12, 12, 768, 124_439_808),
    "355M": (24, 16, 1024, 354_823_168),
    "774M": (36, 20, 1280, 774_030_080),
    "1558M": (48, 25, 1600, 1_557_611_200),
}
VARIABLES = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/long/name/that/shares": np.ones((1, 2, 3, 4), np.float16),
    "a/long/name/that/shares/more": np.array(7, dtype=np.int64),
    "b": np.linspace(0, 1, 1000),
    "flags": np.array([True, False, True]),
    "none": np.zeros((0, 4), np.float32),
    "z": np.arange(-4, 4, dtype=np.int8),
}


def hparams_of(size):
    n_layer, n_head, n_embd, _ = SIZES[size]
    return {"n_vocab": 50257, "n_ctx": 1024, "n_embd": n_embd, "n_head": n_head, "n_layer": n_layer}


# ---- what a GPT-2 holds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_shapes_add_up_to_the_known_number_of_parameters(size):
    assert checkpoint.count(hparams_of(size)) == SIZES[size][3]


def test_presets_are_the_bundled_model_and_the_released_ones():
    tiny = json.loads((TINY / "hparams.json").read_text())
    assert checkpoint.PRESETS == {"tiny": tiny} | {size: hparams_of(size) for size in SIZES}


def test_the_width_of_ffn_is_four_times_n_embd_unless_n_inner_says_otherwise():
    usual, narrow = checkpoint.shapes(SMALL), checkpoint.shapes(SMALL | {"n_inner": 40})
    assert checkpoint.shapes(SMALL | {"n_inner": 96}) == usual
    assert {name: narrow[name] for name in usual if narrow[name] != usual[name]} == {
        f"h{layer}/mlp/{name}": shape
        for layer in range(2)
        for name, shape in (("c_fc/w", (24, 40)), ("c_fc/b", (40,)), ("c_proj/w", (40, 24)))
    }


@pytest.mark.parametrize(
    "hparams, message",
    [
        (SMALL | {"n_head": 5}, "n_embd 24 is not a multiple of n_head 5"),
        (SMALL | {"n_layer": 0}, "n_layer is 0, expected a whole number from 1 to 1,000"),
        (SMALL | {"n_layer": True}, "n_layer is True"),
        (SMALL | {"n_ctx": 32.0}, "n_ctx is 32.0"),
        (SMALL | {"n_embd": 10**6}, "n_embd is 1000000"),
        (SMALL | {"n_inner": 0}, "n_inner is 0"),
        ({"n_layer": 2}, "n_vocab is None"),
        ("124M", "the sizes of a model are a dict of n_vocab, n_ctx, n_embd, n_head, n_layer, not '124M'"),
    ],
)
def test_sizes_that_make_no_model_are_refused(hparams, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.random_params(hparams, np.random.default_rng(0))


def test_random_params_are_drawn_as_gpt2_was_initialised():
    hparams = {"n_vocab": 300, "n_ctx": 200, "n_embd": 128, "n_head": 4, "n_layer": 8}
    arrays = flatten(checkpoint.random_params(hparams, np.random.default_rng(0)))
    assert {name: array.shape for name, array in arrays.items()} == checkpoint.shapes(hparams)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        if name.endswith("/g"):
            assert np.all(array == 1)
        elif name.endswith("/b"):
            assert np.all(array == 0)
        else:
            std = 0.01 if name == "wpe" else 0.02 / 4 if "c_proj" in name else 0.02
            assert array.std() == pytest.approx(std, rel=0.03) and abs(array.mean()) < std / 20


def test_random_params_are_the_same_for_the_same_seed_and_differ_for_another():
    a, b, c = (checkpoint.random_params(SMALL, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a["wte"], b["wte"]) and not np.array_equal(a["wte"], c["wte"])


def test_blocks_are_nested_in_the_order_of_their_numbers():
    params = checkpoint.nest({f"h{layer}/ln_1/g": layer for layer in (10, 2, 0, 1, 9, 3, 4, 5, 6, 7, 8)})
    assert [block["ln_1"]["g"] for block in params["blocks"]] == list(range(11))


def test_float16_is_widened_and_float32_is_not_copied():
    arrays = flatten(checkpoint.random_params(SMALL, np.random.default_rng(0)))
    assert flatten(to_params(arrays, SMALL, "here"))["h0/mlp/c_fc/w"] is arrays["h0/mlp/c_fc/w"]
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    for name, array in flatten(to_params(halves, SMALL, "here")).items():
        assert array.dtype == np.float32 and np.array_equal(array, halves[name])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop("wpe"), r"^by hparams.json, here lacks wpe \(1 in all\): .*delete both"),
        (lambda a: a.update({"h2/ln_1/g": a["ln_f/g"]}), r"here has unknown h2/ln_1/g \(1 in all\)"),
        (
            lambda a: a.update({"h0/attn/c_attn/w": a["h0/attn/c_attn/w"].T}),
            r"by hparams.json, h0/attn/c_attn/w is \[24, 72\], in here it is \[72, 24\]",
        ),
        (lambda a: a.update({"ln_f/g": a["ln_f/g"][:1]}), r"ln_f/g is \[24\], in here it is \[1\]"),
        (
            lambda a: a.update({"wte": a["wte"].astype(np.float64)}),
            "wte is float64, not float32 or float16: save it as float32",
        ),
        (lambda a: a.update({"wte": a["wte"].astype(np.int8)}), "wte is int8"),
        (lambda a: np.put(a["h1/mlp/c_proj/w"], 50, np.nan), "h1/mlp/c_proj/w holds NaN or infinity"),
        (lambda a: np.put(a["wte"], 0, np.inf), "wte holds NaN or infinity"),
        (lambda a: np.put(a["wte"], 0, -np.inf), "wte holds NaN or infinity"),
    ],
)
def test_params_that_are_not_those_of_hparams_are_refused(change, message):
    arrays = flatten(checkpoint.random_params(SMALL, np.random.default_rng(0)))
    change(arrays)
    with pytest.raises(ModelError, match=message):
        to_params(arrays, SMALL, "here")


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
            for name, shape in checkpoint.shapes(hparams_of("124M")).items()
        }
    )
    assert list(index) == sorted(table) and len(index) == 148
    for name in sorted(table):
        assert index[name] == (np.float32, table[name].shape, offset, table[name].nbytes), name
        offset += table[name].nbytes
    assert offset == 497_759_232


def test_the_index_of_the_bundled_model_is_read_as_tensorflow_reads_it(tf):
    theirs = tf.train.load_checkpoint(str(TINY / "model.ckpt"))
    names = theirs.get_variable_to_shape_map()
    assert_same_variables(
        read_checkpoint(TINY / "model.ckpt"), {name: theirs.get_tensor(name) for name in names}
    )


def test_the_writer_of_these_tests_writes_what_tensorflow_reads(tf, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", VARIABLES)
    theirs = tf.train.load_checkpoint(str(tmp_path / "model.ckpt"))
    assert sorted(theirs.get_variable_to_shape_map()) == sorted(VARIABLES)
    assert_same_variables(read_checkpoint(tmp_path / "model.ckpt"), VARIABLES)


def test_checksums_are_castagnolis():
    assert checkpoint.crc32c(b"") == 0
    assert checkpoint.crc32c(b"123456789") == 0xE3069283  # the customary check value
    assert checkpoint.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert checkpoint.crc32c(bytes(range(32))) == 0x46DD794E


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


def test_kinds_of_checkpoints_that_are_not_read_are_named(tmp_path):
    kinds = {
        "big-endian": {"header": b"\x08\x01\x10\x01"},
        "data in 2 files": {"header": b"\x08\x02"},
        "compressed": {"compression": b"\1"},
    }
    for message, kind in kinds.items():
        write_checkpoint(tmp_path / "model.ckpt", VARIABLES, **kind)
        with pytest.raises(ModelError, match=rf"model\.ckpt\.index: .*{message}.* not read here: save it"):
            read_checkpoint(tmp_path / "model.ckpt")


def test_data_shorter_or_longer_than_the_index_says_are_refused(tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", VARIABLES)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    for wrong in (whole[:-1], b"", whole + b"\0"):
        data.write_bytes(wrong)
        with pytest.raises(
            ModelError, match=rf"data-00000-of-00001: {len(wrong):,} bytes, by its index {len(whole):,}"
        ):
            read_checkpoint(tmp_path / "model.ckpt")


def test_variables_that_overlap_or_leave_a_hole_are_refused(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "model.ckpt", {"a": np.ones(4, np.float32), "b": np.zeros(4, np.float32)})
    right = read_index(tmp_path / "model.ckpt.index")
    for offset in (0, 12, 20):
        wrong = right | {"b": (*right["b"][:2], offset, 16)}
        monkeypatch.setattr(checkpoint, "read_index", lambda path, wrong=wrong: wrong)
        with pytest.raises(ModelError, match=f"b begins at byte {offset}, the one before it ends at 16"):
            read_checkpoint(tmp_path / "model.ckpt")


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
        except (ValueError, LookupError) as error:  # what read_checkpoint turns into a ModelError
            assert str(error)
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
