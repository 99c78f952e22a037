"""The whole training step against a second one written plainly, image by image and box by box, from the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_fakes import FileStore
from torch import Tensor, nn

from singleshot.core.settings import AnchorConfig, AnchorLevel, CoderConfig, LossConfig, MatchConfig, PreprocessConfig
from singleshot.core.structures import Batch, HeadOutput
from singleshot.images.normalise import ImageNormalizer
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.loss import multibox_loss
from singleshot.training.checkpoint import Learner
from singleshot.training.guards import LossGuard
from singleshot.training.logs import EvaluationRecord, StepRecord
from singleshot.training.loop import Trainer
from singleshot.training.optimizer import build_optimizer
from singleshot.training.optimizer_config import OptimizerConfig, ScheduleConfig
from singleshot.training.parts import Intervals
from singleshot.training.schedule import RunLength

SIZE = 64
CLASSES = 3
STEPS = 50
# Whole pixels everywhere, so that overlaps are quotients of whole numbers and ties are ties in any arithmetic.
SIDES = ((12, 12), (18, 18), (20, 10), (10, 20)), ((32, 32), (44, 44), (44, 22), (22, 44))
SHAPES = [tuple((w / SIZE, h / SIZE) for w, h in level) for level in SIDES]
ANCHORS = default_boxes(
    AnchorConfig(levels=tuple(AnchorLevel(shapes_wh=shapes) for shapes in SHAPES)), ((8, 8), (4, 4)), (SIZE, SIZE)
)


class TwoLevels(nn.Module):
    """A small detector with maps of 8x8 and 4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.deeper = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())
        self.boxes = nn.ModuleList(nn.Conv2d(16, 16, 3, 1, 1) for _ in range(2))
        self.logits = nn.ModuleList(nn.Conv2d(16, 4 * (CLASSES + 1), 3, 1, 1) for _ in range(2))

    def forward(self, images: Tensor) -> HeadOutput:
        fine = self.body(images)
        maps = [fine, self.deeper(fine)]
        codes = [head(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4) for head, x in zip(self.boxes, maps, strict=True)]
        kinds = [
            head(x).permute(0, 2, 3, 1).reshape(len(x), -1, CLASSES + 1)
            for head, x in zip(self.logits, maps, strict=True)
        ]
        return HeadOutput(torch.cat(codes, 1), torch.cat(kinds, 1))


class Scenes:
    """Batches of 4 images with 0 to 3 objects; ``degenerate`` adds boxes that no one should draw."""

    images_per_epoch = 40
    batch_size = 4

    def __init__(self, degenerate: bool = False) -> None:
        self.degenerate = degenerate

    def stream(self, first_batch: int) -> Iterator[Batch]:
        number = first_batch
        while True:
            generator = torch.Generator().manual_seed(number)
            corner = torch.randint(0, 40, (4, 3, 2), generator=generator)
            boxes = torch.cat([corner, corner + torch.randint(4, 34, (4, 3, 2), generator=generator)], dim=2).float()
            if self.degenerate:
                boxes[0, 0] = torch.tensor([10.0, 10.0, 10.0, 10.0])
                boxes[1, 0] = torch.tensor([-500.0, -500.0, 9000.0, 9000.0])
                boxes[2, 0] = torch.tensor([70.0, 70.0, 80.0, 80.0])
                boxes[3, 0] = torch.tensor([20.0, 30.0, 20.0 + 1e-6, 60.0])
            valid = torch.rand((4, 3), generator=generator) < 0.7
            valid[number % 4] &= number % 3 > 0
            ids = torch.randint(0, CLASSES, (4, 3), generator=generator)
            images = torch.randint(0, 256, (4, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
            yield Batch(images, boxes, torch.where(valid, ids, -1), valid, torch.arange(4))
            number += 1


class Curve(list[float]):
    def on_step(self, record: StepRecord) -> None:
        self.append(record.losses["total"])

    def on_evaluation(self, record: EvaluationRecord) -> None:
        pass

    def close(self) -> None:
        pass


PREPROCESS = PreprocessConfig(size_hw=(SIZE, SIZE), scale=1 / 255, mean=(0.5,) * 3, std=(0.25,) * 3)


def network_of_seed(seed: int) -> TwoLevels:
    torch.manual_seed(seed)
    return TwoLevels()


def our_curve(folder: Path, batches: Scenes, loss: LossConfig) -> list[float]:
    """Losses of the real training loop."""
    network = network_of_seed(0)
    config = OptimizerConfig(name="sgd", lr=0.02, weight_decay=5e-4, decay_norm=True, bias_lr_factor=2)
    curve = Curve()

    def criterion(output: HeadOutput, batch: Batch) -> dict[str, Tensor]:
        boxes, ids, valid = batch.boxes_xyxy, batch.class_ids, batch.valid
        return multibox_loss(output, ANCHORS, boxes, ids, valid, coder=CoderConfig(), match=MatchConfig(), loss=loss)

    Trainer(
        learner=Learner(network, build_optimizer(network, config, 0.02)),
        criterion=criterion,
        batches=batches,
        normalizer=ImageNormalizer(PREPROCESS, torch.device("cpu")),
        length=RunLength("steps", STEPS, 10),
        schedule=ScheduleConfig(kind="multistep", milestones=(30,), warmup_steps=5, warmup_factor=0.2),
        guard=LossGuard(str),
        store=FileStore(folder),
        intervals=Intervals(log=1),
        observers=[curve],
    ).fit()
    return curve


def plain_curve(min_negatives: int) -> list[float]:
    """The same run in the plainest form: loops over images, objects and anchors, and SGD written out."""
    network = network_of_seed(0)
    momenta = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    curve = []
    batches = Scenes().stream(0)
    for step in range(STEPS):
        batch = next(batches)
        output = network((batch.images / 255 - 0.5) / 0.25)
        loss = plain_loss(output, batch, min_negatives)
        curve.append(loss.item())
        for p in network.parameters():
            p.grad = None
        loss.backward()
        lr = 0.02 * (0.1 if step >= 30 else 1.0) * (0.2 + 0.8 * step / 5 if step < 5 else 1.0)
        with torch.no_grad():
            for name, p in network.named_parameters():
                is_bias = name.endswith("bias")
                grad = p.grad if is_bias else p.grad + 5e-4 * p
                momenta[name] = 0.9 * momenta[name] + grad
                p -= lr * (2 if is_bias else 1) * momenta[name]
    return curve


def plain_loss(output: HeadOutput, batch: Batch, min_negatives: int) -> Tensor:
    """SSD eq. 1 with greedy bipartite matching and hard negative mining, one image at a time."""
    anchors = ANCHORS.tolist()
    total, positives = torch.zeros(()), 0
    for image in range(len(batch.images)):
        objects = [
            (box, kind)
            for box, kind, real in zip(
                batch.boxes_xyxy[image].tolist(),
                batch.class_ids[image].tolist(),
                batch.valid[image].tolist(),
                strict=True,
            )
            if real
        ]
        overlaps = [[plain_iou(anchor, box) for box, _ in objects] for anchor in anchors]
        owner = plain_match(overlaps, len(objects))
        logp = output.class_logits[image].log_softmax(dim=-1)
        for index, mine in owner.items():
            box, kind = objects[mine]
            total = total - logp[index, kind + 1]
            for code, goal in zip(output.box_codes[image, index], plain_codes(anchors[index], box), strict=True):
                error = (code - goal).abs()
                total = total + (0.5 * error * error if error < 1 else error - 0.5)
        free = [i for i in range(len(anchors)) if i not in owner and max(overlaps[i], default=0.0) < 0.5]
        free.sort(key=lambda i: (logp[i, 0].item(), i))
        for index in free[: max(3 * len(owner), min_negatives)]:
            total = total - logp[index, 0]
        positives += len(owner)
    return total / max(1, positives)


def plain_match(overlaps: list[list[float]], objects: int) -> dict[int, int]:
    """Anchor -> object: first each object its best free anchor, largest overlap first, then all from 0.5 on."""
    owner: dict[int, int] = {}
    todo = set(range(objects))
    while todo:
        best = max((overlaps[a][o], -a, -o) for a in range(len(overlaps)) if a not in owner for o in todo)
        if best[0] <= 1e-6:
            break
        owner[-best[1]] = -best[2]
        todo.remove(-best[2])
    for anchor, row in enumerate(overlaps):
        if anchor not in owner and row and max(row) >= 0.5:
            owner[anchor] = row.index(max(row))
    return owner


def plain_iou(anchor: list[float], box: list[float]) -> float:
    cx, cy, w, h = anchor
    left, top = max(cx - w / 2, box[0]), max(cy - h / 2, box[1])
    right, bottom = min(cx + w / 2, box[2]), min(cy + h / 2, box[3])
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    union = w * h + (box[2] - box[0]) * (box[3] - box[1]) - shared
    return float(np.float32(shared) / np.float32(union))


def plain_codes(anchor: list[float], box: list[float]) -> list[float]:
    cx, cy, w, h = anchor
    gw, gh = box[2] - box[0], box[3] - box[1]
    gx, gy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return [(gx - cx) / w / 0.1, (gy - cy) / h / 0.1, math.log(gw / w) / 0.2, math.log(gh / h) / 0.2]


@pytest.mark.parametrize("min_negatives", [0, 3])
def test_fifty_steps_equal_a_plain_implementation(tmp_path: Path, min_negatives: int) -> None:
    ours = our_curve(tmp_path, Scenes(), LossConfig(min_negatives=min_negatives))
    plain = plain_curve(min_negatives)
    assert len(ours) == len(plain) == STEPS
    assert sum(plain[-5:]) < 0.8 * sum(plain[:5])  # it does learn, so that the curves could part
    assert max(abs(a - b) for a, b in zip(ours, plain, strict=True)) < 1e-4


LOSSES: dict[str, Callable[[], LossConfig]] = {
    "softmax": LossConfig,
    "sigmoid": lambda: LossConfig(classification="sigmoid"),
    "focal": lambda: LossConfig(classification="focal"),
    "giou": lambda: LossConfig(box="giou"),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_degenerate_boxes_train_finite(tmp_path: Path, kind: str) -> None:
    curve = our_curve(tmp_path, Scenes(degenerate=True), LOSSES[kind]())
    assert len(curve) == STEPS
    assert all(math.isfinite(value) for value in curve)
