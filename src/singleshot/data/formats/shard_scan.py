"""The index of a tar shard that has none, as WebDataset's tools write them: made once, and kept in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np

from singleshot.data.formats.shard_labels import LABEL_SUFFIXES, PackedObject, parse_labels, split_member
from singleshot.data.formats.yolo_names import MAX_CLASSES
from singleshot.data.headers import MAX_SIDE, unusable_size
from singleshot.data.values import to_float32
from singleshot.errors import DataError
from singleshot.images.archive import BoundedFile
from singleshot.images.header import read_header, turned_late
from singleshot.images.read import IMAGE_SUFFIXES, what_it_is
from singleshot.images.shard_index import ShardIndex, pack_names
from singleshot.images.tar_archive import MAX_HEADER_BYTES, entries

MAX_LABEL_BYTES = 64 * 2**20
MEMBERS_TRIED = 64
_HEAD_BYTES = 65536

Files = dict[str, tuple[str, int, int]]
"""The files of one image by their suffix: name, offset, bytes."""


def holds_labels(tar: Path) -> bool:
    """Whether one of the first images of a tar has labels of boxes beside it, by the names alone."""
    seen: dict[str, set[str]] = {}
    try:
        for number, (name, _, _) in enumerate(_members(tar)):
            key, suffix = split_member(name)
            seen.setdefault(key, set()).add("label" if suffix in LABEL_SUFFIXES else suffix)
            if "label" in seen[key] and seen[key] & set(IMAGE_SUFFIXES):
                return True
            if number == MEMBERS_TRIED:
                break
    except (OSError, ValueError):
        return False
    return False


class LabelledMember(NamedTuple):
    """An image of a tar and its objects."""

    name: str
    offset: int
    length: int
    size_hw: tuple[int, int]
    objects: list[PackedObject]


def scan_shard(tar: Path) -> ShardIndex:
    """Read a tar from its beginning to its end: where its images lie, their sizes, their labels.

    Raises:
        DataError: it is no tar, or is compressed.
    """
    groups, problems = _grouped(tar)
    images: list[LabelledMember] = []
    with tar.open("rb") as file:
        for files in groups:
            try:
                found = _labelled(file, files)
            except _BadMember as error:
                problems.append(error.args)
                continue
            images += [found] if found else []
    return index_of(tar, images, problems)


class _BadMember(Exception):
    """Member, kind of fault, message."""


def _labelled(file: BinaryIO, files: Files) -> LabelledMember | None:
    """An image and its labels; ``None`` where the files belong to no image."""
    suffix = next((one for one in files if one in IMAGE_SUFFIXES), "")
    label = next((files[one] for one in LABEL_SUFFIXES if one in files), None)
    if not suffix:
        if label:
            raise _BadMember(label[0], "orphan-label", "there is no image of this name beside it")
        return None
    name, offset, length = files[suffix]
    if label is None:
        raise _BadMember(name, "missing-annotation", "has no .json or .txt beside it in the shard")
    try:
        size_hw = _size(file, offset, length)
    except ValueError as error:
        raise _BadMember(name, "unreadable-image", str(error)) from error
    try:
        objects = parse_labels(_read(file, label), PurePosixPath(label[0]).suffix.lower(), size_hw)
    except (ValueError, RecursionError) as error:
        raise _BadMember(label[0], "unreadable-annotation", str(error)) from error
    return LabelledMember(name, offset, length, size_hw, objects)


def _members(tar: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and bytes of each ordinary file.

    Raises:
        ValueError: it is damaged from here on.
    """
    with tar.open("rb") as file:
        try:
            for info in entries(BoundedFile(file, MAX_HEADER_BYTES)):
                if info.isreg() and not info.issparse():
                    yield info.name, info.offset_data, info.size
        except Exception as error:  # whatever is made of a damaged header
            raise ValueError(str(error) or type(error).__name__) from error


def _grouped(tar: Path) -> tuple[list[Files], list[tuple[str, str, str]]]:
    """The files of each image, in the order of the tar, and where it is damaged."""
    images: dict[str, Files] = {}
    last = ""
    try:
        for name, offset, size in _members(tar):
            key, suffix = split_member(name)
            images.setdefault(key, {})[suffix] = (name, offset, size)
            last = name
    except ValueError as error:
        if not last:
            raise DataError(
                f"{tar}: is no plain tar archive ({error}): unpack a compressed one (gunzip), or download it again"
            ) from error
        return list(images.values()), [(last, "bad-record", f"read up to here only, the rest is damaged: {error}")]
    return list(images.values()), []


def _read(file: BinaryIO, member: tuple[str, int, int]) -> bytes:
    _, offset, size = member
    if size > MAX_LABEL_BYTES:
        raise ValueError(f"{size:,} bytes are no labels of one image")
    return os.pread(file.fileno(), size, offset)


def _size(file: BinaryIO, offset: int, length: int) -> tuple[int, int]:
    """Size of an image, upright.

    Raises:
        ValueError: it is none, or cut off.
    """
    for wanted in (_HEAD_BYTES, length):
        data = os.pread(file.fileno(), min(wanted, length), offset)
        try:
            header = read_header(data)
        except (IndexError, LookupError):
            continue
        except Exception as error:  # struct.error, ValueError
            if wanted < length:
                continue
            raise ValueError(f"damaged header: {error}") from error
        if header is None:
            raise ValueError(what_it_is(data))
        if header.format == "PNG":
            header = turned_late(header, os.pread(file.fileno(), length, offset)[-_HEAD_BYTES:])
        if min(header.size_hw) < 1 or max(header.size_hw) > MAX_SIDE:
            raise ValueError(unusable_size(header))
        if len(data) < min(wanted, length):
            break
        return header.upright_size_hw
    raise ValueError("the image is cut off")


def index_of(tar: Path, images: list[LabelledMember], problems: list[tuple[str, str, str]]) -> ShardIndex:
    """The index of images and their labels."""
    objects = [one for image in images for one in image.objects]
    labels = {one.label for one in objects}
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels) and max(numbers, default=0) < MAX_CLASSES:
        class_names = tuple(map(str, range(max(numbers, default=-1) + 1)))
    else:
        class_names = tuple(sorted(map(str, labels)))
    ids = {name: number for number, name in enumerate(class_names)}
    columns = {
        **pack_names([image.name for image in images]),
        "offsets": np.array([image.offset for image in images], np.int64),
        "lengths": np.array([image.length for image in images], np.int64),
        "digests": np.zeros((0, 32), np.uint8),
        "sizes_hw": np.array([image.size_hw for image in images], np.int32).reshape(-1, 2),
        "bounds": np.cumsum([0, *(len(image.objects) for image in images)], dtype=np.int64),
        "boxes_xyxy": to_float32([one.box_xyxy for one in objects]).reshape(-1, 4),
        "class_ids": np.array([ids[str(one.label)] for one in objects], np.int64),
        "difficult": np.array([one.difficult for one in objects], bool),
        "iscrowd": np.array([one.iscrowd for one in objects], bool),
        "areas": to_float32([one.area for one in objects]),
    }
    return ShardIndex(tar, tar.stat().st_size, columns, class_names, (), tuple(problems))
