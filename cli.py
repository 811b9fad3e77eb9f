"""The command `python gpt2.py PROMPT [--option value]`: what its options mean.

An option that changes the text replaces one of three values: the model, the function that picks the next id,
or the stream of ids. `command` puts them together, in the order in which they are needed.
"""

import re
import sys
from functools import partial

import options
from files import ROOT, printable, redecoded, say, shown, to_stderr
from names import MODELS_DIR
from text import announce_reading, check_stop, prompt_ids, read_prompt, separated, text_of, write

HELP = """\
python gpt2.py PROMPT [N [MODEL]] [--option value]    GPT-2 continues the prompt

PROMPT                     the text to continue, in quotes; without it, or with
                           -, piped text is read; without it on a terminal, a
                           chat starts; one that begins with -- is given as
                           --prompt="--..."
-n, --n_tokens_to_generate N
                           how many tokens to add, at most; by default 40
-m, --model_size MODEL     124M (the default), 355M, 774M, 1558M: OpenAI's,
                           downloaded once (124M: half a gigabyte);
                           tiny: a small model included here, no network;
                           a folder with a model, in OpenAI's layout or that of
                           Hugging Face; a .gguf file of llama.cpp; or the name
                           of a model on Hugging Face's hub: gpt2-xl,
                           distilgpt2, owner/name, owner/name@revision
--lora FOLDER              add a LoRA adapter, as peft saves it: its folder, or
                           its name on the hub, owner/name; FOLDER:0.5 adds half
                           of its change, A,B the changes of both; the model is
                           the one that it was made for, unless --model_size
                           names another
--weights int8             use weights of eight bits (int8) or four (int4, nf4)
                           instead of 32: int4 is the smallest, int8 the most
                           accurate, nf4 slow; python -m extras.quantize saves
                           a model with such weights
--models_dir FOLDER        for downloaded models; by default
                           $PLAINGPT_MODELS_DIR, or models beside the program

Without the next five, the likeliest token is taken; with any of them, one is
drawn at random (the numbers are examples):
-t, --temperature 0.8      below 1, likely tokens come more often; above 1, less
                           often; 0 takes the likeliest
--top_k 40                 draw from the 40 likeliest; 0 draws from all
--top_p 0.9                draw from the likeliest that together reach 0.9
--min_p 0.05               draw from those at least 0.05 times as likely as the
                           likeliest
--seed 0                   draw the same text each time

--repetition_penalty 1.2   make tokens already in the text less likely
--no_repeat_ngram 3        let no run of three tokens come a second time; those
                           of the prompt count, too
--n_samples 3              draw this many texts, with a line of dashes between
--beams 4                  continue the four likeliest texts at once, and write
                           the one that is the likeliest as a whole
--length_penalty 1         with --beams: higher prefers longer texts; 0 compares
                           texts of all lengths by their probability alone
--stop TEXT                end before this text, in which \\n is a line end, \\t a
                           tab, and \\\\ a backslash
--special                  read <|endoftext|>, and any other special token of
                           the model, in the prompt as that token, not as plain
                           text: "<|endoftext|>" --special starts a new text;
                           special tokens that the model writes are not shown
--keep_last                of a prompt that is too long, use the end that fits
--past_context             when the context is full, forget the first half of
                           the text, say so on stderr, and continue
--lookup                   the same text, faster where it repeats itself
--draft MODEL              the same text, faster where a smaller model with the
                           same vocabulary guesses it: 124M drafts for 1558M
--explain                  show on stderr how each token is chosen: <- marks it
--stats                    show on stderr tokens, speed and memory, at the end

--models                   list the models on this machine
--check                    compare the files of the model with their checksums,
                           and say what was compared; no prompt, no download
--version                  print the versions of this program, Python and NumPy
"""
ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}  # in the text for --stop
WITH_A_PROMPT = ("n_samples", "beams", "draft", "lookup", "past_context", "keep_last", "explain", "stats")
WRITING = (*options.FILTERS, "seed", "length_penalty", "stop", "special", "weights", *WITH_A_PROMPT)

# ---- the command -------------------------------------------------------------------------------------------


def command(
    prompt: str = None,
    n_tokens_to_generate: int = 40,
    model_size: str = None,
    *,
    lora: str = None,
    weights: str = None,
    models_dir: str = MODELS_DIR,
    temperature: float = None,
    top_k: int = None,
    top_p: float = None,
    min_p: float = None,
    seed: int = None,
    repetition_penalty: float = None,
    no_repeat_ngram: int = None,
    n_samples: int = 1,
    beams: int = None,
    length_penalty: float = None,
    stop: str = None,
    special: bool = False,
    keep_last: bool = False,
    past_context: bool = False,
    lookup: bool = False,
    draft: str = None,
    explain: bool = False,
    stats: bool = False,
    models: bool = False,
    check: bool = False,
    version: bool = False,
):
    """Refuse wrong arguments before any file is touched, then write the continuation to stdout."""
    given = dict(locals())  # {name: value} of all of them
    options.check(given)
    stop = unescaped(stop)
    if not models_dir:
        raise ValueError("models_dir is empty: give a folder, or leave --models_dir out")
    reports = [name for name in ("models", "check", "version") if given[name]]
    if reports:
        check_report(reports, given)
        print_report(reports[0], model_size, models_dir, lora)
        return

    from utils import open_model

    if prompt is None and sys.stdin.isatty():
        refuse_in_chat(given)
        opened = open_model(model_size, models_dir, lora, weights)
        converse(opened, n_tokens_to_generate, given, stop)
        return
    prompt = read_prompt(prompt)
    encoder, hparams, load_params = open_model(model_size, models_dir, lora, weights)
    check_stop(stop, encoder)
    n_new = 0 if past_context else n_tokens_to_generate
    ids = prompt_ids(prompt, n_new, keep_last, special, encoder, hparams)
    load_draft = options.open_draft(given, encoder)
    params, draft = load_params(), load_draft()  # only now: half a gigabyte for 124M
    announce_reading(len(ids), hparams)
    new_pick = options.pick_maker(given)
    picks = (new_pick(ids, i) for i in range(n_samples))
    picks = explained(picks, ids, options.filter_settings(given), encoder) if explain else picks
    picks, stats_line = timed(picks, len(ids)) if stats else (picks, None)
    streams = options.stream_maker(given, encoder.stop_ids, draft)
    new_texts = streams(ids, params, hparams["n_head"], n_tokens_to_generate, picks)
    write(separated(text_of(new_ids, encoder, stop, ids) for new_ids in new_texts), stats_line)


def check_report(reports, given):
    """Raise ValueError for what --models, --check or --version cannot use. reports: which are asked for."""
    option, *others = reports
    if given["prompt"] is not None:
        found = shown(given["prompt"], 50)
        advice = "a model is given with --model_size"
        raise ValueError(f"--{option} takes no prompt, but {found!r} is given: {advice}")
    useless = WRITING if option == "check" else (*WRITING, "lora")
    others += [name for name in useless if options.is_given(given, name)]
    if others:
        raise ValueError(f"--{option} and --{others[0]} cannot be used together: leave one out")


def refuse_in_chat(given):
    """Raise ValueError for options that need a prompt."""
    for option in WITH_A_PROMPT:
        if options.is_given(given, option):
            raise ValueError(f"--{option} needs a prompt: a chat cannot use it")


def unescaped(stop):  # str or None -> str or None
    r"""The text to stop at, in which \n, \t and \\ stand for a line end, a tab and a backslash."""
    if stop == "":
        raise ValueError("stop is empty: give the text to stop at")
    try:
        return stop and re.sub(r"\\[nt\\]", lambda match: ESCAPES[match[0]], redecoded(stop))
    except UnicodeError:
        raise ValueError("stop is not valid UTF-8: convert it to UTF-8") from None


# ---- reports -----------------------------------------------------------------------------------------------


def print_report(option, model_size, models_dir, lora):
    """Print what --models, --check or --version asks for, line by line."""
    if option == "models":
        from extras import available

        lines = available.lines(models_dir)
    elif option == "check":
        from extras import check

        lines = check.check(model_size, models_dir, lora)
    else:
        lines = [versions()]
    for line in lines:
        print(printable(line), flush=True)  # names in it may come from anywhere


def versions():  # -> str
    """The versions of this program, as pyproject.toml has it, of Python and of NumPy."""
    from importlib.metadata import version
    from platform import python_version

    project = (ROOT / "pyproject.toml").read_text("utf-8")
    own = re.search(r'^version = "(.*)"$', project, re.MULTILINE)[1]
    return f"plainGPT {own}, Python {python_version()}, NumPy {version('numpy')}"


# ---- watching ----------------------------------------------------------------------------------------------


def explained(picks, ids, settings, encoder):  # yields picks
    """The same picks, but stderr shows how each chooses."""
    from extras import explain

    for pick in picks:
        yield explain.explained(pick, ids, settings, encoder, to_stderr)


def timed(picks, n_prompt):  # -> picks, () -> str
    """The same picks, and a function that says in the end how fast they came."""
    from extras.stats import Clock

    clock = Clock(n_prompt)
    return clock.timed(picks), clock.line


# ---- chat --------------------------------------------------------------------------------------------------


def converse(opened, n_tokens_to_generate, given, stop):
    """Continue what the user types, line by line; see extras/chat.py. opened: what `open_model` returns."""
    from extras import chat

    encoder, hparams, load_params = opened
    chat.check_room(n_tokens_to_generate, hparams["n_ctx"])
    check_stop(stop, encoder)
    params, to_text = load_params(), partial(text_of, encoder=encoder, stop=stop)
    new_pick, special = options.pick_maker(given), given["special"]
    if not options.draws(given):
        say("The likeliest token is taken each time, and the text may repeat itself: --top_p 0.8 draws.")
    chat.chat(encoder, params, hparams["n_head"], n_tokens_to_generate, new_pick, to_text, special)
