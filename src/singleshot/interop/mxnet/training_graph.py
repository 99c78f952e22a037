"""The four outputs of mxnet-ssd's training graph (``get_symbol_train``), to watch a network learn.

``outputs.cls_prob.sum() + outputs.loc_loss.sum()`` may be differentiated: the gradients are MXNet's, whatever the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from singleshot.core.structures import HeadOutput
from singleshot.interop.mxnet import operators as mxnet

PROBABILITY_FLOOR = 1e-8
"""Added to probabilities before the logarithm, as mxnet-ssd's metric does."""


class TrainingOutputs(NamedTuple):
    """What ``get_symbol_train`` gives, in its order and layouts.

    Attributes:
        cls_prob: class probabilities, background first, ``[B, K, A]``; its gradient is that of the cross-entropy over
            the anchors that take part, divided by their number.
        loc_loss: smooth L1 of the box codes where an anchor has an object, else 0, ``[B, 4A]``; its gradient is
            divided by the number of entries above 0.
        cls_label: class target, -1 ignored, 0 background, c + 1 an object, ``[B, A]``.
        det_out: rows (class or -1, score, x0, y0, x1, y1), corners as fractions, ``[B, A, 6]``.
    """

    cls_prob: Tensor
    loc_loss: Tensor
    cls_label: Tensor
    det_out: Tensor


def training_outputs(
    output: HeadOutput,
    anchors_xyxy: Tensor,
    label: Tensor,
    *,
    nms_thresh: float = 0.5,
    force_suppress: bool = False,
    nms_topk: int = 400,
    variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
) -> TrainingOutputs:
    """Compute the four outputs as mxnet-ssd's training graph does: overlap .5, mining 3:1 below .5.

    Where MXNet stops because there are fewer negatives than it wants, all of them are taken.

    Args:
        output: of the network, in training or evaluation mode.
        anchors_xyxy: corners as fractions of the image, ``[A, 4]``.
        label: rows (class 0..C-1, x0, y0, x1, y1) as fractions, ended by rows of -1, ``[B, M, 5]``; see
            ``label_rows``.
        nms_thresh, force_suppress, nms_topk: of the detections.
        variances: what box codes are multiplied by.
    """
    logits, codes, anchor = output.class_logits.transpose(1, 2), output.box_codes.flatten(1), anchors_xyxy[None]
    target, mask, cls_label = _targets(anchor, label, logits, variances)
    cls_prob = mxnet.softmax_output(logits, cls_label, multi_output=True, use_ignore=True, normalization="valid")
    loc_loss = mxnet.make_loss(mxnet.smooth_l1(mask * (codes - target)), normalization="valid")
    det_out = mxnet.multibox_detection(
        cls_prob.detach(),
        codes.detach(),
        anchor,
        nms_threshold=nms_thresh,
        force_suppress=force_suppress,
        nms_topk=nms_topk,
        variances=variances,
    )
    return TrainingOutputs(cls_prob, loc_loss, cls_label, det_out)


def label_rows(boxes_xyxy: Tensor, class_ids: Tensor, valid: Tensor, image_size_hw: tuple[int, int]) -> Tensor:
    """A batch's objects as MXNet's labels: objects first, then at least one row of -1.

    Args:
        boxes_xyxy: in pixels of the network input, padded, ``[B, M, 4]``.
        class_ids: 0..C-1, ``[B, M]``.
        valid: which rows are objects, ``[B, M]`` bool.
        image_size_hw: network input size.

    Returns:
        ``[B, M + 1, 5]``.
    """
    height, width = image_size_hw
    boxes = boxes_xyxy / boxes_xyxy.new_tensor([width, height, width, height])
    rows = torch.cat([class_ids[..., None].to(boxes.dtype), boxes], dim=-1)
    rows = torch.where(valid[..., None], rows, -1.0)
    order = torch.argsort((~valid).long(), dim=1, stable=True)
    rows = rows.gather(1, order[..., None].expand_as(rows))
    return torch.cat([rows, rows.new_full((len(rows), 1, 5), -1.0)], dim=1)


def monitor_metrics(outputs: TrainingOutputs) -> dict[str, float]:
    """mxnet-ssd's two training metrics.

    Returns:
        ``CrossEntropy``: mean of ``-ln(p + 1e-8)`` over the anchors that take part; ``SmoothL1``: sum of the box
        losses over the same number. Both 0 where no anchor takes part.
    """
    metrics = _metrics(outputs.cls_prob.detach(), outputs.loc_loss.detach(), outputs.cls_label)
    return {name: float(value) for name, value in metrics.items()}


@torch.no_grad()
def monitored_losses(
    output: HeadOutput, anchors_xyxy: Tensor, label: Tensor, variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2)
) -> dict[str, Tensor]:
    """The metrics of `monitor_metrics` without detections, for every step of a training.

    Args:
        output: of the network.
        anchors_xyxy: corners as fractions of the image, ``[A, 4]``.
        label: as `training_outputs` takes it.
        variances: what box codes are multiplied by.
    """
    logits, codes = output.class_logits.transpose(1, 2), output.box_codes.flatten(1)
    target, mask, cls_label = _targets(anchors_xyxy[None], label, logits, variances)
    return _metrics(logits.softmax(dim=1), mxnet.smooth_l1(mask * (codes - target)), cls_label)


def _targets(
    anchor: Tensor, label: Tensor, logits: Tensor, variances: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    return mxnet.multibox_target(
        anchor, label, logits, negative_mining_ratio=3.0, variances=variances, allow_shortage=True
    )


def _metrics(cls_prob: Tensor, loc_loss: Tensor, cls_label: Tensor) -> dict[str, Tensor]:
    part = cls_label >= 0
    columns = cls_label.clamp(min=0).long()
    probability = cls_prob.gather(1, columns[:, None]).squeeze(1)
    count = part.sum().clamp(min=1)
    cross_entropy = torch.where(part, -(probability + PROBABILITY_FLOOR).log(), 0.0).sum()
    return {"CrossEntropy": cross_entropy / count, "SmoothL1": loc_loss.sum() / count}
