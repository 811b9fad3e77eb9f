"""docs/index.html is the page of the README's text, with the code and the numbers of now."""

import html
import json
import re

import numpy as np
import pytest
from helpers import ROOT, unpacked

import gpt2
from extras.page import assemble, command

TEXT = "The little fox looked at the old wolf, and the old"
PATH = ROOT / "docs" / "index.html"
AGAIN = f'rm docs/index.html && python -m extras.page "{TEXT}" -m tiny --out docs/index.html'
DATA = re.compile(r'(<script type="application/json" id="data">)(.*?)(</script>)', re.DOTALL)


@pytest.fixture(scope="module")
def pages(tiny):
    """The page in docs, and the same made now: two texts."""
    encoder, hparams, params = tiny
    now = command.computed(encoder.encode(TEXT), params, encoder, hparams, "tiny")
    return PATH.read_text(encoding="utf-8"), assemble.page(now)


@pytest.fixture(scope="module")
def data(pages):
    """What the two pages show."""
    return [json.loads(DATA.search(page)[2]) for page in pages]


def arrays(page):  # what a page shows -> {"arrays likely": array, ...}
    groups = ("arrays", "twin", "cuts")
    return {f"{group} {name}": unpacked(array) for group in groups for name, array in page[group].items()}


def bin_sums(bins, t):  # [n_shown, 3, n_bins] -> [n_shown]
    """Σ exp(logit / t) of the logits in bins."""
    n, mean, variance = np.moveaxis(bins.astype(float), 1, 0)
    return np.sum(n * np.exp(mean / t) * (1 + variance / (2 * t * t)), axis=-1)


def test_the_page_in_docs_has_the_style_the_script_and_the_template_of_now(pages):
    before, now = (DATA.sub(r"\1\3", page) for page in pages)
    assert before == now, f"docs/index.html is old; to make it again: {AGAIN}"


def test_the_page_in_docs_shows_the_same_tokens_and_the_same_code(data):
    before, now = (
        {k: v for k, v in page.items() if k not in ("arrays", "twin", "cuts", "labels")} for page in data
    )
    assert before == now, f"docs/index.html is old; to make it again: {AGAIN}"
    labels = [page["labels"] for page in data]
    assert all(labels[1][i] == name for i, name in labels[0].items() if i in labels[1])
    assert len(labels[0].keys() ^ labels[1].keys()) <= 2  # where the 256th and the 257th are as good as equal


def test_the_page_in_docs_has_the_numbers_that_the_model_gives_now(data):
    before, now = map(arrays, data)
    assert before.keys() == now.keys() and len(now) > 20
    for name in now.keys() - {"arrays bins", "arrays likeliest"}:
        assert before[name].shape == now[name].shape and before[name].dtype == now[name].dtype
        if now[name].dtype.kind == "u":
            assert np.array_equal(before[name], now[name]), f"{name} differ; to make the page again: {AGAIN}"
        else:
            tolerance = 1e-5 * np.abs(now[name]).max()
            assert np.allclose(before[name], now[name], rtol=0, atol=tolerance), f"{name} differ: {AGAIN}"


def test_the_page_in_docs_has_the_likeliest_tokens_of_now(data):
    """Where rounding decides, two tokens may change places, and a logit may be in the next bin."""
    before, now = map(arrays, data)
    tolerance = 1e-5 * np.abs(now["arrays logits"]).max()
    for ids, logits, new_ids, new_logits in zip(
        *(d[f"arrays {k}"] for d in (before, now) for k in ("likeliest", "logits"))
    ):
        found, wanted = dict(zip(ids, logits)), dict(zip(new_ids, new_logits))
        for i in found.keys() | wanted.keys():
            assert abs(found.get(i, logits[-1]) - wanted.get(i, new_logits[-1])) < tolerance, AGAIN
    for t in (0.5, 1, 2):
        sums = [bin_sums(arrays_of["arrays bins"], t) for arrays_of in (before, now)]
        assert np.allclose(*sums, rtol=1e-4), AGAIN
    assert np.array_equal(before["arrays bins"][:, 0].sum(-1), now["arrays bins"][:, 0].sum(-1))


def test_the_readme_says_in_words_what_its_picture_shows(data):
    ((path, alt),) = re.findall('<img src="(.*?)" .*alt="(.*?)">', (ROOT / "README.md").read_text("utf-8"))
    shown, opening = data[1], data[1]["n_prompt"] - 1
    name = {int(i): repr(label.replace("␣", " ")) for i, label in shown["labels"].items()}
    left = unpacked(shown["cuts"]["likely"])
    layer, head = np.unravel_index(left.argmin(), left.shape)
    scores = unpacked(shown["arrays"]["scores"])[layer, head, opening, : opening + 1]
    looks = [f"{name[i]} {w:.2f}" for i, w in zip(shown["ids"], gpt2.softmax(scores)) if w > 0.05]
    (next_id, _), (p, _) = (unpacked(shown["arrays"][key])[opening] for key in ("pairs", "pair_likely"))
    from_token = name[shown["ids"][opening]]
    wanted = (
        f"Arcs from the last {from_token} of {TEXT!r} back to the tokens that head {head} of layer {layer} "
        f"looks at: {', '.join(looks)} (weights above 0.05). Below, small maps of all {left.size} heads, "
        f"with the probability of {name[next_id]} without each, which is {100 * p:.1f} % with "
        f"all of them and {100 * left.min():.1f} % without this one; beside them, the large map of this head."
    )
    assert html.unescape(alt) == wanted and path == "docs/page/attention.png"
