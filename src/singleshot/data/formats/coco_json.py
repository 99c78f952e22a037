"""A COCO file, reduced to what boxes need; polygons are looked at only where a bbox is missing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from singleshot.core.files import decode_text, read_bytes
from singleshot.data.formats.coco_columns import AnnotationRows, ImageRows, Rows
from singleshot.data.formats.json_sections import read_sections, utf8_pieces
from singleshot.data.values import as_number
from singleshot.errors import DataError

MAX_JSON_BYTES, MAX_OTHER_BYTES = 64 * 2**30, 4 * 2**30
"""In UTF-8, which is read piece by piece, and in other encodings."""
# Polygons are most of a COCO file and mean nothing to boxes; taken out before parsing, opening takes half as long.
POLYGONS = re.compile(r'"segmentation"\s*:\s*\[[][\d\s.,eE+-]*\]')


def _pick_category(element: Any) -> tuple[Any, ...]:
    get = element.get if isinstance(element, dict) else {}.get
    return get("id"), get("name"), get("supercategory")


def _pick_image(element: Any) -> tuple[Any, ...]:
    get = element.get if isinstance(element, dict) else {}.get
    return get("id"), get("file_name"), get("height"), get("width")


def _pick_annotation(element: Any) -> tuple[Any, ...]:
    """The last value says whether the annotation has a polygon or mask.

    ``ignore`` is how converters of VOC, mmdetection's for one, write ``difficult``.
    """
    get = element.get if isinstance(element, dict) else {}.get
    difficult = get("difficult", get("ignore"))
    return (
        *(get("id"), get("image_id"), get("category_id"), get("bbox"), get("iscrowd"), get("area"), difficult),
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
SECTIONS: Mapping[str, Callable[[], Any]] = {
    "categories": partial(Rows, _pick_category),
    "images": partial(ImageRows, _pick_image),
    "annotations": partial(AnnotationRows, _pick_annotation),
}


class CocoLists(NamedTuple):
    """The lists of a file."""

    categories: Rows
    images: ImageRows
    annotations: AnnotationRows


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


def load(file: Path) -> tuple[CocoLists, str]:
    """The three lists of a file, reduced to the fields that matter, and the encoding where it had to be guessed.

    Raises:
        DataError: the file cannot be read, is no JSON, or lacks a list; names it and the line.
    """
    guessed = ""
    try:
        try:
            sections = _read(partial(utf8_pieces, file, MAX_JSON_BYTES))
        except UnicodeDecodeError:  # other encodings are read as a whole
            content = decode_text(read_bytes(file, MAX_OTHER_BYTES))
            sections, guessed = _read(lambda: [content.text]), content.encoding if content.guessed else ""
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}; a COCO file may have {MAX_JSON_BYTES:,} bytes") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON: {error}") from error
    for key in SECTIONS:
        if key not in sections:
            raise DataError(f"{file}: no list '{key}': a COCO detection file has images, annotations and categories")
    return CocoLists(*(sections[key] for key in SECTIONS)), guessed


def _read(pieces: Callable[[], Iterable[str]]) -> dict[str, Any]:
    """The lists of a text; if an annotation has a polygon or mask and no box, they are read again with those."""
    sections = read_sections(map(partial(POLYGONS.sub, _line_breaks), pieces()), SECTIONS)
    annotations = sections.get("annotations")
    if annotations and any(is_missing(row[3]) and row[7] for row in annotations.odd.values()):
        sections |= read_sections(pieces(), {"annotations": partial(AnnotationRows, _pick_annotation_around_polygon)})
    return sections


def _line_breaks(polygons: re.Match[str]) -> str:
    """An empty value with as many lines, so that line numbers stay true."""
    return '"segmentation":0' + "\n" * polygons[0].count("\n")
