"""Steps of a user's own between an image and its training input: called, and what they give back checked."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.registry import Registry
from singleshot.errors import ConfigError, DataError

Transform = Callable[..., Any]
"""``(image, boxes_xyxy, class_ids) -> (image, boxes_xyxy, class_ids)``, or with a ``np.random.Generator`` as a fourth
argument: RGB ``[H, W, 3]``, boxes in its pixels ``[N, 4]``, classes 0..C-1 ``[N]``."""

AUGMENTATIONS: Registry[Transform] = Registry("augmentation", {})
"""Transforms that ``augment.transforms`` may name; other packages add theirs by ``singleshot.augmentations``."""


class Labelled(NamedTuple):
    """An image and its objects: RGB ``[H, W, 3]``, ``[N, 4]`` float32 in its pixels, ``[N]`` int64."""

    image: NDArray[Any]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]


class TransformError(DataError):
    """A transform of the user's own failed, or gave back what is no labelled image. The message names it."""


class OwnStep(NamedTuple):
    """A transform that is ready to be called.

    Attributes:
        name: for messages.
        call: the transform.
        takes_rng: whether it has a fourth argument.
    """

    name: str
    call: Transform
    takes_rng: bool


def step(transform: Transform, name: str = "") -> OwnStep:
    """A transform with its name, and whether it takes randomness.

    Raises:
        ConfigError: it cannot be called.
    """
    if not callable(transform):
        raise ConfigError(f"`transform` must be a function of (image, boxes_xyxy, class_ids), not {transform!r:.80}")
    try:
        inspect.signature(transform).bind(*"123")
        takes_rng = False
    except TypeError:
        takes_rng = True
    except ValueError:  # written in C: no signature
        takes_rng = False
    return OwnStep(name or transform_name(transform), transform, takes_rng)


def transform_name(transform: Transform) -> str:
    """``module:function`` or ``module:Class``."""
    named = transform if hasattr(transform, "__qualname__") else type(transform)
    return f"{named.__module__}:{named.__qualname__}"


def steps_by_name(names: tuple[str, ...]) -> tuple[OwnStep, ...]:
    """The transforms that settings name.

    Raises:
        ConfigError: one is not there; says how it gets there.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            known = f" ({', '.join(AUGMENTATIONS)} are)" if AUGMENTATIONS.names() else ""
            raise ConfigError(
                f"augment.transforms: '{name}' is not registered{known}: pass it as `transform`, register it "
                "(singleshot.core.transforms.AUGMENTATIONS), or install the package that brings it"
            )
    return tuple(step(AUGMENTATIONS.get(name), name) for name in names)


def apply(
    one: OwnStep,
    labelled: Labelled,
    rng: np.random.Generator,
    classes: int,
    origin: str | Path,
    *,
    keeps_size: bool = False,
) -> Labelled:
    """Call a transform.

    Args:
        one: the transform.
        labelled: the image and its objects.
        rng: source of randomness.
        classes: C; 0 where it is not known.
        origin: the image file, for messages.
        keeps_size: the image must stay as large as it is.

    Raises:
        TransformError: it failed, or gave back something else; names it, the image and what is wrong.
    """
    try:
        result = one.call(*labelled, rng) if one.takes_rng else one.call(*labelled)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise TransformError(
            f"the transform '{one.name}' failed on {origin}: {type(error).__name__}: {error} "
            f"({where.filename}:{where.lineno})"
        ) from error
    wrong = _wrong(result, labelled, classes, keeps_size)
    if wrong:
        raise TransformError(
            f"the transform '{one.name}' must give back (image, boxes_xyxy, class_ids): {wrong} ({origin})"
        )
    image, boxes, ids = result
    boxes, ids = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(ids).reshape(-1).astype(np.int64)
    return Labelled(np.ascontiguousarray(image), boxes, ids)


def _wrong(result: Any, before: Labelled, classes: int, keeps_size: bool) -> str:
    """What is wrong with a transform's result; empty if nothing is."""
    if not isinstance(result, (tuple, list)) or len(result) != 3:
        return f"it gave back {type(result).__name__}" + (f" of {len(result)}" if hasattr(result, "__len__") else "")
    image, boxes, ids = result
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        return f"the image must be an array [H, W, 3], not {getattr(image, 'shape', type(image).__name__)}"
    if image.dtype != before.image.dtype:
        return f"the image must stay {before.image.dtype}, not {image.dtype}"
    if keeps_size and image.shape != before.image.shape:
        return f"the image must stay {before.image.shape}, not {image.shape}"
    return _wrong_objects(boxes, ids, classes)


def _wrong_objects(boxes: Any, ids: Any, classes: int) -> str:
    try:
        boxes, ids = np.asarray(boxes, np.float64), np.asarray(ids)
    except (TypeError, ValueError):
        return "boxes and classes must be arrays of numbers"
    if not boxes.size and not ids.size:
        return ""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or ids.shape != (len(boxes),):
        return f"boxes must be [N, 4] and classes [N], not {boxes.shape} and {ids.shape}"
    if ids.dtype.kind not in "iu" or ids.min() < 0 or (classes and ids.max() >= classes):
        return f"classes must be whole numbers from 0 to {classes - 1 if classes else 'C - 1'}, not {ids.tolist()[:8]}"
    bad = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    return f"a box must be finite, with x0 < x1 and y0 < y1, not {boxes[bad][0].tolist()}" if bad.any() else ""
