"""Default boxes from a few numbers: the rule of the SSD paper for any number of levels and any shape of input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator

from singleshot.core.settings import AnchorLevel, Frozen
from singleshot.multibox.shapes import ratio_shapes, with_reciprocals

Scale = Annotated[float, Field(gt=0, le=2)]
Ratio = Annotated[float, Field(gt=1, le=100)]


class BoxRule(Frozen):
    """Default boxes by the rule of the SSD paper (section 2.2, eq. 4): two squares, and one box for each ratio.

    Attributes:
        scales: sides of the small squares as fractions of the input's shorter side: the first and the last level's,
            spaced evenly between, or one for each level. One more is what the last level's big square is the mean with.
        ratios: width / height of the other boxes, above 1, the same for all levels or a list for each; each stands for
            its reciprocal, too.
        steps: pixels between the centres of each level's cells; empty means that cells divide the input evenly.
    """

    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (0.2, 0.9)
    ratios: tuple[Ratio, ...] | tuple[tuple[Ratio, ...], ...] = (2.0, 3.0)
    steps: tuple[Annotated[float, Field(gt=0)], ...] = ()

    @field_validator("scales")
    @classmethod
    def _rising(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if list(scales) != sorted(set(scales)):
            raise ValueError("must rise from the finest level to the coarsest")
        return scales

    def levels(self, count: int, size_hw: tuple[int, int]) -> tuple[AnchorLevel, ...]:
        """The boxes of ``count`` levels for one input size.

        Raises:
            ValueError: there are more or fewer entries than levels.
        """
        height, width = size_hw
        side = min(size_hw)
        scales = self._scales(count)
        ratios: Sequence[Any] = self.ratios if isinstance((*self.ratios, 0.0)[0], tuple) else (self.ratios,) * count
        if len(ratios) != count:
            raise ValueError(f"ratios: has {len(ratios)} lists for {count} levels: give one for each, or one for all")
        if self.steps and len(self.steps) != count:
            raise ValueError(f"steps: has {len(self.steps)} numbers for {count} levels: give one for each, or none")
        levels = []
        for level, further in enumerate(ratios):
            step_hw = (self.steps[level] / height, self.steps[level] / width) if self.steps else None
            shapes = ratio_shapes(
                scales[level], with_reciprocals(further), math.sqrt(scales[level] * scales[level + 1])
            )
            shapes = tuple((w * side / width, h * side / height) for w, h in shapes)
            levels.append(AnchorLevel(shapes_wh=shapes, step_hw=step_hw))
        return tuple(levels)

    def _scales(self, count: int) -> list[float]:
        """One for each level, and the one that would follow."""
        scales = list(self.scales)
        if len(scales) == 2 and count > 2:
            step = (scales[1] - scales[0]) / (count - 1)
            scales = [scales[0] + step * level for level in range(count)]
        if len(scales) == count:
            scales.append(2 * scales[-1] - scales[-2] if count > 1 else 1.0)
        if len(scales) != count + 1:
            raise ValueError(
                f"scales: has {len(scales)} numbers for {count} levels: give the first and the last, or one for each"
            )
        return scales
