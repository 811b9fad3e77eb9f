"""Export: any model as a folder that Hugging Face transformers, vLLM and llama.cpp's converter can read.

    python -m extras.huggingface.export MODEL OUT_FOLDER

`extras.huggingface.load` reads the folder back as the same model.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project
    from program import run

    raise SystemExit(run("extras.huggingface.export", "requirements-extras.txt"))

import contextlib
import glob
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

import gpt2
from encoder import write_merges
from extras.check import check
from extras.huggingface.loading import huggingface_name
from extras.huggingface.other_tokenizers import OtherEncoder
from extras.huggingface.prepared import PreparedEncoder, as_gpt2s, steps_of, tokenizer_json
from extras.huggingface.tensors import safetensors_library
from extras.huggingface.variants import ACTIVATIONS
from extras.untied import apart, is_tied
from files import needs, printable, read_json, say_if_large, shown
from names import MODELS_DIR
from utils import load_encoder_hparams_and_params
from weights import count, flatten, shapes

HELP = """\
python -m extras.huggingface.export MODEL OUT_FOLDER [--option value]    a model for transformers

MODEL                a model, as for gpt2.py: tiny, 124M, a folder; it is
                     checked first, as by gpt2.py --check
OUT_FOLDER           a new folder
--lora FOLDER        an adapter to merge into it, as for gpt2.py
--weights int8       write the float32 numbers that int8, int4 or nf4
                     weights stand for
--models_dir FOLDER  for downloaded models, as for gpt2.py
"""
FILLING = "filling.lock"  # held while a temporary folder is filled; the system releases it on a crash


def save(folder, encoder, hparams, params):
    """Write a language model into a new or empty folder, which appears under its name only once complete.

    The files: config.json, model.safetensors, vocab.json, merges.txt, tokenizer.json, tokenizer_config.json.
    Raises ValueError for a folder that is not empty, and for params that config.json cannot describe.
    """
    write_model(folder, encoder, hparams, params, "model.safetensors", to_tensors(hparams, params))


def write_model(folder, encoder, hparams, params, file, tensors, notes=None):
    """Write config.json, these tensors into a file of this name, and the tokenizer; see `save`."""
    config = to_config(encoder, hparams, params)
    with new_folder(folder) as unnamed:
        write_json(unnamed / "config.json", config)
        write_tensors(unnamed / file, tensors, notes)
        write_tokenizer(unnamed, encoder, hparams["n_ctx"])


@contextlib.contextmanager
def new_folder(folder):  # -> Path
    """A folder to fill, under a temporary name: renamed if nothing goes wrong, deleted otherwise.

    Raises ValueError for a folder that is not empty, also where another process has filled it meanwhile.
    """
    folder = Path(folder).resolve()
    refuse_full(folder)
    with temporary_name(folder) as unnamed:
        unnamed.mkdir(parents=True)  # parents: another process may have seen it before it was locked
        yield unnamed
        with contextlib.suppress(OSError):
            folder.rmdir()  # if it is there and empty: Windows would not replace it
        try:
            os.replace(unnamed, folder)
        except OSError:
            refuse_full(folder)
            raise


@contextlib.contextmanager
def temporary_name(path):  # -> Path
    """A name for what will be renamed to `path`; what is left under it is deleted, after a crash too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    temporary = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    with temporary as parent, FileLock(Path(parent) / FILLING):
        yield Path(parent) / path.name


def refuse_full(folder):
    """Raise ValueError for a file, and for a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists: name a new or an empty folder")
    if folder.resolve() == Path.cwd():  # it is replaced, and the shell would be left in the old one
        raise ValueError(f"{folder} is the current folder: name a new one")


def remove_abandoned(path):
    """Delete the temporary folders for this name whose processes were killed: nobody holds their locks."""
    for lock in path.parent.glob(f".{glob.escape(path.name)}-*/{FILLING}"):
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent, ignore_errors=True)


def to_config(encoder, hparams, params):  # -> {field: value}
    """The fields of config.json. Raises ValueError for variants that they cannot express."""
    leaves = flatten(params)
    epsilons = {leaves.get(f"{name[:-2]}/eps", 1e-5) for name in leaves if name.endswith("/g")}
    acts = {block["mlp"].get("act", gpt2.gelu) for block in params["blocks"]}
    names = [name for name, act in ACTIVATIONS.items() if acts == {act}]
    if len(epsilons) > 1 or not names:
        raise ValueError("transformers has one eps for all norms, and one act, known by name, for all blocks")
    if len(encoder.encoder) != hparams["n_vocab"]:
        raise ValueError(f"encoder has {len(encoder.encoder)} tokens, but n_vocab is {hparams['n_vocab']}")
    stops = sorted(encoder.stop_ids) or [None]
    sizes = {name: hparams[name] for name in ("n_ctx", "n_embd", "n_head", "n_layer")}
    return sizes | {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": hparams["n_vocab"],
        "n_positions": hparams["n_ctx"],
        "n_inner": hparams.get("n_inner"),
        "activation_function": names[0],
        "layer_norm_epsilon": epsilons.pop(),
        "tie_word_embeddings": is_tied(params),
        "bos_token_id": encoder.begin_id,
        "eos_token_id": stops if len(stops) > 1 else stops[0],
        "dtype": "float32",
        "query_scales": hparams.get("query_scales"),  # not for transformers: for adapters added later
    }


def to_tensors(hparams, params):  # -> {"transformer.h.0.attn.c_attn.weight": array, ...}
    """The tensors of model.safetensors. Raises ValueError for params that do not fit hparams.

    Matrices that are quantized, or have an adapter beside them, become the float32 that they stand for.
    """
    tensors = {}
    for name, array in checked_arrays(hparams, params).items():
        theirs = "lm_head.weight" if name == "lm_head" else f"transformer.{huggingface_name(name)}"
        tensors[theirs] = np.asarray(array[:], dtype=np.float32)
    return tensors


def checked_arrays(hparams, params):  # -> {OpenAI's name, or "lm_head" if it is not tied: array}
    """The arrays of a model; quantized and adapted matrices stay what they are.

    Raises ValueError for params that do not fit hparams.
    """
    arrays = {name: leaf for name, leaf in apart(params).items() if not name.endswith(("/eps", "/act"))}
    wanted = shapes(hparams)
    if is_tied(params):
        del arrays["lm_head"]
    else:
        wanted["lm_head"] = wanted["wte"]
    for name in sorted(arrays.keys() | wanted.keys()):
        shape = getattr(arrays.get(name), "shape", None)
        if shape != wanted.get(name):
            raise ValueError(f"{name} has shape {shape} in params, {wanted.get(name)} according to hparams")
    return arrays


def write_tokenizer(folder, encoder, n_ctx):
    """Write the vocabulary in each form that some program reads; for other kinds, copy the files it had."""
    if isinstance(encoder, OtherEncoder):
        copy_tokenizer(folder, encoder)
        return
    tokens = with_parts(encoder)
    is_prepared = isinstance(encoder, PreparedEncoder)
    settings = encoder.settings if is_prepared else as_gpt2s(tokens, encoder.bpe_ranks)
    added = [added_token(encoder, token) for token in sorted(encoder.added_tokens, key=encoder.encoder.get)]
    write_merges(folder / "merges.txt", encoder.bpe_ranks)
    write_json(folder / "vocab.json", tokens)
    write_json(folder / "tokenizer.json", tokenizer_json(settings, added))
    write_json(folder / "tokenizer_config.json", tokenizer_config(encoder, n_ctx))


def copy_tokenizer(folder, encoder):
    """Copy the files that a tokenizer was read from, and name in them the class that makes its ids."""
    for name, path in encoder.files.items():
        shutil.copyfile(path, folder / name)
    path = folder / "tokenizer_config.json"
    fields = read_json(path) if path.exists() else {}
    write_json(path, fields | {"tokenizer_class": encoder.tokenizer_class})


def tokenizer_config(encoder, n_ctx):  # -> {field: value}
    """The fields of tokenizer_config.json; as transformers has it, only special tokens are named."""
    is_prepared = isinstance(encoder, PreparedEncoder)
    steps = steps_of(encoder.settings, "pre_tokenizer") if is_prepared else []
    ends = [encoder.decoder[i] for i in sorted(encoder.stop_ids)]
    end = next((token for token in ends if token in encoder.special_tokens), None)
    begin = encoder.decoder.get(encoder.begin_id)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast" if is_prepared else "GPT2Tokenizer",
        "add_prefix_space": any(step.get("add_prefix_space", False) for step in steps),
        "model_max_length": n_ctx,
        "eos_token": end,
        "unk_token": end,
        "bos_token": begin if begin in encoder.special_tokens else None,
    }


def with_parts(encoder):  # -> {token: id}
    """The tokens, and after them the parts of characters that only merges use: libraries want ids for them.

    No text has one of these ids, unless it has a character that the vocabulary lacks.
    """
    tokens = dict(encoder.encoder)
    for part in itertools.chain(*encoder.bpe_ranks):
        tokens.setdefault(part, len(tokens))
    return tokens


def added_token(encoder, token):  # -> dict
    """An added token, with its flags; it is normalized if others are looked for before it."""
    stripping = getattr(encoder, "stripping", {})
    flags = {flag: token in stripping.get(flag, ()) for flag in ("lstrip", "rstrip")}
    flags |= {"single_word": False, "special": token in encoder.special_tokens}
    later = token not in encoder.added_groups[0]
    return {"id": encoder.encoder[token], "content": token, "normalized": later} | flags


def write_tensors(path, tensors, notes=None):
    """Write {name: array} as safetensors, with the permissions of any new file; the library's are private.

    notes: {note: str}, by default the one that transformers looks for. Raises OSError where the system says
    no, as when the disk is full.
    """
    with needs("requirements-extras.txt"):
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode
    in_rows = {name: np.ascontiguousarray(array) for name, array in tensors.items()}  # as the library needs
    try:
        save_file(in_rows, path, metadata=notes or {"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{path.name} cannot be written: {shown(error)}") from None
    path.chmod(mode)


def write_json(path, value):
    """Write a value as JSON, with non-ASCII characters escaped."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def command(
    model: str = "",
    out_folder: str = "",
    *,
    lora: str = None,
    weights: str = None,
    models_dir: str = MODELS_DIR,
):
    """Export a model, and an adapter merged into it, unless a file of it is damaged."""
    if not model or not out_folder:
        usage = "python -m extras.huggingface.export MODEL OUT_FOLDER"
        raise ValueError(f"give a model and a folder: {usage} (see --help)")
    loaded = load_checked(out_folder, "writing", model, models_dir, lora, weights)
    save(out_folder, *loaded)
    print(printable(f"{with_adapters(model, lora)} -> {out_folder}"))


def load_checked(out_folder, work, model, models_dir, lora, weights=None):  # -> Encoder, hparams, params
    """A model to write into a new folder, unless a file of it is damaged. work: what comes next, as a word.

    Raises ValueError for a folder that is not empty, before anything is downloaded.
    """
    safetensors_library()  # if it is missing, say so before a model is downloaded
    refuse_full(Path(out_folder))
    # first, as this may download it
    loaded = load_encoder_hparams_and_params(model, models_dir, lora, weights)
    check_loaded(loaded[1], work, model, models_dir, lora)
    return loaded


def check_loaded(hparams, work, model, models_dir, lora):
    """Check a model of these hparams. Raises what `check.check` raises, for the first thing that is wrong."""
    say_if_large(f"checking {model}, then {work} it", 4 * count(hparams))
    for _ in check(model, models_dir, lora):
        pass


def with_adapters(model, lora):  # -> str
    """What was written: a model, and the adapters in it."""
    return f"{model} with {lora}" if lora else model
