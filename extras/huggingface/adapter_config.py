"""adapter_config.json of peft: which modules of a GPT-2 a LoRA adapter changes, and how much.

Anything that is not LoRA as in its paper is refused by name.

(config.py and tuners/lora/config.py of peft; check_target_module_exists in tuners/tuners_utils.py)
"""

import functools
import math
import re
from itertools import accumulate

import regex

from extras.huggingface.hub import find_file, how_again
from extras.recognise import not_an_adapter, without_lora
from files import ModelError, fresh_copy, read_json, shown
from layouts import ADAPTER_CONFIG

# the fields that count: what a missing one means, then which types it may have; [str] is a list of str, and
# {int} a dict of names to int
FIELDS = {
    "base_model_name_or_path": ("", str),
    "revision": ("", str),  # of the base
    "r": (8, int),
    "lora_alpha": (8, int, float),
    "use_rslora": (False, bool),
    "rank_pattern": ({}, {int}),
    "alpha_pattern": ({}, {int, float}),
    "target_modules": (["c_attn"], str, [str]),
    "exclude_modules": ([], str, [str]),
    "layers_to_transform": ([], int, [int]),
    "layers_pattern": ([], str, [str]),
    "bias": ("none", str),
    "modules_to_save": ([], [str]),
}
ALLOWED = {  # other values of these fields are refused; the first is what a missing field means
    "bias": ["none", "all", "lora_only"],
    "task_type": [None, "CAUSAL_LM", "FEATURE_EXTRACTION"],
    "init_lora_weights": [True, False, "gaussian", "eva", "orthogonal", "mica"],  # how a and b began
}
ANOTHER_BASE = re.compile("pissa|olora|corda|loftq|lora_ga")  # init_lora_weights that change the base too
IGNORED = {  # these do not change what the adapter computes
    *("auto_mapping", "fan_in_fan_out", "inference_mode", "lora_dropout", "megatron_core", "merge_weights"),
    *("peft_type", "peft_version", "qalora_group_size", "runtime_config"),
    *("corda_config", "eva_config", "loftq_config", "lora_ga_config"),  # for init_lora_weights
    "ensure_weight_tying",  # what peft ties, it saves twice; and it does not take wte for an embedding
}
PEFT_PREFIX = "base_model.model."  # before the name of every tensor
LARGEST_RANK, LARGEST_ALPHA = 10**5, 10**6
MOST_NAMES = 250  # in a list: more than 1558M has matrices
LONGEST_NAME = 1000  # characters in a name or a pattern
UNUSABLE = (ValueError, OverflowError, RecursionError, MemoryError, TimeoutError, re.error, regex.error)
LONGEST_MATCH = 0.1  # seconds that a pattern may take for one name
MOST_COPIES = 10**4  # of a part of a pattern, once compiled: a{100} has a hundred

# ---- fields ------------------------------------------------------------------------------------------------


def read_adapter_config(adapter):  # -> {field: value}
    """The FIELDS, checked. adapter: a folder, or a name on the hub.

    Raises ModelError, which names the field, for anything that is not LoRA.
    """
    path = find_file(adapter, ADAPTER_CONFIG)
    if path is None:
        raise not_an_adapter(adapter)
    with fresh_copy(how_again(adapter)):
        fields = {field: value for field, value in read_json(path).items() if value is not None}
    refuse_others(fields, path)
    config = {field: fields.get(field, usual) for field, (usual, *_) in FIELDS.items()}
    check_values(config, path)
    check_patterns(config, path)
    return config


def refuse_others(fields, path):
    """Raise ModelError for an adapter of another kind, and for a field that changes what LoRA does."""
    kind = fields.get("peft_type")
    if kind != "LORA":
        problem = f"peft_type is {shown(repr(kind), 50)}, and only 'LORA' is supported"
        raise ModelError(path, problem, without_lora(kind))
    for field, allowed in ALLOWED.items():
        value = fields.get(field, allowed[0])
        if not any(type(value) is type(each) and value == each for each in allowed):
            advice = f"supported: {' or '.join(map(repr, allowed))}"
            if field == "init_lora_weights" and ANOTHER_BASE.match(str(value)):
                advice = "it changed its base: in peft, save it with path_initial_model_for_weight_conversion"
            raise ModelError(path, f"{field} is {shown(repr(value), 50)}", advice)
    for field in sorted(fields.keys() - FIELDS.keys() - ALLOWED.keys() - IGNORED):
        if fields[field]:
            problem = f"{shown(field)} is {shown(repr(fields[field]), 50)}, and only plain LoRA is supported"
            raise ModelError(path, problem, without_lora(field))


def check_values(config, path):
    """Raise ModelError for a value of a type, or of a size, that it cannot have."""
    for field, (_, *kinds) in FIELDS.items():
        value = config[field]
        if not any(fits(value, kind) for kind in kinds):
            raise ModelError(path, f"{field} is {shown(repr(value), 50)}: peft saves no such value")
        if is_too_long(value):
            most = f"{MOST_NAMES:,} names of {LONGEST_NAME:,} characters"
            raise ModelError(path, f"{field} is too long: expected at most {most}")
    for r in (config["r"], *config["rank_pattern"].values()):
        if not 1 <= r <= LARGEST_RANK:
            raise ModelError(path, f"a rank in it is {r!r:.30}, expected from 1 to {LARGEST_RANK:,}")
    for alpha in (config["lora_alpha"], *config["alpha_pattern"].values()):
        if not -LARGEST_ALPHA <= alpha <= LARGEST_ALPHA:  # or NaN
            allowed = f"expected from {-LARGEST_ALPHA:,} to {LARGEST_ALPHA:,}"
            raise ModelError(path, f"an alpha in it is {alpha!r:.30}, {allowed}")


def fits(value, kind):  # -> bool
    """Whether a value is of a kind: a type; [types], a list; {types}, a dict with such values."""
    if isinstance(kind, list):
        return type(value) is list and all(type(each) in kind for each in value)
    if isinstance(kind, set):
        return type(value) is dict and all(type(each) in kind for each in value.values())
    return type(value) is kind


def check_patterns(config, path):
    """Raise ModelError for a regular expression that cannot be used."""
    for field, value in config.items():
        for pattern in patterns_in(field, value):
            try:
                compiled(pattern)
            except UNUSABLE as error:
                problem = f"{field} has the pattern {shown(repr(pattern), 50)}, which cannot be used"
                raise ModelError(path, f"{problem}: {shown(error)}") from None


def patterns_in(field, value):  # -> list of str
    """The regular expressions in a field; in target_modules and exclude_modules, a list holds names."""
    if isinstance(value, str) and field in ("target_modules", "exclude_modules", "layers_pattern"):
        return [value]
    if field in ("layers_pattern", "modules_to_save", "rank_pattern", "alpha_pattern"):
        return list(value)
    return []


def is_too_long(value):  # -> bool
    """Whether a list has more names, or one of them more characters, than any adapter of a GPT-2 needs."""
    names = [value] if isinstance(value, str) else value if isinstance(value, (list, dict)) else []
    return len(names) > MOST_NAMES or any(len(str(name)) > LONGEST_NAME for name in names)


# ---- modules -----------------------------------------------------------------------------------------------
# A module is named as in transformers: "transformer.h.0.attn.c_attn".


def is_target(module, config):  # -> bool
    """Whether the adapter has an a and a b for this matrix."""
    excluded, targets = config["exclude_modules"], config["target_modules"]
    is_saved = any(matches(rf"(.*\.)?({name})(\..*)?", module) for name in config["modules_to_save"])
    if is_named(module, excluded) or is_saved:
        return False
    if isinstance(targets, str) and targets.lower() == "all-linear":
        return module.rpartition(".")[2].startswith("c_")
    # layers_to_transform counts only where the end of a name is given, not for a pattern or a whole name
    by_end = isinstance(targets, list) and module not in targets
    return is_named(module, targets) and (not by_end or is_in_layers(module, config))


def is_named(module, names):  # -> bool
    """Whether a module is described by a regular expression, or by a list that has the end of its name."""
    if isinstance(names, str):
        return bool(names and matches(names, module))
    return any(module == name or module.endswith(f".{name}") for name in names)


def is_in_layers(module, config):  # -> bool
    """Whether this module's layer is among layers_to_transform, or all layers are meant."""
    layers, patterns = config["layers_to_transform"], config["layers_pattern"]
    if layers == []:
        return True
    patterns = [patterns] if isinstance(patterns, str) and patterns else patterns
    before = [rf"(?:.*?\.)?{pattern}" for pattern in patterns] if patterns else [r".*?\.[^.]*"]
    found = [matches(rf"{each}\.(?P<layer>\d+)\..*", module) for each in before]
    layer = next((int(match["layer"]) for match in found if match), None)
    return layer in (layers if isinstance(layers, list) else [layers])


def is_trained_whole(name, config):  # "transformer.ln_f.bias" -> bool
    """Whether the adapter has its own array in place of this one, by modules_to_save or by bias."""
    module, _, leaf = name.rpartition(".")
    if leaf == "bias" and config["bias"] == "all":
        return True
    if leaf == "bias" and config["bias"] == "lora_only" and is_target(module, config):
        return True
    homes = accumulate(module.split("."), "{}.{}".format)  # "transformer", "transformer.ln_f"
    return any(home.endswith(saved) for home in homes for saved in config["modules_to_save"])


def rank_and_scale(module, config):  # -> r, scale
    """How many columns a has, and by what a b is multiplied: alpha / r (with use_rslora, alpha / √r).

    (Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA")
    """
    r = of_pattern(module, config["rank_pattern"], config["r"])
    alpha = of_pattern(module, config["alpha_pattern"], config["lora_alpha"])
    return r, alpha / (r**0.5 if config["use_rslora"] else r)


def of_pattern(module, values, usual):  # {pattern: number} -> number
    """The number for the first pattern that describes the end of a module's name."""
    return next((value for name, value in values.items() if matches(rf"(.*\.)?({name})", module)), usual)


def matches(pattern, module):  # -> match, or None
    """Whether a regular expression describes a whole name.

    Raises ModelError for one that is wrong, or that would take forever.
    """
    try:
        return compiled(pattern).fullmatch(module, timeout=LONGEST_MATCH)
    except UNUSABLE as error:
        problem = f"its pattern {shown(repr(pattern), 50)} cannot be used: {shown(error)}"
        raise ModelError(ADAPTER_CONFIG, problem) from None


@functools.cache
def compiled(pattern):  # -> pattern object of the regex library, which has time limits; re has none
    """A regular expression that means the same to both libraries; ValueError for what only one knows."""
    # regex reads [[:alpha:]], [a--b] and {e<=1} in its own way; {3} and {1,2} are the same to both
    if re.search(r"\[\[|--|&&|\|\||~~|\{(?!\d*(,\d*)?\})", pattern):
        raise ValueError("it may mean something else to peft")
    counts = [int(n) for n in re.findall(r"\d+(?=[\d,]*\})", pattern)]
    if math.prod(max(n, 1) for n in counts) > MOST_COPIES:
        raise ValueError("it repeats too much")
    re.compile(pattern)
    return regex.compile(pattern)
