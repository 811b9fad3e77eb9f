"""config.json of a model in Hugging Face's layout: its sizes and variants, those that are supported.

(configuration_gpt2.py of transformers)
"""

from checkpoint import ModelError, check_hparams
from extras.activations import ACTIVATIONS
from extras.hub import find_file
from utils import read_json

DEFAULTS = {  # what it means that config.json leaves out a field
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_inner": None,  # 4 n_embd
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
    "quantization_config": None,
    "auto_map": None,  # code of its own
    "transformers_weights": None,  # another file
    "tokenizer_class": None,
    "eos_token_id": 50256,
    "pad_token_id": None,
}  # reorder_and_upcast_attn is not read: it tells float16 when to round, and float32 nothing
ALIASES = {
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
ALLOWED = {  # other values of these fields are refused
    "model_type": ["gpt2"],
    "activation_function": list(ACTIVATIONS),
    "scale_attn_weights": [True, False],
    "scale_attn_by_inverse_layer_idx": [False, True],
    "tie_word_embeddings": [True, False],
    "add_cross_attention": [False],
    "quantization_config": [None],
    "auto_map": [None],
    "transformers_weights": [None],
    "tokenizer_class": [None, "GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast"],
}


def read_config(name):  # -> {field: value}
    """The fields of config.json, checked; those that it leaves out as in DEFAULTS."""
    path = find_file(name, "config.json")
    if path is None:
        raise ModelError(f"{name} has no config.json: it is not a model of Hugging Face transformers")
    config = DEFAULTS | canonical(read_json(path), path)
    for field, allowed in ALLOWED.items():
        if config[field] not in allowed:
            supported = " or ".join(map(repr, allowed))
            raise ModelError(f"{path}: {field} is {config[field]!r}; supported: {supported}")
    kinds = config["architectures"]
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise ModelError(f"{path}: architectures is {kinds!r}, expected a list of names")
    epsilon = config["layer_norm_epsilon"]
    if not (isinstance(epsilon, (int, float)) and 0 < epsilon < 1):
        raise ModelError(f"{path}: layer_norm_epsilon is {epsilon!r}, expected a number between 0 and 1")
    try:
        check_hparams(to_hparams(config))
    except ValueError as error:
        problem = str(error).replace("n_vocab", "vocab_size").replace("n_ctx", "n_positions")
        raise ModelError(f"{path}: {problem}; delete it and get it again") from None
    return config


def canonical(config, path):  # -> {field: value}
    """The fields by GPT-2's own names, for which transformers also takes those that all its models share."""
    for alias, field in ALIASES.items():
        if alias in config and config.setdefault(field, config[alias]) != config[alias]:
            raise ModelError(f"{path}: {field} is {config[field]!r}, and {alias} is {config[alias]!r}")
    return config


def to_hparams(config):  # -> {"n_vocab": 50257, "n_ctx": 1024, ...}
    """The sizes among the fields, by OpenAI's names."""
    hparams = {"n_vocab": config["vocab_size"], "n_ctx": config["n_positions"]}
    hparams |= {name: config[name] for name in ("n_embd", "n_head", "n_layer")}
    usual = config["n_inner"] is None or config["n_inner"] == 4 * config["n_embd"]
    return hparams if usual else hparams | {"n_inner": config["n_inner"]}
