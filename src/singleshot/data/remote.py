"""Shards on this machine or elsewhere: their indices, and the bytes of some records at once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from singleshot.core.files import cache_folder, write_atomically
from singleshot.core.json_text import parse_json
from singleshot.data.formats.shard_writer import FOLDER, INDEX, VERSION
from singleshot.data.formats.shards import expand, find, open_shard
from singleshot.data.split_names import resolve_split
from singleshot.errors import DataError, MissingExtraError
from singleshot.images.shard_index import SUFFIX, ShardIndex, read_index


@dataclass(frozen=True)
class StreamShard:
    """A shard of a stream.

    Attributes:
        place: its path or URL.
        index: what it holds.
    """

    place: str
    index: ShardIndex

    def read(self, first: int, last: int) -> list[bytes]:
        """The image files of records ``first`` to ``last`` (not included), by one read of the tar.

        Raises:
            OSError: it cannot be read.
        """
        offsets, lengths = (self.index.columns[name][first:last].tolist() for name in ("offsets", "lengths"))
        start, end = min(offsets), max(o + n for o, n in zip(offsets, lengths, strict=True))
        if is_remote(self.place):
            data: bytes = _file_system(self.place)[0].cat_file(self.place, start=start, end=end)
        else:
            with open(self.place, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), end - start, start)
        if len(data) != end - start:
            raise OSError(f"{self.place}: ends before byte {end:,}: it is cut off, or not the tar of its index")
        return [data[o - start : o - start + n] for o, n in zip(offsets, lengths, strict=True)]


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
    tars = list(dict.fromkeys(tar for name in names for tar in layout.files[name]))
    classes = layout.read("+".join(names) if layout.splits else None).class_names
    return [StreamShard(str(tar), open_shard(tar)) for tar in tars], classes


def _open_remote(url: str, split: str | None) -> tuple[list[StreamShard], tuple[str, ...]]:
    scheme, _, rest = url.partition("://")
    tars = [f"{scheme}://{path}" for path in expand(Path(rest))] or [url]
    if not tars[0].endswith(".tar"):
        told = _told(f"{url.rstrip('/')}/{INDEX}")
        names = list(told) if split is None else resolve_split(split, list(told), url).split("+")
        tars = list(dict.fromkeys(f"{url.rstrip('/')}/{FOLDER}/{file}" for name in names for file in told[name]))
    shards = [StreamShard(tar, _remote_index(tar)) for tar in tars]
    if len({shard.index.class_names for shard in shards}) > 1:
        raise DataError(f"{url}: the shards have different classes: they are not of one data set")
    return shards, shards[0].index.class_names


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
    try:
        content: bytes = _file_system(url)[0].cat_file(url)
    except (DataError, MissingExtraError):
        raise
    except Exception as error:  # each protocol has errors of its own
        raise DataError(f"{url}: cannot be read: {str(error) or type(error).__name__}") from error
    return content


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
