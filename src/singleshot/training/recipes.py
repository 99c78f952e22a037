"""Settings of a run as YAML files: recipes, and the ``config.yaml`` of a run's folder."""

from __future__ import annotations

import difflib
from pathlib import Path

import yaml

from singleshot.core.files import write_atomically
from singleshot.core.yaml_files import read_mapping
from singleshot.errors import ConfigError
from singleshot.training.config import TrainConfig, parse_config


def read_config(path: str | Path) -> TrainConfig:
    """Settings from a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds wrong settings.
    """
    return parse_config(read_mapping(path, "settings", "batch_size: 32"), str(path))


def write_config(config: TrainConfig, path: Path, comment: str = "") -> None:
    """Settings to a YAML file that ``read_config`` reads back equal; replaces the file only when complete."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    text = head + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_atomically(path, text)


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the package.

    Raises:
        ConfigError: there is none; the message lists those that exist.
    """
    if Path(name).is_file():
        return Path(name)
    known = {path.stem: path for path in recipe_paths()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise ConfigError(f"no recipe '{name}'{hint} Recipes: {', '.join(sorted(known))}, or a path to a YAML file")


def recipe_paths() -> list[Path]:
    """The recipes that come with the package, by name."""
    package = Path(__file__).resolve().parents[1]
    # An installed package holds its recipes; a checkout has them beside src/.
    folder = next((f for f in (package / "recipes", package.parents[1] / "recipes") if f.is_dir()), None)
    return sorted(folder.glob("*.yaml")) if folder else []
