"""Adapters by name: on the command, from a folder or the hub, several at once, with their tokenizer."""

import io
import json
import shutil
import sys

import numpy as np
import pytest
from adapter_files import CONFIG, WEIGHTS, save, write_adapter
from helpers import ROOT, command, run, without_unbuffered, write_model
from local_hub import as_on_the_hub, downloading, serve_hub
from safetensors.numpy import load_file, save_file

import gpt2
import utils
from checkpoint import in_openai_layout
from encoder import Encoder
from extras import check, lora, scoring
from extras.huggingface import adapters, export, loading
from extras.untied import UntiedEmbedding
from files import ModelError
from weights import PRESETS, flatten, random_params

TINY = PRESETS["tiny"]
PROMPT = ["The little fox", "-n", "8"]
OPTIONS = [*PROMPT, "--model_size", "tiny"]
BEFORE = "base_model.model.transformer."
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An adapter for the bundled model, strong enough to change its text."""
    place = tmp_path_factory.mktemp("adapters") / "style"
    write_adapter(place, TINY, ("c_attn", "c_fc"), base_model_name_or_path="me/tiny")
    return place


@pytest.fixture(scope="module")
def bias(tmp_path_factory):
    """One that only has another bias in its last norm."""
    place = tmp_path_factory.mktemp("adapters") / "bias"
    arrays = {f"ln_f.{leaf}": rng.normal(1, 0.5, 192).astype(np.float32) for leaf in ("weight", "bias")}
    write_adapter(place, TINY, arrays=arrays, modules_to_save=["ln_f"])
    return place


def text_of(capsys, *words):
    """What the command writes."""
    status = run([str(word) for word in words])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


def continuation(tiny, params, n=8):
    encoder, hparams, _ = tiny
    new_ids = gpt2.generate(encoder.encode("The little fox"), params, hparams["n_head"], n)
    return encoder.decode(new_ids) + "\n"


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_what_the_adapted_model_writes(tiny, folder, capsys):
    base = text_of(capsys, *OPTIONS)
    wanted = continuation(tiny, lora.merge(tiny[2], adapters.load(folder, TINY)))
    assert text_of(capsys, *OPTIONS, "--lora", folder) == wanted != base
    assert text_of(capsys, *OPTIONS, f"--lora={folder}/") == wanted
    (folder / "README.md").write_text("# My adapter")
    for name in (WEIGHTS, CONFIG, "README.md"):
        assert text_of(capsys, *OPTIONS, "--lora", folder / name) == wanted
    assert text_of(capsys, *OPTIONS, f"--lora={folder}:0") == base


def test_several_are_merged_one_after_the_other_and_each_may_have_a_strength(tiny, folder, bias, capsys):
    params = lora.merge(tiny[2], adapters.load(folder, TINY), 0.25)
    wanted = continuation(tiny, lora.merge(params, adapters.load(bias, TINY), -1.5))
    assert text_of(capsys, *OPTIONS, "--lora", f"{folder}:0.25,{bias}:-1.5") == wanted
    assert text_of(capsys, *OPTIONS, "--lora", f"{bias}:-1.5,{folder}:.25") == wanted


def test_a_folder_whose_name_looks_like_several_or_like_a_strength_is_one(tiny, folder, tmp_path, capsys):
    wanted = text_of(capsys, *OPTIONS, "--lora", folder)
    for name in ("a,b", "v:2", "with space"):
        shutil.copytree(folder, tmp_path / name)
        assert text_of(capsys, *OPTIONS, "--lora", tmp_path / name) == wanted
    halved = text_of(capsys, *OPTIONS, "--lora", f"{folder}:0.5")
    for name in ("a,b", "v:2"):
        assert text_of(capsys, *OPTIONS, "--lora", f"{tmp_path / name}:0.5") == halved


def test_without_a_model_the_one_is_used_that_the_adapter_was_made_for(tiny, folder, tmp_path, capsys):
    export.save(tmp_path / "base", *tiny)
    shutil.copytree(folder, tmp_path / "mine")
    write_adapter(tmp_path / "mine", TINY, ("c_attn", "c_fc"), base_model_name_or_path=str(tmp_path / "base"))
    wanted = text_of(capsys, *OPTIONS, "--lora", folder)
    assert text_of(capsys, *PROMPT, "--lora", tmp_path / "mine") == wanted
    assert adapters.base_of(adapters.choose(tmp_path / "mine")) == str(tmp_path / "base")
    assert run(["--check", "--lora", str(tmp_path / "mine")]) == 0


def test_the_bundled_model_is_found_as_a_base_from_any_folder(folder, tmp_path, monkeypatch, capsys):
    wanted = text_of(capsys, *OPTIONS, "--lora", folder)
    write_adapter(tmp_path / "mine", TINY, ("c_attn", "c_fc"), base_model_name_or_path="tiny")
    monkeypatch.chdir(tmp_path)
    assert text_of(capsys, *PROMPT, "--lora", "mine") == wanted
    assert run(["--check", "--lora", "mine"]) == 0


def test_a_base_may_be_a_file_of_llama_cpp(tmp_path):
    (tmp_path / "base.gguf").touch()
    write_adapter(tmp_path / "mine", TINY, base_model_name_or_path=str(tmp_path / "base.gguf"))
    assert adapters.base_of(adapters.choose(tmp_path / "mine")) == str(tmp_path / "base.gguf")
    (tmp_path / "base.gguf").rename(tmp_path / "base.bin")  # another file is not a model
    write_adapter(tmp_path / "mine", TINY, base_model_name_or_path=str(tmp_path / "base.bin"))
    with pytest.raises(ModelError, match="it was made for .*base.bin, which is not here"):
        adapters.base_of(adapters.choose(tmp_path / "mine"))


@pytest.mark.parametrize("base", ["gpt2", "openai-community/gpt2"])
def test_a_base_that_was_downloaded_from_openai_is_not_downloaded_from_the_hub(tmp_path, capsys, base):
    write_adapter(tmp_path / "mine", TINY, base_model_name_or_path=base)
    chosen, model = adapters.choose(tmp_path / "mine"), tmp_path / "models" / "124M"
    for is_here in (False, True):
        assert adapters.base_of(chosen, str(tmp_path / "models")) == ("124M" if is_here else base)
        used = "which is here as 124M, and is used" if is_here else "which is used"
        said = f"{tmp_path / 'mine'} was made for {base}, {used} unless --model_size names another\n"
        assert capsys.readouterr().err == said
        model.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "models" / "tiny" / "model.ckpt.index", model)
    with pytest.raises(ModelError, match="124M: not downloaded yet, or only in part"):  # so it is the one
        list(check.check(None, str(tmp_path / "models"), str(tmp_path / "mine")))
    write_adapter(tmp_path / "mine", TINY, base_model_name_or_path=base, revision="v2")
    assert adapters.base_of(adapters.choose(tmp_path / "mine"), str(tmp_path / "models")) == f"{base}@v2"


def test_a_base_that_is_a_folder_is_not_the_model_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    write_adapter(tmp_path / "mine", TINY, base_model_name_or_path="tiny")
    monkeypatch.chdir(tmp_path)
    assert adapters.base_of(adapters.choose("mine")) == "./tiny"
    with pytest.raises(ModelError, match="it is empty"):
        utils.open_model(None, "models", "mine")


@pytest.mark.parametrize(
    "base, said",
    [
        ("/nowhere/base", "mine: it was made for /nowhere/base, which is not here; give --model_size"),
        (None, "mine: adapter_config.json does not say which model it was made for; give --model_size"),
        ("", "mine: adapter_config.json does not say which model it was made for; give --model_size"),
    ],
)
def test_a_base_that_is_not_here_is_to_be_given(tmp_path, capsys, base, said):
    write_adapter(tmp_path / "mine", TINY, base_model_name_or_path=base)
    assert run([*PROMPT, "--lora", str(tmp_path / "mine")]) == 1
    assert capsys.readouterr() == ("", f"gpt2.py: {tmp_path}/{said}\n")


def test_adapters_of_different_bases_need_a_named_model(tmp_path, capsys, tiny):
    for name in ("one", "two"):
        write_adapter(tmp_path / name, TINY, base_model_name_or_path=f"me/{name}")
    for name, base in (("three", "gpt2"), ("four", "openai-community/gpt2")):
        write_adapter(tmp_path / name, TINY, base_model_name_or_path=base)
    chosen = adapters.choose(f"{tmp_path / 'three'}, {tmp_path / 'four'}")
    assert adapters.base_of(chosen) == "gpt2"
    said = f"{tmp_path / 'three'} was made for gpt2, which is used unless --model_size names another"
    assert capsys.readouterr().err == f"{said}\n"
    both = f"{tmp_path / 'one'},{tmp_path / 'two'}"
    assert run([*PROMPT, "--lora", both]) == 2
    said = f"{tmp_path / 'one'} was made for me/one, {tmp_path / 'two'} for me/two: give --model_size"
    assert capsys.readouterr() == ("", f"gpt2.py: {said}\n")
    assert run([*OPTIONS, "--lora", both]) == 0


@pytest.mark.parametrize(
    "base, model, is_said",
    [
        ("gpt2", "124M", False),
        ("openai-community/gpt2", "gpt2", False),
        ("gpt2-medium", "355M", False),
        ("gpt2", "gpt2@main", False),
        ("microsoft/DialoGPT-small", "124M", True),
        ("gpt2", "distilgpt2", True),
        ("/home/me/gpt2", "124M", False),  # who knows
        ("gpt2", "tiny", True),
        ("me/gpt2", "somewhere/tiny/model", False),
        (None, "gpt2", False),
    ],
)
def test_it_is_said_if_the_model_is_another_than_the_adapters(capsys, base, model, is_said):
    adapters.say_if_another("style", base or "", model)
    said = f"style was made for {base}, not for {model}\n"
    assert capsys.readouterr().err == (said if is_said else "")


@pytest.mark.parametrize(
    "name, said",
    [
        (
            "nosuch",
            "lora is 'nosuch': there is no such folder; expected a folder with adapter_config.json, or a ",
        ),
        ("", "lora is '': there is no such folder; expected a folder"),
        ("models/tiny", "models/tiny: it is a model, not an adapter; give it as --model_size models/tiny"),
        (
            "docs",
            "docs: it has no adapter_config.json, so it is not an adapter of peft; an adapter is a ",
        ),
        ("README.md", "lora is 'README.md': expected a folder"),
        ("a/b/c:0.5", "lora is 'a/b/c': there is no such folder; expected a folder"),
    ],
)
def test_what_is_no_adapter_is_named(capsys, monkeypatch, name, said):
    monkeypatch.chdir(ROOT)
    assert run([*OPTIONS, f"--lora={name}"]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"gpt2.py: {said}") and err.count("\n") == 1


def test_of_a_trainers_folder_the_latest_adapter_is_given(folder, tmp_path, capsys):
    for step in (90, 100):
        shutil.copytree(folder, tmp_path / f"checkpoint-{step}")
    latest = tmp_path / "checkpoint-100"
    for words, advice in (
        (["-m", "tiny", "--lora", str(tmp_path)], f"give a folder inside it, such as {latest}"),
        (["-m", str(tmp_path)], f"give the latest, as --lora {latest}"),
        (["-m", str(latest)], f"not a model; it was made for me/tiny; give it as --lora {latest}"),
    ):
        (latest / "config.json").write_text("{}")  # which some programs leave there
        assert run([*PROMPT, *words]) in (1, 2)
        assert capsys.readouterr().err.rstrip("\n").endswith(advice)


def test_two_adapters_of_which_one_replaces_what_the_other_changes_are_refused(bias, tmp_path, capsys):
    arrays = {f"ln_f.{leaf}": rng.normal(1, 0.5, 192).astype(np.float32) for leaf in ("weight", "bias")}
    write_adapter(tmp_path / "bias", TINY, arrays=arrays, modules_to_save=["ln_f"])
    arrays = {f"h.{i}.attn.c_attn.weight": np.zeros((192, 576), np.float32) for i in range(6)}
    arrays |= {f"h.{i}.attn.c_attn.bias": np.zeros(576, np.float32) for i in range(6)}
    write_adapter(tmp_path / "whole", TINY, ("c_fc",), arrays=arrays, modules_to_save=["c_attn"])
    for one, two, name in (
        (bias, tmp_path / "bias", "ln_f/b"),
        (bias, tmp_path / "whole", "h0/attn/c_attn/w"),
        (tmp_path / "whole", bias, "h0/attn/c_attn/w"),
    ):
        assert run([*OPTIONS, "--lora", f"{one},{two}"]) == 1
        said = f"gpt2.py: {two}: it and {one} both change {name}, and one of them replaces it whole; use"
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(said) and err.count("\n") == 1


def test_arrays_that_two_adapters_have_in_common_are_put_in_place_once(tiny, bias, tmp_path, capsys):
    arrays = {name: load_file(bias / WEIGHTS)[f"{BEFORE}{name}"] for name in ("ln_f.weight", "ln_f.bias")}
    write_adapter(tmp_path / "other", TINY, ("c_fc",), arrays=arrays, modules_to_save=["ln_f"])
    params = lora.merge(tiny[2], adapters.load(bias, TINY))
    wanted = continuation(tiny, lora.merge(params, adapters.load(tmp_path / "other", TINY)))
    assert text_of(capsys, *OPTIONS, "--lora", f"{bias},{tmp_path / 'other'}") == wanted


def test_the_copies_of_the_base_beside_changed_heads_do_not_undo_each_other(tiny, tmp_path, capsys):
    folders, params = [tmp_path / name for name in ("one", "two", "three")], tiny[2]
    for folder in folders:
        a, b = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((3, 192), (4000, 3)))
        head = {"base_layer.weight": params["wte"], "lora_A.weight": a, "lora_B.weight": b}
        head = {f"base_model.model.lm_head.{name}": array for name, array in head.items()}
        save(folder, head, {"peft_type": "LORA", "r": 3, "lora_alpha": 3, "target_modules": ["lm_head"]})
        params = lora.merge(params, adapters.load(folder, TINY)._replace(arrays={}))
    assert text_of(capsys, *OPTIONS, "--lora", ",".join(map(str, folders))) == continuation(tiny, params)


def test_twice_the_same_adapter_is_twice_its_products(folder, capsys):
    twice = text_of(capsys, *OPTIONS, "--lora", f"{folder}:0.25,{folder}:0.25")
    assert twice == text_of(capsys, *OPTIONS, "--lora", f"{folder}:0.5")


@pytest.mark.parametrize("strength", ["101", "-101", "9" * 400])
def test_a_strength_beyond_all_measure_is_refused(folder, capsys, strength):
    assert run([*OPTIONS, "--lora", f"{folder}:{strength}"]) == 2
    said = f"lora is '{folder}' with a strength of {float(strength):g}: expected from -100 to 100"
    assert said in capsys.readouterr().err


def test_an_alpha_that_makes_weights_too_large_is_refused(tmp_path, capsys):
    write_adapter(tmp_path / "mine", TINY, lora_alpha=1_000_000)
    assert run([*OPTIONS, "--lora", str(tmp_path / "mine")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "h0/attn/c_attn/w, once merged, holds" in err and "no trained weight is above" in err
    assert err.endswith("; give a lower strength, such as FOLDER:0.1, or another adapter\n")


def test_an_alpha_that_makes_the_head_too_large_is_refused(tmp_path, capsys):
    a, b = np.ones((3, 192), np.float32), np.ones((4000, 3), np.float32)
    head = {f"base_model.model.lm_head.lora_{x}.weight": array for x, array in (("A", a), ("B", b))}
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 1_000_000, "target_modules": ["lm_head"]}
    save(tmp_path / "mine", head, config)
    assert run([*OPTIONS, "--lora", str(tmp_path / "mine")]) == 1
    assert "lm_head, once merged, holds 1e+06, but no trained" in capsys.readouterr().err


def test_a_pickle_is_not_read_but_the_command_that_converts_it_is_named(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "mine")
    (tmp_path / "mine" / WEIGHTS).rename(tmp_path / "mine" / "adapter_model.bin")
    assert run([*OPTIONS, "--lora", str(tmp_path / "mine")]) == 1
    pickle = tmp_path / "mine" / "adapter_model.bin"
    err = capsys.readouterr().err
    assert "it has no adapter_model.safetensors, but adapter_model.bin, a pickle, which could run any" in err
    assert err.endswith(f"run python -m extras.huggingface.convert {pickle} OUT_FOLDER\n")
    (tmp_path / "mine" / "adapter_model.bin").unlink()
    assert run([*OPTIONS, "--lora", str(tmp_path / "mine")]) == 1
    assert capsys.readouterr().err.endswith("it has no adapter_model.safetensors; get a fresh copy\n")


@pytest.mark.parametrize("option", ["--models", "--version"])
def test_a_report_that_has_no_use_for_an_adapter_refuses_it(capsys, option):
    assert run([option, "--lora", "x"]) == 2
    said = f"{option} and --lora cannot be used together: leave one out"
    assert capsys.readouterr() == ("", f"gpt2.py: {said}\n")


def test_check_compares_the_adapter_with_the_model(folder, tmp_path, capsys):
    assert run(["--check", "-m", "tiny", "--lora", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    needed = "its tensors are those that adapter_config.json and the model need, and finite"
    assert lines[-3] == f"{folder}: {needed}"
    assert lines[-1] == "nothing wrong was found"
    write_adapter(tmp_path / "other", TINY | {"n_embd": 48}, base_model_name_or_path="me/small")
    assert run(["--check", "-m", "tiny", "--lora", str(tmp_path / "other")]) == 1
    assert "; it was made for me/small" in capsys.readouterr().err
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    assert run(["--check", "-m", "tiny", "--lora", str(tmp_path / "broken")]) == 1
    assert "the vocabulary of" in capsys.readouterr().err


# ---- elsewhere ---------------------------------------------------------------------------------------------


def test_scoring_scores_with_the_adapted_model(tiny, folder, capsys):
    (encoder, hparams, params), text = tiny, "The little fox looked at the old wolf."
    assert run([str(write(folder.parent / "text.txt", text)), "-m", "tiny"], "extras.scoring") == 0
    base = capsys.readouterr().out
    assert run([str(folder.parent / "text.txt"), "-m=tiny", f"--lora={folder}"], "extras.scoring") == 0
    merged = lora.merge(params, adapters.load(folder, TINY))
    nats = scoring.nats(scoring.document_ids(text, encoder), merged, hparams["n_head"])
    out = capsys.readouterr().out
    assert f"nats a token   {nats.mean():.3f}\n" in out and out != base


def write(path, text):
    path.write_text(text)
    return path


def test_export_writes_the_merged_model(tiny, folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["tiny", str(out), f"--lora={folder}"], "extras.huggingface.export") == 0
    assert capsys.readouterr().out == f"tiny with {folder} -> {out}\n"
    merged = flatten(lora.merge(tiny[2], adapters.load(folder, TINY)))
    for name, array in flatten(loading.load(out)[2]).items():
        np.testing.assert_array_equal(array, merged[name])


def test_a_chat_answers_with_the_adapted_model(tiny, folder, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def reconfigure(self, **options):
            pass

    wanted = text_of(capsys, *OPTIONS, "--lora", folder)
    monkeypatch.setattr(sys, "stdin", Terminal("The little fox\n"))
    assert run(["-n", "8", "-m", "tiny", "--lora", str(folder)]) == 0
    assert wanted in capsys.readouterr().out


def test_from_python_it_is_one_call_or_two(tiny, folder):
    _, hparams, params = utils.load_encoder_hparams_and_params("tiny", "models", lora=folder)
    merged = flatten(lora.merge(tiny[2], adapters.load(folder, hparams)))
    for name, array in flatten(params).items():
        np.testing.assert_array_equal(array, merged[name])


# ---- tokenizers --------------------------------------------------------------------------------------------


def grown(encoder, *tokens):
    """The same tokenizer with more special tokens."""
    ids = dict(encoder.encoder) | {token: len(encoder.encoder) + i for i, token in enumerate(tokens)}
    merges = sorted(encoder.bpe_ranks, key=encoder.bpe_ranks.get)
    return Encoder(
        ids, merges, stop_tokens=["<|endoftext|>"], added_groups=[{*tokens, "<|endoftext|>"}, set()]
    )


def test_rows_for_new_tokens_come_with_the_tokenizer_that_has_them(tiny, tmp_path, capsys):
    rows = rng.normal(0, 0.3, (4002, 192)).astype(np.float32)
    write_adapter(tmp_path / "chat", TINY, arrays={"wte.weight": rows}, modules_to_save=["wte"])
    export_head(tmp_path / "chat", rows)
    assert run([*OPTIONS, "--lora", str(tmp_path / "chat")]) == 1
    said = "its embedding has 4,002 rows, but there is no tokenizer with as many tokens; add the tokenizer"
    assert said in capsys.readouterr().err
    larger = grown(tiny[0], "<|user|>", "<|model|>")
    export.write_tokenizer(tmp_path / "chat", larger, 256)
    name = str(tmp_path / "chat")
    encoder, hparams, params = utils.load_encoder_hparams_and_params("tiny", "models", lora=name)
    assert (hparams["n_vocab"], len(params["wte"]), params["wte"].shape) == (4002, 4002, (4002, 192))
    assert encoder.encode("<|user|>Hello", allowed_special="all")[0] == 4000
    assert encoder.stop_ids == tiny[0].stop_ids
    ids = encoder.encode("<|user|>The fox<|model|>", allowed_special="all")
    wanted = encoder.decode(gpt2.generate(ids, params, 6, 8))
    words = ["<|user|>The fox<|model|>", "--special", "-n=8", "-m=tiny", f"--lora={name}"]
    shown = text_of(capsys, *words).rstrip("\n")
    assert shown == wanted.replace("<|user|>", "").replace("<|model|>", "").rstrip("\n")


def export_head(folder, rows):
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"base_model.model.lm_head.weight": rows}, folder / WEIGHTS)


@pytest.mark.parametrize("is_tied", [True, False])
def test_more_rows_beside_a_changed_head_are_the_embeddings_too_if_it_is_tied(tiny, tmp_path, is_tied):
    encoder, hparams, params = tiny
    rows = np.concatenate([params["wte"], rng.normal(0, 0.3, (1, 192)).astype(np.float32)])
    a, b = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((3, 192), (4001, 3)))
    head = {"base_layer.weight": rows, "lora_A.weight": a, "lora_B.weight": b}
    tensors = {f"base_model.model.lm_head.{name}": array for name, array in head.items()}
    save(
        tmp_path / "mine",
        tensors,
        {"peft_type": "LORA", "r": 3, "lora_alpha": 3, "target_modules": ["lm_head"]},
    )
    export.write_tokenizer(tmp_path / "mine", grown(encoder, "<|user|>"), 256)
    base = params if is_tied else params | {"wte": UntiedEmbedding(params["wte"], params["wte"] + 1)}
    chosen = adapters.choose(tmp_path / "mine")
    found = adapters.adapted(chosen, "tiny", encoder, hparams, lambda: base)
    assert found[1]["n_vocab"] == len(found[0].encoder) == 4001
    if not is_tied:
        with pytest.raises(ModelError, match="the embedding would have 4,000 rows, the head 4,001"):
            found[2]()
        return
    wte = found[2]()["wte"]
    np.testing.assert_array_equal(wte.embedding, rows)
    np.testing.assert_allclose(wte.head, rows + b @ a, rtol=1e-5, atol=1e-6)


def test_of_two_adapters_the_tokenizer_counts_that_comes_with_the_rows(tiny, folder, tmp_path):
    rows = rng.normal(0, 0.3, (4001, 192)).astype(np.float32)
    write_adapter(tmp_path / "chat", TINY, arrays={"wte.weight": rows}, modules_to_save=["wte"])
    export_head(tmp_path / "chat", rows)
    export.write_tokenizer(tmp_path / "chat", grown(tiny[0], "<|user|>"), 256)
    shutil.copytree(folder, tmp_path / "style")
    export.write_tokenizer(tmp_path / "style", tiny[0], 256)
    for names in (f"{tmp_path / 'chat'},{tmp_path / 'style'}", f"{tmp_path / 'style'},{tmp_path / 'chat'}"):
        encoder, hparams, _ = utils.open_model("tiny", "models", names)
        assert encoder.encode("<|user|>", allowed_special="all") == [4000] and hparams["n_vocab"] == 4001


def test_a_token_without_a_row_is_left_out(tiny, folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "padded")
    export.write_tokenizer(tmp_path / "padded", tiny[0], 256)
    settings = json.loads((tmp_path / "padded" / "tokenizer.json").read_text())
    settings["added_tokens"].append(settings["added_tokens"][0] | {"id": 4000, "content": "[PAD]"})
    (tmp_path / "padded" / "tokenizer.json").write_text(json.dumps(settings))
    wanted = text_of(capsys, *OPTIONS, "--lora", folder)
    assert text_of(capsys, *OPTIONS, "--lora", tmp_path / "padded") == wanted


# ---- the hub -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory, tiny, folder):
    """A model and its adapter, as the hub has them."""
    models = {"me/tiny": as_on_the_hub(tmp_path_factory.mktemp("hub") / "model", tiny)}
    models["me/style"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return models


def ask(address, cache, *words, prompt=PROMPT):
    """The command, which knows this hub."""
    environment = without_unbuffered() | {"HF_ENDPOINT": address, "HF_HOME": str(cache)}
    return command(*prompt, *words, env=environment)


def test_an_adapter_on_the_hub_brings_its_base_and_then_needs_no_network(hub, folder, tmp_path, capsys):
    wanted = text_of(capsys, *OPTIONS, "--lora", folder).encode()
    with serve_hub(hub) as (address, _):
        first = ask(address, tmp_path, "--lora", "me/style")
        assert (first.returncode, first.stdout) == (0, wanted), first.stderr
        assert downloading(WEIGHTS, "127 KB", address).encode() in first.stderr
        assert ask(address, tmp_path, "-m=tiny", "--lora=me/style@main:1.0").stdout == wanted
    for words in (["--lora", "me/style"], ["-m=tiny", "--lora=me/style"]):
        alone = ask(address, tmp_path, *words)
        assert (alone.returncode, alone.stdout) == (0, wanted), alone.stderr
    checked = ask(address, tmp_path, "--check", "--lora=me/style", prompt=[])
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.endswith(b"nothing wrong was found\n") and WEIGHTS.encode() in checked.stdout


def test_on_the_hub_a_model_and_an_adapter_are_told_apart(hub, tmp_path):
    with serve_hub(hub) as (address, _):
        for words, said in (
            (["-m", "me/style"], b"it was made for me/tiny; give it as --lora me/style\n"),
            (
                ["-m=tiny", "--lora=me/tiny"],
                b"it is not an adapter of peft; a model is given as --model_size me/tiny\n",
            ),
            (["-m=tiny", "--lora=me/none"], b"not a public model on the Hugging Face hub"),
        ):
            done = ask(address, tmp_path, *words)
            assert done.returncode == 1 and done.stdout == b"" and said in done.stderr


@pytest.mark.parametrize("damaged", [CONFIG, WEIGHTS, "tokenizer.json"])
def test_of_a_damaged_file_on_the_hub_the_command_that_gets_it_again_is_named(hub, tmp_path, damaged):
    with serve_hub({"me/bad": hub["me/style"] | {damaged: b"{"}}) as (address, _):
        done = ask(address, tmp_path, "-m=tiny", "--lora=me/bad")
    assert done.returncode == 1 and f"{damaged}: ".encode() in done.stderr
    assert done.stderr.endswith(b"; get a fresh copy: hf download me/bad --revision main --force-download\n")


def test_a_pickle_on_the_hub_is_to_be_downloaded_and_converted(hub, tmp_path):
    files = {"adapter_model.bin": hub["me/style"][WEIGHTS], CONFIG: hub["me/style"][CONFIG]}
    with serve_hub({"me/old": files}) as (address, _):
        done = ask(address, tmp_path, "-m=tiny", "--lora=me/old")
    assert done.returncode == 1
    advice = (
        b"run hf download me/old --revision main --local-dir FOLDER; to convert a PyTorch checkpoint, run "
    )
    assert advice in done.stderr and b"convert FOLDER/adapter_model.bin OUT_FOLDER\n" in done.stderr


def test_an_adapter_that_does_not_fit_is_refused_before_the_models_weights_are_read(tmp_path):
    hparams = TINY | {"n_embd": 24, "n_head": 3, "n_layer": 2}
    base = write_model(tmp_path / "base", in_openai_layout(flatten(random_params(hparams, rng))), hparams)
    write_adapter(tmp_path / "mine", TINY)
    (base / "model.ckpt.index").unlink()
    with pytest.raises(ModelError, match="lora_A.weight has shape"):
        utils.open_model(str(base), "models", str(tmp_path / "mine"))
