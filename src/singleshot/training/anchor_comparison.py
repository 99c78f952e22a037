"""``compare_anchors``: how well a model's default boxes fit a data set, and which would fit better."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from singleshot.core.files import check_output, write_atomically
from singleshot.core.settings import AnchorConfig
from singleshot.core.sizes import parse_size
from singleshot.core.structures import Sample
from singleshot.core.wording import counted, printable
from singleshot.data import DetectionDataset, open_training
from singleshot.data import open as open_dataset
from singleshot.data.dataset import check_open
from singleshot.errors import DataError, OutputError
from singleshot.images.read import write_image
from singleshot.models.catalogue import MODELS
from singleshot.models.description import is_description, read_description
from singleshot.multibox.anchors import default_boxes
from singleshot.report.anchor_plot import plot_sides
from singleshot.training.anchor_fitting import cluster_fit, fit_anchors, map_sizes
from singleshot.training.checks import RECALL_IOU, best_ious, network_boxes
from singleshot.training.config import TrainConfig
from singleshot.training.start import start_spec

SETTINGS, PICTURE = "anchors.yaml", "anchors.png"
SIZES = (
    ("small (below 32 x 32 px)", 0.0, 32.0**2),
    ("medium", 32.0**2, 96.0**2),
    ("large (from 96 x 96 px)", 96.0**2, np.inf),
)
"""COCO's sizes: title, and bounds of the area in square pixels of the image."""


class RecallRow(NamedTuple):
    """How much of a group of objects default boxes cover.

    Attributes:
        group: a size, a class, or ``all``.
        objects: how many.
        before, after: share of them that some default box overlaps by 0.5 or more: of the model's, of the fitted.
        iou_before, iou_after: mean overlap with the best default box.
    """

    group: str
    objects: int
    before: float
    after: float
    iou_before: float
    iou_after: float


@dataclass(frozen=True)
class AnchorComparison:
    """A model's default boxes beside those that fit a data set.

    Attributes:
        data, split: what was looked at.
        model: as given: a name or a file.
        size_hw: network input in pixels.
        method: ``own`` (nothing fits better), ``scaled`` (what ``anchors="auto"`` takes) or ``k-means``.
        anchors: the fitted default boxes.
        overall, by_size, by_class: recall before and after.
        picture: sides of objects and default boxes, RGB ``[H, W, 3]`` uint8.
        settings: for `singleshot.train`, as plain values.
    """

    data: str
    split: str | None
    model: str
    size_hw: tuple[int, int]
    method: str
    anchors: AnchorConfig
    overall: RecallRow
    by_size: tuple[RecallRow, ...]
    by_class: tuple[RecallRow, ...]
    picture: NDArray[np.uint8]
    settings: dict[str, Any]

    @property
    def headline(self) -> str:
        """What the fitting gains, in one line."""
        row, split = self.overall, f", split {self.split}" if self.split else ""
        model = f"{self.model} at {self.size_hw[1]} x {self.size_hw[0]}"
        how = {"own": "nothing fits better", "scaled": "fitted by scaling"}.get(self.method, "fitted by k-means on IoU")
        return (
            f"{self.data}{split}: {counted(row.objects, 'object')}, {model}: {row.before:.0%} "
            f"overlap a default box by {RECALL_IOU:g}, {how}: {row.after:.0%}"
        )

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``anchors.yaml``, which ``train(recipe=...)`` takes, and ``anchors.png``.

        Args:
            out: the folder; made if it is missing.
            overwrite: replace these files where the folder has them.

        Returns:
            Path of the settings.

        Raises:
            OutputError: the folder has one of these files already; nothing is written.
        """
        folder = check_folder(out, overwrite=overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / PICTURE, self.picture)
        body = yaml.safe_dump(self.settings, sort_keys=False, default_flow_style=None, width=120)
        text = f"# {printable(self.headline, one_line=True)}\n{body}"
        return write_atomically(folder / SETTINGS, text)


def check_folder(out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Refuse a folder where `AnchorComparison.save` would replace a file.

    Raises:
        OutputError: names the file.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file: name a folder")
    for name in (SETTINGS, PICTURE):
        check_output(folder / name, overwrite=overwrite)
    return folder


def compare_anchors(
    data: DetectionDataset | str | os.PathLike[str],
    model: str | os.PathLike[str] = "coco-v3",
    *,
    split: str | None = None,
    size: int | str | Sequence[int] | None = None,
    format: str = "auto",
) -> AnchorComparison:
    """Measure how well default boxes fit labelled objects, and fit them: their number and places stay.

    Args:
        data: an opened data set, or its path.
        model: a bundled detector, a weights file, an architecture's name, or a YAML file that describes a detector.
        split: what to fit to, when ``data`` is a path; by default what training learns from.
        size: network input; the model's own by default.
        format: of the labels, when ``data`` is a path.

    Raises:
        DataError: the data cannot be read, or has no object.
        ConfigError, WeightsError: the model is unknown or cannot be read; or ``data`` is open, and others say how.
    """
    if isinstance(data, DetectionDataset):
        check_open(split=split, format=format)
        dataset = data
    else:
        dataset = _open(data, split, format)
    settings = _start_settings(os.fspath(model))
    if size is not None:
        settings["size_hw"] = list(parse_size(size))
    _, spec, _ = start_spec(TrainConfig().updated(_read(settings)), dataset.class_map)
    size_hw, maps = spec.preprocess.size_hw, map_sizes(spec)
    boxes, class_ids = network_boxes(dataset.samples, size_hw)
    if not len(boxes):
        raise DataError(f"{dataset.path}: has no object to fit default boxes to")
    scaled = fit_anchors(spec, dataset.samples)
    candidates = {"own": spec.anchors, "scaled": scaled, "k-means": cluster_fit(spec, dataset.samples, scaled)}
    drawn = {name: default_boxes(anchors, maps, size_hw) for name, anchors in candidates.items()}
    ious = {name: best_ious(boxes, anchors) for name, anchors in drawn.items()}
    method = max(ious, key=lambda name: ((ious[name] >= RECALL_IOU).mean(), ious[name].mean()))
    before, after = ious["own"], ious[method]
    areas = np.concatenate([_areas(sample) for sample in dataset.samples])
    names = dataset.class_map.names
    settings["anchors"] = candidates[method].model_dump(mode="json")
    return AnchorComparison(
        data=str(dataset.path),
        split=dataset.split,
        model=os.fspath(model),
        size_hw=size_hw,
        method=method,
        anchors=candidates[method],
        overall=_row("all", np.ones(len(boxes), dtype=bool), before, after),
        by_size=tuple(_row(title, (areas >= low) & (areas < high), before, after) for title, low, high in SIZES),
        by_class=tuple(_row(name, class_ids == index, before, after) for index, name in enumerate(names)),
        picture=plot_sides(
            boxes[:, 2:] - boxes[:, :2],
            [
                (f"the model's: recall {(before >= RECALL_IOU).mean():.0%}", drawn["own"].numpy()[:, 2:]),
                (f"fitted ({method}): recall {(after >= RECALL_IOU).mean():.0%}", drawn[method].numpy()[:, 2:]),
            ],
        ),
        settings=settings,
    )


def _open(data: str | os.PathLike[str], split: str | None, format: str) -> DetectionDataset:
    path = Path(data)
    if split is not None:
        return open_dataset(path, split, format)
    return open_training(path, val="none", format=format)[0]


def _start_settings(model: str) -> dict[str, Any]:
    """The settings that begin a training with a model, whatever it is."""
    return {"model": model} if model in MODELS or is_description(model) else {"weights": model}


def _read(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings, a described model as its description."""
    if not is_description(settings.get("model", "")):
        return settings
    return {**settings, "model": read_description(settings["model"])}


def _areas(sample: Sample) -> NDArray[np.float32]:
    return np.asarray(sample.areas[~sample.iscrowd])


def _row(group: str, chosen: NDArray[np.bool_], before: NDArray[np.floating], after: NDArray[np.floating]) -> RecallRow:
    if not chosen.any():
        nothing = float("nan")
        return RecallRow(group, 0, nothing, nothing, nothing, nothing)
    shares = (float((values[chosen] >= RECALL_IOU).mean()) for values in (before, after))
    means = (float(values[chosen].mean()) for values in (before, after))
    return RecallRow(group, int(chosen.sum()), *shares, *means)
