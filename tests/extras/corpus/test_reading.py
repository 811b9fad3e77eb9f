"""Texts of files, one after another: the same as those of the whole file, in little memory."""

import gzip
import os
import threading

import numpy as np
import pytest
from corpora import packed, pipe_in

from extras import scoring
from extras.corpus import reading
from files import ModelError, plain_text

END = "<|endoftext|>"
PARTS = [
    END,
    f"{END}\n",
    f"{END}\r\n",
    "\n",
    "\r\n",
    "\r",
    "a",
    "é",
    "🦊",
    " ",
    "\ufeff",
    f"\n{END}\n",
    "one two",
]


def random_text(seed):  # -> bytes
    """Separators, line ends and characters in any order."""
    rng = np.random.default_rng(seed)
    return "".join(PARTS[i] for i in rng.integers(len(PARTS), size=rng.integers(12))).encode()


def wanted(content):  # bytes -> list of str
    """The documents of the whole text."""
    return scoring.split_documents(plain_text(content, "text"))


CASES = {
    "nothing": b"",
    "a line end": b"\n",
    "no final newline": b"one\n<|endoftext|>\ntwo",
    "a separator at both ends": b"<|endoftext|>\none\n<|endoftext|>\n",
    "a separator without line end at the end": b"one\n<|endoftext|>",
    "separators in a row": b"one\n<|endoftext|>\n<|endoftext|>\n\n<|endoftext|>\ntwo\n",
    "Windows": b"\xef\xbb\xbfone\r\n<|endoftext|>\r\ntwo\r\n",
    "a mark before a separator": b"\xef\xbb\xbf<|endoftext|>\none",
    "two marks": b"\xef\xbb\xbf\xef\xbb\xbfone",
    "a mark alone": b"\xef\xbb\xbf",
    "a separator inside a line": b"one<|endoftext|>\n<|endoftext|>two\n <|endoftext|>\nthree",
    "an old line end": b"one\r<|endoftext|>\r\n<|endoftext|>\r\r\ntwo",
}


@pytest.mark.parametrize("name", CASES)
def test_documents_are_those_of_the_whole_text(tmp_path, name):
    (tmp_path / "a").write_bytes(CASES[name])
    found = list(reading.documents([str(tmp_path / "a")]))
    assert [text.text for text in found] == wanted(CASES[name])
    assert [text.number for text in found] == list(range(1, len(found) + 1))


def test_documents_of_random_texts_are_those_of_the_whole_text(tmp_path, monkeypatch, n_fuzz):
    plain, gz, n_found = tmp_path / "a", tmp_path / "a.gz", 0
    for seed in range(n_fuzz):
        content = random_text(seed)
        plain.write_bytes(content)
        packed(gz, content)
        pipe_in(monkeypatch, content)
        for path in (str(plain), str(gz), "-"):
            found = list(reading.documents([path]))
            assert [text.text for text in found] == wanted(content), (seed, path)
            assert all(text.error is None and text.path == path for text in found)
            n_found += len(found)
    assert n_found > 4 * n_fuzz


def test_lines_are_numbered_and_blank_ones_are_left_out(tmp_path, monkeypatch):
    content = b"\xef\xbb\xbfone\n\n \t\r\ntwo\r\n\xe2\x80\xa8three\n\n four"
    (tmp_path / "a").write_bytes(content)
    pipe_in(monkeypatch, content)
    for path in (str(tmp_path / "a"), str(packed(tmp_path / "a.gz", content)), "-"):
        found = [(text.number, text.text) for text in reading.lines([path])]
        assert found == [(1, "one\n"), (4, "two\n"), (5, "\u2028three\n"), (7, " four")]


# ---- how far -----------------------------------------------------------------------------------------------


def test_at_the_last_text_all_bytes_of_all_files_have_been_read(tmp_path):
    contents = {"a": b"one\n<|endoftext|>\ntwo", "b.gz": b"three", "c": "\ufefffôur".encode()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    paths = [str(tmp_path / name) for name in contents]
    sizes = [os.path.getsize(path) for path in paths]
    found = list(reading.documents(paths))
    assert [(text.path, text.number) for text in found] == [
        (paths[0], 1),
        (paths[0], 2),
        (paths[1], 1),
        (paths[2], 1),
    ]
    n_read = [text.n_read for text in found]
    assert n_read == sorted(n_read)
    assert n_read[1:] == [sizes[0], sum(sizes[:2]), sum(sizes)] and reading.size(paths) == sum(sizes)
    assert reading.size([paths[0], "-"]) is None


def test_what_is_piped_in_has_no_size_and_no_position(monkeypatch):
    pipe_in(monkeypatch, b"one\n<|endoftext|>\ntwo")
    assert [text.n_read for text in reading.documents(["-"])] == [0, 0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_pipe_with_a_name_is_read_as_a_file(tmp_path, name):
    path, content = tmp_path / name, b"one\n<|endoftext|>\ntwo"
    os.mkfifo(path)
    content = gzip.compress(content) if name.endswith(".gz") else content
    writer = threading.Thread(target=path.write_bytes, args=[content])
    writer.start()
    assert [text.text for text in reading.documents([str(path)])] == ["one\n", "two"]
    writer.join()


@pytest.mark.parametrize("read", [reading.documents, reading.lines])
def test_a_file_is_read_only_as_far_as_its_texts_are_asked_for(tmp_path, read):
    path = tmp_path / "a"
    path.write_text("a line of some words\n<|endoftext|>\n" * 20_000)
    found = read([str(path)])
    n_read = [next(found).n_read for _ in range(100)]
    assert n_read[0] < 100 and n_read[-1] < 5000
    found.close()


# ---- what is wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"x" * 19 + b"\n", b"x" * 100 + b"\n", b"<|endoftext|> \n"])
def test_a_document_that_is_too_long_is_one_error_and_the_next_is_right(tmp_path, monkeypatch, line):
    monkeypatch.setattr(reading, "LONGEST", 60)
    long = line * 20
    (tmp_path / "a").write_bytes(b"one\n<|endoftext|>\n" + long + b"<|endoftext|>\ntwo \xff\n")
    one, error, two = reading.documents([str(tmp_path / "a")])
    assert (one.text, one.error) == ("one\n", None)
    assert (error.text, str(error.error)) == ("", "a text of more than 60 bytes: split it")
    assert f"byte {18 + len(long) + 14 + 5:,} is 0xff" in str(two.error)  # so all of it was counted
    assert [one.number, error.number, two.number] == [1, 2, 3]


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_that_is_too_long_is_one_error_and_the_next_is_right(tmp_path, monkeypatch, end):
    monkeypatch.setattr(reading, "LONGEST", 60)
    (tmp_path / "a").write_bytes(b"one\n" + b"x" * 1000 + b"\ntwo\n" + b"y" * 61 + end)
    one, long, two, last = reading.lines([str(tmp_path / "a")])
    assert (one.text, two.text) == ("one\n", "two\n") and [long.number, two.number] == [2, 3]
    assert str(long.error) == str(last.error) == "a text of more than 60 bytes: split it"


@pytest.mark.parametrize("n", range(56, 64))
def test_a_text_may_have_as_many_bytes_as_the_longest_and_no_more(tmp_path, monkeypatch, n):
    monkeypatch.setattr(reading, "LONGEST", 60)
    (tmp_path / "a").write_bytes(b"x" * (n - 1) + b"\n<|endoftext|>\n")
    for read in (reading.documents, reading.lines):
        text = next(read([str(tmp_path / "a")]))
        assert (text.error is None) == (n <= 60) and text.text == ("x" * (n - 1) + "\n") * (n <= 60)


@pytest.mark.parametrize(
    "before", [b"", b"\xef\xbb\xbf", b"one\r\n<|endoftext|>\r\n", b"\xef\xbb\xbfa\n<|endoftext|>\n"]
)
@pytest.mark.parametrize("name", ["a", "a.gz", "-"])
def test_what_is_not_utf_8_is_named_with_its_byte_in_the_file(tmp_path, monkeypatch, before, name):
    content = before + "ü\nx".encode() + b"\xff\n<|endoftext|>\nlast\n"
    (tmp_path / "a").write_bytes(content)
    packed(tmp_path / "a.gz", content)
    pipe_in(monkeypatch, content)
    path = name if name == "-" else str(tmp_path / name)
    *_, wrong, last = reading.documents([path])
    found = f"byte {content.index(0xFF) + 1} is 0xff"
    source = "standard input" if name == "-" else path
    assert str(wrong.error) == f"{source} is not UTF-8 text: {found}; save it as UTF-8" and wrong.text == ""
    assert (last.text, last.error) == ("last\n", None)
    pipe_in(monkeypatch, content)
    (error,) = (text.error for text in reading.lines([path]) if text.error)
    assert found in str(error)


def test_a_packed_file_that_is_cut_anywhere_is_one_error(tmp_path):
    content = "".join(f"document {i * i}\n<|endoftext|>\n" for i in range(20)).encode()
    whole, path = gzip.compress(content), tmp_path / "a.gz"
    for n in range(1, len(whole)):
        path.write_bytes(whole[:n])
        found = []
        with pytest.raises(ModelError, match=f"{path}: damaged: .*; pack it again"):
            found += reading.documents([str(path)])


def test_a_packed_file_that_is_damaged_is_one_error_or_the_same(tmp_path):
    content = "".join(f"document {i * i}\n<|endoftext|>\n" for i in range(9)).encode()
    whole, path, n_refused = gzip.compress(content, mtime=0), tmp_path / "a.gz", 0
    for n in range(len(whole)):
        for bit in (1, 8, 128):
            damaged = bytearray(whole)
            damaged[n] ^= bit
            path.write_bytes(damaged)
            try:
                assert [text.text for text in reading.documents([str(path)])] == wanted(content), (n, bit)
            except ModelError as error:
                n_refused += 1
                assert "damaged: " in str(error) and "\n" not in str(error)
    assert n_refused > 2 * len(whole)


def test_a_plain_text_that_is_called_gz_is_one_error(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"one\n")
    with pytest.raises(ModelError, match="damaged: Not a gzipped file"):
        list(reading.lines([str(tmp_path / "a.gz")]))


def test_an_empty_gz_is_damaged(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"")
    with pytest.raises(ModelError, match="damaged: it is empty"):
        list(reading.documents([str(tmp_path / "a.gz")]))
