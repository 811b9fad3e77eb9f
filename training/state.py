"""The state of a run, training.pt: written at every save, and checked before a run continues from it.

A run continues with the settings, the text and the vocabulary that it was begun with, or not at all. An array
that would fit only by broadcasting, or of another dtype, is refused.
"""

import hashlib
import os
import warnings

import torch

from files import MIXED_UP, ModelError, archive_damage, shown

PARTS = {"run", "n_steps", "leaves", "optimizers"}
GIVE_THE_SAME = "give the same, or a new folder"
START_AGAIN = "start again, with a new folder"


def digest(ids):  # -> str
    """A fingerprint of the ids of a text: it changes with the text and with the vocabulary."""
    return hashlib.sha256(ids.astype("<u4").tobytes()).hexdigest()


def save_state(path, run, n_steps, leaves, optimizers):
    """Write all that is needed to continue; the file gets its name only once it is complete.

    run: the settings, and "text", the digest of the ids.
    """
    state = {"run": run, "n_steps": n_steps, "leaves": leaves, "optimizers": memories(optimizers)}
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def load_state(path, run, leaves, optimizers):  # -> steps taken
    """Restore leaves and optimizers, in place, to the state that `save_state` wrote.

    Raises ModelError for a file that is damaged or of another model, ValueError if the run was begun with
    other settings, or with another text or vocabulary.
    """
    state = read_state(path)
    check_run(state["run"], run, path.parent)
    make_memories(leaves, optimizers)
    check_arrays(state, leaves, optimizers, path)
    for name, leaf in leaves.items():
        leaf.data.copy_(state["leaves"][name])
    for optimizer, memory in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(optimizer.state_dict() | {"state": memory})
    return state["n_steps"]


def read_state(path):  # -> {name: part}
    """The parts of a state, not checked yet. Raises ModelError for any other file; no code in it is run."""
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of old formats
        try:
            damaged = archive_damage(file)
            file.seek(0)
            state = None if damaged else torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # whatever bad bytes make PyTorch raise
            damaged = True
    if damaged:
        raise ModelError(path, "damaged, or not written by training.train", START_AGAIN)
    if not isinstance(state, dict) or state.keys() != PARTS:
        raise ModelError(path, "not written by this version of training.train", START_AGAIN)
    return state


def check_run(found, run, folder):
    """Raise ValueError unless a run was begun as it is to continue."""
    found, settings = form(found), {name: value for name, value in run.items() if name != "text"}
    text = found.pop("text", None) if isinstance(found, dict) else None
    if found != settings:
        raise ValueError(f"{folder} was begun with {shown(found)}: {GIVE_THE_SAME}")
    if text != run["text"]:
        raise ValueError(f"{folder} was begun with another text or vocabulary: {GIVE_THE_SAME}")


def check_arrays(state, leaves, optimizers, path):
    """Raise ModelError unless the arrays in a state have the names, shapes and kinds of this model's."""
    n_steps, found = state["n_steps"], [state["leaves"], state["optimizers"]]
    if type(n_steps) is not int or not 0 <= n_steps <= 10**9:
        raise ModelError(path, "its n_steps is not a number of steps", START_AGAIN)
    wanted = [leaves, memories(optimizers) if n_steps else [{} for _ in optimizers]]
    if form(found) != form(wanted):
        raise ModelError(path, "its arrays are not those of this model and its optimizers", MIXED_UP)
    if not all(array.isfinite().all() for array in arrays_in(found)):
        raise ModelError(path, "it holds NaN or infinity", START_AGAIN)


def make_memories(leaves, optimizers):
    """Let the optimizers remember something of each leaf, by a step with gradients of zero.

    Weight decay changes the leaves too: `load_state` overwrites them.
    """
    for leaf in leaves.values():
        leaf.grad = torch.zeros_like(leaf)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def memories(optimizers):  # -> list of {number of a leaf: {name: array}}
    """What the optimizers remember of each leaf, such as its momentum; their settings are the program's."""
    return [optimizer.state_dict()["state"] for optimizer in optimizers]


def form(value):  # -> value
    """Anything that a file can hold, with the shape and kind of each array in place of its numbers."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype, value.layout, value.device.type
    if isinstance(value, dict):
        return {name: form(part) for name, part in value.items()}
    return [form(part) for part in value] if isinstance(value, (list, tuple)) else value


def arrays_in(value):  # -> arrays, one after another
    """All arrays in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        yield value
        return
    for part in value.values() if isinstance(value, dict) else value:
        yield from arrays_in(part)
