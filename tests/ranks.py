"""Several processes that learn together, forked from this one: torch is not started again. And runs whose rounding is
known, to tell it from mistakes.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # DistributedDataParallel imports it, which takes seconds: here once, not in every process

from singleshot.images.normalise import ImageNormalizer
from singleshot.training import build, session
from singleshot.training.setup import prepare


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def as_rank(work: Callable[[], Any], rank: int, size: int, port: int, answer: Path) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID=f"test-{port}")
    tempfile.tempdir = str(answer.parent)
    torch.set_num_threads(1)
    try:
        result = work()
    except BaseException as error:
        result = error
    torch.save(result, answer)
    os._exit(0)  # no farewell of the process that was forked


def together(work: Callable[[], Any], folder: Path, size: int = 2, seconds: float = 1200) -> list[Any]:
    """What each of several processes gives back, or its error, by rank."""
    port, context = free_port(), multiprocessing.get_context("fork")
    answers = [folder / f"answer-{port}-{rank}.pt" for rank in range(size)]
    processes = [
        context.Process(target=as_rank, args=(work, rank, size, port, answer)) for rank, answer in enumerate(answers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
        process.kill()
    return [torch.load(answer, weights_only=False) if answer.exists() else None for answer in answers]


@contextmanager
def beginning(dtype: torch.dtype = torch.float32, nudge: float = 0.0) -> Iterator[None]:
    """Within it, runs compute in a number format, or begin with weights that are off by so much (relative).

    Steps enlarge rounding. In float64 it is 5e8 times smaller, so that what still differs is a mistake; nudged weights
    show how much it is enlarged.
    """
    criterion = build.criterion

    def changed(*args: Any) -> Any:
        setup, chance = prepare(*args), torch.Generator().manual_seed(0)
        for parameter in setup.start.network.to(dtype).parameters():
            parameter.data *= 1 + nudge * torch.randn(parameter.shape, generator=chance, dtype=dtype)
        return replace(setup, anchors_cxcywh=setup.anchors_cxcywh.to(dtype))

    def criterion_of(*args: Any) -> Any:
        loss = criterion(*args)
        return lambda output, batch: loss(output, batch._replace(boxes_xyxy=batch.boxes_xyxy.to(dtype)))

    class Normalizer(ImageNormalizer):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return super().__call__(images).to(dtype)

    with (
        patch.object(session, "prepare", changed),
        patch.multiple(build, criterion=criterion_of, ImageNormalizer=Normalizer),
    ):
        yield
