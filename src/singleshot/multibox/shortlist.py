"""Candidates for NMS without computing every score: on most anchors all of them are far below the threshold.

The definition is plain: ``class_scores(output, config)``, the public classes' columns of it, and where these are above
``score_threshold``. `shortlist` finds the same pairs in the same order, bit for bit, and exponentiates few anchors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from singleshot.core.postprocess import Reach, reach
from singleshot.core.settings import PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.multibox.scores import class_scores, take_columns


class Candidates(NamedTuple):
    """What scores enough to be looked at, in the order of images, anchors, classes; ``[N]`` each."""

    scores: Tensor
    images: Tensor
    anchors: Tensor
    class_ids: Tensor

    def pick(self, which: Tensor) -> Candidates:
        """Some of them, by index or mask."""
        return Candidates(*(column[which] for column in self))


def shortlist(output: HeadOutput | RefineOutput, columns: tuple[int, ...], config: PostprocessConfig) -> Candidates:
    """Pairs of anchor and class that score above the threshold. Only anchors that have one are exponentiated.

    Args:
        output: raw heads.
        columns: the logit column of each public class.
        config: threshold and dialect.
    """
    _, anchors, width = output.class_logits.shape
    class_of = torch.full((width,), -1, dtype=torch.int64)
    class_of[list(columns)] = torch.arange(len(columns))
    unused = (class_of < 0).nonzero().squeeze(1)
    logits = output.class_logits.float()
    hopeful = _hopeful(logits, reach(width, columns, config)).index_fill_(2, unused.to(logits.device), False)
    places = _true_places(hopeful.flatten())
    rows, own = torch.unique_consecutive(places // width, return_inverse=True)
    scores = class_scores(_at(output, rows), config)
    if config.candidates == "best_class":
        best, class_ids = take_columns(scores, columns).max(dim=-1)
        return _above(Candidates(best, rows // anchors, rows % anchors, class_ids), config.score_threshold)
    rows, class_ids = places // width, class_of.to(logits.device)[places % width]
    scores = scores[own, places % width]
    return _above(Candidates(scores, rows // anchors, rows % anchors, class_ids), config.score_threshold)


def _hopeful(logits: Tensor, needed: Reach) -> Tensor:
    """Which logits can score above the threshold; a few more than do, ``[B, A, K]`` bool."""
    if needed.least == -math.inf:
        return torch.ones_like(logits, dtype=torch.bool)
    if needed.background < 0:
        return logits > needed.least
    least = logits[..., needed.background, None] + needed.least
    return logits > least.nextafter(least.new_tensor(-torch.inf))  # whichever way the sum was rounded


def _at(output: HeadOutput | RefineOutput, rows: Tensor) -> HeadOutput | RefineOutput:
    """The logits of some anchors of the flattened batch, ``[R, K]``."""
    if isinstance(output, RefineOutput):
        arm_logits = output.arm_logits.flatten(0, 1)[rows]
        return output._replace(class_logits=output.class_logits.flatten(0, 1)[rows], arm_logits=arm_logits)
    return output._replace(class_logits=output.class_logits.flatten(0, 1)[rows])


def _above(found: Candidates, threshold: float) -> Candidates:
    return found.pick((found.scores > threshold).nonzero().squeeze(1))


def _true_places(mask: Tensor) -> Tensor:
    """Where a mask ``[N]`` of few true values is true: it is searched in words of eight, most of which are 0."""
    padded = F.pad(mask, (0, -len(mask) % 8))
    words = padded.view(torch.int64).nonzero().squeeze(1)
    word, byte = padded.view(-1, 8)[words].nonzero(as_tuple=True)
    return words[word] * 8 + byte
