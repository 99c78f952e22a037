from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from singleshot.training.logs import CsvLog, EvaluationRecord, StepRecord, TensorBoardLog, log_series, read_log
from singleshot.training.progress import ProgressBar, clock


def step(number: int, **losses: float) -> StepRecord:
    return StepRecord(
        step=number,
        steps=100,
        epoch=number / 10,
        epochs=10.0,
        lr=0.001,
        losses={"total": 1.5} | losses,
        images_per_s=20.0,
        wait_share=0.01,
        remaining_s=75.0,
    )


EVALUATED = EvaluationRecord(
    step=20, epoch=2.0, metrics={"coco_AP": 0.3, "AR_1": 0.1, "AP50": 0.6}, best=True, duration_s=1.0
)


def test_an_empty_log_has_only_its_columns(tmp_path: Path) -> None:
    CsvLog(tmp_path / "metrics.csv").close()
    assert read_log(tmp_path / "metrics.csv") == (["step", "epoch"], [])
    assert log_series(tmp_path / "metrics.csv", "lr") == ([], [])


def test_rows_of_both_kinds_share_a_table(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "metrics.csv")
    log.on_step(step(10))
    log.on_evaluation(EVALUATED)
    log.on_step(step(30, localization=0.5))
    log.close()
    columns, rows = read_log(tmp_path / "metrics.csv")
    assert columns[:3] == ["step", "epoch", "loss/total"]
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    assert log_series(tmp_path / "metrics.csv", "AP50") == ([20], [0.6])
    assert log_series(tmp_path / "metrics.csv", "loss/localization") == ([30], [0.5])


def test_a_resumed_log_drops_what_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    for number in (10, 20, 30):
        log.on_step(step(number))
    log.close()
    path.write_text(path.read_text() + "40,4.0")  # a row cut short by a crash
    log = CsvLog(path, step=20)
    log.on_step(step(30))
    log.close()
    assert log_series(path, "loss/total")[0] == [10, 20, 30]


def test_a_new_run_forgets_an_old_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    log.on_step(step(1))
    log.close()
    CsvLog(path).close()
    assert read_log(path)[1] == []


@pytest.mark.parametrize(
    "damage",
    [b"", b"step,epoch,loss/total\r\n1,0.1,\xe9\r\n", b"step,epoch\r\nten,0.1\r\n", b"step,epoch,x\r\n1,0.1,lots\r\n",
     b"step,epoch\r\n1," + b"9" * 140_000 + b"\r\n", b"\0" * 40, b"epoch,step\r\n1,2\r\n"],
)  # fmt: skip
def test_a_damaged_log_is_put_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(damage)
    log = CsvLog(path, 5)
    log.on_step(step(6))
    log.close()
    assert log_series(path, "loss/total")[0] == [6]
    if damage:
        assert "kept as metrics-damaged.csv" in log.damage
        assert (tmp_path / "metrics-damaged.csv").read_bytes() == damage
    path.write_bytes(b"\xff\xfe\xfd")
    again = CsvLog(path, 5)
    again.close()
    assert again.damage
    assert len(list(tmp_path.iterdir())) == (3 if damage else 2)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoardLog(tmp_path / "events")
    log.on_step(step(10))
    log.on_evaluation(EVALUATED)
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    values = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert values["loss/total"] == [(10, 1.5)]
    assert values["metrics/AP50"] == [(20, pytest.approx(0.6))]
    assert {"lr", "speed/images_per_s", "speed/wait_share"} <= set(values)


def test_without_a_terminal_progress_is_lines() -> None:
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, width=200), "AP50")
    bar.on_step(step(10))
    bar.on_step(step(11))
    bar.on_evaluation(EVALUATED)
    bar.close()
    first, second = out.getvalue().splitlines()
    assert first == "epoch 1.0/10.0  step 10/100  loss 1.500  lr 1.00e-03  20.0 img/s  1:15 left"
    assert second == "epoch 2.0  step 20  AP50 0.6000  coco_AP 0.3000  (best)  [1.0 s]"


def test_on_a_terminal_progress_shows_epochs_and_steps() -> None:
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, width=200, force_terminal=True), "AP50")
    bar.on_step(step(10))
    bar._bar.refresh()
    bar.close()
    assert "epoch 1.0/10.0  step 10/100" in out.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0:00"), (0, "0:00"), (75, "1:15"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
