"""The forms that never wait for a device, run on the host: same results as the forms that count rows."""

from __future__ import annotations

import pytest
import torch

from singleshot.core.settings import LossConfig, MatchConfig
from singleshot.core.structures import HeadOutput
from singleshot.models.zoo import box_shapes
from singleshot.multibox import class_losses, loss, matching, mining, rows
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.rows import counting_is_free

ANCHORS = default_boxes(box_shapes.tf_anchors(levels=3), ((6, 6), (3, 3), (1, 1)), (64, 64))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch):
    def switch() -> None:
        for module in (rows, matching, mining, class_losses):
            monkeypatch.setattr(module, "counting_is_free", lambda tensor: False)

    return switch


def scene(seed: int):
    """Whole-number boxes, so that objects compete for anchors."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 10, (3, 6, 2), generator=generator) * 4.0
    boxes = torch.cat([corner, corner + torch.randint(1, 8, (3, 6, 2), generator=generator) * 4], dim=2)
    valid = torch.rand(3, 6, generator=generator) < torch.tensor([0.8, 0.0, 0.4])[:, None]
    ids = torch.where(valid, torch.randint(0, 3, (3, 6), generator=generator), -1)
    return torch.where(valid[..., None], boxes, 8.0), ids, valid


def test_only_the_host_counts():
    assert counting_is_free(torch.zeros(1))
    assert not counting_is_free(torch.zeros(1, device="meta"))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("forced", ["bipartite", "last_wins", "none"])
def test_matching(seed, forced, no_waiting):
    boxes, _, valid = scene(seed)
    config = MatchConfig(forced=forced, positive_iou=None if seed % 3 == 0 else 0.3)
    counted = matching.match_anchors(ANCHORS, boxes, valid, config)
    no_waiting()
    found = matching.match_anchors(ANCHORS, boxes, valid, config)
    assert torch.equal(found.object_index, counted.object_index)
    assert torch.equal(found.best_iou, counted.best_iou)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "focal"])
@pytest.mark.parametrize("box", ["smooth_l1", "diou"])
def test_loss(kind, box, no_waiting):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, len(ANCHORS), width, generator=generator).requires_grad_() for width in (4, 4)]
    results = []
    for switch in (lambda: None, no_waiting):
        switch()
        losses = loss.multibox_loss(
            HeadOutput(*parts), ANCHORS, *scene(1), loss=LossConfig(classification=kind, box=box)
        )
        results.append([*losses.values(), *torch.autograd.grad(losses["total"], parts)])
    for counted, found in zip(*results, strict=True):
        assert torch.allclose(counted, found, rtol=1e-5, atol=1e-6)


def test_loss_without_objects(no_waiting):
    no_waiting()
    parts = [torch.randn(3, len(ANCHORS), 4).requires_grad_() for _ in range(2)]
    boxes, ids, valid = scene(0)
    losses = loss.multibox_loss(HeadOutput(*parts), ANCHORS, boxes[:, :0], ids[:, :0], valid[:, :0])
    losses["total"].backward()
    assert losses["localization"].item() == 0
    assert parts[0].grad is not None
    assert parts[0].grad.eq(0).all()
