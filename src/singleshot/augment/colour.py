"""Photometric distortion: brightness, contrast, saturation, hue, channel order."""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.augment.config import Arithmetic, ColourConfig

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]

_FORWARD = (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
_BACKWARD = (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)


class Distortion(NamedTuple):
    """One draw of the distortion.

    Attributes:
        brightness: added to all pixels.
        contrast: factor on all pixels.
        contrast_last: contrast comes after saturation and hue, not before.
        saturation: factor on S of HSV.
        saturation_offset: added to S of HLS.
        hue_degrees: turn of H.
        channels: new order of the channels.
        arithmetic, space: see `ColourConfig`.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_last: bool = False
    saturation: float = 1.0
    hue_degrees: float = 0.0
    channels: tuple[int, ...] = (0, 1, 2)
    arithmetic: Arithmetic = "uint8"
    space: Literal["hsv", "hls"] = "hsv"
    saturation_offset: float = 0.0


def sample_distortion(config: ColourConfig | None, rng: np.random.Generator) -> Distortion:
    """Draw a distortion; ``None`` distorts nothing."""
    if config is None:
        return Distortion()
    u = rng.random(10).tolist()
    brightness, contrast, saturation, hue = (u[i] < config.probability for i in range(4))
    is_hls = config.space == "hls"
    return Distortion(
        brightness=config.brightness * (2 * u[4] - 1) if brightness else 0.0,
        contrast=_between(config.contrast, u[5]) if contrast else 1.0,
        contrast_last=is_hls or u[6] < 0.5,
        saturation=_between(config.saturation, u[7]) if saturation and not is_hls else 1.0,
        saturation_offset=config.saturation_offset * (2 * u[7] - 1) if saturation and is_hls else 0.0,
        hue_degrees=config.hue_degrees * (2 * u[8] - 1) if hue else 0.0,
        channels=tuple(rng.permutation(3).tolist()) if u[9] < config.shuffle_channels else (0, 1, 2),
        arithmetic=config.arithmetic,
        space=config.space,
    )


def _between(bounds: tuple[float, float], u: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def distort(image_rgb: Image, distortion: Distortion) -> Image | FloatImage:
    """Apply a distortion to an RGB image, ``[H, W, 3]`` uint8; the result is float32 where colours are ``unlimited``.

    It may take the image's memory: page faults cost more than arithmetic here.
    """
    image: Image | FloatImage
    if distortion.space == "hls":
        image = _in_hls(image_rgb, distortion)
    elif distortion.arithmetic == "uint8":
        image = _in_uint8(image_rgb, distortion)
    elif distortion.arithmetic == "unlimited":
        image = _in_float(image_rgb, distortion)
    else:
        image = to_uint8(_in_float(image_rgb, distortion)) if _changes_levels(distortion) else image_rgb
    if distortion.channels != (0, 1, 2):
        planes = cv2.split(image)
        image = cv2.merge([planes[channel] for channel in distortion.channels])
    return image


def _in_uint8(image: Image, d: Distortion) -> Image:
    """Each step rounds and saturates."""
    if d.brightness:
        level = round(d.brightness)
        image = cv2.add(image, (level, level, level, 0), dst=image)
    if d.contrast != 1.0 and not d.contrast_last:
        image = cv2.convertScaleAbs(image, dst=image, alpha=d.contrast)
    if d.saturation != 1.0 or d.hue_degrees:
        # H counts steps of 2 degrees, 0..179. OpenCV wraps from 180 to 255, but bytes cannot be negative: with red and
        # blue exchanged, hues run the other way round.
        forth, back = _FORWARD if d.hue_degrees >= 0 else _BACKWARD
        hsv = cv2.cvtColor(image, forth)
        change = np.array([[1, 0, 0, round(abs(d.hue_degrees) / 2)], [0, d.saturation, 0, 0], [0, 0, 1, 0]])
        image = cv2.cvtColor(cv2.transform(hsv, change, dst=hsv), back, dst=image)
    if d.contrast != 1.0 and d.contrast_last:
        image = cv2.convertScaleAbs(image, dst=image, alpha=d.contrast)
    return image


def _in_hls(image: Image, d: Distortion) -> Image:
    """MXNet's: whole offsets, cut towards 0; no hue leaves 0 to 360 degrees."""
    offsets = int(d.hue_degrees / 2), int(d.brightness), int(d.saturation_offset)
    if any(offsets):
        planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HLS))  # H in steps of 2 degrees
        moved = [cv2.LUT(plane, table) for plane, table in zip(planes, _tables(offsets), strict=True)]
        image = cv2.cvtColor(cv2.merge(moved), cv2.COLOR_HLS2RGB, dst=image)
    return cv2.convertScaleAbs(image, dst=image, alpha=d.contrast) if d.contrast != 1.0 else image


def _tables(offsets: tuple[int, ...]) -> list[Image]:
    """Every byte of H, L and S after its offset."""
    levels = np.arange(256)
    return [
        np.clip(levels + offset, 0, limit).astype(np.uint8)
        for offset, limit in zip(offsets, (180, 255, 255), strict=True)
    ]


def _changes_levels(d: Distortion) -> bool:
    """Whether more than the order of the channels changes."""
    return (d.brightness, d.contrast, d.saturation, d.hue_degrees) != (0.0, 1.0, 1.0, 0.0)


def _in_float(image: Image, d: Distortion) -> FloatImage:
    """No step is limited or rounded."""
    pixels = image.astype(np.float32)
    if not _changes_levels(d):
        return pixels
    pixels += d.brightness
    if not d.contrast_last:
        pixels *= d.contrast
    if d.saturation != 1.0 or d.hue_degrees:
        # OpenCV wraps hues above 360, but not below 0.
        change = np.array([[1, 0, 0, d.hue_degrees % 360], [0, d.saturation, 0, 0], [0, 0, 1, 0]])
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        pixels = cv2.cvtColor(cv2.transform(hsv, change, dst=hsv), cv2.COLOR_HSV2RGB, dst=pixels)
    if d.contrast_last:
        pixels *= d.contrast
    return pixels


def to_uint8(pixels: NDArray[np.float32]) -> Image:
    """Round and saturate in one pass."""
    image: Image = cv2.addWeighted(pixels, 1.0, pixels, 0.0, 0.0, dtype=cv2.CV_8U)
    return image
