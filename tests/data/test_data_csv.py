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


def test_several_tables_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(HEADER)
    with pytest.raises(DataError, match=r"several csv files.*name one"):
        data.open(tmp_path)
    assert len(data.open(tmp_path / "a.csv")) == 0
