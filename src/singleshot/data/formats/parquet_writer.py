"""Write Parquet tables: ``parquet/train-00000-of-00002.parquet`` with a row for each image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singleshot.core.lazy import lazy_module
from singleshot.core.structures import Sample
from singleshot.data.formats.registry import Content, Writer
from singleshot.images.packed import image_bytes
from singleshot.images.parquet_images import check_pyarrow

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet as tables
else:
    pyarrow, tables = lazy_module("pyarrow"), lazy_module("pyarrow.parquet")

FOLDER = "parquet"
WHOLE_NAME = "data"
VERSION = 1
"""Of the columns; each file says it in its metadata."""
KEY, DETECTIONS_KEY = b"singleshot-data", b"singleshot"
GROUP_ROWS, GROUP_BYTES = 64, 2**23
"""A row group ends where either is reached: whoever wants one image reads its row group."""


def table_schema(content: Content) -> Any:
    """The columns, and in the metadata version, classes and their ids."""
    numbered = all(isinstance(sample.image_id, int) for sample in content.samples)
    text, number = pyarrow.string(), pyarrow.float32()
    fields = [("name", text), ("image", pyarrow.binary()), ("image_id", pyarrow.int64() if numbered else text)]
    fields += [("height", pyarrow.int32()), ("width", pyarrow.int32())]
    columns = {"boxes_xyxy": pyarrow.list_(number, 4), "class_ids": pyarrow.int64(), "class_names": text}
    columns |= {"difficult": pyarrow.bool_(), "iscrowd": pyarrow.bool_(), "areas": number}
    fields += [(name, pyarrow.list_(kind)) for name, kind in columns.items()]
    about = {"version": VERSION, "classes": content.class_map.names, "class_ids": content.class_map.ids}
    about["has_splits"] = None not in content.splits
    return pyarrow.schema([*fields, ("sha256", pyarrow.binary(32))], {KEY: json.dumps(about)})


def write_parquet(folder: Path, content: Content) -> None:
    """Write all tables."""
    check_pyarrow("writing Parquet")
    (folder / FOLDER).mkdir()
    schema = table_schema(content)
    paths = [sample.image_path for samples in content.splits.values() for sample in samples]
    tracked = iter(content.track(paths))
    for split, samples in content.splits.items():
        rows = ({**_row(sample, content), "image": image_bytes(next(tracked))} for sample in samples)
        parts = _write_split(folder / FOLDER, rows, schema, content.shard_bytes)
        for number, part in enumerate(parts):
            part.rename(part.with_name(f"{split or WHOLE_NAME}-{number:05d}-of-{len(parts):05d}.parquet"))
    next(tracked, None)  # a progress bar ends


def _write_split(folder: Path, rows: Iterator[dict[str, Any]], schema: Any, most_bytes: int) -> Sequence[Path]:
    """Write the rows into files of so many bytes each, one at least."""
    parts: list[Path] = []
    group = _next_group(rows)
    while group or not parts:
        parts.append(folder / f"{len(parts)}.part")
        with tables.ParquetWriter(
            parts[-1], schema, compression="none", use_dictionary=False, write_statistics=False
        ) as to:
            size = 0
            while group and size < most_bytes:
                to.write_table(pyarrow.Table.from_pylist(group, schema), row_group_size=len(group))
                size += sum(len(row["image"]) for row in group)
                group = _next_group(rows)
    return parts


def _next_group(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        row["sha256"] = hashlib.sha256(row["image"]).digest()
        group.append(row)
        size += len(row["image"])
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            break
    return group


def _row(sample: Sample, content: Content) -> dict[str, Any]:
    height, width = sample.image_size_hw
    numbered = isinstance(sample.image_id, int)
    class_ids = sample.class_ids.tolist()
    return {
        "name": content.names[sample.image_path],
        "image_id": sample.image_id if numbered else str(sample.image_id),
        "height": height,
        "width": width,
        "boxes_xyxy": sample.boxes_xyxy.tolist(),
        "class_ids": class_ids,
        "class_names": [content.class_map.names[index] for index in class_ids],
        "difficult": sample.difficult.tolist(),
        "iscrowd": sample.iscrowd.tolist(),
        "areas": sample.areas.tolist(),
    }


PARQUET = Writer(write_parquet, None, frozenset({FOLDER}), frozenset(), any_class_name=True)
