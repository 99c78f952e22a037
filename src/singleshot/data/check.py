"""Everything worth knowing about a data set before training on it: counts, sizes, leaks, and every bad record."""

from __future__ import annotations

import dataclasses
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from singleshot.data.dataset import DetectionDataset, open_splits
from singleshot.data.problems import BadData, Problem, count_kinds
from singleshot.errors import ImageError
from singleshot.image_header import read_header
from singleshot.images import read_image

THREADS = 4
# COCO's limits of small and medium objects, in square pixels.
SMALL_AREA, MEDIUM_AREA = 32**2, 96**2
PNG_COLOURS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with transparency", 6: "RGB with transparency"}
JPEG_COLOURS = {1: "gray", 3: "RGB", 4: "CMYK"}
Track = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True)
class DataReport:
    """What `check` found.

    Attributes:
        dataset: the whole data set (or the split asked for).
        splits: images and objects of each split that the files define.
        classes: one row for each class.
        images: sizes, images without objects, pixel formats.
        problems: the data set's, then images that cannot be decoded, then images shared by splits.
        deep: whether every image was decoded.
    """

    dataset: DetectionDataset
    splits: dict[str, dict[str, int]]
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
    format: Format | Literal["auto"] = "auto",
    bad_data: BadData = "skip",
    *,
    deep: bool = True,
    track: Track = iter,
) -> DataReport:
    """Open a data set and look at everything.

    Args:
        path, split, format: see `singleshot.data.open`.
        bad_data: only decides what counts as an error; everything is listed either way.
        deep: decode every image, not only its header.
        track: wraps the list of images while they are decoded (a progress bar).

    Raises:
        DataError: the data set cannot be opened at all.
    """
    dataset, parts = open_splits(path, format) if split is None else (open_dataset(path, split, format), {})
    problems = list(dataset.problems)
    paths = [sample.image_path for sample in dataset.samples]
    pixels, undecodable = _decode_all(paths, track) if deep else (Counter(), [])
    problems += undecodable
    problems += _shared(parts)
    counts = {name: {"images": len(part), "objects": sum(map(len, part))} for name, part in parts.items()}
    judged = dataclasses.replace(dataset, bad_data=bad_data)
    return DataReport(judged, counts, _class_rows(dataset), _image_facts(dataset, pixels), tuple(problems), deep)


def _decode_all(paths: Sequence[Path], track: Track) -> tuple[Counter[str], list[Problem]]:
    """Pixel formats, and a problem for each image whose header is good but whose pixels are not."""

    def decode(path: Path) -> tuple[str, str]:
        try:
            read_image(path)
        except ImageError as error:
            return pixel_format(path), str(error).removeprefix(f"{path}: ")
        return pixel_format(path), ""

    formats: Counter[str] = Counter()
    problems = []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for path, (pixels, message) in zip(track(paths), pool.map(decode, paths), strict=True):
            formats[pixels] += 1
            if message:
                problems.append(Problem(path, None, "undecodable-image", "skipped", message))
    finally:  # Ctrl-C ends at once, not after the images that are still in the queue
        pool.shutdown(cancel_futures=True)
    return formats, problems


def _shared(parts: dict[str, DetectionDataset]) -> Iterator[Problem]:
    """Images that are in a training and in a test split, which makes the test worthless."""
    files = {name: {sample.image_path for sample in part.samples} for name, part in parts.items()}
    for train in (name for name in files if "train" in name):
        for held_out in (name for name in files if "train" not in name and re.search("val|test", name)):
            if "val" in train and "val" in held_out:
                continue  # trainval holds val by its name
            for path in sorted(files[train] & files[held_out]):
                yield Problem(path, None, "shared-image", "noted", f"is in '{train}' and in '{held_out}'")


def _class_rows(dataset: DetectionDataset) -> list[dict[str, Any]]:
    """Counts and box statistics of each class."""
    count = len(dataset.class_map)
    class_ids = np.concatenate([np.zeros(0, dtype=np.int64), *(s.class_ids for s in dataset.samples)])
    boxes = np.concatenate([np.zeros((0, 4), dtype=np.float32), *(s.boxes_xyxy for s in dataset.samples)])
    owner = np.repeat(np.arange(len(dataset)), [len(sample) for sample in dataset.samples])
    difficult = np.concatenate([np.zeros(0, dtype=bool), *(s.difficult for s in dataset.samples)])
    crowd = np.concatenate([np.zeros(0, dtype=bool), *(s.iscrowd for s in dataset.samples)])
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(axis=1)
    rows = []
    for index in range(count):
        mine = class_ids == index
        some = bool(mine.any())
        rows.append(
            {
                "name": dataset.class_map.names[index],
                "id": dataset.class_map.ids[index],
                "objects": int(mine.sum()),
                "images": len(np.unique(owner[mine])),
                "difficult": int((mine & difficult).sum()),
                "crowd": int((mine & crowd).sum()),
                "small": int((mine & (areas < SMALL_AREA)).sum()),
                "medium": int((mine & (areas >= SMALL_AREA) & (areas < MEDIUM_AREA)).sum()),
                "large": int((mine & (areas >= MEDIUM_AREA)).sum()),
                "median_width_px": float(np.median(sides[mine, 0])) if some else None,
                "median_height_px": float(np.median(sides[mine, 1])) if some else None,
                "median_aspect": float(np.median(sides[mine, 0] / sides[mine, 1])) if some else None,
            }
        )
    return rows


def _image_facts(dataset: DetectionDataset, pixels: Counter[str]) -> dict[str, Any]:
    """Sizes and emptiness of the images, and their pixel formats."""
    sizes = Counter(sample.image_size_hw for sample in dataset.samples)
    per_image = [len(sample) for sample in dataset.samples]
    return {
        "images": len(dataset),
        "objects": sum(per_image),
        "without_objects": per_image.count(0),
        "most_objects": max(per_image, default=0),
        "sizes": [{"width": w, "height": h, "images": count} for (h, w), count in sizes.most_common()],
        "pixels": dict(pixels.most_common()),
    }


def pixel_format(path: Path) -> str:
    """Format, colour, depth and EXIF orientation of an image file in words; all of them are read as upright RGB."""
    data = path.read_bytes()
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
