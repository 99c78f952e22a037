"""A service in the place of a `Predictor`: the same sources, the same sinks, the same results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from singleshot.client.answers import ServedModel
from singleshot.client.calls import PARALLEL, Client, Wanted
from singleshot.client.encoding import png_bytes
from singleshot.client.in_order import in_order
from singleshot.errors import ConfigError, ImageError, ServerError
from singleshot.images.read import MAX_PIXELS, image_bytes
from singleshot.prediction.frames import Failure, Prediction, Result
from singleshot.prediction.inputs import as_iterable, is_one, load_frame
from singleshot.prediction.pipeline import StageTimes
from singleshot.prediction.settings import class_ids_of
from singleshot.prediction.views import ViewPlan

_OF_THE_IMAGE = (400, 413, 415)
"""Answers that are about one image; the settings were checked before."""


@dataclass(frozen=True, slots=True)
class RemotePredictor:
    """Detects by way of a service, several requests at once.

    Attributes:
        client: of the service.
        model: what is asked.
        wanted: thresholds, and the model's name.
        max_pixels: larger images become failures.
        parallel: requests at once.
        times: where the time goes; the service's is the network's.
        views: how a picture is looked at: as a whole.
    """

    client: Client
    model: ServedModel
    wanted: Wanted
    max_pixels: int | None = MAX_PIXELS
    parallel: int = PARALLEL
    times: StageTimes = field(default_factory=StageTimes)
    views: ViewPlan = field(default_factory=ViewPlan)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What class ids mean."""
        return self.model.class_names

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The training data's own ids by class id."""
        return self.model.category_ids

    def stream(self, sources: Iterable[Any], batch_size: int = 1, *, live: bool = False) -> Iterator[Result]:
        """Detect in any number of images, a bounded number of them under way.

        Args:
            sources: as `Predictor.stream` takes them.
            batch_size: of no meaning here: the service makes its own batches.
            live: whether nothing is read ahead.

        Returns:
            One result per source, in their order; what is no image, or is refused for itself, is a `Failure`.

        Raises:
            ServerError: the service went away, or refuses more than an image.
        """
        items = [sources] if is_one(sources) else as_iterable(sources)
        return in_order(self._detect, enumerate(items), 1 if live else self.parallel)

    def _detect(self, item: tuple[int, Any]) -> Result:
        index, source = item
        start = perf_counter()
        frame = load_frame(source, index, self.max_pixels)
        start = self.times.add("decode", start)
        if isinstance(frame, Failure):
            return frame
        try:
            data = image_bytes(frame.name) if frame.is_file else png_bytes(frame.pixels)
            start = self.times.add("preprocess", start)
            found = self.client.detect_encoded(data, self.wanted)
        except ServerError as error:
            if error.status not in _OF_THE_IMAGE:
                raise
            return Failure(frame.path, ImageError(f"{frame.name or 'an array'}: {error}"))
        except ImageError as error:
            return Failure(frame.path, error)
        finally:
            self.times.add("network", start)
        if found.class_names != self.class_names:
            raise ServerError(f"{self.client.url}: the model {self.model.name!r} was replaced by one of other classes")
        if found.image_size_hw != frame.pixels.shape[:2]:
            raise ServerError(f"{self.client.url}: reads {frame.name or 'an array'} in another size than this machine")
        return Prediction(frame, replace(found, path=frame.path))


def connect(
    client: Client,
    wanted: Wanted,
    choose: Callable[[Sequence[str]], Collection[str | int] | None] = lambda class_names: None,
    max_pixels: int | None = MAX_PIXELS,
) -> RemotePredictor:
    """Ask a service for its models, and check that it can do what is wanted.

    Args:
        client: of the service.
        wanted: thresholds, and the model's name.
        choose: the classes to report, by the names that there are; ``None`` reports all.
        max_pixels: larger images become failures.

    Raises:
        ServerError: there is no service, or it refuses.
        ConfigError: it has no such model, or the model no such class.
    """
    models = client.models()
    names = [model.name for model in models]
    if not names or (wanted.model is not None and wanted.model not in names):
        have = f"there are {', '.join(names)}" if names else "it has none now"
        raise ConfigError(f"{client.url} has no model{f' {wanted.model!r}' if wanted.model else ''}: {have}")
    model = models[0 if wanted.model is None else names.index(wanted.model)]
    classes = choose(model.class_names)
    if classes is not None:
        class_ids_of(classes, model.class_names)
    return RemotePredictor(client, model, replace(wanted, model=model.name, classes=classes), max_pixels)
