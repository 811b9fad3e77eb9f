"""Show a figure in a notebook, with the words for those who cannot see it."""

import io

from IPython.display import display
from PIL import Image

DPI = 150  # sharp where the screen is; the notebook is told the size in its own pixels, 100 an inch


def show(figure, alt):
    """Display a matplotlib figure as a PNG with `alt` as its alternative text; `display(figure)` has none."""
    large, png = io.BytesIO(), io.BytesIO()
    figure.savefig(large, format="png", dpi=DPI)
    # 64 colours are enough for a diagram, and take a third of the bytes
    Image.open(large).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(png, "png", optimize=True)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = {"image/png": png.getvalue(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt, "width": width, "height": height}})
