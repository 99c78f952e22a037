"""``examine``: why AP may be low: what is wrong with labels and splits, and what a detector makes of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from singleshot.core.files import check_output
from singleshot.core.lazy import require_torch
from singleshot.core.wording import counted
from singleshot.data.check import DataReport, check
from singleshot.detector import Detector, load
from singleshot.doctor.drawn_findings import finding_sections
from singleshot.doctor.evidence import Evidence, gather_evidence
from singleshot.doctor.findings import Finding, Severity, from_problem, sort_findings
from singleshot.doctor.label_faults import label_faults, twin_findings
from singleshot.doctor.near_duplicates import MOST_PAIRS, confirm_twins, find_twins, make_thumbnails
from singleshot.errors import OutputError
from singleshot.report.page import write_page

PAGE = "diagnosis.html"
EXAMPLES = 3

Track = Callable[[Sequence[Any], str], Iterable[Any]]
"""Wraps what is worked through, with words for it (a progress bar)."""


def _untracked(items: Sequence[Any], _: str) -> Iterable[Any]:
    return items


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` found.

    Attributes:
        data: path of the data set.
        split: the split that was looked at; ``None`` for all.
        model: the detector's name; empty without one.
        images, objects: how many were looked at.
        findings: the worst first.
        notes: what the numbers are of: classes that only one side has.
        left_out: records and images that could not be used, as ``data check`` counts them.
        sources: files of the data set.
    """

    data: str
    split: str | None
    model: str
    images: int
    objects: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    left_out: int
    sources: tuple[Path, ...]

    @property
    def headline(self) -> str:
        """What was looked at, and how much was found, in one line."""
        split = f", split {self.split}" if self.split else ""
        model = f" with {self.model}" if self.model else ", without a model"
        counts = {name: sum(item.severity == name for item in self.findings) for name in ("error", "warning", "note")}
        found = ", ".join(counted(count, name) for name, count in counts.items() if count) or "nothing found"
        return f"{self.data}{split}{model}: {counted(self.images, 'image')}, {counted(self.objects, 'object')}: {found}"

    def kinds(self) -> Iterator[tuple[Severity, str, str, str, tuple[Finding, ...]]]:
        """Severity, kind, title, remedy and findings of each kind, the worst first."""
        for kind, group in groupby(self.findings, key=lambda item: (item.severity, item.kind)):
            own = tuple(group)
            yield kind[0], kind[1], own[0].title, own[0].remedy, own

    def lines(self, examples: int = EXAMPLES) -> list[str]:
        """The findings for a terminal: of each kind how many, the first, and the remedy."""
        lines = [self.headline, *self.notes]
        for severity, kind, title, remedy, own in self.kinds():
            lines.append(f"{severity}: {len(own)} x {kind}: {title}")
            for item in own[:examples]:
                where = "" if item.where in ("", self.data) else f"{item.where}: "
                lines.append(f"  {where}{item.message}")
            if len(own) > examples:
                lines.append(f"  ... {len(own) - examples} more")
            lines.append(f"  -> {remedy}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "data": self.data,
            "split": self.split,
            "model": self.model or None,
            "images": self.images,
            "objects": self.objects,
            "notes": list(self.notes),
            "counts": {kind: len(own) for _, kind, _, _, own in self.kinds()},
            "findings": [item.to_dict() for item in self.findings],
        }

    def to_json(self) -> str:
        """JSON text of `to_dict`."""
        return json.dumps(self.to_dict(), indent=1)  # in ASCII: a file's name may be no text

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``diagnosis.html``: every kind of finding with its remedy and the first pictures.

        Args:
            out: the folder; made if it is missing.
            overwrite: replace the page where the folder has one.

        Returns:
            The page's path.

        Raises:
            OutputError: there is one; nothing is written.
            MissingExtraError: jinja2 is not installed.
        """
        page = check_page(out, overwrite=overwrite)
        page.parent.mkdir(parents=True, exist_ok=True)
        sections = finding_sections(self.kinds(), [self.headline, *self.notes])
        return write_page(page, "Diagnosis", sections, subtitle=self.headline)


def check_page(out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Refuse a folder where `Diagnosis.save` would replace a page; the page's path.

    Raises:
        OutputError: names it.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file: name a folder")
    return check_output(folder / PAGE, overwrite=overwrite)


def examine(
    data: str | os.PathLike[str],
    model: Detector | str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    format: str = "auto",
    device: str = "auto",
    lower_names: bool = False,
    track: Track = _untracked,
) -> Diagnosis:
    """Look for what keeps AP low: faults of labels and splits and, with a model, what it contradicts and confuses.

    Args:
        data: path of a labelled data set.
        model: a detector, a weights file, or ``coco``; best one that was trained on this data. Without one, only what
            shows without a detector is found.
        split: what to look at; everything by default.
        format: of the labels.
        device: where the model runs.
        lower_names: take class names in lower case.
        track: wraps the images while they are worked through.

    Returns:
        The findings; bad images are among them and end nothing.

    Raises:
        DataError: the data set cannot be opened, or shares no class with the model.
        WeightsError: the model cannot be read.
        ConfigError: the model is an exported file, or the device is not there.
    """
    if model is not None:
        require_torch("examining data with a detector")
    detector = model if isinstance(model, Detector) or model is None else load(model)
    report = check(Path(data), split, format, deep=False, lower_names=lower_names)
    samples, names, where = report.dataset.samples, report.dataset.class_map.names, report.dataset.path
    thumbnails = make_thumbnails(
        [sample.image_path for sample in samples], lambda paths: track(paths, "Looking for copies")
    )
    findings = [from_problem(problem) for problem in (*report.problems, *thumbnails.problems)]
    findings += label_faults(samples, names, report.members, where)
    twins = find_twins(thumbnails)
    twins_found = confirm_twins(twins, [sample.image_path for sample in samples])
    findings += twin_findings(twins_found, samples, report.members)
    notes: list[str] = []
    if len(twins) >= MOST_PAIRS:
        notes.append(
            f"more than {MOST_PAIRS:,} pairs of pictures look alike (a camera that stands still?): only the first are "
            "told; sort out these before you trust any split"
        )
    if detector is not None:
        usable = [s for s, digest in zip(samples, thumbnails.digests, strict=True) if digest]
        evidence = gather_evidence(detector, usable, names, device, lambda items: track(items, "Running the model"))
        findings += _with_model(detector, evidence, where)
        notes += _class_notes(evidence.classes.only_data, evidence.classes.loose)
    return Diagnosis(
        data=str(where),
        split=split,
        model=model.spec.name if isinstance(model, Detector) else str(model or ""),
        images=len(samples),
        objects=sum(map(len, samples)),
        findings=sort_findings(dict.fromkeys(findings)),
        notes=tuple(notes),
        left_out=report.errors + len(thumbnails.problems),
        sources=tuple(dict.fromkeys(_sources(report))),
    )


def _with_model(detector: Detector, evidence: Evidence, where: Path) -> Iterator[Finding]:
    from singleshot.doctor.model_faults import detector_faults, label_suspects, uncovered_objects

    yield from map(from_problem, evidence.unreadable)
    yield from label_suspects(evidence)
    yield from detector_faults(evidence, where, detector.spec.default_score)
    yield from uncovered_objects(detector, evidence, where)


def _class_notes(only_data: Sequence[str], loose: Sequence[tuple[str, str]]) -> Iterator[str]:
    if only_data:
        yield f"the model does not know {', '.join(only_data)}: their labels are only looked at without it"
    for own, theirs in loose:
        yield f"the model's class '{own}' is taken for '{theirs}'"


def _sources(report: DataReport) -> Iterator[Path]:
    """Pictures and label files."""
    for sample in report.dataset.samples:
        yield sample.image_path
        yield Path(re.sub(r":\d+$", "", sample.source))
    yield from (problem.file for problem in report.problems)
