"""How well a model tells a text: surprise and rank of each token, loss, perplexity, bits per byte, choices.

The logits at a position are about the token that comes next; that shift is made here, in `score` and `loss`,
and nowhere else. Surprise is -ln of the probability that a model gave to what came, in nats; e to the power
of its mean is the perplexity: among how many equally likely tokens the model was left to guess.

    python -m extras.scoring FILE --show
"""

import os
import re
import sys
from pathlib import Path

import numpy as np

import gpt2
from cli import run
from encoder import END_OF_TEXT
from utils import load_encoder_and_hparams, load_params

HELP = """\
python -m extras.scoring FILE [--option value]    how well a model tells a text

FILE                 a text in UTF-8, - for standard input; lines <|endoftext|>
                     part it into documents
--model_size 124M    as for gpt2.py, see python gpt2.py --help
--models_dir models  the folder in which downloaded models are kept
--stride 1024        how many tokens a window brings that none before it had;
                     less is slower, and lets each see more of the text
--show               print the text as well, coloured by surprise, or each token
                     with its number where there is no colour
--debug              show where in the program an error arose

Exit status: 0; 2 wrong use; 1 unusable file or download; 130 Ctrl-C
"""
# ---- numbers -----------------------------------------------------------------------------------------------


def log_softmax(logits):  # [n] -> [n]
    """ln softmax(logits), written so that a very small probability does not become ln 0."""
    logits = logits - np.max(logits, axis=-1, keepdims=True)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def cross_entropy(logits, targets):  # [n_seq, n_vocab], [n_seq] -> [n_seq]
    """-ln softmax(logits)[target]: the surprise at each position."""
    return -np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]


def score(ids, params, n_head, stride=None):  # [n_seq] -> nats, ranks: two of [n_seq - 1]
    """The surprise of each token but the first, and its rank: 1 if none was likelier.

    A text longer than n_ctx is read in windows, each of which brings `stride` new tokens, by default all that
    it holds. Raises ValueError for a stride that is not from 1 to n_ctx.
    """
    ids, n_ctx, found = np.asarray(ids), len(params["wpe"]), []
    stride = n_ctx if stride is None else stride
    if not 1 <= stride <= n_ctx:
        raise ValueError(f"stride is {stride}, it must be from 1 to the {n_ctx} tokens that the model sees")
    n_known = 1  # tokens that need no telling any more
    for start in range(0, len(ids) - 1, stride):
        window = ids[start : start + n_ctx + 1]
        hidden = gpt2.transformer(window[:-1], **params, n_head=n_head)[n_known - 1 - start :]
        logits, targets = hidden @ params["wte"].T, ids[n_known : start + len(window)]
        target_logits = np.take_along_axis(logits, targets[:, None], axis=-1)
        found.append((cross_entropy(logits, targets), 1 + np.sum(logits > target_logits, axis=-1)))
        n_known = start + len(window)
        if n_known == len(ids):
            break
    nats, ranks = zip(*found) if found else ([np.zeros(0, np.float32)], [np.zeros(0, int)])
    return np.concatenate(nats), np.concatenate(ranks)


def nats(ids, params, n_head, stride=None):  # [n_seq] -> [n_seq - 1]
    """The surprise alone; see `score`."""
    return score(ids, params, n_head, stride)[0]


def perplexity(ids, params, n_head, stride=None):  # [n_seq] -> number
    """e to the power of the mean surprise; see `score`."""
    return float(np.exp(np.mean(nats(ids, params, n_head, stride), dtype=float)))


def loss(ids, params, n_head, mask=None, label_smoothing=0.0):  # [n_seq] -> nats a token, accuracy
    """The mean surprise of the tokens but the first, and the share of which none was likelier.

    mask: [n_seq], true for tokens that count. label_smoothing: the share of the goal that is spread over all
    tokens alike (Szegedy et al. 2016, 7). Batches have further axes.
    """
    ids = np.asarray(ids)
    targets = ids[..., 1:]
    counts = np.ones(targets.shape, bool) if mask is None else np.asarray(mask, dtype=bool)[..., 1:]
    if not counts.any():
        raise ValueError("no token counts: the text has no second one, or the mask is false for all")
    logits = gpt2.gpt2(ids[..., :-1], **params, n_head=n_head)
    surprise = cross_entropy(logits, targets)
    if label_smoothing:
        of_all = -np.mean(log_softmax(logits), axis=-1)
        surprise = (1 - label_smoothing) * surprise + label_smoothing * of_all
    right = np.argmax(logits, axis=-1) == targets
    return float(np.mean(surprise[counts])), float(np.mean(right[counts]))


def choose(context, choices, params, n_head):  # ids, list of ids -> [n_choices]
    """ln of the probability of each way to go on; a fairer comparison of unlike lengths divides by them."""
    return np.array([-nats([*context, *ids], params, n_head)[-len(ids) :].sum() for ids in choices])


# ---- documents ---------------------------------------------------------------------------------------------


def documents(text):  # str -> list of str
    """Cut a text at its lines <|endoftext|>."""
    return [part for part in re.split(r"(?m)^<\|endoftext\|>(?:\n|\Z)", text) if part]


def read_documents(path):  # -> list of str
    """The documents in a file, or in standard input, "-", one at least. Raises ValueError if not UTF-8."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        found = documents(content.decode("utf-8-sig").replace("\r\n", "\n"))  # less what Notepad begins with
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from None
    if not found:
        raise ValueError(f"{path} is empty")
    return found


def document_ids(document, encoder):  # str -> ids
    """The ids of a document, behind the <|endoftext|> that stands before each."""
    return [encoder.encoder[END_OF_TEXT], *encoder.encode(document)]


def bits_per_byte(documents, encoder, surprise):
    """The bits that it takes to tell documents to someone who knows the model, for each of their bytes.

    surprise: ids of a document -> nats of all but the first, such as `nats`. Unlike the loss of a token, this
    can be compared between models of different vocabularies.
    """
    n_nats = sum(surprise(document_ids(document, encoder)).sum(dtype=float) for document in documents)
    return n_nats / np.log(2) / count_bytes(documents)


def count_bytes(documents):  # -> int
    """The length of documents in UTF-8."""
    return sum(len(document.encode()) for document in documents)


# up to so many nats: a colour of 256, 0 for none
SHADES = ((1, 0), (3, 229), (5, 221), (7, 215), (np.inf, 203))


def show_surprise(ids, surprise, encoder, in_colour):  # [n_seq], [n_seq] -> str
    """The text, each token on a shade that tells its surprise, or with its nats behind it."""
    shown = ""
    for piece, nats in zip(encoder.decode_stream(ids), [*surprise, None]):  # the last piece ends the text
        if nats is None:
            return shown + piece
        shade = next(colour for limit, colour in SHADES if nats <= limit)
        if not in_colour:
            piece = f"{piece}[{nats:.1f}]"
        elif shade:
            piece = re.sub(r"(.+)", rf"\033[30;48;5;{shade}m\1\033[0m", piece)
        shown += piece


# ---- the command -------------------------------------------------------------------------------------------


def command(
    file: str = "",
    *,
    model_size: str = "124M",
    models_dir: str = "models",
    stride: int = None,
    show: bool = False,
):
    """Print the numbers of a text, and the text if it is to be shown."""
    if not file:
        raise ValueError("give a file, or - for standard input (see --help)")
    texts = read_documents(file)
    encoder, hparams = load_encoder_and_hparams(model_size, models_dir)
    if END_OF_TEXT not in encoder.encoder:
        raise ValueError(f"{model_size} has no token {END_OF_TEXT}, with which a document begins")
    params, n_head = load_params(model_size, models_dir), hparams["n_head"]
    told = []
    for text in texts:
        ids = document_ids(text, encoder)
        told.append(nats(ids, params, n_head, stride))
        if show:
            in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            print(show_surprise(ids[1:], told[-1], encoder, in_colour) + "\n")
    surprise = np.concatenate(told).astype(float)
    print(f"tokens         {len(surprise):,}")
    print(f"nats a token   {surprise.mean():.3f}")
    print(f"perplexity     {np.exp(surprise.mean()):.2f}")
    print(f"bits per byte  {surprise.sum() / np.log(2) / count_bytes(texts):.3f}")


if __name__ == "__main__":
    raise SystemExit(run(function=command, help=HELP, program="extras.scoring"))
