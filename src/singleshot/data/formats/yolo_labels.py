"""YOLO's label files: where they are, and what their lines say."""

from __future__ import annotations

import math
import os
import unicodedata
from pathlib import Path

from singleshot.core.files import read_bytes, read_text
from singleshot.data.bad_records import guessed_encoding
from singleshot.data.file_index import is_hidden
from singleshot.data.formats.kitti_rows import is_kitti_row
from singleshot.data.formats.yolo_names import FILE_NAMES, MAX_CLASSES
from singleshot.data.paths import child
from singleshot.data.records import Records
from singleshot.data.split_names import names_split

MAX_LABEL_BYTES = 64 * 2**20
IMAGE_FOLDERS = ("images", "jpegimages")
SUFFIX = ".txt"
# Fractions beyond this are pixels; a box may stick out of its image, but not by a whole one.
MOST = 2.0
_NUMBER_SIGNS = set("0123456789+-.,eE")


def label_path(image: Path) -> Path:
    """Where an image's labels should be: the last folder ``images`` becomes ``labels``, else beside the image."""
    swapped = swapped_folder(image.parent)
    return (swapped or image.parent) / (image.stem + SUFFIX)


def swapped_folder(images: Path) -> Path | None:
    """The folder of labels that belongs to a folder of images, if one of its parts is called ``images``."""
    parts = images.parts
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].lower() in IMAGE_FOLDERS:
            above = Path(*parts[:index])
            return (child(above, "labels") or above / "labels").joinpath(*parts[index + 1 :])
    return None


class LabelFolders:
    """The label files of some folders by stem; one listing for each folder instead of a question for each file."""

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, Path]] = {}
        self._of_images: dict[Path, tuple[Path, ...]] = {}
        self._composed: dict[Path, dict[str, Path]] = {}

    def folders(self, images: Path) -> tuple[Path, ...]:
        """Where the labels of a folder of images may be, best first."""
        if images not in self._of_images:
            swapped = swapped_folder(images)
            if swapped and not swapped.is_dir():  # labels/a.txt of images/train/a.jpg
                swapped = next((above for above in swapped.parents if above.name.lower() == "labels"), swapped)
            self._of_images[images] = (swapped, images) if swapped else (images,)
        return self._of_images[images]

    def listing(self, folder: Path) -> dict[str, Path]:
        """Stem -> path of everything called ``*.txt``, whatever it is."""
        if folder not in self._listings:
            try:
                names = sorted((name for name in os.listdir(folder) if not is_hidden(name)), reverse=True)
            except OSError:
                names = []
            texts = [name for name in names if name.lower().endswith(SUFFIX)]
            self._listings[folder] = {name[: -len(SUFFIX)]: folder / name for name in texts}
        return self._listings[folder]

    def find(self, image: Path) -> Path | None:
        """The label file of an image."""
        for folder in self.folders(image.parent):
            found = self.listing(folder).get(image.stem)
            if found is None and not image.stem.isascii():
                found = self._in_other_form(folder, image.stem)
            if found and not (folder == image.parent and found.name.lower() in FILE_NAMES):
                return found
        return None

    def _in_other_form(self, folder: Path, stem: str) -> Path | None:
        """The label file of a stem that is the same text in another Unicode form, as macOS writes names."""
        if folder not in self._composed:
            names = self.listing(folder)
            self._composed[folder] = {unicodedata.normalize("NFC", name): path for name, path in names.items()}
        return self._composed[folder].get(unicodedata.normalize("NFC", stem))


def looks_like_labels(file: Path) -> bool:
    """Whether a text is YOLO labels: empty, or its first line is a class and at least four numbers, and not KITTI's."""
    try:
        head = read_bytes(file, MAX_LABEL_BYTES)[:4096]
    except OSError:
        return False
    lines = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe").decode("latin-1").split("\n")
    words = next((line.split() for line in lines if line.split()), None)
    numbers = words is not None and len(words) >= 4 and all(_NUMBER_SIGNS.issuperset(word) for word in words[1:])
    return words is None or (numbers and not is_kitti_row(words))


def is_other_text(file: Path) -> bool:
    """Whether a text beside labels has a purpose of its own: a list of classes or of images, a README."""
    stem = file.stem.lower()
    return (
        file.name.lower() in (*FILE_NAMES, "labels.txt", "labelmap.txt")
        or stem.startswith(("readme", "license"))
        or names_split(stem)
    )


class LineError(ValueError):
    """A line that gives no object.

    Attributes:
        kind: the kind of the problem.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_labels(records: Records, file: Path, keypoints: int) -> bool:
    """Append the objects of the last image; whether its label file could be read."""
    try:
        text = read_text(file, MAX_LABEL_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        records.add_problem(file, None, "unreadable-annotation", f"cannot be read: {error}")
        return False
    if text.guessed:
        records.problems.append(guessed_encoding(file, text.encoding))
    notes: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, box, note = read_line(words, keypoints)
        except LineError as error:
            records.add_problem(file, number, error.kind, str(error))
            continue
        if note:
            notes.setdefault(note[0], (number, note[1]))
        records.add_object(box, label, number)
    for kind, (number, message) in notes.items():
        if kind == "polygon":  # all of a data set, often
            records.note_once(file, number, kind, message)
        else:
            records.add_problem(file, number, kind, message, "noted")
    return True


Box = tuple[float, float, float, float]


def read_line(words: list[str], keypoints: int) -> tuple[int, Box, tuple[str, str] | None]:
    """The class and corners of a line, in fractions: a box, a box with a confidence or key points, or a polygon.

    Args:
        words: of the line.
        keypoints: numbers that follow each box, 0 where the data set has no key points.

    Returns:
        The class, the corners, and what there is to note (kind, message).

    Raises:
        LineError: it is none of these.
    """
    values = _numbers(words)
    label = int(values[0]) if math.isfinite(values[0]) else -1
    if label != values[0] or not 0 <= label < MAX_CLASSES:
        raise LineError("bad-record", f"{_shown(words)}: class '{words[0][:20]}' is no number from 0 to {MAX_CLASSES}")
    rest = values[1:]
    note = None
    if len(rest) == 5:
        if not 0 <= rest[4] <= 1:
            raise LineError("bad-record", f"{_shown(words)}: six numbers, and the last is no confidence (0 to 1)")
        note = ("confidence", "a sixth number is taken for a confidence, as in saved predictions, and passed over")
    elif keypoints and len(rest) not in (4, 4 + keypoints):
        raise LineError("bad-record", f"{_shown(words)}: {len(rest)} numbers, but kpt_shape asks for {4 + keypoints}")
    elif not keypoints and _is_pose(rest):
        note = ("pose-row", "read as a box with key points (x y visible), though data.yaml has no kpt_shape")
    elif not keypoints and len(rest) > 5 and len(rest) % 2 == 0:
        note = (
            "polygon",
            f"{len(rest) // 2} points: of polygons and oriented boxes, the upright box around them is used",
        )
        return label, _in_fractions(words, (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2]))), note
    elif len(rest) < 4 or (not keypoints and len(rest) > 5):
        raise LineError("bad-record", f"{_shown(words)}: {len(values)} numbers are neither a box (5) nor a polygon")
    cx, cy, width, height = _in_fractions(words, (rest[0], rest[1], rest[2], rest[3]))
    return label, (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), note


def _shown(words: list[str]) -> str:
    return f"'{' '.join(words[:8])[:60]}'"


def _numbers(words: list[str]) -> list[float]:
    """The numbers of a line; Python would also read ``0.1_2`` as 0.12."""
    wrong = [word for word in words if "_" in word or not _is_number(word)]
    if not wrong:
        return [float(word) for word in words]
    hint = f"'{wrong[0][:20]}' is no number"
    if any("," in word for word in wrong):
        hint = "numbers need points, not commas"
    elif wrong == words[:1] and len(words) >= 5:
        hint = f"{hint}: a class is written as its number"
    raise LineError("bad-record", f"expected 'class cx cy w h', found {_shown(words)}: {hint}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _in_fractions(words: list[str], numbers: Box) -> Box:
    if any(abs(value) > MOST for value in numbers):
        raise LineError("not-fractions", f"{_shown(words)}: these look like pixels; YOLO has fractions of the image")
    return numbers


def _is_pose(rest: list[float]) -> bool:
    """Whether a box and triples (x, y, visible) are meant: a polygon has 0, 1 or 2 at every third place by chance.

    Most of the visible points must lie in the box, stretched by a half.
    """
    points = len(rest) // 3 - 1
    if len(rest) < 7 or len(rest) % 3 != 1 or any(value not in (0.0, 1.0, 2.0) for value in rest[6::3]):
        return False
    cx, cy, width, height = rest[:4]
    triples = [rest[4 + 3 * index : 7 + 3 * index] for index in range(points)]
    seen = [(x, y) for x, y, visible in triples if visible]
    inside = sum(abs(x - cx) <= 0.75 * width and abs(y - cy) <= 0.75 * height for x, y in seen)
    return 2 * inside >= len(seen)
