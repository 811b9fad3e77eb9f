"""The way out: what is written is read back as the same model; the parity lane asks transformers."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from helpers import (
    ROOT,
    command,
    every_variant,
    lively_params,
    run,
    run_python,
    without_unbuffered,
    write_huggingface,
    write_model,
)
from safetensors import SafetensorError

import files
import gpt2
import weights
from checkpoint import in_openai_layout
from encoder import Encoder
from extras import huggingface
from extras.huggingface import export, loading
from extras.huggingface.prepared import PreparedEncoder, as_gpt2s
from extras.huggingface.variants import exact_gelu
from extras.untied import UntiedEmbedding
from weights import flatten

HPARAMS = {"n_vocab": 4000, "n_ctx": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}
FILES = {
    "config.json",
    "merges.txt",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}


def test_what_takes_long_is_said(tmp_path, monkeypatch, capsys):
    assert run(["tiny", str(tmp_path / "quiet")], "extras.huggingface.export") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(files, "LARGE", 10**6)
    assert run(["tiny", str(tmp_path / "out")], "extras.huggingface.export") == 0
    assert capsys.readouterr().err == "checking tiny, then writing it: 14 MB\n"


def test_the_command_checks_a_model_and_exports_it(tmp_path, tiny):
    words = ("-m", "extras.huggingface.export")
    done = run_python(*words, "tiny", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"tiny -> {tmp_path / 'out'}\n".encode()
    assert_same_model(huggingface.load(tmp_path / "out"), tiny)

    folder = write_model(tmp_path / "model", in_openai_layout(flatten(tiny[2])), tiny[1])
    data = folder / "model.ckpt.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    done = run_python(*words, str(folder), str(tmp_path / "damaged"))
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"do not match their checksum" in done.stderr and not (tmp_path / "damaged").exists()

    done = run_python(*words, "tiny")
    assert done.returncode == 2 and b"give a model and a folder" in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["extras.huggingface.export", "tiny", "out"],
            b"safetensors: pip install -r requirements-extras.txt\n",
        ),
        (["extras.huggingface.export", "--help"], b""),
        (["extras.huggingface.convert", "--help"], b""),
    ],
)
def test_without_the_library_a_command_says_in_one_line_what_to_install(tmp_path, words, message):
    (tmp_path / "safetensors.py").write_text("raise ImportError('no safetensors')\n")
    done = run_python("-m", *words, env=without_unbuffered() | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == bool(message) and done.stderr.count(b"\n") == bool(message)
    assert done.stderr.endswith(message)


@pytest.fixture
def params():
    return lively_params(HPARAMS, seed=1)


def assert_same_model(ours, theirs):
    """Encoder, hparams and params, equal to the last bit."""
    (encoder, hparams, params), (encoder_2, hparams_2, params_2) = ours, theirs
    assert encoder_2.encoder == encoder.encoder and encoder_2.bpe_ranks == encoder.bpe_ranks
    assert encoder_2.special_tokens == encoder.special_tokens
    assert encoder_2.stop_ids == encoder.stop_ids and hparams_2 == hparams
    leaves, leaves_2 = flatten(params), flatten(params_2)
    assert leaves_2.keys() == leaves.keys()
    for name, leaf in leaves.items():
        if isinstance(leaf, UntiedEmbedding):
            assert np.array_equal(leaves_2[name].T, leaf.T) and np.array_equal(leaves_2[name][:], leaf[:])
        elif isinstance(leaf, np.ndarray):
            assert np.array_equal(leaves_2[name], leaf) and leaves_2[name].dtype == np.float32
        else:
            assert leaves_2[name] == leaf


def test_the_bundled_model_comes_back_as_it_was(tmp_path, tiny):
    export.save(tmp_path / "out", *tiny)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert_same_model(tiny, huggingface.load(tmp_path / "out"))
    words = ("The little fox", "--model_size")
    assert command(*words, str(tmp_path / "out")).stdout == command(*words, "tiny").stdout


def test_vocab_json_and_merges_txt_alone_are_the_same_tokenizer(tmp_path, tiny):
    export.save(tmp_path / "out", *tiny)
    (tmp_path / "out" / "tokenizer.json").unlink()
    assert_same_model(tiny, huggingface.load(tmp_path / "out"))


def test_variants_come_back_as_they_were(tmp_path, tiny):
    hparams, params = every_variant(HPARAMS)
    export.save(tmp_path / "out", tiny[0], hparams, params)
    assert_same_model((tiny[0], hparams, params), huggingface.load(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_a_folded_scale_of_attention_is_written_as_the_numbers_it_made(tmp_path, tiny, params):
    tensors = {loading.huggingface_name(name): array for name, array in flatten(params).items()}
    folder = write_huggingface(tmp_path / "in", tensors, HPARAMS, scale_attn_by_inverse_layer_idx=True)
    model = huggingface.load(folder)
    export.save(tmp_path / "out", *model)
    assert model[1]["query_scales"] == [1, 0.5]  # noted, for adapters of the model that it was
    assert_same_model(model, huggingface.load(tmp_path / "out"))
    assert not np.array_equal(
        model[2]["blocks"][1]["attn"]["c_attn"]["w"], params["blocks"][1]["attn"]["c_attn"]["w"]
    )


@pytest.mark.parametrize("stop_tokens", [["</s>"], ["</s>", "<pad>", "the"], []])
def test_added_tokens_and_another_end_come_back(tmp_path, tiny, params, stop_tokens):
    tokens = [token for token in tiny[0].encoder if token != "<|endoftext|>"][:-2]
    merges = [merge for merge in tiny[0].bpe_ranks if "".join(merge) in tokens]
    ids = {token: i for i, token in enumerate(["<pad>", *tokens, "</s>", "two words"])}
    groups = [{"<pad>", "he", "</s>"}, {"two words"}]
    encoder = Encoder(ids, merges, stop_tokens=stop_tokens, added_groups=groups)
    model = encoder, HPARAMS, params
    export.save(tmp_path / "out", *model)
    read = huggingface.load(tmp_path / "out")
    assert_same_model(model, read)
    text = "<pad>two words, the fox</s>"
    assert read[0].added_groups == groups
    assert read[0].encode(text, "all") == encoder.encode(text, "all") != encoder.encode(text)


def assert_comes_back(folder, encoder, params, text):
    """The same ids, with special tokens and without, from the folder and from one that is written from it."""
    hparams = HPARAMS | {"n_vocab": len(encoder.encoder)}
    params = lively_params(hparams, seed=1)
    export.save(folder / "1", encoder, hparams, params)
    read = huggingface.load(folder / "1")
    export.save(folder / "2", *read)
    for again in (read[0], huggingface.load(folder / "2")[0]):
        assert again.encode(text) == encoder.encode(text) and again.encode(text, "all") == encoder.encode(
            text, "all"
        )
        assert again.special_tokens == encoder.special_tokens and again.encoder == encoder.encoder
        assert type(again) is type(encoder) and again.begin_id == encoder.begin_id


def test_a_vocabulary_of_characters_comes_back(tmp_path, params):
    ids = {character: i for i, character in enumerate("ĊĠabcdef")} | {"é": 8, "中": 9}
    encoder = Encoder(ids, [], stop_tokens=[], added_groups=[{"é", "中"}], special_tokens=[])
    assert encoder.encode("fée\n中 a") == [7, 8, 6, 0, 9, 1, 2]
    assert_comes_back(tmp_path, encoder, params, "fée\n中 a")


def test_an_added_word_that_is_not_special_comes_back(tmp_path, tiny, params):
    ids = tiny[0].encoder | {"foxling": 4000, "<pad>": 4001}
    groups, special = [{"<pad>", "<|endoftext|>"}, {"foxling"}], {"<pad>", "<|endoftext|>"}
    encoder = Encoder(ids, tiny[0].bpe_ranks, added_groups=groups, special_tokens=special)
    assert 4000 in encoder.encode("a foxling<pad>") and 4001 not in encoder.encode("a foxling<pad>")
    assert_comes_back(tmp_path, encoder, params, "a foxling<pad><|endoftext|>")


@pytest.mark.parametrize("normalizer", [None, {"type": "Lowercase"}])
def test_another_preparation_of_a_text_comes_back(tmp_path, tiny, params, normalizer):
    settings = as_gpt2s(tiny[0].encoder, tiny[0].bpe_ranks) | {"normalizer": normalizer}
    settings["pre_tokenizer"] = settings["pre_tokenizer"] | {"add_prefix_space": True}
    stripping = {"lstrip": {"<|endoftext|>"}, "rstrip": set()}
    encoder = PreparedEncoder(settings, stripping, tiny[0].encoder, tiny[0].bpe_ranks)
    assert encoder.encode("the Fox") == tiny[0].encode(" the fox" if normalizer else " the Fox")
    assert_comes_back(tmp_path, encoder, params, "The Fox <|endoftext|> the fox")
    config = json.loads((tmp_path / "1" / "tokenizer_config.json").read_text())
    assert config["add_prefix_space"] is True and config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_arrays_in_another_order_of_memory_are_written_right(tmp_path, tiny, params):
    params["wte"] = np.asfortranarray(params["wte"])
    params["blocks"][0]["mlp"]["c_fc"]["w"] = np.repeat(params["blocks"][0]["mlp"]["c_fc"]["w"], 2, axis=1)[
        :, ::2
    ]
    export.save(tmp_path / "out", tiny[0], HPARAMS, params)
    assert_same_model((tiny[0], HPARAMS, params), huggingface.load(tmp_path / "out"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_all_files_may_be_read_by_whom_new_files_may(tmp_path, tiny, params):
    umask = os.umask(0o022)
    try:
        export.save(tmp_path / "out", tiny[0], HPARAMS, params)
    finally:
        os.umask(umask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o644}


# ---- what is not written -----------------------------------------------------------------------------------


def mixed_eps(params, hparams):
    params["ln_f"]["eps"] = 1e-6


def mixed_acts(params, hparams):
    params["blocks"][0]["mlp"]["act"] = exact_gelu


def own_act(params, hparams):
    for block in params["blocks"]:
        block["mlp"]["act"] = np.sin


def lacking(params, hparams):
    del params["blocks"][1]["ln_1"]["b"]


def no_wte(params, hparams):
    del params["wte"]


def one_more(params, hparams):
    params["blocks"][1]["ln_1"]["c"] = np.zeros(24, np.float32)


def transposed(params, hparams):
    params["wpe"] = params["wpe"].T


def no_array(params, hparams):
    params["blocks"][0]["mlp"]["c_fc"]["w"] = "quantised"


def other_layers(params, hparams):
    hparams["n_layer"] = 3


def other_tokens(params, hparams):
    hparams["n_vocab"], params["wte"] = 3000, params["wte"][:3000]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (mixed_eps, "one eps for all norms"),
        (mixed_acts, "and one act, known by name"),
        (own_act, "one act, known by name, for all"),
        (lacking, r"h1/ln_1/b has shape None in params, \(24,\) according to hparams"),
        (no_wte, r"wte has shape None in params, \(4000, 24\)"),
        (one_more, r"h1/ln_1/c has shape \(24,\) in params, None according to hparams"),
        (transposed, r"wpe has shape \(24, 32\) in params, \(32, 24\)"),
        (no_array, "h0/mlp/c_fc/w has shape None in params"),
        (other_layers, "h2/attn/c_attn/b has shape None in params"),
        (other_tokens, "encoder has 4000 tokens, but n_vocab is 3000"),
    ],
)
def test_what_the_layout_cannot_say_is_refused_and_leaves_nothing(tmp_path, tiny, params, spoil, message):
    hparams = dict(HPARAMS)
    spoil(params, hparams)
    with pytest.raises(ValueError, match=message):
        export.save(tmp_path / "out", tiny[0], hparams, params)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, tiny, params):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("out", "file"):
        with pytest.raises(ValueError, match=f"{name} exists: name a new or an empty folder"):
            export.save(tmp_path / name, tiny[0], HPARAMS, params)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["note"]
    assert {path.name for path in tmp_path.iterdir()} == {"out", "file"}


def test_a_folder_may_have_any_name(tmp_path, tiny, params, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="here exists"):
        (tmp_path / "here" / "note").touch()
        export.save(".", tiny[0], HPARAMS, params)
    export.save("../here/a.b/", tiny[0], HPARAMS, params)
    assert {path.name for path in (tmp_path / "here" / "a.b").iterdir()} == FILES


def test_an_end_of_text_that_merges_make_does_not_cut_plain_text(tmp_path, tiny, params):
    encoder = Encoder(tiny[0].encoder, tiny[0].bpe_ranks, stop_tokens=["he"])
    export.save(tmp_path / "out", encoder, HPARAMS, params)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == encoder.encoder["he"]
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["eos_token"] is None


def test_an_empty_folder_is_filled_and_folders_above_are_made(tmp_path, tiny, params):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b"):
        export.save(folder, tiny[0], HPARAMS, params)
        assert {path.name for path in folder.iterdir()} == FILES


def test_what_fails_on_the_way_leaves_nothing(tmp_path, tiny, params, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        export.save(tmp_path / "out", tiny[0], HPARAMS, params)
    assert list(tmp_path.iterdir()) == []


SAVE_LITTLE = """
import resource, signal, sys
import utils
from extras.huggingface import export
model = utils.load_encoder_hparams_and_params("tiny", "models")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that what is too much is an error
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
try:
    export.save(sys.argv[1], *model)
except OSError as error:
    sys.exit(str(error))
"""


def test_a_disk_without_room_is_one_clear_line(tmp_path):
    pytest.importorskip("resource", reason="this system has no limit on the size of files")
    done = run_python("-c", SAVE_LITTLE, str(tmp_path / "out"))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert (
        done.stderr.startswith(b"model.safetensors cannot be written: ") and b"File too large" in done.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_cannot_write_raises_an_error_of_the_system(tmp_path, tiny, params, monkeypatch):
    def full(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="model.safetensors cannot be written: .* No space left on device"):
        export.save(tmp_path / "out", tiny[0], HPARAMS, params)
    assert list(tmp_path.iterdir()) == []


# ---- several at once ---------------------------------------------------------------------------------------

FILL = """
import sys
from extras.huggingface.export import new_folder
try:
    with new_folder(sys.argv[1]) as folder:
        (folder / "whose").write_text(sys.argv[2])
        print("filling", flush=True)
        sys.stdin.read()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def begin(folder, whose):
    """A process that fills a folder, and finishes when its standard input ends."""
    words = [sys.executable, "-c", FILL, str(folder), str(whose)]
    process = subprocess.Popen(words, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "filling\n"
    return process


def test_of_six_exports_to_one_folder_one_wins_and_the_others_are_told_that_it_exists(tmp_path):
    processes = [begin(tmp_path / "out", i) for i in range(6)]
    for process in processes:
        process.stdin.close()
    said = [process.stdout.read() for process in processes]
    assert [process.wait() for process in processes] == [0] * 6
    winner, *losers = sorted(said)
    assert winner == "" and said.index("") == int((tmp_path / "out" / "whose").read_text())
    assert losers == [f"ValueError: {tmp_path / 'out'} exists: name a new or an empty folder\n"] * 5
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["whose"]


def test_what_a_killed_export_left_is_removed_by_the_next_and_one_at_work_is_left_alone(tmp_path):
    killed, at_work = begin(tmp_path / "out", "killed"), begin(tmp_path / "out", "at work")
    other = begin(tmp_path / "out-2", "other")
    (tmp_path / ".out-mine").mkdir()  # of the user's
    killed.kill()
    killed.communicate()
    assert len(os.listdir(tmp_path)) == 4
    with pytest.raises(ValueError, match="out exists"), export.new_folder(tmp_path / "out"):
        assert len(os.listdir(tmp_path)) == 4 and (tmp_path / ".out-mine").exists()
        for process in (at_work, other):
            assert process.communicate() == ("", None)
    assert set(os.listdir(tmp_path)) == {"out", "out-2", ".out-mine"}
    assert (tmp_path / "out" / "whose").read_text() == "at work"
    assert (tmp_path / "out-2" / "whose").read_text() == "other"


def test_any_size_in_one_call(tmp_path, tiny):
    hparams = dict(n_layer=3, n_embd=40, n_head=5, n_vocab=4000, n_ctx=48)
    params = weights.random_params(hparams, np.random.default_rng(0))
    export.save(tmp_path / "out", tiny[0], hparams, params)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["n_positions"] == 48
    _, read, params_2 = huggingface.load(tmp_path / "out")
    ids = np.arange(48)
    assert read == hparams
    assert np.array_equal(gpt2.gpt2(ids, **params, n_head=5), gpt2.gpt2(ids, **params_2, n_head=5))
