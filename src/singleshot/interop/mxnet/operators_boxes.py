"""MXNet's general box operators: ``box_nms``, ``box_iou``, ``bipartite_matching``."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from singleshot.core.boxes import cxcywh_to_xyxy, pairwise_iou, xyxy_to_cxcywh
from singleshot.core.nms_kinds import NmsConfig
from singleshot.multibox.matching import greedy_bipartite
from singleshot.multibox.nms import greedy_nms, rank_in_groups

Format = Literal["corner", "center"]


def box_nms(
    data: Tensor,
    overlap_thresh: float = 0.5,
    valid_thresh: float = 0.0,
    topk: int = -1,
    coord_start: int = 2,
    score_index: int = 1,
    id_index: int = -1,
    background_id: int = -1,
    force_suppress: bool = False,
    in_format: Format = "corner",
    out_format: Format = "corner",
) -> Tensor:
    """``box_nms``: survivors move to the front by score, all other rows become -1.

    Args:
        data: rows of numbers, ``[..., n, k]``.
        overlap_thresh: suppress above this IoU.
        valid_thresh: rows need a score above this.
        topk: best rows that enter if positive; 0 returns the input.
        coord_start: column of the first of four coordinates.
        score_index: column of the score.
        id_index: column of the class id; negative if there is none, and all rows suppress each other.
        background_id: rows of this id are dropped; only with ``id_index``.
        force_suppress: suppress across ids.
        in_format, out_format: corners, or centre and size. Rows whose first coordinate is negative stay as they are.

    Returns:
        ``[..., n, k]``. The gradient goes to each survivor's original row.

    Raises:
        ValueError: the score column lies among the coordinates, or a column does not exist.
    """
    if coord_start <= score_index < coord_start + 4:
        raise ValueError(f"score_index {score_index} lies among the coordinates {coord_start}..{coord_start + 3}")
    width = data.shape[-1] if data.dim() else 0
    if (
        data.dim() < 2
        or coord_start < 0
        or coord_start + 4 > width
        or not 0 <= score_index < width
        or id_index >= width
    ):
        raise ValueError(f"data {tuple(data.shape)} lacks a column among coordinates, score and id")
    _check_format(in_format)
    _check_format(out_format)
    if topk == 0 or data.numel() == 0:
        return data
    flat = data.reshape(-1, data.shape[-2], width)
    images, rows = _survivors(
        flat.detach(), overlap_thresh, valid_thresh, topk, coord_start, score_index, id_index, background_id,
        force_suppress, in_format,
    )  # fmt: skip
    chosen = flat[images, rows]
    is_left = chosen[:, coord_start, None] < 0  # MXNet takes a negative first coordinate for a row of -1
    survivors = torch.where(is_left, chosen, _reformat(chosen, coord_start, in_format, out_format))
    result = torch.full_like(flat, -1.0).index_put((images, rank_in_groups(images)), survivors)
    return result.view(data.shape)


def _survivors(
    flat: Tensor,
    overlap_thresh: float,
    valid_thresh: float,
    topk: int,
    coord_start: int,
    score_index: int,
    id_index: int,
    background_id: int,
    force_suppress: bool,
    in_format: Format,
) -> tuple[Tensor, Tensor]:
    """Image and row of each survivor, by image and falling score."""
    valid = flat[..., score_index] > valid_thresh
    if id_index >= 0:
        valid &= flat[..., id_index] != background_id
    images, rows = valid.nonzero(as_tuple=True)
    order = torch.argsort(flat[images, rows, score_index], descending=True, stable=True)
    order = order[torch.argsort(images[order], stable=True)]
    order = order[rank_in_groups(images) < topk] if topk > 0 else order
    images, rows = images[order], rows[order]
    found = flat[images, rows]
    boxes = found[:, coord_start : coord_start + 4]
    boxes = cxcywh_to_xyxy(boxes) if in_format == "center" else boxes
    kinds = found[:, id_index] if id_index >= 0 and not force_suppress else torch.zeros_like(found[:, 0])
    groups = torch.unique(torch.stack([images.to(kinds.dtype), kinds]), dim=1, return_inverse=True)[1]
    kept = greedy_nms(found[:, score_index], images, groups, lambda which: boxes[which], NmsConfig(overlap_thresh)).rows
    return images[kept], rows[kept]


def _reformat(rows: Tensor, start: int, in_format: Format, out_format: Format) -> Tensor:
    """Rows with their coordinates in another format; the gradient passes as if nothing had changed, as in MXNet."""
    if in_format == out_format:
        return rows
    boxes = rows[:, start : start + 4].detach()
    changed = rows.detach().clone()
    changed[:, start : start + 4] = cxcywh_to_xyxy(boxes) if out_format == "corner" else xyxy_to_cxcywh(boxes)
    return rows + (changed - rows.detach())


def box_iou(lhs: Tensor, rhs: Tensor, format: Format = "corner") -> Tensor:
    """``box_iou``: IoU of every box with every box, ``[a..., 4]`` and ``[b..., 4]`` to ``[a..., b...]``. No gradient.

    Raises:
        ValueError: the last dimension is not 4, or the format is unknown.
    """
    _check_format(format)
    if not (lhs.dim() and rhs.dim() and lhs.shape[-1] == rhs.shape[-1] == 4):
        raise ValueError(f"boxes must have 4 columns: {tuple(lhs.shape)} and {tuple(rhs.shape)}")
    boxes = [side.detach().reshape(-1, 4) for side in (lhs, rhs)]
    if format == "center":
        boxes = [cxcywh_to_xyxy(side) for side in boxes]
    return pairwise_iou(boxes[0], boxes[1]).view(lhs.shape[:-1] + rhs.shape[:-1])


@torch.no_grad()
def bipartite_matching(
    data: Tensor, threshold: float, is_ascend: bool = False, topk: int = -1
) -> tuple[Tensor, Tensor]:
    """``bipartite_matching``: greedily pair rows and columns by score.

    Args:
        data: scores, ``[..., N, M]``.
        threshold: pairs need a score above this, below it if ``is_ascend``.
        is_ascend: small scores are the good ones.
        topk: if positive, one pair more than this at most, as in MXNet.

    Returns:
        Column of each row, ``[..., N]``, and row of each column, ``[..., M]``; -1 where there is none; float32.

    Raises:
        ValueError: fewer than two dimensions.
    """
    if data.dim() < 2:
        raise ValueError(f"data must be [..., N, M], not {tuple(data.shape)}")
    count, width = data.shape[-2:]
    sign = -1.0 if is_ascend else 1.0
    scores = sign * data.reshape(math.prod(data.shape[:-2]), count, width)
    row_of_column = greedy_bipartite(scores.transpose(1, 2), sign * threshold)
    if topk > 0:
        row_of_column = _best_pairs(scores, row_of_column, topk + 1)
    column_of_row = torch.full((len(scores), count + 1), -1, dtype=torch.int64, device=data.device)
    columns = torch.arange(width, device=data.device).expand_as(row_of_column)
    column_of_row.scatter_(1, torch.where(row_of_column < 0, count, row_of_column), columns)
    shape = data.shape[:-2]
    return column_of_row[:, :count].reshape(*shape, count).float(), row_of_column.reshape(*shape, width).float()


def _best_pairs(scores: Tensor, row_of_column: Tensor, limit: int) -> Tensor:
    """The first ``limit`` pairs that the greedy pass makes: the best scores, equal ones by row."""
    by_row = torch.argsort(row_of_column, dim=1, stable=True)
    rows = row_of_column.gather(1, by_row)
    values = scores.transpose(1, 2).gather(2, row_of_column.clamp(min=0)[..., None]).squeeze(2).gather(1, by_row)
    order = torch.argsort(values.masked_fill(rows < 0, -torch.inf), dim=1, descending=True, stable=True)
    dropped = by_row.gather(1, order[:, limit:])
    return row_of_column.scatter(1, dropped, -1)


def _check_format(value: str) -> None:
    if value not in ("corner", "center"):
        raise ValueError(f"the format of boxes is 'corner' or 'center', not {value!r}")
