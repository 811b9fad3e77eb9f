"""Your own function at work: `with yours(softmax):` puts it in place of gpt2.softmax."""

import contextlib
from unittest import mock

import gpt2
from tools.judging import passed


@contextlib.contextmanager
def yours(f, adapted=None, name=None):
    """Let the model use f, if it has passed its check, instead of gpt2's function of that name.

    adapted: f with the parameters of gpt2's, if they differ; name: gpt2's name for it, if it is another. A
    line says which of the two is used.
    """
    name = name or f.__name__
    original = getattr(gpt2, name)
    if passed(f):
        print(f"{name} is yours.")
    else:
        print(f"{name} is the package's: yours has not passed yet.")
    with mock.patch.object(gpt2, name, (adapted or f) if passed(f) else original):
        yield


def yours_or(f, otherwise):  # -> f or otherwise
    """Your f if it has passed its check, else another function; a line says which of the two it is."""
    print(f"{f.__name__} is yours." if passed(f) else f"{f.__name__}: yours has not passed yet.")
    return f if passed(f) else otherwise
