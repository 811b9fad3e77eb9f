"""A vocabulary of characters has the ids of its meta.pkl, in transformers too (`pytest -m parity`)."""

import json
import pickle

import numpy as np
import pytest
from foreign_models import N_CTX, N_HEAD, lively_model, nanogpt, run, save, tensor
from helpers import assert_same_ids, assert_same_logits

import gpt2
import weights
from extras import huggingface
from extras.huggingface import characters, convert, export, loading, vocabulary
from extras.huggingface.config import read_config
from files import ModelError

SHAKESPEARE = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # nanoGPT's 65 characters
VERSE = "\nROMEO:\nBut, soft! what light through yonder"
OTHERS = {  # texts whose characters have two, three and four bytes, and such as bytes_to_unicode has
    "French": "L'été, à Noël : «où ça ?» — naïve cœur",
    "Polish": "Zażółć gęślą jaźń\t\r\n",
    "Russian": "Мороз и солнце; день чудесный!",
    "Chinese": "床前明月光,疑是地上霜。丕",
    "Greek and more": "γειά σου κόσμε 🦊😀 a\u00a0b\u0085c\x00\x7f\ufeffé e\u0301",
    "spellings of bytes": "Ġ Ċ\n ĉ\t č\r ł\u00a0 Ń\u00ad Ã©é Â ÿ",
}


def to_meta(text):
    """What nanoGPT's prepare.py saves for a text."""
    letters = sorted(set(text))
    stoi = {letter: i for i, letter in enumerate(letters)}
    return {"vocab_size": len(letters), "itos": dict(enumerate(letters)), "stoi": stoi}


def save_meta(folder, text=SHAKESPEARE, **fields):
    """A meta.pkl; a field that is None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = {name: value for name, value in (to_meta(text) | fields).items() if value is not None}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder / "meta.pkl"


def save_checkpoint(folder, n_vocab=65, **config):
    """A nanoGPT that learned characters, as in out/ckpt.pt, and the model of transformers that it equals."""
    model = lively_model(vocab_size=n_vocab, activation_function="gelu", bos_token_id=None, eos_token_id=None)
    content = nanogpt(model) | {"config": {"device": "cpu"} | config, "iter_num": 5000}
    content["best_val_loss"] = tensor(1)[0]
    folder.mkdir(parents=True, exist_ok=True)
    return save(content, folder / "ckpt.pt"), model


# ---- the tokenizer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [VERSE + SHAKESPEARE, *OTHERS.values()], ids=["Shakespeare", *OTHERS])
def test_each_character_is_a_token_with_its_id(text):
    ids = to_meta(text)["stoi"]
    encoder = characters.to_encoder(ids)
    assert encoder.encode(text) == [ids[character] for character in text]
    assert encoder.decode(encoder.encode(text)) == text
    assert len(encoder.encoder) == len(ids) and not encoder.special_tokens and not encoder.stop_ids


def test_ids_need_not_be_in_the_order_of_the_characters():
    ids = {"b": 0, "中": 1, "a": 2, "é": 3}
    assert characters.to_encoder(ids).encode("abé中") == [2, 0, 3, 1]


LACKING = {"a7": "7", "éë": "ë", "中丕": "丕", "中中丑": "丑", "日": "日", "é😀": "😀", "a" * 70 + "b": "b"}


@pytest.mark.parametrize("text, character", LACKING.items())
def test_a_character_that_the_vocabulary_lacks_is_named(text, character):
    encoder = characters.to_encoder(to_meta("aé中")["stoi"])
    byte = f"0x{character.encode()[0]:02x}"
    with pytest.raises(ValueError, match=f"vocabulary has no token for '{character}' .byte {byte}.: leave"):
        encoder.encode(text)


@pytest.mark.parity
@pytest.mark.parametrize("text", [VERSE + SHAKESPEARE, *OTHERS.values()], ids=["Shakespeare", *OTHERS])
def test_transformers_gives_the_same_ids_and_the_same_text(tmp_path, transformers, text):
    ids = to_meta(text)["stoi"]
    export.write_tokenizer(tmp_path, characters.to_encoder(ids), N_CTX)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": len(ids)}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.encode(text) == [ids[character] for character in text]
    assert theirs.decode(theirs.encode(text), clean_up_tokenization_spaces=False) == text
    assert theirs.all_special_tokens == []


def test_parts_of_characters_that_only_merges_use_need_no_row():
    tokens = {"a": 0, "Ã©": 1, "Ã": 2, "©": 3}
    assert vocabulary.assign_rows(tokens, {}, 2) == {"a": 0, "Ã©": 1}
    assert vocabulary.assign_rows(tokens, {}, 4) == tokens
    for whole in ("b", "Ã«", "Ġthe", "<pad>", "中"):
        with pytest.raises(ValueError, match="it has 3 tokens, but its model has 2 rows for them"):
            vocabulary.assign_rows(tokens | {whole: 4}, {}, 2)


# ---- meta.pkl ----------------------------------------------------------------------------------------------


def test_a_meta_pkl_is_read(tmp_path):
    assert characters.read_meta(save_meta(tmp_path)) == to_meta(SHAKESPEARE)["stoi"]
    only_stoi = save_meta(tmp_path / "2", itos=None, vocab_size=None)
    assert characters.read_meta(only_stoi) == to_meta(SHAKESPEARE)["stoi"]
    itos_is_a_list = save_meta(tmp_path / "3", itos=sorted(SHAKESPEARE))
    assert characters.read_meta(itos_is_a_list) == to_meta(SHAKESPEARE)["stoi"]


WORDS = "only a vocabulary of single characters is supported"
HUGE = 1 << 20_000  # more digits than Python writes


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stoi": None}, "it has no stoi, a dict from characters to their ids"),
        ({"stoi": {}}, "it has no stoi, a dict from characters to their ids"),
        ({"stoi": ["a", "b"]}, "it has no stoi, a dict from characters to their ids"),
        ({"stoi": {"the": 0, "a": 1}}, f"'the' in its stoi is not a character; {WORDS}"),
        ({"stoi": {"": 0, "a": 1}}, f"'' in its stoi is not a character; {WORDS}"),
        ({"stoi": {"\ud83d": 0, "a": 1}}, rf"'\\ud83d' in its stoi is not a character; {WORDS}"),
        ({"stoi": {7: 0, "a": 1}}, f"7 in its stoi is not a character; {WORDS}"),
        ({"stoi": {HUGE: 0, "a": 1}}, f"something of type int in its stoi is not a character; {WORDS}"),
        ({"stoi": {"a": 0, "b": 2}}, "the id of 'b' is 2, expected each number from 0 to 1 once"),
        ({"stoi": {"a": 0, "b": -1}}, "the id of 'b' is -1, expected each number from 0 to 1 once"),
        (
            {"stoi": {"a": 0, "b": HUGE}},
            "the id of 'b' is something of type int, expected each number",
        ),
        (
            {"stoi": {"a": 0, "b": 1.0}},
            "the id of 'b' is something of type float, expected each",
        ),
        (
            {"stoi": {"a": 0, "b": True}},
            "the id of 'b' is something of type bool, expected each",
        ),
        ({"stoi": {"a": 0, "b": 0}}, "two characters in its stoi have the same id, expected each number"),
        ({"itos": {i: "a" for i in range(65)}}, "its itos is not the inverse of its stoi"),
        ({"itos": [[]] * 65}, "its itos is not the inverse of its stoi"),
        ({"itos": "abc"}, "its itos is not the inverse of its stoi"),
        ({"vocab_size": 66}, "its vocab_size is not 65, as many as its stoi has"),
        ({"vocab_size": HUGE}, "its vocab_size is not 65, as many as its stoi has"),
    ],
)
def test_a_vocabulary_that_is_not_one_of_characters_is_refused(tmp_path, fields, message):
    path = save_meta(tmp_path, **fields)
    with pytest.raises(ModelError) as error:
        characters.read_meta(path)
    assert str(error.value).startswith(f"{path}: {message}".replace("\\\\", "\\"))


@pytest.mark.parametrize("place", ["out", "data/letters", "elsewhere/data/letters", "data/another"])
def test_a_meta_pkl_is_found_where_nanogpt_keeps_it(tmp_path, monkeypatch, place):
    path, folder = save_meta(tmp_path / place), tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    file = {"out": tmp_path / "out" / "ckpt.pt"}.get(place, folder / "out" / "ckpt.pt")
    found = characters.find_meta(file, {"config": {"dataset": "letters"}})
    assert (found and found.resolve()) == (None if place == "data/another" else path)


@pytest.mark.parametrize("content", [{}, {"config": None}, {"config": {"dataset": "../secret"}}])
def test_what_a_checkpoint_says_of_its_data_leads_nowhere_else(tmp_path, monkeypatch, content):
    save_meta(tmp_path / "secret")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert characters.find_meta(tmp_path / "out" / "ckpt.pt", content) is None


# ---- the whole way -----------------------------------------------------------------------------------------


def with_transformers(folder):
    """The model in a folder, and its tokenizer, as transformers reads them."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    return GPT2LMHeadModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def logits(model, ids):  # -> [n_seq, 65]
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, :, :65].numpy()


@pytest.mark.parity
@pytest.mark.parametrize("n_vocab", [65, 128])
@pytest.mark.parametrize("is_found", [True, False])
def test_shakespeare_char_keeps_its_numbers(tmp_path, capsys, transformers, n_vocab, is_found):
    meta = save_meta(tmp_path / "data" / "shakespeare_char")
    dataset = "shakespeare_char" if is_found else "another"
    file, model = save_checkpoint(tmp_path / "out-char", n_vocab, dataset=dataset)
    status, out, err = run(capsys, file, tmp_path / "new", *([] if is_found else ["--meta", meta]))
    made = f"a nanoGPT with the 65 characters of {meta}, {N_HEAD} heads, gelu by its date"
    made = f"{made} (--activation overrides that): {file} -> {tmp_path / 'new'}\n"
    assert (status, out, err) == (0, made, "")
    theirs, tokenizer = with_transformers(tmp_path / "new")
    ids = [to_meta(SHAKESPEARE)["stoi"][letter] for letter in VERSE]
    assert tokenizer.encode(VERSE) == ids
    params = loading.load_params(tmp_path / "new", read_config(tmp_path / "new"))
    for other in (logits(model, ids), logits(theirs, ids)):
        assert_same_logits(gpt2.gpt2(ids, **params, n_head=N_HEAD), other)
    greedy = []
    for _ in range(4):
        greedy.append(int(logits(model, ids + greedy)[-1].argmax()))
    assert_same_ids(gpt2.generate(ids, params, N_HEAD, 4), greedy, lambda new: logits(model, ids + new)[-1])


@pytest.mark.parametrize("text", [VERSE + SHAKESPEARE, *OTHERS.values()], ids=["Shakespeare", *OTHERS])
def test_a_folder_of_characters_is_loaded_and_saved_again(tmp_path, text):
    ids = to_meta(text)["stoi"]
    sizes = {"n_vocab": len(ids), "n_ctx": 64, "n_embd": 24, "n_head": 2, "n_layer": 1}
    params = weights.random_params(sizes, np.random.default_rng(0))
    export.save(tmp_path / "first", characters.to_encoder(ids), sizes, params)
    encoder, _, params = huggingface.load(tmp_path / "first")
    assert encoder.encode(text) == [ids[character] for character in text]
    assert encoder.decode(encoder.encode(text)) == text and not encoder.special_tokens
    assert set(gpt2.main(text[:4], 8, str(tmp_path / "first"))) <= set(text)
    export.save(tmp_path / "second", encoder, sizes, params)
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


@pytest.mark.parity
def test_a_missing_meta_pkl_is_asked_for(tmp_path, capsys, monkeypatch, transformers):
    monkeypatch.setattr(convert, "open_model", None)  # nothing is downloaded to find that out
    file, _ = save_checkpoint(tmp_path)
    status, out, err = run(capsys, file, tmp_path / "new")
    found = "has a vocabulary of 65, but the tokenizer has 50,257 tokens (50,304 if padded)"
    advice = "use --tokenizer to name the model whose tokenizer it was trained with"
    advice = f"{advice}, or --meta for the meta.pkl of its characters"
    assert (status, out, err) == (2, "", f"extras.huggingface.convert: {file} {found}: {advice}\n")


@pytest.mark.parity
@pytest.mark.parametrize(
    "n_vocab, words, status, message",
    [
        (66, ["--meta", "{}/meta.pkl"], 2, "66, but {}/meta.pkl has 65 characters (128 if padded): use"),
        (66, [], 2, "vocabulary of 66, but {}/meta.pkl has 65 characters (128 if padded): use --tokenizer"),
        (65, ["--meta", "{}/meta.pkl", "--tokenizer", "tiny"], 2, "--meta and --tokenizer cannot be"),
        (65, ["--meta", "{}/gone.pkl"], 1, "No such file or directory: '{}/gone.pkl'"),
        (65, ["--meta", "{}/ckpt.pt"], 1, "{}/ckpt.pt: it cannot be read as a pickle"),
        (65, ["--tokenizer", "tiny"], 2, "vocabulary of 65, but the tokenizer has 4,000 tokens"),
    ],
)
def test_a_wrong_meta_pkl_is_refused(tmp_path, capsys, transformers, n_vocab, words, status, message):
    save_meta(tmp_path)
    file, _ = save_checkpoint(tmp_path, n_vocab)
    found, out, err = run(capsys, file, tmp_path / "new", *[word.format(tmp_path) for word in words])
    assert (found, out, err.count("\n")) == (status, "", 1) and message.format(*[tmp_path] * 2) in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parity
def test_a_tokenizer_that_is_named_goes_before_a_meta_pkl_that_is_found(tmp_path, transformers):
    save_meta(tmp_path)
    file, _ = save_checkpoint(tmp_path, n_vocab=4000)
    assert "a nanoGPT, 4 heads" in convert.convert(file, tmp_path / "new", "tiny")
