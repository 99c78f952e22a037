"""``singleshot demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo")) -> None:
    """Detect objects in sample photos and write a report. Needs no files and no network."""
    from singleshot.demo import run_demo

    run_demo(out)
