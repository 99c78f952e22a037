"""How pictures are looked at, from settings as they are typed; which tiles ``auto`` means for a detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from singleshot.augment.orientation import why_not_mirrored
from singleshot.core.settings import MAX_SIDE
from singleshot.core.sizes import parse_size
from singleshot.errors import ConfigError
from singleshot.models.config import ModelSpec
from singleshot.prediction.views import ViewPlan


def view_plan(
    tile: str | int | None,
    overlap: float,
    merge: str,
    augment_test: str | None,
    agnostic: bool,
    spec: ModelSpec,
    tell: Callable[[str], object],
) -> ViewPlan:
    """A plan from settings as they are typed.

    Args:
        tile: a side or ``HEIGHTxWIDTH`` in pixels; ``auto`` as in `choose_tile`; ``None`` for no tiles.
        overlap, merge, agnostic: as in `ViewPlan`.
        augment_test: as in `parse_augment_test`; ``None`` for none.
        spec: the detector's.
        tell: is told which tiles ``auto`` chose, and why; and where mirrored looks speak for other classes.

    Raises:
        ConfigError: a value that makes no sense.
    """
    tile_hw = None if tile is None else choose_tile(spec, tell) if tile == "auto" else parse_size(tile, "tile")
    more = {} if augment_test is None else parse_augment_test(augment_test)
    if more.get("flip") and (why := why_not_mirrored(spec.class_names)):
        tell(f"`augment_test`: {why}, and mirrored, they look like others: without `flip`, nothing is mirrored")
    agnostic = agnostic or spec.postprocess.class_agnostic
    return ViewPlan(tile_hw, overlap, merge=merge, agnostic=agnostic, **more)  # type: ignore[arg-type]


def choose_tile(spec: ModelSpec, tell: Callable[[str], object]) -> tuple[int, int]:
    """What ``auto`` means: tiles that show small objects as large as the network knows objects from its training.

    Small is the 10th percentile of the training's objects in pixels; it is to look like the median object looked to the
    network. Tiles are never smaller than the network's input, which shows every pixel as it is; where the training's
    objects are not known they are as large.

    Args:
        spec: the detector's.
        tell: is told what was chosen, and why.

    Returns:
        (height, width) in pixels.
    """
    height, width = spec.preprocess.size_hw
    if spec.objects is None:
        tell(
            f"`tile='auto'`: tiles of {height} x {width} pixels, the network's input; the weights do not say how large "
            "the objects of their training were"
        )
        return height, width
    small, middle = spec.objects.pixels[0], spec.objects.shares[1]
    factor = max(1.0, small / middle / (height * width) ** 0.5)
    tile_hw = (min(round(factor * height), MAX_SIDE), min(round(factor * width), MAX_SIDE))
    why = (
        f"there objects of {small:.0f} pixels, small in its training, look as large as the median one did"
        if factor > 1
        else f"the network's input, since objects of {small:.0f} pixels are small in its training"
    )
    tell(f"`tile='auto'`: tiles of {tile_hw[0]} x {tile_hw[1]} pixels; {why}")
    return tile_hw


def parse_augment_test(text: str | Sequence[str]) -> dict[str, bool]:
    """``flip,scales`` as settings of `ViewPlan`.

    Raises:
        ConfigError: something else.
    """
    words = [word.strip() for word in (text.split(",") if isinstance(text, str) else text)]
    for word in words:
        if word not in ("flip", "scales"):
            raise ConfigError(f"`augment_test='{word}'`: choose flip, scales, or both: flip,scales")
    return dict.fromkeys(words, True)
