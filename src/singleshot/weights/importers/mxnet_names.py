"""What mxnet-ssd and mxnet-dssd call the parameters of our networks. No torch.

Proven for VGG16-reduced and ResNet against real parameter lists. The names of the other backbones follow MXNet's own
model files; mxnet-dssd's prediction modules and residual extra blocks have names that depend on how many networks the
process built before, so they have no map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from singleshot.errors import WeightsError
from singleshot.models.config import NetworkConfig

Repository = Literal["ssd", "dssd"]

NORMALISED = "broadcast_mul0"
"""MXNet's automatic name of the first source after its L2 scale, which mxnet-dssd goes on with."""

_NORM_PARAMETERS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_var",
}
_UNIT_COUNTS = {"resnet18_mxnet": (2, 2, 2, 2), "resnet34_mxnet": (3, 4, 6, 3)}
_UNIT_COUNTS |= {"resnet50_mxnet": (3, 4, 6, 3), "resnet101_mxnet": (3, 4, 23, 3)}


def mxnet_names(config: NetworkConfig, names: Iterable[str], repository: Repository = "ssd") -> dict[str, str]:
    """The MXNet name of every parameter and moving statistic.

    Args:
        config: of a network in mxnet-ssd's or mxnet-dssd's form.
        names: of our state dict; counters of batches are left out, MXNet has none.
        repository: mxnet-ssd names heads after the raw sources, mxnet-dssd after what reaches them.

    Raises:
        WeightsError: the network has a part that those systems do not have, or name unpredictably.
    """
    if config.head.prediction_module != "none" or any(block.kind != "conv" for block in config.extras):
        raise WeightsError(
            "prediction modules and residual extra blocks of mxnet-dssd have no fixed names; import the plain, DSSD or "
            "TDM form"
        )
    renamer = _Renamer(config, repository)
    return {name: renamer.rename(name) for name in names if not name.endswith("num_batches_tracked")}


class _Renamer:
    """The names of one network's maps, and from them its parameters' names."""

    def __init__(self, config: NetworkConfig, repository: Repository) -> None:
        self.config = config
        taps = [tap_name(config.backbone.name, tap) for tap in config.backbone.taps]
        self.taps = len(taps)
        self.sources = [
            *taps,
            *(f"multi_feat_{self.taps + index}_conv_3x3_relu" for index in range(len(config.extras))),
        ]
        self.prefixes: dict[str, str] = {}
        maps = self.sources
        kind = config.neck.kind
        if kind in ("tdm", "tdm_dssd"):
            maps = self._tdm("neck.necks.0." if config.neck.l2_norms or kind == "tdm_dssd" else "neck.", maps)
        normalised = next((norms for norms in (config.l2_norms, config.neck.l2_norms) if norms), ())
        for level, norm in enumerate(normalised):
            if norm is not None:
                self.prefixes[f"{'norms' if config.l2_norms else 'neck.norms'}.{level}."] = maps[level] + "_"
                if repository == "dssd":
                    maps = [*maps[:level], NORMALISED, *maps[level + 1 :]]
        if kind in ("dssd", "tdm_dssd"):
            maps = self._dssd("neck." if kind == "dssd" else "neck.necks.1.", maps)
        for level, name in enumerate(maps):
            self.prefixes[f"head.boxes.{level}."] = f"{name}_loc_pred_conv_"
            self.prefixes[f"head.logits.{level}."] = f"{name}_cls_pred_conv_"
            self.prefixes[f"head.shared.{level}.intermediate.conv."] = f"{name}_inter_conv_"
        for index in range(len(config.extras)):
            block = f"multi_feat_{self.taps + index}_conv"
            self.prefixes[f"extras.{index}.reduce.conv."] = f"{block}_1x1_conv_"
            self.prefixes[f"extras.{index}.conv.conv."] = f"{block}_3x3_conv_"

    def rename(self, name: str) -> str:
        """MXNet's name of one of our parameters."""
        if name.startswith("backbone."):
            return _backbone_name(self.config.backbone.name, name.removeprefix("backbone."))
        owner, _, parameter = name.rpartition(".")
        prefix = self.prefixes.get(f"{owner}.")
        if prefix is None:
            raise WeightsError(f"'{name}' has no counterpart in mxnet-ssd or mxnet-dssd")
        is_norm = re.fullmatch(r"bn\d?", owner.rpartition(".")[2])
        return prefix + (_NORM_PARAMETERS[parameter] if is_norm else parameter)

    def _tdm(self, path: str, maps: list[str]) -> list[str]:
        levels = len(maps)
        listed = self.config.neck.levels if self.config.neck.kind == "tdm" else ()
        merged = list(maps)
        for level in reversed(range(levels - 1)):
            k = levels - 1 - level
            if listed[level] if listed else k >= 3:
                self.prefixes[f"{path}merges.{level}.deep."] = f"{merged[level + 1]}{k}_thin_"
                self.prefixes[f"{path}merges.{level}.lateral."] = f"{merged[level]}{k}_thin_"
                merged[level] = f"concat{k}plus{k + 1}up"
        return merged

    def _dssd(self, path: str, maps: list[str]) -> list[str]:
        levels = len(maps)
        listed = self.config.neck.levels or (*[True] * (levels - 1), False)
        merged = list(maps)
        for level in reversed(range(levels - 1)):
            if not listed[level]:
                continue
            k, deep, lateral, at = levels - 1 - level, merged[level + 1], merged[level], f"{path}merges.{level}."
            self.prefixes |= {
                f"{at}deconvolution.": f"{deep}de_{k}_",
                f"{at}deep.conv.": f"{deep}de_conv_{k}_",
                f"{at}deep.bn.": f"{deep}de_conv_bn_{k}_",
                f"{at}lateral.conv1.": f"{lateral}conv_{k}_",
                f"{at}lateral.bn1.": f"{lateral}conv_bn_{k}_",
                f"{at}lateral.conv2.": f"{lateral}conv_bn_relu_conv_{k}_",
                f"{at}lateral.bn2.": f"{lateral}conv_bn_relu_conv_bn{k}_",
            }
            merged[level] = f"conv{k}product{k + 1}de"
        return merged


def tap_name(backbone: str, tap: str) -> str:
    """What MXNet calls a tapped layer's output."""
    if backbone in _UNIT_COUNTS and (unit := re.fullmatch(r"stage(\d)_unit(\d+)", tap)):
        stage, index = int(unit[1]), int(unit[2])
        return f"_plus{sum(_UNIT_COUNTS[backbone][: stage - 1]) + index - 1}"
    if backbone.startswith("inception") and tap.startswith("mixed"):
        return f"ch_concat_{tap}_chconcat"
    if backbone.startswith("mobilenet") and not tap.endswith("_relu"):
        return f"{tap}_relu"
    return tap.replace("_unit", "_concat") if backbone.startswith("densenet") else tap


def _backbone_name(backbone: str, name: str) -> str:
    *path, parameter = name.split(".")
    is_norm = path[-1].startswith("bn")
    if is_norm:
        parameter = _NORM_PARAMETERS[parameter]
    if backbone.startswith(("mobilenet", "inception")):
        layer = _inception_layer(path[:-1]) if "branches" in path else "_".join(path[:-1])
        return f"{layer}_{'batchnorm' if is_norm else 'conv2d'}_{parameter}"
    return "_".join((*path, parameter))


def _inception_layer(path: list[str]) -> str:
    """MXNet's tower names: ``mixed.branches.1.0`` is ``mixed_tower_conv``, ``mixed_9.branches.1.1.branches.0`` its fan.

    The strided block before the 8 grid has no lone convolution, so its branches are ``tower`` and ``tower_1``.
    """
    block, _, branch, *rest = path
    towers = int(branch) - (0 if block == "mixed_8" else 1)
    tower = {-1: "", 0: "_tower"}.get(towers, f"_tower_{towers}")
    # A pooled branch begins with its pool; a fan holds branches of its own behind the tower.
    numbers = [int(part) for part in rest if part != "branches"]
    is_fan = "branches" in rest
    is_pooled = not is_fan and len(numbers) == 1 and towers == 2
    position = numbers[-1] - (1 if is_pooled else 0)
    kind = "_mixed_conv" if is_fan else "_conv"
    return f"{block}{tower}{kind}{f'_{position}' if position else ''}"
