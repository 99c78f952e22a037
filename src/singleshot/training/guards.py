"""What stops a run that has gone wrong, and what ends one politely."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor, nn

from singleshot.core.structures import Batch
from singleshot.errors import SingleshotError
from singleshot.training.world import ALONE, World

NAMED_IMAGES = 8
ECHO_S = 3.0


REMEDIES = (
    "Lower optimizer.lr, set optimizer.clip_norm (10 is usual), lengthen schedule.warmup_steps, or use amp: fp32. "
    "The files saved before hold finite weights."
)


class NonFiniteLossError(SingleshotError, ArithmeticError):
    """The loss or a weight became NaN or infinite. The message names the step and what was checked."""


class LossGuard:
    """Watches the loss without making the host wait for the device at every step.

    Args:
        name_image: path of the image at a position of the data set.
        every: steps between two looks; 1 costs nothing on a CPU.
        world: the processes that learn together: what one of them finds, all raise.
    """

    def __init__(self, name_image: Callable[[int], str], every: int = 1, world: World = ALONE) -> None:
        self._world = world
        self._name_image = name_image
        self._every = every
        self._unseen: list[tuple[int, Tensor, Batch]] = []

    def watch(self, step: int, total: Tensor, batch: Batch) -> None:
        """Note the loss of a batch, before its update where ``every`` is 1.

        Args:
            step: optimiser step, from 0.
            total: the loss, 0-dim, on any device.
            batch: what the loss is of.

        Raises:
            NonFiniteLossError: this loss, or one not looked at yet, is not finite.
        """
        # The images are large, and not needed to tell what went wrong.
        self._unseen.append((step, total.detach(), batch._replace(images=batch.images[:0])))
        if len(self._unseen) >= self._every:
            self.check()

    def check(self) -> None:
        """Look at all losses noted since the last look.

        Raises:
            NonFiniteLossError: one of them is not finite.
        """
        if not self._unseen:
            return
        unseen, self._unseen = self._unseen, []
        finite = torch.isfinite(torch.stack([total for _, total, _ in unseen])).tolist()
        if self._world.any(not all(finite)):
            found = "" if all(finite) else self._describe(*unseen[finite.index(False)])
            told = [text.decode() for text in self._world.gather_bytes(found.encode()) if text]
            raise NonFiniteLossError(told[0])

    def check_weights(self, step: int, *networks: nn.Module) -> None:
        """Look at all weights and statistics, before they are measured or saved.

        Raises:
            NonFiniteLossError: one of them is not finite.
        """
        tensors = [item for network in networks for item in network.state_dict().items() if item[1].is_floating_point()]
        # A sum is finite only where all its parts are.
        sums = torch.stack([tensor.sum(dtype=torch.float64) for _, tensor in tensors]).tolist() if tensors else []
        bad = [name for (name, _), total in zip(tensors, sums, strict=True) if not math.isfinite(total)]
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise NonFiniteLossError(
                f"after step {step} the weights hold numbers that are not finite ({bad[0]}{more}), although every loss "
                f"was. They are not saved. {REMEDIES}"
            )

    def _describe(self, step: int, total: Tensor, batch: Batch) -> str:
        names = [self._name_image(index) for index in batch.indices.tolist()]
        more = f"\n  and {len(names) - NAMED_IMAGES} more" if len(names) > NAMED_IMAGES else ""
        listed = "\n".join(f"  {name}" for name in names[:NAMED_IMAGES])
        return (
            f"the loss is {total.item()} at step {step}; the images of its batch:\n{listed}{more}\n"
            f"{_judge_boxes(batch, names)} {REMEDIES}"
        )


def _judge_boxes(batch: Batch, names: Sequence[str]) -> str:
    """Whether the objects of a batch may be what is wrong."""
    boxes = batch.boxes_xyxy
    has_area = (boxes[..., 2:] > boxes[..., :2]).all(dim=-1) & boxes.isfinite().all(dim=-1)
    bad = (batch.valid & ~has_area).any(dim=1).tolist()
    if not any(bad):
        return "All their boxes are finite and have an area, so they are not the cause."
    return f"A box of {names[bad.index(True)]} is not finite or has no area: 'singleshot data check' tells more."


@contextmanager
def interruption(*, is_passed_on: bool = False) -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a question the loop can ask; a second Ctrl-C stops at once.

    Args:
        is_passed_on: whether what started this process passes signals on, so that one Ctrl-C comes from it, too.

    Yields:
        A function that tells whether the run was asked to stop. Outside the main thread it is always false, since
        Python delivers signals only there.
    """
    asked, asked_s = threading.Event(), -math.inf
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_s
        is_echo = is_passed_on and time.monotonic() - asked_s < ECHO_S
        if asked.is_set() and not is_echo:
            raise KeyboardInterrupt
        asked_s = time.monotonic()
        asked.set()

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # `nohup` ignores one
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
