"""Weights that come with the package."""

from __future__ import annotations

from pathlib import Path

from singleshot.errors import WeightsError

FOLDER = Path(__file__).parent


def bundled_names() -> tuple[str, ...]:
    """Names that ``singleshot.load`` knows without a file."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def bundled_path(name: str) -> Path:
    """File of bundled weights.

    Raises:
        WeightsError: there are none of that name.
    """
    if name not in bundled_names():
        raise WeightsError(f"no bundled weights '{name}'; there are: {', '.join(bundled_names()) or 'none'}")
    return FOLDER / f"{name}.safetensors"
