"""Splits of a data set without lists of them: the folders of its images, where those are called ``train``, ``val``."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from singleshot.data.records import Layout, Records
from singleshot.data.split_names import names_split


@dataclass(frozen=True)
class FolderSplits:
    """A data set that was read in whole, and the images of each split.

    Attributes:
        records: everything.
        members: positions of images in ``records``, by split; empty for a heap.
        missing: splits that are named and not there, as the reader found.
    """

    records: Records
    members: dict[str, tuple[int, ...]]
    missing: dict[str, str]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of folders, such as ``train`` and ``val2017``."""
        return tuple(self.members)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or all."""
        if split is None:
            return self.records
        return self.records.subset(sorted({index for name in split.split("+") for index in self.members[name]}))


def split_by_folders(layout: Layout, root: Path) -> FolderSplits:
    """Read a heap of images; where the folders below ``root`` name two splits or more, those are the splits."""
    records = layout.read(None)
    paths = records.images.paths
    names = [_split_of(folder, root) for folder in paths.folders]
    members: dict[str, list[int]] = {name: [] for name in names}
    for index, folder in enumerate(paths.folder_numbers.tolist()):
        members[names[folder]].append(index)
    members = {name: indices for name, indices in members.items() if indices}
    others = members.pop("", [])
    if len(members) < 2:
        members = {}
    elif others:
        message = f"{len(others)} images are in no folder of a split, such as {records.images[others[0]].path}"
        problems = list(records.problems)
        records = dataclasses.replace(records, problems=problems)
        records.add_problem(root, None, "no-split", message, "noted")
    missing = dict(getattr(layout, "missing", None) or {})
    return FolderSplits(records, {name: tuple(members[name]) for name in sorted(members)}, missing)


def _split_of(folder: str, root: Path) -> str:
    """The split that a folder's path below ``root`` names; ``""`` for none."""
    parts = PurePath(os.path.relpath(folder or ".", root)).parts
    return next((part for part in reversed(parts) if names_split(part)), "")
