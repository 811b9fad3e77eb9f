"""benchmarks/: its weights are a model, its tables are right, and rivals do only what they can."""

import os
import sys

import numpy as np
import pytest

import utils
from benchmarks import formats, run
from weights import PRESETS

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 16}

measuring = pytest.mark.skipif(not hasattr(os, "wait4"), reason="memory is measured on Linux and macOS only")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model called 124M, with its vocabulary but few layers and columns."""
    monkeypatch.setitem(PRESETS, "124M", PRESETS["124M"] | SMALL)
    formats.write_openai(tmp_path, "124M")
    return tmp_path


def test_the_weights_are_a_model_whose_prompt_has_ten_tokens(folder):
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(folder), "models")
    assert len(encoder.encode(run.PROMPT)) == 10 and params["wte"].shape == (50257, 16)


@measuring
def test_a_process_is_measured_without_its_parents_memory():
    held = np.ones(50_000_000)  # these 400 MB must not be counted
    seconds, megabytes = run.run([sys.executable, "-c", "import time; time.sleep(0.3)"])
    assert 0.3 < seconds < 10 and 2 < megabytes < 100 < held.nbytes / 1e6


@measuring
def test_a_process_that_fails_is_reported_with_what_it_printed():
    with pytest.raises(RuntimeError, match="failed:\n.*no such thing"):
        run.run([sys.executable, "-c", "import sys; sys.exit('no such thing')"])


def test_a_cell_has_the_median_the_range_and_the_ratio():
    assert run.cell([4.0, 2.0, 5.0], [2.0, 2.0, 1.0], 40, True) == "10.0 (8.0 to 20.0), **2.00 ×**"
    assert run.cell([4.0, 2.0, 5.0], [2.0, 2.0, 1.0], None, False) == "4.00 (2.00 to 5.00)"
    assert run.cell([], [1.0], 40, True) == ""


def test_only_the_text_between_the_marks_is_replaced():
    readme = "before\n<!-- the last run -->\nold\n<!-- end of the last run -->\nafter\n"
    assert run.put_into(readme, "new") == readme.replace("old", "new")
    assert run.put_into(run.put_into(readme, "new"), "old") == readme


def test_rivals_take_part_only_in_tasks_that_they_can_do():
    assert [column for column in run.TASKS if run.takes_part(run.SLOW, column, 0)] == [run.FORTY]
    assert not any(run.takes_part(run.SLOW, column, 2) for column in run.TASKS)
    assert [name for name in run.RIVALS if not run.takes_part(name, run.EIGHT, 0)] == [
        "plainGPT --lookup", "llama.cpp F32", "llama.cpp Q8_0", "picoGPT's loop"
    ]  # fmt: skip


def test_a_shape_is_measured_and_leaves_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "355M", PRESETS["355M"] | SMALL)
    header, _, row = run.grow(tmp_path, ["355M"])
    assert "ms a token at position 10, 100, 500, 1,000" in header
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[0] == "355M" and len(cells[-1].split(",")) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
def test_the_table_has_a_row_for_every_installed_rival_and_names_the_others(folder, monkeypatch):
    monkeypatch.setattr(run, "measure_limits", lambda: (25e9, 200e9))
    there = [name for name in run.INSTALLED if "llama" not in name and "CTranslate2" not in name]
    monkeypatch.setattr(run, "INSTALLED", there)
    lines = run.compare(folder, 1)
    rows = {cells[1].strip(): cells[2:-1] for cells in (line.split("|") for line in lines if line[:1] == "|")}
    assert lines[-1].startswith("Not installed, and left out: ") and "llama.cpp Q8_0" in lines[-1]
    for name in ("plainGPT", "plainGPT --lookup", "transformers float32", "picoGPT's loop"):
        *times, peak, same = (cell.strip() for cell in rows[name])
        assert float(times[0].split()[0]) > 0
        assert 20 < float(peak.replace(",", "")) < 2000 and (same == "all" or float(same[:-1]) > 95)
    assert "×" in rows["transformers float32"][0] and "×" not in rows["plainGPT"][0]
