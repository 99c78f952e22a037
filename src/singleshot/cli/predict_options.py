"""Options of ``singleshot predict`` alone, in the order in which help shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Images, folders, globs, zip and tar archives, @LIST.txt, videos; rtsp:// and http:// addresses; "
        "0 for the first camera.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "--weights",
        help="A weights file, or 'coco' or 'coco-v3' for a bundled detector; with --server one of its models.",
        show_default="coco",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(help="Folder for the results.", show_default="a new one: predictions, predictions-2, ..."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is in --out; an earlier run's results are removed.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out: images that are done are skipped.")]
Score = Annotated[
    float | None,
    typer.Option(help="Least confidence of a detection, 0..1.", show_default="the model's, mostly 0.3"),
]
Save = Annotated[
    str | None,
    typer.Option(
        help="What to write, with commas: images, video, json, jsonl, csv, text, coco, yolo, voc, voc-results, "
        "mot, parquet, crops, crossings.",
        show_default="images,json; of videos video,json; of streams jsonl",
    ),
]
Classes = Annotated[list[str] | None, typer.Option(help="Only these classes, by name: person,dog.", show_default="all")]
Precision = Annotated[str, typer.Option(help="In which numbers: auto, fp32, bf16, int8.")]
Split = Annotated[
    str | None, typer.Option(help="Of SOURCE, a data set: the images of this split; 'all' for everything.")
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders.")]
Size = Annotated[
    str | None,
    typer.Option(help="Network input: 300, or HEIGHTxWIDTH; a conversion is not kept.", show_default="the model's"),
]
MaxDetections = Annotated[int | None, typer.Option(help="Most detections per image.", show_default="the model's")]
Clip = Annotated[
    bool,
    typer.Option("--clip/--no-clip", help="Let boxes end at the picture, or leave them as the network has them."),
]
Labels = Annotated[bool, typer.Option("--labels/--no-labels", help="Names and scores in pictures.")]
LineWidth = Annotated[
    int | None, typer.Option(help="Of boxes in pictures, in pixels.", show_default="by the picture's size")
]
Times = Annotated[
    bool | None, typer.Option("--times/--no-times", help="Say where the time went.", show_default="of many images")
]
MaxPixels = Annotated[int, typer.Option(help="Larger images are refused.")]
Every = Annotated[int, typer.Option(help="Of videos, each N-th frame.")]
Fps = Annotated[float | None, typer.Option(help="Of videos, so many frames a second.", show_default="all")]
Start = Annotated[str | None, typer.Option(help="Where a video begins: 90, 1:30 or 0:01:30.")]
End = Annotated[str | None, typer.Option(help="Where it ends.")]
MaxFrames = Annotated[int | None, typer.Option(help="End after so many frames.", show_default="none")]
Live = Annotated[
    str, typer.Option(help="Of streams: latest drops frames that come too fast, all lets the stream wait.")
]
Show = Annotated[
    bool, typer.Option("--show", help="Show results as they come: in a window, or on a page of this machine.")
]
Track = Annotated[bool, typer.Option("--track", help="Follow objects through frames: they get ids.")]
Count = Annotated[list[str] | None, typer.Option(help="Count tracks that cross a line: NAME:x1,y1,x2,y2; repeatable.")]
Zone = Annotated[Path | None, typer.Option(help="Only what stands inside polygons: a JSON file of [[x, y], ...].")]
MinSize = Annotated[float, typer.Option(help="Leave out boxes with a side shorter than this, in pixels.")]
Server = Annotated[
    str | None,
    typer.Option(help="Have 'singleshot serve' compute: http://HOST:PORT.", show_default="this machine computes"),
]
TokenFile = Annotated[Path | None, typer.Option(help="Of --server: a file that holds its token.")]
Engine = Annotated[
    str | None,
    typer.Option(help="Divide the images: processes (of this machine), or ray.", show_default="no engine"),
]
Workers = Annotated[
    int | None, typer.Option(help="Of --engine: how many detectors.", show_default="one for each core, or each GPU")
]
Address = Annotated[str | None, typer.Option(help="Of --engine ray: the cluster.", show_default="one on this machine")]
PartSize = Annotated[
    int | None, typer.Option(help="Of --engine: images of each file of --save parquet.", show_default="512")
]
Column = Annotated[
    str | None, typer.Option(help="Of a Parquet SOURCE: the column of images or their paths.", show_default="found")
]
