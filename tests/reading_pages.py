"""What the tests of the page share: a browser, clicks on what the page shows, and the numbers in it."""

import re
import shutil

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SLIDERS = ("temperature", "top_k", "top_p", "min_p")

# ---- scripts that run in the page: what they return is what the page shows ---------------------------------

BARS = """() => [...document.querySelectorAll("#bars li")].map(bar =>
    [+bar.dataset.id, +bar.dataset.p, parseFloat(bar.querySelector("i").style.width)])"""
CHOSEN = """() => [...document.querySelectorAll("#chips button")].findIndex(
    chip => chip.getAttribute("aria-checked") === "true")"""
HEAD = """() => [...document.querySelectorAll("#heads button")].findIndex(
    head => head.getAttribute("aria-checked") === "true")"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def cells(rows):  # a selector of table rows -> script
    """The text of each cell of each row."""
    return f"""() => [...document.querySelectorAll({rows!r})].map(
        row => [...row.children].map(cell => cell.textContent))"""


def texts(elements):  # a selector -> script
    """The text of each element."""
    return f"() => [...document.querySelectorAll({elements!r})].map(element => element.textContent)"


def at_each(buttons, script):  # a selector, a script -> script
    """What the script returns after a click on each of the buttons."""
    return f"""() => [...document.querySelectorAll({buttons!r})].map(
        button => {{ button.click(); return ({script})(); }})"""


# ---- what a test does --------------------------------------------------------------------------------------


def browser_path():  # -> str or None
    """A browser on this machine that Playwright can drive."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def click(page, buttons, i):
    """Click on a button, wherever it is on the screen."""
    page.evaluate("([buttons, i]) => document.querySelectorAll(buttons)[i].click()", [buttons, i])


def slide(page, **values):
    """Move sliders to these places."""
    page.evaluate(
        """values => Object.entries(values).forEach(([name, value]) => {
            const slider = document.getElementById(`slider-${name}`);
            slider.value = value;
            slider.dispatchEvent(new Event("input"));
        })""",
        values,
    )


def settings(page):  # -> {filter: number or None}
    """What the page says that the sliders are set to."""
    shown = page.evaluate(texts("#sliders output"))
    return {name: None if text == "off" else float(text) for name, text in zip(SLIDERS, shown)}


# ---- numbers in words --------------------------------------------------------------------------------------

NUMBER = r"[+−-]?\d[\d,]*(?:\.\d+)?(?:[\s\u202f]?%)?"


def says(text, value):  # -> bool
    """Whether a text, such as "83.2 %" or "−1.50", is a number rounded to the digits that it shows."""
    text = re.sub(r"[\s,\u202f]", "", text).replace("−", "-")
    unit = 0.01 if text.endswith("%") else 1
    text = text.rstrip("%")
    if text.startswith("<"):
        return value < float(text[1:]) * unit
    n_decimals = len(text.partition(".")[2])
    return abs(float(text) * unit - value) <= (0.5 * 10**-n_decimals + 1e-3 * 10**-n_decimals) * unit


def numbers(page, name):  # -> list of str
    """All numbers in the text of an element, as they are written there."""
    return re.findall(NUMBER, page.locator(f"#{name}").text_content())


def mentions(page, name, value):  # -> bool
    """Whether a number stands among those in the text of an element."""
    return any(says(text, value) for text in numbers(page, name))
