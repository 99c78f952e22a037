"""What the name of a split says: ``train_annotations``, ``Train``, ``x-train-export``, ``val2017`` ..."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from singleshot.errors import DataError

Role = Literal["train", "trainval", "val", "test"]

TRAINING: tuple[Role, ...] = ("train", "trainval")
HELD_OUT: tuple[Role, ...] = ("val", "test")
_WORDS: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn", "trains", "traindata", "trainset"), "train"),
    **dict.fromkeys(("trainval", "trainvalid"), "trainval"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "valset", "dev", "eval", "minival"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "testdata", "testset", "holdout", "heldout"), "test"),
}
# What tools call the one list of everything.
_WHOLE = {"", "all", "annotation", "annotations", "coco", "data", "dataset", "default", "export", "full", "images"} | {
    *("instances", "label", "labels", "result", "results", "whole")
}
_PARTS = re.compile(r"[^\W\d_]+")
_CASE_CHANGE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_FOLD = re.compile(r"(k[ _-]?)?folds?[ _-]?\d+", re.IGNORECASE)


def split_role(name: str) -> Role | None:
    """What a split is for, by the words of its name; ``None`` where no word says so, or two contradict each other.

    Years, numbers, capitals and the signs between the words do not count: ``instances_train2017``, ``Train``,
    ``custom-train``, ``trainAnnotations``. A name with both ``train`` and ``val`` is a ``trainval``.
    """
    words = [word.lower() for word in _PARTS.findall(_CASE_CHANGE.sub("_", name))]
    roles = {_WORDS[word] for word in words if word in _WORDS}
    if "test" in roles and "test" in words and "dev" in words:
        roles.discard("val")  # COCO's test-dev
    if roles == {"train", "val"}:
        return "trainval"
    return roles.pop() if len(roles) == 1 else None


def names_split(name: str) -> bool:
    """Whether a file or folder is called as a split: by its role, or as the fold of a cross-validation (``fold_3``)."""
    return split_role(name) is not None or _FOLD.fullmatch(name) is not None


def may_hold(folders: Iterable[str], role: Role | None) -> bool:
    """Whether folders may hold the images of a split: images of another split may have the same names."""
    return not role or all(split_role(folder) in (None, role) for folder in folders)


def is_whole(name: str) -> bool:
    """Whether a name such as ``default`` or ``annotations`` stands for everything, not for a split."""
    return name.lower() in _WHOLE


def resolve_split(wanted: str, known: Sequence[str], where: object) -> str:
    """The data set's own names of wanted splits: ``train`` also finds ``Train.txt``'s, ``train2017``, ``my_train``.

    Args:
        wanted: one name, or several joined by ``+``.
        known: the names that the data set has.
        where: the data set, for the message.

    Raises:
        DataError: there is no such split, or several fit.
    """
    return "+".join(dict.fromkeys(_own_name(name.strip(), known, where) for name in wanted.split("+")))


def _own_name(wanted: str, known: Sequence[str], where: object) -> str:
    if wanted in known:
        return wanted
    role = _WORDS.get(wanted.lower())
    found = [name for name in known if name.lower() == wanted.lower()] or _of_role(role, known)
    if len(found) == 1:
        return found[0]
    has = ", ".join(known) or "none"
    if found:
        raise DataError(f"{where}: '{wanted}' may be {' or '.join(found)}: name one, or join them with '+'")
    raise DataError(f"{where}: no split '{wanted}': it has {has}; join several with '+'")


def _of_role(role: Role | None, known: Sequence[str]) -> list[str]:
    """The splits of a role: those whose whole name says so (``valid``), else all whose words do (``my_val``)."""
    plain = [name for name in known if role and _WORDS.get(name.lower()) == role]
    return plain or [name for name in known if role and split_role(name) == role]


def choose_split(roles: Sequence[Role], known: Sequence[str], where: object, option: str) -> str | None:
    """The one split of the first role that any has; ``None`` where none has one.

    Raises:
        DataError: two splits have the same claim; names them and the option that chooses.
    """
    for role in roles:
        found = _of_role(role, known)
        if len(found) > 1:
            joined = "+".join(found)
            raise DataError(f"{where}: {' and '.join(found)} may both be meant: name one, or {joined}, by `{option}`")
        if found:
            return found[0]
    return None
