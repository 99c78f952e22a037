"""``singleshot demo``: the package detects in real photos and learns new classes, in one report. Needs no network.

The demo is a row of stages. A stage is a function of `DemoContext` that returns a `StageResult`: what it adds to the
report, and what the user should open and try next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from singleshot.demo.common import DemoContext, StageResult
from singleshot.errors import OutputError
from singleshot.report.page import Section, write_page

MARK = ".singleshot-demo"
"""An empty file that tells a demo's folder from a user's own."""

Stage = Callable[[DemoContext], StageResult]


def stages(learn: bool = True) -> tuple[Stage, ...]:
    """All stages, in their order; the one that takes minutes only with ``learn``."""
    from singleshot.demo.detect import detect_photos
    from singleshot.demo.learn import learn_scenes

    return (detect_photos, learn_scenes) if learn else (detect_photos,)


def run_demo(out: Path, console: Console | None = None, run: Sequence[Stage] | None = None) -> Path:
    """Run all stages and write ``report.html``.

    Args:
        out: folder for the results; made when it is missing.
        console: where to tell what happens; standard output by default.
        run: other stages than `stages`.

    Returns:
        The report.

    Raises:
        MissingExtraError: the extra ``demo`` is not installed.
        OutputError: the folder holds something else than a former demo.
    """
    context = DemoContext(out, console or Console(highlight=False))
    _claim(out)
    results = [stage(context) for stage in (stages() if run is None else run)]
    sections: list[Section] = [section for result in results for section in result.sections]
    report = write_page(
        out / "report.html", "singleshot demo", sections, subtitle="Everything here ran on this machine."
    )
    _print_ending(context, report, results)
    return report


def _claim(out: Path) -> None:
    """Make the folder, or take that of a former demo, whose results are replaced; any other is the user's own."""
    if out.exists() and not (out.is_dir() and ((out / MARK).exists() or not any(out.iterdir()))):
        raise OutputError(f"{out}: holds something else than a former demo: name another `out`, or move it away")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def _print_ending(context: DemoContext, report: Path, results: Sequence[StageResult]) -> None:
    say = context.say
    say("\n[bold]Open[/bold]")
    for path in (report, *(path for result in results for path in result.files)):
        say(f"  {escape(str(path))}")
    say("\n[bold]Try next[/bold]")
    for command in (command for result in results for command in result.commands):
        say(f"  {escape(command)}")
