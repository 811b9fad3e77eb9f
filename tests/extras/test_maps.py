"""Pictures with shaded cells: the shades and numbers are the data, and the alt text gives them."""

import importlib

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: see requirements-extras.txt")
plots, style, maps, reading = map(
    importlib.import_module, ("extras.plots", "extras.style", "extras.maps", "reading_pictures")
)
labels, luminance, read, texts = reading.labels, reading.luminance, reading.read, reading.texts

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # matplotlib 3.9 raises some itself
]


def cells(figure):  # -> {(row, column): number}
    return {text.get_position()[::-1]: text.get_text() for text in figure.axes[1].texts}


def frames(figure):  # -> [left, top, right, bottom] of each, in cells
    patches = [patch for axes in figure.axes for patch in axes.patches]
    framed = [patch for patch in patches if patch.get_edgecolor()[:3] == pytest.approx(orange())]
    return [patch.get_path().get_extents().extents.round().tolist() for patch in framed]


def orange():
    return reading.seen(style.ORANGE).tolist()


# ---- maps --------------------------------------------------------------------------------------------------


def test_a_heat_map_has_its_larger_numbers_in_its_cells_and_no_cell_where_there_is_none():
    values = np.array([[0.104, np.nan, 0.3], [-0.5, 0.996, 0.05]])
    figure, alt = plots.heatmap(values, ["a", " b"], ["x", " y", "\n"], "weights")
    axes = figure.axes[1]
    assert cells(figure) == {(0, 0): "0.10", (0, 2): "0.30", (1, 1): "1.00"}
    assert np.array_equal(axes.images[0].get_array().filled(np.nan), values, equal_nan=True)
    assert axes.images[0].to_rgba(values)[0, 1, 3] == 0 and axes.get_facecolor()[3] == 0
    assert labels(axes.xaxis) == ["x", "␣y", "↵"] and labels(axes.yaxis) == ["a", "␣b"]
    assert "Heat map: weights. 2 rows, 'a' to ' b'; 3 columns, 'x' to " in alt
    assert alt.endswith("largest number is 1.00, in row ' b', column ' y'.") and "weights" in texts(figure)
    assert np.allclose(axes.images[0].norm([0, 0.498, 0.996]), [0, 0.5, 1])


def test_the_cells_of_a_heat_map_are_squares_of_one_size():
    for n_rows, n_columns in ((2, 3), (12, 12), (40, 40), (3, 17)):
        names = [str(i) for i in range(40)]
        figure, _ = plots.heatmap(np.ones((n_rows, n_columns)), names[:n_rows], names[:n_columns], "w")
        axes, box = figure.axes[1], figure.axes[1].bbox
        assert axes.get_xlim() == (-0.5, n_columns - 0.5) and axes.get_ylim() == (n_rows - 0.5, -0.5)
        assert box.width / n_columns == pytest.approx(box.height / n_rows) and box.width / n_columns > 14


def test_where_numbers_do_not_fit_it_is_written_what_the_darkest_shade_is():
    figure, _ = plots.heatmap(np.eye(40) * 0.8, ["a"] * 40, ["b"] * 40, "wide")
    assert not cells(figure) and "darkest: 0.80" in " ".join(texts(figure))


def test_signed_numbers_are_blue_above_0_and_orange_below():
    values = np.array([[0.5, -0.25, 0.01, -0.04]])
    figure, alt = plots.heatmap(values, ["a"], list("wxyz"), "change", signed=True)
    image = figure.axes[1].images[0]
    assert cells(figure) == {(0, 0): "0.50", (0, 1): "-0.25"} and image.norm(0) == 0.5
    blue, red = image.to_rgba(values)[0, :2]
    assert blue[2] > blue[0] and red[0] > red[2]
    assert alt.endswith(
        "The largest number is 0.50, in row 'a', column 'w'. "
        "The smallest number is -0.25, in row 'a', column 'x'."
    )


@pytest.mark.parametrize(
    "framed, box, words",
    [
        (1, [0, 1], "Framed: row 'old'."),
        (-2, [0, 1], "Framed: row 'old'."),
        ((2, 1), [1, 1], "Framed: row 'wolf', column 'y'."),
    ],
)
def test_what_is_spoken_of_is_framed_and_its_row_is_bold(framed, box, words):
    values = np.where(np.tri(3), 0.5, np.nan)
    figure, alt = plots.heatmap(values, ["the", "old", "wolf"], list("xyz"), "w", framed=framed)
    row = framed[0] if isinstance(framed, tuple) else 1
    ((left, top, right, bottom),) = frames(figure)
    assert [left + 0.5, right - 0.5] == pytest.approx([box[0], box[1]], abs=0.6)
    assert [top + 0.5, bottom - 0.5] == pytest.approx([row, row], abs=0.6) and alt.endswith(words)
    names = figure.axes[1].get_yticklabels()
    assert [name.get_weight() == "bold" for name in names] == [i == row for i in range(3)]


@pytest.mark.parametrize("values", [-np.eye(2), np.eye(2) / 1e6])
def test_a_heat_map_whose_numbers_all_round_to_0_is_light(values):
    picture = plots.heatmap(values, "ab", "xy", "loss")[0].axes[1].images[0]
    assert luminance(picture.to_rgba(values.max())) == luminance(picture.cmap(0))


def test_noise_is_a_dot_and_the_alt_text_says_for_each_row_what_is_above_it():
    values = np.array([[0, 9e-6, 2e-7], [1e-5, 1e-6, np.nan], [2e-3, 0.5, 1]])
    figure, alt = plots.heatmap(values, ["the", "late", "the"], ["x", "y", "z"], "error", noise_floor=1e-5)
    assert cells(figure) == {(1, 0): "1e-5", (2, 0): "2e-3", (2, 1): "0.5", (2, 2): "1"}
    (dots,) = figure.axes[1].lines
    assert figure.axes[1].get_xlim() == (-0.5, 2.5) and figure.axes[1].get_ylim() == (2.5, -0.5)
    assert {*map(tuple, dots.get_xydata())} == {(0, 0), (1, 0), (2, 0), (1, 1)}
    assert reading.contrast(dots.get_color(), figure.axes[1].images[0].to_rgba(1e-5)) >= reading.ENOUGH
    assert np.allclose(figure.axes[1].images[0].norm([1e-5, 1e-3, 1]), [0, 0.4, 1])
    words = "Rows of noise only, below 1e-5: the. Above it: "
    words += "in late 1 cell (all but y), up to 1e-5; in the 3 cells, up to 1."
    assert alt.replace("'", "").endswith(words) and "dots: noise, below 1e-5" in " ".join(texts(figure))


@pytest.mark.parametrize(
    "value, text", [(0.23, "0.2"), (0.0099, "0.01"), (0.05, "0.05"), (3.4e-4, "3e-4"), (1.2, "1"), (14, "10")]
)
def test_an_error_has_one_digit_and_no_power_of_ten_unless_it_is_small(value, text):
    assert maps.rough(value) == text


@pytest.mark.parametrize("noise_floor", [None, 1e-5])
def test_shades_keep_their_order_in_grey_and_numbers_stand_out_from_them(noise_floor):
    values = np.linspace(0, 1, 140).reshape(10, 14) ** (1 if noise_floor is None else 8)
    axes = plots.heatmap(values, "a" * 10, "b" * 14, "w", noise_floor)[0].axes[1]
    assert reading.darkens(axes.images[0].cmap) and len(axes.texts) > 80
    for text in axes.texts:
        column, row = text.get_position()
        shade = axes.images[0].to_rgba(values[row, column])
        assert reading.contrast(text.get_color(), shade) >= reading.ENOUGH, text


# ---- all heads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framed", [None, (1, 0)])
def test_thumbnails_are_the_maps_and_the_alt_text_names_the_head_that_looks_one_token_back(framed):
    weights = np.random.default_rng(0).uniform(0, 1, (2, 3, 5, 5))
    figure, alt = plots.layers_and_heads(weights, framed)
    shown = [*weights.reshape(6, 5, 5)] + ([weights[1, 0]] if framed else [])
    for axes, one in zip(figure.axes[1:], shown, strict=True):
        assert np.array_equal(axes.images[0].get_array(), one) and axes.images[0].get_clim() == (0, 1)
        assert reading.darkens(axes.images[0].cmap) and axes.bbox.width == pytest.approx(axes.bbox.height)
    before = {
        (i, h): sum(weights[i, h, n, n - 1] for n in range(1, 5)) / 4 for i in range(2) for h in range(3)
    }
    layer, head = max(before, key=before.get)
    assert "2 rows of 3 thumbnails" in alt and "5 by 5 attention weights" in alt
    assert f"just before is head {head} of layer {layer}: {before[layer, head]:.2f} on average." in alt
    assert {"head 0", "head 1", "head 2", "layer 0", "layer 1"} <= {*texts(figure)}
    edges = [axes.spines["left"].get_visible() for axes in figure.axes[1:]]
    assert edges == [False, False, False, bool(framed), False, False] + [True] * bool(framed)
    assert alt.endswith("Framed: head 0 of layer 1.") == bool(framed)
    assert ("head 0 of layer 1" in texts(figure)) == bool(framed)


def test_all_heads_of_the_124m_can_be_read():
    for framed in (None, (7, 3)):
        places = read(plots.layers_and_heads(np.ones((12, 12, 2, 2)), framed)[0])
        assert len(places) == 24 and {text.get_text() for text in places} == {str(i) for i in range(12)}


# ---- vectors -----------------------------------------------------------------------------------------------


def test_strips_are_the_numbers_with_0_in_the_middle_of_the_shades():
    vectors = np.random.default_rng(0).normal(size=(3, 192)).astype(np.float32)
    figure, alt = plots.strips(vectors, ["The", " old", "\n"], "wte")
    axes = figure.axes[1]
    assert np.allclose(axes.images[0].get_array(), vectors) and axes.images[0].norm(0) == 0.5
    assert labels(axes.yaxis) == ["The", "␣old", "↵"] and alt.startswith(
        "Strips: wte: 3 vectors of 192 numbers"
    )
    for name, row in zip(("'The'", "' old'", r"'\n'"), vectors):
        assert f"{name} from {row.min():.2f} to {row.max():.2f}" in alt
        assert f"{row.min():.2f} to {row.max():.2f}" in texts(figure)


def test_a_toy_of_a_few_numbers_has_them_printed():
    vectors = np.array([[2, 1], [0, -3]])
    figure, _ = plots.strips(vectors, ["a", "b"])
    assert cells(figure) == {(0, 0): "2", (0, 1): "1", (1, 0): "0", (1, 1): "-3"}
    for text in figure.axes[1].texts:
        shade = figure.axes[1].images[0].to_rgba(vectors[text.get_position()[::-1]])
        assert reading.contrast(text.get_color(), shade) >= reading.ENOUGH


# ---- one row of attention ----------------------------------------------------------------------------------


def test_one_query_is_drawn_from_its_scores_to_its_sum():
    rows = np.array([[4, -2, 6], [2, -1, 3], [2, -1, -np.inf], [0.95, 0.05, 0]])
    figure, alt = plots.one_query(*rows, np.arange(6.0).reshape(3, 2), ["a", " b", "c"], 1)
    for axes, row in zip(figure.axes[1:], rows):
        widths = [x if np.isfinite(x) else 0 for x in row]
        assert [bar.get_width() for bar in axes.patches] == widths
        below = [reading.seen(bar.get_facecolor()).tolist() == orange() for bar in axes.patches]
        assert below == [width < 0 for width in widths]
        assert [text.get_position()[0] for text in axes.texts] == [max(x, 0) for x in widths]  # not on a bar
        found = [text.get_text().strip() for text in axes.texts]
        assert found == [f"{x:.2f}".replace("inf", "∞") for x in row]
    image, names = figure.axes[5].images[0], figure.axes[1].get_yticklabels()
    assert np.allclose(image.get_array(), [[0, 0.95], [0.1, 0.15], [0, 0], [0.1, 1.1]])
    numbers = [text.get_text() for text in figure.axes[5].texts]
    assert numbers == ["0.00", "0.95", "0.10", "0.15", "0.00", "0.00", "0.10", "1.10"]
    many = plots.one_query(*rows, np.ones((3, 5)), ["a", " b", "c"], 1)[0]
    assert not many.axes[5].texts
    assert image.norm(0) == 0.5 and labels(figure.axes[1].yaxis) == ["a", "␣b", "c", "sum"]
    assert [name.get_weight() == "bold" for name in names] == [False, True, False, False]
    assert "' b', token 1, looks at 3 tokens. Scores run from -2.00 to 6.00; " in alt
    assert "scaled, from -1.00 to 3.00" in alt
    assert "hides 1 later token." in alt and "the largest weights are 'a' 0.95, ' b' 0.05" in alt
    zeros = np.zeros(2)
    assert read(plots.one_query(zeros, zeros, zeros, zeros + 0.5, np.eye(2), ["a", "b"], 1)[0])


@pytest.mark.parametrize("query", [0, 2])
def test_the_row_of_the_token_that_looks_is_shaded(query):
    figure, _ = plots.one_query(*np.eye(4)[:, :3], np.eye(3), list("abc"), query)
    sheet, axes = figure.axes[:2]
    (band,) = sheet.patches
    low, high = band.get_window_extent().intervaly
    middle = axes.transData.transform((0, query))[1]
    assert low < middle < high and high - low == pytest.approx(26, abs=1)


def test_one_name_for_each_row_or_every_second_column_where_there_are_many():
    figure, _ = plots.heatmap(np.ones((1, 41)), ["a"], [f"{i} attn" for i in range(41)], "w")
    axis = figure.axes[1].xaxis
    shown = [*zip(axis.get_ticklocs(), labels(axis))]
    assert shown == [(i, f"{i} attn") for i in range(0, 41, 2)] and read(figure)
