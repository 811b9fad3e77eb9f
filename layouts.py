"""Which files make a model: the folder that a name means, its layout, and which checkpoint is read in it."""

import json
import os
import re
from itertools import islice, takewhile
from pathlib import Path

from files import PICKLES, ModelError, quoted, shown

SIZES, CHECKPOINT = "hparams.json", "model.ckpt"  # in OpenAI's layout; the second is a prefix of two files
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")  # whole, or in shards
GGUF = ".gguf"  # of llama.cpp
QUANTIZED = "quantized.safetensors"  # as extras/quantize.py saves it
THEIRS = ("config.json", *SAFETENSORS, QUANTIZED)  # in Hugging Face's layout
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # of peft
TOKENS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")  # any of them shows a tokenizer
OF_TOKENIZER = (  # the files of a tokenizer in Hugging Face's layout
    *(*TOKENS, "tokenizer.model", "merges.txt", "added_tokens.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "chat_template.jinja"),
)
PARTS = {  # names of a model's files, whoever wrote them; SHARD and OF_CHECKPOINT are the rest
    *(SIZES, "encoder.json", "vocab.bpe", "checkpoint", "counter"),
    *(*THEIRS, "generation_config.json", ADAPTER_CONFIG, ADAPTER_WEIGHTS),
    *OF_TOKENIZER,
}
BESIDE = re.compile(  # files that lie beside a model, and hold no other
    r".*\.(json|txt|md|jinja)|LICENSE|\.gitattributes|pytorch_model\.bin|tf_model\.h5|flax_model\.msgpack"
    r"|(optimizer|scheduler|scaler|rng_state|training_args)\w*\.(bin|pt|pth)"
)
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
OF_CHECKPOINT = re.compile(r"(.+)\.(?:index|meta|data-\d{5}-of-\d{5})")
# in a protocol buffer written as text: a comment, a string, a word, anything else
TOKEN = re.compile(r"""#.*|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|[\w.+-]+|\S""")
ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
SPACES = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
LIMIT = 10_000  # of a folder's entries are looked at
LONGEST = 2**20  # bytes that are read of the file `checkpoint`

# ---- folders -----------------------------------------------------------------------------------------------


def folder_of(name):  # -> Path, or None
    """The folder that a name means: the name is its path, or that of a file of a model in it.

    Raises ModelError for a file of a checkpoint other than the one that is read in its folder.
    """
    if os.path.isdir(name):
        return Path(name)
    if not is_part_of_model(name):
        return None
    folder, last = Path(os.path.dirname(name) or "."), os.path.basename(name)
    part = OF_CHECKPOINT.fullmatch(last)
    if os.path.isfile(f"{name}.index") or part:
        given = part[1] if part else last
        read = latest_checkpoint(folder, given).name
        if given != read:
            problem = f"not the checkpoint that is read in its folder, {shown(read)}"
            raise ModelError(name, problem, f"to read this one, {how_to_name(given, folder)}")
    return folder


def is_part_of_model(name):  # -> bool
    """Whether this is the path of a file of a model, or what the two files of its checkpoint begin with.

    What may lie in any folder counts only in the folder of a model.
    """
    folder, last = Path(os.path.dirname(name) or "."), os.path.basename(name)
    if os.path.isfile(name) and (last in PARTS or SHARD.fullmatch(last)):
        return True
    if os.path.isfile(f"{name}.index") or (os.path.isfile(name) and OF_CHECKPOINT.fullmatch(last)):
        return layout_of(folder) == "openai"
    return bool(os.path.isfile(name) and BESIDE.fullmatch(last) and layout_of(folder))


def layout_of(folder):  # Path -> "openai", "huggingface", or None where there is no model
    """The layout of the model in a folder, judged by its files. Raises ModelError for files of both."""
    theirs = next((name for name in THEIRS if os.path.lexists(folder / name)), None)
    if theirs and is_adapter_alone(folder):
        return None
    ours = os.path.lexists(folder / SIZES)
    if ours and theirs:
        problem = f"it has {SIZES}, from OpenAI's layout, and {theirs}, from Hugging Face's"
        raise ModelError(folder, problem, "give each model a folder of its own")
    if ours or theirs:
        return "openai" if ours else "huggingface"
    has_vocabulary = any(os.path.lexists(folder / name) for name in ("encoder.json", "vocab.bpe"))
    found = checkpoints_in(folder)
    return "openai" if CHECKPOINT in found or (found and has_vocabulary) else None


def is_adapter_alone(folder):  # Path -> bool
    """Whether a folder has an adapter and no weights of a model; the model's config.json may be there."""
    has_weights = any(os.path.lexists(folder / name) for name in (*SAFETENSORS, QUANTIZED))
    return os.path.lexists(folder / ADAPTER_CONFIG) and not has_weights


def gguf_of(name):  # -> Path, or None
    """The .gguf file that a name means: its path, or a folder with one and no other weights."""
    if os.path.isfile(name):
        return Path(name) if str(name).lower().endswith(GGUF) else None
    if not os.path.isdir(name):
        return None
    names = [entry.name for entry in entries_in(name) if os.path.isfile(entry.path)]
    found = [each for each in names if each.lower().endswith(GGUF)]
    others = [each for each in names if each == SIZES or each.endswith((".safetensors", ".index", *PICKLES))]
    return Path(name) / found[0] if len(found) == 1 and not others else None


def entries_in(folder):  # -> list of os.DirEntry
    """The files and folders in a folder, sorted by name; model-500 comes before model-1000.

    Of very many, only some: this takes a moment at most.
    """
    with os.scandir(folder) as entries:
        return sorted(islice(entries, LIMIT), key=lambda entry: by_number(entry.name))


def by_number(name):  # "model-1000" -> ["model-", 1000, ""]
    """What to sort names by, so that a smaller number comes first."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", name))]


# ---- TensorFlow's checkpoints ------------------------------------------------------------------------------


def latest_checkpoint(folder, wanted=None):  # Path -> Path, such as "run1/model-1000"
    """What the names of a model's two checkpoint files begin with. wanted: the one that advice is about.

    As in TensorFlow, it is the one that the file `checkpoint` names; without that file, model.ckpt, or the
    only one there is. Raises ModelError where several are left, and where the one that is named is missing.
    """
    named = named_checkpoint(folder)
    expected = named or CHECKPOINT
    if os.path.isfile(folder / f"{expected}.index"):
        return folder / expected
    found = checkpoints_in(folder)
    if not found:
        return folder / expected
    if found == [CHECKPOINT] or (len(found) == 1 and not named):  # model.ckpt may be renamed by hand
        return folder / found[0]
    there = shown(", ".join(found))
    if named:
        problem = f"its file checkpoint names {shown(named)}, which is missing; there is only {there}"
    else:
        problem = f"it has several checkpoints, {there}, and no file says which one to read"
    choice = wanted or found[-1]
    raise ModelError(folder, problem, f"to read {shown(choice)}, {how_to_name(choice, folder)}")


def checkpoints_in(folder):  # -> list of str
    """What the names of the checkpoints in a folder begin with."""
    names = (entry.name for entry in entries_in(folder))
    return [name.removesuffix(".index") for name in names if re.fullmatch(r".+\.index", name, re.DOTALL)]


def how_to_name(checkpoint, folder):  # -> str
    """How to say which checkpoint is to be read."""
    line = f"model_checkpoint_path: {json.dumps(checkpoint, ensure_ascii=False)}"
    return f"write {line} into {quoted(folder / 'checkpoint')}"


def named_checkpoint(folder):  # -> str, or None
    """The checkpoint that a folder's file `checkpoint` names, where TensorFlow notes what it saved last.

    Of a path only the last part counts, as the folder may have been moved. None if the file names nothing.
    """
    path = folder / "checkpoint"
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        content = file.read(LONGEST)
    try:
        named = text_field(content.decode(), "model_checkpoint_path")
    except UnicodeDecodeError:
        return None
    return re.split(r"[/\\]", named)[-1] or None


def text_field(text, field):  # 'a: 5  b: "x" "y"', "b" -> "xy"
    """The value of a field, a string, in a protocol buffer that is written as text; "" where it is missing.

    The last value counts. Raises UnicodeDecodeError for one that is not UTF-8.
    """
    tokens = [token for token in TOKEN.findall(text) if not token.startswith("#")]
    starts = [i + 2 for i in range(len(tokens)) if tokens[i : i + 2] == [field, ":"]]
    parts = takewhile(is_string, islice(tokens, starts[-1], None)) if starts else []
    return b"".join(ESCAPE.sub(unescaped, part[1:-1].encode()) for part in parts).decode()


def is_string(token):  # -> bool
    """Whether a token is a string with both of its quotes."""
    return len(token) > 1 and token[0] in "\"'" and token[-1] == token[0]


def unescaped(match):  # rb"\303" -> b"\xc3"
    r"""The byte for an escape such as \n, \" or \303."""
    octal, hexadecimal, other = match.groups()
    if octal or hexadecimal:
        return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 255])
    return SPACES.get(other, other)
