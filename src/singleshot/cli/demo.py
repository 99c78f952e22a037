"""``singleshot demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    train: Annotated[bool, typer.Option("--train/--no-train", help="Also learn new classes (minutes).")] = True,
) -> None:
    """Detect objects in sample photos, learn new classes, write a report. Needs no files and no network."""
    from singleshot.demo import run_demo, stages

    run_demo(out, run=stages(train))
