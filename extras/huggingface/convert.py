"""Convert what others saved to safetensors, once: `python -m extras.huggingface.convert FILE OUT_FOLDER`.

PyTorch saves models as pickles, and many exist in no other form. A pickle may run any code when it is read.
So pickles are read only here, and never run: see pickle_files.py. Names and shapes differ from project
to project: other_projects.py makes them those of transformers. The result is a folder for `--model_size` and
transformers or, if it is an adapter, for `--lora` and peft.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project
    from program import run

    raise SystemExit(run("extras.huggingface.convert", "requirements-extras.txt"))

import os
import re
import shutil
from functools import partial
from pathlib import Path

from extras.huggingface import characters, loading, task_heads
from extras.huggingface.adapter_config import LARGEST_ALPHA, PEFT_PREFIX, read_adapter_config
from extras.huggingface.adapter_tensors import check_without_base
from extras.huggingface.config import DEFAULTS, kind_of, read_config, to_hparams
from extras.huggingface.export import new_folder, save, write_json, write_tensors
from extras.huggingface.hub import find_file
from extras.huggingface.other_projects import (
    WTE,
    as_in_peft,
    as_in_transformers,
    check_matrices,
    check_sizes,
    choose_activation,
    choose_n_head,
    padded,
    project_of,
    recorded_sizes,
    renamed,
    without_prefix,
)
from extras.huggingface.pickle_files import read_pickle
from extras.huggingface.tensors import HEADS, read_safetensors, read_shards
from extras.recognise import PICKLE, PICKLE_INDEX, TOKENIZER, is_pickle, not_a_model, not_weights
from files import ModelError, begins_as_pickle, printable, quoted, say_if_large, shown
from layouts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, OF_TOKENIZER, SAFETENSORS
from names import MODELS_DIR
from utils import open_model
from weights import BFLOAT16, PRESETS, to_float32

HELP = """\
python -m extras.huggingface.convert FILE OUT_FOLDER [--option value]    a model becomes safetensors

FILE                 a file that PyTorch or safetensors saved, or its folder: from
                     transformers, Lightning or TRL, with config.json and the
                     tokenizer beside it; from nanoGPT, build-nanogpt, minGPT or
                     LLMs-from-scratch; or an adapter, from peft, with its
                     adapter_config.json, or from Microsoft's LoRA
OUT_FOLDER           a new folder
--meta meta.pkl      nanoGPT: the characters that it was trained on; by default
                     looked for beside FILE and in nanoGPT's data folder
--tokenizer 124M     the model whose tokenizer it was trained with, unless --meta
                     is given or found
--models_dir FOLDER  for downloaded models, as for gpt2.py
--activation gelu    gelu (exact) or gelu_new (by tanh); if not given, as in the project
                     that saved it; for nanoGPT, which changed on 14 June 2023, by the
                     file's date
--n_head 12          attention heads in a layer, which minGPT and LLMs-from-scratch
                     do not record
--lora_alpha 32      Microsoft's LoRA: scale, which its files do not record
"""
# the file of a model's weights, in the order in which transformers looks for it
WHOLE = (*SAFETENSORS, PICKLE, PICKLE_INDEX, ADAPTER_WEIGHTS)

# ---- the command -------------------------------------------------------------------------------------------


def command(
    file: str = "",
    out_folder: str = "",
    *,
    meta: str = None,
    tokenizer: str = None,
    models_dir: str = MODELS_DIR,
    activation: str = None,
    n_head: int = None,
    lora_alpha: int = None,
):
    """Convert, and say what was made."""
    if not file or not out_folder:
        usage = "python -m extras.huggingface.convert FILE OUT_FOLDER"
        raise ValueError(f"give a file and a folder: {usage} (see --help)")
    if activation not in (None, "gelu", "gelu_new"):
        raise ValueError(f"activation is {activation!r}, not gelu or gelu_new")
    for name, value in (("n_head", n_head), ("lora_alpha", lora_alpha)):
        if value == 0:
            raise ValueError(f"{name} is 0: it must be 1 or more")
    if lora_alpha and lora_alpha > LARGEST_ALPHA // 2:  # `as_in_peft` doubles it
        raise ValueError(f"lora_alpha is {lora_alpha}: it must be at most {LARGEST_ALPHA // 2:,}")
    if os.path.isdir(file):
        file = file_in(Path(file))
    say_if_large(f"converting {file}", os.path.getsize(file))
    done = convert(file, out_folder, tokenizer, models_dir, activation, n_head, lora_alpha, meta)
    print(printable(f"{done} -> {out_folder}"))


def file_in(folder):  # -> Path
    """The file with the weights in a folder. Raises ValueError if several can be it, ModelError for none."""
    found = [folder / name for name in WHOLE if (folder / name).is_file()][:1]
    found = found or [path for path in sorted(folder.iterdir()) if is_pickle(path.name) and path.is_file()]
    if not found:
        raise not_a_model(folder)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} has several files to convert: give one of {shown(names)}")
    return found[0]


def convert(
    file,
    out_folder,
    tokenizer=None,
    models_dir="models",
    activation=None,
    n_head=None,
    lora_alpha=None,
    meta=None,
):
    """Convert a file, and return a line that says what it was. The options are those of HELP.

    Raises ModelError for a file that holds no such model, ValueError for an option that is missing or wrong.
    """
    file = Path(file)
    other = not_weights(file.name)
    if other and file.name != ADAPTER_WEIGHTS:
        raise ModelError(file, other)
    content, found = read(file)
    state = without_prefix(found, file)
    of_adapters, of_others = {"lora_alpha": lora_alpha}, {"meta": meta, "tokenizer": tokenizer}
    of_others |= {"activation": activation, "n_head": n_head}
    if any(name.endswith(".lora_A") for name in state):
        refuse(of_others, "an adapter of Microsoft's LoRA")
        return convert_lora(state, file, out_folder, lora_alpha)
    if any(".lora_" in name for name in state):
        refuse(of_adapters | of_others, "an adapter of peft")
        return convert_adapter(state, file, out_folder, found)
    sizes = recorded_sizes(content)
    project, state = project_of(state, sizes), renamed(state, file)
    c_attn = next((array for name, array in state.items() if name.endswith("h.0.attn.c_attn.weight")), None)
    if c_attn is None or c_attn.ndim != 2:
        raise ModelError(file, "it holds no GPT-2: none of its matrices is named h.0.attn.c_attn.weight")
    refuse(of_adapters, "a model")
    if c_attn.shape[1] > c_attn.shape[0]:  # [n_embd, 3 n_embd], like OpenAI's
        refuse(of_others, "a model of transformers, whose config.json and tokenizer count")
        is_right = is_safetensors(file) and file.name in WHOLE and state.keys() == found.keys()
        return convert_transformers(state, file, out_folder, is_right)
    choose = partial(choose_tokenizer, file, content, tokenizer, models_dir, meta)
    return convert_transposed(state, file, out_folder, project, sizes, activation, n_head, choose)


def refuse(options, kind):
    """Raise ValueError for an option that has no meaning for a file of this kind. options: {name: value}."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"--{name} has no meaning for {kind}: leave it out")


def read(file):  # -> dict, {name: array}
    """All that a file holds, and the model's tensors; safetensors hold only these, and need no PyTorch."""
    if not is_safetensors(file):
        return read_pickle(file)
    if file.suffix == ".json":
        tensors = read_shards(file, "safetensors", partial(find_file, file.parent), read_safetensors)
    else:
        tensors = read_safetensors(file)
    for name, array in tensors.items():
        if array.dtype == BFLOAT16:  # NumPy lacks it, and could not write it
            tensors[name] = to_float32(array, array.shape, name, file, file)
    return {}, tensors


def is_safetensors(file):  # -> bool
    """Whether a file is safetensors or their index, by its name; but not a pickle with such a name."""
    if not file.name.endswith((".safetensors", ".safetensors.index.json")):
        return False
    with open(file, "rb") as opened:
        return not begins_as_pickle(opened.read(9))


# ---- names and shapes of transformers ----------------------------------------------------------------------


def convert_transformers(state, file, out_folder, is_right):  # -> str
    """Copy the tensors: their shapes are right. is_right: whether nothing has to be changed."""
    has_tokenizer = any(file.with_name(name).is_file() for name in TOKENIZER)
    if not has_tokenizer or not file.with_name("config.json").is_file():
        beside = "its config.json and the files of its tokenizer beside it"
        raise ValueError(f"{file} needs {beside}: get them too")
    config = read_config(file.parent)
    check_tensors(state, config, file)
    if is_right:
        raise ValueError(f"{file} needs no conversion: use its folder, --model_size {quoted(file.parent)}")
    with new_folder(out_folder) as folder:
        write_tensors(folder / "model.safetensors", without_others(state, kind_of(config)))
        copy_beside(file, folder, ["config.json", "generation_config.json", *OF_TOKENIZER])
    return f"a model of transformers: {file}"


def check_tensors(state, config, file):
    """Raise ModelError unless these are the tensors of the model that config.json describes."""
    tensors, kind = dict(state), kind_of(config)
    if kind in task_heads.HEADS:
        task_heads.pop_head(tensors, kind, config, file)
    # applying a scale would change the tensors that are about to be written
    unscaled = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
    has_lm_head = kind not in task_heads.HEADS or kind == "GPT2DoubleHeadsModel"
    loading.from_tensors(tensors, config | unscaled, file, has_lm_head)


def without_others(state, kind):  # {name: array} -> {name: array}
    """The tensors without the heads beside the one that a model of this kind has."""
    own = task_heads.HEADS.get(kind, "lm_head.weight").rpartition(".")[0]
    return {name: state[name] for name in state if name.startswith(own) or not HEADS.fullmatch(name)}


# ---- nanoGPT and others ------------------------------------------------------------------------------------


def convert_transposed(state, file, out_folder, project, sizes, activation, n_head, choose):  # -> str
    """Matrices are [n_out, n_in], biases may be missing, the vocabulary may be padded.

    project: who saved it; sizes: what it says of them; choose: rows of the embedding -> tokenizer, its name.
    """
    check_matrices(state, file)
    n_vocab, n_embd = state[WTE].shape
    n_head = choose_n_head(sizes, n_head, n_embd, file)
    activation, by_date = choose_activation(project, activation, file)
    encoder, words = choose(n_vocab)
    config = DEFAULTS | {"n_head": n_head, "activation_function": activation}
    tensors, config = as_in_transformers(state, len(encoder.encoder), config)
    check_sizes(sizes, config, file)
    params = loading.from_tensors(tensors, config, file)
    save(out_folder, encoder, to_hparams(config), params)
    return f"{project}{words}, {n_head} heads, {activation}{by_date}: {file}"


def choose_tokenizer(file, content, tokenizer, models_dir, meta, n_rows):  # -> Encoder, what to say of it
    """The characters of a meta.pkl, or the tokenizer of another model.

    Raises ValueError for one that does not have as many tokens as the embedding has rows, before it is
    downloaded if possible.
    """
    if meta and tokenizer:
        raise ValueError("--meta and --tokenizer cannot be used together: leave one out")
    if meta and os.path.isdir(meta):
        meta = os.path.join(meta, characters.META)
    path = meta or (None if tokenizer else characters.find_meta(file, content))
    if path:
        ids = characters.read_meta(path)
        check_rows(n_rows, len(ids), file, f"{path} has {{:,}} characters")
        return characters.to_encoder(ids), f" with the {len(ids):,} characters of {path}"
    name = tokenizer or "124M"
    if name in PRESETS:
        check_rows(n_rows, PRESETS[name]["n_vocab"], file)
    encoder, _, _ = open_model(name, models_dir)
    check_rows(n_rows, len(encoder.encoder), file)
    return encoder, ""


def check_rows(n_rows, n_tokens, file, words="the tokenizer has {:,} tokens"):
    """Raise ValueError unless an embedding for n_tokens tokens can have n_rows rows: as many, or padded."""
    rows = padded(n_tokens)
    if n_rows not in (n_tokens, *rows):
        found = f"{file} has a vocabulary of {n_rows:,}, but {words.format(n_tokens)}"
        found = f"{found} ({' or '.join(f'{n:,}' for n in dict.fromkeys(rows))} if padded)"
        advice = "use --tokenizer to name the model whose tokenizer it was trained with"
        raise ValueError(f"{found}: {advice}, or --meta for the meta.pkl of its characters")


# ---- adapters ----------------------------------------------------------------------------------------------


def convert_adapter(state, file, out_folder, found):  # -> str
    """Write an adapter of peft as safetensors. found: its tensors by the names in the file."""
    if not file.with_name(ADAPTER_CONFIG).is_file():
        raise ValueError(f"{file} needs its {ADAPTER_CONFIG} beside it, which has the scale: get it too")
    config = read_adapter_config(file.parent)
    tensors = {}
    for name, array in state.items():  # .default is the adapter's name, which peft leaves out of its files
        tensors[PEFT_PREFIX + re.sub(r"\.default\b", "", name.removeprefix(PEFT_PREFIX))] = array
    if len(tensors) < len(state):
        raise ModelError(file, "it holds a tensor twice, by names that differ only in .default")
    check_without_base(tensors, config, file)
    if file.name == ADAPTER_WEIGHTS and tensors.keys() == found.keys():
        raise ValueError(f"{file} needs no conversion: use its folder, --lora {quoted(file.parent)}")
    with new_folder(out_folder) as folder:
        write_tensors(folder / ADAPTER_WEIGHTS, tensors)
        copy_beside(file, folder, [ADAPTER_CONFIG, *OF_TOKENIZER])
    return f"an adapter of peft: {file}"


def copy_beside(file, folder, names):
    """Copy the files of these names that lie beside a file into a folder."""
    for name in names:
        if file.with_name(name).is_file():
            shutil.copyfile(file.with_name(name), folder / name)


def convert_lora(state, file, out_folder, lora_alpha):  # -> str
    """Write an adapter for peft."""
    tensors, fields = as_in_peft(state, file, lora_alpha)
    with new_folder(out_folder) as folder:
        write_json(folder / ADAPTER_CONFIG, fields)
        write_tensors(folder / ADAPTER_WEIGHTS, tensors)
    return f"an adapter of Microsoft's LoRA, rank {fields['r'] // 2}: {file}"
