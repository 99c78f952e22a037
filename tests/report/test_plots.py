from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from defusedxml import ElementTree

from singleshot.report import chart, plots

LINE = np.linspace(0, 1, 5)


def texts(svg: bytes) -> set[str]:
    return {
        "".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")
    }


@pytest.mark.parametrize(
    "svg",
    [
        pytest.param(lambda: plots.pr_curves({}), id="no classes"),
        pytest.param(lambda: plots.f1_curves({"dog": (LINE, LINE)}), id="one class"),
        pytest.param(lambda: plots.pr_curves({str(i): (LINE, LINE) for i in range(80)}), id="80 classes"),
        pytest.param(lambda: plots.threshold_curves({"a": (LINE, LINE * np.nan)}), id="nothing but NaN"),
        pytest.param(lambda: plots.training_curve({}), id="no training"),
        pytest.param(lambda: plots.training_curve({"total": ([1, 2], [0.0, np.nan])}), id="no positive loss"),
        pytest.param(lambda: plots.training_curve({"total": ([1], [2.0])}, {"AP50": ([1], [0.5])}), id="one step"),
        pytest.param(lambda: plots.score_histogram(np.zeros(0), np.zeros(0)), id="no detections"),
        pytest.param(lambda: plots.confusion_matrix(np.zeros((1, 1), int), ["background"]), id="no confusion"),
        pytest.param(
            lambda: plots.confusion_matrix(np.eye(70, dtype=int), [f"c{i}" for i in range(70)]), id="70 classes"
        ),
    ],
)
def test_draws_a_theme_following_svg(svg: Callable[[], bytes]) -> None:
    data = svg()
    assert ElementTree.fromstring(data).tag.endswith("svg")
    assert b"currentColor" in data
    assert chart.INK.encode() not in data


def test_names_are_in_the_legend_and_stay_text() -> None:
    shown = texts(plots.pr_curves({"cat & <dog>": (LINE, LINE), "a $x^2$": (LINE, LINE)}))
    assert {"cat & <dog>", "a $x^2$", "recall", "precision"} <= shown


def test_many_lines_name_only_the_emphasised_one() -> None:
    lines = {f"class {i}": (LINE, LINE) for i in range(30)} | {"mean": (LINE, LINE)}
    shown = texts(plots.pr_curves(lines, emphasis="mean"))
    assert "mean" in shown
    assert not any(text.startswith("class") for text in shown)


def test_confusion_shows_counts_and_names() -> None:
    assert {"dog", "background", "1,234"} <= texts(plots.confusion_matrix(np.diag([1234, 0]), ["dog", "background"]))


def test_logarithmic_axes_have_plain_numbers() -> None:
    shown = texts(plots.training_curve({"total": ([1, 2, 3], [10.0, 1.0, 0.1])}))
    assert {"0.1", "1", "10"} <= shown
    assert "1,000" in texts(plots.score_histogram(np.zeros(0), np.full(2000, 0.5)))


def test_settings_of_matplotlib_stay_as_they_were() -> None:
    before = dict(mpl.rcParams)
    plots.pr_curves({"dog": (LINE, LINE)})
    assert dict(mpl.rcParams) == before


def test_the_same_data_give_the_same_bytes() -> None:
    assert plots.pr_curves({"dog": (LINE, LINE)}) == plots.pr_curves({"dog": (LINE, LINE)})


def font_sizes_px(svg: bytes, shown_px: float) -> list[float]:
    """Sizes of all texts of a chart that is shown ``shown_px`` wide."""
    width = float(re.search(rb'viewBox="0 0 ([\d.]+)', svg)[1])  # type: ignore[index]
    return [float(size) * shown_px / width for size in re.findall(rb"font(?:-size)?: ([\d.]+)px", svg)]


@pytest.mark.parametrize(
    ("svg", "shown_px"),
    [
        (lambda: plots.training_curve({"total": ([1, 9], [3.0, 2.0])}, {"AP": ([1], [0.5])}), chart.PAGE_PX - 50),
        (lambda: plots.pr_curves({"dog": (LINE, LINE)}), chart.COLUMN_PX - 16),
        (lambda: plots.score_histogram(np.zeros(3), np.ones(2)), chart.COLUMN_PX - 16),
        *[
            (lambda n=n: plots.confusion_matrix(np.eye(n, dtype=int), ["c"] * n), min(plots.matrix_width_px(n), 1030))
            for n in (1, 2, 24, 60, 90)
        ],
    ],
)
def test_letters_can_be_read(svg: Callable[[], bytes], shown_px: float) -> None:
    sizes = font_sizes_px(svg(), shown_px)
    assert sizes
    assert min(sizes) >= 10


def test_the_scale_has_its_own_name() -> None:
    shown = texts(plots.training_curve({"rate": ([1, 2], [0.1, 0.2])}, y_label="learning rate"))
    assert "learning rate" in shown
    assert "loss" not in shown


def colours(counts: np.ndarray) -> np.ndarray:
    """Share of the full colour by cell."""
    return counts / plots._row_scale(counts)[:, None]


@pytest.mark.parametrize(
    ("counts", "row", "column", "low", "high"),
    [
        ([[0]], 0, 0, 0, 0),
        ([[90, 10], [0, 0]], 0, 0, 0.9, 0.9),
        ([[100, 0], [1, 0]], 1, 0, 0.01, 0.01),  # one false alarm among a hundred objects
        ([[1, 0], [1, 0]], 1, 0, 0, 0.3),  # one among one
        ([[100, 0], [400, 0]], 1, 0, 1, 1),  # more false alarms than objects
        ([[0, 1, 0], [0, 100, 0], [0, 0, 0]], 0, 1, 0, 0.3),  # a mistake in a row of one object
    ],
)
def test_colours_follow_counts(counts: list[list[int]], row: int, column: int, low: float, high: float) -> None:
    assert low <= colours(np.array(counts))[row, column] <= high


@pytest.mark.parametrize("name", ["_hidden", "x" * 200, "#010203", "--></svg><script>x</script>", "猫", "$a_1"])
def test_any_name_is_shown_as_text(name: str) -> None:
    for svg in (
        plots.pr_curves({name: (LINE, LINE)}),
        plots.training_curve({name: (LINE + 1, LINE + 1)}),
        plots.confusion_matrix(np.eye(2, dtype=int), [name, "background"]),
    ):
        root = ElementTree.fromstring(svg)
        assert not [node for node in root.iter() if node.tag.endswith("script")]
        assert any(text.strip("\u200b").startswith(name[:20]) for text in texts(svg))


def test_missing_letters_are_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.pr_curves({"猫": (LINE, LINE)})


def test_values_of_lines_are_there_unseen() -> None:
    """At 41 places of the x axis; where a line does not reach it has no value."""
    lines = {"dog & <b>": (LINE, 1 - LINE), "cat": (LINE[:3], LINE[:3])}
    svg = ElementTree.fromstring(plots.pr_curves(lines))
    probes = [node for node in svg.iter() if node.get("class") == "probe"]
    assert len(probes) == 41
    assert {node.get("opacity") for node in probes} == {"0"}
    words = [[text.text for text in node.iter() if text.tag.endswith("text")] for node in probes]
    assert words[10] == ["recall 0.25", "dog & <b> 0.75", "cat 0.25"]
    assert words[30] == ["recall 0.75", "dog & <b> 0.25"]
    assert b"probe" not in plots.pr_curves({str(name): (LINE, LINE) for name in range(30)})
