"""Fine-tuning: a model learns to write like a text.

    python -m extras.finetune training/ships-log.txt out/log --model_size tiny
    python gpt2.py "Monday, 3 May. Wind" --model_size tiny --lora out/log

By default an adapter learns (LoRA), a small file that `--lora` and the library peft put on the model; with
--full, all weights do. In each step the model reads some windows of the text, and what learns moves a little
against the gradient of its surprise. A tenth of the text is held out: nothing is learned from it, so it shows
whether what was learned helps with new text. A short text is soon known by heart: then the loss still falls,
but the held-out loss rises. The folder always has what was best for the held-out text.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("extras.finetune", "requirements-extras.txt"))

import contextlib
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import gpt2
from extras import learners, resume, sampling
from extras.huggingface import export
from extras.huggingface.tensors import safetensors_library
from extras.learning import STATE, UNFINISHED, Run, even_windows, learn
from extras.scoring import read_documents, scored_ids
from files import printable, quoted, say, shown
from names import MODELS_DIR
from text import say_if_plain, special_ids, text_of
from utils import open_model

HELP = """\
python -m extras.finetune TEXT... OUT_FOLDER [--option value]
                         teach a model to write like a text

TEXT...                  files in UTF-8; lines <|endoftext|> split them into
                         documents
OUT_FOLDER               a new folder; or that of a run that was stopped, which
                         the same command continues
-m, --model_size 124M    the model, as for gpt2.py; tiny needs no download
--weights int8           its weights as int8, int4 or nf4, as for gpt2.py; the
                         adapter stays float32 (QLoRA)
--models_dir FOLDER      for downloaded models, as for gpt2.py
--special                read <|endoftext|>, and any other special token of the
                         model, inside a document as that token
--held_out FILE          a text to measure by, instead of the last tenth of TEXT

--rank 8                 rank of each change: a higher one can hold more
--alpha 16               its changes are multiplied by alpha / rank
--matrices c_attn        what it changes in each block: c_attn, c_proj, c_fc, or
                         several, as c_attn,c_fc; all; or qv, the queries and
                         values only, as in LoRA's paper
--dropout 0.1            share of its inputs that it does not see in a step
--full                   let all weights learn, and write a whole model

--n_steps 200            learning steps
--batch 4                windows of the text in a step
--window 256             tokens in a window, at most as many as the model sees
--learning_rate 0.002    how far a step goes; by default 0.0002 with --full
--seed 0                 another seed: other windows, another beginning
"""
LIMITS = {  # name: least, most
    "rank": (1, 10**4),
    "alpha": (1e-6, 10**6),
    "dropout": (0, 0.9),
    "n_steps": (1, 10**9),
    "batch": (1, 10**5),
    "window": (2, 10**6),
    "learning_rate": (1e-12, 10),
}
RATE, FULL_RATE = 0.002, 0.0002
FEWEST = 64  # tokens to learn from
N_PROMPT, N_SAMPLE = 16, 40  # tokens of the held-out text, and of its continuation by the model

# ---- texts -------------------------------------------------------------------------------------------------


def to_ids(documents, encoder, special):  # -> [n_tokens]
    """All documents, end to end, each after the token that begins one."""
    say_if_plain(documents, encoder, special, where="the text")
    ids = [scored_ids(document, encoder, special) for document in tqdm(documents, "tokens", disable=None)]
    return np.array([i for part in ids for i in part], dtype=int)


def split(ids):  # -> ids to learn from, ids that are held out
    """Hold out the last tenth of a text."""
    n_held_out = max(len(ids) // 10, 2)
    return ids[:-n_held_out], ids[-n_held_out:]


# ---- what is said ------------------------------------------------------------------------------------------


def report(run, write, show, loss, held_out_loss):
    """Say how far a run has come, and save it; if it was never better, write what it has learned.

    write: () -> None; show: params -> str, a sample. loss: the mean of the steps since the last report, or
    None; held_out_loss: after them.
    """
    is_new = run.n_steps == 0
    is_best = not is_new and held_out_loss < run.best[0]
    if is_new:
        run.best[:] = held_out_loss, 0, held_out_loss
        run.save()  # first: it marks the folder as that of a run
        write()
    else:
        if is_best:
            run.best[:2] = held_out_loss, run.n_steps
            write()
        run.save()
    learned = "" if loss is None else f"loss {loss:.3f}, "
    note = ", the best so far" if is_best else ""
    tell(f"step {run.n_steps}: {learned}held out {held_out_loss:.3f} nats a token{note}")
    tell(f"    {show(run.learner.params())}")


def tell(line):
    """Print a line above the bar, if there is one."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(printable(line), flush=True)


def sample(unseen, encoder, hparams, params):  # -> str
    """The beginning of the held-out text, as the model continues it, drawn with the same noise each time."""
    prompt = unseen[: min(N_PROMPT, hparams["n_ctx"] // 2)].tolist()
    n_new = min(N_SAMPLE, hparams["n_ctx"] - len(prompt))
    pick = sampling.picker(prompt, top_p=0.8, rng=np.random.default_rng(0))
    new_ids = gpt2.stream(prompt, params, hparams["n_head"], n_new, pick)
    shown_ids = [i for i in prompt if i not in special_ids(encoder)]
    return encoder.decode(shown_ids) + " | " + "".join(text_of(new_ids, encoder, before=prompt))


@contextlib.contextmanager
def kept(run):
    """If a run ends early, say what is kept, and how to continue or what to change."""
    folder = quoted(run.folder)
    try:
        with warnings.catch_warnings():  # NumPy warns of numbers that grow too large, in lines of its own
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    except KeyboardInterrupt:
        say(f"{folder} keeps what was best, after {run.best[1]:.0f} steps; the same command continues")
        raise
    except FloatingPointError as error:
        rate = run.settings["learning_rate"]
        advice = f"a --learning_rate lower than {rate:g}, and a new folder; {folder} keeps what was best"
        raise FloatingPointError(f"step {run.n_steps + 1}: {error}: try {advice}") from None


def conclude(run, model_size, full):
    """Say what a finished run has achieved, and how to use it."""
    lowest, n_steps, first = run.best
    if n_steps == 0:
        tell("nothing learned helps with the held-out text: try a lower --learning_rate, or more text")
        return
    tell(f"{run.folder} is from step {n_steps:.0f}: held out {lowest:.3f} nats a token, {first:.3f} before")
    model = run.folder if full else model_size
    lora = "" if full else f" --lora {quoted(run.folder)}"
    tell(f'try it: python gpt2.py "PROMPT" --model_size {quoted(model)}{lora} --top_p 0.8')


# ---- the command -------------------------------------------------------------------------------------------


def command(
    *texts_and_folder: str,
    model_size: str = "124M",
    weights: str = None,
    models_dir: str = MODELS_DIR,
    special: bool = False,
    held_out: str = None,
    rank: int = 8,
    alpha: float = 16.0,
    matrices: str = "c_attn",
    dropout: float = 0.1,
    full: bool = False,
    n_steps: int = 200,
    batch: int = 4,
    window: int = 256,
    learning_rate: float = None,
    seed: int = 0,
):
    """Teach a model to write like a text, or continue a run that was stopped."""
    if len(texts_and_folder) < 2:
        usage = "python -m extras.finetune TEXT... OUT_FOLDER"
        raise ValueError(f"give a text, or several, and a folder: {usage} (see --help)")
    *texts, folder = texts_and_folder
    rate = (FULL_RATE if full else RATE) if learning_rate is None else learning_rate
    settings = {"model_size": model_size, "weights": weights, "special": special, "full": full, "seed": seed}
    settings |= {"batch": batch, "window": window, "learning_rate": rate}
    settings |= {} if full else {"rank": rank, "alpha": alpha, "matrices": matrices, "dropout": dropout}
    check(settings, n_steps, folder)
    documents = [document for path in texts for document in read_documents(path)]
    new_documents = read_documents(held_out) if held_out else []
    encoder, hparams, load_params = open_model(model_size, models_dir, weights=weights)
    ids = to_ids(documents, encoder, special)
    if held_out:
        unseen = to_ids(new_documents, encoder, special)
    else:
        ids, unseen = split(ids)
    settings["window"] = check_length(texts, ids, unseen, min(window, hparams["n_ctx"]))
    learner = learner_of(load_params(), hparams, settings)
    run = Run(learner, folder, settings, resume.digest(ids) + resume.digest(unseen))
    export.remove_abandoned(run.folder.resolve() / learner.file)  # what a killed run left
    write = partial(learner.write, folder, encoder, hparams, model_size)
    show = partial(sample, unseen, encoder, hparams)
    with kept(run):
        held_out_windows = even_windows(unseen, settings["window"])
        learn(run, ids, held_out_windows, hparams["n_head"], n_steps, partial(report, run, write, show))
    conclude(run, model_size, full)


def learner_of(params, hparams, settings):  # -> AllWeights or LowRankAdapter
    """What learns, according to the settings."""
    if settings["full"]:
        return learners.AllWeights(params)
    chosen = {name: settings[name] for name in ("rank", "alpha", "matrices", "dropout", "seed")}
    return learners.LowRankAdapter(params, hparams, **chosen)


def check(settings, n_steps, folder):
    """Raise ValueError for a wrong option, and for a folder that holds something else."""
    safetensors_library()  # if it is missing, say so before a model is downloaded
    for name, value in (settings | {"n_steps": n_steps}).items():
        least, most = LIMITS.get(name, (None, None))
        if least is not None and not least <= value <= most:
            raise ValueError(f"{name} is {value}: it must be from {least} to {most}")
    if settings["full"] and settings["weights"]:
        raise ValueError("all weights learn only as float32: leave out --full, or --weights")
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"{folder} is a file: give a new folder")
    found = {path.name for path in folder.iterdir()} - {UNFINISHED} if folder.exists() else set()
    if found and STATE not in found:
        raise ValueError(f"{folder} holds {shown(min(found))}: give an empty folder, or a new one")


def check_length(texts, ids, unseen, n_seq):  # -> tokens in a window
    """n_seq, or fewer if the text has fewer. Raises ValueError for a text that is too short to learn from."""
    if len(ids) < FEWEST:
        found = f"{' and '.join(texts)}: {len(ids)} tokens to learn from"
        raise ValueError(f"{found} are too few: {FEWEST} are needed")
    if len(unseen) < 2:
        raise ValueError(f"the held-out text has {len(unseen)} tokens: 2 or more are needed")
    return min(n_seq, len(ids) - 1)
