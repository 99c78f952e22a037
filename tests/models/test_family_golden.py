"""Whole networks of mxnet-ssd and mxnet-dssd against real MXNet: heads, anchors, targets, losses, gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_rules import family_weight
from singleshot.boxes import cxcywh_to_xyxy
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.monitor import training_outputs
from singleshot.models.network import Network
from singleshot.structures import HeadOutput
from singleshot.weights.importers.mxnet_names import mxnet_names

CLASSES = tuple(f"class{index}" for index in range(20))

# Largest relative error of a gradient's norm, and of the loss. ResNet-101 trained with batch statistics of one image is
# ill-conditioned: relative noise of 1e-7 (one float32 rounding) after each layer, in float64, moves single norms by
# 2 % and the loss by 1e-4, so MXNet's own rounding is as far from the truth as ours.
TOLERANCES = {
    "mxnet_ssd_vgg16_reduced_300": (1e-3, 1e-5),
    "mxnet_dssd_vgg16_reduced_300": (1e-3, 1e-5),
    "mxnet_dssd_resnet101_321": (4e-2, 3e-4),
}


def golden_network(name: str, params: dict[str, Any]) -> tuple[Network, dict[str, str], Tensor]:
    """The network with the golden file's weights, the MXNet names, and the anchors as corners in fractions."""
    spec = model_spec(name, CLASSES)
    with torch.device("meta"):
        network = build_network(spec.network)
    state = network.state_dict()
    names = mxnet_names(spec.network, state, params["repo"])
    weights = {key: torch.zeros((), dtype=torch.int64) for key in state if key not in names}
    for key, theirs in names.items():
        shape = tuple(state[key].shape)
        full_shape = (1, *shape, 1, 1) if theirs.endswith("_scale") else shape
        weights[key] = torch.from_numpy(family_weight(theirs, full_shape, params["GAIN"]).reshape(shape))
    network.load_state_dict(weights, assign=True)
    size = params["data_shape"]
    return network, names, cxcywh_to_xyxy(build_anchors(spec, network)) / size


def relative_error(ours: Tensor, theirs: np.ndarray) -> float:
    return float((ours.detach() - torch.from_numpy(theirs)).abs().max()) / float(np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLERANCES)
def test_whole_network(name: str, reference: Path) -> None:
    with np.load(reference / "golden/networks" / f"{name}.npz", allow_pickle=False) as file:
        golden = dict(file)
    params = json.loads(str(golden["params"]))
    network, names, anchors = golden_network(name, params)
    size = params["data_shape"]
    pixels = np.random.RandomState(7).standard_normal((1, 3, size, size)) * params["XS"]
    images = torch.from_numpy(pixels.astype(np.float32))

    assert relative_error(anchors, golden["anchors"][0]) < 1e-6
    with torch.no_grad():
        output = network.eval()(images)
    assert relative_error(output.box_codes.flatten(1), golden["loc_pred"]) < 1e-5
    assert relative_error(output.class_logits.transpose(1, 2), golden["cls_pred"]) < 1e-5

    norm_tolerance, loss_tolerance = TOLERANCES[name]
    trained = network.train()(images)
    assert isinstance(trained, HeadOutput)
    label, corners = torch.from_numpy(golden["label"]), torch.from_numpy(golden["anchors"][0])
    outputs = training_outputs(trained, corners, label, nms_thresh=0.45)
    np.testing.assert_array_equal(outputs.cls_label.numpy(), golden["train_cls_target"])
    losses = golden["train_loc_loss"]
    assert float(outputs.loc_loss.detach().sum()) == pytest.approx(losses.sum(), rel=loss_tolerance)
    assert relative_error(outputs.loc_loss, losses) < 10 * loss_tolerance
    assert relative_error(outputs.cls_prob, golden["train_cls_prob"]) < 10 * loss_tolerance
    assert_same_detections(outputs.det_out[0, :400].numpy(), golden["train_det"][0], 10 * loss_tolerance)

    (outputs.cls_prob.sum() + outputs.loc_loss.sum()).backward()
    assert_same_gradients(network, names, golden, norm_tolerance)


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
