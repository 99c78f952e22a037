"""What a detector thinks of labelled images: its detections, and for each labelled box which class it would have."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.core.postprocess import class_columns
from singleshot.core.structures import HeadOutput, RefineOutput, Sample
from singleshot.data import Problem
from singleshot.detector import Detector
from singleshot.errors import ImageError
from singleshot.evaluation.metrics.class_match import ClassMatch, match_classes
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth
from singleshot.images.read import read_image
from singleshot.runtime.device import choose_device

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

LEAST_SCORE = 0.05
NEAR_IOU = 0.5
"""A predicted box that overlaps a labelled one by so much speaks of it."""
OBJECTS_AT_ONCE = 256
SPEAKERS = 10
"""So many predicted boxes, those that overlap it most, say what is in a labelled box."""


class _Opinion(NamedTuple):
    """Of one image: detections, then what is in each labelled box.

    Attributes:
        boxes_xyxy, scores, class_ids: detections in pixels of the image; class ids of the model.
        class_shares: of each labelled box, ``[N, C]``.
        objectness: of each labelled box, ``[N]``.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    class_shares: NDArray[np.float32]
    objectness: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a detector found, beside what the labels say; classes are those that both have.

    Attributes:
        classes: how the model's classes and the data's are matched.
        samples: images that could be read.
        truth: their labelled objects of shared classes.
        objects: the place of each of them in its sample, ``[N]``.
        unknown: labelled objects of classes that the model does not know; their class ids mean nothing.
        detections: those of shared classes.
        class_shares: for each object, how the predicted boxes near it share out the classes, ``[N, S]``; rows sum to 1,
            or are 0 where the model sees nothing at all.
        objectness: for each object, the best score of any class of a predicted box near it, ``[N]``.
        unreadable: images that could not be read.
    """

    classes: ClassMatch
    samples: tuple[Sample, ...]
    truth: GroundTruth
    objects: NDArray[np.int64]
    unknown: GroundTruth
    detections: DetectionTable
    class_shares: NDArray[np.float32]
    objectness: NDArray[np.float32]
    unreadable: tuple[Problem, ...]


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
    classes = match_classes(detector.class_names, data_names)
    network = _Judge(detector, choose_device(device))
    read: list[Sample] = []
    opinions: list[_Opinion] = []
    unreadable = []
    for sample in track(samples):
        try:
            opinion = network.look(read_image(sample.image_path), sample.boxes_xyxy)
        except ImageError as error:
            message = str(error).removeprefix(f"{sample.image_path}: ")
            unreadable.append(Problem(sample.image_path, None, "undecodable-image", "skipped", message))
        else:
            read.append(sample)
            opinions.append(opinion)
    truth = GroundTruth.from_samples(read)
    places = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(sample)) for sample in read)])
    to_shared = classes.data_to_shared(len(data_names))
    kept = to_shared[truth.class_ids] >= 0
    shares = np.concatenate([np.zeros((0, len(detector.class_names)), np.float32), *(o.class_shares for o in opinions)])
    shares = shares[kept][:, list(classes.model_ids)]
    found = DetectionTable.concatenate(
        [
            DetectionTable(np.full(len(item.scores), index), item.class_ids, item.boxes_xyxy, item.scores)
            for index, item in enumerate(opinions)
        ]
    )
    return Evidence(
        classes=classes,
        samples=tuple(read),
        truth=truth.relabel(to_shared),
        objects=places[kept],
        unknown=truth.relabel(np.where(to_shared < 0, 0, -1)),
        detections=found.relabel(classes.model_to_shared(len(detector.class_names))),
        class_shares=shares / shares.sum(axis=1, keepdims=True).clip(min=1e-9),
        objectness=np.concatenate([np.zeros(0, np.float32), *(o.objectness for o in opinions)])[kept],
        unreadable=tuple(unreadable),
    )


class _Judge:
    """A detector's network and what belongs to it, on one device."""

    def __init__(self, detector: Detector, device: torch.device) -> None:
        self.detector, self.device = detector, device
        network = detector.network
        self.network = network if device.type == "cpu" else copy.deepcopy(network).to(device)
        self.anchors = detector.anchors().to(device)
        changes = {"score_threshold": LEAST_SCORE, "clip": "after"}
        self.config = detector.spec.postprocess.model_copy(update=changes)

    def look(self, pixels: NDArray[np.uint8], labelled_xyxy: NDArray[np.float32]) -> _Opinion:
        """What is detected, and what is in the labelled boxes (pixels of the image)."""
        from singleshot.multibox.decode import postprocess

        spec, count = self.detector.spec, len(self.detector.class_names)
        height, width = spec.preprocess.size_hw
        scale = np.array([width / pixels.shape[1], height / pixels.shape[0]] * 2, dtype=np.float32)
        with torch.inference_mode():
            output = self.network(self.detector.preprocess(pixels)[None].to(self.device))
            found = postprocess(output, self.anchors, self.config, spec.coder, (height, width), count)
            shares, objectness = self._speak(output, torch.from_numpy(labelled_xyxy * scale).to(self.device))
        rows = int(found.counts[0])
        return _Opinion(
            (found.boxes_xyxy[0, :rows].cpu().numpy() / scale).astype(np.float32),
            found.scores[0, :rows].cpu().numpy(),
            found.class_ids[0, :rows].cpu().numpy(),
            shares,
            objectness,
        )

    def _speak(
        self, output: HeadOutput | RefineOutput, labelled_xyxy: torch.Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Class shares ``[N, C]`` and objectness ``[N]`` of labelled boxes, in pixels of the network input."""
        from singleshot.core.boxes import pairwise_iou
        from singleshot.multibox.decode import decode_at
        from singleshot.multibox.scores import class_scores

        columns = class_columns(output.class_logits.shape[-1], self.config, len(self.detector.class_names))
        scores = class_scores(output, self.config)[0][:, list(columns)]  # [A, C]
        rows = torch.arange(len(self.anchors), device=self.device)
        predicted = decode_at(output, self.anchors, torch.zeros_like(rows), rows, self.detector.spec.coder)
        best = [
            pairwise_iou(part, predicted).topk(min(SPEAKERS, len(rows)), dim=1)
            for part in torch.split(labelled_xyxy, OBJECTS_AT_ONCE)
        ]
        overlaps, near = (torch.cat([part[at] for part in best]) for at in (0, 1))  # [N, k] each
        weight = torch.where(overlaps >= torch.clamp(overlaps[:, :1], max=NEAR_IOU), overlaps, 0.0)
        votes = (scores[near] * weight[..., None]).sum(dim=1)  # [N, C]
        shares = votes / votes.sum(dim=1, keepdim=True).clamp(min=1e-9)
        close = scores[near].amax(dim=-1) * (overlaps >= NEAR_IOU)
        return shares.cpu().numpy(), close.amax(dim=1).cpu().numpy()
