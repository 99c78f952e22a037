"""`Detections` in the forms of others: plain values for JSON, COCO results, tables, pandas, supervision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module

if TYPE_CHECKING:
    import supervision

    import singleshot.prediction.detections as found_module
else:
    found_module = lazy_module("singleshot.prediction.detections")
    supervision = lazy_module("supervision")


CSV_COLUMNS = ("path", "class_id", "class_name", "score", "x1", "y1", "x2", "y2")


def to_record(found: found_module.Detections, vocabulary: bool = True) -> dict[str, Any]:
    """`Detections.to_dict`."""
    boxes, scores = _shortest(found.boxes_xyxy), _shortest(found.scores)
    rows = zip(boxes, scores, found.class_ids.tolist(), found.names, strict=True)
    keys = ("box_xyxy", "score", "class_id", "class_name")
    record: dict[str, Any] = {
        "path": str(found.path) if found.path else None,
        "image_size_hw": list(found.image_size_hw),
        "detections": [dict(zip(keys, row, strict=True)) for row in rows],
    }
    if found.track_ids is not None:
        record["tracked"] = True
        for row, track_id in zip(record["detections"], found.track_ids.tolist(), strict=True):
            row["track_id"] = track_id
    if vocabulary:
        record |= {"class_names": list(found.class_names), "category_ids": list(found.category_ids)}
    return record


def from_record(record: Mapping[str, Any], class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """The arguments of `Detections` that `to_record` wrote; ``class_names`` completes a record without vocabulary.

    Raises:
        KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError: it is no such record.
    """
    rows = record["detections"]
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as that
        boxes = np.array([row["box_xyxy"] for row in rows], dtype=np.float32).reshape(-1, 4)
        scores = np.array([row["score"] for row in rows], dtype=np.float32)
    return {
        "track_ids": np.array([row["track_id"] for row in rows], dtype=np.int64) if record.get("tracked") else None,
        "boxes_xyxy": boxes,
        "scores": scores,
        "class_ids": np.array([row["class_id"] for row in rows], dtype=np.int64),
        "class_names": tuple(record["class_names"] if class_names is None else class_names),
        "image_size_hw": tuple(record["image_size_hw"]),
        "path": Path(record["path"]) if record.get("path") else None,
        "category_ids": tuple(record.get("category_ids", ())),
    }


def to_coco(
    found: found_module.Detections, image_id: int | str, category_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """`Detections.to_coco`.

    Raises:
        ValueError: ``category_ids`` has not one id for each class.
    """
    if isinstance(category_ids, (str, bytes, Mapping, Set)):
        raise ValueError(f"category_ids must be a list of one id for each class, not a {type(category_ids).__name__}")
    ids = _plain(found.category_ids if category_ids is None else category_ids) or range(len(found.class_names))
    if len(ids) != len(found.class_names):
        raise ValueError(f"category_ids has {len(ids)} ids for {len(found.class_names)} class_names")
    (plain_id,) = _plain([image_id])
    boxes = found.boxes_xyxy.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {"image_id": plain_id, "category_id": ids[class_id], "bbox": box, "score": score}
        for class_id, box, score in zip(found.class_ids, _shortest(boxes), _shortest(found.scores), strict=True)
    ]


def to_rows(found: found_module.Detections) -> list[tuple[Any, ...]]:
    """Rows for a table, in the order of `CSV_COLUMNS`."""
    path = str(found.path) if found.path else ""
    scores, boxes = _shortest(found.scores), _shortest(found.boxes_xyxy)
    rows = zip(found.class_ids.tolist(), found.names, scores, boxes, strict=True)
    return [(path, class_id, name, score, *box) for class_id, name, score, box in rows]


def to_pandas(found: found_module.Detections) -> Any:
    """`Detections.to_pandas`.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise ImportError("to_pandas needs the package 'pandas': pip install pandas") from None
    table = pandas.DataFrame(to_rows(found), columns=list(CSV_COLUMNS))
    return table if found.path else table.drop(columns="path")


def to_supervision(found: found_module.Detections) -> supervision.Detections:
    """`Detections.to_supervision`.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        from supervision import Detections as Theirs
    except ImportError:
        raise ImportError("to_supervision needs the package 'supervision': pip install supervision") from None
    names: dict[str, NDArray[np.generic] | list[Any]] = {"class_name": np.array(found.names, dtype=str)}
    return Theirs(
        xyxy=found.xyxy,
        confidence=found.confidence,
        class_id=found.class_id,
        tracker_id=found.track_ids,
        data=names,
    )


def _plain(ids: Any) -> list[Any]:
    """Ids without the types of NumPy and torch, which JSON does not know."""
    return [item.item() if hasattr(item, "item") else item for item in ids]


def _shortest(values: NDArray[np.float32]) -> Any:
    """Floats as nested lists, with the fewest digits that read back as the same float32."""
    return values.astype(str).astype(np.float64).tolist()
