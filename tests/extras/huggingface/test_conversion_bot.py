"""Models that have only a pickle: weights come from the conversion bot's pull request, or not at all."""

import shutil
import time

import numpy as np
import pytest
from helpers import assert_same_logits, run_python, without_unbuffered
from local_hub import (
    COMMITS,
    as_on_the_hub,
    downloading,
    in_shards,
    looking,
    of_models,
    pull_request,
    run,
    send_json,
    serve_hub,
    without,
)

import gpt2
from extras.huggingface import conversion_bot, hub, loading
from files import ModelError

NAME = "me/pickle"
TEXT = b" was so frightened that he ran away and\n"
COMMIT = pull_request({})["commits"][0]
SOURCE = "its safetensors are taken from the conversion bot's pull request, refs/pr/22"
TAKEN = f"{NAME} has only a pickle; {SOURCE}\n"
REFUSED = (
    "me/pickle: it has no model.safetensors; a pickle could run any code, so it is not read; {}"
    "if it has a pickle, run hf download me/pickle --revision main --local-dir FOLDER; to convert a PyTorch "
    "checkpoint, run python -m extras.huggingface.convert FOLDER/pytorch_model.bin OUT_FOLDER\n"
)

UNKNOWN = "the hub did not say whether its bot has converted it: "
OTHER = "the pull request of the hub's conversion bot, refs/pr/22, is based on another commit; "


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny):
    """The bundled model as the hub has models: {name of file: bytes}."""
    return as_on_the_hub(tmp_path_factory.mktemp("hub") / "model", tiny)


@pytest.fixture(scope="module")
def pickle(files):
    """The same model with a pickle in place of its safetensors."""
    return without(files, "model.safetensors") | {"pytorch_model.bin": b"would run any code"}


@pytest.fixture(scope="module")
def weights(files):
    """What the bot adds; and files that would break the model if they were taken from there."""
    return {"model.safetensors": files["model.safetensors"], "config.json": b"{}", "vocab.json": b"{}"}


def refused(done, address, name=NAME):
    """What a run that ends in an error said after its first line."""
    said = done.stderr.decode().removeprefix(looking(name, address))
    assert (done.returncode, done.stdout, said.count("\n")) == (1, b"", 1), said
    return said.removeprefix("gpt2.py: ")


# ---- what is taken -----------------------------------------------------------------------------------------


def test_weights_come_from_the_bots_pull_request_and_all_else_from_the_model(pickle, weights, tmp_path):
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, asked):
        done = run(NAME, address, tmp_path)
    said = looking(NAME, address) + TAKEN + downloading("model.safetensors", "14 MB", address)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (0, TEXT, said)
    of_pull = {path for path in of_models(asked) if not path.startswith(("main/", COMMITS["main"]))}
    assert of_pull == {"refs%2Fpr%2F22/config.json", f"{COMMIT}/model.safetensors"}
    assert sum("/discussions" in path for path in asked) == 1
    assert not [path for path in asked if path.endswith(".bin")]


def test_once_it_is_downloaded_nothing_is_asked_about_it_and_no_network_is_needed(pickle, weights, tmp_path):
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, asked):
        run(NAME, address, tmp_path)
        asked.clear()
        again = run(NAME, address, tmp_path)
        assert [path for path in asked if NAME in path] == ["/me/pickle/resolve/main/config.json"]
    gone = run(NAME, address, tmp_path)
    offline = run(NAME, address, tmp_path, HF_HUB_OFFLINE="1")
    assert {done.stdout for done in (again, gone, offline)} == {TEXT}
    assert again.stderr.decode() == gone.stderr.decode() == looking(NAME, address) + TAKEN
    assert offline.stderr.decode() == TAKEN


def test_weights_in_shards_come_whole(files, pickle, tmp_path):
    with serve_hub({NAME: pickle}, {NAME: [pull_request(in_shards(files))]}) as (address, _):
        done = run(NAME, address, tmp_path)
    assert (done.returncode, done.stdout) == (0, TEXT)
    assert done.stderr.count(b"downloading ") == 3
    assert run(NAME, address, tmp_path).stdout == TEXT


def test_of_several_pull_requests_the_one_on_top_of_this_commit_is_taken(pickle, weights, tmp_path):
    old = pull_request({"model.safetensors": b"old"}, 30, parents=["c" * 40])
    strange = pull_request({"model.safetensors": b"strange"}, 31, author="SFconvertb0t")
    with serve_hub({NAME: pickle}, {NAME: [strange, old, pull_request(weights)]}) as (address, _):
        assert run(NAME, address, tmp_path).stdout == TEXT


def test_the_hubs_library_keeps_what_was_taken_as_the_pull_requests(pickle, weights, tmp_path):
    """Else `hf cache prune` would delete the weights: no revision would name their commit."""
    from huggingface_hub import scan_cache_dir

    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, _):
        run(NAME, address, tmp_path)
    cache = scan_cache_dir(tmp_path / "hub")
    [repo] = cache.repos
    refs = {revision.commit_hash: set(revision.refs) for revision in repo.revisions}
    assert refs == {COMMITS["main"]: {"main"}, COMMIT: {"refs/pr/22"}} and not cache.warnings


# ---- what is not taken -------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize(
    "facts",
    [
        {"author": "somebody"},
        {"author": "sfconvertbot"},
        {"title": "Adding weights"},
        {"status": "closed"},
        {"status": "merged"},
        {"isPullRequest": False},
        {"num": "22/../../main"},
        {"commits": ["e" * 40]},
        {"commits": []},
        {"commits": ["../main", COMMITS["main"]]},
    ],
    ids=str,
)
def test_a_pull_request_that_is_not_the_bots_open_one_is_not_taken(pickle, weights, tmp_path, facts):
    """Even where the hub does not heed the filters of a query."""
    pull = pull_request(weights, **facts)
    with serve_hub({NAME: pickle}, {NAME: [pull]}, filters=False) as (address, _):
        done = run(NAME, address, tmp_path)
    assert refused(done, address) == REFUSED.format(OTHER if facts.get("commits") is not None else "")


def test_a_hub_that_heeds_no_filter_is_no_hindrance(pickle, weights, tmp_path):
    others = [pull_request({}, 7, author="somebody"), pull_request({}, 8, status="draft")]
    with serve_hub({NAME: pickle}, {NAME: [*others, pull_request(weights)]}, filters=False) as (address, _):
        assert run(NAME, address, tmp_path).stdout == TEXT


@pytest.mark.parametrize(
    "commits",
    [
        ["a" * 40, "b" * 40, COMMITS["main"]],  # somebody changed what the bot proposed
        ["a" * 40, "b" * 40],  # or the model has changed since
    ],
)
def test_safetensors_of_another_commit_are_not_taken(pickle, weights, tmp_path, commits):
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights, commits=commits)]}) as (address, _):
        done = run(NAME, address, tmp_path)
    assert refused(done, address) == REFUSED.format(OTHER)


def test_after_the_model_has_changed_its_old_safetensors_are_not_taken(
    pickle, weights, tmp_path, monkeypatch
):
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, _):
        assert run(NAME, address, tmp_path).stdout == TEXT
        monkeypatch.setitem(COMMITS, "main", "9" * 40)
        assert refused(run(NAME, address, tmp_path), address) == REFUSED.format(OTHER)


def test_for_another_revision_none_is_looked_for(pickle, weights, tmp_path):
    pull = pull_request(weights, parents=[COMMITS["v1"]])
    with serve_hub({NAME: pickle}, {NAME: [pull]}) as (address, asked):
        done = run(f"{NAME}@v1", address, tmp_path)
    said = refused(done, address, f"{NAME}@v1")
    assert "it has no model.safetensors" in said and "/api/models" not in " ".join(asked)


def test_what_was_taken_by_hand_is_not_taken_unasked(pickle, files, weights, tmp_path):
    """Somebody's pull request that ran under its own name is in the cache, but it is not the bot's."""
    pull = pull_request(files, 5, author="somebody")
    with serve_hub({NAME: pickle}, {NAME: [pull]}) as (address, _):
        assert run(f"{NAME}@refs/pr/5", address, tmp_path).stdout == TEXT
        assert refused(run(NAME, address, tmp_path), address) == REFUSED.format("")
    said = refused(run(NAME, address, tmp_path, HF_HUB_OFFLINE="1"), address)
    assert said.startswith(
        REFUSED.partition("{")[0] + "the hub did not say whether its bot has converted it: "
    )


# ---- a hub that does not help ------------------------------------------------------------------------------


def status(number):
    return lambda handler: handler.send_error(number) or True


def text(content):
    """An answer of status 200 that is not what the hub would say."""

    def reply(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
        return True

    return reply


def entries(*found, count=1):
    return lambda handler: send_json(handler, {"count": count, "start": 0, "discussions": found}) or True


def slow(handler):
    time.sleep(3)
    return True


BUSY = UNKNOWN + "127.0.0.1:PORT answers with status {}; "
SLOW = f"{UNKNOWN}no answer within 1 s (where the network is slow, set HF_HUB_ETAG_TIMEOUT=30); "


@pytest.mark.faults
@pytest.mark.parametrize(
    "reply, why",
    [
        *((status(n), "") for n in (400, 401, 403, 404, 410, 501)),
        *((status(n), BUSY.format(n)) for n in (429, 500, 502, 503, 504)),
        (slow, SLOW),
        *((text(content), "") for content in (b"", b"<html>", b"[]", b"{}", b"null", b"\xff", b"[" * 99999)),
        (entries(count=0), ""),
        (entries({}), ""),
        (entries({"title": conversion_bot.TITLE, "author": None}), ""),
        (entries(count="many"), ""),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n"), ""),
    ],
)
def test_whatever_the_hub_says_about_pull_requests_the_error_is_one_line(pickle, tmp_path, reply, why):
    with serve_hub({NAME: pickle}, api=reply) as (address, asked):
        done = run(NAME, address, tmp_path, HF_HUB_ETAG_TIMEOUT="1")
    assert refused(done, address) == REFUSED.format(why.replace("PORT", address.rpartition(":")[2]))
    assert sum("/discussions" in path for path in asked) == 1


@pytest.mark.faults
@pytest.mark.parametrize("number", [403, 404, 500, 503])
def test_a_hub_that_does_not_list_the_commits_is_one_line(pickle, weights, tmp_path, number):
    def reply(handler):
        return "/commits/" in handler.path and status(number)(handler)

    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}, api=reply) as (address, _):
        said = refused(run(NAME, address, tmp_path, HF_HUB_ETAG_TIMEOUT="1"), address)
    busy = BUSY.format(number).replace("PORT", address.rpartition(":")[2])
    reasons = [""] if number < 500 else [busy, SLOW]  # new versions of the hub's library try again
    assert said in [REFUSED.format(why) for why in reasons]


def test_where_the_first_request_failed_nothing_more_is_waited_for(monkeypatch):
    monkeypatch.setattr(hub, "ask", lambda repo, revision: (None, OSError("the cable is cut")))
    monkeypatch.setattr(hub, "within", lambda seconds, function: pytest.fail("waited"))
    found = conversion_bot.look_up(NAME, COMMITS["main"])
    assert found == (None, None, f"{UNKNOWN}the cable is cut")


def test_after_an_error_the_hub_is_asked_again(pickle, weights, tmp_path):
    """In one process, as in a notebook."""
    code = """if True:
        from extras.huggingface import load
        try:
            load("me/pickle")
        except ValueError as error:
            print("503" in str(error))
        print(len(load("me/pickle")))"""
    replies = [status(503)]

    def reply(handler):
        return bool(replies) and replies.pop()(handler)

    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}, api=reply) as (address, _):
        environment = without_unbuffered() | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
        done = run_python("-c", code, env=environment)
    assert (done.stdout, done.returncode) == (b"True\n3\n", 0), done.stderr


# ---- the cache ---------------------------------------------------------------------------------------------


@pytest.fixture
def taken(pickle, weights, tmp_path, monkeypatch):
    """The model in a cache that an earlier run filled, and the address of a hub that is gone."""
    from huggingface_hub import constants

    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, _):
        assert run(NAME, address, tmp_path).returncode == 0
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--me--pickle", address


def note(cache):
    return cache / "conversions" / COMMITS["main"]


@pytest.mark.parametrize(
    "content", [b"", b"me/pickle@refs/pr/22 ", b"\xff", b"me/pickle@refs/pr/22 " + b"../main" * 6 + b"\n"]
)
def test_a_damaged_note_counts_as_none(pickle, weights, taken, tmp_path, content):
    cache, gone = taken
    whole = note(cache).read_bytes()
    note(cache).write_bytes(content)
    assert UNKNOWN in refused(run(NAME, gone, tmp_path), gone)
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, _):
        assert run(NAME, address, tmp_path).stdout == TEXT
    assert note(cache).read_bytes() == whole


def test_in_a_cache_that_takes_no_note_each_run_asks(pickle, weights, tmp_path):
    cache = tmp_path / "hub" / "models--me--pickle"
    cache.mkdir(parents=True)
    (cache / "conversions").touch()  # in the way of the folder
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, asked):
        assert [run(NAME, address, tmp_path).stdout for _ in range(2)] == [TEXT] * 2
    assert sum("/discussions" in path for path in asked) == 2


def test_a_download_that_was_interrupted_is_one_line_without_a_network(taken, tmp_path):
    cache, gone = taken
    (cache / "snapshots" / COMMIT / "model.safetensors").unlink()
    done = run(NAME, gone, tmp_path)
    problem = f"gpt2.py: {NAME}: not a folder here, and model.safetensors cannot be downloaded from the hub: "
    said = done.stderr.decode().removeprefix(looking(NAME, gone) + TAKEN)
    assert done.returncode == 1 and said.startswith(problem) and said.count("\n") == 1


def test_its_folder_in_the_cache_loads_too(taken, tiny):
    cache, _ = taken
    _, hparams, params = loading.load(cache / "snapshots" / COMMITS["main"])
    assert hparams == tiny[1]
    assert_same_logits(gpt2.gpt2([1, 2, 3], **params, n_head=6), gpt2.gpt2([1, 2, 3], **tiny[2], n_head=6))


def test_it_is_listed_once_among_the_models_that_run(taken, tmp_path):
    from extras import available

    cache, _ = taken
    listed = [line.split() for line in available.lines(tmp_path / "none")][1:]
    assert listed == [[NAME, "14", "MB", str(cache / "snapshots" / COMMITS["main"])]]
    shutil.rmtree(cache / "conversions")
    assert len(list(available.lines(tmp_path / "none"))) == 1


def test_its_weights_are_checked_where_they_are(taken, tmp_path):
    from extras.check import check

    cache, _ = taken
    pull = cache / "snapshots" / COMMIT
    lines = list(check(NAME, "models"))
    assert f"{pull}: the weights, from the conversion bot's pull request, {NAME}@refs/pr/22" in lines
    assert [line for line in lines if line.startswith(f"{pull / 'model.safetensors'}: SHA-256 is right")]


@pytest.mark.faults
@pytest.mark.parametrize("change", ["flipped", "cut", "lost"])
def test_damaged_weights_can_be_had_again_as_the_error_says(pickle, weights, taken, tmp_path, change):
    from extras.check import check

    cache, _ = taken
    path = cache / "snapshots" / COMMIT / "model.safetensors"
    content = path.read_bytes()
    if change == "lost":
        path.unlink()
    else:
        path.write_bytes(content[:-4] + (bytes([content[-4] ^ 1]) + content[-3:]) * (change == "flipped"))
    advice = "hf download me/pickle --revision refs/pr/22 --force-download"
    with pytest.raises(ModelError, match=f"get a fresh copy: {advice}$"):
        list(check(NAME, "models"))
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, _):
        environment = without_unbuffered() | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
        words = [NAME, "model.safetensors", *advice.split()[3:]]
        code = "from huggingface_hub.cli.hf import main; main()"
        assert run_python("-c", code, "download", *words, env=environment).returncode == 0
    assert path.read_bytes() == content and list(check(NAME, "models"))


# ---- judge: transformers -----------------------------------------------------------------------------------

THEIRS = """if True:
    import sys
    import numpy as np
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained("me/pickle", use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained("me/pickle")
    ids = tokenizer("The little fox", return_tensors="pt").input_ids
    np.savez(sys.argv[1], ids=ids[0].numpy(), logits=model(ids).logits[0].detach().numpy())"""
OURS = """if True:
    import sys
    import numpy as np
    import gpt2
    from extras.huggingface import load
    encoder, hparams, params = load("me/pickle")
    ids = encoder.encode("The little fox")
    np.savez(sys.argv[1], ids=ids, logits=gpt2.gpt2(ids, **params, n_head=hparams["n_head"]))"""


@pytest.mark.parity
def test_transformers_takes_the_same_weights_from_the_same_hub(pickle, weights, tmp_path, transformers):
    weights = {"model.safetensors": weights["model.safetensors"]}
    with serve_hub({NAME: pickle}, {NAME: [pull_request(weights)]}) as (address, asked):
        for owner, code in {"theirs": THEIRS, "ours": OURS}.items():
            environment = without_unbuffered() | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / owner)}
            done = run_python("-c", code, tmp_path / f"{owner}.npz", env=environment)
            assert done.returncode == 0, done.stderr.decode()
    assert not [path for path in asked if path.endswith(".bin")]
    theirs, ours = (np.load(tmp_path / f"{owner}.npz") for owner in ("theirs", "ours"))
    assert theirs["ids"].tolist() == ours["ids"].tolist()
    assert_same_logits(ours["logits"], theirs["logits"])
