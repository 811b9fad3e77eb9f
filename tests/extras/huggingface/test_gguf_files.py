"""Out to llama.cpp: what is written is read back as the same model. The lane `llama` asks llama.cpp."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from adapter_files import write_adapter
from gguf_makers import assert_same_model, taken_apart
from helpers import ROOT, TEXTS, every_variant, lively_params, run, run_python, without_unbuffered

import encoder
import gpt2
import utils
from encoder import Encoder
from extras.huggingface import export, gguf_files, gguf_reader
from extras.huggingface.gguf_files import KINDS, save
from extras.huggingface.prepared import PreparedEncoder, as_gpt2s
from extras.quantize import quantize
from weights import flatten

gguf = pytest.importorskip("gguf")
PROGRAM = "extras.huggingface.gguf_files"
SIZES = {"n_vocab": 4000, "n_ctx": 16, "n_embd": 32, "n_head": 2, "n_layer": 2}


def load(path):
    return utils.load_encoder_hparams_and_params(str(path), "models")


@pytest.fixture
def params():
    return lively_params(SIZES, seed=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.gguf"


# ---- what is written ---------------------------------------------------------------------------------------


def test_every_variant_but_another_activation_comes_back_as_it_was(path, tiny):
    hparams, params = every_variant(SIZES | {"n_vocab": 4000})
    with pytest.raises(ValueError, match="its activation function is gelu, but llama.cpp has only gelu_new"):
        save(path, tiny[0], hparams, params)
    for block in params["blocks"]:
        del block["mlp"]["act"]
    save(path, tiny[0], hparams, params)
    assert_same_model((tiny[0], hparams, params), load(path))
    assert "output.weight" in taken_apart(path)[1]


def test_without_a_head_of_its_own_none_is_written(path, tiny):
    save(path, *tiny)
    tensors = taken_apart(path)[1]
    assert "output.weight" not in tensors and len(tensors) == len(flatten(tiny[2]))


def test_the_fields_are_those_of_llama_cpps_converter(path, tiny):
    save(path, *tiny)
    fields = {name: value for name, (_, value) in taken_apart(path)[0].items()}
    lists = [fields.pop(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "merges")]
    assert [*map(len, lists)] == [4000, 4000, 3743] and lists[1].count(1) == 3999 and lists[1][3999] == 3
    assert abs(fields.pop("gpt2.attention.layer_norm_epsilon") - 1e-5) < 1e-12
    assert fields == {
        "general.architecture": "gpt2",
        "general.file_type": 0,
        "gpt2.context_length": 256,
        "gpt2.embedding_length": 192,
        "gpt2.feed_forward_length": 768,
        "gpt2.block_count": 6,
        "gpt2.attention.head_count": 6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.eos_token_id": 3999,
        "tokenizer.ggml.bos_token_id": 3999,
        "tokenizer.ggml.add_bos_token": False,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_of_each_type_are_the_matrices_but_wpe(path, tiny, kind):
    save(path, *tiny, kind)
    for name, (shape, found, _) in taken_apart(path)[1].items():
        is_plain = len(shape) == 1 or name == "position_embd.weight"
        assert gguf.GGMLQuantizationType(found).name == ("F32" if is_plain else kind)


def test_more_bits_give_numbers_that_are_nearer(path, tiny):
    wte, errors = tiny[2]["wte"], []
    for kind in KINDS:
        save(path.with_name(f"{kind}.gguf"), *tiny, kind)
        errors.append(np.abs(load(path.with_name(f"{kind}.gguf"))[2]["wte"] - wte).mean())
    assert errors[0] == 0 and errors[3:] == sorted(errors[3:]) and max(errors[1:4]) < errors[4]
    assert errors[-1] < 0.2 * np.abs(wte).mean()
    sizes = [path.with_name(f"{kind}.gguf").stat().st_size for kind in KINDS]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 6 * sizes[-1]


def test_quantized_and_adapted_matrices_are_written_as_what_they_stand_for(path, tmp_path, tiny):
    quantized = quantize(tiny[2], "int8")
    save(path, *tiny[:2], quantized)
    leaves = flatten(load(path)[2])
    assert all(np.array_equal(leaves[name], leaf[:]) for name, leaf in flatten(quantized).items())
    write_adapter(tmp_path / "adapter", tiny[1], rng=np.random.default_rng(0))
    words = ["tiny", str(tmp_path / "y.gguf"), f"--lora={tmp_path / 'adapter'}"]
    assert run(words, PROGRAM) == 0
    merged = utils.load_encoder_hparams_and_params("tiny", "models", str(tmp_path / "adapter"))
    assert_same_model(merged, load(tmp_path / "y.gguf"))


MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he")]
ADDED = ["<|endoftext|>", "<s>", "a b", "<|unused262|>", "[PAD263]", "<plain>"]


def test_what_each_token_is_comes_back(path):
    tokens = [*encoder.vocabulary(MERGES)][:-1] + ADDED
    tokens = {token: token_id for token_id, token in enumerate(tokens)}
    options = {"added_groups": [{"<|endoftext|>", "<s>", "a b"}], "special_tokens": {"<|endoftext|>", "<s>"}}
    ours = Encoder(tokens, MERGES, stop_tokens=["<s>", "<|endoftext|>"], begin_token="<s>", **options)
    hparams = SIZES | {"n_vocab": len(tokens)}
    model = ours, hparams, lively_params(hparams, seed=1)
    save(path, *model)
    assert_same_model(model, load(path))
    types = taken_apart(path)[0]["tokenizer.ggml.token_type"][1]
    assert types[-len(ADDED) :] == [3, 3, 4, 5, 5, 1]
    for text in [*TEXTS, "x a b<s><plain>"]:
        assert load(path)[0].encode(text, "all") == ours.encode(text, "all")


# ---- what is not written -----------------------------------------------------------------------------------


def with_stops(stops):
    return lambda tiny: Encoder(tiny[0].encoder, tiny[0].bpe_ranks, stop_tokens=stops)


def prepared(tiny):
    settings = as_gpt2s(tiny[0].encoder, tiny[0].bpe_ranks)
    return PreparedEncoder(settings, {"lstrip": set(), "rstrip": set()}, tiny[0].encoder, tiny[0].bpe_ranks)


@pytest.mark.parametrize(
    "new_encoder, message",
    [
        (
            prepared,
            "the model's tokenizer works in another way than GPT-2's, which is all that llama.cpp has for it",
        ),
        (
            with_stops([]),
            "no token ends the model's texts, .* at the id 11: set eos_token_id in its config.json",
        ),
        (with_stops(["a", "b", "c", "d"]), "4 tokens end a text, but a .gguf file names 3"),
    ],
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused(path, tiny, params, new_encoder, message):
    with pytest.raises(ValueError, match=message):
        save(path, new_encoder(tiny), SIZES, params)
    assert not path.exists()


def test_what_a_file_cannot_say_is_refused(path, tiny, params):
    params["blocks"][0]["ln_1"]["eps"] = 1e-3
    with pytest.raises(ValueError, match="one eps for all norms"):
        save(path, tiny[0], SIZES, params)
    del params["blocks"][0]["ln_1"]["eps"]
    for changed in ({"n_layer": 1}, {"n_embd": 64}, {"n_inner": 96}):
        with pytest.raises(ValueError, match="in params, .* according to hparams"):
            save(path, tiny[0], SIZES | changed, params)
    with pytest.raises(ValueError, match="encoder has 4000 tokens, but n_vocab is 3999"):
        save(path, tiny[0], SIZES | {"n_vocab": 3999}, params)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] == "Q"])
def test_rows_that_blocks_do_not_fill_are_refused(path, tiny, kind):
    for hparams, width in ((SIZES | {"n_embd": 24}, 24), (SIZES | {"n_inner": 40}, 40)):
        params = lively_params(hparams, seed=1)
        with pytest.raises(
            ValueError, match=f"{kind}, which stores 32 numbers at a time, and {width} is not"
        ):
            save(path, tiny[0], hparams, params, kind)
        save(path, tiny[0], hparams, params, "F16")
        path.unlink()


def test_a_file_that_exists_stays(path, tiny, params):
    path.write_text("mine")
    with pytest.raises(ValueError, match=f"{path} exists: name a new file"):
        save(path, tiny[0], SIZES, params)
    assert path.read_text() == "mine" and os.listdir(path.parent) == ["x.gguf"]


# ---- a whole file or none ----------------------------------------------------------------------------------


def test_where_writing_fails_nothing_is_left(path, tiny, params, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", fail)
    with pytest.raises(OSError, match="No space left"):
        save(path, tiny[0], SIZES, params)
    assert os.listdir(path.parent) == []


def test_a_file_that_appears_meanwhile_is_kept(path, tiny, params, monkeypatch):
    close = gguf.GGUFWriter.close
    monkeypatch.setattr(gguf.GGUFWriter, "close", lambda writer: (close(writer), path.write_text("theirs")))
    with pytest.raises(ValueError, match="exists: name a new file"):
        save(path, tiny[0], SIZES, params)
    assert path.read_text() == "theirs" and os.listdir(path.parent) == ["x.gguf"]


KILLED = """if True:
    import os, signal, sys, gguf, utils
    from extras.huggingface.gguf_files import save
    gguf.GGUFWriter.close = lambda writer: os.kill(os.getpid(), signal.SIGKILL)
    save(sys.argv[1], *utils.load_encoder_hparams_and_params("tiny", "models"))"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_a_killed_process_left_is_removed_by_the_next(path, tiny):
    subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT)
    assert len(os.listdir(path.parent)) == 1 and not path.exists()
    save(path, *tiny)
    assert os.listdir(path.parent) == ["x.gguf"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_file_has_the_permissions_of_any_new_file(path, tiny):
    save(path, *tiny)
    (path.parent / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "other").stat().st_mode)


# ---- the program -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, said", [([], "F32, 14 MB"), (["--type=q8_0"], "Q8_0, 4 MB"), (["--type", "F16"], "F16, 7.2 MB")]
)
def test_the_program_writes_a_file_and_says_so(path, words, said):
    done = run_python("-m", PROGRAM, "tiny", str(path), *words)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"tiny -> {path}, {said}\n"
    encoder_, hparams, params = load(path)
    new_ids = gpt2.generate(encoder_.encode("The little fox"), params, hparams["n_head"], 5)
    assert encoder_.decode(new_ids) == " was so frightened that he"


@pytest.mark.parametrize(
    "words, status, message",
    [
        (["tiny"], 2, "give a model and a file: python -m extras.huggingface.gguf_files MODEL OUT.gguf"),
        (["tiny", "out"], 2, "out is 'out': its name should end in .gguf, as programs expect"),
        (
            ["124M", "x.gguf", "--type=Q4_K"],
            2,
            "type is 'Q4_K', expected F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4",
        ),
        (["124M", "there.gguf"], 2, "there.gguf exists: name a new file"),
        (["none", "x.gguf"], 2, "model_size is 'none', expected tiny"),
        (["damaged", "x.gguf"], 1, "damaged: it is empty"),
    ],
)
def test_a_wrong_use_is_one_line_before_anything_is_done(
    tmp_path, monkeypatch, capsys, words, status, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.gguf").touch()
    (tmp_path / "damaged").mkdir()
    assert run([*words, "--models_dir=models"], PROGRAM) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"{PROGRAM}: ") and message in err and err.count("\n") == 1
    assert sorted(os.listdir()) == ["damaged", "there.gguf"]


def test_a_damaged_model_is_not_written(tmp_path, tiny, capsys):
    export.save(tmp_path / "model", *tiny)
    data = tmp_path / "model" / "model.safetensors"
    data.write_bytes(data.read_bytes()[:-4])
    assert run([str(tmp_path / "model"), str(tmp_path / "x.gguf")], PROGRAM) == 1
    assert os.listdir(tmp_path) == ["model"] and capsys.readouterr().out == ""


def test_the_help_fits_a_terminal_and_lists_all_types():
    done = run_python("-m", PROGRAM, "--help")
    assert done.stdout.decode().startswith(gguf_files.HELP)
    assert max(map(len, gguf_files.HELP.splitlines())) <= 80
    assert all(kind in gguf_files.HELP for kind in KINDS)


def test_without_the_library_the_program_says_in_one_line_what_to_install(tmp_path):
    (tmp_path / "gguf.py").write_text("raise ImportError('no gguf')\n")
    environment = without_unbuffered() | {"PYTHONPATH": str(tmp_path)}
    done = run_python("-m", PROGRAM, "124M", str(tmp_path / "x.gguf"), env=environment)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"no gguf: " in done.stderr and b"requirements-extras.txt" in done.stderr


def test_each_name_of_an_array_is_llama_cpps():
    for block in range(2):
        names = [
            gguf_reader.gguf_name(name)
            for name in flatten(lively_params(SIZES, 0))
            if name[:2] == f"h{block}"
        ]
        theirs = [
            gguf.TENSOR_NAMES[kind].format(bid=block) for kind in gguf.MODEL_TENSORS[gguf.MODEL_ARCH.GPT2]
        ]
        assert {name.rpartition(".")[0] for name in names} == {
            name for name in theirs if name.startswith("blk")
        }


def test_what_llama_cpp_would_do_differently_is_said(path, tiny, params, capsys):
    tokens = [*list(tiny[0].encoder)[: SIZES["n_vocab"] - 3], "<|im_end|>", "abc", "bcbcd"]
    groups = [{"<|im_end|>", "abc", "bcbcd"}]
    encoder = Encoder({token: i for i, token in enumerate(tokens)}, [], "replace", ["abc"], "abc", groups)
    save(path, encoder, SIZES, params)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "llama.cpp ends a text at <|im_end|> too, because of the name"
    assert said[1].startswith("llama.cpp looks for the longest added token first: where 'abc' and another")
