"""How images with different numbers of objects and positives are computed at once: as rows of a flattened batch.

On the host only the rows that count are gathered, so that padding costs nothing. On a GPU all rows are worked on and
the others weigh nothing, because counting them would wait for the device. Both give what `plain` computes image by
image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ObjectRows(NamedTuple):
    """Objects of a batch as rows.

    Attributes:
        slots: their places in the flattened ``[B * M]``, ``[R]`` int64.
        images: their images, rising, ``[R]`` int64.
    """

    slots: Tensor
    images: Tensor


def counting_is_free(tensor: Tensor) -> bool:
    """Whether rows of a mask may be counted, so that only they are worked on; otherwise all are, with weights."""
    return tensor.device.type == "cpu"


def object_rows(valid: Tensor) -> ObjectRows:
    """Rows of the objects of a batch, ``[B, M]`` bool; all ``B * M`` unless counting is free."""
    batch, objects = valid.shape
    slots = torch.arange(batch * objects, device=valid.device)
    slots = slots[valid.flatten()] if counting_is_free(valid) else slots
    return ObjectRows(slots, slots // max(1, objects))


def masked_rows(mask: Tensor) -> Tensor | slice:
    """Which rows of a flattened batch a `masked_sum` needs: those in ``mask``, or all unless counting is free."""
    return mask.flatten().nonzero().squeeze(1) if counting_is_free(mask) else slice(None)


def masked_sum(losses: Tensor, mask: Tensor) -> Tensor:
    """Sum over the rows of ``mask``, where ``losses`` holds those that `masked_rows` names."""
    return losses.sum() if counting_is_free(mask) else torch.where(mask.flatten(), losses, 0.0).sum()
