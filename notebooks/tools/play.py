"""A picture with a slider; where there are no sliders, a few of its states side by side."""

import os

from extras import style
from tools.show import show


def slide(panel, name, values, few=None, height=2.2):
    """Show panel(axes, value) for a value that a slider sets, or for a few of the values side by side.

    panel draws into the axes and returns what is there in words. few: the values shown in a saved notebook
    and where ipywidgets is not installed; by default four, with the first and the last. height: of a
    panel, in inches.
    """
    values = list(values)

    def pictured(chosen):
        figure, axes = style.new_figure(style.WIDTH, height, 1, len(chosen), squeeze=False)
        words = []
        for one, value in zip(axes[0], chosen):
            title = f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
            style.above(one, title)
            words.append(f"{title}: {panel(one, value)}")
        show(figure, " ".join(words))

    widgets = None if os.environ.get("PLAINGPT_STILL") else sliders()
    if widgets:
        move = widgets.SelectionSlider(options=values, description=name)
        widgets.interact(lambda value: pictured([value]), value=move)
    else:
        n = min(4, len(values))
        pictured(few or [values[i * (len(values) - 1) // max(n - 1, 1)] for i in range(n)])


def sliders():  # -> ipywidgets, or None where it is not installed
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets
