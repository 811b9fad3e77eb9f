"""The outputs in the README are what the programs print, and what it names exists."""

import importlib
import os
import re
import shlex
import subprocess
import sys

import pytest
from helpers import ROOT, run_python, without_unbuffered

import weights

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = r"((?:(?!^```).)*)^```"
SHOWN = re.findall(rf"^```(sh|python)\n{BLOCK}\n\n```text\n{BLOCK}", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("language, code, output", SHOWN)
def test_each_output_shown_is_what_is_printed_and_a_second_time_too(language, code, output, tmp_path):
    environ = without_unbuffered() | {"PYTHONPATH": str(ROOT)}
    if language == "sh":
        found = re.search(r"^(?:echo .*\| )?python (?:gpt2|-m).*$", code, re.MULTILINE)
        line = found[0].replace("python ", f"{shlex.quote(sys.executable)} ").replace("out/", f"{tmp_path}/")
        words, options = line, {"cwd": ROOT, "shell": True}
    else:
        words, options = [sys.executable, "-c", code], {"cwd": tmp_path}
    for _ in range(2):
        done = subprocess.run(words, check=True, capture_output=True, env=environ, **options)
        assert done.stdout.decode() == output


def test_six_outputs_are_shown():
    assert len(SHOWN) == 6


COMMANDS = re.findall(r"^\| [a-z].* \| `((?:echo|python) .*)` \|$", README, re.MULTILINE)


@pytest.mark.skipif(os.name == "nt", reason="the lines are for a shell that Windows lacks")
@pytest.mark.parametrize("line", COMMANDS)
def test_each_line_to_type_runs_and_writes_something(line, tmp_path):
    if "--top_p" in line:
        line += " --seed 1"  # else a text may be drawn that ends at once
    line = line.replace("fox.svg", shlex.quote(str(tmp_path / "fox.svg")))
    line = line.replace("\\|", "|").replace("python ", f"{shlex.quote(sys.executable)} ")
    options = {"cwd": ROOT, "capture_output": True, "env": without_unbuffered(), "input": b"Once"}
    done = subprocess.run(line, shell=True, **options)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    assert (b"<-" in done.stderr) == ("--explain" in line)
    assert (b"a second" in done.stderr) == ("--stats" in line)


def test_eleven_lines_to_type_are_shown():
    assert len(COMMANDS) == 11


def test_each_command_in_the_text_has_only_options_that_exist():
    commands = re.findall(r"`(python (?:gpt2\.py|-m extras\.[\w.]+) .*?)`", README.replace("\n", " "))
    assert len(commands) > 10
    for line in commands:
        program, *words = shlex.split(line.partition(" <")[0])[1:]
        help_text = run_python(
            *(["-m", words.pop(0)] if program == "-m" else [program]), "--help"
        ).stdout.decode()
        for option in re.findall(r"(?:^|\s)(--?[a-z]\w*)", " ".join(words)):
            assert re.search(rf"(^|, | ){option}\b", help_text, re.MULTILINE), (line, option)


def test_the_first_screen_has_the_command_its_output_the_picture_and_what_next_in_this_order():
    order = [
        "git clone ADDRESS plainGPT && cd plainGPT",
        "requirements.txt",
        "frightened",
        "py -m venv",
        "<img",
    ]
    order += [
        "**Your own words",
        "**OpenAI's model",
        "**The course",
        "**Python",
        "| file |",
        "does not run on a GPU",
    ]
    places = [README.index(text) for text in order]
    assert places == sorted(places)


def test_the_table_of_sizes_gives_those_of_the_presets():
    docs = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    for name, hparams in weights.PRESETS.items():
        sizes = [hparams[size] for size in ("n_layer", "n_embd", "n_head", "n_ctx", "n_vocab")]
        sizes.append(weights.count(hparams))
        assert f"| `{name}` | {' | '.join(f'{size:,}' for size in sizes)} |\n" in docs


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    for path, _, section in (link.partition("#") for link in links):
        text = (ROOT / (path or "README.md")).read_text(encoding="utf-8") if section else ""
        headings = re.findall("^#+ (.*)$", text, re.MULTILINE)
        sections = {re.sub("[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert (ROOT / path).exists() and (not section or section in sections), (path, section)


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
        if path.name in ("__init__.py", "__main__.py"):
            continue
        assert name in listed, name
        room, _, file = name.rpartition("/")
        tests = [f"test_{file}", f"test_{room}_{file}"]  # two rooms may have files of the same name
        assert any((ROOT / "tests" / "extras" / room / each).exists() for each in tests), tests
    assert all(name == link for name, link, *_ in ROWS)


@pytest.mark.parametrize("name, link, idea, call", ROWS)
def test_the_call_that_shows_an_extra_uses_it(name, link, idea, call):
    if call.startswith("python "):
        return
    module = importlib.import_module("extras." + name.removesuffix(".py").replace("/", "."))
    own, function = re.search(r"\b(\w+)\.(\w+)\(", call.replace("gpt2.generate(", "")).groups()
    assert module.__name__.endswith(own) and callable(getattr(module, function))


def test_the_calls_of_the_extras_run_on_the_bundled_model(tmp_path, monkeypatch):
    names = {}
    exec(re.search(r"^```python\n(.*?)^```", EXTRAS, re.DOTALL | re.MULTILINE)[1], names)
    monkeypatch.chdir(tmp_path)
    calls = [call for *_, call in ROWS if not re.search("^python |openai-community|folder", call)]
    for call in calls:
        assert (
            eval(call, names) is not None
            or call.partition("(")[0].endswith("export.save")
            or call.startswith("gguf_files.save")
        )
    assert len(calls) == 51


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
