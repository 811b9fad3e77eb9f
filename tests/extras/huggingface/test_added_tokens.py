"""Added tokens: which there are, which of them are special, what ids they get, where they are looked for."""

import pytest
from tokenizer_files import (
    END,
    LAYOUTS,
    MERGES,
    N_VOCAB,
    PAD,
    TOKENS,
    assert_refused,
    files_of,
    read,
    with_setting,
)

from extras.huggingface.added_tokens import NAMED
from extras.huggingface.vocabulary import load_encoder

# ---- which tokens are special, and what ids they get -------------------------------------------------------

WITHOUT_END = {token: i for i, token in enumerate(token for token in TOKENS if token != END)}


@LAYOUTS
def test_endoftext_that_no_file_has_is_the_next_token_of_a_gpt2_tokenizer(tmp_path, layout):
    files = files_of(layout, WITHOUT_END, added=(PAD,))
    ours = read(tmp_path, files, N_VOCAB, stop_ids=[50256])
    assert ours.decode([N_VOCAB - 1]) == END and ours.stop_ids == {N_VOCAB - 1}
    assert ours.encode(f"a{END}", "all") == [WITHOUT_END["a"], N_VOCAB - 1]
    assert END not in read(tmp_path, files, N_VOCAB - 1, stop_ids=[50256]).encoder  # there is no row
    settings = files.setdefault("tokenizer_config.json", {})
    for names in ({"bos_token": None, "eos_token": None, "unk_token": None}, dict.fromkeys(NAMED, PAD)):
        settings |= names
        assert read(tmp_path, files, N_VOCAB).decode([N_VOCAB - 1]) == f"<|unused{N_VOCAB - 1}|>"


def test_a_plain_tokenizer_has_no_endoftext_of_its_own(tmp_path):
    files = files_of("tokenizer.json", WITHOUT_END, added=(PAD,))
    files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert END not in read(tmp_path, files, N_VOCAB).encoder
    del files["tokenizer_config.json"]["tokenizer_class"]
    assert END in read(tmp_path, files, N_VOCAB).encoder
    assert END not in load_encoder(str(tmp_path), N_VOCAB, [], "PreTrainedTokenizerFast").encoder


@LAYOUTS
def test_special_tokens_without_ids_get_the_next_ones_in_the_order_of_the_fields(tmp_path, layout):
    files = files_of(layout) | {"tokenizer_config.json": {"additional_special_tokens": ["<b>", "<a>", PAD]}}
    names = {"mask_token": "<m>", "pad_token": {"content": "[PAD]"}, "sep_token": END}
    files["special_tokens_map.json"] = names
    ours = read(tmp_path, files, N_VOCAB + 3)
    assert ours.decode(range(N_VOCAB, N_VOCAB + 3)) == "[PAD]<m><b>" and "<a>" not in ours.encoder
    assert ours.encode(f"<b>{PAD}<a>", "all")[:2] == [N_VOCAB + 2, 0]
    assert read(tmp_path, files).encoder == TOKENS


@LAYOUTS
def test_added_tokens_decoder_replaces_what_other_files_say(tmp_path, layout):
    files = files_of(layout) | {"added_tokens.json": {"old": N_VOCAB}, "tokenizer_config.json": {}}
    files["special_tokens_map.json"] = {"pad_token": "he"}
    ours = read(tmp_path, files, N_VOCAB + 1)
    assert ours.encode("oldhe", "all") == [N_VOCAB, TOKENS["he"]] and "he" in ours.special_tokens
    decoder = {"0": {"content": PAD}, "1": {"content": END}, str(N_VOCAB): {"content": "new"}}
    files["tokenizer_config.json"] = {"added_tokens_decoder": decoder}
    ours = read(tmp_path, files, N_VOCAB + 1)
    assert ours.added_tokens == {PAD, END, "new"} and ours.decode([N_VOCAB]) == "new"
    assert ours.special_tokens == {END}  # which is named by GPT-2's own class


def test_added_tokens_that_newer_versions_forget_are_refused(tmp_path):
    files = files_of("tokenizer.json") | {"tokenizer_config.json": {"added_tokens_decoder": {}}}
    words = "the added token '<pad>', which tokenizer_config.json's added_tokens_decoder lacks"
    assert_refused(tmp_path, files, words)
    files["tokenizer_config.json"] |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert read(tmp_path, files).special_tokens == {PAD, END}


@LAYOUTS
def test_lists_of_special_tokens_that_differ_are_refused(tmp_path, layout):
    files = files_of(layout) | {"tokenizer_config.json": {"additional_special_tokens": ["he"]}}
    files["special_tokens_map.json"] = {"additional_special_tokens": ["in"]}
    assert_refused(tmp_path, files, "two lists of its special tokens differ: ['he'] and ['in']")
    files["special_tokens_map.json"] = {"additional_special_tokens": ["he"], "extra_special_tokens": {}}
    assert "he" in read(tmp_path, files).special_tokens


def test_a_token_that_only_a_nested_field_names_is_refused(tmp_path):
    files = files_of("tokenizer.json")
    files["tokenizer_config.json"] = {"model_specific_special_tokens": {"x_token": "he"}}
    assert_refused(tmp_path, files, "x_token is 'he', which is special only to some versions")
    files["added_tokens.json"] = {"he": TOKENS["he"]}
    assert "he" in read(tmp_path, files).special_tokens


@pytest.mark.parametrize("place", ["audio_token", "padding.pad_token"])
def test_a_token_that_is_special_only_to_some_versions_is_refused(tmp_path, place):
    files = with_setting("padding", {"pad_token": "he"} if place == "padding.pad_token" else None)
    files["tokenizer_config.json"] = {"audio_token": "he"} if place == "audio_token" else {}
    assert_refused(tmp_path, files, f"{place} is 'he', which is special only to some versions")
    files["added_tokens.json"] = {"he": TOKENS["he"]}
    assert "he" in read(tmp_path, files).added_tokens
    assert ("he" in read(tmp_path, files).special_tokens) == (place == "audio_token")
    files = with_setting("padding", {"pad_token": "[PAD]"}) | {"added_tokens.json": {}}
    files["tokenizer_config.json"] = {"audio_token": "<audio>"}
    assert read(tmp_path, files).encoder == TOKENS  # there is no row for either
    assert_refused(tmp_path, files, "audio_token is '<audio>', which is special only", N_VOCAB + 1)


def test_a_special_token_of_the_vocabulary_that_no_file_adds_is_plain_text(tmp_path):
    files = files_of("tokenizer.json", added=())
    files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    ours, text = read(tmp_path, files, N_VOCAB + 1), f"a{END}{PAD}<|unused{N_VOCAB}|>"
    assert ours.special_tokens == set() and ours.encode(text, "all") == ours.encode(text)
    assert ours.decode(ours.encode(text)) == text
    assert ours.decode([0, 1, N_VOCAB]) == f"{PAD}{END}<|unused{N_VOCAB}|>"
    del files["tokenizer_config.json"]["tokenizer_class"]
    assert read(tmp_path, files).special_tokens == {END}  # the end of text of GPT-2's own class


@pytest.mark.parametrize(
    "flags, found",
    [
        ({"normalized": True}, ["h", "en"]),
        ({"normalized": False}, ["he", "n"]),
        ({"normalized": True, "special": True}, ["h", "en"]),
        ({"special": False}, ["h", "en"]),
        ({}, ["h", "en"]),
        ({"special": True}, ["he", "n"]),
    ],
)
def test_added_tokens_that_are_normalized_are_looked_for_last(tmp_path, flags, found):
    listed = [{"content": "he", "id": TOKENS["he"]} | flags]
    listed.append({"content": "en", "id": N_VOCAB, "normalized": False})
    ours = read(tmp_path, with_setting("added_tokens", listed), N_VOCAB + 1)
    assert [ours.decoder[i] for i in ours.encode("hen", "all")] == found
    assert ours.special_tokens == {END} | ({"he"} if flags.get("special") else set())


def test_of_two_files_that_declare_a_token_the_last_says_whether_it_is_normalized(tmp_path):
    he = {"content": "he", "id": TOKENS["he"], "normalized": True}
    files = with_setting("added_tokens", [he, {"content": "en", "id": N_VOCAB, "normalized": False}])
    decoder = {TOKENS["he"]: {"content": "he", "normalized": False}, N_VOCAB: {"content": "en"}}
    files["tokenizer_config.json"] = {"added_tokens_decoder": decoder}
    for tokenizer_class in ("GPT2Tokenizer", "PreTrainedTokenizerFast"):
        files["tokenizer_config.json"]["tokenizer_class"] = tokenizer_class
        assert read(tmp_path, files, N_VOCAB + 2).encode("hen", "all")[0] == TOKENS["he"]
    files["tokenizer_config.json"] = {}
    files["added_tokens.json"] = {"he": TOKENS["he"], "an": N_VOCAB + 1, "ne": N_VOCAB + 2}
    files["special_tokens_map.json"] = {"pad_token": "ne"}
    ours = read(tmp_path, files, N_VOCAB + 4)
    assert ours.added_groups == [{"en", "ne", END}, {"he", "an"}]
    for more, first in ((["an", {"content": "he"}], {"an"}), ({"image_token": "an"}, set())):
        files["tokenizer_config.json"] = {"extra_special_tokens": more}  # a dict in it does not count
        ours = read(tmp_path, files, N_VOCAB + 4)
        assert ours.added_groups == [{"en", "ne", END} | first, {"he", "an"} - first]


@LAYOUTS
def test_an_added_token_that_merges_make_too_is_special(tmp_path, layout):
    ours = read(tmp_path, files_of(layout, added=(PAD, "he")))
    he, plain = TOKENS["he"], ours.encode("the he")
    assert plain == [TOKENS[token] for token in ("t", "he", "Ġ", "he")]
    assert "he" in ours.special_tokens and ours.encode("the", "all") == [TOKENS["t"], he]
    assert ours.decode([TOKENS["t"], he]) == "the"


def test_a_token_may_have_the_name_that_a_row_without_one_would_get(tmp_path):
    name = f"<|unused{N_VOCAB}|>"
    tokens = TOKENS | {name: N_VOCAB + 1}
    ours = read(tmp_path, files_of("vocab.json", tokens), n_vocab=N_VOCAB + 2)
    assert ours.encoder[name] == N_VOCAB + 1 and ours.encoder[f"<{name}>"] == N_VOCAB
    assert ours.decode([N_VOCAB, N_VOCAB + 1]) == f"<{name}>{name}"


IDS = f"its {N_VOCAB} tokens do not all have different ids below {N_VOCAB}"


@LAYOUTS
@pytest.mark.parametrize(
    "tokens, merges, words",
    [
        ({"hello": ...}, MERGES, "merge 7 is 'hell o', not two tokens that make a third"),
        ({}, ["hel lo", *MERGES], "merge 1 is 'hel lo', not two tokens that make a third"),
        ({}, [*MERGES, "i n g"], "merge 10 is 'i n g', not two tokens"),
        ({}, [*MERGES, "h e"], "a merge is given twice"),
        ({}, MERGES[:-1], "no merge makes the token 'ing' (1 such): merges are missing"),
        ({"he": TOKENS["A"]}, MERGES, IDS),
        ({"hello": N_VOCAB}, MERGES, IDS),
        ({"hello": -1}, MERGES, IDS),
        ({"hello": str(TOKENS["hello"])}, MERGES, IDS),
        ({"hello": float(TOKENS["hello"])}, MERGES, IDS),
        ({END: True}, MERGES, IDS),
    ],
)
def test_tokens_and_merges_that_do_not_belong_together_are_refused(tmp_path, layout, tokens, merges, words):
    tokens = {token: token_id for token, token_id in (TOKENS | tokens).items() if token_id is not ...}
    assert_refused(tmp_path, files_of(layout, tokens, merges, added=()), words)


def test_merges_are_refused_wherever_they_are_cut_and_so_is_what_is_no_text_of_merges(tmp_path):
    files = files_of("vocab.json")
    whole = files["merges.txt"].encode()
    faults = {}
    for n_bytes in range(len(whole) - 1):
        cut = whole[:n_bytes]
        in_a_character = "\ufffd" in cut.decode(errors="replace")
        faults[cut] = "unexpected end of data; get a fresh copy" if in_a_character else "not supported: "
    faults[b"<!DOCTYPE html>\n<html>404</html>\n"] = "merge 1 is '<!DOCTYPE html>', not two tokens"
    faults[b"\xef\xbb\xbf" + whole] = "merge 1 is '\\ufeff#version: 0.2', not two tokens"
    faults[whole.decode().encode("utf-16")] = "can't decode byte 0xff"
    for merges, words in faults.items():
        assert_refused(tmp_path, files | {"merges.txt": merges}, words)
    del files["merges.txt"]
    (tmp_path / "merges.txt").unlink()
    assert_refused(
        tmp_path, files, "it has vocab.json alone; copy tokenizer.json, or both vocab.json and merges.txt"
    )
    (tmp_path / "vocab.json").unlink()
    assert_refused(
        tmp_path, {}, "it has no tokenizer; copy tokenizer.json, or both vocab.json and merges.txt"
    )


FILES = ["tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer_config.json"]
CONTENTS = [
    ("[]", "expected a JSON object, not []"),
    ("<html>", "Expecting value"),
    ('{"a": {"b": 1, "b": 2}}', "b is given twice"),
    (b'{"\xff": 1}', "can't decode byte 0xff"),
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content, words", CONTENTS)
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path, file, content, words):
    files = files_of(file if file == "tokenizer.json" else "vocab.json")
    if file == "added_tokens.json":
        files["tokenizer_config.json"] = {}
    assert_refused(tmp_path, files | {file: content}, words)
    assert_refused(tmp_path, {}, f"{tmp_path / file}: ")


SHAPES = [("model", ...), ("model", []), ("model/vocab", list(TOKENS)), ("model/merges", None)]
SHAPES += [("model/merges", [["h", ["e"]]]), ("pre_tokenizer", "ByteLevel"), ("post_processor", "ByteLevel")]
SHAPES += [("added_tokens", {PAD: 0}), ("added_tokens/0/id", ["0"]), ("added_tokens/0/content", ...)]


@pytest.mark.parametrize("field, value", SHAPES)
def test_json_of_another_shape_is_refused(tmp_path, field, value):
    assert_refused(tmp_path, with_setting(field, value), "the vocabulary of ")
