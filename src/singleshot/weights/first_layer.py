"""The first layer of a backbone whose weights were trained on images prepared in another way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from singleshot.core.settings import PreprocessConfig
from singleshot.errors import WeightsError

IMAGE_NORM = "bn_data"
"""BatchNorm of the image itself, before the first convolution (MXNet's ResNet and DenseNet)."""
IMAGE_NORM_EPS = 2e-5


def adapt_input(state: dict[str, Tensor], first: str, theirs: PreprocessConfig, ours: PreprocessConfig) -> None:
    """Change the first layer so that it sees, through our preprocessing, what it was trained on (borders apart).

    Args:
        state: changed in place; ``first`` is the convolution's weight. A BatchNorm of the image takes up the
            difference, else the weight that of the scales, and its bias, or the running mean of the BatchNorm after it,
            that of the means.
        first: name of that weight.
        theirs: preprocessing of the weights.
        ours: preprocessing of the detector.

    Raises:
        WeightsError: nothing can take up the difference of the means.
    """
    if ours.channel_order != theirs.channel_order:
        _flip(state, first)
        theirs = theirs.model_copy(update={"mean": theirs.mean[::-1], "std": theirs.std[::-1]})
    # pixel = (ours_value * std + mean) / scale, and theirs_value = (pixel * scale' - mean') / std'.
    ratio = theirs.scale / ours.scale
    slope = torch.tensor([ratio * mine / other for mine, other in zip(ours.std, theirs.std, strict=True)])
    offset = torch.tensor(
        [(ratio * mine - other) / std for mine, other, std in zip(ours.mean, theirs.mean, theirs.std, strict=True)]
    )
    if f"{IMAGE_NORM}.running_mean" in state:
        mean, variance = (state[f"{IMAGE_NORM}.running_{name}"] for name in ("mean", "var"))
        state[f"{IMAGE_NORM}.running_mean"] = (mean - offset) / slope
        state[f"{IMAGE_NORM}.running_var"] = (variance + IMAGE_NORM_EPS) / slope**2 - IMAGE_NORM_EPS
        return
    weight = state[first]
    shift = (weight * offset[:, None, None]).sum(dim=(1, 2, 3))
    state[first] = weight * slope[:, None, None]
    bias, mean_name = first.removesuffix("weight") + "bias", _next_running_mean(state, first)
    if bias in state:
        state[bias] = state[bias] + shift
    elif mean_name:
        state[mean_name] = state[mean_name] - shift
    elif bool(offset.any()):
        raise WeightsError(f"{first}: has no bias and no BatchNorm behind it that could take up another mean")


def describe_input(theirs: PreprocessConfig, ours: PreprocessConfig) -> str:
    """What the weights read and what the detector gives them, in one sentence."""
    if _same(theirs) == _same(ours):
        return f"reads {_words(theirs)}, as this detector does"
    return f"reads {_words(theirs)}; its first layer is adapted to this detector's {_words(ours)}"


def _same(images: PreprocessConfig) -> tuple[object, ...]:
    return images.channel_order, images.scale, images.mean, images.std


def _words(images: PreprocessConfig) -> str:
    """``RGB 0..255 minus (123, 117, 104)``."""

    def listed(values: tuple[float, ...]) -> str:
        return f"({', '.join(f'{value:g}' for value in values)})"

    words = f"{images.channel_order.upper()} 0..{255 * images.scale:.4g}"
    if any(images.mean):
        words += f" minus {listed(images.mean)}"
    return words if set(images.std) == {1.0} else f"{words} by {listed(images.std)}"


def _flip(state: dict[str, Tensor], first: str) -> None:
    """Exchange blue and red."""
    state[first] = state[first].flip(1)
    for name in [name for name in state if name.startswith(f"{IMAGE_NORM}.") and state[name].ndim == 1]:
        state[name] = state[name].flip(0)


def _next_running_mean(state: Mapping[str, Tensor], first: str) -> str:
    """The running mean of the BatchNorm after the first convolution: ``stem.bn`` or ``bn1``."""
    for name in (first.replace("conv.weight", "bn.running_mean"), "bn1.running_mean"):
        if name in state and name != first:
            return name
    return ""
