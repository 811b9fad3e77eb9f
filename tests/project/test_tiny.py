"""The bundled model: the claims of its card, computed from its files on stories that it has not seen."""

import copy
import re
import shutil
from functools import partial

import numpy as np
import pytest
from helpers import ROOT, SMALL, TINY, run

import checkpoint
import gpt2
import weights
from encoder import END_OF_TEXT
from extras import sampling, scoring
from files import ModelError
from training import measure

CARD = (TINY / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def stories():
    return scoring.split_documents((ROOT / "tests" / "stories.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def counts():
    return dict(np.load(TINY / "counts.npz"))


@pytest.fixture(scope="session")
def stories_bits(tiny, stories, counts):
    """Bits per byte of the stories, by the model, by pairs and by single tokens."""
    encoder, hparams, params = tiny
    surprises = {
        "this model": partial(scoring.nats, params=params, n_head=hparams["n_head"]),
        "bigram": partial(measure.bigram_nats, counts=counts),
        "unigram": partial(measure.unigram_nats, counts=counts),
    }
    return {name: scoring.bits_per_byte(stories, encoder, surprise) for name, surprise in surprises.items()}


@pytest.fixture(scope="session")
def twin(tiny):
    """A model of the same sizes that has learned nothing: the control."""
    return weights.random_params(tiny[1], np.random.default_rng(0))


# ---- files -------------------------------------------------------------------------------------------------


def test_it_is_laid_out_like_a_released_gpt2_in_a_few_megabytes_of_float16(tiny):
    encoder, hparams, _ = tiny
    assert hparams["n_layer"] >= 4 and hparams["n_ctx"] >= 256 and 2000 <= hparams["n_vocab"] <= 4000
    assert encoder.encoder[END_OF_TEXT] == hparams["n_vocab"] - 1
    variables = checkpoint.read_checkpoint(TINY / "model.ckpt")
    assert {array.dtype for array in variables.values()} == {np.dtype("float16")}
    assert {f"model/{name}" for name in weights.shapes(hparams)} == variables.keys()
    assert sum(path.stat().st_size for path in TINY.iterdir() if path.is_file()) < 8e6
    assert (TINY / "counts.npz").stat().st_size < 1e6


def test_no_array_is_constant(tiny):
    _, _, params = tiny
    for name, array in weights.flatten(params).items():
        assert len(np.unique(array)) > array.size**0.5, name


# ---- what it learned ---------------------------------------------------------------------------------------


def test_it_predicts_stories_better_than_counts_do(stories_bits):
    assert stories_bits["this model"] < stories_bits["bigram"] - 0.4 < stories_bits["unigram"] - 0.9


def test_the_more_it_has_read_the_better_it_predicts(tiny, stories):
    encoder, hparams, params = tiny
    surprise = partial(scoring.nats, params=params, n_head=hparams["n_head"])
    losses = measure.loss_by_position(stories, encoder, surprise, hparams["n_ctx"])
    assert losses[:4].mean() > losses[4:16].mean() > losses[16:].mean() + 0.1


def test_a_repeated_passage_is_predicted_by_induction(tiny, twin):
    _, hparams, params = tiny
    gain, scores = measure.induction(params, hparams["n_head"], np.random.default_rng(0))
    nothing, untrained = measure.induction(twin, hparams["n_head"], np.random.default_rng(0))
    assert gain >= 1 and scores.max() > 0.3
    assert abs(nothing) < 0.05 and untrained.max() < 0.05


@pytest.mark.parametrize("prompt", ["The little fox", "Once upon a time", '"Who are you?"', "é", "1", "\n"])
def test_greedy_text_has_no_broken_character(tiny, prompt):
    encoder, hparams, params = tiny
    text = encoder.decode(gpt2.generate(encoder.encode(prompt), params, hparams["n_head"], 100))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "\ufffd" not in text


# ---- the card ----------------------------------------------------------------------------------------------


def rows(text):
    """The numbers in the rows of its tables, by the first cell."""
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {
        row[0].strip(): [float(n) for n in row[1:]]
        for row in cells
        if len(row) > 1 and re.fullmatch(r" *\d+\.\d+ *", row[1])
    }


def test_the_card_gives_the_number_of_parameters(tiny):
    n_parameters = sum(array.size for array in weights.flatten(tiny[2]).values())
    assert f"{n_parameters:,} parameters" in CARD and "@" not in CARD


def test_the_card_gives_the_bits_per_byte_that_are_measured(stories_bits):
    row = re.search(
        r"`tests/stories.txt`.*: ([\d.]+) bits per byte, bigram ([\d.]+), unigram ([\d.]+)\.", CARD
    )
    assert [float(bits) for bits in row.groups()] == pytest.approx([*stories_bits.values()], abs=0.002)


def test_the_card_gives_the_induction_that_is_measured(tiny):
    _, hparams, params = tiny
    gain, scores = measure.induction(params, hparams["n_head"], np.random.default_rng(0))
    assert float(re.search(r"are ([\d.]+) nats easier", CARD)[1]) == pytest.approx(gain, abs=0.01)
    for layer, row in enumerate(scores):
        assert rows(CARD)[f"layer {layer}"] == pytest.approx(row, abs=0.01)


def test_the_card_shows_what_the_model_wrote(tiny):
    encoder, hparams, params = tiny
    samples = re.findall(r"^`([^`\n]+)`, seed (\d+):\n\n```text\n(.*?)\n```", CARD, re.MULTILINE | re.DOTALL)
    assert len(samples) == 3
    assert "sampling.picker(ids, temperature=0.8, top_k=40, rng=np.random.default_rng(seed))" in CARD
    for prompt, seed, text in samples:
        ids = encoder.encode(prompt)
        pick = sampling.picker(ids, temperature=0.8, top_k=40, rng=np.random.default_rng(int(seed)))
        new_ids = gpt2.generate(ids, params, hparams["n_head"], 80, pick)
        assert prompt + encoder.decode(new_ids) == text


# ---- the measures ------------------------------------------------------------------------------------------


def test_a_text_is_split_at_whole_lines_only():
    end = "<|endoftext|>\n"
    text = f"one\n\n{end}two {end} {end}{end}{end}last\n<|endoftext|>"
    assert scoring.split_documents(text) == ["one\n\n", "two <|endoftext|>\n <|endoftext|>\n", "last\n"]
    assert scoring.split_documents("no line") == ["no line"] and scoring.split_documents("") == []


def test_nats_are_minus_the_log_of_the_probability_in_windows_of_n_ctx(params):
    ids = np.random.default_rng(0).integers(SMALL["n_vocab"], size=75)  # windows score 32, 32 and 10
    slow = []
    for i in range(1, len(ids)):
        start = (i - 1) // 32 * 32 if i <= 64 else 75 - 1 - 32
        logits = gpt2.gpt2(ids[start:i], **params, n_head=3)[-1].astype(float)
        slow.append(-np.log(np.exp(logits[ids[i]]) / np.exp(logits).sum()))
    assert scoring.nats(ids, params, 3) == pytest.approx(slow, rel=1e-4)


def test_bits_per_byte_count_every_token_and_every_byte(tiny):
    encoder = tiny[0]
    n_tokens = len(encoder.encode("fox")) + len(encoder.encode("日本"))

    def one_bit(ids):
        assert ids[0] == encoder.encoder[END_OF_TEXT]
        return np.full(len(ids) - 1, np.log(2), dtype=np.float32)

    assert scoring.bits_per_byte(["fox", "日本"], encoder, one_bit) == pytest.approx(n_tokens / (3 + 6))


def test_the_probabilities_of_both_counting_models_sum_to_one(counts):
    n_vocab = len(counts["unigrams"])
    for first in np.append(np.argsort(counts["unigrams"])[[0, 1, -2, -1]], n_vocab - 1):
        pairs = np.stack([np.full(n_vocab, first), np.arange(n_vocab)], axis=1)
        after = measure.bigram_nats(pairs.ravel(), counts)[::2]
        assert np.exp(-after).sum() == pytest.approx(1)
    assert np.exp(-measure.unigram_nats(np.arange(-1, n_vocab), counts)).sum() == pytest.approx(1)


def test_a_bigram_is_nine_tenths_its_share_and_one_tenth_frequency():
    counts = {
        "unigrams": np.array([3, 1, 0]),
        "bigrams": np.array([[0, 0], [0, 1]]),
        "bigram_counts": np.array([2, 1]),
    }
    probabilities = np.exp(-measure.bigram_nats([0, 1, 0], counts))
    assert probabilities == pytest.approx(
        [0.9 / 3 + 0.1 * 2 / 7, 4 / 7]
    )  # 0, 1 was counted; what follows 1 was not


@pytest.mark.parametrize(
    "argv, status, message",
    [
        ([], 2, "training.measure: give a text: "),
        (["nowhere.txt"], 1, "nowhere.txt"),
        (["nowhere.txt", "tiny", "more"], 2, "'more' is one word too many"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(capsys, argv, status, message):
    assert run(argv, "training.measure") == status
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err


@pytest.mark.parametrize(
    "measured, names",
    [
        ("tiny", {"this model", "bigram", "unigram", "gzip -9"}),
        ("124M", {"this model", "gzip -9"}),
        ("owner/name@main", {"this model", "gzip -9"}),
    ],
)
def test_a_model_without_counts_is_measured_alone(tiny, tmp_path, capsys, monkeypatch, measured, names):
    (tmp_path / "story.txt").write_text("The little fox ran home. " * 100)
    monkeypatch.setattr(measure, "load_encoder_hparams_and_params", lambda *_, **__: tiny)
    measure.command(str(tmp_path / "story.txt"), measured)
    found = {name for name in rows(capsys.readouterr().out) if "layer" not in name}
    assert found == names | {"nats a token"}


def assert_refused(capsys, message, *argv):
    """One line on stderr, and not half a table on stdout."""
    status = run(argv, "training.measure")
    out, err = capsys.readouterr()
    assert status in (1, 2) and out == "" and len(err.splitlines()) == 1 and message in err, err


COUNTS = ("unigrams", "bigrams", "bigram_counts")


def changed(counts, name, index, value):
    """The counts with one number replaced."""
    again = {key: array.astype(int) for key, array in counts.items()}
    again[name][index] = value
    return again


FOREIGN = {  # what a change makes of the counts in the folder
    "another vocabulary": lambda c: c | {"unigrams": np.ones(400, np.uint32)},
    "a name is missing": lambda c: {name: c[name] for name in COUNTS[:2]},
    "no pairs": lambda c: {name: c[name][: 4000 * (name == "unigrams")] for name in COUNTS},
    "shapes differ": lambda c: c | {"bigram_counts": c["bigram_counts"][1:]},
    "pairs of three": lambda c: c | {"bigrams": np.zeros((len(c["bigrams"]), 3), np.uint16)},
    "a pair of a token that no text has": lambda c: changed(c, "bigrams", -1, 4000),
    "pairs out of order": lambda c: c | {"bigrams": c["bigrams"][::-1]},
    "a pair that occurs more often than its token": lambda c: changed(c, "bigram_counts", 0, 10**9),
    "a pair that never occurs": lambda c: changed(c, "bigram_counts", 0, 0),
    "shares in place of counts": lambda c: c | {"bigram_counts": c["bigram_counts"] / 2},
    "less than nothing": lambda c: c | {"unigrams": -c["unigrams"].astype(int)},
    "a scalar": lambda c: c | {"bigram_counts": np.uint32(1)},
    "objects": lambda c: c | {"unigrams": np.array([None] * 4000)},
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_counts_that_are_not_of_this_model_are_refused(counts, tmp_path, foreign):
    np.savez_compressed(tmp_path / "counts.npz", **counts)
    assert measure.read_counts(tmp_path / "counts.npz", 4000).keys() == {*COUNTS}
    np.savez_compressed(tmp_path / "counts.npz", **FOREIGN[foreign](counts))
    with pytest.raises(ModelError, match="counts.npz: it is damaged, or not the counts of a text"):
        measure.read_counts(tmp_path / "counts.npz", 4000)


def test_damaged_counts_are_refused_or_give_the_same_counts(counts, tmp_path, n_fuzz):
    path, whole, refused = tmp_path / "counts.npz", (TINY / "counts.npz").read_bytes(), 0
    for i in range(n_fuzz):
        rng = np.random.default_rng(i)
        content = bytearray(whole[: rng.integers(len(whole))] if i % 2 else whole)
        for place in rng.integers(len(content) or 1, size=0 if i % 2 else rng.integers(1, 9)):
            content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            found = measure.read_counts(path, 4000)
            assert all(np.array_equal(found[name], counts[name]) for name in COUNTS), i
        except ModelError as error:
            refused += 1
            assert str(path) in str(error) and "measure the model alone" in str(error)
    print(f"{n_fuzz} damaged files: {refused} refused, {n_fuzz - refused} read the same")
    assert refused > 0.8 * n_fuzz


def test_a_model_with_damaged_counts_is_refused_in_one_line(tmp_path, capsys):
    shutil.copytree(TINY, tmp_path / "model")
    (tmp_path / "story.txt").write_text("The little fox ran home. " * 100)
    (tmp_path / "model" / "counts.npz").write_bytes((TINY / "counts.npz").read_bytes()[:-9])
    assert_refused(
        capsys, "delete it to measure the model alone", f"{tmp_path}/story.txt", f"{tmp_path}/model"
    )


def test_a_text_that_fills_no_window_is_refused_before_anything_is_printed(tmp_path, capsys):
    (tmp_path / "story.txt").write_text("The little fox ran home.")
    message = "every document is shorter than the 256 tokens that the model can see: python -m extras.scoring"
    assert_refused(capsys, message, f"{tmp_path}/story.txt", "tiny")


def test_a_vocabulary_without_an_end_of_text_is_refused(tiny, tmp_path, capsys, monkeypatch):
    encoder = copy.copy(tiny[0])
    encoder.begin_id = None
    monkeypatch.setattr(measure, "load_encoder_hparams_and_params", lambda *_, **__: (encoder, *tiny[1:]))
    (tmp_path / "story.txt").write_text("The little fox ran home. " * 100)
    message = "the model's vocabulary has no token that begins a document, such as <|endoftext|>"
    assert_refused(capsys, message, f"{tmp_path}/story.txt", "owner/name")


@pytest.mark.parametrize("n_ctx", [1, 2, 3, 4])
def test_induction_needs_a_context_of_two_spans(n_ctx):
    small = weights.random_params(SMALL | {"n_ctx": n_ctx}, np.random.default_rng(0))
    if n_ctx == 4:
        gain, scores = measure.induction(small, 3, np.random.default_rng(0))
        assert np.isfinite(gain) and np.isfinite(scores).all()
        return
    with pytest.raises(ValueError, match=f"the model sees {n_ctx} tokens: induction needs 4"):
        measure.induction(small, 3, np.random.default_rng(0))


def test_induction_is_found_in_a_model_that_does_nothing_else(params):
    """A head that looks at the token after the last occurrence, and scores that copy it."""

    def copier(ids, **_):  # knows nothing the first time, everything the second
        logits = np.zeros((*ids.shape, 7), dtype=np.float32)
        logits[:, 101:] = 99 * np.eye(7)[ids[:, 2:101]]
        return logits

    maps = np.zeros((1, 3, 200, 200), dtype=np.float32)
    queries = np.arange(101, 200)
    maps[0, 1, queries, queries - 99] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "attention_maps", lambda inputs, **_: [maps])
        patch.setattr(measure.gpt2, "gpt2", copier)
        big = params | {"wte": np.zeros((7, 4)), "wpe": np.zeros((256, 4))}
        gain, scores = measure.induction(big, 3, np.random.default_rng(0), n_draws=1)
    assert gain == pytest.approx(np.log(7)) and scores.tolist() == [[0, 1, 0]]


def test_attention_maps_are_those_of_the_model(params):
    """The maps are the attention weights of the forward pass."""
    ids = np.arange(9)
    maps = list(measure.attention_maps(ids, **params, n_head=3))
    assert len(maps) == 2 and all(m.shape == (3, 9, 9) for m in maps)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        weights = gpt2.attention_weights
        patch.setattr(gpt2, "attention_weights", lambda *a: seen.append(weights(*a)) or seen[-1])
        gpt2.gpt2(ids, **params, n_head=3)
    assert all((ours == theirs).all() for ours, theirs in zip(maps, seen, strict=True))
