"""COCO as people and tools write it: values as text, paths of other machines, missing fields, other tasks beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from data_makers import coco_box, coco_image, make_coco, make_image

from singleshot import data
from singleshot.data.formats.coco_json import box_around
from singleshot.data.values import as_flag, as_id, as_number, as_numeric_id, four_numbers
from singleshot.errors import DataError

CATS: list[dict[str, object]] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
BOX = [5, 5, 25, 25]


def one(root: Path, *annotations: dict[str, object], images: int = 1, **more: Any) -> data.DetectionDataset:
    """A data set with these annotations, opened."""
    records = [coco_image(number, f"im{number}.jpg") for number in range(1, images + 1)]
    make_coco(root / "instances.json", records, list(annotations), more.pop("categories", CATS), root / "images")
    return data.open(root, **more)


@pytest.mark.parametrize(
    ("value", "number"),
    [(None, None), (True, None), ("", None), ("1", 1), (" 2.5 ", 2.5), ("1e2", 100), ("1_0", None), ("1,5", None),
     ("nan", None), (float("inf"), None), (10**400, None), ([1], None), ("x", None), (3, 3), ("-4", -4)],
)  # fmt: skip
def test_numbers(value: object, number: float | None) -> None:
    found = as_number(value)
    assert found == number if number is not None else found != found


@pytest.mark.parametrize(
    ("value", "flag"),
    [(None, False), ("", False), (0, False), (1, True), (2, True), (True, True), (False, False), ("0", False),
     ("1", True), ("false", False), (" True ", True), ("no", False), ("0.0", False), ("maybe", None), ([1], None),
     (float("nan"), None), (10**400, True)],
)  # fmt: skip
def test_flags(value: object, flag: bool | None) -> None:
    assert as_flag(value) is flag


@pytest.mark.parametrize(
    ("value", "key", "number"),
    [(None, None, None), (True, None, None), (1, 1, 1), (1.0, 1, 1), (1.5, None, None), ("1", "1", 1),
     ("001", "001", 1), ("a", "a", None), ("1.0", "1.0", None), ("", "", None), ([1], None, None),
     ("9" * 40, "9" * 40, None)],
)  # fmt: skip
def test_ids(value: object, key: object, number: int | None) -> None:
    assert (as_id(value), as_numeric_id(value)) == (key, number)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [(None, None), ([], None), ("", None), ([1, 2, 3], None), ([1, 2, 3, 4, 5], None), ("1234", None),
     ("1,2,3,4", (1, 2, 3, 4)), ("[1.5, 2, 3, 4]", (1.5, 2, 3, 4)), ("1 2 3 4", (1, 2, 3, 4)),
     (["1", "2", "3", "4"], (1, 2, 3, 4)),
     ([[1, 2, 3, 4]], None), ([1, 2, None, 4], None), ([1, 2, True, 4], None), ({"x": 1}, None), ("1,2,3,x", None)],
)  # fmt: skip
def test_four_numbers(value: object, numbers: object) -> None:
    assert four_numbers(value) == numbers


@pytest.mark.parametrize(
    "bbox",
    [
        ["5", "5", "25", "25"],
        ["5.0", 5, " 25", "2.5e1"],
        "5,5,25,25",
        "[5, 5, 25, 25]",
        (5, 5, 25, 25),
        [5.0, 5, 25, 25.0],
    ],
)
def test_boxes_as_text(tmp_path: Path, bbox: object) -> None:
    opened = one(tmp_path, coco_box(1, 1, 1, bbox), bad_data="error")
    assert opened[0].boxes_xyxy.tolist() == [[5, 5, 30, 30]]


@pytest.mark.parametrize(
    ("bbox", "words"),
    [
        (None, "no bbox"),
        ([], "no bbox"),
        ("5525", "bbox is '5525', not four"),
        ("5,5,25", "bbox is '5,5,25'"),
        ([[5, 5, 25, 25]], "bbox is [[5, 5, 25, 25]]"),
        ([5, 5, "a", 25], "'a'"),
        ([5, 5, None, 25], "None"),
        ([5, 5, True, 25], "True"),
        ([5, 5, float("nan"), 25], "nan"),
        ([5, 5, float("inf"), 25], "inf"),
        ([5, 5, 25], "[5, 5, 25]"),
        ([5, 5, 25, 25, 0.9], "0.9"),
        ({"x": 5, "y": 5}, "{'x': 5"),
        (5, "bbox is 5"),
        (["9" * 5000] * 2, "..."),
    ],
)
def test_what_is_no_box_is_named(tmp_path: Path, bbox: object, words: str) -> None:
    opened = one(tmp_path, coco_box(7, 1, 1, bbox), coco_box(8, 1, 2, BOX))
    assert opened[0].boxes_xyxy.tolist() == [[5, 5, 30, 30]]
    (problem,) = opened.problems
    assert (problem.kind, problem.action, problem.line) == ("not-finite", "skipped", 4)
    assert words in problem.message
    assert "annotation 7, cat" in problem.message
    assert len(problem.message) < 200


@pytest.mark.parametrize("crowd", [None, 0, "0", "false", "False", "no", "", False, 0.0])
def test_no_crowds(tmp_path: Path, crowd: object) -> None:
    assert one(tmp_path, coco_box(1, 1, 1, BOX, iscrowd=crowd), bad_data="error")[0].iscrowd.tolist() == [False]


@pytest.mark.parametrize("crowd", [1, "1", "true", True, 1.0])
def test_crowds(tmp_path: Path, crowd: object) -> None:
    opened = one(tmp_path, coco_box(1, 1, 1, BOX, iscrowd=crowd), bad_data="error")
    assert opened[0].iscrowd.tolist() == [True]
    assert [(p.kind, p.action) for p in opened.problems] == [("all-crowd", "noted")]


def test_a_crowd_that_is_neither_is_named(tmp_path: Path) -> None:
    (problem,) = one(tmp_path, coco_box(1, 1, 1, BOX, iscrowd="perhaps"), coco_box(2, 1, 2, BOX)).problems
    assert (problem.kind, problem.action) == ("bad-record", "skipped")
    assert "iscrowd is 'perhaps'" in problem.message


@pytest.mark.parametrize(
    ("image_ids", "owners", "found", "noted"),
    [
        (["1", "2"], [1, 2], [1, 1], True),
        ([1, 2], ["1", "2"], [1, 1], True),
        (["001", "002"], [1, 2], [1, 1], True),
        ([1, 2], [1.0, 2.0], [1, 1], False),
        (["1", 1], [1, "1"], [1, 1], False),
        (["1", "01"], [1, "01"], [0, 1], False),
        (["a", "b"], ["a", 1], [1, 0], False),
        ([1, 2], [True, 2], [0, 1], False),
        ([1, 2], [None, [2]], [0, 0], False),
    ],
)
def test_ids_of_two_types(
    tmp_path: Path, image_ids: list[object], owners: list[object], found: list[int], noted: bool
) -> None:
    images = [coco_image(key, f"{number}.jpg") for number, key in enumerate(image_ids)]
    boxes = [coco_box(number, owner, 1, BOX) for number, owner in enumerate(owners)]
    make_coco(tmp_path / "x.json", images, boxes, CATS, tmp_path)
    opened = data.open(tmp_path)
    assert [len(sample) for sample in opened] == found
    unknown = [problem for problem in opened.problems if problem.kind == "unknown-image"]
    assert len(unknown) == 2 - sum(found)
    assert any(problem.kind == "id-types" for problem in opened.problems) is noted


def test_a_message_about_ids_shows_their_types(tmp_path: Path) -> None:
    opened = one(tmp_path, coco_box(1, "one", 1, BOX), coco_box(2, 1, "x", BOX), coco_box(3, 1, "2", BOX))
    assert [problem.message for problem in opened.problems] == [
        "annotation 1 is of image 'one', not in the file",
        "annotation 2: category_id 'x' is not among the categories",
    ]
    assert opened[0].class_ids.tolist() == [1]


def test_category_ids_as_text(tmp_path: Path) -> None:
    categories: list[dict[str, object]] = [{"id": "10", "name": "cat"}, {"id": "9", "name": 5}]
    opened = one(tmp_path, coco_box(1, 1, 10, BOX), coco_box(2, 1, "9", BOX), categories=categories, bad_data="error")
    assert (opened.class_map.names, opened.class_map.ids) == (("5", "cat"), (9, 10))
    assert opened[0].class_ids.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("categories", "used", "classes"),
    [
        ([(0, "pets", "none"), (1, "cat", "pets"), (2, "dog", "pets")], 1, ("cat", "dog")),
        ([(0, "cat", "none"), (1, "cat", "cat")], 1, ("cat",)),
        ([(0, "pets", "none"), (1, "cat", "pets")], 0, ("pets", "cat")),
        ([(0, "pets", "none"), (1, "cat", "wild")], 1, ("pets", "cat")),
        ([(0, "pets", None), (1, "cat", None)], 1, ("pets", "cat")),
        ([(1, "person", "person")], 1, ("person",)),
        ([(0, "only", "none")], 0, ("only",)),
    ],
)
def test_a_supercategory_without_objects_is_no_class(
    tmp_path: Path, categories: list[tuple[int, str, str]], used: int, classes: tuple[str, ...]
) -> None:
    rows: list[dict[str, object]] = [{"id": a, "name": b, "supercategory": c} for a, b, c in categories]
    opened = one(tmp_path, coco_box(1, 1, used, BOX), categories=rows, bad_data="error")
    assert opened.class_map.names == classes
    assert len(opened[0]) == 1


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        (None, None),
        ([], None),
        ([[]], None),
        ([[1, 2]], None),
        ([[1, 2, 3]], None),
        ([[5, 5, 30, 5, 30, 30]], [5, 5, 25, 25]),
        ([5, 5, 30, 5, 30, 30], [5, 5, 25, 25]),
        ([["5", "5", "30", "30"]], [5, 5, 25, 25]),
        ([[5, 5, 7, 7], [20, 20, 30, 30]], [5, 5, 25, 25]),
        ([[5, 5, "x", 7]], None),
        ({"counts": [1, 2], "size": [2, 2]}, None),
        ("abc", None),
    ],
)
def test_box_around_polygons(segmentation: object, box: list[float] | None) -> None:
    assert box_around(segmentation) == box


def test_polygons_stand_in_for_a_missing_bbox_alone(tmp_path: Path) -> None:
    polygon = [[5, 5, 30, 5, 30, 30]]
    opened = one(
        tmp_path,
        coco_box(1, 1, 1, None, segmentation=polygon),
        coco_box(2, 1, 2, [1, 1, 8, 8], segmentation=polygon),
        coco_box(3, 1, 1, None, segmentation={"counts": "abc", "size": [40, 60]}),
        {"id": 4, "image_id": 1, "category_id": 2, "segmentation": []},
    )
    assert opened[0].boxes_xyxy.tolist() == [[5, 5, 30, 30], [1, 1, 9, 9]]
    assert [(p.kind, p.line) for p in opened.problems] == [("not-finite", 6), ("not-finite", 7), ("polygon", None)]
    assert "a mask (RLE) but no bbox" in opened.problems[0].message


def corners(*boxes: list[float]) -> list[dict[str, object]]:
    return [coco_box(number, 1 + number % 2, 1, box) for number, box in enumerate(boxes)]


@pytest.mark.parametrize(
    ("boxes", "kind"),
    [
        ([[5, 5, 30, 30], [35, 10, 60, 40], [30, 20, 55, 35]], "corner-boxes"),
        ([[5, 5, 25, 25], [35, 10, 25, 30], [20, 5, 70, 30]], None),  # one box sticks out, as drawn
        ([[0, 0, 60, 40], [1, 1, 61, 41]], None),  # whole images
        ([[50, 30, 20, 20], [40, 30, 25, 20], [5, 5, 4, 4]], None),  # as corners they would be inverted
        ([[0.1, 0.1, 0.4, 0.5], [0.5, 0.5, 0.5, 0.5]], "fraction-boxes"),
        ([[0.0, 0.0, 1, 1], [0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1]], "fraction-boxes"),
        ([[0.0, 0.0, 1, 1], [0, 0, 1, 1]], None),  # whole numbers: one pixel
        ([[0.5, 0.5, 0.4, 0.4], [5, 5, 25, 25], [9, 9, 8, 8]], None),
    ],
)
def test_boxes_in_another_notation(tmp_path: Path, boxes: list[list[float]], kind: str | None) -> None:
    opened = one(tmp_path, *corners(*boxes), images=2)
    skipped = [problem for problem in opened.problems if problem.action == "skipped"]
    if kind is None:
        assert sum(map(len, opened)) >= len(boxes) - 1
        assert {problem.kind for problem in skipped} <= {"duplicate-box"}
        return
    assert sum(map(len, opened)) == 0
    assert [problem.kind for problem in skipped] == [kind]
    assert skipped[0].message.startswith(str(len(boxes)))


@pytest.mark.parametrize(
    "name",
    [
        *("im0.jpg", "images/im0.jpg", "images\\im0.jpg", "./images/im0.jpg", "../../upload/4/im0.jpg"),
        *("..\\..\\label-studio\\media\\im0.jpg", "/home/x/data/im0.jpg", "C:\\data\\im0.jpg", "D:/im0.jpg"),
        *("https://host:8080/data/upload/1/im0.jpg?x=1", "/data/upload/1/0a1b2c3d-im0.jpg", "IM0.JPG", "other/im0.jpg"),
        *("file:///x/im0.jpg", "/data/local-files/im0.jpg"),
    ],
)
def test_paths_of_other_machines(tmp_path: Path, name: str) -> None:
    make_image(tmp_path / "images" / "im0.jpg")
    make_image(tmp_path / "images" / "im1.jpg")
    make_coco(tmp_path / "x.json", [coco_image(1, name)], [coco_box(1, 1, 1, BOX)], CATS)
    (sample,) = data.open(tmp_path, bad_data="error")
    assert sample.image_path == tmp_path / "images" / "im0.jpg"


@pytest.mark.parametrize("name", ["im%200.jpg", "/x/im%200.jpg", "im 0.jpg", "http://h/im%200.jpg"])
def test_addresses_with_signs(tmp_path: Path, name: str) -> None:
    make_image(tmp_path / "images" / "im 0.jpg")
    make_coco(tmp_path / "x.json", [coco_image(1, name)], [], CATS)
    assert data.open(tmp_path, bad_data="error")[0].image_path.name == "im 0.jpg"


def test_of_equal_names_the_longest_common_end_is_meant(tmp_path: Path) -> None:
    for day in (1, 2):
        make_image(tmp_path / "photos" / f"day{day}" / "im0.jpg")
    images = [
        coco_image(1, "/srv/day1/im0.jpg"),
        coco_image(2, "/srv/day2/im0.jpg"),
        coco_image(3, "/srv/day3/im0.jpg"),
    ]
    make_coco(tmp_path / "x.json", images, [], CATS)
    opened = data.open(tmp_path)
    assert [(s.image_id, s.image_path.parent.name) for s in opened] == [(1, "day1"), (2, "day2")]
    assert [(p.kind, p.line) for p in opened.problems if p.action == "skipped"] == [("bad-record", 4)]


def test_nothing_outside_is_followed(tmp_path: Path) -> None:
    secret = make_image(tmp_path / "secret.jpg")
    images = [coco_image(1, "a.jpg"), coco_image(2, str(secret)), coco_image(3, "../secret.jpg")]
    make_image(tmp_path / "set" / "a.jpg")
    make_coco(tmp_path / "set" / "x.json", images, [], CATS)
    opened = data.open(tmp_path / "set")
    assert [sample.image_path.name for sample in opened] == ["a.jpg"]
    assert [(p.kind, p.line) for p in opened.problems] == [("bad-record", 3), ("bad-record", 4)]


def test_the_remedy_for_images_that_are_nowhere_works(tmp_path: Path) -> None:
    make_coco(tmp_path / "set" / "x.json", [coco_image(1, "/srv/im0.jpg")], [], CATS)
    with pytest.raises(DataError, match="or a link to their folder, into") as caught:
        data.open(tmp_path / "set")
    assert str(tmp_path / "set" / "images") in str(caught.value)
    make_image(tmp_path / "elsewhere" / "im0.jpg")
    (tmp_path / "set" / "images").symlink_to(tmp_path / "elsewhere")
    assert len(data.open(tmp_path / "set", bad_data="error")) == 1


@pytest.mark.parametrize("images", ["{}2017", "images/{}2017", "{}", "images/{}", "my_{}_images"])
@pytest.mark.parametrize("file", ["annotations/custom_{}.json", "annotations/instances_{}2017.json", "{}.json"])
def test_equal_names_in_the_folders_of_two_splits(tmp_path: Path, file: str, images: str) -> None:
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            make_image(tmp_path / images.format(split) / f"im{number}.jpg", (40 + number, 60))
        records = [coco_image(number, f"im{number}.jpg", (40 + number, 60)) for number in range(count)]
        make_coco(tmp_path / file.format(split), records, [coco_box(1, 0, 1, BOX)], CATS)
    for split, count in (("train", 2), ("val", 1)):
        opened = data.open(tmp_path, split, bad_data="error")
        assert [split in str(sample.image_path.relative_to(tmp_path)) for sample in opened] == [True] * count


def test_another_splits_image_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    make_image(tmp_path / "train" / "a.jpg")
    make_image(tmp_path / "val" / "b.jpg")
    make_coco(tmp_path / "train.json", [coco_image(1, "a.jpg"), coco_image(2, "b.jpg")], [], CATS)
    make_coco(tmp_path / "val.json", [coco_image(1, "b.jpg")], [], CATS)
    opened = data.open(tmp_path, "train")
    assert [sample.image_path.name for sample in opened] == ["a.jpg"]
    assert [problem.kind for problem in opened.problems] == ["missing-image"]


@pytest.mark.parametrize(
    ("name", "annotations"),
    [
        ("labels_{}.json", [{"id": 1, "image_id": 1, "category_id": 1}]),
        ("captions_{}.json", [{"id": 1, "image_id": 1, "caption": "a cat"}]),
        ("captions-{}.json", [{"id": 1, "image_id": 1, "caption": "a cat"}]),
        ("panoptic_{}.json", [{"image_id": 1, "segments_info": [{"id": 1, "bbox": BOX}]}]),
        ("p_{}.json", [{"image_id": 1, "segments_info": [{"id": 1, "bbox": BOX}]}]),
        ("person_keypoints_{}.json", [coco_box(1, 1, 1, BOX, keypoints=[1, 2, 2])]),
    ],
)
def test_files_of_other_tasks_are_passed_over(tmp_path: Path, name: str, annotations: list[dict[str, object]]) -> None:
    for split in ("train", "val"):
        images = [coco_image(1, f"{split}.jpg")]
        boxes = [coco_box(1, 1, 1, BOX)] if split == "train" else []
        make_coco(tmp_path / "annotations" / f"instances_{split}.json", images, boxes, CATS, tmp_path / "images")
        make_coco(tmp_path / "annotations" / name.format(split), images, annotations, CATS)
    assert set(data.splits(tmp_path)) == {"train", "val"}
    assert [len(sample) for sample in data.open(tmp_path, bad_data="error")] == [1, 0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    make_image(tmp_path / "a.jpg")
    content = {"images": [coco_image(1, "a.jpg")], "annotations": [], "categories": [{"id": 1, "name": "été"}]}
    (tmp_path / "x.json").write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    for path in (tmp_path, tmp_path / "x.json"):
        if path.is_dir() and encoding == "utf-32":
            continue  # nobody writes it, and a folder is searched for the keys of the others alone
        assert data.open(path, bad_data="error").class_map.names == ("été",)


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    make_coco(tmp_path / "x.json", [coco_image(1, "a.jpg")], [], CATS, tmp_path)
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "._x.json").write_bytes(b"\0\5\x16\7")
    (tmp_path / "empty.json").write_bytes(b"")
    assert len(data.open(tmp_path, bad_data="error")) == 1


def test_names_beyond_what_file_systems_hold(tmp_path: Path) -> None:
    images = [coco_image(1, "a.jpg"), coco_image(2, "n" * 300 + ".jpg"), coco_image(3, "no\0file.jpg")]
    make_image(tmp_path / "a.jpg")
    make_coco(tmp_path / "x.json", images, [], CATS)
    opened = data.open(tmp_path)
    assert [sample.image_id for sample in opened] == [1]
    assert len([problem for problem in opened.problems if problem.action == "skipped"]) == 2
