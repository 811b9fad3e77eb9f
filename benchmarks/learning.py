"""Learning, beside PyTorch: `python -m benchmarks.learning`, in the project's folder; a quarter of an hour.

Both take the same steps: forward, backward and AdamW, in float32, with the same random weights and ids. Each
measurement is a process of its own: two steps to warm up, then those whose median counts. The two programs
take turns. For PyTorch the model is written as in gpt2.py, with PyTorch's own attention, norms and GELU, and
its fused AdamW. The table is printed, and put into benchmarks/README.md.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("benchmarks.learning", "benchmarks/requirements.txt"))

import contextlib
import itertools
import json
import resource
import sys
from statistics import median

import numpy as np

import weights
from benchmarks.measure import median_seconds, one_process, publish
from extras import learners, optimizers, parallel

HELP = """\
python -m benchmarks.learning [--option value]    learning, beside PyTorch

--rounds 3     turns of each program
--task TASK    one measurement, in this process: what the table's turns call
"""
N_SEQ, WARM_UP = 256, 2
RANK, ALPHA, RATE = 8, 16, 1e-4
TASKS = {  # name: shape, texts of N_SEQ tokens in a step, whether an adapter learns, steps
    "tiny, all weights, 16 × 256": ("tiny", 16, False, 9),
    "tiny, LoRA, 16 × 256": ("tiny", 16, True, 9),
    "124M, all weights, 2 × 256": ("124M", 2, False, 5),
    "124M, LoRA, 1 × 256": ("124M", 1, True, 7),
    "124M, LoRA, 4 × 256": ("124M", 4, True, 5),
}


def command(rounds: int = 3, task: str = None):
    """Print the table and put it into the README, or print one measurement as JSON."""
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: it must be 1 or more")
    if task is None:
        publish("\n".join(table(rounds)), "learning")
        return
    name, _, program = task.rpartition(", ")
    if name not in TASKS or program not in PROGRAMS:
        raise ValueError(f"task is {task!r:.80}: it must be one of {list(TASKS)}, then a comma and a program")
    seconds = measure(PROGRAMS[program], *TASKS[name])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps([seconds, peak / 1e6]))


def table(rounds):  # -> lines
    """The tasks, each with the medians of all turns; × is how many times as fast as PyTorch we are."""
    found = {(task, program): [] for task in TASKS for program in PROGRAMS}
    for _ in range(rounds):
        for task, program in found:
            found[task, program].append(one_process("benchmarks.learning", f"{task}, {program}"))
    heads = "| a step of learning | plainGPT: s, tokens/s | peak, MB | PyTorch: s, tokens/s | peak, MB | × |"
    lines = [heads, "|---|---|---|---|---|---|"]
    for task, (_, n_texts, _, _) in TASKS.items():
        cells, turns = [task], [found[task, program] for program in PROGRAMS]
        for turn in turns:
            seconds, peaks = zip(*turn)
            rate = n_texts * N_SEQ / median(seconds)
            cells += [f"{median(seconds):.2f}, {rate:,.0f}", f"{max(peaks):,.0f}"]
        ratio = median(theirs / ours for (ours, _), (theirs, _) in zip(*turns))
        lines.append(f"| {' | '.join(cells)} | **{ratio:.2f} ×** |")
    return lines


def measure(program, shape, n_texts, is_lora, n_steps):  # -> seconds a step
    """The median step of a program, after some to warm up."""
    hparams, rng = weights.PRESETS[shape], np.random.default_rng(0)
    params = weights.random_params(hparams, rng)
    ids = rng.integers(hparams["n_vocab"], size=(n_texts, N_SEQ + 1))
    learner = learners.AllWeights(params)
    if is_lora:
        learner = learners.LowRankAdapter(params, hparams, "c_attn", RANK, ALPHA, dropout=0, seed=0)
    with program(params, hparams["n_head"], ids[:, :-1], ids[:, 1:], learner) as step:
        for _ in range(WARM_UP):
            step()
        return median_seconds(step, n_steps)


# ---- the two programs: each yields a function that takes a step --------------------------------------------


@contextlib.contextmanager
def in_numpy(_, n_head, inputs, targets, learner):
    """This package: extras/parallel.py and extras/optimizers.py."""
    memory = optimizers.adamw_memory(learner.leaves)
    steps = itertools.count(1)
    with parallel.all_cores(len(inputs)) as loss_and_gradients:

        def step():
            _, found = loss_and_gradients(
                inputs, targets, learner.params(), n_head, trainable=learner.trainable
            )
            optimizers.adamw(learner.leaves, learner.gradients(found), memory, next(steps), RATE)

        yield step


@contextlib.contextmanager
def in_pytorch(params, n_head, inputs, targets, learner):
    """The same model in PyTorch, whose tensors share the memory of our arrays."""
    import torch
    import torch.nn.functional as F

    base = {name: torch.from_numpy(array) for name, array in weights.flatten(params).items()}
    leaves = {name: torch.from_numpy(array).requires_grad_() for name, array in learner.leaves.items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=RATE, fused=True)
    inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)
    arrays = base | leaves

    def linear(x, name):
        y = x @ arrays[f"{name}/w"] + arrays[f"{name}/b"]
        if f"{name}/w/a" in leaves:
            y = y + ALPHA / RANK * (x @ leaves[f"{name}/w/a"] @ leaves[f"{name}/w/b"])
        return y

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], arrays[f"{name}/g"], arrays[f"{name}/b"])

    def attention(x, name):
        parts = linear(x, f"{name}/c_attn").chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (n_head, -1)).transpose(-2, -3) for part in parts)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return linear(heads.transpose(-2, -3).flatten(-2), f"{name}/c_proj")

    def step():
        x = F.embedding(inputs, arrays["wte"]) + arrays["wpe"][: inputs.shape[1]]
        for layer in range(len(params["blocks"])):
            x = x + attention(norm(x, f"h{layer}/ln_1"), f"h{layer}/attn")
            hidden = F.gelu(linear(norm(x, f"h{layer}/ln_2"), f"h{layer}/mlp/c_fc"), approximate="tanh")
            x = x + linear(hidden, f"h{layer}/mlp/c_proj")
        logits = norm(x, "ln_f") @ arrays["wte"].T
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    yield step


PROGRAMS = {"plainGPT": in_numpy, "PyTorch": in_pytorch}
