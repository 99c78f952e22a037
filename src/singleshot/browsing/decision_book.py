"""Decisions while they are made: beside each image and object, and in their file after each one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from singleshot.browsing.collection import Collection
from singleshot.data.decided import find_objects
from singleshot.data.decisions import (
    ACTIONS,
    Decision,
    decision_about,
    folder_of,
    image_key,
    read_decisions,
    write_decisions,
)
from singleshot.errors import ConfigError, OutputError


class DecisionBook:
    """The decisions about a collection.

    Args:
        file: where they are kept; read where it exists, written after each decision.
        collection: the images.

    Attributes:
        images: 1 + the action's position in `ACTIONS`, 0 without a decision, ``[I]`` int8.
        objects: the same of each object, ``[N]`` int8.
        to: the new class of each relabelled object, else -1, also where that class is not shown, ``[N]`` int64.
        strangers: decisions about images or boxes that the collection lacks; they stay in the file.

    Raises:
        DataError: the file is damaged, or no file of decisions.
        OutputError: it lies in the data set.
    """

    def __init__(self, file: str | os.PathLike[str], collection: Collection) -> None:
        self.file = Path(file)
        self._collection = collection
        self._names = collection.dataset.class_map.names
        self._lock = Lock()
        self._entries: dict[tuple[int, int | None], Decision] = {}
        self.images = np.zeros(len(collection), dtype=np.int8)
        self.objects = np.zeros(len(collection.truth), dtype=np.int8)
        self.to = np.full(len(collection.truth), -1, dtype=np.int64)
        self.strangers: list[Decision] = []
        _refuse_inside(self.file, collection.dataset.path)
        if self.file.exists():
            images = [sample.image_path for sample in collection.dataset.samples]
            self._place(read_decisions(self.file).by_path(collection.dataset.path, images))
        self._stamp = _stamp(self.file)

    def __len__(self) -> int:
        return len(self._entries)

    def counts(self) -> dict[str, int]:
        """How many images and objects of each action."""
        both = np.concatenate([self.images, self.objects])
        return {action: int((both == code).sum()) for code, action in enumerate(ACTIONS, 1)}

    def decide(self, image: int, row: int | None, action: str | None, to: int | None = None) -> None:
        """Decide about an object (``row`` counts in its image) or an image, and write the file.

        Args:
            image: position in the collection.
            row: of the object in its image; ``None``: the image as a whole.
            action: one of `ACTIONS`; ``None`` takes a decision back.
            to: the new class, of ``relabel``.

        Raises:
            ConfigError: there is no such image, object, action or class.
            OutputError: the file has been changed by another program since it was read.
            OSError: it cannot be written. In all these cases nothing is decided.
        """
        self._check(image, row, action, to)
        with self._lock:
            sample = self._collection.dataset.samples[image]
            before = dict(self._entries)
            if action is None:
                self._entries.pop((image, row), None)
            else:
                name = None if to is None else self._names[to]
                data = self._collection.dataset.path
                decided = decision_about(data, sample, self._names, row, action, name)
                self._refuse_twin(image, row, decided)
                self._entries[image, row] = decided
            try:
                self._save()
            except BaseException:
                self._entries = before
                raise
            self._mark(image, row, action, to)

    def _check(self, image: int, row: int | None, action: str | None, to: int | None) -> None:
        if not 0 <= image < len(self._collection):
            raise ConfigError(f"there is no image {image}")
        rows = self._collection.objects(image)
        if row is not None and not 0 <= row < rows.stop - rows.start:
            raise ConfigError(f"image {image} has no object {row}")
        if action is not None and (action not in ACTIONS or (action == "relabel") != (to is not None)):
            raise ConfigError(f"'{action}' is no decision, or lacks its new class: {', '.join(ACTIONS)}")
        if action == "relabel" and row is None:
            raise ConfigError("an image as a whole has no class")
        if to is not None and not 0 <= to < len(self._names):
            raise ConfigError(f"there is no class {to}")

    def _refuse_twin(self, image: int, row: int | None, decided: Decision) -> None:
        """Crowds may be labelled twice alike: a file cannot tell them apart."""
        rows = self._collection.objects(image)
        for other in range(rows.stop - rows.start):
            entry = None if row is None or other == row else self._entries.get((image, other))
            if entry and (entry.box_xyxy, entry.class_name) == (decided.box_xyxy, decided.class_name):
                raise ConfigError(
                    f"object {other} of this image has the same box and class, and is decided: take that back first"
                )

    def _mark(self, image: int, row: int | None, action: str | None, to: int | None) -> None:
        code = 0 if action is None else 1 + ACTIONS.index(action)
        if row is None:
            self.images[image] = code
        else:
            place = self._collection.objects(image).start + row
            self.objects[place] = code
            self.to[place] = -1 if to is None else to

    def _save(self) -> None:
        if _stamp(self.file) != self._stamp:
            raise OutputError(f"{self.file}: has been changed by another program: start again to read it")
        write_decisions(self.file, [*self.strangers, *self._entries.values()])
        self._stamp = _stamp(self.file)

    def _place(self, waiting: dict[str, list[Decision]]) -> None:
        """Find the image and the object of each decision."""
        samples = self._collection.dataset.samples
        for image, sample in enumerate(samples):
            entries = waiting.pop(image_key(sample.image_path), []) if waiting else []
            self._place_in(image, [entry for entry in entries if entry.box_xyxy is None], [None])
            of_objects = [entry for entry in entries if entry.box_xyxy is not None]
            self._place_in(image, of_objects, find_objects(sample, self._names, of_objects))
        self.strangers += [entry for entries in waiting.values() for entry in entries]

    def _place_in(self, image: int, entries: Sequence[Decision], rows: Sequence[int | None]) -> None:
        for entry, row in zip(entries, rows, strict=False):
            if row == -1:
                self.strangers.append(entry)
            else:
                self._entries[image, row] = entry
                known = entry.to is None or entry.to in self._names
                self._mark(image, row, entry.action, self._names.index(entry.to) if entry.to and known else None)


def default_file(data: str | os.PathLike[str]) -> Path:
    """Where decisions go if nobody says: ``photos-decisions.json`` in the current folder."""
    return Path(f"{Path(data).resolve().stem or 'data'}-decisions.json")


def _refuse_inside(file: Path, data: Path) -> None:
    folder = Path(os.path.realpath(folder_of(data)))
    if folder in Path(os.path.realpath(file)).parents:
        raise OutputError(f"{file}: lies in the data set, whose folder stays as it is: name another by `decisions`")


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
