"""What a network outside torch says about itself: as metadata of an exported file, as ``info.json`` of a package.

Every format has a place for texts by name: ONNX ``metadata_props``, OpenVINO ``rt_info``, TorchScript and
``torch.export`` extra files. Two of ours go there: `KEY` is the `ExportInfo` as JSON, `ANCHORS_KEY` the default boxes
(base64 of float32, ``[A, 4]``). Both are read without torch.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from singleshot.core.setting_errors import wrong_settings
from singleshot.core.settings import Frozen, PostprocessConfig, UnitFloat
from singleshot.errors import WeightsError
from singleshot.models.config import ModelSpec

KEY = "singleshot"
ANCHORS_KEY = "singleshot_anchors"

MAX_INFO_CHARS = 2**22
MAX_ANCHORS = 2**22

Level = Literal["raw", "decoded", "end2end"]
"""How much of the way from a picture to boxes is in a file.

* ``raw``: preprocessed images ``[B, 3, H, W]`` float32 -> the heads of `core.postprocess`, by their names.
* ``decoded``: the same -> ``boxes [B, A, 4]``, xyxy in pixels of the network input, and ``scores [B, A, C]`` of the
  public classes; NMS is not in it.
* ``end2end``: pictures uint8 -> ``boxes [B, D, 4]``, xyxy in pixels of the picture, ``scores [B, D]``, ``class_ids
  [B, D]`` (-1 where padded) and ``counts [B]``.
"""
Layout = Literal["nchw", "nhwc"]
"""Axes of the input: batch, channels, height, width in this order."""

Precision = Literal["fp32", "fp16", "int8"]
"""Of the stored weights: ``fp16`` is computed in float32 by most; ``int8`` also computes in it."""

HEADS = ("box_codes", "class_logits", "arm_box_codes", "arm_logits")
DECODED = ("boxes", "scores")
DETECTIONS = ("boxes", "scores", "class_ids", "counts")
"""Names of outputs, in their order."""


class NetworkInfo(Frozen):
    """What is said of any network outside torch.

    Attributes:
        format: of this description.
        weights_sha256: of the weights file that it was made from; empty for a network in memory.
        made_with: package versions, for people.
        spec: the detector; its provenance and licence, too.
        quantization: for int8: images, settings and what was measured.
    """

    format: Literal[1] = 1
    weights_sha256: str = ""
    made_with: str = ""
    spec: ModelSpec
    quantization: dict[str, str | float] = Field(default_factory=dict)


class ExportInfo(NetworkInfo):
    """What an exported file says about itself.

    Attributes:
        kind: format: a name of ``export.writers.WRITERS``.
        level: see `Level`.
        layout: of the input.
        dynamic: whether pictures of any size go in; else they have ``spec.preprocess.size_hw``.
        precision: of the weights.
        score: least score of a detection, where the caller does not say another (``end2end``).
    """

    kind: Annotated[str, Field(max_length=64)]
    level: Level
    layout: Layout = "nchw"
    dynamic: bool = False
    precision: Precision = "fp32"
    score: UnitFloat = 0.3

    @property
    def postprocess(self) -> PostprocessConfig:
        """What an ``end2end`` file does with heads: what `Detector.predict` does by default."""
        own = self.spec.postprocess
        clip = "before" if own.clip == "before" else "after"
        return own.model_copy(update={"score_threshold": self.score, "clip": clip})

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""
        if self.level == "raw":
            return HEADS[: 4 if self.spec.network.head.objectness else 2]
        return DECODED if self.level == "decoded" else DETECTIONS


def to_metadata(info: ExportInfo, anchors_cxcywh: NDArray[np.float32]) -> dict[str, str]:
    """The texts that a file carries.

    Args:
        info: what it says.
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``.
    """
    numbers = np.ascontiguousarray(anchors_cxcywh, dtype="<f4").tobytes()
    return {KEY: info.model_dump_json(), ANCHORS_KEY: base64.b64encode(numbers).decode()}


def read_metadata(metadata: Mapping[str, str], name: object) -> tuple[ExportInfo, NDArray[np.float32]]:
    """Info and default boxes from the texts of a file.

    Args:
        metadata: the file's texts, of any origin.
        name: of the file, for messages.

    Returns:
        What it says about itself, and ``[A, 4]`` float32, cxcywh in pixels of the network input.

    Raises:
        WeightsError: it is not one of ours, damaged, or newer than this package.
    """
    if KEY not in metadata:
        raise WeightsError(f"{name}: says nothing about its classes and its input: not exported by singleshot")
    text = metadata[KEY]
    if len(text) > MAX_INFO_CHARS:
        raise WeightsError(f"{name}: its description has {len(text):,} characters: damaged; export it again")
    try:
        info = ExportInfo.model_validate_json(text)
    except ValidationError as error:
        raise WeightsError(f"{name}: its description is damaged: {wrong_settings(error, ExportInfo)[0]}") from error
    return info, _read_anchors(metadata.get(ANCHORS_KEY, ""), name)


def _read_anchors(text: str, name: object) -> NDArray[np.float32]:
    if len(text) > 4 * (16 * MAX_ANCHORS // 3 + 1):
        raise WeightsError(f"{name}: has too many default boxes: damaged; export it again")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WeightsError(f"{name}: its default boxes are damaged; export it again") from error
    anchors = np.frombuffer(data[: len(data) // 16 * 16], dtype="<f4").reshape(-1, 4).astype(np.float32)
    if not len(anchors) or len(data) % 16 or not np.isfinite(anchors).all():
        raise WeightsError(f"{name}: its default boxes are damaged; export it again")
    return anchors
