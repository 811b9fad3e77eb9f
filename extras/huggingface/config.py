"""config.json of a model in Hugging Face's layout: the sizes, and the variants that are supported.

(configuration_gpt2.py of transformers)
"""

from extras.huggingface.hub import NO_CONFIG, find_file
from extras.huggingface.variants import ACTIVATIONS
from files import AGAIN, ModelError, read_json, shown
from weights import check_hparams

DEFAULTS = {  # what a missing field means
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
    "auto_map": None,  # custom code
    "transformers_weights": None,  # another file
    "tokenizer_class": None,
    "eos_token_id": 50256,
    "pad_token_id": None,
}  # reorder_and_upcast_attn is ignored: it matters only in float16
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


def read_config(model):  # -> {field: value}
    """The fields of config.json, checked; missing ones are filled in from DEFAULTS."""
    path = find_file(model, "config.json")
    if path is None:
        raise ModelError(model, NO_CONFIG)
    config = DEFAULTS | canonical(read_json(path), path)
    for field, allowed in ALLOWED.items():
        if config[field] not in allowed:
            supported = " or ".join(map(repr, allowed))
            raise ModelError(path, f"{field} is {shown(repr(config[field]))}", f"supported: {supported}")
    kinds = config["architectures"]
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise ModelError(path, f"architectures is {shown(repr(kinds))}, expected a list of names")
    epsilon = config["layer_norm_epsilon"]
    if not (isinstance(epsilon, (int, float)) and 0 < epsilon < 1):
        found = f"layer_norm_epsilon is {shown(repr(epsilon))}"
        raise ModelError(path, f"{found}, expected a number between 0 and 1")
    try:
        check_hparams(to_hparams(config), {"n_vocab": "vocab_size", "n_ctx": "n_positions"})
    except ValueError as error:
        raise ModelError(path, error, AGAIN) from None
    return config


def canonical(config, path):  # -> {field: value}
    """The fields by GPT-2's own names; transformers also accepts the names common to all its models."""
    for alias, field in ALIASES.items():
        if alias in config and config.setdefault(field, config[alias]) != config[alias]:
            found = f"{field} is {shown(repr(config[field]))}, but {alias} is {shown(repr(config[alias]))}"
            raise ModelError(path, found, "leave out the wrong one: both mean the same")
    return config


def to_hparams(config):  # -> {"n_vocab": 50257, "n_ctx": 1024, ...}
    """The sizes among the fields, by OpenAI's names."""
    hparams = {"n_vocab": config["vocab_size"], "n_ctx": config["n_positions"]}
    hparams |= {name: config[name] for name in ("n_embd", "n_head", "n_layer")}
    usual = config["n_inner"] is None or config["n_inner"] == 4 * config["n_embd"]
    return hparams if usual else hparams | {"n_inner": config["n_inner"]}
