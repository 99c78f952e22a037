"""First stage: the bundled detector on photos that scikit-image ships."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from singleshot.core.lazy import lazy_module
from singleshot.demo.common import DemoContext, StageResult
from singleshot.errors import MissingExtraError
from singleshot.images.read import read_image
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Prediction
from singleshot.prediction.output_folder import holds_results
from singleshot.prediction.sinks import open_sinks
from singleshot.report.page import Figure, Figures, Section, Table, Text, Tile, Tiles

if TYPE_CHECKING:
    import singleshot.prediction.pipeline as pipeline
    import singleshot.report.page as page
else:
    page = lazy_module("singleshot.report.page")
    pipeline = lazy_module("singleshot.prediction.pipeline")


TIMED_RUNS = 5
TIMED_STAGES = ("decode", "preprocess", "network", "postprocess")


class SamplePhoto(NamedTuple):
    """A photo in scikit-image's package, free of copyright (see NOTICE)."""

    file: str
    credit: str


SAMPLE_PHOTOS = (
    SamplePhoto("astronaut.png", "Eileen Collins. NASA, public domain"),
    SamplePhoto("chelsea.png", "Chelsea the cat. Stefan van der Walt, CC0"),
    SamplePhoto("coffee.png", "Rachel Michetti, CC0"),
    SamplePhoto("camera.png", "A gray-level photo. Lav Varshney, CC0"),
    SamplePhoto("rocket.jpg", "No object of the 80 classes. SpaceX, public domain"),
)


@dataclass(frozen=True, slots=True)
class _Timed:
    """One photo's detections, and the median milliseconds of each stage."""

    photo: SamplePhoto
    detections: Detections
    stages_ms: tuple[float, ...]

    @property
    def found(self) -> str:
        counts = Counter(self.detections.names)
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"


def detect_photos(context: DemoContext) -> StageResult:
    """Detect in the sample photos; write pictures, JSON and the report's part.

    Raises:
        MissingExtraError: scikit-image, which ships the photos, is not installed.
    """
    from singleshot.kernels import prepare

    folder = photo_folder()
    photos = [photo for photo in SAMPLE_PHOTOS if (folder / photo.file).exists()]
    context.say(f"[bold]Detecting[/bold] in {len(photos)} photos with the bundled detector (COCO, 80 classes)")
    prepare()
    first_s, _ = _load()
    load_s, predictor = _load()
    write_results(context.out, [folder / photo.file for photo in photos], predictor)
    timed = [_time(predictor, folder / photo.file, photo) for photo in photos]
    for row in timed:
        context.say(f"  {row.photo.file}: {row.found} ({sum(row.stages_ms):.0f} ms)")
    return StageResult(
        sections=[_photo_section(context.out, timed), _time_section(timed, first_s, load_s, predictor.backend.name)],
        files=[context.out / "images", context.out / "detections.json"],
        commands=[
            "singleshot predict YOUR_PHOTO.jpg",
            "singleshot predict YOUR_FOLDER --recursive --score 0.5 --save images,json,csv",
            "singleshot predict --help",
        ],
    )


def _load() -> tuple[float, pipeline.Predictor]:
    """Seconds until the bundled detector has seen its first picture, and the detector."""
    from singleshot.detector import load

    start = perf_counter()
    predictor = load("coco").predictor()
    list(predictor.stream([np.zeros((480, 640, 3), np.uint8)]))
    return perf_counter() - start, predictor


def photo_folder() -> Path:
    """Where scikit-image keeps the photos of its package. It is not imported, and nothing is downloaded.

    Raises:
        MissingExtraError: it is not installed.
    """
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise MissingExtraError("scikit-image", "demo", "The demo, for its sample photos,")
    return Path(found.origin).parent / "data"


def write_results(out: Path, images: Sequence[Path], predictor: pipeline.Predictor) -> None:
    """Annotated pictures and ``detections.json``, as ``singleshot predict`` writes them, in place of former ones."""
    from singleshot.prediction.job import run_job

    labels = (predictor.class_names, predictor.category_ids)
    with open_sinks(("images", "json"), out, images, *labels, overwrite=holds_results(out)) as sinks:
        summary = run_job(predictor.stream(images), sinks, predictor.times)
    if summary.interruption:
        raise summary.interruption


def _time(predictor: pipeline.Predictor, path: Path, photo: SamplePhoto) -> _Timed:
    """Detect in one photo a few times, one image at a time; the network is warm by now."""
    runs = []
    for _ in range(TIMED_RUNS):
        before = dict(predictor.times.seconds)
        (result,) = predictor.stream([path], batch_size=1)
        runs.append([1000 * (predictor.times.seconds[stage] - before[stage]) for stage in TIMED_STAGES])
    assert isinstance(result, Prediction)
    return _Timed(photo, result.detections, tuple(median(column) for column in zip(*runs, strict=True)))


def _photo_section(out: Path, timed: Sequence[_Timed]) -> page.Section:
    figures = [Figure(read_image(out / "images" / row.photo.file), f"{row.found}. {row.photo.credit}") for row in timed]
    text = Text(
        "Boxes and scores of the bundled detector, SSDLite MobileNetV2 trained on COCO, at its standard threshold of "
        "0.3. The photos come with scikit-image."
    )
    return Section("Detect: real photos", [text, Figures(figures)])


def _time_section(timed: Sequence[_Timed], first_s: float, load_s: float, backend: str) -> page.Section:
    total_ms = median(sum(row.stages_ms) for row in timed)
    rows = [
        [
            row.photo.file,
            "{1} x {0}".format(*row.detections.image_size_hw),
            row.found,
            *row.stages_ms,
            sum(row.stages_ms),
        ]
        for row in timed
    ]
    tiles = Tiles(
        [
            Tile("one photo", f"{total_ms:.0f} ms", "from the file to its detections, median"),
            Tile("loading", f"{load_s:.1f} s", "weights, network and a first picture, once a process"),
            Tile("first start", f"{first_s:.1f} s", "loading, with Python's imports, and kernels compiled if need be"),
            Tile("backend", backend, "what ran the network"),
        ]
    )
    columns = ["photo", "pixels", "found", *(f"{stage}, ms" for stage in TIMED_STAGES), "all, ms"]
    caption = f"Milliseconds per photo, one at a time; median of {TIMED_RUNS} runs."
    return Section("Detect: time", [tiles, Table(columns, rows, caption=caption, digits=1)])
