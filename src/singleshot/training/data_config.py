"""Settings of what a run learns from and is measured on. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from singleshot.core.settings import Frozen, SizeHW
from singleshot.core.sizes import parse_size
from singleshot.data.formats.registry import known_format
from singleshot.training.optimizer_config import NonNegative, PositiveFloat


class TilingConfig(Frozen):
    """Training on tiles of the pictures beside whole ones, as `ViewPlan` looks at them (docs/small-objects.md).

    Attributes:
        tile: (height, width) of tiles in pixels; a side or ``HEIGHTxWIDTH``, too.
        overlap: of neighbouring tiles, as a share of their side.
        inside: a tile teaches the objects of which at least this share of the area lies in it; their boxes end there.
        empty: tiles and pictures without objects in an epoch, as a multiple of those with some; drawn anew each time.
    """

    tile: Annotated[SizeHW, BeforeValidator(lambda value: parse_size(value, "tile"))]
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.2
    inside: Annotated[float, Field(gt=0, le=1)] = 0.5
    empty: NonNegative = 0.5

    @model_validator(mode="before")
    @classmethod
    def _has_a_size(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("tile") is None:
            raise ValueError("`overlap` and the like are of tiles: give their size, such as `tile=640`")
        return data


def _names(value: Any) -> Any:
    """``person,dog`` as a list; a tuple stays one."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


class DataConfig(Frozen):
    """The data of a run.

    Attributes:
        path: a folder or file that ``singleshot data check`` understands.
        train, val: splits to learn from and to evaluate on, several joined by ``+``; ``auto`` takes the data set's own,
            or divides it where it has none; a recipe's ``auto`` is what its result was published for
            (``reference.splits``). ``val: none`` never evaluates.
        bad_data: ``skip`` repairs or leaves out bad records, ``error`` refuses them.
        format: of the labels; ``auto`` takes the one that explains most images.
        classes: the classes to learn, in this order; objects of others are left out. ``None`` takes the data's.
        lower_names: take class names in lower case, so that ``Person`` and ``person`` are one class.
        decisions: a file that ``singleshot browse`` wrote: objects and images to leave out, other classes.
    """

    path: str
    train: str = "auto"
    val: str = "auto"
    bad_data: Literal["skip", "error"] = "skip"
    format: Annotated[str, AfterValidator(known_format)] = "auto"
    classes: Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)] | None = None
    lower_names: bool = False
    decisions: str | None = None


class SplitConfig(Frozen):
    """The splits of a published result.

    Attributes:
        train: to learn from.
        val: to measure on; ``none`` where the labels are not public.
    """

    train: str
    val: str


class Reference(Frozen):
    """The published result that a recipe is after.

    Attributes:
        train, test: the data of the published run, in words.
        splits: the same as names of splits; VOC's devkit and COCO are divided so, other data has its own.
        metric: its name, such as ``VOC07 mAP`` or ``COCO AP``.
        value, tolerance: in percent; a run further below than ``tolerance`` has not reproduced it.
        source: where the number and the schedule were published.
    """

    train: str
    test: str
    splits: SplitConfig | None = None
    metric: str
    value: PositiveFloat
    tolerance: PositiveFloat
    source: str
