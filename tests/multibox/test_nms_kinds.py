"""Kinds of NMS by name: a wrong one, and one that another installed package brings."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from singleshot.core.nms_kinds import NMS_KINDS
from singleshot.core.postprocess import HeadGeometry
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.kernels.detect import CompiledForm
from singleshot.runtime.postprocess import choose_form

BEST_ONLY = """
import torch

from singleshot.core.nms_kinds import Survivors


def best_only(scores, images, groups, boxes_of, config):
    \"\"\"The best candidate of each image, at half its score.\"\"\"
    best = [torch.where(images == image, scores, -1.0).argmax() for image in images.unique()]
    rows = torch.stack(best) if best else images
    return Survivors(rows, boxes_of(rows), scores[rows] / 2)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a kind ``best_only``."""
    (tmp_path / "their_nms.py").write_text(BEST_ONLY)
    metadata = tmp_path / "their_nms-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-nms\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[singleshot.nms_kinds]\nbest_only = their_nms:best_only\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(NMS_KINDS, "_entries", None)
    monkeypatch.setattr(NMS_KINDS, "_loaded", {})
    monkeypatch.delitem(sys.modules, "their_nms", raising=False)


def test_a_wrong_name_has_a_hint() -> None:
    with pytest.raises(ValueError, match="no nms kind 'gredy'; did you mean greedy"):
        PostprocessConfig(nms="gredy")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_kind_from_another_package(batch: int) -> None:
    """Through the settings and what a runtime calls; the compiled form leaves it to torch."""
    rng = np.random.default_rng(0)
    anchors = rng.uniform(10, 40, (20, 4)).astype(np.float32)
    heads = [rng.normal(0, 1, (batch, 20, width)).astype(np.float32) for width in (4, 5)]
    geometry = HeadGeometry(anchors, CoderConfig(), (50, 50))
    theirs, ours = PostprocessConfig(nms="best_only"), PostprocessConfig(max_detections=1)
    assert "their_nms" not in sys.modules  # naming it imports nothing
    assert not CompiledForm(geometry).fits(theirs)
    found, wanted = (choose_form(geometry)(heads, settings) for settings in (theirs, ours))
    assert found.counts.tolist() == [1] * batch
    if batch == 0:
        return
    np.testing.assert_array_equal(found.class_ids[:, :1], wanted.class_ids)
    np.testing.assert_allclose(found.scores[:, :1], wanted.scores / 2, rtol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy[:, :1], wanted.boxes_xyxy, rtol=1e-4)
