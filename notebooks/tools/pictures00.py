"""For notebook 00: what may come next, in a small panel, and how a vector changes on its way."""

import numpy as np

from extras import style


def choices(axes, probabilities, tokens, after, came):  # [n], n strings, str, str -> str
    """In axes: a bar for each token that may come next, its name on the left. Returns the same in words.

    after: the token before; came: the one that came, whose bar is orange.
    """
    n, small = len(tokens), 0.75 * style.SMALL
    colours = [style.ORANGE if token == came else style.BLUE for token in tokens]
    axes.barh(range(n), probabilities, height=0.62, color=colours)
    axes.set(xlim=(0, 1.5), ylim=(n - 0.5, -0.5), xticks=[])  # 1.5: room for the number of the longest bar
    style.name_rows(axes, tokens, bold=[row for row, token in enumerate(tokens) if token == came])
    axes.tick_params("y", labelsize=small)
    for row, p in enumerate(probabilities):
        look = {"size": small, "color": style.INK, "va": "center_baseline"}
        axes.annotate(style.in_percent(p), (p, row), (4, 0), textcoords="offset points", **look)
    heading = f"after {style.spelled(after)}"
    axes.set_title(heading, loc="left", size=0.75 * style.TEXT, color=style.INK, family=style.MONO)
    return f"after {after!r}, {style.tokens_in_words(tokens, probabilities)}; what came is {came!r}."


def lengths_and_likeness(vectors):  # [n, n_embd] -> str
    """The length of each vector, below it the cosine with the one before, and where that is lowest."""
    lengths = np.linalg.norm(vectors, axis=-1)
    likeness = (vectors[1:] * vectors[:-1]).sum(axis=-1) / (lengths[1:] * lengths[:-1])
    above, below = (" ".join(f"{number:5.1f}" for number in lengths), " ".join(f"{c:5.2f}" for c in likeness))
    low = likeness.argmin()
    grown = f"length {lengths[low]:.1f} to {lengths[low + 1]:.1f}"
    most = f"block {low} changes it most: {grown}, likeness {likeness[low]:.2f}"
    return f"length   {above}\n      likeness       {below}\n      {most}"
