"""Learning on all cores: each thread takes some texts of a batch through the model, forward and backward.

NumPy adds and multiplies arrays on one core. Only large matrix products are spread over all cores, by the
BLAS library that computes them; a small model spends half of its time on the rest. So here each core gets
texts of its own; if there are more cores than texts, BLAS uses several for each:

    with all_cores(len(inputs)) as loss_and_gradients:
        loss, gradients = loss_and_gradients(inputs, targets, params, n_head)

The gradient of a mean over texts is the mean of their gradients. Parts are always added in the same order, so
on the same number of cores a run can be repeated to the last bit.
"""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from extras import gradients


@contextlib.contextmanager
def all_cores(n_texts, n_cores=None):  # yields a function like `gradients.loss_and_gradients`
    """Threads for as long as the block runs, and a function that uses them.

    n_texts: how many texts a batch has; n_cores: by default, all that this process may use.
    """
    from threadpoolctl import threadpool_limits  # here: who only counts cores does not need it

    n_cores = n_cores or usable_cores()
    n_parts = min(n_texts, n_cores)
    with threadpool_limits(n_cores // n_parts, user_api="blas"), ThreadPoolExecutor(n_parts) as pool:
        yield partial(in_parts, pool, n_parts)


def usable_cores():  # -> int
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parts(
    pool, n_parts, inputs, targets, params, n_head, label_smoothing=0.0, trainable=None
):  # -> loss, {name: array}
    """What `gradients.loss_and_gradients` returns, computed with some of the texts in each thread."""
    if trainable is not None:
        trainable = [*trainable]  # an iterator would be used up by the first thread
    options = {"label_smoothing": label_smoothing, "trainable": trainable}
    compute = partial(gradients.loss_and_gradients, params=params, n_head=n_head, **options)
    n_parts = min(n_parts, len(inputs))
    inputs_of_parts, targets_of_parts = np.array_split(inputs, n_parts), np.array_split(targets, n_parts)
    results = pool.map(compute, inputs_of_parts, targets_of_parts)
    loss, total = 0.0, {}
    for part, (part_loss, found) in zip(inputs_of_parts, results):
        share = len(part) / len(inputs)
        loss += share * part_loss
        for name, gradient in found.items():
            gradient *= share
            total[name] = total[name] + gradient if name in total else gradient
    return loss, total
