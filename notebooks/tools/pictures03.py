"""The pictures of notebook 03: where exp overflows, which digits are lost, what a norm does, two GELUs."""

from itertools import cycle

import numpy as np

from extras import style
from extras.style import BLUE, GROUND, INK, ORANGE, QUIET, RULE, TEXT

ON_A_RULE = {"bbox": {"facecolor": GROUND, "edgecolor": "none", "pad": 0.5, "alpha": 0.8}}
DASHED = {"color": QUIET, "linewidth": 1, "linestyle": (0, (4, 3))}
WORDS = {"size": 0.75 * TEXT, "va": "center"}
MARKS = [digit * 10.0**power for power in range(-2, 3) for digit in (1, 2, 5)] + [1000]  # of a log axis


def say(axes, words, x, y, offset, colour, **look):
    """Words beside a point, in the colour of its line; offset: in points."""
    style.beside(axes, words, (x, y), offset, color=style.letters(colour), **WORDS | look)


# ---- floats ------------------------------------------------------------------------------------------------


def lost_digits(powers, lost, largest):  # [n], {name: [n]}, number -> figure, alt
    """The largest error of a vector to which a number was added and from which it was subtracted again.

    powers: the numbers added; lost: a line for each kind of float, which ends where the numbers are infinite;
    largest: the vector's largest number, so that an error of this size leaves nothing.
    """
    figure, axes = style.new_figure(style.WIDTH, 3.4)
    words = []
    axes.axhline(largest, **DASHED)
    nothing = "the vector's largest number: nothing is left"
    axes.text(powers[0], largest * 4, nothing, **style.NOTE, **ON_A_RULE)
    for (name, errors), colour in zip(lost.items(), (ORANGE, BLUE, INK)):
        there = np.isfinite(errors) & (errors > 0)
        x, y = powers[there], errors[there]
        if not len(x):
            words.append(f"{name}: nothing to draw")
            continue
        axes.plot(x, y, color=colour, linewidth=1.8, marker="o", markersize=4)
        ends = not np.isfinite(errors[-1])
        axes.plot(x[-1:], y[-1:], "X" if ends else "o", color=colour, markersize=9 if ends else 4)
        say(axes, name, x[min(1, len(x) - 1)], y[min(1, len(x) - 1)], (-8, 7), colour, ha="right")
        if ends:
            say(axes, "its numbers end", x[-1], y[-1], (-8, -15), colour, ha="right")
        where = f"{y[-1]:.2g} at {x[-1]:,}, where it ends" if ends else f"{y[-1]:.2g} at {x[-1]:,}"
        words.append(f"{name}: from {y[0]:.2g} at {x[0]:,} to {where}")
    axes.set(xscale="log", yscale="log", ylim=(None, largest * 60))
    axes.set_xticks(powers, [f"{c:,.0f}" for c in powers], size=0.75 * style.SMALL)
    axes.minorticks_off()
    style.name_axes(axes, "c, added and subtracted again")
    style.rules(axes, "y")
    style.above(axes, "largest error in the vector")
    return figure, f"Largest error by the number added, both on log axes. {'; '.join(words)}."


# ---- softmax -----------------------------------------------------------------------------------------------


def shares(axes, scores, found):  # axes, two of [n] -> words
    """A bar for each share, with its number on it and the score below it; the largest is orange."""
    colours = [ORANGE if share == max(found) > min(found) else BLUE for share in found]
    axes.bar(range(len(found)), found, color=colours, width=0.7)
    for i, share in enumerate(found):
        axes.text(i, share + 0.03, f"{share:.2f}", ha="center", size=0.75 * TEXT, color=INK)
    axes.set_xticks(range(len(found)), [f"{score:g}" for score in scores], size=0.75 * TEXT, color=INK)
    axes.set(ylim=(0, 1.12), yticks=[], xlim=(-0.6, len(found) - 0.4))
    axes.axhline(0, color=RULE, linewidth=1)
    style.name_axes(axes, "score; on its bar, its share")
    return "shares " + ", ".join(f"{share:.2f}" for share in found) + "."


def overflow(row, shifts, found, ends):  # -> figure, alt
    """A row of scores, shifted along the axis: a line for each shift, and the largest share that comes of it.

    row: [n], its largest is 0; shifts: [n_shifts]; found: {function: [n_shifts]}; ends: {kind of float: the
    score above which exp is infinite}; those to the right of the picture are left out.
    """
    left, right = row.min() + min(shifts) - 1, max(shifts) + 0.25 * (max(shifts) - min(shifts) - row.min())
    near, levels, before = {name: end for name, end in ends.items() if left < end < right}, [], -np.inf
    for end in near.values():
        levels.append(levels[-1] - 0.45 if end - before < 0.25 * (right - left) else -0.95)
        before = end
    top = min([-1, *levels]) - 0.45
    figure, (axes, table) = style.new_figure(
        style.WIDTH, 0.6 + 0.42 * (len(shifts) - top), 1, 2, sharey=True, width_ratios=[5, 3.4]
    )
    counts, edges = np.histogram(row, bins=np.arange(np.floor(row.min()), 1.5, 0.5))
    heights, middles = 0.75 * counts / counts.max(), (edges[:-1] + edges[1:]) / 2
    for end in ends.values():
        if end < right:
            axes.axvspan(max(end, left), right, color=ORANGE, alpha=0.13, linewidth=0)
    for (name, end), level in zip(near.items(), levels):
        axes.axvline(end, color=ORANGE, linewidth=1.2)
        axes.text(end, level, f" {name}: ∞", color=style.RUST, **WORDS)
    for i, shift in enumerate(shifts):
        axes.axhline(i, color=RULE, linewidth=0.8)
        axes.fill_between(middles + shift, i - heights, i, color=BLUE, alpha=0.75, linewidth=0)
        axes.plot([shift], [i], "o", color=ORANGE, markersize=5)
        for column, values in enumerate(found.values()):
            fails = not np.isfinite(values[i])
            text, colour = ("NaN", style.RUST) if fails else (f"{values[i]:.3f}", BLUE)
            weight = "bold" if fails else "normal"
            table.text(column, i - 0.2, text, ha="center", weight=weight, color=colour, **WORDS)
    for column, name in enumerate(found):
        table.text(column, -0.95, name, ha="center", **style.NOTE | {"va": "center"})
    names = [f"largest {shift:g}" for shift in shifts]
    axes.set_yticks(range(len(shifts)), names, size=0.75 * TEXT, color=INK)
    axes.set(xlim=(left, right), ylim=(len(shifts) - 0.8, top))
    style.name_axes(axes, "score; the dot is the largest")
    table.set(xlim=(-0.6, len(found) - 0.4), xticks=[])
    style.name_axes(table, "the largest share")
    words = "; ".join(shares_in_words(*function, shifts) for function in found.items())
    limits = ", ".join(f"{name} above {end:.1f}" for name, end in ends.items())
    return figure, (
        f"A row of scores at {style.counted(len(shifts), 'place')} of the axis. exp is infinite in "
        f"{limits}. The largest share: {words}."
    )


def shares_in_words(name, values, shifts):  # -> str
    """The largest share that a function gives, and where it gives NaN."""
    name = " ".join(name.split())
    failing = [str(shift) for shift, value in zip(shifts, values) if not np.isfinite(value)]
    good = [value for value in values if np.isfinite(value)]
    if not good:
        return f"{name} gives NaN everywhere"
    but = f", but NaN where the largest score is {', '.join(failing)}" if failing else " everywhere"
    return f"{name} gives {good[0]:.3f}{but}"


# ---- layer norm --------------------------------------------------------------------------------------------


def by_block(before, after):  # two of [n_layer, n_seq] -> figure, alt
    """The standard deviation of each token's vector, a dot each, before and after the norm of each block."""
    n_layer, n_seq = before.shape
    figure, axes = style.new_figure(style.WIDTH, 3.6)
    axes.axhline(1, **DASHED)
    axes.text(-0.65, 1.12, "after, without g and b: 1", **style.NOTE, **ON_A_RULE)
    words = [dots(axes, *kind) for kind in (("before", before, BLUE, -1), ("after", after, ORANGE, 1))]
    low, high = 0.7 * min(before.min(), after.min()), 1.5 * max(before.max(), after.max(), 1)
    axes.set(yscale="log", ylim=(low, high), xlim=(-0.7, 1.19 * n_layer - 0.9))
    marks = [mark for mark in MARKS if low <= mark <= high]
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks], size=0.75 * style.SMALL)
    axes.minorticks_off()
    names = [f"block {i}" if n_layer <= 8 else i for i in range(n_layer)]
    axes.set_xticks(range(n_layer), names, size=0.75 * TEXT, color=INK)
    style.rules(axes, "y")
    style.above(axes, "standard deviation of a token's vector (a dot is a token)")
    about = f"Standard deviations of {style.counted(n_seq, 'token')} in each block"
    return figure, f"{about}. {'. '.join(words)}."


def dots(axes, name, values, colour, side):  # axes, str, [n_layer, n_seq], colour, -1 or 1 -> words
    """A column of dots for each block, a little to the left or right; the largest and smallest in numbers."""
    n_layer, n_seq = values.shape
    for block, row in enumerate(values):
        x = np.full(n_seq, block + 0.14 * side)
        axes.plot(x, row, "o", color=colour, alpha=0.55, markersize=6, mew=0)
    look = {"color": style.letters(colour), "weight": "bold"} | WORDS
    axes.text(1.09 * n_layer - 0.86, np.median(values[-1]), name, **look, **ON_A_RULE)
    for place in (values.argmax(), values.argmin()):
        x, value = place // n_seq + 0.14 * side, values.flat[place]
        number = f"{value:.2f}" if value < 100 else f"{value:.0f}"
        ends = "right" if side < 0 else "left"
        say(axes, number, x, value, (7 * side, 0), colour, ha=ends, **ON_A_RULE)
    each = "; ".join(f"block {i} {row.min():.2f} to {row.max():.2f}" for i, row in enumerate(values))
    return f"{name} the norm, {values.min():.2f} to {values.max():.2f} ({each})"


# ---- gelu --------------------------------------------------------------------------------------------------


def small_curves(axes, x, lines):  # axes, [n], {name: [n]} -> words
    """A few lines in a small panel, each named where there is room for its name."""
    words, looks = [], cycle(((BLUE, "-"), (QUIET, "--"), (ORANGE, ":"), (INK, "-.")))
    for i, ((name, y), (colour, dash)) in enumerate(zip(lines.items(), looks)):
        axes.plot(x, y, dash, color=colour, linewidth=2)
        look = {"color": style.letters(colour)} | WORDS | ON_A_RULE
        axes.text(0.04, 0.9 - 0.13 * i, name, transform=axes.transAxes, **look)
        words.append(f"{name} goes from {y[0]:.2g} at {x[0]:g} to {y[-1]:.2g} at {x[-1]:g}")
    axes.axhline(0, color=RULE, linewidth=1, zorder=0)
    axes.axvline(0, color=RULE, linewidth=1, zorder=0)
    ends = x[0], 0, x[-1]
    axes.set_xticks(ends, [f"{end:g}" for end in ends])
    axes.set_yticks([0, x[-1]], ["0", f"{x[-1]:g}"])
    return "; ".join(words) + "."


def difference(x, apart, inputs):  # two of [n], any shape -> figure, alt
    """How far the tanh formula is from the exact GELU, and a histogram of the inputs that gelu gets."""
    figure, (axes, below) = style.new_figure(style.WIDTH, 3.6, 2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot(x, apart, color=BLUE, linewidth=2)
    axes.axhline(0, color=RULE, linewidth=1, zorder=0)
    largest = np.abs(apart).argmax()
    axes.plot(x[largest], apart[largest], "o", color=ORANGE, markersize=7)
    words = f"{apart[largest]:.5f} at {x[largest]:.1f}"
    up, side = (-1 if apart[largest] < 0 else 1), ("left", "center", "right")[3 * largest // len(x)]
    say(axes, words, x[largest], apart[largest], (0, 12 * up), ORANGE, ha=side)
    axes.margins(y=0.2)
    axes.yaxis.set_major_formatter(lambda value, _: np.format_float_positional(round(value, 9) + 0, trim="-"))
    axes.tick_params(labelbottom=False)
    style.rules(axes, "y")
    style.above(axes, "tanh formula - exact GELU")
    numbers = inputs[(inputs >= x[0]) & (inputs <= x[-1])]
    counts, edges = np.histogram(numbers, bins=np.linspace(x[0], x[-1], 81))
    below.bar(edges[:-1], counts, np.diff(edges) * 0.9, align="edge", color=QUIET, alpha=0.6)
    below.set(yticks=[], xlim=(x[0], x[-1]))
    style.name_axes(below, "x; below the curve, how many of gelu's inputs lie there")
    low, high = np.percentile(numbers, [5, 95]) if numbers.size else (0, 0)
    return figure, (
        f"Difference of the tanh formula from the exact GELU, from {x[0]:g} to {x[-1]:g}: at most {words}. "
        f"Below it a histogram of gelu's inputs: nine tenths lie between {low:.1f} and {high:.1f}."
    )
