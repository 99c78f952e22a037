"""A ``classes.txt`` beside annotations that name their classes: whose spelling and order it is, and what it lacks."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from singleshot.core.files import is_regular, read_text
from singleshot.data.bad_records import Problem, guessed_encoding
from singleshot.data.file_index import normal
from singleshot.data.records import Records
from singleshot.errors import DataError

CLASS_FILES = ("classes.txt", "labels.txt", "labelmap.txt", "label_list.txt")
# What other trainers want first in a list of classes; public classes have no background.
NO_CLASSES = frozenset({"background", "__ignore__"})
NAMES_SHOWN = 5
MAX_BYTES = 16 * 2**20
WITHOUT_SIGNS = str.maketrans("", "", " _-\t")


class ClassList(NamedTuple):
    """The names of a file, in its order and each once."""

    file: Path
    names: tuple[str, ...]


def read_class_lines(file: Path) -> tuple[list[str], list[Problem]]:
    """The lines of a list of classes without spaces at their ends, whatever the encoding; and a note if it is guessed.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        text = read_text(file, MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: the list of classes cannot be read: {error}") from error
    content = text.text.rstrip()
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", content)] if content else []
    return lines, [guessed_encoding(file, text.encoding)] if text.guessed else []


def find_class_list(folder: Path, records: Records) -> ClassList | None:
    """The first list of classes in a folder; CVAT's ``labelmap.txt`` has ``name:colour:...`` lines.

    Raises:
        DataError: it is no text.
    """
    for name in CLASS_FILES:
        file = folder / name
        if not is_regular(file):
            continue
        lines, problems = read_class_lines(file)
        records.problems += problems
        if name == "labelmap.txt":
            lines = [line.split(":")[0] for line in lines if not line.startswith(("#", "background:"))]
        return ClassList(file, tuple(dict.fromkeys(line for line in lines if line)))
    return None


def settle_classes(records: Records, listed: ClassList | None, all_used: Callable[[], Collection[str]]) -> None:
    """Set the names of the classes, and the labels to their spelling.

    Without a list the classes are the sorted names of all objects. With one, exact names come first; names that differ
    in case, spaces, ``-`` or ``_`` alone are taken for the list's where that is one to one; a leading background that
    no object has is dropped; a list with none of the objects' classes is not used. Each is noted.

    Args:
        records: one split or the whole data set; the labels are names.
        listed: the list beside the data set.
        all_used: the class names of every object of the data set, so that all splits agree; asked only where needed.
    """
    if listed is None:
        records.class_names = tuple(sorted(all_used()))
        return
    file, names = listed
    labels = set(records.labels)
    if labels and labels <= set(names) and not is_background(names[0]):
        records.class_names = names
        return
    used = set(all_used())
    while names and is_background(names[0]) and names[0] not in used:
        message = f"'{names[0]}' comes first and no object has it: it is not taken for a class"
        records.add_problem(file, None, "class-list", message, "noted")
        names = names[1:]
    spelling = _one_to_one(used - set(names), set(names) - used)
    if used and not spelling and used.isdisjoint(names):
        message = f"has none of the annotations' classes ({_some(used)}): it is not used"
        records.add_problem(file, None, "class-list", message, "noted")
        records.class_names = tuple(sorted(used))
        return
    for own, name in sorted(spelling.items()):
        message = f"'{name}' is taken for the annotations' '{own}'"
        records.add_problem(file, None, "class-list", message, "noted")
    counts = Counter(records.labels)
    for own in sorted(used - set(names) - set(spelling)):
        if counts[own]:
            near = get_close_matches(own.casefold(), {name.casefold(): name for name in names}, 1, 0.5)
            nearest = (
                f" (the nearest is '{next(name for name in names if name.casefold() == near[0])}')" if near else ""
            )
            message = f"has no '{own}'{nearest}: {counts[own]} objects of it are left out; add it to the list"
            records.add_problem(file, None, "class-list", message, "noted")
    records.labels = [spelling.get(str(label), str(label)) for label in records.labels]
    records.class_names = names


def lower_class_names(records: Records) -> list[str]:
    """Take all class names in lower case, without spaces at their ends; names that are equal then are one class.

    Returns:
        The names that were written otherwise.
    """
    lowered = {name: name.strip().lower() for name in records.class_names}
    ids: dict[str, int] = {}
    same_as: dict[object, int] = {}
    for key, name in zip(records.class_ids, records.class_names, strict=False):
        same_as[key] = ids.setdefault(lowered[name], key)
    records.labels = [
        label.strip().lower() if isinstance(label, str) else same_as.get(label, label) for label in records.labels
    ]
    names = list(dict.fromkeys(lowered.values()))
    if not ids and list(lowered) == sorted(lowered):  # names that were sorted stay so
        names.sort()
    records.class_names = tuple(names)
    records.class_ids = tuple(ids.values())
    return [name for name, lower in lowered.items() if name != lower]


def alike_names(names: Iterable[str]) -> list[str]:
    """A sentence for each group of names that only capitals, spaces and dashes tell apart: often one class."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold().translate(WITHOUT_SIGNS), []).append(name)
    return [_alike(group) for group in groups.values() if len(group) > 1]


def _alike(names: Sequence[str]) -> str:
    remedy = "; `lower_names=True` makes them one" if len({name.strip().lower() for name in names}) == 1 else ""
    return f"{' and '.join(map(repr, names))} are classes of their own: one, typed in two ways?{remedy}"


def named_by_order(records: Records, names: Sequence[str], where: Path) -> Records:
    """Records with the classes that a user asked for, in their order, where nothing in the data names them."""
    if not records.unnamed or len(names) < len(records.class_names) or set(names) & set(records.class_names):
        return records
    named = dataclasses.replace(records, problems=list(records.problems), unnamed=False)
    named.class_names, named.class_ids = tuple(names), tuple(range(len(names)))
    message = f"nothing here names the classes: they are taken for {_in_order(names)}, in this order"
    named.add_problem(where, None, "class-list", message, "noted")
    return named


def is_background(name: str) -> bool:
    """Whether a name is one under which lists of classes keep the background."""
    return name.casefold() in NO_CLASSES or name.strip("_").casefold() in NO_CLASSES


def _one_to_one(used: Collection[str], free: Collection[str]) -> dict[str, str]:
    """Names that nothing but case, spaces and dashes tells apart, where each has one counterpart."""

    def loose(name: str) -> str:
        return re.sub(r"[\s_-]+", "", normal(name))

    ours, theirs = Counter(map(loose, used)), Counter(map(loose, free))
    by_key = {loose(name): name for name in free}
    return {name: by_key[key] for name in used if ours[key := loose(name)] == 1 and theirs[key] == 1}


def _in_order(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (" ..." if len(names) > NAMES_SHOWN else "")


def _some(names: Collection[str]) -> str:
    return _in_order(sorted(names))
