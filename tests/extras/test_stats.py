"""--stats: tokens, speed and memory are those of the run."""

import re
import sys

import numpy as np
import pytest
from helpers import command

from extras import stats

LINE = (
    r"prompt (\d+) tokens, ([\d,.]+) a second; text (\d+) tokens, ([\d,.]+) a second"
    r"(?:; peak memory ([\d,]+) MB)?\n"
)


@pytest.mark.parametrize("words", [[], ["--lookup"], ["--past_context"], ["--seed=1"], ["--explain"]])
def test_the_tokens_of_a_run_are_counted_and_its_text_is_the_same(tiny, words):
    plain = command("The little fox", "20", "tiny", *words)
    done = command("The little fox", "20", "tiny", *words, "--stats")
    assert done.stdout == plain.stdout
    *_, line = done.stderr.decode().splitlines(keepends=True)
    found = re.fullmatch(LINE, line)
    assert int(found[1]) == len(tiny[0].encode("The little fox")) and int(found[3]) == 20
    if sys.platform != "win32":
        assert 30 < int(found[5]) < 1000


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a process does not inherit the peak of another"
)
def test_the_peak_is_not_that_of_the_program_that_started_this_one():
    hungry = np.ones(300_000_000, np.uint8)
    line = command("The little fox", "2", "tiny", "--stats").stderr.decode()
    assert int(re.fullmatch(LINE, line)[5]) < 200 < hungry.nbytes / 1e6


def test_several_texts_are_counted_together():
    done = command("The little fox", "10", "tiny", "--seed=1", "--n_samples=5", "--stats")
    assert re.fullmatch(LINE, done.stderr.decode())[3] == "50"


@pytest.fixture
def clock(monkeypatch):
    """A function that sets the time, and a clock that sees it."""
    now = [0.0]
    monkeypatch.setattr(stats.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stats, "peak_memory", lambda: 573_000_000)
    return now, stats.Clock(8)


def pick_at(now, pick, *seconds):
    for second in seconds:
        now[0] = second
        assert pick(np.array([0, 1])) == 1


def test_rates_are_tokens_by_seconds(clock):
    now, clock = clock
    now[0] = 10
    (pick,) = clock.timed([np.argmax])
    pick_at(now, pick, 12, 12.5, 13, 14)
    line = "prompt 8 tokens, 4.0 a second; text 4 tokens, 1.5 a second; peak memory 573 MB"
    assert clock.line() == line  # the first new token belongs to the prompt's time


def test_texts_one_after_another_read_the_prompt_each(clock):
    now, clock = clock
    now[0] = 10
    for pick in clock.timed([np.argmax, np.argmax]):
        pick_at(now, pick, now[0] + 2, now[0] + 3)
    assert clock.line().startswith("prompt 8 tokens, 4.0 a second; text 4 tokens, 1.0 a second")


def test_texts_in_a_batch_read_the_prompt_once(clock):
    now, clock = clock
    now[0] = 10
    one, other = clock.timed([np.argmax, np.argmax])
    for second in (12, 13, 14):
        pick_at(now, one, second)
        pick_at(now, other, second)
    assert clock.line().startswith("prompt 8 tokens, 4.0 a second; text 6 tokens, 2.0 a second")


def test_without_new_tokens_there_is_no_rate(monkeypatch):
    monkeypatch.setattr(stats, "peak_memory", lambda: None)
    clock = stats.Clock(1)
    list(clock.timed([np.argmax]))
    assert clock.line() == "prompt 1 token; text 0 tokens"


def test_stats_come_even_if_the_text_is_cut_short(monkeypatch, capsys):
    from helpers import run

    import cli

    def text_of(new_ids, *arguments):
        next(new_ids)
        yield "once"
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "text_of", text_of)
    assert run(["The little fox", "--stats", "-m", "tiny"]) == 130
    out, err = capsys.readouterr()
    assert out == "once\n" and re.match(r"prompt 3 tokens, .*; text 1 token; peak memory", err)


@pytest.mark.parametrize("words", [["-m", "./nosuch"], ["300", "tiny"]])
def test_an_error_is_one_line_with_stats_too(words):
    done = command("hi", *words, "--stats")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


def test_an_error_before_any_text_is_one_line_with_stats_too(monkeypatch, capsys):
    from helpers import run

    import gpt2

    def fail(*arguments):
        raise FloatingPointError("the logits are not finite numbers")

    monkeypatch.setattr(gpt2, "next_logits", fail)
    assert run(["hi", "--stats", "-m", "tiny"]) == 1
    assert capsys.readouterr() == ("", "gpt2.py: the logits are not finite numbers\n")
