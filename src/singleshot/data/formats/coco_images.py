"""Where the images of a COCO file are: in one of the usual folders, or wherever a path from another machine fits."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path, PurePosixPath

from singleshot.data.column_types import TextColumn
from singleshot.data.file_index import FileIndex
from singleshot.data.paths import subfolders
from singleshot.data.split_names import may_hold, split_role
from singleshot.errors import DataError
from singleshot.images.read import IMAGE_SUFFIXES

NAMES_TRIED = 20
_UNUSUAL = re.compile(r"^/|//|(^|/)\.(/|$)|/$|^$")


class ImagePlaces:
    """Finds the images of one annotation file; lists each folder once instead of asking for every file."""

    def __init__(self, file: Path, root: Path, split: str, names: TextColumn) -> None:
        """Choose the folder that holds most of a sample of the images.

        Args:
            file: the annotation file.
            root: the data set's folder; nothing outside of it is an image of the data set.
            split: the file's split, or ``""``.
            names: every ``file_name`` of the file.

        Raises:
            DataError: none of the images is anywhere.
        """
        self.file, self.root = file, root
        self._role = split_role(split or file.stem)
        self._listings: dict[str, set[str]] = {}
        folders = self._folders(split)
        self.folder = folders[0]
        some = [names[row] for row in range(0, len(names), max(1, len(names) // NAMES_TRIED))]
        for tried in (some, names):
            counts = [sum(bool(self._exists(folder, name)) for name in tried) for folder in folders]
            if any(counts):
                self.folder = folders[counts.index(max(counts))]
                return
        if len(names) and not any(self._elsewhere(name) for name in names):
            raise DataError(
                f"{file}: none of its images (as '{names[0][:300]}') is in {root} or a folder below it: put them, or a "
                f"link to their folder, into {root / 'images'}"
            )

    def _folders(self, split: str) -> list[Path]:
        """The usual folders first, then those near the file whose names belong to its split or to none."""
        root, beside = self.root, self.file.parent
        usual = [root, root / "images", root / split, root / "images" / split, beside / "images", beside]
        more = [folder for place in (root, root / "images", beside) for folder in subfolders(place)]
        mine = sorted(
            (folder for folder in more if may_hold([folder.name], self._role)), key=lambda f: not split_role(f.name)
        )
        return list(dict.fromkeys([*usual, *mine]))

    def find(self, name: str) -> tuple[str, bool] | None:
        """The image of a ``file_name``, and whether it is where the name says; ``None`` where there is none."""
        if path := self._exists(self.folder, name):
            return self.inside(path), True
        found = self._elsewhere(name)
        return (str(found), False) if found else None

    def inside(self, path: str) -> str:
        """A path below the folder, as `Path` writes it; most are written so, and a million `Path` take seconds."""
        if os.sep == "/" and not _UNUSUAL.search(path):
            return self._prefix + path
        return str(self.folder / path)

    @cached_property
    def _prefix(self) -> str:
        return str(self.folder / "_")[:-1]

    def _exists(self, folder: Path, name: str) -> str:
        """The path as it is written, or with the other slashes, if it is there and in the folder; else ``""``."""
        for form in (name, as_path(name)) if "\\" in name else (name,):
            if not leads_outside(form) and self._is_listed(folder, form):
                return form
        return ""

    def _is_listed(self, folder: Path, name: str) -> bool:
        inner, _, last = name.rpartition("/")
        place = os.path.join(folder, inner)
        if place not in self._listings:
            try:
                self._listings[place] = set(os.listdir(place))
            except (OSError, ValueError):
                self._listings[place] = set()
        return last in self._listings[place]

    @cached_property
    def _index(self) -> FileIndex:
        return FileIndex(self.root, IMAGE_SUFFIXES)

    @cached_property
    def _own_index(self) -> FileIndex:
        """The chosen folder's images, where it is a split's own: others may have the same names."""
        return self._index if self.folder == self.root else FileIndex(self.folder, IMAGE_SUFFIXES)

    def _elsewhere(self, name: str) -> Path | None:
        for index in (self._own_index, self._index):
            found = index.ending_like(name)
            if found and may_hold(PurePosixPath(found).parent.parts, self._role):
                return index.root / found
        return None


def as_path(name: str) -> str:
    """A file name with the slashes that every system understands."""
    return name.replace("\\", "/")


def leads_outside(path: str) -> bool:
    """Whether a path with ``/`` is absolute, an address, or goes up."""
    first, *_ = parts = path.split("/")
    return ".." in parts or (not first and len(parts) > 1) or first.endswith(":")
