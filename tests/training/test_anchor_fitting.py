from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from singleshot.core.structures import ClassMap, Sample
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.training.anchor_fitting import fit_anchors, scale_anchors
from singleshot.training.checks import anchor_fit

SPEC = model_spec("ssdlite300_mobilenet_v2", ("a",))


def scene(side: float, objects: int = 40) -> Sample:
    corners = np.random.default_rng(0).uniform(0, 300 - side, (objects, 2))
    boxes = np.concatenate([corners, corners + side], axis=1).astype(np.float32)
    nothing = np.zeros(objects, bool)
    return Sample(Path("a.jpg"), (300, 300), boxes, np.zeros(objects, np.int64), iscrowd=nothing, difficult=nothing)


def mean_iou(spec: ModelSpec, sample: Sample) -> float:
    anchors = build_anchors(spec, build_network(spec.network))
    return float(anchor_fit([sample], ClassMap(("a",)), anchors, (300, 300)).mean_iou[0])


def test_without_objects_the_model_keeps_its_own() -> None:
    assert fit_anchors(SPEC, []) == SPEC.anchors


@pytest.mark.parametrize("side", [4.0, 6.0, 12.0])
def test_small_objects_are_overlapped_better(side: float) -> None:
    sample = scene(side)
    fitted = SPEC.model_copy(update={"anchors": fit_anchors(SPEC, [sample])})
    assert fitted.anchors.boxes_per_cell == SPEC.anchors.boxes_per_cell
    assert mean_iou(fitted, sample) > 1.2 * mean_iou(SPEC, sample)


def test_a_factor_scales_sizes_alone() -> None:
    half = scale_anchors(SPEC.anchors, [0.5] * len(SPEC.anchors.levels))
    for old, new in zip(SPEC.anchors.levels, half.levels, strict=True):
        np.testing.assert_allclose(np.array(new.shapes_wh), np.array(old.shapes_wh) / 2)
        assert new.step_hw == old.step_hw
