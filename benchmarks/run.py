"""All benchmarks: one table, and a JSON file with hardware, versions, medians and spread.

    python benchmarks/run.py [--quick] [--rows forward loss ...] [--data FOLDER] [--reference FOLDER]
                             [--peers SSD_PYTORCH_CHECKOUT] [--json FILE] [--write docs/benchmarks.md]

Each row lives in a file of its own and can be run alone. Every row measures its peers in the same run: torchvision
where it can be imported, an ssd.pytorch checkout given by ``--peers``, else plain "reference forms". Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from blocks import describe, render, replace_blocks
from common import Measured, NotAvailableError, Settings, add_arguments, machine, settings_of, show, write_json
from singleshot.errors import SingleshotError

ROWS = (
    "forward",
    "loss",
    "postprocess",
    "augment",
    "train_step",
    "end_to_end",
    "memory",
    "metrics_scale",
    "golden_mxnet",
)
"""Files of this folder that have a ``measure_row``, in the order of the table."""


def measure(name: str, settings: Settings) -> list[Measured]:
    """Measure one row.

    Raises:
        NotAvailableError: it needs what is not here.
    """
    if not (Path(__file__).parent / f"{name}.py").is_file():
        raise NotAvailableError(f"there is no benchmarks/{name}.py")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise NotAvailableError(str(error)) from error
    if not hasattr(module, "measure_row"):
        raise NotAvailableError(f"benchmarks/{name}.py has no measure_row")
    return module.measure_row(settings)


def measure_all(names: list[str], settings: Settings) -> tuple[dict[str, list[Measured]], dict[str, str]]:
    """The lines of each row, and why others are missing."""
    measured: dict[str, list[Measured]] = {}
    missing: dict[str, str] = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            measured[name] = measure(name, settings)
        except (NotAvailableError, SingleshotError) as error:
            missing[name] = str(error)
    return measured, missing


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--write", type=Path, help="Markdown file whose marked blocks are replaced")
    options = parser.parse_args(arguments)
    names = [name for given in options.rows for name in given.split(",") if name]
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--rows: no '{unknown[0]}'; choose from {', '.join(ROWS)}")
    settings = settings_of(options)
    measured, missing = measure_all(names, settings)
    lines = [line for rows in measured.values() for line in rows]
    show(lines, missing)
    if options.json:
        write_json(options.json, settings, lines, missing)
    if options.write:
        blocks = {"machine": describe(machine(settings.threads))}
        replace_blocks(options.write, blocks | {name: render(rows) for name, rows in measured.items()})


if __name__ == "__main__":
    main()
