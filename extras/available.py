"""Which models can run on this machine without a network, each by a name that works as --model_size.

A model is listed if its sizes and vocabulary can be read, and its weights are there. The numbers in the
weights are not read: `python gpt2.py --check --model_size NAME` reads them.
"""

import contextlib
import io
import os
from pathlib import Path

import utils
from checkpoint import read_checkpoint
from files import ModelError, quoted, say, shown_size
from layouts import QUANTIZED, gguf_of
from names import RELEASED
from weights import count


def lines(models_dir):  # yields lines
    """For each model the name to give, the size of its weights, and where it is.

    What does not run is left out: half a download, another kind of model, a pickle.
    """
    if not os.path.isdir(os.path.expanduser(models_dir)):
        say(f"{models_dir}: there is no such folder")
    rows = []
    for name in candidates(models_dir):
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what is said of a model is for a run of it
                n_bytes, folder = open_here(name, models_dir)
        except (ValueError, OSError, ImportError):  # it does not run
            continue
        rows.append((quoted(name), shown_size(n_bytes), os.path.abspath(folder)))
    width = max((len(name) for name, *_ in rows), default=0)
    for name, size, folder in rows:
        yield f"{name:<{width}}  {size:>7}  {folder}"


def candidates(models_dir):  # yields str
    """What may run: the bundled model, OpenAI's, what lies beside them in models_dir, and the hub's cache."""
    yield from ("tiny", *RELEASED)
    bundled = os.path.realpath(utils.find_model("tiny", models_dir)[1])
    for path in models_in(Path(models_dir).expanduser()):
        if path.name not in RELEASED and os.path.realpath(path) != bundled:
            yield name_of(path)
    yield from cached_names()


def models_in(folder):  # -> list of Path
    """What may be a model in a folder, sorted by name: folders and .gguf files; none if it cannot be read."""
    try:
        paths = [path for path in Path(folder).iterdir() if path.name.isprintable()]
        return sorted(path for path in paths if os.path.isdir(path) or gguf_of(path))
    except OSError:
        return []


def folders_in(folder):  # -> list of Path
    """The folders in a folder, sorted by name."""
    return [path for path in models_in(folder) if os.path.isdir(path)]


def name_of(model):  # Path -> str
    """The shorter of two paths to a model; not one of the names that always mean our own models."""
    path = Path(os.path.abspath(model))
    try:
        relative = Path(os.path.relpath(path)).as_posix()  # / on Windows too: it needs no quotes
    except ValueError:  # on Windows, from another drive
        return path.as_posix()
    if relative in ("tiny", *RELEASED):
        relative = f"./{relative}"
    return min(relative, path.as_posix(), key=len)


def cached_names():  # yields str
    """The branches and tags in the hub's cache, by the names of their models; none without its library."""
    from extras.huggingface.hub import hub_library

    try:
        cache = Path(hub_library().constants.HF_HUB_CACHE)
    except (ImportError, ModelError):
        return
    for folder in folders_in(cache):
        kind, *owner_and_name = folder.name.split("--")
        revisions = folder / "refs"
        for path in files_below(revisions) if kind == "models" else ():
            revision = path.relative_to(revisions).as_posix()
            yield "/".join(owner_and_name) + ("" if revision == "main" else f"@{revision}")


def files_below(folder):  # -> list of Path
    """The files in a folder and in those below, sorted by name; none where it cannot be read."""
    try:
        return sorted(path for path in folder.rglob("*") if path.is_file())
    except OSError:
        return []


def open_here(name, models_dir):  # -> bytes of its weights, Path
    """Open a model as a run would, but for the numbers in its weights, and download nothing.

    Raises whatever shows that it does not run.
    """
    layout, place = utils.find_model(name, models_dir)
    if layout == "huggingface":
        from extras.huggingface.config import read_config
        from extras.huggingface.hub import cached_folder, find_file
        from extras.huggingface.loading import check_alone, check_kind
        from extras.huggingface.tensors import read_tensors

        place = cached_folder(place)
        check_kind(place, read_config(place))
        if quantized := find_file(place, QUANTIZED):
            from extras.huggingface.quantized_file import read_parts

            check_alone(place)
            read_parts(quantized, utils.open_model(place, models_dir)[1])
            return quantized.stat().st_size, place
        arrays = read_tensors(place)
    elif layout == "gguf":
        utils.open_model(place, models_dir)
        return place.stat().st_size, place
    else:
        arrays = read_checkpoint(utils.checkpoint_of(place, name if layout == "released" else None))
    _, hparams, _ = utils.open_model(place, models_dir)  # a folder by now, so nothing is downloaded
    if sum(array.size for array in arrays.values()) < count(hparams):
        raise ValueError("its weights are of a smaller model than its sizes")
    return sum(array.nbytes for array in arrays.values()), place
