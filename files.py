"""One error for every file that cannot be used; JSON, read strictly; untrusted text, made safe to print."""

import contextlib
import functools
import json
import os
import re
import shlex
import sys
from pathlib import Path

AGAIN = "get a fresh copy"
MIXED_UP = "one of the two belongs to another model, or is incomplete: use complete files of one model"
ROOT = Path(__file__).resolve().parent  # of the project
LARGEST_TEXT = 2**27  # bytes in a file of sizes, tokens or merges
LARGE = 2 * 10**8  # bytes that may take longer than a second to check or to convert
LFS_POINTER = "version https://git-lfs"  # how it begins
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")  # suffixes of PyTorch's files


class ModelError(ValueError):
    """A file or a download that cannot be used: what it is, what is wrong with it, and what to do.

    As text it is one line, "what: problem; advice", without control characters and not very long.
    """

    def __init__(self, what, problem, advice=None):
        super().__init__(what, problem, advice)
        self.what, self.problem, self.advice = what, problem, advice

    def __str__(self):
        sentence = f"{shown(self.what, 500)}: {shown(self.problem, 500)}"
        return f"{sentence}; {printable(self.advice)}" if self.advice else sentence


def printable(text):  # -> str
    """The text with unprintable characters escaped as in Python: a newline becomes \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible(text):  # -> str
    """The text with control characters, which a terminal would obey, escaped, except for \\n and \\t."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: printable(match[0]), text)


def shown(value, n_most=200):  # -> str
    """Untrusted text as part of a message: printable, and at most n_most characters."""
    text = printable(str(value)[: n_most + 1])
    return text if len(text) <= n_most else text[: n_most - 3] + "..."


def say(line):
    """Print a line on stderr; names in it may come from anywhere, so it is made printable."""
    to_stderr(printable(line) + "\n")


say_once = functools.cache(say)  # a line is said once, however often what it is about is read


def to_stderr(text):
    """Write a text to stderr; if nobody can read it there, the work goes on without."""
    with contextlib.suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def fresh_copy(advice):
    """Where an error raised in this block advises a fresh copy, give this advice instead: how to get one."""
    try:
        yield
    except ModelError as error:
        if error.advice != AGAIN:
            raise
        raise ModelError(error.what, error.problem, advice) from None


@contextlib.contextmanager
def needs(requirements):
    """Where an import in this block fails, the error names the requirements file that has the library."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error}: {how_to_install(requirements)}", name=error.name) from None


def how_to_install(requirements):  # -> str
    """What to do about a missing library: activate the environment that was made for it, or install it."""
    install = f"pip install -r {quoted(from_here(ROOT / requirements))}"
    environment, windows = ROOT / ".venv", os.name == "nt"
    script = from_here(environment / ("Scripts" if windows else "bin") / "activate")
    activate = script if windows else f". {quoted(script)}"
    if environment.is_dir() and Path(sys.prefix).resolve() != environment:
        return f"activate the environment ({activate}), or {install}"
    if sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ:
        return install
    make = f"{'py' if windows else 'python3'} -m venv {quoted(from_here(environment))}"
    return f"{make}, then {activate}, then {install}"


def from_here(path):  # -> str
    """A path as seen from the current folder, if it is below that."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):  # it is not; or the current folder was deleted
        return str(path)


def similar(word, names, least=0.6):  # -> list of str
    """The names that a misspelled word may mean, the most similar first; least: how much of them agrees."""
    import difflib

    by_lower = {name.lower(): name for name in names}
    return [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, cutoff=least)]


def read_json(path):  # -> dict
    """The object in a JSON file. Raises ModelError for anything else, and for a repeated name."""
    try:
        value = json.loads(read_small(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(path, error, AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(path, f"expected a JSON object, not {shown(value, 50)}", AGAIN)
    return value


def read_small(path):  # -> str
    """The text in a file that belongs to a model. Raises ModelError if it is too large to be one of them.

    Raises UnicodeDecodeError if it is not UTF-8.
    """
    n_bytes = os.path.getsize(path)
    if n_bytes > LARGEST_TEXT:
        raise ModelError(path, f"it has {n_bytes:,} bytes: too many for a file of this kind", AGAIN)
    text = Path(path).read_text(encoding="utf-8")
    if text.startswith(LFS_POINTER):
        raise ModelError(path, "only a pointer to the file, as git leaves it without LFS", "run git lfs pull")
    return text


def read_text(path, n_most=None):  # -> str
    """The text in a file, or "-" for standard input, of at most n_most bytes; see `plain_text`."""
    n_read = -1 if n_most is None else n_most + 1
    if str(path) == "-":
        path, content = "standard input", sys.stdin.buffer.read(n_read)
    else:
        with open(path, "rb") as file:
            content = file.read(n_read)
    if n_most is not None and len(content) > n_most:
        raise ValueError(f"{path} has more than {n_most:,} bytes: shorten it")
    return plain_text(content, path)


def plain_text(content, source, n_before=0):  # bytes -> str
    """UTF-8 as text, without the byte-order mark that Windows puts before it, and with \\n for each \\r\\n.

    Where that changes a text, a line on stderr says so. n_before: bytes of the source before these. Raises
    ValueError if they are not UTF-8.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        found = f"byte {n_before + error.start + 1:,} is {content[error.start]:#04x}"
        raise ValueError(f"{source} is not UTF-8 text: {found}; save it as UTF-8") from None
    if text.startswith("\ufeff") and not n_before:
        text = text[1:]
        say(f"{source}: its byte-order mark is left out")
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
        say_once(rf"{source}: its line ends \r\n are read as \n")
    return text


def redecoded(text):  # -> str
    """A word or a line that was typed, as UTF-8 in any locale.

    Bytes that Python could not decode, and keeps as lone surrogates, are decoded again. Raises UnicodeError
    if they are not UTF-8.
    """
    return text.encode("utf-8", "surrogateescape").decode()


def write_whole(path, content):  # path, bytes
    """Write a new file, which appears when all of it is written; its folder is made, if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):  # there is none, or its name is too long
            part.unlink()


def unique(pairs):  # -> dict
    """A JSON object as a dict. Raises ValueError for a repeated name: which value counts would be a guess."""
    value = {}
    for name, part in pairs:
        if name in value:
            raise ValueError(f"{shown(name)} is given twice")
        value[name] = part
    return value


def is_web_page(beginning):  # -> bool
    """Whether the first bytes of a file are those of a web page, such as a login page, or of XML."""
    return bool(re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|\?xml)", beginning, re.IGNORECASE))


def begins_as_pickle(beginning):  # -> bool
    """Whether the first bytes of a file are those of a pickle, or of a zip archive, in which PyTorch puts it.

    safetensors begins with a length, which may be the same bytes; but there, byte 8 is the { of its header.
    """
    return bool(re.match(b"PK\3\4|\x80[\2-\5]", beginning)) and beginning[8:9] != b"{"


def archive_damage(file):  # path or open file -> str, or None
    """What is wrong with a zip archive, such as PyTorch writes; PyTorch itself ignores its checksums."""
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            part = archive.testzip()
    except Exception as error:  # whatever bad bytes make zipfile raise
        return shown(error)
    return f"{shown(part)} does not match its checksum" if part else None


def convert_advice(path):  # -> str
    """What to do with a PyTorch checkpoint."""
    return f"to convert a PyTorch checkpoint, run {convert_command(path)}"


def convert_command(path):  # -> str
    """The command that makes, of a file that cannot be read, a folder that can."""
    return f"{program('extras/huggingface/convert.py')} {quoted(path)} OUT_FOLDER"


def program(path):  # "extras/huggingface/convert.py" -> "python -m extras.huggingface.convert"
    """How to start one of the project's programs from the current folder."""
    if from_here(ROOT) != ".":
        return f"python {quoted(from_here(ROOT / path))}"
    return f"python -m {path.removesuffix('.py').replace('/', '.')}"


def quoted(path):  # -> str
    """A path, or any name, as one word of a command that a reader can paste into a shell."""
    path = str(path) if str(path).isprintable() else "FILE"
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def say_if_large(work, n_bytes):
    """Say on stderr what begins now, and on how much, if it may take longer than a second."""
    if n_bytes > LARGE:
        say(f"{work}: {shown_size(n_bytes)}")


def shown_size(n_bytes):  # 497759232 -> "498 MB"
    """A number of bytes in the unit that suits it: below 10 with one decimal, above as a whole number."""
    for unit, n in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if n_bytes >= n:
            amount = n_bytes / n
            return f"{amount:.0f} {unit}" if amount >= 9.95 else f"{amount:.1f} {unit}".replace(".0 ", " ")
    return f"{n_bytes} bytes"
