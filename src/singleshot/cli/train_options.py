"""Options of ``singleshot train``, in the order in which help shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str | None,
    typer.Argument(
        help="Labelled images: a VOC or YOLO folder, a COCO .json, a YOLO .yaml or a .csv.", show_default=False
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="Architecture, or a .yaml that describes a detector; default: that of the weights."),
]
Weights = Annotated[
    str | None,
    typer.Option(help="Where to start: coco-v3 (default), coco, imagenet, imagenet:FILE, a weights file, none."),
]
Basenet = Annotated[
    Path | None,
    typer.Option(help="A classifier (.pth, .params, .caffemodel) for the backbone: --weights imagenet:FILE."),
]
Epochs = Annotated[float | None, typer.Option(help="Length: times that the data is seen (default 50).")]
Steps = Annotated[int | None, typer.Option(help="Length in optimiser steps.")]
Minutes = Annotated[float | None, typer.Option(help="Length in minutes, evaluations included.")]
BatchSize = Annotated[str | None, typer.Option("--batch-size", "--batch", help="Images per step, or auto (default).")]
Lr = Annotated[str | None, typer.Option(help="Learning rate, or auto (default).")]
Size = Annotated[str | None, typer.Option(help="Network input: 300, or HEIGHTxWIDTH.")]
Train = Annotated[
    str | None, typer.Option(help="Split to learn from; join several by +. Default: the data's, or the recipe's.")
]
Val = Annotated[str | None, typer.Option(help="Split to measure on, or none.")]
Classes = Annotated[list[str] | None, typer.Option(help="Only these classes, in this order: person,dog; repeatable.")]
Format = Annotated[str | None, typer.Option("--format", help="Format of the labels; default: by evidence.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; default: a new one below runs/.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]
Recipe = Annotated[str | None, typer.Option(help="A recipe's name, or a YAML file of settings.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Continue the run in --out, or the latest; --resume 500 from its checkpoint of step 500."
    ),
]
ResumeStep = Annotated[int | None, typer.Option(hidden=True)]
StartStep = Annotated[
    int | None,
    typer.Option("--start-step", "--start-iter", help="Steps that the weights have learnt elsewhere."),
]
Anchors = Annotated[str | None, typer.Option(help="Default boxes: auto scales the model's to the training objects.")]
AnchorScale = Annotated[
    float | None, typer.Option(help="Factor for the sizes of the default boxes, such as 0.5 for small objects.")
]
Augment = Annotated[str | None, typer.Option(help="Random changes: ssd, ssd_pytorch, mxnet_ssd, ssdlite, light, none.")]
Tile = Annotated[
    str | None,
    typer.Option(help="Learn from tiles, too, for small objects: their side, or HEIGHTxWIDTH, in pixels."),
]
Overlap = Annotated[float | None, typer.Option(help="Of neighbouring tiles, as a share of their side (0.2).")]
Freeze = Annotated[
    list[str] | None,
    typer.Option(help="Part that stays as it is: backbone, a regular expression, none (default: auto); repeatable."),
]
Finetune = Annotated[
    bool, typer.Option("--finetune", help="Learn only the predictors, and what the weights do not hold.")
]
Amp = Annotated[str | None, typer.Option(help="Number format: auto (default), fp32, bf16, fp16.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Devices = Annotated[
    str | None,
    typer.Option(help="So many devices learn together, or the GPUs with these numbers: 2, or 0,1.", show_default="one"),
]
MaxRestarts = Annotated[
    int,
    typer.Option(
        "--max-restarts",
        min=0,
        help="With --devices: go on from the last save so often after a process was lost.",
    ),
]
Workers = Annotated[str | None, typer.Option(help="Processes that prepare images, or auto (default).")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
BadData = Annotated[str | None, typer.Option(help="Bad records: skip (default) or error.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")]
Log = Annotated[
    list[str] | None,
    typer.Option(help="Send numbers elsewhere, too: tensorboard, mlflow, wandb; several by commas."),
]
Tensorboard = Annotated[bool, typer.Option("--tensorboard", help="The same as --log tensorboard.")]
Monitor = Annotated[int | None, typer.Option(help="Write statistics of weights and gradients every so many steps.")]
MonitorPattern = Annotated[
    str | None, typer.Option("--monitor-pattern", "--pattern", help="Which of them, as --freeze names parts.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; repeatable.")]
