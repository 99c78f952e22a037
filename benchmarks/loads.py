"""What the contenders get: the anchors of SSD300-VGG16, objects, and raw heads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.models.network import Network

MODEL = "ssd300_vgg16"
CLASSES = tuple(f"class{index}" for index in range(20))
SIDE = 300


class Objects(NamedTuple):
    """Objects of a batch, padded and as lists: corners in pixels, classes 0..C-1."""

    boxes_xyxy: Tensor
    class_ids: Tensor
    valid: Tensor

    def lists(self) -> tuple[list[Tensor], list[Tensor]]:
        boxes = [own[valid] for own, valid in zip(self.boxes_xyxy, self.valid, strict=True)]
        return boxes, [own[valid] for own, valid in zip(self.class_ids, self.valid, strict=True)]


def spec() -> ModelSpec:
    """SSD300-VGG16 with the 20 classes of VOC."""
    return model_spec(MODEL, CLASSES)


def anchors() -> Tensor:
    """Its default boxes, ``[8732, 4]`` cxcywh in pixels."""
    with torch.device("meta"):
        network = build_network(spec().network)
    assert isinstance(network, Network)
    return build_anchors(spec(), network)


def objects(batch: int, generator: torch.Generator, mean: int = 6) -> Objects:
    """About ``mean`` boxes an image, from 20 pixels to most of the image."""
    counts = torch.randint(1, 2 * mean, (batch,), generator=generator)
    most = int(counts.max())
    size = torch.exp(torch.empty(batch, most, 2).uniform_(3.0, 5.4, generator=generator))
    low = torch.rand(batch, most, 2, generator=generator) * (SIDE - size)
    class_ids = torch.randint(0, len(CLASSES), (batch, most), generator=generator)
    return Objects(torch.cat((low, low + size), 2), class_ids, torch.arange(most) < counts[:, None])


def heads(batch: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Box codes and logits as noise, the background ahead."""
    codes = torch.randn(batch, count, 4, generator=generator) * 0.5
    logits = torch.randn(batch, count, len(CLASSES) + 1, generator=generator)
    logits[..., 0] += 4
    return codes, logits


def crowded_heads(batch: int, count: int, candidates: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise with a background so far ahead that about ``candidates`` pairs an image have a probability above .01."""
    codes, logits = heads(batch, count, generator)
    logits[..., 0] -= 4
    low, high = 0.0, 20.0
    for _ in range(24):
        lead = (low + high) / 2
        shifted = logits[0].clone()
        shifted[:, 0] += lead
        found = int((shifted.softmax(-1)[:, 1:] > 0.01).sum())
        low, high = (lead, high) if found > candidates else (low, lead)
    logits[..., 0] += low
    return codes, logits
