"""Watch a token being chosen: the ten likeliest, what each filter leaves of them, and the one chosen.

Every step is a table, at most 80 characters wide. Its first column holds the model's probabilities; each
filter adds one, with the probabilities after it and the filters before it. An arrow points to the choice.
"""

from unicodedata import combining, east_asian_width

import numpy as np

import gpt2
from extras.sampling import filters

N_ROWS = 10
SHORT = {  # names too long for a column
    "repetition_penalty": "penalty",
    "no_repeat_ngram": "n-gram",
    "temperature": "temp.",
}


def explained(pick, ids, settings, encoder, write):  # -> pick
    """The same pick, but one that reports each choice.

    ids: the prompt; settings: those of its `sampling.filters`; write: a function that takes each table, such
    as sys.stderr.write.
    """
    ids, chain = [int(i) for i in ids], filters(**settings)

    def explaining(logits):
        columns = {"model": gpt2.softmax(logits)}
        filtered = logits
        for name, apply in chain.items():
            filtered = apply(filtered, ids)
            columns[SHORT.get(name, name)] = gpt2.softmax(filtered)
        ids.append(int(pick(logits)))
        write(table(columns, ids[-1], encoder))
        return ids[-1]

    return explaining


def table(columns, chosen, encoder):  # {name: [n_vocab]}, id -> str
    """A row for each of the likeliest tokens; the chosen one takes the last row if it is not among them."""
    likeliest = np.argsort(-columns["model"], kind="stable")[:N_ROWS].tolist()
    if chosen not in likeliest:
        likeliest[-1] = chosen
    lines = [f"{'':22}" + "".join(f"{name:>9}" for name in columns)]
    for token_id in likeliest:
        cells = "".join(percent_cell(column[token_id]) for column in columns.values())
        lines.append(f"{quoted(token_id, encoder)}{cells}{' <-' if token_id == chosen else ''}")
    return "\n" + "\n".join(lines) + "\n"


def percent_cell(p):  # -> 9 characters
    """A probability; blank where a filter removed the token."""
    return f"{100 * p:8.2f}%" if p > 0 else " " * 9


def quoted(token_id, encoder):  # -> 22 characters
    """A token as Python writes it: spaces and line breaks are visible, what cannot be printed is escaped."""
    text = repr(encoder.token_bytes(token_id).decode("utf-8", "replace"))
    if width(text) > 21:
        text = next(text[:n] for n in range(len(text), 0, -1) if width(text[:n]) <= 18) + "..."
    return text + " " * (22 - width(text))


def width(text):  # -> columns of a terminal
    """How wide a text is: a Chinese character takes two columns, a mark on a letter none."""
    return sum(2 if east_asian_width(c) in "WF" else 0 if combining(c) else 1 for c in text)
