"""Which form of heads-to-boxes runs on NumPy heads: C where there is a compiler, else OpenVINO, torch or NumPy."""

from __future__ import annotations

from typing import NamedTuple

from singleshot.core.lazy import has_torch, require_torch
from singleshot.core.postprocess import Form, HeadGeometry, Heads, PaddedArrays, PaddedDetections
from singleshot.core.settings import PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.export.package import Package
from singleshot.kernels import detect
from singleshot.kernels.detect import CompiledForm
from singleshot.runtime.numpy_form import NumpyForm


class TorchForm(NamedTuple):
    """``multibox.decode.postprocess`` as a `Form`; it offers everything. Torch is imported when it is called.

    Attributes:
        geometry: of the network.
    """

    geometry: HeadGeometry
    orders_ties = True

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

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        """As `Form`."""
        return next(form for form in self.forms if form.fits(settings))(heads, settings)


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
