"""``singleshot eval``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from singleshot.cli import eval_options as options
from singleshot.cli import shared_options as shared
from singleshot.cli.console import error_text, open_console, print_note, split_names
from singleshot.cli.eval_tables import print_result
from singleshot.core.wording import printable

if TYPE_CHECKING:
    from rich.console import Console

    from singleshot.data import DetectionDataset
    from singleshot.evaluation.result import EvalResult
    from singleshot.prediction.frames import Result
    from singleshot.prediction.job import OutputProblem


def evaluate(
    model: options.Model,
    data: options.Data,
    split: options.Split = None,
    format: shared.FormatOption = "auto",
    out: options.Out = None,
    save: options.Save = None,
    overwrite: options.Overwrite = False,
    batch_size: shared.BatchSizeOption = 1,
    backend: shared.BackendOption = "auto",
    precision: options.Precision = "fp32",
    device: shared.DeviceOption = "auto",
    compile: shared.CompileOption = False,
    metric: options.Metric = None,
    score: options.Score = 0.01,
    nms_iou: shared.NmsIouOption = None,
    agnostic: shared.AgnosticOption = False,
    top_k: shared.TopKOption = None,
    max_detections: options.MaxDetections = None,
    tile: shared.TileOption = None,
    overlap: shared.OverlapOption = 0.2,
    merge: shared.MergeOption = "nms",
    augment_test: shared.AugmentTestOption = None,
    iou: options.Iou = 0.5,
    strict: options.Strict = False,
    inclusive: options.Inclusive = False,
    use_difficult: options.UseDifficult = False,
    classes: options.Classes = None,
    lower_names: shared.LowerNamesOption = False,
    decisions: shared.DecisionsOption = None,
    worst: options.Worst = 12,
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
        console.print(Text("Not written: ", "red").append(error_text(error), "default"), soft_wrap=True)
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
