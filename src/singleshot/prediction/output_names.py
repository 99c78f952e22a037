"""Names below an output folder: they never lead out of it, and differ even where a file system ignores case or accents.

A name is kept as it is wherever that is possible; one that is taken gets ``-2``, one that is too long ends in a digest.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePath

MAX_NAME_BYTES = 255
"""Longest file name of the usual file systems."""

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789")}
_SPACE_FOR_NUMBER = 24  # of a crop, with its suffix, or of a name that was taken


class UniqueNames:
    """Gives every wish a relative path of its own, case and the form of accents not counted."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def is_free(self, path: PurePath) -> bool:
        """Whether neither a file nor a folder of this name was given away."""
        key = _key(path)
        return key not in self._files and key not in self._folders

    def take(self, path: PurePath) -> Path:
        """The path, or, where it is taken, the same with a number before its suffix."""
        wish, number = path, 1
        while not self.is_free(wish):
            number += 1
            wish = path.with_name(shortened(f"{path.stem}-{number}{path.suffix}", MAX_NAME_BYTES))
        self._files.add(_key(wish))
        self.keep_folders(wish)
        return Path(wish)

    def keep_folders(self, path: PurePath) -> None:
        """Give the folders of a path away as folders: no file gets their name."""
        self._folders.update(_key(folder) for folder in path.parents if folder.parts)


class OutputNames:
    """Output names that differ wherever the inputs differ: the path below the inputs' common folder.

    Args:
        images: all inputs.
    """

    def __init__(self, images: Sequence[Path]) -> None:
        self._places = dict(zip(images, places(images), strict=True))
        self._pictures, self._stems = UniqueNames(), UniqueNames()
        self._picture_of: dict[tuple[Path, str], Path] = {}
        self._stem_of: dict[Path, Path] = {}
        for place in self._places.values():
            self._pictures.keep_folders(_below(place))
            self._stems.keep_folders(_below(place))
        # Pictures that keep their own name choose first.
        for path in sorted(self._places, key=lambda path: _picture_name(self._places[path]) != self._places[path].name):
            self.picture(path)

    def relative(self, path: Path) -> Path:
        """Path below the common folder, as it is; frames lie below the place of their video."""
        if path.parent in self._places and path not in self._places:
            return self._places[path.parent] / path.name
        if path not in self._places:
            self._places[path] = places([path])[0]
        return self._places[path]

    def picture(self, path: Path, suffix: str = "") -> Path:
        """A picture's path below its folder: the image's, with a suffix that everyone can open.

        Args:
            path: the image.
            suffix: what to add where the format of the image's own name will not do.
        """
        key = (path, suffix)
        if key not in self._picture_of:
            place = self.relative(path)
            name = shortened(_picture_name(place) + suffix, MAX_NAME_BYTES)
            self._picture_of[key] = self._pictures.take(_below(place.parent) / name)
        return self._picture_of[key]

    def crop(self, path: Path, number: int, suffix: str = "") -> Path:
        """A crop's path below the folder of its class."""
        if path not in self._stem_of:
            place = self.relative(path)
            name = place.stem if place.suffix.lower() == ".jpg" else place.name  # 1.jpg and 1.png differ
            self._stem_of[path] = self._stems.take(_below(place.parent) / f"{shortened(name)}.jpg").with_suffix("")
        stem = self._stem_of[path]
        return stem.with_name(f"{stem.name}_{number}.jpg{suffix}")


def places(images: Sequence[PurePath]) -> list[Path]:
    """Where images lie below their common folder; images of several drives get a folder each."""
    parts = [_absolute(path).parts for path in images]
    folders = [path[:-1] for path in parts]
    shared = 0
    if folders:
        shortest, longest = min(folders), max(folders)  # what the first and the last share, all share
        while shared < min(len(shortest), len(longest)) and shortest[shared] == longest[shared]:
            shared += 1
    return [Path(*(_as_part(part) for part in path[shared:])) for path in parts]


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder name for each class: one part, allowed by every file system, and different for different classes."""
    taken, names = UniqueNames(), dict.fromkeys(class_names, "")
    for name in sorted(names, key=lambda name: safe_name(name) != name):
        names[name] = str(taken.take(PurePath(safe_name(name))))
    return [names[name] for name in class_names]


def safe_name(name: str) -> str:
    """Any text as one file name that Windows, macOS and Linux allow: nothing in it leads elsewhere."""
    safe = "".join("_" if character in '/\\:*?"<>|' or not character.isprintable() else character for character in name)
    safe = safe.lstrip(". ").rstrip(". ") or "_"
    return shortened(f"_{safe}" if safe.partition(".")[0].lower() in _RESERVED else safe)


def shortened(name: str, limit: int = MAX_NAME_BYTES - _SPACE_FOR_NUMBER) -> str:
    """A file name of at most ``limit`` bytes; one that is longer keeps its beginning and its suffix around a digest."""
    if len(os.fsencode(name)) <= limit:
        return name
    path = PurePath(name)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= 16 else ""
    end = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{suffix}"
    begin = name
    while len(os.fsencode(begin + end)) > limit:
        begin = begin[:-1]
    return begin + end


def _picture_name(place: PurePath) -> str:
    """Names of formats that not every program opens get a second suffix."""
    return place.name if place.suffix.lower() in (".jpg", ".jpeg", ".png") else f"{place.name}.jpg"


def _absolute(path: PurePath) -> PurePath:
    return path if not isinstance(path, Path) else Path(os.path.abspath(path))


def _as_part(part: str) -> str:
    """A part of an absolute path as a part of a relative one: its root or drive becomes a name."""
    return safe_name(part) if part.endswith(("/", "\\")) or part in ("", ".", "..") else part


def _below(folder: PurePath) -> PurePath:
    return PurePath(*(shortened(part, MAX_NAME_BYTES) for part in folder.parts))


def _key(path: PurePath) -> str:
    """Equal for paths that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.as_posix()).casefold())
