"""Labels inside tar shards, in the forms in which people pack them: ours, COCO's, torchvision's, YOLO's lines."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from singleshot.core.json_text import parse_json
from singleshot.data.values import NAN, as_flag, as_id, as_number, four_numbers, shown

LABEL_SUFFIXES = (".json", ".txt")
CLASS_KEYS = ("category_name", "category_id", "category", "class_name", "class", "label", "name")
Box = tuple[float, float, float, float]


class PackedObject(NamedTuple):
    """An object as it is written: a class by name or number, corners in pixels of the upright image."""

    label: str | int
    box_xyxy: Box
    difficult: bool = False
    iscrowd: bool = False
    area: float = NAN


def split_member(name: str) -> tuple[str, str]:
    """What the files of one image share in a shard, and what kind of file it is: up to, and from, the first dot."""
    path = PurePosixPath(name)
    stem, _, rest = path.name.partition(".")
    return (path.parent / stem).as_posix(), f".{rest.lower()}"


def parse_labels(data: bytes, suffix: str, size_hw: tuple[int, int]) -> list[PackedObject]:
    """The objects of an image.

    Raises:
        ValueError: these are no labels of boxes; says why.
    """
    text = data.decode()
    if suffix == ".txt":
        return [_yolo(line, size_hw) for line in text.splitlines() if line.strip()]
    return parse_content(parse_json(text))


def parse_content(content: Any) -> list[PackedObject]:
    """The objects of an image from plain values.

    Raises:
        ValueError: these are no labels of boxes; says why.
    """
    if isinstance(content, dict):
        if "boxes_xyxy" in content:
            return _columns(content, "boxes_xyxy", "class_names")
        if "boxes" in content and "labels" in content:
            return _columns(content, "boxes", "labels")
        content = next((content[key] for key in ("annotations", "objects") if key in content), None)
    if not isinstance(content, list):
        raise ValueError("the json has no list 'annotations' or 'objects', and no 'boxes' with 'labels'")
    return [_coco(entry) for entry in content]


def _yolo(line: str, size_hw: tuple[int, int]) -> PackedObject:
    """``class cx cy w h`` in fractions."""
    numbers = [as_number(part) for part in line.split()]
    if len(numbers) < 5 or any(map(math.isnan, numbers[:5])) or numbers[0] < 0 or not numbers[0].is_integer():
        raise ValueError(f"{shown(line)} is not 'class cx cy w h'")
    label, cx, cy, w, h = numbers[:5]
    if max(cx, cy, w, h) > 2:
        raise ValueError(f"{shown(line)}: these are no fractions of the image")
    height, width = size_hw
    box = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    return PackedObject(int(label), box)


def _coco(entry: Any) -> PackedObject:
    box = four_numbers(entry.get("bbox")) if isinstance(entry, dict) else None
    if box is None:
        raise ValueError(f"{shown(entry)} has no 'bbox' of four numbers (x, y, width, height)")
    label = _label(next((entry[key] for key in CLASS_KEYS if entry.get(key) is not None), None))
    x, y, width, height = box
    difficult = entry.get("difficult", entry.get("ignore"))  # as in COCO files
    flags = bool(as_flag(difficult)), bool(as_flag(entry.get("iscrowd")))
    return PackedObject(label, (x, y, x + width, y + height), *flags, as_number(entry.get("area")))


def _columns(content: dict[str, Any], boxes: str, labels: str) -> list[PackedObject]:
    """Boxes as corners and classes, in lists of equal length."""
    count = len(content[boxes]) if isinstance(content[boxes], list) else 0
    flags = (content.get(key, [False] * count) for key in ("difficult", "iscrowd"))
    columns = (content.get(labels), content[boxes], *flags, content.get("areas", [NAN] * count))
    if not all(isinstance(column, list) and len(column) == count for column in columns):
        raise ValueError(f"'{boxes}' and '{labels}' are not lists of equal length")
    rows = []
    for label, box, difficult, crowd, area in zip(*columns, strict=True):
        corners = four_numbers(box)
        if corners is None:
            raise ValueError(f"{shown(box)} is no box of four numbers")
        flags_of = bool(as_flag(difficult)), bool(as_flag(crowd))
        rows.append(PackedObject(_label(label), corners, *flags_of, as_number(area)))
    return rows


def _label(value: object) -> str | int:
    label = as_id(value)
    if label is None or label == "" or (isinstance(label, int) and label < 0):
        raise ValueError(f"{shown(value)} is no class")
    return label
