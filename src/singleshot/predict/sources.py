"""Which images a user means: files, folders and globs to a list of paths in a stable order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from singleshot.errors import ImageError
from singleshot.images import IMAGE_SUFFIXES, nearest_hint

PathLike = str | os.PathLike[str]


def find_images(
    sources: PathLike | Sequence[PathLike], *, recursive: bool = False, exclude: Path | None = None
) -> list[Path]:
    """List the image files that sources mean.

    A file is taken whatever its suffix; a folder gives its images (by suffix, natural order: 2 before 10), with
    ``recursive`` those of its subfolders too; anything else is tried as a glob. No file is listed twice.

    Args:
        sources: files, folders, globs.
        recursive: look into subfolders.
        exclude: a folder inside a source whose images are left out (where results are written).

    Raises:
        ImageError: a source does not exist or holds no image.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not given:
        raise ImageError("no source: name an image file, a folder or a glob such as 'photos/*.jpg'")
    found: dict[Path, Path] = {}
    for source in given:
        for path in _expand(Path(source), recursive, exclude):
            found.setdefault(Path(os.path.abspath(path)), path)
    return list(found.values())


def is_many(source: PathLike) -> bool:
    """Whether a source is a folder or a glob, that is, stands for any number of images."""
    path = Path(source)
    return path.is_dir() or (not path.exists() and glob.has_magic(str(source)))


def _expand(source: Path, recursive: bool, exclude: Path | None) -> list[Path]:
    if source.is_dir():
        inside = exclude if exclude and source.resolve() in exclude.resolve().parents else None
        images = _without(_images_in(source, recursive), inside)
        if not images:
            raise ImageError(_nothing_in(source, recursive))
        return images
    if source.exists():
        return [source]
    if not glob.has_magic(str(source)):
        raise ImageError(f"{source}: no such file or folder{nearest_hint(source)}")
    matches = (Path(match) for match in glob.glob(str(source), recursive=True))
    images = _without((path for path in matches if path.is_file()), exclude)
    if not images:
        raise ImageError(f"{source}: the pattern matches no file (in {Path.cwd()})")
    return images


def _images_in(folder: Path, recursive: bool) -> Iterator[Path]:
    pattern = "**/*" if recursive else "*"
    return (path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _without(paths: Iterable[Path], exclude: Path | None) -> list[Path]:
    """In natural order, without hidden files and without what lies in ``exclude``."""
    inside = exclude.resolve() if exclude else None
    kept = (
        path
        for path in paths
        if not path.name.startswith(".") and (inside is None or inside not in path.resolve().parents)
    )
    return sorted(kept, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    words = re.split(r"(\d+)", str(path).lower())
    return [(int(word), "") if word.isdigit() else (-1, word) for word in words] + [(-1, str(path))]


def _nothing_in(folder: Path, recursive: bool) -> str:
    message = f"{folder}: holds no image ({' '.join(IMAGE_SUFFIXES)})"
    if not recursive and next(_images_in(folder, recursive=True), None):
        message += "; its subfolders do: add --recursive (recursive=True)"
    return message
