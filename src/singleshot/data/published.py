"""The splits of a published result, and whether a data set is the one that they divide: VOC's devkit, or COCO."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from singleshot.data.recognise import FoundSet, own_splits
from singleshot.errors import DataError

AUTO = "auto"
NONE = "none"
_OF_VOC = re.compile(r"\d{4}_\w+")
_OF_COCO = re.compile(r"[a-z]\w*(2014|2015|2017)")
_YEAR_FOLDER = re.compile(r"VOC(\d{4})")


@dataclass(frozen=True, slots=True)
class PublishedSplits:
    """What a published detector learnt from, and what can be measured on.

    Attributes:
        train, val: splits, several joined by ``+``; ``val="none"`` where the labels were never published.
        measured_on: the published test set, in words.
    """

    train: str
    val: str
    measured_on: str


class ChosenSplits(NamedTuple):
    """Splits to open, by the data set's own names, and what to say of the choice.

    Attributes:
        train, val: as `singleshot.data.train_val.choose_training` takes them.
        notes: a sentence each.
    """

    train: str
    val: str
    notes: tuple[str, ...] = ()


def choose_published(found: FoundSet, published: PublishedSplits, train: str, val: str) -> ChosenSplits:
    """Published splits for what is ``auto``, where the data set has them.

    A data set of another kind keeps its own splits, and a note says so. VOC's and COCO's own data are never divided
    otherwise than published without being asked.

    Args:
        found: the data set.
        published: of the recipe.
        train, val: what the user asked for.

    Raises:
        DataError: it is VOC's devkit, or COCO, and lacks one of the splits; names it.
    """
    wanted = [name for name, asked in ((published.train, train), (published.val, val)) if asked == AUTO]
    parts = [part for name in wanted if name != NONE for part in name.split("+")]
    known = _own_names(found)
    if all(part in known for part in parts):
        return _chosen(published, train, val, known)
    if {_kind(part) for part in parts}.isdisjoint(map(_kind, known)):
        whose = " and ".join(sorted({_kind(part) for part in parts}))
        note = f"the recipe's splits ({', '.join(parts)}) are {whose}'s and not of this data, whose own split is used"
        return ChosenSplits(train, val, (note,))
    raise DataError(_lacks(found, parts, known))


def _chosen(published: PublishedSplits, train: str, val: str, known: dict[str, str]) -> ChosenSplits:
    def own(asked: str, name: str) -> str:
        if asked != AUTO:
            return asked
        return name if name == NONE else "+".join(known[part] for part in name.split("+"))

    notes: tuple[str, ...] = ()
    if val == AUTO and published.val == NONE:
        notes = (
            f"the published result is measured on {published.measured_on}, whose labels are not public: nothing is "
            "measured here, unless `val` names a split that is not learnt",
        )
    return ChosenSplits(own(train, published.train), own(val, published.val), notes)


def _own_names(found: FoundSet) -> dict[str, str]:
    """The data set's splits by their published names: those of the folder VOC2007 alone have no year."""
    own = own_splits(found)
    year = _YEAR_FOLDER.fullmatch(found.path.resolve().name)
    return {name: name for name in own} | ({f"{year[1]}_{name}": name for name in own} if year else {})


def _kind(name: str) -> str:
    """Whose split is called so; empty where anyone's may be."""
    return "VOC" if _OF_VOC.fullmatch(name) else "COCO" if _OF_COCO.fullmatch(name) else ""


def _lacks(found: FoundSet, parts: list[str], known: dict[str, str]) -> str:
    missing = [part for part in parts if part not in known]
    folders = sorted({f"VOC{part[:4]}" for part in parts if _kind(part) == "VOC"})
    whole = f", or give the devkit that holds {' and '.join(folders)}" if len(folders) > 1 else ""
    return (
        f"{found.path}: the recipe's splits are {', '.join(parts)}, and {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not here (there are {', '.join(known)}). Add what is missing{whole}, "
        "or name the splits to take by `train` and `val`"
    )
