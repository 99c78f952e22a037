"""`EvalResult`: every number of an evaluation with the names that belong to it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from singleshot.core.files import check_output, write_atomically
from singleshot.core.structures import Sample
from singleshot.core.wording import counted, listed, printable
from singleshot.errors import OutputError
from singleshot.evaluation.metrics import DetectionMetrics, DetectionTable, GroundTruth, VocConfig
from singleshot.evaluation.metrics.coco import best_possible_ap
from singleshot.evaluation.metrics.curves import f1_on_grid, precision_on_grid
from singleshot.evaluation.metrics.diagnosis import diagnose
from singleshot.evaluation.metrics.interval import ap_intervals

OUTPUTS = ("eval.json", "curves.csv", "report.html")
"""What `EvalResult.save` writes."""


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
class EvalResult:
    """A detector's result on a data set.

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

    @property
    def hints(self) -> tuple[str, ...]:
        """What is probably wrong when the numbers are very low; empty when they are not."""
        sizes = np.array([sample.image_size_hw for sample in self.samples]).reshape(-1, 2)
        return diagnose(self.truth, self.detections, self.voc_area, sizes)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """(low, high) of COCO's ``AP`` and ``AP50``: what as many other images would give in 95 of 100 cases.

        Empty without COCO's numbers, and where it says nothing (`singleshot.evaluation.metrics.interval.ap_intervals`).
        """
        if self.metrics.coco is None:
            return {}
        most = self.metrics.coco.max_detections
        return ap_intervals(self.truth, self.detections, len(self.class_names), most)

    @property
    def headline(self) -> str:
        """The main numbers with what they were measured on, as one sentence would say it."""
        measured = f"on {counted(len(self.samples), 'image')}, {counted(self.objects, 'object')}"
        if not self.coco:
            return f"VOC AP {_shown(self.voc_area)} {measured}"
        numbers = [f"{name} {_shown(self.coco[name])}{self.interval_text(name)}" for name in ("AP", "AP50")]
        return f"COCO {', '.join(numbers)} {measured}"

    def interval_text(self, name: str) -> str:
        """`` (95 %: 0.410 to 0.560)`` for ``AP`` or ``AP50``; empty where there is no interval."""
        if name not in self.intervals:
            return ""
        low, high = self.intervals[name]
        return f" (95 %: {low:.3f} to {high:.3f})"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the numbers must know: why they are low, what bounds them, what was left out."""
        found = [*self.hints, *self._bounds()]
        if self.loose:
            pairs = [f"'{own}' of the model is '{theirs}' of the data" for own, theirs in self.loose]
            found.append(f"Classes matched although spelt differently: {listed(pairs)}.")
        absent = [item.name for item in self.per_class if not item.objects]
        if absent and self.objects:
            found.append(f"No object of these classes here, so nothing is measured of them: {listed(absent)}.")
        if self.only_data:
            found.append(f"Left out, since the model does not know them: {listed(self.only_data)}.")
        if self.only_model:
            found.append(f"Left out, since the data set does not have them: {listed(self.only_model)}.")
        if self.failed:
            found.append(f"{counted(len(self.failed), 'image')} left out with their objects: {listed(self.failed)}")
        return tuple(found)

    def _bounds(self) -> list[str]:
        """Which numbers cannot reach 1, whatever the detector finds."""
        found = []
        coco = self.metrics.coco
        best = best_possible_ap(self.truth, len(self.class_names), coco.max_detections) if coco else 1.0
        cells = self.truth.image_index * max(len(self.class_names), 1) + self.truth.class_ids
        of_class, in_image = (_most_frequent(ids[~self.truth.ignored]) for ids in (cells, self.truth.image_index))
        if coco and best < 1:
            found.append(
                f"COCO counts at most {coco.max_detections} detections of a class in an image, and an image here holds "
                f"{of_class:,} objects of one: COCO AP cannot exceed {best:.3f}. VOC's numbers are not concerned; "
                f"--max-detections {in_image} counts more."
            )
        if self.max_detections is not None and in_image > self.max_detections:
            found.append(
                f"The detector gives at most {self.max_detections} detections for an image, and an image here holds "
                f"{in_image:,} objects: recall and AP by both rules are bounded; --max-detections {in_image} gives "
                "more."
            )
        return found

    @property
    def convention(self) -> str:
        """How boxes were read and measured, in words."""
        parts = ["Boxes are continuous corners in pixels of the upright image."]
        if self.format == "voc":
            parts.append("VOC's one-based, inclusive corners were read as (xmin - 1, ymin - 1, xmax, ymax).")
        border = "with 1 pixel added to widths and heights" if self.voc.pixel_inclusive else "without a border pixel"
        parts.append(f"VOC's rule: IoU {self.voc.compare} {self.voc.min_iou:g}, measured {border}.")
        parts.append("Difficult and crowd objects are neither missed nor do detections of them count.")
        if self.metrics.coco:
            most = self.metrics.coco.max_detections
            parts.append(
                f"COCO's rule: IoU 0.50 to 0.95, 101 recalls, at most {most} detections of a class in an image."
            )
        if self.intervals:
            parts.append("Intervals: 95 %, by a bootstrap over the images.")
        parts.append(f"Detections below a score of {self.score_threshold:g} were not looked at.")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes ``None``."""
        record = {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "format": self.format,
            "images": len(self.samples),
            "objects": self.objects,
            "ignored_objects": int(self.truth.ignored.sum()),
            "detections": len(self.detections),
            "voc_area": self.voc_area,
            "voc_07": self.voc_07,
            "coco": self.coco or None,
            "coco_intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "coco_max_detections": self.metrics.coco.max_detections if self.metrics.coco else None,
            "max_detections": self.max_detections,
            "best_threshold": self.metrics.best_threshold,
            "best_f1": self.metrics.best_f1,
            "per_class": [asdict(item) for item in self.per_class],
            "confusion": {"names": [*self.class_names, "background"], "counts": self.metrics.confusion.tolist()},
            "speed": asdict(self.speed),
            "classes_only_in_model": list(self.only_model),
            "classes_only_in_data": list(self.only_data),
            "classes_matched_loosely": [{"model": own, "data": theirs} for own, theirs in self.loose],
            "failed_images": list(self.failed),
            "convention": self.convention,
            "hints": list(self.hints),
            "remarks": [*self.notes, *self.remarks],
        }
        defined: dict[str, Any] = _without_nan(record)
        return defined

    def to_json(self) -> str:
        """JSON text of `to_dict`; a row of numbers is one line."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        return re.sub(r"\[[\d\s.,-]+\]", lambda row: " ".join(row[0].split()), text)

    def to_csv(self) -> str:
        """The curves as a table: class, recall and its precision; score threshold and its F1, on a grid of 0.01."""
        lines = ["class,grid,precision_at_recall,f1_at_threshold"]
        for name, curve in zip(self.class_names, self.metrics.curves, strict=True):
            quoted = '"' + name.replace('"', '""') + '"'
            pairs = zip(precision_on_grid(curve), f1_on_grid(curve), strict=True)
            lines += [f"{quoted},{index / 100:.2f},{p:.5f},{f1:.5f}" for index, (p, f1) in enumerate(pairs)]
        return "\n".join(lines) + "\n"

    def save(self, out: str | Path, *, worst: int = 12, overwrite: bool = False) -> Path:
        """Write ``eval.json``, ``curves.csv`` and ``report.html`` into a folder.

        Args:
            out: the folder; made if it is missing.
            worst: how many of the worst images the report draws.
            overwrite: replace these files where the folder has them already.

        Returns:
            The report's path.

        Raises:
            OutputError: the folder has one of these files already, or the data set reads one; nothing is written.
            MissingExtraError: matplotlib or jinja2 is not installed; the other two files are written before.
        """
        from singleshot.evaluation.pages import evaluation_sections
        from singleshot.report.page import write_page

        check_outputs(out, self.samples, overwrite=overwrite)
        table, curves, page = (Path(out) / name for name in OUTPUTS)
        write_atomically(table, printable(self.to_json()) + "\n")
        write_atomically(curves, printable(self.to_csv()))
        split = f", split {self.split}" if self.split else ""
        subtitle = f"{self.model} on {self.data}{split}: {counted(len(self.samples), 'image')}"
        return write_page(page, "Evaluation", evaluation_sections(self, worst), subtitle=subtitle)


def check_outputs(out: str | Path, samples: Iterable[Sample] = (), *, overwrite: bool = False) -> None:
    """Refuse a folder where `EvalResult.save` would replace a file.

    Args:
        out: the folder.
        samples: of the data set; a file that describes them is never replaced.
        overwrite: whether other files may be.

    Raises:
        OutputError: names the file.
    """
    if Path(out).exists() and not Path(out).is_dir():
        raise OutputError(f"{out}: is a file: name a folder")
    sources = {re.sub(r":\d+$", "", sample.source) for sample in samples} - {""}
    for name in OUTPUTS:
        check_output(Path(out) / name, overwrite=overwrite, sources=sources)


def _most_frequent(ids: np.ndarray) -> int:
    """How often the most frequent id occurs."""
    return int(np.bincount(ids).max(initial=0))


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
