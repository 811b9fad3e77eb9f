"""benchmarks/: its weights are a model, its tables are right, and rivals do only what they can."""

import os
import sys

import numpy as np
import pytest
from helpers import run_python

import utils
from benchmarks import corpus, formats, measure, run, sizes
from extras.huggingface.quantized_file import parts_of
from extras.quantize import quantize
from extras.untied import apart
from weights import PRESETS, random_params

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
    seconds, megabytes = measure.run([sys.executable, "-c", "import time; time.sleep(0.3)"])
    assert 0.3 < seconds < 10 and 2 < megabytes < 100 < held.nbytes / 1e6


@measuring
def test_a_process_that_fails_is_reported_with_what_it_printed():
    with pytest.raises(RuntimeError, match="failed:\n.*no such thing"):
        measure.run([sys.executable, "-c", "import sys; sys.exit('no such thing')"])


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="a process is sampled through /proc")
def test_the_memory_of_its_own_is_sampled_without_the_files_that_a_process_maps(tmp_path):
    np.ones(50_000_000).tofile(tmp_path / "mapped")
    script = (
        "import numpy as np, sys, time; own = np.ones(25_000_000);"
        "print(np.memmap(sys.argv[1], mode='c').sum()); time.sleep(0.3)"
    )
    seconds, megabytes = measure.run_sampled([sys.executable, "-c", script, str(tmp_path / "mapped")])
    assert seconds > 0.3 and 200 < megabytes < 350  # neither 100, of Python and NumPy alone, nor 600


def test_a_sampled_process_that_fails_is_reported_with_what_it_printed():
    with pytest.raises(RuntimeError, match="failed:\n.*no such thing"):
        measure.run_sampled([sys.executable, "-c", "import sys; sys.exit('no such thing')"])


def test_without_proc_the_memory_of_its_own_is_not_known(monkeypatch):
    monkeypatch.setattr(measure, "own_memory", lambda pid: None)
    assert measure.run_sampled([sys.executable, "-c", ""])[1] is None
    assert sizes.cost_of_quantizing("124M int4", 3.4, None) == [
        "", "To make 124M int4, `python -m extras.quantize` takes 3 s."
    ]  # fmt: skip


def test_a_cell_has_the_median_the_range_and_the_ratio():
    assert run.cell([4.0, 2.0, 5.0], [2.0, 2.0, 1.0], 40, True) == "10.0 (8.0 to 20.0), **2.00 ×**"
    assert run.cell([4.0, 2.0, 5.0], [2.0, 2.0, 1.0], None, False) == "4.00 (2.00 to 5.00)"
    assert run.cell([], [1.0], 40, True) == ""


@pytest.mark.parametrize("mark", ["the last run", "learning"])
def test_only_the_text_between_the_marks_is_replaced(mark):
    readme = f"before\n<!-- {mark} -->\nold\n<!-- end of {mark} -->\nafter\n"
    assert measure.put_into(readme, "new", mark) == readme.replace("old", "new")
    assert measure.put_into(measure.put_into(readme, "new", mark), "old", mark) == readme
    page = (run.ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert page.count(f"<!-- {mark} -->\n") == page.count(f"<!-- end of {mark} -->\n") == 1


def test_rivals_take_part_only_in_tasks_that_they_can_do():
    assert [column for column in run.TASKS if run.takes_part(run.SLOW, column, 0)] == [run.FORTY]
    assert not any(run.takes_part(run.SLOW, column, 2) for column in run.TASKS)
    assert [name for name in run.RIVALS if not run.takes_part(name, run.EIGHT, 0)] == [
        "plainGPT --lookup", "llama.cpp F32", "llama.cpp Q8_0", "llama.cpp Q4_0", "picoGPT's loop"
    ]  # fmt: skip


def test_plaingpt_is_measured_by_its_command_with_the_folder_or_the_option_of_its_row(folder, monkeypatch):
    monkeypatch.setattr(run, "run", lambda command, text: command[1:])
    usual = ["gpt2.py", run.PROMPT, "40"]
    assert run.whole_process("plainGPT", folder, []) == [*usual, str(folder)]
    assert run.whole_process("plainGPT --lookup", folder, []) == [*usual, str(folder), "--lookup"]
    assert run.whole_process("plainGPT nf4", folder, []) == [*usual, str(folder / "nf4")]


def test_a_file_is_written_for_every_row_of_llama_cpp(folder, monkeypatch):
    written = []
    monkeypatch.setattr(formats, "write_gguf", lambda path, model, kind: written.append(path.name))
    monkeypatch.setattr(run, "INSTALLED", ["llama.cpp F32"])
    monkeypatch.setattr(run, "KINDS", {})
    run.prepare(folder)
    assert written == [rival[2] for name, rival in run.RIVALS.items() if "llama" in name]


def test_a_file_for_llama_cpp_is_the_same_model_and_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "124M", PRESETS["124M"] | SMALL | {"n_embd": 32})
    formats.write_openai(tmp_path, "124M")
    model = utils.load_encoder_hparams_and_params(str(tmp_path), "models")
    for kind in ("F32", "Q8_0", "F32"):
        formats.write_gguf(tmp_path / "x.gguf", model, kind)
        encoder, hparams, params = utils.load_encoder_hparams_and_params(str(tmp_path / "x.gguf"), "models")
        assert hparams == model[1] and encoder.encoder == model[0].encoder
        assert np.array_equal(params["wte"], model[2]["wte"]) == (kind == "F32")


PREPARE = """if True:
    import os, pathlib, sys
    from benchmarks import run
    from weights import PRESETS

    PRESETS["124M"] |= {"n_layer": 2, "n_head": 2, "n_embd": 16}
    os.environ.pop("GOMP_SPINCOUNT", None)  # the tests that started this may have set it
    run.INSTALLED, before = [*run.KINDS], dict(os.environ)
    folder = pathlib.Path(sys.argv[1])
    run.prepare(folder)
    kinds = [kind for kind in run.KINDS.values() if (folder / kind / "quantized.safetensors").exists()]
    print(*kinds, "same" if dict(os.environ) == before else os.environ)"""


def test_peers_start_without_the_variables_that_numba_s_loops_set(tmp_path):
    done = run_python("-c", PREPARE, str(tmp_path), check=True)
    assert done.stdout.split() == [b"int8", b"int4", b"nf4", b"same"]


@pytest.mark.parametrize("kind", [None, "int8", "int4", "nf4"])
def test_a_token_reads_the_bytes_of_all_matrices_but_wpe(kind):
    hparams = {"n_vocab": 97, "n_ctx": 8, "n_embd": 72, "n_head": 2, "n_layer": 2}
    params = random_params(hparams, np.random.default_rng(0))
    leaves = apart(quantize(params, kind) if kind else params)
    matrices = {name: leaf for name, leaf in leaves.items() if name == "wte" or name.endswith("/w")}
    parts = [part for name, leaf in matrices.items() for part in parts_of(name, leaf).values()]
    assert run.bytes_of_matrices(hparams, kind) == sum(part.nbytes for part in parts)


def test_a_kind_of_weights_is_compared_with_the_pace_of_memory_and_with_float32():
    hparams = PRESETS["124M"]
    n_bytes = run.bytes_of_matrices(hparams, "int8")
    seconds = {run.LONG: {run.OURS: [6.0, 5.0, 6.0], "plainGPT int8": [2.0, 2.0, 4.0]}}
    limits = [(n_bytes * 200, 1e9)] * 3  # this memory would let 200 tokens be read in a second
    assert run.few_bits(limits, seconds, hparams, "plainGPT int8") == (
        "With int8, it reads 124 MB: over 200 tokens, 50% of that pace, and 2.50 × the rate of float32."
    )


def test_shapes_are_measured_with_weights_of_few_bits_and_leave_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "PAUSE", 0)
    monkeypatch.setattr(sizes, "TURNS", 1)
    monkeypatch.setattr(sizes, "KINDS", {"plainGPT int4": "int4"})
    for size in ("355M", "1558M"):
        monkeypatch.setitem(PRESETS, size, PRESETS[size] | SMALL)
    header, _, *lines = run.grow(tmp_path, ["355M", "1558M"])
    assert "ms a token at position 10, 100, 500, 1,000" in header
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    assert [row[0] for row in rows] == ["355M", "1558M", "1558M int4"]
    assert all(len(row[-1].split(",")) == 4 for row in rows)
    assert [row[1] for row in rows] == ["3", "3", "4"]  # a block of 64 is longer than these rows of 16
    assert lines[-1].startswith("To make 1558M int4, `python -m extras.quantize` takes ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
def test_the_table_has_a_row_for_every_installed_rival_and_names_the_others(folder, monkeypatch):
    monkeypatch.setattr(run, "measure_limits", lambda: (25e9, 200e9))
    there = [name for name in run.INSTALLED if "llama" not in name and "CTranslate2" not in name]
    monkeypatch.setattr(run, "INSTALLED", there)
    lines = run.compare(folder, 1)
    rows = {cells[1].strip(): cells[2:-1] for cells in (line.split("|") for line in lines if line[:1] == "|")}
    assert lines[-1].startswith("Not installed, and left out: ") and "llama.cpp Q8_0" in lines[-1]
    few_bits = ("plainGPT int8", "plainGPT int4", "plainGPT nf4")
    assert tuple(rows)[2:7] == ("plainGPT", "plainGPT --lookup", *few_bits)  # after the table's two lines
    for name in (*few_bits, "plainGPT", "plainGPT --lookup", "transformers float32", "picoGPT's loop"):
        *times, peak, same = (cell.strip() for cell in rows[name])
        assert float(times[0].split()[0]) > 0 and 20 < float(peak.replace(",", "")) < 2000
        assert same == "all" or float(same[:-1]) > (50 if name in few_bits else 95)
    assert [line.split(",")[0] for line in lines if "of that pace" in line] == [
        "With int8", "With int4", "With nf4"
    ]  # fmt: skip
    assert "×" in rows["transformers float32"][0] and "×" not in rows["plainGPT"][0]


# ---- many texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["score", "generate"])
@pytest.mark.parametrize("program", ["one process", "workers 1"])
def test_texts_and_tokens_a_second_are_counted(tmp_path, monkeypatch, action, program):
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    monkeypatch.setattr(corpus, "SHAPES", {"tiny": 5})
    monkeypatch.setattr(corpus, "N_NEW", 3)
    monkeypatch.setattr(formats, "write_openai", lambda *_: None)
    corpus.prepare()
    texts_a_second, tokens_a_second = corpus.measure(action, "tiny", program)
    encoder, *_ = utils.load_encoder_hparams_and_params("tiny", "models")
    texts = corpus.texts_in(action, tmp_path / f"{action}-tiny.txt", encoder)
    n_tokens = 5 * 3 if action == "generate" else sum(len(ids) - 1 for ids in texts)
    assert len(texts) == 5 and tokens_a_second / texts_a_second == pytest.approx(n_tokens / 5)


def test_excerpts_have_lengths_between_two_bounds_and_are_the_same_each_time():
    found = [[*corpus.excerpts(300, 40, 700, np.random.default_rng(0))] for _ in range(2)]
    lengths = sorted(map(len, found[0]))
    assert found[0] == found[1] and 30 <= lengths[0] and lengths[-1] <= 701
    assert 140 < lengths[150] < 200  # the middle of their logarithms


def test_texts_are_filled_up_on_one_side():
    pytest.importorskip("torch", reason="PyTorch is not installed: see benchmarks/requirements.txt")
    for side, row in (("right", [5, 0, 0]), ("left", [0, 0, 5])):
        ids, mask = corpus.filled([[5], [1, 2, 3]], side)
        assert ids.tolist() == [row, [1, 2, 3]] and mask.tolist() == [[int(i > 0) for i in row], [1, 1, 1]]
