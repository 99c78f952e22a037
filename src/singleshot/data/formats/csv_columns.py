"""Which column of a table means what: by its header, or by the first line where there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from singleshot.data.notation import Form
from singleshot.data.paths import is_image

DELIMITERS = ",;\t|"

_NAMES = {
    "filename": (
        *("filename", "file", "filepath", "image", "imagefile", "imagepath", "imagename", "img", "imgpath", "imgname"),
        *("path", "externalurl", "imageid", "imgid"),
    ),
    "class": (
        *("class", "label", "classname", "labelname", "category", "categoryname", "objectclass", "object", "name"),
        "classid",
    ),
    "split": ("split", "set", "subset", "partition"),
    "image_width": ("imagewidth", "imgwidth", "imgw", "imagew"),
    "image_height": ("imageheight", "imgheight", "imgh", "imageh"),
}
_LOW_X, _LOW_Y = (
    ("xmin", "x1", "x0", "left", "minx", "bboxxmin", "bboxx1", "roix1"),
    ("ymin", "y1", "y0", "top", "miny", "bboxymin", "bboxy1", "roiy1"),
)
_HIGH_X, _HIGH_Y = (
    ("xmax", "x2", "right", "maxx", "bboxxmax", "bboxx2", "roix2"),
    ("ymax", "y2", "bottom", "maxy", "bboxymax", "bboxy2", "roiy2"),
)
_WIDTH, _HEIGHT = ("width", "w", "bboxwidth", "bboxw", "boxwidth"), ("height", "h", "bboxheight", "bboxh", "boxheight")
_BOXES: dict[Form, tuple[tuple[str, ...], ...]] = {
    "corners": (_LOW_X, _LOW_Y, _HIGH_X, _HIGH_Y),
    "size": ((*_LOW_X, "x", "bboxx"), (*_LOW_Y, "y", "bboxy"), _WIDTH, _HEIGHT),
    "centre": (("xcenter", "xcentre", "cx", "centerx"), ("ycenter", "ycentre", "cy", "centery"), _WIDTH, _HEIGHT),
}
# Tables without a header, by their number of columns.
_BARE: dict[str, dict[str, int]] = {
    "retinanet": {"filename": 0, "a": 1, "b": 2, "c": 3, "d": 4, "class": 5},
    "makesense": {"class": 0, "a": 1, "b": 2, "c": 3, "d": 4, "filename": 5, "image_width": 6, "image_height": 7},
    "automl": {"split": 0, "filename": 1, "class": 2, "a": 3, "b": 4, "c": 7, "d": 8},
}
AUTOML_SETS = {"TRAIN": "train", "TRAINING": "train", "VALIDATION": "val", "VALIDATE": "val", "TEST": "test"}
UNASSIGNED = "UNASSIGNED"
"""Google's word for lines that are in no split."""
# Its header, where there is one, names the four vertices; the first and the third are a box.
_AUTOML_VERTICES = ["xmin", "ymin", "xmax", "ymin", "xmax", "ymax", "xmin", "ymax"]


@dataclass(frozen=True)
class CsvColumns:
    """Where a table keeps what.

    Attributes:
        places: column by meaning: ``filename``, ``class``, the box's numbers ``a`` to ``d``, and where there are such
            ``split``, ``image_width``, ``image_height``.
        form: what the four numbers are: corners, corner and size, or centre and size.
        header: whether the first line is a header.
    """

    places: dict[str, int]
    form: Form
    header: bool


def read_header(cells: Sequence[str]) -> CsvColumns | None:
    """The columns of a header; ``None`` where it lacks one. Capitals, spaces and signs do not count."""
    places: dict[str, int] = {}
    squashed = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in cells]
    if squashed[3:11] == _AUTOML_VERTICES:
        return CsvColumns(_BARE["automl"], "corners", True)
    boxes = {form: [_place(squashed, wanted) for wanted in names] for form, names in _BOXES.items()}
    form = next((form for form, box in boxes.items() if None not in box), None)
    if form is None:
        return None
    places |= zip("abcd", boxes[form], strict=True)  # type: ignore[arg-type]
    for key, wanted in _NAMES.items():
        place = _place(squashed, wanted)
        if place is not None:
            places[key] = place
    if form == "corners":  # then these are the image's, not the box's
        for key, wanted in (("image_width", ("width",)), ("image_height", ("height",))):
            place = _place(squashed, wanted)
            if place is not None:
                places.setdefault(key, place)
    return CsvColumns(places, form, True) if {"filename", "class"} <= set(places) else None


def _place(squashed: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((squashed.index(name) for name in wanted if name in squashed), None)


def guess_columns(cells: Sequence[str]) -> CsvColumns | None:
    """The columns of a table without a header, by its first line; ``None`` where it is none that is known."""
    cells = [cell.strip() for cell in cells]
    if len(cells) == 6 and is_image(cells[0]) and all(_is_number(cell) or not cell for cell in cells[1:5]):
        return CsvColumns(_BARE["retinanet"], "corners", False)
    if len(cells) == 8 and is_image(cells[5]) and all(_is_number(cell) for cell in (*cells[1:5], *cells[6:])):
        return CsvColumns(_BARE["makesense"], "size", False)
    if len(cells) >= 9 and cells[0].upper() in {*AUTOML_SETS, UNASSIGNED} and is_image(cells[1]):
        return CsvColumns(_BARE["automl"], "corners", False)
    return None


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?\d*[.,]?\d+(e[-+]?\d+)?", text.lower()))


def missing_columns(cells: Sequence[str]) -> list[str]:
    """What a header lacks, in words."""
    squashed = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in cells]
    wanted = {"filename": _NAMES["filename"], "class": _NAMES["class"]}
    wanted |= dict(zip(("xmin", "ymin", "xmax", "ymax"), _BOXES["corners"], strict=True))
    return [key for key, names in wanted.items() if _place(squashed, names) is None]
