"""One error for every file that cannot be used; JSON, read strictly; untrusted text, made safe to print."""

import contextlib
import json
import re
import shlex
from pathlib import Path

AGAIN = "get a fresh copy"
MIXED_UP = "one of the two belongs to another model, or is incomplete: use complete files of one model"
PICKLES = (".bin", ".pt", ".pth")  # suffixes of PyTorch's files


class ModelError(ValueError):
    """A file or a download that cannot be used: what it is, what is wrong with it, and what to do.

    As text it is one line, "what: problem; advice", without control characters.
    """

    def __init__(self, what, problem, advice=None):
        super().__init__(what, problem, advice)
        self.what, self.problem, self.advice = what, problem, advice

    def __str__(self):
        sentence = f"{self.what}: {self.problem}"
        return printable(f"{sentence}; {self.advice}" if self.advice else sentence)


def printable(text):  # -> str
    """The text with unprintable characters escaped as in Python: a newline becomes \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value, n_most=200):  # -> str
    """Untrusted text as part of a message: printable, and at most n_most characters."""
    text = printable(str(value)[: n_most + 1])
    return text if len(text) <= n_most else text[: n_most - 3] + "..."


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
        raise ImportError(f"{error}: pip install -r {requirements}", name=error.name) from None


def read_json(path):  # -> dict
    """The object in a JSON file. Raises ModelError for anything else, and for a repeated name."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(path, error, AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(path, f"expected a JSON object, not {shown(value, 50)}", AGAIN)
    return value


def unique(pairs):  # -> dict
    """A JSON object as a dict. Raises ValueError for a repeated name: which value counts would be a guess."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{shown(max(names, key=names.count))} is given twice")
    return value


def is_web_page(beginning):  # -> bool
    """Whether the first bytes of a file are those of a web page, such as a login page, or of XML."""
    return bool(re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|\?xml)", beginning, re.IGNORECASE))


def pickles(folder):  # -> list of Path
    """The files in a folder that may be PyTorch's pickles, sorted by name."""
    return sorted(path for path in Path(folder).iterdir() if path.suffix in PICKLES)


def convert_advice(path):  # -> str
    """What to do with a PyTorch checkpoint."""
    path = str(path) if str(path).isprintable() else "FILE"
    path = f"./{path}" if path.startswith("-") else path
    command = f"python -m extras.huggingface.convert {shlex.quote(path)} OUT_FOLDER"
    return f"to convert a PyTorch checkpoint, run {command}"
