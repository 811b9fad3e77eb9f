"""Work on many texts, given to workers: this process, others on this machine, or those of a Dask cluster.

    with opened(n_workers=4) as workers:
        for items, results in workers.run(function, tasks):
            ...

A task is a list of items, and function(items) is a list with a result for each. Tasks are read a few ahead,
and given to a concurrent.futures.Executor; their results come in the order of the tasks, each once.

If a worker dies (out of memory, killed, crashed by an item), its task is run again, where another death
harms no other task. If that worker dies too, the items are run one by one. An item whose worker dies even
then is to blame: its result is a WorkerDied.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from extras.parallel import usable_cores
from files import say

MOST_WORKERS = 1000
N_AHEAD = 3  # tasks for each worker: one runs, two wait
N_STARTS = 3  # how often processes are started that end before they work
N_THREADS = (  # the variables that limit OpenMP, OpenBLAS, MKL, Accelerate and Numba
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class WorkerDied(Exception):
    """The worker of a task has died. It is also the result of an item that is to blame."""

    def __str__(self):
        return "each worker that took it died"


@contextlib.contextmanager
def opened(n_workers=0, scheduler=None):  # yields Workers
    """Workers until the block ends: n_workers processes, or this process if 0, or those of a scheduler.

    scheduler: the address of a Dask scheduler, such as tcp://127.0.0.1:8786. Raises ValueError for a wrong
    number or address, OSError if no scheduler answers, ImportError without Dask.
    """
    if scheduler is not None and n_workers:
        raise ValueError(f"{n_workers} workers and a scheduler are given: the scheduler has its own workers")
    if not 0 <= n_workers <= MOST_WORKERS:
        raise ValueError(f"workers is {n_workers}: it must be from 0 to {MOST_WORKERS:,}")
    if scheduler is not None:
        from extras.corpus.cluster import Cluster  # here, because it needs Dask

        workers = Cluster(scheduler)
    else:
        workers = Processes(n_workers) if n_workers else Workers(AtOnce(), 0)
    try:
        yield workers
    finally:
        workers.close()


class AtOnce(Executor):
    """This process: what is submitted runs before `submit` returns."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class Workers:
    """An executor, and the loop that hands out tasks: N_AHEAD for each worker."""

    def __init__(self, executor, n_workers):
        self.executor, self.n_workers = executor, n_workers

    def n_ahead(self):  # -> int
        """How many tasks may be handed out at a time."""
        return max(1, N_AHEAD * self.n_workers)

    def submit(self, function, items):  # -> a future
        """Hand out a task."""
        return self.executor.submit(function, items)

    def result(self, future):  # -> list of results
        """Wait for a task. Raises what its function raised, or WorkerDied."""
        return future.result()

    def run_again(self, function, items):  # -> list of results
        """Run a task whose worker died. Raises WorkerDied if another one does."""
        return self.result(self.submit(function, items))

    def close(self):
        """End the workers at once."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    def run(self, function, tasks):  # lists of items -> yields (items, results)
        """The results of function(items) for each task, in order.

        Items, results and function (of a module, or a functools.partial of one) must be picklable.
        """
        tasks, begun = iter(tasks), deque()
        while True:
            for items in islice(tasks, max(0, self.n_ahead() - len(begun))):
                begun.append((items, self.submit(function, items)))
            if not begun:
                return
            items, future = begun.popleft()
            try:
                results = self.result(future)
            except WorkerDied:
                results = self.with_blame(function, items)
            del future  # as long as it exists, a cluster keeps the results
            yield items, results

    def with_blame(self, function, items):  # -> list of results
        """The results of a task whose worker died; a WorkerDied for each item that is to blame."""
        try:
            return self.run_again(function, items)
        except WorkerDied as death:
            if len(items) == 1:
                return [death]
            return [result for item in items for result in self.with_blame(function, [item])]


# ---- a call in another process -----------------------------------------------------------------------------


def as_bytes(function, items):  # -> pickle.loads, bytes
    """function(items) as something to submit: it stays bytes until a worker unpickles, and so runs, it.

    So a scheduler can pass it on without importing the function; and if a worker cannot unpickle it, that is
    an error like any other.
    """
    return pickle.loads, pickle.dumps(Call(function, items))


class Call:
    """A function and its items. To unpickle it is to call the function."""

    def __init__(self, function, items):
        self.function, self.items = function, items

    def __reduce__(self):
        return called, (self.function, self.items)


def called(function, items):  # -> list of results
    """function(items). An error that pickle cannot send back is raised as a RuntimeError with its words."""
    try:
        return function(items)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


# ---- processes on this machine -----------------------------------------------------------------------------


class Processes(Workers):
    """Processes that end with this one, however it ends. If one dies, a new executor replaces all of them."""

    def __init__(self, n_workers):
        self.n_workers = n_workers
        self.their_end, self.our_end = multiprocessing.Pipe(duplex=False)  # once ours is closed, they end
        super().__init__(self.new_executor(n_workers), n_workers)

    def new_executor(self, n_workers):  # -> Executor
        """An executor with processes. Raises OSError if none of them starts."""
        spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        for _ in range(N_STARTS):
            executor = ProcessPoolExecutor(n_workers, spawn, prepare, [self.their_end])
            with contextlib.suppress(BrokenProcessPool):
                self.start(executor, os.getpid).result()
                return executor
        problem = f"a worker ended before its work began, {N_STARTS} times"
        raise OSError(f"{problem}: is there memory for it?")

    def start(self, executor, function, *arguments):  # -> a future
        """Submit a call. A process that starts for it gets its share of the cores, and ignores Ctrl-C."""
        with cores_shared(self.n_workers), ctrl_c_ignored():
            return executor.submit(function, *arguments)

    def submit(self, function, items):
        try:
            return self.start(self.executor, *as_bytes(function, items))
        except BrokenProcessPool:
            say("a worker died; what it had, and what waited with it, is done again")
            self.executor = self.new_executor(self.n_workers)
            return self.start(self.executor, *as_bytes(function, items))

    def result(self, future):
        try:
            return future.result()
        except BrokenProcessPool:
            raise WorkerDied from None

    def run_again(self, function, items):
        with self.new_executor(1) as executor:  # of its own: if it breaks, no other task is lost
            return self.result(self.start(executor, *as_bytes(function, items)))

    def close(self):
        self.our_end.close()
        self.executor.shutdown(cancel_futures=True)


def prepare(pipe):
    """What a worker does first. pipe: it is closed when the worker is to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=[pipe], daemon=True).start()


def end_with(pipe):
    """End this process when the pipe is closed, even in the middle of its work."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()  # nothing is ever sent
    os._exit(1)


@contextlib.contextmanager
def cores_shared(n_workers):
    """Processes that start in this block use their share of the cores, unless the user gave a number."""
    share = str(max(1, usable_cores() // n_workers))
    is_given = bool(os.environ.get("OMP_NUM_THREADS"))
    missing = [] if is_given else [name for name in N_THREADS if not os.environ.get(name)]
    before = {name: os.environ.get(name) for name in missing}
    os.environ.update(dict.fromkeys(missing, share))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def ctrl_c_ignored():
    """Processes that start in this block ignore Ctrl-C: each would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
