"""Thousands of damaged models, one by one: each is refused, or read as exactly the numbers in its file."""

import json

import numpy as np
import pytest

import checkpoint
import encoder
import utils
import weights
from checkpoint import in_openai_layout, write_checkpoint
from extras import quantize
from extras.huggingface.quantized_file import parts_of
from extras.untied import apart
from files import ModelError
from layouts import QUANTIZED

HPARAMS = {"n_vocab": 261, "n_ctx": 8, "n_embd": 8, "n_head": 2, "n_layer": 2}
FEW_BITS = ("config.json", QUANTIZED)
UNCONFIRMED = {"n_head", "query_scales"}  # nothing else in a model says them
MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n")]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hparams.json").write_text(json.dumps(HPARAMS))
    (tmp_path / "encoder.json").write_text(json.dumps(encoder.vocabulary(MERGES)))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES), "utf-8")
    arrays = weights.flatten(weights.random_params(HPARAMS, np.random.default_rng(0)))
    write_checkpoint(tmp_path / "model.ckpt", in_openai_layout(arrays))
    return tmp_path


# ---- ways to damage a model: (folder, rng) -> None ---------------------------------------------------------


def files_in(folder):
    """The files to damage: of a quantized model those that hold sizes and weights."""
    return utils.FILES if (folder / "hparams.json").exists() else FEW_BITS


def any_file(folder, rng):
    path = folder / rng.choice(files_in(folder))
    return path, path.read_bytes()


def any_json(folder, rng):
    path = folder / rng.choice([name for name in files_in(folder) if name.endswith(".json")])
    return path, [
        f"{json.dumps(key)}: {json.dumps(value)}" for key, value in json.loads(path.read_text()).items()
    ]


def flip_bytes(folder, rng):
    path, whole = any_file(folder, rng)
    changed = np.frombuffer(whole, np.uint8).copy()
    at = rng.integers(len(changed), size=rng.choice([1, 1, 1, 2, 20]))
    changed[at] ^= rng.integers(1, 256, size=len(at), dtype=np.uint8)
    path.write_bytes(changed.tobytes())


def cut(folder, rng):
    path, whole = any_file(folder, rng)
    path.write_bytes(whole[: rng.integers(len(whole))])


def lengthen(folder, rng):
    path, whole = any_file(folder, rng)
    path.write_bytes(whole + rng.bytes(rng.integers(1, 50)))


def leave_out(folder, rng):
    path, whole = any_file(folder, rng)
    begin, end = sorted(rng.integers(len(whole) + 1, size=2))
    path.write_bytes(whole[:begin] + whole[end:])


def repeat(folder, rng):
    path, whole = any_file(folder, rng)
    begin, end = sorted(rng.integers(len(whole) + 1, size=2))
    path.write_bytes(whole[:end] + whole[begin:])


def punch_a_hole(folder, rng):
    path, whole = any_file(folder, rng)
    begin, end = sorted(rng.integers(len(whole) + 1, size=2))
    path.write_bytes(whole[:begin] + bytes(end - begin) + whole[end:])


def exchange(folder, rng):
    one, other = (folder / name for name in rng.choice(files_in(folder), size=2, replace=False))
    text = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(text)


def replace(folder, rng):
    path, _ = any_file(folder, rng)
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    others = (b"", b"<html>", b"null", b"[]", b"{}", b"0", pointer, b"\xff")
    path.write_bytes(others[rng.integers(len(others))])


def delete(folder, rng):
    any_file(folder, rng)[0].unlink()


ODD = '0 -1 1 3 9 true null "8" 8.0 8e0 NaN Infinity [8] {}'.split() + ["1" + "0" * 30]


def edit_a_number(folder, rng):
    path, entries = any_json(folder, rng)
    i = rng.integers(len(entries))
    entries[i] = entries[i].rpartition(":")[0] + ": " + rng.choice(ODD)
    path.write_text("{" + ", ".join(entries) + "}")


def edit_the_keys(folder, rng):
    path, entries = any_json(folder, rng)
    i, j = rng.integers(len(entries), size=2)
    key, _, value = entries[i].rpartition(":")
    way = rng.integers(4)
    if way == 0:
        del entries[i]
    elif way == 1:
        entries[i] = f'"{key[1:-1]}_":{value}'
    elif way == 2:
        entries.insert(j, f"{key}: {rng.choice(ODD)}")  # the same key twice
    else:
        entries.append('"more": 1')
    path.write_text("{" + ", ".join(entries) + "}")


def edit_the_merges(folder, rng):
    path = folder / "vocab.bpe"
    lines = path.read_text(encoding="utf-8").splitlines()
    i, j = rng.integers(1, len(lines), size=2)
    way = rng.integers(4)
    if way == 0:
        del lines[i]
    elif way == 1:
        lines[i], lines[j] = lines[j], lines[i]
    elif way == 2:
        lines.insert(i, lines[j])
    else:
        lines[i] = lines[i][::-1]
    path.write_text("\n".join(lines), encoding="utf-8")


def edit_a_variable(folder, rng):
    variables = {
        name: np.array(array) for name, array in checkpoint.read_checkpoint(folder / "model.ckpt").items()
    }
    name = rng.choice(sorted(variables))
    array = variables[name]
    types = [dtype for dtype in checkpoint.DTYPES.values() if dtype not in ("float32", "float16")]
    way = rng.integers(6)
    if way == 0:
        del variables[name]
    elif way == 1:
        variables[name + "_"] = variables.pop(name)
    elif way == 2:
        variables[name] = array.astype(rng.choice(types))
    elif way == 3:
        variables[name] = array.reshape(-1, 4)
    elif way == 4:
        array.flat[rng.integers(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
        variables[name] = array
    else:
        variables[name] = array[..., :-1]
    write_checkpoint(folder / "model.ckpt", variables)


WAYS = (
    flip_bytes,
    cut,
    lengthen,
    leave_out,
    repeat,
    punch_a_hole,
    exchange,
    replace,
    delete,
    edit_a_number,
    edit_the_keys,
    edit_the_merges,
    edit_a_variable,
)


def edit_the_header(folder, rng):
    """Of a file of safetensors: one tensor or note is another, and the length of the header is right."""
    path = folder / QUANTIZED
    content = path.read_bytes()
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    notes, names = header["__metadata__"], [name for name in header if name != "__metadata__"]
    one, other = rng.choice(names, size=2, replace=False)
    way = rng.integers(8)
    if way == 0:
        header[one], header[other] = header[other], header[one]
    elif way == 1:
        header[rng.choice([one + "_", "lm_head", "h1/ln_1/g", "h2/ln_1/g"])] = header.pop(one)
    elif way == 2:
        header[one]["dtype"] = str(rng.choice(["F32", "F16", "BF16", "I8", "U8", "BOOL", "F4", "I64"]))
    elif way == 3:
        header[one]["shape"] = [int(size) for size in rng.permutation([*header[one]["shape"], 1])]
    elif way == 4:
        del header[one]
    elif way == 5:
        notes["weights"] = str(rng.choice(["int8", "int4", "nf4", "float32", ""]))
    elif way == 6:
        sums = json.loads(notes["crc32"])
        sums[one] = [sums[other], None, str(sums[one]), sums[one] + 1][rng.integers(4)]
        notes["crc32"] = json.dumps(sums)
    else:
        header["__metadata__"] = [None, {}, {"crc32": notes["crc32"]}, {"weights": notes["weights"]}][
            rng.integers(4)
        ]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + n :])


# ---- the claim ---------------------------------------------------------------------------------------------


def damaged(folder, ways, n_mutations, load):  # yields seed, what is loaded; None where that is refused
    """A folder, damaged in one of these ways for each seed. A refusal is one line that names the folder."""
    whole = {name: (folder / name).read_bytes() for name in files_in(folder)}
    for seed in range(n_mutations):
        rng = np.random.default_rng(seed)
        for name, content in whole.items():
            (folder / name).write_bytes(content)
        rng.choice(ways)(folder, rng)
        try:
            found = load(folder)
        except ModelError as error:
            assert "\n" not in str(error) and str(folder) in str(error), f"seed {seed}: {error}"
            found = None
        yield seed, found


def load(folder):
    loaded, hparams, params = utils.load_encoder_hparams_and_params(str(folder), "models")
    arrays = {name: np.array(array) for name, array in weights.flatten(params).items()}
    return (loaded.encoder, loaded.bpe_ranks), hparams, arrays


@pytest.mark.faults
def test_a_damaged_model_is_refused_or_differs_in_finite_numbers_only(folder, n_fuzz):
    data_of_whole = (folder / utils.DATA).read_bytes()
    vocabulary, hparams, arrays = load(folder)
    table = checkpoint.read_index(folder / "model.ckpt.index")
    n_refused = n_same = n_numbers = n_heads = 0
    n_mutations = 15 * n_fuzz  # they are quick
    for seed, found in damaged(folder, WAYS, n_mutations, load):
        if found is None:
            n_refused += 1
            continue
        assert found[0] == vocabulary, f"seed {seed}: other tokens"
        data = (folder / utils.DATA).read_bytes()
        if data == data_of_whole:
            wanted = arrays
        else:
            wanted = {
                name.removeprefix("model/"): np.frombuffer(data[at : at + size], "<f4")
                for name, (_, _, at, size, _) in table.items()
            }
            with pytest.raises(ModelError, match="do not match their checksum"):
                checkpoint.compare_checksums(table, folder / utils.DATA)
            n_numbers += 1
        for name, array in found[2].items():
            assert np.isfinite(array).all() and array.shape == arrays[name].shape, f"seed {seed}: {name}"
            assert (array.ravel() == wanted[name].ravel()).all(), f"seed {seed}: {name}"
        if found[1] != hparams:  # nothing else in a model says how many heads it has
            assert found[1] | {"n_head": 2} == hparams and 8 % found[1]["n_head"] == 0, (
                f"seed {seed}: {found[1]}"
            )
            n_heads += 1
        n_same += data == data_of_whole
    print(f"{n_mutations} damaged models: {n_refused} refused; of those loaded {n_same} are the same, "
          f"{n_heads} of them except for n_head, and {n_numbers} have other finite numbers")  # fmt: skip
    assert n_refused > 0.5 * n_mutations and n_numbers > 0.02 * n_mutations


# ---- weights of few bits -----------------------------------------------------------------------------------


def load_few_bits(folder):
    loaded, hparams, params = utils.load_encoder_hparams_and_params(str(folder), "models")
    leaves = {name: leaf for name, leaf in apart(params).items() if not name.endswith(("/eps", "/act"))}
    parts = {}
    for name, leaf in leaves.items():
        parts |= {part: np.array(array) for part, array in parts_of(name, leaf).items()}
    return loaded.encoder, hparams, parts


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_damaged_weights_of_few_bits_are_refused_or_the_same(folder, tmp_path_factory, kind, n_fuzz):
    """Every code stands for some weight: only the checksums show that it is another."""
    model = utils.load_encoder_hparams_and_params(str(folder), "models")
    folder = tmp_path_factory.mktemp("few") / "bits"
    quantize.save(folder, *model[:2], quantize.quantize(model[2], kind))
    vocabulary, hparams, parts = load_few_bits(folder)
    n_refused = n_other_hparams = 0
    n_mutations = 15 * n_fuzz
    ways = [way for way in WAYS if way not in (edit_the_merges, edit_a_variable)] + [edit_the_header] * 3
    for seed, found in damaged(folder, ways, n_mutations, load_few_bits):
        if found is None:
            n_refused += 1
            continue
        assert found[0] == vocabulary and found[2].keys() == parts.keys(), f"seed {seed}"
        for name, array in found[2].items():
            same = array.dtype == parts[name].dtype and np.array_equal(array, parts[name])
            assert same, f"seed {seed}: {name}"
        others = {
            size for size in found[1].keys() | hparams.keys() if found[1].get(size) != hparams.get(size)
        }
        assert others <= UNCONFIRMED, f"seed {seed}: {found[1]}"
        n_other_hparams += bool(others)
    print(f"{n_mutations} damaged models of {kind}: {n_refused} refused; the others are the same, "
          f"{n_other_hparams} of them except for n_head or query_scales")  # fmt: skip
    assert 0.5 * n_mutations < n_refused < n_mutations
