"""`Detections`: what a detector found in one image, as one validated object. NumPy only."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.json_text import parse_json
from singleshot.core.lazy import lazy_module
from singleshot.errors import DataError, ImageError
from singleshot.images.show import png, show_picture
from singleshot.prediction import converters
from singleshot.prediction.settings import check_score, class_ids_of

if TYPE_CHECKING:
    import supervision
else:
    supervision = lazy_module("supervision")

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
ImageLike = NDArray[np.uint8] | str | os.PathLike[str]
Index = int | slice | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer[Any]]


class Detection(NamedTuple):
    """One object.

    Attributes:
        box_xyxy: corners in pixels of the original image, ``[4]`` float32.
        score: confidence, 0..1.
        class_id: 0..C-1.
        class_name: its name.
    """

    box_xyxy: FloatArray
    score: float
    class_id: int
    class_name: str


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Detections:
    """The objects found in one image, best first as the detector returns them.

    ``detections[0]``, ``detections[:5]``, ``detections[mask]`` and ``detections[indices]`` are `Detections` again;
    iterating gives one `Detection` after the other.

    Attributes:
        boxes_xyxy: corners in pixels of the original image, ``[N, 4]`` float32.
        scores: confidences 0..1, ``[N]`` float32.
        class_ids: 0..C-1, ``[N]`` int64.
        class_names: the model's vocabulary, by class id; `names` gives one name per detection.
        image_size_hw: (height, width) of the original image.
        path: the image file, where there is one.
        category_ids: the training data's own ids by class id (COCO category ids); empty when they equal the index.
        image: the RGB array that was detected in, ``[H, W, 3]`` uint8, where it came from no file; not copied, and no
            part of what is compared or written.
        track_ids: of the objects that are followed through a video, ``[N]`` int64: from 1 on, -1 for no track; ``None``
            where nothing was tracked.

    Raises:
        ValueError: shapes that do not fit together, values that are not finite, scores outside 0..1, or class ids
            outside the vocabulary.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: IntArray
    class_names: tuple[str, ...]
    image_size_hw: tuple[int, int]
    path: Path | None = None
    category_ids: tuple[int, ...] = ()
    image: NDArray[np.uint8] | None = None
    track_ids: IntArray | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "boxes_xyxy", np.asarray(self.boxes_xyxy, dtype=np.float32))
        put(self, "scores", np.asarray(self.scores, dtype=np.float32))
        put(self, "class_ids", np.asarray(self.class_ids, dtype=np.int64))
        put(self, "class_names", tuple(self.class_names))
        put(self, "image_size_hw", (int(self.image_size_hw[0]), int(self.image_size_hw[1])))
        put(self, "category_ids", tuple(self.category_ids))
        if self.path is not None:
            put(self, "path", Path(self.path))
        if self.track_ids is not None:
            put(self, "track_ids", np.asarray(self.track_ids, dtype=np.int64))
        problem = self._problem()
        if problem:
            raise ValueError(f"Detections{f' of {self.path}' if self.path else ''}: {problem}")

    def _problem(self) -> str | None:
        if self.scores.ndim != 1:
            return f"scores must be [N], not {list(self.scores.shape)}"
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4):
            return f"boxes_xyxy must be [{count}, 4] for {count} scores, not {list(self.boxes_xyxy.shape)}"
        if self.class_ids.shape != (count,):
            return f"class_ids must be [{count}] for {count} scores, not {list(self.class_ids.shape)}"
        if self.track_ids is not None and self.track_ids.shape != (count,):
            return f"track_ids must be [{count}] for {count} scores, not {list(self.track_ids.shape)}"
        if not np.isfinite(self.boxes_xyxy).all():
            return "boxes_xyxy must be finite"
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            return f"scores must lie in 0..1, not {self.scores.min():g}..{self.scores.max():g}"
        if not ((self.class_ids >= 0) & (self.class_ids < len(self.class_names))).all():
            return f"class_ids must lie in 0..{len(self.class_names) - 1}, the class_names"
        if self.category_ids and len(self.category_ids) != len(self.class_names):
            return f"category_ids has {len(self.category_ids)} ids for {len(self.class_names)} class_names"
        return None

    @classmethod
    def empty(
        cls, class_names: Sequence[str] = (), image_size_hw: tuple[int, int] = (0, 0), path: Path | None = None
    ) -> Detections:
        """Detections of an image without objects."""
        none = np.zeros(0, dtype=np.float32)
        return cls(none.reshape(0, 4), none, np.zeros(0, dtype=np.int64), tuple(class_names), image_size_hw, path)

    @property
    def names(self) -> list[str]:
        """The class name of each detection, ``[N]``."""
        return [self.class_names[index] for index in self.class_ids]

    @property
    def areas(self) -> FloatArray:
        """Box areas in square pixels of the original image, ``[N]``."""
        sides = (self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).clip(min=0)
        return np.asarray(sides[:, 0] * sides[:, 1])

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        rows = zip(self.boxes_xyxy, self.scores.tolist(), self.class_ids.tolist(), self.names, strict=True)
        return (Detection(*row) for row in rows)

    def __getitem__(self, index: Index) -> Detections:
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"detection {index} of {len(self)}")
            index = [int(index)]
        if not isinstance(index, slice):
            index = np.asarray(index) if len(index) else np.zeros(0, dtype=np.int64)
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[index],
            scores=self.scores[index],
            class_ids=self.class_ids[index],
            track_ids=None if self.track_ids is None else self.track_ids[index],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        arrays = ("boxes_xyxy", "scores", "class_ids", "track_ids")
        plain = ("class_names", "image_size_hw", "path", "category_ids")
        if (self.track_ids is None) != (other.track_ids is None):
            return False
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays) and all(
            getattr(self, name) == getattr(other, name) for name in plain
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        height, width = self.image_size_hw
        best = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names[:5], self.scores[:5], strict=True))
        more = ", ..." if len(self) > 5 else ""
        return f"Detections({len(self)} in {width} x {height}{': ' + best + more if best else ''})"

    def filter(
        self, score: float | None = None, classes: Collection[str | int] | str | None = None, min_area: float = 0.0
    ) -> Detections:
        """Keep the detections that pass every test.

        Args:
            score: least score.
            classes: names or class ids to keep.
            min_area: least box area in square pixels.

        Raises:
            ConfigError: a class that is not in `class_names`, or a score outside 0..1.
        """
        keep = self.areas >= min_area
        if score is not None:
            keep &= self.scores >= check_score(score)
        if classes is not None:
            keep &= np.isin(self.class_ids, class_ids_of(classes, self.class_names))
        return self[keep]

    # What comes out.

    def to_dict(self, vocabulary: bool = True) -> dict[str, Any]:
        """Plain values for JSON: path, image_size_hw, detections; with ``vocabulary`` also class_names."""
        return converters.to_record(self, vocabulary)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], class_names: Sequence[str] | None = None) -> Detections:
        """Read what `to_dict` wrote; ``class_names`` completes a record without vocabulary.

        Raises:
            DataError: a key is missing or a value does not fit.
        """
        try:
            return cls(**converters.from_record(record, class_names))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise DataError(
                f"not a Detections record: {str(error) if type(error) is ValueError else repr(error)}"
            ) from error

    def to_json(self, indent: int | None = None) -> str:
        """JSON text of `to_dict`; `from_json` gives equal detections back."""
        text = json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()  # a file's name in another encoding, as JSON's escapes

    @classmethod
    def from_json(cls, text: str) -> Detections:
        """Read what `to_json` wrote.

        Raises:
            DataError: not such a text.
        """
        try:
            record = parse_json(text)
        except ValueError as error:
            raise DataError(f"not a Detections record: {error}") from error
        return cls.from_dict(record)

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Rows of a COCO results file (bbox = x, y, width, height).

        Args:
            image_id: the image's id in the annotation file.
            category_ids: category id by class id; the model's own ids (`category_ids`, else the class id) by default.

        Raises:
            ValueError: ``category_ids`` has not one id for each class.
        """
        return converters.to_coco(self, image_id, category_ids)

    def to_rows(self) -> list[tuple[Any, ...]]:
        """Rows for a table, in the order of `converters.CSV_COLUMNS`."""
        return converters.to_rows(self)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with the columns `converters.CSV_COLUMNS`, ``path`` left out where there is no file.

        Raises:
            ImportError: pandas is not installed.
        """
        return converters.to_pandas(self)

    def plot(
        self,
        image: ImageLike | None = None,
        out: str | os.PathLike[str] | None = None,
        *,
        labels: bool = True,
        line_width: int | None = None,
    ) -> NDArray[np.uint8]:
        """Draw the boxes.

        Args:
            image: RGB array or file to draw on; what was detected in by default.
            out: also write the picture to this file, which must not be the photo itself.
            labels: whether boxes have names and scores.
            line_width: of boxes, in pixels; ``None`` follows the picture's size.

        Returns:
            A new RGB image, ``[H, W, 3]`` uint8.

        Raises:
            ImageError: no image is known, or it cannot be read or written.
            OutputError: ``out`` is the photo itself.
        """
        from singleshot.prediction.plot import plot

        return plot(self, image, out, labels=labels, line_width=line_width)

    def show(self, image: ImageLike | None = None, *, labels: bool = True, line_width: int | None = None) -> None:
        """Show the picture with its boxes: in a notebook below the cell, elsewhere in a viewer.

        Args:
            image, labels, line_width: as in `plot`.

        Raises:
            ImageError: no image is known, or there is no viewer.
            ImportError: a viewer needs Pillow.
        """
        show_picture(self.plot(image, labels=labels, line_width=line_width))

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows of the object that ends a cell; nothing where no image is known."""
        try:
            return png(self.plot())
        except ImageError:
            return None

    # What supervision reads: `supervision.Detections(xyxy=d.xyxy, ...)`, `.from_yolo_nas(d)`, or `d.to_supervision()`.

    @property
    def xyxy(self) -> FloatArray:
        """`boxes_xyxy` by supervision's name."""
        return self.boxes_xyxy

    @property
    def confidence(self) -> FloatArray:
        """`scores` by supervision's name."""
        return self.scores

    @property
    def class_id(self) -> IntArray:
        """`class_ids` by supervision's name."""
        return self.class_ids

    @property
    def prediction(self) -> SimpleNamespace:
        """The record that ``supervision.Detections.from_yolo_nas`` reads; `to_supervision` keeps the names too."""
        return SimpleNamespace(bboxes_xyxy=self.boxes_xyxy, confidence=self.scores, labels=self.class_ids)

    def to_supervision(self) -> supervision.Detections:
        """The same as ``supervision.Detections``, with the names as ``data["class_name"]``.

        Raises:
            ImportError: supervision is not installed.
        """
        return converters.to_supervision(self)
