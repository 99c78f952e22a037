"""Write tar shards: ``shards/train-000000.tar`` with ``KEY.jpg`` and ``KEY.json`` of each image, and their indices."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np

from singleshot.core.files import write_atomically
from singleshot.core.structures import ClassMap, Sample
from singleshot.data.formats.registry import Content, Writer
from singleshot.images.packed import image_bytes
from singleshot.images.shard_index import SUFFIX, ShardIndex, pack_names

FOLDER, INDEX = "shards", "index.json"
WHOLE_NAME = "data"
VERSION = 1
_BLOCK = 512


def label_json(sample: Sample, class_map: ClassMap, digest: str) -> bytes:
    """The labels of an image: corners in pixels of the upright image, class names by number, flags, areas."""
    height, width = sample.image_size_hw
    return json.dumps(
        {
            "image_id": sample.image_id,
            "width": width,
            "height": height,
            "boxes_xyxy": [[float(f"{side:.9g}") for side in box] for box in sample.boxes_xyxy.tolist()],
            "class_ids": sample.class_ids.tolist(),
            "class_names": [class_map.names[index] for index in sample.class_ids.tolist()],
            "difficult": sample.difficult.tolist(),
            "iscrowd": sample.iscrowd.tolist(),
            "areas": [float(f"{area:.9g}") for area in sample.areas.tolist()],
            "sha256": digest,
        },
        separators=(",", ":"),
    ).encode()


def member_keys(names: Sequence[str]) -> list[str]:
    """A name without a dot for each image: readers of shards take what follows the first dot for the kind of a file."""
    taken: set[str] = set()
    keys = []
    for name in names:
        stem = key = PurePath(name).stem.replace(".", "_")
        number = 1
        while key.casefold() in taken:
            number += 1
            key = f"{stem}_{number}"
        taken.add(key.casefold())
        keys.append(key)
    return keys


def add_member(file: BinaryIO, name: str, data: bytes) -> int:
    """Append a file to a tar, the same bytes on every machine and day; gives the offset of its data."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    file.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
    offset = file.tell()
    file.write(data + bytes(-len(data) % _BLOCK))
    return offset


def write_shards(folder: Path, content: Content) -> None:
    """Write all shards, their indices, and ``index.json``."""
    (folder / FOLDER).mkdir()
    splits: dict[str, list[dict[str, object]]] = {}
    paths = [sample.image_path for samples in content.splits.values() for sample in samples]
    tracked = iter(content.track(paths))
    once = list(dict.fromkeys(paths))  # an image has one key, so that it is known again in another split
    keys = dict(zip(once, member_keys([content.names[path] for path in once]), strict=True))
    for split, samples in content.splits.items():
        name = WHOLE_NAME if split is None else split
        splits[name], start = [], 0
        while start < len(samples) or not splits[name]:
            tar = folder / FOLDER / f"{name}-{len(splits[name]):06d}.tar"
            with tar.open("wb") as file:
                shard = _Shard(file, content.class_map)
                while start < len(samples) and (not len(shard) or file.tell() < content.shard_bytes):
                    path = next(tracked)
                    shard.add(samples[start], f"{keys[path]}{Path(content.names[path]).suffix}", image_bytes(path))
                    start += 1
                file.write(bytes(2 * _BLOCK + -(file.tell() + 2 * _BLOCK) % tarfile.RECORDSIZE))
                size = file.tell()
            write_atomically(tar.with_suffix(SUFFIX), shard.index(tar, size).to_bytes())
            splits[name].append({"file": f"{FOLDER}/{tar.name}", "images": len(shard), "bytes": size})
    next(tracked, None)  # a progress bar ends
    told = {"singleshot_shards": VERSION, "classes": content.class_map.names, "class_ids": content.class_map.ids}
    text = json.dumps(told | {"has_splits": None not in content.splits, "splits": splits}, indent=1)
    write_atomically(folder / INDEX, text + "\n")


class _Shard:
    """One tar in the making."""

    def __init__(self, file: BinaryIO, class_map: ClassMap) -> None:
        self._file, self._class_map = file, class_map
        self._samples: list[Sample] = []
        self._places: list[tuple[str, int, int, bytes]] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, sample: Sample, name: str, image: bytes) -> None:
        """Append an image and its labels."""
        digest = hashlib.sha256(image)
        offset = add_member(self._file, name, image)
        labels = label_json(sample, self._class_map, digest.hexdigest())
        add_member(self._file, f"{PurePath(name).stem}.json", labels)
        self._places.append((name, offset, len(image), digest.digest()))
        self._samples.append(sample)

    def index(self, tar: Path, size: int) -> ShardIndex:
        """Where all images lie, and their labels."""
        samples, places = self._samples, self._places
        columns = {
            **pack_names([name for name, *_ in places]),
            "offsets": np.array([place[1] for place in places], np.int64),
            "lengths": np.array([place[2] for place in places], np.int64),
            "digests": np.frombuffer(b"".join(place[3] for place in places), np.uint8).reshape(-1, 32),
            "sizes_hw": np.array([sample.image_size_hw for sample in samples], np.int32).reshape(-1, 2),
            "bounds": np.cumsum([0, *map(len, samples)], dtype=np.int64),
            "boxes_xyxy": np.concatenate([np.zeros((0, 4), np.float32), *(s.boxes_xyxy for s in samples)]),
            "class_ids": np.concatenate([np.zeros(0, np.int64), *(s.class_ids for s in samples)]),
            "difficult": np.concatenate([np.zeros(0, bool), *(s.difficult for s in samples)]),
            "iscrowd": np.concatenate([np.zeros(0, bool), *(s.iscrowd for s in samples)]),
            "areas": np.concatenate([np.zeros(0, np.float32), *(s.areas for s in samples)]),
        }
        ids = tuple(sample.image_id for sample in samples)
        if ids == tuple(PurePath(name).stem for name, *_ in places):
            ids = ()
        return ShardIndex(tar, size, columns, self._class_map.names, ids)


SHARDS = Writer(write_shards, None, frozenset({INDEX, FOLDER}), frozenset(), any_class_name=True)
