"""From raw heads as NumPy arrays to detections: compiled where there is a C compiler, else by OpenVINO or torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.kernels import detect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from singleshot.export.package import Package

    Heads = Sequence[NDArray[np.float32]]
    Otherwise = Callable[[Heads, PostprocessConfig], tuple[NDArray[Any], ...]]


class Finish(NamedTuple):
    """What is done with a network's raw heads; thresholds and NMS come with each call.

    Attributes:
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``.
        coder: how codes and boxes relate.
        size_hw: network input in pixels.
        num_classes: public classes.
        otherwise: does it where the compiled form cannot; ``None`` leaves that to torch.
    """

    anchors_cxcywh: NDArray[np.float32]
    coder: CoderConfig
    size_hw: tuple[int, int]
    num_classes: int
    otherwise: Otherwise | None = None

    def __call__(self, heads: Heads, settings: PostprocessConfig, threads: int = 1) -> tuple[NDArray[Any], ...]:
        """Boxes, scores, class ids and counts, as in ``PaddedArrays``.

        Args:
            heads: ``box_codes, class_logits`` and, for RefineDet, ``arm_box_codes, arm_logits``.
            settings: thresholds and NMS.
            threads: that share the images of the batch in the compiled form.
        """
        if detect.fits(settings):
            rest = self.coder, self.size_hw, self.num_classes
            return detect.detect(heads, self.anchors_cxcywh, settings, *rest, threads=threads)
        if self.otherwise is not None:
            return self.otherwise(heads, settings)
        return self.with_torch(heads, settings)

    def with_torch(self, heads: Heads, settings: PostprocessConfig) -> tuple[NDArray[Any], ...]:
        """The same by torch."""
        import torch

        from singleshot.core.structures import HeadOutput, RefineOutput
        from singleshot.multibox.decode import postprocess

        tensors = [torch.from_numpy(head) for head in heads]
        output = HeadOutput(*tensors) if len(tensors) == 2 else RefineOutput(*tensors)
        anchors = torch.from_numpy(self.anchors_cxcywh)
        found = postprocess(output, anchors, settings, self.coder, self.size_hw, self.num_classes)
        return tuple(tensor.numpy() for tensor in found)


def finish_of(package: Package) -> Finish:
    """What is done with a compiled network's heads."""
    spec = package.info.spec
    detect.is_compiled()  # compiles it where that was never done, before a batch is timed
    return Finish(package.anchors_cxcywh, spec.coder, spec.preprocess.size_hw, len(spec.class_names))
