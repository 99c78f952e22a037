"""From raw heads as NumPy arrays to detections: compiled where there is a C compiler, else by torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from singleshot.backends.package import Package
from singleshot.config import CoderConfig, PostprocessConfig
from singleshot.kernels import detect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Finish(NamedTuple):
    """What is done with a network's raw heads.

    Attributes:
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``.
        settings: thresholds and NMS.
        coder: how codes and boxes relate.
        size_hw: network input in pixels.
        num_classes: public classes.
    """

    anchors_cxcywh: NDArray[np.float32]
    settings: PostprocessConfig
    coder: CoderConfig
    size_hw: tuple[int, int]
    num_classes: int

    def __call__(self, heads: Sequence[NDArray[np.float32]], threads: int = 1) -> tuple[NDArray[Any], ...]:
        """Boxes, scores, class ids and counts, as in ``PaddedArrays``.

        Args:
            heads: ``box_codes, class_logits`` and, for RefineDet, ``arm_box_codes, arm_logits``.
            threads: that share the images of the batch in the compiled form.
        """
        settings = self.anchors_cxcywh, self.settings, self.coder, self.size_hw, self.num_classes
        if detect.fits(self.settings):
            return detect.detect(heads, *settings, threads=threads)
        return _finish_with_torch(heads, *settings)


def finish_of(package: Package, settings: PostprocessConfig) -> Finish:
    """What is done with a compiled network's heads."""
    spec = package.info.spec
    detect.fits(settings)  # compiles it where that was never done, before a batch is timed
    return Finish(package.anchors_cxcywh, settings, spec.coder, spec.preprocess.size_hw, len(spec.class_names))


def _finish_with_torch(
    heads: Sequence[NDArray[np.float32]],
    anchors_cxcywh: NDArray[np.float32],
    settings: PostprocessConfig,
    coder: CoderConfig,
    size_hw: tuple[int, int],
    num_classes: int,
) -> tuple[NDArray[Any], ...]:
    import torch

    from singleshot.multibox.decode import postprocess
    from singleshot.structures import HeadOutput, RefineOutput

    tensors = [torch.from_numpy(head) for head in heads]
    output = HeadOutput(*tensors) if len(tensors) == 2 else RefineOutput(*tensors)
    found = postprocess(output, torch.from_numpy(anchors_cxcywh), settings, coder, size_hw, num_classes)
    return tuple(tensor.numpy() for tensor in found)
