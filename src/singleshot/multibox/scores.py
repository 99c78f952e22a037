"""Scores of a network's logits, for every class of every anchor."""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.core.settings import PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput


def class_scores(output: HeadOutput | RefineOutput, config: PostprocessConfig) -> Tensor:
    """Probabilities of all columns, 0 where RefineDet's first step sees no object, ``[..., K]`` float32."""
    logits = output.class_logits.float()
    scores = logits.softmax(dim=-1) if config.score_function == "softmax" else logits.sigmoid()
    if isinstance(output, RefineOutput):
        objectness = output.arm_logits.float().softmax(dim=-1)[..., 1:]
        scores.masked_fill_(objectness <= config.min_objectness, 0.0)
    return scores


def take_columns(scores: Tensor, columns: tuple[int, ...]) -> Tensor:
    """Some columns, ``[..., K]`` -> ``[..., C]``, as slices: an index list would have to be sent to the device."""
    breaks = [i for i in range(1, len(columns)) if columns[i] != columns[i - 1] + 1]
    runs = [columns[i:j] for i, j in zip([0, *breaks], [*breaks, len(columns)], strict=True)]
    return torch.cat([scores[..., run[0] : run[-1] + 1] for run in runs], dim=-1)
