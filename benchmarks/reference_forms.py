"""What SSD implementations usually do, in plain form: yardsticks where the real systems are not installed.

These were written for this comparison from the published algorithms, structured as the named systems structure them:
loops over images, classes and boxes included. They say "reference form" in every table: they are not those systems.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VARIANCES = (0.1, 0.1, 0.2, 0.2)


class Heads(NamedTuple):
    """Box codes ``[B, A, 4]`` and class logits ``[B, A, K]``, background in column 0."""

    codes: Tensor
    logits: Tensor


def corners(boxes_cxcywh: Tensor) -> Tensor:
    return torch.cat((boxes_cxcywh[:, :2] - boxes_cxcywh[:, 2:] / 2, boxes_cxcywh[:, :2] + boxes_cxcywh[:, 2:] / 2), 1)


def iou_table(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """IoU of all pairs, ``[N, 4], [M, 4] -> [N, M]``."""
    low = torch.max(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = torch.min(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    sides = (high - low).clamp(min=0)
    overlap = sides[..., 0] * sides[..., 1]
    area_a, area_b = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (a_xyxy, b_xyxy))
    return overlap / (area_a[:, None] + area_b[None] - overlap)


def encode(boxes_xyxy: Tensor, anchors: Tensor) -> Tensor:
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 - anchors[:, :2]
    size = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / anchors[:, 2:]
    return torch.cat((centre / anchors[:, 2:] / VARIANCES[0], size.log() / VARIANCES[2]), 1)


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    centre = anchors[:, :2] + codes[:, :2] * VARIANCES[0] * anchors[:, 2:]
    return corners(torch.cat((centre, anchors[:, 2:] * torch.exp(codes[:, 2:] * VARIANCES[2])), 1))


# Loss.


def loss_ssd_pytorch_form(
    heads: Heads, anchors: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Targets of image after image, objects forced onto anchors one by one; mining by two sorts of the whole batch.

    Args:
        heads: of the network.
        anchors: cxcywh, ``[A, 4]``.
        boxes, labels: xyxy ``[M, 4]`` and class 0..C-1 ``[M]`` of each image.

    Returns:
        Box loss and class loss, each over the number of positives.
    """
    batch, count, classes = heads.logits.shape
    goals, targets = torch.empty(batch, count, 4), torch.empty(batch, count, dtype=torch.long)
    corner_anchors = corners(anchors)
    for image in range(batch):
        overlaps = iou_table(boxes[image], corner_anchors)
        best_anchor = overlaps.max(1).indices
        best_overlap, best_object = overlaps.max(0)
        best_overlap.index_fill_(0, best_anchor, 2)
        for number in range(len(best_anchor)):
            best_object[best_anchor[number]] = number
        target = labels[image][best_object] + 1
        target[best_overlap < 0.5] = 0
        goals[image] = encode(boxes[image][best_object], anchors)
        targets[image] = target
    positive = targets > 0
    wide = positive.unsqueeze(2).expand_as(heads.codes)
    box_loss = F.smooth_l1_loss(heads.codes[wide].view(-1, 4), goals[wide].view(-1, 4), reduction="sum")
    flat = heads.logits.view(-1, classes)
    top = flat.detach().max()
    hardness = torch.log(torch.sum(torch.exp(flat - top), 1, keepdim=True)) + top - flat.gather(1, targets.view(-1, 1))
    hardness = hardness.view(batch, -1)
    hardness[positive] = 0
    order = hardness.sort(1, descending=True).indices
    rank = order.sort(1).indices
    positives = positive.long().sum(1, keepdim=True)
    chosen = positive | (rank < (3 * positives).clamp(max=count - 1))
    rows = chosen.unsqueeze(2).expand_as(heads.logits)
    class_loss = F.cross_entropy(heads.logits[rows].view(-1, classes), targets[chosen], reduction="sum")
    total = positives.sum()
    return box_loss / total, class_loss / total


def loss_torchvision_form(
    heads: Heads, anchors: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Matching and box loss of image after image; cross-entropy of all anchors; mining by two sorts.

    Arguments and result as in ``loss_ssd_pytorch_form``.
    """
    corner_anchors = corners(anchors)
    matched = [match_one_image(iou_table(own, corner_anchors)) for own in boxes]
    positives, box_losses, targets = 0, [], []
    for codes, own_boxes, own_labels, match in zip(heads.codes, boxes, labels, matched, strict=True):
        foreground = torch.where(match >= 0)[0]
        objects = match[foreground]
        positives += objects.numel()
        goal = encode(own_boxes[objects], anchors[foreground])
        box_losses.append(F.smooth_l1_loss(codes[foreground], goal, reduction="sum"))
        target = torch.zeros(len(codes), dtype=torch.long)
        target[foreground] = own_labels[objects] + 1
        targets.append(target)
    target = torch.stack(targets)
    classes = heads.logits.size(-1)
    losses = F.cross_entropy(heads.logits.view(-1, classes), target.view(-1), reduction="none").view(target.shape)
    foreground = target > 0
    wanted = 3 * foreground.sum(1, keepdim=True)
    hardness = losses.clone()
    hardness[foreground] = -float("inf")
    rank = hardness.sort(1, descending=True).indices.sort(1).indices
    class_loss = losses[foreground].sum() + losses[rank < wanted].sum()
    total = max(1, positives)
    return torch.stack(box_losses).sum() / total, class_loss / total


def match_one_image(overlaps: Tensor) -> Tensor:
    """Object of each anchor, -1 below .5 unless it is an object's best anchor, ``[M, A] -> [A]``."""
    best, match = overlaps.max(0)
    match[best < 0.5] = -1
    forced = overlaps.max(1).indices
    match[forced] = torch.arange(len(forced))
    return match


# From heads to detections.


def greedy_loop(boxes_xyxy: Tensor, scores: Tensor, threshold: float, top_k: int | None = None) -> Tensor:
    """Greedy NMS box by box: the best one strikes out what overlaps it, and so on."""
    order = scores.sort(descending=True, stable=True).indices[:top_k]
    x0, y0, x1, y1 = boxes_xyxy.unbind(1)
    area = (x1 - x0) * (y1 - y0)
    keep = []
    while order.numel():
        best, rest = order[0], order[1:]
        keep.append(best)
        width = (torch.minimum(x1[best], x1[rest]) - torch.maximum(x0[best], x0[rest])).clamp(min=0)
        height = (torch.minimum(y1[best], y1[rest]) - torch.maximum(y0[best], y0[rest])).clamp(min=0)
        overlap = width * height
        order = rest[overlap / (area[best] + area[rest] - overlap) <= threshold]
    return torch.stack(keep) if keep else order


def detect_ssd_pytorch_form(heads: Heads, anchors: Tensor, top_k: int = 200) -> list[Tensor]:
    """Image after image, class after class; the best ``top_k`` of each class enter NMS, up to ``top_k`` come out.

    Returns:
        Rows (class, score, x0, y0, x1, y1) of each image, best first, 200 at most.
    """
    found = []
    for codes, scores in zip(heads.codes, heads.logits.softmax(-1), strict=True):
        boxes = decode(codes, anchors)
        rows = []
        for label in range(1, scores.shape[1]):
            mask = scores[:, label] > 0.01
            if not mask.any():
                continue
            own, own_boxes = scores[mask, label], boxes[mask]
            keep = greedy_loop(own_boxes, own, 0.45, top_k)
            rows.append(torch.cat((torch.full((len(keep), 1), label - 1), own[keep, None], own_boxes[keep]), 1))
        found.append(best_rows(rows, 200))
    return found


def detect_torchvision_form(heads: Heads, anchors: Tensor, image_size_hw: tuple[int, int]) -> list[Tensor]:
    """Image after image: all boxes decoded and clipped, 400 of each class by a loop, one NMS with boxes shifted apart.

    torchvision's NMS is compiled; here it is ``greedy_loop``, so this is slower than torchvision. Result as above.
    """
    found = []
    height, width = image_size_hw
    for codes, scores in zip(heads.codes, heads.logits.softmax(-1), strict=True):
        boxes = decode(codes, anchors)
        boxes = torch.stack((boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)), 2).view(-1, 4)
        rows = []
        for label in range(1, scores.shape[1]):
            own = scores[:, label]
            kept = torch.where(own > 0.01)[0]
            own, order = own[kept].topk(min(400, kept.numel()))
            rows.append(torch.cat((torch.full((len(own), 1), label - 1), own[:, None], boxes[kept[order]]), 1))
        whole = torch.cat(rows)
        shifted = whole[:, 2:] + (whole[:, :1] * (whole[:, 2:].max() + 1) if len(whole) else 0)
        keep = greedy_loop(shifted, whole[:, 1], 0.45)
        found.append(whole[keep[:200]])
    return found


def best_rows(rows: Sequence[Tensor], count: int) -> Tensor:
    whole = torch.cat((torch.zeros(0, 6), *rows))
    return whole[whole[:, 1].sort(descending=True, stable=True).indices[:count]]


# The network.

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))
EXTRAS = ((1024, 256, 512, 2, 1), (512, 128, 256, 2, 1), (256, 128, 256, 1, 0), (256, 128, 256, 1, 0))
SOURCES = (512, 1024, 512, 256, 256, 256)
BOXES_PER_CELL = (4, 6, 6, 6, 4, 4)


class PlainSsd300(nn.Module):
    """SSD300-VGG16 as nested sequences of layers, float32 and NCHW."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for number, stage in enumerate(STAGES):
            if number:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=number == 3))
            layers += relu_convs((width, *stage))
            width = stage[-1]
        self.low = nn.Sequential(*layers)
        self.scale = nn.Parameter(torch.full((512,), 20.0))
        dilated = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.high = nn.Sequential(
            nn.MaxPool2d(2, 2), *relu_convs((512, 512, 512, 512)), nn.MaxPool2d(3, 1, 1),
            dilated, nn.ReLU(inplace=True), nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.extras = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, narrow, 1), nn.ReLU(inplace=True),
                nn.Conv2d(narrow, after, 3, stride, padding), nn.ReLU(inplace=True),
            )
            for before, narrow, after, stride, padding in EXTRAS
        )  # fmt: skip
        self.classes = classes
        per_source = list(zip(SOURCES, BOXES_PER_CELL, strict=True))
        self.loc = nn.ModuleList(nn.Conv2d(width, boxes * 4, 3, padding=1) for width, boxes in per_source)
        self.conf = nn.ModuleList(nn.Conv2d(width, boxes * classes, 3, padding=1) for width, boxes in per_source)

    def forward(self, images: Tensor) -> Heads:
        x = self.low(images)
        norm = x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10
        maps = [self.scale[None, :, None, None] * (x / norm), self.high(x)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        codes = [layer(x).permute(0, 2, 3, 1).flatten(1) for layer, x in zip(self.loc, maps, strict=True)]
        logits = [layer(x).permute(0, 2, 3, 1).flatten(1) for layer, x in zip(self.conf, maps, strict=True)]
        batch = len(images)
        return Heads(torch.cat(codes, 1).view(batch, -1, 4), torch.cat(logits, 1).view(batch, -1, self.classes))


def relu_convs(widths: Iterable[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
    return layers
