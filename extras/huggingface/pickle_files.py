"""Pickles, read without running what is in them.

A pickle is a program that builds objects, and it may do anything else as well. PyTorch's `weights_only` lets
it build only tensors, numbers, text, lists and dicts, but before 2.10 there were ways around that. A plain
pickle, which holds no tensors, needs no PyTorch; here it may not even name a class or a function.
"""

import io
import pickle
import pickletools
import warnings
import zipfile
from functools import partial

from extras.huggingface.hub import find_file
from extras.huggingface.tensors import read_shards
from files import AGAIN, ModelError, archive_damage, shown

SAFE_TORCH = (2, 10)  # before, a crafted file gets past weights_only (CVE-2025-32434, CVE-2026-24747)
SETTINGS = ("GPTConfig", "Namespace")  # classes that only hold sizes and options, whoever defines them
STATES = ("model", "model_state_dict", "state_dict", "module")  # where a checkpoint keeps its model
LARGEST_PLAIN = 2**22  # bytes in a plain pickle: enough for 200,000 characters
PLAIN = {  # what a plain pickle may do: build dicts, lists, text and numbers; no tuples: as keys, those
    # that are nested in each other could take forever to hash
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
}

# ---- PyTorch's ---------------------------------------------------------------------------------------------


class Settings:
    """What becomes of an object whose class is one of SETTINGS: its attributes, and nothing that can run."""


def read_pickle(file):  # -> dict, {name: array}
    """What PyTorch saved, if that is only tensors, numbers, text and settings; and the model's tensors."""
    require_torch()
    if file.name.endswith(".index.json"):
        find = partial(find_file, file.parent)
        return {}, read_shards(file, "bin", find, lambda shard: read_pickle(shard)[1])
    check_archive(file)
    try:
        content = load(file)
        if not isinstance(content, dict):
            raise ModelError(file, f"it holds a {type(content).__name__}, not a model's tensors by name")
        return content, model_tensors(content, file)
    except ModelError:
        raise
    except Exception as error:  # whatever bad bytes make PyTorch raise
        raise ModelError(file, f"PyTorch cannot read it ({shown(error)})", AGAIN) from None


def require_torch():
    """Raise ImportError unless PyTorch is there, and new enough to read a file that anyone may have made."""
    wanted = f"pip install 'torch>={'.'.join(map(str, SAFE_TORCH))}'"
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{error}: {wanted}") from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_TORCH:
        raise ImportError(f"a file can make PyTorch {torch.__version__} run code: {wanted}")


def load(file):  # -> what was saved
    """What PyTorch reads from a file. Raises ModelError for one that holds more; it names the first class."""
    import torch

    stand_ins = [(Settings, name) for name in refused_names(file) if name.rpartition(".")[2] in SETTINGS]
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins), open(file, "rb") as opened:
        warnings.simplefilter("ignore")  # those of old formats
        try:
            return torch.load(opened, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            refused = refused_names(file)
    if not refused:
        problem = "not a PyTorch pickle, or one that holds more than tensors, numbers and strings"
        raise ModelError(file, f"{problem}; it is not run")
    first = min(refused, key=lambda name: (name.startswith(("torch.", "builtins.")), name))
    found = f"it holds more than tensors: {shown(first)} ({len(refused)} such), which could run code"
    raise ModelError(file, f"{found}, so it is not run", how_to_save_tensors(file))


def refused_names(file):  # -> list of "module.name"
    """The classes and functions in a file that PyTorch does not allow; [] for the format of before 1.6."""
    import torch

    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # whatever bad bytes make PyTorch raise; torch.load says it better
        return []


def how_to_save_tensors(file):  # -> str
    """How to get a file that can be read out of one that cannot."""
    load = f"where it is defined, load the model from {shown(file.name)}"
    return f"{load}, run torch.save(model.state_dict(), 'tensors.pt'), and convert that"


def check_archive(file):
    """Raise ModelError for a zip archive that does not match its checksums, which PyTorch itself ignores.

    One with compressed parts is refused too: PyTorch writes none, and a small file could grow without end.
    """
    with open(file, "rb") as opened:
        if not zipfile.is_zipfile(opened):
            return
        with zipfile.ZipFile(opened) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > file.stat().st_size:
            raise ModelError(file, f"it is compressed, and would grow to {n_bytes:,} bytes", AGAIN)
        damage = archive_damage(opened)
    if damage:
        raise ModelError(file, f"damaged: {damage}", AGAIN)


def model_tensors(content, file):  # -> {name: array}
    """The tensors of a model, wherever a checkpoint keeps them; bfloat16, which NumPy lacks, as float32.

    Raises ModelError for tensors that take more than twice the bytes of the file, because they repeat what is
    stored once. (A head that is tied to wte does so too, but takes less.)
    """
    import torch

    places = [content.get(name) for name in STATES]
    state, arrays = next((place for place in places if isinstance(place, dict)), content), {}
    state = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if n_bytes > 2 * file.stat().st_size:
        raise ModelError(file, f"its tensors would take {n_bytes:,} bytes, far more than the file has", AGAIN)
    for name, tensor in state.items():
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        arrays[name] = tensor.detach().numpy()
    return arrays


# ---- plain ones --------------------------------------------------------------------------------------------


class PlainUnpickler(pickle.Unpickler):
    """Finds no class and no function, so that nothing in a pickle can be called."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_plain(file):  # -> dict
    """The dict in a pickle of dicts, lists, text and numbers. Raises ModelError for anything else.

    Its steps are listed before it is read: one of them alone could take all memory.
    """
    with open(file, "rb") as opened:
        content = opened.read(LARGEST_PLAIN + 1)
    if len(content) > LARGEST_PLAIN:
        raise ModelError(file, f"it has more than {LARGEST_PLAIN:,} bytes, too many for a list of characters")
    try:
        for step, value, _ in pickletools.genops(content):
            if step.name not in PLAIN or ("PUT" in step.name and value > len(content)):
                problem = "it holds more than dicts, lists, text and numbers, or is no pickle; it is not run"
                raise ModelError(file, problem)
        value = PlainUnpickler(io.BytesIO(content)).load()
    except ModelError:
        raise
    except Exception as error:  # whatever bad bytes make pickle raise
        raise ModelError(file, f"it cannot be read as a pickle ({shown(error)})", AGAIN) from None
    if type(value) is not dict:
        raise ModelError(file, f"it holds something of type {type(value).__name__}, not a dict")
    return value
