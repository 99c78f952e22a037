"""The memory that a graph from a file may ask for: a few bytes of it can describe a tensor of terabytes."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from singleshot.core.lazy import lazy_module
from singleshot.errors import WeightsError

if TYPE_CHECKING:
    import openvino as ov
else:
    ov = lazy_module("openvino")

WHERE_UNKNOWN = 2**33
"""Where the system does not tell how much memory it has."""


@lru_cache(maxsize=1)
def most_bytes() -> int:
    """Half of the machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return WHERE_UNKNOWN


@lru_cache(maxsize=1)
def limit_onnx_runtime() -> dict[str, str]:
    """Gives ONNX Runtime an allocator with a limit, once for the process.

    Returns:
        Entries for the options of sessions that are to use it.
    """
    import onnxruntime

    own = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(own, onnxruntime.OrtArenaCfg({"max_mem": most_bytes()}))
    return {"session.use_env_allocators": "1"}


def check_tensors(model: ov.Model, *, fixed: bool) -> None:
    """Whether the tensors of a network are of bearable sizes, as far as it tells them before it runs.

    Args:
        model: a network.
        fixed: whether its input has a size, so that all others must have one.

    Raises:
        WeightsError: one is too large, or computed while the network runs.
    """
    for node in model.get_ordered_ops():
        for output in node.outputs():
            shape, name = output.get_partial_shape(), node.get_friendly_name()
            if fixed and shape.is_dynamic:
                raise WeightsError(f"layer '{name}' computes its size {shape} while it runs")
            sides = () if shape.rank.is_dynamic else [side.get_min_length() for side in shape]
            size = output.get_element_type().bitwidth * math.prod(sides) // 8
            if size > most_bytes():
                raise WeightsError(
                    f"layer '{name}' asks for {size:,} bytes; at most half of the memory, {most_bytes():,}, are given: "
                    "a damaged file, or too large a batch"
                )
