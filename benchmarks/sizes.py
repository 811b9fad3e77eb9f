"""plainGPT by itself: at each size, with each kind of weights, and by the number of tokens so far."""

import shutil
import sys
from functools import partial
from statistics import median

import gpt2
import utils
from benchmarks import formats
from benchmarks.measure import median_seconds, run
from benchmarks.rivals import KINDS
from layouts import QUANTIZED

PROMPT = "The little fox"  # ten tokens of the benchmark's vocabulary
TURNS = 3  # of each command
POSITIONS = (10, 100, 500, 1000)
ALL_KINDS = ("124M", "1558M")  # shapes that are measured with weights of few bits too
NOTED = "1558M int4"  # a line says what it takes to make this one


def grow(folder, sizes):
    """A table: the command at each size, and milliseconds a token by the number of tokens before it."""
    at = ", ".join(f"{position:,}" for position in POSITIONS)
    columns = ["shape", "weights, MB", "40 tokens, s", "peak, MB", "peak ÷ weights"]
    columns += ["start to first token, s", f"ms a token at position {at}"]
    rows, notes = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"], []
    for size in sizes:
        path = folder / size
        formats.write_openai(path, size)
        rows.append(row(size, path, utils.DATA))
        for kind in KINDS.values() if size in ALL_KINDS else ():
            name, quantized = f"{size} {kind}", folder / f"{size}-{kind}"
            cost = formats.write_quantized(quantized, path, kind)
            rows.append(row(name, quantized, QUANTIZED))
            notes += cost_of_quantizing(name, *cost) if name == NOTED else []
            shutil.rmtree(quantized)  # one at a time, as the largest take gigabytes
        if size != "124M":
            shutil.rmtree(path)
    return rows + notes


def row(name, path, file):
    """The row of a model in a folder; file: the name of the one that holds its weights."""
    n_bytes = (path / file).stat().st_size
    command = [sys.executable, "gpt2.py", PROMPT, "--model_size", str(path), "--n_tokens_to_generate"]
    run([*command, "1"])  # from now on the system has the file in memory
    first = median(run([*command, "1"])[0] for _ in range(TURNS))
    walls, peaks = zip(*(run([*command, "40"]) for _ in range(TURNS)))
    steps = ", ".join(f"{milliseconds:.1f}" for milliseconds in step_times(path))
    cells = [name, f"{n_bytes / 1e6:,.0f}", f"{median(walls):.1f}", f"{max(peaks):,.0f}"]
    cells += [f"{max(peaks) * 1e6 / n_bytes:.2f}", f"{first:.2f}", steps]
    return f"| {' | '.join(cells)} |"


def step_times(path):
    """Median milliseconds of one token, with the cache filled up to each position."""
    _, hparams, params = utils.load_encoder_hparams_and_params(str(path), "models")
    n_head = hparams["n_head"]
    kv_cache = gpt2.new_kv_cache(params, n_head, hparams["n_ctx"])
    kv_cache[...] = 0.1  # zeros never written take up no memory, and no time to read

    def step(position):
        hidden = gpt2.prefill([0], params, n_head, kv_cache, n_past=position)
        gpt2.next_logits(hidden[-1], params)

    return [1e3 * median_seconds(partial(step, position), n=9) for position in POSITIONS]


def cost_of_quantizing(name, seconds, megabytes):
    """What it takes to make a model of few bits, in lines below the table."""
    line = f"To make {name}, `python -m extras.quantize` takes {seconds:.0f} s"
    if megabytes:
        line += f" and {megabytes:,.0f} MB of memory, not counting the float32 file, which it maps"
    return ["", f"{line}."]
