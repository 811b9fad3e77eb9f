"""Any GPT-2 in the layout of Hugging Face transformers, from the hub or a folder: encoder, hparams, params.

hub finds the files; config reads the sizes and variants; tensors reads the arrays (with conversion_bot, where
there is only a pickle); vocabulary reads the tokens (with tokenizer_classes, added_tokens, prepared,
other_tokenizers and sentencepiece_files); variants changes params where a model differs from OpenAI's. Beside
them: adapters, task_heads, export, convert and its helpers.
Where a function's first argument is `model`, it is a folder, or "owner/name" or "owner/name@revision".

All that decides a token or a number is compared with something where that is possible:

    config.json          the shapes of all tensors; n_head, eps and variants cannot be checked
    the vocabulary       its tokens, merges and added tokens with each other
    *.safetensors        its header, in which each byte of the file belongs to one tensor; config.json, for
                         names and shapes; numbers are finite and not huge, but there are no checksums
    files from the hub   their digests, by `--check` (extras/check.py)

(modeling_gpt2.py of transformers)
"""

import re
from functools import partial

import numpy as np

import weights
from extras.huggingface import vocabulary
from extras.huggingface.config import read_config, to_hparams
from extras.huggingface.hub import find_file, how_again
from extras.huggingface.tensors import HEADS, read_tensors
from extras.huggingface.variants import query_scales, set_variants
from extras.untied import UntiedEmbedding, is_tied
from files import MIXED_UP, ModelError, fresh_copy, read_json, say, shown
from layouts import ADAPTER_CONFIG, QUANTIZED, SAFETENSORS

LANGUAGE_MODELS = {  # classes of transformers, then of TRL; some have another head as well
    *("GPT2LMHeadModel", "GPT2Model", "GPT2DoubleHeadsModel"),
    *("GPT2HeadWithValueModel", "AutoModelForCausalLMWithValueHead"),
}


def load(model):  # -> Encoder, hparams, params
    """Load a language model.

    hparams are the five sizes; "n_inner" where it is not 4 n_embd; and "query_scales" where the weights that
    make queries were multiplied, layer by layer, by numbers other than 1, here or before they were exported.
    Raises ModelError, which names the file and the field or tensor, for a file that cannot be fetched, is
    incomplete, or is not supported.
    """
    encoder, hparams, load_params = open_model(model)
    return encoder, hparams, load_params()


def open_model(model):  # -> Encoder, hparams, () -> params
    """What is needed to check a prompt, and a function that then reads the weights; see `load`."""
    with fresh_copy(how_again(model)):
        config = read_config(model)
        encoder = load_encoder(model, config)
    hparams, scales = to_hparams(config), query_scales(config)
    before = config["query_scales"] or [1] * len(scales)
    scales = [scale * earlier for scale, earlier in zip(scales, before)]
    if any(scale != 1 for scale in scales):
        hparams["query_scales"] = scales
    return encoder, hparams, partial(load_params, model, config)


def load_encoder(model, config):  # -> Encoder
    """The tokenizer of a model; see `vocabulary.load_encoder`."""
    path = find_file(model, "generation_config.json")
    ends = read_json(path).get("eos_token_id") if path else config["eos_token_id"]
    if ends is None:
        ends = []
    stop_ids = ends if isinstance(ends, list) else [ends]
    wrong = [end for end in stop_ids if type(end) is not int]
    if wrong:
        found = f"eos_token_id is {shown(repr(ends))}, and {shown(repr(wrong[0]))} is not an id"
        raise ModelError(path or find_file(model, "config.json"), found, "give an id, or a list of ids")
    kind, begin_id = config["tokenizer_class"], config["bos_token_id"]
    return vocabulary.load_encoder(model, config["vocab_size"], stop_ids, kind, begin_id)


def load_params(model, config=None):  # -> params
    """The weights of a language model for `gpt2.gpt2`: float32, memory-mapped if the file is float32 too.

    Of a folder that extras/quantize.py saved, the matrices are quantized. config: what `read_config` returns,
    if it has been read. The tokenizer may be of any kind, or missing.
    """
    config = read_config(model) if config is None else config
    check_kind(model, config)
    with fresh_copy(how_again(model)):
        if path := find_file(model, QUANTIZED):
            from extras.huggingface.quantized_file import read_quantized  # here, as it loads Numba

            check_alone(model)
            check_unscaled(model, config)
            params = read_quantized(path, to_hparams(config))
            if is_tied(params) and not config["tie_word_embeddings"]:
                raise without_head(path)
            set_variants(params, config)
            return params
        return from_tensors(read_tensors(model), config, model)


def check_alone(model):
    """Raise ModelError if there are other weights beside the quantized ones: either could be meant."""
    beside = next((name for name in (*SAFETENSORS, ADAPTER_CONFIG) if find_file(model, name)), None)
    if beside:
        problem = f"it has {QUANTIZED}, and {beside} beside it"
        raise ModelError(model, problem, "give each a folder of its own")


def check_unscaled(model, config):
    """Raise ModelError if config.json scales attention: in quantized weights, that is already done."""
    if any(scale != 1 for scale in query_scales(config)):
        problem = f"it scales attention, but the weights in {QUANTIZED} are scaled already"
        raise ModelError(find_file(model, "config.json"), problem, MIXED_UP)


def check_kind(model, config):
    """Raise ModelError unless this is a language model."""
    kinds = config["architectures"] or ["GPT2LMHeadModel"]
    if not LANGUAGE_MODELS & {*kinds}:
        advice = "extras.huggingface.task_heads.load reads the four kinds with a task head"
        raise ModelError(model, f"it is a {shown(kinds[0])}, not a GPT2LMHeadModel", advice)


def huggingface_name(name):  # "h0/attn/c_attn/w" -> "h.0.attn.c_attn.weight"
    """The name in transformers for one of OpenAI's arrays: .weight for w and g, .bias for b."""
    *path, leaf = re.sub(r"^h(\d+)/", r"h/\1/", name).split("/")
    last = {"g": "weight", "w": "weight", "b": "bias", "wte": "wte.weight", "wpe": "wpe.weight"}[leaf]
    return ".".join([*path, last])


def from_tensors(tensors, config, source, has_lm_head=True):  # {name: array}, fields -> params
    """Check tensors against the fields of config.json, rename and nest them, and apply its variants.

    has_lm_head: whether this is a language model. Then its own head may be among them, and another head
    beside it is left out, as a line on stderr says. Masks, which old versions saved, are ignored. Any other
    extra, missing or wrong tensor raises a ModelError that names it.
    """
    hparams = to_hparams(config)
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    theirs = {name: prefix + huggingface_name(name) for name in weights.shapes(hparams)}
    known = {*theirs.values(), "lm_head.weight"} if has_lm_head else {*theirs.values()}
    others = sorted(name for name in tensors if name not in known and not is_mask(name, tensors[name]))
    heads = [name for name in others if has_lm_head and HEADS.fullmatch(name)]
    unknown = [name for name in others if name not in heads]
    if unknown:
        found = f"according to config.json, {shown(unknown[0])} is unknown ({len(unknown)} in all)"
        raise ModelError(source, found, MIXED_UP)
    if heads:
        say(f"{shown(source)}: a head beside the language model is left out: {shown(', '.join(heads))}")
    arrays = {name: tensors[theirs[name]] for name in theirs if theirs[name] in tensors}
    params = weights.to_params(arrays, hparams, source, "config.json", theirs.get)
    if has_lm_head:
        params["wte"] = with_head(params["wte"], tensors.get("lm_head.weight"), config, source)
    set_variants(params, config)
    return params


def with_head(wte, head, config, source):  # two of [n_vocab, n_embd] -> wte
    """The embedding, paired with the file's head if that differs from it."""
    if head is None and not config["tie_word_embeddings"]:
        raise without_head(source)
    if head is None:
        return wte
    head = weights.to_float32(head, wte.shape, "lm_head.weight", source, "config.json")
    return wte if np.array_equal(head, wte) else UntiedEmbedding(wte, head)


def without_head(source):  # -> ModelError
    """The error for a model that lacks the head of its own that it should have."""
    found = "it has no lm_head.weight, but config.json says that the head is not tied to wte"
    return ModelError(source, found, MIXED_UP)


def is_mask(name, array):
    """Whether a tensor belongs to the causal mask, which is the same in every model."""
    mask = re.fullmatch(r"(?:transformer\.)?h\.\d+\.attn\.(bias|masked_bias)", name)
    return mask is not None and (mask[1] == "masked_bias" or array.ndim == 4)
