"""Text in and out of a command: the prompt is read, and new text is written as it comes."""

import contextlib
import os
import re
import stat
import sys
import weakref
from itertools import takewhile

from files import quoted, read_text, redecoded, say, shown, visible
from names import RELEASED, SHORT_NAMES

SEPARATOR = "\n" + 15 * "-" + "\n"  # between texts
LONGEST_PROMPT = 2**27  # bytes on standard input: more than any model here can see
CHANGING = weakref.WeakSet()  # tokenizers of which it is said that they do not keep a text as it is
MANY_PRODUCTS = 5 * 10**10  # of weights and tokens, which may take longer than a second

# ---- in ----------------------------------------------------------------------------------------------------


def read_prompt(prompt):  # str or None -> str
    """The prompt, or, for None and "-", standard input without its final newline.

    Raises ValueError if it is empty or not text.
    """
    if prompt in (None, "-"):
        if sys.stdin.isatty():
            say("reading the prompt from the terminal: end it with Ctrl-D (on Windows, Ctrl-Z and Enter)")
        prompt = read_text("-", LONGEST_PROMPT).removesuffix("\n")
    elif text_waits():
        say("standard input is not read, because a prompt is given")
    elif prompt in ("tiny", *RELEASED, *SHORT_NAMES):
        say(f"{prompt!r} is taken as the prompt; for the model, write --model_size {prompt}")
    elif os.path.isfile(prompt):
        say(f"{shown(prompt)!r} is taken as the prompt; to read the file, write - < {quoted(prompt)}")
    if not prompt:
        nothing = '"<|endoftext|>" --special to start a new one'
        raise ValueError(f"the prompt is empty: give a text to continue, or {nothing} (see --help)")
    try:
        return redecoded(prompt)
    except UnicodeError as error:
        problem = f"the prompt is not valid UTF-8 at byte {error.start + 1}"
        raise ValueError(f"{problem}: convert it to UTF-8") from None


def text_waits():  # -> bool
    """Whether text waits on standard input, in a file or in a pipe; False where the system does not tell."""
    try:
        import fcntl
        import termios

        status = os.fstat(sys.stdin.fileno())
        if stat.S_ISREG(status.st_mode):
            return status.st_size > 0
        is_pipe = stat.S_ISFIFO(status.st_mode)
        return is_pipe and any(fcntl.ioctl(sys.stdin, termios.FIONREAD, bytes(4)))
    except (OSError, ValueError, ImportError):
        return False


def prompt_ids(prompt, n_new, keep_last, special, encoder, hparams):  # -> ids
    """The ids that `fitting_ids` finds; says so if some are left out, or a special token is plain text."""
    ids, n_left_out = fitting_ids(prompt, n_new, keep_last, special, encoder, hparams)
    if n_left_out:
        n_all = n_left_out + len(ids)
        say(f"of {n_all:,} tokens of the prompt, the last {len(ids):,} are used (--keep_last)")
    say_if_plain([prompt], encoder, special)
    return ids


def fitting_ids(prompt, n_new, keep_last, special, encoder, hparams):  # -> ids, how many are left out
    """The ids of a prompt that leaves room for n_new ones; with keep_last, those at its end that do.

    special: see `encoded`. Raises ValueError for what cannot fit, UnicodeError as `Encoder.encode` does.
    """
    from gpt2 import check_inputs

    n_vocab, n_ctx = hparams["n_vocab"], hparams["n_ctx"]
    with or_use("--keep_last"):
        ids = encoded(prompt, encoder, special, n_most=None if keep_last else n_ctx)
        check_something_left(ids)
        if len(ids) > n_ctx and not keep_last:
            raise ValueError(f"the prompt has {len(ids):,} tokens, but the model sees {n_ctx:,}: shorten it")
    with or_use("--past_context"):
        kept = last_ids(ids, n_new, n_ctx) if keep_last else ids
        check_inputs(kept, n_new, n_vocab, n_ctx)
    return kept, len(ids) - len(kept)


def check_something_left(ids):
    """Raise UnicodeError if a tokenizer makes no token of a prompt."""
    if not ids:
        raise UnicodeError("the model's tokenizer leaves nothing of the prompt: give another text")


def last_ids(ids, n_new, n_ctx):  # -> ids
    """As many of these ids, from the end, as leave room for n_new more. Raises ValueError if none do."""
    n_kept = n_ctx - n_new
    if len(ids) <= n_kept:
        return ids
    if n_kept < 1:
        raise ValueError(f"{n_new:,} new tokens leave no room for the prompt: at most {n_ctx - 1:,} do")
    return ids[-n_kept:]


@contextlib.contextmanager
def or_use(option):
    """Where a text does not fit, the error advises this option too; it would not help with a character."""
    try:
        yield
    except UnicodeError:
        raise
    except ValueError as error:
        raise ValueError(f"{error}, or use {option}") from None


def announce_reading(n_ids, hparams):
    """Say that a model reads a text, if it may take longer than a second."""
    from weights import count

    if count(hparams) * n_ids > MANY_PRODUCTS:
        say(f"reading the text: {n_ids:,} tokens")


# ---- special tokens ----------------------------------------------------------------------------------------


def encoded(text, encoder, special, n_most=None):  # -> ids
    """The ids of a text; what is written as a special token is that token if `special`, else plain text.

    Raises UnicodeError where <|endoftext|> is asked for in vain, and what `Encoder.encode` raises.
    """
    from encoder import END_OF_TEXT

    if special and END_OF_TEXT in text and END_OF_TEXT not in encoder.special_tokens:
        own = ", ".join(sorted(encoder.special_tokens)) or "none"
        raise UnicodeError(f"this model has no token {END_OF_TEXT}; its special tokens: {shown(own)}")
    ids = encoder.encode(text, allowed_special="all" if special else (), n_most=n_most)
    if not encoder.is_exact and encoder not in CHANGING:
        hidden = special_ids(encoder)
        tokens = encoder.special_tokens if special else ()
        shown_ids = [i for i in ids if i not in hidden]
        n_unknown = 0 if special else len(ids) - len(shown_ids)
        say_if_changed(without(tokens, text), encoder.decode(shown_ids), n_unknown, encoder)
    return ids


def without(tokens, text):  # -> str
    """The text without the tokens written in it."""
    return re.sub("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))), "", text)


def say_if_changed(text, read, n_unknown, encoder):
    """Say on stderr, once for a tokenizer, that it does not keep a text, if it was read as another.

    n_unknown: how many of its tokens stand for what the tokenizer does not know.
    """
    if read == text:
        return
    CHANGING.add(encoder)
    i = max(len(os.path.commonprefix([text, read])) - 10, 0)
    before, after = (shown(repr("…" * (i > 0) + each[i : i + 40])) for each in (text, read))
    unknown = f"; what it does not know became {n_unknown:,} special tokens" if n_unknown else ""
    say(f"the model's tokenizer does not keep every text: it reads {before} as {after}{unknown}")


def special_ids(encoder):  # -> set of ids
    """The ids of the special tokens."""
    return {encoder.encoder[token] for token in encoder.special_tokens}


def say_if_plain(texts, encoder, special, where="the prompt", form="{}"):
    """Say on stderr if a special token is written in one of these texts, but not read as that token."""
    note = next(filter(None, (plain_note(text, encoder, special, where) for text in texts)), None)
    if note:
        say(form.format(note))


def plain_note(text, encoder, special, where):  # -> str or None
    """What to say if a special token is written in a text, but not read as that token."""
    token = None if special else first_special(text, encoder)
    return token and f"{shown(token, 50)!r} in {where} is read as plain text; --special makes it the token"


def first_special(text, encoder):  # -> str or None
    """The first special token written in a text, unless its plain text has the same id anyway."""
    tokens = [token for token in encoder.special_tokens if token in text]
    tokens = [token for token in tokens if not is_its_own_text(token, encoder)]
    return min(tokens, key=lambda token: (text.index(token), -len(token)), default=None)


def check_stop(stop, encoder):
    """Raise ValueError for a stop text with a special token and more: it never comes, as none is shown."""
    found = [token for token in encoder.special_tokens if stop and token in stop and token != stop]
    if found and stop not in encoder.special_tokens:
        advice = "give it alone, or the text without it"
        raise ValueError(
            f"stop has the special token {shown(min(found), 50)!r}, which is not shown: {advice}"
        )


def is_its_own_text(token, encoder):  # -> bool
    """Whether the plain text of a special token is read as that token anyway, or cannot be read."""
    try:
        return encoder.encoder[token] in encoder.encode(token)
    except UnicodeError:
        return True


# ---- out ---------------------------------------------------------------------------------------------------


def text_of(new_ids, encoder, stop=None, before=()):  # ids, one at a time -> pieces of text
    """The text of ids as they come, in pieces that a terminal can show; see `continuation`."""
    pieces = continuation(new_ids, encoder, stop, before)
    return map(visible, pieces) if sys.stdout.isatty() else pieces


def continuation(new_ids, encoder, stop=None, before=()):  # ids, one at a time -> pieces of text
    """The text of ids as they come, up to an id that ends a text, or the text `stop`.

    before: the ids that they continue. Special tokens are not shown. If `stop` spells one, that token ends
    the text too.
    """
    hidden, ends = special_ids(encoder), set(encoder.stop_ids)
    if stop in encoder.special_tokens:
        ends.add(encoder.encoder[stop])
    new_ids = takewhile(lambda new_id: new_id not in ends, new_ids)
    new_ids = (new_id for new_id in new_ids if new_id not in hidden)
    return until(encoder.decode_stream(new_ids, before), stop)


def to_the_end(new_ids, stop_ids):  # -> ids
    """The ids up to the first that ends a text, which is kept."""
    n_kept = next((i + 1 for i, new_id in enumerate(new_ids) if new_id in stop_ids), len(new_ids))
    return new_ids[:n_kept]


def until(pieces, stop=None):  # pieces of text -> pieces of text
    """The text before `stop`, if given; what may be the beginning of `stop` waits until that is clear."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        if stop and stop in waiting:
            yield waiting.partition(stop)[0]
            return
        n_most = min(len(stop or ""), len(waiting) + 1)
        n_held = max((n for n in range(n_most) if waiting.endswith(stop[:n])), default=0)
        yield waiting[: len(waiting) - n_held]
        waiting = waiting[len(waiting) - n_held :]
    yield waiting


def shows_colour():  # -> bool
    """Whether stdout is a terminal that shows colours to a user who wants them (no-color.org)."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not is_plain


def separated(texts):  # -> pieces
    """The pieces of all texts, with a line of dashes between two texts."""
    for i, pieces in enumerate(texts):
        yield SEPARATOR if i else ""
        yield from pieces


def write(pieces, last_line=None):
    """Write text as it comes, then one newline. last_line: a function, whose line follows on stderr."""
    written = False
    try:
        for piece in pieces:
            written = written or piece != ""
            print(piece, end="", flush=True)
        print(flush=True)
    except KeyboardInterrupt:
        print(end="\n" if written else "", flush=True)  # what was written stays, on a line of its own
        raise
    finally:
        if last_line and (written or sys.exc_info()[0] is None):  # an error is one line
            say(last_line())
