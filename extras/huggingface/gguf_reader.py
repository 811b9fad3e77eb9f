"""A GPT-2 in a .gguf file of llama.cpp: encoder, hparams, params, as loading.py returns them.

Its matrices may be quantized in any way that llama.cpp knows: here they become the float32 numbers that they
stand for, and `--weights int8` quantizes them anew. Beside what gguf_format.py checks, these are compared:

    the sizes        with the shapes of all tensors; nothing confirms n_head and eps
    the vocabulary   its tokens, their types and merges with each other, its length with the embedding
    the tensors      names and shapes with the sizes; numbers are finite and not huge

llama.cpp computes one activation function for a GPT-2, the tanh form of GELU, and so does this.

(gguf-py/gguf/constants.py, src/llama-vocab.cpp and src/models/gpt2.cpp of llama.cpp)
"""

from collections import Counter
from functools import partial

import numpy as np

import weights
from encoder import Encoder
from extras.huggingface.config import is_scales
from extras.huggingface.gguf_format import read_gguf, to_array
from extras.huggingface.vocabulary import check_merges, ends_of_text, is_part
from extras.recognise import GET
from extras.untied import UntiedEmbedding
from files import AGAIN, ModelError, say, shown

SIZES = {  # by the names of fields
    "n_ctx": "gpt2.context_length",
    "n_embd": "gpt2.embedding_length",
    "n_head": "gpt2.attention.head_count",
    "n_layer": "gpt2.block_count",
    "n_inner": "gpt2.feed_forward_length",
}
QUERY_SCALES = "plaingpt.query_scales"  # a note of gguf_files.py, as that of export.py in config.json
EPSILON = "gpt2.attention.layer_norm_epsilon"
# how llama.cpp cuts a text into pieces: all these names mean GPT-2's way
GPT2S = {"gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "modern-bert", "roberta-bpe", "mpt"}
GPT2S |= {"jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code"}
GPT2S |= {"olmo", "jais", "trillion", "granite-docling"}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of tokens
ENDS = [f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom")]
BEGIN = "tokenizer.ggml.bos_token_id"
ENDING = {  # tokens that end a text in llama.cpp because of their names, whatever a file says of them
    *("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<EOT>"),
    *("_<EOT>", "[EOT]", "<|return|>", "<|call|>", "<end_of_turn>", "<end_of_utterance>"),
}
TENSORS = {  # in a block, by OpenAI's names
    "ln_1": "attn_norm",
    "attn/c_attn": "attn_qkv",
    "attn/c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp/c_fc": "ffn_up",
    "mlp/c_proj": "ffn_down",
}
HEAD = "output.weight"  # of a model whose head is not tied, and of some whose is
HEADER = "its header"


def open_model(path):  # -> Encoder, hparams, () -> params
    """What is needed to check a prompt, and a function that then reads the weights.

    Raises ModelError for a file that is damaged, that holds another model, or is only a part of one.
    """
    fields, tensors = read_gguf(path)
    check_kind(path, fields)
    hparams, epsilon = read_sizes(path, fields), read_epsilon(path, fields)
    encoder = read_encoder(path, fields)
    theirs = {gguf_name(name): None for name in weights.shapes(hparams)}
    weights.check_names({name: None for name in tensors if name != HEAD}, theirs, path, HEADER)
    return encoder, hparams, partial(load_params, path, tensors, hparams, epsilon)


def check_kind(path, fields):
    """Raise ModelError unless the file holds a whole GPT-2."""
    kind, architecture = (fields.get(f"general.{name}") for name in ("type", "architecture"))
    if kind not in (None, "model"):
        advice = "give the .gguf of the model itself, without it"
        raise ModelError(path, f"it holds no model: its general.type is {shown(repr(kind))}", advice)
    if architecture != "gpt2":
        problem = f"its architecture is {shown(architecture)}, expected gpt2"
        raise ModelError(path, problem, "llama.cpp runs other models")
    n_files = fields.get("split.count", 1)
    if n_files not in (0, 1):
        problem = f"it is one of {shown(n_files)} files that make a model"
        raise ModelError(path, problem, "join them: llama-gguf-split --merge FIRST.gguf OUT.gguf")


def read_sizes(path, fields):  # -> hparams
    """The sizes of the model. Raises ModelError for wrong ones, and for another attention than GPT-2's."""
    hparams = {size: fields.get(name) for size, name in SIZES.items()}
    tokens = fields.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list):
        raise ModelError(path, "it has no tokenizer.ggml.tokens, so it lacks its tokenizer", GET)
    hparams["n_vocab"] = len(tokens)
    try:
        weights.check_hparams(hparams, SIZES | {"n_vocab": "the length of tokenizer.ggml.tokens"})
    except ValueError as error:
        raise ModelError(path, error, AGAIN) from None
    if hparams["n_inner"] == 4 * hparams["n_embd"]:
        del hparams["n_inner"]
    check_attention(path, fields, hparams)
    if QUERY_SCALES in fields:
        hparams["query_scales"] = scales = fields[QUERY_SCALES]
        if not is_scales(scales, hparams["n_layer"]):
            found = f"{QUERY_SCALES} is {shown(scales, 50)}, expected a positive number for each layer"
            raise ModelError(path, found, AGAIN)
    return hparams


def read_epsilon(path, fields):  # -> float
    """What is added to the variance in a norm: the shortest number that is the same in float32."""
    epsilon = fields.get(EPSILON)
    if not (isinstance(epsilon, float) and 0 < epsilon < 1):
        raise ModelError(path, f"{EPSILON} is {shown(epsilon)}, expected a number such as 1e-05", AGAIN)
    return float(str(np.float32(epsilon)))


def check_attention(path, fields, hparams):
    """Raise ModelError for a field that makes attention different from GPT-2's."""
    n_head, d_head = hparams["n_head"], hparams["n_embd"] // hparams["n_head"]
    usual = {"head_count_kv": n_head, "key_length": d_head, "value_length": d_head, "causal": True}
    for name, expected in usual.items():
        name = f"gpt2.attention.{name}"
        found = fields.get(name, expected)
        if found != expected:
            raise ModelError(path, f"{name} is {shown(found)}, expected {expected} as in GPT-2", GET)


# ---- the vocabulary ----------------------------------------------------------------------------------------


def read_encoder(path, fields):  # -> Encoder
    """The tokenizer. Tokens of type CONTROL are special; those of type USER_DEFINED are found in any text.

    Raises ModelError for a kind other than GPT-2's, and for parts that do not belong together.
    """
    check_tokenizer(path, fields)
    tokens, types, merges = token_lists(path, fields)
    added = {token: kind for token, kind in types.items() if kind not in (NORMAL, BYTE)}
    special = {token for token, kind in added.items() if kind in (CONTROL, UNKNOWN)}
    wanted = {token for token, kind in added.items() if kind != UNUSED and token}
    try:
        check_merges(with_parts(tokens, merges), merges, added)
    except ValueError as error:
        raise ModelError(path, f"its vocabulary is not supported: {error}", AGAIN) from None
    ids = token_ids(path, fields, len(tokens))
    stops = [ids[name] for name in ENDS if name in ids] + [tokens[token] for token in ENDING & tokens.keys()]
    stops, begin = ends_of_text(tokens, special, stops, ids.get(BEGIN))
    options = {"added_groups": longest_first(wanted), "special_tokens": special & wanted}
    return Encoder(tokens, merges, stop_tokens=stops, begin_token=begin, **options)


def longest_first(tokens):  # -> list of sets
    """The tokens by length: llama.cpp looks for the longest in the whole text, then for the next."""
    lengths = {token: len(token.encode()) for token in tokens}
    wanted = sorted({*lengths.values()}, reverse=True)
    return [{token for token in tokens if lengths[token] == length} for length in wanted]


def check_tokenizer(path, fields):
    """Raise ModelError unless a text is prepared as in GPT-2; say on stderr what else llama.cpp would do."""
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise ModelError(path, f"its tokenizer.ggml.model is {shown(model)}, expected gpt2", GET)
    if pre is None:
        say(f"{path}: it has no tokenizer.ggml.pre, so a text is cut into words as in GPT-2")
    elif not isinstance(pre, str) or pre not in GPT2S:
        raise ModelError(path, f"its tokenizer.ggml.pre is {shown(pre)}, expected gpt-2", GET)
    around = [end for end in ("bos", "eos") if fields.get(f"tokenizer.ggml.add_{end}_token") is True]
    if around:
        what = " and ".join(f"the {end} token" for end in around)
        say(f"{path}: llama.cpp adds {what} to a text; here, add it yourself, with --special")


def token_lists(path, fields):  # -> {token: id}, {token: type}, [(token, token), ...]
    """The tokens, what each is, and the merges. Raises ModelError unless the lists have what they should."""
    tokens, merges = fields.get("tokenizer.ggml.tokens"), fields.get("tokenizer.ggml.merges")
    types = fields.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    for name, found, kind in (("tokens", tokens, str), ("merges", merges, str), ("token_type", types, int)):
        if not (isinstance(found, list) and all(type(each) is kind for each in found)):
            raise ModelError(path, f"tokenizer.ggml.{name} is missing, or of the wrong type", AGAIN)
    if len(types) != len(tokens):
        raise ModelError(path, f"it has {len(tokens):,} tokens, but {len(types):,} types of tokens", AGAIN)
    if unknown := {*types} - {*range(NORMAL, BYTE + 1)}:
        raise ModelError(path, f"a token is of type {min(unknown)}, which is unknown", AGAIN)
    if len({*tokens}) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise ModelError(path, f"the token {shown(repr(twice))} is given twice", AGAIN)
    types = dict(zip(tokens, types))
    types |= dict.fromkeys(ENDING & types.keys(), CONTROL)  # as llama.cpp mends them
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    return ids, types, [tuple(merge.split(" ")) for merge in merges]


def with_parts(tokens, merges):  # {token: id}, merges -> {token: id}
    """The tokens, and the parts of characters that only merges use: they need no rows of their own."""
    parts = {part for merge in merges for part in merge if part not in tokens and is_part(part)}
    return tokens | {part: len(tokens) + i for i, part in enumerate(sorted(parts))}


def token_ids(path, fields, n_vocab):  # -> {field: id}
    """The ids that begin and end a text. Raises ModelError for one that no token has."""
    found = {name: fields[name] for name in (*ENDS, BEGIN) if name in fields}
    for name, token_id in found.items():
        if type(token_id) is not int or not 0 <= token_id < n_vocab:
            raise ModelError(path, f"{name} is {shown(token_id)}, but ids run from 0 to {n_vocab - 1}", AGAIN)
    return found


# ---- the weights -------------------------------------------------------------------------------------------


def gguf_name(name):  # "h0/attn/c_attn/w" -> "blk.0.attn_qkv.weight"
    """llama.cpp's name for one of OpenAI's arrays, and for "lm_head"."""
    whole = {"wte": "token_embd.weight", "wpe": "position_embd.weight", "lm_head": HEAD}
    if name in whole:
        return whole[name]
    *path, leaf = name.split("/")
    last = "bias" if leaf == "b" else "weight"
    if path == ["ln_f"]:
        return f"output_norm.{last}"
    return f"blk.{path[0][1:]}.{TENSORS['/'.join(path[1:])]}.{last}"


def load_params(path, tensors, hparams, epsilon):  # -> params
    """The weights for `gpt2.gpt2`: float32, memory-mapped if the file is float32 too.

    A file holds each matrix transposed, [n_out, n_in]. A mapped one stays so, and is used as a view, which is
    as fast for one token and half as fast for eight; others are copied. Raises ModelError for tensors that do
    not fit hparams.
    """
    theirs = {name: gguf_name(name) for name in weights.shapes(hparams)}
    arrays = {}
    for name, their_name in theirs.items():
        array, is_mapped = numbers(path, their_name, tensors[their_name]), tensors[their_name].kind == "F32"
        if name.endswith("/w"):
            array = array.T if is_mapped else np.ascontiguousarray(array.T)
        arrays[name] = array
    params = weights.to_params(arrays, hparams, path, HEADER, theirs.get)
    if HEAD in tensors:
        params["wte"] = with_head(path, params["wte"], numbers(path, HEAD, tensors[HEAD]))
    if epsilon != 1e-5:
        norms = [block[name] for block in params["blocks"] for name in ("ln_1", "ln_2")]
        for norm in [params["ln_f"], *norms]:
            norm["eps"] = epsilon
    return params


def numbers(path, name, tensor):  # -> array of float32
    """The numbers of a tensor. Raises ModelError for a type that cannot be read."""
    try:
        return to_array(tensor)
    except NotImplementedError:
        raise ModelError(path, f"{shown(name)} is of type {tensor.kind}, which cannot be read", GET) from None


def with_head(path, wte, head):  # two of [n_vocab, n_embd] -> wte
    """The embedding, paired with the file's head if that differs from it."""
    head = weights.to_float32(head, wte.shape, HEAD, path, HEADER)
    return wte if np.array_equal(head, wte) else UntiedEmbedding(wte, head)
