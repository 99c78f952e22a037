"""ResNet, MobileNet v1, DenseNet, Inception-v3: maps, names, MXNet's BatchNorm, taps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.backbone import Backbone, build_backbone
from singleshot.models.config import BackboneConfig
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.network import call_on_meta


def meta_backbone(name: str, taps: tuple[str, ...] = (), in_channels: int = 3) -> Backbone:
    with torch.device("meta"):
        return build_backbone(BackboneConfig(name=name, taps=taps, in_channels=in_channels)).eval()


def map_shapes(backbone: Backbone, height: int, width: int) -> list[tuple[int, ...]]:
    images = torch.empty((1, backbone.in_channels, height, width), device="meta")
    return [tuple(x.shape[1:]) for x in call_on_meta(backbone, images)]


# (name, taps, input, maps): family.md a.2 and b.1, ssd.md 13.
MAPS = [
    ("resnet18", (), 320, [(128, 40, 40), (256, 20, 20), (512, 10, 10)]),
    ("resnet34", ("layer1", "layer4"), 320, [(64, 80, 80), (512, 10, 10)]),
    ("resnet50", (), 320, [(512, 40, 40), (1024, 20, 20), (2048, 10, 10)]),
    ("resnet101", (), 512, [(512, 64, 64), (1024, 32, 32), (2048, 16, 16)]),
    ("resnet50_nvidia", (), 300, [(1024, 38, 38)]),
    ("resnet101_dssd", (), 321, [(512, 40, 40), (2048, 20, 20)]),
    ("resnet101_dssd", (), 513, [(512, 64, 64), (2048, 32, 32)]),
    ("resnet50_mxnet", (), 300, [(1024, 19, 19), (2048, 10, 10)]),
    ("resnet101_mxnet", ("_plus29", "_plus32"), 321, [(1024, 21, 21), (2048, 11, 11)]),
    ("resnet18_mxnet", (), 300, [(256, 19, 19), (512, 10, 10)]),
    ("mobilenet_v1", (), 300, [(512, 19, 19), (1024, 10, 10)]),
    ("mobilenet_v1_mxnet", ("conv_12_relu", "conv_14_relu"), 512, [(512, 32, 32), (1024, 16, 16)]),
    ("densenet121", ("DBstage3_concat24", "DBstage4_concat16"), 300, [(1024, 18, 18), (1024, 9, 9)]),
    ("densenet_tiny", (), 512, [(256, 64, 64), (416, 32, 32)]),
    ("densenet169", (), 320, [(1280, 20, 20), (1664, 10, 10)]),
    ("resnet152", (), 320, [(512, 40, 40), (1024, 20, 20), (2048, 10, 10)]),
    ("resnet152_mxnet", ("_plus46", "_plus49"), 512, [(1024, 32, 32), (2048, 16, 16)]),
    ("vgg16_bn", (), 300, [(512, 38, 38), (1024, 19, 19)]),
    ("inception_v3_mxnet", (), 300, [(288, 35, 35), (768, 17, 17), (2048, 8, 8)]),
    ("inception_v3_mxnet", ("ch_concat_mixed_7_chconcat",), 512, [(768, 30, 30)]),
]


@pytest.mark.parametrize(("name", "taps", "size", "expected"), MAPS)
def test_maps(name: str, taps: tuple[str, ...], size: int, expected: list[tuple[int, ...]]) -> None:
    backbone = meta_backbone(name, taps)
    assert map_shapes(backbone, size, size) == expected
    assert backbone.channels == tuple(shape[0] for shape in expected)
    assert len(backbone.strides) == len(expected)


def test_any_densenet() -> None:
    """Growth and units of one's own: 2k channels of the stem, k more in each unit, half of them after each stage."""
    config = BackboneConfig(name="densenet", growth=12, units=(2, 3, 4))
    backbone = build_backbone(config)
    assert backbone.taps == ("DBstage2_unit3", "DBstage3_unit4")
    assert backbone.channels == (24 + 36, 30 + 48)
    assert build_backbone(BackboneConfig(name="densenet", units=(2,))).channels == (64 + 64,)


@pytest.mark.parametrize(("name", "parameters"), [("resnet152", 58_143_808), ("densenet169", 12_481_158)])
def test_parameters_of_published_networks(name: str, parameters: int) -> None:
    """torchvision's counts less its classifier; DenseNet less its last BatchNorm, and with 6 of the image's."""
    assert sum(value.numel() for value in meta_backbone(name).parameters()) == parameters


def test_mobilenet_runs_on_real_numbers_and_one_channel() -> None:
    backbone = build_backbone(BackboneConfig(name="mobilenet_v1_mxnet", in_channels=1)).eval()
    maps = backbone(torch.randn(1, 1, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(1, 512, 4, 6), (1, 1024, 2, 3)]
    assert all(bool(torch.isfinite(x).all()) for x in maps)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_176_512), ("resnet34", 21_284_672), ("resnet50", 23_508_032), ("resnet101", 42_500_160)],
)
def test_resnet_has_torchvisions_parameters(name: str, parameters: int) -> None:
    # torchvision's published counts without the 1000-class layer: 11,689,512 - 513,000 and so on.
    backbone = meta_backbone(name)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    names = set(backbone.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer4.1.bn2.bias"} <= names
    assert "layer2.0.downsample.1.weight" in names


def test_resnet50_has_nvidias_names(reference: object) -> None:
    import json
    from pathlib import Path

    listing = json.loads((Path(str(reference)) / "spec/state_dicts/nvidia_ssd300_resnet50.json").read_text())
    ours = {name: list(value.shape) for name, value in meta_backbone("resnet50_nvidia").state_dict().items()}
    stages = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
    theirs = {}
    for key, shape in listing.items():
        if key.startswith("feature_extractor."):
            number, _, rest = key.removeprefix("feature_extractor.feature_extractor.").partition(".")
            theirs[f"{stages[number]}.{rest}"] = shape
    assert ours == theirs


def test_dilated_stage_keeps_stride_and_dilates_all_3x3() -> None:
    backbone = meta_backbone("resnet50_dssd")
    convs = [
        m for m in backbone.get_submodule("layer4").modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] == 3
    ]
    assert [(c.stride, c.dilation, c.padding) for c in convs] == [((1, 1), (2, 2), (2, 2))] * 3


def test_layers_behind_the_last_tap_cost_nothing() -> None:
    assert not any(name.startswith("layer3") for name, _ in meta_backbone("resnet18", ("layer2",)).named_parameters())


@pytest.mark.parametrize(
    ("name", "taps", "message"),
    [
        ("resnet50", ("layer5",), "no layer 'layer5'; did you mean layer"),
        ("resnet50_mxnet", ("_plus99",), "no layer '_plus99'"),
        ("mobilenet_v1", ("conv_14", "conv_12"), "from fine to coarse"),
        ("resnet51", (), "did you mean resnet"),
    ],
)
def test_wrong_taps_are_named(name: str, taps: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        meta_backbone(name, taps)


def test_preact_tap_is_the_raw_sum() -> None:
    backbone = build_backbone(BackboneConfig(name="resnet18_mxnet", taps=("stage1_unit1",))).eval()
    (sum_,) = backbone(torch.randn(1, 3, 64, 64))
    assert float(sum_.min().detach()) < 0


# --- MXNet's BatchNorm


def batch(seed: int = 0) -> Tensor:
    return torch.randn((4, 3, 5, 2), generator=torch.Generator().manual_seed(seed)) * 3 + 1


def test_fixed_gamma_counts_as_one_and_never_learns() -> None:
    norm = MXNetBatchNorm2d(3)
    plain = nn.BatchNorm2d(3, eps=1e-3)
    with torch.no_grad():
        norm.weight.fill_(5.0)
    x = batch()
    out = norm(x)
    torch.testing.assert_close(out, plain(x))
    out.square().sum().backward()
    assert norm.weight.grad is None
    assert not norm.weight.requires_grad
    assert norm.bias.grad is not None
    torch.testing.assert_close(
        norm.eval()(x), (x - norm.running_mean[:, None, None]) / (norm.running_var + 1e-3).sqrt()[:, None, None]
    )


def test_learned_gamma() -> None:
    norm = MXNetBatchNorm2d(3, fixed_gamma=False)
    with torch.no_grad():
        norm.weight.fill_(5.0)
    torch.testing.assert_close(norm(batch()), 5 * MXNetBatchNorm2d(3)(batch()))


@pytest.mark.parametrize("biased", [True, False])
def test_moving_variance(biased: bool) -> None:
    norm = MXNetBatchNorm2d(3, biased_variance=biased)
    expected_mean, expected_var = torch.zeros(3), torch.ones(3)
    for seed in range(3):
        x = batch(seed)
        norm(x)
        expected_mean = 0.9 * expected_mean + 0.1 * x.mean((0, 2, 3))
        expected_var = 0.9 * expected_var + 0.1 * x.var((0, 2, 3), correction=0 if biased else 1)
    torch.testing.assert_close(norm.running_mean, expected_mean)
    torch.testing.assert_close(norm.running_var, expected_var)
