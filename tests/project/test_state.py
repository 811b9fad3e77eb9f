"""training/state.py: a run continues from what it saved, and from nothing that only nearly fits."""

import os
import pickle
import warnings
from collections import Counter

import numpy as np
import pytest
from helpers import SMALL, TINY

import utils
import weights
from files import ModelError

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", autouse=True)
def libraries():
    """PyTorch, and what needs it: imported here, so that other lanes need not wait for it."""
    global torch, state, train
    torch = pytest.importorskip("torch", reason="PyTorch, which computes the gradients, is not installed")
    pytest.importorskip("tokenizers", reason="the library tokenizers, which learns merges, is not installed")
    from training import state, train


RUN = {"seed": 0, "repeats": 0.5, "text": "a digest"}


def a_run(seed=0, n_steps=1):
    """Leaves and optimizers after a step with random gradients, or before the first."""
    params = weights.random_params(SMALL, np.random.default_rng(seed))
    leaves = train.to_leaves(weights.flatten(params))
    optimizers = train.make_optimizers(leaves)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_steps):
        for leaf in leaves.values():
            leaf.grad = torch.randn(leaf.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()
    return leaves, optimizers


def saved(path, n_steps=1, change=None):
    """The parts of a state that was saved; change: what is done to them before they are saved again."""
    state.save_state(path, RUN, n_steps, *a_run(n_steps=n_steps))
    parts = torch.load(path, weights_only=True)
    if change:
        change(parts)
        torch.save(parts, path)
    return parts


@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_a_state_is_restored_to_the_last_bit(tmp_path, n_steps):
    path = tmp_path / "training.pt"
    saved(path, n_steps)
    leaves, optimizers = a_run(seed=1, n_steps=2)
    assert state.load_state(path, RUN, leaves, optimizers) == n_steps
    wanted, their_optimizers = a_run(n_steps=n_steps)
    for leaf in [*leaves.values(), *wanted.values()]:
        leaf.grad = torch.ones_like(leaf)
    for optimizer in [*optimizers, *their_optimizers]:
        optimizer.step()  # from the same memories, the same step
    for name, leaf in leaves.items():
        assert torch.equal(leaf, wanted[name]), name


CHANGED = {  # what is done to a state: its parts -> nothing
    "a row that broadcasts": lambda p: p["leaves"].update(wte=p["leaves"]["wte"][:1].detach()),
    "a number that broadcasts": lambda p: p["leaves"].update({"ln_f/g": torch.zeros(())}),
    "a transposed matrix": lambda p: p["leaves"].update(wpe=p["leaves"]["wpe"].detach().T.contiguous()),
    "float64": lambda p: p["leaves"].update(wpe=p["leaves"]["wpe"].detach().double()),
    "whole numbers": lambda p: p["leaves"].update(wpe=p["leaves"]["wpe"].detach().int()),
    "an array of no device": lambda p: p["leaves"].update(wpe=torch.empty(32, 24, device="meta")),
    "a sparse array": lambda p: p["leaves"].update(wpe=p["leaves"]["wpe"].detach().to_sparse()),
    "NaN": lambda p: p["leaves"].update({"ln_f/b": torch.full((24,), torch.nan)}),
    "a list in place of an array": lambda p: p["leaves"].update({"ln_f/b": [0.0] * 24}),
    "a leaf is missing": lambda p: p["leaves"].pop("h1/mlp/c_fc/w"),
    "a leaf too many": lambda p: p["leaves"].update(wxe=torch.zeros(3)),
    "no leaves": lambda p: p.update(leaves=None),
    "a momentum that broadcasts": lambda p: p["optimizers"][0][1].update(momentum_buffer=torch.zeros(24)),
    "an average that broadcasts": lambda p: p["optimizers"][1][1].update(exp_avg=torch.zeros(1, 24)),
    "an infinite average": lambda p: p["optimizers"][1][1]["exp_avg_sq"].fill_(torch.inf),
    "a memory is missing": lambda p: p["optimizers"][1][1].pop("exp_avg"),
    "the memories of a leaf are missing": lambda p: p["optimizers"][1].pop(1),
    "no memories": lambda p: p.update(optimizers=[{}, {}]),
    "one optimizer": lambda p: p["optimizers"].pop(),
    "the optimizers in another order": lambda p: p["optimizers"].reverse(),
    "memories before the first step": lambda p: p.update(n_steps=0),
    "fewer than no steps": lambda p: p.update(n_steps=-1),
    "more steps than can be written": lambda p: p.update(n_steps=10**5000),
    "half a step": lambda p: p.update(n_steps=1.5),
    "steps in an array": lambda p: p.update(n_steps=torch.ones(1)),
    "a part is missing": lambda p: p.pop("optimizers"),
    "a part too many": lambda p: p.update(more=1),
    "a state without its text": lambda p: (p.pop("run"), p.update(options={"seed": 0})),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_state_that_does_not_fit_exactly_is_refused(tmp_path, change):
    path = tmp_path / "training.pt"
    saved(path, change=CHANGED[change])
    with pytest.raises(ModelError, match="training.pt: ") as caught:
        state.load_state(path, RUN, *a_run(seed=1))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    "run, message",
    [
        (RUN | {"seed": 1}, "was begun with {'seed': 0, 'repeats': 0.5}: give the same"),
        (RUN | {"more": 1}, "was begun with {'seed': 0, 'repeats': 0.5}"),
        (
            RUN | {"text": "another"},
            "was begun with another text or vocabulary: give the same, or a new folder",
        ),
    ],
)
def test_a_run_that_was_begun_otherwise_is_refused(tmp_path, run, message):
    saved(tmp_path / "training.pt")
    with pytest.raises(ValueError, match=message):
        state.load_state(tmp_path / "training.pt", run, *a_run())


@pytest.mark.parametrize("found", [None, [], {}, "run", {"seed": "array"}, {"seed": 0, "repeats": 0.5}])
def test_a_state_of_who_knows_what_run_is_refused(tmp_path, found):
    if found == {"seed": "array"}:
        found = RUN | {"seed": torch.zeros(2)}
    saved(tmp_path / "training.pt", change=lambda parts: parts.update(run=found))
    with pytest.raises(ValueError, match="was begun with .*: give the same, or a new folder"):
        state.load_state(tmp_path / "training.pt", RUN, *a_run())


class Program:
    """A pickle that makes a folder when it is read as Python reads pickles."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["a program", "a plain pickle", "numbers", "a model", "text", "nothing"])
def test_a_file_that_is_no_state_is_refused_and_no_code_in_it_is_run(tmp_path, kind):
    path = tmp_path / "training.pt"
    if kind == "a program":
        torch.save({"run": Program(tmp_path / "made")}, path)
    if kind == "a plain pickle":
        path.write_bytes(pickle.dumps(Program(tmp_path / "made")))
    if kind == "numbers":
        torch.save([1, 2], path)
    if kind == "a model":
        path.write_bytes((TINY / utils.DATA).read_bytes())
    if kind in ("text", "nothing"):
        path.write_text("text" if kind == "text" else "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ModelError, match="training.pt: .*written by.*start again, with a new folder"):
            state.load_state(path, RUN, *a_run())
    assert not (tmp_path / "made").exists()


def test_a_damaged_state_is_refused_or_the_same(tmp_path, n_fuzz):
    path, counts = tmp_path / "training.pt", Counter()
    saved(path)
    whole, wanted = path.read_bytes(), a_run()[0]
    leaves, optimizers = a_run(seed=1)
    for i in range(n_fuzz):
        rng = np.random.default_rng(i)
        content = bytearray(whole[: rng.integers(len(whole))] if i % 2 else whole)
        for place in rng.integers(len(content) or 1, size=0 if i % 2 else 1):
            content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            assert state.load_state(path, RUN, leaves, optimizers) == 1
            assert all(torch.equal(leaves[name], wanted[name]) for name in wanted), i
            counts["read the same"] += 1
        except ValueError as error:
            counts["refused"] += 1
            assert "training.pt" in str(error) or "was begun with" in str(error)
    print(f"{n_fuzz} damaged states: {dict(counts)}")
    assert counts["refused"] > 0.5 * n_fuzz
