"""Pictures for the page, made when they are asked for: upright JPEG, never the user's own bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import BoundedSemaphore, Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.browsing.collection import Collection
from singleshot.errors import ImageError
from singleshot.images.read import read_image

SIDES = (320, 1600)
"""Longer side of what is sent, in pixels: in a grid, and alone."""

CACHE_BYTES = 64 * 2**20
AT_ONCE = 4
QUALITY = 85
AROUND = 0.6
"""How much is shown around an object, as a share of its longer side; and at least `LEAST_PX`."""
LEAST_PX = 24.0


class PictureCache:
    """Small pictures of a collection, the latest of them kept."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._kept: OrderedDict[tuple[int, int, tuple[int, ...]], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self._decoders = BoundedSemaphore(AT_ONCE)  # of large photos each takes hundreds of megabytes

    def __len__(self) -> int:
        return len(self._collection)

    def jpeg(self, image: int, side: int, part_xyxy: tuple[int, int, int, int] | None = None) -> bytes:
        """An image, or a part of it, at most ``side`` pixels wide and high.

        Raises:
            ImageError: it cannot be read (any more), or the part is empty.
        """
        key = (image, side, part_xyxy or ())
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._decoders:
            data = _encode(read_image(self._collection.dataset.samples[image].image_path), side, part_xyxy)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += len(data)
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data


def part_around(box_xyxy: NDArray[np.floating], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image that shows an object and what is around it, in whole pixels."""
    x0, y0, x1, y1 = box_xyxy.tolist()
    margin = max(AROUND * max(x1 - x0, y1 - y0), LEAST_PX)
    height, width = size_hw
    left, top = max(int(x0 - margin), 0), max(int(y0 - margin), 0)
    return left, top, min(int(np.ceil(x1 + margin)), width), min(int(np.ceil(y1 + margin)), height)


def _encode(pixels: NDArray[np.uint8], side: int, part_xyxy: tuple[int, int, int, int] | None) -> bytes:
    if part_xyxy is not None:
        x0, y0, x1, y1 = part_xyxy
        pixels = pixels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        if not pixels.size:
            raise ImageError(f"the image has no part {part_xyxy}")
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return bytes(data.tobytes())
