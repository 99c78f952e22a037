"""What YOLO folders and lists hold: images, and the labels of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from singleshot.core.files import read_text
from singleshot.data.bad_records import Problem, guessed_encoding
from singleshot.data.formats.yolo_labels import LabelFolders, is_other_text, label_path, looks_like_labels, read_labels
from singleshot.data.formats.yolo_names import stand_in
from singleshot.data.paths import Locator, images_below, is_possible
from singleshot.data.records import ImageRecord, Records
from singleshot.errors import DataError


@dataclass(frozen=True)
class YoloLayout:
    """YOLO on disk.

    Attributes:
        root: the folder of the data set.
        sources: folders of images and text files that list images, by split; ``""`` where there are no splits.
        names: class names by id; ``None`` where the data set does not name its classes.
        keypoints: numbers that follow each box (pose labels).
        missing: what is wrong with splits that are named but not there.
        problems: what was noted while it was recognised.
    """

    root: Path
    sources: dict[str, tuple[Path, ...]]
    names: tuple[str, ...] | None
    keypoints: int = 0
    missing: dict[str, str] | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train``."""
        return tuple(name for name in self.sources if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every source."""
        wanted = list(self.sources) if split is None else split.split("+")
        records = Records(fractions=True, forms=("centre",), states_sizes=False, problems=list(self.problems))
        labels = LabelFolders()
        first: dict[Path, Path] = {}
        sources = dict.fromkeys(source for name in wanted for source in self.sources[name])
        for source in sources:
            self._read_source(records, source, labels, first)
        folders = {source for source in sources if source.is_dir()}
        if split is None or len(folders) == len(sources):
            _report_orphans(records, labels, folders)
        names = self.names if self.names is not None else self._numbered_names(records)
        records.class_names, records.class_ids = names, tuple(range(len(names)))
        records.unnamed = self.names is None
        _report_shared_labels(records)
        _report_counting_from_one(records, self.root)
        return records

    def _read_source(self, records: Records, source: Path, labels: LabelFolders, first: dict[Path, Path]) -> None:
        """Append the images of a folder or a list."""
        start = len(records.images)
        for image, file, line in _images_of(source, self.root, records):
            if image not in first:
                first[image] = source
                _read_image(records, image, (file, line), labels, self.keypoints)
            elif first[image] == source:  # in two sources it is no mistake: splits may overlap
                records.add_problem(file, line, "duplicate-image", f"{image} is named twice", "noted")
        found = records.images[start:]
        unlabelled = [image for image in found if not image.labelled]
        present = [image for image in unlabelled if image.path.is_file()]
        if present and len(unlabelled) == len(found):
            message = f"no image has a label file (looked for {label_path(present[0].path)} ...): all are background"
            records.add_problem(source, None, "no-labels", message, "noted")
        else:
            for record in present:
                message = f"no label file (looked for {label_path(record.path)}): taken for background"
                records.add_problem(record.path, None, "unlabelled-image", message, "noted")

    def _numbered_names(self, records: Records) -> tuple[str, ...]:
        """Names made from the largest class id of all splits, for a data set without a list of names."""
        everything = records if not self.splits else YoloLayout(self.root, self.sources, (), self.keypoints).read(None)
        used = Counter(label for label in everything.labels if isinstance(label, int))
        largest = max(used, default=-1)
        if used:
            unused = f", of which {largest + 1 - len(used)} have no object" if len(used) <= largest else ""
            row = everything.labels.index(largest)
            image, line = everything.images[everything.owner[row]], everything.lines[row]
            message = (
                f"no list names the classes (classes.txt, data.yaml): {stand_in(0)} to {stand_in(largest)}{unused}"
            )
            records.add_problem(image.objects_file or image.file, line, "unnamed-class", message, "noted")
        return tuple(stand_in(index) for index in range(largest + 1))


def _images_of(source: Path, root: Path, records: Records) -> Iterator[tuple[Path, Path, int | None]]:
    """(image, naming file, line) of each image that a folder holds (deeply) or a text file lists."""
    if source.is_dir():
        yield from ((path, path, None) for path in images_below(source))
        return
    try:
        text = read_text(source)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: the list of images cannot be read: {error}") from error
    if text.guessed:
        records.problems.append(guessed_encoding(source, text.encoding))
    locator = locator_of(source, root)
    for number, line in enumerate((line.strip() for line in text.text.splitlines()), 1):
        found = locator.find(line) if line else None
        if found or (line and is_possible(line) and not os.path.isdir(source.parent / line)):
            yield found or source.parent / line, source, number
        elif line:
            records.add_problem(source, number, "bad-record", f"'{line[:60]}' is no path of an image")
    if locator.moved:
        message = (
            f"{locator.moved} images were found by the end of their path, or in other capitals: the list is of another "
            "machine or folder"
        )
        records.add_problem(source, None, "moved-paths", message, "noted")


def locator_of(source: Path, root: Path) -> Locator:
    """Finds the images that a list names."""
    return Locator((source.parent, root, root / "images", source.parent / "images", Path()))


def _read_image(
    records: Records, image: Path, named: tuple[Path, int | None], labels: LabelFolders, keypoints: int
) -> None:
    """Append an image and its objects; an image without a label file is background."""
    file = labels.find(image)
    where = named if named[1] or file is None else (file, None)
    expected = file or label_path(image)
    records.images.append(ImageRecord(image, image.stem, *where, objects_file=expected, labelled=file is not None))
    if file is not None and not read_labels(records, file, keypoints):
        records.images.pop()


def _report_orphans(records: Records, labels: LabelFolders, sources: set[Path]) -> None:
    """Label files that no image asks for, in the folders of the images' labels; ``sources``: folders of images."""
    used = {image.objects_file for image in records.images}
    unreadable = {problem.file for problem in records.problems}
    folders = {image.path.parent for image in records.images} | sources
    for folder in sorted({place for images in folders for place in labels.folders(images)}):
        for file in sorted(labels.listing(folder).values()):
            if file not in used and file not in unreadable and not is_other_text(file) and looks_like_labels(file):
                records.add_problem(file, None, "orphan-label", f"no image is called {file.stem}", "noted")


def _report_shared_labels(records: Records) -> None:
    """Label files of two images, as of ``a.jpg`` and ``a.png``: are both of the same scene?"""
    owners: dict[Path, Path] = {}
    for image in records.images:
        if image.labelled and image.objects_file:
            first = owners.setdefault(image.objects_file, image.path)
            if first != image.path:
                message = f"labels both {first.name} and {image.path.name}"
                records.add_problem(image.objects_file, None, "shared-labels", message, "noted")


def _report_counting_from_one(records: Records, root: Path) -> None:
    """Labels from 1 to C where there are C names, 0 to C-1, teach every class as the next one."""
    count = len(records.class_names)
    ids = {label for label in records.labels if isinstance(label, int)}
    if count and ids and min(ids) == 1 and max(ids) == count:
        message = (
            f"the labels use the classes 1 to {count}, but {count} names are 0 to {count - 1}: do they count from 1?"
        )
        records.add_problem(root, None, "counts-from-one", message, "noted")
