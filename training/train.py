"""Train a small GPT-2 on a text: the program that made models/tiny, and can make yours.

    pip install -r training/requirements.txt
    python -m training.train stories.txt my-model
    python gpt2.py "The little fox" --model_size my-model

Ctrl-C stops; the same command, with the same text, continues from the last save, at most 250 steps back. The
folder is a model from the first minute: try it while it trains. When training is finished, delete its
training.pt.

The model is that of gpt2.py, written again in PyTorch, which computes the gradients.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("training.train", "training/requirements.txt"))

import json
from collections import Counter
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tqdm import tqdm

from checkpoint import in_openai_layout, write_checkpoint
from encoder import Encoder, vocabulary, write_encoder
from extras.scoring import bits_per_byte, document_ids, nats, read_documents
from training.state import digest, load_state, save_state
from utils import open_model
from weights import PRESETS, check_hparams, flatten, nest, random_params, shapes, to_params

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
--compile         faster, after a minute; needs a C++ compiler
"""
TINY = PRESETS["tiny"]
LIMITS = {  # name: least, most; besides those of `check_hparams`
    "n_vocab": (257, 65536),  # all bytes and <|endoftext|>; what the uint16 of counts.npz can hold
    "n_ctx": (16, 10**5),
    "n_steps": (1, 10**9),
    "n_windows": (1, 10**6),
    "repeats": (0, 1),
}
STATE = "training.pt"
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
    return torch.from_numpy(np.stack(windows))


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


# ---- the model, as in gpt2.py ------------------------------------------------------------------------------


def linear(x, w, b):
    return x @ w + b


def layer_norm(x, g, b):
    return F.layer_norm(x, g.shape, g, b)


def ffn(x, c_fc, c_proj):
    return linear(F.gelu(linear(x, **c_fc), approximate="tanh"), **c_proj)


def mha(x, c_attn, c_proj, n_head):
    q, k, v = (linear(x, w, b) for w, b in zip(c_attn["w"].values(), c_attn["b"].chunk(3)))
    q, k, v = (part.unflatten(-1, (n_head, -1)).transpose(-2, -3) for part in (q, k, v))
    x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return linear(x.transpose(-2, -3).flatten(-2), **c_proj)


def loss(params, windows, n_head):  # [n_windows, n_ctx + 1] -> nats a token
    """Cross-entropy of every next token, averaged."""
    inputs, targets = windows[:, :-1], windows[:, 1:]
    x = F.embedding(inputs, params["wte"]) + params["wpe"][: inputs.shape[1]]
    for block in params["blocks"]:
        x = x + mha(layer_norm(x, **block["ln_1"]), **block["attn"], n_head=n_head)
        x = x + ffn(layer_norm(x, **block["ln_2"]), **block["mlp"])
    logits = layer_norm(x, **params["ln_f"]) @ params["wte"].T
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


# ---- training ----------------------------------------------------------------------------------------------


def to_leaves(params):  # {"h0/attn/c_attn/w": array, ...} -> {"h0/attn/c_attn/w/q": tensor, ...}
    """The arrays as trainable tensors; queries, keys and values split, because Muon would mix them."""
    leaves = {}
    for name, array in params.items():
        if name.endswith("c_attn/w"):
            leaves |= {f"{name}/{part}": a for part, a in zip("qkv", np.split(array, 3, axis=1))}
        else:
            leaves[name] = array
    return {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in leaves.items()}


def to_arrays(leaves, hparams):  # -> {"h0/attn/c_attn/w": float16 array, ...}
    """The inverse of `to_leaves`, in the precision in which the model is saved."""
    arrays = {name: leaf.detach().numpy() for name, leaf in leaves.items()}
    for name in shapes(hparams):
        if name.endswith("c_attn/w"):
            arrays[name] = np.concatenate([arrays.pop(f"{name}/{part}") for part in "qkv"], axis=1)
    return {name: arrays[name].astype(np.float16) for name in shapes(hparams)}


def make_optimizers(leaves):
    """Muon for the matrices in the blocks, AdamW for the rest.

    In a trial of 2.5 million tokens the two reached 1.52 bits per byte, AdamW alone 1.67. Muon makes the
    update of a matrix orthogonal, so that no direction dwarfs the others (Jordan et al. 2024, "Muon: An
    optimizer for hidden layers in neural networks"). It is scaled as in Liu et al. 2025, "Muon is Scalable
    for LLM Training", which makes its learning rate comparable to AdamW's.
    """
    matrices = {name: leaf for name, leaf in leaves.items() if name.startswith("h") and leaf.ndim == 2}
    others = [leaf for name, leaf in leaves.items() if name not in matrices]
    return [
        torch.optim.Muon(matrices.values(), lr=6e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0, fused=True),
    ]


def learning_rate(step, n_steps):  # -> share of the full rate
    """Linear warm-up for 100 steps (or a tenth of the run), constant to a third of it, linear to zero."""
    return min(1, (step + 1) / min(100, n_steps / 10), (n_steps - step) / (n_steps * 2 / 3))


def train(ids, folder, hparams, settings, n_steps, loss_of, measure):
    """Take the remaining steps up to n_steps; every SAVE_EVERY of them, save and print measure(params)."""
    leaves = to_leaves(flatten(random_params(hparams, np.random.default_rng(settings["seed"]))))
    optimizers, path, begun_with = make_optimizers(leaves), folder / STATE, settings | {"text": digest(ids)}
    n_taken = load_state(path, begun_with, leaves, optimizers) if path.exists() else 0

    def save(step):
        save_state(path, begun_with, step, leaves, optimizers)
        arrays = to_arrays(leaves, hparams)
        write_checkpoint(folder / "model.ckpt", in_openai_layout(arrays))
        print(f"{step} steps: {measure(to_params(arrays, hparams, folder))}", flush=True)

    save(n_taken)  # if saving fails, let it fail now, not after an hour
    bar = tqdm(range(n_taken, n_steps), "training", n_steps, initial=n_taken, disable=None)
    for step in bar:
        windows = batch(ids, step, hparams["n_vocab"], settings)
        with torch.autocast("cpu", torch.bfloat16):
            surprise = loss_of(nest(leaves), windows, hparams["n_head"])
        surprise.backward()
        bar.set_postfix_str(f"{surprise.item():.2f} nats a token")
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * learning_rate(step, n_steps)
            optimizer.step()
            optimizer.zero_grad()
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
    compile: bool = False,
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

    train(ids, folder, hparams, settings, n_steps, torch.compile(loss) if compile else loss, measure)


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
    """Write all of a new model but its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder, encoder)
    write_counts(ids, hparams["n_vocab"], folder / "counts.npz")
    (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")


def check(hparams, options, folder):
    """Raise ValueError for a number out of range, and for a folder that holds something else."""
    check_hparams(hparams)
    for name, (least, most) in LIMITS.items():
        if not least <= options[name] <= most:
            raise ValueError(f"{name} is {options[name]}: it must be from {least} to {most}")
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    foreign = found - BEFORE_STATE
    if foreign and STATE not in found:
        raise ValueError(f"{folder} holds {min(foreign)}: give an empty folder, or a new one")
