"""Dividing images by their names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from data_makers import make_voc_image, voc_object
from hypothesis import given
from hypothesis import strategies as st

from singleshot import data
from singleshot.data.splitting import assign_splits

NAMES = [f"{index:06d}.jpg" for index in range(2000)]


def test_no_images() -> None:
    assert assign_splits([]) == []
    assert assign_splits([], test=False) == []


def test_the_division_of_many_images_never_changes() -> None:
    """These were computed once from SHA-256; a change would move images between users' train and test splits."""
    names = ["a.jpg", "image_1.png", "000002.jpg", "x/000005.png", "000008.jpg", "000010.jpg"]
    others = [f"{index:06d}.jpg" for index in range(1000, 2000)]
    assert assign_splits(names + others)[:6] == ["train", "val", "test", "val", "val", "test"]


@pytest.mark.parametrize(
    ("count", "val", "has_test"),
    [
        *((1, 0, False), (2, 0, False), (4, 0, False), (5, 1, False), (8, 1, False), (49, 9, False)),
        *((60, 12, True), (100, 20, True), (250, 50, True), (400, 50, True)),
    ],
)
def test_small_sets_hold_out_a_fifth_or_fifty(count: int, val: int, has_test: bool) -> None:
    counts = Counter(assign_splits(NAMES[:count]))
    assert counts["val"] >= val
    assert bool(counts["test"]) is has_test
    assert counts["train"] >= count / 2
    without_test = Counter(assign_splits(NAMES[:count], test=False))
    assert (without_test["val"] >= val, without_test["test"]) == (True, 0)


def test_shares_of_many_images() -> None:
    counts = Counter(assign_splits([f"{index:06d}.jpg" for index in range(10_000)]))
    assert counts["train"] == pytest.approx(8000, abs=150)
    assert counts["val"] == pytest.approx(1000, abs=100)
    assert counts["test"] == pytest.approx(1000, abs=100)


@given(st.lists(st.text(min_size=1), max_size=60, unique=True))
def test_there_is_always_something_to_learn_from_and_order_does_not_count(names: list[str]) -> None:
    parts = assign_splits(names)
    assert not names or "train" in parts
    backwards = assign_splits(names[::-1])[::-1]
    assert parts == backwards


@given(st.integers(min_value=5, max_value=1500))
def test_an_image_that_was_held_out_for_the_test_is_never_learnt_from_later(count: int) -> None:
    before, after = assign_splits(NAMES[:count]), assign_splits(NAMES[: count + 1])
    moved = {(old, new) for old, new in zip(before, after, strict=False) if old != new}
    assert ("test", "train") not in moved
    assert ("test", "val") not in moved


def test_folders_and_suffixes_do_not_count_where_names_differ() -> None:
    plain = assign_splits(NAMES[:200])
    assert assign_splits([f"/elsewhere/x/{Path(name).stem}.png" for name in NAMES[:200]]) == plain


def test_images_of_one_name_in_many_folders_are_divided_by_the_folders() -> None:
    counts = Counter(assign_splits([f"scene{index}/image.jpg" for index in range(100)]))
    assert counts["val"] >= 20
    assert counts["train"] >= 50


def test_a_heap_of_eight_with_one_bad_record_opens_in_every_part(tmp_path: Path) -> None:
    for index in range(8):
        box = (90, 1, 99, 10) if index == 3 else (1, 1, 10, 10)
        make_voc_image(tmp_path, f"im{index}", voc_object("cat", box))
    sizes = {name: len(data.open(tmp_path, name)) for name in ("train", "val", "test")}
    assert sizes == {"train": 7, "val": 1, "test": 0}
