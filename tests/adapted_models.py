"""A model with an adapter, as peft reads it and as we do, and what must be the same."""

import json

import numpy as np
from foreign_models import N_HEAD, lively_model
from helpers import assert_same_logits

import gpt2
from encoder import bytes_to_unicode
from extras import huggingface, lora
from extras.untied import apart

N_VOCAB, N_CTX = 257, 16
IDS = np.random.default_rng(0).integers(0, N_VOCAB, (2, N_CTX))


def save_base(folder, **fields):  # -> folder, hparams, params
    """Let transformers save a small model in which every number counts, with a vocabulary of all bytes."""
    tokens = [*bytes_to_unicode().values(), "<|endoftext|>"]
    sizes = {"vocab_size": N_VOCAB, "n_positions": N_CTX, "n_layer": 3}
    model = lively_model(**sizes | {"bos_token_id": 256, "eos_token_id": 256} | fields)
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder, *huggingface.load(folder)[1:]


# ---- peft --------------------------------------------------------------------------------------------------


def read_base(folder, n_more=0):
    """A model as transformers reads it, with more rows in its embedding."""
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    if n_more:
        model.resize_token_embeddings(len(model.transformer.wte.weight) + n_more, mean_resizing=False)
    return model


def randomize(model, seed):
    """Give every number that is trained another one, so that it counts; also peft's b, which begins as 0."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.requires_grad:
                random = 0.06 * torch.randn(tensor.shape, generator=rng)
                tensor.copy_(random if "lora_" in name else tensor + random)


def untied(model):
    """The same, but the head is a copy: peft would merge a change of one of two tied matrices into both."""
    from torch import nn

    shared = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        if type(module) is nn.Linear and id(module.weight) in shared:
            module.weight = nn.Parameter(module.weight.clone())
    model.config.tie_word_embeddings = False
    return model


def logits_of(model, ids=IDS):
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(np.asarray(ids))).logits.numpy()


# ---- ours --------------------------------------------------------------------------------------------------


def ours(params, ids=IDS, n_head=N_HEAD):
    return gpt2.gpt2(ids, **params, n_head=n_head)


def assert_shared(params, base, adapter):
    """What is not adapted is the base's own array, and so is what is kept apart from its a and b."""
    base, arrays = apart(base), adapter.arrays
    for name, array in apart(params).items():
        is_merged = name in adapter.updates and not isinstance(array, lora.LowRank)
        array = getattr(array, "w", array)
        wanted = [arrays.get(name, base[name])]
        if name in ("wte", "lm_head"):  # where the base ties the two, peft reads the one into both
            wanted += [arrays[each] for each in ("wte", "lm_head") if each in arrays]
        assert is_merged or any(array is each for each in wanted), name


def compare(model, params, adapter):
    """Assert that the adapter, attached and merged, has the logits of peft's model, and changes no base."""
    before = {name: np.array(array) for name, array in apart(params).items() if not name.endswith("act")}
    attached, merged = lora.attach(params, adapter), lora.merge(params, adapter)
    wanted = logits_of(model)
    assert_same_logits(ours(attached), wanted)
    assert_same_logits(ours(merged), wanted)
    assert_same_logits(ours(merged), logits_of(untied(model).merge_and_unload()))
    for name, array in before.items():
        np.testing.assert_array_equal(apart(params)[name], array)
    assert {type(apart(attached)[name]) for name in adapter.updates} <= {lora.LowRank}
    assert_shared(attached, params, adapter)
    assert_shared(merged, params, adapter)
