"""Whole models with tokenizers of other kinds: what the programs write is what the tokenizer says."""

import functools
import json
import re
from itertools import takewhile

import pytest
from helpers import run
from other_models import MODELS, write_other_model

import gpt2
import options
import utils
from extras import chat, scoring
from text import CHANGING, text_of, until

N = 14
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def load(tmp_path_factory):  # -> name -> folder, layout, encoder, params
    @functools.cache
    def loaded(name):
        folder = tmp_path_factory.mktemp("models") / "model"
        layout = write_other_model(folder, MODELS[name])
        encoder, hparams, params = utils.load_encoder_hparams_and_params(str(folder), "models")
        return str(folder), layout, encoder, params

    return loaded


@pytest.fixture(autouse=True)
def nothing_was_said():
    CHANGING.clear()


def written_after(encoder, ids, new_ids):  # -> str
    """What the new ids add to the text of the ids, up to the token that ends it."""
    kept = [*takewhile(lambda i: i not in encoder.stop_ids, new_ids)]
    return encoder.decode([*ids, *kept])[len(encoder.decode(ids)) :]


def prompt_of(layout, encoder):  # -> a text that keeps no special token, and its ids
    return layout.texts[0], encoder.encode(layout.texts[0])


# ---- the command -------------------------------------------------------------------------------------------


@every_model
def test_the_command_writes_what_the_new_ids_add_to_the_prompt(load, capsys, name):
    folder, layout, encoder, params = load(name)
    for prompt in layout.texts[:4]:
        ids = encoder.encode(prompt)
        wanted = written_after(encoder, ids, gpt2.generate(ids, params, 4, N))
        for option in ([], ["--lookup"], ["--past_context"], ["--keep_last"]):
            assert run([prompt, str(N), folder, *option]) == 0
            assert capsys.readouterr().out == wanted + "\n"


@every_model
def test_samples_are_those_that_each_pick_draws_alone(load, capsys, name):
    folder, layout, encoder, params = load(name)
    prompt, ids = prompt_of(layout, encoder)
    given = dict.fromkeys(options.FILTERS) | {"temperature": 3.0, "seed": 5}
    new_pick = options.pick_maker(given)
    texts = [gpt2.generate(ids, params, 4, N, new_pick(ids, i)) for i in range(3)]
    wanted = ("\n" + 15 * "-" + "\n").join(written_after(encoder, ids, each) for each in texts)
    assert run([prompt, str(N), folder, "--n_samples=3", "--temperature=3", "--seed=5"]) == 0
    assert capsys.readouterr().out == wanted + "\n"


@every_model
def test_a_text_ends_before_the_stop_text(load, capsys, name):
    folder, layout, encoder, params = load(name)
    prompt, ids = prompt_of(layout, encoder)
    whole = written_after(encoder, ids, gpt2.generate(ids, params, 4, N))
    stop = whole.strip()[len(whole) // 3 :][:3]
    assert run([prompt, str(N), folder, f"--stop={stop}"]) == 0
    out = capsys.readouterr().out
    assert out == "".join(until([whole], stop)) + "\n" != whole + "\n"


@pytest.mark.parametrize("name, token", [("Chinese", "[CLS]"), ("Swedish", "<s>"), ("bytes", "<s>")])
def test_a_special_token_in_the_prompt_is_one_with_special_and_else_plain_text(load, capsys, name, token):
    folder, layout, encoder, params = load(name)
    prompt = f"{layout.texts[0]}{token}"
    for special in (True, False):
        ids = encoder.encode(prompt, "all" if special else ())
        assert (encoder.encoder[token] in ids) == special
        assert run([prompt, str(N), folder, *(["--special"] if special else [])]) == 0
        out, err = capsys.readouterr()
        assert out == written_after(encoder, ids, gpt2.generate(ids, params, 4, N)) + "\n"
        said = f"{token!r} in the prompt is read as plain text; --special makes it the token\n"
        assert (said in err) != special


def test_no_line_says_that_a_special_token_is_plain_text_where_its_text_is_the_token(load, capsys):
    folder, layout, encoder, _ = load("Japanese")
    prompt = f"{layout.texts[0]}[MASK]"
    assert encoder.encoder["[MASK]"] in encoder.encode(prompt)  # a piece, to transformers too
    assert run([prompt, "5", folder]) == 0
    assert "plain text" not in capsys.readouterr().err


def test_a_token_that_the_model_lacks_is_named_with_those_that_it_has(load, capsys):
    assert run(["<|endoftext|>", "5", load("Chinese")[0], "--special"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "this model has no token <|endoftext|>; its special tokens: [CLS], [MASK]" in err


@pytest.mark.parametrize(
    "name, prompt", [("Chinese", " "), ("Chinese", "\x01"), ("Japanese", "\u3000 "), ("words", "\t")]
)
def test_a_prompt_of_which_nothing_is_left_is_refused_in_one_line(load, tmp_path, capsys, name, prompt):
    folder = load(name)[0]
    for program, words in [
        ("cli", [prompt, "5", folder]),
        ("extras.page.command", [prompt, "5", folder, f"--out={tmp_path / 'page.html'}"]),
        ("extras.picture", [prompt, str(tmp_path / "a.svg"), f"--model_size={folder}"]),
    ]:
        CHANGING.clear()
        assert run(words, program) == 2
        out, err = capsys.readouterr()
        assert out == "" and "leaves nothing of the prompt: give another text" in err, program
    assert not [*tmp_path.iterdir()]


# ---- what is not kept --------------------------------------------------------------------------------------

SAID = "the model's tokenizer does not keep every text: it reads "


def test_a_text_that_is_not_kept_is_said_once_with_the_place(load, capsys):
    folder = load("English")[0]
    assert run(["the Cat sat", "5", folder]) == 0
    assert capsys.readouterr().err.endswith(f"\n{SAID}'the Cat sat' as 'the cat sat'\n")
    CHANGING.clear()
    assert run(["the cat sat", "5", folder]) == 0
    assert SAID not in capsys.readouterr().err


def test_special_tokens_alone_are_no_change(load, capsys):
    folder = load("bytes")[0]
    assert run(["<s>the cat</s>", "5", folder, "--special"]) == 0
    assert capsys.readouterr().err == ""


def test_in_a_chat_it_is_said_once_however_many_lines_come(load, capsys, monkeypatch):
    _, _, encoder, params = load("English")
    lines = iter(["The Cat", "THE CAT", "A Mat"])
    monkeypatch.setattr(chat, "read_line", lambda: next(lines, None) or (_ for _ in ()).throw(EOFError))
    monkeypatch.setattr(chat, "prepare_terminal", lambda: None)
    to_text = functools.partial(text_of, encoder=encoder)
    chat.chat(encoder, params, 4, 4, options.greedy_pick, to_text)
    out, err = capsys.readouterr()
    assert err == f"{SAID}'The Cat' as 'the cat'\n" and out.count("\n") == 4


@every_model
def test_in_a_chat_each_turn_adds_to_the_text_so_far(load, capsys, monkeypatch, name):
    _, layout, encoder, params = load(name)
    lines, ids, wanted = layout.texts[:2], [], ""
    typed = iter(lines)
    monkeypatch.setattr(chat, "read_line", lambda: next(typed, None) or (_ for _ in ()).throw(EOFError))
    monkeypatch.setattr(chat, "prepare_terminal", lambda: None)
    to_text = functools.partial(text_of, encoder=encoder)
    chat.chat(encoder, params, 4, 4, options.greedy_pick, to_text)
    for line in lines:
        try:
            ids += encoder.encode("\n" + line if ids else line)
        except UnicodeError:
            ids += encoder.encode(line)
        new_ids = gpt2.generate(ids, params, 4, 4)
        wanted += written_after(encoder, ids, new_ids) + "\n"
        end = [i for i, new_id in enumerate(new_ids, 1) if new_id in encoder.stop_ids]
        ids += new_ids[: end[0]] if end else new_ids
    assert capsys.readouterr().out == wanted + "\n"


# ---- scores ------------------------------------------------------------------------------------------------


def numbers_in(out):  # -> {name: number}
    return {name: float(number.replace(",", "")) for name, number in re.findall("^(.*?)  +(.*)$", out, re.M)}


@every_model
def test_documents_are_scored_after_the_token_that_begins_a_text(load, tmp_path, capsys, name):
    folder, layout, encoder, params = load(name)
    (tmp_path / "text").write_text("\n<|endoftext|>\n".join(layout.texts[:3]), encoding="utf-8")
    documents = scoring.read_documents(tmp_path / "text")
    assert run([str(tmp_path / "text"), f"--model_size={folder}", "--show"], "extras.scoring") == 0
    out, err = capsys.readouterr()
    found = numbers_in(out)
    rows = [[encoder.begin_id, *encoder.encode(document)] for document in documents]
    surprises = [scoring.nats(ids, params, 4) for ids in rows]
    total = sum(float(each.sum()) for each in surprises)
    assert found["tokens"] == sum(map(len, surprises))
    assert found["nats a token"] == pytest.approx(total / found["tokens"], abs=1e-3)
    n_bytes = sum(len(document.encode()) for document in documents)
    assert found["bits per byte"] == pytest.approx(total / 0.6931472 / n_bytes, abs=2e-3)
    assert err.count(SAID) <= 1
    plain = re.sub(r"\[\d+\.\d\]", "", out)
    assert all(encoder.decode(ids) in plain for ids in rows)


def test_without_a_token_that_begins_a_text_the_first_is_not_scored_but_the_space_after_it_is(
    tmp_path, capsys
):
    folder = tmp_path / "model"
    layout = write_other_model(folder, MODELS["words"])
    config = json.loads((folder / "config.json").read_text()) | {"bos_token_id": None, "eos_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    encoder, _, params = utils.load_encoder_hparams_and_params(str(folder), "models")
    (tmp_path / "text").write_text(layout.texts[0])
    assert run([str(tmp_path / "text"), f"--model_size={folder}"], "extras.scoring") == 0
    out, err = capsys.readouterr()
    ids = encoder.encode(layout.texts[0])
    n_bytes = len(layout.texts[0].removeprefix(encoder.decode(ids[:1])))
    wanted = float(scoring.nats(ids, params, 4).sum()) / 0.6931472 / n_bytes
    assert numbers_in(out)["bits per byte"] == pytest.approx(wanted, abs=1e-3)
    assert encoder.begin_id is None and "no token that begins a text: the first token of each" in err


def test_of_several_documents_that_are_not_kept_it_is_said_once(load, tmp_path, capsys):
    folder = load("English")[0]
    (tmp_path / "text").write_text("The Cat\n<|endoftext|>\nA Mat\n<|endoftext|>\nTHE")
    assert run([str(tmp_path / "text"), f"--model_size={folder}"], "extras.scoring") == 0
    assert capsys.readouterr().err.count(SAID) == 1


# ---- pictures ----------------------------------------------------------------------------------------------


@every_model
def test_the_steps_of_a_choice_are_shown_with_the_bytes_of_each_token(load, capsys, name):
    folder, layout, encoder, params = load(name)
    prompt, ids = prompt_of(layout, encoder)
    assert run([prompt, "3", folder, "--explain"]) == 0
    rows = [line for line in capsys.readouterr().err.splitlines() if line.endswith(" <-")]
    for row, new_id in zip(rows, gpt2.generate(ids, params, 4, 3)):
        token = repr(encoder.token_bytes(new_id).decode("utf-8", "replace"))
        assert row.startswith(token if len(token) <= 9 else token[:8])
        assert not row.startswith("''") or encoder.token_bytes(new_id) == b""


@every_model
def test_a_page_and_a_picture_show_each_token(load, tmp_path, capsys, name):
    folder, layout, encoder, params = load(name)
    prompt, ids = prompt_of(layout, encoder)
    page, picture = tmp_path / "page.html", tmp_path / "a.svg"
    assert run([prompt, "4", folder, f"--out={page}"], "extras.page.command") == 0
    assert run([prompt, str(picture), f"--model_size={folder}"], "extras.picture") == 0
    alt = capsys.readouterr().out
    data = json.JSONDecoder().raw_decode(text := page.read_text("utf-8"), text.index('{"model":'))[0]
    assert data["ids"][: len(ids)] == ids
    assert "<title>" in picture.read_text("utf-8") and "Written by the model: " in alt
