"""extras/resume.py: a run continues from what it saved, and from nothing that only nearly fits."""

import io
import json
import os
import pickle
import tracemalloc
import warnings
import zipfile
from collections import Counter

import numpy as np
import pytest
from helpers import TINY

from extras import resume
from files import ModelError

RUN = {"seed": 0, "repeats": 0.5, "text": "a digest"}


def some_arrays(seed=0):
    """Weights and memories, small, under names of both kinds."""
    rng = np.random.default_rng(seed)
    forms = {"wte": (97, 24), "h0/attn/c_attn/w": (24, 72), "ln_f/g": (24,)}
    forms |= {"mean/wte": (97, 24), "square/wte": (97, 24), "momentum/h0/attn/c_attn/w": (24, 72)}
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in forms.items()}


def load(path, run=RUN):
    return resume.load(path, run, some_arrays(seed=1))


def write(path, entries, compression=zipfile.ZIP_STORED):
    """An archive of these entries, {name: bytes}."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def saved(path, change=None):
    """Save a state; change: what is done to its entries, {name: bytes}, before they are saved again."""
    resume.save(path, RUN, 3, some_arrays())
    if change:
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        change(entries)
        write(path, entries)


def npy(array, **options):  # -> bytes
    """An array as NumPy writes it into a file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), **options)
    return file.getvalue()


def put(name, array, **options):
    """A change: this array in place of one that was saved."""
    return lambda entries: entries.update({f"{name}.npy": npy(array, **options)})


def put_run(**changed):
    """A change: other settings, or another number of steps."""
    return lambda entries: entries.update({"run.json": json.dumps({"run": RUN, "n_steps": 3} | changed)})


@pytest.mark.parametrize("n_steps", [0, 1, 10**9])
def test_a_state_is_restored_to_the_last_bit(tmp_path, n_steps):
    arrays = some_arrays() | {"odd": np.float32([-0.0, 1e-45, 3e38]), "ids": np.arange(3)}
    arrays |= {"number": np.array(0.1), "nothing": np.zeros((0, 3), np.float32), "order": WTE.T}
    resume.save(tmp_path / "training.npz", RUN, n_steps, arrays)
    wanted = {name: np.broadcast_to(array.dtype.type(0), array.shape) for name, array in arrays.items()}
    found_steps, found = resume.load(tmp_path / "training.npz", RUN, wanted)
    assert found_steps == n_steps and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes(), name


def test_numpy_reads_the_file(tmp_path):
    saved(tmp_path / "training.npz")
    with np.load(tmp_path / "training.npz") as found:
        assert {*found.files} == {"run.json", *some_arrays()}
        assert json.loads(found["run.json"]) == {"run": RUN, "n_steps": 3}
        assert all(np.array_equal(found[name], array) for name, array in some_arrays().items())


def test_a_digest_changes_with_each_id_and_with_the_order():
    ids = [1, 2, 65536, 70000]
    assert resume.digest(ids) == resume.digest(np.array(ids, np.uint32)) == resume.digest(np.array(ids))
    others = [[1, 2, 65536], [2, 1, 65536, 70000], [1, 2, 0, 70000], []]
    assert len({resume.digest(other) for other in [ids, *others]}) == 5


# ---- writing -----------------------------------------------------------------------------------------------


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "training.npz"
    saved(path)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        resume.save(path, RUN, 4, some_arrays(seed=1) | {"last": np.array([object()])})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["training.npz"]


def test_a_state_gets_its_name_once_it_is_complete(tmp_path, monkeypatch):
    path, seen, replace = tmp_path / "training.npz", [], os.replace

    def look(part, whole):
        seen.append(sorted(os.listdir(tmp_path)))
        assert resume.load(part, RUN, some_arrays())[0] == 3
        replace(part, whole)

    monkeypatch.setattr(os, "replace", look)
    saved(path)
    assert seen == [["training.part"]] and os.listdir(tmp_path) == ["training.npz"]


# ---- what does not fit -------------------------------------------------------------------------------------

ARRAYS = some_arrays()
WTE = ARRAYS["wte"]
CHANGED = {  # what is done to the entries of a state: (change, what the refusal says)
    "a row that broadcasts": (put("wte", WTE[:1]), r"wte is float32, \[1, 24\], not float32, \[97, 24\]"),
    "a number that broadcasts": (put("ln_f/g", np.float32(0)), r"ln_f/g is float32, \[\], not"),
    "a transposed matrix": (put("wte", WTE.T), r"wte is float32, \[24, 97\], not"),
    "float64": (put("wte", WTE.astype(float)), "wte is float64, "),
    "float16": (put("wte", WTE.astype(np.float16)), "wte is float16, "),
    "big-endian": (put("wte", WTE.astype(">f4")), "wte is >f4, "),
    "whole numbers": (put("wte", WTE.astype(np.int32)), "wte is int32, "),
    "objects": (put("wte", WTE.astype(object)), "wte is object, "),
    "records": (put("ln_f/g", np.zeros(24, [("a", "f4")])), "ln_f/g is "),
    "another version of the format": (put("wte", WTE, version=(2, 0)), "damaged, or not the state of a run"),
    "NaN": (put("ln_f/g", np.full(24, np.nan, np.float32)), "ln_f/g holds NaN or infinity"),
    "infinity": (put("square/wte", np.full((97, 24), np.inf, np.float32)), "square/wte holds NaN or inf"),
    "bytes in place of an array": (lambda e: e.update({"wte.npy": b"\0" * 9999}), "damaged, or not"),
    "too few numbers": (lambda e: e.update({"wte.npy": e["wte.npy"][:-1]}), "damaged, or not"),
    "too many numbers": (lambda e: e.update({"wte.npy": e["wte.npy"] + b"\0"}), "damaged, or not"),
    "an array is missing": (lambda e: e.pop("ln_f/g.npy"), "its arrays are not those of this model"),
    "a memory is missing": (lambda e: e.pop("mean/wte.npy"), "its arrays are not those"),
    "an array too many": (put("wxe", WTE), "its arrays are not those"),
    "no arrays": (lambda e: [e.pop(f"{name}.npy") for name in ARRAYS], "its arrays are not those"),
    "fewer than no steps": (put_run(n_steps=-1), "its n_steps is not a number of steps"),
    "more steps than can be taken": (put_run(n_steps=10**9 + 1), "its n_steps is not"),
    "half a step": (put_run(n_steps=1.5), "its n_steps is not"),
    "true": (put_run(n_steps=True), "its n_steps is not"),
    "a list of steps": (put_run(n_steps=[3]), "its n_steps is not"),
    "more about the run": (put_run(more=1), "damaged, or not the state of a run"),
    "nothing about the run": (lambda e: e.pop("run.json"), "damaged, or not the state of a run"),
    "a run that is not JSON": (lambda e: e.update({"run.json": b"{"}), "damaged, or not"),
    "a run that is a list": (lambda e: e.update({"run.json": b"[]"}), "damaged, or not"),
    "a run that is too deep": (lambda e: e.update({"run.json": b"[" * 10**5}), "damaged, or not"),
    "a run that is too long": (lambda e: e.update({"run.json": e["run.json"] + b" " * 10**6}), "damaged, or"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_state_that_does_not_fit_exactly_is_refused(tmp_path, name):
    change, message = CHANGED[name]
    saved(tmp_path / "training.npz", change)
    with pytest.raises(ModelError, match=f"training.npz: {message}") as caught:
        load(tmp_path / "training.npz")
    said = str(caught.value)
    assert said.endswith("; start again, with a new folder")
    assert "\n" not in said and len(said) < 300 + len(str(tmp_path))


def test_an_array_that_is_saved_twice_is_refused(tmp_path):
    saved(tmp_path / "training.npz")
    with zipfile.ZipFile(tmp_path / "training.npz", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("wte.npy", npy(np.zeros_like(WTE)))
    with pytest.raises(ModelError, match="its arrays are not those of this model"):
        load(tmp_path / "training.npz")


@pytest.mark.parametrize(
    "run, message",
    [
        (RUN | {"seed": 1}, "was begun with {'seed': 0, 'repeats': 0.5}: give the same, or a new folder"),
        (RUN | {"more": 1}, "was begun with {'seed': 0, 'repeats': 0.5}: give"),
        ({"seed": 0, "text": "a digest"}, "was begun with {'seed': 0, 'repeats': 0.5}: give"),
        (RUN | {"text": "b"}, "was begun with another text or vocabulary: give the same, or a new folder"),
    ],
)
def test_a_run_that_was_begun_otherwise_is_refused(tmp_path, run, message):
    saved(tmp_path / "training.npz")
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "training.npz", run)
    assert not isinstance(caught.value, ModelError)


def test_settings_of_any_kind_that_json_has_are_compared(tmp_path):
    run = RUN | {"names": ("a", "b"), "rate": 0.1 + 0.2, "model": None, "lora": {"r": 8}}
    resume.save(tmp_path / "training.npz", run, 3, some_arrays())
    assert load(tmp_path / "training.npz", run)[0] == 3
    with pytest.raises(ValueError, match="was begun with"):
        load(tmp_path / "training.npz", run | {"rate": 0.3})


@pytest.mark.parametrize("found", [None, [], {}, "run", 0, {"seed": [0]}, {"seed": 0, "repeats": 0.5}])
def test_a_state_of_who_knows_what_run_is_refused(tmp_path, found):
    saved(tmp_path / "training.npz", put_run(run=found))
    with pytest.raises(ValueError, match="was begun with .*: give the same, or a new folder"):
        load(tmp_path / "training.npz")


# ---- files that are no state -------------------------------------------------------------------------------


class Program:
    """A pickle that makes a folder when it is read as Python reads pickles."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("entry", ["wte.npy", "run.json"])
def test_no_code_in_a_state_is_run(tmp_path, entry):
    code = np.empty(WTE.shape, object)
    code[...] = Program(tmp_path / "made")
    content = npy(code, allow_pickle=True)
    np.load(io.BytesIO(content), allow_pickle=True)
    os.rmdir(tmp_path / "made")  # NumPy, if it were allowed to, would run it
    saved(tmp_path / "training.npz", lambda entries: entries.update({entry: content}))
    with pytest.raises(ModelError):
        load(tmp_path / "training.npz")
    assert not (tmp_path / "made").exists()


def other_files(folder):  # -> {what it is: bytes}
    """Files that are anything but a state."""
    code, archive, arrays = Program(folder / "made"), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as of_pytorch:
        of_pytorch.writestr("training/data.pkl", pickle.dumps(code))
    np.savez(arrays, **ARRAYS)
    return {
        "a pickle": pickle.dumps(code),
        "a pickle in an archive": archive.getvalue(),
        "an array": npy(WTE),
        "arrays alone": arrays.getvalue(),
        "a model": (TINY / "model.ckpt.index").read_bytes(),
        "text": b"text",
        "nothing": b"",
    }


@pytest.mark.parametrize("kind", other_files(TINY))
def test_a_file_that_is_no_state_is_refused(tmp_path, kind):
    path = tmp_path / "training.npz"
    path.write_bytes(other_files(tmp_path)[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = "training.npz: damaged, or not the state of a run; start again, with a new folder"
        with pytest.raises(ModelError, match=message):
            load(path)
    assert not (tmp_path / "made").exists()


def test_a_missing_state_and_a_folder_are_the_systems_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "training.npz")
    with pytest.raises(OSError):
        load(tmp_path)


def header(shape):  # -> bytes
    """How the file of an array of this shape begins."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


HUGE = {  # what takes much memory or time if it is read: entries that are changed, and how they are packed
    "a huge shape": ({"wte.npy": header((10**9, 10**3)) + bytes(8)}, zipfile.ZIP_STORED),
    "a shape beyond all numbers": ({"wte.npy": header((10**999, 24)) + bytes(8)}, zipfile.ZIP_STORED),
    "packed zeros": ({"wte.npy": header((97, 24)) + bytes(10**8)}, zipfile.ZIP_DEFLATED),
    "zeros packed by bzip2": ({"wte.npy": header((97, 24)) + bytes(10**8)}, zipfile.ZIP_BZIP2),
    "packed settings": ({"run.json": b"[" + b" " * 10**8}, zipfile.ZIP_DEFLATED),
    "another array of packed zeros": ({"more.npy": header((10**8,)) + bytes(10**8)}, zipfile.ZIP_DEFLATED),
    "many entries": ({f"{i}.npy": b"" for i in range(10**4)}, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("kind", HUGE)
def test_what_is_too_large_is_refused_before_memory_is_taken(tmp_path, kind):
    changed, compression = HUGE[kind]
    saved(tmp_path / "training.npz")
    with zipfile.ZipFile(tmp_path / "training.npz") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    plain = {"run.json": entries.pop("run.json")} if "run.json" not in changed else {}
    write(tmp_path / "training.npz", entries | changed, compression)
    with zipfile.ZipFile(tmp_path / "training.npz", "a") as archive:
        for name, content in plain.items():
            archive.writestr(name, content)
    assert os.path.getsize(tmp_path / "training.npz") < 2e6
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="training.npz: "):
            load(tmp_path / "training.npz")
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


def test_a_damaged_state_is_refused_or_the_same(tmp_path, n_fuzz):
    path, counts = tmp_path / "training.npz", Counter()
    saved(path)
    whole = path.read_bytes()
    for i in range(n_fuzz):
        rng = np.random.default_rng(i)
        content = bytearray(whole[: rng.integers(len(whole))] if i % 2 else whole)
        for place in rng.integers(len(content) or 1, size=0 if i % 2 else 1):
            content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            n_steps, found = load(path)
            assert n_steps == 3 and all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS), i
            counts["read the same"] += 1
        except ValueError as error:
            counts["refused"] += 1
            assert "training.npz" in str(error) or "was begun with" in str(error)
    print(f"{n_fuzz} damaged states: {dict(counts)}")
    assert counts["refused"] > 0.9 * n_fuzz


def test_an_archives_own_fields_may_be_damaged_too(tmp_path, n_fuzz):
    path, counts = tmp_path / "training.npz", Counter()
    small = {"ln_f/g": ARRAYS["ln_f/g"]}
    resume.save(path, RUN, 3, small)
    whole = path.read_bytes()
    fields = [i for i in range(len(whole)) if not 0 < i - whole.index(b"\x93NUMPY") - 128 < 96]
    for i in range(n_fuzz):
        rng, content = np.random.default_rng(i), bytearray(whole)
        content[rng.choice(fields)] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                n_steps, found = resume.load(path, RUN, small)
                assert n_steps == 3 and np.array_equal(found["ln_f/g"], small["ln_f/g"]), i
                counts["read the same"] += 1
            except ValueError as error:
                counts["refused"] += 1
                assert "training.npz" in str(error) or "was begun with" in str(error)
    assert counts["refused"] > 0.5 * n_fuzz
