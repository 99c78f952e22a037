"""The options of ``singleshot predict`` that decide what is found, and the predictor that they ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from singleshot.cli.predict_output import note, status
from singleshot.core.lazy import lazy_module

if TYPE_CHECKING:
    import singleshot.client as clients
    import singleshot.client.remote as remotes
    import singleshot.detector as detectors
    import singleshot.prediction.pipeline as pipelines
else:
    clients, remotes = lazy_module("singleshot.client"), lazy_module("singleshot.client.remote")
    detectors = lazy_module("singleshot.detector")
    pipelines = lazy_module("singleshot.prediction.pipeline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How images are looked at: options of the verb by their names."""

    model: str | None
    score: float | None
    nms_iou: float | None
    max_detections: int | None
    classes: list[str] | None
    agnostic: bool
    top_k: int | None
    clip: bool
    size: str | None
    max_pixels: int
    batch_size: int
    backend: str
    precision: str
    device: str
    compile: bool
    tile: str | None
    overlap: float
    merge: str
    augment_test: str | None
    opened: detectors.Detector | None = field(default=None, repr=False)
    """The detector, where the model's own score was asked for: it is opened once."""

    def check(self) -> None:
        """Refuse, before anything is loaded, what makes no sense.

        Raises:
            ConfigError: a value that does not.
        """
        from singleshot.core.sizes import parse_batch_size
        from singleshot.prediction.settings import check_score

        if self.score is not None:
            check_score(self.score)
        parse_batch_size(self.batch_size)

    def only_here(self) -> list[str]:
        """The options that were given and that a service does not take."""
        given = {
            "agnostic": self.agnostic, "batch_size": self.batch_size != 1, "backend": self.backend != "auto",
            "precision": self.precision != "auto", "device": self.device != "auto", "compile": self.compile,
            "size": self.size, "top_k": self.top_k is not None, "clip=False": not self.clip, "tile": self.tile,
            "augment_test": self.augment_test,
        }  # fmt: skip
        return [name for name, is_given in given.items() if is_given]

    def completed(self, client: clients.Client | None) -> Look:
        """The same with the model and the score that nobody named."""
        model = self.model if client is not None else self.model or "coco"
        if self.score is not None:
            return replace(self, model=model)
        if client is not None:
            return replace(self, model=model, score=_score_of(client, model))
        opened = detectors.load(model or "coco")
        return replace(self, model=model, score=opened.spec.default_score, opened=opened)

    @property
    def least(self) -> float:
        """The score of a completed one."""
        assert self.score is not None
        return self.score

    def how(self) -> dict[str, Any]:
        """What a run shares with the one that it continues."""
        names = (
            *("model", "score", "nms_iou", "classes", "agnostic", "max_detections", "top_k"),
            *("size", "tile", "overlap", "merge", "augment_test", "clip", "precision"),
        )
        return {name: getattr(self, name) for name in names}

    def recipe(self, detect_from: float, images: int | None) -> Callable[[], pipelines.Predictor]:
        """What makes the predictor, here or in another process.

        Args:
            detect_from: least score of what is looked at.
            images: how many there are; ``None`` where that is not known.
        """
        from singleshot.prediction.view_settings import view_plan

        detector = self.opened or detectors.load(self.model or "coco")
        if self.size is not None:
            detector = detector.resized(self.size)
        return partial(
            detector.predictor,
            detect_from,
            nms_iou=self.nms_iou,
            max_detections=self.max_detections,
            agnostic=self.agnostic,
            top_k=self.top_k,
            classes=chosen_classes(self.classes, detector.class_names),
            clip=self.clip,
            max_pixels=self.max_pixels,
            backend=self.backend,
            precision=self.precision,
            device=self.device,
            compile=self.compile,
            images=images,
            views=view_plan(self.tile, self.overlap, self.merge, self.augment_test, self.agnostic, detector.spec, note),
        )

    def predictor(self, detect_from: float, images: int | None) -> pipelines.Predictor:
        """What detects in this process; as `recipe`."""
        make = self.recipe(detect_from, images)
        with status("Getting the network ready (a conversion is made once, and kept) ..."):
            return make()

    def weights_digest(self) -> str:
        """What tells one weights file from another of its name."""
        from singleshot.weights.find import find_weights

        with find_weights(self.model or "coco").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def remote(self, client: clients.Client, detect_from: float) -> remotes.RemotePredictor:
        """What has a service detect."""
        from singleshot.client.calls import Wanted

        wanted = Wanted(self.model, detect_from, self.nms_iou, self.max_detections)
        return remotes.connect(client, wanted, lambda names: chosen_classes(self.classes, names), self.max_pixels)


def connection(server: str | None, token_file: Path | None, only_here: Sequence[str]) -> clients.Client | None:
    """The client of ``--server``; refuses what a service would not do.

    Raises:
        ConfigError: a token without a server, or options of this machine.
    """
    from singleshot.errors import ConfigError

    if server is None:
        if token_file is not None:
            raise ConfigError("`token_file` is of a `server`: name one")
        return None
    if only_here:
        raise ConfigError(f"`{only_here[0]}` is decided by the `server`, where the network runs: leave it out")
    from singleshot.serving.options import LOOPBACK
    from singleshot.serving.token import read_token

    client = clients.Client(server, None if token_file is None else read_token(token_file).get_secret_value())
    address = urlsplit(server)
    if token_file is not None and address.scheme == "http" and address.hostname not in LOOPBACK:
        note(f"the token goes to {address.hostname} as it is: whoever is on the way can read it (https hides it)")
    return client


def _score_of(client: clients.Client, model: str | None) -> float:
    """What a service takes as the least score; of a model that it has not, `connect` says so."""
    return next((served.score for served in client.models() if model in (None, served.name)), 0.0)


def chosen_classes(options: Sequence[str] | None, class_names: Sequence[str]) -> list[str | int] | None:
    """Names, or ids that are no names, from ``person,dog``; a name may hold a comma.

    Raises:
        ConfigError: there is none.
    """
    from singleshot.errors import ConfigError

    if not options:
        return None
    words = [
        word
        for option in options
        for word in ([option] if option in class_names else (part.strip() for part in option.split(",")))
        if word
    ]
    if not words:
        raise ConfigError("--classes names no class (an unset variable?): leave it out for all classes")
    return [int(word) if word.isdecimal() and word not in class_names else word for word in words]
