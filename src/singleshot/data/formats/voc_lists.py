"""VOC's lists of a split: ``train.txt``, VOC's own of one class (``cat_train.txt``), lines of any tool's sort."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from singleshot.core.files import read_text
from singleshot.data.file_index import normal, stem_of
from singleshot.data.split_names import names_split
from singleshot.errors import DataError
from singleshot.images.read import IMAGE_SUFFIXES

LIST_FOLDERS = ("ImageSets/Main", "ImageSets", "imagesets/main", "imagesets", "splits")
LINES_TRIED = 50
FLAGS = ("-1", "0", "1")
# Folders that a list may put before a name and that are not part of it.
KNOWN_FOLDERS = frozenset({"jpegimages", "images", "imgs", "annotations", "annots", "xmls", "labels"})


@dataclass(frozen=True)
class SplitList:
    """What a split consists of.

    Attributes:
        files: its lists; without one everything below ``folder`` belongs to it.
        folder: below the annotations' folder, ``""`` or ending in ``/``.
        flags: whether each line ends in VOC's flag of a class (1, 0 or -1).
    """

    files: tuple[Path, ...] = ()
    folder: str = ""
    flags: bool = False


def find_lists(folder: Path, keys: Collection[str]) -> dict[str, SplitList]:
    """The splits that lists of a VOC folder define.

    Args:
        folder: the folder of one year, or the whole data set.
        keys: the annotations, by path without suffix; tell a name that ends in a number from a name and a flag.
    """
    for name in LIST_FOLDERS:
        files = _texts(folder / name)
        if files:
            break
    else:  # in the data set's own folder are other texts too
        files = [file for file in _texts(folder) if names_split(file.stem) and _names_any(file, keys)]
    plain = {file.stem: SplitList((file,)) for file in files if not _is_of_one_class(file, keys)}
    classes: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        split = file.stem.rpartition("_")[2]
        if file.stem not in plain and "_" in file.stem and names_split(split):
            classes[split].append(file)
    made = {name: SplitList(tuple(parts), flags=True) for name, parts in classes.items() if name not in plain}
    return dict(sorted((plain | made).items()))


def _texts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    names = (entry for entry in folder.iterdir() if entry.suffix.lower() == ".txt" and not entry.name.startswith("."))
    return sorted(entry for entry in names if entry.is_file())


def _names_any(file: Path, keys: Collection[str]) -> bool:
    """Whether a text is a list of images: one of its first lines is an annotation's, or it is empty."""
    lines = [line for _, line in read_lines(file) if line.strip()][:LINES_TRIED]
    names = Names(keys)
    return not lines or any(names.find(line) or names.find(without_flag(line)) for line in lines)


def _is_of_one_class(file: Path, keys: Collection[str]) -> bool:
    """Whether every line of a list ends in a flag that is not part of the name."""
    lines = [line.strip() for _, line in read_lines(file) if line.strip()]
    flagged = [line for line in lines if len(line.split()) > 1 and line.split()[-1] in FLAGS]
    if not lines or len(flagged) < len(lines):
        return False
    names = Names(keys)
    return sum(names.find(line) is not None for line in lines) * 2 < len(lines)


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, whatever the encoding and the line ends.

    Raises:
        DataError: the file is no text.
    """
    try:
        text = read_text(file).text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: the list of images cannot be read: {error}") from error
    return iter(enumerate(re.split(r"\r\n|\r|\n", text), 1))


def without_flag(line: str) -> str:
    """A line of a list of one class without the flag at its end."""
    return line.rsplit(None, 1)[0] if line.strip() else line


class Names:
    """Finds the annotation that a line of a list means."""

    def __init__(self, keys: Collection[str]) -> None:
        """``keys``: the annotations, by path without suffix."""
        self._keys = set(keys)
        self._nested = any("/" in key for key in keys)
        self._loose: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            self._loose[normal(key)].append(key)
            if "/" in key:
                self._loose["/" + normal(key.rpartition("/")[2])].append(key)

    def find(self, line: str) -> str | None:
        """The annotation's key; the line may have a suffix, either slash, leading folders, or two columns of paths."""
        for text in dict.fromkeys((line, line.strip(), *_columns(line))):
            for form in self._forms(text.replace("\\", "/") if text not in self._keys else text):
                if form in self._keys:
                    return form
        forms = list(self._forms(line.strip().replace("\\", "/")))
        for form in forms:
            if len(found := self._loose.get(normal(form), [])) == 1:
                return found[0]
        return self._by_last_part(forms)

    def _forms(self, text: str) -> Iterator[str]:
        """A name whole, without suffix, and both without one leading folder after the other (as far as those go)."""
        text = text.removeprefix("./").strip("/")
        while text:
            yield text
            yield _without_suffix(text)
            folder, _, text = text.partition("/")
            if self._nested and "/" not in text and folder.lower() not in KNOWN_FOLDERS:
                return  # day1/a is not a

    def _by_last_part(self, forms: list[str]) -> str | None:
        """The one annotation in any folder that is called as a line without a folder, or in one we know, says."""
        for form in forms:
            folder, _, name = form.rpartition("/")
            if self._nested and (not folder or folder.rpartition("/")[2].lower() in KNOWN_FOLDERS):
                found = self._loose.get("/" + normal(name), [])
                if len(found) == 1:
                    return found[0]
        return None


def listed_name(line: str) -> str:
    """The name in a line, for messages and for images: the last part without a known suffix."""
    return _without_suffix(line.strip().replace("\\", "/").rpartition("/")[2])


def _columns(line: str) -> list[str]:
    """The parts of a line with the paths of an image and of its annotation."""
    words = line.split()
    return words[::-1] if len(words) == 2 and words[1].lower().endswith(".xml") else []


def _without_suffix(name: str) -> str:
    suffix = "." + name.rpartition(".")[2].lower()
    return stem_of(name) if suffix in {*IMAGE_SUFFIXES, ".xml"} else name
