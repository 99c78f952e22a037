"""3x3 convolutions with a quarter of the multiplications, in float32, on CPUs: ``kernels/winograd.c`` as a module."""

from __future__ import annotations

import ctypes
import threading

import torch
from torch import Tensor, nn
from torch.nn import functional

from singleshot.kernels.winograd import LANES, ConvLayer, Memory, Pool, convolve, points_size, transform_filters
from singleshot.models.layers import SameConv2d


def fits(conv: nn.Module) -> bool:
    """Whether the kernel computes this layer: 3x3, stride 1, one group, channels in sixteens, zero padding."""
    if type(conv) not in (nn.Conv2d, SameConv2d):
        return False
    assert isinstance(conv, nn.Conv2d)
    if type(conv) is nn.Conv2d and (isinstance(conv.padding, str) or conv.padding[0] != conv.padding[1]):
        return False
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.dilation[0] == conv.dilation[1]
        and conv.padding_mode == "zeros"
        and conv.in_channels % LANES == 0
        and conv.weight.dtype == torch.float32
    )


def halves(pool: nn.MaxPool2d) -> bool:
    """Whether the kernel computes this pooling: windows 2x2 side by side."""
    windows = {pool.kernel_size, pool.stride} <= {2, (2, 2)}
    return windows and pool.padding in (0, (0, 0)) and pool.dilation in (1, (1, 1)) and not pool.return_indices


class WinogradConv2d(nn.Module):
    """A convolution and, if they follow it, a ReLU and a max pooling; for inference.

    Sums are rounded elsewhere than in a plain convolution: where inputs and outputs have unit variance, by 1e-4 at most
    instead of 1e-5. The filters' values at 36 points are kept, four times their size.

    Args:
        library: the kernel.
        conv: `fits`.
        relu: whether one follows.
        pool: what follows that, if anything; it `halves`.

    Raises:
        ValueError: pooling behind a dilated convolution: its windows are not within tiles.
    """

    def __init__(
        self, library: ctypes.CDLL, conv: nn.Conv2d, relu: bool = False, pool: nn.MaxPool2d | None = None
    ) -> None:
        super().__init__()
        if pool is not None and conv.dilation != (1, 1):
            raise ValueError("pooling cannot be fused with a dilated convolution")
        self.conv = conv
        self.relu = relu
        self.pool = pool
        self._library = library
        self._padding = conv.dilation[0] if isinstance(conv, SameConv2d) else int(conv.padding[0])
        self._pool: Pool = "" if pool is None else "ceil" if pool.ceil_mode else "floor"
        self._numbers: tuple[Tensor, Tensor] | None = None
        self._lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, K, h, w]``, channels innermost."""
        conv = self.conv
        batch, channels, height, width = x.shape
        filters, dilation = conv.out_channels, conv.dilation[0]
        layer = ConvLayer(batch, channels, height, width, filters, self._padding, dilation, self.relu, self._pool)
        x = x.float() if x.dtype == torch.bfloat16 else x
        if channels != conv.in_channels or x.dtype != torch.float32 or not layer.is_worthwhile:
            x = conv(x)
            x = functional.relu_(x) if self.relu else x
            return x if self.pool is None else self.pool(x)
        x = x.contiguous(memory_format=torch.channels_last)
        return convolve_batch(self._library, layer, x, *self._transformed())

    def _transformed(self) -> tuple[Tensor, Tensor]:
        """Filters and bias as the kernel reads them; made at first use."""
        with self._lock:
            if self._numbers is None:
                bias = padded_bias(self.conv.bias, self.conv.out_channels)
                self._numbers = filters_at_points(self._library, self.conv.weight), bias
            return self._numbers


def convolve_batch(library: ctypes.CDLL, layer: ConvLayer, images: Tensor, points: Tensor, bias: Tensor) -> Tensor:
    """Run the kernel on tensors.

    Args:
        library: the kernel.
        layer: sizes; of these tensors.
        images: ``[B, C, H, W]`` float32, channels innermost.
        points: `filters_at_points`.
        bias: `padded_bias`.

    Returns:
        ``[B, K, h, w]``, channels innermost.

    Raises:
        ValueError: a tensor of another shape, type, device or memory layout.
    """
    check_images("images", images, (layer.batch, layer.channels, layer.height, layer.width))
    _check_tensor("points", points, (points_size(layer.channels, layer.filters),))
    _check_tensor("bias", bias, (layer.filters + -layer.filters % LANES,))
    output = torch.empty((layer.batch, layer.filters, *layer.out_hw), memory_format=torch.channels_last)
    memory = Memory(images.data_ptr(), points.data_ptr(), bias.data_ptr(), output.data_ptr())
    convolve(library, layer, memory, torch.get_num_threads())
    return output


def check_images(what: str, images: Tensor, shape: tuple[int, ...]) -> None:
    """The kernel reads addresses: refuse what is not float32 ``[B, C, H, W]`` on the CPU, channels innermost.

    Raises:
        ValueError: it is something else.
    """
    _check_tensor(what, images, shape)
    if not images.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"{what} {tuple(images.shape)} with strides {images.stride()}: expected channels innermost")


def _check_tensor(what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    is_plain = (
        tensor.dtype == torch.float32 and tensor.device.type == "cpu" and (tensor.dim() > 1 or tensor.is_contiguous())
    )
    if not is_plain or tensor.shape != shape:
        found = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        raise ValueError(f"{what}: {found}: expected float32 {shape} on the CPU, without gaps")


def padded_bias(bias: Tensor | None, filters: int) -> Tensor:
    """The bias up to a multiple of `LANES`; zeros where there is none."""
    return functional.pad(torch.zeros(filters) if bias is None else bias.detach(), (0, -filters % LANES))


def filters_at_points(library: ctypes.CDLL, weight: Tensor, turned: bool = False) -> Tensor:
    """Filters ``[K, C, 3, 3]``, any strides, as `Memory.points`.

    Args:
        library: the kernel.
        weight: float32.
        turned: by half a turn, with channels and filters exchanged, as the gradient of the images needs them.

    Raises:
        ValueError: filters of another size, type or device.
    """
    weight = weight.detach()
    _check_tensor("filters", weight, (*weight.shape[:2], 3, 3))
    (filters, channels), steps = weight.shape[:2], weight.stride()
    address = weight.data_ptr()
    if turned:
        address += weight.element_size() * 2 * (steps[2] + steps[3])
        filters, channels, steps = channels, filters, (steps[1], steps[0], -steps[2], -steps[3])
    points = torch.empty(points_size(channels, filters))
    transform_filters(library, address, (filters, channels), steps, points.data_ptr(), torch.get_num_threads())
    return points
