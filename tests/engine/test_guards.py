from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from singleshot.engine.guards import LossGuard, NonFiniteLossError, interruption


def name(index: int) -> str:
    return f"image{index}.jpg"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_loss_names_its_step_and_images(bad: float) -> None:
    guard = LossGuard(name)
    guard.watch(0, torch.tensor(1.0), torch.tensor([0, 1]))
    with pytest.raises(NonFiniteLossError, match=r"(?s)step 1.*image2\.jpg\n  image3\.jpg\n"):
        guard.watch(1, torch.tensor(bad), torch.tensor([2, 3]))


def test_looking_seldom_still_names_the_first_bad_batch() -> None:
    guard = LossGuard(name, every=4)
    losses = [1.0, float("nan"), float("nan")]
    for step, loss in enumerate(losses):
        guard.watch(step, torch.tensor(loss), torch.tensor([step]))
    with pytest.raises(NonFiniteLossError, match=r"(?s)step 1;.*image1\.jpg"):
        guard.check()


def test_long_batches_are_shortened() -> None:
    with pytest.raises(NonFiniteLossError, match="and 24 more"):
        LossGuard(name).watch(0, torch.tensor(float("nan")), torch.arange(32))


def test_nothing_to_check_is_fine() -> None:
    LossGuard(name).check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_question_and_the_old_handler_returns(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruption() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_nobody_asks() -> None:
    answers = []

    def work() -> None:
        with interruption() as asked:
            answers.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
