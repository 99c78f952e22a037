"""Faults of labels and splits that show without a detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import Sample
from singleshot.data.split_names import HELD_OUT, TRAINING, split_role
from singleshot.doctor.findings import Finding, Place, finding, place_of
from singleshot.doctor.near_duplicates import Twins
from singleshot.evaluation.metrics.overlaps import overlapping_pairs
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

SAME_IOU, OTHER_IOU = 0.8, 0.9
"""Two boxes of one class, and of two, that overlap by so much are one object."""
ODD_SHAPE, ODD_SIZE = 5.0, 6.0
"""So many robust standard deviations from the other objects of the class are odd."""
LONG = 4.0
"""A box that is not so many times as long as wide is never odd by its shape."""
LEAST_SPREAD = 0.15
ENOUGH_TO_COMPARE = 20
FEW_OBJECTS = 10
LONG_NAME = 5

Members = Mapping[str, Sequence[str]]
"""Paths of the images of each split."""


def label_faults(samples: Sequence[Sample], names: Sequence[str], members: Members, where: Path) -> Iterator[Finding]:
    """Everything that labels and splits alone can tell.

    Args:
        samples: all images of the data set.
        names: of its classes.
        members: of the splits, or of the parts that training makes.
        where: the data set.
    """
    truth = GroundTruth.from_samples(samples)
    places = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(sample)) for sample in samples)])
    yield from _repeated_labels(truth, places, samples, names)
    yield from _odd_boxes(truth, samples, names)
    yield from _scarce_classes(samples, names, members, where)
    yield from _alike_names(names, where)


def twin_findings(twins: Sequence[Twins], samples: Sequence[Sample], members: Members) -> Iterator[Finding]:
    """Pairs of pictures that are one: within a split, or a leak from one to another.

    Args:
        twins: pairs of positions in ``samples``.
        samples: the images.
        members: paths of each split.
    """
    splits_of: dict[str, list[str]] = {}
    for split, paths in members.items():
        for path in paths:
            splits_of.setdefault(path, []).append(split)
    for pair in twins:
        one, other = (samples[index].image_path for index in pair[:2])
        sides = [splits_of.get(str(path), []) for path in (one, other)]
        how = "has the same pixels as" if pair.exact else f"looks like ({pair.likeness:.3f})"
        leak = _leak(*sides)
        kind = "leak" if leak else "twin-images"
        in_splits = f" ({leak[0]} and {leak[1]})" if leak else f" ({sides[0][0]})" if sides[0] else ""
        message = f"{one.name} {how} {other.name}{in_splits}"
        yield finding(kind, message, one, (Place(one), Place(other)), pair.likeness)


def _leak(one: Sequence[str], other: Sequence[str]) -> tuple[str, str] | None:
    """A training split and a held-out one that two pictures are in, if there are such."""
    for first, second in ((one, other), (other, one)):
        for train in (name for name in first if split_role(name) in TRAINING):
            for held_out in (name for name in second if split_role(name) in HELD_OUT):
                if train not in second or held_out not in first:  # trainval may hold val
                    return train, held_out
    return None


def _repeated_labels(
    truth: GroundTruth, places: NDArray[np.int64], samples: Sequence[Sample], names: Sequence[str]
) -> Iterator[Finding]:
    alone = np.flatnonzero(~truth.iscrowd)
    objects = GroundTruth(truth.image_index[alone], truth.class_ids[alone], truth.boxes_xyxy[alone], truth.image_count)
    as_found = DetectionTable(objects.image_index, objects.class_ids, objects.boxes_xyxy, np.ones(len(objects)))
    pairs = overlapping_pairs(objects, as_found, SAME_IOU, same_class=False)
    for one, other, overlap in zip(*pairs, strict=True):
        if one >= other:
            continue
        same = objects.class_ids[one] == objects.class_ids[other]
        if not same and overlap < OTHER_IOU:
            continue
        sample = samples[objects.image_index[one]]
        rows = [int(places[alone[row]]) for row in (one, other)]
        first, second = (names[sample.class_ids[row]] for row in rows)
        what = f"two boxes of {first}" if same else f"boxes of {first} and {second}"
        kind = "duplicate-label" if same else "two-classes"
        message = f"{what} overlap by {overlap:.2f}"
        shown = place_of(sample, *((sample.boxes_xyxy[row], names[sample.class_ids[row]]) for row in rows))
        yield finding(kind, message, sample.source, (shown,), float(overlap))


def _odd_boxes(truth: GroundTruth, samples: Sequence[Sample], names: Sequence[str]) -> Iterator[Finding]:
    if not len(truth):
        return
    sides = (truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]).astype(np.float64).clip(min=1e-3)
    sizes_hw = np.array([sample.image_size_hw for sample in samples], dtype=np.float64)[truth.image_index]
    shape = np.log(sides[:, 0] / sides[:, 1])
    size = np.log(sides.prod(axis=1) / sizes_hw.prod(axis=1)) / 2
    by_shape, by_size = (_deviation(values, truth.class_ids, ~truth.iscrowd) for values in (shape, size))
    odd_shape = (np.abs(by_shape) >= ODD_SHAPE) & (np.abs(shape) >= np.log(LONG))
    for row in np.flatnonzero(~truth.iscrowd & (odd_shape | (np.abs(by_size) >= ODD_SIZE))):
        sample = samples[truth.image_index[row]]
        width, height = sides[row]
        what = "shape" if odd_shape[row] else "size"
        deviation = max(abs(by_shape[row]) if odd_shape[row] else 0.0, abs(by_size[row]))
        name = names[truth.class_ids[row]]
        message = f"{name} of {width:.0f} x {height:.0f} pixels: a {what} unlike its class ({deviation:.0f} deviations)"
        shown = place_of(sample, (truth.boxes_xyxy[row], name))
        yield finding("odd-box", message, sample.source, (shown,), 1 - 1 / max(deviation, 1.0))


def _deviation(
    values: NDArray[np.float64], class_ids: NDArray[np.int64], counted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Robust standard deviations from the median of the class; of all objects where the class has few."""
    deviation = np.zeros(len(values))
    for class_id in np.unique(class_ids):
        own = class_ids == class_id
        like = own & counted if (own & counted).sum() >= ENOUGH_TO_COMPARE else counted
        if like.sum() < ENOUGH_TO_COMPARE:
            continue
        middle = np.median(values[like])
        spread = max(1.4826 * np.median(np.abs(values[like] - middle)), LEAST_SPREAD)
        deviation[own] = (values[own] - middle) / spread
    return deviation


def _scarce_classes(
    samples: Sequence[Sample], names: Sequence[str], members: Members, where: Path
) -> Iterator[Finding]:
    """Classes with no object, or hardly one, where they are learnt or measured."""
    by_path = {str(sample.image_path): sample for sample in samples}
    counts = {}
    for roles in (TRAINING, HELD_OUT):
        paths = {path for split, own in members.items() if split_role(split) in roles for path in own}
        ids = [by_path[path].class_ids[~by_path[path].iscrowd] for path in paths if path in by_path]
        counts[roles] = np.bincount(np.concatenate([np.zeros(0, np.int64), *ids]), minlength=len(names)), len(paths)
    (learnt, train_images), (measured, held_out_images) = counts[TRAINING], counts[HELD_OUT]
    everywhere = learnt + measured
    for index, name in enumerate(names):
        if train_images and not learnt[index]:
            there = f"{measured[index]} in the held-out split" if measured[index] else "none in any split"
            yield finding("class-not-trained", f"{name}: no object in the training split, {there}", where)
        elif train_images and learnt[index] < FEW_OBJECTS:
            few = 1 - learnt[index] / FEW_OBJECTS
            yield finding("few-objects", f"{name}: {learnt[index]} in the training split", where, suspicion=few)
        if held_out_images and everywhere[index] and not measured[index]:
            yield finding("class-not-measured", f"{name}: no object in the held-out split", where)


def _alike_names(names: Sequence[str], where: Path) -> Iterator[Finding]:
    """Names that one typing mistake tells apart; those that differ in case and spaces alone ``data check`` finds."""
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if min(len(one), len(other)) >= LONG_NAME and _one_slip(one.casefold(), other.casefold()):
                yield finding("alike-spelling", f"'{one}' and '{other}'", where)


def _one_slip(one: str, other: str) -> bool:
    """Whether one letter was added, left out, changed or swapped with its neighbour; a digit is no slip."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[start:], other[start:]
    end = next((i for i, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), None)
    end = min(len(one), len(other)) if end is None else end
    one, other = one[: len(one) - end], other[: len(other) - end]
    swapped = len(one) == 2 and one == other[::-1]
    letters = (one + other).isalpha()
    return letters and (swapped or max(len(one), len(other)) == 1)
