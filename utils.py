"""From a model's name to its files, downloaded once, and from the files to encoder, hparams and params."""

import json
import os
import re
from pathlib import Path

from checkpoint import LARGEST, MIXED_UP, ModelError, check_hparams, read_checkpoint, to_params
from download import download_file
from encoder import get_encoder

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"  # OpenAI's public storage
RELEASED = ("124M", "355M", "774M", "1558M")
DATA = "model.ckpt.data-00000-of-00001"
FILES = ("hparams.json", "encoder.json", "vocab.bpe", "model.ckpt.index", DATA)  # a model; small files first
SHORT_NAMES = {  # of the time when names on the Hugging Face hub had no owner
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
RENAMED = {"117M": "124M", "345M": "355M", "762M": "774M", "1542M": "1558M"}  # by OpenAI, in 2019
KNOWN = {  # bytes and SHA-256, as far as they are known
    "encoder.json": (1_042_301, "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
    "vocab.bpe": (456_318, "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
    "124M/hparams.json": (90, "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318"),
    "124M/model.ckpt.index": (5_215, "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687"),
    f"124M/{DATA}": (497_759_232, "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118"),
    "355M/hparams.json": (91, None),
    "355M/model.ckpt.index": (10_399, None),
    f"355M/{DATA}": (1_419_292_672, None),
    f"774M/{DATA}": (3_096_120_320, None),
    f"1558M/{DATA}": (6_230_444_800, None),
}


def load_encoder_hparams_and_params(model_size, models_dir):  # -> Encoder, hparams, params
    """A model, ready for `gpt2.generate`; `find_model` lists the models.

    params are float32 arrays, mapped copy-on-write: edit them freely, the file does not change. Raises
    ValueError for an unknown name, ModelError for files that cannot be got or used.
    """
    encoder, hparams = load_encoder_and_hparams(model_size, models_dir)
    return encoder, hparams, load_params(model_size, models_dir)


def load_encoder_and_hparams(model_size, models_dir):  # -> Encoder, hparams
    """Load what it takes to check a prompt, before any weight is downloaded or read."""
    encoder, hparams = get_encoder(model_size, models_dir), load_hparams(model_size, models_dir)
    n_tokens, n_vocab = len(encoder.encoder), hparams["n_vocab"]
    if n_tokens != n_vocab:
        folder = find_model(model_size, models_dir)
        found = f"{n_tokens} tokens in encoder.json, n_vocab {n_vocab} in hparams.json"
        raise ModelError(f"{folder}: {found}: {MIXED_UP}")
    return encoder, hparams


def load_hparams(model_size, models_dir):  # -> {"n_vocab": 50257, "n_ctx": 1024, ...}
    """The sizes of a model, from its hparams.json. Raises ModelError for what cannot be a GPT-2."""
    if extra := huggingface(model_size):
        return extra.load_hparams(model_size)
    path = model_file(model_size, models_dir, "hparams.json")
    hparams = read_json(path)
    try:
        check_hparams(hparams)
    except ValueError as error:
        raise ModelError(f"{path}: {error}; delete it and get it again") from None
    return {name: hparams[name] for name in LARGEST}


def read_json(path):  # -> dict
    """The object in a JSON file. Raises ModelError for another value, and for one that gives a name twice."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}; delete it and get it again") from None
    if not isinstance(value, dict):
        raise ModelError(
            f"{path}: expected names and values in {{}}, not {value!r:.50}; delete it and get it again"
        )
    return value


def unique(pairs):  # -> dict
    """A JSON object, unless it gives a name twice: which one counts would be a guess."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{max(names, key=names.count)} is given twice")
    return dict(pairs)


def load_params(model_size, models_dir):  # -> params
    """The weights of a model, checked against its hparams.json."""
    if extra := huggingface(model_size):
        return extra.load_params(model_size)
    hparams = load_hparams(model_size, models_dir)
    model_file(model_size, models_dir, "model.ckpt.index")
    data = model_file(model_size, models_dir, DATA)
    return load_gpt2_params_from_tf_ckpt(data.with_name("model.ckpt"), hparams)


def load_gpt2_params_from_tf_ckpt(tf_ckpt_path, hparams):  # "models/124M/model.ckpt" -> params
    """The weights in a TensorFlow checkpoint, checked, and nested as `gpt2.gpt2` takes them.

    What training leaves there is passed over: all that is not under model/, and optimizer slots, which lie
    under the name of a variable and have its shape (model/wte/Adam). Raises ModelError for anything else.
    """
    variables, arrays = read_checkpoint(tf_ckpt_path), {}
    for name, array in variables.items():
        owner = variables.get(name.rpartition("/")[0])
        if not name.startswith("model/") or (owner is not None and owner.shape == array.shape):
            continue
        if name.endswith("/w") and array.ndim == 3 and len(array) == 1:
            array = array[0]  # OpenAI's matrices are convolutions of width one
        arrays[name.removeprefix("model/")] = array
    return to_params(arrays, hparams, tf_ckpt_path)


def find_model(model_size, models_dir):  # -> Path
    """The folder of a model. model_size is one of

    - "tiny": the small model included here, wherever the program is started;
    - "124M", "355M", "774M", "1558M": OpenAI's, downloaded once into models_dir, then read in place;
    - a folder that exists, with a model in the layout of OpenAI's release.

    Raises ValueError for anything else. Models of Hugging Face are found by `huggingface`.
    """
    if model_size == "tiny":
        return Path(__file__).resolve().parent / "models" / "tiny"
    if model_size in RELEASED:
        return Path(models_dir) / model_size
    if os.path.isdir(model_size):
        return Path(model_size)
    if model_size in RENAMED:
        raise ValueError(f"model_size is {model_size!r}: OpenAI has renamed it {RENAMED[model_size]}")
    if os.path.isfile(model_size):
        raise ValueError(f"{model_size} is a file, a model is a folder; {convert_advice(model_size)}")
    names = f"tiny, {', '.join(RELEASED)}, a model's folder, or gpt2 or owner/name on the Hugging Face hub"
    raise ValueError(f"model_size is {model_size!r}, not {names}")


def huggingface(model_size):  # -> module, or None
    """extras.huggingface, if this is a model in that layout: a folder with config.json, or a name on the hub.

    A name is "owner/name" or one of its old short names, such as "gpt2-xl"; "@revision" may follow.
    """
    if os.path.isdir(model_size):
        found = set(os.listdir(model_size))
        wanted = bool(found & {"config.json", "model.safetensors"})
        if wanted and "hparams.json" in found:
            advice = "OpenAI's layout and Hugging Face's: give each a folder of its own"
            raise ModelError(f"{model_size} has hparams.json and config.json, {advice}")
    else:
        name = str(model_size).partition("@")[0]
        wanted = name in SHORT_NAMES or re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None
        wanted = wanted and not os.path.isfile(model_size)
    if wanted:
        from extras import huggingface

        return huggingface


def model_file(model_size, models_dir, name):  # -> Path
    """The path of one file of a model, downloaded if it is one of OpenAI's and not there yet."""
    path = find_model(model_size, models_dir) / name
    if model_size in RELEASED:
        download_gpt2_files(model_size, path.parent, [name])
    elif not path.is_file():
        pickles = sorted(file for file in path.parent.iterdir() if file.suffix in (".pt", ".pth", ".bin"))
        advice = f"; {convert_advice(pickles[0])}" if pickles else ""
        raise ModelError(f"{path} is missing: a model is a folder with {', '.join(FILES)}{advice}")
    return path


def convert_advice(path):  # -> str
    """What to do with a checkpoint of PyTorch's."""
    return f"python -m extras.convert {path} OUT_FOLDER makes a model of a checkpoint of PyTorch's"


def download_gpt2_files(model_size, model_dir, names=None):
    """Download what is missing of one of OpenAI's models into model_dir, all of it or only the files named.

    A file that is there is never touched or judged: it may be a fine-tune. Raises as `download_file` does.
    """
    if model_size not in RELEASED:
        raise ValueError(f"model_size is {model_size!r}: OpenAI's models are {', '.join(RELEASED)}")
    for name in names or FILES:
        path = Path(model_dir) / name
        if not path.exists():
            n_bytes, sha256 = KNOWN.get(f"{model_size}/{name}") or KNOWN.get(name, (None, None))
            try:
                download_file(f"{BASE_URL}/{model_size}/{name}", path, n_bytes, sha256)
            except ModelError as error:
                raise ModelError(f"{error}; --model_size tiny needs no network") from None
            except OSError as error:
                advice = f"{error.strerror or error}; --models_dir names another folder"
                raise OSError(error.errno, advice, error.filename) from None
