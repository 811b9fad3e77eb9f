"""Random models have the logits and ids that transformers gives them, or are refused: `pytest -m parity`."""

import json
import re
import warnings
from collections import Counter
from functools import partial

import numpy as np
import pytest
from helpers import assert_same_ids, assert_same_logits

import gpt2
import weights
from encoder import bytes_to_unicode
from extras import huggingface
from extras.huggingface import loading
from extras.huggingface.config import ALIASES, ALLOWED, DEFAULTS, IGNORED
from files import ModelError

pytestmark = pytest.mark.parity

SIZES = {"n_vocab": 257, "n_ctx": 16, "n_embd": 12, "n_head": 3, "n_layer": 2}
OTHER_FIELDS = (
    "n_ctx",
    "hidden_act",
    "intermediate_size",
    "is_decoder",
    "pruned_heads",
    "max_length",
    "note",
)
ODD = (
    *(None, True, False, 0, 1, -1, 2, 4, 6, 12, 48, 257, 0.0, 1.0, 12.0, 0.5, 1e-3, 1e-30, np.nan),
    *("", "x", "true", "eager", "float16", [], [0], ["GPT2Model"], {}, {"0": {}}, {"1": {"n_head": 1}}),
)
LIKELY = {  # values that a field may well have
    "activation_function": ["gelu", "relu", "silu", "tanh", "gelu_10", "gelu_accurate", "linear", "mish"],
    "layer_norm_epsilon": [1e-5, 1e-3, 1e-6, 0.3],
    "n_head": [1, 2, 4, 6, 12],
    "n_inner": [None, 48, 20],
    "layer_types": [["full_attention"] * 2, ["sliding_attention"] * 2],
    "sliding_window": [2, 5, 100],
    "attention_chunk_size": [3],
    "architectures": [["GPT2LMHeadModel"], ["GPT2Model"], ["GPT2DoubleHeadsModel"], None],
    "eos_token_id": [256, [0, 1]],
    "dtype": ["float32", "bfloat16", "float64"],
    "attn_implementation": ["eager", "sdpa"],
}


def draw(rng, values):
    return values[rng.integers(len(values))]


# ---- random folders ----------------------------------------------------------------------------------------


def random_config(rng, transformers):  # -> {field: value}
    """The config of a GPT-2, long or short, in which up to three fields are changed, added or left out."""
    sizes = {"n_positions" if name == "n_ctx" else name: size for name, size in SIZES.items()}
    sizes["vocab_size"] = sizes.pop("n_vocab")
    config = {"model_type": "gpt2", "eos_token_id": 256, "bos_token_id": 256} | sizes
    if rng.random() < 0.5:
        config = transformers.GPT2Config(**config).to_dict()
    config |= {"n_inner": draw(rng, [None, 48, 20]), "tie_word_embeddings": rng.random() < 0.7}
    fields = sorted({*DEFAULTS, *ALIASES, *IGNORED, *OTHER_FIELDS, *transformers.GPT2Config().to_dict()})
    for _ in range(rng.integers(4)):
        field = draw(rng, fields)
        if rng.random() < 0.1:
            config.pop(field, None)
        else:
            likely = LIKELY.get(field, ALLOWED.get(field, ODD))
            config[field] = draw(rng, likely if rng.random() < 0.6 else ODD)
    return config


def random_tensors(rng, config):  # -> {name: array}
    """Tensors for a config, under the names that some version of transformers gave them."""
    n_inner = 20 if config.get("n_inner") == 20 else 48
    table = weights.shapes(SIZES | {"n_inner": n_inner})
    arrays = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in table.items()}
    head = arrays["wte"] if rng.random() < 0.5 else rng.normal(0, 0.3, table["wte"]).astype(np.float32)
    prefix = draw(rng, ["transformer.", ""])
    tensors = {prefix + loading.huggingface_name(name): array for name, array in arrays.items()}
    if config.get("tie_word_embeddings") is False and rng.random() < 0.9 or rng.random() < 0.3:
        tensors["lm_head.weight"] = head
    if rng.random() < 0.3:
        for layer in range(SIZES["n_layer"]):
            tensors[f"{prefix}h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 16, 16), dtype=np.uint8))
            tensors[f"{prefix}h.{layer}.attn.masked_bias"] = np.float32(-1e4).reshape(())
    return tensors


def spoil(rng, tensors):
    """Change a tensor: its name, its shape or its numbers."""
    name, way = draw(rng, sorted(tensors)), rng.integers(7)
    array = tensors[name]
    if way == 0:
        del tensors[name]
    elif way == 1:
        tensors[draw(rng, ["transformer.", "model.", "h.0."]) + name] = tensors.pop(name)
    elif way == 2:
        tensors[draw(rng, ["score.weight", "h.0.attn.rotary", "transformer.h.7.ln_1.bias"])] = array
    elif way == 3:
        tensors[name] = array.T.copy()
    elif way == 4:
        tensors[name] = array[..., :-1].copy() if array.ndim else array.reshape(1)
    elif way == 5:
        tensors[name] = (array + draw(rng, [np.nan, np.inf, 1e20])).astype(np.float32)
    else:
        tensors[name] = np.zeros_like(array)


def random_folder(rng, folder, transformers):
    """Write a model: config.json and model.safetensors. Of the latter, most are as they should be."""
    import torch
    from safetensors.torch import save_file

    config = random_config(rng, transformers)
    tensors = random_tensors(rng, config)
    if rng.random() < 0.3:
        spoil(rng, tensors)
    dtype = getattr(torch, draw(rng, ["float32", "float32", "float16", "bfloat16", "float64"]))
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in tensors.items()}
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    tensors = {name: t.contiguous().clone() for name, t in tensors.items()}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata=draw(rng, [None, {"format": "pt"}]))


@pytest.fixture
def folder(tmp_path):
    """A folder with a vocabulary of all bytes and <|endoftext|>."""
    tokens = [*bytes_to_unicode().values(), "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    return tmp_path


# ---- the claim ---------------------------------------------------------------------------------------------


def theirs(transformers, folder, ids, n_new):  # -> logits, new ids, names of tensors that they made up
    import torch

    load = transformers.AutoModelForCausalLM.from_pretrained
    model, found = load(folder, dtype=torch.float32, output_loading_info=True)
    model.eval().generation_config = transformers.GenerationConfig(pad_token_id=0)  # no end of text
    inputs = torch.from_numpy(ids[None])
    with torch.no_grad():
        logits = model(inputs).logits[0].numpy()
        mask = torch.ones_like(inputs[:, :3])  # no padding
        new = model.generate(inputs[:, :3], attention_mask=mask, max_new_tokens=n_new, do_sample=False)
    return logits, new[0, 3:].tolist(), found["missing_keys"]


def kind_of(error):
    """How a refusal begins, without names of tensors and their numbers."""
    text = str(error.problem) if isinstance(error, ModelError) else f"{type(error).__name__} {error}"
    text = re.sub(r"[\w.]+\.(weight|bias|rotary)", "TENSOR", text)
    return " ".join(text.split()[:5])[:40]


def next_logits(prompt, params, n_head, new_ids):
    return gpt2.gpt2([*prompt, *new_ids], **params, n_head=n_head)[-1]


def test_a_random_model_has_the_logits_and_ids_of_transformers_or_is_refused(transformers, folder, n_fuzz):
    counts, ours_only, theirs_only = Counter(), Counter(), Counter()
    transformers.utils.logging.disable_progress_bar()
    for seed in range(n_fuzz):
        rng = np.random.default_rng(seed)
        random_folder(rng, folder, transformers)
        ids, wanted, found = rng.integers(257, size=12), None, None
        try:
            with warnings.catch_warnings(action="ignore"):
                wanted = theirs(transformers, folder, ids, n_new=9)
        except Exception as error:
            refusal = error
        try:
            _, hparams, params = huggingface.load(folder)
            found = gpt2.gpt2(ids, **params, n_head=hparams["n_head"])
        except ModelError as error:
            counts["refused by us only" if wanted and not wanted[2] else "refused by both"] += 1
            ours_only[kind_of(error)] += bool(wanted and not wanted[2])
            continue
        if wanted is None:
            counts["refused by transformers only"] += 1
            theirs_only[kind_of(refusal)] += 1
            continue
        assert not wanted[2], f"seed {seed}: transformers made up {wanted[2]}"
        assert_same_logits(found, wanted[0])
        new = gpt2.generate(ids[:3], params, hparams["n_head"], 9)
        assert_same_ids(new, wanted[1], partial(next_logits, ids[:3], params, hparams["n_head"]))
        counts["equal"] += 1
    print(f"{n_fuzz} models: {dict(counts)}")
    print("refused by us only:", dict(+ours_only), "by transformers only:", dict(theirs_only), sep="\n")
    assert counts["equal"] > 0.2 * n_fuzz and counts["refused by both"] > 0.2 * n_fuzz
