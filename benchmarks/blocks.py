"""Measured rows as blocks of a Markdown file, each between two marks, so that a run replaces just what it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from common import Measured
from singleshot.core.files import write_atomically

HEAD = "| contender | median | spread | ratio | goal | of peak |\n|---|---|---|---|---|---|"


def render(lines: Sequence[Measured]) -> str:
    """A table and its notes for each row of one benchmark."""
    parts = []
    for row, group in groupby(lines, key=lambda line: line.row):
        measured = list(group)
        table = "\n".join([HEAD, *(_cells(line) for line in measured)])
        notes = "\n".join(f"- {line.contender}: {line.note}" for line in measured if line.note)
        parts += [f"**{row}**", table, *([notes] if notes else [])]
    return "\n\n".join(parts)


def _cells(line: Measured) -> str:
    cells = (
        line.contender,
        f"{line.median:,.4g} {line.unit}",
        f"{line.spread:.0%}",
        "" if line.ratio is None else f"**{line.ratio:.2f}x**",
        "" if line.goal is None else f"{line.goal:g}x",
        "" if line.share_of_peak is None else f"{line.share_of_peak:.0%}",
    )
    return f"| {' | '.join(cells)} |"


def describe(machine: Mapping[str, Any]) -> str:
    """Hardware and versions in a sentence."""
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items() if value != "not installed")
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, load {machine['load_average']:.1f} "
        f"at the end; Python {machine['python']}, {versions}."
    )


def replace_blocks(path: Path, blocks: Mapping[str, str]) -> None:
    """Put each block between its marks, ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        ValueError: the file has no such marks; nothing is written.
    """
    text = path.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"{path}: no {begin} ... {end}")
        text = f"{before}{begin}\n\n{block}\n\n{end}{after}"
    write_atomically(path, text.encode())
