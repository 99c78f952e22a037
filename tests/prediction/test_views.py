"""Tiles and mirrored views, and what is made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import singleshot
from singleshot import Detections
from singleshot.core.postprocess import PaddedArrays, PaddedDetections
from singleshot.core.settings import PreprocessConfig
from singleshot.errors import ConfigError
from singleshot.models.config import ObjectSizes
from singleshot.prediction import pipeline
from singleshot.prediction.frames import Frame
from singleshot.prediction.pipeline import Predictor
from singleshot.prediction.view_settings import view_plan
from singleshot.prediction.views import View, ViewPlan, merge, suppress, tiles

sides = st.integers(1, 300)


@given(sides, sides, st.integers(20, 300), st.integers(20, 300), st.floats(0, 0.6))
@settings(deadline=None)
def test_tiles_cover_every_pixel(height: int, width: int, tile_h: int, tile_w: int, overlap: float) -> None:
    found = tiles((height, width), (tile_h, tile_w), overlap)
    covered = np.zeros((height, width), dtype=bool)
    for view in found:
        assert view.cut(np.zeros((height, width, 3), np.uint8)).shape == (min(tile_h, height), min(tile_w, width), 3)
        covered[view.y0 : view.y1, view.x0 : view.x1] = True
    assert covered.all()
    assert len(set(found)) == len(found)


def greedy(boxes: NDArray[np.float32], class_ids: NDArray[np.int64], plan: ViewPlan) -> list[int]:
    """Box by box, as textbooks have it."""
    kept: list[int] = []
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        for j in kept:
            u0, v0, u1, v1 = boxes[j]
            shared = max(0, min(x1, u1) - max(x0, u0)) * max(0, min(y1, v1) - max(y0, v0))
            a, b = (x1 - x0) * (y1 - y0), (u1 - u0) * (v1 - v0)
            over = a + b - shared if plan.merge == "nms" else min(a, b)
            if class_ids[i] == class_ids[j] and over > 0 and shared / over > plan.merge_at:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("kind", ["nms", "ios"])
@pytest.mark.parametrize("count", [0, 1, 2, 40, 700])
def test_suppression_is_the_greedy_one(kind: str, count: int) -> None:
    random = np.random.default_rng(count)
    corner = random.uniform(0, 80 if count < 100 else 300, (count, 2))
    boxes = np.concatenate((corner, corner + random.uniform(2, 30, (count, 2))), 1).astype(np.float32)
    class_ids = random.integers(0, 2, count)
    plan = ViewPlan(merge=kind, merge_at=0.4)  # type: ignore[arg-type]
    if not count:
        assert len(merge(Detections.empty(("a",)), plan)) == 0
        return
    keep, keeper = suppress(boxes, class_ids, plan)
    assert np.flatnonzero(keep).tolist() == greedy(boxes, class_ids, plan)
    assert keep[keeper].all()
    assert (class_ids[keeper] == class_ids).all()


def found(boxes: list[list[float]], scores: list[float], class_ids: list[int]) -> Detections:
    return Detections(np.array(boxes), np.array(scores), np.array(class_ids), ("a", "b"), (100, 100))


def test_an_object_that_a_seam_cuts_is_one_object() -> None:
    whole, part, other = [10, 10, 60, 40], [10, 10, 35, 40], [12, 10, 60, 40]
    all_of_them = found([part, whole, other], [0.9, 0.8, 0.7], [0, 0, 1])
    assert merge(all_of_them, ViewPlan(merge_at=0.6)).boxes_xyxy.tolist() == [part, whole, other]
    assert merge(all_of_them, ViewPlan(merge="ios")).boxes_xyxy.tolist() == [part, other]
    assert merge(all_of_them, ViewPlan(merge="union")).boxes_xyxy.tolist() == [whole, other]
    assert len(merge(all_of_them, ViewPlan(merge="ios", agnostic=True))) == 1
    assert merge(all_of_them, ViewPlan(merge="ios"), 1).scores.tolist() == pytest.approx([0.9])


class OneDot:
    """A backend that finds the reddest pixel of what it sees: a network whose results are known."""

    name, parallel = "dot", 1

    def __init__(self) -> None:
        self.seen: list[int] = []

    def predict(self, batch: NDArray[np.float32]) -> tuple[PaddedArrays, float, float]:
        self.seen.append(len(batch))
        _, _, _height, width = batch.shape
        flat = batch[:, 0].reshape(len(batch), -1)
        at = flat.argmax(1)
        y, x = at // width, at % width
        boxes = np.stack((x, y, x + 1, y + 1), 1).astype(np.float32)[:, None]
        counts = (flat.max(1) > 200).astype(np.int64)
        scores = np.full((len(batch), 1), 0.5, dtype=np.float32)
        return PaddedDetections(boxes, scores, np.zeros((len(batch), 1), dtype=np.int64), counts), 0.0, 0.0


def dot_predictor(plan: ViewPlan) -> tuple[Predictor, OneDot]:
    backend = OneDot()
    preprocess = PreprocessConfig(size_hw=(50, 50), mean=(0, 0, 0), scale=1.0)
    return Predictor(backend, preprocess, ("dot",), views=plan), backend  # type: ignore[arg-type]


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_come_back_to_where_they_are_in_the_picture(flip: bool) -> None:
    image = np.zeros((90, 130, 3), dtype=np.uint8)
    image[73, 101, 0] = 255
    predictor, _ = dot_predictor(ViewPlan((50, 50), whole=False, flip=flip))
    (result,) = predictor.stream([image])
    assert result.detections.boxes_xyxy.tolist() == [[101, 73, 102, 74]]  # type: ignore[union-attr]


@pytest.mark.parametrize("most_input", [2**28, 0])
def test_tiles_of_several_pictures_are_batched_and_kept_apart(most_input: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_MOST_INPUT", most_input)
    images = [np.zeros((60, 60 + 20 * number, 3), dtype=np.uint8) for number in range(3)]
    for number, image in enumerate(images):
        image[30, 40 + number, 0] = 255
    predictor, backend = dot_predictor(ViewPlan((50, 50), whole=False))
    results = list(predictor.stream([*images[:2], "no-such.jpg", images[2]], batch_size=4))
    corners = [own.detections.boxes_xyxy[0, :2] for own in results if hasattr(own, "detections")]
    np.testing.assert_allclose(corners, [(40, 30), (41, 30), (42, 30)], atol=1e-4)
    assert backend.seen == [4, 4, 4, 2]  # as many tiles at once as pictures
    many, backend = dot_predictor(ViewPlan((8, 8), whole=True))
    assert len(list(many.stream([images[0]], 1))) == 1
    assert set(backend.seen) == {1}
    assert sum(backend.seen) == len(many.views.views((60, 60)))


def test_other_classes_do_not_push_out_the_wanted_ones_of_tiles() -> None:
    predictor, _ = dot_predictor(ViewPlan((50, 50)))
    boxes = np.array([[[0, 0, 5, 5], [10, 10, 15, 15], [20, 20, 25, 25]]] * 2, np.float32)
    scores = np.array([[0.9, 0.8, 0.7]] * 2, np.float32)
    several = PaddedDetections(boxes, scores, np.array([[0, 0, 1]] * 2), np.array([3, 3]))
    frame = Frame(np.zeros((60, 50, 3), np.uint8))
    views = [View(0, 0, 50, 50), View(0, 10, 50, 60)]
    wanted = replace(predictor, class_names=("car", "person"), most=2, kept_ids=(1,))
    assert wanted.finish(several, 0, frame, views).detections.class_ids.tolist() == [1, 1]
    assert len(replace(wanted, kept_ids=None).finish(several, 0, frame, views).detections) == 2


def test_small_objects_are_found_in_tiles(reference) -> None:  # type: ignore[no-untyped-def]
    """A photo in which the bundled detector finds objects, shrunk and put into a large empty picture."""
    import cv2

    model = singleshot.load("coco")
    photo = next(iter(sorted((reference / "data" / "coco_train343").rglob("*.jpg"))))
    small = cv2.resize(singleshot.images.read.read_image(photo), (160, 120), interpolation=cv2.INTER_AREA)
    canvas = np.full((960, 1280, 3), 128, dtype=np.uint8)
    canvas[400:520, 600:760] = small
    alone, tiled = (model.predictor(0.4, views=plan).stream([canvas]) for plan in (ViewPlan(), ViewPlan((240, 320))))
    assert len(next(iter(tiled)).detections) >= len(next(iter(alone)).detections)


def test_thousands_of_tiles_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose larger ones by `tile`"):
        tiles((4000, 4000), (20, 20), 0.5)


def test_words_of_the_command_line() -> None:
    spec = singleshot.load().spec
    assert view_plan("640", 0.1, "ios", "flip, scales", True, spec, pytest.fail) == ViewPlan(
        (640, 640), 0.1, flip=True, scales=True, merge="ios", agnostic=True
    )
    assert view_plan(None, 0.2, "nms", None, False, spec, pytest.fail).is_plain
    with pytest.raises(ConfigError, match="`tile` must be"):
        view_plan("0", 0.2, "nms", None, False, spec, pytest.fail)
    with pytest.raises(ConfigError, match="augment_test='turn'"):
        view_plan(None, 0.2, "nms", "turn", False, spec, pytest.fail)
    told: list[str] = []
    view_plan(None, 0.2, "nms", "flip", False, spec, told.append)
    assert not told
    sided = spec.model_copy(update={"class_names": ("left", "right")})
    assert view_plan(None, 0.2, "nms", "flip", False, sided, told.append).flip
    assert told[0].startswith("`augment_test`: classes 'left', 'right' name a side")
    for wrong in ({"overlap": 1.0}, {"merge": "x"}, {"merge_at": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ViewPlan(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pixels", "shares", "tile_hw", "why"),
    [
        # Objects of 12 pixels are small; the median one took a twentieth of the side: tiles of 20 * 12 pixels would do
        # so, but the network's input is larger.
        ((12, 20, 40), (0.03, 0.05, 0.1), (300, 300), "the network's input, since objects of 12 pixels are small"),
        ((40, 60, 90), (0.04, 0.08, 0.1), (500, 500), "there objects of 40 pixels"),
        ((4000, 4001, 4002), (0.1, 0.2, 0.3), (4096, 4096), "there objects of 4000 pixels"),
        (None, None, (300, 300), "do not say how large"),
    ],
)
def test_automatic_tiles_show_small_objects_like_the_median_one(
    pixels: tuple[float, ...] | None, shares: tuple[float, ...] | None, tile_hw: tuple[int, int], why: str
) -> None:
    objects = None if pixels is None else ObjectSizes(pixels=pixels, shares=shares)  # type: ignore[arg-type]
    spec = singleshot.load().spec.model_copy(update={"objects": objects})
    told: list[str] = []
    assert view_plan("auto", 0.2, "nms", None, False, spec, told.append).tile_hw == tile_hw
    assert len(told) == 1
    assert why in told[0]
    assert f"tiles of {tile_hw[0]} x {tile_hw[1]} pixels" in told[0]


def test_flip_and_scales_multiply_the_views() -> None:
    assert ViewPlan().views((60, 90)) == [View(0, 0, 90, 60)]
    assert len(ViewPlan(flip=True).views((60, 90))) == 2
    assert len(ViewPlan(scales=True).views((60, 90))) == 5
    assert len(ViewPlan(flip=True, scales=True).views((60, 90))) == 10
    assert ViewPlan((100, 100)).views((60, 90)) == [View(0, 0, 90, 60)]
