"""Size and orientation of many image files without decoding them."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from singleshot.errors import ImageError
from singleshot.images.header import LATE_BYTES, Header, is_cut_off, read_header, turned_late
from singleshot.images.packed import image_stamp, open_image
from singleshot.images.read import read_image

THREADS = 8
CHUNK = 64
# The first part holds nearly every header; photos with a thumbnail or colour profile need more.
HEAD_BYTES = (4096, 65536)
TAIL_BYTES = 1024
_END_MARKS = {"JPEG": b"\xff\xd9", "JPEG 2000": b"\xff\xd9", "PNG": b"IEND"}


def read_headers(paths: Sequence[Path]) -> list[Header | str]:
    """Header of each image, or what is wrong with the file: missing, empty, not an image, damaged, cut off.

    Threads hide the latency of disks and network folders; headers of unchanged files are remembered in the process.
    """
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    if len(chunks) < 2:
        return [_check(path) for path in paths]
    with ThreadPoolExecutor(THREADS) as pool:
        checked = pool.map(lambda chunk: [_check(path) for path in chunk], chunks)
        return [header for chunk in checked for header in chunk]


def _check(path: Path) -> Header | str:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _check_packed(path)
    except (OSError, ValueError) as error:
        return f"cannot be opened: {error}"
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO or a device may block for ever
        return "is a folder, not an image" if stat.S_ISDIR(status.st_mode) else "is no ordinary file"
    return _check_unchanged(str(path), status.st_size, status.st_mtime_ns)


def _check_packed(path: Path) -> Header | str:
    """The header of an image inside another file."""
    try:
        return _check_unchanged(str(path), *image_stamp(path))
    except (FileNotFoundError, NotADirectoryError):
        return "missing-image"
    except OSError as error:
        return f"cannot be opened: {error}"


@lru_cache(maxsize=262144)
def _check_unchanged(path: str, size: int, _modified_ns: int) -> Header | str:
    if not size:
        return "the file is empty"
    try:
        with open_image(path) as file:
            header = _read(file)
            if header is None:
                return "not an image that singleshot knows"
            if header.format == "PNG":
                file.seek(max(0, size - LATE_BYTES))
                header = turned_late(header, file.read())
            if _is_cut_off(file, size, header):
                return f"the {header.format} is cut off (its end is missing)"
    except OSError as error:
        return f"cannot be read: {error}"
    except (IndexError, struct.error, ValueError) as error:
        return f"damaged header: {error}" if not isinstance(error, ValueError) else str(error)
    return header if min(header.size_hw) > 0 else "the image has no pixels"


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
