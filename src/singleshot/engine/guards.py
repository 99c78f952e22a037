"""What stops a run that has gone wrong, and what ends one politely."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor

from singleshot.errors import SingleshotError

NAMED_IMAGES = 8


class NonFiniteLossError(SingleshotError, ArithmeticError):
    """The loss became NaN or infinite. The message names the step and the images of its batch."""


class LossGuard:
    """Watches the loss without making the host wait for the device at every step.

    Args:
        name_image: path of the image at a position of the data set.
        every: steps between two looks; 1 costs nothing on a CPU.
    """

    def __init__(self, name_image: Callable[[int], str], every: int = 1) -> None:
        self._name_image = name_image
        self._every = every
        self._unseen: list[tuple[int, Tensor, Tensor]] = []

    def watch(self, step: int, total: Tensor, indices: Tensor) -> None:
        """Note the loss of a batch, before its update where ``every`` is 1.

        Args:
            step: optimiser step, from 0.
            total: the loss, 0-dim, on any device.
            indices: positions of the batch's images in the data set, ``[B]``, on the CPU.

        Raises:
            NonFiniteLossError: this loss, or one not looked at yet, is not finite.
        """
        self._unseen.append((step, total.detach(), indices))
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
        if not all(finite):
            step, total, indices = unseen[finite.index(False)]
            raise NonFiniteLossError(self._describe(step, total, indices))

    def _describe(self, step: int, total: Tensor, indices: Tensor) -> str:
        names = [self._name_image(index) for index in indices.tolist()]
        more = f"\n  and {len(names) - NAMED_IMAGES} more" if len(names) > NAMED_IMAGES else ""
        listed = "\n".join(f"  {name}" for name in names[:NAMED_IMAGES])
        return (
            f"the loss is {total.item()} at step {step}; the images of its batch:\n{listed}{more}\n"
            "Check their boxes with 'singleshot data check', or lower optimizer.lr, set optimizer.clip_norm (10 is "
            "usual), lengthen schedule.warmup_steps, or use amp: fp32. The checkpoints hold weights from before."
        )


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question the loop can ask; a second Ctrl-C stops at once.

    Yields:
        A function that tells whether the run was asked to stop. Outside the main thread it is always false, since
        Python delivers signals only there.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
