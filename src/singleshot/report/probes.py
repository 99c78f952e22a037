"""Values of a chart's lines that a page shows under the pointer, without a script.

They are drawn unseen, and CSS reveals them. Elsewhere (a file on its own, print) they stay unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.core.wording import printable

if TYPE_CHECKING:
    import matplotlib.axes as axes_module
    import matplotlib.figure as figure_module
    import matplotlib.lines as lines_module
else:
    axes_module = lazy_module("matplotlib.axes")
    figure_module = lazy_module("matplotlib.figure")
    lines_module = lazy_module("matplotlib.lines")

COUNT = 41
"""Places along the x axis that have values."""

LETTER_PT, ROW_PT, PAD_PT = 9.0, 12.0, 6.0
LETTER_SHARE = 0.56
"""Width of a usual letter as a share of its height."""


class _Point(NamedTuple):
    name: str
    colour: str
    value: float
    x: float
    y: float


def probes_svg(figure: figure_module.Figure) -> str:
    """SVG elements to put at the end of a drawn figure's: for each place of the x axis its values, unseen.

    Only lines with a name in the legend have values; NaN has none.

    Args:
        figure: its layout is final: it was drawn.
    """
    lines = [(axes, line) for axes in figure.axes for line in axes.get_lines() if str(line.get_label())[:1] != "_"]
    if not lines:
        return ""
    first = figure.axes[0]
    low, high = first.get_xlim()
    places = np.linspace(low, high, COUNT)
    edges = np.concatenate([places[:1], (places[1:] + places[:-1]) / 2, places[-1:]])
    boxes = [
        _probe(figure, first, place, edges[at : at + 2], list(_points(figure, lines, place)))
        for at, place in enumerate(places)
    ]
    return "".join(boxes)


def _points(
    figure: figure_module.Figure, lines: Iterable[tuple[axes_module.Axes, lines_module.Line2D]], place: float
) -> Iterator[_Point]:
    for axes, line in lines:
        x, y = (np.asarray(values, dtype=float) for values in line.get_data())
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        order = np.argsort(x, kind="stable")
        if len(x) and x[order[0]] <= place <= x[order[-1]]:
            value = float(np.interp(place, x[order], y[order]))
            at = _in_points(figure, axes, place, value)
            yield _Point(str(line.get_label()), str(line.get_color()), value, *at)


def _in_points(figure: figure_module.Figure, axes: axes_module.Axes, x: float, y: float) -> NDArray[np.float64]:
    """Data coordinates as the SVG's: 72 to the inch, from the upper left."""
    share = axes.transData.transform((x, y)) / figure.bbox.size
    width, height = 72 * figure.get_size_inches()
    return np.array([share[0] * width, (1 - share[1]) * height])


def _probe(
    figure: figure_module.Figure, axes: axes_module.Axes, place: float, edges: NDArray[np.float64], points: list[_Point]
) -> str:
    if not points:
        return ""
    left, right = (_in_points(figure, axes, float(edge), axes.get_ylim()[0]) for edge in edges)
    x, bottom = _in_points(figure, axes, place, axes.get_ylim()[0])
    top = _in_points(figure, axes, place, axes.get_ylim()[1])[1]
    rows = [("currentColor", f"{axes.get_xlabel()} {place:.4g}")]
    rows += [(point.colour, f"{point.name} {point.value:.3g}") for point in points]
    width = LETTER_SHARE * LETTER_PT * max(len(text) for _, text in rows) + 2 * PAD_PT + 8
    text_x = x + 8 if x + 8 + width < 72 * figure.get_size_inches()[0] else x - 8 - width
    dots = "".join(f'<circle cx="{p.x:.1f}" cy="{p.y:.1f}" r="2.5" fill="{p.colour}"/>' for p in points)
    words = "".join(_row(text_x + PAD_PT, top + PAD_PT + ROW_PT * at, *row) for at, row in enumerate(rows))
    line = f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="currentColor" stroke-width="0.7" stroke-opacity="0.5"/>'
    return (
        f'<g class="probe" opacity="0"><rect x="{left[0]:.1f}" y="{top:.1f}" width="{right[0] - left[0]:.1f}" '
        f'height="{bottom - top:.1f}" fill="currentColor" fill-opacity="0"/><g pointer-events="none">{line}{dots}'
        f'<rect class="card" x="{text_x:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{ROW_PT * len(rows) + 2 * PAD_PT:.1f}" rx="4"/>{words}</g></g>'
    )


def _row(x: float, y: float, colour: str, text: str) -> str:
    """A line of text, behind a dot of its colour."""
    words = escape(printable(text, one_line=True))
    dot = "" if colour == "currentColor" else f'<circle cx="{x + 3:.1f}" cy="{y + 6:.1f}" r="3" fill="{colour}"/>'
    return (
        f'{dot}<text x="{x + 10 * bool(dot):.1f}" y="{y + 9.4:.1f}" fill="currentColor" '
        f'style="font-size: {LETTER_PT:g}px">{words}</text>'
    )
