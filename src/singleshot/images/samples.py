"""Pictures to try something on where a user names none: photos that scikit-image installs, else made ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.images.read import read_image

SAMPLE_NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "rocket.jpg")
SIDES = (160, 480)
"""Least and largest side of what `sample_pictures` gives."""


def sample_folder() -> Path | None:
    """Where scikit-image keeps the photos of its package; it is not imported. ``None`` where it is not installed."""
    found = find_spec("skimage")
    return None if found is None or found.origin is None else Path(found.origin).parent / "data"


def sample_pictures(count: int) -> tuple[list[NDArray[np.uint8]], str]:
    """Pictures of many sizes, the same at each call.

    Args:
        count: how many.

    Returns:
        RGB arrays ``[H, W, 3]`` uint8, and what they are, in words.
    """
    folder = sample_folder()
    files = [folder / name for name in SAMPLE_NAMES if (folder / name).is_file()] if folder else []
    rng = np.random.default_rng(0)
    if not files:
        return [_made(rng) for _ in range(count)], "made pictures"
    photos = [read_image(file) for file in files]
    return [_cut(photos[number % len(photos)], rng) for number in range(count)], "cuttings of scikit-image's photos"


def _cut(photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A part of at least half of each side, mirrored or not."""
    top, left = (int(rng.integers(0, side // 4 + 1)) for side in photo.shape[:2])
    bottom, right = (side - int(rng.integers(0, side // 4 + 1)) for side in photo.shape[:2])
    step = -1 if rng.random() < 0.5 else 1
    return np.ascontiguousarray(photo[top:bottom, left:right][:, ::step])


def _made(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Clouds with ellipses and boxes on them."""
    height, width = (int(side) for side in rng.integers(*SIDES, 2))
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        x, y, w, h = (int(share * side) for share, side in zip(rng.random(4), (width, height) * 2, strict=True))
        colour = tuple(map(int, rng.integers(0, 256, 3)))
        cv2.ellipse(picture, (x, y), (w // 4 + 1, h // 4 + 1), float(360 * rng.random()), 0, 360, colour, -1)
        cv2.rectangle(picture, (y % width, x % height), (w, h), colour[::-1], 3)
    noisy = picture + rng.normal(0, 8, picture.shape)
    return np.asarray(noisy.clip(0, 255), np.uint8)
