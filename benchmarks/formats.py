"""Random weights in the shapes of OpenAI's models, and the same weights in the format of each peer."""

import itertools
import json
import shutil
import sys

import numpy as np

import weights
from benchmarks.measure import run_sampled
from checkpoint import in_openai_layout, write_checkpoint
from encoder import Encoder, bytes_to_unicode, vocabulary, write_encoder


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


def write_gguf(path, model, kind):
    """Write a loaded model for llama.cpp; kind: of the numbers in its matrices, such as "Q8_0"."""
    from extras.huggingface import gguf_files  # here, because it needs the library gguf

    path.unlink(missing_ok=True)
    gguf_files.save(path, *model, kind)
