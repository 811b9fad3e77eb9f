"""A small model in a folder and texts for it, and runs of extras/finetune.py on them."""

import json
import re

import numpy as np
from helpers import SMALL, lively_params, run, write_huggingface, write_model

import gpt2
import utils
from checkpoint import in_openai_layout
from encoder import END_OF_TEXT, bytes_to_unicode
from extras import scoring
from extras.huggingface import export
from weights import flatten

HPARAMS = SMALL | {"n_vocab": 257}  # all bytes, and <|endoftext|>
WORDS = "the a fox hen man saw met ate one red old sly and but by in of to wood hill".split()
FAST = ["--n_steps", "20", "--window", "16", "--learning_rate", "0.02"]  # 0.2 s
STATE = "training.npz"
FILES = {"adapter_config.json", "adapter_model.safetensors", STATE}


def write_vocabulary(folder, n_vocab=257, merge=None):  # -> folder
    """A vocabulary of all bytes, perhaps what one merge makes, and, unless n_vocab is 256, <|endoftext|>."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = [merge] if merge else []
    tokens = [*bytes_to_unicode().values(), *(each.replace(" ", "") for each in merges), END_OF_TEXT]
    ids = {token: i for i, token in enumerate(tokens[: n_vocab + len(merges)])}
    (folder / "encoder.json").write_text(json.dumps(ids))
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder


def save_model(folder, seed=0, std=0.2, merge=None, **sizes):  # -> folder
    """A small model in which every number counts, in OpenAI's layout."""
    hparams = HPARAMS | sizes
    params = lively_params(hparams, seed, std)
    vocabulary = write_vocabulary(folder, merge=merge)
    return write_model(folder, in_openai_layout(flatten(params)), hparams, vocabulary)


def story(n_sentences, seed=0):  # -> str
    """Sentences of a few words in any order: what is learned from some of them helps with others."""
    rng = np.random.default_rng(seed)
    return "".join(" ".join(rng.choice(WORDS, 5)).capitalize() + ".\n" for _ in range(n_sentences))


def finetune(*words):  # -> exit status
    return run([str(word) for word in words], "extras.finetune")


def state_in(folder):  # -> {name: bytes}
    """What a run saved of itself."""
    with np.load(folder / "training.npz") as found:
        return {name: found[name].tobytes() if name != "run.json" else found[name] for name in found.files}


def start(words, folder, *more):  # -> exit status
    return finetune(words[0], folder, *words[1:], *more)


def logits(model, lora=None, weights=None):
    """Of a text, by the model as --model_size and --lora read it."""
    lora = lora and str(lora)
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(model), None, lora, weights)
    return gpt2.gpt2(encoder.encode("The fox met a hen."), **params, n_head=hparams["n_head"])


def loss_of(path, model, lora=None):  # -> nats a token
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(model), None, lora and str(lora))
    return scoring.nats(scoring.document_ids(path.read_text(), encoder), params, hparams["n_head"]).mean()


def loss_of_ids(ids, model, lora=None):  # -> nats a token
    _, hparams, params = utils.load_encoder_hparams_and_params(str(model), None, lora and str(lora))
    return scoring.nats(ids, params, hparams["n_head"]).mean()


def save_beginless(folder):  # -> folder
    """A model with a vocabulary of all bytes, and nothing else."""
    hparams = HPARAMS | {"n_vocab": 256}
    tensors = export.to_tensors(hparams, lively_params(hparams, 0, std=0.2))
    write_vocabulary(folder, n_vocab=256)
    return write_huggingface(folder, tensors, hparams, folder)


def arrays_in(folder):  # -> {name: bytes}
    """The adapter, or the model, in a folder."""
    from safetensors.numpy import load_file

    path = next(folder.glob("*.safetensors"))
    return {name: array.tobytes() for name, array in load_file(path).items()}


def snapshot(place):  # -> {path: bytes}
    return {path: path.is_file() and path.read_bytes() for path in place.rglob("*")}


def assert_same_run(folder, other):
    """The same adapter, and the same state, bit for bit."""
    assert arrays_in(folder) == arrays_in(other) and state_in(folder) == state_in(other)
    config = "adapter_config.json"
    assert not (other / config).exists() or (folder / config).read_text() == (other / config).read_text()


def one_line(capsys, status, message):
    """Assert that the last line on stderr is the only one of the program, and says this."""
    out, err = capsys.readouterr()
    assert re.search(message, err), err
    assert err.startswith("extras.finetune: ") and err.count("\n") == 1 and "Traceback" not in err, err
    assert out == "" or status == 1
