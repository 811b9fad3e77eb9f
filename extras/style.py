"""The look of every picture: colours and what they mean, sizes of letters, and the parts of a picture.

Blue is for amounts and for positive numbers; orange for surprise, for negative numbers, and for what is
pointed at. Both keep their order in grey and for the colour-blind. Tokens are in a monospace, and their
spaces can be seen. Labels stand at what they name: there are no legends, no colour bars and no frames.
Sizes are in pixels, 96 to the inch, unless inches are named.
"""

import logging
import re

import numpy as np

from files import needs

with needs("requirements-extras.txt"):
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.colors import LinearSegmentedColormap, to_rgb, to_rgba
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findfont, fontManager, get_font
    from matplotlib.patches import FancyBboxPatch, PathPatch
    from matplotlib.path import Path as Curve

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # some fonts have no bold letters
GROUND, PANEL, RULE, INK, QUIET = "#fbfaf7", "#f3f0e9", "#e6e2d9", "#222222", "#6b6b6b"
BLUE, ORANGE, RUST = "#1f4e79", "#e07036", "#a8481a"  # rust: orange for letters, which need more contrast
FIRST = "#eeeeec"  # a text's first token: nothing comes before it, so it has no probability
SERIF, SANS = "DejaVu Serif", "DejaVu Sans"
OTHERS = ("Noto Sans CJK SC", "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo")
OTHERS += ("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS")  # for what DejaVu lacks
THERE = {font.name for font in fontManager.ttflist}
MONO = ("DejaVu Sans Mono", SANS, *(name for name in OTHERS if name in THERE))
TITLE, TEXT, SMALL, NUMBER, TOKEN = 17, 13, 11.5, 11, 13.5  # letters; TOKEN: in a chip
WIDTH = 7.5  # of every picture, in inches: one column of a notebook
ACROSS, EDGE = 96 * WIDTH, 20  # the same in pixels; the space around what is drawn
FINER = 10  # texts are measured at this many times their size: widths are rounded to whole pixels
LONGEST = 24  # characters in a label, at most
PRINTED = 0.05  # weights above this are printed
DARKEST = 7  # nats: beyond, shades get no darker
ENOUGH = 4.5  # contrast of letters, at least (WCAG 2.2, 1.4.3)
NOTE = {"size": 0.75 * SMALL, "color": QUIET}  # the look of what is said in passing
LINES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (QUIET, "-.", "^"), ("#9db6cd", ":", "D"))

# ---- colours -----------------------------------------------------------------------------------------------


def on_ground(colour, share=1.0):  # -> [3]: red, green, blue
    """A colour as it is seen; share: how much of it, over the ground."""
    *rgb, alpha = to_rgba(colour)
    share = share * alpha
    return share * np.array(rgb) + (1 - share) * np.array(to_rgb(GROUND))


def colour_map(name, *colours):
    return LinearSegmentedColormap.from_list(name, colours)


AMOUNTS = colour_map("amounts", on_ground(BLUE, 0.04), BLUE)  # 0 is a cell that can just be seen
SIGNED = colour_map("signed", ORANGE, on_ground(INK, 0.03), BLUE)
SURPRISE = colour_map("surprise", on_ground(ORANGE, 0.06), on_ground(ORANGE, 0.96))


def luminance(colour):  # -> from 0 to 1
    """Relative luminance, as WCAG defines it."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):  # two colours -> from 1 to 21
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def ink(colour):  # of a cell -> of a text on it
    """The softest ink that stands out."""
    return next(letters for letters in (INK, "white", "black") if contrast(letters, colour) >= ENOUGH)


def letters(colour):
    """The colour of a line or a marker, dark enough for its name."""
    return {ORANGE: RUST, BLUE: BLUE, QUIET: QUIET}.get(colour, INK)


def surprise(p):  # probability -> from 0 to 1
    """The shade of a token's chip: its surprise, up to DARKEST."""
    return min(-np.log(max(p, 1e-9)) / DARKEST, 1)


def shade(p):  # probability -> colour of a token's chip
    return FIRST if np.isnan(p) else (ORANGE, 0.06 + 0.9 * surprise(p))


# ---- words -------------------------------------------------------------------------------------------------


def spelled(token):  # str -> str
    """A token as a label: short, with spaces at its ends and line breaks made visible.

    Characters that the fonts lack are escaped, and a $ starts no formula.
    """
    fonts = [get_font(findfont(name)) for name in MONO]
    known = {c for c in token if c.isprintable() and any(font.get_char_index(ord(c)) for font in fonts)}
    token = "".join(c if c in known | {"\n"} else c.encode("unicode_escape").decode() for c in token)
    token = token if len(token) <= LONGEST else token[: LONGEST - 1] + "…"
    token = re.sub("^ +| +$", lambda spaces: "␣" * len(spaces[0]), token)
    return token.replace("\n", "↵").replace("$", r"\$")


def font(names):  # -> family
    """A sans for names of several words, such as "layer 3"; a monospace for tokens and names in code."""
    return SANS if any(re.search(r"\S \S", name) for name in names) else MONO


def in_percent(p):  # -> str
    """A probability for a reader, with one decimal."""
    return f"{100 * p:.1f} %"


def counted(n, noun):  # -> str
    """A number and its noun, in the plural if need be."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def tokens_in_words(tokens, probabilities):  # n strings, [n] -> str
    """Each token with its probability."""
    return ", ".join(f"{token!r} {in_percent(p)}" for token, p in zip(tokens, probabilities))


def weights_in_words(tokens, weights):  # n strings, [n] -> str
    """The tokens whose attention weights are printed, with these."""
    looks = [f"{token!r} {weight:.2f}" for token, weight in zip(tokens, weights) if weight > PRINTED]
    return f"Weights above {PRINTED}: {', '.join(looks) or 'none'}."


def head_name(layer, head):  # -> str
    return f"head {head} of layer {layer}"


# ---- a picture with axes -----------------------------------------------------------------------------------


def new_figure(width, height, *grid, **options):  # inches -> figure, axes or an array of them
    """An empty figure; width: WIDTH. grid: n_rows, n_columns; options: those of `Figure.subplots`."""
    figure = Figure(figsize=(width, height), dpi=96, facecolor=GROUND, layout="constrained")
    figure.get_layout_engine().set(w_pad=EDGE / 96, h_pad=EDGE / 96, wspace=0, hspace=0)
    axes = figure.subplots(*grid, **options)
    for one in np.ravel(axes):
        plain(one)
    return figure, axes


def plain(axes):
    """No frame and no tick marks; the numbers on the axes are quiet."""
    axes.set_facecolor("none")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, which="both", labelsize=0.75 * SMALL, labelcolor=QUIET)
    axes.set_axisbelow(True)


def rules(axes, axis):
    """Light lines to read values off; axis: "x" or "y"."""
    axes.grid(axis=axis, color=RULE, linewidth=0.8)


def name_axes(axes, x="", y=""):
    """What the numbers of each axis are, in quiet letters."""
    axes.set_xlabel(x, **NOTE)
    axes.set_ylabel(y, **NOTE)


def beside(axes, words, point, offset, **look):
    """Words near a point of the axes, this many typographic points to the right and up."""
    return axes.annotate(words, point, offset, textcoords="offset points", **look)


def above(axes, words, **look):
    """What is drawn, or in which unit, above the left end of the axes."""
    axes.set_title(words.replace("$", r"\$"), loc="left", size=0.75 * TEXT, color=QUIET, family=SANS, **look)


def name_rows(axes, names, bold=()):
    """Put names at 0, 1, 2 ... on the y axis; bold: those that stand out."""
    labels = [*map(spelled, names)]
    axes.set_yticks(range(len(names)), labels, family=font(names), size=0.75 * TEXT, color=INK)
    for i in bold:
        axes.get_yticklabels()[i].set_weight("bold")


def name_below(axes, names, room=ACROSS - 4 * EDGE):
    """Put names at 0, 1, 2 ... on the x axis, slanted unless short; only every nth if not all fit."""
    step = -(-len(names) * 20 // int(room))
    labels = [*map(spelled, names[::step])]
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slant(names) else {}
    look = {"size": 0.75 * SMALL, "color": INK, "family": font(names)}
    axes.set_xticks(range(0, len(names), step), labels, **look, **slanted)


def slant(names):  # -> bool
    """Whether names below an axis need to be slanted."""
    return max(map(len, map(spelled, names))) > 2


# ---- a picture in pixels -----------------------------------------------------------------------------------


def canvas(width=ACROSS):  # -> axes, in pixels from the left edge and from the top
    """An empty sheet; `cut` gives it its height."""
    axes = Figure(dpi=96, facecolor=GROUND).add_axes((0, 0, 1, 1), xlim=(0, width))
    axes.axis("off")
    return axes


def cut(axes, height):  # -> figure
    """Make the sheet this high."""
    axes.set_ylim(height, 0)
    axes.figure.set_size_inches(axes.get_xlim()[1] / 96, height / 96)
    return axes.figure


def part(sheet, left, top, width, height):  # -> axes
    """A place on a sheet whose height is known, with axes of its own."""
    (_, right), (bottom, _) = sheet.get_xlim(), sheet.get_ylim()
    where = (left / right, 1 - (top + height) / bottom, width / right, height / bottom)
    axes = sheet.figure.add_axes(where)
    plain(axes)
    return axes


def put(axes, text, size, family, **look):  # -> Text
    """A text of this size, to be measured and then moved to its place."""
    return axes.text(0, 0, text, size=0.75 * size, family=family, **{"color": INK} | look)


def measured(texts):  # -> widths, heights: two of [n]
    """The sizes of texts, wherever they are."""
    renderer = RendererAgg(1, 1, 96 * FINER)
    boxes = [text.get_window_extent(renderer, dpi=96 * FINER) for text in texts]
    return np.array([(box.width, box.height) for box in boxes]).T / FINER


def widest(words, size, family, **look):  # -> pixels
    """The width of the longest word."""
    figure, look = Figure(), {"size": 0.75 * size, "family": family} | look
    return max(measured([figure.text(0, 0, word, **look) for word in words])[0])


def names_width(names):  # -> pixels
    """The room that `name_rows` needs, whichever of them is bold."""
    return widest([*map(spelled, names)], TEXT, font(names), weight="bold")


def in_lines(lengths, gap, left, right):  # -> row, x for each
    """Places for things of these lengths, side by side, in as many lines as they need."""
    row, x = 0, left
    for length in lengths:
        if x > left and x + length > right:
            row, x = row + 1, left
        yield row, x
        x += length + gap


def write(axes, y, sentence, size, family, left=EDGE, right=ACROSS - EDGE, **look):  # -> y of the last line
    """A sentence from y on, word by word: words, a token, words, a token, ...; tokens in a monospace."""
    texts = []
    for i, piece in enumerate(sentence):
        words = [spelled(piece)] if i % 2 else piece.replace("$", r"\$").split()
        texts += [put(axes, word, size, MONO if i % 2 else family, **look) for word in words]
    row = 0
    for text, (row, x) in zip(texts, in_lines(measured(texts)[0], 0.32 * size, left, right)):
        text.set_position((x, y + 1.4 * size * row))
    return y + 1.4 * size * row


def box(axes, x, y, width, height, fc, ec="none", radius=5, **look):
    """A rounded box, filled or only an edge."""
    shape = f"round,pad=0,rounding_size={radius}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, shape, fc=fc, ec=ec, **look))


def chips(
    axes,
    y,
    tokens,
    numbers,
    shades,
    left=EDGE,
    right=ACROSS - EDGE,
    framed=None,
    note="",
    lengths=None,
    **look,
):  # -> y below
    """A chip for each token, in its shade: its text, under it its number; then a note, in quiet letters.

    numbers: strings, "" where there is none, or None; lengths: of the chips, by default as their texts need.
    """
    on = [ink(on_ground(colour)) for colour in shades]
    names = [put(axes, spelled(token), TOKEN, MONO, color=c, **look) for token, c in zip(tokens, on)]
    under = [put(axes, number, NUMBER, SANS, color=c) for number, c in zip(numbers or [""] * len(on), on)]
    note = put(axes, note, SMALL, SANS, color=QUIET)
    needed = np.maximum(measured(names)[0], measured(under)[0]) + 10
    lengths = needed if lengths is None else lengths
    height = 40 if numbers else 25
    *places, (row, x) = in_lines([*lengths, *measured([note])[0]], 5, left, right)
    note.set_position((x + 5, y + 0.6 * height + (height + 6) * row))
    for i, (row, x) in enumerate(places):
        top, middle = y + (height + 6) * row, x + lengths[i] / 2
        box(axes, x, top, lengths[i], height, shades[i], BLUE if i == framed else "none")
        names[i].set(position=(middle, top + 17), ha="center")
        under[i].set(position=(middle, top + 33), ha="center")
    return y + (height + 6) * (row + 1)


def arcs(axes, y, tokens, weights, left=EDGE, right=ACROSS - EDGE):  # -> y below
    """From the last token back to each: as thick as the weight, which is printed if it is above PRINTED."""
    last, room = len(tokens) - 1, right - left
    thick = ["bold" if i in (np.argmax(weights), last) else "normal" for i in range(last + 1)]
    names = [put(axes, spelled(token), TEXT, MONO, weight=t) for token, t in zip(tokens, thick)]
    printed = [f"{weight:.2f}" if weight > PRINTED else "" for weight in weights]
    numbers = [put(axes, number, NUMBER, SANS, weight=t, color=BLUE) for number, t in zip(printed, thick)]
    lengths = np.maximum(measured(names)[0], measured(numbers)[0])
    upright = bool(sum(lengths) + 8 * last > room)
    for text in names + numbers:
        text.set(rotation=90 * upright, ha="center", va="top")
    lengths = np.full(last + 1, min(14, room / (last + 1))) if upright else lengths
    gap = min((room - sum(lengths)) / max(last, 1), 44)
    places = left + np.cumsum(lengths + gap) - gap - lengths / 2
    depths, y = measured(names)[1], y + (105 if last else 60)
    for i, x in enumerate(places):
        names[i].set_position((x, y + 7))
        numbers[i].set_position((x, y + 11 + depths[i]))
        height, loop = (60, 40) if i == last else (115 * ((last - i) / last) ** 0.6, 0)
        points = [(x, y), (x - loop, y - height), (places[-1] + loop, y - height), (places[-1], y)]
        axes.add_patch(PathPatch(Curve(points, [1, 4, 4, 4]), fc="none", ec=BLUE, lw=7.5 * weights[i]))
    return y + 11 + max(depths) + (32 if upright else 14)
