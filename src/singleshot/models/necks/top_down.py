"""What all necks share: the walk from the deepest map up to the finest, and up-sampling to a lateral map's size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from singleshot.errors import ConfigError
from singleshot.models.neck import Neck


class TopDownNeck(Neck):
    """Merge every map with what came out one level deeper.

    Args:
        deepest: turns the deepest source into the first result.
        merges: one module ``(deep, lateral) -> merged`` per remaining level, finest first.
        channels: of the results, finest first.
    """

    def __init__(self, deepest: nn.Module, merges: Sequence[nn.Module], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.deepest = deepest
        self.merges = nn.ModuleList(merges)
        self.channels = channels

    def forward(self, sources: list[Tensor]) -> list[Tensor]:
        """Sources ``[B, C_i, h_i, w_i]`` to maps ``[B, channels[i], h_i, w_i]``, both finest first."""
        maps = [self.deepest(sources[-1])]
        for merge, lateral in zip(reversed(self.merges), reversed(sources[:-1]), strict=True):
            maps.append(merge(maps[-1], lateral))
        return maps[::-1]


class PassLateral(nn.Module):
    """A level that takes no part: its source is its result."""

    def forward(self, deep: Tensor, lateral: Tensor) -> Tensor:
        """The lateral map, unchanged."""
        return lateral


class ChainedNecks(Neck):
    """One neck after the other, with modules per map in between."""

    def __init__(self, necks: Sequence[Neck], norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.necks = nn.ModuleList(necks)
        self.norms = nn.ModuleList(norms)
        self.channels = necks[-1].channels

    def forward(self, sources: list[Tensor]) -> list[Tensor]:
        """Sources ``[B, C_i, h_i, w_i]`` to maps ``[B, channels[i], h_i, w_i]``; the norms follow the first neck."""
        first, *others = self.necks
        maps: list[Tensor] = [norm(x) for norm, x in zip(self.norms, first(sources), strict=True)]
        for neck in others:
            maps = neck(maps)
        return maps


def taking_part(levels: tuple[bool, ...], sources: int, default: Sequence[bool]) -> list[bool]:
    """Which levels but the deepest merge.

    Args:
        levels: ``NeckConfig.levels``.
        sources: how many sources there are.
        default: of the levels but the deepest, where ``levels`` is empty.

    Raises:
        ConfigError: not one entry per source, or the deepest level takes part: nothing lies below it.
    """
    if not levels:
        return list(default)
    if len(levels) != sources or levels[-1]:
        raise ConfigError(
            f"network.neck.levels is {list(levels)}: give one entry for each of the {sources} sources, finest first, "
            "and false for the deepest, which has no deeper map to merge with"
        )
    return list(levels[:-1])


def upsample(deconvolution: nn.ConvTranspose2d, deep: Tensor, lateral: Tensor) -> Tensor:
    """Up-sample a deep map to at least the size of a lateral one.

    An unpadded deconvolution of stride 2 makes ``2h`` rows, where the lateral map may have one less (a padded stride
    rounded up: see ``cut_to``) or one more (a pooling rounded down: the missing row is computed).

    Args:
        deconvolution: unpadded.
        deep: ``[B, C, h, w]``.
        lateral: ``[B, D, H, W]``; only its size counts.

    Returns:
        ``[B, deconvolution.out_channels, >= H, >= W]``.

    Raises:
        ConfigError: kernel and stride cannot reach the size of the lateral map.
    """
    missing = []
    for size, target, kernel, stride in zip(
        deep.shape[2:], lateral.shape[2:], deconvolution.kernel_size, deconvolution.stride, strict=True
    ):
        missing.append(max(target - ((size - 1) * stride + kernel), 0))
        if missing[-1] >= stride:
            raise ConfigError(
                f"network.neck.upsampling: kernel {kernel} and stride {stride} cannot turn {size} cells into {target}; "
                "set others for this level, or take it out of network.neck.levels"
            )
    return functional.conv_transpose2d(
        deep, deconvolution.weight, deconvolution.bias, deconvolution.stride, 0, tuple(missing)
    )


def cut_to(x: Tensor, lateral: Tensor) -> Tensor:
    """Cut off rows at the bottom and columns at the right that the lateral map does not have (mxnet-dssd's crop)."""
    return x[:, :, : lateral.shape[2], : lateral.shape[3]]


def repeat_to(deep: Tensor, lateral: Tensor) -> Tensor:
    """Repeat every cell of a smaller map in both directions, and cut or repeat the bottom and right to a lateral size.

    The same as nearest up-sampling by 2 wherever that fits, and unlike it at home with batches of no image.

    Args:
        deep: ``[B, C, h, w]``.
        lateral: ``[B, D, H, W]``; only its size counts.

    Returns:
        ``[B, C, H, W]``.
    """
    batch, channels, height, width = deep.shape
    down, across = (1 + int(large > small) for small, large in zip(deep.shape[2:], lateral.shape[2:], strict=True))
    cells = deep[:, :, :, None, :, None].expand(-1, -1, -1, down, -1, across)
    out = cells.reshape(batch, channels, height * down, width * across)
    for axis in (2, 3):
        missing = lateral.shape[axis] - out.shape[axis]
        if missing > 0:
            last = out.narrow(axis, out.shape[axis] - 1, 1)
            out = torch.cat([out, *[last] * missing], dim=axis)
    return cut_to(out, lateral)
