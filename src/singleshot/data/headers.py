"""Size and orientation of many image files without decoding them."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from singleshot.core.pools import ordered_map
from singleshot.data.column_types import PathColumn
from singleshot.errors import ImageError
from singleshot.images.header import LATE_BYTES, Header, is_cut_off, read_header, turned_late
from singleshot.images.packed import image_stamp, open_image
from singleshot.images.read import read_image, what_it_is

THREADS = 8
MAX_SIDE = 2**24
CHUNK = 64
REMEMBERED = 2**16
"""Headers: 30 MiB. Of larger sets, read from first to last, a memory of the latest would be of no use."""
# The first part holds nearly every header; photos with a thumbnail or colour profile need more.
HEAD_BYTES = (4096, 65536)
TAIL_BYTES = 1024
_END_MARKS = {"JPEG": b"\xff\xd9", "JPEG 2000": b"\xff\xd9", "PNG": b"IEND"}


@dataclass(frozen=True)
class ImageSizes:
    """What the headers of many images say.

    Attributes:
        stored_hw: before the orientation is applied, ``[N, 2]``; 1 where there is a fault.
        orientations: EXIF orientation, ``[N]``.
        faults: what is wrong with an image, by its row: ``missing-image``, or a sentence.
    """

    stored_hw: NDArray[np.int32]
    orientations: NDArray[np.int8]
    faults: dict[int, str]

    @property
    def upright_hw(self) -> NDArray[np.int32]:
        """After the orientation is applied, ``[N, 2]``."""
        return np.where(self.orientations[:, None] >= 5, self.stored_hw[:, ::-1], self.stored_hw)


def upright_sizes(sizes_hw: NDArray[np.int32]) -> ImageSizes:
    """Sizes that are known without a look at the images."""
    return ImageSizes(sizes_hw, np.ones(len(sizes_hw), np.int8), {})


def read_headers(paths: Sequence[str] | PathColumn) -> ImageSizes:
    """Size and orientation of each image, or what is wrong with the file: missing, empty, not an image, cut off.

    Threads hide the latency of disks and network folders; headers of unchanged files are remembered in the process.
    """
    sizes = ImageSizes(np.ones((len(paths), 2), np.int32), np.ones(len(paths), np.int8), {})

    def check(start: int) -> None:
        for row in range(start, min(start + CHUNK, len(paths))):
            header = _check(paths[row])
            if isinstance(header, Header):
                sizes.stored_hw[row], sizes.orientations[row] = header.size_hw, header.orientation
            else:
                sizes.faults[row] = header

    starts = range(0, len(paths), CHUNK)
    if len(starts) < 2:
        for start in starts:
            check(start)
        return sizes
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in ordered_map(pool, check, starts, 4 * THREADS):
            pass
    return sizes


def _check(path: str) -> Header | str:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _check_packed(path)
    except (OSError, ValueError) as error:
        return f"cannot be opened: {error}"
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO or a device may block for ever
        return "is a folder, not an image" if stat.S_ISDIR(status.st_mode) else "is no ordinary file"
    return _check_unchanged(path, status.st_size, status.st_mtime_ns)


def _check_packed(path: str) -> Header | str:
    """The header of an image inside another file."""
    try:
        return _check_unchanged(path, *image_stamp(path))
    except (FileNotFoundError, NotADirectoryError):
        return "missing-image"
    except OSError as error:
        return f"cannot be opened: {error}"


@lru_cache(maxsize=REMEMBERED)
def _check_unchanged(path: str, size: int, _modified_ns: int) -> Header | str:
    if not size:
        return "the file is empty"
    try:
        with open_image(path) as file:
            header = _read(file)
            if header is None:
                file.seek(0)
                return what_it_is(file.read(512))
            if header.format == "PNG":
                file.seek(max(0, size - LATE_BYTES))
                header = turned_late(header, file.read())
            if _is_cut_off(file, size, header):
                return f"the {header.format} is cut off (its end is missing)"
    except OSError as error:
        return f"cannot be read: {error}"
    except (IndexError, struct.error, ValueError) as error:
        return f"damaged header: {error}" if not isinstance(error, ValueError) else str(error)
    return header if min(header.size_hw) > 0 and max(header.size_hw) <= MAX_SIDE else unusable_size(header)


def unusable_size(header: Header) -> str:
    """What is wrong with a size that no image has."""
    height, width = header.size_hw
    return "the image has no pixels" if min(height, width) < 1 else f"no image is {width:,} x {height:,}: it is damaged"


def _read(file: BinaryIO) -> Header | None:
    """The header from as few bytes as it takes."""
    data = b""
    for wanted in HEAD_BYTES:
        data += file.read(wanted - len(data))
        try:
            return read_header(data)
        except (IndexError, struct.error):
            continue
    return read_header(data + file.read())


def _is_cut_off(file: BinaryIO, size: int, header: Header) -> bool:
    """Look at the end of the file first; look at all of it only when the end is odd or the format asks for it."""
    if header.format in _END_MARKS:
        file.seek(max(0, size - TAIL_BYTES))
        if _END_MARKS[header.format] in file.read():
            return False
    file.seek(0)
    data = file.read()
    return is_cut_off(data, header) and not (header.format == "JPEG" and _holds_all_pixels(data))


def _holds_all_pixels(data: bytes) -> bool:
    """Whether a JPEG without end marker can be read all the same."""
    try:
        return bool(read_image(data).size)
    except ImageError:
        return False
