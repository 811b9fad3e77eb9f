"""Time and memory of functions and of processes.

`python -m benchmarks.measure COMMAND` runs a command, and prints its seconds and its peak memory in bytes. It
is a small process of its own, because a new process counts its parent's memory in its own peak.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from files import ROOT

PAUSE = 0.5  # seconds before each turn: threads of the last one may still spin, waiting for work
SAMPLE = 0.02  # seconds between two looks at a process


def median_seconds(function, n=5):
    """The median time of n calls."""
    seconds = []
    for _ in range(n):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def run(command, text=""):
    """Run a command to its end, with text as its input; return its seconds and its peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.measure", *command]
    time.sleep(PAUSE)
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    seconds, n_bytes = done.stdout.split()
    return float(seconds), int(n_bytes) / 1e6


def one_process(module, task):
    """What `python -m MODULE --task TASK` measures and prints as JSON, in a process of its own.

    Raises RuntimeError, with its last words, if it fails.
    """
    time.sleep(PAUSE)
    words = [sys.executable, "-m", module, "--task", task]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{task} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def run_sampled(command):
    """Run a command; return its seconds and the peak, in MB, of the memory that is its own: no mapped files.

    The peak is the largest of many samples; it is None where there is no /proc.
    """
    peak, began = None, time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            peak = max(filter(None, (peak, own_memory(process.pid))), default=None)
            time.sleep(SAMPLE)
        seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read()}")
    return seconds, peak


def own_memory(pid):
    """The memory of a process in MB, without mapped files; None without /proc, or once it has ended."""
    try:
        found = re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 / 1e6 if found else None


def publish(text, mark):
    """Print what was measured, and put it into benchmarks/README.md in place of the last; see `put_into`."""
    print(text)
    readme = ROOT / "benchmarks" / "README.md"
    readme.write_text(put_into(readme.read_text(encoding="utf-8"), text, mark), encoding="utf-8")


def put_into(readme, text, mark):
    """The page, with text between the two lines <!-- MARK --> and <!-- end of MARK -->."""
    before, begin, rest = readme.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- end of {mark} -->\n")
    return f"{before}{begin}{text}\n{end}{after}"


if __name__ == "__main__":
    began = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    print(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    sys.exit(os.waitstatus_to_exitcode(status))
