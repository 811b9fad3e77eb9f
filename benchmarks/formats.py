"""Random weights in the shapes of OpenAI's models, and the same weights in the format of each peer."""

import itertools
import json
import re
import shutil
import sys

import numpy as np

import weights
from benchmarks.measure import run_sampled
from checkpoint import in_openai_layout, write_checkpoint
from encoder import Encoder, bytes_to_unicode, read_merges, vocabulary, write_encoder


def write_openai(folder, size):
    """Write a folder for gpt2.py --model_size, unless it exists. Its tokens are bytes and pairs of bytes."""
    if (folder / "model.ckpt.index").exists():
        return
    symbols = bytes_to_unicode().values()
    merges = list(itertools.islice(itertools.product(symbols, repeat=2), 50_000))
    hparams = weights.PRESETS[size]
    arrays = weights.flatten(weights.random_params(hparams, np.random.default_rng(0)))
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder, Encoder(vocabulary(merges), merges))
    (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")
    write_checkpoint(folder / "model.ckpt", in_openai_layout(arrays))


def write_quantized(folder, model, kind):
    """Write a model, a folder, into another with weights in "int8", "int4" or "nf4"; see `run_sampled`.

    The program that users run does it. In this process Numba's loops would set variables, which the peers,
    started later, would inherit.
    """
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "extras.quantize", str(model), str(folder), "--weights", kind]
    return run_sampled(command)


def write_ctranslate2(folder):
    """Convert the Hugging Face folder with CTranslate2's own converter; loading quantises it to int8."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder.parent / "huggingface")).convert(str(folder))


def write_gguf(path, hparams, params, quantization):
    """Write the same for llama.cpp: matrices are transposed, as in ggml, and all but wpe are quantised."""
    import gguf

    names = {"ln_1": "attn_norm", "attn/c_attn": "attn_qkv", "attn/c_proj": "attn_output"}
    names |= {"ln_2": "ffn_norm", "mlp/c_fc": "ffn_up", "mlp/c_proj": "ffn_down"}
    whole = {"wte": "token_embd.weight", "wpe": "position_embd.weight"}
    whole |= {"ln_f/g": "output_norm.weight", "ln_f/b": "output_norm.bias"}
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(hparams["n_ctx"])
    writer.add_embedding_length(hparams["n_embd"])
    writer.add_feed_forward_length(4 * hparams["n_embd"])
    writer.add_block_count(hparams["n_layer"])
    writer.add_head_count(hparams["n_head"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(json.loads((path.parent / "encoder.json").read_text())))
    writer.add_token_merges([" ".join(pair) for pair in read_merges(path.parent / "vocab.bpe")])
    writer.add_eos_token_id(hparams["n_vocab"] - 1)
    for name, array in weights.flatten(params).items():
        if name in whole:
            tensor = whole[name]
        else:
            layer, part, leaf = re.fullmatch(r"h(\d+)/(.*)/(.)", name).groups()
            tensor = f"blk.{layer}.{names[part]}.{'bias' if leaf == 'b' else 'weight'}"
        if name.endswith("/w"):
            array = np.ascontiguousarray(array.T)
        if array.ndim == 2 and name != "wpe":
            kind = gguf.GGMLQuantizationType[quantization]
            writer.add_tensor(tensor, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
