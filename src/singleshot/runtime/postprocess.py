"""Which form of heads-to-boxes runs on NumPy heads: C where there is a compiler, else OpenVINO, torch or NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import has_torch, require_torch
from singleshot.core.postprocess import Form, HeadGeometry, Heads, PaddedArrays, PaddedDetections
from singleshot.core.settings import PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.export.package import Package
from singleshot.kernels import detect
from singleshot.kernels.detect import CompiledForm
from singleshot.runtime.base import Settings
from singleshot.runtime.numpy_form import NumpyForm, padded


class TorchForm(NamedTuple):
    """``multibox.decode.postprocess`` as a `Form`; it offers everything. Torch is imported when it is called.

    Attributes:
        geometry: of the network.
    """

    geometry: HeadGeometry

    @property
    def orders_ties(self) -> bool:
        """It does."""
        return True

    def fits(self, settings: PostprocessConfig) -> bool:
        """Always."""
        return True

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        """As `Form`."""
        require_torch(f"without a C compiler, NMS of kind {settings.nms!r}")
        import torch

        from singleshot.multibox.decode import postprocess

        tensors = [torch.from_numpy(head) for head in heads]
        output = HeadOutput(*tensors) if len(tensors) == 2 else RefineOutput(*tensors)
        anchors, coder, size_hw, num_classes = self.geometry
        found = postprocess(output, torch.from_numpy(anchors), settings, coder, size_hw, num_classes)
        return PaddedDetections(*(tensor.numpy() for tensor in found))


class FirstFitting(NamedTuple):
    """The first form that fits the settings of a call.

    Attributes:
        forms: the preferred one first; the last one fits everything.
    """

    forms: tuple[Form, ...]

    def __call__(self, heads: Heads, settings: Settings) -> PaddedArrays:
        """As `Form`; settings may be those of each image."""

        def run(rows: Rows, own: PostprocessConfig) -> PaddedArrays:
            return next(form for form in self.forms if form.fits(own))([head[rows] for head in heads], own)

        return by_settings(settings, run)


Rows = slice | NDArray[np.int64]


def by_settings(settings: Settings, run: Callable[[Rows, PostprocessConfig], PaddedArrays]) -> PaddedArrays:
    """Detections of a batch whose images have settings of their own.

    Args:
        settings: of all images, or of each, ``[B]``.
        run: detects in some rows of the batch, which have the same settings.

    Returns:
        Of all images, in their order.
    """
    if not isinstance(settings, Sequence):
        return run(slice(None), settings)
    groups: list[tuple[PostprocessConfig, list[int]]] = []
    for row, own in enumerate(settings):
        rows = next((rows for other, rows in groups if other is own or other == own), None)
        if rows is None:
            groups.append((own, [row]))
        else:
            rows.append(row)
    if len(groups) == 1:
        return run(slice(None), groups[0][0])
    parts: dict[int, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]] = {}
    for own, rows in groups:
        boxes, scores, class_ids, counts = run(np.array(rows), own)
        for at, row in enumerate(rows):
            kept = slice(0, int(counts[at]))
            parts[row] = (boxes[at, kept], scores[at, kept], class_ids[at, kept])
    return padded([parts[row] for row in range(len(settings))])


def choose_form(geometry: HeadGeometry, *others: Form, threads: int = 1) -> FirstFitting:
    """C, then ``others``, then torch; NumPy where that is not installed.

    Args:
        geometry: of the network.
        others: forms that a runtime has of its own.
        threads: that share the images of a batch in C.
    """
    last = (TorchForm(geometry),) if has_torch() else (NumpyForm(geometry), TorchForm(geometry))
    return FirstFitting((CompiledForm(geometry, threads), *others, *last))


def geometry_of(package: Package) -> HeadGeometry:
    """What a compiled network's heads mean."""
    spec = package.info.spec
    detect.is_compiled()  # compiles it where that was never done, before a batch is timed
    return HeadGeometry(package.anchors_cxcywh, spec.coder, spec.preprocess.size_hw, len(spec.class_names))
