"""Show a figure in a notebook, with an alternative text for those who cannot see it."""

import io

import numpy as np
from IPython.display import display
from PIL import Image, ImageColor, ImageDraw

from extras import style

DPI = 150  # sharp on dense screens; the notebook is given the size in CSS pixels, 100 to the inch
RADIUS = 15  # of the corners, in the pixels of the file
N_COLOURS = 100  # enough for a diagram, in a third of the bytes
# kept as they are, even where few pixels have them
KEPT = style.GROUND, style.PANEL, style.INK, style.QUIET, style.BLUE, style.ORANGE
EDGES = (192, 128, 64, 0)  # the opacities of a corner's pixels, besides 255


def show(figure, alt):
    """Display a matplotlib figure as a PNG with an alternative text; `display(figure)` would give it none."""
    large, png = io.BytesIO(), io.BytesIO()
    figure.savefig(large, format="png", dpi=DPI)
    card(Image.open(large).convert("RGB")).save(png, "png", optimize=True)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = {"image/png": png.getvalue(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt, "width": width, "height": height}})


def card(image):  # -> the same, in few colours
    """Opaque, because its colours are made for one ground; round corners let a light or dark page through."""
    few = image.quantize(N_COLOURS - len(KEPT), dither=Image.Dither.NONE).getpalette()
    colours = np.array([*map(ImageColor.getrgb, KEPT), *np.reshape(few, (-1, 3))])
    as_one = np.asarray(image).astype(int) @ [65536, 256, 1]  # red, green, blue
    there, where = np.unique(as_one, return_inverse=True)
    there = np.stack([there // 65536, there // 256 % 256, there % 256], axis=-1)
    nearest = ((there[:, None] - colours) ** 2).sum(axis=-1).argmin(axis=1)
    pixels = nearest[where].reshape(image.size[::-1])
    mask = Image.new("L", [4 * side for side in image.size])
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *[side - 1 for side in mask.size]), 4 * RADIUS, fill=255)
    opaque = np.asarray(mask.resize(image.size, Image.Resampling.BOX), int)
    corners = opaque < (255 + EDGES[0]) / 2
    pixels[corners] = len(colours) + np.abs(opaque[corners][:, None] - np.array(EDGES)).argmin(axis=1)
    round_card = Image.fromarray(pixels.astype(np.uint8)).convert("P")
    round_card.putpalette([*colours.ravel().tolist(), *image.getpixel((0, 0)) * len(EDGES)])
    round_card.info["transparency"] = bytes([255] * len(colours) + [*EDGES])
    return round_card
