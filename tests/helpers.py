"""Small tools of the tests: checkpoints written by hand or by TensorFlow, a release to download, tiktoken."""

import base64
import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import numpy as np

import gpt2
import program
import weights
from checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "models" / "tiny"
TEXTS = [  # awkward ones, for tokenizers
    "",
    " ",
    "Hello, world",
    "hello world",
    "It's we'll I'VE don't 'twas o'clock 's",
    "  two  spaces ",
    "\n\n\ttab\r\nnew line \n",
    "1234 12a a12 3.14 ½ ²³ ٣٤",
    "naïve café Übergröße ŒUVRE",
    "日本語のテキスト 中文 한국어",
    "привет мир, γειά σου κόσμε",
    "🦊👩‍👩‍👧‍👦 🏳️‍🌈é",
    "a\u00a0b\u2003c\u3000d\u0085e\u2028f\ufefff\x00\x1cg",
    "!?...---===((()))[]{}<|>",
    "before<|endoftext|>after",
    "def f(x):\n    return x ** 2  # squares\n",
]
SMALL = {"n_vocab": 97, "n_ctx": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}


differences = []  # what assert_same_logits saw; printed when the tests end


def assert_same_logits(ours, theirs):
    """Equal as two float32 computations of the same thing are: to 1e-5 of the largest."""
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    differences.append(difference)
    assert difference <= 1e-5, f"the largest difference is {difference:.1e} of the largest logit"


def assert_same_ids(ours, theirs, next_logits):
    """Equal, or different for the first time where the two best logits are too close to tell apart."""
    assert len(ours) == len(theirs)
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            logits = next_logits(theirs[:i])
            gap = np.ptp(np.sort(logits)[-2:]) / np.abs(logits).max()
            assert {a, b} == set(np.argsort(logits)[-2:]) and gap <= 1e-5, (
                f"id {i}: {a}, not {b}; gap {gap:.1e}"
            )
            return


def sampler(seed):
    """A pick that draws, with a seed of its own."""
    rng = np.random.default_rng(seed)
    return lambda logits: rng.choice(len(logits), p=gpt2.softmax(logits.astype(float) / 2))


def passes(monkeypatch):
    """The shape of the ids of each pass through the model, as they come."""
    shapes, transformer = [], gpt2.transformer

    def counted(inputs, **options):
        shapes.append(np.shape(inputs))
        return transformer(inputs, **options)

    monkeypatch.setattr(gpt2, "transformer", counted)
    return shapes


def attention_seen(ids, params, n_head):  # -> [n_layer, n_head, n_seq, n_seq]
    """The weights that a plain forward pass computes, as they pass by."""
    maps, plain = [], gpt2.attention_weights

    def noted(*arguments):
        maps.append(plain(*arguments))
        return maps[-1]

    with mock.patch.object(gpt2, "attention_weights", noted):
        gpt2.gpt2(ids, **params, n_head=n_head)
    return np.array(maps)


def data_of(page):  # str -> dict
    """What the script of a page reads (extras/page)."""
    return json.JSONDecoder().raw_decode(page, page.index('{"model":'))[0]


def unpacked(packed):  # {"shape", "type", "base64"} -> array
    """An array of a page, as a browser reads it."""
    numbers = np.frombuffer(base64.b64decode(packed["base64"]), "<" + packed["type"])
    return numbers.reshape(packed["shape"])


# ---- models ------------------------------------------------------------------------------------------------


def lively_params(hparams, seed, std=0.5):
    """A model in which every number is random and counts: its next id depends on all before it."""
    rng = np.random.default_rng(seed)
    table = weights.shapes(hparams)
    return weights.nest({name: rng.normal(0, std, s).astype(np.float32) for name, s in table.items()})


def every_variant(hparams):  # -> hparams, params
    """A lively model with every variant at once: widths, activation, norms, and a head of its own."""
    from extras.huggingface.variants import exact_gelu
    from extras.untied import UntiedEmbedding

    hparams = hparams | {"n_inner": 40}
    params = lively_params(hparams, seed=1)
    for block in params["blocks"]:
        block["mlp"]["act"] = exact_gelu
        block["ln_1"]["eps"] = block["ln_2"]["eps"] = 1e-3
    params["ln_f"]["eps"] = 1e-3
    return hparams, params | {"wte": UntiedEmbedding(params["wte"], lively_params(hparams, seed=2)["wte"])}


def as_transformers(arrays, hparams):
    """A GPT2LMHeadModel with our weights, under its names: weight and bias for w, g and b."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": hparams["n_vocab"], "n_positions": hparams["n_ctx"]}
    sizes |= {name: hparams[name] for name in ("n_embd", "n_head", "n_layer")}
    model = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
    state = {}
    for name, array in arrays.items():
        theirs = name.replace("/", ".").removesuffix(".w").removesuffix(".g").removesuffix(".b")
        theirs = "h." + theirs[1:] if theirs[0] == "h" else theirs
        state[f"transformer.{theirs}.{'bias' if name.endswith('/b') else 'weight'}"] = torch.from_numpy(array)
    model.load_state_dict(state | {"lm_head.weight": state["transformer.wte.weight"]}, strict=True)
    return model


def write_model(folder, variables, hparams, vocabulary=TINY):
    """A folder in OpenAI's layout, its checkpoint written by hand."""
    folder.mkdir(exist_ok=True)
    write_checkpoint(folder / "model.ckpt", variables)
    (folder / "hparams.json").write_text(json.dumps(hparams))
    for name in ("encoder.json", "vocab.bpe"):
        (folder / name).write_bytes((vocabulary / name).read_bytes())
    return folder


def write_huggingface(folder, tensors, hparams, vocabulary=TINY, **config):
    """A folder in the layout of transformers, with vocab.json and merges.txt."""
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    config = {"n_positions": hparams["n_ctx"], "vocab_size": hparams["n_vocab"]} | config
    config |= {name: hparams[name] for name in ("n_embd", "n_head", "n_layer") if name not in config}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"} | config))
    save_file(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / "model.safetensors"
    )
    for theirs, ours in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        (folder / theirs).write_bytes((vocabulary / ours).read_bytes())
    return folder


# ---- checkpoints -------------------------------------------------------------------------------------------


def save_with_tensorflow(tf, prefix, variables):
    """Let the Saver of TensorFlow 1, with which OpenAI wrote theirs, write {name: array}."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        saved = {
            name: v1.get_variable(name, array.shape, tf.as_dtype(array.dtype), v1.zeros_initializer())
            for name, array in variables.items()
        }
        feeds = {
            name: v1.placeholder(tf.as_dtype(array.dtype), array.shape) for name, array in variables.items()
        }
        session.run(
            [saved[name].assign(feeds[name]) for name in variables],
            {feeds[name]: array for name, array in variables.items()},
        )
        v1.train.Saver(saved).save(session, str(prefix), write_meta_graph=False)


# ---- the world outside -------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve(answers):  # {path: bytes or function(handler)} -> address, paths asked for
    """A server on this machine that knows some paths and answers 404 to others; or one function for all."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = answers if callable(answers) else answers.get(self.path)
            if callable(answer):
                answer(self)
            elif answer is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def without_unbuffered():
    """The environment, without what would make Python write at once whatever the program does."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def run(argv, name="cli"):
    """Run a program in this process, by default gpt2.py, and return its exit status."""
    return program.run(name, program="gpt2.py" if name == "cli" else name, argv=argv)


def command(*words, **options):
    """Run `python gpt2.py WORDS ...` and return what it did: returncode, stdout and stderr, both bytes."""
    return run_python("gpt2.py", *words, **options)


def run_python(*words, **options):
    """Run python with these words, in the project's folder, without input; line ends are those of Linux."""
    if "input" not in options:
        options = {"stdin": subprocess.DEVNULL} | options
    options = {"cwd": ROOT, "capture_output": True, "timeout": 120, "env": without_unbuffered()} | options
    done = subprocess.run([sys.executable, *words], **options)
    done.stdout, done.stderr = (text and text.replace(b"\r\n", b"\n") for text in (done.stdout, done.stderr))
    return done
