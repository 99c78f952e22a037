"""Training's 3x3 convolutions on CPUs: forward and backward with a quarter of the multiplications, in float32."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from singleshot.kernels.winograd import LANES, ConvLayer, filter_gradients, kernel
from singleshot.models.fast_conv.conv_mode import Conv2dMode
from singleshot.models.fast_conv.inference import check_images, convolve_batch, filters_at_points, padded_bias
from singleshot.models.network import Network
from singleshot.models.summary import count_flops


class WinogradConvolutions(Conv2dMode):
    """Within this context ``conv2d`` uses our kernel wherever that fits; autograd sees the same function.

    Works on float32 on the CPU. Everything else, and everything where there is no kernel, goes to torch. Sums are
    rounded elsewhere, as in `WinogradConv2d`.
    """

    def convolve(
        self, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> Tensor | None:
        """The same by our kernel, if there is one and it is worthwhile."""
        library, layer = kernel(), _layer(images, weight, bias, stride, padding, dilation, groups)
        if library is None or layer is None or not layer.is_worthwhile:
            return None
        result: Tensor = _Convolution.apply(images, weight, bias, layer, library)  # type: ignore[no-untyped-call]
        return result


def winograd_share(network: Network, image_size_hw: tuple[int, int]) -> float:
    """Share of a network's multiplications that `WinogradConvolutions` takes over; 0 where there is no kernel.

    Seen in a run on no image.

    Args:
        network: on the CPU.
        image_size_hw: of its images.
    """
    if kernel() is None:
        return 0.0
    was_training = network.training
    ours = count_flops(network, image_size_hw, _is_taken)
    share = ours / max(count_flops(network, image_size_hw), 1)
    network.train(was_training)
    return share


def _is_taken(*args: Any) -> bool:
    """Whether our kernel computes a ``conv2d`` of these arguments, for one image."""
    layer = _layer(*args)
    return layer is not None and layer._replace(batch=1).is_worthwhile


def _layer(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: object, padding: Any, dilation: Any, groups: int
) -> ConvLayer | None:
    """Sizes for the kernel; ``None`` where it does not fit."""
    if images.dtype != torch.float32 or weight.dtype != torch.float32 or images.device.type != "cpu":
        return None
    if weight.shape[2:] != (3, 3) or tuple(_pair(stride)) != (1, 1) or groups != 1 or images.ndim != 4:
        return None
    (top, left), (down, right) = _pair(padding), _pair(dilation)
    if isinstance(padding, str) or top != left or down != right or top > 2 * down:
        return None
    batch, channels, height, width = images.shape
    if channels % LANES or channels != weight.shape[1]:
        return None
    return ConvLayer(batch, channels, height, width, len(weight), top, down)


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


class _Convolution(torch.autograd.Function):
    """``conv2d`` of stride 1 and its gradients."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, layer: ConvLayer, library: ctypes.CDLL
    ) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(images, weight)
        ctx.layer, ctx.library = layer, library
        bias = padded_bias(bias, layer.filters)
        return convolve_batch(library, layer, images, filters_at_points(library, weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        layer, library = ctx.layer, ctx.library
        gradients = gradients.contiguous(memory_format=torch.channels_last)
        of_images, of_weight, of_bias = ctx.needs_input_grad[:3]
        return (
            _image_gradients(library, layer, weight, gradients) if of_images else None,
            _weight_gradients(library, layer, images, gradients) if of_weight else None,
            gradients.sum(dim=(0, 2, 3)) if of_bias else None,
            None,
            None,
        )


def _image_gradients(library: ctypes.CDLL, layer: ConvLayer, weight: Tensor, gradients: Tensor) -> Tensor:
    """The convolution of the output's gradients with the filters turned by half a turn."""
    missing = -layer.filters % LANES
    if missing:
        weight = functional.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing))
        gradients = functional.pad(gradients, (0, 0, 0, 0, 0, missing)).contiguous(memory_format=torch.channels_last)
    padding = 2 * layer.dilation - layer.padding
    backward = ConvLayer(layer.batch, len(weight), *layer.out_hw, layer.channels, padding, layer.dilation)
    points, bias = filters_at_points(library, weight, turned=True), padded_bias(None, layer.channels)
    return convolve_batch(library, backward, gradients, points, bias)


def _weight_gradients(library: ctypes.CDLL, layer: ConvLayer, images: Tensor, gradients: Tensor) -> Tensor:
    check_images("images", images, (layer.batch, layer.channels, layer.height, layer.width))
    check_images("gradients", gradients, (layer.batch, layer.filters, *layer.out_hw))
    found = filter_gradients(library, layer, images.data_ptr(), gradients.data_ptr(), torch.get_num_threads())
    return torch.from_numpy(found).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
