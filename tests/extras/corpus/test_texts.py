"""Continuations of many prompts: each is the text that the command writes with the same options."""

import json
import os
import sys
import types

import pytest
from adapter_files import write_adapter
from corpora import corpus, generate, refusal, rows_in, write_lines
from helpers import lively_params, passes, run, write_model
from learning import HPARAMS, save_model, write_vocabulary
from other_models import write_other_model

import gpt2
from checkpoint import in_openai_layout
from encoder import get_encoder
from extras.corpus import texts
from extras.corpus.models import Model
from text import SEPARATOR
from weights import flatten

LONG = "The King rode to the wood, and there he met an old woman who gave him a ring. " * 12
FOX = {"prompt": "The little fox"}


def words_for(prompt, options):  # -> list of words
    """A line as words for gpt2.py, which reads backslashes in --stop."""
    words = [f"--prompt={prompt}"]
    for name, value in options.items():
        option = f"-{name}" if len(name) == 1 else f"--{name}"
        if name == "stop":
            value = value.replace("\\", "\\\\").replace("\n", "\\n")
        if isinstance(value, float) and value >= 5:
            value = int(value)  # for the command, 5.0 is not a whole number
        words += [option] * value if isinstance(value, bool) else [f"{option}={value}"]
    return words


def as_the_command(capsys, line, *words):  # -> str
    """What gpt2.py prints for a line, without its newline."""
    capsys.readouterr()
    given = {name: value for name, value in line.items() if value is not None}
    options = {name: given[name] for name in given if name not in ("prompt", "id")}
    assert run(["-m=tiny"] * ("m" not in options) + words_for(line["prompt"], options) + [*words]) == 0, line
    return capsys.readouterr().out.removesuffix("\n")


def assert_as_the_command(capsys, rows, lines):
    """Each row has its line, and the texts that the command prints."""
    assert len(rows) == len(lines)
    for number, (row, line) in enumerate(zip(rows, lines), 1):
        found = row.pop("texts", None) or [row.pop("text")]
        assert row == {"line": number} | line and list(row)[0] == "line"
        assert SEPARATOR.join(found) == as_the_command(capsys, line), line


LINES = [
    FOX,
    FOX | {"n": 12, "id": 7},
    {"prompt": "Once upon a time", "n_tokens_to_generate": 12, "id": ["a", None]},
    {"prompt": "I", "n": 12, "seed": 3},
    {"prompt": LONG[:300], "n": 12, "seed": 3, "t": 0.7},
    {"prompt": "I", "n": 12, "seed": 3, "temperature": 0},
    FOX | {"n": 12, "top-k": 5, "seed": 1},
    FOX | {"n": 12, "top_p": 0.9, "min-p": 0.05, "seed": 2, "repetition_penalty": 1.3},
    FOX | {"n": 25, "repetition_penalty": 1.5},
    FOX | {"n": 12, "n_samples": 3, "seed": 4},
    FOX | {"n": 12, "n_samples": 2, "seed": 5, "top_p": 0.8, "stop": "the"},
    FOX | {"n": 12, "stop": " a"},
    FOX | {"n": 60, "stop": "\n\n"},
    FOX | {"n": 12, "stop": "\\n"},
    FOX | {"n": 12, "stop": "<|endoftext|>", "seed": 9, "temperature": 2},
    {"prompt": "<|endoftext|>", "n": 12, "special": True},
    {"prompt": "<|endoftext|>Once", "n": 12, "special": False},
    {"prompt": LONG, "n": 12, "keep_last": True},
    {"prompt": LONG[:800], "n": 60, "past_context": True},
    {"prompt": "A rose, a rose, a rose,", "n": 12, "lookup": True},
    FOX | {"n": 12, "draft": "tiny"},
    FOX | {"n": 12, "draft": "tiny", "seed": 6},
    FOX | {"n": 0},
    FOX | {"n": 12, "seed": None, "stop": None, "lookup": None},
    FOX | {"n": 12.0, "top_k": 5.0, "seed": 1e3},
    {"prompt": "née 🦊 e\u0301", "n": 12},
    {"prompt": " \n", "n": 12},
    {"prompt": "$HOME --seed 3", "n": 12},
]


def test_each_line_gets_the_text_that_the_command_writes(tmp_path, capsys):
    rows = generate(tmp_path, LINES)
    assert_as_the_command(capsys, rows, LINES)


def test_a_line_of_another_model_gets_the_text_of_that_model(small, tmp_path, capsys):
    other, adapter = str(save_model(tmp_path / "other", seed=3)), str(tmp_path / "adapter")
    write_adapter(tmp_path / "adapter", HPARAMS)
    lines = [{"prompt": "a fox", "n": 9, "m": name} for name in (str(small), other, "tiny", str(small))]
    lines += [{"prompt": "a fox", "n": 9, "m": str(small), "lora": adapter}]
    lines += [{"prompt": "a fox", "n": 9, "m": "tiny", "weights": "int8"}]
    lines += [{"prompt": "a fox", "n": 9, "m": str(small), "draft": other}]
    rows = generate(tmp_path, lines)
    assert len({row["text"] for row in rows}) >= 4 and rows[0]["text"] == rows[3]["text"] == rows[6]["text"]
    assert_as_the_command(capsys, rows, lines)


@pytest.mark.parametrize("kind", ["BERT, clean-up", "Llama's"])
def test_a_text_continues_its_prompt_whatever_the_tokenizer(tmp_path, capsys, kind):
    """Where a space belongs to the token after it, the text depends on the token before."""
    (tmp_path / "model").mkdir()
    write_other_model(tmp_path / "model", kind)
    model = str(tmp_path / "model")
    lines = [{"prompt": prompt, "n": 9, "m": model} for prompt in ("the fox", "it was", "and then", "a")]
    rows = generate(tmp_path, lines)
    assert any(row["text"].startswith(" ") for row in rows)
    assert_as_the_command(capsys, rows, lines)


def test_options_of_the_command_line_are_those_that_lines_lack(small, tmp_path, capsys):
    write_adapter(tmp_path / "adapter", HPARAMS)
    lora = str(tmp_path / "adapter")
    defaults = json.dumps({"n": 9, "top-p": 0.8, "seed": 5})
    lines = [{"prompt": "a fox"}, {"prompt": "a fox", "n": 4, "seed": 6}, {"prompt": "a fox", "n": None}]
    rows = generate(tmp_path, lines, "--defaults", defaults, "--lora", lora, model=small)
    for row, line in zip(rows, lines):
        whole = {"m": str(small), "lora": lora, "top-p": 0.8, "seed": line.get("seed", 5)}
        whole["n"] = line.get("n") or 9
        assert row["text"] == as_the_command(capsys, {"prompt": "a fox"} | whole)
        assert {name: row[name] for name in line} == line and {*row} == {*line, "line", "text"}


def test_a_seed_that_was_drawn_comes_back_and_makes_the_same_text_again(tmp_path, capsys):
    lines = [
        FOX | {"n": 12, "t": 1.0},
        FOX | {"n": 12, "t": 1.0},
        FOX | {"n": 9, "top_k": 9, "n_samples": 2},
    ]
    first, second, third = generate(tmp_path, lines)
    assert first["seed"] != second["seed"] and first["text"] != second["text"]
    for row, line in zip((first, second, third), lines):
        found = row.get("texts") or [row["text"]]
        assert SEPARATOR.join(found) == as_the_command(capsys, line | {"seed": row["seed"]})


def test_where_nothing_is_drawn_no_seed_comes_back(tmp_path):
    for row in generate(
        tmp_path, [FOX | {"n": 2}, FOX | {"n": 2, "temperature": 0}, FOX | {"n": 2, "stop": "x"}]
    ):
        assert "seed" not in row


def test_a_text_does_not_depend_on_what_is_written_beside_it(small, tmp_path):
    lines = [{"prompt": "abcdefgh"[: 1 + i % 8], "n": 5 + i % 3, "seed": i} for i in range(90)]
    for line in lines[::2]:
        line["n_samples"] = 2
    together = generate(tmp_path, lines, model=small)
    for i in (0, 1, 40, 89):
        (tmp_path / str(i)).mkdir()
        (alone,) = generate(tmp_path / str(i), lines[i : i + 1], model=small)
        assert alone | {"line": i + 1} == together[i]


# ---- batches -----------------------------------------------------------------------------------------------


def test_prompts_of_like_length_share_passes(small, tmp_path, monkeypatch):
    shapes = passes(monkeypatch)
    lines = [{"prompt": "x" * (1 + 20 * (i % 2)), "n": 8} for i in range(64)]
    generate(tmp_path, lines, model=small)
    wide = [shape for shape in shapes if shape[0] == 32 and len(shape) == 2]
    assert len(wide) == 2 * 7 + 2 or len(wide) == 2 * 8, shapes
    assert len(shapes) < 25


def with_samples(n_samples, **options):
    return [1], texts.read_options({"n_samples": n_samples, "n_tokens_to_generate": 4, "seed": 0} | options)


@pytest.mark.parametrize("numbers", [[1] * 100, [3] * 30, [31, 2, 1, 33, 1], [1000, 1, 1], [32, 32], []])
def test_a_batch_has_no_more_texts_than_memory_is_meant_for(numbers):
    pieces = [with_samples(n) for n in numbers]
    batches = list(texts.batches(pieces))
    assert sorted(i for batch in batches for i in batch) == list(range(len(pieces)))
    assert all(sum(numbers[i] for i in batch) <= 32 or len(batch) == 1 for batch in batches)
    assert all(batches) and len(batches) <= 2 * sum(numbers) / 32 + 1


def test_a_draft_has_weights_of_the_same_kind_and_no_adapter():
    given = {"model_size": "tiny", "lora": "a", "weights": "int8", "models_dir": "b", "draft": "124M"}
    model, draft = texts.models_of(texts.read_options(given))
    assert model == Model("tiny", "b", "a", "int8") and draft == Model("124M", "b", None, "int8")
    assert texts.models_of(texts.read_options({}))[1] is None


def test_what_needs_a_stream_of_its_own_is_alone():
    pieces = [with_samples(1, lookup=True), with_samples(1), with_samples(1, draft="tiny"), with_samples(1)]
    assert sorted(texts.batches(pieces)) == [[0], [1, 3], [2]]


def test_a_batch_is_written_until_all_its_texts_have_ended(tmp_path, monkeypatch, capsys):
    params, vocabulary = lively_params(HPARAMS, seed=0), write_vocabulary(tmp_path / "model")
    ids = get_encoder("model", tmp_path).encode("a fox")
    new_ids = gpt2.generate(ids, params, HPARAMS["n_head"], 20)
    last, end = new_ids[5], HPARAMS["n_vocab"] - 1
    params["wte"][[last, end]] = params["wte"][[end, last]]  # now it is <|endoftext|> that comes
    n_before = new_ids.index(last)
    assert last not in ids
    write_model(tmp_path / "model", in_openai_layout(flatten(params)), HPARAMS, vocabulary)
    shapes, line = passes(monkeypatch), {"prompt": "a fox", "n": 20}
    rows = generate(tmp_path, [line, line, line], model=tmp_path / "model")
    assert len([shape for shape in shapes if shape[0] == 3]) == n_before + 1 < 10
    wanted = as_the_command(capsys, line | {"m": str(tmp_path / "model")})
    assert [row["text"] for row in rows] == [wanted] * 3
    model = Model(str(tmp_path / "model"))
    piece = ids, texts.read_options({"model_size": model.model_size, "n_tokens_to_generate": 20})
    other = [1], piece[1] | {"temperature": 1e9, "seed": 1}  # it goes on
    for pieces in ([piece], [piece, other]):  # what comes after the end is not counted
        results = texts.texts_of(model, pieces)
        assert [result.n_tokens for result in results] == [n_before + 1, 20][: len(pieces)]


# ---- what is asked of all lines ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, message",
    [
        (["--defaults", "{n: 3}"], "--defaults: not JSON at character 2"),
        (["--defaults", "[]"], "--defaults: '[]' is not an object"),
        (["--defaults", ""], "--defaults: not JSON at character 1"),
        (["--defaults", '{"n": -3}'], "--defaults: n_tokens_to_generate is -3: it must be a whole number"),
        (["--defaults", '{"n": 3, "n": 4}'], "--defaults: n is given twice"),
        (["--defaults", '{"prompt": "a"}'], "--defaults: there is no option 'prompt' for a text"),
        (["--defaults", '{"id": "a"}'], "--defaults: there is no option 'id' for a text"),
        (["--defaults", '{"m": "nope"}'], "model_size is 'nope'"),
        (["--stride", "3"], "--stride is for score; here, options are in lines, or in --defaults"),
        (["--special"], "--special is for score; here, options are in lines"),
        (["--weights", "int9"], "weights is 'int9', expected int8"),
        (["--lora", "nope"], "lora is 'nope': there is no such folder"),
    ],
)
def test_a_wrong_option_for_all_lines_is_refused_before_any_is_read(tmp_path, capsys, words, message):
    path = write_lines(tmp_path / "prompts.jsonl", "not JSON")
    words = words if "--lora" in words else ["-m", "tiny", *words]
    status = corpus("generate", path, "--out", tmp_path / "out", *words)
    assert status in (1, 2) and refusal(capsys).startswith(message)
    assert not (tmp_path / "out").exists()


def test_damaged_weights_end_a_run_but_only_skip_a_line_that_names_them(small, tmp_path, capsys):
    save_model(tmp_path / "model")
    (data,) = (tmp_path / "model").glob("*.data-*")
    os.truncate(data, 1000)
    path = write_lines(tmp_path / "prompts.jsonl", {"prompt": "a", "n": 2})
    assert corpus("generate", path, "--out", tmp_path / "out", "-m", tmp_path / "model") == 1
    assert "1,000 bytes, but its index promises" in refusal(capsys)
    lines = [{"prompt": "a", "n": 2}, {"prompt": "a", "n": 2, "m": str(tmp_path / "model")}]
    assert [row["line"] for row in generate(tmp_path, lines, model=small)] == [1]
    assert capsys.readouterr().err.startswith(f"line 2: {data}: 1,000 bytes, but its index promises")
    out = tmp_path / "strict"
    assert corpus("generate", tmp_path / "prompts.jsonl", "--out", out, "-m", small, "--strict") == 2
    assert refusal(capsys).startswith(f"line 2: {data}: 1,000 bytes") and len(rows_in(out)) == 1


def test_several_files_of_prompts_are_refused(tmp_path, capsys):
    path = write_lines(tmp_path / "prompts.jsonl", FOX)
    assert corpus("generate", path, path, "--out", tmp_path / "out", "-m", "tiny") == 2
    assert refusal(capsys) == "generate reads one file, but 2 are given: give - and pipe them in"


def test_every_option_of_the_command_that_changes_a_text_is_one_of_a_line():
    assert {*texts.PARAMETERS} == {
        *("n_tokens_to_generate", "model_size", "lora", "weights", "models_dir"),
        *("temperature", "top_k", "top_p", "min_p", "seed", "repetition_penalty", "no_repeat_ngram"),
        *("n_samples", "beams", "length_penalty", "stop", "special", "keep_last", "past_context"),
        *("lookup", "draft"),
    }


# ---- beams -------------------------------------------------------------------------------------------------


def test_a_search_with_beams_is_asked_for_as_the_command_asks(tmp_path, monkeypatch, capsys):
    asked = []

    def search(ids, params, n_head, n, *settings):
        asked.append((list(ids), n, settings))
        return iter(gpt2.generate(ids, params, n_head, n))

    monkeypatch.setitem(sys.modules, "extras.beam", types.SimpleNamespace(stream=search))
    monkeypatch.setattr("extras.beam", sys.modules["extras.beam"], raising=False)
    lines = [FOX | {"n": 5, "beams": 3}, FOX | {"n": 5, "beams": 2, "length_penalty": 0.5}, FOX | {"n": 5}]
    rows = generate(tmp_path, lines)
    by_rows, _ = asked[:], asked.clear()
    assert_as_the_command(capsys, rows, lines)
    assert repr(by_rows) == repr(asked) and len(asked) == 2
    out = write_lines(tmp_path / "wrong.jsonl", FOX | {"beams": 2, "seed": 3})
    assert corpus("generate", out, "--out", tmp_path / "wrong.out", "-m", "tiny") == 2
    assert "line 1: --beams draws nothing, so --seed has no meaning" in capsys.readouterr().err
