from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.core.settings import AnchorConfig, AnchorLevel
from singleshot.errors import ConfigError
from singleshot.models.zoo import box_shapes
from singleshot.multibox import shapes
from singleshot.multibox.anchors import default_boxes

R4, R6 = (1.0, 2.0, 1 / 2), (1.0, 2.0, 1 / 2, 3.0, 1 / 3)


def squares(*sides):
    return tuple((side, side) for side in sides)


SSD300_MAPS, SSD512_MAPS = squares(38, 19, 10, 5, 3, 1), squares(64, 32, 16, 8, 4, 2, 1)

COUNTS = [
    (shapes.ssd_anchors("voc300"), SSD300_MAPS, 300, 8732),
    (shapes.ssd_anchors("coco300"), SSD300_MAPS, 300, 8732),
    (shapes.ssd_anchors("voc512"), SSD512_MAPS, 512, 24564),
    (shapes.ssd_anchors("coco512"), SSD512_MAPS, 512, 24564),
    (box_shapes.torchvision_ssd300_anchors(), SSD300_MAPS, 300, 8732),
    (box_shapes.torchvision_ssdlite_anchors(), squares(20, 10, 5, 3, 2, 1), 320, 3234),
    (box_shapes.tf_anchors(), squares(19, 10, 5, 3, 2, 1), 300, 1917),
    (box_shapes.sgrvinod_anchors(), SSD300_MAPS, 300, 8732),
    (box_shapes.refinedet_anchors(320), squares(40, 20, 10, 5), 320, 6375),
    (box_shapes.refinedet_anchors(512), squares(64, 32, 16, 8), 512, 16320),
    (box_shapes.dssd_anchors(321), squares(40, 20, 10, 5, 3, 1), 321, 17080),
    (box_shapes.dssd_anchors(513), squares(64, 32, 16, 8, 4, 2, 1), 513, 43688),
    (box_shapes.mxnet_anchors(box_shapes.mxnet_sizes(0.2, 0.9, 6), (R4, R6, R6, R6, R4, R4)), SSD300_MAPS, 300, 8732),
]


@pytest.mark.parametrize(("config", "maps", "size", "count"), COUNTS)
def test_counts(config, maps, size, count):
    boxes = default_boxes(config, maps, (size, size))
    assert boxes.shape == (count, 4)
    assert boxes.dtype == torch.float32
    assert count == sum(h * w * k for (h, w), k in zip(maps, config.boxes_per_cell, strict=True))


def outside(boxes, size):
    corners = cxcywh_to_xyxy(boxes)
    return int(((corners < -1e-3) | (corners > size + 1e-3)).any(dim=1).sum())


@pytest.mark.parametrize(
    ("recipe", "maps", "leaving"),
    [("voc300", SSD300_MAPS, 2869), ("coco300", SSD300_MAPS, 2223), ("voc512", SSD512_MAPS, 5486)],
)
def test_boxes_leave_the_image_unless_clipped(recipe, maps, leaving):
    size = int(recipe[-3:])
    assert outside(default_boxes(shapes.ssd_anchors(recipe), maps, (size, size)), size) == leaving
    clipped = default_boxes(shapes.ssd_anchors(recipe, clip="corner"), maps, (size, size))
    assert outside(clipped, size) == 0


@pytest.mark.parametrize(
    ("clip", "recipe", "centres", "sizes"),
    [
        ("centre", "voc300", 114, 20),
        ("centre", "coco300", 114, 2),
        ("centre", "voc512", 0, 42),
        ("size", "voc300", 0, 20),
    ],
)
def test_what_clipping_changes(clip, recipe, centres, sizes):
    maps = SSD300_MAPS if recipe.endswith("300") else SSD512_MAPS
    size = int(recipe[-3:])
    free = default_boxes(shapes.ssd_anchors(recipe), maps, (size, size))
    changed = default_boxes(shapes.ssd_anchors(recipe, clip=clip), maps, (size, size)) != free
    assert int(changed[:, :2].any(dim=1).sum()) == centres
    assert int(changed[:, 2:].any(dim=1).sum()) == sizes


def test_first_and_last_boxes():
    boxes = default_boxes(shapes.ssd_anchors("voc300"), SSD300_MAPS, (300, 300))
    assert boxes[0].tolist() == [4.0, 4.0, 30.0, 30.0]
    assert boxes[4].tolist() == [12.0, 4.0, 30.0, 30.0]
    assert boxes[38 * 4].tolist() == [4.0, 12.0, 30.0, 30.0]
    assert boxes[-4].tolist() == [150.0, 150.0, 264.0, 264.0]


def test_steps_hold_only_at_the_size_they_were_written_for():
    config = shapes.ssd_anchors("voc300")
    wide = default_boxes(config, ((38, 60), (19, 30), (10, 15), (5, 8), (3, 6), (1, 4)), (300, 480))
    assert len(wide) == 13768
    assert wide[0].tolist() == pytest.approx([4.0, 150 / 38, 48.0, 30.0])
    at_any_size = config.model_copy(update={"reference_hw": None})
    assert default_boxes(at_any_size, SSD300_MAPS, (600, 600))[0].tolist() == pytest.approx([8.0, 8.0, 60.0, 60.0])


def test_map_aspect_keeps_boxes_square_on_the_map():
    config = AnchorConfig(levels=(box_shapes.mxnet_level((0.4,), (1.0,)),), aspect="map")
    boxes = default_boxes(config, ((2, 4),), (200, 400))
    assert boxes[0].tolist() == pytest.approx([50.0, 50.0, 80.0, 80.0])


def test_shape_major_layout_is_a_permutation():
    level = AnchorLevel(shapes_wh=((0.1, 0.2), (0.3, 0.4)))
    cell = default_boxes(AnchorConfig(levels=(level,)), ((2, 3),), (10, 10))
    shape = default_boxes(AnchorConfig(levels=(level,), layout="shape"), ((2, 3),), (10, 10))
    assert torch.equal(cell.view(6, 2, 4).transpose(0, 1).reshape(-1, 4), shape)


def test_offset_is_y_then_x():
    config = AnchorConfig(levels=(AnchorLevel(shapes_wh=((0.1, 0.1),)),), offset_yx=(0.0, 1.0))
    assert default_boxes(config, ((2, 2),), (10, 10))[0, :2].tolist() == [5.0, 0.0]


def test_wrong_number_of_maps():
    with pytest.raises(ConfigError, match=r"anchors\.levels describes 6 feature maps but the network has 2"):
        default_boxes(shapes.ssd_anchors("voc300"), SSD300_MAPS[:2], (300, 300))


RES10 = shapes.pixel_levels(
    shapes.PixelSizes((30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315)),
    shapes.SSD_RATIOS_300, (300, 300), shapes.SSD_STEPS_300,
)  # fmt: skip
LUFFICC = shapes.pixel_levels(
    shapes.PixelSizes((60, 105, 150, 195, 240, 285), (105, 150, 195, 240, 285, 330)),
    [(2.0, 3.0)] * 6, (320, 320), (16, 32, 64, 107, 160, 320),
)  # fmt: skip
LITE_MAPS = squares(20, 10, 5, 3, 2, 1)
REAL = [
    ("amdegroot_ssd300_c21_s3", shapes.ssd_anchors("voc300", clip="centre"), SSD300_MAPS, 36),
    ("lufficc_vgg_ssd300_s4", shapes.ssd_anchors("voc300", clip="centre"), SSD300_MAPS, 36),
    ("lufficc_mobilenet_v2_ssd320_s5", AnchorConfig(levels=LUFFICC, clip="centre"), LITE_MAPS, 13),
    (
        "nvidia_ssd300_resnet50_s7",
        shapes.ssd_anchors("coco300", clip="centre").model_copy(update={"layout": "shape"}),
        SSD300_MAPS,
        36,
    ),
    ("refinedet320_c21_s6", box_shapes.refinedet_anchors(320, clip="centre"), squares(40, 20, 10, 5), 26),
]


@pytest.mark.parametrize(("name", "config", "maps", "step"), REAL, ids=[row[0] for row in REAL])
def test_boxes_of_real_systems(name, config, maps, step, reference: Path):
    theirs = np.load(reference / "golden" / "weights" / f"{name}.npz")["priors_rows"]
    ours = default_boxes(config, maps, (1, 1) if config.reference_hw is None else config.reference_hw)[::step]
    scale = 1 if config.reference_hw is None else config.reference_hw[0]
    np.testing.assert_allclose(ours.numpy() / scale, theirs, atol=2e-7)


@pytest.mark.parametrize(
    ("name", "config", "maps", "size", "step"),
    [
        ("torchvision_ssd300_vgg16_c21_s2", box_shapes.torchvision_ssd300_anchors(), SSD300_MAPS, 300, 36),
        ("torchvision_ssdlite320_c21_s2", box_shapes.torchvision_ssdlite_anchors(), LITE_MAPS, 320, 13),
    ],
)
def test_boxes_of_torchvision(name, config, maps, size, step, reference: Path):
    theirs = np.load(reference / "golden" / "weights" / f"{name}.npz")["anchors_rows"]
    ours = cxcywh_to_xyxy(default_boxes(config, maps, (size, size)))[::step]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=5e-5)


def test_boxes_of_tensorflow(reference: Path):
    theirs = np.load(reference / "golden" / "weights" / "tfjs_ssdlite_mobilenet_v2_coco.npz")["anchors"]
    ours = cxcywh_to_xyxy(default_boxes(box_shapes.tf_anchors(), squares(19, 10, 5, 3, 2, 1), (1, 1)))
    np.testing.assert_allclose(ours.numpy(), theirs[:, [1, 0, 3, 2]], atol=2e-7)


def test_boxes_of_caffe(reference: Path):
    theirs = np.load(reference / "golden" / "weights" / "caffe_res10_face.npz")["priors"]
    ours = cxcywh_to_xyxy(default_boxes(AnchorConfig(levels=RES10), squares(38, 19, 10, 5, 5, 5), (1, 1)))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=5e-7)
