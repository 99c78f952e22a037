"""A detector as one torch module, of any `Level`: what TorchScript, ``torch.export`` and those behind it are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from singleshot.core.boxes import clip_to_image, xyxy_to_cxcywh
from singleshot.core.postprocess import class_columns
from singleshot.core.structures import RefineOutput
from singleshot.export.conversion import TRACING
from singleshot.export.graph_torch import postprocess_static
from singleshot.export.info import ExportInfo
from singleshot.export.pictures_torch import preprocess_pictures
from singleshot.export.writers import Origin
from singleshot.models.build import build_anchors
from singleshot.models.network import Network
from singleshot.multibox.coder import decode_boxes
from singleshot.multibox.scores import class_scores, take_columns


class Program(nn.Module):
    """A network with what precedes and follows it.

    Args:
        network: in eval mode.
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``.
        info: level, layout, size, thresholds.
    """

    anchors_cxcywh: Tensor

    def __init__(self, network: Network, anchors_cxcywh: Tensor, info: ExportInfo) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("anchors_cxcywh", anchors_cxcywh)
        self._info = info

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the level takes to what it gives: `Level`."""
        if self._info.level == "raw":
            return tuple(self.network(images))
        if self._info.level == "decoded":
            return self._decoded(images)
        return self._detections(images)

    def _decoded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        spec, output = self._info.spec, self.network(images)
        columns = class_columns(output.class_logits.shape[-1], spec.postprocess, len(spec.class_names))
        scores = take_columns(class_scores(output, spec.postprocess), columns)
        anchors = self.anchors_cxcywh
        if isinstance(output, RefineOutput):
            anchors = xyxy_to_cxcywh(decode_boxes(output.arm_box_codes, anchors, spec.coder))
        boxes = decode_boxes(output.box_codes, anchors, spec.coder)
        is_clipped = spec.postprocess.clip == "before"
        return clip_to_image(boxes, spec.preprocess.size_hw) if is_clipped else boxes, scores

    def _detections(self, pictures: Tensor) -> tuple[Tensor, ...]:
        spec, classes = self._info.spec, len(self._info.spec.class_names)
        pictures = pictures.permute(0, 3, 1, 2) if self._info.layout == "nhwc" else pictures
        images = preprocess_pictures(pictures, spec.preprocess, any_size=self._info.dynamic)
        size_hw = spec.preprocess.size_hw
        output, settings = self.network(images), self._info.postprocess
        found = postprocess_static(output, self.anchors_cxcywh, settings, spec.coder, size_hw, classes)
        boxes = found.boxes_xyxy / torch.tensor(size_hw[::-1] * 2, dtype=torch.float32)
        height, width = (torch.ones(1) * side for side in pictures.shape[2:])
        return boxes * torch.cat([width, height, width, height]), found.scores, found.class_ids, found.counts


def build_program(origin: Origin, info: ExportInfo) -> Program:
    """The module of a detector, in eval mode on the CPU.

    Args:
        origin: the detector.
        info: what the module is to be.
    """
    network = origin.network.copy()
    return Program(network, build_anchors(info.spec, network), info).eval()


def example(info: ExportInfo, batch: int = 2) -> Tensor:
    """Something that a program takes: noise, so that no step is empty."""
    height, width = info.spec.preprocess.size_hw
    generator = torch.Generator().manual_seed(0)
    if info.level != "end2end":
        return torch.randn(batch, info.spec.network.backbone.in_channels, height, width, generator=generator)
    shape = (batch, height, width, 3) if info.layout == "nhwc" else (batch, 3, height, width)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


@contextmanager
def exporting() -> Iterator[None]:
    """One export at a time, without gradients and without the exporters' warnings about sizes that are fixed."""
    with TRACING, catch_warnings(), torch.no_grad():
        simplefilter("ignore")
        yield
