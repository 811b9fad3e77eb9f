"""Other projects' GPT-2: their names and shapes, rearranged into those of transformers.

Sources: train.py and model.py of karpathy/nanoGPT, train_gpt2.py of karpathy/build-nanogpt, karpathy/minGPT,
pkg/llms_from_scratch/ch03.py and ch04.py of rasbt/LLMs-from-scratch, loralib/layers.py of microsoft/LoRA.
"""

import re
from datetime import datetime

import numpy as np

from extras.huggingface.adapter_config import PEFT_PREFIX
from extras.huggingface.config import to_hparams
from extras.huggingface.loading import huggingface_name, is_mask
from extras.huggingface.pickle_files import Settings
from extras.huggingface.tensors import WRAPPERS
from files import AGAIN, MIXED_UP, ModelError, shown
from weights import PRESETS, shapes, to_float32

WTE, WPE, LM_HEAD = "transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"
BLOCK = re.compile(r"((?:[^.]+\.)*?)(?:transformer\.)?(?:h|trf_blocks)\.\d+\.")  # what is before a block
WRAPPED = re.compile(rf"(?:{'|'.join(WRAPPERS)})\.")
RASCHKA = (  # names in LLMs-from-scratch, and in transformers
    (r"^tok_emb\.", "transformer.wte."),
    (r"^pos_emb\.", "transformer.wpe."),
    (r"^trf_blocks\.", "transformer.h."),
    (r"^final_norm\.", "transformer.ln_f."),
    (r"^out_head\.", "lm_head."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.att\.qkv\.", ".attn.c_attn."),
    (r"\.att\.(out_)?proj\.", ".attn.c_proj."),
    (r"\.ff\.layers\.0\.", ".mlp.c_fc."),
    (r"\.ff\.layers\.2\.", ".mlp.c_proj."),
    (r"\.scale$", ".weight"),
    (r"\.shift$", ".bias"),
)
EXACT_SINCE = datetime(2023, 6, 14)  # nanoGPT's change from gelu_new to gelu, its pull request 274
USUAL_HEADS = {sizes["n_embd"]: sizes["n_head"] for name, sizes in PRESETS.items() if name != "tiny"}
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
NANOGPT, UNKNOWN = "a nanoGPT", "a GPT-2 by the names of nanoGPT"

# ---- names -------------------------------------------------------------------------------------------------


def without_prefix(state, file):  # {name: array} -> {name: array}
    """The tensors without what training put before their names, such as model., module. and _orig_mod.

    Raises ModelError for two models in one file.
    """
    names = {name: WRAPPED.sub("", name) for name in state}
    prefixes = sorted({match[1] for match in map(BLOCK.match, names.values()) if match})
    if len(prefixes) > 1:
        first, second = (shown(repr(prefix), 50) for prefix in prefixes[:2])
        found = f"it holds more than one model: under {first} and {second}"
        raise ModelError(file, found, "save one of them alone")
    for part in re.findall(r"[^.]+\.", "".join(prefixes)):
        names = {name: short.removeprefix(part) for name, short in names.items()}
    if len(set(names.values())) < len(names):
        raise ModelError(file, "two of its names differ only in what training put before them")
    return {short: state[name] for name, short in names.items()}


def renamed(state, file):  # {name: array} -> {name: array}
    """The tensors of LLMs-from-scratch by the names of transformers, queries, keys and values in one.

    Other names stay as they are.
    """
    if not any(name.startswith("trf_blocks.") for name in state):
        return state
    state = {name: array for name, array in state.items() if not name.endswith(".att.mask")}
    for query in [name for name in state if ".att.W_query." in name]:
        three = [query.replace("query", part) for part in ("query", "key", "value")]
        found = {np.shape(state.get(name)) for name in three}
        if len(found) > 1 or () in found:
            raise ModelError(file, f"{shown(', '.join(three))} are not three of the same shape")
        state[query.replace("W_query", "qkv")] = np.concatenate([state.pop(name) for name in three])
    tensors = {}
    for name, array in state.items():
        for theirs, ours in RASCHKA:
            name = re.sub(theirs, ours, name)
        tensors[name] = array
    return tensors


# ---- shapes ------------------------------------------------------------------------------------------------


def check_matrices(state, file):
    """Raise ModelError unless both embeddings are there, and a head with as many rows as wte."""
    for name in (WTE, WPE, LM_HEAD):
        if np.ndim(state.get(name)) != 2:
            raise ModelError(file, f"it has no matrix {name}", AGAIN)
    if len(state[LM_HEAD]) != len(state[WTE]):
        found = f"its head has {len(state[LM_HEAD]):,} rows, its vocabulary {len(state[WTE]):,}"
        raise ModelError(file, f"{found}: it is a classifier, not a language model")


def padded(n_tokens):  # 50257 -> [50304, 50304]
    """How many rows an embedding may have instead, so that it is faster: a multiple of 64 or of 128."""
    return [-(-n_tokens // n) * n for n in (64, 128)]


def as_in_transformers(state, n_tokens, config):  # -> {name: array}, config
    """Transpose matrices, cut off the vocabulary's padding, fill in zero biases, and read off the sizes.

    The biases are zero if there are none, or none for queries, keys and values.
    """
    matrix = re.compile(r".*\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
    tensors = {name: array.T if matrix.fullmatch(name) else array for name, array in state.items()}
    tensors |= {name: tensors[name][:n_tokens] for name in (WTE, LM_HEAD)}
    n_positions, n_embd = tensors[WPE].shape
    n_layer = sum(name.endswith(".attn.c_attn.weight") for name in tensors)
    sizes = {"vocab_size": n_tokens, "n_positions": n_positions, "n_embd": n_embd, "n_layer": n_layer}
    config = config | sizes
    table = shapes(to_hparams(config))
    biases = {f"transformer.{huggingface_name(name)}": table[name] for name in table if name.endswith("/b")}
    missing = biases.keys() - tensors.keys()
    if missing in (biases.keys(), {name for name in biases if name.endswith(".attn.c_attn.bias")}):
        tensors |= {name: np.zeros(biases[name], dtype=np.float32) for name in missing}
    return tensors, config


# ---- what a checkpoint says of itself ----------------------------------------------------------------------


def recorded_sizes(content):  # -> dict
    """The sizes that a checkpoint records: nanoGPT in a dict, build-nanogpt in a GPTConfig."""
    sizes = content.get("model_args", content.get("config"))
    sizes = vars(sizes) if isinstance(sizes, Settings) else sizes
    return sizes if isinstance(sizes, dict) and "n_head" in sizes else {}


def project_of(state, sizes):  # {name: array}, what a checkpoint records -> str
    """Which project saved a model whose matrices are [n_out, n_in]; UNKNOWN where nothing shows it."""
    if any(name.startswith("trf_blocks.") for name in state):
        return "a model of LLMs-from-scratch"
    if sizes:
        return NANOGPT if "dropout" in sizes else "a build-nanogpt"
    return "a minGPT" if any(is_mask(name, array) for name, array in state.items()) else UNKNOWN


def choose_n_head(sizes, n_head, n_embd, file):  # -> int
    """How many heads a layer has. Raises ValueError if neither file nor option says it, or they disagree."""
    by_file = sizes.get("n_head")
    if by_file is None and n_head is None:
        usual = f" ({USUAL_HEADS[n_embd]} is usual for n_embd {n_embd})" if n_embd in USUAL_HEADS else ""
        raise ValueError(f"{file} does not say how many heads a layer has: give --n_head{usual}")
    if by_file is not None and n_head not in (None, by_file):
        raise ValueError(f"{file} says that a layer has {by_file} heads, but --n_head says {n_head}")
    return n_head or by_file


def choose_activation(project, activation, file):  # -> activation, what to say of it
    """The activation function: the one given, or the project's. Raises ValueError if that is unknown."""
    if activation is not None:
        return activation, ""
    if project == NANOGPT:
        exact = datetime.fromtimestamp(file.stat().st_mtime) >= EXACT_SINCE
        return "gelu" if exact else "gelu_new", " by its date (--activation overrides that)"
    if project == UNKNOWN:
        gelus = "gelu (exact, as nanoGPT since 14 June 2023) or gelu_new (by tanh, as build-nanogpt)"
        raise ValueError(f"{file} does not say which gelu it was trained with: give --activation {gelus}")
    return "gelu_new", ""


def check_sizes(sizes, config, file):
    """Raise ModelError where the record of the sizes contradicts the tensors."""
    for name, field in {"n_layer": "n_layer", "n_embd": "n_embd", "block_size": "n_positions"}.items():
        if sizes.get(name) not in (None, config[field]):
            found = f"it records {name} as {shown(sizes[name])}, but its tensors have {config[field]}"
            raise ModelError(file, found, MIXED_UP)


# ---- Microsoft's LoRA --------------------------------------------------------------------------------------


def as_in_peft(state, file, lora_alpha):  # -> {name: array}, fields of adapter_config.json
    """Two adapters of rank r, for queries and for values, become one of rank 2 r, which peft can read.

    lora_A is [2 r, n_embd], the queries' rows above the values'; so is lora_B, [2 n_embd, r]. The product of
    the new pair adds the same to queries and values as before, and zeros to keys.
    Raises ValueError without lora_alpha, the scale.
    """
    if lora_alpha is None:
        raise ValueError(f"{file} does not record its scale: give --lora_alpha (32 in Microsoft's examples)")
    layers, n_embd, rank = check_lora(state, file)
    tensors = {}
    for layer in layers:
        b = state[f"{layer}.lora_B"]
        wide = np.zeros((3 * n_embd, 2 * rank), dtype=b.dtype)
        wide[:n_embd, :rank], wide[2 * n_embd :, rank:] = b[:n_embd], b[n_embd:]
        tensors[f"{PEFT_PREFIX}{layer}.lora_A.weight"] = state[f"{layer}.lora_A"]
        tensors[f"{PEFT_PREFIX}{layer}.lora_B.weight"] = wide
    return tensors, PEFT | {"r": 2 * rank, "lora_alpha": 2 * lora_alpha}  # lora_alpha / r, as before


def check_lora(state, file):  # -> names of layers, n_embd, r
    """Raise ModelError unless every layer has a pair of the same shapes, and nothing else is there."""
    pairs = "attn.c_attn.lora_A [2 r, n_embd] and lora_B [2 n_embd, r], r the same in all layers"
    supported = f"supported: {pairs}"
    for name in sorted(state):
        if not re.fullmatch(r"transformer\.h\.\d+\.attn\.c_attn\.lora_[AB]", name):
            raise ModelError(file, f"{shown(name)} is unknown", supported)
    layers, wanted = sorted({name.rpartition(".")[0] for name in state}), {}
    n_embd = np.atleast_2d(state.get(f"{layers[0]}.lora_A", 0)).shape[1]
    rank = np.atleast_2d(state.get(f"{layers[0]}.lora_B", 0)).shape[1]
    for layer in layers:
        wanted |= {f"{layer}.lora_A": (2 * rank, n_embd), f"{layer}.lora_B": (2 * n_embd, rank)}
    for name, wanted_shape in wanted.items():
        shape = state[name].shape if name in state else None
        if shape != wanted_shape or 0 in shape:
            found = "is missing" if shape is None else f"has shape {list(shape)}"
            raise ModelError(file, f"{shown(name)} {found}", supported)
        to_float32(state[name], shape, name, file, "its other layers")
    return layers, n_embd, rank
