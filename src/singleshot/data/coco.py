"""COCO: ``instances`` JSON files and image folders."""

from __future__ import annotations

import gc
import json
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from singleshot.data.json_sections import Section, read_sections
from singleshot.data.records import ImageRecord, Records, declared_size
from singleshot.errors import DataError

LOOKED_FOR = "COCO: a .json with images, annotations and categories, alone, in annotations/, or in train/ valid/ test/"
MAX_JSON_BYTES = 4 * 2**30
NAMES_A_SPLIT = re.compile(r"instances_|train|val|test|_annotations\.coco")
NAMES_TRIED = 20
MAX_AREA = 1e15
OTHER_TASKS = re.compile(r"^(captions|person_keypoints|panoptic|stuff|image_info)_")
# A JSON of one of these names is the whole data set, not a split of that name.
GENERIC_NAMES = {"instances", "instances_default", "annotations", "labels", "coco", "result", "dataset"}
# Polygons are most of a COCO file and mean nothing to boxes; taken out before parsing, opening takes half as long.
POLYGONS = re.compile(r'"segmentation"\s*:\s*\[[][\d\s.,eE+-]*\]')
NAN = float("nan")


def _pick_category(element: Any) -> tuple[Any, ...]:
    get = element.get if isinstance(element, dict) else {}.get
    return get("id"), get("name")


def _pick_image(element: Any) -> tuple[Any, ...]:
    get = element.get if isinstance(element, dict) else {}.get
    return get("id"), get("file_name"), get("height"), get("width")


def _pick_annotation(element: Any) -> tuple[Any, ...]:
    get = element.get if isinstance(element, dict) else {}.get
    return get("id"), get("image_id"), get("category_id"), get("bbox"), get("iscrowd"), get("area"), get("difficult")


# What matters of each element; an element that is no object has nothing of it.
SECTIONS = {"categories": _pick_category, "images": _pick_image, "annotations": _pick_annotation}


@dataclass(frozen=True)
class CocoLayout:
    """COCO on disk.

    Attributes:
        root: the data set's folder.
        files: annotation file of each split; the key of a data set without splits is ``""``.
    """

    root: Path
    files: dict[str, Path]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train2017``."""
        return tuple(name for name in self.files if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every file."""
        records = Records()
        wanted = list(self.files) if split is None else split.split("+")
        with _paused_collector():
            for name in wanted:
                _read_file(records, self.files[name], self.root, name)
        return records


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Reading makes objects by the million and no cyclic garbage; looking for it would take a third of the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def find(path: Path) -> CocoLayout | None:
    """Recognise COCO at ``path``: a JSON file, or a folder with JSON files at the usual places."""
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        return CocoLayout(root, {"": path}) if path.suffix.lower() == ".json" else None
    found = [
        file for pattern in ("*.json", "annotations/*.json", "*/_annotations.coco.json") for file in path.glob(pattern)
    ]
    files = sorted(file for file in found if not OTHER_TASKS.match(file.name) and _has_sections(file))
    named = {_split_name(file, path): file for file in files}
    if len(files) == 1 and not NAMES_A_SPLIT.match(files[0].name):
        named = {"": files[0]}
    return CocoLayout(path, named) if files else None


def _split_name(file: Path, root: Path) -> str:
    if file.name == "_annotations.coco.json":
        return "" if file.parent == root else file.parent.name
    name = file.stem.removeprefix("instances_")
    return "" if name in GENERIC_NAMES else name


def _has_sections(file: Path) -> bool:
    """Whether the keys of a detection JSON occur in a file; searched without parsing or loading it."""
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))


def _read_file(records: Records, file: Path, root: Path, split: str) -> None:
    """Append the content of one JSON file."""
    sections = _load(file)
    known = _add_classes(records, file, sections["categories"])
    positions = _add_images(records, file, sections["images"], root, split)
    _add_annotations(records, file, sections["annotations"], positions, known)


def _load(file: Path) -> dict[str, Section]:
    """The three lists, reduced to the fields that matter here."""
    size = file.stat().st_size
    if size > MAX_JSON_BYTES:
        raise DataError(f"{file}: {size} bytes are too many for a COCO file (at most {MAX_JSON_BYTES}); split it")
    try:
        text = POLYGONS.sub(_line_breaks, file.read_bytes().decode("utf-8-sig"))
        sections = read_sections(text, SECTIONS)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON: {error}") from error
    for key in SECTIONS:
        if key not in sections:
            raise DataError(f"{file}: no list '{key}': a COCO detection file has images, annotations and categories")
    return sections


def _line_breaks(polygons: re.Match[str]) -> str:
    """An empty value with as many lines, so that line numbers stay true."""
    return '"segmentation":0' + "\n" * polygons[0].count("\n")


def _add_classes(records: Records, file: Path, section: Section) -> dict[int, int]:
    """Merge a file's categories, in the order of their ids; returns category id -> id of the class of that name."""
    classes = dict(zip(records.class_ids, records.class_names, strict=True))
    ids = {name: key for key, name in classes.items()}
    known = {}
    for (key, name), line in sorted(zip(section.values, section.lines, strict=True), key=lambda item: str(item[0][0])):
        if not isinstance(key, int) or not isinstance(name, str) or not name:
            raise DataError(f"{file}:{line}: a category needs an integer 'id' and a 'name', not {key!r} and {name!r}")
        if classes.setdefault(key, name) != name and name not in ids:
            raise DataError(f"{file}:{line}: category {key} is '{name}' here and '{classes[key]}' elsewhere")
        if ids.setdefault(name, key) != key:
            records.add_problem(
                file, line, "duplicate-class", f"'{name}' has ids {ids[name]} and {key}: merged", "noted"
            )
        known[key] = ids[name]
    records.class_ids = tuple(sorted(set(ids.values())))
    records.class_names = tuple(classes[key] for key in records.class_ids)
    return known


def _add_images(records: Records, file: Path, section: Section, root: Path, split: str) -> dict[Any, int]:
    """Append the images; returns image id -> position."""
    folder = _image_folder(file, root, split, [name for _, name, _, _ in section.values])
    positions: dict[Any, int] = {}
    for (key, name, height, width), line in zip(section.values, section.lines, strict=True):
        if not isinstance(key, int | str) or not isinstance(name, str) or not name:
            message = f"an image needs an 'id' and a 'file_name', not {key!r} and {name!r}"
            records.add_problem(file, line, "bad-record", message)
        elif key in positions:
            records.add_problem(file, line, "duplicate-image", f"image id {key} is taken; '{name}' stays out")
        elif ".." in PurePath(name := _as_path(name)).parts or PurePath(name).is_absolute():
            records.add_problem(file, line, "bad-record", f"file_name '{name}' leaves the image folder")
        else:
            positions[key] = len(records.images)
            records.images.append(ImageRecord(folder / name, key, file, line, declared_size(height, width)))
    return positions


def _image_folder(file: Path, root: Path, split: str, names: list[Any]) -> Path:
    """The folder among the usual ones that holds most of a sample of the images."""
    part = split or _split_name(file, root)
    near = (root, root / "images", root / part, root / "images" / part, file.parent / "images", file.parent)
    folders = list(dict.fromkeys(near))
    texts = [_as_path(name) for name in names if isinstance(name, str) and "\0" not in name]
    for tried in (texts[:: max(1, len(texts) // NAMES_TRIED)], texts):
        counts = [sum((folder / name).is_file() for name in tried) for folder in folders]
        if any(counts) or not texts:
            return folders[counts.index(max(counts))]
    looked = ", ".join(str(folder) for folder in folders)
    raise DataError(f"{file}: none of its images (as '{texts[0]}') is in {looked}: put them into one of these")


def _as_path(name: str) -> str:
    """A file name with the slashes that every system understands."""
    return name.replace("\\", "/")


def _add_annotations(
    records: Records, file: Path, section: Section, positions: dict[Any, int], known: dict[int, int]
) -> None:
    """Append the objects; the class id -1 stands for a category that the file does not list."""
    seen: set[Any] = set()
    for (key, image, category, bbox, crowd, area, difficult), line in zip(section.values, section.lines, strict=True):
        owner = positions.get(image) if isinstance(image, int | str) else None
        if owner is None:
            records.add_problem(
                file, line, "unknown-image", f"annotation {key!r} is of image {image!r}, not in the file"
            )
            continue
        if key is not None and not isinstance(key, dict | list):
            if key in seen:
                records.add_problem(file, line, "duplicate-id", f"annotation id {key!r} is used again", "noted")
            seen.add(key)
        if not isinstance(category, int) or category not in known:
            records.add_problem(file, line, "unknown-class", f"category_id {category!r} is not among the categories")
            continue
        records.add_object(
            _corners(bbox),
            known[category],
            line,
            difficult=bool(difficult),
            iscrowd=bool(crowd),
            area=float(area) if isinstance(area, int | float) and 0 < area < MAX_AREA else NAN,
            owner=owner,
            key=key,
        )


def _corners(bbox: Any) -> tuple[float, float, float, float]:
    """Corners of COCO's (x, y, width, height); NaN where there is no such box."""
    try:
        x, y, width, height = bbox
        return float(x), float(y), float(x + width), float(y + height)
    except (TypeError, ValueError, OverflowError):
        return NAN, NAN, NAN, NAN
