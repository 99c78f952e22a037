"""Whether an exported file finds what the detector finds: both run on the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.core.postprocess import HeadGeometry, Heads
from singleshot.core.settings import PostprocessConfig
from singleshot.core.wording import counted
from singleshot.export.decoded import as_heads, geometry_of_decoded, settings_of_decoded
from singleshot.export.info import ExportInfo, Precision
from singleshot.export.writers import Origin, Run
from singleshot.images.preprocess import preprocess_image

if TYPE_CHECKING:
    import torch

    import singleshot.core.structures as structures
    import singleshot.multibox.decode as decode
    import singleshot.multibox.scores as scores
else:
    decode = lazy_module("singleshot.multibox.decode")
    scores = lazy_module("singleshot.multibox.scores")
    structures = lazy_module("singleshot.core.structures")
    torch = lazy_module("torch")

Picture = NDArray[np.uint8]

PICTURES = 20
PAIRS_OF_A_PICTURE = 30
"""Where fewer pairs of a box and a class score enough, the least score is lowered for the comparison."""
BATCH = 3
SAME_OBJECT, SAME_BOX = 0.5, 0.95
"""IoU from which two boxes of a class are one object, and in ``fp32`` one box."""
FLAT_PX, FLAT_DIFFERENCE_PX = 1.0, 0.05
"""Boxes of less area are equal when their corners are so near: rounding is a large part of them."""
NEAR_IOU = 1e-4
"""How near to NMS's threshold an overlap may be for rounding to decide which box survives."""


class Bar(NamedTuple):
    """What is asked of a file.

    Attributes:
        iou: of each box and its counterpart in ``fp32``, on average in what is rounded.
        score: largest difference of scores.
        matched: share of the boxes that have a counterpart.
    """

    iou: float
    score: float
    matched: float


BARS: dict[Precision, Bar] = {"fp32": Bar(0.999, 1e-3, 1.0), "fp16": Bar(0.98, 0.05, 0.9), "int8": Bar(0.8, 0.5, 0.6)}


class Found(NamedTuple):
    """Detections of one picture, best first: ``[N, 4]``, ``[N]``, ``[N]``."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def without(self, rows: NDArray[np.int64]) -> Found:
        """The others."""
        rest = np.setdiff1d(np.arange(len(self.scores)), rows)
        return Found(self.boxes_xyxy[rest], self.scores[rest], self.class_ids[rest])


@dataclass(frozen=True, slots=True)
class Verification:
    """How a file and its detector agree.

    Attributes:
        pictures: how many both looked at; some of them once more, as a batch.
        origin: what the pictures are.
        score: least score of the boxes that were compared.
        boxes, file_boxes: found by the detector and by the file.
        matched: that are in both.
        at_threshold: in one of them, since a score or an overlap is within rounding of its threshold, or two boxes of
            which NMS keeps one score the same but for rounding.
        least_iou, mean_iou: of matched boxes.
        score_difference: the largest, of matched boxes.
        bar: what was asked.
    """

    pictures: int
    origin: str
    score: float
    boxes: int
    file_boxes: int
    matched: int
    at_threshold: int
    least_iou: float
    mean_iou: float
    score_difference: float
    bar: Bar

    @property
    def agrees(self) -> bool:
        """Whether the bar is met."""
        missing = max(self.boxes, self.file_boxes) - self.matched - self.at_threshold
        share = 1 - missing / max(self.boxes, self.file_boxes, 1)
        iou = self.least_iou if self.bar.matched == 1 else self.mean_iou
        return share >= self.bar.matched and iou >= self.bar.iou and self.score_difference <= self.bar.score

    def __str__(self) -> str:
        border = f", {self.at_threshold} at a threshold" if self.at_threshold else ""
        return (
            f"{counted(self.pictures, 'picture')} ({self.origin}), least score {self.score:.3g}: "
            f"{counted(self.boxes, 'box', 'boxes')} by the detector, {self.file_boxes:,} by the file, {self.matched:,} "
            f"matched{border}; IoU at least {self.least_iou:.4f}, on average {self.mean_iou:.4f}; scores differ by "
            f"{self.score_difference:.1e} at most"
        )


class _Meaning(NamedTuple):
    """What heads mean: those of the network, or `as_heads` of a decoded file."""

    geometry: HeadGeometry
    settings: PostprocessConfig


def verify(
    origin: Origin,
    info: ExportInfo,
    open_file: Callable[[float], Run],
    pictures: Sequence[Picture],
    words: str,
    batches: Sequence[int] = (BATCH,),
) -> Verification:
    """Run the detector (torch, and the plain form of heads-to-boxes) and its file, and compare what they find.

    Args:
        origin: the detector.
        info: what its file is.
        open_file: opens the file, or one that is equal but for this least score.
        pictures: RGB uint8 ``[H, W, 3]`` of any sizes.
        words: what they are.
        batches: the first so many pictures go in once more, together.
    """
    from singleshot.models.build import build_anchors

    network, spec = origin.network.copy(), info.spec
    groups = _groups(pictures, info, batches)
    with torch.inference_mode():
        outputs = [network(torch.from_numpy(_inputs(group, info))) for group in groups]
    score = min(info.score, _crowded_score(outputs, spec.postprocess))
    settings = info.postprocess.model_copy(update={"score_threshold": score})
    anchors = build_anchors(spec, network).numpy()
    geometry = HeadGeometry(anchors, spec.coder, spec.preprocess.size_hw, len(spec.class_names))
    same = SAME_BOX if info.precision == "fp32" else SAME_OBJECT
    run, tally = open_file(score), _Tally(same, settings.nms_iou - NEAR_IOU)
    for group, output in zip(groups, outputs, strict=True):
        heads = [part.numpy() for part in output]
        ours = [_of_heads(heads, _Meaning(geometry, one), group) for one in (settings, *_near(settings))]
        before_nms = partial(_of_heads, heads, _Meaning(geometry, _before_nms(settings, geometry)), group)
        theirs = _of_file(run, info, _Meaning(geometry, settings), group)
        for number, found in enumerate(theirs):
            near = [one[number] for one in ours[1:]]
            every = partial(_call_and_take, before_nms, number)
            tally.add(ours[0][number], near, every, found, score + BARS["fp32"].score)
    return tally.result(len(pictures), words, score, BARS[info.precision])


def _groups(pictures: Sequence[Picture], info: ExportInfo, batches: Sequence[int]) -> list[list[Picture]]:
    """Each alone, and the first few as batches; brought to one size, or to the input's where the file wants that."""
    height, width = info.spec.preprocess.size_hw
    if info.level == "end2end" and not info.dynamic:
        pictures = [_to_size(picture, (width, height)) for picture in pictures]
    size = (pictures[0].shape[1], pictures[0].shape[0])
    together = [[_to_size(picture, size) for picture in pictures[:count]] for count in batches]
    return [[picture] for picture in pictures] + [batch for batch in together if len(batch) > 1]


def _to_size(picture: Picture, size_wh: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(picture, size_wh), np.uint8)


def _inputs(group: Sequence[Picture], info: ExportInfo) -> NDArray[np.float32]:
    return np.stack([preprocess_image(picture, info.spec.preprocess) for picture in group])


def _crowded_score(outputs: Sequence[Any], settings: PostprocessConfig) -> float:
    """What enough pairs of most pictures exceed: a detector that finds nothing proves nothing."""
    best: list[float] = []
    for output in outputs:
        every = scores.class_scores(output, settings)[..., settings.class_columns or slice(1, None)].flatten(1)
        best += every.topk(min(PAIRS_OF_A_PICTURE, every.shape[1]), dim=1).values[:, -1].tolist()
    return float(np.median(best))


def _near(settings: PostprocessConfig) -> list[PostprocessConfig]:
    """Settings between which rounding may choose: an overlap at NMS's threshold, the last of the best candidates."""
    changes: list[dict[str, Any]] = [
        {"nms_iou": min(max(settings.nms_iou + step, 0.0), 1.0)} for step in (NEAR_IOU, -NEAR_IOU)
    ]
    if settings.pre_nms_top_k is not None:
        changes += [{"pre_nms_top_k": max(settings.pre_nms_top_k + step, 1)} for step in (1, -1)]
    more = {"max_detections": settings.max_detections + 1}
    return [settings.model_copy(update=change | more) for change in changes]


def _before_nms(settings: PostprocessConfig, geometry: HeadGeometry) -> PostprocessConfig:
    """Settings that keep all candidates."""
    most = len(geometry.anchors_cxcywh) * (geometry.num_classes or 1)
    return settings.model_copy(update={"nms": "none", "max_per_class": None, "max_detections": most})


def _call_and_take(compute: Callable[[], list[Found]], number: int) -> Found:
    return compute()[number]


def _of_heads(heads: Heads, meaning: _Meaning, group: Sequence[Picture]) -> list[Found]:
    """Detections in pixels of the pictures, by the plain form."""
    tensors = [torch.from_numpy(np.ascontiguousarray(head)) for head in heads]
    output = structures.HeadOutput(*tensors) if len(tensors) == 2 else structures.RefineOutput(*tensors)
    (anchors, coder, size_hw, classes), settings = meaning
    padded = decode.postprocess(output, torch.from_numpy(anchors), settings, coder, size_hw, classes)
    boxes, best, ids, counts = (part.numpy() for part in padded)
    shares = boxes / np.array(size_hw[::-1] * 2, np.float32)
    sides = np.array([[*picture.shape[1::-1]] * 2 for picture in group], np.float32)
    return _cut(shares * sides[:, None], best, ids, counts)


def _of_file(run: Run, info: ExportInfo, meaning: _Meaning, group: Sequence[Picture]) -> list[Found]:
    """What a file finds; steps that it lacks are the plain ones."""
    if info.level == "end2end":
        batch = np.stack(group)
        return _cut(*run(batch if info.layout == "nhwc" else batch.transpose(0, 3, 1, 2)))
    given = run(_inputs(group, info))
    if info.level == "decoded":
        boxes, every = given
        count, classes = every.shape[1:]
        geometry = geometry_of_decoded(count, meaning.geometry.size_hw, classes)
        given, meaning = as_heads(boxes, every), _Meaning(geometry, settings_of_decoded(meaning.settings, classes))
    return _of_heads(given, meaning, group)


def _cut(boxes: NDArray[Any], best: NDArray[Any], ids: NDArray[Any], counts: NDArray[Any]) -> list[Found]:
    """Padded rows as one record for each picture."""
    return [Found(boxes[k, :n], best[k, :n], ids[k, :n]) for k, n in enumerate(counts.tolist())]


class _Tally:
    """Boxes and their counterparts, picture by picture.

    Args:
        same: IoU from which two boxes are counterparts.
        suppressed: IoU from which NMS may take one of two boxes, whichever scores more.
    """

    def __init__(self, same: float, suppressed: float) -> None:
        self._same, self._suppressed = same, suppressed
        self.boxes = self.file_boxes = self.at_threshold = 0
        self.ious: list[NDArray[np.float32]] = [np.ones(0, np.float32)]
        self.differences: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]

    def add(self, ours: Found, near: Sequence[Found], every: Callable[[], Found], theirs: Found, sure: float) -> None:
        """Compare what was found in a picture.

        Args:
            ours: by the detector.
            near: by the detector with settings that rounding may mean (`_near`).
            every: gives what the detector finds before NMS.
            theirs: by the file.
            sure: a score above this is over the threshold however it was rounded.
        """
        mine, yours, iou = counterparts(ours, theirs, self._same)
        self.boxes, self.file_boxes = self.boxes + len(ours.scores), self.file_boxes + len(theirs.scores)
        self.ious.append(iou)
        self.differences.append(np.abs(ours.scores[mine] - theirs.scores[yours]))
        missed, added = ours.without(mine), theirs.without(yours)
        if len(missed.scores) and len(added.scores):
            missed, added = self._without_ties(missed, added, every())
        # Missing is forgiven where rounding may take a box away, more is where it may add one.
        steady = [len(counterparts(missed, other, self._same)[0]) for other in near]
        possible = [len(counterparts(added, other, self._same)[0]) for other in near]
        unsure = [int((found.scores <= sure).sum()) for found in (missed, added)]
        forgiven = max(len(missed.scores) - min(steady), unsure[0]), max(*possible, unsure[1])
        self.at_threshold += max(forgiven)

    def _without_ties(self, missed: Found, added: Found, every: Found) -> tuple[Found, Found]:
        """Without pairs of which NMS keeps the better one, where their scores are equal but for rounding.

        Both must be boxes of the detector: one that is only near such a box is in the wrong place.
        """
        bar = BARS["fp32"]
        mine, yours, _ = counterparts(missed, added, self._suppressed)
        ours = np.full(len(added.scores), -1)
        same = counterparts(added, every, bar.iou)
        ours[same[0]] = same[1]
        equal = (ours[yours] >= 0) & (np.abs(missed.scores[mine] - every.scores[ours[yours]]) <= bar.score)
        equal &= np.abs(added.scores[yours] - every.scores[ours[yours]]) <= bar.score
        self.at_threshold += int(equal.sum())
        return missed.without(mine[equal]), added.without(yours[equal])

    def result(self, pictures: int, words: str, score: float, bar: Bar) -> Verification:
        """All of them together."""
        iou, differences = np.concatenate(self.ious), np.concatenate(self.differences)
        return Verification(
            pictures, words, score, self.boxes, self.file_boxes, len(iou), self.at_threshold,
            float(iou.min(initial=1.0)), float(iou.mean()) if len(iou) else 1.0,
            float(differences.max(initial=0.0)), bar,
        )  # fmt: skip


def counterparts(
    ours: Found, theirs: Found, same: float = SAME_OBJECT
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of boxes of a class that overlap by ``same``, each box in one pair at most: rows in both, and their IoU."""
    overlaps = _iou(ours.boxes_xyxy[:, None], theirs.boxes_xyxy[None])
    overlaps[ours.class_ids[:, None] != theirs.class_ids[None]] = 0
    left = overlaps.copy()
    pairs = []
    for row in range(len(left)):  # best first, as in the protocols of VOC and COCO
        column = int(left[row].argmax()) if left.shape[1] else -1
        if column >= 0 and left[row, column] >= same:
            pairs.append((row, column))
            left[:, column] = 0
    mine, yours = np.array(pairs, np.int64).reshape(-1, 2).T
    return mine, yours, overlaps[mine, yours]


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of boxes that broadcast; 1 of two equal ones, also where at the edge of a picture they cover next to nothing."""
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0)
    shared = sides.prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(min=0).prod(-1) for box in (a, b)]
    difference = np.abs(a - b).max(axis=-1)
    equal = difference <= np.where(np.minimum(*areas) <= FLAT_PX, FLAT_DIFFERENCE_PX, 1e-3)
    return np.asarray(np.where(equal, 1, shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)), np.float32)
