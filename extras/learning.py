"""A run of learning: steps, measures of a held-out text, and a state from which it continues to the last bit.

What learns, an object of extras/learners.py, is changed by extras/optimizers.py with the gradients of
extras/gradients.py. A run is known by its settings: how many windows of the text a step reads, of how many
tokens, at which learning rate, with which seed.
"""

import contextlib
import math
import signal
import threading
from pathlib import Path

import numpy as np
from tqdm import tqdm

from extras import optimizers, resume
from extras.parallel import all_cores
from files import say

STATE, UNFINISHED = "training.npz", "training.part"  # what resume.py writes, and leaves if it is killed
N_MEASURES = 10  # how often a run is measured, reported and saved
N_MEASURED = 16  # windows of the held-out text that are read each time
LARGEST_NORM = 1.0  # of all gradients together: larger ones are scaled down to it

# ---- windows of a text -------------------------------------------------------------------------------------


def random_windows(ids, n_windows, n_seq, rng):  # -> inputs, targets: two of [n_windows, n_seq]
    """Windows that begin at random places of a text."""
    return windows(ids, rng.integers(len(ids) - n_seq, size=n_windows), n_seq)


def even_windows(ids, n_seq):  # -> inputs, targets: two of [n, n_seq]
    """Windows at even distances: as many as fit into a short text, N_MEASURED of a long one."""
    n_seq = min(n_seq, len(ids) - 1)
    n = min(N_MEASURED, (len(ids) - 1) // n_seq)
    return windows(ids, np.linspace(0, len(ids) - 1 - n_seq, n).astype(int), n_seq)


def windows(ids, starts, n_seq):  # -> inputs, targets: two of [n_windows, n_seq]
    """Windows of a text, and for each token the one that comes next."""
    found = ids[starts[:, None] + np.arange(n_seq + 1)]
    return found[:, :-1], found[:, 1:]


# ---- a run -------------------------------------------------------------------------------------------------


class Run:
    """What learns, what its optimizer remembers, and how far it has come; it continues where it was saved.

    learner: one of extras/learners.py. settings: JSON values by name, among them batch, window, learning_rate
    and seed; text: a digest of the texts. Raises what `resume.load` raises.
    """

    def __init__(self, learner, folder, settings, text):
        self.learner, self.folder, self.settings = learner, Path(folder), settings | {"text": text}
        self.memory = optimizers.adamw_memory(learner.leaves)
        self.n_steps = 0
        self.best = np.zeros(3)  # lowest held-out loss, after how many steps, and the loss before the first
        leaves = {f"leaf/{name}": array for name, array in learner.leaves.items()}
        self.arrays = leaves | self.memory | {"best": self.best}
        if (self.folder / STATE).exists():
            self.n_steps = resume.restore(self.folder / STATE, self.settings, self.arrays)

    def save(self):
        """Write all that is needed to continue; the arrays change in place, so these are the latest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        resume.save(self.folder / STATE, self.settings, self.n_steps, self.arrays)

    def step(self, compute, windows, n_head, rng, rate):  # -> the loss before it
        """Learn from some windows. Raises FloatingPointError, and changes nothing, for numbers too large.

        compute: as `gradients.loss_and_gradients`; windows: inputs, targets; rng: for dropout; rate: of this
        step.
        """
        params = self.learner.params(rng)
        loss, found = compute(*windows, params, n_head, trainable=self.learner.trainable)
        gradients = self.learner.gradients(found)
        if not math.isfinite(optimizers.clip(gradients, LARGEST_NORM)):
            raise FloatingPointError("the gradients are not finite numbers")
        self.n_steps += 1
        optimizers.adamw(self.learner.leaves, gradients, self.memory, self.n_steps, rate)
        return loss


def learn(run, ids, held_out, n_head, n_steps, report):
    """Take the remaining steps up to n_steps, with windows of ids; report some ten times how far it has come.

    ids: [n_tokens]. held_out: windows to measure by. report: a function of the mean loss of the steps since
    the last report, or None before the first, and of the held-out loss. Raises KeyboardInterrupt if the run
    was stopped, once its last step has been reported; FloatingPointError as `Run.step` does.
    """
    n_windows, n_seq, seed = (run.settings[name] for name in ("batch", "window", "seed"))
    n_tokens = n_windows * n_seq  # in a step
    every = max(n_steps // N_MEASURES, 1)
    losses, note = [], ""
    total, initial = n_steps * n_tokens, run.n_steps * n_tokens
    bar = tqdm(total=total, initial=initial, unit=" tokens", unit_scale=True, disable=None)
    with all_cores(n_windows) as compute, stopping() as is_stopped, bar:

        def measure():  # -> str, for the bar
            held_out_loss, _ = compute(*held_out, run.learner.params(), n_head, trainable=())
            report(float(np.mean(losses)) if losses else None, held_out_loss)
            losses.clear()
            return f", held out {held_out_loss:.2f}, best {run.best[0]:.2f}"

        if run.n_steps == 0:
            note = measure()
        while run.n_steps < n_steps:
            rng = np.random.default_rng([seed, run.n_steps])  # a resumed run sees what it would have seen
            rate = run.settings["learning_rate"] * optimizers.warmup_and_decay(run.n_steps, n_steps)
            windows_of_step = random_windows(ids, n_windows, n_seq, rng)
            losses.append(run.step(compute, windows_of_step, n_head, rng, rate))
            bar.update(n_tokens)
            bar.set_postfix_str(f"loss {losses[-1]:.2f}{note}")
            if is_stopped() or run.n_steps % every == 0 or run.n_steps == n_steps:
                note = measure()
                if is_stopped():  # only here, after a report: a later Ctrl-C waits for the next step
                    raise KeyboardInterrupt


@contextlib.contextmanager
def stopping():  # yields () -> bool
    """Let Ctrl-C wait for the end of a step, so that none is half taken; a second Ctrl-C does not wait."""
    came, usual = threading.Event(), signal.getsignal(signal.SIGINT)

    def take_note(*_):
        came.set()
        signal.signal(signal.SIGINT, usual)
        say("stopping after this step")

    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        signal.signal(signal.SIGINT, take_note)
    try:
        yield came.is_set
    finally:
        if in_main:
            signal.signal(signal.SIGINT, usual)
