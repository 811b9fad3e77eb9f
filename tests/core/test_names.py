"""Names of models: a wrong one is told what is wrong with it, and which is probably meant."""

import os

import numpy as np
import pytest
from helpers import ROOT, run_python

import names
import utils
from files import ModelError, quoted

KNOWN = names.ALLOWED.removesuffix(" (gpt2, owner/name)")


def refusal(name):
    """What is said of the name of a model that is refused."""
    with pytest.raises(ValueError) as caught:
        utils.find_model(name, "models")
    assert not isinstance(caught.value, ModelError) and str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    "name, meant",
    [
        ("Tiny", "tiny"),
        ("TINY", "tiny"),
        ("tiny ", "tiny"),
        ("tinny", "tiny"),
        ("124m", "124M"),
        ("124", "124M"),
        ("127M", "124M"),
        ("117m", "124M"),
        ("124M@v1", "124M"),
        ("gpt2-124M", "124M"),
        ("small", "124M"),
        ("medium", "355M"),
        ("Large", "774M"),
        ("XL", "1558M"),
        ("1.5B", "1558M"),
        ("gpt2-1.5B", "1558M"),
        ("gpt2-small", "gpt2"),
        ("gpt2_xl", "gpt2-xl"),
        ("GPT-2 XL", "gpt2-xl"),
        ("gpt-2", "gpt2"),
        ("GPT2", "gpt2"),
        ("gpt2-meduim", "gpt2-medium"),
        ("distil-gpt2", "distilgpt2"),
        ("https://huggingface.co/owner/name", "owner/name"),
        ("https://huggingface.co/owner/name/tree/main", "owner/name"),
        ("https://huggingface.co/owner/name/tree/v2/", "owner/name@v2"),
        ("https://huggingface.co/owner/name/blob/main/config.json", "owner/name"),
        ("https://huggingface.co/owner/name?library=transformers", "owner/name"),
        ("https://huggingface.co/gpt2/tree/main", "gpt2"),
        ("huggingface.co/owner/name", "owner/name"),
        ("huggingface.co/gpt2", "gpt2"),
        ("https://hf-mirror.com/owner/name", "owner/name"),
        ("hf.co/owner/name", "owner/name"),
        ("hf://owner/name", "owner/name"),
        ("owner/name/tree/main", "owner/name"),
        ("owner/name/", "owner/name"),
        ("owner/name ", "owner/name"),
        ("models/124M", "124M"),
        (r"models\124M", "124M"),
        ("../tiny", "tiny"),
        (r"..\tiny", "tiny"),
    ],
)
def test_the_model_that_was_probably_meant_is_named(tmp_path, monkeypatch, name, meant):
    monkeypatch.chdir(tmp_path)
    said = refusal(name)
    assert f"'{name}'" in said and f"{KNOWN} (gpt2, owner/name); did you mean {meant}?" in said


@pytest.mark.parametrize("name", ["none", "no", "5", "hello", "bert", "llama", "", "-", "--seed", "./nosuch"])
def test_where_nothing_is_similar_nothing_is_guessed(name):
    assert "did you mean" not in refusal(name)


@pytest.mark.parametrize(
    "name", ["./nosuch", "../nosuch", "/none/x", "a/b/c", r"C:\models\x", r"..\x", "~/none", "models/none"]
)
def test_a_path_that_is_not_there_is_said_not_to_be_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert refusal(name) == f"model_size is '{name}': there is no such folder; {KNOWN} (gpt2, owner/name)"


def test_a_folder_that_the_shell_would_have_found_is_named(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "out").mkdir()
    for name in ("~/out", "$HOME/out"):
        assert refusal(name).endswith(f"did you mean {quoted((tmp_path / 'out').as_posix())}?")


@pytest.mark.skipif(os.name == "nt", reason="there it is a folder")
def test_a_folder_as_windows_writes_it_is_recognised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "my model").mkdir(parents=True)
    assert refusal(r"out\my model").endswith("did you mean 'out/my model'?")


@pytest.mark.parametrize(
    "name, kind", [("README.md", "a text"), ("a/b.txt", "a text"), ("notes.json", "a file"), ("x", "a file")]
)
def test_of_any_other_file_it_is_said_that_a_model_is_a_folder(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / name).touch()
    assert (
        refusal(name)
        == f"model_size is {name!r}, {kind}, but a model is a folder: {KNOWN} (gpt2, owner/name)"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/null")
def test_a_device_is_no_model():
    assert refusal("/dev/null").startswith(f"model_size is '/dev/null', neither a folder nor a file: {KNOWN}")


def test_a_long_or_unprintable_name_is_shown_on_one_short_line():
    assert "'\\x1b[31m\\n'" in refusal("\x1b[31m\n") and "'\\udcff'" in refusal("\udcff")
    assert "xxx...'" in refusal("x" * 10**5) and len(refusal("x" * 10**5)) < 500


def test_names_spelled_otherwise_are_understood(n_fuzz, tmp_path, monkeypatch):
    """Random spellings of a name: the error names it, except perhaps where a letter is wrong."""
    monkeypatch.chdir(tmp_path)
    changes = {
        "case": lambda name, rng: "".join(c.upper() if rng.random() < 0.5 else c.lower() for c in name),
        "separator": lambda name, rng: name.replace("-", rng.choice(["_", " ", "--", " - "])),
        "space": lambda name, rng: rng.choice(["", " "]) + name + rng.choice([" ", "\t", "\n"]),
        "address": lambda name, rng: (
            "https://huggingface.co/me/" + name.lower() + rng.choice(["", "/", "/tree/main"])
        ),
        "folder": lambda name, rng: rng.choice(["./", "../", "a/b/", "models/", "models\\"]) + name,
        "letter": lambda name, rng: name[: (at := rng.integers(len(name)))] + "q" + name[at + 1 :],
    }
    counts = dict.fromkeys([*changes, "accepted", "letter understood"], 0)
    for i in range(n_fuzz):
        rng = np.random.default_rng(i)
        name = str(rng.choice(["tiny", *names.RELEASED, *names.SHORT_NAMES]))
        kind = str(rng.choice([*changes]))
        spelled = str(changes[kind](name, rng))
        try:
            utils.find_model(spelled, "models")
            assert spelled == name
            counts["accepted"] += 1
            continue
        except ValueError as error:
            said = str(error)
        assert said.isprintable() and len(said) < 500
        counts[kind] += 1
        if kind == "letter":
            counts["letter understood"] += said.endswith(f"; did you mean {name}?")
        else:
            meant = [f"me/{name.lower()}"] if kind == "address" else [name, names.SHORT_NAMES.get(name)]
            assert said.endswith(tuple(f"; did you mean {each}?" for each in meant)), (spelled, said)
    print(counts)
    assert min(counts.values()) >= n_fuzz / 40 and counts["letter understood"] > counts["letter"] / 2


def test_the_folder_of_models_is_the_one_beside_the_program_or_that_of_the_environment(tmp_path):
    ask = "import names; print(names.MODELS_DIR)"
    for value, wanted in ((None, ROOT / "models"), ("", ROOT / "models"), (str(tmp_path), tmp_path)):
        environment = {key: text for key, text in os.environ.items() if key != "PLAINGPT_MODELS_DIR"}
        environment |= {} if value is None else {"PLAINGPT_MODELS_DIR": value}
        done = run_python("-c", ask, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, check=True)
        assert done.stdout.decode().strip() == str(wanted)


def test_a_file_of_llama_cpp_that_is_missing_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("out/x.gguf", "x.gguf", "./x.gguf"):
        assert not names.is_hub_name(name) and ": there is no such file; expected" in refusal(name)
    assert names.is_hub_name("owner/x-gguf")
