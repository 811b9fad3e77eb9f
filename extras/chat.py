"""Line by line: `python gpt2.py` on a terminal reads a line, goes on with it, and waits for the next.

All lines and continuations are one text. Its keys and values stay in a cache, so a turn reads only what is
new. When the model cannot see all of the text any more, it forgets the first half, and says so.
"""

import itertools
import sys

import numpy as np

import gpt2
from utils import load_encoder_hparams_and_params

ASK = "> "


class Conversation:
    """A text that grows: `add` what is typed, `go_on` with what the model makes of it."""

    def __init__(self, params, n_head):
        self.params, self.n_head = params, n_head
        self.n_ctx = len(params["wpe"])
        self.kv_cache = gpt2.new_kv_cache(params, n_head, self.n_ctx)
        self.ids, self.n_past = [], 0

    def add(self, ids, n_room):  # -> how many tokens were forgotten
        """Put ids behind the text, and forget its beginning if n_room tokens more would not fit."""
        self.ids += [int(i) for i in ids]
        n_forgotten = 0
        if len(self.ids) + n_room > self.n_ctx:
            n_kept = max(min(self.n_ctx // 2, self.n_ctx - n_room), 1)
            n_forgotten = max(len(self.ids) - n_kept, 0)
            del self.ids[:n_forgotten]
            self.n_past = 0  # all that is left has another position now
        return n_forgotten

    def go_on(self, n_tokens_to_generate, pick=np.argmax):  # -> ids, one at a time
        """Yield new ids; what is yielded is part of the text, also if the reader stops in the middle."""
        for _ in range(n_tokens_to_generate):
            new = self.ids[self.n_past :]
            hidden = gpt2.prefill(new, self.params, self.n_head, self.kv_cache, self.n_past)
            self.n_past = len(self.ids)
            self.ids.append(int(pick(gpt2.next_logits(hidden[-1], self.params))))
            yield self.ids[-1]


def chat(n_tokens_to_generate, model_size, models_dir, new_pick, until):
    """Read lines until Ctrl-D; Ctrl-C ends a turn.

    new_pick: (ids, number of the turn) -> pick, None is greedy; until: pieces of text -> those before a stop
    text. Raises ValueError if what is generated would leave no room for a line.
    """
    encoder, hparams, params = load_encoder_hparams_and_params(model_size, models_dir)
    text, n_turns = Conversation(params, hparams["n_head"]), itertools.count()
    if n_tokens_to_generate >= text.n_ctx:
        n_most = text.n_ctx - 1
        raise ValueError(f"n_tokens_to_generate is {n_tokens_to_generate}, in a chat at most {n_most} fit")
    print("A line, and the model goes on with it. Ctrl-C stops it, Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = input(ASK)
            ids = encoder.encode(("\n" if text.ids else "") + line)
            n_forgotten = text.add(ids, n_tokens_to_generate)
            if n_forgotten:
                print(f"[{n_forgotten} tokens forgotten: the model sees {text.n_ctx}]", file=sys.stderr)
            if text.ids:
                pick = new_pick(text.ids, next(n_turns)) if new_pick else np.argmax
                new_ids = text.go_on(n_tokens_to_generate, pick)
                new_ids = itertools.takewhile(lambda i: i not in encoder.stop_ids, new_ids)
                for piece in until(encoder.decode_stream(new_ids)):
                    print(piece, end="", flush=True)
                print(flush=True)
        except KeyboardInterrupt:
            print(flush=True)
        except EOFError:
            print(flush=True)
            return
