"""PASCAL VOC: one XML per image, in a bare folder, in a VOCdevkit of several years, or beside the images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from singleshot.data.problems import Problem
from singleshot.data.records import ImageFolder, ImageRecord, Records
from singleshot.data.voc_xml import VocFile, parse_voc
from singleshot.images import IMAGE_SUFFIXES

LOOKED_FOR = (
    "VOC: a folder with Annotations/*.xml and JPEGImages/, a VOCdevkit with VOC2007/ ..., or *.xml beside images"
)
ANNOTATION_FOLDERS = ("Annotations", "annotations", "xmls", "labels")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", ".")
SPLIT_FOLDERS = ("train", "trainval", "valid", "val", "validation", "test")
FILES_TRIED = 50
CLASS_FILES = ("classes.txt", "labels.txt", "labelmap.txt")


@dataclass(frozen=True)
class Part:
    """One VOC folder: a year of a devkit, a flat split folder, or the whole data set.

    Attributes:
        prefix: put before its split names: ``"2007_"`` in a devkit, ``""`` elsewhere.
        annotations, images: its two folders, which may be the same.
        lists: its split files by split name; ``None`` stands for everything in the folder.
    """

    prefix: str
    annotations: Path
    images: Path
    lists: dict[str, Path | None]


@dataclass(frozen=True)
class VocLayout:
    """VOC on disk: one or more parts."""

    root: Path
    parts: tuple[Part, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``trainval``; in a devkit ``2007_trainval``, and ``trainval`` for all years together."""
        full = [part.prefix + name for part in self.parts for name in part.lists]
        plain = [name for part in self.parts for name in part.lists] if len(self.parts) > 1 else []
        return tuple(dict.fromkeys(full + plain))

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every annotation file."""
        records = Records(one_based=True, class_names=self._class_names())
        for part in self.parts:
            lists = [part.lists[name] for name in part.lists if split is not None and _names(part, name, split)]
            if split is not None and not lists:
                continue
            whole = split is None or None in lists
            folder = ImageFolder(part.images)
            named = _all_stems(part) if whole else _listed_stems([path for path in lists if path])
            for stem, where in named.items():
                _read_image(records, part, folder, stem, where)
            if whole:
                _report_unlabelled(records, folder, set(named))
        if not records.class_names:
            records.class_names = self._discovered_names()
        return records

    def _class_names(self) -> tuple[str, ...]:
        """Classes of a ``classes.txt`` beside the data; CVAT's ``labelmap.txt`` has ``name:colour:...`` lines."""
        for name in CLASS_FILES:
            path = self.root / name
            if path.is_file():
                lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
                if name == "labelmap.txt":
                    lines = [line.split(":")[0] for line in lines if not line.startswith(("#", "background:"))]
                return tuple(dict.fromkeys(line for line in lines if line))
        return ()

    def _discovered_names(self) -> tuple[str, ...]:
        """Sorted class names of every annotation file, whatever the split, so that all splits agree."""
        files = (path for part in self.parts for path in part.annotations.glob("*.xml"))
        parsed = (parse_voc(path) for path in files)
        return tuple(
            sorted({item.name for voc in parsed if isinstance(voc, VocFile) for item in voc.objects if item.name})
        )


Named = dict[str, tuple[Path, int | None]]
"""Stem of an image -> the file that names it, and the line."""


def _names(part: Part, name: str, split: str) -> bool:
    """Whether ``split`` asks for a part's list, by its own name or with the year."""
    return not {name, part.prefix + name}.isdisjoint(split.split("+"))


def _all_stems(part: Part) -> Named:
    return {path.stem: (path, None) for path in sorted(part.annotations.glob("*.xml"))}


def _listed_stems(lists: list[Path]) -> Named:
    """Images of some lists in their order; one that is named twice comes once."""
    named: Named = {}
    for path in lists:
        for number, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if text.strip():
                named.setdefault(_listed_stem(text), (path, number))
    return named


def _read_image(records: Records, part: Part, folder: ImageFolder, stem: str, named: tuple[Path, int | None]) -> None:
    """Append one image and its objects, or the problem that keeps it out."""
    xml = part.annotations / f"{stem}.xml"
    voc = parse_voc(xml)
    if voc is None:
        records.add_problem(*named, "missing-annotation", f"'{stem}' has no annotation file {xml}")
        return
    if isinstance(voc, Problem):
        records.problems.append(voc)
        return
    path = folder.find(stem, voc.filename) or part.images / (voc.filename or f"{stem}.jpg")
    records.images.append(ImageRecord(path, stem, xml, voc.line, voc.size_hw))
    for item in voc.objects:
        records.add_object(item.box, item.name, item.line, difficult=item.difficult)


def _report_unlabelled(records: Records, folder: ImageFolder, labelled: set[str]) -> None:
    """An image without an annotation file is not known to be background, so it stays out, and is named."""
    for stem, path in folder.stems():
        if stem not in labelled:
            message = "the image has no annotation file; background images need one without objects"
            records.add_problem(path, None, "missing-annotation", message)


def find(path: Path) -> VocLayout | None:
    """Recognise VOC at ``path``: the folder itself, a devkit, or a folder that holds ``VOCdevkit``."""
    if not path.is_dir():
        return None
    root = path / "VOCdevkit" if (path / "VOCdevkit").is_dir() else path
    years = sorted(folder for folder in root.glob("VOC[0-9]*") if (folder / "Annotations").is_dir())
    if years:
        return VocLayout(root, tuple(_part(folder, folder / "Annotations", folder.name[3:] + "_") for folder in years))
    for name in ANNOTATION_FOLDERS:
        if _has_voc(root / name) or ((root / name).is_dir() and (root / "JPEGImages").is_dir()):
            return VocLayout(root, (_part(root, root / name, ""),))
    if _has_voc(root):
        return VocLayout(root, (_part(root, root, ""),))
    flat = [root / name for name in SPLIT_FOLDERS if _has_voc(root / name)]
    if flat:
        return VocLayout(root, tuple(Part("", folder, folder, {folder.name: None}) for folder in flat))
    return None


def _part(folder: Path, annotations: Path, prefix: str) -> Part:
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), folder)
    lists: dict[str, Path | None] = {
        path.stem: path for path in sorted((folder / "ImageSets" / "Main").glob("*.txt")) if _is_split_list(path)
    }
    return Part(prefix, annotations, annotations if annotations == folder else images, lists)


def _is_split_list(path: Path) -> bool:
    """Whether a list is of all images; VOC's lists of one class (``dog_train.txt``) have a second column."""
    with path.open(errors="replace") as file:
        words = file.readline(4096).split()
    return len(words) != 2 or words[1] not in ("-1", "0", "1")


def _listed_stem(text: str) -> str:
    """The image's stem from a line of a list, which may hold spaces, a folder or a suffix."""
    name = PurePath(text.strip()).name
    return PurePath(name).stem if PurePath(name).suffix.lower() in {*IMAGE_SUFFIXES, ".xml"} else name


def _has_voc(folder: Path) -> bool:
    """Whether one of the folder's first XML files looks like a VOC annotation (some may be damaged)."""
    return any(b"<annotation" in _head(path) for path in islice(folder.glob("*.xml"), FILES_TRIED))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)
