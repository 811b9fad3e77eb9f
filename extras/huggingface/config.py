"""config.json of a model in Hugging Face's layout: the sizes, and the variants that are supported.

(configuration_gpt2.py of transformers)
"""

from extras.huggingface.hub import find_file
from extras.huggingface.variants import ACTIVATIONS
from extras.recognise import what_an_adapter_is
from files import AGAIN, ModelError, read_json, shown
from layouts import ADAPTER_CONFIG
from weights import check_hparams

ALLOWED = {  # other values of these fields are refused; the first is what a missing field means
    "model_type": ["gpt2"],
    "activation_function": list(ACTIVATIONS),
    "scale_attn_weights": [True, False],
    "scale_attn_by_inverse_layer_idx": [False, True],
    "tie_word_embeddings": [True, False],
    "add_cross_attention": [False],
    "is_causal": [True],
    "is_encoder_decoder": [False, None],
    # a window, in which tokens see only those shortly before them
    "sliding_window": [None],
    "attention_chunk_size": [None],
    "layer_types": [None],
    "kv_sharing_modes": [None],  # layers that use another's keys and values
    "per_layer_config": [None, {}],  # other sizes for one layer
    "attribute_map": [None],  # other names for the fields
    # another kind of weights, or another file
    "quantization_config": [None],
    "fusion_config": [None, {}],
    "transformers_weights": [None],
    "configuration_files": [None, []],
    "attention_head_type": [None, "multihead"],  # multiquery: a santacoder, although it calls itself a gpt2
    # a config inside this one
    "text_config": [None],
    "decoder": [None],
    "generator": [None],
}
DEFAULTS = {field: values[0] for field, values in ALLOWED.items()} | {  # what a missing field means
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_inner": None,  # 4 n_embd
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "pad_token_id": None,
    "tokenizer_class": None,  # vocabulary.py checks it
    "query_scales": None,  # a note of export.py: what the queries were multiplied by before
}
ALIASES = {
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
IGNORED = {  # read by transformers too, but without influence on logits and ids
    # of use only in training
    *("attn_pdrop", "embd_pdrop", "resid_pdrop", "classifier_dropout", "hidden_dropout"),
    *("summary_first_dropout", "summary_last_dropout", "initializer_range", "gradient_checkpointing"),
    # another way to the same numbers: here all are float32
    *("attn_implementation", "experts_implementation", "reorder_and_upcast_attn", "chunk_size_feed_forward"),
    *("dtype", "torch_dtype"),
    # what else is returned
    *("return_dict", "output_attentions", "output_cross_attentions", "output_hidden_states"),
    # for task heads, see task_heads.py
    *("num_labels", "id2label", "label2id", "problem_type"),
    # other code for the model, which transformers does not run unless told to: it has its own for a gpt2
    "auto_map",
    # for other kinds of models
    *("head_dim", "rope_parameters", "rope_scaling", "rope_theta", "mtp_layer_types"),
    *("number_of_conv_states", "vision_aspect_ratio", "vision_feature_layer"),
    "vision_feature_select_strategy",
    # notes
    *("name_or_path", "transformers_version"),
}


def read_config(model):  # -> {field: value}
    """The fields of config.json, checked; missing ones are filled in from DEFAULTS."""
    path = find_file(model, "config.json")
    if path is None:
        if found := find_file(model, ADAPTER_CONFIG):
            raise ModelError(model, *what_an_adapter_is(found, model))
        raise ModelError(model, "it has no config.json, so it is not a model of Hugging Face transformers")
    config = DEFAULTS | canonical(read_json(path), path)
    for field, allowed in ALLOWED.items():
        if not any(type(config[field]) is type(value) and config[field] == value for value in allowed):
            supported = f"supported: {' or '.join(map(repr, allowed))}"
            if all(value in (None, {}, []) for value in allowed):  # there is nothing to choose from
                supported = "supported: a model without it"
            raise ModelError(path, f"{field} is {shown(repr(config[field]))}", supported)
    kinds = config["architectures"]
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise ModelError(path, f"architectures is {shown(repr(kinds))}, expected a list of names")
    epsilon = config["layer_norm_epsilon"]
    if not (isinstance(epsilon, (int, float)) and 0 < epsilon < 1):
        found = f"layer_norm_epsilon is {shown(repr(epsilon))}"
        raise ModelError(path, f"{found}, expected a number between 0 and 1")
    scales = config["query_scales"]
    if scales is not None and not is_scales(scales, config["n_layer"]):
        raise ModelError(path, f"query_scales is {shown(repr(scales))}, expected a number for each layer")
    try:
        check_hparams(to_hparams(config), {"n_vocab": "vocab_size", "n_ctx": "n_positions"})
    except ValueError as error:
        raise ModelError(path, error, AGAIN) from None
    if config["n_inner"] == 4 * config["n_embd"]:
        config["n_inner"] = None
    return config


def is_scales(scales, n_layer):  # -> bool
    """Whether this is a list of n_layer positive numbers."""
    if not isinstance(scales, list) or len(scales) != n_layer:
        return False
    return all(type(scale) in (int, float) and 0 < scale < float("inf") for scale in scales)


def canonical(config, path):  # -> {field: value}
    """The fields by GPT-2's own names; transformers also accepts the names common to all its models."""
    for alias, field in ALIASES.items():
        if alias in config and config.setdefault(field, config[alias]) != config[alias]:
            found = f"{field} is {shown(repr(config[field]))}, but {alias} is {shown(repr(config[alias]))}"
            raise ModelError(path, found, "leave out the wrong one: both mean the same")
    return config


def kind_of(config):  # -> str
    """The name of the model's class in transformers."""
    return (config["architectures"] or ["GPT2LMHeadModel"])[0]


def to_hparams(config):  # -> {"n_vocab": 50257, "n_ctx": 1024, ...}
    """The sizes among the fields, by OpenAI's names."""
    hparams = {"n_vocab": config["vocab_size"], "n_ctx": config["n_positions"]}
    hparams |= {name: config[name] for name in ("n_embd", "n_head", "n_layer")}
    return hparams if config["n_inner"] is None else hparams | {"n_inner": config["n_inner"]}
