"""Losses by name: ours, and those that another package brings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from singleshot.core.settings import BOX_LOSSES, CLASS_LOSSES, LossConfig
from singleshot.core.structures import HeadOutput
from singleshot.demo.scenes import make_scenes
from singleshot.errors import ConfigError
from singleshot.models.zoo import box_shapes
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.loss import multibox_loss
from singleshot.training.config import TrainConfig
from singleshot.training.train import train
from singleshot.weights.file import read_spec

PACKAGE = '''
import torch
from singleshot.core.boxes import aligned_iou
from singleshot.core.settings import ClassLoss
from singleshot.multibox.coder import decode_boxes


def iou_losses(codes, boxes_xyxy, anchors_cxcywh, coder, config):
    return 1 - aligned_iou(decode_boxes(codes, anchors_cxcywh, coder), boxes_xyxy)


def poly_losses(logits, columns, config):
    """Poly-1 (arXiv 2204.12511)."""
    right = logits.log_softmax(-1).gather(1, columns[:, None]).squeeze(1)
    return -right + 1 - right.exp()


poly = ClassLoss(poly_losses, lambda logits: -logits.log_softmax(-1)[..., 0], "softmax")
'''
ENTRIES = """
[singleshot.box_losses]
plain_iou = their_losses:iou_losses
[singleshot.class_losses]
poly = their_losses:poly
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An installed package with a loss of each kind."""
    (tmp_path / "their_losses.py").write_text(PACKAGE)
    metadata = tmp_path / "their_losses-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-losses\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in (BOX_LOSSES, CLASS_LOSSES):
        monkeypatch.setattr(registry, "_entries", None)
        monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.delitem(sys.modules, "their_losses", raising=False)
    yield tmp_path
    monkeypatch.delitem(sys.modules, "their_losses", raising=False)


def test_ours():
    assert CLASS_LOSSES.names() == ("softmax", "sigmoid", "focal", "quality_focal")
    assert BOX_LOSSES.names() == ("smooth_l1", "giou", "diou", "ciou")
    assert [CLASS_LOSSES.get(name).hardness is None for name in CLASS_LOSSES] == [False, False, True, True]
    assert [CLASS_LOSSES.get(name).score_function for name in CLASS_LOSSES] == ["softmax", *["sigmoid"] * 3]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"box": "gio"}, "no box loss 'gio'; did you mean giou"),
        ({"box": ""}, "no box loss ''; there are smooth_l1, giou, diou"),
        ({"classification": "focl"}, "no class loss 'focl'; did you mean focal"),
    ],
)
def test_unknown_names(setting, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**setting)
    ((key, _),) = setting.items()
    with pytest.raises(ConfigError, match=rf"loss\.{key}: {message}"):
        TrainConfig().updated({f"loss.{key}": setting[key]})


def test_names_are_checked_without_torch():
    code = (
        "import sys\nfrom singleshot.core.settings import LossConfig\nLossConfig(box='giou', classification='focal')\n"
    )
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_another_packages_losses_give_gradients_that_help(package):
    config = LossConfig(classification="poly", box="plain_iou")
    anchors = default_boxes(box_shapes.tf_anchors(levels=3), ((6, 6), (3, 3), (1, 1)), (64, 64))
    output = HeadOutput(*(torch.zeros(1, len(anchors), width, requires_grad=True) for width in (4, 3)))
    objects = torch.tensor([[[8.0, 10.0, 40.0, 50.0]]]), torch.tensor([[1]]), torch.tensor([[True]])
    optimizer = torch.optim.Adam(list(output), lr=0.1)
    history = []
    for _ in range(100):
        losses = multibox_loss(output, anchors, *objects, loss=config)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    assert history[-1]["classification"] < history[0]["classification"] / 4
    assert history[-1]["localization"] < history[0]["localization"] / 4
    assert sys.modules["their_losses"].poly is CLASS_LOSSES.get("poly")


def test_a_run_with_another_packages_losses(package, tmp_path):
    scenes = make_scenes(tmp_path / "scenes", count=6, size_hw=(96, 96))
    settings = {"size_hw": [96, 96], "workers": 0, "loss.classification": "poly", "loss.box": "plain_iou"}
    result = train(scenes, out=tmp_path / "run", steps=2, batch_size=2, settings=settings)
    assert result.steps == 2
    assert read_spec(result.best).postprocess.score_function == "softmax"
    assert "box: plain_iou" in (result.folder / "config.yaml").read_text()
