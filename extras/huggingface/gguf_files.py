"""A model as one .gguf file, for llama.cpp and programs built on it.

    python -m extras.huggingface.gguf_files MODEL OUT.gguf

gguf_reader.py reads such files, whoever wrote them.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project
    from program import run

    raise SystemExit(run("extras.huggingface.gguf_files", "requirements-extras.txt"))

import contextlib
import os
import re
from pathlib import Path

import numpy as np

from encoder import Encoder
from extras.huggingface.export import (
    check_loaded,
    checked_arrays,
    temporary_name,
    to_config,
    with_adapters,
)
from extras.huggingface.gguf_format import gguf_library
from extras.huggingface.gguf_reader import (
    CONTROL,
    ENDING,
    ENDS,
    NORMAL,
    QUERY_SCALES,
    UNUSED,
    USER_DEFINED,
    gguf_name,
)
from files import printable, say, shown, shown_size, similar
from names import MODELS_DIR
from utils import load_encoder_hparams_and_params

HELP = """\
python -m extras.huggingface.gguf_files MODEL OUT.gguf [--option value]

Write a model for llama.cpp, as one file.

MODEL                a model, as for gpt2.py: tiny, 124M, a folder; it is
                     checked first, as by gpt2.py --check
OUT.gguf             a new file
--type F16           how numbers are stored: F32 (the default), F16, BF16,
                     Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0 (8 to 4 bits a weight)
--lora FOLDER        an adapter to merge into it, as for gpt2.py
--weights int8       write the float32 numbers that int8, int4 or nf4
                     weights stand for
--models_dir FOLDER  for downloaded models, as for gpt2.py
"""
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")  # all that the library can make
NAME_OF_UNUSED = re.compile(r"<+\|unused\d+\|>+|\[PAD\d+\]")  # of rows without a token


def save(path, encoder, hparams, params, kind="F32"):
    """Write a language model into a new file, which appears under its name only once complete.

    kind: the type of the numbers in its matrices, one of KINDS; vectors and wpe are always float32. Raises
    ValueError for a file that exists, and for a model that llama.cpp cannot run as it is.
    """
    gguf = gguf_library()
    check_kind(kind)
    check_encoder(encoder)
    check_widths(hparams, kind)
    config = to_config(encoder, hparams, params)
    check_config(config)
    say_what_differs(encoder)
    ours = checked_arrays(hparams, params)
    arrays = {gguf_name(name): (array, name.endswith("/w")) for name, array in ours.items()}
    with new_file(path) as unnamed:
        writer = gguf.GGUFWriter(unnamed, "gpt2")
        add_sizes(writer, hparams, config, kind)
        add_vocabulary(writer, encoder)
        write_tensors(writer, arrays, kind)


def check_kind(kind):
    """Raise ValueError unless this is one of the types of numbers that can be written."""
    if kind not in KINDS:
        found = similar(str(kind), KINDS)
        question = f"; did you mean {found[0]}?" if found else ""
        raise ValueError(f"type is {kind!r:.50}, expected {', '.join(KINDS)}{question}")


def check_encoder(encoder):
    """Raise ValueError for a tokenizer unlike GPT-2's, and for too many or too few ends of a text."""
    if type(encoder) is not Encoder:
        found = (
            "the model's tokenizer works in another way than GPT-2's, which is all that llama.cpp has for it"
        )
        raise ValueError(f"{found}: for transformers or vLLM, use extras.huggingface.export")
    if not encoder.stop_ids:
        found = "no token ends the model's texts, and llama.cpp would end them at the id 11"
        raise ValueError(f"{found}: set eos_token_id in its config.json")
    if len(encoder.stop_ids) > len(ENDS):
        raise ValueError(f"{len(encoder.stop_ids)} tokens end a text, but a .gguf file names {len(ENDS)}")


def say_what_differs(encoder):
    """Say on stderr where llama.cpp would end other texts, or cut a text in another way around tokens."""
    ids = encoder.encoder
    ending = sorted(token for token in ENDING & ids.keys() if ids[token] not in encoder.stop_ids)
    if ending:
        say(f"llama.cpp ends a text at {shown(' and '.join(ending))} too, because of the name")
    beginnings = {token[:n] for token in encoder.added_tokens for n in range(1, len(token))}
    for token in sorted(encoder.added_tokens):
        if len({*token}) > 1 and any(token[n:] in beginnings for n in range(1, len(token))):
            where = f"where {shown(repr(token))} and another added token overlap"
            say(f"llama.cpp looks for the longest added token first: {where}, ids may differ")
            return


def check_widths(hparams, kind):
    """Raise ValueError for rows that blocks of 32 numbers do not fill."""
    n_embd, n_inner = hparams["n_embd"], hparams.get("n_inner", 4 * hparams["n_embd"])
    uneven = next((width for width in (n_embd, n_inner) if width % 32), None)
    if kind.startswith("Q") and uneven:
        found = f"type is {kind}, which stores 32 numbers at a time, and {uneven} is not a multiple of 32"
        raise ValueError(f"{found}: use F32, F16 or BF16")


def check_config(config):
    """Raise ValueError for another activation function: llama.cpp computes one for all GPT-2s."""
    found = config["activation_function"]
    if found != "gelu_new":
        raise ValueError(f"its activation function is {found}, but llama.cpp has only gelu_new for a GPT-2")


# ---- what is written ---------------------------------------------------------------------------------------


def add_sizes(writer, hparams, config, kind):
    """Add the fields that say what model it is."""
    gguf = gguf_library()
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"])
    if kind.startswith("Q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(hparams["n_ctx"])
    writer.add_embedding_length(hparams["n_embd"])
    writer.add_feed_forward_length(hparams.get("n_inner", 4 * hparams["n_embd"]))
    writer.add_block_count(hparams["n_layer"])
    writer.add_head_count(hparams["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    if "query_scales" in hparams:  # not for llama.cpp: for adapters added later
        scales = [float(scale) for scale in hparams["query_scales"]]
        writer.add_key_value(QUERY_SCALES, scales, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.FLOAT64)


def add_vocabulary(writer, encoder):
    """Add the tokens, what each is, the merges, and the ids that begin and end a text."""
    tokens = [encoder.decoder[token_id] for token_id in range(len(encoder.decoder))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")  # how a text is cut into words
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_types([token_type(encoder, token) for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in encoder.bpe_ranks])
    for name, stop_id in zip(ENDS, sorted(encoder.stop_ids)):
        writer.add_uint32(name, stop_id)
    begin_id = min(encoder.stop_ids) if encoder.begin_id is None else encoder.begin_id
    writer.add_bos_token_id(begin_id)
    writer.add_add_bos_token(False)


def token_type(encoder, token):  # -> int
    """What llama.cpp is to do with a token: look for it in a text, or only make it by merges."""
    if token in encoder.special_tokens:
        return CONTROL
    if token in encoder.added_tokens:
        return USER_DEFINED
    return UNUSED if token in encoder.literal_tokens and NAME_OF_UNUSED.fullmatch(token) else NORMAL


def write_tensors(writer, arrays, kind):  # arrays: {name: (array, whether it is to be transposed)}
    """Write the header, then one tensor after another, so that memory holds only one."""
    gguf = gguf_library()
    kinds = {name: kind_of(name, array, kind) for name, (array, _) in arrays.items()}
    for name, (array, is_matrix) in arrays.items():
        announce_tensor(writer, name, array.shape[::-1] if is_matrix else array.shape, kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, (array, is_matrix) in arrays.items():
        array = np.asarray(array[:], dtype=np.float32)
        array = np.ascontiguousarray(array.T if is_matrix else array)
        try:
            writer.write_tensor_data(gguf.quants.quantize(array, kinds[name]))
        except OSError as error:  # NumPy's: it says how many numbers were written, but not why
            raise OSError(f"{name} cannot be written, the disk may be full: {error}") from None
    writer.close()


def announce_tensor(writer, name, shape, kind):
    """Add a tensor to the header. What NumPy has no type for is announced as bytes."""
    in_bytes = gguf_library().quants.quant_shape_to_byte_shape(shape, kind)
    dtype = np.dtype({"F32": np.float32, "F16": np.float16}.get(kind.name, np.uint8))
    shape = in_bytes if dtype == np.uint8 else shape
    writer.add_tensor_info(name, shape, dtype, int(np.prod(in_bytes)), kind)


def kind_of(name, array, kind):  # -> gguf.GGMLQuantizationType
    """How an array is stored: vectors and wpe as float32, since a few bits would not do there."""
    is_matrix = len(array.shape) == 2 and name != gguf_name("wpe")
    return gguf_library().GGMLQuantizationType[kind if is_matrix else "F32"]


@contextlib.contextmanager
def new_file(path):  # -> Path
    """A file to write, under a temporary name: renamed if nothing goes wrong, deleted otherwise.

    Raises ValueError for a file that exists, even if another process has made it meanwhile.
    """
    path = Path(path).resolve()
    refuse_existing(path)
    with temporary_name(path) as unnamed:
        yield unnamed
        refuse_existing(path)
        os.replace(unnamed, path)


def refuse_existing(path):
    """Raise ValueError for a file or folder that exists."""
    if os.path.lexists(path):
        raise ValueError(f"{path} exists: name a new file")


def command(
    model: str = "",
    out: str = "",
    *,
    type: str = "F32",
    lora: str = None,
    weights: str = None,
    models_dir: str = MODELS_DIR,
):
    """Write a model, and an adapter merged into it, unless a file of it is damaged."""
    if not model or not out:
        usage = "python -m extras.huggingface.gguf_files MODEL OUT.gguf"
        raise ValueError(f"give a model and a file: {usage} (see --help)")
    if not out.lower().endswith(".gguf"):
        raise ValueError(f"out is {out!r:.200}: its name should end in .gguf, as programs expect")
    check_kind(type.upper())
    gguf_library()  # if it is missing, say so before a model is downloaded
    refuse_existing(Path(out))
    loaded = load_encoder_hparams_and_params(model, models_dir, lora, weights)
    check_loaded(loaded[1], "writing", model, models_dir, lora)
    save(out, *loaded, type.upper())
    n_bytes = os.path.getsize(out)
    print(printable(f"{with_adapters(model, lora)} -> {out}, {type.upper()}, {shown_size(n_bytes)}"))
