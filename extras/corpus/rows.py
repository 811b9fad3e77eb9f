"""The file of results: a row for each text, as JSON, one a line. A run that was killed continues in it.

A run that was killed may have left a part of a line at the end, which is dropped. Beside NAME, a file
.NAME.run says how the run was begun, because the rows of two models must not mix.
"""

import contextlib
import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from files import ModelError, read_json, shown, unique, write_whole

CLOSE = 1e-5  # on any machine, a model's fingerprint is the same up to a much smaller share of it
ANOTHER = "give the same command, or another --out"


@contextlib.contextmanager
def opened(path, settings):  # yields Rows
    """The rows in a file, old and new. settings: JSON values that all runs that write it must share.

    Raises ValueError if the file was begun with other settings, or if another run is writing it.
    """
    check_name(Path(path))
    path = Path(os.path.realpath(path))  # under all its names, a file has one lock
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))  # it is never deleted: see download.locked
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{path}: another run is writing it: give another --out") from None
    with held, Rows(path, settings) as rows:
        yield rows


def check_name(path):
    """Raise ValueError unless path can be a file of rows."""
    is_other = path.exists() and not path.is_file()  # a folder, or a device
    is_stream = str(path).startswith(("/dev/", "/proc/"))  # /dev/stdout may be a file
    if is_other or is_stream or path.suffix == ".gz" or path.name == "-":
        raise ValueError(f"out is {shown(path)!r}: give the name of a file for rows, such as rows.jsonl")


class Rows:
    """Rows in a file: first read all that are there, with `earlier`; then append others."""

    def __init__(self, path, settings):
        self.path, self.settings = path, settings | {"fingerprints": {}}
        self.settings_path = path.with_name(f".{path.name}.run")
        if path.exists() and path.stat().st_size:
            self.check_settings()
        else:
            self.save_settings()

    def __enter__(self):
        self.file = open(self.path, "ab", buffering=0)  # each row goes to the system at once
        return self

    def __exit__(self, *error):
        self.file.close()

    def check_settings(self):
        """Raise ValueError unless the rows in the file were begun with the same settings."""
        if not self.settings_path.exists():
            problem = f"{self.path} exists, but not {self.settings_path.name}, which says how it was begun"
            raise ValueError(f"{problem}: give another --out")
        saved = read_json(self.settings_path)
        self.settings["fingerprints"] = saved.get("fingerprints")
        for name, value in self.settings.items():
            if saved.get(name) != value:
                was, now = shown(json.dumps(saved.get(name))), shown(json.dumps(value))
                raise ValueError(f"{self.path} was begun with {name} {was}, not {now}: {ANOTHER}")

    def save_settings(self):
        """Write down how the run was begun."""
        write_whole(self.settings_path, json.dumps(self.settings).encode())

    def check_model(self, name, fingerprint):
        """Raise ModelError if a model of this name had another fingerprint, a number, for earlier rows."""
        known = self.settings["fingerprints"]
        if name not in known:
            known[name] = fingerprint
            self.save_settings()
        elif not abs(fingerprint - known[name]) <= CLOSE * abs(known[name]):
            problem = "its weights are not those that the rows before were made with"
            raise ModelError(name, problem, "use the same everywhere, or another --out")

    def earlier(self):  # yields rows
        """The rows in the file; what follows the last whole line is dropped."""
        n_whole = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                yield self.row_in(line, number)
                n_whole += len(line)
        os.truncate(self.path, n_whole)

    def row_in(self, line, number):  # bytes -> dict
        """The row in a line. Raises ModelError for anything else."""
        try:
            row = json.loads(line, object_pairs_hook=unique)
            if not isinstance(row, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise ModelError(self.path, f"line {number} is not a row", "give another --out") from None
        return row

    def append(self, row):
        """Write a row at the end of the file."""
        line = json.dumps(row, ensure_ascii=False) + "\n"
        rest = line.encode("utf-8", "backslashreplace")  # half a character is written as \ud83e
        while rest:  # on a disk that is nearly full, a part is written, and the next try raises OSError
            rest = rest[self.file.write(rest) :]
