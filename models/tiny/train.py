"""Train a small GPT-2 on a text: the program that made the model in this folder, and can make yours.

    pip install -r requirements.txt -r models/tiny/requirements.txt
    python models/tiny/train.py stories.txt my-model
    python gpt2.py "The little fox" --model_size my-model

The text is UTF-8; a line <|endoftext|> ends a document. Ctrl-C stops; the same command goes on from the last
save, at most 250 steps back. The folder is a model from the first minute on: try it while it is trained.
training.pt in it is only needed to go on; delete it when all is done.

The model is that of gpt2.py, written once more for PyTorch, which derives the gradients.
"""

import argparse
import json
import os
import pickle
import sys
from collections import Counter
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the program's own modules
try:
    import torch
    import torch.nn.functional as F
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tqdm import tqdm
except ImportError as error:
    raise SystemExit(f"train.py: {error}: pip install -r models/tiny/requirements.txt") from None

from checkpoint import PRESETS, ModelError, flatten, nest, random_params, shapes, to_params
from cli import explain
from encoder import Encoder, vocabulary
from extras.scoring import bits_per_byte, document_ids, nats, read_documents
from utils import load_encoder_and_hparams

TINY = PRESETS["tiny"]
SIZES = ("n_ctx", "n_embd", "n_head", "n_layer")
STATE = "training.pt"
BEGINNING = {"hparams.json", "encoder.json", "vocab.bpe", "counts.npz", "training.part"}  # written before it
SAVE_EVERY = 250  # steps
OPTIONS = {  # name: default, least, most, meaning
    "n_vocab": (TINY["n_vocab"], 257, 65536, "tokens in the vocabulary"),
    "n_ctx": (TINY["n_ctx"], 16, 10**5, "most tokens the model sees"),
    "n_embd": (TINY["n_embd"], 1, 10**5, "numbers that stand for a token"),
    "n_head": (TINY["n_head"], 1, 1000, "heads in a layer"),
    "n_layer": (TINY["n_layer"], 1, 1000, "blocks"),
    "n_steps": (11_000, 1, 10**9, "steps of training"),
    "n_windows": (16, 1, 10**6, "windows of n_ctx tokens in a step"),
    "repeats": (0.02, 0, 1, "share of windows that hold a span of random tokens again and again"),
    "seed": (0, 0, 2**32, "another one, another model of the same kind"),
}

# ---- from a text to ids ------------------------------------------------------------------------------------


def learn_vocabulary(texts, n_vocab):  # -> Encoder
    """Byte-pair encoding as in GPT-2: up to n_vocab tokens, merge the most frequent pair of neighbours."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level
    alphabet = byte_level.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=n_vocab - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    merges = {}
    for a, b in json.loads(tokenizer.to_str())["model"]["merges"]:
        merges.setdefault(a + b, (a, b))  # another pair that makes the same token is left out
    return Encoder(vocabulary(merges.values()), merges.values())


def write_vocabulary(encoder, folder):
    """Write encoder.json and vocab.bpe in OpenAI's form."""
    merges = "".join(f"{a} {b}\n" for a, b in encoder.bpe_ranks)
    (folder / "encoder.json").write_text(json.dumps(encoder.encoder), encoding="utf-8")
    (folder / "vocab.bpe").write_text(f"#version: 0.2\n{merges}", encoding="utf-8", newline="\n")


def to_ids(texts, encoder):  # -> [n_tokens]
    """All documents end to end, each behind an <|endoftext|>."""
    ids = []
    for text in tqdm(texts, "tokens", disable=None):
        ids += document_ids(text, encoder)
    return np.array(ids)


def write_counts(ids, n_vocab, path, n_bigrams=200_000):
    """Write how often each token, and each of the most frequent pairs, occurs: what a bigram model knows."""
    pairs = Counter(pairwise(ids.tolist())).most_common(n_bigrams)
    bigrams = np.array([pair for pair, _ in pairs], dtype=np.uint16)
    counts = np.array([count for _, count in pairs], dtype=np.uint32)
    order = np.lexsort(bigrams.T[::-1])  # by first token, then second: compresses better
    unigrams = np.bincount(ids, minlength=n_vocab).astype(np.uint32)
    np.savez_compressed(path, unigrams=unigrams, bigrams=bigrams[order], bigram_counts=counts[order])


def batch(ids, step, n_vocab, n_ctx, options):  # -> [n_windows, n_ctx + 1]
    """The windows of a step, the same whenever it is asked for, so that a stopped run goes on as it was.

    A share of them, options.repeats, holds a span of random tokens instead of text, again and again.
    """
    rng = np.random.default_rng([options.seed, step])
    windows = []
    for n in range(step * options.n_windows, (step + 1) * options.n_windows):
        n_pass, i = divmod(n, len(ids) // n_ctx - 1)
        start = starts(len(ids), n_ctx, n_pass, options.seed)[i]
        text = ids[start : start + n_ctx + 1]
        windows.append(repeated_span(n_ctx + 1, n_vocab, rng) if rng.random() < options.repeats else text)
    return torch.from_numpy(np.stack(windows))


@lru_cache(maxsize=2)
def starts(n_ids, n_ctx, n_pass, seed):  # -> [n_ids // n_ctx - 1]
    """Where windows begin: every pass cuts the text in other places, and takes the parts in another order."""
    rng = np.random.default_rng([seed, n_pass])
    return rng.integers(n_ctx) + n_ctx * rng.permutation(n_ids // n_ctx - 1)


def repeated_span(n, n_vocab, rng):  # -> [n]
    """Random tokens, then the same again: two to sixteen times.

    Nothing but the first time tells the others, so they teach to look back for what came next the last time
    (induction), which stories alone teach a small model late.
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
    """What is learned, as tensors: queries, keys and values apart, since Muon would mix them as one."""
    leaves = {}
    for name, array in params.items():
        if name.endswith("c_attn/w"):
            leaves |= {f"{name}/{part}": a for part, a in zip("qkv", np.split(array, 3, axis=1))}
        else:
            leaves[name] = array
    return {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in leaves.items()}


def to_arrays(leaves, hparams):  # -> {"h0/attn/c_attn/w": float16 array, ...}
    """`to_leaves` undone, in the precision in which the model is kept."""
    arrays = {name: leaf.detach().numpy() for name, leaf in leaves.items()}
    for name in shapes(hparams):
        if name.endswith("c_attn/w"):
            arrays[name] = np.concatenate([arrays.pop(f"{name}/{part}") for part in "qkv"], axis=1)
    return {name: arrays[name].astype(np.float16) for name in shapes(hparams)}


def make_optimizers(leaves):
    """Muon for the matrices in the blocks, AdamW for the rest.

    In a trial of 2.5 million tokens the two came to 1.52 bits per byte, AdamW alone to 1.67. Muon makes the
    update of a matrix orthogonal, so that no direction dwarfs the others (Jordan et al. 2024, "Muon: An
    optimizer for hidden layers in neural networks"); scaled as in Liu et al. 2025, "Muon is Scalable for LLM
    Training", its learning rate is of the size of AdamW's.
    """
    matrices = {name: leaf for name, leaf in leaves.items() if name.startswith("h") and leaf.ndim == 2}
    others = [leaf for name, leaf in leaves.items() if name not in matrices]
    return [
        torch.optim.Muon(matrices.values(), lr=6e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0, fused=True),
    ]


def learning_rate(step, n_steps):  # -> share of the full rate
    """Up over the first hundred steps, level for a third of all, then down to zero in a straight line."""
    return min(1, (step + 1) / min(100, n_steps / 10), (n_steps - step) / (n_steps * 2 / 3))


def save_checkpoint(prefix, arrays):
    """Write {name: array} with the Saver of TensorFlow 1, by OpenAI's names and in their shapes."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}  # else it chats
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in arrays.items():
            array = array[None] if name.endswith("/w") else array  # matrices were convolutions of width one
            tf.compat.v1.Variable(array, name=f"model/{name}")
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        saver.save(session, str(prefix), write_meta_graph=False, write_state=False)


def train(ids, hparams, options, measure):
    """Take the steps up to options.n_steps that are left; now and then save and print measure(params)."""
    folder, n_head = options.folder, hparams["n_head"]
    leaves = to_leaves(flatten(random_params(hparams, np.random.default_rng(options.seed))))
    optimizers = make_optimizers(leaves)
    begin = load_state(folder / STATE, options, leaves, optimizers) if (folder / STATE).exists() else 0
    loss_of = torch.compile(loss) if options.compile else loss

    def save(n_steps):
        save_state(folder / STATE, options, n_steps, leaves, optimizers)
        arrays = to_arrays(leaves, hparams)
        save_checkpoint(folder / "model.ckpt", arrays)
        print(f"{n_steps} steps: {measure(to_params(arrays, hparams, folder))}", flush=True)

    save(begin)  # what would fail fails now, not after an hour
    bar = tqdm(range(begin, options.n_steps), "training", options.n_steps, initial=begin, disable=None)
    for step in bar:
        windows = batch(ids, step, hparams["n_vocab"], hparams["n_ctx"], options)
        with torch.autocast("cpu", torch.bfloat16):
            surprise = loss_of(nest(leaves), windows, n_head)
        surprise.backward()
        bar.set_postfix_str(f"{surprise.item():.2f} nats a token")
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * learning_rate(step, options.n_steps)
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == options.n_steps:
            save(step + 1)


def what_stays(options):
    """The options that a run keeps to its end; n_steps may change."""
    return {name: getattr(options, name) for name in OPTIONS if name != "n_steps"}


def save_state(path, options, n_steps, leaves, optimizers):
    """Write all that it takes to go on; the file gets its name when it is complete."""
    state = {"options": what_stays(options), "n_steps": n_steps, "leaves": leaves}
    state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def load_state(path, options, leaves, optimizers):  # -> steps taken
    """Bring leaves and optimizers into the state that `save_state` wrote."""
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, LookupError, pickle.UnpicklingError):
        raise ModelError(f"{path} is damaged: delete its folder and begin anew") from None
    if state["options"] != what_stays(options):
        raise ValueError(f"{path.parent} was begun with {state['options']}: give the same, or another folder")
    for name, leaf in leaves.items():
        leaf.data.copy_(state["leaves"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(saved)
    return state["n_steps"]


# ---- the command -------------------------------------------------------------------------------------------


def run(options):
    """Learn a vocabulary, or take that of a model that was begun; then train."""
    check(options)
    folder, n_ctx = options.folder, options.n_ctx
    texts = read_documents(options.text)
    unseen = read_documents(options.held_out) if options.held_out else []
    begun = (folder / STATE).exists()
    if begun:
        encoder, hparams = load_encoder_and_hparams(folder, models_dir=None)
    else:
        encoder = learn_vocabulary(texts, options.n_vocab)
        hparams = {"n_vocab": len(encoder.encoder)} | {name: getattr(options, name) for name in SIZES}
    ids = to_ids(texts, encoder)
    if len(ids) < 3 * n_ctx:
        raise ValueError(f"{options.text} is too short: {len(ids)} tokens, it takes 3 n_ctx, {3 * n_ctx}")
    n_passes = options.n_steps * options.n_windows * n_ctx / len(ids)
    print(f"{len(texts):,} documents, {len(ids):,} tokens; {n_passes:.1f} passes over them", flush=True)
    if n_passes > 15:
        advice = f"--n_steps {round(options.n_steps * 10 / n_passes)} makes ten passes"
        print(f"so often, a model learns a text by heart: {advice}")
    if not begun:
        folder.mkdir(parents=True, exist_ok=True)
        write_vocabulary(encoder, folder)
        write_counts(ids, len(encoder.encoder), folder / "counts.npz")
        (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")

    def measure(params):
        surprise = partial(nats, params=params, n_head=hparams["n_head"])
        return f"{bits_per_byte(unseen, encoder, surprise):.3f} bits per byte" if unseen else "saved"

    train(ids, hparams, options, measure)


def check(options):
    """Raise ValueError for numbers that make no model, and for a folder with something else in it."""
    for name, (_, least, most, _) in OPTIONS.items():
        value = getattr(options, name)
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}, it may be {least} to {most}")
    if options.n_embd % options.n_head != 0:
        raise ValueError(f"n_embd {options.n_embd} is not a multiple of n_head {options.n_head}")
    if find_spec("tensorflow") is None:
        raise ValueError("no TensorFlow, which writes models: pip install -r models/tiny/requirements.txt")
    found = {path.name for path in options.folder.iterdir()} if options.folder.exists() else set()
    foreign = found - BEGINNING
    if STATE not in found and foreign:
        raise ValueError(f"{options.folder} holds {min(foreign)}: name an empty folder, or a new one")


def main(argv=None):
    """The command. An error is one line: exit status 2 for a wrong use, 1 for a file, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description="Train a small GPT-2 on a text.", allow_abbrev=False)
    add = parser.add_argument
    add("text", metavar="TEXT", type=Path, help="a UTF-8 file; a line <|endoftext|> ends a document")
    add("folder", metavar="FOLDER", type=Path, help="where the model goes; one that was begun goes on")
    add("--held_out", metavar="FILE", type=Path, help="another text, measured at every save; 100 kB will do")
    for name, (default, _, _, meaning) in OPTIONS.items():
        add(f"--{name}", metavar="N", type=type(default), default=default, help=f"{meaning} ({default})")
    add("--compile", action="store_true", help="faster, after a minute; needs a C++ compiler")
    options = parser.parse_args(argv)
    try:
        run(options)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (ValueError, OSError) as error:
        status, line = explain(error)
        print(f"train.py: {line}", file=sys.stderr)
        raise SystemExit(status) from None


if __name__ == "__main__":
    main()
