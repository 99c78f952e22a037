"""Rendered scenes: sound labels, equal for equal seeds, harder when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from singleshot import data
from singleshot.demo.scenes import CLASS_NAMES, make_scenes, render_scene
from singleshot.demo.things import paint_thing
from singleshot.errors import OutputError


def test_a_data_set_of_no_images(tmp_path: Path) -> None:
    assert len(data.open(make_scenes(tmp_path / "s", 0), "trainval", "voc")) == 0


def test_labels_are_read_back_as_rendered(tmp_path: Path) -> None:
    make_scenes(tmp_path / "s", 10, seed=3, size_hw=(120, 160))
    opened = data.open(tmp_path / "s", bad_data="error")
    assert opened.class_map.names == CLASS_NAMES
    assert opened.problems == ()
    for index, sample in enumerate(opened):
        scene = render_scene(np.random.default_rng([3, index]), (120, 160))
        np.testing.assert_array_equal(sample.boxes_xyxy, scene.boxes_xyxy)
        np.testing.assert_array_equal(sample.class_ids, scene.class_ids)
        np.testing.assert_array_equal(sample.difficult, scene.difficult)
    trainval, test = data.open(tmp_path / "s", "trainval"), data.open(tmp_path / "s", "test")
    assert [sample.image_id for sample in test] == ["scene_00004", "scene_00009"]
    assert len(trainval) == 8


def test_equal_seeds_give_equal_files_whatever_the_count(tmp_path: Path) -> None:
    make_scenes(tmp_path / "a", 3, seed=1, size_hw=(96, 128))
    make_scenes(tmp_path / "b", 5, seed=1, size_hw=(96, 128))
    make_scenes(tmp_path / "c", 3, seed=2, size_hw=(96, 128))

    def content(name: str) -> list[bytes]:
        return [path.read_bytes() for path in sorted((tmp_path / name).rglob("scene_0000[0-2].*"))]

    assert content("a") == content("b")
    assert content("a") != content("c")


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_boxes_lie_in_the_picture_and_some_pictures_are_empty(difficulty: float) -> None:
    scenes = [render_scene(np.random.default_rng([0, index]), (90, 120), difficulty) for index in range(60)]
    boxes = np.concatenate([scene.boxes_xyxy for scene in scenes])
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes >= 0).all()
    assert (boxes <= [120, 90, 120, 90]).all()
    assert set(np.concatenate([scene.class_ids for scene in scenes]).tolist()) == set(range(len(CLASS_NAMES)))
    assert 0 < sum(len(scene.class_ids) == 0 for scene in scenes) < 15
    assert max(len(scene.class_ids) for scene in scenes) > 3


def test_difficulty_overlaps_and_shrinks_things() -> None:
    def describe(difficulty: float) -> tuple[float, int]:
        scenes = [render_scene(np.random.default_rng([0, index]), (90, 120), difficulty) for index in range(60)]
        sides = np.concatenate([scene.boxes_xyxy[:, 3] - scene.boxes_xyxy[:, 1] for scene in scenes])
        return float(np.median(sides)), sum(int(scene.difficult.sum()) for scene in scenes)

    (easy, easy_hidden), (hard, hard_hidden) = describe(0.0), describe(1.0)
    assert hard < easy
    assert easy_hidden == 0
    assert hard_hidden > 0


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_things_are_painted_with_soft_edges(name: str) -> None:
    image, alpha = paint_thing(name, 40, np.random.default_rng(0))
    assert (image.shape, image.dtype, alpha.shape) == ((40, 40, 3), np.uint8, (40, 40))
    assert 0.15 < (alpha > 0.5).mean() < 0.85
    assert ((alpha > 0.1) & (alpha < 0.9)).any()
    assert 0 <= alpha.min() <= alpha.max() <= 1


def test_a_filled_folder_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(OutputError, match="not an empty folder"):
        make_scenes(tmp_path, 1)
