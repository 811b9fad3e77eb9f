"""A server on this machine that plays the Hugging Face hub: files of models, and pull requests."""

import contextlib
import hashlib
import json
from urllib.parse import parse_qs, unquote, urlsplit

from helpers import command, serve, without_unbuffered
from safetensors.numpy import load, save

from extras.huggingface import export

COMMITS = {"main": "0123456789" * 4, "v1": "abcdef0123" * 4}


def as_on_the_hub(folder, model):  # -> {name of file: bytes}
    """A model of ours as the hub has models."""
    export.save(folder, *model)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without(files, *names):
    return {name: content for name, content in files.items() if name not in names}


def in_shards(files):
    """The same model with its weights in three files."""
    tensors = load(files["model.safetensors"])
    shards = {f"{i}.safetensors": dict(list(tensors.items())[i::3]) for i in range(3)}
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    sharded = without(files, "model.safetensors") | {shard: save(part) for shard, part in shards.items()}
    return sharded | {"model.safetensors.index.json": json.dumps(index).encode()}


def pull_request(files, num=22, parents=(COMMITS["main"], "d" * 40), **facts):
    """What the conversion bot opens, unless facts say otherwise. files: those that it adds or changes."""
    pull = {"title": "Adding `safetensors` variant of this model", "status": "open", "isPullRequest": True}
    commits = [hashlib.sha1(str(num).encode()).hexdigest(), *parents]
    return {"num": num, "author": "SFconvertbot", "files": files, "commits": commits} | pull | facts


# ---- what the server answers -------------------------------------------------------------------------------


@contextlib.contextmanager
def serve_hub(models, pulls=None, filters=True, api=None):  # {"owner/name": ...} -> address, paths asked for
    """Play the hub. models: {file: bytes} for each name; pulls: a list of what `pull_request` returns.

    filters: whether a query may leave some of them out. A function in place of a model's files answers in its
    own way; api does so for what is not a file, if it returns True.
    """
    pulls = pulls or {}

    def hub(handler):
        path = urlsplit(handler.path).path
        owner, name, *others = path.removeprefix("/api/models").lstrip("/").split("/")
        repo = f"{owner}/{name}"
        files, proposed = models.get(repo), pulls.get(repo, [])
        if path.startswith("/api/models") and repo in models:
            if not (api and api(handler)):
                query = parse_qs(urlsplit(handler.path).query) if filters else {}
                answer_api(handler, repo, others, query, proposed)
        elif others[:1] != ["resolve"]:
            handler.send_error(404)  # what else the library asks for is not needed
        elif callable(files):
            files(handler)
        else:
            answer(handler, files, proposed)

    with serve(hub) as (address, asked):
        yield address, asked


def answer(handler, files, pulls=()):  # files: {name: bytes}, or None for a model that is not there
    """Answer as the Hugging Face hub does when it is asked for a file of a model."""
    revision, filename = handler.path[1:].split("/", 4)[3:]
    revision, commits = unquote(revision), dict(COMMITS)
    for pull in (pull for pull in pulls if pull["commits"]):
        names = {f"refs/pr/{pull['num']}", pull["commits"][0]}
        commits |= dict.fromkeys(names, pull["commits"][0])
        files = files | pull["files"] if revision in names else files
    commit, content = commits.get(revision, revision), b""
    if files is None:
        error = "RepoNotFound"
    elif commit not in commits.values():
        error = "RevisionNotFound"
    elif filename not in files:
        error = "EntryNotFound"
    else:
        error, content = "", files[filename]
    handler.send_response(404 if error else 200)
    handler.send_header("X-Error-Code", error)
    handler.send_header("X-Repo-Commit", commit)
    handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(content)


def answer_api(handler, repo, path, query, pulls):
    """Answer what is asked about a model: its discussions, or the commits of a revision."""
    commits = {f"refs/pr/{pull['num']}": pull["commits"] for pull in pulls} | {"main": [COMMITS["main"]]}
    if path == ["discussions"]:
        found = discussions(repo, pulls, query)
        send_json(handler, {"count": len(found), "start": 0, "discussions": found})
    elif path[:1] == ["commits"] and unquote(path[1]) in commits:
        entry = {"authors": [{"user": "SFconvertbot"}], "date": DATE, "title": "", "message": ""}
        send_json(handler, [{"id": commit} | entry for commit in commits[unquote(path[1])]])
    elif not path:
        send_json(handler, {"id": repo, "private": False, "sha": COMMITS["main"]})
    else:
        handler.send_error(404)


DATE = "2023-03-01T12:00:00.000Z"


def discussions(repo, pulls, query):  # -> list
    """The pull requests that a query asks for, as the hub's API describes them."""
    entries = []
    for pull in pulls:
        entry = {name: pull[name] for name in ("num", "title", "status", "isPullRequest")}
        entry |= {"author": {"name": pull["author"]}, "repo": {"name": repo, "type": "model"}}
        entries.append(entry | {"createdAt": DATE})
    author, status = query.get("author"), query.get("status")
    entries = [entry for entry in entries if author in (None, [entry["author"]["name"]])]
    return [entry for entry in entries if status in (None, ["all"], [entry["status"]])]


def send_json(handler, value):
    content = json.dumps(value).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


# ---- what a run asks and says ------------------------------------------------------------------------------


def run(name, address, cache, n="8", **variables):
    """The command on a model of the hub."""
    environment = without_unbuffered() | {"HF_ENDPOINT": address, "HF_HOME": str(cache)} | variables
    return command("The little fox", n, "--model_size", name, env=environment)


def looking(name, address):
    """What is said before the first request."""
    return f"looking for {name} on {address.removeprefix('http://')}\n"


def downloading(file, size, address):
    """What is said before weights are downloaded."""
    return f"downloading {file} ({size}) from {address.removeprefix('http://')}\n"


def of_models(asked):
    """What was asked of models, without the address of one."""
    return [path.partition("/resolve/")[2] for path in asked if "/resolve/" in path]
