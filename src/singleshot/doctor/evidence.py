"""What a detector found in labelled images, beside what the labels say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import Sample
from singleshot.data import Problem
from singleshot.detector import Detector
from singleshot.doctor.opinions import NEAR_IOU, NetworkJudge, Opinion
from singleshot.errors import ImageError
from singleshot.evaluation.metrics.class_match import ClassMatch, match_classes
from singleshot.evaluation.metrics.overlaps import overlapping_pairs
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

UNDECIDED = 0.01
"""A score that is shared out evenly among all classes, where only detections say what is in a box: without any nearby
nothing speaks against the label."""

BESIDE_IOU = 0.1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a detector found, beside what the labels say; classes are those that both have.

    Attributes:
        classes: how the model's classes and the data's are matched.
        truth: labelled objects of shared classes.
        objects: the place of each of them among the objects of its image, ``[N]``.
        unknown: labelled objects of classes that the model does not know; their class ids mean nothing.
        detections: those of shared classes.
        class_shares: for each object, how the predicted boxes near it share out the classes, ``[N, S]``; rows sum to 1,
            or are 0 where the model sees nothing at all.
        objectness: for each object, the best score of any class of a predicted box near it, ``[N]``.
        samples: the images; those that could be read, of `gather_evidence`.
        unreadable: images that could not be read.
    """

    classes: ClassMatch
    truth: GroundTruth
    objects: NDArray[np.int64]
    unknown: GroundTruth
    detections: DetectionTable
    class_shares: NDArray[np.float32]
    objectness: NDArray[np.float32]
    samples: tuple[Sample, ...] = ()
    unreadable: tuple[Problem, ...] = ()


def gather_evidence(
    detector: Detector,
    samples: Sequence[Sample],
    data_names: Sequence[str],
    device: str = "auto",
    track: Callable[[Sequence[Sample]], Iterable[Sample]] = iter,
) -> Evidence:
    """Run a detector over labelled images, once each.

    Args:
        detector: with a network (an exported file has none).
        samples: the images and their labels.
        data_names: classes of the labels.
        device: where the network runs: ``auto``, ``cpu``, ``cuda``, ``mps``.
        track: wraps the samples (a progress bar).

    Raises:
        DataError: model and data share no class.
        ConfigError: the device is not there, or the detector is an exported file.
    """
    match = match_classes(detector.class_names, data_names)
    judge = NetworkJudge(detector, device)
    read: list[Sample] = []
    opinions: list[Opinion] = []
    unreadable = []
    for sample, opinion in zip(samples, judge.look_at(track(samples)), strict=True):
        if isinstance(opinion, ImageError):
            message = str(opinion).removeprefix(f"{sample.image_path}: ")
            unreadable.append(Problem(sample.image_path, None, "undecodable-image", "skipped", message))
        else:
            read.append(sample)
            opinions.append(opinion)
    return weigh(
        match,
        GroundTruth.from_samples(read),
        opinions,
        model_count=len(detector.class_names),
        data_count=len(data_names),
        samples=tuple(read),
        unreadable=tuple(unreadable),
    )


def weigh(
    match: ClassMatch,
    truth: GroundTruth,
    opinions: Sequence[Opinion | None],
    *,
    model_count: int,
    data_count: int,
    samples: tuple[Sample, ...] = (),
    unreadable: tuple[Problem, ...] = (),
) -> Evidence:
    """Put the opinions of images beside their labels.

    Args:
        match: of the model's classes and the data's.
        truth: all labelled objects, image after image, with the data's class ids.
        opinions: of each image; ``None`` of one that nobody has looked at: its labels are left out.
        model_count, data_count: classes of the model and of the data.
        samples, unreadable: handed on.
    """
    per_image = np.bincount(truth.image_index, minlength=len(opinions))
    places = np.arange(len(truth)) - (np.cumsum(per_image) - per_image)[truth.image_index]
    seen = np.array([opinion is not None for opinion in opinions], dtype=bool)[truth.image_index]
    shared_ids = match.data_to_shared(data_count)[truth.class_ids]
    kept = seen & (shared_ids >= 0)
    found = DetectionTable.concatenate(
        [
            DetectionTable(np.full(len(item.scores), index), item.class_ids, item.boxes_xyxy, item.scores)
            for index, item in enumerate(opinions)
            if item is not None
        ]
    ).relabel(match.model_to_shared(model_count))
    known = truth.with_classes(np.where(kept, shared_ids, -1))
    if all(opinion is None or opinion.class_shares is not None for opinion in opinions):
        shares, objectness = _spoken(opinions, kept[seen], match)
    else:
        shares, objectness = _seen_by_detections(known, found, len(match.names))
    shares /= shares.sum(axis=1, keepdims=True).clip(min=1e-9)
    return Evidence(
        classes=match,
        truth=known,
        objects=places[kept],
        unknown=truth.with_classes(np.where(seen & (shared_ids < 0), 0, -1)),
        detections=found,
        class_shares=shares,
        objectness=objectness,
        samples=samples,
        unreadable=unreadable,
    )


def _spoken(
    opinions: Sequence[Opinion | None], kept: NDArray[np.bool_], match: ClassMatch
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Class shares ``[N, S]`` and objectness ``[N]`` as the network gave them."""
    given = [opinion for opinion in opinions if opinion is not None]
    shares = [item.class_shares[:, list(match.model_ids)] for item in given if item.class_shares is not None]
    objectness = [item.objectness for item in given if item.objectness is not None]
    none = np.zeros((0, len(match.names)), np.float32)
    return np.concatenate([none, *shares])[kept], np.concatenate([none[:, 0], *objectness])[kept]


def _seen_by_detections(
    truth: GroundTruth, found: DetectionTable, classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same from detections on each object, or where there are none those that overlap it most."""
    pairs = overlapping_pairs(truth, found, BESIDE_IOU, same_class=False)
    most = np.zeros(len(truth))
    np.maximum.at(most, pairs.objects, pairs.overlaps)
    near = pairs.overlaps >= np.minimum(most, NEAR_IOU)[pairs.objects]
    objects, detections, overlaps = pairs.objects[near], pairs.detections[near], pairs.overlaps[near]
    scores = found.scores[detections]
    shares = np.full((len(truth), classes), UNDECIDED / max(classes, 1), np.float32)
    np.add.at(shares, (objects, found.class_ids[detections]), scores * overlaps)
    objectness = np.zeros(len(truth), np.float32)
    np.maximum.at(objectness, objects, scores * (overlaps >= NEAR_IOU))
    return shares, objectness
