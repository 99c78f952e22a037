"""KITTI: a text file for each image, in ``label_2/`` beside ``image_2/``, or ``labels/`` beside ``images/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from singleshot.data.class_list import find_class_list, settle_classes
from singleshot.data.formats.kitti_rows import SUFFIX, holds_kitti, read_rows
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.paths import ImageFolder, child, subfolders, visible
from singleshot.data.records import ImageRecord, Records
from singleshot.data.split_names import names_split

LABEL_FOLDERS = ("label_2", "labels", "label")
IMAGE_FOLDERS = ("image_2", "images", "image", "JPEGImages")


class KittiPart(NamedTuple):
    """A folder of labels, and the folder of its images."""

    labels: Path
    images: Path


@dataclass(frozen=True)
class KittiLayout:
    """KITTI on disk.

    Attributes:
        root: the folder of the data set.
        parts: labels and images of each split; the key of a data set without splits is ``""``.
        missing: splits of images that have no labels, as KITTI's own ``testing``.
    """

    root: Path
    parts: dict[str, KittiPart]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``training``."""
        return tuple(name for name in self.parts if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every part; the classes are those of all."""
        records = Records(states_sizes=False)
        for name in self.parts if split is None else split.split("+"):
            records.extend(self._read[name])
        settle_classes(records, find_class_list(self.root, records), self._all_used)
        for name, reason in self.missing.items() if split is None else ():
            records.add_problem(self.root / name, None, "missing-split", reason, "noted")
        return records

    @cached_property
    def _read(self) -> dict[str, Records]:
        return {name: _read_part(part) for name, part in self.parts.items()}

    def _all_used(self) -> set[str]:
        return {str(label) for records in self._read.values() for label in records.labels}


def find(path: Path) -> KittiLayout | None:
    """Recognise KITTI at ``path``: labels beside images, for all images or in folders of splits."""
    if not path.is_dir():
        return None
    if (part := _part(path)) and holds_kitti(part.labels):
        return KittiLayout(path, {"": part})
    folders = {folder.name: folder for folder in subfolders(path)}
    pairs = {name: part for name, folder in folders.items() if (part := _part(folder))} or _inner_parts(path)
    kinds = {name: holds_kitti(part.labels) for name, part in pairs.items()}
    parts = {name: part for name, part in pairs.items() if kinds[name] is not False}  # one may be all background
    if not any(kinds.values()) or not any(map(names_split, parts)):
        return None
    bare = [
        name for name in folders if name not in parts and names_split(name) and _first(folders[name], IMAGE_FOLDERS)
    ]
    return KittiLayout(path, parts, {name: f"{folders[name]}: its images have no labels" for name in bare})


def _part(folder: Path) -> KittiPart | None:
    """Labels and images side by side."""
    labels, images = _first(folder, LABEL_FOLDERS), _first(folder, IMAGE_FOLDERS)
    return KittiPart(labels, images) if labels and images else None


def _inner_parts(path: Path) -> dict[str, KittiPart]:
    """``labels/train`` and ``images/train``."""
    labels, images = _first(path, LABEL_FOLDERS), _first(path, IMAGE_FOLDERS)
    if not labels or not images:
        return {}
    pairs = {folder.name: (folder, child(images, folder.name)) for folder in subfolders(labels)}
    return {name: KittiPart(own, beside) for name, (own, beside) in pairs.items() if beside}


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((found for name in names if (found := child(folder, name)) and found.is_dir()), None)


def _read_part(part: KittiPart) -> Records:
    """Images with a label file, which may be empty; those without one are not known to be background."""
    records = Records()
    images = ImageFolder(part.images)
    labelled: set[Path] = set()
    regions = 0
    for file in visible(part.labels, SUFFIX):
        image = images.find(file.stem)
        path = image or part.images / f"{file.stem}.png"
        labelled.add(path)
        records.images.append(ImageRecord(path, file.stem, file))
        found = read_rows(records, file)
        if found is None:
            records.images.pop()
        regions += found or 0
    for path in images.paths():
        if path not in labelled:
            expected = part.labels / f"{path.stem}{SUFFIX}"
            message = f"the image has no label file (looked for {expected}); background images need an empty one"
            records.add_problem(path, None, "missing-annotation", message)
    if regions:
        message = f"{regions} regions of class DontCare are left out: objects in them train and count as background"
        records.add_problem(part.labels, None, "ignored-regions", message, "noted")
    return records


FORMATS.register("kitti")(
    DataFormat(
        "KITTI",
        "label_2/*.txt beside image_2/, or labels/*.txt beside images/, also in training/ or train/, val/",
        find,
    )
)
