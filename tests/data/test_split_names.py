"""What the names of splits mean."""

from __future__ import annotations

import pytest

from singleshot.data.split_names import choose_split, is_whole, resolve_split, split_role
from singleshot.errors import DataError


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("", None),
        ("photos", None),
        ("pretrained", None),
        ("contest", None),
        ("train", "train"),
        ("Train", "train"),
        ("TRAINING", "train"),
        ("train2017", "train"),
        ("instances_train2017", "train"),
        ("2007_train", "train"),
        ("train_annotations", "train"),
        ("x-train-export", "train"),
        ("custom_train", "train"),
        ("trainAnnotations", "train"),
        ("obj_train_data", "train"),
        ("train_labels", "train"),
        ("trainval", "trainval"),
        ("2012_trainval", "trainval"),
        ("train_val", "trainval"),
        ("val", "val"),
        ("valid", "val"),
        ("my-validation.v2", "val"),
        ("dev", "val"),
        ("minival2014", "val"),
        ("test", "test"),
        ("Testing", "test"),
        ("test-dev2017", "test"),
        ("train_test", None),
        ("val+test", None),
    ],
)
def test_roles(name: str, role: str | None) -> None:
    assert split_role(name) == role


@pytest.mark.parametrize(("name", "whole"), [("", True), ("default", True), ("Annotations", True), ("train", False)])
def test_names_of_everything(name: str, whole: bool) -> None:
    assert is_whole(name) is whole


@pytest.mark.parametrize(
    ("wanted", "known", "found"),
    [
        ("train", ("train",), "train"),
        ("train", ("Train", "Val"), "Train"),
        ("val", ("train", "valid"), "valid"),
        ("validation", ("train_annotations", "val_annotations"), "val_annotations"),
        ("train", ("train2017", "val2017"), "train2017"),
        ("train", ("train", "x_train"), "train"),
        ("train+val", ("my_train", "my_val"), "my_train+my_val"),
        ("night", ("day", "night"), "night"),
    ],
)
def test_wanted_splits_are_found_by_what_they_mean(wanted: str, known: tuple[str, ...], found: str) -> None:
    assert resolve_split(wanted, known, "set") == found


@pytest.mark.parametrize(
    ("wanted", "known", "words"),
    [
        ("train", (), "no split 'train'"),
        ("night", ("train", "val"), "no split 'night': it has train, val"),
        ("train", ("trainval", "test"), "no split 'train'"),
        ("train", ("a_train", "b_train"), "may be a_train or b_train"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_names(wanted: str, known: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        resolve_split(wanted, known, "set")


def test_of_two_equal_claims_none_is_chosen() -> None:
    assert choose_split(("train",), ("x", "y"), "set", "train") is None
    assert choose_split(("train", "trainval"), ("trainval", "test"), "set", "train") == "trainval"
    with pytest.raises(DataError, match=r"a_train\+b_train, by `train`"):
        choose_split(("train",), ("a_train", "b_train"), "set", "train")
