"""python -m extras.page: one new file and one line, or one line that says what is wrong and no file."""

import copy
import inspect
import os
import re

import numpy as np
import pytest
from adapter_files import write_adapter
from helpers import ROOT, assert_same_logits, data_of, run, run_python, unpacked

import gpt2
import utils
from extras import inside, lora
from extras.huggingface import adapters
from extras.page import arrays, command
from files import shown_size
from weights import PRESETS, random_params

FOX = "The little fox looked at the old wolf, and the old"
NAME = "extras.page.command"
SPECIAL = "<|endoftext|>The fox"


def page_of(path):
    return data_of(path.read_text("utf-8"))


def assert_same_numbers(found, wanted):
    """What a page has is what `arrays` computes."""
    assert found.keys() == wanted.keys()
    for name, packed in found.items():
        array = unpacked(packed)
        if array.dtype == np.float32 and name != "bins":
            assert_same_logits(array, wanted[name])
        elif name != "bins":
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def started(capsys, *words):  # -> status, stdout, stderr
    status = run([str(word) for word in words], NAME)
    return status, *capsys.readouterr()


def written(capsys, path, *words):
    """The data of the page that the program writes; it must not say anything else."""
    line = started(capsys, *words, "--out", path)
    assert line == (0, f"{path}: {shown_size(path.stat().st_size)}; open it in a browser\n", "")
    return page_of(path)


# ---- what it writes ----------------------------------------------------------------------------------------


def test_it_writes_one_file_and_one_line(tmp_path, tiny):
    path = tmp_path / "new" / "fox.html"
    done = run_python("-m", "extras.page", FOX, "--model_size", "tiny", "--out", str(path))
    line = f"{path}: {shown_size(path.stat().st_size)}; open it in a browser\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, line, b"")
    assert [p.name for p in tmp_path.rglob("*")] == ["new", "fox.html"]
    encoder, hparams, params = tiny
    ids = encoder.encode(FOX)
    data = page_of(path)
    all_ids = [*ids, *gpt2.generate(ids, params, 6, 8)]
    assert (data["ids"], data["n_prompt"], data["model"]) == (all_ids, len(ids), "tiny")
    found = arrays.of_text(all_ids, params, 6)
    assert_same_numbers(data["arrays"], found)
    twin = random_params(hparams, np.random.default_rng(0))
    assert_same_numbers(data["twin"], arrays.of_twin(all_ids, twin, 6, found["pairs"]))


def test_by_default_the_page_is_page_html_here(tmp_path):
    words = ("The fox", "--model_size=tiny", "--n_tokens_to_generate=1", "--no_cuts")
    done = run_python(str(ROOT / "extras" / "page" / "__main__.py"), *words, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(b"page.html: ") and done.stderr == b""
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("n", [0, 1, 4])
def test_the_cuts_are_of_the_token_after_the_prompt(tmp_path, capsys, tiny, n):
    encoder, hparams, params = tiny
    cuts = written(capsys, tmp_path / "a.html", FOX, "-m", "tiny", "-n", n)["cuts"]
    ids = encoder.encode(FOX)
    next_id = int(np.argmax(gpt2.gpt2(ids, **params, n_head=6)[-1]))
    likely = unpacked(cuts["likely"])
    np.testing.assert_allclose(likely, inside.probability_without_heads(next_id, ids, params, 6), rtol=1e-5)
    layer, head = arrays.telling_head(arrays.of_text(ids, params, 6)["scores"], len(ids) - 1, likely)
    twin = random_params(hparams, np.random.default_rng(0))
    logits = gpt2.gpt2(ids, **inside.without_head(twin, 6, layer, head), n_head=6)[-1]
    np.testing.assert_allclose(unpacked(cuts["twin"]), [gpt2.softmax(logits)[next_id]], rtol=1e-5)


def test_no_cuts_leaves_them_out_and_nothing_else(tmp_path, capsys):
    quick = written(capsys, tmp_path / "a.html", FOX, "-m", "tiny", "--no_cuts")
    whole = written(capsys, tmp_path / "b.html", FOX, "-m", "tiny")
    assert quick["cuts"] is None and {*whole["cuts"]} == {"likely", "twin"}
    assert quick | {name: whole[name] for name in ("cuts", "head")} == whole
    scores = unpacked(whole["arrays"]["scores"])
    opening = whole["n_prompt"] - 1
    assert quick["head"] == [*arrays.telling_head(scores, opening)]
    assert whole["head"] == [*arrays.telling_head(scores, opening, unpacked(whole["cuts"]["likely"]))]


def test_the_same_prompt_gives_the_same_file(tmp_path, capsys):
    for name in ("a.html", "b.html"):
        written(capsys, tmp_path / name, FOX, "-m", "tiny", "-n", 2)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("n", [0, 59])
def test_as_many_tokens_are_added_as_the_page_can_show_beside_the_last_of_the_prompt(
    tmp_path, capsys, tiny, n
):
    long = "The old wolf and the fox. " * 10
    data = written(capsys, tmp_path / "a.html", long, "-m", "tiny", "-n", n, "--no_cuts")
    ids = tiny[0].encode(long)
    assert data["n_prompt"] == len(ids) and data["first"] == len(ids) + n - 60
    assert data["ids"] == [*ids, *gpt2.generate(ids, tiny[2], 6, n)][-60:]


def test_the_model_writes_up_to_the_end_of_a_text_and_the_end_is_shown(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode(FOX)
    new_ids = gpt2.generate(ids, params, 6, 4)
    ends = copy.copy(encoder)
    ends.stop_ids = {new_ids[2]}
    data = command.computed(ids, params, ends, hparams, "tiny", 4, with_cuts=False)
    assert data["ids"] == [*ids, *new_ids[:3]] and data["n_prompt"] == len(ids)


def test_a_prompt_may_be_piped_in_and_in_any_alphabet(tmp_path, tiny):
    path = tmp_path / "a.html"
    words = ("--model_size=tiny", "-n=1", "--no_cuts", "--out", str(path))
    done = run_python("-m", "extras.page", *words, input="狐 $title </script>\n".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    ids = tiny[0].encode("狐 $title </script>")
    assert page_of(path)["ids"][:-1] == ids and page_of(path)["characters"][:3] == ["狐"] * 3


def test_a_special_token_is_one_token_with_special_and_plain_text_without(tmp_path, capsys, tiny):
    words = [SPECIAL, "-m", "tiny", "-n", "0", "--no_cuts"]
    special = written(capsys, tmp_path / "a.html", *words, "--special")
    assert special["ids"] == tiny[0].encode(SPECIAL, allowed_special="all")
    assert special["labels"][str(special["ids"][0])] == "<|endoftext|>"
    status, _, err = started(capsys, *words, "--out", tmp_path / "b.html")
    line = "'<|endoftext|>' in the prompt is read as plain text; --special makes it the token\n"
    assert (status, err) == (0, line)
    assert page_of(tmp_path / "b.html")["ids"] == tiny[0].encode(SPECIAL)


def test_the_page_is_of_the_adapted_model(tmp_path, capsys, tiny):
    write_adapter(tmp_path / "style", PRESETS["tiny"], ("c_attn", "c_fc"))
    words = [FOX, "-m", "tiny", "-n", "0", "--no_cuts"]
    data = written(capsys, tmp_path / "a.html", *words, "--lora", tmp_path / "style")
    merged = lora.merge(tiny[2], adapters.load(tmp_path / "style", tiny[1]))
    assert_same_numbers(data["arrays"], arrays.of_text(tiny[0].encode(FOX), merged, 6))


def test_of_a_large_model_there_is_no_control_and_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "LARGEST_TWIN", 10**6)
    monkeypatch.setattr(command, "random_params", lambda *arguments: pytest.fail("made"))
    status, out, err = started(capsys, FOX, "-m", "tiny", "-n", 0, "--out", tmp_path / "a.html")
    said = "the page has no random twin as a control: for a model this large it would need too much memory\n"
    assert (status, err) == (0, said) and out.startswith(str(tmp_path / "a.html"))
    data = page_of(tmp_path / "a.html")
    assert data["twin"] is None and {*data["cuts"]} == {"likely"}


def test_a_name_that_commands_a_terminal_is_shown_spelled_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, _ = started(capsys, "The", "-m", "tiny", "-n", 0, "--no_cuts", "--out", "a\x1b[31m\n.html")
    assert status == 0 and out.startswith(r"a\x1b[31m\n.html: ") and out.count("\n") == 1


# ---- what it refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, message",
    [
        (["The fox", "--out", "old.html"], r"old\.html exists: name a new file with --out$"),
        (["The fox", "--out", "folder"], "folder exists: name a new file with --out$"),
        (["The fox", "--out="], "out is '': give the name of a new file$"),
        (["The fox", "--out=pages/"], "out is 'pages/': give the name of a new file$"),
        (["The fox", "-n", "60"], "n_tokens_to_generate is 60: the page shows 60 tokens, .* at most 59$"),
        (["The fox", "-n=-1"], "n_tokens_to_generate is '-1': it must be a whole number, 0 or more"),
        ([""], "the prompt is empty: give a text to continue"),
        ([], "the prompt is empty: give a text to continue"),
        (
            ["fox, " * 125],
            "253 prompt tokens and 8 new ones, but the model sees 256: at most 3 new ones fit$",
        ),
        (["fox, " * 200, "-n", "0"], "the model sees 256: shorten the prompt$"),
        (["a" * 99_999], "the text has 99,999 characters, but the model sees 256 tokens"),
        (
            ["The fox", "again"],
            "'again': it must be a whole number, .*; a prompt of several words goes in quo",
        ),
        (["The fox", "--nocuts"], "there is no option '--nocuts': did you mean --no_cuts"),
        (["The fox", "--no_cuts=1"], "--no_cuts is given '1': it takes no value$"),
        (["a\udcffb"], "the prompt is not valid UTF-8 at byte 2"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, words, message
):
    (tmp_path / "old.html").write_text("mine")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", open(os.devnull))
    monkeypatch.setattr(command, "computed", lambda *arguments: pytest.fail("computed"))
    status, out, err = started(capsys, *words, "-m", "tiny")
    assert (status, out, err.count("\n")) == (2, "", 1) and re.search(message, err.rstrip("\n")), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "old.html"]
    assert (tmp_path / "old.html").read_text() == "mine" and list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("words", [["--out", "old.html"], ["--out", "x.html", "-n", "60"]])
def test_that_is_found_before_a_model_is_looked_for(tmp_path, monkeypatch, capsys, words):
    (tmp_path / "old.html").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "open_model", lambda *arguments: pytest.fail("opened"))
    assert started(capsys, "The fox", *words)[0] == 2


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    words = ["The", "-m", "tiny", "-n", 0, "--no_cuts", "--out", tmp_path / "file" / "a.html"]
    status, out, err = started(capsys, *words)
    assert (status, out, err.count("\n")) == (1, "", 1) and [*tmp_path.iterdir()] == [tmp_path / "file"]


# ---- the program -------------------------------------------------------------------------------------------


def test_help_names_every_option_and_its_default(capsys):
    status, out, err = started(capsys, "--help")
    assert (status, err) == (0, "") and out.startswith(command.HELP)
    parameters = inspect.signature(command.command).parameters
    for name, parameter in parameters.items():
        named = re.search(rf"^(?:-\w, )?--{name}\b(.*)$", out, re.MULTILINE)
        assert named or name == "prompt", name
        if name in ("out", "n_tokens_to_generate"):
            assert named[1].split()[0] == str(parameter.default)
    assert re.search(rf"--model_size {utils.DEFAULT}\n", out) and "by default page.html" in out
    assert f"0 to {arrays.N_SHOWN - 1}" in out
    options = re.findall(r"^(?:-\w, )?--(\w+)", command.HELP, re.MULTILINE)
    assert {*options} == {*parameters} - {"prompt"}
    assert all(len(line) <= 80 for line in out.splitlines())


WITHOUT = """
import sys
for name in ("matplotlib", "numba", "torch", "tensorflow", "transformers", "tokenizers", "safetensors",
             "huggingface_hub", "scipy", "PIL", "IPython"):
    sys.modules[name] = None
from program import run
raise SystemExit(run("extras.page.command", argv=sys.argv[1:]))
"""


def test_it_needs_only_what_the_command_needs(tmp_path):
    path = tmp_path / "a.html"
    done = run_python("-c", WITHOUT, "The fox", "-m", "tiny", "-n", "1", "--out", str(path))
    assert (done.returncode, done.stderr) == (0, b"") and page_of(path)["model"] == "tiny"
