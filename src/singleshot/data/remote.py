"""Shards on this machine or elsewhere: their indices, and the bytes of some records at once."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import cache_folder, write_atomically
from singleshot.core.json_text import parse_json
from singleshot.core.structures import ClassMap
from singleshot.data.formats.shard_writer import FOLDER, INDEX, VERSION
from singleshot.data.formats.shards import ShardLayout, expand, find
from singleshot.data.split_names import resolve_split
from singleshot.data.validate import validate
from singleshot.errors import DataError, MissingExtraError
from singleshot.images.shard_index import SUFFIX, ShardIndex, read_index

MAX_INDEX_BYTES = 2**30
"""Of an index that a server sends; one of a million records has some 100 MB."""

_PART_BYTES = 2**20
_ATTEMPTS = 3
"""At an index or a part of a remote tar: networks have bad seconds, and streams last for hours."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamShard:
    """A shard of a stream.

    Attributes:
        place: its path or URL.
        index: what it holds.
        class_places: where its classes are among those of the data set, ``[C]``: shards of others are labelled each
            with classes of its own.
        left_out: rows of images that are not used: given twice, or broken.
    """

    place: str
    index: ShardIndex
    class_places: NDArray[np.int64]
    left_out: frozenset[int] = frozenset()

    def read(self, first: int, last: int) -> list[bytes]:
        """The image files of records ``first`` to ``last`` (not included), by one read of the tar.

        Raises:
            DataError: it cannot be read.
        """
        offsets, lengths = (self.index.columns[name][first:last].tolist() for name in ("offsets", "lengths"))
        start, end = min(offsets), max(o + n for o, n in zip(offsets, lengths, strict=True))
        data = _read_remote(self.place, start, end) if is_remote(self.place) else _read_local(self.place, start, end)
        if len(data) != end - start:
            raise DataError(f"{self.place}: ends before byte {end:,}: it is cut off, or not the tar of its index")
        return [data[o - start : o - start + n] for o, n in zip(offsets, lengths, strict=True)]


def _read_local(path: str, start: int, end: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            is_there = os.fstat(file.fileno()).st_size >= end  # before memory is taken for what an index only claims
            return os.pread(file.fileno(), end - start, start) if is_there else b""
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read_remote(url: str, start: int, end: int) -> bytes:
    files = _file_system(url)[0]
    data = _tried(url, lambda: bytes(files.cat_file(url, start=start, end=end)))
    if len(data) > end - start:
        raise DataError(
            f"{url}: its server sends whole files where parts are asked for: use one that knows HTTP ranges (nginx, "
            "Caddy, an object store), or copy the shards"
        )
    return data


def is_remote(place: str) -> bool:
    """Whether a source is a URL."""
    return "://" in place


def open_shards(source: str | os.PathLike[str], split: str | None) -> tuple[list[StreamShard], tuple[str, ...]]:
    """The shards of a source and the classes.

    Args:
        source: a folder of shards, a tar, a pattern ``train-{000000..000009}.tar``, or the URL of one of these: remote
            tars need their index beside them, as `convert` writes it.
        split: of a folder that has splits.

    Raises:
        DataError: there are none, or no such split.
        MissingExtraError: a URL, and no fsspec.
    """
    place = os.fspath(source)
    if is_remote(place):
        return _open_remote(place, split)
    layout = find(Path(place))
    if layout is None:
        raise DataError(f"{place}: no tar shards; `singleshot data convert` makes them of any data set, as `shards`")
    names = list(layout.files) if split is None else resolve_split(split, layout.splits, Path(place)).split("+")
    if layout.classes is None:
        return _judged(layout, names, place), layout.class_names
    return [
        StreamShard(str(own.tar), own, layout.class_places(own)) for own in layout.indices(names)
    ], layout.class_names


def _judged(layout: ShardLayout, names: Sequence[str], place: str) -> list[StreamShard]:
    """Foreign shards with the labels that `open` would give them: clipped, without those that are no boxes."""
    records = layout.read("+".join(names) if layout.splits else None)
    table, problems = validate(records, ClassMap(layout.class_names), None)
    counts = Counter(problem.kind for problem in problems if problem.action != "noted")
    if counts:
        told = ", ".join(f"{count:,} x {kind}" for kind, count in counts.most_common())
        _log.warning("%s: %s: skipped or repaired; `singleshot data check` lists them", place, told)
    same, shards, first = np.arange(len(layout.class_names)), [], 0
    for index in layout.indices(names):
        bounds = table.bounds[first : first + len(index) + 1]
        objects = table.objects.take(slice(int(bounds[0]), int(bounds[-1])))
        columns = {**index.columns, **objects._asdict(), "bounds": bounds - bounds[0]}
        left_out = np.setdiff1d(np.arange(first, first + len(index)), table.rows) - first
        shards.append(StreamShard(str(index.tar), replace(index, columns=columns), same, frozenset(left_out.tolist())))
        first += len(index)
    return shards


def _open_remote(url: str, split: str | None) -> tuple[list[StreamShard], tuple[str, ...]]:
    scheme, _, rest = url.partition("://")
    tars = [f"{scheme}://{path}" for path in expand(Path(rest))] or [url]
    if not tars[0].endswith(".tar"):
        told = _told(f"{url.rstrip('/')}/{INDEX}")
        names = list(told) if split is None else resolve_split(split, list(told), url).split("+")
        tars = list(dict.fromkeys(f"{url.rstrip('/')}/{FOLDER}/{file}" for name in names for file in told[name]))
    indices = [(tar, _remote_index(tar)) for tar in tars]
    classes = indices[0][1].class_names
    if any(index.class_names != classes for _, index in indices):
        raise DataError(f"{url}: the shards have different classes: they are not of one data set")
    same = np.arange(len(classes))
    return [StreamShard(tar, index, same) for tar, index in indices], classes


def _told(url: str) -> dict[str, list[str]]:
    """The names of the shards of each split."""
    content = _fetch(url)
    try:
        told = parse_json(content)
        files = {name: [PurePath(one["file"]).name for one in part] for name, part in told["splits"].items()}
        if told["singleshot_shards"] == VERSION and any(files.values()):
            return files
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise DataError(
        f"{url}: no index of shards, or of another version: convert the data set to `shards`, and copy all of that"
    )


def _remote_index(tar: str) -> ShardIndex:
    """The index beside a remote tar; safetensors are read from files, so it is kept in the cache."""
    url = tar.removesuffix(".tar") + SUFFIX
    content = _fetch(url)
    file = cache_folder() / "shards" / f"{hashlib.sha256(content).hexdigest()[:32]}{SUFFIX}"
    if not file.is_file():
        write_atomically(file, content)
    try:
        return read_index(file, Path(tar))
    except ValueError as error:
        raise DataError(f"{url}: no index of a shard, or damaged: {error}") from error


def _fetch(url: str) -> bytes:
    """A whole file of at most `MAX_INDEX_BYTES`, whatever its server says of its size."""
    files = _file_system(url)[0]
    streamed = {"block_size": 0} if url.startswith("http") else {}

    def read() -> bytes:
        content = bytearray()
        with files.open(url, "rb", **streamed) as file:
            while len(content) <= MAX_INDEX_BYTES and (part := file.read(_PART_BYTES)):  # http gives what is there yet
                content += part
        return bytes(content)

    content = _tried(url, read)
    if len(content) > MAX_INDEX_BYTES:
        raise DataError(f"{url}: more than {MAX_INDEX_BYTES:,} bytes, too many for the index of a shard")
    return content


def _tried(url: str, read: Callable[[], bytes]) -> bytes:
    """What a server sends, asked again after a second or two where that fails; what is not there stays so.

    Raises:
        DataError: it cannot be read.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return read()
        except Exception as error:  # each protocol has errors of its own
            why = f"{url}: cannot be read: {str(error) or type(error).__name__}"
            if attempt == _ATTEMPTS or isinstance(error, FileNotFoundError | PermissionError):
                raise DataError(why) from error
            _log.warning("%s; again in %d s", why, attempt)
            time.sleep(attempt)


def _file_system(url: str) -> tuple[Any, str]:
    """What reads a URL; fsspec keeps one for each process."""
    if find_spec("fsspec") is None:
        raise MissingExtraError("fsspec", "remote", f"reading {url}")
    from fsspec.core import url_to_fs

    try:
        found: tuple[Any, str] = url_to_fs(url)
    except (ValueError, ImportError) as error:  # an unknown protocol, or one that needs another package (s3fs)
        raise DataError(f"{url}: {error}") from error
    return found
