"""`Detections`: what a detector found in one image, as one validated object. NumPy only."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from singleshot.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from supervision import Detections as SupervisionDetections

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    ImageLike = NDArray[np.uint8] | str | os.PathLike[str]
    Index = int | slice | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer[Any]]

CSV_COLUMNS = ("path", "class_id", "class_name", "score", "x1", "y1", "x2", "y2")


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
            self, boxes_xyxy=self.boxes_xyxy[index], scores=self.scores[index], class_ids=self.class_ids[index]
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        arrays = ("boxes_xyxy", "scores", "class_ids")
        plain = ("class_names", "image_size_hw", "path", "category_ids")
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
        boxes, scores = _shortest(self.boxes_xyxy), _shortest(self.scores)
        rows = zip(boxes, scores, self.class_ids.tolist(), self.names, strict=True)
        keys = ("box_xyxy", "score", "class_id", "class_name")
        record: dict[str, Any] = {
            "path": str(self.path) if self.path else None,
            "image_size_hw": list(self.image_size_hw),
            "detections": [dict(zip(keys, row, strict=True)) for row in rows],
        }
        if vocabulary:
            record |= {"class_names": list(self.class_names), "category_ids": list(self.category_ids)}
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], class_names: Sequence[str] | None = None) -> Detections:
        """Read what `to_dict` wrote; ``class_names`` completes a record without vocabulary.

        Raises:
            ValueError: a key is missing or a value does not fit.
        """
        try:
            rows = record["detections"]
            return cls(
                boxes_xyxy=np.array([row["box_xyxy"] for row in rows], dtype=np.float32).reshape(-1, 4),
                scores=np.array([row["score"] for row in rows], dtype=np.float32),
                class_ids=np.array([row["class_id"] for row in rows], dtype=np.int64),
                class_names=tuple(record["class_names"] if class_names is None else class_names),
                image_size_hw=tuple(record["image_size_hw"]),
                path=Path(record["path"]) if record.get("path") else None,
                category_ids=tuple(record.get("category_ids", ())),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a Detections record: {error!r}") from error

    def to_json(self, indent: int | None = None) -> str:
        """JSON text of `to_dict`; `from_json` gives equal detections back."""
        text = json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()  # a file's name in another encoding, as JSON's escapes

    @classmethod
    def from_json(cls, text: str) -> Detections:
        """Read what `to_json` wrote.

        Raises:
            ValueError: not such a text.
        """
        return cls.from_dict(json.loads(text))

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Rows of a COCO results file (bbox = x, y, width, height).

        Args:
            image_id: the image's id in the annotation file.
            category_ids: category id by class id; the model's own ids (`category_ids`, else the class id) by default.

        Raises:
            ValueError: ``category_ids`` has not one id for each class.
        """
        if isinstance(category_ids, (str, bytes, Mapping, Set)):
            raise ValueError(
                f"category_ids must be a list of one id for each class, not a {type(category_ids).__name__}"
            )
        ids = _plain(self.category_ids if category_ids is None else category_ids) or range(len(self.class_names))
        if len(ids) != len(self.class_names):
            raise ValueError(f"category_ids has {len(ids)} ids for {len(self.class_names)} class_names")
        (plain_id,) = _plain([image_id])
        boxes = self.boxes_xyxy.copy()
        boxes[:, 2:] -= boxes[:, :2]
        return [
            {"image_id": plain_id, "category_id": ids[class_id], "bbox": box, "score": score}
            for class_id, box, score in zip(self.class_ids, _shortest(boxes), _shortest(self.scores), strict=True)
        ]

    def to_rows(self) -> list[tuple[Any, ...]]:
        """Rows for a table, in the order of `CSV_COLUMNS`."""
        path = str(self.path) if self.path else ""
        rows = zip(self.class_ids.tolist(), self.names, _shortest(self.scores), _shortest(self.boxes_xyxy), strict=True)
        return [(path, class_id, name, score, *box) for class_id, name, score, box in rows]

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with the columns `CSV_COLUMNS`, ``path`` left out where there is no file.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise ImportError("to_pandas needs the package 'pandas': pip install pandas") from None
        table = pandas.DataFrame(self.to_rows(), columns=list(CSV_COLUMNS))
        return table if self.path else table.drop(columns="path")

    def plot(
        self,
        image: ImageLike | None = None,
        save: str | os.PathLike[str] | None = None,
        *,
        labels: bool = True,
        line_width: int | None = None,
    ) -> NDArray[np.uint8]:
        """Draw the boxes.

        Args:
            image: RGB array or file to draw on; what was detected in by default.
            save: also write the picture to this file, which must not be the photo itself.
            labels: whether boxes have names and scores.
            line_width: of boxes, in pixels; ``None`` follows the picture's size.

        Returns:
            A new RGB image, ``[H, W, 3]`` uint8.

        Raises:
            ImageError: no image is known, or it cannot be read or written.
            OutputError: ``save`` is the photo itself.
        """
        from singleshot.core.files import check_output
        from singleshot.images.draw import draw_detections
        from singleshot.images.read import write_image

        if save is not None:
            sources = [source for source in (self.path, image) if isinstance(source, (str, os.PathLike))]
            check_output(save, overwrite=True, sources=sources)
        picture = draw_detections(self._image(image), self, labels=labels, line_width=check_line_width(line_width))
        if save is not None:
            write_image(save, picture)
        return picture

    def show(self, image: ImageLike | None = None, *, labels: bool = True, line_width: int | None = None) -> None:
        """Show the picture with its boxes: in a notebook below the cell, elsewhere in a viewer.

        Args:
            image, labels, line_width: as in `plot`.

        Raises:
            ImageError: no image is known, or there is no viewer.
            ImportError: a viewer needs Pillow.
        """
        from singleshot.images.show import show_picture

        show_picture(self.plot(image, labels=labels, line_width=line_width))

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows of the object that ends a cell; nothing where no image is known."""
        from singleshot.errors import ImageError
        from singleshot.images.show import png

        try:
            return png(self.plot())
        except ImageError:
            return None

    def _image(self, image: ImageLike | None) -> NDArray[np.uint8]:
        from singleshot.errors import ImageError
        from singleshot.images.read import check_rgb, read_image

        known = self.path if self.image is None else self.image
        source = known if image is None else image
        if source is None:
            raise ImageError("no image is known of these detections: pass it, as in detections.plot(image)")
        pixels = read_image(source) if isinstance(source, (str, os.PathLike)) else check_rgb(source)
        if pixels.shape[:2] != self.image_size_hw:
            raise ImageError(f"the image is {pixels.shape[:2]} (height, width), the detections' {self.image_size_hw}")
        return np.asarray(pixels)

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

    def to_supervision(self) -> SupervisionDetections:
        """The same as ``supervision.Detections``, with the names as ``data["class_name"]``.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            from supervision import Detections as Theirs
        except ImportError:
            raise ImportError("to_supervision needs the package 'supervision': pip install supervision") from None
        names: dict[str, NDArray[np.generic] | list[Any]] = {"class_name": np.array(self.names, dtype=str)}
        return Theirs(xyxy=self.xyxy, confidence=self.confidence, class_id=self.class_id, data=names)


def check_score(score: float, name: str = "score") -> float:
    """A score threshold that makes sense.

    Raises:
        ConfigError: it is not a number in 0..1.
    """
    if isinstance(score, bool):
        raise ConfigError(f"{name} must be a number in 0..1, not {score!r}")
    try:
        value = float(score)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be a number in 0..1, not {score!r}") from None
    if not 0.0 <= value <= 1.0:
        hint = f"; did you mean {value / 100:g}?" if 2 <= value <= 100 else ""  # per cent
        raise ConfigError(f"{name} must lie in 0..1, not {value:g}{hint}")
    return value


def check_line_width(line_width: int | None) -> int | None:
    """A width of lines that makes sense.

    Raises:
        ConfigError: it does not.
    """
    whole = isinstance(line_width, (int, np.integer)) and not isinstance(line_width, bool)
    if line_width is not None and not (whole and 1 <= line_width <= 1000):
        raise ConfigError(f"line_width must be a whole number of pixels in 1..1000, not {line_width!r}")
    return line_width


def class_ids_of(classes: Collection[str | int] | str | int, class_names: Sequence[str]) -> list[int]:
    """Class ids of class names or ids; a name that several classes have means all of them.

    Raises:
        ConfigError: a class that the vocabulary does not have; names the nearest.
    """
    import difflib

    if not isinstance(classes, (str, int, np.integer, Iterable)):
        raise ConfigError(f"classes must be names or ids of classes, not {classes!r}")
    ids: list[int] = []
    for item in [classes] if isinstance(classes, (str, int, np.integer)) else classes:
        if isinstance(item, str) and item in class_names:
            ids += [class_id for class_id, name in enumerate(class_names) if name == item]
        elif isinstance(item, (int, np.integer)) and 0 <= item < len(class_names):
            ids.append(int(item))
        else:
            lower = {name.lower(): name for name in class_names}
            near = difflib.get_close_matches(str(item).lower(), lower, n=1)
            hint = f"; did you mean '{lower[near[0]]}'?" if near else f"; the classes are {', '.join(class_names)}"
            raise ConfigError(f"no class {item!r}{hint}")
    return ids


def _plain(ids: Any) -> list[Any]:
    """Ids without the types of NumPy and torch, which JSON does not know."""
    return [item.item() if hasattr(item, "item") else item for item in ids]


def _shortest(values: NDArray[np.float32]) -> Any:
    """Floats as nested lists, with the fewest digits that read back as the same float32."""
    return values.astype(str).astype(np.float64).tolist()
