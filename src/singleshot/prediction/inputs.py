"""What people hand over as an image: paths, RGB arrays, Pillow images, torch tensors; others are told the way."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import ImageError
from singleshot.images.read import MAX_PIXELS, check_rgb, read_image
from singleshot.images.tiff import ORIENTATION
from singleshot.prediction.frames import Deferred, Encoded, Failure, Frame
from singleshot.prediction.not_images import check_readable
from singleshot.prediction.sources import find_images, is_many

PathLike = str | os.PathLike[str]
Source = Path | NDArray[np.uint8]


WANTED = "an image is a path, an RGB array [H, W, 3] of uint8, a Pillow image or a torch tensor [3, H, W]"

# Pillow converts these to RGB without a loss of meaning; I, I;16 and F hold values that it would cut off at 255.
_PILLOW_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


def as_source(item: Any) -> Source:
    """One image as a path or an array.

    Args:
        item: a path; an array, which is taken as it is; a Pillow image (transparency becomes white, as in files); a
            torch tensor, ``[3, H, W]`` (or ``[H, W, 3]``), uint8 or, with values of 0..1, floating.

    Raises:
        ImageError: it is something else; says how to convert it.
    """
    if isinstance(item, np.ndarray):
        return item
    if isinstance(item, (str, os.PathLike)):
        return _as_path(item)
    if _is_of(item, "PIL.Image", "Image"):
        return _from_pillow(item)
    if _is_of(item, "torch", "Tensor"):
        return _from_torch(item)
    raise ImageError(_remedy(item))


def as_sources(items: Iterable[Any]) -> Iterator[Source]:
    """Images one by one, as they are asked for.

    Raises:
        ImageError: an item is none; names its place.
    """
    for number, item in enumerate(items, 1):
        try:
            yield as_source(item)
        except ImageError as error:
            raise ImageError(f"image {number} of the list: {error}") from None


def load_frame(item: Any, index: int = 0, max_pixels: int | None = MAX_PIXELS) -> Frame | Failure:
    """Read and check one image; what is none is a `Failure`, whatever is wrong with it.

    Args:
        item: as `as_source` takes it; or a frame, the bytes of an upload, or a failure.
        index: its number among the images of its source.
        max_pixels: larger images are failures.
    """
    try:
        if isinstance(item, Failure):
            return item
        if isinstance(item, Frame):
            check_rgb(item.pixels)
            return item
        if isinstance(item, Deferred):
            item = Encoded(item.read(), item.name)
        if isinstance(item, Encoded):
            return Frame(read_image(item.data, max_pixels=max_pixels), item.name, index)
        source = as_source(item)
        if isinstance(source, Path):
            check_readable(source)
            return Frame(read_image(source, max_pixels=max_pixels), str(source), index, is_file=True)
        return Frame(check_rgb(source), index=index)
    except ImageError as error:
        return Failure(_path_of(item), error)
    except Exception as error:  # whatever a decoder makes of a damaged file: it belongs to this image
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        path = _path_of(item)
        label = path or getattr(item, "name", None) or "an array"
        return Failure(path, ImageError(f"{label}: cannot be read: {reason}"))


def _path_of(item: Any) -> Path | None:
    """The file of a source; an array, or what is no image, has none."""
    return Path(item) if isinstance(item, (str, os.PathLike)) and isinstance(os.fspath(item), str) else None


def is_one(source: Any) -> bool:
    """Whether a source is one image rather than several."""
    if isinstance(source, (list, tuple)):
        return False
    return isinstance(source, (str, os.PathLike, np.ndarray, Frame)) or any(
        _is_of(source, *kind) for kind in (("PIL.Image", "Image"), ("torch", "Tensor"))
    )


def as_iterable(source: Any) -> Iterable[Any]:
    """Several images: any iterable that has an order.

    Raises:
        ImageError: it is none.
    """
    no_list = isinstance(source, (bytes, bytearray, dict, set, frozenset)) or hasattr(source, "read")  # an open file
    if no_list or not isinstance(source, Iterable):
        raise ImageError(f"{_remedy(source)}; or pass a list of these")
    return source


def images_of(source: Any) -> tuple[Iterable[Any], bool]:
    """The images of what `Detector.predict` takes (a list where their number is known), and whether it is a single one.

    Raises:
        ImageError: it is no image and no list of some.
    """
    if isinstance(source, (str, os.PathLike)):
        return list(find_images(source)), not is_many(source)
    if is_one(source):
        return [as_source(source)], True
    items = as_iterable(source)
    return (list(as_sources(items)) if isinstance(items, (list, tuple)) else as_sources(items)), False


def _is_of(item: Any, module: str, name: str) -> bool:
    """Whether it is an object of an optional package, which is imported wherever there is one."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(item, kind)


def _as_path(item: PathLike) -> Path:
    text = os.fspath(item)
    if not isinstance(text, str):
        raise ImageError(f"the path {text!r} is bytes: use os.fsdecode(path)")
    if not text.strip() or "\0" in text:
        raise ImageError(f"{text!r} is no path: name an image file")
    return Path(text)


def _from_pillow(image: Any) -> NDArray[np.uint8]:
    turned = image.getexif().get(ORIENTATION, 1)
    if turned in range(2, 9):
        warnings.warn(
            f"the Pillow image says that it is to be turned (EXIF orientation {turned}), and is taken as it lies: pass "
            "PIL.ImageOps.exif_transpose(image), or the file's path",
            stacklevel=2,
        )
    if image.mode not in _PILLOW_MODES:
        raise ImageError(f"a Pillow image of mode {image.mode}: scale it to 0..255 and pass an RGB array of uint8")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = image.copy()
        white.paste((255, 255, 255, 255), (0, 0, *image.size))
        white.alpha_composite(image)
        image = white
    return np.asarray(image.convert("RGB"))


def _from_torch(tensor: Any) -> NDArray[np.uint8]:
    shape = list(tensor.shape)
    if len(shape) != 3 or 3 not in (shape[0], shape[2]):
        several = "pass several images as a list: list(batch)" if len(shape) == 4 else "a tensor is [3, H, W]"
        raise ImageError(f"a tensor of shape {shape}: {several}; gray images want .expand(3, -1, -1)")
    try:
        pixels = tensor.detach().to_dense().cpu()
    except (RuntimeError, NotImplementedError) as error:
        raise ImageError(f"a tensor that holds no pixels: {error}") from None
    if pixels.is_floating_point():
        pixels = pixels.float()
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ImageError(
                "a floating tensor holds values of 0..1, and this one others: undo its normalisation, or pass pixels "
                "of 0..255 as an array or tensor of uint8"
            )
        pixels = (pixels * 255).round()
    elif str(tensor.dtype) != "torch.uint8":
        raise ImageError(f"a tensor of {tensor.dtype}: pass pixels of 0..255 as uint8 (or an array of them)")
    array = pixels.numpy().astype(np.uint8)
    return np.ascontiguousarray(array.transpose(1, 2, 0) if shape[0] == 3 else array)


def _remedy(item: Any) -> str:
    """Why something is no image, and how to make it one."""
    if item is None:
        return f"None is no image: {WANTED} (cv2.imread returns None for a file that it cannot read)"
    if isinstance(item, (bytes, bytearray, memoryview)):
        return "bytes are no path: singleshot.images.read.read_image(data) makes an RGB array of an image file's bytes"
    if isinstance(item, (list, tuple)):
        return f"a {type(item).__name__} inside a list: {WANTED}; join the lists, or use np.asarray(pixels, np.uint8)"
    if hasattr(item, "read"):
        return "an open file: pass its path, or singleshot.images.read.read_image(file.read()), which is an RGB array"
    convert = "np.asarray(image.convert('RGB')) makes an array of what resembles a Pillow image"
    return f"{WANTED}, not {type(item).__name__}" + (f"; {convert}" if hasattr(item, "convert") else "")
