"""Execute the notebooks and save what they print and draw; fold the solutions in below the exercises.

Outputs that agree with the saved ones are kept as they are, so that a second run changes no file.
"""

if __name__ == "__main__":  # first, so that a missing library is reported in one line
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project
    from program import run

    raise SystemExit(run("build", "requirements-dev.txt", "notebooks/build.py"))

import ast
import os
import re
from decimal import Decimal
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HELP = """\
python notebooks/build.py [NUMBERS] [--fresh]    execute notebooks, save outputs

NUMBERS  such as 03,09; by default all of them
--fresh  draw every picture again: for when the drawing code has changed
"""
HERE = Path(__file__).resolve().parent
SOLUTION = "<details><summary>Solution</summary>"  # the last fold below an exercise
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")


def paths():  # -> list of Path
    """All notebooks, in order."""
    return sorted(HERE.glob("[0-9][0-9]-*.ipynb"))


def execute(notebook, **environment):  # -> the same notebook, executed
    """Run all cells on the bundled model, or on the one that PLAINGPT_MODEL in `environment` names.

    Raises nbclient.exceptions.CellExecutionError at the first cell that fails.
    """
    # a slider cannot be saved: tools/play.py draws a few of its states instead
    environment = {**os.environ, "PLAINGPT_MODEL": "tiny", "PLAINGPT_STILL": "1", **environment}
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        resources={"metadata": {"path": HERE}},
        extra_arguments=["--log-level=ERROR"],  # the kernel's warnings would clutter the names printed here
    )
    client.execute(env=environment)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs):  # -> outputs
    """Merge consecutive prints of a cell: how many parts they arrive in depends on timing."""
    found = []
    for output in outputs:
        if found and "text" in output and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


# ---- solutions ---------------------------------------------------------------------------------------------


def solutions(path):  # -> {name: source} of the solutions to a notebook's exercises
    source = (HERE / "solutions" / f"ex{path.name[:2]}.py").read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(source, node) for node in functions}


def fold_in(cells, answers):
    """Write the solution of each exercise, a stub, into the fold two cells below it, after its check."""
    for stub, hints in zip(cells, cells[2:]):
        if "exercise" in stub.metadata.get("tags", []):
            names = [node.name for node in ast.parse(stub.source).body]
            code = "\n\n\n".join(answers[name] for name in names)
            above = hints.source.partition(SOLUTION)[0]
            hints.source = f"{above}{SOLUTION}\n\n```python\n{code}\n```\n\n</details>"


# ---- what is kept ------------------------------------------------------------------------------------------


def agree(old, new):  # str, str -> bool
    """Whether words and whole numbers are equal, and other numbers to 1.5 units of their last digit."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    return all(near(*pair) for pair in zip(NUMBER.findall(old), NUMBER.findall(new)))


def near(old, new):  # two numbers as they are printed -> bool
    """Whether they are equal, or differ by at most 1.5 units in the last digit of the more precise one."""
    old, new = (number.replace(",", "") for number in (old, new))
    if old.isdecimal() and new.isdecimal():
        return old == new
    old, new = Decimal(old), Decimal(new)
    unit = Decimal(10) ** min(old.as_tuple().exponent, new.as_tuple().exponent)
    return abs(old - new) <= Decimal("1.5") * unit


def texts(cell):  # -> list of str
    """What a cell printed, and the alternative texts of its pictures."""
    return [output["text"] if "text" in output else output["data"]["text/plain"] for output in cell.outputs]


def same_outputs(old, new):  # two cells -> bool
    """Whether a cell shows what it showed before; a timed cell always does."""
    if len(old.outputs) != len(new.outputs):
        return False
    timed = "timing" in new.metadata.get("tags", [])
    return timed or all(agree(*pair) for pair in zip(texts(old), texts(new)))


def build(path, fresh=False):
    """Execute and save one notebook; outputs that agree with the saved ones stay as saved, unless fresh."""
    notebook = nbformat.read(path, as_version=4)
    before = {cell.id: cell.copy() for cell in notebook.cells}
    fold_in(notebook.cells, solutions(path))
    execute(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not fresh and same_outputs(before[cell.id], cell):
            cell.outputs = before[cell.id].outputs
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def command(numbers: str = "", *, fresh: bool = False):
    """Build the notebooks whose numbers are given, or all of them."""
    there = {path.name[:2]: path for path in paths()}
    wanted = numbers.split(",") if numbers else sorted(there)
    if not {*wanted} <= {*there}:
        raise ValueError(f"numbers is {numbers!r}: it must be some of {','.join(there)}")
    for number in wanted:
        print(there[number].name, flush=True)
        build(there[number], fresh)
