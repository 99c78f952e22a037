"""Training on tiles: which tile teaches which object, and a run that is measured and resumed on them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import singleshot
from singleshot.augment.pipeline import Augmenter
from singleshot.core.structures import Sample
from singleshot.errors import ConfigError, DataError
from singleshot.prediction.view_settings import view_plan
from singleshot.prediction.views import View, ViewPlan
from singleshot.training.checks import object_sizes
from singleshot.training.config import TrainConfig
from singleshot.training.data_config import TilingConfig
from singleshot.training.loader import TrainLoader
from singleshot.training.loader_config import LoaderConfig
from singleshot.training.sampler import EpochOrder, thin_out
from singleshot.training.tiling import Tiled, cut_into_tiles, view_plan_of

TILES = TilingConfig(tile=(100, 100), overlap=0.2)


def picture(*boxes: tuple[float, ...], size_hw: tuple[int, int] = (100, 180), **flags: Any) -> Sample:
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(Path("a.png"), size_hw, array, np.arange(len(array), dtype=np.int64), **flags)


def shown(tiled: Tiled) -> dict[Any, dict[int, list[float]]]:
    """The boxes of each part, by class."""
    return {
        sample.part_xyxy: dict(zip(sample.class_ids.tolist(), sample.boxes_xyxy.tolist(), strict=True))
        for sample in tiled.samples
    }


LEFT, RIGHT = (0, 0, 100, 100), (80, 0, 180, 100)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        # One tile has it, the other is background.
        ([(5, 5, 25, 25)], {None: {0: [5, 5, 25, 25]}, LEFT: {0: [5, 5, 25, 25]}, RIGHT: {}}),
        # Where tiles overlap both have it, each in its own pixels.
        (
            [(82, 10, 98, 30)],
            {None: {0: [82, 10, 98, 30]}, LEFT: {0: [82, 10, 98, 30]}, RIGHT: {0: [2, 10, 18, 30]}},
        ),
        # Half of it lies in the right tile, and is learnt there; nothing in the left one is cut.
        ([(60, 0, 100, 40)], {None: {0: [60, 0, 100, 40]}, LEFT: {0: [60, 0, 100, 40]}, RIGHT: {0: [0, 0, 20, 40]}}),
        # A piece of it makes the right tile no background: that is left out.
        ([(50, 0, 90, 40)], {None: {0: [50, 0, 90, 40]}, LEFT: {0: [50, 0, 90, 40]}}),
        # A tiny one is left to the tiles, and the picture is left out, which would call it background.
        ([(10, 10, 13, 13)], {LEFT: {0: [10, 10, 13, 13]}, RIGHT: {}}),
        ([(10, 10, 13, 13), (110, 0, 180, 100)],
         {None: {1: [110, 0, 180, 100]}, LEFT: {0: [10, 10, 13, 13]}, RIGHT: {1: [30, 0, 100, 100]}}),
    ],
)  # fmt: skip
def test_what_a_tile_teaches(boxes: list[tuple[float, ...]], expected: dict[Any, Any]) -> None:
    tiled = cut_into_tiles([picture(*boxes)], TILES)
    assert shown(tiled) == expected
    assert tiled.left_out == 3 - len(expected)
    assert not tiled.lost


def test_what_shows_a_crowd_alone_teaches_nothing() -> None:
    crowd = picture((10, 10, 60, 60), (120, 20, 150, 50), iscrowd=np.array([True, False]))
    assert [sample.part_xyxy for sample in cut_into_tiles([crowd], TILES).samples] == [None, RIGHT]


def test_pictures_without_objects_are_background_as_a_whole_and_in_tiles() -> None:
    tiled = cut_into_tiles([picture(), picture((5, 5, 25, 25))], TILES)
    assert [len(sample) for sample in tiled.samples] == [0, 0, 0, 1, 1, 0]
    assert tiled.per_epoch == 3
    assert "an epoch shows 2 with objects and 1 of 4 without" in "\n".join(tiled.lines())


def test_no_object_anywhere_is_an_error() -> None:
    with pytest.raises(DataError, match="no tile of 100 x 100 pixels holds an object"):
        cut_into_tiles([picture()], TILES)


def test_a_picture_within_a_tile_is_not_cut() -> None:
    small = picture((1, 1, 2, 2), size_hw=(80, 100))
    tiled = cut_into_tiles([small], TILES)
    assert shown(tiled) == {None: {0: [1, 1, 2, 2]}}
    assert "none is cut" in "\n".join(tiled.lines())


def test_flags_and_areas_go_along() -> None:
    flags = {"difficult": np.array([1, 0], bool), "iscrowd": np.array([0, 1], bool)}
    sample = picture((60, 0, 100, 40), (120, 0, 140, 20), **flags, areas=np.array([9, 8], np.float32))
    whole, _, right = cut_into_tiles([sample], TILES).samples
    assert whole.areas.tolist() == [9, 8]
    assert right.areas.tolist() == [800, 400]
    assert right.difficult.tolist() == [True, False]
    assert right.iscrowd.tolist() == [False, True]
    assert right.image_size_hw == (100, 100)


@given(st.integers(0, 2**32 - 1), st.integers(60, 300), st.integers(60, 300), st.floats(0, 0.6), st.floats(0.1, 1))
@settings(deadline=None, max_examples=50)
def test_every_object_no_larger_than_the_overlap_is_learnt_whole(
    seed: int, height: int, width: int, overlap: float, inside: float
) -> None:
    random = np.random.default_rng(seed)
    side = int(overlap * 50)  # tiles start at whole pixels
    low = random.uniform(0, 1, (20, 2)) * (width - max(side, 2), height - max(side, 2))
    boxes = np.concatenate((low, low + random.uniform(1, max(side, 2), (20, 2))), 1).round(2)
    config = TilingConfig(tile=(50, 50), overlap=overlap, inside=inside)
    tiled = cut_into_tiles([picture(*boxes, size_hw=(height, width))], config)
    whole = set()
    for sample in tiled.samples:
        assert (sample.boxes_xyxy >= 0).all()
        assert (sample.boxes_xyxy[:, 2:] <= sample.image_size_hw[::-1]).all()
        sides = sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]
        given_sides = boxes[sample.class_ids, 2:] - boxes[sample.class_ids, :2]
        assert (sides.prod(1) >= inside * given_sides.prod(1) * 0.999).all()
        whole.update(sample.class_ids[np.isclose(sides, given_sides, atol=1e-3).all(1)].tolist())
    if side > 2:
        assert whole == set(range(20))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    path = tmp_path_factory.mktemp("tiles") / "noise.png"
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (100, 180, 3), np.uint8))
    return Sample(path, (100, 180), np.array([[90, 20, 120, 60]], np.float32), np.zeros(1, np.int64))


def test_the_network_sees_the_tile_and_its_boxes(noise: Sample) -> None:
    tiled = cut_into_tiles([noise], TILES)
    loader = TrainLoader(tiled.samples, Augmenter("none", (100, 100)), LoaderConfig(batch_size=2, workers=0, empty=0.5))
    assert loader.images_per_epoch == 2  # the picture and its right tile: the left one shows a third of the object
    pixels = cv2.cvtColor(cv2.imread(str(noise.image_path)), cv2.COLOR_BGR2RGB)
    batch = loader.preview(2)
    row = batch.indices.tolist().index([sample.part_xyxy for sample in tiled.samples].index(RIGHT))
    assert np.array_equal(batch.images[row].permute(1, 2, 0).numpy(), pixels[:, 80:])
    assert batch.boxes_xyxy[row, 0].tolist() == [10, 20, 40, 60]


def test_an_image_that_shrank_is_replaced(noise: Sample, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    assert cv2.imwrite(str(small), np.zeros((50, 50, 3), np.uint8))
    gone = Sample(small, (100, 180), noise.boxes_xyxy, noise.class_ids)
    tiled = cut_into_tiles([gone, noise], TILES)
    loader = TrainLoader(tiled.samples, Augmenter("none", (100, 100)), LoaderConfig(batch_size=4, workers=0))
    next(loader.stream())
    assert any("small.png: 50 x 50 pixels, fewer than in the data set" in reason for reason in loader.skipped.values())


@pytest.mark.parametrize("weights", [[1, 1, 1, *[0.25] * 6], [1.4, 0.2, 0.1], [0.3, 0.1], [0, 0]])
def test_all_epochs_are_of_one_length_whatever_the_weights_sum_to(weights: list[float]) -> None:
    order = EpochOrder(np.arange(len(weights)), np.array(weights), 0)
    assert len(order) == max(1, round(sum(weights)))
    assert all(len(order.epoch(epoch)) == len(order) for epoch in range(100))


@pytest.mark.parametrize("have", [1, 3, 5, 7])
def test_every_epoch_shows_all_tiles_with_objects(have: int) -> None:
    empty = np.arange(20) >= have
    weights = thin_out(np.ones(20), empty, 0.5)
    order = EpochOrder(np.arange(20), weights, 0)
    assert len(order) == have + round(0.5 * have)
    assert all(set(range(have)) <= set(order.epoch(epoch).tolist()) for epoch in range(50))


def test_epochs_draw_backgrounds_anew() -> None:
    samples = [picture((1, 1, 9, 9), size_hw=(10, 10)), *[picture(size_hw=(10, 10))] * 9]
    loader = TrainLoader(samples, Augmenter("none", (10, 10)), LoaderConfig(batch_size=3, workers=0, empty=2.0))
    assert loader.images_per_epoch == 3
    epochs = [loader._order.epoch(epoch).tolist() for epoch in range(60)]
    assert all(len(epoch) == 3 and epoch.count(0) == 1 for epoch in epochs)
    assert {index for epoch in epochs for index in epoch} == set(range(10))
    positions = loader._order.positions(7)
    assert [index for _, index in islice(positions, 2)] == [*epochs[2][1:]]


def test_sizes_of_objects_are_those_of_pictures_and_of_tiles() -> None:
    assert object_sizes([]) is None
    assert object_sizes([picture()]) is None
    alone = picture((0, 0, 20, 20), size_hw=(100, 400))
    sizes = object_sizes([alone, picture((0, 0, 5, 5), iscrowd=np.ones(1, bool))])
    assert sizes is not None
    assert sizes.pixels == pytest.approx((20, 20, 20))
    assert sizes.shares == pytest.approx((0.1, 0.1, 0.1))
    tiled = object_sizes(cut_into_tiles([alone], TILES).samples)
    assert tiled is not None
    assert tiled.pixels == pytest.approx((20, 20, 20))
    assert tiled.shares == pytest.approx((0.2, 0.2, 0.2))


def test_settings() -> None:
    config = TrainConfig().updated({"tiling.tile": "640", "tiling.overlap": 0.3, "evaluation.agnostic": True})
    assert config.tiling == TilingConfig(tile=(640, 640), overlap=0.3)
    spec = singleshot.load().spec
    plan = view_plan_of(config, spec)
    assert plan == ViewPlan((640, 640), 0.3, agnostic=True)
    config = config.updated({"evaluation.agnostic": False})
    assert not view_plan_of(config, spec).agnostic
    own = spec.model_copy(update={"postprocess": spec.postprocess.model_copy(update={"class_agnostic": True})})
    assert view_plan_of(config, own).agnostic
    assert view_plan(640, 0.2, "nms", None, False, own, pytest.fail).agnostic
    assert plan.views((600, 600)) == [View(0, 0, 600, 600)]
    with pytest.raises(ConfigError, match="give their size, such as `tile=640`"):
        TrainConfig().updated({"tiling.overlap": 0.3})
    with pytest.raises(ConfigError, match=r"tiling.tile.*not 'auto'"):
        TrainConfig().updated({"tiling.tile": "auto"})
