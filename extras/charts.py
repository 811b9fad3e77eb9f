"""Pictures in which a length or a height is a number: bars and lines.

Use them as `plots.bars`, `plots.curves` and so on.
"""

import numpy as np

from extras import style
from extras.maps import rough
from extras.style import ACROSS, BLUE, EDGE, INK, ORANGE, QUIET, WIDTH, in_percent, spelled

ROW = 26  # of a bar and its name, in pixels
N_MARKED = 20  # a line of at most this many numbers has a marker at each
LOWEST = 1e-8  # the least probability on an axis
NUMBERS = {"size": 0.75 * style.NUMBER, "color": INK, "va": "center_baseline"}

# ---- bars --------------------------------------------------------------------------------------------------


def next_tokens(probabilities, tokens, control=None):  # [n], n strings, [n] -> figure, alt
    """A bar for each token's probability on a log axis, the first on top; control: another model's."""
    p, n = np.asarray(probabilities, float), len(tokens)
    shown = p if control is None else np.concatenate([p, control])
    first = np.floor(np.log10(np.clip(shown, LOWEST, 0.1).min()) - 0.05)
    percents = [small_percent(share) for share in p]
    room = style.widest(percents, style.NUMBER, style.SANS) + 8
    axes = rows_of_bars(tokens, "probability of being next", 22, right=room)
    axes.set(xscale="log", xlim=(10**first, 1))
    ticks = [10.0**power for power in range(int(first), 1)][:: 1 if first > -6 else 2]
    axes.set_xticks(ticks, [f"{100 * tick:g} %".replace("1e-0", "1e-") for tick in ticks])
    axes.set_xticks([], minor=True)
    style.rules(axes, "x")
    axes.barh(range(n), p, 0.62, left=0, color=BLUE)
    for row, text in enumerate(percents):
        style.beside(axes, text, (1, row), (6, 0), **NUMBERS)
    words = ", ".join(f"{token!r} {text}" for token, text in zip(tokens, percents))
    if control is not None:
        diamonds(axes, np.maximum(control, 10**first))
        words += f"; the control gives each at most {100 * max(control):.2g} %"
    return axes.figure, f"Bar chart on a log axis: probabilities of the next token. {words}."


def small_percent(p):  # -> str
    """A probability that may be far below one percent."""
    if p >= 0.001 or p == 0:
        return in_percent(p)
    if p < 1e-6:
        return "< 0.0001 %"
    return f"{100 * p:.{-int(np.floor(np.log10(100 * p)))}f} %"


def rows_of_bars(names, label, below, right=0):  # -> axes
    """A sheet with room for a bar at each name; below, right: pixels to leave free there."""
    n, sheet = len(names), style.canvas()
    left = EDGE + style.names_width(names) + 12
    y = style.write(sheet, EDGE + 10, [label], style.TEXT, style.SANS, color=QUIET) + 24
    style.cut(sheet, y + ROW * n + below + EDGE)
    axes = style.part(sheet, left, y, ACROSS - EDGE - right - left, ROW * n)
    style.name_rows(axes, names)
    axes.set_ylim(n - 0.5, -0.5)
    return axes


def diamonds(axes, control):
    """Another model's numbers, labelled at the first."""
    look = {"markersize": 6, "markerfacecolor": style.GROUND, "markeredgecolor": INK, "clip_on": False}
    axes.plot(control, range(len(control)), "D", zorder=3, **look)
    style.beside(axes, "control", (control[0], -0.5), (0, 6), ha="center", **style.NOTE)


def bars(values, names, label, control=None, framed=None):  # [n], n strings, str -> figure, alt
    """A bar for each number, which stands at its end; negative ones are orange.

    control: what to compare with, one number for all, drawn as a line, or one for each, as diamonds;
    framed: the index of the one that is spoken of.
    """
    values = np.asarray(values, float)
    others = np.atleast_1d(np.asarray([] if control is None else control, float))
    texts = in_digits(np.append(values, others))
    texts, other_texts = texts[: len(values)], texts[len(values) :]
    axes = rows_of_bars(names, label, 0)
    axes.barh(range(len(names)), values, 0.62, color=np.where(values < 0, ORANGE, BLUE))
    axes.axvline(0, color=QUIET, linewidth=0.8)
    room = style.widest(texts, style.NUMBER, style.SANS) + 14
    pixel = leave_room(axes, [0, *values, *others], room)
    for row, text in enumerate(texts):
        other = others[row] if np.ndim(control) else np.inf
        number_bar(axes, row, values[row], other, text, room, pixel, "bold" if row == framed else "normal")
    words = "; ".join(f"{name!r} {text}" for name, text in zip(names, texts))
    alt = f"Bar chart: {label}. {words}."
    if np.ndim(control):
        diamonds(axes, others)
    elif control is not None:
        axes.axvline(control, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        said = f"control {other_texts[0]}"
        style.beside(axes, said, (control, -0.5), (0, 6), ha="center", **style.NOTE)
    if control is not None:
        alt += f" The control: {', '.join(other_texts)}."
    if framed is not None:
        frame_row(axes, range(len(names))[framed])
        alt += f" Framed: {names[framed]!r}."
    return axes.figure, alt


def leave_room(axes, numbers, room):  # -> how much a pixel stands for
    """Set the x axis; room: pixels for a number at the right end, and at the left if one is negative."""
    low, high, width = min(numbers), max(numbers), axes.bbox.width
    span = (high - low or 1) * width / (width - room * (1 + (low < 0)))
    pixel = span / width
    axes.set(xlim=(low - room * pixel * (low < 0), high + room * pixel), xticks=[])
    return pixel


def number_bar(axes, row, value, other, text, room, pixel, weight):
    """The number at the end of its bar; beyond a control's diamond that stands there, at `other`."""
    sign = 1 if value >= 0 else -1
    beyond = (other - value) * sign / pixel
    end = other if 0 < beyond < room + 6 else value
    look = NUMBERS | {"ha": "left" if sign > 0 else "right", "weight": weight}
    style.beside(axes, text, (end, row), (6 * sign, 0), **look)


def frame_row(axes, row):
    """An orange frame around a name and its bar, as wide as the sheet; the name is bold."""
    sheet, top = axes.figure.axes[0], axes.figure.bbox.height - axes.bbox.y1 + ROW * row
    style.box(sheet, EDGE - 8, top, ACROSS - 2 * EDGE + 16, ROW, "none", ORANGE, lw=2)
    axes.get_yticklabels()[row].set_weight("bold")


def in_digits(values):  # [n] -> n strings
    """Numbers with as many decimals as give the largest three digits (two below 1); none if all are whole."""
    largest = max(np.abs(values).max(), 1e-12)
    power = int(np.floor(np.log10(largest)))
    decimals = max(2 - power, 0) if power >= 0 else min(1 - power, 6)
    if np.all(values == np.round(values)):
        decimals = 0
    return [f"{round(value, decimals) + 0:,.{decimals}f}" for value in values]


def shares(parts, names, label):  # {part: [n]}, n strings, str -> figure, alt
    """A bar of one length for each name, divided among the parts, which are named above the first bar."""
    values = np.array([*parts.values()], float)
    values = values / values.sum(axis=0)
    axes = rows_of_bars(names, label, 0)
    axes.set(xlim=(0, 1), xticks=[])
    starts, shades = np.cumsum(values, axis=0) - values, np.linspace(1, 0.12, len(parts))
    for i, part in enumerate(parts):
        fill = style.AMOUNTS(shades[i])
        axes.barh(range(len(names)), values[i], 0.82, left=starts[i], color=fill, ec=style.GROUND, lw=1)
        middles = starts[i] + values[i] / 2
        style.beside(axes, spelled(part), (middles[0], -0.5), (0, 6), ha="center", **style.NOTE)
        for row, (middle, share) in enumerate(zip(middles, values[i])):
            if share > 0.06:
                axes.text(
                    middle, row, in_percent(share), **NUMBERS | {"ha": "center", "color": style.ink(fill)}
                )
    words = (", ".join(f"{part} {in_percent(share)}" for part, share in zip(parts, row)) for row in values.T)
    said = "; ".join(f"{name!r}: {row}" for name, row in zip(names, words))
    return axes.figure, f"Stacked bars: {label}. {said}."


# ---- lines -------------------------------------------------------------------------------------------------


def curves(x, lines, xlabel, ylabel, span=None, scale="linear", noise_floor=None):  # -> figure, alt
    """A line for each name; it breaks where a number is NaN, infinite or, on a log scale, not positive.

    x: [n] numbers or names; lines: {name: [n]}; span: the ends of the y axis; scale: "linear" or "log".
    noise_floor: on a log scale, a band covers smaller numbers, which mean nothing; those below the band are
    drawn at its lower edge. A line that ends early ends in a cross.
    """
    figure, axes = style.new_figure(WIDTH, 3.4)
    named, lines = isinstance(x[0], str), {name: np.asarray(y, float) for name, y in lines.items()}
    at = range(len(x)) if named else x
    lowest = -np.inf if noise_floor is None else noise_floor / 1000
    ends = {}
    for i, (name, y) in enumerate(lines.items()):
        colour, dash, marker = style.LINES[i % len(style.LINES)]
        few = {"marker": marker, "markersize": 4} if len(x) <= N_MARKED else {}
        drawn = np.where(np.isfinite(y), np.maximum(y, lowest), np.nan)
        if scale == "log":
            drawn = np.where(drawn > 0, drawn, np.nan)
        axes.plot(at, drawn, dash, color=colour, linewidth=2, label=name, **few)
        there = np.flatnonzero(np.isfinite(drawn))
        ends[name] = (at[there[-1]], drawn[there[-1]], there[-1] + 1 == len(x)) if len(there) else None
    if named:
        style.name_below(axes, x)
    style.above(axes, ylabel)
    axes.set_xlabel(xlabel, size=0.75 * style.TEXT, color=QUIET, loc="right")
    axes.set_yscale(scale)
    if scale == "linear":
        axes.locator_params(axis="y", nbins=6)
    if not named:
        whole = all(float(place).is_integer() for place in x)
        axes.locator_params(axis="x", nbins=8, integer=whole)
    if noise_floor is not None:
        axes.axhspan(lowest, noise_floor, color=style.PANEL)
        span = (lowest, 3) if span is None else span
    if span is not None:
        axes.set_ylim(span)
    style.rules(axes, "y")
    name_ends(axes, ends, noise_floor)
    words = " ".join(line_in_words(x, *line, noise_floor) for line in lines.items())
    return figure, f"Line chart: {ylabel} by {xlabel}. {words}"


def name_ends(axes, ends, noise_floor):  # {name: (x, y, whether it is the last x), or None}
    """The name of each line beside its end, moved up or down where two would touch."""
    axes.get_ylim()  # so that the limits are those of all lines
    to_axes = axes.transScale + axes.transLimits  # numbers -> from 0 to 1

    def in_axes(y):  # -> from 0 to 1
        return to_axes.transform((1, y))[1].item()

    colours = {line.get_label(): line.get_color() for line in axes.lines}
    letters = {name: style.letters(colour) for name, colour in colours.items()}
    heights, early = {}, {}
    for name, end in ends.items():
        height = 0.0 if end is None else in_axes(end[1])
        (heights if end is None or end[2] else early)[name] = height
    said = {name: spelled(name) if ends[name] else f"{spelled(name)}: no number" for name in heights}
    if noise_floor is not None:
        heights[None], letters[None], said[None] = in_axes(noise_floor) - 0.05, QUIET, "(noise)"
    for name, height in apart(heights, 0.07).items():
        look = {"size": 0.75 * style.TEXT, "color": letters[name], "va": "center", "annotation_clip": False}
        axes.annotate(said[name], (1, height), (6, 0), "axes fraction", "offset points", **look)
    for i, name in enumerate(sorted(early, key=early.get)):
        x, y, _ = ends[name]
        axes.plot([x], [y], "X", color=colours[name], markersize=9, label="_", clip_on=False, zorder=4)
        near = sum(abs(early[name] - early[other]) < 0.07 for other in sorted(early, key=early.get)[:i])
        up = -1 if early[name] > 0.8 else 1
        look = {"size": 0.75 * style.TEXT, "color": letters[name], "va": "center"}
        across = to_axes.transform((x, y))[0]
        look["bbox"] = {"fc": style.GROUND, "ec": "none", "pad": 1, "alpha": 0.85}  # over other lines
        look["ha"] = "left" if across < 0.3 else "right" if across > 0.7 else "center"
        label = f"{spelled(name)}: no number after this"
        style.beside(axes, label, (x, y), (0, up * (12 + 13 * near)), **look)


def apart(heights, gap):  # {name: from 0 to 1} -> the same, no two nearer than gap
    """The heights in the same order; those too close together are spread around their middle."""
    names = sorted(heights, key=heights.get)
    groups = []  # of each: names, middle
    for name in names:
        groups.append(([name], heights[name]))
        while len(groups) > 1:
            (below, low), (over, high) = groups[-2:]
            if high - low >= gap * (len(below) + len(over)) / 2:
                break
            share = len(below) / (len(below) + len(over))
            groups[-2:] = [(below + over, share * low + (1 - share) * high)]
    return {
        name: middle + gap * (i - (len(group) - 1) / 2)
        for group, middle in groups
        for i, name in enumerate(group)
    }


def line_in_words(x, name, y, noise_floor):  # -> str
    """Where a line starts, ends and peaks."""
    (there,) = np.nonzero(np.isfinite(y))
    if len(there) == 0:
        return f"{name}: nothing but NaN or infinity."
    noise_floor = -np.inf if noise_floor is None else noise_floor
    if np.max(y[there]) < noise_floor:
        return f"{name}: below {rough(noise_floor)} throughout."
    turns = {"starts": there[0], "ends": there[-1]}
    highest = there[np.argmax(y[there])]
    if y[highest] - max(y[there[0]], y[there[-1]]) > 0.01 * np.abs(y[there]).max():
        turns["peaks"] = highest
    words = []
    for word, i in turns.items():
        where = repr(x[i]) if isinstance(x[i], str) else f"{x[i]:.3g}"
        if y[i] >= noise_floor:
            words.append(f"{word} at {y[i]:.3g} ({where})")
        else:
            words.append(f"{word} below {rough(noise_floor)} ({where})")
    return f"{name}: {', '.join(words)}."
