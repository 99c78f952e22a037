from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from singleshot.errors import ConfigError, MissingExtraError
from singleshot.training.config import parse_config
from singleshot.training.loggers.guarded import open_loggers, require_loggers
from singleshot.training.logs import CsvLog, EvaluationRecord, LoggedRun, Observer, StepRecord, log_series, read_log
from singleshot.training.progress import ProgressBar, clock
from singleshot.training.registry import LOGGERS, LoggerKind


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


SETTINGS = {"seed": 1, "optimizer": {"lr": 0.001}, "freeze": ["backbone"]}
NUMBERS = {
    "loss/total": [(10, 1.5)],
    "lr": [(10, 0.001)],
    "speed/images_per_s": [(10, 20.0)],
    "speed/wait_share": [(10, 0.01)],
    "metrics/AP50": [(20, 0.6)],
    "metrics/AR_1": [(20, 0.1)],
    "metrics/coco_AP": [(20, 0.3)],
}
Numbers = dict[str, list[tuple[int, float]]]


def in_tensorboard(folder: Path) -> Numbers:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def in_mlflow(folder: Path) -> Numbers:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("singleshot").experiment_id])
    assert run.info.run_name == folder.name
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "1", "optimizer.lr": "0.001", "freeze": "['backbone']"}
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def in_wandb(folder: Path) -> Numbers:
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    content, at, found = path.read_bytes(), 7, {}
    assert len(content) < 32768  # within a block of its format (LevelDB's log): each record is whole
    while at < len(content):
        _, length, _ = struct.unpack_from("<IHB", content, at)
        record = Record()
        record.ParseFromString(content[at + 7 : at + 7 + length])
        at += 7 + length
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for name in row.keys() & NUMBERS.keys():
            found.setdefault(name, []).append((row["step"], row[name]))
    return found


@pytest.mark.parametrize(
    ("name", "numbers"), [("tensorboard", in_tensorboard), ("mlflow", in_mlflow), ("wandb", in_wandb)]
)
@pytest.mark.filterwarnings("ignore")
def test_every_logger_gets_the_same_numbers(
    name: str, numbers: Callable[[Path], Numbers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    pytest.importorskip(name)
    require_loggers([name])
    said: list[str] = []
    (log,) = open_loggers([name], LoggedRun(tmp_path, settings=SETTINGS, say=said.append))
    log.on_step(step(10))
    log.on_evaluation(EVALUATED)
    log.close()
    assert not [line for line in said if "any more" in line]
    assert numbers(tmp_path) == {
        name: [(at, pytest.approx(value)) for at, value in values] for name, values in NUMBERS.items()
    }


class Fails:
    """A logger that fails at one of its calls, and counts them."""

    def __init__(self, at: str) -> None:
        self.at, self.calls = at, []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.at:
            raise OSError("no space left\non the server")

    def on_step(self, record: StepRecord) -> None:
        self._called("step")

    def on_evaluation(self, record: EvaluationRecord) -> None:
        self._called("evaluation")

    def close(self) -> None:
        self._called("close")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Plays a run with a logger that fails at one call; what the run said, then the calls."""

    def play(at: str) -> list[str]:
        log, said = Fails(at), []

        def build(run: LoggedRun) -> Observer:
            log._called("open")
            return log

        monkeypatch.setitem(LOGGERS._objects, "fails", LoggerKind(build))
        (opened,) = open_loggers(["fails"], LoggedRun(Path(), say=said.append))
        opened.on_step(step(1))
        opened.on_evaluation(EVALUATED)
        opened.close()
        return [*said, *log.calls]

    return play


@pytest.mark.parametrize(
    ("at", "calls"),
    [
        ("open", ["open"]),
        ("step", ["open", "step"]),
        ("evaluation", ["open", "step", "evaluation"]),
        ("close", ["open", "step", "evaluation", "close"]),
    ],
)
def test_a_logger_that_fails_is_told_once_and_left_alone(
    failing: Callable[[str], list[str]], at: str, calls: list[str]
) -> None:
    said, *heard = failing(at)
    assert said == "fails: nothing is logged there any more: no space left. The run goes on, metrics.csv has all"
    assert heard == calls
    assert failing("never") == ["open", "step", "evaluation", "close"]


def test_a_logger_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_loggers([])
    monkeypatch.setitem(LOGGERS._objects, "absent", LoggerKind(Fails, "no_such_package"))
    with pytest.raises(MissingExtraError, match=r"`log='absent'` needs the package 'no_such_package'"):
        require_loggers(["absent"])
    with pytest.raises(ConfigError, match=r"log: no logger 'wandbb'; did you mean wandb\?"):
        require_loggers(["wandbb"])


@pytest.mark.parametrize(
    ("given", "log"),
    [
        ({}, ()),
        ({"log": "csv"}, ()),
        ({"log": "tensorboard, wandb,csv"}, ("tensorboard", "wandb")),
        ({"log": ["mlflow", "mlflow"]}, ("mlflow",)),
        ({"tensorboard": True}, ("tensorboard",)),  # files of version 0.1
        ({"tensorboard": False}, ()),
    ],
)
def test_loggers_are_named_in_the_settings(given: dict[str, Any], log: tuple[str, ...]) -> None:
    assert parse_config(given, "here").log == log


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
