"""The page in use: keys, clicks, drawn tokens, the code that it shows, and what a screen reader says."""

import collections
import re

import numpy as np
import pytest
from helpers import ROOT
from reading_pages import BARS, CHOSEN, HEAD, at_each, click, numbers, says, slide, texts

import gpt2
from extras import inside, scoring

pytestmark = pytest.mark.browser
CHIPS, HEADS = "#chips button", "#heads button"
FOCUS = "() => document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"
IN = "buttons => [...document.querySelectorAll(buttons)].indexOf(document.activeElement)"


# ---- keys --------------------------------------------------------------------------------------------------


def press(page, keys, read):
    """What the page shows after each key."""
    found = []
    for key in keys.split():
        page.keyboard.press(key)
        found.append(page.evaluate(read))
    return found


def test_arrow_keys_home_and_end_move_among_the_tokens_and_stop_at_both_ends(page, fox):
    last = len(fox.ids) - 1
    page.locator(f"{CHIPS}[aria-checked=true]").focus()
    moved = press(page, "ArrowRight ArrowRight ArrowLeft Home ArrowLeft ArrowRight End ArrowRight", CHOSEN)
    assert moved == [12, 13, 12, 0, 0, 1, last, last]
    assert page.evaluate(IN, CHIPS) == last
    assert page.locator(f"{CHIPS}[aria-checked=true]").count() == 1


def test_arrow_keys_work_where_nothing_has_the_focus(page, fox):
    assert press(page, "ArrowLeft ArrowLeft ArrowRight", CHOSEN) == [10, 9, 10]
    assert press(page, 19 * "ArrowRight ", CHOSEN)[-1] == len(fox.ids) - 1
    assert press(page, 22 * "ArrowLeft ", CHOSEN)[-1] == 0


@pytest.mark.parametrize(
    "clicked", ["#previous", "#draw", "#part-rows tr:first-child", "#map [data-row='3'] text"]
)
def test_arrow_keys_work_after_a_click_on_what_has_no_use_for_them(page, clicked):
    page.locator(clicked).first.click()
    before = page.evaluate(CHOSEN)
    assert press(page, "ArrowRight ArrowRight ArrowLeft", CHOSEN) == [before + 1, before + 2, before + 1]


def test_arrow_keys_scroll_what_is_wider_than_its_place(page, fox):
    page.set_viewport_size({"width": 390, "height": 800})
    page.locator("#lens-scroll").focus()
    assert press(page, "ArrowLeft ArrowRight", CHOSEN) == 2 * [fox.opening]


def test_up_and_down_move_among_the_tokens_too(page, fox):
    page.locator(CHIPS).nth(5).click()
    assert press(page, "ArrowDown ArrowDown ArrowUp", CHOSEN) == [6, 7, 6]


def test_arrow_keys_in_a_slider_or_the_seed_leave_the_token(page, fox):
    for name in ("slider-temperature", "seed"):
        page.locator(f"#{name}").focus()
        assert press(page, "ArrowLeft ArrowRight ArrowUp", CHOSEN) == 3 * [fox.opening]


def test_arrow_keys_move_among_the_heads_in_two_dimensions(page, fox):
    opened = page.evaluate(HEAD)
    assert divmod(opened, fox.n_head) == (5, 4)
    page.locator(f"{HEADS}[aria-checked=true]").focus()
    moved = press(
        page, "ArrowUp ArrowLeft ArrowUp ArrowRight ArrowDown Home ArrowUp ArrowLeft End ArrowDown", HEAD
    )
    assert moved == [22 + 6, 27 - 6 + 6, 21, 22, 28, 0, 0, 0, 35, 35]
    assert page.evaluate(IN, HEADS) == 35 and page.evaluate(CHOSEN) == fox.opening


STOPS = """() => [...document.querySelectorAll("a, button, input, summary, [tabindex]")].filter(element => {
    const details = element.closest("details");
    const seen = !details || details.open || element.tagName === "SUMMARY";
    return seen && !element.disabled && element.tabIndex >= 0; }).length"""
PLACE = """() => { const all = [...document.querySelectorAll("body *")];
    return document.activeElement === document.body ? -1 : all.indexOf(document.activeElement); }"""


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "all open"])
def test_the_tab_key_reaches_everything_in_the_order_of_the_page_and_leaves_it(opened, page):
    page.evaluate("opened => document.querySelectorAll('details').forEach(x => { x.open = opened; })", opened)
    n_stops = page.evaluate(STOPS)
    forward = press(page, n_stops * "Tab ", PLACE)
    assert forward == sorted(set(forward)) and len(forward) == n_stops > 20
    assert press(page, "Tab", PLACE) == [-1]  # out of the page
    page.locator("#draw").focus()
    back = press(page, 5 * "Shift+Tab ", PLACE)
    assert back == sorted(back, reverse=True)


def test_one_token_and_one_head_are_stops_of_the_tab_key(page):
    for buttons in (CHIPS, HEADS):
        assert page.locator(f"{buttons}[tabindex='0']").count() == 1
        assert page.locator(f"{buttons}[tabindex='0'][aria-checked=true]").count() == 1


def test_what_has_the_focus_is_framed(page):
    for _ in range(page.evaluate(STOPS)):
        page.keyboard.press("Tab")
        style = "(({ outlineStyle, outlineWidth }) => [outlineStyle, parseFloat(outlineWidth)])"
        kind, width = page.evaluate(f"() => {style}(getComputedStyle(document.activeElement))")
        assert kind != "none" and width >= 2, page.evaluate(FOCUS)


# ---- clicks ------------------------------------------------------------------------------------------------


def test_a_click_on_a_token_a_row_of_the_map_or_a_cell_of_the_lens_chooses_it(page):
    for target, position in ((f"{CHIPS} >> nth=3", 3), ("#map [data-row='8'] text >> nth=0", 8)):
        page.locator(target).click()
        assert page.evaluate(CHOSEN) == position
    page.locator("#lens-table td[data-column='6'] >> nth=2").click()
    assert page.evaluate(CHOSEN) == 6
    assert (
        page.locator("#lens-table .chosen").evaluate_all("all => all.map(x => x.dataset.column)") == ["6"] * 8
    )


def test_each_link_of_the_overview_leads_to_a_section_that_is_then_in_view_below_the_bar(page):
    for link in page.locator("#overview a").all():
        link.click()
        section = page.locator(link.get_attribute("href")).bounding_box()
        bar = page.locator("#bar").bounding_box()
        assert bar["y"] + bar["height"] <= section["y"] + 1 < 900


def test_a_click_on_a_head_opens_it(page):
    page.locator(f"{HEADS} >> nth=20").click()
    assert page.evaluate(HEAD) == 20 and page.evaluate(CHOSEN) == 11
    assert "head 2 of layer 3" in page.locator("#map svg").get_attribute("aria-label").lower()


def test_the_buttons_go_to_the_token_before_and_after_and_end_at_the_ends(page, fox):
    disabled = """() => [...document.querySelectorAll("#previous, #following")].map(
        button => button.getAttribute("aria-disabled"))"""
    page.locator("#previous").click()
    assert page.evaluate(CHOSEN) == fox.opening - 1 and page.evaluate(disabled) == ["false", "false"]
    page.locator("#following").click()
    page.locator("#following").press("Enter")
    assert page.evaluate(CHOSEN) == fox.opening + 1
    click(page, CHIPS, 0)
    assert page.evaluate(disabled) == ["true", "false"]
    page.locator("#previous").press("Enter")  # it keeps the focus, and does nothing
    assert page.evaluate(CHOSEN) == 0 and page.evaluate(FOCUS) == "previous"
    click(page, CHIPS, len(fox.ids) - 1)
    assert page.evaluate(disabled) == ["false", "true"]


def test_the_bar_tells_the_chosen_token_what_came_and_how_likely_it_was(page, fox):
    p = gpt2.softmax(fox.logits)
    for position, text in enumerate(page.evaluate(at_each(CHIPS, texts("#now")))):
        came = fox.ids[position + 1] if position + 1 < len(fox.ids) else p[position].argmax()
        click(page, CHIPS, position)
        assert [f"{position + 1}", f"{len(fox.ids)}"] == re.findall(r"\d+", text[0])[:2]
        assert page.evaluate(texts("#now .token")) == [fox.names[fox.ids[position]], fox.names[came]]
        assert any(says(number, p[position, came]) for number in numbers(page, "now"))


# ---- drawing -----------------------------------------------------------------------------------------------


def drawn(page, n):  # -> names of tokens
    """Draw, n times."""
    return page.evaluate(
        """n => Array.from({ length: n }, () => {
            document.getElementById("draw").click();
            return document.getElementById("drawn").lastElementChild.textContent; })""",
        n,
    )


def test_the_same_seed_draws_the_same_tokens_wherever_the_reader_was_before(page):
    slide(page, temperature=2)
    first = drawn(page, 12)
    assert len(first) == 12 and len(set(first)) > 6
    page.locator("#again").click()
    assert page.evaluate(texts("#drawn .token")) == [] and drawn(page, 12) == first
    click(page, CHIPS, 3)
    assert page.evaluate(texts("#drawn .token")) == []
    click(page, CHIPS, 11)
    assert drawn(page, 12) == first
    page.locator("#seed").fill("1")
    assert page.evaluate(texts("#drawn .token")) == [] and drawn(page, 12) != first
    page.locator("#seed").fill("0")
    assert drawn(page, 12) == first


def test_draws_follow_the_probabilities(page, fox):
    n, likely = 300, gpt2.softmax(fox.logits.astype(float))
    position = np.sum(likely * n >= 5, axis=-1).argmax()  # where many tokens are likely
    p = likely[position]
    click(page, CHIPS, int(position))
    counts = collections.Counter(drawn(page, n))
    assert sum(counts.values()) == n
    ids = np.argsort(-p)[: np.sum(p * n >= 5)]
    expected = np.array([*(n * p[ids]), n * (1 - p[ids].sum())])
    observed = np.array([counts[fox.names[i]] for i in ids])
    observed = np.array([*observed, n - observed.sum()])
    chi_square, n_free = np.sum((observed - expected) ** 2 / expected), len(ids)
    assert n_free >= 5 and chi_square < n_free + 4 * (2 * n_free) ** 0.5  # four standard deviations


def mulberry32(seed):  # yields numbers from 0 to 1
    """The random numbers of the page (Tommy Ettinger 2017), in Python's integers."""
    a, most = seed, 2**32 - 1
    while True:
        a = (a + 0x6D2B79F5) & most
        t = (a ^ a >> 15) * (a | 1) & most
        t = (t + ((t ^ t >> 7) * (t | 61) & most) & most) ^ t
        yield (t ^ t >> 14) / 2**32


def test_a_draw_is_the_token_in_whose_share_a_random_number_falls(page, fox):
    p = gpt2.softmax(fox.logits[5].astype(float) / 2)
    click(page, CHIPS, 5)
    slide(page, temperature=2)
    page.locator("#seed").fill("7")
    ids, ends = np.argsort(-p, kind="stable"), np.cumsum(np.sort(p)[::-1])
    places = np.searchsorted(ends, [x for x, _ in zip(mulberry32(7), range(50))], side="right")
    found = drawn(page, 50)
    assert [name for name, place in zip(found, places) if place < 256] == [
        fox.names[ids[place]] for place in places if place < 256
    ]
    assert len({name for name, place in zip(found, places) if place >= 256}) == 1


def test_what_was_drawn_last_is_framed_and_a_cut_token_is_never_drawn(page):
    slide(page, temperature=2, top_k=2)  # the third place: three tokens
    names = [
        name for name, (_, p, _) in zip(page.evaluate(texts("#bars .token")), page.evaluate(BARS)) if p > 0
    ]
    found = drawn(page, 60)
    assert len(names) == 3 and set(found) == set(names)
    assert page.evaluate(texts("#bars .drawn .token")) == found[-1:]


def test_at_temperature_zero_the_likeliest_is_drawn(page, fox):
    slide(page, temperature=0)
    assert set(drawn(page, 20)) == {fox.names[fox.logits[fox.opening].argmax()]}


# ---- the code ----------------------------------------------------------------------------------------------


def test_each_section_opens_its_code_as_it_stands_in_the_source(page):
    for name in ("text", "vectors", "attention", "stream", "lens", "next"):
        details = page.locator(f"#{name} details.code")
        assert not details.locator("pre").first.is_visible()
        details.locator("summary").click()
        assert details.locator("pre").first.is_visible()
        line = details.locator("summary code").text_content()
        path, number = re.search(r"([\w/]+\.py).* (\d+)$", details.locator("summary").text_content()).groups()
        path = re.search(r"(\w+/)*\w+\.py", details.locator(".place").text_content())[0]
        assert (
            (ROOT / path).read_text(encoding="utf-8").splitlines()[int(number) - 1].strip().startswith(line)
        )
        for place, source in zip(details.locator(".quiet").all(), details.locator("pre").all()):
            path = re.search(r"(\w+/)*\w+\.py", place.text_content())[0]
            assert source.text_content() in (ROOT / path).read_text(encoding="utf-8")


# ---- in words ----------------------------------------------------------------------------------------------


def test_each_token_and_head_has_a_name_with_its_number(page, fox):
    p = np.exp(-scoring.nats(fox.ids, fox.params, fox.n_head))
    lines = page.locator("#chips").aria_snapshot().splitlines()
    found = [re.search(r'radio "(.*)"( \[checked\])?', line).groups() for line in lines if "- radio" in line]
    assert [i for i, (_, checked) in enumerate(found) if checked] == [fox.opening]
    for i, (name, _) in enumerate(found):
        assert name.replace('\\"', '"').startswith(fox.names[fox.ids[i]])
        assert i == 0 or says(re.search(r"[<\d.\u202f]+\s%", name)[0], p[i - 1])
    lines = [line for line in page.locator("#heads").aria_snapshot().splitlines() if "radio " in line]
    for place, (line, small) in enumerate(zip(lines, page.evaluate(texts(f"{HEADS} small")))):
        layer, head = divmod(place, fox.n_head)
        assert f"head {head} of layer {layer}" in line and small in line


def test_each_picture_has_its_numbers_in_words(page, fox):
    maps = np.array([*inside.attention_maps(fox.ids, **fox.weights)])
    wte, wpe = fox.params["wte"], fox.params["wpe"]
    for position, head in ((11, 28), (19, 8), (3, 23)):
        click(page, CHIPS, position)
        click(page, HEADS, head)
        pictures = page.locator("[role=img]").all()
        labels = [picture.get_attribute("aria-label") for picture in pictures]
        assert len(labels) == page.locator("main svg").count() == 5
        x = wte[fox.ids[position]] + wpe[position]
        for label, vector in zip(labels, (wte[fox.ids[position]], wpe[position], x)):
            n, low, high = re.search(r"(\d+) numbers, (\S+) to (\S+)$", label).groups()
            assert int(n) == len(vector) and says(low, vector.min()) and says(high, vector.max())
        row = maps[divmod(head, fox.n_head)][position, : position + 1]
        wanted = [(fox.names[fox.ids[key]], weight) for key, weight in enumerate(row) if weight > 0.05]
        for label in labels[3:]:
            found = re.findall(r"(\S+) (\d\.\d\d)\b", re.sub(r" \([^()]*\)$", "", label))
            assert [name for name, _ in found] == [name for name, _ in wanted]
            assert all(says(number, weight) for (_, number), (_, weight) in zip(found, wanted))
