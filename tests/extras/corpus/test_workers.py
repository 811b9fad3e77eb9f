"""extras/corpus/workers.py on this machine: in this process, and in child processes that may be killed."""

import functools
import itertools
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import sendable
from helpers import ROOT
from local_cluster import wait_until

import files
from extras.corpus import workers

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
KINDS = [0, 2]


@pytest.fixture(scope="module")
def two():
    """Two workers for tests in which none of them dies."""
    with workers.opened(2) as pool:
        yield pool


def tasks_of(n, size=1):
    return [[*range(i * size, (i + 1) * size)] for i in range(n)]


def doubles(tasks):
    return [(items, sendable.doubled(items)) for items in tasks]


# ---- what comes back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", KINDS)
@pytest.mark.parametrize("n_tasks, size", [(0, 1), (1, 1), (1, 5), (2, 3), (23, 1), (7, 4)])
def test_each_task_comes_back_once_in_order(two, n_workers, n_tasks, size):
    tasks = tasks_of(n_tasks, size)
    with workers.opened(n_workers) as pool:
        pool = two if n_workers else pool
        assert list(pool.run(sendable.uneven, iter(tasks))) == doubles(tasks)


def test_a_partial_of_a_function_is_run_and_a_pool_can_be_used_again(two):
    for seconds in (0, 0.001):
        function = functools.partial(sendable.slowly, seconds=seconds)
        assert list(two.run(function, tasks_of(9))) == doubles(tasks_of(9))


@pytest.mark.parametrize("n_workers, n_ahead", [(0, 1), (1, 3), (2, 6)])
def test_tasks_are_read_only_a_few_ahead_of_the_results(n_workers, n_ahead):
    n_read = 0

    def endless():
        nonlocal n_read
        for i in itertools.count():
            n_read += 1
            yield [i]

    with workers.opened(n_workers) as pool:
        results = pool.run(sendable.doubled, endless())
        assert n_read == 0
        for i in range(30):
            assert next(results) == ([i], [2 * i])
            assert n_read <= i + n_ahead


def test_without_workers_a_result_comes_before_the_next_task_is_read():
    seen = []

    def noted():
        for i in range(3):
            seen.append(f"read {i}")
            yield [i]

    n_threads = threading.active_count()
    with workers.opened(0) as pool:
        for items, _ in pool.run(sendable.doubled, noted()):
            seen.append(f"result {items[0]}")
            assert threading.active_count() == n_threads
    assert seen == ["read 0", "result 0", "read 1", "result 1", "read 2", "result 2"]


@pytest.mark.parametrize("n_workers", KINDS)
def test_an_error_comes_out_as_itself_after_the_results_before_it(two, n_workers):
    seen = []
    with workers.opened(n_workers) as pool, pytest.raises(LookupError, match="^3 is bad$"):
        for items, _ in (two if n_workers else pool).run(sendable.failing, tasks_of(9)):
            seen += items
    assert seen == [0, 1, 2]


def test_an_error_that_cannot_be_unpickled_comes_out_in_words(two):
    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"):
        list(two.run(sendable.failing_oddly, tasks_of(1)))


def test_an_item_that_cannot_be_read_is_an_error_and_kills_no_worker(two, capsys):
    for _ in range(3):
        with pytest.raises(ValueError, match="not a number"):
            list(two.run(sendable.doubled, [[sendable.Unreadable()]]))
    assert capsys.readouterr().err == ""


def test_what_cannot_be_sent_is_an_error(two):
    with pytest.raises((pickle.PicklingError, AttributeError)):
        list(two.run(lambda items: items, tasks_of(1)))


@pytest.mark.parametrize("n_workers, scheduler", [(2, "tcp://127.0.0.1:8786"), (1001, None), (-1, None)])
def test_a_wrong_number_of_workers_is_refused(n_workers, scheduler):
    with pytest.raises(ValueError, match="workers"), workers.opened(n_workers, scheduler):
        pass


def test_large_items_and_results_pass(two):
    tasks = [[bytes(3_000_000)] for _ in range(4)]
    assert [len(results[0]) for _, results in two.run(sendable.doubled, tasks)] == [6_000_000] * 4


def processes_of(pool):
    """The processes of a pool on this machine."""
    return [*pool.executor._processes.values()]


# ---- workers that die --------------------------------------------------------------------------------------


DIED = "a worker died; what it had, and what waited with it, is done again\n"


def log(folder):
    """How often each item was begun."""
    return Counter(int(line.split()[1]) for line in Path(folder, "log").read_text().splitlines())


@posix
@pytest.mark.parametrize("size", [3])
def test_the_task_of_a_killed_worker_is_run_again_and_nothing_is_lost(tmp_path, capsys, size):
    function = functools.partial(sendable.logged, folder=tmp_path, seconds=0.02)
    seen = []
    with workers.opened(2) as pool:
        for items, results in pool.run(function, tasks_of(12, size)):
            seen.append((items, results))
            if len(seen) == 2:
                processes_of(pool)[0].kill()
    assert seen == doubles(tasks_of(12, size))
    assert sum(log(tmp_path).values()) <= 12 * size + 6 * size  # six may have been on their way
    assert capsys.readouterr().err == DIED


@posix
@pytest.mark.parametrize("size", [1, 10])
def test_an_item_that_kills_its_workers_takes_no_other_with_it(tmp_path, size):
    function = functools.partial(sendable.logged, folder=tmp_path, poison=15)
    with workers.opened(2) as pool:
        found = [
            result for _, results in pool.run(function, tasks_of(30 // size, size)) for result in results
        ]
    died = found.pop(15)
    assert isinstance(died, workers.WorkerDied) and str(died) == "each worker that took it died"
    assert found == [2 * i for i in range(30) if i != 15]
    assert log(tmp_path)[15] == (2 if size == 1 else 3)  # among others, again, and alone


@posix
def test_a_worker_may_be_killed_while_it_waits(capsys):
    with workers.opened(1) as pool:
        for _ in range(3):
            assert list(pool.run(sendable.doubled, tasks_of(2))) == doubles(tasks_of(2))
            for process in processes_of(pool):
                process.kill()
                process.join()
            wait_until(lambda: pool.executor._broken)
    assert capsys.readouterr().err == DIED * 2


def test_workers_that_end_before_they_begin_are_one_error(monkeypatch):
    monkeypatch.setattr(workers, "prepare", os._exit)  # a TypeError, as a pipe is no status
    with pytest.raises(OSError, match="a worker ended before its work began"), workers.opened(2):
        pass


# ---- processes and their surroundings ----------------------------------------------------------------------

PROGRAM = """
    import functools, sys
    sys.path[:0] = {paths}
    if __name__ == "__main__":
        import sendable
        from extras.corpus import workers
        with workers.opened(2) as pool:
            function = functools.partial(sendable.busy, folder={folder})
            for items, results in pool.run(function, [[0], [1], [2]]):
                print(items)
"""


@pytest.fixture
def busy(tmp_path):
    """A program whose two workers are in the middle of a minute's work, and their processes."""
    script = tmp_path / "busy.py"
    paths = [str(ROOT), str(Path(sendable.__file__).parent)]
    script.write_text(textwrap.dedent(PROGRAM.format(paths=paths, folder=repr(str(tmp_path)))))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    family = []
    try:
        wait_until(lambda: len([*tmp_path.glob("*.pid")]) == 2)
        family = [psutil.Process(int(path.stem)) for path in tmp_path.glob("*.pid")]
        yield process, family
    finally:
        process.kill()
        for each in family:
            if each.is_running():
                each.kill()
        process.communicate()


@posix
def test_workers_of_a_killed_program_end_in_the_middle_of_their_work(busy):
    process, family = busy
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=3)
    assert not alive


@posix
@pytest.mark.parametrize("whom", ["all", "parent"])
def test_ctrl_c_ends_program_and_workers_with_no_traceback_of_a_worker(busy, whom):
    process, family = busy
    if whom == "all":  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=5)
    assert process.returncode == -signal.SIGINT and out == b""
    assert err.count(b"Traceback") == 1 and err.endswith(b"\nKeyboardInterrupt\n")  # of the program itself
    assert not psutil.wait_procs(family, timeout=1)[1]


@posix
def test_ctrl_c_while_workers_start_says_nothing_of_them(tmp_path):
    line = "import signal, time; time.sleep(0.2)"  # a module that takes a while to import
    (tmp_path / "slow_module.py").write_text(f"{line}\ndef function(items): return items\n")
    code = (
        "import sys, threading, signal, os; sys.path[:0] = sys.argv[1:]\n"
        "from extras.corpus import workers\nimport slow_module\n"
        "threading.Timer(float(os.environ['WHEN']), os.killpg, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    with workers.opened(2) as pool:\n"
        "        for _ in pool.run(slow_module.function, ([i] for i in range(10**9))): pass\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    for when in ("0.01", "0.05", "0.1", "0.2"):
        environ = os.environ | {"WHEN": when, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path],
            env=environ,
            capture_output=True,
            timeout=20,
            start_new_session=True,
        )
        assert (done.returncode, done.stderr) == (130, b""), when


def test_after_an_error_no_process_or_thread_is_left_and_none_waits_for_long_work(tmp_path):
    n_threads, start = threading.active_count(), time.monotonic()
    function = functools.partial(sendable.busy, folder=tmp_path, bad=0)
    with pytest.raises(LookupError), workers.opened(2) as pool:
        try:
            list(pool.run(function, tasks_of(9)))
        finally:
            processes = processes_of(pool)
    assert [*tmp_path.glob("*.pid")] and time.monotonic() - start < 10
    assert threading.active_count() == n_threads and len(processes) == 2
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize("n_workers", [2, 3])
def test_workers_share_the_cores_and_the_environment_stays(monkeypatch, n_workers):
    for name in workers.N_THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(workers, "usable_cores", lambda: 2 * n_workers + 1)
    before = dict(os.environ)
    with workers.opened(n_workers) as pool:
        for _, [(variables, blas)] in pool.run(sendable.environment, tasks_of(2)):
            assert variables == ["2"] * 3 and set(blas) <= {1, 2}  # 1 where there is one core only
            assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_a_number_of_threads_that_the_user_gave_is_kept(monkeypatch):
    for name in workers.N_THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with workers.opened(1) as pool:
        [(_, [(variables, _)])] = pool.run(sendable.environment, tasks_of(1))
    assert variables == ["3", None, None] and os.environ["OMP_NUM_THREADS"] == "3"


def test_what_is_said_once_is_said_by_the_program_not_its_workers(two, capsys):
    files.say_once("a line")
    assert list(two.run(sendable.doubled, tasks_of(1))) == doubles(tasks_of(1))
    assert capsys.readouterr().err == "a line\n"
