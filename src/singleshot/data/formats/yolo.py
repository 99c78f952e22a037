"""a text file of ``class cx cy w h`` lines for each image, in fractions of it; ``data.yaml`` or bare folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path

from singleshot.core.files import read_text
from singleshot.data.bad_records import Problem
from singleshot.data.file_index import is_hidden, list_files
from singleshot.data.formats.kitti_rows import holds_kitti
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.writers import YOLO
from singleshot.data.formats.yolo_labels import (
    SUFFIX,
    LabelFolders,
    looks_like_labels,
    swapped_folder,
)
from singleshot.data.formats.yolo_layout import YoloLayout, locator_of
from singleshot.data.formats.yolo_names import find_class_list, find_contradictions
from singleshot.data.formats.yolo_settings import (
    ForeignYamlError,
    YoloSettings,
    is_ours,
    read_darknet_settings,
    read_yaml_settings,
)
from singleshot.data.paths import child, images_below, is_image, subfolders, visible
from singleshot.data.split_names import names_split, split_role
from singleshot.errors import DataError
from singleshot.images.read import IMAGE_SUFFIXES

IMAGES_TRIED = 200
LINES_TRIED = 20


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
    folders = [swapped_folder(source) or source for places in sources.values() for source in places if source.is_dir()]
    if any(map(holds_kitti, folders)):  # in the same folders, images/ and labels/
        return None
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
    locator, labels = locator_of(file, root), LabelFolders()
    found = (locator.find(line.strip()) for line in islice((line for line in lines if line.strip()), LINES_TRIED))
    return any(path and is_image(path.name) and labels.find(path) for path in found)


def _image_folder(path: Path) -> dict[str, tuple[Path, ...]]:
    images, labels = child(path, "images") or child(path, "JPEGImages"), child(path, "labels")
    if images is None or labels is None or not images.is_dir() or visible(labels, ".xml"):
        return {}
    return {} if _holds_other_files(labels) else {"": (images,)}


def _holds_other_files(labels: Path) -> bool:
    """Whether a folder of labels is another program's, BDD100K's ``.json`` for one; an empty one is not."""
    try:
        names = [name for name in os.listdir(labels) if not is_hidden(name)]  # a million files are not looked at
    except OSError:
        return False
    return bool(names) and not any(name.lower().endswith(SUFFIX) for name in names) and not list_files(labels, {SUFFIX})


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
