"""The timm adapter, with a stand-in for timm: the real one needs torchvision, which may be missing."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from singleshot.errors import ConfigError, MissingExtraError
from singleshot.models.backbone import build_backbone
from singleshot.models.config import BackboneConfig

LEVELS = {"stem": (8, 4), "stage1": (16, 8), "stage2": (24, 16), "stage3": (32, 32)}


class FakeInfo:
    def module_name(self) -> list[str]:
        return list(LEVELS)

    def channels(self) -> list[int]:
        return [channels for channels, _ in LEVELS.values()]

    def reduction(self) -> list[int]:
        return [stride for _, stride in LEVELS.values()]


class FakeModel(nn.Module):
    def __init__(self, in_chans: int, out_indices: tuple[int, ...], channels_last: bool) -> None:
        super().__init__()
        self.feature_info = FakeInfo()
        chosen = [list(LEVELS.values())[index] for index in out_indices]
        self.convs = nn.ModuleList(nn.Conv2d(in_chans, channels, 1, stride) for channels, stride in chosen)
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [conv(x) for conv in self.convs]
        return [y.permute(0, 2, 3, 1) for y in maps] if self.channels_last else maps


def fake_timm() -> ModuleType:
    def create_model(
        name: str, *, features_only: bool, pretrained: bool, in_chans: int, out_indices: tuple[int, ...] = (0, 1, 2, 3)
    ) -> FakeModel:
        assert features_only
        assert not pretrained
        if name == "flat":
            raise RuntimeError("features_only not implemented")
        return FakeModel(in_chans, out_indices, channels_last=name == "swin")

    timm = ModuleType("timm")
    timm.__dict__.update(
        SimpleNamespace(create_model=create_model, is_model=lambda n: n in ("net", "swin", "flat")).__dict__
    )
    return timm


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", fake_timm())


def test_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        MissingExtraError, match=r"timm:net.*pip install 'timm>=1.0' 'torch>=2.6'  .singleshot's extra 'backbones'"
    ):
        build_backbone(BackboneConfig(name="timm:net"))


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("name", ["timm:net", "timm:swin"])
def test_default_taps_are_strides_8_16_32(name: str) -> None:
    backbone = build_backbone(BackboneConfig(name=name, in_channels=4))
    assert backbone.channels == (16, 24, 32)
    assert backbone.strides == (8, 16, 32)
    shapes = [tuple(x.shape) for x in backbone(torch.zeros(2, 4, 64, 96))]
    assert shapes == [(2, 16, 8, 12), (2, 24, 4, 6), (2, 32, 2, 3)]


@pytest.mark.usefixtures("timm")
def test_named_taps_build_only_themselves() -> None:
    backbone = build_backbone(BackboneConfig(name="timm:net", taps=("stem", "stage2")))
    assert backbone.channels == (8, 24)
    assert len(list(backbone.parameters())) == 4


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("name", "taps", "message"),
    [
        ("timm:nothing", (), "timm has no model 'nothing'"),
        ("timm:flat", (), "no feature maps to tap"),
        ("timm:net", ("stage9",), "stem, stage1, stage2, stage3"),
        ("timm:net", ("stage2", "stem"), "finest first"),
    ],
)
def test_wrong_names(name: str, taps: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(BackboneConfig(name=name, taps=taps))
