"""Every checkpoint listing is recognised, and every name and shape of it finds its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import singleshot
from foreign import listing, w1_state
from singleshot.core.class_names import COCO_NAMES, VOC_NAMES
from singleshot.errors import WeightsError
from singleshot.interop.importers import IMPORTERS, StateDictImporter
from singleshot.interop.translate import Translation
from singleshot.models.build import build_anchors, build_network

# Listing -> importer, anchors, public classes.
LISTINGS = {
    "amdegroot_ssd300_voc": ("ssd_pytorch", 8732, 20),
    "lufficc_vgg_ssd300_voc0712": ("lufficc", 8732, 20),
    "lufficc_vgg_ssd300_coco_trainval35k": ("lufficc", 8732, 80),
    "lufficc_vgg_ssd512_voc0712": ("lufficc", 24564, 20),
    "lufficc_vgg_ssd512_coco_trainval35k": ("lufficc", 24564, 80),
    "lufficc_mobilenet_v2_ssd320_voc0712": ("lufficc", 3234, 20),
    "lufficc_mobilenet_v3_ssd320_voc0712": ("lufficc", 3234, 20),
    "lufficc_efficient_net_b3_ssd300_voc0712": ("lufficc", 8732, 20),
    "qfgaohao_vgg_ssd300": ("pytorch_ssd", 8732, 20),
    "qfgaohao_mobilenetv1_ssd": ("pytorch_ssd", 3000, 20),
    "qfgaohao_mobilenetv1_ssd_lite": ("pytorch_ssd", 3000, 20),
    "qfgaohao_mobilenet_v2_ssd_lite": ("pytorch_ssd", 3000, 20),
    "qfgaohao_squeezenet_ssd_lite": ("pytorch_ssd", 2568, 20),
    "sgrvinod_ssd300": ("sgrvinod", 8732, 20),
    "nvidia_ssd300_resnet50": ("nvidia", 8732, 80),
    "luuuyi_refinedet320": ("refinedet_pytorch", 6375, 20),
    "torchvision_ssd300_vgg16_c21": ("torchvision", 8732, 20),
    "torchvision_ssd300_vgg16_c91": ("torchvision", 8732, 80),
    "torchvision_ssdlite320_mobilenet_v3_large_c21": ("torchvision", 3234, 20),
    "torchvision_ssdlite320_mobilenet_v3_large_c91": ("torchvision", 3234, 80),
}


def translated(reference: Path, name: str) -> tuple[str, Translation]:
    shapes = listing(reference, name)
    state_dicts = [one for one in map(IMPORTERS.get, IMPORTERS) if isinstance(one, StateDictImporter)]
    (found,) = (one for one in state_dicts if one.matches(shapes.keys()))
    return found.name, found.translate(shapes, name)


@pytest.mark.parametrize("name", LISTINGS)
def test_every_parameter_has_its_place(name: str, reference: Path) -> None:
    source, anchors, classes = LISTINGS[name]
    found, translation = translated(reference, name)
    assert found == source
    assert len(translation.spec.class_names) == classes
    assert translation.spec.class_names[:3] == (VOC_NAMES if classes == 20 else COCO_NAMES)[:3]
    with torch.device("meta"):
        own = build_network(translation.spec.network).state_dict()
    shapes = listing(reference, name)
    places = {ours: translation.rename(ours) for ours in own}
    assert sorted(places.values()) == sorted(shapes)
    for ours, theirs in places.items():
        sides = [[side for side in shape if side != 1] for shape in (own[ours].shape, shapes[theirs])]
        assert sides[0] == sides[1], ours
    network = build_network(translation.spec.network) if anchors < 4000 else None
    if network is not None:
        assert len(build_anchors(translation.spec, network)) == anchors


@pytest.mark.parametrize("name", ["torchvision", "mxnet_ssd"])
def test_names_mean_the_same_in_two_systems(name: str, reference: Path) -> None:
    """Tables made with the same numbers in both: our map of one after the table is our map of the other."""
    table = json.loads((reference / f"spec/state_dicts/map_{name}_from_amdegroot.json").read_text())
    _, amdegroot = translated(reference, "amdegroot_ssd300_voc")
    with torch.device("meta"):
        own = build_network(amdegroot.spec.network).state_dict()
    if name == "torchvision":
        rename = translated(reference, "torchvision_ssd300_vgg16_c21")[1].rename
        theirs = {ours: rename(ours) for ours in own}
    else:
        from singleshot.interop.mxnet.names import mxnet_names
        from singleshot.models.catalogue import model_spec

        theirs = mxnet_names(model_spec("mxnet_ssd_vgg16_reduced_300", VOC_NAMES).network, own)
    in_table = {ours: key for ours, key in theirs.items() if key in table}
    assert len(in_table) >= 70
    assert {ours: table[key] for ours, key in in_table.items()} == {ours: amdegroot.rename(ours) for ours in in_table}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("backbone.conv4_3.weight", "base.conv4_3.weight"),
        ("backbone.fc7.bias", "base.conv7.bias"),
        ("extras.3.reduce.conv.weight", "aux_convs.conv11_1.weight"),
        ("extras.0.conv.conv.weight", "aux_convs.conv8_2.weight"),
        ("head.boxes.1.weight", "pred_convs.loc_conv7.weight"),
        ("head.logits.5.bias", "pred_convs.cl_conv11_2.bias"),
        ("norms.0.scale", "rescale_factors"),
    ],
)
def test_names_of_sgrvinod(ours: str, theirs: str, reference: Path) -> None:
    assert translated(reference, "sgrvinod_ssd300")[1].rename(ours) == theirs


@pytest.mark.parametrize(
    "name", ["qfgaohao_squeezenet_ssd_lite", "qfgaohao_mobilenetv1_ssd_lite", "lufficc_mobilenet_v3_ssd320_voc0712"]
)
def test_round_trip_of_systems_without_a_golden_file(name: str, reference: Path, tmp_path: Path) -> None:
    torch.save({"model": w1_state(listing(reference, name), 1, 1.5), "iteration": 7}, tmp_path / "last.pth")
    imported = singleshot.import_weights(tmp_path / "last.pth", out=tmp_path / "ours.safetensors")
    again = singleshot.load(tmp_path / "ours.safetensors")
    images = torch.randn(1, 3, *imported.spec.preprocess.size_hw, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for one, other in zip(imported.network(images), again.network(images), strict=True):
            assert torch.equal(one, other)
            assert torch.isfinite(one).all()
            assert one.std() > 0


def test_numbers_land_where_their_names_say(reference: Path, tmp_path: Path) -> None:
    state = w1_state(listing(reference, "qfgaohao_squeezenet_ssd_lite"), 3, 1.0)
    torch.save(state, tmp_path / "sq.pth")
    network = singleshot.import_weights(tmp_path / "sq.pth", "pytorch_ssd").network
    assert torch.equal(network.backbone.fire2.squeeze.weight, state["base_net.3.squeeze.weight"])
    assert torch.equal(network.extras[0].fire.expand3x3.bias, state["base_net.12.expand3x3.bias"])
    assert torch.equal(network.head.logits[5].weight, state["classification_headers.5.weight"])


def test_class_names_of_the_user(reference: Path, tmp_path: Path) -> None:
    torch.save(w1_state(listing(reference, "qfgaohao_squeezenet_ssd_lite"), 1, 1.0), tmp_path / "sq.pth")
    names = [f"thing {index}" for index in range(20)]
    assert singleshot.import_weights(tmp_path / "sq.pth", classes=names).class_names == tuple(names)
    with pytest.raises(WeightsError, match="19 class names for a detector of 20 classes"):
        singleshot.import_weights(tmp_path / "sq.pth", classes=names[:-1])
    with pytest.raises(WeightsError, match="must differ"):
        singleshot.import_weights(tmp_path / "sq.pth", classes=names[:-1] + names[:1])


def test_unknown_class_counts_are_numbered_and_wrong_ones_refused(reference: Path, tmp_path: Path) -> None:
    shapes = listing(reference, "qfgaohao_squeezenet_ssd_lite")
    four = {
        name: (shape[0] // 21 * 4, *shape[1:]) if name.startswith("classification") and shape[0] == 126 else shape
        for name, shape in shapes.items()
    }
    torch.save(w1_state(four, 1, 1.0), tmp_path / "three.pth")
    assert singleshot.import_weights(tmp_path / "three.pth").class_names == ("class_1", "class_2", "class_3")
    for shape, message in (((125,), "no whole classes"), ((84,), "needed")):
        wrong = w1_state(shapes, 1, 1.0)
        for kind in ("weight", "bias"):
            tensor = wrong[f"classification_headers.0.2.{kind}"]
            wrong[f"classification_headers.0.2.{kind}"] = tensor[: shape[0]].clone()
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=message):
            singleshot.import_weights(tmp_path / "wrong.pth")


def test_wrong_architectures(reference: Path, tmp_path: Path) -> None:
    state = w1_state(listing(reference, "qfgaohao_squeezenet_ssd_lite"), 1, 1.0)
    path = tmp_path / "x.pth"
    torch.save({**state, "base_net.0.weight": torch.full_like(state["base_net.0.weight"], float("nan"))}, path)
    with pytest.raises(WeightsError, match="not finite"):
        singleshot.import_weights(path)
    torch.save({name: tensor for name, tensor in state.items() if "extras.4" not in name}, path)
    with pytest.raises(WeightsError, match=r"'extras\.4\.0\.weight' is missing.*and 2 more"):
        singleshot.import_weights(path)
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="no known system"):
        singleshot.import_weights(path)
    torch.save(state, path)
    with pytest.raises(WeightsError, match="not of torchvision"):
        singleshot.import_weights(path, "torchvision")
    with pytest.raises(WeightsError, match="no importer 'darknet'"):
        singleshot.import_weights(path, "darknet")
