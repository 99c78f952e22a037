"""``singleshot predict`` as a user runs it, with a detector that needs no time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result as CliResult
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.cli.signals import Terminated
from singleshot.core.postprocess import PaddedDetections
from singleshot.core.settings import PostprocessConfig
from singleshot.detector import Detector
from singleshot.images.read import write_image
from singleshot.runtime.base import TimedDetections

Run = Callable[..., CliResult]


class OneBox:
    """Finds a person in the left half of every image."""

    name = "one box"

    def predict(self, batch: np.ndarray) -> TimedDetections:
        count, _, height, width = batch.shape
        boxes = np.tile(np.float32([0, 0, width / 2, height]), (count, 1, 1))
        scores, ids = np.full((count, 1), 0.5, np.float32), np.zeros((count, 1), np.int64)
        return TimedDetections(PaddedDetections(boxes, scores, ids, np.ones(count, np.int64)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Detector, "_backend", lambda *_: OneBox())
    for name in ("a.png", "b.jpg", "sub/a.png"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        write_image(Path("photos", name), np.full((20, 30, 3), 90, np.uint8))
    return lambda *arguments: CliRunner().invoke(app, ["predict", *arguments])


def test_a_folder(run: Run) -> None:
    result = run("photos", "--save", "images,json,csv,coco,crops")
    assert result.exit_code == 0, result.output
    assert "photos/a.png: 1 person" in result.output
    assert "2 images, 2 objects in" in result.output
    assert "network" not in result.output
    document = json.loads(Path("predictions/detections.json").read_text())
    assert [record["path"] for record in document["images"]] == ["photos/a.png", "photos/b.jpg"]
    assert document["images"][0]["detections"][0]["box_xyxy"] == [0, 0, 15, 20]
    assert len(json.loads(Path("predictions/coco.json").read_text())) == 2
    assert sorted(path.name for path in Path("predictions").iterdir()) == [
        ".singleshot-results", "coco.json", "crops", "detections.csv", "detections.json", "images",
    ]  # fmt: skip


def test_score_is_the_models_own_by_default(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def backend(_self: Detector, _wish: object, settings: PostprocessConfig) -> OneBox:
        asked.append(settings.score_threshold)
        return OneBox()

    monkeypatch.setattr(Detector, "_backend", backend)
    for model, options in (("coco", ()), ("coco-v3", ()), ("coco-v3", ("--score", "0.2"))):
        assert run("photos", "--model", model, "--save", "json", *options).exit_code == 0
    assert asked == [0.3, 0.5, 0.2]


def test_results_inside_the_folder_are_not_found_again(run: Run) -> None:
    for _ in range(2):
        result = run("photos", "-r", "--out", "photos/found", "--overwrite", "--save", "images")
        assert "3 images, 3 objects" in result.output
    assert "3 images, 3 objects" in run("photos", "-r").output
    assert "2 images, 2 objects" in run("photos/*").output
    assert Path("photos/found/images/sub/a.png").exists()


def test_bad_images_are_listed_and_the_others_done(run: Run) -> None:
    Path("photos/bad.jpg").write_bytes(b"<html>")
    result = run("photos")
    assert result.exit_code == 1
    assert "photos/bad.jpg: failed" in result.output
    assert "2 images" in result.output
    assert result.stderr.splitlines()[-2:] == [
        "1 could not be read:",
        "  photos/bad.jpg: is a web page or other markup, not an image: download it again",
    ]
    assert len(json.loads(Path("predictions/detections.json").read_text())["failed"]) == 1


def test_many_images_are_counted_not_listed(run: Run) -> None:
    for index in range(25):
        write_image(Path("photos", f"{index}.png"), np.full((20, 30, 3), 90, np.uint8))
    result = run("photos", "--save", "json")
    assert "photos/a.png" not in result.output
    assert "Found: 27 person" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo"], "did you mean photos?"),
        (["photos/*.gif"], "matches no file"),
        (["photos", "--score", "30"], "--score must lie in 0..1"),
        (["photos", "--save", "images,xml"], "choose from"),
        (["photos", "--batch", "0"], "--batch-size must be a whole number of images in 1..1024, not 0"),
        (["photos", "--weights", "coc"], "Did you mean 'coco'?"),
        (["photos", "--weights", "photos/b.jpg"], "photos/b.jpg"),
        (["photos", "--nms-iou", "2"], "--nms-iou must lie in 0..1, not 2"),
        (["photos", "--max-detections", "0"], "--max-detections must be at least 1"),
        (["photos", "--out", "photos/a.png"], "photos/a.png"),
        (["photos", "--classes", "persn,dog"], "did you mean 'person'"),
        (["photos", "--line-width", "0"], "--line-width must be a whole number of pixels"),
        (["photos", "--max-pixels", "0"], "--max-pixels must be at least 1"),
        ([""], 'the source "" is empty'),
        (["s3://bucket/a.jpg"], "s3://bucket/a.jpg: addresses are not fetched"),
        (["list.txt"], "list.txt: is text, not an image"),
        (["photos", "--device", "gpu"], "--device gpu: unknown; choose from auto, cpu, cuda, cuda:1, mps"),
    ],
)
def test_mistakes_are_one_message_and_write_nothing(run: Run, arguments: list[str], message: str) -> None:
    Path("list.txt").write_text("photos/a.png\n")
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not Path("predictions").exists()


def test_device_and_compile_reach_the_backend(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = []
    monkeypatch.setattr(Detector, "_backend", lambda self, wish, _: wishes.append(wish) or OneBox())
    assert run("photos", "--device", "cuda:1", "--compile").exit_code == 0
    assert (wishes[0].device, wishes[0].compile) == ("cuda:1", True)
    assert run("photos").exit_code == 0
    assert (wishes[1].device, wishes[1].compile) == ("auto", False)


def test_no_source(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "SOURCE" in result.stderr


def test_one_photo_is_told_in_a_few_lines(run: Run) -> None:
    result = run("photos/b.jpg", "--save", "json")
    lines = result.stdout.splitlines()
    assert lines[0] == "photos/b.jpg: 1 person"
    assert lines[1].startswith("1 image, 1 object in ")
    assert lines[2:] == ["Results: predictions"]
    assert "ms per image" in run("photos/b.jpg", "--times", "--save", "").stdout
    assert "%" not in run("photos/b.jpg", "--times", "--save", "").stdout


def test_every_run_has_a_folder_of_its_own(run: Run) -> None:
    for number, source in enumerate(("photos/a.png", "photos/b.jpg", "photos"), 1):
        out = "predictions" if number == 1 else f"predictions-{number}"
        assert f"Results: {out}\n" in run(source).stdout
        assert len(list(Path(out, "images").iterdir())) == len(
            json.loads(Path(out, "detections.json").read_text())["images"]
        )


def test_a_folder_of_results_is_not_mixed(run: Run) -> None:
    assert run("photos/a.png", "--out", "p").exit_code == 0
    before = Path("p/detections.json").read_text()
    result = run("photos/b.jpg", "--out", "p")
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert Path("p/detections.json").read_text() == before
    assert run("photos/b.jpg", "--out", "p", "--overwrite").exit_code == 0
    assert [path.name for path in Path("p/images").iterdir()] == ["b.jpg"]
    assert [record["path"] for record in json.loads(Path("p/detections.json").read_text())["images"]] == [
        "photos/b.jpg"
    ]


def test_sources_among_the_results_stay(run: Run) -> None:
    assert run("photos", "--out", "p").exit_code == 0
    before = Path("p/images/a.png").read_bytes()
    result = run("p/images", "--out", "p", "--overwrite")
    assert result.exit_code == 2
    assert "p/images/a.png: is a source of this run" in result.stderr
    assert Path("p/images/a.png").read_bytes() == before
    result = run("photos/a.png", "--out", ".", "--overwrite")
    assert result.exit_code == 0
    Path("images/b.png").write_bytes(Path("photos/a.png").read_bytes())
    assert run("images", "--out", ".", "--overwrite").exit_code == 2


def test_a_picture_that_cannot_be_written_is_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from singleshot.prediction import sinks

    def write(path: Path, picture: np.ndarray) -> None:
        if path.name == "a.png":
            raise OSError(28, "No space left on device", str(path))
        write_image(path, picture)

    monkeypatch.setattr(sinks, "write_image", write)
    result = run("photos")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-2:] == [
        "1 could not be written:",
        "  photos/a.png: predictions/images/a.png: No space left on device",
    ]
    assert len(json.loads(Path("predictions/detections.json").read_text())["images"]) == 2
    assert Path("predictions/images/b.jpg").exists()


def test_a_line_that_cannot_be_shown_costs_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = typer.echo

    def echo(message: str = "", **options: Any) -> None:
        if not options.get("err"):
            raise OSError(28, "No space left on device")
        plain(message, **options)

    monkeypatch.setattr(typer, "echo", echo)
    result = run("photos")
    assert result.exit_code == 1
    assert "standard output cannot be written: No space left on device" in result.stderr
    assert json.loads(Path("predictions/detections.json").read_text())["complete"]


@pytest.mark.parametrize(("signal_", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_ctrl_c_keeps_what_was_found(
    run: Run, monkeypatch: pytest.MonkeyPatch, signal_: type[KeyboardInterrupt], code: int
) -> None:
    class Interrupted(OneBox):
        calls = 0

        def predict(self, batch: np.ndarray) -> TimedDetections:
            self.calls += 1
            if self.calls == 2:
                raise signal_
            return super().predict(batch)

    backend = Interrupted()
    monkeypatch.setattr(Detector, "_backend", lambda self, wish, settings: backend)
    result = run("photos", "-r", "--save", "images,json,csv")
    assert result.exit_code == code
    assert "Interrupted after 1 of 3 images; what was found is kept." in result.stderr
    document = json.loads(Path("predictions/detections.json").read_text())
    assert (len(document["images"]), document["complete"]) == (1, False)
    assert len(list(Path("predictions/images").iterdir())) == 1


def test_folders_that_cannot_be_read_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = run("photos", "-r", "--save", "json")
    assert result.exit_code == 1
    assert "photos/sub: cannot be searched: Permission denied" in result.stderr


@pytest.mark.parametrize("save", ["", "json"])
def test_classes_and_looks(run: Run, save: str) -> None:
    result = run("photos", "--classes", "dog, 15", "--save", save)
    assert "2 images, 0 objects" in result.stdout
    assert "2 objects" in run("photos", "--classes", "0", "--no-labels", "--line-width", "3", "--save", save).stdout
    assert Path("predictions").exists() is bool(save)


def test_names_with_control_characters_stay_on_their_line(run: Run) -> None:
    Path("photos/b.jpg").rename("photos/b\x1b[2J\n.jpg")
    result = run("photos", "--save", "json")
    assert "photos/b\\x1b[2J\\x0a.jpg: 1 person" in result.stdout.splitlines()
    assert json.loads(Path("predictions/detections.json").read_text())["images"][1]["path"] == "photos/b\x1b[2J\n.jpg"


def test_a_file_named_predictions_is_left_alone(run: Run) -> None:
    Path("predictions").write_text("mine")
    assert run("photos").exit_code == 0
    assert Path("predictions").read_text() == "mine"
    assert Path("predictions-2/detections.json").exists()


@pytest.mark.parametrize("value", ["", ",", " , "])
def test_classes_that_name_none(run: Run, value: str) -> None:
    result = run("photos", "--classes", value)
    assert result.exit_code == 2
    assert "--classes names no class" in result.output


def test_into_the_folder_of_the_photos(run: Run) -> None:
    before = Path("photos/b.jpg").read_bytes()
    for _ in range(2):
        assert run("photos", "--recursive", "--out", "photos", "--overwrite").exit_code == 0
        assert len(json.loads(Path("photos/detections.json").read_text())["images"]) == 3
    assert Path("photos/b.jpg").read_bytes() == before


@pytest.fixture
def devkit(run: Run) -> Path:
    """VOC2007 with labels; of VOC2012's test, as it was published, only the images and the list."""
    for part, stems in (("VOC2007", ("a", "b", "c")), ("VOC2012", ("p", "q", "r"))):
        for stem in stems:
            (root := Path("VOCdevkit", part) / "JPEGImages").mkdir(parents=True, exist_ok=True)
            write_image(root / f"{stem}.jpg", np.full((20, 30, 3), 90, np.uint8))
        for folder in ("Annotations", "ImageSets/Main"):
            Path("VOCdevkit", part, folder).mkdir(parents=True)
    for part, stem in (("VOC2007", "a"), ("VOC2007", "b"), ("VOC2007", "c"), ("VOC2012", "p")):
        Path("VOCdevkit", part, "Annotations", f"{stem}.xml").write_text("<annotation></annotation>")
    for part, name, lines in (
        ("VOC2007", "trainval", "a\nb\n"),
        ("VOC2007", "test", "c\n"),
        ("VOC2012", "test", "r\nq\n"),
    ):
        Path("VOCdevkit", part, "ImageSets/Main", f"{name}.txt").write_text(lines)
    return Path("VOCdevkit")


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("2012_test", ["VOC2012/r", "VOC2012/q"]),
        ("2007_test", ["VOC2007/c"]),
        ("2007_trainval+2007_test", ["VOC2007/a", "VOC2007/b", "VOC2007/c"]),
        ("all", ["VOC2007/a", "VOC2007/b", "VOC2007/c", "VOC2012/p", "VOC2012/r", "VOC2012/q"]),
    ],
)
def test_images_of_a_split_labelled_or_not(run: Run, devkit: Path, split: str, expected: list[str]) -> None:
    result = run(str(devkit), "--split", split, "--save", "json")
    assert result.exit_code == 0, result.output
    document = json.loads(Path("predictions/detections.json").read_text())
    paths = [record["path"].replace("/JPEGImages", "") for record in document["images"]]
    assert sorted(paths) == sorted(f"VOCdevkit/{name}.jpg" for name in expected)


def test_the_servers_files_are_called_by_the_split(run: Run, devkit: Path) -> None:
    result = run(str(devkit), "--split", "2012_test", "--save", "voc-results")
    assert result.exit_code == 0, result.output
    text = Path("predictions/voc-results/comp4_det_test_person.txt").read_text()
    assert sorted(text.splitlines()) == ["q 0.5 1.000 1.000 15.000 20.000", "r 0.5 1.000 1.000 15.000 20.000"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["VOCdevkit", "--split", "2009_test"], "no split '2009_test': it has 2007_test"),
        (["VOCdevkit", "photos", "--split", "test"], "--split test is of one data set, not of 2 sources"),
        (["nothing", "--split", "test"], "nothing: no such folder or file"),
    ],
)
def test_a_split_that_is_not_there(run: Run, devkit: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments, "--save", "json")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_images_of_a_split_that_are_missing_are_told(run: Run, devkit: Path) -> None:
    (devkit / "VOC2012/JPEGImages/q.jpg").unlink()
    (devkit / "VOC2007/JPEGImages/c.jpg").unlink()
    result = run(str(devkit), "--split", "2012_test+2007_test", "--save", "json")
    assert result.exit_code == 1
    assert "1 could not be looked at" in result.output
    assert "1 could not be read" in result.output
    assert "VOC2012/JPEGImages/q.jpg" in result.output
    assert "there is no image" in result.output
