"""The index of a tar shard: where each image lies, and what is labelled in it, in arrays that open in no time.

``train-000000.tar`` has ``train-000000.index`` beside it (a safetensors file). The index of a foreign tar, which has
none, is kept in the cache folder. An index counts only while the tar has the size that it names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from singleshot.core.files import cache_folder, write_atomically
from singleshot.core.json_text import parse_json
from singleshot.images.packed import FileStamp, Spans, file_stamp

SUFFIX = ".index"
VERSION = 1
COLUMNS = {
    **dict.fromkeys(("names", "digests"), np.uint8),
    **dict.fromkeys(("name_ends", "offsets", "lengths", "bounds", "class_ids"), np.int64),
    **dict.fromkeys(("sizes_hw",), np.int32),
    **dict.fromkeys(("boxes_xyxy", "areas"), np.float32),
    **dict.fromkeys(("difficult", "iscrowd"), np.bool_),
}


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What a shard holds.

    Attributes:
        tar: the shard.
        tar_bytes: its size.
        columns: arrays by the names of `COLUMNS`: ``names`` is one block of UTF-8 that ``name_ends`` cuts; ``offsets``
            and ``lengths`` say where the images lie; objects as in `Sample`, those of image i from ``bounds[i]`` on;
            ``digests`` are SHA-256 of the images, ``[N, 32]``, or empty.
        class_names: of ``class_ids``.
        ids: the images' ids where they are not their names' stems.
        problems: what was passed over when a foreign tar was read: member, kind, message.
    """

    tar: Path
    tar_bytes: int
    columns: Mapping[str, NDArray[Any]]
    class_names: tuple[str, ...]
    ids: tuple[int | str, ...] = ()
    problems: tuple[tuple[str, str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.columns["offsets"])

    def name(self, row: int) -> str:
        """The name of an image inside the tar."""
        ends = self.columns["name_ends"]
        start = int(ends[row - 1]) if row else 0
        return self.columns["names"][start : int(ends[row])].tobytes().decode("utf-8", "surrogatepass")

    def to_bytes(self) -> bytes:
        """The index as a file."""
        told = {"version": VERSION, "tar_bytes": self.tar_bytes, "classes": self.class_names, "ids": self.ids}
        text = json.dumps(told | {"problems": self.problems})
        return save({name: np.ascontiguousarray(self.columns[name]) for name in COLUMNS}, {"singleshot-shard": text})


def pack_names(names: list[str]) -> dict[str, NDArray[Any]]:
    """The columns ``names`` and ``name_ends``."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    return {"names": np.frombuffer(b"".join(encoded), np.uint8), "name_ends": ends}


def find_index(tar: Path) -> ShardIndex | None:
    """The index of a tar, beside it or in the cache; ``None`` where there is none, or it is of another tar."""
    stamp = file_stamp(tar)
    if stamp is None:
        return None
    for file in (tar.with_suffix(SUFFIX), cached_place(tar, stamp)):
        if (own := file_stamp(file)) and (index := _read_unchanged(file, tar, own)) and index.tar_bytes == stamp.size:
            return index
    return None


def cached_place(tar: Path, stamp: FileStamp) -> Path:
    """Where the index of a foreign tar is kept."""
    key = hashlib.sha256(f"{VERSION} {os.path.abspath(tar)} {stamp}".encode(errors="surrogateescape")).hexdigest()
    return cache_folder() / "shards" / f"{key[:32]}{SUFFIX}"


def keep_index(index: ShardIndex) -> None:
    """Put the index of a foreign tar into the cache; a cache that cannot be written is no fault."""
    stamp = file_stamp(index.tar)
    if stamp is not None:
        try:
            write_atomically(cached_place(index.tar, stamp), index.to_bytes())
        except OSError:
            return


@lru_cache(maxsize=4096)
def _read_unchanged(file: Path, tar: Path, _stamp: FileStamp) -> ShardIndex | None:
    try:
        return read_index(file, tar)
    except (OSError, ValueError):
        return None


def read_index(file: Path, tar: Path) -> ShardIndex:
    """Read an index.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no index, damaged, or of a later version.
    """
    try:
        with safe_open(file, "np") as opened:
            told = parse_json((opened.metadata() or {}).get("singleshot-shard", "{}"))
            columns = {name: opened.get_tensor(name) for name in COLUMNS if name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: no index of a shard: {error}") from error
    if not isinstance(told, dict) or told.get("version") != VERSION or set(columns) != set(COLUMNS):
        raise ValueError(f"{file}: no index of a shard, or of another version")
    try:
        tar_bytes, classes = int(told["tar_bytes"]), tuple(map(str, told["classes"]))
        ids = tuple(one if isinstance(one, int) else str(one) for one in told["ids"])
        problems = tuple((str(a), str(b), str(c)) for a, b, c in told["problems"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{file}: the index of a shard is damaged: {error!r}") from error
    if not 0 <= tar_bytes < 2**63:
        raise ValueError(f"{file}: the index of a shard is of a tar of {tar_bytes:,} bytes: it is damaged")
    _check_columns(file, columns, tar_bytes, len(classes))
    if len(ids) not in (0, len(columns["offsets"])):
        raise ValueError(f"{file}: the index of a shard has {len(ids)} ids: it is damaged")
    return ShardIndex(tar, tar_bytes, columns, classes, ids, problems)


def _check_columns(file: Path, columns: Mapping[str, NDArray[Any]], tar_bytes: int, classes: int) -> None:
    """Refuse an index that would lead out of its tar or its own arrays."""
    count, objects, letters = (columns[name].size for name in ("offsets", "class_ids", "names"))
    shapes = {
        "names": (letters,),
        "offsets": (count,),
        "class_ids": (objects,),
        "lengths": (count,),
        "name_ends": (count,),
        "sizes_hw": (count, 2),
        "bounds": (count + 1,),
    }
    shapes |= {"boxes_xyxy": (objects, 4)} | dict.fromkeys(("difficult", "iscrowd", "areas"), (objects,))
    sound = all(columns[name].shape == shape for name, shape in shapes.items())
    sound = sound and columns["digests"].shape in ((0, 32), (count, 32))
    sound = sound and all(columns[name].dtype == kind for name, kind in COLUMNS.items())
    if sound and count:
        starts, lengths, bounds, ends = (columns[name] for name in ("offsets", "lengths", "bounds", "name_ends"))
        sound = bool((starts >= 0).all() and (lengths >= 0).all() and (lengths <= tar_bytes - starts).all())
        sound = sound and bool((np.diff(bounds) >= 0).all() and bounds[0] == 0 and bounds[-1] == objects)
        sound = sound and bool((np.diff(ends, prepend=0) >= 0).all() and ends[-1] == letters)
        sound = sound and bool((columns["sizes_hw"] > 0).all())
        sound = sound and (not objects or 0 <= columns["class_ids"].min() <= columns["class_ids"].max() < classes)
    if not sound:
        raise ValueError(f"{file}: the index of a shard contradicts itself: it is damaged")


class ShardMembers(Mapping[str, Spans]):
    """The images of an indexed tar by name, without an object for each."""

    def __init__(self, index: ShardIndex) -> None:
        self._index = index
        keys = np.fromiter((hash(index.name(row)) for row in range(len(index))), np.int64, len(index))
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return map(self._index.name, range(len(self)))

    def __getitem__(self, name: str) -> Spans:
        at = int(np.searchsorted(self._keys, hash(name)))
        while at < len(self) and self._keys[at] == hash(name):
            row = int(self._order[at])
            if self._index.name(row) == name:
                columns = self._index.columns
                digest = columns["digests"][row].tobytes() if len(columns["digests"]) else b""
                return Spans(self._index.tar, ((int(columns["offsets"][row]), int(columns["lengths"][row])),), digest)
            at += 1
        raise KeyError(name)
