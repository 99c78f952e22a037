"""Other systems as contenders, where they can be imported: torchvision, and checkouts given by path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from singleshot.core.boxes import cxcywh_to_xyxy


def torchvision_ssd(classes: int) -> Any:
    """torchvision's SSD300-VGG16, or ``None`` where torchvision cannot be imported."""
    try:
        from torchvision.models.detection import ssd300_vgg16
    except (ImportError, RuntimeError, OSError):  # the last two: a build for another torch
        return None
    return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes)


def torchvision_loss(model: Any, anchors: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Callable:
    """torchvision's matching and loss as a function of codes and logits."""
    from torchvision.ops import box_iou

    corners = cxcywh_to_xyxy(anchors)
    targets = [{"boxes": own, "labels": label + 1} for own, label in zip(boxes, labels, strict=True)]

    def loss(codes: Tensor, logits: Tensor) -> Tensor:
        matches = [model.proposal_matcher(box_iou(own, corners)) for own in boxes]
        outputs = {"bbox_regression": codes, "cls_logits": logits}
        return sum(model.compute_loss(targets, outputs, [corners] * len(boxes), matches).values())

    return loss


def torchvision_detect(model: Any, anchors: Tensor, size_hw: tuple[int, int]) -> Callable[[Tensor, Tensor], object]:
    """torchvision's way from codes and logits to detections."""
    corners = cxcywh_to_xyxy(anchors)

    @torch.no_grad()
    def detect(codes: Tensor, logits: Tensor) -> object:
        outputs = {"bbox_regression": codes, "cls_logits": logits}
        return model.postprocess_detections(outputs, [corners] * len(codes), [size_hw] * len(codes))

    return detect


def ssd_pytorch_checkout(folders: Sequence[Path]) -> Path | None:
    """The folder that is a checkout of ssd.pytorch."""
    return next((f for f in folders if (f / "layers/modules/multibox_loss.py").is_file()), None)


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def ssd_pytorch_loss(
    folder: Path, anchors: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], classes: int, side: int
) -> Callable:
    """``MultiBoxLoss`` of an ssd.pytorch checkout as a function of codes and logits."""
    with importing_from(folder):
        from layers.modules import MultiBoxLoss
    criterion = MultiBoxLoss(classes, 0.5, True, 0, True, 3, 0.5, False, False)
    targets = [torch.cat((own / side, label[:, None].float()), 1) for own, label in zip(boxes, labels, strict=True)]
    return lambda codes, logits: sum(criterion((codes, logits, anchors / side), targets))


def ssd_pytorch_detect(folder: Path, anchors: Tensor, classes: int, side: int) -> Callable[[Tensor, Tensor], object]:
    """``Detect`` of an ssd.pytorch checkout; called as the plain function that it is."""
    with importing_from(folder):
        from layers.functions.detection import Detect
    layer = Detect(classes, 0, 200, 0.01, 0.45)

    @torch.no_grad()
    def detect(codes: Tensor, logits: Tensor) -> object:
        return layer.forward(codes, logits.softmax(-1), anchors / side)

    return detect
