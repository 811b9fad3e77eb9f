"""The programs compared: each loads the same weights and continues ids greedily.

`python -m benchmarks.rivals NAME FOLDER` answers requests, one line of JSON each, until its input ends.
"""

import importlib.util
import itertools
import json
import os
import sys
import time
from pathlib import Path

from names import KINDS_OF_WEIGHTS

if hasattr(os, "sched_getaffinity"):
    N_THREADS = len(os.sched_getaffinity(0))
else:
    N_THREADS = os.cpu_count()
N_THREADS = int(os.environ.get("OMP_NUM_THREADS", N_THREADS))


def plaingpt(folder, kind=""):
    """gpt2.generate; for several texts, extras/batching.py. kind: of the weights, float32 by default."""
    import gpt2
    import utils
    from extras import batching

    _, hparams, params = utils.load_encoder_hparams_and_params(str(Path(folder, kind)), "models")
    n_head = hparams["n_head"]
    return (
        lambda ids, n: gpt2.generate(ids, params, n_head, n),
        lambda prompts, n: batching.generate(prompts, params, n_head, n),
    )


def plaingpt_lookup(folder):
    """extras/speculative.py, as with --lookup."""
    import utils
    from extras import speculative

    _, hparams, params = utils.load_encoder_hparams_and_params(folder, "models")
    return lambda ids, n: list(speculative.stream(ids, params, hparams["n_head"], n)), None


def picogpt_loop(folder):
    """picoGPT under NumPy 2: no cache, and one float64 number that turns everything after it into float64.

    It starts faster than picoGPT itself, which loads TensorFlow to read the weights.
    """
    import numpy as np

    import gpt2
    import utils

    _, hparams, params = utils.load_encoder_hparams_and_params(folder, "models")
    for block in params["blocks"]:
        block["ln_1"]["eps"] = np.float64(1e-5)

    def generate(ids, n):
        ids = list(ids)
        for _ in range(n):
            logits = gpt2.gpt2(ids, **params, n_head=hparams["n_head"])
            ids.append(int(np.argmax(logits[-1])))
        return ids[-n:]

    return generate, None


def transformers(folder, dtype="float32"):
    """Hugging Face transformers on PyTorch, with its key-value cache."""
    import torch
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(N_THREADS)
    model = GPT2LMHeadModel.from_pretrained(f"{folder}/huggingface", dtype=getattr(torch, dtype)).eval()

    def generate_many(prompts, n):
        inputs = torch.tensor(prompts)
        options = dict(max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0)
        outputs = model.generate(inputs, attention_mask=torch.ones_like(inputs), **options)
        return outputs[:, inputs.shape[1] :].tolist()

    return lambda ids, n: generate_many([ids], n)[0], generate_many


def ctranslate2(folder, compute_type="float32"):
    """CTranslate2, in C++, with kernels from oneDNN or MKL."""
    from ctranslate2 import Generator

    tokens = list(json.loads(Path(folder, "encoder.json").read_text()))
    model = Generator(f"{folder}/ctranslate2", compute_type=compute_type, intra_threads=N_THREADS)

    def generate_many(prompts, n):
        words = [[tokens[token_id] for token_id in ids] for ids in prompts]
        options = dict(max_length=n, min_length=n, sampling_topk=1, include_prompt_in_result=False)
        return [result.sequences_ids[0] for result in model.generate_batch(words, **options)]

    return lambda ids, n: generate_many([ids], n)[0], generate_many


def llama_cpp(folder, file="f32.gguf"):
    """llama.cpp, in C++, through llama-cpp-python, one text at a time; its cache is float16."""
    from llama_cpp import Llama

    options = dict(n_ctx=1024, n_threads=N_THREADS, n_threads_batch=N_THREADS, verbose=False)
    model = Llama(f"{folder}/{file}", **options)

    def generate(ids, n):
        model.reset()
        return list(itertools.islice(model.generate(ids, top_k=1, temp=0.0), n))

    return generate, None


RIVALS = {  # name: (libraries, loader, its second argument, if it takes one)
    "plainGPT": (["numpy"], plaingpt),
    "plainGPT --lookup": (["numpy"], plaingpt_lookup),
    "plainGPT int8": (["numpy", "numba", "safetensors"], plaingpt, "int8"),
    "plainGPT int4": (["numpy", "numba", "safetensors"], plaingpt, "int4"),
    "plainGPT nf4": (["numpy", "numba", "safetensors"], plaingpt, "nf4"),
    "transformers float32": (["torch", "transformers"], transformers, "float32"),
    "transformers bfloat16": (["torch", "transformers"], transformers, "bfloat16"),
    "CTranslate2 float32": (["ctranslate2", "torch", "transformers"], ctranslate2, "float32"),
    "CTranslate2 int8": (["ctranslate2", "torch", "transformers"], ctranslate2, "int8"),
    "llama.cpp F32": (["llama_cpp", "gguf"], llama_cpp, "f32.gguf"),
    "llama.cpp Q8_0": (["llama_cpp", "gguf"], llama_cpp, "q8_0.gguf"),
    "llama.cpp Q4_0": (["llama_cpp", "gguf"], llama_cpp, "q4_0.gguf"),
    "picoGPT's loop": (["numpy"], picogpt_loop),
}
INSTALLED = [
    name for name, (libraries, *_) in RIVALS.items() if all(map(importlib.util.find_spec, libraries))
]
KINDS = {f"plainGPT {kind}": kind for kind in KINDS_OF_WEIGHTS if f"plainGPT {kind}" in INSTALLED}


def answer(name, folder, requests, answers):
    """Load, then answer each request {"prompts": [ids, ...], "n": 40} with new ids and their seconds."""
    _, load, *argument = RIVALS[name]
    generate, generate_many = load(folder, *argument)
    for line in requests:
        request = json.loads(line)
        prompts, n = request["prompts"], request["n"]
        start = time.perf_counter()
        new_ids = [generate(prompts[0], n)] if len(prompts) == 1 else generate_many(prompts, n)
        seconds = time.perf_counter() - start
        print(json.dumps({"ids": new_ids, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    answer(*sys.argv[1:], sys.stdin, answers)
