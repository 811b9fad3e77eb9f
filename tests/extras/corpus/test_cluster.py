"""extras/corpus/cluster.py with a real scheduler and real workers: killed, added later, started wrongly."""

import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sendable
from helpers import ROOT

pytest.importorskip("distributed", reason="Dask is not installed: see requirements-cluster.txt")

import files
from extras.corpus import cluster, workers

faults = pytest.mark.faults
HERE = Path(__file__).resolve().parent
PROGRAM = """
import functools, sys
import program, sendable
from extras.corpus import workers

HELP = ""

def command(address: str, folder: str):
    function = functools.partial(sendable.logged, folder=folder, seconds=0.1)
    with workers.opened(0, address) as pool:
        for items, results in pool.run(function, ([i] for i in range(300))):
            print(results, flush=True)

if __name__ == "__main__":
    sys.exit(program.run("client"))
"""


def tasks_of(n, size=1):
    return [[*range(i * size, (i + 1) * size)] for i in range(n)]


def doubles(tasks):
    return [(items, sendable.doubled(items)) for items in tasks]


def log(folder):
    """The processes that began each item."""
    pairs = [line.split() for line in Path(folder, "log").read_text().splitlines()]
    return {int(item): [pid for pid, other in pairs if other == item] for _, item in pairs}


def kill(process):
    """As a machine dies: the worker with its nanny."""
    os.killpg(process.pid, signal.SIGKILL)


def test_a_cluster_gives_what_this_process_gives_in_the_same_order(dask, tmp_path, capfd):
    for _ in range(3):
        dask.add_worker("--no-nanny")
    function = functools.partial(sendable.logged, folder=tmp_path, seconds=0.01)
    with workers.opened(0, dask.address) as pool:
        assert list(pool.run(sendable.uneven, tasks_of(30))) == doubles(tasks_of(30))
        assert list(pool.run(function, tasks_of(30, 2))) == doubles(tasks_of(30, 2))
        with pytest.raises(LookupError, match="^3 is bad$"):
            list(pool.run(sendable.failing, tasks_of(9)))
    found = log(tmp_path)
    assert all(len(pids) == 1 for pids in found.values()) and len(found) == 60
    assert len({pid for pids in found.values() for pid in pids}) == 3
    assert capfd.readouterr().err == ""


@faults
def test_tasks_are_read_three_for_each_worker_ahead(dask):
    for _ in range(2):
        dask.add_worker("--no-nanny")
    tasks = iter(tasks_of(100))
    with workers.opened(0, dask.address) as pool:
        results = pool.run(sendable.doubled, tasks)
        assert [next(results)[0][0] for _ in range(20)] == [*range(20)]
        assert 20 <= next(tasks)[0] <= 26


@faults
@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_when_a_worker_is_killed_nothing_is_lost_or_comes_twice(dask, tmp_path, capfd, nanny):
    first, *_ = [dask.add_worker(nanny) for _ in range(3)]
    function = functools.partial(sendable.logged, folder=tmp_path, seconds=0.03)
    seen = []
    with workers.opened(0, dask.address) as pool:
        for pair in pool.run(function, tasks_of(40, 2)):
            seen.append(pair)
            if len(seen) == 7:
                kill(first)
    assert seen == doubles(tasks_of(40, 2)) and capfd.readouterr().err == ""
    n_begun = Counter(map(len, log(tmp_path).values()))
    assert n_begun[1] >= 80 - 2 * 9  # what was read before is not run again


@faults
def test_a_worker_that_comes_later_gets_work(dask, tmp_path):
    dask.add_worker("--no-nanny")
    function = functools.partial(sendable.logged, folder=tmp_path, seconds=0.1)
    seen = []
    with workers.opened(0, dask.address) as pool:
        for pair in pool.run(function, tasks_of(60)):
            seen.append(pair)
            if len(seen) == 3:
                threading.Thread(target=dask.add_worker, args=["--no-nanny"]).start()
    n_each = Counter(pids[0] for pids in log(tmp_path).values())
    assert seen == doubles(tasks_of(60)) and len(n_each) == 2 and min(n_each.values()) >= 5


@faults
@pytest.mark.parametrize("n", [3])
def test_an_item_that_kills_its_workers_takes_no_other_with_it(dask, tmp_path, n):
    for _ in range(n):
        dask.add_worker()
    function = functools.partial(sendable.logged, folder=tmp_path, poison=15)
    with workers.opened(0, dask.address) as pool:
        found = [result for _, results in pool.run(function, tasks_of(4, 10)) for result in results]
    died = found.pop(15)
    assert isinstance(died, workers.WorkerDied) and str(died) == "each worker that took it died"
    assert found == [2 * i for i in range(40) if i != 15]


@faults
def test_if_an_item_has_killed_all_workers_the_run_ends(dask, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_TO_SAY_SO", 1)
    monkeypatch.setattr(cluster, "SECONDS_WITHOUT_WORKERS", 4)
    for _ in range(2):
        dask.add_worker("--no-nanny")
    function = functools.partial(sendable.logged, folder=tmp_path, poison=15)
    seen = []
    with workers.opened(0, dask.address) as pool, pytest.raises(OSError, match="^no worker at .* for 4 s: "):
        seen += pool.run(function, tasks_of(4, 10))
    err = capfd.readouterr().err
    assert (
        err.startswith(f"no worker at {dask.address}: waiting for one; start workers")
        and err.count("\n") == 1
    )


@faults
def test_the_run_continues_when_a_worker_comes_before_it_gives_up(dask, capfd, monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_TO_SAY_SO", 0.5)
    threading.Timer(3, dask.add_worker, ["--no-nanny"]).start()
    with workers.opened(0, dask.address) as pool:
        assert list(pool.run(sendable.doubled, tasks_of(20))) == doubles(tasks_of(20))
    assert capfd.readouterr().err.count("waiting for one") == 1


# ---- the whole program: what is on stderr ------------------------------------------------------------------


@pytest.fixture
def client(dask, tmp_path):
    """A program with some results on stdout."""
    for _ in range(2):
        dask.add_worker()
    (tmp_path / "client.py").write_text(PROGRAM)
    path = os.pathsep.join(map(str, (ROOT, HERE, tmp_path)))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = [sys.executable, tmp_path / "client.py", dask.address, tmp_path]
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": path}, **streams)
    try:
        for _ in range(5):
            assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@faults
def test_when_the_scheduler_is_killed_one_line_says_what_to_do(dask, client):
    start = time.monotonic()
    kill(dask.scheduler)
    out, err = client.communicate(timeout=10)
    assert client.returncode == 1 and time.monotonic() - start < 5
    assert err.startswith(f"client: the scheduler at {dask.address} has gone; what is written stays")
    assert err.count("\n") == 1


@faults
def test_ctrl_c_ends_the_program_with_nothing_on_stderr_and_the_workers_stop(dask, client, tmp_path):
    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=10)
    assert (client.returncode, err) == (130, "")
    time.sleep(0.5)
    n_begun = len(log(tmp_path))
    time.sleep(0.5)
    assert len(log(tmp_path)) == n_begun < 300


@faults
def test_a_scheduler_that_goes_while_the_program_is_busy_is_an_error_too(dask, monkeypatch):
    dask.add_worker("--no-nanny")
    with (
        workers.opened(0, dask.address) as pool,
        pytest.raises(OSError, match="the scheduler at .* has gone"),
    ):
        for items, _ in pool.run(sendable.doubled, tasks_of(100)):
            if items == [5]:
                kill(dask.scheduler)
                while pool.client.status != "closed":  # until Dask gives up, too
                    time.sleep(0.1)


# ---- started wrongly ---------------------------------------------------------------------------------------


@faults
def test_workers_started_elsewhere_are_an_error_that_says_where_to_start_them(dask, tmp_path, capfd):
    dask.add_worker(cwd=tmp_path, path=())
    with workers.opened(0, dask.address) as pool, pytest.raises(ImportError) as caught:
        list(pool.run(sendable.doubled, tasks_of(20)))
    start = f"python -m dask worker {dask.address} --nworkers -1 --nthreads 1"
    assert str(caught.value) == (
        f"a worker of {dask.address} cannot run this: No module named 'extras'; "
        f"start workers in this project's folder: {start}"
    )
    assert capfd.readouterr().err == ""


@faults
def test_workers_started_as_is_advised_find_the_project_wherever_the_scheduler_was_started(dask):
    kill(dask.scheduler)
    dask.scheduler = dask.start("scheduler", "--host", "127.0.0.1", "--port", "0", cwd="/", path=())
    dask.address = dask.said(r"Scheduler at:\s+(tcp://\S+)")
    dask.add_worker(path=())
    with workers.opened(0, dask.address) as pool:
        assert list(pool.run(files.shown, [[1, 2]])) == [([1, 2], "[1, 2]")]


@faults
def test_a_worker_with_several_threads_is_told_of(dask, capfd):
    dask.add_worker("--no-nanny", "--nthreads", "2")
    with workers.opened(0, dask.address) as pool:
        assert list(pool.run(sendable.doubled, tasks_of(20))) == doubles(tasks_of(20))
    err = capfd.readouterr().err
    assert err.startswith("a worker has several threads; start workers") and err.count("\n") == 1


def test_what_is_no_address_is_refused_at_once():
    for address in (
        "",
        "nonsense",
        "127.0.0.1:8786",
        "tcp://127.0.0.1",
        "tcp://:8786",
        "tcp://a:b",
        "tcp://[::1",
    ):
        with pytest.raises(ValueError, match="it must be an address such as"), workers.opened(0, address):
            pass


@pytest.mark.parametrize("listens", [False, True])
def test_an_address_where_no_scheduler_answers_is_one_line(monkeypatch, capfd, listens):
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # like a web server, it waits to be asked
        port = server.getsockname()[1]
        if not listens:
            server.close()
        with pytest.raises(OSError, match=f"^no scheduler answers at tcp://127.0.0.1:{port}: run"):
            with workers.opened(0, f"tcp://127.0.0.1:{port}"):
                pass
    assert capfd.readouterr().err == ""


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="requirements-cluster.txt"):
        with workers.opened(0, "tcp://127.0.0.1:8786"):
            pass
