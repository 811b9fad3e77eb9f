"""Pictures: every text in them can be read, and their alt texts give the numbers that are drawn."""

import importlib
import io
import itertools
import re
from unittest import mock

import numpy as np
import pytest
from helpers import run_python

for library in ("matplotlib", "IPython"):
    pytest.importorskip(library, reason=f"{library} is not installed: see requirements-extras.txt")
plots, style, flow, show, reading = map(
    importlib.import_module, ("extras.plots", "extras.style", "tools.flow", "tools.show", "reading_pictures")
)
colors, patches = map(importlib.import_module, ("matplotlib.colors", "matplotlib.patches"))
ENOUGH, TOKENS, USUAL = reading.ENOUGH, reading.TOKENS, reading.USUAL
contrast, labels, luminance, read = reading.contrast, reading.labels, reading.luminance, reading.read
seen, texts = reading.seen, reading.texts

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # matplotlib 3.9 raises some itself
]

SIZES = {"n_vocab": 50257, "n_embd": 768, "n_head": 12, "n_layer": 12}


def pictures(tokens, seed=0):  # -> {name: function that draws}
    """Each function of plots, and flow, on random numbers for these tokens."""
    rng, n = np.random.default_rng(seed), len(tokens)
    p, x, scores = rng.dirichlet(np.ones(n)), rng.normal(size=(n, 80)), rng.normal(size=n)
    weights = np.where(np.tri(n), rng.uniform(0, 1, (n, n)), np.nan)
    errors, maps = weights * 10.0 ** rng.uniform(-8, 0, (n, 1)), rng.uniform(0, 1, (2, 3, n, n))
    masked = np.where(np.arange(n) < max(n - 1, 1), scores / 2, -np.inf)
    softmax = np.exp(masked) / np.exp(masked).sum()
    lines = {"sum": scores.cumsum(), "nothing": np.full(n, np.nan), "one": scores, "cut": weights[-1]}
    early = {"whole": scores, "early": np.where(np.arange(n) < n / 2, scores, np.inf)}
    groups = ["one", "other"] * n
    return {
        "next_tokens": lambda: plots.next_tokens(p, tokens, control=p[::-1] / 2),
        "text_by_probability": lambda: plots.text_by_probability(tokens, p),
        "heatmap": lambda: plots.heatmap(weights, tokens, tokens, "attention", framed=n - 1),
        "heatmap, noise": lambda: plots.heatmap(errors.round(6), tokens, tokens, "error", noise_floor=1e-5),
        "heatmap, signed": lambda: plots.heatmap(x[:, :2], tokens, ["a", "b"], "$ change", signed=True),
        "one_query": lambda: plots.one_query(scores, scores / 2, masked, softmax, x, tokens, 0),
        "curves": lambda: plots.curves(tokens, lines, "token", "score"),
        "curves, early": lambda: plots.curves(range(n), early, "n", "score"),
        "curves, noise": lambda: plots.curves(
            range(n), {"none": 0 * p, "p": p}, "n", "p", scale="log", noise_floor=1e-5
        ),
        "layers_and_heads": lambda: plots.layers_and_heads(maps),
        "layers_and_heads, framed": lambda: plots.layers_and_heads(maps, framed=(1, 2)),
        "strips": lambda: plots.strips(x, tokens, "vectors"),
        "strips, few": lambda: plots.strips(x[:, :3], tokens, "vectors"),
        "bars": lambda: plots.bars(scores, tokens, "score", control=0.1, framed=n - 1),
        "bars, controls": lambda: plots.bars(scores, tokens, "score", control=scores[::-1]),
        "shares": lambda: plots.shares({"a": p + 0.1, "b": 1 - p, "c": p * 0 + 2 + seed}, tokens, "all"),
        "tokens": lambda: plots.tokens([tokens, tokens], ["a", tokens[0]], [range(seed, n + seed)] * 2),
        "places": lambda: plots.places(x[:, :2], tokens, "words", groups[:n]),
        "arcs": lambda: plots.arcs(tokens, softmax + seed / 10),
        "flow": lambda: flow.flow(SIZES | {"n_layer": seed}, n, "".join(tokens), tokens[-1]),
    }


CASES = list(itertools.product(TOKENS, pictures(["a"])))


@pytest.mark.parametrize("kind, name", CASES)
def test_every_text_can_be_read(kind, name):
    assert read(pictures(TOKENS[kind])[name]()[0])


@pytest.mark.parametrize("kind, name", CASES)
def test_an_alt_text_is_one_paragraph_with_numbers_that_follow_those_drawn(kind, name):
    figure, alt = pictures(TOKENS[kind])[name]()
    assert "\n" not in alt and alt.endswith(".") and len(alt.split()) > 7 and alt not in texts(figure)
    assert re.search(r"\d", alt) and not re.search(r"\bnan\b|·", alt)
    assert alt != pictures(TOKENS[kind], seed=1)[name]()[1] or kind == "one"  # the softmax of one is 1


@pytest.mark.parametrize("name", pictures(["a"]))
def test_every_picture_is_as_wide_as_all_on_one_ground(name):
    figure, _ = pictures(USUAL)[name]()
    assert figure.get_size_inches()[0] == 7.5 and colors.to_hex(figure.get_facecolor()) == style.GROUND


@pytest.mark.parametrize("name", pictures(["a"]))
def test_words_stand_out_from_the_ground(name):
    figure, _ = pictures(USUAL)[name]()
    dark = [patch for axes in figure.axes for patch in [*axes.patches, *axes.images]]
    for text in read(figure):
        if text.get_color() != "white":  # on a dark cell or chip: see the tests of these
            assert contrast(text.get_color(), style.GROUND) >= ENOUGH or dark, text


# ---- texts -------------------------------------------------------------------------------------------------


def chips(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, patches.FancyBboxPatch)]


def test_unexpected_tokens_are_darker_and_no_two_overlap():
    tokens, p = USUAL * 4, np.linspace(0.001, 1, 44)
    figure, alt = plots.text_by_probability(tokens, p)
    boxes, shades = list(read(figure).values()), [seen(chip.get_facecolor()) for chip in chips(figure)]
    assert len(boxes) == 93 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert np.all(np.diff([luminance(shade) for shade in shades]) > 0)
    names, percents = figure.axes[0].texts[:44], figure.axes[0].texts[44:88]
    for token, name, percent, share, shade in zip(tokens, names, percents, p, shades, strict=True):
        assert name.get_text() == token.replace(" ", "␣") and percent.get_text() == f"{100 * share:.1f} %"
        assert min(contrast(text.get_color(), shade) for text in (name, percent)) >= ENOUGH
        assert f"{token!r} {percent.get_text()}" in alt


def test_the_shades_of_a_text_are_those_of_its_surprise():
    figure, _ = plots.text_by_probability(["a", "b"], [1.0, np.exp(-3.5)])
    assert [chip.get_facecolor()[3] for chip in chips(figure)] == pytest.approx([0.06, 0.51])


def test_rows_of_tokens_are_chips_in_their_order_with_names_numbers_and_shades():
    rows, shades = [["l", "o", "w"], ["lo", "w"]], [[0, 0.5, 1], [1, 0.1]]
    figure, alt = plots.tokens(rows, ["start", "1 merge"], [[1, 2, 3], [77, 3]], shades)
    boxes = [chip.get_window_extent() for chip in chips(figure)]
    places = {text: box for text, box in read(figure).items()}
    inside = [[t.get_text() for t, place in places.items() if box.overlaps(place)] for box in boxes]
    assert inside == [["l", "1"], ["o", "2"], ["w", "3"], ["lo", "77"], ["w", "3"]]
    assert boxes[0].y0 > boxes[3].y1 and boxes[0].x0 == boxes[3].x0
    lights = [luminance(chip.get_facecolor()) for chip in chips(figure)]
    assert lights[0] > lights[1] > lights[2] == lights[3] < lights[4]
    for chip, box in zip(chips(figure), boxes):
        on = [text.get_color() for text, place in places.items() if box.overlaps(place)]
        assert min(contrast(colour, chip.get_facecolor()) for colour in on) >= ENOUGH
    assert alt == "2 rows of tokens, 5 in all. start: 'l' 1, 'o' 2, 'w' 3; 1 merge: 'lo' 77, 'w' 3."


def test_rows_of_one_length_are_columns_if_they_fit_and_long_rows_go_on_below():
    figure, _ = plots.tokens([["a", "looked"], ["little", "b"]])
    one, two, three, four = [chip.get_window_extent() for chip in chips(figure)]
    assert one.x0 == three.x0 and one.x1 == three.x1 and two.x0 == four.x0 and two.x1 == four.x1
    figure, _ = plots.tokens([USUAL * 5])
    boxes = [chip.get_window_extent() for chip in chips(figure)]
    assert len({round(box.y0) for box in boxes}) > 3 and max(box.x1 for box in boxes) <= 700.5
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_arcs_are_as_thick_as_the_weights_and_only_larger_ones_have_their_numbers():
    weights = np.array([0.04, 0.6, 0.06, 0.3])
    figure, alt = plots.arcs([" a", " b", " c", " d"], weights)
    drawn = [patch for patch in figure.axes[0].patches if isinstance(patch, patches.PathPatch)]
    thick = np.array([arc.get_linewidth() for arc in drawn])
    assert np.allclose(thick / thick.sum(), weights)
    assert [text for text in texts(figure) if "." in text] == ["0.60", "0.06", "0.30"]
    assert alt.endswith("Weights above 0.05: ' b' 0.60, ' c' 0.06, ' d' 0.30.") and "from ' d'" in alt
    assert read(plots.arcs([f" {i} looked" for i in range(50)], np.ones(50) / 50)[0])


# ---- a map of points ---------------------------------------------------------------------------------------


def test_places_are_drawn_to_one_scale_each_with_its_name_nearby():
    points = np.array([[0, 0], [4, 0], [4, 1.0]])
    figure, alt = plots.places(
        points, [" fox", " king", " queen"], "wte", groups=["animals", "people", "people"]
    )
    (axes,) = figure.axes
    at = np.concatenate([line.get_xydata() for line in axes.lines])
    assert at[1, 0] - at[0, 0] == pytest.approx(4 * (at[1, 1] - at[2, 1])) and at[1, 0] == at[2, 0]
    boxes = {text.get_text(): box for text, box in read(figure).items()}
    for name, point in zip(("␣fox", "␣king", "␣queen"), at):
        x, y = axes.transData.transform(point)
        gap = np.hypot(
            *np.maximum([boxes[name].x0 - x, boxes[name].y0 - y], [x - boxes[name].x1, y - boxes[name].y1])
        )
        assert gap < 20
    assert {"animals", "people", "wte"} <= {*texts(figure)}
    assert (
        len({line.get_color() for line in axes.lines}) == len({line.get_marker() for line in axes.lines}) == 2
    )
    assert "3 points. Nearest to each other: ' king' and ' queen' (1)" in alt
    assert alt.endswith("On average, 1 apart within a group, 4.1 between groups.")


@pytest.mark.parametrize("seed", range(3))
def test_the_names_of_forty_places_do_not_overlap(seed):
    points = np.random.default_rng(seed).normal(size=(40, 2))
    boxes = [*read(plots.places(points, [f" w{i}" for i in range(40)])[0]).values()]
    assert len(boxes) == 40 and not any(
        a.padded(-1).overlaps(b.padded(-1)) for a, b in itertools.combinations(boxes, 2)
    )


# ---- the flow ----------------------------------------------------------------------------------------------


def test_the_flow_has_the_shapes_of_the_model():
    figure, alt = flow.flow(SIZES, 11, "The little $fox$", " and")
    places = read(figure)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(places.values(), 2))
    found = " ".join(text.get_text() for text in places)
    shapes = ["[11]", "[11, 50257]", "[12, 11, 64]", "[11, 3072]", "12 blocks", "12 heads", "next\n␣and"]
    assert all(shape in found for shape in shapes) and found.count("[11, 768]") == 5
    words = ["from 'The little $fox$' to ' and'", "11 ids; 11 vectors of 768 numbers; 12 blocks"]
    assert all(part in alt for part in (*words, "logits [11, 50257]", "12 heads of 64", "MLP of 3072"))


def test_the_arrows_of_the_flow_go_from_frame_to_frame_and_cross_no_other():
    axes = flow.flow(SIZES, 11, "The little fox", " and")[0].axes[0]
    read(axes.figure)
    boxes = [text.get_bbox_patch() for text in axes.texts]
    frames = [box.get_window_extent() for box in boxes if box is not None]
    arrows = [text.arrow_patch for text in axes.texts if getattr(text, "arrow_patch", None)]
    reached = []
    for arrow in (arrow for arrow in arrows if arrow.get_linewidth() < 3):  # thick is the residual stream
        points = arrow.get_transform().transform(arrow.get_path().vertices)
        assert not any(frame.padded(-1).contains(*point) for frame in frames for point in points)
        reached += [sum(any(frame.padded(4).contains(*point) for point in points) for frame in frames)]
    assert sorted(reached) == [1, 1] + [2] * 10  # two start at the stream
    places = {text.get_text().partition("\n")[0]: text.get_position() for text in axes.texts}
    ways = [(text.xyann, text.xy) for text in axes.texts if hasattr(text, "arrow_patch")]
    assert (places["next"], places["ids"]) in ways


# ---- in a notebook -----------------------------------------------------------------------------------------


def displayed(figure, alt):
    with mock.patch.object(show, "display") as display:
        show.show(figure, alt)
    (((data,), options),) = display.call_args_list
    return data, options


def test_a_picture_is_a_png_with_its_alt_text_and_its_size():
    from PIL import Image

    values = np.random.default_rng(0).uniform(0, 1, (14, 12))
    figure, alt = plots.heatmap(values, ["a"] * 14, ["b"] * 12, "weights")
    data, options = displayed(figure, alt)
    assert data == {"image/png": data["image/png"], "text/plain": alt} and len(data["image/png"]) < 60_000
    width, height = figure.get_size_inches()
    metadata = {"alt": alt, "width": round(100 * width), "height": round(100 * height)}
    assert options == {"raw": True, "metadata": {"image/png": metadata}}
    image = Image.open(io.BytesIO(data["image/png"]))
    assert image.format == "PNG" and np.allclose(image.size, [150 * width, 150 * height], atol=1)


@pytest.mark.parametrize("name", pictures(["a"]))
def test_a_picture_is_an_opaque_card_with_round_corners_its_own_colours_and_few_bytes(name):
    from PIL import Image

    png = displayed(*pictures(USUAL)[name]())[0]["image/png"]
    image = Image.open(io.BytesIO(png))
    pixels = np.array(image.convert("RGBA"))
    assert len(png) < 40_000 and image.mode == "P"
    assert [pixels[y, x, 3] for y in (0, -1) for x in (0, -1)] == [0] * 4
    assert np.all(pixels[20:-20, :, 3] == 255) and np.all(pixels[:, 20:-20, 3] == 255)
    ground = [*colors.to_rgba_array(style.GROUND)[0, :3] * 255]
    assert np.allclose(pixels[25, 3, :3], ground, atol=1)
    assert {0, 255} < {*np.unique(pixels[..., 3])}  # the corners are smooth


def test_a_colour_that_few_pixels_have_is_kept():
    from PIL import Image

    values = np.random.default_rng(0).uniform(0, 1, (14, 14))
    png = displayed(*plots.heatmap(values, ["a"] * 14, ["b"] * 14, "w", framed=(3, 4)))[0]["image/png"]
    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))[..., :3].reshape(-1, 3)
    orange = np.round(np.array(colors.to_rgb(style.ORANGE)) * 255)
    assert np.sum(np.abs(pixels - orange).max(axis=1) <= 1) > 50


@pytest.mark.parametrize("name", ["layers_and_heads", "strips"])
def test_the_same_numbers_or_the_same_figure_give_the_same_bytes(name):
    (figure, alt), another = (pictures(USUAL)[name]() for _ in range(2))
    assert displayed(figure, alt) == displayed(*another) == displayed(figure, alt)


def test_neither_plots_nor_show_imports_pyplot():
    code = "import sys; sys.path.append('notebooks'); import extras.plots, tools.show, tools.flow"
    done = run_python("-c", f"{code}; print('matplotlib.pyplot' in sys.modules)")
    assert done.stdout == b"False\n"


def test_without_matplotlib_one_line_says_what_to_install():
    done = run_python("-c", "import sys; sys.modules['matplotlib'] = None; import extras.plots")
    last = done.stderr.decode().strip().split("\n")[-1]
    assert last.startswith("ImportError: ") and last.endswith(": pip install -r requirements-extras.txt")
