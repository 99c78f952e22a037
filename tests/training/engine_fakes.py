"""A tiny detector and an endless stream of batches, so that the loop is tested without images or files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from singleshot.core.structures import Batch, HeadOutput
from singleshot.training.checkpoint import Learner, RunState, save_checkpoint

BATCH = 4
IMAGES = 10


class TinyNetwork(nn.Module):
    """4 anchors, 2 classes and background."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Conv2d(4, 4 + 3, 3, 4, 1)

    def forward(self, images: Tensor) -> HeadOutput:
        maps = self.head(self.backbone(images)).flatten(2).permute(0, 2, 1)
        return HeadOutput(maps[..., :4], maps[..., 4:])


def tiny_network() -> TinyNetwork:
    torch.manual_seed(3)
    return TinyNetwork()


class RandomBatches:
    """Each batch is a function of its number alone."""

    images_per_epoch = IMAGES
    batch_size = BATCH

    def stream(self, first_batch: int) -> Iterator[Batch]:
        number = first_batch
        while True:
            generator = torch.Generator().manual_seed(number)
            yield Batch(
                images=torch.randint(0, 256, (BATCH, 3, 16, 16), generator=generator, dtype=torch.uint8),
                boxes_xyxy=torch.rand((BATCH, 4, 4), generator=generator),
                class_ids=torch.randint(0, 2, (BATCH, 4), generator=generator),
                valid=torch.ones((BATCH, 4), dtype=torch.bool),
                indices=(torch.arange(BATCH) + number * BATCH) % IMAGES,
            )
            number += 1


def tiny_loss(output: HeadOutput, batch: Batch) -> Mapping[str, Tensor]:
    box = nn.functional.smooth_l1_loss(output.box_codes, batch.boxes_xyxy)
    kind = nn.functional.cross_entropy(output.class_logits.flatten(0, 1), batch.class_ids.flatten() + 1)
    return {"localization": box, "classification": kind, "total": box + kind, "positives": torch.tensor(4)}


class FileStore:
    """Keeps the state in a folder and remembers what else was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.pt"
        self.saved: list[str] = []

    def save_state(self, learner: Learner, run: RunState) -> None:
        self.saved.append("state")
        save_checkpoint(self.path, learner, run)

    def save_numbered(self, learner: Learner, run: RunState) -> None:
        self.saved.append(f"{run.step}")

    def save_weights(self, name: str, network: nn.Module, metrics: Mapping[str, float]) -> None:
        self.saved.append(name)
