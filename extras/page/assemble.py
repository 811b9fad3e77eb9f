"""The page as one file: the arrays, in base64, with the template, the style and the script beside this file.

Everything that comes from a model or a text is data: JSON in which < is escaped, so that no token can end it.
The script shows it as text, never as markup. A policy in the file lets a browser run only this script and
load nothing.
"""

import base64
import codecs
import hashlib
import html
import inspect
import json
import re
import unicodedata
from pathlib import Path
from string import Template

import numpy as np

import gpt2
from encoder import is_utf8
from extras import sampling
from files import printable, shown
from weights import count

HERE = Path(__file__).parent
SCRIPTS = ("numbers.js", "elements.js", "page.js")  # each uses those before it
LONGEST = 24  # characters in a label, at most
CODE = {  # for each section of the page: the line that does it, its function, and what that calls
    "text": ("ids = encoder.encode", gpt2.main, ()),
    "vectors": ("x = wte[inputs]", gpt2.transformer, ()),
    "attention": (
        "return softmax(q",
        gpt2.attention_weights,
        (
            gpt2.softmax,
            gpt2.causal_mask,
            gpt2.attention,
            gpt2.queries_keys_values,
            gpt2.split_heads,
            gpt2.mha,
        ),
    ),
    "stream": ("x = x + mha(", gpt2.transformer_block, (gpt2.layer_norm, gpt2.linear, gpt2.ffn, gpt2.gelu)),
    "lens": ("return hidden @ wte.T", gpt2.gpt2, ()),
    "next": (
        "ids.append(int(pick(logits)))",
        gpt2.stream,
        (gpt2.next_logits, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p),
    ),
}

# ---- tokens ------------------------------------------------------------------------------------------------


def label(token):  # bytes -> str
    """A token to be read: short, outer spaces and line ends visible, unprintable characters escaped."""
    text = token.decode("utf-8", "backslashreplace")
    text = re.sub(r"\A +| +\Z", lambda spaces: "␣" * len(spaces[0]), text)
    text = printable(text.replace("\n", "↵"))
    if all(unicodedata.category(character) in ("Mn", "Me") for character in text):
        text = ascii(text)[1:-1]  # marks, which cannot be seen alone
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def characters(ids, encoder):  # -> n_seq strings
    """For each token that is only part of a character, the text it belongs to, else ""."""
    found, first, decoder = [""] * len(ids), 0, codecs.getincrementaldecoder("utf-8")("replace")
    for i, token_id in enumerate(ids):
        decoder.decode(encoder.token_bytes(token_id))
        if not decoder.getstate()[0]:  # no character waits for its last bytes
            text = b"".join(map(encoder.token_bytes, ids[first : i + 1]))
            if i > first and is_utf8(text):
                found[first : i + 1] = [label(text)] * (i + 1 - first)
            first = i + 1
    return found


# ---- code --------------------------------------------------------------------------------------------------


def code(line, function, calls):  # -> {"line": ..., "place": ..., "functions": [[place, source], ...]}
    """The source itself: one line to show at once, where it is, and the whole functions."""
    lines, first = inspect.getsourcelines(function)
    i = next(i for i, text in enumerate(lines) if line in text)
    return {
        "line": lines[i].partition("  #")[0].strip(),
        "place": f"{place(function)}, line {first + i}",
        "functions": [[place(f), inspect.getsource(f).rstrip()] for f in (function, *calls)],
    }


def place(function):  # -> "gpt2.py, softmax"
    path = function.__module__.replace(".", "/") + ".py"
    return f"{path}, {function.__name__}"


# ---- the file ----------------------------------------------------------------------------------------------


def packed(array):  # -> {"shape": ..., "type": ..., "base64": ...}
    """An array of numbers or ids, as float32 or uint32, little-endian."""
    array = np.asarray(array)
    kind = "<u4" if array.dtype.kind in "iu" else "<f4"
    content = np.ascontiguousarray(array, dtype=kind).tobytes()
    return {"shape": array.shape, "type": kind[1:], "base64": base64.b64encode(content).decode()}


def all_packed(arrays):  # {name: array} -> {name: packed array}; None stays None
    return arrays and {name: packed(array) for name, array in arrays.items()}


def contents(ids, n_prompt, encoder, hparams, name, is_tied, head, arrays, twin, cuts):  # -> dict
    """What the script reads. name: the model's; is_tied: whether its head is wte; head: to be shown first.

    arrays, twin, cuts: {name: array}; twin and cuts are None where they were not computed.
    """
    first = len(ids) - len(arrays["wte"])
    named = [ids[first:], *(arrays[kind] for kind in ("nearest", "pairs", "lens", "likeliest"))]
    named += [twin["lens"]] if twin else []
    named = np.unique(np.concatenate(named, axis=None))
    n_of_head = 0 if is_tied else hparams["n_vocab"] * hparams["n_embd"]
    return {
        "model": shown(name, 60),
        "hparams": hparams | {"n_parameters": count(hparams) + n_of_head},
        "is_tied": is_tied,
        "head": [int(i) for i in head],
        "first": first,
        "n_prompt": n_prompt,
        "ids": ids[first:],
        "labels": {int(i): label(encoder.token_bytes(i)) for i in named},
        "characters": characters(ids, encoder)[first:],
        "arrays": all_packed(arrays),
        "twin": all_packed(twin),
        "cuts": all_packed(cuts),
        "code": {section: code(*lines) for section, lines in CODE.items()},
    }


def page(data):  # dict -> str
    """The whole file."""
    style = (HERE / "page.css").read_text("utf-8")
    script = "\n".join((HERE / name).read_text("utf-8") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template((HERE / "template.html").read_text("utf-8")).substitute(
        policy=policy,
        title=html.escape(title(data)),
        style=style,
        script=script,
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    )


def title(data):  # -> str
    """How the prompt begins, and the model's name: they tell the tabs of a browser apart."""
    prompt = "".join(data["labels"][i] for i in data["ids"][: data["n_prompt"] - data["first"]])
    return f"{shown(prompt.replace('␣', ' ').strip(), 50)} · {data['model']}"


def digest(text):  # -> "sha256-..."
    """How a content security policy names a script or a style that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
