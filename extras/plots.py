"""Pictures of a model: arrays in, a matplotlib figure out, and the same in words for those who cannot see it.

Every picture is drawn by a function that returns (figure, alt); alt is made from the numbers that are drawn.
How they look is in `style`. Those that shade cells are in `maps`, bars and lines in `charts`; all of them can
be used from here.
"""

import numpy as np

from extras import style
from extras.charts import bars, curves, next_tokens, shares
from extras.maps import heatmap, layers_and_heads, one_query, strips
from extras.style import ACROSS, EDGE, QUIET, WIDTH, counted, in_percent, new_figure, spelled

__all__ = ["heatmap", "layers_and_heads", "one_query", "strips"]  # from `maps`
__all__ += ["bars", "curves", "next_tokens", "shares"]  # from `charts`
__all__ += ["text_by_probability", "tokens", "arcs", "places"]
__all__ += ["WIDTH", "new_figure"]  # from `style`, for pictures of your own

AROUND = (1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)  # places to try for a name

# ---- texts -------------------------------------------------------------------------------------------------


def text_by_probability(tokens, probabilities):  # n strings, [n] -> figure, alt
    """The text as chips: the darker, the less expected; in each, below its token, its probability."""
    sheet, percents = style.canvas(), ["" if np.isnan(p) else in_percent(p) for p in probabilities]
    y = style.chips(sheet, EDGE, tokens, percents, [*map(style.shade, probabilities)])
    y = style.write(sheet, y + 12, ["the darker, the less likely"], style.SMALL, style.SANS, color=QUIET)
    words = style.tokens_in_words(tokens, probabilities)
    alt = f"The text token by token, each with the probability that the model gave it: {words}."
    return style.cut(sheet, y + EDGE), alt


def tokens(rows, names=None, numbers=None, shades=None):  # -> figure, alt
    """Rows of tokens as chips. rows: a list of lists of strings; names: of the rows.

    numbers: what to write below the tokens, as rows; shades: from 0 to 1, as rows, in orange for surprise or
    for what is pointed at. Rows of one length are set as columns if they fit.
    """
    sheet, y, room = style.canvas(), EDGE, 0
    if names:
        room = style.widest([*map(spelled, names)], style.SMALL, style.font(names)) + 12
    lengths = column_lengths(rows, numbers, ACROSS - 2 * EDGE - room)
    for i, row in enumerate(rows):
        under = [str(number) for number in numbers[i]] if numbers else None
        fills = [style.SURPRISE(float(shade)) for shade in shades[i]] if shades else [style.PANEL] * len(row)
        if names:
            sheet.text(EDGE, y + 17, spelled(names[i]), family=style.font(names), **style.NOTE)
        y = style.chips(sheet, y, row, under, fills, left=EDGE + room, lengths=lengths)
    total = sum(map(len, rows))
    alt = f"{counted(len(rows), 'row')} of tokens, {total} in all. {rows_in_words(rows, names, numbers)}."
    return style.cut(sheet, y - 6 + EDGE), alt


def rows_in_words(rows, names, numbers):  # -> str
    """Each row's name, and its tokens with their numbers."""
    words = []
    for i, row in enumerate(rows):
        after = [f" {number}" for number in numbers[i]] if numbers else [""] * len(row)
        said = ", ".join(f"{token!r}{number}" for token, number in zip(row, after))
        name = names[i] if names and names[i].isprintable() else repr(names[i]) if names else ""
        words.append(f"{name}: {said}" if name else said)
    return "; ".join(words)


def column_lengths(rows, numbers, room):  # -> pixels for each column, or None
    """The lengths of chips that are set as columns: of rows that have one length, if they fit."""
    n = len(rows[0])
    if len(rows) == 1 or any(len(row) != n for row in rows):
        return None
    lengths = []
    for i in range(n):
        length = style.widest([spelled(row[i]) for row in rows], style.TOKEN, style.MONO)
        under = style.widest([str(row[i]) for row in numbers], style.NUMBER, style.SANS) if numbers else 0
        lengths.append(max(length, under) + 10)
    return lengths if sum(lengths) + 5 * (n - 1) <= room else None


def arcs(tokens, weights):  # n strings, [n] -> figure, alt
    """Where the last token looks: an arc back to each token, as thick as its weight."""
    sheet, weights = style.canvas(), np.asarray(weights, float)
    y = style.arcs(sheet, EDGE - 14, tokens, weights)
    return style.cut(sheet, y + EDGE - 6), (
        f"Arcs from {tokens[-1]!r}, last of {counted(len(tokens), 'token')}, back to each, as thick as the "
        f"attention weight. {style.weights_in_words(tokens, weights)}"
    )


# ---- a map of points ---------------------------------------------------------------------------------------


def places(points, names, title="", groups=None):  # [n, 2], n strings -> figure, alt
    """Points in the plane, each with its name; groups: n strings, each of which gets a colour."""
    points, groups = np.asarray(points, float), [""] * len(names) if groups is None else [*groups]
    kinds, sheet, y = [*dict.fromkeys(groups)], style.canvas(), EDGE - 8
    if title:
        y = style.write(sheet, EDGE + 12, [title], style.TITLE, style.SERIF) + 8
    size = np.ptp(points, axis=0)
    aside = style.widest([*map(spelled, names)], style.TEXT, style.font(names)) + 16
    scale = min((ACROSS - 2 * EDGE - 2 * aside) / (size[0] or 1), 400 / (size[1] or 1))
    height = scale * size[1] + 48
    figure = style.cut(sheet, y + height + EDGE - 8)
    at = (points - (points.min(axis=0) + points.max(axis=0)) / 2) * scale
    at = at * [1, -1] + [ACROSS / 2, y + height / 2]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    family = style.font(names)
    for kind, (colour, _, marker) in zip(kinds, style.LINES * len(kinds)):
        mine = [i for i, group in enumerate(groups) if group == kind]
        sheet.plot(*at[mine].T, marker, color=colour, markersize=5.5, linestyle="none")
    for i, name in enumerate(names):
        colour = style.LINES[kinds.index(groups[i]) % len(style.LINES)][0]
        text = style.put(sheet, spelled(name), style.TEXT, family, color=style.letters(colour), va="center")
        settle(text, at[i], taken, 9)
    for kind, (colour, *_) in zip(kinds, style.LINES * len(kinds)):
        if kind:
            look = {"color": style.letters(colour), "weight": "bold", "style": "italic", "va": "center"}
            text = style.put(sheet, spelled(kind), style.TEXT, style.SERIF, **look)
            settle(text, at[[group == kind for group in groups]].mean(axis=0), taken, 14)
    about = f"{title}: " if title else ""
    return figure, f"Map: {about}{counted(len(names), 'point')}. {places_in_words(points, names, groups)}"


def settle(text, at, taken, away):
    """Put a text near a point, where it covers least of what is there, and add its place to `taken`."""
    width, height = (size.item() for size in style.measured([text]))
    tries = []
    for reach in (1, 1.6, 2.4, 3.4):
        for order, (dx, dy) in enumerate(AROUND):
            x = at[0] + dx * (away * reach + width / 2)
            y = at[1] + dy * (away * reach + height / 2)
            place = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            tries.append((sum(covered(place, other) for other in taken), reach, order, x, y, place))
    *_, x, y, place = min(tries)
    text.set(position=(x, y), ha="center")
    taken.append(place)


def covered(one, other):  # two (left, top, right, bottom) -> area
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def places_in_words(points, names, groups):  # -> str
    """The nearest pairs; with groups, how far apart points are within and between them."""
    n = len(names)
    if n < 2:
        return f"Its name is {names[0]!r}."
    far = np.linalg.norm(points[:, None] - points, axis=-1)
    pairs = sorted((far[i, j], i, j) for i in range(n) for j in range(i))[:3]
    words = ", ".join(f"{names[j]!r} and {names[i]!r} ({distance:.2g})" for distance, i, j in pairs)
    words = f"Nearest to each other: {words}."
    same = np.array(groups)[:, None] == groups
    within, between = far[same & ~np.eye(n, dtype=bool)], far[~same]
    if len(within) and len(between):
        words += (
            f" On average, {within.mean():.2g} apart within a group, {between.mean():.2g} between groups."
        )
    return words
