"""The look of pictures: colours keep their order in grey, letters stand out, tokens are shown whole."""

import importlib

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: see requirements-extras.txt")
style, reading = map(importlib.import_module, ("extras.style", "reading_pictures"))


@pytest.mark.parametrize("colours", [style.AMOUNTS, style.SURPRISE])
def test_more_is_darker(colours):
    assert reading.darkens(colours)


def test_signed_shades_are_lightest_at_0_and_their_hue_says_the_sign():
    lights = [reading.luminance(style.SIGNED(i)) for i in range(style.SIGNED.N)]
    middle = style.SIGNED.N // 2
    assert np.all(np.diff(lights[:middle]) > 0) and np.all(np.diff(lights[middle:]) < 0)
    for share in np.linspace(0, 0.45, 20):
        below, over = style.SIGNED(share), style.SIGNED(1 - share)
        assert below[0] > below[2] and over[0] < over[2]


def test_letters_on_any_shade_stand_out():
    for colours in (style.AMOUNTS, style.SIGNED, style.SURPRISE):
        for i in range(colours.N):
            assert reading.contrast(style.ink(colours(i)), colours(i)) >= reading.ENOUGH
    for grey in np.linspace(0, 1, 256):
        assert reading.contrast(style.ink([grey] * 3), [grey] * 3) >= reading.ENOUGH


@pytest.mark.parametrize("letters", [style.INK, style.QUIET, style.BLUE, style.RUST])
@pytest.mark.parametrize("ground", [style.GROUND, style.PANEL, style.FIRST])
def test_the_colours_of_letters_stand_out_from_every_ground(letters, ground):
    assert reading.contrast(letters, ground) >= reading.ENOUGH


def test_the_four_lines_keep_apart_in_grey():
    lights = sorted(reading.luminance(colour) for colour, _, _ in style.LINES)
    assert np.all((np.array(lights[1:]) + 0.05) / (np.array(lights[:-1]) + 0.05) > 1.4)


def test_no_letters_are_smaller_than_9_pixels_at_100_to_the_inch():
    assert min(style.TITLE, style.TEXT, style.SMALL, style.NUMBER, style.TOKEN) * 100 / 96 >= 9


@pytest.mark.parametrize("p, surprise", [(1, 0), (np.exp(-3.5), 0.5), (np.exp(-7), 1), (1e-30, 1), (0, 1)])
def test_a_shade_is_the_surprise_up_to_seven_nats(p, surprise):
    assert style.surprise(p) == pytest.approx(surprise)
    assert np.allclose(reading.seen(style.shade(p)), style.on_ground(style.ORANGE, 0.06 + 0.9 * surprise))


@pytest.mark.parametrize(
    "token, label",
    [
        (" old", "␣old"),
        ("\n\n", "↵↵"),
        ("é", "é"),
        ("Я", "Я"),
        ("שלום", "שלום"),
        ("狐狸", r"\u72d0\u72f8"),
        (" 🦊", r"␣\U0001f98a"),
        ("\u200b\x07", r"\u200b\x07"),
        ("$x$", r"\$x\$"),
        ("狐" * 9, r"\u72d0\u72d0\u72d0\u72d…"),
    ],
)
def test_a_label_shows_spaces_and_escapes_what_the_fonts_cannot_draw(monkeypatch, token, label):
    monkeypatch.setattr(style, "MONO", style.MONO[:2])  # the two that come with matplotlib
    assert style.spelled(token) == label


def test_a_font_of_this_machine_draws_what_the_others_lack():
    if len(style.MONO) == 2:
        pytest.skip("no font for Chinese is installed")
    assert style.spelled(" 狐狸") == "␣狐狸" and style.spelled("\u200b") == r"\u200b"


def test_names_of_several_words_are_in_a_sans_and_tokens_in_a_monospace():
    assert style.font(["layer 0", "x"]) == style.SANS
    assert style.font(["The", " old", "\n", " "]) == style.font(["ln_1", "c_fc"]) == style.MONO


def test_things_side_by_side_go_on_in_the_next_line_where_they_do_not_fit():
    assert [*style.in_lines([30, 30, 50, 200, 10], 5, 10, 80)] == [
        (0, 10),
        (0, 45),
        (1, 10),
        (2, 10),
        (3, 10),
    ]


def test_every_picture_has_one_width_and_no_frame():
    figure, axes = style.new_figure(style.WIDTH, 2, 1, 2)
    assert figure.get_size_inches()[0] == style.WIDTH == 7.5
    assert not any(spine.get_visible() for one in axes for spine in one.spines.values())
    figure = style.cut(style.canvas(), 96)
    assert figure.get_size_inches().tolist() == [7.5, 1]


def test_a_part_of_a_sheet_lies_where_it_was_put():
    sheet = style.canvas()
    style.cut(sheet, 200)
    box = style.part(sheet, 72, 20, 360, 100).get_position()
    assert np.allclose([box.x0, box.x1, box.y0, box.y1], [0.1, 0.6, 0.4, 0.9])
