"""Write MXNet's packed data sets: ``train.rec``, ``train.idx``, ``train.lst`` for each split, and ``classes.txt``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import write_atomically
from singleshot.core.structures import Sample
from singleshot.data.formats.registry import Content, Writer
from singleshot.errors import OutputError
from singleshot.images.packed import image_bytes
from singleshot.images.recordio import FIRST, HEAD, IMAGE_HEAD, LAST, LENGTH_BITS, MAGIC, MAX_LENGTH, MIDDLE, WHOLE

HEADER_WIDTH, OBJECT_WIDTH = 2, 6
NO_OBJECT = (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""MXNet's readers want a row at least, and pass over one of this class."""
WHOLE_NAME = "data"


def label_numbers(sample: Sample) -> NDArray[np.float32]:
    """The label of an image: header; class, corners in fractions, ``difficult`` (also of crowds) of each object."""
    height, width = sample.image_size_hw
    flags = sample.difficult | sample.iscrowd
    boxes = sample.boxes_xyxy.astype(np.float64) / [width, height, width, height]
    rows = np.column_stack([sample.class_ids, boxes, flags]) if len(sample) else np.array([NO_OBJECT])
    return np.concatenate([[HEADER_WIDTH, OBJECT_WIDTH], rows.ravel()]).astype("<f4")


def pack_record(payload: bytes) -> bytes:
    """A record of RecordIO; the magic number at a multiple of 4 in the payload parts it.

    Raises:
        ValueError: a part is longer than the format can say.
    """
    words = np.frombuffer(payload[: len(payload) // 4 * 4], "<u4")
    cuts = [0, *(4 * np.flatnonzero(words == int.from_bytes(MAGIC, "little"))).tolist()]
    ends = [*cuts[1:], len(payload)]
    starts = [0, *(cut + len(MAGIC) for cut in cuts[1:])]
    last = len(starts) - 1
    parts = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        kind = WHOLE if last == 0 else FIRST if number == 0 else LAST if number == last else MIDDLE
        if end - start > MAX_LENGTH:
            raise ValueError(f"{end - start:,} bytes are more than a record can hold ({MAX_LENGTH:,})")
        head = HEAD.pack(int.from_bytes(MAGIC, "little"), kind << LENGTH_BITS | (end - start))
        parts.append(head + payload[start:end] + bytes(-(end - start) % 4))
    return b"".join(parts)


def write_rec(folder: Path, content: Content) -> None:
    """Write all files; the images go into the ``.rec`` files as they are."""
    for split, samples in content.splits.items():
        name = WHOLE_NAME if split is None else split
        with (folder / f"{name}.rec").open("wb") as file:
            index, lines = _write_split(file, samples, content)
        write_atomically(folder / f"{name}.idx", index)
        write_atomically(folder / f"{name}.lst", lines)
    write_atomically(folder / "classes.txt", "".join(f"{name}\n" for name in content.class_map.names))


def _write_split(file: BinaryIO, samples: Sequence[Sample], content: Content) -> tuple[str, str]:
    """Write the records of a split; gives its index and its list."""
    index, lines = [], []
    paths = content.track([sample.image_path for sample in samples])
    for key, (path, sample) in enumerate(zip(paths, samples, strict=True)):
        numbers = label_numbers(sample)
        try:
            record = pack_record(IMAGE_HEAD.pack(len(numbers), 0.0, key, 0) + numbers.tobytes() + image_bytes(path))
        except ValueError as error:
            raise OutputError(f"{path}: cannot be packed: {error}") from error
        index.append(f"{key}\t{file.tell()}\n")
        lines.append("\t".join([str(key), *(f"{number:.9g}" for number in numbers), content.names[path]]) + "\n")
        file.write(record)
    return "".join(index), "".join(lines)


def _losses(crowds: int, difficult: int) -> Iterable[str]:
    if crowds:
        yield f"{crowds} crowds became difficult objects: RecordIO has no crowds"


REC = Writer(
    write_rec,
    None,
    frozenset({f"{WHOLE_NAME}.rec", f"{WHOLE_NAME}.idx", f"{WHOLE_NAME}.lst", "classes.txt"}),
    frozenset({".rec", ".idx", ".lst"}),
    losses=_losses,
)
