"""Which record of a stream comes when: a function of seed, epoch and reader, so that a position says all.

The records of each shard are cut into chunks that lie together, which one read fetches. An epoch shuffles all chunks,
and deals them out to the readers in turn: no record goes to two. A reader takes a window of some chunks at a time, and
shuffles their records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNKS, RECORDS = 1, 2  # streams of random numbers


class Chunk(NamedTuple):
    """Records ``first`` to ``last`` (not included) of a shard."""

    shard: int
    first: int
    last: int


class ShardWindow(NamedTuple):
    """What a reader fetches at once.

    Attributes:
        chunks: one read each.
        order: (chunk of these, record of its shard), one row for each record in the order in which they are given,
            ``[N, 2]``.
    """

    chunks: tuple[Chunk, ...]
    order: NDArray[np.int64]


class StreamOrder:
    """The order of all records.

    Args:
        counts: records of each shard.
        seed: of the order.
        chunk: records that are read together.
        window: chunks whose records are shuffled together.
        shuffle: whether anything is; else the records come as they lie.
    """

    def __init__(self, counts: Sequence[int], seed: int, chunk: int, window: int, *, shuffle: bool = True) -> None:
        self._chunks = [
            Chunk(shard, first, min(first + chunk, count))
            for shard, count in enumerate(counts)
            for first in range(0, count, chunk)
        ]
        self._seed, self._window, self._shuffle = seed, window, shuffle

    def __len__(self) -> int:
        return sum(chunk.last - chunk.first for chunk in self._chunks)

    def share(self, epoch: int, reader: int, readers: int) -> list[Chunk]:
        """The chunks of a reader in an epoch."""
        order = np.arange(len(self._chunks))
        if self._shuffle:
            order = np.random.default_rng([self._seed, CHUNKS, epoch]).permutation(len(self._chunks))
        return [self._chunks[place] for place in order[reader::readers].tolist()]

    def count(self, epoch: int, reader: int, readers: int) -> int:
        """Records of a reader in an epoch."""
        return sum(chunk.last - chunk.first for chunk in self.share(epoch, reader, readers))

    def windows(self, epoch: int, reader: int, readers: int, position: int = 0) -> Iterator[ShardWindow]:
        """The windows of a reader, without the ``position`` records that it has had; what those hold is not fetched."""
        share = self.share(epoch, reader, readers)
        for number, start in enumerate(range(0, len(share), self._window)):
            chunks = tuple(share[start : start + self._window])
            sizes = [chunk.last - chunk.first for chunk in chunks]
            if position >= sum(sizes):
                position -= sum(sizes)
                continue
            rows = np.concatenate([np.arange(chunk.first, chunk.last) for chunk in chunks])
            order = np.stack([np.repeat(np.arange(len(chunks)), sizes), rows], axis=1)
            if self._shuffle:
                order = np.random.default_rng([self._seed, RECORDS, epoch, reader, number]).permutation(order)
            yield ShardWindow(chunks, order[position:])
            position = 0


def positions_after(counts: Sequence[int], batches: int, batch_size: int, *, drop_last: bool) -> list[int]:
    """How many records each worker of a ``DataLoader`` has given once so many batches have come out.

    Workers give a batch each in turn; one that has no more is passed over.

    Args:
        counts: records of each worker in the epoch.
        batches: that came out.
        batch_size: records of each batch, but of a worker's last one.
        drop_last: whether a last batch that is not full is left out.
    """
    given = [0] * len(counts)
    left = [count // batch_size * batch_size if drop_last else count for count in counts]
    while batches and any(done < most for done, most in zip(given, left, strict=True)):
        for worker, most in enumerate(left):
            if batches and given[worker] < most:
                given[worker] = min(given[worker] + batch_size, most)
                batches -= 1
    return given
