"""The command: arguments, options, text as it comes, one line for an error, exit statuses."""

import io
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, TINY, command, run_python, without_unbuffered, write_model

import cli
import gpt2
import weights
from checkpoint import in_openai_layout
from encoder import END_OF_TEXT
from extras.sampling import picker
from files import ModelError

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

    def stream_text(prompt, n_tokens_to_generate, model_size, models_dir, new_picks, samples, stop):
        model = n_tokens_to_generate, model_size, models_dir
        calls.append((prompt, *model, samples, *new_picks.args, stop))
        yield from ("once ", "upon")

    monkeypatch.setattr(cli, "stream_text", stream_text)
    return calls


DEFAULTS = (cli.plain, cli.greedy_pick, 1, None, None)  # samples, new_pick, n_samples, explain, stop

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
        (["hi"], ("hi", 40, "124M", "models", *DEFAULTS)),
        (["hi", "7", "355M", "elsewhere"], ("hi", 7, "355M", "elsewhere", *DEFAULTS)),
        (["hi", "--n_tokens_to_generate", "0"], ("hi", 0, "124M", "models", *DEFAULTS)),
        (["hi", "--n_tokens_to_generate=12", "--model_size=tiny"], ("hi", 12, "tiny", "models", *DEFAULTS)),
        (["--lookup", "hi", "7"], ("hi", 7, "124M", "models", cli.with_lookup, *DEFAULTS[1:])),
        (["hi", "7", "--lookup", "tiny"], ("hi", 7, "tiny", "models", cli.with_lookup, *DEFAULTS[1:])),
        (
            ["--models_dir", "a b", "--model-size", "774M", "--n-tokens-to-generate=3", "hi"],
            ("hi", 3, "774M", "a b", *DEFAULTS),
        ),
    ],
)
def test_arguments_come_in_order_or_by_name(asked, argv, wanted):
    assert cli.run(argv) == 0
    assert asked == [wanted]


def typed(
    text: str, share: float = 0.5, n: int = 1, *, kind: str = "", loud: bool = False, very_loud: bool = False
):
    print(repr((text, share, n, kind, loud, very_loud)))


@pytest.mark.parametrize(
    "argv, wanted",
    [
        (["42"], ("42", 0.5, 1, "", False, False)),
        (["a", "0.25", "7", "--loud"], ("a", 0.25, 7, "", True, False)),
        (["--very-loud", "--n=3", "a", ".5"], ("a", 0.5, 3, "", False, True)),
        (["--text=--n", "--kind", "1e5", "--share=2."], ("--n", 2.0, 1, "1e5", False, False)),
        (["[1]", "--kind=None", "--very_loud"], ("[1]", 0.5, 1, "None", False, True)),
        (["--kind", "__loud", "xxloud"], ("xxloud", 0.5, 1, "__loud", False, False)),
    ],
)
def test_annotations_say_what_words_become(capsys, argv, wanted):
    assert cli.run(argv, typed, "help", "typed") == 0
    assert capsys.readouterr() == (f"{wanted!r}\n", "")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["a", "x"], "share is 'x', not a number such as 0.9"),
        (["a", "nan"], "share is 'nan', not a number"),
        (["a", "--share=1e3"], "share is '1e3', not a number"),
        (["a", "--share=-1"], "share is '-1', not a number"),
        (["a", "1", "two"], "n is 'two', not a whole number"),
        (["a", "1", "2", "k"], "'k' is one word too many: put a text of several words in quotes"),
        (["a", "--loud=x"], "--loud is given 'x': it takes no value"),
        (
            ["a", "--volume=1"],
            "unknown option --volume .see --help.; if it is part of the text, write --text=...",
        ),
        (["a", "--kind"], "--kind has no value .see --help.; if it is part of the text, write --text=..."),
    ],
)
def test_words_of_another_kind_are_refused_under_the_programs_name(capsys, argv, message):
    assert cli.run(argv, typed, "help", "typed") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("typed: ") and re.search(message, err) and err.count("\n") == 1


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "the prompt is empty"),
        ([""], "the prompt is empty"),
        (["--prompt="], "the prompt is empty"),
        (["--prompt"], "--prompt has no value .*if it is part of the prompt, write --prompt="),
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
        (["a\udcffb"], "the prompt is not valid UTF-8 at byte 2"),
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
        (b"\xef\xbb\xbfone\r\ntwo\r\n", "one\ntwo"),
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
    "given, message",
    [
        (b"a\xff", "standard input is not UTF-8 text: byte 2 is 0xff"),
        (b"\n", "empty"),
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
    ],
)
def test_standard_input_that_is_no_prompt_is_refused(asked, monkeypatch, capsys, given, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert cli.run(["-"]) == 2
    assert message in capsys.readouterr().err and asked == []


@pytest.mark.skipif(os.name == "nt", reason="no shell with yes on Windows")
def test_standard_input_without_end_is_refused():
    command = f"yes | {sys.executable} gpt2.py - --model_size=tiny"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"gpt2.py: standard input has more than 134,217,728 bytes: shorten it\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a program's memory in this way")
def test_a_prompt_that_cannot_fit_is_refused_in_little_memory_without_being_tokenized():
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    text = b"word " * 20_000_000
    done = command(
        "-", *OPTIONS, input=text, preexec_fn=limit, env=without_unbuffered() | {"OMP_NUM_THREADS": "1"}
    )
    assert (done.returncode, done.stdout) == (2, b"")
    sees = b"the model sees 256 tokens of at most 13 characters: shorten it\n"
    assert done.stderr == b"gpt2.py: the text has 100,000,000 characters, but " + sees


@pytest.mark.skipif(os.name == "nt", reason="on Windows, words are text, not bytes")
def test_a_prompt_in_utf8_is_the_same_in_a_locale_that_knows_only_ascii():
    plain = without_unbuffered() | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    there, here = (command("Füchse, 狐", *OPTIONS, env=env) for env in (plain, without_unbuffered()))
    assert (there.returncode, there.stderr) == (0, b"") and there.stdout == here.stdout


@pytest.mark.skipif(os.name == "nt", reason="on Windows, words are text, not bytes")
def test_a_prompt_on_the_command_line_that_is_not_utf8_is_refused():
    done = command(b"caf\xe9", *OPTIONS)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"gpt2.py: the prompt is not valid UTF-8 at byte 4: convert it to UTF-8\n"


def test_what_does_not_fit_is_refused_before_any_weight_is_touched(tmp_path):
    for name in ("hparams.json", "encoder.json", "vocab.bpe"):  # a model without weights
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    done = command("word " * 240, "--n_tokens_to_generate=20", f"--model_size={tmp_path}")
    assert (done.returncode, done.stdout) == (2, b"")
    found = re.fullmatch(
        rb"gpt2\.py: (\d+) prompt tokens and 20 new ones, but the model sees 256: "
        rb"at most (\d+) new ones fit\n",
        done.stderr,
    )
    assert found and int(found[1]) + int(found[2]) == 256
    done = command("word", f"--model_size={tmp_path}")
    assert done.returncode == 1 and b"model.ckpt.index: missing" in done.stderr


def test_a_prompt_and_new_tokens_that_just_fit_are_run():
    done = command("a" + " a" * 253, "--n_tokens_to_generate=2", "--model_size=tiny")
    assert done.returncode == 0, done.stderr


def test_an_unknown_size_is_a_wrong_use_and_names_the_known():
    done = command("hi", "--model_size", "125M")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"'125M', expected tiny, 124M, 355M, 774M, 1558M, an existing folder, or a name on" in done.stderr


@pytest.mark.parametrize(
    "error, status", [(ModelError("x", "y", "z"), 1), (OSError("x"), 1), (ValueError("x"), 2)]
)
def test_an_error_is_one_line_and_its_status(monkeypatch, capsys, error, status):
    def fail(*arguments):
        raise error
        yield

    monkeypatch.setattr(cli, "stream_text", fail)
    assert cli.run(["hi"]) == status
    assert capsys.readouterr() == ("", f"gpt2.py: {error}\n")


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
    assert done.stderr.splitlines()[-1].startswith(b"gpt2.py: model_size is 'no', expected tiny")


def test_lookup_changes_no_letter():
    plain = command("Once upon a time", "200", "tiny")
    assert command("Once upon a time", "200", "tiny", "--lookup").stdout == plain.stdout
    assert plain.returncode == 0 and len(plain.stdout) > 500


def test_extras_are_loaded_only_when_asked_for():
    code = "import sys, cli; cli.run(sys.argv[1:]); print(sorted(m for m in sys.modules if 'extras' in m))"
    assert run_python("-c", code, "Once", "1", "tiny").stdout.endswith(b"\n[]\n")
    wanted = b"\n['extras', 'extras.speculative']\n"
    assert run_python("-c", code, "Once", "1", "tiny", "--lookup").stdout.endswith(wanted)


# ---- options that choose -----------------------------------------------------------------------------------


def words_of(**settings):
    return [f"--{name}={value}" for name, value in settings.items()]


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 3},
        {"temperature": 0.5, "seed": 3},
        {"top_k": 4, "seed": 3},
        {"top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.5, "temperature": 2, "seed": 3},
    ],
)
def test_options_draw_what_a_picker_draws(tiny, settings):
    encoder, hparams, params = tiny
    ids, rng = encoder.encode("The little fox"), np.random.default_rng([3, 0])
    chosen = {"temperature": 1} | {name: value for name, value in settings.items() if name != "seed"}
    new_ids = gpt2.generate(ids, params, hparams["n_head"], 20, picker(ids, rng=rng, **chosen))
    done = command("The little fox", "20", "tiny", *words_of(**settings))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == encoder.decode(new_ids) + "\n"


def test_sample_i_draws_from_the_seed_and_i(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode("The little fox")
    pick = picker(ids, rng=np.random.default_rng([3, 1]), top_k=9)
    wanted = encoder.decode(gpt2.generate(ids, params, hparams["n_head"], 20, pick))
    done = command("The little fox", "20", "tiny", "--seed=3", "--top_k=9", "--n_samples=2")
    assert done.stdout.decode().endswith(f"\n---------------\n{wanted}\n")


def test_without_a_seed_every_run_is_another():
    assert (
        command("Once", "20", "tiny", "--top_k=99").stdout
        != command("Once", "20", "tiny", "--top_k=99").stdout
    )


def test_each_of_the_six_draws_and_without_them_the_text_is_greedy():
    greedy = command("Once", "20", "tiny").stdout
    for words in (
        "--temperature=1",
        "--top_k=99",
        "--top_p=1",
        "--min_p=0",
        "--repetition_penalty=1",
        "--seed=1",
    ):
        assert command("Once", "20", "tiny", words).stdout != greedy
    assert command("Once", "20", "tiny", "--temperature=0").stdout == greedy
    assert command("Once", "20", "tiny", "--temperature=0", "--top_p=0.5", "--seed=1").stdout == greedy


def test_samples_are_the_same_alone_or_among_others():
    words = ["The little fox", "15", "tiny", "--seed=5", "--top_k=50", "--lookup"]
    alone = command(*words).stdout.decode()
    line = "\n---------------\n"
    three = command(*words[:-1], "--n_samples=3").stdout.decode()
    five = command(*words[:-1], "--n_samples=5").stdout.decode()
    samples = five.removesuffix("\n").split(line)
    assert len(set(samples)) == 5 and three == line.join(samples[:3]) + "\n" and alone == samples[0] + "\n"


def test_samples_are_the_same_in_one_batch_or_in_several(monkeypatch, capsys):
    words = ["The little fox", "10", "tiny", "--seed=5", "--top_k=50", "--n_samples=5"]
    texts = []
    for at_once in (1, 2, 5):
        monkeypatch.setattr(cli, "AT_ONCE", at_once)
        assert cli.run(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2] and texts[0].count("\n---------------\n") == 4


def test_a_billion_samples_begin_at_once():
    words = ["gpt2.py", "The little fox", "3", "tiny", "--seed=5", "--n_samples=999999999"]
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE)
    lines = [process.stdout.readline() for _ in range(200)]
    process.kill()
    process.communicate()
    assert lines.count(b"---------------\n") > 40


@pytest.mark.parametrize(
    "pieces", [["a hidd", "en hid", "d", "en door"], list("a hidden hidden door"), ["a hidden hidden door"]]
)
@pytest.mark.parametrize(
    "stop, wanted",
    [("hidden d", "a hidden "), ("a", ""), ("hidden", "a "), ("dd", "a hi"), ("zz", "a hidden hidden door")],
)
def test_a_stop_text_is_never_half_printed(pieces, stop, wanted):
    printed = ""
    for piece in cli.until(iter(pieces), stop):
        printed += piece
        assert wanted.startswith(printed)
    assert printed == wanted


def test_text_waits_only_while_it_may_be_the_beginning_of_stop():
    assert list(cli.until(iter(["ab", "c", "ab", "x"]), "abx")) == ["", "abc", "", ""]
    assert list(cli.until(iter(["ab", "c"]), None)) == ["ab", "c", ""]


@pytest.mark.parametrize("stop", ["42", "True", "None", "--x", " # ", '"', "-"])
def test_a_stop_text_is_taken_letter_for_letter(asked, stop):
    assert cli.run(["hi", f"--stop={stop}"]) == 0
    assert asked.pop()[-1] == stop


def test_the_command_ends_before_the_stop_text():
    whole = command("The little fox", "12", "tiny").stdout.decode()
    for stop in ("hid", "ran away", "\n", "never there"):
        done = command("The little fox", "12", "tiny", f"--stop={stop}")
        assert done.stdout.decode() == whole.removesuffix("\n").partition(stop)[0] + "\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--temperature=-1"], "temperature is '-1', not a number"),
        (["--temperature=hot"], "temperature is 'hot', not a number such as 0.9"),
        (["--top_k=0"], "top_k is 0: it must be a whole number, 1 or more"),
        (["--top_k=2.5"], "top_k is '2.5', not a whole number"),
        (["--top_p=0"], "top_p is 0.0: it must be above 0 and at most 1"),
        (["--top_p=1.5"], "top_p is 1.5"),
        (["--min_p=2"], "min_p is 2.0: it must be from 0 to 1"),
        (["--repetition_penalty=0"], "repetition_penalty is 0.0: it must be above 0"),
        (["--seed=-1"], "seed is '-1', not a whole number"),
        (["--n_samples=0"], "n_samples is 0, expected 1, or more with an option that draws"),
        (
            ["--n_samples=2"],
            "n_samples is 2, expected 1, or more with an option that draws, such as --seed 0",
        ),
        (["--n_samples=2", "--seed=1", "--lookup"], "without --lookup or --explain"),
        (["--n_samples=2", "--seed=1", "--explain"], "without --lookup or --explain"),
        (["--stop="], "stop is empty: give the text to stop at"),
    ],
)
def test_choices_out_of_range_are_refused_before_anything_is_loaded(monkeypatch, capsys, words, message):
    monkeypatch.setattr(cli, "stream_text", None)
    assert cli.run(["hi", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.search(message, err) and err.count("\n") == 1


def test_debug_changes_nothing_where_all_is_well():
    assert command("Once", "3", "tiny", "--debug").stdout == command("Once", "3", "tiny").stdout


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_make_no_numbers_make_no_text(tmp_path, monkeypatch, capsys, tiny):
    arrays = weights.flatten(tiny[2])
    arrays["ln_f/g"] = arrays["ln_f/g"] * np.float32(1e38)
    model = write_model(tmp_path / "huge", in_openai_layout(arrays), tiny[1])
    done = command("Once", "3", str(model))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"model.ckpt: ln_f/g holds " in done.stderr and b"no trained weight is above 10,000" in done.stderr

    monkeypatch.setattr(weights, "LARGEST_WEIGHT", np.inf)
    assert cli.run(["Once", "3", str(model)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "gpt2.py: the logits are not finite numbers: the weights are damaged or too large\n"


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


def test_ctrl_c_while_numpy_is_imported_leaves_no_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n")
    environment = without_unbuffered() | {"PYTHONPATH": str(tmp_path)}
    done = command("Once", *OPTIONS, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_without_its_libraries_it_says_in_one_line_what_to_install():
    done = run_python("-S", "gpt2.py", "Once", *OPTIONS)  # -S: without site-packages
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.endswith(b": pip install -r requirements.txt\n")


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
    cli.prepare_streams()
    cli.write(iter(["é", " 🦊"]))
    assert stdout.buffer.getvalue() == shown


def test_text_on_a_terminal_cannot_command_it(monkeypatch, tiny):
    escape = tiny[0].encode("\x1b[2J\n")
    shown_text = "".join(cli.text_of(escape, tiny[0]))
    assert shown_text == "\x1b[2J\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "".join(cli.text_of(escape, tiny[0])) == "\\x1b[2J\n"


def test_the_longest_error_is_a_short_line():
    status, line = cli.report(ValueError("x\n" * 10**6))
    assert status == 2 and len(line) == 1500


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
        (["hi", "300", "tiny"], b" and 300 new ones, but the model sees 256: at most "),
        (["", "5", "tiny"], b"the prompt is empty"),
        (["hi", "5", "../tiny"], b"model_size is '../tiny', expected tiny, 124M"),
        (
            ["hi", "5", "/etc/passwd"],
            b"/etc/passwd is a file, but a model is a folder; to convert a PyTorch checkpoint, "
            b"run python -m extras.huggingface.",
        ),
        (["hi", "5", "..\\tiny"], b", expected tiny, 124M"),
        (["hi", "5", "117M"], b"model_size is '117M', which OpenAI renamed: use 124M"),
    ],
)
def test_a_wrong_use_of_the_command_is_one_line_even_under_python_o(argv, message):
    done = run_python("-O", "gpt2.py", *argv)
    assert done.returncode == 2 and done.stdout == b""
    assert message in done.stderr and done.stderr.count(b"\n") == 1


def test_a_terminal_that_knows_only_ascii_shows_question_marks(tmp_path, tiny):
    encoder, hparams, params = tiny
    arrays = weights.flatten(params)
    accent = encoder.encode("é")[0]  # half a character: what it begins, nothing ends
    arrays["wte"] = arrays["wte"].copy()
    arrays["wte"][accent] *= 100
    arrays["ln_f/g"], arrays["ln_f/b"] = arrays["ln_f/g"] * 0, arrays["wte"][accent]  # it is always the next
    model = write_model(tmp_path / "accent", in_openai_layout(arrays), hparams)
    environment = without_unbuffered() | {"PYTHONIOENCODING": "ascii"}
    done = run_python("gpt2.py", "x", "3", str(model), env=environment)
    assert done.returncode == 0 and done.stdout == b"???\n" and done.stderr == b""


def test_every_command_writes_where_only_ascii_can_be_written(tmp_path):
    (tmp_path / "a.txt").write_text("Ein Füchslein, 狐 🦊\n", encoding="utf-8")
    environment = without_unbuffered() | {"PYTHONIOENCODING": "ascii"}
    done = run_python(
        *("-m", "extras.scoring", str(tmp_path / "a.txt"), "--model_size=tiny", "--show"), env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii() and b"bits per byte" in done.stdout and b"?" in done.stdout


def test_it_runs_from_another_folder(tmp_path):
    done = run_python(str(ROOT / "gpt2.py"), "Once upon a time", *OPTIONS, cwd=tmp_path)
    assert done.stdout.decode() == gpt2.main("Once upon a time", 5, "tiny") + "\n"
    assert os.listdir(tmp_path) == []
