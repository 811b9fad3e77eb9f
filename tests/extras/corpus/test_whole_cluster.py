"""The program on a real cluster: a worker is killed, one is added, the scheduler dies: the same rows come."""

import os
import signal
import subprocess
import sys

import pytest
from corpora import SEPARATOR, corpus, rows_in, write_lines
from helpers import ROOT, without_unbuffered
from learning import story
from local_cluster import wait_until

pytest.importorskip("distributed", reason="Dask is not installed: see requirements-cluster.txt")

pytestmark = pytest.mark.faults


@pytest.fixture(params=["score", "generate"])
def words(request, tmp_path):
    """A command without --out, and with some seconds of work for tiny."""
    if request.param == "score":
        (tmp_path / "texts").write_text(SEPARATOR.join(story(20, seed) + "\n" for seed in range(700)))
        return ["score", str(tmp_path / "texts"), "-m", "tiny"]
    lines = [{"prompt": story(1, seed), "n": 60, "seed": seed, "top_k": 9} for seed in range(600)]
    return ["generate", str(write_lines(tmp_path / "prompts", *lines)), "-m", "tiny"]


SMALL_TASKS = """import program
from extras.corpus import scores, texts
scores.Scores.task_size = texts.Continuations.task_size = 512
raise SystemExit(program.run("extras.corpus.command", program="extras.corpus"))"""


def start(words, out, address):  # -> process
    """The program, with tasks so small that there are many."""
    line = [sys.executable, "-c", SMALL_TASKS, *words, "--out", str(out), "--scheduler", address]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=ROOT, env=without_unbuffered(), **streams)


def has_rows(out, process, n):
    """Whether a run that goes on has written so many rows."""
    assert process.poll() is None, process.communicate()
    return out.exists() and out.read_bytes().count(b"\n") >= n


def same(ours, wanted):
    """Equal rows; the last digit of nats may differ where a machine has another number of threads."""
    ours, wanted = rows_in(ours), rows_in(wanted)
    assert len(ours) == len(wanted)
    for one, other in zip(ours, wanted):
        for name in ("nats", "bits_per_byte"):
            if name in other:
                assert one.pop(name) == pytest.approx(other.pop(name), rel=1e-5)
        assert one == other


def test_a_worker_killed_one_added_and_the_scheduler_killed_lose_nothing_and_double_nothing(
    words, dask, tmp_path, capsys
):
    assert corpus(*words, "--out", tmp_path / "wanted") == 0
    wanted, out = capsys.readouterr().out, tmp_path / "out"
    first, *_ = [dask.add_worker("--no-nanny") for _ in range(3)]

    process = start(words, out, dask.address)
    wait_until(lambda: has_rows(out, process, 30))
    os.killpg(first.pid, signal.SIGKILL)
    dask.add_worker("--no-nanny")
    wait_until(lambda: has_rows(out, process, 90))
    os.killpg(dask.scheduler.pid, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.startswith(
        f"extras.corpus: the scheduler at {dask.address} has gone; what is written stays"
    )
    assert stderr.count("\n") == 1 and 90 <= len(rows_in(out)) < len(rows_in(tmp_path / "wanted"))

    dask.begin()  # another scheduler, and another worker
    dask.add_worker("--no-nanny")
    process = start(words, out, dask.address)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (0, wanted, "")
    same(out, tmp_path / "wanted")
