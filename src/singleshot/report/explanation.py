"""``explain``: one image through a detector's algorithm, drawn: default boxes, matching and mining, heads to boxes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import check_output
from singleshot.core.lazy import require_torch
from singleshot.core.structures import Sample
from singleshot.data import DetectionDataset
from singleshot.data.dataset import check_open
from singleshot.data.opening import open as open_dataset
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, DataError, OutputError
from singleshot.images.read import IMAGE_SUFFIXES, check_rgb, read_image, write_image
from singleshot.prediction.settings import check_score
from singleshot.report.explanation_parts import Heads, default_boxes_part, detection_part, matching_part
from singleshot.report.page import Figure, Figures, Section, write_page

PAGE = "explain.html"
PICTURES = ("default_boxes", "matching", "detection")
"""What may be drawn; files have these names. ``matching`` needs labels."""

FEW_OBJECTS = range(2, 7)
"""An image with so many objects is chosen from a data set: more would hide each other's anchors."""


@dataclass(frozen=True)
class Explanation:
    """How a detector sees one image.

    Attributes:
        title: which detector, which image.
        pictures: by name (`PICTURES`), RGB ``[H, W, 3]`` uint8.
        numbers: ``anchors``, ``candidates``, ``detections``; of a labelled image also ``objects``, ``positives``,
            ``forced`` (of the positives), ``eligible`` and ``negatives``.
        sections: of the page: the pictures with text and tables.
        sources: files that were read.
    """

    title: str
    pictures: Mapping[str, NDArray[np.uint8]]
    numbers: Mapping[str, int]
    sections: Sequence[Section]
    sources: tuple[Path, ...] = ()

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write one PNG per picture and ``explain.html``, which holds them all.

        Args:
            out: the folder; made if it is missing.
            overwrite: replace these files where the folder has them already.

        Returns:
            The page's path.

        Raises:
            OutputError: the folder has one of these files already; nothing is written.
            MissingExtraError: jinja2 is not installed; the pictures are written before.
        """
        folder = check_explanation(out, overwrite=overwrite, sources=self.sources)
        for name, picture in self.pictures.items():
            write_image(folder / f"{name}.png", picture)
        return write_page(folder / PAGE, "How the detector works", self.sections, subtitle=self.title)


def check_explanation(
    out: str | os.PathLike[str], *, overwrite: bool = False, sources: Sequence[str | os.PathLike[str]] = ()
) -> Path:
    """Refuse a folder where `Explanation.save` would replace a file.

    Raises:
        OutputError: names the file.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file: name a folder")
    for name in (*(f"{picture}.png" for picture in PICTURES), PAGE):
        check_output(folder / name, overwrite=overwrite, sources=sources)
    return folder


def explain(
    source: DetectionDataset | NDArray[np.uint8] | str | os.PathLike[str],
    model: Detector | str | os.PathLike[str] = "coco",
    *,
    image: str | None = None,
    split: str | None = None,
    score: float | None = None,
) -> Explanation:
    """Draw what happens to one image: its default boxes, which of them learn what, and how boxes come of scores.

    Matching and mining are those of training with its default settings, without augmentation; they are drawn where the
    image has labels, whatever their classes. How hard a negative is, the detector's scores decide.

    Args:
        source: a photo (a file, or an RGB array ``[H, W, 3]`` uint8), or a labelled data set or its path.
        model: a detector, a weights file, or ``coco``.
        image: name of the data set's image; by default the first with two to six objects.
        split: where to look for it, when ``source`` is a path; everywhere by default.
        score: candidates score more; the model's own by default.

    Raises:
        DataError: the data cannot be read, or has no such image.
        ImageError: the image cannot be read.
        ConfigError: ``image`` or ``split`` are given with a photo, ``split`` with an open data set, or a setting makes
            no sense.
        WeightsError: the model cannot be read.
    """
    require_torch("explaining a detection")
    if score is not None:
        check_score(score)
    detector = model if isinstance(model, Detector) else load(model)
    score = detector.spec.default_score if score is None else score
    pixels, sample, names = _open(source, image, split)
    heads = Heads.of(detector, pixels)
    pictures, numbers, sections = {}, {"anchors": len(heads.anchors)}, []
    parts = [("default_boxes", default_boxes_part(detector, heads, pixels))]
    if sample is not None:
        parts.append(("matching", matching_part(detector, heads, pixels, sample, names)))
    parts.append(("detection", detection_part(detector, heads, pixels, score)))
    for name, part in parts:
        pictures[name] = part.picture
        numbers |= part.numbers
        figures = Figures([Figure(part.picture, part.section.title)])
        sections.append(Section(part.section.title, [part.section.blocks[0], figures, *part.section.blocks[1:]]))
    path = sample.image_path if sample is not None else Path(source) if isinstance(source, str | os.PathLike) else None
    height, width = pixels.shape[:2]
    title = f"{detector.spec.name} on {path.name if path else 'an image'} ({width} x {height})"
    return Explanation(title, pictures, numbers, sections, (path,) if path else ())


def _open(
    source: DetectionDataset | NDArray[np.uint8] | str | os.PathLike[str], image: str | None, split: str | None
) -> tuple[NDArray[np.uint8], Sample | None, tuple[str, ...]]:
    """Pixels, labels where there are some, and the names of their classes."""
    if isinstance(source, DetectionDataset):
        check_open(split=split)
    if isinstance(source, str | os.PathLike) and (
        Path(source).suffix.lower() not in IMAGE_SUFFIXES or os.path.isdir(source)
    ):
        source = open_dataset(Path(source), split)
    if isinstance(source, DetectionDataset):
        sample = _choose(source, image)
        return read_image(sample.image_path), sample, source.class_map.names
    for name, value in (("image", image), ("split", split)):
        if value is not None:
            raise ConfigError(f"{name}: '{value}' chooses from a data set, but a photo was given: leave it out")
    return (check_rgb(source) if isinstance(source, np.ndarray) else read_image(source)), None, ()


def _choose(dataset: DetectionDataset, image: str | None) -> Sample:
    """The image of a name, or one that shows well.

    Raises:
        DataError: there is none.
    """
    if image is None:
        if not len(dataset):
            raise DataError(f"{dataset.path}: has no usable images")
        few = next((sample for sample in dataset if len(sample) in FEW_OBJECTS), None)
        return few or next((sample for sample in dataset if len(sample)), dataset[0])
    for sample in dataset:
        if image in (str(sample.image_path), sample.image_path.name, sample.image_path.stem, str(sample.image_id)):
            return sample
    near = difflib.get_close_matches(image, [sample.image_path.name for sample in dataset], n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"the first is {dataset[0].image_path.name}" * bool(dataset)
    raise DataError(f"{dataset.path}: has no image '{image}'; {hint}")
