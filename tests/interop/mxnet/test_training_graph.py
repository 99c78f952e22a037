"""The training graph's four outputs: no object, padded labels, gradients, metrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from singleshot.core.structures import HeadOutput
from singleshot.interop.mxnet.training_graph import label_rows, monitor_metrics, monitored_losses, training_outputs

# Four anchors side by side, fractions of the image.
ANCHORS = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]])


def heads(batch: int = 1, columns: int = 3) -> HeadOutput:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn((batch, 4, 4), generator=generator)
    logits = torch.randn((batch, 4, columns), generator=generator)
    return HeadOutput(codes.requires_grad_(), logits.requires_grad_())


def nothing(batch: int = 1) -> Tensor:
    return torch.full((batch, 1, 5), -1.0)


def test_an_image_without_objects_teaches_nothing() -> None:
    output = heads()
    outputs = training_outputs(output, ANCHORS, nothing())
    assert outputs.cls_label.tolist() == [[-1.0] * 4]
    assert outputs.loc_loss.tolist() == [[0.0] * 16]
    assert monitor_metrics(outputs) == {"CrossEntropy": 0.0, "SmoothL1": 0.0}
    (outputs.cls_prob.sum() + outputs.loc_loss.sum()).backward()
    assert output.class_logits.grad is not None
    assert output.box_codes.grad is not None
    assert not output.class_logits.grad.any()
    assert not output.box_codes.grad.any()


def test_one_object() -> None:
    output = heads()
    label = torch.cat([torch.tensor([[[1.0, 0.0, 0.0, 0.5, 0.5]]]), nothing()], dim=1)
    outputs = training_outputs(output, ANCHORS, label, nms_topk=2)
    assert outputs.cls_label.tolist() == [[2.0, 0.0, 0.0, 0.0]]
    assert outputs.cls_prob.shape == (1, 3, 4)
    assert outputs.det_out.shape == (1, 4, 6)
    codes = output.box_codes[0, 0].detach()
    expected = torch.where(codes.abs() < 1, codes**2 / 2, codes.abs() - 0.5)
    torch.testing.assert_close(outputs.loc_loss[0, :4], expected)
    assert not outputs.loc_loss[0, 4:].any()


def test_gradients_are_those_of_the_normalised_losses() -> None:
    output = heads()
    label = torch.cat([torch.tensor([[[0.0, 0.0, 0.0, 0.5, 0.5]]]), nothing()], dim=1)
    outputs = training_outputs(output, ANCHORS, label)
    (outputs.cls_prob.sum() + outputs.loc_loss.sum()).backward()
    plain = heads()
    targets = outputs.cls_label.long()
    loss = torch.nn.functional.cross_entropy(plain.class_logits.transpose(1, 2), targets, ignore_index=-1)
    loss = loss + torch.nn.functional.smooth_l1_loss(plain.box_codes[:, :1], torch.zeros(1, 1, 4))
    loss.backward()
    torch.testing.assert_close(output.class_logits.grad, plain.class_logits.grad)
    torch.testing.assert_close(output.box_codes.grad, plain.box_codes.grad)


def test_metrics() -> None:
    label = torch.cat([torch.tensor([[[0.0, 0.0, 0.0, 0.5, 0.5]]]), nothing()], dim=1)
    outputs = training_outputs(heads(), ANCHORS, label)
    probabilities = outputs.cls_prob.detach()[0]
    wanted = [float(probabilities[1, 0]), *(float(probabilities[0, index]) for index in (1, 2, 3))]
    metrics = monitor_metrics(outputs)
    assert metrics["CrossEntropy"] == pytest.approx(-sum(map(math.log, wanted)) / 4, rel=1e-5)
    assert metrics["SmoothL1"] == pytest.approx(float(outputs.loc_loss.detach().sum()) / 4)


def test_label_rows_put_objects_first_and_end_them() -> None:
    boxes = torch.tensor([[[0.0, 0, 0, 0], [20, 10, 40, 50]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    classes = torch.tensor([[-1, 2], [-1, -1]])
    valid = torch.tensor([[False, True], [False, False]])
    rows = label_rows(boxes, classes, valid, (100, 200))
    assert rows.shape == (2, 3, 5)
    torch.testing.assert_close(rows[0, 0], torch.tensor([2.0, 0.1, 0.1, 0.2, 0.5]))
    assert bool((rows[0, 1:] == -1).all())
    assert bool((rows[1] == -1).all())


def test_monitored_losses_equal_the_metrics_of_the_outputs() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = torch.rand(40, 4, generator=generator)
    anchors = torch.cat([anchors[:, :2] * 0.5, anchors[:, :2] * 0.5 + anchors[:, 2:] * 0.4 + 0.05], dim=1)
    output = HeadOutput(torch.randn(2, 40, 4, generator=generator), torch.randn(2, 40, 3, generator=generator))
    label = torch.tensor([[[1.0, 0.1, 0.1, 0.4, 0.5], [-1.0] * 5], [[-1.0] * 5] * 2])
    expected = monitor_metrics(training_outputs(output, anchors, label))
    assert expected["CrossEntropy"] > 0
    assert expected["SmoothL1"] > 0
    found = monitored_losses(output, anchors, label)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_label_rows_of_no_objects_at_all() -> None:
    rows = label_rows(
        torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool), (9, 9)
    )
    assert rows.tolist() == [[[-1.0] * 5]] * 2
