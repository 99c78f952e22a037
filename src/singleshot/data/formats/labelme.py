"""a JSON file of shapes for each image, beside it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from singleshot.core.files import contains, read_text
from singleshot.data.bad_records import Problem
from singleshot.data.file_index import list_files
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.paths import Locator, child, images_below, subfolders, visible
from singleshot.data.records import ImageRecord, Records, declared_size
from singleshot.data.split_names import names_split
from singleshot.images.read import IMAGE_SUFFIXES

MAX_JSON_BYTES = 256 * 2**20
FILES_TRIED = 50
LABEL_FOLDERS = ("labels", "annotations", "json", "jsons")
NAN = float("nan")
EMBEDDED = "imageData"
BOXED = ("rectangle", "polygon", "mask", "rotation", "oriented rectangle")


@dataclass(frozen=True)
class LabelMeLayout:
    """LabelMe on disk.

    Attributes:
        root: the data set's folder.
        folders: where the JSON files are, searched deeply, by split; the key of a data set without splits is ``""``.
        files: the only files that count, where the user named one.
    """

    root: Path
    folders: dict[str, Path]
    files: tuple[Path, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train``."""
        return tuple(name for name in self.folders if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every file."""
        wanted = list(self.folders) if split is None else split.split("+")
        records = Records()
        for name in wanted:
            folder = self.folders[name]
            files = self.files or tuple(folder / path for path in list_files(folder, {".json"}))
            for file in files:
                _read_file(records, file, self.root)
            if not self.files:
                _report_unlabelled(records, self.folders[name])
        everything = records.labels if len(wanted) == len(self.folders) else self.read(None).labels
        records.class_names = tuple(sorted({str(label) for label in everything if label}))
        return records


def find(path: Path) -> LabelMeLayout | None:
    """Recognise LabelMe at ``path``: one of its files, or a folder with some, or with folders of splits."""
    if path.is_file():
        return LabelMeLayout(path.parent, {"": path.parent}, (path,)) if _is_json(path) and _is_ours(path) else None
    parts = {folder.name: folder for folder in subfolders(path) if _has_ours(folder)}
    if any(map(names_split, parts)):
        return LabelMeLayout(path, parts)
    return LabelMeLayout(path, {"": path}) if _has_ours(path) else None


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _has_ours(folder: Path) -> bool:
    places = [folder, *(folder / name for name in LABEL_FOLDERS)]
    return any(_is_ours(file) for place in places for file in islice(visible(place, ".json"), FILES_TRIED))


def _is_ours(file: Path) -> bool:
    """Whether the keys of a LabelMe file occur in it."""
    return contains(file, '"shapes"', '"imagePath"')


def _read_file(records: Records, file: Path, root: Path) -> None:
    """Append one image and its objects, or the problem that keeps it out; other programs' files are passed over."""
    content = _load(file, file.stat().st_mtime_ns)
    if isinstance(content, Problem):
        records.problems.append(content)
        return
    if content is None:
        return
    name = content.get("imagePath")
    image = _image(file, root, name if isinstance(name, str) else "")
    size = declared_size(content.get("imageHeight"), content.get("imageWidth"))
    if content[EMBEDDED] and not image.is_file():
        message = f"there is no image {image}; the one inside this file ('{EMBEDDED}') is not read: save it there"
        records.add_problem(file, None, "missing-image", message)
        return
    records.images.append(ImageRecord(image, file.stem, file, None, size))
    for number, shape in enumerate(content["shapes"], 1):
        _read_shape(records, file, number, shape)


@lru_cache(maxsize=4096)
def _load(file: Path, _modified_ns: int) -> dict[str, Any] | Problem | None:
    """The content without the image that some files embed; ``None`` for JSON of another kind."""
    try:
        content = json.loads(read_text(file, MAX_JSON_BYTES).text)
    except json.JSONDecodeError as error:
        return Problem(file, error.lineno, "unreadable-annotation", "skipped", f"not valid JSON: {error.msg}")
    except (OSError, ValueError, RecursionError) as error:
        return Problem(file, None, "unreadable-annotation", "skipped", f"cannot be read: {error}")
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        return None
    kept = {key: content.get(key) for key in ("imagePath", "imageHeight", "imageWidth", "shapes")}
    return kept | {EMBEDDED: bool(content.get(EMBEDDED))}


def _image(file: Path, root: Path, name: str) -> Path:
    """The image that the file names, else the one of its own name beside it or in ``images/``."""
    images = child(root, "images")
    found = Locator([file.parent, root, *([images] if images else [])]).find(name) if name else None
    if found and Path(os.path.abspath(found)).is_relative_to(root.absolute().parent):  # not any file of the machine
        return found
    near = [folder / file.stem for folder in (file.parent, images) if folder]
    suffixes = [*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)]
    same = (stem.parent / (stem.name + suffix) for stem in near for suffix in suffixes)
    expected = file.parent / (name.replace("\\", "/") or f"{file.stem}.jpg")
    return next((path for path in same if path.is_file()), expected)


def _read_shape(records: Records, file: Path, number: int, shape: Any) -> None:
    """Append the box around a shape; points and lines have none."""
    if not isinstance(shape, dict):
        records.add_problem(file, None, "bad-record", f"shape {number} is no object with a label and points")
        return
    kind = shape.get("shape_type") or "polygon"
    label = shape.get("label")
    if kind != "circle" and kind not in BOXED:
        message = f"shape {number} is a {str(kind)[:20]}, which has no box"
        records.add_problem(file, None, "bad-record", message)
        return
    if kind != "rectangle":
        message = f"shape {number} is a {kind}: of all shapes, the upright box around them is used"
        records.note_once(file, None, "polygon", message)
    box = _box(shape.get("points"), circle=kind == "circle")
    records.add_object(box, label if isinstance(label, str) else "", 0, key=number)


def _box(points: Any, circle: bool) -> tuple[float, float, float, float]:
    """The box around some points, or around a circle given by its centre and a point; NaN where there is none."""
    try:
        xs, ys = zip(*((float(x), float(y)) for x, y in points), strict=True)
    except (TypeError, ValueError, OverflowError):
        return NAN, NAN, NAN, NAN
    if len(xs) < 2:
        return NAN, NAN, NAN, NAN
    if circle:
        radius = math.hypot(xs[0] - xs[1], ys[0] - ys[1])
        return xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
    return min(xs), min(ys), max(xs), max(ys)


def _report_unlabelled(records: Records, folder: Path) -> None:
    """An image without a file of its own is not known to be background, so it stays out, and is named."""
    labelled = {image.path for image in records.images}
    for path in images_below(folder):
        if path not in labelled:
            message = "the image has no LabelMe file; background images need one without shapes"
            records.add_problem(path, None, "missing-annotation", message)


FORMATS.register("labelme")(DataFormat("LabelMe", "*.json files with shapes and imagePath, beside their images", find))
