"""Boxes and labels on pictures of any size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from singleshot.images.draw import class_colour, draw_detections
from singleshot.images.guides import Guide
from singleshot.prediction.detections import Detections


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


def many(boxes: list[list[float]], size_hw: tuple[int, int], name: str = "traffic light") -> Detections:
    return Detections(np.reshape(boxes, (-1, 4)), [0.5] * len(boxes), [0] * len(boxes), (name,), size_hw)


def changed(boxes: list[list[float]], size_hw: tuple[int, int], **options: Any) -> np.ndarray:
    """Which pixels of a gray picture were drawn on."""
    picture = draw_detections(np.full((*size_hw, 3), 97, np.uint8), many(boxes, size_hw), **options)
    return (picture != 97).any(axis=-1)


@pytest.mark.parametrize("line_width", [1, 2, 5])
def test_labels_and_line_width_are_the_callers(line_width: int) -> None:
    drawn = changed([[100, 100, 300, 300]], (400, 400), labels=False, line_width=line_width)
    assert not drawn[:90].any()
    assert 2 * line_width <= drawn[200].sum() <= 2 * line_width + 4  # OpenCV rounds thick lines up
    assert changed([[100, 100, 300, 300]], (400, 400), line_width=line_width)[:90].any()


def test_a_small_object_stays_visible() -> None:
    size_hw = (1500, 2000)
    for side in (4, 8, 12, 30):
        x, y = 900, 700
        drawn = changed([[x, y, x + side, y + side]], size_hw)
        inside = drawn[y : y + side, x : x + side]
        assert inside.mean() < 0.9 or side < 8
        assert drawn.any()


def test_an_object_of_a_few_pixels_has_no_label() -> None:
    assert changed([[50, 50, 55, 56]], (200, 300)).sum() < 40


def test_labels_of_small_objects_hide_neither_objects_nor_labels() -> None:
    size_hw = (300, 400)
    boxes = [[float(x), float(y), x + 12.0, y + 12.0] for x in range(20, 360, 25) for y in range(40, 280, 30)]
    drawn = changed(boxes, size_hw)
    frames = changed(boxes, size_hw, labels=False)
    labels = drawn & ~frames
    assert labels.any()
    for x1, y1, x2, y2 in np.array(boxes, dtype=int):
        assert labels[y1:y2, x1:x2].mean() <= 0.5


def test_a_lone_small_object_has_its_label_beside_it() -> None:
    drawn = changed([[100, 100, 114, 116]], (300, 400))
    assert drawn[80:100].sum() > 300
    assert changed([[100, 0, 114, 12]], (300, 400))[12:30].sum() > 300  # no room above: below


@pytest.mark.parametrize("size_hw", [(3, 3), (12, 500), (500, 12)])
def test_a_label_that_cannot_fit_is_left_out(size_hw: tuple[int, int]) -> None:
    drawn = changed([[0, 0, size_hw[1], size_hw[0]]], size_hw)
    np.testing.assert_array_equal(drawn, changed([[0, 0, size_hw[1], size_hw[0]]], size_hw, labels=False))


def test_names_in_any_script_are_drawn() -> None:
    pictures = [
        draw_detections(np.zeros((200, 300, 3), np.uint8), many([[50, 60, 150, 160]], (200, 300), name)).tobytes()
        for name in ("dog", "собака", "犬", "猫", "ليث")
    ]
    assert len(set(pictures)) == 5


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


def guided(*guides: Guide, size_hw: tuple[int, int] = (120, 160), **options: Any) -> np.ndarray:
    picture = np.full((*size_hw, 3), 97, np.uint8)
    return draw_detections(picture, found([], size_hw), guides=guides, **options)


def test_a_zone_is_closed_and_a_line_has_an_arrow_to_its_right() -> None:
    corners = ((40.0, 40.0), (120.0, 40.0), (120.0, 100.0))
    zone = guided(Guide(corners, "yard", closed=True), labels=False)
    assert (zone[70, 80] > 240).all()  # the side from the last corner to the first
    assert (zone[60, 100] == 97).all()
    line = guided(Guide(((20.0, 60.0), (140.0, 60.0)), "door"), labels=False, line_width=1)
    drawn = (line != 97).any(axis=-1)
    assert (line[60, 30] > 200).all()
    assert drawn[62:].any()  # y points down: right of a line that goes right is below it
    assert not drawn[:56].any()
    assert not drawn[64:, :70].any()
    texts = guided(Guide(((20.0, 60.0), (140.0, 60.0)), "door"), line_width=1) != line
    assert texts[60:80, 20:60].any()


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 900), (60, 80)])
@pytest.mark.parametrize("far", [-1e12, 0.0, 1e12])
def test_guides_beyond_the_picture_do_no_harm(size_hw: tuple[int, int], far: float) -> None:
    guides = [Guide(((far, 0.0), (far, far), (3.0, 4.0)), "zone", closed=True), Guide(((far, far), (9.0, far)), "line")]
    assert guided(*guides, size_hw=size_hw).shape == (*size_hw, 3)
