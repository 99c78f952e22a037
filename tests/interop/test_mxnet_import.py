"""mxnet-ssd and mxnet-dssd: whole golden networks through .params files, and symbols of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mxnet_writer import golden_params, params_bytes, symbol_json

import singleshot
from foreign import relative
from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.errors import WeightsError
from singleshot.interop.mxnet.names import mxnet_names
from singleshot.models.build import build_network
from singleshot.models.zoo.assembled import AssembledConfig
from singleshot.models.zoo.mxnet import assembled_config

HEADS = {
    "mxnet_ssd_vgg16_reduced_300": ("relu4_3", "relu7", *[f"multi_feat_{k}_conv_3x3_relu" for k in (2, 3, 4, 5)]),
    "mxnet_dssd_vgg16_reduced_300": (
        "conv5product6de", "conv4product5de", "conv3product4de", "conv2product3de",
        "multi_feat_4_conv_3x3_relu", "multi_feat_5_conv_3x3_relu",
    ),
}  # fmt: skip
HEADS["mxnet_dssd_resnet101_321"] = HEADS["mxnet_dssd_vgg16_reduced_300"]

LARGE = "mxnet_dssd_resnet101_321"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "with_symbol"),
    [
        pytest.param(name, symbol, marks=[pytest.mark.heavy] * (name == LARGE))
        for name in HEADS
        for symbol in (False, True)
    ],
)
def test_whole_networks(name: str, with_symbol: bool, reference: Path, tmp_path: Path) -> None:
    golden = dict(np.load(reference / "golden/networks" / f"{name}.npz"))
    rule = json.loads(str(golden["params"]))
    (tmp_path / f"ssd_{rule['data_shape']}-0240.params").write_bytes(
        params_bytes(golden_params(reference, name, rule["GAIN"]))
    )
    if with_symbol:
        (tmp_path / f"ssd_{rule['data_shape']}-symbol.json").write_text(
            symbol_json(assembled_config(name), HEADS[name])
        )
    detector = singleshot.import_weights(tmp_path)
    size = rule["data_shape"]
    pixels = np.random.RandomState(7).standard_normal((1, 3, size, size)) * rule["XS"]
    with torch.no_grad():
        output = detector.network(torch.from_numpy(pixels.astype(np.float32)))
    assert relative(output.box_codes.flatten(1), golden["loc_pred"]) < 1e-5
    assert relative(output.class_logits.transpose(1, 2), golden["cls_pred"]) < 1e-5
    assert relative(cxcywh_to_xyxy(detector.anchors()) / size, golden["anchors"][0]) < 1e-6
    assert detector.spec.postprocess.nms_iou == (0.45 if with_symbol else 0.5)


OWN = AssembledConfig(
    network="mobilenet_v1_mxnet",
    input_size_hw=(224, 224),
    from_layers=("conv_12", "conv_14", "", ""),
    num_filters=(-1, -1, 96, 64),
    strides=(-1, -1, 2, 2),
    pads=(-1, -1, 1, 1),
    min_filter=48,
    sizes=((0.1, 0.15), (0.3,), (0.5, 0.6), (0.8, 0.9)),
    ratios=((1.0, 2.0), (1.0, 2.0, 0.5), (1.0,), (1.0, 3.0)),
    clip=True,
)
OWN_HEADS = ("conv_12_relu", "conv_14_relu", "multi_feat_2_conv_3x3_relu", "multi_feat_3_conv_3x3_relu")


def own_params(classes: int) -> dict[str, np.ndarray]:
    """Random numbers for ``OWN``, named as MXNet does."""
    spec = OWN.to_spec([f"class{index}" for index in range(classes)])
    with torch.device("meta"):
        own = build_network(spec.network).state_dict()
    generator = np.random.default_rng(0)
    names = mxnet_names(spec.network, own)
    arrays = {theirs: generator.uniform(0.1, 0.3, tuple(own[ours].shape)) for ours, theirs in names.items()}
    prefix = {True: "aux:", False: "arg:"}
    return {prefix["moving" in name] + name: array.astype(np.float32) for name, array in arrays.items()}


def test_lists_of_ones_own_come_from_the_symbol(tmp_path: Path) -> None:
    arrays = own_params(3)
    (tmp_path / "mine-224-0012.params").write_bytes(params_bytes({**arrays, "arg:unused": np.zeros(2, np.float32)}))
    settings = {"threshold": "0.05", "force_suppress": "True", "nms_topk": "100"}
    (tmp_path / "mine-224-symbol.json").write_text(symbol_json(OWN, OWN_HEADS, settings))
    detector = singleshot.import_weights(tmp_path / "mine-224-symbol.json")
    spec = detector.spec
    assert detector.class_names == ("class_1", "class_2", "class_3")
    assert spec.preprocess.size_hw == (224, 224)
    assert spec.anchors == OWN.to_spec(["a"]).anchors
    post = spec.postprocess
    assert (post.score_threshold, post.class_agnostic, post.pre_nms_top_k, post.nms_iou) == (0.05, True, 100, 0.45)
    theirs = torch.from_numpy(arrays["arg:multi_feat_3_conv_3x3_conv_weight"])
    assert torch.equal(detector.network.extras[1].conv.conv.weight, theirs)
    with torch.no_grad():
        output = detector.network(torch.zeros(1, 3, 224, 224))
    assert output.class_logits.shape[1] == len(detector.anchors())


def test_mistakes(tmp_path: Path) -> None:
    arrays = own_params(3)
    path = tmp_path / "mine-0001.params"
    path.write_bytes(params_bytes(arrays))
    with pytest.raises(WeightsError, match=r"no preset has these parameters; put its -symbol\.json beside it"):
        singleshot.import_weights(path)
    path.write_bytes(params_bytes({"arg:fc_weight": np.zeros((2, 2), np.float32)}))
    with pytest.raises(WeightsError, match="its backbone is none of"):
        singleshot.import_weights(path)
    path.write_bytes(params_bytes(arrays))
    symbol = tmp_path / "mine-symbol.json"
    for content, message in (
        ("{", "no MXNet symbol"),
        ('{"nodes": []}', "no MultiBoxPrior"),
        (symbol_json(OWN, OWN_HEADS).replace("0.1, 0.15", "__import__('os')"), "no MXNet symbol"),
        (symbol_json(OWN, OWN_HEADS).replace("0.1, 0.15", "(" * 900), "no MXNet symbol"),
        (symbol_json(OWN, ("conv_99_relu", *OWN_HEADS[1:])), "source 'conv_99_relu' is no layer"),
        (symbol_json(OWN, OWN_HEADS).replace('"96"', '"80"'), "needed"),
    ):
        symbol.write_text(content)
        with pytest.raises(WeightsError, match=message):
            singleshot.import_weights(path)
    (tmp_path / "mine-0002.params").write_bytes(params_bytes(arrays))
    with pytest.raises(WeightsError, match=r"2 \.params files \(mine-0001\.params, mine-0002\.params\)"):
        singleshot.import_weights(tmp_path)


def test_a_classifier_is_no_detector(tmp_path: Path) -> None:
    (tmp_path / "vgg16_reduced-0001.params").write_bytes(params_bytes({"arg:fc6_weight": np.zeros(3, np.float32)}))
    with pytest.raises(WeightsError, match=r"a classifier, where training starts: weights 'imagenet:.*0001\.params'"):
        singleshot.import_weights(tmp_path / "vgg16_reduced-0001.params")
