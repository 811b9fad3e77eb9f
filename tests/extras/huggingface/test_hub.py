"""Files of a model: from a folder, and from a hub on this machine."""

import contextlib
import os
import shutil
import socket
import threading
import time

import pytest
from helpers import command, run_python, serve, without_unbuffered
from local_hub import (
    COMMITS,
    answer,
    as_on_the_hub,
    downloading,
    in_shards,
    looking,
    of_models,
    run,
    serve_hub,
    without,
)

from extras.huggingface import hub
from files import ModelError


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny):
    """The bundled model as the hub has models: {name of file: bytes}."""
    return as_on_the_hub(tmp_path_factory.mktemp("hub") / "model", tiny)


def test_a_model_is_downloaded_once_and_then_needs_no_network(files, tmp_path):
    name = "openai-community/gpt2"
    with serve_hub({name: files}) as (address, asked):
        first = run("gpt2", address, tmp_path)
        said = looking(name, address) + downloading("model.safetensors", "14 MB", address)
        assert (first.returncode, first.stderr.decode()) == (0, said)
        assert first.stdout == b" was so frightened that he ran away and\n"
        assert f"{COMMITS['main']}/model.safetensors" in of_models(asked)
        asked.clear()
        again = run(name, address, tmp_path)
        assert again.stdout == first.stdout and of_models(asked) == ["main/config.json"]
    alone = run("gpt2", address, tmp_path)
    assert (alone.returncode, alone.stdout) == (0, first.stdout)
    assert again.stderr.decode() == alone.stderr.decode() == looking(name, address)


def test_files_that_a_model_has_not_are_not_missed_without_a_network(files, tmp_path):
    files = without(files, "tokenizer.json", "tokenizer_config.json")
    with serve_hub({"me/old": files}) as (address, _):
        first = run("me/old", address, tmp_path)
    alone = run("me/old", address, tmp_path)
    assert first.returncode == 0
    assert (alone.stdout, alone.stderr.decode()) == (first.stdout, looking("me/old", address))


def test_a_commit_that_is_here_is_not_asked_for(files, tmp_path):
    name = f"me/mine@{COMMITS['main']}"
    with serve_hub({"me/mine": files}) as (address, asked):
        first = run(name, address, tmp_path)
        asked.clear()
        again = run(name, address, tmp_path)
    assert again.stdout == first.stdout != b"" and (again.stderr, asked) == (b"", [])


def test_weights_that_another_commit_brought_are_not_said_to_be_downloaded(files, tmp_path):
    with serve_hub({"me/mine": files}) as (address, asked):
        run("me/mine", address, tmp_path)
        asked.clear()
        done = run("me/mine@v1", address, tmp_path)
    assert done.returncode == 0 and done.stderr.decode() == looking("me/mine@v1", address)
    assert "v1/config.json" in of_models(asked)


def test_all_files_come_from_the_commit_that_the_first_came_from(files, tmp_path):
    with serve_hub({"me/mine": files}) as (address, asked):
        assert run("me/mine@v1", address, tmp_path).returncode == 0
    revisions = {path: path.split("/")[0] for path in of_models(asked)}
    assert {revision for path, revision in revisions.items() if "config.json" not in path} == {COMMITS["v1"]}


def test_a_prompt_that_is_too_long_is_refused_before_the_weights_are_downloaded(files, tmp_path):
    with serve_hub({"me/mine": files}) as (address, asked):
        done = run("me/mine", address, tmp_path, n="300")
    assert (done.returncode, done.stdout) == (2, b"") and b"at most" in done.stderr
    assert "model.safetensors" not in " ".join(asked)


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, message",
    [
        (
            "me/other",
            "me/other: not a folder here, and not a public model on the Hugging Face hub",
        ),
        ("me/mine@v9", "me/mine: it has no revision 'v9'; give a branch, tag or commit of it"),
        (
            "me/empty",
            "me/empty: it has neither config.json nor adapter_config.json, so it is neither",
        ),
        (
            "me/wordless",
            "me/wordless: it has merges.txt alone; copy tokenizer.json, or both vocab.json",
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
    said = done.stderr.decode().removeprefix(looking(name, address))
    assert (done.returncode, done.stdout, said.count("\n")) == (1, b"", 1)
    assert message in said
    assert not [path for path in asked if path.endswith(".bin")]


def test_a_name_that_is_nearly_a_known_one_is_corrected(tmp_path):
    with serve_hub({}) as (address, _):
        done = run("openai-comunity/gpt2", address, tmp_path)
    assert b"on the Hugging Face hub; did you mean openai-community/gpt2? for a private model" in done.stderr


# ---- no network --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_queue():  # -> address
    """A port at which connections are neither accepted nor refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as waiting:
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def silence():  # -> address
    """A port at which connections are accepted and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=99) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def nobody():  # -> address
    """A port at which connections are refused."""
    with silence() as address:
        pass
    yield address


@contextlib.contextmanager
def out_of_order():  # -> address
    """A server that is there, but cannot serve."""
    with serve(lambda handler: handler.send_error(503)) as (address, _):
        yield address


@pytest.mark.faults
@pytest.mark.skipif(os.name == "nt", reason="Windows treats full queues and proxies in other ways")
@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "HTTPS_PROXY"])
@pytest.mark.parametrize(
    "missing, reason",
    [
        (nobody, "refused"),
        (silence, "no answer within 1 s (where the network is slow, set HF_HUB_ETAG_TIMEOUT=30)"),
        (full_queue, "no answer within 1 s (where the network is slow, set HF_HUB_ETAG_TIMEOUT=30)"),
        (out_of_order, " 50"),
    ],
)
def test_whatever_is_missing_a_model_in_the_cache_runs_and_another_is_one_line(
    files, tmp_path, variable, missing, reason
):
    files = without(files, "tokenizer_config.json")
    with serve_hub({"me/mine": files}) as (address, _):
        first = run("me/mine", address, tmp_path)
    for absence in tmp_path.rglob(".no_exist"):
        shutil.rmtree(absence)  # another program would not have recorded what the model lacks
    environment = without_unbuffered() | {"HF_HOME": str(tmp_path), "HF_HUB_ETAG_TIMEOUT": "1"}
    with missing() as address:
        environment[variable] = address
        alone = command("The little fox", "8", "--model_size", "me/mine", env=environment)
        other = command("The little fox", "8", "--model_size", "me/other", env=environment)
    host = "http://huggingface.co" if variable == "HTTPS_PROXY" else address
    assert (alone.returncode, alone.stdout) == (0, first.stdout)
    note = "me/mine: the cache has no generation_config.json, so it is taken to have none\n"
    assert alone.stderr.decode() == looking("me/mine", host) + note
    said = other.stderr.decode().removeprefix(looking("me/other", host))
    problem = "gpt2.py: me/other: not a folder here, and config.json cannot be downloaded from the hub: "
    assert other.returncode == 1 and said.startswith(problem) and said.count("\n") == 1
    assert reason in said and said.endswith("; tiny is a model that needs no network\n")


@pytest.mark.faults
@pytest.mark.parametrize(
    "status, advice",
    [
        (401, "for a private model, set HF_TOKEN to your token"),
        (403, "check that your token, HF_TOKEN, may read it"),
        (418, "try again"),
    ],
)
def test_a_hub_that_refuses_is_one_line_that_says_what_to_do(tmp_path, status, advice):
    with serve(lambda handler: handler.send_error(status)) as (address, _):
        done = run("me/mine", address, tmp_path)
    said = done.stderr.decode().removeprefix(looking("me/mine", address))
    assert done.returncode == 1
    assert said == f"gpt2.py: me/mine: {address[7:]} answers with status {status}; {advice}\n"


@pytest.mark.parametrize(
    "variable, value, said",
    [
        ("HF_HUB_ETAG_TIMEOUT", "30s", "check the variables that begin with HF_"),
        ("HF_ENDPOINT", "huggingface.co", "HF_ENDPOINT: it is 'huggingface.co'; give an address that begins"),
    ],
)
def test_a_variable_that_the_hub_cannot_use_is_one_line(tmp_path, variable, value, said):
    environment = without_unbuffered() | {"HF_HOME": str(tmp_path), variable: value}
    done = command("Hello", "-m", "me/mine", env=environment)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert said in done.stderr.decode()
    assert command("--models", env=environment).returncode == 0


@pytest.mark.faults
def test_a_server_that_takes_three_seconds_is_waited_for(files, tmp_path):
    calls = []

    def slow(handler):
        calls.append(handler.path)
        if len(calls) == 1:
            time.sleep(3)
        answer(handler, files)

    with serve_hub({"me/mine": slow}) as (address, _):
        done = run("me/mine", address, tmp_path)
    assert done.returncode == 0 and done.stderr.decode().startswith(looking("me/mine", address))


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    """An empty cache, and a hub that cannot be reached; the requests that were tried."""
    import huggingface_hub
    from huggingface_hub import constants

    tried = []

    def fail(url, **options):
        tried.append(url)
        raise OSError("the cable is cut")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tried


def test_after_an_error_the_network_is_tried_again(unreachable):
    for n in (1, 2):
        with pytest.raises(
            ModelError, match="me/mine: .*config.json cannot be downloaded .*: the cable is cut"
        ):
            hub.find_file("me/mine", "config.json")
        assert len(unreachable) == n


def test_a_name_that_is_looked_up_for_ever_is_given_up():
    """As a resolver does that nobody answers: no timeout of a connection counts yet."""
    over = threading.Event()
    with pytest.raises(TimeoutError, match="no answer within 0.1 s"):
        hub.within(0.1, over.wait)
    over.set()
    assert hub.within(9, lambda: 7) == 7
    with pytest.raises(KeyError, match="x"):
        hub.within(9, lambda: {}["x"])


def test_every_name_that_is_listed_runs_without_a_network(files, tmp_path, monkeypatch):
    from huggingface_hub import constants

    from extras import available

    with serve_hub({"me/mine": files, "me/half": without(files, "model.safetensors")}) as (address, _):
        texts = {name: run(name, address, tmp_path).stdout for name in ("me/mine", "me/mine@v1", "me/half")}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    listed = [line.split()[0] for line in available.lines(tmp_path / "none")]
    assert listed == ["tiny", "me/mine", "me/mine@v1"] and texts["me/half"] == b""
    for name in listed[1:]:
        assert run(name, address, tmp_path).stdout == texts[name] != b""


# ---- what goes wrong at the hub ----------------------------------------------------------------------------


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
    said = done.stderr.decode().removeprefix(looking("me/mine", address))
    assert (done.returncode, done.stdout, said.count("\n")) == (1, b"", 1), said
    assert message in said


def test_a_model_in_shards_comes_whole(files, tmp_path):
    with serve_hub({"me/mine": in_shards(files)}) as (address, _):
        done = run("me/mine", address, tmp_path)
    assert (done.returncode, done.stdout) == (0, b" was so frightened that he ran away and\n")
    said = [line.split(" (")[0] for line in done.stderr.decode().splitlines()]
    assert said[1:] == [f"downloading {i}.safetensors" for i in range(3)]


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
    note = b"me/mine: the cache has no generation_config.json, so it is taken to have none\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, online.stdout, note)


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
