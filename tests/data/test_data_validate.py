"""The policy for bad images and boxes; geometry of turned and scaled annotations."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_makers import Box, make_image, make_voc_image, voc_object
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot import data
from singleshot.data.stated_size import turn_boxes
from singleshot.images.read import read_image


def one_object(folder: Path, box: Box) -> tuple[list[list[float]], list[tuple[str, str]]]:
    make_voc_image(folder, "a", voc_object("cat", box))
    opened = data.open(folder, classes=["cat"])
    return opened[0].boxes_xyxy.tolist(), [(problem.kind, problem.action) for problem in opened.problems]


NAN, INF = float("nan"), float("inf")
BOXES = [
    ((1, 1, 60, 40), [[0, 0, 60, 40]], []),
    ((NAN, 1, 20, 20), [], [("not-finite", "skipped")]),
    ((1, 1, INF, 20), [], [("not-finite", "skipped")]),
    (("", 1, 20, 20), [], [("not-finite", "skipped")]),
    (("a", 1, 20, 20), [], [("not-finite", "skipped")]),
    ((20, 10, 5, 30), [[4, 9, 20, 30]], [("inverted", "repaired")]),
    ((20, 30, 5, 10), [[4, 9, 20, 30]], [("inverted", "repaired")]),
    ((0, 0, 10, 10), [[0, 0, 10, 10]], [("edge", "noted")]),
    ((5, 5, 61, 41), [[4, 4, 60, 40]], [("edge", "noted")]),
    ((-9, 5, 20, 45), [[0, 4, 20, 40]], [("clipped", "repaired")]),
    ((61, 5, 80, 20), [], [("outside", "skipped")]),
    ((-30, -30, -3, -3), [], [("outside", "skipped")]),
    ((5, 5, 5, 20), [[4, 4, 5, 20]], [("tiny", "noted")]),
    ((6.5, 5, 4.5, 20), [[3.5, 4, 6.5, 20]], [("inverted", "repaired")]),
    ((5.25, 5, 4.75, 20), [[4.25, 4, 4.75, 20]], [("tiny", "noted")]),
    ((10, 5, 9, 20), [], [("degenerate", "skipped")]),
    ((1e300, 1, -1e300, 20), [[0, 0, 60, 20]], [("inverted", "repaired"), ("clipped", "repaired")]),
]


@pytest.mark.parametrize(("box", "expected", "kinds"), BOXES)
def test_boxes(tmp_path: Path, box: Box, expected: list[list[float]], kinds: list[tuple[str, str]]) -> None:
    assert one_object(tmp_path, box) == (expected, kinds)


def test_a_box_without_width_is_dropped_where_corners_are_continuous(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "a.csv").write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,5,5,5,20\na.jpg,cat,5,5,9,20\n")
    opened = data.open(tmp_path)
    assert opened[0].boxes_xyxy.tolist() == [[5, 5, 9, 20]]
    assert [(p.kind, p.line) for p in opened.problems] == [("degenerate", 2)]


def test_duplicates_are_dropped_within_an_image_and_class(tmp_path: Path) -> None:
    box: Box = (1, 1, 10, 10)
    make_voc_image(tmp_path, "a", *(voc_object(name, box) for name in ("cat", "dog", "cat", "cat")))
    make_voc_image(tmp_path, "b", voc_object("cat", box))
    opened = data.open(tmp_path)
    assert [sample.class_ids.tolist() for sample in opened] == [[0, 1], [0]]
    assert [(p.kind, p.line) for p in opened.problems] == [("duplicate-box", 5), ("duplicate-box", 6)]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


HUGE = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    + bytes([255] * 4 + [0, 0, 0, 5, 8, 2, 0, 0, 0])
    + bytes(4)
    + b"\0\0\0\0IEND\xaeB`\x82"
)
"""A PNG whose header says 4,294,967,295 x 5."""
IMAGES = [
    (lambda path: path.unlink(), "missing-image", "there is no image"),
    (lambda path: path.write_bytes(b""), "unreadable-image", "empty"),
    (lambda path: path.write_bytes(b"hello"), "unreadable-image", "not an image"),
    (lambda path: path.write_bytes(path.read_bytes()[:30]), "unreadable-image", "damaged header|cut off"),
    (lambda path: path.write_bytes(HUGE), "unreadable-image", "no image is 4,294,967,295 x 5"),
    (truncated, "unreadable-image", "cut off"),
]


@pytest.mark.parametrize(("damage", "kind", "words"), IMAGES)
def test_bad_images_are_left_out_and_named(tmp_path: Path, damage, kind: str, words: str) -> None:  # type: ignore[no-untyped-def]
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 10)))
    make_voc_image(tmp_path, "b", voc_object("cat", (1, 1, 10, 10)))
    damage(tmp_path / "JPEGImages" / "b.jpg")
    opened = data.open(tmp_path)
    (problem,) = opened.problems
    assert [sample.image_id for sample in opened] == ["a"]
    assert (problem.kind, problem.action) == (kind, "skipped")
    assert "b.jpg" in str(problem)
    assert re.search(words, problem.message)


def test_many_images_are_checked_by_threads_in_order(tmp_path: Path) -> None:
    for index in range(150):
        size = (10 + index % 7, 20 + index)
        make_voc_image(tmp_path, f"{index:03d}", size_hw=size, declared_hw=size)
    opened = data.open(tmp_path, bad_data="error")
    assert [sample.image_size_hw for sample in opened] == [(10 + index % 7, 20 + index) for index in range(150)]


def test_pictures_of_every_pixel_format_open(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    gray = np.full((40, 60), 100, np.uint8)
    pictures = {
        "gray.jpg": gray,
        "gray16.png": gray.astype(np.uint16) * 257,
        "rgba.png": np.full((40, 60, 4), 100, np.uint8),
        "rgb.bmp": np.full((40, 60, 3), 100, np.uint8),
        "rgb.webp": np.full((40, 60, 3), 100, np.uint8),
        "rgb.tiff": np.full((40, 60, 3), 100, np.uint8),
    }
    for name, pixels in pictures.items():
        cv2.imwrite(str(folder / name), pixels)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]\n")
    opened = data.open(tmp_path, bad_data="error")
    assert {sample.image_path.name: sample.image_size_hw for sample in opened} == dict.fromkeys(pictures, (40, 60))


@pytest.mark.parametrize(
    ("declared_hw", "orientation", "box", "expected", "kind"),
    [
        ((40, 60), 1, (1, 1, 30, 20), [[0, 0, 30, 20]], None),
        (None, 1, (1, 1, 30, 20), [[0, 0, 30, 20]], "no-size"),
        ((0, 0), 1, (1, 1, 30, 20), [[0, 0, 30, 20]], "no-size"),
        ((60, 40), 1, (1, 1, 30, 20), [[0, 0, 30, 20]], "size-swapped"),
        ((80, 120), 1, (1, 1, 60, 40), [[0, 0, 30, 20]], "size-scaled"),
        ((20, 30), 1, (1, 1, 30, 20), [[0, 0, 60, 40]], "size-scaled"),
        ((60, 40), 6, (1, 1, 30, 20), [[0, 0, 30, 20]], None),
        ((40, 60), 6, (1, 1, 30, 20), [[20, 0, 40, 30]], "exif-turned"),
        ((40, 60), 8, (1, 1, 30, 20), [[0, 30, 20, 60]], "exif-turned"),
        ((40, 60), 3, (1, 1, 30, 20), [[0, 0, 30, 20]], None),
    ],
)
def test_declared_sizes(
    tmp_path: Path,
    declared_hw: tuple[int, int] | None,
    orientation: int,
    box: Box,
    expected: list[list[float]],
    kind: str | None,
) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", box), declared_hw=declared_hw, orientation=orientation)
    opened = data.open(tmp_path)
    assert opened[0].boxes_xyxy.tolist() == expected
    assert opened[0].image_size_hw == ((60, 40) if orientation >= 5 else (40, 60))
    assert [problem.kind for problem in opened.problems] == ([kind] if kind else [])


@pytest.mark.parametrize("declared_hw", [(100, 100), (60, 40)])
def test_labels_of_another_picture_are_left_out(tmp_path: Path, declared_hw: tuple[int, int]) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 10, 60)), declared_hw=declared_hw)
    make_voc_image(tmp_path, "b")
    opened = data.open(tmp_path)
    assert [sample.image_id for sample in opened] == ["b"]
    assert [(p.kind, p.line, p.action) for p in opened.problems] == [("size-mismatch", 2, "skipped")]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_boxes_follow_the_pixels(tmp_path: Path, orientation: int) -> None:
    """Paint a rectangle, let the image reader turn it, and find it again."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[8:24, 40:48] = 255
    path = make_image(tmp_path / "a.jpg", orientation=orientation, pixels=pixels)
    bright = read_image(path)[..., 0] > 128
    rows, columns = np.nonzero(bright)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    turned = turn_boxes(np.array([[40.0, 8.0, 48.0, 24.0]]), (48, 64), orientation)
    assert turned.tolist() == [found]


corner = st.floats(min_value=-200, max_value=200) | st.just(NAN) | st.just(INF)


@settings(max_examples=40)
@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=6))
def test_whatever_the_boxes_the_samples_are_sound(boxes: list[tuple[float, float, float, float]]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        make_voc_image(Path(folder), "a", *(voc_object("cat", box) for box in boxes))
        opened = data.open(folder)
    (sample,) = opened
    kept = sample.boxes_xyxy
    skipped = sum(problem.action == "skipped" for problem in opened.problems)
    assert len(kept) + skipped == len(boxes)
    assert np.isfinite(kept).all()
    assert (kept[:, :2] < kept[:, 2:]).all()
    assert (kept >= 0).all()
    assert (kept <= [60, 40, 60, 40]).all()
    assert len({tuple(box) for box in kept.tolist()}) == len(kept)
