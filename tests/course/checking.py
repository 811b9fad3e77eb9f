"""What the tests of the checks share: checks and solutions by name, answers as a learner writes them."""

import importlib
import inspect
import linecache
import math
import textwrap
import warnings

import numpy as np
import pytest
from helpers import ROOT

import gpt2
import weights
from tools import bugs


def functions(file):  # -> {name: function} of what a file of notebooks/ defines
    module = importlib.import_module(f"{file.parent.name}.{file.stem}")
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: f for name, f in found if f.__module__ == module.__name__}


def checks(file):  # -> {name: check}
    return {name: f for name, f in functions(file).items() if hasattr(f, "__wrapped__")}  # by judging.check


CHECK_FILES = sorted(ROOT.glob("notebooks/tools/checks[0-9][0-9].py"))
SOLUTION_FILES = sorted(ROOT.glob("notebooks/solutions/ex[0-9][0-9].py"))
CHECKS = {name: f for file in CHECK_FILES for name, f in checks(file).items()}
SOLUTIONS = {name: f for file in SOLUTION_FILES for name, f in functions(file).items()}


def cases(table):  # {name: {case: answer or (answer, words)}} -> name, answer ... of each, with an id
    return [
        pytest.param(name, *([case] if isinstance(case, str) else case), id=f"{name}-{title}")
        for name, found in table.items()
        for title, case in found.items()
    ]


def but(source, line, instead):  # -> source
    """The source with this one line, or part of one, written differently."""
    assert source.count(line) == 1
    return source.replace(line, instead)


def written(name, body):  # -> the function that a learner who writes this in a notebook has
    head = f"def {name}{inspect.signature(SOLUTIONS[name])}:\n"
    source = head + textwrap.indent(textwrap.dedent(body), "    ")
    file = f"<cell {hash(source)}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # as IPython does
    names = dict(np=np, math=math, gpt2=gpt2, softmax=gpt2.softmax, weights=weights, bugs=bugs)
    exec(compile(source, file, "exec"), names)
    return names[name]


def warnings_out_of(verdict, name, wrong):  # -> list of warnings
    """The warnings that a check shows for an answer that warns, a right one and a wrong one."""

    def warned(*given):
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
        return np.mean([]) + np.float32(0) / np.float32(0) + np.exp(np.float32(1000)) + np.log(np.zeros(2))

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert verdict(name, warned).startswith("not yet. ")
        assert verdict(name, SOLUTIONS[name]).startswith("passes.\n")
        verdict(name, wrong)
    return seen
