"""Every preset of the family has exactly the anchors and parameters of the systems that it stands for."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from test_catalogue import TABLE as CATALOGUE_TABLE

from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_names, model_spec
from singleshot.models.config import ModelSpec
from singleshot.models.network import Network, call_on_meta
from singleshot.models.zoo.mxnet import assembled_config, dssd_config, ssd_config

CLASSES = tuple(f"class{index}" for index in range(20))


@cache
def meta_network(name: str, classes: int = 20) -> tuple[ModelSpec, Network]:
    spec = model_spec(name, CLASSES if classes == 20 else [str(index) for index in range(classes)])
    with torch.device("meta"):
        return spec, build_network(spec.network)


def parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# family.md a.2: name, input sizes (h, w) with anchors and map heights, parameters.
MXNET_SSD = [
    ("vgg16_reduced_300", (300, 300), 8732, (38, 19, 10, 5, 3, 1), 26_285_486),
    ("vgg16_reduced_512", (512, 512), 24576, (64, 32, 16, 8, 4, 2, 2), 26_959_300),
    ("vgg16_reduced_300", (300, 480), 13768, (38, 19, 10, 5, 3, 1), 26_285_486),
    ("vgg16_reduced_300", (384, 640), 23096, (48, 24, 12, 6, 4, 2), 26_285_486),
    ("legacy_vgg16_300", (300, 300), 8732, (38, 19, 10, 5, 3, 1), 26_285_486),
    ("legacy_vgg16_512", (512, 512), 24564, (64, 32, 16, 8, 4, 2, 1), 27_188_676),
    ("inceptionv3_300", (300, 300), 7134, (35, 17, 8, 4, 2, 1), 27_604_302),
    ("inceptionv3_512", (512, 512), 5186, (30, 14, 7, 4, 2, 1), 29_198_798),
    ("resnet50_300", (300, 300), 2268, (19, 10, 5, 3, 2, 1), 31_140_020),
    ("resnet50_300", (321, 321), 2780, (21, 11, 6, 3, 2, 1), 31_140_020),
    ("resnet50_512", (512, 512), 6132, (32, 16, 8, 4, 2, 1), 31_140_020),
    ("resnet101_300", (300, 300), 2268, (19, 10, 5, 3, 2, 1), 50_132_148),
    ("resnet101_300", (321, 321), 2780, (21, 11, 6, 3, 2, 1), 50_132_148),
    ("resnet101_512", (512, 512), 6132, (32, 16, 8, 4, 2, 1), 50_132_148),
    ("mobilenet_300", (300, 300), 2280, (19, 10, 5, 3, 2, 1, 1), 9_681_860),
    ("mobilenet_512", (512, 512), 6144, (32, 16, 8, 4, 2, 1, 1), 9_681_860),
    ("mobilenet_608", (608, 608), 8766, (38, 19, 10, 5, 3, 2, 1), 9_681_860),
    ("densenet121_300", (300, 300), 2006, (18, 9, 5, 3, 2, 1), 11_556_340),
    ("densenet121_512", (512, 512), 6132, (32, 16, 8, 4, 2, 1), 11_556_340),
    ("densenet_tiny_300", (300, 300), 8108, (37, 18, 9, 5, 3, 2), 3_860_116),
    ("densenet_tiny_512", (512, 512), 24528, (64, 32, 16, 8, 4, 2), 3_860_116),
]
MAP_CHANNELS = {
    "vgg16_reduced_300": (512, 1024, 512, 256, 256, 256),
    "inceptionv3_300": (288, 768, 2048, 256, 256, 128),
    "inceptionv3_512": (768, 2048, 512, 256, 256, 128),
    "resnet50_300": (1024, 2048, 512, 256, 256, 128),
    "mobilenet_300": (512, 1024, 512, 256, 256, 256, 256),
    "densenet121_300": (1024, 1024, 256, 256, 256, 128),
    "densenet_tiny_300": (256, 416, 256, 256, 256, 128),
}

# family.md b.2: preset, variant, anchors, parameters; the last two of VGG16 512 are what docs/family.md says.
MXNET_DSSD = [
    ("vgg16_reduced_300", "plain", 8744, 26_285_486),
    ("vgg16_reduced_300", "", 8744, 66_032_558),
    ("vgg16_reduced_300", "module", 8744, 67_209_134),
    ("vgg16_reduced_300", "tdm", 8744, 38_673_838),
    ("vgg16_reduced_300", "tdm_dssd", 8744, 78_420_910),
    ("vgg16_reduced_300", "residual", 8744, 64_934_190),
    ("vgg16_reduced_512", "plain", 24564, 26_959_300),
    ("vgg16_reduced_512", "", 24564, 66_706_372),
    ("vgg16_reduced_512", "module", 24564, 67_882_948),
    ("vgg16_reduced_512", "tdm", 24564, 39_937_732),
    ("vgg16_reduced_512", "tdm_dssd", 24564, 79_684_804),
    ("vgg16_reduced_512", "residual", 24564, 65_415_876),
    ("resnet101_321", "plain", 2780, 50_132_148),
    ("resnet101_321", "", 2780, 166_561_460),
    ("resnet101_321", "module", 2780, 170_296_500),
    ("resnet101_321", "tdm", 2780, 89_653_940),
    ("resnet101_321", "tdm_dssd", 2780, 206_083_252),
    ("resnet101_321", "residual", 2780, 165_924_916),
    ("resnet101_512", "plain", 6132, 50_132_148),
    ("resnet101_512", "", 6132, 166_561_460),
    ("resnet101_512", "module", 6132, 170_296_500),
    ("resnet101_512", "tdm", 6132, 89_653_940),
    ("resnet101_512", "tdm_dssd", 6132, 206_083_252),
    ("resnet101_512", "residual", 6132, 165_924_916),
]

# The papers' networks and other light ones: name, foreground classes, anchors, map heights, parameters. Some counts
# were published nowhere and are what docs/family.md says: SSD on ResNet-18, 34, 101, 152 and MobileNet v1, SSD321,
# SSD513, DSSD513, DSSD and TDM on VGG16, RefineDet on ResNet-101 with 20 classes.
OTHERS = [
    ("ssd300_vgg16_bn", 20, 8732, (38, 19, 10, 5, 3, 1), 26_285_486 + 2 * 4224),
    ("ssd512_vgg16_bn", 20, 24564, (64, 32, 16, 8, 4, 2, 1), 27_188_676 + 2 * 4224),
    ("ssd300_resnet18", 20, 8732, (38, 19, 10, 5, 3, 1), 8_779_822),
    ("ssd300_resnet34", 20, 8732, (38, 19, 10, 5, 3, 1), 14_167_342),
    ("ssd300_resnet101", 20, 8732, (38, 19, 10, 5, 3, 1), 34_420_270),
    ("ssd300_resnet152", 20, 8732, (38, 19, 10, 5, 3, 1), 50_063_918),
    ("ssd300_resnet50", 80, 8732, (38, 19, 10, 5, 3, 1), 22_894_902),
    ("ssd300_mobilenet_v1", 20, 3000, (19, 10, 5, 3, 2, 1), 9_468_996),
    ("ssd321_resnet101", 20, 17080, (40, 20, 10, 5, 3, 1), 93_654_256),
    ("ssd513_resnet101", 20, 43688, (64, 32, 16, 8, 4, 2, 1), 82_531_768),
    ("dssd321_resnet101", 20, 17080, (40, 20, 10, 5, 3, 1), 149_506_288),
    ("dssd321_resnet101_released", 20, 17080, (40, 20, 10, 5, 3, 1), 172_380_912),
    ("dssd513_resnet101", 20, 43688, (64, 32, 16, 8, 4, 2, 1), 144_285_112),
    ("dssd300_vgg16", 20, 8732, (38, 19, 10, 5, 3, 1), 77_547_438),
    ("dssd512_vgg16", 20, 24564, (64, 32, 16, 8, 4, 2, 1), 85_459_396),
    ("tdm300_vgg16", 20, 8732, (38, 19, 10, 5, 3, 1), 38_692_782),
    ("tdm512_vgg16", 20, 24564, (64, 32, 16, 8, 4, 2, 1), 41_974_212),
    ("refinedet320_vgg16", 20, 6375, (40, 20, 10, 5), 34_440_884),
    ("refinedet320_vgg16", 80, 6375, (40, 20, 10, 5), 36_100_484),
    ("refinedet512_vgg16", 20, 16320, (64, 32, 16, 8), 34_440_884),
    ("refinedet320_resnet101", 20, 6375, (40, 20, 10, 5), 75_815_348),
    ("refinedet320_resnet101", 80, 6375, (40, 20, 10, 5), 82_451_588),
    ("refinedet512_resnet101", 20, 16320, (64, 32, 16, 8), 75_815_348),
]


def test_every_model_is_in_a_table() -> None:
    listed = {f"mxnet_ssd_{row}" for row, *_ in MXNET_SSD} | {row[0] for row in (*OTHERS, *CATALOGUE_TABLE)}
    listed |= {"_".join(filter(None, ("mxnet_dssd", row, variant))) for row, variant, *_ in MXNET_DSSD}
    assert listed == set(model_names())


@pytest.mark.parametrize(("row", "size_hw", "anchors", "heights", "count"), MXNET_SSD)
def test_mxnet_ssd(row: str, size_hw: tuple[int, int], anchors: int, heights: tuple[int, ...], count: int) -> None:
    spec, network = meta_network(f"mxnet_ssd_{row}")
    assert build_anchors(spec, network, size_hw).shape == (anchors, 4)
    assert tuple(h for h, _ in network.map_sizes_hw(size_hw)) == heights
    assert parameters(network) == count


def test_non_square_maps() -> None:
    _, network = meta_network("mxnet_ssd_vgg16_reduced_300")
    assert network.map_sizes_hw((300, 480)) == ((38, 60), (19, 30), (10, 15), (5, 8), (3, 6), (1, 4))
    assert network.map_sizes_hw((384, 640)) == ((48, 80), (24, 40), (12, 20), (6, 10), (4, 8), (2, 6))


@pytest.mark.parametrize(("row", "channels"), MAP_CHANNELS.items())
def test_mxnet_ssd_channels(row: str, channels: tuple[int, ...]) -> None:
    _, network = meta_network(f"mxnet_ssd_{row}")
    assert network.neck.channels == channels


@pytest.mark.parametrize(("row", "variant", "anchors", "count"), MXNET_DSSD)
def test_mxnet_dssd(row: str, variant: str, anchors: int, count: int) -> None:
    spec, network = meta_network("_".join(filter(None, ("mxnet_dssd", row, variant))))
    assert build_anchors(spec, network).shape == (anchors, 4)
    assert parameters(network) == count


@pytest.mark.parametrize(("name", "classes", "anchors", "heights", "count"), OTHERS)
def test_other_systems(name: str, classes: int, anchors: int, heights: tuple[int, ...], count: int) -> None:
    spec, network = meta_network(name, classes)
    assert build_anchors(spec, network).shape == (anchors, 4)
    assert tuple(h for h, _ in network.map_sizes_hw(spec.preprocess.size_hw)) == heights
    assert parameters(network) == count


def test_refinedet_has_the_ports_parameters(reference: Path) -> None:
    listing = json.loads((reference / "spec/state_dicts/luuuyi_refinedet320.json").read_text())
    _, network = meta_network("refinedet320_vgg16")
    assert Counter(tuple(p.shape) for p in network.parameters()) == Counter(map(tuple, listing.values()))


def test_dssd_as_released() -> None:
    spec, network = meta_network("dssd321_resnet101_released")
    eps = {module.eps for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert eps == {1e-3}
    assert [layer.kernel_size[0] for layer in network.head.boxes] == [5, 5, 3, 3, 3, 3]
    assert all(merge.deconvolution.bias is not None for merge in network.neck.merges)
    centres = build_anchors(spec, network)[:, :2]
    counts = [8 * side * side for side in (40, 20, 10, 5, 3, 1)]
    firsts = [float(level[0, 0]) for level in centres.split(counts)]
    steps = [float(level[8, 0] - level[0, 0]) if len(level) > 8 else None for level in centres.split(counts)]
    assert firsts == pytest.approx([2.5, 2.5, 10.5, 26.5, 90.5, 160.5], abs=1e-4)
    assert steps[:5] == pytest.approx([8, 16, 32, 64, 64], abs=1e-4)


def test_ssd512_has_caffes_whole_pixels() -> None:
    levels = model_spec("ssd512_vgg16", ["a"]).anchors.levels
    squares = [min(w for w, h in level.shapes_wh if w == h) for level in levels]
    assert [512 * side for side in squares] == pytest.approx([35, 76, 153, 230, 307, 384, 460])


def test_dssd_module_structure() -> None:
    _, network = meta_network("dssd321_resnet101")
    assert network.neck.channels == (512, 512, 512, 512, 512, 1024)
    kernels = [merge.deconvolution.weight.shape for merge in network.neck.merges]
    assert [tuple(shape[2:]) for shape in kernels] == [(2, 2), (2, 2), (2, 2), (3, 3), (3, 3)]
    assert [module.out_channels for module in network.head.shared] == [1024] * 6
    assert meta_network("dssd513_resnet101")[1].neck.merges[-1].deconvolution.kernel_size == (2, 2)


def test_names_are_presets_of_their_own_configuration() -> None:
    config = assembled_config("mxnet_ssd_resnet50_512")
    assert config.to_spec(CLASSES, name="mxnet_ssd_resnet50_512") == model_spec("mxnet_ssd_resnet50_512", CLASSES)
    assert ssd_config("vgg16_reduced", 384).steps == ()
    assert dssd_config("vgg16_reduced_300").topdown_layers == (1, 1, 1, 1, -1, -1)


@pytest.mark.parametrize("name", model_names())
def test_specs_survive_json(name: str) -> None:
    spec = model_spec(name, CLASSES)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


def one_name_per_network() -> list[str]:
    """One name per network: presets that differ only in size or anchors run the same code."""
    names: dict[str, str] = {}
    for name in model_names():
        names.setdefault(model_spec(name, CLASSES).network.model_dump_json(), name)
    return list(names.values())


@pytest.mark.parametrize("name", one_name_per_network())
def test_heads_give_one_row_per_anchor_at_any_shape(name: str) -> None:
    spec, network = meta_network(name)
    height, width = spec.preprocess.size_hw
    size_hw = (height, width + 68)
    output = call_on_meta(network.eval(), torch.empty((1, 3, *size_hw), device="meta"))
    rows = len(build_anchors(spec, network, size_hw))
    assert output.box_codes.shape == (1, rows, 4)
    assert output.class_logits.shape == (1, rows, 21)
    if name.startswith("refinedet"):
        assert output.arm_box_codes.shape == (1, rows, 4)
        assert output.arm_logits.shape == (1, rows, 2)
