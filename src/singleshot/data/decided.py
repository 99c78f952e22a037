"""The images and labels that stay after decisions: objects are found by box and class, whatever their order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.core.setting_errors import near_name
from singleshot.core.structures import Sample
from singleshot.core.wording import counted
from singleshot.data.bad_records import Problem
from singleshot.data.decisions import Decision, Decisions, image_key
from singleshot.errors import DataError
from singleshot.images.packed import image_stamp

SAME_BOX_PX = 0.5
"""How far each side of a box may be from where it was decided on: formats round differently."""


@dataclass(frozen=True)
class Decided:
    """A data set's images after decisions.

    Attributes:
        samples: the images that stay, with the objects that stay.
        dropped: the images left out.
        notes: what was done and what could not be, a sentence each.
        problems: one for each class that nobody asked for and that has objects.
    """

    samples: list[Sample]
    dropped: tuple[Path, ...]
    notes: tuple[str, ...]
    problems: list[Problem]


def find_objects(sample: Sample, names: Sequence[str], entries: Sequence[Decision]) -> list[int]:
    """The object of an image that each decision is about; -1 where there is none of that box and class (any more)."""
    if not entries or not len(sample):
        return [-1] * len(entries)
    places = {name: index for index, name in enumerate(names)}
    ids = np.array([places.get(entry.class_name or "", -1) for entry in entries])
    boxes = np.array([entry.box_xyxy for entry in entries], dtype=np.float64)
    far = np.abs(boxes[:, None] - sample.boxes_xyxy[None].astype(np.float64)).max(axis=2)  # [D, N]
    far[ids[:, None] != sample.class_ids[None]] = np.inf
    found = [-1] * len(entries)
    close = np.argwhere(far <= SAME_BOX_PX)
    for entry, row in close[np.argsort(far[tuple(close.T)], kind="stable")].tolist():  # the nearest have each other
        if found[entry] < 0 and row not in found:
            found[entry] = row
    return found


def apply_decisions(
    decisions: Decisions, data: Path, samples: Sequence[Sample], names: Sequence[str], asked: int, split: str | None
) -> Decided:
    """Leave out and relabel what was decided.

    Args:
        decisions: about any images of the data set.
        data: the data set's path.
        samples: of one split, or all.
        names: all classes, those asked for first: an object may be relabelled to one of these.
        asked: how many are asked for; objects of others are left out.
        split: the split's name, for the notes.

    Raises:
        DataError: a decision's new class is none of ``names``.
    """
    _check_classes(decisions, names)
    waiting = decisions.by_path(data, [sample.image_path for sample in samples])
    tally = _Tally()
    kept: list[Sample] = []
    dropped: list[Path] = []
    for sample in samples:
        entries = waiting.pop(image_key(sample.image_path), ()) if waiting else ()
        if any(entry.box_xyxy is None and entry.action == "drop" for entry in entries):
            dropped.append(sample.image_path)
        else:
            kept.append(_decided(sample, [e for e in entries if e.box_xyxy is not None], names, tally))
    absent = [entries[0].image for path, entries in waiting.items() if not _is_there(path)]
    notes = tally.lines(decisions.file, len(dropped), absent, split)
    others = Counter(names[index] for sample in kept for index in sample.class_ids[sample.class_ids >= asked])
    if others:
        kept = [_with_objects(sample, sample.class_ids < asked, sample.class_ids) for sample in kept]
    problems = [
        Problem(data, None, "unknown-class", "skipped", f"class '{name}' ({counted(count, 'object')}) is not asked for")
        for name, count in others.items()
    ]
    return Decided(kept, tuple(dropped), tuple(notes), problems)


@dataclass
class _Tally:
    dropped: int = 0
    relabelled: int = 0
    repeated: int = 0
    gone: list[str] = dataclasses.field(default_factory=list)

    def lines(self, file: Path, images: int, absent: Sequence[str], split: str | None) -> list[str]:
        where = f"{file}: " + (f"in split '{split}' " if split else "")
        counts = {"image": images, "object": self.dropped}
        done = [f"{counted(count, what)} left out" for what, count in counts.items() if count]
        if self.relabelled:
            done.append(f"{counted(self.relabelled, 'object')} relabelled")
        if self.repeated:
            done.append(f"{counted(self.repeated, 'object')} of the same box and class as another left out")
        lines = [where + (", ".join(done) or "nothing to leave out or to relabel")]
        if self.gone:
            lines.append(
                f"{where}{counted(len(self.gone), 'decision')} about boxes that the labels no longer have, such as "
                f"{self.gone[0]}: without effect"
            )
        if absent:
            lines.append(
                f"{file}: {counted(len(absent), 'decided image')} not in the data, such as {absent[0]}: without effect "
                "(images are named below the folder that was browsed: open the same folder or label file)"
            )
        return lines


def _decided(sample: Sample, entries: Sequence[Decision], names: Sequence[str], tally: _Tally) -> Sample:
    if not entries:
        return sample
    keep = np.ones(len(sample), dtype=bool)
    class_ids = sample.class_ids.copy()
    changed: list[int] = []
    for row, entry in zip(find_objects(sample, names, entries), entries, strict=True):
        if row < 0:
            tally.gone.append(f"'{entry.class_name}' in {entry.image}")
        elif entry.action == "drop":
            keep[row] = False
            tally.dropped += 1
        elif entry.action == "relabel":
            class_ids[row] = names.index(str(entry.to))
            changed.append(row)
            tally.relabelled += 1
    for row in changed:  # what was labelled twice, once wrongly, is one object
        same = keep & (class_ids == class_ids[row]) & (sample.boxes_xyxy == sample.boxes_xyxy[row]).all(axis=1)
        if keep[row] and same.sum() > 1:
            keep[row] = False
            tally.repeated += 1
    return _with_objects(sample, keep, class_ids)


def _with_objects(sample: Sample, keep: NDArray[np.bool_], class_ids: NDArray[np.int64]) -> Sample:
    """The image with some of its objects, and other classes."""
    return dataclasses.replace(
        sample,
        boxes_xyxy=sample.boxes_xyxy[keep],
        class_ids=class_ids[keep],
        difficult=sample.difficult[keep],
        iscrowd=sample.iscrowd[keep],
        areas=sample.areas[keep],
    )


def _check_classes(decisions: Decisions, names: Sequence[str]) -> None:
    known = set(names)
    for place, entry in enumerate(decisions.entries):
        if entry.to is not None and entry.to not in known:
            raise DataError(
                f"{decisions.file}: decisions.{place}.to: the data has no class '{entry.to}'; "
                f"{near_name(entry.to, names)}"
            )


def _is_there(path: str) -> bool:
    try:
        image_stamp(path)
    except (OSError, ValueError):
        return False
    return True
