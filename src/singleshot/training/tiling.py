"""Training on tiles, so that small objects are learnt: each tile of a picture becomes a sample of its own. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import Sample
from singleshot.core.wording import counted
from singleshot.errors import DataError
from singleshot.models.config import ModelSpec
from singleshot.prediction.views import View, ViewPlan
from singleshot.training.config import TrainConfig
from singleshot.training.data_config import TilingConfig

LEAST_SHARE = 1 / 40
"""A whole picture teaches objects from this share of its side on: 8 pixels of an input of 300. Tiles have the rest."""


@dataclass(frozen=True, slots=True)
class Tiled:
    """What a run on tiles learns from.

    Attributes:
        samples: whole pictures and tiles, in the order of the pictures.
        config: how they were cut.
        pictures: how many pictures there are.
        left_out: tiles and pictures that show labelled objects, but none well enough to learn.
        lost: objects that neither a tile nor the whole picture teaches.
    """

    samples: tuple[Sample, ...]
    config: TilingConfig
    pictures: int
    left_out: int
    lost: int

    @property
    def with_objects(self) -> int:
        """Samples with objects."""
        return sum(len(sample) > 0 for sample in self.samples)

    @property
    def per_epoch(self) -> int:
        """Samples of an epoch."""
        have = self.with_objects
        return have + min(len(self.samples) - have, round(self.config.empty * have))

    def lines(self) -> list[str]:
        """What was cut, for a person."""
        height, width = self.config.tile
        have, tiles = self.with_objects, sum(sample.part_xyxy is not None for sample in self.samples)
        lack, shown = len(self.samples) - have, self.per_epoch - have
        found = [
            f"{height} x {width} pixels, overlap {self.config.overlap:g}: {counted(self.pictures, 'image')} and "
            f"{counted(tiles, 'tile')}",
            f"an epoch shows {have:,} with objects and {shown:,} of {lack:,} without",
        ]
        if not tiles:
            found.append("no image is larger than a tile, so none is cut")
        if self.left_out:
            found.append(f"{self.left_out:,} that show only pieces of objects, or tiny ones, are left out")
        if self.lost:
            found.append(
                f"{counted(self.lost, 'object')} too much cut in every tile, and tiny in the whole, not learnt"
            )
        return found


def view_plan_of(config: TrainConfig, spec: ModelSpec) -> ViewPlan:
    """How held-out pictures are looked at: as ``predict --tile`` does.

    Args:
        config: of a run on tiles.
        spec: the detector's.
    """
    assert config.tiling is not None
    agnostic = config.evaluation.agnostic or spec.postprocess.class_agnostic
    return ViewPlan(config.tiling.tile, config.tiling.overlap, agnostic=agnostic)


def cut_into_tiles(samples: Sequence[Sample], config: TilingConfig) -> Tiled:
    """Whole pictures and their tiles, each with the objects that it can teach.

    A tile teaches what lies in it by ``config.inside`` or more of its area; the boxes end with the tile. A whole
    picture teaches what is at least `LEAST_SHARE` of its side. What shows objects and teaches none is no background,
    and left out.

    Args:
        samples: the pictures.
        config: size and overlap of tiles.

    Raises:
        ConfigError: tiles so small that there would be thousands of a picture.
        DataError: nothing teaches an object.
    """
    plan = ViewPlan(config.tile, config.overlap)
    made: list[Sample] = []
    left_out = lost = 0
    for sample in samples:
        own = list(_views_of(sample, plan, config.inside))
        taught = np.any([keep for _, keep, _ in own], axis=0)
        lost += int((~taught & ~sample.iscrowd).sum())
        useful = [(view, keep) for view, keep, shows in own if (keep & ~sample.iscrowd).any() or not shows]
        left_out += len(own) - len(useful)
        made += [_sample(sample, view, keep) for view, keep in useful]
    tiled = Tiled(tuple(made), config, len(samples), left_out, lost)
    if not tiled.with_objects:
        raise DataError(f"no tile of {config.tile[0]} x {config.tile[1]} pixels holds an object: make `tile` larger")
    return tiled


def _views_of(sample: Sample, plan: ViewPlan, inside: float) -> Iterator[tuple[View | None, NDArray[np.bool_], bool]]:
    """(view, ``None`` for the whole; which objects it teaches, ``[N]``; whether it shows any) of a picture."""
    height, width = sample.image_size_hw
    views = plan.views((height, width))
    corners = np.array([view[:4] for view in views], dtype=np.float32)[:, None]
    low = np.maximum(corners[..., :2], sample.boxes_xyxy[None, :, :2])
    high = np.minimum(corners[..., 2:], sample.boxes_xyxy[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=-1)
    areas = (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).prod(axis=-1)
    for number, view in enumerate(views):
        is_whole = number == 0
        if is_whole and len(views) > 1:
            keep = areas >= LEAST_SHARE**2 * height * width
        else:
            keep = (shared[number] > 0) & (shared[number] >= inside * areas)
        yield None if is_whole else view, keep, bool((shared[number] > 0).any())


def _sample(sample: Sample, view: View | None, keep: NDArray[np.bool_]) -> Sample:
    """A picture, or a tile of it, with some of its objects."""
    boxes = sample.boxes_xyxy[keep]
    if view is not None:
        edges = np.array((view.x0, view.y0) * 2, dtype=np.float32)
        boxes = boxes.clip(edges, np.array((view.x1, view.y1) * 2, dtype=np.float32)) - edges
    return replace(
        sample,
        image_size_hw=sample.image_size_hw if view is None else (view.y1 - view.y0, view.x1 - view.x0),
        boxes_xyxy=boxes,
        class_ids=sample.class_ids[keep],
        difficult=sample.difficult[keep],
        iscrowd=sample.iscrowd[keep],
        areas=np.zeros(0, dtype=np.float32) if view is not None else sample.areas[keep],
        part_xyxy=None if view is None else view[:4],
    )
