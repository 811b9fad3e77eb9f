"""The page as one file: tokens for the eye, true lines of code, and nothing of a text or a name as markup."""

import base64
import copy
import hashlib
import html
import html.parser
import inspect
import json
import re

import numpy as np
import pytest
from helpers import ROOT, data_of, unpacked

from encoder import Encoder, vocabulary
from extras.page import assemble
from extras.page.command import computed
from weights import PRESETS, count

TEMPLATE = (assemble.HERE / "template.html").read_text("utf-8")
TITLE = ("title", None)
FOX = "The little fox looked at the old"
EVIL = [
    "</script><img src=x onerror=alert(1)>",
    "</ScRiPt ><svg/onload=alert(1)>",
    "<!-- <script>",
    "]]>--!><!--",
    "\u2028\u2029\x85",
    "".join(map(chr, [*range(1, 32), 127, *range(128, 160)])),
    "$title $data ${script} $$ $",
    "' \" & &lt;/script&gt; \\u003c/script> \\",
    "{{7*7}} %s {0} `${alert(1)}`",
    "\u202eevil\u2066\u200f",
]


@pytest.fixture(scope="module")
def fox(tiny):
    """What the page of a short prompt shows."""
    encoder, hparams, params = tiny
    return computed(encoder.encode(FOX), params, encoder, hparams, "tiny", 3)


# ---- tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token, shown",
    [
        (b"fox", "fox"),
        (b" fox", "␣fox"),
        (b"  fox  ", "␣␣fox␣␣"),
        (b"the fox", "the fox"),
        (b"  the fox ", "␣␣the fox␣"),
        (b" ", "␣"),
        (b"   ", "␣␣␣"),
        (b"", ""),
        (b"\n", "↵"),
        (b"\n\n", "↵↵"),
        (b" \n", "␣↵"),
        (b"\r\n", r"\r↵"),
        (b"\t", r"\t"),
        (b"a\tb", r"a\tb"),
        (b"\x00\x1b[2J\x7f", r"\x00\x1b[2J\x7f"),
        (b"\xf0\x9f", r"\xf0\x9f"),
        (b" \xe2\x80", r"␣\xe2\x80"),
        (b"\xa6\x8a", r"\xa6\x8a"),
        ("é 日本 🦊".encode(), "é 日本 🦊"),
        ("\u202eabc\u2066".encode(), r"\u202eabc\u2066"),
        ("a\u200db".encode(), r"a\u200db"),
        ("\u00a0\u3000\ufeff\u2028".encode(), r"\xa0\u3000\ufeff\u2028"),
        (b"<|endoftext|>", "<|endoftext|>"),
        (b"a" * 24, "a" * 24),
        (b"a" * 30, "a" * 23 + "…"),
        (b" " * 30, "␣" * 23 + "…"),
        (b"\x00" * 30, r"\x00" * 5 + r"\x0" + "…"),
    ],
)
def test_a_token_is_short_and_every_odd_character_of_it_is_seen(token, shown):
    assert assemble.label(token) == shown
    assert shown.isprintable() and len(shown) <= 24


def test_a_token_that_is_part_of_a_character_names_the_character(tiny):
    encoder = tiny[0]
    ids = encoder.encode("a 🦊é b")
    assert [encoder.token_bytes(i) for i in ids[2:8]] == [bytes([byte]) for byte in "🦊é".encode()]
    assert assemble.characters(ids, encoder) == ["", "", *["🦊"] * 4, *["é"] * 2, ""]


@pytest.mark.parametrize("text", ["The old wolf", "a", " \n\n", "<|endoftext|>"])
def test_a_text_of_whole_characters_names_none(tiny, text):
    ids = tiny[0].encode(text, allowed_special="all")
    assert assemble.characters(ids, tiny[0]) == [""] * len(ids)


def test_an_unfinished_character_has_no_name(tiny):
    fox = tiny[0].encode("🦊")
    assert assemble.characters([*fox, *fox[:3]], tiny[0]) == [*["🦊"] * 4, "", "", ""]
    assert assemble.characters(fox[:1], tiny[0]) == [""]
    assert assemble.characters([], tiny[0]) == []


def test_a_token_after_an_unfinished_character_is_whole(tiny):
    fox, the = tiny[0].encode("🦊"), tiny[0].encode("The")
    for ids in ([*fox[:2], *the], [*fox[2:], *the], [*fox[:2], *the, *fox[2:]]):
        assert assemble.characters(ids, tiny[0]) == [""] * len(ids)


def test_a_token_that_ends_inside_a_character_is_part_of_it():
    """As in GPT-2's vocabulary: a space and two bytes of a quotation mark are one token."""
    merges = [("Ġ", "â"), ("Ġâ", "Ģ"), ("ľ", "a")]
    encoder = Encoder(vocabulary(merges), merges)
    ids = encoder.encode("x “b")
    assert [encoder.token_bytes(i) for i in ids] == [b"x", b" \xe2\x80", b"\x9c", b"b"]
    assert assemble.characters(ids, encoder) == ["", "␣“", "␣“", ""]
    ids = [*ids[:2], encoder.encoder["ľa"]]
    assert encoder.decode(ids) == "x “a" and assemble.characters(ids, encoder) == ["", "␣“a", "␣“a"]


# ---- code --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", assemble.CODE)
def test_lines_and_functions_are_those_of_the_files(section):
    found = assemble.code(*assemble.CODE[section])
    place, number = found["place"].split(", line ")
    path = place.split(", ")[0]
    lines = (ROOT / path).read_text("utf-8").split("\n")
    line = re.sub(r"  #.*", "", lines[int(number) - 1].strip())
    assert line == found["line"] and found["line"]
    assert found["functions"][0][0] == place and f" {line}" in found["functions"][0][1]
    for place, source in found["functions"]:
        path, name = place.split(", ")
        text = (ROOT / path).read_text("utf-8")
        assert f"\n{source}\n" in text and source.startswith(f"def {name}(")
        assert not text.partition(f"\n{source}\n")[2].lstrip("\n").startswith(" ")  # all of it


def test_every_function_that_is_shown_is_named_once_in_its_section(fox):
    for section, (_, function, calls) in assemble.CODE.items():
        names = [place.split(", ")[1] for place, _ in fox["code"][section]["functions"]]
        assert names == [f.__name__ for f in (function, *calls)] and len({*names}) == len(names)
        assert inspect.getsource(function).startswith(fox["code"][section]["functions"][0][1])


# ---- arrays and data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array, kind",
    [
        (np.float32([[1.5, -0.0], [np.inf, 3e38]]), "f4"),
        (np.arange(6).reshape(1, 2, 3), "u4"),
        (np.array(2**32 - 1), "u4"),
        (np.zeros((0, 3), np.float32), "f4"),
        (np.arange(12, dtype=np.float32).reshape(3, 4).T[::2], "f4"),
        (np.arange(4, dtype=">i8"), "u4"),
        (np.float64([0.1]), "f4"),
        ([1, 2], "u4"),
    ],
)
def test_an_array_comes_back_as_it_was(array, kind):
    packed = json.loads(json.dumps(assemble.packed(array)))
    assert packed["type"] == kind and tuple(packed["shape"]) == np.shape(array)
    wanted = np.asarray(array).astype(np.float32 if kind == "f4" else np.uint32)
    assert np.array_equal(unpacked(packed), wanted)
    assert len(base64.b64decode(packed["base64"])) == 4 * np.size(array)


def test_the_data_is_json_and_every_id_that_is_shown_has_a_label(fox, tiny):
    encoder, hparams, _ = tiny
    data = json.loads(json.dumps(fox))
    assert data["hparams"] == hparams | {"n_parameters": count(PRESETS["tiny"])}
    assert (data["model"], data["first"], data["n_prompt"]) == ("tiny", 0, len(encoder.encode(FOX)))
    assert data["ids"][: data["n_prompt"]] == encoder.encode(FOX) and len(data["ids"]) == data["n_prompt"] + 3
    assert {*data["code"]} == {*assemble.CODE}
    shown = {*data["ids"], *unpacked(data["twin"]["lens"]).flat}
    for name in ("nearest", "pairs", "lens", "likeliest"):
        shown |= {*unpacked(data["arrays"][name]).flat}
    assert {*map(int, data["labels"])} == {int(i) for i in shown}
    for i, label in data["labels"].items():
        assert label == assemble.label(encoder.token_bytes(int(i)))


def test_of_a_long_text_the_data_is_about_the_tokens_that_are_shown(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode("The old 🦊 and the wolf. " * 12)
    data = computed(ids, params, encoder, hparams, "tiny", 0, with_cuts=False)
    assert data["first"] == len(ids) - 60 > 0 and data["n_prompt"] == len(ids)
    assert data["ids"] == ids[-60:] and data["cuts"] is None
    assert data["characters"] == assemble.characters(ids, encoder)[-60:]
    assert len(data["characters"]) == len(data["ids"]) == data["arrays"]["wte"]["shape"][0] == 60


# ---- the file ----------------------------------------------------------------------------------------------


class Elements(html.parser.HTMLParser):
    """The elements of a page with the names of their attributes, its policy, and the text of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.names, self.others, self.policy = [], [], None
        self.texts, self.inside = {}, None  # by element and its type
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names.append((tag, *sorted(given)))
        if "http-equiv" in given:
            self.policy = given["content"]
        if tag in ("script", "style", "title"):
            self.inside = (tag, given.get("type"))
            self.texts.setdefault(self.inside, []).append("")

    def handle_endtag(self, tag):
        self.names.append(("/" + tag,))
        self.inside = None

    def handle_data(self, text):
        if self.inside:
            self.texts[self.inside][-1] += text

    def handle_comment(self, text):
        self.others.append(text)

    handle_decl = unknown_decl = handle_pi = handle_comment


def named(data, name):
    return data | {"model": assemble.shown(name, 60)}


def encoder_of(tiny, tokens):
    """The bundled tokenizer, in which the likeliest tokens are called something else."""
    encoder = copy.copy(tiny[0])
    encoder.token_bytes = lambda i: tokens[i % len(tokens)].encode()
    return encoder


def test_no_prompt_name_or_token_makes_an_element(fox, tiny):
    plain = Elements(assemble.page(fox))
    encoder, hparams, params = tiny
    for evil in EVIL:
        ids = encoder.encode(evil)
        for its in (encoder, encoder_of(tiny, EVIL)):
            data = computed(ids, params, its, hparams, evil, 0, with_cuts=False)
            page = assemble.page(data)
            found = Elements(page)
            assert (found.names, found.others) == (plain.names, plain.others), evil
            assert data_of(page) == json.loads(json.dumps(data)), evil
            assert {*re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", page)} == odd_in_files(), evil


def odd_in_files():
    """The control characters that the page's own files have: a tab, perhaps."""
    names = ("template.html", "page.css", *assemble.SCRIPTS)
    files = [(assemble.HERE / name).read_text("utf-8") for name in names]
    return {*re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", "".join(files))}


def test_the_elements_are_those_of_the_template_and_each_text_is_where_it_belongs(fox):
    page = assemble.page(fox)
    found, bare = Elements(page), Elements(TEMPLATE)
    assert found.names == bare.names
    (data,) = found.texts["script", "application/json"]
    assert json.loads(data) == data_of(page) == json.loads(json.dumps(fox))
    assert found.texts[TITLE] == ["The little fox looked at the old · tiny"]


@pytest.mark.parametrize("name", EVIL)
def test_the_title_is_text(fox, name):
    found = Elements(assemble.page(named(fox, name)))
    assert found.texts[TITLE] == [f"The little fox looked at the old · {assemble.shown(name, 60)}"]


def test_a_browser_may_run_and_apply_what_the_file_has_and_load_nothing(fox):
    page = assemble.page(fox)
    found = Elements(page)
    rules = dict(rule.strip().split(" ", 1) for rule in found.policy.split(";"))
    (script,), (style,) = found.texts["script", None], found.texts["style", None]
    for text, rule in ((script, "script-src"), (style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert text and rules.pop(rule) == f"'sha256-{digest}'"
    assert rules == dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    attributes = {name for _, *names in found.names for name in names}
    assert not {name for name in attributes if name == "style" or name.startswith("on")}
    assert {*found.texts} == {("script", None), ("script", "application/json"), ("style", None), TITLE}


def test_the_policy_names_the_script_and_the_style(fox):
    page = html.unescape(assemble.page(fox))
    for names in (["page.css"], assemble.SCRIPTS):
        text = "\n".join((assemble.HERE / name).read_text("utf-8") for name in names)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page and assemble.digest(text) == f"sha256-{digest}"
    assert "default-src 'none'" in page


@pytest.mark.parametrize("token", ["\ufe0f", "\u0301", "\U000e0100", "\u20dd"])
def test_marks_that_cannot_be_seen_alone_are_escaped(token):
    assert assemble.label(token.encode()) == ascii(token)[1:-1]
    assert assemble.label(("e" + token).encode()) == "e" + token


# ---- one look ----------------------------------------------------------------------------------------------


def test_the_page_has_the_colours_of_the_pictures():
    from extras import style

    light = (assemble.HERE / "page.css").read_text("utf-8").partition("@media")[0]
    colours = dict(re.findall(r"--(\w+): (#\w+);", light))
    assert {"ground", "ink", "blue", "orange"} <= colours.keys()
    assert all(getattr(style, name.upper()) == colour for name, colour in colours.items())
