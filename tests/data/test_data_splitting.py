"""Dividing images by their names."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singleshot.data.splitting import assign_splits


def test_no_images() -> None:
    assert assign_splits([]) == []


def test_the_division_never_changes() -> None:
    """These were computed once from SHA-256; a change would move images between users' train and test splits."""
    names = ["a.jpg", "image_1.png", "000002.jpg", "x/000005.png", "000008.jpg", "000010.jpg"]
    assert assign_splits(names) == ["train", "val", "test", "val", "val", "test"]


def test_folders_and_suffixes_do_not_count() -> None:
    assert len(set(assign_splits(["a.jpg", "x/a.jpg", "a.png", "/y/a.webp"]))) == 1


def test_shares_are_met() -> None:
    counts = Counter(assign_splits([f"{index:06d}.jpg" for index in range(10_000)]))
    assert counts["train"] == pytest.approx(8000, abs=150)
    assert counts["val"] == pytest.approx(1000, abs=100)
    assert counts["test"] == pytest.approx(1000, abs=100)


@given(st.lists(st.text(min_size=1), max_size=20, unique=True))
def test_each_image_depends_on_itself_alone(names: list[str]) -> None:
    assert assign_splits(names) == [assign_splits([name])[0] for name in names]


@pytest.mark.parametrize("fractions", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}])
def test_wrong_shares(fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        assign_splits(["a"], fractions)
