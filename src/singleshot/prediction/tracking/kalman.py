"""A constant-velocity Kalman filter for the corners of all tracked boxes at once. NumPy only.

The four coordinates of a box move alike and are measured alike, so that they share one covariance of position and
velocity: three numbers a track instead of an 8 x 8 matrix. The algebra is that of the filter of 8 dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MEASUREMENT_NOISE = 0.1
PROCESS_NOISE = 0.01
"""Variances of ByteTrack's filter over corners, in square pixels and for one frame."""


def _no(*shape: int) -> FloatArray:
    return np.zeros(shape)


@dataclass(slots=True)
class CornerFilter:
    """Positions and velocities of N boxes.

    Attributes:
        boxes_xyxy: corners in pixels, ``[N, 4]``.
        velocity: of the corners in pixels a frame, ``[N, 4]``.
        covariance: of a corner's position with itself, of position with velocity, of velocity with itself, ``[3, N]``.
    """

    boxes_xyxy: FloatArray = field(default_factory=lambda: _no(0, 4))
    velocity: FloatArray = field(default_factory=lambda: _no(0, 4))
    covariance: FloatArray = field(default_factory=lambda: _no(3, 0))

    def predict(self, frames: float = 1.0) -> None:
        """Move all boxes on.

        Args:
            frames: how many frames passed; other numbers than 1 widen the noise as white noise of acceleration does.
        """
        position, cross, speed = self.covariance
        noise = np.array((1.0, 0.0, 1.0)) if frames == 1.0 else np.array((frames**4 / 4, frames**3 / 2, frames**2))
        moved = (position + frames * (2 * cross + frames * speed), cross + frames * speed, speed)
        self.boxes_xyxy = self.boxes_xyxy + frames * self.velocity
        self.covariance = np.array(moved) + PROCESS_NOISE * noise[:, None]

    def update(self, rows: NDArray[np.int64], boxes_xyxy: FloatArray) -> None:
        """Correct some boxes by what was measured.

        Args:
            rows: which boxes, ``[K]``.
            boxes_xyxy: the measurements, ``[K, 4]``.
        """
        position, cross, speed = self.covariance[:, rows]
        known = 1 / (position + MEASUREMENT_NOISE)
        gain, speed_gain = position * known, cross * known
        residual = boxes_xyxy - self.boxes_xyxy[rows]
        self.boxes_xyxy[rows] += gain[:, None] * residual
        self.velocity[rows] += speed_gain[:, None] * residual
        rest = 1 - gain
        self.covariance[:, rows] = rest * position, rest * cross, speed - speed_gain * cross

    def add(self, boxes_xyxy: FloatArray) -> None:
        """Begin with new boxes at rest, ``[K, 4]``."""
        self.boxes_xyxy = np.concatenate((self.boxes_xyxy, boxes_xyxy))
        self.velocity = np.concatenate((self.velocity, _no(len(boxes_xyxy), 4)))
        self.covariance = np.concatenate((self.covariance, np.tile([[1.0], [0.0], [1.0]], len(boxes_xyxy))), axis=1)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget the others."""
        self.boxes_xyxy, self.velocity = self.boxes_xyxy[kept], self.velocity[kept]
        self.covariance = self.covariance[:, kept]
