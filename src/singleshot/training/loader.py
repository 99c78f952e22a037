"""Training batches: an endless stream whose content depends on the seed and the position in the stream alone.

Position p of the stream is image p mod n of epoch p div n, and its random changes come from (seed, p). So the number of
workers changes nothing, and a run resumes exactly at any batch without a saved state.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data._utils import signal_handling

from singleshot.augment.pipeline import Augmenter
from singleshot.core.structures import Batch, Sample
from singleshot.core.transforms import Labelled, TransformError
from singleshot.errors import DataError, ImageError, SingleshotError
from singleshot.images.packed import image_bytes, image_stamp
from singleshot.images.read import read_image
from singleshot.training.sampler import CHANGES, REPLACEMENT, EpochOrder, repeat_weights, thin_out

logger = logging.getLogger(__name__)

MAX_WORKERS = 16
DEATH_IS_TOLD_S = 0.2
# So many images in a row without a readable one is a broken disk or path, not a bad image.
MAX_REPLACEMENTS = 16
NAMED_IMAGES = 3


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """How training batches are made.

    Attributes:
        batch_size: images of a batch; every batch is full.
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


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that could not be used: its position in the data set, why, and whether the run cannot go on for it."""

    index: int
    reason: str
    ends_run: bool = False


class WorkerError(SingleshotError, RuntimeError):
    """A process that prepares batches died, as when the system ends it for want of memory."""


class TrainLoader:
    """Makes augmented batches of a data set.

    Args:
        samples: the labelled images.
        augmenter: from a sample to a training input.
        config: how batches are made.

    Attributes:
        skipped: images that could not be read so far, by position, with the reason. Each was replaced by another image.

    Raises:
        DataError: no image is left to train on.
    """

    def __init__(self, samples: Sequence[Sample], augmenter: Augmenter, config: LoaderConfig | None = None) -> None:
        self.config = config = config or LoaderConfig()
        self.skipped: dict[int, str] = {}
        indices = np.array([i for i, sample in enumerate(samples) if config.keep_empty or _learns(sample, config)], int)
        if not len(indices):
            raise DataError(
                f"none of {len(samples)} images can train: give labelled images, or set keep_empty to use backgrounds"
            )
        weights = repeat_weights(samples, indices, config.repeat_threshold)
        if config.empty is not None:
            weights = thin_out(weights, np.array([not len(samples[index]) for index in indices]), config.empty)
        self._order = EpochOrder(indices, weights, config.seed)
        self._dataset = _TrainDataset(samples, indices, augmenter, config)

    @property
    def images_per_epoch(self) -> int:
        """Images of an epoch."""
        return len(self._order)

    @property
    def batch_size(self) -> int:
        """Images of each batch."""
        return self.config.batch_size

    def stream(self, first_batch: int = 0) -> Iterator[Batch]:
        """Batches without end.

        Args:
            first_batch: number of the first one; the batches do not depend on where a stream begins.

        Raises:
            DataError: many images in a row cannot be read.
            TransformError: a transform of the user's own failed.
        """
        keys = _BatchKeys(self._order, self.config.batch_size, first_batch)
        workers = auto_workers() if self.config.workers == "auto" else self.config.workers
        loader = DataLoader(
            self._dataset,
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=self.config.pin_memory,
            multiprocessing_context=self.config.start_method if workers else None,
            worker_init_fn=_start_worker,
        )
        batches = iter(loader)
        try:
            for batch, skipped in batches:
                _end_if_asked(skipped)
                self._note(skipped)
                if batch is None:
                    reasons = "\n".join(f"  {reason}" for reason in list(self.skipped.values())[:NAMED_IMAGES])
                    raise DataError(f"{MAX_REPLACEMENTS} images in a row cannot be read, such as:\n{reasons}")
                yield batch
        finally:
            _abandon_if_one_died(batches)

    def preview(self, count: int) -> Batch:
        """The first ``count`` images of the stream as one batch, made in this process, to look at.

        Raises:
            DataError: many images in a row cannot be read.
        """
        batch, skipped = _collate([self._dataset[key] for key in next(iter(_BatchKeys(self._order, count, 0)))])
        _end_if_asked(skipped)
        if batch is None:
            raise DataError(f"{MAX_REPLACEMENTS} images in a row cannot be read")
        return batch

    def _note(self, skipped: Sequence[Skipped]) -> None:
        for image in skipped:
            if image.index not in self.skipped:
                logger.warning("skipped an image: %s", image.reason)
            self.skipped[image.index] = image.reason


@contextmanager
def explaining_workers(workers: int | Literal["auto"]) -> Iterator[None]:
    """Say what to do when a process that prepares images is killed.

    torch raises it from a signal handler, wherever the main process happens to be; or its queue ends before that.

    Raises:
        WorkerError: it was.
    """
    try:
        try:
            yield
        except (EOFError, ConnectionResetError):
            time.sleep(DEATH_IS_TOLD_S)  # the signal, which says more, may come now or never
            raise
    except (RuntimeError, EOFError, ConnectionResetError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        reason = (str(error).strip() or "it sends no more").splitlines()[0]
        raise WorkerError(
            f"a process that prepares images died ({reason}). Most often the memory is full: continue with "
            f"`resume=True` and fewer `workers` (now {auto_workers() if workers == 'auto' else workers}; 0 prepares "
            "images in the main process)"
        ) from error


def _abandon_if_one_died(batches: Iterator[object]) -> None:
    """End the other workers, without torch's farewell: it waits for locks, and the dead one may have held one.

    Torch forgets them first: it would raise what we do to them, whenever the signal comes, and could not begin another
    iterator at the address of this one.
    """
    processes = getattr(batches, "_workers", ())
    if any(process.exitcode for process in processes):
        if batches._worker_pids_set:  # type: ignore[attr-defined]
            batches._worker_pids_set = False  # type: ignore[attr-defined]
            signal_handling._remove_worker_pids(id(batches))  # type: ignore[attr-defined]
        batches._shutdown = True  # type: ignore[attr-defined]
        for process in processes:
            process.kill()


def auto_workers() -> int:
    """A process for each core this process may use, but one for the network."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - 1, MAX_WORKERS))


def _end_if_asked(skipped: Sequence[Skipped]) -> None:
    """An error in another process would arrive with that process's traceback around it."""
    for image in skipped:
        if image.ends_run:
            raise TransformError(image.reason)


def _named(error: ImageError, sample: Sample) -> str:
    """Why an image was skipped; errors of cached bytes know no file."""
    path = str(sample.image_path)
    return str(error) if path in str(error) else f"{path}: {error}"


def _learns(sample: Sample, config: LoaderConfig) -> bool:
    """Whether an object of a sample can train."""
    return bool(_trainable(sample, config).any())


def _trainable(sample: Sample, config: LoaderConfig) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = ~sample.iscrowd
    return usable if config.use_difficult else usable & ~sample.difficult


@dataclass(frozen=True, slots=True)
class _Item:
    """One image of a batch before collation, ``[H, W, 3]``, with its objects as in `Batch`."""

    image: NDArray[np.uint8] | NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    valid: NDArray[np.bool_]
    index: int


_Fetched = tuple[_Item | None, list[Skipped]]
"""An image, ``None`` when too many in a row were bad, and the bad ones. (An error in a worker would arrive with the
worker's traceback around it.)
"""


_Collated = tuple[Batch | None, list[Skipped]]


class _BatchKeys(Sampler[list[tuple[int, int]]]):
    """(position, image) of every batch from ``first_batch`` on, without end."""

    def __init__(self, order: EpochOrder, batch_size: int, first_batch: int) -> None:
        self._order = order
        self._batch_size = batch_size
        self._first = first_batch * batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        positions = self._order.positions(self._first)
        while True:
            yield [next(positions) for _ in range(self._batch_size)]


class _TrainDataset(Dataset[_Fetched]):
    """Reads and augments; an unreadable image is replaced by another and reported."""

    def __init__(
        self, samples: Sequence[Sample], indices: NDArray[np.int64], augmenter: Augmenter, config: LoaderConfig
    ) -> None:
        self._samples = samples
        self._indices = indices
        self._augmenter = augmenter
        self._config = config
        self._encoded = read_encoded(samples, indices, config.cache_bytes)

    def __getitem__(self, key: tuple[int, int]) -> _Fetched:
        position, index = key
        replacements = np.random.default_rng([self._config.seed, REPLACEMENT, position])
        skipped: list[Skipped] = []
        while len(skipped) < MAX_REPLACEMENTS:
            try:
                return self._item(position, index), skipped
            except TransformError as error:
                return None, [Skipped(index, str(error), ends_run=True)]
            except ImageError as error:
                skipped.append(Skipped(index, _named(error, self._samples[index])))
                index = int(replacements.choice(self._indices))
        return None, skipped

    def _item(self, position: int, index: int) -> _Item:
        sample = self._samples[index]
        rng = np.random.default_rng([self._config.seed, CHANGES, position])
        file = self._encoded.get(index, sample.image_path)
        source = file if sample.part_xyxy is None else _part(file, sample.part_xyxy)
        image, boxes, keep = self._augmenter(source, sample.boxes_xyxy, rng, sample.image_size_hw)
        valid, class_ids = _trainable(sample, self._config)[keep], sample.class_ids[keep]
        if self._augmenter.has_own_steps:
            labelled = Labelled(image, boxes[valid], class_ids[valid])
            image, boxes, class_ids = self._augmenter.own_steps(labelled, rng, self._config.classes, sample.image_path)
            valid = np.ones(len(class_ids), bool)
        return _Item(image, boxes, class_ids, valid, index)


def _part(source: Path | bytes, part_xyxy: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Pixels of a part of an image, which is decoded as a whole: few decoders can do less."""
    x0, y0, x1, y1 = part_xyxy
    image = read_image(source)
    if image.shape[0] < y1 or image.shape[1] < x1:
        raise ImageError(f"{image.shape[1]} x {image.shape[0]} pixels, fewer than in the data set: read that again")
    return image[y0:y1, x0:x1]


def _collate(fetched: Sequence[_Fetched]) -> tuple[Batch | None, list[Skipped]]:
    """Stack images, pad objects. The images' memory stays ``[B, H, W, 3]`` (channels last): nothing is transposed."""
    skipped = [image for _, bad in fetched for image in bad]
    items = [item for item, _ in fetched if item]
    if len(items) < len(fetched):
        return None, skipped
    counts = np.array([len(item.class_ids) for item in items], dtype=np.int64)
    rows = np.repeat(np.arange(len(items)), counts)
    columns = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    shape = (len(items), int(counts.max(initial=0)))
    boxes, class_ids = np.zeros((*shape, 4), np.float32), np.full(shape, -1, np.int64)
    valid = np.zeros(shape, bool)
    if len(rows):
        boxes[rows, columns] = np.concatenate([item.boxes_xyxy for item in items])
        class_ids[rows, columns] = np.concatenate([item.class_ids for item in items])
        valid[rows, columns] = np.concatenate([item.valid for item in items])
    images = np.stack([item.image for item in items])
    tensors = (images, boxes, class_ids, valid, np.array([item.index for item in items], dtype=np.int64))
    batch = Batch(*map(torch.from_numpy, tensors))
    return batch._replace(images=batch.images.permute(0, 3, 1, 2)), skipped


def read_encoded(samples: Sequence[Sample], indices: NDArray[np.int64], limit_bytes: int) -> dict[int, bytes]:
    """Files of the first images that fit into ``limit_bytes`` together, by position; unreadable ones are left out.

    Processes that fork share this memory.
    """
    encoded: dict[int, bytes] = {}
    left = limit_bytes
    for index in indices.tolist() if limit_bytes else ():
        with suppress(OSError):
            path = samples[index].image_path
            size = image_stamp(path).size
            if size > left:
                break
            encoded[index] = image_bytes(path)
            left -= size
    return encoded


def _start_worker(worker: int) -> None:
    """One thread each. Signals that a terminal or a service manager sends to all processes of a run (Ctrl-C, SIGTERM,
    SIGHUP) are the trainer's to handle: it needs its batches until it has saved. A second SIGTERM ends a worker.
    """
    cv2.setNumThreads(0)
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
