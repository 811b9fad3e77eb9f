"""Every field of config.json that transformers reads for a GPT-2 is one that we know: `pytest -m parity`."""

import ast
import inspect
import textwrap

import pytest
from helpers import SMALL

from extras.huggingface import config as ours
from extras.huggingface import task_heads

pytestmark = pytest.mark.parity

CONFIGS = {"config", "config_dict", "layer_config", "effective_config"}  # names of a config in their code


def is_config(node):
    return getattr(node, "id", None) in CONFIGS or getattr(node, "attr", None) in CONFIGS


def fields_in(source, is_config=is_config):  # -> set of str
    """What Python code reads from a config: config.n, getattr(config, "n"), config["n"], "n" in config."""
    fields = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(source)))):
        read, key = None, None
        if isinstance(node, ast.Attribute):
            read, key = node.value, ast.Constant(node.attr)
        elif isinstance(node, ast.Subscript):
            read, key = node.value, node.slice
        elif isinstance(node, ast.Compare):
            read, key = node.comparators[0], node.left
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("getattr", "hasattr"):
            read, key = node.args[:2]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in ("get", "pop") and node.args:
            read, key = node.func.value, node.args[0]
        if is_config(read) and isinstance(key, ast.Constant):
            fields.add(key.value)
    return fields


def written(transformers):  # -> set of str
    """The fields in the source of what a GPT-2 is made of, read there by whatever branch."""
    import transformers.masking_utils
    from transformers import PreTrainedConfig, cache_utils, integrations
    from transformers.models.gpt2 import modeling_gpt2

    parts = (
        modeling_gpt2,
        integrations.sdpa_attention,
        transformers.masking_utils,
        cache_utils.get_layer_types_and_kwargs,
        PreTrainedConfig.get_config_dict,
        PreTrainedConfig._get_config_dict,
    )
    arguments = fields_in(PreTrainedConfig.__post_init__, lambda node: getattr(node, "id", None) == "kwargs")
    return arguments.union(*map(fields_in, parts))


def read(transformers, folder, monkeypatch):  # -> set of str
    """The fields that are read, wherever, while a model is loaded, gives logits, and generates."""
    import torch

    sizes = {"vocab_size": SMALL["n_vocab"], "n_positions": SMALL["n_ctx"], "n_embd": SMALL["n_embd"]}
    config = transformers.GPT2Config(**sizes, n_head=SMALL["n_head"], n_layer=SMALL["n_layer"])
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    fields, look_up = set(), transformers.GPT2Config.__getattribute__

    def noted(self, name):
        fields.add(name)
        return look_up(self, name)

    monkeypatch.setattr(transformers.GPT2Config, "__getattribute__", noted)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        model(torch.arange(10)[None])
        model.generate(torch.arange(10)[None], max_new_tokens=3, do_sample=False)
    return fields


def is_settable(name, transformers):
    """Whether config.json can set it; settings of generate have a file of their own."""
    member = inspect.getattr_static(transformers.GPT2Config, name, None)
    part = callable(member) or isinstance(member, classmethod) or hasattr(dict, name)
    part = part or isinstance(member, property) and member.fset is None
    plan = (
        name.startswith("base_model_") or name == "sub_configs_defaults"
    )  # for many devices, for other kinds
    generation = transformers.GenerationConfig._get_default_generation_params()
    return not (part or plan or name.startswith("_") or name in generation)


def test_no_field_that_transformers_reads_is_unknown(transformers, tmp_path, monkeypatch):
    fields = written(transformers) | read(transformers, tmp_path, monkeypatch)
    fields = {name for name in fields if is_settable(name, transformers)}
    known = ours.DEFAULTS.keys() | ours.ALIASES.keys() | ours.IGNORED | task_heads.SUMMARY.keys()
    assert {"is_causal", "sliding_window", "n_inner", "configuration_files", "resid_pdrop"} <= fields
    assert len(fields) > 60
    unknown = sorted(fields - known)
    assert not unknown, f"say in extras/huggingface/config.py what becomes of {', '.join(unknown)}"
