"""Any function as a program: `run` calls a module's `command` with the words of a command line.

python-fire sorts these words into positional words and options with their values, and does no more here. Left
alone it reads words as Python ("42" is a number, "a # b" is "a"), ends arguments at "-", and calls methods of
results; but a prompt is the literal text, and a typo must be refused. So `call` gives fire a function that
takes anything, and checks what fire found against the signature of the real function.
"""

import importlib
import inspect
import io
import math
import os
import re
import shlex
import sys
import traceback

from files import ModelError, how_to_install, say, shown, similar

OLDEST = (3, 10)  # the first Python that will do; pyproject.toml says it too
SHORT = {"n": "n_tokens_to_generate", "m": "model_size", "t": "temperature"}
SUBCOMMANDS = {"help": "help", "list": "models", "models": "models", "version": "version"}  # typed: option
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"  # word processors write another for the first
WHOLE = "[0-9]{1,18}"
DECIMAL = r"[+-]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})([eE][+-]?[0-9]{1,3})?"
END_OF_HELP = """
-h or --help shows this page, --debug where in the program an error arose.
Exit status: 0; 2 usage error; 1 unusable file or download; 130 Ctrl-C
"""

# ---- a program ---------------------------------------------------------------------------------------------


def run(name, requirements="requirements.txt", program=None, argv=None):  # -> exit status
    """Call the `command` of the module of this name; report an error in one line on stderr.

    requirements: the file that lists the libraries the module needs. program: what its users call it, by
    default the module's name.
    """
    program = program or name
    argv = sys.argv[1:] if argv is None else argv
    if refuse_old_python(program):
        return 1
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    prepare_streams()
    try:
        module = importlib.import_module(name)
        if {"-h", "--help"} & {*argv}:
            print(module.HELP + END_OF_HELP, end="", flush=True)
        else:
            call(module.command, argv, program)
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader is gone: what Python flushes at exit must go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        status, line = report(error, requirements)
        say(f"{program}: {line}")
        return status


def refuse_old_python(program):  # -> bool
    """Say on stderr if this Python cannot read the modules that come next; whether it did."""
    if sys.version_info >= OLDEST:
        return False
    needed, found = (".".join(map(str, version[:2])) for version in (OLDEST, sys.version_info))
    print(f"{program}: this is Python {found}: Python {needed} or later is needed", file=sys.stderr)
    return True


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


def report(error, requirements):  # -> exit status, one line
    """2 if the command was wrong; 1 if a file, a download or the machine is at fault."""
    line = shown(" ".join(str(error).splitlines()), 1500)
    if isinstance(error, ModuleNotFoundError):
        return 1, f"{line}: {how_to_install(requirements)}"
    if isinstance(error, (ModelError, FloatingPointError, OSError, ImportError)):
        return 1, line
    if isinstance(error, ValueError):
        return 2, line
    return 1, f"{type(error).__name__}: {line} (--debug shows where)"


# ---- its arguments -----------------------------------------------------------------------------------------


def call(function, argv, program):
    """Call a function with the words of a command line.

    Annotations say how words are read: int and float as numbers, bool as an option without a value, and all
    others literally. The first word is the first argument, even if it looks like a number or begins with a
    dash, unless it begins with two or is an option of one letter. A function of *words gets all words that
    are not options. Raises ValueError for an unexpected word.
    """
    parameters = dict(inspect.signature(function).parameters)
    in_order = [name for name, parameter in parameters.items() if parameter.kind != parameter.KEYWORD_ONLY]
    takes_all = parameters[in_order[0]].kind == inspect.Parameter.VAR_POSITIONAL
    if takes_all:
        del parameters[in_order[0]]  # *words, which no option names
    words = [full_name(word, parameters) for word in argv]
    first = [word for word in words[:1] if not word.startswith("--")]
    if first:
        say_if_doubtful(first[0], words[1:], in_order[0], parameters)
    rest = joined(words[len(first) :], parameters, missing="" if first or takes_all else in_order[0])
    positional, options = sort_words(rest, program)
    positional, in_place = [*first, *positional], {}
    if not takes_all:
        check_positional(positional, options, in_order, parameters)
        in_place = dict(zip(in_order, positional))
        positional = []  # all have a name now
    values = {}
    for name, word in (in_place | options).items():
        hint = quotes_hint(word, in_order) if name in in_place else ""
        values[name] = read_value(name, word, parameters[name].annotation, hint)
    function(*positional, **values)


def quotes_hint(word, in_order):  # -> str
    """What to say of a word that may be part of the first argument; a number is none."""
    return "" if re.fullmatch(DECIMAL, word) else f"; a {in_order[0]} of several words goes in quotes"


def say_if_doubtful(word, rest, first_name, parameters):
    """Say on stderr if the first word looks like an option, or like a subcommand of another program."""
    option = SUBCOMMANDS.get(word)
    if option and not rest and option in {*parameters, "help"}:
        say(f"{shown(word, 50)!r} is taken as the {first_name}; the option is --{option}")
    if re.fullmatch(rf"[{DASHES}]+[A-Za-z?]\S*|/\?", word):
        name = bare_name(word)
        hint = f"; the option is --{name}" if name in {*parameters, "help"} else " (see --help)"
        say(f"{shown(word, 50)!r} comes first, so it is taken as the {first_name}{hint}")


def full_name(word, parameters):  # "-n=3" or "-n3" -> "--n_tokens_to_generate=3"
    """An option of one letter as the option that it stands for; other words as they are."""
    found = re.fullmatch("-([a-z])([=0-9.].*)?", word)
    name = SHORT.get(found[1]) if found else None
    if name not in parameters:
        return word
    return f"--{name}" if found[2] is None else f"--{name}={found[2].removeprefix('=')}"


def option_name(word):  # "--top-k=40" -> "top_k"; None for other words
    """The name in a word that python-fire takes for an option: -5 is not one."""
    if re.match("--|-[a-zA-Z]", word) is None:
        return None
    return word.partition("=")[0].lstrip("-").replace("-", "_")


def joined(words, parameters, missing):  # ["--seed", "3", "--lookup"] -> ["--seed=3", "--lookup=yes"]
    """Each option and its value as one word, so that fire cannot misread them; other words as they are.

    missing: the name of the first argument, if it was not among the words before. Raises ValueError for a
    wrong option, and for any other word that begins with a dash: only the first argument may, with a space.
    """
    following, found, names = list(words), [], set()
    while following:
        word = following.pop(0)
        name = option_name(word)
        if name is None:
            check_dash(word, parameters, is_literal=missing and " " in word)
            missing = ""
        else:
            check_option(word, name, names, parameters, missing)
            names.add(name)
            if "=" not in word:
                is_switch = parameters[name].annotation is bool
                word = f"{word}={no_value(word, following) if is_switch else value_of(word, following)}"
        found.append(word)
    return found


def value_of(option, following):  # -> str, which is taken from the words that follow
    """The value of an option. Raises ValueError if there is none."""
    if not following:
        raise ValueError(f"{option} has no value (see --help)")
    if option_name(following[0]) is not None:
        raise ValueError(f"{option} has no value; one that begins with a dash is given as {option}=...")
    return following.pop(0)


def no_value(option, following):  # -> "yes"
    """The mark of an option without a value. Raises ValueError if a word follows that seems to be one."""
    if following and re.fullmatch(f"{DECIMAL}|yes|no|true|false|on|off", following[0].lower()):
        raise ValueError(f"{option} takes no value, but {shown(following[0], 50)!r} follows it")
    return "yes"


def check_option(word, name, names, parameters, missing):
    """Raise ValueError for an option that is unknown, or is among the names given before."""
    option, equals, value = word.partition("=")
    if name in ("help", "debug"):
        raise ValueError(f"{option} takes no value")
    if name not in parameters:
        literal = shlex.quote(f"--{missing}={word}")
        question = likely_options(word, parameters)
        end = "" if question.endswith("?") else "."
        advice = f"{end} If it is the {missing}, write {shown(literal, 100)}" if missing else ""
        raise ValueError(f"there is no option {shown(option, 50)!r}{question}{advice}")
    if name in names:
        raise ValueError(f"--{name} is given twice")
    if equals and parameters[name].annotation is bool:
        raise ValueError(f"--{name} is given {shown(value, 50)!r}: it takes no value")


def check_dash(word, parameters, is_literal):
    """Raise ValueError for a word that begins with a dash; a negative number gets its own error later."""
    if word.startswith(tuple(DASHES)) and not is_literal and not re.fullmatch(f"-|{DECIMAL}", word):
        question = likely_options(word, parameters)
        raise ValueError(f"{shown(word, 50)!r} begins with a dash, but is not an option{question}")


def bare_name(word):  # "—top-k=40" -> "top_k"
    """A word without its dashes and its value."""
    return word.partition("=")[0].strip(DASHES).replace("-", "_")


def likely_options(word, parameters):  # -> str
    """Which options a wrong word may mean."""
    word = bare_name(word).lower()
    names = [*parameters, "help", "debug"]
    found = [name for name in names if len(word) > 1 and name.startswith(word)]
    found = found or [name for name in names if {*name.split("_")} & {*word.split("_")}]
    found = found or similar(word, names, least=0.7)
    return f": did you mean --{' or --'.join(found)}?" if found else " (see --help)"


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


def check_positional(words, options, in_order, parameters):
    """Raise ValueError for a word too many, one that is given as an option too, and one with a dash."""
    if len(words) > len(in_order):
        word = shown(words[len(in_order)], 50)
        raise ValueError(f"{word!r} is one word too many: a {in_order[0]} of several words goes in quotes")
    for name, word in zip(in_order, words):
        if name in options:
            hint = quotes_hint(word, in_order)
            raise ValueError(f"{name} is given twice: as {shown(word, 50)!r}, and as --{name}{hint}")
        if name != in_order[0] and word.startswith("-") and parameters[name].annotation is str:
            raise ValueError(f"{name} is {shown(word, 50)!r}: if that is right, write --{name}={word}")


def read_value(name, word, kind, hint):  # str -> what an annotation asks for
    """The value of an argument. Raises ValueError for a word of another kind."""
    given = f"{name} is {shown(word, 50)!r}"
    if kind is int and re.fullmatch("[0-9]{19,}", word):
        raise ValueError(f"{given}: it must have at most 18 digits")
    if kind is int and not re.fullmatch(WHOLE, word):
        raise ValueError(f"{given}: it must be a whole number, 0 or more{hint}")
    if kind is float and not (re.fullmatch(DECIMAL, word) and math.isfinite(float(word))):
        raise ValueError(f"{given}: it must be a number, such as 0.9{hint}")
    return kind(word) if kind in (bool, int, float) else word
