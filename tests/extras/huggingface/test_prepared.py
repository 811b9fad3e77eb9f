"""Tokenizers that prepare a text in another way than GPT-2, or lack a byte: their ids, by what they do."""

import pickle
import re

import pytest
from tokenizer_files import (
    BYTE_LEVEL,
    END,
    LAYOUTS,
    MERGES,
    N_VOCAB,
    PAD,
    PLAIN_CLASS,
    TOKENS,
    assert_refused,
    files_of,
    read,
    with_setting,
)

# ---- what is prepared in another way -----------------------------------------------------------------------

PREPARED = {
    "normalizer": [
        ({"type": "NFC"}, "he\u0301", "hé"),
        ({"type": "Lowercase"}, "HeLLo THE", "hello the"),
        ({"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFC"}]}, "HE\u0301", "hé"),
    ],
    "pre_tokenizer": [
        (BYTE_LEVEL | {"add_prefix_space": True}, "the hen", " the hen"),
        ({"type": "Sequence", "pretokenizers": [BYTE_LEVEL | {"add_prefix_space": True}]}, "the", " the"),
    ],
}
PREPARED = [(field, *case) for field, cases in PREPARED.items() for case in cases]


@pytest.mark.parametrize("field, value, text, same", PREPARED)
def test_another_preparation_of_a_text_is_followed(tmp_path, field, value, text, same):
    usual = read(tmp_path, files_of("tokenizer.json"))
    ours = read(tmp_path, with_setting(field, value) | {"tokenizer_config.json": PLAIN_CLASS})
    assert ours.encode(text) == usual.encode(same) != usual.encode(text)
    assert ours.encode(f"{text}{END}{text}", "all") == [*ours.encode(text), TOKENS[END], *ours.encode(text)]
    assert "".join(ours.decode_stream(ours.encode(text))) == same
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.encode(f"{text}{END}", "all") == ours.encode(f"{text}{END}", "all")


def test_pieces_are_cut_as_tokenizer_json_says(tmp_path):
    digits = {"type": "Digits", "individual_digits": True}
    cut = {"type": "Sequence", "pretokenizers": [digits, BYTE_LEVEL]}
    merges, tokens = [*MERGES, "1 2"], TOKENS | {"12": N_VOCAB}
    files = files_of("tokenizer.json", tokens, merges) | {"tokenizer_config.json": PLAIN_CLASS}
    assert read(tmp_path, files, N_VOCAB + 1).encode("12") == [N_VOCAB]
    files["tokenizer.json"]["pre_tokenizer"] = cut
    assert read(tmp_path, files, N_VOCAB + 1).encode("12") == [TOKENS["1"], TOKENS["2"]]
    whole = files_of("tokenizer.json", tokens | {"eĠ": N_VOCAB + 1}, [*merges, "e Ġ"])
    whole |= {"tokenizer_config.json": PLAIN_CLASS}
    for use_regex, n_ids in ((True, 4), (False, 3)):
        whole["tokenizer.json"]["pre_tokenizer"]["use_regex"] = use_regex
        assert len(read(tmp_path, whole, N_VOCAB + 2).encode("e 1 ")) == n_ids


@LAYOUTS
def test_a_space_is_put_before_a_text_where_a_gpt2_tokenizer_is_set_to_do_so(tmp_path, layout):
    files = files_of(layout)
    settings = files.setdefault("tokenizer_config.json", {})
    usual = read(tmp_path, files)
    settings["add_prefix_space"] = True
    ours = read(tmp_path, files)
    for text in ("the hen", "hello"):
        assert ours.encode(text) == ours.encode(f" {text}") == usual.encode(f" {text}")
    assert ours.encode("") == [] and ours.encode("\nthe")[0] == TOKENS["Ġ"]
    assert ours.encode(f"the{END}the", "all") == [TOKENS["Ġthe"], TOKENS[END], TOKENS["Ġthe"]]
    settings["add_prefix_space"] = False
    assert read(tmp_path, files).encode("the") == usual.encode("the")


def test_a_gpt2_tokenizer_follows_its_class_and_says_where_tokenizer_json_differs(tmp_path, capsys):
    usual = read(tmp_path, files_of("tokenizer.json"))
    assert read(tmp_path, with_setting("pre_tokenizer/add_prefix_space", True)).encode("the") == usual.encode(
        "the"
    )
    assert capsys.readouterr().err == ""  # as in all versions of transformers
    for field, value in {"normalizer": {"type": "Lowercase"}, "pre_tokenizer/use_regex": False}.items():
        assert read(tmp_path, with_setting(field, value)).encode("The hen") == usual.encode("The hen")
        said = "tokenizer.json does not prepare a text as its tokenizer_class, GPT2Tokenizer, does: "
        assert capsys.readouterr().err == f"{said}the class counts, as in transformers 5\n"


# ---- bytes without a token ---------------------------------------------------------------------------------


def without(*characters):
    """The vocabulary without some bytes, as a tokenizer has it that was trained on little text."""
    left = [token for token in TOKENS if token not in characters]
    return {token: token_id for token_id, token in enumerate(left)}


@LAYOUTS
def test_a_byte_without_a_token_is_an_error_only_in_a_text_that_has_it(tmp_path, layout):
    tokens = without("z", "ð", "À")
    ours = read(tmp_path, files_of(layout, tokens), len(tokens))
    assert ours.decode(ours.encode("hello the hen, é")) == "hello the hen, é"
    for text, character in (("a zoo", "'z' (byte 0x7a)"), ("a fox: 🦊!", "'🦊' (byte 0xf0)")):
        with pytest.raises(ValueError, match=re.escape(f"has no token for {character}: leave it out")):
            ours.encode(text)
    with pytest.raises(ValueError, match="has no token for 'z'"):
        ours.encode("the " * 20 + "z" * 100)


@pytest.mark.parametrize("fused, n_unknown", [(True, 1), (False, 3)])
def test_a_byte_without_a_token_is_the_unknown_token_if_tokenizer_json_names_one(tmp_path, fused, n_unknown):
    tokens = without("z")
    files = files_of("tokenizer.json", tokens) | {"tokenizer_config.json": PLAIN_CLASS}
    files["tokenizer.json"]["model"] |= {"unk_token": PAD, "fuse_unk": fused}
    ours = read(tmp_path, files, len(tokens))
    assert ours.encode("zzza") == [tokens[PAD]] * n_unknown + [tokens["a"]]


def test_an_unknown_token_that_the_vocabulary_lacks_too_changes_nothing(tmp_path):
    tokens = without("z")
    files = files_of("tokenizer.json", tokens) | {"tokenizer_config.json": PLAIN_CLASS}
    files["tokenizer.json"]["model"]["unk_token"] = "<nowhere>"
    ours = read(tmp_path, files, len(tokens))
    assert ours.encode("hello") == [tokens["hello"]]
    with pytest.raises(UnicodeError, match="has no token for 'z'"):
        ours.encode("a zoo")


def test_a_byte_may_be_written_as_text_where_tokenizer_json_says_so(tmp_path):
    tokens = without("z") | {"<0x7A>": N_VOCAB - 1}
    files = files_of("tokenizer.json", tokens) | {"tokenizer_config.json": PLAIN_CLASS}
    files["tokenizer.json"]["model"]["byte_fallback"] = True
    assert read(tmp_path, files, N_VOCAB).encode("za") == [N_VOCAB - 1, tokens["a"]]


@pytest.mark.parametrize("kind", ["Precompiled", "Nonsense"])
def test_what_the_library_does_not_accept_or_panics_at_is_one_line(tmp_path, capfd, kind):
    files = with_setting("normalizer", {"type": kind, "precompiled_charsmap": ""})
    assert_refused(tmp_path, files | {"tokenizer_config.json": PLAIN_CLASS}, "the tokenizers library says: ")


def test_white_space_before_a_token_is_taken_in_time(tmp_path):
    names = {"special_tokens_map.json": {"pad_token": {"content": PAD, "lstrip": True}}}
    ours = read(tmp_path, files_of("vocab.json", added=()) | {"tokenizer_config.json": {}} | names)
    assert ours.encode(" " * 10**6 + "a" + "\x1c \u3000" + PAD, "all")[-3:] == [*ours.encode(" a\x1c"), 0]


def test_a_missing_byte_is_named_by_its_character_where_a_text_is_prepared(tmp_path):
    tokens = without("z", "Ġ", "Ã", *[token for token in TOKENS if "Ġ" in token])
    merges = [merge for merge in MERGES if "Ġ" not in merge]
    files = files_of("tokenizer.json", tokens, merges) | {"tokenizer_config.json": PLAIN_CLASS}
    files["tokenizer.json"]["normalizer"] = {"type": "Lowercase"}
    ours = read(tmp_path, files, len(tokens))
    assert ours.encode("HELLO") == [tokens["hello"]]
    for text, character in (("Zoo", "'z'"), ("É", "'É'"), ("a b", "' '")):
        with pytest.raises(ValueError, match=f"has no token for {character}"):
            ours.encode(text)


def test_a_vocabulary_of_single_characters_needs_no_merges(tmp_path):
    tokens = {character: i for i, character in enumerate("ĊĠ!abcdefghijklmnopqrstuvwxyz")}
    ours = read(tmp_path, files_of("vocab.json", tokens, [], added=()), len(tokens))
    assert ours.encode("a fox!\n") == [tokens[character] for character in "aĠfox!Ċ"]
    assert ours.decode(ours.encode("a fox!\n")) == "a fox!\n"
