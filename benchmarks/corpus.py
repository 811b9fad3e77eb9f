"""Many texts, beside transformers: `python -m benchmarks.corpus`, in the project's folder; half an hour.

All programs read the same files, documents to score and prompts to continue by 40 tokens. The model is tiny,
or has random weights in the shape of 124M. plainGPT works in one process, with workers, and with workers of
Dask; transformers works on batches of texts of similar length. Each measurement is a process of its own; the
time to start, to load the model and to warm up does not count. The table is printed, and put into
benchmarks/README.md.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("benchmarks.corpus", "benchmarks/requirements.txt"))

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import utils
from benchmarks import formats
from benchmarks.measure import one_process, publish
from benchmarks.rivals import N_THREADS
from extras import scoring
from extras.corpus import command as corpus
from extras.corpus.models import Model
from extras.corpus.workers import opened
from files import ROOT

HELP = """\
python -m benchmarks.corpus [--option value]    many texts, beside transformers

--rounds 3       turns of each program
--workers 1,2    numbers of workers
--task TASK      one measurement, in this process: what the table's turns call
"""
FOLDER = ROOT / "models" / "benchmark"
SOURCES = (ROOT / "training" / "ships-log.txt", ROOT / "tests" / "stories.txt")
N_NEW, AT_ONCE = 40, 16  # tokens that continue a prompt; texts in a batch of transformers
SHAPES = {"tiny": 1000, "124M": 90}  # the model: how many texts of each kind
THEIRS = "transformers"


def command(rounds: int = 3, workers: str = "1,2", task: str = None):
    """Print the table and put it into the README; or, for a task, print its measurement as JSON."""
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: it must be 1 or more")
    prepare()
    if task is None:
        publish("\n".join(table(rounds, [int(n) for n in workers.split(",")])), "corpora")
        return
    action, shape, program = task.split(", ", 2)
    print(json.dumps(measure(action, shape, program)))


def table(rounds, n_workers):  # -> lines
    """Texts and tokens a second, the medians of all rounds; × is how many times as fast as transformers."""
    programs = ["one process", *(f"{kind} {n}" for kind in ("workers", "Dask") for n in n_workers), THEIRS]
    tasks = [(action, shape) for action in corpus.JOBS for shape in SHAPES]
    measured = {(task, program): [] for task in tasks for program in programs}
    for _ in range(rounds):
        for (task, program), pairs in measured.items():
            pairs.append(one_process("benchmarks.corpus", ", ".join([*task, program])))
    heads = [f"{action}, {shape}: texts/s, tokens/s" for action, shape in tasks]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for program in programs:
        cells = []
        for task in tasks:
            pairs, their_pairs = measured[task, program], measured[task, THEIRS]
            n_texts, n_tokens = (median(numbers) for numbers in zip(*pairs))
            ratio = median(ours / theirs for (_, ours), (_, theirs) in zip(pairs, their_pairs))
            end = "" if program == THEIRS else f", **{ratio:.2f} ×**"
            cells.append(f"{n_texts:,.1f}, {n_tokens:,.0f}{end}")
        lines.append(f"| {program} | {' | '.join(cells)} |")
    return lines


def measure(action, shape, program):  # -> texts a second, tokens a second
    """The speed of one program at one task, once it is warm."""
    n_texts, path = SHAPES[shape], FOLDER / f"{action}-{shape}.txt"
    if program == THEIRS:
        n_tokens, seconds = in_transformers(action, shape, path)
    else:
        kind, _, n = program.rpartition(" ")
        n_workers = int(n) if kind in ("workers", "Dask") else 0
        with dask(n_workers) if kind == "Dask" else contextlib.nullcontext() as address:
            n_tokens, seconds = in_plaingpt(action, shape, path, 0 if address else n_workers, address)
    return n_texts / seconds, n_tokens / seconds


# ---- the texts ---------------------------------------------------------------------------------------------


def prepare():
    """Write the weights and the files of texts that are missing."""
    formats.write_openai(FOLDER / "124M", "124M")
    for shape, n_texts in SHAPES.items():
        rng = np.random.default_rng(0)
        for action, low, high in (("score", 40, 700), ("generate", 20, 200)):  # characters of a text
            path = FOLDER / f"{action}-{shape}.txt"
            if not path.exists():
                path.write_text(written(action, excerpts(n_texts, low, high, rng)), encoding="utf-8")


def excerpts(n_texts, low, high, rng):  # yields str
    """Texts of low to high characters, from anywhere in the sources; the log of their length is uniform."""
    source = " ".join(path.read_text(encoding="utf-8").replace("<|endoftext|>", "") for path in SOURCES)
    for n in np.exp(rng.uniform(np.log(low), np.log(high), n_texts)).astype(int):
        start = rng.integers(len(source) - n)
        yield source[start : start + n].strip() + "."


def written(action, texts):  # -> str
    """A file of texts, as the program takes it."""
    if action == "score":
        return "<|endoftext|>\n".join(text + "\n" for text in texts)
    return "".join(json.dumps({"prompt": text, "n": N_NEW}) + "\n" for text in texts)


# ---- the programs: each returns tokens and seconds ---------------------------------------------------------


def in_plaingpt(action, shape, path, n_workers, scheduler):
    """This package. The tokens are those that it scores, or writes."""
    model = Model("tiny" if shape == "tiny" else str(FOLDER / shape))
    job = corpus.JOBS[action](model, [path], stride=None, special=False, defaults=None)
    with opened(n_workers, scheduler) as workers:
        first = corpus.prepare(job, next(job.texts([str(path)])))
        for _ in workers.run(job.function, [first.pieces] * 4 * max(1, workers.n_workers)):
            pass  # each worker has loaded the model
        began, n_tokens = time.perf_counter(), 0
        prepared = (corpus.prepare(job, text) for text in job.texts([str(path)]))
        for _, results in corpus.finished(job, workers, prepared):
            n_tokens += sum(result.n_tokens for result in results)
        return n_tokens, time.perf_counter() - began


@contextlib.contextmanager
def dask(n_workers):  # yields the address of a scheduler
    """A cluster on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    words = [["scheduler", "--host", "127.0.0.1", "--port", str(port)]]
    words += [["worker", address, "--nthreads", "1"]] * n_workers
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for each in words:
            line = [sys.executable, "-m", "dask", *each, "--no-dashboard"]
            line += ["--local-directory", folder] if "worker" in each else []
            process = subprocess.Popen(line, cwd=ROOT, **quiet)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(2)
        yield address


def in_transformers(action, shape, path):
    """Padded batches of texts of similar length: scored from the logits, or continued by `generate`."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(N_THREADS)
    folder, encoder = exported(shape)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    work = partial(score if action == "score" else generate, model)
    texts = sorted(texts_in(action, Path(path), encoder), key=len)
    batches = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
    with torch.inference_mode():
        work(batches[0])
        began = time.perf_counter()
        n_tokens = sum(map(work, batches))
        return n_tokens, time.perf_counter() - began


def exported(shape):  # -> path, encoder
    """The model as a folder for transformers, written if it is missing."""
    encoder, hparams, params = utils.load_encoder_hparams_and_params(
        "tiny" if shape == "tiny" else str(FOLDER / shape), "models"
    )
    folder = FOLDER / f"huggingface-{shape}"
    if not folder.exists():
        from extras.huggingface import export  # here, because it needs safetensors

        export.save(folder, encoder, hparams, params)
    return folder, encoder


def texts_in(action, path, encoder):  # -> list of ids
    """The ids of the texts in a file."""
    if action == "score":
        return [scoring.document_ids(text, encoder) for text in scoring.read_documents(path)]
    lines = path.read_text(encoding="utf-8").splitlines()
    return [encoder.encode(json.loads(line)["prompt"]) for line in lines]


def filled(texts, side):  # -> ids, mask: [n_texts, n_seq]
    """Texts as one array, padded with zeros on one side."""
    import torch

    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, text in enumerate(texts):
        where = slice(0, len(text)) if side == "right" else slice(ids.shape[1] - len(text), None)
        ids[i, where], mask[i, where] = torch.tensor(text), 1
    return ids, mask


def score(model, texts):  # -> tokens scored
    """Compute the surprise at each text."""
    import torch.nn.functional as F

    ids, mask = filled(texts, "right")
    logits = model(ids[:, :-1], attention_mask=mask[:, :-1]).logits
    surprise = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    (surprise * mask[:, 1:]).sum(dim=1)
    return int(mask[:, 1:].sum())


def generate(model, texts):  # -> tokens written
    """Continue each text."""
    ids, mask = filled(texts, "left")
    options = {"do_sample": False, "min_new_tokens": N_NEW, "max_new_tokens": N_NEW, "pad_token_id": 0}
    new_ids = model.generate(ids, attention_mask=mask, **options)
    return (new_ids.shape[1] - ids.shape[1]) * len(texts)
