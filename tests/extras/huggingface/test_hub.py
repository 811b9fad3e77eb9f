"""Files of a model: from a folder, and from a hub on this machine."""

import contextlib
import hashlib
import json
import shutil

import pytest
from helpers import command, run_python, serve, without_unbuffered
from safetensors.numpy import load, save

from extras.huggingface import export, hub

COMMITS = {"main": "0123456789" * 4, "v1": "abcdef0123" * 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny):
    """The bundled model as the hub has models: {name of file: bytes}."""
    folder = tmp_path_factory.mktemp("hub") / "model"
    export.save(folder, *tiny)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def serve_hub(models):  # {"owner/name": {file: bytes}} -> address, paths asked for
    """A server that answers as the Hugging Face hub does when it is asked for a file of a model."""

    def answer(handler):
        owner, name, _, revision, filename = handler.path[1:].split("/", 4)
        files, commit = models.get(f"{owner}/{name}"), COMMITS.get(revision, revision)
        content = b""
        if files is None:
            error = "RepoNotFound"
        elif callable(files):
            return files(handler)
        elif commit not in COMMITS.values():
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

    def only_models(handler):
        if "/resolve/" in handler.path:
            answer(handler)
        else:
            handler.send_error(404)  # what else the library asks for is not needed

    with serve(only_models) as (address, asked):
        yield address, asked


def run(name, address, cache, *words):
    """The command on a model of the hub."""
    environment = without_unbuffered() | {"HF_ENDPOINT": address, "HF_HOME": str(cache)}
    return command("The little fox", "8", "--model_size", name, *words, env=environment)


def of_models(asked):
    """What was asked of models, without the address of one."""
    return [path.partition("/resolve/")[2] for path in asked if "/resolve/" in path]


def test_a_model_is_downloaded_once_and_then_needs_no_network(files, tmp_path):
    with serve_hub({"openai-community/gpt2": files}) as (address, asked):
        first = run("gpt2", address, tmp_path)
        assert (first.returncode, first.stderr) == (0, b"")
        assert first.stdout == b" was so frightened that he ran away and\n"
        assert f"{COMMITS['main']}/model.safetensors" in of_models(asked)
        asked.clear()
        again = run("openai-community/gpt2", address, tmp_path)
        assert again.stdout == first.stdout and of_models(asked) == ["main/config.json"]
    alone = run("gpt2", address, tmp_path)
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, first.stdout, b"")


def test_files_that_a_model_has_not_are_not_missed_without_a_network(files, tmp_path):
    files = without(files, "tokenizer.json", "tokenizer_config.json")
    with serve_hub({"me/old": files}) as (address, _):
        first = run("me/old", address, tmp_path)
    alone = run("me/old", address, tmp_path)
    assert first.returncode == 0 and (alone.stdout, alone.stderr) == (first.stdout, b"")


def test_all_files_come_from_the_commit_that_the_first_came_from(files, tmp_path):
    with serve_hub({"me/mine": files}) as (address, asked):
        assert run("me/mine@v1", address, tmp_path).returncode == 0
    revisions = {path: path.split("/")[0] for path in of_models(asked)}
    assert {revision for path, revision in revisions.items() if "config.json" not in path} == {COMMITS["v1"]}


def test_a_prompt_that_is_too_long_is_refused_before_the_weights_are_downloaded(files, tmp_path):
    with serve_hub({"me/mine": files}) as (address, asked):
        done = run("me/mine", address, tmp_path, "--n_tokens_to_generate=300")
    assert (done.returncode, done.stdout) == (2, b"") and b"at most" in done.stderr
    assert "model.safetensors" not in " ".join(asked)


def without(files, *names):
    return {name: content for name, content in files.items() if name not in names}


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, message",
    [
        (
            "me/other",
            "me/other: not a folder here, and not a public model on the Hugging Face hub",
        ),
        ("me/mine@v9", "me/mine: it has no revision 'v9'; give a branch, tag or commit of it"),
        ("me/empty", "me/empty: it has no config.json, so it is not a model of Hugging Face transformers"),
        (
            "me/wordless",
            "(vocab.json, merges.txt): not supported: it has neither tokenizer.json nor vocab.json",
        ),
        ("me/weightless", "me/weightless: it has no model.safetensors"),
        ("me--mine/a", "me--mine/a: not the name of a model on the hub"),
        (
            "me/pickle",
            "me/pickle: it has no model.safetensors; a pickle could run any code, so it is not read; "
            "if it has a pickle, run hf download me/pickle --revision main --local-dir FOLDER; "
            "to convert a PyTorch checkpoint, run python -m extras.huggingface.convert "
            "FOLDER/pytorch_model.bin OUT_FOLDER",
        ),
        ("me/page", "config.json: Expecting value: line 1 column 1"),
    ],
)
def test_what_the_hub_has_not_is_told_in_one_line(files, tmp_path, name, message):
    models = {
        "me/mine": files,
        "me/empty": without(files, "config.json"),
        "me/wordless": without(files, "tokenizer.json", "vocab.json"),
        "me/weightless": without(files, "model.safetensors"),
        "me/pickle": without(files, "model.safetensors") | {"pytorch_model.bin": b"x"},
        "me/page": files | {"config.json": b"<html>"},
    }
    with serve_hub(models) as (address, asked):
        done = run(name, address, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert message in done.stderr.decode()
    assert not [path for path in asked if path.endswith(".bin")]


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, wanted",
    [
        ("me/a", b"not a folder here, and config.json cannot be downloaded from the hub"),
        ("a/b/c", b"'a/b/c', expected tiny"),
    ],
)
def test_without_a_network_the_error_is_still_one_line(tmp_path, name, wanted):
    done = run(name, "http://127.0.0.1:9", tmp_path)  # nothing listens there
    assert done.returncode in (1, 2) and wanted in done.stderr and done.stderr.count(b"\n") == 1


def gated(handler):
    handler.send_response(403)
    handler.send_header("X-Error-Code", "GatedRepo")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def broken(handler):
    handler.send_error(501)


def cut_short(handler):
    """Ten bytes are promised, and one comes."""
    handler.send_response(200)
    handler.send_header("X-Repo-Commit", COMMITS["main"])
    handler.send_header("ETag", '"abc"')
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(b"{")
    handler.close_connection = True


@pytest.mark.faults
@pytest.mark.parametrize(
    "answer, message",
    [
        (
            gated,
            "me/mine: it is gated; accept its terms at https://huggingface.co/me/mine, then set",
        ),
        (broken, "501"),
        (cut_short, "me/mine: cannot download config.json: "),
    ],
)
def test_what_goes_wrong_at_the_hub_is_told_in_one_line(tmp_path, answer, message):
    with serve_hub({"me/mine": answer}) as (address, _):
        done = run("me/mine", address, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1), done.stderr
    assert message in done.stderr.decode()


def test_a_model_in_shards_comes_whole(files, tiny, tmp_path):
    tensors = load(files["model.safetensors"])
    shards = {f"{i}.safetensors": dict(list(tensors.items())[i::3]) for i in range(3)}
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    sharded = without(files, "model.safetensors") | {shard: save(part) for shard, part in shards.items()}
    sharded["model.safetensors.index.json"] = json.dumps(index).encode()
    with serve_hub({"me/mine": sharded}) as (address, _):
        done = run("me/mine", address, tmp_path)
    assert (done.returncode, done.stdout) == (0, b" was so frightened that he ran away and\n")


@pytest.mark.faults
def test_a_damaged_file_that_the_library_keeps_can_be_had_again(files, tmp_path):
    with serve_hub({"me/mine": files}) as (address, _):
        whole = run("me/mine", address, tmp_path)
        kept = next(tmp_path.rglob("model.safetensors"))
        kept.write_bytes(kept.read_bytes()[:-1])
        done = run("me/mine", address, tmp_path)
        advice = "hf download me/mine --revision main --force-download"
        assert done.returncode == 1 and f"get a fresh copy: {advice}" in done.stderr.decode()
        environment = without_unbuffered() | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
        words = ["me/mine", "model.safetensors", *advice.split()[3:]]
        code = "from huggingface_hub.cli.hf import main; main()"
        again = run_python("-c", code, "download", *words, env=environment)
        assert again.returncode == 0, again.stderr
        assert run("me/mine", address, tmp_path).stdout == whole.stdout


def test_a_model_that_another_program_downloaded_whole_needs_no_network(files, tmp_path):
    files = without(files, "tokenizer.json", "tokenizer_config.json")
    with serve_hub({"me/mine": files}) as (address, _):
        online = run("me/mine", address, tmp_path)
    for absence in tmp_path.rglob(".no_exist"):
        shutil.rmtree(absence)  # other programs do not record what a model lacks
    environment = without_unbuffered() | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = command("The little fox", "8", "--model_size", "me/mine", env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, online.stdout, b"")


def test_a_folder_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "mine").mkdir(parents=True)
    (tmp_path / "me" / "mine" / "config.json").write_text("{}")
    assert hub.find_file("me/mine", "config.json").read_text() == "{}"
    assert hub.find_file("me/mine", "vocab.json") is None


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("gpt2", ("openai-community/gpt2", "main")),
        ("gpt2-xl@v1", ("openai-community/gpt2-xl", "v1")),
        ("distilgpt2", ("distilbert/distilgpt2", "main")),
        ("me/mine@refs/pr/2", ("me/mine", "refs/pr/2")),
    ],
)
def test_names(name, wanted):
    assert hub.parse_name(name) == wanted
