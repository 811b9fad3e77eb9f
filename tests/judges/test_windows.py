"""A long text is read in the windows of lm-evaluation-harness: its own expected ones, and those it makes."""

import numpy as np
import pytest

from extras.scoring import windows

EXPECTED = {  # (tokens after the first, n_ctx, context_len): each window's first input and first target
    (34, 10, 1): [(-1, 0), (9, 10), (19, 20), (23, 30)],
    (34, 10, 8): [(-1, 0), *((i - 8, i) for i in range(10, 32, 3))],
    (34, 10, 10): [(-1, 0), *((i - 10, i) for i in range(10, 34))],
    (30, 10, 10): [(-1, 0), *((i - 10, i) for i in range(10, 30))],
    (30, 10, 1): [(-1, 0), (9, 10), (19, 20)],
    (9, 2, 1): [(-1, 0), (1, 2), (3, 4), (5, 6), (6, 8)],
}


def ours(n_targets, n_ctx, context_len):  # -> [(inputs, targets)]
    """The windows of the text -1, 0, 1 ...: its first token stands where the harness puts a prefix."""
    ids = range(-1, n_targets)
    found = windows(len(ids), n_ctx, stride=n_ctx - context_len + 1)
    return [([*ids[start : end - 1]], [*ids[end - n_scored : end]]) for start, end, n_scored in found]


def slowly(n_targets, n_ctx, context_len):  # -> [(inputs, targets)]
    """Token by token: a window is closed when it is full, and looks back as far as the model can see."""
    groups = []
    for token in range(n_targets):
        room = n_ctx - context_len + 1 if len(groups) > 1 else n_ctx
        if not groups or len(groups[-1]) == room:
            groups.append([])
        groups[-1].append(token)
    return [([*range(max(targets[-1] - n_ctx, -1), targets[-1])], targets) for targets in groups]


def random_sizes(i):  # -> n_targets, n_ctx, context_len
    """Texts from empty to several windows, and every overlap."""
    rng = np.random.default_rng(i)
    n_ctx = int(rng.integers(1, 40))
    return int(rng.integers(0, 5 * n_ctx)), n_ctx, int(rng.integers(1, n_ctx + 1))


@pytest.mark.parametrize("sizes, wanted", EXPECTED.items())
def test_the_windows_that_the_harness_expects_are_ours_and_those_of_a_slow_loop(sizes, wanted):
    for found in (ours(*sizes), slowly(*sizes)):
        assert [(inputs[0], targets[0]) for inputs, targets in found] == wanted
        assert all(len(inputs) == sizes[1] for inputs, _ in found)
        assert sum((targets for _, targets in found), []) == [*range(sizes[0])]


def test_no_window_looks_back_less_than_it_could(n_fuzz):
    n_long = n_slid = 0
    for i in range(max(n_fuzz, 400)):
        sizes = n_targets, n_ctx, context_len = random_sizes(i)
        found = ours(*sizes)
        assert found == slowly(*sizes), sizes
        assert all(inputs[-1] + 1 == targets[-1] for inputs, targets in found)
        n_long += len(found) > 1
        n_slid += len(found) > 1 and len(found[-1][1]) < n_ctx - context_len + 1
    print(f"{max(n_fuzz, 400)} sizes: {n_long} of several windows, {n_slid} with a last one slid back")
    assert n_long > 200 and n_slid > 100


@pytest.mark.parity
def test_the_harness_makes_the_same_windows(n_fuzz):
    harness = pytest.importorskip(
        "lm_eval.utils",
        reason="lm_eval, the judge of windows, is not installed: pip install --no-deps lm_eval",
    )
    for i in range(max(n_fuzz, 400)):
        n_targets, n_ctx, context_len = random_sizes(i)
        theirs = [*harness.get_rolling_token_windows([*range(n_targets)], -1, n_ctx, context_len)]
        assert ours(n_targets, n_ctx, context_len) == theirs
        for (inputs, targets), (start, end, n_scored) in zip(
            theirs, windows(n_targets + 1, n_ctx, n_ctx - context_len + 1)
        ):
            context, continuation = harness.make_disjoint_window((inputs, targets))
            assert len(context) == end - n_scored - start and len(continuation) == n_scored
