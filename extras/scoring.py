"""How well a model predicts a text: each token's surprise and rank; loss, perplexity, bits per byte, choices.

The logits at a position predict the next token: `score` and `loss` make that shift by one. Surprise is -ln of
the probability that the model gave to the token that came, in nats; e to the power of its mean is the
perplexity: among how many equally likely tokens the model had, in effect, to choose.

    python -m extras.scoring FILE --model_size tiny --show
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("extras.scoring"))

import re
import sys

import numpy as np

import gpt2
from files import read_text, say, visible
from names import MODELS_DIR
from text import announce_reading, encoded, say_if_plain, shows_colour, special_ids
from utils import open_model

HELP = """\
python -m extras.scoring FILE [--option value]    how well a model predicts a text

FILE                 a text in UTF-8; - , or nothing, reads what is piped in;
                     lines <|endoftext|> split it into documents
-m, --model_size 124M
                     the model, as for gpt2.py; tiny needs no download
--lora FOLDER        an adapter for it, as for gpt2.py
--weights int8       int8, int4 or nf4, as for gpt2.py
--models_dir FOLDER  for downloaded models, as for gpt2.py
--stride 1024        how many new tokens each window scores, by default as
                     many as the model sees; fewer is slower, but gives each
                     token more context
--special            read <|endoftext|>, and any other special token of the
                     model, inside a document as that token, not as plain text
--show               print the text as well, coloured by surprise; without
                     colour, each token is followed by its surprise in nats
"""

# ---- numbers -----------------------------------------------------------------------------------------------


def log_softmax(logits):  # [n] -> [n]
    """ln softmax(logits), written so that a very small probability does not become ln 0."""
    logits = logits - np.max(logits, axis=-1, keepdims=True)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def cross_entropy(logits, targets):  # [n_seq, n_vocab], [n_seq] -> [n_seq]
    """-ln softmax(logits)[target]: the surprise at each position."""
    return -np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]


def windows(n_ids, n_ctx, stride):  # -> (start, end, n_scored), ...
    """The windows in which a text is read: ids[start : end - 1] predict ids[end - n_scored : end].

    The first window scores as many tokens as it can, n_ctx; each later one at most stride new ones, after as
    much text as fits. So the last window reaches back until it is full, and every token but the first is
    scored once. In the terms of lm-evaluation-harness, stride is max_seq_len - context_len + 1.
    """
    end = min(n_ctx + 1, n_ids)
    if n_ids > 1:
        yield 0, end, end - 1
    while end < n_ids:
        n_scored = min(stride, n_ids - end)
        end += n_scored
        yield end - 1 - n_ctx, end, n_scored


def score(ids, params, n_head, stride=None):  # [n_seq] -> surprises, ranks: two of [n_seq - 1]
    """The surprise of each token except the first, and its rank: 1 if no token was likelier.

    A text longer than n_ctx + 1 is read in `windows`; stride is by default n_ctx.
    Raises ValueError for a stride that is not from 1 to n_ctx, and for what is not an id of this model;
    FloatingPointError as `gpt2.next_logits` does.
    """
    n_ctx = len(params["wpe"])
    stride = n_ctx if stride is None else stride
    check_stride(stride, n_ctx)
    check_ids(ids, params)
    ids = np.asarray(ids)
    kv_cache = gpt2.new_kv_cache(params, n_head, min(n_ctx, len(ids)))
    surprises, ranks = [np.zeros(0, np.float32)], [np.zeros(0, int)]
    for start, end, n_scored in windows(len(ids), n_ctx, stride):
        hidden = gpt2.prefill(ids[start : end - 1], params, n_head, kv_cache)
        targets = ids[end - n_scored : end]
        for chunk in surprises_and_ranks(hidden[-n_scored:], targets, params):
            surprises.append(chunk[0])
            ranks.append(chunk[1])
    return np.concatenate(surprises), np.concatenate(ranks)


def check_stride(stride, n_ctx):
    """Raise ValueError for windows that overlap entirely, or leave tokens out."""
    if not 1 <= stride <= n_ctx:
        raise ValueError(f"stride is {stride}: it must be from 1 to the {n_ctx} tokens that the model sees")


def surprises_and_ranks(hidden, targets, params, n_chunk=128):  # [n_seq, n_embd], [n_seq] -> yields both
    """The surprise and the rank of each target, n_chunk at a time: all logits of 124M would be 200 MB."""
    for start in range(0, len(targets), n_chunk):
        logits = gpt2.next_logits(hidden[start : start + n_chunk], params)
        chunk = targets[start : start + n_chunk]
        target_logits = np.take_along_axis(logits, chunk[:, None], axis=-1)
        yield cross_entropy(logits, chunk), 1 + np.sum(logits > target_logits, axis=-1)


def check_ids(ids, params):
    """Raise ValueError for what is not an id of this model; a text of any length is allowed."""
    if len(ids):
        gpt2.check_inputs(ids, 0, n_vocab=len(params["wte"]), n_ctx=len(ids))


def nats(ids, params, n_head, stride=None):  # [n_seq] -> [n_seq - 1]
    """The surprises alone; see `score`."""
    return score(ids, params, n_head, stride)[0]


def perplexity(ids, params, n_head, stride=None):  # [n_seq] -> number
    """e to the power of the mean surprise; see `score`. Raises ValueError for a text of one token."""
    if len(ids) < 2:
        raise ValueError("nothing predicts the first token: a perplexity needs two or more")
    return float(np.exp(np.mean(nats(ids, params, n_head, stride), dtype=float)))


def loss(ids, params, n_head, mask=None, label_smoothing=0.0):  # [n_seq] -> nats a token, accuracy
    """The mean surprise of the tokens except the first, and the share of them that were the likeliest.

    mask: [n_seq], true for tokens that count. label_smoothing: the share of the target probability that is
    spread evenly over all tokens (Szegedy et al. 2016, 7). A batch adds leading axes.
    Raises ValueError if no token counts, for a text that does not fit, and for what is not an id.
    """
    ids, n_ctx = np.asarray(ids), len(params["wpe"])
    if not 1 < ids.shape[-1] <= n_ctx + 1:
        raise ValueError(f"a text of {ids.shape[-1]} tokens: it must have from 2 to {n_ctx + 1}")
    for text in np.reshape(ids, (-1, ids.shape[-1])):
        check_ids(text, params)
    targets = ids[..., 1:]
    counts = np.ones(targets.shape, bool) if mask is None else np.asarray(mask, dtype=bool)[..., 1:]
    if not counts.any():
        raise ValueError("no token counts: the mask leaves none")
    logits = gpt2.gpt2(ids[..., :-1], **params, n_head=n_head)
    surprises = cross_entropy(logits, targets)
    if label_smoothing:
        of_all_tokens = -np.mean(log_softmax(logits), axis=-1)
        surprises = (1 - label_smoothing) * surprises + label_smoothing * of_all_tokens
    likeliest = np.argmax(logits, axis=-1) == targets
    return float(np.mean(surprises[counts])), float(np.mean(likeliest[counts]))


def choose(context, choices, params, n_head, begin=None):  # ids, list of ids -> [n_choices]
    """The log-probability of each choice after the context; divide by lengths to compare unequal ones fairly.

    An empty choice is certain: 0. begin: the id that begins a text, in place of an empty context. What is too
    long for the model is cut at the beginning of the context, so that a choice keeps all its tokens.
    Raises ValueError for an empty context without begin, for a choice longer than n_ctx, and for what is not
    an id of this model. (Gao et al., lm-evaluation-harness: its loglikelihood cuts in the same way)
    """
    context = [*context] or ([] if begin is None else [begin])
    if not context:
        raise ValueError("the context is empty: give begin, the id that begins a text, such as <|endoftext|>")
    check_ids(context, params)
    numbers = [log_probability(context, [*ids], params, n_head) for ids in choices]
    return np.array(numbers, dtype=np.float32)


def log_probability(context, ids, params, n_head):  # [n_context], [n_seq] -> number
    """ln of the probability that these ids come after the context; see `choose`."""
    n_ctx = len(params["wpe"])
    if not ids:
        return 0.0
    if len(ids) > n_ctx:
        raise ValueError(f"a choice has {len(ids)} tokens, but the model sees {n_ctx}: shorten it")
    in_view = [*context, *ids][-n_ctx - 1 :]
    return -nats(in_view, params, n_head)[-len(ids) :].sum()


# ---- documents ---------------------------------------------------------------------------------------------


def split_documents(text):  # str -> list of str
    """Split a text at every line <|endoftext|>."""
    return [part for part in re.split(r"(?m)^<\|endoftext\|>(?:\n|\Z)", text) if part]


def read_documents(path):  # -> list of str
    """The documents in a file, or "-" for standard input. Raises ValueError if it is empty or not UTF-8."""
    documents = split_documents(read_text(path))
    if not documents:
        raise ValueError(f"{'standard input' if path == '-' else path} is empty")
    return documents


def document_ids(document, encoder, special=False):  # str -> ids
    """The token that begins each document, such as <|endoftext|>, and then the ids of its text.

    special: see `text.encoded`; a document that begins with that token already, and goes on, gets no second.
    Raises ValueError if the vocabulary has no such token.
    """
    ids, begin = encoded(document, encoder, special), encoder.begin_id
    if begin is None:
        raise ValueError("the model's vocabulary has no token that begins a document, such as <|endoftext|>")
    has_begun = special and len(ids) > 1 and ids[0] == begin
    return ids if has_begun else [begin, *ids]


def scored_ids(document, encoder, special=False):  # str -> ids
    """The same, but without a first token where the vocabulary has none: then nothing predicts the next."""
    has_begin = encoder.begin_id is not None
    return document_ids(document, encoder, special) if has_begin else encoded(document, encoder, special)


def say_if_not_begun(encoder):
    """Say that a model cannot predict first tokens, where no token begins a text."""
    if encoder.begin_id is None:
        say("the model has no token that begins a text: the first token of each document is not scored")


def bits_per_byte(documents, encoder, surprises_of):  # -> number
    """How many bits per byte it takes to send these documents to someone who has the model.

    surprises_of: ids of a document -> the surprises of all but the first, such as `nats`. Unlike the loss per
    token, this can be compared between models with different vocabularies.
    """
    n_nats = sum(surprises_of(document_ids(document, encoder)).sum(dtype=float) for document in documents)
    return to_bits_per_byte(n_nats, sum(len(document.encode()) for document in documents))


def to_bits_per_byte(n_nats, n_bytes):  # -> number
    """The surprise at a text, in bits for each of its bytes in UTF-8."""
    return n_nats / np.log(2) / n_bytes if n_bytes else np.nan


def after_first(ids, encoder):  # -> str
    """What the ids add to the text of the first, without special tokens."""
    hidden = special_ids(encoder)
    return "".join(encoder.decode_stream([i for i in ids[1:] if i not in hidden], ids[:1]))


# ---- the text itself ---------------------------------------------------------------------------------------

# (up to this many nats, terminal colour 0 to 255); 0: none
SHADES = ((1, 0), (3, 229), (5, 221), (7, 215), (np.inf, 203))


def legend(in_colour):  # -> str
    """What the shades of `show_surprise` mean, or the numbers without colour."""
    if not in_colour:
        return "after each token, its surprise in nats\n"
    (least, _), *rest = SHADES
    shades = [shaded(f" to {limit:g} ", colour) for limit, colour in rest[:-1]]
    shades.append(shaded(" more ", rest[-1][1]))
    return f"surprise in nats: no shade up to {least:g}, {' '.join(shades)}\n"


def shaded(text, colour):  # -> str
    """The text, black on a colour of the terminal; line ends keep the terminal's own."""
    return re.sub(r"(.+)", rf"\033[30;48;5;{colour}m\1\033[0m", text)


def show_surprise(ids, surprises, encoder, in_colour):  # [n_seq], [n_seq] -> str
    """The text, each token on a shade that shows its surprise, or followed by its nats."""
    shown = []
    *pieces, rest = encoder.decode_stream(ids)  # a piece for each id and one for the end
    for piece, surprise in zip(pieces, surprises):
        piece = visible(piece)
        shade = next(colour for limit, colour in SHADES if surprise <= limit)
        if not in_colour:
            piece = f"{piece}[{surprise:.1f}]"
        elif shade:
            piece = shaded(piece, shade)
        shown.append(piece)
    return "".join([*shown, rest])


# ---- the command -------------------------------------------------------------------------------------------


def command(
    file: str = "",
    *,
    model_size: str = None,
    lora: str = None,
    weights: str = None,
    models_dir: str = MODELS_DIR,
    stride: int = None,
    special: bool = False,
    show: bool = False,
):
    """Print how well a model predicts a text, and the text itself with --show."""
    if not file and sys.stdin.isatty():
        raise ValueError("give a file, or - for standard input (see --help)")
    documents = read_documents(file or "-")
    encoder, hparams, load_params = open_model(model_size, models_dir, lora, weights)
    texts = [scored_ids(document, encoder, special) for document in documents]
    say_if_not_begun(encoder)
    if special or encoder.begin_id is None:  # then not all bytes of a document are those of a scored text
        scored = [after_first(ids, encoder) for ids in texts]
    else:
        scored = documents
    say_if_plain(documents, encoder, special, "a document")
    announce_reading(sum(map(len, texts)), hparams)
    params, n_head = load_params(), hparams["n_head"]
    found, in_colour = [], shows_colour()
    if show:
        print(legend(in_colour))
    for ids in texts:
        found.append(nats(ids, params, n_head, stride))
        if show:
            print(show_surprise(ids[1:], found[-1], encoder, in_colour) + "\n")
    surprises = np.concatenate(found).astype(float)
    print(summary(len(surprises), surprises.sum(), sum(len(document.encode()) for document in scored)))


def summary(n_tokens, n_nats, n_bytes):  # -> str
    """The numbers of a text, in four lines. Raises ValueError if no token was scored."""
    if not n_tokens:
        raise ValueError("no token is left to score: give a longer text")
    mean = n_nats / n_tokens
    lines = [
        f"tokens         {n_tokens:,}",
        f"nats a token   {mean:.3f}",
        f"perplexity     {np.exp(mean):.2f}",
        f"bits per byte  {to_bits_per_byte(n_nats, n_bytes):.3f}",
    ]
    return "\n".join(lines)
