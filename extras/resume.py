"""The state of a run that learns, in one .npz file: a run that was stopped continues from it.

It continues with the settings, the text and the vocabulary that it was begun with, or not at all. The file
holds arrays, by name, and run.json: the settings, and the number of steps taken. An array that would fit only
by broadcasting, or of another dtype, is refused before its numbers are read.

    run = settings | {"text": digest(ids)}
    save("my-model/training.npz", run, n_steps, arrays)
    n_steps = restore("my-model/training.npz", run, arrays)
"""

import contextlib
import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from files import ModelError, shown

RUN = "run.json"
LARGEST_RUN = 10**6  # bytes
GIVE_THE_SAME = "give the same, or a new folder"
START_AGAIN = "start again, with a new folder"


def digest(ids):  # [n_tokens] -> str
    """A fingerprint of the ids of a text: it changes with the text and with the vocabulary."""
    return hashlib.sha256(np.asarray(ids).astype("<u4").tobytes()).hexdigest()


def save(path, run, n_steps, arrays):
    """Write all that is needed to continue; the file gets its name only once it is complete.

    run: the settings, {name: JSON value}, and "text", the digest of the ids. arrays: {name: array}, the
    weights that learn, and what the optimizers remember.
    """
    path = Path(path)
    part = path.with_suffix(".part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            with archive.open(RUN, "w") as file:
                file.write(json.dumps({"run": run, "n_steps": n_steps}).encode())
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    npy.write_array(file, array, version=(1, 0), allow_pickle=False)
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # if all went well, it has its final name
            part.unlink()


def restore(path, run, arrays):  # -> steps taken
    """Put what `save` wrote into arrays, in place. Raises what `load` raises, and then changes nothing."""
    n_steps, found = load(path, run, wanted=arrays)
    for name, array in arrays.items():
        array[...] = found[name]
    return n_steps


def load(path, run, wanted):  # -> steps taken, {name: array}
    """What `save` wrote. wanted: {name: array}, with the names, shapes and dtypes that the file must have.

    Raises ModelError for a file that is damaged or of another model, ValueError if the run was begun with
    other settings, or with another text or vocabulary.
    """
    path = Path(path)
    with open(path, "rb") as file, contextlib.ExitStack() as stack:
        with refused(path):
            archive = stack.enter_context(zipfile.ZipFile(file))
            begun, n_steps = read_run(archive)
        check_run(begun, run, path.parent)
        if type(n_steps) is not int or not 0 <= n_steps <= 10**9:
            raise ModelError(path, "its n_steps is not a number of steps", START_AGAIN)
        with refused(path):
            check_forms(archive, wanted, path)
            return n_steps, {name: read_array(archive, name, path) for name in wanted}


@contextlib.contextmanager
def refused(path):
    """Raise ModelError in place of whatever bad bytes make zipfile, NumPy and json raise."""
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception:
        raise ModelError(path, "damaged, or not the state of a run", START_AGAIN) from None


# ---- the settings ------------------------------------------------------------------------------------------


def read_run(archive):  # -> run, n_steps: any JSON
    """How a run was begun, and how far it has come; not checked yet. Raises ValueError and others."""
    entry = archive.getinfo(RUN)
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size > LARGEST_RUN:
        raise ValueError
    about = json.loads(archive.read(entry))
    if about.keys() != {"run", "n_steps"}:
        raise ValueError
    return about["run"], about["n_steps"]


def check_run(found, run, folder):
    """Raise ValueError unless a run was begun with the settings and the text that it is to continue with."""
    settings = json.loads(json.dumps(run))  # as JSON has them: a tuple is a list there
    wanted_text, text = settings.pop("text"), None
    if isinstance(found, dict):
        text = found.get("text")
        found = {name: value for name, value in found.items() if name != "text"}
    if found != settings:
        raise ValueError(f"{folder} was begun with {shown(found)}: {GIVE_THE_SAME}")
    if text != wanted_text:
        raise ValueError(f"{folder} was begun with another text or vocabulary: {GIVE_THE_SAME}")


# ---- the arrays --------------------------------------------------------------------------------------------


def check_forms(archive, wanted, path):
    """Raise ModelError unless an archive has the arrays that are wanted, and nothing else.

    Only headers are read: neither packed zeros nor a shape that is too large takes time or memory.
    """
    names = sorted([RUN, *(f"{name}.npy" for name in wanted)])
    if sorted(archive.namelist()) != names:
        raise ModelError(path, "its arrays are not those of this model and its optimizers", START_AGAIN)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError
    for name, array in wanted.items():
        dtype, shape = form_in(archive, name)
        if (dtype, shape) != (array.dtype, array.shape):
            found = f"{name} is {shown(dtype)}, {shown(list(shape))}, not {array.dtype}, {list(array.shape)}"
            raise ModelError(path, found, START_AGAIN)


def form_in(archive, name):  # -> dtype, shape
    """What an array is according to its header. Raises ValueError and others."""
    with archive.open(f"{name}.npy") as file:
        npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file)
    return dtype, shape


def read_array(archive, name, path):  # -> array
    """An array whose header fits. Raises ModelError if not all of its numbers are finite."""
    with archive.open(f"{name}.npy") as file:
        array = npy.read_array(file, allow_pickle=False)
        if file.read(1):  # at its end, zipfile has compared the checksum
            raise ValueError
    if not np.isfinite(array).all():
        raise ModelError(path, f"{name} holds NaN or infinity", START_AGAIN)
    return array
