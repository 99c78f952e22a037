"""How training batches are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from singleshot.training.world import ALONE, World


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """How training batches are made.

    Attributes:
        batch_size: images of a batch, of all processes together; every batch is full.
        seed: of order and augmentation.
        workers: processes; 0 works in this one; ``auto`` leaves a core to the network.
        keep_empty: use images without objects, as background.
        empty: at most so many of them in an epoch, as a multiple of those with objects; ``None`` shows all.
        use_difficult: learn from objects marked difficult. Crowd regions never train.
        repeat_threshold: classes in fewer than this share of the images are seen more often (repeat-factor sampling,
            LVIS, arXiv 1908.03195); 0 shows every image once an epoch.
        classes: their number, which checks what own transforms give back; 0 where it is not known.
        cache_bytes: memory for encoded images, read at the start; for slow or remote disks.
        pin_memory: page-locked batches, for copies to a GPU that do not block.
        start_method: how workers start; ``None`` is the system's way.
        world: the processes that learn together, each from its part of every batch.
    """

    batch_size: int = 32
    seed: int = 0
    workers: int | Literal["auto"] = "auto"
    keep_empty: bool = True
    empty: float | None = None
    use_difficult: bool = True
    repeat_threshold: float = 0.0
    classes: int = 0
    cache_bytes: int = 0
    pin_memory: bool = False
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    world: World = ALONE
