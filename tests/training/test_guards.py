from __future__ import annotations

import os
import signal
import threading

import pytest
import torch
from torch import nn

from singleshot.core.structures import Batch
from singleshot.training.guards import LossGuard, NonFiniteLossError, interruption


def name(index: int) -> str:
    return f"image{index}.jpg"


def batch_of(*indices: int, box: tuple[float, ...] = (0.0, 0.0, 4.0, 4.0)) -> Batch:
    boxes = torch.tensor([[box]] * len(indices))
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    return Batch(torch.zeros(len(indices), 3, 2, 2), boxes, valid.long() - 1, valid, torch.tensor(indices))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.0, 0.0, 4.0, 4.0), "All their boxes are finite and have an area, so they are not the cause"),
        ((0.0, 0.0, 4.0, 0.0), "A box of image5.jpg is not finite or has no area"),
        ((0.0, 0.0, 4.0, float("inf")), "A box of image5.jpg is not finite or has no area"),
    ],
)
def test_boxes_are_blamed_only_where_they_are_bad(box: tuple[float, ...], message: str) -> None:
    with pytest.raises(NonFiniteLossError, match=message):
        LossGuard(name).watch(0, torch.tensor(float("nan")), batch_of(5, box=box))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bad: float) -> None:
    network = nn.Linear(2, 1)
    LossGuard(name).check_weights(3, network)
    with torch.no_grad():
        network.bias.fill_(bad)
    with pytest.raises(NonFiniteLossError, match=r"after step 3 .*\(bias\)"):
        LossGuard(name).check_weights(3, network)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_loss_names_its_step_and_images(bad: float) -> None:
    guard = LossGuard(name)
    guard.watch(0, torch.tensor(1.0), batch_of(0, 1))
    with pytest.raises(NonFiniteLossError, match=r"(?s)step 1.*image2\.jpg\n  image3\.jpg\n"):
        guard.watch(1, torch.tensor(bad), batch_of(2, 3))


def test_looking_seldom_still_names_the_first_bad_batch() -> None:
    guard = LossGuard(name, every=4)
    losses = [1.0, float("nan"), float("nan")]
    for step, loss in enumerate(losses):
        guard.watch(step, torch.tensor(loss), batch_of(step))
    with pytest.raises(NonFiniteLossError, match=r"(?s)step 1;.*image1\.jpg"):
        guard.check()


def test_long_batches_are_shortened() -> None:
    with pytest.raises(NonFiniteLossError, match="and 24 more"):
        LossGuard(name).watch(0, torch.tensor(float("nan")), batch_of(*range(32)))


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
