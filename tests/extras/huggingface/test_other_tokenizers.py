"""Tokenizers of other kinds than GPT-2's, by themselves: small ones, whose ids a reader can tell."""

import itertools
import json
import pickle

import numpy as np
import pytest
from other_kinds import BYTES, UNIGRAM, WORDPIECE, WORDS, encoder_of, token

from extras.huggingface.other_tokenizers import Tokenizers, cleaned
from extras.huggingface.prepared import BYTE_LEVEL

KINDS = {"WordPiece": WORDPIECE, "Unigram": UNIGRAM, "words": WORDS, "bytes": BYTES}
every_kind = pytest.mark.parametrize("kind", KINDS)


def spelled(encoder, *tokens):  # -> ids
    return [encoder.encoder[token] for token in tokens]


# ---- ids and texts -----------------------------------------------------------------------------------------

READ = [
    ("WordPiece", "Foxes, unfoxed!", ["fox", "##es", ",", "un", "##fox", "##ed", "!"], "foxes, unfoxed!"),
    ("WordPiece", "a zebra's fox", ["a", "[UNK]", "'", "s", "fox"], "a [UNK] ' s fox"),
    ("WordPiece", "a  狐fox", ["a", "狐", "fox"], "a 狐 fox"),
    ("Unigram", "the fox", ["▁the", "▁fox"], "the fox"),
    ("Unigram", " the  fox", ["▁the", "▁", "▁fox"], "the  fox"),
    ("Unigram", "foxthe", ["▁fox", "the"], "foxthe"),
    ("Unigram", "the zoo", ["▁the", "▁", "<unk>", "o", "o"], "the <unk>oo"),
    ("words", "the fox  the\nzebra", ["the", "fox", "the", "[UNK]"], "the fox the [UNK]"),
    ("bytes", "the fox", ["▁the", "▁fox"], "the fox"),
    ("bytes", "the é", ["▁the", "▁", "<0xC3>", "<0xA9>"], "the é"),
    ("bytes", "  fox", ["▁", "▁", "▁fox"], "  fox"),
]


@pytest.mark.parametrize("kind, text, tokens, same", READ)
def test_a_text_has_the_tokens_that_its_kind_finds_and_they_have_a_text(kind, text, tokens, same):
    ours = encoder_of(KINDS[kind])
    ids = ours.encode(text)
    assert ids == spelled(ours, *tokens)
    assert ours.decode(ids) == "".join(ours.decode_stream(ids)) == same


@every_kind
def test_nothing_is_nothing(kind):
    ours = encoder_of(KINDS[kind])
    assert ours.encode("") == [] and ours.decode([]) == ""
    assert [*ours.decode_stream([])] == [""]


@every_kind
def test_numbers_of_numpy_are_ids_too(kind):
    ours = encoder_of(KINDS[kind])
    ids = ours.encode("the fox")
    assert ours.decode(np.array(ids)) == "".join(ours.decode_stream(np.array(ids))) == "the fox"
    assert ours.token_bytes(np.int64(ids[0])) == ours.token_bytes(ids[0])


@every_kind
@pytest.mark.parametrize("wrong", [-1, 10**6, "1", 1.0, None])
def test_what_is_not_an_id_is_an_error_that_names_it(kind, wrong):
    ours = encoder_of(KINDS[kind])
    calls = [
        lambda: ours.decode([0, wrong]),
        lambda: ours.token_bytes(wrong),
        lambda: [*ours.decode_stream([0, wrong])],
        lambda: [*ours.decode_stream([0], before=[wrong])],
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"{wrong!r} is not an id: ids run from 0 to "):
            call()


@every_kind
def test_a_lone_surrogate_is_read_as_the_character_for_what_is_lost(kind):
    ours = encoder_of(KINDS[kind])
    for text in ("fox \ud800 fox", "\udcff", "fox\udc00\ud800"):
        clean = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        assert ours.encode(text) == ours.encode(clean)


@every_kind
def test_only_a_str_is_encoded(kind):
    with pytest.raises(TypeError, match="bytes, not str"):
        encoder_of(KINDS[kind]).encode(b"fox")


# ---- special tokens ----------------------------------------------------------------------------------------


@every_kind
def test_a_special_token_is_read_as_text_unless_it_is_allowed_and_is_not_shown(kind):
    ours = encoder_of(KINDS[kind])
    a, b = ours.encoder["<s>"], ours.encoder["</s>"]
    text = "fox<s>fox</s>"
    assert not {a, b} & {*ours.encode(text)}
    assert {a, b} <= {*ours.encode(text, "all")} and ours.encode(text, {"<s>", "</s>"}) == ours.encode(
        text, "all"
    )
    assert a in ours.encode(text, ["<s>"]) and b not in ours.encode(text, ["<s>"])
    ids = ours.encode("fox<s>", "all")
    assert ids[-1] == a and ours.decode(ids) == "".join(ours.decode_stream(ids)) == "fox"
    assert ours.token_bytes(a) == b"<s>" and ours.is_hidden(a) and not ours.is_hidden(ids[0])


@every_kind
def test_a_token_that_is_not_special_cannot_be_allowed(kind):
    ours = encoder_of(KINDS[kind])
    for unknown in ({"<nowhere>"}, ["fox"], {"<s>", "<nowhere>"}):
        with pytest.raises(ValueError, match=r"expected 'all' or some of \['</s>', '<s>'"):
            ours.encode("fox", unknown)


def test_an_added_token_that_is_not_special_is_always_read_and_shown():
    ours = encoder_of(WORDS, [token("<fox>", special=False)])
    ids = ours.encode("the <fox> fox")
    assert ids == spelled(ours, "the", "<fox>", "fox") and ours.decode(ids) == "the <fox> fox"


def test_the_tokens_that_end_and_begin_a_text_have_ids():
    ours = encoder_of(WORDS, stop_tokens=["</s>", "<nowhere>"], begin_token="<s>")
    assert (ours.stop_ids, ours.begin_id) == ({ours.encoder["</s>"]}, ours.encoder["<s>"])
    plain = encoder_of(WORDS)
    assert (plain.stop_ids, plain.begin_id) == (set(), None)


# ---- streams -----------------------------------------------------------------------------------------------


@every_kind
def test_the_pieces_of_a_stream_join_to_the_text_one_for_each_id_and_one_for_the_end(kind):
    ours, rng = encoder_of(KINDS[kind]), np.random.default_rng(0)
    for cleans_up in (False, True):
        ours.cleans_up = cleans_up
        for _ in range(300):
            ids = rng.integers(len(ours.decoder), size=rng.integers(12)).tolist()
            pieces = [*ours.decode_stream(ids)]
            assert len(pieces) == len(ids) + 1 and "".join(pieces) == ours.decode(ids), ids


def test_a_stream_waits_for_the_bytes_of_a_character_and_for_nothing_else():
    ours = encoder_of(BYTES)
    ids = spelled(ours, "▁the", "▁", "<0xC3>", "<0xA9>", "▁fox", "<0xC3>")
    assert [*ours.decode_stream(ids)] == ["the", " ", "", "", "é fox", "", "\ufffd"]


def test_a_stream_waits_for_the_rest_of_a_character_whose_bytes_are_tokens_of_unigram():
    pieces = [["<unk>", 0.0], ["a", -1.0], ["Ã", -1.0], ["©", -1.0]]  # the last two spell é
    over_bytes = {"normalizer": None, "pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL}
    ours = encoder_of(over_bytes | {"model": {"type": "Unigram", "unk_id": 0, "vocab": pieces}})
    assert ours.encode("aéa") == [1, 2, 3, 1]
    assert [*ours.decode_stream([1, 2, 3, 1])] == ["a", "", "é", "a", ""]
    assert [*ours.decode_stream([1, 2])] == ["a", "", "\ufffd"]


def test_a_word_is_written_as_soon_as_its_token_comes():
    for kind, text, pieces in [
        ("WordPiece", "foxes, unfoxed", ["fox", "es", ",", " un", "fox", "ed", ""]),
        ("Unigram", "the fox the", ["the", " fox", " the", ""]),
        ("words", "the fox the", ["the", " fox", " the", ""]),
    ]:
        ours = encoder_of(KINDS[kind])
        assert [*ours.decode_stream(ours.encode(text))] == pieces


@every_kind
def test_a_continuation_keeps_the_space_before_its_first_word(kind):
    ours = encoder_of(KINDS[kind])
    before, new = ours.encode("the fox"), ours.encode("the fox")
    assert "".join(ours.decode_stream(new)) == "the fox"
    assert "".join(ours.decode_stream(new, before)) == " the fox"
    hidden = [ours.encoder["<s>"]]
    assert "".join(ours.decode_stream(new, hidden)) == "the fox"
    assert "".join(ours.decode_stream(iter(new), iter(before + hidden))) == " the fox"


@every_kind
def test_a_text_may_be_continued_at_any_token(kind):
    ours = encoder_of(KINDS[kind])
    ids = ours.encode("the fox the fox")
    for n in range(len(ids) + 1):
        before = ours.decode(ids[:n])
        assert before + "".join(ours.decode_stream(ids[n:], ids[:n])) == ours.decode(ids)


def test_a_long_text_is_written_without_reading_all_of_it_again_each_time(monkeypatch):
    ours = encoder_of(UNIGRAM)
    ids, lengths, decode = ours.encode("the fox " * 500), [], Tokenizers.decode
    monkeypatch.setattr(Tokenizers, "decode", lambda self, ids: lengths.append(len(ids)) or decode(self, ids))
    assert len("".join(ours.decode_stream(ids))) == 8 * 500
    assert sum(lengths) < 8 * len(ids)


# ---- clean-up ----------------------------------------------------------------------------------------------


def test_spaces_before_marks_and_endings_are_taken_out():
    assert cleaned("It 's a fox , is n't it ? I 've been . We 're , 'm !") == (
        "It's a fox, isn't it? I've been. We're,'m!"
    )
    assert cleaned("a ' b") == "a'b" and cleaned("a  .") == "a ." and cleaned("") == ""


def test_a_text_is_cleaned_up_only_where_that_is_set():
    ours = encoder_of(WORDS)
    ids = spelled(ours, "it", "'s", "the", "fox", ".")
    assert ours.decode(ids) == "it 's the fox ."
    ours.cleans_up = True
    assert ours.decode(ids) == "it's the fox."


def test_every_short_row_of_tokens_is_cleaned_up_in_a_stream_as_in_the_whole():
    ours = encoder_of(WORDS, cleans_up=True)
    marks = spelled(ours, "fox", ".", "'", "'s", "n't", "n", "'ve")
    for n in range(6):
        for ids in itertools.product(marks, repeat=n):
            assert "".join(ours.decode_stream(ids)) == ours.decode(ids), ids


def test_endings_that_come_letter_by_letter_are_cleaned_up_in_a_stream_as_in_the_whole():
    ours = encoder_of(UNIGRAM, cleans_up=True)
    letters = spelled(ours, "o", "▁", *"'nrevts")
    for row in itertools.product(letters, repeat=4):
        ids = [letters[0], *row]
        assert "".join(ours.decode_stream(ids)) == ours.decode(ids), ids


def test_what_may_still_lose_its_space_waits_and_nothing_more():
    ours = encoder_of(WORDS, cleans_up=True)
    for tokens, pieces in [
        ("the fox 's fox .", ["the", " fox", "'s", " fox", ".", ""]),
        ("fox ' fox", ["fox", "", "'fox", ""]),
        ("fox ' n 's", ["fox", "", "", "'n's", ""]),
        ("fox n", ["fox", "", " n"]),
        ("fox '", ["fox", "", " '"]),
    ]:
        assert [*ours.decode_stream(spelled(ours, *tokens.split()))] == pieces


# ---- bytes of a token --------------------------------------------------------------------------------------

ADDED = [
    ("WordPiece", "fox", b" fox"),
    ("WordPiece", "##es", b"es"),
    ("WordPiece", ",", b","),
    ("Unigram", "▁fox", b" fox"),
    ("Unigram", "o", b"o"),
    ("Unigram", "▁", b" "),
    ("words", "fox", b" fox"),
    ("bytes", "▁fox", b" fox"),
    ("bytes", "<0xC3>", b"\xc3"),
    ("bytes", "</s>", b"</s>"),
]


@pytest.mark.parametrize("kind, name, content", ADDED)
def test_the_bytes_of_a_token_are_what_it_adds_after_one_of_its_kind(kind, name, content):
    ours = encoder_of(KINDS[kind])
    assert ours.token_bytes(ours.encoder[name]) == content


# ---- copies and errors -------------------------------------------------------------------------------------


@every_kind
def test_a_pickled_tokenizer_is_the_same(kind):
    ours = encoder_of(KINDS[kind], stop_tokens=["</s>"], begin_token="<s>", cleans_up=True)
    again = pickle.loads(pickle.dumps(ours))
    for name in ("encoder", "decoder", "special_tokens", "stop_ids", "begin_id", "cleans_up"):
        assert getattr(again, name) == getattr(ours, name)
    text = "The fox, <s>é the'fox</s>"
    for allowed in ((), {"<s>"}, "all"):
        assert again.encode(text, allowed) == ours.encode(text, allowed)
    assert again.decode(ours.encode(text)) == ours.decode(ours.encode(text))


def test_what_the_library_says_is_one_line():
    broken = json.loads(json.dumps(WORDS))
    broken["model"]["vocab"] = {"the": -1}
    with pytest.raises(UnicodeError, match="the tokenizers library says: ") as caught:
        encoder_of(broken)
    assert "\n" not in str(caught.value)


def test_a_text_that_the_library_cannot_read_is_an_error_in_one_line():
    lacking = json.loads(json.dumps(WORDS))
    lacking["model"]["unk_token"] = "<nowhere>"
    ours = encoder_of(lacking)
    assert ours.encode("the fox") == spelled(ours, "the", "fox")
    with pytest.raises(UnicodeError, match="the tokenizers library says: ") as caught:
        ours.encode("the zebra")
    assert "\n" not in str(caught.value)
