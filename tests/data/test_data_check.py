"""The report of ``data check`` and the commands of ``singleshot data``."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_makers import make_image, make_list, make_voc_image, voc_object
from typer.testing import CliRunner

from singleshot import data
from singleshot.cli import app
from singleshot.data.check import check, pixel_format
from singleshot.demo.scenes import make_scenes


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", *map(str, words)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_a_data_set_without_objects(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a")
    report = check(tmp_path)
    assert (report.errors, report.classes, report.splits) == (0, [], {})
    assert report.images["without_objects"] == report.images["images"] == 1
    code, text = run("check", tmp_path)
    assert code == 0
    assert "No problems." in text


def test_counts_and_statistics(tmp_path: Path) -> None:
    big = {"size_hw": (200, 300), "declared_hw": (200, 300)}
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 20), 1), voc_object("dog", (1, 1, 200, 100)), **big)
    make_voc_image(tmp_path, "b", voc_object("cat", (1, 1, 20, 40)), voc_object("cat", (1, 1, 40, 40)))
    make_voc_image(tmp_path, "c")
    report = check(tmp_path)
    cat, dog = report.classes
    assert (cat["objects"], cat["images"], cat["difficult"], cat["small"], cat["medium"]) == (3, 2, 1, 2, 1)
    assert (cat["median_width_px"], cat["median_height_px"], cat["median_aspect"]) == (20, 40, 0.5)
    assert (dog["objects"], dog["large"], dog["median_aspect"]) == (1, 1, 2)
    assert report.images["sizes"][0] == {"width": 60, "height": 40, "images": 2}
    assert report.images["pixels"] == {"JPEG RGB": 3}
    assert report.images["without_objects"] == 1


def test_pixels_that_cannot_be_decoded_are_found_by_looking_deep(tmp_path: Path) -> None:
    for stem in "ab":
        make_voc_image(tmp_path, stem, voc_object("cat", (1, 1, 10, 20)))
    make_image(tmp_path / "JPEGImages" / "a.png")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    content = bytearray((tmp_path / "JPEGImages" / "a.png").read_bytes())
    content[50:-40] = bytes(len(content) - 90)
    (tmp_path / "JPEGImages" / "a.png").write_bytes(content)
    assert check(tmp_path, deep=False).errors == 0
    report = check(tmp_path)
    assert [(p.kind, p.file.name, p.action) for p in report.problems] == [("undecodable-image", "a.png", "skipped")]
    assert report.errors == 1


def test_images_in_training_and_test_are_named(tmp_path: Path) -> None:
    for stem in "abc":
        make_voc_image(tmp_path, stem)
    for split, stems in (("train", "ab"), ("val", "b"), ("trainval", "ab"), ("test", "ac")):
        make_list(tmp_path, split, *stems)
    shared = [problem.message for problem in check(tmp_path).problems]
    assert shared == ["is in 'train' and in 'test'", "is in 'train' and in 'val'", "is in 'trainval' and in 'test'"]


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("a.jpg", np.zeros((8, 8, 3), np.uint8), "JPEG RGB"),
        ("b.jpg", np.zeros((8, 8), np.uint8), "JPEG gray"),
        ("c.png", np.zeros((8, 8, 4), np.uint8), "PNG RGB with transparency"),
        ("d.png", np.zeros((8, 8), np.uint16), "PNG gray 16-bit"),
        ("e.bmp", np.zeros((8, 8, 3), np.uint8), "BMP"),
    ],
)
def test_pixel_formats(tmp_path: Path, name: str, pixels: np.ndarray, words: str) -> None:
    cv2.imwrite(str(tmp_path / name), pixels)
    assert pixel_format(tmp_path / name) == words


def test_a_turned_picture_says_so(tmp_path: Path) -> None:
    assert pixel_format(make_image(tmp_path / "a.jpg", orientation=6)) == "JPEG RGB, EXIF orientation 6"


def test_check_prints_everything_and_the_exit_code_says_whether_it_is_clean(tmp_path: Path) -> None:
    objects = [voc_object("cat", (90 + i, 1, 99 + i, 10)) for i in range(5)]
    make_voc_image(tmp_path, "a", voc_object("[red]dog", (20, 1, 10, 10)), *objects)
    make_list(tmp_path, "train", "a")
    code, text = run("check", tmp_path, "--json", tmp_path / "out" / "report.json")
    assert code == 1
    for words in (
        "voc",
        "1 image, 1 object",
        "train 1 (1 object)",
        "60 x 40 (1)",
        "[red]dog",
        "skipped 5 x outside",
    ):
        assert words in text
    assert f"{tmp_path / 'Annotations' / 'a.xml'}:4: cat (90, 1, 99, 10): outside the image of 60 x 40" in text
    assert "... 2 more" in text
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["errors"] == 5
    assert len(written["problems"]) == 6
    assert written["counts"][0] == {"kind": "outside", "action": "skipped", "count": 5}


def test_repaired_records_count_under_the_error_policy(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (20, 1, 10, 10)))
    assert run("check", tmp_path)[0] == 0
    assert run("check", tmp_path, "--bad-data", "error")[0] == 1


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    code, text = run("check", tmp_path / "nowhere")
    assert code == 2
    assert "no such folder or file" in text


def test_convert_prints_what_it_did(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "a", "x", voc_object("cat", (1, 1, 10, 10), 1), voc_object("dog", (1, 1, 10, 10)))
    make_list(tmp_path / "a", "train", "x")
    code, text = run("convert", tmp_path / "a", tmp_path / "b", "--to", "yolo", "--link", "--classes", "dog, cat")
    assert code == 0
    assert "1 image with 2 objects" in text
    assert "train: 1 image" in text
    assert "1 difficult objects became ordinary ones" in text
    assert data.open(tmp_path / "b", "train").class_map.names == ("dog", "cat")
    assert run("convert", tmp_path / "a", tmp_path / "b", "--to", "coco")[0] == 2


@pytest.mark.parametrize(("classes", "expected"), [(None, 0), ("cat", 0)])
def test_convert_succeeds_where_what_is_missing_was_not_wanted(
    tmp_path: Path, classes: str | None, expected: int
) -> None:
    make_voc_image(tmp_path / "a", "x", voc_object("cat", (1, 1, 10, 10)), voc_object("dog", (1, 1, 10, 10)))
    options = [] if classes is None else ["--classes", classes]
    assert run("convert", tmp_path / "a", tmp_path / "b", "--to", "coco", *options)[0] == expected


def test_convert_tells_by_its_exit_code_what_was_left_out(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "a", "x", voc_object("cat", (1, 1, 10, 10)), voc_object("dog", (99, 99, 110, 110)))
    code, text = run("convert", tmp_path / "a", tmp_path / "b", "--to", "coco")
    assert code == 1
    assert "skipped 1 x outside" in text
    assert len(data.open(tmp_path / "b")[0]) == 1
    assert run("convert", tmp_path / "a", tmp_path / "a" / "b", "--to", "coco")[0] == 2
    assert run("convert", tmp_path / "a", tmp_path / "b", "--to", "yolo")[0] == 2
    assert run("convert", tmp_path / "a", tmp_path / "b", "--to", "yolo", "--overwrite")[0] == 1


def test_scenes_can_be_rendered_from_the_command_line(tmp_path: Path) -> None:
    code, text = run("scenes", tmp_path / "s", "--count", "3", "--seed", "5")
    assert (code, text) == (0, f"3 images -> {tmp_path / 's'}\n")
    assert len(data.open(tmp_path / "s", bad_data="error")) == 3


def test_the_report_replaces_no_label_file(tmp_path: Path) -> None:
    make_scenes(tmp_path / "voc", 4, 0)
    label, photo = next((tmp_path / "voc").rglob("*.xml")), next((tmp_path / "voc").rglob("*.jpg"))
    other = tmp_path / "mine.json"
    other.write_text("mine")
    for target in (label, photo, other):
        before = target.read_bytes()
        code, text = run("check", tmp_path / "voc", "--json", target)
        assert code == 2
        assert "exists already" in text
        assert target.read_bytes() == before
    for target in (label, photo):
        code, text = run("check", tmp_path / "voc", "--json", target, "--overwrite")
        assert code == 2
        assert "is a source of this run" in text
    assert run("check", tmp_path / "voc", "--json", other, "--overwrite")[0] == 0
    assert json.loads(other.read_text())["format"] == "voc"
