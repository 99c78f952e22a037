"""Detections as labels, beside a copy of every picture: a data set that can be corrected and learnt from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar, Self

import yaml

from singleshot.core.structures import Sample
from singleshot.data.formats.writers import voc_xml, yolo_text
from singleshot.images.read import write_image
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.output_names import UniqueNames, safe_name
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.sinks.base import path_of


class LabelSink:
    """A folder that `singleshot data check` reads: pictures, labels, names of the classes."""

    resumes: ClassVar[bool] = True

    top: ClassVar[str]
    images: ClassVar[str]
    labels: ClassVar[str]

    def __init__(self, run: Run) -> None:
        self._run = run
        self._names = UniqueNames()

    def __enter__(self) -> Self:
        for name in (self.images, self.labels):
            (self._run.folder.path / self.top / name).mkdir(parents=True, exist_ok=True)
        self._write(Path(self.classes_file), self._classes_text())
        for image, error in self._run.folder.journal.done_in(self.top).items():
            if not error:
                self._stem(Path(image), is_file=True)  # its name is taken
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, prediction: Prediction) -> None:
        """Add a picture and its labels."""
        picture = self._picture(prediction)
        sample = as_sample(prediction.detections)
        self._write(Path(self.labels) / f"{picture.stem}{self.suffix}", self._text(sample, picture.name))

    def fail(self, failure: Failure) -> None:
        """A file that cannot be read has no labels."""

    classes_file: ClassVar[str]
    suffix: ClassVar[str]

    def _classes_text(self) -> str:
        raise NotImplementedError

    def _text(self, sample: Sample, picture: str) -> str:
        raise NotImplementedError

    def _write(self, relative: Path, text: str) -> None:
        self._run.folder.claim(Path(self.top) / relative).write_text(text, encoding="utf-8")

    def _picture(self, prediction: Prediction) -> Path:
        """Copy the picture under a name whose stem no other has."""
        frame = prediction.frame
        path = path_of(prediction)
        suffix = path.suffix.lower() if frame.is_file else ".jpg"
        stem = self._stem(path, is_file=frame.is_file)
        target = self._run.folder.claim(Path(self.top) / self.images / f"{stem}{suffix}")
        if frame.path is not None and frame.path.is_file():
            shutil.copyfile(frame.path, target)
        else:
            write_image(target, frame.pixels)
        return target

    def _stem(self, path: Path, *, is_file: bool) -> Path:
        place = self._run.names.relative(path)
        own = place.stem if is_file else place.name
        return self._names.take(Path(safe_name("_".join((*place.parent.parts, own)))))


def as_sample(found: Detections) -> Sample:
    """Detections as a labelled image; boxes end at the picture, and those without area are left out."""
    height, width = found.image_size_hw
    boxes = found.boxes_xyxy.clip(0, (width, height, width, height))
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Sample(found.path or Path(), (height, width), boxes[kept], found.class_ids[kept])


class YoloSink(LabelSink):
    """``images/``, ``labels/`` and ``data.yaml``."""

    top, images, labels, classes_file, suffix = "yolo", "images", "labels", "data.yaml", ".txt"

    def _classes_text(self) -> str:
        settings = {"train": "images", "names": dict(enumerate(self._run.class_names))}
        return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))

    def _text(self, sample: Sample, picture: str) -> str:
        return yolo_text(sample)


class VocSink(LabelSink):
    """``JPEGImages/``, ``Annotations/`` and ``classes.txt``."""

    top, images, labels, classes_file, suffix = "voc", "JPEGImages", "Annotations", "classes.txt", ".xml"

    def _classes_text(self) -> str:
        return "".join(f"{name}\n" for name in self._run.class_names)

    def _text(self, sample: Sample, picture: str) -> str:
        return voc_xml(sample, picture, self._run.class_names)


SINKS.register("yolo")(YoloSink)
SINKS.register("voc")(VocSink)
