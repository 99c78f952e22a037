"""LabelMe's JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_makers import make_image

from singleshot import data


def shape(label: object, *points: object, kind: str | None = "rectangle") -> dict[str, object]:
    return {"label": label, "points": points, "shape_type": kind}


def make_labelme(root: Path, stem: str, *shapes: Any, image: str | None = None, folder: str = "") -> None:
    make_image(root / f"{stem}.jpg")
    file = root / folder / f"{stem}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": "5.0",
        "shapes": shapes,
        "imagePath": image or f"{stem}.jpg",
        "imageHeight": 40,
        "imageWidth": 60,
    }
    file.write_text(json.dumps({**content, "imageData": "A" * 1000}))


BOX = ([5, 5], [30, 30])


def test_an_image_without_shapes_is_background(tmp_path: Path) -> None:
    make_labelme(tmp_path, "a")
    opened = data.open(tmp_path, bad_data="error")
    assert (opened.format, len(opened), len(opened[0]), opened.problems) == ("labelme", 1, 0, ())


@pytest.mark.parametrize(
    ("given", "box"),
    [
        (shape("cat", *BOX), [5, 5, 30, 30]),
        (shape("cat", [30, 30], [5, 5]), [5, 5, 30, 30]),
        (shape("cat", [5, 10], [30, 20], [10, 30], kind="polygon"), [5, 10, 30, 30]),
        (shape("cat", [5, 10], [30, 20], [10, 30], kind=None), [5, 10, 30, 30]),
        (shape("cat", [20, 20], [20, 25], kind="circle"), [15, 15, 25, 25]),
    ],
)
def test_shapes_give_the_boxes_around_them(tmp_path: Path, given: dict[str, object], box: list[float]) -> None:
    make_labelme(tmp_path, "a", given)
    opened = data.open(tmp_path, bad_data="error")
    assert (opened.class_map.names, opened[0].boxes_xyxy.tolist()) == (("cat",), [box])


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (shape("cat", [5, 5], kind="point"), "bad-record"),
        (shape("cat", *BOX, kind="line"), "bad-record"),
        (shape("cat", [5, 5]), "not-finite"),
        (shape("cat", "x", "y"), "not-finite"),
        (shape("cat", None), "not-finite"),
        (shape(7, *BOX), "unknown-class"),
        ("no shape", "bad-record"),
        (shape("cat", [90, 5], [99, 9]), "outside"),
    ],
)
def test_a_shape_without_a_box_is_named_and_the_rest_is_used(tmp_path: Path, given: object, kind: str) -> None:
    make_labelme(tmp_path, "a", shape("cat", *BOX), given)
    opened = data.open(tmp_path)
    assert len(opened[0]) == 1
    assert kind in {problem.kind for problem in opened.problems}


@pytest.mark.parametrize("image", ["a.jpg", "..\\a.jpg", "../a.jpg", "C:\\photos\\a.jpg", "gone.jpg"])
@pytest.mark.parametrize("folder", ["", "labels"])
def test_images_are_found_whatever_the_path_says(tmp_path: Path, image: str, folder: str) -> None:
    make_labelme(tmp_path, "a", shape("cat", *BOX), image=image, folder=folder)
    if folder and image == "gone.jpg":
        (tmp_path / "images").mkdir()
        (tmp_path / "a.jpg").rename(tmp_path / "images" / "a.jpg")
    assert [len(sample) for sample in data.open(tmp_path, bad_data="error")] == [1]


def test_folders_of_splits(tmp_path: Path) -> None:
    make_labelme(tmp_path / "train", "a", shape("cat", *BOX))
    make_labelme(tmp_path / "val", "b", shape("dog", *BOX))
    assert data.splits(tmp_path) == ("train", "val")
    train = data.open(tmp_path, "train")
    assert (len(train), train.class_map.names) == (1, ("cat", "dog"))


def test_images_without_a_file_and_damaged_files_are_named(tmp_path: Path) -> None:
    make_labelme(tmp_path, "a", shape("cat", *BOX))
    make_image(tmp_path / "b.jpg")
    make_image(tmp_path / "c.jpg")
    (tmp_path / "c.json").write_text('{"shapes": [],\n "imagePath": }')
    opened = data.open(tmp_path)
    found = {(problem.kind, problem.file.name, problem.line) for problem in opened.problems}
    assert len(opened) == 1
    assert {("missing-annotation", "b.jpg", None), ("unreadable-annotation", "c.json", 2)} <= found


def test_one_file_alone(tmp_path: Path) -> None:
    make_labelme(tmp_path, "a", shape("cat", *BOX))
    make_labelme(tmp_path, "b", shape("dog", *BOX))
    opened = data.open(tmp_path / "a.json")
    assert (opened.format, [sample.image_id for sample in opened]) == ("labelme", ["a"])


def test_an_image_that_is_only_in_its_labels_is_named(tmp_path: Path) -> None:
    make_labelme(tmp_path, "a", shape("cat", *BOX))
    make_labelme(tmp_path, "b", shape("cat", *BOX))
    (tmp_path / "b.jpg").unlink()
    opened = data.open(tmp_path)
    (problem,) = opened.problems
    assert (len(opened), problem.kind, problem.action) == (1, "missing-image", "skipped")
    assert (
        f"there is no image {tmp_path / 'b.jpg'}; the one inside this file ('imageData') is not read" in problem.message
    )
