"""Steps of a user's own: called with or without randomness, and what they give back checked."""

from __future__ import annotations

import numpy as np
import pytest

from singleshot.core.transforms import AUGMENTATIONS, Labelled, TransformError, apply, step, steps_by_name
from singleshot.errors import ConfigError

IMAGE = np.zeros((4, 6, 3), np.uint8)
NOTHING = Labelled(IMAGE, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
ONE = Labelled(IMAGE, np.array([[0, 0, 2, 3]], np.float32), np.array([1]))


def run(transform, labelled=ONE, **options):
    return apply(step(transform), labelled, np.random.default_rng(0), 2, "a.jpg", **options)


def test_no_objects_stay_none():
    result = run(lambda image, boxes, ids: (image, [], []), NOTHING)
    assert (result.boxes_xyxy.shape, result.class_ids.shape) == ((0, 4), (0,))
    assert (result.boxes_xyxy.dtype, result.class_ids.dtype) == (np.float32, np.int64)


def test_a_step_may_change_everything():
    def widened(image, boxes_xyxy, class_ids):
        return np.repeat(image, 2, axis=1) + 7, boxes_xyxy * [2, 1, 2, 1], 1 - class_ids

    result = run(widened)
    assert (result.image.shape, int(result.image.max())) == ((4, 12, 3), 7)
    assert (result.boxes_xyxy.tolist(), result.class_ids.tolist()) == ([[0, 0, 4, 3]], [0])


def test_a_fourth_argument_is_randomness():
    def noisy(image, boxes_xyxy, class_ids, rng):
        return rng.integers(0, 256, image.shape, np.uint8), boxes_xyxy, class_ids

    class Noisy:
        def __call__(self, image, boxes_xyxy, class_ids, rng):
            return noisy(image, boxes_xyxy, class_ids, rng)

    np.testing.assert_array_equal(run(noisy).image, np.random.default_rng(0).integers(0, 256, IMAGE.shape, np.uint8))
    np.testing.assert_array_equal(run(noisy).image, run(Noisy()).image)
    assert not step(lambda image, boxes, ids, strength=2: 0).takes_rng
    assert step(Noisy()).name.endswith("Noisy")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "it gave back NoneType"),
        ((IMAGE, []), "it gave back tuple of 2"),
        (("no", [], []), r"the image must be an array \[H, W, 3\], not str"),
        ((IMAGE[..., 0], [], []), r"not \(4, 6\)"),
        ((IMAGE / 255, [], []), "the image must stay uint8, not float64"),
        ((IMAGE, [[0, 0, 1, 1]], []), r"not \(1, 4\) and \(0,\)"),
        ((IMAGE, [[0, 0, 1]], [1]), r"boxes must be \[N, 4\]"),
        ((IMAGE, [["a"] * 4], [1]), "arrays of numbers"),
        ((IMAGE, [[0, 0, 1, 1]], [2]), r"whole numbers from 0 to 1, not \[2\]"),
        ((IMAGE, [[0, 0, 1, 1]], [0.5]), "whole numbers"),
        ((IMAGE, [[0, 0, 1, float("nan")]], [0]), "finite"),
        ((IMAGE, [[0, 0, 1, 1], [3, 0, 3, 1]], [0, 0]), r"x0 < x1 and y0 < y1, not \[3\.0, 0\.0, 3\.0, 1\.0\]"),
    ],
)
def test_what_is_no_labelled_image_is_refused(result, words):
    def broken(image, boxes_xyxy, class_ids):
        return result

    with pytest.raises(TransformError, match=words) as caught:
        run(broken)
    assert "broken'" in str(caught.value)
    assert "a.jpg" in str(caught.value)


def test_where_the_size_is_the_networks_it_must_stay():
    with pytest.raises(TransformError, match=r"must stay \(4, 6, 3\), not \(2, 6, 3\)"):
        run(lambda image, boxes, ids: (image[:2], boxes, ids), keeps_size=True)


def test_an_error_inside_a_step_names_the_step_the_image_and_the_line():
    def failing(image, boxes_xyxy, class_ids):
        return class_ids[5]

    with pytest.raises(TransformError, match=r"failing' failed on a\.jpg: IndexError: .*test_transforms\.py:\d+"):
        run(failing)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ConfigError, match="`transform` must be a function"):
        step(3)


def test_steps_by_name():
    assert steps_by_name(()) == ()
    with pytest.raises(ConfigError, match=r"augment\.transforms: 'mine' is not registered.*`transform`"):
        steps_by_name(("mine",))
    AUGMENTATIONS.replace("mine", print)
    AUGMENTATIONS.replace("mine", len)
    try:
        assert [(one.name, one.call) for one in steps_by_name(("mine",))] == [("mine", len)]
    finally:
        AUGMENTATIONS._objects.pop("mine")
        AUGMENTATIONS._added.remove("mine")
