"""The command line: `python gpt2.py PROMPT [--option value]`, and any function as a command.

python-fire sorts the words of a command into positional words and options with their values, and does no more
here. Left alone it reads words as Python ("42" is a number, "a # b" is "a"), ends arguments at "-", and calls
methods of results; but a prompt is the literal text, and a typo must be refused. So `call` gives fire a
function that takes anything, and checks what fire found against the signature of the real function.
"""

import inspect
import io
import os
import re
import secrets
import sys
import traceback
from functools import partial
from itertools import islice, takewhile

from files import ModelError, printable, read_text, redecoded, shown, visible

HELP = """\
python gpt2.py PROMPT [--option value]    GPT-2 continues the prompt

PROMPT                     the text to continue; - reads it from standard input
                           (a byte-order mark is dropped, \\r\\n becomes \\n);
                           write one that begins with -- as --prompt="--...";
                           with none, on a terminal: line by line, as in a chat
--n_tokens_to_generate 40  how many tokens to add, at most
--model_size 124M          124M, 355M, 774M, 1558M: OpenAI's, downloaded once;
                           tiny: a small model included here, no network;
                           a folder with a model, in OpenAI's layout or that of
                           Hugging Face; or the name of a model on its hub:
                           gpt2-xl, distilgpt2, owner/name, owner/name@revision
--models_dir models        the folder for downloaded models
--temperature 0.8          draw each token at random; below 1 the likely ones
                           come more often, 0 takes the likeliest
--top_k 40                 draw from the 40 likeliest
--top_p 0.9                draw from the likeliest that together reach 0.9
--min_p 0.05               draw from those at least 0.05 times as likely as the
                           likeliest
--repetition_penalty 1.2   make tokens already in the text less likely
--seed 0                   draw the same text each time; without any of these
                           six options, always take the likeliest token
--n_samples 3              draw this many texts, with a line of dashes between
--stop TEXT                end before this text
--explain                  show on stderr how each token is chosen
--lookup                   the same text, faster where it repeats itself
--check                    compare the files of the model with their checksums,
                           and say what was compared; no prompt, no download
--debug                    show where in the program an error arose

Exit status: 0; 2 usage error; 1 unusable file or download; 130 Ctrl-C
"""
SEPARATOR = "\n" + 15 * "-" + "\n"  # between samples
AT_ONCE = 32  # samples that are made together: each takes up to 75 MB of memory, for 124M
LONGEST_PROMPT = 2**27  # bytes on standard input: more than any model here can see

# ---- any function as a command -----------------------------------------------------------------------------


def run(argv=None, function=None, help=HELP, program="gpt2.py"):  # list of str -> exit status
    """Run a function, by default `command`, as the command of this name; an error is one line on stderr."""
    argv = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in argv
    if debug:
        argv.remove("--debug")
    prepare_streams()
    try:
        if "--help" in argv or argv == ["-h"]:
            print(help, end="", flush=True)
        else:
            call(function or command, argv, program)
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader is gone: what Python flushes at exit must go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        status, line = report(error)
        print(f"{program}: {line}", file=sys.stderr)
        return status


def prepare_streams():
    """Let no output fail because of its characters, or because a stream is closed.

    A character that the encoding of stdout lacks becomes a ?. A closed stream, which Python sets to None,
    becomes the null device.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def report(error):  # -> exit status, one line
    """2 if the command was wrong; 1 if a file, a download or the machine is at fault."""
    line = shown(" ".join(str(error).splitlines()), 1500)
    if isinstance(error, ModuleNotFoundError):  # a library of the core; for the others see files.needs
        return 1, f"{line}: pip install -r requirements.txt"
    if isinstance(error, (ModelError, FloatingPointError, OSError, ImportError)):
        return 1, line
    if isinstance(error, ValueError):
        return 2, line
    return 1, f"{type(error).__name__}: {line} (--debug shows where)"


def call(function, argv, program):
    """Call a function with the words of a command line.

    Annotations say how words are read: int and float as numbers, bool as an option without a value, and all
    others literally. The first word, unless it begins with --, is the first argument, even if it looks like
    a number or an option. Raises ValueError for an unexpected word.
    """
    parameters = inspect.signature(function).parameters
    first = next(iter(parameters))
    advice = f"(see --help); if it is part of the {first}, write --{first}=..."
    words = list(argv)
    if words and not words[0].startswith("--"):
        words[0] = f"--{first}={words[0]}"
    switches = [name for name, parameter in parameters.items() if parameter.annotation is bool]
    words = [f"{word}=yes" if option_name(word) in switches and "=" not in word else word for word in words]
    check_options(words, advice)
    values, options = sort_words(words, program)
    unknown = options.keys() - parameters.keys()
    if unknown:
        raise ValueError(f"unknown option --{min(unknown)} {advice}")
    in_order = [name for name, parameter in parameters.items() if parameter.kind != parameter.KEYWORD_ONLY]
    free = [name for name in in_order if name not in options]
    if len(values) > len(free):
        word = values[len(free)]
        raise ValueError(f"{word!r} is one word too many: put a {first} of several words in quotes")
    options |= zip(free, values)
    function(**{name: read_value(name, word, parameters[name].annotation) for name, word in options.items()})


def option_name(word):  # "--top-k=40" -> "top_k"; None for other words
    """The name in a word that python-fire takes for an option: -5 is not one."""
    if re.match("--|-[a-zA-Z]", word) is None:
        return None
    return word.partition("=")[0].lstrip("-").replace("-", "_")


def sort_words(words, program):  # -> list of positional words, {option: word}
    """How python-fire sorts words; every word stays text."""
    import fire
    from fire.decorators import SetParseFn

    found = []

    def take_anything(*values, **options):
        found.append((values, options))

    as_text = SetParseFn(str)(take_anything)
    fire.Fire(as_text, [*words, "--", "--separator=\0"], name=program)
    return found[0]


def check_options(words, advice):
    """Raise ValueError for an option that is given twice, or has no value: python-fire would make it True."""
    names = set()
    for word, following in zip(words, [*words[1:], "--"]):
        name, option = option_name(word), word.partition("=")[0]
        if name is None:
            continue
        if not name:
            raise ValueError(f"{word} is not an option {advice}")
        if "=" not in word and option_name(following) is not None:
            raise ValueError(f"{option} has no value {advice}")
        if name in names:
            raise ValueError(f"{option} is given twice {advice}")
        names.add(name)


def read_value(name, word, kind):  # str -> what an annotation asks for
    """The value of an argument. Raises ValueError for a word of another kind."""
    if kind is bool and word != "yes":
        raise ValueError(f"--{name} is given {word!r}: it takes no value (see --help)")
    if kind is int and not re.fullmatch("[0-9]{1,9}", word):
        raise ValueError(f"{name} is {word!r}, not a whole number; put a text of several words in quotes")
    if kind is float and not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,20})?|\.[0-9]{1,20}", word):
        raise ValueError(f"{name} is {word!r}, not a number such as 0.9")
    return kind(word) if kind in (bool, int, float) else word


# ---- GPT-2's command ---------------------------------------------------------------------------------------


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
    check: bool = False,
):
    """Refuse wrong arguments before any file is touched, then write the continuation to stdout.

    Each option replaces one of the values that are passed on: the model, the picks, the streams of ids.
    """
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    settings |= {"repetition_penalty": repetition_penalty}
    draws = seed is not None or any(value is not None for value in settings.values())
    if n_samples < 1 or (n_samples > 1 and (not draws or lookup or explain)):
        several = "or more with an option that draws, such as --seed 0, and without --lookup or --explain"
        raise ValueError(f"n_samples is {n_samples}, expected 1, {several}")
    if stop == "":
        raise ValueError("stop is empty: give the text to stop at")
    new_pick = sampling_picks(seed, settings) if draws else greedy_pick
    if check:
        print_check(prompt, model_size, models_dir)
        return
    if prompt is None and sys.stdin.isatty():
        if n_samples > 1 or lookup or explain:
            raise ValueError("--n_samples, --lookup and --explain need a prompt")
        converse(n_tokens_to_generate, model_size, models_dir, new_pick, stop)
        return
    prompt = read_prompt(prompt or "")
    new_picks = partial(picks_for, new_pick, n_samples, settings if explain else None)
    samples = with_lookup if lookup else plain
    if n_samples > 1:
        samples = batched
    write(stream_text(prompt, n_tokens_to_generate, model_size, models_dir, new_picks, samples, stop))


def print_check(prompt, model_size, models_dir):
    """Print what was compared; see extras/check.py."""
    from extras.check import check

    if prompt is not None:
        raise ValueError(f"--check takes no prompt, but {shown(prompt, 50)!r} is given (see --help)")
    for line in check(model_size, models_dir):
        print(printable(line), flush=True)


def greedy_pick(ids, i):  # ids of a text, number of the sample -> pick
    """Always the likeliest token."""
    from numpy import argmax

    return argmax


def sampling_picks(seed, settings):  # -> (ids, i) -> pick
    """Tokens drawn at random with these settings; without a seed, a new text each time."""
    from extras.sampling import pick_maker

    return pick_maker(secrets.randbits(32) if seed is None else seed, **settings)


def picks_for(new_pick, n_samples, shown_settings, ids, encoder):  # yields a pick for each sample
    """The picks that continue ids; with shown_settings, stderr shows how each one chooses."""
    for i in range(n_samples):
        pick = new_pick(ids, i)
        if shown_settings is not None:
            from extras.explain import explained

            pick = explained(pick, ids, shown_settings, encoder, sys.stderr.write)
        yield pick


def plain(ids, params, n_head, n, picks):  # yields a stream of ids for each pick
    """One text after another, from the plain loop."""
    import gpt2

    for pick in picks:
        yield gpt2.stream(ids, params, n_head, n, pick)


def with_lookup(ids, params, n_head, n, picks):  # yields a stream of ids for each pick
    """The same ids, faster where a text repeats itself."""
    from extras import speculative

    for pick in picks:
        yield speculative.stream(ids, params, n_head, n, pick)


def batched(ids, params, n_head, n, picks):  # yields a stream of ids for each pick
    """The same ids, faster where there are several texts: AT_ONCE of them in a batch."""
    from extras import batching

    while group := list(islice(picks, AT_ONCE)):
        yield from batching.samples(ids, params, n_head, n, group)


def stream_text(prompt, n_tokens_to_generate, model_size, models_dir, new_picks, samples, stop):  # -> pieces
    """The model's continuations of the prompt, piece by piece, each up to the end of its text or `stop`.

    new_picks: ids, encoder -> a pick for each sample; samples: plain, with_lookup or batched.
    """
    from gpt2 import check_inputs
    from utils import open_model

    encoder, hparams, load_params = open_model(model_size, models_dir)
    ids = encoder.encode(prompt, n_most=hparams["n_ctx"])
    check_inputs(ids, n_tokens_to_generate, hparams["n_vocab"], hparams["n_ctx"])
    params = load_params()  # only now: half a gigabyte for 124M
    picks = new_picks(ids, encoder)
    for i, new_ids in enumerate(samples(ids, params, hparams["n_head"], n_tokens_to_generate, picks)):
        yield SEPARATOR if i else ""
        yield from text_of(new_ids, encoder, stop)


def converse(n_tokens_to_generate, model_size, models_dir, new_pick, stop):
    """Continue what the user types, line by line; see extras/chat.py."""
    from extras.chat import chat
    from utils import load_encoder_hparams_and_params

    encoder, hparams, params = load_encoder_hparams_and_params(model_size, models_dir)
    to_text = partial(text_of, encoder=encoder, stop=stop)
    chat(encoder, params, hparams["n_head"], n_tokens_to_generate, new_pick, to_text)


def read_prompt(prompt):  # str -> str
    """The prompt, or, for "-", standard input without its final newline.

    Raises ValueError if it is empty or not text.
    """
    if prompt == "-":
        prompt = read_text("-", LONGEST_PROMPT).removesuffix("\n")
    if not prompt:
        raise ValueError("the prompt is empty: give a text to continue (see --help)")
    try:
        return redecoded(prompt)
    except UnicodeError as error:
        problem = f"the prompt is not valid UTF-8 at byte {error.start + 1}"
        raise ValueError(f"{problem}: convert it to UTF-8") from None


def text_of(new_ids, encoder, stop=None):  # ids, one at a time -> pieces of text
    """The text of ids as they come, up to an id that ends a text, or the text `stop`."""
    new_ids = takewhile(lambda new_id: new_id not in encoder.stop_ids, new_ids)
    pieces = until(encoder.decode_stream(new_ids), stop)
    return map(visible, pieces) if sys.stdout.isatty() else pieces


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


def write(pieces):
    """Write text as it comes, then one newline."""
    written = False
    try:
        for piece in pieces:
            written = written or piece != ""
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(end="\n" if written else "", flush=True)  # what was written stays, on a line of its own
        raise
    print(flush=True)
