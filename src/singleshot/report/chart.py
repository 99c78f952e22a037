"""A sheet for a chart: its size, style and axes, and SVG bytes whose text follows the page's theme."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError
from singleshot.report.probes import probes_svg

if TYPE_CHECKING:
    import matplotlib.axes as axes_module
else:
    axes_module = lazy_module("matplotlib.axes")


PALETTE = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#ec4899", "#84cc16", "#a16207", "#64748b")
"""Colours that can be read on white and on black."""

INK = "#010203"
"""Stands for ``currentColor``, which matplotlib does not know, until the SVG is finished."""

PX_PER_INCH = 96
"""CSS pixels. A chart is drawn as wide as a page shows it, so letters keep their size: 8 points are 10.7 pixels."""

PAGE_PX, COLUMN_PX = 1070, 520
"""Width of a report's page, and of a column where two stand side by side."""

LONGEST_NAME = 28
"""Letters of a class name that a chart has room for."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "singleshot",
    "text.parse_math": False,
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}


def shown_name(name: str) -> str:
    """A name as a chart shows it: not too long, and never hidden, as matplotlib hides names that begin with ``_``."""
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return f"\u200b{short}" if short.startswith("_") else short


@contextmanager
def chart(width_px: float, height_px: float) -> Iterator[tuple[axes_module.Axes, io.BytesIO]]:
    """Fresh axes without pyplot's global state; what was drawn is in the buffer after the block."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", "a chart") from error
    out = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the browser has its own fonts
        figure = Figure(figsize=(width_px / PX_PER_INCH, height_px / PX_PER_INCH), layout="constrained")
        yield figure.add_subplot(), out
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        probes = probes_svg(figure).replace(f'"{INK}"', '"currentColor"')
    text = out.getvalue().replace(f": {INK}".encode(), b": currentColor")  # in styles, not in names
    text = text[: text.rindex(b"</svg>")] + probes.encode() + b"</svg>\n"
    out.seek(0)
    out.truncate()
    out.write(text)


def decades(axes: axes_module.Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log", subs=[])
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")


def finish(
    axes: axes_module.Axes,
    x_label: str,
    y_label: str,
    title: str,
    x_range: tuple[float, float] | None,
    y_range: tuple[float, float] | None,
) -> None:
    """Labels, grid and limits; ``None`` fits the data."""
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(visible=True)
    if x_range:
        axes.set_xlim(*x_range)
    if y_range:
        axes.set_ylim(*y_range)
