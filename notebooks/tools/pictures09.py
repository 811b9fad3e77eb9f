"""Pictures for notebook 09: small maps of where a model goes wrong, and what a tolerance lets through."""

import numpy as np
from matplotlib.colors import LogNorm

from extras import maps, style
from extras.style import ACROSS, BLUE, EDGE, GROUND, ORANGE, QUIET, RUST, counted, spelled
from tools.reference import NOISE

N_BEFORE, N_ROWS = 2, 6  # a map begins two steps before the first wrong one, and has at most six rows
HIGH, GAP, TINY = 20, 28, 10  # pixels: a row, the space between two maps, numbers in cells
LEAST = 2e-8  # the left end of an axis of errors

# ---- maps --------------------------------------------------------------------------------------------------


def evidence(models, tokens):  # {title: {step: [n_seq]}}, n_seq strings -> figure, alt
    """A small map for each model: its errors by step and position, around the first wrong step, framed."""
    found = {title: around_the_first(errors) for title, errors in models.items()}
    aside = 8 + max(style.names_width(names) for names, *_ in found.values())
    below = 0.71 * style.widest([*map(spelled, tokens)], style.SMALL, style.font(tokens)) + 12
    n_lines, line = -(-len(models) // 2), HIGH * N_ROWS + 62
    width = (ACROSS - 2 * EDGE - GAP) / 2 - aside
    sheet = style.canvas()
    figure = style.cut(sheet, EDGE + line * n_lines + below + 14 + EDGE)
    words = []
    for i, (title, (names, values, first)) in enumerate(found.items()):
        left, top = EDGE + (aside + width + GAP) * (i % 2), EDGE + line * (i // 2)
        head(sheet, left, top, title, aside + width)
        axes = style.part(sheet, left + aside, top + 42, width, HIGH * len(names))
        cells(axes, values, names, [] if first is None else [first])
        if len(models) - i <= 2:  # nothing stands under it
            style.name_below(axes, tokens, width)
        words.append(f"{title}: {in_words(names, values, first)}")
    note(sheet, EDGE + line * n_lines + below + 14)
    small = f"{counted(len(models), 'small map')} of errors by step and position"
    across = f"{counted(len(tokens), 'column')}, {tokens[0]!r} to {tokens[-1]!r}"
    return figure, f"{small}; {across}. {' '.join(words)}"


def around_the_first(errors):  # {step: [n_seq]} -> names, [n_rows, n_seq], the first wrong row or None
    """The rows that are drawn: from two before the first that is wrong."""
    steps = list(errors)
    first = next((i for i, step in enumerate(steps) if max(errors[step]) > NOISE), None)
    start = len(steps) - N_ROWS if first is None else max(0, first - N_BEFORE)
    names = steps[start : start + N_ROWS]
    return names, np.array([errors[name] for name in names]), None if first is None else first - start


def in_words(names, values, first):  # -> str
    """The first wrong step, and at which positions it is wrong."""
    if first is None:
        return "noise only."
    row, n_seq = values[first], values.shape[1]
    right = [str(i) for i in np.flatnonzero(row <= NOISE)]
    where = f"all positions but {', '.join(right)}" if right else "all positions"
    where = where if len(right) <= 3 else f"{n_seq - len(right)} of {n_seq} positions"
    return f"the first wrong step is {names[first]!r}, wrong at {where}, up to {maps.rough(row.max())}."


def two_ways(ways, rows, columns):  # {title: [n_rows, n_columns]} -> figure, alt
    """Maps with the same rows side by side; rows of the last that are not all noise are framed."""
    aside = 8 + style.names_width(rows)
    below = 0.71 * style.widest(columns, style.SMALL, style.SANS) + 12
    width = min((ACROSS - 2 * EDGE - GAP) / 2 - aside, 34 * len(columns))
    sheet, words = style.canvas(), []
    figure = style.cut(sheet, EDGE + 42 + HIGH * len(rows) + below + 14 + EDGE)
    loud = [i for i, errors in enumerate([*ways.values()][-1]) if max(errors) > NOISE]
    for i, (title, values) in enumerate(ways.items()):
        left = EDGE + (aside + width + GAP) * i
        head(sheet, left, EDGE, title, aside + width)
        axes = style.part(sheet, left + aside, EDGE + 42, width, HIGH * len(rows))
        cells(axes, values, rows, loud if i == len(ways) - 1 else [])
        style.name_below(axes, columns, width)
        above = [row for row, errors in zip(rows, values) if max(errors) > NOISE]
        words.append(f"{title}: {', '.join(above) or 'none'}.")
    note(sheet, EDGE + 42 + HIGH * len(rows) + below + 14)
    return figure, f"Maps of errors by step and block. Steps above noise in any block: {' '.join(words)}"


def head(sheet, left, top, title, width):
    """The title of a small map: a name in bold, and below it what else there is to say; cut at width."""
    for i, words in enumerate(title.split(" · ")):
        look = {"color": QUIET} if i else {"weight": "bold"}
        while style.widest([words], style.SMALL if i else style.TEXT, style.SANS) > width:
            words = words.rstrip("…")[:-1] + "…"
        text = style.put(sheet, words, style.SMALL if i else style.TEXT, style.SANS, **look)
        text.set_position((left, top + 14 + 18 * i))


def note(sheet, y):
    shades = "darker is more, on a logarithmic scale; numbers where they fit"
    words = f"dots: noise, below {maps.rough(NOISE)}; {shades}"
    style.write(sheet, y, [words], style.SMALL, style.SANS, color=QUIET)


def cells(axes, values, rows, framed):  # [n_rows, n_columns], n_rows strings, indices
    """Darker is more, on a logarithmic scale; a dot is noise. The numbers of framed rows are printed."""
    norm, noise, cell = LogNorm(NOISE, 1), values <= NOISE, axes.bbox.width / values.shape[1]
    image = axes.imshow(np.maximum(values, NOISE), cmap=style.AMOUNTS, norm=norm, aspect="auto")
    maps.hairs(axes, values.shape, cell)
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.1f}" if value >= 0.095 else maps.rough(value)
        if noise[row, column]:
            axes.plot(column, row, "o", markersize=2.6, color=QUIET)
        elif row in framed and 0.62 * TINY * len(text) <= cell:
            place = {"x": column, "y": row, "ha": "center", "va": "center_baseline"}
            shade = style.ink(image.to_rgba(value)[:3])
            axes.text(s=text, size=0.75 * TINY, color=shade, **place)
    style.name_rows(axes, rows, bold=framed)
    axes.set_xticks([])
    for row in framed:
        maps.frame(axes, values, row)
        axes.get_yticklabels()[row].set_color(RUST)


# ---- tolerances --------------------------------------------------------------------------------------------


def tolerances(errors, control):  # {name: error}, {name: error} -> panel(axes, tolerance) -> str
    """For `slide`: a dot for each model's error; what a tolerance lets through is orange.

    control: the errors of the same bugs in another model, as small hollow dots.
    """

    def panel(axes, tolerance):
        passed = [name for name, error in errors.items() if error <= tolerance]
        axes.axvspan(LEAST, tolerance, color=style.PANEL, lw=0)
        axes.axvline(tolerance, color=QUIET, lw=1)
        for row, (name, error) in enumerate(errors.items()):
            axes.plot(max(control[name], LEAST), row, "o", markersize=5, mfc=GROUND, mec=QUIET)
            axes.plot(max(error, LEAST), row, "o", markersize=6.5, color=ORANGE if name in passed else BLUE)
        axes.set(xscale="log", xlim=(LEAST, 3), ylim=(len(errors) - 0.5, -0.6), yticks=[])
        axes.set_xticks([1e-7, 1e-5, 1e-3, 1e-1], ["1e-7", "1e-5", "1e-3", "0.1"])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("error of the logits")
        if axes.get_subplotspec().is_first_col():  # in the others the rows are the same
            style.name_rows(axes, list(errors))
        return f"lets through {', '.join(passed) or 'nothing'}."

    return panel
