"""What every verb prints with: names are shown as they are, tables whole, and no output error ends the work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from singleshot.core.wording import printable

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough for any table: only a terminal has an edge.
_NO_EDGE = 10_000

# A setting as messages of the library write it: `out`, `resume=True`, backend='onnx', (overwrite).
_SETTING = re.compile(
    r"`(?P<quoted>[a-z][a-z_]*)(?:=(?P<any>[^`\n]*))?`"
    r"|\b(?P<argument>[a-z][a-z_]*)=(?P<value>True\b|False\b|'[^'\n]*')|\((?P<mentioned>[a-z_]+)\)"
)

running: ContextVar[Any] = ContextVar("running", default=None)
"""The click context of the command that runs, if one does."""


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

    console.print(Text("Note: ", "yellow").append(in_flags(text), "default"), soft_wrap=True)


def options_of(command: Any) -> dict[str, tuple[str, ...]]:
    """The flags of a verb, and of its own verbs, by the name of the setting: the last one says no, if there are two.

    Args:
        command: a click command or group.
    """
    found: dict[str, tuple[str, ...]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            longest = max(parameter.opts, key=len)
            found[parameter.name] = (longest, *parameter.secondary_opts[:1]) if parameter.is_flag else (longest,)
            if parameter.is_flag and len(found[parameter.name]) == 1:
                found[parameter.name] = (longest, "")
    for inner in getattr(command, "commands", {}).values():
        found = options_of(inner) | found
    return found


def running_options() -> dict[str, tuple[str, ...]]:
    """Flags of the verb that runs, by the name of the setting."""
    context = running.get()
    verb = context.invoked_subcommand if context is not None else None
    return options_of(context.command.get_command(context, verb)) if verb else {}


def in_flags(text: str, options: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """A message of the library in the words of a command line: `` `out` `` becomes ``--out``.

    Args:
        text: settings stand in backticks, with or without a value as Python writes it.
        options: of the verb, by `options_of`; by default those of the verb that runs. What is none of them goes by
            ``--set`` where the verb has it, and stays as it is where not.
    """
    known = running_options() if options is None else options

    def flag(found: re.Match[str]) -> str:
        name = found["quoted"] or found["argument"] or found["mentioned"]
        value = (found["any"] or found["value"] or "").strip("'\"")
        if name in known:
            yes, *no = known[name]
            if no and value in ("", "True", "False"):
                text = yes if value != "False" else no[0] or f"no {yes}"
            else:
                text = f"{yes} {value}".rstrip()
            return f"({text})" if found["mentioned"] else text
        if "set_" in known and found["quoted"]:
            return f"--set {name}={value or '...'}"
        return found[0]

    return _SETTING.sub(flag, text)


def shown(text: object) -> str:
    """A file's name, or a message with one, on one line: what would move the cursor is written as an escape."""
    return printable(text, one_line=True)


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
