"""The ``singleshot`` command: one file per verb. Verbs import torch and friends only when they run."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="singleshot",
    help="Single-shot object detectors: predict, train, evaluate, import, ship.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run the command line."""
    app()
