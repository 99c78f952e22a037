"""A data set that is read from its beginning to its end, from wherever it lies, for a training loop of one's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from singleshot.core.settings import PreprocessConfig
from singleshot.core.sizes import parse_size
from singleshot.core.structures import ClassMap
from singleshot.core.transforms import Labelled, Transform, step
from singleshot.data.remote import StreamShard, open_shards
from singleshot.data.stream_order import StreamOrder, positions_after
from singleshot.data.torch_dataset import ImageTargets, TorchDataset, network_item
from singleshot.errors import ConfigError, ImageError
from singleshot.images.read import read_image

logger = logging.getLogger(__name__)

CHANGES = 3  # beside the streams of random numbers of `stream_order`


class ShardStream(IterableDataset[tuple[Tensor, ImageTargets]]):
    """Preprocessed images of tar shards and their objects, as `TorchDataset` gives them; each iteration is an epoch.

    Made by `stream`. Every record comes exactly once in an epoch, to one rank and one worker. What comes depends on the
    seed, the epoch and the position alone, random changes included. An image that cannot be decoded is left out, with a
    warning.

    Attributes:
        class_map: the classes 0..C-1.
    """

    collate = staticmethod(TorchDataset.collate)

    def __init__(
        self,
        shards: Sequence[StreamShard],
        class_map: ClassMap,
        order: StreamOrder,
        seed: int,
        rank: int,
        world_size: int,
        preprocess: PreprocessConfig,
        transform: Transform | None,
        *,
        use_difficult: bool,
    ) -> None:
        self.class_map = class_map
        self._shards, self._order, self._seed = shards, order, seed
        self._rank, self._world_size = rank, world_size
        self._preprocess, self._step = preprocess, None if transform is None else step(transform)
        self._use_difficult = use_difficult
        self._first = np.cumsum([0, *(len(shard.index) for shard in shards)])
        self._epoch = 0
        self._positions: list[int] = []  # of each worker; none at the beginning of an epoch

    def __len__(self) -> int:
        return self._order.count(self._epoch, self._rank, self._world_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ImageTargets]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        if len(self._positions) not in (0, workers):
            raise ConfigError(
                f"the state is of {len(self._positions)} workers, and there are {workers}: records would come again "
                "or never; keep the number until the epoch ends"
            )
        self._positions = self._positions or [0] * workers
        readers, reader = self._world_size * workers, self._rank * workers + worker
        epoch, position = self._epoch, self._positions[worker]
        for window in self._order.windows(epoch, reader, readers, position):
            read = [self._shards[chunk.shard].read(chunk.first, chunk.last) for chunk in window.chunks]
            for place, row in window.order.tolist():
                chunk = window.chunks[place]
                item = self._item(epoch, chunk.shard, row, read[place][row - chunk.first])
                self._positions[worker] += 1
                if item is not None:
                    yield item
        self._epoch, self._positions = epoch + 1, []

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: with workers, of the process that asks (as ``StatefulDataLoader`` does)."""
        return {"epoch": self._epoch, "positions": list(self._positions), "seed": self._seed, **self._split()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a stream of the same shards, seed and ranks was.

        Raises:
            ConfigError: it was of another seed or number of ranks, which would repeat some records and lose others.
        """
        own = {"seed": self._seed, **self._split()}
        other = {name: state.get(name) for name in own}
        if own != other:
            raise ConfigError(f"the state is of a stream with {other}, and this one has {own}")
        self._epoch, self._positions = int(state["epoch"]), [int(position) for position in state["positions"]]

    def set_epoch(
        self, epoch: int, batches: int = 0, batch_size: int = 1, workers: int = 0, *, drop_last: bool = False
    ) -> None:
        """Go to an epoch, and past the batches of it that a ``DataLoader`` with so many workers has given.

        Its workers are copies of this object, so that it cannot know by itself how far they came.
        """
        count = max(1, workers)
        readers, first = self._world_size * count, self._rank * count
        counts = [self._order.count(epoch, first + worker, readers) for worker in range(count)]
        self._epoch = epoch
        self._positions = positions_after(counts, batches, batch_size, drop_last=drop_last) if batches else []

    def _split(self) -> dict[str, int]:
        return {"world_size": self._world_size, "rank": self._rank}

    def _item(self, epoch: int, shard: int, row: int, data: bytes) -> tuple[Tensor, ImageTargets] | None:
        index, places = self._shards[shard].index, self._shards[shard].class_places
        columns, number = index.columns, int(self._first[shard]) + row
        if row in self._shards[shard].left_out:
            return None
        where = f"{self._shards[shard].place}/{index.name(row)}"
        try:
            image = read_image(data)
        except ImageError as error:
            logger.warning("left out an image: %s: %s", where, error)
            return None
        part = slice(columns["bounds"][row], columns["bounds"][row + 1])
        usable = ~columns["iscrowd"][part]
        if not self._use_difficult:
            usable &= ~columns["difficult"][part]
        labelled = Labelled(image, columns["boxes_xyxy"][part][usable], places[columns["class_ids"][part][usable]])
        rng = np.random.default_rng([self._seed, CHANGES, epoch, number])
        return network_item(labelled, number, self._step, rng, self._preprocess, len(self.class_map), where)


def stream(
    source: str | os.PathLike[str],
    split: str | None = None,
    transform: Transform | None = None,
    size: int | str | Sequence[int] | None = None,
    preprocess: PreprocessConfig | None = None,
    *,
    seed: int = 0,
    shuffle: bool = True,
    chunk: int = 64,
    window: int = 16,
    rank: int = 0,
    world_size: int = 1,
    use_difficult: bool = True,
) -> ShardStream:
    """Tar shards as a stream, for data that is too large or too far away for `open`.

    Args:
        source: a folder of shards, a tar, a pattern ``train-{000000..000009}.tar``, or the URL of one of these
            (``s3://``, ``https://`` ...: extra ``remote``; their indices must be beside them).
        split: one of the folder's splits.
        transform, size, preprocess, use_difficult: see `DetectionDataset.torch`.
        seed: of the order.
        shuffle: whether the records are shuffled: chunks among all, records within a window of chunks.
        chunk: records that one read fetches.
        window: chunks that are in memory at once.
        rank, world_size: this process and how many there are: each gets other records.

    Raises:
        DataError: there are no shards, or no such split.
        ConfigError: the rank is none of ``world_size``, or as `DetectionDataset.torch`.
        MissingExtraError: a URL, and no fsspec.
    """
    if not 0 <= rank < world_size or chunk < 1 or window < 1:
        given = f"`rank` {rank} of `world_size` {world_size}, `chunk` {chunk}, `window` {window}"
        raise ConfigError(f"{given}: ranks count from 0 to the size, and a chunk and a window have 1 at least")
    if size is not None and preprocess is not None:
        raise ConfigError("`size` and `preprocess` both say how large images become; keep one of them")
    if preprocess is None:
        preprocess = PreprocessConfig(size_hw=parse_size(300 if size is None else size))
    shards, classes = open_shards(source, split)
    order = StreamOrder([len(shard.index) for shard in shards], seed, chunk, window, shuffle=shuffle)
    return ShardStream(
        shards, ClassMap(classes), order, seed, rank, world_size, preprocess, transform, use_difficult=use_difficult
    )
