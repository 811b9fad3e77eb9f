"""Run a command, print its seconds and its largest memory in bytes: `python -m benchmarks.process COMMAND`.

A small process for this alone, because a new process counts the memory of the one that starts it as its own.
"""

import os
import subprocess
import sys
import time

if __name__ == "__main__":
    began = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    print(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    sys.exit(os.waitstatus_to_exitcode(status))
