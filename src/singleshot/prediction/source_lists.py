"""Text files that list sources: ``@photos.txt`` stands for the sources that its lines name."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import NamedTuple

from singleshot.core.files import read_text
from singleshot.errors import ImageError
from singleshot.images.packed import find_container


class ListedSource(NamedTuple):
    """A line of a list.

    Attributes:
        source: what it names, with the list's folder where it lies there.
        place: file and line, for messages.
    """

    source: str
    place: str


MAX_FOLDERS = 100
"""Of a pattern: each is a few calls deep."""


def is_list(source: str) -> bool:
    """Whether a source is written as a list, ``@FILE``; a file that has such a name itself is none."""
    return source.startswith("@") and len(source) > 1 and not os.path.lexists(source)


def read_source_list(source: str) -> list[ListedSource]:
    """The sources of a list, one a line; empty lines and those that begin with ``#`` are passed over.

    A path is looked for in the list's folder first, then in the current one.

    Args:
        source: ``@FILE``.

    Raises:
        ImageError: the file cannot be read, is no text, or lists nothing; or a line is a list itself.
    """
    path = Path(source[1:])
    try:
        text = read_text(path).text
    except UnicodeDecodeError:
        raise ImageError(f"{path}: is no text file, and '@' asks for a list of sources") from None
    except OSError as error:
        why = f"{path}: the list cannot be read: {error.strerror}" if error.strerror else str(error)
        raise ImageError(why) from None
    listed, folder = [], str(path.parent)
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        found, place = _beside(folder, name), f"{path}, line {number}"
        if is_list(found):
            raise ImageError(f"{place}: a list inside a list, {name}: name both lists as sources instead")
        listed.append(ListedSource(found, place))
    if not listed:
        raise ImageError(f"{path}: lists no source: write one a line")
    return listed


def _beside(folder: str, name: str) -> str:
    """A path or pattern below the list's folder, where something is there; else as it was written."""
    joined = os.path.join(folder, name)
    if "\0" in name or os.path.lexists(joined) or find_container(joined):
        return joined
    if glob.has_magic(name) and name.count(os.sep) <= MAX_FOLDERS:
        pattern = os.path.join(glob.escape(folder), name)
        if next(glob.iglob(pattern, recursive=True), None) is not None:
            return pattern
    return name
