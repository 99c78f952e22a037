from __future__ import annotations

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from defusedxml import ElementTree

from singleshot.report import plots

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
    assert plots.INK.encode() not in data


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
