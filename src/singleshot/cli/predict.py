"""``singleshot predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Image files, folders or globs.")],
) -> None:
    """Detect objects in images."""
