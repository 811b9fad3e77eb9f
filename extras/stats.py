"""Tokens, speed and peak memory of a run: `python gpt2.py PROMPT --stats`."""

import re
import sys
import time
from functools import partial
from pathlib import Path


class Clock:
    """Notes when each id is picked: wrap the picks with `timed`, then ask for the `line`."""

    def __init__(self, n_prompt):
        self.n_prompt, self.texts = n_prompt, []  # of each text: when it began, and when its ids were picked

    def timed(self, picks):  # yields picks
        """The same picks, each of whose ids is noted."""
        for pick in picks:
            self.texts.append([time.perf_counter()])
            yield partial(self.note, self.texts[-1], pick)

    def note(self, times, pick, logits):  # [n_vocab] -> id
        """Pick an id, and note the time."""
        new_id = pick(logits)
        times.append(time.perf_counter())
        return new_id

    def line(self):  # -> str
        """Until a text's first id is picked, its prompt is read; all other time goes to the text."""
        written = [times for times in self.texts if len(times) > 1]
        n_new = sum(len(times) - 1 for times in written)
        parts = [f"prompt {counted(self.n_prompt)}", f"text {counted(n_new)}"]
        if written:
            n_read, seconds = self.reading()
            parts[0] += in_a_second(n_read, seconds)
            n_later = n_new - len(written)  # the first id of each text comes with the prompt
            parts[1] += in_a_second(n_later, written[-1][-1] - written[0][0] - seconds) if n_later else ""
        n_bytes = peak_memory()
        return "; ".join([*parts, f"peak memory {n_bytes / 1e6:,.0f} MB"] if n_bytes else parts)

    def reading(self):  # -> tokens of prompts read, seconds
        """Texts that are written one after another read the prompt each; those of a batch read it once."""
        n_read, seconds, until = 0, 0, 0
        for began, first, *_ in (times for times in self.texts if len(times) > 1):
            if began >= until:
                n_read += self.n_prompt
            seconds += max(first - max(began, until), 0)
            until = max(first, until)
        return n_read, seconds


def counted(n):  # -> str
    """A number of tokens."""
    return f"{n:,} token{'' if n == 1 else 's'}"


def in_a_second(n, seconds):  # -> str
    """A number of tokens as a rate."""
    return f", {n / seconds:,.1f} a second" if seconds > 0 else ""


def peak_memory():  # -> bytes, or None where it is not known
    """The most memory that this process has had."""
    status = Path("/proc/self/status")  # of Linux, where getrusage may tell another process's peak
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else "")
    if found:
        return 1024 * int(found[1])
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
