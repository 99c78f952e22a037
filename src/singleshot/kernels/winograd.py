"""``winograd.c`` for NumPy's and torch's memory: what it needs to know of a layer, and how work is cut into blocks."""

from __future__ import annotations

import ctypes
import platform
import threading
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.kernels.library import load

LANES = 16
"""Channels that the kernel takes at once: a layer's are a multiple."""

TILE = 4
POINTS = 36

WORTHWHILE = 0.6
"""Share of a plain convolution's multiplications up to which these are done: border tiles are partly wasted."""

BLOCK = 48
"""Tiles that a thread takes at once: their numbers stay in its caches."""

LARGE_FILTERS = 12 * 2**20
"""Bytes of transformed filters from which on each thread had better take its part of them, for many tiles."""

LARGE_BLOCK = 120

GRADIENT_BLOCK = 64
"""The same for gradients of filters."""

_CHANNELS, _FILTERS = 128, 64
"""What the kernel takes together."""

_PARTS = 16
"""Parts of work that keep a few threads equally busy."""

FloatArray = NDArray[np.float32]
Pool = Literal["", "floor", "ceil"]

FUNCTIONS = ("convolve", "differentiate", "transform_filters", "workspace_size", "gradient_workspace_size")
_FLAGS = ("-fopenmp", "-ffp-contract=fast", "-Wno-psabi")


class ConvLayer(NamedTuple):
    """A convolution 3x3 of stride 1, with what follows it.

    Attributes:
        batch, channels, height, width: of the images.
        filters: output channels.
        padding: zeros on each side.
        dilation: distance of taps.
        relu: whether one follows.
        pool: 2x2 max pooling after that: none, or one that drops or keeps an odd last row and column.
    """

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    padding: int = 1
    dilation: int = 1
    relu: bool = False
    pool: Pool = ""

    @property
    def convolved_hw(self) -> tuple[int, int]:
        """Height and width before pooling."""
        grown = 2 * (self.padding - self.dilation)
        return self.height + grown, self.width + grown

    @property
    def out_hw(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = self.convolved_hw
        if not self.pool:
            return height, width
        return (-(-height // 2), -(-width // 2)) if self.pool == "ceil" else (height // 2, width // 2)

    @property
    def is_worthwhile(self) -> bool:
        """Whether this takes clearly fewer multiplications than a plain convolution."""
        height, width = self.convolved_hw
        if min(self.batch, *self.out_hw) < 1:
            return False
        tiles = len(_starts(height, self.dilation)) * len(_starts(width, self.dilation))
        return tiles * POINTS <= WORTHWHILE * height * width * 9


class _Layer(ctypes.Structure):
    """``layer_t`` of the kernel."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("height", "width", "channels", "out_height", "out_width", "filters", "padding", "dilation", "relu"),
            *("pool", "pooled_height", "pooled_width", "tiles", "block", "splits", "workspace"),
        )
    ]


class _Filters(ctypes.Structure):
    """``filters_t`` of the kernel."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("filters", "channels", "filter_step", "channel_step", "row_step", "col_step")
    ]


@lru_cache(maxsize=1)
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel; ``None`` where it cannot be had."""
    # On processors with whole vectors the compiler takes half ones unless told; others' does not know the flag.
    whole = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
    return bind(load("winograd", *_FLAGS, *whole, functions=FUNCTIONS))


def bind(library: ctypes.CDLL | None) -> ctypes.CDLL | None:
    """The library with the types of its functions."""
    if library is not None:
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        library.convolve.argtypes = [*[pointer] * 7, ctypes.c_int]
        library.differentiate.argtypes = [*[pointer] * 6, ctypes.c_int]
        library.transform_filters.argtypes = [*[pointer] * 3, ctypes.c_int]
        for function in (library.convolve, library.differentiate, library.transform_filters):
            function.restype = None
        for function in (library.workspace_size, library.gradient_workspace_size):
            function.argtypes, function.restype = [pointer], size
    return library


class Memory(NamedTuple):
    """Addresses of a layer's float32 numbers.

    Attributes:
        images: ``[B, H, W, C]``.
        points: what `transform_filters` made of the filters.
        bias: one for each filter, rounded up to `LANES`.
        output: ``[B, h, w, K]``.
    """

    images: int
    points: int
    bias: int
    output: int


def convolve(library: ctypes.CDLL, layer: ConvLayer, memory: Memory, threads: int) -> None:
    """Convolve a batch, with the ReLU and pooling behind it.

    Args:
        library: the bound kernel.
        layer: sizes.
        memory: what is read and written.
        threads: how many may work.

    Raises:
        ValueError: sizes that the kernel does not compute.
    """
    sizes, tiles = _sizes(layer, threads)
    sizes.block, sizes.splits = _plan(len(tiles), layer.channels, layer.filters, threads)
    sizes.workspace = library.workspace_size(ctypes.byref(sizes))
    workspace = _workspace(sizes.workspace * threads)
    library.convolve(ctypes.byref(sizes), tiles.ctypes.data, *memory, workspace.ctypes.data, threads)


def points_size(channels: int, filters: int) -> int:
    """Floats that the filters of a layer take at their points."""
    return POINTS * channels * _rounded(filters)


def transform_filters(
    library: ctypes.CDLL,
    weight: int,
    shape: tuple[int, int],
    steps: tuple[int, ...],
    points: int,
    threads: int,
) -> None:
    """Filters to their values at the points.

    Args:
        library: the bound kernel.
        weight: address of the first filter's first channel, row and column.
        shape: filters and channels.
        steps: floats from one filter, channel, row and column to the next; they may be negative.
        points: address of `points_size` floats.
        threads: how many may work.

    Raises:
        ValueError: no filter, no channel, or not four steps.
    """
    if min(*shape, threads) < 1 or len(steps) != 4:
        raise ValueError(f"filters and channels {shape}, steps {steps}, {threads} threads: expected 1 or more, 4 steps")
    library.transform_filters(ctypes.byref(_Filters(*shape, *steps)), weight, points, threads)


def filter_gradients(library: ctypes.CDLL, layer: ConvLayer, images: int, gradients: int, threads: int) -> FloatArray:
    """Gradients of a layer's filters.

    Args:
        library: the bound kernel.
        layer: sizes; without ReLU and pooling.
        images: address of ``[B, H, W, C]``.
        gradients: address of those of the output, ``[B, h, w, K]``.
        threads: how many may work.

    Returns:
        ``[3, 3, C, K]``, a view.

    Raises:
        ValueError: sizes that the kernel does not compute, a ReLU or pooling.
    """
    if layer.relu or layer.pool:
        raise ValueError(f"gradients of {layer}: expected no ReLU and no pooling")
    sizes, tiles = _sizes(layer, threads)
    padded = _rounded(layer.filters)
    parts = -(-layer.channels // _CHANNELS) * -(-padded // _FILTERS)
    sizes.block = min(GRADIENT_BLOCK, len(tiles))
    sizes.splits = max(1, min(-(-_PARTS // parts), len(tiles) // sizes.block))
    sizes.workspace = library.gradient_workspace_size(ctypes.byref(sizes))
    workspace = _workspace(sizes.workspace * threads)
    result = np.empty((sizes.splits, 9, layer.channels, padded), dtype=np.float32)
    addresses = (tiles.ctypes.data, images, gradients, result.ctypes.data, workspace.ctypes.data)
    library.differentiate(ctypes.byref(sizes), *addresses, threads)
    total: FloatArray = result[0] if len(result) == 1 else result.sum(axis=0)
    return total.reshape(3, 3, layer.channels, padded)[..., : layer.filters]


def _sizes(layer: ConvLayer, threads: int) -> tuple[_Layer, NDArray[np.int64]]:
    """What the kernel is told of a layer, but for how the work is cut, and its tiles."""
    height, width = layer.convolved_hw
    least = min(layer.batch, layer.channels, layer.filters, layer.dilation, threads, *layer.out_hw)
    if least < 1 or layer.channels % LANES or layer.padding < 0 or (layer.pool and layer.dilation > 1):
        raise ValueError(
            f"{layer} in {threads} threads: expected sizes of 1 or more, channels in {LANES}s, no pooling if dilated"
        )
    tiles = _tiles(layer.batch, height, width, layer.dilation)
    sizes = _Layer(
        *(layer.height, layer.width, layer.channels, height, width, layer.filters, layer.padding, layer.dilation),
        *(layer.relu, bool(layer.pool), *(layer.out_hw if layer.pool else (0, 0)), len(tiles)),
    )
    return sizes, tiles


def _rounded(filters: int) -> int:
    return -(-filters // LANES) * LANES


def _plan(tiles: int, channels: int, filters: int, threads: int) -> tuple[int, int]:
    """Tiles of a block, and parts that the filters are split into."""
    if 4 * POINTS * channels * filters > LARGE_FILTERS:
        return min(tiles, LARGE_BLOCK), min(-(-filters // _FILTERS), threads)
    return min(BLOCK, max(-(-tiles // (4 * threads) // 6) * 6, 12)), 1


@lru_cache(maxsize=256)
def _starts(size: int, dilation: int) -> NDArray[np.int64]:
    """Where tiles begin on one axis: a tile's outputs are ``dilation`` apart."""
    return np.concatenate([np.arange(phase, size, dilation * TILE) for phase in range(min(dilation, size))])


@lru_cache(maxsize=256)
def _tiles(batch: int, height: int, width: int, dilation: int) -> NDArray[np.int64]:
    """Image, row and column of every tile's first output, ``[tiles, 3]``."""
    axes = (np.arange(batch), _starts(height, dilation), _starts(width, dilation))
    return np.ascontiguousarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))


_local = threading.local()


def _workspace(floats: int) -> FloatArray:
    """Memory for what lies between the steps of a layer; a thread keeps it for its next one."""
    kept: FloatArray | None = getattr(_local, "workspace", None)
    if kept is None or len(kept) < floats:
        kept = _local.workspace = np.empty(floats, dtype=np.float32)
    return kept
