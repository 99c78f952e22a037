"""Read any picture that people have as RGB uint8 HWC, upright, or say in one sentence why not.

Policies: EXIF orientation is applied; transparency is composited over white; 16-bit samples are scaled by 255/65535;
CMYK and YCCK are read as Adobe writes them (inverted); an animation or a multi-page file gives its first frame; a file
whose end is missing is an error, never a picture with a gray half. The size is checked before anything is decoded.
"""

from __future__ import annotations

import difflib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import is_regular, write_atomically
from singleshot.errors import ImageError
from singleshot.images.codecs import decode, decode_without_end
from singleshot.images.header import LATE_BYTES, Header, is_cut_off, read_header, turned_late
from singleshot.images.packed import open_image
from singleshot.images.tiff import CAMERA_RAW

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused: 512 MiB as RGB."""

# What decoding may take for each of the allowed pixels; a small limit is about pixels, not about memory.
_BYTES_PER_PIXEL = 8
_MIN_BYTES = 2**28

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".avif", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".heic", ".heif"),
)
"""What counts as an image when a folder is searched (HEIC cannot be read, but must not vanish without a word)."""

# Enough for the header of nearly every file; the others are read whole.
_HEAD_BYTES = 65536
_MAX_FILE_BYTES = 2**31 - 1

_RAW_SIGNATURES = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb")  # Fuji, Olympus, Panasonic, Sigma

_FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the image: run 'git lfs pull'"),
    (b"%PDF", "is a PDF: export its pages as images"),
    (b"<svg", "is an SVG drawing: render it to PNG"),
    (b"<?xml", "is XML, not an image"),
    (b"<", "is a web page or other markup, not an image: download it again"),
)


def read_image(source: str | os.PathLike[str] | bytes, *, max_pixels: int | None = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image file.

    Args:
        source: path, or the bytes of a file.
        max_pixels: larger images are refused before they are decoded; ``None`` accepts any size.

    Returns:
        Upright RGB, ``[H, W, 3]`` uint8, contiguous.

    Raises:
        ImageError: no such file, not an image, damaged, cut off, or too large.
    """
    name, data = _load(source)
    header = _header(name, data)
    _check_size(name, header, max_pixels)
    return _turn_upright(_decode(name, data, header), header.orientation)


def check_encoded(data: bytes, max_pixels: int | None = MAX_PIXELS) -> tuple[int, int]:
    """Check, by its header alone, the bytes of an image file as `read_image` does before it decodes.

    Returns:
        (height, width) after the orientation is applied.

    Raises:
        ImageError: not an image, or too large.
    """
    name, data = _load(data)
    header = _header(name, data)
    _check_size(name, header, max_pixels)
    return header.upright_size_hw


def image_size(source: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """Size of an image as `read_image` will return it, from the file's header.

    Returns:
        (height, width) after the orientation is applied.

    Raises:
        ImageError: no such file, not an image, or its header is damaged.
    """
    try:
        header = read_header(_load(source, _HEAD_BYTES)[1])
    except (IndexError, struct.error, ValueError):
        header = None
    if header is None:
        header = _header(*_load(source))
    elif header.format == "PNG" and not isinstance(source, bytes):
        header = turned_late(header, _load(source, LATE_BYTES, from_end=True)[1])
    return header.upright_size_hw


def image_bytes(path: str | os.PathLike[str]) -> bytes:
    """What an image file holds, also one in an archive; nothing is decoded.

    Raises:
        ImageError: it cannot be read.
    """
    return _load(path)[1]


def check_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check that an array is an image as singleshot understands it: RGB uint8 ``[H, W, 3]``, not empty.

    Raises:
        ImageError: it is not; the message says how to convert it.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image is a NumPy array [H, W, 3] of uint8 in RGB order, not {type(image).__name__}")
    if image.dtype != np.uint8:
        remedy = (
            "multiply 0..1 values by 255 and use .astype(np.uint8)" if image.dtype.kind == "f" else "scale to 0..255"
        )
        raise ImageError(f"an image array holds uint8, not {image.dtype}: {remedy}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"an image array is [height, width, 3], not {list(image.shape)}: {_shape_remedy(image)}")
    if image.size == 0:
        raise ImageError(f"an image array of shape {list(image.shape)} has no pixels")
    return image


def write_image(path: str | os.PathLike[str], image_rgb: NDArray[np.uint8], *, jpeg_quality: int = 92) -> None:
    """Write an RGB image in the format of the path's suffix; a failed write leaves no file and no half file.

    Raises:
        ImageError: OpenCV cannot write this format.
        OSError: the file cannot be written.
    """
    import cv2

    target = Path(path)
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if target.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(target.suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error:
        done = False
    if not done:
        raise ImageError(f"{target}: cannot write images as '{target.suffix}': use .jpg or .png")
    write_atomically(target, data.tobytes())


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep OpenCV's own lines about damaged files off the screen: our errors name the file."""
    import cv2

    # OpenCV 5 has them in a module of their own; 4.11 and 4.12 have not.
    levels = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    before = levels.getLogLevel()
    levels.setLogLevel(0)
    try:
        yield
    finally:
        levels.setLogLevel(before)


def _load(source: str | os.PathLike[str] | bytes, limit: int = -1, *, from_end: bool = False) -> tuple[str, bytes]:
    """Name for messages and the (first or last) bytes of an image file."""
    if isinstance(source, bytes):
        return f"image of {len(source):,} bytes", source
    path = Path(source)
    try:
        if path.exists() and not path.is_dir() and not is_regular(path):
            raise ImageError(f"{path}: is not an ordinary file")
        with open_image(path) as file:
            size = file.seek(0, os.SEEK_END)
            if size > _MAX_FILE_BYTES:
                raise ImageError(f"{path}: larger than {_MAX_FILE_BYTES:,} bytes: no image decoder takes it")
            file.seek(max(0, size - limit) if from_end else 0)
            data = file.read(limit)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file{nearest_hint(path)}") from None
    except NotADirectoryError:
        raise ImageError(f"{path}: no such image: a part of this path is a file, and holds none of that name") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not an image") from None
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
        raise ImageError(f"{path}: cannot be read: {reason}") from None
    return str(path), data


def nearest_hint(path: Path) -> str:
    """``"; did you mean ...?"`` with the most similar name in the same folder, or nothing."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f" (its folder {path.parent} does not exist)"
    similar = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / similar[0]}?" if similar else ""


def _header(name: str, data: bytes) -> Header:
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes): copy or download it again")
    try:
        header = read_header(data)
    except (IndexError, struct.error):
        raise ImageError(f"{name}: is cut off inside its header: copy or download it again") from None
    except ValueError as error:
        raise ImageError(f"{name}: {error}") from None
    if header is None:
        raise ImageError(f"{name}: {what_it_is(data)}")
    return header


def what_it_is(data: bytes) -> str:
    """Words for the first bytes of a file that is no image, or none that is read."""
    start = data[:512].lstrip().lower()
    for signature, message in _FOREIGN:
        if start.startswith(signature.lower()):
            return message
    if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return "is a HEIC photo, which singleshot does not read: export it as JPEG"
    if data.startswith(_RAW_SIGNATURES) or data[4:12] == b"ftypcrx ":
        return CAMERA_RAW
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "is JPEG XL, which singleshot does not read: export it as JPEG or PNG"
    return "is not an image that singleshot reads (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, JPEG 2000, PNM)"


def _check_size(name: str, header: Header, max_pixels: int | None) -> None:
    height, width = header.size_hw
    if height < 1 or width < 1:
        raise ImageError(f"{name}: is damaged: its header says {width} x {height} pixels")
    if max_pixels is None:
        return
    pixels = height * width
    if pixels > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} = {pixels:,} pixels are over the limit of {max_pixels:,}: "
            f"make it smaller, or raise max_pixels"
        )
    limit = max(_BYTES_PER_PIXEL * max_pixels, _MIN_BYTES)
    if pixels * header.pixel_bytes > limit:
        raise ImageError(
            f"{name}: to decode {width} x {height} pixels of this {header.format} takes "
            f"{pixels * header.pixel_bytes / 2**20:,.0f} MiB of memory, over the limit of {limit / 2**20:,.0f} MiB "
            f"({_BYTES_PER_PIXEL} bytes for each of max_pixels): make it smaller, save it as JPEG, or raise max_pixels"
        )


def _decode(name: str, data: bytes, header: Header) -> NDArray[np.uint8]:
    try:
        if not is_cut_off(data, header):
            return decode(data, header)
        whole = decode_without_end(data, header) if header.format == "JPEG" else None
    except (ValueError, IndexError, struct.error) as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError:
        height, width = header.size_hw
        raise ImageError(f"{name}: not enough memory to decode its {width} x {height} pixels") from None
    if whole is None:
        raise ImageError(f"{name}: the {header.format} is cut off (its end is missing): copy or download it again")
    return whole


def _turn_upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.3, tag 0x0112)."""
    if orientation == 1:
        return image
    import cv2

    if orientation >= 5:  # 5 to 8 are stored transposed: row and column change places first
        image = cv2.transpose(image)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # OpenCV: 1 left-right, 0 top-bottom, -1 both
    return cv2.flip(image, flips[orientation]) if orientation in flips else image


def _shape_remedy(image: NDArray[np.uint8]) -> str:
    if image.ndim == 2:
        return "repeat a gray image with np.stack([gray] * 3, axis=-1)"
    if image.ndim == 4:
        return "pass several images as a list"
    if image.ndim == 3 and image.shape[0] == 3:
        return "channels come last: image.transpose(1, 2, 0)"
    if image.ndim == 3 and image.shape[2] == 4:
        return "drop the alpha channel with image[..., :3]"
    return "see singleshot.images.read.read_image"
