"""Classification weights into our backbones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from singleshot.core.settings import PreprocessConfig
from singleshot.errors import WeightsError
from singleshot.models.config import ModelSpec
from singleshot.models.network import Network
from singleshot.weights.file import COUNTER
from singleshot.weights.manifest import IMAGENET, architecture_of, fetch
from singleshot.weights.torch_file import read_tensors

TORCHVISION = PreprocessConfig(size_hw=(224, 224), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CAFFE = PreprocessConfig(size_hw=(224, 224), mean=(123.0, 117.0, 104.0))
CAFFE_FILES = ("amdegroot", "reducedfc", "caffe")
"""Words in the names of VGG16 files that were trained on 0..255 minus the mean, as the SSD papers' were."""


def load_imagenet(network: Network, spec: ModelSpec, path: str | Path | None = None) -> list[str]:
    """Give a backbone its ImageNet weights. The first convolution is adapted to the detector's own preprocessing.

    Args:
        network: changed in place; only its backbone.
        spec: of the network.
        path: a checkpoint with torchvision's names; ``None`` takes the public one, downloaded once.

    Returns:
        Names of the network's tensors that were loaded; whatever of the backbone is not among them stays as it was.

    Raises:
        WeightsError: no such weights are known, they cannot be got or read, or they are of another architecture.
    """
    backbone = spec.network.backbone.name
    architecture = architecture_of(backbone)
    if architecture is None:
        raise WeightsError(f"no ImageNet weights are known for the backbone '{backbone}': use weights 'none' or a file")
    path = Path(path) if path else fetch(IMAGENET[architecture])
    own = network.backbone.state_dict()
    theirs = translate(architecture, read_tensors(path), own)
    first = next(name for name, value in own.items() if value.ndim == 4)
    if first in theirs and own[first].shape[1] != theirs[first].shape[1]:
        raise WeightsError(f"{path}: ImageNet weights read 3 channels, this network reads {own[first].shape[1]}")
    loaded = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    missing = [name for name in own if name not in loaded and not name.endswith(COUNTER)]
    if any(not name.startswith(("fc6.", "fc7.")) for name in missing):
        fit = len(own) - len(missing)
        raise WeightsError(f"{path}: not ImageNet weights of {architecture}: {fit} of {len(own)} tensors fit")
    is_caffe = architecture == "vgg16" and any(word in path.name for word in CAFFE_FILES)
    adapt_input(loaded, first, CAFFE if is_caffe else TORCHVISION, spec.preprocess)
    network.backbone.load_state_dict(loaded, strict=False)
    return [f"backbone.{name}" for name in loaded]


def translate(architecture: str, state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """A torchvision state dict by our backbone's names; the classifier is left out.

    ResNets have torchvision's names. The others number their layers in the order in which they run, as ours do.

    Args:
        architecture: a key of ``IMAGENET``.
        state: by torchvision's names.
        own: names of our backbone's tensors, in order.
    """
    if architecture.startswith("resnet"):
        return {name: value for name, value in state.items() if not name.startswith("fc.")}
    ours = dict.fromkeys(_layer(name) for name in own)
    theirs = sorted({_layer(name) for name in state if name.startswith("features.")}, key=_numbers)
    place = dict(zip(theirs, ours, strict=False))
    translated = {
        f"{place[_layer(name)]}.{name.rsplit('.', 1)[1]}": value
        for name, value in state.items()
        if _layer(name) in place
    }
    return translated | _dense_layers(state) if architecture == "vgg16" else translated


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _numbers(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _dense_layers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VGG16's two big classifier layers, where the file has them, as fc6 and fc7.

    Every fourth output, and every third tap of the 7x7 kernel (SSD section 3.1, after DeepLab).
    """
    fc6, fc7 = state.get("classifier.0.weight"), state.get("classifier.3.weight")
    if fc6 is None or fc7 is None or fc6.shape != (4096, 25088) or fc7.shape != (4096, 4096):
        return {}
    return {
        "fc6.weight": fc6.view(4096, 512, 7, 7)[::4, :, ::3, ::3].contiguous(),
        "fc6.bias": state["classifier.0.bias"][::4].contiguous(),
        "fc7.weight": fc7[::4, ::4, None, None].contiguous(),
        "fc7.bias": state["classifier.3.bias"][::4].contiguous(),
    }


def adapt_input(state: dict[str, Tensor], first: str, theirs: PreprocessConfig, ours: PreprocessConfig) -> None:
    """Change the first layer so that it sees, through our preprocessing, what it was trained on (borders apart).

    Args:
        state: changed in place; ``first`` is the convolution's weight. Its bias, or the running mean of the BatchNorm
            after it, takes up the difference of the means.
        first: name of that weight.
        theirs: preprocessing of the weights.
        ours: preprocessing of the detector.
    """
    weight = state[first]
    if ours.channel_order != theirs.channel_order:
        weight = weight.flip(1)
        theirs = theirs.model_copy(update={"mean": theirs.mean[::-1], "std": theirs.std[::-1]})
    # pixel = (ours_value * std + mean) / scale, and theirs_value = (pixel * scale' - mean') / std'.
    ratio = theirs.scale / ours.scale
    slope = torch.tensor([ratio * mine / other for mine, other in zip(ours.std, theirs.std, strict=True)])
    offset = torch.tensor(
        [(ratio * mine - other) / std for mine, other, std in zip(ours.mean, theirs.mean, theirs.std, strict=True)]
    )
    shift = (weight * offset[:, None, None]).sum(dim=(1, 2, 3))
    state[first] = weight * slope[:, None, None]
    bias, mean = first.removesuffix("weight") + "bias", _next_running_mean(state, first)
    if bias in state:
        state[bias] = state[bias] + shift
    elif mean:
        state[mean] = state[mean] - shift


def _next_running_mean(state: Mapping[str, Tensor], first: str) -> str:
    """The running mean of the BatchNorm after the first convolution: ``stem.bn`` or ``bn1``."""
    for name in (first.replace("conv.weight", "bn.running_mean"), "bn1.running_mean"):
        if name in state and name != first:
            return name
    return ""
