"""Options that several verbs have: one declaration each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BatchSizeOption = Annotated[
    int,
    typer.Option("--batch-size", "--batch", help="Images that the network sees at once; more than 1 pays on a GPU."),
]
BackendOption = Annotated[str, typer.Option(help="What runs the network: auto, torch, openvino, onnx.")]
DeviceOption = Annotated[str, typer.Option(help="Where: auto, cpu, cuda, cuda:1, mps.")]
CompileOption = Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")]
NmsIouOption = Annotated[
    float | None,
    typer.Option(help="Overlap above which the weaker of two boxes of a class goes.", show_default="the model's"),
]
AgnosticOption = Annotated[
    bool, typer.Option("--agnostic", help="Of overlapping boxes only the surest stays, whatever their classes.")
]
TopKOption = Annotated[
    int | None, typer.Option(help="Candidates of a class that enter NMS.", show_default="the model's")
]
TileOption = Annotated[
    str | None,
    typer.Option(
        help="Look at tiles, for small objects: their side, HEIGHTxWIDTH, or auto (by what the model learnt).",
        show_default="none",
    ),
]
OverlapOption = Annotated[float, typer.Option(help="Of neighbouring tiles, as a share of their side.")]
MergeOption = Annotated[
    str, typer.Option(help="Of boxes from several looks: nms; ios or union for objects that tiles cut.")
]
AugmentTestOption = Annotated[
    str | None, typer.Option(help="Look several times: flip, scales, or both.", show_default="none")
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format", help="Format of the labels: auto, voc, coco, yolo, csv, labelme, rec, kitti, shards, parquet."
    ),
]
LowerNamesOption = Annotated[
    bool, typer.Option("--lower-names", help="Take class names in lower case, without spaces at their ends.")
]
DecisionsOption = Annotated[
    Path | None, typer.Option(help="What was decided about labels: a file that singleshot browse wrote.")
]
