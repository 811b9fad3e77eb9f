"""The files of a model in Hugging Face's layout: from a folder, or from the hub, by the model's name.

huggingface_hub keeps its downloads in the cache that transformers uses too ($HF_HOME, or
~/.cache/huggingface), and downloads nothing twice: a model that is there needs no network.
"""

import functools
import os
import re
import sys
from pathlib import Path

from files import AGAIN, ModelError, needs, quoted, shown
from utils import SHORT_NAMES

NO_CONFIG = "it has no config.json, so it is not a model of Hugging Face transformers"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def find_file(model, filename):  # -> Path, or None if the model has no such file
    """A file of a model: in a folder, or of "owner/name", "owner/name@revision" or "gpt2" on the hub.

    Raises ModelError if it cannot be downloaded, OSError if the disk has no room for it.
    """
    if os.path.isdir(model):
        return file_in(Path(model), filename)
    repo, revision = parse_name(model)
    return download(repo, filename, commit_of(repo, revision))


def file_in(folder, filename):  # -> Path, or None if there is no such file
    """A file in a folder. Raises ModelError for a link that leads nowhere, and for a folder of this name."""
    path = folder / filename
    if path.is_file():
        return path
    if os.path.lexists(path):
        raise ModelError(path, "not a file, or a link that leads nowhere", AGAIN)
    return None


def parse_name(model):  # "gpt2@v1" -> "openai-community/gpt2", "v1"
    """The full name of a model on the hub, and its branch, tag or commit."""
    repo, _, revision = str(model).partition("@")
    return SHORT_NAMES.get(repo, repo), revision or "main"


def cached_folder(model):  # -> Path
    """The folder of a model, or its copy in the hub's cache. Raises ModelError if it is not there."""
    if os.path.isdir(model):
        return Path(model)
    with needs("requirements-extras.txt"):
        import huggingface_hub as hub
    repo, revision = parse_name(model)
    try:
        return Path(hub.snapshot_download(repo, revision=revision, local_files_only=True))
    except hub.errors.HFValidationError as error:
        raise hub_error(error, repo, "", revision) from None
    except hub.errors.LocalEntryNotFoundError:
        advice = f"python gpt2.py Hello --model_size {quoted(model)} downloads it"
        raise ModelError(model, "not a folder here, and not downloaded yet", advice) from None


@functools.cache
def commit_of(repo, revision):  # "openai-community/gpt2", "main" -> "607a30d7..."
    """The commit that a branch or tag points to; asked once, so that all files are from the same commit."""
    path = download(repo, "config.json", revision)
    if path is None:
        raise ModelError(repo, NO_CONFIG)
    return path.parent.name  # .../models--owner--name/snapshots/COMMIT/config.json


def download(repo, filename, revision):  # -> Path, or None if the model has no such file
    """A file from the hub, downloaded unless it is in the cache."""
    with needs("requirements-extras.txt"):
        import huggingface_hub as hub
        from huggingface_hub import logging

    def kept(filename):
        return hub.try_to_load_from_cache(repo, filename, revision=revision)

    is_commit, verbosity = re.fullmatch("[0-9a-f]{40}", revision), logging.get_verbosity()
    if is_commit and kept(filename) is hub._CACHED_NO_EXIST:
        return None  # a commit never changes
    if not sys.stderr.isatty():
        logging.set_verbosity_error()  # it logs every retry, which only a person needs
    try:
        return Path(hub.hf_hub_download(repo, filename, revision=revision))
    except hub.errors.LocalEntryNotFoundError as error:  # no network
        weights = [path for path in map(kept, WEIGHTS) if isinstance(path, str)] if is_commit else []
        if weights:
            return file_in(Path(weights[0]).parent, filename)  # the whole model is here
        raise hub_error(error, repo, filename, revision) from None
    except hub.errors.EntryNotFoundError:
        return None
    except Exception as error:  # the HTTP library, and so its errors, vary with the hub library's version
        raise hub_error(error, repo, filename, revision) from None
    finally:
        logging.set_verbosity(verbosity)


def hub_error(error, repo, filename, revision):  # -> exception
    """What went wrong with a download, in one line, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        advice = f"accept its terms at https://huggingface.co/{repo}, then set HF_TOKEN to your token"
        return ModelError(repo, "it is gated", advice)
    if isinstance(error, errors.RepositoryNotFoundError):
        problem = "not a folder here, and not a public model on the Hugging Face hub"
        return ModelError(repo, problem, "check the name; for a private model, set HF_TOKEN to your token")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(repo, f"it has no revision {revision!r}", "give a branch, tag or commit of it")
    if isinstance(error, errors.HFValidationError):
        return ModelError(repo, f"not the name of a model on the hub: {shown(error)}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        problem = f"not a folder here, and {filename} cannot be downloaded from the hub"
        return ModelError(repo, f"{problem}: {shown(error.__cause__)}", "--model_size tiny needs no network")
    if isinstance(error, OSError) and not isinstance(error, (errors.HfHubHTTPError, ConnectionError)):
        return error  # of the disk
    return ModelError(repo, f"cannot download {filename}: {shown(error)}", "try again")


def how_again(model):  # -> str
    """The advice to get a fresh copy of a model, with the command that does it for one from the hub.

    Without the command's --force-download, the hub's library would use its cached copy again.
    """
    return AGAIN if os.path.isdir(model) else f"{AGAIN}: {download_command(model, '--force-download')}"


def download_command(model, option):  # -> str
    """The command that downloads a model from the hub."""
    repo, revision = parse_name(model)
    return f"hf download {quoted(repo)} --revision {quoted(revision)} {option}"
