"""The command: arguments, options, text as it comes, one line for an error, exit statuses."""

import inspect
import io
import itertools
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import (
    ROOT,
    SMALL,
    TINY,
    command,
    lively_params,
    run,
    run_python,
    without_unbuffered,
    write_model,
)

import cli
import gpt2
import options
import program
import utils
import weights
from checkpoint import in_openai_layout
from encoder import END_OF_TEXT, Encoder, bytes_to_unicode
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
    "-nm",
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


class Letters:
    """A tokenizer of a model that sees a thousand letters, and cannot be loaded."""

    stop_ids, special_tokens, is_exact = (), set(), True

    def encode(self, text, allowed_special, n_most):
        return [*text.encode("utf-8", "surrogateescape")]


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of the model, which is not run."""
    calls = []

    def open_model(model_size, models_dir, lora, weights):
        asked_for = {"model_size": model_size, "models_dir": models_dir, "lora": lora, "weights": weights}
        calls.append(asked_for)
        return Letters(), {"n_vocab": 256, "n_ctx": 1000, "n_head": 1} | SIZES, dict

    def stream(kind):
        def streams(ids, params, n_head, n, picks):
            asked_for = {"prompt": bytes(ids).decode(), "n": n, "stream": kind, "n_samples": len([*picks])}
            calls[-1] |= asked_for
            yield iter(["once ", "upon"])

        return streams

    def text_of(pieces, encoder, stop, before):
        calls[-1]["stop"] = stop
        return pieces

    monkeypatch.setattr(utils, "open_model", open_model)
    monkeypatch.setattr(cli, "text_of", text_of)
    for kind in ("plain", "with_lookup", "batched", "forgetting"):
        monkeypatch.setattr(options, kind, stream(kind))
    return calls


SIZES = {"n_embd": 8, "n_layer": 1}
MODELS = str(ROOT / "models")
USUAL = {"model_size": None, "models_dir": MODELS, "lora": None, "weights": None}
USUAL |= {"prompt": "hi", "n": 40, "stream": "plain"}
USUAL |= {"n_samples": 1, "stop": None}

# ---- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_prompt_reaches_the_model_letter_for_letter(asked, capsys, prompt):
    lines = [[f"--prompt={prompt}"], [*OPTIONS, f"--prompt={prompt}"]]
    if not prompt.startswith("--"):
        lines += [[prompt], [prompt, "5", "tiny"], [prompt, *OPTIONS]]
    if not prompt.startswith("-"):
        lines += [["--prompt", prompt], [*OPTIONS, prompt]]
    for argv in lines:
        assert run(argv) == 0
        assert asked.pop()["prompt"] == prompt
    out, err = capsys.readouterr()
    note = f"{prompt!r} comes first, so it is taken as the prompt (see --help)\n"
    assert out == "once upon\n" * len(lines) and err == (3 * note if prompt in ("-x", "-nm") else "")


@pytest.mark.parametrize(
    "argv, wanted",
    [
        (["hi"], {}),
        (
            ["hi", "7", "355M", "--models_dir", "elsewhere"],
            {"n": 7, "model_size": "355M", "models_dir": "elsewhere"},
        ),
        (["hi", "--n_tokens_to_generate", "0"], {"n": 0}),
        (["hi", "--n_tokens_to_generate=12", "--model_size=tiny"], {"n": 12, "model_size": "tiny"}),
        (["hi", "-n", "12", "-m", "tiny"], {"n": 12, "model_size": "tiny"}),
        (["hi", "-m=tiny", "-n=12"], {"n": 12, "model_size": "tiny"}),
        (["-m", "tiny", "hi"], {"model_size": "tiny"}),
        (["-n", "12", "hi"], {"n": 12}),
        (["-n12", "hi", "-t0.5"], {"n": 12}),
        (["-t", "0.5", "-m=tiny", "hi", "3"], {"n": 3, "model_size": "tiny"}),
        (["--lookup", "hi", "7"], {"n": 7, "stream": "with_lookup"}),
        (["hi", "7", "--lookup", "tiny"], {"n": 7, "model_size": "tiny", "stream": "with_lookup"}),
        (["--model_size", "tiny", "— Bonjour"], {"model_size": "tiny", "prompt": "— Bonjour"}),
        (["--prompt=-n"], {"prompt": "-n"}),
        (["hi", "--past_context"], {"stream": "forgetting"}),
        (["hi", "--seed=1", "--n_samples=3"], {"stream": "batched", "n_samples": 3}),
        (["hi", "--seed=1", "--n_samples=3", "--past_context"], {"stream": "forgetting", "n_samples": 3}),
        (
            ["--models_dir", "a b", "--model-size", "774M", "--n-tokens-to-generate=3", "hi"],
            {"n": 3, "model_size": "774M", "models_dir": "a b"},
        ),
    ],
)
def test_arguments_come_in_order_or_by_name(asked, argv, wanted):
    assert run(argv) == 0
    assert asked == [USUAL | wanted]


@pytest.mark.parametrize(
    "argv, message",
    [
        (
            [""],
            'the prompt is empty: give a text to continue, or "<.endoftext.>" --special to start a new on',
        ),
        (["--prompt="], "the prompt is empty"),
        (["--prompt"], "--prompt has no value .see --help"),
        (["--prompt", "--x"], "--prompt has no value; one that begins with a dash is given as --prompt=..."),
        (["hi", "--model_size"], "--model_size has no value"),
        (["--model_size", "--n_tokens_to_generate", "3", "hi"], "--model_size has no value"),
        (["hi", "--prompt=you"], "prompt is given twice: as 'hi', and as --prompt"),
        (["The fox", "5", "tiny", "-n", "7"], "n_tokens_to_generate is given twice: as '5', and as --n_tok"),
        (["--prompt=The fox", "5"], "prompt is given twice: as '5', and as --prompt"),
        (["hi", "-n", "3", "--n_tokens_to_generate=3"], "--n_tokens_to_generate is given twice"),
        (["hi", "--lookup", "--lookup"], "--lookup is given twice"),
        (["hi", "--lookup=no"], "--lookup is given 'no': it takes no value"),
        (["hi", "--lookup=yes"], "--lookup is given 'yes': it takes no value"),
        (["hi", "--lookup="], "--lookup is given '': it takes no value"),
        (["hi", "--lookup", "7"], "--lookup takes no value, but '7' follows it"),
        (["hi", "--special=<s>"], "--special is given '<s>': it takes no value"),
        (["hi", "--keep_last", "yes"], "--keep_last takes no value, but 'yes' follows it"),
        (["hi", "--help=x"], "--help takes no value"),
        (["hi", "--debug=1"], "--debug takes no value"),
        (["hi", "--models_dir", "--lookup"], "--models_dir has no value"),
        (["hi", "--models_dir=a", "--models_dir=b"], "--models_dir is given twice"),
        (["hi", "--models_dir=a", "--models-dir=b"], "--models_dir is given twice"),
        (["hi", "--temprature", "3"], "there is no option '--temprature': did you mean --temperature.$"),
        (["hi", "--extra=1"], "there is no option '--extra' .see --help"),
        (["hi", "--nomodels_dir"], "there is no option '--nomodels_dir': did you mean --models_dir"),
        (["hi", "--"], "there is no option '--' .see --help"),
        (["--help me"], "there is no option '--help me'"),
        (["-n"], "--n_tokens_to_generate has no value"),
        (["hi", "—seed", "5"], "'—seed' begins with a dash, but is not an option: did you mean --seed"),
        (["hi", "–m", "tiny"], "'–m' begins with a dash, but is not an option"),
        (["hi", "5", "tiny", "−−lookup"], "'−−lookup' begins with a dash.*did you mean --lookup"),
        (["--model_size", "tiny", "—seed=5", "hi"], "'—seed=5' begins with a dash.*did you mean --seed"),
        (["hi", "5", "-5"], "model_size is '-5': if that is right, write --model_size=-5"),
        (["hi", "5", "tiny", "yes"], "'yes' is one word too many"),
        (["hi", "--models_dir="], "models_dir is empty: give a folder, or leave --models_dir out"),
        (["hi", "--past_context", "--lookup"], "--past_context and --lookup cannot be used together"),
        (
            ["Alan", "Turing", "theorized", "that", "computers"],
            "'that' is one word too many: a prompt of several words",
        ),
        (["Alan", "Turing"], "n_tokens_to_generate is 'Turing': it must be a whole number.*in quotes"),
        (["hi", "--n_tokens_to_generate", "-5"], "n_tokens_to_generate is '-5': it must be .* 0 or more$"),
        (["hi", "--n_tokens_to_generate=2.5"], "n_tokens_to_generate is '2.5'"),
        (["hi", "--n_tokens_to_generate=True"], "n_tokens_to_generate is 'True'"),
        (["hi", "--n_tokens_to_generate="], "n_tokens_to_generate is ''"),
        (["hi", "--n_tokens_to_generate", "9" * 5000], "n_tokens_to_generate is '999"),
        (["a\udcffb"], "the prompt is not valid UTF-8 at byte 2"),
    ],
)
def test_a_wrong_use_is_one_line_and_status_2_before_anything_else(asked, capsys, argv, message):
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("gpt2.py: ") and err.count("\n") == 1
    assert re.search(message, err), err
    assert asked == []


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["hi", "--help"], ["-h", "-m", "tiny"]])
def test_help_names_every_option_and_its_default(asked, capsys, argv):
    assert run(argv) == 0
    out, err = capsys.readouterr()
    assert err == "" and asked == []
    for name, parameter in inspect.signature(cli.command).parameters.items():
        assert name == "prompt" or re.search(rf"^(-\w, )?--{name}\b", out, re.MULTILINE), name
        usual = {"n_tokens_to_generate": parameter.default, "model_size": utils.DEFAULT}
        if name in usual:
            default = rf"by default {usual[name]}\b|{usual[name]} .the default"
            assert re.search(rf"--{name} [A-Z]+\s+.*({default})", out), name
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
    "argv",
    [[], ["-"], ["--prompt=-"], ["--prompt", "-"], ["--n_tokens_to_generate=2", "-"], ["--model_size=tiny"]],
)
def test_what_is_piped_in_is_the_prompt_with_or_without_a_dash(asked, monkeypatch, argv, given, prompt):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert run(argv) == 0
    assert asked[0]["prompt"] == prompt


@pytest.mark.parametrize(
    "given, message",
    [
        (b"a\xff", "standard input is not UTF-8 text: byte 2 is 0xff"),
        (b"\n", "empty"),
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
    ],
)
@pytest.mark.parametrize("argv", [[], ["-"]])
def test_standard_input_that_is_no_prompt_is_refused(asked, monkeypatch, capsys, given, message, argv):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert run(argv) == 2
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
    sees = b"the model sees 256 tokens of at most 13 characters: shorten it, or use --keep_last\n"
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
        rb"at most (\d+) new ones fit, or use --past_context\n",
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
    assert (
        b"'125M', expected tiny, 124M, 355M, 774M, 1558M, an existing folder or .gguf file, or a name on"
        in done.stderr
    )


@pytest.mark.parametrize(
    "error, status", [(ModelError("x", "y", "z"), 1), (OSError("x"), 1), (ValueError("x"), 2)]
)
def test_an_error_is_one_line_and_its_status(monkeypatch, capsys, error, status):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(cli, "read_prompt", fail)
    assert run(["hi"]) == status
    assert capsys.readouterr() == ("", f"gpt2.py: {error}\n")


@pytest.mark.parametrize("error", [RuntimeError("x\ny"), MemoryError(), KeyError("x")])
def test_an_error_that_nobody_foresaw_is_one_line_too(monkeypatch, capsys, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(cli, "command", fail)
    assert run(["hi"]) == 1
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
    code = "import sys, program; program.run('cli'); print(sorted(m for m in sys.modules if 'extras' in m))"
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


def test_each_of_the_five_draws_and_without_them_the_text_is_greedy():
    greedy = command("Once", "20", "tiny").stdout
    for words in (
        "--temperature=1",
        "--top_k=99",
        "--top_p=1",
        "--min_p=0",
        "--top_k=0",
        "-t=1",
        "--seed=1",
    ):
        assert command("Once", "20", "tiny", words).stdout != greedy
    assert command("Once", "20", "tiny", "--temperature=0").stdout == greedy
    assert command("Once", "20", "tiny", "--repetition_penalty=1").stdout == greedy
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
        monkeypatch.setattr(options, "AT_ONCE", at_once)
        assert run(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2] and texts[0].count("\n---------------\n") == 4


def test_a_billion_samples_begin_at_once():
    words = ["gpt2.py", "The little fox", "3", "tiny", "--seed=5", "--n_samples=999999999"]
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE)
    lines = [process.stdout.readline() for _ in range(200)]
    process.kill()
    process.communicate()
    assert lines.count(b"---------------\n") > 40


@pytest.mark.parametrize("stop", ["42", "True", "None", "--x", " # ", '"', "-"])
def test_a_stop_text_is_taken_letter_for_letter(asked, stop):
    assert run(["hi", f"--stop={stop}"]) == 0
    assert asked.pop()["stop"] == stop


def test_the_command_ends_before_the_stop_text():
    whole = command("The little fox", "12", "tiny").stdout.decode()
    for stop in ("hid", "ran away", "\n", "never there"):
        done = command("The little fox", "12", "tiny", f"--stop={stop}")
        assert done.stdout.decode() == whole.removesuffix("\n").partition(stop)[0] + "\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--temperature=-1"], "temperature is -1.0: it must be 0 or more"),
        (["-t", "-1"], "temperature is -1.0: it must be 0 or more"),
        (["--temperature=hot"], "temperature is 'hot': it must be a number, such as 0.9"),
        (["--temperature=1e999"], "temperature is '1e999': it must be a number, such as 0.9"),
        (["--top_k=2.5"], "top_k is '2.5': it must be a whole number"),
        (["--top_k=-1"], "top_k is '-1': it must be a whole number, 0 or more"),
        (["--top_p=0"], "top_p is 0.0: it must be above 0 and at most 1; leave it out to draw from all"),
        (["--top_p=1.5"], "top_p is 1.5"),
        (["--min_p=2"], "min_p is 2.0: it must be from 0 to 1"),
        (["--repetition_penalty=0"], "repetition_penalty is 0.0: it must be above 0"),
        (["--seed=-1"], "seed is '-1': it must be a whole number, 0 or more"),
        (["--seed=abc"], "seed is 'abc': it must be a whole number, 0 or more$"),
        (
            ["--seed=10000000000000000000"],
            "seed is '1000.*': it must have at most 18 digits",
        ),
        (["--n_samples=0"], "n_samples is 0: it must be 1 or more"),
        (["--n_samples=2"], "n_samples is 2: all texts would be the same: give --seed, or another option"),
        (["--n_samples=2", "--seed=1", "-t=0"], "n_samples is 2: all texts would be the same"),
        (["--n_samples=2", "--repetition_penalty=2"], "n_samples is 2: all texts would be the same"),
        (["--n_samples=2", "--seed=1", "--lookup"], "--n_samples and --lookup cannot be used together"),
        (["--n_samples=2", "--seed=1", "--explain"], "--n_samples and --explain cannot be used together"),
        (["--stop="], "stop is empty: give the text to stop at"),
        (["--no_repeat_ngram=0"], "no_repeat_ngram is 0: it must be a whole number, 1 or more"),
        (["--beams=0"], "beams is 0: it must be 1 or more"),
        (["--beams=4", "--seed=1"], "--beams draws nothing, so --seed has no meaning: leave one out"),
        (["--beams=4", "--top_p=0.9"], "--beams draws nothing, so --top_p has no meaning: leave one out"),
        (["--beams=4", "--lookup"], "--beams and --lookup cannot be used together: leave one out"),
        (["--beams=4", "--draft=tiny"], "--beams and --draft cannot be used together"),
        (["--beams=4", "--explain"], "--beams and --explain cannot be used together"),
        (["--beams=4", "--stats"], "--beams and --stats cannot be used together"),
        (["--beams=4", "--length_penalty=1e999"], "length_penalty is '1e999': it must be a number"),
        (["--length_penalty=2"], "length_penalty compares the texts of --beams: give --beams too, or leave"),
        (["--draft=tiny", "--past_context"], "--draft and --past_context cannot be used together"),
        (["--draft=tiny", "--n_samples=2", "--seed=1"], "--n_samples and --draft cannot be used together"),
    ],
)
def test_choices_out_of_range_are_refused_before_anything_is_loaded(monkeypatch, capsys, words, message):
    monkeypatch.setattr(cli, "read_prompt", None)
    assert run(["hi", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.search(message, err) and err.count("\n") == 1


@pytest.mark.parametrize(
    "stop, wanted", [(r"\n", "\n"), (r"\t", "\t"), (r"a\\n", r"a\n"), (r"\x\\\n", "\\x\\\n")]
)
def test_a_stop_text_can_be_a_line_end_a_tab_or_a_backslash(asked, stop, wanted):
    assert run(["hi", f"--stop={stop}"]) == 0
    assert asked.pop()["stop"] == wanted


@pytest.mark.parametrize("stop", ["\udcff", "a\udce2\udc80"])
def test_a_stop_text_that_is_not_utf8_is_refused(asked, capsys, stop):
    assert run(["hi", f"--stop={stop}"]) == 2 and asked == []
    assert capsys.readouterr().err == "gpt2.py: stop is not valid UTF-8: convert it to UTF-8\n"


def test_a_stop_text_in_utf8_is_the_same_in_any_locale(asked):
    as_bytes = "“".encode().decode("ascii", "surrogateescape")
    assert run(["hi", f"--stop={as_bytes}"]) == 0 and asked.pop()["stop"] == "“"


@pytest.mark.parametrize(
    "prompt, note",
    [
        ("tiny", "'tiny' is taken as the prompt; for the model, write --model_size tiny"),
        ("gpt2", "'gpt2' is taken as the prompt; for the model, write --model_size gpt2"),
        ("README.md", "'README.md' is taken as the prompt; to read the file, write - < README.md"),
        ("Tiny", ""),
        ("README", ""),
    ],
)
def test_a_prompt_that_is_the_name_of_something_gets_a_line(asked, monkeypatch, capsys, prompt, note):
    monkeypatch.chdir(ROOT)
    assert run([prompt]) == 0 and asked[0]["prompt"] == prompt
    assert capsys.readouterr().err == (note and note + "\n")


def test_a_penalty_alone_stays_greedy(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode("Once upon a time")
    pick = picker(ids, rng=None, repetition_penalty=1.5)
    wanted = encoder.decode(gpt2.generate(ids, params, hparams["n_head"], 40, pick))
    words = ["Once upon a time", "40", "tiny", "--repetition_penalty=1.5"]
    for more in ([], [], ["--temperature=0"]):
        assert command(*words, *more).stdout.decode() == wanted.partition(END_OF_TEXT)[0] + "\n"
    assert command(*words[:-1]).stdout != command(*words).stdout


# ---- special tokens ----------------------------------------------------------------------------------------


def continued(tiny, ids, n):  # -> bytes
    encoder, hparams, params = tiny
    return f"{encoder.decode(gpt2.generate(ids, params, hparams['n_head'], n))}\n".encode()


def test_a_special_token_in_the_prompt_is_the_token_with_special_and_plain_text_without(tiny):
    encoder, prompt = tiny[0], f"Once.{END_OF_TEXT}The little fox"
    with_token = [*encoder.encode("Once."), encoder.encoder[END_OF_TEXT], *encoder.encode("The little fox")]
    done = command(prompt, "9", "tiny", "--special")
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", continued(tiny, with_token, 9))
    line = b"'<|endoftext|>' in the prompt is read as plain text; --special makes it the token\n"
    done = command(prompt, "9", "tiny")
    assert (done.returncode, done.stderr) == (0, line)
    assert done.stdout == continued(tiny, encoder.encode(prompt), 9) != continued(tiny, with_token, 9)


def test_a_prompt_of_the_one_token_writes_from_nothing(tiny):
    wanted = continued(tiny, [tiny[0].encoder[END_OF_TEXT]], 9)
    for words in (
        [END_OF_TEXT, "--special"],
        ["--special", END_OF_TEXT],
        [f"--prompt={END_OF_TEXT}", "--special"],
    ):
        done = command(*words, "-n9", "-m=tiny")
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", wanted)
    for end in ("", "\n", "\r\n"):
        done = command("--special", "-n9", "-m=tiny", input=f"{END_OF_TEXT}{end}".encode())
        assert (done.returncode, done.stdout) == (0, wanted)


def test_a_prompt_without_special_tokens_is_the_same_with_special():
    done = command("Once upon a time", *OPTIONS, "--special")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == command("Once upon a time", *OPTIONS).stdout


def test_a_character_that_the_vocabulary_lacks_is_named(monkeypatch, capsys):
    encoder = Encoder({character: i for i, character in enumerate("ĠĊabc")}, [])
    monkeypatch.setattr(utils, "open_model", lambda *arguments: (encoder, SMALL, None))
    assert run(["a bé"]) == 2
    said = "the model's vocabulary has no token for 'é' (byte 0xc3): leave it out"
    error = capsys.readouterr().err
    assert said in error and "keep_last" not in error


def test_endoftext_is_refused_with_special_where_the_model_has_no_such_token(monkeypatch, capsys):
    encoder = Encoder({character: i for i, character in enumerate("ĠĊabc")} | {"</s>": 5}, [])
    monkeypatch.setattr(utils, "open_model", lambda *arguments: (encoder, SMALL, None))
    assert run([END_OF_TEXT, "--special"]) == 2
    said = "gpt2.py: this model has no token <|endoftext|>; its special tokens: </s>\n"
    assert capsys.readouterr() == ("", said)


@pytest.fixture
def marked(monkeypatch):
    """A model that writes many special tokens, and half characters: its encoder; the command runs it."""
    tokens = [*bytes_to_unicode().values(), *(f"<{i}>" for i in range(150)), "<ab>", END_OF_TEXT]
    encoder = Encoder({token: i for i, token in enumerate(tokens)}, [])
    hparams = SMALL | {"n_vocab": len(tokens)}
    params = lively_params(hparams, seed=0)
    monkeypatch.setattr(utils, "open_model", lambda *arguments: (encoder, hparams, lambda: params))
    return encoder


def written(words, monkeypatch):  # -> list of ids for each text, whatever ends it
    """The ids that a command line makes the model write."""
    texts = []
    with monkeypatch.context() as patch:
        patch.setattr(cli, "text_of", lambda new_ids, encoder, stop, before: texts.append([*new_ids]) or [""])
        assert run(words) == 0
    return texts


@pytest.mark.parametrize(
    "words",
    [
        ["a<3>bc"],
        ["a<3>bc", "--special"],
        ["a<3>bc", "--lookup"],
        ["a<3>bc", "90", "--past_context", "--special"],
        ["a<3>bc" * 20, "--keep_last", "--special"],
        ["a<3>bc", "--seed=1", "--n_samples=3", "--special"],
        ["a<3>bc", "--explain"],
        ["a<3>bc", "--stats"],
        ["a<3>bc", "--repetition_penalty=1.3", "--special"],
    ],
)
def test_special_tokens_that_the_model_writes_are_not_shown(marked, monkeypatch, capsys, words):
    words = words if "90" in words else [*words, "-n=24"]
    texts = written(words, monkeypatch)
    special = {marked.encoder[token] for token in marked.special_tokens}
    assert all({*ids} & special and {*ids} - special for ids in texts)
    wanted = [[i for i in upto(ids, marked.stop_ids) if i not in special] for ids in texts]
    capsys.readouterr()
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert out == "\n---------------\n".join(map(marked.decode, wanted)) + "\n"
    if "--explain" in words:
        arrows = [line for line in err.splitlines() if line.endswith(" <-")]
        assert len(arrows) == len(upto(texts[0], marked.stop_ids))
        assert any(line.startswith("'<") for line in arrows)
    if "--stats" in words:
        assert f"text {len(upto(texts[0], marked.stop_ids))} tokens" in err


def upto(ids, stop_ids):
    return [*itertools.takewhile(lambda i: i not in stop_ids, ids)]


def test_the_line_about_plain_text_names_the_first_special_token_of_the_prompt(marked, capsys):
    assert run(["x<7 <149> <ab><3>", "-n=0"]) == 0
    line = "'<149>' in the prompt is read as plain text; --special makes it the token\n"
    assert capsys.readouterr() == ("\n", line)
    assert run(["x<7 <149> <ab><3>", "-n=0", "--special"]) == 0
    assert capsys.readouterr() == ("\n", "")


def test_a_model_without_special_tokens_runs_with_special(monkeypatch, capsys):
    encoder = Encoder({token: i for i, token in enumerate(bytes_to_unicode().values())}, [])
    hparams = SMALL | {"n_vocab": 256}
    params = lively_params(hparams, seed=0)
    monkeypatch.setattr(utils, "open_model", lambda *arguments: (encoder, hparams, lambda: params))
    assert run(["a<3>b", "-n=9", "--special"]) == 0
    shown = capsys.readouterr()
    assert run(["a<3>b", "-n=9"]) == 0
    assert capsys.readouterr() == shown and shown.err == ""


LONG = "Once upon a time there was a fox who lived in a wood. " * 30


def test_keep_last_keeps_the_end_that_fits(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode(LONG)
    wanted = encoder.decode(gpt2.generate(ids[-(256 - 20) :], params, hparams["n_head"], 20))
    done = command(LONG, "20", "tiny", "--keep_last")
    assert done.stdout.decode() == wanted + "\n"
    line = f"of {len(ids)} tokens of the prompt, the last 236 are used (--keep_last)\n"
    assert done.stderr.decode() == line
    short = command("Once", "20", "tiny", "--keep_last")
    assert short.stderr == b"" and short.stdout == command("Once", "20", "tiny").stdout
    for words, option in (
        (["20"], b"--keep_last"),
        (["256", "--keep_last"], b"--past_context"),
        (["20", "--past_context"], b"--keep_last"),
    ):
        none = command(LONG, *words, "-m", "tiny")
        assert (none.returncode, none.stdout) == (2, b"") and none.stderr.endswith(b", or use %b\n" % option)
    said = (
        f"the prompt has {len(ids)} tokens, but the model sees 256: shorten it, or use --keep_last".encode()
    )
    assert said in command(LONG, "5", "tiny", "--past_context").stderr
    said = b"300 new tokens leave no room for the prompt: at most 255 do, or use --past_context"
    assert said in command(LONG, "300", "tiny", "--keep_last").stderr
    assert command(LONG, "255", "tiny", "--keep_last").returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell what waits in a pipe")
def test_piped_text_that_is_not_read_gets_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("Once")
    line = b"standard input is not read, because a prompt is given\n"
    plain = command("The little fox", "3", "tiny")
    assert plain.stderr == b""
    with open(tmp_path / "a.txt") as file:
        assert command("The little fox", "3", "tiny", stdin=file).stderr == line
    code = f"echo Once | '{sys.executable}' gpt2.py 'The little fox' 3 tiny"
    done = subprocess.run(code, shell=True, cwd=ROOT, capture_output=True)
    assert done.stdout == plain.stdout and done.stderr in (line, b"")  # echo may be late
    assert command("-", "3", "tiny", input=b"Once").stderr == b""


def test_past_context_writes_more_than_the_model_sees(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode("Once upon a time")
    first = gpt2.generate(ids, params, hparams["n_head"], 256 - len(ids))
    done = command("Once upon a time", "300", "tiny", "--past_context")
    forgotten = b"[129 tokens forgotten: the model sees 256]\n"
    assert (done.returncode, done.stderr) == (0, forgotten)
    assert done.stdout.decode().startswith(encoder.decode(first))
    strict = command("Once upon a time", "300", "tiny")
    assert (strict.returncode, strict.stdout) == (2, b"") and strict.stderr.endswith(
        b"fit, or use --past_context\n"
    )
    assert command("Once", "9", "tiny", "--past_context").stdout == command("Once", "9", "tiny").stdout
    words = ["Once", "9", "tiny", "--seed=1", "--n_samples=2"]
    assert command(*words, "--past_context").stdout == command(*words).stdout


def test_a_long_prompt_can_be_cut_and_go_on_past_the_context():
    done = command(LONG, "200", "tiny", "--past_context", "--keep_last")
    assert done.returncode == 0 and len(done.stdout) > 300
    cut, *forgotten = done.stderr.decode().splitlines()
    assert "are used (--keep_last)" in cut and len(forgotten) == 2


def test_the_version_is_that_of_the_project_and_of_the_changelog():
    version = re.search('^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    python = ".".join(map(str, sys.version_info[:3]))
    done = command("--version")
    assert done.stdout.decode() == f"plainGPT {version}, Python {python}, NumPy {np.__version__}\n"
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--version", "--seed", "0"], "--version and --seed cannot be used together"),
        (["--models", "-t=0"], "--models and --temperature cannot be used together"),
        (["--version", "--seed", "3"], "--version and --seed cannot be used together: leave one out"),
        (["--models", "--check"], "--models and --check cannot be used together"),
        (["--check", "--stats", "-m", "tiny"], "--check and --stats cannot be used together"),
        (["--version", "--stop", "x"], "--version and --stop cannot be used together"),
        (["--models", "--special"], "--models and --special cannot be used together"),
        (["--models", "--beams=2"], "--models and --beams cannot be used together"),
        (["--check", "--draft=tiny"], "--check and --draft cannot be used together"),
        (["--check", "--special", "-m", "tiny"], "--check and --special cannot be used together"),
    ],
)
def test_a_report_takes_no_options_for_a_text(capsys, words, message):
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err


@pytest.mark.parametrize("option", ["--version", "--models", "--check"])
def test_a_report_takes_no_prompt(capsys, option):
    advice = "a model is given with --model_size"
    assert run(["hi", option]) == 2
    assert capsys.readouterr() == ("", f"gpt2.py: {option} takes no prompt, but 'hi' is given: {advice}\n")


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
    assert run(["Once", "3", str(model)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "gpt2.py: the logits are not finite numbers: the weights are damaged or too large\n"


def test_the_end_of_the_text_is_not_shown(monkeypatch, capsys, tiny):
    ids = [*tiny[0].encode("the end"), tiny[0].encoder[END_OF_TEXT], *tiny[0].encode("more")]
    monkeypatch.setattr(gpt2, "stream", lambda *arguments: iter(ids))
    assert run(["hi", "--model_size=tiny"]) == 0
    assert capsys.readouterr().out == "the end\n"


def test_text_appears_as_it_is_generated(monkeypatch, capsys):
    seen = []

    def text_of(*arguments):
        for piece in ("one", " two", "", " three"):
            yield piece
            seen.append(capsys.readouterr().out)

    monkeypatch.setattr(cli, "text_of", text_of)
    assert run(["hi", "-m", "tiny"]) == 0
    assert seen == ["one", " two", "", " three"]


ENDLESS = """import itertools, cli, program
cli.text_of = lambda *arguments: map("{} ".format, itertools.count())
raise SystemExit(program.run("cli", argv=["hi", "-m", "tiny"]))"""


def start(*words):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=without_unbuffered(), **pipes)


@pytest.mark.parametrize("words", [["-c", ENDLESS], ["gpt2.py", "--help"]])
def test_a_reader_who_leaves_ends_it_quietly(words):
    with start(*words) as process:
        if words[0] == "-c":
            assert process.stdout.read(1)  # text comes while the rest is made
        process.stdout.close()
        assert process.wait(60) == 1 and process.stderr.read() == b""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to a process")
def test_ctrl_c_while_numpy_is_imported_leaves_no_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = without_unbuffered() | {"PYTHONPATH": str(tmp_path)}
    done = command("Once", *OPTIONS, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


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
    def text_of(*arguments):
        yield from pieces
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "text_of", text_of)
    assert run(["hi", "-m", "tiny"]) == 130
    assert capsys.readouterr() == (shown, "")


def test_a_text_goes_on_when_nobody_reads_stderr():
    words = [sys.executable, "gpt2.py", "Once", "30", "tiny", "--explain"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stderr.close()
        out = process.stdout.read()
    assert process.returncode == 0 and out == command("Once", "30", "tiny").stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_the_status_of_an_error_does_not_depend_on_stderr():
    done = subprocess.run(f"'{sys.executable}' gpt2.py Once -m tinx 2>/dev/full", shell=True, cwd=ROOT)
    assert done.returncode == 2


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


def test_the_longest_error_is_a_short_line():
    status, line = program.report(ValueError("x\n" * 10**6), "")
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
        (["hi", "-5", "tiny"], b"n_tokens_to_generate is '-5': it must be a whole number"),
        (["hi", "2.5", "tiny"], b"n_tokens_to_generate is '2.5': it must be a whole number"),
        (["hi", "True", "tiny"], b"n_tokens_to_generate is 'True': it must be a whole number"),
        (["hi", "300", "tiny"], b" and 300 new ones, but the model sees 256: at most "),
        (["", "5", "tiny"], b"the prompt is empty"),
        (["hi", "5", "../tiny"], b"model_size is '../tiny': there is no such folder; expected tiny"),
        (
            ["hi", "5", "/etc/passwd"],
            b"model_size is '/etc/passwd', a file, but a model is a folder: expected tiny, 124M, ",
        ),
        (["hi", "5", "..\\tiny"], b"there is no such folder; expected tiny, 124M"),
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
