"""Line by line: `python gpt2.py` on a terminal reads a line, continues it, and waits for the next.

All lines and continuations form one text. Its keys and values stay in a cache, so each turn reads only what
is new. When the text outgrows the model's context, its beginning is forgotten, and a message says so: at most
half a context stays.
"""

import itertools
import sys

import numpy as np

import gpt2
from files import redecoded

ASK = "> "


class Conversation:
    """A growing text: `add` what is typed, `generate` the model's continuation."""

    def __init__(self, params, n_head):
        self.params, self.n_head = params, n_head
        self.n_ctx = len(params["wpe"])
        self.kv_cache = gpt2.new_kv_cache(params, n_head, self.n_ctx)
        self.ids, self.n_past = [], 0

    def add(self, ids, n_room):  # -> how many tokens were forgotten
        """Append ids, and forget the beginning of the text if n_room more tokens would not fit."""
        self.ids += [int(i) for i in ids]
        n_forgotten = 0
        if len(self.ids) + n_room > self.n_ctx:
            n_kept = max(min(self.n_ctx // 2, self.n_ctx - n_room), 1)
            n_forgotten = max(len(self.ids) - n_kept, 0)
            del self.ids[:n_forgotten]
            self.n_past = 0  # every remaining token now has a new position
        return n_forgotten

    def generate(self, n_tokens_to_generate, pick=np.argmax):  # -> ids, one at a time
        """Yield new ids; what is yielded is part of the text, even if the caller stops midway."""
        for _ in range(n_tokens_to_generate):
            new = self.ids[self.n_past :]
            hidden = gpt2.prefill(new, self.params, self.n_head, self.kv_cache, self.n_past)
            self.n_past = len(self.ids)
            self.ids.append(int(pick(gpt2.next_logits(hidden[-1], self.params))))
            yield self.ids[-1]


def chat(encoder, params, n_head, n_tokens_to_generate, new_pick, to_text):
    """Read lines and print their continuations until Ctrl-D; Ctrl-C ends a turn.

    new_pick: (ids, number of the turn) -> pick; to_text: ids, one at a time -> pieces of text, up to its end.
    Raises ValueError if n_tokens_to_generate leaves no room for a line.
    """
    text, n_turns = Conversation(params, n_head), itertools.count()
    if n_tokens_to_generate >= text.n_ctx:
        n_most = text.n_ctx - 1
        raise ValueError(f"n_tokens_to_generate is {n_tokens_to_generate}: in a chat at most {n_most} fit")
    print("Type a line, and the model continues it. Ctrl-C stops it, Ctrl-D quits.", file=sys.stderr)
    sys.stdin.reconfigure(errors="surrogateescape")  # which `redecoded` understands
    while True:
        try:
            line = redecoded(input(ASK))
            ids = encoder.encode(("\n" if text.ids else "") + line)
            n_forgotten = text.add(ids, n_tokens_to_generate)
            if n_forgotten:
                print(f"[{n_forgotten} tokens forgotten: the model sees {text.n_ctx}]", file=sys.stderr)
            if text.ids:
                pick = new_pick(text.ids, next(n_turns))
                for piece in to_text(text.generate(n_tokens_to_generate, pick)):
                    print(piece, end="", flush=True)
                print(flush=True)
        except UnicodeError:
            print("[that line is not UTF-8 text and was left out: type it again]", file=sys.stderr)
        except KeyboardInterrupt:
            print(flush=True)
        except EOFError:
            print(flush=True)
            return
