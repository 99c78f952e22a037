"""`Client`: a detection service as seen from Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack, overload
from urllib.parse import quote, urlencode

import numpy as np
from numpy.typing import NDArray

from singleshot.client.answers import ServedModel, document_of, found_in, models_in
from singleshot.client.encoding import png_bytes
from singleshot.client.in_order import in_order
from singleshot.client.transport import Transport
from singleshot.core.lazy import lazy_module
from singleshot.errors import ServerError
from singleshot.images.read import image_bytes
from singleshot.prediction.detections import Detections
from singleshot.prediction.inputs import images_of
from singleshot.prediction.settings import check_score, check_whole

if TYPE_CHECKING:
    import PIL.Image as pillow
    import torch
else:
    pillow = lazy_module("PIL.Image")
    torch = lazy_module("torch")

PARALLEL = 8
"""Requests under way at once: more than a service computes, so that it never waits for the network."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a service for each image.

    Attributes:
        model: its name; ``None`` takes the service's first.
        score: least confidence; ``None`` leaves it to the service.
        nms_iou, max_detections: ``None`` leaves the model's.
        classes: names or ids; ``None`` reports all.

    Raises:
        ConfigError: a value that makes no sense.
    """

    model: str | None = None
    score: float | None = None
    nms_iou: float | None = None
    max_detections: int | None = None
    classes: Collection[str | int] | str | int | None = None

    def __post_init__(self) -> None:
        for name in ("score", "nms_iou"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_score(getattr(self, name), name))
        if self.max_detections is not None:
            check_whole(self.max_detections, "max_detections")

    @property
    def query(self) -> str:
        """The same as a query."""
        classes: list[str] | None = None
        if self.classes is not None:
            several = [self.classes] if isinstance(self.classes, (str, int, np.integer)) else self.classes
            classes = [str(item) for item in several] or [""]  # none at all is not all of them
        fields = {
            "model": self.model,
            "score": self.score,
            "nms_iou": self.nms_iou,
            "max_detections": self.max_detections,
            "classes": classes,
        }
        return urlencode({name: value for name, value in fields.items() if value is not None}, doseq=True)


class Asked(TypedDict, total=False):
    """The options of `Client.detect`, which explains them."""

    nms_iou: float | None
    max_detections: int | None
    classes: Collection[str | int] | str | int | None
    model: str | None


class Client:
    """A service that `singleshot serve` runs. May be used from any thread; keeps its connections.

    Args:
        url: ``http://HOST:PORT``, or ``https://`` where something in front of the service speaks that.
        token: the service's token, where it wants one.
        timeout_s: seconds that an answer may take.
        retries: further tries of a request that finds the service busy or away, after as long as the service says.
        parallel: images of a list that are sent at once.

    Raises:
        ConfigError: an address, token or number that makes no sense.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout_s: float = 30.0, retries: int = 4, parallel: int = PARALLEL
    ) -> None:
        self._transport = Transport(url, token, timeout_s, retries)
        self._parallel = check_whole(parallel, "parallel")

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The service's address."""
        return self._transport.url

    def close(self) -> None:
        """Close the connections that are kept."""
        self._transport.close()

    def ready(self, model: str | None = None) -> bool:
        """Whether the service, or one of its models, takes requests now. Asks once, whatever ``retries`` is."""
        path = "/v2/health/ready" if model is None else f"/v2/models/{quote(model, safe='')}/ready"
        try:
            return self._transport.send("GET", path, retries=0).status == 200
        except ServerError:
            return False

    def models(self) -> list[ServedModel]:
        """The service's models; the first one is asked where a request names none.

        Raises:
            ServerError: there is no service, or it refuses.
        """
        return models_in(document_of(self.url, self._transport.send("GET", "/models")), self.url)

    @overload
    def detect(
        self, image: NDArray[np.uint8] | pillow.Image | torch.Tensor, score: float | None = ..., **how: Unpack[Asked]
    ) -> Detections: ...

    @overload
    def detect(
        self, image: str | os.PathLike[str], score: float | None = ..., **how: Unpack[Asked]
    ) -> Detections | list[Detections]: ...

    @overload
    def detect(
        self, image: list[Any] | tuple[Any, ...] | Iterator[Any], score: float | None = ..., **how: Unpack[Asked]
    ) -> list[Detections]: ...

    def detect(
        self,
        image: Any,
        score: float | None = None,
        *,
        nms_iou: float | None = None,
        max_detections: int | None = None,
        classes: Collection[str | int] | str | int | None = None,
        model: str | None = None,
    ) -> Detections | list[Detections]:
        """Detect objects, as `Detector.predict` does.

        Args:
            image: an image or several, as `Detector.predict` takes them. Files are sent as they are; arrays as PNG.
            score: least confidence; the service's own by default.
            nms_iou: overlap above which the weaker of two boxes of a class goes; the model's own by default.
            max_detections: most objects per image; the model's own by default.
            classes: names or ids of the classes to report; ``None`` reports all.
            model: one of `models`; the first one by default.

        Returns:
            `Detections` for one image; a list of them, in order, for a list, folder or glob.

        Raises:
            ImageError: a file cannot be read, or an array is no image.
            ConfigError: a threshold that makes no sense.
            ServerError: there is no service, or it refuses: ``status`` 400 is about the image or a setting.
        """
        wanted = Wanted(model, score, nms_iou, max_detections, classes)
        images, one = images_of(image)
        found = list(in_order(lambda item: self._detect(item, wanted), images, 1 if one else self._parallel))
        return found[0] if one else found

    def detect_encoded(self, data: bytes, wanted: Wanted) -> Detections:
        """Detect in the bytes of an image file.

        Raises:
            ServerError: as `detect`.
        """
        headers = {
            "Content-Type": "application/octet-stream",
            # A little before nobody waits any more, so that the service's word of it comes in time.
            "X-Deadline-Ms": str(int(950 * self._transport.timeout_s)),
        }
        answer = self._transport.send("POST", f"/detect?{wanted.query}", data, headers)
        return found_in(document_of(self.url, answer), self.url)

    def _detect(self, source: Path | NDArray[np.uint8], wanted: Wanted) -> Detections:
        if isinstance(source, Path):
            return replace(self.detect_encoded(image_bytes(source), wanted), path=source)
        return replace(self.detect_encoded(png_bytes(source), wanted), image=source)
