"""Finding files of a data set: folders searched without hidden ones, paths written on another machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote

from singleshot.core.files import is_regular
from singleshot.data.file_index import is_hidden, list_files, normal
from singleshot.data.split_names import split_role
from singleshot.images.read import IMAGE_SUFFIXES

MAX_NAME_BYTES = 255
MAX_PATH_CHARS = 4096


def is_image(name: str) -> bool:
    """Whether a file name is that of an image, by its suffix."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def images_below(folder: Path) -> list[Path]:
    """What has the name of an image below a folder, sorted by path; linked folders are entered, hidden ones not."""
    return [folder / path for path in list_files(folder, IMAGE_SUFFIXES, ordinary=False)]


def visible(folder: Path, *suffixes: str) -> list[Path]:
    """Entries of a folder that are not hidden, sorted by name; with ``suffixes`` (in any case) only ordinary files.

    A folder that cannot be read has none.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    kept = (entry for entry in entries if not is_hidden(entry.name))
    if not suffixes:
        return [Path(entry.path) for entry in kept]
    return [Path(entry.path) for entry in kept if entry.name.lower().endswith(suffixes) and is_regular(entry.path)]


def subfolders(folder: Path) -> list[Path]:
    """Folders (and links to folders) in a folder that are not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())
    except OSError:
        return []
    return [folder / name for name in names]


def child(folder: Path, name: str) -> Path | None:
    """The entry ``name`` of a folder, in whatever capitals if only one is called so."""
    exact = folder / name
    if os.path.exists(exact):
        return exact
    same = [path for path in visible(folder) if path.name.lower() == name.lower()]
    return same[0] if len(same) == 1 else None


def is_possible(text: str) -> bool:
    """Whether a text can be the path of a file: it ends in a name, and is no longer than file systems allow."""
    if len(text) > MAX_PATH_CHARS or "\0" in text:
        return False
    parts = PurePosixPath(text).parts
    try:
        long = any(len(part.encode(errors="surrogateescape")) > MAX_NAME_BYTES for part in parts)
    except UnicodeEncodeError:  # half a character, as JSON and YAML can spell it
        return False
    return bool(parts) and parts[-1] not in ("/", "..", "//") and not long


def spellings(text: str) -> tuple[str, ...]:
    """A path as written, with the slashes of every system, and without the signs of a URL."""
    slashed = text.replace("\\", "/")
    plain = slashed.split("://", 1)[-1]
    return tuple(dict.fromkeys((text, slashed, plain, unquote(plain))))


class ImageFolder:
    """The image files of one folder by name and by stem; one listing instead of a question per file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, str] = {}
        self._stems: dict[str, str] = {}
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if dot + suffix.lower() in IMAGE_SUFFIXES and stem:
                self._names[name] = name
                self._stems.setdefault(stem, name)

    def __len__(self) -> int:
        return len(self._names)

    def paths(self) -> list[Path]:
        """The images, sorted by name."""
        return [self.folder / name for name in self._names]

    def stems(self) -> list[tuple[str, Path]]:
        """(stem, path), one path for each stem, sorted."""
        return [(stem, self.folder / name) for stem, name in self._stems.items()]

    def find(self, stem: str, name: str = "") -> Path | None:
        """The image called ``stem``, with the suffix of ``name`` if there are several; else the one called ``name``."""
        preferred = stem + Path(name).suffix
        found = self._names.get(preferred) or self._stems.get(stem) or self._names.get(name)
        return self.folder / found if found else None


class Locator:
    """Finds the files that a data set names, below some folders, also when it was written on another machine.

    A path is tried as it stands, then from each folder, then without its first parts: ``/content/ds/images/a.jpg`` is
    ``images/a.jpg`` here.

    Attributes:
        folders: where to look, best first.
        moved: how many files were found by the end of their path alone, or in other capitals or Unicode forms.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self.moved = 0
        self._skip = 0
        self._listings: dict[Path, dict[str, str | None]] = {}
        self._missing: set[str] = set()

    def find(self, text: str) -> Path | None:
        """The file that is meant, or ``None``."""
        if text in self._missing:  # each is looked for in many places
            return None
        possible = [spelling for spelling in spellings(text) if is_possible(spelling)]
        ways = (self._near, self._by_its_end, self._in_other_letters)
        place = next((found for spelling in possible for way in ways if (found := way(spelling))), None)
        if place is None:
            self._missing.add(text)
        return place

    def _near(self, text: str) -> Path | None:
        found = next((folder / text for folder in self.folders if os.path.isfile(folder / text)), None)
        if found and ".." in found.parts:  # one name for one file, as others find it
            plain = Path(os.path.normpath(found))
            return plain if os.path.isfile(plain) else found
        return found

    def _by_its_end(self, text: str) -> Path | None:
        parts = [part for part in PurePosixPath(text).parts if part not in ("/", "..", ".")]
        order = range(1 if len(parts) == len(PurePosixPath(text).parts) else 0, len(parts))
        for skip in sorted(order, key=lambda skip: skip != self._skip):  # the last one that fitted comes first
            end = PurePath(*parts[skip:])
            for folder in self.folders:
                if os.path.isfile(folder / end):
                    self._skip = skip
                    self.moved += 1
                    return folder / end
        return None

    def _in_other_letters(self, text: str) -> Path | None:
        """The one file of that name but for capitals and Unicode's forms, in the folder that the path names."""
        for folder in self.folders:
            place = (folder / text).parent
            if place not in self._listings:
                names: dict[str, str | None] = {}
                for path in visible(place):
                    key = normal(path.name)
                    names[key] = None if key in names else path.name  # two are called so
                self._listings[place] = names
            name = self._listings[place].get(normal(PurePath(text).name))
            if name and os.path.isfile(place / name):
                self.moved += 1
                return place / name
        return None


def locate_folder(text: str, folders: Sequence[Path]) -> Path | None:
    """A folder (or file) that a settings file names, with either slash, in other capitals, or by its path's last parts.

    A path of several parts is not cut to its last one unless that names a split: ``../train/images`` must not become
    ``images``, but ``/content/set/val`` may be ``val``.
    """
    for spelling in spellings(text):
        if not is_possible(spelling):
            continue
        for folder in folders:
            if os.path.exists(folder / spelling):
                return folder / spelling
        parts = [part for part in PurePosixPath(spelling).parts if part not in ("/", "..", ".")]
        least = 1 if parts and split_role(parts[-1]) else min(2, len(parts))
        for skip in range(max(1, len(parts) - least + 1)):
            for folder in folders:
                found = _descend(folder, tuple(parts[skip:]))
                if found:
                    return found
    return None


def _descend(folder: Path, parts: tuple[str, ...]) -> Path | None:
    place: Path | None = folder
    for part in parts:
        place = child(place, part) if place else None
    return place if parts else None
