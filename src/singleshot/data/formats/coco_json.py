"""A COCO file, reduced to what boxes need; polygons are looked at only where a bbox is missing."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from singleshot.core.files import decode_text, read_bytes
from singleshot.data.formats.json_sections import JsonSection, read_sections
from singleshot.data.values import as_number
from singleshot.errors import DataError

MAX_JSON_BYTES = 4 * 2**30
# Polygons are most of a COCO file and mean nothing to boxes; taken out before parsing, opening takes half as long.
POLYGONS = re.compile(r'"segmentation"\s*:\s*\[[][\d\s.,eE+-]*\]')


def _pick_category(element: Any) -> tuple[Any, ...]:
    get = element.get if isinstance(element, dict) else {}.get
    return get("id"), get("name"), get("supercategory")


def _pick_image(element: Any) -> tuple[Any, ...]:
    get = element.get if isinstance(element, dict) else {}.get
    return get("id"), get("file_name"), get("height"), get("width")


def _pick_annotation(element: Any) -> tuple[Any, ...]:
    """The last value says whether the annotation has a polygon or mask."""
    get = element.get if isinstance(element, dict) else {}.get
    return (
        *(get("id"), get("image_id"), get("category_id"), get("bbox"), get("iscrowd"), get("area"), get("difficult")),
        "segmentation" if get("segmentation") is not None else "",
    )


def _pick_annotation_around_polygon(element: Any) -> tuple[Any, ...]:
    """As `_pick_annotation`, with the box around the polygons where the bbox is missing."""
    picked = _pick_annotation(element)
    if not is_missing(picked[3]) or not picked[7]:
        return picked
    box = box_around(element["segmentation"])
    return (*picked[:3], box, *picked[4:7], "polygon" if box else "mask" if element["segmentation"] else "")


# What matters of each element; an element that is no object has nothing of it.
SECTIONS = {"categories": _pick_category, "images": _pick_image, "annotations": _pick_annotation}


def is_missing(bbox: object) -> bool:
    """Whether a record leaves its bbox out, in one of the ways in which tools do."""
    return bbox is None or bbox == [] or bbox == ""


def box_around(segmentation: object) -> list[float] | None:
    """``[x, y, width, height]`` around polygons ``[[x, y, x, y ...] ...]`` or around one; ``None`` for other things."""
    polygons = segmentation if isinstance(segmentation, list) else []
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]
    points = [as_number(value) for polygon in polygons if isinstance(polygon, list) for value in polygon]
    if len(points) < 4 or any(map(math.isnan, points)) or any(len(polygon) % 2 for polygon in polygons):
        return None
    x, y = points[::2], points[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def load(file: Path) -> tuple[dict[str, JsonSection], str]:
    """The three lists of a file, reduced to the fields that matter, and the encoding where it had to be guessed.

    Raises:
        DataError: the file cannot be read, is no JSON, or lacks a list; names it and the line.
    """
    try:
        content = decode_text(read_bytes(file, MAX_JSON_BYTES))
        sections = read_sections(POLYGONS.sub(_line_breaks, content.text), SECTIONS)
        if any(is_missing(value[3]) and value[7] for value in sections.get("annotations", JsonSection([], [])).values):
            keep = {"annotations": _pick_annotation_around_polygon}
            sections |= read_sections(content.text, keep)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}; a COCO file may have {MAX_JSON_BYTES:,} bytes") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON: {error}") from error
    for key in SECTIONS:
        if key not in sections:
            raise DataError(f"{file}: no list '{key}': a COCO detection file has images, annotations and categories")
    return sections, content.encoding if content.guessed else ""


def _line_breaks(polygons: re.Match[str]) -> str:
    """An empty value with as many lines, so that line numbers stay true."""
    return '"segmentation":0' + "\n" * polygons[0].count("\n")
