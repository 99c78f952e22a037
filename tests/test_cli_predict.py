"""``singleshot predict`` as a user runs it, with a detector that needs no time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result as CliResult
from typer.testing import CliRunner

from singleshot.backends.base import PaddedArrays
from singleshot.cli import app
from singleshot.detector import Detector
from singleshot.images import write_image

Run = Callable[..., CliResult]


class OneBox:
    """Finds a person in the left half of every image."""

    name = "one box"

    def predict(self, batch: np.ndarray) -> PaddedArrays:
        count, _, height, width = batch.shape
        boxes = np.tile(np.float32([0, 0, width / 2, height]), (count, 1, 1))
        scores, ids = np.full((count, 1), 0.5, np.float32), np.zeros((count, 1), np.int64)
        return PaddedArrays(boxes, scores, ids, np.ones(count, np.int64))


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
    assert "network" in result.output
    document = json.loads(Path("predictions/detections.json").read_text())
    assert [record["path"] for record in document["images"]] == ["photos/a.png", "photos/b.jpg"]
    assert document["images"][0]["detections"][0]["box_xyxy"] == [0, 0, 15, 20]
    assert len(json.loads(Path("predictions/coco.json").read_text())) == 2
    assert sorted(path.name for path in Path("predictions").iterdir()) == [
        "coco.json", "crops", "detections.csv", "detections.json", "images",
    ]  # fmt: skip


def test_results_inside_the_folder_are_not_found_again(run: Run) -> None:
    for _ in range(2):
        result = run("photos", "-r", "--out", "photos/found", "--save", "images")
        assert "3 images, 3 objects" in result.output
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
        (["photos", "--batch", "0"], "batch_size"),
        (["photos", "--weights", "coc"], "Did you mean 'coco'?"),
        (["photos", "--weights", "photos/b.jpg"], "photos/b.jpg"),
        (["photos", "--nms-iou", "2"], "nms_iou"),
        (["photos", "--max-detections", "0"], "max_detections"),
        (["photos", "--out", "photos/a.png"], "photos/a.png"),
        (["photos", "--device", "gpu"], "--device gpu: unknown; choose from auto, cpu, cuda, cuda:1, mps"),
    ],
)
def test_mistakes_are_one_message_and_write_nothing(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
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
