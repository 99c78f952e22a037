"""The settings that may be tuned, and what a choice of one changes in a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from singleshot.core.settings import Frozen, SizeHW
from singleshot.core.sizes import parse_size
from singleshot.core.wording import similar
from singleshot.errors import ConfigError

Choice = float | int | str

OWN = "as set"
"""Random changes that are no preset."""

# Inputs of a whole number of cells of the coarse maps.
SIZE_STEP = 32


class Defaults(Frozen):
    """What the defaults came to in the first run.

    Attributes:
        lr: learning rate, at ``batch_size * accumulate`` images.
        batch_size, accumulate: as in the settings of a training.
        size_hw: network input.
        augment: the preset of random changes, or `OWN`.
        epochs: length of each run.
    """

    lr: float
    batch_size: int
    accumulate: int
    size_hw: SizeHW
    augment: str
    epochs: float


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers between two bounds, alike on a logarithmic scale."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TunedSetting:
    """A setting that may be tuned.

    Attributes:
        default: what the defaults are, as a choice.
        choices: what is tried.
        changes: what a choice means, as settings of a training by dotted key.
    """

    default: Callable[[Defaults], Choice]
    choices: Callable[[Defaults], Range | tuple[Choice, ...]]
    changes: Callable[[Any, Defaults], dict[str, Any]]


def _lr_changes(factor: float, defaults: Defaults) -> dict[str, Any]:
    return {
        "optimizer.lr": float(f"{defaults.lr * factor:.3g}"),
        "optimizer.lr_batch": defaults.batch_size * defaults.accumulate,
    }


def _batches(defaults: Defaults) -> tuple[Choice, ...]:
    return tuple(sorted({max(defaults.batch_size // 2, 2), defaults.batch_size, 2 * defaults.batch_size}))


def _size(factor: float, defaults: Defaults) -> str:
    """The input at a factor, in whole cells; as it is at 1."""
    sides = [max(round(side * factor / SIZE_STEP), 1) * SIZE_STEP for side in defaults.size_hw]
    return "x".join(map(str, sides if factor != 1 else defaults.size_hw))


SETTINGS: Mapping[str, TunedSetting] = {
    "lr": TunedSetting(lambda defaults: 1.0, lambda defaults: Range(0.25, 4.0), _lr_changes),
    "augment": TunedSetting(
        lambda defaults: defaults.augment,
        lambda defaults: tuple(dict.fromkeys((defaults.augment, "none", "light", "ssdlite", "ssd"))),
        lambda name, defaults: {"augment": name},
    ),
    "batch_size": TunedSetting(
        lambda defaults: defaults.batch_size, _batches, lambda size, defaults: {"batch_size": int(size)}
    ),
    "size": TunedSetting(
        lambda defaults: _size(1, defaults),
        lambda defaults: tuple(dict.fromkeys(_size(factor, defaults) for factor in (0.75, 1, 1.25))),
        lambda size, defaults: {"size_hw": list(parse_size(size))},
    ),
}
"""``lr`` is a factor of the default rate. ``size`` changes the detector's speed, too."""


def check_names(vary: Sequence[str]) -> tuple[str, ...]:
    """The names of settings to tune, each once.

    Raises:
        ConfigError: there is no such setting, or none is named.
    """
    for name in vary:
        if name not in SETTINGS:
            raise ConfigError(f"`vary`: no setting '{name}' to tune; {similar(name, tuple(SETTINGS))}")
    if not vary:
        raise ConfigError(f"`vary`: names no setting; there are {', '.join(SETTINGS)}")
    return tuple(dict.fromkeys(vary))


def default_choices(vary: Sequence[str], defaults: Defaults) -> dict[str, Choice]:
    """The defaults as choices."""
    return {name: SETTINGS[name].default(defaults) for name in vary}


def changes_of(choices: Mapping[str, Choice], defaults: Defaults) -> dict[str, Any]:
    """Settings of a training, by dotted key, in which choices differ from the defaults."""
    usual = default_choices(tuple(choices), defaults)
    changes: dict[str, Any] = {}
    for name, choice in choices.items():
        if choice != usual[name]:
            changes |= SETTINGS[name].changes(choice, defaults)
    return changes
