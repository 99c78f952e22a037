"""Images that are no files of this machine: in object stores, and in the rows of Parquet tables. By pyarrow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from singleshot.core.lazy import lazy_module
from singleshot.errors import DataError, ImageError
from singleshot.images.parquet_images import IMAGE_COLUMNS, NAME_COLUMNS
from singleshot.images.read import IMAGE_SUFFIXES
from singleshot.prediction.batch.parts_folder import is_uri
from singleshot.prediction.batch.slices import ImageRun, NamedImage
from singleshot.prediction.fetch import MAX_FETCHED_BYTES, is_address
from singleshot.prediction.frames import Deferred, Encoded, Failure

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.fs as filesystems
    import pyarrow.parquet as tables
else:
    pyarrow, tables = lazy_module("pyarrow"), lazy_module("pyarrow.parquet")
    filesystems = lazy_module("pyarrow.fs")

_ROWS_AT_ONCE = 32


def is_stored(source: str) -> bool:
    """Whether a source is an address of an object store (``s3://bucket/photos``), or a Parquet table."""
    return (is_uri(source) and not is_address(source)) or source.rstrip("/").endswith(".parquet")


def stored_runs(
    source: str,
    size: int,
    batch_size: int = 1,
    column: str | None = None,
    *,
    recursive: bool = False,
    note: Callable[[str], object],
) -> list[ImageRun]:
    """The images of such a source.

    Args:
        source: an address of a folder, an image or a table, or a table of this machine (a file, or a folder of some).
        size: images of a run, made up to whole batches of files; runs of rows end with their row group, too.
        batch_size: images that the network sees at once.
        column: of a table: where the images, or their paths, are.
        recursive: look into subfolders.
        note: is told what was guessed.

    Raises:
        ImageError: there is nothing, or no image.
        DataError: a table without images.
    """
    files, path = _opened(source)
    found = _found(files, path, source, recursive)
    images = [name for name in found if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if images:
        size = -(-size // batch_size) * batch_size
        scheme = urlsplit(source).scheme
        return [StoredRun(files, scheme, tuple(images[at : at + size])) for at in range(0, len(images), size)]
    runs: list[ImageRun] = [
        run
        for name in found
        if name.endswith(".parquet")
        for run in _row_runs(files, name, _named(source, name), size, column, note)
    ]
    if not runs:
        raise ImageError(f"{source}: holds no image ({' '.join(IMAGE_SUFFIXES)}) and no Parquet table of some")
    return runs


def _opened(source: str) -> tuple[Any, str]:
    """File system and path.

    Raises:
        ImageError: no such file system.
    """
    if not is_uri(source):
        return filesystems.LocalFileSystem(), os.path.abspath(source)
    try:
        files, path = filesystems.FileSystem.from_uri(source)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ImageError(f"{source}: {str(error).splitlines()[0]}") from None
    return files, path


def _found(files: Any, path: str, source: str, recursive: bool) -> list[str]:
    """Files there, in a stable order, without hidden ones."""
    try:
        info = files.get_file_info(path)
        if info.type == filesystems.FileType.NotFound:
            raise ImageError(f"{source}: no such file or folder")
        if info.type == filesystems.FileType.File:
            return [path]
        inside = files.get_file_info(filesystems.FileSelector(path, recursive=recursive))
    except OSError as error:
        raise ImageError(f"{source}: cannot be listed: {str(error).splitlines()[0]}") from None
    names = sorted(entry.path for entry in inside if entry.type == filesystems.FileType.File)
    return [name for name in names if not any(part.startswith((".", "_")) for part in name[len(path) :].split("/"))]


def _named(source: str, path: str) -> str:
    """A file as people know it."""
    return f"{urlsplit(source).scheme}://{path}" if is_uri(source) else os.path.relpath(path)


def _read(files: Any, path: str, name: str) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: it cannot be read, or is too large to be an image.
    """
    try:
        with files.open_input_file(path) as file:
            if file.size() > MAX_FETCHED_BYTES:
                raise ImageError(f"{name}: {file.size():,} bytes: no image is so large")
            data: bytes = file.read()
            return data
    except (OSError, pyarrow.ArrowException) as error:
        raise ImageError(f"{name}: cannot be read: {str(error).splitlines()[0]}") from None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Files of an object store; each is fetched when a thread that reads gets to it.

    Attributes:
        files: a pyarrow file system.
        scheme: of their addresses.
        paths: in the file system.
    """

    files: Any
    scheme: str
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def identity(self) -> str:
        """The addresses."""
        return "\0".join((self.scheme, *self.paths))

    def open(self) -> Iterator[NamedImage]:
        """Each by its address."""
        for path in self.paths:
            name = f"{self.scheme}://{path}"
            yield NamedImage(name, Deferred(partial(_read, self.files, path, name), name))


@dataclass(frozen=True, slots=True)
class RowRun:
    """Rows of one row group of a table, which hold images or their paths.

    Attributes:
        files: a pyarrow file system.
        path: of the table in it.
        table: as people know it.
        group: number of the row group.
        first: number of the first row in the group.
        rows: how many.
        offset: rows of the table before the group.
        column: where the images or paths are.
        names: where their names are; empty for none.
    """

    files: Any
    path: str
    table: str
    group: int
    first: int
    rows: int
    offset: int
    column: str
    names: str

    def __len__(self) -> int:
        return self.rows

    @property
    def identity(self) -> str:
        """The table and the rows."""
        return "\0".join(map(str, (self.table, self.group, self.first, self.rows, self.column)))

    def open(self) -> Iterator[NamedImage]:
        """Each by its own name, or by the table's and its row; rows that cannot be read are failures."""
        given = 0
        try:
            for image in self._rows():
                yield image
                given += 1
        except (OSError, pyarrow.ArrowException) as error:
            reason = ImageError(f"{self.table}: cannot be read: {str(error).splitlines()[0]}")
            for number in range(self.offset + self.first + given, self.offset + self.first + self.rows):
                yield NamedImage(f"{self.table}#{number}", Failure(None, reason))

    def _rows(self) -> Iterator[NamedImage]:
        wanted = list(dict.fromkeys([self.column, *([self.names] if self.names else [])]))
        end, at = self.first + self.rows, 0
        with self.files.open_input_file(self.path) as file:
            batches = tables.ParquetFile(file).iter_batches(_ROWS_AT_ONCE, row_groups=[self.group], columns=wanted)
            for batch in batches:
                batch.validate(full=True)
                low, high = max(self.first - at, 0), min(end - at, len(batch))
                for number, row in enumerate(batch.slice(low, max(high - low, 0)).to_pylist(), self.offset + at + low):
                    yield self._image(row, number)
                at += len(batch)
                if at >= end:
                    return

    def _image(self, row: dict[str, Any], number: int) -> NamedImage:
        value = row[self.column]
        own_path = value.get("path") if isinstance(value, dict) else value if isinstance(value, str) else None
        name = (row[self.names] if self.names else None) or own_path or f"{self.table}#{number}"
        data = value.get("bytes") if isinstance(value, dict) else value if isinstance(value, bytes) else None
        if data is not None:
            return NamedImage(name, Encoded(data, name))
        if own_path is None:
            return NamedImage(name, Failure(None, ImageError(f"{self.table}#{number}: the row has no image")))
        if is_uri(own_path):
            return NamedImage(name, Deferred(partial(_fetch, own_path), name))
        beside = str(PurePosixPath(self.path).parent / own_path)
        return NamedImage(name, Deferred(partial(_read, self.files, beside, beside), name))


def _fetch(address: str) -> bytes:
    return _read(*_opened(address), address)


def _row_runs(
    files: Any, path: str, table: str, size: int, column: str | None, note: Callable[[str], object]
) -> Iterator[RowRun]:
    try:
        with files.open_input_file(path) as file:
            parquet = tables.ParquetFile(file)
            schema, about = parquet.schema_arrow, parquet.metadata
            groups = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{table}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    chosen, names = _columns(schema, table, column)
    if column is None:
        note(f"{table}: images are in the column '{chosen}'" + (f", their names in '{names}'" if names else ""))
    offset = 0
    for group, rows in enumerate(groups):
        for first in range(0, rows, size):
            yield RowRun(files, path, table, group, first, min(size, rows - first), offset, chosen, names)
        offset += rows


def _columns(schema: Any, table: str, column: str | None) -> tuple[str, str]:
    """Where the images are, and where their names.

    Raises:
        DataError: that cannot be told.
    """
    kinds = {field.name: _kind(field.type) for field in schema}
    if column is not None and kinds.get(column, "") == "":
        raise DataError(f"{table}: `column={column}`: holds no image and no path; its columns are {', '.join(kinds)}")
    binary = [name for name, kind in kinds.items() if kind == "bytes"]
    text = [name for name in NAME_COLUMNS if kinds.get(name) == "text"]
    usual = [name for name in IMAGE_COLUMNS if name in binary]
    for candidates in ([column] if column else [], binary if len(binary) == 1 else usual, text if not binary else []):
        if candidates:
            chosen = candidates[0]
            return chosen, next((name for name in text if name != chosen), "")
    raise DataError(f"{table}: which column holds the images? Say so by `column`: {', '.join(kinds)}")


def _kind(column: Any) -> str:
    """``bytes``, ``text``, or empty where it holds neither images nor paths."""
    types = pyarrow.types
    if types.is_struct(column):
        return "bytes" if {"bytes", "path"} & {column.field(at).name for at in range(column.num_fields)} else ""
    if types.is_binary(column) or types.is_large_binary(column):
        return "bytes"
    return "text" if types.is_string(column) or types.is_large_string(column) else ""
