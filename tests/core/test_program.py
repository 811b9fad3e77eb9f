"""Any function as a program: how words become arguments, and one line where that fails."""

import ast
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from helpers import ROOT, run, run_python, without_unbuffered

import program
import utils

PROGRAMS = {  # the file: what its errors begin with, what lists its libraries
    "gpt2.py": ("gpt2.py", "requirements.txt"),
    "extras/scoring.py": ("extras.scoring", "requirements.txt"),
    "extras/finetune.py": ("extras.finetune", "requirements-extras.txt"),
    "extras/corpus/__main__.py": ("extras.corpus", "requirements.txt"),
    "extras/picture.py": ("extras.picture", "requirements-extras.txt"),
    "extras/page/__main__.py": ("extras.page", "requirements.txt"),
    "extras/huggingface/export.py": ("extras.huggingface.export", "requirements-extras.txt"),
    "extras/huggingface/gguf_files.py": ("extras.huggingface.gguf_files", "requirements-extras.txt"),
    "extras/huggingface/convert.py": ("extras.huggingface.convert", "requirements-extras.txt"),
    "training/train.py": ("training.train", "training/requirements.txt"),
    "training/measure.py": ("training.measure", "requirements.txt"),
    "benchmarks/run.py": ("benchmarks.run", "benchmarks/requirements.txt"),
    "notebooks/build.py": ("notebooks/build.py", "requirements-dev.txt"),
}

# ---- arguments ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def typed_is_a_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "typed", types.SimpleNamespace(command=typed, HELP="help"))


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
        (["a", "--share=1e3"], ("a", 1000.0, 1, "", False, False)),
        (["a", "--share", "-1"], ("a", -1.0, 1, "", False, False)),
        (["a", "--kind", "-5", "--n", "999999999999999999"], ("a", 0.5, 10**18 - 1, "-5", False, False)),
        (["--loud", "— Bonjour", "2"], ("— Bonjour", 2.0, 1, "", True, False)),
        (["-", "2"], ("-", 2.0, 1, "", False, False)),
        (["", "2"], ("", 2.0, 1, "", False, False)),
        (["[1]", "--kind=None", "--very_loud"], ("[1]", 0.5, 1, "None", False, True)),
        (["--kind", "__loud", "xxloud"], ("xxloud", 0.5, 1, "__loud", False, False)),
    ],
)
def test_annotations_say_what_words_become(capsys, argv, wanted):
    assert run(argv, "typed") == 0
    assert capsys.readouterr() == (f"{wanted!r}\n", "")


@pytest.mark.parametrize(
    "argv, message",
    [
        (
            ["a", "x"],
            "share is 'x': it must be a number, such as 0.9; a text of several words goes in quotes$",
        ),
        (["a", "nan"], "share is 'nan': it must be a number"),
        (["a", "--share=0,8"], "share is '0,8': it must be a number, such as 0.9$"),
        (["a", "--share", "٣"], "share is '٣': it must be a number"),
        (["a", "1", "two"], "n is 'two': it must be a whole number, 0 or more; a text of several words goes"),
        (["a", "1", "-2"], "n is '-2': it must be a whole number, 0 or more$"),
        (["a", "--n=" + "9" * 5000], "n is '9{47}...': it must have at most 18 digits$"),
        (["a", "1", "2", "k"], "'k' is one word too many: a text of several words goes in quotes"),
        (["a", "--loud=x"], "--loud is given 'x': it takes no value"),
        (["a", "--volume=1"], "there is no option '--volume' .see --help.$"),
        (["a", "--luod"], "there is no option '--luod': did you mean --loud.$"),
        (["a", "--LOUD"], "there is no option '--LOUD': did you mean --loud"),
        (["a", "--hlep"], "there is no option '--hlep': did you mean --help.$"),
        (["a", "--very"], "there is no option '--very': did you mean --very_loud.$"),
        (["a", "-t", "3"], "there is no option '-t'"),
        (
            ["--txt", "b"],
            "there is no option '--txt': did you mean --text. If it is the text, write --text=",
        ),
        (
            ["--dear me"],
            "there is no option '--dear me' .see --help.. If it is the text, write '--text=--dear me'",
        ),
        (["--loud", "-5"], "--loud takes no value, but '-5' follows it$"),
        (["a", "--kind"], "--kind has no value .see --help.$"),
        (["a", "--kind", "-x"], "--kind has no value; one that begins with a dash is given as --kind=...$"),
        (
            ["a", "—loud"],
            "'—loud' begins with a dash, but is not an option: did you mean --loud.$",
        ),
        (["--loud", "–kind=b"], "'–kind=b' begins with a dash, but is not an option: did you mean --kind.$"),
        (["a", "1", "--share=2"], "share is given twice: as '1', and as --share$"),
        (
            ["--text=a", "b"],
            "text is given twice: as 'b', and as --text; a text of several words",
        ),
    ],
)
def test_words_of_another_kind_are_refused_under_the_programs_name(capsys, argv, message):
    assert run(argv, "typed") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("typed: ") and re.search(message, err) and err.count("\n") == 1


@pytest.mark.parametrize(
    "argv, note",
    [
        (["help"], "'help' is taken as the text; the option is --help"),
        (["help", "0.5"], ""),
        (["version"], ""),
        (["-loud"], "'-loud' comes first, so it is taken as the text; the option is --loud"),
        (["—kind=x"], "'—kind=x' comes first, so it is taken as the text; the option is --kind"),
        (["-help"], "'-help' comes first, so it is taken as the text; the option is --help"),
        (["-x"], "'-x' comes first, so it is taken as the text (see --help)"),
        (["-?"], "'-?' comes first, so it is taken as the text (see --help)"),
        (["loud"], ""),
        (["-x y"], ""),
        (["-5"], ""),
        (["— Bonjour"], ""),
    ],
)
def test_a_first_word_that_may_not_be_meant_as_it_is_taken_gets_a_line(capsys, argv, note):
    assert run(argv, "typed") == 0
    out, err = capsys.readouterr()
    assert err == (note and note + "\n") and out.startswith(f"('{argv[0]}'")


@pytest.mark.parametrize("word, option", [("help", "help"), ("list", "models"), ("version", "version")])
def test_the_words_of_other_programs_stay_prompts_and_name_the_option(monkeypatch, capsys, word, option):
    import cli

    asked = []
    monkeypatch.setattr(cli, "read_prompt", asked.append)
    monkeypatch.setattr(utils, "open_model", None)
    assert run([word]) == 1 and asked == [word]  # no model could be opened
    note, *_ = capsys.readouterr().err.splitlines()
    assert note == f"{word!r} is taken as the prompt; the option is --{option}"


def many(*texts: str, n: int = 1, kind: str = "", loud: bool = False):
    print(repr((texts, n, kind, loud)))


@pytest.fixture
def many_is_a_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "many", types.SimpleNamespace(command=many, HELP="help"))


@pytest.mark.parametrize(
    "argv, wanted",
    [
        ([], ((), 1, "", False)),
        (["a"], (("a",), 1, "", False)),
        (["a", "b", "c"], (("a", "b", "c"), 1, "", False)),
        (["a", "--n", "3", "b", "--loud", "c"], (("a", "b", "c"), 3, "", True)),
        (["--n=3", "a", "--kind", "b", "c"], (("a", "c"), 3, "b", False)),
        (["--loud", "a"], (("a",), 1, "", True)),
        (
            ["42", "-5", "0.5", "None", "[1]", "a b", ""],
            (("42", "-5", "0.5", "None", "[1]", "a b", ""), 1, "", False),
        ),
        (["-", "a"], (("-", "a"), 1, "", False)),
        (["— Bonjour", "a"], (("— Bonjour", "a"), 1, "", False)),
    ],
)
def test_a_function_of_words_gets_all_that_are_not_options(many_is_a_module, capsys, argv, wanted):
    assert run(argv, "many") == 0
    assert capsys.readouterr() == (f"{wanted!r}\n", "")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["a", "--texts=b"], "there is no option '--texts'"),
        (["--texts", "b"], "there is no option '--texts'"),
        (["a", "--lod", "b"], "there is no option '--lod'"),
        (["a", "-x"], "there is no option '-x'"),
        (["a", "—n=3"], "'—n=3' begins with a dash, but is not an option: did you mean --n"),
        (["a", "b", "--n"], "--n has no value"),
        (["a", "--n", "x"], "n is 'x': it must be a whole number"),
        (["a", "--n", "1", "b", "--n", "2"], "--n is given twice"),
        (["a", "--loud", "yes"], "--loud takes no value"),
    ],
)
def test_a_function_of_words_refuses_what_any_other_does(many_is_a_module, capsys, argv, message):
    assert run(argv, "many") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"many: {message}") and err.count("\n") == 1, err


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["a", "-h"], ["a", "1", "--help"]])
def test_help_is_shown_wherever_it_is_asked_for(capsys, argv):
    assert run(argv, "typed") == 0
    assert capsys.readouterr() == (f"help{program.END_OF_HELP}", "")


# ---- without libraries, or in an old Python ----------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project without an environment."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "models", "tests", "*.ipynb")
    return shutil.copytree(ROOT, folder, ignore=left_out)


def bare(*words, cwd):
    """Python without site-packages."""
    outside = {name: value for name, value in without_unbuffered().items() if name != "CONDA_PREFIX"}
    return run_python("-S", *words, cwd=cwd, env=outside | {"PYTHONPATH": ""})


@pytest.mark.skipif(os.name == "nt", reason="on Windows an environment is made with other words")
@pytest.mark.parametrize("path", PROGRAMS)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_without_its_libraries_each_program_says_in_one_line_what_to_install(copy, tmp_path, path, elsewhere):
    name, requirements = PROGRAMS[path]
    done = bare(copy / path, "x", cwd=tmp_path if elsewhere else copy)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    wanted = copy / requirements if elsewhere else requirements
    folder = copy if elsewhere else "."
    make = (
        rf"python3 -m venv (\S+), then \. (\S+)/bin/activate, then pip install -r {re.escape(str(wanted))}\n"
    )
    found = re.fullmatch(rf"{re.escape(name)}: No module named '\w+': {make}", done.stderr.decode())
    assert {Path(path) for path in found.groups()} == {Path(folder) / ".venv"}


@pytest.mark.parametrize("path", [path for path in PROGRAMS if path.startswith(("extras", "training"))])
def test_a_program_that_is_started_as_a_module_says_so_too(copy, path):
    name, requirements = PROGRAMS[path]
    done = run_python("-S", "-m", name, "x", cwd=copy)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.decode().endswith(f"pip install -r {requirements}\n")


def test_an_environment_that_is_there_is_to_be_activated(copy):
    (copy / ".venv").mkdir()
    try:
        done = bare(copy / "gpt2.py", "x", cwd=copy)
        script = r"\.venv\Scripts\activate" if os.name == "nt" else r"\. \.venv/bin/activate"
        advice = rf"activate the environment \({script}\), or pip install -r requirements.txt\n"
        assert re.fullmatch(rf"gpt2\.py: No module named '\w+': {advice}", done.stderr.decode())
    finally:
        (copy / ".venv").rmdir()


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete a folder that is in use")
def test_in_a_folder_that_was_deleted_it_is_still_one_line(copy, tmp_path):
    code = f"cd {tmp_path}; mkdir gone; cd gone; rmdir ../gone; '{sys.executable}' -S {copy / 'gpt2.py'} x"
    done = subprocess.run(
        code, shell=True, capture_output=True, env=without_unbuffered() | {"PYTHONPATH": ""}
    )
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"requirements.txt" in done.stderr


def test_help_needs_no_library(copy):
    done = bare(copy / "gpt2.py", "--help", cwd=copy)
    assert done.returncode == 0 and done.stdout.startswith(b"python gpt2.py PROMPT")


@pytest.mark.parametrize("path", PROGRAMS)
def test_a_program_can_be_started_as_a_file_from_any_folder(path, tmp_path):
    done = run_python(ROOT / path, "--help", cwd=tmp_path)
    if done.returncode:
        line = done.stderr.decode()
        assert done.stderr.count(b"\n") == 1 and "No module named" in line, line
        pytest.skip(line.strip())
    assert done.stdout.startswith(b"python ") and done.stderr == b""


def test_an_old_python_is_told_which_one_is_needed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert run(["hi"]) == 1
    assert capsys.readouterr() == ("", "gpt2.py: this is Python 3.9: Python 3.10 or later is needed\n")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">={}.{}"'.format(*program.OLDEST) in project


@pytest.mark.parametrize("path", ["program.py", "files.py", *PROGRAMS])
def test_what_an_old_python_reads_before_that_is_written_for_it_too(path):
    ast.parse((ROOT / path).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_what_program_imports_is_in_the_standard_library_or_written_for_an_old_python():
    done = run_python("-S", "-c", "import sys, program; print(*sys.modules)", env=without_unbuffered())
    ours = {path.stem for path in ROOT.glob("*.py")} & {*done.stdout.decode().split()}
    assert ours == {"program", "files"}
