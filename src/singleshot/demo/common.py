"""What the stages of the demo share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from singleshot.report.page import Section


@dataclass(frozen=True, slots=True)
class DemoContext:
    """What a stage works with.

    Attributes:
        out: folder for its results.
        console: for progress bars and tables.
    """

    out: Path
    console: Console

    def say(self, line: str) -> None:
        """Print a line with Rich's markup; paths and commands are never wrapped."""
        self.console.print(Text.from_markup(line), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage leaves behind.

    Attributes:
        sections: its part of the report.
        files: files and folders to open, besides the report.
        commands: what to try next.
    """

    sections: Sequence[Section] = ()
    files: Sequence[Path] = ()
    commands: Sequence[str] = ()
