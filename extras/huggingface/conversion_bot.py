"""The safetensors that the hub's conversion bot made of a model that has only a pickle.

The bot, SFconvertbot, reads the pickles of the hub and opens a pull request with model.safetensors. The
weights are taken from there, and all other files from the model itself, as in transformers. Unlike it, this
never asks the bot for a conversion.

What has to be trusted: that the bot wrote the numbers of the pickle, and that the hub lets nobody else
change what the bot proposed. What is checked, as in transformers: anyone may open a pull request with this
title, so its author must be the bot; and it must be one commit, on top of the commit that all other files
come from, so that the pickle has not changed since.

(safetensors_conversion.py of transformers)
"""

import contextlib
import os
import re
from functools import partial
from pathlib import Path

from download import TRANSIENT, root_cause
from extras.huggingface import hub
from files import AGAIN, ModelError, fresh_copy, say

BOT = "SFconvertbot"
TITLE = "Adding `safetensors` variant of this model"


def read_converted(model, read):  # -> {name: array}, ""; or None, why there are none
    """The tensors in the bot's pull request for a model. `why` is "" where the reason would not help.

    read: a function that reads weights, given name of a file -> Path, or None.
    """
    name, commit, why = pull_request(model)
    if commit is None:
        return None, why
    with fresh_copy(hub.how_again(name)):
        tensors = read(partial(hub.find_file, model, commit=commit))
        if tensors is None:  # a download was interrupted
            raise ModelError(name, "it has no model.safetensors", AGAIN)
    return tensors, ""


def pull_request(model):  # -> "owner/name@refs/pr/22", its commit, ""; or None, None, why there is none
    """The bot's pull request for a model: noted in the cache or found on the hub; for a folder, noted."""
    if os.path.isdir(model):
        return *noted(model), ""
    repo, revision = hub.parse_name(model)
    own_commit, why = hub.commit_of(repo, revision), ""
    note = note_of(hub.cache_of(repo), own_commit)
    name, commit = read_note(note)
    if commit is None and revision == "main":  # transformers looks for no other
        reference, commit, why = look_up(repo, own_commit)
        if commit:
            name = f"{repo}@{reference}"
            hub.download(repo, "config.json", reference)  # so that the cache knows whose commit this is
            write_note(note, name, commit)
    if commit:
        source = f"the conversion bot's pull request, {hub.parse_name(name)[1]}"
        say(f"{repo} has only a pickle; its safetensors are taken from {source}")
    return name, commit, why


def look_up(repo, own_commit):  # -> reference, its commit, ""; or None, None, why there is none
    """Ask the hub for the bot's pull request, for `hub.longest_wait` at most; not if it is out of reach."""
    _, error = hub.ask(repo, "main")
    if error is None:
        try:
            with hub.quiet_unless_terminal():
                return hub.within(hub.longest_wait(), partial(find_pull_request, repo, own_commit))
        except Exception as failure:  # of the HTTP library, or of an answer that nobody foresaw
            error = passing(failure)
    why = f"the hub did not say whether its bot has converted it: {root_cause(error)}" if error else ""
    return None, None, why


def find_pull_request(repo, own_commit):  # -> reference, its commit, ""; or None, None, why there is none
    """The bot's pull request that is one commit on top of the model's own."""
    api, why = hub.hub_library().HfApi(), ""
    only = {"author": BOT, "discussion_type": "pull_request", "discussion_status": "open"}
    for found in api.get_repo_discussions(repo, **only):
        facts = found.author, found.title, found.status, found.is_pull_request, type(found.num)
        if facts != (BOT, TITLE, "open", True, int):
            continue
        reference = found.git_reference
        commits = [entry.commit_id for entry in api.list_repo_commits(repo, revision=reference)]
        if commits[1:2] == [own_commit] and hub.is_commit(commits[0]):
            return reference, commits[0], ""
        why = f"the pull request of the hub's conversion bot, {reference}, is based on another commit"
    return None, None, why


def passing(error):  # -> exception, or None
    """The error, if trying again may help: a slow network, or a busy hub."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in TRANSIENT:
        return ConnectionError(f"{hub.host()} answers with status {status}")
    return error if isinstance(error, TimeoutError) else None


# ---- notes in the cache ------------------------------------------------------------------------------------


def note_of(cache, commit):  # -> Path
    """The file that names the pull request with the weights of a commit.

    A commit never changes, so what was found for it is kept: a later run needs no network, and the cache
    itself does not say whose pull requests it holds.
    """
    return cache / "conversions" / commit


def noted(folder):  # -> "owner/name@refs/pr/22", its commit; or None, None
    """What is noted about a folder of the cache, .../snapshots/COMMIT."""
    folder = Path(os.path.abspath(folder))
    return read_note(note_of(folder.parent.parent, folder.name))


def read_note(note):  # -> "owner/name@refs/pr/22", its commit; or None, None
    """What an earlier run found; a damaged note counts as none."""
    try:
        words = re.fullmatch(r"(\S+@refs/pr/\d+) ([0-9a-f]{40})\n", note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, None
    return words.groups() if words else (None, None)


def write_note(note, name, commit):
    """Keep what was found; in a cache that cannot be written, the next run asks again."""
    with contextlib.suppress(OSError):
        note.parent.mkdir(exist_ok=True)
        note.write_text(f"{name} {commit}\n", encoding="utf-8")
