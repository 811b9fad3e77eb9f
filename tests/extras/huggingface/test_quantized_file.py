"""quantized.safetensors: each array by its name, and each way in which it and config.json can disagree."""

import json

import numpy as np
import pytest
from helpers import lively_params

import weights
from extras import huggingface, lora, quantize
from extras.huggingface.quantized_file import expected_parts, read_quantized, shapes_of_leaves, to_tensors
from extras.quantized import KINDS
from extras.untied import UntiedEmbedding, apart
from files import AGAIN, MIXED_UP, ModelError
from layouts import QUANTIZED

HPARAMS = {"n_vocab": 4000, "n_ctx": 8, "n_embd": 8, "n_head": 2, "n_layer": 1}
W = "h0/attn/c_attn/w"


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(tmp_path, tiny, kind):
    """A small one, saved: its folder, params, and the content of its file."""
    params = quantize.quantize(lively_params(HPARAMS, seed=1), kind)
    quantize.save(tmp_path / "model", tiny[0], HPARAMS, params)
    return tmp_path / "model", params, to_tensors(HPARAMS, params)


def write(folder, tensors, notes):
    from safetensors.numpy import save_file

    in_rows = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(in_rows, folder / QUANTIZED, metadata=notes)


def summed(tensors, notes):
    """The notes, with the checksums that these tensors have."""
    import zlib

    sums = {name: zlib.crc32(array.tobytes()) for name, array in tensors.items()}
    return notes | {"crc32": json.dumps(sums)}


def assert_refused(folder, problem, advice):
    """The loader and the function say the same, in one line that names the file."""
    with pytest.raises(ModelError) as raised:
        read_quantized(folder / QUANTIZED, HPARAMS)
    error = raised.value
    assert str(error).startswith(f"{folder / QUANTIZED}: {problem}"), error
    assert error.advice == advice and "\n" not in str(error)
    with pytest.raises(ModelError) as raised:
        huggingface.load(folder)
    assert str(raised.value) == str(error)


# ---- what is right -----------------------------------------------------------------------------------------


def test_a_file_has_codes_and_scales_of_each_matrix_and_all_other_arrays(model, kind):
    folder, params, (tensors, notes) = model
    matrices = [f"h0/{name}/w" for name in ("attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj")]
    quantized = [*matrices, *([] if kind == "nf4" else ["wte"])]
    parts = {f"{name}/{part}" for name in quantized for part in ("codes", "scales")}
    others = {name for name in weights.shapes(HPARAMS) if name not in quantized}
    assert tensors.keys() == expected_parts(HPARAMS, kind, False).keys() == parts | others
    assert notes["weights"] == kind and json.loads(notes["crc32"]).keys() == tensors.keys()
    codes = params["blocks"][0]["attn"]["c_attn"]["w"].T.codes
    assert tensors[f"{W}/codes"] is codes and len(codes) == 3 * 8  # a row for each output
    assert tensors["h0/ln_1/g"].dtype == np.float32


def test_it_is_read_as_what_was_written(model):
    folder, params, _ = model
    found = apart(read_quantized(folder / QUANTIZED, HPARAMS))
    assert found["wte"] is found["lm_head"]
    for name, leaf in apart(params).items():
        assert type(found[name]) is type(leaf) and found[name].shape == leaf.shape
        np.testing.assert_array_equal(found[name][:], leaf[:], err_msg=name)


def test_a_head_of_its_own_is_stored_beside_wte(tmp_path, tiny, kind):
    params = lively_params(HPARAMS, seed=1)
    head = lively_params(HPARAMS, seed=2)["wte"]
    params = quantize.quantize(params | {"wte": UntiedEmbedding(params["wte"], head)}, kind)
    tensors, _ = to_tensors(HPARAMS, params)
    assert shapes_of_leaves(HPARAMS, True)["lm_head"] == (4000, 8) and "lm_head" not in weights.shapes(
        HPARAMS
    )
    assert {name for name in tensors if "lm_head" in name} == (
        {"lm_head"} if kind == "nf4" else {"lm_head/codes", "lm_head/scales"}
    )
    quantize.save(tmp_path / "out", tiny[0], HPARAMS, params)
    found = read_quantized(tmp_path / "out" / QUANTIZED, HPARAMS)["wte"]
    np.testing.assert_array_equal(found.T[:].T, params["wte"].T[:].T)
    np.testing.assert_array_equal(found[:], params["wte"][:])
    assert not np.array_equal(found.head[:], found.embedding[:])


# ---- what is wrong in a file -------------------------------------------------------------------------------


def test_a_file_that_does_not_say_its_kind_is_refused(model, kind):
    folder, _, (tensors, notes) = model
    problem = "it does not say which kind its weights are: int8, int4, nf4"
    for wrong in ("", "float32", kind.upper(), f"{kind} ", "[]"):
        write(folder, tensors, notes | {"weights": wrong})
        assert_refused(folder, problem, AGAIN)
    write(folder, tensors, {name: note for name, note in notes.items() if name != "weights"})
    assert_refused(folder, problem, AGAIN)
    write(folder, tensors, None)
    assert_refused(folder, problem, AGAIN)


def test_notes_that_are_null_are_no_notes(model):
    folder, _, (tensors, _) = model
    write(folder, tensors, None)
    content = (folder / QUANTIZED).read_bytes()
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n]) | {"__metadata__": None}
    text = json.dumps(header).encode()
    (folder / QUANTIZED).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + n :])
    with pytest.raises(ModelError):
        huggingface.load(folder)


def test_a_file_of_another_kind_than_it_says_is_refused(model, kind):
    folder, _, (tensors, notes) = model
    for other in {*KINDS} - {kind}:
        write(folder, tensors, notes | {"weights": other})
        with pytest.raises(ModelError, match="according to config.json"):
            huggingface.load(folder)


def test_missing_and_unknown_tensors_are_named(model):
    folder, _, (tensors, notes) = model
    for name in (f"{W}/codes", f"{W}/scales", "h0/ln_1/g", "wpe"):
        fewer = {each: array for each, array in tensors.items() if each != name}
        write(folder, fewer, notes)
        assert_refused(folder, f"according to config.json, {name} is missing (1 in all)", MIXED_UP)
    for name in ("h1/ln_1/g", f"{W}/zeros", "more"):
        more = tensors | {name: np.zeros(8, np.float32)}
        write(folder, more, summed(more, notes))
        assert_refused(folder, f"according to config.json, {name} is unknown (1 in all)", MIXED_UP)
    more = tensors | {"lm_head/zeros": np.zeros(8, np.float32)}
    write(folder, more, summed(more, notes))
    assert_refused(folder, "according to config.json, lm_head", MIXED_UP)


def test_other_types_and_shapes_are_named(model, kind):
    folder, _, (tensors, notes) = model
    codes, scales = tensors[f"{W}/codes"], tensors[f"{W}/scales"]
    other = np.dtype(np.uint8 if kind == "int8" else np.int8)
    shape = list(codes.shape)
    for name, array, found, wanted in (
        (f"{W}/codes", codes.view(other), f"{other} of shape {shape}", f"{codes.dtype} of shape {shape}"),
        (
            f"{W}/codes",
            codes.reshape(-1),
            f"{codes.dtype} of shape [{codes.size}]",
            f"{codes.dtype} of shape {shape}",
        ),
        (
            f"{W}/scales",
            scales.astype(np.float16),
            f"float16 of shape {list(scales.shape)}",
            "float32 of shape",
        ),
        ("ln_f/g", np.zeros(9, np.float32), "float32 of shape [9]", "float32 of shape [8]"),
        ("ln_f/g", np.zeros(8, np.float64), "float64 of shape [8]", "float32 of shape [8]"),
    ):
        changed = tensors | {name: array}
        write(folder, changed, summed(changed, notes))
        assert_refused(folder, f"{name} is {found}, but {wanted}", MIXED_UP)


def test_sizes_of_another_model_are_refused(model):
    folder, _, _ = model
    for size, value in (("n_embd", 16), ("n_layer", 2), ("n_ctx", 9), ("n_vocab", 3999), ("n_inner", 40)):
        with pytest.raises(ModelError, match="according to config.json") as raised:
            read_quantized(folder / QUANTIZED, HPARAMS | {size: value})
        assert raised.value.advice == MIXED_UP


def test_each_tensor_has_a_checksum_that_is_compared(model):
    folder, _, (tensors, notes) = model
    for name, array in tensors.items():
        changed = np.array(array)
        changed.view(np.uint8).flat[-1] ^= 1
        write(folder, tensors | {name: changed}, notes)
        assert_refused(folder, f"damaged: {name} does not match its checksum", AGAIN)
    sums = json.loads(notes["crc32"])
    for wrong in (sums | {W + "/codes": 0}, {name: sums[name] for name in sums if name != W + "/codes"}, {}):
        write(folder, tensors, notes | {"crc32": json.dumps(wrong)})
        with pytest.raises(ModelError, match="damaged: .* does not match its checksum; get a fresh copy"):
            huggingface.load(folder)


@pytest.mark.parametrize(
    "wrong", [None, "", "{", "5", "null", "true", '"a"', "[1]", "[[[], 1]]", "[" * 100_000]
)
def test_without_checksums_it_is_refused(model, wrong):
    folder, _, (tensors, notes) = model
    notes = {name: note for name, note in notes.items() if name != "crc32"}
    write(folder, tensors, notes if wrong is None else notes | {"crc32": wrong})
    assert_refused(folder, "it has no checksums of its tensors", AGAIN)


@pytest.mark.parametrize("name", ["ln_f/g", f"{W}/scales", "wpe"])
@pytest.mark.parametrize(
    "number, said", [(np.nan, "holds NaN or inf"), (np.inf, "holds NaN or inf"), (-1.1e4, "holds -")]
)
def test_numbers_that_no_model_has_are_refused_though_their_checksum_is_right(model, name, number, said):
    folder, _, (tensors, notes) = model
    changed = np.array(tensors[name])
    changed.flat[3] = number
    write(folder, tensors | {name: changed}, summed(tensors | {name: changed}, notes))
    assert_refused(folder, f"{name} {said}", AGAIN)


def test_scales_that_make_larger_weights_than_any_model_has_are_refused(model, kind):
    folder, _, (tensors, notes) = model
    scales = np.full_like(tensors[f"{W}/scales"], 9_990 / KINDS[kind].largest)
    changed = tensors | {f"{W}/scales": scales}
    write(folder, changed, summed(changed, notes))
    huggingface.load(folder)
    scales *= np.float32(1.01)
    write(folder, changed, summed(changed, notes))
    assert_refused(folder, f"{W}/scales holds 1.01e+04, but no trained weight is above 10,000", AGAIN)


def test_a_head_that_config_says_is_untied_must_be_there(model):
    folder, _, _ = model
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(ModelError, match="it has no lm_head.weight, but config.json says that the head is"):
        huggingface.load(folder)


@pytest.mark.parametrize(
    "field, value", [("scale_attn_weights", False), ("scale_attn_by_inverse_layer_idx", True)]
)
def test_a_scale_of_attention_is_refused_as_it_is_in_the_codes_already(tmp_path, tiny, kind, field, value):
    hparams = HPARAMS | {"n_layer": 2}
    params = quantize.quantize(lively_params(hparams, seed=1), kind)
    quantize.save(tmp_path / "out", tiny[0], hparams, params)
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    line = f"{path}: it scales attention, but the weights in {QUANTIZED} are scaled already; {MIXED_UP}"
    with pytest.raises(ModelError) as raised:
        huggingface.load(tmp_path / "out")
    assert str(raised.value) == line


# ---- what is not written -----------------------------------------------------------------------------------


def test_params_that_do_not_fit_are_not_written(tmp_path, tiny, kind):
    params = lively_params(HPARAMS, seed=1)
    with pytest.raises(ValueError, match="these weights are not quantized: call quantize first"):
        quantize.save(tmp_path / "out", tiny[0], HPARAMS, params)
    found = quantize.quantize(params, kind)
    with pytest.raises(ValueError, match=r"h1/\S+ is None in params, .* according to hparams"):
        quantize.save(tmp_path / "out", tiny[0], HPARAMS | {"n_layer": 2}, found)
    a, b = np.ones((8, 1), np.float32), np.ones((1, 24), np.float32)
    attached = lora.attach(found, lora.Adapter({"h0/attn/c_proj/w": lora.Update(a, b[:, :8], 1.0)}, {}))
    with pytest.raises(ValueError, match="h0/attn/c_proj/w is a LowRank: merge adapters before you quantize"):
        quantize.save(tmp_path / "out", tiny[0], HPARAMS, attached)
    found["blocks"][0]["mlp"]["c_fc"]["w"] = params["blocks"][0]["mlp"]["c_fc"]["w"]
    with pytest.raises(ValueError, match="h0/mlp/c_fc/w is .* in params, None according to hparams"):
        quantize.save(tmp_path / "out", tiny[0], HPARAMS, found)
    assert list(tmp_path.iterdir()) == []
