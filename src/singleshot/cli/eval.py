"""``singleshot eval``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import open_console, print_note, split_names
from singleshot.cli.data import DecisionsOption, FormatOption, LowerNamesOption
from singleshot.cli.eval_tables import print_result
from singleshot.cli.shared_options import (
    AgnosticOption,
    AugmentTestOption,
    BackendOption,
    BatchSizeOption,
    CompileOption,
    DeviceOption,
    MergeOption,
    NmsIouOption,
    OverlapOption,
    TileOption,
    TopKOption,
)
from singleshot.core.wording import printable

if TYPE_CHECKING:
    from rich.console import Console

    from singleshot.data import DetectionDataset
    from singleshot.evaluation.result import EvalResult
    from singleshot.prediction.frames import Result
    from singleshot.prediction.job import OutputProblem


class Metric(StrEnum):
    """What to compute."""

    voc = "voc"
    coco = "coco"


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A weights file, or 'coco' or 'coco-v3' for a bundled detector.")
    ],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A labelled data set: VOC, COCO, YOLO or csv.")],
    split: Annotated[
        str | None, typer.Option(help="Split to evaluate, 'all' for everything. Default: test, else val, else all.")
    ] = None,
    format: FormatOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for eval.json, curves.csv, report.html, and what --save writes.")
    ] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(
            help="Also write the detections, below --out: voc (comp4_det_test_CLASS.txt), text, json, csv ..."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files where they exist.")] = False,
    batch_size: BatchSizeOption = 1,
    backend: BackendOption = "auto",
    precision: Annotated[
        str, typer.Option(help="In which numbers: fp32, bf16, int8, or auto, which is what predict would take.")
    ] = "fp32",
    device: DeviceOption = "auto",
    compile: CompileOption = False,
    metric: Annotated[
        list[Metric] | None,
        typer.Option("--metric", "--metrics", help="Numbers to compute; repeat for more. Default: all."),
    ] = None,
    score: Annotated[
        float,
        typer.Option("--score", "--score-threshold", min=0, max=1, help="Detections below are not looked at."),
    ] = 0.01,
    nms_iou: NmsIouOption = None,
    agnostic: AgnosticOption = False,
    top_k: TopKOption = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most detections per image; above 100 COCO's numbers count as many of a class.",
            show_default="the model's, and COCO's 100 of a class",
        ),
    ] = None,
    tile: TileOption = None,
    overlap: OverlapOption = 0.2,
    merge: MergeOption = "nms",
    augment_test: AugmentTestOption = None,
    iou: Annotated[float, typer.Option(min=0.01, max=1, help="Overlap that counts (VOC's rule).")] = 0.5,
    strict: Annotated[bool, typer.Option("--strict", help="Overlap must exceed --iou (Python ports of VOC).")] = False,
    inclusive: Annotated[
        bool, typer.Option("--inclusive", help="Add 1 pixel to widths and heights (VOC devkit).")
    ] = False,
    use_difficult: Annotated[
        bool, typer.Option("--use-difficult", help="Objects marked difficult count as any others.")
    ] = False,
    classes: Annotated[
        list[str] | None, typer.Option(help="Measure only these classes of the data: person,dog; repeatable.")
    ] = None,
    lower_names: LowerNamesOption = False,
    decisions: DecisionsOption = None,
    worst: Annotated[int, typer.Option(min=0, max=200, help="Worst images that the report draws.")] = 12,
) -> None:
    """Measure a detector on labelled images: VOC and COCO average precision, per class, curves, confusions, speed.

    Examples:

        singleshot eval coco photos/instances.json

        singleshot eval runs/cells/best.safetensors cells --split test --out runs/cells/eval

        singleshot eval best.safetensors VOCdevkit --split 2007_test --metric voc --save voc --out results
    """
    from singleshot.core.sizes import parse_batch_size
    from singleshot.data.train_val import open_held_out, remarks
    from singleshot.errors import ConfigError
    from singleshot.evaluation.evaluate import ALL_METRICS
    from singleshot.evaluation.evaluate import evaluate as run
    from singleshot.evaluation.result import check_outputs
    from singleshot.runtime.choose import check_wish
    from singleshot.runtime.registry import Wish

    console = open_console()
    shown = [name for name in ALL_METRICS if not metric or name in metric]
    parse_batch_size(batch_size)
    kinds = split_names(save) or []
    if kinds and out is None:
        raise ConfigError("`save` writes below a folder: name one by `out`")
    check_wish(Wish(backend, precision, device=device, compile=compile))
    dataset = open_held_out(
        data,
        split,
        format,
        learnt=Path(model).is_file(),
        classes=split_names(classes),
        lower_names=lower_names,
        decisions=decisions,
    )
    if out:
        check_outputs(out, dataset.samples, overwrite=overwrite)
    for remark in remarks(dataset):
        print_note(console, printable(remark))
    problems: list[OutputProblem] = []
    with ExitStack() as stack:
        on_result = stack.enter_context(_saving(kinds, out, dataset, model, problems, overwrite)) if out else None
        on_progress = stack.enter_context(_progress(len(dataset)))
        result = run(
            model,
            dataset,
            score=score,
            batch_size=batch_size,
            backend=backend,
            precision=precision,
            device=device,
            compile=compile,
            nms_iou=nms_iou,
            agnostic=agnostic,
            top_k=top_k,
            max_detections=max_detections,
            tile=tile,
            overlap=overlap,
            merge=merge,
            augment_test=augment_test,
            metrics=shown,
            iou=iou,
            strict=strict,
            inclusive=inclusive,
            use_difficult=use_difficult,
            on_progress=on_progress,
            on_result=on_result,
            on_note=lambda line: print_note(console, line),
        )
    print_result(console, result, shown)
    written = _save(console, result, out, worst, overwrite) if out else True
    for problem in problems:
        print_note(console, printable(f"not written: {problem.path or out}: {problem.error}"))
    unreadable = any(problem.kind == "unreadable-image" for problem in dataset.problems)
    if result.failed or unreadable or problems or not written:
        raise typer.Exit(1)


def _saving(
    kinds: Sequence[str],
    out: Path,
    dataset: DetectionDataset,
    model: str,
    problems: list[OutputProblem],
    overwrite: bool,
) -> AbstractContextManager[Callable[[Result], None]]:
    from singleshot.detector import load
    from singleshot.evaluation.saving import saving

    return saving(kinds, out, dataset, load(model).spec, problems, overwrite=overwrite)


def _save(console: Console, result: EvalResult, out: Path, worst: int, overwrite: bool) -> bool:
    """Write the files; whether that went well. What was measured has been printed: a full disk does not undo it."""
    from rich.text import Text

    from singleshot.errors import SingleshotError

    try:
        page = result.save(out, worst=worst, overwrite=overwrite)
    except (SingleshotError, OSError) as error:
        console.print(Text("Not written: ", "red").append(printable(str(error)), "default"), soft_wrap=True)
        return False
    console.print(f"Report: {printable(str(page))}", highlight=False, soft_wrap=True)
    return True


@contextmanager
def _progress(count: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal; nothing where output goes to a file."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=open_console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=count)
        yield lambda done, total: bar.update(task, completed=done, total=total)
