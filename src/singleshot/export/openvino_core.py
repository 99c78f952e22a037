"""The one OpenVINO runtime of a process."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

import openvino as ov

_users: list[int] = []
"""The process that started it."""


@lru_cache(maxsize=1)
def openvino_core() -> ov.Core:
    """The process's only ``Core``, never destroyed.

    On Linux its CPU plugin gives the thread an alternative stack for signals, and takes back the one before when it
    ends. Where several end out of order, that is memory already freed, and the next Ctrl-C is a segmentation fault
    (seen with OpenVINO 2026.4).
    """
    _users.append(os.getpid())
    return ov.Core()


def name_in_order(model: ov.Model) -> None:
    """Number the nodes that nobody named by their places.

    OpenVINO numbers them by how many the process has made: the same export would have other bytes.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{kind}_{place}")


def save_ir(model: ov.Model, path: Path, *, half: bool = False) -> None:
    """Write OpenVINO's two files, ``.xml`` and ``.bin``: the same model has the same bytes each time.

    Args:
        model: what.
        path: of the ``.xml``.
        half: whether numbers are kept in float16.

    Raises:
        OSError: they cannot be written; OpenVINO says no more than that a stream failed.
    """
    name_in_order(model)
    try:
        ov.save_model(model, path, compress_to_fp16=half)
    except RuntimeError as error:
        raise OSError(f"{path}: cannot be written ({str(error).strip()}): is the disk full?") from error


def must_be_alone() -> bool:
    """Whether a parent of this process had started OpenVINO before the fork: its threads are not here.

    Whatever wants more than the calling thread would wait for them for ever; one thread computes as usual.
    """
    return bool(_users) and _users[0] != os.getpid()
