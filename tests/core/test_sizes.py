"""Sizes as users write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from singleshot.core.settings import MAX_SIDE
from singleshot.core.sizes import MAX_BATCH, parse_batch_size, parse_size
from singleshot.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, (1, 1)),
        (300, (300, 300)),
        (np.int64(300), (300, 300)),
        ("300", (300, 300)),
        ("300x512", (300, 512)),
        ("300 X 512", (300, 512)),
        ((300, 512), (300, 512)),
        ([300, "512"], (300, 512)),
        (MAX_SIDE, (MAX_SIDE, MAX_SIDE)),
    ],
)
def test_sizes(size: Any, expected: tuple[int, int]) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize(
    "size",
    [
        "", (), 0, "0", "0x3", "axb", "300x", "300x480x3", (1, 2, 3), -3, "-3", 300.0, True, None, "\u0663", "30 0",
        MAX_SIDE + 1, "9" * 5000, {}, "3e2",
    ],
)  # fmt: skip
def test_what_is_no_size(size: Any) -> None:
    with pytest.raises(ConfigError, match="`size` must be one side or HEIGHTxWIDTH, in pixels up to 4096") as caught:
        parse_size(size)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", [1, 8, np.int32(8), MAX_BATCH])
def test_batch_sizes(value: Any) -> None:
    assert parse_batch_size(value) == value
    assert parse_batch_size(value, auto=True) == value


@pytest.mark.parametrize("value", [0, -1, "", "x", "-1", 2.5, True, None, [8], "9" * 5000])
def test_what_is_no_batch_size(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"`batch_size` must be a whole number of images in 1\.\.1024, not"):
        parse_batch_size(value)
    with pytest.raises(ConfigError, match="`batch_size` must be a whole number of images, 1 or more, or auto, not"):
        parse_batch_size(value, auto=True)


def test_training_takes_text_auto_and_any_number() -> None:
    assert [parse_batch_size(value, auto=True) for value in ("auto", "8", " 8 ", 5000)] == ["auto", 8, 8, 5000]
    for value in ("auto", "8", MAX_BATCH + 1):
        with pytest.raises(ConfigError, match="`batch_size` must"):
            parse_batch_size(value)  # type: ignore[arg-type]
