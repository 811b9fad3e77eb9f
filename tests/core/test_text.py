"""Text in and out of a command: a stop text, special tokens, a terminal's characters, what may take long."""

import copy
import io
import sys

import numpy as np
import pytest
from helpers import SMALL, run

import program
import text
import weights
from encoder import END_OF_TEXT, Encoder, bytes_to_unicode


@pytest.mark.parametrize(
    "pieces", [["a hidd", "en hid", "d", "en door"], list("a hidden hidden door"), ["a hidden hidden door"]]
)
@pytest.mark.parametrize(
    "stop, wanted",
    [("hidden d", "a hidden "), ("a", ""), ("hidden", "a "), ("dd", "a hi"), ("zz", "a hidden hidden door")],
)
def test_a_stop_text_is_never_half_printed(pieces, stop, wanted):
    printed = ""
    for piece in text.until(iter(pieces), stop):
        printed += piece
        assert wanted.startswith(printed)
    assert printed == wanted


def test_text_waits_only_while_it_may_be_the_beginning_of_stop():
    assert list(text.until(iter(["ab", "c", "ab", "x"]), "abx")) == ["", "abc", "", ""]
    assert list(text.until(iter(["ab", "c"]), None)) == ["ab", "c", ""]


@pytest.mark.parametrize(
    "encoding, shown", [("ascii", b"? ?\n"), ("cp1252", b"\xe9 ?\n"), ("utf-8", "é 🦊\n".encode())]
)
def test_a_terminal_that_lacks_a_character_shows_a_question_mark(monkeypatch, encoding, shown):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", stdout)
    program.prepare_streams()
    text.write(iter(["é", " 🦊"]))
    assert stdout.buffer.getvalue() == shown


def test_text_on_a_terminal_cannot_command_it(monkeypatch, tiny):
    escape = tiny[0].encode("\x1b[2J\n")
    shown_text = "".join(text.text_of(escape, tiny[0]))
    assert shown_text == "\x1b[2J\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "".join(text.text_of(escape, tiny[0])) == "\\x1b[2J\n"


def test_what_may_take_longer_than_a_second_is_announced(monkeypatch, capsys):
    words = ["The little fox", "3", "tiny"]
    assert run(words) == 0
    before = capsys.readouterr()
    monkeypatch.setattr(weights, "MANY", 10**6)
    monkeypatch.setattr(text, "MANY_PRODUCTS", 10**7)
    assert run(words) == 0
    said = "reading 3 million weights\nreading the text: 3 tokens\n"
    assert before.err == "" and capsys.readouterr() == (before.out, said)


# ---- special tokens ----------------------------------------------------------------------------------------

TOKENS = [*bytes_to_unicode().values(), "th", "<a>", "<a><b>", "<pad>", END_OF_TEXT]
IDS = {token: i for i, token in enumerate(TOKENS)}
MARKED = Encoder(IDS, [("t", "h")])
PAD = IDS["<pad>"]


def shown(ids, stop=None, encoder=MARKED):
    return "".join(text.text_of(iter(ids), encoder, stop))


@pytest.mark.parametrize("at", range(8))
def test_a_special_token_is_not_shown_even_inside_a_character(at):
    ids = MARKED.encode("a🦊é")
    assert len(ids) == 7 and shown([*ids[:at], PAD, IDS["<a>"], *ids[at:]]) == "a🦊é"


def test_a_stop_text_that_would_never_be_shown_is_refused():
    for stop in (None, "ab", "<a>", "<a><b>"):
        text.check_stop(stop, MARKED)
    with pytest.raises(
        ValueError, match="stop has the special token '<pad>', which is not shown: give it alone"
    ):
        text.check_stop("<pad>\n", MARKED)


def test_an_added_token_that_is_not_special_is_shown():
    encoder = Encoder(IDS, [("t", "h")], special_tokens=["<pad>"])
    assert shown([*encoder.encode("a<a>b"), PAD], encoder=encoder) == "a<a>b"


def test_half_a_character_beside_a_special_token_is_shown_as_without_it():
    fox, e = MARKED.encode("🦊"), MARKED.encode("é")
    for half in (fox[:2], fox[1:], [*fox[:3], *e]):
        for ids in ([*half, PAD], [PAD, *half], [*half[:1], PAD, *half[1:]]):
            assert shown(ids) == MARKED.decode(half) and "\ufffd" in shown(ids)


def test_only_a_token_that_ends_the_text_ends_it():
    a, b, c = MARKED.encode("abc")
    assert shown([a, PAD, b, IDS[END_OF_TEXT], c]) == "ab"
    ends = Encoder(IDS, [("t", "h")], stop_tokens=["<pad>"])
    assert shown([a, IDS[END_OF_TEXT], b, PAD, c], encoder=ends) == "ab"


def test_a_stop_text_is_looked_for_in_what_is_shown():
    a, b, c, d = MARKED.encode("abcd")
    assert shown([a, b, PAD, c, d], stop="bc") == "a"
    assert shown([a, b, PAD, c, d], stop="<") == "abcd"


def test_a_stop_text_that_spells_a_special_token_ends_the_text_at_the_token_and_at_its_letters():
    a, b = MARKED.encode("ab")
    assert shown([a, IDS["<a>"], PAD, b], stop="<pad>") == "a"
    assert shown([a, *MARKED.encode("<pad>"), b], stop="<pad>") == "a"


def test_special_tokens_are_tokens_only_if_asked_for():
    a, b = MARKED.encode("ab")
    assert text.encoded("a<pad><a><b>b", MARKED, special=True) == [a, PAD, IDS["<a><b>"], b]
    assert text.encoded("<pad><pad>", MARKED, special=True) == [PAD, PAD]
    assert text.encoded("a<pad>b", MARKED, special=False) == MARKED.encode("a<pad>b") != [a, PAD, b]
    with pytest.raises(ValueError, match="the text has 99 characters, but the model sees 2 tokens"):
        text.encoded("a" * 99, MARKED, special=True, n_most=2)


@pytest.mark.parametrize(
    "texts, named",
    [
        (["a < b, <PAD>, <pad"], None),
        (["a<pad>b<a>"], "<pad>"),
        (["<a><b><pad>"], "<a><b>"),
        (["a", "b<a><pad>", "<pad>"], "<a>"),
    ],
)
def test_a_line_names_the_first_special_token_that_is_read_as_plain_text(capsys, texts, named):
    text.say_if_plain(texts, MARKED, special=False)
    line = f"{named!r} in the prompt is read as plain text; --special makes it the token\n"
    assert capsys.readouterr().err == (line if named else "")
    text.say_if_plain(texts, MARKED, special=True)
    assert capsys.readouterr().err == ""


def test_no_line_comes_for_a_special_token_that_plain_text_gives_too(capsys):
    ours = copy.copy(MARKED)
    ours.special_tokens = {"th", "!", "<pad>"}
    text.say_if_plain(["the!"], ours, special=False)
    assert capsys.readouterr().err == ""
    text.say_if_plain(["the!<pad>"], ours, special=False)
    assert "'<pad>' in the prompt is read as plain text" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["<\x1b[2J>", "<\n>", "<" + "x" * 999 + ">"])
def test_a_token_in_that_line_cannot_command_a_terminal_or_fill_it(capsys, token):
    ours = Encoder({t: i for i, t in enumerate([*TOKENS[:256], token])}, [])
    text.say_if_plain([f"a{token}"], ours, special=False)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err[:-1].isprintable() and len(err) < 140


@pytest.mark.parametrize(
    "new_ids, stop_ids, wanted",
    [
        ([], {7}, []),
        ([5, 6], {7}, [5, 6]),
        ([5, 7, 6, 7, 8], {7}, [5, 7]),
        ([7], {7}, [7]),
        ([5, 9, 7], {7, 9}, [5, 9]),
        ([5, 7], set(), [5, 7]),
    ],
)
def test_new_ids_go_up_to_the_first_that_ends_a_text_and_keep_it(new_ids, stop_ids, wanted):
    given = list(new_ids)
    assert text.to_the_end(new_ids, stop_ids) == wanted and new_ids == given


@pytest.mark.parity
def test_transformers_shows_the_same_text_without_special_tokens(transformers, tmp_path):
    from extras.huggingface import export

    hparams = SMALL | {"n_vocab": len(TOKENS)}
    export.save(
        tmp_path / "marked", MARKED, hparams, weights.random_params(hparams, np.random.default_rng(0))
    )
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "marked")
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.choice([*IDS.values(), *[PAD, IDS["<a>"], IDS["Ã"], IDS["©"]] * 40], 25).tolist()
        ids = [i for i in ids if i not in MARKED.stop_ids]
        assert shown(ids) == theirs.decode(ids, skip_special_tokens=True)
        prompt = MARKED.decode(ids)
        assert text.encoded(prompt, MARKED, special=True) == theirs.encode(prompt)
