"""ONNX files of other systems that are told with certainty, by the names and types of what they take and give.

* TensorFlow's detection API (``detection_boxes`` ...): uint8 pictures ``[1, H, W, 3]``; boxes are (top, left, bottom,
  right) as fractions of the picture, classes count from 1.
* torchvision's ``ssd300_vgg16`` and ``ssdlite320_mobilenet_v3_large``: a picture ``[3, H, W]`` in 0..1; ``boxes`` in
  pixels of it, ``labels`` with background 0.

Both contain scores, decoding and NMS, and neither tells the names of its classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from singleshot.core.settings import AnchorConfig, AnchorLevel, PostprocessConfig, PreprocessConfig
from singleshot.errors import WeightsError
from singleshot.export.info import ExportInfo
from singleshot.export.onnx_contents import Port
from singleshot.export.onnx_run import OnnxRun
from singleshot.export.readers import ExportedFile
from singleshot.models.config import BackboneConfig, HeadConfig, ModelSpec, NetworkConfig

FLOAT, UINT8, INT64 = 1, 2, 7
LABELS = 90
"""COCO's category ids, which models of both systems know by default, go up to this."""
OPEN_HW = (320, 320)
"""Where a graph takes any size: what `benchmark` shows it."""
MOST = 1000

TF_OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
TORCHVISION_OUTPUTS = ("boxes", "scores", "labels")

System = Literal["TensorFlow", "torchvision"]


@dataclass(frozen=True, slots=True)
class Convention:
    """How a foreign graph is used.

    Attributes:
        system: whose it is.
        outputs: names of boxes, scores, labels and, where there is one, the count.
        size_hw: of its pictures; ``None`` takes any.
        rank: axes of its input.
    """

    system: System
    outputs: tuple[str, ...]
    size_hw: tuple[int, int] | None
    rank: int


def recognise_foreign(path: Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> ExportedFile:
    """A foreign graph as a model.

    Raises:
        WeightsError: it follows neither convention; says what it takes and gives.
    """
    convention = _convention(inputs, outputs)
    if convention is None:
        takes, gives = (", ".join(port.name for port in ports)[:200] for ports in (inputs, outputs))
        raise WeightsError(
            f"{path}: an ONNX file that is not of singleshot, and takes {takes or 'nothing'} and gives "
            f"{gives or 'nothing'}: only graphs that end in TensorFlow's {', '.join(TF_OUTPUTS)} or torchvision's "
            f"{', '.join(TORCHVISION_OUTPUTS)} can be run; for others convert their weights: singleshot import"
        )
    spec = _spec(convention)
    info = ExportInfo(
        kind="onnx", level="end2end", layout="nhwc", dynamic=convention.size_hw is None, score=0, spec=spec
    )
    note = (
        f"{path.name}: taken as {convention.system}'s by what it gives; it does not name its classes, so they are "
        f"called by their labels: class_1 ... class_{LABELS}"
    )
    none = np.zeros((0, 4), dtype=np.float32)
    return ExportedFile(
        path, "onnx", info, none, ("onnx",), opened=partial(ForeignRun, convention=convention), notes=(note,)
    )


class ForeignRun:
    """A foreign graph that takes and gives what a file of ours does.

    Args:
        path: the file.
        convention: how it is used.
    """

    def __init__(self, path: Path, convention: Convention) -> None:
        self._run = OnnxRun(path, convention.outputs)
        self._convention = convention
        self._path = path

    def __call__(self, batch: NDArray[Any], thresholds: Mapping[str, float]) -> Sequence[NDArray[Any]]:
        """As `ExportInfo.outputs` of level ``end2end``. These graphs take one picture at a time."""
        rows = [self._detect(picture) for picture in batch]
        counts = np.array([len(scores) for _, scores, _ in rows], dtype=np.int64)
        size = (len(rows), int(counts.max(initial=0)))
        boxes, scores = np.zeros((*size, 4), dtype=np.float32), np.zeros(size, dtype=np.float32)
        class_ids = np.full(size, -1, dtype=np.int64)
        for row, count, found in zip(range(len(rows)), counts, rows, strict=True):
            boxes[row, :count], scores[row, :count], class_ids[row, :count] = found
        return boxes, scores, class_ids, counts

    def _detect(self, picture: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        height, width = picture.shape[:2]
        if self._convention.system == "TensorFlow":
            boxes, scores, labels, count = self._run(picture[None], {})
            kept = int(np.reshape(count, -1)[0])
            boxes, scores, labels = boxes[0, :kept], scores[0, :kept], labels[0, :kept].round().astype(np.int64)
            boxes = boxes[:, [1, 0, 3, 2]] * np.array((width, height) * 2, dtype=np.float32)
        else:
            planes = np.float32(1 / 255) * picture.transpose(2, 0, 1)
            boxes, scores, labels = self._run(planes if self._convention.rank == 3 else planes[None], {})
        if len(labels) and not (labels.min() > 0 and labels.max() <= LABELS):
            raise WeightsError(
                f"{self._path}: gives labels {labels.min()}..{labels.max()}; only 1..{LABELS} can be told: convert its "
                "weights instead: singleshot import"
            )
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order], labels[order] - 1


def _convention(inputs: Sequence[Port], outputs: Sequence[Port]) -> Convention | None:
    if len(inputs) != 1 or inputs[0].shape is None:
        return None
    taken, shape = inputs[0], inputs[0].shape or ()
    names = {port.name.split(":")[0].rsplit("/", 1)[-1]: port for port in outputs}
    if set(TF_OUTPUTS) <= set(names):
        is_right = taken.kind == UINT8 and len(shape) == 4 and shape[3] == 3 and shape[0] in (0, 1)
        own = tuple(names[name].name for name in TF_OUTPUTS)
        return Convention("TensorFlow", own, _fixed(shape[1:3]), 4) if is_right else None
    found = _torchvision_outputs(outputs)
    is_right = taken.kind == FLOAT and shape[-3:-2] == (3,) and (len(shape) == 3 or shape[:-3] in ((0,), (1,)))
    return Convention("torchvision", found, _fixed(shape[-2:]), len(shape)) if is_right and found else None


def _torchvision_outputs(outputs: Sequence[Port]) -> tuple[str, ...] | None:
    """By their names, or, as its exports number them, by types and shapes that only these three have."""
    names = [port.name for port in outputs]
    if set(TORCHVISION_OUTPUTS) <= set(names):
        return TORCHVISION_OUTPUTS
    kinds = [(port.kind, len(port.shape or ())) for port in outputs]
    wanted = [(FLOAT, 2), (FLOAT, 1), (INT64, 1)]
    if sorted(kinds) != sorted(wanted) or (outputs[kinds.index((FLOAT, 2))].shape or (0, 0))[1] != 4:
        return None
    return tuple(names[kinds.index(kind)] for kind in wanted)


def _fixed(sides: Sequence[int]) -> tuple[int, int] | None:
    return (sides[0], sides[1]) if all(sides) else None


def _spec(convention: Convention) -> ModelSpec:
    """What is known: the size of its pictures. It suppressed already, by settings of its own."""
    return ModelSpec(
        name=f"{convention.system} graph",
        network=NetworkConfig(
            backbone=BackboneConfig(name="graph"), head=HeadConfig(logits=LABELS + 1, boxes_per_cell=(1,))
        ),
        anchors=AnchorConfig(levels=(AnchorLevel(shapes_wh=((1.0, 1.0),)),)),
        preprocess=PreprocessConfig(size_hw=convention.size_hw or OPEN_HW),
        postprocess=PostprocessConfig(score_threshold=0.0, max_detections=MOST),
        class_names=tuple(f"class_{label}" for label in range(1, LABELS + 1)),
        class_ids=tuple(range(1, LABELS + 1)),
    )
