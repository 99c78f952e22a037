"""MXNet's names of our parameters: one to one with the parameter lists of real networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from singleshot.errors import WeightsError
from singleshot.interop.mxnet.names import mxnet_names
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec

CLASSES = tuple(f"class{index}" for index in range(20))


def names_and_shapes(model: str) -> dict[str, list[int]]:
    spec = model_spec(model, CLASSES)
    with torch.device("meta"):
        state = build_network(spec.network).state_dict()
    names = mxnet_names(spec.network, state, "dssd" if "dssd" in model else "ssd")
    assert len(set(names.values())) == len(names)
    return {theirs: list(state[ours].shape) for ours, theirs in names.items()}


@pytest.mark.parametrize(
    "model", ["mxnet_ssd_vgg16_reduced_300", "mxnet_dssd_vgg16_reduced_300", "mxnet_dssd_resnet101_321"]
)
def test_one_to_one_with_the_real_lists(model: str, reference: Path) -> None:
    listing = json.loads((reference / f"spec/state_dicts/{model}.json").read_text())
    theirs = {**listing["args"], **listing["aux"]}
    if "relu4_3_scale" in theirs:
        theirs["relu4_3_scale"] = [512]  # [1, 512, 1, 1] there
    assert names_and_shapes(model) == theirs


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "mxnet_ssd_resnet50_300",
            ["_plus12_loc_pred_conv_bias", "_plus15_cls_pred_conv_weight", "stage4_unit3_bn3_beta"],
        ),
        ("mxnet_ssd_mobilenet_300", ["conv_14_dw_batchnorm_moving_var", "conv_12_relu_loc_pred_conv_weight"]),
        ("mxnet_ssd_densenet121_300", ["DBstage1_unit6_conv2_weight", "DBstage3_concat24_cls_pred_conv_bias"]),
        (
            "mxnet_ssd_inceptionv3_300",
            [
                "mixed_tower_1_conv_2_conv2d_weight",
                "mixed_8_tower_1_conv_3_batchnorm_gamma",
                "mixed_9_tower_1_mixed_conv_1_conv2d_weight",
                "mixed_10_tower_2_conv_conv2d_weight",
                "ch_concat_mixed_2_chconcat_loc_pred_conv_bias",
            ],
        ),
        ("mxnet_dssd_vgg16_reduced_300_tdm", ["relu4_35_thin_weight", "concat4plus5up5_thin_bias"]),
        ("mxnet_dssd_resnet101_321_tdm_dssd", ["concat5plus6upconv_5_weight", "conv5product6de_loc_pred_conv_bias"]),
    ],
)
def test_other_networks(model: str, expected: list[str]) -> None:
    assert set(expected) <= set(names_and_shapes(model))


@pytest.mark.parametrize("model", ["ssd300_resnet18", "dssd300_vgg16", "ssdlite300_mobilenet_v2"])
def test_networks_without_names(model: str) -> None:
    with pytest.raises(WeightsError):
        names_and_shapes(model)
