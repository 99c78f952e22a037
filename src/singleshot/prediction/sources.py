"""Which images a user means: files, folders and globs to paths in a stable order, and what was passed over."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from singleshot.core.files import is_regular
from singleshot.errors import ImageError
from singleshot.images.packed import find_container, is_container, list_members
from singleshot.images.read import IMAGE_SUFFIXES, nearest_hint
from singleshot.prediction.output_folder import holds_results, recorded_files
from singleshot.prediction.packed_images import choose_members
from singleshot.prediction.source_lists import MAX_FOLDERS, is_list, read_source_list

PathLike = str | os.PathLike[str]

MOST_NAMED = 5
"""Things of a kind that a line names; the others are counted."""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """What sources mean.

    Attributes:
        images: files in a stable order, none of them twice.
        notes: what was passed over by rule, a line each.
        missed: what was asked for and could not be looked at, a line each.
    """

    images: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def find_images(
    sources: PathLike | Sequence[PathLike], *, recursive: bool = False, exclude: Path | None = None
) -> list[Path]:
    """The images of `search_images`, with a warning for each folder that could not be looked into."""
    found = search_images(sources, recursive=recursive, exclude=exclude)
    for line in found.missed:
        warnings.warn(line, stacklevel=2)
    return found.images


def search_images(
    sources: PathLike | Sequence[PathLike], *, recursive: bool = False, exclude: Path | None = None
) -> FoundImages:
    """List the image files that sources mean.

    A file is taken whatever its suffix; one that holds images (``train.rec``, ``photos.zip``) gives all of them, but
    hidden ones; a folder gives its images (by suffix, natural order: 2 before 10), with ``recursive`` those of its
    subfolders too, linked ones included, hidden ones and results of earlier runs not; ``@list.txt`` is the sources that
    the file names; anything else is tried as a glob. No file is listed twice.

    Args:
        sources: files, folders, globs, lists.
        recursive: look into subfolders.
        exclude: a folder inside a source whose images are left out (where results are written).

    Raises:
        ImageError: a source does not exist, holds no image, or is no path.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not given:
        raise ImageError("no source: name an image file, a folder or a glob such as 'photos/*.jpg'")
    search = _Search(recursive, exclude)
    paths: dict[str, Path] = {}
    all_paths = [path for source in given for path in search.expand(source)]
    if not all_paths:
        more = len(search.missed) - MOST_NAMED
        raise ImageError("; ".join(search.missed[:MOST_NAMED]) + (f"; and {more:,} more" if more > 0 else ""))
    twice = [path for path in all_paths if paths.setdefault(_place(path), path) is not path]
    images = list(paths.values())
    return FoundImages(images, search.notes(twice), search.missed)


def is_many(source: PathLike) -> bool:
    """Whether a source is a folder, a file of images, a list or a glob: stands for any number of images."""
    text = os.fspath(source)
    if os.path.isdir(text) or is_container(text):
        return True
    inside = find_container(text)
    if inside is not None:
        return inside[1] not in list_members(inside[0])
    return not os.path.lexists(text) and (is_list(text) or glob.has_magic(text))


_EARLIER = "results of an earlier run"


class _Search:
    """Looks into sources and remembers what it passed over."""

    def __init__(self, recursive: bool, exclude: Path | None) -> None:
        self._recursive = recursive
        self._exclude = exclude.resolve() if exclude else None
        self._passed: dict[str, list[Path]] = {}
        self.missed: list[str] = []

    def expand(self, source: PathLike) -> list[Path]:
        """The images of one source."""
        text = _checked(source)
        if os.path.isdir(text):
            return self._folder(Path(text))
        if is_container(text):
            return self._packed(Path(text), "")
        if os.path.lexists(text):
            return [Path(text)]
        if is_list(text):
            return self._listed(text)
        if inside := find_container(text):
            return self._packed(*inside)
        _check_words(text)
        return self._matches(text)

    def notes(self, twice: Sequence[Path]) -> list[str]:
        """A line for each kind of thing that was passed over."""
        self._passed["named twice, detected in once"] = list(twice)
        return [_listed(paths, why) for why, paths in self._passed.items() if paths]

    def _pass(self, why: str, path: Path) -> None:
        paths = self._passed.setdefault(why, [])
        if path not in paths[-1:]:
            paths.append(path)

    def _folder(self, folder: Path) -> list[Path]:
        earlier, images = _EarlierResults(folder), []
        for path in sorted(self._walk(folder, self._inside(folder), {_identity(folder)}), key=_natural):
            if earlier.holds(path):
                self._pass(_EARLIER, path.parent)
            else:
                images.append(path)
        if not images:
            raise ImageError(self._nothing_in(folder))
        return images

    def _packed(self, container: Path, wanted: str) -> list[Path]:
        """Images inside a file: all, the one that is wanted, or those below a folder or of a pattern of that name."""
        try:
            found = choose_members(container, wanted)
        except OSError as error:
            self.missed.append(f"{container}: cannot be read: {error.strerror or error}")
            return []
        if not found.images:
            passed = [_listed(paths, why) for why, paths in found.passed.items()]
            what = f"{container}: holds no image" + f" '{wanted}'" * bool(wanted)
            raise ImageError("; ".join([what, *found.faults, *passed]))
        for why, paths in found.passed.items():
            self._passed.setdefault(why, []).extend(paths)
        self.missed += found.faults
        return found.images

    def _listed(self, text: str) -> list[Path]:
        """The images of the sources that a file lists; a line of it that is wrong is missed, not the others."""
        images = []
        for line in read_source_list(text):
            try:
                images += self.expand(line.source)
            except ImageError as error:
                self.missed.append(f"{line.place}: {error}")
        return images

    def _inside(self, source: Path) -> Path | None:
        """The excluded folder, where it lies in a source; what lies in it itself was asked for."""
        return self._exclude if self._exclude and source.resolve() in self._exclude.parents else None

    def _walk(self, folder: Path, exclude: Path | None, seen: set[tuple[int, int]]) -> Iterator[Path]:
        """Images of a folder; ``seen`` holds the folders that were entered, so that links cannot lead round."""
        try:
            with os.scandir(folder) as scan:
                entries = list(scan)
        except OSError as error:
            self.missed.append(f"{folder}: cannot be searched: {error.strerror}")
            return
        for entry in entries:
            path = folder / entry.name
            if os.path.isdir(path):  # never an error, not even for a link to itself
                if self._may_enter(path, exclude, seen):
                    yield from self._walk(path, exclude, seen)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                if entry.name.startswith("."):
                    self._pass("hidden", path)
                elif is_regular(path) or not os.path.exists(path):  # a link to nothing is told when it is read
                    yield path
                else:
                    self._pass("a pipe or a device", path)
            elif is_container(path):
                earlier = _EarlierResults(folder).holds(path)
                self._pass(_EARLIER if earlier else "a file that holds images: name it to look into it", path)

    def _may_enter(self, folder: Path, exclude: Path | None, seen: set[tuple[int, int]]) -> bool:
        if exclude is not None and folder.resolve() == exclude:
            return False
        if folder.name.startswith("."):
            if self._recursive:
                self._pass("hidden", folder)
        elif not self._recursive:
            self._pass(
                _EARLIER if holds_results(folder) else "subfolders: look into them by `recursive=True`",
                folder,
            )
        elif _identity(folder) in seen:
            self._pass("a link to a folder that was searched already", folder)
        else:
            seen.add(_identity(folder))
            return True
        return False

    def _matches(self, text: str) -> list[Path]:
        """Files that a pattern matches. Folders that exist as they were typed are no part of the pattern."""
        literal, pattern = _split(text)
        if not glob.has_magic(pattern):
            raise ImageError(f"{text}: no such file or folder{nearest_hint(Path(text))}")
        if pattern.count(os.sep) > MAX_FOLDERS:
            raise ImageError(f"{text[:200]}...: a pattern of more than {MAX_FOLDERS} folders, one in another")
        matches = glob.iglob(os.path.join(glob.escape(literal), pattern), recursive=True)
        exclude, earlier = self._inside(Path(literal or ".")), _EarlierResults(Path(literal))
        images = []
        for path in sorted(map(Path, matches), key=_natural):
            if path.is_dir():
                if "**" not in text:
                    self._pass("folders that the pattern matches", path)
            elif earlier.holds(path):
                self._pass(_EARLIER, path.parent)
            elif is_container(path):
                images += self._packed(path, "")
            elif exclude is None or exclude not in path.resolve().parents:
                images.append(path)
        if not images and not self.missed:
            raise ImageError(f"{text}: the pattern matches no file (in {Path.cwd()}){_bracket_hint(text)}")
        return images

    def _nothing_in(self, folder: Path) -> str:
        if self.missed:
            return self.missed[-1]
        message = f"{folder}: holds no image ({' '.join(IMAGE_SUFFIXES)})"
        if not self._recursive and next(_Search(True, self._exclude)._walk(folder, None, {_identity(folder)}), None):
            return f"{message}; its subfolders do: look into them by `recursive=True`"
        passed = "; ".join(_listed(paths, why) for why, paths in self._passed.items() if paths)
        return f"{message}{'; ' + passed if passed else ''}"


class _EarlierResults:
    """Tells which files an earlier run wrote, into the searched folder or into one below it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._recorded: dict[Path, frozenset[Path]] = {}

    def holds(self, path: Path) -> bool:
        """Whether a folder between the root and the file has a record that names the file."""
        for folder in path.parents:
            if folder not in self._recorded:
                self._recorded[folder] = frozenset(recorded_files(folder) if holds_results(folder) else ())
            if path in self._recorded[folder]:
                return True
            if folder == self._root:
                break
        return False


def _checked(source: PathLike) -> str:
    """A source as text.

    Raises:
        ImageError: it is empty, or no text.
    """
    text = os.fspath(source)
    if not isinstance(text, str):
        raise ImageError(f"the source {text!r} is bytes: use os.fsdecode(path)")
    if not text.strip():
        raise ImageError(f'the source "{text}" is empty (an unset variable?): name an image file, a folder or a glob')
    if "\0" in text:
        raise ImageError(f"the source {text!r} holds a zero byte: no file has such a name")
    return text


def _check_words(text: str) -> None:
    """Refuse what is typed like a file and is none.

    Raises:
        ImageError: an address, or a ``~`` that no shell expanded.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=:/)", text)
    if scheme and scheme[0].lower() == "file":
        raise ImageError(f"{text}: addresses are not opened: write the path, {url2pathname(urlsplit(text).path)}")
    if (scheme and len(scheme[0]) > 1) or text.startswith("data:"):
        shown = text if len(text) < 200 else f"{text[:60]}..."
        raise ImageError(f"{shown}: addresses are not fetched: download the image first, and name the file")
    if text.startswith("~"):
        raise ImageError(f"{text}: the shell did not expand '~': write {os.path.expanduser(text)}")


def _split(text: str) -> tuple[str, str]:
    """The longest beginning of a path that exists as it is, and the rest."""
    head, tail = os.path.split(text)
    rest = [tail]
    while head and not os.path.isdir(head):
        parent, name = os.path.split(head)
        if parent == head:
            break
        rest.insert(0, name)
        head = parent
    return head, os.path.join(*rest)


def _bracket_hint(text: str) -> str:
    """How to name a file whose name holds brackets, where the pattern has some."""
    if "[" not in text:
        return ""
    literal, pattern = _split(text)
    typed = os.path.join(literal, glob.escape(pattern).replace("[*]", "*").replace("[?]", "?"))
    return f"; brackets are part of the pattern language, [ab] is a or b; for the brackets themselves write '{typed}'"


def _listed(paths: Sequence[Path], why: str) -> str:
    """``a.jpg, b.jpg and 3 more: hidden``."""
    names = ", ".join(str(path) for path in paths[:MOST_NAMED])
    more = f" and {len(paths) - MOST_NAMED:,} more" if len(paths) > MOST_NAMED else ""
    return f"passed over ({why}): {names}{more}"


def _place(path: Path) -> str:
    """Equal for one file that is reached by way of several folders; links to a file are files of their own."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _natural(path: Path) -> list[tuple[int, str]]:
    words = re.split(r"(\d+)", str(path).lower())
    return [(int(word), "") if word.isdecimal() and len(word) < 100 else (-1, word) for word in words] + [
        (-1, str(path))
    ]
