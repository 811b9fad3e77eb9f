"""Many texts, on all cores or on many machines: numbers for each document, or a text for each prompt.

    python -m extras.corpus score tests/stories.txt --out out/scores.jsonl --model_size tiny --workers 2

Texts are read one after another. A job, `Scores` or `Continuations`, splits each into pieces, which are put
together into tasks of some thousand tokens. A worker calls the job's `function` with a task, and so gets a
result for each piece; from the results of a text, its row is made. Workers may finish in any order, but only
this process writes, in the order of the texts. So if a worker dies, no row is lost and none comes twice; and
a run that was killed continues after its last row.
"""

import contextlib
import os
import sys
import time
from collections import deque
from typing import NamedTuple

from tqdm import tqdm

from extras.corpus import reading, rows, scores, texts
from extras.corpus.models import Model
from extras.corpus.workers import opened
from files import quoted, say, shown

HELP = """\
python -m extras.corpus score FILE... --out scores.jsonl [--option value]
python -m extras.corpus generate FILE --out texts.jsonl [--option value]
                       many texts: how well a model predicts each of them, or
                       how it continues each of many prompts

FILE                   a file in UTF-8, or compressed (.gz); - reads what is
                       piped in. score: texts; lines <|endoftext|> split them
                       into documents. generate: a line for each prompt, such as
                       {"prompt": "Once", "n": 20, "seed": 1}; an object with
                       any option of gpt2.py that changes the text, and, if
                       you like, an "id" of your own
--out FILE             where results go, a row of JSON for each text, in order;
                       a run that was stopped continues there
-m, --model_size 124M  the model, as for gpt2.py; tiny needs no download
--lora FOLDER          an adapter for it, as for gpt2.py
--weights int8         int8, int4 or nf4, as for gpt2.py
--models_dir FOLDER    for downloaded models, as for gpt2.py
--defaults OPTIONS     generate: options for lines that lack them, as an object:
                       '{"n": 20, "top_p": 0.8}'
--stride 1024          score: how many new tokens each window scores, as for
                       extras.scoring
--special              score: read <|endoftext|>, and any other special token
                       of the model, inside a document as that token
--strict               stop at the first text that cannot be used; without it,
                       it is reported and skipped

--workers 2            start this many processes; each gets a share of the
                       cores, and all share the memory of the model's file
--scheduler ADDRESS    use the workers of a Dask cluster, tcp://HOST:PORT; see
                       docs/cluster.md
"""
JOBS = {"score": scores.Scores, "generate": texts.Continuations}

# ---- from texts to rows ------------------------------------------------------------------------------------


class Prepared(NamedTuple):
    """A text, and what its job has prepared."""

    source: reading.Text
    content: object  # a Document or a Prompt; None if there is an error
    error: Exception | None

    @property
    def pieces(self):
        """What workers get of it."""
        return self.content.pieces if self.content else []

    @property
    def sizes(self):
        """How many tokens each piece has."""
        return self.content.sizes if self.content else []


def prepare(job, text):  # Text -> Prepared
    """Let the job prepare a text, if nothing is wrong with it."""
    if text.error:
        return Prepared(text, None, text.error)
    try:
        return Prepared(text, job.prepare(text), None)
    except ValueError as error:
        return Prepared(text, None, error)


def tasks(texts, task_size, waiting):  # Prepared ... -> yields lists of pieces
    """The pieces of texts, task_size tokens at a time. waiting: a deque, to which the texts are added."""
    task, size = [], 0
    for text in texts:
        waiting.append(text)
        for piece, n_tokens in zip(text.pieces, text.sizes):
            task.append(piece)
            size += n_tokens
            if size >= task_size:
                yield task
                task, size = [], 0
        size += 1  # so that texts without a piece do not pile up
        if size >= task_size:
            yield task
            task, size = [], 0
    yield task


def finished(job, workers, texts):  # Prepared ... -> yields (Prepared, the results of its pieces)
    """The same texts, in order, each once it has all its results."""
    waiting, results = deque(), deque()
    for _, new_results in workers.run(job.function, tasks(texts, job.task_size, waiting)):
        results.extend(new_results)
        while waiting and len(waiting[0].pieces) <= len(results):
            text = waiting.popleft()
            yield text, [results.popleft() for _ in text.pieces]


def without_rows(job, texts, earlier_rows, progress):  # yields Texts
    """The texts after the last one that has a row. The job counts the rows that are there already.

    Raises ValueError if one of them is not of these texts.
    """
    row, passed = next(earlier_rows, None), []
    for text in texts:
        if row is None:
            yield text
            continue
        progress.skip(text.n_read)
        if row.get(job.key) != job.name(text):
            passed.append(text._replace(text=""))
            continue
        for each in passed:
            skip(job, each, "it has no row, and none is added between others")
        passed = []
        job.check_same(row, text)
        job.count(row)
        row = next(earlier_rows, None)
    if row is not None:
        problem = f"there is a row of {job.key} {shown(row.get(job.key))}, which is not among the texts now"
        raise ValueError(f"{problem}: name the same files as before, or give another --out")


def skip(job, text, error):
    """Report a text that gets no row."""
    job.n_skipped += 1
    tell(f"{job.label(text)}: {error}; it is skipped")


def write_rows(job, rows_file, finished_texts, progress, strict):
    """Write the row of each text, or say why it has none. Raises ValueError for such a text if strict."""
    for text, results in finished_texts:
        error = next((each for each in [text.error, *results] if isinstance(each, Exception)), None)
        if error and strict:
            raise ValueError(f"{job.label(text.source)}: {error}")
        if error:
            skip(job, text.source, error)
            continue
        for result in results:
            rows_file.check_model(result.model, result.fingerprint)
        row = text.content.row(job.name(text.source), [result.value for result in results])
        rows_file.append(row)
        job.count(row)
        progress.update(text.source.n_read, sum(result.n_tokens for result in results))


# ---- progress ----------------------------------------------------------------------------------------------


class Progress:
    """A bar with tokens a second, and with the time left, if the size of all files is known."""

    def __init__(self, n_bytes):
        form = "{percentage:3.0f}%|{bar}| {postfix}, {remaining} left" if n_bytes else "{postfix}"
        self.bar = tqdm(total=n_bytes, bar_format=form, smoothing=0, disable=None)
        self.n_tokens, self.began = 0, time.perf_counter()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def speed(self):  # -> str
        """Tokens a second."""
        seconds = time.perf_counter() - self.began
        return f"{self.n_tokens:,} tokens, {self.n_tokens / seconds:,.0f} a second"

    def skip(self, n_read):
        """Leave n_read bytes, done by an earlier run, out of the estimate of the time left."""
        self.bar.n = self.bar.initial = self.bar.last_print_n = n_read

    def update(self, n_read, n_tokens):
        """Count a text. n_read: bytes of all files that had been read at its end."""
        self.n_tokens += n_tokens
        self.bar.set_postfix_str(self.speed(), refresh=False)
        self.bar.update(max(n_read - self.bar.n, 0))


def tell(line):
    """Print a line on stderr above the bar, if there is one."""
    with tqdm.external_write_mode(file=sys.stderr):
        say(line)


# ---- the command -------------------------------------------------------------------------------------------


def command(
    *action_and_files: str,
    out: str = None,
    model_size: str = None,
    lora: str = None,
    weights: str = None,
    models_dir: str = None,
    defaults: str = None,
    stride: int = None,
    special: bool = False,
    strict: bool = False,
    workers: int = 0,
    scheduler: str = None,
):
    """Write a row for each text, or continue a run that was stopped."""
    action, *paths = action_and_files or [None]
    check_files(action, paths, out)
    model = Model(model_size, models_dir, lora, weights)
    job = JOBS[action](model, paths, stride=stride, special=special, defaults=defaults)
    with contextlib.ExitStack() as stack:
        n_bytes = reading.size(paths)
        pool = stack.enter_context(opened(workers, scheduler))
        rows_file = stack.enter_context(rows.opened(out, job.settings()))
        progress = stack.enter_context(Progress(n_bytes))
        new_texts = without_rows(job, job.texts(paths), rows_file.earlier(), progress)
        try:
            prepared = (prepare(job, text) for text in new_texts)
            write_rows(job, rows_file, finished(job, pool, prepared), progress, strict)
        except KeyboardInterrupt:
            tell(f"{quoted(out)} keeps its rows; the same command continues")
            raise
    print(job.summary(), flush=True)


def check_files(action, paths, out):
    """Raise ValueError unless an action, files to read, and another file to write are given."""
    if action not in JOBS or not paths:
        is_wrong = action is not None and action not in JOBS
        wrong_word = f"the first word is {shown(action, 50)!r}, not score or generate"
        found = wrong_word if is_wrong else "no file is given"
        usage = "python -m extras.corpus score FILE... --out scores.jsonl, or generate FILE --out texts.jsonl"
        raise ValueError(f"{found}: {usage} (see --help)")
    if out is None:
        raise ValueError(f"give a file for the rows, such as --out {action}.jsonl")
    if any(path != "-" and os.path.realpath(path) == os.path.realpath(out) for path in paths):
        raise ValueError(f"{out} is both read and written: give another --out")
