"""PyTorch classifiers' layers by the names of our backbones'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# ssd.pytorch's base weights are a list of layers without a name: 0.weight ... 33.bias.
_LISTED = re.compile(r"\d+\.(weight|bias)")

_DENSENET = (
    (r"features\.", ""),
    (r"norm0\.", "bn0."),
    (r"denseblock(\d+)\.denselayer(\d+)\.", r"DBstage\1_unit\2."),
    (r"transition(\d+)\.", r"TBstage\1."),
    (r"\b(norm|conv)\.?(\d)\.", r"\1\2."),
    (r"\b(norm|conv)\.(?=[a-z])", r"\g<1>1."),
    (r"\bnorm(\d)\.", r"bn\1."),
)
_DENSENET_EPS, _OUR_DENSENET_EPS = 1e-5, 2e-5


def is_layer_list(state: Mapping[str, Tensor]) -> bool:
    """Whether these are ssd.pytorch's base weights: the layers of VGG16-reduced by their number alone."""
    return bool(state) and all(_LISTED.fullmatch(name) for name in state)


def translate(architecture: str, state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """A classifier's state dict by our backbone's names; a classifier that is no part of it is left out.

    ResNets have torchvision's names. The others number their layers in the order in which they run, as ours do.

    Args:
        architecture: a key of ``IMAGENET``.
        state: by torchvision's names, or ssd.pytorch's ``vgg16_reducedfc.pth``.
        own: names of our backbone's tensors, in order.
    """
    if architecture.startswith("resnet"):
        return {name: value for name, value in state.items() if not name.startswith("fc.")}
    if architecture.startswith("densenet"):
        return _densenet(state)
    ours = dict.fromkeys(_layer(name) for name in own)
    is_list = is_layer_list(state)
    theirs = sorted({_layer(name) for name in state if is_list or name.startswith("features.")}, key=_order)
    place = dict(zip(theirs, ours, strict=False))
    if architecture.startswith("vgg16"):
        place |= {"classifier.0": "fc6", "classifier.3": "fc7"}
    return {
        f"{place[_layer(name)]}.{name.rsplit('.', 1)[1]}": value
        for name, value in state.items()
        if _layer(name) in place
    }


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _order(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10, and a SqueezeNet module's ``squeeze`` before its ``expand``."""
    parts = name.split(".")
    return [(int(part), "") if part.isdigit() else (-1, "" if part == "squeeze" else part) for part in parts]


def _densenet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's DenseNet has no BatchNorm on the image and another eps, which the variances take up."""
    translated = {}
    for name, value in state.items():
        for theirs, ours in _DENSENET:
            name = re.sub(theirs, ours, name)
        is_variance = name.endswith("running_var")
        translated[name] = value + (_DENSENET_EPS - _OUR_DENSENET_EPS) if is_variance else value
    channels = state["features.conv0.weight"].shape[1] if "features.conv0.weight" in state else 3
    plain = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0 - _OUR_DENSENET_EPS}
    return translated | {f"bn_data.{name}": torch.full((channels,), value) for name, value in plain.items()}
