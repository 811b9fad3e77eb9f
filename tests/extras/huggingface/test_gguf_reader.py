"""Files of llama.cpp, whoever wrote them: read as the model in them, or refused by what is wrong."""

import time

import numpy as np
import pytest
from adapter_files import write_adapter
from gguf_makers import LIST, TEXT, assert_same_model, put_together, taken_apart
from helpers import TEXTS, assert_same_logits, command, lively_params, run

import encoder
import gpt2
import utils
from encoder import Encoder
from extras import huggingface
from extras.huggingface import gguf_reader
from extras.huggingface.gguf_files import KINDS, save
from extras.untied import UntiedEmbedding
from files import ModelError
from weights import flatten

gguf = pytest.importorskip("gguf")
MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n")]
SIZES = {"n_vocab": 261, "n_ctx": 16, "n_embd": 32, "n_head": 2, "n_layer": 2}
TOKENS, TYPES, PRE = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.pre"
EOS, ADD_BOS = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token"
HEAD, EMBEDDING = "output.weight", "token_embd.weight"


@pytest.fixture
def model():
    """A small one, every number of which counts."""
    return Encoder(encoder.vocabulary(MERGES), MERGES), dict(SIZES), lively_params(SIZES, seed=0, std=0.3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.gguf"


@pytest.fixture
def parts(path, model):
    """Its fields and tensors, to be changed and put together again."""
    save(path, *model)
    return taken_apart(path)


def load(path):
    return utils.load_encoder_hparams_and_params(str(path), "models")


def refusal(path, fields, tensors):
    with pytest.raises(ModelError) as caught:
        load(put_together(path, fields, tensors))
    assert str(caught.value).isprintable() and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def logits(model, ids=(1, 2, 3, 259, 260)):
    return gpt2.gpt2(list(ids), **model[2], n_head=model[1]["n_head"])


# ---- what runs ---------------------------------------------------------------------------------------------


def test_the_bundled_model_runs_from_a_file_or_its_folder_as_it_does_from_its_own(tmp_path, tiny):
    save(tmp_path / "model" / "tiny.gguf", *tiny)
    assert_same_model(tiny, load(tmp_path / "model" / "tiny.gguf"))
    for place in (tmp_path / "model" / "tiny.gguf", tmp_path / "model"):
        words = ("The little fox", "--model_size")
        assert command(*words, str(place)).stdout == command(*words, "tiny").stdout


def test_a_folder_with_other_weights_beside_the_file_is_not_taken_for_it(tmp_path, model):
    save(tmp_path / "x.gguf", *model)
    (tmp_path / "README.md").touch()
    assert utils.find_model(str(tmp_path), "models") == ("gguf", tmp_path / "x.gguf")
    (tmp_path / "ckpt.pt").touch()
    with pytest.raises(ModelError, match="it has no model.safetensors, but ckpt.pt, a pickle"):
        load(tmp_path)
    (tmp_path / "ckpt.pt").rename(tmp_path / "y.gguf")
    with pytest.raises(ModelError, match="it has several models of llama.cpp, x.gguf, y.gguf; give one"):
        load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_are_the_numbers_that_the_library_reads(path, model, kind):
    save(path, *model, kind)
    leaves = flatten(load(path)[2])
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert len(tensors) == len(leaves) == 2 * 12 + 4
    for name, array in leaves.items():
        tensor = tensors[gguf_reader.gguf_name(name)]
        theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert array.dtype == np.float32 and np.array_equal(array, theirs.T if name[-2:] == "/w" else theirs)
        if kind == "F32":
            assert np.array_equal(array, flatten(model[2])[name])


def test_float32_is_mapped_and_an_edit_does_not_reach_the_file(path, model):
    save(path, *model)
    before, params = path.read_bytes(), load(path)[2]
    for leaf in flatten(params).values():
        leaf += 1
    assert path.read_bytes() == before
    assert np.array_equal(load(path)[2]["wte"] + 1, params["wte"])


def test_rows_without_a_token_are_padded_as_llama_cpps_converter_does(path, model, parts):
    fields, tensors = parts
    fields[TOKENS][1].extend(["[PAD261]", "[PAD262]"])
    fields[TYPES][1].extend([5, 5])
    wte = np.vstack([model[2]["wte"], np.ones((2, 32), np.float32)])
    tensors[EMBEDDING] = ([263, 32], 0, wte.tobytes())
    found = load(put_together(path, fields, tensors))
    assert found[1]["n_vocab"] == 263 and np.array_equal(found[2]["wte"], wte)
    assert found[0].added_tokens == {"<|endoftext|>"}
    assert all(found[0].encode(text) == model[0].encode(text) for text in [*TEXTS, "[PAD261]"])
    assert found[0].decode([262]) == "[PAD262]"
    save(path.with_name("again.gguf"), *found)
    again = taken_apart(path.with_name("again.gguf"))[0]
    assert again[TYPES][1] == fields[TYPES][1]


def test_a_head_is_its_own_only_if_it_differs(path, model, parts):
    fields, tensors = parts
    found = load(put_together(path, fields, tensors | {HEAD: tensors[EMBEDDING]}))
    assert_same_model(model, found)
    head = model[2]["wte"][::-1]
    found = load(put_together(path, fields, tensors | {HEAD: ([261, 32], 0, head.tobytes())}))
    untied = (*model[:2], model[2] | {"wte": UntiedEmbedding(model[2]["wte"], head)})
    assert_same_model(untied, found)
    assert_same_logits(logits(found), logits(untied))


def test_what_describes_a_model_is_passed_over(path, model, parts):
    fields, tensors = parts
    fields |= {
        "general.type": (TEXT, "model"),
        "general.name": (TEXT, "GPT-2 é"),
        "gpt2.vocab_size": (4, 261),
    }
    fields |= {"general.tags": ((LIST, TEXT), ["text-generation"]), "general.quantization_version": (4, 2)}
    fields |= {"tokenizer.ggml.unknown_token_id": (4, 260), "gpt2.attention.head_count_kv": (4, 2)}
    fields |= {"tokenizer.chat_template": (TEXT, "{{ x }}"), "gpt2.attention.causal": (7, True)}
    assert_same_model(model, load(put_together(path, fields, tensors)))


def test_another_epsilon_and_width_are_read(path, tmp_path, model):
    hparams = SIZES | {"n_inner": 64}
    params = lively_params(hparams, seed=1)
    for norm in [params["ln_f"], *(block[name] for block in params["blocks"] for name in ("ln_1", "ln_2"))]:
        norm["eps"] = 1e-3
    save(path, model[0], hparams, params)
    assert_same_model((model[0], hparams, params), load(path))


def test_how_queries_were_scaled_is_noted_for_adapters(path, model):
    scaled = (model[0], SIZES | {"query_scales": [1.0, 1 / 3]}, model[2])
    save(path, *scaled)
    assert_same_model(scaled, load(path))
    fields, tensors = taken_apart(path)
    fields["plaingpt.query_scales"][1].append(1.0)
    assert "plaingpt.query_scales is [1.0, 0.33" in refusal(path, fields, tensors)


def test_types_of_tokens_say_which_are_looked_for(path, model, parts):
    fields, tensors = parts
    fields[TYPES][1][fields[TOKENS][1].index("Ġthe")] = 4
    fields[TYPES][1][fields[TOKENS][1].index("in")] = 3
    found = load(put_together(path, fields, tensors))[0]
    assert found.special_tokens == {"<|endoftext|>", "in"} and found.added_tokens == {
        "<|endoftext|>",
        "in",
        "Ġthe",
    }
    assert found.encode("in", "all") == model[0].encode("in") == found.encode("in")
    assert found.encode("Ġthe") == [found.encoder["Ġthe"]] != model[0].encode("Ġthe")


def test_without_types_the_end_of_a_text_is_special(path, model, parts):
    fields, tensors = parts
    for types in (None, [1] * 261):
        changed = {name: field for name, field in fields.items() if name != TYPES}
        changed |= {TYPES: ((LIST, 5), types)} if types else {}
        assert_same_model(model, load(put_together(path, changed, tensors)))


@pytest.mark.parametrize(
    "names, stops", [(["eos"], {1, 260}), (["eos", "eot"], {1, 2, 260}), (["eot"], {1, 260}), ([], {260})]
)
def test_the_ids_that_end_a_text_are_read(path, parts, names, stops):
    fields, tensors = parts
    del fields[EOS]
    fields |= {f"tokenizer.ggml.{name}_token_id": (4, 1 + i) for i, name in enumerate(names)}
    assert load(put_together(path, fields, tensors))[0].stop_ids == stops


def test_the_longest_added_token_is_looked_for_first_as_in_llama_cpp(path, parts):
    fields, tensors = parts
    tokens, types = [*fields[TOKENS][1]], [1] * 261
    tokens[2], tokens[3], types[2], types[3] = "abc", "bcbcd", 4, 4
    fields = fields | {TOKENS: ((LIST, TEXT), tokens), TYPES: ((LIST, 5), types)}
    encoder = load(put_together(path, fields, tensors))[0]
    assert [encoder.decoder[i] for i in encoder.encode("abcbcd")] == ["a", "bcbcd"]
    assert refusal(path, fields | {PRE: ((LIST, 4), [1])}, tensors).count("tokenizer.ggml.pre is [1]") == 1


@pytest.mark.parametrize("kind", [1, 4, 5])  # NORMAL, USER_DEFINED, UNUSED
def test_a_token_with_a_name_that_llama_cpp_knows_is_special_and_ends_a_text(path, parts, kind):
    fields, tensors = parts
    tokens, types = [*fields[TOKENS][1]], [1] * 261
    tokens[2], types[2] = "<|im_end|>", kind
    fields = fields | {TOKENS: ((LIST, TEXT), tokens), TYPES: ((LIST, 5), types)}
    encoder = load(put_together(path, fields, tensors))[0]
    assert {2, 260} <= encoder.stop_ids and "<|im_end|>" in encoder.special_tokens
    assert 2 not in encoder.encode("a<|im_end|>") and encoder.encode("<|im_end|>", "all") == [2]


@pytest.mark.parametrize("pre", sorted(gguf_reader.GPT2S))
def test_other_names_of_gpt2s_way_to_cut_a_text_are_accepted(path, model, parts, pre):
    fields, tensors = parts
    assert_same_model(model, load(put_together(path, fields | {PRE: (TEXT, pre)}, tensors)))


def test_what_llama_cpp_would_do_otherwise_is_said(path, model, parts, capsys):
    fields, tensors = parts
    load(put_together(path, fields, tensors))
    assert capsys.readouterr().err == ""
    assert_same_model(model, load(put_together(path, fields | {ADD_BOS: (7, True)}, tensors)))
    said = "llama.cpp adds the bos token to a text; here, add it yourself, with --special"
    assert capsys.readouterr().err == f"{path}: {said}\n"
    del fields[PRE]
    assert_same_model(model, load(put_together(path, fields, tensors)))
    assert "no tokenizer.ggml.pre, so a text is cut into words as in GPT-2\n" in capsys.readouterr().err


def test_parts_that_only_merges_use_need_no_rows(path, model):
    merges = [("©", "Ã"), ("Ã", "©Ã"), ("Ã©Ã", "©")]  # of éé
    tokens = [token for token in encoder.vocabulary(merges) if token not in ("©Ã", "Ã©Ã")]
    tokens = {token: token_id for token_id, token in enumerate(tokens)}
    hparams = SIZES | {"n_vocab": len(tokens)}
    whole = Encoder(tokens, merges), hparams, lively_params(hparams, seed=1)
    save(path, *whole)
    found = load(path)
    assert_same_model(whole, found)
    assert found[0].encode("éé") == whole[0].encode("éé") == [tokens["Ã©Ã©"]]


# ---- other programs ----------------------------------------------------------------------------------------


def test_it_can_be_checked_and_is_listed(tmp_path, tiny, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "models" / "tiny.gguf", *tiny)
    save(tmp_path / "models" / "folder" / "x.gguf", *tiny, "Q8_0")
    assert run(["--check", "-m", "models/tiny.gguf"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "models/tiny.gguf: n_ctx 256, n_embd 192, n_head 6, n_layer 6, n_vocab 4,000; n_head"
    )
    assert [line.partition(": ")[2] for line in others] == [
        "a vocabulary of 4,000 tokens",
        "76 arrays: finite, with the shapes of these sizes; the format has no checksums",
        "",
    ] and others[-1] == "nothing wrong was found"
    (tmp_path / "models" / "damaged.gguf").write_bytes(b"GGUF")
    assert run(["--models", "--models_dir", "models"]) == 0
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert ["models/tiny.gguf", "14", "MB"] in lines and ["models/folder", "4", "MB"] in lines
    assert not any("damaged" in name for name, *_ in lines)


def test_it_can_be_quantized_anew_and_exported(tmp_path, tiny):
    save(tmp_path / "tiny.gguf", *tiny)
    words = ("The little fox", "-n=5", "--weights=int8", "--model_size")
    assert command(*words, str(tmp_path / "tiny.gguf")).stdout == command(*words, "tiny").stdout
    assert run([str(tmp_path / "tiny.gguf"), str(tmp_path / "out")], "extras.huggingface.export") == 0
    assert_same_model(tiny, huggingface.load(tmp_path / "out"))
    with pytest.raises(ModelError, match="damaged.gguf"):
        (tmp_path / "damaged.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes()[:-64])
        load(tmp_path / "damaged.gguf")


def test_an_adapter_is_merged_into_it(path, model, tmp_path):
    added = write_adapter(tmp_path / "adapter", SIZES, ["c_attn", "mlp/c_proj"])
    save(path, *model)
    adapted = flatten(
        utils.load_encoder_hparams_and_params(str(path), "models", str(tmp_path / "adapter"))[2]
    )
    for name, array in flatten(model[2]).items():
        np.testing.assert_allclose(adapted[name], array + added.get(name, 0), atol=1e-6)


# ---- what does not run -------------------------------------------------------------------------------------


def without(parts, *names):
    return {name: part for name, part in parts.items() if name not in names}


GET = "; get the model's safetensors instead"
AGAIN = "; get a fresh copy"


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"general.architecture": (TEXT, "llama")},
            "its architecture is llama, expected gpt2; llama.cpp runs",
        ),
        ({"general.architecture": None}, "its architecture is None, expected gpt2"),
        (
            {"general.type": (TEXT, "mmproj")},
            "it holds no model: its general.type is 'mmproj'; give the .gguf",
        ),
        ({"general.type": (TEXT, "adapter")}, "it holds no model: its general.type is 'adapter'"),
        (
            {"split.count": (2, 3)},
            "it is one of 3 files that make a model; join them: llama-gguf-split --merge",
        ),
        (
            {"gpt2.context_length": None},
            f"gpt2.context_length is None, expected a whole number from 1 to{''}",
        ),
        ({"gpt2.context_length": (6, 16.0)}, "gpt2.context_length is 16.0, expected a whole number from"),
        ({"gpt2.block_count": (4, 0)}, "gpt2.block_count is 0, expected a whole number from 1 to 1,000"),
        (
            {"gpt2.block_count": (4, 1)},
            "according to its header, blk.1.attn_norm.bias is unknown (12 in all)",
        ),
        (
            {"gpt2.block_count": (4, 3)},
            "according to its header, blk.2.attn_norm.bias is missing (12 in all)",
        ),
        ({"gpt2.embedding_length": (4, 64)}, "has shape [261, 32], but [261, 64] according to its header"),
        ({"gpt2.feed_forward_length": (4, 64)}, "ffn_up.weight has shape [32, 128], but [32, 64] accord"),
        ({"gpt2.attention.head_count": (4, 3)}, f"n_embd 32 is not a multiple of n_head 3{AGAIN}"),
        ({"gpt2.attention.head_count_kv": (4, 1)}, f"head_count_kv is 1, expected 2 as in GPT-2{GET}"),
        ({"gpt2.attention.key_length": (4, 8)}, f"key_length is 8, expected 16 as in GPT-2{GET}"),
        ({"gpt2.attention.causal": (7, False)}, f"causal is False, expected True as in GPT-2{GET}"),
        ({gguf_reader.EPSILON: None}, "layer_norm_epsilon is None, expected a number such as 1e-05"),
        ({gguf_reader.EPSILON: (6, 2.0)}, "layer_norm_epsilon is 2.0, expected a number such as 1e-05"),
        ({gguf_reader.EPSILON: (4, 1)}, "layer_norm_epsilon is 1, expected a number such as 1e-05"),
        ({"tokenizer.ggml.model": (TEXT, "llama")}, f"its tokenizer.ggml.model is llama, expected gpt2{GET}"),
        ({"tokenizer.ggml.model": None}, "its tokenizer.ggml.model is None, expected gpt2"),
        ({PRE: (TEXT, "llama-bpe")}, f"its tokenizer.ggml.pre is llama-bpe, expected gpt-2{GET}"),
        ({PRE: (TEXT, "default")}, "its tokenizer.ggml.pre is default, expected gpt-2"),
        ({TOKENS: None}, "it has no tokenizer.ggml.tokens, so it lacks its tokenizer"),
        ({TOKENS: (TEXT, "x")}, "it has no tokenizer.ggml.tokens, so it lacks its tokenizer"),
        ({TOKENS: ((LIST, 4), [1] * 261)}, "tokenizer.ggml.tokens is missing, or of the wrong type"),
        ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges is missing, or of the wrong type"),
        ({"tokenizer.ggml.merges": ((LIST, TEXT), ["Ġ t"])}, "no merge makes the token"),
        ({"tokenizer.ggml.merges": ((LIST, TEXT), ["Ġ q"])}, "merge 1 is 'Ġ q', not two tokens that make"),
        ({TYPES: ((LIST, 5), [1])}, "it has 261 tokens, but 1 types of tokens"),
        ({TYPES: ((LIST, 5), [7] * 261)}, "a token is of type 7, which is unknown"),
        ({TYPES: ((LIST, 6), [1.0] * 261)}, "tokenizer.ggml.token_type is missing, or of the wrong type"),
        ({EOS: (4, 261)}, "tokenizer.ggml.eos_token_id is 261, but ids run from 0 to 260"),
        ({"tokenizer.ggml.bos_token_id": (TEXT, "x")}, "bos_token_id is x, but ids run from 0 to 260"),
    ],
)
def test_fields_that_are_not_a_gpt2s_are_refused(path, parts, changed, message):
    fields, tensors = parts
    fields = without(fields | changed, *(name for name, field in changed.items() if field is None))
    assert message in refusal(path, fields, tensors)


def test_a_token_that_is_given_twice_is_refused(path, parts):
    parts[0][TOKENS][1][7] = parts[0][TOKENS][1][5]
    assert f"the token {parts[0][TOKENS][1][5]!r} is given twice" in refusal(path, *parts)


NAME = "blk.1.ffn_up.weight"
NUMBERS = np.zeros((128, 32), np.float32)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({NAME: None}, f"{NAME} is missing (1 in all)"),
        ({HEAD: ([261, 31], 0, bytes(261 * 31 * 4))}, f"{HEAD} has shape [261, 31], but [261, 32] according"),
        ({"blk.2.ffn_up.weight": ([1], 0, bytes(4))}, "blk.2.ffn_up.weight is unknown (1 in all)"),
        ({"h0/ln_1/g": ([32], 0, bytes(128))}, "h0/ln_1/g is unknown (1 in all)"),
        ({NAME: ([32, 128], 0, NUMBERS.tobytes())}, f"{NAME} has shape [128, 32], but [32, 128] according"),
        ({NAME: ([128, 32], 0, (NUMBERS + np.nan).tobytes())}, f"{NAME} holds NaN or infinity"),
        ({NAME: ([128, 32], 1, (NUMBERS + np.inf).astype("<f2").tobytes())}, f"{NAME} holds NaN or infinity"),
        ({NAME: ([128, 32], 8, b"\xff" * 4352)}, f"{NAME} holds NaN or infinity"),
        ({NAME: ([128, 32], 0, (NUMBERS - 2e4).tobytes())}, f"{NAME} holds -2e+04, but no trained weight is"),
        ({NAME: ([128, 32], 28, bytes(128 * 32 * 8))}, f"{NAME} is of type F64, which cannot be read{GET}"),
        ({HEAD: ([261, 32], 24, bytes(261 * 32))}, f"{HEAD} is of type I8, which cannot be read{GET}"),
    ],
)
def test_tensors_that_are_not_a_gpt2s_are_refused(path, parts, changed, message):
    fields, tensors = parts
    tensors = without(tensors | changed, *(name for name, tensor in changed.items() if tensor is None))
    with np.errstate(all="raise"):
        assert message in refusal(path, fields, tensors)


UNCONFIRMED = {"n_head", "query_scales"}  # nothing else in the file says them


def test_a_damaged_header_is_refused_or_says_the_same(path, model, n_fuzz):
    save(path, *model, "Q8_0")
    whole = path.read_bytes()
    n_header = min(tensor.data_offset for tensor in gguf.GGUFReader(path).tensors)
    wanted, n_refused, slowest = load(path), 0, 0
    before = {name: np.array(array) for name, array in flatten(wanted[2]).items() if name[-3:] != "eps"}
    for seed in range(n_fuzz):
        rng = np.random.default_rng(seed)
        content = bytearray(whole)
        for at in rng.integers(n_header, size=rng.choice([1, 1, 2, 8])):
            content[at] ^= 1 << rng.integers(8)
        if seed % 5 == 0:
            begin, end = sorted(rng.integers(n_header, size=2))
            content[begin:end] = b"" if seed % 10 else bytes(end - begin)
        path.write_bytes(content)
        start = time.perf_counter()
        try:
            found = load(path)
        except ModelError as error:
            assert str(error).isprintable() and str(path) in str(error), seed
            n_refused += 1
            continue
        finally:
            slowest = max(slowest, time.perf_counter() - start)
        after = {name: array for name, array in flatten(found[2]).items() if name[-3:] != "eps"}
        assert {name for name in SIZES if found[1][name] != SIZES[name]} <= {"n_head", "n_ctx"}, seed
        assert all(np.array_equal(after[name], before[name]) for name in before), seed
        assert found[0].bpe_ranks == wanted[0].bpe_ranks, seed
        others = {token for token, i in wanted[0].encoder.items() if found[0].encoder.get(token) != i}
        assert all(len(token) == 1 or token == "<|endoftext|>" for token in others), seed
    print(f"{n_fuzz} damaged headers: {n_refused} refused, the slowest after {slowest:.3f} s")
    assert 0.5 * n_fuzz < n_refused < n_fuzz and slowest < 5
