"""Write a data set in another format: images are copied or linked, splits and the order of the classes are kept."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from singleshot.data.dataset import DetectionDataset, open_splits
from singleshot.data.problems import BadData, Problem
from singleshot.data.recognise import Format
from singleshot.data.writers import CocoRecord, coco_records, voc_xml, yolo_text
from singleshot.errors import DataError
from singleshot.files import write_atomically
from singleshot.structures import ClassMap, Sample

Target = Literal["voc", "coco", "yolo"]
Splits = Mapping[str | None, Sequence[Sample]]
Track = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        images, objects: written, each counted once.
        splits: images of each split; empty where the source has none.
        problems: what was wrong with the source.
        losses: what the new format cannot say, in sentences.
    """

    images: int
    objects: int
    splits: dict[str, int]
    problems: tuple[Problem, ...]
    losses: tuple[str, ...]


def convert(
    source: str | Path,
    destination: str | Path,
    to: Target,
    *,
    format: Format | Literal["auto"] = "auto",
    images: Literal["copy", "link"] = "copy",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
    track: Track = iter,
) -> Conversion:
    """Read a data set of any format and write it as ``to``.

    Args:
        source: see `singleshot.data.open`.
        destination: a new or empty folder.
        to: the format to write.
        format: the source's format.
        images: ``copy`` the image files, or ``link`` to them (symbolic links).
        bad_data: policy for bad records of the source.
        classes: the classes to keep, in this order.
        track: wraps the list of image files while they are copied (a progress bar).

    Raises:
        DataError: the source cannot be read, or the destination is not empty.
    """
    source, destination = Path(source), Path(destination)
    if to not in WRITERS:
        raise DataError(f"cannot write the format '{to}': use {', '.join(WRITERS)}")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DataError(f"{destination}: exists and is not an empty folder: name a new one")
    whole, parts = open_splits(source, format, bad_data, classes)
    names = _file_names(whole)
    splits: dict[str | None, Sequence[Sample]] = {name: part.samples for name, part in parts.items()}
    splits = splits or {None: whole.samples}
    WRITERS[to](destination, whole, splits, names)
    folder = destination / IMAGE_FOLDERS[to]
    folder.mkdir(parents=True, exist_ok=True)
    for path in track(list(names)):
        target = folder / names[path]
        if images == "link":
            target.symlink_to(path.resolve())
        else:
            shutil.copyfile(path, target)
    counts = {name: len(part) for name, part in parts.items()}
    objects = sum(map(len, whole))
    return Conversion(len(whole), objects, counts, whole.problems, tuple(_losses(whole.samples, to)))


def _file_names(dataset: DetectionDataset) -> dict[Path, str]:
    """Image -> its name in the one new folder; equal names of different folders are told apart by the folders."""
    counts = Counter(sample.image_path.stem for sample in dataset.samples)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for sample in dataset.samples:
        path = sample.image_path
        stem = "_".join(path.parts[-3:-1]) + f"_{path.stem}" if counts[path.stem] > 1 else path.stem
        unique = stem if stem not in taken else f"{stem}_{len(taken)}"
        taken.add(unique)
        names[path] = unique + path.suffix.lower()
    return names


def _write_voc(folder: Path, whole: DetectionDataset, splits: Splits, names: Mapping[Path, str]) -> None:
    for sample in whole.samples:
        name = names[sample.image_path]
        content = voc_xml(sample, name, whole.class_map.names)
        write_atomically(folder / "Annotations" / f"{Path(name).stem}.xml", content)
    for split, samples in splits.items():
        if split is not None:
            lines = "".join(f"{Path(names[sample.image_path]).stem}\n" for sample in samples)
            write_atomically(folder / "ImageSets" / "Main" / f"{split}.txt", lines)
    _write_class_list(folder, whole.class_map)


def _write_yolo(folder: Path, whole: DetectionDataset, splits: Splits, names: Mapping[Path, str]) -> None:
    for sample in whole.samples:
        write_atomically(folder / "labels" / f"{Path(names[sample.image_path]).stem}.txt", yolo_text(sample))
    settings: dict[str, object] = {"path": "."}
    for split, samples in splits.items():
        if split is None:
            settings["train"] = "images"
            continue
        # Lists, because an image may be in several splits (trainval and train).
        write_atomically(
            folder / f"{split}.txt", "".join(f"./images/{names[sample.image_path]}\n" for sample in samples)
        )
        settings["val" if split == "valid" else split] = f"{split}.txt"
    settings["names"] = dict(enumerate(whole.class_map.names))
    write_atomically(folder / "data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _write_coco(folder: Path, whole: DetectionDataset, splits: Splits, names: Mapping[Path, str]) -> None:
    ids = whole.class_map.ids if whole.format == "coco" else tuple(range(1, len(whole.class_map) + 1))
    categories = [{"id": key, "name": name} for key, name in zip(ids, whole.class_map.names, strict=True)]
    numbers = {sample.image_path: number for number, sample in enumerate(whole.samples, 1)}
    if all(isinstance(sample.image_id, int) for sample in whole.samples):
        numbers = {sample.image_path: int(sample.image_id) for sample in whole.samples}
    for split, samples in splits.items():
        images: list[CocoRecord] = []
        annotations: list[CocoRecord] = []
        for sample in samples:
            path = sample.image_path
            image, objects = coco_records(sample, names[path], numbers[path], len(annotations) + 1, ids)
            images.append(image)
            annotations += objects
        content = {"images": images, "annotations": annotations, "categories": categories}
        name = "instances.json" if split is None else f"instances_{split}.json"
        write_atomically(folder / "annotations" / name, json.dumps(content))


def _write_class_list(folder: Path, class_map: ClassMap) -> None:
    write_atomically(folder / "classes.txt", "".join(f"{name}\n" for name in class_map.names))


def _losses(samples: Sequence[Sample], to: Target) -> Iterable[str]:
    crowds = sum(int(sample.iscrowd.sum()) for sample in samples)
    difficult = sum(int(sample.difficult.sum()) for sample in samples)
    if crowds and to == "voc":
        yield f"{crowds} crowds became difficult objects: VOC has no crowds"
    if crowds and to == "yolo":
        yield f"{crowds} crowds were left out: YOLO has no crowds"
    if difficult and to == "yolo":
        yield f"{difficult} difficult objects became ordinary ones: YOLO has no such flag"


WRITERS: dict[Target, Callable[[Path, DetectionDataset, Splits, Mapping[Path, str]], None]] = {
    "voc": _write_voc,
    "coco": _write_coco,
    "yolo": _write_yolo,
}
IMAGE_FOLDERS: dict[Target, str] = {"voc": "JPEGImages", "coco": "images", "yolo": "images"}
