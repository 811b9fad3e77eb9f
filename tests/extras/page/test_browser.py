"""The page in a browser: it opens with no network, runs only its script, and shows the model's numbers."""

import itertools
import re
import types

import numpy as np
import pytest
from reading_pages import (
    BARS,
    CHOSEN,
    OVERFLOW,
    at_each,
    cells,
    click,
    mentions,
    numbers,
    says,
    settings,
    slide,
    texts,
)

import gpt2
from extras import inside, sampling, scoring
from extras.page import command
from weights import random_params

pytestmark = pytest.mark.browser
CHIPS, HEADS = "#chips button", "#heads button"


# ---- it opens ----------------------------------------------------------------------------------------------


def test_what_a_page_asks_for_and_complains_of_is_heard(page, heard):
    page.evaluate(
        "console.log('a word'); new Image().src = 'data:,'; fetch('https://example.org').catch(() => 0)"
    )
    page.evaluate("setTimeout(() => { throw Error('a fault') })")
    page.wait_for_timeout(100)
    assert "a word" in heard and "a fault" in heard and any("example.org" in line for line in heard)
    heard.clear()


def test_the_page_opens_from_the_disk_at_the_last_token_of_the_prompt(page, fox):
    assert page.url.startswith("file://")
    assert page.evaluate(CHOSEN) == fox.opening
    assert page.evaluate(texts(f"{CHIPS} .token")) == [fox.names[i] for i in fox.ids]


HOSTILE = {
    "markup": "</script><img src=x onerror=alert(1)><!--<script>alert(1)</script>",
    "control characters": "".join(map(chr, [*range(32), *range(127, 160)])),
    "both directions": "\u202eabc \u2066שלום\u2069 مرحبا \u200f!\u202d",
    "characters of several tokens": "🦊👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301\ufffd\ufeff",
    "one long token's worth": "=" * 90,
    "a template's marks": "$data ${script} \\u003c \u2028 &lt;b&gt; `${1}`",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_breaks_the_page_or_runs_as_a_script(text, tiny, made, tab):
    assert_sound(tab(made(tiny[0].encode(text)[:20], n_tokens_to_generate=4)), step=3)


@pytest.mark.parametrize("n", [0, 8])
def test_one_token_is_enough(n, tiny, made, tab):
    page = tab(made(tiny[0].encode("The"), n_tokens_to_generate=n, with_cuts=n > 0))
    assert page.evaluate(CHOSEN) == 0 and page.locator(CHIPS).count() == n + 1
    assert_sound(page)


def test_of_many_tokens_the_last_are_shown_and_the_earlier_ones_are_one_key(tiny, made, tab):
    encoder, hparams, params = tiny
    ids = encoder.encode("Once upon a time there was a king, and the king had a fox. " * 20)[:200]
    page = tab(made(ids, with_cuts=False))
    all_ids = [*ids, *gpt2.generate(ids, params, hparams["n_head"], 8)]
    assert page.locator(CHIPS).count() == 60 and page.evaluate(CHOSEN) == 51
    maps = np.array([*inside.attention_maps(all_ids, **params, n_head=hparams["n_head"])])
    click(page, HEADS, 9)
    weights = [float(row[-1]) for row in page.evaluate(cells("#number-rows tr"))]
    row = maps[1, 3, 199]
    wanted = [row[:148].sum(), *row[148:]]
    assert np.allclose(weights, wanted, atol=6e-5) and len(weights) == 61
    assert_sound(page, step=9)


def test_a_page_without_cuts_and_without_a_twin_is_whole(tiny, made, tab, monkeypatch, capsys):
    monkeypatch.setattr(command, "LARGEST_TWIN", 0)
    page = tab(made(tiny[0].encode("The little fox"), with_cuts=False))
    assert page.locator(f"{HEADS} small").count() == 0
    assert_sound(page)


def assert_sound(page, step=1):
    """Nothing is cut off, no markup comes from the text, and at each token and head all is defined."""
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    for width in (320, 1100):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(OVERFLOW) <= 0, width
    assert (
        page.locator("img, iframe, object, embed, link, body script:not(:nth-last-child(-n+2))").count() == 0
    )
    page.evaluate("document.querySelectorAll('.code').forEach(code => code.remove())")
    read = "() => document.querySelector('main').textContent"
    found = page.evaluate(at_each(f"{CHIPS}:nth-child({step}n + 1)", read))
    for text in found + page.evaluate(at_each(f"{HEADS}:nth-child({step}n + 2)", read)):
        assert not re.search(r"NaN|undefined|Infinity|\[object", text)


# ---- the next token ----------------------------------------------------------------------------------------


def test_the_bars_at_every_position_are_the_likeliest_tokens_with_their_probabilities(page, fox):
    found = np.array(page.evaluate(at_each(CHIPS, BARS)))  # [n_seq, 20, 3]
    p = gpt2.softmax(fox.logits.astype(float))
    ids = np.argsort(-p, axis=-1)[:, :20]
    assert np.array_equal(found[..., 0], ids)
    assert np.abs(found[..., 1] - np.take_along_axis(p, ids, axis=-1)).max() < 1e-6
    assert np.allclose(found[..., 2] / 100, found[..., 1], atol=1e-5)  # as long as they are likely


def test_a_line_in_a_bar_marks_what_it_was_before_the_sliders_changed_it(page, fox):
    read = (
        """() => [...document.querySelectorAll("#bars b")].map(line => parseFloat(line.style.left) / 100)"""
    )
    assert page.evaluate(read) == []
    slide(page, temperature=1.5, top_k=5)
    p = np.sort(gpt2.softmax(fox.logits[fox.opening].astype(float)))[::-1][:20]
    assert np.allclose(page.evaluate(read), p, atol=1e-5)
    slide(page, temperature=1, top_k=10)
    assert page.evaluate(read) == []


COMBINATIONS = [
    *({"temperature": t} for t in (0, 0.05, 0.3, 0.7, 1.35, 2)),
    *({"top_k": place} for place in range(0, 10, 2)),
    *({"top_p": p} for p in (0.05, 0.3, 0.8, 0.95, 0.99)),
    *({"min_p": p} for p in (0.01, 0.1, 0.5)),
    *(
        {"temperature": t, "top_k": k, "top_p": p, "min_p": m}
        for t, k, p, m in zip(
            itertools.cycle((0.5, 1.2, 2)),
            (3, 5, 7, 8, 9, 10, 10, 10, 9),
            (0.5, 0.9, 1) * 3,
            (0, 0, 0.02) * 3,
        )
    ),
    *({"temperature": 2, "top_p": p, "min_p": m} for p, m in ((0.9, 0), (0.99, 0), (1, 0.01), (0.9, 0.05))),
]


def assert_filtered(page, logits):
    """The page shows what sampling.py makes of logits, and says if a cut fell among tokens in bins."""
    chain = sampling.filters(**settings(page)).values()
    wanted = sampling.probabilities(logits, [], chain)
    ids, shares, _ = np.array(page.evaluate(BARS)).T
    in_bins = "256" in page.locator("#exact").text_content()
    assert np.abs(shares - wanted[ids.astype(int)]).max() < (5e-4 if in_bins else 1e-6), settings(page)
    others = 1 - wanted[ids.astype(int)].sum()
    (rest,) = numbers(page, "exact")[:1]
    if in_bins:
        assert abs(float(rest.rstrip("%\xa0")) / 100 - others) < 2e-3, settings(page)
    else:
        assert says(rest, others) or abs(others) < 1e-5, settings(page)
    n_kept = np.isfinite(sampling.filtered(logits, [], chain)).sum()
    assert in_bins == (256 < n_kept < len(wanted)), (settings(page), n_kept)
    return in_bins


@pytest.mark.parametrize("position", [0, 11, 19])
def test_the_sliders_do_what_sampling_does(position, page, fox):
    click(page, CHIPS, position)
    for places in COMBINATIONS:
        slide(page, **{"temperature": 1, "top_k": 10, "top_p": 1, "min_p": 0} | places)
        assert_filtered(page, fox.logits[position])
    assert len(COMBINATIONS) > 30


@pytest.fixture(scope="session")
def flat(made):
    """A random model of 5,000 tokens, which finds all about equally likely: the page, and the logits."""
    hparams = {"n_vocab": 5000, "n_ctx": 32, "n_embd": 64, "n_head": 2, "n_layer": 2}
    params = random_params(hparams, np.random.default_rng(1))
    encoder = types.SimpleNamespace(
        token_bytes=lambda i: b" %d" % i, decode_stream=lambda ids: [*(f" {i}" for i in ids), ""], stop_ids=[]
    )
    path = made([1, 2, 3], encoder, hparams, params, n_tokens_to_generate=0)
    return path, gpt2.gpt2([1, 2, 3], **params, n_head=2)[-1]


def test_where_a_cut_falls_among_tokens_in_bins_the_page_says_so_and_is_nearly_right(flat, tab):
    path, logits = flat
    page, in_bins = tab(path), []
    for places in COMBINATIONS:
        slide(page, **{"temperature": 1, "top_k": 10, "top_p": 1, "min_p": 0} | places)
        in_bins.append(assert_filtered(page, logits))
    assert 5 <= sum(in_bins) < len(in_bins) - 5


def test_the_sliders_obey_the_keyboard(page, fox):
    start = settings(page)
    assert start == {"temperature": 1, "top_k": None, "top_p": None, "min_p": None}
    for name, keys in {
        "temperature": ["Home", "ArrowRight", "ArrowUp", "End", "ArrowLeft", "PageDown"],
        "top_k": ["ArrowLeft", "ArrowDown", "Home", "End"],
        "top_p": ["ArrowLeft", "PageDown", "Home", "End"],
        "min_p": ["ArrowRight", "PageUp", "End", "Home"],
    }.items():
        page.locator(f"#slider-{name}").focus()
        seen = []
        for key in keys:
            page.keyboard.press(key)
            seen.append(settings(page)[name])
            spoken = page.locator(f"#slider-{name}").get_attribute("aria-valuetext")
            assert spoken == page.locator(f"output[for=slider-{name}]").text_content()
            assert_filtered(page, fox.logits[fox.opening])
        assert len(set(seen)) > 2


# ---- the text and the vectors ------------------------------------------------------------------------------


def test_under_each_token_stands_how_likely_it_was(page, fox):
    first, *others = page.evaluate(texts(f"{CHIPS} small"))
    assert first == ""
    p = np.exp(-scoring.nats(fox.ids, fox.params, fox.n_head))
    assert len(others) == len(p) and all(map(says, others, p))
    assert mentions(page, "text-says", np.exp(np.log(p[: fox.opening]).mean()))  # of the prompt's tokens


def test_the_nearest_tokens_are_those_of_the_largest_cosines(page, fox):
    found = page.evaluate(at_each(CHIPS, cells("#nearest li")))
    wte = fox.params["wte"].astype(float)
    directions = wte / np.linalg.norm(wte, axis=-1, keepdims=True)
    for token_id, near in zip(fox.ids, found):
        cosines = directions @ directions[token_id]
        ids = np.argsort(-cosines)[1:9]
        assert [name for name, _ in near] == [fox.names[i] for i in ids]
        assert all(says(cosine, cosines[i]) for i, (_, cosine) in zip(ids, near))


def test_each_bar_of_a_vector_is_as_long_as_its_number(page, fox):
    heights = """() => [...document.querySelectorAll("#strips svg")].map(svg =>
        [...svg.querySelectorAll("path")].flatMap(path =>
            [...path.getAttribute("d").matchAll(/M(\\d+) 50V([\\d.]+)/g)].map(x => [+x[1], 50 - x[2]])))"""
    wte, wpe = fox.params["wte"][fox.ids], fox.params["wpe"][: len(fox.ids)]
    for i, strips in enumerate(page.evaluate(at_each(CHIPS, heights))):
        for numbers_drawn, vector in zip(strips, (wte[i], wpe[i], wte[i] + wpe[i])):
            drawn = np.zeros(len(vector))
            places, values = np.array(numbers_drawn).T
            drawn[places.astype(int)] = values
            largest = np.abs([wte[i], wpe[i], wte[i] + wpe[i]]).max()
            assert np.abs(drawn - 49 * vector / largest).max() < 0.06
