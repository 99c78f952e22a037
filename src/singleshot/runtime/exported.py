"""Exported files as engines, whatever runs them: by their level, raw heads, decoded boxes or detections."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from singleshot.core.once import ForkSafeLock
from singleshot.core.postprocess import HeadGeometry, Heads, PaddedArrays
from singleshot.core.settings import ALL_DETECTIONS, PostprocessConfig, PreprocessConfig
from singleshot.errors import ConfigError, SingleshotError, WeightsError
from singleshot.export.decoded import as_heads, geometry_of_decoded, settings_of_decoded
from singleshot.export.readers import ExportedFile, FileRun, unreadable
from singleshot.images.preprocess import preprocess_image
from singleshot.runtime.base import Engine, Settings, TimedDetections
from singleshot.runtime.numpy_form import padded
from singleshot.runtime.postprocess import FirstFitting, Rows, by_settings, choose_form

Pictures = Sequence[NDArray[np.uint8]]

_log = logging.getLogger(__name__)


class FileEngine:
    """An engine of an exported file: what its runtime raises, and boxes that are no numbers, are the file's mistakes.

    Args:
        engine: of whatever runs the file.
        file: the file.
    """

    def __init__(self, engine: Engine, file: ExportedFile) -> None:
        self.name, self.device, self.parallel = engine.name, engine.device, engine.parallel
        self.takes_pictures = getattr(engine, "takes_pictures", False)
        self._engine = engine
        self._file = file

    def predict(self, batch: NDArray[np.float32], settings: Settings) -> TimedDetections:
        """As `Engine`.

        Raises:
            WeightsError: the file cannot be run, or gives no boxes.
        """
        try:
            result = self._engine.predict(batch, settings)
        except SingleshotError:
            raise
        except Exception as error:  # runtimes' errors have no base of their own
            raise unreadable(self._file.path, error) from error
        if not np.isfinite(result.found.boxes_xyxy).all():
            raise WeightsError(f"{self._file.path}: gives boxes that are not finite: it is damaged: export it again")
        return result


class BatchEngine:
    """Runs a file that takes preprocessed batches: raw heads or decoded boxes; postprocessing is ours.

    Args:
        file: of level ``raw`` or ``decoded``.

    Raises:
        MissingExtraError, WeightsError: as `ExportedFile.open`.
    """

    device = "cpu"
    parallel = 1

    def __init__(self, file: ExportedFile) -> None:
        self.name = engine_name(file)
        self._file = file
        self._run = file.open()
        self._lock = ForkSafeLock()
        self._is_raw = file.info.level == "raw"
        self._form, self._classes = _form(file), len(file.spec.class_names)

    def predict(self, batch: NDArray[np.float32], settings: Settings) -> TimedDetections:
        """Detect in a batch ``[B, 3, H, W]``; may be called from several threads, which wait for each other."""
        start = perf_counter()
        with self._lock:
            found = self._run(batch, {})
        middle = perf_counter()
        heads: Heads = [np.ascontiguousarray(part, dtype=np.float32) for part in found]
        if not self._is_raw:
            heads = as_heads(*heads)
            settings = (
                [settings_of_decoded(own, self._classes) for own in settings]
                if isinstance(settings, Sequence)
                else settings_of_decoded(settings, self._classes)
            )
        detections = self._form(heads, settings)
        return TimedDetections(detections, middle - start, perf_counter() - middle)


def open_file(file: ExportedFile) -> Engine:
    """The engine of an exported file, by its level.

    Raises:
        MissingExtraError, WeightsError: as `ExportedFile.open`.
    """
    return cast(Engine, PictureEngine(file)) if file.info.level == "end2end" else BatchEngine(file)


def _form(file: ExportedFile) -> FirstFitting:
    spec = file.spec
    size_hw, classes = spec.preprocess.size_hw, len(spec.class_names)
    if file.info.level == "raw":
        return choose_form(HeadGeometry(file.anchors_cxcywh, spec.coder, size_hw, classes))
    return choose_form(geometry_of_decoded(len(file.anchors_cxcywh), size_hw, classes))


class PictureEngine:
    """Runs a file that takes pictures and gives detections: of level ``end2end``, ours or foreign.

    Thresholds of a call replace the file's where it has inputs for them, or are applied behind it where that gives the
    same; others are refused.

    Args:
        file: the file.

    Raises:
        MissingExtraError, WeightsError: as `ExportedFile.open`.
    """

    device = "cpu"
    parallel = 1
    takes_pictures = True

    def __init__(self, file: ExportedFile) -> None:
        self.name = engine_name(file)
        self._file = file
        self._run: FileRun = file.open()
        self._lock = ForkSafeLock()
        self._is_told = False

    def predict(self, batch: Pictures, settings: Settings) -> TimedDetections:
        """Detect in pictures ``[H, W, 3]`` uint8 RGB; may be called from several threads, which wait for each other.

        Returns:
            Detections; boxes are in pixels of the network's input, whatever the size of a picture.

        Raises:
            ConfigError: settings that the file cannot follow.
        """
        start = perf_counter()
        found = by_settings(settings, lambda rows, own: self._detect(_rows_of(batch, rows), own))
        return TimedDetections(found, perf_counter() - start)

    def _detect(self, batch: Pictures, settings: PostprocessConfig) -> PaddedArrays:
        thresholds = file_thresholds(self._file, settings)
        most = thresholds.get("max_detections", self._file.spec.postprocess.max_detections)
        found: list[Any] = [None] * len(batch)
        for _, places in _by_size(batch, self._file):
            parts = self._stacked([batch[place] for place in places])
            with self._lock:
                outputs = self._run(parts, thresholds)
            if settings.max_detections == ALL_DETECTIONS and (outputs[3] >= most).any():
                self._tell_full(most)
            for row, place in enumerate(places):
                found[place] = self._own(outputs, row, parts, settings)
        return padded(found)

    def _tell_full(self, most: float) -> None:
        """That objects of the chosen classes may be missing, once."""
        if not self._is_told:
            self._is_told = True
            _log.warning(
                "%s gives %d detections of all classes at most, and a picture has so many: some of the chosen classes "
                "may be missing",
                self._file.path,
                most,
            )

    def _stacked(self, pictures: Pictures) -> NDArray[np.uint8]:
        if not self._file.info.dynamic:
            pictures = [resized(picture, self._file.spec.preprocess) for picture in pictures]
        stacked = np.stack(pictures)
        return stacked.transpose(0, 3, 1, 2) if self._file.info.layout == "nchw" else stacked

    def _own(
        self, outputs: Sequence[NDArray[Any]], row: int, parts: NDArray[np.uint8], settings: PostprocessConfig
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        boxes, scores, class_ids, counts = outputs
        size_hw = self._file.spec.preprocess.size_hw
        count = min(int(counts[row]), scores.shape[1])
        height, width = parts.shape[2:] if self._file.info.layout == "nchw" else parts.shape[1:3]
        kept = np.flatnonzero(scores[row, :count] > settings.score_threshold)[: settings.max_detections]
        factors = np.array((size_hw[1] / width, size_hw[0] / height) * 2, dtype=np.float32)
        own = boxes[row, kept].astype(np.float32) * factors
        if settings.clip != "none":
            own = own.clip(0, np.array((size_hw[1], size_hw[0]) * 2, dtype=np.float32))
        return own, scores[row, kept].astype(np.float32), class_ids[row, kept].astype(np.int64)


def resized(picture: NDArray[np.uint8], config: PreprocessConfig) -> NDArray[np.uint8]:
    """A picture of the network's size: its own resize, rounded to bytes, which is all that such a file takes."""
    if picture.shape[:2] == config.size_hw:
        return picture
    alone = config.model_copy(update={"scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3, "channel_order": "rgb"})
    planes = preprocess_image(picture, alone)
    return np.ascontiguousarray(planes.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def file_thresholds(file: ExportedFile, settings: PostprocessConfig) -> dict[str, float]:
    """What a call must tell a file so that settings are followed.

    Raises:
        ConfigError: they cannot be; names the setting.
    """
    own, told = file.info.postprocess, {}
    held: dict[str, float] = {
        "score_threshold": own.score_threshold,
        "nms_iou": own.nms_iou,
        "max_detections": own.max_detections,
    }
    for name, value in held.items():
        wanted = getattr(settings, name)
        if name in file.thresholds:
            pairs = len(file.anchors_cxcywh) * len(file.spec.class_names)  # more cannot be found
            told[name] = min(wanted, pairs) if name == "max_detections" else wanted
        elif (name == "score_threshold" and wanted < value) or (name == "nms_iou" and wanted != value):
            setting, remedy = (
                ("score", "export again with it")
                if name == "score_threshold"
                else (name, "export level decoded, whose NMS is done here")
            )
            raise ConfigError(f"`{setting}={wanted:g}`: {file.path} has {value:g} built in: leave it out, or {remedy}")
        elif name == "max_detections" and wanted > value and wanted != ALL_DETECTIONS:
            raise ConfigError(f"`{name}={wanted:g}`: {file.path} gives {value:g} at most: leave it out")
    if settings.clip == "none" and own.clip != "none":
        raise ConfigError(f"`clip=False`: {file.path} ends boxes at the picture: leave it out, or export level decoded")
    for name, setting in (("class_agnostic", "agnostic"), ("pre_nms_top_k", "top_k")):
        wanted = getattr(settings, name)
        if wanted != getattr(own, name):
            raise ConfigError(
                f"`{setting}={wanted}`: {file.path} does NMS its own way: leave it out, or export level raw"
            )
    return told


def engine_name(file: ExportedFile) -> str:
    """For people: ``onnx end2end fp32``."""
    if file.opened is not None and not len(file.anchors_cxcywh):
        return f"{file.kind} {file.spec.name}"
    return f"{file.kind} {file.info.level} {file.info.precision}"


def _rows_of(pictures: Pictures, rows: Rows) -> Pictures:
    return pictures[rows] if isinstance(rows, slice) else [pictures[row] for row in rows]


def _by_size(pictures: Pictures, file: ExportedFile) -> list[tuple[tuple[int, ...], list[int]]]:
    """Which pictures go in together: those of one size; all, where they are resized before."""
    if not file.info.dynamic:
        return [((), list(range(len(pictures))))] if len(pictures) else []
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures):
        groups.setdefault(picture.shape, []).append(place)
    return list(groups.items())
