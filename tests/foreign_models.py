"""Small models as other projects save them, for the tests of convert.py and of what it is built on."""

import os
import sys
from datetime import datetime

import helpers
import numpy as np
from helpers import assert_same_logits

import gpt2
from extras import huggingface
from extras.huggingface import export

N_VOCAB, N_CTX, N_EMBD, N_HEAD = 4000, 64, 48, 4
IDS = np.random.default_rng(7).integers(0, N_VOCAB, N_CTX)
TINY, ALPHA = ["--tokenizer", "tiny"], ["--lora_alpha", "32"]
OLD, NEW = datetime(2023, 5, 31), datetime(2023, 7, 1)  # before and after nanoGPT's change of gelu


def lively_model(bias=True, **fields):
    """A GPT2LMHeadModel in which every number is random and counts; without bias, those are zero."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    usual = {"vocab_size": N_VOCAB, "n_positions": N_CTX, "n_embd": N_EMBD, "n_head": N_HEAD, "n_layer": 2}
    usual |= {"bos_token_id": N_VOCAB - 1, "eos_token_id": N_VOCAB - 1}
    model, rng = GPT2LMHeadModel(GPT2Config(**usual | fields)).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "ln_" in name and name.endswith("weight")
            parameter.normal_(float(norm), 0.15 if bias or not name.endswith("bias") else 0, generator=rng)
    return model


def logits_of(model):  # -> [n_ctx, n_vocab]
    import torch

    with torch.no_grad():
        found = model(torch.from_numpy(IDS)[None])
    return getattr(found, "logits", found)[0, :, :N_VOCAB].numpy()


def assert_same_model(folder, model):
    encoder, hparams, params = huggingface.load(folder)
    assert hparams["n_vocab"] == N_VOCAB and encoder.stop_ids == {N_VOCAB - 1}
    assert_same_logits(gpt2.gpt2(IDS, **params, n_head=hparams["n_head"]), logits_of(model))


def tensor(*shape):
    import torch

    return torch.ones(shape)


MASKS = [f"transformer.h.{layer}.attn.bias" for layer in range(2)]
MATRICES = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def mingpt(model, bias=True):
    """A model's tensors as minGPT saved them: matrices [n_out, n_in], and masks."""
    state = {n: t for n, t in model.state_dict().items() if bias or not n.endswith("bias")}
    state = {n: t.T.contiguous() if n.endswith(MATRICES) else t for n, t in state.items()}
    return state | {name: tensor(1, 1, N_CTX, N_CTX).tril() for name in MASKS}


def nanogpt(model, prefix="", bias=True):
    """A model as nanoGPT saved it."""
    args = {name: getattr(model.config, name) for name in ("n_layer", "n_head", "n_embd", "vocab_size")}
    args |= {"block_size": N_CTX, "bias": bias, "dropout": 0.0}
    state = {prefix + name: t for name, t in mingpt(model, bias).items()}
    return {"model": state, "optimizer": {"state": {}}, "model_args": args, "config": {"device": "cuda"}}


def build_nanogpt(model):
    """A model's tensors as build-nanogpt saved them: like minGPT's, without masks."""
    return {name: t for name, t in mingpt(model).items() if name not in MASKS}


def lightning(model, prefix="model."):
    """A model of transformers as Lightning saves it."""
    state = {prefix + name: t for name, t in model.state_dict().items()}
    more = {"epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.5.0", "lr_schedulers": []}
    return more | {"state_dict": state, "loops": {"fit_loop": {}}, "hyper_parameters": {"lr": 1e-3}}


def instance(monkeypatch, name, base=object, **attributes):
    """An object of a class that only the program that saves it has: "train_gpt2.GPTConfig"."""
    *packages, name = name.split(".")
    module = ".".join(packages)
    for i in range(len(packages)):
        package = ".".join(packages[: i + 1])
        monkeypatch.setitem(sys.modules, package, type(sys)(package))
    kind = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, kind)
    made = kind()
    vars(made).update(attributes)
    return made


def llms_from_scratch(qkv_bias=True, n_vocab=N_VOCAB, is_fast=False):
    """A GPT-2 by the names of LLMs-from-scratch, or by those of its faster twin, with random weights."""
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.shift = nn.Parameter(torch.ones(N_EMBD)), nn.Parameter(torch.zeros(N_EMBD))

        def forward(self, x):
            return nn.functional.layer_norm(x, (N_EMBD,), self.scale, self.shift, 1e-5)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            if is_fast:
                self.qkv, self.proj = nn.Linear(N_EMBD, 3 * N_EMBD, qkv_bias), nn.Linear(N_EMBD, N_EMBD)
            else:
                for part in ("W_query", "W_key", "W_value"):
                    setattr(self, part, nn.Linear(N_EMBD, N_EMBD, qkv_bias))
                self.out_proj = nn.Linear(N_EMBD, N_EMBD)
                self.register_buffer("mask", torch.triu(torch.ones(N_CTX, N_CTX), diagonal=1))

        def forward(self, x):
            qkv = self.qkv(x) if is_fast else torch.cat([self.W_query(x), self.W_key(x), self.W_value(x)], -1)
            q, k, v = (part.unflatten(-1, (N_HEAD, -1)).transpose(-2, -3) for part in qkv.chunk(3, -1))
            heads = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return (self.proj if is_fast else self.out_proj)(heads.transpose(-2, -3).flatten(-2))

    class FeedForward(nn.Module):
        def __init__(self):
            super().__init__()
            wide, narrow = nn.Linear(N_EMBD, 4 * N_EMBD), nn.Linear(4 * N_EMBD, N_EMBD)
            self.layers = nn.Sequential(wide, nn.GELU(approximate="tanh"), narrow)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.att, self.ff, self.norm1, self.norm2 = Attention(), FeedForward(), norm(), norm()

        def forward(self, x):
            x = x + self.att(self.norm1(x))
            return x + self.ff.layers(self.norm2(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok_emb, self.pos_emb = nn.Embedding(n_vocab, N_EMBD), nn.Embedding(N_CTX, N_EMBD)
            self.trf_blocks = nn.Sequential(Block(), Block())
            self.final_norm, self.out_head = norm(), nn.Linear(N_EMBD, n_vocab, bias=False)

        def forward(self, ids):
            x = self.tok_emb(ids) + self.pos_emb.weight[: ids.shape[-1]]
            return self.out_head(self.final_norm(self.trf_blocks(x)))

    norm = (lambda: nn.LayerNorm(N_EMBD)) if is_fast else Norm
    model, rng = Model().eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = "norm" in name and name.endswith(("scale", "weight"))
            parameter.normal_(float(is_scale), 0.15, generator=rng)
    return model


LORA = "transformer.h.0.attn.c_attn.lora_"


def lora(ranks=(3, 3), prefix="", others=None):
    """A checkpoint of Microsoft's: in A and in B, the queries' adapter stands above the values'."""
    import torch

    rng, state = torch.Generator().manual_seed(0), {}
    for layer, rank in enumerate(ranks):
        for letter, shape in {"A": (2 * rank, N_EMBD), "B": (2 * N_EMBD, rank)}.items():
            name = prefix + LORA.replace("0", str(layer)) + letter
            state[name] = torch.randn(shape, generator=rng) * 0.1
    return {"model_state_dict": state | {name: tensor(*shape) for name, shape in (others or {}).items()}}


def save(content, file, date=NEW):
    """Write a pickle, or bytes, as of a date."""
    import torch

    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    os.utime(file, (date.timestamp(), date.timestamp()))
    return file


def save_transformers(folder, model, encoder, state=None):
    """Write a model as transformers did before safetensors."""
    model.config.save_pretrained(folder)
    export.write_tokenizer(folder, encoder, N_CTX)
    return save(state or model.state_dict(), folder / "pytorch_model.bin")


def run(capsys, *words):  # -> exit status, stdout, stderr
    words = [str(word) for word in words]
    status = helpers.run(words, "extras.huggingface.convert")
    return status, *capsys.readouterr()
