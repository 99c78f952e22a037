"""Boxes and labels on pictures of any size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from singleshot.detections import Detections
from singleshot.draw import class_colour, draw_detections


def found(boxes: list[list[float]], size_hw: tuple[int, int]) -> Detections:
    count = len(boxes)
    return Detections(np.reshape(boxes, (count, 4)), [0.5] * count, range(count), ("cat", "dog", "cow"), size_hw)


def test_nothing_found_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = draw_detections(image, found([], (30, 40)))
    np.testing.assert_array_equal(picture, image)
    assert picture is not image


def test_box_has_the_colour_of_its_class() -> None:
    picture = draw_detections(np.zeros((200, 300, 3), np.uint8), found([[50, 60, 150, 160]], (200, 300)))
    assert tuple(picture[159, 100]) == tuple(picture[100, 149]) == class_colour(0)
    assert not picture[110, 100].any()


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 900), (60, 80), (2000, 3000)])
@pytest.mark.parametrize("box", [[-1e9, -1e9, 1e9, 1e9], [0, 0, 0, 0], [3, 3, 1, 1], [1e6, 1e6, 2e6, 2e6]])
def test_boxes_beyond_the_picture_do_no_harm(size_hw: tuple[int, int], box: list[float]) -> None:
    assert draw_detections(np.zeros((*size_hw, 3), np.uint8), found([box], size_hw)).shape == (*size_hw, 3)


def test_read_only_and_strided_images_can_be_drawn_on() -> None:
    image = np.zeros((100, 100, 6), np.uint8)[..., ::2]
    image.flags.writeable = False
    assert draw_detections(image, found([[10, 30, 60, 60]], (100, 100))).any()


def test_colours_differ_and_stay() -> None:
    colours = [class_colour(index) for index in range(90)]
    assert len(set(colours)) == 90
    assert colours == [class_colour(index) for index in range(90)]
    neighbours = [np.abs(np.subtract(a, b)).sum() for a, b in pairwise(colours)]
    assert min(neighbours) > 100
