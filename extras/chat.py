"""Line by line: `python gpt2.py` on a terminal reads a line, continues it, and waits for the next.

All lines and continuations form one text. Its keys and values stay in a cache, so each turn reads only what
is new. When the text outgrows the model's context, its beginning is forgotten, and a message says so.
"""

import contextlib
import itertools
import os
import sys

import numpy as np

import gpt2
from files import redecoded, say, similar, to_stderr
from text import encoded, say_if_plain, shows_colour, special_ids

ASK = "> "
BLUE, PLAIN = "\033[38;5;32m", "\033[0m"  # of what the model writes
LEAVE = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
COMMANDS = {"/clear": "forget the text so far", "/help": "show this list", "/quit": f"quit, as {LEAVE} does"}


class Conversation:
    """A growing text: `add` what is typed, `generate` the model's continuation.

    Where it no longer fits the context, only its end stays, half a context long; a line on stderr says so.
    """

    def __init__(self, params, n_head):
        self.params, self.n_head = params, n_head
        self.n_ctx = len(params["wpe"])
        self.kv_cache = gpt2.new_kv_cache(params, n_head, self.n_ctx)
        self.clear()

    def clear(self):
        """Forget everything."""
        self.ids, self.n_past = [], 0

    def add(self, ids, n_room=0):
        """Append ids, so that n_room more tokens will fit. n_room: at most half a context."""
        self.ids += [int(i) for i in ids]
        self.make_room(n_room)

    def make_room(self, n_room=0):
        """Forget the beginning of the text if n_room more tokens would not fit."""
        if len(self.ids) + n_room > self.n_ctx:
            n_forgotten = len(self.ids) - max(self.n_ctx // 2, 1)
            self.n_past = 0  # every remaining token gets a new position
            del self.ids[:n_forgotten]
            say(f"[{n_forgotten:,} tokens forgotten: the model sees {self.n_ctx:,}]")

    def generate(self, n_tokens_to_generate, pick=np.argmax):  # -> ids, one at a time
        """Yield new ids; what is yielded is part of the text, even if the caller stops midway."""
        for _ in range(n_tokens_to_generate):
            self.make_room()
            new = self.ids[self.n_past :]
            hidden = gpt2.prefill(new, self.params, self.n_head, self.kv_cache, self.n_past)
            self.ids.append(int(pick(gpt2.next_logits(hidden[-1], self.params))))
            self.n_past = len(self.ids) - 1  # only now: after Ctrl-C, something is left to read
            yield self.ids[-1]


def chat(encoder, params, n_head, n_tokens_to_generate, new_pick, to_text, special=False):
    """Read lines and print their continuations until Ctrl-D; Ctrl-C ends a turn.

    n_tokens_to_generate: see `check_room`. new_pick: (ids, number of the turn) -> pick. to_text: ids, one at
    a time, and those before them -> pieces of text, up to its end. special: see `text.encoded`.
    """
    text, n_turns = Conversation(params, n_head), itertools.count()
    prepare_terminal()

    def take_turn(line):
        say_if_command(line)
        say_if_plain([line], encoder, special, "that line", "[{}]")
        line = line if line.strip() else ""  # white space alone asks the model to go on
        text.add(line_ids(line, text.ids, encoder, special), n_tokens_to_generate)
        if text.ids:
            pick = new_pick(text.ids, next(n_turns))
            print_written(to_text(text.generate(n_tokens_to_generate, pick), before=[*text.ids]))

    while True:
        line = None
        try:
            line = redecoded(read_line())
            if line.rstrip() == "/quit":
                return
            if line.startswith("/"):
                obey(line.rstrip(), text)
            else:
                take_turn(line)
        except ValueError as error:  # bytes that are not UTF-8, or what the vocabulary lacks
            not_text = "that line is not UTF-8 text and was left out: type it again"
            say(f"[{not_text if line is None else error}]")
        except KeyboardInterrupt:
            print(flush=True)
            if line is None:
                say(f"[{LEAVE} quits]")
        except EOFError:
            print(flush=True)
            return


def line_ids(line, ids_before, encoder, special):  # -> ids
    """The ids of a line, after a newline that separates it from the text before.

    The first line gets none; nor, with `special`, does a line beside a special token, which separates them;
    nor any line where the vocabulary has no newline.
    """
    ids = encoded(line, encoder, special)
    if not ids_before or special and special_ids(encoder) & {*ids_before[-1:], *ids[:1]}:
        return ids
    try:
        return encoded("\n" + line, encoder, special)
    except UnicodeError:
        return ids


def read_line():  # -> str
    """A line of the user's. Where stdout is no terminal, the sign that asks for it goes to stderr."""
    if sys.stdout.isatty():
        return input(ASK)
    to_stderr(ASK)
    return input()


def check_room(n_tokens_to_generate, n_ctx):
    """Raise ValueError unless half a context is left for what is typed."""
    if n_tokens_to_generate > n_ctx // 2:
        problem = f"in a chat it must be at most {n_ctx // 2}, half of what the model sees"
        raise ValueError(f"n_tokens_to_generate is {n_tokens_to_generate}: {problem}")


def prepare_terminal():
    """Say what can be typed, and let lines be edited where the system has readline."""
    with contextlib.suppress(ImportError):  # on Windows, the terminal edits lines itself
        import readline

        readline.parse_and_bind("set convert-meta off")  # bytes beyond ASCII are not keys, in any locale
    sys.stdin.reconfigure(errors="surrogateescape")  # which `redecoded` understands
    say(
        f"Type a line: the model continues the text so far. Ctrl-C stops it, {LEAVE} quits, /help shows more."
    )


def obey(command, text):
    """Do what a line that begins with / asks for."""
    if command == "/clear":
        text.clear()
        say("[forgotten: the next line begins a new text]")
        return
    if command not in COMMANDS:
        found = similar(command, COMMANDS)
        question = f"; did you mean {found[0]}?" if found else "."
        say(f"[{command} is not a command{question} If it is text, type a space first]")
    for name, meaning in COMMANDS.items():
        say(f"{name:8}{meaning}")


def say_if_command(line):
    """Say on stderr if a line looks like a command; it is part of the text all the same."""
    command = {"exit": "quit"}.get(line, line)
    if f"/{command}" in COMMANDS:
        say(f"[{line!r} is continued as text; the command is /{command}]")


def print_written(pieces):
    """Print text as it comes, then a newline; in colour, so that it differs from what is typed."""
    in_colour = shows_colour()
    for piece in pieces:
        print(f"{BLUE}{piece}{PLAIN}" if in_colour and piece else piece, end="", flush=True)
    print(flush=True)
