import io
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, TINY, command, in_openai_layout, run_python, without_unbuffered, write_model

import checkpoint
import cli
import gpt2
from encoder import END_OF_TEXT

PROMPTS = [
    "42",
    "1e5",
    "0x41",
    "True",
    "None",
    "Hello, world",
    "Hello # world",
    "[a, b]",
    "{a: b}",
    "(hi)",
    '"quoted"',
    "'single'",
    "upper",
    "...",
    "-5 degrees",
    "-x",
    "-n",
    "- 1",
    "a=b",
    "prompt=x",
    "two\nlines\n",
    " space ",
    "\t",
    "\\n",
    "%s {} $HOME",
    "naïve 日本語 🦊",
    "--",
    "--option",
    "--help me",
    "--prompt=x",
]
OPTIONS = ["--model_size", "tiny", "--n_tokens_to_generate", "5"]


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of the model, which is not run."""
    calls = []

    def stream_text(*arguments):
        calls.append(arguments)
        yield from ("once ", "upon")

    monkeypatch.setattr(cli, "stream_text", stream_text)
    return calls


# ---- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_prompt_reaches_the_model_letter_for_letter(asked, capsys, prompt):
    lines = [[f"--prompt={prompt}"], [*OPTIONS, f"--prompt={prompt}"]]
    if not prompt.startswith("--"):
        lines += [[prompt], [prompt, "5", "tiny"], [prompt, *OPTIONS]]
    if not prompt.startswith("-"):
        lines += [["--prompt", prompt], [*OPTIONS, prompt]]
    for argv in lines:
        assert cli.run(argv) == 0
        assert asked.pop()[0] == prompt
    assert capsys.readouterr() == ("once upon\n" * len(lines), "")


@pytest.mark.parametrize(
    "argv, wanted",
    [
        (["hi"], ("hi", 40, "124M", "models", False)),
        (["hi", "7", "355M", "elsewhere"], ("hi", 7, "355M", "elsewhere", False)),
        (["hi", "--n_tokens_to_generate", "0"], ("hi", 0, "124M", "models", False)),
        (["hi", "--n_tokens_to_generate=12", "--model_size=tiny"], ("hi", 12, "tiny", "models", False)),
        (["--lookup", "hi", "7"], ("hi", 7, "124M", "models", True)),
        (["hi", "7", "--lookup", "tiny"], ("hi", 7, "tiny", "models", True)),
        (
            ["--models_dir", "a b", "--model-size", "774M", "--n-tokens-to-generate=3", "hi"],
            ("hi", 3, "774M", "a b", False),
        ),
    ],
)
def test_arguments_come_in_order_or_by_name(asked, argv, wanted):
    assert cli.run(argv) == 0
    assert asked == [wanted]


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "the prompt is empty"),
        ([""], "the prompt is empty"),
        (["--prompt="], "the prompt is empty"),
        (["--prompt"], "--prompt has no value .*a prompt can go in as --prompt="),
        (["hi", "--model_size"], "--model_size has no value"),
        (["--model_size", "--n_tokens_to_generate", "3", "hi"], "--model_size has no value"),
        (["hi", "--prompt=you"], "--prompt is given twice"),
        (["hi", "--lookup", "--lookup"], "--lookup is given twice"),
        (["hi", "--lookup=no"], "--lookup is given 'no': it takes no value"),
        (["hi", "--lookup="], "--lookup is given '': it takes no value"),
        (["hi", "--models_dir", "--lookup"], "--models_dir has no value"),
        (["hi", "--models_dir=a", "--models_dir=b"], "--models_dir is given twice"),
        (["hi", "--models_dir=a", "--models-dir=b"], "--models-dir is given twice"),
        (["hi", "--temprature", "3"], "unknown option --temprature"),
        (["hi", "-n", "3"], "unknown option --n"),
        (["hi", "--extra=1"], "unknown option --extra"),
        (["hi", "--nomodels_dir"], "no value"),
        (["hi", "--"], "--"),
        (["--help me"], "--help me has no value"),
        (["Alan", "Turing", "theorized", "that", "computers"], "'computers' is one word too many.*in quotes"),
        (["Alan", "Turing"], "n_tokens_to_generate is 'Turing', not a whole number.*in quotes"),
        (["hi", "--n_tokens_to_generate", "-5"], "n_tokens_to_generate is '-5', not a whole number"),
        (["hi", "--n_tokens_to_generate=2.5"], "n_tokens_to_generate is '2.5'"),
        (["hi", "--n_tokens_to_generate=True"], "n_tokens_to_generate is 'True'"),
        (["hi", "--n_tokens_to_generate="], "n_tokens_to_generate is ''"),
        (["hi", "--n_tokens_to_generate", "9" * 5000], "n_tokens_to_generate is '999"),
        (["a\udcffb"], "the prompt is not valid UTF-8 text at character 2"),
    ],
)
def test_a_wrong_use_is_one_line_and_status_2_before_anything_else(asked, capsys, argv, message):
    assert cli.run(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("gpt2.py: ") and err.count("\n") == 1
    assert re.search(message, err), err
    assert asked == []


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["hi", "--help"]])
def test_help_names_every_option_and_its_default(asked, capsys, argv):
    assert cli.run(argv) == 0
    out, err = capsys.readouterr()
    assert err == "" and asked == []
    for name, default in (("n_tokens_to_generate", "40"), ("model_size", "124M"), ("models_dir", "models")):
        assert f"--{name} {default}" in out
    assert all(len(line) <= 80 for line in out.splitlines())


# ---- text, streams and exit statuses -----------------------------------------------------------------------


def test_the_command_writes_what_main_returns_and_a_newline():
    done = command("Once upon a time", *OPTIONS)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == gpt2.main("Once upon a time", 5, "tiny") + "\n"


def test_no_tokens_are_an_empty_line():
    assert command("Once", "0", "tiny").stdout == b"\n"


@pytest.mark.parametrize(
    "given, prompt",
    [
        (b"Hello\n", "Hello"),
        (b"Hello", "Hello"),
        (b"Hello\n\n", "Hello\n"),
        (b"Hello\r\n", "Hello"),
        ('é\n -5 # "x"'.encode(), 'é\n -5 # "x"'),
    ],
)
@pytest.mark.parametrize(
    "argv", [["-"], ["--prompt=-"], ["--prompt", "-"], ["--n_tokens_to_generate=2", "-"]]
)
def test_a_dash_reads_the_prompt_from_standard_input(asked, monkeypatch, argv, given, prompt):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert cli.run(argv) == 0
    assert asked[0][0] == prompt


@pytest.mark.parametrize(
    "given, message", [(b"a\xff", "valid UTF-8 text at character 2"), (b"\n", "empty"), (b"", "empty")]
)
def test_standard_input_that_is_no_prompt_is_refused(asked, monkeypatch, capsys, given, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert cli.run(["-"]) == 2
    assert message in capsys.readouterr().err and asked == []


@pytest.mark.skipif(os.name == "nt", reason="on Windows, words are text, not bytes")
def test_a_prompt_on_the_command_line_that_is_not_utf8_is_refused():
    done = command(b"caf\xe9", *OPTIONS)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"gpt2.py: the prompt is not valid UTF-8 text at character 4\n"


def test_what_does_not_fit_is_refused_before_any_weight_is_touched(tmp_path):
    for name in ("hparams.json", "encoder.json", "vocab.bpe"):  # a model without weights
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    done = command("word " * 240, "--n_tokens_to_generate=20", f"--model_size={tmp_path}")
    assert (done.returncode, done.stdout) == (2, b"")
    found = re.fullmatch(
        rb"gpt2\.py: (\d+) prompt tokens and 20 new ones, the model sees 256: at most (\d+) new ones fit\n",
        done.stderr,
    )
    assert found and int(found[1]) + int(found[2]) == 256
    done = command("word", f"--model_size={tmp_path}")
    assert done.returncode == 1 and b"model.ckpt.index is missing" in done.stderr


def test_a_prompt_and_new_tokens_that_just_fit_are_run():
    done = command("a" + " a" * 253, "--n_tokens_to_generate=2", "--model_size=tiny")
    assert done.returncode == 0, done.stderr


def test_an_unknown_size_is_a_wrong_use_and_names_the_known():
    done = command("hi", "--model_size", "125M")
    assert (done.returncode, done.stdout) == (2, b"")
    assert (
        b"'125M', not tiny, 124M, 355M, 774M, 1558M, a model's folder, or gpt2 or owner/name on"
        in done.stderr
    )


@pytest.mark.parametrize("error, status", [(cli.ModelError("x"), 1), (OSError("x"), 1), (ValueError("x"), 2)])
def test_an_error_is_one_line_and_its_status(monkeypatch, capsys, error, status):
    def fail(*arguments):
        raise error
        yield

    monkeypatch.setattr(cli, "stream_text", fail)
    assert cli.run(["hi"]) == status
    assert capsys.readouterr() == ("", "gpt2.py: x\n")


@pytest.mark.parametrize("error", [RuntimeError("x\ny"), MemoryError(), KeyError("x")])
def test_an_error_that_nobody_foresaw_is_one_line_too(monkeypatch, capsys, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(cli, "command", fail)
    assert cli.run(["hi"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(f"gpt2.py: {type(error).__name__}: ")
    assert shown.err.count("\n") == 1 and "--debug shows where" in shown.err


@pytest.mark.parametrize("argv", [["hi", "--debug", "--model_size=no"], ["--debug", "hi", "5", "no"]])
def test_debug_shows_where_an_error_arose(argv):
    done = command(*argv)
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.startswith(b"Traceback") and b"utils.py" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"gpt2.py: model_size is 'no', not tiny")


def test_lookup_changes_no_letter():
    plain = command("Once upon a time", "200", "tiny")
    assert command("Once upon a time", "200", "tiny", "--lookup").stdout == plain.stdout
    assert plain.returncode == 0 and len(plain.stdout) > 500


def test_extras_are_loaded_only_when_asked_for():
    code = "import sys, cli; cli.run(sys.argv[1:]); print(sorted(m for m in sys.modules if 'extras' in m))"
    assert run_python("-c", code, "Once", "1", "tiny").stdout.endswith(b"\n[]\n")
    wanted = b"\n['extras', 'extras.speculative']\n"
    assert run_python("-c", code, "Once", "1", "tiny", "--lookup").stdout.endswith(wanted)


def test_debug_changes_nothing_where_all_is_well():
    assert command("Once", "3", "tiny", "--debug").stdout == command("Once", "3", "tiny").stdout


def test_weights_that_make_no_numbers_make_no_text(tmp_path, tiny):
    arrays = checkpoint.flatten(tiny[2])
    arrays["ln_f/g"] = arrays["ln_f/g"] * np.float32(1e38)
    model = write_model(tmp_path / "huge", in_openai_layout(arrays), tiny[1])
    done = command("Once", "3", str(model))
    assert done.returncode == 1 and done.stdout == b""
    said = done.stderr.splitlines()[-1]  # before it, NumPy's warnings
    assert said == b"gpt2.py: the logits are not finite numbers: the weights are damaged"


def test_the_end_of_the_text_is_not_shown(monkeypatch, capsys, tiny):
    ids = [*tiny[0].encode("the end"), tiny[0].encoder[END_OF_TEXT], *tiny[0].encode("more")]
    monkeypatch.setattr(gpt2, "stream", lambda *arguments: iter(ids))
    assert cli.run(["hi", "--model_size=tiny"]) == 0
    assert capsys.readouterr().out == "the end\n"


def test_text_appears_as_it_is_generated(monkeypatch, capsys):
    seen = []

    def stream_text(*arguments):
        for piece in ("one", " two", "", " three"):
            yield piece
            seen.append(capsys.readouterr().out)

    monkeypatch.setattr(cli, "stream_text", stream_text)
    assert cli.run(["hi"]) == 0
    assert seen == ["one", " two", "", " three"]


ENDLESS = """import itertools, cli
cli.stream_text = lambda *arguments: map("{} ".format, itertools.count())
raise SystemExit(cli.run(["hi"]))"""


def start(*words):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=without_unbuffered(), **pipes)


@pytest.mark.parametrize("words", [["-c", ENDLESS], ["gpt2.py", "--help"]])
def test_a_reader_who_leaves_ends_it_quietly(words):
    with start(*words) as process:
        if words[0] == "-c":
            assert process.stdout.read(1)  # text comes while the rest is made
        process.stdout.close()
        assert process.wait(60) == 1 and process.stderr.read() == b""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to another process")
def test_ctrl_c_keeps_the_text_and_returns_130():
    with start("-c", ENDLESS) as process:
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        text = (first + process.stdout.read()).decode()
        assert process.wait(60) == 130 and process.stderr.read() == b""
    assert text.endswith("\n") and "".join(map("{} ".format, range(len(text)))).startswith(text[:-1])


@pytest.mark.parametrize("pieces, shown", [((), ""), (("",), ""), (("one", ""), "one\n")])
def test_ctrl_c_leaves_no_line_where_no_text_was(monkeypatch, capsys, pieces, shown):
    def stream_text(*arguments):
        yield from pieces
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "stream_text", stream_text)
    assert cli.run(["hi"]) == 130
    assert capsys.readouterr() == (shown, "")


@pytest.mark.skipif(os.name == "nt", reason="no shell that can close a stream")
@pytest.mark.parametrize(
    "close, status", [(">&-", 0), ("2>&-", 0), ("<&-", 0), ("- <&-", 2), ("--bad=1 2>&-", 2)]
)
def test_a_closed_stream_is_empty_or_goes_nowhere(close, status):
    prompt = "" if close.startswith("-") and "bad" not in close else "Once"
    line = f'"{sys.executable}" gpt2.py {prompt} {close} --n_tokens_to_generate=2 --model_size=tiny'
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, env=without_unbuffered())
    assert done.returncode == status and b"Traceback" not in done.stderr
    assert bool(done.stdout) == (status == 0 and close != ">&-")


@pytest.mark.parametrize(
    "encoding, shown", [("ascii", b"? ?\n"), ("cp1252", b"\xe9 ?\n"), ("utf-8", "é 🦊\n".encode())]
)
def test_a_terminal_that_lacks_a_character_shows_a_question_mark(monkeypatch, encoding, shown):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", stdout)
    cli.write(iter(["é", " 🦊"]))
    assert stdout.buffer.getvalue() == shown


@pytest.mark.parametrize("flags", [["-O"], ["-W", "error"], ["-X", "utf8=0"]])
def test_it_runs_under_the_flags_of_python(flags):
    environment = os.environ | {"LC_ALL": "C"}
    done = run_python(*flags, "gpt2.py", "Once upon a time", *OPTIONS, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == gpt2.main("Once upon a time", 5, "tiny") + "\n"


@pytest.mark.parametrize(
    "argv, message",
    [
        (["hi", "-5", "tiny"], b"n_tokens_to_generate is '-5', not a whole number"),
        (["hi", "2.5", "tiny"], b"n_tokens_to_generate is '2.5', not a whole number"),
        (["hi", "True", "tiny"], b"n_tokens_to_generate is 'True', not a whole number"),
        (["hi", "300", "tiny"], b" and 300 new ones, the model sees 256: at most "),
        (["", "5", "tiny"], b"the prompt is empty"),
        (["hi", "5", "../tiny"], b"model_size is '../tiny', not tiny, 124M"),
        (["hi", "5", "/etc/passwd"], b"/etc/passwd is a file, a model is a folder; python -m extras.convert"),
        (["hi", "5", "..\\tiny"], b", not tiny, 124M"),
        (["hi", "5", "117M"], b"model_size is '117M': OpenAI has renamed it 124M"),
    ],
)
def test_a_wrong_use_of_the_command_is_one_line_even_under_python_o(argv, message):
    done = run_python("-O", "gpt2.py", *argv)
    assert done.returncode == 2 and done.stdout == b""
    assert message in done.stderr and done.stderr.count(b"\n") == 1


def test_a_terminal_that_knows_only_ascii_shows_question_marks(tmp_path, tiny):
    encoder, hparams, params = tiny
    arrays = checkpoint.flatten(params)
    accent = encoder.encode("é")[0]  # half a character: what it begins, nothing ends
    arrays["wte"] = arrays["wte"].copy()
    arrays["wte"][accent] *= 100
    arrays["ln_f/g"], arrays["ln_f/b"] = arrays["ln_f/g"] * 0, arrays["wte"][accent]  # it is always the next
    model = write_model(tmp_path / "accent", in_openai_layout(arrays), hparams)
    environment = without_unbuffered() | {"PYTHONIOENCODING": "ascii"}
    done = run_python("gpt2.py", "x", "3", str(model), env=environment)
    assert done.returncode == 0 and done.stdout == b"???\n" and done.stderr == b""


def test_it_runs_from_another_folder(tmp_path):
    done = run_python(str(ROOT / "gpt2.py"), "Once upon a time", *OPTIONS, cwd=tmp_path)
    assert done.stdout.decode() == gpt2.main("Once upon a time", 5, "tiny") + "\n"
    assert os.listdir(tmp_path) == []
