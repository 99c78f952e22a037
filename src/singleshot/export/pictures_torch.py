"""Pictures to the network's input as torch operations that can be traced and exported; equal to `images.preprocess`.

A picture's size may be a traced number: every place and weight is computed in the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.core.settings import PreprocessConfig

CV_BITS = 11
"""OpenCV's weights of a bilinear resize of bytes."""
PILLOW_BITS = 22


def preprocess_pictures(pictures: Tensor, config: PreprocessConfig, *, any_size: bool) -> Tensor:
    """Resize and normalise.

    Args:
        pictures: RGB uint8, ``[B, 3, H, W]``.
        config: the weights' numbers.
        any_size: whether they are resized; else they have the input's size.

    Returns:
        ``[B, 3, height, width]`` float32 in the network's channel order.
    """
    images = _resize(pictures, config) if any_size else pictures.float()
    if config.channel_order == "bgr":
        images = images.flip(1)
    mean, std = (torch.tensor(numbers, dtype=torch.float32)[:, None, None] for numbers in (config.mean, config.std))
    return (images * config.scale - mean) / std


def _resize(pictures: Tensor, config: PreprocessConfig) -> Tensor:
    height, width = config.size_hw
    if config.resize == "linear":
        return _linear_bytes(pictures, height, width)
    if config.resize == "linear_antialias":
        rows = _triangle(pictures.double(), width)
        return _triangle(rows.transpose(2, 3), height).transpose(2, 3).float()
    half_pixel = config.resize == "linear_float"
    left, right, across = _float_taps(pictures.shape[3], width, half_pixel)
    top, bottom, down = _float_taps(pictures.shape[2], height, half_pixel)
    images = pictures.float()
    start = images[..., left]
    rows = (images[..., right] - start) * across + start
    start = rows[:, :, top]
    return (rows[:, :, bottom] - start) * down[:, None] + start


def _float_taps(size_in: int, size_out: int, half_pixel: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Low index, high index, share of the high one, in float32 (``images.preprocess._axis_taps``)."""
    places = torch.arange(size_out, dtype=torch.float32)
    scale = torch.ones(1) * size_in / size_out
    places = ((places + 0.5) * scale - 0.5).clamp(min=0.0) if half_pixel else places * scale
    last = torch.ones(1, dtype=torch.int64) * (size_in - 1)
    low = torch.minimum(places.floor().long(), last)
    return low, torch.minimum(low + 1, last), places - low.float()


def _linear_bytes(pictures: Tensor, height: int, width: int) -> Tensor:
    """``cv2.resize`` with ``INTER_LINEAR`` of bytes: weights of 11 bits, rounded twice on the way."""
    left, right, near, far = _byte_taps(pictures.shape[3], width, weighs_edges=False)
    top, bottom, upper, lower = _byte_taps(pictures.shape[2], height, weighs_edges=True)
    images = pictures.int()
    rows = (images[..., left] * near + images[..., right] * far) >> 4
    total = ((rows[:, :, top] * upper[:, None]) >> 16) + ((rows[:, :, bottom] * lower[:, None]) >> 16)
    return ((total + 2) >> 2).float()


def _byte_taps(size_in: int, size_out: int, *, weighs_edges: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Low index, high index, and their integer weights.

    Beyond the edge one line is taken twice by its weights (rows), which rounds twice, or once (columns).
    """
    scale = torch.ones(1, dtype=torch.float64) * size_in / size_out
    places = ((torch.arange(size_out, dtype=torch.float64) + 0.5) * scale - 0.5).float()
    last = torch.ones(1, dtype=torch.int64) * (size_in - 1)
    low = places.floor().long()
    share = places - low.float()
    if not weighs_edges:
        share = torch.where((low < 0) | (low >= last), 0.0, share)
    low, high = (torch.minimum(index.clamp(min=0), last) for index in (low, low + 1))
    one = 2.0**CV_BITS
    return low, high, ((1.0 - share) * one).round().int(), (share * one).round().int()


def _triangle(images: Tensor, size_out: int) -> Tensor:
    """Pillow's bilinear along the last axis, ``[..., N]`` to ``[..., size_out]``: whole numbers, exact in float64."""
    scale = torch.ones(1, dtype=torch.float64) * images.shape[-1] / size_out
    reach = scale.clamp(min=1.0)
    centre = ((torch.arange(size_out, dtype=torch.float64) + 0.5) * scale)[:, None]
    places = torch.arange(images.shape[-1], dtype=torch.float64)
    is_inside = (places >= (centre - reach + 0.5).floor()) & (places < (centre + reach + 0.5).floor())
    weights = (1.0 - ((places - centre + 0.5) / reach).abs()).clamp(min=0.0) * is_inside
    one = 2.0**PILLOW_BITS
    weights = (weights / weights.sum(dim=1, keepdim=True) * one + 0.5).floor()
    return ((images @ weights.T + one / 2) / one).floor().clamp(0.0, 255.0)
