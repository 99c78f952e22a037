from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singleshot.training.optimizer_config import ScheduleConfig
from singleshot.training.schedule import RunLength, lr_factor, shown_rate, warmth

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


@pytest.mark.parametrize(
    ("step", "position", "total", "expected"),
    [(0, 0, 1000, 0), (25, 25, 1000, 0.5), (50, 50, 1000, 1), (1, 0.05, 1, 0.5), (3, 0.1, 1, 1), (2, 2, 40, 0.5)],
)
def test_an_auto_warmup_takes_no_more_than_a_tenth_of_the_run(step, position, total, expected) -> None:
    assert warmth(ScheduleConfig(), step, position, total) == pytest.approx(expected)
    schedule = ScheduleConfig(kind="constant", warmup_factor=0.1)
    assert lr_factor(schedule, step, position, total) == pytest.approx(0.1 + 0.9 * expected)


def test_a_warmup_in_steps_is_taken_as_given() -> None:
    assert warmth(ScheduleConfig(warmup_steps=500), 100, 100, 200) == pytest.approx(0.2)
    assert warmth(ScheduleConfig(warmup_steps=0), 0, 0, 200) == 1


def test_the_rate_that_is_shown_is_that_of_weights_without_a_factor() -> None:
    def group(name: str, lr: float, **more: float) -> dict[str, object]:
        return {"name": name, "lr": lr, **more}

    bias, head = group("bias", 0.2, factor=2.0), group("weight", 0.4, factor=4.0)
    assert shown_rate([bias, head, group("weight", 0.1, factor=1.0)]) == 0.1
    assert shown_rate([bias, head]) == 0.4
    assert shown_rate([group("bias", 0.2), group("weight", 0.1), group("weight", 0.01)]) == 0.1  # an older state
