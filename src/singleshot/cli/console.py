"""What every verb prints with: names are shown as they are, tables whole, and no output error ends the work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from singleshot.core.wording import printable
from singleshot.errors import SingleshotError

# Wide enough for any table: only a terminal has an edge.
_NO_EDGE = 10_000

# A setting as messages of the library write it: `out`, `resume=True`, `backend='onnx'`.
_SETTING = re.compile(r"`(?P<name>[a-z][a-z_]*|[a-z_]+(?:\.[a-z_]+)+(?==))(?:=(?P<value>[^`\n]*))?`")

running: ContextVar[Any] = ContextVar("running", default=None)
"""The click context of the command that runs, if one does."""


def open_console(*, stderr: bool = False) -> Console:
    """A console that says flags, cuts nothing where it is no terminal, and takes nothing in names for more than text:
    ``[...]`` is no markup, and what would move the cursor is written as an escape.
    """
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class FlagConsole(Console):
        def render_str(self, text: str, **style: Any) -> Text:
            return super().render_str(printable(in_flags(text)), **style)

        def render(self, *parts: Any, **options: Any) -> Iterator[Segment]:
            for segment in super().render(*parts, **options):
                text = segment.text if segment.control else printable(segment.text)
                yield segment if text == segment.text else Segment(text, segment.style)

        def print(self, *objects: Any, **style: Any) -> None:
            try:
                super().print(*(_text_in_flags(item) if isinstance(item, Text) else item for item in objects), **style)
            except BrokenPipeError:  # rich before 13.8 asks nobody
                self.on_broken_pipe()

        def on_broken_pipe(self) -> None:  # `| head` has read enough: the work goes on without words
            self.quiet = True
            discard_output(sys.stderr if stderr else sys.stdout)

    console = FlagConsole(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _NO_EDGE
    return console


def print_note(console: Console, text: str) -> None:
    """A line that should not be overlooked."""
    from rich.text import Text

    console.print(Text("Note: ", "yellow").append(text, "default"), soft_wrap=True)


def options_of(command: Any) -> dict[str, tuple[str, ...]]:
    """The flags of a verb, and of its own verbs, by the name of the setting: the last one says no, if there are two.

    Args:
        command: a click command or group.
    """
    found: dict[str, tuple[str, ...]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            first = next((flag for flag in parameter.opts if flag.startswith("--")), parameter.opts[0])
            no = (*parameter.secondary_opts, "")[:1] if parameter.is_flag else ()
            found[parameter.name] = (first, *no)
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
        options: of the verb, by `options_of`; by default those of the verb that runs. Another setting of `train` goes
            by ``--set`` where the verb has it; everything else stays as it is.
    """
    if not _SETTING.search(text):  # as nearly always: to know a verb's flags takes tens of milliseconds
        return text
    known = running_options() if options is None else options
    return _SETTING.sub(lambda found: _flag(found, known), text)


def _flag(found: re.Match[str], known: Mapping[str, tuple[str, ...]]) -> str:
    name, value = found["name"], (found["value"] or "").strip("'\"")
    if name in known:
        yes, *no = known[name]
        if no and value in ("", "True", "False"):
            return yes if value != "False" else no[0] or f"no {yes}"
        return f"{yes} {value}".rstrip()
    setting = _training_setting(name) if "set_" in known else ""
    return f"--set {setting}={value or '...'}" if setting else found[0]


def _training_setting(name: str) -> str:
    """The key by which ``--set`` knows a setting of `train`; empty where it is none."""
    from singleshot.training.config import TrainConfig
    from singleshot.training.data_config import DataConfig

    if name.partition(".")[0] in TrainConfig.model_fields:
        return name
    return f"data.{name}" if name in DataConfig.model_fields else ""


def _text_in_flags(text: Text) -> Text:
    """`in_flags`, styles kept."""
    if not _SETTING.search(text.plain):
        return text
    known, done, end = running_options(), text.blank_copy(), 0
    for found in _SETTING.finditer(text.plain):
        done.append_text(text[end : found.start()]).append(_flag(found, known))
        end = found.end()
    return done.append_text(text[end:])


def split_names(options: Sequence[str] | None) -> list[str] | None:
    """Names from options such as ``person,dog``; ``None`` where the option was not given."""
    if not options:
        return None
    return [name for option in options for part in option.split(",") if (name := part.strip())]


def shown(text: object) -> str:
    """A file's name, or a message with one, on one line: what would move the cursor is written as an escape."""
    return printable(text, one_line=True)


def error_text(error: Exception) -> str:
    """What an error says, in the words of a command line; names in it move no cursor."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, SingleshotError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return "\n".join(shown(line) for line in in_flags(text).split("\n"))


def prepare_streams() -> None:
    """Make standard output and error take any text: what their encoding lacks becomes an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, or a program without a console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_output(stream: IO[str] | None = None) -> None:
    """Write nothing more to a stream whose pipe was closed: what is left over would be reported at the end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())
    except (OSError, ValueError):
        return
