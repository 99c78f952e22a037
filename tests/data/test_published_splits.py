"""A recipe's splits: VOC's devkit and COCO are divided as published, other data as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data_makers import make_coco, make_image, make_list, make_voc_image, voc_object

from reference_data import reference_folder
from singleshot import data as datasets
from singleshot.data.published import PublishedSplits
from singleshot.data.train_val import open_training
from singleshot.errors import DataError
from singleshot.training.recipes import read_config, recipe_paths

VOC0712 = PublishedSplits("2007_trainval+2012_trainval", "2007_test", "VOC2007 test")
VOC07 = PublishedSplits("2007_trainval", "2007_test", "VOC2007 test")
VOC0712PP = PublishedSplits("2007_trainval+2007_test+2012_trainval", "none", "VOC2012 test")
COCO = PublishedSplits("train2017", "val2017", "COCO test-dev2015")
CAT = voc_object("cat", (3, 3, 30, 30))


def year(root: Path, splits: dict[str, list[str]]) -> Path:
    for stem in {stem for stems in splits.values() for stem in stems}:
        make_voc_image(root, stem, CAT)
    for name, stems in splits.items():
        make_list(root, name, *stems)
    return root


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOC as it comes: train and val beside trainval, which is both."""
    root = tmp_path / "VOCdevkit"
    year(root / "VOC2007", {"train": ["a"], "val": ["b"], "trainval": ["a", "b"], "test": ["c", "d", "e"]})
    year(root / "VOC2012", {"train": ["p"], "val": ["q"], "trainval": ["p", "q"]})
    return root


def stems(dataset: datasets.DetectionDataset | None) -> str:
    return "".join(sample.image_path.stem for sample in dataset or ())


@pytest.mark.parametrize(
    ("published", "train", "val", "expected"),
    [
        (None, "auto", "auto", ("ap", "bq")),
        (VOC0712, "auto", "auto", ("abpq", "cde")),
        (VOC07, "auto", "auto", ("ab", "cde")),
        (VOC0712PP, "auto", "auto", ("abcdepq", "")),
        (VOC0712, "2007_train", "auto", ("a", "cde")),
        (VOC0712, "auto", "none", ("abpq", "")),
        (VOC0712, "2007_train", "2007_val", ("a", "b")),
        (VOC0712PP, "2007_trainval", "2007_test", ("ab", "cde")),
    ],
)
def test_a_devkit_is_divided_as_published_and_as_asked(
    devkit: Path, published: PublishedSplits | None, train: str, val: str, expected: tuple[str, str]
) -> None:
    train_set, val_set = open_training(devkit, train, val, published=published)
    assert ("".join(sorted(stems(train_set))), stems(val_set)) == expected


def test_nothing_is_measured_where_the_labels_are_not_public(devkit: Path) -> None:
    train_set, _ = open_training(devkit, published=VOC0712PP)
    assert [note for note in train_set.notes if "VOC2012 test, whose labels are not public" in note]


def test_one_year_by_its_own_folder(devkit: Path) -> None:
    train_set, val_set = open_training(devkit / "VOC2007", published=VOC07)
    assert (stems(train_set), stems(val_set)) == ("ab", "cde")
    with pytest.raises(DataError, match=r"2012_trainval is not here .* or give the devkit that holds VOC2007"):
        open_training(devkit / "VOC2007", published=VOC0712)


def test_a_devkit_that_lacks_a_part_is_an_error_with_the_remedy(devkit: Path) -> None:
    (devkit / "VOC2007/ImageSets/Main/test.txt").unlink()
    with pytest.raises(DataError, match=r"2007_test is not here .*Add what is missing.* by `train` and `val`"):
        open_training(devkit, published=VOC0712)
    train_set, val_set = open_training(devkit, val="none", published=VOC0712)
    assert (stems(train_set), val_set) == ("abpq", None)


def test_a_devkit_without_any_published_part_is_an_error(tmp_path: Path) -> None:
    year(tmp_path / "VOC2010", {"train": ["a"], "val": ["b"]})
    with pytest.raises(DataError, match="2007_trainval, 2007_test, and 2007_trainval and 2007_test are not here"):
        open_training(tmp_path, published=VOC07)


def test_other_data_keeps_its_own_splits_and_it_is_said(tmp_path: Path) -> None:
    year(tmp_path / "cells", {"train": ["a", "b"], "val": ["c"]})
    for published, whose in ((VOC0712, "VOC's"), (COCO, "COCO's")):
        train_set, val_set = open_training(tmp_path / "cells", published=published)
        assert (stems(train_set), stems(val_set)) == ("ab", "c")
        assert [note for note in train_set.notes if f"are {whose} and not of this data" in note]


def test_data_without_splits_is_divided_and_it_is_said(tmp_path: Path) -> None:
    for number in range(12):
        make_voc_image(tmp_path / "photos", f"x{number}", CAT)
    train_set, val_set = open_training(tmp_path / "photos", published=VOC0712)
    assert val_set is not None
    assert len(train_set) + len(val_set) == 12
    assert sum("recipe's splits" in note for note in train_set.notes) == 1


def coco(root: Path, *names: str) -> None:
    for name in names:
        images: list[dict[str, object]] = [{"id": 1, "file_name": f"{name}.jpg", "height": 40, "width": 60}]
        rows: list[dict[str, object]] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 3, 20, 20]}]
        make_coco(
            root / "annotations" / f"instances_{name}.json", images, rows, [{"id": 1, "name": "cat"}], root / name
        )


def test_coco(tmp_path: Path) -> None:
    coco(tmp_path, "train2017", "val2017")
    train_set, val_set = open_training(tmp_path, published=COCO)
    assert (stems(train_set), stems(val_set)) == ("train2017", "val2017")


def test_coco_of_another_year_is_not_divided_by_guess(tmp_path: Path) -> None:
    coco(tmp_path, "train2014", "valminusminival2014", "minival2014")
    with pytest.raises(DataError, match="train2017 and val2017 are not here"):
        open_training(tmp_path, published=COCO)
    train_set, val_set = open_training(
        tmp_path, "train2014+valminusminival2014", "minival2014", published=COCO
    )  # trainval35k
    assert (len(train_set), stems(val_set)) == (2, "minival2014")


@pytest.mark.parametrize("path", [p for p in recipe_paths() if p.stem != "bccd_ssdlite"], ids=lambda path: path.stem)
def test_every_published_recipe_has_its_splits(path: Path) -> None:
    reference = read_config(path).reference
    assert reference is not None
    assert reference.splits is not None
    words = {"2007_trainval": "VOC2007 trainval", "2007_test": "VOC2007 test", "2012_trainval": "VOC2012 trainval"}
    if path.stem.endswith(("voc07", "voc0712", "voc0712pp")):
        assert " + ".join(words[part] for part in reference.splits.train.split("+")) == reference.train
        assert words.get(reference.splits.val, "VOC2012 test") == reference.test
    else:
        assert (reference.splits.train, reference.splits.val) == ("train2017", "val2017")


@pytest.mark.heavy
def test_voc07_and_12_at_their_real_size(tmp_path: Path) -> None:
    """All of VOC's labels with blank images; for 2012's list, which is not there, as many of its annotated images."""
    labels = reference_folder() / "data" / "voc_labels"
    if not labels.is_dir():
        pytest.skip(f"no {labels}")
    blank = make_image(tmp_path / "blank.jpg", (500, 500))
    for folder, name, split, count in (
        ("VOC2007", "voc07_train", "trainval", 5011),
        ("VOC2007", "voc07_test", "test", 4952),
        ("VOC2012", "voc12_train", "trainval", 11540),
    ):
        lines = (labels / f"{name}.txt").read_text().splitlines()[:count]
        names = [write_labels(tmp_path / "VOCdevkit" / folder, blank, line) for line in lines]
        make_list(tmp_path / "VOCdevkit" / folder, split, *names)
    train_set, val_set = open_training(tmp_path / "VOCdevkit", published=VOC0712)
    assert (len(train_set), len(val_set or ())) == (16_551, 4_952)
    assert len(train_set.class_map) == 20


def write_labels(root: Path, blank: Path, line: str) -> str:
    name, _, *numbers = line.split()
    stem = Path(name).stem
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    os.link(blank, root / "JPEGImages" / f"{stem}.jpg")
    rows = [numbers[start : start + 5] for start in range(0, len(numbers), 5)]
    objects = "".join(voc_object(f"class{row[4]}", (row[0], row[1], row[2], row[3])) for row in rows)
    size = "<size><width>500</width><height>500</height><depth>3</depth></size>"
    (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return stem
