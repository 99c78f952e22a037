"""a text file of ``class cx cy w h`` lines for each image, in fractions of it; ``data.yaml`` or bare folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from singleshot.core.files import read_text
from singleshot.data.bad_records import Problem
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.writers import YOLO
from singleshot.data.formats.yolo_labels import (
    SUFFIX,
    LabelFolders,
    is_other_text,
    label_path,
    looks_like_labels,
    read_labels,
    swapped_folder,
)
from singleshot.data.formats.yolo_names import find_class_list, find_contradictions, guessed_encoding, stand_in
from singleshot.data.formats.yolo_settings import (
    ForeignYamlError,
    YoloSettings,
    is_ours,
    read_darknet_settings,
    read_yaml_settings,
)
from singleshot.data.paths import Locator, child, images_below, is_image, is_possible, subfolders, visible
from singleshot.data.records import ImageRecord, Records
from singleshot.data.split_names import names_split, split_role
from singleshot.errors import DataError
from singleshot.images.read import IMAGE_SUFFIXES

IMAGES_TRIED = 200
LINES_TRIED = 20


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
        records = Records(fractions=True, states_sizes=False, problems=list(self.problems))
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
            row = everything.labels.index(largest)  # type: ignore[arg-type]
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
    locator = _locator(source, root)
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


def _locator(source: Path, root: Path) -> Locator:
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


def find(path: Path) -> YoloLayout | None:
    """Recognise YOLO at ``path``: a settings file, a folder with one, or folders of images and labels.

    Raises:
        DataError: a settings file has a mistake.
    """
    if path.is_file():
        return _from_named_file(path)
    layout = _from_settings_in(path)
    if layout:
        return layout
    sources = _bare_sources(path)
    return _named_layout(path, sources, None) if sources else None


def _from_named_file(file: Path) -> YoloLayout | None:
    """The layout of a file that the user named."""
    if file.suffix.lower() not in (".yaml", ".yml", ".data"):
        return None
    try:
        read = read_darknet_settings if file.suffix.lower() == ".data" else read_yaml_settings
        return _from_settings(file, read(file))
    except ForeignYamlError as error:
        raise DataError(f"{file}: not the settings of a YOLO data set: {error}") from error


def _from_settings_in(folder: Path) -> YoloLayout | None:
    """The layout of the first settings file in a folder; others of the same kind are noted."""
    good: list[tuple[Path, YoloSettings]] = []
    faults: list[DataError] = []
    files = sorted(visible(folder, ".yaml", ".yml"), key=lambda file: (file.stem not in ("data", "dataset"), file.name))
    for file in [*files, *visible(folder, ".data")]:
        try:
            read = read_darknet_settings if file.suffix.lower() == ".data" else read_yaml_settings
            good.append((file, read(file)))
        except ForeignYamlError:
            continue
        except DataError as error:
            if files == [file] or (file in files and file.stem in ("data", "dataset")) or is_ours(file):
                faults.append(error)
    if faults and (not good or good[0][0].stem not in ("data", "dataset")):
        raise faults[0]
    if not good:
        return None
    (chosen, settings), *others = good
    settings.problems += [Problem(folder, None, "other-settings", "noted", f"passed over: {fault}") for fault in faults]
    for file, other in others:
        if (other.names, other.sources) != (settings.names, settings.sources):
            settings.problems.append(
                Problem(file, None, "other-settings", "noted", f"passed over: {chosen.name} is read")
            )
    return _from_settings(chosen, settings)


def _from_settings(file: Path, settings: YoloSettings) -> YoloLayout:
    sources = settings.sources or ({} if settings.missing else _bare_sources(file.parent))
    if not sources and file.suffix.lower() == ".data":
        sources = _bare_sources(file.parent)
    training = [why for key, why in settings.missing.items() if split_role(key) in ("train", "trainval")]
    if not sources or training:
        reason = next(iter(training or settings.missing.values()), None)
        raise DataError(
            reason or f"{file}: names no images: add 'train: images/train' (and val, test) with folders or lists"
        )
    layout = _named_layout(file.parent, sources, settings)
    absent = [why.removeprefix(f"{file}: ") for why in settings.missing.values()]
    missing = [Problem(file, None, "missing-split", "noted", why) for why in absent]
    problems = (*settings.problems, *missing, *layout.problems)
    return YoloLayout(file.parent, sources, layout.names, settings.keypoints, settings.missing, problems)


def _named_layout(root: Path, sources: dict[str, tuple[Path, ...]], settings: YoloSettings | None) -> YoloLayout:
    """A layout with the names of the settings, else of the lists of classes beside the images and labels."""
    folders = [source for places in sources.values() for source in places if source.is_dir()]
    labels = [swapped for folder in folders if (swapped := swapped_folder(folder))]
    near = [
        root,
        root / "labels",
        *folders,
        *labels,
        *(folder.parent for folder in folders),
        *(x.parent for x in labels),
    ]
    places = [folder for folder in near if folder.is_relative_to(root)]
    if settings and settings.names is not None:
        return YoloLayout(root, sources, settings.names, problems=tuple(find_contradictions(places, settings.names)))
    names, problems = find_class_list(places)
    return YoloLayout(root, sources, names, problems=tuple(problems))


def _bare_sources(path: Path) -> dict[str, tuple[Path, ...]]:
    """Images by split: ``train/images``, ``images/train``, lists of images, ``images``, or images among labels."""
    for sources in (_split_folders(path), _lists(path), _image_folder(path), _flat_folders(path)):
        if sources:
            return sources
    return {"": (path,)} if _has_labels(path, deep=False) else {}


def find_anywhere(path: Path) -> YoloLayout | None:
    """Images beside their labels in whatever folders below ``path``: the last resort."""
    return _named_layout(path, {"": (path,)}, None) if _has_labels(path) else None


def _split_folders(path: Path) -> dict[str, tuple[Path, ...]]:
    """``train/images`` beside ``train/labels``, or ``images/train`` and ``labels/train``; one with labels is enough."""
    inside = {folder: images for folder in subfolders(path) if (images := child(folder, "images"))}
    if found := _splits_of(inside, {folder for folder in inside if child(folder, "labels")}):
        return {folder.name: (inside[folder],) for folder in found}
    images, labels = child(path, "images") or child(path, "JPEGImages"), child(path, "labels")
    if images is None or labels is None:
        return {}
    parts = subfolders(images)
    found = _splits_of(parts, {part for part in parts if child(labels, part.name)})
    return {part.name: (part,) for part in found}


def _splits_of(folders: Iterable[Path], labelled: Collection[Path]) -> list[Path]:
    """Of folders side by side those that are splits: where a labelled one is called so, so are all labelled ones."""
    if not any(names_split(folder.name) for folder in labelled):
        return []
    return [folder for folder in folders if folder in labelled or names_split(folder.name)]


def _lists(path: Path) -> dict[str, tuple[Path, ...]]:
    """Text files called after splits that list images which are here and have labels."""
    lists = [file for file in visible(path, SUFFIX) if names_split(file.stem)]
    return {file.stem: (file,) for file in lists} if any(_is_list(file, path) for file in lists) else {}


def _is_list(file: Path, root: Path) -> bool:
    try:
        lines = read_text(file).text.splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    locator, labels = _locator(file, root), LabelFolders()
    found = (locator.find(line.strip()) for line in islice((line for line in lines if line.strip()), LINES_TRIED))
    return any(path and is_image(path.name) and labels.find(path) for path in found)


def _image_folder(path: Path) -> dict[str, tuple[Path, ...]]:
    images, labels = child(path, "images") or child(path, "JPEGImages"), child(path, "labels")
    if images is None or labels is None or not images.is_dir() or visible(labels, ".xml"):
        return {}
    return {"": (images,)}


def _flat_folders(path: Path) -> dict[str, tuple[Path, ...]]:
    """Folders called after splits that hold images and their labels."""
    folders = subfolders(path)
    if not any(names_split(folder.name) for folder in folders):
        return {}
    found = _splits_of(folders, {folder for folder in folders if _has_labels(folder)})
    return {folder.name: (folder,) for folder in found if _some_images(folder)}


def _some_images(folder: Path) -> list[Path]:
    return images_below(folder)[:IMAGES_TRIED]


def _has_labels(folder: Path, deep: bool = True) -> bool:
    """Whether one of a folder's first images has a file of the same stem that looks like labels."""
    labels = LabelFolders()
    images = _some_images(folder) if deep else islice(visible(folder, *IMAGE_SUFFIXES), IMAGES_TRIED)
    return any(file and looks_like_labels(file) for file in map(labels.find, images))


FORMATS.register("yolo")(
    DataFormat(
        "YOLO",
        "a data.yaml with names and train/val, obj.data, images/ beside labels/, or *.txt labels beside images",
        find,
        find_anywhere,
        writer=YOLO,
    )
)
