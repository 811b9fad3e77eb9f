"""Text in and out of a command: a stop text, a terminal's characters, what is said before it takes long."""

import io
import sys

import pytest
from helpers import run

import program
import text
import weights


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
