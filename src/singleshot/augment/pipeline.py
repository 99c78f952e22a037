"""From an image file and its boxes to a training input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.augment.colour import sample_distortion
from singleshot.augment.config import AugmentConfig, parse_augment
from singleshot.augment.geometry import sample_geometry, transform_boxes
from singleshot.augment.render import Pixels, decode, render
from singleshot.core.transforms import Labelled, apply, steps_by_name
from singleshot.images.read import check_rgb, image_size


class Augmented(NamedTuple):
    """A training input.

    Attributes:
        image: RGB, ``[H, W, 3]`` uint8; float32 where colours are ``unlimited``.
        boxes_xyxy: objects that stay, in its pixels, ``[K, 4]`` float32.
        keep: their rows among the objects given, ``[K]``: takes classes and flags along.
    """

    image: NDArray[np.uint8] | NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    keep: NDArray[np.int64]


class Augmenter:
    """Applies a recipe of random changes.

    Args:
        config: the recipe: settings, a preset's name, or a mapping (`parse_augment`).
        size_hw: size of the training input.

    Raises:
        ConfigError: no such preset, setting or transform.
    """

    def __init__(self, config: AugmentConfig | str | Mapping[str, Any], size_hw: tuple[int, int]) -> None:
        self.config = parse_augment(config).settled()
        self.size_hw = size_hw
        self._steps = steps_by_name(self.config.transforms)

    def __call__(
        self,
        image: str | Path | bytes | NDArray[np.uint8],
        boxes_xyxy: NDArray[np.floating],
        rng: np.random.Generator,
        image_hw: tuple[int, int] | None = None,
    ) -> Augmented:
        """Draw one training input.

        Args:
            image: path, bytes of a file, or upright RGB ``[H, W, 3]`` uint8.
            boxes_xyxy: objects in its pixels, ``[N, 4]``; N may be 0.
            rng: source of all randomness: equal generators give equal inputs.
            image_hw: the image's upright size where it is known; saves reading the file's header.

        Raises:
            ImageError: the image cannot be read, or is not of ``image_hw``.
        """
        config = self.config
        source = Path(image) if isinstance(image, str) else image
        if isinstance(source, np.ndarray):
            image_hw = (check_rgb(source).shape[0], source.shape[1])
        elif image_hw is None:
            image_hw = image_size(source)
        geometry = sample_geometry(config, image_hw, boxes_xyxy, self.size_hw, rng)
        distortion = sample_distortion(config.colour, rng)
        interpolation = config.interpolations[rng.integers(len(config.interpolations))]
        if isinstance(source, np.ndarray):
            pixels = Pixels(source, image_hw)
        else:
            pixels = decode(source, image_hw, geometry.reduction)
        boxes, keep = transform_boxes(geometry, boxes_xyxy)
        return Augmented(render(pixels, geometry, interpolation, distortion, config.fill_rgb), boxes, keep)

    @property
    def has_own_steps(self) -> bool:
        """Whether ``augment.transforms`` names any."""
        return bool(self._steps)

    def own_steps(self, labelled: Labelled, rng: np.random.Generator, classes: int, origin: str | Path) -> Labelled:
        """The transforms that ``augment.transforms`` names, one after the other, on a training input.

        Args:
            labelled: the training input, with the classes of its objects.
            rng: source of all randomness.
            classes: their number; 0 where it is not known.
            origin: the image file, for messages.

        Raises:
            TransformError: one failed, or gave back something else.
        """
        for one in self._steps:
            labelled = apply(one, labelled, rng, classes, origin, keeps_size=True)
        return labelled
