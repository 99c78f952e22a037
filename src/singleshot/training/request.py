"""What was asked of ``singleshot.train``: options as settings have them, and the settings of a new run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from singleshot.core.transforms import AUGMENTATIONS, Transform, step
from singleshot.errors import ConfigError
from singleshot.models.config import ModelSpec
from singleshot.models.description import describe, is_description, read_description
from singleshot.training.config import TrainConfig
from singleshot.training.logs import OBSERVED, Observer
from singleshot.training.recipes import find_recipe, read_config


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of a run, in values that can be handed to another process.

    Attributes:
        changes: settings by dotted key, as YAML has them.
        recipe, out, overwrite, resume, device, devices, max_restarts: as in `singleshot.train`.
    """

    changes: Mapping[str, Any]
    recipe: str | None = None
    out: str | None = None
    overwrite: bool = False
    resume: bool | int = False
    device: str = "auto"
    devices: int | str | None = None
    max_restarts: int = 0


def asked_settings(options: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given, and settings (``None`` is a value of these), as YAML has them.

    A file that describes a detector is read.
    """
    given = {key: value for key, value in options.items() if value is not None} | dict(settings)
    changes = {key: _plain(value) for key, value in given.items()}
    if isinstance(changes.get("model"), str) and is_description(changes["model"]):
        changes["model"] = read_description(changes["model"])
    return changes


def new_settings(recipe: str | os.PathLike[str] | None, changes: Mapping[str, Any]) -> TrainConfig:
    """The settings of a new run: a recipe's, if there is one, with what was asked for.

    Raises:
        ConfigError: a setting is wrong, the detector cannot be built, or there is nothing to learn from.
    """
    config = (read_config(find_recipe(str(recipe))) if recipe else TrainConfig()).updated(changes)
    if isinstance(config.model, str) and is_description(config.model):
        config = config.updated({"model": read_description(config.model)})
    elif isinstance(config.model, dict):
        describe(config.model, ("object",), config.size_hw, "model")
    if config.data is None:
        raise ConfigError("data.path: what is there to learn from? Give a folder of labelled images")
    return config


def registered(transform: Transform | None) -> str:
    """The name by which settings know a transform from now on; empty without one."""
    if transform is None:
        return ""
    name = step(transform).name
    AUGMENTATIONS.replace(name, transform)
    return name


def check_transform(config: TrainConfig, own: str, folder: Path) -> None:
    """A run that goes on has the transform that it had."""
    if own and own not in config.augment.transforms:
        had = ", ".join(config.augment.transforms) or "none"
        raise ConfigError(f"`transform`: the run in {folder} has {had}, not {own}; a resumed run keeps its settings")


def check_callbacks(callbacks: Sequence[Observer]) -> None:
    """A method that is not there would end the run at its first evaluation, or at its end."""
    for callback in callbacks:
        missing = [name for name in OBSERVED if not callable(getattr(callback, name, None))]
        if missing or isinstance(callback, type):
            lacks = f"has no {' and no '.join(missing)}" if missing else "is a class: give an object of it"
            raise ConfigError(
                f"`callbacks`: {getattr(callback, '__name__', type(callback).__name__)} {lacks}; a callback has the "
                f"methods {', '.join(OBSERVED)}"
            )


def _plain(value: Any) -> Any:
    """Values as YAML has them. A detector's classes are the data's, and its origin is the run's to say."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, ModelSpec):
        return value.model_dump(mode="json", exclude={"class_names", "class_ids", "provenance"})
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
