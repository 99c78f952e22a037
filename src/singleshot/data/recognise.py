"""Which format a data set has: the one that explains most of its images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from singleshot.core.filled_folder import OLD, is_half_replaced
from singleshot.data.bad_records import Problem
from singleshot.data.column_types import text_keys
from singleshot.data.file_index import list_files
from singleshot.data.folder_splits import split_by_folders
from singleshot.data.formats.other_formats import describe_foreign
from singleshot.data.formats.registry import FORMATS, known_format
from singleshot.data.paths import images_below, is_image, subfolders, visible
from singleshot.data.records import Layout, Records
from singleshot.data.split_names import is_whole
from singleshot.errors import DataError
from singleshot.images.packed import find_member
from singleshot.images.read import IMAGE_SUFFIXES

# A second format that explains this share of the first's images, or so many others, is no stray file.
RIVAL = 0.8
ALIKE = 0.9
# How deep, and in how many folders of one, a data set is looked for.
DEPTH, MAX_FOLDERS = 3, 50
MASKS = re.compile(r"segmentation|mask|depth|preview|thumb|visuali|panoptic", re.IGNORECASE)


@dataclass(frozen=True)
class FoundSet:
    """A recognised data set.

    Attributes:
        path: its folder or file, perhaps a folder inside the one that was named.
        format: the reader.
        layout: what the reader found.
        problems: how the format was chosen, and what other formats' files are passed over.
        left_out: images (real paths) that only another format explains: here they would be background.
    """

    path: Path
    format: str
    layout: Layout
    problems: tuple[Problem, ...] = ()
    left_out: frozenset[str] = frozenset()

    @property
    def root(self) -> Path:
        """The data set's folder."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def missing(self) -> dict[str, str]:
        """Splits that are named but not there, and what is wrong with each."""
        return dict(getattr(self.layout, "missing", None) or {})


def own_splits(found: FoundSet) -> tuple[str, ...]:
    """Splits that the files define; a lone ``default`` or ``all`` is no split."""
    names = found.layout.splits
    return () if len(names) == 1 and is_whole(names[0]) else names


def recognise(path: Path, format: str = "auto") -> FoundSet:
    """Find a data set's format, from its files alone or, where several fit, from the images that each explains.

    Raises:
        DataError: nothing is there, no reader knows it, or two formats have the same claim; names what was looked for
            and what is there.
    """
    if not path.exists() and "{" not in path.name:  # a pattern that names several files
        raise DataError(f"{path}: no such folder or file")
    if is_half_replaced(path):
        raise DataError(
            f"{path}: is being replaced, or was when a conversion was killed: run that again. What was there before "
            f"lies in {path / OLD}*, whose content belongs in its place"
        )
    names = FORMATS.names() if known_format(format) == "auto" else (format,)
    found = _at(path, names) or _inside(path, names, DEPTH) or _anywhere(path, names)
    if found:
        return found if own_splits(found) else replace(found, layout=split_by_folders(found.layout, found.root))
    looked = "\n  ".join(f"{form.title}: {form.looked_for}" for form in map(FORMATS.get, names))
    foreign = describe_foreign(path)
    raise DataError(f"{path}: no labelled images found. Looked for\n  {looked}\nand found {_describe(path)}.{foreign}")


def _describe(path: Path) -> str:
    """What a folder holds, in a few words."""
    if not path.is_dir():
        return f"a file '{path.name}'"
    entries = sorted(path.iterdir())[:1000]
    folders = [entry.name + "/" for entry in entries if entry.is_dir()]
    suffixes = [entry.suffix.lower() or "(no suffix)" for entry in entries if entry.is_file()]
    counts = [f"{suffixes.count(suffix)} {suffix} files" for suffix in dict.fromkeys(suffixes)]
    return ", ".join([*folders[:8], *counts[:8]]) or "an empty folder"


def _at(path: Path, names: Sequence[str]) -> FoundSet | None:
    """What ``path`` itself is."""
    candidates: list[tuple[str, Layout]] = []
    faults: list[DataError] = []
    for name in names:
        try:
            layout: Layout | None = FORMATS.get(name).find(path)
        except DataError as error:
            faults.append(error)
            continue
        if layout is not None:
            candidates.append((name, layout))
    if not candidates:
        if faults:
            raise faults[0]
        return None
    if path.is_file() or (len(candidates) == 1 and not faults):
        return FoundSet(path, *candidates[0])
    return _weigh(path, candidates, faults)


@dataclass(frozen=True)
class _Claim:
    """A format and the images that it explains.

    Attributes:
        format, layout: the candidate.
        images: real path of each image that is there and has labels -> the file of its labels.
        objects: labels of each image, by its real path.
        named: the class names, where the format has some.
    """

    format: str
    layout: Layout
    images: dict[str, Path]
    objects: Counter[str]
    named: frozenset[str]

    def __str__(self) -> str:
        return f"{FORMATS.get(self.format).title} explains {len(self.images)}"


def _claim(name: str, layout: Layout, records: Records) -> _Claim:
    real = [_real(image.path) for image in records.images]
    images = {
        path: image.objects_file or image.file
        for path, image in zip(real, records.images, strict=True)
        if image.labelled and (os.path.isfile(path) or find_member(path))
    }
    named = frozenset() if any(p.kind == "unnamed-class" for p in records.problems) else frozenset(records.class_names)
    return _Claim(name, layout, images, Counter(real[owner] for owner in records.owner), named)


def _weigh(path: Path, candidates: Sequence[tuple[str, Layout]], faults: list[DataError]) -> FoundSet:
    """The candidate that explains most images, unless another has nearly the same claim and says something else."""
    claims = []
    for name, layout in candidates:
        try:
            claims.append(_claim(name, layout, layout.read(None)))
        except DataError as error:
            faults.append(error)
    claims = sorted((claim for claim in claims if claim.images), key=lambda claim: -len(claim.images))
    if not claims:
        if faults:
            raise faults[0]
        return FoundSet(path, *candidates[0])
    total = len(images_below(path))
    if faults and 2 * len(claims[0].images) < total:
        raise faults[0]
    for other in claims[1:]:
        _refuse_rival(path, claims[0], other, total)
    alike = [other for other in claims[1:] if _is_rival(claims[0], other)]
    best = min((claims[0], *alike), key=lambda claim: FORMATS.names().index(claim.format))
    others = [claim for claim in claims if claim is not best]
    problems = [Problem(path, None, "other-format", "noted", f"passed over: {error}") for error in faults]
    if others:
        text = f"read as {FORMATS.get(best.format).title}, which explains {len(best.images)} of {total} images; "
        text += ", ".join(map(str, others)) + f"; `format='{others[0].format}'` would read that instead"
        problems.append(Problem(path, None, "format-chosen", "noted", text))
    for other in others:
        problems += _passed_over(best, other)
    left_out = frozenset().union(*(other.images for other in others)) - best.images.keys()
    layout = FORMATS.get(best.format).beside(best.layout, {other.format for other in others})
    return FoundSet(path, best.format, layout, tuple(problems), left_out)


def _is_rival(best: _Claim, other: _Claim) -> bool:
    alone = len(other.images.keys() - best.images.keys())
    return len(other.images) >= RIVAL * len(best.images) or alone > (1 - RIVAL) * len(best.images)


def _refuse_rival(path: Path, best: _Claim, other: _Claim, total: int) -> None:
    """Refuse two formats with the same claim, unless they say the same of nearly all images.

    Raises:
        DataError: names both, a file of each, and how to choose.
    """
    if not _is_rival(best, other):
        return
    both = best.images.keys() & other.images.keys()
    alike = sum(best.objects[image] == other.objects[image] for image in both)
    same_names = not best.named or not other.named or best.named == other.named
    if same_names and alike >= ALIKE * max(len(best.images), len(other.images)):
        return
    files = " and ".join(f"{claim} ({min(claim.images.values())} ...)" for claim in (best, other))
    choose = f"`format='{best.format}'` or `format='{other.format}'`"
    raise DataError(
        f"{path}: labels of two formats, and they differ. Of {total} images {files}: choose with {choose}, or remove "
        "the labels that are out of date"
    )


def _passed_over(best: _Claim, other: _Claim) -> list[Problem]:
    """A note for each file of a format that is not read, and which of its images are therefore left out."""
    passed, read = FORMATS.get(other.format).title, FORMATS.get(best.format).title
    problems = []
    by_file: dict[Path, list[str]] = {}
    for image, file in other.images.items():
        by_file.setdefault(file, []).append(image)
    for file, images in sorted(by_file.items()):
        lost = sorted(image for image in images if image not in best.images)
        message = f"{passed} labels, passed over: the data set is read as {read}"
        if lost:
            message += (
                f"; {len(lost)} of its images have no other labels and are left out, such as {Path(lost[0]).name}"
            )
        problems.append(Problem(file, None, "other-format", "skipped" if lost else "noted", message))
    return problems


def _inside(path: Path, names: Sequence[str], depth: int) -> FoundSet | None:
    """The one data set in a folder's folders, as when an archive has an outer folder.

    Raises:
        DataError: there are several; names them.
    """
    if not path.is_dir() or not depth or any(is_image(entry.name) for entry in visible(path)):
        return None
    folders = subfolders(path)[:MAX_FOLDERS]
    found = [one for folder in folders if (one := _at(folder, names) or _inside(folder, names, depth - 1))]
    if len(found) > 1:
        if all(FORMATS.get(one.format).find_anywhere and not one.layout.splits for one in found):
            return None  # labelled images in several folders are one heap
        places = ", ".join(str(one.path) for one in found[:8])
        raise DataError(f"{path}: holds several data sets: name one of {places}")
    if not found:
        return None
    one = found[0]
    note = Problem(path, None, "inner-folder", "noted", f"the data set is in {one.path}")
    return FoundSet(one.path, one.format, one.layout, (note, *one.problems), one.left_out)


def _anywhere(path: Path, names: Sequence[str]) -> FoundSet | None:
    """Labels beside images in whatever folders."""
    for name in names if path.is_dir() else ():
        search = FORMATS.get(name).find_anywhere
        if search and (layout := search(path)):
            return FoundSet(path, name, layout)
    return None


def _real(path: str | Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a name that no file can have
        return str(path)


def report_unexplained(root: Path, records: Records) -> list[Problem]:
    """A note for each image of a folder that no annotation names; folders of masks and the like do not count."""
    if not root.is_dir():
        return []
    files = {str(problem.file) for problem in records.problems}
    known = np.concatenate([records.images.paths.keys(), text_keys(files)])
    found = list_files(root, IMAGE_SUFFIXES, ordinary=False)
    before = str(root / "_")[:-1]
    unknown = ~np.isin(text_keys(before + name.replace("/", os.sep) for name in found), known)
    others = [root / found[row] for row in np.flatnonzero(unknown).tolist()]
    if others:
        real = set(map(_real, {*records.images.paths, *files}))
        others = [path for path in others if _real(path) not in real]
    return [
        Problem(path, None, "unexplained-image", "noted", "no annotation names this image: it is not used")
        for path in others
        if not any(MASKS.search(part) for part in path.relative_to(root).parts[:-1])
    ]
