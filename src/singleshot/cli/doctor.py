"""``singleshot doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from singleshot.cli.console import open_console, shown
from singleshot.cli.data import track_items
from singleshot.cli.shared_options import FormatOption, LowerNamesOption

if TYPE_CHECKING:
    from singleshot.doctor.examine import Diagnosis

T = TypeVar("T")


def doctor(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] DATA",
            help="Labelled images; before or after them a weights file, or 'coco'.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="The model by an option: a weights file, or 'coco' or 'coco-v3'.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="One split, or several joined by +. Default: everything.")] = None,
    format: FormatOption = "auto",
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    lower_names: LowerNamesOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page.", show_default="a new one: diagnosis, ...")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write everything to a JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files where they exist.")] = False,
) -> None:
    """Why is AP low? Look for faults of labels and splits, and for what a model confuses and misses.

    Examples:

    * `singleshot doctor photos`
    * `singleshot doctor runs/photos/best.safetensors photos`
    * `singleshot doctor photos --model coco --split train --json findings.json`

    Without a model: copies of pictures within and across splits, objects labelled twice, odd boxes, scarce classes,
    names that are spelt twice, and all that `data check` finds. With one, best trained on this data, also likely wrong
    classes, missing, empty and misplaced boxes, confused classes, missed sizes, and thresholds. Writes diagnosis.html.

    The exit code is 1 when a record or an image could not be used, as that of `data check`; findings alone do not
    change it.
    """
    from singleshot.core.files import check_output, write_atomically
    from singleshot.doctor.examine import check_page, examine
    from singleshot.prediction.output_folder import check_not_sources, new_folder
    from singleshot.report.page import require_pages

    require_pages()
    model, data = _model_and_data(paths, model)
    if out is not None:
        check_page(out, overwrite=overwrite)
    if json is not None:
        check_output(json, overwrite=overwrite, sources=[data])
    if model is not None:
        typer.echo(f"Model: {shown(model)}; data: {shown(data)}", err=True)
    result = examine(data, model, split=split, format=format, device=device, lower_names=lower_names, track=_track)
    _print(result)
    if json is not None:
        check_not_sources([json], result.sources)
        open_console().print(f"Written: {write_atomically(json, result.to_json())}", soft_wrap=True)
    folder = out or new_folder(Path("diagnosis"))
    typer.echo(f"Page: {shown(result.save(folder, overwrite=overwrite))}")
    raise typer.Exit(1 if result.left_out else 0)


def _track(items: Sequence[T], text: str) -> Iterable[T]:
    return track_items(text)(items)


def _model_and_data(paths: Sequence[str], model: str | None) -> tuple[str | None, Path]:
    """Which is which: a bundled name or a weights file is the model, wherever it stands.

    Raises:
        ConfigError: there are too many, or none of two is a model.
    """
    from singleshot.errors import ConfigError

    if len(paths) == 1:
        return model, Path(paths[0])
    if len(paths) > 2 or model is not None:
        raise ConfigError(
            f"one model and one data set are looked at, not {', '.join([*paths, *filter(None, [model])])}"
        )
    first, second = paths
    if _is_model(first) == _is_model(second):
        what = "both are models" if _is_model(first) else "neither is a weights file or the name of a bundled detector"
        raise ConfigError(f"{first} and {second}: {what}: name the model by `model` and the data alone")
    return (first, Path(second)) if _is_model(first) else (second, Path(first))


def _is_model(path: str) -> bool:
    from singleshot.weights.bundled import bundled_names
    from singleshot.weights.file import is_weights_file

    return (path in bundled_names() and not Path(path).exists()) or is_weights_file(path)


def _print(result: Diagnosis) -> None:
    console = open_console()
    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    for line in result.lines():
        console.print(shown(line), style=colours.get(line.partition(":")[0]), soft_wrap=True)
