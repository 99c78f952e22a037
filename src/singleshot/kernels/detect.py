"""From raw heads to detections in C, by the rules of `core.postprocess`. No torch here."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.postprocess import HeadGeometry, Heads, PaddedArrays, PaddedDetections, class_columns, reach
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.kernels.library import load

FLAGS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
"""Products must be rounded before they are added, as torch does, or boxes at the threshold would fall otherwise."""

NO_LIMIT = 2**62


class _Settings(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("anchors", "columns", "classes", "background")),
        *((name, ctypes.c_int64) for name in ("top_k", "top_k_of_image", "max_of_group", "max_of_image")),
        *((name, ctypes.c_int32) for name in ("sigmoid", "best_class", "agnostic", "greedy", "at_threshold")),
        *((name, ctypes.c_int32) for name in ("clip_before", "clip_after", "swapped")),
        *((name, ctypes.c_float) for name in ("reach", "score", "iou", "objectness", "union_eps")),
        ("variances", ctypes.c_float * 4),
        *((name, ctypes.c_float) for name in ("max_log_ratio", "width", "height")),
    )


class _Heads(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("codes", "logits", "arm_codes", "arm_logits"))


class CompiledForm(NamedTuple):
    """`detect` as a `Form`.

    Attributes:
        geometry: of the network.
        threads: that share the images of a batch.
    """

    geometry: HeadGeometry
    threads: int = 1

    @property
    def orders_ties(self) -> bool:
        """It does."""
        return True

    def fits(self, settings: PostprocessConfig) -> bool:
        """As the function."""
        return fits(settings)

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        """As `detect`."""
        anchors, coder, size_hw, num_classes = self.geometry
        return detect(heads, anchors, settings, coder, size_hw, num_classes, self.threads)


def fits(settings: PostprocessConfig) -> bool:
    """Whether `detect` can do what the settings say: there is a compiler, and NMS is greedy or none."""
    return settings.nms in ("greedy", "none") and is_compiled()


def is_compiled() -> bool:
    """Whether there is a compiled form at all; compiles it where that was never done."""
    return _function() is not None


def detect(
    heads: Heads,
    anchors_cxcywh: NDArray[np.float32],
    settings: PostprocessConfig,
    coder: CoderConfig,
    image_size_hw: tuple[int, int],
    num_classes: int | None = None,
    threads: int = 1,
) -> PaddedArrays:
    """Score, threshold, decode, suppress and cut a batch.

    Equal to ``multibox.decode.postprocess`` but for the last bit of exponentials: scores differ by 1e-6 at most, and a
    score or an overlap within that of its threshold may fall on the other side.

    Args:
        heads: box codes ``[B, A, 4]``, class logits ``[B, A, K]`` and, for RefineDet, the first step's codes
            ``[B, A, 4]`` and logits ``[B, A, 2]``.
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``.
        settings: thresholds and dialect; `fits` holds.
        coder: how codes and boxes relate.
        image_size_hw: network input in pixels, for clipping.
        num_classes: public classes; ``None`` takes all columns but the background.
        threads: that share the images of the batch.

    Raises:
        ValueError: shapes that do not go together, classes without a column, or soft-NMS.
        MemoryError: no memory for the candidates.
    """
    function = _function()
    if function is None or settings.nms not in ("greedy", "none"):
        raise ValueError(f"postprocess.nms {settings.nms!r}: the compiled form cannot do that here; see fits()")
    parts = [np.ascontiguousarray(part, dtype=np.float32) for part in heads]
    anchors = np.ascontiguousarray(anchors_cxcywh, dtype=np.float32)
    _check_shapes(parts, anchors)
    batch, count, width = parts[1].shape
    columns = np.array(class_columns(width, settings, num_classes), dtype=np.int32)
    most = min(settings.max_detections, count * len(columns))
    found = PaddedDetections[NDArray[Any]](
        np.zeros((batch, most, 4), dtype=np.float32),
        np.zeros((batch, most), dtype=np.float32),
        np.full((batch, most), -1, dtype=np.int64),
        np.zeros(batch, dtype=np.int64),
    )
    described = _describe(count, width, columns, most, settings, coder, image_size_hw)
    arguments = [array.ctypes.data for array in (anchors, columns)]

    def run(images: slice) -> int:
        own = [part[images] for part in parts]
        pointers = _Heads(*(part.ctypes.data for part in own))
        results = (array[images].ctypes.data for array in found)
        return int(function(ctypes.byref(described), ctypes.byref(pointers), *arguments, len(own[0]), *results))

    if any(_in_threads(run, batch, threads)):
        raise MemoryError(f"postprocessing {batch} images of {count:,} anchors and {width} columns")
    fullest = int(found.counts.max(initial=0))
    boxes, scores, ids = (array[:, :fullest].copy() for array in found[:3])  # the memory of the others is let go
    return PaddedDetections(boxes, scores, ids, found.counts)


@cache
def _function() -> Any:
    library = load("detect", *FLAGS, functions=("detect",))
    if library is None:
        return None
    function = library.detect
    size, array = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = [array, array, array, array, size, array, array, array, array]
    function.restype = ctypes.c_int
    return function


def _in_threads(run: Callable[[slice], int], batch: int, threads: int) -> Iterable[int]:
    """Results for the parts of a batch, one part for each thread."""
    parts = min(threads, batch)
    if parts <= 1:
        return [run(slice(0, batch))]
    edges = [batch * part // parts for part in range(parts + 1)]
    return _pool(threads, os.getpid()).map(run, map(slice, edges, edges[1:]))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; of this process, since a fork takes none along."""
    return ThreadPoolExecutor(threads, "singleshot-detect")


def _check_shapes(heads: Heads, anchors: NDArray[np.float32]) -> None:
    shapes = [part.shape for part in heads]
    if len(shapes) not in (2, 4) or any(len(shape) != 3 for shape in shapes) or anchors.ndim != 2:
        raise ValueError(
            f"heads {shapes} and anchors {anchors.shape}: expected two or four of three axes, and two axes"
        )
    batch, count, width = shapes[1]
    expected = [(batch, count, size) for size in (4, width, 4, 2)][: len(shapes)]
    if shapes != expected or anchors.shape != (count, 4):
        raise ValueError(f"heads {shapes} and anchors {anchors.shape}: expected {expected} and {(count, 4)}")
    if width == 0 or count * width >= 2**32:
        raise ValueError(
            f"{count:,} anchors and {width} columns: expected one column or more, and less than 2^32 pairs"
        )


def _describe(
    anchors: int,
    width: int,
    columns: NDArray[np.int32],
    most: int,
    settings: PostprocessConfig,
    coder: CoderConfig,
    image_size_hw: tuple[int, int],
) -> _Settings:
    needed = reach(width, columns.tolist(), settings)
    top_k = min(settings.pre_nms_top_k or NO_LIMIT, NO_LIMIT)
    return _Settings(
        anchors=anchors,
        columns=width,
        classes=len(columns),
        background=needed.background,
        top_k=top_k if settings.top_k_scope == "class" else NO_LIMIT,
        top_k_of_image=top_k if settings.top_k_scope == "image" else NO_LIMIT,
        max_of_group=min(settings.max_per_class or NO_LIMIT, NO_LIMIT),
        max_of_image=most,
        sigmoid=settings.score_function == "sigmoid",
        best_class=settings.candidates == "best_class",
        agnostic=settings.class_agnostic,
        greedy=settings.nms == "greedy",
        at_threshold=settings.nms_compare == ">=",
        clip_before=settings.clip == "before",
        clip_after=settings.clip == "after",
        swapped=coder.order == "yxhw",
        reach=needed.least,
        score=settings.score_threshold,
        iou=settings.nms_iou,
        objectness=settings.min_objectness,
        union_eps=settings.nms_union_eps * math.prod(image_size_hw),
        variances=(ctypes.c_float * 4)(*coder.variances),
        max_log_ratio=math.inf if coder.max_log_ratio is None else coder.max_log_ratio,
        width=image_size_hw[1],
        height=image_size_hw[0],
    )
