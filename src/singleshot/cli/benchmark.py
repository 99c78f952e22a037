"""``singleshot benchmark``."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import in_flags, open_console
from singleshot.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from singleshot.detector import Detector
    from singleshot.evaluation.speed import Row


def benchmark(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A weights file, a bundled name, or an architecture (no weights).")
    ] = "coco",
    batch: Annotated[list[int] | None, typer.Option(help="Images at once; repeat for more. Default: 1 and 8.")] = None,
    backend: Annotated[str, typer.Option(help="Only this one: torch, openvino, onnx.")] = "auto",
    precision: Annotated[str, typer.Option(help="Only this one: fp32, bf16, int8.")] = "auto",
    device: Annotated[str, typer.Option(help="Where torch computes: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each measurement.")] = 3.0,
    json: Annotated[Path | None, typer.Option(help="Also write the numbers to this file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file where it exists.")] = False,
) -> None:
    """Measure latency and throughput of every backend, precision and batch on this machine.

    Examples:

    * `singleshot benchmark`
    * `singleshot benchmark ssd300_vgg16 --batch 1 --backend openvino`

    Postprocessing is included, reading images is not. The last column compares the arithmetic of the network with a
    large matrix product on the same device, in bfloat16 for bf16 and in float32 for the others.
    """
    from singleshot.core.files import check_output
    from singleshot.errors import ConfigError
    from singleshot.evaluation.speed import COMBINATIONS, machine, peak_gflops
    from singleshot.evaluation.speed import benchmark as run
    from singleshot.prediction.settings import check_batch
    from singleshot.runtime.choose import check_wish
    from singleshot.runtime.registry import AUTO, Wish

    check_wish(Wish(backend, precision, device=device, compile=compile))
    sizes = [check_batch(size) for size in batch or (1, 8)]
    if not isfinite(seconds):
        raise ConfigError(f"--seconds must be a number of seconds, not {seconds}")
    if json is not None:
        check_output(json, overwrite=overwrite, sources=[model])
    wanted = [(name, own) for name, own in COMBINATIONS if backend in (AUTO, name) and precision in (AUTO, own)]
    wanted = wanted or [(backend, precision)]  # a runtime of another package
    detector = find_model(model)
    console = open_console()
    with console.status("Measuring ..."):
        rows = []
        for row in run(detector, sizes, seconds, wanted, device, compile):
            rows.append(row)
            outcome = in_flags(row.skipped) or f"{row.latency_ms:.1f} ms"
            console.print(f"{row.backend}, batch {row.batch}: {outcome}", style="dim")
        peaks = {name: peak_gflops(name) for name in sorted({row.peak for row in rows if not row.skipped})}
    if not peaks:
        console.print("Nothing was measured: the lines above say why.", style="red")
        raise typer.Exit(2)
    facts = machine()
    console.print(f"{detector.spec.name} on {facts['cpu']}, {counted(int(facts['cores']), 'core')}", highlight=False)
    console.print(_table(rows, peaks))
    told = ", ".join(f"{name} {peak:,.0f} GFLOP/s" for name, peak in peaks.items())
    console.print(f"Peak of torch's matrix product: {told}", highlight=False)
    console.print(
        "Operations are those of plain convolutions: what Winograd's leave out lets torch exceed the peak.",
        style="dim",
    )
    if json is not None:
        _write(json, rows, {"model": detector.spec.name, "machine": facts, "peak_gflops_per_s": peaks})


def find_model(model: str) -> Detector:
    """A detector by weights, or of random weights by the name of an architecture."""
    from singleshot.detector import Detector, load
    from singleshot.models.build import build_network
    from singleshot.models.catalogue import model_names, model_spec

    if model in model_names():
        spec = model_spec(model, [f"class {index}" for index in range(20)])
        return Detector(spec, build_network(spec.network).state_dict())
    return load(model)


def _table(rows: Sequence[Row], peaks: dict[str, float]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("backend")
    for heading in ("batch", "latency, ms", "+-", "images/s", "GFLOP/s", "of peak"):
        table.add_column(heading, justify="right")
    for row in rows:
        if row.skipped:
            table.add_row(row.backend, "-", "-", "-", "-", "-", "-")
            continue
        share = row.gflops_per_s / peaks[row.peak]
        numbers = (row.latency_ms, row.spread_ms / 2, row.images_per_s, row.gflops_per_s)
        cells = [f"{number:,.1f}" for number in numbers]
        table.add_row(row.backend, str(row.batch), *cells, f"{100 * share:.0f} %")
    return table


def _write(path: Path, rows: Sequence[Row], head: dict[str, object]) -> None:
    import dataclasses
    import json

    from singleshot.core.files import write_atomically

    document = {**head, "rows": [dataclasses.asdict(row) for row in rows]}
    write_atomically(path, json.dumps(document, indent=2) + "\n")
