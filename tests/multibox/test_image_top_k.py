"""Candidates counted over an image (MXNet), unions with something added; all forms: ``test_postprocess_forms``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.core.nms_kinds import NmsConfig
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput
from singleshot.interop.mxnet.operators import multibox_detection
from singleshot.models.catalogue import model_spec
from singleshot.multibox.decode import postprocess
from singleshot.multibox.nms import greedy_nms

SIZE = (60, 60)
ANCHORS = torch.tensor([[x, y, 16.0, 12.0] for x in range(4, 60, 8) for y in range(4, 60, 8)], dtype=torch.float32)
CODER = CoderConfig()


def heads(seed: int) -> HeadOutput:
    generator = torch.Generator().manual_seed(seed)
    return HeadOutput(*(torch.randn(3, len(ANCHORS), width, generator=generator) * 2 for width in (4, 6)))


def settings(**options: Any) -> PostprocessConfig:
    return PostprocessConfig(top_k_scope="image", score_threshold=0.1, max_detections=400, nms_iou=0.3, **options)


@pytest.mark.parametrize("top_k", [1, 8, 30, -1])
@pytest.mark.parametrize("forced", [False, True])
def test_equals_mxnets_operator(top_k: int, forced: bool) -> None:
    base = model_spec("mxnet_ssd_vgg16_reduced_300", ["a"]).postprocess
    assert base.top_k_scope == "image"
    limit = None if top_k < 0 else top_k
    config = base.model_copy(update={"pre_nms_top_k": limit, "max_detections": 1000, "class_agnostic": forced})
    output = heads(5)
    found = postprocess(output, ANCHORS, config, CODER, SIZE)
    rows = multibox_detection(
        output.class_logits.softmax(-1).transpose(1, 2),
        output.box_codes.flatten(1),
        cxcywh_to_xyxy(ANCHORS)[None] / 60,
        force_suppress=forced,
        nms_topk=top_k,
    )
    for image in range(3):
        theirs = rows[image][rows[image, :, 0] >= 0]
        count = int(found.counts[image])
        assert count == len(theirs)
        torch.testing.assert_close(found.class_ids[image, :count].float(), theirs[:, 0])
        torch.testing.assert_close(found.scores[image, :count], theirs[:, 1])
        torch.testing.assert_close(found.boxes_xyxy[image, :count] / 60, theirs[:, 2:], rtol=1e-5, atol=1e-5)


def test_a_class_scope_adds_weaker_boxes() -> None:
    output = heads(7)
    by_class = settings(pre_nms_top_k=4, candidates="best_class").model_copy(update={"top_k_scope": "class"})
    by_image = settings(pre_nms_top_k=4, candidates="best_class")
    counts = [postprocess(output, ANCHORS, config, CODER, SIZE).counts for config in (by_class, by_image)]
    assert (counts[0] > counts[1]).all()
    assert (counts[1] <= 4).all()


@pytest.mark.parametrize(("eps", "kept"), [(0.0, 1), (20.0, 2)])
def test_an_added_union_spares_boxes_at_the_threshold(eps: float, kept: int) -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.5]])  # IoU .55, with 20 more in the union .458
    none = torch.zeros(2, dtype=torch.int64)
    config = NmsConfig(0.5, union_eps=eps)
    assert len(greedy_nms(torch.tensor([0.9, 0.8]), none, none, lambda rows: boxes[rows], config).rows) == kept
