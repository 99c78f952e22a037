"""How well `singleshot doctor` finds faults that are planted into a real data set.

    python benchmarks/doctor.py DATA --model coco [--images 150] [--share 0.03] [--swapped 0.05] [--seed 0]

``DATA`` is a labelled data set, ``--model`` a detector of its classes. The set is written anew (COCO, two splits) with
faults of thirteen kinds, ``--share`` of the objects or pictures each, and examined. Of each kind it prints which share
is found as what it is, which share is named by a finding of any kind, and of the records that nobody touched the share
that this kind of finding names. These may be real faults: what is called clean is only not planted. Last comes the
average precision of the suspects where ``--swapped`` of the classes are swapped (drawn as often as they occur) and
nothing else, over all objects.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from singleshot.core.structures import Sample
from singleshot.data.opening import open as open_dataset
from singleshot.detector import Detector, load
from singleshot.doctor.evidence import gather_evidence
from singleshot.doctor.examine import examine
from singleshot.doctor.findings import Finding
from singleshot.doctor.suspects import class_suspicions
from singleshot.images.read import read_image, write_image

FOUND_AS = {"tiny": ("tiny", "odd-box"), "outside": ("clipped", "outside"), "near-leak": ("leak",)}
"""Findings that name a fault, where they are called otherwise."""
OF_PICTURES = ("leak", "near-leak", "twin-images", "unlabelled-image")
LEAST_SIDE = 24.0
"""Faults are planted into objects of this size at least, in pixels: smaller ones nobody could judge."""


class Mark(NamedTuple):
    """A planted fault: its picture, its box where it has one, and the object's own box that it has replaced."""

    kind: str
    file: str
    box: tuple[float, ...] = ()
    was: tuple[float, ...] = ()


class Object(NamedTuple):
    """A labelled box of the copy."""

    box: tuple[float, float, float, float]
    name: str


def iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Overlap of two corner boxes."""
    a, b = np.array(one), np.array(other)
    common = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(min=0).prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common + 1e-9))


class Planter:
    """Writes a data set with faults; `marks` says which."""

    def __init__(self, samples: list[Sample], names: tuple[str, ...], share: float, seed: int) -> None:
        self.rng, self.names, self.samples = np.random.default_rng(seed), names, samples
        self.pictures = {s.image_path.name: read_image(s.image_path) for s in samples}
        self.split = {name: "val" if self.rng.random() < 0.2 else "train" for name in self.pictures}
        self.objects = {
            s.image_path.name: [
                Object(tuple(box), names[index])
                for box, index, crowd in zip(s.boxes_xyxy.tolist(), s.class_ids.tolist(), s.iscrowd, strict=True)
                if not crowd
            ]
            for s in samples
        }
        self.marks: list[Mark] = []
        self._plant(share)

    def _plant(self, share: float) -> None:
        usable = [
            (file, row)
            for file, rows in self.objects.items()
            for row, item in enumerate(rows)
            if min(item.box[2] - item.box[0], item.box[3] - item.box[1]) >= LEAST_SIDE
        ]
        self.rng.shuffle(usable)
        each = max(1, round(share * len(usable)))
        kinds = ("wrong-class", "missing-label", "misplaced-box", "duplicate-label", "two-classes", "odd-box", "tiny")
        gone: dict[str, set[int]] = defaultdict(set)
        for kind in (*kinds, "outside", "no-object"):
            for _ in range(each):
                file, row = usable.pop()
                item, rows = self.objects[file][row], self.objects[file]
                changed = self._changed(kind, item, file)
                if kind in ("duplicate-label", "two-classes", "no-object"):
                    rows.append(changed)
                elif kind == "missing-label":
                    gone[file].add(row)
                else:
                    rows[row] = changed
                was = () if kind == "no-object" else item.box
                self.marks.append(Mark(kind, file, item.box if kind == "missing-label" else changed.box, was))
        for file, rows in gone.items():
            self.objects[file] = [item for row, item in enumerate(self.objects[file]) if row not in rows]
        self._plant_pictures(max(1, round(share * len(self.pictures))))

    def _changed(self, kind: str, item: Object, file: str) -> Object:
        x1, y1, x2, y2 = item.box
        w, h = x2 - x1, y2 - y1
        height, width = self.pictures[file].shape[:2]
        if kind in ("wrong-class", "two-classes"):
            return Object(item.box, str(self.rng.choice([name for name in self.names if name != item.name])))
        if kind == "misplaced-box":
            dx, dy = self.rng.choice([-0.4, 0.4], 2) * (w, h)
            x, y = np.clip(x1 + dx, 0, width - w), np.clip(y1 + dy, 0, height - h)
            return Object((float(x), float(y), float(x + w), float(y + h)), item.name)
        if kind == "duplicate-label":
            return Object((x1 + 0.03 * w, y1 + 0.03 * h, x2, y2), item.name)
        if kind == "odd-box":
            return Object((0.0, y1, float(width), y1 + width / 40), item.name)
        if kind == "tiny":
            return Object((x1, y1, x1 + 1.5, y1 + 1.5), item.name)
        if kind == "outside":
            return Object((x1, y1, width + 0.3 * w, y2), item.name)
        if kind == "no-object":
            for _ in range(200):
                x, y = self.rng.uniform(0, max(width - w, 1)), self.rng.uniform(0, max(height - h, 1))
                box = (float(x), float(y), float(min(x + w, width)), float(min(y + h, height)))
                if all(iou(box, other.box) < 0.05 for other in self.objects[file]):
                    return Object(box, item.name)
            return Object((0.0, 0.0, w, h), item.name)
        return item

    def _plant_pictures(self, each: int) -> None:
        files = [file for file, rows in self.objects.items() if len(rows)]
        self.rng.shuffle(files)
        for kind in ("leak", "near-leak", "twin-images"):
            for number in range(each):
                file = files.pop()
                copy = f"{kind}-{number}.png"
                picture = self.pictures[file]
                if kind != "leak":
                    bright = np.clip(picture.astype(np.float32) * self.rng.uniform(0.85, 1.15), 0, 255).astype(np.uint8)
                    small = cv2.resize(bright, None, fx=0.8, fy=0.8)
                    coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
                    picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
                scale = picture.shape[1] / self.pictures[file].shape[1]
                self.pictures[copy] = picture
                other = {"train": "val", "val": "train"}[self.split[file]]
                self.split[copy] = self.split[file] if kind == "twin-images" else other
                self.objects[copy] = [
                    Object((b[0] * scale, b[1] * scale, b[2] * scale, b[3] * scale), n) for b, n in self.objects[file]
                ]
                self.marks.append(Mark(kind, copy))
        for _ in range(each):
            file = files.pop()
            self.objects[file] = []
            self.marks.append(Mark("unlabelled-image", file))

    def write(self, folder: Path) -> None:
        """A COCO data set with a split ``train`` and a split ``val``."""
        names = {name: index + 1 for index, name in enumerate(self.names)}
        for split in ("train", "val"):
            images, annotations = [], []
            for number, (file, picture) in enumerate(self.pictures.items()):
                if self.split[file] != split:
                    continue
                stem = f"{Path(file).stem}.png"
                write_image(folder / split / stem, picture)
                size = {"height": picture.shape[0], "width": picture.shape[1]}
                images.append({"id": number, "file_name": stem, **size})
                for box, name in self.objects[file]:
                    corner = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                    row = {"id": len(annotations) + 1, "image_id": number, "category_id": names[name], "bbox": corner}
                    annotations.append({**row, "area": corner[2] * corner[3], "iscrowd": 0})
            categories = [{"id": index, "name": name} for name, index in names.items()]
            text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
            (folder / "annotations").mkdir(exist_ok=True)
            (folder / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")


def names_mark(item: Finding, mark: Mark) -> bool:
    """Whether a finding points at a planted fault, or at the object that has lost its box by it."""
    for place in item.places:
        if place.image.stem != Path(mark.file).stem:
            continue
        boxes = [box for box in (mark.box, mark.was) if box]
        if not boxes or any(iou(box, own) >= 0.5 for box in place.boxes_xyxy for own in boxes):
            return True
    # what `data check` finds names a record by its words alone
    return bool(mark.box) and not item.places and f"{mark.box[0]:.4g}"[:4] in item.message


def measure(findings: tuple[Finding, ...], planter: Planter, console: Console) -> None:
    """Print the share found of each kind, and how much of the rest is named."""
    table = Table("planted", "how many", "found as such", "named at all", "untouched that are named", box=None)
    objects = sum(map(len, planter.objects.values()))
    for kind in dict.fromkeys(mark.kind for mark in planter.marks):
        own = [mark for mark in planter.marks if mark.kind == kind]
        alike = [item for item in findings if item.kind in FOUND_AS.get(kind, (kind,))]
        if kind in ("tiny", "outside"):  # each is counted once by `data check`: without a box, by number
            count = sum(item.kind in FOUND_AS[kind] for item in findings)
            table.add_row(
                kind, str(len(own)), f"{min(count / len(own), 1):.0%}", "", f"{max(count - len(own), 0)} more"
            )
            continue
        found = sum(any(names_mark(item, mark) for item in alike) for mark in own)
        named = sum(any(names_mark(item, mark) for item in findings) for mark in own)
        wrong = sum(not any(names_mark(item, mark) for mark in planter.marks) for item in alike)
        total = len(planter.pictures) if kind in OF_PICTURES else objects
        table.add_row(
            kind, str(len(own)), f"{found / len(own):.0%}", f"{named / len(own):.0%}", f"{wrong / total:.2%} ({wrong})"
        )
    console.print(table)


def swapped_precision(detector: Detector, samples: list[Sample], names: tuple[str, ...], share: float) -> list[float]:
    """Average precision of the suspects where some classes are swapped, for five draws."""
    evidence = gather_evidence(detector, samples, names)
    truth = evidence.truth
    counted = np.flatnonzero(~truth.ignored)
    frequency = np.bincount(truth.class_ids[counted], minlength=len(evidence.classes.names)) / len(counted)
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        swapped = rng.choice(counted, max(1, round(share * len(counted))), replace=False)
        before = truth.class_ids.copy()
        for row in swapped:
            others = np.where(np.arange(len(frequency)) == before[row], 0, frequency)
            truth.class_ids[row] = rng.choice(len(frequency), p=others / others.sum())
        order = counted[np.argsort(-class_suspicions(evidence)[counted], kind="stable")]
        right = np.isin(order, swapped)
        found.append(float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean()))
        truth.class_ids[:] = before
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--swapped", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, detector = Console(width=140), load(options.model)
    dataset = open_dataset(options.data)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(options.images, len(dataset))).astype(int))
    samples = [dataset[int(index)] for index in chosen]
    names = dataset.class_map.names
    planter = Planter(samples, names, options.share, options.seed)
    with TemporaryDirectory() as folder:
        planter.write(Path(folder))
        result = examine(folder, detector)
    objects = sum(map(len, samples))
    console.print(f"{options.data}: {len(samples)} pictures, {objects} objects; {options.model}; share {options.share}")
    measure(result.findings, planter, console)
    precision = swapped_precision(detector, samples, names, options.swapped)
    console.print(f"{options.swapped:.0%} of the classes swapped: AP of the suspects {np.mean(precision):.3f}", end=" ")
    console.print(f"({min(precision):.3f} to {max(precision):.3f})")


if __name__ == "__main__":
    main()
