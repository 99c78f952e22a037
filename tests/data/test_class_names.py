"""Names of classes: those that only capitals tell apart, and a choice of classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_makers import make_coco, make_list, make_voc_image, voc_object

from singleshot import data as datasets
from singleshot.core.structures import Sample
from singleshot.data.check import check
from singleshot.data.class_list import alike_names
from singleshot.data.train_val import open_held_out, open_training

BOX = (3, 3, 30, 30)


def names_of(dataset: datasets.DetectionDataset) -> list[list[str]]:
    def of(sample: Sample) -> list[str]:
        return [dataset.class_map.names[class_id] for class_id in sample.class_ids]

    return [of(sample) for sample in dataset]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    make_voc_image(tmp_path, "a", voc_object("person", BOX), voc_object("dog", BOX))
    make_voc_image(tmp_path, "b", voc_object("Person ", BOX))
    make_list(tmp_path, "train", "a")
    make_list(tmp_path, "val", "b")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "count", "remedy"),
    [
        ([], 0, False),
        (["a", "b"], 0, False),
        (["Person", "person"], 1, True),
        (["traffic light", "traffic-light"], 1, False),
        (["A", "a", "B", "b"], 2, True),
    ],
)
def test_alike_names(names: list[str], count: int, remedy: bool) -> None:
    found = alike_names(names)
    assert len(found) == count
    assert all(("`lower_names=True` makes them one" in line) is remedy for line in found)


def test_names_that_differ_by_case_are_pointed_out_before_training_and_by_check(voc: Path) -> None:
    train_set, _ = open_training(voc)
    assert [note for note in train_set.notes if "'Person' and 'person' are classes of their own" in note]
    assert [problem.kind for problem in check(voc).problems] == ["alike-classes"]


def test_lower_names_make_them_one(voc: Path) -> None:
    train_set, val_set = open_training(voc, lower_names=True)
    assert val_set is not None
    assert train_set.class_map.names == val_set.class_map.names == ("dog", "person")
    assert (names_of(train_set), names_of(val_set)) == ([["person", "dog"]], [["person"]])
    assert [note for note in train_set.notes if note == "class names are taken in lower case: Person"]
    assert not check(voc, lower_names=True).problems
    assert names_of(open_held_out(voc, "val", lower_names=True)) == [["person"]]


def test_lower_names_of_coco_keep_the_first_id(tmp_path: Path) -> None:
    categories: list[dict[str, object]] = [{"id": 3, "name": "Dog"}, {"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    rows: list[dict[str, object]] = [
        {"id": place, "image_id": 1, "category_id": key, "bbox": [place, 3, 20, 20]}
        for place, key in enumerate((9, 3, 7), 1)
    ]
    images: list[dict[str, object]] = [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}]
    file = make_coco(tmp_path / "x.json", images, rows, categories, tmp_path)
    plain, lower = datasets.open(file), datasets.open(file, lower_names=True)
    assert names_of(plain) == [["dog", "Dog", "cat"]]
    assert names_of(lower) == [["dog", "dog", "cat"]]
    assert (lower.class_map.names, lower.class_map.ids) == (("dog", "cat"), (3, 7))


def test_some_classes_in_an_order_of_ones_own(voc: Path) -> None:
    train_set, val_set = open_training(voc, classes=("person", "dog"), lower_names=True)
    assert val_set is not None
    assert train_set.class_map.names == val_set.class_map.names == ("person", "dog")
    only, _ = open_training(voc, classes=("dog",))
    assert names_of(only) == [["dog"]]
    assert names_of(open_held_out(voc, "train", classes=["dog"])) == [["dog"]]
