"""A run over a folder that was stopped, or killed, and goes on: its files are those of a run that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import singleshot.prediction.job as jobs
from singleshot.cli import app
from singleshot.prediction.frames import Prediction, Result
from singleshot.prediction.sinks.coco import CocoSink
from singleshot.prediction.sinks.images import ImageSink

KINDS = "json,jsonl,csv,coco,text,images,crops,voc-results,yolo,voc"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images of noise, one of which is none."""
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(small, (80, 60), interpolation=cv2.INTER_CUBIC))
    (folder / "2.png").write_bytes(b"no image")
    return folder


def predict(out: str, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        app, ["predict", "photos", "--score", "0.02", "--save", KINDS, "--backend", "torch", "--out", out, *options]
    )
    return result.exit_code, result.output


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".singleshot-results"
    }


def stopped(monkeypatch: pytest.MonkeyPatch, out: str, after: int) -> None:
    """A run that ends by Ctrl-C after some images."""
    send = jobs.send
    seen: list[Result] = []

    def send_some(result: Result, sink: object, problems: object) -> None:
        if not any(result is own for own in seen):
            if len(seen) == after:
                raise KeyboardInterrupt
            seen.append(result)
        send(result, sink, problems)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "send", send_some)
        assert predict(out)[0] == 130


@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize("killed", [False, True])
def test_what_is_continued_equals_what_ran_through(
    photos: Path, monkeypatch: pytest.MonkeyPatch, after: int, killed: bool
) -> None:
    assert predict("whole")[0] == 1
    stopped(monkeypatch, "parts", after)
    if killed:  # in the middle of writing an image, and of its line in the record
        for name in ("detections.csv", "detections.jsonl"):
            with Path("parts", name).open("ab") as file:
                file.write(b"half a li")
        with Path("parts/voc-results/comp4_det_test_person.txt").open("ab") as file:
            file.write(b"5 0.5 1.000 2.000 3.000 4.000\n5 0.4 1.0")
        with Path("parts/.singleshot-results").open("ab") as file:
            file.write(b'{"done": "pho')
    code, output = predict("parts", "--resume")
    assert code == (0 if after > 2 else 1), output
    assert f"parts: {after} image{'s' if after > 1 else ''} done before, {6 - after} to do" in output
    assert contents(Path("parts")) == contents(Path("whole"))
    assert json.loads(Path("parts/detections.json").read_text())["complete"]
    code, output = predict("parts", "--resume")
    assert "6 images done before, 0 to do" in output
    assert contents(Path("parts")) == contents(Path("whole"))


def test_what_cannot_be_continued_is_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(monkeypatch, "parts", 2)
    before = contents(Path("parts"))
    for options, words in (
        (["--score", "0.5"], "was begun with --score 0.02"),
        (["--merge", "union"], "was begun with --merge nms: continue so, not with --merge union"),
        (["--no-clip"], "was begun with --clip: continue so, not with --no-clip"),
        (["--nms-iou", "0.4"], "was begun without --nms-iou: continue so, not with --nms-iou 0.4"),
        (["--classes", "person,car"], "was begun without --classes: continue so, not with --classes person,car"),
        (["--overwrite"], "do not overwrite it"),
        (["--save", "json,video"], "--save video cannot be continued"),
        (["--track"], "videos and tracks"),
    ):
        code, output = predict("parts", "--resume", *options)
        assert code == 2, output
        assert words in output
    code, output = predict("nothing", "--resume")
    assert code == 2
    assert "nothing: holds no results to continue" in output
    result = CliRunner().invoke(app, ["predict", "photos", "--resume"])
    assert result.exit_code == 2
    assert "--out" in result.output
    assert contents(Path("parts")) == before


def test_what_one_sink_could_not_write_is_written_there_alone(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predict("whole")[0] == 1
    with monkeypatch.context() as patch:
        for kind, image in ((ImageSink, "3.png"), (CocoSink, "4.png")):
            write = kind.write

            def fails(self: Any, prediction: Prediction, write: Any = write, image: str = image) -> None:
                if prediction.frame.name.endswith(image):
                    raise OSError(f"no room for {image}")
                write(self, prediction)

            patch.setattr(kind, "write", fails)
        code, output = predict("parts")
    assert code == 1
    assert "no room for 3.png" in output
    assert "no room for 4.png" in output
    first = contents(Path("parts"))
    code, output = predict("parts", "--resume")
    assert code == 0, output
    assert "parts: 4 images done before, 2 to do" in output
    now, whole = contents(Path("parts")), contents(Path("whole"))
    assert {*now} - {*first} == {"images/3.png"}
    assert {name: now[name] for name in first if name != "coco.json"} == {
        name: first[name] for name in first if name != "coco.json"
    }
    assert now["images/3.png"] == whole["images/3.png"]
    rows, expected = json.loads(now["coco.json"]), json.loads(whole["coco.json"])  # late rows stand at the end
    assert sorted(map(str, rows)) == sorted(map(str, expected))
    assert "6 images done before, 0 to do" in predict("parts", "--resume")[1]
