"""The pages of an evaluation: key numbers, classes, curves, confusions and the worst images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from singleshot.metrics.curves import GRID, counts_on_grid, f1_on_grid, precision_on_grid
from singleshot.metrics.voc import RIGHT, WRONG
from singleshot.report import plots
from singleshot.report.page import Figure, Figures, Section, Table, Text, Tile, Tiles
from singleshot.report.pictures import LEGEND, draw_comparison, find_mistakes
from singleshot.report.result import EvalResult

MEAN = "mean of all classes"
MOST_CONFUSED = 10
LARGEST_MATRIX = 100


def evaluation_sections(result: EvalResult, worst: int = 12) -> list[Section]:
    """Everything that a report shows about an evaluation, for a page of its own or as part of another.

    Args:
        result: the evaluation.
        worst: how many of the worst images to draw.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return [
        Section("Result", [Tiles(_tiles(result)), *_remarks(result)]),
        Section("Curves", [_curves(result)]),
        Section("Classes", [_class_table(result)]),
        Section("Confusion", _confusion(result)),
        Section("Worst images", _worst_images(result, worst)),
        Section("How it was measured", [Text(result.convention), _speed_table(result)]),
    ]


def _tiles(result: EvalResult) -> list[Tile]:
    tiles = [
        Tile(f"AP at IoU {result.voc.min_iou:g}", _number(result.voc_area), "VOC, area below the curve"),
        Tile("VOC 2007", _number(result.voc_07), "11 points"),
    ]
    if result.coco:
        tiles.insert(0, Tile("COCO AP", _number(result.coco["AP"]), "IoU 0.50 to 0.95"))
    threshold = result.metrics.best_threshold
    tiles.append(Tile("best F1", _number(result.metrics.best_f1), f"mean of classes, at score {threshold:.2f}"))
    sought = int((~result.truth.ignored).sum())
    tiles.append(Tile("objects", f"{sought:,}", f"in {len(result.samples):,} images"))
    tiles.append(Tile("images/s", f"{result.speed.images_per_s:.1f}", result.speed.backend))
    return tiles


def _remarks(result: EvalResult) -> list[Text]:
    remarks = list(result.hints)
    if result.only_data:
        remarks.append(
            f"The model does not know these classes of the data set, which are left out: {_list(result.only_data)}."
        )
    if result.failed:
        remarks.append(f"{len(result.failed)} images could not be read and are left out: {_list(result.failed)}")
    return [Text("\n\n".join(remarks))] if remarks else []


def _class_table(result: EvalResult) -> Table:
    columns = ["class", "objects", "AP (VOC)", "11 points"]
    scores = ["COCO AP", "AP50"] if result.coco else []
    rows = []
    for item in sorted(result.per_class, key=lambda item: -np.nan_to_num(item.voc_area, nan=-1.0)):
        coco = [item.coco_ap, item.coco_ap50] if result.coco else []
        point = [item.f1, item.precision, item.recall, item.threshold] if item.objects else [None] * 4
        rows.append([item.name, item.objects, item.voc_area, item.voc_07, *coco, *point])
    return Table(
        [*columns, *scores, "best F1", "precision", "recall", "at score"],
        rows,
        bars=["AP (VOC)", "COCO AP"],
        caption="Precision and recall are those at the score threshold with the class's best F1.",
    )


def _curves(result: EvalResult) -> Figures:
    curves = dict(zip(result.class_names, result.metrics.curves, strict=True))
    seen = {name: curve for name, curve in curves.items() if curve.objects}
    precision = {name: precision_on_grid(curve) for name, curve in seen.items()}
    f1 = {name: f1_on_grid(curve) for name, curve in seen.items()}
    outcome, scores = result.metrics.matching.outcome, result.detections.scores
    return Figures(
        [
            Figure(plots.pr_curves(_with_mean(precision), emphasis=MEAN), "Precision over recall"),
            Figure(plots.f1_curves(_with_mean(f1), emphasis=MEAN), "F1 over the score threshold"),
            Figure(plots.threshold_curves(_all_together(result)), "All classes together, over the score threshold"),
            Figure(
                plots.score_histogram(scores[outcome == RIGHT], scores[outcome == WRONG]),
                "Scores of right and wrong detections",
            ),
        ],
        min_width_px=420,
    )


def _all_together(result: EvalResult) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    kept, right = (np.sum(counts, axis=0) for counts in zip(*map(counts_on_grid, result.metrics.curves), strict=True))
    sought = sum(curve.objects for curve in result.metrics.curves)
    precision = np.divide(right, kept, out=np.full(len(GRID), np.nan), where=kept > 0)
    recall = right / max(sought, 1)
    f1 = 2 * right / np.maximum(kept + sought, 1)
    return {"precision": (GRID, precision), "recall": (GRID, recall), "F1": (GRID, f1)}


def _with_mean(lines: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    series = {name: (GRID, values) for name, values in lines.items()}
    if len(lines) > 1:
        series[MEAN] = (GRID, np.mean(list(lines.values()), axis=0))
    return series


def _confusion(result: EvalResult) -> list[Figures | Table | Text]:
    counts, names = result.metrics.confusion, [*result.class_names, "background"]
    # rows and columns of classes that occur nowhere say nothing
    used = np.flatnonzero((counts.sum(axis=0) + counts.sum(axis=1)) > 0)
    blocks: list[Figures | Table | Text] = [
        Text(
            f"At the score threshold {result.metrics.best_threshold:.2f}. The last column counts missed objects, the "
            "last row detections of nothing. Colours are shares of a row."
        )
    ]
    if 0 < len(used) <= LARGEST_MATRIX:
        chart = plots.confusion_matrix(counts[np.ix_(used, used)], [names[index] for index in used])
        blocks.append(Figures([Figure(chart, "Labelled as (rows), detected as (columns)")], _matrix_width(used)))
    between = counts[:-1, :-1] * (1 - np.eye(len(counts) - 1, dtype=np.int64))
    order = np.argsort(-between, axis=None, kind="stable")[:MOST_CONFUSED]
    rows = [
        [names[row], names[column], int(between[row, column])]
        for row, column in zip(*np.unravel_index(order, between.shape), strict=True)
        if between[row, column]
    ]
    if rows:
        blocks.append(Table(["labelled as", "detected as", "objects"], rows, caption="Most confused classes"))
    return blocks


def _matrix_width(used: np.ndarray) -> int:
    """Few classes need no picture as wide as the page."""
    return int(np.clip(220 + 36 * len(used), 360, 1000))


def _worst_images(result: EvalResult, worst: int) -> list[Figures | Text]:
    mistakes = find_mistakes(result.truth, result.detections, result.metrics.matching, result.metrics.best_threshold)
    order = np.argsort(-mistakes.by_image, kind="stable")[:worst]
    images = [int(image) for image in order if mistakes.by_image[image]]
    if not images:
        return [Text("No image has a missed object or a wrong detection at the best score threshold.")]
    missed = np.bincount(result.truth.image_index[mistakes.missed], minlength=len(result.samples))
    figures = [
        Figure(
            draw_comparison(result, image, mistakes),
            f"{result.samples[image].image_path.name}: {missed[image]} missed, "
            f"{mistakes.by_image[image] - missed[image]} wrong",
        )
        for image in images
    ]
    return [Text(LEGEND), Figures(figures)]


def _speed_table(result: EvalResult) -> Table:
    speed = result.speed
    stages = {
        "read and decode": speed.decode_ms,
        "resize and normalise": speed.preprocess_ms,
        "network": speed.network_ms,
        "postprocess": speed.postprocess_ms,
    }
    caption = f"{speed.backend}, batches of {speed.batch_size}, {speed.images_per_s:.1f} images per second in all."
    return Table(["stage", "ms per image"], list(stages.items()), caption=caption, digits=2)


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _list(items: Sequence[str], most: int = 12) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
