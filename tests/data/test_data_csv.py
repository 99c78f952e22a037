"""Tables of boxes."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_makers import make_image

from singleshot import data
from singleshot.errors import DataError

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def test_a_line_without_a_class_is_an_image_without_objects(tmp_path: Path) -> None:
    make_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels.csv").write_text(HEADER + "a.jpg,60,40,,,,,\n")
    opened = data.open(tmp_path)
    assert (opened.format, len(opened), len(opened[0]), opened.problems) == ("csv", 1, 0, ())


def test_lines_of_one_image_come_together(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        make_image(tmp_path / name)
    rows = ("a.jpg,60,40,dog,1,2,30,20", "b.jpg,60,40,cat,5,5,10,10", 'a.jpg,60,40,"cat, big",0,0,60,40')
    (tmp_path / "labels.csv").write_text(HEADER + "\n".join(rows))
    opened = data.open(tmp_path / "labels.csv", bad_data="error")
    assert opened.class_map.names == ("cat", "cat, big", "dog")
    assert opened[0].boxes_xyxy.tolist() == [[1, 2, 30, 20], [0, 0, 60, 40]]
    assert opened[0].class_ids.tolist() == [2, 1]
    assert opened[1].source == f"{tmp_path / 'labels.csv'}:3"


def test_names_that_were_kept_from_spreadsheets(tmp_path: Path) -> None:
    make_image(tmp_path / "-a.jpg")
    (tmp_path / "labels.csv").write_text(HEADER + "'-a.jpg,60,40,'+1,1,2,30,20\n'-a.jpg,60,40,'quoted',1,2,30,20\n")
    opened = data.open(tmp_path)
    assert (len(opened), opened.class_map.names, opened.problems) == (1, ("'quoted'", "+1"), ())


def test_other_names_of_the_columns(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "x.csv").write_text("Image, X1, Y1, X2, Y2, Label\na.jpg,1,2,30,20,dog\n")
    assert data.open(tmp_path)[0].boxes_xyxy.tolist() == [[1, 2, 30, 20]]


def test_bad_lines_are_named(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    rows = (
        "a.jpg,60,40,dog,1,2,x,20",
        ",60,40,dog,1,2,3,4",
        "a.jpg,60,40,,1,2,3,4",
        "b.jpg,60,40,dog,1,2,3,4",
        "a.jpg",
    )
    (tmp_path / "x.csv").write_text(HEADER + "\n".join(rows))
    found = sorted((problem.line, problem.kind) for problem in data.open(tmp_path).problems)
    assert found == [(2, "not-finite"), (3, "bad-record"), (4, "unknown-class"), (5, "missing-image")]


def test_several_tables_are_splits_with_the_classes_of_all(tmp_path: Path) -> None:
    for split, label in (("train", "dog"), ("test", "cat")):
        make_image(tmp_path / f"{split}.jpg")
        (tmp_path / f"{split}_labels.csv").write_text(HEADER + f"{split}.jpg,60,40,{label},1,2,30,20\n")
    assert data.splits(tmp_path) == ("test", "train")
    train = data.open(tmp_path, "train", bad_data="error")
    assert train.class_map.names == ("cat", "dog")
    assert [sample.class_ids.tolist() for sample in train] == [[1]]
    assert [sample.class_ids.tolist() for sample in data.open(tmp_path)] == [[0], [1]]
    assert len(data.open(tmp_path, "train+test")) == 2


def test_a_damaged_table_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(HEADER + '"' + "x" * 200_000)
    with pytest.raises(DataError, match=r"x\.csv:\d+: not valid csv"):
        data.open(tmp_path)
