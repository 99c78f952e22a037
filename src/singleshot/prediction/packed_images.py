"""Which images inside a file a user means: all of ``photos.zip``, ``photos.zip/trip``, ``photos.zip/trip/*.jpg``."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

from singleshot.images.packed import list_faults, list_members, list_passed


@dataclass(frozen=True, slots=True)
class ChosenMembers:
    """Images inside a file.

    Attributes:
        images: their paths, in the file's order.
        passed: what was passed over by rule, by the reason.
        faults: a line for each damaged place.
    """

    images: list[Path]
    passed: dict[str, list[Path]]
    faults: list[str]


def choose_members(container: Path, wanted: str = "") -> ChosenMembers:
    """The images of a file that are wanted. Hidden ones are passed over, as in a folder, unless one is named.

    Args:
        container: the file.
        wanted: an image inside it, a folder, or a pattern (``*`` does not pass a slash); empty for everything.

    Raises:
        OSError: the file cannot be read.
    """
    members = list_members(container)
    if wanted in members:
        return ChosenMembers([container / wanted], {}, [])
    chosen = [name for name in members if _is_wanted(name, wanted)]
    over = {why: [name for name in names if _is_wanted(name, wanted)] for why, names in list_passed(container).items()}
    over["hidden"] = [name for name in chosen if _is_hidden(name, wanted)]
    return ChosenMembers(
        [container / name for name in chosen if not _is_hidden(name, wanted)],
        {why: [container / name for name in names] for why, names in over.items() if names},
        [f"{container}: {fault}" for fault in list_faults(container)],
    )


def _is_wanted(name: str, wanted: str) -> bool:
    if not wanted or name.startswith(f"{wanted}/"):
        return True
    parts, patterns = name.split("/"), wanted.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _is_hidden(name: str, wanted: str) -> bool:
    return any(part.startswith(".") for part in name.removeprefix(f"{wanted}/").split("/"))
