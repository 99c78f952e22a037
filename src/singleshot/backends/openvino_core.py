"""The one OpenVINO runtime of a process."""

from __future__ import annotations

from functools import lru_cache

import openvino as ov


@lru_cache(maxsize=1)
def openvino_core() -> ov.Core:
    """The process's only ``Core``, never destroyed.

    On Linux its CPU plugin gives the thread an alternative stack for signals, and takes back the one before when it
    ends. Where several end out of order, that is memory already freed, and the next Ctrl-C is a segmentation fault
    (seen with OpenVINO 2026.4).
    """
    return ov.Core()
