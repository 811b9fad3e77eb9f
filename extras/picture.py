"""One picture of a text: how likely the model found each token, and what one head looks back at.

It looks back from the last token of the text. Unless a head is given, it is the one that the next token needs
most: each head is cut in turn, and the next token is least likely without this one.

    python -m extras.picture "The little fox looked at the old wolf, and the old" fox.svg --model_size tiny
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("extras.picture", "requirements-extras.txt"))

import io
import os
from pathlib import Path

import numpy as np

import gpt2
from extras import inside, scoring, style
from extras.style import in_percent, tokens_in_words, weights_in_words
from files import needs, write_whole
from names import MODELS_DIR
from text import announce_reading, check_something_left, encoded, read_prompt, say_if_plain, to_the_end
from utils import open_model

with needs("requirements-extras.txt"):
    from matplotlib import rc_context

HELP = """\
python -m extras.picture TEXT FILE [--option value]    a text as the model sees it

TEXT                 the text; - reads what is piped in
FILE                 the picture, a new file, .svg or .png; what it shows is also
                     written in words, into the file and to standard output
-m, --model_size 124M
                     the model, as for gpt2.py; tiny needs no download
--lora FOLDER        an adapter for it, as for gpt2.py
--weights int8       int8, int4 or nf4, as for gpt2.py
--models_dir FOLDER  for downloaded models, as for gpt2.py
-n, --n_tokens_to_generate 6
                     how many tokens the model adds, at most
--special            read special tokens in the text as tokens, as in gpt2.py
"""
WIDTH, EDGE = 900, 24  # in pixels, 96 to the inch
N_FIT = 60  # tokens: more, even upright, would not fit side by side

# ---- numbers -----------------------------------------------------------------------------------------------


def most_needed_head(next_id, ids, params, n_head):  # -> block, head
    """The head without which next_id is least likely."""
    left = inside.probability_without_heads(next_id, ids, params, n_head)
    return np.unravel_index(np.argmin(left), left.shape)


def check_length(ids, n_tokens_to_generate):
    """Raise ValueError unless all these tokens can be read in the picture, and one of them is new."""
    if n_tokens_to_generate < 1:
        raise ValueError(f"n_tokens_to_generate is {n_tokens_to_generate}: the picture needs 1 or more")
    if len(ids) + n_tokens_to_generate > N_FIT:
        asked = f"{len(ids)} tokens and {n_tokens_to_generate} new ones"
        raise ValueError(f"{asked}, but at most {N_FIT} fit in a picture that can be read: shorten the text")


# ---- sentences: words, a token, words, a token, ... --------------------------------------------------------


def which(tokens, i):  # -> words
    """What to say before tokens[i], if the text has other tokens that are the same."""
    n, k = tokens.count(tokens[i]), tokens[: i + 1].count(tokens[i])
    if n == 1:
        return ""
    if k == 1:
        return "the first "
    return "the last " if k == n else "an earlier "


def what_it_looks_at(tokens, weights, block, head):  # -> sentence
    """From the last token to the one with the largest weight, which may have come after the same token."""
    last, best = len(tokens) - 1, int(np.argmax(weights))
    this = [f"Head {head} of block {block} looks back from {which(tokens, last)}", tokens[last]]
    most = "" if weights[best] > 0.5 else "most of all "
    if best == last:
        return [*this, f" {most}to itself"]
    if best and tokens[best - 1] == tokens[last]:
        after = f" that came after {which(tokens, best - 1)}"
        return [*this, f" {most}to the ", tokens[best], after, tokens[best - 1]]
    return [*this, f" {most}to {which(tokens, best)}", tokens[best]]


def what_it_does(token, p, p_without, n_heads):  # -> sentence
    """How likely the next token is with and without the head; n_heads: how many it was chosen from."""
    before, after = in_percent(p), in_percent(p_without)
    change = f"{'falls' if p_without < p else 'rises'} from {before} to {after}"
    if before == after:
        change = f"stays at {before}"
    elif p_without < p and n_heads > 1:
        change += f", further than without any other of the {n_heads} heads"
    return ["Without this head, the next token ", token, f" {change}."]


# ---- the picture -------------------------------------------------------------------------------------------


def picture(tokens, new_tokens, likely, weights, title, does):  # -> figure
    """Everything in its place, from the top down; the height is what that takes."""
    axes, n, across = style.canvas(WIDTH), len(tokens), {"left": EDGE, "right": WIDTH - EDGE}
    rated = [["" if np.isnan(p) else in_percent(p) for p in likely], [*map(style.shade, likely)]]
    given, new = ([part[:n] for part in rated], [part[n:] for part in rated])
    heading = "How likely the model found each token: the darker, the less likely"
    y = style.write(axes, 36, [heading], style.TITLE, style.SERIF, **across)
    y = style.chips(axes, y + 16, tokens, *given, framed=n - 1, **across)
    y = style.chips(axes, y, new_tokens, *new, note="written by the model", style="italic", **across)
    y = style.write(axes, y + 36, title, style.TITLE, style.SERIF, **across)
    y = style.write(axes, y + 23, does, 12.5, style.SANS, **across)
    return style.cut(axes, style.arcs(axes, y + 6, tokens, weights, **across) + EDGE)


def in_words(tokens, new_tokens, likely, weights, title, does):  # -> str
    """The same for those who cannot see it."""
    n = len(tokens)
    text = ", ".join(filter(None, [repr(tokens[0]), tokens_in_words(tokens[1:], likely[1:n])]))
    title, does = ("".join(repr(part) if i % 2 else part for i, part in enumerate(s)) for s in (title, does))
    return (
        f"A text, with the probability that the model gave each token: {text}. Written by the model: "
        f"{tokens_in_words(new_tokens, likely[n:])}. {title}. "
        f"{weights_in_words(tokens, weights)} {does}"
    )


def draw(ids, params, n_head, encoder, n_tokens_to_generate=6, head=None):  # -> figure, alt
    """The picture of a text and of what comes next; head: (block, head), by default `most_needed_head`.

    Raises ValueError for a text that is too long to be read in a picture, or for the model.
    """
    check_length(ids, n_tokens_to_generate)
    n, new_ids = len(ids), gpt2.generate(ids, params, n_head, n_tokens_to_generate)
    new_ids = to_the_end(new_ids, encoder.stop_ids)
    n_heads = 1 if head else len(params["blocks"]) * n_head
    block, head = head or most_needed_head(new_ids[0], ids, params, n_head)
    cut = inside.without_head(params, n_head, block, head)
    p, p_without = (inside.probability(new_ids[0], ids, model, n_head) for model in (params, cut))
    likely = np.array([np.nan, *np.exp(-scoring.nats([*ids, *new_ids], params, n_head))])
    weights = [*inside.attention_maps(ids, **params, n_head=n_head)][block][head, -1]
    tokens = [encoder.token_bytes(i).decode("utf-8", "backslashreplace") for i in [*ids, *new_ids]]
    title = what_it_looks_at(tokens[:n], weights, block, head)
    does = what_it_does(tokens[n], p, p_without, n_heads)
    figure = picture(tokens[:n], tokens[n:], likely, weights, title, does)
    return figure, in_words(tokens[:n], tokens[n:], likely, weights, title, does)


# ---- the command -------------------------------------------------------------------------------------------


def save(figure, alt, path):
    """Write the picture to a .svg or .png, with alt as its title: the same picture gives the same bytes."""
    kind, content = Path(path).suffix[1:].lower(), io.BytesIO()
    dated = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "picture"}):
        figure.savefig(content, format=kind, dpi=192, metadata={"Title": alt} | dated)
    write_whole(path, content.getvalue())


def command(
    text: str = "",
    file: str = "",
    *,
    model_size: str = None,
    lora: str = None,
    weights: str = None,
    models_dir: str = MODELS_DIR,
    n_tokens_to_generate: int = 6,
    special: bool = False,
):
    """Write the picture of a text to a file, and print its content in words."""
    if not text or not file:
        raise ValueError("give a text and a file: python -m extras.picture TEXT FILE (see --help)")
    if Path(file).suffix.lower() not in (".svg", ".png"):
        raise ValueError(f"the picture's file is {file!r}: give the name of a .svg or .png (see --help)")
    if os.path.lexists(file):
        raise ValueError(f"{file} exists: name a new file")
    text = read_prompt(text)
    encoder, hparams, load_params = open_model(model_size, models_dir, lora, weights)
    ids = encoded(text, encoder, special, n_most=hparams["n_ctx"])
    check_something_left(ids)
    check_length(ids, n_tokens_to_generate)
    say_if_plain([text], encoder, special)
    announce_reading(len(ids), hparams)
    figure, alt = draw(ids, load_params(), hparams["n_head"], encoder, n_tokens_to_generate)
    save(figure, alt, file)
    print(alt)
