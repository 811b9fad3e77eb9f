"""From a model's name to its encoder, hparams and params: find out once what the name means, then read."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from checkpoint import compare_checksums, file_paths, in_openai_layout, read_checkpoint, read_index
from download import announce_files, download_file
from encoder import get_encoder
from files import AGAIN, MIXED_UP, ROOT, ModelError, fresh_copy, read_json
from layouts import CHECKPOINT, folder_of, gguf_of, latest_checkpoint, layout_of
from names import RELEASED, check_kind_of_weights, is_hub_name, unknown_name
from weights import LARGEST, PRESETS, check_hparams, shapes, to_params

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"  # OpenAI's public storage
DATA = "model.ckpt.data-00000-of-00001"
DEFAULT = "124M"  # the model, where neither a model nor an adapter is named
BEFORE_WEIGHTS = ("hparams.json", "encoder.json", "vocab.bpe")  # small files, enough to check a prompt
WEIGHTS = ("model.ckpt.index", DATA)
FILES = (*BEFORE_WEIGHTS, *WEIGHTS)
MOVE_AWAY = "move it away, and it is downloaded again"
KNOWN = {  # bytes and SHA-256, where known
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
    "tiny/hparams.json": (73, "520761a81d7062d7d20e91bd659c03fccbf0a0aeb624f6cda0fda81bf9dda61d"),
    "tiny/encoder.json": (71_752, "98b9ac9e06bc585c44894cba26bf64018dbe402cb74e92e039754d39f30ec153"),
    "tiny/vocab.bpe": (28_954, "cb61835f0ce6dcfd252dac9b78b4eb4762ab15c4fb8dc2f8140584af3e13ec0a"),
    "tiny/model.ckpt.index": (2_639, "ad3ef7771aea01191fc17074a065bc5651e35103bc0f9c5f3f6f8edde342310f"),
    f"tiny/{DATA}": (6_973_440, "ed23a8dc6b082d4e3909631a15346b14bd725f11110d4c4ccc852ba184bc2b1d"),
}

# ---- any model ---------------------------------------------------------------------------------------------


def load_encoder_hparams_and_params(
    model_size, models_dir, lora=None, weights=None
):  # -> Encoder, hparams, params
    """Load a model for `gpt2.generate`; `find_model` lists the models.

    lora: adapters to merge into it: "FOLDER", "owner/name", "FOLDER:0.5,owner/name".
    weights: "int8", "int4" or "nf4", to quantize its matrices (extras/quantize.py); adapters stay float32.
    Arrays in params are float32, memory-mapped copy-on-write if the file is float32 too: you may edit them,
    the file does not change.
    Raises ValueError for an unknown name, ModelError for files that cannot be fetched or used.
    """
    encoder, hparams, load_params = open_model(model_size, models_dir, lora, weights)
    return encoder, hparams, load_params()


def open_model(model_size, models_dir, lora=None, weights=None):  # -> Encoder, hparams, () -> params
    """What is needed to check a prompt, and a function that then fetches and reads the weights.

    model_size: None means 124M, or with lora the model that it was made for. Raises what
    `load_encoder_hparams_and_params` raises.
    """
    if weights is not None:
        check_kind_of_weights(weights)
    if lora is not None:
        from extras.huggingface import adapters

        chosen = adapters.choose(lora)
        base = adapters.base_of(chosen, models_dir) if model_size is None else model_size
        return adapters.adapted(chosen, base, *open_model(base, models_dir, weights=weights))
    if weights is not None:
        from extras.quantize import quantize

        encoder, hparams, load_params = open_model(model_size, models_dir)
        return encoder, hparams, lambda: quantize(load_params(), weights)
    layout, place = find_model(DEFAULT if model_size is None else model_size, models_dir)
    if layout == "huggingface":
        from extras import huggingface

        return huggingface.open_model(place)
    if layout == "gguf":
        from extras.huggingface import gguf_reader

        return gguf_reader.open_model(place)
    return open_openai(place, size=place.name if layout == "released" else None)


def find_model(model_size, models_dir):  # -> layout, Path or "owner/name@revision"
    """The layout of a model, and where it is. The layout is "openai", "huggingface", "gguf", or, for a model
    that may be downloaded into OpenAI's layout, "released". model_size is one of

    - "tiny": the small model included here, found from any working directory;
    - "124M", "355M", "774M", "1558M": OpenAI's, downloaded once into models_dir;
    - an existing folder, with a model in OpenAI's layout or in that of Hugging Face transformers, or one of
      the files of such a model;
    - an existing .gguf file of llama.cpp, or a folder with one and no other model;
    - "owner/name" or "owner/name@revision" on the Hugging Face hub, or a short name there, such as "gpt2-xl".

    Raises ValueError for anything else, ModelError for a folder in both layouts or in neither.
    """
    if model_size == "tiny":
        return "openai", ROOT / "models" / "tiny"
    if model_size in RELEASED:
        return "released", Path(models_dir).expanduser() / model_size
    folder = folder_of(model_size)
    if file := gguf_of(folder or model_size):
        return "gguf", file
    if folder:
        if layout := layout_of(folder):
            return layout, folder
        from extras.recognise import not_a_model

        raise not_a_model(folder)
    if os.path.exists(model_size):
        from extras.recognise import not_a_folder

        raise not_a_folder(model_size)
    if is_hub_name(str(model_size)):
        return "huggingface", model_size
    raise unknown_name(str(model_size))


# ---- OpenAI's layout ---------------------------------------------------------------------------------------


def open_openai(folder, size=None):  # -> Encoder, hparams, () -> params
    """The model in a folder, as `open_model` returns it. size: OpenAI's name for it, if it is theirs.

    Every load compares each file with what is named beside it, except for what follows "but":

    hparams.json             the shapes of all arrays; but no shape tells n_head
    encoder.json, vocab.bpe  each other, token by token; but not which two parts a token is merged from
    model.ckpt.index         a checksum for each of its blocks
    model.ckpt.data-...      its length, names, shapes, finite numbers; but not the checksums in the index

    These are compared after a download and by `--check` (extras/check.py): the first two where OpenAI's own
    sizes or digests are known.
    """
    how = MOVE_AWAY if size else AGAIN
    prefix = checkpoint_of(folder, size)
    with fresh_copy(how):
        get_files(folder, size, BEFORE_WEIGHTS)
        hparams = load_hparams(folder / "hparams.json")
        encoder = get_encoder(folder.name, folder.parent)
    n_tokens, n_vocab = len(encoder.encoder), hparams["n_vocab"]
    if n_tokens != n_vocab:
        found = f"{n_tokens} tokens in encoder.json, but n_vocab is {n_vocab} in hparams.json"
        raise ModelError(folder, found, MIXED_UP)

    def load_params():
        with fresh_copy(how):
            get_files(folder, size, [os.path.basename(path) for path in file_paths(prefix)])
            return load_gpt2_params_from_tf_ckpt(prefix, hparams)

    return encoder, hparams, load_params


def checkpoint_of(folder, size=None):  # -> Path, such as "models/124M/model.ckpt"
    """What the names of a model's two checkpoint files begin with; OpenAI's own are always model.ckpt."""
    return folder / CHECKPOINT if size else latest_checkpoint(folder)


def get_files(folder, size, names):
    """Download what is missing, if size is one of OpenAI's. Raises ModelError if a file is still missing."""
    if size:
        download_gpt2_files(size, folder, names)
    for name in names:
        if not os.path.isfile(folder / name):
            raise ModelError(folder / name, f"missing: a model is a folder with {', '.join(FILES)}")


def load_hparams(path):  # -> {"n_vocab": 50257, "n_ctx": 1024, ...}
    """The sizes of a model, from its hparams.json. Raises ModelError if no GPT-2 can have them."""
    hparams = read_json(path)
    try:
        check_hparams(hparams)
    except ValueError as error:
        raise ModelError(path, error, AGAIN) from None
    return {name: hparams[name] for name in LARGEST}


def load_gpt2_params_from_tf_ckpt(tf_ckpt_path, hparams):  # "models/124M/model.ckpt" -> params
    """The weights in a TensorFlow checkpoint, checked, and nested as `gpt2.gpt2` takes them.

    What training leaves there is ignored: everything that is not under model/, and optimizer slots, which are
    named after a variable and have its shape (model/wte/Adam). Raises ModelError unless the rest is a GPT-2
    of these hparams.
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


def download_gpt2_files(model_size, model_dir, names=FILES):
    """Download the missing files of one of OpenAI's models into model_dir: all, or only those named.

    A file that exists is never replaced or checked: it may be a fine-tune. Raises ModelError and OSError, as
    `download_file` does.
    """
    if model_size not in RELEASED:
        raise ValueError(f"model_size is {model_size!r}: OpenAI's models are {', '.join(RELEASED)}")
    folder = Path(os.path.abspath(model_dir))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        sizes = {name: known(model_size, name)[0] for name in missing}
        announce_files(sizes, f"OpenAI's {model_size}", BASE_URL, folder)
    for name in missing:
        download_gpt2_file(model_size, folder / name)


def download_gpt2_file(model_size, path):
    """Download one file of one of OpenAI's models; an error says what a user of the command can do."""
    n_bytes, sha256 = known(model_size, path.name)
    check = None if sha256 else partial(check_content, model_size, path)
    index = path.with_name("model.ckpt.index")
    if check and path.name == DATA and index.exists():
        check_index(model_size, index)  # before gigabytes are downloaded that it does not fit
    try:
        download_file(f"{BASE_URL}/{model_size}/{path.name}", path, n_bytes, sha256, check)
    except ModelError as error:
        advice = f"{error.advice or 'try again'}, or use tiny, a model that needs no network"
        raise ModelError(error.what, error.problem, advice) from None
    except OSError as error:
        advice = f"{error.strerror or error}; use --models_dir to choose another folder"
        raise OSError(error.errno, advice, error.filename) from None


def known(model_size, name):  # -> bytes, SHA-256; each is None where not known
    """What a file of a named model is known to be; OpenAI's four models share one vocabulary."""
    return KNOWN.get(f"{model_size}/{name}") or KNOWN.get(name, (None, None))


def check_index(model_size, path):
    """Raise ModelError unless an index lists the variables of one of OpenAI's models."""
    table = shapes(PRESETS[model_size])
    arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in table.items()}
    wanted = {name: (array.dtype, array.shape) for name, array in in_openai_layout(arrays).items()}
    if {name: entry[:2] for name, entry in read_index(path).items()} != wanted:
        raise ModelError(path, f"it does not list the variables of OpenAI's {model_size}", MOVE_AWAY)


def check_content(model_size, path, part):
    """Raise ModelError unless part, a download that is to become path, can be OpenAI's file.

    The index holds checksums of its own blocks and of the data.
    """
    if path.name == "hparams.json" and load_hparams(part) != PRESETS[model_size]:
        raise ModelError(part, f"its sizes are not those of OpenAI's {model_size}", AGAIN)
    if path.suffix == ".index":
        check_index(model_size, part)
    index = path.with_name("model.ckpt.index")
    if path.name == DATA and index.exists():
        compare_checksums(read_index(index), part)
