"""Whole networks against real MXNet, RefineDet.PyTorch and NVIDIA: heads, anchors, targets, losses, gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity import mxnet_errors, mxnet_golden, nvidia_errors, refinedet_errors, relative_error
from singleshot.core.structures import HeadOutput
from singleshot.interop.mxnet.training_graph import training_outputs
from singleshot.models.network import Network

# Largest relative error of a gradient's norm, and of the loss. ResNet-101 trained with batch statistics of one image is
# ill-conditioned: relative noise of 1e-7 (one float32 rounding) after each layer, in float64, moves single norms by
# 2 % and the loss by 1e-4, so MXNet's own rounding is as far from the truth as ours.
TOLERANCES = {
    "mxnet_ssd_vgg16_reduced_300": (1e-3, 1e-5),
    "mxnet_dssd_vgg16_reduced_300": (1e-3, 1e-5),
    "mxnet_dssd_resnet101_321": (4e-2, 3e-4),
}


@pytest.mark.slow
def test_heads_and_anchors_of_ssd(reference: Path) -> None:
    errors = mxnet_errors(mxnet_golden("mxnet_ssd_vgg16_reduced_300", reference))
    assert all(error < 1e-5 for error in errors.values())


@pytest.mark.heavy  # quick: heads and anchors in the importer's tests, targets and losses by the recorded operators
@pytest.mark.parametrize("name", TOLERANCES)
def test_whole_network(name: str, reference: Path) -> None:
    data = mxnet_golden(name, reference)
    assert all(error < 1e-5 for error in mxnet_errors(data).values())

    golden = data.arrays
    norm_tolerance, loss_tolerance = TOLERANCES[name]
    # In float64: logits reach 913, and a processor's rounding of one in float32 moves a probability by 4e-4.
    trained = data.network.double().train()(data.images.double())
    assert isinstance(trained, HeadOutput)
    trained = HeadOutput(*(tensor.float() for tensor in trained))
    label, corners = torch.from_numpy(golden["label"]), torch.from_numpy(golden["anchors"][0])
    outputs = training_outputs(trained, corners, label, nms_thresh=0.45)
    np.testing.assert_array_equal(outputs.cls_label.numpy(), golden["train_cls_target"])
    losses = golden["train_loc_loss"]
    assert float(outputs.loc_loss.detach().sum()) == pytest.approx(losses.sum(), rel=loss_tolerance)
    assert relative_error(outputs.loc_loss, losses) < 10 * loss_tolerance
    assert relative_error(outputs.cls_prob, golden["train_cls_prob"]) < 10 * loss_tolerance
    assert_same_detections(outputs.det_out[0, :400].numpy(), golden["train_det"][0], 10 * loss_tolerance)

    (outputs.cls_prob.sum() + outputs.loc_loss.sum()).backward()
    assert_same_gradients(data.network, data.names, golden, norm_tolerance)


@pytest.mark.slow
def test_refinedet_heads_agree_with_the_port(reference: Path) -> None:
    errors = refinedet_errors(reference)
    assert len(errors) == 4
    assert all(error < 1e-5 for error in errors.values())


@pytest.mark.slow
def test_ssd300_resnet50_agrees_with_nvidias(reference: Path) -> None:
    errors = nvidia_errors(reference)
    assert len(errors) == 3
    assert all(error < 1e-5 for error in errors.values())


def assert_same_detections(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Scores in order, and nearly every row: near ties change places, and one box's IoU may cross the threshold."""
    np.testing.assert_allclose(ours[:, 1], theirs[:, 1], rtol=0, atol=tolerance)
    nearest = np.abs(ours[None] - theirs[:, None]).max(axis=2).min(axis=1)
    assert (nearest < tolerance).mean() > 0.98


def assert_same_gradients(network: Network, names: dict[str, str], golden: dict[str, Any], tolerance: float) -> None:
    norms = dict(zip(golden["grad_l2norm_names"].tolist(), golden["grad_l2norm"].tolist(), strict=True))
    parameters = dict(network.named_parameters())
    assert {names[key] for key in parameters} == set(norms)
    # A bias before BatchNorm has no gradient but rounding.
    floor = 1e-7 * max(norms.values())
    for key, parameter in parameters.items():
        ours = 0.0 if parameter.grad is None else float(parameter.grad.double().norm())
        assert ours == pytest.approx(norms[names[key]], rel=tolerance, abs=floor), names[key]
