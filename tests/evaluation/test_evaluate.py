from __future__ import annotations

import contextlib
import inspect
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from perfect import Perfect
from singleshot import data as datasets
from singleshot.cli import app
from singleshot.cli.eval_tables import _class_table
from singleshot.core.postprocess import PaddedDetections
from singleshot.core.settings import PreprocessConfig
from singleshot.core.structures import ClassMap, Sample
from singleshot.data.train_val import open_held_out
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, DataError, OutputError, WeightsError
from singleshot.evaluation.evaluate import evaluate, evaluate_network, evaluate_predictor
from singleshot.evaluation.metrics import DetectionTable, GroundTruth, VocConfig, evaluate_detections
from singleshot.evaluation.numbers import Speed
from singleshot.evaluation.pages import evaluation_sections
from singleshot.evaluation.result import EvalResult
from singleshot.prediction.pipeline import Predictor
from singleshot.report.page import render_page
from singleshot.runtime.base import TimedDetections

HEIGHT, WIDTH = 60, 90
OBJECTS = {
    "a.png": [("dog", [10, 10, 40, 40]), ("cat", [50, 20, 80, 50])],
    "b.png": [("dog", [5, 5, 25, 30])],
    "c.png": [],
    "d.png": [("fox", [10, 10, 50, 50])],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A COCO data set of four images; boxes are given as x0, y0, x1, y1."""
    names = ["dog", "cat", "fox"]
    annotations = [
        {"id": 0, "image_id": place, "category_id": names.index(name), "bbox": [x0, y0, x1 - x0, y1 - y0],
         "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
        for place, rows in enumerate(OBJECTS.values())
        for name, (x0, y0, x1, y1) in rows
    ]  # fmt: skip
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    (tmp_path / "images").mkdir()
    for place, name in enumerate(OBJECTS):
        picture = np.full((HEIGHT, WIDTH, 3), 40 * place, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / name), picture)
    images = [{"id": place, "file_name": name, "height": HEIGHT, "width": WIDTH} for place, name in enumerate(OBJECTS)]
    categories = [{"id": place, "name": name} for place, name in enumerate(names)]
    document = {"images": images, "categories": categories, "annotations": annotations}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return tmp_path


class Oracle:
    """Recognises the images by their colour and finds what it is told, in pixels of a 30 x 30 network input."""

    name = "oracle"

    def __init__(self, found: dict[str, list[tuple[str, list[float], float]]], names: tuple[str, ...]) -> None:
        self.found, self.names = found, names
        self.batches: list[int] = []

    def predict(self, batch: NDArray[np.float32]) -> TimedDetections:
        self.batches.append(len(batch))
        which = (batch[:, 0, 15, 15] / 40).round().astype(int)
        rows = [self.found.get(list(OBJECTS)[place], []) for place in which]
        most = max(map(len, rows))
        boxes, scores = np.zeros((len(rows), most, 4), np.float32), np.zeros((len(rows), most), np.float32)
        ids = np.full((len(rows), most), -1, np.int64)
        for image, row in enumerate(rows):
            for place, (name, box, score) in enumerate(row):
                boxes[image, place] = np.array(box) * np.tile([30 / WIDTH, 30 / HEIGHT], 2)
                scores[image, place], ids[image, place] = score, self.names.index(name)
        counts = np.array([len(row) for row in rows])
        return TimedDetections(PaddedDetections(boxes, scores, ids, counts), 0.25, 0.125)


def predictor(
    found: dict[str, list[tuple[str, list[float], float]]], names: tuple[str, ...] = ("cat", "dog")
) -> Predictor:
    config = PreprocessConfig(size_hw=(30, 30), mean=(0.0, 0.0, 0.0))
    return Predictor(Oracle(found, names), config, names)


EVERYTHING = {image: [(name, box, 0.9) for name, box in rows if name != "fox"] for image, rows in OBJECTS.items()}


def run(found: dict[str, list[tuple[str, list[float], float]]], folder: Path, **options: object) -> EvalResult:
    return evaluate_predictor(predictor(found), datasets.open(folder), **options)  # type: ignore[arg-type]


def test_finding_nothing(folder: Path) -> None:
    result = run({}, folder)
    assert result.voc_area == result.voc_07 == result.coco["AP"] == 0
    assert "found nothing" in result.hints[0]


def test_finding_everything(folder: Path) -> None:
    result = run(EVERYTHING, folder)
    assert result.voc_area == result.voc_07 == 1
    assert result.coco["AP"] == pytest.approx(1)
    assert [(item.name, item.objects, item.voc_area) for item in result.per_class] == [("dog", 2, 1), ("cat", 1, 1)]
    assert result.hints == ()


def test_classes_are_matched_by_name_and_the_rest_is_named(folder: Path) -> None:
    result = evaluate_predictor(predictor(EVERYTHING, ("cow", "Dog", "dog", "cat")), datasets.open(folder))
    assert result.class_names == ("dog", "cat")
    assert result.only_data == ("fox",)
    assert "cow" in result.only_model


def test_no_common_class_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="'cat' of the data is nearest to 'cats'"):
        evaluate_predictor(predictor({}, ("cats",)), datasets.open(folder))


def test_speed_and_progress_count_images(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    detector = predictor(EVERYTHING)
    result = evaluate_predictor(
        detector, datasets.open(folder), batch_size=3, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert detector.backend.batches == [3, 1]  # type: ignore[attr-defined]
    assert result.speed.network_ms == pytest.approx(1000 * 2 * 0.25 / 4)
    assert result.speed.postprocess_ms == pytest.approx(1000 * 2 * 0.125 / 4)
    assert result.speed.backend == "oracle"


def test_unreadable_images_are_left_out_with_their_objects(folder: Path) -> None:
    dataset = datasets.open(folder)
    (folder / "images/b.png").write_bytes(b"broken")
    result = evaluate_predictor(predictor(EVERYTHING), dataset)
    assert len(result.samples) == 3
    assert "b.png" in result.failed[0]
    assert [item.objects for item in result.per_class] == [1, 1]
    assert result.voc_area == 1


def test_no_readable_image_is_an_error(folder: Path) -> None:
    dataset = datasets.open(folder)
    for path in (folder / "images").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="none of the 4 images"):
        evaluate_predictor(predictor({}), dataset)


def test_metrics_can_be_chosen(folder: Path) -> None:
    assert run(EVERYTHING, folder, metrics=["voc"]).coco == {}
    with pytest.raises(ConfigError, match="no metric 'map'"):
        run(EVERYTHING, folder, metrics=["map"])


def test_the_dialect_of_voc_reaches_the_numbers(folder: Path) -> None:
    loose = {"b.png": [("dog", [5, 5, 25, 20], 0.9)]}  # IoU 0.6
    assert run(loose, folder).voc_area == pytest.approx(0.25)
    assert run(loose, folder, voc=VocConfig(min_iou=0.75)).voc_area == 0


def test_json_and_csv_say_the_same(folder: Path) -> None:
    found = EVERYTHING | {"c.png": [("cat", [1.0, 1, 20, 20], 0.95)]}
    result = run(found, folder)
    record = json.loads(result.to_json())
    assert record["voc_area"] == pytest.approx(0.75)
    assert record["coco"]["AP_large"] is None
    assert record["per_class"][1]["name"] == "cat"
    assert record["confusion"]["counts"] == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert record["classes_only_in_data"] == ["fox"]
    assert "as (xmin - 1" not in record["convention"]
    lines = result.to_csv().splitlines()
    assert len(lines) == 1 + 2 * 101
    assert lines[1].startswith('"dog",0.00,1.00000,')


@pytest.fixture
def saved(folder: Path, tmp_path: Path) -> tuple[str, Path]:
    found = EVERYTHING | {"b.png": [], "c.png": [("cat", [1.0, 1, 20, 20], 0.95)]}
    out = tmp_path / "out"
    page = run(found, folder, name="my <model>").save(out)
    return page.read_text(encoding="utf-8"), out


def test_the_report_shows_the_worst_images(saved: tuple[str, Path]) -> None:
    page, out = saved
    assert {path.name for path in out.iterdir()} == {"eval.json", "curves.csv", "report.html"}
    assert "my &lt;model&gt;" in page
    assert "b.png: 1 missed, 0 wrong" in page
    assert "c.png: 0 missed, 1 wrong" in page
    assert "a.png" not in page
    assert "fox" in page
    assert page.count("data:image/jpeg") == 2


def test_a_report_of_nothing_has_all_sections(folder: Path, tmp_path: Path) -> None:
    empty = datasets.open(folder).subset([2])
    page = evaluate_predictor(predictor({}), empty).save(tmp_path / "out").read_text(encoding="utf-8")
    assert "no objects of the evaluated classes" in page
    assert "No image has a missed object" in page


def test_the_held_out_split_is_the_default(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f"images/{split}/{split}.png"), np.zeros((20, 20, 3), np.uint8))
        (tmp_path / f"labels/{split}/{split}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [dog]\n")
    assert open_held_out(tmp_path).split == "val"
    assert len(open_held_out(tmp_path, "all")) == 2
    assert open_held_out(tmp_path, "train").split == "train"


def test_a_heap_of_images_is_evaluated_whole(folder: Path) -> None:
    assert len(open_held_out(folder)) == 4


def test_a_missing_weights_file_is_named(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        evaluate(folder / "none.safetensors", folder)


def test_the_command_prints_tables_and_writes_the_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    runner = CliRunner()
    out = folder / "out"
    outcome = runner.invoke(app, ["eval", "coco", str(folder), "--out", str(out), "--batch", "2", "--metric", "voc"])
    assert outcome.exit_code == 0, outcome.output
    assert "VOC AP, area, IoU 0.5" in outcome.output
    assert "COCO" not in outcome.output
    assert "Left out, since the model does not know them: fox." in outcome.output
    assert json.loads((out / "eval.json").read_text())["coco"] is None
    assert (out / "report.html").is_file()


def test_the_commands_mistakes_are_one_message(folder: Path) -> None:
    outcome = CliRunner().invoke(app, ["eval", "coco", str(folder), "--split", "nonsense"])
    assert outcome.exit_code == 2
    assert "nonsense" in outcome.output


def test_the_bundled_detector_equals_pycocotools(reference: Path) -> None:
    """Real boxes and scores through a results file, as anybody would check us."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    COCOeval = pytest.importorskip("pycocotools.cocoeval").COCOeval
    path = reference / "data/coco_train343"
    dataset = datasets.open(path).subset(range(12))
    result = evaluate("coco", dataset)
    ids = dataset.class_map.ids
    table, samples = result.detections, result.samples
    boxes = table.boxes_xyxy.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    rows = [
        {"image_id": samples[image].image_id, "category_id": ids[label], "bbox": box, "score": score}
        for image, label, box, score in zip(
            table.image_index, table.class_ids, boxes.tolist(), table.scores.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(path / "instances.json"))
        evaluator = COCOeval(labels, labels.loadRes(rows), "bbox")
        evaluator.params.imgIds = [sample.image_id for sample in samples]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert result.coco["AP"] > 0.2
    np.testing.assert_allclose(list(result.coco.values()), evaluator.stats, atol=1e-6)


def test_a_network_in_memory_gives_the_same_numbers(reference: Path) -> None:
    dataset = datasets.open(reference / "data/coco_train343").subset(range(3))
    detector = load("coco")
    in_memory = evaluate_network(detector.network, detector.spec, dataset)
    from_file = evaluate("coco", dataset, score=0.01, backend="torch", precision="fp32")
    np.testing.assert_array_equal(list(in_memory.summary.values()), list(from_file.summary.values()))
    assert len(in_memory.detections) == len(from_file.detections) > 0


def test_numbers_are_measured_in_float32_unless_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the cache holds, however many images there are."""
    asked = []

    def note(self: Detector, score_threshold: float, **options: object) -> Predictor:
        asked.append((options["precision"], options["nms_iou"], options["max_detections"]))
        return predictor({}, ("dog", "cat"))

    monkeypatch.setattr(Detector, "predictor", note)
    evaluate("coco", folder)
    evaluate("coco", folder, precision="auto", nms_iou=0.6, max_detections=300)
    outcome = CliRunner().invoke(app, ["eval", "coco", str(folder)])
    assert outcome.exit_code == 0, outcome.output
    assert asked == [("fp32", None, None), ("auto", 0.6, 300), ("fp32", None, None)]
    assert "4 images, 3 objects; oracle" in " ".join(outcome.output.split())


def test_every_python_option_is_one_of_the_command() -> None:
    command = typer.main.get_command(app).get_command(None, "eval")  # type: ignore[attr-defined, arg-type]
    options = {name.lstrip("-") for parameter in command.params for name in parameter.opts}
    named = set(inspect.signature(evaluate).parameters) - {"model", "data", "on_progress", "on_result", "on_note"}
    assert {name.replace("_", "-") for name in named} <= options


def crowd(tmp_path: Path, count: int) -> datasets.DetectionDataset:
    """One image with ``count`` objects of a class, and one with a single one."""
    places = np.arange(count)
    corners = np.stack([places % 30 * 20.0, places // 30 * 20.0], axis=1)
    boxes = np.concatenate([corners, corners + 15], axis=1)
    samples = tuple(
        Sample(tmp_path / name, (600, 600), part.astype(np.float32), np.zeros(len(part), int))
        for name, part in (("many.png", boxes), ("one.png", boxes[:1]))
    )
    return datasets.DetectionDataset(tmp_path, samples, ClassMap(("cell",)), None, (), "voc")


@pytest.mark.parametrize(
    ("count", "limit", "coco_detections", "said"),
    [
        (100, 200, 100, []),
        (101, 200, 100, ["COCO counts at most 100 detections of a class"]),
        (300, 200, 100, ["COCO AP cannot exceed 0.337", "at most 200 detections for an image"]),
        (300, 300, 300, []),
    ],
)
def test_what_bounds_the_numbers_is_said(
    tmp_path: Path, count: int, limit: int, coco_detections: int, said: list[str]
) -> None:
    dataset = crowd(tmp_path, count)
    result = evaluate_predictor(
        Perfect(dataset),  # type: ignore[arg-type]
        dataset,
        max_detections=limit,
        coco_detections=coco_detections,
    )
    remarks = json.loads(result.to_json())["remarks"]
    assert len(remarks) == len(said)
    for words, remark in zip(said, remarks, strict=True):
        assert words in remark
        assert f"`max_detections={count}`" in remark
    assert (result.coco["AP"] == pytest.approx(1)) is (not said)
    assert json.loads(result.to_json())["coco_max_detections"] == coco_detections
    if said:
        page = render_page("t", evaluation_sections(result, worst=0))
        assert said[0] in page


def labelled(folder: Path, lines: dict[str, str | None]) -> Path:
    """A YOLO data set of one image a split; ``None`` leaves the label folder out."""
    for split, text in lines.items():
        (folder / "images" / split).mkdir(parents=True)
        cv2.imwrite(str(folder / f"images/{split}/{split}.png"), np.zeros((20, 20, 3), np.uint8))
        if text is not None:
            (folder / "labels" / split).mkdir(parents=True)
            (folder / f"labels/{split}/{split}.txt").write_text(text)
    keys = "".join(f"{split}: images/{split}\n" for split in lines)
    (folder / "data.yaml").write_text(f"{keys}names: [dog, sundial]\n")
    return folder


DOG, SUNDIAL = "0 0.5 0.5 0.5 0.5\n", "1 0.5 0.5 0.5 0.5\n"


@pytest.mark.parametrize(
    ("lines", "split", "message"),
    [
        ({"train": DOG, "val": None}, None, "not one labelled object"),
        ({"train": DOG, "val": ""}, None, "not one labelled object"),
        ({"train": DOG, "val": SUNDIAL}, "val", "no object of the classes that the model knows"),
    ],
)
def test_where_nothing_can_be_measured_is_an_error(
    tmp_path: Path, lines: dict[str, str | None], split: str | None, message: str
) -> None:
    data = labelled(tmp_path, lines)
    with pytest.raises(DataError, match=message):
        evaluate("coco", data, split)
    outcome = CliRunner().invoke(app, ["eval", "coco", str(data), *(["--split", split] if split else [])])
    assert outcome.exit_code == 2
    assert message in " ".join(outcome.output.split())
    assert "AP" not in outcome.output


def test_of_the_held_out_splits_the_first_with_objects_is_taken(tmp_path: Path) -> None:
    assert open_held_out(labelled(tmp_path, {"train": DOG, "test": "", "val": DOG})).split == "val"


def test_no_images_at_all_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="has no images"):
        evaluate("coco", datasets.open(folder).subset([]))


def test_left_out_images_end_with_exit_code_1(folder: Path) -> None:
    (folder / "images/b.png").write_bytes((folder / "images/b.png").read_bytes()[:60])
    outcome = CliRunner().invoke(app, ["eval", "coco", str(folder), "--backend", "torch"])
    assert outcome.exit_code == 1, outcome.output
    assert "Note: unreadable-image: 1 skipped: " in " ".join(outcome.output.split())
    assert outcome.output.index("b.png") < outcome.output.index("VOC AP")  # before the work
    assert "unreadable-image: 1 skipped" in json.loads(run(EVERYTHING, folder).to_json())["remarks"][0]


def test_files_of_others_stay(folder: Path) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "report.html").write_text("mine")
    command = ["eval", "coco", str(folder), "--out", str(out), "--backend", "torch"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "report.html" in refused.output
    assert "AP" not in refused.output
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert (out / "report.html").read_text() == "mine"
    with pytest.raises(OutputError, match=r"report\.html"):
        run(EVERYTHING, folder).save(out)
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
    assert "Evaluation" in (out / "report.html").read_text()


def test_a_file_is_no_folder_for_results(folder: Path) -> None:
    outcome = CliRunner().invoke(app, ["eval", "coco", str(folder), "--out", str(folder / "instances.json")])
    assert outcome.exit_code == 2
    assert "is a file: name a folder" in outcome.output
    assert "AP" not in outcome.output


def test_the_labels_themselves_are_never_replaced(folder: Path) -> None:
    (folder / "instances.json").rename(folder / "eval.json")
    before = (folder / "eval.json").read_bytes()
    outcome = CliRunner().invoke(app, ["eval", "coco", str(folder), "--out", str(folder), "--overwrite"])
    assert outcome.exit_code == 2
    assert "source" in outcome.output
    assert (folder / "eval.json").read_bytes() == before


ODD_NAMES = (
    "<script>alert(1)</script>",
    "--></svg>",
    "a & b",
    "_x",
    "$x_1$",
    "猫",
    "mean of all classes",
    "{{ 7*7 }}",
    "\x1b[31m",
)


@pytest.mark.parametrize(
    "names",
    [("dog",), ODD_NAMES, tuple(f"class {index}" for index in range(200))],
    ids=["one", "odd", "two hundred"],
)
@pytest.mark.parametrize("images", [0, 1, 8])
def test_a_page_of_any_classes(tmp_path: Path, names: tuple[str, ...], images: int) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 90, 3), np.uint8))
    box = np.array([[10.0, 10, 50, 50]], np.float32)
    samples = [
        Sample(tmp_path / "a.png", (60, 90), box.repeat(len(names), 0), np.arange(len(names))) for _ in range(images)
    ]
    truth = GroundTruth.from_samples(samples)
    ids = np.roll(truth.class_ids, 1) if len(names) < 100 else truth.class_ids
    table = DetectionTable(truth.image_index, ids, truth.boxes_xyxy, np.full(len(truth), 0.5))
    numbers = evaluate_detections(truth, table, len(names))
    speed = Speed(0, 0, 0, 0, 0, "oracle", 1)
    result = EvalResult(
        "m", "caf\udce9", None, "voc", names, (), (), tuple(samples), truth, table, numbers, VocConfig(), 0.01, speed
    )
    page = result.save(tmp_path / "out", worst=2).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "{{" in page or names != ODD_NAMES or not images
    assert json.loads((tmp_path / "out/eval.json").read_text(encoding="utf-8"))["confusion"]["names"][:-1] == list(
        names
    )
    assert (tmp_path / "out/curves.csv").read_text(encoding="utf-8").count("0.50,") >= len(names)


def test_the_table_shows_the_worst_classes() -> None:
    names = tuple(f"class {index:03d}" for index in range(120))
    boxes = np.tile([10.0, 10, 50, 50], (120, 1))
    truth = GroundTruth(np.arange(120), np.arange(120), boxes, 120)
    table = DetectionTable(np.arange(100), np.arange(100), boxes[:100], np.full(100, 0.5))  # the last are not found
    numbers, speed = evaluate_detections(truth, table, 120), Speed(0, 0, 0, 0, 0, "oracle", 1)
    result = EvalResult("m", "d", None, "voc", names, (), (), (), truth, table, numbers, VocConfig(), 0.01, speed)
    console = Console(file=io.StringIO(), width=120)
    console.print(_class_table(result, ("voc",)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "80 classes between" in shown
    assert all(name in shown for name in names[100:])
    assert names[0] in shown


def test_headline_has_its_counts_and_interval(folder: Path) -> None:
    assert run(EVERYTHING, folder).headline == "COCO AP 1.000, AP50 1.000 on 4 images, 3 objects"
    assert run(EVERYTHING, folder, metrics=["voc"]).headline == "VOC AP 1.000 on 4 images, 3 objects"
    assert run({}, folder).headline == "COCO AP 0.000, AP50 0.000 on 4 images, 3 objects"
    dataset = datasets.open(folder)
    dataset = dataset.subset([0, 1, 0, 1, 0, 1])
    result = evaluate_predictor(predictor(EVERYTHING | {"b.png": []}), dataset)
    low, high = result.intervals["AP50"]
    assert 0 < low < result.coco["AP50"] < high <= 1
    assert f"AP50 {result.coco['AP50']:.3f} (95 %: {low:.3f} to {high:.3f}) on 6 images, 9 objects" in result.headline


def test_classes_matched_loosely_are_named(folder: Path) -> None:
    result = evaluate_predictor(predictor({}, ("Dog", "cat")), datasets.open(folder))
    assert result.loose == (("Dog", "dog"),)
    assert any("'Dog' of the model is 'dog' of the data" in remark for remark in result.remarks)
    assert json.loads(result.to_json())["classes_matched_loosely"] == [{"model": "Dog", "data": "dog"}]
    assert not any("spelt differently" in remark for remark in run({}, folder).remarks)


def test_an_image_that_vanishes_costs_only_its_picture(folder: Path, tmp_path: Path) -> None:
    result = run({}, folder)
    (folder / "images/a.png").unlink()
    page = result.save(tmp_path / "out").read_text(encoding="utf-8")
    assert "a.png cannot be drawn" in page
    assert "b.png: 1 missed, 0 wrong" in page
