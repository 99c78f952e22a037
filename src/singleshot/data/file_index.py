"""The files below a folder, found by path, by stem, or by the end of a path from another machine."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

# Where a folder is searched that somebody named: enough for any data set, little enough for a whole disk.
MAX_ENTRIES = 1_000_000
MAX_DEPTH = 12
# What a labelling server puts before the names of uploaded files.
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")


# Folders that archivers and file servers leave beside the data.
_FOREIGN = frozenset({"__macosx", "@eadir", "$recycle.bin", "lost+found"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over: ``.git``, ``.ipynb_checkpoints``, ``._a.jpg``, ``__MACOSX`` ..."""
    return name.startswith(".") or name.lower() in _FOREIGN


def list_files(
    root: Path, suffixes: Collection[str], max_depth: int = MAX_DEPTH, *, ordinary: bool = True
) -> list[str]:
    """Ordinary files below ``root``, as paths relative to it with ``/``, sorted.

    Hidden files and folders are passed over; linked folders are entered, each folder once. Folders that cannot be
    listed, and all beyond ``MAX_ENTRIES`` entries, are passed over too.

    Args:
        root: the folder.
        suffixes: in lower case, with the dot.
        max_depth: how many folders deep; 0 is the folder itself.
        ordinary: whether to pass over what only has the name of a file: links that lead nowhere, FIFOs.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting, links = [(os.fspath(root), "", 0)], list[tuple[str, str, int]]()
    entries = 0
    while (waiting or links) and entries < MAX_ENTRIES:
        folder, prefix, depth = waiting.pop() if waiting else links.pop()  # a folder's own path before links to it
        if _is_new(folder, seen):
            for entry in _scan(folder):
                entries += 1
                name = entry.name
                if is_hidden(name):
                    continue
                if os.path.splitext(name)[1].lower() in suffixes and (
                    _is_file(entry) or not (ordinary or _is_dir(entry))
                ):
                    found.append(prefix + name)
                elif depth < max_depth and _is_dir(entry):
                    (links if entry.is_symlink() else waiting).append((entry.path, f"{prefix}{name}/", depth + 1))
    return sorted(found)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder was not entered yet, by whatever path; remember it."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    key = (status.st_dev, status.st_ino)
    new = key not in seen
    seen.add(key)
    return new


def normal(name: str) -> str:
    """A name as file systems that ignore case and Unicode's forms compare it."""
    return unicodedata.normalize("NFC", name).casefold()


def stem_of(path: str) -> str:
    """A path without its last suffix: ``day1/photo.jpg`` for ``day1/photo.jpg.xml``."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


class FileIndex:
    """The files below a folder, listed once.

    Attributes:
        root: the folder.
        paths: relative paths with ``/``, sorted.
    """

    def __init__(self, root: Path, suffixes: Collection[str], max_depth: int = MAX_DEPTH) -> None:
        self.root = root
        self.paths = list_files(root, suffixes, max_depth)
        self._names = set(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __contains__(self, path: str) -> bool:
        return path in self._names

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _grouped(self.paths, stem_of)

    @cached_property
    def _normal_paths(self) -> dict[str, list[str]]:
        return _grouped(self.paths, normal)

    @cached_property
    def _normal_stems(self) -> dict[str, list[str]]:
        return _grouped(self.paths, lambda path: normal(stem_of(path)))

    @cached_property
    def _last_parts(self) -> dict[str, list[str]]:
        return _grouped(self.paths, lambda path: normal(path.rpartition("/")[2]))

    @cached_property
    def _without_upload_prefix(self) -> dict[str, list[str]]:
        return _grouped(self.paths, lambda path: UPLOAD_PREFIX.sub("", normal(path.rpartition("/")[2])))

    @cached_property
    def _last_stems(self) -> dict[str, list[str]]:
        return _grouped(self.paths, lambda path: normal(stem_of(path.rpartition("/")[2])))

    def with_stem(self, stem: str, suffix: str = "") -> str | None:
        """The file called ``stem`` and any suffix, preferably ``suffix``; else the one whose whole name is ``stem``.

        The exact name comes first, then another case or Unicode form where that is one file.
        """
        found = self._stems.get(stem)
        if found:
            return next((path for path in found if path == stem + suffix), found[0])
        if stem in self._names:
            return stem
        return _only(self._normal_stems.get(normal(stem), ())) or _only(self._normal_paths.get(normal(stem), ()))

    def called(self, name: str) -> list[str]:
        """The files of a name, with their suffix or without, in whatever folders, case and Unicode form."""
        return [*self._last_parts.get(normal(name), ()), *self._last_stems.get(normal(name), ())]

    def ending_like(self, name: str) -> str | None:
        """The file that a path from elsewhere means: the one that shares its end, if no other shares as much.

        Either slash, ``..``, drive letters, URLs and their ``%20``, other case, and a labelling server's prefix of
        eight hexadecimal digits are understood.
        """
        for text in dict.fromkeys((name, unquote(name.split("?")[0]))):
            parts = [normal(part) for part in re.split(r"[/\\]", text) if part not in ("", ".", "..")]
            if not parts:
                continue
            bare = UPLOAD_PREFIX.sub("", parts[-1])
            candidates = self._last_parts.get(parts[-1]) or self._without_upload_prefix.get(bare, [])
            if found := _longest_end(candidates, parts):
                return found
        return None

    def stem_ending_like(self, stem: str) -> str | None:
        """The file whose path without suffix shares most of the end of ``stem``, if it is one."""
        parts = normal(stem).split("/")
        return _longest_end(self._last_stems.get(parts[-1], []), parts)


def _grouped(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


def _only(paths: Collection[str]) -> str | None:
    """The one path, where it is one."""
    return next(iter(paths)) if len(paths) == 1 else None


def _longest_end(candidates: Collection[str], parts: list[str]) -> str | None:
    """The candidate whose folders agree with the end of ``parts`` for longest; ``None`` where two do equally."""

    def agreeing(path: str) -> int:
        folders = normal(path).split("/")[-2::-1]
        wanted = parts[-2::-1]
        pairs = zip(folders, wanted, strict=False)
        return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(folders), len(wanted)))

    if len(candidates) < 2:
        return _only(candidates)
    best = max(map(agreeing, candidates))
    return _only([path for path in candidates if agreeing(path) == best])
