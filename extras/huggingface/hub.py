"""The files of a model in Hugging Face's layout: from a folder, or from the hub, by the model's name.

huggingface_hub keeps its downloads in the cache that transformers uses too ($HF_HOME, or
~/.cache/huggingface), and downloads nothing twice: a model that is there needs no network.
"""

import contextlib
import functools
import os
import queue
import re
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from download import root_cause
from files import AGAIN, ROOT, ModelError, from_here, needs, quoted, say, shown, shown_size, similar
from layouts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, QUANTIZED, SAFETENSORS
from names import SHORT_NAMES

LONGEST_WAIT = 3.5  # seconds for the hub's first answer, unless HF_HUB_ETAG_TIMEOUT is set
STATUS_ADVICE = {
    401: "for a private model, set HF_TOKEN to your token",
    403: "check that your token, HF_TOKEN, may read it",
    429: "wait a few minutes, then try again",
}
FIRST = ("config.json", ADAPTER_CONFIG)  # a model has the first, an adapter the second


def find_file(model, filename, commit=None):  # -> Path, or None if the model has no such file
    """A file of a model: in a folder, or of "owner/name", "owner/name@revision" or "gpt2" on the hub.

    commit: look in this one instead of the model's own; in the cache, all commits have folders side by side.
    Raises ModelError if it cannot be downloaded, OSError if the disk has no room for it.
    """
    if os.path.isdir(model):
        folder = Path(os.path.abspath(model)).parent / commit if commit else Path(model)
        return file_in(folder, filename)
    repo, revision = parse_name(model)
    commit = commit or commit_of(repo, revision)
    is_known, path = cached(repo, filename, commit)
    if is_known:
        return path
    _, error = ask(repo, revision)
    if error is None:
        return download(repo, filename, commit)
    names = (*SAFETENSORS, QUANTIZED, ADAPTER_WEIGHTS)
    weights = [path for _, path in (cached(repo, name, commit) for name in names) if path]
    if not weights:
        raise no_network(error, repo, filename)
    path = file_in(weights[0].parent, filename)
    deciding = "tokenizer.json" if weights[0].name == ADAPTER_WEIGHTS else "generation_config.json"
    if path is None and filename == deciding:  # it changes the text
        say(f"{repo}: the cache has no {filename}, so it is taken to have none")
    return path


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


def hub_library():  # -> module
    """huggingface_hub, imported late: a model in a folder needs no more than safetensors."""
    try:
        with needs("requirements-extras.txt"):
            import huggingface_hub
            import huggingface_hub.constants
            import huggingface_hub.errors
    except ValueError as error:  # of a number in a variable
        raise ModelError("huggingface_hub", error, "check the variables that begin with HF_") from None
    endpoint = huggingface_hub.constants.ENDPOINT
    if not re.match("https?://[^/]", endpoint):
        raise ModelError("HF_ENDPOINT", f"it is {endpoint!r}", "give an address that begins with https://")
    return huggingface_hub


# ---- the cache ---------------------------------------------------------------------------------------------


def cached(repo, filename, revision):  # -> whether the cache knows, Path or None
    """What the cache knows about a file: where it is, that the model has no such file, or nothing."""
    hub = hub_library()
    path = hub.try_to_load_from_cache(repo, filename, revision=revision)
    if isinstance(path, str):
        return True, Path(path)
    return path is hub._CACHED_NO_EXIST and is_commit(revision), None


def first_cached(repo, revision):  # -> Path, or None
    """The first of FIRST that the cache has."""
    paths = (cached(repo, name, revision)[1] for name in FIRST)
    return next(filter(None, paths), None)


def is_commit(revision):  # -> bool
    """Whether a revision is a commit, which never changes, and not a branch or tag."""
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


def cache_of(repo):  # -> Path
    """Where the hub's cache keeps all commits of a model."""
    return Path(hub_library().constants.HF_HUB_CACHE, f"models--{repo.replace('/', '--')}")


def cached_folder(model, option="--model_size"):  # -> Path
    """The folder of a model, or its copy in the hub's cache. Raises ModelError if it is not there.

    option: the one that takes its name, for the advice how to download it.
    """
    if os.path.isdir(model):
        return Path(model)
    hub = hub_library()
    repo, revision = parse_name(model)
    try:
        path = first_cached(repo, revision)
    except hub.errors.HFValidationError as error:
        raise hub_error(error, repo, "", revision) from None
    if path is None:
        start = f"python {quoted(from_here(ROOT / 'gpt2.py'))}"
        advice = f"{start} Hello {option} {quoted(model)} downloads it"
        raise ModelError(model, "not a folder here, and not downloaded yet", advice)
    return path.parent


# ---- the hub -----------------------------------------------------------------------------------------------


@functools.cache
def commit_of(repo, revision):  # "openai-community/gpt2", "main" -> "607a30d7..."
    """The commit that a branch or tag points to; asked once, so that all files are from the same commit.

    Without a network, it is that of the copy in the cache.
    """
    if is_commit(revision):
        return revision
    commit, error = ask(repo, revision)
    path = first_cached(repo, revision)
    if error is None and (path is None or path.parent.name != commit):
        # which also records where the branch is now
        path = next(filter(None, (download(repo, name, revision) for name in FIRST)), None)
        if path is None:
            problem = f"it has neither {' nor '.join(FIRST)}, so it is neither a model nor an adapter"
            raise ModelError(repo, problem)
    if path is None:
        raise no_network(error, repo, FIRST[0])
    return path.parent.name  # .../models--owner--name/snapshots/COMMIT/config.json


@functools.cache
def ask(repo, revision):  # -> commit or None, error or None
    """The first request for a model: what commit the hub has, or the error if the hub cannot be reached.

    Both are None if the hub answers that it has no such model: `download` meets that error again.
    """
    hub, longest = hub_library(), longest_wait()
    try:
        url = hub.hf_hub_url(repo, "config.json", revision=revision)
        if not hub.constants.HF_HUB_OFFLINE:
            say(f"looking for {repo}{'' if revision == 'main' else f'@{revision}'} on {host()}")
        commit = within(longest, lambda: hub.get_hf_file_metadata(url, timeout=longest + 1).commit_hash)
    except hub.errors.HFValidationError as error:
        raise hub_error(error, repo, "config.json", revision) from None
    except hub.errors.HfHubHTTPError as error:
        status = error.response.status_code
        return None, ConnectionError(f"{host()} answers with status {status}") if status >= 500 else None
    except Exception as error:  # the HTTP library, and so its errors, vary with the hub library's version
        return None, error
    return commit, None if commit else ConnectionError(f"something other than the hub answers at {host()}")


def longest_wait():  # -> seconds
    """How long the hub may take to answer before it counts as out of reach."""
    constants = hub_library().constants
    return constants.HF_HUB_ETAG_TIMEOUT if os.environ.get("HF_HUB_ETAG_TIMEOUT") else LONGEST_WAIT


def within(seconds, function):  # -> what it returns
    """Call a function, but wait no longer than this. Raises what it raises, TimeoutError if it is too slow.

    A timeout of the connection would not do: it counts anew for each address that a name has, and not at all
    while the name is looked up.
    """
    results = queue.SimpleQueue()

    def call():
        try:
            results.put((function(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        value, error = results.get(timeout=seconds)
    except queue.Empty:
        advice = "where the network is slow, set HF_HUB_ETAG_TIMEOUT=30"
        raise TimeoutError(f"no answer within {seconds:g} s ({advice})") from None
    if error:
        raise error
    return value


def host():  # -> "huggingface.co"
    """The name of the hub's server, without a password that its address may hold."""
    return urlsplit(hub_library().constants.ENDPOINT).netloc.rpartition("@")[2]


def download(repo, filename, revision):  # -> Path, or None if the model has no such file
    """A file from the hub, downloaded unless it is in the cache."""
    hub = hub_library()
    try:
        with quiet_unless_terminal():
            if filename.endswith(".safetensors"):
                announce_file(repo, filename, revision)
            return Path(hub.hf_hub_download(repo, filename, revision=revision))
    except hub.errors.LocalEntryNotFoundError as error:  # no network
        raise hub_error(error, repo, filename, revision) from None
    except hub.errors.EntryNotFoundError:
        return None
    except Exception as error:  # see `ask`
        raise hub_error(error, repo, filename, revision) from None


@contextlib.contextmanager
def quiet_unless_terminal():
    """In this block the hub's library logs its retries only on a terminal: only a person needs them."""
    logging = hub_library().logging
    verbosity = logging.get_verbosity()
    if not sys.stderr.isatty():
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def announce_file(repo, filename, revision):
    """Say on stderr what is about to be downloaded, unless the cache has it from an earlier commit."""
    hub = hub_library()
    try:
        found = hub.get_hf_file_metadata(hub.hf_hub_url(repo, filename, revision=revision))
    except Exception:  # `download` meets it again
        return
    if not (cache_of(repo) / "blobs" / str(found.etag)).exists():
        size = f" ({shown_size(found.size)})" if found.size else ""
        say(f"downloading {filename}{size} from {host()}")


def no_network(error, repo, filename):  # -> ModelError
    """The hub cannot be reached, and the cache is not enough. The next call asks again."""
    ask.cache_clear()
    commit_of.cache_clear()
    problem = f"not a folder here, and {filename} cannot be downloaded from the hub: {root_cause(error)}"
    return ModelError(repo, problem, "tiny is a model that needs no network")


def hub_error(error, repo, filename, revision):  # -> exception
    """What went wrong with a download, in one line, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        advice = f"accept its terms at https://huggingface.co/{repo}, then set HF_TOKEN to your token"
        return ModelError(repo, "it is gated", advice)
    if isinstance(error, errors.RepositoryNotFoundError):
        problem = "not a folder here, and not a public model on the Hugging Face hub"
        close = [name for name in similar(repo, SHORT_NAMES.values()) if name != repo]
        advice = f"did you mean {close[0]}?" if close else "check the name;"
        return ModelError(repo, problem, f"{advice} for a private model, set HF_TOKEN to your token")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(repo, f"it has no revision {revision!r}", "give a branch, tag or commit of it")
    if isinstance(error, errors.HFValidationError):
        return ModelError(repo, f"not the name of a model on the hub: {shown(error)}")
    not_cached = isinstance(error, errors.LocalEntryNotFoundError)
    error = (error.__cause__ or error) if not_cached else error
    if getattr(error, "response", None) is not None:
        status = error.response.status_code
        advice = STATUS_ADVICE.get(status, "try again")
        return ModelError(repo, f"{host()} answers with status {status}", advice)
    if not_cached:
        return no_network(error, repo, filename)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError) and error.errno is not None:
        return error  # of the disk; those of the HTTP library have no number
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
