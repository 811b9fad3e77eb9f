"""Reading many texts, one after another, in little memory: documents from text files, or lines of JSON.

A file may be compressed (.gz), and "-" is standard input. A text that cannot be read comes with its error,
and reading continues.
"""

import contextlib
import gzip
import os
import sys
import zlib
from typing import NamedTuple

from encoder import END_OF_TEXT
from files import ModelError, plain_text

LONGEST = 2**27  # bytes in a text
MARK = b"\xef\xbb\xbf"  # the byte-order mark that Windows puts before a text
ENDS = tuple((END_OF_TEXT + line_end).encode() for line_end in ("\n", "\r\n", ""))


class Text(NamedTuple):
    """A text, or what is wrong with it."""

    path: str  # of its file
    number: int  # of the text in that file, from 1
    text: str  # empty if there is an error
    error: ValueError | None
    n_read: int  # bytes of all files that had been read at its end


def documents(paths):  # yields Texts
    """The documents of files, one after another: lines <|endoftext|> split them, as in extras/scoring.py."""
    return numbered(paths, raw_documents)


def lines(paths):  # yields Texts
    """The lines of files; blank ones are counted, but left out."""
    return (line for line in numbered(paths, raw_lines) if line.error or line.text.strip())


def size(paths):  # -> bytes, or None
    """The size of all files together; None if one of them is standard input."""
    return None if "-" in paths else sum(map(os.path.getsize, paths))


def numbered(paths, raw_texts):  # yields Texts
    """The texts of each file, numbered from 1. raw_texts: a file -> where each text begins, its bytes."""
    n_before = 0  # bytes of the files before
    for path in paths:
        source = "standard input" if path == "-" else path
        with opened(path) as (file, position):
            n_skipped = skip_mark(file)
            for number, (start, content) in enumerate(raw_texts(file), 1):
                text, error = decoded(content, source, n_skipped + start)
                yield Text(path, number, text, error, n_before + position())
            n_before += position()


@contextlib.contextmanager
def opened(path):  # yields a binary file, and a function: () -> bytes of it read so far
    """A file, unpacked if its name ends in .gz, or "-" for standard input."""
    if path == "-":
        yield sys.stdin.buffer, int  # int() is 0: how much will come is not known
        return
    with open(path, "rb") as file:
        position = file.tell if file.seekable() else int  # a pipe, such as <(...), has no position
        if not path.endswith(".gz"):
            yield file, position
            return
        try:
            if not file.peek(1):
                raise EOFError("it is empty")
            with gzip.open(file) as unpacked:
                yield unpacked, position
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ModelError(path, f"damaged: {error}", "pack it again") from None


def skip_mark(file):  # -> bytes skipped
    """Leave out a byte-order mark at the beginning of a file."""
    return len(file.read(len(MARK))) if file.peek(len(MARK)).startswith(MARK) else 0


def decoded(content, source, n_before):  # bytes -> str, None; or "", ValueError
    """A text of a file, or the error if it is too long or not UTF-8."""
    if len(content) > LONGEST:
        return "", ValueError(f"a text of more than {LONGEST:,} bytes: split it")
    try:
        return plain_text(content, source, n_before), None
    except ValueError as error:
        return "", error


# ---- the bytes of a file -----------------------------------------------------------------------------------


def raw_documents(file):  # yields where a document begins, its bytes
    """The documents in a file, without the lines between them; empty ones are left out."""
    content, start, position = bytearray(), 0, 0
    for line, n_bytes in shortened_lines(file):
        position += n_bytes
        if line not in ENDS:
            if len(content) <= LONGEST:  # a longer one is refused, so its rest is not needed
                content += line
            continue
        if content:
            yield start, content
        content, start = bytearray(), position
    if content:
        yield start, content


def raw_lines(file):  # yields where a line begins, its bytes
    """The lines in a file."""
    position = 0
    for line, n_bytes in shortened_lines(file):
        yield position, line
        position += n_bytes


def shortened_lines(file):  # yields bytes, how many the whole line has
    """The lines in a file; of a line longer than LONGEST, only LONGEST + 1 bytes."""
    while line := file.readline(LONGEST + 1):
        n_bytes, rest = len(line), line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST)
            n_bytes += len(rest)
        yield line, n_bytes
