"""``singleshot benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import open_console
from singleshot.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from singleshot.evaluation.speed import Row


def benchmark(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A weights file, a bundled name, or an architecture (no weights).")
    ] = "coco",
    batch_size: Annotated[
        list[int] | None,
        typer.Option("--batch-size", "--batch", help="Images at once; repeat for more.", show_default="1 and 8"),
    ] = None,
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
    * `singleshot benchmark ssd300_vgg16 --batch-size 1 --backend openvino`

    Postprocessing is included, reading images is not. The last column compares the arithmetic of the network with a
    large matrix product on the same device, in bfloat16 for bf16 and in float32 for the others.
    """
    from singleshot.core.files import check_output
    from singleshot.core.lazy import has_torch
    from singleshot.evaluation.speed import benchmark as run
    from singleshot.evaluation.speed import find_model, machine, peak_gflops
    from singleshot.runtime.choose import check_wish
    from singleshot.runtime.registry import Wish

    check_wish(Wish(backend, precision, device=device, compile=compile))
    if json is not None:
        check_output(json, overwrite=overwrite, sources=[model])
    detector = find_model(model)
    measurements = run(
        detector,
        batch_size=batch_size or (1, 8),
        backend=backend,
        precision=precision,
        device=device,
        compile=compile,
        seconds=seconds,
    )
    console = open_console()
    with console.status("Measuring ..."):
        rows = []
        for row in measurements:
            rows.append(row)
            outcome = row.skipped or f"{row.latency_ms:.1f} ms"
            console.print(f"{row.backend}, batch {row.batch_size}: {outcome}", style="dim")
        measured = [row for row in rows if not row.skipped]
        compared = {row.peak for row in measured if row.gflops_per_s} if has_torch() else set()
        peaks = {name: peak_gflops(name) for name in sorted(compared)}
    if not measured:
        console.print("Nothing was measured: the lines above say why.", style="red")
        raise typer.Exit(2)
    facts = machine()
    console.print(f"{detector.spec.name} on {facts['cpu']}, {counted(int(facts['cores']), 'core')}", highlight=False)
    console.print(_table(rows, peaks))
    if peaks:
        _print_peaks(console, peaks)
    if json is not None:
        _write(json, rows, {"model": detector.spec.name, "machine": facts, "peak_gflops_per_s": peaks})


def _print_peaks(console: Console, peaks: dict[str, float]) -> None:
    told = ", ".join(f"{name} {peak:,.0f} GFLOP/s" for name, peak in peaks.items())
    console.print(f"Peak of torch's matrix product: {told}", highlight=False)
    console.print(
        "Operations are those of plain convolutions: what Winograd's leave out lets torch exceed the peak.",
        style="dim",
    )


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
        cells = [f"{number:,.1f}" for number in (row.latency_ms, row.spread_ms / 2, row.images_per_s)]
        rate = f"{row.gflops_per_s:,.1f}" if row.gflops_per_s else "-"
        share = f"{100 * row.gflops_per_s / peaks[row.peak]:.0f} %" if row.peak in peaks else "-"
        table.add_row(row.backend, str(row.batch_size), *cells, rate, share)
    return table


def _write(path: Path, rows: Sequence[Row], head: dict[str, object]) -> None:
    import dataclasses
    import json

    from singleshot.core.files import write_atomically

    document = {**head, "rows": [dataclasses.asdict(row) for row in rows]}
    write_atomically(path, json.dumps(document, indent=2) + "\n")
