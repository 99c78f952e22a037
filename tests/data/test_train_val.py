"""What is learnt and what is measured: train, eval and data check give one answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_makers import (
    coco_box,
    coco_image,
    make_coco,
    make_image,
    make_list,
    make_voc_image,
    make_yolo_image,
    voc_object,
)
from typer.testing import CliRunner

from singleshot import data
from singleshot.cli import app
from singleshot.data.check import check
from singleshot.data.train_val import open_held_out, open_training, remarks
from singleshot.errors import DataError

CAT = voc_object("cat", (5, 5, 30, 30))
HALF = "0 0.5 0.5 0.5 0.5"
CATEGORIES = [{"id": 1, "name": "cat"}]


def coco_split(file: Path, images: Path, *stems: str) -> None:
    make_coco(
        file,
        [coco_image(index, f"{stem}.jpg") for index, stem in enumerate(stems)],
        [coco_box(index, index, 1, [1, 1, 9, 9]) for index in range(len(stems))],
        CATEGORIES,
        images,
    )


def csv_split(file: Path, images: Path, *stems: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{make_image(images / f'{stem}.jpg').name},cat,1,1,9,9\n" for stem in stems)
    file.write_text("filename,class,xmin,ymin,xmax,ymax\n" + rows)


def make_splits(root: Path, form: str, **splits: tuple[str, ...]) -> None:
    """Splits called by the keys (``_`` stands for ``-``), in a format's own way."""
    for name, stems in splits.items():
        if form == "coco":
            coco_split(root / "annotations" / f"{name.replace('_', '-')}.json", root / "images", *stems)
        elif form == "coco folders":
            coco_split(root / f"{name}.json", root / name.removeprefix("custom_"), *stems)
        elif form == "csv":
            csv_split(root / f"{name.replace('_', '-')}.csv", root / "images", *stems)
        elif form == "voc":
            for stem in stems:
                make_voc_image(root, stem, CAT)
            make_list(root, name, *stems)
        elif form == "yolo lists":
            for stem in stems:
                make_yolo_image(root, stem, HALF)
            (root / f"{name}.txt").write_text("".join(f"images/{stem}.jpg\r\n" for stem in stems))
        else:
            for stem in stems:
                make_yolo_image(root, f"{name}/{stem}", HALF)


FORMS = ("coco", "csv", "voc", "yolo lists", "yolo folders")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Val", "Test"),
        ("training", "validation", "testing"),
        ("train2017", "val2017", "test2017"),
        ("x_train_export", "x_valid_export", "x_test_export"),
    ],
)
def test_splits_of_any_name_keep_the_test_images_out(
    tmp_path: Path, form: str, train: str, val: str, test: str
) -> None:
    make_splits(tmp_path, form, **{train: ("a", "b", "c"), val: ("d",), test: ("e", "f")})
    train_set, val_set = open_training(tmp_path)
    assert val_set is not None
    assert {sample.image_path.stem for sample in train_set} == {"a", "b", "c"}
    assert {sample.image_path.stem for sample in val_set} == {"d"}
    assert {sample.image_path.stem for sample in open_held_out(tmp_path)} == {"e", "f"}
    for wanted, stems in (("train", {"a", "b", "c"}), ("val", {"d"}), ("test", {"e", "f"})):
        assert {sample.image_path.stem for sample in data.open(tmp_path, wanted)} == stems


def test_detr_names_are_read(tmp_path: Path) -> None:
    make_splits(tmp_path, "coco folders", custom_train=("a", "b"), custom_val=("c",))
    for name in ("train", "val"):
        (tmp_path / name).rename(tmp_path / f"{name}2017")
    train_set, val_set = open_training(tmp_path)
    assert (len(train_set), val_set and len(val_set)) == (2, 1)


@pytest.mark.parametrize("form", FORMS)
def test_splits_without_a_training_split_are_never_divided_anew(tmp_path: Path, form: str) -> None:
    make_splits(tmp_path, form, val=("a",), test=("b",))
    with pytest.raises(DataError, match=r"none of its splits \((test, val|val, test)\).*`train`.*`val`"):
        open_training(tmp_path)
    assert len(open_training(tmp_path, "val", "test")[0]) == 1


@pytest.mark.parametrize("form", FORMS)
def test_of_a_lone_training_split_a_part_is_held_out_and_said(tmp_path: Path, form: str) -> None:
    make_splits(tmp_path, form, train=tuple(f"im{index}" for index in range(10)))
    train_set, val_set = open_training(tmp_path)
    assert val_set is not None
    assert (len(train_set), len(val_set)) == (8, 2)
    assert any("'train' has no part to measure on: its 10 images are divided" in note for note in train_set.notes)
    assert [s.image_path for s in open_held_out(tmp_path)] == [s.image_path for s in val_set]
    assert [s.image_path for s in data.open(tmp_path, "val")] == [s.image_path for s in val_set]
    assert len(data.open(tmp_path, "train")) == 10
    everything, nothing = open_training(tmp_path, val="none")
    assert (len(everything), nothing) == (10, None)


def test_a_heap_is_divided_once_for_all_verbs(tmp_path: Path) -> None:
    for index in range(60):
        make_voc_image(tmp_path, f"im{index}", CAT)
    train_set, val_set = open_training(tmp_path)
    test_set = open_held_out(tmp_path)
    assert val_set is not None
    parts = [{sample.image_path for sample in part} for part in (train_set, val_set, test_set)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 60
    assert len(val_set) >= 12
    assert {name: set(map(Path, paths)) for name, paths in check(tmp_path, deep=False).members.items()} == dict(
        zip(("train", "val", "test"), parts, strict=True)
    )
    assert any("divided" in note for note in train_set.notes)
    assert len(open_held_out(tmp_path, learnt=False)) == 60


@pytest.mark.parametrize("count", [1, 2])
def test_very_small_heaps_are_learnt_from_and_nothing_is_measured(tmp_path: Path, count: int) -> None:
    for index in range(count):
        make_yolo_image(tmp_path, f"im{index + 22}", HALF, images=".", labels=".")
    train_set, val_set = open_training(tmp_path)
    assert (len(train_set), val_set) == (count, None)
    assert any("nothing is measured" in note for note in remarks(train_set, val_set))


def test_an_empty_list_is_passed_over_and_refused_when_asked_for(tmp_path: Path) -> None:
    make_splits(tmp_path, "voc", train=("a", "b"), val=("c",))
    make_list(tmp_path, "test")
    held_out = open_held_out(tmp_path)
    assert (held_out.split, len(held_out)) == ("val", 1)
    assert "split 'test' has no images and is passed over" in held_out.notes
    for refused in (lambda: open_held_out(tmp_path, "test"), lambda: open_training(tmp_path, val="test")):
        with pytest.raises(DataError, match="'test' has no usable images"):
            refused()
    assert "empty-split" in {problem.kind for problem in check(tmp_path).problems}


def test_a_split_without_labels_is_named_before_the_first_step(tmp_path: Path) -> None:
    make_splits(tmp_path, "yolo folders", train=("a", "b"))
    make_image(tmp_path / "images" / "val" / "c.jpg")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    train_set, val_set = open_training(tmp_path)
    text = "\n".join(remarks(train_set, val_set))
    assert "nothing can be measured on 'val' (1 image)" in text
    assert "labels/val/c.txt" in text


def test_missing_folders(tmp_path: Path) -> None:
    make_splits(tmp_path, "yolo folders", train=("a", "b"), val=("c",))
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [cat]\n")
    assert [problem.kind for problem in data.open(tmp_path, "train").problems] == ["missing-split"]
    assert open_held_out(tmp_path).split == "val"
    with pytest.raises(DataError, match="key 'test': no folder or file"):
        data.open(tmp_path, "test")
    yaml.write_text("train: images/train\nval: images/valid\nnames: [cat]\n")
    with pytest.raises(DataError, match=r"key 'val': no folder or file.*`val='none'`"):
        open_training(tmp_path)
    yaml.write_text("train: images/nowhere\nval: images/val\nnames: [cat]\n")
    with pytest.raises(DataError, match="key 'train': no folder or file"):
        data.open(tmp_path)


def test_shared_images_are_refused(tmp_path: Path) -> None:
    make_splits(tmp_path, "voc", train=("a", "b"), val=("b",))
    with pytest.raises(DataError, match=r"'train' and 'val' share 1 images, such as b\.jpg"):
        open_training(tmp_path)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", *map(str, words)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_split_writes_lists_and_keeps_those_that_are_there(tmp_path: Path) -> None:
    for index in range(10):
        make_yolo_image(tmp_path / "set", f"im{index}", HALF)
    code, text = run("split", tmp_path / "set", "--out", tmp_path / "lists")
    assert code == 0
    assert "divided by the names (train 8, val 2, test 0)" in text
    lines = {name: (tmp_path / "lists" / f"{name}.txt").read_text().split() for name in ("train", "val", "test")}
    assert {name: len(paths) for name, paths in lines.items()} == {"train": 8, "val": 2, "test": 0}
    assert all(Path(path).is_file() for path in lines["train"])
    assert run("split", tmp_path / "set", "--out", tmp_path / "lists")[0] == 2
    assert run("split", tmp_path / "set", "--out", tmp_path / "lists", "--overwrite")[0] == 0


def test_check_says_what_train_does_and_names_the_images(tmp_path: Path) -> None:
    make_splits(tmp_path / "set", "voc", train=("a", "b"), val=("c",))
    code, text = run("check", tmp_path / "set", "--json", tmp_path / "report.json")
    assert code == 0
    assert "train learns from 2 images of 'train' and measures on 1 of 'val'" in text
    written = json.loads((tmp_path / "report.json").read_text())
    assert {name: [Path(path).stem for path in paths] for name, paths in written["members"].items()} == {
        "train": ["a", "b"],
        "val": ["c"],
    }
