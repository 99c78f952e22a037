"""``singleshot.train`` on real files: small pictures, the real network at a small size, few steps."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import singleshot
from singleshot import data
from singleshot.cli import app
from singleshot.core.transforms import AUGMENTATIONS
from singleshot.data.decisions import decision_about, write_decisions
from singleshot.demo.scenes import make_scenes
from singleshot.errors import ConfigError, DataError, SingleshotError
from singleshot.evaluation.metrics import DetectionTable, evaluate_detections
from singleshot.evaluation.result import EvalResult
from singleshot.training import held_out
from singleshot.training.logs import EvaluationRecord, StepRecord, log_series
from singleshot.training.recipes import read_config
from singleshot.training.result import TrainResult
from singleshot.training.run_folder import clear_results, numbered
from singleshot.training.train import train
from singleshot.weights.bundled import bundled_path
from singleshot.weights.file import read_spec, read_state, save_weights
from singleshot.weights.network import load_network

SMALL: dict[str, Any] = {
    "size_hw": [96, 96],
    "workers": 0,
    "amp": "fp32",
    "optimizer.lr": 1e-3,
    "evaluation.every": 0,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=15, size_hw=(120, 160))


@pytest.fixture
def _without_report() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("singleshot.training.session._report", lambda *parts: None)
        yield


no_report = pytest.mark.usefixtures("_without_report")
"""A page takes longer than the few steps of a test."""


def run(
    data: Path | None, out: Path, *, settings: dict[str, Any] | None = None, **options: Any
) -> tuple[TrainResult, str]:
    text = io.StringIO()
    console = Console(file=text, width=200)
    result = train(data, out=out, settings=settings if settings is not None else SMALL, console=console, **options)
    return result, text.getvalue()


def test_a_run_leaves_a_detector_a_log_and_a_report(scenes: Path, tmp_path: Path) -> None:
    result, text = run(scenes, tmp_path / "run", steps=3, batch_size=4)
    assert result.ending == "finished"
    assert result.steps == 3
    names = {path.name for path in result.folder.iterdir()}
    weights = {"best.safetensors", "last.safetensors"}
    assert names == weights | {"config.yaml", "data.json", "metrics.csv", "state.pt", "report.html", "train.log"}
    assert read_spec(result.best).class_names == singleshot.data.open(scenes).class_map.names
    assert read_spec(result.best).provenance.metrics == pytest.approx(result.metrics)
    assert log_series(result.folder / "metrics.csv", "loss/total")[0] == [1, 2, 3]
    assert log_series(result.folder / "metrics.csv", "voc_area") == (
        [3],
        [pytest.approx(result.metrics["voc_area"], abs=1e-5)],
    )
    assert "class head: new rows for" in text
    assert "recall at 0.5" in text
    assert "finished" not in text
    assert f"--model {result.best}" in text
    detections = result.load().predict(np.zeros((50, 60, 3), np.uint8))
    assert detections.class_names == read_spec(result.best).class_names


@no_report
def test_a_run_on_tiles_is_measured_on_tiles_and_resumes(scenes: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "run", SMALL | {"size_hw": [64, 64]}
    result, text = run(scenes, out, settings=settings, steps=1, batch_size=2, tile="120x100", overlap=0.25)
    assert "120 x 100 pixels, overlap 0.25: 12 images and " in text
    assert f"--model {result.best} --tile 120x100 --overlap 0.25" in text
    again, _ = run(None, out, settings={}, steps=2, resume=True)
    assert again.steps == 2
    measured = singleshot.evaluate(out / "last.safetensors", scenes, tile="120x100", overlap=0.25, backend="torch")
    last = log_series(out / "metrics.csv", "coco_AP50")[1][-1]
    assert measured.coco is not None
    assert measured.coco["AP50"] == pytest.approx(last, abs=1e-4)
    assert any("in tiles of 120 x 100 pixels" in note for note in measured.notes)
    with pytest.raises(ConfigError, match=r"tiling.tile: the run in .* has \[120, 100\], not \[200, 200\]"):
        run(None, out, settings={}, resume=True, tile=200)


@no_report
def test_the_settings_of_a_run_have_no_auto_left(scenes: Path, tmp_path: Path) -> None:
    settings = {"size_hw": [96, 96], "workers": 0}
    result, text = run(scenes, tmp_path / "run", settings=settings, steps=1)
    config = read_config(result.folder / "config.yaml")
    assert config.batch_size == 2
    assert isinstance(config.optimizer.lr, float)
    assert config.optimizer.lr_factors == {}
    assert config.amp in ("fp32", "bf16")
    assert "scaled" in text


@no_report
def test_a_head_with_many_new_classes_learns_faster_and_that_is_said(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singleshot.training.optimizer.MANY_CLASSES", 3)
    result, text = run(scenes, tmp_path / "run", steps=1)
    assert read_config(result.folder / "config.yaml").optimizer.lr_factors == {"head": 4.0}
    told = r"lr +[\d.e-]+.*; 4 times that in the head, for its \d new classes \(`optimizer.lr_factors=\{\}`: not\)"
    assert re.search(told, text)


def same_state(a: Path, b: Path) -> bool:
    one, two = (torch.load(path / "state.pt", weights_only=True) for path in (a, b))
    pairs = [(one[part][name], two[part][name]) for part in ("network", "ema") for name in one[part]]
    momenta = [(one["optimizer"]["state"][i], two["optimizer"]["state"][i]) for i in one["optimizer"]["state"]]
    pairs += [(m[key], n[key]) for m, n in momenta for key in m if isinstance(m[key], torch.Tensor)]
    return one["run"]["step"] == two["run"]["step"] and all(torch.equal(x, y) for x, y in pairs)


@no_report
def test_two_and_two_epochs_equal_four_bit_for_bit(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(scenes, tmp_path / "whole", epochs=4, batch_size=4)
    assert whole.steps == 12

    update = singleshot.training.loop.Trainer._update

    def interrupted(self: Any) -> None:
        update(self)
        if self.run.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("singleshot.training.loop.Trainer._update", interrupted)
    half, text = run(scenes, tmp_path / "parts", epochs=4, batch_size=4)
    monkeypatch.undo()
    assert half.ending == "interrupted"
    assert half.steps == 6
    assert f"singleshot train --resume --out {tmp_path / 'parts'}" in text
    done, _ = run(None, tmp_path / "parts", settings={}, resume=True)
    assert done.ending == "finished"
    assert same_state(tmp_path / "whole", tmp_path / "parts")
    assert done.metrics == pytest.approx(whole.metrics)
    steps, losses = log_series(tmp_path / "parts" / "metrics.csv", "loss/total")
    assert steps == list(range(1, 13))
    assert losses == log_series(tmp_path / "whole" / "metrics.csv", "loss/total")[1]


@no_report
def test_kill_9_then_resume_equals_a_run_that_was_left_alone(scenes: Path, tmp_path: Path) -> None:
    options = ["--steps", "8", "--batch", "4", "--size", "96", "--amp", "fp32", "--workers", "0"]
    options += ["--set", "evaluation.every=0", "--set", "save_minutes=0.0001", "--set", "log_every=1"]
    command = [sys.executable, "-m", "singleshot", "train", str(scenes), "--out", str(tmp_path / "killed"), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        log = tmp_path / "killed" / "metrics.csv"
        while process.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) > 3):
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(None, tmp_path / "killed", settings={}, resume=True)
        result = CliRunner().invoke(app, ["train", str(scenes), "--out", str(tmp_path / "whole"), *options])
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    assert same_state(tmp_path / "killed", tmp_path / "whole")


@no_report
def test_a_resumed_run_may_become_longer_but_not_different(scenes: Path, tmp_path: Path) -> None:
    run(scenes, tmp_path / "run", steps=1, batch_size=4)
    longer, _ = run(None, tmp_path / "run", settings={}, resume=True, steps=2)
    assert longer.steps == 2
    with pytest.raises(ConfigError, match=r"optimizer\.lr: the run in .* has 0\.001, not 0\.5"):
        run(None, tmp_path / "run", settings={"optimizer.lr": 0.5}, resume=True)


@no_report
def test_a_folder_with_a_run_is_not_overwritten(scenes: Path, tmp_path: Path) -> None:
    run(scenes, tmp_path / "run", steps=1, batch_size=4)
    with pytest.raises(ConfigError, match=r"already holds a run.*`resume=True`.*`overwrite=True`"):
        run(scenes, tmp_path / "run", steps=1, batch_size=4)
    again, _ = run(scenes, tmp_path / "run", steps=2, batch_size=4, overwrite=True)
    assert log_series(again.folder / "metrics.csv", "loss/total")[0] == [1, 2]


@no_report
def test_equal_runs_leave_equal_bytes(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"data.val": "none"}
    one, two = (run(scenes, tmp_path / name, steps=1, batch_size=2, settings=settings)[0] for name in "ab")
    assert one.last.read_bytes() == two.last.read_bytes()


def headline(page: Path) -> str:
    """The first number of a report's tiles."""
    return re.findall(r"<b>(\d\.\d+)</b>", page.read_text())[0]


def test_the_report_of_a_resumed_run_is_about_its_best_weights(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network of the first evaluation finds everything, all others nothing."""
    measure, sums = held_out.evaluate_network, []

    def falls(network: Any, *args: Any, **options: Any) -> EvalResult:
        result = measure(network, *args, **options)
        sums.append(sum(float(p.detach().double().sum()) for p in network.parameters()))
        truth = result.truth
        table = DetectionTable(truth.image_index, truth.class_ids, truth.boxes_xyxy, np.ones(len(truth.class_ids)))
        if sums[-1] != sums[0]:
            table = DetectionTable.concatenate([])
        metrics = evaluate_detections(truth, table, len(result.class_names))
        return dataclasses.replace(result, detections=table, metrics=metrics)

    monkeypatch.setattr(held_out, "evaluate_network", falls)
    settings = SMALL | {"schedule.warmup_steps": 0, "evaluation.every": 2}
    first, _ = run(scenes, tmp_path / "run", steps=2, batch_size=2, settings=settings)
    assert headline(first.report) == "1.000"
    second, text = run(None, tmp_path / "run", settings={}, resume=True, steps=6)
    assert second.metrics["coco_AP"] == 1
    assert log_series(second.folder / "metrics.csv", "coco_AP") == ([2, 4, 6], [1, 0, 0])
    assert "measuring the best weights" in text
    assert headline(second.report) == "1.000"
    assert "coco_AP 1.000 on 3 held-out images with" in text
    val_set = singleshot.data.open(scenes, "test")
    for path, ap in ((second.best, 1.0), (second.last, 0.0)):
        spec = read_spec(path)
        network = load_network(spec, read_state(path), path).eval()
        assert falls(network, spec, val_set).coco["AP"] == ap
    page = second.report.read_text()
    numbers = page[page.index("Numbers of the best weights") :]
    assert re.search(r"coco_AP</td>\s*<td[^>]*>1\.0", numbers)


def test_weights_that_are_newer_than_the_state_are_the_best(scenes: Path, tmp_path: Path) -> None:
    """A run may be killed between writing its best weights and its state."""
    settings = SMALL | {"schedule.warmup_steps": 0, "evaluation.every": 2}
    first, _ = run(scenes, tmp_path / "run", steps=2, batch_size=2, settings=settings)
    spec = read_spec(first.best)
    metrics = spec.provenance.metrics | {"coco_AP": 0.99}
    newer = spec.model_copy(update={"provenance": spec.provenance.model_copy(update={"metrics": metrics})})
    save_weights(first.best, newer, read_state(first.best))
    before = first.best.read_bytes()
    second, text = run(None, tmp_path / "run", settings={}, resume=True, steps=3)
    assert second.metrics == metrics
    assert "measuring the best weights" in text
    assert first.best.read_bytes() == before
    first.best.unlink()
    third, _ = run(None, tmp_path / "run", settings={}, resume=True, steps=4)
    assert third.best.name == "best.safetensors"
    assert read_spec(third.best).provenance.metrics == third.metrics != metrics


def relabel(folder: Path, old: str, new: str) -> None:
    for path in [folder / "classes.txt", *(folder / "Annotations").iterdir()]:
        path.write_text(re.sub(rf"\b{old}\b", new, path.read_text()))


@no_report
def test_a_resumed_run_has_the_classes_that_it_began_with(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", count=10, size_hw=(60, 80))
    run(folder, tmp_path / "run", steps=1, batch_size=2)
    names = singleshot.data.open(folder).class_map.names
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    relabel(folder, names[0], "zebra")
    with pytest.raises(ConfigError, match=rf"(?s)run:  {names[0]}.*data: .*zebra"):
        run(None, tmp_path / "run", settings={}, resume=True, steps=2)
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


@no_report
def test_classes_that_name_a_side_are_not_mirrored_and_that_is_said(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", count=10, size_hw=(60, 80))
    _, text = run(folder, tmp_path / "plain", steps=1, batch_size=2, augment="light")
    assert "mirror" not in text
    assert read_config(tmp_path / "plain" / "config.yaml").augment.mirror == 0.5
    for name, side in zip(singleshot.data.open(folder).class_map.names[:2], ("left", "right"), strict=True):
        relabel(folder, name, f"arrow-{side}")
    sides = "classes 'arrow-left', 'arrow-right' name a side"
    _, text = run(folder, tmp_path / "still", steps=1, batch_size=2, augment="light")
    assert re.search(rf"mirror +no: {sides} \(`augment.mirror=0.5` mirrors half of the images\)", text)
    assert read_config(tmp_path / "still" / "config.yaml").augment.mirror == 0
    settings = {**SMALL, "augment.mirror": 0.5}
    _, text = run(folder, tmp_path / "asked", settings=settings, steps=1, batch_size=2)
    assert f"warning: {sides}: mirrored, they look like others. `augment.mirror=0` leaves images as they are" in text


@no_report
def test_a_resumed_run_tells_what_changed_in_its_data(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", count=15, size_hw=(60, 80))
    opened = data.open(folder, "trainval")
    entries = [decision_about(folder, sample, opened.class_map.names, None, "drop") for sample in opened.samples[2:4]]
    decisions = write_decisions(tmp_path / "decided.json", entries[:1])
    _, text = run(folder, tmp_path / "run", steps=1, batch_size=2, decisions=decisions)
    assert f"{decisions}: in split 'trainval' 1 image left out" in text
    write_decisions(decisions, entries)
    listed = folder / "ImageSets" / "Main" / "trainval.txt"
    names = listed.read_text().split()
    listed.write_text("\n".join(names[:-2]) + "\n")
    label = folder / "Annotations" / f"{names[0]}.xml"
    label.write_text(re.sub(r"<xmax>\d+</xmax>", "<xmax>78</xmax>", label.read_text()))
    _, text = run(None, tmp_path / "run", settings={}, resume=True, steps=2)
    assert "2 images left out" in text
    assert f"3 removed ({os.path.join('JPEGImages', names[3])}" in text
    assert "1 changed in labels or content" in text
    (tmp_path / "run" / "data.json").unlink()
    _, text = run(None, tmp_path / "run", settings={}, resume=True, steps=3)
    assert "data.json is missing or damaged" in text


@pytest.mark.parametrize("text", ["", "data:\n", "data: {path: x}\nbatch: 4\n", "data: [", "\0\0\0"])
def test_damaged_settings_of_a_run_are_an_error(tmp_path: Path, text: str) -> None:
    for name in ("last.safetensors", "state.pt"):
        (tmp_path / name).touch()
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"(?s)config\.yaml.*`weights=.*last\.safetensors"):
        train(resume=True, out=tmp_path)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_batch_of_one_trains(scenes: Path, tmp_path: Path, accumulate: int) -> None:
    settings = SMALL | {"accumulate": accumulate, "data.val": "none"}
    result, text = run(scenes, tmp_path / "run", steps=2, batch_size=1, settings=settings)
    assert result.steps == 2
    assert "BatchNorm layers see one number per channel" in text


def test_held_out_images_without_labels_are_told_before_the_first_step(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", count=10, size_hw=(60, 80))
    for name in (folder / "ImageSets" / "Main" / "test.txt").read_text().split():
        path = folder / "Annotations" / f"{name}.xml"
        path.write_text(re.sub(r"(?s)<object>.*</object>", "", path.read_text()))
    settings = SMALL | {"evaluation.every": 1, "evaluation.patience": 1, "schedule.warmup_steps": 0}
    result, text = run(folder, tmp_path / "run", steps=3, batch_size=2, settings=settings)
    assert "no held-out image has an object" in text
    assert (result.steps, result.ending, result.best.name) == (3, "finished", "last.safetensors")
    assert "(best)" not in text


@no_report
def test_default_boxes_fit_small_objects(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"data.val": "none"}
    options: dict[str, Any] = {"steps": 1, "batch_size": 2, "settings": settings}
    plain, _ = run(scenes, tmp_path / "plain", **options)
    half, _ = run(scenes, tmp_path / "half", anchor_scale=0.5, **options)
    fitted, _ = run(scenes, tmp_path / "fitted", anchors="auto", **options)
    shapes = [np.array(read_spec(r.last).anchors.levels[0].shapes_wh) for r in (plain, half)]
    np.testing.assert_allclose(shapes[1], shapes[0] / 2)
    config = read_config(fitted.folder / "config.yaml")
    assert config.anchors == read_spec(fitted.last).anchors
    _, again = run(None, tmp_path / "fitted", settings={}, resume=True, steps=2)
    assert "continuing" in again
    with pytest.raises(ConfigError, match="keep one of them"):
        run(scenes, tmp_path / "both", anchors="auto", anchor_scale=0.5, **options)


def test_nothing_to_resume_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no run to resume"):
        train(resume=True)
    with pytest.raises(ConfigError, match="holds no run"):
        train(resume=True, out=tmp_path / "nowhere")


def test_without_data_the_error_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"data\.path"):
        train()


def test_without_held_out_images_the_last_weights_are_the_result(scenes: Path, tmp_path: Path) -> None:
    result, _ = run(scenes, tmp_path / "run", steps=1, batch_size=4, settings=SMALL | {"data.val": "none"})
    assert result.metrics == {}
    assert not (result.folder / "best.safetensors").exists()
    assert log_series(result.folder / "metrics.csv", "loss/total")[0] == [1]
    assert result.load().spec.name == "ssdlite320_mobilenet_v3_large_tf"


def test_splits_that_share_images_are_refused(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"data.train": "trainval+test", "data.val": "test"}
    with pytest.raises(DataError, match="share 3 images"):
        run(scenes, tmp_path / "run", steps=1, settings=settings)


def test_an_unknown_metric_is_an_error_with_the_list(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.metric: no 'map'; there are voc_area"):
        run(scenes, tmp_path / "run", steps=1, batch_size=4, settings=SMALL | {"evaluation.metric": "map"})


def test_a_full_memory_says_what_to_do(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    monkeypatch.setattr("singleshot.training.loop.Trainer._learn", full)
    with pytest.raises(SingleshotError, match=r"9 GiB.*smaller `batch_size`"):
        run(scenes, tmp_path / "run", steps=1, batch_size=4)


@no_report
def test_frozen_parts_stay_and_are_told(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"freeze": ["backbone"], "data.val": "none", "ema": None}
    result, text = run(scenes, tmp_path / "run", steps=2, batch_size=4, settings=settings)
    assert "frozen" in text
    before, after = read_state(bundled_path("coco-v3")), read_state(result.last)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    assert not torch.equal(before["head.boxes.0.pointwise.weight"], after["head.boxes.0.pointwise.weight"])


def test_refinedet_trains_by_the_same_command(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"size_hw": [64, 64], "data.val": "none", "augment": "ssd"}
    run(scenes, tmp_path / "run", model="refinedet320_vgg16", weights="none", steps=1, batch_size=2, settings=settings)
    columns = log_series(tmp_path / "run" / "metrics.csv", "loss/arm_localization")
    assert columns[0] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "big"], "--size must be one side or HEIGHTxWIDTH"),
        (["--set", "batch"], "KEY=VALUE"),
        (["--set", "nonsense=1"], "nonsense: no such setting"),
        (["--epochs", "2", "--steps", "3"], "one length"),
        (["--lr", "fast"], "optimizer.lr"),
        (["--lr", "-1"], "optimizer.lr"),
        (["--anchors", "tiny"], "anchors"),
        (["--anchor-scale", "0"], "anchor_scale"),
        (["--workers", "many"], "workers"),
        (["--set", "batch=" + "[" * 3000], "no YAML"),
        (["--recipe", "nope"], "no recipe 'nope'"),
        (["--augment", "heavy"], "no preset 'heavy'"),
    ],
)
def test_wrong_options_are_explained(scenes: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["train", str(scenes), *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_help_has_examples() -> None:
    result = CliRunner().invoke(app, ["train", "--help"])
    assert result.exit_code == 0
    assert "singleshot train photos --minutes 20" in result.output


@no_report
@pytest.mark.heavy
@pytest.mark.slow
def test_eight_images_are_learnt_by_heart(tmp_path: Path) -> None:
    """If this fails, nothing else can work: the whole way from files to AP."""
    folder = make_scenes(tmp_path / "eight", count=10, size_hw=(160, 160), difficulty=0.0)
    settings = SMALL | {"size_hw": [160, 160], "augment": "none", "optimizer.name": "adamw", "optimizer.lr": 2e-3}
    settings |= {"data.train": "trainval", "data.val": "none", "schedule.warmup_steps": 10}
    result, _ = run(folder, tmp_path / "run", steps=100, batch_size=8, settings=settings)
    seen = singleshot.evaluate(str(result.last), folder, split="trainval")
    assert seen.voc_area > 0.9


def test_unreadable_images_do_not_stop_a_run(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data", count=10, size_hw=(120, 160))
    broken = sorted((folder / "JPEGImages").iterdir())[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 3])
    result, _ = run(folder, tmp_path / "run", steps=4, batch_size=4, settings=SMALL | {"data.val": "none"})
    assert result.steps == 4


def darken(image: np.ndarray, boxes_xyxy: np.ndarray, class_ids: np.ndarray) -> tuple[np.ndarray, ...]:
    return image // 2, boxes_xyxy, np.zeros_like(class_ids)


@no_report
def test_a_transform_of_ones_own_is_the_last_step_and_is_needed_to_resume(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result, _ = run(scenes, folder, steps=2, batch_size=2, val="none", transform=darken, augment="light")
    config = read_config(folder / "config.yaml")
    assert config.augment.transforms == (f"{darken.__module__}:darken",)
    assert config.augment.mirror == 0.5
    with pytest.raises(ConfigError, match=r"`transform`: the run in .* has .*:darken, not .*:same"):
        run(None, folder, settings={}, resume=True, steps=3, transform=same)
    forgotten = AUGMENTATIONS._objects.pop(config.augment.transforms[0])
    AUGMENTATIONS._added.remove(config.augment.transforms[0])
    with pytest.raises(ConfigError, match=r"darken' is not registered.*`transform`"):
        run(None, folder, settings={}, resume=True, steps=3)
    result, _ = run(None, folder, settings={}, resume=True, steps=3, transform=forgotten)
    assert result.steps == 3


def same(image: np.ndarray, boxes_xyxy: np.ndarray, class_ids: np.ndarray) -> tuple[np.ndarray, ...]:
    return image, boxes_xyxy, class_ids


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_that_fails_ends_the_run_with_its_name(scenes: Path, tmp_path: Path, workers: int) -> None:
    def failing(image: np.ndarray, boxes_xyxy: np.ndarray, class_ids: np.ndarray) -> None:
        raise KeyError("colour")

    settings = SMALL | {"workers": workers}
    with pytest.raises(
        DataError, match=r"^the transform '.*failing' failed on .*: KeyError: 'colour' \(.*test_train\.py"
    ):
        run(scenes, tmp_path / "run", settings=settings, steps=1, batch_size=2, val="none", transform=failing)


@no_report
def test_mxnets_losses_are_logged_on_request(scenes: Path, tmp_path: Path) -> None:
    result, _ = run(scenes, tmp_path / "run", steps=2, batch_size=2, val="none", also_log="mxnet")
    for name in ("CrossEntropy", "SmoothL1"):
        steps, values = log_series(result.folder / "metrics.csv", f"loss/mxnet_{name}")
        assert steps == [1, 2]
        assert all(0 < value < 100 for value in values)


@no_report
def test_finetuning_says_what_it_freezes_and_is_kept_by_a_resumed_run(scenes: Path, tmp_path: Path) -> None:
    result, text = run(scenes, tmp_path / "run", steps=1, batch_size=2, val="none", finetune=True)
    config = read_config(result.folder / "config.yaml")
    assert {"backbone", "extras"} <= set(config.freeze)
    assert not config.finetune
    assert re.search(r"frozen +\d+ tensors: backbone", text)
    before, after = (
        read_state(bundled_path("coco-v3")),
        torch.load(result.folder / "state.pt", weights_only=True)["network"],
    )
    assert torch.equal(before["backbone.stem.conv.weight"], after["backbone.stem.conv.weight"])
    moved = [name for name in before if name.startswith("head.boxes") and not torch.equal(before[name], after[name])]
    assert moved
    _, text = run(None, result.folder, settings={}, resume=True, steps=2)
    assert re.search(r"frozen +\d+ tensors: backbone", text)
    with pytest.raises(ConfigError, match="finetune: nothing is taken over"):
        run(scenes, tmp_path / "other", steps=1, finetune=True, weights="none")


def test_the_text_log_holds_what_the_screen_said_with_times(scenes: Path, tmp_path: Path) -> None:
    result, text = run(scenes, tmp_path / "run", steps=1, batch_size=2)
    lines = (result.folder / "train.log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    said = [line[21:].rstrip() for line in lines]
    assert [line.rstrip() for line in text.splitlines() if line.strip()] == [line for line in said if line]
    assert "96 x 96 (height x width)" in text
    run(None, result.folder, settings={}, resume=True, steps=2)
    assert len((result.folder / "train.log").read_text(encoding="utf-8").splitlines()) > len(lines)


@no_report
def test_numbered_checkpoints_are_kept_and_gone_back_to(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"checkpoints": {"every": 2, "keep": 1}}
    result, _ = run(scenes, tmp_path / "run", settings=settings, steps=5, batch_size=2, val="none")
    names = sorted(path.name for path in result.folder.glob("checkpoint-*"))
    assert names == ["checkpoint-000004.pt", "checkpoint-000004.safetensors"]
    assert read_spec(result.folder / "checkpoint-000004.safetensors").class_names
    whole = torch.load(result.folder / "state.pt", weights_only=True)
    with pytest.raises(ConfigError, match=r"`resume=2`: .* has no checkpoint 2; there are 4\."):
        run(None, result.folder, settings={}, resume=2)
    again, text = run(None, result.folder, settings={}, resume=4)
    assert "at step 4" in text
    assert again.steps == 5
    parts = torch.load(result.folder / "state.pt", weights_only=True)
    assert all(torch.equal(whole["network"][name], parts["network"][name]) for name in whole["network"])
    assert log_series(result.folder / "metrics.csv", "loss/total")[0] == [1, 2, 3, 4, 5]
    clear_results(result.folder)
    assert not [path.name for path in result.folder.iterdir() if path.name != ".lock"]


@no_report
def test_a_checkpoint_comes_with_each_evaluation(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"checkpoints.keep": 2, "evaluation.every": 1}
    result, _ = run(scenes, tmp_path / "run", settings=settings, steps=4, batch_size=2, val="none")
    assert numbered(result.folder) == [3, 4]
    with pytest.raises(ConfigError, match=r"checkpoints\.keep: .*`checkpoints\.every=5`"):
        run(scenes, tmp_path / "other", settings=SMALL | {"checkpoints.keep": 2}, steps=4, batch_size=2, val="none")


class Watch:
    """A callback that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_step(self, record: StepRecord) -> None:
        self.heard.append("step")

    def on_evaluation(self, record: EvaluationRecord) -> None:
        self.heard.append(record.metrics["coco_AP"])

    def close(self) -> None:
        self.heard.append("closed")


@no_report
def test_a_run_that_no_longer_improves_ends_and_says_so(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out.HeldOut, "measure", lambda self, network: {"coco_AP": 0.5})
    settings = SMALL | {"evaluation.every": 1, "evaluation.patience": 1, "schedule.warmup_steps": 0}
    watch = Watch()
    result, text = run(scenes, tmp_path / "run", settings=settings, steps=3, batch_size=2, callbacks=[watch])
    assert watch.heard == ["step", 0.5, "step", 0.5, "closed"]
    assert (result.ending, result.steps) == ("early", 2)
    assert text.count("early after 1 evaluation without a better coco_AP") == 2
    free = {"evaluation.patience": None}
    again, text = run(None, result.folder, settings=free, resume=True)
    assert (again.ending, again.steps) == ("finished", 3)
    assert "early" not in text


class Deaf:
    """A callback that was not finished."""

    def on_step(self, record: object) -> None:
        pass


@pytest.mark.parametrize(
    ("callback", "words"), [(Deaf(), "Deaf has no on_evaluation and no close"), (Watch, "Watch is a class")]
)
def test_callbacks_that_cannot_hear_are_refused_at_once(callback: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, tmp_path / "run", callbacks=[callback])
    assert not (tmp_path / "run").exists()


@no_report
def test_resume_takes_a_number_on_the_command_line(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL | {"checkpoints.every": 1}
    result, _ = run(scenes, tmp_path / "run", settings=settings, steps=2, batch_size=2, val="none")
    words = ["train", "--resume", "1", "--out", str(result.folder)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "at step 1" in done.output
    done = CliRunner().invoke(app, ["train", "--resume", "9", "--out", str(result.folder)])
    assert done.exit_code == 2
    assert "--resume 9: " in done.output
    assert "--resume continues from the last save" in done.output


@no_report
def test_weights_that_learnt_elsewhere_begin_at_their_step(scenes: Path, tmp_path: Path) -> None:
    schedule = {"kind": "multistep", "milestones": [10, 20], "warmup_steps": 0}
    settings = SMALL | {"schedule": schedule, "optimizer.name": "sgd"}
    result, text = run(scenes, tmp_path / "run", settings=settings, steps=22, batch_size=2, val="none", start_step=19)
    steps, rates = log_series(result.folder / "metrics.csv", "lr")
    assert steps == [20, 21, 22]
    assert rates == pytest.approx([1e-4, 1e-5, 1e-5])
    assert "22 steps from step 19 on" in text
    with pytest.raises(ConfigError, match="start_step: 22 lies in no run of 22 steps"):
        run(scenes, tmp_path / "other", steps=22, start_step=22)


@no_report
def test_weights_and_gradients_are_monitored(scenes: Path, tmp_path: Path) -> None:
    result, _ = run(
        scenes,
        tmp_path / "run",
        steps=4,
        batch_size=2,
        val="none",
        monitor=2,
        monitor_pattern="head.boxes.0",
        freeze=["head.logits"],
    )
    with (result.folder / "monitor.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["step"] for row in rows} == {"2", "4"}
    assert {row["of"] for row in rows} == {"weight", "gradient"}
    assert all(row["name"].startswith("head.boxes.0") for row in rows)
    assert all(float(row["min"]) <= float(row["max"]) and float(row["norm"]) >= 0 for row in rows)
    run(None, result.folder, settings={}, resume=True, steps=6)
    with (result.folder / "monitor.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == [
            *(row["step"] for row in rows),
            *["6"] * (len(rows) // 2),
        ]
    with pytest.raises(ConfigError, match="monitor_pattern: 'hed' is no part"):
        run(scenes, tmp_path / "other", steps=1, batch_size=2, val="none", monitor=1, monitor_pattern="hed")


@no_report
def test_tensorboard_shows_classes_and_pictures(scenes: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result, _ = run(scenes, tmp_path / "run", steps=1, batch_size=2, log="tensorboard")
    events = accumulator.EventAccumulator(str(result.folder / "tensorboard")).Reload()
    names = singleshot.data.open(scenes).class_map.names
    classes = {tag.removeprefix("classes/") for tag in events.Tags()["scalars"] if tag.startswith("classes/")}
    assert classes
    assert classes <= set(names)
    pictures = [tag for tag in events.Tags()["images"] if tag.startswith("predictions/")]
    assert 1 <= len(pictures) <= 4
    assert (events.Images(pictures[0])[0].height, events.Images(pictures[0])[0].width) == (120, 160)
