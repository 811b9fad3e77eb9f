"""What the tests of pictures share: reading what is drawn, and colours as WCAG 2.2 measures them."""

import io
import re
from unittest import mock

import numpy as np
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.text import Text

ENOUGH = 4.5  # contrast, for WCAG 2.2, 1.4.3
USUAL = ["The", " little", " fox", " looked", " at", " the", " old", " wolf", ",", " and", " the"]
TOKENS = {
    "odd": ["The", "\t\r", "\n", "$x$", "\ufffd", " $", "\\", "_^{", "\n\n", "狐", " and"],
    "long": ["=" * 64, " telecommunications", "a"],  # the first is token 23926 of the 124M
    "one": ["\n"],
}


def read(figure):  # -> {text: its place}
    """Draw all texts: each must be whole, 9 pixels or more at 100 to the inch, and no formula but a power."""
    paint, places = Text.draw, {}

    def recorded(text, renderer):
        if text.get_visible() and text.get_text().strip():
            places[text] = text.get_window_extent(renderer)
        paint(text, renderer)

    with mock.patch.object(Text, "draw", recorded):
        figure.savefig(io.BytesIO(), dpi="figure")
    for text, box in places.items():
        assert text.get_size() / 72 * 100 >= 9, text
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1 and 0 <= box.y0 < box.y1 <= figure.bbox.y1, text
        assert not re.search(r"(?<!\\)\$(?!\\mathdefault{10\^|$)", text.get_text()), text
    return places


def texts(artist):
    return [text.get_text().strip() for text in artist.findobj(Text) if text.get_text()]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def seen(colour, ground="#fbfaf7"):  # -> red, green, blue of a colour that may let the ground through
    *rgb, alpha = to_rgba(colour)
    return alpha * np.array(rgb) + (1 - alpha) * np.array(to_rgb(ground))


def luminance(colour):
    """Relative luminance, as WCAG defines it."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):  # two colours -> from 1 to 21
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def darkens(cmap):
    return np.all(np.diff([luminance(cmap(i)) for i in range(cmap.N)]) < 0)
