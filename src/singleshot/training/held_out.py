"""Measuring a network on the held-out images of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from singleshot.data import DetectionDataset
from singleshot.errors import ConfigError
from singleshot.evaluation.evaluate import evaluate_network
from singleshot.evaluation.result import EvalResult
from singleshot.models.config import ModelSpec
from singleshot.models.network import Network
from singleshot.prediction.views import ViewPlan
from singleshot.training.checkpoint import Best
from singleshot.training.config import EvaluationConfig
from singleshot.training.logs import EvaluationRecord, StepRecord
from singleshot.training.world import ALONE, World
from singleshot.weights.file import load_state, read_state


class HeldOut:
    """Held-out images, and what the network reached on them; as an observer it keeps what the loop calls best.

    Args:
        spec: what belongs to the network.
        images: the held-out images.
        config: the deciding metric and the batch, without ``auto``.
        views: how each image is looked at; by default once, as a whole.
        world: the processes that measure together.
    """

    def __init__(
        self,
        spec: ModelSpec,
        images: DetectionDataset,
        config: EvaluationConfig,
        views: ViewPlan | None = None,
        world: World = ALONE,
    ) -> None:
        self._world = world
        self.images = images
        self._views = views
        self._spec = spec
        self._config = config
        self._latest: EvalResult | None = None
        self._kept: dict[int, EvalResult] = {}

    @property
    def objects(self) -> int:
        """Held-out objects that count."""
        return sum(int((~sample.iscrowd).sum()) for sample in self.images)

    @property
    def latest(self) -> EvalResult | None:
        """The whole result of the latest evaluation of this session."""
        return self._latest

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Numbers by name; of several processes each looks at a part of the images.

        Raises:
            ConfigError: the deciding metric is not among them.
        """
        self._latest = self._result(network, self._world)
        numbers = self._latest.summary
        if self._config.metric not in numbers:
            raise ConfigError(f"evaluation.metric: no '{self._config.metric}'; there are {', '.join(numbers)}")
        return numbers

    def on_step(self, record: StepRecord) -> None:
        """Nothing."""

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Keep the result of the best evaluation with all its boxes, which a report draws."""
        if record.best and self._latest:
            self._kept = {record.step: self._latest}

    def close(self) -> None:
        """Nothing."""

    def kept(self, best: Best) -> EvalResult | None:
        """The whole result of the best evaluation, if this session made it."""
        return self._kept.get(best.step)

    def of_file(self, path: Path, network: nn.Module) -> EvalResult:
        """The result of a weights file, by this process alone.

        Args:
            path: the file.
            network: of the same kind; gets its numbers.
        """
        load_state(network, read_state(path), path)
        return self._result(network.eval())

    def _result(self, network: nn.Module, world: World = ALONE) -> EvalResult:
        assert isinstance(network, Network)
        assert isinstance(self._config.batch_size, int)
        return evaluate_network(
            network,
            self._spec,
            self.images,
            batch_size=self._config.batch_size,
            nms_iou=self._config.nms_iou,
            agnostic=self._config.agnostic,
            max_detections=self._config.max_detections,
            top_k=self._config.top_k,
            iou=self._config.iou,
            strict=self._config.strict,
            use_difficult=self._config.use_difficult,
            views=self._views,
            sharing=world,
        )
