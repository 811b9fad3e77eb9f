"""Bars and lines: their lengths and heights are the data, their names stand where they end."""

import importlib
import itertools

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: see requirements-extras.txt")
plots, style, charts, reading = map(
    importlib.import_module, ("extras.plots", "extras.style", "extras.charts", "reading_pictures")
)
colors = importlib.import_module("matplotlib.colors")
labels, read, texts = reading.labels, reading.read, reading.texts

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # matplotlib 3.9 raises some itself
]

# ---- bars --------------------------------------------------------------------------------------------------


def test_bars_are_the_probabilities_on_a_log_axis_with_the_first_on_top():
    p, tokens = [0.625, 0.3, 0.0004], ["\n", " a", "$"]
    figure, alt = plots.next_tokens(p, tokens, control=[0.1, 0.7, 0.2])
    axes = figure.axes[1]
    assert [bar.get_width() for bar in axes.patches] == p and axes.yaxis_inverted()
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] < 0.0004 and axes.get_xlim()[1] == 1
    assert axes.lines[0].get_xydata().tolist() == [[0.1, 0], [0.7, 1], [0.2, 2]]
    assert labels(axes.yaxis) == ["↵", "␣a", r"\$"] and {"62.5 %", "30.0 %", "0.04 %"} <= {*texts(figure)}
    assert r"'\n' 62.5 %, ' a' 30.0 %, '$' 0.04 %" in alt and "control gives each at most 70 %" in alt
    assert labels(axes.xaxis) == ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"]


def test_the_control_is_named_where_it_is_drawn_and_far_below_it_can_still_be_seen():
    figure, _ = plots.next_tokens([0.9, 0.01], ["a", "b"], control=[2e-5, 3e-5])
    places = {text.get_text(): box for text, box in read(figure).items()}
    x, y = figure.axes[1].transData.transform((2e-5, 0))
    assert places["control"].x0 < x < places["control"].x1 and 0 < places["control"].y0 - y < 30
    left, right = figure.axes[1].bbox.intervalx
    assert (x - left) / (right - left) > 0.02


@pytest.mark.parametrize(
    "p, said",
    [
        (0.5, "50.0 %"),
        (0.001, "0.1 %"),
        (3.2e-5, "0.003 %"),
        (2e-6, "0.0002 %"),
        (1e-9, "< 0.0001 %"),
        (0, "0.0 %"),
    ],
)
def test_small_probabilities_have_one_digit(p, said):
    assert charts.small_percent(p) == said


def test_probabilities_of_0_have_no_bar_and_raise_no_warning():
    figure, alt = plots.next_tokens([1.0, 0.0], ["a", "b"], control=[0.0, 0.5])
    assert read(figure) and "'b' 0.0 %" in alt


def test_bars_have_their_numbers_at_their_ends_and_negative_ones_are_orange():
    figure, alt = plots.bars([3.2, -0.8, 0], [" wolf", "b", "c"], "logit")
    sheet, axes = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [3.2, -0.8, 0]
    shades = [colors.to_hex(bar.get_facecolor()) for bar in axes.patches]
    assert shades == [style.BLUE, style.ORANGE, style.BLUE]
    assert [(text.xy, text.get_text()) for text in axes.texts] == [
        ((3.2, 0), "3.20"),
        ((-0.8, 1), "-0.80"),
        ((0, 2), "0.00"),
    ]
    assert alt == "Bar chart: logit. ' wolf' 3.20; 'b' -0.80; 'c' 0.00."


def test_a_control_is_a_line_or_diamonds_and_what_is_spoken_of_is_framed():
    figure, alt = plots.bars([3, 1], ["a", "b"], "n", control=2, framed=1)
    assert "control 2" in texts(figure) and alt.endswith("The control: 2. Framed: 'b'.")
    (frame,) = figure.axes[0].patches
    (low, high), y = frame.get_window_extent().intervaly, figure.axes[1].transData.transform((0, 1))[1]
    assert low < y < high < figure.axes[1].transData.transform((0, 0))[1]
    assert [name.get_weight() for name in figure.axes[1].get_yticklabels()] == ["normal", "bold"]
    figure, alt = plots.bars([3.0, 1], ["a", "b"], "n", control=[2, 1.5])
    assert figure.axes[1].lines[-1].get_xydata().tolist() == [[2, 0], [1.5, 1]]
    assert alt.endswith("The control: 2.00, 1.50.") and "control" in texts(figure)


@pytest.mark.parametrize("seed", range(5))
def test_no_number_of_a_bar_lies_on_a_bar_or_a_diamond(seed):
    values, control = np.random.default_rng(seed).normal(size=(2, 9))
    figure, _ = plots.bars(values, [str(i) for i in range(9)], "n", control=control)
    axes, places = figure.axes[1], read(figure)
    at = axes.transData.transform(np.c_[control, range(9)])
    for text in axes.texts[:9]:
        for bar in axes.patches:
            assert not bar.get_window_extent().overlaps(places[text].padded(-2))
        assert not any(places[text].contains(*point) for point in at)


@pytest.mark.parametrize(
    "values, said",
    [
        ([124439808, 12], ["124,439,808", "12"]),
        ([0.834, -0.0001], ["0.83", "0.00"]),
        ([0.0123], ["0.012"]),
        ([12.34, 3], ["12.3", "3.0"]),
    ],
)
def test_numbers_at_bars_have_as_many_digits_as_they_need(values, said):
    assert charts.in_digits(np.array(values)) == said


def test_shares_are_parts_of_bars_of_one_length_named_above_the_first():
    parts = {"wte": [1, 2], "MLP": [3.0, 2], "rest": [0.1, 0.1]}
    figure, alt = plots.shares(parts, ["tiny", "124M"], "share of all numbers")
    bars = np.array([[bar.get_x(), bar.get_width()] for bar in figure.axes[1].patches]).reshape(3, 2, 2)
    assert np.allclose(bars[..., 1], [[1 / 4.1, 2 / 4.1], [3 / 4.1, 2 / 4.1], [0.1 / 4.1] * 2])
    assert np.allclose(bars[1:, :, 0], bars[:-1].sum(axis=-1)) and np.all(bars[0, :, 0] == 0)
    assert {"wte", "MLP", "24.4 %", "73.2 %", "48.8 %"} <= {*texts(figure)} and "2.4 %" not in texts(figure)
    assert "'tiny': wte 24.4 %, MLP 73.2 %, rest 2.4 %; '124M': wte" in alt
    for text in figure.axes[1].texts:
        if "%" in text.get_text():
            x, y = text.get_position()
            (bar,) = [
                bar
                for bar in figure.axes[1].patches
                if bar.get_x() < x < bar.get_x() + bar.get_width()
                and bar.get_y() < y < bar.get_y() + bar.get_height()
            ]
            assert reading.contrast(text.get_color(), bar.get_facecolor()) >= reading.ENOUGH


# ---- lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, step", [(20, 1), (31, 1), (33, 2), (65, 3)])
def test_if_an_axis_has_too_many_names_some_are_shown_each_in_its_place(n, step):
    names = [f"{i} attn" for i in range(n)]
    axis = plots.curves(names, {"a": np.ones(n)}, "n", "w")[0].axes[0].xaxis
    assert [*zip(axis.get_ticklocs(), labels(axis))] == [*enumerate(names)][::step]


def test_a_line_breaks_where_there_is_no_number_and_the_alt_text_says_where_it_starts_ends_and_peaks():
    x, lines = [1, 2, 4, 8, 9], {"a": [np.nan, 3, 5, 4, np.inf], "below": [-3.5, -2, -1, -2, -2.5]}
    lines["b"] = [np.inf] * 5
    figure, alt = plots.curves(x, {name: np.array(y) for name, y in lines.items()}, "n", "loss")
    assert "loss by n. a: starts at 3 (2), ends at 4 (8), peaks at 5 (4). " in alt
    assert "below: starts at -3.5 (1), ends at -2.5 (9), peaks at -1 (4). b: nothing but NaN" in alt
    for line, y in zip(figure.axes[0].lines, lines.values()):
        drawn = np.c_[x, np.where(np.isfinite(y), y, np.nan)]
        assert np.array_equal(line.get_xydata(), drawn, equal_nan=True)
    (cross,) = figure.axes[0].lines[3:]
    assert cross.get_xydata().tolist() == [[8, 4]] and cross.get_marker() == "X"
    assert figure.axes[0].get_yscale() == "linear"
    assert {"n", "loss", "a: no number after this", "below", "b: no number"} <= {*texts(figure)}


def test_a_line_is_named_at_its_end_and_no_two_names_touch():
    n = 30
    lines = {f"line {i}": np.linspace(0, 1 + i / 1000, n) for i in range(4)} | {"far": np.zeros(n)}
    figure, _ = plots.curves(range(n), lines, "n", "loss")
    places = {text.get_text(): box for text, box in read(figure).items()}
    boxes = [places[name] for name in lines]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert min(box.x0 for box in boxes) > figure.axes[0].bbox.x1 and places["far"].y1 < places["line 0"].y0
    order = [places[f"line {i}"].y0 for i in range(4)]
    assert order == sorted(order)


@pytest.mark.parametrize("seed", range(5))
def test_heights_that_are_pushed_apart_keep_their_order_and_their_middle(seed):
    given = dict(enumerate(np.random.default_rng(seed).uniform(0, 0.3, 6)))
    found = charts.apart(given, 0.1)
    order = sorted(given, key=given.get)
    assert sorted(found, key=found.get) == order
    assert np.all(np.diff([found[i] for i in order]) > 0.1 - 1e-9)
    assert np.mean([*found.values()]) == pytest.approx(np.mean([*given.values()]))
    assert charts.apart({"a": 0.1, "b": 0.9}, 0.1) == {"a": 0.1, "b": 0.9}


def test_noise_is_a_band_under_curves_on_a_log_scale():
    lines = {"clean": np.array([1e-7, 0, 9e-6]), "bug": np.array([0, 2e-2, 1e-3])}
    figure, alt = plots.curves(["ln_1", "attn", "act"], lines, "step", "error", scale="log", noise_floor=1e-5)
    clean, bug = "clean: below 1e-5 throughout.", "bug: starts below 1e-5 (ln_1), ends at 0.001 (act)"
    assert alt.replace("'", "") == f"Line chart: error by step. {clean} {bug}, peaks at 0.02 (attn)."
    (axes,), (band,) = figure.axes, figure.axes[0].patches
    assert np.allclose(band.get_extents().transformed(axes.transData.inverted()).intervaly, [1e-8, 1e-5])
    assert axes.get_yscale() == "log" and axes.get_ylim()[0] <= 1e-7
    assert {"ln_1", "attn", "act", "clean", "bug", "(noise)"} <= {*texts(figure)}
    assert axes.lines[0].get_ydata().tolist() == [1e-7, 1e-8, 9e-6]


def test_curves_on_a_log_scale_leave_out_zeros():
    axes = plots.curves([1, 2], {"a": np.array([0, 3])}, "n", "loss", span=(1, 9), scale="log")[0].axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylim() == (1, 9)
    assert np.array_equal(axes.lines[0].get_ydata(), [np.nan, 3], equal_nan=True)


def test_four_lines_differ_in_dash_marker_and_colour():
    for n, n_markers in ((20, 4), (21, 1)):
        lines = {str(i): np.arange(n) + i for i in range(4)}
        drawn = plots.curves(range(n), lines, "n", "loss")[0].axes[0].lines
        assert len({line.get_linestyle() for line in drawn}) == len({line.get_color() for line in drawn}) == 4
        assert len({line.get_marker() for line in drawn}) == n_markers
