"""The command line: `python gpt2.py PROMPT [--option value]`.

The prompt is always the literal text. Left alone, python-fire reads words as Python ("42" is a number,
"a # b" is "a"), ends arguments at "-", and calls methods of results; here it only sorts words into arguments.
"""

import inspect
import os
import re
import sys
import traceback
from itertools import takewhile

from checkpoint import ModelError

HELP = """\
python gpt2.py PROMPT [--option value]    GPT-2 continues the prompt

PROMPT                     the text to continue; - reads it from standard input;
                           one that begins with -- goes in as --prompt="--..."
--n_tokens_to_generate 40  how many tokens to add, at most
--model_size 124M          124M, 355M, 774M, 1558M: OpenAI's, downloaded once;
                           tiny: a small model included here, no network;
                           a folder with a model in OpenAI's layout or in that
                           of Hugging Face; or the name of one on its hub:
                           gpt2-xl, distilgpt2, owner/name, owner/name@revision
--models_dir models        the folder in which downloaded models are kept
--lookup                   the same text, sooner where it repeats itself
--debug                    show where in the program an error arose

Exit status: 0; 2 wrong use; 1 unusable file or download; 130 Ctrl-C
"""


FLAGS = ["--lookup"]  # options without a value


def run(argv=None, function=None, help=HELP, program="gpt2.py"):  # list of str -> exit status
    """Run a function, by default `command`, as a command of this name; an error is one line on stderr."""
    argv = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in argv
    if debug:
        argv.remove("--debug")
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: it is empty, or goes nowhere
            setattr(sys, name, open(os.devnull, mode))
    try:
        if "--help" in argv or argv == ["-h"]:
            print(help, end="", flush=True)
        else:
            call(function or command, argv, program)
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads any more: what Python flushes at exit must go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        status, line = explain(error)
        print(f"{program}: {line}", file=sys.stderr)
        return status


def explain(error):  # -> exit status, one line
    """2 if the command was wrong; 1 if a file, a download or the machine was."""
    line = " ".join(str(error).splitlines())
    if isinstance(error, ImportError):
        return 1, line if "pip install" in line else f"{line}: pip install -r requirements.txt"
    if isinstance(error, (ModelError, FloatingPointError, OSError)):
        return 1, line
    if isinstance(error, ValueError):
        return 2, line
    return 1, f"{type(error).__name__}: {line} (--debug shows where)"


def call(function, argv, program="gpt2.py"):
    """Let python-fire call a function with the words of a command line, each of them text.

    The first word, unless it begins with --, is the first argument, whatever it looks like. Raises ValueError
    for an option without a value, where python-fire would put True, or given twice.
    """
    import fire
    from fire.decorators import SetParseFn

    words = [f"{word}=yes" if word in FLAGS else word for word in argv]
    first = next(iter(inspect.signature(function).parameters))
    if words and not words[0].startswith("--"):
        words[0] = f"--{first}={words[0]}"
    names = set()
    for word, following in zip(words, [*words[1:], "--"]):
        if is_option(word):
            option, equals, _ = word.partition("=")
            name = option.lstrip("-").replace("-", "_")
            if not name:
                raise ValueError(f"{word} is not an option (see --help)")
            if not equals and is_option(following):
                raise ValueError(f"{option} has no value (see --help); a {first} can go in as --{first}=...")
            if name in names:
                raise ValueError(f"{option} is given twice (see --help)")
            names.add(name)
    fire.Fire(SetParseFn(str)(function), [*words, "--", "--separator=\0"], name=program)


def is_option(word):
    """Whether python-fire takes a word for the name of an option: -5 is none."""
    return re.match("--|-[a-zA-Z]", word) is not None


def command(
    prompt="",
    n_tokens_to_generate="40",
    model_size="124M",
    models_dir="models",
    *extra,
    lookup=None,
    **unknown,
):
    """Refuse wrong arguments before any file is touched, then write the continuation to stdout."""
    if unknown:
        raise ValueError(f"unknown option --{min(unknown)} (see --help); a prompt can go in as --prompt=...")
    if extra:
        raise ValueError(f"{extra[0]!r} is one word too many: put a prompt of several words in quotes")
    if not re.fullmatch("[0-9]{1,9}", n_tokens_to_generate):
        advice = "put a prompt of several words in quotes"
        raise ValueError(f"n_tokens_to_generate is {n_tokens_to_generate!r}, not a whole number; {advice}")
    if lookup not in (None, "yes"):
        raise ValueError(f"--lookup is given {lookup!r}: it takes no value (see --help)")
    write(stream_text(read_prompt(prompt), int(n_tokens_to_generate), model_size, models_dir, bool(lookup)))


def read_prompt(prompt):  # str -> str
    """The prompt, or, for "-", standard input less a final newline. Raises ValueError for what is no text."""
    if prompt == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        prompt = re.sub("\r?\n\\Z", "", text)
    if not prompt:
        raise ValueError("the prompt is empty: give a text to continue (see --help)")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the prompt is not valid UTF-8 text at character {error.start + 1}") from None
    return prompt


def stream_text(prompt, n_tokens_to_generate, model_size, models_dir, lookup=False):  # -> pieces of text
    """The text with which a model continues the prompt, piece by piece, up to <|endoftext|>."""
    from gpt2 import check_inputs, stream
    from utils import load_encoder_and_hparams, load_params

    if lookup:
        from extras.speculative import stream

    encoder, hparams = load_encoder_and_hparams(model_size, models_dir)
    ids = encoder.encode(prompt)
    check_inputs(ids, n_tokens_to_generate, hparams["n_vocab"], hparams["n_ctx"])  # before any weight
    params = load_params(model_size, models_dir)
    new_ids = stream(ids, params, hparams["n_head"], n_tokens_to_generate)
    yield from encoder.decode_stream(takewhile(lambda token_id: token_id not in encoder.stop_ids, new_ids))


def write(pieces):
    """Write text as it comes, then one newline; a terminal that lacks a character shows a question mark."""
    sys.stdout.reconfigure(errors="replace")
    written = False
    try:
        for piece in pieces:
            written = written or piece != ""
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(end="\n" if written else "", flush=True)  # what was written stays, on a line of its own
        raise
    print(flush=True)
