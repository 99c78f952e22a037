"""What every verb prints with: names are shown as they are, tables whole, and no output error ends the work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from singleshot.core.wording import printable

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough for any table: only a terminal has an edge.
_NO_EDGE = 10_000


def open_console(*, stderr: bool = False) -> Console:
    """A console that cuts nothing where it is no terminal, and takes no ``[...]`` in names for its markup."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _NO_EDGE
    return console


def print_note(console: Console, text: str) -> None:
    """A line that should not be overlooked."""
    from rich.text import Text

    console.print(Text("Note: ", "yellow").append(text, "default"), soft_wrap=True)


def shown(text: object) -> str:
    """A file's name, or a message with one, on one line: what would move the cursor is written as an escape."""
    return printable(text, one_line=True)


def in_options(text: str, options: Mapping[str, str]) -> str:
    """A message of the library in the words of a command line.

    The library writes arguments as ``device='cuda'``, ``compile=True`` and ``(overwrite)``, which here are
    ``--device cuda``, ``--compile`` and ``(--overwrite)``.

    Args:
        text: the message.
        options: of the verb that runs, by the names of their arguments in Python.
    """

    def as_option(match: re.Match[str]) -> str:
        name, is_true, value = match["argument"] or match["mentioned"], match["true"], match["value"]
        if name not in options:
            return match[0]
        if match["mentioned"]:
            return f"({options[name]})"
        return options[name] if is_true else f"{options[name]} {value}"

    pattern = r"\b(?P<argument>[a-z_]+)=(?:(?P<true>True\b)|'(?P<value>[^']*)')|\((?P<mentioned>[a-z_]+)\)"
    return re.sub(pattern, as_option, text)


def prepare_streams() -> None:
    """Make standard output and error take any text: what their encoding lacks becomes an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, or a program without a console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Write nothing more to a pipe that was closed: what is left over would be reported at the end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
