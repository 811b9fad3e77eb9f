"""Functions that tests send to workers, which import them: the folder of this file is on their path."""

import os
import signal
import time
from pathlib import Path


def doubled(items):
    return [2 * item for item in items]


def slowly(items, seconds=0.1):
    time.sleep(seconds)
    return doubled(items)


def uneven(items):
    """Later items are ready before earlier ones."""
    time.sleep(0.05 * (items[0] % 3 == 0))
    return doubled(items)


def logged(items, folder, seconds=0.0, poison=None):
    """Note which process began what; a poison item kills it."""
    for item in items:
        with open(Path(folder) / "log", "a") as file:
            file.write(f"{os.getpid()} {item}\n")
        if item == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
    return doubled(items)


def failing(items, bad=3):
    if bad in items:
        raise LookupError(f"{bad} is bad")
    return doubled(items)


class Unpicklable(Exception):
    """An exception that pickle writes, but cannot read."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def failing_oddly(items):
    raise Unpicklable(1, 2)


def environment(items):
    """The threads that this process computes with: variables, and what BLAS made of them."""
    import numpy  # noqa: F401  # loads BLAS
    from threadpoolctl import threadpool_info

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    blas = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    return [([os.environ.get(name) for name in names], blas) for _ in items]


def busy(items, folder, bad=None):
    """Computes for a minute without ever waiting; a bad item is an error, once another is computed."""
    while bad in items:
        if any(Path(folder).glob("*.pid")):
            raise LookupError(f"{bad} is bad")
    (Path(folder) / f"{os.getpid()}.pid").touch()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass
    return items


class Unreadable:
    """An item that no worker can read."""

    def __reduce__(self):
        return int, ("not a number",)
