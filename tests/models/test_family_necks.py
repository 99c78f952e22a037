"""DSSD, TDM and RefineDet necks: structure, sizes that do not divide, levels, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from singleshot.errors import ConfigError
from singleshot.models.config import HeadConfig, L2NormConfig, NeckConfig
from singleshot.models.heads.prediction import build_prediction_module
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.neck import build_neck
from singleshot.models.necks.dssd import DeconvolutionModule
from singleshot.models.necks.top_down import repeat_to

CHANNELS = (8, 12, 16)


def sources(*sizes_hw: tuple[int, int], channels: tuple[int, ...] = CHANNELS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((2, c, *size), generator=generator) for c, size in zip(channels, sizes_hw, strict=True)]


def shapes(maps: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(x.shape[1:]) for x in maps]


# Halved exactly, rounded up (padded strides), rounded down (pools), not square.
SIZES = [
    ((8, 8), (4, 4), (2, 2)),
    ((9, 7), (5, 4), (3, 2)),
    ((9, 11), (4, 5), (2, 2)),
    ((1, 1), (1, 1), (1, 1)),
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dialect", ["paper", "mxnet"])
@pytest.mark.parametrize("kind", ["dssd", "tdm", "tdm_dssd"])
def test_maps_keep_their_sizes(kind: str, dialect: str, sizes: tuple[tuple[int, int], ...]) -> None:
    config = NeckConfig.model_validate({"kind": kind, "dialect": dialect, "channels": 6})
    neck = build_neck(config, CHANNELS, 1e-5).eval()
    maps = neck(sources(*sizes))
    assert [shape[1:] for shape in shapes(maps)] == list(sizes)
    assert tuple(shape[0] for shape in shapes(maps)) == neck.channels


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_tcb_maps(batch_norm: bool, sizes: tuple[tuple[int, int], ...]) -> None:
    neck = build_neck(NeckConfig(kind="tcb", channels=6, batch_norm=batch_norm), CHANNELS, 1e-5).eval()
    assert shapes(neck(sources(*sizes))) == [(6, *size) for size in sizes]


@pytest.mark.parametrize(
    ("kind", "dialect", "expected"),
    [
        ("dssd", "paper", (512, 512, 16)),
        ("dssd", "mxnet", (12, 16, 16)),
        ("tdm", "paper", (512, 512, 16)),
        ("tdm", "mxnet", (8, 12, 16)),
        ("tcb", "paper", (256, 256, 256)),
        ("none", "paper", (8, 12, 16)),
    ],
)
def test_default_widths(kind: str, dialect: str, expected: tuple[int, ...]) -> None:
    with torch.device("meta"):
        neck = build_neck(NeckConfig.model_validate({"kind": kind, "dialect": dialect}), CHANNELS, 1e-5)
    assert neck.channels == expected


def test_deconvolution_module_follows_figure_3() -> None:
    module = DeconvolutionModule(4, 3, 5, (2, 2), "product", nn.BatchNorm2d, bias=False).eval()
    deep, lateral = torch.randn(1, 4, 3, 3), torch.randn(1, 3, 6, 6)
    up = functional.conv_transpose2d(deep, module.deconvolution.weight, stride=2)
    left = module.deep.bn(functional.conv2d(up, module.deep.conv.weight, padding=1))
    right = functional.conv2d(lateral, module.lateral.conv1.weight, padding=1)
    right = functional.conv2d(module.lateral.bn1(right).relu(), module.lateral.conv2.weight, padding=1)
    right = module.lateral.bn2(right)
    torch.testing.assert_close(module(deep, lateral), (left * right).relu())
    module.fusion = "sum"
    torch.testing.assert_close(module(deep, lateral), (left + right).relu())


def test_dialects_of_dssd() -> None:
    paper = build_neck(NeckConfig(kind="dssd", channels=6), CHANNELS, 1e-4).merges[0]
    assert (paper.deep.conv.bias, paper.deep.bn.eps) == (None, 1e-4)
    mxnet = build_neck(NeckConfig(kind="dssd", dialect="mxnet"), CHANNELS, 1e-4).merges[0]
    assert mxnet.deep.conv.bias is not None
    assert isinstance(mxnet.deep.bn, MXNetBatchNorm2d)
    assert (mxnet.deep.bn.eps, mxnet.deep.bn.fixed_gamma, mxnet.deconvolution.bias) == (1e-3, True, None)


def test_levels_that_take_no_part_pass_unchanged() -> None:
    neck = build_neck(NeckConfig(kind="dssd", channels=6, levels=(True, False, False)), CHANNELS, 1e-5).eval()
    given = sources((8, 8), (4, 4), (2, 2))
    maps = neck(given)
    assert maps[1] is given[1]
    assert maps[2] is given[2]
    assert neck.channels == (6, 12, 16)
    assert list(neck.merges[1].parameters()) == []


def test_mxnet_tdm_lets_three_deepest_pass() -> None:
    channels = (4, 4, 4, 4, 4)
    neck = build_neck(NeckConfig(kind="tdm", dialect="mxnet"), channels, 1e-5).eval()
    given = sources((16, 16), (8, 8), (4, 4), (2, 2), (1, 1), channels=channels)
    assert [x is y for x, y in zip(neck(given), given, strict=True)] == [False, False, True, True, True]


def test_tdm_concatenates_lateral_then_repeated_deep() -> None:
    neck = build_neck(NeckConfig(kind="tdm", channels=6, output_conv=False), (3, 4), 1e-5)
    merge = neck.merges[0]
    lateral, deep = torch.randn(1, 3, 7, 8), torch.randn(1, 4, 4, 4)
    merged = neck([lateral, deep])[0]
    torch.testing.assert_close(merged[:, :3], merge.lateral(lateral).relu())
    repeated = merge.deep(deep).relu().repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(merged[:, 3:], repeated[:, :, :7])
    with_output = build_neck(NeckConfig(kind="tdm", channels=6), (3, 4), 1e-5).merges[0]
    assert with_output.output.kernel_size == (1, 1)


@pytest.mark.parametrize("small", [1, 2, 3, 5])
def test_repeating_is_nearest_upsampling_cut_to_size(small: int) -> None:
    deep = torch.randn(2, 3, small, small + 1)
    doubled = functional.interpolate(deep, scale_factor=2.0, mode="nearest")
    for height in (2 * small - 1, 2 * small):
        lateral = torch.empty(2, 1, height, 2 * small + 2)
        torch.testing.assert_close(
            repeat_to(deep, lateral), doubled[:, :, :height] if height > small else deep.repeat_interleave(2, 3)
        )
    longer = repeat_to(deep, torch.empty(2, 1, 2 * small + 1, small + 1))
    torch.testing.assert_close(longer[:, :, -1], longer[:, :, -2])
    assert repeat_to(deep[:0], torch.empty(0, 1, 4, 4)).shape == (0, 3, 4, 4)


def test_mxnet_dssd_normalises_behind_tdm() -> None:
    torch.manual_seed(0)  # some weights give a vector so short that the guard against division by zero shows
    norms = (L2NormConfig(init=20.0),)
    config = NeckConfig(kind="tdm", dialect="mxnet", levels=(True, True, False), l2_norms=norms)
    maps = build_neck(config, CHANNELS, 1e-5).eval()(sources((8, 8), (4, 4), (2, 2)))
    lengths = maps[0].norm(dim=1)  # 0 where the ReLUs left nothing
    torch.testing.assert_close(lengths, torch.where(lengths > 0, 20.0, 0.0))
    assert float(lengths.max().detach()) > 0
    assert float(maps[1].norm(dim=1).std().detach()) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (True, True)}, "one entry for each of the 3 sources"),
        ({"levels": (True, True, True)}, "false for the deepest"),
        ({"upsampling": ((2, 2),)}, "one for each of the 2 steps"),
    ],
)
def test_wrong_neck_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_neck(NeckConfig.model_validate({"kind": "dssd", **changes}), CHANNELS, 1e-5)


def test_steps_that_cannot_be_undone_are_refused() -> None:
    neck = build_neck(NeckConfig(kind="dssd", channels=6), CHANNELS, 1e-5).eval()
    with pytest.raises(ConfigError, match="cannot turn 2 cells into 6"):
        neck(sources((12, 12), (6, 6), (2, 2)))


# --- prediction modules (DSSD figure 2)


@pytest.mark.parametrize(
    ("kind", "in_channels", "out_channels", "parameters"),
    [
        ("none", 8, 8, 0),
        ("b", 8, 8, (8 * 2 + 4) + (2 * 2 + 4) + (2 * 8 + 16)),
        ("c", 8, 16, (8 * 4 + 8) + (4 * 4 + 8) + (4 * 16 + 32) + (8 * 16 + 32)),
        ("residual", 8, 16, (8 * 4 + 8) + (4 * 4 * 9 + 8) + (4 * 16 + 32) + (8 * 16 + 32)),
        ("d", 8, 16, 320 + (16 * 4 + 8) + (4 * 4 + 8) + (4 * 16 + 32) + (16 * 16 + 32)),
        ("mxnet", 8, 8, (8 * 2 + 2) + (2 * 2 + 2) + 2 * (2 * 8 + 8)),
    ],
)
def test_prediction_modules(kind: str, in_channels: int, out_channels: int, parameters: int) -> None:
    config = HeadConfig.model_validate(
        {"logits": 2, "boxes_per_cell": (1,), "prediction_module": kind, "module_channels": 16}
    )
    module = build_prediction_module(config, in_channels).eval()
    assert module(torch.randn(1, in_channels, 3, 5)).shape == (1, out_channels, 3, 5)
    assert sum(p.numel() for p in module.parameters()) == parameters


def test_module_b_adds_the_map_itself() -> None:
    config = HeadConfig(logits=2, boxes_per_cell=(1,), prediction_module="b")
    module = build_prediction_module(config, 8).eval()
    nn.init.zeros_(module.module.conv3.conv.weight)
    x = torch.randn(1, 8, 3, 3)
    torch.testing.assert_close(module(x), x.relu())


def test_modules_only_where_asked() -> None:
    config = HeadConfig(logits=2, boxes_per_cell=(1, 1), prediction_module="c", module_levels=(True, False))
    assert not isinstance(build_prediction_module(config, 8, level=0), nn.Identity)
    assert isinstance(build_prediction_module(config, 8, level=1), nn.Identity)
