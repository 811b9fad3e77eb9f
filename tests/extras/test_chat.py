"""Line by line: turns continue from the cache, old text is forgotten, and Ctrl-C and Ctrl-D work."""

import os
import select
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, SMALL, lively_params, without_unbuffered

import gpt2
from encoder import END_OF_TEXT, Encoder
from extras import chat, sampling
from extras.chat import Conversation
from extras.huggingface import export

N_HEAD, N_CTX = SMALL["n_head"], SMALL["n_ctx"]


def from_scratch(ids, params, n, pick=np.argmax):
    return gpt2.generate(ids, params, N_HEAD, n, pick)


def test_each_turn_continues_as_if_the_whole_text_were_read_from_scratch(params):
    text, ids = Conversation(params, N_HEAD), []
    for turn in ([1, 2, 3], [4], [5, 6, 7, 8]):
        text.add(turn, 5)
        ids += turn
        new_ids = list(text.generate(5))
        assert new_ids == from_scratch(ids, params, 5)
        ids += new_ids
        assert text.ids == ids


def test_a_stopped_turn_keeps_the_ids_that_were_seen(params):
    text = Conversation(params, N_HEAD)
    text.add([1, 2, 3], 9)
    seen = [new_id for new_id, _ in zip(text.generate(9), range(4))]
    assert text.ids[3 : 3 + len(seen)] == seen == from_scratch([1, 2, 3], params, 4)
    kept = list(text.ids)
    text.add([7], 3)
    assert list(text.generate(3)) == from_scratch([*kept, 7], params, 3)


def test_only_new_ids_are_read(params, monkeypatch):
    sizes, transformer = [], gpt2.transformer
    monkeypatch.setattr(
        gpt2, "transformer", lambda ids, **rest: sizes.append(len(ids)) or transformer(ids, **rest)
    )
    text = Conversation(params, N_HEAD)
    text.add([1, 2, 3], 3)
    list(text.generate(3))
    text.add([4, 5], 2)
    list(text.generate(2))
    assert sizes == [3, 1, 1, 3, 1]  # the last id of a turn is read with the next


def test_a_text_that_outgrows_the_context_keeps_its_last_half_context(params, capsys):
    text = Conversation(params, N_HEAD)
    ids = list(range(20))
    text.add(ids, 10)
    ids += list(text.generate(10))
    assert capsys.readouterr().err == ""
    text.add([50, 51], 10)
    ids += [50, 51]
    n_forgotten = len(ids) - N_CTX // 2
    assert text.ids == ids[n_forgotten:]
    assert capsys.readouterr().err == f"[{n_forgotten} tokens forgotten: the model sees {N_CTX}]\n"
    assert list(text.generate(10)) == from_scratch(ids[n_forgotten:], params, 10)


@pytest.mark.parametrize("n_room", [1, N_CTX // 2])
def test_a_line_longer_than_the_context_leaves_room_for_new_tokens(params, n_room):
    text = Conversation(params, N_HEAD)
    text.add(range(90), n_room)
    assert text.ids == list(range(90))[-N_CTX // 2 :]
    assert len(list(text.generate(n_room))) == n_room


def test_a_text_goes_on_past_the_context_as_if_what_is_left_were_read_from_scratch(params, capsys):
    text, ids, n_forgettings = Conversation(params, N_HEAD), [1, 2, 3], 0
    text.add(ids)
    for new_id in text.generate(3 * N_CTX):
        if len(ids) > N_CTX:
            ids, n_forgettings = ids[-N_CTX // 2 :], n_forgettings + 1
        assert new_id == np.argmax(gpt2.gpt2(ids, **params, n_head=N_HEAD)[-1])
        ids.append(new_id)
    lines = capsys.readouterr().err.splitlines()
    assert n_forgettings > 3 and lines == n_forgettings * [
        f"[{N_CTX // 2 + 1} tokens forgotten: the model sees {N_CTX}]"
    ]


@pytest.mark.parametrize("n_ctx", [1, 2, 3])
def test_the_smallest_contexts_can_forget_too(n_ctx):
    hparams = SMALL | {"n_ctx": n_ctx}
    text = Conversation(lively_params(hparams, seed=1), N_HEAD)
    text.add(range(9), n_ctx // 2)
    assert len(list(text.generate(7))) == 7


def test_a_conversation_can_be_cleared(params):
    text = Conversation(params, N_HEAD)
    text.add([1, 2, 3], 5)
    list(text.generate(5))
    text.clear()
    text.add([4, 5], 5)
    assert list(text.generate(5)) == from_scratch([4, 5], params, 5)


def test_the_pick_of_each_turn_sees_the_whole_text(params):
    new_pick = sampling.pick_maker(0, temperature=0, repetition_penalty=1e6)
    text = Conversation(params, N_HEAD)
    for turn in range(2):
        text.add([turn + 1, turn + 4], 8)
        list(text.generate(8, new_pick(text.ids, turn)))
    assert len(set(text.ids)) == len(text.ids) == 20


def test_a_turn_that_was_stopped_before_its_first_token_can_be_continued_without_new_ids(params):
    def interrupted(logits):
        raise KeyboardInterrupt

    text = Conversation(params, N_HEAD)
    text.add([1, 2, 3], 5)
    with pytest.raises(KeyboardInterrupt):
        list(text.generate(5, interrupted))
    text.add([], 5)
    assert list(text.generate(5)) == from_scratch([1, 2, 3], params, 5)


def test_a_newline_comes_before_each_line_but_the_first(tiny):
    encoder = tiny[0]
    for special in (False, True):
        assert chat.line_ids("A fox", [], encoder, special) == encoder.encode("A fox")
        assert chat.line_ids("A fox", [5], encoder, special) == encoder.encode("\nA fox")
        assert chat.line_ids("  A fox", [5], encoder, special) == encoder.encode("\n  A fox")
        assert chat.line_ids("", [5], encoder, special) == encoder.encode("\n")
        assert chat.line_ids("", [], encoder, special) == []


def test_no_newline_comes_beside_a_special_token(tiny):
    encoder = tiny[0]
    end, fox = encoder.encoder[END_OF_TEXT], encoder.encode("A fox")
    newline = encoder.encode("\n")
    assert chat.line_ids(f"{END_OF_TEXT}A fox", [5], encoder, True) == [end, *fox]
    assert chat.line_ids("A fox", [5, end], encoder, True) == fox
    assert chat.line_ids("", [5, end], encoder, True) == []
    assert chat.line_ids(f"A fox{END_OF_TEXT}", [5], encoder, True) == [*newline, *fox, end]
    assert chat.line_ids("A fox", [end, 5], encoder, True) == [*newline, *fox]
    assert chat.line_ids("A fox", [5, end], encoder, False) == [*newline, *fox]
    assert chat.line_ids(END_OF_TEXT, [5], encoder, False) == encoder.encode(f"\n{END_OF_TEXT}")


# ---- on a terminal -----------------------------------------------------------------------------------------

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")


class Terminal:
    """`python gpt2.py` on its own pseudo-terminal."""

    def __init__(self, *words, **env):
        self.screen, theirs = pty.openpty()
        streams = {
            "stdin": theirs,
            "stdout": theirs,
            "stderr": theirs,
            "env": without_unbuffered() | {"NO_COLOR": "1"} | env,
        }
        self.process = subprocess.Popen([sys.executable, "gpt2.py", *words], cwd=ROOT, **streams)
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text):
        """Read until this text arrives; return what arrived before it, since the last call."""
        while text not in self.seen:
            assert select.select([self.screen], [], [], 60)[0], f"{text!r} does not come after {self.seen!r}"
            self.seen += os.read(self.screen, 1024).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, keys):
        os.write(self.screen, keys)

    def interrupt_until(self, text):
        """Send what Ctrl-C would send, again if nothing happens, and read until this text.

        Python's input() misses one that arrives after it has written its prompt and before it waits.
        """
        for _ in range(12):
            self.process.send_signal(signal.SIGINT)
            if select.select([self.screen], [], [], 5)[0]:
                break
        return self.wait_for(text)

    def end(self):
        """Ctrl-D, and the exit status."""
        self.type(b"\x04")
        return self.process.wait(timeout=60)


OPTIONS = ("--model_size=tiny", "--n_tokens_to_generate=12")


def test_lines_are_continued_until_ctrl_d(tiny):
    terminal = Terminal(*OPTIONS)
    wanted = (
        "The likeliest token is taken each time, and the text may repeat itself: --top_p 0.8 draws.\r\n"
        "Type a line: the model continues the text so far. "
        "Ctrl-C stops it, Ctrl-D quits, /help shows more.\r\n"
    )
    assert terminal.wait_for("> ") == wanted
    terminal.type(b"The little fox\n")
    first = terminal.wait_for("> ")
    assert first == "The little fox\r\n was so frightened that he ran away and hid himself in the\r\n"
    terminal.type(b"Then he saw\n")
    said = terminal.wait_for("> ").replace("\r", "").removeprefix("Then he saw\n").removesuffix("\n")
    so_far = first.replace("\r", "").removeprefix("The little fox\n").removesuffix("\n")
    ids = tiny[0].encode("The little fox") + tiny[0].encode(so_far) + tiny[0].encode("\nThen he saw")
    assert said == tiny[0].decode(gpt2.generate(ids, tiny[2], tiny[1]["n_head"], 12))
    assert terminal.end() == 0


@pytest.mark.parametrize("line", [b"The \xff fox\n", b"\xe9\n", b"caf\xc3\n", b"\xed\xa0\x80\n"])
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_line_that_is_not_utf8_is_left_out_and_the_chat_goes_on(line, locale):
    terminal = Terminal(*OPTIONS, LC_ALL=locale)
    terminal.wait_for("> ")
    dropped_by_readline = locale == "C.UTF-8" and line in (b"\xe9\n", b"caf\xc3\n")  # half a character
    for _ in range(2):
        terminal.type(line)
        said = terminal.wait_for("> ")
        assert dropped_by_readline or "\n[that line is not UTF-8 text and was left out" in said
    terminal.type(b"/clear\n")
    terminal.wait_for("> ")
    terminal.type(b"The little fox\n")
    said = terminal.wait_for("> ")
    assert said == "The little fox\r\n was so frightened that he ran away and hid himself in the\r\n"
    assert terminal.end() == 0


def test_a_line_in_utf8_is_read_where_the_locale_knows_only_ascii():
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = []
    for env in ({"LC_ALL": "C.UTF-8"}, ascii_only):
        terminal = Terminal(*OPTIONS, **env)
        terminal.wait_for("> ")
        terminal.type("Die Füchse\n".encode())
        said.append(terminal.wait_for("> ").partition("\r\n")[2])
        assert terminal.end() == 0
    assert said[0] == said[1] != "" and "UTF-8" not in said[0]


def test_a_turn_ends_before_the_stop_text():
    terminal = Terminal(*OPTIONS, "--stop= ran")
    terminal.wait_for("> ")
    terminal.type(b"The little fox\n")
    assert terminal.wait_for("> ").endswith(" was so frightened that he\r\n")
    assert terminal.end() == 0


def test_ctrl_c_stops_the_turn_but_not_the_program():
    terminal = Terminal("--model_size=tiny", "--n_tokens_to_generate=128", "--seed=1")
    terminal.wait_for("> ")
    terminal.type(b"Once upon a time\n")
    terminal.wait_for("Once upon a time\r\n")
    terminal.interrupt_until("> ")  # while it writes
    assert "[Ctrl-D quits]" in terminal.interrupt_until("> ")  # while it waits for a line
    assert terminal.end() == 0


def test_the_user_is_told_when_text_is_forgotten():
    terminal = Terminal("--model_size=tiny", "--n_tokens_to_generate=100")
    terminal.wait_for("> ")
    for _ in range(3):
        terminal.type(b"Once upon a time there was a fox, and he went out\n")
        said = terminal.wait_for("> ")
    assert "tokens forgotten: the model sees 256]" in said
    assert terminal.end() == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["--n_tokens_to_generate=129"],
            "n_tokens_to_generate is 129: in a chat it must be at most 128, half",
        ),
        (["--seed=1", "--n_samples=2"], "--n_samples needs a prompt: a chat cannot use it"),
        (["--lookup"], "--lookup needs a prompt"),
        (["--beams=2"], "--beams needs a prompt"),
        (["--draft=tiny"], "--draft needs a prompt"),
        (["--stats"], "--stats needs a prompt"),
        (["--keep_last"], "--keep_last needs a prompt"),
        (["--past_context"], "--past_context needs a prompt"),
        (["--prompt="], "the prompt is empty"),
    ],
)
def test_options_that_a_chat_cannot_use_are_refused(words, message):
    terminal = Terminal("--model_size=tiny", *words)
    terminal.wait_for(message)
    assert terminal.process.wait(timeout=60) == 2


def answer(terminal, line):
    """What the model writes after a line."""
    terminal.type(f"{line}\n".encode())
    said = terminal.wait_for("> ").replace("\r", "")
    return said.removeprefix(f"{line}\n").removesuffix("\n")


def test_a_special_token_in_a_line_is_the_token_with_special(tiny):
    encoder, hparams, params = tiny
    end, terminal = encoder.encoder[END_OF_TEXT], Terminal(*OPTIONS, "--special")
    terminal.wait_for("> ")
    ids = [end]
    said = answer(terminal, END_OF_TEXT)
    ids += gpt2.generate(ids, params, hparams["n_head"], 12)
    assert said == encoder.decode(ids[1:])
    n, ids = len(ids), [*ids, end, *encoder.encode("The little fox")]
    said = answer(terminal, f"{END_OF_TEXT}The little fox")
    assert n == 13 and said == encoder.decode(gpt2.generate(ids, params, hparams["n_head"], 12))
    assert terminal.end() == 0


def test_a_special_token_in_a_line_is_plain_text_without_special_and_a_line_says_so(tiny):
    encoder, hparams, params = tiny
    terminal = Terminal(*OPTIONS)
    terminal.wait_for("> ")
    note, _, said = answer(terminal, END_OF_TEXT).partition("\n")
    assert note == "['<|endoftext|>' in that line is read as plain text; --special makes it the token]"
    ids = encoder.encode(END_OF_TEXT)
    assert said == encoder.decode(gpt2.generate(ids, params, hparams["n_head"], 12))
    assert terminal.end() == 0


def test_a_line_with_a_character_that_the_vocabulary_lacks_is_left_out(tmp_path):
    hparams = {"n_vocab": 8, "n_ctx": 64, "n_embd": 8, "n_head": 2, "n_layer": 1}
    encoder = Encoder({character: i for i, character in enumerate("ĠĊabcdef")}, [])
    export.save(tmp_path / "out", encoder, hparams, lively_params(hparams, seed=0))
    terminal = Terminal("-n=4", f"--model_size={tmp_path / 'out'}")
    terminal.wait_for("> ")
    said = answer(terminal, "a zoo").rstrip("\n")
    assert said == "[the model's vocabulary has no token for 'z' (byte 0x7a): leave it out]"
    assert answer(terminal, "a cab") != "" and terminal.end() == 0


def test_where_the_vocabulary_has_no_newline_lines_follow_each_other():
    encoder = Encoder({character: i for i, character in enumerate("abc")}, [])
    assert chat.line_ids("ab", [2], encoder, False) == [0, 1] and chat.line_ids("", [2], encoder, False) == []


def test_a_chat_that_draws_needs_no_hint_how_to_draw():
    terminal = Terminal(*OPTIONS, "--seed=1")
    assert "--top_p" not in terminal.wait_for("> ")
    assert terminal.end() == 0


def test_lines_that_begin_with_a_slash_are_commands():
    terminal = Terminal(*OPTIONS)
    terminal.wait_for("> ")
    terminal.type(b"The little fox\n")
    first = terminal.wait_for("> ")
    terminal.type(b"/clear \n")
    assert "[forgotten: the next line begins a new text]" in terminal.wait_for("> ")
    terminal.type(b"The little fox\n")
    assert terminal.wait_for("> ") == first
    terminal.type(b"/help\n")
    said = terminal.wait_for("> ")
    assert "/clear  forget" in said and "/help   show this list" in said and "/quit   quit" in said
    terminal.type(b"/claer\n")
    assert (
        "[/claer is not a command; did you mean /clear? If it is text, type a space first]"
        in terminal.wait_for("> ")
    )
    terminal.type(b"/CLEAR\n")
    assert "[/CLEAR is not a command; did you mean /clear?" in terminal.wait_for("> ")
    terminal.type(b"/set temperature 1\n")
    assert "[/set temperature 1 is not a command. If it is text, type a space first]" in terminal.wait_for(
        "> "
    )
    terminal.type(b" /clear\n")
    assert "[" not in terminal.wait_for("> ")
    terminal.type(b"exit\n")
    assert "['exit' is continued as text; the command is /quit]" in terminal.wait_for("> ")
    terminal.type(b"/quit\n")
    assert terminal.process.wait(timeout=60) == 0


def test_what_the_model_writes_has_a_colour_unless_the_user_wants_none(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for environment, wanted in (
        ({}, "\033[38;5;32ma\033[0m\033[38;5;32m b\033[0m\n"),
        ({"NO_COLOR": "1"}, "a b\n"),
        ({"TERM": "dumb"}, "a b\n"),
    ):
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        chat.print_written(["a", "", " b"])
        assert capsys.readouterr().out == wanted


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_line_is_edited_and_an_earlier_one_comes_back(locale):
    pytest.importorskip("readline", reason="this Python has no readline")
    terminal = Terminal(*OPTIONS, LC_ALL=locale, TERM="xterm")
    terminal.wait_for("> ")
    terminal.type(b"The little fix\x7f\x7fox\n")
    first = terminal.wait_for(" was so frightened")
    assert "^?" not in first
    terminal.wait_for("> ")
    terminal.type(b"/clear\n")
    terminal.wait_for("> ")
    terminal.type(b"\x1b[A\x1b[A\n")  # up, up
    said = terminal.wait_for(" was so frightened")
    assert "The little fox" in said and "^[[A" not in said
    terminal.wait_for("> ")
    assert terminal.end() == 0
