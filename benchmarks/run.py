"""plainGPT beside its peers: `python -m benchmarks.run`, in the project's folder; 45 minutes.

All get the same random weights in the shape of 124M and the same ids. Each runs in its own process, and they
take turns: A B C, A B C. The result, a page of Markdown, is printed and put into benchmarks/README.md.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("benchmarks.run", "benchmarks/requirements.txt"))

import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

import gpt2
import names
import utils
import weights
from benchmarks import formats
from benchmarks.measure import PAUSE, median_seconds, publish, run
from benchmarks.rivals import INSTALLED, KINDS, N_THREADS, RIVALS
from benchmarks.sizes import PROMPT, grow
from extras import speculative
from files import ROOT

HELP = """\
python -m benchmarks.run [--option value]    plainGPT beside its peers, 45 minutes

--rounds 5         turns of each peer
--sizes 124M,355M  shapes in the second table, by default all four
"""
FOLDER = ROOT / "models" / "benchmark"
OURS, SLOW = "plainGPT", "picoGPT's loop"  # the slow one takes part in two turns only, in short tasks
FORTY = "40 after 10, tokens/s"
LONG = "200 after 10, tokens/s"
LOOP = "100 more of a text in a loop, tokens/s"
FIRST = "first after 1,000, s"
EIGHT = "eight × 40, tokens/s"
TASKS = {  # column: texts, tokens of a prompt, new tokens
    FORTY: (1, 10, 40),
    LONG: (1, 10, 200),
    LOOP: (1, 210, 100),
    FIRST: (1, 1000, 1),
    EIGHT: (8, 10, 40),
}
WHOLE = "whole process, 40 tokens, s"


def command(rounds: int = 5, sizes: str = ",".join(names.RELEASED)):
    """Run the benchmark, print its page, and put it into benchmarks/README.md."""
    if not {*sizes.split(",")} <= {*names.RELEASED}:
        raise ValueError(f"sizes is {sizes!r}: it must be some of {','.join(names.RELEASED)}")
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: it must be 1 or more")
    if not hasattr(os, "wait4"):
        raise OSError("this needs os.wait4, which only Linux and macOS have")
    os.environ.setdefault("NUMBA_NUM_THREADS", str(N_THREADS))  # Numba does not read OMP_NUM_THREADS
    page = [*describe_machine(), "", *compare(FOLDER / "124M", rounds), cost_of_lookup(FOLDER / "124M"), ""]
    text = "\n".join(page + grow(FOLDER, sizes.split(",")))
    publish(text, "the last run")


def describe_machine():
    """What the numbers depend on: processor, threads, versions, and the kernels chosen by NumPy's BLAS."""
    models = re.findall("model name\\s*: (.*)", read("/proc/cpuinfo")) or [platform.processor()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"Python {platform.python_version()}"]
    for name in ("numpy", "numba", "torch", "transformers", "ctranslate2", "gguf", "llama-cpp-python"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    lines = [
        f"{datetime.date.today()}: {models[0]}, {N_THREADS} threads, {memory:.0f} GiB; {platform.system()},"
    ]
    lines.append(f"{', '.join(versions)}.")
    if importlib.util.find_spec("threadpoolctl"):
        from threadpoolctl import threadpool_info

        for library in threadpool_info():
            if library["user_api"] == "blas":
                kernels = library.get("architecture")
                name, version = library["internal_api"], library["version"]
                lines.append(f"NumPy's BLAS: {name} {version}, with the kernels for {kernels}.")
    return lines


def read(path):
    return Path(path).read_text() if Path(path).exists() else ""


# ---- beside the peers --------------------------------------------------------------------------------------


def compare(folder, rounds):
    """The table of rivals and tasks, and what the machine can do, measured before each turn."""
    prepare(folder)
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(folder), "models")
    rng = np.random.default_rng(0)
    seconds = {column: {name: [] for name in INSTALLED} for column in [*TASKS, WHOLE]}
    peaks, same = {name: [] for name in INSTALLED}, {name: [] for name in INSTALLED}
    limits, workers = [], {name: start(name, folder) for name in INSTALLED}
    for turn in range(rounds):
        time.sleep(PAUSE)
        limits.append(measure_limits())
        for column, (n_texts, n_seq, n_new) in TASKS.items():
            prompts = rng.integers(0, hparams["n_vocab"] - 1, (n_texts, n_seq)).tolist()
            if column == LOOP:
                prompts = [prompts[0][:10] + gpt2.generate(prompts[0][:10], params, hparams["n_head"], 200)]
            for name in INSTALLED:
                if takes_part(name, column, turn):
                    answer = ask(workers[name], prompts, n_new)
                    if name == OURS:  # it runs first
                        ours = answer["ids"]
                    same[name] += np.equal(answer["ids"], ours).ravel().tolist()
                    seconds[column][name].append(answer["seconds"])
        for name in INSTALLED:
            if takes_part(name, WHOLE, turn):
                wall, peak = whole_process(name, folder, encoder.encode(PROMPT))
                seconds[WHOLE][name].append(wall)
                peaks[name].append(peak)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return [*table(seconds, peaks, same), "", *how_to_read(limits, seconds, hparams)]


def takes_part(name, column, turn):
    """Whether a rival does this task in this turn.

    llama.cpp and --lookup continue one text at a time; the slow one would need an hour for all tasks.
    """
    if name == SLOW:
        return turn < 2 and column in (FORTY, WHOLE)
    return column != EIGHT or "llama" not in name and "lookup" not in name


def prepare(folder):
    """Write the weights in the format of every peer that is installed."""
    formats.write_openai(folder, "124M")
    model = utils.load_encoder_hparams_and_params(str(folder), "models")
    if "transformers float32" in INSTALLED and not (folder / "huggingface").exists():
        from extras.huggingface import export  # here, because it needs safetensors

        export.save(folder / "huggingface", *model)
    if "CTranslate2 float32" in INSTALLED and not (folder / "ctranslate2").exists():
        formats.write_ctranslate2(folder / "ctranslate2")
    for kind in KINDS.values():
        formats.write_quantized(folder / kind, folder, kind)
    if "llama.cpp F32" in INSTALLED:
        for name in ("F32", "Q8_0", "Q4_0"):
            formats.write_gguf(folder / f"{name.lower()}.gguf", model, name)


def start(name, folder):
    """A process that has loaded a rival, warmed it up, and waits for requests."""
    command = [sys.executable, "-m", "benchmarks.rivals", name, str(folder)]
    errors = tempfile.TemporaryFile("w+")
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    worker = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    worker.errors = errors
    for column, (n_texts, n_seq, _) in TASKS.items():
        if takes_part(name, column, 0):
            ask(worker, [[0] * n_seq] * n_texts, 2)
    return worker


def ask(worker, prompts, n):
    """A rival's answer: {"ids": [n_texts][n], "seconds": s}."""
    time.sleep(PAUSE)
    print(json.dumps({"prompts": prompts, "n": n}), file=worker.stdin, flush=True)
    line = worker.stdout.readline()
    if not line:
        worker.errors.seek(0)
        raise RuntimeError(f"{' '.join(worker.args)} ended:\n{worker.errors.read()}")
    return json.loads(line)


def whole_process(name, folder, ids):
    """Seconds from the start of a process to its end, 40 tokens later, and its peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.rivals", name, str(folder)]
    if name.startswith(OURS):  # ours is the real command, which also reads the vocabulary
        options = [word for word in name.split() if word.startswith("--")]
        command = [sys.executable, "gpt2.py", PROMPT, "40", str(folder / KINDS.get(name, "")), *options]
    return run(command, json.dumps({"prompts": [ids], "n": 40}) + "\n")


def measure_limits():
    """Bytes a second that one row times a matrix of 1.3 GB reads; operations a second of a large product."""
    long = np.ones((16384, 20000), dtype=np.float32)
    row, square = long[:1, :16384], np.ones((2048, 2048), dtype=np.float32)
    bandwidth = long.nbytes / median_seconds(lambda: row @ long)
    return bandwidth, 2 * 2048**3 / median_seconds(lambda: square @ square)


def table(seconds, peaks, same):
    """A row for each rival: median (lowest to highest), and how many times as fast plainGPT is."""
    lines = [f"| | {' | '.join(seconds)} | peak, MB | same ids |", "|---" * (len(seconds) + 3) + "|"]
    for name in INSTALLED:
        cells = []
        for column, measured in seconds.items():
            n_texts, _, n_new = TASKS.get(column, (1, 10, 40))
            work = n_texts * n_new if "tokens/s" in column else None
            cells.append(cell(measured[name], measured[OURS], work, with_ratio=name != OURS))
        share = "all" if all(same[name]) else f"{min(np.mean(same[name]), 0.999):.1%}"
        lines.append(f"| {name} | {' | '.join(cells)} | {max(peaks[name]):,.0f} | {share} |")
    return lines


def cell(theirs, ours, work, with_ratio):
    """The measurements of one rival in one task; work, in tokens, turns seconds into a rate."""
    if not theirs:
        return ""
    values = sorted(work / t if work else t for t in theirs)
    digits = 2 if values[-1] < 10 else 1
    text = f"{median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"
    if with_ratio:
        text += f", **{ratio(theirs, ours):.2f} ×**"
    return text


def ratio(theirs, ours):
    """How many times as long they took: the median over the turns."""
    return median(t / o for t, o in zip(theirs, ours))


def how_to_read(limits, seconds, hparams):
    """What the table means, what the machine can do, and how much of that plainGPT reaches."""
    n_bytes = bytes_of_matrices(hparams)
    bandwidth, operations = (median(values) for values in zip(*limits))
    forty, two_hundred = (share_of_bus(limits, seconds, column, OURS, n_bytes) for column in (FORTY, LONG))
    pace = bandwidth / n_bytes
    floor = 2 * 1000 * (n_bytes / 4 - hparams["n_vocab"] * hparams["n_embd"]) / operations
    first, eight = median(seconds[FIRST][OURS]), ratio(seconds[FORTY][OURS], seconds[EIGHT][OURS])
    return [
        "**×** is how many times as fast the first row is, plainGPT in float32: the median over the turns;",
        "in brackets, the least and the most. *same ids*: as in the first row.",
        "",
        f"One row times a matrix of 1.3 GB reads {bandwidth / 1e9:.1f} GB/s.",
        f"A token reads {n_bytes / 1e6:.0f} MB of matrices: {pace:.1f} tokens/s at that pace; plainGPT",
        f"reaches {forty:.0%} over 40 tokens, the prompt included, and {two_hundred:.0%} over 200.",
        *(few_bits(limits, seconds, hparams, name) for name in KINDS),
        f"A large product runs at {operations / 1e9:.0f} GFLOPS, so the matrices take at least {floor:.2f} s",
        f"of the {first:.2f} s to the first token after 1,000.",
        f"Eight at once run at {8 * eight:.2f} × the rate of one.",
        *what_is_missing(),
    ]


def what_is_missing():
    """A line on the peers that are not installed, if any."""
    missing = [name for name in RIVALS if name not in INSTALLED]
    return [f"Not installed, and left out: {', '.join(missing)}."] if missing else []


def few_bits(limits, seconds, hparams, name):
    """What weights of few bits gain over float32, and how much of the memory's pace they reach."""
    n_bytes = bytes_of_matrices(hparams, KINDS[name])
    share = share_of_bus(limits, seconds, LONG, name, n_bytes)
    gain = ratio(seconds[LONG][OURS], seconds[LONG][name])
    reads = f"With {KINDS[name]}, it reads {n_bytes / 1e6:.0f} MB"
    return f"{reads}: over 200 tokens, {share:.0%} of that pace, and {gain:.2f} × the rate of float32."


def share_of_bus(limits, seconds, column, name, n_bytes):
    """The bytes of matrices that a rival reads in a second, as a share of those that the machine can read."""
    n_new = TASKS[column][2]
    return median(n_bytes * n_new / t / limit for t, (limit, _) in zip(seconds[column][name], limits))


def bytes_of_matrices(hparams, kind=None):
    """The bytes that a token reads: all matrices but wpe, of which it takes one row."""
    parts = {name: (np.float32, shape) for name, shape in weights.shapes(hparams).items()}
    if kind:
        from extras.huggingface.quantized_file import expected_parts  # here, as it loads Numba

        parts = expected_parts(hparams, kind, is_untied=False)
    sizes = {name: np.dtype(dtype).itemsize * math.prod(shape) for name, (dtype, shape) in parts.items()}
    return sum(n for name, n in sizes.items() if name.startswith("wte") or "/w" in name)


def cost_of_lookup(folder, n_turns=11):
    """What lookup costs where there is nothing to find: in a text in which no id occurs twice."""
    _, hparams, params = utils.load_encoder_hparams_and_params(str(folder), "models")
    seconds = {gpt2.stream: [], speculative.stream: []}
    for seed in range(n_turns):
        order = [gpt2.stream, speculative.stream]
        if seed % 2:
            order.reverse()
        for stream in order:
            ids = np.random.default_rng(seed).permutation(hparams["n_vocab"] - 1).tolist()
            prompt, rest = ids[:500], iter(ids[500:])
            new_ids = stream(prompt, params, hparams["n_head"], 41, lambda logits, rest=rest: next(rest))
            next(new_ids)  # the prompt has been read
            began = time.perf_counter()
            list(new_ids)
            seconds[stream].append(time.perf_counter() - began)
    cost = ratio(seconds[speculative.stream], seconds[gpt2.stream])
    return f"A text that never repeats itself takes {cost:.3f} × as long with lookup as without."
