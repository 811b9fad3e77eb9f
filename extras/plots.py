"""Pictures of a model: arrays in, a matplotlib figure out, and the same in words for those who cannot see it.

Every function returns (figure, alt), and alt is made of the numbers that are drawn. Shades of one colour keep
their order in grey and for the colour-blind, and lines differ in dash and marker as well.
"""

import re

import numpy as np

from extras.hub import INSTALL

try:
    from matplotlib.colors import CenteredNorm, LogNorm, Normalize
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"{error}: {INSTALL}") from None

LINES = (("#000000", "-", "o"), ("#0072b2", "--", "s"), ("#d55e00", "-.", "^"), ("#7a7a7a", ":", "D"))
BLUE, NOTHING = "#0072b2", "#e4e4e4"
WIDTH = 7.5  # of a figure, in inches: one column of a notebook
LONGEST = 24  # characters of a label
N_NAMES = 20  # so many stand below an axis
N_IN_CELLS = 14  # up to so many columns, a map has its numbers printed in its cells
FAINT = 0.1  # the darkest shade of a map stands for this at least, so that no dark cell says 0.00


def spelled(token):  # str -> str
    """A token as a label: short, the spaces around it and line ends can be seen, and $ is no formula."""
    token = token if len(token) <= LONGEST else token[: LONGEST - 1] + "…"
    token = re.sub("^ +| +$", lambda spaces: "␣" * len(spaces[0]), token)
    token = token.replace("\n", "↵").replace("$", r"\$")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in token)


def name_below(axes, names):
    """Names at 0, 1, 2 ... of the x axis, slanted; where they would overlap, only every second, third ..."""
    step = -(-len(names) // N_NAMES)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(0, len(names), step), map(spelled, names[::step]), **slanted)


def percent(p):  # -> str
    return f"{100 * p:.1f} %"


def each_percent(tokens, probabilities):  # n strings, [n] -> str
    return ", ".join(f"{token!r} {percent(p)}" for token, p in zip(tokens, probabilities))


def ink(colour):  # red, green, blue -> colour of a text on it
    """Black or white, whichever stands out (by the luminance of WCAG 2.2)."""
    return "black" if np.dot(np.array(colour[:3]) ** 2.2, [0.2126, 0.7152, 0.0722]) > 0.18 else "white"


def next_tokens(probabilities, tokens, control=None):  # [n], n strings, [n] -> figure, alt
    """Bars: how probable each token is, the first on top; control: the same by another model, as diamonds."""
    n = len(tokens)
    figure = Figure(figsize=(WIDTH * 0.8, 0.6 + 0.28 * n), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(n), probabilities, color=BLUE)
    for row, p in enumerate(probabilities):
        axes.text(p + 0.025, row, percent(p), va="center")
    if control is not None:
        axes.plot(control, range(n), "D", markerfacecolor="white", markeredgecolor="black", label="control")
        axes.legend(loc="lower right")
    axes.set_yticks(range(n), [spelled(token) for token in tokens])
    axes.set(xlim=(-0.02, 1.15), ylim=(n - 0.4, -0.6), xlabel="probability of being next")
    alt = each_percent(tokens, probabilities)
    if control is not None:
        alt += f"; the control gives at most {100 * max(control):.2g} %"
    return figure, f"Bars of the next token: {alt}."


def text_by_probability(tokens, probabilities):  # n strings, [n] -> figure, alt
    """The text, each token in a box: the darker, the less it was expected; its probability stands below."""
    n_columns = 64
    places, row, column = [], 0, 0
    for token in tokens:
        width = max(len(spelled(token)) + 1, 6)
        if column + width > n_columns and column:
            row, column = row + 1, 0
        places.append((row, column, width))
        column += width
    figure = Figure(figsize=(WIDTH, 0.55 * (row + 1)), layout="constrained")
    axes = figure.subplots()
    for token, p, (row, column, width) in zip(tokens, probabilities, places):
        shade = 1 - 0.85 * (1 - p) ** 2
        axes.fill_between([column, column + width - 0.25], row, row + 0.6, color=str(shade), ec="black")
        middle, style = column + width / 2, {"family": "monospace", "color": ink([shade] * 3)}
        axes.text(middle, row + 0.3, spelled(token), ha="center", va="center", **style)
        axes.text(middle, row + 0.8, percent(p), ha="center", va="center", size=8)
    axes.set(xlim=(0, n_columns), ylim=(row + 1, 0))
    axes.axis("off")
    words = each_percent(tokens, probabilities)
    return figure, f"The text token by token, with the probability that each was given: {words}."


def heatmap(values, rows, columns, title, noise=None):  # [n_rows, n_columns] -> figure, alt
    """A cell for each number, darker for more, white for 0 and below; grey where there is none (NaN).

    noise: shades go by order of size from there to 1, and what is below is a dot, because it says nothing.
    Numbers are printed in the cells if they fit, so that no shade need be read.
    """
    n_rows, n_columns = values.shape
    printed = n_columns <= N_IN_CELLS
    room = 1 + 0.07 * max(len(spelled(name)) for name in columns)  # for the title and the names below
    figure = Figure(figsize=(WIDTH, room + (0.36 if printed else 0.28) * n_rows), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(NOTHING)
    shades = axes.imshow(
        values if noise is None else np.maximum(values, noise),
        cmap="Blues",
        norm=Normalize(0, max(np.nanmax(values), FAINT)) if noise is None else LogNorm(noise, 1),
        aspect="auto",
    )
    name_below(axes, columns)
    axes.set_yticks(range(n_rows), map(spelled, rows))
    axes.set_title(title)
    if not printed:
        figure.colorbar(shades)
    for (row, column), value in np.ndenumerate(values):
        quiet = noise is not None and value < noise
        if quiet or printed and not np.isnan(value):
            colour = ink(shades.to_rgba(noise if quiet else value))
            axes.text(column, row, number(value, noise), ha="center", va="center", size=8, color=colour)
    sides = f"{n_rows} rows, {rows[0]!r} to {rows[-1]!r}; {n_columns} columns, {columns[0]!r} to"
    words = map_in_words(values, rows, columns, noise)
    return figure, f"Map of {title}: {sides} {columns[-1]!r}. {words}"


def map_in_words(values, rows, columns, noise):  # -> str
    """The largest number and where it is; with noise, for each row how much of it is more than that."""
    if noise is None:
        row, column = np.unravel_index(np.nanargmax(values), values.shape)
        return f"The most is {values[row, column]:.2f}, {rows[row]!r} with {columns[column]!r}."
    quiet = [repr(name) for name, row in zip(rows, values) if not np.any(row >= noise)]
    words = [f"All below {noise:.0e}: {', '.join(quiet) or 'no row'}"]
    for name, row in zip(map(repr, rows), values):
        below = [repr(columns[i]) for i in np.flatnonzero(row < noise)]
        if np.any(row >= noise):
            but = f", all but {', '.join(below)}" if 0 < len(below) <= 3 else ""
            words.append(f"{name}: {np.sum(row >= noise)} above{but}, up to {np.nanmax(row):.0e}")
    return f"{'; '.join(words)}."


def number(value, noise):  # -> str
    """A number for a cell, in few characters."""
    if noise is None:
        return f"{round(value, 2) + 0:.2f}"  # + 0: no -0.00
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "") if value >= noise else "·"


def layers_and_heads(maps):  # [n_layer, n_head, n_seq, n_seq] -> figure, alt
    """The attention weights of all heads as thumbnails: a row for each layer."""
    n_layer, n_head, n_seq, _ = maps.shape
    side = min(1.1, 9 / n_head)
    figure = Figure(figsize=(0.5 + side * n_head, 0.5 + side * n_layer), layout="compressed")
    grid = figure.subplots(n_layer, n_head, squeeze=False)
    for (layer, head), axes in np.ndenumerate(grid):
        axes.imshow(maps[layer, head], cmap="Blues", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        if layer == 0:
            axes.set_title(f"head {head}" if n_head <= 8 else head, size=10)
        if head == 0:
            axes.set_ylabel(f"layer {layer}" if n_layer <= 8 else layer, size=10)
    before = np.diagonal(maps, -1, axis1=-2, axis2=-1).sum(axis=-1) / max(n_seq - 1, 1)
    layer, head = np.unravel_index(before.argmax(), before.shape)
    return figure, (
        f"{n_layer} rows of {n_head} thumbnails, each a map of {n_seq} by {n_seq} attention weights. "
        f"Head {head} of layer {layer} looks most at the token before: {before[layer, head]:.2f} on average."
    )


def one_query(scores, scaled, masked, weights, values, tokens, query):  # -> figure, alt
    """One row of attention in five panels: scores, scaled, masked, after softmax, and the weighted values.

    The first four are [n_k], values [n_k, d_head]; tokens are those looked at, query is the index of the one
    that looks. The last row of the last panel is the sum: what the head passes on.
    """
    n_k = len(tokens)
    figure = Figure(figsize=(WIDTH * 1.3, 1.3 + 0.3 * n_k), layout="constrained")
    panels = figure.subplots(1, 5, sharey=True, width_ratios=[1, 1, 1, 1, 1.6])
    titles = (
        "1 scores\nq · k",
        "2 scaled\n/ √d_head",
        "3 masked\nlater: -∞",
        "4 softmax\nsum 1",
        "5 weight × value\norange < 0 < purple",
    )
    for axes, row in zip(panels, (scores, scaled, masked, weights)):
        signed_bars(axes, row)
    weighted = np.vstack([weights[:, None] * values, weights @ values])
    panels[4].imshow(weighted, cmap="PuOr", norm=CenteredNorm(), aspect="auto")
    panels[4].axhline(n_k - 0.5, color="black")
    for axes, title in zip(panels, titles):
        axes.set_title(title, size=10)
        axes.set_xticks([])
    panels[0].set_yticks(range(n_k + 1), [*map(spelled, tokens), "sum"])
    panels[0].get_yticklabels()[query].set_weight("bold")
    best = np.argsort(-weights)[:3]
    looked = ", ".join(f"{tokens[key]!r} {weights[key]:.2f}" for key in best)
    n_later = int(np.isinf(masked).sum())
    return figure, (
        f"Five panels of how {tokens[query]!r}, token {query}, looks at {n_k} tokens: the scores are from "
        f"{scores.min():.2f} to {scores.max():.2f}, scaled from {scaled.min():.2f} to {scaled.max():.2f}; "
        f"{n_later} later tokens are masked; after softmax the most goes to {looked}; the values, so "
        f"weighted, add up to {values.shape[1]} numbers."
    )


def signed_bars(axes, row):  # [n]
    """A bar and a number for each, from a line at 0 to both sides; -∞ has no bar."""
    finite = np.where(np.isfinite(row), row, 0)
    axes.barh(range(len(row)), finite, color=BLUE)
    room = np.ptp([*finite, 0]) or 1
    axes.set_xlim(min(0, finite.min()) - 0.5 * room, max(0, finite.max()) + 0.5 * room)
    for place, (value, end) in enumerate(zip(row, finite)):
        text = f"{value:.2f}" if np.isfinite(value) else "-∞"
        axes.text(max(end, 0), place, f" {text}", va="center", size=8)
    axes.axvline(0, color="black", linewidth=0.8)


def curves(x, lines, xlabel, ylabel, span=None, noise=None, log=False):  # [n], {name: [n]} -> figure, alt
    """A line for each name; it stops where a number is NaN or infinite. x may be names. span: of the y axis.

    log: by order of size. noise: so as well, with a grey band for what is below, because it says nothing.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    named = isinstance(x[0], str)
    places = range(len(x)) if named else x
    for i, (name, y) in enumerate(lines.items()):
        colour, dash, marker = LINES[i % len(LINES)]
        few = {"marker": marker, "markersize": 4} if len(x) <= 40 else {}
        drawn = np.where(np.isfinite(y) & (y > 0 if log else True), y, np.nan)  # log of 0 is nowhere
        drawn = drawn if noise is None else np.maximum(drawn, noise / 1000)
        axes.plot(places, drawn, dash, color=colour, label=name, **few)
    if named:
        name_below(axes, x)
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="linear" if noise is None and not log else "log")
    if span is not None:
        axes.set_ylim(span)
    if noise is not None:
        axes.axhspan(noise / 1000, noise, color=NOTHING, label="noise")
        axes.set_ylim(noise / 1000, 3)
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    words = " ".join(line_in_words(x, *line, noise) for line in lines.items())
    return figure, f"{ylabel} by {xlabel}. {words}"


def line_in_words(x, name, y, noise):  # -> str
    """Where a line begins, ends, and is highest."""
    (there,) = np.nonzero(np.isfinite(y))
    if len(there) == 0:
        return f"{name}: nothing but NaN or infinity."
    noise = -np.inf if noise is None else noise
    if np.max(y[there]) < noise:
        return f"{name} stays below {noise:.0e}."
    places = {"begins at": there[0], "ends at": there[-1]}
    highest = there[np.argmax(y[there])]
    if y[highest] - max(y[there[0]], y[there[-1]]) > 0.01 * np.abs(y[there]).max():
        places["is highest at"] = highest
    words = []
    for word, i in places.items():
        where = repr(x[i]) if isinstance(x[i], str) else f"{x[i]:.3g}"
        words.append(f"{word} {f'{y[i]:.3g}' if y[i] >= noise else f'less than {noise:.0e}'} ({where})")
    return f"{name} {', '.join(words)}."


def spread(arrays, tokens):  # {name: [n_seq, n_embd]}, n_seq strings -> figure, alt
    """A panel for each array, a row for each token: its least to its largest number, mean ± std thick."""
    figure = Figure(figsize=(WIDTH, 0.9 + 0.26 * len(tokens)), layout="constrained")
    panels, words = figure.subplots(1, len(arrays), sharey=True, squeeze=False)[0], []
    for axes, (name, x) in zip(panels, arrays.items()):
        mean, std, rows = x.mean(axis=-1), x.std(axis=-1), range(len(x))
        axes.hlines(rows, x.min(axis=-1), x.max(axis=-1), color="#7a7a7a", linewidth=1)
        axes.hlines(rows, mean - std, mean + std, color=BLUE, linewidth=5)
        axes.plot(mean, rows, "|", color="black")
        axes.set_title(name, size=10)
        axes.grid(alpha=0.3)
        words.append(f"{name}, the standard deviation of a token is from {std.min():.2f} to {std.max():.2f}")
    panels[0].set_yticks(range(len(tokens)), map(spelled, tokens))
    panels[0].invert_yaxis()
    return figure, f"The numbers of each of {len(tokens)} tokens: {'; '.join(words)}."
