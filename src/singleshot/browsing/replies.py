"""What the page asks and is told: plain values in, plain values out; no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from singleshot.browsing.collection import SIZES, Collection, ImageFilter, State, chosen
from singleshot.browsing.decision_book import DecisionBook
from singleshot.browsing.second_opinion import SecondOpinion
from singleshot.browsing.thumbnails import part_around
from singleshot.core.setting_errors import explain_settings
from singleshot.core.settings import Frozen
from singleshot.core.wording import printable
from singleshot.data.decisions import ACTIONS
from singleshot.errors import ConfigError
from singleshot.images.draw import class_colour

T = TypeVar("T", bound=Frozen)
MOST_ITEMS = 120
MOST_BOXES = 100
"""Boxes of an image that a grid shows; alone it shows all."""
MOST_SUSPECTS = 2000
MOST_ELSEWHERE = 500


class Question(Frozen):
    """A filter and an order, as the page writes them into an address."""

    class_id: int | None = Field(default=None, alias="class")
    size: Annotated[int, Field(ge=0, lt=len(SIZES))] | None = None
    split: Annotated[int, Field(ge=0)] | None = None
    kind: Annotated[int, Field(ge=-1)] | None = None
    state: State = "any"
    text: Annotated[str, Field(max_length=200)] = ""
    order: Literal["name", "doubt", "objects"] = "name"


class SentDecision(Frozen):
    """A decision as the page sends it."""

    image: int
    row: int | None = None
    action: str | None = None
    to: int | None = None


class Replies:
    """Everything the page can ask about a collection."""

    def __init__(self, collection: Collection, book: DecisionBook, opinion: SecondOpinion | None) -> None:
        self._collection = collection
        self._book = book
        self._opinion = opinion

    def summary(self) -> dict[str, Any]:
        """Classes, splits, kinds of problems: once."""
        c = self._collection
        names = c.dataset.class_map.names
        counts = np.bincount(c.truth.class_ids, minlength=len(names)).tolist()
        return {
            "path": printable(c.dataset.path),
            "name": printable(c.dataset.path.resolve().name),
            "format": c.dataset.format,
            "images": len(c),
            "objects": len(c.truth),
            "empty": int((np.diff(c.starts) == 0).sum()),
            "classes": [
                {"name": name, "objects": count, "colour": "#{:02x}{:02x}{:02x}".format(*class_colour(index))}
                for index, (name, count) in enumerate(zip(names, counts, strict=True))
            ],
            "sizes": list(SIZES),
            "splits": [{"name": n, "images": int(row.sum())} for n, row in zip(c.splits, c.in_split, strict=True)],
            "kinds": [{"name": n, "images": int(row.sum())} for n, row in zip(c.kinds, c.has_kind, strict=True)],
            "elsewhere": [printable(problem) for problem in c.elsewhere[:MOST_ELSEWHERE]],
            "more_elsewhere": max(len(c.elsewhere) - MOST_ELSEWHERE, 0),
            "notes": [printable(note) for note in c.dataset.notes],
        } | self.state()

    def state(self) -> dict[str, Any]:
        """What changes: decisions, and how far the model is."""
        opinion = self._opinion
        return {
            "file": printable(self._book.file),
            "decisions": self._book.counts(),
            "strangers": len(self._book.strangers),
            "model": opinion
            and {
                "name": printable(opinion.name),
                "done": opinion.done,
                "error": printable(opinion.error),
                "unreadable": opinion.unreadable,
            },
        }

    def ids(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The images that a filter lets through, in order."""
        asked = _validated(Question, query)
        c, book = self._collection, self._book
        for name, place, most in (("split", asked.split, len(c.splits)), ("kind", asked.kind, len(c.kinds))):
            if place is not None and place >= most:
                raise ConfigError(f"there is no {name} {place}")
        wanted = ImageFilter(asked.class_id, asked.size, asked.split, asked.kind, asked.state, asked.text)
        ids = np.flatnonzero(chosen(c, wanted, book.images, book.objects))
        if asked.order == "objects":
            ids = ids[np.argsort(-np.diff(c.starts)[ids], kind="stable")]
        elif asked.order == "doubt" and self._opinion:
            doubt = np.zeros(len(c))
            suspects = self._opinion.suspects()
            np.maximum.at(doubt, suspects.images, suspects.scores)
            ids = ids[np.argsort(-doubt[ids], kind="stable")]
        return {"ids": ids.tolist()}

    def items(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Images with their boxes, for a grid."""
        images = self._images(query.get("ids", ""))
        if self._opinion:
            self._opinion.want(images)
        return {"items": [self._item(image, MOST_BOXES) for image in images]}

    def image(self, query: Mapping[str, str]) -> dict[str, Any]:
        """All about an image."""
        images = self._images(query.get("id", ""))
        if len(images) != 1:
            raise ConfigError("name one image by id")
        if self._opinion:
            self._opinion.want(images)
        c, image = self._collection, images[0]
        more = {
            "problems": [printable(problem) for problem in c.problems.get(image, ())],
            "splits": [name for name, row in zip(c.splits, c.in_split, strict=True) if row[image]],
            "source": printable(c.dataset.samples[image].source),
        }
        return self._item(image, None) | more

    def suspects(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The likeliest label mistakes, those first that are the likeliest; what is decided is left out."""
        del query
        if not self._opinion:
            return {"suspects": [], "done": 0}
        done = self._opinion.done
        ranked = self._opinion.suspects()
        table = ranked.found
        c, book = self._collection, self._book
        of_label = np.append(book.objects, np.int8(0))[ranked.objects] > 0
        settled = np.where(ranked.objects >= 0, of_label, book.images[ranked.images] > 0)
        open_ones = np.flatnonzero(~settled & (book.images[ranked.images] != 1 + ACTIONS.index("drop")))
        listed = []
        for place in open_ones[:MOST_SUSPECTS].tolist():
            image, row, seen = (int(column[place]) for column in (ranked.images, ranked.objects, ranked.detections))
            boxes = [c.truth.boxes_xyxy[row]] if row >= 0 else []
            boxes += [table.boxes_xyxy[seen]] if seen >= 0 else []
            around = np.concatenate([np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]])
            listed.append(
                {
                    "kind": str(ranked.kinds[place]),
                    "doubt": round(float(ranked.scores[place]), 3),
                    "image": image,
                    "name": printable(c.names[image]),
                    "row": row - int(c.starts[image]) if row >= 0 else None,
                    "label": [*_corners(c.truth.boxes_xyxy[row]), int(c.truth.class_ids[row])] if row >= 0 else None,
                    "seen": _seen(table, seen) if seen >= 0 else None,
                    "likely": int(ranked.likely[place]) if ranked.likely[place] >= 0 else None,
                    "part": part_around(around, c.dataset.samples[image].image_size_hw),
                }
            )
        return {"suspects": listed, "total": len(open_ones), "done": done}

    def decide(self, body: object) -> dict[str, Any]:
        """Take a decision, or take it back."""
        verdict = _validated(SentDecision, body)
        self._book.decide(verdict.image, verdict.row, verdict.action, verdict.to)
        return {"item": self._item(verdict.image, None)} | self.state()

    def _images(self, text: str) -> list[int]:
        """Positions from ``3,17,4``."""
        parts = text.split(",") if text else []
        if len(parts) > MOST_ITEMS or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
            raise ConfigError(f"ids are at most {MOST_ITEMS} numbers, as 3,17,4")
        images = [int(part) for part in parts]
        if any(image >= len(self._collection) for image in images):
            raise ConfigError(f"there are {len(self._collection)} images")
        return images

    def _item(self, image: int, most: int | None) -> dict[str, Any]:
        c, book = self._collection, self._book
        rows = c.objects(image)
        count = rows.stop - rows.start
        shown = slice(rows.start, min(rows.stop, rows.start + most) if most is not None else rows.stop)
        height, width = c.dataset.samples[image].image_size_hw
        found = self._opinion.of(image) if self._opinion else None
        flags = c.truth.difficult[shown] + 2 * c.truth.iscrowd[shown]
        columns = (c.truth.class_ids[shown], book.objects[shown], book.to[shown], flags)
        return {
            "id": image,
            "name": printable(c.names[image]),
            "width": width,
            "height": height,
            "objects": count,
            "problem_count": len(c.problems.get(image, ())),
            "action": _action(int(book.images[image])),
            "boxes": [
                [*_corners(box), int(class_id), _action(int(code)), int(to), int(flag)]
                for box, class_id, code, to, flag in zip(c.truth.boxes_xyxy[shown], *columns, strict=True)
            ],
            "found": None if found is None else [_seen(found, row) for row in range(min(len(found), MOST_BOXES))],
        }


def _action(code: int) -> str | None:
    return ACTIONS[code - 1] if code else None


def _corners(box: np.ndarray) -> list[float]:
    return [round(value, 1) for value in box.tolist()]


def _seen(table: Any, row: int) -> list[float]:
    """Corners, class and score of a detection."""
    return [*_corners(table.boxes_xyxy[row]), int(table.class_ids[row]), round(float(table.scores[row]), 3)]


def _validated(kind: type[T], values: object) -> T:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_settings(error, "the question", kind)) from error
