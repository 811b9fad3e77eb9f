"""Run a command, and print its seconds and its peak memory in bytes: `python -m benchmarks.process COMMAND`.

This is a small process of its own, because a new process counts its parent's memory in its own peak.
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
