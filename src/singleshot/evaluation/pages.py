"""The pages of an evaluation: key numbers, classes, curves, confusions and the worst images."""

from __future__ import annotations

import numpy as np

from singleshot.core.wording import counted
from singleshot.errors import ImageError
from singleshot.evaluation.metrics.curves import GRID, counts_on_grid, f1_on_grid, precision_on_grid
from singleshot.evaluation.metrics.voc import RIGHT, WRONG
from singleshot.evaluation.numbers import Measured
from singleshot.evaluation.pictures import LEGEND, draw_comparison, find_mistakes
from singleshot.evaluation.wording import convention, interval_text, remarks
from singleshot.report import plots
from singleshot.report.page import Cell, Figure, Figures, Section, Table, Text, Tile, Tiles

MEAN = "mean of all classes"
MOST_CONFUSED = 10
LARGEST_MATRIX = 90
"""Classes, with background, of which a matrix can still be read."""


def evaluation_sections(result: Measured, worst: int = 12) -> list[Section]:
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
        Section("Classes", _classes(result)),
        Section("Confusion", _confusion(result)),
        Section("Worst images", _worst_images(result, worst)),
        Section("How it was measured", [Text(convention(result)), _speed_table(result)]),
    ]


def _tiles(result: Measured) -> list[Tile]:
    tiles = [
        Tile(f"AP at IoU {result.voc.min_iou:g}", _number(result.voc_area), "VOC, area below the curve"),
        Tile("VOC 2007", _number(result.voc_07), "11 points"),
    ]
    for place, (name, rule) in enumerate({"AP": "IoU 0.50 to 0.95", "AP50": "IoU 0.50"}.items()):
        if result.coco:
            interval = interval_text(result, name)
            note = rule + (f";{interval}" if interval else "")
            tiles.insert(place, Tile(f"COCO {name}", _number(result.coco[name]), note))
    threshold = result.metrics.best_threshold
    tiles.append(Tile("best F1", _number(result.metrics.best_f1), f"mean of classes, at score {threshold:.2f}"))
    tiles.append(Tile("images", f"{len(result.samples):,}", f"with {counted(result.objects, 'object')}"))
    tiles.append(Tile("images/s", f"{result.speed.images_per_s:.1f}", result.speed.backend))
    return tiles


def _remarks(result: Measured) -> list[Text]:
    found = [*result.notes, *remarks(result)]
    return [Text("\n\n".join(found))] if found else []


def _classes(result: Measured) -> list[Table | Text]:
    measured = [item for item in result.per_class if item.objects]
    if not measured:
        return [Text("No object of any class: there is nothing to measure.")]
    columns = ["class", "objects", "AP (VOC)", "11 points"]
    scores = ["COCO AP", "AP50"] if result.coco else []
    rows: list[list[Cell]] = []
    for item in sorted(measured, key=lambda item: item.voc_area):
        coco = [item.coco_ap, item.coco_ap50] if result.coco else []
        point = [item.f1, item.precision, item.recall, item.threshold]
        rows.append([item.name, item.objects, item.voc_area, item.voc_07, *coco, *point])
    caption = "The worst classes first. Precision and recall are those at the score threshold with the class's best F1."
    return [
        Table(
            [*columns, *scores, "best F1", "precision", "recall", "at score"],
            rows,
            bars=["AP (VOC)", "COCO AP"],
            caption=caption,
        )
    ]


def _curves(result: Measured) -> Figures:
    # a class may have the very name of the mean
    names = [name + " (class)" * (name == MEAN) for name in result.class_names]
    seen = {name: curve for name, curve in zip(names, result.metrics.curves, strict=True) if curve.objects}
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


def _all_together(result: Measured) -> dict[str, tuple[np.ndarray, np.ndarray]]:
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


def _confusion(result: Measured) -> list[Figures | Table | Text]:
    counts, names = result.metrics.confusion, [*result.class_names, "background"]
    # rows and columns of classes that occur nowhere say nothing
    used = np.flatnonzero((counts.sum(axis=0) + counts.sum(axis=1)) > 0)
    blocks: list[Figures | Table | Text] = [
        Text(
            f"At the score threshold {result.metrics.best_threshold:.2f}. The last column counts missed objects, the "
            "last row detections of nothing. Colours are shares of the objects of a row; those of the last row are "
            "compared with the objects of the most frequent class."
        )
    ]
    if 0 < len(used) <= LARGEST_MATRIX:
        width_px = plots.matrix_width_px(len(used))
        chart = plots.confusion_matrix(counts[np.ix_(used, used)], [names[index] for index in used])
        blocks.append(Figures([Figure(chart, "Labelled as (rows), detected as (columns)", width_px)], width_px))
    elif len(used):
        blocks.append(Text(f"A matrix of {counted(len(used), 'class')} could not be read; eval.json has it."))
    else:
        blocks.append(Text("Neither an object nor a detection: there is nothing to confuse."))
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


def _worst_images(result: Measured, worst: int) -> list[Figures | Text]:
    mistakes = find_mistakes(result.truth, result.detections, result.metrics.matching, result.metrics.best_threshold)
    order = np.argsort(-mistakes.by_image, kind="stable")[:worst]
    images = [int(image) for image in order if mistakes.by_image[image]]
    if not images:
        return [Text("No image has a missed object or a wrong detection at the best score threshold.")]
    missed = np.bincount(result.truth.image_index[mistakes.missed], minlength=len(result.samples))
    figures, gone = [], []
    for image in images:
        name, wrong = result.samples[image].image_path.name, mistakes.by_image[image] - missed[image]
        try:
            picture = draw_comparison(result, image, mistakes)
        except ImageError as error:
            gone.append(f"{name} cannot be drawn: {error}")
            continue
        figures.append(Figure(picture, f"{name}: {missed[image]} missed, {wrong} wrong"))
    return [Text("\n\n".join([LEGEND, *gone])), Figures(figures)]


def _speed_table(result: Measured) -> Table:
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
