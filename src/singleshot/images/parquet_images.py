"""Images in the rows of a Parquet table: ``photos.parquet/dog.jpg`` is the image of the row that is called so.

A row is read with its whole row group, of which the latest are kept: tables are good for passes from first to last.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError
from singleshot.images.packed import CONTAINERS, Container, FileStamp, Member, file_stamp
from singleshot.images.read import IMAGE_SUFFIXES
from singleshot.images.recordio import suffix_of

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.parquet as tables
else:
    pyarrow, tables = lazy_module("pyarrow"), lazy_module("pyarrow.parquet")
    compute = lazy_module("pyarrow.compute")

IMAGE_COLUMNS = ("image", "img", "bytes", "content", "data", "jpg", "jpeg", "png")
DIGESTS = "sha256"
NAME_COLUMNS = ("path", "image_path", "file_name", "filename", "file", "uri", "image", "__key__", "key", "name")
MAX_GROUP_BYTES = 2**31
KEPT_BYTES = 2**27
"""Of row groups that were read last, in each process; the last one is kept whatever its size."""
ROWS_AT_ONCE = 32
_NAMES_AT_ONCE = 4096
_HEAD_BYTES = 16


class TableColumns(NamedTuple):
    """Where a table has its images.

    Attributes:
        images: the column of their bytes; empty where there is none.
        inside: whether these are in its field ``bytes`` (Hugging Face's images).
        names: the column of their names or paths; empty where there is none.
        paths_inside: whether these are in the field ``path`` of ``images``.
        digests: the column of the images' SHA-256; empty where there is none.
    """

    images: str
    inside: bool
    names: str
    paths_inside: bool = False
    digests: str = ""

    @property
    def leaf(self) -> str:
        """The column of the bytes alone."""
        return f"{self.images}.bytes" if self.inside else self.images


def check_pyarrow(purpose: str) -> None:
    """Refuse where the extra is not installed.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet", purpose)


def read_schema(table: Path) -> Any:
    """The columns and the metadata of a table, without its rows.

    Raises:
        OSError: it cannot be read, or is no table.
        MissingExtraError: pyarrow is not installed.
    """
    check_pyarrow(f"reading {table}")
    try:
        schema = tables.read_schema(table)
        str(schema.names)  # names are decoded when they are asked for
        return schema
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise OSError(f"{table}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def find_columns(schema: Any) -> TableColumns:
    """Where the images of a table are, by the names and types of its columns."""
    types = pyarrow.types
    binary, text = [], []
    fields: dict[str, set[str]] = {}
    for field in schema:
        if types.is_struct(field.type):
            inner = {one.name: one.type for one in (field.type.field(at) for at in range(field.type.num_fields))}
            if "bytes" in inner and (types.is_binary(inner["bytes"]) or types.is_large_binary(inner["bytes"])):
                binary.append(field.name)
                fields[field.name] = set(inner)
        elif types.is_binary(field.type) or types.is_large_binary(field.type):
            binary.append(field.name)
        elif types.is_string(field.type) or types.is_large_string(field.type):
            text.append(field.name)
    usual = binary if len(binary) == 1 else [name for name in IMAGE_COLUMNS if name in binary]
    images = usual[0] if usual else ""
    names = next((name for name in NAME_COLUMNS if name in text), "")
    inside = images in fields
    paths_inside = inside and not names and "path" in fields[images]
    return TableColumns(images, inside, names, paths_inside, DIGESTS if DIGESTS in schema.names else "")


def batches(table: Path, columns: Sequence[str], rows: int) -> Iterator[Any]:
    """Rows of some columns, so many at once.

    Raises:
        OSError: the table is damaged.
    """
    try:
        with tables.ParquetFile(table) as file:
            _check_groups(table, file.metadata)
            for batch in file.iter_batches(rows, columns=list(columns), use_threads=False):
                batch.validate(full=True)  # text that is no UTF-8, lists that end before they begin
                yield batch
    except (pyarrow.ArrowException, OSError) as error:
        raise OSError(f"{table}: damaged: {str(error).splitlines()[0]}") from None


def _check_groups(table: Path, about: Any) -> None:
    for number in range(about.num_row_groups):
        if about.row_group(number).total_byte_size > MAX_GROUP_BYTES:
            raise OSError(f"{table}: row group {number} has more than {MAX_GROUP_BYTES:,} bytes: write smaller ones")


@dataclass(frozen=True, eq=False)
class TableImages(Mapping[str, Member]):
    """The images of a table by their names, each once; a row without an image is an empty file.

    Attributes:
        table: the file.
        stamp: of the file.
        columns: where the images are.
        rows: the row of each name.
        firsts: the first row of each row group, and the number of rows.
    """

    table: Path
    stamp: FileStamp
    columns: TableColumns
    rows: Mapping[str, int]
    firsts: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Member:
        return TableImage(self, self.rows[name])


@dataclass(frozen=True, slots=True, eq=False)
class TableImage:
    """One of them."""

    images: TableImages
    row: int

    @property
    def size(self) -> int:
        """Bytes of the image file."""
        return len(self._bytes())

    def open(self) -> BinaryIO:
        """The image file."""
        return io.BytesIO(self._bytes())

    @property
    def sha256(self) -> bytes:
        """What the table says that its SHA-256 is; empty where it says nothing."""
        column = self.images.columns.digests
        value = self._value(column) if column else None
        return value if isinstance(value, bytes) else b""

    def _bytes(self) -> bytes:
        columns = self.images.columns
        value = self._value(columns.leaf)
        data: bytes = (value["bytes"] if columns.inside else value) or b""
        return data

    def _value(self, column: str) -> Any:
        images = self.images
        group = int(np.searchsorted(images.firsts, self.row, "right")) - 1
        return _row_groups(os.getpid()).read(images, column, group)[self.row - images.firsts[group]].as_py()


class _RowGroups:
    """The row groups that were read last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[Path, FileStamp, str, int], Any] = OrderedDict()

    def read(self, images: TableImages, column: str, group: int) -> Any:
        """A column of a row group."""
        key = (images.table, images.stamp, column, group)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _read_group(images.table, column, group)
                while len(self._kept) > 1 and sum(column.nbytes for column in self._kept.values()) > KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


@lru_cache(maxsize=1)
def _row_groups(_process: int) -> _RowGroups:
    """Those of this process: a lock that another thread holds while a process is forked is never released there."""
    return _RowGroups()


def _read_group(table: Path, column: str, group: int) -> Any:
    try:
        with tables.ParquetFile(table) as file:
            return file.read_row_group(group, columns=[column], use_threads=False).column(0)
    except (pyarrow.ArrowException, OSError) as error:
        raise OSError(f"{table}: row group {group} is damaged: {str(error).splitlines()[0]}") from None


def table_images(table: Path) -> TableImages:
    """The images of a table, remembered while it does not change; none where it has no column of images.

    Raises:
        OSError: it cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    stamp = file_stamp(table)
    if stamp is None:
        raise FileNotFoundError(f"{table}: no such file")
    return _images_unchanged(table, stamp)


@lru_cache(maxsize=256)
def _images_unchanged(table: Path, stamp: FileStamp) -> TableImages:
    schema = read_schema(table)
    columns = find_columns(schema)
    if not columns.images:
        return TableImages(table, stamp, columns, {}, (0,))
    with tables.ParquetFile(table) as file:
        counts = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    rows: dict[str, int] = {}
    for row, name in enumerate(_names(table, columns)):
        rows[f"{row:08d}-{name}" if name in rows else name] = row
    return TableImages(table, stamp, columns, rows, tuple(np.cumsum([0, *counts]).tolist()))


def _names(table: Path, columns: TableColumns) -> Iterator[str]:
    """A file name for each row: what the table says, or the row's number, with a suffix."""
    texts: list[str | None] = []
    wanted = f"{columns.images}.path" if columns.paths_inside else columns.names
    for batch in batches(table, [wanted], _NAMES_AT_ONCE) if wanted else ():
        found = batch.column(0).to_pylist()
        texts += [one and one["path"] for one in found] if columns.paths_inside else found
    names = [PurePosixPath((text or "").replace("\\", "/")).name for text in texts]
    if names and all(map(_is_named, names)):
        yield from names
        return
    row = 0
    for batch in batches(table, [columns.leaf], ROWS_AT_ONCE):  # the images must tell their formats
        column = compute.struct_field(batch.column(0), "bytes") if columns.inside else batch.column(0)
        for head in compute.binary_slice(column, 0, _HEAD_BYTES).to_pylist():
            name = names[row] if names and names[row] else f"{row:08d}"
            yield name if _is_named(name) else f"{name}{suffix_of(head or b'')}"
            row += 1


def _is_named(name: str) -> bool:
    return name.lower().endswith(tuple(IMAGE_SUFFIXES))


CONTAINERS.register("parquet")(Container(table_images))
