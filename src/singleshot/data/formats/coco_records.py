"""The records of one COCO file: categories, images, annotations, each checked for what it must say."""

from __future__ import annotations

from pathlib import Path

from singleshot.data.column_types import TextColumn
from singleshot.data.formats.coco_columns import AnnotationRows, ImageRows, Rows
from singleshot.data.formats.coco_images import ImagePlaces, as_path, leads_outside
from singleshot.data.formats.coco_json import load
from singleshot.data.formats.coco_objects import add_objects
from singleshot.data.records import Records
from singleshot.data.values import as_id, as_numeric_id, shown
from singleshot.errors import DataError


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
    lists, guessed = load(file)
    if guessed:
        records.add_problem(file, None, "encoding", f"neither UTF-8 nor marked; read as {guessed}", "noted")
    known = _add_classes(records, file, lists.categories, lists.annotations)
    positions = _add_images(records, file, lists.images, root, split)
    add_objects(records, file, lists.annotations, positions, known)


def _add_classes(records: Records, file: Path, section: Rows, annotations: AnnotationRows) -> dict[int, int]:
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
        if _is_heading(name, super_name, section) and not annotations.has_category(key):
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


def _is_heading(name: str, super_name: object, section: Rows) -> bool:
    """Whether a category is but the name of the set, as one server exports it: all others are below it."""
    if super_name not in (None, "", "none"):
        return False
    below = (other for _, own, other in section.values if own != name)
    return next(below, None) == name and all(other == name for other in below)


def _add_images(records: Records, file: Path, section: ImageRows, root: Path, split: str) -> dict[int | str, int]:
    """Append the images; returns image id -> position."""
    places = ImagePlaces(file, root, split, TextColumn(filter(None, section.names)) if section.odd else section.names)
    positions: dict[int | str, int] = {}
    moved: list[tuple[str, str]] = []
    for row, line in enumerate(section.lines):
        written, name = section.written(row)
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
        path, there = found or (places.inside(as_path(name)), True)
        if not there:
            moved.append((name, path))
        positions[key] = len(records.images)
        height, width = section.sizes_hw[2 * row : 2 * row + 2]
        records.images.add(path, key, file, line, (height, width) if height else None)
    if moved:
        message = (
            f"{len(moved)} images are not where file_name says; found by its end, as '{moved[0][0]}': {moved[0][1]}"
        )
        records.add_problem(file, None, "image-elsewhere", message, "noted")
    return positions
