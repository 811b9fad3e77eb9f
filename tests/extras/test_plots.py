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
plots, flow, show = map(importlib.import_module, ("extras.plots", "tools.flow", "tools.show"))
Text = importlib.import_module("matplotlib.text").Text
to_rgb = importlib.import_module("matplotlib.colors").to_rgb

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # matplotlib 3.9 raises some itself
]

USUAL = ["The", " little", " fox", " looked", " at", " the", " old", " wolf", ",", " and", " the"]
TOKENS = {
    "odd": ["The", "\t\r", "\n", "$x$", "\ufffd", " $", "\\", "_^{", "\n\n", ",", " and"],
    "long": ["=" * 64, " telecommunications", "a"],  # the first is token 23926 of the 124M
    "one": ["\n"],
}
ENOUGH = 4.5  # contrast, for WCAG 2.2, 1.4.3
SIZES = {"n_vocab": 50257, "n_embd": 768, "n_head": 12, "n_layer": 12}


def pictures(tokens, seed=0):  # -> {name: function that draws}
    """Each function of plots, and flow, on random numbers for these tokens."""
    rng, n = np.random.default_rng(seed), len(tokens)
    p, x, scores = rng.dirichlet(np.ones(n)), rng.normal(size=(n, 8)), rng.normal(size=n)
    weights = np.where(np.tri(n), rng.uniform(0, 1, (n, n)), np.nan)
    errors, maps = weights * 10.0 ** rng.uniform(-8, 0, (n, 1)), rng.uniform(0, 1, (2, 3, n, n))
    masked = np.where(np.arange(n) < max(n - 1, 1), scores / 2, -np.inf)
    softmax = np.exp(masked) / np.exp(masked).sum()
    lines = {"sum": scores.cumsum(), "nothing": np.full(n, np.nan), "one": scores, "cut": weights[-1]}
    return {
        "next_tokens": lambda: plots.next_tokens(p, tokens, control=p[::-1] / 2),
        "text_by_probability": lambda: plots.text_by_probability(tokens, p),
        "heatmap": lambda: plots.heatmap(weights, tokens, tokens, "attention"),
        "heatmap, noise": lambda: plots.heatmap(errors.round(6), tokens, tokens, "error", noise_floor=1e-5),
        "one_query": lambda: plots.one_query(scores, scores / 2, masked, softmax, x, tokens, 0),
        "curves": lambda: plots.curves(tokens, lines, "token", "score"),
        "curves, noise": lambda: plots.curves(
            range(n), {"none": 0 * p, "p": p}, "n", "p", scale="log", noise_floor=1e-5
        ),
        "spread": lambda: plots.spread({"before": x, "after": x / 9}, tokens),
        "layers_and_heads": lambda: plots.layers_and_heads(maps),
        "flow": lambda: flow.flow(SIZES | {"n_layer": seed}, n, "".join(tokens), tokens[-1]),
    }


CASES = list(itertools.product(TOKENS, pictures(["a"])))


def read(figure):  # -> {text: its place}
    """All texts drawn, each whole, 8 points or larger, and not a formula, except the powers on a scale."""
    paint, places = Text.draw, {}

    def recorded(text, renderer):
        if text.get_visible() and text.get_text().strip():
            places[text] = text.get_window_extent(renderer)
        paint(text, renderer)

    with mock.patch.object(Text, "draw", recorded):
        figure.savefig(io.BytesIO(), dpi="figure")
    for text, box in places.items():
        assert text.get_size() >= 8, text
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1 and 0 <= box.y0 < box.y1 <= figure.bbox.y1, text
        assert not re.search(r"(?<!\\)\$(?!\\mathdefault{10\^|$)", text.get_text()), text
    return places


@pytest.mark.parametrize("kind, name", CASES)
def test_every_text_can_be_read(kind, name):
    assert read(pictures(TOKENS[kind])[name]()[0])


@pytest.mark.parametrize("kind, name", CASES)
def test_an_alt_text_is_one_paragraph_with_numbers_that_follow_those_drawn(kind, name):
    figure, alt = pictures(TOKENS[kind])[name]()
    assert "\n" not in alt and alt.endswith(".") and len(alt.split()) > 7 and alt not in texts(figure)
    assert re.search(r"\d", alt) and not re.search(r"\bnan\b|·", alt)
    assert alt != pictures(TOKENS[kind], seed=1)[name]()[1] or kind == "one"  # the softmax of one is 1


def texts(artist):
    return [text.get_text().strip() for text in artist.findobj(Text) if text.get_text()]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# ---- the numbers -------------------------------------------------------------------------------------------


def test_bars_are_the_probabilities_with_the_first_on_top():
    p, tokens = [0.625, 0.3, 0.0004], ["\n", " a", "$"]
    figure, alt = plots.next_tokens(p, tokens, control=[0.1, 0.7, 0.2])
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == p and axes.yaxis_inverted()
    assert axes.lines[0].get_xydata().tolist() == [[0.1, 0], [0.7, 1], [0.2, 2]]
    assert labels(axes.yaxis) == ["↵", "␣a", r"\$"] and {"62.5 %", "30.0 %", "0.0 %"} <= {*texts(figure)}
    assert r"'\n' 62.5 %, ' a' 30.0 %, '$' 0.0 %" in alt and "control gives each at most 70 %" in alt


def test_unexpected_tokens_are_darker_and_no_two_overlap():
    tokens, p = USUAL * 4, np.linspace(0, 1, 44)
    figure, alt = plots.text_by_probability(tokens, p)
    boxes, shades = list(read(figure).values()), [c.get_facecolor()[0] for c in figure.axes[0].collections]
    assert len(boxes) == 88 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert np.all(np.diff([luminance(shade) for shade in shades]) > 0)
    for i, (token, percent) in enumerate(zip(figure.axes[0].texts[::2], figure.axes[0].texts[1::2])):
        assert token.get_text() == tokens[i].replace(" ", "␣") and contrast(token, shades[i]) >= ENOUGH
        assert percent.get_text() == f"{100 * p[i]:.1f} %" and f"{tokens[i]!r} {percent.get_text()}" in alt


def cells(figure):
    return {text.get_position()[::-1]: text.get_text() for text in figure.axes[0].texts}


def test_a_heat_map_has_numbers_in_its_cells_and_grey_where_there_are_none():
    values = np.array([[0.104, np.nan, 0.3], [-0.5, 0.996, 0]])
    figure, alt = plots.heatmap(values, ["a", " b"], ["x", " y", "\n"], "weights")
    (axes,) = figure.axes
    assert cells(figure) == {(0, 0): "0.10", (0, 2): "0.30", (1, 0): "-0.50", (1, 1): "1.00", (1, 2): "0.00"}
    assert np.array_equal(axes.images[0].get_array().filled(np.nan), values, equal_nan=True)
    assert len(set(to_rgb(axes.get_facecolor()))) == 1 and luminance(axes.get_facecolor()) < 0.9
    assert labels(axes.xaxis) == ["x", "␣y", "↵"] and labels(axes.yaxis) == ["a", "␣b"]
    assert "Heat map: weights. 2 rows, 'a' to ' b'; 3 columns, 'x' to " in alt
    assert "largest number is 1.00, in row ' b', column ' y'" in alt
    assert axes.get_title() == "weights"
    assert np.allclose(axes.images[0].norm([0, 0.498, 0.996]), [0, 0.5, 1])
    assert not cells(plots.heatmap(np.eye(15), "a" * 15, "b" * 15, "wide")[0])


@pytest.mark.parametrize("values", [-np.eye(2), np.eye(2) / 1e6])
def test_a_heat_map_whose_numbers_all_round_to_0_is_white(values):
    picture = plots.heatmap(values, "ab", "xy", "loss")[0].axes[0].images[0]
    assert luminance(picture.to_rgba(values.max())) == luminance(picture.cmap(0))


def test_noise_is_a_dot_and_the_alt_text_says_for_each_row_what_is_above_it():
    values = np.array([[0, 9e-6, 2e-7], [1e-5, 1e-6, np.nan], [2e-3, 0.5, 1]])
    figure, alt = plots.heatmap(values, ["the", "late", "the"], ["x", "y", "z"], "error", noise_floor=1e-5)
    dots = {(0, 0): "·", (0, 1): "·", (0, 2): "·", (1, 1): "·"}
    assert cells(figure) == dots | {(1, 0): "1e-5", (2, 0): "2e-3", (2, 1): "5e-1", (2, 2): "1"}
    assert np.allclose(figure.axes[0].images[0].norm([1e-5, 1e-3, 1]), [0, 0.4, 1])
    words = "Rows of noise only, below 1e-5: the. Above it: "
    words += "in late 1 cell (all but y), up to 1e-5; in the 3 cells, up to 1."
    assert alt.replace("'", "").endswith(words)


def test_thumbnails_are_the_maps_and_the_alt_text_names_the_head_that_looks_one_token_back():
    maps = np.random.default_rng(0).uniform(0, 1, (2, 3, 5, 5))
    figure, alt = plots.layers_and_heads(maps)
    for axes, weights in zip(figure.axes, maps.reshape(6, 5, 5), strict=True):
        assert np.array_equal(axes.images[0].get_array(), weights) and axes.images[0].get_clim() == (0, 1)
        assert darkens(axes.images[0].cmap)
    before = {(i, h): sum(maps[i, h, n, n - 1] for n in range(1, 5)) / 4 for i in range(2) for h in range(3)}
    layer, head = max(before, key=before.get)
    assert "2 rows of 3 thumbnails" in alt and "5 by 5 attention weights" in alt
    assert f"just before is head {head} of layer {layer}: {before[layer, head]:.2f} on average" in alt
    assert [axes.get_title() for axes in figure.axes] == ["head 0", "head 1", "head 2", "", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["layer 0", "", "", "layer 1", "", ""]


def test_all_heads_of_the_124m_can_be_read():
    places = read(plots.layers_and_heads(np.ones((12, 12, 2, 2)))[0])
    assert len(places) == 24 and {text.get_text() for text in places} == {str(i) for i in range(12)}


@pytest.mark.parametrize("n, step", [(20, 1), (21, 2), (26, 2), (41, 3)])
def test_if_an_axis_has_too_many_names_some_are_shown_each_in_its_place(n, step):
    names, ones = [f"{i} attn" for i in range(n)], np.ones((1, n))
    for figure, _ in (plots.heatmap(ones, ["a"], names, "w"), plots.curves(names, {"a": ones[0]}, "n", "w")):
        axis = figure.axes[0].xaxis
        assert [*zip(axis.get_ticklocs(), labels(axis))] == [*enumerate(names)][::step]


def test_one_query_is_drawn_from_its_scores_to_its_sum():
    rows = np.array([[4, -2, 6], [2, -1, 3], [2, -1, -np.inf], [0.95, 0.05, 0]])
    figure, alt = plots.one_query(*rows, np.arange(6.0).reshape(3, 2), ["a", " b", "c"], 1)
    for axes, row in zip(figure.axes, rows):
        widths = [x if np.isfinite(x) else 0 for x in row]
        assert [bar.get_width() for bar in axes.patches] == widths
        assert [text.get_position()[0] for text in axes.texts] == [max(x, 0) for x in widths]  # not on a bar
        found = [text.get_text().strip() for text in axes.texts]
        assert found == [f"{x:.2f}".replace("inf", "∞") for x in row]
    image, names = figure.axes[4].images[0], figure.axes[0].get_yticklabels()
    assert np.allclose(image.get_array(), [[0, 0.95], [0.1, 0.15], [0, 0], [0.1, 1.1]])
    assert image.norm(0) == 0.5 and labels(figure.axes[0].yaxis) == ["a", "␣b", "c", "sum"]
    assert [name.get_weight() == "bold" for name in names] == [False, True, False, False]
    assert "' b', token 1, looks at 3 tokens. Scores run from -2.00 to 6.00; " in alt
    assert "scaled, from -1.00 to 3.00" in alt
    assert "hides 1 later token." in alt and "the largest weights are 'a' 0.95, ' b' 0.05" in alt
    zeros = np.zeros(2)
    assert read(plots.one_query(zeros, zeros, zeros, zeros + 0.5, np.eye(2), ["a", "b"], 1)[0])


def test_a_line_breaks_where_there_is_no_number_and_the_alt_text_says_where_it_starts_ends_and_peaks():
    x, lines = [1, 2, 4, 8, 9], {"a": [np.nan, 3, 5, 4, np.inf], "below": [-3.5, -2, -1, -2, -2.5]}
    lines["b"] = [np.inf] * 5
    figure, alt = plots.curves(x, {name: np.array(y) for name, y in lines.items()}, "n", "loss")
    assert "loss by n. a: starts at 3 (2), ends at 4 (8), peaks at 5 (4). " in alt
    assert "below: starts at -3.5 (1), ends at -2.5 (9), peaks at -1 (4). b: nothing but NaN" in alt
    for line, y in zip(figure.axes[0].lines, lines.values(), strict=True):
        drawn = np.c_[x, np.where(np.isfinite(y), y, np.nan)]
        assert np.array_equal(line.get_xydata(), drawn, equal_nan=True)
    assert figure.axes[0].get_yscale() == "linear" and {"n", "loss", *lines} <= {*texts(figure)}


def test_noise_is_a_band_under_curves_on_a_log_scale():
    lines = {"clean": np.array([1e-7, 0, 9e-6]), "bug": np.array([0, 2e-2, 1e-3])}
    figure, alt = plots.curves(["ln_1", "attn", "act"], lines, "step", "error", scale="log", noise_floor=1e-5)
    clean, bug = "clean: below 1e-5 throughout.", "bug: starts below 1e-5 (ln_1), ends at 0.001 (act)"
    assert alt.replace("'", "") == f"Line chart: error by step. {clean} {bug}, peaks at 0.02 (attn)."
    (axes,), (band,) = figure.axes, figure.axes[0].patches
    assert np.allclose(band.get_extents().transformed(axes.transData.inverted()).intervaly, [1e-8, 1e-5])
    assert axes.get_yscale() == "log" and axes.get_ylim()[0] <= 1e-7
    assert {"ln_1", "attn", "act", "clean", "bug", "noise"} <= {*texts(figure)}
    assert axes.lines[0].get_ydata().tolist() == [1e-7, 1e-8, 9e-6]


def test_curves_on_a_log_scale_leave_out_zeros():
    axes = plots.curves([1, 2], {"a": np.array([0, 3])}, "n", "loss", span=(1, 9), scale="log")[0].axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylim() == (1, 9)
    assert np.array_equal(axes.lines[0].get_ydata(), [np.nan, 3], equal_nan=True)


def test_spread_draws_the_range_and_the_mean_with_its_standard_deviation():
    arrays = {"before": np.array([[1.0, 3, 5], [2, 2, 5]]), "after": np.array([[0.0, 0, 0], [-1, 0, 1]])}
    figure, alt = plots.spread(arrays, ["a", " b"])
    for axes, (name, x) in zip(figure.axes, arrays.items(), strict=True):
        mean, std = x.sum(axis=1) / 3, ((x - x.sum(axis=1, keepdims=True) / 3) ** 2 / 3).sum(axis=1) ** 0.5
        thin, thick = (np.array(lines.get_segments())[:, :, 0] for lines in axes.collections)
        assert thin.tolist() == [[min(row), max(row)] for row in x]
        assert np.allclose(thick, np.c_[mean - std, mean + std])
        assert np.allclose(axes.lines[0].get_xydata(), np.c_[mean, [0, 1]])
        assert axes.yaxis_inverted() and axes.get_title() == name
        assert f"{name}, from {min(std):.2f} to {max(std):.2f}" in alt
    assert labels(figure.axes[0].yaxis) == ["a", "␣b"] and "each token's numbers, for 2 tokens" in alt


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


# ---- without colour ----------------------------------------------------------------------------------------


def luminance(color):
    """Relative luminance, as WCAG defines it."""
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(text, shade):
    dark, light = sorted([luminance(text.get_color()), luminance(shade)])
    return (light + 0.05) / (dark + 0.05)


def darkens(cmap):
    return np.all(np.diff([luminance(cmap(i)) for i in range(cmap.N)]) < 0)


@pytest.mark.parametrize("noise_floor", [None, 1e-5])
def test_shades_keep_their_order_in_grey_and_numbers_stand_out_from_them(noise_floor):
    values = np.linspace(0, 1, 140).reshape(10, 14) ** (1 if noise_floor is None else 8)
    axes = plots.heatmap(values, "a" * 10, "b" * 14, "w", noise_floor)[0].axes[0]
    assert darkens(axes.images[0].cmap)
    for text, value in zip(axes.texts, values.flat, strict=True):
        assert contrast(text, axes.images[0].to_rgba(max(value, noise_floor or 0))) >= ENOUGH, text


def test_four_lines_differ_in_dash_marker_and_colour():
    for n, n_markers in ((40, 4), (41, 1)):
        lines = {str(i): np.arange(n) + i for i in range(4)}
        drawn = plots.curves(range(n), lines, "n", "loss")[0].axes[0].lines
        assert len({line.get_linestyle() for line in drawn}) == len({line.get_color() for line in drawn}) == 4
        assert len({line.get_marker() for line in drawn}) == n_markers


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


@pytest.mark.parametrize("name", ["layers_and_heads", "spread"])
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
