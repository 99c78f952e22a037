"""``instances`` JSON files and image folders."""

from __future__ import annotations

import gc
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from singleshot.core.files import contains, is_regular
from singleshot.data.file_index import list_files
from singleshot.data.formats.coco_records import add_file
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.writers import COCO
from singleshot.data.records import Records
from singleshot.data.split_names import names_split

NAMES_A_SPLIT = re.compile(r"instances_|train|val|test|_annotations\.coco")
OTHER_TASKS = re.compile(r"^(captions|person_keypoints|panoptic|stuff|image_info)_")
# A JSON of one of these names is the whole data set, or all of its folder, not a split of that name.
GENERIC_NAMES = frozenset(
    {"instances", "instances_default", "annotations", "_annotations", "annotation", "labels", "coco", "result"}
    | {"dataset", "_annotations.coco", "annotations.coco", "annotations_coco", "coco_annotations", "default"}
)
ANNOTATION_FOLDERS = frozenset({"annotations", "annotation", "annots", "labels", "json", "jsons", "coco"})
_NO_ANNOTATIONS = re.compile(rb'"annotations"\s*:\s*\[\s*\]')


@dataclass(frozen=True)
class CocoLayout:
    """COCO on disk.

    Attributes:
        root: the data set's folder.
        files: annotation file of each split; the key of a data set without splits is ``""``.
        passed_over: files of the same shape that hold no boxes.
    """

    root: Path
    files: dict[str, Path]
    passed_over: tuple[Path, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train2017``."""
        return tuple(name for name in self.files if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every file."""
        records = Records(forms=("size",))
        wanted = list(self.files) if split is None else split.split("+")
        with _paused_collector():
            for name in wanted:
                add_file(records, self.files[name], self.root, name)
        for file in self.passed_over if split is None else ():
            records.add_problem(file, None, "other-task", "its annotations have no boxes; passed over", "noted")
        return records


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Reading makes objects by the million and no cyclic garbage; looking for it would take a third of the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def find(path: Path) -> CocoLayout | None:
    """Recognise COCO at ``path``: a JSON file, or a folder with JSON files at the usual places."""
    if is_regular(path):
        root = path.parent.parent if path.parent.name.lower() in ANNOTATION_FOLDERS else path.parent
        return CocoLayout(root, {"": path}) if path.suffix.lower() == ".json" else None
    names = list_files(path, {".json"}, 1)
    beside_splits = any(names_split(name.rpartition("/")[0]) for name in names)
    found = [path / name for name in names if beside_splits or _is_usual_place(name)]
    with_lists = [file for file in found if contains(file, '"images"', '"annotations"', '"categories"')]
    named_so = [file for file in with_lists if not OTHER_TASKS.match(file.name)]
    files = [file for file in named_so if _may_hold_boxes(file)]
    passed_over = [file for file in named_so if file not in files]
    if not files:
        files, passed_over = named_so or [file for file in with_lists if _may_hold_boxes(file)], []
    if not files:
        return None
    if len(files) == 1 and not NAMES_A_SPLIT.match(files[0].name):
        return CocoLayout(path, {"": files[0]}, tuple(passed_over))
    named: dict[str, Path] = {}
    for file in files:
        name = _split_name(file, path)
        named[name if name not in named else f"{file.parent.name}_{file.stem}"] = file
    return CocoLayout(path, named, tuple(passed_over))


def _is_usual_place(name: str) -> bool:
    folder, _, last = name.rpartition("/")
    return not folder or folder.lower() in ANNOTATION_FOLDERS or last == "_annotations.coco.json"


def _split_name(file: Path, root: Path) -> str:
    """The split that a file is: by its name, or by its folder where the name says nothing."""
    inside = file.parent != root and file.parent.name.lower() not in ANNOTATION_FOLDERS
    if inside and not names_split(file.stem):
        return file.parent.name
    if file.stem.lower() in GENERIC_NAMES:
        return file.parent.name if inside else ""
    return file.stem.removeprefix("instances_")


def _may_hold_boxes(file: Path) -> bool:
    """Whether a file has boxes or polygons, or no annotations at all (images of a test split)."""
    if contains(file, '"segments_info"'):
        return False
    if contains(file, '"bbox"') or contains(file, '"segmentation"'):
        return True
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return _NO_ANNOTATIONS.search(text) is not None


FORMATS.register("coco")(
    DataFormat(
        "COCO",
        "a .json with images, annotations and categories, alone, in annotations/, or in train/ valid/ test/",
        find,
        writer=COCO,
    )
)
