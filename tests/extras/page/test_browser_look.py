"""How the page looks: light, dark, in narrow windows, on paper; what axe-core finds; its pictures."""

import io
import re

import numpy as np
import pytest
from helpers import ROOT
from reading_pages import OVERFLOW, click

pytestmark = pytest.mark.browser
ENOUGH = 4.5  # contrast, for WCAG 2.2, 1.4.3
WIDTHS = (320, 390, 768, 1100)
GROUND = "getComputedStyle(document.documentElement).backgroundColor"
OPEN = "document.querySelectorAll('details').forEach(details => { details.open = true; })"

# ---- colours -----------------------------------------------------------------------------------------------

SEEN = """() => {  // every text that can be seen: its words, its colour, and that of its ground
    const seen = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const opaque = colour => colour !== "none" && !/, 0\\)$/.test(colour);
    const ground = element => {
        for (let parent = element; parent; parent = parent.parentElement) {
            const { backgroundColor } = getComputedStyle(parent);
            if (opaque(backgroundColor)) return backgroundColor;
        }
    };
    const under = text => {  // in a drawing, the last shape that the middle of the text lies on
        const { left, right, top, bottom } = text.getBoundingClientRect();
        const [x, y] = [(left + right) / 2, (top + bottom) / 2];
        const shapes = [...text.ownerSVGElement.querySelectorAll("rect")].filter(shape => {
            const box = shape.getBoundingClientRect();
            const covers = box.left < x && x < box.right && box.top < y && y < box.bottom;
            return covers && opaque(getComputedStyle(shape).fill);
        });
        return shapes.length ? getComputedStyle(shapes.at(-1)).fill : ground(text.ownerSVGElement);
    };
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, style = getComputedStyle(element);
        const hidden = element.closest("script, noscript, :disabled") || parseFloat(style.fontSize) === 0;
        if (!walker.currentNode.data.trim() || hidden || !element.checkVisibility()) continue;
        const drawn = element instanceof SVGTextElement;
        const colours = drawn ? [style.fill, under(element)] : [style.color, ground(element)];
        seen.push([walker.currentNode.data, ...colours]);
    }
    for (const input of document.querySelectorAll("input[type=number]")) {
        seen.push([input.value, getComputedStyle(input).color, ground(input)]);
    }
    return seen;
}"""


def luminance(colour):  # "rgb(31, 78, 121)" -> number
    """Relative luminance, as WCAG defines it."""
    rgb = np.array([float(x) for x in re.findall(r"[\d.]+", colour)[:3]]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):  # two colours -> from 1 to 21
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def assert_legible(page):
    """Every text stands out from its ground."""
    seen = page.evaluate(SEEN)
    assert len(seen) > 300
    pale = [(text, one, other) for text, one, other in seen if contrast(one, other) < ENOUGH]
    assert pale == []


def colours(page):  # -> set of colours
    return {colour for _, *pair in page.evaluate(SEEN) for colour in pair}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme, fox, tab):
    page = tab(fox.path, color_scheme=scheme)
    page.evaluate(OPEN)
    for head, position in ((28, 11), (9, 19), (23, 0)):
        click(page, "#heads button", head)
        click(page, "#chips button", position)
        assert_legible(page)
    assert (luminance(page.evaluate(GROUND)) > 0.5) == (scheme == "light")


def test_the_page_follows_when_the_screen_turns_dark_and_light_again(fox, tab):
    page = tab(fox.path)
    canvas = "() => document.querySelector('#heads canvas').toDataURL()"
    light, squares = colours(page), page.evaluate(canvas)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"light => ({canvas})() !== light", arg=squares)  # the script follows the style
    dark = colours(page)
    assert len(light & dark) < 0.2 * len(light) and page.evaluate(canvas) != squares
    assert_legible(page)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"light => ({canvas})() === light", arg=squares)
    assert colours(page) == light and page.evaluate(canvas) == squares


# ---- on paper ----------------------------------------------------------------------------------------------

BEYOND = """() => {  // texts that end to the right of the paper
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), beyond = [];
    while (walker.nextNode()) {
        const range = document.createRange(), text = walker.currentNode;
        range.selectNodeContents(text);
        const { right, width } = range.getBoundingClientRect();
        const seen = text.data.trim() && width && text.parentElement.checkVisibility();
        if (seen && right > innerWidth + 1) beyond.push([text.data, right]);
    }
    return beyond;
}"""


def printed(page, **media):
    """As the page is when it is printed."""
    page.emulate_media(media="print", **media)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")


def test_on_paper_a_dark_page_is_light_and_can_be_read(fox, tab):
    page = tab(fox.path, color_scheme="dark")
    printed(page, color_scheme="dark")
    assert luminance(page.evaluate(GROUND)) > 0.8
    assert_legible(page)
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert luminance(page.evaluate(GROUND)) < 0.1
    assert_legible(page)


@pytest.mark.parametrize("width", [717, 739, 794, 816])  # A4 and Letter, with a browser's margins and without
def test_nothing_is_cut_off_at_the_right_of_the_paper(width, fox, tab):
    page = tab(fox.path)
    printed(page)
    page.set_viewport_size({"width": width, "height": 1000})
    assert page.evaluate(BEYOND) == [] and page.evaluate(OVERFLOW) <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_the_page_fills_four_to_seven_sheets(paper, scheme, fox, tab):
    page = tab(fox.path, color_scheme=scheme)
    pdf = page.pdf(format=paper, margin=dict.fromkeys(("top", "right", "bottom", "left"), "1cm"))
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 7


# ---- windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_no_window_is_too_narrow(width, fox, tab):
    page = tab(fox.path, viewport={"width": width, "height": 800})
    for step in ("0", OPEN):
        page.evaluate(step)
        for position in (0, 11, 19):
            click(page, "#chips button", position)
            assert page.evaluate(OVERFLOW) <= 0
    small = """() => [...document.querySelectorAll("button, summary, input[type=range]")].filter(element =>
        element.getBoundingClientRect().height < 16 || element.getBoundingClientRect().width < 24).length"""
    assert page.evaluate(small) == 0


def test_the_page_fits_after_the_window_has_been_made_narrow(page):
    for width in (1100, 700, 320, 900):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(50)
        assert page.evaluate(OVERFLOW) <= 0, width


def test_the_chosen_token_is_in_view_in_each_window_that_scrolls(fox, tab):
    page = tab(fox.path, viewport={"width": 390, "height": 800})
    inside = """selectors => {
        const [outer, inner] = selectors.map(x => document.querySelector(x).getBoundingClientRect());
        return outer.left - 1 <= inner.left && inner.right <= outer.right + 1; }"""
    for position in range(20):
        click(page, "#chips button", position)
        assert page.evaluate(inside, ["#lens-scroll", "#lens-table td.chosen"]), position


def test_no_head_of_a_column_of_the_lens_slides_over_the_names_of_the_rows(fox, tab):
    page = tab(fox.path, viewport={"width": 390, "height": 800})
    corner = """() => ["thead th", "tbody th"].map(
        x => document.querySelector(`#lens-table ${x}`).getBoundingClientRect().left)"""
    for position in (0, 11, 19):
        click(page, "#chips button", position)
        above, below = page.evaluate(corner)
        assert above == below, position


def test_nothing_moves_for_those_who_asked_for_that(fox, tab):
    durations = """() => [...document.querySelectorAll("*")].map(x => getComputedStyle(x)).filter(style =>
        parseFloat(style.transitionDuration) || parseFloat(style.animationDuration)).length"""
    assert tab(fox.path).evaluate(durations) == 20
    assert tab(fox.path, reduced_motion="reduce").evaluate(durations) == 0


# ---- axe-core ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, which finds what shuts out people with a disability."""
    path = ROOT / "tests" / "node_modules" / "axe-core" / "axe.min.js"
    if not path.exists():
        pytest.skip("axe-core is not here: npm install --no-save --prefix tests axe-core@4.14.1")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme, width, fox, tab, axe):
    page = tab(fox.path, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.evaluate(OPEN)
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
    assert len(found["passes"]) > 25


@pytest.mark.parametrize("chosen", ["#chips", "#heads"])
def test_where_the_system_sets_all_colours_an_outline_marks_what_is_chosen(chosen, fox, tab):
    page = tab(fox.path, forced_colors="active")
    outlines = "buttons => buttons.map(button => getComputedStyle(button).outlineStyle)"
    assert page.eval_on_selector_all(f"{chosen} [aria-checked=true]", outlines) == ["solid"]
    assert {*page.eval_on_selector_all(f"{chosen} [aria-checked=false]", outlines)} == {"none"}


# ---- pictures ----------------------------------------------------------------------------------------------

SECTIONS = ("text", "vectors", "attention", "stream", "lens", "next")
LARGEST = 150_000  # bytes


def picture(page, section):  # -> bytes
    """A section of the page, without the code folded below it, as a PNG of few colours."""
    from PIL import Image

    body, box = page.locator("body").bounding_box(), page.locator(f"#{section}").bounding_box()
    margin = {"x": body["x"], "y": box["y"] - 20, "width": body["width"], "height": box["height"] + 40}
    image = Image.open(io.BytesIO(page.screenshot(clip=margin, full_page=True))).convert("RGB")
    png = io.BytesIO()
    image.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    return png.getvalue()


def test_the_docs_have_a_picture_of_each_section(fox, tab, tmp_path, request):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: see requirements-extras.txt")
    folder = ROOT / "docs" / "page" if request.config.getoption("--pictures") else tmp_path
    folder.mkdir(exist_ok=True)
    page = tab(fox.path, device_scale_factor=1.5)
    page.evaluate("document.getElementById('bar').style.position = 'static'")
    # not removed: a picture larger than the window makes it larger, and then the page draws all anew
    page.evaluate("document.querySelectorAll('details').forEach(details => details.style.display = 'none')")
    for section in SECTIONS:
        (folder / f"{section}.png").write_bytes(picture(page, section))
        there = ROOT / "docs" / "page" / f"{section}.png"
        assert there.exists(), "make it with: pytest -m browser --pictures"
        now, before = (Image.open(path).size for path in (folder / f"{section}.png", there))
        assert np.allclose(now, before, rtol=0.1), f"{section}: pytest -m browser --pictures makes it again"
        assert there.stat().st_size < LARGEST
