"""The numbers of an evaluation, and the names that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from singleshot.core.settings import PostprocessConfig
from singleshot.core.structures import Sample
from singleshot.evaluation.metrics import DetectionMetrics, DetectionTable, GroundTruth, VocConfig
from singleshot.evaluation.metrics.interval import ap_intervals


@dataclass(frozen=True, slots=True)
class Speed:
    """Where the time of an evaluation went, in milliseconds per image.

    Attributes:
        decode_ms: reading and decoding the file.
        preprocess_ms: resizing and normalising.
        network_ms: the network.
        postprocess_ms: from its output to detections; 0 where a compiled network does it.
        images_per_s: images per second of the wall clock.
        backend: what ran the network, and in which precision.
        batch_size: images that the network saw at once.
    """

    decode_ms: float
    preprocess_ms: float
    network_ms: float
    postprocess_ms: float
    images_per_s: float
    backend: str
    batch_size: int


@dataclass(frozen=True, slots=True)
class ClassResult:
    """Numbers of one class; NaN where the data set has no object of it.

    Attributes:
        name: the data set's name.
        objects: objects to find.
        voc_area, voc_07: VOC's average precisions.
        coco_ap, coco_ap50: COCO's; NaN if they were not computed.
        threshold: score threshold with the best F1.
        f1, precision, recall: at that threshold.
    """

    name: str
    objects: int
    voc_area: float
    voc_07: float
    coco_ap: float
    coco_ap50: float
    threshold: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Measured:
    """What a detector reached on a data set: what was compared, and every number.

    Attributes:
        model: the detector's name or file.
        data: the data set's path.
        split: the split, ``None`` for everything.
        format: format of the data set.
        class_names: the evaluated classes.
        only_model, only_data: classes that only the model or only the data set has; they do not count.
        samples: the images, in the order of ``image_index``.
        truth, detections: what was compared; class ids index ``class_names``.
        metrics: all numbers and curves.
        voc: dialect of VOC's rule.
        score_threshold: detections below were not looked at.
        speed: where the time went.
        failed: images that could not be read, each with its reason; their objects do not count.
        loose: (model's name, data set's name) of classes that were taken for one though spelt differently.
        max_detections: most detections that the detector gives for an image, where that is known.
        postprocess: thresholds and NMS that made the detections, where they are known.
        use_difficult: whether objects marked difficult counted as any others.
        notes: what was repaired in the data, or left out of it, when it was read.
    """

    model: str
    data: str
    split: str | None
    format: str
    class_names: tuple[str, ...]
    only_model: tuple[str, ...]
    only_data: tuple[str, ...]
    samples: tuple[Sample, ...]
    truth: GroundTruth
    detections: DetectionTable
    metrics: DetectionMetrics
    voc: VocConfig
    score_threshold: float
    speed: Speed
    failed: tuple[str, ...] = ()
    loose: tuple[tuple[str, str], ...] = ()
    max_detections: int | None = None
    postprocess: PostprocessConfig | None = None
    use_difficult: bool = False
    notes: tuple[str, ...] = ()

    @property
    def objects(self) -> int:
        """Objects to find."""
        return int((~self.truth.ignored).sum())

    @property
    def voc_area(self) -> float:
        """Mean area below the precision envelopes (VOC 2010 on), at IoU 0.5 unless ``voc`` says otherwise."""
        return self.metrics.voc_area

    @property
    def voc_07(self) -> float:
        """Mean 11-point AP (VOC 2007)."""
        return self.metrics.voc_07

    @property
    def coco(self) -> dict[str, float]:
        """COCO's twelve numbers by name; empty if they were not computed."""
        return self.metrics.coco.summary if self.metrics.coco else {}

    @property
    def per_class(self) -> tuple[ClassResult, ...]:
        """Numbers by class."""
        numbers, coco = self.metrics, self.metrics.coco
        unknown = np.full(len(self.class_names), np.nan)
        columns = (numbers.class_voc_area, numbers.class_voc_07) + (
            (coco.class_ap, coco.class_ap50) if coco else (unknown, unknown)
        )
        return tuple(
            ClassResult(name, curve.objects, *(float(value) for value in values), *point)
            for name, curve, point, *values in zip(
                self.class_names, numbers.curves, numbers.points, *columns, strict=True
            )
        )

    @property
    def summary(self) -> dict[str, float]:
        """The headline numbers by name, for logs: ``voc_area``, ``voc_07``, ``coco_AP``, ``coco_AP50`` ..."""
        coco = {f"coco_{name}": value for name, value in self.coco.items()}
        return {"voc_area": self.voc_area, "voc_07": self.voc_07, **coco}

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """(low, high) of COCO's ``AP`` and ``AP50``: what as many other images would give in 95 of 100 cases.

        Empty without COCO's numbers, and where it says nothing (`singleshot.evaluation.metrics.interval.ap_intervals`).
        """
        if self.metrics.coco is None:
            return {}
        most = self.metrics.coco.max_detections
        return ap_intervals(self.truth, self.detections, len(self.class_names), most)
