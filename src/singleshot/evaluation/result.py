"""`EvalResult`: every number of an evaluation with the names that belong to it, in words and as files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from singleshot.core.files import check_output, write_atomically
from singleshot.core.structures import Sample
from singleshot.core.wording import counted, no_formula, printable
from singleshot.errors import OutputError
from singleshot.evaluation import wording
from singleshot.evaluation.metrics.curves import f1_on_grid, precision_on_grid
from singleshot.evaluation.numbers import Measured
from singleshot.evaluation.pages import evaluation_sections
from singleshot.report.page import write_page

OUTPUTS = ("eval.json", "curves.csv", "report.html")
"""What `EvalResult.save` writes."""


@dataclass(frozen=True)
class EvalResult(Measured):
    """A detector's result on a data set; its numbers are those of `Measured`."""

    @property
    def hints(self) -> tuple[str, ...]:
        """What is probably wrong when the numbers are very low; empty when they are not."""
        return wording.hints(self)

    @property
    def headline(self) -> str:
        """The main numbers with what they were measured on, as one sentence would say it."""
        return wording.headline(self)

    def interval_text(self, name: str) -> str:
        """`` (95 %: 0.410 to 0.560)`` for ``AP`` or ``AP50``; empty where there is no interval."""
        return wording.interval_text(self, name)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the numbers must know: why they are low, what bounds them, what was left out."""
        return wording.remarks(self)

    @property
    def convention(self) -> str:
        """How boxes were read and measured, in words."""
        return wording.convention(self)

    @property
    def settings(self) -> dict[str, Any]:
        """The values that this evaluation went by, under the names of `singleshot.evaluate`'s arguments."""
        nms = self.postprocess
        of_nms = {
            "nms_iou": nms.nms_iou,
            "agnostic": nms.class_agnostic,
            "max_detections": nms.max_detections,
            "top_k": nms.pre_nms_top_k,
        } if nms else {}  # fmt: skip
        return {
            "score": self.score_threshold,
            **of_nms,
            "iou": self.voc.min_iou,
            "strict": self.voc.compare == ">",
            "inclusive": self.voc.pixel_inclusive,
            "use_difficult": self.use_difficult,
        }

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
            "settings": self.settings,
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
            quoted = '"' + no_formula(name).replace('"', '""') + '"'
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


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
