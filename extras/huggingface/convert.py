"""Convert a pickle to safetensors, once: `python -m extras.huggingface.convert FILE OUT_FOLDER`.

PyTorch saves models as pickles, and many exist in no other form. A pickle is a program that builds objects,
and it may do anything else as well. PyTorch's `weights_only` lets it build only tensors, but before 2.10
there were ways around that. Therefore pickles are read only here, and only with PyTorch 2.10 or later. The
result is a folder for `--model_size` and transformers or, if it is an adapter, for peft.

Sources: train.py and model.py of karpathy/nanoGPT, karpathy/minGPT, loralib/layers.py of microsoft/LoRA.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project
    from program import run

    raise SystemExit(run("extras.huggingface.convert", "requirements-extras.txt"))

import os
import pickle
import re
import shutil
import warnings
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np

from extras.huggingface import loading, task_heads
from extras.huggingface.config import DEFAULTS, kind_of, read_config, to_hparams
from extras.huggingface.export import new_folder, save, write_json, write_tensors
from extras.huggingface.tensors import read_shards
from files import AGAIN, MIXED_UP, ModelError, archive_damage, printable, say_if_large, shown
from names import MODELS_DIR
from utils import open_model
from weights import shapes, to_float32

HELP = """\
python -m extras.huggingface.convert FILE OUT_FOLDER [--option value]    a pickle becomes safetensors

FILE                 pytorch_model.bin of transformers (or its .index.json), with
                     config.json and the tokenizer beside it; or a checkpoint of
                     nanoGPT, minGPT, or Microsoft's LoRA
OUT_FOLDER           a new folder
--tokenizer 124M     nanoGPT, minGPT: the model whose tokenizer it was trained with
--models_dir FOLDER  for downloaded models, as for gpt2.py
--activation gelu    nanoGPT, minGPT: gelu (exact) or gelu_new (by tanh); if not
                     given, gelu_new for minGPT and for a file from before 14 June
                     2023, when nanoGPT changed, else gelu
--n_head 12          minGPT: heads in a layer, which its files do not record
--lora_alpha 32      Microsoft's LoRA: scale, which its files do not record
"""
EXACT_SINCE = datetime(2023, 6, 14)  # nanoGPT's change from gelu_new to gelu, its pull request 274
SAFE_TORCH = (2, 10)  # before, a crafted file gets past weights_only (CVE-2025-32434, CVE-2026-24747)
PEFT = {  # adapter_config.json, without the scale
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": None,
    "target_modules": ["c_attn"],
    "fan_in_fan_out": True,
    "lora_dropout": 0.0,
    "bias": "none",
    "inference_mode": True,
}
BESIDE = (  # the files that go with pytorch_model.bin
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
)


def command(
    file: str = "",
    out_folder: str = "",
    *,
    tokenizer: str = "124M",
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
    if os.path.isdir(file):
        raise ValueError(f"{file} is a folder: give the file in it, such as pytorch_model.bin")
    say_if_large(f"converting {file}", os.path.getsize(file))
    done = convert(file, out_folder, tokenizer, models_dir, activation, n_head, lora_alpha)
    print(printable(f"{done} -> {out_folder}"))


def convert(
    file, out_folder, tokenizer="124M", models_dir="models", activation=None, n_head=None, lora_alpha=None
):
    """Convert a pickle, and return a line that says what it was. The options are those of HELP.

    Raises ModelError for a file that holds no such model, ValueError for an option that is missing or wrong.
    """
    file = Path(file)
    content, state = read_pickle(file)
    if any(".lora_" in name for name in state):
        return convert_lora(state, file, out_folder, lora_alpha)
    c_attn = next((array for name, array in state.items() if name.endswith("h.0.attn.c_attn.weight")), None)
    if c_attn is None or c_attn.ndim != 2:
        raise ModelError(file, "it holds no GPT-2: none of its matrices is named h.0.attn.c_attn.weight")
    if c_attn.shape[1] > c_attn.shape[0]:  # [n_embd, 3 n_embd], like OpenAI's
        return convert_transformers(state, file, out_folder)
    encoder, _, _ = open_model(tokenizer, models_dir)
    return convert_transposed(content, state, file, out_folder, encoder, activation, n_head)


def read_pickle(file):  # -> dict, {name: array}
    """What PyTorch saved, if it is only tensors, numbers and strings, and the model's tensors in it."""
    wanted = f"pip install 'torch>={'.'.join(map(str, SAFE_TORCH))}'"
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{error}: {wanted}") from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_TORCH:
        raise ImportError(f"a file can make PyTorch {torch.__version__} run code: {wanted}")
    if file.name.endswith(".index.json"):
        return {}, read_shards(file, "bin", file.with_name, lambda shard: read_pickle(shard)[1])
    check_archive(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of old formats
            content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ModelError(file, f"it holds a {type(content).__name__}, not a model's tensors by name")
        return content, model_tensors(content, file)
    except ModelError:
        raise
    except pickle.UnpicklingError:
        problem = "not a PyTorch pickle, or one that holds more than tensors, numbers and strings"
        raise ModelError(file, f"{problem}; it is not run") from None
    except Exception as error:  # whatever bad bytes make PyTorch raise
        raise ModelError(file, f"PyTorch cannot read it ({shown(error)})", AGAIN) from None


def check_archive(file):
    """Raise ModelError for a zip archive that does not match its checksums, which PyTorch itself ignores.

    One with compressed parts is refused too: PyTorch writes none, and a small file could grow without end.
    """
    with open(file, "rb") as opened:
        if not zipfile.is_zipfile(opened):
            return
        with zipfile.ZipFile(opened) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > file.stat().st_size:
            raise ModelError(file, f"it is compressed, and would grow to {n_bytes:,} bytes", AGAIN)
        damage = archive_damage(opened)
    if damage:
        raise ModelError(file, f"damaged: {damage}", AGAIN)


def model_tensors(content, file):  # -> {name: array}
    """The tensors of a model, wherever a checkpoint keeps them; bfloat16, which NumPy lacks, as float32.

    Raises ModelError for tensors that take more than twice the bytes of the file, because they repeat what is
    stored once. (A head that is tied to wte does so too, but takes less.)
    """
    import torch

    places = [content.get(name) for name in ("model", "model_state_dict", "state_dict")]
    state, arrays = next((place for place in places if isinstance(place, dict)), content), {}
    state = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if n_bytes > 2 * file.stat().st_size:
        raise ModelError(file, f"its tensors would take {n_bytes:,} bytes, far more than the file has", AGAIN)
    for name, tensor in state.items():
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        arrays[re.sub(r"^((module|_orig_mod)\.)+", "", name)] = tensor.detach().numpy()
    return arrays


def convert_transformers(state, file, out_folder):  # -> str
    """Copy the tensors: their names and shapes are right already."""
    if not file.with_name("config.json").is_file():
        raise ValueError(
            f"{file} needs its config.json and the files of its tokenizer beside it: get them too"
        )
    check_tensors(state, read_config(file.parent), file)
    with new_folder(out_folder) as folder:
        write_tensors(folder / "model.safetensors", state)
        for name in BESIDE:
            if file.with_name(name).is_file():
                shutil.copyfile(file.with_name(name), folder / name)
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


def convert_transposed(content, state, file, out_folder, encoder, activation, n_head):  # -> str
    """nanoGPT, minGPT: matrices are [n_out, n_in], biases may be missing, the vocabulary may be padded."""
    sizes = content.get("model_args")  # only nanoGPT records them
    sizes = sizes if isinstance(sizes, dict) else {}
    by_file = sizes.get("n_head")
    if by_file is None and n_head is None:
        raise ValueError(f"{file} does not say how many heads a layer has: give --n_head")
    if by_file is not None and n_head not in (None, by_file):
        raise ValueError(f"{file} says that a layer has {by_file} heads, but --n_head says {n_head}")
    kind, note = ("a minGPT" if by_file is None else "a nanoGPT"), ""
    if by_file is not None and activation is None:
        exact = datetime.fromtimestamp(file.stat().st_mtime) >= EXACT_SINCE
        activation, note = "gelu" if exact else "gelu_new", " by its date (--activation overrides that)"
    config = {"n_head": n_head or by_file, "activation_function": activation or "gelu_new"}
    tensors, config = as_in_transformers(state, file, len(encoder.encoder), DEFAULTS | config)
    check_sizes(sizes, config, file)
    params = loading.from_tensors(tensors, config, file)
    save(out_folder, encoder, to_hparams(config), params)
    return f"{kind}, {config['n_head']} heads, {config['activation_function']}{note}: {file}"


def check_sizes(sizes, config, file):
    """Raise ModelError where nanoGPT's record of the sizes contradicts its tensors."""
    for name, field in {"n_layer": "n_layer", "n_embd": "n_embd", "block_size": "n_positions"}.items():
        if sizes.get(name) not in (None, config[field]):
            found = f"its model_args say that {name} is {shown(sizes[name])}, its tensors {config[field]}"
            raise ModelError(file, found, MIXED_UP)


def as_in_transformers(state, file, n_tokens, config):  # -> {name: array}, config
    """Transpose matrices, cut off the vocabulary's padding, fill in zero biases, and read off the sizes."""
    matrix = re.compile(r".*\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
    tensors = {name: array.T if matrix.fullmatch(name) else array for name, array in state.items()}
    wte, wpe, head = ("transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight")
    for name in (wte, wpe, head):
        if np.ndim(tensors.get(name)) != 2:
            raise ModelError(file, f"it has no matrix {name}", AGAIN)
    padded = [-(-n_tokens // n) * n for n in (64, 128)]
    if len(tensors[wte]) not in (n_tokens, *padded):
        found = f"{file} has a vocabulary of {len(tensors[wte]):,}, but the tokenizer has {n_tokens:,} tokens"
        found = f"{found} ({padded[0]:,} or {padded[1]:,} if padded)"
        raise ValueError(f"{found}: use --tokenizer to name the model whose tokenizer it was trained with")
    tensors |= {name: tensors[name][:n_tokens] for name in (wte, head)}
    config["vocab_size"], (config["n_positions"], config["n_embd"]) = n_tokens, tensors[wpe].shape
    config["n_layer"] = sum(name.endswith(".attn.c_attn.weight") for name in tensors)
    table = shapes(to_hparams(config))
    biases = {name: shape for name, shape in table.items() if name.endswith("/b")}
    biases = {f"transformer.{loading.huggingface_name(name)}": biases[name] for name in biases}
    if not tensors.keys() & biases.keys():
        tensors |= {name: np.zeros(shape, dtype=np.float32) for name, shape in biases.items()}
    return tensors, config


def convert_lora(state, file, out_folder, lora_alpha):  # -> str
    """Two adapters of rank r, for queries and for values, become one of rank 2 r, which peft can read.

    lora_A is [2 r, n_embd], the queries' rows above the values'; so is lora_B, [2 n_embd, r]. The product of
    the new pair adds the same to queries and values as before, and zeros to keys.
    """
    if lora_alpha is None:
        raise ValueError(f"{file} does not record its scale: give --lora_alpha (32 in Microsoft's examples)")
    layers, n_embd, rank = check_lora(state, file)
    tensors = {}
    for layer in layers:
        b = state[f"{layer}.lora_B"]
        wide = np.zeros((3 * n_embd, 2 * rank), dtype=b.dtype)
        wide[:n_embd, :rank], wide[2 * n_embd :, rank:] = b[:n_embd], b[n_embd:]
        tensors[f"base_model.model.{layer}.lora_A.weight"] = state[f"{layer}.lora_A"]
        tensors[f"base_model.model.{layer}.lora_B.weight"] = wide
    scale = {"r": 2 * rank, "lora_alpha": 2 * lora_alpha}  # lora_alpha / r, as before
    with new_folder(out_folder) as folder:
        write_json(folder / "adapter_config.json", PEFT | scale)
        write_tensors(folder / "adapter_model.safetensors", tensors)
    return f"an adapter of Microsoft's LoRA, rank {rank}: {file}"


def check_lora(state, file):  # -> names of layers, n_embd, r
    """Raise ModelError unless every layer has a pair of the same shapes, and nothing else is there."""
    layers, wanted = sorted({name.rpartition(".")[0] for name in state}), {}
    n_embd = np.atleast_2d(state.get(f"{layers[0]}.lora_A", 0)).shape[1]
    rank = np.atleast_2d(state.get(f"{layers[0]}.lora_B", 0)).shape[1]
    for layer in layers:
        wanted |= {f"{layer}.lora_A": (2 * rank, n_embd), f"{layer}.lora_B": (2 * n_embd, rank)}
    for name in sorted(state.keys() | wanted.keys()):
        shape = state[name].shape if name in state else None
        known = re.fullmatch(r"transformer\.h\.\d+\.attn\.c_attn\.lora_[AB]", name)
        if not known or shape != wanted.get(name) or 0 in shape:
            pairs = "attn.c_attn.lora_A [2 r, n_embd] and lora_B [2 n_embd, r], r the same in all layers"
            found = "is missing" if shape is None else f"has shape {list(shape)}"
            raise ModelError(file, f"{shown(name)} {found}", f"supported: {pairs}")
        to_float32(state[name], shape, name, file, "its other layers")
    return layers, n_embd, rank
