"""``singleshot tune`` with a training that takes no time: what it reaches is a formula of the settings and the seed."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.errors import ConfigError, DataError, SingleshotError
from singleshot.training.logs import EvaluationRecord
from singleshot.training.recipes import read_config, write_config
from singleshot.training.result import TrainResult
from singleshot.tuning.proposals import propose_by_optuna
from singleshot.tuning.space import Choice, Defaults, Range, changes_of, default_choices
from singleshot.tuning.study import Study, Trial, judge, read_study, survives
from singleshot.tuning.tune import TuneResult, tune
from singleshot.weights.bundled import bundled_path

LR = 1e-3
DEFAULTS = Defaults(lr=LR, batch_size=8, accumulate=2, size_hw=(300, 300), augment="light", epochs=12.5)
Reach = Callable[[float, int], float]


def noise_of(seed: int) -> float:
    return 0.01 * (seed % 2)


class Trainings:
    """Stands for ``singleshot.train``: ``reach`` gives the metric by the rate's factor and the seed."""

    def __init__(self, reach: Reach, interrupted_at: int | None = None) -> None:
        self.reach = reach
        self.interrupted_at = interrupted_at
        self.settings: list[dict[str, Any]] = []

    def __call__(
        self, *, recipe: Path, out: Path, overwrite: bool, device: str, console: Console, callbacks: Any,
        settings: Mapping[str, Any],
    ) -> TrainResult:  # fmt: skip
        config = read_config(recipe).updated(settings)
        self.settings.append(dict(settings))
        out.mkdir(parents=True, exist_ok=overwrite)
        rate = settings.get("optimizer.lr", LR)
        value = self.reach(rate / LR, config.seed)
        write_config(config.updated({"optimizer.lr": rate, "batch_size": 8}), out / "config.yaml")
        (out / "metrics.csv").write_text("step,epoch\r\n500,12.5000\r\n")
        result = TrainResult(out, "finished", bundled_path("coco"), bundled_path("coco"), {"coco_AP": value}, 500, 60.0)
        if len(self.settings) - 1 == self.interrupted_at:
            return TrainResult(out, "interrupted", bundled_path("coco"), bundled_path("coco"), {}, 100, 60.0)
        for quarter in range(1, 5):
            for callback in callbacks:
                callback.on_evaluation(EvaluationRecord(quarter, quarter, {"coco_AP": value * quarter / 4}, True, 1.0))
        return result


def in_turn(ranges: Mapping[str, Range | tuple[Choice, ...]], trials: Sequence[Trial], seed: int) -> dict[str, Choice]:
    """Factors one after the other."""
    factors = (0.5, 4.0, 2.0, 0.25)
    return {"lr": factors[sum(trial.role == "search" for trial in trials) % 4]}


@pytest.fixture(autouse=True)
def minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every run takes a minute."""
    now = iter(range(0, 60_000, 60))
    monkeypatch.setattr("singleshot.tuning.trials.time.monotonic", lambda: float(next(now)))


def study(out: Path, trainings: Trainings, **options: Any) -> tuple[TuneResult, str]:
    text = io.StringIO()
    new = {"minutes": 8, "vary": ["lr"], "settings": {"data.path": "photos"}}
    given = options if options.get("resume") else new | options
    result = tune(out=out, propose=in_turn, train=trainings, console=Console(file=text, width=200), **given)
    return result, text.getvalue()


def test_what_is_better_than_the_defaults_is_written_down(tmp_path: Path) -> None:
    trainings = Trainings(lambda factor, seed: 0.3 + 0.05 * (factor == 2) - 0.05 * (factor == 4) + noise_of(seed))
    result, text = study(tmp_path / "study", trainings)
    trials = read_study(result.folder).trials
    assert [trial.role for trial in trials] == ["default", *["search"] * 3, "repeat", *["search"] * 2, "confirm"]
    assert [trial.state for trial in trials][:5] == ["finished", "finished", "stopped", "finished", "finished"]
    assert (result.verdict.is_better, result.best) == (True, tmp_path / "study" / "best.yaml")
    assert result.verdict.spread == pytest.approx(0.01)
    best = read_config(result.best)
    assert (best.optimizer.lr, best.optimizer.lr_batch, best.length) == (2 * LR, 8, ("epochs", 50.0))
    assert best.data is not None
    assert best.data.path == "photos"
    assert "better than the defaults: 0.3550 with lr 0.002" in text
    assert f"singleshot train --recipe {result.best}" in text


def test_all_runs_are_as_long_as_that_of_the_defaults_and_end_late(tmp_path: Path) -> None:
    trainings = Trainings(lambda factor, seed: 0.3)
    study(tmp_path / "study", trainings)
    assert trainings.settings[0]["minutes"] == 1
    assert {settings["epochs"] for settings in trainings.settings[1:]} == {12.5}
    assert all(settings["evaluation.patience"] is None for settings in trainings.settings)
    assert trainings.settings[1]["evaluation.every"] == 12.5 / 4


@pytest.mark.parametrize(
    "reach",
    [
        lambda factor, seed: 0.3 + 0.005 * (factor == 2) + noise_of(seed),  # within two seeds of the defaults
        lambda factor, seed: 0.3 + 0.2 * (factor == 2 and seed == 0),  # only with one seed
        lambda factor, seed: 0.3 - 0.1 * (factor != 1),
    ],
)
def test_gains_by_chance_keep_the_defaults(reach: Reach, tmp_path: Path) -> None:
    result, text = study(tmp_path / "study", Trainings(reach))
    assert "keep the defaults" in text
    assert result.best is not None
    assert read_config(result.best) == read_config(result.folder / "base.yaml")


def test_a_study_that_was_stopped_goes_on_with_the_run_that_was_cut_short(tmp_path: Path) -> None:
    def reach(factor: float, seed: int) -> float:
        return 0.3 + 0.05 * (factor == 2) + noise_of(seed)

    whole, _ = study(tmp_path / "whole", Trainings(reach))
    stopped, text = study(tmp_path / "study", Trainings(reach, interrupted_at=2))
    assert stopped.is_interrupted
    assert f"singleshot tune --resume --out {tmp_path / 'study'}" in text
    assert len(read_study(stopped.folder).trials) == 2
    with pytest.raises(ConfigError, match="already holds a study"):
        study(tmp_path / "study", Trainings(reach))
    with pytest.raises(ConfigError, match="continued as it was"):
        study(tmp_path / "study", Trainings(reach), resume=True, vary=["size"])
    with pytest.raises(ConfigError, match="-5 is no time"):
        study(tmp_path / "study", Trainings(reach), resume=True, minutes=-5)
    again, _ = study(tmp_path / "study", Trainings(reach), resume=True)
    assert again.verdict == whole.verdict
    assert read_study(again.folder) == read_study(whole.folder)
    more, _ = study(tmp_path / "study", Trainings(reach), resume=True, minutes=12)
    assert len(read_study(more.folder).trials) > len(read_study(whole.folder).trials)


def test_a_trial_that_fails_is_told_and_the_defaults_must_not(tmp_path: Path) -> None:
    def reach(factor: float, seed: int) -> float:
        if factor == 0.5:
            raise SingleshotError("the loss is not finite\nsee above")
        return 0.3

    _, text = study(tmp_path / "study", Trainings(reach))
    assert "failed" in text
    assert "the loss is not finite" in text

    def fails(factor: float, seed: int) -> float:
        raise DataError("no images")

    with pytest.raises(DataError, match="no images"):
        study(tmp_path / "other", Trainings(fails))
    assert not any((tmp_path / "other").glob("*.*"))


def test_a_search_that_only_fails_ends(tmp_path: Path) -> None:
    def reach(factor: float, seed: int) -> float:
        if factor != 1:
            raise SingleshotError("the disk is full")
        return 0.3

    result, text = study(tmp_path / "study", Trainings(reach), minutes=60)
    assert len(read_study(result.folder).of("search")) == 5
    assert "keep the defaults: none of 5 trials came to its end" in text


def test_published_recipes_are_tuned_without_their_milestones(tmp_path: Path) -> None:
    settings = {"schedule.kind": "cosine", "schedule.milestones": [], "evaluation.metric": "AP"} | {
        "data.path": "photos"
    }
    result, _ = study(tmp_path / "study", Trainings(lambda f, s: 0.3), recipe="ssd300_voc0712", settings=settings)
    assert read_config(result.folder / "base.yaml").model == "ssd300_vgg16"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minutes": None}, "`minutes`: how long may it take"),
        ({"minutes": float("inf")}, "`minutes`: inf is no time"),
        ({"minutes": -1}, "`minutes`: -1 is no time"),
        ({"settings": {"data.path": "photos", "steps": 100}}, "steps: how long each run is follows"),
        ({"recipe": "ssd300_voc0712"}, r"give `schedule\.kind=cosine`, `schedule\.milestones=\[\]`"),
        ({"vary": ["rate"]}, "`vary`: no setting 'rate' to tune"),
        ({"vary": []}, "names no setting"),
        ({"settings": {}}, r"data\.path: what is there to learn from"),
        ({"settings": {"data.path": "photos", "data.val": "none"}}, r"data\.val: none"),
    ],
)
def test_a_study_that_makes_no_sense(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        study(tmp_path / "study", Trainings(lambda factor, seed: 0.3), **options)
    assert not (tmp_path / "study").exists()


def test_a_damaged_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no study to resume"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"vary": ["lr"]')
    with pytest.raises(ConfigError, match=r"study\.json is damaged"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("value", "former", "goes_on"),
    [
        (0.0, [], True),
        (0.1, [0.2], False),
        (0.3, [0.2], True),
        (0.1, [0.2, 0.3], False),
        (0.2, [0.1, 0.3], True),
        (0.2, [0.2, 0.2, 0.2], True),
    ],
)
def test_the_better_half_goes_on(value: float, former: list[float], goes_on: bool) -> None:
    assert survives(value, former) is goes_on


def test_without_repeats_nothing_is_better() -> None:
    trials = (
        Trial(role="default", choices={"lr": 1.0}, seed=0, value=0.1),
        Trial(role="search", choices={"lr": 2.0}, seed=0, value=0.9),
    )
    assert not judge(Study(vary=("lr",), minutes=1, metric="coco_AP")).is_better
    assert not judge(Study(vary=("lr",), minutes=1, metric="coco_AP", trials=trials)).is_better


def test_what_choices_change() -> None:
    assert changes_of({}, DEFAULTS) == {}
    names = ("lr", "augment", "batch_size", "size")
    usual = default_choices(names, DEFAULTS)
    assert usual == {"lr": 1.0, "augment": "light", "batch_size": 8, "size": "300x300"}
    assert changes_of(usual, DEFAULTS) == {}
    assert changes_of({"lr": 0.5, "augment": "ssd", "batch_size": 4, "size": "224x224"}, DEFAULTS) == {
        "optimizer.lr": 5e-4,
        "optimizer.lr_batch": 16,
        "augment": "ssd",
        "batch_size": 4,
        "size_hw": [224, 224],
    }


def test_optuna_stays_within_the_ranges_and_learns() -> None:
    pytest.importorskip("optuna")
    ranges = {"lr": Range(0.25, 4.0), "augment": ("none", "light")}
    trials: list[Trial] = []
    for _ in range(25):
        choices = propose_by_optuna(ranges, trials, 0)
        assert choices == propose_by_optuna(ranges, trials, 0)
        value = float(choices["lr"]) / 4 + (choices["augment"] == "light")
        trials.append(Trial(role="search", choices=choices, seed=0, value=value))
    assert all(0.25 <= float(trial.choices["lr"]) <= 4 for trial in trials)
    late = [trial.value or 0.0 for trial in trials[-8:]]
    assert sum(late) / len(late) > sum(trial.value or 0.0 for trial in trials[:8]) / 8


def test_the_command_line_says_what_is_missing() -> None:
    done = CliRunner().invoke(app, ["tune", "photos"])
    assert done.exit_code == 2
    assert "--minutes: how long may it take" in done.output or "extra 'tune'" in done.output
