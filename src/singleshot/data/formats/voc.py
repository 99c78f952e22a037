"""PASCAL VOC: one XML per image, in a bare folder, in a VOCdevkit of several years, or beside the images."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from itertools import islice
from pathlib import Path

from singleshot.data.file_index import MAX_DEPTH, FileIndex, list_files
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.voc_layout import VocLayout, VocPart
from singleshot.data.formats.writers import VOC
from singleshot.data.paths import subfolders
from singleshot.data.records import Layout
from singleshot.data.split_names import names_split
from singleshot.images.read import IMAGE_SUFFIXES

# In lower case: systems and tools differ in capitals.
ANNOTATION_FOLDERS = ("annotations", "annotation", "annots", "annot", "xmls", "xml", "labels")
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")
FILES_TRIED = 50
HEAD_BYTES = 4096
_ROOT_ELEMENT = re.compile(rb"<annotation[\s>/]", re.IGNORECASE)


def find(path: Path) -> VocLayout | None:
    """Recognise VOC at ``path``: the folder itself, a devkit, or a folder that holds ``VOCdevkit``."""
    if not path.is_dir():
        return None
    root = path / "VOCdevkit" if (path / "VOCdevkit").is_dir() else path
    years = [(folder, _subfolders(folder).get("annotations")) for folder in sorted(root.glob("VOC[0-9]*"))]
    parts = [_part(folder, annotations, folder.name[3:] + "_") for folder, annotations in years if annotations]
    if parts:
        return VocLayout(root, tuple(parts))
    whole = _find_part(root)
    if whole and not whole.is_flat:
        return VocLayout(root, (whole,))
    folders = subfolders(root)
    called_so = any(names_split(folder.name) for folder in folders)  # then those beside them are splits, too
    inner = [(folder, _find_part(folder)) for folder in folders if called_so]
    parts = [VocPart("", folder, part.annotations, part.images, folder.name) for folder, part in inner if part]
    if whole and len(whole.keys) >= sum(len(part.keys) for part in parts):
        return VocLayout(root, (whole,))  # not for a stray file beside the folders of the splits
    return VocLayout(root, tuple(parts)) if parts else _find_elsewhere(root)


def _find_part(root: Path) -> VocPart | None:
    """A folder with a folder of annotations, or with annotations beside the images."""
    folders = _subfolders(root)
    for name in ANNOTATION_FOLDERS:
        if name in folders and (_has_voc(folders[name]) or "jpegimages" in folders):
            return _part(root, folders[name])
    return _part(root, root) if _has_voc(root, 0) else None


def _find_elsewhere(root: Path) -> VocLayout | None:
    """Annotations in folders of any other name: one for all, one for each day, or a data set one folder down."""
    files = list_files(root, {".xml"}) if _has_voc(root) else []
    if not files:
        return None
    tops = {path.partition("/")[0] for path in files}
    if len(tops) > 1:
        inner = [_find_part(root / top) if (root / top).is_dir() else None for top in sorted(tops)]
        parts = [replace(part, prefix=f"{part.root.name}_") for part in inner if part and not part.is_flat]
        return VocLayout(root, tuple(parts) if len(parts) == len(tops) else (_part(root, root),))
    folder = root / tops.pop()
    if not _has_voc(folder, 0) or FileIndex(folder, IMAGE_SUFFIXES).paths:
        return find(folder)
    return VocLayout(root, (_part(root, folder),))


def _part(folder: Path, annotations: Path, prefix: str = "") -> VocPart:
    named = _subfolders(folder)
    images = next((named[name] for name in IMAGE_FOLDERS if name in named), folder)
    return VocPart(prefix, folder, annotations, folder if annotations == folder else images)


def _subfolders(folder: Path) -> dict[str, Path]:
    """Folders by name in lower case; of names that differ in capitals the first."""
    return {path.name.lower(): path for path in reversed(subfolders(folder))}


def _has_voc(folder: Path, max_depth: int = MAX_DEPTH) -> bool:
    """Whether one of the folder's first XML files looks like a VOC annotation (some may be damaged)."""
    files = list_files(folder, {".xml"}, max_depth)
    return any(_ROOT_ELEMENT.search(_head(folder / path)) for path in islice(files, FILES_TRIED))


def _head(path: Path) -> bytes:
    """The first bytes of a file without the zeros of UTF-16."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES).replace(b"\0", b"")
    except OSError:
        return b""


def _beside(layout: Layout, others: Collection[str]) -> Layout:
    """A list of classes belongs to YOLO's labels where there are some."""
    return replace(layout, has_class_list=False) if isinstance(layout, VocLayout) and "yolo" in others else layout


FORMATS.register("voc")(
    DataFormat(
        "VOC",
        "a folder with Annotations/*.xml (or annots/, xmls/ ...) and JPEGImages/ or images/, a VOCdevkit with "
        "VOC2007/ ..., or *.xml beside images",
        find,
        beside=_beside,
        writer=VOC,
    )
)
