"""Which image comes when: shuffled epochs without end, as a function of a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import Sample

# Streams of random numbers that share a run's seed.
ORDER, CHANGES, REPLACEMENT = range(3)


class EpochOrder:
    """Which image stands at which position of the stream.

    Args:
        indices: positions of the usable images in the data set, ``[n]``.
        weights: how often an epoch shows each, ``[n]``; rounded up or down at random. Their sum is the epoch's length.
        seed: of the order.
    """

    def __init__(self, indices: NDArray[np.int64], weights: NDArray[np.float64], seed: int) -> None:
        self._indices = indices
        self._seed = seed
        self._bounds = np.concatenate([[0.0], np.cumsum(weights)])
        total = float(self._bounds[-1])
        self._length = max(1, round(total))
        # All epochs are of one length: all weights give way, or the last bound could lie below the one before.
        self._bounds = np.minimum(self._bounds * (self._length / total if total else 1.0), self._length)
        self._bounds[-1] = self._length

    def __len__(self) -> int:
        return self._length

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """The images of an epoch in order."""
        rng = np.random.default_rng([self._seed, ORDER, epoch])
        counts = np.diff(np.floor(self._bounds + rng.random())).astype(np.int64)
        return rng.permutation(np.repeat(self._indices, counts))

    def positions(self, first: int) -> Iterator[tuple[int, int]]:
        """(position, image) from position ``first`` on, without end."""
        epoch, offset = divmod(first, len(self))
        while True:
            for place, index in enumerate(self.epoch(epoch)[offset:].tolist(), start=offset):
                yield epoch * len(self) + place, index
            epoch, offset = epoch + 1, 0


def repeat_weights(samples: Sequence[Sample], indices: NDArray[np.int64], threshold: float) -> NDArray[np.float64]:
    """How often an epoch shows each image, with mean 1.

    An image counts as its rarest class does, ``max(1, sqrt(threshold / share))``, where ``share`` is the share of
    images with that class (LVIS, arXiv 1908.03195, appendix B).

    Args:
        samples: the data set.
        indices: its usable images, ``[n]``.
        threshold: share of images below which a class is rare; 0 treats all images alike.
    """
    if threshold <= 0:
        return np.ones(len(indices))
    present = [np.unique(samples[index].class_ids) for index in indices]
    owners = np.repeat(np.arange(len(present)), [len(ids) for ids in present])
    classes = np.concatenate(present)
    share = np.bincount(classes, minlength=1) / len(indices)
    factors = np.ones(len(indices))
    np.maximum.at(factors, owners, np.sqrt(threshold / share[classes]))
    weights: NDArray[np.float64] = factors * (len(factors) / factors.sum())
    return weights


def thin_out(weights: NDArray[np.float64], is_empty: NDArray[np.bool_], ratio: float) -> NDArray[np.float64]:
    """Weights such that an epoch has at most ``ratio`` times as many images without objects as with some.

    Args:
        weights: as in `EpochOrder`, ``[n]``.
        is_empty: which images have no objects, ``[n]``.
        ratio: none is shown more often than before, though.
    """
    have, lack = float(weights[~is_empty].sum()), float(weights[is_empty].sum())
    factor = min(1.0, round(ratio * have) / lack) if lack else 1.0
    thinned: NDArray[np.float64] = np.where(is_empty, factor * weights, weights)
    return thinned
