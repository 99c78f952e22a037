"""Time of matching one image's objects with SSD300's 8,732 anchors, by number of objects.

python benchmarks/matching.py
"""

from __future__ import annotations

import time

import torch

from singleshot.core.memory import keep_freed_memory
from singleshot.models.catalogue import model_spec
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.matching import match_anchors

MAPS_HW = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
OBJECTS = (10, 100, 500, 1000, 2000)
REPEATS = 5


def scene(objects: int) -> torch.Tensor:
    """Objects of 4 to 16 pixels anywhere in an image, ``[1, M, 4]``."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(1, objects, 2, generator=generator) * 300
    size = 4 + torch.rand(1, objects, 2, generator=generator) * 12
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def seconds(objects: int) -> float:
    """Least CPU time of a few calls."""
    anchors = default_boxes(model_spec("ssd300_vgg16", ("object",)).anchors, MAPS_HW, (300, 300))
    boxes, valid = scene(objects), torch.ones(1, objects, dtype=torch.bool)
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        match_anchors(anchors, boxes, valid)
        times.append(time.process_time() - begin)
    return min(times)


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    for objects in OBJECTS:
        print(f"{objects:5d} objects  {1000 * seconds(objects):8.1f} ms")
