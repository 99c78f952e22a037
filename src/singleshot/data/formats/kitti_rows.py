"""KITTI's label files: a line for each object, of 15 columns, or of 16 with a score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from singleshot.core.files import read_text
from singleshot.data.bad_records import guessed_encoding
from singleshot.data.paths import visible
from singleshot.data.records import Records
from singleshot.data.values import NAN, as_number

SUFFIX = ".txt"
WIDTHS = (15, 16)
BOX = slice(4, 8)
"""left, top, right, bottom in pixels, after type, truncated, occluded and alpha; seven numbers in 3D follow."""
DONT_CARE = "dontcare"
FILES_TRIED = 50


def is_kitti_row(words: Sequence[str]) -> bool:
    """Whether the words of a line are an object of KITTI: a name, and 14 or 15 numbers."""
    numbers = [as_number(word) for word in words[1:]] if len(words) in WIDTHS else [NAN]
    return all(number == number for number in numbers) and as_number(words[0]) != as_number(words[0])


def holds_kitti(folder: Path) -> bool | None:
    """Whether the first label file of a folder that says anything is KITTI's; ``None`` where none says anything."""
    for file in islice(visible(folder, SUFFIX), FILES_TRIED):
        try:
            rows = [line.split() for line in read_text(file).text.splitlines()]
        except (OSError, UnicodeDecodeError):
            continue
        if first := next((words for words in rows if words), None):
            return is_kitti_row(first)
    return None


def read_rows(records: Records, file: Path) -> int | None:
    """Append the objects of a label file to the last image.

    Returns:
        How many regions of it are ``DontCare``; ``None`` where the file cannot be read.
    """
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        records.add_problem(file, None, "unreadable-annotation", f"cannot be read: {error}")
        return None
    if text.guessed:
        records.problems.append(guessed_encoding(file, text.encoding))
    regions = 0
    for number, line in enumerate(text.text.splitlines(), 1):
        words = line.split()
        if words and not is_kitti_row(words):
            shown = " ".join(words[:8])[:60]
            message = f"expected a class and 14 numbers (KITTI), found {len(words)} words: '{shown}'"
            records.add_problem(file, number, "bad-record", message)
        elif words and words[0].lower() == DONT_CARE:
            regions += 1
        elif words:
            left, top, right, bottom = map(as_number, words[BOX])
            records.add_object((left, top, right, bottom), words[0], number)
    return regions
