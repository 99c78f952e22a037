"""docs/export.md: which detector goes into which format, told by the formats themselves.

``python tests/export/test_export_table.py`` writes the table anew.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from singleshot.errors import ConfigError, MissingExtraError
from singleshot.export.writers import WRITERS, ExportWish, plan_export
from singleshot.models.catalogue import MODELS, model_spec

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
START = "<!-- written by tests/export/test_export_table -->\n"
CLASSES = ("a", "b")


def cell(name: str, format: str) -> str:
    """Levels of a detector in a format, or why there is none."""
    levels, reason = [], ""
    for level in WRITERS.get(format).levels:
        try:
            plan_export(model_spec(name, CLASSES), ExportWish(format, level))
        except ConfigError as error:
            reason = str(error)
            continue
        except MissingExtraError:  # asked last: the detector fits
            pass
        levels.append(level)
    return ", ".join(levels) or reason


def table() -> str:
    """One row for detectors of a family that go into the same."""
    formats = WRITERS.names()
    rows = [(MODELS.get(name).family, *(cell(name, kind) for kind in formats), name) for name in MODELS.names()]
    lines = [f"| | {' | '.join(formats)} |", "|---" * (len(formats) + 1) + "|"]
    for cells, same in groupby(rows, key=lambda row: row[:-1]):
        names = [row[-1] for row in same]
        named = f"`{names[0]}`" + (f" ... `{names[-1]}` ({len(names)})" if len(names) > 1 else "")
        lines.append(f"| {cells[0]}: {named} | {' | '.join(cells[1:])} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(START)
    end = after.index("\n\n") + 1 if after.startswith("|") else 0
    return before, after[:end], after[end:]


def test_the_page_has_the_table() -> None:
    assert parts()[1] == table()


if __name__ == "__main__":
    before, _, after = parts()
    PAGE.write_text(before + START + table() + after, encoding="utf-8")
