"""``singleshot models``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from singleshot.cli.console import open_console, shown
from singleshot.core.lazy import has_torch, lazy_module, missing_torch
from singleshot.core.wording import counted

if TYPE_CHECKING:
    import singleshot.models.config as model_config
    import singleshot.models.summary as model_summary
else:
    model_config = lazy_module("singleshot.models.config")
    model_summary = lazy_module("singleshot.models.summary")


NAME_WIDTH = 29
PRESETS = "mxnet"
"""Families that begin so are the presets of mxnet-ssd and mxnet-dssd, for those who come from there."""


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="A model, a weights file, or a .yaml that describes a detector: prints its layers."),
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Object classes that heads are counted for.")] = 20,
    size: Annotated[str | None, typer.Option(help="Another input size: 300, or HEIGHTxWIDTH.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List the presets of mxnet-ssd and mxnet-dssd, too.")
    ] = False,
) -> None:
    """List the detectors, or show one: its maps, default boxes and parameters.

    Examples:

    * `singleshot models`
    * `singleshot models --all`
    * `singleshot models ssd300_vgg16`
    * `singleshot models ssdlite300_mobilenet_v2 --size 300x480 --classes 3`
    * `singleshot models detector.yaml`
    """
    from singleshot.core.sizes import parse_size
    from singleshot.models.catalogue import model_entry, model_spec
    from singleshot.models.description import describe, is_description, read_description

    console = open_console()
    size_hw = parse_size(size) if size else None
    if name is None:
        _print_all(console, classes, size_hw, everything)
    elif Path(name).suffix == ".safetensors":
        from singleshot.weights.file import read_spec

        spec = read_spec(name)
        if size_hw:
            spec = spec.model_copy(update={"preprocess": spec.preprocess.model_copy(update={"size_hw": size_hw})})
        _print_one(console, spec, f"weights file of {spec.name}")
    elif is_description(name):
        description = read_description(name)
        own = description.get("class_names")
        names = own if isinstance(own, list) else class_placeholders(classes)
        _print_one(console, describe(description, names, size_hw, name), f"described in {name}")
    else:
        spec = model_spec(name, class_placeholders(classes), size_hw)
        _print_one(console, spec, model_entry(name).description)


def class_placeholders(count: int) -> tuple[str, ...]:
    """Names for classes that only matter by their number."""
    return tuple(f"class_{index}" for index in range(1, count + 1))


def _print_all(console: Console, classes: int, size_hw: tuple[int, int] | None, everything: bool) -> None:
    from rich.progress import track
    from rich.text import Text

    from singleshot.models.catalogue import model_entry, model_names, model_spec

    rows = [model_entry(name) for name in model_names()]
    listed = [row for row in rows if everything or not row.family.startswith(PRESETS)]
    counts = (">Params", ">GFLOPs", ">Anchors") if has_torch() else ()
    table = _table("Model", ">Input", *counts, "Weights")
    table.padding, table.show_edge = (0, 0, 0, 0), False  # else the longest name leaves 80 columns
    family = ""
    for row in track(listed, "Measuring", console=console, transient=True, disable=not console.is_terminal):
        if row.family != family:
            family = row.family
            table.add_row(Text(family, "bold"))
        spec = model_spec(row.name, class_placeholders(classes), size_hw)
        height, width = spec.preprocess.size_hw
        sources = ", ".join(source for source, _ in weights_at_hand(spec))
        table.add_row(row.name, f"{height}x{width}", *(_counts(spec) if counts else ()), sources)
    console.print(table)
    hidden = len(rows) - len(listed)
    console.print(
        (
            f"Parameters and FLOPs (a multiplication and an addition are two) with {counted(classes, 'class')} and "
            "background. "
            if counts
            else ""
        )
        + "Input is height x width; any other size works. Weights: coco and coco-v3 are bundled, imagenet "
        "a backbone to start from. "
        + (f"--all lists {hidden} presets of {PRESETS}-ssd and {PRESETS}-dssd, too. " if hidden else "")
        + "'singleshot models NAME' shows one."
    )
    _print_uncounted(console)


def _counts(spec: model_config.ModelSpec) -> tuple[str, str, str]:
    from singleshot.models.summary import summarise

    summary = summarise(spec)
    return f"{summary.total_parameters / 1e6:.2f}M", f"{summary.flops / 1e9:.1f}", f"{summary.anchors:,}"


def _print_uncounted(console: Console) -> None:
    if missing := missing_torch("counting them"):
        console.print(f"Parameters, FLOPs and default boxes are not shown: {missing}", markup=False)


def _print_one(console: Console, spec: model_config.ModelSpec, description: str) -> None:
    from rich.text import Text

    height, width = spec.preprocess.size_hw
    console.print(Text(shown(spec.name), "bold").append(f"  {shown(description)}", "not bold"))
    basics = f"input {height} x {width} (h x w), {counted(len(spec.class_names), 'class')}"
    if has_torch():
        _print_counts(console, spec, basics)
    else:
        console.print(basics)
    console.print(f"backbone {shown(spec.network.backbone.name)}, neck {spec.network.neck.kind}")
    for label, settings in (("preprocess", spec.preprocess), ("postprocess", spec.postprocess), ("coder", spec.coder)):
        changed = ", ".join(f"{key}={value}" for key, value in settings.model_dump().items() if key != "class_columns")
        console.print(f"{label}: {changed}")
    console.print(f"default score: {spec.default_score:g}")
    at_hand = ", ".join(f"{source} ({where})" for source, where in weights_at_hand(spec))
    console.print(f"weights at hand: {at_hand or 'none'}")
    _print_uncounted(console)


def _print_counts(console: Console, spec: model_config.ModelSpec, basics: str) -> None:
    from singleshot.models.summary import summarise

    summary = summarise(spec)
    console.print(
        f"{basics}, {summary.anchors:,} anchors, {summary.total_parameters:,} parameters, "
        f"{summary.flops / 1e9:.2f} GFLOPs"
    )
    console.print(_level_table(summary))
    parts = _table("Part", ">Parameters")
    for part, count in summary.parameters.items():
        parts.add_row(part, f"{count:,}")
    console.print(parts)


def _level_table(summary: model_summary.NetworkSummary) -> Table:

    table = _table("Source", ">Channels", ">Map", ">Stride", ">Boxes per cell", ">Box sides (px)", ">Anchors")
    for level in summary.levels:
        rows, columns = level.size_hw
        down, across = level.stride_hw
        table.add_row(
            shown(level.source),
            str(level.channels),
            f"{rows} x {columns}",
            f"{down:.4g}" if down == across else f"{down:.4g} x {across:.4g}",
            str(level.boxes_per_cell),
            f"{level.sides_px[0]:.0f} to {level.sides_px[1]:.0f}",
            f"{level.anchors:,}",
        )
    return table


def weights_at_hand(spec: model_config.ModelSpec) -> list[tuple[str, str]]:
    """Weights that need no training, and where they are: bundled detectors, and ImageNet weights for the backbone."""
    from singleshot.core.files import cache_folder
    from singleshot.weights.bundled import bundled_names, bundled_path
    from singleshot.weights.file import read_spec
    from singleshot.weights.manifest import IMAGENET, architecture_of

    found = [(name, "bundled") for name in bundled_names() if read_spec(bundled_path(name)).name == spec.name]
    architecture = architecture_of(spec.network.backbone.name)
    if architecture:
        is_here = (cache_folder() / IMAGENET[architecture].file_name).is_file()
        found.append(("imagenet", "in the cache" if is_here else "download"))
    return found


def _table(*columns: str) -> Table:
    """A table whose columns marked ``>`` hold numbers, to the right, whole; usual names stay whole too."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        is_number = column.startswith(">")
        table.add_column(
            column.lstrip(">"),
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=is_number,
            min_width=NAME_WIDTH if index == 0 else None,
        )
    return table
