"""The ``singleshot`` command: one file per verb.

A verb is a typed function (or a ``typer.Typer`` of several) in ``cli/<verb>.py`` and one line in ``VERBS``; a class
``Command`` beside it reads its arguments. Its file
imports only typer and light modules at the top; torch and friends are imported inside the function, so ``--help``
stays quick. A user's mistake is raised as a ``SingleshotError`` and printed here as one message, exit code 2.
"""

from __future__ import annotations

import logging
import os
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from singleshot.cli.console import discard_output, error_text, in_flags, prepare_streams, running
from singleshot.cli.signals import end_like_ctrl_c, interrupt_code
from singleshot.core.lazy import torch_error
from singleshot.core.shortage import is_shortage, shortage
from singleshot.errors import SingleshotError

# Verb -> where its function or Typer lives, in the order of ``singleshot --help``.
VERBS = {
    "data": "singleshot.cli.data:data",
    "browse": "singleshot.cli.browse:browse",
    "demo": "singleshot.cli.demo:demo",
    "train": "singleshot.cli.train:train",
    "tune": "singleshot.cli.tune:tune",
    "models": "singleshot.cli.models:models",
    "explain": "singleshot.cli.explain:explain",
    "anchors": "singleshot.cli.anchors:anchors",
    "doctor": "singleshot.cli.doctor:doctor",
    "predict": "singleshot.cli.predict:predict",
    "eval": "singleshot.cli.eval:evaluate",
    "import": "singleshot.cli.import_:import_",
    "quantize": "singleshot.cli.quantize:quantize",
    "export": "singleshot.cli.export:export",
    "serve": "singleshot.cli.serve:serve",
    "benchmark": "singleshot.cli.benchmark:benchmark",
}


class Verbs(TyperGroup):
    """Imports a verb when it is asked for, and prints users' mistakes without a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the verbs, in their order."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb called ``cmd_name``."""
        if cmd_name not in VERBS:
            near = get_close_matches(cmd_name, VERBS, n=1)
            ctx.fail(f"No verb '{cmd_name}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        module, attribute = VERBS[cmd_name].split(":")
        home = import_module(module)
        verb = getattr(home, attribute)
        if not isinstance(verb, typer.Typer):
            function, verb = (
                verb,
                typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"),
            )
            verb.command(cmd_name, cls=getattr(home, "Command", None))(function)
        command = typer.main.get_command(verb)
        command.name = cmd_name
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--debug`` is understood before and after the verb."""
        words = args[: args.index("--")] if "--" in args else args
        if "--debug" in words:
            args = ["--debug", *(word for word in words if word != "--debug"), *args[len(words) :]]
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; mistakes of the user and of the file system end with exit code 2, Ctrl-C with 130."""
        before = running.set(ctx)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            if os.environ.get("RANK", "0") == "0":  # of several processes the first one says it
                typer.echo("Interrupted.", err=True)
            raise typer.Exit(interrupt_code(error)) from error
        except ModuleNotFoundError as error:
            if not torch_error(error) or ctx.params.get("debug"):
                raise
            _print_error(torch_error(error, f"'singleshot {ctx.invoked_subcommand}'") or error)
            raise typer.Exit(2) from error
        except (SingleshotError, OSError) as error:
            if ctx.params.get("debug") or isinstance(error, BrokenPipeError):
                raise
            _print_error(error)
            raise typer.Exit(2) from error
        except Exception as error:
            if ctx.params.get("debug") or not is_shortage(error):
                raise
            _print_error(SingleshotError(f"{shortage(error)}: end other programs, or ask for less at once"))
            raise typer.Exit(2) from error
        finally:
            running.reset(before)


def _print_error(error: Exception) -> None:
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(error_text(error), err=True)


app = typer.Typer(
    name="singleshot",
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from singleshot.version import __version__

        typer.echo(f"singleshot {__version__}")
        raise typer.Exit


@app.callback()
def _singleshot(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Single-shot object detectors: predict, train, evaluate, import, ship."""
    _show_log()


class _ToStderr(logging.Handler):
    """Prints what the library logs: that kernels are compiled, that a damaged file is not used."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(in_flags(record.getMessage()), err=True)


def _show_log() -> None:
    logger = logging.getLogger("singleshot")
    if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
        logger.addHandler(_ToStderr())
        logger.setLevel(logging.WARNING)  # whatever libraries that are imported later do to the root's level
    logging.getLogger("singleshot.kernels").setLevel(logging.INFO)


def main() -> None:
    """Run the command line."""
    prepare_streams()
    end_like_ctrl_c()
    try:
        app()
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # nobody reads any more (`| head`)
            discard_output()
