"""--explain: the tables show the probabilities that each token was chosen from."""

import re

import numpy as np
import pytest
from helpers import command

import gpt2
from extras import explain, sampling

SETTINGS = {"temperature": 0.7, "top_k": 6, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.5}


@pytest.fixture
def shown(tiny):
    """The prompt's ids, the new ids, and the tables that --explain writes about them."""
    encoder, hparams, params = tiny
    ids, tables = encoder.encode("The little fox and the"), []
    pick = sampling.picker(ids, rng=np.random.default_rng(0), **SETTINGS)
    pick = explain.explained(pick, ids, SETTINGS, encoder, tables.append)
    return ids, gpt2.generate(ids, params, hparams["n_head"], 8, pick), tables


def test_explaining_a_pick_does_not_change_its_choices(tiny, shown):
    ids, new_ids, tables = shown
    pick = sampling.picker(ids, rng=np.random.default_rng(0), **SETTINGS)
    assert gpt2.generate(ids, tiny[2], tiny[1]["n_head"], 8, pick) == new_ids and len(tables) == 8


def test_the_columns_are_the_probabilities_after_each_filter(tiny, shown):
    encoder, hparams, params = tiny
    ids, new_ids, tables = shown
    for n, text in enumerate(tables):
        so_far = [*ids, *new_ids[:n]]
        logits = gpt2.gpt2(so_far, **params, n_head=hparams["n_head"])[-1]
        best = np.argsort(-logits)[:10]
        steps = [gpt2.softmax(logits)]
        for apply in sampling.filters(**SETTINGS).values():
            logits = apply(logits, so_far)
            steps.append(gpt2.softmax(logits))
        header, *rows = text.strip("\n").split("\n")
        assert header.split() == ["model", "penalty", "temp.", "top_k", "top_p", "min_p"] and len(rows) == 10
        for token_id, row in zip(best[:9], rows):
            assert row.startswith(repr(encoder.decode([token_id])))
            cells = [row[22 + 9 * i : 31 + 9 * i].strip() for i in range(6)]
            for cell, step in zip(cells, steps):
                p = step[token_id]
                assert cell == "" if p == 0 else abs(float(cell[:-1]) - 100 * p) < 0.006


def test_the_arrow_points_to_the_chosen_token(tiny, shown):
    for new_id, text in zip(shown[1], shown[2]):
        (row,) = [line for line in text.split("\n") if line.endswith(" <-")]
        assert row.startswith(repr(tiny[0].decode([new_id])))


def test_a_choice_that_is_not_among_the_likeliest_is_shown_in_the_last_row(tiny):
    columns = {"model": np.linspace(1, 0, 4000)}
    rows = explain.table(columns, 3000, tiny[0]).strip("\n").split("\n")
    assert len(rows) == 11 and rows[-1].endswith(" <-") and "<-" not in "".join(rows[:-1])


def test_a_small_probability_is_shown_and_a_removed_token_is_blank():
    assert explain.percent_cell(4e-5) == "    0.00%" and explain.percent_cell(1e-4) == "    0.01%"
    assert explain.percent_cell(1.0) == "  100.00%" and explain.percent_cell(0.0) == " " * 9


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a" * 19, f"'{'a' * 19}' "),
        ("a" * 20, f"'{'a' * 17}... "),
        ("\n", "'\\n'" + " " * 18),
        ("中文", "'中文'" + " " * 16),  # each as wide as two letters
        ("中" * 10, f"'{'中' * 8}... " + " "),
        ("e\u0301", "'e\u0301'" + " " * 19),
    ],
)
def test_a_token_fits_its_column_whatever_it_is_written_in(text, shown):
    class Encoder:
        def token_bytes(self, token_id):
            return text.encode()

    assert explain.quoted(0, Encoder()) == shown and explain.width(shown) == 22


def test_every_table_is_at_most_80_columns_wide(tiny):
    names = ["model", "penalty", "temp.", "top_k", "top_p", "min_p"]
    for token_id in range(4000):
        text = explain.table(dict.fromkeys(names, np.full(4000, 1.0)), token_id, tiny[0])
        assert text.replace("\n", "").isprintable() and max(map(explain.width, text.split("\n"))) <= 80


def test_every_filter_has_a_name_that_fits_its_column(tiny):
    ids, tables = tiny[0].encode("the fox and the"), []
    settings = {"no_repeat_ngram": 2, "repetition_penalty": 1.1, "temperature": 0.5}
    explain.explained(np.argmax, ids, settings, tiny[0], tables.append)(np.zeros(4000, dtype=np.float32))
    header = tables[0].split("\n")[1]
    assert [header[i : i + 9].strip() for i in range(22, 58, 9)] == ["model", "penalty", "n-gram", "temp."]
    assert all(len(explain.SHORT.get(name, name)) < 9 for name in sampling.FILTERS)


def test_the_command_shows_a_table_for_each_token_and_the_same_text():
    plain = command("The little fox", "5", "tiny")
    done = command("The little fox", "5", "tiny", "--explain")
    assert (done.returncode, done.stdout) == (0, plain.stdout)
    assert len(re.findall(rb" <-$", done.stderr, re.MULTILINE)) == 5
