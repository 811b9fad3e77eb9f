"""The files of a model in Hugging Face's layout: from a folder, or from the hub, by the model's name.

huggingface_hub keeps what it downloads where transformers keeps it too ($HF_HOME, or ~/.cache/huggingface),
and downloads nothing twice: a model that is there needs no network.
"""

import functools
import os
import re
import sys
from pathlib import Path

from checkpoint import ModelError
from utils import SHORT_NAMES

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
INSTALL = "pip install -r requirements-extras.txt"


def find_file(name, filename):  # -> Path, or None if the model has no such file
    """A file of a folder that exists, or of "owner/name", "owner/name@revision", "gpt2" ... on the hub.

    Raises ModelError for what cannot be downloaded.
    """
    if os.path.isdir(name):
        path = Path(name) / filename
        return path if path.is_file() else None
    repo, revision = parse_name(name)
    return download(repo, filename, commit_of(repo, revision))


def parse_name(name):  # "gpt2@v1" -> "openai-community/gpt2", "v1"
    """The full name of a model on the hub, and the branch, tag or commit."""
    repo, _, revision = str(name).partition("@")
    return SHORT_NAMES.get(repo, repo), revision or "main"


@functools.cache
def commit_of(repo, revision):  # "openai-community/gpt2", "main" -> "607a30d7..."
    """The commit that a branch or tag is now. It is asked for once: all files must come from the same."""
    path = download(repo, "config.json", revision)
    if path is None:
        raise ModelError(f"{repo} has no config.json: it is not a model of Hugging Face transformers")
    return path.parent.name  # .../models--owner--name/snapshots/COMMIT/config.json


def download(repo, filename, revision):  # -> Path, or None if the model has no such file
    """One file from the hub, unless it was downloaded before."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import logging
    except ImportError as error:
        raise ImportError(f"{error}: {INSTALL}") from None

    def kept(filename):
        return hub.try_to_load_from_cache(repo, filename, revision=revision)

    is_commit, verbosity = re.fullmatch("[0-9a-f]{40}", revision), logging.get_verbosity()
    if is_commit and kept(filename) is hub._CACHED_NO_EXIST:
        return None  # a commit never gets another file
    if not sys.stderr.isatty():
        logging.set_verbosity_error()  # it logs every retry, which is for people
    try:
        return Path(hub.hf_hub_download(repo, filename, revision=revision))
    except hub.errors.LocalEntryNotFoundError as error:  # no network
        if is_commit and any(isinstance(kept(weights), str) for weights in WEIGHTS):
            return None  # the model was downloaded whole, without such a file
        raise explain(error, repo, filename, revision) from None
    except hub.errors.EntryNotFoundError:
        return None
    except Exception as error:  # the library for HTTP, and its errors, change with the hub's versions
        raise explain(error, repo, filename, revision) from None
    finally:
        logging.set_verbosity(verbosity)


def explain(error, repo, filename, revision):  # -> exception
    """What went wrong with a download, in one line, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        advice = f"accept its terms at https://huggingface.co/{repo}, then put a token into HF_TOKEN"
        return ModelError(f"{repo} is not open to all: {advice}")
    if isinstance(error, errors.RepositoryNotFoundError):
        missing = "no folder here, and no model on the Hugging Face hub that everybody may read"
        return ModelError(f"{repo} is {missing}; check the name (HF_TOKEN opens what is yours)")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{repo} has no revision {revision!r}")
    if isinstance(error, errors.HFValidationError):
        return ModelError(f"{repo!r} cannot be the name of a model on the hub: {error}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        problem = f"{repo} is no folder here, and from the hub, {filename} cannot be downloaded"
        return ModelError(f"{problem}: {error.__cause__}; --model_size tiny needs no network")
    if isinstance(error, OSError) and not isinstance(error, (errors.HfHubHTTPError, ConnectionError)):
        return error  # the disk's
    return ModelError(f"cannot download {filename} of {repo}: {error}; try again")


def with_hub_advice(load):  # (name -> ...) -> (name -> ...)
    """Let errors of load(name) that say to get a file again say how: of the hub's, another copy is kept."""

    @functools.wraps(load)
    def load_or_advise(name):
        try:
            return load(name)
        except ModelError as error:
            if os.path.isdir(name) or not re.search("get (it|both|them) again", str(error)):
                raise
            repo, revision = parse_name(name)
            command = f"hf download {repo} --revision {revision} --force-download"
            raise ModelError(f"{error}: {command} does that") from None

    return load_or_advise
