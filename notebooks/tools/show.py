"""Show a figure in a notebook, with an alternative text for those who cannot see it."""

import io

from IPython.display import display
from PIL import Image

DPI = 150  # sharp on dense screens; the notebook is given the size in CSS pixels, 100 to the inch


def show(figure, alt):
    """Display a matplotlib figure as a PNG with an alternative text; `display(figure)` would give it none."""
    large, png = io.BytesIO(), io.BytesIO()
    figure.savefig(large, format="png", dpi=DPI)
    # 64 colours are enough for a diagram, and take a third of the bytes
    Image.open(large).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(png, "png", optimize=True)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = {"image/png": png.getvalue(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt, "width": width, "height": height}})
