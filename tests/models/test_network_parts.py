"""Parts by name: ours are all listed, and each kind can come from a file outside the package."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import singleshot.models.backbones
import singleshot.models.heads
import singleshot.models.necks
from singleshot.core.registry import Registry
from singleshot.core.settings import AnchorConfig, AnchorLevel, PreprocessConfig
from singleshot.errors import ConfigError, WeightsError
from singleshot.models.build import build_network
from singleshot.models.catalogue import MODELS, model_names, model_spec
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, ModelSpec, NeckConfig, NetworkConfig
from singleshot.models.registry import BACKBONES, EXTRAS, HEADS, NECKS, PREDICTION_MODULES
from singleshot.weights.file import read_spec, read_state, save_weights
from singleshot.weights.network import load_network

ROOT = Path(__file__).resolve().parents[2]
REGISTRIES: tuple[Registry[Any], ...] = (BACKBONES, EXTRAS, NECKS, PREDICTION_MODULES, HEADS)
PACKAGES = (singleshot.models.backbones, singleshot.models.necks, singleshot.models.heads)


def test_names_need_no_torch() -> None:
    code = "import sys; from singleshot.models.registry import *; BACKBONES.names(); NECKS.check('none'); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.group)
def test_every_name_has_a_builder(registry: Registry[Any]) -> None:
    for name in registry.names():
        assert callable(registry.get(name))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_whatever_a_file_registers_is_listed(package: Any) -> None:
    """A name that only an import makes known would be missing in a fresh process."""
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    for registry in REGISTRIES:
        assert registry._objects.keys() - registry._homes.keys() <= {"toy"}  # "toy": tests/runtime


THEIR_PARTS = {
    "singleshot.backbones": """
from torch import nn
from singleshot.models.backbone import Layer, LayeredBackbone

def theirs(config):
    fine = Layer("fine", nn.Conv2d(config.in_channels, 8, 3, 4, 1), 8, 4)
    coarse = Layer("coarse", nn.Conv2d(8, 8, 3, 2, 1), 8, 8)
    return LayeredBackbone([fine, coarse], config.taps or ("fine", "coarse"))
""",
    "singleshot.extras": """
from torch import nn

def theirs(config, in_channels, eps):
    return nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(in_channels, config.out_channels, 1))
""",
    "singleshot.necks": re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[
        0
    ].replace("def smoothing(", "def theirs("),
    "singleshot.prediction_modules": """
from torch import nn
from singleshot.models.heads.prediction import PredictionModule

class Widen(PredictionModule):
    def __init__(self, in_channels):
        super().__init__()
        self.out_channels = 2 * in_channels
        self.conv = nn.Conv2d(in_channels, self.out_channels, 1)

    def forward(self, x):
        return self.conv(x)

def theirs(config, in_channels, eps):
    return [Widen(in_channels)]
""",
    "singleshot.heads": """
from torch import nn
from singleshot.models.heads.multibox import head_of_predictors

def theirs(config, channels, columns, eps):
    def predictor(level, in_channels, out_channels):
        return nn.Conv2d(in_channels, out_channels, 5, padding=2)

    return head_of_predictors(config, channels, columns, eps, predictor)
""",
}


def spec_with(group: str, name: str) -> ModelSpec:
    """A small detector with two maps and an appended one; the part of one group has this name."""

    def named(own: str, usual: str) -> str:
        return name if own == group else usual

    backbone = BackboneConfig(name=named("singleshot.backbones", "vgg16_reduced"), taps=("relu1_2", "relu2_2"))
    network = NetworkConfig(
        backbone=backbone.model_copy(update={"taps": ()}) if group == "singleshot.backbones" else backbone,
        extras=(ExtraBlock(kind=named("singleshot.extras", "conv"), mid_channels=4, out_channels=8),),
        neck=NeckConfig(kind=named("singleshot.necks", "none")),
        head=HeadConfig(
            kind=named("singleshot.heads", "conv"),
            prediction_module=named("singleshot.prediction_modules", "none"),
            logits=2,
            boxes_per_cell=(1, 1, 1),
        ),
    )
    anchors = AnchorConfig(levels=tuple(AnchorLevel(shapes_wh=((side, side),)) for side in (0.2, 0.4, 0.8)))
    preprocess = PreprocessConfig(size_hw=(32, 48))
    return ModelSpec(name="theirs", network=network, anchors=anchors, preprocess=preprocess, class_names=("a",))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on the path that holds an installed package with one part of every kind."""
    package, metadata = tmp_path / "their_parts", tmp_path / "their_parts-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-parts\nVersion: 1.0\n")
    entries = []
    for group, source in THEIR_PARTS.items():
        module = group.removeprefix("singleshot.")
        (package / f"{module}.py").write_text(source)
        entries.append(f"[{group}]\ntheirs = their_parts.{module}:theirs\n")
        monkeypatch.delitem(sys.modules, f"their_parts.{module}", raising=False)
    (metadata / "entry_points.txt").write_text("".join(entries))
    monkeypatch.delitem(sys.modules, "their_parts", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", None)
        monkeypatch.setattr(registry, "_loaded", {})


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("group", THEIR_PARTS)
def test_a_part_of_another_package(group: str, tmp_path: Path) -> None:
    assert {registry.group for registry in REGISTRIES} == THEIR_PARTS.keys()
    spec = spec_with(group, "theirs")
    network = build_network(spec.network).eval()
    path = save_weights(tmp_path / "theirs.safetensors", spec, network.state_dict())
    again = load_network(read_spec(path), read_state(path), path)
    images = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        expected, got = network(images), again(images)
    assert expected.box_codes.shape[1] == sum(rows * columns for rows, columns in network.map_sizes_hw((32, 48)))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(expected, got, strict=True))
    assert f"their_parts.{group.removeprefix('singleshot.')}" in sys.modules


def test_a_model_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is an object, found by its entry point."""
    (tmp_path / "their_model.py").write_text(
        "from dataclasses import replace\nfrom singleshot.models.zoo.ssd import MOBILENET_V1\n"
        "wide = replace(MOBILENET_V1, name='ssd300_theirs', family='Theirs')\n"
    )
    metadata = tmp_path / "their_model-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-model\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[singleshot.models]\nssd300_theirs = their_model:wide\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(MODELS, "_entries", None)
    monkeypatch.setattr(MODELS, "_loaded", {})
    assert model_names()[-1] == "ssd300_theirs"
    spec = model_spec("ssd300_theirs", ["a"])
    assert (spec.name, spec.network.backbone.name) == ("ssd300_theirs", "mobilenet_v1")


@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("singleshot.backbones", r"network\.backbone\.name: no backbone"),
        ("singleshot.extras", r"network\.extras\.kind: no extra"),
        ("singleshot.necks", r"network\.neck\.kind: no neck"),
        ("singleshot.prediction_modules", r"network\.head\.prediction_module: no prediction module"),
        ("singleshot.heads", r"network\.head\.kind: no head"),
    ],
)
def test_a_part_that_nobody_has(group: str, key: str, tmp_path: Path) -> None:
    spec = spec_with(group, "nobodys")
    with pytest.raises(ConfigError, match=f"{key} 'nobodys'; there are "):
        build_network(spec.network)
    path = save_weights(tmp_path / "theirs.safetensors", spec, {"backbone.conv1_1.bias": torch.zeros(64)})
    with pytest.raises(WeightsError, match=f"theirs.safetensors.*{key}"):
        load_network(read_spec(path), read_state(path), path)
