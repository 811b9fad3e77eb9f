"""Train a small GPT-2 on a text: the program that made models/tiny, and can make yours.

    pip install -r training/requirements.txt
    python -m training.train stories.txt my-model
    python gpt2.py "The little fox" --model_size my-model

Ctrl-C stops; the same command, with the same text, continues from the last save, at most 250 steps back. The
folder is a model from the first minute: try it while it trains. When training is finished, delete its
training.npz.

The model is that of gpt2.py; extras/gradients.py goes through it backwards, and extras/optimizers.py changes
its weights.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("training.train", "training/requirements.txt"))

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tqdm import tqdm

from checkpoint import in_openai_layout, write_checkpoint
from encoder import Encoder, vocabulary, write_encoder
from extras import resume
from extras.gradients import leaves
from extras.optimizers import adamw, adamw_memory, muon, muon_memory, warmup_and_decay
from extras.parallel import all_cores, usable_cores
from extras.scoring import bits_per_byte, document_ids, nats, read_documents
from files import ModelError
from utils import open_model
from weights import PRESETS, check_hparams, random_params, shapes, to_params

HELP = """\
python -m training.train TEXT FOLDER [--option value]    train a GPT-2 on a text

TEXT              a file in UTF-8; a line <|endoftext|> ends a document
FOLDER            where the model goes; an unfinished one is continued
--held_out FILE   another text, measured at every save; 100 kB will do
--n_vocab 4000    tokens in the vocabulary
--n_ctx 256       tokens that the model can see at most
--n_embd 192      numbers in a token's vector
--n_head 6        heads in a layer
--n_layer 6       blocks
--n_steps 11000   training steps
--n_windows 16    windows of n_ctx tokens in a step
--repeats 0.02    share of windows that repeat a span of random tokens
--seed 0          a different seed gives a different model of the same kind
"""
TINY = PRESETS["tiny"]
LIMITS = {  # name: least, most; besides those of `check_hparams`
    "n_vocab": (257, 65536),  # all bytes and <|endoftext|>; what the uint16 of counts.npz can hold
    "n_ctx": (16, 10**5),
    "n_steps": (1, 10**9),
    "n_windows": (1, 10**6),
    "repeats": (0, 1),
}
STATE = "training.npz"
OLD_STATE = "training.pt"
BEFORE_STATE = {"hparams.json", "encoder.json", "vocab.bpe", "counts.npz", "training.part"}  # may precede it
SAVE_EVERY = 250  # steps

# ---- from a text to ids ------------------------------------------------------------------------------------


def learn_vocabulary(texts, n_vocab):  # -> Encoder
    """Byte-pair encoding as in GPT-2: merge the most frequent pair of neighbours, up to n_vocab tokens."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level
    alphabet = byte_level.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=n_vocab - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    merges = {}
    for a, b in json.loads(tokenizer.to_str())["model"]["merges"]:
        merges.setdefault(a + b, (a, b))  # a second pair that makes the same token is left out
    return Encoder(vocabulary(merges.values()), merges.values())


def to_ids(texts, encoder):  # -> [n_tokens]
    """All documents end to end, each after an <|endoftext|>."""
    ids = []
    for text in tqdm(texts, "tokens", disable=None):
        ids += document_ids(text, encoder)
    return np.array(ids)


def write_counts(ids, n_vocab, path, n_bigrams=200_000):
    """Write how often each token and each of the most frequent pairs occurs: all a bigram model knows."""
    pairs = Counter(pairwise(ids.tolist())).most_common(n_bigrams)
    bigrams = np.array([pair for pair, _ in pairs], dtype=np.uint16)
    counts = np.array([count for _, count in pairs], dtype=np.uint32)
    order = np.lexsort(bigrams.T[::-1])  # by first token, then second: compresses better
    unigrams = np.bincount(ids, minlength=n_vocab).astype(np.uint32)
    np.savez_compressed(path, unigrams=unigrams, bigrams=bigrams[order], bigram_counts=counts[order])


def batch(ids, step, n_vocab, settings):  # -> [n_windows, n_ctx + 1]
    """The windows of a step, the same on every call, so that a resumed run sees what it would have seen.

    A share of them, settings["repeats"], hold a repeated span of random tokens instead of text.
    """
    n_ctx, n_windows, seed = settings["n_ctx"], settings["n_windows"], settings["seed"]
    rng = np.random.default_rng([seed, step])
    windows = []
    for n in range(step * n_windows, (step + 1) * n_windows):
        n_pass, i = divmod(n, len(ids) // n_ctx - 1)
        start = starts(len(ids), n_ctx, n_pass, seed)[i]
        text = ids[start : start + n_ctx + 1]
        windows.append(repeated_span(n_ctx + 1, n_vocab, rng) if rng.random() < settings["repeats"] else text)
    return np.stack(windows)


@lru_cache(maxsize=2)
def starts(n_ids, n_ctx, n_pass, seed):  # -> [n_ids // n_ctx - 1]
    """Where windows begin: each pass cuts the text in different places, and shuffles the parts."""
    rng = np.random.default_rng([seed, n_pass])
    return rng.integers(n_ctx) + n_ctx * rng.permutation(n_ids // n_ctx - 1)


def repeated_span(n, n_vocab, rng):  # -> [n]
    """A span of random tokens, repeated so that it occurs two to sixteen times.

    Only the first occurrence predicts the others. So these windows teach a model to look back at what came
    next the last time (induction), which a small model learns late from stories alone.
    """
    return np.resize(rng.integers(n_vocab - 1, size=n // rng.integers(2, 17)), n)


# ---- training ----------------------------------------------------------------------------------------------


def by_optimizer(arrays):  # -> two of {name: array}
    """The matrices in the blocks, for Muon, and the rest, for AdamW.

    In a trial of 2.5 million tokens the two reached 1.52 bits per byte, AdamW alone 1.67.
    """
    matrices = {name: array for name, array in arrays.items() if name.startswith("h") and array.ndim == 2}
    return matrices, {name: array for name, array in arrays.items() if name not in matrices}


def new_memory(arrays):  # -> {name: array}
    """What both optimizers remember, before the first step."""
    matrices, others = by_optimizer(arrays)
    return muon_memory(matrices) | adamw_memory(others)


def learn(arrays, gradients, memory, step, n_steps, pool):
    """A step of both optimizers, which changes arrays and memory in place. pool: threads, for Muon's part."""
    matrices, others = by_optimizer(gradients)
    share = warmup_and_decay(step, n_steps)

    def learn_matrix(name):
        muon(arrays, {name: matrices[name]}, memory, learning_rate=6e-3 * share, weight_decay=0.1)

    list(pool.map(learn_matrix, matrices))  # a list, so that it waits for them, and raises what they raise
    adamw(arrays, others, memory, step + 1, learning_rate=3e-3 * share, betas=(0.9, 0.95), weight_decay=0)


def train(ids, folder, hparams, settings, n_steps, measure):
    """Take the remaining steps up to n_steps; every SAVE_EVERY of them, save, and print measure(params).

    ids: [n_tokens]; measure: params -> str. Raises what `resume.load` raises.
    """
    params = random_params(hparams, np.random.default_rng(settings["seed"]))
    arrays = leaves(params)  # the arrays of params themselves
    memory = new_memory(arrays)
    path, begun_with = folder / STATE, settings | {"text": resume.digest(ids)}
    n_taken = resume.restore(path, begun_with, arrays | memory) if path.exists() else 0

    def save(step):
        resume.save(path, begun_with, step, arrays | memory)
        saved = {name: arrays[name].astype(np.float16) for name in shapes(hparams)}
        write_checkpoint(folder / "model.ckpt", in_openai_layout(saved))
        print(f"{step} steps: {measure(to_params(saved, hparams, folder))}", flush=True)

    save(n_taken)  # if saving fails, let it fail now, not after an hour
    bar = tqdm(range(n_taken, n_steps), "training", n_steps, initial=n_taken, disable=None)
    with all_cores(settings["n_windows"]) as loss_and_gradients, ThreadPoolExecutor(usable_cores()) as pool:
        for step in bar:
            windows = batch(ids, step, hparams["n_vocab"], settings)
            inputs, targets = windows[:, :-1], windows[:, 1:]
            surprise, gradients = loss_and_gradients(inputs, targets, params, hparams["n_head"])
            bar.set_postfix_str(f"{surprise:.2f} nats a token")
            learn(arrays, gradients, memory, step, n_steps, pool)
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == n_steps:
                save(step + 1)


# ---- the command -------------------------------------------------------------------------------------------


def command(
    text: str = "",
    folder: str = "",
    *,
    held_out: str = None,
    n_vocab: int = TINY["n_vocab"],
    n_ctx: int = TINY["n_ctx"],
    n_embd: int = TINY["n_embd"],
    n_head: int = TINY["n_head"],
    n_layer: int = TINY["n_layer"],
    n_steps: int = 11_000,
    n_windows: int = 16,
    repeats: float = 0.02,
    seed: int = 0,
):
    """Learn a vocabulary, or take that of an unfinished model; then train."""
    if not text or not folder:
        raise ValueError("give a text and a folder: python -m training.train TEXT FOLDER (see --help)")
    folder = Path(folder)
    hparams = {"n_vocab": n_vocab, "n_ctx": n_ctx, "n_embd": n_embd, "n_head": n_head, "n_layer": n_layer}
    settings = hparams | {"n_windows": n_windows, "repeats": repeats, "seed": seed}  # fixed for a whole run
    check(hparams, settings | {"n_steps": n_steps}, folder)
    texts = read_documents(text)
    unseen = read_documents(held_out) if held_out else []
    begun = (folder / STATE).exists()
    encoder = vocabulary_of(folder, hparams) if begun else learn_vocabulary(texts, n_vocab)
    hparams["n_vocab"] = len(encoder.encoder)  # fewer, if the text is short
    ids = to_ids(texts, encoder)
    if len(ids) < 3 * n_ctx:
        raise ValueError(f"{text} is too short: {len(ids)} tokens, but 3 n_ctx, {3 * n_ctx}, are needed")
    report_passes(len(texts), len(ids), n_steps, n_windows * n_ctx)
    if not begun:
        begin(folder, encoder, hparams, ids)

    def measure(params):
        surprise = partial(nats, params=params, n_head=n_head)
        return f"{bits_per_byte(unseen, encoder, surprise):.3f} bits per byte" if unseen else "saved"

    train(ids, folder, hparams, settings, n_steps, measure)


def vocabulary_of(folder, hparams):  # -> Encoder
    """The vocabulary of an unfinished model. Raises ValueError if its hparams.json has other sizes."""
    encoder, found, _ = open_model(folder, models_dir="")
    if found != hparams | {"n_vocab": len(encoder.encoder)}:
        raise ValueError(f"{folder / 'hparams.json'} has {found}: give the same options, or a new folder")
    return encoder


def report_passes(n_texts, n_ids, n_steps, n_ids_a_step):
    """Print how often a run goes through its text, and advise against too often."""
    n_passes = n_steps * n_ids_a_step / n_ids
    print(f"{n_texts:,} documents, {n_ids:,} tokens; {n_passes:.1f} passes over them", flush=True)
    if n_passes > 15:
        advice = f"--n_steps {round(n_steps * 10 / n_passes)} makes ten passes"
        print(f"in this many passes a model memorises its text: {advice}")


def begin(folder, encoder, hparams, ids):
    """Write all of a new model except its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder, encoder)
    write_counts(ids, hparams["n_vocab"], folder / "counts.npz")
    (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")


def check(hparams, options, folder):
    """Raise ValueError for a number out of range, and for a folder that holds something else.

    Raises ModelError for the state of an older version.
    """
    check_hparams(hparams)
    for name, (least, most) in LIMITS.items():
        if not least <= options[name] <= most:
            raise ValueError(f"{name} is {options[name]}: it must be from {least} to {most}")
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if OLD_STATE in found and STATE not in found:
        problem = "the state of a run of an older version, which cannot continue"
        raise ModelError(folder / OLD_STATE, problem, resume.START_AGAIN)
    foreign = found - BEFORE_STATE
    if foreign and STATE not in found:
        raise ValueError(f"{folder} holds {min(foreign)}: give an empty folder, or a new one")
