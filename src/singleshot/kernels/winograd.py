"""``winograd.c`` for NumPy's and torch's memory: what it needs to know of a layer, and how work is cut into blocks."""

from __future__ import annotations

import ctypes
import threading
from functools import lru_cache
from typing import NamedTuple

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

# Values of a filter's row at 0, 1, -1, 2, -2 and infinity, over the constants that the kernel's transforms leave out.
_TO_POINTS = np.array(
    [
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ]
)
TO_POINTS = np.kron(_TO_POINTS, _TO_POINTS)
"""A flat 3x3 filter to its values at the 36 points, ``[36, 9]``."""

_FLAGS = ("-fopenmp", "-ffp-contract=fast", "-Wno-psabi")


class Layer(NamedTuple):
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
    pool: str = ""

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


@lru_cache(maxsize=1)
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel; ``None`` where it cannot be had."""
    # Some processors' compilers take half vectors unless told, others do not know the flag.
    return bind(load("winograd", *_FLAGS, "-mprefer-vector-width=512") or load("winograd", *_FLAGS))


def bind(library: ctypes.CDLL | None) -> ctypes.CDLL | None:
    """The library with the types of its functions."""
    if library is not None:
        library.convolve.argtypes = [*[ctypes.c_void_p] * 7, ctypes.c_int]
        library.convolve.restype = None
        library.workspace_size.argtypes = [ctypes.c_void_p]
        library.workspace_size.restype = library.panel_width.restype = ctypes.c_int64
    return library


class Addresses(NamedTuple):
    """Where a layer's float32 numbers are.

    Attributes:
        images: ``[B, H, W, C]``.
        filters: panels ``[36, C, panel]`` behind each other; the last one is as wide as the filters that are left,
            rounded up to `LANES`.
        bias: one for each filter, rounded up to `LANES`.
        output: ``[B, h, w, K]``.
    """

    images: int
    filters: int
    bias: int
    output: int


def convolve(library: ctypes.CDLL, layer: Layer, memory: Addresses, threads: int) -> None:
    """Run the kernel.

    Args:
        library: the bound kernel.
        layer: sizes.
        memory: what it reads and writes.
        threads: how many may work.
    """
    height, width = layer.convolved_hw
    tiles = _tiles(layer.batch, height, width, layer.dilation)
    block, splits = _plan(len(tiles), layer.channels, layer.filters, threads, library.panel_width())
    pooled = layer.out_hw if layer.pool else (0, 0)
    sizes = _Layer(
        *(layer.height, layer.width, layer.channels, height, width, layer.filters, layer.padding, layer.dilation),
        *(layer.relu, bool(layer.pool), *pooled, len(tiles), block, splits),
    )
    sizes.workspace = library.workspace_size(ctypes.byref(sizes))
    workspace = _workspace(sizes.workspace * threads)
    library.convolve(ctypes.byref(sizes), tiles.ctypes.data, *memory, workspace.ctypes.data, threads)


def _plan(tiles: int, channels: int, filters: int, threads: int, panel: int) -> tuple[int, int]:
    """Tiles of a block, and parts that the filters are split into."""
    if 4 * POINTS * channels * filters > LARGE_FILTERS:
        return min(tiles, LARGE_BLOCK), min(-(-filters // panel), threads)
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


def _workspace(floats: int) -> NDArray[np.float32]:
    """Memory for what lies between the steps of a layer; a thread keeps it for its next one."""
    kept: NDArray[np.float32] | None = getattr(_local, "workspace", None)
    if kept is None or len(kept) < floats:
        kept = _local.workspace = np.empty(floats, dtype=np.float32)
    return kept
