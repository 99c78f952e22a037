"""What mxnet-ssd and mxnet-dssd call the parameters of our networks. No torch.

Proven for VGG16-reduced and ResNet against real parameter lists. The names of the other backbones follow MXNet's own
model files, those of mxnet-dssd's prediction modules and residual extra blocks its naming rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from singleshot.errors import WeightsError
from singleshot.models.config import NetworkConfig
from singleshot.weights.file import COUNTER

Repository = Literal["ssd", "dssd"]

_NORM_PARAMETERS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_var",
}
_UNIT_COUNTS = {"resnet18_mxnet": (2, 2, 2, 2), "resnet34_mxnet": (3, 4, 6, 3)}
_UNIT_COUNTS |= {"resnet50_mxnet": (3, 4, 6, 3), "resnet101_mxnet": (3, 4, 23, 3)}
_UNIT_COUNTS |= {"resnet152_mxnet": (3, 8, 36, 3)}


class Automatic(NamedTuple):
    """Names that depend on more than the network: MXNet counts unnamed operations over all that a process builds.

    Attributes:
        normalised: the first source after its L2 scale, which mxnet-dssd goes on with.
        scaled: what that scale is named after; empty means the map that it scales.
        sums: outputs of residual extra blocks, then of prediction modules, finest first; empty counts on from the
            backbone's, as in a process that builds nothing else.
    """

    normalised: str = "broadcast_mul0"
    scaled: str = ""
    sums: tuple[str, ...] = ()


FRESH = Automatic()


def mxnet_names(
    config: NetworkConfig, names: Iterable[str], repository: Repository = "ssd", automatic: Automatic = FRESH
) -> dict[str, str]:
    """The MXNet name of every parameter and moving statistic.

    Args:
        config: of a network in mxnet-ssd's or mxnet-dssd's form.
        names: of our state dict; counters of batches are left out, MXNet has none.
        repository: mxnet-ssd names heads after the raw sources, mxnet-dssd after what reaches them.
        automatic: what this file's process called its unnamed operations.

    Raises:
        WeightsError: the network has a part that those systems do not have.
    """
    if config.head.prediction_module not in ("none", "mxnet") or any(
        block.kind not in ("conv", "residual_preact") for block in config.extras
    ):
        raise WeightsError(
            f"mxnet-ssd and mxnet-dssd have no prediction module '{config.head.prediction_module}' or no extra blocks "
            "like these; theirs are 'mxnet', and plain or residual_preact"
        )
    renamer = _Renamer(config, repository, automatic)
    return {name: renamer.rename(name) for name in names if not name.endswith(COUNTER)}


def head_inputs(config: NetworkConfig, repository: Repository, automatic: Automatic = FRESH) -> tuple[str, ...]:
    """What MXNet calls the maps that reach the head, or its prediction modules."""
    return tuple(_Renamer(config, repository, automatic).maps)


def backbone_sums(backbone: str) -> int:
    """How many unnamed sums a backbone has, which MXNet calls ``_plus0``, ``_plus1``, ..."""
    return sum(_UNIT_COUNTS.get(backbone, ()))


class _Renamer:
    """The names of one network's maps, and from them its parameters' names."""

    def __init__(self, config: NetworkConfig, repository: Repository, automatic: Automatic) -> None:
        self.config = config
        self.automatic = automatic
        taps = [tap_name(config.backbone.name, tap) for tap in config.backbone.taps]
        self.taps = len(taps)
        self.prefixes: dict[str, str] = {}
        self.maps = [*taps, *(self._extra(index) for index in range(len(config.extras)))]
        kind = config.neck.kind
        if kind in ("tdm", "tdm_dssd"):
            self.maps = self._tdm("neck.necks.0." if config.neck.l2_norms or kind == "tdm_dssd" else "neck.", self.maps)
        normalised = next((norms for norms in (config.l2_norms, config.neck.l2_norms) if norms), ())
        for level, norm in enumerate(normalised):
            if norm is not None:
                scaled = self.maps[level]
                if repository == "dssd":
                    scaled, self.maps[level] = automatic.scaled or scaled, automatic.normalised
                self.prefixes[f"{'norms' if config.l2_norms else 'neck.norms'}.{level}."] = f"{scaled}_"
        if kind in ("dssd", "tdm_dssd"):
            self.maps = self._dssd("neck." if kind == "dssd" else "neck.necks.1.", self.maps)
        for level, name in enumerate(self._modules(self.maps)):
            self.prefixes[f"head.boxes.{level}."] = f"{name}_loc_pred_conv_"
            self.prefixes[f"head.logits.{level}."] = f"{name}_cls_pred_conv_"
            self.prefixes[f"head.shared.{level}.intermediate.conv."] = f"{name}_inter_conv_"

    def rename(self, name: str) -> str:
        """MXNet's name of one of our parameters."""
        if name.startswith("backbone."):
            return backbone_parameter(self.config.backbone.name, name.removeprefix("backbone."))
        owner, _, parameter = name.rpartition(".")
        prefix = self.prefixes.get(f"{owner}.")
        if prefix is None:
            raise WeightsError(f"'{name}' has no counterpart in mxnet-ssd or mxnet-dssd")
        is_norm = re.fullmatch(r"bn\d?", owner.rpartition(".")[2])
        return prefix + (_NORM_PARAMETERS[parameter] if is_norm else parameter)

    def _sum(self, index: int) -> str:
        """The index-th unnamed sum behind the backbone's."""
        given = self.automatic.sums
        return given[index] if given else f"_plus{backbone_sums(self.config.backbone.name) + index}"

    def _extra(self, index: int) -> str:
        """Names an appended block's parameters; the name of its output."""
        number, at = self.taps + index, f"extras.{index}."
        if self.config.extras[index].kind == "residual_preact":
            self.prefixes |= {f"{at}{part}{n}.": f"{number}_{part}{n}_" for part in ("bn", "conv") for n in (1, 2, 3)}
            self.prefixes[f"{at}shortcut."] = f"{number}_sc_"
            return self._sum(index)
        block = f"multi_feat_{number}_conv"
        self.prefixes |= {f"{at}reduce.conv.": f"{block}_1x1_conv_", f"{at}conv.conv.": f"{block}_3x3_conv_"}
        return f"{block}_3x3_relu"

    def _modules(self, maps: list[str]) -> list[str]:
        """Names the prediction modules' parameters; the names of what their predictors read."""
        head = self.config.head
        count = sum(block.kind == "residual_preact" for block in self.config.extras)
        results = list(maps)
        for level, name in enumerate(maps):
            if head.prediction_module == "none" or (head.module_levels and not head.module_levels[level]):
                continue
            for ours, theirs in (("conv1", "conv1_1"), ("conv2", "conv1_2"), ("conv3", "conv1_3"), ("skip", "conv2")):
                self.prefixes[f"head.shared.{level}.module.{ours}."] = f"{name}{theirs}pre_"
            results[level] = self._sum(count)
            count += 1
        return results

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


def backbone_parameter(backbone: str, name: str) -> str:
    """What MXNet calls a parameter of a backbone, by our names of both."""
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
