"""Matching, mining and the multibox loss, forward and backward: batch 32, about 6 objects an image, SSD300's 8,732
anchors, 21 classes.

The process keeps freed memory, as in ``singleshot train``; all contenders are in it, so all gain.

    python benchmarks/loss.py [--quick] [--peers SSD_PYTORCH_CHECKOUT] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import loads
from common import Measured, Settings, compare, main, take_turns
from peers import ssd_pytorch_checkout, ssd_pytorch_loss, torchvision_loss, torchvision_ssd
from reference_forms import Heads, loss_ssd_pytorch_form, loss_torchvision_form
from singleshot.core.memory import keep_freed_memory
from singleshot.core.settings import LossConfig, MatchConfig
from singleshot.core.structures import HeadOutput
from singleshot.multibox.loss import multibox_loss

GOAL = 2.0
LossOf = Callable[[Tensor, Tensor], Tensor]

SAME = {"match": MatchConfig(forced="last_wins", ties="literal"), "loss": LossConfig(min_negatives=0)}
"""The dialect of ssd.pytorch and torchvision."""


def contenders(objects: loads.Objects, anchors: Tensor, settings: Settings) -> dict[str, LossOf]:
    """Everybody's total loss as a function of codes and logits."""
    boxes, labels = objects.lists()

    def ours(codes: Tensor, logits: Tensor, **dialect: object) -> Tensor:
        return multibox_loss(HeadOutput(codes, logits), anchors, *objects, **dialect)["total"]

    found: dict[str, LossOf] = {
        "singleshot": ours,
        "singleshot, peers' matching": lambda codes, logits: ours(codes, logits, **SAME),
        "reference form, ssd.pytorch": lambda *heads: sum(loss_ssd_pytorch_form(Heads(*heads), anchors, boxes, labels)),
        "reference form, torchvision": lambda *heads: sum(loss_torchvision_form(Heads(*heads), anchors, boxes, labels)),
    }
    classes = len(loads.CLASSES) + 1
    if model := torchvision_ssd(classes):
        found["torchvision"] = torchvision_loss(model, anchors, boxes, labels)
    if folder := ssd_pytorch_checkout(settings.peers):
        found["ssd.pytorch"] = ssd_pytorch_loss(folder, anchors, boxes, labels, classes, loads.SIDE)
    return found


def measure_row(settings: Settings) -> list[Measured]:
    """Seconds of forward and backward."""
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    batch = settings.choose(32, 32, 2)
    anchors = loads.anchors()
    codes, logits = (x.requires_grad_() for x in loads.heads(batch, len(anchors), generator))
    objects = loads.objects(batch, generator)

    def step(loss: LossOf) -> Callable[[], None]:
        def run() -> None:
            codes.grad = logits.grad = None
            loss(codes, logits).backward()

        return run

    found = contenders(objects, anchors, settings)
    seconds = take_turns({name: step(loss) for name, loss in found.items()}, settings.choose(21, 7, 1))
    row = f"loss, forward and backward, batch {batch}, {int(objects.valid.sum()) / batch:.1f} objects an image"
    return compare(row, seconds, goals={"singleshot": GOAL})


if __name__ == "__main__":
    main(__doc__, measure_row)
