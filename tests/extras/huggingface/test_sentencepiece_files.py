"""spiece.model: what is read from it, whole or damaged, and how GPT-SW3 prepares a text."""

import base64
import pickle
import random
import unicodedata

import pytest
from other_tokenizer_files import RINNA_IDS, SW3_IDS, of_sentencepiece, sentencepiece_model
from tokenizer_files import assert_refused, write

from extras.huggingface import sentencepiece_files
from extras.huggingface.sentencepiece_files import SentencePiece, is_table, prepared, read_spiece
from extras.huggingface.vocabulary import load_encoder
from files import ModelError

NO_STRIPPING = {"lstrip": set(), "rstrip": set()}
SW3 = {"tokenizer_class": "GPTSw3Tokenizer"}
T5 = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "pad_token": "[PAD]"}


@pytest.fixture(scope="module")
def bpe():
    """As GPT-SW3's: merged pieces, and bytes for what has none."""
    options = {"model_type": "bpe", "byte_fallback": True, "remove_extra_whitespaces": False}
    options |= {"normalization_rule_name": "identity", "vocab_size": 500}
    return sentencepiece_model("swedish", **SW3_IDS, **options)


@pytest.fixture(scope="module")
def unigram():
    """As rinna's."""
    return sentencepiece_model("japanese", model_type="unigram", control_symbols="[CLS],[SEP]", **RINNA_IDS)


def files_of(content, settings):  # -> {filename: content}
    return {"spiece.model": content, "tokenizer_config.json": settings}


def opened(folder, content, settings):
    write(folder, files_of(content, settings))
    return load_encoder(str(folder), len(of_sentencepiece(content)), ())


def refused(folder, content, settings, n_vocab):  # -> bool
    """Whether a file is refused in one line that names it, or the model; anything else raises an error."""
    write(folder, files_of(content, settings))
    try:
        ours = load_encoder(str(folder), n_vocab, ())
        ours.decode(ours.encode("Katten sov 猫が"))
    except ModelError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        return True
    except UnicodeError as error:
        assert "\n" not in str(error)
    return False


# ---- reading -----------------------------------------------------------------------------------------------


def test_pieces_scores_and_control_pieces_are_those_of_the_library(tmp_path, unigram):
    import sentencepiece

    library = sentencepiece.SentencePieceProcessor(model_proto=unigram)
    path = tmp_path / "spiece.model"
    path.write_bytes(unigram)
    read = read_spiece(path)
    ids = range(len(library))
    assert read["model"]["vocab"] == [[library.id_to_piece(i), library.get_score(i)] for i in ids]
    assert read["control"] == [library.id_to_piece(i) for i in ids if library.is_control(i)]
    assert {"[CLS]", "[SEP]", "<s>", "</s>"} <= {*read["control"]} and "<unk>" not in read["control"]
    assert (read["model"]["unk_id"], read["content"]) == (library.unk_id(), unigram)


def test_the_table_of_a_file_is_handed_on_where_there_is_one(tmp_path, unigram, bpe):
    path = tmp_path / "spiece.model"
    path.write_bytes(unigram)
    step = read_spiece(path)["normalizer"]
    assert step["type"] == "Precompiled" and base64.b64decode(step["precompiled_charsmap"]) in unigram
    path.write_bytes(bpe)
    assert read_spiece(path)["normalizer"] is None


def test_t5_and_gpt_sw3_read_a_file_as_their_library_does(tmp_path, unigram, bpe):
    import sentencepiece

    for content, settings, texts in [
        (unigram, T5, ["今日は いい天気です。", "猫が座っている", "ＧＰＴ"]),
        (bpe, SW3, ["Katten sov under bordet.", "  två  ord", "räv 🦊\nny rad", ""]),
    ]:
        library = sentencepiece.SentencePieceProcessor(model_proto=content)
        ours = opened(tmp_path, content, settings)
        for text in texts:
            ids = ours.encode(text)
            assert ids == library.encode(text), text
            assert ours.decode(ids) == "".join(ours.decode_stream(ids)) == library.decode(ids)


# ---- T5's unknown token and its sentinels ------------------------------------------------------------------


def test_what_is_unknown_to_t5_has_the_id_of_unk_token_not_of_the_end(tmp_path, unigram):
    ours = opened(tmp_path, unigram, T5)
    assert ours.encode("猫🦊")[-1] == RINNA_IDS["unk_id"] == ours.encoder["<unk>"]
    assert {"[CLS]", "[SEP]", "<s>", "</s>", "<unk>", "[PAD]"} == ours.special_tokens
    renamed = opened(tmp_path, unigram, T5 | {"unk_token": "[PAD]"})
    assert renamed.encode("猫🦊")[-1] == RINNA_IDS["pad_id"]


@pytest.mark.parametrize(
    "extra_ids, n_rows, n_there", [(0, 5, 0), (4, 4, 4), (4, 6, 4), (4, 2, 2), (None, 100, 100)]
)
def test_sentinels_come_after_the_pieces_the_last_one_first_as_far_as_there_are_rows(
    tmp_path, unigram, extra_ids, n_rows, n_there
):
    settings = {name: value for name, value in T5.items() if name != "extra_ids"}
    settings |= {} if extra_ids is None else {"extra_ids": extra_ids}
    write(tmp_path, files_of(unigram, settings))
    n_pieces, n_all = len(of_sentencepiece(unigram)), 100 if extra_ids is None else extra_ids
    ours = load_encoder(str(tmp_path), n_pieces + n_rows, ())
    there = [ours.decoder[n_pieces + i] for i in range(n_there)]
    assert there == [f"<extra_id_{n_all - 1 - i}>" for i in range(n_there)]
    assert {*there} == {token for token in ours.special_tokens if token.startswith("<extra_id_")}
    assert len(ours.decoder) == n_pieces + n_rows
    if there:
        assert ours.encode(f"猫{there[-1]}", "all")[-1] == n_pieces + n_there - 1


# ---- damaged files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, settings", [("bpe", SW3), ("unigram", T5)])
def test_a_file_cut_anywhere_is_refused(tmp_path, request, kind, settings):
    whole = request.getfixturevalue(kind)
    n_vocab = len(of_sentencepiece(whole))
    assert not refused(tmp_path, whole, settings, n_vocab)
    for length in [*range(0, len(whole), len(whole) // 60), *range(len(whole) - 20, len(whole))]:
        assert refused(tmp_path, whole[:length], settings, n_vocab), length


@pytest.mark.parametrize("kind, settings", [("bpe", SW3), ("unigram", T5)])
def test_a_file_with_a_bit_flipped_is_refused_in_one_line_or_can_be_used(
    tmp_path, request, capfd, kind, settings
):
    whole, rng = request.getfixturevalue(kind), random.Random(0)
    n_vocab, n_refused = len(of_sentencepiece(whole)), 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        n_refused += refused(tmp_path, bytes(damaged), settings, n_vocab)
    assert n_refused > 5
    assert "panicked" not in capfd.readouterr().err


def test_a_damaged_table_of_characters_is_refused_before_a_library_panics_at_it(tmp_path, unigram, capfd):
    whole = read_spiece(write(tmp_path, files_of(unigram, T5)) / "spiece.model")["normalizer"]
    table = base64.b64decode(whole["precompiled_charsmap"])
    assert is_table(table) and is_table(bytes(4)) and not is_table(table[:100]) and not is_table(b"\x04\0")
    assert not is_table(table + b"\xff") and not is_table(b"\2" + bytes(9))
    for damaged in (b"\xff" * 4 + table[4:], table[:-1] + b"\xff"):
        files = files_of(unigram.replace(table, damaged), T5)
        assert_refused(tmp_path, files, "its table of characters is damaged; get a fresh copy", 1000)
    assert capfd.readouterr().err == ""


def test_what_the_library_does_not_accept_is_one_line(tmp_path, bpe):
    files = files_of(bpe.replace(b"<0x0F>", b"<0h0F>"), SW3)
    words = "not supported: the sentencepiece library says: INTERNAL: byte piece <0h0F> is invalid"
    assert_refused(tmp_path, files, words, len(of_sentencepiece(bpe)))


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    assert_refused(tmp_path, files_of(pointer, SW3), "only a pointer to the file")


@pytest.mark.parametrize("settings", [SW3, T5])
@pytest.mark.parametrize(
    "content", [b"", b"\n", b"version https://git-lfs.github.com/spec/v1\n", b"{}", b"\0" * 99]
)
def test_what_is_something_else_is_refused(tmp_path, content, settings):
    assert refused(tmp_path, content, settings, 100)


def test_a_file_that_is_much_too_large_is_not_read(tmp_path, bpe, monkeypatch):
    monkeypatch.setattr(sentencepiece_files, "LARGEST_TEXT", len(bpe) - 1)
    assert_refused(tmp_path, files_of(bpe, SW3), "it is too large for a file of this kind")


# ---- GPT-SW3 -----------------------------------------------------------------------------------------------


def slowly_prepared(text):
    """By a loop: characters that GPT-SW3 leaves out, then spaces, then what composes."""
    out = ""
    for c in text:
        n = ord(c)
        if n < 9 or 11 <= n < 32 or 127 <= n <= 160 or n in (0xAD, 0x200B):
            continue
        spaces = (0x2002, 0x2003, 0x2005, 0x2008, 0x2009, 0x200A, 0x202F, 0x3000, 0xFFFC)
        out += " " if n in spaces else c
    return unicodedata.normalize("NFC", out)


def test_a_text_is_prepared_character_by_character():
    for n in range(0x11000):
        if not 0xD800 <= n < 0xE000:
            text = f"a{chr(n)}b"
            assert prepared(text) == slowly_prepared(text), hex(n)
    assert prepared("A\u030a\t\n\r e\u0301\u3000x") == "Å\t\n é x"


def test_added_tokens_are_cut_out_of_a_text_the_longest_first_and_the_rest_goes_to_the_library(bpe):
    import sentencepiece

    library = sentencepiece.SentencePieceProcessor(model_proto=bpe)
    added, n = {"<s>": 2, "räv": 900, "räven": 901, "(": 902}, library.encode
    ours = SentencePiece(bpe, added, {"<s>"}, NO_STRIPPING)
    assert ours.encode("en rävenräv katt", frozenset()) == [*n("en "), 901, 900, *n(" katt")]
    assert ours.encode("räv(", frozenset()) == [900, 902]
    assert ours.encode("räv\u200b\u3000hus", frozenset()) == [900, *n(" hus")]
    assert ours.encode("räv<s>", frozenset()) == [900, *n("<s>")]
    assert ours.encode("räv<s>hus", frozenset(["<s>"])) == [900, 2, *n("hus")]
    alone = SentencePiece(bpe, {"<s>": 2}, {"<s>"}, NO_STRIPPING)
    assert alone.encode("räv<s>", frozenset()) == n("räv<s>")


def test_an_added_token_may_take_the_white_space_beside_it(bpe):
    stripping = {"lstrip": {"<l>"}, "rstrip": {"<r>"}}
    ours = SentencePiece(bpe, {"<l>": 900, "<r>": 901}, set(), stripping)
    n = ours.library.encode
    assert ours.encode("katt \n<l> hus", frozenset()) == [*n("katt"), 900, *n(" hus")]
    assert ours.encode("katt <r>\t hus", frozenset()) == [*n("katt "), 901, *n("hus")]


def test_added_tokens_are_written_and_ids_beyond_all_pieces_are_nothing(bpe):
    ours = SentencePiece(bpe, {"räv": 900}, set(), NO_STRIPPING)
    ids = ours.encode("katt räv", frozenset())
    assert ours.decode(ids) == ours.decode([*ids, 999]) == "katt räv"


def test_a_pickled_one_is_the_same(tmp_path, bpe):
    ours = opened(tmp_path, bpe, SW3)
    again = pickle.loads(pickle.dumps(ours))
    for text in ("Katten <s> sov", "räv 🦊", ""):
        assert again.encode(text) == ours.encode(text)
        assert again.encode(text, "all") == ours.encode(text, "all")
        assert again.decode(again.encode(text)) == ours.decode(ours.encode(text))
