"""Watch a token being chosen: the ten likeliest, what each filter leaves of them, and the one that is taken.

Every step is a table of at most 80 columns. Its first numbers are probabilities by the model; each filter
adds a column, which is the probability after it and those before, and an arrow points to the choice.
"""

import numpy as np

import gpt2
from extras.sampling import filters

N_ROWS = 10
SHORT = {"repetition_penalty": "penalty", "temperature": "temp."}  # of names that are too wide for a column


def explained(pick, ids, settings, encoder, write):  # -> pick
    """The same pick, which tells about each of its choices. settings: those of its `sampling.filters`.

    ids: the prompt; write: a function for a table, such as sys.stderr.write.
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
    """A row for each of the likeliest tokens; the last is the chosen one, if it is not among them."""
    likeliest = np.argsort(-columns["model"], kind="stable")[:N_ROWS].tolist()
    if chosen not in likeliest:
        likeliest[-1] = chosen
    lines = [f"{'':22}" + "".join(f"{name:>9}" for name in columns)]
    for token_id in likeliest:
        cells = "".join(percent(column[token_id]) for column in columns.values())
        lines.append(f"{spell(token_id, encoder)}{cells}{' <-' if token_id == chosen else ''}")
    return "\n" + "\n".join(lines) + "\n"


def percent(p):  # -> 9 columns
    """A probability; empty where nothing is left of it."""
    return f"{100 * p:8.2f}%" if p > 0 else " " * 9


def spell(token_id, encoder):  # -> 22 columns
    """A token as Python writes it, so that spaces and line ends show; characters that are no text escaped."""
    text = ascii(encoder.decode([token_id]))
    return f"{text if len(text) <= 21 else text[:18] + '...':22}"
