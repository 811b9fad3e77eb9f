"""The command line: `python gpt2.py PROMPT [--option value]`.

The prompt is always the literal text. Left alone, python-fire reads words as Python ("42" is a number,
"a # b" is "a"), ends arguments at "-", and calls methods of results; here it only sorts words into arguments.
"""

import inspect
import os
import re
import secrets
import sys
import traceback
from functools import partial
from itertools import takewhile

from checkpoint import ModelError

HELP = """\
python gpt2.py PROMPT [--option value]    GPT-2 continues the prompt

PROMPT                     the text to continue; - reads it from standard input;
                           one that begins with -- goes in as --prompt="--...";
                           with none, on a terminal, line by line
--n_tokens_to_generate 40  how many tokens to add, at most
--model_size 124M          124M, 355M, 774M, 1558M: OpenAI's, downloaded once;
                           tiny: a small model included here, no network;
                           a folder with a model in OpenAI's layout or in that
                           of Hugging Face; or the name of one on its hub:
                           gpt2-xl, distilgpt2, owner/name, owner/name@revision
--models_dir models        the folder in which downloaded models are kept
--temperature 0.8          draw each token by chance; below 1 the likely ones
                           come more often, 0 takes the likeliest
--top_k 40                 draw from the 40 likeliest
--top_p 0.9                draw from the likeliest that together have 0.9
--min_p 0.05               draw from those 0.05 times as likely as the likeliest
--repetition_penalty 1.2   draw less often what the text has already
--seed 0                   draw the same text each time; with none of these six
                           options, it is always the likeliest token
--n_samples 3              draw so many texts, with a line of dashes between
--stop TEXT                end before this text
--explain                  show on stderr how each token is chosen
--lookup                   the same text, sooner where it repeats itself
--debug                    show where in the program an error arose

Exit status: 0; 2 wrong use; 1 unusable file or download; 130 Ctrl-C
"""
LINE = "\n" + 15 * "-" + "\n"  # between samples


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


def call(function, argv, program):
    """Call a function with the words of a command line; python-fire sorts them into arguments.

    An annotation says what becomes of a word: int and float are numbers, bool is an option without a value,
    and all else stays as it is. The first word, unless it begins with --, is the first argument, whatever it
    looks like. Raises ValueError for every word that is not expected.
    """
    import fire
    from fire.decorators import SetParseFn

    parameters, found = inspect.signature(function).parameters, []
    first = next(iter(parameters))
    help = f"(see --help); a {first} can go in as --{first}=..."
    words = list(argv)
    if words and not words[0].startswith("--"):
        words[0] = f"--{first}={words[0]}"
    flags = [name for name, parameter in parameters.items() if parameter.annotation is bool]
    words = [
        f"{word}=yes" if word[:2] == "--" and word[2:].replace("-", "_") in flags else word for word in words
    ]
    check_options(words, help)
    collect = SetParseFn(str)(lambda *words, **options: found.append((words, options)))
    fire.Fire(collect, [*words, "--", "--separator=\0"], name=program)
    values, options = found[0]
    unknown = options.keys() - parameters.keys()
    if unknown:
        raise ValueError(f"unknown option --{min(unknown)} {help}")
    in_order = [name for name, parameter in parameters.items() if parameter.kind != parameter.KEYWORD_ONLY]
    free = [name for name in in_order if name not in options]
    if len(values) > len(free):
        raise ValueError(
            f"{values[len(free)]!r} is one word too many: put a {first} of several words in quotes"
        )
    options |= zip(free, values)
    function(**{name: read_value(name, word, parameters[name].annotation) for name, word in options.items()})


def check_options(words, help):
    """Raise ValueError for an option without a value, where python-fire would put True, or given twice."""
    names = set()
    for word, following in zip(words, [*words[1:], "--"]):
        if is_option(word):
            option, equals, _ = word.partition("=")
            name = option.lstrip("-").replace("-", "_")
            if not name:
                raise ValueError(f"{word} is not an option {help}")
            if not equals and is_option(following):
                raise ValueError(f"{option} has no value {help}")
            if name in names:
                raise ValueError(f"{option} is given twice {help}")
            names.add(name)


def read_value(name, word, kind):  # str -> what an annotation asks for
    """The value of an argument. Raises ValueError for a word of another kind."""
    if kind is bool and word != "yes":
        raise ValueError(f"--{name} is given {word!r}: it takes no value (see --help)")
    if kind is int and not re.fullmatch("[0-9]{1,9}", word):
        raise ValueError(f"{name} is {word!r}, not a whole number; several words that are one go in quotes")
    if kind is float and not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,20})?|\.[0-9]{1,20}", word):
        raise ValueError(f"{name} is {word!r}, not a number such as 0.9")
    return kind(word) if kind in (bool, int, float) else word


def is_option(word):
    """Whether python-fire takes a word for the name of an option: -5 is none."""
    return re.match("--|-[a-zA-Z]", word) is not None


def command(
    prompt: str = None,
    n_tokens_to_generate: int = 40,
    model_size: str = "124M",
    models_dir: str = "models",
    *,
    temperature: float = None,
    top_k: int = None,
    top_p: float = None,
    min_p: float = None,
    repetition_penalty: float = None,
    seed: int = None,
    n_samples: int = 1,
    stop: str = None,
    lookup: bool = False,
    explain: bool = False,
):
    """Refuse wrong arguments before any file is touched, then write the continuation to stdout."""
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    settings |= {"repetition_penalty": repetition_penalty}
    new_pick = None
    if seed is not None or any(value is not None for value in settings.values()):
        from extras.sampling import pick_maker

        new_pick = pick_maker(secrets.randbits(32) if seed is None else seed, **settings)
    if n_samples < 1 or (n_samples > 1 and (new_pick is None or lookup or explain)):
        advice = "several want an option that draws, such as --seed 0, and neither --lookup nor --explain"
        raise ValueError(f"n_samples is {n_samples}, it must be 1 or more; {advice}")
    if stop == "":
        raise ValueError("stop is empty: give the text before which to end")
    model = n_tokens_to_generate, model_size, models_dir
    if prompt is None and sys.stdin.isatty():
        if n_samples > 1 or lookup or explain:
            raise ValueError("--n_samples, --lookup and --explain want a prompt")
        from extras.chat import chat

        sys.stdout.reconfigure(errors="replace")
        chat(*model, new_pick, partial(until, stop=stop))
    else:
        shown = settings if explain else None
        write(stream_text(read_prompt(prompt or ""), *model, lookup, new_pick, n_samples, stop, shown))


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


def stream_text(
    prompt,
    n_tokens_to_generate,
    model_size,
    models_dir,
    lookup=False,
    new_pick=None,
    n_samples=1,
    stop=None,
    explain=None,
):  # -> pieces of text
    """The text with which a model continues the prompt, piece by piece, up to the end of text or `stop`.

    new_pick: (ids, number of the sample) -> pick, None is greedy; explain: the settings of its filters, to be
    shown on stderr at each step, or None.
    """
    from gpt2 import check_inputs, np, stream
    from utils import load_encoder_and_hparams, load_params

    if lookup:
        from extras.speculative import stream

    encoder, hparams = load_encoder_and_hparams(model_size, models_dir)
    ids = encoder.encode(prompt)
    check_inputs(ids, n_tokens_to_generate, hparams["n_vocab"], hparams["n_ctx"])  # before any weight
    model = load_params(model_size, models_dir), hparams["n_head"], n_tokens_to_generate
    picks = [new_pick(ids, i) if new_pick else np.argmax for i in range(n_samples)]
    if explain is not None:
        from extras.explain import explained

        picks = [explained(picks[0], ids, explain, encoder, sys.stderr.write)]
    if n_samples == 1:
        samples = [stream(ids, *model, picks[0])]
    else:
        from extras import batching

        samples = batching.samples(ids, *model, picks)
    for i, new_ids in enumerate(samples):
        new_ids = takewhile(lambda token_id: token_id not in encoder.stop_ids, new_ids)
        yield LINE if i else ""
        yield from until(encoder.decode_stream(new_ids), stop)


def until(pieces, stop=None):  # pieces of text -> pieces of text
    """The text before `stop`, if that is one; what may be the beginning of it waits until that is clear."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        if stop and stop in waiting:
            yield waiting.partition(stop)[0]
            return
        n_held = max((n for n in range(len(stop or "")) if waiting.endswith(stop[:n])), default=0)
        yield waiting[: len(waiting) - n_held]
        waiting = waiting[len(waiting) - n_held :]
    yield waiting


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
