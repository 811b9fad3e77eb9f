"""The notebooks: their form, and that running them shows what is saved in them.

Tests of form read the files as they are; those of the lane `notebooks` execute them, without a network.
"""

import ast
import base64
import copy
import hashlib
import inspect
import itertools
import json
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import numpy as np
import pytest
from helpers import ROOT, TINY, run_python, write_model

import weights
from checkpoint import in_openai_layout


def needs(name):  # -> module
    return pytest.importorskip(name, reason=f"{name} is not installed: see requirements-dev.txt")


nbformat, nbclient = needs("nbformat"), needs("nbclient")
for name in ("ipykernel", "matplotlib"):
    needs(name)
build, v4 = needs("build"), nbformat.v4  # notebooks/build.py, and the format of the notebooks

NOTEBOOKS = build.paths()
README = build.HERE / "README.md"
SOLUTIONS = build.HERE / "solutions"
WIDEST = 90  # columns; nbconvert's pages break lines after 91, even in the middle of a word
KINDS = "Write it", "Explain it", "Estimate it", "Change the picture"
ANNOUNCED = rf"^### Exercise (\d+): .+\n\n\*({'|'.join(KINDS)}) · (?:easy|medium|hard), (\d+) minutes\.\* "
PROMPT = r"^prompt = .*  # change me.*$"  # in the setup cell
OTHER_PROMPTS = {
    "one that repeats itself": "A cat saw a dog. The dog saw a cat, and the dog",
    "one that repeats nothing": "Every morning she walked down to our river",
}


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return read(path)


def read(path):  # -> notebook
    """A notebook exactly as it was saved; nbformat.read would repair it."""
    return v4.rwbase.rejoin_lines(nbformat.from_dict(json.loads(path.read_text(encoding="utf-8"))))


def tagged(notebook, tag):  # -> list of cells
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def code(notebook):  # -> list of cells
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def pictures(notebook):  # -> list of outputs
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def all_text(notebook):  # -> str
    """What it says, what it runs and what it shows."""
    shown = [text for cell in code(notebook) for text in build.texts(cell)]
    return "\n".join([*(cell.source for cell in notebook.cells), *shown])


def prose(cells):  # -> str
    """The markdown, without its blocks of code."""
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return "\n\n".join(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL) for text in texts)


def headings(cells):  # -> list of (level, text)
    found = re.findall(r"^(#{1,6}) +(.*?)\s*$", prose(cells), re.MULTILINE)
    return [(len(marks), text.replace("`", "")) for marks, text in found]


def links(text):  # markdown -> list of str
    """The links that stay inside the project, with anchors; web addresses are left out."""
    pattern = r"""\]\(\s*<?([^)>\s]+)|^ *\[[^]]+\]:\s*(\S+)|(?:href|src)=["']([^"']+)"""
    found = re.findall(pattern, re.sub(r"`[^`\n]+`", "", text), re.MULTILINE)
    targets = [unquote("".join(groups)) for groups in found]
    return [target for target in targets if not re.match(r"\w[\w+.-]*:", target)]


def dead(links, folder):  # -> list of str
    """Links that lead to no file, as seen from this folder."""
    return [link for link in links if not (folder / link.partition("#")[0]).exists()]


def functions(source):  # -> {name: FunctionDef}
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def solutions(path):  # -> str
    """The source of the solutions to a notebook's exercises."""
    return (SOLUTIONS / f"ex{path.name[:2]}.py").read_text(encoding="utf-8")


def exercises(notebook):  # -> list of (what is asked, the exercise, its check, hints and solution)
    found = zip(notebook.cells, notebook.cells[1:], notebook.cells[2:], notebook.cells[3:])
    return [cells for cells in found if "exercise" in cells[1].metadata.get("tags", [])]


def sections(notebook):  # -> {heading: cells} of those of level 2
    found = {}
    for cell in notebook.cells:
        titles = [text for level, text in headings([cell]) if level == 2]
        if titles:
            found[titles[-1]] = []
        if found:
            [*found.values()][-1].append(cell)
    return found


def asked(notebook):  # -> names of the functions that the exercises ask for
    return [name for cell in tagged(notebook, "exercise") for name in functions(cell.source)]


def verdicts(notebook):  # -> what the checks say about them
    said = "".join(text for cell in tagged(notebook, "check") for text in build.texts(cell))
    return [line for line in said.splitlines() if line.partition(":")[0] in asked(notebook)]


def bodies(source):  # -> {name: a function's body without docstring, comments and spaces}
    lines, found = source.splitlines(), {}
    for name, node in functions(source).items():
        first = node.body[ast.get_docstring(node) is not None]
        found[name] = squeezed("\n".join(lines[first.lineno - 1 : node.end_lineno]))
    return found


def squeezed(text):
    return re.sub(r"\s+#.*|\s", "", text)


# ---- form --------------------------------------------------------------------------------------------------


def test_the_title_is_one_question(notebook):
    titles = [text for level, text in headings(notebook.cells) if level == 1]
    assert len(titles) == 1 and titles[0].endswith("?")
    assert headings(notebook.cells[:1])[:1] == [(1, titles[0])]


def test_headings_skip_no_level(notebook):
    levels = [level for level, _ in headings(notebook.cells)]
    assert [pair for pair in itertools.pairwise(levels) if pair[1] > pair[0] + 1] == []


def test_the_format_is_4_5_with_cell_ids_and_kernel_python3(notebook):
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.get("id") for cell in notebook.cells]
    assert None not in ids and len(set(ids)) == len(ids)


def test_cells_were_executed_in_order(notebook):
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code(notebook):
        given = [output.execution_count for output in cell.outputs if "execution_count" in output]
        assert given in ([], [cell.execution_count])


def test_cells_output_only_text_and_png_and_nothing_on_stderr(notebook):
    for output in outputs(notebook):
        assert output.output_type != "error" and output.get("name", "stdout") == "stdout"
        assert set(output.get("data", {})) <= {"text/plain", "image/png"}


def test_consecutive_prints_are_one_output(notebook):
    for cell in code(notebook):
        pairs = itertools.pairwise(output.output_type for output in cell.outputs)
        assert ("stream", "stream") not in pairs


def test_links_lead_to_files_and_to_headings(notebook, path):
    found = links(prose(notebook.cells))
    assert dead(found, path.parent) == []
    anchors = ["#" + text.replace(" ", "-") for _, text in headings(notebook.cells)]  # as Jupyter names them
    assert [link for link in found if link.startswith("#") and link not in anchors] == []


def test_it_has_a_warm_up_a_prediction_its_limits_and_numbered_exercises(notebook):
    first, words = notebook.cells[0].source, prose(notebook.cells)
    assert "you are here" in first and first.count("<details>") == 3  # the warm-up
    assert "**Predict, then run.**" in words
    assert (2, "What this does not show") in headings(notebook.cells)
    numbers, kinds, minutes = zip(*re.findall(ANNOUNCED, words, re.MULTILINE))
    assert [*map(int, numbers)] == [*range(1, len(numbers) + 1)] and {*kinds} == {*KINDS}
    assert 20 <= sum(map(int, minutes)) <= 30
    assert f"minutes to read, {sum(map(int, minutes))} for the" in first


def test_a_toy_comes_early_and_three_lines_to_take_away_before_its_limits(notebook):
    found = sections(notebook)
    titles = [*found]
    assert titles.index("A toy first") <= 2
    assert titles[-3:] == ["Three lines to take away", "What this does not show", "Where to go next"]
    assert len(re.findall("^(?:-|[123][.]) ", prose(found[titles[-3]]), re.MULTILINE)) == 3
    assert "$$" in prose(notebook.cells)  # a formula


def test_the_prompt_can_be_changed_and_something_in_every_section(notebook):
    assert len(re.findall(PROMPT, code(notebook)[0].source, re.MULTILINE)) == 1
    assert "prompts.ids_of(prompt, encoder" in code(notebook)[0].source
    assert "slide(" in "\n".join(cell.source for cell in code(notebook)[1:])
    for title, cells in sections(notebook).items():
        sources = [c.source for c in cells if c.cell_type == "code" and not c.metadata.get("tags")]
        assert not sources or "# change me" in "\n".join(sources), title


def test_a_prediction_is_asked_for_and_its_answer_is_folded(notebook):
    below = zip(notebook.cells, notebook.cells[1:])
    asking = [cell for above, cell in below if "**Predict, then run.**" in above.source]
    assert asking == tagged(notebook, "predict") != []
    for cell in asking:
        assert cell.metadata.get("jupyter") == {"outputs_hidden": True}
        assert cell.source.startswith("guess = None  # ") and "predicted(guess, " in cell.source


NOT_HERE = {
    "an absolute path": r"(?<![\w/.])/(home|Users|root|work|tmp|content|opt|usr|var|mnt)/|\b[A-Z]:\\",
    "a file of one machine": r"file://|\]\(\s*<?[/~]",
    "an image that is not a file beside it": r"!\[[^]]*\]\(\s*<?(\w+:|//)",
    "HTML that loads or runs something, or is a heading": r"<(img|script|iframe|object|embed|h\d)\b",
    "an installation": r"[!%]\s*(\S+ -m )?pip\b",
}


@pytest.mark.parametrize("pattern", NOT_HERE.values(), ids=NOT_HERE)
def test_it_depends_on_nothing_from_elsewhere(notebook, pattern):
    assert [found[0] for found in re.finditer(pattern, all_text(notebook), re.IGNORECASE)] == []


def test_the_file_is_small_and_has_no_attachments(notebook, path):
    assert not any("attachments" in cell for cell in notebook.cells)
    assert path.stat().st_size <= 600_000


def test_three_or_more_pictures_have_alternative_texts(notebook):
    alts = [output.metadata.get("image/png", {}).get("alt") for output in pictures(notebook)]
    assert alts == [output.data.get("text/plain") for output in pictures(notebook)]
    assert len(alts) >= 3 and min(map(len, alts)) >= 40 and len(set(alts)) == len(alts)


def test_pictures_are_small(notebook):
    sizes = [len(base64.b64decode(output.data["image/png"])) for output in pictures(notebook)]
    assert [size for size in sizes if size > 60_000] == []


# ---- code and exercises ------------------------------------------------------------------------------------


def test_only_the_first_code_cell_is_the_setup_and_imports(notebook):
    assert tagged(notebook, "setup") == code(notebook)[:1]
    importing = [
        cell
        for cell in code(notebook)
        if any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(ast.parse(cell.source)))
    ]
    assert importing == code(notebook)[:1]


def test_code_is_no_wider_than_a_page(notebook):
    lines = [line for cell in code(notebook) for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) > WIDEST] == []


def test_the_project_and_the_model_are_found_from_the_notebooks_folder(notebook):
    source = code(notebook)[0].source
    assert 'sys.path.insert(0, "..")' in source
    assert 'os.environ.get("PLAINGPT_MODEL", "tiny")' in source


def test_an_exercise_is_announced_with_difficulty_minutes_and_two_hints(notebook):
    assert len(exercises(notebook)) == len(tagged(notebook, "exercise")) >= 4
    for asked_for, _, _, folds in exercises(notebook):
        assert len(re.findall(ANNOUNCED, prose([asked_for]), re.MULTILINE)) == 1
        hints = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", folds.source, re.DOTALL)
        assert [name.partition(":")[0] for name, _ in hints] == ["Hint 1", "Hint 2", "Solution"]
        assert folds.source.count("<details") == 3 and all(text.strip() for _, text in hints)
        assert "<details" not in asked_for.source


def test_the_solution_folded_below_an_exercise_is_the_one_in_its_file(notebook, path):
    assert build.solutions(path).keys() == {*asked(notebook)}
    for _, exercise, _, folds in exercises(notebook):
        _, _, folded = folds.source.partition("Solution</summary>")
        answer = "\n\n\n".join(build.solutions(path)[name] for name in functions(exercise.source))
        assert folded == f"\n\n```python\n{answer}\n```\n\n</details>"


def test_an_exercise_raises_and_the_cell_below_it_says_not_tried_yet(notebook):
    assert [below for _, _, below, _ in exercises(notebook)] == tagged(notebook, "check")
    for _, exercise, below, _ in exercises(notebook):
        stubs = functions(exercise.source)
        assert stubs and len(stubs) == len(ast.parse(exercise.source).body)
        for name, stub in stubs.items():
            assert ast.unparse(stub.body[-1]).startswith("raise NotImplementedError")
            assert f"checks.{name}({name}" in below.source
    assert verdicts(notebook) == [f"{name}: not tried yet." for name in asked(notebook)]


def test_stubs_and_solutions_have_the_same_parameters(notebook, path):
    stubs = {}
    for cell in tagged(notebook, "exercise"):
        stubs |= functions(cell.source)
    asked, answered = (
        {name: ast.unparse(f.args) for name, f in found.items()}
        for found in (stubs, functions(solutions(path)))
    )
    assert asked == answered


def test_no_solution_is_given_away_outside_its_fold(notebook, path):
    text = re.sub(r"<details><summary>Solution.*?</details>", "", all_text(notebook), flags=re.DOTALL)
    found = {name: body for name, body in bodies(solutions(path)).items() if len(body) > 30}
    assert found and [name for name, body in found.items() if body in squeezed(text)] == []


def test_gpt2s_functions_are_imported_not_pasted(notebook):
    package = bodies((ROOT / "gpt2.py").read_text(encoding="utf-8"))
    assert "gelu" in package
    text = squeezed("\n".join(cell.source for cell in notebook.cells))
    assert [name for name, body in package.items() if body in text] == []
    for cell in code(notebook):
        if cell not in tagged(notebook, "exercise"):
            nodes = [*ast.walk(ast.parse(cell.source))]
            named = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
            assert named & set(package) == set()


def test_the_list_of_notebooks_is_complete():
    found = links(README.read_text(encoding="utf-8"))
    assert dead(found, build.HERE) == []
    listed = {link.partition("#")[0] for link in found if ".ipynb" in link}
    assert sorted(listed) == [path.name for path in NOTEBOOKS] != []


def test_every_notebook_has_solutions_and_there_are_no_others():
    found = sorted(path.name for path in SOLUTIONS.glob("*.py"))
    assert found == [f"ex{path.name[:2]}.py" for path in NOTEBOOKS]


# ---- whether two texts agree -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "old, new",
    [
        ("0.123", "0.124"),
        ("1.2e-07", "1.3e-07"),
        ("9.9e-08", "1.0e-07"),
        ("1,234.5", "1,234.6"),
        ("3", "3.01"),
        ("-0.50 of 12", "-0.51 of 12"),
        ("layer 3: 0.12, 0.5", "layer 3: 0.11, 0.5"),
    ],
)
def test_texts_agree_if_numbers_differ_slightly_in_their_last_digit(old, new):
    assert build.agree(old, new) and build.agree(new, old)


@pytest.mark.parametrize(
    "old, new",
    [
        ("0.12", "0.15"),
        ("0.1200", "0.1202"),
        ("12", "13"),
        ("1,234", "1,235"),
        ("3", "3.02"),
        ("1.2e-07", "1.2e-06"),
        ("1.2e-07", "1.4e-07"),
        ("-0.5", "0.5"),
        ("0.1 0.2", "0.1"),
        ("0.1", "0.1 0.1"),
        ("0.5 the fox", "0.5 a fox"),
        ("0.5 fox", "0.5  fox"),
        ("h0", "h1"),
        ("0.5", "nan"),
    ],
)
def test_texts_disagree_if_words_whole_numbers_or_signs_differ_or_numbers_by_more(old, new):
    assert not build.agree(old, new) and not build.agree(new, old)


def disagreements(old, new):  # two notebooks -> {id: [(line, line)]}
    """What cells show differently, except for those that are timed."""
    new, timed, found = {cell.id: cell for cell in code(new)}, tagged(old, "timing"), {}
    for cell in code(old):
        before, after = build.texts(cell), build.texts(new[cell.id])
        if cell not in timed and (len(before) != len(after) or not all(map(build.agree, before, after))):
            lines = ("\n".join(texts).splitlines() for texts in (before, after))
            pairs = itertools.zip_longest(*lines, fillvalue="")
            found[cell.id] = [pair for pair in pairs if not build.agree(*pair)]
    return found


def test_a_changed_number_is_found_unless_the_cell_is_timed():
    cells = [v4.new_code_cell(str(i), id=str(i), outputs=[printed("3 of 0.125")]) for i in range(3)]
    old, new = v4.new_notebook(cells=cells), v4.new_notebook(cells=copy.deepcopy(cells))
    old.cells[2].metadata["tags"] = ["timing"]
    assert disagreements(old, new) == {}
    for cell, text in zip(new.cells, ("3 of 0.126", "4 of 0.125", "4 of 9.125")):
        cell.outputs = [printed(text)]
    assert [*disagreements(old, new)] == ["1"]


def printed(text):  # -> output
    return v4.new_output("stream", name="stdout", text=text)


# ---- planted faults are found ------------------------------------------------------------------------------


def added(source, *outputs, **options):  # -> a function that adds a cell of code
    return lambda notebook: notebook.cells.append(v4.new_code_cell(source, outputs=[*outputs], **options))


def said(markdown):  # -> a function that adds a cell of words
    return lambda notebook: notebook.cells.append(v4.new_markdown_cell(markdown))


def changed(find, old, new):  # -> a function that edits the first cell of those that `find` finds
    def plant(notebook):
        cell = find(notebook)[0]
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return plant


def stubs(notebook):
    return tagged(notebook, "exercise")


@pytest.mark.parametrize(
    "claim, plant",
    [
        (test_the_title_is_one_question, said("# What else?")),
        (test_headings_skip_no_level, said("## One\n\n#### Three")),
        (test_cells_were_executed_in_order, added("1 + 1", execution_count=None)),
        (
            test_cells_output_only_text_and_png_and_nothing_on_stderr,
            added("1", v4.new_output("stream", name="stderr")),
        ),
        (test_cells_output_only_text_and_png_and_nothing_on_stderr, added("1 / 0", v4.new_output("error"))),
        (test_links_lead_to_files_and_to_headings, said("[the next](99-no-such-notebook.ipynb#title)")),
        (
            test_three_or_more_pictures_have_alternative_texts,
            lambda notebook: pictures(notebook)[0].metadata.clear(),
        ),
        (test_only_the_first_code_cell_is_the_setup_and_imports, added("if True:\n    import math")),
        (test_code_is_no_wider_than_a_page, added(f"# {89 * '-'}")),
        (test_an_exercise_raises_and_the_cell_below_it_says_not_tried_yet, changed(stubs, "raise", "return")),
        (test_stubs_and_solutions_have_the_same_parameters, changed(stubs, "(", "(more, ")),
        (test_gpt2s_functions_are_imported_not_pasted, added("def softmax(x):\n    return x")),
        (
            test_no_solution_is_given_away_outside_its_fold,
            lambda notebook: said(solutions(NOTEBOOKS[0]))(notebook),
        ),
        (
            test_the_prompt_can_be_changed_and_something_in_every_section,
            changed(code, "# change me", "# as it is"),
        ),
        (
            test_a_prediction_is_asked_for_and_its_answer_is_folded,
            lambda notebook: tagged(notebook, "predict")[0].metadata.pop("jupyter"),
        ),
        (
            test_the_solution_folded_below_an_exercise_is_the_one_in_its_file,
            lambda notebook: notebook.cells.remove(exercises(notebook)[0][3]),
        ),
    ],
)
def test_a_planted_fault_is_found(claim, plant):
    given = {"notebook": read(NOTEBOOKS[0]), "path": NOTEBOOKS[0]}
    given = {name: given[name] for name in inspect.signature(claim).parameters}
    claim(**given)
    plant(given["notebook"])
    with pytest.raises(AssertionError):
        claim(**given)


# ---- executed ----------------------------------------------------------------------------------------------

GUARD = """
import sys as _sys

def _refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        address = arguments
    else:
        return
    if isinstance(address, tuple) and address[0] != "127.0.0.1":  # a Unix socket's is a path
        raise RuntimeError(f"no network here: {event} to {address[0]}")

_sys.addaudithook(_refuse)
"""
WATCH = """
import sys as _sys
import numpy as _np
_sys.path.insert(0, "..")
import gpt2 as _gpt2
from extras import plots as _plots
_gaps, _next_logits, _next_tokens = [], _gpt2.next_logits, _plots.next_tokens

def _watched_logits(*arguments):
    logits = _next_logits(*arguments)
    _gaps.append(_np.diff(_np.sort(logits)[-2:]).item())
    return logits

def _watched_tokens(probabilities, *others, **options):
    _gaps.extend(-_np.diff(_np.log(probabilities)))
    return _next_tokens(probabilities, *others, **options)

_gpt2.next_logits, _plots.next_tokens = _watched_logits, _watched_tokens
"""
CALLS = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
unconnected = socket.socket(type=socket.SOCK_DGRAM)
unconnected.sendto(b"", server.getsockname())
"""
ELSEWHERE = (
    "socket.socket().connect(('192.0.2.1', 9))",  # an address reserved for documentation
    "unconnected.sendto(b'', ('192.0.2.1', 9))",
    "socket.getaddrinfo('no-such-host.invalid', 80)",
    "socket.gethostbyname('no-such-host.invalid')",
)
# OpenBLAS adds in a different order on each kind of processor. These two are x86-64; every processor with AVX
# can run the code for the second. On other machines there is one run, on the processor as it is.
PROCESSORS = {
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "Sandybridge": {"OPENBLAS_CORETYPE": "Sandybridge"},
}
if platform.machine().lower() not in ("x86_64", "amd64"):
    PROCESSORS = {"as it is": {}}


def execute(notebook, **environment):  # -> a copy, executed with no host reachable but this machine
    notebook = copy.deepcopy(notebook)
    notebook.cells.insert(0, v4.new_code_cell(GUARD))
    return build.execute(notebook, **environment)


def watched(notebook):  # -> the gaps between logits that decide its greedy texts and ranks
    notebook = copy.deepcopy(notebook)
    notebook.cells = [v4.new_code_cell(WATCH), *notebook.cells, v4.new_code_cell("print(*_gaps)")]
    return [float(gap) for gap in build.texts(execute(notebook).cells[-1])[0].split()]


def built_again(path, folder):  # -> the path of a copy
    again = folder / path.name
    again.write_bytes(path.read_bytes())
    build.build(again)
    return again


def solved(notebook, path):  # -> the setup, and the exercises with their solutions and checks
    tree, answers = ast.parse(solutions(path)).body, build.solutions(path)
    imports = [ast.unparse(node) for node in tree if isinstance(node, (ast.Import, ast.ImportFrom))]
    cells = copy.deepcopy(tagged(notebook, "setup"))
    for _, exercise, below, _ in copy.deepcopy(exercises(notebook)):
        exercise.source = "\n".join([*imports, *(answers[name] for name in functions(exercise.source))])
        cells += [exercise, below]
    return v4.new_notebook(cells=cells, metadata=notebook.metadata)


def prompted(notebook, prompt):  # -> a copy whose setup has another prompt
    notebook = copy.deepcopy(notebook)
    setup = code(notebook)[0]
    setup.source, n = re.subn(PROMPT, f"prompt = {prompt!r}", setup.source, flags=re.MULTILINE)
    assert n == 1
    return notebook


def twice(notebook):  # -> a copy in which every cell of code comes twice
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for one in code(notebook) for cell in (one, copy.deepcopy(one))]
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{cell.id}-{i % 2}"
    return notebook


def files():  # -> {path: (time, digest)}
    """The files of the project, its notebooks and the bundled model, without caches."""
    found = {*ROOT.iterdir(), *build.HERE.rglob("*"), *TINY.iterdir()}
    return {path: state(path) for path in found if not {"__pycache__", ".pytest_cache"} & set(path.parts)}


def state(path):
    if path.is_dir():
        return None
    return path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest()


@pytest.fixture(scope="module")
def another_model(tmp_path_factory):
    """A model's folder: random numbers, other sizes, and the released vocabulary if it is there."""
    released = ROOT / "models" / "124M"
    there = (released / "encoder.json").exists() and (released / "vocab.bpe").exists()
    vocabulary = released if there else TINY
    n_vocab = len(json.loads((vocabulary / "encoder.json").read_text(encoding="utf-8")))
    hparams = {"n_vocab": n_vocab, "n_ctx": 128, "n_embd": 64, "n_head": 4, "n_layer": 2}
    arrays = weights.flatten(weights.random_params(hparams, np.random.default_rng(0)))
    folder = tmp_path_factory.mktemp("models") / "another"
    return write_model(folder, in_openai_layout(arrays), hparams, vocabulary)


@pytest.fixture(scope="module")
def runs(path, another_model, tmp_path_factory):
    """A notebook executed in several ways, two at a time: {way: Future}, and the files as they were."""
    notebook, another = read(path), {"PLAINGPT_MODEL": str(another_model)}
    before = files()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        found = {name: pool.submit(execute, notebook, **kind) for name, kind in PROCESSORS.items()}
        found["again"] = pool.submit(built_again, path, tmp_path_factory.mktemp("built"))
        found["solved"] = pool.submit(lambda: execute(solved(notebook, path)))
        found["solved for another"] = pool.submit(lambda: execute(solved(notebook, path), **another))
        found["another"] = pool.submit(execute, notebook, **another)
        found["watched"] = pool.submit(watched, notebook)
        found["twice"] = pool.submit(execute, twice(notebook))
        for title, prompt in OTHER_PROMPTS.items():
            found[title] = pool.submit(execute, prompted(notebook, prompt))
        yield found, before
        pool.shutdown(cancel_futures=True)


@pytest.mark.notebooks
@pytest.mark.parametrize("processor", PROCESSORS)
def test_it_shows_what_is_saved(notebook, runs, processor):
    assert disagreements(notebook, runs[0][processor].result()) == {}


@pytest.mark.notebooks
def test_greedy_texts_and_ranks_do_not_depend_on_last_digits(runs):
    assert min(runs[0]["watched"].result(), default=1) > 1e-3


@pytest.mark.notebooks
def test_another_build_changes_nothing(notebook, path, runs):
    again = runs[0]["again"].result()
    pairs = zip(notebook.cells, read(again).cells)
    assert [old.id for old, new in pairs if old != new] == []
    unchanged = again.read_bytes() == path.read_bytes()
    assert unchanged


@pytest.mark.notebooks
@pytest.mark.parametrize("way", ["solved", "solved for another"])
def test_the_solutions_pass(notebook, runs, way):
    assert verdicts(runs[0][way].result()) == [f"{name}: passes." for name in asked(notebook)]


@pytest.mark.notebooks
def test_it_runs_on_a_model_with_other_sizes_and_other_tokens(notebook, runs):
    found = runs[0]["another"].result()
    assert verdicts(found) == [f"{name}: not tried yet." for name in asked(notebook)]
    assert disagreements(notebook, found) != {}  # so it did not run the bundled model again


@pytest.mark.notebooks
@pytest.mark.parametrize("prompt", OTHER_PROMPTS)
def test_it_runs_with_another_prompt(notebook, runs, prompt):
    found = runs[0][prompt].result()
    assert verdicts(found) == [f"{name}: not tried yet." for name in asked(notebook)]
    assert disagreements(notebook, found) != {}


@pytest.mark.notebooks
def test_a_cell_that_is_run_again_shows_the_same(runs):
    found = runs[0]["twice"].result()
    cells = [cell for cell in found.cells[1:] if cell not in tagged(found, "timing")]
    pairs = zip(cells[::2], cells[1::2])
    assert [first.id for first, second in pairs if build.texts(first) != build.texts(second)] == []


@pytest.mark.notebooks
def test_running_changes_no_file(runs):
    futures, before = runs
    for future in futures.values():
        future.exception()
    assert files() == before


@pytest.mark.notebooks
def test_a_notebook_that_uses_the_network_fails():
    def asks(*lines):
        cell = v4.new_code_cell("\n".join([CALLS, *lines, "print('done')"]))
        return execute(v4.new_notebook(cells=[cell]))

    assert build.texts(asks().cells[1]) == ["done\n"]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="no network here: socket.connect"):
        asks(ELSEWHERE[0])


@pytest.mark.parametrize("call", ELSEWHERE)
def test_every_way_to_use_the_network_is_refused(call):
    done = run_python("-c", "\n".join([GUARD, CALLS, "print('here')", call]))
    assert done.stdout == b"here\n" and b"RuntimeError: no network here" in done.stderr
