"""Train a small GPT-2 on a text: the program that made the model in this folder, and can make yours.

    pip install -r requirements.txt -r models/tiny/requirements.txt
    python models/tiny/train.py stories.txt my-model
    python gpt2.py "The little fox" --model_size my-model

The text is UTF-8; a line <|endoftext|> ends a document. Ctrl-C stops, the same command goes on where the
folder was last saved. The folder is a model from the first minute on: try it while it is trained.

The model is that of gpt2.py, written once more for PyTorch, which derives the gradients. Half of the time
goes into matrix products in bfloat16; --compile makes the other half faster.
"""

import argparse
import json
import math
import os
import sys
from collections import Counter
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the program's own modules

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tqdm import tqdm

from checkpoint import flatten, nest, random_params, shapes, to_params
from encoder import Encoder, vocabulary
from models.tiny.measure import bits_per_byte, document_ids, nats, read_documents
from utils import load_encoder_and_hparams

SIZES = ("n_ctx", "n_embd", "n_head", "n_layer")
SAVE_EVERY = 250  # steps
OPTIONS = {  # name: default, least, most, meaning
    "n_vocab": (4000, 257, 65536, "tokens in the vocabulary"),
    "n_ctx": (256, 16, 10**5, "most tokens the model sees"),
    "n_embd": (192, 1, 10**5, "numbers that stand for a token"),
    "n_head": (6, 1, 1000, "heads in a layer"),
    "n_layer": (6, 1, 1000, "blocks"),
    "n_steps": (11_000, 1, 10**9, "steps of training"),
    "n_windows": (16, 1, 10**6, "windows of n_ctx tokens in a step"),
    "repeats": (0.02, 0, 1, "share of windows that hold a span of random tokens again and again"),
    "seed": (0, 0, 2**32, "another one, another model of the same kind"),
}

# ---- from a text to ids ------------------------------------------------------------------------------------


def learn_vocabulary(texts, n_vocab):  # -> Encoder
    """Byte-pair encoding as in GPT-2: n_vocab - 257 times, merge the most frequent pair of neighbours."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level
    trainer = trainers.BpeTrainer(vocab_size=n_vocab - 1, initial_alphabet=byte_level.alphabet())
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
        n_pass, n = divmod(n, len(ids) // n_ctx - 1)
        start = starts(len(ids), n_ctx, n_pass, options.seed)[n]
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


def gelu(x):  # the tanh form: (1 + tanh(y)) / 2 is sigmoid(2 y), which is faster here
    return x * torch.sigmoid((8 / math.pi) ** 0.5 * (x + 0.044715 * x * x * x))


def layer_norm(x, g, b):
    return F.layer_norm(x, g.shape, g, b)


def ffn(x, c_fc, c_proj):
    return linear(gelu(linear(x, **c_fc)), **c_proj)


def mha(x, c_attn, c_proj, n_head, mask):
    q, k, v = (linear(x, w, b) for w, b in zip(c_attn["w"].values(), c_attn["b"].chunk(3)))
    q, k, v = (part.unflatten(-1, (n_head, -1)).transpose(-2, -3) for part in (q, k, v))
    weights = torch.softmax(q / q.shape[-1] ** 0.5 @ k.transpose(-1, -2) + mask, dim=-1)
    return linear((weights.to(v.dtype) @ v).transpose(-2, -3).flatten(-2), **c_proj)


def loss(params, windows, n_head):  # [n_windows, n_ctx + 1] -> nats a token
    """Cross-entropy of every next token, averaged."""
    inputs, targets = windows[:, :-1], windows[:, 1:]
    n_seq = inputs.shape[1]
    mask = torch.full((n_seq, n_seq), -1e9).triu(1)
    x = F.embedding(inputs, params["wte"]) + params["wpe"][:n_seq]
    for block in params["blocks"]:
        x = x + mha(layer_norm(x, **block["ln_1"]), **block["attn"], n_head=n_head, mask=mask)
        x = x + ffn(layer_norm(x, **block["ln_2"]), **block["mlp"])
    logits = layer_norm(x, **params["ln_f"]) @ params["wte"].T
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


# ---- training ----------------------------------------------------------------------------------------------


def to_leaves(params):  # {"h0/attn/c_attn/w": array, ...} -> {"h0/attn/c_attn/w/q": tensor, ...}
    """What the optimizers see: each array a tensor, and queries, keys and values three matrices, not one."""
    leaves = {}
    for name, array in params.items():
        if name.endswith("c_attn/w"):
            leaves |= {f"{name}/{part}": a for part, a in zip("qkv", np.split(array, 3, axis=1))}
        else:
            leaves[name] = array
    return {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in leaves.items()}


def to_arrays(leaves, hparams):  # -> {"h0/attn/c_attn/w": float16 array, ...}
    """`to_leaves` undone, in the precision in which the model is kept."""
    arrays = {name: leaf.detach().cpu().numpy() for name, leaf in leaves.items()}
    for name in shapes(hparams):
        if name.endswith("c_attn/w"):
            arrays[name] = np.concatenate([arrays.pop(f"{name}/{part}") for part in "qkv"], axis=1)
    return {name: arrays[name].astype(np.float16) for name in shapes(hparams)}


def make_optimizers(leaves):
    """Muon for the matrices in the blocks, AdamW for the rest: far fewer tokens to the same loss than AdamW.

    Muon makes the update of a matrix orthogonal, so that no direction dwarfs the others (Jordan et al. 2024,
    "Muon: An optimizer for hidden layers in neural networks"); scaled as in Liu et al. 2025, "Muon is
    Scalable for LLM Training", its learning rate is of the size of AdamW's.
    """
    matrices = {name: leaf for name, leaf in leaves.items() if name.startswith("h") and leaf.ndim == 2}
    others = [leaf for name, leaf in leaves.items() if name not in matrices]
    return [
        torch.optim.Muon(matrices.values(), lr=6e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0, fused=True),
    ]


def learning_rate(step, n_steps):  # -> share of the full rate
    """Up over the first steps, level, and down to zero over the second half."""
    return min(1, (step + 1) / 100, (n_steps - step) / (n_steps / 2))


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


def train(ids, hparams, folder, options, measure):
    """Take the steps up to options.n_steps that are left; now and then save and print measure(params)."""
    leaves = to_leaves(flatten(random_params(hparams, np.random.default_rng(options.seed))))
    optimizers, state_path = make_optimizers(leaves), folder / "training.pt"
    begin = load_state(state_path, leaves, optimizers) if state_path.exists() else 0
    loss_of = torch.compile(loss) if options.compile else loss

    def save(n_steps):
        arrays = to_arrays(leaves, hparams)
        save_checkpoint(folder / "model.ckpt", arrays)
        save_state(state_path, n_steps, leaves, optimizers)
        print(f"{n_steps} steps:", measure(to_params(arrays, hparams, folder)), flush=True)

    save(begin)  # what would fail fails now, not after an hour
    bar = tqdm(range(begin, options.n_steps), "training", options.n_steps, initial=begin, disable=None)
    for step in bar:
        windows = batch(ids, step, hparams["n_vocab"], hparams["n_ctx"], options)
        with torch.autocast("cpu", torch.bfloat16):
            nats = loss_of(nest(leaves), windows, hparams["n_head"])
        nats.backward()
        bar.set_postfix_str(f"{nats.item():.2f} nats a token")
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * learning_rate(step, options.n_steps)
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == options.n_steps:
            save(step + 1)


def save_state(path, n_steps, leaves, optimizers):
    """Write all that it takes to go on; the file gets its name when it is complete."""
    state = {"n_steps": n_steps, "leaves": leaves, "optimizers": [each.state_dict() for each in optimizers]}
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def load_state(path, leaves, optimizers):  # -> steps taken
    """Bring leaves and optimizers into the state that `save_state` wrote."""
    state = torch.load(path, weights_only=True)
    for name, leaf in leaves.items():
        leaf.data.copy_(state["leaves"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(saved)
    return state["n_steps"]


def run(options):
    """Learn a vocabulary, or take that of a model that was begun; then train."""
    check(options)
    folder, n_ctx = options.folder, options.n_ctx
    texts = read_documents(options.text)
    unseen = read_documents(options.held_out) if options.held_out else []
    sizes = {name: getattr(options, name) for name in SIZES}
    begun = (folder / "training.pt").exists()
    if begun:
        encoder, hparams = load_encoder_and_hparams(folder, models_dir=None)
        if sizes.items() - hparams.items():
            raise ValueError(f"{folder} was begun with {hparams}: give the same, or another folder")
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and no training that could go on: name another folder")
    else:
        encoder = learn_vocabulary(texts, options.n_vocab)
        hparams = {"n_vocab": len(encoder.encoder)} | sizes
    ids = to_ids(texts, encoder)
    if len(ids) < 3 * n_ctx:
        raise ValueError(f"{options.text} is too short: {len(ids)} tokens, it takes 3 n_ctx, {3 * n_ctx}")
    n_tokens = options.n_steps * options.n_windows * n_ctx
    print(f"{len(ids):,} tokens of text; {n_tokens:,} to train on are {n_tokens / len(ids):.1f} passes")
    if not begun:
        folder.mkdir(parents=True, exist_ok=True)
        write_vocabulary(encoder, folder)
        write_counts(ids, len(encoder.encoder), folder / "counts.npz")
        (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")

    def measure(params):
        surprise = partial(nats, params=params, n_head=hparams["n_head"])
        return f"{bits_per_byte(unseen, encoder, surprise):.3f} bits per byte" if unseen else "saved"

    train(ids, hparams, folder, options, measure)


def check(options):
    """Raise ValueError for numbers with which nothing can be trained."""
    for name, (_, least, most, _) in OPTIONS.items():
        value = getattr(options, name)
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}, it may be {least} to {most}")
    if options.n_embd % options.n_head != 0:
        raise ValueError(f"n_embd {options.n_embd} is not a multiple of n_head {options.n_head}")


def main(argv=None):
    """The command. A wrong use is one line and exit status 2."""
    parser = argparse.ArgumentParser(description="Train a small GPT-2 on a text.")
    add = parser.add_argument
    add("text", metavar="TEXT", type=Path, help="a UTF-8 file; a line <|endoftext|> ends a document")
    add("folder", metavar="FOLDER", type=Path, help="where the model goes; one that was begun goes on")
    add("--held_out", metavar="FILE", type=Path, help="another text, to measure the model on")
    for name, (default, _, _, meaning) in OPTIONS.items():
        add(f"--{name}", metavar="N", type=type(default), default=default, help=f"{meaning} ({default})")
    add("--compile", action="store_true", help="a third faster, after a minute; needs a C++ compiler")
    options = parser.parse_args(argv)
    try:
        run(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
