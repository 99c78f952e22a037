"""``data.open``: what it recognises, what it says when it does not, splits, subsets, policies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from data_makers import coco_box, coco_image, make_coco, make_image, make_list, make_voc_image, voc_object

from singleshot import data
from singleshot.errors import DataError


@pytest.mark.parametrize("format", ["auto", "voc", "coco", "yolo", "csv"])
def test_an_empty_folder_is_named_with_what_was_looked_for(tmp_path: Path, format: str) -> None:
    with pytest.raises(DataError, match=r"(?s)no labelled images.*Looked for.*found an empty folder"):
        data.open(tmp_path, format=format)  # type: ignore[arg-type]


def test_unlabelled_images_and_strange_files(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "settings.yaml").write_text("a: 1")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "page.xml").write_text("<html/>")
    with pytest.raises(DataError, match=r"1 \.jpg files"):
        data.open(tmp_path)
    with pytest.raises(DataError, match=r"found a file 'a\.jpg'"):
        data.open(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="no such folder or file"):
        data.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match="unknown data format 'pascal'"):
        data.open(tmp_path, format="pascal")  # type: ignore[arg-type]


def test_opening_imports_no_torch() -> None:
    code = "import sys, singleshot.data; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_heap_is_divided_by_the_names_of_its_images(tmp_path: Path) -> None:
    for index in range(40):
        make_voc_image(tmp_path, f"image{index}", voc_object("cat", (1, 1, 10, 10)))
    parts = {name: {s.image_id for s in data.open(tmp_path, name)} for name in ("train", "val", "test")}
    whole = data.open(tmp_path)
    assert whole.splits == ("train", "val", "test")
    assert sum(map(len, parts.values())) == len(whole) == 40
    assert parts["train"] | parts["val"] | parts["test"] == {sample.image_id for sample in whole}
    assert len(parts["train"]) > 25
    joined = data.open(tmp_path, "train+val")
    assert {sample.image_id for sample in joined} == parts["train"] | parts["val"]
    make_voc_image(tmp_path, "later", voc_object("cat", (1, 1, 10, 10)))
    again = {name: {s.image_id for s in data.open(tmp_path, name)} - {"later"} for name in parts}
    assert again == parts


def test_synonyms_of_splits(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a")
    make_list(tmp_path, "val", "a")
    for name in ("val", "valid", "validation"):
        assert data.open(tmp_path, name).split == "val"


def test_subset_and_without_empty(tmp_path: Path) -> None:
    for stem, objects in (("a", ()), ("b", (voc_object("cat", (1, 1, 10, 10)),)), ("c", ())):
        make_voc_image(tmp_path, stem, *objects)
    whole = data.open(tmp_path)
    assert [sample.image_id for sample in whole.subset([2, 0])] == ["c", "a"]
    assert len(whole.subset([])) == 0
    assert [sample.image_id for sample in whole.without_empty()] == ["b"]
    assert whole.subset([1]).class_map == whole.class_map


def test_wanted_classes_and_their_order(tmp_path: Path) -> None:
    objects = [voc_object(name, (1, 1, 10, 10 + i)) for i, name in enumerate(("dog", "cat", "ape"))]
    make_voc_image(tmp_path, "a", *objects)
    opened = data.open(tmp_path, classes=("cat", "person", "dog"))
    assert opened.class_map.names == ("cat", "person", "dog")
    assert opened[0].class_ids.tolist() == [2, 0]
    (problem,) = opened.problems
    assert (problem.kind, problem.line, problem.action) == ("unknown-class", 5, "skipped")
    assert "'ape' is not among the classes asked for" in problem.message
    with pytest.raises(DataError, match="repeated: cat"):
        data.open(tmp_path, classes=("cat", "cat"))


def test_wanted_classes_keep_category_ids(tmp_path: Path) -> None:
    cats = [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]
    boxes = [coco_box(1, 1, 3, [1, 1, 5, 5]), coco_box(2, 1, 18, [1, 1, 5, 5])]
    make_coco(tmp_path / "a.json", [coco_image(1, "a.jpg")], boxes, cats, tmp_path)
    opened = data.open(tmp_path, classes=("dog",))
    assert (opened.class_map.ids, opened[0].class_ids.tolist()) == ((18,), [0])
    assert "class 'car'" in opened.problems[0].message


def test_the_error_policy_names_the_records(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", *(voc_object("cat", (90 + i, 1, 99 + i, 10)) for i in range(12)))
    assert len(data.open(tmp_path)[0]) == 0
    with pytest.raises(DataError) as caught:
        data.open(tmp_path, bad_data="error")
    text = str(caught.value)
    assert f"{tmp_path / 'Annotations' / 'a.xml'}:3: cat (90, 1, 99, 10): outside the image of 60 x 40" in text
    assert "12 bad records" in text
    assert "and 2 more" in text


def test_the_error_policy_accepts_what_is_only_noted(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (0, 0, 10, 10)), declared_hw=None)
    opened = data.open(tmp_path, bad_data="error")
    assert opened[0].boxes_xyxy.tolist() == [[0, 0, 10, 10]]
    assert {problem.kind for problem in opened.problems} == {"no-size", "edge"}


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 10)))
    (tmp_path / "JPEGImages" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable image: 1 unreadable-image; the first: .*a\.jpg"):
        data.open(tmp_path)
