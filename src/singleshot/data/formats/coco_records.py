"""The records of one COCO file: categories, images, annotations, each checked for what it must say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from singleshot.data.formats.coco_images import ImagePlaces, as_path, leads_outside
from singleshot.data.formats.coco_json import is_missing, load
from singleshot.data.formats.json_sections import JsonSection
from singleshot.data.records import ImageRecord, Records, declared_size
from singleshot.data.values import NAN, as_flag, as_id, as_number, as_numeric_id, four_numbers, shown
from singleshot.errors import DataError

MAX_AREA = 1e15
Box = tuple[float, float, float, float]


def add_file(records: Records, file: Path, root: Path, split: str) -> None:
    """Append the content of one JSON file.

    Args:
        records: what is read so far.
        file: the JSON file.
        root: the data set's folder.
        split: the file's split, or ``""``.

    Raises:
        DataError: the file is damaged, or none of its images is there.
    """
    sections, guessed = load(file)
    if guessed:
        records.add_problem(file, None, "encoding", f"neither UTF-8 nor marked; read as {guessed}", "noted")
    known = _add_classes(records, file, sections["categories"], sections["annotations"])
    positions = _add_images(records, file, sections["images"], root, split)
    _add_annotations(records, file, sections["annotations"], positions, known)


def _add_classes(records: Records, file: Path, section: JsonSection, annotations: JsonSection) -> dict[int, int]:
    """Merge a file's categories, in the order of their ids; returns category id -> id of the class of that name."""
    classes = dict(zip(records.class_ids, records.class_names, strict=True))
    ids = {name: key for key, name in classes.items()}
    known = {}
    rows = zip(section.values, section.lines, strict=True)
    for (written, name, super_name), line in sorted(rows, key=lambda row: str(row[0][0])):
        key = as_numeric_id(written)
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if key is None or not isinstance(name, str) or not name:
            message = f"a category needs an integer 'id' and a 'name', not {shown(written)} and {shown(name)}"
            raise DataError(f"{file}:{line}: {message}")
        name = name.encode(errors="backslashreplace").decode()  # JSON may hold halves of signs, which nothing can write
        if _is_heading(name, super_name, section) and all(as_numeric_id(a[2]) != key for a in annotations.values):
            message = f"category {key} '{name}' is the supercategory of the others and has no objects: no class"
            records.add_problem(file, line, "class-list", message, "noted")
            continue
        if classes.setdefault(key, name) != name and name not in ids:
            raise DataError(f"{file}:{line}: category {key} is '{name}' here and '{classes[key]}' elsewhere")
        if ids.setdefault(name, key) != key:
            message = f"'{name}' has ids {ids[name]} and {key}: merged"
            records.add_problem(file, line, "duplicate-class", message, "noted")
        known[key] = ids[name]
    records.class_ids = tuple(sorted(set(ids.values())))
    records.class_names = tuple(classes[key] for key in records.class_ids)
    return known


def _is_heading(name: str, super_name: object, section: JsonSection) -> bool:
    """Whether a category is but the name of the set, as one server exports it: all others are below it."""
    below = [other for _, own, other in section.values if own != name]
    return bool(below) and super_name in (None, "", "none") and all(other == name for other in below)


def _add_images(records: Records, file: Path, section: JsonSection, root: Path, split: str) -> dict[int | str, int]:
    """Append the images; returns image id -> position."""
    names = [name for _, name, _, _ in section.values if isinstance(name, str) and name]
    places = ImagePlaces(file, root, split, names)
    positions: dict[int | str, int] = {}
    moved: list[tuple[str, Path]] = []
    for (written, name, height, width), line in zip(section.values, section.lines, strict=True):
        key = as_id(written)
        if key is None or not isinstance(name, str) or not name:
            message = f"an image needs an 'id' and a 'file_name', not {shown(written)} and {shown(name)}"
            records.add_problem(file, line, "bad-record", message)
            continue
        if key in positions:
            records.add_problem(file, line, "duplicate-image", f"image id {shown(key)} is taken; '{name}' stays out")
            continue
        found = places.find(name)
        if found is None and leads_outside(as_path(name)):
            message = f"file_name '{name}' leaves the image folder, and no image in it is called so"
            records.add_problem(file, line, "bad-record", message)
            continue
        path, there = found or (places.folder / as_path(name), True)
        if not there:
            moved.append((name, path))
        positions[key] = len(records.images)
        size_hw = declared_size(as_number(height), as_number(width))
        records.images.append(ImageRecord(path, key, file, line, size_hw))
    if moved:
        message = (
            f"{len(moved)} images are not where file_name says; found by its end, as '{moved[0][0]}': {moved[0][1]}"
        )
        records.add_problem(file, None, "image-elsewhere", message, "noted")
    return positions


class _ImageIds:
    """Finds images by id, also where images and annotations write the same ids as number and as text."""

    def __init__(self, positions: dict[int | str, int]) -> None:
        self._positions = positions
        counts = Counter(map(_plain, positions))
        self._plain = {_plain(key): key for key in positions if counts[_plain(key)] == 1}
        self.example: tuple[object, object] | None = None

    def find(self, image: object) -> int | None:
        """Position of the image; keeps the first pair of ids that are alike but not equal."""
        key = as_id(image)
        if key is None or key in self._positions:
            return None if key is None else self._positions[key]
        own = self._plain.get(_plain(key))
        if own is None:
            return None
        self.example = self.example or (image, own)
        return self._positions[own]


def _plain(key: int | str) -> int | str:
    number = as_numeric_id(key)
    return str(key).strip() if number is None else number


def _add_annotations(
    records: Records, file: Path, section: JsonSection, positions: dict[int | str, int], known: dict[int, int]
) -> None:
    """Append the objects; what a record lacks is named with its line."""
    seen: set[Any] = set()
    images = _ImageIds(positions)
    first = len(records.boxes)
    texts = polygons = 0
    rows = zip(section.values, section.lines, strict=True)
    for (key, image, category, bbox, crowd, area, difficult, shape), line in rows:  # a million: plain values go fast
        owner = positions.get(image) if type(image) is int else None
        if owner is None and (owner := images.find(image)) is None:
            message = f"annotation {shown(key)} is of image {shown(image)}, not in the file"
            records.add_problem(file, line, "unknown-image", message)
            continue
        if isinstance(key, int | str):
            if key in seen:
                records.add_problem(file, line, "duplicate-id", f"annotation id {shown(key)} is used again", "noted")
            seen.add(key)
        label = known.get(category if type(category) is int else as_numeric_id(category))  # type: ignore[arg-type]
        if label is None:
            empty = "" if known else ", of which the file has none"
            message = f"annotation {shown(key)}: category_id {shown(category)} is not among the categories{empty}"
            records.add_problem(file, line, "unknown-class", message)
            continue
        box, fault = _corners(bbox, shape)
        iscrowd = crowd != 0 if type(crowd) is int else as_flag(crowd)
        if box is None or iscrowd is None:
            name = records.class_names[records.class_ids.index(label)]
            message = f"annotation {shown(key)}, {name}: {fault or f'iscrowd is {shown(crowd)}, neither 0 nor 1'}"
            records.add_problem(file, line, "not-finite" if fault else "bad-record", message)
            continue
        texts += type(bbox) is str or str in map(type, bbox)
        polygons += shape == "polygon"
        size = area if type(area) is float else as_number(area)
        records.add_object(
            box,
            label,
            line,
            difficult=difficult is not None and bool(as_flag(difficult)),
            iscrowd=iscrowd,
            area=size if 0 < size < MAX_AREA else NAN,
            owner=owner,
            key=key,
        )
    _note_guesses(records, file, images, texts, polygons)
    if all(records.iscrowd[first:]) and len(records.iscrowd) > first:
        message = f"all {len(records.iscrowd) - first} objects are crowds (iscrowd: 1), which training leaves out"
        records.add_problem(file, None, "all-crowd", message, "noted")


def _note_guesses(records: Records, file: Path, images: _ImageIds, texts: int, polygons: int) -> None:
    """One line for each way in which the file was understood though it is not as COCO says."""
    if images.example:
        message = "annotations write the images' ids in another type, as {!r} for {!r}: matched".format(*images.example)
        records.add_problem(file, None, "id-types", message, "noted")
    if texts:
        message = f"{texts} boxes are written as text; read as numbers"
        records.add_problem(file, None, "text-numbers", message, "noted")
    if polygons:
        message = f"{polygons} annotations have a polygon and no bbox; the box around the polygon is taken"
        records.add_problem(file, None, "polygon", message, "noted")


def _corners(bbox: Any, shape: str) -> tuple[Box | None, str]:
    """Corners of COCO's (x, y, width, height), or what is wrong."""
    if is_missing(bbox):
        return None, {"mask": "a mask (RLE) but no bbox", "": "no bbox"}.get(shape, "a polygon but no bbox")
    if type(bbox) is list and len(bbox) == 4 and {int, float}.issuperset(map(type, bbox)):
        numbers = four_numbers(bbox) if any(type(value) is int and abs(value) > 2**53 for value in bbox) else bbox
    else:
        numbers = four_numbers(bbox)
    if numbers is None:
        return None, f"bbox is {shown(bbox)}, not four finite numbers"
    x, y, width, height = numbers
    if not abs(x) + abs(y) + abs(width) + abs(height) < float("inf"):
        return None, f"bbox is {shown(bbox)}, not four finite numbers"
    return (float(x), float(y), float(x + width), float(y + height)), ""
