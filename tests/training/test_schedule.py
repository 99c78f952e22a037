from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singleshot.training.optimizer_config import ScheduleConfig
from singleshot.training.schedule import RunLength, lr_factor

PAPER = ScheduleConfig(kind="multistep", milestones=(80_000, 100_000), warmup_steps=0)
COSINE = ScheduleConfig(kind="cosine", warmup_steps=0, final_factor=0.1)
WARM = ScheduleConfig(kind="constant", warmup_steps=4, warmup_factor=0.2)


@pytest.mark.parametrize(
    ("schedule", "step", "total", "expected"),
    [
        (PAPER, 0, 120_000, 1.0),
        (PAPER, 79_999, 120_000, 1.0),
        (PAPER, 80_000, 120_000, 0.1),
        (PAPER, 99_999, 120_000, 0.1),
        (PAPER, 100_000, 120_000, 0.01),
        (COSINE, 0, 100, 1.0),
        (COSINE, 50, 100, 0.55),
        (COSINE, 100, 100, 0.1),
        (COSINE, 130, 100, 0.1),
        (WARM, 0, 100, 0.2),
        (WARM, 1, 100, 0.4),
        (WARM, 3, 100, 0.8),
        (WARM, 4, 100, 1.0),
    ],
)
def test_factor_of_a_step(schedule: ScheduleConfig, step: int, total: float, expected: float) -> None:
    assert lr_factor(schedule, step, float(step), total) == pytest.approx(expected)


@given(st.integers(0, 2000), st.sampled_from(["cosine", "constant"]))
def test_after_warmup_the_rate_never_rises(step: int, kind: str) -> None:
    schedule = ScheduleConfig(kind=kind, warmup_steps=10)
    here, later = (lr_factor(schedule, s, s, 1500) for s in (step + 10, step + 11))
    assert 0 <= later <= here <= 1


@pytest.mark.parametrize(
    ("unit", "total", "step", "elapsed_s", "position", "steps"),
    [
        ("steps", 120, 0, 0.0, 0.0, 120),
        ("steps", 120, 30, 5.0, 30.0, 120),
        ("epochs", 4, 0, 0.0, 0.0, 10),
        ("epochs", 4, 5, 9.0, 2.0, 10),
        ("epochs", 1, 0, 0.0, 0.0, 3),
        ("minutes", 2, 0, 0.0, 0.0, 0),
        ("minutes", 2, 10, 30.0, 0.5, 40),
        ("minutes", 2, 41, 121.0, 121 / 60, 41),
    ],
)
def test_length_in_each_unit(unit: str, total: float, step: int, elapsed_s: float, position: float, steps: int) -> None:
    length = RunLength(unit, total, steps_per_epoch=2.5)
    assert length.position(step, elapsed_s) == pytest.approx(position)
    assert length.steps(step, elapsed_s) == steps
