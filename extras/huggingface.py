"""Any GPT-2 in the layout of Hugging Face transformers, from the hub or a folder: encoder, hparams, params.

Its sizes and variants are in config.json (extras/config.py), its numbers in model.safetensors
(extras/tensors.py), its tokens in tokenizer.json, or vocab.json and merges.txt (extras/vocabulary.py). Where
it differs from OpenAI's GPT-2, the data differ and the code does not: a norm has an "eps", an mlp an "act", a
scale of attention is multiplied into what makes the queries, and a head that is not tied is the `.T` of a wte
that has other rows.

(modeling_gpt2.py of transformers)
"""

import re

import numpy as np

import checkpoint
import gpt2
from checkpoint import MIXED_UP, ModelError, shapes, to_float32
from extras import vocabulary
from extras.activations import ACTIVATIONS
from extras.config import read_config, to_hparams
from extras.hub import find_file, with_hub_advice
from extras.tensors import read_tensors
from utils import read_json


def load(name_or_folder):  # -> Encoder, hparams, params
    """A language model: "gpt2", "owner/name" or "owner/name@revision" on the hub, or a folder.

    hparams are the five sizes, and "n_inner" where it is not 4 n_embd. Raises ModelError, which names the
    file and the field or tensor, for what cannot be got, is not whole, or is of a kind not read here.
    """
    return load_encoder(name_or_folder), load_hparams(name_or_folder), load_params(name_or_folder)


@with_hub_advice
def load_encoder(name):  # -> Encoder
    """The tokenizer of a model; see `vocabulary.load_encoder`."""
    config, path = read_config(name), find_file(name, "generation_config.json")
    ends = read_json(path).get("eos_token_id") if path else config["eos_token_id"]
    stop_ids = [] if ends is None else ends if isinstance(ends, list) else [ends]
    return vocabulary.load_encoder(name, config["vocab_size"], stop_ids)


@with_hub_advice
def load_hparams(name):  # -> {"n_vocab": 50257, "n_ctx": 1024, ...}
    """The sizes of a model, by OpenAI's names."""
    return to_hparams(read_config(name))


@with_hub_advice
def load_params(name):  # -> params
    """The weights of a language model as `gpt2.gpt2` takes them: float32, mapped where the file has that."""
    config = read_config(name)
    kinds = config["architectures"] or ["GPT2LMHeadModel"]
    if not {"GPT2LMHeadModel", "GPT2Model"} & {*kinds}:
        found = f"{name} is a {kinds[0]}, not a GPT2LMHeadModel"
        raise ModelError(f"{found}; extras.heads.load reads four other kinds: see extras/heads.py")
    if find_file(name, "adapter_config.json"):
        raise ModelError(
            f"{name} has an adapter beside its weights, adapter_config.json: merge the two first"
        )
    return to_params(read_tensors(name), config, name)


def huggingface_name(name):  # "h0/attn/c_attn/w" -> "h.0.attn.c_attn.weight"
    """The name of one of OpenAI's arrays in transformers: .weight for w and g, .bias for b."""
    name = re.sub(r"^h(\d+)/", r"h.\1/", name)
    name = re.sub("/[gw]$|(?<=^w[tp]e)$", "/weight", re.sub("/b$", "/bias", name))
    return name.replace("/", ".")


def to_params(tensors, config, source, has_head=True):  # {name: array}, fields -> params
    """Check tensors against the fields of config.json, rename and nest them, and honour its variants.

    has_head: whether the head of a language model may be among them. Masks, which old versions saved, are
    passed over; any other tensor too many, too few, or wrong is a ModelError that names it.
    """
    hparams = to_hparams(config)
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    theirs = {name: prefix + huggingface_name(name) for name in shapes(hparams)}
    known = {*theirs.values(), "lm_head.weight"} if has_head else {*theirs.values()}
    unknown = sorted(name for name in tensors if name not in known and not is_mask(name, tensors[name]))
    if unknown:
        found = f"by config.json, {source} has unknown {unknown[0]} ({len(unknown)} in all)"
        raise ModelError(f"{found}: {MIXED_UP}")
    arrays = {name: tensors[theirs[name]] for name in theirs if theirs[name] in tensors}
    params = checkpoint.to_params(arrays, hparams, source, "config.json", theirs.get)
    if has_head:
        params["wte"] = with_head(params["wte"], tensors.get("lm_head.weight"), config, source)
    set_variants(params, config)
    return params


def with_head(wte, head, config, source):  # two of [n_vocab, n_embd] -> wte
    """The embedding, and a head of its own if there is one that differs."""
    if head is None and not config["tie_word_embeddings"]:
        raise ModelError(f"{source} lacks lm_head.weight, and by its config.json wte does not replace it")
    if head is None:
        return wte
    head = to_float32(head, wte.shape, "lm_head.weight", source, "config.json")
    return wte if np.array_equal(head, wte) else UntiedEmbedding(wte, head)


def is_mask(name, array):
    """Whether a tensor only says which keys a query may look at: the same in every model."""
    mask = re.fullmatch(r"(?:transformer\.)?h\.\d+\.attn\.(bias|masked_bias)", name)
    return mask is not None and (mask[1] == "masked_bias" or array.ndim == 4)


class UntiedEmbedding:
    """A wte whose head is a matrix of its own: `wte[ids]` are rows of the one, `wte.T` is of the other."""

    def __init__(self, embedding, head):  # two of [n_vocab, n_embd]
        self.embedding, self.head = embedding, head

    def __len__(self):
        return len(self.embedding)

    def __getitem__(self, ids):
        return self.embedding[ids]

    @property
    def T(self):
        return self.head.T


def set_variants(params, config):
    """Put into params, in place, whatever makes this model differ from OpenAI's."""
    n_embd, d_head = config["n_embd"], config["n_embd"] // config["n_head"]
    act, epsilon = ACTIVATIONS[config["activation_function"]], config["layer_norm_epsilon"]
    for layer, block in enumerate(params["blocks"]):
        scale = 1 if config["scale_attn_weights"] else d_head**0.5  # gpt2.attention_weights divides by it
        if config["scale_attn_by_inverse_layer_idx"]:
            scale /= layer + 1
        if scale != 1:
            for array in block["attn"]["c_attn"].values():
                array[..., :n_embd] *= scale  # the columns that make queries
        if act is not gpt2.gelu:
            block["mlp"]["act"] = act
    if epsilon != 1e-5:
        norms = [block[name] for block in params["blocks"] for name in ("ln_1", "ln_2")]
        for norm in [params["ln_f"], *norms]:
            norm["eps"] = epsilon
