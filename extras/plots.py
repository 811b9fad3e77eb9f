"""Pictures of a model: arrays in, a matplotlib figure out, and the same in words for those who cannot see it.

Every picture is drawn by a function that returns (figure, alt); alt is made from the numbers that are drawn.
Shades of one colour keep their order in grey and for the colour-blind; lines differ in dash and marker too.
"""

import re

import numpy as np

from files import needs

with needs("requirements-extras.txt"):
    from matplotlib.colors import CenteredNorm, LogNorm, Normalize
    from matplotlib.figure import Figure

LINES = (("#000000", "-", "o"), ("#0072b2", "--", "s"), ("#d55e00", "-.", "^"), ("#7a7a7a", ":", "D"))
BLUE, NOTHING = "#0072b2", "#e4e4e4"
WIDTH = 7.5  # of a figure, in inches: one column of a notebook
LONGEST = 24  # characters in a label, at most
N_NAMES = 20  # at most this many below an axis
N_IN_CELLS = 14  # a map of at most this many columns has its numbers printed in its cells
FAINT = 0.1  # the darkest shade stands for at least this, so that no dark cell says 0.00
CENTRED = {"ha": "center", "va": "center"}

# ---- parts of pictures -------------------------------------------------------------------------------------


def new_figure(width, height, *grid, **options):  # inches -> figure, axes or an array of them
    """An empty figure. grid: n_rows, n_columns; options: those of `Figure.subplots`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(*grid, **options)


def spelled(token):  # str -> str
    """A token as a label: short, spaces at its ends and line breaks made visible, $ not read as a formula."""
    token = token if len(token) <= LONGEST else token[: LONGEST - 1] + "…"
    token = re.sub("^ +| +$", lambda spaces: "␣" * len(spaces[0]), token)
    token = token.replace("\n", "↵").replace("$", r"\$")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in token)


def name_rows(axes, names):
    """Put names at 0, 1, 2 ... on the y axis."""
    axes.set_yticks(range(len(names)), map(spelled, names))


def name_below(axes, names):
    """Put names at 0, 1, 2 ... on the x axis, slanted; if there are too many, only every second, third ..."""
    step = -(-len(names) // N_NAMES)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(0, len(names), step), map(spelled, names[::step]), **slanted)


def in_percent(p):  # -> str
    """A probability for a reader, with one decimal."""
    return f"{100 * p:.1f} %"


def counted(n, noun):  # -> str
    """A number and its noun, in the plural if need be."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def tokens_in_words(tokens, probabilities):  # n strings, [n] -> str
    """Each token with its probability."""
    return ", ".join(f"{token!r} {in_percent(p)}" for token, p in zip(tokens, probabilities))


def ink(colour):  # red, green, blue -> colour of a text on it
    """Black or white, whichever stands out (by relative luminance, as in WCAG 2.2)."""
    return "black" if np.dot(np.array(colour[:3]) ** 2.2, [0.2126, 0.7152, 0.0722]) > 0.18 else "white"


# ---- pictures ----------------------------------------------------------------------------------------------


def next_tokens(probabilities, tokens, control=None):  # [n], n strings, [n] -> figure, alt
    """A bar for each token's probability, the first on top; control: another model's, as diamonds."""
    n = len(tokens)
    figure, axes = new_figure(WIDTH * 0.8, 0.6 + 0.28 * n)
    axes.barh(range(n), probabilities, color=BLUE)
    for row, p in enumerate(probabilities):
        axes.text(p + 0.025, row, in_percent(p), va="center")
    if control is not None:
        axes.plot(control, range(n), "D", markerfacecolor="white", markeredgecolor="black", label="control")
        axes.legend(loc="lower right")
    name_rows(axes, tokens)
    axes.set(xlim=(-0.02, 1.15), ylim=(n - 0.4, -0.6), xlabel="probability of being next")
    alt = tokens_in_words(tokens, probabilities)
    if control is not None:
        alt += f"; the control gives each at most {100 * max(control):.2g} %"
    return figure, f"Bar chart: probabilities of the next token. {alt}."


def text_by_probability(tokens, probabilities):  # n strings, [n] -> figure, alt
    """The text, each token in a box: the darker, the less expected; below it, its probability."""
    n_columns = 64
    places, row, column = [], 0, 0
    for token in tokens:
        width = max(len(spelled(token)) + 1, 6)
        if column + width > n_columns and column:
            row, column = row + 1, 0
        places.append((row, column, width))
        column += width
    figure, axes = new_figure(WIDTH, 0.55 * (row + 1))
    for token, p, (row, column, width) in zip(tokens, probabilities, places):
        shade = 1 - 0.85 * (1 - p) ** 2
        axes.fill_between([column, column + width - 0.25], row, row + 0.6, color=str(shade), ec="black")
        middle, colour = column + width / 2, ink([shade] * 3)
        axes.text(middle, row + 0.3, spelled(token), family="monospace", color=colour, **CENTRED)
        axes.text(middle, row + 0.8, in_percent(p), size=8, **CENTRED)
    axes.set(xlim=(0, n_columns), ylim=(row + 1, 0))
    axes.axis("off")
    words = tokens_in_words(tokens, probabilities)
    return figure, f"The text token by token, each with the probability that the model gave it: {words}."


def heatmap(values, rows, columns, title, noise_floor=None):  # [n_rows, n_columns] -> figure, alt
    """A cell for each number, darker for more, white for 0 and below; grey where there is none (NaN).

    With a noise_floor, shades are logarithmic from there to 1, and smaller numbers, which mean nothing, are
    drawn as dots. Numbers are printed in the cells if they fit, so that no shade need be read.
    """
    n_rows, n_columns = values.shape
    printed = n_columns <= N_IN_CELLS
    room = 1 + 0.07 * max(len(spelled(name)) for name in columns)  # for the title and the names below
    if noise_floor is None:
        drawn, noisy = values, np.zeros(values.shape, bool)
        norm = Normalize(0, max(np.nanmax(values), FAINT))
        words = map_in_words(values, rows, columns)
    else:
        drawn, noisy = np.maximum(values, noise_floor), values < noise_floor
        norm = LogNorm(noise_floor, 1)
        words = errors_in_words(values, rows, columns, noise_floor)
    figure, axes = new_figure(WIDTH, room + (0.36 if printed else 0.28) * n_rows)
    axes.set_facecolor(NOTHING)
    shades = axes.imshow(drawn, cmap="Blues", norm=norm, aspect="auto")
    name_below(axes, columns)
    name_rows(axes, rows)
    axes.set_title(title)
    if not printed:
        figure.colorbar(shades)
    for (row, column), value in np.ndenumerate(drawn):
        if noisy[row, column] or printed and not np.isnan(value):
            text = "·" if noisy[row, column] else cell_text(value, in_powers=noise_floor is not None)
            axes.text(column, row, text, size=8, color=ink(shades.to_rgba(value)), **CENTRED)
    down = f"{counted(n_rows, 'row')}, {rows[0]!r} to {rows[-1]!r}"
    across = f"{counted(n_columns, 'column')}, {columns[0]!r} to {columns[-1]!r}"
    return figure, f"Heat map: {title}. {down}; {across}. {words}"


def cell_text(value, in_powers):  # -> str
    """A number in few characters: 0.20, or 2e-1 in powers of ten."""
    if in_powers:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")
    return f"{round(value, 2) + 0:.2f}"  # + 0: no -0.00


def map_in_words(values, rows, columns):  # -> str
    """The largest number and where it is."""
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    place = f"row {rows[row]!r}, column {columns[column]!r}"
    return f"The largest number is {values[row, column]:.2f}, in {place}."


def errors_in_words(values, rows, columns, noise_floor):  # -> str
    """The rows that are all noise; for every other row, how many cells are not, and the largest number."""
    floor, quiet, loud = cell_text(noise_floor, in_powers=True), [], []
    for name, row in zip(map(repr, rows), values):
        above = row >= noise_floor
        if not above.any():
            quiet.append(name)
            continue
        below = [repr(columns[i]) for i in np.flatnonzero(row < noise_floor)]
        but = f" (all but {', '.join(below)})" if 0 < len(below) <= 3 else ""
        largest = cell_text(np.nanmax(row), in_powers=True)
        loud.append(f"in {name} {counted(above.sum(), 'cell')}{but}, up to {largest}")
    words = f"Rows of noise only, below {floor}: {', '.join(quiet) or 'none'}."
    return f"{words} Above it: {'; '.join(loud)}." if loud else words


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
        f"{counted(n_layer, 'row')} of {counted(n_head, 'thumbnail')}, each a heat map of {n_seq} by {n_seq} "
        f"attention weights. The head that looks most at the token just before is head {head} of layer "
        f"{layer}: {before[layer, head]:.2f} on average."
    )


def one_query(scores, scaled, masked, weights, values, tokens, query):  # -> figure, alt
    """One row of attention in five panels: scores, scaled, masked, after softmax, and the weighted values.

    The first four are [n_k], values [n_k, d_head]. tokens: those looked at; query: the index of the one that
    looks. The last row of the last panel is the sum: the head's output.
    """
    n_k = len(tokens)
    figure, panels = new_figure(
        WIDTH * 1.3, 1.3 + 0.3 * n_k, 1, 5, sharey=True, width_ratios=[1, 1, 1, 1, 1.6]
    )
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
    name_rows(panels[0], [*tokens, "sum"])
    panels[0].get_yticklabels()[query].set_weight("bold")
    best = np.argsort(-weights)[:3]
    looked = ", ".join(f"{tokens[key]!r} {weights[key]:.2f}" for key in best)
    n_later = int(np.isinf(masked).sum())
    return figure, (
        f"Five panels that show how {tokens[query]!r}, token {query}, looks at {counted(n_k, 'token')}. "
        f"Scores run from {scores.min():.2f} to {scores.max():.2f}; once scaled, from {scaled.min():.2f} to "
        f"{scaled.max():.2f}. The mask hides {counted(n_later, 'later token')}. After softmax, the largest "
        f"weights are {looked}. The weighted values add up to a vector of {values.shape[1]} numbers."
    )


def signed_bars(axes, row):  # [n]
    """A bar from 0 to each number, and the number beside it; -∞ has no bar."""
    finite = np.where(np.isfinite(row), row, 0)
    axes.barh(range(len(row)), finite, color=BLUE)
    room = np.ptp([*finite, 0]) or 1
    axes.set_xlim(min(0, finite.min()) - 0.5 * room, max(0, finite.max()) + 0.5 * room)
    for place, (value, end) in enumerate(zip(row, finite)):
        text = f"{value:.2f}" if np.isfinite(value) else "-∞"
        axes.text(max(end, 0), place, f" {text}", va="center", size=8)
    axes.axvline(0, color="black", linewidth=0.8)


def curves(x, lines, xlabel, ylabel, span=None, scale="linear", noise_floor=None):  # -> figure, alt
    """A line for each name; it breaks where a number is NaN, infinite or, on a log scale, not positive.

    x: [n] numbers or names; lines: {name: [n]}; span: the ends of the y axis; scale: "linear" or "log".
    noise_floor: on a log scale, a grey band covers smaller numbers, which mean nothing; those below the band
    are drawn at its lower edge.
    """
    figure, axes = new_figure(WIDTH, 3.4)
    named = isinstance(x[0], str)
    places = range(len(x)) if named else x
    lowest = -np.inf if noise_floor is None else noise_floor / 1000
    for i, (name, y) in enumerate(lines.items()):
        colour, dash, marker = LINES[i % len(LINES)]
        few = {"marker": marker, "markersize": 4} if len(x) <= 40 else {}
        drawn = np.where(np.isfinite(y), np.maximum(y, lowest), np.nan)
        if scale == "log":
            drawn = np.where(drawn > 0, drawn, np.nan)
        axes.plot(places, drawn, dash, color=colour, label=name, **few)
    if named:
        name_below(axes, x)
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale=scale)
    if noise_floor is not None:
        axes.axhspan(lowest, noise_floor, color=NOTHING, label="noise")
        span = (lowest, 3) if span is None else span
    if span is not None:
        axes.set_ylim(span)
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    words = " ".join(line_in_words(x, *line, noise_floor) for line in lines.items())
    return figure, f"Line chart: {ylabel} by {xlabel}. {words}"


def line_in_words(x, name, y, noise_floor):  # -> str
    """Where a line starts, ends and peaks."""
    (there,) = np.nonzero(np.isfinite(y))
    if len(there) == 0:
        return f"{name}: nothing but NaN or infinity."
    noise_floor = -np.inf if noise_floor is None else noise_floor
    if np.max(y[there]) < noise_floor:
        return f"{name}: below {cell_text(noise_floor, in_powers=True)} throughout."
    places = {"starts": there[0], "ends": there[-1]}
    highest = there[np.argmax(y[there])]
    if y[highest] - max(y[there[0]], y[there[-1]]) > 0.01 * np.abs(y[there]).max():
        places["peaks"] = highest
    words = []
    for word, i in places.items():
        where = repr(x[i]) if isinstance(x[i], str) else f"{x[i]:.3g}"
        if y[i] >= noise_floor:
            words.append(f"{word} at {y[i]:.3g} ({where})")
        else:
            words.append(f"{word} below {cell_text(noise_floor, in_powers=True)} ({where})")
    return f"{name}: {', '.join(words)}."


def spread(arrays, tokens):  # {name: [n_seq, n_embd]}, n_seq strings -> figure, alt
    """A panel for each array, with a row for each token.

    A thin line goes from the token's smallest to its largest number, a thick one is its mean ± std.
    """
    height = 0.9 + 0.26 * len(tokens)
    figure, grid = new_figure(WIDTH, height, 1, len(arrays), sharey=True, squeeze=False)
    panels, words = grid[0], []
    for axes, (name, x) in zip(panels, arrays.items()):
        mean, std, rows = x.mean(axis=-1), x.std(axis=-1), range(len(x))
        axes.hlines(rows, x.min(axis=-1), x.max(axis=-1), color="#7a7a7a", linewidth=1)
        axes.hlines(rows, mean - std, mean + std, color=BLUE, linewidth=5)
        axes.plot(mean, rows, "|", color="black")
        axes.set_title(name, size=10)
        axes.grid(alpha=0.3)
        words.append(f"{name}, from {std.min():.2f} to {std.max():.2f}")
    name_rows(panels[0], tokens)
    panels[0].invert_yaxis()
    ranges = f"The range and the mean of each token's numbers, for {counted(len(tokens), 'token')}"
    return figure, f"{ranges}. Standard deviations: {'; '.join(words)}."
