"""Starts the program: python -m extras.corpus (see command.py)."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project
    from program import run

    raise SystemExit(run("extras.corpus.command", program="extras.corpus"))
