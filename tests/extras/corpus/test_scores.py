"""Scores of many documents: each is that of the document alone, whatever is read beside it."""

import json
import math
import random

import numpy as np
import pytest
from adapter_files import write_adapter
from corpora import SEPARATOR, corpus, packed, pipe_in, refusal, rows_in
from helpers import ROOT, SMALL, lively_params, passes, run
from learning import HPARAMS, save_beginless, story

import utils
from encoder import Encoder
from extras import scoring
from extras.corpus import scores
from extras.corpus.models import Model
from extras.corpus.reading import Text
from extras.huggingface import export

WORDS = story(30, seed=5).split()
NAMES = ["document", "n_tokens", "nats", "n_bytes", "bits_per_byte"]


def many(n, seed=0):  # -> list of documents
    """Documents of 1 to 100 bytes, many shorter and many longer than the small model sees."""
    rng = random.Random(seed)
    return [" ".join(WORDS)[: rng.randint(1, 100)] + "\n" for _ in range(n)]


def expected(documents, model, lora=None, weights=None, stride=None, special=False):  # -> list of dicts
    """Each document on its own, as extras/scoring.py reads it."""
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(model), "models", lora, weights)
    rows = []
    for document in documents:
        ids = scoring.scored_ids(document, encoder, special)
        surprises = scoring.nats(ids, params, hparams["n_head"], stride)
        is_whole = not special and encoder.begin_id is not None
        n_bytes = len((document if is_whole else scoring.after_first(ids, encoder)).encode())
        rows.append((len(surprises), surprises.sum(dtype=float), n_bytes))
    return rows


def assert_rows(rows, wanted, path):
    """The numbers of each document, in order."""
    assert len(rows) == len(wanted)
    for i, (row, (n_tokens, nats, n_bytes)) in enumerate(zip(rows, wanted), 1):
        assert list(row) == NAMES and row["document"] == f"{path}:{i}"
        assert (row["n_tokens"], row["n_bytes"]) == (n_tokens, n_bytes), row
        assert row["nats"] == pytest.approx(nats, rel=1e-5, abs=1e-4)
        bits = nats / math.log(2) / n_bytes if n_bytes else None
        assert row["bits_per_byte"] == (bits if bits is None else pytest.approx(bits, rel=1e-5, abs=1e-5))


def score(folder, documents, *words):  # -> path, rows
    path, out = folder / "texts.txt", folder / "scores.jsonl"
    path.write_text(SEPARATOR.join(documents), "utf-8")
    assert corpus("score", path, "--out", out, *words) == 0
    return path, rows_in(out)


# ---- each document -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [None, 1, 7, 32])
def test_each_document_has_the_numbers_that_it_has_alone(small, tmp_path, stride):
    documents = many(40)
    words = [] if stride is None else ["--stride", stride]
    path, rows = score(tmp_path, documents, "-m", small, *words)
    assert_rows(rows, expected(documents, small, stride=stride), path)
    lengths = [row["n_tokens"] for row in rows]
    assert min(lengths) < 10 and max(lengths) > 2 * HPARAMS["n_ctx"]


@pytest.mark.parametrize("seed", range(3))
def test_what_shares_a_batch_changes_no_number(small, tmp_path, monkeypatch, seed):
    documents = many(30, seed)
    random.Random(seed).shuffle(documents)
    monkeypatch.setattr(scores, "AT_ONCE", [1, 60, 4000][seed])
    path, rows = score(tmp_path, documents, "-m", small)
    assert_rows(rows, expected(documents, small), path)


def test_the_bundled_model_scores_the_stories_as_it_does_one_at_a_time(tmp_path):
    documents = scoring.read_documents(ROOT / "tests" / "stories.txt")[3:]
    path, rows = score(tmp_path, documents, "-m", "tiny")
    assert_rows(rows, expected(documents, "tiny"), path)
    assert max(row["n_tokens"] for row in rows) > 256


def test_weights_of_few_bits_give_their_own_numbers(tmp_path):
    weights, documents = "int8", ["Once upon a time\n", "The fox ran away, and hid himself.\n", "I"]
    path, rows = score(tmp_path, documents, "-m", "tiny", "--weights", weights)
    assert_rows(rows, expected(documents, "tiny", weights=weights), path)
    assert rows[0]["nats"] != pytest.approx(expected(documents, "tiny")[0][1], abs=1e-3)


def test_an_adapter_changes_the_numbers_as_everywhere(small, tmp_path):
    write_adapter(tmp_path / "adapter", HPARAMS)
    documents, lora = many(9), str(tmp_path / "adapter")
    path, rows = score(tmp_path, documents, "-m", small, "--lora", lora)
    assert_rows(rows, expected(documents, small, lora), path)
    assert rows[0]["nats"] != pytest.approx(expected(documents, small)[0][1], abs=1e-3)


def test_with_special_a_token_inside_a_document_is_that_token(tmp_path, capsys):
    documents = ["Once.<|endoftext|>The fox.\n", "<|endoftext|>A hen\n", "<|endoftext|>", "plain\n"]
    path, rows = score(tmp_path, documents, "-m", "tiny", "--special")
    assert capsys.readouterr().err == ""
    path.write_text(documents[0] + SEPARATOR + documents[1] + SEPARATOR + documents[3])
    assert_rows(rows[:2], expected(documents[:2], "tiny", special=True), path)
    assert corpus("score", path, "--out", tmp_path / "plain.jsonl", "-m", "tiny") == 0
    plain = rows_in(tmp_path / "plain.jsonl")
    assert_rows(plain, expected([documents[i] for i in (0, 1, 3)], "tiny"), path)
    assert plain[0]["n_tokens"] > rows[0]["n_tokens"] and plain[0]["n_bytes"] == rows[0]["n_bytes"] + 13
    note = "'<|endoftext|>' in a document is read as plain text; --special makes it the token\n"
    assert capsys.readouterr().err == note  # once, though two documents have it


def test_a_special_token_alone_is_scored_but_has_no_bytes(tmp_path):
    (tmp_path / "a").write_text("Once\n<|endoftext|><|endoftext|>\n<|endoftext|>\n")
    document = "Once\n<|endoftext|><|endoftext|>\n"
    assert corpus("score", tmp_path / "a", "--out", tmp_path / "out", "-m", "tiny", "--special") == 0
    assert_rows(rows_in(tmp_path / "out"), expected([document], "tiny", special=True), tmp_path / "a")
    job = scores.Scores(Model("tiny"), [], None, True, None)
    work = job.prepare(text_of("<|endoftext|>"))
    row = work.row("a:1", [5.0])
    assert (row["n_tokens"], row["n_bytes"], row["bits_per_byte"]) == (1, 0, None)
    assert json.loads(json.dumps(row)) == row


def text_of(text):
    return Text("a", 1, text, None, 0)


def test_where_no_token_begins_a_text_its_first_token_is_not_scored(tmp_path, capsys):
    model = save_beginless(tmp_path / "model")
    documents = ["the fox\n", "\n", " ".join(WORDS)[:90] + "\n", "a"]
    path, rows = score(tmp_path, documents, "-m", model)
    note = "the model has no token that begins a text: the first token of each document is not scored\n"
    out, err = capsys.readouterr()
    assert err == note
    cut = scoring.split_documents(path.read_text())
    assert_rows(rows, expected(cut, model), path)
    assert cut == documents
    assert [row["n_tokens"] for row in rows] == [len(document) - 1 for document in documents]
    assert list(rows[-1].values())[1:] == [0, 0, 0, None]


def test_a_tokenizer_without_a_word_for_the_text_still_gives_its_numbers(tmp_path):
    hparams = SMALL | {"n_vocab": 8}
    encoder, params = Encoder({c: i for i, c in enumerate("ĠĊabcdef")}, []), lively_params(hparams, seed=0)
    export.save(tmp_path / "model", encoder, hparams, params)
    (tmp_path / "a").write_text("a cab\n<|endoftext|>\nfed up\n<|endoftext|>\nbed\n")
    assert corpus("score", tmp_path / "a", "--out", tmp_path / "out", "-m", tmp_path / "model") == 0
    first, last = rows_in(tmp_path / "out")  # "fed up" has characters that the vocabulary lacks
    assert (first["document"][-2:], last["document"][-2:], last["n_tokens"]) == (":1", ":3", 3)


# ---- all documents -----------------------------------------------------------------------------------------


def sums_of_scoring(capsys, path, *words):
    """What extras.scoring prints for a whole file."""
    capsys.readouterr()
    assert run([str(path), *map(str, words)], "extras.scoring") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--stride", "9"], ["--special"]])
def test_the_sums_are_those_of_extras_scoring(small, tmp_path, capsys, words):
    documents = [*many(50), "one<|endoftext|>two\n"]
    path, _ = score(tmp_path, documents, "-m", small, *words)
    out = capsys.readouterr().out
    assert out == "documents      51\n" + sums_of_scoring(capsys, path, "-m", small, *words)


def test_packed_and_piped_documents_have_the_same_numbers(small, tmp_path, monkeypatch, capsys):
    path, rows = score(tmp_path, many(5), "-m", small)
    sums, content = capsys.readouterr().out, path.read_bytes()
    pipe_in(monkeypatch, content)
    for place in (str(packed(tmp_path / "a.gz", content)), "-"):
        assert corpus("score", place, "--out", tmp_path / f"{place[-1]}.jsonl", "-m", small) == 0
        wanted = [row | {"document": f"{place}:{i}"} for i, row in enumerate(rows, 1)]
        assert rows_in(tmp_path / f"{place[-1]}.jsonl") == wanted and capsys.readouterr().out == sums


def test_documents_of_several_files_follow_one_another(small, tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).write_text(SEPARATOR.join(many(3, seed=ord(name))))
    assert (
        corpus(
            "score", tmp_path / "a", tmp_path / "b", tmp_path / "a", "--out", tmp_path / "out", "-m", small
        )
        == 0
    )
    names = [row["document"].removeprefix(f"{tmp_path}/") for row in rows_in(tmp_path / "out")]
    assert names == [f"{name}:{i}" for name in "aba" for i in (1, 2, 3)]
    rows = rows_in(tmp_path / "out")
    assert rows[:3] == rows[6:] and "documents      9\n" in capsys.readouterr().out


def test_thousands_of_tiny_documents_share_few_passes(small, tmp_path, monkeypatch):
    documents, shapes = many(3000), passes(monkeypatch)
    documents = [document[:4].strip("\n") + "\n" for document in documents]
    path, rows = score(tmp_path, documents, "-m", small)
    n_passes = len(shapes)
    assert len(rows) == 3000 and n_passes < 3000 / 50
    some = random.Random(0).sample(range(3000), 40)
    for i in some:
        (wanted,) = expected([documents[i]], small)
        assert rows[i]["nats"] == pytest.approx(wanted[1], rel=1e-5, abs=1e-4)
        assert rows[i]["document"] == f"{path}:{i + 1}"


@pytest.mark.parametrize("content", [b"", b"<|endoftext|>\n<|endoftext|>\n", b"\xef\xbb\xbf"])
def test_a_file_without_documents_is_one_line(small, tmp_path, capsys, content):
    (tmp_path / "a").write_bytes(content)
    assert corpus("score", tmp_path / "a", "--out", tmp_path / "out", "-m", small) == 2
    assert refusal(capsys) == "no token is left to score: give a longer text"


def test_documents_that_cannot_be_read_are_named_and_skipped(small, tmp_path, capsys):
    path = tmp_path / "a"
    path.write_bytes(b"one\n<|endoftext|>\n\xff\n<|endoftext|>\nthree\n")
    assert corpus("score", path, "--out", tmp_path / "out", "-m", small) == 0
    out, err = capsys.readouterr()
    message = f"{path}:2: {path} is not UTF-8 text: byte 19 is 0xff; save it as UTF-8; it is skipped\n"
    assert err == message and out.startswith("documents      2\n")
    assert [row["document"][-1] for row in rows_in(tmp_path / "out")] == ["1", "3"]


def test_rows_are_sums_of_pieces_that_batches_have_read(small, tmp_path):
    """The pieces of a document may be read by several workers, in batches of any order."""
    job = scores.Scores(Model(str(small)), [], None, False, None)
    works = [job.prepare(text_of(document)) for document in many(8, seed=3)]
    pieces = [piece for work in works for piece in work.pieces]
    order = np.random.default_rng(0).permutation(len(pieces))
    results = dict(zip(order, scores.sums_of(job.model, [pieces[i] for i in order])))
    together = scores.sums_of(job.model, pieces)
    for i, result in enumerate(together):
        assert results[i].value == pytest.approx(result.value, rel=1e-5)
        assert result.n_tokens == pieces[i][1] and result.fingerprint == together[0].fingerprint
    assert scores.sums_of(job.model, []) == []
