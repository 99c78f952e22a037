"""Options of ``singleshot eval`` alone, in the order in which help shows them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class MetricOption(StrEnum):
    """What to compute."""

    voc = "voc"
    coco = "coco"


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A weights file, or 'coco' or 'coco-v3' for a bundled detector.")
]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="A labelled data set: VOC, COCO, YOLO or csv.")]
Split = Annotated[
    str | None, typer.Option(help="Split to evaluate, 'all' for everything. Default: test, else val, else all.")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for eval.json, curves.csv, report.html, and what --save writes.")
]
Save = Annotated[
    list[str] | None,
    typer.Option(help="Also write the detections, below --out: voc (comp4_det_test_CLASS.txt), text, json, csv ..."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace these files where they exist.")]
Precision = Annotated[
    str, typer.Option(help="In which numbers: fp32, bf16, int8, or auto, which is what predict would take.")
]
Metric = Annotated[
    list[MetricOption] | None,
    typer.Option("--metric", "--metrics", help="Numbers to compute; repeat for more. Default: all."),
]
Score = Annotated[
    float,
    typer.Option("--score", "--score-threshold", min=0, max=1, help="Detections below are not looked at."),
]
MaxDetections = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most detections per image; above 100 COCO's numbers count as many of a class.",
        show_default="the model's, and COCO's 100 of a class",
    ),
]
Iou = Annotated[float, typer.Option(min=0.01, max=1, help="Overlap that counts (VOC's rule).")]
Strict = Annotated[bool, typer.Option("--strict", help="Overlap must exceed --iou (Python ports of VOC).")]
Inclusive = Annotated[bool, typer.Option("--inclusive", help="Add 1 pixel to widths and heights (VOC devkit).")]
UseDifficult = Annotated[bool, typer.Option("--use-difficult", help="Objects marked difficult count as any others.")]
Classes = Annotated[
    list[str] | None, typer.Option(help="Measure only these classes of the data: person,dog; repeatable.")
]
Worst = Annotated[int, typer.Option(min=0, max=200, help="Worst images that the report draws.")]
