"""Detectors described in YAML: short and whole forms, and errors that name the file and the dotted key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.errors import ConfigError
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig, ExtraBlock, L2NormConfig
from singleshot.models.description import describe, read_description
from singleshot.multibox.anchors import default_boxes

NAMES = ("cat", "dog")

SMALL = """
backbone: mobilenet_v2
size_hw: [64, 96]
extras: [32, {kind: separable, out_channels: 16, batch_norm: true}]
neck: {kind: dssd, channels: 16}
head: {kind: separable}
l2_norms: [20, null]
boxes: {scales: [0.2, 0.8], ratios: [2]}
"""


def described(text: str, **options: Any) -> Any:
    return describe(yaml.safe_load(text), NAMES, **options)


def test_of_nothing_the_backbone_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"det\.yaml: 1 wrong setting\n  backbone: is missing"):
        describe({}, NAMES, origin="det.yaml")


def test_a_name_is_enough() -> None:
    spec = described("backbone: resnet18")
    assert spec.network.backbone == BackboneConfig(name="resnet18")
    assert spec.preprocess.size_hw == (300, 300)
    assert spec.network.head.logits == 3
    assert spec.anchors.boxes_per_cell == (6, 6, 6)
    assert spec.anchors.levels[0].shapes_wh[0] == pytest.approx((0.2, 0.2))
    assert spec.anchors.levels[2].shapes_wh[0] == pytest.approx((0.9, 0.9))


def test_short_forms_are_written_out() -> None:
    spec = described(SMALL)
    first, second = spec.network.extras
    assert first == ExtraBlock(mid_channels=16, out_channels=32)
    assert (second.kind, second.mid_channels, second.out_channels) == ("separable", 8, 16)
    assert spec.network.l2_norms == (L2NormConfig(init=20), None)
    assert spec.network.neck.upsampling == ((2, 2),) * 3
    assert described("backbone: resnet18\nneck: tdm").network.neck.kind == "tdm"
    assert described("backbone: resnet18\nsize_hw: 128").preprocess.size_hw == (128, 128)
    assert described("backbone: resnet18\npreprocess: {size_hw: [96, 128]}").preprocess.size_hw == (96, 128)


def test_boxes_are_square_in_pixels_whatever_the_input() -> None:
    spec = described(SMALL)
    network = build_network(spec.network).eval()
    anchors = build_anchors(spec, network)
    assert anchors[:, 2:].amin() > 0
    small, big, wide, tall = anchors[:4, 2:].tolist()
    assert small == pytest.approx([0.2 * 64] * 2)
    assert big == pytest.approx([(0.2 * 0.4) ** 0.5 * 64] * 2)
    assert wide == pytest.approx([0.2 * 64 * 2**0.5, 0.2 * 64 / 2**0.5])
    assert tall == pytest.approx(wide[::-1])
    assert network(torch.zeros(1, 3, 64, 96)).class_logits.shape == (1, len(anchors), 3)
    larger = described(SMALL, size_hw=(128, 128))
    assert default_boxes(larger.anchors, ((8, 8),) * 4, (128, 128))[0, 2:].tolist() == pytest.approx([0.2 * 128] * 2)


@pytest.mark.parametrize(
    ("boxes", "scales"),
    [
        ("{scales: [0.1, 0.9]}", [0.1, 0.5, 0.9]),
        ("{scales: [0.1, 0.3, 0.4]}", [0.1, 0.3, 0.4]),
        ("{scales: [0.1, 0.3, 0.4, 1.05]}", [0.1, 0.3, 0.4]),
        ("{ratios: []}", [0.2, 0.55, 0.9]),
        ("{ratios: [[2], [2, 3], [2]]}", [0.2, 0.55, 0.9]),
    ],
)
def test_scales(boxes: str, scales: list[float]) -> None:
    levels = described(f"backbone: resnet18\nboxes: {boxes}").anchors.levels
    assert [level.shapes_wh[0][0] for level in levels] == pytest.approx(scales)


@pytest.mark.parametrize(
    "name", ["ssd300_vgg16", "ssdlite300_mobilenet_v2", "dssd321_resnet101", "tdm300_vgg16", "refinedet320_vgg16"]
)
def test_a_whole_spec_is_a_description(name: str) -> None:
    spec = model_spec(name, NAMES)
    text = yaml.safe_dump(model_spec(name, ["others", "go", "away"]).model_dump(mode="json"))
    assert described(text) == spec


ERRORS = [
    ("backbon: resnet18", "backbon: no such setting; did you mean 'backbone'"),
    ("backbone: resnet19", r"backbone\.name: no backbone 'resnet19'; did you mean resnet18"),
    ("backbone: {name: resnet18, taps: [layer9]}", r"backbone\.taps: no layer 'layer9'"),
    ("backbone: {name: resnet18, tap: [layer2]}", r"backbone\.tap: no such setting; did you mean 'taps'"),
    ("backbone: [resnet18]", "backbone: must be a mapping of settings"),
    ("backbone: resnet18\nextras: 256", r"extras: must be a list \(given: 256\)"),
    ("backbone: resnet18\nextras: [0]", r"extras\.0\.out_channels: must be above 0"),
    ("backbone: resnet18\nextras: [many]", r"extras\.0: must be a mapping of settings \(given: 'many'\)"),
    ("backbone: resnet18\nextras: [{channels: 3}]", r"extras\.0\.channels: no such setting; did you mean"),
    ("backbone: resnet18\nneck: fpn", r"neck\.kind: .*'fpn'"),
    ("backbone: resnet18\nneck: {kind: dssd, levels: [true]}", r"neck\.levels is \[True\]: give one entry for each"),
    ("backbone: resnet18\nhead: 3", "head: must be a mapping"),
    ("backbone: resnet18\nhead: {knid: conv}", r"head\.knid: no such setting; did you mean 'kind'"),
    ("backbone: resnet18\nboxes: {scales: [0.1, 0.2, 0.3, 0.4, 0.5]}", r"boxes\.scales: has 5 numbers for 3 levels"),
    ("backbone: {name: resnet18, growth: 16}", "growth and units are a DenseNet's, not of 'resnet18'"),
    ("backbone: resnet18\nboxes: {steps: [8, 16]}", r"boxes\.steps: has 2 numbers for 3 levels"),
    ("backbone: resnet18\nboxes: {steps: [8, 16, 0]}", r"boxes\.steps\.2: must be above 0"),
    ("backbone: resnet18\nboxes: {scales: [0.3, 0.1]}", r"boxes\.scales: must rise"),
    ("backbone: resnet18\nboxes: {scales: [30, 60]}", r"boxes\.scales\.0: must be 2 or less"),
    ("backbone: resnet18\nboxes: {ratios: [[2], [2]]}", r"boxes\.ratios: has 2 lists for 3 levels"),
    ("backbone: resnet18\nboxes: {ratios: [0.5]}", r"boxes\.ratios\.0: must be above 1"),
    ("backbone: resnet18\nboxes: 3", "boxes: must be a mapping of settings"),
    ("backbone: resnet18\nboxes: {}\nanchors: {levels: []}", "boxes and anchors both say"),
    ("backbone: resnet18\nanchors: {levels: 3}", r"anchors\.levels: must be a list"),
    ("backbone: resnet18\nsize_hw: [300]", r"size_hw\.1: is missing"),
    ("backbone: resnet18\nsize_hw: big", "size_hw: must be a list"),
    ("backbone: resnet18\nsize_hw: 3\nextras: [{out_channels: 8, padding: 0}]", r"input size 3x3 .* is too small"),
    ("backbone: resnet18\npreprocess: {std: [0, 1, 1]}", r"preprocess\.std\.0: must be"),
    ("backbone: resnet18\npreprocess: 3", "preprocess: must be a mapping"),
    ("backbone: resnet18\npostprocess: {nms_iou: 3}", r"postprocess\.nms_iou: must be 1 or less \(given: 3\)"),
    ("backbone: resnet18\nname: 3", "name: must be text"),
    ("backbone: resnet18\nnetwork: {backbone: {name: resnet18}}", "backbone: stands beside network"),
    ("network: 3", "network: must be a mapping of backbone"),
    (
        "network: {backbone: resnet18, extras: [{out_channels: x}]}",
        r"network\.extras\.0\.out_channels: must be a whole",
    ),
    ("network: resnet50\nfrom_layers: [layer2]", "num_filters: is missing"),
    ("- backbone", "must be a mapping of parts of a detector"),
    ("backbone: [", "is not YAML"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_name_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "det.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_description(path)
    assert str(path) in str(caught.value)
    assert "Input should be" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_description(tmp_path / "none.yaml")


def test_the_name_is_the_files_unless_it_says_another(tmp_path: Path) -> None:
    path = tmp_path / "det.yaml"
    path.write_text("backbone: resnet18")
    assert describe(read_description(path), NAMES).name == "det"
    path.write_text("backbone: resnet18\nname: mine")
    assert describe(read_description(path), NAMES).name == "mine"


def test_models_shows_a_described_detector(tmp_path: Path) -> None:
    path = tmp_path / "det.yaml"
    path.write_text(SMALL)
    result = CliRunner().invoke(app, ["models", str(path), "--classes", "3"], env={"COLUMNS": "140"})
    assert result.exit_code == 0
    assert "input 64 x 96 (h x w), 3 classes" in result.stdout
    assert "backbone mobilenet_v2, neck dssd" in result.stdout
    assert "imagenet" in result.stdout
    result = CliRunner().invoke(app, ["models", str(path), "--size", "96x96"], env={"COLUMNS": "140"})
    assert "input 96 x 96 (h x w), 20 classes" in result.stdout
    path.write_text("backbone: resnet19")
    result = CliRunner().invoke(app, ["models", str(path)])
    assert result.exit_code == 2
    assert "no backbone 'resnet19'" in result.output
