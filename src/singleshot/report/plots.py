"""Charts as SVG bytes for a report page or a file. Text and axes use ``currentColor``: they follow the page's theme.

Every function takes plain numbers, so training, evaluation and the demo can all use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from singleshot.report.chart import COLUMN_PX, INK, PAGE_PX, PALETTE, chart, decades, finish, shown_name

Series = Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]]
"""Lines by name: x values and y values. NaN breaks a line."""

FULL_COLOUR_FROM = 5
"""Objects that a row of a confusion matrix needs for the full colour."""

MOST_NAMED_LINES = 10
"""More lines than this get no legend: nobody can tell their colours apart."""


def line_chart(
    series: Series,
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    emphasis: str | None = None,
) -> bytes:
    """Lines over a common x axis.

    Args:
        series: lines by name.
        x_label, y_label, title: texts.
        x_range, y_range: limits of the axes; ``None`` fits the data.
        emphasis: name of a line drawn strongly in the text colour, above the others.

    Returns:
        SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with chart(COLUMN_PX, 340) as (axes, out):
        many = len(series) > MOST_NAMED_LINES
        for index, (name, (x, y)) in enumerate(series.items()):
            strong = name == emphasis
            colour = INK if strong else PALETTE[index % len(PALETTE)]
            named = strong or not many
            width = 2.2 if strong else 0.9 if many else 1.6
            alpha = 1.0 if named else 0.55
            axes.plot(
                x,
                y,
                color=colour,
                linewidth=width,
                alpha=alpha,
                label=shown_name(name) if named else None,
                zorder=3 if strong else 2,
            )
        finish(axes, x_label, y_label, title, x_range, y_range)
        if series and (not many or emphasis in series):
            axes.legend(loc="best")
    return out.getvalue()


def training_curve(
    losses: Series,
    scores: Series | None = None,
    *,
    x_label: str = "step",
    y_label: str = "loss",
    score_label: str = "AP",
) -> bytes:
    """Losses over training, on a logarithmic scale, with scores of evaluations on a second axis.

    Args:
        losses: lines of losses (or of something else that is positive) by name; other values are left out.
        scores: lines of scores in 0..1 by name, over the same x values.
        x_label, y_label, score_label: texts.

    Returns:
        SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with chart(PAGE_PX, 400) as (axes, out):
        colours = iter(PALETTE * (1 + (len(losses) + len(scores or {})) // len(PALETTE)))
        for name, (x, y) in losses.items():
            values = np.asarray(y, dtype=float)
            axes.plot(x, np.where(values > 0, values, np.nan), color=next(colours), label=shown_name(name))
        if losses:
            decades(axes)
        finish(axes, x_label, y_label, "", None, None)
        handles, labels = axes.get_legend_handles_labels()
        if scores:
            right = axes.twinx()
            for name, (x, y) in scores.items():
                right.plot(
                    x, y, color=next(colours), marker="o", markersize=3.5, linestyle="--", label=shown_name(name)
                )
            right.set(ylim=(0, 1), ylabel=score_label)
            right.spines["right"].set_visible(True)
            more = right.get_legend_handles_labels()
            handles, labels = handles + more[0], labels + more[1]
        if handles:
            axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=min(len(handles), 6))
    return out.getvalue()


def pr_curves(series: Series, *, title: str = "", emphasis: str | None = None) -> bytes:
    """Precision over recall, one line per class."""
    return line_chart(
        series, x_label="recall", y_label="precision", title=title, x_range=(0, 1), y_range=(0, 1.02), emphasis=emphasis
    )


def f1_curves(series: Series, *, title: str = "", emphasis: str | None = None) -> bytes:
    """F1 over the score threshold, one line per class."""
    return line_chart(
        series,
        x_label="score threshold",
        y_label="F1",
        title=title,
        x_range=(0, 1),
        y_range=(0, 1.02),
        emphasis=emphasis,
    )


def threshold_curves(series: Series) -> bytes:
    """Precision, recall and F1 over the score threshold."""
    return line_chart(series, x_label="score threshold", y_label="share", x_range=(0, 1), y_range=(0, 1.02))


def score_histogram(right: np.ndarray, wrong: np.ndarray, *, bins: int = 40) -> bytes:
    """How many right and wrong detections have which score, on a logarithmic scale.

    Args:
        right: scores of true positives.
        wrong: scores of false positives.
        bins: bars between 0 and 1.

    Returns:
        SVG.
    """
    with chart(COLUMN_PX, 340) as (axes, out):
        edges = np.linspace(0, 1, bins + 1)
        for scores, name, colour in ((wrong, "wrong", PALETTE[3]), (right, "right", PALETTE[2])):
            counts, _ = np.histogram(scores, edges)
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.45, label=f"{name} ({len(scores):,})")
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        finish(axes, "score", "detections", "", (0, 1), None)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=2)
    return out.getvalue()


def matrix_width_px(size: int) -> int:
    """How wide a confusion matrix of ``size`` names is to be shown."""
    return int(np.clip(240 + 36 * size, 360, PAGE_PX))


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> bytes:
    """Objects by true class (rows) and detected class (columns), coloured by their share of the row's objects.

    A row of few objects stays pale, and false alarms are compared with the objects of the largest class: one of them
    is no full row.

    Args:
        counts: ``[N, N]``, background as the last row and column.
        names: ``N`` names.

    Returns:
        SVG. Up to 24 names the cells show their counts.
    """
    size = len(names)
    width_px = matrix_width_px(size)
    height_px = max(width_px * 0.92, 180 + 15 * size)
    with chart(width_px, height_px) as (axes, out):
        shares = counts / _row_scale(counts)[:, None]
        colour = np.array([int(PALETTE[0][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        cells = np.concatenate([np.broadcast_to(colour, (size, size, 3)), 0.9 * np.sqrt(shares)[..., None]], axis=2)
        axes.imshow(cells, interpolation="nearest", aspect="auto")
        upright = size > 6
        labels = [shown_name(name) for name in names]
        axes.set_xticks(range(size), labels, rotation=90 if upright else 30, ha="center" if upright else "right")
        axes.set_yticks(range(size), labels)
        axes.set(xlabel="detected as", ylabel="labelled as")
        axes.tick_params(length=0, labelsize=8)
        if size <= 24:
            for row, column in zip(*np.nonzero(counts), strict=True):
                axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8)
    return out.getvalue()


def _row_scale(counts: np.ndarray) -> np.ndarray:
    """The count of each row that gets the full colour, ``[N]``."""
    sums = counts.sum(axis=1)
    sums[-1] = max(sums.max(), FULL_COLOUR_FROM)
    return np.asarray(np.maximum(sums, FULL_COLOUR_FROM))
