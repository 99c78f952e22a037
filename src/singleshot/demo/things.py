"""Five kinds of things, each painted as a small picture with soft edges, for the rendered scenes."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

# Things are painted this much larger and shrunk, which makes edges smooth.
OVERSAMPLING = 2
Colour = tuple[float, float, float]
Image = NDArray[np.uint8]
Painter = Callable[[Image, Image, int, Colour, np.random.Generator], None]


def paint_thing(name: str, side: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """Paint a thing into a square.

    Args:
        name: a key of ``PAINTERS``.
        side: of the square, in pixels.
        rng: chooses colour, pattern, angle and proportions.

    Returns:
        RGB ``[side, side, 3]`` and its opacity 0..1, ``[side, side]``.
    """
    large = side * OVERSAMPLING
    colour = _colour(rng)
    image = np.empty((large, large, 3), dtype=np.uint8)
    image[:] = np.clip(colour, 0, 255)
    mask = np.zeros((large, large), dtype=np.uint8)
    PAINTERS[name](image, mask, large, colour, rng)
    _shade(image, rng)
    angle = float(rng.uniform(-20, 20) if name in ("box", "mug") else rng.uniform(0, 360))
    turn = cv2.getRotationMatrix2D((large / 2, large / 2), angle, 1.0)
    image = cv2.warpAffine(image, turn, (large, large), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(mask, turn, (large, large), flags=cv2.INTER_LINEAR)
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return small, alpha


def _colour(rng: np.random.Generator) -> Colour:
    """A lively RGB colour."""
    hsv = np.array([[[rng.uniform(0, 180), rng.uniform(90, 240), rng.uniform(110, 250)]]], dtype=np.uint8)
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def _darker(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255.0, part * factor) for part in colour)
    return red, green, blue


def _shade(image: Image, rng: np.random.Generator) -> None:
    """Light from one side."""
    side = len(image)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    light = 1 + rng.uniform(0.05, 0.25) * (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])
    image[:] = np.clip(image * light[..., None], 0, 255).astype(np.uint8)


def _pattern(image: Image, side: int, colour: Colour, rng: np.random.Generator) -> None:
    """Nothing, stripes or dots in another shade."""
    kind = rng.integers(4)
    other = _darker(colour, float(rng.choice([0.55, 1.5])))
    step = int(side * rng.uniform(0.12, 0.25))
    if kind == 0:
        for start in range(-side, side, step):
            cv2.line(image, (start, 0), (start + side, side), other, max(1, step // 3), cv2.LINE_AA)
    elif kind == 1:
        for y in range(step // 2, side, step):
            for x in range(step // 2, side, step):
                cv2.circle(image, (x, y), max(1, step // 4), other, -1, cv2.LINE_AA)


def _ball(image: Image, mask: Image, side: int, colour: Colour, rng: np.random.Generator) -> None:
    _pattern(image, side, colour, rng)
    centre, radius = side // 2, int(side * 0.46)
    cv2.circle(mask, (centre, centre), radius, 255, -1, cv2.LINE_AA)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    light = np.clip(1.25 - 0.75 * np.hypot(x + 0.3, y + 0.3), 0.35, 1.3)
    spot = 120 * np.exp(-((x + 0.35) ** 2 + (y + 0.38) ** 2) / 0.03)
    image[:] = np.clip(image * light[..., None] + spot[..., None], 0, 255).astype(np.uint8)


def _box(image: Image, mask: Image, side: int, colour: Colour, rng: np.random.Generator) -> None:
    _pattern(image, side, colour, rng)
    depth = rng.uniform(0.16, 0.3) * side
    left, right = 0.14 * side, 0.86 * side - depth
    top, bottom = 0.14 * side + depth, side * rng.uniform(0.68, 0.86)
    lid = [(left, top), (left + depth, top - depth), (right + depth, top - depth), (right, top)]
    flank = [(right, top), (right + depth, top - depth), (right + depth, bottom - depth), (right, bottom)]
    front = [(left, top), (right, top), (right, bottom), (left, bottom)]
    _fill(image, lid, _darker(colour, 1.35))
    _fill(image, flank, _darker(colour, 0.6))
    for face in (lid, flank, front):
        _fill(mask, face, (255, 255, 255))
        cv2.polylines(image, [_points(face)], True, _darker(colour, 0.45), max(1, side // 90), cv2.LINE_AA)


def _star(image: Image, mask: Image, side: int, colour: Colour, rng: np.random.Generator) -> None:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 0.48, rng.uniform(0.19, 0.26)) * side
    points = [(side / 2 + r * np.sin(a), side / 2 - r * np.cos(a)) for r, a in zip(radii, angles, strict=True)]
    _fill(mask, points, (255, 255, 255))
    for index in range(10):  # facets, alternately light and dark
        facet = [points[index], points[(index + 1) % 10], (side / 2, side / 2)]
        _fill(image, facet, _darker(colour, 1.2 if index % 2 else 0.75))


def _ring(image: Image, mask: Image, side: int, colour: Colour, rng: np.random.Generator) -> None:
    _pattern(image, side, colour, rng)
    centre, outer = (side // 2, side // 2), int(side * 0.46)
    inner = int(outer * rng.uniform(0.45, 0.62))
    cv2.circle(mask, centre, outer, 255, -1, cv2.LINE_AA)
    cv2.circle(mask, centre, inner, 0, -1, cv2.LINE_AA)
    for radius, factor in ((outer, 0.6), (inner, 0.6)):
        cv2.circle(image, centre, radius, _darker(colour, factor), max(1, side // 40), cv2.LINE_AA)
    cv2.circle(image, centre, (outer + inner) // 2, _darker(colour, 1.25), max(1, side // 30), cv2.LINE_AA)


def _mug(image: Image, mask: Image, side: int, colour: Colour, rng: np.random.Generator) -> None:
    _pattern(image, side, colour, rng)
    left, right = 0.13 * side, 0.68 * side
    top, bottom = 0.2 * side, side * rng.uniform(0.78, 0.84)
    middle, half = (left + right) / 2, (right - left) / 2
    rim = int(0.07 * side)
    handle = (int(right), int((top + bottom) / 2))
    cv2.ellipse(mask, handle, (int(0.17 * side), int(0.2 * side)), 0, -90, 90, 255, int(0.07 * side), cv2.LINE_AA)
    _fill(
        mask, [(left, top), (right, top), (right - 0.03 * side, bottom), (left + 0.03 * side, bottom)], (255, 255, 255)
    )
    for y, width in ((top, half), (bottom, half - 0.03 * side)):
        cv2.ellipse(mask, (int(middle), int(y)), (int(width), rim), 0, 0, 360, 255, -1, cv2.LINE_AA)
    x = np.linspace(0, 1, side, dtype=np.float32) - middle / side
    light = np.clip(1.15 - 3.2 * (x + 0.06) ** 2, 0.5, 1.2)
    image[:] = np.clip(image * light[None, :, None], 0, 255).astype(np.uint8)
    cv2.ellipse(image, (int(middle), int(top)), (int(half), rim), 0, 0, 360, _darker(colour, 1.3), -1, cv2.LINE_AA)
    cv2.ellipse(
        image,
        (int(middle), int(top)),
        (int(half * 0.88), int(rim * 0.8)),
        0,
        0,
        360,
        _darker(colour, 0.35),
        -1,
        cv2.LINE_AA,
    )


def _points(corners: list[tuple[float, float]]) -> NDArray[np.int32]:
    return np.array(corners, dtype=np.float64).round().astype(np.int32)


def _fill(image: Image, corners: list[tuple[float, float]], colour: Colour) -> None:
    cv2.fillPoly(image, [_points(corners)], colour, cv2.LINE_AA)


PAINTERS: dict[str, Painter] = {"ball": _ball, "box": _box, "mug": _mug, "ring": _ring, "star": _star}
