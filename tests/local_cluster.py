"""A Dask cluster on this machine, of real processes."""

import contextlib
import os
import re
import subprocess
import sys
import time

from helpers import ROOT

HERE = ROOT / "tests" / "extras" / "corpus"  # the folder of sendable.py


class LocalCluster:
    """A scheduler and its workers, each a process with its own log in a folder; `stop` ends them all."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def begin(self):
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self.said(r"Scheduler at:\s+(tcp://\S+)")

    def start(self, *words, cwd=ROOT, path=(ROOT, HERE)):
        """Start `dask WORDS` with these folders on Python's path; its log is log0, log1 ..."""
        words = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
        with open(self.folder / f"log{len(self.processes)}", "wb") as log:
            process = subprocess.Popen(
                words, cwd=cwd, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def add_worker(self, *options, **surroundings):
        """Start a worker, and return its process when it is ready."""
        scratch = ("--local-directory", self.folder / "scratch")
        process = self.start("worker", self.address, "--nthreads", "1", *scratch, *options, **surroundings)
        self.said(r"Starting established connection to (\S+)")
        return process

    def said(self, pattern, seconds=30):
        """What the newest process has said in its log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            log = (self.folder / f"log{len(self.processes) - 1}").read_text()
            if found := re.search(pattern, log):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"it has not said {pattern!r}, but {log!r}")

    def stop(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # with its nanny's worker
            process.wait()


def wait_until(condition, seconds=60):
    """Return once a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)
