"""``train.log``: what a run says, each line with its time."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

from rich.console import Console

WIDTH = 10_000


class Transcript:
    """What is said goes to the screen and into a file.

    Args:
        screen: the console of the run.
        path: the file; lines are added, whatever is there.

    Attributes:
        screen: as given.
        log: a console that writes to the file alone.
    """

    def __init__(self, screen: Console, path: Path) -> None:
        self.screen = screen
        self._file = _TimedFile(path)
        self.log = Console(file=self._file, width=WIDTH, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]

    def say(self, said: Any, **style: Any) -> None:
        """Print to both."""
        self.screen.print(said, **style)
        self.log.print(said, **style)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _TimedFile(io.TextIOBase):
    """Puts the time before every line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
        self._begins = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            if self._begins:
                self._file.write(time.strftime("%Y-%m-%d %H:%M:%S  "))
            self._file.write(line)
            self._begins = line.endswith("\n")
        self._file.flush()
        return len(text)

    def close(self) -> None:
        self._file.close()
        super().close()
