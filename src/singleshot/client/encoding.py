"""Arrays as image files, for the way to a service."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import ImageError
from singleshot.images.read import check_rgb

_LEVEL = 1
"""Of PNG's compression: a higher one takes longer than it saves."""


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """An image as a PNG, which loses nothing.

    Args:
        image: RGB, ``[H, W, 3]`` uint8.

    Raises:
        ImageError: it is no such array, or too large for a PNG.
    """
    import cv2

    pixels = check_rgb(image)
    try:
        done, data = cv2.imencode(
            ".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, _LEVEL]
        )
    except cv2.error:
        done = False
    if not done:
        raise ImageError(f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels cannot be sent as a PNG")
    return data.tobytes()
