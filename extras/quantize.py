"""Quantize a model, to weights of eight or four bits instead of 32: in memory, or saved in a folder.

    python gpt2.py "The little fox" --weights int4
    python -m extras.quantize MODEL OUT_FOLDER --weights int4

The model's code stays the same: in params, the objects of quantized.py, which answer x @ w, take the place of
matrices.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("extras.quantize", "requirements-extras.txt"))

from pathlib import Path

import numpy as np

from extras.huggingface.export import load_checked, with_adapters, write_model
from extras.huggingface.quantized_file import to_tensors
from extras.lora import LowRank
from extras.quantized import class_for, kind_of_weights
from extras.untied import apart, together
from files import printable, shown_size
from layouts import QUANTIZED
from names import MODELS_DIR, check_kind_of_weights

HELP = """\
python -m extras.quantize MODEL OUT_FOLDER --weights KIND [--option value]

Save a model with weights of eight or four bits. Give the new folder to other
programs as --model_size OUT_FOLDER.

MODEL                a model, as for gpt2.py: tiny, 124M, a folder; it is
                     checked first, as by gpt2.py --check
OUT_FOLDER           a new folder
--weights KIND       int8, int4 or nf4
--lora FOLDER        an adapter to merge into it, as for gpt2.py
--models_dir FOLDER  for downloaded models, as for gpt2.py
"""


def quantize(params, kind):  # -> params
    """New params with "int8", "int4" or "nf4" matrices; "nf4" leaves wte and the head in float32.

    All other arrays are shared, and so are matrices that have this kind of weights already. Raises ValueError
    for params that have another kind, or an adapter attached.
    """
    from tqdm import tqdm

    check_kind_of_weights(kind)
    if kind_of_weights(params) not in (None, kind):
        found = f"the model's are {kind_of_weights(params)} already"
        raise ValueError(f"weights is {kind!r}, but {found}: start from its float32 weights")
    leaves = apart(params)
    is_tied = leaves["wte"] is leaves["lm_head"]
    names = [name for name in leaves if class_for(name, kind) and not (is_tied and name == "lm_head")]
    for name in tqdm(names, f"quantizing to {kind}", disable=None):
        leaves[name] = quantize_matrix(name, leaves[name], kind)
    if is_tied:
        leaves["lm_head"] = leaves["wte"]
    return together(leaves)


def quantize_matrix(name, matrix, kind):  # [n_in, n_out] -> Transposed; for wte and the head -> Rows
    """One matrix, unless it is of this kind already. Raises ValueError if it is of another."""
    rows = class_for(name, kind)
    if isinstance(matrix, np.ndarray):
        return rows.of(matrix.T).T if name.endswith("/w") else rows.of(matrix)
    if isinstance(matrix, LowRank):
        raise ValueError(f"{name} has an adapter beside it: quantize the base, then attach the adapter")
    found = type(matrix.T if name.endswith("/w") else matrix)
    if found is not rows:
        raise ValueError(f"weights is {kind!r}, but {name} is {found.__name__}: start from float32 weights")
    return matrix


def save(folder, encoder, hparams, params):
    """Write a quantized model into a new or empty folder, which appears under its name only once complete.

    The files: config.json and the tokenizer, as `export.save` writes them, and quantized.safetensors. Raises
    ValueError for a folder that is not empty, and for params that are not quantized, or of other sizes.
    """
    write_model(folder, encoder, hparams, params, QUANTIZED, *to_tensors(hparams, params))


def command(
    model: str = "",
    out_folder: str = "",
    *,
    weights: str = "",
    lora: str = None,
    models_dir: str = MODELS_DIR,
):
    """Save a model with quantized weights, unless one of its files is damaged."""
    if not model or not out_folder or not weights:
        usage = "python -m extras.quantize MODEL OUT_FOLDER --weights int4"
        raise ValueError(f"give a model, a folder and the kind of weights: {usage} (see --help)")
    check_kind_of_weights(weights)
    encoder, hparams, params = load_checked(out_folder, "quantizing", model, models_dir, lora)
    save(out_folder, encoder, hparams, quantize(params, weights))
    n_bytes = (Path(out_folder) / QUANTIZED).stat().st_size
    source = with_adapters(model, lora)
    print(printable(f"{source} -> {out_folder}, {weights}, {shown_size(n_bytes)}"))
