"""From raw heads as NumPy arrays to detections, by the one implementation of postprocessing (which needs torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from singleshot.backends.package import Package
from singleshot.config import PostprocessConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def finish_heads(
    heads: Sequence[NDArray[np.float32]], package: Package, settings: PostprocessConfig
) -> tuple[NDArray[Any], ...]:
    """Boxes, scores, class ids and counts, as in ``PaddedArrays``.

    Args:
        heads: ``box_codes, class_logits`` and, for RefineDet, ``arm_box_codes, arm_logits``.
        package: whose heads they are.
        settings: thresholds and NMS.
    """
    import torch

    from singleshot.multibox.decode import postprocess
    from singleshot.structures import HeadOutput, RefineOutput

    spec = package.info.spec
    tensors = [torch.from_numpy(head) for head in heads]
    output = HeadOutput(*tensors) if len(tensors) == 2 else RefineOutput(*tensors)
    anchors = torch.from_numpy(package.anchors_cxcywh)
    size_hw, classes = spec.preprocess.size_hw, len(spec.class_names)
    found = postprocess(output, anchors, settings, spec.coder, size_hw, classes)
    return tuple(tensor.numpy() for tensor in found)
