"""A browser for the tests of the page, the README's text as a page, and a check that nothing went wrong."""

import types

import pytest
from reading_pages import browser_path

import gpt2
from extras.page import assemble, command

TEXT = "The little fox looked at the old wolf, and the old"
WIDE = {"width": 1100, "height": 900}


@pytest.fixture(scope="session")
def browser():
    """A browser without a window."""
    reason = "Playwright is not installed: pip install -r tests/requirements-browser.txt"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    path = browser_path()
    if path is None:
        pytest.skip("no Chromium or Chrome on PATH: apt-get install chromium, for example")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


HEARD = []  # what pages asked the network for, and what they wrote to the console


def listen(page):
    """Note all that a page says, and each file that it asks for but its own."""
    page.context.set_default_timeout(5000)
    page.on("console", lambda message: HEARD.append(message.text))
    page.on("pageerror", lambda error: HEARD.append(str(error)))
    page.on("dialog", lambda dialog: (HEARD.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: is_own(request) or HEARD.append(request.url))
    return page


def is_own(request):  # -> bool
    """Whether a request is for the page itself, from the disk."""
    return request.is_navigation_request() and request.url.startswith("file:")


def load(page, path):
    """Open a page from the disk and wait until it is drawn."""
    page.goto(path.as_uri())
    page.wait_for_selector("#bars li")
    return page


@pytest.fixture
def heard():
    """What a page asked the network for, and what it wrote to the console: in the end, nothing."""
    HEARD.clear()
    yield HEARD
    assert HEARD == []


@pytest.fixture
def tab(browser, heard):
    """Opens a page from the disk, in a browser that has no network; options as for Browser.new_context."""
    contexts = []

    def opened(path, **options):
        contexts.append(browser.new_context(offline=True, **{"viewport": WIDE} | options))
        return load(listen(contexts[-1].new_page()), path)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def made(tiny, tmp_path_factory):
    """Writes the page of ids and gives its path; on tiny, if no other model is given."""

    def write(ids, encoder=tiny[0], hparams=tiny[1], params=tiny[2], **options):
        data = command.computed(ids, params, encoder, hparams, "tiny", **options)
        path = tmp_path_factory.mktemp("pages") / "page.html"
        path.write_bytes(assemble.page(data).encode())
        return path

    return write


@pytest.fixture(scope="session")
def fox(tiny, made):
    """The README's text on tiny: the path of its page, and what the model computes."""
    encoder, hparams, params = tiny
    n_head, ids = hparams["n_head"], encoder.encode(TEXT)
    all_ids = [*ids, *gpt2.generate(ids, params, n_head, 8)]
    return types.SimpleNamespace(
        path=made(ids),
        ids=all_ids,
        n_prompt=len(ids),
        opening=len(ids) - 1,
        logits=gpt2.gpt2(all_ids, **params, n_head=n_head),
        params=params,
        weights=params | {"n_head": n_head},
        n_head=n_head,
        names=[assemble.label(encoder.token_bytes(i)) for i in range(hparams["n_vocab"])],
    )


@pytest.fixture(scope="session")
def window(browser):
    """A tab that many tests use, one after another: a new one for each would take twice as long."""
    context = browser.new_context(offline=True, viewport=WIDE)
    yield listen(context.new_page())
    context.close()


@pytest.fixture
def page(fox, window, heard):
    """The page of the README's text, just opened."""
    window.set_viewport_size(WIDE)
    return load(window, fox.path)
