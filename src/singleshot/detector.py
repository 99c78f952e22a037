"""`Detector`: a description, its numbers, and everything to use them. `load` gives one."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast, overload

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import check_output
from singleshot.core.lazy import lazy_module, require_torch
from singleshot.core.once import away_from_fork
from singleshot.core.settings import PostprocessConfig
from singleshot.core.sizes import parse_size
from singleshot.core.wording import counted
from singleshot.errors import ConfigError
from singleshot.export.readers import ExportedFile, is_foreign_tflite, no_network, read_exported
from singleshot.export.writers import ExportWish
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import MAX_PIXELS, check_rgb, read_image
from singleshot.models.config import ModelSpec
from singleshot.prediction.detections import Detections
from singleshot.prediction.export import Exported, export_detector
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.inputs import images_of
from singleshot.prediction.live import LiveConfig, Policy
from singleshot.prediction.pipeline import Predictor
from singleshot.prediction.settings import check_score, check_whole, choose_postprocess, class_ids_of
from singleshot.prediction.streams import stream_results
from singleshot.prediction.video import FrameChoice
from singleshot.prediction.view_settings import view_plan
from singleshot.prediction.views import OVERLAP, ViewPlan
from singleshot.runtime.base import Backend, EngineBackend
from singleshot.runtime.choose import COMPILE_FROM
from singleshot.runtime.engines import Engines
from singleshot.runtime.registry import Wish
from singleshot.weights.file import is_weights_file, read_spec, save_weights
from singleshot.weights.find import find_weights

if TYPE_CHECKING:
    import PIL.Image as pillow
    import torch

    import singleshot.models.network as networks
else:
    networks = lazy_module("singleshot.models.network")
    pillow = lazy_module("PIL.Image")
    torch = lazy_module("torch")

PathLike = str | os.PathLike[str]
ImageLike = PathLike | NDArray[np.uint8]
Classes = Collection[str | int] | str | int


_log = logging.getLogger(__name__)

# On a CPU one image at a time is quickest: the maps of more leave its caches (SSDLite: 32 ms an image at 1, 59 at 8).
BATCH_SIZE = 1


class How(TypedDict, total=False):
    """The options of `Detector.predict`, which explains them."""

    nms_iou: float | None
    max_detections: int | None
    agnostic: bool
    top_k: int | None
    classes: Classes | None
    clip: bool | None
    batch_size: int
    backend: str
    precision: str
    device: str
    compile: bool


class Detector:
    """A detector that is ready to use.

    Args:
        spec: everything besides the numbers.
        weights: the network's state, a weights file that holds it (read when it is first needed), or an exported file.
    """

    def __init__(self, spec: ModelSpec, weights: Mapping[str, torch.Tensor] | Path | ExportedFile) -> None:
        self.spec = spec
        self._engines = Engines(spec, weights)

    def __repr__(self) -> str:
        height, width = self.spec.preprocess.size_hw
        return f"Detector({self.spec.name}, {counted(len(self.class_names), 'class')}, input {width} x {height})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by class id."""
        return self.spec.class_names

    @property
    def network(self) -> networks.Network:
        """The torch module, in eval mode on the CPU: ``[B, 3, H, W]`` preprocessed -> ``HeadOutput``.

        It may be changed: later predictions notice that and run it as it then is (see `refresh`).

        Raises:
            WeightsError: the weights are damaged or do not fit.
            ConfigError: it is an exported file, which has none.
        """
        self._check_network("the network")
        return self._engines.network(shared=True)

    @property
    def exported(self) -> ExportedFile | None:
        """The exported file that it is, without a network; ``None`` where it is made of weights."""
        return self._engines.file

    def refresh(self) -> None:
        """Prepare the network anew for the next prediction, and free what was compiled.

        Only needed after very few numbers of `network` were written by way of ``.data`` or NumPy: all else is noticed.
        """
        self._engines.refresh()

    def anchors(self, size_hw: tuple[int, int] | None = None) -> torch.Tensor:
        """Default boxes for an input size (the detector's own by default): cxcywh in its pixels, ``[A, 4]``."""
        self._check_network("a tensor of default boxes")
        require_torch("a tensor of default boxes")
        from singleshot.models.build import build_anchors

        return away_from_fork(lambda: build_anchors(self.spec, self._engines.network(), size_hw))

    def preprocess(self, image: ImageLike) -> torch.Tensor:
        """What the network sees of an image.

        Args:
            image: RGB array ``[H, W, 3]`` uint8, or a file.

        Returns:
            ``[3, height, width]`` float32.

        Raises:
            ImageError: it cannot be read, or is no such array.
        """
        require_torch("a tensor")
        import torch

        pixels = check_rgb(image) if isinstance(image, np.ndarray) else read_image(image)
        return torch.from_numpy(preprocess_image(pixels, self.spec.preprocess))

    @overload
    def predict(
        self, source: NDArray[np.uint8] | pillow.Image | torch.Tensor, score: float | None = ..., **how: Unpack[How]
    ) -> Detections: ...

    @overload
    def predict(
        self, source: PathLike, score: float | None = ..., **how: Unpack[How]
    ) -> Detections | list[Detections]: ...

    @overload
    def predict(
        self, source: list[Any] | tuple[Any, ...] | Iterator[Any], score: float | None = ..., **how: Unpack[How]
    ) -> list[Detections]: ...

    def predict(
        self,
        source: Any,
        score: float | None = None,
        *,
        nms_iou: float | None = None,
        max_detections: int | None = None,
        agnostic: bool = False,
        top_k: int | None = None,
        classes: Classes | None = None,
        clip: bool | None = True,
        batch_size: int = BATCH_SIZE,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        compile: bool = False,
    ) -> Detections | list[Detections]:
        """Detect objects.

        Args:
            source: an image file, an RGB array ``[H, W, 3]`` uint8 (OpenCV's BGR wants ``[..., ::-1]`` first), a Pillow
                image or a torch tensor ``[3, H, W]`` (uint8, or floating in 0..1); a list, or any other iterable, of
                these; or a folder or glob.
            score: least confidence; the model's own (``spec.default_score``, mostly 0.3) by default.
            nms_iou: overlap above which the weaker of two boxes of a class goes; the model's own by default.
            max_detections: most objects per image; the model's own by default.
            agnostic: whether the weaker of two boxes goes whatever their classes.
            top_k: candidates of a class that enter NMS (MXNet's models: of an image); the model's own by default.
            classes: names or ids of the classes to report; ``None`` reports all.
            clip: whether boxes end at the picture; ``None`` does as the model's own system does (ssd.pytorch's does not
                clip).
            batch_size: images that the network sees at once.
            backend, precision: what runs the network (docs/backends.md); ``auto`` takes the fastest that is there.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; other than the CPU with torch only. ``auto`` takes
                a GPU that torch sees.
            compile: have ``torch.compile`` make the network faster, which takes it some time before the first image.

        Returns:
            `Detections` for one image; a list of them, in order, for a list, folder or glob.

        Raises:
            ImageError: an image cannot be read. (`singleshot predict` skips it and goes on.)
            ConfigError: a threshold or size that makes no sense.
        """
        images, one = images_of(source)
        predictor = self.predictor(
            score,
            nms_iou=nms_iou,
            max_detections=max_detections,
            agnostic=agnostic,
            top_k=top_k,
            classes=classes,
            clip=clip,
            backend=backend,
            precision=precision,
            device=device,
            compile=compile,
            images=len(images) if isinstance(images, list) else None,
        )
        found = []
        for result in predictor.stream(images, 1 if one else batch_size):
            if isinstance(result, Failure):
                raise result.error
            # Of a stream nothing is held on to, or it would fill the memory.
            keep = result.detections.path is None and isinstance(images, list)
            found.append(replace(result.detections, image=result.frame.pixels) if keep else result.detections)
        return found[0] if one else found

    def stream(
        self,
        source: Any,
        score: float | None = None,
        *,
        every: int = 1,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        max_frames: int | None = None,
        live: str = "latest",
        track: bool = False,
        tile: int | str | None = None,
        overlap: float = OVERLAP,
        merge: str = "nms",
        augment_test: str | None = None,
        tell: Callable[[str], object] = warnings.warn,
        **how: Unpack[How],
    ) -> Iterator[Prediction]:
        """Detect in a video, a camera or a stream, frame by frame: ``for frame, found in model.stream("clip.mp4")``.

        Args:
            source: a video file; an address (``rtsp://``, ``http://``); ``0`` for the first camera; a list of streams,
                which are looked at side by side; or images as in `predict`.
            score: least confidence, as in `predict`; with ``track`` weaker detections of followed objects are reported,
                too.
            every, fps: each ``every``-th frame, or so many a second.
            start, end: part of a video, in seconds.
            max_frames: end after so many.
            live: of streams: ``latest`` gives the newest frame and drops those in between, ``all`` gives every one.
            track: whether objects are followed: `Detections.track_ids`.
            tile, overlap, merge, augment_test: as ``predict --tile`` (docs/small-objects.md).
            tell: is told, a line each, what is damaged, and that a stream stalls, ends or is back.
            how: as in `predict`.

        Returns:
            A `Prediction` for each frame, as they come. What cannot be read is told and left out.

        Raises:
            ImageError: the source cannot be opened.
            MissingExtraError: PyAV is not installed.
            ConfigError: a setting that makes no sense.
        """
        batch_size = how.pop("batch_size", BATCH_SIZE)
        views = view_plan(tile, overlap, merge, augment_test, how.get("agnostic", False), self.spec, tell)
        return stream_results(
            lambda least: self.predictor(least, views=views, **how),  # type: ignore[misc]
            source,
            FrameChoice(every, fps, start, end, max_frames),
            LiveConfig(cast(Policy, live)),
            score=self.spec.default_score if score is None else score,
            track=track,
            batch_size=batch_size,
            tell=tell,
        )

    def predictor(
        self,
        score: float | None = None,
        *,
        nms_iou: float | None = None,
        max_detections: int | None = None,
        agnostic: bool = False,
        top_k: int | None = None,
        classes: Classes | None = None,
        clip: bool | None = True,
        max_pixels: int | None = MAX_PIXELS,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        compile: bool = False,
        images: int | None = None,
        views: ViewPlan | None = None,
    ) -> Predictor:
        """The stages of `predict` for streams of any length: ``for result in detector.predictor().stream(paths)``.

        Args:
            score, nms_iou, max_detections, agnostic, top_k, classes, clip, backend, precision, device, compile: as in
                `predict`.
            max_pixels: larger images are refused.
            images: how many there will be, where that is known: 1 is computed for the shortest latency, and few are
                not worth a conversion of the network.
            views: how each picture is looked at (tiles, mirrored); by default once, as a whole.
        """
        is_long = images is not None and images >= COMPILE_FROM
        wish = Wish(backend, precision, images != 1, is_long, device, compile)
        if max_pixels is not None:
            check_whole(max_pixels, "max_pixels")
        kept = None if classes is None else tuple(class_ids_of(classes, self.class_names))
        settings = choose_postprocess(
            self.spec.postprocess,
            self.spec.default_score if score is None else score,
            nms_iou,
            max_detections,
            agnostic=agnostic,
            top_k=top_k,
            some_classes=kept is not None,
            clip=clip,
        )
        runner = self._backend(wish, settings)
        return Predictor(
            runner,
            self.spec.preprocess,
            self.class_names,
            self.spec.class_ids,
            max_pixels,
            getattr(runner, "parallel", 1),
            kept_ids=kept,
            most=self.spec.postprocess.max_detections if max_detections is None else max_detections,
            views=views or ViewPlan(),
            takes_pictures=getattr(runner, "takes_pictures", False),
        )

    def resized(self, size: int | str | Sequence[int]) -> Detector:
        """The same detector for another input size; its default boxes grow with the input.

        Args:
            size: a side, HEIGHTxWIDTH or (height, width), in pixels.

        Raises:
            ConfigError: that is no size, or the network cannot have it.
            WeightsError: the weights are damaged or do not fit.
        """
        self._check_network(f"`size={size}`")
        preprocess = self.spec.preprocess.model_copy(update={"size_hw": parse_size(size)})
        spec = self.spec.model_copy(update={"preprocess": preprocess})
        detector = Detector(spec, away_from_fork(lambda: self._engines.network().state_dict()))
        try:
            detector.anchors()
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"`size={size}`: {self.spec.name} cannot have it: {error}") from error
        return detector

    def save(self, path: PathLike) -> Path:
        """Write a weights file that `load` reads; an older one is replaced.

        Raises:
            OutputError: another file of that name exists: a photo, a checkpoint of another system.
        """
        self._check_network("saving")
        check_output(path, overwrite=is_weights_file(Path(path)))
        return away_from_fork(lambda: save_weights(Path(path), self.spec, self._engines.network().state_dict()))

    def export(
        self,
        out: PathLike | None = None,
        *,
        format: str = "onnx",
        level: str | None = None,
        dynamic: bool = False,
        layout: str | None = None,
        precision: str | None = None,
        score: float | None = None,
        verify: bool = True,
        images: PathLike | Sequence[PathLike] | None = None,
        overwrite: bool = False,
        note: Callable[[str], object] = warnings.warn,
    ) -> Exported:
        """Write the detector as a file that runs without singleshot, and see that it finds the same (docs/export.md).

        Args:
            out: the file; by default beside the weights, or ``NAME.onnx`` here.
            format: ``onnx``, ``openvino`` ...: a name of `WRITERS`.
            level: ``raw`` heads, ``decoded`` boxes, or pictures to detections (``end2end``); by default the most that
                the format holds.
            dynamic: whether pictures of any size go in (``end2end``); else they have the network's input size.
            layout: of the pictures: ``nhwc`` (the default) or ``nchw``.
            precision: of the weights: ``fp32``, ``fp16``, or ``int8`` from the file that ``quantize`` made.
            score: least score of a detection (``end2end``); the model's own by default.
            verify: run the file and the detector on pictures, and compare; what differs is an error.
            images: the pictures, as files, folders, globs; by default photos that are installed, or made ones.
            overwrite: replace a file that is there.
            note: is told what is worth a line.

        Raises:
            ConfigError: settings that make no sense, or a detector that the format cannot carry; says why.
            MissingExtraError: a package that the format needs is not installed.
            OutputError: the file exists and may not be replaced.
            ImageError: none of the pictures can be read.
            WeightsError: the file does not find what the detector finds. Nothing is left behind.
        """
        self._check_network("exporting")
        wish = ExportWish(format, level, layout, dynamic, precision, None if score is None else check_score(score))
        source = self._engines.source()
        return export_detector(source, out, wish, verify=verify, images=images, overwrite=overwrite, note=note)

    def _check_network(self, purpose: str) -> None:
        """Refuse what an exported file cannot be used for.

        Raises:
            ConfigError: it is one.
        """
        if self._engines.file is not None:
            raise ConfigError(no_network(self._engines.file.path, purpose))

    def _backend(self, wish: Wish, settings: PostprocessConfig) -> Backend:
        return EngineBackend(self._engines.open(wish), settings)


def load(model: PathLike = "coco") -> Detector:
    """Load a detector.

    Args:
        model: name of bundled weights (``coco``, ``coco-v3``), a weights file of singleshot, or an exported file: an
            ONNX file, OpenVINO's ``.xml`` ... (docs/backends.md). Which it is, its content tells. A TFLite graph of
            another system is converted, where `import_weights` knows it.

    Raises:
        WeightsError: no such name or file, or the file is damaged or foreign.
    """
    path = find_weights(model)
    if is_foreign_tflite(path):
        return _converted(path)
    file = read_exported(path)
    if file is None:
        return Detector(read_spec(path), path)
    for line in file.notes:
        _log.warning(line)
    return Detector(file.spec, file)


def _converted(path: Path) -> Detector:
    """A graph of another system as a network in memory; says what it was taken for."""
    require_torch("reading another system's weights")
    from singleshot.interop.read import read_foreign

    spec, state, report = read_foreign(path, "tflite")
    kept = f"{path}: of another system, converted in memory: 'singleshot import {path}' keeps what it becomes"
    for line in (kept, *report.notes):
        _log.warning(line)
    return Detector(spec, state)


def import_weights(
    path: PathLike,
    source: str = "auto",
    out: PathLike | None = None,
    *,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    scale: float | None = None,
    size: int | str | Sequence[int] | None = None,
    overwrite: bool = False,
) -> Detector:
    """Load weights of another system.

    Args:
        path: its file or folder.
        source: which system; ``auto`` finds out.
        out: also write them as a weights file of singleshot.
        classes: names of the classes without background; by default what their number is known to mean (20: VOC;
            80 and COCO's 90 ids: COCO), else ``class_1``, ...
        mean: what to subtract from pixels of 0..255, in the network's channel order; by default the system's.
        scale: what to multiply pixels with after that; by default the system's.
        size: the network's input, for files that do not tell it (MXNet's): a side, HEIGHTxWIDTH or (height, width).
        overwrite: ``out`` may be an existing file, though never the one that is read.

    Raises:
        WeightsError: not recognised, damaged, or incomplete.
        OutputError: ``out`` is the checkpoint, or exists and may not be replaced.
    """
    require_torch("reading another system's weights")
    from singleshot.interop.read import read_foreign

    if out is not None:
        check_output(out, overwrite=overwrite, sources=[path])
    spec, state, _ = read_foreign(Path(path), source, classes, mean, scale, None if size is None else parse_size(size))
    detector = Detector(spec, state)
    if out is not None:
        detector.save(out)
    return detector
