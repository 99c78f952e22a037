"""``singleshot demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from singleshot.cli.console import open_console


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    train: Annotated[bool, typer.Option("--train/--no-train", help="Also learn new classes (minutes).")] = True,
) -> None:
    """Detect objects in sample photos, learn new classes, write a report. Needs no files and no network.

    Examples:

    * `singleshot demo`
    * `singleshot demo --no-train --out /tmp/demo`
    """
    from singleshot.demo import run_demo, stages

    run_demo(out, open_console(), stages(train))
