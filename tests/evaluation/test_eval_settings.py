"""How detections come about and what counts: settings of an evaluation and of a training's own; the files it saves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import singleshot
from perfect import Perfect
from singleshot import data as datasets
from singleshot.cli import app
from singleshot.core.postprocess import PaddedDetections
from singleshot.core.settings import PostprocessConfig
from singleshot.core.structures import ClassMap, Sample
from singleshot.data.published import PublishedSplits
from singleshot.demo.scenes import make_scenes
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, DataError
from singleshot.evaluation import result as result_module
from singleshot.evaluation.evaluate import evaluate_predictor
from singleshot.evaluation.metrics import DetectionTable, evaluate_detections
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.runtime.base import EngineBackend, TimedDetections
from singleshot.training import session
from singleshot.training.config import EvaluationConfig, TrainConfig
from singleshot.training.held_out import HeldOut
from singleshot.training.recipes import find_recipe, read_config

NMS: dict[str, Any] = {"nms_iou": 0.3, "agnostic": True, "max_detections": 7, "top_k": 50}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with splits; mugs are cups, which the bundled detector knows."""
    folder = make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=8, size_hw=(120, 160))
    (folder / "classes.txt").unlink()
    for path in (folder / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<name>mug<", "<name>cup<"))
    return folder


class Guess:
    """An engine that finds a cup about anywhere, as often as the settings allow."""

    name, device, parallel = "guess", "cpu", 1

    def predict(self, batch: np.ndarray, settings: PostprocessConfig) -> TimedDetections:
        count, _, height, width = batch.shape
        shape = (count, settings.max_detections)
        values = np.random.default_rng(0).random((*shape, 4), np.float32)
        corners = np.concatenate([values[..., :2] * 0.6, 0.6 + values[..., 2:] * 0.4], axis=2)
        boxes = corners * np.float32([width, height, width, height])
        scores = -np.sort(-np.random.default_rng(1).random(shape, np.float32))
        ids = np.full(shape, load("coco").class_names.index("cup"))
        return TimedDetections(PaddedDetections(boxes, scores, ids, np.full(count, shape[1])))


@pytest.fixture
def _guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "_backend", lambda self, wish, settings: EngineBackend(Guess(), settings))


@pytest.mark.usefixtures("_guesses")
def test_what_was_asked_for_is_what_ran_and_is_recorded(scenes: Path) -> None:
    plain = singleshot.evaluate("coco", scenes, "all", metrics=["voc"])
    asked = singleshot.evaluate("coco", scenes, "all", metrics=["voc"], iou=0.4, strict=True, **NMS)
    assert plain.postprocess is not None
    assert plain.settings == {
        "score": 0.01, "nms_iou": plain.postprocess.nms_iou, "agnostic": False, "iou": 0.5, "strict": False,
        "max_detections": plain.postprocess.max_detections, "top_k": plain.postprocess.pre_nms_top_k,
        "inclusive": False, "use_difficult": False,
    }  # fmt: skip
    recorded = json.loads(asked.to_json())["settings"]
    assert recorded == plain.settings | NMS | {"iou": 0.4, "strict": True}
    words = "NMS at an IoU of 0.3 whatever the classes, of the 50 best candidates of a class; at most 7 detections"
    assert words in asked.convention
    assert len(asked.detections) == 7 * 8


@pytest.mark.parametrize(("name", "value"), [("nms_iou", 2), ("top_k", 0), ("max_detections", 0)])
def test_wrong_values_are_named(scenes: Path, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` must"):
        singleshot.evaluate("coco", scenes, "all", **{name: value})


def one_image(folder: Path, difficult: bool) -> datasets.DetectionDataset:
    path = folder / "a.png"
    boxes = np.array([[0, 0, 20, 20], [30, 30, 60, 60]], np.float32)
    sample = Sample(path, (80, 80), boxes, np.zeros(2, int), difficult=np.array([False, difficult]))
    return datasets.DetectionDataset(folder, (sample,), ClassMap(("cell",)), None, (), "voc")


class FindsFirst(Perfect):
    """Finds the first object of each image only."""

    def stream(self, sources: Any, batch_size: int) -> Any:
        for result in super().stream(sources, batch_size):
            yield type(result)(result.frame, result.detections[:1])


@pytest.mark.parametrize(("difficult", "use", "ap"), [(False, False, 0.5), (True, False, 1.0), (True, True, 0.5)])
def test_difficult_objects_count_when_asked(tmp_path: Path, difficult: bool, use: bool, ap: float) -> None:
    dataset = one_image(tmp_path, difficult)
    result = evaluate_predictor(FindsFirst(dataset), dataset, use_difficult=use)  # type: ignore[arg-type]
    assert result.voc_area == pytest.approx(ap)
    assert ("Difficult objects count as any others" in result.convention) is use
    assert json.loads(result.to_json())["settings"]["use_difficult"] is use


@pytest.mark.usefixtures("_guesses")
def test_only_difficult_objects_can_be_measured_when_asked(tmp_path: Path, scenes: Path) -> None:
    copy = shutil.copytree(scenes, tmp_path / "copy")
    for path in (copy / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    with pytest.raises(DataError, match="only difficult"):
        singleshot.evaluate("coco", copy, "all", metrics=["voc"])
    found = singleshot.evaluate("coco", copy, "all", use_difficult=True)
    plain = singleshot.evaluate("coco", scenes, "all")
    assert found.summary == pytest.approx(plain.summary, nan_ok=True)
    assert found.voc_area > 0


@pytest.mark.usefixtures("_guesses")
def test_a_choice_of_classes(scenes: Path) -> None:
    found = singleshot.evaluate("coco", scenes, "all", metrics=["voc"], classes=["cup"])
    assert found.class_names == ("cup",)
    assert found.objects > 0


@pytest.mark.usefixtures("_guesses")
def test_the_command_line_takes_them_all(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_module, "evaluation_sections", lambda *_: [])
    options = ["--nms-iou", "0.45", "--agnostic", "--max-detections", "9", "--top-k", "60", "--use-difficult"]
    options += ["--lower-names", "--iou", "0.4", "--classes", "cup", "--split", "all", "--metric", "voc"]
    result = CliRunner().invoke(app, ["eval", "coco", str(scenes), *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out/eval.json").read_text())
    expected = {"nms_iou": 0.45, "agnostic": True, "max_detections": 9, "top_k": 60, "use_difficult": True, "iou": 0.4}
    assert expected.items() <= document["settings"].items()
    assert [row["name"] for row in document["per_class"]] == ["cup"]


def read_results(folder: Path, split: str, names: tuple[str, ...], images: list[str]) -> DetectionTable:
    """Detections from VOC's files, in our pixels."""
    rows = [
        (images.index(words[0]), class_id, [x0 - 1, y0 - 1, x1, y1], float(words[1]))
        for class_id, name in enumerate(names)
        for words in map(str.split, (folder / f"comp4_det_{split}_{name}.txt").read_text().splitlines())
        for x0, y0, x1, y1 in [map(float, words[2:])]
    ]
    rows.sort(key=lambda row: row[0])  # as they were found: image by image
    index, ids, boxes, scores = map(np.array, zip(*rows, strict=True))
    return DetectionTable(index, ids, boxes, scores)


@pytest.mark.usefixtures("_guesses")
def test_the_servers_files_give_the_same_numbers(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_module, "evaluation_sections", lambda *_: [])  # drawing takes seconds
    arguments = ["eval", "coco", str(scenes), "--split", "trainval", "--out", str(tmp_path / "out"), "--save"]
    result = CliRunner().invoke(app, [*arguments, "voc,text", "--save", "json"])
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "out/eval.json").read_text())
    dataset = datasets.open(scenes, "trainval")
    truth = singleshot.evaluate("coco", dataset, metrics=["voc"])
    images = [sample.image_path.stem for sample in dataset]
    table = read_results(tmp_path / "out/voc-results", "trainval", truth.class_names, images)
    assert len(table) == len(truth.detections)
    found = evaluate_detections(truth.truth, table, len(truth.class_names), coco=False)
    assert numbers["voc_area"] > 0
    assert found.voc_07 == pytest.approx(numbers["voc_07"], abs=1e-9)
    assert found.voc_area == pytest.approx(numbers["voc_area"], abs=1e-9)
    text = (tmp_path / "out/predictions.txt").read_text()
    assert text.count("GROUND TRUTH FOR: ") == len(dataset)
    assert text.count("\nlabel: ") == sum(map(len, dataset))
    assert len(json.loads((tmp_path / "out/detections.json").read_text())["images"]) == len(dataset)
    again = CliRunner().invoke(app, [*arguments, "voc-results"])
    assert again.exit_code == 2
    assert "--overwrite" in again.output
    assert CliRunner().invoke(app, [*arguments, "voc-results", "--overwrite"]).exit_code == 0
    assert not (tmp_path / "out/predictions.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--save", "voc"], "--save writes below a folder: name one by --out"),
        (["--save", "xml", "--out", "x"], "--save xml"),
    ],
)
def test_what_cannot_be_saved_is_told_before_the_work(scenes: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["eval", "coco", str(scenes), *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_training_measures_by_its_settings(scenes: Path) -> None:
    """They change what is measured, and leave the detector's own postprocessing."""
    rules = NMS | {"iou": 0.4, "strict": True, "use_difficult": True}
    config = EvaluationConfig(metric="voc_07", batch_size=2, **rules)
    spec = model_spec("ssdlite300_mobilenet_v2", ["cup", "box"], (96, 96))
    measured = HeldOut(spec, datasets.open(scenes, "test"), config)
    assert "voc_07" in measured.measure(build_network(spec.network).eval())
    result = measured._latest
    assert result is not None
    assert rules.items() <= result.settings.items()
    assert spec.postprocess.max_detections != rules["max_detections"]


class Opened(Exception):
    """Ends a training once the data would be opened."""


def test_a_training_opens_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def listen(*arguments: Any, **options: Any) -> None:
        seen.update(options)
        raise Opened

    monkeypatch.setattr(session, "open_training", listen)
    arguments = ["train", str(tmp_path), "--out", str(tmp_path / "run"), "--recipe", "ssd300_voc0712"]
    result = CliRunner().invoke(app, [*arguments, "--classes", "dog,cat", "--classes", "cow", "--lower-names"])
    assert isinstance(result.exception, Opened)
    assert seen == {
        "classes": ("dog", "cat", "cow"),
        "lower_names": True,
        "published": PublishedSplits("2007_trainval+2012_trainval", "2007_test", "VOC2007 test"),
        "decisions": None,
    }


def test_mxnets_recipe_measures_as_mxnet_does() -> None:
    evaluation = read_config(find_recipe("mxnet_ssd300_voc0712")).evaluation
    assert (evaluation.nms_iou, evaluation.iou, evaluation.strict) == (0.45, 0.5, True)
    assert TrainConfig().evaluation.nms_iou is None
