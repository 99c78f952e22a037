"""Judge every record once, when a data set is opened, so that nothing bad turns up in the middle of a run.

The policy, also in ``docs/data.md``: an image that cannot be read, or whose labels belong to another size, is skipped;
an object without a box, outside the image, or of an unknown class is skipped; a box that is inverted, sticks out, or
was drawn on a rotated or scaled copy is repaired; what loses nothing is noted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import ClassMap
from singleshot.data.bad_records import Problem
from singleshot.data.column_types import TextColumn
from singleshot.data.columns import Columns, Mask, columns_of
from singleshot.data.headers import ImageSizes, read_headers
from singleshot.data.notation import FORM_WORDS, find_fractions, find_other_forms
from singleshot.data.records import ImageRecord, ImageTable, Records
from singleshot.data.sample_table import ObjectArrays, SampleTable
from singleshot.data.stated_size import ROUNDING_PX, check_stated_sizes

TINY_PX = 2.0
KIND_OF_FORM = {"corners": "corner-boxes", "size": "size-boxes", "centre": "centre-boxes"}
# Tables and COCO files are fewer; formats with a file for each image have more.
MOST_FILES = 64
# No image is this large; corners beyond it would overflow.
FAR_PX = 1e9


def validate(records: Records, class_map: ClassMap, listed: Sequence[str] | None) -> tuple[SampleTable, list[Problem]]:
    """Turn records into samples.

    Args:
        records: what a reader found.
        class_map: the classes of the result.
        listed: the class names that the user asked for, if he did; only worded in messages.

    Returns:
        The samples, and everything that was noted, repaired or skipped, the reader's own findings first.
    """
    problems = list(records.problems)
    sizes = records.known_sizes or read_headers(records.images.paths)
    usable = np.ones(len(records.images), dtype=bool)
    for row, fault in sorted(sizes.faults.items()):
        usable[row] = False
        problems.append(_fault(records.images[row], fault))
    _skip_repeated_files(records, usable, problems)
    columns = columns_of(records, class_map, usable, problems)
    _check_classes(columns, listed)
    _check_boxes(columns, sizes, usable)
    return _samples(columns, sizes, usable), problems


def _fault(image: ImageRecord, fault: str) -> Problem:
    """Why an image cannot be used."""
    if fault != "missing-image":
        return Problem(image.path, None, "unreadable-image", "skipped", fault)
    there = " (a link that leads nowhere)" if image.path.is_symlink() else ""
    return Problem(image.file, image.line, fault, "skipped", f"there is no image {image.path}{there}")


def _skip_repeated_files(records: Records, usable: Mask, problems: list[Problem]) -> None:
    """Use each image file once. Two annotation files that say the same of one are splits that overlap: no mistake."""
    images = records.images
    rows = np.flatnonzero(usable)
    _, first, places = np.unique(images.paths.keys()[rows], return_index=True, return_inverse=True)
    repeated = first[places] != np.arange(len(rows))
    across: list[tuple[int, int]] = []
    for index, before in zip(rows[repeated].tolist(), rows[first[places[repeated]]].tolist(), strict=True):
        usable[index] = False
        image, earlier = images[index], images[before]
        if earlier.file == image.file:
            message = f"{image.path} is also image {earlier.image_id}"
            problems.append(Problem(image.file, image.line, "duplicate-image", "skipped", message))
        else:
            across.append((before, index))
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


def _check_boxes(columns: Columns, sizes: ImageSizes, usable: Mask) -> None:
    """Bring all boxes to continuous pixels of the upright image; report and mend what is wrong with them."""
    records, boxes = columns.records, columns.boxes
    finite = np.isfinite(boxes).all(axis=1)
    columns.report(columns.keep & ~finite, "not-finite", "skipped", lambda row: f"{columns.written(row)}: no box")
    boxes[~finite] = 0.0
    boxes.clip(-FAR_PX, FAR_PX, out=boxes)
    sizes_hw = sizes.upright_hw
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
        check_stated_sizes(columns, sizes, usable)
    _check_extent(columns, sizes_hw[columns.owner, ::-1])
    _check_repeated(columns)


def _check_notation(columns: Columns, sizes_hw: NDArray[np.int32]) -> None:
    """Leave out boxes in another unit or form than the format's, and say so once a file."""
    records, images = columns.records, columns.records.images
    stated_hw = images.declared_hw
    stated_hw = np.where(stated_hw > 0, stated_hw, sizes_hw)
    sizes_wh = stated_hw.astype(np.float64)[columns.owner, ::-1]
    if not records.fractions:
        widths = "size" in records.forms
        rows = find_fractions(columns.boxes, columns.keep, sizes_wh, widths=widths)
        message = "boxes look like fractions of the image, as {}; this format counts pixels: they are left out"
        _leave_out(columns, rows, "fraction-boxes", message)
    pixels = columns.boxes * np.tile(sizes_wh, 2) if records.fractions else columns.boxes
    for group in _groups(columns):
        for form in records.forms:
            others = find_other_forms(pixels, columns.keep & group, sizes_wh, form)
            if not others:
                continue
            looks = ", or ".join(FORM_WORDS[other] for other in others)
            message = (
                f"boxes look like {looks}: as {FORM_WORDS[form]}, which is read here, many are impossible, as {{}}, "
                "and so they fit: they are left out"
            )
            _leave_out(columns, columns.keep & group, KIND_OF_FORM[others[0]], message)


def _groups(columns: Columns) -> list[Mask]:
    """Objects whose boxes one hand wrote: those of each file, or all where each image has a file of its own."""
    files = columns.records.images.file_numbers
    numbers = np.unique(files)
    if len(numbers) > MOST_FILES or 2 * len(numbers) > len(files):
        return [np.ones(len(columns.owner), bool)]
    return [(files == number)[columns.owner] for number in numbers]


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


def _check_extent(columns: Columns, limits_wh: NDArray[np.int32]) -> None:
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
    digests = _digests(columns, rows)
    order = np.argsort(digests, kind="stable")
    alike = np.flatnonzero(digests[order][1:] == digests[order][:-1])  # few, which are then compared
    rows = np.sort(rows[order[np.union1d(alike, alike + 1)]])
    table = np.column_stack([columns.owner[rows], columns.class_ids[rows], columns.boxes[rows]])
    order = np.lexsort(table.T[::-1])  # stable: among equal rows the first stays first
    same = (table[order][1:] == table[order][:-1]).all(axis=1)
    repeated = np.zeros(len(keep), dtype=bool)
    repeated[rows[order[1:][same]]] = True
    columns.report(repeated, "duplicate-box", "skipped", lambda row: f"{columns.written(row)}: given twice")


def _digests(columns: Columns, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A number for image, class and box of each row: the same for equal ones, and for few others."""
    digests = columns.owner[rows].astype(np.uint64)
    for column in (columns.class_ids, *columns.boxes.T):
        digests ^= (column[rows] + 0.0).view(np.uint64)  # both zeros are one
        digests *= np.uint64(0x9E3779B97F4A7C15)
        digests ^= digests >> np.uint64(32)
    return digests


def _samples(columns: Columns, sizes: ImageSizes, usable: Mask) -> SampleTable:
    """The columns, sorted by image."""
    records = columns.records
    rows = np.flatnonzero(columns.keep)
    owner = columns.owner[rows]
    if (owner[1:] < owner[:-1]).any():
        order = np.argsort(owner, kind="stable")
        rows, owner = rows[order], owner[order]
    boxes = columns.boxes[rows].astype(np.float32)
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = columns.areas[rows]
    objects = ObjectArrays(
        boxes,
        columns.class_ids[rows],
        np.array(records.difficult, dtype=bool)[rows],
        np.array(records.iscrowd, dtype=bool)[rows],
        np.where(np.isfinite(areas), areas, box_areas).astype(np.float32),
    )
    bounds = np.searchsorted(owner, np.arange(len(records.images) + 1))
    used = np.flatnonzero(usable)
    return SampleTable(records.images, sizes.upright_hw, _unique_ids(records.images, used), objects, bounds, used)


def _unique_ids(images: ImageTable, used: NDArray[np.int64]) -> TextColumn | None:
    """The images' paths below their common folder, where two files use the same id; ``None`` where ids are unique."""
    numbers = images.number_ids
    if numbers is not None:
        count = len(np.unique(numbers[used]))
    else:
        count = len({images.image_id(row) for row in used.tolist()})
    if count == len(used):
        return None
    folders = {os.path.abspath(os.path.dirname(images.paths[row])) for row in used.tolist()}
    common = os.path.commonpath(folders)  # lists may hold absolute and relative ones
    return TextColumn(PurePath(os.path.relpath(path, common)).as_posix() for path in images.paths)
