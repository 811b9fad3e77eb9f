"""The picture of a text: its numbers are those of plain forward passes, and all of it can be read."""

import importlib
import itertools
import re
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers import ROOT, SMALL, attention_seen, lively_params, run_python

import gpt2

pytest.importorskip("matplotlib", reason="matplotlib is not installed: see requirements-extras.txt")
picture, style = map(importlib.import_module, ("extras.picture", "extras.style"))
contrast, luminance, seen = (
    getattr(importlib.import_module("reading_pictures"), name) for name in ("contrast", "luminance", "seen")
)
colors, patches = map(importlib.import_module, ("matplotlib.colors", "matplotlib.patches"))

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # matplotlib 3.9 raises some itself
]

TEXT = "The little fox looked at the old wolf, and the old"
ENOUGH = 4.5  # contrast, for WCAG 2.2, 1.4.3
N_HEAD = SMALL["n_head"]
IDS = [5, 9, 5, 80, 3, 11, 5]


def names_of(tokens):  # -> what `draw` needs of an encoder
    """An encoder of these tokens alone; the last ends a text."""
    as_bytes = [token if isinstance(token, bytes) else token.encode() for token in tokens]
    return types.SimpleNamespace(token_bytes=as_bytes.__getitem__, stop_ids={len(tokens) - 1})


LETTERS = names_of([f" {chr(97 + i % 26)}{i}" for i in range(SMALL["n_vocab"])] + ["<|endoftext|>"])


@pytest.fixture(scope="module")
def drawn(tiny):
    """The README's picture: figure, alt, ids with those written, and the number of those given."""
    encoder, hparams, params = tiny
    ids = encoder.encode(TEXT)
    figure, alt = picture.draw(ids, params, hparams["n_head"], encoder)
    return figure, alt, ids + gpt2.generate(ids, params, hparams["n_head"], 6), len(ids)


def plain_softmax(logits):
    logits = logits.astype(float)
    e = np.exp(logits - logits.max())
    return e / e.sum()


def p_without(i, j, next_id, ids, params, n_head):
    """The probability of next_id when the rows of head j in block i are zeros."""
    blocks = [*params["blocks"]]
    c_proj = blocks[i]["attn"]["c_proj"]
    w, d_head = c_proj["w"].copy(), len(c_proj["w"]) // n_head
    for row in range(j * d_head, (j + 1) * d_head):
        w[row] = 0
    blocks[i] = blocks[i] | {"attn": blocks[i]["attn"] | {"c_proj": c_proj | {"w": w}}}
    return plain_softmax(gpt2.gpt2(ids, **params | {"blocks": blocks}, n_head=n_head)[-1])[next_id]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def chips(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, patches.FancyBboxPatch)]


def arcs(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, patches.PathPatch)]


# ---- the numbers -------------------------------------------------------------------------------------------


def test_under_each_token_but_the_first_is_its_probability_by_a_plain_softmax(drawn, tiny):
    figure, alt, ids, _ = drawn
    encoder, hparams, params = tiny
    logits = gpt2.gpt2(ids[:-1], **params, n_head=hparams["n_head"])
    p = [plain_softmax(row)[i] for row, i in zip(logits, ids[1:], strict=True)]
    wanted = [f"{100 * share:.1f} %" for share in p]
    assert [text for text in texts(figure) if re.fullmatch(r"\d+\.\d %", text)] == wanted
    said = [f"{encoder.decode([i])!r} {percent}" for i, percent in zip(ids[1:], wanted)]
    given, written = re.fullmatch(
        r".* token: 'The', (.*)\. Written by the model: (.*)\. Head .*", alt
    ).groups()
    assert given == ", ".join(said[:11]) and written == ", ".join(said[11:])


def test_the_less_likely_a_token_the_darker_its_chip_and_all_letters_stand_out(drawn, tiny):
    figure, _, ids, n = drawn
    logits = gpt2.gpt2(ids[:-1], **tiny[2], n_head=tiny[1]["n_head"])
    p = [plain_softmax(row)[i] for row, i in zip(logits, ids[1:])]
    shades = [seen(chip.get_facecolor()) for chip in chips(figure)]
    assert len(shades) == len(ids)
    assert np.all(np.diff([luminance(shades[i + 1]) for i in np.argsort(p)]) > 0)
    assert all(contrast(style.INK, colour) >= ENOUGH for colour in shades)
    for text in figure.axes[0].texts:
        assert contrast(text.get_color(), style.GROUND) >= ENOUGH


def test_what_the_model_wrote_is_what_greedy_choice_gives_and_is_in_italics(drawn, tiny):
    figure, _, ids, n = drawn
    words = [style.spelled(tiny[0].decode([i])) for i in ids]
    italic = [text.get_text() for text in figure.axes[0].texts if text.get_style() == "italic"]
    assert italic == words[n:] and texts(figure).index("written by the model") > texts(figure).index(
        italic[-1]
    )
    blue = colors.to_rgba(style.BLUE)
    assert [chip.get_edgecolor() == blue for chip in chips(figure)] == [i == n - 1 for i in range(len(ids))]


@pytest.mark.parametrize("head", [None, (0, 3), (5, 4)])
def test_arcs_are_as_thick_as_the_weights_and_go_from_the_last_token_to_each(drawn, tiny, head):
    encoder, hparams, params = tiny
    ids = drawn[2][: drawn[3]]
    figure, alt = drawn[:2]
    if head:
        figure, alt = picture.draw(ids, params, hparams["n_head"], encoder, head=head)
    block, j = head or (5, 4)
    weights = attention_seen(ids, params, hparams["n_head"])[block, j, -1]
    thick = np.array([arc.get_linewidth() for arc in arcs(figure)])
    assert np.allclose(thick / thick.sum(), weights, atol=1e-6)
    ends = np.array([arc.get_path().vertices[[0, -1], 0] for arc in arcs(figure)])
    assert np.all(np.diff(ends[:, 0]) > 0) and np.all(ends[:, 1] == ends[-1, 0])
    names = [style.spelled(encoder.decode([i])) for i in ids]
    shown = [text for text in figure.axes[0].texts if text.get_text()]
    placed = {text.get_position()[0]: text.get_text() for text in shown if not number(text)}
    assert [placed[x] for x in ends[:, 0]] == names
    printed = {text.get_position()[0]: text.get_text() for text in shown if number(text)}
    assert printed == {x: f"{w:.2f}" for x, w in zip(ends[:, 0], weights) if w > 0.05}
    looks = [f"{encoder.decode([i])!r} {w:.2f}" for i, w in zip(ids, weights) if w > 0.05]
    assert f". Weights above 0.05: {', '.join(looks)}. " in alt and f"Head {j} of block {block} looks" in alt


def number(text):
    return re.fullmatch(r"[01]\.\d\d", text.get_text())


def test_the_head_is_the_one_without_which_the_next_token_is_least_likely(drawn, tiny):
    figure, alt, ids, n = drawn
    encoder, hparams, params = tiny
    n_layer, n_head = hparams["n_layer"], hparams["n_head"]
    left = {
        place: p_without(*place, ids[n], ids[:n], params, n_head) for place in np.ndindex(n_layer, n_head)
    }
    p = plain_softmax(gpt2.gpt2(ids[:n], **params, n_head=n_head)[-1])[ids[n]]
    block, head = min(left, key=left.get)
    assert f" Head {head} of block {block} looks back " in alt
    falls = f"falls from {100 * p:.1f} % to {100 * left[block, head]:.1f} %"
    assert (
        f"Without this head, the next token ' wolf' {falls}, further than without any other of the 36" in alt
    )
    assert falls in " ".join(texts(figure))


@pytest.mark.parametrize("seed", range(5))
def test_of_any_model_the_head_and_both_probabilities_are_those_of_plain_forward_passes(seed):
    params = lively_params(SMALL, seed, std=0.3)
    _, alt = picture.draw(IDS, params, N_HEAD, LETTERS)
    p = plain_softmax(gpt2.gpt2(IDS, **params, n_head=N_HEAD)[-1])
    next_id = int(np.argmax(p))
    left = {place: p_without(*place, next_id, IDS, params, N_HEAD) for place in np.ndindex(2, N_HEAD)}
    block, head = min(left, key=left.get)
    assert f"Head {head} of block {block} " in alt
    found = re.search(r"the next token (.*) (falls|rises) from (.*) % to (\d+\.\d) %", alt)
    assert found[1] == repr(LETTERS.token_bytes(next_id).decode())
    assert found[2] == ("falls" if left[block, head] < p[next_id] else "rises")
    assert [float(found[3]), float(found[4])] == pytest.approx(
        [100 * p[next_id], 100 * left[block, head]], abs=0.0501
    )


# ---- the words ---------------------------------------------------------------------------------------------


def said(sentence):
    return "".join(repr(part) if i % 2 else part for i, part in enumerate(sentence))


@pytest.mark.parametrize(
    "tokens, weights, title",
    [
        ("a b c a", [0, 0.9, 0, 0.1], "back from the last 'a' to the 'b' that came after the first 'a'"),
        ("b c a b a", [0.1, 0, 0, 0.9, 0], "back from the last 'a' to the 'b' that came after the first 'a'"),
        ("b a b a b c", [0, 0, 0.6, 0.4, 0, 0], "back from 'c' to an earlier 'b'"),
        ("b c d", [0.3, 0.4, 0.3], "back from 'd' most of all to 'c'"),
        ("a b a c a a", [0, 0.1, 0, 0.3, 0, 0.2], "to the 'c' that came after an earlier 'a'"),
        ("a b", [0.2, 0.8], "back from 'b' to itself"),
        ("a", [1], "back from 'a' to itself"),
    ],
)
def test_the_title_says_in_words_where_the_head_looks(tokens, weights, title):
    assert said(picture.what_it_looks_at(tokens.split(), np.array(weights), 3, 7)).endswith(title)
    assert said(picture.what_it_looks_at(tokens.split(), np.array(weights), 3, 7)).startswith(
        "Head 7 of block 3"
    )


@pytest.mark.parametrize(
    "p, p_less, n_heads, change",
    [
        (0.5, 0.25, 4, "falls from 50.0 % to 25.0 %, further than without any other of the 4 heads."),
        (0.5, 0.25, 1, "falls from 50.0 % to 25.0 %."),
        (0.25, 0.5, 4, "rises from 25.0 % to 50.0 %."),
        (0.25004, 0.25, 4, "stays at 25.0 %."),
    ],
)
def test_what_a_head_does_is_said_as_it_is(p, p_less, n_heads, change):
    assert (
        said(picture.what_it_does("a", p, p_less, n_heads))
        == f"Without this head, the next token 'a' {change}"
    )


# ---- any text, any model -----------------------------------------------------------------------------------

TEXTS = {
    "one": ["The"],
    "two": ["a", "a"],
    "odd": ["The", "\t\r", "\n", "$x$", b"\xf0\x9f", b"\xa6\x8a", " $", "\\", "_^{", "\n\n", "-->", "<&>"],
    "Chinese": ["狐狸", "看着", "，", "שלום", "Привет", "ψυχή"],
    "wide": [" " + "\u2028" * 40, "=" * 64, "狐" * 40, " telecommunications", "W" * 30] * 6,
    "long": [" looked", " at", ",", " the"] * 13 + [" eve", " I"],
}


def sheet(tokens, seed=0, n_layer=2, n_head=3):
    """The picture of a text of these tokens, by a model that knows no others."""
    known = list(dict.fromkeys(tokens)) + [" next", "<|endoftext|>"]
    sizes = SMALL | {"n_vocab": len(known), "n_ctx": 64, "n_layer": n_layer, "n_head": n_head}
    params = lively_params(sizes, seed)
    return picture.draw([known.index(token) for token in tokens], params, n_head, names_of(known))


@pytest.mark.parametrize("n_layer, n_head", [(2, 3), (1, 1)])
@pytest.mark.parametrize("name", TEXTS)
def test_every_text_of_the_picture_is_inside_it_large_enough_and_on_no_other(name, n_layer, n_head):
    figure, alt = sheet(TEXTS[name], n_layer=n_layer, n_head=n_head)
    width, height = figure.get_size_inches() * 96
    figure.set_dpi(960)  # ten times as large, so that letters are hardly rounded to whole pixels
    shown = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent().padded(-5) for text in shown]
    assert width == 900
    for text, box in zip(shown, boxes):
        assert text.get_size() / 0.75 >= 11 and "\ufffd" not in text.get_text()
        assert 0 <= box.x0 and box.x1 <= 9000 and 0 <= box.y0 and box.y1 <= 10 * height, text
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert "\n" not in alt and alt.endswith(".")


def test_the_picture_of_the_readme_is_900_by_about_380_pixels(drawn):
    width, height = drawn[0].get_size_inches() * 96
    assert width == 900 and 350 < height < 400


def test_the_model_writes_up_to_the_end_of_a_text():
    params = lively_params(SMALL, 0)
    free = gpt2.generate(IDS, params, N_HEAD, 6)
    ends = types.SimpleNamespace(token_bytes=LETTERS.token_bytes, stop_ids={free[0]})
    for encoder, n in ((LETTERS, 6), (ends, 1)):
        figure, _ = picture.draw(IDS, params, N_HEAD, encoder)
        assert len(chips(figure)) == len(IDS) + n


@pytest.mark.parametrize(
    "n, n_new, message",
    [
        (55, 6, "55 tokens and 6 new ones, but at most 60 fit in a picture that can be read: shorten"),
        (7, 0, "n_tokens_to_generate is 0: the picture needs 1 or more"),
        (30, 6, "30 prompt tokens and 6 new ones, but the model sees 32"),
        (0, 6, "the prompt is empty"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(params, n, n_new, message):
    with pytest.raises(ValueError, match=message):
        picture.draw([5] * n, params, N_HEAD, LETTERS, n_new)


# ---- the command -------------------------------------------------------------------------------------------


def run(*words, **options):
    return run_python("-m", "extras.picture", *words, **options)


def title(svg):
    return ET.fromstring(svg).find("{http://www.w3.org/2000/svg}title").text


def test_the_picture_of_the_readme_is_the_one_that_the_program_makes_now(drawn):
    assert title((ROOT / "docs" / "looks-back.svg").read_bytes()) == drawn[1]


def test_the_command_writes_the_same_picture_each_time_with_its_words(drawn, tmp_path):
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "new/a.png", "new/b.PNG")]
    for path in paths:
        done = run(TEXT, str(path), "--model_size", "tiny")
        assert (done.returncode, done.stderr, done.stdout.decode()) == (0, b"", drawn[1] + "\n")
    svg, again, png, png_again = (path.read_bytes() for path in paths)
    assert svg == again and png == png_again
    assert title(svg) == drawn[1] and b"<text" not in svg and b"<dc:date>" not in svg
    from PIL import Image

    image = Image.open(paths[2])
    assert image.size[0] == 1800 and image.text["Title"] == drawn[1]


def test_a_text_may_come_from_standard_input_in_any_alphabet(tmp_path):
    piped = run(
        "-", str(tmp_path / "a.svg"), "--model_size=tiny", "--n_tokens_to_generate=2", input="狐 $\n".encode()
    )
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert r"'\\xe7', '\\x8b'" in piped.stdout.decode() and title((tmp_path / "a.svg").read_bytes())


def test_a_special_token_is_one_chip_with_special_and_plain_text_without(tmp_path):
    words = ["<|endoftext|>The fox", str(tmp_path / "a.svg"), "-n=1", "-m=tiny"]
    done = run(*words, "--special")
    assert (done.returncode, done.stderr) == (0, b"") and b": '<|endoftext|>', 'The' " in done.stdout
    done = run(words[0], str(tmp_path / "b.svg"), *words[2:])
    assert b"'<', '|'" in done.stdout and b"is read as plain text; --special makes it" in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "give a text and a file: python -m extras.picture TEXT FILE"),
        (["Once", "{}/a.pdf"], r"the picture's file is '.*a\.pdf': give the name of a \.svg or \.png"),
        (["Once", "{}/old.svg"], r"old\.svg exists: name a new file"),
        (["", "{}/a.svg"], "give a text and a file: python -m extras.picture TEXT FILE"),
        ([], "give a text and a file"),
        (["a, " * 40, "{}/new/a.svg"], "81 tokens and 6 new ones, but at most 60 fit in a picture"),
        (["Once", "{}/a.svg", "--n_tokens_to_generate=0"], "n_tokens_to_generate is 0: the picture needs 1"),
        (["Once", "{}/a.svg", "--size=9"], "there is no option '--size': did you mean --model_size"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(tmp_path, words, message):
    (tmp_path / "old.svg").write_text("mine")
    done = run(*[word.format(tmp_path) for word in words], *["--model_size=tiny"][: len(words)])
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert re.search(message, done.stderr.decode())
    assert [path.name for path in tmp_path.iterdir()] == ["old.svg"]
    assert (tmp_path / "old.svg").read_text() == "mine"


def test_without_matplotlib_one_line_says_what_to_install():
    done = run_python("-c", "import sys; sys.modules['matplotlib'] = None; import extras.picture")
    assert done.stderr.decode().strip().split("\n")[-1].endswith(": pip install -r requirements-extras.txt")
