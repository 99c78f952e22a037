"""Tiles on 4K pictures with objects of 12 to 24 pixels, next to the whole picture and to SAHI with the same detector.

    python benchmarks/tiling.py --data FOLDER_WITH_INSTANCES_JSON [--pictures 6] [--tile 320] [--json FILE]

The pictures are made here: photos, shrunk until their objects have 12 to 24 pixels (the root of the box's area), side
by side. SAHI (``pip install sahi``, in an environment of its own) is left out where it cannot be imported. Recall and
AP are at IoU .5 over all classes; times are medians over the pictures, both in turn on each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import singleshot
from common import take_turns
from singleshot.evaluation.metrics import DetectionTable, GroundTruth, evaluate_detections
from singleshot.prediction.detections import Detections
from singleshot.prediction.views import ViewPlan

HEIGHT, WIDTH = 2160, 3840
SMALL = (12.0, 24.0)
OVERLAP = 0.2
LEAST = 0.05

Look = Callable[[NDArray[np.uint8]], Detections]


def compose(data: Path, count: int, names: tuple[str, ...]) -> tuple[list[NDArray[np.uint8]], list[tuple[Any, Any]]]:
    """Pictures, and of each the boxes and class ids of its small objects."""
    content = json.loads((data / "instances.json").read_text())
    class_of = {own["id"]: names.index(own["name"]) for own in content["categories"] if own["name"] in names}
    objects: dict[int, list[tuple[list[float], int]]] = {}
    for own in content["annotations"]:
        if own["category_id"] in class_of and not own.get("iscrowd"):
            objects.setdefault(own["image_id"], []).append((own["bbox"], class_of[own["category_id"]]))
    photos = [own for own in content["images"] if own["id"] in objects]
    random = np.random.default_rng(0)
    random.shuffle(photos)
    pictures, truths, at = [], [], 0
    for _ in range(count):
        picture = np.full((HEIGHT, WIDTH, 3), 114, dtype=np.uint8)
        boxes: list[list[float]] = []
        ids: list[int] = []
        x = y = row = 0
        while y < HEIGHT:
            photo = photos[at % len(photos)]
            at += 1
            own = objects[photo["id"]]
            typical = float(np.median([(box[2] * box[3]) ** 0.5 for box, _ in own]))
            scale = min(1.0, 18.0 / max(typical, 1.0))
            image = cv2.imread(str(next((data / "images").rglob(photo["file_name"]))))
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[..., ::-1]
            height, width = small.shape[:2]
            if x + width > WIDTH:
                x, y, row = 0, y + row, 0
            if y + height > HEIGHT:
                break
            picture[y : y + height, x : x + width] = small
            for (left, top, wide, high), class_id in own:
                side = scale * (wide * high) ** 0.5
                if SMALL[0] <= side <= SMALL[1]:
                    corners = np.array((left, top, left + wide, top + high)) * scale + (x, y, x, y)
                    boxes.append(corners.tolist())
                    ids.append(class_id)
            x, row = x + width, max(row, height)
        pictures.append(picture)
        truths.append((np.array(boxes).reshape(-1, 4), np.array(ids, dtype=np.int64)))
    return pictures, truths


def ours(model: singleshot.Detector, plan: ViewPlan) -> Look:
    """Our detector with a plan."""
    predictor = model.predictor(LEAST, max_detections=2000, views=plan)

    def look(picture: NDArray[np.uint8]) -> Detections:
        (result,) = predictor.stream([picture], 1)
        return result.detections  # type: ignore[union-attr]

    return look


def sahi(model: singleshot.Detector, tile: int, names: tuple[str, ...]) -> Look:
    """SAHI's slices around the same detector."""
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction

    predictor = model.predictor(LEAST, images=1)

    class Wrapped(DetectionModel):  # type: ignore[misc]
        def load_model(self) -> None:
            self.model = predictor
            self.category_names = list(names)

        def perform_inference(self, image: NDArray[np.uint8]) -> None:
            (result,) = predictor.stream([np.ascontiguousarray(image)])
            self._original_predictions = [result.detections]

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            shift = (shift_amount_list or [[0, 0]])[0]
            shift = shift if isinstance(shift, (list, tuple)) else shift_amount_list
            full = full_shape_list[0] if full_shape_list and isinstance(full_shape_list[0], list) else full_shape_list
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(
                        bbox=[float(value) for value in box], category_id=class_id, score=score, segmentation=None,
                        category_name=name, shift_amount=shift, full_shape=full,
                    )
                    for box, score, class_id, name in self._original_predictions[0]
                ]
            ]  # fmt: skip

    wrapped = Wrapped(confidence_threshold=LEAST)

    def look(picture: NDArray[np.uint8]) -> Detections:
        found = get_sliced_prediction(
            picture, wrapped, tile, tile, OVERLAP, OVERLAP, verbose=0, postprocess_type="NMS",
            postprocess_match_metric="IOU", postprocess_match_threshold=0.5, force_postprocess_type=True,
        ).object_prediction_list  # fmt: skip
        boxes = np.array([own.bbox.to_xyxy() for own in found], dtype=np.float32).reshape(-1, 4)
        scores = np.array([own.score.value for own in found], dtype=np.float32)
        ids = np.array([own.category.id for own in found], dtype=np.int64)
        return Detections(boxes, scores, ids, names, picture.shape[:2])

    return look


def score(found: list[Detections], truths: list[tuple[Any, Any]], classes: int) -> tuple[float, float]:
    """Recall of the small objects from score .3 on, and mean AP at IoU .5, in percent. What is not small is ignored."""
    truth = GroundTruth(
        np.repeat(np.arange(len(truths)), [len(ids) for _, ids in truths]),
        np.concatenate([ids for _, ids in truths]),
        np.concatenate([boxes for boxes, _ in truths]),
        len(truths),
    )
    sizes = [np.sqrt(own.areas) for own in found]
    kept = [own[(size >= 0.5 * SMALL[0]) & (size <= 2 * SMALL[1])] for own, size in zip(found, sizes, strict=True)]
    table = DetectionTable(
        np.repeat(np.arange(len(kept)), list(map(len, kept))),
        np.concatenate([own.class_ids for own in kept]),
        np.concatenate([own.boxes_xyxy for own in kept]),
        np.concatenate([own.scores for own in kept]),
    )
    hits = sum(hit_count(own[own.scores >= 0.3], *true) for own, true in zip(kept, truths, strict=True))
    metrics = evaluate_detections(truth, table, classes, coco=False)
    return 100 * hits / len(truth.class_ids), 100 * metrics.voc_area


def hit_count(found: Detections, boxes: NDArray[np.float64], ids: NDArray[np.int64]) -> int:
    """Objects that a detection of their class overlaps by half."""
    if not len(found) or not len(boxes):
        return 0
    a, b = boxes, found.boxes_xyxy.astype(np.float64)
    shared = (np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])).clip(0).prod(-1)
    area_a, area_b = ((own[:, 2:] - own[:, :2]).prod(-1) for own in (a, b))
    iou = shared / (area_a[:, None] + area_b - shared)
    return int(((iou >= 0.5) & (ids[:, None] == found.class_ids)).any(1).sum())


def one_by_one(look: Look, pictures: list[NDArray[np.uint8]], found: list[Detections]) -> Callable[[], None]:
    """Each call looks at the next picture; the first one comes twice, to warm up."""
    following = iter([pictures[0], *pictures])
    return lambda: found.append(look(next(following)))


def main() -> None:
    """Print a line for each contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--tile", type=int, default=320)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = singleshot.load("coco")
    names = model.class_names
    pictures, truths = compose(options.data, options.pictures, names)
    looks = {"singleshot, whole": ours(model, ViewPlan())}
    looks["singleshot, tiles"] = ours(model, ViewPlan((options.tile, options.tile), OVERLAP))
    try:
        looks["sahi"] = sahi(model, options.tile, names)
    except ImportError as error:
        print(f"sahi is left out: {error}")
    found: dict[str, list[Detections]] = {name: [] for name in looks}
    turns = {name: one_by_one(look, pictures, found[name]) for name, look in looks.items()}
    seconds = take_turns(turns, len(pictures))
    lines = {}
    for name in looks:
        recall, ap = score(found[name][1:], truths, len(names))
        lines[name] = {"recall": recall, "AP50": ap, "seconds a picture": median(seconds[name])}
        print(f"{name}: " + "; ".join(f"{key} {value:.4g}" for key, value in lines[name].items()), flush=True)
    print(f"{sum(len(ids) for _, ids in truths):,} objects in {len(pictures)} pictures")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
