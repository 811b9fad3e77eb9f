"""Pictures in which the shade of a cell is a number: maps, thumbnails, strips and one row of attention.

Use them as `plots.heatmap`, `plots.strips` and so on.
"""

import numpy as np

from extras import style
from extras.style import ACROSS, BLUE, EDGE, GROUND, INK, ORANGE, PRINTED, QUIET, counted, ink, spelled
from files import needs

with needs("requirements-extras.txt"):
    from matplotlib.colors import CenteredNorm, LogNorm, Normalize

CELL = 38  # the side of a cell, at most
FAINT = 0.1  # the darkest shade stands for at least this, so that no dark cell is nearly 0
HIGHEST = 900  # the height of a map, at most

# ---- maps --------------------------------------------------------------------------------------------------


def heatmap(values, rows, columns, title, noise_floor=None, signed=False, framed=None):  # -> figure, alt
    """A square for each number of values, [n_rows, n_columns]: the darker, the more; none where it is NaN.

    Unless signed, numbers of 0 and below are the lightest; if signed, positive is blue, negative orange.
    With a noise_floor, shades are logarithmic from there to 1, and smaller numbers, which mean nothing, are
    dots. framed: the index of the row that is spoken of, or the (row, column) of a cell.
    """
    if noise_floor is None:
        norm = map_norm(values, signed)
        large = np.abs(values) if signed else values
        texts = {place: cell_text(value) for place, value in np.ndenumerate(values) if large[place] > PRINTED}
        noise, words = np.zeros(values.shape, bool), map_in_words(values, rows, columns, signed)
        note = "blue: above 0; orange: below" if signed else f"darkest: {cell_text(norm.vmax)}"
    else:
        norm, noise = LogNorm(noise_floor, 1), values < noise_floor
        texts = {place: rough(value) for place, value in np.ndenumerate(values) if value >= noise_floor}
        words = errors_in_words(values, rows, columns, noise_floor)
        note = f"dots: noise, below {rough(noise_floor)}"
    drawn = values if noise_floor is None else np.maximum(values, noise_floor)
    figure, axes, cell = grid(values.shape, rows, columns, title, note, texts.values(), signed or noise.any())
    image = axes.imshow(drawn, cmap=style.SIGNED if signed else style.AMOUNTS, norm=norm, aspect="auto")
    hairs(axes, values.shape, cell)
    if fits(texts.values(), cell):
        for (row, column), text in texts.items():
            in_cell(axes, row, column, text, image.to_rgba(drawn[row, column]))
    if noise.any():
        axes.plot(
            *np.argwhere(noise).T[::-1],
            "o",
            color=QUIET,
            markersize=2.6,
            linestyle="none",
            scalex=False,
            scaley=False,
        )
    if framed is not None:
        frame(axes, values, framed)
    down = f"{counted(len(rows), 'row')}, {rows[0]!r} to {rows[-1]!r}"
    across = f"{counted(len(columns), 'column')}, {columns[0]!r} to {columns[-1]!r}"
    return figure, f"Heat map: {title}. {down}; {across}. {words}{framed_in_words(rows, columns, framed)}"


def map_norm(values, signed):
    """Shades from 0 to the largest number, or as far on both sides of 0."""
    most = max(np.nanmax(np.abs(values) if signed else values), FAINT)
    return Normalize(-most if signed else 0, most)


def grid(shape, rows, columns, title, note, texts, noted):  # -> figure, axes, side of a cell
    """The place of a map, with its title and the names of its rows and columns.

    The note is written under the title if noted, or if the texts do not fit in the cells.
    """
    n_rows, n_columns = shape
    names = [*map(spelled, columns)]
    slanted = 0.71 * style.widest(names, style.SMALL, style.font(columns))
    left = EDGE + max(style.names_width(rows) + 8, slanted - 20)
    cell = min(CELL, (ACROSS - EDGE - left) / n_columns)
    high = min(cell, HIGHEST / n_rows)
    sheet = style.canvas()
    y = style.write(sheet, EDGE + 12, [title], style.TITLE, style.SERIF)
    if noted or not fits(texts, cell):
        y = style.write(sheet, y + 22, [note], style.SMALL, style.SANS, color=QUIET)
    figure = style.cut(sheet, y + 16 + high * n_rows + slanted + 10 + EDGE)
    axes = style.part(sheet, left, y + 16, cell * n_columns, high * n_rows)
    style.name_rows(axes, rows)
    style.name_below(axes, columns, cell * n_columns)
    return figure, axes, cell


def fits(texts, cell):  # strings, pixels -> bool
    """Whether numbers can be printed in cells of this side."""
    return not texts or style.widest(texts, style.NUMBER, style.SANS) + 4 <= cell


def hairs(axes, shape, cell):
    """A hair of space between the squares."""
    axes.set_xticks(np.arange(-0.5, shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, shape[0]), minor=True)
    axes.grid(which="minor", color=GROUND, linewidth=1.4 if cell > 16 else 0.5)


def in_cell(axes, row, column, text, shade):
    size = 0.75 * style.NUMBER
    axes.text(column, row, text, size=size, color=ink(shade[:3]), ha="center", va="center_baseline")


def frame(axes, values, framed):  # framed: a row, or (row, column)
    """An orange frame around a row or a cell; the name of the row is bold."""
    row, column = framed if np.ndim(framed) else (framed, None)
    row = range(len(values))[row]
    there = np.flatnonzero(~np.isnan(values[row])) if column is None else [range(values.shape[1])[column]]
    first, last = there[0], there[-1]
    look = {"lw": 2, "clip_on": False, "zorder": 3}
    style.box(axes, first - 0.53, row - 0.53, last - first + 1.06, 1.06, "none", ORANGE, 0.12, **look)
    axes.get_yticklabels()[row].set_weight("bold")


def cell_text(value):  # -> str
    """A number in few characters: 0.20, 5.1, 52."""
    return f"{round(value, 2) + 0:.{2 if abs(value) < 9.95 else 1 if abs(value) < 99.5 else 0}f}"


def rough(value):  # -> str
    """An error, which needs one digit: 0.2, 0.05, 3e-4."""
    value = float(f"{value:.0e}")
    return f"{value:g}" if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")


def map_in_words(values, rows, columns, signed=False):  # -> str
    """The largest number and where it is; signed: the smallest too."""
    words = []
    for kind, find in (("largest", np.nanargmax), ("smallest", np.nanargmin))[: 2 if signed else 1]:
        row, column = np.unravel_index(find(values), values.shape)
        place = f"row {rows[row]!r}, column {columns[column]!r}"
        words.append(f"The {kind} number is {values[row, column]:.2f}, in {place}.")
    return " ".join(words)


def errors_in_words(values, rows, columns, noise_floor):  # -> str
    """The rows that are all noise; for every other row, how many cells are not, and the largest number."""
    floor, quiet, loud = rough(noise_floor), [], []
    for name, row in zip(map(repr, rows), values):
        above = row >= noise_floor
        if not above.any():
            quiet.append(name)
            continue
        below = [repr(columns[i]) for i in np.flatnonzero(row < noise_floor)]
        but = f" (all but {', '.join(below)})" if 0 < len(below) <= 3 else ""
        loud.append(f"in {name} {counted(above.sum(), 'cell')}{but}, up to {rough(np.nanmax(row))}")
    words = f"Rows of noise only, below {floor}: {', '.join(quiet) or 'none'}."
    return f"{words} Above it: {'; '.join(loud)}." if loud else words


def framed_in_words(rows, columns, framed):  # -> str
    if framed is None:
        return ""
    if np.ndim(framed):
        return f" Framed: row {rows[framed[0]]!r}, column {columns[framed[1]]!r}."
    return f" Framed: row {rows[framed]!r}."


# ---- all heads ---------------------------------------------------------------------------------------------


def layers_and_heads(maps, framed=None):  # [n_layer, n_head, n_seq, n_seq] -> figure, alt
    """The attention weights of all heads as thumbnails: a row for each layer.

    framed: the (layer, head) that is spoken of; it is framed, and drawn large beside the others.
    """
    n_layer, n_head, n_seq, _ = maps.shape
    framed = None if framed is None else tuple(framed)
    opened = framed is not None and n_head <= 8
    named = max(n_layer, n_head) <= 8
    left, top = EDGE + (56 if named else 22), EDGE + 18
    side = min(96, (ACROSS - EDGE - left) * (0.5 if opened else 1) / n_head)
    sheet = style.canvas()
    height = side * n_layer
    large = min(ACROSS - EDGE - (left + side * n_head + 36), max(height, 3 * side)) if opened else 0
    figure = style.cut(sheet, top + max(height, large) + EDGE)
    for (layer, head), weights in zip(np.ndindex(n_layer, n_head), maps.reshape(-1, n_seq, n_seq)):
        x, y = left + side * head, top + side * layer
        thumbnail(style.part(sheet, x, y, side - 5, side - 5), weights, (layer, head) == framed)
        look = style.NOTE | {"va": "center"}
        if layer == 0:
            name = f"head {head}" if named else str(head)
            sheet.text(x + side / 2 - 2.5, top - 10, name, ha="center", **look)
        if head == 0:
            name = f"layer {layer}" if named else str(layer)
            sheet.text(left - 8, y + side / 2 - 2.5, name, ha="right", **look)
    if opened:
        x, name = ACROSS - EDGE - large, style.head_name(*framed)
        thumbnail(style.part(sheet, x, top, large, large), maps[framed], True)
        sheet.text(x, top - 10, name, size=0.75 * style.TEXT, color=style.RUST, weight="bold", va="center")
    before = np.diagonal(maps, -1, axis1=-2, axis2=-1).sum(axis=-1) / max(n_seq - 1, 1)
    layer, head = np.unravel_index(before.argmax(), before.shape)
    words = f" Framed: {style.head_name(*framed)}." if framed else ""
    return figure, (
        f"{counted(n_layer, 'row')} of {counted(n_head, 'thumbnail')}, each a heat map of {n_seq} by {n_seq} "
        f"attention weights. The head that looks most at the token just before is "
        f"{style.head_name(layer, head)}: {before[layer, head]:.2f} on average.{words}"
    )


def thumbnail(axes, weights, framed):
    axes.imshow(weights, cmap=style.AMOUNTS, vmin=0, vmax=1, aspect="auto")
    axes.set(xticks=[], yticks=[])
    if framed:
        axes.spines[:].set(visible=True, color=ORANGE, linewidth=2)


# ---- vectors -----------------------------------------------------------------------------------------------


def strips(vectors, names, title=""):  # [n, n_embd], n strings -> figure, alt
    """Each vector as a strip of cells, one for each of its numbers: blue is positive, orange negative."""
    n, n_embd = vectors.shape
    vectors = np.asarray(vectors, float)
    left = EDGE + style.names_width(names) + 10
    ranges = [f"{cell_text(row.min())} to {cell_text(row.max())}" for row in vectors]
    few = n_embd <= 12
    room = ACROSS - EDGE - left
    width = min(CELL * n_embd, room) if few else room - style.widest(ranges, style.NUMBER, style.SANS) - 10
    pitch, sheet, y = CELL if few else 28, style.canvas(), EDGE - 8
    if title:
        y = style.write(sheet, EDGE + 12, [title], style.TITLE, style.SERIF) + 12
    most = max(np.quantile(np.abs(vectors), 0.995), 1e-9)
    figure = style.cut(sheet, y + pitch * n + 26 + EDGE - 8)
    axes = style.part(sheet, left, y, width, pitch * n)
    image = axes.imshow(vectors, cmap=style.SIGNED, vmin=-most, vmax=most, aspect="auto")
    axes.hlines(np.arange(-0.5, n), -0.5, n_embd - 0.5, color=GROUND, linewidth=4.5)
    style.name_rows(axes, names)
    axes.set_xticks([])
    if few:
        axes.vlines(np.arange(-0.5, n_embd), -0.5, n - 0.5, color=GROUND, linewidth=1.4)
        for (row, column), value in np.ndenumerate(vectors):
            in_cell(axes, row, column, f"{value:.3g}", image.to_rgba(value))
    else:
        look = {"size": 0.75 * style.NUMBER, "color": QUIET, "va": "center"}
        for row, words in enumerate(ranges):
            sheet.text(left + width + 10, y + pitch * (row + 0.5), words, **look)
    note = f"{counted(n_embd, 'number')} in each row; blue: above 0, orange: below, darkest: ±{most:.2g}"
    style.write(sheet, y + pitch * n + 20, [note], style.SMALL, style.SANS, left=left, color=QUIET)
    words = "; ".join(f"{name!r} from {words}" for name, words in zip(names, ranges))
    about = f"{title}: " if title else ""
    return figure, f"Strips: {about}{counted(n, 'vector')} of {counted(n_embd, 'number')}, {words}."


# ---- one row of attention ----------------------------------------------------------------------------------


def one_query(scores, scaled, masked, weights, values, tokens, query):  # -> figure, alt
    """One row of attention in five panels: scores, scaled, masked, after softmax, and the weighted values.

    The first four are [n_k], values [n_k, d_head]. tokens: those looked at; query: the index of the one that
    looks, whose row is shaded. The last row of the last panel is the sum: the head's output. Where values
    have at most four numbers, that panel prints them.
    """
    n_k, pitch, gap = len(tokens), 26, 14
    left, top = EDGE + style.names_width([*tokens, "sum"]) + 10, EDGE + 44
    unit = (ACROSS - EDGE - left - 4 * gap) / 5.7
    sheet = style.canvas()
    figure = style.cut(sheet, top + pitch * (n_k + 1) + EDGE)
    style.box(sheet, EDGE - 8, top + pitch * query, ACROSS - 2 * EDGE + 16, pitch, style.PANEL)
    titles = {
        "1 scores": "q · k",
        "2 scaled": "/ √d_head",
        "3 masked": "later: -∞",
        "4 softmax": "sum 1",
        "5 weight × value": "orange: below 0",
    }
    for i, (title, how) in enumerate(titles.items()):
        x, width = left + (unit + gap) * i, unit * (1.7 if i == 4 else 1)
        sheet.text(x, EDGE + 12, title, size=0.75 * style.TEXT, color=INK, weight="bold")
        sheet.text(x, EDGE + 30, how, size=0.75 * style.NUMBER, color=QUIET)
        axes = style.part(sheet, x, top, width, pitch * (n_k + 1))
        if i < 4:
            signed_bars(axes, (scores, scaled, masked, weights)[i], unit)
        else:
            weighted_values(axes, weights, values)
        axes.set(ylim=(n_k + 0.5, -0.5), xticks=[], yticks=[])
        if i == 0:
            style.name_rows(axes, [*tokens, "sum"], bold=[query])
    sheet.plot([EDGE - 8, ACROSS - EDGE + 8], [top + pitch * n_k] * 2, color=style.RULE, linewidth=1)
    best = np.argsort(-weights)[:3]
    looked = ", ".join(f"{tokens[key]!r} {weights[key]:.2f}" for key in best)
    n_later = int(np.isinf(masked).sum())
    return figure, (
        f"Five panels that show how {tokens[query]!r}, token {query}, looks at {counted(n_k, 'token')}. "
        f"Scores run from {scores.min():.2f} to {scores.max():.2f}; once scaled, from {scaled.min():.2f} to "
        f"{scaled.max():.2f}. The mask hides {counted(n_later, 'later token')}. After softmax, the largest "
        f"weights are {looked}. The weighted values add up to a vector of {values.shape[1]} numbers."
    )


def weighted_values(axes, weights, values):  # axes, [n_k], [n_k, d_head]
    """A row for each value times its weight, and below them their sum; with numbers where they are few."""
    weighted, (n_k, d_head) = np.vstack([weights[:, None] * values, weights @ values]), values.shape
    image = axes.imshow(weighted, cmap=style.SIGNED, norm=CenteredNorm(), aspect="auto")
    for (row, column), value in np.ndenumerate(weighted if d_head <= 4 else []):
        in_cell(axes, row, column, cell_text(value), image.to_rgba(value))
    axes.hlines(np.arange(n_k) + 0.5, -0.5, d_head - 0.5, color=GROUND, linewidth=2)


def signed_bars(axes, row, width):  # [n], pixels
    """A bar from 0 to each number, and the number beside it; -∞ has no bar."""
    finite = np.where(np.isfinite(row), row, 0)
    axes.barh(range(len(row)), finite, 0.62, color=np.where(finite < 0, ORANGE, BLUE))
    low, high = min(0, finite.min()), max(0, finite.max(), 1e-9)
    axes.set_xlim(low, high + (high - low) * 40 / (width - 40))  # 40 pixels for the number of the longest
    for place, (value, end) in enumerate(zip(row, finite)):
        text, colour = (f"{value:.2f}", INK) if np.isfinite(value) else ("-∞", QUIET)
        look = {"weight": "bold" if value == max(row) else "normal", "size": 0.75 * style.NUMBER}
        axes.text(max(end, 0), place, f" {text}", va="center_baseline", color=colour, **look)
