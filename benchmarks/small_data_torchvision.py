"""torchvision's ``ssdlite320_mobilenet_v3_large`` on the sets of ``small_data.py``, whose recipe ``torchvision`` it is.

Needs torchvision in the same environment. Ours are only the labels, the clock, the measuring and the starting weights.
The recipe is that of torchvision's ``references/detection`` (README, preset ``ssdlite``): IoU crop and mirror, SGD with
momentum .9 and weight decay 4e-5, .15 for 192 images scaled linearly to the batch, a warm-up of one epoch (at most
1,000 steps), then a cosine to zero at the end of the time. Everything learns, nothing is measured meanwhile, and the
last weights count. It starts from the weights of our ``coco-v3`` under torchvision's names, with the padding that they
were trained with; class rows are new.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from small_data import Run

from singleshot.core.structures import Sample
from singleshot.data import open as open_data
from singleshot.data.train_val import open_training
from singleshot.evaluation.collect import objects_of
from singleshot.evaluation.metrics import DetectionTable, evaluate_detections
from singleshot.images.read import read_image
from singleshot.interop.pytorch.torchvision import BOXES, LOGITS, translate
from singleshot.weights.bundled import bundled_path
from singleshot.weights.file import read_state

SETTINGS = {"batch_size": 8, "lr": 0.15 / 192, "momentum": 0.9, "weight_decay": 4e-5, "warmup_steps": 1000}
"""What a recipe may change; ``lr`` is that of one image."""

# TensorFlow's boxes of a cell are 1, 2, 1/2, 3, 1/3 and the square between two scales, and three in the first map;
# torchvision's 1, the square between, 2, 1/2, 3, 1/3 in each: the first map takes its nearest.
BOX_ORDER = (0, 5, 1, 2, 3, 4)
FIRST_BOX_ORDER = (0, 0, 1, 2, 1, 2)
# Codes are y, x, h, w there and x, y, w, h here.
CODE_ORDER = [1, 0, 3, 2]


def build_model(classes: int) -> Any:
    """torchvision's detector with the numbers of ``coco-v3``: all but the last layer of the class head."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
    own = model.state_dict()
    rename = translate({name: tuple(value.shape) for name, value in own.items()}, "torchvision").rename
    theirs = {rename(name): value for name, value in read_state(bundled_path("coco-v3")).items()}
    taken = {name: _box_rows(name, value) for name, value in theirs.items() if not _is_class_row(name)}
    for name, value in taken.items():
        own[name].copy_(value)
    missing = [name for name in own if name not in taken and not name.endswith("num_batches_tracked")]
    assert all(_is_class_row(name) for name in missing), missing
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(_pad_same)
    return model


def _is_class_row(name: str) -> bool:
    return name.startswith(LOGITS) and ".1." in name.removeprefix(LOGITS)


def _box_rows(name: str, value: Tensor) -> Tensor:
    """The last layer of the box head in torchvision's order; anything else as it is."""
    level, _, rest = name.removeprefix(BOXES).partition(".")
    if not name.startswith(BOXES) or not rest.startswith("1."):
        return value
    order = BOX_ORDER if int(level) else FIRST_BOX_ORDER
    return value.unflatten(0, (-1, 4))[list(order)][:, CODE_ORDER].flatten(0, 1)


def _pad_same(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """TensorFlow's SAME padding, of which the larger half is at the right and below."""
    (images,), kernel = inputs, module.kernel_size[0]
    down, across = (max((-(-side // 2) - 1) * 2 + kernel - side, 0) for side in images.shape[-2:])
    return F.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))


def train_torchvision(run: Run) -> dict[str, Any]:
    """Train and measure, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    settings = SETTINGS | run.settings
    samples, class_names = _training_samples(run)
    model = build_model(len(class_names))
    steps, seconds = _learn(model, samples, settings, run)
    test = open_data(run.data, split="test")
    assert test.class_map.names == class_names
    numbers = measure(model, test.samples, len(class_names))
    measured = {f"{which}_{name}": numbers[name] for which in ("best", "last") for name in ("AP", "AP75", "AP50")}
    return {**measured, "steps": steps, "seconds": seconds}


def _training_samples(run: Run) -> tuple[Sequence[Sample], tuple[str, ...]]:
    """Those that ours learns: what it holds out, because a set has no such split, is not learnt here either."""
    train_set, _ = open_training(run.data, "train")
    return train_set.samples[: run.first or None], train_set.class_map.names


def _learn(model: Any, samples: Sequence[Sample], settings: Mapping[str, Any], run: Run) -> tuple[int, float]:
    """Train for the run's processor time; steps and seconds."""
    batch = int(settings["batch_size"])
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings["lr"] * batch,
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
    )
    peak, warmup = settings["lr"] * batch, min(settings["warmup_steps"], max(len(samples) // batch, 1))
    model.train()
    began, steps, position = time.process_time(), 0, 0.0
    batches = _batches(samples, batch, run.seed)
    while position < 1:
        warmth = min(1.0, 0.001 + 0.999 * steps / warmup)
        for group in optimizer.param_groups:
            group["lr"] = peak * warmth * 0.5 * (1 + math.cos(math.pi * position))
        images, targets = next(batches)
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        position = (time.process_time() - began) / (60 * run.minutes)
    return steps, time.process_time() - began


def _batches(samples: Sequence[Sample], size: int, seed: int) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
    """Batches without end, each epoch in another order, changed as torchvision's preset ``ssdlite`` does."""
    from torchvision.transforms import v2

    change = v2.Compose(
        [
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(0.5),
            v2.ToDtype(torch.float, scale=True),
            v2.SanitizeBoundingBoxes(),
            v2.ToPureTensor(),
        ]
    )
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(samples))
        for begin in range(0, len(order) - size + 1, size):
            pairs = [change(*_labelled(samples[index])) for index in order[begin : begin + size]]
            yield [image for image, _ in pairs], [target for _, target in pairs]


def _labelled(sample: Sample) -> tuple[Any, dict[str, Any]]:
    from torchvision import tv_tensors

    image = torch.from_numpy(read_image(sample.image_path)).permute(2, 0, 1)
    learns = ~sample.iscrowd
    boxes = tv_tensors.BoundingBoxes(
        torch.from_numpy(sample.boxes_xyxy[learns]).reshape(-1, 4), format="XYXY", canvas_size=sample.image_size_hw
    )
    return tv_tensors.Image(image), {"boxes": boxes, "labels": torch.from_numpy(sample.class_ids[learns] + 1)}


@torch.no_grad()
def measure(model: Any, samples: Sequence[Sample], classes: int) -> Mapping[str, float]:
    """COCO's numbers of what torchvision's own post-processing finds."""
    model.eval()
    tables = []
    for index, sample in enumerate(samples):
        image = torch.from_numpy(read_image(sample.image_path)).permute(2, 0, 1).float() / 255
        (found,) = model([image])
        count = len(found["scores"])
        columns = (found["labels"].numpy() - 1, found["boxes"].numpy(), found["scores"].numpy())
        tables.append(DetectionTable(np.full(count, index), *columns))
    numbers = evaluate_detections(objects_of(samples, False), DetectionTable.concatenate(tables), classes, coco=True)
    return dict(numbers.coco.summary)
