"""Training batches: an endless stream whose content depends on the seed and the position in the stream alone.

Position p of the stream is image p mod n of epoch p div n, and its random changes come from (seed, p). So the number of
workers changes nothing, nor does the number of processes that share each batch, and a run resumes exactly at any batch
without a saved state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader, Sampler

from singleshot.augment.pipeline import Augmenter
from singleshot.core.structures import Batch, Sample
from singleshot.core.transforms import TransformError
from singleshot.errors import DataError
from singleshot.training.loader_config import LoaderConfig
from singleshot.training.sampler import EpochOrder, repeat_weights, thin_out
from singleshot.training.training_images import MAX_REPLACEMENTS, Skipped, TrainingImages, collate, learns
from singleshot.training.worker_processes import abandon_if_one_died, auto_workers, start_worker

logger = logging.getLogger(__name__)

NAMED_IMAGES = 3


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
        indices = np.array([i for i, sample in enumerate(samples) if config.keep_empty or learns(sample, config)], int)
        if not len(indices):
            raise DataError(
                f"none of {len(samples)} images can train: give labelled images, or set keep_empty to use backgrounds"
            )
        weights = repeat_weights(samples, indices, config.repeat_threshold)
        if config.empty is not None:
            weights = thin_out(weights, np.array([not len(samples[index]) for index in indices]), config.empty)
        self._order = EpochOrder(indices, weights, config.seed)
        self._dataset = TrainingImages(samples, indices, augmenter, config)

    @property
    def images_per_epoch(self) -> int:
        """Images of an epoch."""
        return len(self._order)

    @property
    def batch_size(self) -> int:
        """Images of each batch, of all processes together."""
        return self.config.batch_size

    def stream(self, first_batch: int = 0) -> Iterator[Batch]:
        """Batches without end.

        Args:
            first_batch: number of the first one; the batches do not depend on where a stream begins.

        Raises:
            DataError: many images in a row cannot be read.
            TransformError: a transform of the user's own failed.
        """
        world = self.config.world
        keys = _BatchKeys(self._order, self.config.batch_size, first_batch, world.part(self.config.batch_size))
        workers = auto_workers(world.local_size) if self.config.workers == "auto" else self.config.workers
        loader = DataLoader(
            self._dataset,
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self.config.pin_memory,
            multiprocessing_context=self.config.start_method if workers else None,
            worker_init_fn=start_worker,
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
            abandon_if_one_died(batches)

    def preview(self, count: int) -> Batch:
        """The first ``count`` images of the stream as one batch, made in this process, to look at.

        Raises:
            DataError: many images in a row cannot be read.
        """
        batch, skipped = collate([self._dataset[key] for key in next(iter(_BatchKeys(self._order, count, 0)))])
        _end_if_asked(skipped)
        if batch is None:
            raise DataError(f"{MAX_REPLACEMENTS} images in a row cannot be read")
        return batch

    def _note(self, skipped: Sequence[Skipped]) -> None:
        for image in skipped:
            if image.index not in self.skipped:
                logger.warning("skipped an image: %s", image.reason)
            self.skipped[image.index] = image.reason


def _end_if_asked(skipped: Sequence[Skipped]) -> None:
    """An error in another process would arrive with that process's traceback around it."""
    for image in skipped:
        if image.ends_run:
            raise TransformError(image.reason)


class _BatchKeys(Sampler[list[tuple[int, int]]]):
    """(position, image) of a part of every batch from ``first_batch`` on, without end."""

    def __init__(self, order: EpochOrder, batch_size: int, first_batch: int, part: slice = slice(None)) -> None:
        self._part = part
        self._order = order
        self._batch_size = batch_size
        self._first = first_batch * batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        positions = self._order.positions(self._first)
        while True:
            yield [next(positions) for _ in range(self._batch_size)][self._part]
