"""The pictures of notebook 05 alone: what one head can reach, maps side by side, score beside effect."""

import numpy as np
from matplotlib.patches import Polygon, Rectangle

from extras import style
from extras.maps import FAINT, hairs
from extras.style import BLUE, INK, ORANGE, QUIET, RUST, SMALL, TEXT, WIDTH

PRINTED_IN = 8  # a grid of at most this many columns has its numbers printed
BOLD = {"weight": "bold", "size": 0.75 * TEXT}


# ---- the toy -----------------------------------------------------------------------------------------------


def reach(values, tokens, one, two):  # [3, 2], 3 strings, [2], [2] -> figure, alt
    """What one head can pass on is a weighted mean of the values, in the triangle; two heads leave it."""
    figure, axes = style.new_figure(WIDTH, 3.5)
    low, high = values.min(axis=0), values.max(axis=0)
    axes.add_patch(Rectangle(low, *(high - low), fill=False, ec=QUIET, ls=(0, (4, 4)), lw=1))
    axes.fill(*values.T, color=BLUE, alpha=0.16, lw=0)
    axes.plot(*values.T, "o", color=BLUE, markersize=8)
    for token, value in zip(tokens, values):
        below, left = value[1] == low[1], value[0] < values[:, 0].mean()
        shift = (0, -15) if below else (-12 if left else 12, 0)
        where = "center" if below else "right" if left else "left"
        label(axes, f"{token} {two_numbers(value)}", value, shift, where, family=style.MONO, color=INK)
    axes.plot(*one, "s", color=BLUE, markersize=10, mec="white", zorder=3)
    label(axes, f"one head {two_numbers(one)}", one, (0, -18), "center", color=BLUE, **BOLD)
    axes.plot(*two, "D", color=ORANGE, markersize=10, mec="white", zorder=3)
    label(axes, f"two heads {two_numbers(two)}", two, (0, 16), "center", color=RUST, **BOLD)
    margin = 0.3 * (high - low)
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    style.name_axes(axes, "first number", "second number")
    places = ", ".join(f"{token} {two_numbers(value)}" for token, value in zip(tokens, values))
    return figure, (
        f"The values of three tokens as points, {places}, and the triangle between them, which is all that "
        f"one head can pass on. One head: {two_numbers(one)}. Two heads: {two_numbers(two)}. A dashed box "
        "around the triangle is all that two heads can pass on."
    )


def label(axes, words, point, shift, where, **look):
    """Words at a point, some pixels away."""
    look = {"ha": where, "va": "center", "size": 0.75 * TEXT} | look
    over_lines = {"fc": style.GROUND, "ec": "none", "alpha": 0.7, "pad": 1}
    style.beside(axes, words, point, shift, bbox=over_lines, **look)


def two_numbers(point):  # -> str
    return f"({point[0]:.3g}, {point[1]:.3g})"


# ---- maps side by side -------------------------------------------------------------------------------------


def grids(panels, unit=1.0):  # {title: [n_layer, n_head]} -> figure, alt
    """A panel for each array, with a cell for each head, the largest framed.

    unit: what the darkest shade stands for, or None for each panel's largest number; then shades follow the
    root, so that small numbers are seen. Negative numbers are orange.
    """
    n_layer, n_head = next(iter(panels.values())).shape
    side = 6.6 / len(panels) / n_head
    height = 0.8 + min(max(side, 0.22), 0.4) * n_layer
    figure, axes = style.new_figure(WIDTH, height, 1, len(panels), squeeze=False, sharey=True)
    words = []
    for one, (title, values) in zip(axes[0], panels.items()):
        largest = unit or max(np.abs(values).max(), FAINT)
        shares = np.clip(values / largest, -1, 1)
        shares = shares if unit else np.sign(shares) * np.abs(shares) ** 0.5
        image = one.imshow(shares, cmap=style.SIGNED, vmin=-1, vmax=1, aspect="auto")
        hairs(one, values.shape, 96 * side)
        style.above(one, title)
        if n_head <= PRINTED_IN:
            print_numbers(one, values, shares, image)
        layer, head = np.unravel_index(values.argmax(), values.shape)
        one.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, ec=ORANGE, lw=2, zorder=3))
        one.set_xticks(range(n_head))
        style.name_axes(one, "head")
        words.append(f"{title}: at most {values.max():.2f}, {style.head_name(layer, head)}")
    axes[0, 0].set_yticks(range(n_layer))
    style.name_axes(axes[0, 0], "head", "layer")
    what = f"A map for each of {len(panels)} measures, a row a layer, a column a head"
    return figure, f"{what}. {'; '.join(words)}."


def print_numbers(axes, values, shares, image):
    """The numbers in their cells, but for 0.00; in bold where they are large or negative."""
    look = {"size": 0.75 * 10.5, "ha": "center", "va": "center"}
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}"
        if float(text) == 0:
            continue
        cell, share = image.to_rgba(shares[row, column]), abs(shares[row, column])
        in_rust = value < 0 and style.contrast(RUST, cell) >= style.ENOUGH
        colour = RUST if in_rust else style.ink(cell)
        weight = "bold" if value < 0 or share > 0.5 else "normal"
        text = text.replace("0.", ".", 1) if abs(value) < 1 else text
        axes.text(column, row, text, color=colour, weight=weight, **look)


def before_and_after(maps, scores):  # {what is cut: [2 n, 2 n]}, one number each -> figure, alt
    """The maps of one head; an outline is where the stripe of induction should be."""
    figure, axes = style.new_figure(WIDTH, 2.5, 1, len(maps), squeeze=False)
    words = []
    for one, (title, weights), score in zip(axes[0], maps.items(), scores):
        n, around = len(weights) // 2, 1.6
        one.imshow(weights, cmap=style.AMOUNTS, vmin=0, vmax=1, interpolation="nearest")
        corners = [(1 + around, n), (n + around, 2 * n - 1), (n - around, 2 * n - 1), (1 - around, n)]
        one.add_patch(Polygon(corners, fill=False, ec=ORANGE, lw=1.3))
        one.axhline(n - 0.5, color=style.RULE, lw=1)
        one.text(2 * n - 1, 1, f"{score:.2f}", ha="right", va="top", color=RUST, **BOLD)
        style.above(one, f"without {title}" if words else f"{title} cut")
        one.set(xticks=[], yticks=[])
        words.append(f"without {title} {score:.2f}")
    n = len(next(iter(maps.values()))) // 2
    axes[0, 0].set_yticks([n / 2, 1.5 * n], ["first\ncopy", "second\ncopy"])
    what = "The map of one head on random tokens that come twice, and its induction score"
    return figure, f"{what}: {', '.join(words)}."


# ---- score beside effect -----------------------------------------------------------------------------------


def score_and_effect(score, effect, named):  # two of [n_layer, n_head], places -> figure, alt
    """A dot for each head: how it looks, to the right; what it costs to cut it, upwards."""
    figure, axes = style.new_figure(WIDTH, 3.6)
    axes.plot(score.ravel(), effect.ravel(), "o", color=BLUE, alpha=0.4, markersize=7, mec="none")
    low, high = min(effect.min(), 0), max(effect.max(), FAINT)
    labels, names, least = {1: [], -1: []}, {}, 0.075 * (high - low)  # so that they do not overlap
    for place in sorted(named, key=lambda place: effect[tuple(place)]):
        x, y = score[tuple(place)], effect[tuple(place)]
        labels[1 if x < 0.5 else -1].append((x, y, style.head_name(*place)))
    for side, found in labels.items():
        at = left = -np.inf
        for x, y, words in found:
            left, at = (x if y - at > least else min(x, left)), max(y, at + least)
            where = (left + 0.03 * side, at)
            axes.plot([x, where[0]], [y, at], color=QUIET, lw=0.7, zorder=0)
            axes.plot(x, y, "o", color=ORANGE, markersize=7)
            look = {"ha": "left" if side > 0 else "right", "va": "center", "color": INK}
            names[side] = axes.text(where[0] + 0.004 * side, at, words, size=0.75 * SMALL, **look)
    quiet = {"size": 0.75 * SMALL, "color": QUIET, "style": "italic"}
    if 1 in names:  # beside the name of the highest one
        look = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"} | quiet
        axes.annotate("matters, but not by its own map", (1, 0.5), xycoords=names[1], **look)
    if -1 in names:
        axes.text(1.02, low, "looks the part, hardly missed", ha="right", va="bottom", **quiet)
    style.rules(axes, "y")
    style.above(axes, "nats lost on the second copy without the head")
    style.name_axes(axes, "induction score")
    axes.set(xlim=(-0.03, 1.03), ylim=(low - 0.06 * (high - low), high + 0.06 * (high - low)))
    there = "; ".join(f"{style.head_name(*p)} {score[tuple(p)]:.2f}, {effect[tuple(p)]:+.1f}" for p in named)
    about = "A dot for each head: its induction score, the nats lost without it"
    return figure, f"{about}. {there or 'None is large'}."


# ---- the loss by position ----------------------------------------------------------------------------------


def loss_line(axes, loss, n, chance):  # [2 n - 1] -> words
    """The loss at each place of two copies, beside that of a model that knows nothing."""
    style.plain(axes)
    places = np.arange(2, len(loss) + 2)
    axes.axvspan(n + 1.5, 2 * n + 1, color=BLUE, alpha=0.12, lw=0)
    axes.axhline(chance, color=QUIET, lw=1, ls=(0, (4, 4)))
    axes.plot(places, loss, color=BLUE, lw=1.8)
    axes.set(ylim=(0, 1.6 * chance), xlim=(1, 2 * n + 1))
    axes.set_xticks([n / 2, 1.5 * n], ["first copy", "second"])
    axes.set_yticks([0, chance], ["0", f"{chance:.1f}\nnats"])
    last = loss[n:].mean()
    axes.text(1.5 * n, 1.55 * chance, f"{last:.1f}", ha="center", va="top", color=BLUE, **BOLD)
    return f"{loss[: n - 1].mean():.1f} nats a token on the first copy, {last:.1f} on the second."
