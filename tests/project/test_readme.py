"""The outputs in the README are what the programs print, and what it names exists."""

import importlib
import re

import pytest
from helpers import ROOT, run_python, without_unbuffered

import weights

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = r"((?:(?!^```).)*)^```"
SHOWN = re.findall(rf"^```(sh|python)\n{BLOCK}\n\n```text\n{BLOCK}", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("language, code, output", SHOWN)
def test_each_output_shown_is_what_is_printed(language, code, output, tmp_path):
    if language == "sh":
        found = re.search(r"^python (gpt2\.py .*)$", code, re.MULTILINE)
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', found[1])]
    else:
        words = ["-c", code]
    elsewhere = {"cwd": tmp_path, "env": without_unbuffered() | {"PYTHONPATH": str(ROOT)}}
    done = run_python(*words, check=True, **(elsewhere if language == "python" else {}))
    assert done.stdout.decode() == output


def test_six_outputs_are_shown():
    assert len(SHOWN) == 6


def test_the_table_of_sizes_gives_those_of_the_presets():
    for name, hparams in weights.PRESETS.items():
        sizes = [hparams[size] for size in ("n_layer", "n_embd", "n_head", "n_ctx", "n_vocab")]
        sizes.append(weights.count(hparams))
        assert f"| `{name}` | {' | '.join(f'{size:,}' for size in sizes)} |\n" in README


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) > 5 and [link for link in links if not (ROOT / link).exists()] == []


def test_every_module_is_in_the_table_and_has_tests():
    for path in ROOT.glob("*.py"):
        assert f"| [`{path.name}`]({path.name}) |" in README
        assert (ROOT / "tests" / "core" / f"test_{path.name}").exists()


EXTRAS = (ROOT / "extras" / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[`([\w/]+\.py)`\]\(([\w/.]+)\) \| (.+) \| `(.+)` \|$", EXTRAS, re.MULTILINE)


def test_every_extra_is_listed_with_its_idea_and_a_call_and_has_tests():
    listed = {name for name, *_ in ROWS}
    for path in (ROOT / "extras").rglob("*.py"):
        name = path.relative_to(ROOT / "extras").as_posix()
        if name == "__init__.py":
            continue
        assert name in listed, name
        room, _, file = name.rpartition("/")
        tested = f"test_{room or file}.py" if file == "__init__.py" else f"test_{file}"
        assert (ROOT / "tests" / "extras" / room / tested).exists(), tested
    assert all(name == link for name, link, *_ in ROWS)


@pytest.mark.parametrize("name, link, idea, call", ROWS)
def test_the_call_that_shows_an_extra_uses_it(name, link, idea, call):
    if call.startswith("python "):
        return
    module = importlib.import_module(
        "extras." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    )
    own, function = re.search(r"\b(\w+)\.(\w+)\(", call.replace("gpt2.generate(", "")).groups()
    assert module.__name__.endswith(own) and callable(getattr(module, function))


def test_the_calls_of_the_extras_run_on_the_bundled_model(tmp_path, monkeypatch):
    names = {}
    exec(re.search(r"^```python\n(.*?)^```", EXTRAS, re.DOTALL | re.MULTILINE)[1], names)
    monkeypatch.chdir(tmp_path)
    calls = [call for *_, call in ROWS if not re.search("^python |openai-community|folder", call)]
    for call in calls:
        assert eval(call, names) is not None or call.startswith("export.save")
    assert len(calls) == 12


def test_the_texts_shown_do_not_depend_on_last_bits(tiny):
    import numpy as np

    import gpt2

    encoder, hparams, params = tiny
    gaps = []

    def pick(logits):
        second, best = np.sort(logits)[-2:]
        gaps.append((best - second) / np.abs(logits).max())
        return np.argmax(logits)

    for prompt in ("The little fox", "Once upon a time"):
        gpt2.generate(encoder.encode(prompt), params, hparams["n_head"], 40, pick)
    assert min(gaps) > 1e-4
