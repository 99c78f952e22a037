"""The format that explains most images is read; what it does not explain is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from data_makers import (
    coco_box,
    coco_image,
    make_coco,
    make_image,
    make_voc_image,
    make_yolo_image,
    voc_object,
)

from singleshot import data
from singleshot.errors import DataError

HALF = "0 0.5 0.5 0.5 0.5"
CAT = voc_object("cat", (5, 5, 30, 30))


def kinds(opened: data.DetectionDataset) -> set[str]:
    return {problem.kind for problem in opened.problems}


def stray_coco(root: Path) -> None:
    make_coco(
        root / "old.json", [coco_image(1, "im0.jpg")], [coco_box(1, 1, 1, [1, 1, 5, 5])], [{"id": 1, "name": "x"}]
    )


def stray_csv(root: Path) -> None:
    (root / "old.csv").write_text("filename,class,xmin,ymin,xmax,ymax\nim0.jpg,x,1,1,9,9\n")


def stray_xml(root: Path) -> None:
    (root / "im0.xml").write_text(f"<annotation>{voc_object('x', (1, 1, 9, 9))}</annotation>")


def stray_labelme(root: Path) -> None:
    shapes = [{"label": "x", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}]
    (root / "im0.json").write_text(json.dumps({"shapes": shapes, "imagePath": "im0.jpg"}))


@pytest.mark.parametrize("stray", [stray_coco, stray_csv, stray_xml, stray_labelme])
def test_one_stray_file_among_yolo_labels_decides_nothing(tmp_path: Path, stray: Callable[[Path], None]) -> None:
    for index in range(6):
        make_yolo_image(tmp_path, f"im{index}", HALF, images=".", labels=".")
    stray(tmp_path)
    opened = data.open(tmp_path, bad_data="error")
    assert (opened.format, len(opened), sum(map(len, opened))) == ("yolo", 6, 6)
    assert {"format-chosen", "other-format"} <= kinds(opened)
    chosen = next(problem for problem in opened.problems if problem.kind == "format-chosen")
    assert "read as YOLO, which explains 6 of 6 images" in chosen.message


def test_one_stray_yolo_file_and_its_class_list_among_voc_files(tmp_path: Path) -> None:
    for index in range(6):
        make_voc_image(tmp_path, f"im{index}", CAT, voc_object("dog", (1, 1, 20, 20)), flat=True)
    (tmp_path / "im3.txt").write_text(HALF)
    (tmp_path / "classes.txt").write_text("dog\nperson\n")
    opened = data.open(tmp_path, bad_data="error")
    assert (opened.format, len(opened), sum(map(len, opened))) == ("voc", 6, 12)
    assert opened.class_map.names == ("cat", "dog")
    assert any(problem.file.name == "im3.txt" for problem in opened.problems)


def test_an_image_that_only_the_other_format_explains_is_no_background(tmp_path: Path) -> None:
    for index in range(8):
        make_yolo_image(tmp_path, f"im{index}", HALF, images=".", labels=".")
    make_voc_image(tmp_path, "other", CAT, flat=True)
    opened = data.open(tmp_path)
    assert (opened.format, len(opened)) == ("yolo", 8)
    lost = [problem for problem in opened.problems if problem.action == "skipped"]
    assert [(problem.kind, problem.file.name) for problem in lost] == [("other-format", "other.xml")]
    assert "such as other.jpg" in lost[0].message


def test_two_formats_of_the_same_images_that_differ_are_refused(tmp_path: Path) -> None:
    for index in range(5):
        make_yolo_image(tmp_path, f"im{index}", HALF, HALF.replace("0 ", "1 ", 1), images=".", labels=".")
        make_voc_image(tmp_path, f"im{index}", CAT, flat=True)
    with pytest.raises(DataError, match=r"(?s)YOLO explains 5.*VOC explains 5.*`format='yolo'` or `format='voc'`"):
        data.open(tmp_path)
    assert {name: data.open(tmp_path, format=name).format for name in ("yolo", "voc")} == {"yolo": "yolo", "voc": "voc"}


def test_half_in_one_format_and_half_in_another_is_refused(tmp_path: Path) -> None:
    for index in range(6):
        make_yolo_image(tmp_path, f"a{index}", HALF, images=".", labels=".")
        if index < 4:
            make_voc_image(tmp_path, f"b{index}", CAT, flat=True)
    with pytest.raises(DataError, match="labels of two formats"):
        data.open(tmp_path)


def test_two_formats_that_say_the_same_are_read_once_and_it_is_said(tmp_path: Path) -> None:
    for index in range(5):
        make_voc_image(tmp_path, f"im{index}", CAT)
    rows = "".join(f"im{index}.jpg,cat,5,5,30,30\n" for index in range(5))
    (tmp_path / "labels.csv").write_text("filename,class,xmin,ymin,xmax,ymax\n" + rows)
    opened = data.open(tmp_path)
    assert (opened.format, len(opened), sum(map(len, opened))) == ("voc", 5, 5)
    assert "format-chosen" in kinds(opened)


def test_images_that_nothing_explains_are_named(tmp_path: Path) -> None:
    boxes = [coco_box(1, 1, 1, [1, 1, 5, 5])]
    make_coco(tmp_path / "a.json", [coco_image(1, "a.jpg")], boxes, [{"id": 1, "name": "x"}], tmp_path)
    make_image(tmp_path / "day2" / "b.jpg")
    make_image(tmp_path / "masks" / "a.png")
    make_image(tmp_path / ".cache" / "c.jpg")
    unexplained = [problem.file.name for problem in data.open(tmp_path).problems if problem.kind == "unexplained-image"]
    assert unexplained == ["b.jpg"]


@pytest.mark.parametrize("depth", [1, 2])
def test_an_outer_folder_of_an_archive_is_passed_through(tmp_path: Path, depth: int) -> None:
    inner = tmp_path.joinpath(*["set"] * depth)
    for split in ("train", "val"):
        make_yolo_image(inner, f"{split}/{split}", HALF)
    (inner / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    make_image(tmp_path / "__MACOSX" / "set" / "._a.jpg")
    opened = data.open(tmp_path)
    assert data.splits(tmp_path) == ("train", "val")
    assert (len(opened), "inner-folder" in kinds(opened)) == (2, True)


def test_of_several_data_sets_in_a_folder_none_is_guessed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_yolo_image(tmp_path / name, "a", HALF)
        (tmp_path / name / "data.yaml").write_text("train: images\nnames: [cat]\n")
    with pytest.raises(DataError, match=r"several data sets: name one of .*one, .*two"):
        data.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("via.json", '{"_via_img_metadata": {}}', "VGG Image Annotator"),
        ("x.json", '{"assets": {}, "visitedFrames": []}', "VoTT"),
        ("x.json", '[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 1}}]}]', "CreateML"),
        ("x.json", '[{"id": 1, "annotations": [{"result": [{"from_name": "label"}]}]}]', "Label Studio"),
        ("x.csv", "filename,file_size,region_shape_attributes\n", "VIA csv"),
    ],
)
def test_labels_of_other_programs_are_called_by_their_name(tmp_path: Path, name: str, content: str, words: str) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        data.open(tmp_path)


ODD: dict[str, Callable[[Path], None]] = {
    "dangling link": lambda path: path.symlink_to("/nowhere/at/all"),
    "folder": lambda path: path.mkdir(),
    "FIFO": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("suffix", [".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".data", ".names"])
def test_an_odd_entry_called_like_a_label_file_closes_nothing(tmp_path: Path, odd: str, suffix: str) -> None:
    make_voc_image(tmp_path / "voc", "a", CAT)
    make_yolo_image(tmp_path / "yolo", "a", HALF)
    ODD[odd](tmp_path / "voc" / "Annotations" / f"z{suffix}")
    ODD[odd](tmp_path / "voc" / f"z{suffix}")
    ODD[odd](tmp_path / "yolo" / "labels" / f"z{suffix}")
    ODD[odd](tmp_path / "yolo" / f"z{suffix}")
    assert [len(data.open(tmp_path / name)) for name in ("voc", "yolo")] == [1, 1]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_entry_in_place_of_a_label_file_or_an_image_is_named(tmp_path: Path, odd: str) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    for name in ("b", "c"):
        make_yolo_image(tmp_path, name, HALF)
    (tmp_path / "labels" / "b.txt").unlink()
    ODD[odd](tmp_path / "labels" / "b.txt")
    (tmp_path / "images" / "c.jpg").unlink()
    ODD[odd](tmp_path / "images" / "c.jpg")
    opened = data.open(tmp_path)
    assert [sample.image_id for sample in opened] == ["a"]
    named = {problem.file.name for problem in opened.problems}
    assert "b.txt" in named
    assert named & {"c.jpg", "c.txt"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("odd", ["FIFO", "device"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".yaml", ".txt"])
def test_a_fifo_or_device_named_as_the_data_set_is_refused(tmp_path: Path, odd: str, suffix: str) -> None:
    ODD[odd](tmp_path / f"set{suffix}")
    with pytest.raises(DataError, match="no labelled images found"):
        data.open(tmp_path / f"set{suffix}")
