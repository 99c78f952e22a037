from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from singleshot.core.postprocess import PaddedDetections
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.export.graph_torch import postprocess_static
from singleshot.models.zoo import box_shapes
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.decode import postprocess

SIZE = (50, 50)
ANCHORS = default_boxes(box_shapes.tf_anchors(levels=3), ((5, 5), (3, 3), (1, 1)), SIZE)


def heads(seed: int, batch: int = 2, refine: bool = False) -> HeadOutput | RefineOutput:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(batch, len(ANCHORS), width, generator=generator) * 2 for width in (4, 5, 4, 2)]
    return RefineOutput(*parts) if refine else HeadOutput(*parts[:2])


def assert_same(ours: PaddedDetections, theirs: PaddedDetections) -> None:
    assert torch.equal(ours.counts, theirs.counts)
    assert torch.equal(ours.class_ids, theirs.class_ids)
    assert torch.allclose(ours.scores, theirs.scores, atol=1e-6)
    assert torch.allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-4)


CHOICES = {
    "nms": ("greedy", "none"),
    "pre_nms_top_k": (7, 400),
    "class_agnostic": (False, True),
    "max_per_class": (None, 2),
    "clip": ("before", "after"),
    "candidates": ("per_class", "best_class"),
}
VARIANTS = [dict(zip(CHOICES, row, strict=True)) for row in itertools.product(*CHOICES.values())]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(map(str, options.values())))
def test_equals_the_flexible_form(options):
    config = PostprocessConfig(**options, score_threshold=0.1, max_detections=40)
    output = heads(len(str(options)), refine=options["clip"] == "after")
    assert_same(
        postprocess_static(output, ANCHORS, config, CoderConfig(), SIZE),
        postprocess(output, ANCHORS, config, CoderConfig(), SIZE),
    )


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_of_equal_scores_the_earlier_box_survives(seed: int, class_agnostic: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(2, len(ANCHORS), 4, generator=generator) * 0.3
    logits = (
        torch.randint(0, 3, (2, len(ANCHORS), 3), generator=generator).float() * 20
    )  # as of a detector that is sure
    config = PostprocessConfig(score_threshold=0.1, nms_iou=0.3, max_detections=1000, class_agnostic=class_agnostic)
    output = HeadOutput(codes, logits)
    found = [form(output, ANCHORS, config, CoderConfig(), SIZE) for form in (postprocess_static, postprocess)]
    assert torch.equal(found[0].counts, found[1].counts)
    for ours, theirs in zip(*(one.boxes_xyxy for one in found), strict=True):
        torch.testing.assert_close(ours.sort(dim=0).values, theirs.sort(dim=0).values, rtol=0, atol=1e-4)


def test_no_detections_and_more_room_than_candidates():
    config = PostprocessConfig(score_threshold=1.0, max_detections=1000)
    found = postprocess_static(heads(0), ANCHORS, config, CoderConfig(), SIZE)
    assert found.boxes_xyxy.shape == (2, 1000, 4)
    assert found.counts.tolist() == [0, 0]
    assert found.class_ids.eq(-1).all()


def test_soft_nms_is_refused():
    with pytest.raises(ValueError, match="soft_linear"):
        postprocess_static(heads(0), ANCHORS, PostprocessConfig(nms="soft_linear"))


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchors", ANCHORS)
        self.config, self.coder = PostprocessConfig(pre_nms_top_k=30, max_detections=20), CoderConfig()

    def forward(self, box_codes: Tensor, class_logits: Tensor) -> PaddedDetections:
        return postprocess_static(HeadOutput(box_codes, class_logits), self.anchors, self.config, self.coder, SIZE)


def test_exports_with_a_free_batch():
    batch = torch.export.Dim.AUTO
    program = torch.export.export(Graph(), tuple(heads(0)), dynamic_shapes=({0: batch}, {0: batch}))
    for seed, size in ((1, 2), (2, 5)):
        output = heads(seed, size)
        assert_same(program.module()(*output), Graph()(*output))
