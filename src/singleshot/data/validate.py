"""Judge every record once, when a data set is opened, so that nothing bad turns up in the middle of a run.

The policy, also in ``docs/data.md``: an image that cannot be read, or whose labels belong to another size, is skipped;
an object without a box, outside the image, or of an unknown class is skipped; a box that is inverted, sticks out, or
was drawn on a rotated or scaled copy is repaired; what loses nothing is noted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import ClassMap, Sample
from singleshot.data.bad_records import Problem
from singleshot.data.columns import Columns, Mask, columns_of
from singleshot.data.headers import read_headers
from singleshot.data.notation import find_corners, find_fractions
from singleshot.data.records import ImageRecord, Records
from singleshot.data.stated_size import ROUNDING_PX, check_stated_sizes
from singleshot.images.header import Header

TINY_PX = 2.0
# No image is this large; corners beyond it would overflow.
FAR_PX = 1e9


def validate(records: Records, class_map: ClassMap, listed: Sequence[str] | None) -> tuple[list[Sample], list[Problem]]:
    """Turn records into samples.

    Args:
        records: what a reader found.
        class_map: the classes of the result.
        listed: the class names that the user asked for, if he did; only worded in messages.

    Returns:
        The samples, and everything that was noted, repaired or skipped, the reader's own findings first.
    """
    problems = list(records.problems)
    headers = read_headers([image.path for image in records.images])
    usable = [_check_image(image, header, problems) for image, header in zip(records.images, headers, strict=True)]
    _skip_repeated_files(records, usable, problems)
    columns = columns_of(records, class_map, usable, problems)
    _check_classes(columns, listed)
    _check_boxes(columns, headers, usable)
    return _samples(columns, headers, usable), problems


def _check_image(image: ImageRecord, header: Header | str, problems: list[Problem]) -> bool:
    """Whether an image can be used; if not, why."""
    if isinstance(header, Header):
        return True
    if header == "missing-image":
        there = " (a link that leads nowhere)" if image.path.is_symlink() else ""
        problems.append(Problem(image.file, image.line, header, "skipped", f"there is no image {image.path}{there}"))
    else:
        problems.append(Problem(image.path, None, "unreadable-image", "skipped", header))
    return False


def _skip_repeated_files(records: Records, usable: list[bool], problems: list[Problem]) -> None:
    """Use each image file once. Two annotation files that say the same of one are splits that overlap: no mistake."""
    images = records.images
    first: dict[Path, int] = {}
    across: list[tuple[int, int]] = []
    for index, image in enumerate(images):
        if usable[index] and first.setdefault(image.path, index) != index:
            usable[index] = False
            earlier = images[first[image.path]]
            if earlier.file == image.file:
                message = f"{image.path} is also image {earlier.image_id}"
                problems.append(Problem(image.file, image.line, "duplicate-image", "skipped", message))
            else:
                across.append((first[image.path], index))
    if across:
        _report_contradictions(records, across, problems)


def _report_contradictions(records: Records, pairs: Sequence[tuple[int, int]], problems: list[Problem]) -> None:
    """One problem for each two files that give some images different objects: those of the first are used."""
    objects: dict[int, set[tuple[object, ...]]] = {index: set() for pair in pairs for index in pair}
    for owner, label, box in zip(records.owner, records.labels, records.boxes, strict=True):
        if owner in objects:
            objects[owner].add((label, *box))
    by_files: dict[tuple[Path, Path], list[int]] = {}
    for one, other in pairs:
        if objects[one] != objects[other]:
            files = (records.images[one].file, records.images[other].file)
            by_files.setdefault(files, []).append(other)
    for (used, left), images in by_files.items():
        name = records.images[images[0]].path.name
        message = (
            f"{len(images)} of its images, such as {name}, have other objects in {used}, which count; these are left "
            "out: read the files as splits, put all objects into one, or remove what is out of date"
        )
        problems.append(Problem(left, None, "contradiction", "skipped", message))


def _check_classes(columns: Columns, listed: Sequence[str] | None) -> None:
    source = "the classes asked for" if listed is not None else "the classes of the data set"

    def message(row: int) -> str:
        return f"class '{columns.class_name(row)}' is not among {source}"

    columns.report(columns.keep & (columns.class_ids < 0), "unknown-class", "skipped", message)


def _check_boxes(columns: Columns, headers: Sequence[Header | str], usable: list[bool]) -> None:
    """Bring all boxes to continuous pixels of the upright image; report and mend what is wrong with them."""
    records, boxes = columns.records, columns.boxes
    finite = np.isfinite(boxes).all(axis=1)
    columns.report(columns.keep & ~finite, "not-finite", "skipped", lambda row: f"{columns.written(row)}: no box")
    boxes[~finite] = 0.0
    boxes.clip(-FAR_PX, FAR_PX, out=boxes)
    sizes_hw = np.array([h.upright_size_hw if isinstance(h, Header) else (1, 1) for h in headers]).reshape(-1, 2)
    if not records.fractions:
        _check_notation(columns, sizes_hw)
    # VOC counts pixels from 1 and includes the last: pixel n covers n-1 to n, so the first corner moves by one.
    low, high = boxes[:, :2], boxes[:, 2:]
    first = 1.0 if records.one_based else 0.0
    swapped = low - first > high
    inverted = columns.keep & swapped.any(axis=1)
    columns.report(inverted, "inverted", "repaired", lambda row: f"{columns.written(row)}: corners swapped")
    boxes = np.concatenate([np.where(swapped, high, low) - first, np.where(swapped, low, high)], axis=1)
    columns.boxes = boxes * np.tile(sizes_hw[columns.owner, ::-1], 2) if records.fractions else boxes
    if not records.fractions:
        check_stated_sizes(columns, headers, usable)
    _check_extent(columns, sizes_hw[columns.owner, ::-1])
    _check_repeated(columns)


def _check_notation(columns: Columns, sizes_hw: NDArray[np.int64]) -> None:
    """Leave out boxes that are fractions or corners where the format wants pixels or sizes, and say so once a file."""
    images = columns.records.images
    stated_hw = [image.declared_hw or tuple(size) for image, size in zip(images, sizes_hw.tolist(), strict=True)]
    sizes_wh = np.array(stated_hw, dtype=np.float64).reshape(-1, 2)[columns.owner, ::-1]
    widths = columns.records.widths
    _leave_out(
        columns,
        find_fractions(columns.boxes, columns.keep, sizes_wh, widths=widths),
        "fraction-boxes",
        "boxes look like fractions of the image, as {}; this format counts pixels: they are left out",
    )
    for file in dict.fromkeys(image.file for image in images) if widths else ():
        mine = np.array([image.file == file for image in images], dtype=bool)[columns.owner]
        _leave_out(
            columns,
            find_corners(columns.boxes, columns.keep & mine, sizes_wh),
            "corner-boxes",
            "boxes look like corners x1, y1, x2, y2: many leave their images, as {}, and as corners they fit; "
            "here a box is x, y, width, height: they are left out",
        )


def _leave_out(columns: Columns, rows: Mask, kind: str, message: str) -> None:
    """Take the marked objects out; one problem for each file."""
    by_file: dict[Path, list[int]] = {}
    for row in np.flatnonzero(rows).tolist():
        by_file.setdefault(columns.records.images[columns.owner[row]].file, []).append(row)
    for file, mine in by_file.items():
        worst = max(mine, key=lambda row: columns.boxes[row].max())
        text = f"{len(mine)} {message.format(columns.written(worst))}"
        columns.problems.append(Problem(file, None, kind, "skipped", text))
    columns.keep &= ~rows


def _check_extent(columns: Columns, limits_wh: NDArray[np.int64]) -> None:
    """Drop empty boxes and boxes outside, clip those that stick out. Runs on all objects at once."""
    boxes, keep = columns.boxes, columns.keep
    limits = limits_wh.astype(np.float64)
    empty = keep & (boxes[:, 2:].astype(np.float32) <= boxes[:, :2].astype(np.float32)).any(axis=1)
    columns.report(empty, "degenerate", "skipped", lambda row: f"{columns.written(row)}: no width or no height")
    clipped = np.clip(boxes, 0.0, np.tile(limits, 2))
    gone = columns.keep & (clipped[:, 2:].astype(np.float32) <= clipped[:, :2].astype(np.float32)).any(axis=1)
    size = [f"{width} x {height}" for width, height in limits_wh[gone].tolist()]
    sizes = dict(zip(np.flatnonzero(gone).tolist(), size, strict=True))
    columns.report(gone, "outside", "skipped", lambda row: f"{columns.written(row)}: outside the image of {sizes[row]}")
    excess = np.abs(clipped - boxes).max(axis=1, initial=0.0)
    rounding = columns.keep & (excess > 1e-3) & (excess <= ROUNDING_PX)
    columns.report(rounding, "edge", "noted", lambda row: f"{columns.written(row)}: clipped by {excess[row]:.2g} px")
    out = columns.keep & (excess > ROUNDING_PX)
    columns.report(out, "clipped", "repaired", lambda row: f"{columns.written(row)}: clipped by {excess[row]:.0f} px")
    sides = (clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf)
    tiny = columns.keep & (sides < TINY_PX)
    columns.report(tiny, "tiny", "noted", lambda row: f"{columns.written(row)}: {sides[row]:.2g} px wide or high")
    columns.boxes = clipped


def _check_repeated(columns: Columns) -> None:
    """Drop objects whose image, class and box equal an earlier one's."""
    keep = columns.keep & ~np.array(columns.records.iscrowd, dtype=bool)
    rows = np.flatnonzero(keep)
    table = np.column_stack([columns.owner[rows], columns.class_ids[rows], columns.boxes[rows]])
    order = np.lexsort(table.T[::-1])  # stable: among equal rows the first stays first
    same = (table[order][1:] == table[order][:-1]).all(axis=1)
    repeated = np.zeros(len(keep), dtype=bool)
    repeated[rows[order[1:][same]]] = True
    columns.report(repeated, "duplicate-box", "skipped", lambda row: f"{columns.written(row)}: given twice")


def _samples(columns: Columns, headers: Sequence[Header | str], usable: list[bool]) -> list[Sample]:
    """Cut the columns into one sample for each image."""
    records = columns.records
    rows = np.flatnonzero(columns.keep)
    rows = rows[np.argsort(columns.owner[rows], kind="stable")]
    bounds = np.searchsorted(columns.owner[rows], np.arange(len(records.images) + 1)).tolist()
    boxes = columns.boxes[rows].astype(np.float32)
    class_ids = columns.class_ids[rows]
    difficult = np.array(records.difficult, dtype=bool)[rows]
    iscrowd = np.array(records.iscrowd, dtype=bool)[rows]
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = np.where(np.isfinite(columns.areas[rows]), columns.areas[rows], box_areas).astype(np.float32)
    ids = _unique_ids(records.images, usable)
    samples = []
    for index, (image, header) in enumerate(zip(records.images, headers, strict=True)):
        if usable[index] and isinstance(header, Header):
            part = slice(bounds[index], bounds[index + 1])
            where = f"{image.file}:{image.line}" if image.line else str(image.file)
            samples.append(
                Sample(
                    image.path,
                    header.upright_size_hw,
                    boxes[part],
                    class_ids[part],
                    difficult[part],
                    iscrowd[part],
                    areas[part],
                    ids[index],
                    where,
                )
            )
    return samples


def _unique_ids(images: Sequence[ImageRecord], usable: Sequence[bool]) -> list[int | str]:
    """The images' own ids; where two files use the same one, the images' paths below their common folder."""
    used = [image.image_id for image, ok in zip(images, usable, strict=True) if ok]
    if len(set(used)) == len(used):
        return [image.image_id for image in images]
    paths = [Path(os.path.abspath(image.path)) for image in images]  # lists may hold absolute and relative ones
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(common).as_posix() for path in paths]
