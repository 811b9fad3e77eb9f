"""How the code is built: no import cycles, a core that needs no extras, each model looked up once."""

import ast
import graphlib
import json

import pytest
from helpers import ROOT, TINY, run_python, without_unbuffered

from extras.huggingface import export

FOLDERS = (
    "",
    "extras",
    "extras/corpus",
    "extras/huggingface",
    "extras/page",
    "training",
    "benchmarks",
    "notebooks/tools",
    "notebooks/solutions",
)
UPWARD = {  # imports inside a function that may point to a module above
    ("gpt2", "program"),  # where gpt2.py is started as a program
    ("extras.corpus.workers", "extras.corpus.cluster"),  # where a cluster is asked for, which needs Dask
    ("utils", "extras.huggingface"),  # the loader, when a model is in that layout
    ("utils", "extras.huggingface.gguf_reader"),  # or a file of llama.cpp
    ("utils", "extras.recognise"),  # and where there is no model
    ("utils", "extras.huggingface.adapters"),  # and when an adapter is given
    ("utils", "extras.quantize"),  # and when weights of few bits are asked for
}


def module_name(path):  # extras/huggingface/__init__.py -> "extras.huggingface"
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("__init__", "notebooks"))


PATHS = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in PATHS}


def imports(node):
    """The modules of the project that the code under a node imports, in functions too."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            found |= {alias.name for alias in part.names}
        elif isinstance(part, ast.ImportFrom):
            names = {f"{part.module}.{alias.name}" for alias in part.names}
            found |= {name if name in MODULES else part.module for name in names}
    return found & MODULES.keys()


def at_module_level(tree):
    """What is imported along with a module: by its statements outside functions and `if __name__ ...`."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= at_module_level(node)
        elif isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef):
            found |= imports(node)
    return found


def is_extra(name):
    return name.startswith("extras.")


CORE = {path.stem for path in ROOT.glob("*.py")}


def test_every_folder_has_modules():
    assert len(CORE) >= 8 and MODULES.keys() >= CORE
    assert sum(map(is_extra, MODULES)) > 15 and len(MODULES) == len(PATHS) > 40


def test_there_are_no_import_cycles():
    graph = {name: {other for other in imports(tree) if other != name} for name, tree in MODULES.items()}
    assert all(above in graph[below] for below, above in UPWARD)  # each exception is needed
    for below, above in UPWARD:
        graph[below].discard(above)
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_the_exceptions_are_imported_inside_functions():
    for below, above in UPWARD:
        assert above not in at_module_level(MODULES[below])


def test_importing_the_core_imports_no_extra():
    for name in CORE:
        assert not any(map(is_extra, at_module_level(MODULES[name]))), name
    assert at_module_level(MODULES["gpt2"]) == set()


def test_only_the_command_its_options_and_the_loader_import_extras_inside_functions():
    reaching = {name for name in CORE if any(map(is_extra, imports(MODULES[name])))}
    assert reaching == {"cli", "options", "utils"}


def test_no_module_imports_from_the_tests():
    for path in PATHS:
        text = path.read_text(encoding="utf-8")
        assert "from tests" not in text and "from helpers" not in text, path


# ---- ask once ----------------------------------------------------------------------------------------------

COUNT = """if True:
    import collections, os, sys
    opened, judged = collections.Counter(), []

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], str):
            opened[os.path.realpath(arguments[0])] += 1

    sys.addaudithook(note)
    import gpt2, program, utils
    find_model = utils.find_model
    utils.find_model = lambda *arguments: judged.append(arguments) or find_model(*arguments)
    call, folder, model = sys.argv[1:]
    if call == "load":
        utils.load_encoder_hparams_and_params(model, "models")
    elif call == "main":
        gpt2.main("The little fox", 3, model)
    else:
        assert program.run("cli", argv=["The little fox", "3", model, "--seed=0"]) == 0
    folder = os.path.realpath(folder)
    counts = {os.path.basename(path): n for path, n in opened.items() if os.path.dirname(path) == folder}
    print("\\n" + __import__("json").dumps([len(judged), counts]))"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny):
    """The bundled model in each layout: its folder, and the files that are read."""
    exported = tmp_path_factory.mktemp("house") / "whole"
    export.save(exported, *tiny)
    plain = exported.with_name("plain")
    plain.mkdir()
    for path in exported.iterdir():
        if path.name != "tokenizer.json":
            (plain / path.name).write_bytes(path.read_bytes())
    openai = {"hparams.json", "encoder.json", "vocab.bpe", "model.ckpt.index"}
    theirs = {"config.json", "tokenizer_config.json", "model.safetensors"}
    return {
        "OpenAI's layout": (TINY, openai | {"model.ckpt.data-00000-of-00001"}),
        "tokenizer.json": (exported, theirs | {"tokenizer.json"}),
        "vocab.json": (plain, theirs | {"vocab.json", "merges.txt"}),
    }


@pytest.mark.parametrize("call", ["load", "main", "command"])
@pytest.mark.parametrize("layout", ["OpenAI's layout", "tokenizer.json", "vocab.json"])
def test_a_name_is_looked_up_once_and_each_file_is_opened_once(folders, layout, call):
    folder, files = folders[layout]
    done = run_python("-c", COUNT, call, str(folder), str(folder), check=True, env=without_unbuffered())
    judged, counts = json.loads(done.stdout.splitlines()[-1])
    assert judged == 1
    assert counts == dict.fromkeys(files, 1)  # by Python: the check of the safetensors library is not seen
