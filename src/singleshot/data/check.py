"""Everything worth knowing about a data set before training on it: counts, sizes, leaks, and every bad record."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from singleshot.core.pools import ordered_map
from singleshot.core.wording import counted
from singleshot.data.bad_records import Action, BadData, Problem, count_kinds
from singleshot.data.class_list import alike_names
from singleshot.data.dataset import DetectionDataset
from singleshot.data.decisions import Decisions, as_decisions
from singleshot.data.opening import open_found
from singleshot.data.recognise import FoundSet, own_splits, recognise
from singleshot.data.sample_table import all_objects, count_objects, image_paths, image_sizes
from singleshot.data.split_names import HELD_OUT, TRAINING, split_role
from singleshot.data.splitting import PARTS, assign_splits
from singleshot.data.train_val import choose_training
from singleshot.errors import DataError, ImageError
from singleshot.images.header import read_header
from singleshot.images.packed import image_bytes, stored_digest
from singleshot.images.read import read_image

THREADS = 4
# COCO's limits of small and medium objects, in square pixels.
SMALL_AREA, MEDIUM_AREA = 32**2, 96**2
MEDIANS = ("median_width_px", "median_height_px", "median_aspect")
PNG_COLOURS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with transparency", 6: "RGB with transparency"}
JPEG_COLOURS = {1: "gray", 3: "RGB", 4: "CMYK"}
CHANGED = "its bytes are not those that were written here (another SHA-256): damaged or replaced since"
Track = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True)
class DataReport:
    """What `check` found.

    Attributes:
        dataset: the whole data set (or the split asked for).
        splits: images and objects of each split that the files define.
        training: what ``train`` would learn from and measure on, in sentences.
        members: the images of each split, or of the parts into which training divides a data set without splits.
        classes: one row for each class.
        images: sizes, images without objects, pixel formats.
        problems: the data set's, its splits', then images that cannot be decoded, then images shared by splits.
        deep: whether every image was decoded.
    """

    dataset: DetectionDataset
    splits: dict[str, dict[str, int]]
    training: tuple[str, ...]
    members: dict[str, list[str]]
    classes: list[dict[str, Any]]
    images: dict[str, Any]
    problems: tuple[Problem, ...]
    deep: bool

    @property
    def errors(self) -> int:
        """Problems that cost a label or an image; with the policy ``error`` also those that would be repaired."""
        bad = ("skipped", "repaired") if self.dataset.bad_data == "error" else ("skipped",)
        return sum(problem.action in bad for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "path": str(self.dataset.path),
            "format": self.dataset.format,
            "split": self.dataset.split,
            "splits": self.splits,
            "training": list(self.training),
            "members": self.members,
            "classes": self.classes,
            "images": self.images,
            "deep": self.deep,
            "errors": self.errors,
            "counts": [{"kind": k, "action": a, "count": n} for (k, a), n in count_kinds(self.problems).items()],
            "problems": [
                {"file": str(p.file), "line": p.line, "kind": p.kind, "action": p.action, "message": p.message}
                for p in self.problems
            ],
        }


def check(
    path: str | Path,
    split: str | None = None,
    format: str = "auto",
    bad_data: BadData = "skip",
    *,
    deep: bool = True,
    lower_names: bool = False,
    decisions: Decisions | str | os.PathLike[str] | None = None,
    track: Track = iter,
) -> DataReport:
    """Open a data set and look at everything.

    Args:
        path, split, format, lower_names, decisions: see `singleshot.data.open`.
        bad_data: only decides what counts as an error; everything is listed either way.
        deep: decode every image, not only its header.
        track: wraps the list of images while they are decoded (a progress bar).

    Raises:
        DataError: the data set cannot be opened at all.
    """
    found, decided = recognise(Path(path), format), as_decisions(decisions)
    dataset = open_found(found, split, lower_names=lower_names, decisions=decided)
    if not len(dataset):
        reason = "".join(f": {problem}" for problem in dataset.problems[:1])
        raise DataError(
            f"{found.path}: {f'split {dataset.split!r}' if split else 'the data set'} has no images{reason}"
        )
    names = own_splits(found) if split is None else ()
    classes = dataset.class_map.names
    parts = {
        name: open_found(found, name, classes=classes, lenient=True, lower_names=lower_names, decisions=decided)
        for name in names
    }
    problems = list(dataset.problems)
    for name, part in parts.items():
        problems += part.problems
        if not len(part):
            problems.append(Problem(dataset.path, None, "empty-split", "noted", f"split '{name}' has no usable images"))
    problems = list(dict.fromkeys(problems))
    pixels, undecodable = _decode_all(dataset, track) if deep else (Counter(), [])
    problems += undecodable
    problems += _shared(parts)
    alike = alike_names(dataset.class_map.names)
    problems += [Problem(dataset.path, None, "alike-classes", "noted", message) for message in alike]
    counts = {
        name: {"images": len(part), "objects": int(count_objects(part.samples).sum())} for name, part in parts.items()
    }
    return DataReport(
        dataclasses.replace(dataset, bad_data=bad_data),
        counts,
        _training(found, dataset, parts) if split is None else (),
        _members(dataset, parts),
        _class_rows(dataset),
        _image_facts(dataset, pixels),
        tuple(problems),
        deep,
    )


def _training(found: FoundSet, whole: DetectionDataset, parts: dict[str, DetectionDataset]) -> tuple[str, ...]:
    """What ``train`` would do with the data, in sentences; from what is open already."""

    def load(split: str | None, _classes: Sequence[str] | None) -> DetectionDataset:
        return whole if split is None else parts[split]

    try:
        train_set, val_set = choose_training(found, load)
    except DataError as error:
        return (f"train would stop: {error}",)
    measured = f"measures on {len(val_set)} of '{val_set.split}'" if val_set else "measures on nothing"
    first = f"train learns from {counted(len(train_set), 'image')} of '{train_set.split}' and {measured}"
    return (first, *train_set.notes, *(val_set.notes if val_set else ()))


def _members(dataset: DetectionDataset, parts: dict[str, DetectionDataset]) -> dict[str, list[str]]:
    """Paths of the images of each split, or of each part of a heap."""
    if parts or dataset.split is not None:
        shown = parts or {str(dataset.split): dataset}
        return {name: list(image_paths(part.samples)) for name, part in shown.items()}
    paths = list(image_paths(dataset.samples))
    places = assign_splits([*paths, *map(str, dataset.dropped)])[: len(paths)]
    return {name: [path for path, place in zip(paths, places, strict=True) if place == name] for name in PARTS}


def _decode_all(dataset: DetectionDataset, track: Track) -> tuple[Counter[str], list[Problem]]:
    """Pixel formats, and a problem for each image whose pixels or bytes are not what its header or container says."""

    def decode(path: Path) -> tuple[str, tuple[str, Action, str]]:
        try:
            read_image(path)
        except ImageError as error:
            fault: tuple[str, Action, str] = ("undecodable-image", "skipped", str(error).removeprefix(f"{path}: "))
        else:
            fault = ("changed-image", "noted", CHANGED if _is_changed(path) else "")
        return pixel_format(path), fault

    paths = list(map(Path, image_paths(dataset.samples)))
    formats: Counter[str] = Counter()
    problems = []
    with ThreadPoolExecutor(THREADS) as pool:
        decoded = ordered_map(pool, decode, paths, 8 * THREADS)
        for path, (pixels, (kind, action, message)) in zip(track(paths), decoded, strict=True):
            formats[pixels] += 1
            if message:
                problems.append(Problem(path, None, kind, action, message))
    return formats, problems


def _is_changed(path: Path) -> bool:
    """Whether an image inside a container has another SHA-256 than the container says."""
    digest = stored_digest(path)
    return bool(digest) and hashlib.sha256(image_bytes(path)).digest() != digest


def _shared(parts: dict[str, DetectionDataset]) -> Iterator[Problem]:
    """Images that are in a training and in a test split, which makes the test worthless."""
    files = {name: set(image_paths(part.samples)) for name, part in parts.items()}
    for train in (name for name in files if split_role(name) in TRAINING):
        for held_out in (name for name in files if split_role(name) in HELD_OUT):
            if split_role(train) == "trainval" and split_role(held_out) == "val":
                continue  # trainval holds val by its name
            for path in sorted(files[train] & files[held_out]):
                yield Problem(Path(path), None, "shared-image", "noted", f"is in '{train}' and in '{held_out}'")


def _class_rows(dataset: DetectionDataset) -> list[dict[str, Any]]:
    """Counts and box statistics of each class; time grows with the objects, not with classes times objects."""
    count = len(dataset.class_map)
    owner, objects = all_objects(dataset.samples)
    class_ids, boxes = objects.class_ids, objects.boxes_xyxy
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(axis=1)
    flags = {
        "difficult": objects.difficult,
        "crowd": objects.iscrowd,
        "small": areas < SMALL_AREA,
        "medium": (areas >= SMALL_AREA) & (areas < MEDIUM_AREA),
        "large": areas >= MEDIUM_AREA,
    }
    counts = {name: np.bincount(class_ids[flag], minlength=count).tolist() for name, flag in flags.items()}
    order = np.argsort(class_ids, kind="stable")
    bounds = np.searchsorted(class_ids[order], np.arange(count + 1)).tolist()
    nothing = {"objects": 0, "images": 0, **dict.fromkeys(flags, 0), **dict.fromkeys(MEDIANS)}
    rows = [
        {"name": name, "id": key, **nothing} for name, key in zip(*dataclasses.astuple(dataset.class_map), strict=True)
    ]
    for index in np.unique(class_ids).tolist():
        mine = order[bounds[index] : bounds[index + 1]]
        medians = np.median(np.column_stack([sides[mine], sides[mine, 0] / sides[mine, 1]]), axis=0).tolist()
        rows[index] |= {"objects": len(mine), "images": len(np.unique(owner[mine]))}
        rows[index] |= {name: values[index] for name, values in counts.items()}
        rows[index] |= dict(zip(MEDIANS, medians, strict=True))
    return rows


def _image_facts(dataset: DetectionDataset, pixels: Counter[str]) -> dict[str, Any]:
    """Sizes and emptiness of the images, and their pixel formats."""
    sizes = Counter(map(tuple, image_sizes(dataset.samples).tolist()))
    per_image = count_objects(dataset.samples)
    return {
        "images": len(dataset),
        "objects": int(per_image.sum()),
        "without_objects": int((per_image == 0).sum()),
        "most_objects": int(per_image.max(initial=0)),
        "sizes": [{"width": w, "height": h, "images": count} for (h, w), count in sizes.most_common()],
        "pixels": dict(pixels.most_common()),
    }


def pixel_format(path: Path) -> str:
    """Format, colour, depth and EXIF orientation of an image file in words; all of them are read as upright RGB."""
    data = image_bytes(path)
    try:
        header = read_header(data)
    except (LookupError, ValueError, struct.error):
        header = None
    if header is None:
        return "other"
    colour = ""
    if header.format == "PNG":
        colour = f"{PNG_COLOURS.get(data[25], 'unknown')}{' 16-bit' if data[24] == 16 else ''}"
    elif header.format == "JPEG":
        frame = re.search(rb"\xff[\xc0-\xcf](?<![\xc4\xc8\xcc])\x00.\x08....(.)", data[: header.pixels_at], re.DOTALL)
        colour = JPEG_COLOURS.get(frame[1][0], "unknown") if frame else "unknown"
    turned = f", EXIF orientation {header.orientation}" if header.orientation != 1 else ""
    return f"{header.format} {colour}".strip() + turned
