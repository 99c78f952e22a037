from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from engine_fakes import tiny_network
from hypothesis import given
from hypothesis import strategies as st

from singleshot.training.monitor import WeightMonitor, statistics


def test_of_nothing() -> None:
    assert statistics([]).shape == (0, 4)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=9))
def test_statistics_equal_numpys(values: list[float]) -> None:
    x = np.array(values, np.float32)
    expected = [np.abs(x).mean(), np.linalg.norm(x), x.min(), x.max()]
    assert statistics([torch.from_numpy(x)])[0].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_rows_after_the_step_of_a_resumed_run_are_dropped(tmp_path: Path) -> None:
    path, network = tmp_path / "monitor.csv", tiny_network()
    first = WeightMonitor(path, network, 1, "head.bias", {}, 0)
    for step in (1, 2, 3):
        first.note(step)
    first.close()
    path.write_text(path.read_text() + "4,head.bias,wei")  # a crash
    WeightMonitor(path, network, 1, "head.bias", {}, 2).close()
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["step", "1", "2"]
    WeightMonitor(path, network, 1, "", {}, 0).close()
    assert len(path.read_text().splitlines()) == 1
