"""COCO: places, sparse ids, crowds, line numbers, damaged files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import coco_box, coco_image, make_coco, make_image
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot import data
from singleshot.data.formats import json_sections
from singleshot.data.formats.coco_columns import AnnotationRows
from singleshot.data.formats.json_sections import read_sections
from singleshot.errors import DataError

CATS = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]


def test_a_file_without_annotations(tmp_path: Path) -> None:
    make_coco(tmp_path / "instances.json", [coco_image(7, "a.jpg")], [], CATS, tmp_path / "images")
    opened = data.open(tmp_path)
    assert (opened.format, len(opened), len(opened[0]), opened.splits) == ("coco", 1, 0, ("train", "val", "test"))
    assert opened.class_map.names == ("car", "dog", "toothbrush")
    assert opened.class_map.ids == (3, 18, 90)


def test_an_empty_file(tmp_path: Path) -> None:
    make_coco(tmp_path / "instances.json", [], [], [])
    assert len(data.open(tmp_path)) == 0


def test_boxes_crowds_areas_and_ids(tmp_path: Path) -> None:
    rle = {"counts": [3, 5, 2392], "size": [40, 60]}
    annotations = [
        coco_box(1, 7, 18, [10, 5, 20.5, 15], area=123.5, iscrowd=0, segmentation=[[1, 2, 3, 4.5e0, 5, 6]]),
        coco_box(2, 7, 90, [0, 0, 60, 40], iscrowd=1, segmentation=rle),
        coco_box(3, 7, 3, [1, 2, 3, 4], difficult=1),
    ]
    make_coco(tmp_path / "instances.json", [coco_image(7, "a.jpg")], annotations, CATS, tmp_path / "images")
    (sample,) = data.open(tmp_path, bad_data="error")
    assert sample.boxes_xyxy.tolist() == [[10, 5, 30.5, 20], [0, 0, 60, 40], [1, 2, 4, 6]]
    assert sample.class_ids.tolist() == [1, 2, 0]
    assert sample.iscrowd.tolist() == [False, True, False]
    assert sample.difficult.tolist() == [False, False, True]
    np.testing.assert_allclose(sample.areas, [123.5, 2400, 12])
    assert (sample.image_id, sample.source) == (7, f"{tmp_path / 'instances.json'}:2")


@pytest.mark.parametrize(
    ("json_place", "image_place"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}.json", "images/{}"),
        ("annotations/{}.json", "images"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}.json", "{}"),
    ],
)
def test_train_and_val_at_the_usual_places(tmp_path: Path, json_place: str, image_place: str) -> None:
    for number, split in enumerate(("train", "val")):
        image = coco_image(1, f"{split}{number}.jpg")
        annotations = [coco_box(1, 1, 3, [1, 1, 5, 5])]
        make_coco(tmp_path / json_place.format(split), [image], annotations, CATS, tmp_path / image_place.format(split))
    captions: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(captions))
    assert len(data.splits(tmp_path)) == 2
    assert [sample.image_path.name for sample in data.open(tmp_path, "train")] == ["train0.jpg"]
    assert [sample.image_path.name for sample in data.open(tmp_path, "val")] == ["val1.jpg"]
    assert len({sample.image_id for sample in data.open(tmp_path)}) == 2
    alone = data.open(tmp_path / json_place.format("val"))
    assert [sample.image_path.name for sample in alone] == ["val1.jpg"]


def test_every_bad_record_is_named_with_its_line(tmp_path: Path) -> None:
    images: list[Any] = [
        coco_image(1, "a.jpg"),  # line 2
        coco_image(1, "b.jpg"),
        coco_image(2, "../c.jpg"),
        {"id": 3},
        coco_image(4, "a.jpg"),
        "nonsense",
        coco_image(5, "missing.jpg"),
    ]
    annotations: list[Any] = [
        coco_box(1, 1, 3, [1, 1, 5, 5]),  # line 10
        coco_box(1, 1, 18, [2, 2, 5, 5]),
        coco_box(3, 99, 3, [1, 1, 5, 5]),
        coco_box(4, 1, 4, [1, 1, 5, 5]),
        coco_box(5, 1, 3, [1, 1, 5]),
        coco_box(6, 1, 3, None),
        coco_box(7, 1, 3, [1, 1, "x", 5]),
        coco_box(8, 1, 3, [3, 3, float("nan"), 5]),
        coco_box(9, 1, 3, [9, 9, 0, 5]),
        coco_box(10, 1, 3, [9, 9, -4, 5]),
        None,
        coco_box(11, 1, True, [1, 1, 5, 5]),
    ]
    file = make_coco(tmp_path / "instances.json", images, annotations, CATS)
    make_image(tmp_path / "a.jpg")
    opened = data.open(tmp_path)
    found = sorted((problem.line, problem.kind, problem.action) for problem in opened.problems)
    assert found == [
        (3, "duplicate-image", "skipped"),
        (4, "bad-record", "skipped"),
        (5, "bad-record", "skipped"),
        (6, "duplicate-image", "skipped"),
        (7, "bad-record", "skipped"),
        (8, "missing-image", "skipped"),
        (11, "duplicate-id", "noted"),
        (12, "unknown-image", "skipped"),
        (13, "unknown-class", "skipped"),
        (14, "not-finite", "skipped"),
        (15, "not-finite", "skipped"),
        (16, "not-finite", "skipped"),
        (17, "not-finite", "skipped"),
        (18, "degenerate", "skipped"),
        (19, "inverted", "repaired"),
        (20, "unknown-image", "skipped"),
        (21, "unknown-class", "skipped"),
    ]
    assert {problem.file for problem in opened.problems} == {file}
    assert opened[0].boxes_xyxy.tolist() == [[1, 1, 6, 6], [2, 2, 7, 7], [5, 9, 9, 14]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("[]", "not valid JSON"),
        ('{"images": [],\n"annotations": [\n{"id": 1},,]}', ":3: not valid JSON"),
        ('{"images": [], "annotations": [{}', "not valid JSON"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": {}, "annotations": [], "categories": []}', "no list 'images'"),
        ('{"images": [], "annotations": [], "categories": [\n{"id": "x", "name": "a"}]}', ":2: a category needs"),
        ('{"images": ' + "[" * 100_000, "not valid JSON"),
        ("\xff\xfe", "not valid JSON"),
        ("{[]: 1}", "no list 'categories'"),
        ('\xef\xbb\xbf{"images": ["\xff"]', "can't decode byte 0xff"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "instances.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=words) as caught:
        data.open(file)
    assert str(file) in str(caught.value)


def test_no_image_at_all_says_where_it_looked(tmp_path: Path) -> None:
    make_coco(tmp_path / "instances.json", [coco_image(1, "a.jpg")], [], CATS)
    with pytest.raises(DataError, match="none of its images") as caught:
        data.open(tmp_path)
    assert str(tmp_path / "images") in str(caught.value)


def test_file_names_with_folders_of_either_kind(tmp_path: Path) -> None:
    make_image(tmp_path / "images" / "sub" / "a.jpg")
    make_coco(tmp_path / "instances.json", [coco_image(1, "images\\sub\\a.jpg")], [], CATS)
    assert data.open(tmp_path)[0].image_path == tmp_path / "images" / "sub" / "a.jpg"


def test_numbers_beyond_all_measure(tmp_path: Path) -> None:
    image = coco_image(1, "a.jpg", (10**400, 1))
    boxes = [coco_box(1, 1, 3, [10**400, 1, 2, 3]), coco_box(2, 1, 3, [1, 1, 1e300, 3], area=10**400)]
    make_coco(tmp_path / "instances.json", [image], boxes, CATS, tmp_path)
    opened = data.open(tmp_path)
    assert {problem.kind for problem in opened.problems} == {"not-finite", "clipped", "no-size"}
    assert opened[0].areas.tolist() == [59 * 3]


def test_equal_names_are_one_class(tmp_path: Path) -> None:
    cats = [{"id": 1, "name": "car"}, {"id": 2, "name": "car"}, {"id": 5, "name": "dog"}]
    annotations = [coco_box(i, 1, c, [i, 1, 5, 5]) for i, c in enumerate((1, 2, 5))]
    make_coco(tmp_path / "instances.json", [coco_image(1, "a.jpg")], annotations, cats, tmp_path)
    opened = data.open(tmp_path, bad_data="error")
    assert opened.class_map.names == ("car", "dog")
    assert opened[0].class_ids.tolist() == [0, 0, 1]
    assert [problem.kind for problem in opened.problems] == ["duplicate-class"]


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), grown, max_leaves=6)


class Kept:
    def __init__(self) -> None:
        self.values: list[Any] = []
        self.lines: list[int] = []

    def add(self, elements: list[Any], lines: Any) -> None:
        self.values += elements
        self.lines += lines.tolist()


@settings(max_examples=40)
@given(
    st.fixed_dictionaries({"a": st.lists(JSON, max_size=4), "b": st.lists(JSON, max_size=4), "other": JSON}),
    st.sampled_from([None, 0, 2, "\t"]),
    st.booleans(),
)
def test_sections_equal_the_parsed_lists_and_lines(
    content: dict[str, list[Any]], indent: int | str | None, whole: bool
) -> None:
    text = json.dumps(content, indent=indent)
    pieces = [text] if whole else re.findall(r"[^}]*\}|[^}]+", text)
    sections = read_sections(pieces, {"a": Kept, "b": Kept})
    assert {key: section.values for key, section in sections.items()} == {key: content[key] for key in ("a", "b")}
    for key, section in sections.items():
        if indent is None:
            assert section.lines == [1] * len(content[key])
        else:  # an element follows all lines of the ones before it
            heights = [json.dumps(element, indent=indent).count("\n") + 1 for element in content[key]]
            opening = text.splitlines().index(next(line for line in text.splitlines() if f'"{key}":' in line)) + 1
            assert section.lines == [opening + 1 + sum(heights[:index]) for index in range(len(heights))]


@given(st.text('{}[],:"1e\\ \n', max_size=12), st.integers(0, 40))
def test_a_fault_is_the_same_in_pieces(more: str, place: int) -> None:
    text = '{"a": [{"x": "}"},\n {"y": [1]}],\n "b": {"c": {}}}'
    text = text[:place] + more + text[place:]

    def said(pieces: list[str]) -> object:
        try:
            return [(name, part.values, part.lines) for name, part in read_sections(pieces, {"a": Kept}).items()]
        except json.JSONDecodeError as error:
            return error.msg, error.lineno

    assert said(re.findall(r"[^}]*\}|[^}]+", text)) == said([text])


VALUES = st.sampled_from([None, True, 0, 3, -(2**63), 2**70, 1.5, float("nan"), "3", [1]])
BOXES = st.lists(st.integers(0, 9) | st.floats(0, 9), min_size=4, max_size=4) | VALUES
ANNOTATIONS = st.tuples(
    VALUES, st.integers(0, 3) | VALUES, st.integers(0, 3), BOXES, VALUES, VALUES, VALUES, st.just("")
)


@settings(max_examples=50)
@given(st.lists(ANNOTATIONS, max_size=9))
def test_columns_say_of_many_what_they_say_of_each(rows: list[tuple[Any, ...]]) -> None:
    together, alone = AnnotationRows(lambda row: row), AnnotationRows(lambda row: row)
    together.add(rows, np.arange(len(rows))) if rows else None
    for line, row in enumerate(rows):
        alone.add([row], np.array([line]))
    assert repr([together.written(row) for row in range(len(rows))]) == repr(list(map(alone.written, range(len(rows)))))
    assert (together.odd.keys(), list(together.lines)) == (alone.odd.keys(), list(range(len(rows))))
    for place, (key, image, category, box, *_) in enumerate(rows):
        assert repr(together.written(place)[:3]) == repr((key, image, category))
        assert place in together.odd or together.written(place)[3] == box
        assert repr(together.keys_of(np.arange(len(rows)))[place]) in (repr(key), f"np.int64({key})")


def test_a_long_file_says_what_a_short_one_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    polygon = [[1, 2, 30, 4, 5, 60.5]]
    boxes = [[1, 1, 5, 5], "1,1,5,5", None, [1, 1, 5]]
    records = [
        coco_box(number % 7 or 3, number % 5, 3, boxes[number % 4], area=number % 3, segmentation=polygon)
        for number in range(60)
    ]
    images = [coco_image(number, f"ä{number}}}.jpg") for number in range(4)]
    make_coco(tmp_path / "instances.json", images, records, CATS, tmp_path)
    once = data.open(tmp_path)
    monkeypatch.setattr(json_sections, "PIECE_BYTES", 50)
    monkeypatch.setattr(json_sections, "MOST_ELEMENTS", 3)
    again = data.open(tmp_path)
    assert {problem.kind for problem in again.problems} >= {"duplicate-id", "unknown-image", "not-finite", "polygon"}
    assert again.problems == once.problems
    assert [repr(sample) for sample in again] == [repr(sample) for sample in once]


@pytest.mark.parametrize(
    "text", ['{"info": "' + "a" * 5000, '{"info": {"a": "' + "}" * 5000, '{"images": [{' + '"a": {}, ' * 900]
)
def test_a_value_without_end_is_given_up(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "instances.json").write_text(text)
    monkeypatch.setattr(json_sections, "PIECE_BYTES", 50)
    monkeypatch.setattr(json_sections, "MAX_VALUE_BYTES", 500)
    with pytest.raises(DataError, match="a value of more than 500 bytes: is a quote or a bracket missing"):
        data.open(tmp_path / "instances.json")
