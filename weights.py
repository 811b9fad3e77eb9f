"""What a GPT-2 holds: its sizes by name, the shape of every array, checks, random weights, and their nesting.

One table, `shapes(hparams)`, serves the checks at load, random weights, the parameter count, and export.
Arrays are named as in OpenAI's checkpoints: wte, wpe, h0/attn/c_attn/w ... h11/mlp/c_proj/b, ln_f/g, ln_f/b.
"""

import math
import re

import numpy as np

from files import AGAIN, MIXED_UP, ModelError, say, shown

PRESETS = {  # hparams by model name: the one included here, and OpenAI's (Radford et al. 2019, table 2)
    "tiny": {"n_vocab": 4000, "n_ctx": 256, "n_embd": 192, "n_head": 6, "n_layer": 6},
    "124M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12},
    "355M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1024, "n_head": 16, "n_layer": 24},
    "774M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1280, "n_head": 20, "n_layer": 36},
    "1558M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1600, "n_head": 25, "n_layer": 48},
}
BFLOAT16 = np.dtype([("bfloat16", "<u2")])  # which NumPy lacks: the upper half of a float32
MANY = 250_000_000  # weights that may take longer than a second to read
LARGEST_WEIGHT = 1e4  # far above any trained one (4.7 in the bundled model); from 1e19 on, squares overflow
# the largest value that is accepted for each size
LARGEST = {"n_vocab": 10**6, "n_ctx": 10**6, "n_embd": 10**5, "n_head": 10**3, "n_layer": 10**3}


def check_hparams(hparams, names=None):
    """Raise ValueError unless these are the sizes of a GPT-2.

    n_inner, the width of the MLP, may be among them. names: {size: its name in the file}, where that
    differs.
    """
    if not isinstance(hparams, dict):
        raise ValueError(f"the sizes of a model are a dict of {', '.join(LARGEST)}, not {hparams!r}")
    names = names or {}
    largest = LARGEST | ({"n_inner": 10**6} if "n_inner" in hparams else {})
    for size, most in largest.items():
        value = hparams.get(size)
        if type(value) is not int or not 0 < value <= most:
            name = names.get(size, size)
            raise ValueError(f"{name} is {value!r:.50}, expected a whole number from 1 to {most:,}")
    if hparams["n_embd"] % hparams["n_head"] != 0:
        raise ValueError(f"n_embd {hparams['n_embd']} is not a multiple of n_head {hparams['n_head']}")


def shapes(hparams):  # -> {name: shape}
    """The shape of every array in a GPT-2, by OpenAI's name. Raises what `check_hparams` raises."""
    check_hparams(hparams)
    n_vocab, n_ctx, n_embd = hparams["n_vocab"], hparams["n_ctx"], hparams["n_embd"]
    n_inner = hparams.get("n_inner", 4 * n_embd)
    table = {"wte": (n_vocab, n_embd), "wpe": (n_ctx, n_embd), "ln_f/g": (n_embd,), "ln_f/b": (n_embd,)}
    for layer in range(hparams["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            table |= {f"h{layer}/{norm}/g": (n_embd,), f"h{layer}/{norm}/b": (n_embd,)}
        for name, n_in, n_out in (
            ("attn/c_attn", n_embd, 3 * n_embd),
            ("attn/c_proj", n_embd, n_embd),
            ("mlp/c_fc", n_embd, n_inner),
            ("mlp/c_proj", n_inner, n_embd),
        ):
            table |= {f"h{layer}/{name}/w": (n_in, n_out), f"h{layer}/{name}/b": (n_out,)}
    return table


def count(hparams):  # -> int
    """The number of parameters of a GPT-2: 124,439,808 for PRESETS["124M"]."""
    return sum(math.prod(shape) for shape in shapes(hparams).values())


def random_params(hparams, rng):  # -> params
    """An untrained GPT-2, initialized at random as OpenAI did it (Radford et al. 2019, 2.3, and their code).

    Matrices are normal with standard deviation 0.02, wpe with 0.01; the two matrices of each block that write
    into the residual stream are divided by √(2 n_layer), so that their sum does not grow with depth.
    hparams: such as PRESETS["355M"], or sizes of your own; rng: a np.random.Generator. Raises what
    `check_hparams` raises.
    """

    def draw(name, shape):
        if len(shape) == 1:
            return np.full(shape, name.endswith("/g"), dtype=np.float32)  # scales are 1, biases 0
        std = 0.01 if name == "wpe" else 0.02
        if "c_proj" in name:
            std /= (2 * hparams["n_layer"]) ** 0.5
        return rng.standard_normal(shape, dtype=np.float32) * std

    return nest({name: draw(name, shape) for name, shape in shapes(hparams).items()})


def nest(arrays):  # {"h0/mlp/c_fc/w": array, ...} -> {"blocks": [{"mlp": {"c_fc": {"w": array, ...}}}], ...}
    """Arrange named arrays into the dicts and the list that `gpt2.gpt2` takes as keyword arguments."""
    params, blocks = {}, {}
    for name, array in arrays.items():
        *path, leaf = name.split("/")
        node = params
        for step in path:
            block = re.fullmatch(r"h(\d+)", step)
            node = blocks.setdefault(int(block[1]), {}) if block else node.setdefault(step, {})
        node[leaf] = array
    return params | {"blocks": [blocks[layer] for layer in sorted(blocks)]}


def flatten(params):  # -> {"h0/mlp/c_fc/w": array, ...}
    """The inverse of `nest`."""
    blocks = {f"h{layer}": block for layer, block in enumerate(params.get("blocks", []))}
    arrays = {}
    for name, node in (params | blocks).items():
        if isinstance(node, dict):
            arrays |= {f"{name}/{path}": array for path, array in flatten(node).items()}
        elif name != "blocks":
            arrays[name] = node
    return arrays


def to_params(arrays, hparams, source, hparams_file="hparams.json", original_name=str):  # -> params
    """Check arrays, wherever they came from, against `shapes(hparams)`, widen them to float32, and nest them.

    arrays: {OpenAI's name: array}. Raises ModelError for a missing or unknown name, a wrong shape or dtype,
    NaN or ∞; it names the source, the hparams_file, and each array by its original_name in the source. A line
    on stderr says that it begins, if it may take longer than a second.
    """
    table = shapes(hparams)
    say_if_many(hparams)
    check_names(arrays, table, source, hparams_file, original_name)
    checked = {}
    for name, shape in table.items():
        checked[name] = to_float32(arrays[name], shape, original_name(name), source, hparams_file)
    return nest(checked)


def check_names(arrays, table, source, hparams_file, original_name=str):
    """Raise ModelError, worded as in `to_params`, unless arrays have the names in a table, and no others."""
    missing, unknown = table.keys() - arrays.keys(), arrays.keys() - table.keys()
    for problem, names in (("is missing", missing), ("is unknown", unknown)):
        if names:
            found = f"{shown(min(map(original_name, names)))} {problem} ({len(names)} in all)"
            raise ModelError(source, f"according to {hparams_file}, {found}", MIXED_UP)


def say_if_many(hparams):
    """Say on stderr that weights are read, if that may take longer than a second."""
    if count(hparams) > MANY:
        say(f"reading {count(hparams) / 1e6:,.0f} million weights")


def to_float32(array, shape, name, source, hparams_file):  # -> array of float32
    """Check one array, and widen float16 and BFLOAT16. Raises ModelError, worded as in `to_params`.

    Very large weights make finite logits without meaning, where a norm's variance has overflowed.
    """
    if array.shape != shape:
        found = f"{name} has shape {list(array.shape)}, but {list(shape)} according to {hparams_file}"
        raise ModelError(source, found, MIXED_UP)
    if array.dtype == BFLOAT16:
        array = (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    if array.dtype not in (np.float32, np.float16):
        raise ModelError(source, f"{name} is {array.dtype}, not float32 or float16", "save it as float32")
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ModelError(source, f"{name} holds NaN or infinity", AGAIN)
    if max(-low, high) > LARGEST_WEIGHT:
        found = f"{name} holds {low if -low > high else high:.3g}"
        raise ModelError(source, f"{found}, but no trained weight is above {LARGEST_WEIGHT:,.0f}", AGAIN)
    return array.astype(np.float32, copy=False)
