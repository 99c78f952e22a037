"""Every architecture exports, and takes a training step with 0, 1 and many objects."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from singleshot.core.structures import RefineOutput
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.multibox.loss import multibox_loss
from singleshot.multibox.refine import refine_loss

CLASSES = ("a", "b", "c")

# Name and the smallest convenient input. Those with unpadded last blocks need nearly their own size.
LIGHT = {
    "mxnet_ssd_mobilenet_300": (96, 128),
    "ssd300_mobilenet_v1": (96, 128),
}
HEAVY = {
    "mxnet_ssd_densenet_tiny_300": (96, 128),
    "ssd300_resnet18": (288, 272),
    "mxnet_ssd_inceptionv3_300": (96, 128),
    "mxnet_ssd_resnet50_300": (96, 128),
    "mxnet_ssd_densenet121_300": (96, 128),
    "mxnet_dssd_vgg16_reduced_300": (96, 128),
    "mxnet_dssd_vgg16_reduced_300_module": (96, 128),
    "mxnet_dssd_vgg16_reduced_300_residual": (96, 128),
    "mxnet_dssd_vgg16_reduced_512_tdm_dssd": (96, 128),
    "mxnet_dssd_resnet101_321": (96, 128),
    "tdm300_vgg16": (272, 272),
    "dssd300_vgg16": (272, 272),
    "dssd321_resnet101": (305, 305),
    "refinedet320_vgg16": (96, 128),
    "refinedet320_resnet101": (96, 128),
}
TABLE = [
    *(pytest.param(name, size, id=name) for name, size in LIGHT.items()),
    *(pytest.param(name, size, id=name, marks=pytest.mark.heavy) for name, size in HEAVY.items()),
]


def objects(counts: list[int], size_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in pixels, classes and validity of images with these many objects."""
    generator = torch.Generator().manual_seed(0)
    batch, most = len(counts), max(counts)
    height, width = size_hw
    corners = torch.rand((batch, most, 2), generator=generator) * 0.6
    sides = 0.05 + torch.rand((batch, most, 2), generator=generator) * 0.35
    boxes = torch.cat([corners, corners + sides], dim=-1) * torch.tensor([width, height, width, height])
    classes = torch.randint(0, len(CLASSES), (batch, most), generator=generator)
    return boxes, classes, torch.arange(most) < torch.tensor(counts)[:, None]


@pytest.mark.parametrize(("name", "size_hw"), TABLE)
def test_a_training_step_with_no_one_and_many_objects(name: str, size_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    spec = model_spec(name, CLASSES, size_hw)
    network = build_network(spec.network).train()
    anchors = build_anchors(spec, network)
    # BatchNorm needs two values per channel, and the last maps have one cell.
    for counts in ([0, 0], [1, 12]):
        output = network(torch.randn(len(counts), 3, *size_hw))
        boxes, classes, valid = objects(counts, size_hw)
        loss = refine_loss if isinstance(output, RefineOutput) else multibox_loss
        losses = loss(output, anchors, boxes, classes, valid, coder=spec.coder)  # type: ignore[arg-type, operator]
        assert all(bool(torch.isfinite(value)) for value in losses.values())
        assert (float(losses["localization"].detach()) > 0) == (max(counts) > 0)
        losses["total"].backward()
    trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
    missing = [key for key, value in trained.items() if value.grad is None]
    assert missing == []
    assert all(bool(torch.isfinite(value.grad).all()) for value in trained.values() if value.grad is not None)
    torch.optim.SGD(trained.values(), lr=1e-3).step()
    assert all(bool(torch.isfinite(value).all()) for value in network.parameters())


@pytest.mark.parametrize(("name", "size_hw"), TABLE)
def test_exports_and_computes_the_same(name: str, size_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = build_network(model_spec(name, CLASSES, size_hw).network).eval()
    images = torch.randn(1, 3, *size_hw)
    exported = torch.export.export(network, (images,))
    with torch.no_grad():
        for ours, theirs in zip(network(images), exported.module()(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
