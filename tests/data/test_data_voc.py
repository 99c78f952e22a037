"""VOC: layouts, splits, pixel convention, flags, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_makers import make_image, make_list, make_voc_image, voc_object

from singleshot import data
from singleshot.errors import DataError


def test_an_image_without_objects_is_a_sample(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a")
    opened = data.open(tmp_path)
    assert (opened.format, len(opened), len(opened.class_map), opened.problems) == ("voc", 1, 0, ())
    assert opened[0].boxes_xyxy.shape == (0, 4)
    assert opened[0].image_size_hw == (40, 60)


def test_an_empty_split_is_empty(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 10)))
    make_list(tmp_path, "test")
    opened = data.open(tmp_path, "test")
    assert len(opened) == 0
    assert opened.class_map.names == ("cat",)


def test_pixels_count_from_one_and_include_the_last(tmp_path: Path) -> None:
    boxes = [(1, 1, 60, 40), (11, 6, 20, 15), (7, 7, 7, 7), (10.5, 5.25, 20.5, 15.75)]
    make_voc_image(tmp_path, "a", *(voc_object("cat", box) for box in boxes))
    expected = [[0, 0, 60, 40], [10, 5, 20, 15], [6, 6, 7, 7], [9.5, 4.25, 20.5, 15.75]]
    opened = data.open(tmp_path, bad_data="error")
    np.testing.assert_array_equal(opened[0].boxes_xyxy, np.array(expected, dtype=np.float32))
    assert opened[0].boxes_xyxy.dtype == np.float32
    np.testing.assert_allclose(opened[0].areas, [2400, 100, 1, 126.5])


def test_difficult_is_carried_and_parts_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    person = voc_object("person", (5, 5, 20, 20), 1).replace("</object>", f"{part}</object>")
    make_voc_image(tmp_path, "a", person, voc_object("dog", (5, 5, 20, 20)))
    opened = data.open(tmp_path)
    assert opened.class_map.names == ("dog", "person")
    assert opened[0].class_ids.tolist() == [1, 0]
    assert opened[0].difficult.tolist() == [True, False]
    assert opened[0].boxes_xyxy[0].tolist() == [4, 4, 20, 20]


def test_splits_share_the_classes_of_all(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("zebra", (1, 1, 10, 10)))
    make_voc_image(tmp_path, "b", voc_object("ape", (1, 1, 10, 10)))
    make_list(tmp_path, "train", "a")
    make_list(tmp_path, "test", "b")
    make_list(tmp_path, "zebra_train", "a  1", "b -1")
    assert data.splits(tmp_path) == ("test", "train")
    train, test = data.open(tmp_path, "train"), data.open(tmp_path, "test")
    assert train.class_map.names == test.class_map.names == ("ape", "zebra")
    assert [sample.image_id for sample in data.open(tmp_path, "train+test")] == ["b", "a"]
    assert [sample.source for sample in train] == [f"{tmp_path / 'Annotations' / 'a.xml'}:2"]


def test_a_class_list_gives_the_order(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("ape", (1, 1, 10, 10)))
    (tmp_path / "classes.txt").write_text("zebra\nape\n")
    assert data.open(tmp_path).class_map.names == ("zebra", "ape")


def test_cvats_class_list_names_the_background_too(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("ape", (1, 1, 10, 10)))
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nzebra:1,2,3::\nape:::\n"
    )
    assert data.open(tmp_path).class_map.names == ("zebra", "ape")


def test_devkit_of_two_years(tmp_path: Path) -> None:
    for year, stem in (("VOC2007", "000001"), ("VOC2012", "2008_000001")):
        root = tmp_path / "VOCdevkit" / year
        make_voc_image(root, stem, voc_object("cat", (1, 1, 10, 10)))
        make_list(root, "trainval", stem)
    make_list(tmp_path / "VOCdevkit" / "VOC2007", "test", "000001")
    for path in (tmp_path, tmp_path / "VOCdevkit"):
        assert set(data.splits(path)) == {"2007_trainval", "2012_trainval", "2007_test", "trainval", "test"}
        assert len(data.open(path, "2007_trainval+2012_trainval")) == 2
        assert len(data.open(path, "trainval")) == 2
        assert [sample.image_id for sample in data.open(path, "2012_trainval")] == ["2008_000001"]
        assert [sample.image_id for sample in data.open(path, "test")] == ["000001"]


def test_flat_folders(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "one", "a", voc_object("cat", (1, 1, 10, 10)), flat=True)
    assert len(data.open(tmp_path / "one")) == 1
    for split in ("train", "valid"):
        make_voc_image(tmp_path / "two" / split, "a", voc_object("cat", (1, 1, 10, 10)), flat=True)
    assert data.splits(tmp_path / "two") == ("train", "valid")
    assert [sample.image_path.parent.name for sample in data.open(tmp_path / "two", "val")] == ["valid"]
    assert len({sample.image_id for sample in data.open(tmp_path / "two")}) == 2
    make_image(tmp_path / "two" / "train" / "unlabelled.jpg")
    assert [problem.kind for problem in data.open(tmp_path / "two", "train").problems] == ["missing-annotation"]
    assert data.open(tmp_path / "two", "valid").problems == ()


def test_images_are_found_whatever_the_xml_calls_them(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 10)))
    make_image(tmp_path / "JPEGImages" / "b.PNG")
    make_image(tmp_path / "JPEGImages" / "other.jpg")
    for stem, inside in (("b", "wrong.jpg"), ("c", "other.jpg")):
        text = (tmp_path / "Annotations" / "a.xml").read_text()
        text = text.replace("<annotation>", f"<annotation><filename>{inside}</filename>", 1)
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(text)
    opened = data.open(tmp_path, bad_data="skip")
    assert [sample.image_path.name for sample in opened] == ["a.jpg", "b.PNG", "other.jpg"]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n<annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("", 1, "not valid XML"),
        ("<annotation>\n<object>\n</annotation>", 3, "mismatched tag"),
        (BOMB, None, "refused"),
        ('<!DOCTYPE annotation SYSTEM "file:///etc/passwd">\n<annotation/>', None, "refused"),
        ('<?xml version="1.0" encoding="no-such"?>\n<annotation/>', None, "encoding"),
    ],
)
def test_damaged_xml_is_named_with_its_line(tmp_path: Path, content: str, line: int | None, words: str) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 10)))
    make_voc_image(tmp_path, "b")
    (tmp_path / "Annotations" / "b.xml").write_text(content)
    opened = data.open(tmp_path)
    (problem,) = [problem for problem in opened.problems if problem.kind == "unreadable-annotation"]
    assert len(opened) == 1
    assert (problem.file, problem.line, problem.action) == (tmp_path / "Annotations" / "b.xml", line, "skipped")
    assert words in problem.message


def test_missing_annotations_and_images_are_named(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 10)))
    make_voc_image(tmp_path, "gone", voc_object("cat", (1, 1, 10, 10)))
    (tmp_path / "JPEGImages" / "gone.jpg").unlink()
    make_image(tmp_path / "JPEGImages" / "unlabelled.jpg")
    make_list(tmp_path, "train", "a", "", "nowhere", "gone", "no\0file")
    opened = data.open(tmp_path, "train")
    found = {(problem.kind, problem.file.name, problem.line) for problem in opened.problems}
    missing = {("missing-annotation", "train.txt", line) for line in (3, 5)}
    assert found == {*missing, ("missing-image", "gone.xml", 2)}
    whole = {(problem.kind, problem.file.name, problem.line) for problem in data.open(tmp_path).problems}
    assert whole == {*missing, ("missing-annotation", "unlabelled.jpg", None), ("missing-image", "gone.xml", 2)}


def test_an_unknown_split_lists_the_known_ones(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a")
    make_list(tmp_path, "trainval", "a")
    with pytest.raises(DataError, match="no split 'tset': it has trainval"):
        data.open(tmp_path, "tset")


def test_lists_may_hold_spaces_folders_and_suffixes(tmp_path: Path) -> None:
    for stem in ("my photo 1", "b.c", "d"):
        make_voc_image(tmp_path, stem)
    make_list(tmp_path, "train", "my photo 1", "JPEGImages/b.c.jpg", "d.xml", "d")
    assert [sample.image_id for sample in data.open(tmp_path, "train", bad_data="error")] == ["my photo 1", "b.c", "d"]


@pytest.mark.parametrize(
    ("annotations", "images"), [("annotations", "images"), ("labels", "images"), ("xmls", "Images")]
)
def test_folders_by_other_names(tmp_path: Path, annotations: str, images: str) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 10)))
    (tmp_path / "Annotations").rename(tmp_path / annotations)
    (tmp_path / "JPEGImages").rename(tmp_path / images)
    opened = data.open(tmp_path, bad_data="error")
    assert (opened.format, len(opened), len(opened[0])) == ("voc", 1, 1)
