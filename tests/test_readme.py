"""What the README prints, the program printed; what it names, exists."""

import re

import pytest
from helpers import ROOT, run_python, without_unbuffered

import checkpoint

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = r"((?:(?!^```).)*)^```"
SHOWN = re.findall(rf"^```(sh|python)\n{BLOCK}\n\n```text\n{BLOCK}", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("language, code, output", SHOWN)
def test_what_is_shown_was_printed(language, code, output, tmp_path):
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


def test_the_table_of_sizes_is_that_of_the_presets():
    for name, hparams in checkpoint.PRESETS.items():
        sizes = [hparams[size] for size in ("n_layer", "n_embd", "n_head", "n_ctx", "n_vocab")]
        sizes.append(checkpoint.count(hparams))
        assert f"| `{name}` | {' | '.join(f'{size:,}' for size in sizes)} |\n" in README


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) > 5 and [link for link in links if not (ROOT / link).exists()] == []


def test_every_module_is_in_the_table_and_has_tests():
    for path in ROOT.glob("*.py"):
        assert f"| [`{path.name}`]({path.name}) |" in README
        assert (ROOT / "tests" / f"test_{path.name}").exists()
    for path in (ROOT / "extras").glob("[!_]*.py"):
        assert f"](extras/{path.name})" in README
        assert (ROOT / "tests" / f"test_{path.name}").exists()


def test_the_text_shown_does_not_hang_on_the_last_bit(tiny):
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
