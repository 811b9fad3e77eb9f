"""Models of few bits in a folder: what is saved is what is loaded, also with an adapter."""

import numpy as np
import pytest
from adapter_files import write_adapter
from helpers import every_variant, lively_params, run, write_huggingface

import gpt2
import utils
from encoder import Encoder
from extras import huggingface, lora, quantize
from extras.huggingface import adapters, loading
from extras.huggingface.prepared import PreparedEncoder, as_gpt2s
from extras.huggingface.quantized_file import parts_of
from extras.quantized import KINDS
from extras.untied import apart
from layouts import QUANTIZED
from weights import PRESETS, flatten

HPARAMS = {"n_vocab": 4000, "n_ctx": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}
FILES = {"config.json", "merges.txt", QUANTIZED, "tokenizer.json", "tokenizer_config.json", "vocab.json"}
FOX = ["The little fox", "-n", "12"]
IDS = np.random.default_rng(0).integers(0, 4000, 20)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """One for the bundled model, strong enough to change its text."""
    folder = tmp_path_factory.mktemp("adapters") / "style"
    write_adapter(folder, PRESETS["tiny"], ("c_attn", "c_fc"))
    return folder


def assert_same_params(ours, theirs):
    """The same leaves, bit for bit, and of the same kinds."""
    leaves, others = apart(ours), apart(theirs)
    assert leaves.keys() == others.keys()
    for name, leaf in leaves.items():
        assert type(leaf) is type(others[name]), name
        if isinstance(leaf, lora.LowRank):
            assert_same_params({"wte": leaf.w}, {"wte": others[name].w})
            assert np.array_equal(leaf.a, others[name].a) and np.array_equal(leaf.b, others[name].b), name
        elif name.endswith(("/eps", "/act")):
            assert leaf == others[name]
        else:
            parts, other_parts = parts_of(name, leaf), parts_of(name, others[name])
            assert parts.keys() == other_parts.keys() and leaf.shape == others[name].shape
            for part, array in parts.items():
                assert array.dtype == other_parts[part].dtype and np.array_equal(array, other_parts[part]), (
                    part
                )
    assert (leaves["wte"] is leaves["lm_head"]) == (others["wte"] is others["lm_head"])


def text_of(capsys, *words, name="cli"):
    """What a program writes."""
    status = run([str(word) for word in words], name)
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


# ---- what is saved -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundled_model_comes_back_bit_for_bit(saved, tiny, kind):
    assert {path.name for path in saved[kind].iterdir()} == FILES
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(saved[kind]), "none")
    assert (encoder.encoder, encoder.bpe_ranks, hparams) == (tiny[0].encoder, tiny[0].bpe_ranks, tiny[1])
    assert_same_params(params, quantize.quantize(tiny[2], kind))
    assert_same_params(huggingface.load(saved[kind])[2], params)
    codes = params["blocks"][5]["mlp"]["c_fc"]["w"].T.codes
    assert isinstance(codes.base.base, np.memmap)  # not copied: read from the disk when it is needed


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_writes_the_same_with_weights_and_from_the_saved_folder(saved, tiny, kind, capsys):
    encoder, hparams, params = tiny
    ids = gpt2.generate(encoder.encode(FOX[0]), quantize.quantize(params, kind), hparams["n_head"], 12)
    wanted = encoder.decode(ids) + "\n"
    assert text_of(capsys, *FOX, "-m", "tiny", "--weights", kind) == wanted
    for model in (saved[kind], saved[kind] / QUANTIZED, saved[kind] / "config.json"):
        assert text_of(capsys, *FOX, "-m", model) == wanted
        assert text_of(capsys, *FOX, "-m", model, "--weights", kind) == wanted  # which it has already
    options = ["--seed", "1", "--n_samples", "3", "--top_k", "40"]
    drawn = text_of(capsys, *FOX, *options, "-m", "tiny", "--weights", kind)
    assert text_of(capsys, *FOX, *options, "-m", saved[kind]) == drawn != wanted
    assert text_of(capsys, *FOX, "--lookup", "-m", saved[kind]) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_variants_come_back(tmp_path, tiny, kind):
    hparams, params = every_variant(HPARAMS)
    params = quantize.quantize(params, kind)
    quantize.save(tmp_path / "out", tiny[0], hparams, params)
    _, found_hparams, found = huggingface.load(tmp_path / "out")
    assert found_hparams == hparams
    assert_same_params(found, params)
    assert np.array_equal(gpt2.gpt2(IDS, **found, n_head=3), gpt2.gpt2(IDS, **params, n_head=3))


def other_tokenizers(tiny):  # yields Encoder
    ids = {character: i for i, character in enumerate("ĊĠabcdef")} | {"é": 8, "中": 9}
    yield Encoder(ids, [], stop_tokens=[], added_groups=[{"é", "中"}], special_tokens=[])
    ids = tiny[0].encoder | {"foxling": 4000, "<pad>": 4001}
    groups, special = [{"<pad>", "<|endoftext|>"}, {"foxling"}], {"<pad>", "<|endoftext|>"}
    yield Encoder(ids, tiny[0].bpe_ranks, stop_tokens=["<pad>"], added_groups=groups, special_tokens=special)
    settings = as_gpt2s(tiny[0].encoder, tiny[0].bpe_ranks) | {"normalizer": {"type": "Lowercase"}}
    stripping = {"lstrip": {"<|endoftext|>"}, "rstrip": set()}
    yield PreparedEncoder(settings, stripping, tiny[0].encoder, tiny[0].bpe_ranks)


def test_other_tokenizers_come_back(tmp_path, tiny):
    for i, encoder in enumerate(other_tokenizers(tiny)):
        hparams = HPARAMS | {"n_vocab": len(encoder.encoder)}
        params = quantize.quantize(lively_params(hparams, seed=i), "int4")
        quantize.save(tmp_path / str(i), encoder, hparams, params)
        read, _, found = huggingface.load(tmp_path / str(i))
        assert_same_params(found, params)
        for text in ("fée\n中 a", "a Foxling foxling<pad>", "The Fox <|endoftext|> the fox"):
            if i or text.startswith("f"):
                assert read.encode(text, "all") == encoder.encode(text, "all")
        assert (read.stop_ids, read.special_tokens) == (encoder.stop_ids, encoder.special_tokens)
        assert type(read) is type(encoder) and read.encoder == encoder.encoder


# ---- with adapters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_attached_to_weights_of_few_bits(saved, adapter, tiny, kind, capsys):
    base, change = quantize.quantize(tiny[2], kind), adapters.load(adapter, tiny[1])
    wanted = lora.attach(base, change)
    for model, weights in (("tiny", kind), (str(saved[kind]), None), (str(saved[kind]), kind)):
        found = utils.load_encoder_hparams_and_params(model, "none", str(adapter), weights)[2]
        assert_same_params(found, wanted)
    text = text_of(capsys, *FOX, "-m", "tiny", "--weights", kind, "--lora", adapter)
    assert text_of(capsys, *FOX, "-m", saved[kind], "--lora", adapter) == text
    assert text != text_of(capsys, *FOX, "-m", saved[kind])
    lines = text_of(capsys, "--check", "-m", saved[kind], "--lora", adapter).splitlines()
    assert lines[-1] == "nothing wrong was found" and any(str(adapter) in line for line in lines)


def test_the_program_merges_an_adapter_before_it_quantizes(adapter, tiny, tmp_path, capsys):
    words = ["tiny", tmp_path / "out", "--weights", "int8", "--lora", adapter]
    assert text_of(capsys, *words, name="extras.quantize").startswith("tiny with ")
    merged = lora.merge(tiny[2], adapters.load(adapter, tiny[1]))
    assert_same_params(huggingface.load(tmp_path / "out")[2], quantize.quantize(merged, "int8"))


@pytest.mark.parametrize("kind", KINDS)
def test_scales_of_attention_that_are_in_the_weights_count_for_adapters_too(tmp_path, tiny, kind):
    """An adapter was trained beside the weights before they were scaled."""
    tensors = {loading.huggingface_name(n): a for n, a in flatten(lively_params(HPARAMS, seed=1)).items()}
    folder = write_huggingface(tmp_path / "in", tensors, HPARAMS, scale_attn_by_inverse_layer_idx=True)
    write_adapter(tmp_path / "adapter", HPARAMS, ("c_attn",))
    encoder, hparams, params = huggingface.load(folder)
    quantize.save(tmp_path / "out", encoder, hparams, quantize.quantize(params, kind))
    options = {"models_dir": "none", "lora": str(tmp_path / "adapter")}
    _, found_hparams, found = utils.load_encoder_hparams_and_params(str(tmp_path / "out"), **options)
    assert found_hparams == hparams and hparams["query_scales"] == [1, 0.5]
    assert_same_params(huggingface.load(tmp_path / "out")[2], quantize.quantize(params, kind))
    wanted = utils.load_encoder_hparams_and_params(str(folder), weights=kind, **options)[2]
    assert_same_params(found, wanted)
    merged = utils.load_encoder_hparams_and_params(str(folder), **options)[2]
    for block, base, both in zip(found["blocks"], params["blocks"], merged["blocks"]):
        w = block["attn"]["c_attn"]["w"]
        change = both["attn"]["c_attn"]["w"] - base["attn"]["c_attn"]["w"]
        np.testing.assert_allclose(w.a @ w.b, change, atol=1e-5)
