"""The files of a model in Hugging Face's layout: from a folder, or from the hub, by the model's name.

huggingface_hub keeps what it downloads where transformers keeps it too ($HF_HOME, or ~/.cache/huggingface),
and does not ask for it again: a model that is there needs no network.
"""

import functools
import os
import re
import sys
from pathlib import Path

from checkpoint import ModelError
from utils import SHORT_NAMES

INSTALL = "pip install -r requirements-extras.txt"


def find_file(name, filename):  # -> Path, or None if the model has no such file
    """A file of a folder that exists, or of "owner/name", "owner/name@revision", "gpt2" ... on the hub.

    Raises ModelError for what cannot be downloaded.
    """
    if os.path.isdir(name):
        path = Path(name) / filename
        return path if path.is_file() else None
    repo, revision = parse(name)
    return download(repo, filename, commit_of(repo, revision))


def has_file(name, filename):  # -> bool
    """Whether a model has a file, without downloading it."""
    if os.path.isdir(name):
        return (Path(name) / filename).is_file()
    import huggingface_hub as hub

    repo, revision = parse(name)
    try:
        return hub.file_exists(repo, filename, revision=commit_of(repo, revision))
    except OSError:  # no network
        return False


def parse(name):  # "gpt2@v1" -> "openai-community/gpt2", "v1"
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
        from huggingface_hub import errors, logging
    except ImportError as error:
        raise ImportError(f"{error}: {INSTALL}") from None
    if not sys.stderr.isatty():
        logging.set_verbosity_error()  # it tells of every try, which is for people
    try:
        known = hub.try_to_load_from_cache(repo, filename, revision=revision)
        if known is hub._CACHED_NO_EXIST and re.fullmatch("[0-9a-f]{40}", revision):
            return None  # a commit never gets another file
        return Path(hub.hf_hub_download(repo, filename, revision=revision))
    except errors.RepositoryNotFoundError:
        missing = "no folder here, and no model on the Hugging Face hub that everybody may read"
        raise ModelError(f"{repo} is {missing}; check the name (HF_TOKEN opens what is yours)") from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{repo} has no revision {revision!r}") from None
    except errors.LocalEntryNotFoundError as error:  # a kind of the next, so it comes first
        problem = f"{repo} is no folder here, and from the hub, {filename} cannot be downloaded"
        raise ModelError(f"{problem}: {error.__cause__}; --model_size tiny needs no network") from None
    except errors.EntryNotFoundError:
        return None
    except errors.HFValidationError as error:
        raise ModelError(f"{repo!r} cannot be the name of a model on the hub: {error}") from None
    except errors.HfHubHTTPError as error:
        raise ModelError(f"cannot download {filename} of {repo}: {error}") from None
