"""The augmentation step by step on whole images, and the samplers as loops: slow, and easy to check."""

from __future__ import annotations

import math

import numpy as np

from singleshot.augment.colour import Distortion, distort
from singleshot.augment.config import CropConfig
from singleshot.augment.geometry import Geometry


def plain_pixels(image, geometry: Geometry, distortion: Distortion, fill_rgb) -> np.ndarray:
    """Colours, expand, crop and resize (bilinear, one step), mirror."""
    (left, top), (step_x, step_y) = geometry.origin_xy, geometry.step_xy
    height, width = geometry.out_hw
    margin = (
        math.ceil(max(0, -left, -top, left + width * step_x - image.shape[1], top + height * step_y - image.shape[0]))
        + 2
    )
    canvas = np.empty((image.shape[0] + 2 * margin, image.shape[1] + 2 * margin, 3))
    canvas[:] = fill_rgb
    canvas[margin:-margin, margin:-margin] = distort(image.copy(), distortion)
    x = margin + left + (np.arange(width) + 0.5) * step_x - 0.5
    y = margin + top + (np.arange(height) + 0.5) * step_y - 0.5
    resized = np.rint(bilinear(canvas, x, y)).astype(np.uint8)
    if geometry.mirror:
        resized = resized[:, ::-1]
    return resized[::-1] if geometry.flip else resized


def bilinear(canvas, x, y) -> np.ndarray:
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (x - x0)[None, :, None], (y - y0)[:, None, None]
    top = canvas[y0][:, x0] * (1 - across) + canvas[y0][:, x0 + 1] * across
    bottom = canvas[y0 + 1][:, x0] * (1 - across) + canvas[y0 + 1][:, x0 + 1] * across
    return top * (1 - down) + bottom * down


def plain_boxes(boxes, geometry: Geometry, offset=(1000, 2000)) -> tuple[list[list[float]], list[int]]:
    """Boxes through expand (image pasted at ``offset``), crop, resize and mirror, one box and one step at a time."""
    height, width = geometry.out_hw
    crop_x, crop_y = geometry.origin_xy[0] + offset[0], geometry.origin_xy[1] + offset[1]
    crop_w, crop_h = width * geometry.step_xy[0], height * geometry.step_xy[1]
    moved, keep = [], []
    for row, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, dtype=float).tolist()):
        x0, x1, y0, y1 = x0 + offset[0], x1 + offset[0], y0 + offset[1], y1 + offset[1]
        centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
        if not (crop_x <= centre_x <= crop_x + crop_w and crop_y <= centre_y <= crop_y + crop_h):
            continue
        x0, x1 = max(x0, crop_x) - crop_x, min(x1, crop_x + crop_w) - crop_x
        y0, y1 = max(y0, crop_y) - crop_y, min(y1, crop_y + crop_h) - crop_y
        x0, x1, y0, y1 = x0 * width / crop_w, x1 * width / crop_w, y0 * height / crop_h, y1 * height / crop_h
        if geometry.mirror:
            x0, x1 = width - x1, width - x0
        if geometry.flip:
            y0, y1 = height - y1, height - y0
        moved.append([x0, y0, x1, y1])
        keep.append(row)
    return moved, keep


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def caffe_patch(config: CropConfig, size_wh, boxes, rng) -> tuple[float, ...] | None:
    """Caffe's sampler by the words of the paper's code; ``None`` is the whole image."""
    found = [None] if config.whole_image else []
    for min_iou in [*config.min_ious, *([0.0] if config.unconstrained else [])]:
        for _ in range(config.trials):
            scale, ratio = rng.uniform(*config.scale), rng.uniform(*config.aspect)
            ratio = min(max(ratio, scale**2), 1 / scale**2)
            w, h = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            x, y = rng.random() * (1 - w), rng.random() * (1 - h)
            patch = (x * size_wh[0], y * size_wh[1], (x + w) * size_wh[0], (y + h) * size_wh[1])
            if max((iou(patch, box) for box in boxes), default=-1.0) >= min_iou:
                found.append(patch)
                break
    return found[rng.integers(len(found))] if found else None


def mxnet_patch(config: CropConfig, size_wh, boxes, rng) -> tuple[float, ...] | None:
    """MXNet's sampler as its configuration describes it; ``None`` is the whole image."""
    samplers = [*config.min_ious, *([0.0] if config.unconstrained else [])]
    if config.whole_image and rng.random() < 1 / (len(samplers) + 1):
        return None
    aspect = size_wh[0] / size_wh[1]
    for sampler in rng.permutation(len(samplers)):
        for _ in range(config.trials):
            scale = rng.uniform(*config.scale)
            lowest = max(config.aspect[0] / aspect, scale**2)
            highest = max(min(config.aspect[1] / aspect, 1 / scale**2), lowest)
            ratio = rng.uniform(lowest, highest)
            w, h = min(scale * math.sqrt(ratio), 1), min(scale / math.sqrt(ratio), 1)
            x, y = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
            patch = (x * size_wh[0], y * size_wh[1], (x + w) * size_wh[0], (y + h) * size_wh[1])
            if max((iou(patch, box) for box in boxes), default=1.0) < samplers[sampler]:
                continue
            if not boxes or any(holds_centre(patch, box) for box in boxes):
                return patch
    return None


def holds_centre(patch, box) -> bool:
    return patch[0] < (box[0] + box[2]) / 2 < patch[2] and patch[1] < (box[1] + box[3]) / 2 < patch[3]


def ssd_pytorch_patch(config: CropConfig, size_wh, boxes, rng) -> tuple[float, ...] | None:
    """ssd.pytorch's sampler with the acceptance rule put right."""
    modes = [None] * config.whole_image + [*config.min_ious, *([0.0] if config.unconstrained else [])]
    while True:
        mode = modes[rng.integers(len(modes))]
        if mode is None:
            return None
        for _ in range(config.trials):
            w, h = (rng.uniform(*config.scale) * side for side in size_wh)
            x, y = rng.uniform(0, size_wh[0] - w), rng.uniform(0, size_wh[1] - h)
            patch = (x, y, x + w, y + h)
            if not config.aspect[0] <= h / w <= config.aspect[1]:
                continue
            if max(iou(patch, box) for box in boxes) < mode:
                continue
            if any(x < (b[0] + b[2]) / 2 < x + w and y < (b[1] + b[3]) / 2 < y + h for b in boxes):
                return patch
