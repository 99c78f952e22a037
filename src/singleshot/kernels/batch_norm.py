"""Binding of ``batch_norm.c``: addresses of numbers that lie as rows of channels, and checks before C reads them."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import NamedTuple

from singleshot.kernels.library import load

FUNCTIONS = ("batch_statistics", "normalise", "gradient_sums", "input_gradient")
_FLAGS = ("-fopenmp", "-ffp-contract=fast", "-fno-trapping-math")

ROWS_A_THREAD = 512
"""Fewer rows are not worth another thread."""


class RowSizes(NamedTuple):
    """What the kernel works on.

    Attributes:
        rows, channels: of ``x``, at least 1.
        low, high: of the clamp behind the normalisation; infinite where there is none.
        hard_swish: whether ``v * clamp(v + 3, 0, 6) / 6`` stands in its place; the clamp is the one in it.
    """

    rows: int
    channels: int
    low: float
    high: float
    hard_swish: bool = False

    def parts(self, threads: int) -> int:
        """Threads that are worth it."""
        return max(1, min(threads, self.rows // ROWS_A_THREAD))


class Sizes(ctypes.Structure):
    """``sizes_t`` of the kernel."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
        ("hard_swish", ctypes.c_int32),
    )


@lru_cache(maxsize=1)
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel; ``None`` where it cannot be had."""
    library = load("batch_norm", *_FLAGS, functions=FUNCTIONS)
    if library is not None:
        pointers = {"batch_statistics": 5, "normalise": 5, "gradient_sums": 8, "input_gradient": 9}
        for name, count in pointers.items():
            function = getattr(library, name)
            function.argtypes, function.restype = [*[ctypes.c_void_p] * count, ctypes.c_int], None
    return library


def c_sizes(sizes: RowSizes) -> ctypes.Structure:
    """``sizes_t``.

    Raises:
        ValueError: no row or no channel.
    """
    if min(sizes.rows, sizes.channels) < 1:
        raise ValueError(f"{sizes.rows} rows of {sizes.channels} channels: expected 1 or more of both")
    return Sizes(*sizes)
