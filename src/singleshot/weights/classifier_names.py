"""PyTorch classifiers' layers by the names of our backbones'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

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
# A block's layers in EfficientNet-PyTorch, and in timm by what the block holds.
_NUMBERED = {
    "_expand_conv": "expand.conv", "_bn0": "expand.bn", "_depthwise_conv": "depthwise.conv", "_bn1": "depthwise.bn",
    "_se_reduce": "squeeze.fc1", "_se_expand": "squeeze.fc2", "_project_conv": "project.conv", "_bn2": "project.bn",
}  # fmt: skip
_INVERTED = {
    "conv_pw": "expand.conv", "bn1": "expand.bn", "conv_dw": "depthwise.conv", "bn2": "depthwise.bn",
    "se.conv_reduce": "squeeze.fc1", "se.conv_expand": "squeeze.fc2", "conv_pwl": "project.conv", "bn3": "project.bn",
}  # fmt: skip
_SEPARABLE = {
    "conv_dw": "depthwise.conv", "bn1": "depthwise.bn", "se.conv_reduce": "squeeze.fc1",
    "se.conv_expand": "squeeze.fc2", "conv_pw": "project.conv", "bn2": "project.bn",
}  # fmt: skip
_ENDS = {
    "_conv_stem": "stem.conv", "_bn0": "stem.bn", "_conv_head": "last.conv", "_bn1": "last.bn",
    "conv_stem": "stem.conv", "bn1": "stem.bn", "conv_head": "last.conv", "bn2": "last.bn",
}  # fmt: skip
_STEMS = {"_conv_stem.weight", "conv_stem.weight"}
_BLOCK = re.compile(r"_?blocks\.(\d+)\.(?:(\d+)\.)?(.+)")

_SIGNS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("resnet152", "layer3.35.conv3.weight", (1024, 256, 1, 1)),
    ("resnet101", "layer3.22.conv3.weight", (1024, 256, 1, 1)),
    ("resnet50", "layer3.5.conv3.weight", (1024, 256, 1, 1)),
    ("resnet34", "layer3.5.conv2.weight", (256, 256, 3, 3)),
    ("resnet18", "layer3.1.conv2.weight", (256, 256, 3, 3)),
    ("vgg16_bn", "features.41.running_mean", (512,)),
    ("vgg16", "features.28.weight", (512, 512, 3, 3)),
    ("vgg16", "28.weight", (512, 512, 3, 3)),
    ("mobilenet_v3_large", "features.16.0.weight", (960, 160, 1, 1)),
    ("mobilenet_v3_large", "blocks.6.0.conv.weight", (960, 160, 1, 1)),
    ("mobilenet_v2", "features.18.0.weight", (1280, 320, 1, 1)),
    ("mobilenet_v2", "blocks.5.0.conv_dw.weight", (576, 1, 3, 3)),
    ("efficientnet_lite0", "_blocks.11._depthwise_conv.weight", (672, 1, 5, 5)),
    ("efficientnet_lite0", "blocks.5.0.conv_dw.weight", (672, 1, 5, 5)),
    ("efficientnet_b3", "features.8.0.weight", (1536, 384, 1, 1)),
    ("efficientnet_b3", "conv_head.weight", (1536, 384, 1, 1)),
    ("efficientnet_b3", "_conv_head.weight", (1536, 384, 1, 1)),
    ("squeezenet1_1", "features.12.expand3x3.weight", (256, 64, 3, 3)),
    ("densenet121", "features.norm5.weight", (1024,)),
    ("densenet169", "features.norm5.weight", (1664,)),
    ("densenet201", "features.norm5.weight", (1920,)),
    ("densenet161", "features.norm5.weight", (2208,)),
    ("inception_v3 (of which singleshot reads MXNet's .params)", "Mixed_7c.branch_pool.conv.weight", (192, 2048, 1, 1)),
)
"""Tensors by which an architecture is told, the deepest of a family first."""

_DENSENET_EPS, _OUR_DENSENET_EPS = 1e-5, 2e-5


def is_layer_list(state: Mapping[str, Tensor]) -> bool:
    """Whether these are ssd.pytorch's base weights: the layers of VGG16-reduced by their number alone."""
    return bool(state) and all(_LISTED.fullmatch(name) for name in state)


def recognised(state: Mapping[str, Tensor]) -> str | None:
    """The architecture of a classifier, for messages."""
    return next((name for name, sign, shape in _SIGNS if sign in state and tuple(state[sign].shape) == shape), None)


def translate(architecture: str, state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """A classifier's state dict by our backbone's names; a classifier that is no part of it is left out.

    ResNets have torchvision's names. The others number their layers in the order in which they run, as ours do.

    Args:
        architecture: as PyTorch calls it, see ``manifest``.
        state: by torchvision's or timm's names, EfficientNet-PyTorch's, or ssd.pytorch's ``vgg16_reducedfc.pth``.
        own: names of our backbone's tensors, in order.
    """
    if architecture.startswith("resnet"):
        return {name: value for name, value in state.items() if not name.startswith("fc.")}
    if architecture.startswith("densenet"):
        return _densenet(state)
    if not _STEMS.isdisjoint(state):
        return dict(_by_block(state, set(own)))
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


def _by_block(state: Mapping[str, Tensor], own: set[str]) -> Iterator[tuple[str, Tensor]]:
    """A mobile network whose blocks are numbered, through (EfficientNet-PyTorch) or by stages (timm)."""
    places = {name: match for name in state if (match := _BLOCK.fullmatch(name))}
    keys = {name: tuple(int(part) for part in match.groups()[:2] if part) for name, match in places.items()}
    held: dict[tuple[int, ...], set[str]] = {}
    for name, match in places.items():
        held.setdefault(keys[name], set()).add(_layer(match[3]))
    first = 0 if any(name.startswith("block0.") for name in own) else 1
    number = {key: index for index, key in enumerate(sorted(held), first)}
    # In timm's MobileNetV3 the last convolution is a block, and `conv_head` belongs to the classifier.
    ends = {k: v for k, v in _ENDS.items() if k != "conv_head" or not any("conv" in layers for layers in held.values())}
    for name, value in state.items():
        layer, _, kind = (places[name][3] if name in places else name).rpartition(".")
        layers = ends if name not in places else _layers_of(held[keys[name]])
        if layer not in layers:
            continue
        at = layers[layer]
        if name in places and not at.startswith("last."):
            inside, alone = f"block{number[keys[name]]}.{at}", f"block{number[keys[name]]}_{at}"
            at = alone if f"{alone}.{kind}" in own else inside
        yield f"{at}.{kind}", value


def _layers_of(held: set[str]) -> Mapping[str, str]:
    """Our names of a block's layers."""
    if "_depthwise_conv" in held:
        return _NUMBERED
    if "conv_pwl" in held:
        return _INVERTED
    return _SEPARABLE if "conv_dw" in held else {"conv": "last.conv", "bn1": "last.bn"}


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
