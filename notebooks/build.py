"""Execute the notebooks and save what they print and draw.

python notebooks/build.py          all of them
python notebooks/build.py 03 09    these
python notebooks/build.py --fresh  all, and all pictures anew: when the code that draws them has changed

What agrees with what was saved before is kept as it was, so that a second run changes no file.
"""

import os
import re
import sys
from decimal import Decimal
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")


def paths():  # -> list of Path
    """All notebooks, in their order."""
    return sorted(HERE.glob("[0-9][0-9]-*.ipynb"))


def execute(notebook, **environment):  # -> the notebook executed, in place
    """Run all cells on the bundled model, or on that of PLAINGPT_MODEL in `environment`.

    Raises nbclient.exceptions.CellExecutionError at the first cell that fails.
    """
    environment = {**os.environ, "PLAINGPT_MODEL": "tiny", **environment}
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        resources={"metadata": {"path": HERE}},
        extra_arguments=["--log-level=ERROR"],  # its warnings would stand between the names that this prints
    )
    client.execute(env=environment)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs):  # -> outputs
    """What a cell printed in a row as one output: in how many parts it came is a matter of time."""
    found = []
    for output in outputs:
        if found and "text" in output and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


# ---- what is kept ------------------------------------------------------------------------------------------


def agree(old, new):  # str, str -> bool
    """Whether two texts say the same: equal words and whole numbers, others to 1.5 of their last digit."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    return all(near(*pair) for pair in zip(NUMBER.findall(old), NUMBER.findall(new)))


def near(old, new):  # two numbers as they are printed -> bool
    """Whether they are equal, or apart by at most 1.5 units of the last digit of the more exact."""
    old, new = (number.replace(",", "") for number in (old, new))
    if old.isdecimal() and new.isdecimal():
        return old == new
    old, new = Decimal(old), Decimal(new)
    unit = Decimal(10) ** min(old.as_tuple().exponent, new.as_tuple().exponent)
    return abs(old - new) <= Decimal("1.5") * unit


def texts(cell):  # -> list of str
    """What a cell printed, and the words of its pictures."""
    return [output["text"] if "text" in output else output["data"]["text/plain"] for output in cell.outputs]


def agreeing(old, new):  # two cells -> bool
    """Whether a cell shows what it showed before; one that is timed always does."""
    if len(old.outputs) != len(new.outputs):
        return False
    timed = "timing" in new.metadata.get("tags", [])
    return timed or all(agree(*pair) for pair in zip(texts(old), texts(new)))


def build(path, fresh=False):
    """Execute one notebook, and save it with the old outputs of cells that agree with them, unless fresh."""
    notebook = nbformat.read(path, as_version=4)
    before = {cell.id: cell.copy() for cell in notebook.cells}
    execute(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not fresh and agreeing(before[cell.id], cell):
            cell.outputs = before[cell.id].outputs
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


if __name__ == "__main__":
    wanted = [word for word in sys.argv[1:] if word != "--fresh"]
    for path in paths():
        if not wanted or path.name[:2] in wanted:
            print(path.name)
            build(path, fresh="--fresh" in sys.argv)
