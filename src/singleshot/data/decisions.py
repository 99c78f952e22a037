"""Decisions about labels, kept in a file of their own: what to leave out, what is right, what is of another class.

The labels of the data set stay as they are. A decision names its image by the path below the data set and its object by
box and class, so it is found again when labels were written in another order.
"""

from __future__ import annotations

import dataclasses
import json
import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from singleshot.core.files import read_text, write_atomically
from singleshot.core.json_text import parse_json
from singleshot.core.setting_errors import explain_settings
from singleshot.core.settings import Frozen
from singleshot.core.structures import Sample
from singleshot.errors import DataError

ACTIONS = ("drop", "keep", "relabel")
MAX_FILE_BYTES = 256 * 2**20
_LABELS_BELOW = 2
"""A file of labels is at most so many folders below the data set's own: ``annotations/2017/instances.json``."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Decision(Frozen):
    """What somebody decided about an object, or about an image as a whole.

    Attributes:
        image: its path below the data set's folder, with ``/``.
        action: ``drop`` leaves it out, ``keep`` says that it is right, ``relabel`` gives the object another class.
        box_xyxy: the object's box in pixels of the upright image; ``None``: this is about the image.
        class_name: the class that the object's label has.
        to: the class that it shall have, where the action is ``relabel``.
    """

    image: Annotated[str, Field(min_length=1)]
    action: Literal["drop", "keep", "relabel"]
    box_xyxy: tuple[Finite, Finite, Finite, Finite] | None = None
    class_name: str | None = None
    to: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.box_xyxy is None) != (self.class_name is None):
            raise ValueError("box_xyxy and class_name name an object together: give both or neither")
        if self.action == "relabel" and (self.box_xyxy is None or not self.to):
            raise ValueError("relabel needs an object (box_xyxy, class_name) and its new class (to)")
        if self.action != "relabel" and self.to is not None:
            raise ValueError(f"to is of relabel, not of {self.action}")
        return self


class DecisionFile(Frozen):
    """The file as it is written; its version is the value of the first key."""

    singleshot_decisions: Literal[1]
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class Decisions:
    """The decisions of a file.

    Attributes:
        file: where they were read.
        entries: the decisions, in its order.
    """

    file: Path
    entries: tuple[Decision, ...]

    def lowered(self) -> Decisions:
        """The same with class names in lower case, for data that is opened so."""

        def lower(name: str | None) -> str | None:
            return None if name is None else name.strip().lower()

        entries = [e.model_copy(update={"class_name": lower(e.class_name), "to": lower(e.to)}) for e in self.entries]
        return dataclasses.replace(self, entries=tuple(entries))

    def by_path(self, data: Path, images: Iterable[Path]) -> dict[str, list[Decision]]:
        """Decisions by the `image_key` of their image in the data set ``data``, which has these images.

        A data set may have been opened by its folder and now by a file of labels in that, or the other way round.
        """
        known, found = {image_key(image) for image in images}, dict[str, list[Decision]]()
        for entry in self.entries:
            keys = [image_key(place) for place in _places(data, entry.image)]
            there = (key for key in keys if key in known or os.path.exists(key))
            found.setdefault(next(there, keys[0]), []).append(entry)
        return found


def _places(data: Path, image: str) -> list[Path]:
    """Where an image may be that a decision names, the likeliest first."""
    root = folder_of(data)
    if root != data:
        return [root / image, *(parent / image for parent in list(Path(os.path.abspath(root)).parents)[:_LABELS_BELOW])]
    places = [root / image]
    for _ in range(_LABELS_BELOW):
        image = image.removeprefix("../")
        places.append(root / image)
    return places


def read_decisions(path: str | os.PathLike[str]) -> Decisions:
    """Read a file of decisions.

    Raises:
        DataError: it cannot be read, is no such file, or contradicts itself; names the line or the key.
    """
    path = Path(path)
    try:
        content = parse_json(read_text(path, MAX_FILE_BYTES).text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: decisions cannot be read: {reason}") from error
    if not isinstance(content, dict) or "singleshot_decisions" not in content:
        raise DataError(f"{path}: holds no decisions: 'singleshot browse' writes files that begin singleshot_decisions")
    try:
        entries = DecisionFile.model_validate(content).decisions
    except ValidationError as error:
        raise DataError(explain_settings(error, str(path), DecisionFile)) from error
    _refuse_repeated(path, entries)
    return Decisions(path, entries)


def as_decisions(given: Decisions | str | os.PathLike[str] | None) -> Decisions | None:
    """Decisions as they are, or read from a file."""
    return given if given is None or isinstance(given, Decisions) else read_decisions(given)


def write_decisions(path: str | os.PathLike[str], entries: Iterable[Decision]) -> Path:
    """Write a file of decisions, one a line, in place of an older one.

    Raises:
        OSError: it cannot be written; the old one is untouched.
    """
    lines = [json.dumps(entry.model_dump(mode="json", exclude_none=True)) for entry in entries]
    body = "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"
    return write_atomically(Path(path), f'{{"singleshot_decisions": 1, "decisions": {body}}}\n')


def decision_about(
    data: Path, sample: Sample, names: Sequence[str], row: int | None, action: str, to: str | None = None
) -> Decision:
    """The decision about an object of an image, or about the image where ``row`` is ``None``.

    Args:
        data: the data set's path.
        sample: the image as it is labelled.
        names: the data set's classes.
        row: position of the object in the sample.
        action, to: see `Decision`.
    """
    image = _as_text(Path(os.path.relpath(sample.image_path, folder_of(data))).as_posix())
    box = name = None
    if row is not None:
        box = tuple(float(str(value)) for value in sample.boxes_xyxy[row])  # as short as float32 can be told apart
        name = names[sample.class_ids[row]]
    return Decision.model_validate({"image": image, "action": action, "box_xyxy": box, "class_name": name, "to": to})


def image_key(path: Path) -> str:
    """The absolute path of an image, as files of decisions spell it."""
    return _as_text(os.path.abspath(path))


def _as_text(path: str) -> str:
    """A path with escapes for bytes that are no text."""
    return os.fsencode(path).decode(errors="backslashreplace")


def folder_of(data: Path) -> Path:
    """The folder below which decisions name images."""
    return data if data.is_dir() else data.parent


def _refuse_repeated(path: Path, entries: Sequence[Decision]) -> None:
    seen: dict[object, int] = {}
    for place, entry in enumerate(entries):
        first = seen.setdefault((posixpath.normpath(entry.image), entry.box_xyxy, entry.class_name), place)
        if first != place:
            what = "image" if entry.box_xyxy is None else "object"
            raise DataError(
                f"{path}: decisions.{place} and decisions.{first} are about the same {what} of {entry.image}: "
                "remove one of them"
            )
