"""Text files that name the classes, one a line: ``classes.txt``, ``obj.names``, ``_darknet.labels``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from singleshot.data.bad_records import Problem
from singleshot.data.class_list import read_class_lines
from singleshot.data.paths import visible
from singleshot.errors import DataError

FILE_NAMES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
MAX_CLASSES = 100_000


def stand_in(index: int) -> str:
    """The name of a class that nothing names."""
    return f"class{index}"


def read_class_list(file: Path) -> tuple[tuple[str, ...], list[Problem]]:
    """Names by line, whatever the encoding; a blank line keeps its number and gets a name of its own.

    Raises:
        DataError: the file cannot be read, or is no text.
    """
    lines, problems = read_class_lines(file)
    if len(lines) > MAX_CLASSES:
        raise DataError(f"{file}: {len(lines)} lines are too many for a list of classes (at most {MAX_CLASSES})")
    for index, line in enumerate(lines):
        if not line:
            message = f"line {index + 1} is empty; class {index} is called '{stand_in(index)}'"
            problems.append(Problem(file, index + 1, "unnamed-class", "noted", message))
    return tuple(line or stand_in(index) for index, line in enumerate(lines)), problems


def find_contradictions(folders: Iterable[Path], names: tuple[str, ...]) -> list[Problem]:
    """A note for each list of classes that says otherwise than a settings file, whose ``names`` count."""
    problems = []
    for file in (file for folder in dict.fromkeys(folders) for file in visible(folder, *FILE_NAMES)):
        try:
            listed = read_class_list(file)[0]
        except DataError:
            continue
        if file.name.lower() in FILE_NAMES and listed[: len(names)] != names[: len(listed)]:
            message = "other classes than in the settings file, whose names count; passed over"
            problems.append(Problem(file, None, "other-settings", "noted", message))
    return problems


def find_class_list(folders: Iterable[Path]) -> tuple[tuple[str, ...] | None, list[Problem]]:
    """The names that the lists in some folders agree on; ``None`` where there is no list.

    Labelling tools write a list beside each folder of labels, and it grows: of two lists the longer one counts when it
    begins with the shorter.

    Raises:
        DataError: two lists contradict each other; names both.
    """
    found: tuple[str, ...] | None = None
    source, problems = Path(), list[Problem]()
    for folder in dict.fromkeys(folders):
        for file in visible(folder, *FILE_NAMES, ".names"):
            if file.name.lower() not in FILE_NAMES and file.suffix.lower() != ".names":
                continue
            names, notes = read_class_list(file)
            problems += notes
            if found is not None and names[: len(found)] != found[: len(names)]:
                raise DataError(f"{source} and {file} name different classes: remove the one that is out of date")
            if found is None or len(names) > len(found):
                found, source = names, file
    return found, problems
