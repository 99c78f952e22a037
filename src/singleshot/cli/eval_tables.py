"""What ``singleshot eval`` prints about a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from singleshot.cli.console import print_note
from singleshot.core.lazy import lazy_module
from singleshot.core.wording import counted, printable

if TYPE_CHECKING:
    import singleshot.evaluation.result as eval_result
else:
    eval_result = lazy_module("singleshot.evaluation.result")


BEST_ROWS, WORST_ROWS = 12, 28
"""Classes that the table shows of more than both together."""


def print_result(console: Console, result: eval_result.EvalResult, shown: Sequence[str]) -> None:
    """Classes, means, speed and remarks.

    Args:
        console: where to.
        result: the evaluation.
        shown: the metrics asked for.
    """
    split = f", split {result.split}" if result.split else ""
    speed = result.speed
    console.print(
        f"{printable(f'{result.model} on {result.data}{split}')}: {counted(len(result.samples), 'image')}, "
        f"{counted(result.objects, 'object')}; {speed.backend}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_class_table(result, shown))
    console.print(_summary_table(result, shown))
    console.print(
        f"{speed.images_per_s:.1f} images/s ({speed.backend}, batches of {speed.batch_size}); ms per image: "
        f"decode {speed.decode_ms:.1f}, preprocess {speed.preprocess_ms:.1f}, network {speed.network_ms:.1f}, "
        f"postprocess {speed.postprocess_ms:.1f}",
        highlight=False,
        soft_wrap=True,
    )
    for remark in result.remarks:
        print_note(console, printable(remark))
    console.print(result.headline, style="bold", soft_wrap=True)


def _summary_table(result: eval_result.EvalResult, shown: Sequence[str]) -> Table:
    from rich.table import Table

    rows = []
    if "coco" in shown:
        rows += [(f"COCO {name}", value) for name, value in result.coco.items()]
    if "voc" in shown:
        rows += [(f"VOC AP, area, IoU {result.voc.min_iou:g}", result.voc_area), ("VOC AP, 11 points", result.voc_07)]
    rows.append((f"best F1, at score {result.metrics.best_threshold:.2f}", result.metrics.best_f1))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    for name, value in rows:
        table.add_row(name, _number(value) + result.interval_text(name.removeprefix("COCO ")))
    return table


def _class_table(result: eval_result.EvalResult, shown: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    numbers = ["objects"]
    numbers += ["AP (VOC)", "11 points"] if "voc" in shown else []
    numbers += ["COCO AP", "AP50"] if "coco" in shown else []
    for heading in [*numbers, "best F1", "at score"]:
        table.add_column(heading, justify="right")
    items = sorted((item for item in result.per_class if item.objects), key=lambda item: -item.voc_area)
    hidden = len(items) - BEST_ROWS - WORST_ROWS
    for place, item in enumerate(items):
        if hidden > 1 and BEST_ROWS <= place < BEST_ROWS + hidden:
            if place == BEST_ROWS:
                table.add_row(f"... {hidden} classes between, which --out writes ...")
            continue
        cells = [item.voc_area, item.voc_07] if "voc" in shown else []
        cells += [item.coco_ap, item.coco_ap50] if "coco" in shown else []
        point = [f"{item.f1:.3f}", f"{item.threshold:.2f}"]
        table.add_row(printable(item.name), f"{item.objects:,}", *map(_number, cells), *point)
    return table


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
