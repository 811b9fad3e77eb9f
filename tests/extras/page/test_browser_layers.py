"""The page in a browser, layer by layer: attention, the stream and the lens show the model's own numbers."""

import re

import numpy as np
import pytest
from helpers import data_of, unpacked
from reading_pages import NUMBER, at_each, cells, click, mentions, numbers, says, texts

import gpt2
from extras import inside
from weights import random_params

pytestmark = pytest.mark.browser
CHIPS, HEADS = "#chips button", "#heads button"


@pytest.fixture(scope="module")
def maps(fox):
    """[n_layer, n_head, n_seq, n_seq]"""
    return np.array([*inside.attention_maps(fox.ids, **fox.weights)])


@pytest.fixture(scope="module")
def without(fox):
    """How likely the token after the prompt is without each head: [n_layer, n_head]."""
    prompt, next_id = fox.ids[: fox.n_prompt], fox.ids[fox.n_prompt]
    n_layer = len(fox.params["blocks"])
    found = np.zeros((n_layer, fox.n_head))
    for layer, head in np.ndindex(*found.shape):
        params = inside.without_head(fox.params, fox.n_head, layer, head)
        found[layer, head] = gpt2.softmax(gpt2.gpt2(prompt, **params, n_head=fox.n_head)[-1])[next_id]
    return found


# ---- attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 11, 19])
def test_the_numbers_of_a_row_are_scores_and_their_softmax(position, page, fox, maps):
    click(page, CHIPS, position)
    found = page.evaluate(at_each(HEADS, cells("#number-rows tr")))
    steps = [*inside.steps(fox.ids, **fox.weights)]
    for place, rows in enumerate(found):
        layer, head = divmod(place, fox.n_head)
        q, k = steps[layer]["q"][head], steps[layer]["k"][head]
        products = k @ q[position]
        assert [row[0] for row in rows] == [fox.names[i] for i in fox.ids]
        for key, (_, product, scaled, masked, weight) in enumerate(rows):
            assert says(product, products[key]) and says(scaled, products[key] / q.shape[-1] ** 0.5)
            if key <= position:
                assert masked == scaled and says(weight, maps[layer, head, position, key])
            else:
                assert masked == "−∞" and weight == "0"


@pytest.mark.parametrize("position", [3, 11, 19])
def test_the_width_of_an_arc_is_the_weight(position, page, maps):
    click(page, CHIPS, position)
    arcs = (
        """() => [...document.querySelectorAll("#arcs .arc")].map(arc => +arc.getAttribute("stroke-width"))"""
    )
    widths = np.array(page.evaluate(at_each(HEADS, arcs))).reshape(*maps.shape[:2], position + 1)
    back, own = maps[:, :, position, :position], maps[:, :, position, position]
    factor = widths[..., :-1].max() / back.max()
    assert np.allclose(widths[..., :-1], np.maximum(factor * back, widths.min()), atol=1e-4)
    factor = widths[..., -1].max() / own.max()
    assert np.allclose(widths[..., -1], np.maximum(factor * own, widths.min()), atol=1e-4)


def test_the_map_shows_each_weight_above_a_twentieth_and_darker_squares_for_larger_ones(page, maps):
    read = """() => [...document.querySelectorAll("#map [data-row]")].map(row => [
        [...row.querySelectorAll("rect")].map(square =>
            square.style.fill.match(/\\d+/g).reduce((a, b) => +a + +b, 0)),
        [...row.querySelectorAll(".number")].map(text => text.textContent)])"""
    found = page.evaluate(at_each(HEADS, read))
    for place, rows in enumerate(found):
        weights = maps[divmod(place, maps.shape[1])]
        for i, (shades, shown) in enumerate(rows):
            assert len(shades) == i + 1
            assert np.all(np.diff(np.array(shades)[np.argsort(weights[i, : i + 1])]) <= 0)
            large = weights[i, : i + 1][weights[i, : i + 1] > 0.05]
            assert len(large) == len(shown) and all(map(says, shown, large))


def test_each_square_is_the_map_of_its_head(page, maps):
    read = """() => [...document.querySelectorAll("#heads canvas")].map(canvas => [...canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 === 3))"""
    strength = np.array(page.evaluate(read)).reshape(maps.shape) / 255
    assert np.all(strength[np.broadcast_to(np.triu(np.ones(maps.shape[2:]), 1), maps.shape) > 0] == 0)
    in_order = strength.ravel()[np.argsort(maps, axis=None)]
    assert np.diff(in_order).min() > -0.005 and in_order[-1] == 1 and in_order[0] == 0


def test_under_each_head_stands_what_the_next_token_would_be_without_it(page, fox, without):
    shown = page.evaluate(texts(f"{HEADS} small"))
    assert all(says(f"{text} %", p) for text, p in zip(shown, without.ravel())) and len(shown) == without.size
    shades = """() => [...document.querySelectorAll("#heads small")].map(small =>
        getComputedStyle(small).backgroundColor.match(/\\d+/g).reduce((a, b) => +a + +b, 0))"""
    darkness = -np.array(page.evaluate(shades))
    assert np.all(np.diff(darkness[np.argsort(-without, axis=None)]) >= 0)
    assert darkness.argmax() == without.argmin() and np.sum(darkness == darkness.max()) == 1


def test_the_page_opens_the_head_that_matters_most_and_says_by_how_much(page, fox, without):
    checked = page.locator(f"{HEADS}[aria-checked=true]")
    assert checked.count() == 1 and "{} of layer {}".format(*reversed(where(without))) in name_of(checked)
    p = gpt2.softmax(fox.logits[fox.opening])[fox.ids[fox.n_prompt]]
    for value in (p, without.min(), np.median(without)):
        assert mentions(page, "cuts-says", value)


def test_the_numbers_of_the_twin_stand_beside_the_one_head_that_was_cut_in_it(tiny, made, tab):
    encoder, hparams, params = tiny
    ids = encoder.encode("One day the hen said to the duck")
    path = made(ids, n_tokens_to_generate=1)
    shown = data_of(path.read_text("utf-8"))
    said = tab(path).evaluate(at_each(HEADS, texts("#cuts-says")))
    lowest = [i for i, (text,) in enumerate(said) if "lower than without any other head" in text]
    beside = [i for i, (text,) in enumerate(said) if "random twin" in text]
    layer, head = shown["head"]
    assert beside == [6 * layer + head] and lowest == [unpacked(shown["cuts"]["likely"]).argmin()]
    assert beside != lowest
    twin = random_params(hparams, np.random.default_rng(0))
    next_id = gpt2.gpt2(ids, **params, n_head=6)[-1].argmax()
    for model in (twin, inside.without_head(twin, 6, layer, head)):
        p = gpt2.softmax(gpt2.gpt2(ids, **model, n_head=6)[-1])[next_id]
        assert any(says(text, p) for text in re.findall(NUMBER, said[beside[0]][0]))


def where(without):  # -> layer, head
    return np.unravel_index(without.argmin(), without.shape)


def name_of(locator):
    return locator.get_attribute("aria-label")


def test_the_sentence_about_a_head_has_the_largest_weight_of_the_row(page, maps):
    for position in (2, 11, 18):
        click(page, CHIPS, position)
        for place in (0, 7, 23, 28):
            click(page, HEADS, place)
            assert mentions(page, "attention-says", maps[divmod(place, 6)][position].max())


# ---- the stream --------------------------------------------------------------------------------------------


def test_the_parts_add_up_to_the_logits_and_to_their_difference(page, fox):
    tables = page.evaluate(at_each(CHIPS, cells("#part-rows tr")))
    for position, rows in enumerate(tables):
        *parts, total = [[number(text) for text in row] for row in rows]
        came = fox.ids[position + 1] if position + 1 < len(fox.ids) else fox.logits[position].argmax()
        others = np.where(np.arange(len(fox.names)) == came, -np.inf, fox.logits[position])
        logits = [fox.logits[position][came], others.max()]
        assert says(rows[-1][3], logits[0]) and says(rows[-1][4], logits[1])
        assert abs(total[6] - (logits[0] - logits[1])) < 0.0051
        for column in (3, 4, 6):
            assert abs(sum(part[column] for part in parts) - total[column]) <= 0.0051 * (len(parts) + 1)
        assert all(abs(part[3] - part[4] - part[6]) <= 0.0151 for part in parts)


def test_the_sentence_about_the_stream_names_the_head_that_favours_the_token_most(page, fox):
    """At the prompt's end, where the strongest part is the last attention: what each of its heads writes."""
    step, position = [*inside.steps(fox.ids, **fox.weights)][-1], fox.opening
    w, ln_f = fox.params["blocks"][-1]["attn"]["c_proj"]["w"], fox.params["ln_f"]
    writes = step["heads"][:, position, :, None] * w.reshape(
        fox.n_head, -1, w.shape[-1]
    )  # [n_head, d_head, n_embd]
    writes = writes.sum(axis=1)
    x = step["x + mlp"][position]
    normed = ln_f["g"] * (writes - writes.mean(-1, keepdims=True)) / np.sqrt(x.var() + 1e-5)
    came, rival = np.argsort(-fox.logits[position])[:2]
    pushes = normed @ (fox.params["wte"][came] - fox.params["wte"][rival])
    said = numbers(page, "stream-says")
    assert any(says(text, pushes.max()) for text in said) and f"{pushes.argmax()}" in said
    assert mentions(page, "stream-says", fox.logits[position][came] - fox.logits[position][rival])


def number(text):  # -> float
    return float(text.replace("−", "-")) if text and text[-1].isdigit() else 0.0


def test_the_length_of_x_is_that_of_the_residual_stream(page, fox):
    lengths = np.linalg.norm(
        inside.residual_stream(fox.ids, **fox.weights), axis=-1
    )  # [1 + 2 n_layer, n_seq]
    for position, rows in enumerate(page.evaluate(at_each(CHIPS, cells("#part-rows tr")))):
        assert all(says(row[2], length) for row, length in zip(rows, lengths[:, position]))
        assert len(rows) == len(lengths) + 2


def test_a_bar_of_the_stream_is_as_long_as_its_number(page):
    read = """() => [...document.querySelectorAll("#part-rows tr:not(.sum)")].map(row => [
        ...[...row.querySelectorAll("i")].map(bar => parseFloat(bar.style.width)),
        row.lastChild.textContent])"""
    rows = [(row[-2], number(row[-1])) for row in page.evaluate(read)]
    widths, values = np.array(rows).T
    assert np.allclose(widths, 50 * np.abs(values) / np.abs(values).max(), atol=0.3) and widths.max() == 50


# ---- the lens ----------------------------------------------------------------------------------------------


def test_the_lens_shows_what_each_layer_would_say(page, fox):
    stream = inside.residual_stream(fox.ids, **fox.weights)[::2]  # [1 + n_layer, n_seq, n_embd]
    p = gpt2.softmax(gpt2.layer_norm(stream, **fox.params["ln_f"]) @ fox.params["wte"].T)
    head, *rows = page.evaluate(cells("#lens-table tr"))
    assert head[1:] == [fox.names[i] for i in fox.ids] and len(rows) == len(p)
    likely = page.evaluate(texts("#lens-table td small"))
    named = page.evaluate(texts("#lens-table td .token"))
    assert named == [fox.names[i] for i in p.argmax(-1).ravel()]
    assert all(map(says, likely, p.max(-1).ravel())) and len(likely) == p[..., 0].size


def test_the_lens_counts_where_the_last_answer_is_there_half_way(page, fox):
    stream = inside.residual_stream(fox.ids, **fox.weights)[::2]
    ids = (gpt2.layer_norm(stream, **fox.params["ln_f"]) @ fox.params["wte"].T).argmax(-1)
    assert f"{np.sum(ids[3] == ids[-1])}" in numbers(page, "lens-control")
