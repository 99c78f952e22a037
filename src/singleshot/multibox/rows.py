"""Where shapes may depend on data: on the host at will; on a GPU every such question would wait for the device."""

from __future__ import annotations

from torch import Tensor


def counting_is_free(tensor: Tensor) -> bool:
    """Whether rows of a mask may be counted, so that only they are worked on; otherwise all are, with weights."""
    return tensor.device.type == "cpu"
