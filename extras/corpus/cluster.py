"""Workers of a Dask cluster, on this machine or on many; needs requirements-cluster.txt.

If a worker dies, Dask runs its task again, and gives the task up after several deaths, four by default. A
nanny is the process that starts a dead worker again; without nannies, no worker may be left. If the scheduler
dies, its workers end too, and all results that were not yet delivered are lost.
"""

import logging
import socket
import time
import warnings
from concurrent.futures import CancelledError, wait
from urllib.parse import urlsplit

from extras.corpus.workers import WorkerDied, Workers, as_bytes
from files import needs, say, say_once, shown

SECONDS_TO_CONNECT = 10
SECONDS_WITHOUT_WORKERS = 60  # before a run gives up
SECONDS_TO_SAY_SO = 3  # before a line says that there are none
SAME_VERSIONS = "use the same versions on all machines"


class Cluster(Workers):
    """The workers of a scheduler, however many there are at a time."""

    def __init__(self, address):
        self.address, self.client = address, connected(address)
        super().__init__(self.client.get_executor(pure=False), 0)  # equal tasks are not one task
        self.counted_at, self.none_since = 0, None

    def n_ahead(self):
        if time.monotonic() - self.counted_at > 1:
            self.count_workers()
        return super().n_ahead()

    def submit(self, function, items):
        return self.executor.submit(*as_bytes(function, items))

    def result(self, future):
        from distributed import KilledWorker

        while wait([future], timeout=1).not_done:
            self.count_workers()
        try:
            return future.result()
        except KilledWorker:
            raise WorkerDied from None
        except CancelledError:
            raise self.scheduler_lost() from None
        except ModuleNotFoundError as error:
            problem = f"a worker of {self.address} cannot run this: {error}"
            raise ImportError(f"{problem}; {how_to_start(self.address)}", name=error.name) from None

    def count_workers(self):
        """Ask how many workers there are. Raises OSError without a scheduler, or if long without workers."""
        try:
            threads = self.client.nthreads() if self.client.status == "running" else None
        except Exception:  # which one it is differs between Dask's versions
            threads = None
        if threads is None:
            raise self.scheduler_lost()
        self.n_workers, self.counted_at = sum(threads.values()), time.monotonic()
        if any(n > 1 for n in threads.values()):
            say_once(f"a worker has several threads; {how_to_start(self.address)}")
        self.check_any(threads)

    def check_any(self, threads):
        """Raise OSError if there have been no workers for long; say so before that."""
        if threads:
            self.none_since = None
            return
        self.none_since = self.none_since or self.counted_at
        seconds = self.counted_at - self.none_since
        if seconds >= SECONDS_WITHOUT_WORKERS:
            raise OSError(f"no worker at {self.address} for {seconds:.0f} s: {how_to_start(self.address)}")
        if seconds >= SECONDS_TO_SAY_SO:
            say_once(f"no worker at {self.address}: waiting for one; {how_to_start(self.address)}")

    def scheduler_lost(self):  # -> OSError
        """What to say when the scheduler has died."""
        again = "start it and its workers again, then the same command continues"
        return OSError(f"the scheduler at {self.address} has gone; what is written stays: {again}")

    def close(self):
        self.client.close()  # the scheduler drops what is still to do


# ---- connecting --------------------------------------------------------------------------------------------


def connected(address):  # -> distributed.Client
    """A connection to a scheduler. Raises OSError if none answers, ValueError for a wrong address."""
    with needs("requirements-cluster.txt"):
        from distributed import Client
        from distributed.versions import VersionMismatchWarning

    be_silent()
    check_answers(address)
    client = Client.__new__(Client)  # before it connects, so that it can be marked if that fails
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            client.__init__(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
        except Exception as error:  # which one it is differs between Dask's versions
            client.status = "closed"  # otherwise Python waits for it when it ends, and prints a traceback
            raise OSError(f"Dask cannot connect to {address}: {error}; {SAME_VERSIONS}") from None
    if any(issubclass(each.category, VersionMismatchWarning) for each in caught):
        say(f"{address} has other versions of Python or its libraries, which may fail; {SAME_VERSIONS}")
    return client


def be_silent():
    """Keep Dask from logging: what matters is said here, in one line."""
    for name in ("distributed", "tornado", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def check_answers(address):
    """Raise ValueError for a wrong address, OSError if no scheduler answers: there, Dask may wait for ever.

    A scheduler sends the first byte. A web server, such as the scheduler's own dashboard, does not.
    """
    try:
        place = urlsplit(address)
        is_valid = place.scheme == "tcp" and place.hostname and place.port
    except ValueError:
        is_valid = False
    if not is_valid:
        found = f"scheduler is {shown(address, 50)!r}"
        raise ValueError(f"{found}: it must be an address such as tcp://127.0.0.1:8786")
    try:
        with socket.create_connection((place.hostname, place.port), SECONDS_TO_CONNECT) as connection:
            if connection.recv(1):
                return
    except (OSError, UnicodeError):
        pass
    raise no_scheduler(address)


def no_scheduler(address):  # -> OSError
    """What to say where no scheduler answers."""
    start = "run python -m dask scheduler"
    return OSError(f"no scheduler answers at {address}: {start}; {how_to_start(address)}")


def how_to_start(address):  # -> str
    """What to type for workers: in this folder, where they find the project."""
    line = f"python -m dask worker {address} --nworkers -1 --nthreads 1"
    return f"start workers in this project's folder: {line}"
