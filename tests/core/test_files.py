"""What is said of a file that cannot be used: one line, safe to print; and JSON read with care."""

import copy
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import run_python

from files import (
    AGAIN,
    ModelError,
    archive_damage,
    convert_advice,
    fresh_copy,
    needs,
    plain_text,
    quoted,
    read_json,
    read_text,
    say,
    shown,
    visible,
    write_whole,
)


def test_an_error_says_what_is_wrong_and_what_to_do_in_one_sentence():
    assert str(ModelError("a.json", "cut short", "get a fresh copy")) == "a.json: cut short; get a fresh copy"
    assert str(ModelError("a.json", "cut short")) == "a.json: cut short"


def test_an_error_survives_being_copied_and_pickled():
    error = ModelError("a.json", ValueError("cut short"), AGAIN)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(other) == str(error) and other.advice == AGAIN


@pytest.mark.parametrize(
    "odd", ["\n", "\r", "\t", "\0", "\x1b[31m", "\x7f", "\x9b", "\u2028", "\u202e", "\ud800"]
)
def test_an_error_shows_no_control_characters(odd):
    text = str(ModelError(f"a{odd}b", f"c{odd}d", f"e{odd}f"))
    assert text.isprintable() and text.startswith("a\\")
    assert shown(odd).isprintable()


def test_what_a_file_says_is_shown_short():
    assert shown("x" * 200) == "x" * 200 and shown("é 日本 🦊 'a'") == "é 日本 🦊 'a'"
    assert shown("x" * 201) == "x" * 197 + "..." and len(shown("\n" * 10**6)) == 200
    assert shown([1, None]) == "[1, None]"


def test_a_field_of_five_megabytes_makes_a_short_line():
    huge = 'x\n"' * 2_000_000
    for error in (
        ModelError("a.json", huge),
        ModelError(huge, "cut short"),
        ModelError("a", ValueError(huge)),
    ):
        assert len(str(error)) < 1100 and "\n" not in str(error)


def test_what_a_terminal_would_obey_is_spelled_and_everything_else_stays(capsys):
    text = "a\tb\nc é 日本 🦊👩‍👩‍👧\u200d\u00a0\ufeff"
    assert visible(text) == text
    assert visible("\x1b[31m\r\x07\x9b\x7f\x00") == r"\x1b[31m\r\x07\x9b\x7f\x00"
    say("waiting for models\x1b]0;title\x07/124M")
    assert capsys.readouterr().err == "waiting for models\\x1b]0;title\\x07/124M\n"


@pytest.mark.parametrize(
    "content, text, notes",
    [
        ("naïve 日本\n".encode(), "naïve 日本\n", []),
        (b"one\ntwo\rthree", "one\ntwo\rthree", []),
        (b"\xef\xbb\xbfone", "one", ["byte-order mark is left out"]),
        (b"one\r\ntwo\r\n", "one\ntwo\n", [r"line ends \r\n are read as \n"]),
        (b"\xef\xbb\xbf\xef\xbb\xbf\r\n", "\ufeff\n", ["byte-order mark", "line ends"]),
    ],
)
def test_what_windows_adds_is_left_out_and_said(tmp_path, capsys, monkeypatch, content, text, notes):
    (tmp_path / "a.txt").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    for path, name in ((tmp_path / "a.txt", tmp_path / "a.txt"), ("-", "standard input")):
        assert read_text(path) == text
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(notes)
        for line, note in zip(lines, notes):
            assert line.startswith(f"{name}: its ") and note in line


def test_a_text_that_is_not_utf8_or_too_long_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("Grün".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8 text: byte 3 is 0xfc; save it as UTF-8$"):
        read_text(tmp_path / "a.txt")
    assert plain_text(b"1234", "here") == "1234"
    (tmp_path / "a.txt").write_bytes(b"12345")
    assert read_text(tmp_path / "a.txt", 5) == "12345"
    with pytest.raises(ValueError, match=r"a\.txt has more than 4 bytes: shorten it"):
        read_text(tmp_path / "a.txt", 4)


def test_only_an_error_that_asks_for_a_fresh_copy_is_told_how_to_get_one():
    with pytest.raises(ModelError, match="^a: b; fetch it$"), fresh_copy("fetch it"):
        raise ModelError("a", "b", AGAIN)
    with pytest.raises(ModelError, match="^a: b; save it$"), fresh_copy("fetch it"):
        raise ModelError("a", "b", "save it")
    with pytest.raises(ValueError, match="^other$"), fresh_copy("fetch it"):
        raise ValueError("other")


def test_a_missing_library_names_the_file_that_installs_it():
    with pytest.raises(ImportError, match="nowhere.*: pip install -r some.txt$"), needs("some.txt"):
        import nowhere  # noqa: F401


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "Expecting value"),
        ("[1, 2]", r"expected a JSON object, not \[1, 2\]"),
        ('"\\u001b[31m"', r"not \\x1b\[31m"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "c is given twice"),
        ('{"a\\u001b": 1, "a\\u001b": 2}', r"a\\x1b is given twice"),
        ("[" * 100_000, "recursion|nested|depth"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_json_that_is_not_an_object_of_different_names_is_refused(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message) as caught:
        read_json(path)
    assert caught.value.what == path and caught.value.advice == AGAIN and "\n" not in str(caught.value)


def test_a_name_given_twice_is_found_among_many(tmp_path):
    pairs = [f'"name {i}": {i}' for i in range(200_000)]
    (tmp_path / "a.json").write_text("{" + ", ".join([*pairs, '"name 7": 0']) + "}")
    with pytest.raises(ModelError, match="name 7 is given twice"):
        read_json(tmp_path / "a.json")


def test_a_file_of_gigabytes_is_not_read_as_json(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(2**32)  # of zeros, which take no room on the disk
    with pytest.raises(ModelError, match=r"a\.json: it has 4,294,967,296 bytes: too many"):
        read_json(tmp_path / "a.json")


def test_json_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes('{"a": 1}'.encode("utf-16"))
    with pytest.raises(ModelError, match="can't decode byte"):
        read_json(tmp_path / "a.json")


def test_the_command_for_a_pickle_can_be_typed():
    assert convert_advice("a b.bin").endswith("run python -m extras.huggingface.convert 'a b.bin' OUT_FOLDER")
    assert convert_advice("$(rm).pt").endswith("python -m extras.huggingface.convert '$(rm).pt' OUT_FOLDER")


@pytest.mark.skipif(os.name == "nt", reason="no POSIX shell on Windows")
def test_a_quoted_name_is_one_word_for_a_shell(tmp_path):
    for name in ("my models/a.bin", ";touch X;.bin", "$(touch X)", "`touch X`", "it's", 'a"b', "~", "*", "é"):
        command = f"{sys.executable} -c 'import sys; print(ascii(sys.argv[1:]))' {quoted(name)}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
        assert done.stdout.strip() == ascii([name])
    assert list(tmp_path.iterdir()) == []
    assert quoted("-x.bin") == "./-x.bin" and quoted("a\n;b") == "FILE"


def test_this_module_needs_no_library():
    code = "import sys, files; print(sorted({'numpy', 'requests', 'regex', 'tqdm'} & set(sys.modules)))"
    assert run_python("-c", code).stdout == b"[]\n"


def test_a_wrong_bit_in_an_archive_is_found(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("numbers", bytes(1000))
    assert archive_damage(path) is None
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    assert archive_damage(path) == "numbers does not match its checksum"
    path.write_bytes(b"no archive")
    assert "not a zip file" in archive_damage(path)


# ---- writing -----------------------------------------------------------------------------------------------


def test_a_new_file_is_written_and_its_folder_is_made(tmp_path, monkeypatch):
    write_whole(tmp_path / "new" / "folder" / "a.bin", b"\r\n\x00\xff")
    assert (tmp_path / "new" / "folder" / "a.bin").read_bytes() == b"\r\n\x00\xff"
    monkeypatch.chdir(tmp_path)
    write_whole("b.txt", b"")
    assert (tmp_path / "b.txt").read_bytes() == b""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.bin", "b.txt", "folder", "new"]


def half_written(path, content):
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    raise OSError(28, "No space left on device")


def not_renamed(part, path):
    raise OSError(27, "File too large", str(part))


@pytest.mark.parametrize(
    "place, name, fail, said",
    [
        (Path, "write_bytes", half_written, "No space left on device"),
        (os, "replace", not_renamed, "File too large"),
    ],
)
def test_what_cannot_be_written_leaves_no_half_of_a_file_and_the_error_names_it(
    tmp_path, monkeypatch, place, name, fail, said
):
    monkeypatch.setattr(place, name, fail)
    with pytest.raises(OSError, match=said) as caught:
        write_whole(tmp_path / "new" / "fox.svg", b"1234")
    assert caught.value.filename == str(tmp_path / "new" / "fox.svg")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_file_appears_only_when_all_of_it_is_written(tmp_path, monkeypatch):
    def interrupted(path, content):
        assert not (tmp_path / "fox.svg").exists()
        path.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "fox.svg", b"1234")
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_start_left_half_written_is_replaced(tmp_path):
    (tmp_path / ".fox.svg.part").write_bytes(b"1234, and much more")
    write_whole(tmp_path / "fox.svg", b"5678")
    assert [path.name for path in tmp_path.iterdir()] == ["fox.svg"]
    assert (tmp_path / "fox.svg").read_bytes() == b"5678"


def test_a_name_that_is_too_long_is_the_one_that_is_named(tmp_path):
    with pytest.raises(OSError) as caught:
        write_whole(tmp_path / ("a" * 400), b"")
    assert caught.value.filename == str(tmp_path / ("a" * 400))
