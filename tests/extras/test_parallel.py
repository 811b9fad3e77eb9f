"""Learning on all cores gives what one core gives, and leaves the libraries as they were."""

import signal
import threading
import time

import numpy as np
import pytest
from helpers import SMALL, lively_params
from threadpoolctl import threadpool_info, threadpool_limits

from extras import gradients, lora, parallel
from extras.parallel import all_cores

IDS = np.random.default_rng(0).integers(0, SMALL["n_vocab"], (5, 13))
N_HEAD = SMALL["n_head"]


def blas_threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


@pytest.mark.parametrize("n_cores", [1, 2, 3, 5])
@pytest.mark.parametrize("n_texts", [1, 2, 3, 4, 5])
def test_any_number_of_cores_finds_the_loss_and_gradients_of_one(params, n_cores, n_texts):
    inputs, targets = IDS[:n_texts, :-1], IDS[:n_texts, 1:]
    wanted_loss, wanted = gradients.loss_and_gradients(inputs, targets, params, N_HEAD)
    with all_cores(n_texts, n_cores) as compute:
        loss, found = compute(inputs, targets, params, N_HEAD)
    assert loss == pytest.approx(wanted_loss, rel=1e-6) and found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert gradient.dtype == np.float32 and gradient.shape == wanted[name].shape
        assert np.abs(gradient - wanted[name]).max() <= 1e-6 * np.abs(wanted[name]).max(), name


@pytest.mark.parametrize("n_texts", [1, 2, 3, 5])
def test_a_batch_may_have_fewer_or_more_texts_than_was_said(params, n_texts):
    inputs, targets = IDS[:n_texts, :-1], IDS[:n_texts, 1:]
    wanted, _ = gradients.loss_and_gradients(inputs, targets, params, N_HEAD, trainable=())
    with all_cores(3, n_cores=3) as compute:
        loss, found = compute(inputs, targets, params, N_HEAD, trainable=())
    assert loss == pytest.approx(wanted, rel=1e-6) and found == {}


def test_only_what_is_asked_for_is_computed_and_options_reach_every_part(params):
    update = lora.Update(np.ones((24, 2), np.float32), np.ones((2, 72), np.float32), 0.1)
    params = lora.attach(params, lora.Adapter({"h1/attn/c_attn/w": update}, {}))
    names = ["h1/attn/c_attn/w/b"]
    with all_cores(4, n_cores=2) as compute:
        loss, found = compute(IDS[:, :-1], IDS[:, 1:], params, N_HEAD, trainable=names, label_smoothing=0.3)
    wanted = gradients.loss_and_gradients(IDS[:, :-1], IDS[:, 1:], params, N_HEAD, None, 0.3, names)
    assert [*found] == names and loss == pytest.approx(wanted[0], rel=1e-6)
    np.testing.assert_allclose(found[names[0]], wanted[1][names[0]], rtol=1e-4, atol=1e-7)


def test_on_as_many_cores_every_bit_is_the_same_again(params):
    for n_cores in (2, 3):
        with all_cores(5, n_cores) as compute:
            (loss, found), (again, others) = (
                compute(IDS[:, :-1], IDS[:, 1:], params, N_HEAD) for _ in range(2)
            )
        assert loss == again and all(np.array_equal(found[name], others[name]) for name in found)


@pytest.mark.parametrize("n_cores, n_texts, n_parts, n_blas", [(4, 2, 2, 2), (2, 5, 2, 1), (3, 1, 1, 3)])
def test_texts_share_the_cores_and_blas_gets_those_that_are_left(
    params, monkeypatch, n_cores, n_texts, n_parts, n_blas
):
    seen, together = [], threading.Barrier(n_parts)

    def noted(inputs, targets, params, n_head, **options):
        together.wait(timeout=20)  # only threads that run at the same time come past it
        seen.append((len(inputs), blas_threads()))
        return 1.0, {}

    monkeypatch.setattr(gradients, "loss_and_gradients", noted)
    with threadpool_limits(5, user_api="blas"):
        with all_cores(n_texts, n_cores) as compute:
            assert compute(IDS[:n_texts], IDS[:n_texts], params, N_HEAD) == (1.0, {})
    assert len(seen) == n_parts and sum(n for n, _ in seen) == n_texts
    assert all(set(threads) == {n_blas} for _, threads in seen)


@pytest.mark.parametrize("error", [None, ValueError, FloatingPointError, KeyboardInterrupt])
def test_the_number_of_blas_threads_is_the_old_one_afterwards(params, error):
    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        if error is None:
            with all_cores(2, n_cores=2) as compute:
                compute(IDS[:, :-1], IDS[:, 1:], params, N_HEAD)
                assert blas_threads() != before
        else:
            with pytest.raises(error), all_cores(2, n_cores=2):
                assert blas_threads() != before
                raise error
        assert blas_threads() == before and set(before) == {3}


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_an_error_in_a_thread_comes_out_as_itself(params):
    before = threading.active_count()
    ids = IDS.copy()
    ids[4, 3] = SMALL["n_vocab"]  # in the last part
    with pytest.raises(ValueError, match=f"{SMALL['n_vocab']}"), all_cores(5, n_cores=3) as compute:
        compute(ids[:, :-1], ids[:, 1:], params, N_HEAD)
    too_large = lively_params(SMALL, seed=0, std=1e30)
    with pytest.raises(FloatingPointError), all_cores(5, n_cores=3) as compute:
        compute(IDS[:, :-1], IDS[:, 1:], too_large, N_HEAD)
    assert threading.active_count() == before


def test_after_ctrl_c_while_threads_compute_none_is_left(params, monkeypatch):
    compute_plainly, before = gradients.loss_and_gradients, threading.active_count()

    together = threading.Barrier(2)

    def interrupted(*arguments, **options):
        if together.wait(timeout=20) == 0:  # once both compute, and the main thread waits for them
            time.sleep(0.05)
            signal.raise_signal(signal.SIGINT)  # Python gives it to the main thread
        return compute_plainly(*arguments, **options)

    monkeypatch.setattr(gradients, "loss_and_gradients", interrupted)
    with threadpool_limits(3, user_api="blas"):
        with pytest.raises(KeyboardInterrupt), all_cores(2, n_cores=2) as compute:
            compute(IDS[:, :-1], IDS[:, 1:], params, N_HEAD)
        assert set(blas_threads()) == {3} and threading.active_count() == before


def test_the_usable_cores_are_those_of_this_process():
    assert 1 <= parallel.usable_cores() <= 4096
