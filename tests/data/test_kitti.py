"""KITTI's label files, in its own folders and in TAO's."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_makers import make_image

from singleshot import data
from singleshot.data.check import check
from singleshot.data.convert import convert
from singleshot.data.formats.kitti_rows import is_kitti_row
from singleshot.errors import DataError

CAR = "Car 0.00 0 -1.58 5.00 6.50 30.00 35.25 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
VAN = "Van 0 0 0 1 2 9 12 0 0 0 0 0 0 0 0.87"
REGION = "DontCare -1 -1 -10 40 10 50 20 -1 -1 -1 -1000 -1000 -1000 -10"
POLYGON = "0 .1 .1 .2 .1 .3 .1 .4 .2 .4 .3 .2 .4 .1 .3"


def make(root: Path, stem: str, *lines: str, labels: str = "label_2", images: str = "image_2") -> None:
    make_image(root / images / f"{stem}.png")
    (root / labels).mkdir(parents=True, exist_ok=True)
    (root / labels / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", False),
        (CAR, True),
        (VAN, True),
        (REGION, True),
        (POLYGON, False),
        ("Car 1 2 3 4", False),
        (f"{CAR} x", False),
    ],
)
def test_rows(line: str, expected: bool) -> None:
    assert is_kitti_row(line.split()) is expected


def test_kittis_own_folders(tmp_path: Path) -> None:
    make(tmp_path / "training", "000000")
    make(tmp_path / "training", "000001", CAR, VAN, REGION)
    make_image(tmp_path / "testing" / "image_2" / "000000.png")
    opened = data.open(tmp_path, "training")
    assert (opened.format, opened.class_map.names, opened.splits) == ("kitti", ("Car", "Van"), ("training",))
    assert [sample.boxes_xyxy.tolist() for sample in opened] == [[], [[5, 6.5, 30, 35.25], [1, 2, 9, 12]]]
    (note,) = (problem for problem in opened.problems if problem.kind == "ignored-regions")
    assert note.message.startswith("1 regions of class DontCare are left out")
    assert "testing" in " ".join(problem.message for problem in data.open(tmp_path).problems)
    with pytest.raises(DataError, match="have no labels"):
        data.open(tmp_path, "test")


@pytest.mark.parametrize(
    ("labels", "images", "splits"),
    [
        ("labels", "images", ()),
        ("train/labels", "train/images", ("train", "val")),
        ("labels/train", "images/train", ("train", "val")),
    ],
)
def test_the_folders_of_tao(tmp_path: Path, labels: str, images: str, splits: tuple[str, ...]) -> None:
    make(tmp_path, "a", CAR, labels=labels, images=images)
    if splits:
        make(tmp_path, "b", VAN, labels=labels.replace("train", "val"), images=images.replace("train", "val"))
    opened = data.open(tmp_path, splits[0] if splits else None, bad_data="error")
    assert (opened.format, data.splits(tmp_path)) == ("kitti", splits)
    assert [len(sample) for sample in opened] == [1]
    assert opened.class_map.names == (("Car", "Van") if splits else ("Car",))


@pytest.mark.parametrize("row", ["0 0.5 0.5 0.5 0.5", POLYGON, ""])
def test_yolos_labels_in_the_same_folders_stay_yolos(tmp_path: Path, row: str) -> None:
    make(tmp_path, "a", row, labels="labels", images="images")
    assert data.open(tmp_path).format == "yolo"


def test_bad_lines_and_missing_files_are_named(tmp_path: Path) -> None:
    make(tmp_path, "a", CAR, "Car 1 2 3", CAR.replace("30.00", "nan"))
    make_image(tmp_path / "image_2" / "b.png")
    make(tmp_path, "c", CAR)
    (tmp_path / "image_2" / "c.png").unlink()
    problems = {(p.file.name, p.line, p.kind) for p in data.open(tmp_path).problems}
    assert problems == {
        ("a.txt", 2, "bad-record"),
        ("a.txt", 3, "bad-record"),
        ("b.png", None, "missing-annotation"),
        ("c.txt", None, "missing-image"),
    }


def test_a_list_of_classes_sets_their_order(tmp_path: Path) -> None:
    make(tmp_path, "a", CAR, VAN)
    (tmp_path / "classes.txt").write_text("Van\nCar\nTram\n")
    assert data.open(tmp_path).class_map.names == ("Van", "Car", "Tram")


@pytest.mark.parametrize("to", ["voc", "coco", "yolo", "rec"])
def test_kitti_is_checked_and_converted(tmp_path: Path, to: str) -> None:
    make(tmp_path / "in" / "train", "a", CAR, VAN)
    make(tmp_path / "in" / "val", "b")
    assert check(tmp_path / "in").errors == 0
    convert(tmp_path / "in", tmp_path / "out", to)
    before, after = (data.open(tmp_path / name, "train", bad_data="error") for name in ("in", "out"))
    assert after.class_map.names == before.class_map.names
    assert after[0].boxes_xyxy.round(3).tolist() == before[0].boxes_xyxy.tolist()
