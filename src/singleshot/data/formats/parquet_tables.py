"""Parquet tables with a row for each image: its bytes or path, and lists of its objects. Ours and those of others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from singleshot.core.files import is_regular
from singleshot.core.json_text import parse_json
from singleshot.core.lazy import lazy_module
from singleshot.data.formats.parquet_writer import DETECTIONS_KEY, FOLDER, KEY, PARQUET, VERSION
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.shard_labels import PackedObject, parse_content
from singleshot.data.formats.shard_scan import LabelledMember, index_of
from singleshot.data.formats.shards import ShardLayout
from singleshot.data.formats.yolo_names import find_class_list
from singleshot.data.paths import Locator, subfolders, visible
from singleshot.data.split_names import names_split
from singleshot.data.values import to_float32
from singleshot.errors import DataError, ImageError, MissingExtraError
from singleshot.images.parquet_images import (
    ROWS_AT_ONCE,
    TableColumns,
    batches,
    check_pyarrow,
    find_columns,
    read_schema,
    table_images,
)
from singleshot.images.read import image_size
from singleshot.images.shard_index import ShardIndex, find_index, keep_index, pack_names

if TYPE_CHECKING:
    import pyarrow.compute as compute
else:
    compute = lazy_module("pyarrow.compute")

SUFFIX = ".parquet"
LABEL_COLUMNS = ("objects", "annotations", "boxes_xyxy", "boxes", "bbox")
_PART = re.compile(r"[-_.]?(\d+)?(?:-of-(\d+))?$")
_ROWS = 4096


def find(path: Path) -> ShardLayout | None:
    """Recognise a table, or a folder of tables: in it, in ``parquet/`` as `convert` writes them, or in ``data/``.

    Raises:
        DataError: a table that was named holds no labelled images, or cannot be read; parts are missing.
        MissingExtraError: there is nothing but tables, and pyarrow is not installed.
    """
    named = is_regular(path) and path.suffix.lower() == SUFFIX
    root = path if path.is_dir() else path.parent
    folders = (root, root / FOLDER, root / "data") if path.is_dir() else ()
    files = [path] if named else next((found for folder in folders if (found := visible(folder, SUFFIX))), [])
    only = named or (bool(files) and len(files) == len(visible(files[0].parent)))
    try:
        if not files or not _is_labelled(files[0]):
            return None
    except (DataError, MissingExtraError):
        if only:
            raise
        return None
    about = _about(files[0])
    splits = _splits(files)
    if about is None:
        if len(splits) == 1 and not names_split(next(iter(splits))):
            splits = {"": tuple(files)}
        names, problems = find_class_list([root])
        return ShardLayout(root, splits, None, names, tuple(problems), read_table)
    if not about["has_splits"]:
        splits = {"": tuple(files)}
    return ShardLayout(root, splits, (tuple(about["classes"]), tuple(about["class_ids"])), open_file=read_table)


def _is_labelled(table: Path) -> bool:
    """Whether a table has images and their objects.

    Raises:
        DataError: not so; says what it has.
    """
    check_pyarrow(f"reading {table}")
    schema = _schema(table)
    if DETECTIONS_KEY in (schema.metadata or {}):
        raise DataError(f"{table}: holds detections that `predict` wrote, not labelled images: name the images' folder")
    columns = find_columns(schema)
    if (columns.images or columns.names) and set(LABEL_COLUMNS) & set(schema.names):
        return True
    raise DataError(
        f"{table}: no table of labelled images: a row for each needs its bytes or path, and its objects in "
        f"{', '.join(LABEL_COLUMNS)}; the columns are {', '.join(schema.names[:20])}"
    )


def _schema(table: Path) -> Any:
    try:
        return read_schema(table)
    except OSError as error:
        raise DataError(str(error)) from error


def _about(table: Path) -> dict[str, Any] | None:
    """What `convert` wrote about the whole data set; ``None`` where the table is not of it.

    Raises:
        DataError: that is damaged, or of another version.
    """
    text = (_schema(table).metadata or {}).get(KEY)
    if text is None:
        return None
    try:
        about = parse_json(text)
        version = about["version"]
        about |= {"classes": list(map(str, about["classes"])), "class_ids": list(map(int, about["class_ids"]))}
        about["has_splits"] = bool(about["has_splits"])
        ids = np.array(about["class_ids"], np.int64)  # OverflowError: one is no id
        if not len(set(about["classes"])) == len(about["classes"]) == len(ids):
            raise ValueError(f"{len(about['classes'])} classes and {len(about['class_ids'])} ids")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{table}: its metadata is damaged ({error!r}): convert the data set again") from error
    if version != VERSION:
        raise DataError(f"{table}: a data set of version {version}; this singleshot reads {VERSION}")
    return dict(about)


def _splits(files: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Tables by split: ``train-00000-of-00002.parquet`` is of ``train``.

    Raises:
        DataError: parts are missing.
    """
    splits: dict[str, list[Path]] = {}
    for file in files:
        part = _PART.search(file.stem)
        splits.setdefault(file.stem[: part.start()] if part else file.stem, []).append(file)
    for name, parts in splits.items():
        told = {int(part[2]) for file in parts if (part := _PART.search(file.stem)) and part[2]}
        if len(files) > 1 and told and max(told) > len(parts):
            raise DataError(
                f"{parts[0].parent}: {max(told) - len(parts)} of the {max(told)} tables of '{name}' are missing"
            )
    return {name: tuple(parts) for name, parts in splits.items()}


def read_table(table: Path) -> ShardIndex:
    """Where the images of a table are, and what is labelled in them. Tables of others are gone through once.

    Raises:
        DataError: it is damaged.
    """
    try:
        about = _about(table)
        if about is not None:
            return _ours(table, about["classes"])
        index = find_index(table)
        if index is None:
            index = _foreign(table)
            if index.tar == table:
                keep_index(index)
        return index
    except OSError as error:
        raise DataError(str(error)) from error


def _ours(table: Path, classes: Sequence[str]) -> ShardIndex:
    images = table_images(table)
    rows = np.fromiter(images.rows.values(), np.int64, len(images))
    wanted = ("height", "width", "image_id", "boxes_xyxy", "class_ids", "difficult", "iscrowd", "areas", "sha256")
    read: dict[str, list[Any]] = {name: [] for name in (*wanted, "counts")}
    try:
        for batch in batches(table, wanted, _ROWS):
            for name in ("height", "width", "sha256", "image_id"):
                read[name].append(batch.column(name).to_numpy(zero_copy_only=False))
            read["counts"].append(compute.list_value_length(batch.column("boxes_xyxy")).to_numpy(zero_copy_only=False))
            for name in ("class_ids", "difficult", "iscrowd", "areas"):
                read[name].append(compute.list_flatten(batch.column(name)).to_numpy(zero_copy_only=False))
            boxes = compute.list_flatten(compute.list_flatten(batch.column("boxes_xyxy")))
            read["boxes_xyxy"].append(boxes.to_numpy(zero_copy_only=False).reshape(-1, 4))
        columns = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in read.items()}
        index = _checked(table, columns, list(images), rows, classes)
    except (KeyError, ValueError, TypeError, NotImplementedError) as error:  # and those of pyarrow, which are these
        raise DataError(f"{table}: the table is damaged ({error}): convert the data set again") from error
    return index


def _checked(
    table: Path, columns: Mapping[str, Any], names: list[str], rows: np.ndarray[Any, Any], classes: Sequence[str]
) -> ShardIndex:
    count, objects = len(columns["height"]), len(columns["class_ids"])
    lists = [len(columns[name]) for name in ("boxes_xyxy", "difficult", "iscrowd", "areas")]
    for name in ("height", "width", "counts", "class_ids"):
        if len(columns[name]) and columns[name].dtype.kind not in "iu":
            raise ValueError(f"its column '{name}' holds {columns[name].dtype}, not whole numbers")
    class_ids = columns["class_ids"].astype(np.int64)
    if len(names) != count or columns["counts"].sum() != objects or lists != [objects] * 4:
        raise ValueError("its columns contradict each other")
    if objects and not 0 <= class_ids.min() <= class_ids.max() < len(classes):
        raise ValueError("a class id is none of its classes")
    sizes = np.stack([columns["height"], columns["width"]], axis=1).astype(np.int64)
    if ((sizes < 1) | (sizes >= 2**31)).any():
        raise ValueError("an image has an impossible size")
    packed = {
        **pack_names(names),
        "offsets": rows,
        "lengths": np.zeros(count, np.int64),
        "digests": np.frombuffer(b"".join(columns["sha256"].tolist()), np.uint8).reshape(count, 32),
        "sizes_hw": sizes.astype(np.int32),
        "bounds": np.concatenate([[0], np.cumsum(columns["counts"])]).astype(np.int64),
        "boxes_xyxy": to_float32(columns["boxes_xyxy"]).reshape(-1, 4),
        "class_ids": class_ids,
        "difficult": columns["difficult"].astype(bool),
        "iscrowd": columns["iscrowd"].astype(bool),
        "areas": columns["areas"].astype(np.float32),
    }
    ids = tuple(columns["image_id"].tolist())
    return ShardIndex(table, table.stat().st_size, packed, tuple(classes), ids)


def _foreign(table: Path) -> ShardIndex:
    """The index of a table of others; of images that are files, relative to its folder."""
    schema = _schema(table)
    columns = find_columns(schema)
    names = _class_names(schema)
    images: list[LabelledMember] = []
    problems: list[tuple[str, str, str]] = []
    for place, size_hw, row in _rows(table, schema, columns, problems):
        try:
            objects = parse_content(_content(row))
        except (ValueError, RecursionError) as error:
            problems.append((place, "unreadable-annotation", str(error)))
            continue
        images.append(LabelledMember(place, len(images), 0, size_hw, [_named(one, names) for one in objects]))
    return index_of(table if columns.images else table.parent, images, problems)


def _rows(
    table: Path, schema: Any, columns: TableColumns, problems: list[tuple[str, str, str]]
) -> Iterator[tuple[str, tuple[int, int], dict[str, Any]]]:
    """Name and size of each image, and the other columns of its row."""
    by_row = {row: name for name, row in table_images(table).rows.items()}
    locator = Locator([table.parent, *subfolders(table.parent)])
    labels = [name for name in schema.names if name not in (columns.images, columns.names)]
    where = columns.leaf if columns.images else columns.names
    number = -1
    for batch in batches(table, [where, *labels], ROWS_AT_ONCE):
        for row in batch.to_pylist():
            number += 1
            value = row.pop(where.partition(".")[0])
            image = value["bytes"] if isinstance(value, dict) else value
            name = by_row.get(number) if columns.images else image
            if not image or not name:
                problems.append((f"row {number}", "missing-image", "the row has no image"))
                continue
            if isinstance(image, str):
                image = locator.find(name)
                if image is None:
                    problems.append((name, "missing-image", f"row {number} of {table.name}: there is no such image"))
                    continue
                name = os.path.relpath(image, table.parent)
            try:
                size_hw = image_size(image)
            except (ImageError, OSError) as error:
                problems.append((name, "unreadable-image", str(error)))
                continue
            yield name, size_hw, row


def _content(row: dict[str, Any]) -> Any:
    """A row in the words of `parse_content`: lists in columns become a list of objects."""
    key = next((key for key in ("objects", "annotations") if key in row), "")
    if not key and "bbox" in row:
        key, row = "objects", {"objects": {name: one for name, one in row.items() if isinstance(one, list)}}
    if not key:
        return row
    objects = row[key]
    if isinstance(objects, dict):
        filled = {name: values for name, values in objects.items() if isinstance(values, list)}
        if len({len(values) for values in filled.values()}) > 1:
            raise ValueError(f"the lists of '{key}' are not of equal length")
        objects = [dict(zip(filled, values, strict=True)) for values in zip(*filled.values(), strict=True)]
    return {key: objects or []}


def _named(one: PackedObject, names: Sequence[str]) -> PackedObject:
    known = isinstance(one.label, int) and one.label < len(names)
    return one._replace(label=names[one.label]) if known else one  # type: ignore[index]


def _class_names(schema: Any) -> tuple[str, ...]:
    """The names that Hugging Face's ``ClassLabel`` gives to the numbers of a column of labels."""
    try:
        told = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return ()
    waiting = [told[name] for name in (*LABEL_COLUMNS, "labels", "category", "label") if name in told]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, dict) and one.get("_type") == "ClassLabel" and isinstance(one.get("names"), list):
            return tuple(map(str, one["names"]))
        waiting += list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
    return ()


FORMATS.register("parquet")(
    DataFormat(
        "Parquet",
        ".parquet tables with a row for each image: its bytes or path, and lists of its boxes and classes",
        find,
        writer=PARQUET,
    )
)
