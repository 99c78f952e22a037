"""What a detector thinks of labelled images, one by one: its detections, and what is in each labelled box."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import has_torch, lazy_module
from singleshot.core.postprocess import class_columns
from singleshot.core.structures import HeadOutput, RefineOutput, Sample
from singleshot.detector import Detector
from singleshot.errors import ImageError
from singleshot.images.read import read_image
from singleshot.prediction.frames import Failure, Result
from singleshot.runtime.device import choose_device

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

LEAST_SCORE = 0.05
WEAK_SCORE = 0.01
"""Where there are only detections, weak ones say what else a labelled box looks like."""
NEAR_IOU = 0.5
"""A predicted box that overlaps a labelled one by so much speaks of it."""
OBJECTS_AT_ONCE = 256
SPEAKERS = 10
"""So many predicted boxes, those that overlap it most, say what is in a labelled box."""
IMAGES_AT_ONCE = 8


class Opinion(NamedTuple):
    """Of one image: detections, then what is in each labelled box.

    Attributes:
        boxes_xyxy, scores, class_ids: detections in pixels of the image; class ids of the model.
        class_shares: of each labelled box, ``[N, C]``; ``None`` where only the detections are known.
        objectness: of each labelled box, ``[N]``; ``None`` likewise.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    class_shares: NDArray[np.floating] | None = None
    objectness: NDArray[np.float32] | None = None


class Judge(Protocol):
    """A detector that is asked about labelled images."""

    @property
    def class_names(self) -> Sequence[str]:
        """What it knows."""

    def look_at(self, samples: Iterable[Sample]) -> Iterator[Opinion | ImageError]:
        """Its opinion of each image in turn; the error of one that cannot be read."""


class Finder(Protocol):
    """What is asked of a `Predictor`."""

    @property
    def class_names(self) -> Sequence[str]:
        """What it can find."""

    def stream(self, paths: Iterable[Path], batch_size: int) -> Iterable[Result]:
        """What is found in each image."""


def open_judge(detector: Detector, device: str = "auto", images: int | None = None) -> Judge:
    """Ask the network of a detector, or an exported file, which has detections only.

    Args:
        detector: either.
        device: where it runs.
        images: how many there will be.

    Raises:
        ConfigError: the device is not there.
    """
    if has_torch() and detector.exported is None:
        return NetworkJudge(detector, device)
    return DetectionJudge(detector.predictor(WEAK_SCORE, device=device, images=images))


class DetectionJudge:
    """Judges by detections alone."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    @property
    def class_names(self) -> Sequence[str]:
        """What it knows."""
        return self._finder.class_names

    def look_at(self, samples: Iterable[Sample]) -> Iterator[Opinion | ImageError]:
        """Its opinion of each image in turn; the error of one that cannot be read."""
        for result in self._finder.stream((sample.image_path for sample in samples), IMAGES_AT_ONCE):
            if isinstance(result, Failure):
                yield result.error
            else:
                found = result.detections
                yield Opinion(found.boxes_xyxy, found.scores, found.class_ids)


class NetworkJudge:
    """Judges by all that a network predicts near a labelled box, on one device.

    Raises:
        ConfigError: the detector is an exported file, or the device is not there.
    """

    def __init__(self, detector: Detector, device_name: str = "auto") -> None:
        self.detector = detector
        self.device = device = choose_device(device_name)
        network = detector.network
        self.network = network if device.type == "cpu" else copy.deepcopy(network).to(device)
        self.anchors = detector.anchors().to(device)
        changes = {"score_threshold": LEAST_SCORE, "clip": "after"}
        self.config = detector.spec.postprocess.model_copy(update=changes)

    @property
    def class_names(self) -> Sequence[str]:
        """What it knows."""
        return self.detector.class_names

    def look_at(self, samples: Iterable[Sample]) -> Iterator[Opinion | ImageError]:
        """Its opinion of each image in turn; the error of one that cannot be read."""
        for sample in samples:
            try:
                pixels = read_image(sample.image_path)
            except ImageError as error:
                yield error
            else:
                yield self._look(pixels, sample.boxes_xyxy)

    def _look(self, pixels: NDArray[np.uint8], labelled_xyxy: NDArray[np.float32]) -> Opinion:
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
        return Opinion(
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
